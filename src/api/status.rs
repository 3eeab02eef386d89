//! The status of the network.
//!
//! The JSON is a format that others read: `docs/reference/status.md` describes it. Fields may be added with any
//! version; [`Status::VERSION`] is raised when one changes its meaning or goes. The doc comments of
//! the fields are their descriptions in the JSON Schema.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::{BridgeMode, Place, TunnelKind};

/// The status of an engine or a lab, as printed by `conlink status --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The version of this format: 1. It is raised when a field changes its meaning or goes.
    pub version: u32,
    /// What the network's nodes are.
    #[serde(rename = "kind")]
    pub served: Served,
    /// The compose project, or the lab's name; null: every project.
    pub project: Option<String>,
    /// How the network is as a whole.
    pub state: Health,
    /// Whether every container engine has listed its running containers.
    pub listening: bool,
    /// The container engines that conlink follows.
    pub engines: Vec<EngineStatus>,
    /// The bridges of the configuration and those that only running containers name.
    pub bridges: Vec<BridgeStatus>,
    /// The tunnels of the configuration.
    pub tunnels: Vec<TunnelStatus>,
    /// Running containers that have a part in the configuration, by service and replica; in a lab all nodes.
    pub nodes: Vec<NodeStatus>,
    /// Errors that belong to no single bridge, tunnel or node.
    pub errors: Vec<Problem>,
    /// What is as described, and probably not intended: links of running containers with one address on one bridge.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What the network's nodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Served {
    /// Containers of an engine.
    Engine,
    /// Processes of a lab.
    Lab,
}

/// How a network is as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Everything that runs matches the configuration.
    Connected,
    /// Nothing has failed, and something has not been checked yet.
    Working,
    /// Everything matched the configuration, and another program has changed something since.
    Drifted,
    /// Something does not match the configuration.
    Failing,
}

/// A container engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EngineStatus {
    /// `docker`, `podman` or `lab`.
    pub name: String,
    /// Whether it has listed its containers and its events are being received.
    pub connected: bool,
}

/// A bridge of any mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BridgeStatus {
    /// Its name.
    pub name: String,
    /// How it forwards frames.
    pub mode: BridgeMode,
    /// The network namespace it is in.
    pub place: Place,
    /// Its state.
    pub state: LinkState,
    /// What another program changed in the kernel, such as `down`.
    #[serde(default)]
    pub drift: Vec<String>,
    /// Why it does not match the configuration.
    pub errors: Vec<Problem>,
}

/// A tunnel to another host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TunnelStatus {
    /// The interface's name.
    pub name: String,
    /// The encapsulation.
    #[serde(rename = "type")]
    pub kind: TunnelKind,
    /// The bridge it is a port of.
    pub bridge: String,
    /// The address of the other host.
    pub remote: IpAddr,
    /// Virtual network identifier (VNI), 1 to 16777215.
    pub vni: u32,
    /// Its state.
    pub state: LinkState,
    /// `FILE:LINE:COL` of its entry.
    pub origin: String,
    /// What another program changed in the kernel, such as `down`.
    #[serde(default)]
    pub drift: Vec<String>,
    /// Why it does not match the configuration.
    pub errors: Vec<Problem>,
}

/// A container, or a process of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeStatus {
    /// The container's name.
    pub name: String,
    /// The compose service.
    pub service: Option<String>,
    /// Replica of the service, from 1.
    pub index: u32,
    /// The engine that runs it: `docker`, `podman` or `lab`.
    pub engine: String,
    /// Its full id there.
    pub id: String,
    /// Its state.
    pub state: NodeState,
    /// Its links, in the order of the configuration.
    pub links: Vec<LinkStatus>,
    /// Errors that belong to no single link.
    pub errors: Vec<Problem>,
    /// Its process; only in labs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessStatus>,
}

/// The state of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It is not running; only in labs.
    Stopped,
    /// It has not been checked yet.
    Working,
    /// It matches the configuration.
    Connected,
    /// It was connected, and another program has changed something since.
    Drifted,
    /// Something does not match the configuration.
    Failing,
    /// It is running, and its network namespace cannot be opened.
    Unreachable,
}

/// A link of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkStatus {
    /// The interface's name in the container.
    pub dev: String,
    /// Its type; null: the entry is not possible for this replica.
    #[serde(rename = "type")]
    pub kind: Option<LinkType>,
    /// Of a veth: the bridge or patch it is connected to.
    pub bridge: Option<String>,
    /// Of a veth: the name of its outer end.
    pub outer: Option<String>,
    /// Of the other types: the parent interface.
    pub parent: Option<String>,
    /// Of a VLAN: its ID.
    pub vlanid: Option<u16>,
    /// Of a veth: the mode of its bridge. Of macvlan, macvtap, ipvlan, ipvtap: their own mode; null: the kernel's default.
    pub mode: Option<String>,
    /// The network namespace of `outer` or `parent`.
    pub place: Option<Place>,
    /// Configured MAC address; null: chosen by the kernel.
    pub mac: Option<String>,
    /// Configured MTU in bytes; null: chosen by the kernel.
    pub mtu: Option<u32>,
    /// Configured addresses with prefix lengths.
    pub addresses: Vec<String>,
    /// Its state.
    pub state: LinkState,
    /// `FILE:LINE:COL` of its entry.
    pub origin: String,
    /// What another program changed in the kernel, such as `down`.
    #[serde(default)]
    pub drift: Vec<String>,
    /// Settings that a user changed on purpose. They win over the configuration and are not drift.
    #[serde(default)]
    pub overrides: Vec<OverrideStatus>,
    /// Why it does not match the configuration.
    pub errors: Vec<Problem>,
}

/// A setting that overrides the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OverrideStatus {
    /// The setting, such as `carrier down` or `netem delay 100ms`.
    pub what: String,
    /// Who set it.
    pub author: String,
    /// When it expires, in seconds since 1970 (UTC); null: never.
    pub until: Option<u64>,
}

/// The type of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LinkType {
    Veth,
    Dummy,
    Vlan,
    Macvlan,
    Macvtap,
    Ipvlan,
    Ipvtap,
}

/// The state of a link, a bridge or a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// It matched the configuration at the last check.
    Up,
    /// It was up, and another program has changed it.
    Drifted,
    /// It has not been checked yet, or could not be checked.
    Pending,
    /// It does not match the configuration.
    Failed,
}

/// The process of a lab's node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessStatus {
    /// The node's short name.
    pub name: String,
    /// One word: `waiting`, `running`, `stopping`, `restarting`, `exited` or `failed`.
    pub state: String,
    /// Process ID outside the lab, while it runs.
    pub pid: Option<i32>,
    /// Exit code, or 128 plus the signal number, once it has ended.
    pub exit_code: Option<i32>,
    /// Number of restarts.
    pub restarts: u32,
    /// `starting`, `healthy` or `unhealthy`; null: no health check.
    pub health: Option<String>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Hints for the user.
    pub notes: Vec<String>,
    /// The file with its output.
    pub log: String,
    /// The dependencies that it waits for before its program starts.
    #[serde(default)]
    pub waits_for: Vec<Awaited>,
}

/// A dependency that is not met yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Awaited {
    /// The compose service.
    pub service: String,
    /// `service_started`, `service_healthy` or `service_completed_successfully`.
    pub condition: String,
}

/// An error.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// The subject, such as `link p-h-1:eth0` or `bridge lan`.
    pub subject: String,
    /// The error message.
    pub message: String,
    /// A hint on how to fix it.
    pub help: Option<String>,
    /// `FILE:LINE:COL` of the configuration entry, if known.
    pub origin: Option<String>,
}

/// The items in their order, each once.
pub fn distinct<T: Clone + Eq + Hash>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = HashSet::new();
    items.filter(|it| seen.insert(it.clone())).collect()
}

impl Status {
    /// The version of the format.
    pub const VERSION: u32 = 1;

    /// All errors, without duplicates: several nodes may report the same one.
    pub fn problems(&self) -> Vec<&Problem> {
        let bridges = self.bridges.iter().flat_map(|it| &it.errors);
        let tunnels = self.tunnels.iter().flat_map(|it| &it.errors);
        let nodes = self
            .nodes
            .iter()
            .flat_map(|node| node.errors.iter().chain(node.links.iter().flat_map(|it| &it.errors)));
        distinct(self.errors.iter().chain(bridges).chain(tunnels).chain(nodes))
    }

    /// Drift with its subject, such as `link p-h-1:eth0`.
    pub fn drift(&self) -> Vec<(String, &str)> {
        let bridges = self.bridges.iter().map(|it| (format!("bridge {}", it.name), &it.drift));
        let tunnels = self.tunnels.iter().map(|it| (format!("tunnel {}", it.name), &it.drift));
        let links = self.nodes.iter().flat_map(|node| {
            node.links.iter().map(|it| (format!("link {}:{}", node.name, it.dev), &it.drift))
        });
        let all = bridges.chain(tunnels).chain(links);
        all.flat_map(|(subject, it)| it.iter().map(move |it| (subject.clone(), it.as_str()))).collect()
    }

    /// The number of links of all nodes.
    pub fn links(&self) -> usize {
        self.nodes.iter().map(|it| it.links.len()).sum()
    }
}

/// The words of the JSON.
macro_rules! display {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.serialize(f)
            }
        }
    )*};
}

display!(Served, Health, NodeState, LinkState, LinkType);
