//! The network that a configuration describes, with defaults filled in and all values checked.
//!
//! [`resolve`] turns a configuration into a [`Network`]; [`Network::instantiate`] turns that and one running
//! container into its [`Link`]s, with nothing left to decide. [`Network::lint`] finds what will not work as described.

mod instantiate;
mod lint;
mod overrides;
mod resolve;
mod show;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::addr::{Cidr, IfName, Mac};
pub use crate::config::Forward;
use crate::config::{CommandConfig, Diagnostic, LinkConfig, Node, ServiceConfig, Sources, Span};
pub use crate::device::{BridgeMode, Place, TunnelKind};
use crate::device::{BridgeOptions, StackedKind, TunnelOptions};
use crate::ethtool::Ethtool;
use crate::netem::Netem;
use crate::route::Route;

pub use instantiate::{BadInstance, Instance};
pub use lint::{ENGINE_ONLY, NEED_EVERY_ENTRY, duplicate_addresses};
pub use overrides::{Deadline, Override, Overrides, Setting};
pub use resolve::{Defaults, resolve};

/// Everything that should exist, as [`resolve`] reads it from a configuration.
#[derive(Debug)]
pub struct Network {
    /// By name, including those that only links and tunnels mention.
    pub bridges: BTreeMap<String, Bridge>,
    pub tunnels: Vec<Tunnel>,
    /// Is there a list of tunnels, even if it is empty?
    tunnels_given: bool,
    pub links: Vec<LinkRule>,
    pub commands: Vec<CommandRule>,
    /// The interfaces of bridges and tunnels, by name.
    outside: BTreeMap<(Place, IfName), Outside>,
    /// The services of compose files by name; None if the files do not name them all.
    services: Option<BTreeMap<String, ServiceConfig>>,
    defaults: Defaults,
    /// Does the mode of some bridge depend on whether this machine has Open vSwitch?
    pub asks_for_ovs: bool,
    /// Does an entry of the configuration say `mode: auto`, so that it is not only the default?
    pub names_auto: bool,
    /// Entries with placeholders are read from here again for each replica.
    sources: Arc<Sources>,
}

/// The containers that an entry is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Every replica of a compose service.
    Service(String),
    /// The container with that full name, of any project.
    Container(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "service `{name}`"),
            Self::Container(name) => write!(f, "container `{name}`"),
        }
    }
}

/// An entry of `links:`, checked.
#[derive(Debug)]
pub struct LinkRule {
    pub target: Target,
    pub config: LinkConfig,
    /// `FILE:LINE:COL` of the entry.
    pub origin: String,
    /// The link of the first replica, with example values for names that only a container has.
    pub sample: Link,
    /// Why no container can have this link: an error that leaves other links alone.
    pub fault: Option<Diagnostic>,
}

/// An entry of `commands:`, checked.
#[derive(Debug)]
pub struct CommandRule {
    pub target: Target,
    pub config: CommandConfig,
    pub command: Command,
}

/// A command to run in a container once its links are up. Equal commands may come from different places.
#[derive(Clone, Debug, Eq)]
pub struct Command {
    /// The program and its arguments; `sh -c` for a command in one string. Never shown, because it may contain the
    /// values of secret variables.
    pub argv: Vec<String>,
    /// `FILE:LINE:COL` of the text.
    pub origin: String,
}

impl PartialEq for Command {
    fn eq(&self, other: &Self) -> bool {
        self.argv == other.argv
    }
}

/// A broadcast domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    pub name: String,
    pub mode: BridgeMode,
    pub options: BridgeOptions,
    pub place: Place,
    /// Does `--show-config` print it? The reference tool omits bridges that only tunnels mention.
    pub shown: bool,
    /// The first place that names it: its own entry if it has one.
    span: Span,
    /// `FILE:LINE:COL` of its entry; None if only links and tunnels mention it.
    pub origin: Option<String>,
}

/// The interface of a bridge or a tunnel, with its place in the configuration.
#[derive(Clone, Copy, Debug)]
enum Outside {
    Bridge(Span),
    Tunnel(Span),
}

/// A tunnel to another host, joined to a bridge.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// `<type>-<vni>`.
    pub name: IfName,
    pub kind: TunnelKind,
    pub bridge: String,
    pub remote: IpAddr,
    /// 1 to 16777215.
    pub vni: u32,
    pub netem: Option<Netem>,
    pub dstport: Option<u16>,
    pub local: Option<IpAddr>,
    pub ttl: Option<u8>,
    pub mtu: Option<u32>,
    pub mac: Mac,
    /// `FILE:LINE:COL` of the entry.
    pub origin: String,
    /// The entry as it was written.
    pub config: Node,
}

/// One interface of one container, fully specified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub id: LinkId,
    pub kind: LinkKind,
    /// Is the other end up? If not, neither end has a carrier, as with a pulled cable. Veth only.
    pub carrier: bool,
    pub mac: Option<Mac>,
    pub mtu: Option<u32>,
    pub addrs: Vec<Cidr>,
    /// Each with its interface, except kinds without one, such as blackhole.
    pub routes: Vec<Route>,
    pub ethtool: Vec<Ethtool>,
    /// Impairs packets that leave the container.
    pub netem: Option<Netem>,
    /// Impairs packets that arrive at the container. Veth only.
    pub netem_in: Option<Netem>,
    pub nat: Option<IpAddr>,
    pub forwards: Vec<Forward>,
    pub port: Port,
    /// Either all of the link is applied, or nothing.
    pub required: bool,
    /// Changes that others make to the link are repaired.
    pub repair: bool,
    /// `FILE:LINE:COL` of its entry.
    pub origin: String,
    /// `FILE:LINE:COL` of each item of the entry.
    pub items: Vec<(Item, String)>,
}

/// The settings of a veth's outer end as a port of its bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// The VLAN of its untagged frames, 1 to 4094.
    pub vlan: Option<u16>,
    /// `external_ids` of a port of Open vSwitch.
    pub ids: BTreeMap<String, String>,
}

/// An item of an entry of `links:` that a message can refer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// As counted up for the replica.
    Addr(Cidr),
    Route(Route),
    /// As counted up for the replica.
    Forward(Forward),
    Ethtool(Ethtool),
    Bridge,
    OuterDev,
    Mac,
    Mtu,
    Nat,
    Netem,
    NetemIn,
}

impl Link {
    /// A link without settings. `origin` is the place that messages refer to.
    pub fn new(id: LinkId, kind: LinkKind, origin: &str) -> Self {
        Self {
            id,
            kind,
            carrier: true,
            mac: None,
            mtu: None,
            addrs: Vec::new(),
            routes: Vec::new(),
            ethtool: Vec::new(),
            netem: None,
            netem_in: None,
            nat: None,
            forwards: Vec::new(),
            port: Port::default(),
            required: false,
            repair: false,
            origin: origin.to_owned(),
            items: Vec::new(),
        }
    }

    /// `FILE:LINE:COL` of an item, or of the entry if it does not have the item.
    pub fn origin_of(&self, item: &Item) -> &str {
        self.items.iter().find(|(it, _)| it == item).map_or(&self.origin, |(_, origin)| origin)
    }
}

/// Names a link in messages: `h1:eth0`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId {
    /// The container's name.
    pub container: String,
    /// The interface's name in the container.
    pub dev: IfName,
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.container, self.dev)
    }
}

/// The kind of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    Veth {
        place: Place,
        outer: IfName,
        attach: Attach,
    },
    Dummy,
    Stacked(Stacked),
    /// An interface of the host, by its name there, that is moved into the container.
    Moved(IfName),
    /// A tunnel whose packets take the routes of the namespace `underlay`.
    Tunnel {
        underlay: Place,
        options: TunnelOptions,
    },
}

/// An interface on top of a parent interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stacked {
    /// The namespace of the parent.
    pub place: Place,
    pub parent: IfName,
    pub kind: StackedKind,
}

impl LinkKind {
    /// The `type` of its entry.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Veth { .. } => "veth",
            Self::Dummy => "dummy",
            Self::Stacked(it) => it.kind.name(),
            Self::Moved(_) => "moved",
            Self::Tunnel { options, .. } => options.kind.name(),
        }
    }

    /// The namespace of its outer end or parent; None if it has neither.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Veth { place, .. } => Some(*place),
            Self::Stacked(it) => Some(it.place),
            Self::Dummy | Self::Moved(_) | Self::Tunnel { .. } => None,
        }
    }

    /// Its parent interface, if it has one.
    pub fn parent(&self) -> Option<&IfName> {
        match self {
            Self::Stacked(it) => Some(&it.parent),
            Self::Veth { .. } | Self::Dummy | Self::Moved(_) | Self::Tunnel { .. } => None,
        }
    }
}

/// What the outer end of a veth is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attach {
    Bridge(IfName),
    Ovs(IfName),
    Patch(String),
}

impl Network {
    /// Sets the project that default MACs are derived from. An engine in a container learns it from its own container.
    pub fn set_project(&mut self, project: &str) {
        self.defaults.project = project.to_owned();
    }

    /// The name of the project; empty if it is not known.
    pub fn project(&self) -> &str {
        &self.defaults.project
    }
}

/// The source address of forwarded connections on a bridge, the same in every run: link-local for IPv4 (RFC 3927),
/// unique local for IPv6 (RFC 4193). Containers with forwarded ports get a route to it.
pub fn forward_gateway(bridge: &str, v4: bool) -> IpAddr {
    let bytes = Mac::stable(&["forward", bridge]).bytes();
    if v4 {
        // 169.254.192.1 to 169.254.223.254: away from the addresses that clouds answer at.
        return IpAddr::from([169, 254, 192 | bytes[4] & 31, bytes[5] % 254 + 1]);
    }
    let mut addr = *b"\xfdconlink\0\0\0\0\0\0\0\x01";
    for (to, from) in addr.iter_mut().skip(8).zip(bytes) {
        *to = from;
    }
    IpAddr::from(addr)
}
