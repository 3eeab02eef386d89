//! Reads YAML files into a [`Config`] that mirrors them, each value with its place.
//!
//! Merging and interpolation happen here. [`crate::network`] fills in defaults and checks what depends on several
//! values.
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
use crate::device::{BridgeOptions, IpvlanFlag};
use crate::ethtool::Ethtool;
use crate::netem::Netem;
use crate::route::Route;

pub use crate::nat::Protocol;
pub use collect::Input;
pub use diagnostic::{Diagnostic, Scope, Severity, tidy};
pub(crate) use interpolate::Interpolation;
pub use interpolate::{Env, PROJECT_NAME, UNSET, Unexpanded, Unset, expand};
pub(crate) use merge::merge_own;
pub use merge::scalar_text as merge_text;
pub use placeholder::Vars;
pub use schema::schema;
pub use source::{FileId, LineCol, Sources, Span, Spanned};
pub(crate) use yaml::reads_as_text;
pub use yaml::{Key, Node, Value, documents};

/// The contents of all files.
#[derive(Debug, Default)]
pub struct Config {
    pub links: Vec<LinkConfig>,
    pub bridges: Vec<BridgeConfig>,
    pub tunnels: Option<Vec<TunnelConfig>>,
    pub commands: Vec<CommandConfig>,
    /// The services of compose files by name; None if the files do not name them all.
    pub services: Option<BTreeMap<String, ServiceConfig>>,
}

/// A service of a compose file, as far as it matters to the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceConfig {
    /// The value of `network_mode` if it is `host`.
    pub host_network: Option<Span>,
    /// The value of `network_mode` if it is `none`.
    pub no_network: Option<Span>,
    /// It has a `network_mode` other than `bridge`.
    pub has_mode: bool,
    /// How many networks compose connects it to, unless it has a mode. None if the files do not tell: they have
    /// neither its image nor its networks.
    pub networks: Option<u32>,
    /// `scale` or `deploy.replicas`.
    pub replicas: Option<Spanned<u32>>,
    /// It starts only with one of its profiles.
    pub has_profiles: bool,
    /// The image is conlink's own.
    pub is_engine: bool,
}

impl ServiceConfig {
    /// The value of `scale` or `deploy.replicas` if it is more than one.
    pub fn several(&self) -> Option<Span> {
        self.replicas.as_ref().filter(|it| it.value > 1).map(|it| it.span)
    }
}

/// An entry of `links:`.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// The entry after merging: `--show-config` prints it, and it is read again for each replica.
    pub node: Node,
    /// Some string contains a `{{placeholder}}`: the entry is read again for each replica.
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
    /// The type decides which modes there are.
    pub mode: Option<Spanned<String>>,
    pub flag: Option<Spanned<IpvlanFlag>>,
    pub vlanid: Option<Spanned<u16>>,
    pub forward: Vec<Spanned<Forward>>,
    pub ethtool: Vec<Spanned<Ethtool>>,
    pub base: Option<Spanned<Base>>,
    /// Either all of the link is applied, or nothing.
    pub required: bool,
    /// Changes that others make to the link are repaired.
    pub repair: bool,
    /// Errors that only this link has: texts that `ip route`, `tc` or `ethtool` would refuse.
    pub faults: Vec<Diagnostic>,
}

/// An entry of `bridges:`.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    pub span: Span,
    pub bridge: Option<Spanned<String>>,
    pub mode: Option<Spanned<ConfigMode>>,
    pub options: BridgeOptions,
    /// The keys of the given options.
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
    /// `base` of a link: the namespace of its outer end or parent.
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

/// `OUTER:INNER/tcp|udp`: forwards a port of the engine's uplink to a port of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Offset by the replica's index.
    pub outer: u16,
    pub inner: u16,
    pub protocol: Protocol,
}

/// The text is not a forward.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `OUTER:INNER/tcp` or `OUTER:INNER/udp` with ports from 1 to 65535, found `{0}`")]
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

/// Reads and merges all inputs: compose files first, in order, then network files. Returns everything that could be read,
/// and all mistakes.
pub fn load(sources: &Sources, inputs: &[Input], env: &Env) -> (Config, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let mut broken = Vec::new();
    let mut config = Config::default();
    let mut services = collect::Services::default();
    let whole = collect::collect(sources, inputs, env, &mut services, &mut diagnostics, &mut broken);
    if let Some(whole) = whole {
        let mut found = Vec::new();
        config = read::config(&whole, sources, &mut found);
        // A string that could not be interpolated has no value to read.
        found.retain(|it| !broken.iter().any(|string| it.span.is_some_and(|it| string.contains(it))));
        // An error about an empty value names its unset variable.
        let errors: BTreeMap<_, Span> =
            found.iter().filter_map(|it| it.span).map(|it| ((it.file, it.start), it)).collect();
        let is_told = |span: Span| {
            let before = errors.range(..=(span.file, span.start)).next_back();
            before.is_some_and(|(_, error)| error.contains(span))
        };
        diagnostics.retain(|it| it.code != UNSET || !it.span.is_some_and(is_told));
        diagnostics.append(&mut found);
    }
    config.services = services.known();
    tidy(&mut diagnostics);
    (config, diagnostics)
}

#[cfg(test)]
mod tests;
