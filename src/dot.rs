//! Diagrams of the network: a [`Diagram`] of the output of `--show-config`, and its output formats.
//!
//! [`read`] parses the diagram; [`graphviz`], [`graphviz_boxes`], [`mermaid`], [`d2`] and [`json`] write it as text,
//! [`svg`] and [`html`] draw it. Equal input gives equal bytes.

mod d2;
mod graphviz;
mod html;
mod json;
mod layout;
mod mermaid;
mod read;
mod replica;
mod svg;
mod text;

pub use d2::d2;
pub use graphviz::{graphviz, graphviz_boxes};
pub use html::html;
pub use json::json;
pub use mermaid::mermaid;
pub use read::{Problem, read};
pub use replica::Replicas;
pub use svg::svg;

/// A diagram: nodes, segments, and the links between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagram {
    /// Bridges by name, then interfaces of the host by name.
    pub segments: Vec<Segment>,
    /// Services, containers and remote hosts, each sorted by name.
    pub nodes: Vec<Node>,
    /// Sorted by node, then in the order of the configuration.
    pub links: Vec<Link>,
}

/// A bridge, or a parent interface of several links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub kind: SegmentKind,
    pub name: String,
    /// It is in the host's network namespace, not in the engine's.
    pub on_host: bool,
    pub facts: Vec<Fact>,
}

/// The type of a segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SegmentKind {
    /// A bridge, with its mode: `linux`, `ovs`, `patch`.
    Bridge { mode: String },
    /// An existing interface, such as a physical one.
    Device,
}

/// A service, container or remote host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub kind: NodeKind,
    pub name: String,
    /// The replica, from 1, if the replicas of the service are drawn separately.
    pub replica: Option<u32>,
    pub facts: Vec<Fact>,
}

/// The type of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeKind {
    Service,
    Container,
    /// The other end of a tunnel; its name is the address.
    Remote,
}

impl NodeKind {
    /// Its name in a diagram.
    pub fn word(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Container => "container",
            Self::Remote => "remote host",
        }
    }
}

impl Diagram {
    /// By segment: the links that it joins, if it is a cable. That is a patch with two ends, in two nodes.
    fn cables(&self) -> Vec<Option<[usize; 2]>> {
        let mut ends = vec![Vec::new(); self.segments.len()];
        for (at, link) in self.links.iter().enumerate() {
            link.segment.into_iter().for_each(|it| ends[it].push(at));
        }
        let cable = |(segment, ends): (&Segment, Vec<usize>)| match (&segment.kind, ends.as_slice()) {
            (SegmentKind::Bridge { mode }, [a, b])
                if mode == "patch" && self.links[*a].node != self.links[*b].node =>
            {
                Some([*a, *b])
            }
            _ => None,
        };
        self.segments.iter().zip(ends).map(cable).collect()
    }
}

impl Node {
    /// `service 'web'`, `service 'web' 2`, `container 'db'`, `remote host 192.0.2.1`.
    pub fn title(&self) -> String {
        match (self.kind, self.replica) {
            (NodeKind::Remote, _) => format!("{} {}", self.kind.word(), self.name),
            (_, Some(index)) => format!("{} '{}' {index}", self.kind.word(), self.name),
            (_, None) => format!("{} '{}'", self.kind.word(), self.name),
        }
    }

    /// `web`, `web 2`, `192.0.2.1`.
    pub fn short(&self) -> String {
        self.replica.map_or_else(|| self.name.clone(), |index| format!("{} {index}", self.name))
    }
}

impl Segment {
    /// `bridge lan (linux)`, `interface eth0`.
    pub fn title(&self) -> String {
        match &self.kind {
            SegmentKind::Bridge { mode } if mode.is_empty() => format!("bridge {}", self.name),
            SegmentKind::Bridge { mode } => format!("bridge {} ({mode})", self.name),
            SegmentKind::Device => format!("interface {}", self.name),
        }
    }

    fn is_bridge(&self) -> bool {
        matches!(self.kind, SegmentKind::Bridge { .. })
    }
}

/// An interface of a node, or a tunnel, with its segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// A unique and stable id: `web:eth0`.
    pub id: String,
    /// The index of its node.
    pub node: usize,
    /// The index of its segment; None for a dummy.
    pub segment: Option<usize>,
    /// The interface in the node; empty for the remote end of a tunnel.
    pub dev: String,
    /// The interface at the segment; empty if the link has none there.
    pub outer: String,
    /// `veth`, `vlan 5`, `macvlan bridge`, `vxlan 7`.
    pub kind: String,
    pub is_tunnel: bool,
    /// Addresses with prefix lengths, as in the configuration or for the replica.
    pub addrs: Vec<String>,
    /// Labels next to the line: impairments, forwards, translation.
    pub marks: Vec<String>,
    pub facts: Vec<Fact>,
}

/// A further property with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    pub name: String,
    pub values: Vec<String>,
}

/// `name: a, b`, one line per fact.
fn lines(facts: &[Fact]) -> impl Iterator<Item = String> + '_ {
    facts.iter().map(|it| format!("{}: {}", it.name, it.values.join(", ")))
}
