//! Dependencies between modes: finds the smallest set of modes that satisfies a request, and its order.
//!
//! A node needs other nodes, or one of several alternatives, and may come after a node without needing it. The answer to
//! a request is a smallest set that contains everything its nodes need. Among sets of the same size, the alternative
//! written first wins; alternatives are visited in the order of the request, then breadth first through the needs. In the
//! answer each node comes after the nodes that it needs. A set with a cycle loses to one of the same size without. If all
//! sets of that size have cycles, the answer is an error, even if a larger set has none, because the reference tool
//! answers so too.

mod bits;
mod order;
mod parse;
mod problem;
mod search;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

pub use parse::{parse, parse_json};

use problem::Problem;

/// A dependency of a node or a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wants {
    Node(String),
    /// At least one of them.
    AnyOf(Vec<String>),
    /// Come after the node if it is in the set.
    After(String),
}

/// Formats the dependency as in a `deps` file.
impl fmt::Display for Wants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => f.write_str(name),
            Self::AnyOf(names) => f.write_str(&names.join("|")),
            Self::After(name) => write!(f, "+{name}"),
        }
    }
}

/// One entry of a `deps` file or of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dep {
    pub wants: Wants,
    /// Bytes of the text; empty where the text is JSON.
    pub at: Range<usize>,
}

/// The dependencies of each node. A name without an entry has no dependencies.
pub type Graph = BTreeMap<String, Vec<Dep>>;

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The chosen nodes, each after the nodes it needs; otherwise depth first in the order written.
    pub order: Vec<String>,
    /// For each node in the order visited: the node that asked for it (None: the request), and the alternatives that it
    /// was chosen from, if any.
    pub why: Vec<Reason>,
}

/// Why a node was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub node: String,
    /// None: the request.
    pub by: Option<String>,
    pub wants: Wants,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// The chosen nodes have a cycle. Its first node is repeated at the end.
    #[error("Graph contains a cycle: {}", .0.join(" → "))]
    Cycle(Vec<String>),
    /// The time ran out before the smallest set was proven.
    #[error("the alternatives are too many to find the smallest set in time")]
    TooHard,
}

/// Finds the smallest set for a request, in order. Calls `stop` regularly to ask whether the time is up.
pub fn resolve(
    graph: &Graph,
    request: &[Dep],
    stop: &mut dyn FnMut() -> bool,
) -> Result<Resolution, Unresolved> {
    let (problem, names) = Problem::new(graph, request);
    let name = |it: &usize| names.get(*it).copied().unwrap_or_default().to_owned();
    let first = search::smallest(&problem, stop)?;
    let (answer, order) = match order::order(&problem, &first.nodes) {
        Some(order) => (first, order),
        None => {
            let other = search::smallest_with_order(&problem, first.nodes.len(), stop)?;
            let ordered = other.and_then(|it| order::order(&problem, &it.nodes).map(|order| (it, order)));
            ordered.ok_or_else(|| {
                Unresolved::Cycle(order::cycle(&problem, &first.nodes).iter().map(name).collect())
            })?
        }
    };
    let reason = |it: &search::Why| Reason {
        node: name(&it.node),
        by: (it.by != problem::REQUEST).then(|| name(&it.by)),
        wants: match &it.alternatives {
            Some(all) => Wants::AnyOf(all.iter().map(name).collect()),
            None => Wants::Node(name(&it.node)),
        },
    };
    Ok(Resolution { order: order.iter().map(name).collect(), why: answer.why.iter().map(reason).collect() })
}
