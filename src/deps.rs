//! Dependencies between modes: what each needs, the smallest set that fulfils a request, and its order.
//!
//! A node needs other nodes, or one of several, and may ask to come after a node that is there for other reasons.
//! The answer to a request is a smallest set that is closed under needs. Among sets of one size the alternative that is
//! written first decides, in the order in which alternatives are met: the request's, then breadth first through the
//! needs. It is given in an order where each node comes after what it needs. A set that has none, for a cycle, gives way
//! to one of the same size that has one; where all of that size have cycles it is an error, even if a larger set would
//! have an order: so the reference tool answers, and a mode tree means the same to both.

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

/// What a node or a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wants {
    Node(String),
    /// At least one of them.
    AnyOf(Vec<String>),
    /// To come after the node, should it be there.
    After(String),
}

/// As in a `deps` file.
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

/// What each node asks for. A name that is no key is a node that asks for nothing.
pub type Graph = BTreeMap<String, Vec<Dep>>;

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The chosen nodes, each after what it needs; where that leaves a choice, depth first in the order written.
    pub order: Vec<String>,
    /// For each node in the order in which they were met: what asked for it, None being the request; and the
    /// alternatives that it was chosen from, if there were any.
    pub why: Vec<Reason>,
}

/// Why a node was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub node: String,
    /// None is the request.
    pub by: Option<String>,
    pub wants: Wants,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// The chosen nodes cannot be put into an order. The first node of the cycle is there again as the last.
    #[error("Graph contains a cycle: {}", .0.join(" → "))]
    Cycle(Vec<String>),
    /// There was no time to prove which set is the smallest.
    #[error("the alternatives are too many to find the smallest set in time")]
    TooHard,
}

/// The smallest set for a request, in order. `stop` is asked every now and then whether time is up.
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
