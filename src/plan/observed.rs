//! The observed state: namespaces, interfaces and routes as the kernel reports them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::addr::{Cidr, IfName, Mac};
use crate::container::ContainerId;
use crate::device::{BridgeOptions, StackedKind, TunnelOptions};
use crate::ethtool::Ethtool;
use crate::nat::NatRule;
use crate::netem::Netem;
use crate::route::Route;

/// A network namespace, by its role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ns {
    /// The namespace of bridges and outer ends: the engine's own in a container, a named one on the host.
    Bridges,
    /// The namespace of PID 1, with the physical interfaces.
    Host,
    /// The namespace of a running container.
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

/// What to read in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    pub interfaces: Which,
    /// Device settings to read, as far as the device has them.
    pub ethtool: BTreeMap<IfName, Vec<Ethtool>>,
    /// The nf_tables table `conlink`, and whether packets are forwarded.
    pub nat: When,
    /// Addresses, and routes of [`PROTOCOL`](crate::plan::PROTOCOL) and of `protocols`.
    pub addresses: When,
    /// Protocols of further routes to read, with `addresses`. The kernel filters the others out: a router may have
    /// hundreds of thousands.
    pub protocols: BTreeSet<u8>,
    /// Read routes of all protocols, including the kernel's own, with `addresses`.
    pub routes_of_others: bool,
    /// Where wanted routes lead: what becomes of routes of others there is heard, while those are looked at.
    pub destinations: BTreeSet<Cidr>,
    /// What shapes the interfaces' traffic.
    pub qdiscs: bool,
    /// Bridges of Open vSwitch, if it runs.
    pub ovs: bool,
    /// Ports of bridges whose VLAN to read.
    pub port_vlans: BTreeSet<IfName>,
    /// Whether IPv6 is disabled on new interfaces.
    pub v6_default: bool,
}

/// Which interfaces to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All: the cost grows with their number.
    All,
    /// Only these names. Those that do not exist are left out.
    Names(BTreeSet<IfName>),
}

/// When to read properties of our interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    #[default]
    Never,
    /// Only if an interface belongs to a project: a container that has just started has nothing to compare.
    WithInterfaces,
    Always,
}

impl Default for Which {
    fn default() -> Self {
        Self::Names(BTreeSet::new())
    }
}

impl Look {
    /// All interfaces, nothing else.
    pub fn all() -> Self {
        Self { interfaces: Which::All, ..Self::default() }
    }

    /// These interfaces, nothing else.
    pub fn names(names: impl IntoIterator<Item = IfName>) -> Self {
        Self { interfaces: Which::Names(names.into_iter().collect()), ..Self::default() }
    }

    /// Everything that a plan may need inside a container.
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
            port_vlans: BTreeSet::new(),
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

/// The observed state of all namespaces of a plan.
///
/// A namespace is absent if its container has died.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub spaces: BTreeMap<Ns, Space>,
    /// Bridges of Open vSwitch by name, if they were requested and it runs.
    pub ovs: BTreeMap<IfName, OvsBridge>,
    /// Why Open vSwitch did not answer. Then `ovs` is empty, although bridges may exist.
    pub ovs_error: Option<OvsError>,
}

/// Why the bridges and ports of Open vSwitch are unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OvsError {
    pub message: String,
    /// A hint.
    pub help: Option<String>,
}

/// A bridge of Open vSwitch (`Bridge`, `Port` of `ovs-vswitchd.conf.db(5)`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OvsBridge {
    /// `external_ids:conlink`.
    pub mark: Option<String>,
    /// Its ports with their marks, without the bridge's own port.
    pub ports: BTreeMap<IfName, Option<String>>,
    /// Ports that the switch does not use, for example because their interface was deleted or made again.
    pub unused: BTreeSet<IfName>,
}

impl Observed {
    /// The interface of that name, if its namespace was read.
    pub fn interface(&self, ns: &Ns, name: &IfName) -> Option<&Interface> {
        self.spaces.get(ns)?.interfaces.get(name)
    }
}

/// The observed state of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// It is a container's namespace and the same as the host's.
    pub is_host: bool,
    pub interfaces: BTreeMap<IfName, Interface>,
    /// The requested routes, IPv4 and IPv6. Routes of other programs have their protocol in [`Route::proto`], ours have
    /// None. Routes in table local are left out.
    pub routes: Vec<ObservedRoute>,
    /// Rules of the table `conlink`.
    pub nat: Vec<NatRule>,
    /// Whether it forwards packets (`net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`).
    pub forwarding: Forwarding,
    /// New interfaces have IPv6 disabled (`net.ipv6.conf.default.disable_ipv6`). False if not requested.
    pub v6_off_by_default: bool,
}

/// Whether packets of each family are forwarded.
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
    /// `ip link … alias`, which has our mark.
    pub alias: Option<String>,
    /// `ip link … group`: [`making`](crate::plan::making) from creation until the mark is set.
    pub group: u32,
    /// None for types without a MAC address, and for addresses that an interface of ours cannot have.
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
    /// The VLAN of untagged frames on a port of a bridge. Only read on request.
    pub pvid: Option<u16>,
    /// The ifindex of the bridge that it is a port of (IFLA_MASTER).
    pub master: Option<u32>,
    /// IFLA_LINK: the peer of a veth, or the parent of a stacked type; an index in the other interface's namespace.
    pub link: Option<u32>,
    pub addrs: Vec<ObservedAddr>,
    /// IPv6 is disabled on the interface (`net.ipv6.conf.NAME.disable_ipv6`). False if the kernel has no IPv6 for it.
    pub v6_off: bool,
    /// Whether it routes addresses in 127.0.0.0/8 (`net.ipv4.conf.NAME.route_localnet`). Only read in the namespace of
    /// the bridges, for types other than veth, together with the rules of the table `conlink`.
    pub localnet: Localnet,
    /// The target of the patch's ingress filter: an ifindex of the same namespace, 0 if the target no longer exists.
    /// Only read in [`Ns::Bridges`].
    pub redirect: Option<u32>,
    /// Root queueing discipline, if it is not the default.
    pub qdisc: Option<Qdisc>,
    /// The requested features that the kernel has, by the kernel's names.
    pub features: BTreeMap<String, FeatureState>,
    /// The other requested settings with their values. Settings that the device lacks are left out.
    pub settings: Vec<Ethtool>,
}

impl Interface {
    /// An interface with default properties.
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
            pvid: None,
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

/// Whether an interface routes addresses in 127.0.0.0/8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Localnet {
    pub on: bool,
    /// The setting is writable.
    pub writable: bool,
}

/// A root queueing discipline that is not the default.
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
    /// It is requested to be on; it may be off until another feature that it needs is on.
    pub asked_for: bool,
    /// The driver does not allow switching it.
    pub fixed: bool,
}

/// The types of interfaces that plans distinguish, with their properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Veth,
    Bridge(BridgeOptions),
    Dummy,
    Stacked(StackedKind),
    Tunnel(TunnelOptions),
    /// Another type, by the kernel's name (IFLA_INFO_KIND; empty for physical interfaces).
    Other(String),
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedAddr {
    pub cidr: Cidr,
    /// It has [`PROTOCOL`](crate::plan::PROTOCOL): conlink added it.
    pub ours: bool,
    /// It has a broadcast address (IFA_BROADCAST).
    pub broadcast: bool,
}

/// A route of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedRoute {
    pub route: Route,
    /// It has [`PROTOCOL`](crate::plan::PROTOCOL): conlink added it.
    pub ours: bool,
}
