//! The network as a picture: a [`Diagram`] of what `--show-config` prints, and its forms.
//!
//! [`read`] makes the diagram; [`graphviz`], [`mermaid`], [`d2`] and [`json`] write it as text, [`svg`] and [`html`]
//! draw it. Equal input gives equal bytes.

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
pub use graphviz::graphviz;
pub use html::html;
pub use json::json;
pub use mermaid::mermaid;
pub use read::{Problem, read};
pub use replica::Replicas;
pub use svg::svg;

/// What is drawn: nodes, the segments they are joined to, and the links between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagram {
    /// Bridges by name, then interfaces of the host by name.
    pub segments: Vec<Segment>,
    /// Services, containers, remote hosts; each by name.
    pub nodes: Vec<Node>,
    /// By node, in the order of the configuration.
    pub links: Vec<Link>,
}

/// What several links may join: a broadcast domain, or an interface that others are made on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub kind: SegmentKind,
    pub name: String,
    /// In the host's own network namespace, not in that of the engine.
    pub on_host: bool,
    pub facts: Vec<Fact>,
}

/// What a segment is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SegmentKind {
    /// A bridge, with its mode: `linux`, `ovs`, `patch`.
    Bridge { mode: String },
    /// A physical or other interface that is there already.
    Device,
}

/// What has interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub kind: NodeKind,
    pub name: String,
    /// From 1, where the replicas of a service are drawn one by one.
    pub replica: Option<u32>,
    pub facts: Vec<Fact>,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeKind {
    Service,
    Container,
    /// The other end of a tunnel; its name is the address.
    Remote,
}

impl NodeKind {
    /// The word for it.
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

/// An interface of a node, or a tunnel, and what it is joined to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Unlike every other link's, and the same for equal input: `web:eth0`.
    pub id: String,
    /// Which of the nodes has it.
    pub node: usize,
    /// Which of the segments it joins; a dummy joins none.
    pub segment: Option<usize>,
    /// The interface in the node; empty for a tunnel's other end, which we know nothing of.
    pub dev: String,
    /// The interface at the segment; empty where the link has none of its own there.
    pub outer: String,
    /// `veth`, `vlan 5`, `macvlan bridge`, `vxlan 7`.
    pub kind: String,
    pub is_tunnel: bool,
    /// CIDRs as they were written, or as the replica has them.
    pub addrs: Vec<String>,
    /// What a picture shows beside the line: impairments, forwards, translation.
    pub marks: Vec<String>,
    pub facts: Vec<Fact>,
}

/// A property and its values, for a closer look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    pub name: String,
    pub values: Vec<String>,
}

/// `name: a, b`, one line a fact.
fn lines(facts: &[Fact]) -> impl Iterator<Item = String> + '_ {
    facts.iter().map(|it| format!("{}: {}", it.name, it.values.join(", ")))
}
