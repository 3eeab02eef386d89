//! What is known of the network at one moment, as data and as JSON.
//!
//! The JSON is a format that others read: `docs/reference/status.md` describes it. Fields may be added with any
//! version; [`VERSION`] is raised when one changes its meaning or goes.

use std::fmt;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::addr::{Cidr, IfName, Mac};
use crate::container::ContainerId;
use crate::device::TunnelKind;
use crate::network::{Attach, BridgeMode, LinkKind, Place};
use crate::reconcile::{EngineId, Failure};

/// The version of the JSON format.
const VERSION: u32 = 1;

/// The whole network: what [`Reconciler::status`](crate::reconcile::Reconciler::status) answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub served: Served,
    /// None: containers of every project are served.
    pub project: Option<String>,
    pub state: Health,
    /// Has every engine told what runs?
    pub listening: bool,
    pub engines: Vec<EngineStatus>,
    /// Those of the configuration, and those that running containers alone name.
    pub bridges: Vec<BridgeStatus>,
    pub tunnels: Vec<TunnelStatus>,
    /// The containers that the configuration is about, by service and replica.
    pub nodes: Vec<NodeStatus>,
    /// What is wrong with no bridge, tunnel or node in particular.
    pub errors: Vec<Failure>,
}

/// What the network's nodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Containers of an engine.
    Engine,
    /// Processes of a lab.
    Lab,
}

/// How the network is as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineStatus {
    pub engine: EngineId,
    /// Has it told what runs, and is it heard since?
    pub connected: bool,
}

/// A bridge of any mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeStatus {
    pub name: String,
    pub mode: BridgeMode,
    pub place: Place,
    pub state: LinkState,
    /// What in the kernel differs from the configuration because somebody changed it, such as `down`.
    pub drift: Vec<String>,
    pub errors: Vec<Failure>,
}

/// A tunnel to another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelStatus {
    pub name: IfName,
    pub kind: TunnelKind,
    /// The bridge that it is joined to.
    pub bridge: String,
    pub remote: IpAddr,
    /// 1 to 16777215.
    pub vni: u32,
    pub state: LinkState,
    /// What in the kernel differs from the configuration because somebody changed it, such as `down`.
    pub drift: Vec<String>,
    pub errors: Vec<Failure>,
    /// `FILE:LINE:COL` of its entry.
    pub origin: String,
}

/// A container, or a process of a lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// The container's.
    pub name: String,
    pub service: Option<String>,
    /// Which replica of the service, from 1.
    pub index: u32,
    pub engine: EngineId,
    pub id: ContainerId,
    pub state: NodeState,
    /// In the order of the configuration.
    pub links: Vec<LinkStatus>,
    /// What is wrong with no link of it in particular.
    pub errors: Vec<Failure>,
    /// Of a lab's node.
    pub process: Option<ProcessStatus>,
}

/// How far a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// It does not run; a lab's alone.
    Stopped,
    /// Not looked at yet.
    Working,
    Connected,
    /// It was connected, and somebody has changed something of it.
    Drifted,
    /// Something is not as described.
    Failing,
    /// It runs, and its network namespace cannot be had.
    Unreachable,
}

/// A link of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// The interface's name in the container.
    pub dev: IfName,
    /// None where this replica cannot have what the entry says; then it has no MAC, MTU or addresses either.
    pub kind: Option<LinkKind>,
    pub mac: Option<Mac>,
    pub mtu: Option<u32>,
    pub addrs: Vec<Cidr>,
    pub state: LinkState,
    /// What in the kernel differs from the configuration because somebody changed it, such as `down`.
    pub drift: Vec<String>,
    pub errors: Vec<Failure>,
    /// `FILE:LINE:COL` of its entry.
    pub origin: String,
}

/// How far a link, a bridge or a tunnel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// As described, when it was last looked at.
    Up,
    /// Somebody has changed it.
    Drifted,
    /// Not looked at yet, or it could not be looked at.
    Pending,
    /// Not as described.
    Failed,
}

/// What a lab's node runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessStatus {
    /// What the node is called for short.
    pub name: String,
    /// One word: `waiting`, `running`, `exited`, `restarting`, …
    pub state: String,
    /// While it runs: its number outside of the node.
    pub pid: Option<i32>,
    /// Once it has ended: 128 and the number of the signal, if one ended it.
    pub exit_code: Option<i32>,
    pub restarts: u32,
    /// `starting`, `healthy` or `unhealthy`, where something checks it.
    pub health: Option<String>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What users may wonder about.
    pub notes: Vec<String>,
    /// The file that has what it prints.
    pub log: String,
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Engine => "engine",
            Self::Lab => "lab",
        })
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connected => "connected",
            Self::Working => "working",
            Self::Drifted => "drifted",
            Self::Failing => "failing",
        })
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "stopped",
            Self::Working => "working",
            Self::Connected => "connected",
            Self::Drifted => "drifted",
            Self::Failing => "failing",
            Self::Unreachable => "unreachable",
        })
    }
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Drifted => "drifted",
            Self::Pending => "pending",
            Self::Failed => "failed",
        })
    }
}

impl Status {
    /// The status as a JSON object; its keys are always all there, and in the same order.
    pub fn to_json(&self) -> Value {
        let engine = |it: &EngineStatus| json!({ "name": it.engine.to_string(), "connected": it.connected });
        json!({
            "version": VERSION,
            "kind": self.served.to_string(),
            "project": self.project,
            "state": self.state.to_string(),
            "listening": self.listening,
            "engines": self.engines.iter().map(engine).collect::<Vec<_>>(),
            "bridges": self.bridges.iter().map(BridgeStatus::to_json).collect::<Vec<_>>(),
            "tunnels": self.tunnels.iter().map(TunnelStatus::to_json).collect::<Vec<_>>(),
            "nodes": self.nodes.iter().map(NodeStatus::to_json).collect::<Vec<_>>(),
            "errors": errors(&self.errors),
        })
    }
}

impl BridgeStatus {
    fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "mode": self.mode.to_string(),
            "place": place(self.place),
            "state": self.state.to_string(),
            "drift": self.drift,
            "errors": errors(&self.errors),
        })
    }
}

impl TunnelStatus {
    fn to_json(&self) -> Value {
        json!({
            "name": self.name.as_str(),
            "type": self.kind.to_string(),
            "bridge": self.bridge,
            "remote": self.remote.to_string(),
            "vni": self.vni,
            "state": self.state.to_string(),
            "origin": self.origin,
            "drift": self.drift,
            "errors": errors(&self.errors),
        })
    }
}

impl NodeStatus {
    fn to_json(&self) -> Value {
        let mut node = json!({
            "name": self.name,
            "service": self.service,
            "index": self.index,
            "engine": self.engine.to_string(),
            "id": self.id.as_str(),
            "state": self.state.to_string(),
            "links": self.links.iter().map(LinkStatus::to_json).collect::<Vec<_>>(),
            "errors": errors(&self.errors),
        });
        if let Some(it) = &self.process {
            node["process"] = json!({
                "name": it.name,
                "state": it.state,
                "pid": it.pid,
                "exit_code": it.exit_code,
                "restarts": it.restarts,
                "health": it.health,
                "command": it.command,
                "notes": it.notes,
                "log": it.log,
            });
        }
        node
    }
}

impl LinkStatus {
    fn to_json(&self) -> Value {
        let mut link = json!({
            "dev": self.dev.as_str(),
            "type": self.kind.as_ref().map(LinkKind::name),
            "bridge": null,
            "outer": null,
            "parent": null,
            "vlanid": null,
            "mode": null,
            "place": null,
            "mac": self.mac.map(|it| it.to_string()),
            "mtu": self.mtu,
            "addresses": self.addrs.iter().map(Cidr::to_string).collect::<Vec<_>>(),
            "state": self.state.to_string(),
            "origin": self.origin,
            "drift": self.drift,
            "errors": errors(&self.errors),
        });
        let at = match &self.kind {
            Some(LinkKind::Veth { place, outer, attach }) => {
                let (name, mode) = match attach {
                    Attach::Bridge(name) => (name.as_str(), BridgeMode::Linux),
                    Attach::Ovs(name) => (name.as_str(), BridgeMode::Ovs),
                    Attach::Patch(name) => (name.as_str(), BridgeMode::Patch),
                };
                link["bridge"] = json!(name);
                link["outer"] = json!(outer.as_str());
                link["mode"] = json!(mode.to_string());
                Some(*place)
            }
            Some(LinkKind::Vlan { place, parent, id }) => {
                link["parent"] = json!(parent.as_str());
                link["vlanid"] = json!(id);
                Some(*place)
            }
            Some(LinkKind::Macvlan { place, parent, mode } | LinkKind::Macvtap { place, parent, mode }) => {
                link["parent"] = json!(parent.as_str());
                link["mode"] = json!(mode.map(|it| it.to_string()));
                Some(*place)
            }
            Some(LinkKind::Ipvlan { place, parent, mode } | LinkKind::Ipvtap { place, parent, mode }) => {
                link["parent"] = json!(parent.as_str());
                link["mode"] = json!(mode.map(|it| it.to_string()));
                Some(*place)
            }
            Some(LinkKind::Dummy) | None => None,
        };
        link["place"] = json!(at.map(place));
        link
    }
}

fn place(it: Place) -> &'static str {
    match it {
        Place::Engine => "engine",
        Place::Host => "host",
    }
}

fn errors(all: &[Failure]) -> Value {
    let error = |it: &Failure| {
        json!({
            "subject": it.subject.to_string(),
            "message": it.message,
            "help": it.help,
            "origin": it.origin,
        })
    };
    all.iter().map(error).collect()
}
