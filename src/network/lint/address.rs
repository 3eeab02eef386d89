//! Addresses: duplicates, those of a network as a whole, and IPv6 on links that are too small for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::addr::{Cidr, IfName};
use crate::config::{Diagnostic, Span};
use crate::device::{Place, StackedKind};
use crate::network::lint::{Lint, Replica, error, warning};
use crate::network::{Attach, Link, LinkKind};

/// The least MTU of a link that carries IPv6 (`IPV6_MIN_MTU`, RFC 8200).
const IPV6_MIN_MTU: u32 = 1280;

/// Links that reach each other at layer 2.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Bridge(Place, String),
    /// A parent interface, and the VLAN on it.
    Parent(Place, IfName, Option<u16>),
}

impl Segment {
    fn of(kind: &LinkKind) -> Option<Self> {
        match kind {
            LinkKind::Veth { place, attach: Attach::Bridge(name) | Attach::Ovs(name), .. } => {
                Some(Self::Bridge(*place, name.to_string()))
            }
            LinkKind::Veth { place, attach: Attach::Patch(name), .. } => {
                Some(Self::Bridge(*place, name.clone()))
            }
            LinkKind::Dummy | LinkKind::Moved(_) | LinkKind::Tunnel { .. } => None,
            LinkKind::Stacked(it) => {
                let vlan = if let StackedKind::Vlan { id } = it.kind { Some(id) } else { None };
                Some(Self::Parent(it.place, it.parent.clone(), vlan))
            }
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge(_, name) => write!(f, "bridge `{name}`"),
            Self::Parent(_, name, None) => write!(f, "parent `{name}`"),
            Self::Parent(_, name, Some(id)) => write!(f, "VLAN {id} of `{name}`"),
        }
    }
}

impl Lint<'_> {
    pub(super) fn addresses(&mut self) {
        let mut found = Vec::new();
        let mut owners = Owners::default();
        for replica in self.together() {
            let Some(segment) = Segment::of(&replica.link.kind) else { continue };
            for (at, addr) in replica.link.addrs.iter().enumerate() {
                let what = Owned::Addr(addr.addr());
                found.extend(owners.add(&segment, what, replica, replica.addr_span(at)));
            }
            if let (Some(mac), Some(given)) = (replica.link.mac, &replica.rule.config.mac) {
                found.extend(owners.add(&segment, Owned::Mac(mac.to_string()), replica, given.span));
            }
        }
        let mut seen = BTreeSet::new();
        for replica in &self.replicas {
            for (at, addr) in replica.link.addrs.iter().enumerate() {
                let span = replica.addr_span(at);
                if let Some(kind) = whole_network(*addr)
                    && seen.insert(span)
                {
                    let message = format!("{} has the {kind} address of {}", replica.name(), addr.net());
                    let help = format!("use an address between the first and the last one of {}", addr.net());
                    found.push(warning("network-address", span, message).help(help));
                }
            }
            let v6 = replica.link.addrs.iter().position(|it| it.addr().is_ipv6());
            if let (Some(at), Some(mtu)) = (v6, replica.link.mtu.filter(|it| *it < IPV6_MIN_MTU))
                && replica.index == 1
            {
                let given = replica.rule.config.mtu.as_ref();
                let span = given.map_or_else(|| replica.addr_span(at), |it| it.span);
                let message = format!("the link has an IPv6 address, and MTU {mtu}");
                let help = format!("IPv6 needs an MTU of {IPV6_MIN_MTU} at least");
                found.push(error("ipv6-mtu", span, message).help(help));
            }
        }
        self.found.append(&mut found);
    }
}

/// One text for each address that several links on one segment have. It is part of every status, so segments and names are
/// looked at only for addresses that occur more than once.
pub fn duplicate_addresses<'a>(links: impl Iterator<Item = &'a Link>) -> Vec<String> {
    let mut all: Vec<(IpAddr, &Link)> =
        links.flat_map(|link| link.addrs.iter().map(move |it| (it.addr(), link))).collect();
    all.sort_by_key(|(addr, _)| *addr);
    let mut found = Vec::new();
    for alike in all.chunk_by(|a, b| a.0 == b.0).filter(|it| it.len() > 1) {
        let mut owners: BTreeMap<Segment, BTreeSet<String>> = BTreeMap::new();
        for (_, link) in alike {
            if let Some(segment) = Segment::of(&link.kind) {
                owners.entry(segment).or_default().insert(link.id.to_string());
            }
        }
        for (segment, links) in owners.into_iter().filter(|(_, links)| links.len() > 1) {
            let links: Vec<String> = links.into_iter().collect();
            let addr = alike[0].0;
            found.push(format!("links {} have the same address {addr} on {segment}", links.join(" and ")));
        }
    }
    found
}

/// What only one link of a segment may have.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Owned {
    Addr(IpAddr),
    Mac(String),
}

/// Who has an address, and where that is written.
type Owner = (String, Span);

#[derive(Default)]
struct Owners {
    first: BTreeMap<(Segment, Owned), Owner>,
    /// The pairs of places that were reported: one finding for all replicas of two entries.
    reported: BTreeSet<(Span, Span)>,
}

impl Owners {
    fn add(&mut self, segment: &Segment, what: Owned, replica: &Replica, span: Span) -> Option<Diagnostic> {
        let key = (segment.clone(), what.clone());
        let Some((first, first_span)) = self.first.get(&key) else {
            self.first.insert(key, (replica.name(), span));
            return None;
        };
        if !self.reported.insert((*first_span, span)) {
            return None;
        }
        let (code, what) = match what {
            Owned::Addr(it) => ("duplicate-address", format!("address {it}")),
            Owned::Mac(it) => ("duplicate-mac", format!("MAC address {it}")),
        };
        let name = replica.name();
        let message = match *first == name {
            true => format!("{name} has {what} twice on {segment}"),
            false => format!("{first} and {name} have the same {what} on {segment}"),
        };
        let help = match first.starts_with("replica") || replica.index > 1 {
            true => "replicas count up from the address of the first: leave room for all of them",
            false => "give one of them another address",
        };
        let it = warning(code, span, message).help(help);
        Some(if *first_span == span { it } else { it.note(*first_span, "the other") })
    }
}

/// Is it an address that stands for all of a network? A /31 and a /32 have none (RFC 3021).
fn whole_network(addr: Cidr) -> Option<&'static str> {
    let (IpAddr::V4(it), IpAddr::V4(net)) = (addr.addr(), addr.net().addr()) else { return None };
    if addr.prefix() >= 31 {
        return None;
    }
    let last = Ipv4Addr::from_bits(net.to_bits() | (u32::MAX >> addr.prefix()));
    match it {
        _ if it == net => Some("network"),
        _ if it == last => Some("broadcast"),
        _ => None,
    }
}
