//! What is known of the network at one moment.
//!
//! The JSON is a format that others read: `docs/reference/status.md` describes it. Fields may be added with any
//! version; [`Status::VERSION`] is raised when one changes its meaning or goes. What is written here as documentation of
//! a field is its description in the JSON Schema.

use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::{BridgeMode, Place, TunnelKind};

/// How far an engine or a lab has come: what `conlink status --json` prints.
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
    /// Whether every container engine has told what runs.
    pub listening: bool,
    /// The container engines that are listened to.
    pub engines: Vec<EngineStatus>,
    /// The bridges of the configuration, and those that running containers alone name.
    pub bridges: Vec<BridgeStatus>,
    /// The tunnels of the configuration.
    pub tunnels: Vec<TunnelStatus>,
    /// Containers that run and that the configuration is about, by service and replica; a lab's nodes, running or not.
    pub nodes: Vec<NodeStatus>,
    /// What is wrong with no bridge, tunnel or node in particular.
    pub errors: Vec<Problem>,
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
    /// Everything that runs is as described.
    Connected,
    /// Nothing has failed, and something has not been looked at yet.
    Working,
    /// Everything was as described, and somebody has changed something since.
    Drifted,
    /// Something is not as described.
    Failing,
}

/// A container engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EngineStatus {
    /// `docker`, `podman` or `lab`.
    pub name: String,
    /// Whether it has told what runs, and is heard since.
    pub connected: bool,
}

/// A bridge of any mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BridgeStatus {
    /// Its name.
    pub name: String,
    /// How it carries frames.
    pub mode: BridgeMode,
    /// Where it is.
    pub place: Place,
    /// How far it is.
    pub state: LinkState,
    /// What in the kernel differs from the configuration because somebody changed it, such as `down`.
    #[serde(default)]
    pub drift: Vec<String>,
    /// Why it is not as described.
    pub errors: Vec<Problem>,
}

/// A tunnel to another host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TunnelStatus {
    /// The interface's name.
    pub name: String,
    /// How it wraps frames.
    #[serde(rename = "type")]
    pub kind: TunnelKind,
    /// The bridge that it is joined to.
    pub bridge: String,
    /// The other host's address.
    pub remote: IpAddr,
    /// The number of the virtual network, 1 to 16777215.
    pub vni: u32,
    /// How far it is.
    pub state: LinkState,
    /// `FILE:LINE:COL` of its entry.
    pub origin: String,
    /// What in the kernel differs from the configuration because somebody changed it, such as `down`.
    #[serde(default)]
    pub drift: Vec<String>,
    /// Why it is not as described.
    pub errors: Vec<Problem>,
}

/// A container, or a process of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeStatus {
    /// The container's name.
    pub name: String,
    /// The compose service.
    pub service: Option<String>,
    /// Which replica of the service, from 1.
    pub index: u32,
    /// Who runs it: `docker`, `podman` or `lab`.
    pub engine: String,
    /// Its full id there.
    pub id: String,
    /// How far it is.
    pub state: NodeState,
    /// Its links, in the order of the configuration.
    pub links: Vec<LinkStatus>,
    /// What is wrong with no link of it in particular.
    pub errors: Vec<Problem>,
    /// What it runs; a lab's nodes alone have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessStatus>,
}

/// How far a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It does not run; a lab's alone.
    Stopped,
    /// It has not been looked at yet.
    Working,
    /// It is as described.
    Connected,
    /// It was connected, and somebody has changed something of it.
    Drifted,
    /// Something is not as described.
    Failing,
    /// It runs, and its network namespace cannot be had.
    Unreachable,
}

/// A link of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkStatus {
    /// The interface's name in the container.
    pub dev: String,
    /// What it is; null: this replica cannot have what the entry says.
    #[serde(rename = "type")]
    pub kind: Option<LinkType>,
    /// Of a veth: the bridge or cable that it is joined to.
    pub bridge: Option<String>,
    /// Of a veth: its other end's name.
    pub outer: Option<String>,
    /// Of the other types: the interface that it is made on.
    pub parent: Option<String>,
    /// Of a VLAN: its number.
    pub vlanid: Option<u16>,
    /// Of a veth the mode of its bridge; of macvlan, ipvlan and their kind their own, null: the kernel's default.
    pub mode: Option<String>,
    /// Where `outer` or `parent` is.
    pub place: Option<Place>,
    /// Its MAC address as described; null: the kernel's choice.
    pub mac: Option<String>,
    /// Its MTU in bytes as described; null: the kernel's choice.
    pub mtu: Option<u32>,
    /// Its addresses as described, with their prefix lengths.
    pub addresses: Vec<String>,
    /// How far it is.
    pub state: LinkState,
    /// `FILE:LINE:COL` of its entry.
    pub origin: String,
    /// What in the kernel differs from the configuration because somebody changed it, such as `down`.
    #[serde(default)]
    pub drift: Vec<String>,
    /// What somebody set over the configuration on purpose: it counts as described, and is no drift.
    #[serde(default)]
    pub overrides: Vec<OverrideStatus>,
    /// Why it is not as described.
    pub errors: Vec<Problem>,
}

/// Something that is set over the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OverrideStatus {
    /// What is set, such as `carrier down` or `netem delay 100ms`.
    pub what: String,
    /// Who set it.
    pub author: String,
    /// When it ends by itself, in seconds since 1970 (UTC); null: never.
    pub until: Option<u64>,
}

/// What a link is.
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

/// How far a link, a bridge or a tunnel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// As described, when it was last looked at.
    Up,
    /// It was as described, and somebody has changed it.
    Drifted,
    /// Not looked at yet, or it could not be looked at.
    Pending,
    /// Not as described.
    Failed,
}

/// What a lab's node runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessStatus {
    /// What the node is called for short.
    pub name: String,
    /// One word: `waiting`, `running`, `stopping`, `restarting`, `exited` or `failed`.
    pub state: String,
    /// While it runs: its process id as the machine counts.
    pub pid: Option<i32>,
    /// Once it has ended: 128 and the number of the signal, if one ended it.
    pub exit_code: Option<i32>,
    /// How often it was started again.
    pub restarts: u32,
    /// `starting`, `healthy` or `unhealthy`; null where nothing checks it.
    pub health: Option<String>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What users may wonder about.
    pub notes: Vec<String>,
    /// The file that has what it prints.
    pub log: String,
}

/// Why something is not as described.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// What it is about, such as `link p-h-1:eth0` or `bridge lan`.
    pub subject: String,
    /// What is wrong.
    pub message: String,
    /// What may be done about it.
    pub help: Option<String>,
    /// `FILE:LINE:COL` of the entry that it is about, where it is known.
    pub origin: Option<String>,
}

impl Status {
    /// The version of the format.
    pub const VERSION: u32 = 1;

    /// All that failed, each once: what several nodes need is wrong for all of them.
    pub fn problems(&self) -> Vec<&Problem> {
        let bridges = self.bridges.iter().flat_map(|it| &it.errors);
        let tunnels = self.tunnels.iter().flat_map(|it| &it.errors);
        let nodes = self
            .nodes
            .iter()
            .flat_map(|node| node.errors.iter().chain(node.links.iter().flat_map(|it| &it.errors)));
        let mut found: Vec<&Problem> = Vec::new();
        for it in self.errors.iter().chain(bridges).chain(tunnels).chain(nodes) {
            if !found.contains(&it) {
                found.push(it);
            }
        }
        found
    }

    /// What somebody else changed, by what it is about, such as `link p-h-1:eth0`.
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
