//! The network that a configuration describes: defaults filled in, every value checked.
//!
//! [`resolve`] turns what the files say into a [`Network`]; [`Network::instantiate`] turns that and one running
//! container into its [`Link`]s, with nothing left to decide.

mod instantiate;
mod overrides;
mod resolve;
mod show;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::addr::{Cidr, IfName, Mac};
pub use crate::config::Forward;
use crate::config::{CommandConfig, LinkConfig, Node, Sources, Span};
pub use crate::device::{BridgeMode, Place, TunnelKind};
use crate::device::{BridgeOptions, StackedKind};
use crate::ethtool::Ethtool;
use crate::netem::Netem;
use crate::route::Route;

pub use instantiate::{BadInstance, Instance};
pub use overrides::{Deadline, Override, Overrides, Setting};
pub use resolve::{Defaults, resolve};

/// Everything that is to be there: what [`resolve`] makes of a configuration.
#[derive(Debug)]
pub struct Network {
    /// By name; those that only links and tunnels mention too.
    pub bridges: BTreeMap<String, Bridge>,
    pub tunnels: Vec<Tunnel>,
    /// Is there a list of tunnels, if an empty one?
    tunnels_given: bool,
    pub links: Vec<LinkRule>,
    pub commands: Vec<CommandRule>,
    defaults: Defaults,
    /// Is the mode of some bridge for the machine to decide: ovs where its kernel has it?
    pub asks_for_ovs: bool,
    /// Does an entry of the configuration say `mode: auto`, so that it is not only the default?
    pub names_auto: bool,
    /// Where entries with placeholders are read from anew for each replica.
    sources: Arc<Sources>,
}

/// Which containers an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Every replica of a compose service.
    Service(String),
    /// The one container of that full name, of whatever project.
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
    /// The link of the first replica, names that only a container has put in by example.
    pub sample: Link,
}

/// An entry of `commands:`, checked.
#[derive(Debug)]
pub struct CommandRule {
    pub target: Target,
    pub config: CommandConfig,
    pub command: Command,
}

/// What runs in a container once its links are up. Two that do the same are equal, wherever each is written.
#[derive(Clone, Debug, Eq)]
pub struct Command {
    /// The program and its arguments: for a command in one string, `sh -c`. Never shown: variables that the file names, and
    /// their values with them, may be secret.
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
    /// Does `--show-config` name it? The reference tool leaves out bridges that tunnels alone mention.
    pub shown: bool,
    /// Where it is named first, in its own entry if it has one.
    span: Span,
    /// `FILE:LINE:COL` of its entry; None if only links and tunnels name it.
    pub origin: Option<String>,
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

/// One interface that one container is to have: fully specified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub id: LinkId,
    pub kind: LinkKind,
    /// Is the other end up? Else neither has a carrier, as with a cable that is pulled. A veth's alone.
    pub carrier: bool,
    pub mac: Option<Mac>,
    pub mtu: Option<u32>,
    pub addrs: Vec<Cidr>,
    /// Each with its interface, but for the kinds that have none (blackhole and the like).
    pub routes: Vec<Route>,
    pub ethtool: Vec<Ethtool>,
    /// Of what leaves the container.
    pub netem: Option<Netem>,
    /// Of what arrives at it; a veth's alone.
    pub netem_in: Option<Netem>,
    pub nat: Option<IpAddr>,
    pub forwards: Vec<Forward>,
    /// All of the link is wanted, or nothing of it.
    pub required: bool,
    /// What somebody changes of the link is repaired.
    pub repair: bool,
    /// `FILE:LINE:COL` of the entry that it comes from.
    pub origin: String,
    /// The same of what the entry gives.
    pub items: Vec<(Item, String)>,
}

/// What a message may be about within an entry of `links:`.
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
    /// `FILE:LINE:COL` of an item, or of the entry where that does not give it.
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

/// What a link is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    Veth { place: Place, outer: IfName, attach: Attach },
    Dummy,
    Stacked(Stacked),
}

/// An interface on a parent interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stacked {
    /// Where the parent is.
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
        }
    }

    /// Where its outer end or its parent is; None if it has neither.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Veth { place, .. } => Some(*place),
            Self::Stacked(it) => Some(it.place),
            Self::Dummy => None,
        }
    }

    /// Its parent interface, if it has one.
    pub fn parent(&self) -> Option<&IfName> {
        match self {
            Self::Stacked(it) => Some(&it.parent),
            Self::Veth { .. } | Self::Dummy => None,
        }
    }
}

/// What the outer end of a veth is joined to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attach {
    Bridge(IfName),
    Ovs(IfName),
    Patch(String),
}

impl Network {
    /// MACs that no entry gives are derived from the project, which an engine in a container learns of itself.
    pub fn set_project(&mut self, project: &str) {
        self.defaults.project = project.to_owned();
    }

    /// The name of the project; empty if it is not known.
    pub fn project(&self) -> &str {
        &self.defaults.project
    }
}

/// The address of a bridge that forwarded connections come from, the same in every run: link-local for IPv4
/// (RFC 3927), local to the site for IPv6 (RFC 4193). A container that a port is forwarded to has a route to it.
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
