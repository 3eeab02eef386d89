//! The neighbour entries that requests leave behind.
//!
//! The kernel has one table for each family, of 1024 entries in all its namespaces together
//! (`net.ipv4.neigh.default.gc_thresh3`), and keeps an entry for at least five seconds once that is full
//! (`neigh_forced_gc()` in `net/core/neighbour.c`). A hundred nodes that ping each other make 9900 of them: so those of
//! pairs that are done with are removed before the table is full.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;

use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::kernel::netlink::{Error, Netlink};
use crate::kernel::netns;

/// What a kernel has of its own accord.
const USUAL: usize = 1024;

/// How many entries may be there, in all namespaces. The host's own namespace alone shows it.
pub(super) fn most(v6: bool) -> usize {
    let family = if v6 { "ipv6" } else { "ipv4" };
    let text = fs::read_to_string(format!("/proc/sys/net/{family}/neigh/default/gc_thresh3"));
    text.ok().and_then(|it| it.trim().parse().ok()).unwrap_or(USUAL)
}

/// The entries of one namespace and family.
#[derive(Debug)]
pub(super) struct Neighbours {
    netlink: Netlink,
    family: AddressFamily,
    /// Those that were there before us, by interface and address.
    before: BTreeSet<(u32, Vec<u8>)>,
}

impl Neighbours {
    pub(super) fn open(netns: &File, v6: bool) -> io::Result<Self> {
        let netlink = netns::inside(netns, Netlink::open)?;
        let family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let mut it = Self { netlink, family, before: BTreeSet::new() };
        it.before = it.dump().map_err(io::Error::other)?.iter().map(key).collect();
        Ok(it)
    }

    /// Removes what the kernel would forget too: entries that it has learned since, and is not learning now.
    pub(super) fn forget(&mut self) -> Result<(), Error> {
        for entry in self.dump()? {
            use NeighbourState::{Delay, Failed, Probe, Reachable, Stale};
            let header = &entry.header;
            let learned = matches!(header.state, Reachable | Stale | Delay | Probe | Failed)
                && !header.flags.contains(NeighbourFlags::ExtLearned);
            if !learned || self.before.contains(&key(&entry)) {
                continue;
            }
            let mut message = NeighbourMessage::default();
            (message.header.family, message.header.ifindex) = (self.family, header.ifindex);
            let attributes = entry.attributes.into_iter();
            message.attributes =
                attributes.filter(|it| matches!(it, NeighbourAttribute::Destination(_))).collect();
            match self
                .netlink
                .request(RouteNetlinkMessage::DelNeighbour(message), 0, || "del neigh".to_owned())
            {
                Err(error) if error.is_gone() => {}
                result => result?,
            }
        }
        Ok(())
    }

    fn dump(&mut self) -> Result<Vec<NeighbourMessage>, Error> {
        let mut message = NeighbourMessage::default();
        message.header.family = self.family;
        let all =
            self.netlink.dump(RouteNetlinkMessage::GetNeighbour(message), || "show neigh".to_owned())?;
        let neighbours = all.into_iter().filter_map(|it| match it {
            RouteNetlinkMessage::NewNeighbour(it) if it.header.family == self.family => Some(it),
            _ => None,
        });
        Ok(neighbours.collect())
    }
}

fn key(entry: &NeighbourMessage) -> (u32, Vec<u8>) {
    let address = entry.attributes.iter().find_map(|it| match it {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(it)) => Some(it.octets().to_vec()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(it)) => Some(it.octets().to_vec()),
        _ => None,
    });
    (entry.header.ifindex, address.unwrap_or_default())
}
