//! What is: namespaces, their interfaces and routes, as the kernel reports them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::addr::{Cidr, IfName, Mac};
use crate::container::ContainerId;
use crate::device::{BridgeOptions, StackedKind, TunnelOptions};
use crate::ethtool::Ethtool;
use crate::nat::NatRule;
use crate::netem::Netem;
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    pub interfaces: Which,
    /// Device settings to read, as far as the device has them: only what is asked for is.
    pub ethtool: BTreeMap<IfName, Vec<Ethtool>>,
    /// The table `conlink` of nf_tables, and whether packets are forwarded.
    pub nat: When,
    /// Addresses, and routes of [`PROTOCOL`](crate::plan::PROTOCOL) and of `protocols`.
    pub addresses: When,
    /// Protocols of further routes to look at, with `addresses`. The kernel leaves out all others: a router may have
    /// hundreds of thousands.
    pub protocols: BTreeSet<u8>,
    /// Routes of every protocol instead, the kernel's own included, with `addresses`.
    pub routes_of_others: bool,
    /// Where wanted routes lead: what becomes of routes of others there is heard, while those are looked at.
    pub destinations: BTreeSet<Cidr>,
    /// What shapes the interfaces' traffic.
    pub qdiscs: bool,
    /// Bridges of Open vSwitch, where it runs.
    pub ovs: bool,
    /// Whether IPv6 is disabled on new interfaces.
    pub v6_default: bool,
}

/// Which interfaces to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Every one: the price grows with their number.
    All,
    /// These names alone; those that don't exist are left out of the answer.
    Names(BTreeSet<IfName>),
}

/// When to look at what belongs to interfaces of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    #[default]
    Never,
    /// Where some interface is a project's: a container that has just started has nothing to compare.
    WithInterfaces,
    Always,
}

impl Default for Which {
    fn default() -> Self {
        Self::Names(BTreeSet::new())
    }
}

impl Look {
    /// Every interface, nothing else.
    pub fn all() -> Self {
        Self { interfaces: Which::All, ..Self::default() }
    }

    /// These interfaces, nothing else.
    pub fn names(names: impl IntoIterator<Item = IfName>) -> Self {
        Self { interfaces: Which::Names(names.into_iter().collect()), ..Self::default() }
    }

    /// All that can be of interest inside a container.
    pub fn inside() -> Self {
        Self {
            interfaces: Which::All,
            ethtool: BTreeMap::new(),
            nat: When::WithInterfaces,
            addresses: When::WithInterfaces,
            protocols: BTreeSet::new(),
            routes_of_others: false,
            destinations: BTreeSet::new(),
            qdiscs: true,
            ovs: false,
            v6_default: false,
        }
    }

    /// Adds an interface by name.
    pub fn add(&mut self, name: &IfName) {
        if let Which::Names(names) = &mut self.interfaces {
            names.insert(name.clone());
        }
    }
}

/// The state of the kernel where a plan may act.
///
/// A namespace that is gone (its container has died) is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub spaces: BTreeMap<Ns, Space>,
    /// Bridges of Open vSwitch by name, where it runs and was asked.
    pub ovs: BTreeMap<IfName, OvsBridge>,
    /// Why Open vSwitch did not answer. Then `ovs` is empty, and says nothing about which bridges exist.
    pub ovs_error: Option<OvsError>,
}

/// Why the bridges and ports of Open vSwitch are unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OvsError {
    pub message: String,
    /// What usually helps.
    pub help: Option<String>,
}

/// A bridge of Open vSwitch (`Bridge`, `Port` of `ovs-vswitchd.conf.db(5)`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OvsBridge {
    /// `external_ids:conlink`.
    pub mark: Option<String>,
    /// With their marks; the bridge's own left out.
    pub ports: BTreeMap<IfName, Option<String>>,
    /// Those of them that the switch does not use, such as one whose interface is gone, or was made anew.
    pub unused: BTreeSet<IfName>,
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
    /// A container's namespace that is the host's own.
    pub is_host: bool,
    pub interfaces: BTreeMap<IfName, Interface>,
    /// The routes that were asked for, IPv4 and IPv6. Routes of others have their protocol in
    /// [`Route::proto`], in which ours have None; those in table local are left out.
    pub routes: Vec<ObservedRoute>,
    /// Rules of the table `conlink`.
    pub nat: Vec<NatRule>,
    /// Does it pass on packets that are not for itself (`net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`)?
    pub forwarding: Forwarding,
    /// New interfaces have IPv6 disabled (`net.ipv6.conf.default.disable_ipv6`). False if not asked for.
    pub v6_off_by_default: bool,
}

/// Whether packets of each family are passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    pub v4: bool,
    pub v6: bool,
    /// Bridges get no IPv6 addresses there (`net.ipv6.conf.default.disable_ipv6`).
    pub no_v6: bool,
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
    /// It neither asks for nor answers with the addresses of neighbours (IFF_NOARP).
    pub no_arp: bool,
    /// It is a port of a bridge that does not forward its frames, though it runs (IFF_RUNNING, IFLA_BRPORT_STATE).
    pub blocked: bool,
    /// It is a port of a bridge that exchanges no frames with other isolated ones (IFLA_BRPORT_ISOLATED).
    pub isolated: bool,
    /// The ifindex of the bridge that it is a port of (IFLA_MASTER).
    pub master: Option<u32>,
    /// IFLA_LINK: a veth's peer, or the parent of the stacked kinds; an index in that one's namespace.
    pub link: Option<u32>,
    pub addrs: Vec<ObservedAddr>,
    /// IPv6 is disabled on the interface (`net.ipv6.conf.NAME.disable_ipv6`). False where the kernel has no IPv6 for it.
    pub v6_off: bool,
    /// Addresses in 127.0.0.0/8 pass it as any others (`net.ipv4.conf.NAME.route_localnet`). Observed where bridges live
    /// alone, of other kinds than veth, with the rules of the table `conlink`.
    pub localnet: Localnet,
    /// Where the ingress filter that carries a patch sends each frame: an ifindex of the same namespace.
    /// Zero where the target is gone. Observed in [`Ns::Bridges`] alone.
    pub redirect: Option<u32>,
    /// What what leaves by the interface waits in, if it is not the kernel's default.
    pub qdisc: Option<Qdisc>,
    /// Of the features asked for those that the kernel knows, by the kernel's names.
    pub features: BTreeMap<String, FeatureState>,
    /// The other settings asked for, with the values that they have; those that the device lacks are left out.
    pub settings: Vec<Ethtool>,
}

impl Interface {
    /// One without any of its own.
    pub fn new(index: u32, kind: Kind) -> Self {
        Self {
            index,
            kind,
            alias: None,
            group: 0,
            mac: None,
            mtu: 1500,
            up: false,
            no_arp: false,
            blocked: false,
            isolated: false,
            master: None,
            link: None,
            addrs: Vec::new(),
            v6_off: false,
            localnet: Localnet::default(),
            redirect: None,
            qdisc: None,
            features: BTreeMap::new(),
            settings: Vec::new(),
        }
    }
}

/// Whether an interface lets addresses in 127.0.0.0/8 pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Localnet {
    pub on: bool,
    /// We can change it.
    pub writable: bool,
}

/// A root queueing discipline that somebody put there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Qdisc {
    Netem {
        netem: Netem,
        /// It has our handle.
        ours: bool,
    },
    /// By the kernel's name.
    Other(String),
}

/// An offload of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureState {
    pub on: bool,
    /// It is to be on: it may wait for another one that it needs.
    pub asked_for: bool,
    /// The driver does not let it be switched.
    pub fixed: bool,
}

/// The kinds of interface that a plan tells apart, with what distinguishes two of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Veth,
    Bridge(BridgeOptions),
    Dummy,
    Stacked(StackedKind),
    Tunnel(TunnelOptions),
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
