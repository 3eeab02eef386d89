//! The neighbour entries that requests leave.
//!
//! The kernel has one table per family with 1024 entries for all namespaces together
//! (`net.ipv4.neigh.default.gc_thresh3`). If it is full, entries are kept for at least five seconds
//! (`neigh_forced_gc()` in `net/core/neighbour.c`). A hundred nodes that ping each other need 9900 entries, so the
//! entries of finished pairs are removed before the table is full.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;

use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::kernel::netlink::{Error, Netlink};
use crate::kernel::netns;

/// The kernel's default.
const USUAL: usize = 1024;

/// The maximum number of entries in all namespaces. Only the host's namespace has this setting.
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
    /// The entries that existed before, by interface and address.
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

    /// Removes entries that were added since, except those that are being resolved.
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
