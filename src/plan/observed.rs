//! What is: namespaces, their interfaces and routes, as the kernel reports them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::addr::{Cidr, IfName, Mac};
use crate::container::ContainerId;
use crate::device::{BridgeOptions, IpvlanMode, MacvlanMode};
use crate::route::Route;

/// A network namespace, by the part it plays.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ns {
    /// Where bridges and outer ends live: the engine's own namespace in a container, a named one on the host.
    Bridges,
    /// That of PID 1, where physical interfaces are.
    Host,
    /// That of a running container.
    Container(ContainerId),
}

impl fmt::Display for Ns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridges => f.write_str("bridges"),
            Self::Host => f.write_str("host"),
            Self::Container(id) => write!(f, "container {}", id.short()),
        }
    }
}

/// What to look at in one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Every interface: the price grows with their number.
    All,
    /// These names alone; those that don't exist are left out of the answer.
    Names(BTreeSet<IfName>),
}

/// The state of the kernel where a plan may act.
///
/// A namespace that is gone (its container has died) is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub spaces: BTreeMap<Ns, Space>,
}

impl Observed {
    /// The interface of that name, where its namespace was looked at.
    pub fn interface(&self, ns: &Ns, name: &IfName) -> Option<&Interface> {
        self.spaces.get(ns)?.interfaces.get(name)
    }
}

/// One namespace as observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Space {
    pub interfaces: BTreeMap<IfName, Interface>,
    /// Routes of the tables that people write to, IPv4 and IPv6; the kernel's own (`proto kernel`, table local) left out.
    /// Observed in containers' namespaces alone.
    pub routes: Vec<ObservedRoute>,
}

/// An interface as the kernel reports it (RTM_NEWLINK, `rtnetlink(7)`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub index: u32,
    pub kind: Kind,
    /// `ip link … alias`: where our mark is.
    pub alias: Option<String>,
    /// `ip link … group`: [`making`](crate::plan::making) from creation until the mark is put.
    pub group: u32,
    /// None for the address of a kind that has none, or one no interface of ours could have.
    pub mac: Option<Mac>,
    pub mtu: u32,
    /// Administratively up (IFF_UP).
    pub up: bool,
    /// The ifindex of the bridge that it is a port of (IFLA_MASTER).
    pub master: Option<u32>,
    /// IFLA_LINK: a veth's peer, or the parent of the stacked kinds; an index in that one's namespace.
    pub link: Option<u32>,
    pub addrs: Vec<ObservedAddr>,
    /// Where the ingress filter that carries a patch sends each frame: an ifindex of the same namespace.
    /// Zero where the target is gone. Observed in [`Ns::Bridges`] alone.
    pub redirect: Option<u32>,
    /// Transmit checksum offload (ETHTOOL_GTXCSUM). Observed for veth in containers alone.
    pub tx_checksum: Option<bool>,
}

/// The kinds of interface that a plan tells apart, with what distinguishes two of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Veth,
    Bridge(BridgeOptions),
    Dummy,
    Vlan {
        id: u16,
    },
    Macvlan {
        mode: Option<MacvlanMode>,
    },
    Macvtap {
        mode: Option<MacvlanMode>,
    },
    Ipvlan {
        mode: Option<IpvlanMode>,
    },
    Ipvtap {
        mode: Option<IpvlanMode>,
    },
    /// Any other, by the kernel's name (IFLA_INFO_KIND; empty for physical interfaces).
    Other(String),
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedAddr {
    pub cidr: Cidr,
    /// It carries [`PROTOCOL`](crate::plan::PROTOCOL): we put it there.
    pub ours: bool,
}

/// A route of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedRoute {
    pub route: Route,
    /// It carries [`PROTOCOL`](crate::plan::PROTOCOL): we put it there.
    pub ours: bool,
}
