//! What the files say: bytes of YAML to a [`Config`] that mirrors them, every value with its place.
//!
//! Merging and interpolation happen here; defaults do not, and what depends on several values at once is
//! [`crate::network`]'s to check.
//!
//! Architecture invariant: no I/O. Texts and the environment are arguments.

mod collect;
mod diagnostic;
mod interpolate;
mod merge;
mod placeholder;
mod read;
mod schema;
mod source;
mod value;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::addr::{Cidr, IfName, Mac};
use crate::device::BridgeOptions;
use crate::ethtool::Ethtool;
use crate::netem::Netem;
use crate::route::Route;

pub use crate::nat::Protocol;
pub use collect::Input;
pub use diagnostic::{Diagnostic, Severity, tidy};
pub(crate) use interpolate::interpolate;
pub use interpolate::{Env, Unexpanded, expand};
pub(crate) use merge::merge_own;
pub use merge::scalar_text as merge_text;
pub use placeholder::Vars;
pub use schema::schema;
pub use source::{FileId, LineCol, Sources, Span, Spanned};
pub(crate) use yaml::reads_as_text;
pub use yaml::{Key, Node, Value, documents};

/// Everything that the files say.
#[derive(Debug, Default)]
pub struct Config {
    pub links: Vec<LinkConfig>,
    pub bridges: Vec<BridgeConfig>,
    pub tunnels: Option<Vec<TunnelConfig>>,
    pub commands: Vec<CommandConfig>,
    /// The services of compose files by name; None where the files do not tell them all.
    pub services: Option<BTreeMap<String, ServiceConfig>>,
}

/// A service of a compose file, as far as the network depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Where it says `network_mode: host`.
    pub host_network: Option<Span>,
    /// Where it asks for more than one replica.
    pub several: Option<Span>,
    /// Does it ask for none?
    pub no_replicas: bool,
    /// Is it left out unless one of its profiles is asked for?
    pub has_profiles: bool,
}

/// An entry of `links:`.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// The entry as it is after merging: what `--show-config` prints, and what is read anew for a replica.
    pub node: Node,
    /// Some string holds a `{{placeholder}}`: each replica reads the entry for itself.
    pub templated: bool,
    pub kind: Option<Spanned<LinkType>>,
    pub service: Option<Spanned<String>>,
    pub container: Option<Spanned<String>>,
    pub bridge: Option<Spanned<String>>,
    pub dev: Option<Spanned<IfName>>,
    pub outer_dev: Option<Spanned<IfName>>,
    pub ip: Vec<Spanned<Cidr>>,
    pub mac: Option<Spanned<Mac>>,
    pub mtu: Option<Spanned<u32>>,
    pub route: Vec<Spanned<Route>>,
    pub nat: Option<Spanned<IpAddr>>,
    pub netem: Option<Spanned<Netem>>,
    pub netem_in: Option<Spanned<Netem>>,
    /// Which modes there are, the type decides.
    pub mode: Option<Spanned<String>>,
    pub vlanid: Option<Spanned<u16>>,
    pub forward: Vec<Spanned<Forward>>,
    pub ethtool: Vec<Spanned<Ethtool>>,
    pub base: Option<Spanned<Base>>,
    /// All of the link is wanted, or nothing of it.
    pub required: bool,
    /// What somebody changes of the link is repaired.
    pub repair: bool,
}

/// An entry of `bridges:`.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    pub span: Span,
    pub bridge: Option<Spanned<String>>,
    pub mode: Option<Spanned<ConfigMode>>,
    pub options: BridgeOptions,
    /// The keys of the options that are given.
    pub option_spans: Vec<Spanned<String>>,
}

/// An entry of `tunnels:`.
#[derive(Clone, Debug)]
pub struct TunnelConfig {
    pub node: Node,
    pub kind: Option<Spanned<TunnelType>>,
    pub bridge: Option<Spanned<String>>,
    pub remote: Option<Spanned<IpAddr>>,
    pub vni: Option<Spanned<u32>>,
    pub netem: Option<Spanned<Netem>>,
    pub dstport: Option<Spanned<u16>>,
    pub local: Option<Spanned<IpAddr>>,
    pub ttl: Option<Spanned<u8>>,
    pub mtu: Option<Spanned<u32>>,
    pub mac: Option<Spanned<Mac>>,
}

/// An entry of `commands:`.
#[derive(Clone, Debug)]
pub struct CommandConfig {
    pub node: Node,
    pub service: Option<Spanned<String>>,
    pub container: Option<Spanned<String>>,
    pub command: Option<CommandText>,
}

/// One string, for a shell; or a program with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandText {
    Shell(String),
    Exec(Vec<String>),
}

/// An enum of the configuration with the name of each value.
macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($variant),* }

        impl $name {
            /// Every value by its name in the file.
            pub const NAMES: &[(&str, Self)] = &[$(($text, Self::$variant)),*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text),* })
            }
        }
    };
}

names! {
    /// `type` of a link.
    LinkType {
        Veth = "veth", Dummy = "dummy", Vlan = "vlan", Ipvlan = "ipvlan", Macvlan = "macvlan", Ipvtap = "ipvtap",
        Macvtap = "macvtap",
    }
}

names! {
    /// `base` of a link: where its outer end or its parent lives.
    Base { Conlink = "conlink", Host = "host", Local = "local" }
}

names! {
    /// `mode` of a bridge.
    ConfigMode { Auto = "auto", Ovs = "ovs", Linux = "linux", Patch = "patch" }
}

names! {
    /// `type` of a tunnel.
    TunnelType { Geneve = "geneve", Vxlan = "vxlan" }
}

/// `OUTER:INNER/tcp|udp`: a port of the engine's uplink that leads to one of the link's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Offset by the replica's index.
    pub outer: u16,
    pub inner: u16,
    pub protocol: Protocol,
}

/// What is wrong with a text that should be a forward.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a forward is `OUTER:INNER/tcp` or `OUTER:INNER/udp` with ports 1 to 65535, not `{0}`")]
pub struct BadForward(String);

impl FromStr for Forward {
    type Err = BadForward;

    fn from_str(text: &str) -> Result<Self, BadForward> {
        let parse = || {
            let (ports, protocol) = text.split_once('/')?;
            let (outer, inner) = ports.split_once(':')?;
            let port = |it: &str| it.parse::<u16>().ok().filter(|port| *port > 0 && !it.starts_with('+'));
            let protocol = Protocol::NAMES.iter().find(|(name, _)| *name == protocol)?.1;
            Some(Self { outer: port(outer)?, inner: port(inner)?, protocol })
        };
        parse().ok_or_else(|| BadForward(text.to_owned()))
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.outer, self.inner, self.protocol)
    }
}

/// Reads all inputs and merges them: compose files first, in order, then network files. What is wrong comes with what
/// could be read.
pub fn load(sources: &Sources, inputs: &[Input], env: &Env) -> (Config, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let mut broken = Vec::new();
    let mut config = Config::default();
    let mut services = collect::Services::default();
    let whole = collect::collect(sources, inputs, env, &mut services, &mut diagnostics, &mut broken);
    if let Some(whole) = whole {
        let mut found = Vec::new();
        config = read::config(&whole, sources, &mut found);
        // A string that could not be interpolated is nothing that a value could be read from.
        found.retain(|it| !broken.iter().any(|string| it.span.is_some_and(|it| string.contains(it))));
        diagnostics.append(&mut found);
    }
    config.services = services.known();
    tidy(&mut diagnostics);
    (config, diagnostics)
}

#[cfg(test)]
mod tests;
