//! The order of a chosen set, and the cycle of one that has none.

use crate::deps::bits::Bits;
use crate::deps::problem::{Item, Problem, REQUEST};

/// For each node of a set, by number, the nodes that come before it, in the order written.
type Edges = Vec<Vec<usize>>;

/// The nodes of a set, each after what it needs, or None if there is no such order. Every chosen alternative comes
/// before who named it, but for those that would close a cycle; one at least does. What that leaves open is depth first
/// in the order written.
pub(super) fn order(problem: &Problem, set: &Bits) -> Option<Vec<usize>> {
    let mut edges = all_edges(problem, set);
    if find_cycle(&edges, set).is_some() {
        let orderable = problem.orderable(set, |_| false);
        if orderable.len() < set.len() {
            return None;
        }
        let mut rank = vec![usize::MAX; problem.len()];
        for (idx, node) in orderable.into_iter().enumerate() {
            rank[node] = idx;
        }
        for (node, before) in edges.iter_mut().enumerate() {
            before.retain(|it| rank[*it] < rank[node]);
        }
    }
    Some(depth_first(&edges, REQUEST).into_iter().filter(|it| *it != REQUEST).collect())
}

/// A cycle of a set that has one, its first node again at its end: of needs alone, if there is one.
pub(super) fn cycle(problem: &Problem, set: &Bits) -> Vec<usize> {
    let mut edges = all_edges(problem, set);
    let mut hard = edges.clone();
    for (node, before) in hard.iter_mut().enumerate() {
        before.retain(|it| {
            problem
                .items(node)
                .iter()
                .any(|item| matches!(item, Item::Needs(to) | Item::After(to) if to == it))
        });
    }
    // A clause that a node outside of every cycle fulfils is no part of one.
    let mut placed = Bits::none(problem.len());
    problem.orderable(set, |_| false).into_iter().for_each(|it| {
        placed.insert(it);
    });
    let mut stuck = set.clone();
    stuck.remove_all(&placed);
    edges.iter_mut().for_each(|it| it.retain(|to| stuck.has(*to)));
    find_cycle(&hard, set)
        .or_else(|| find_cycle(&edges, &stuck))
        .or_else(|| find_cycle(&all_edges(problem, set), set))
        .unwrap_or_default()
}

fn all_edges(problem: &Problem, set: &Bits) -> Edges {
    let mut edges = vec![Vec::new(); problem.len()];
    for node in set.iter() {
        let before = &mut edges[node];
        for item in problem.items(node) {
            match item {
                Item::Needs(it) | Item::After(it) => before.push(*it),
                Item::AnyOf(clause) => before.extend(problem.alternatives(*clause)),
            }
        }
        before.retain(|it| set.has(*it));
    }
    edges
}

/// Nodes that lead to a start, each after those before it.
fn depth_first(edges: &Edges, start: usize) -> Vec<usize> {
    let mut seen = vec![false; edges.len()];
    let mut order = Vec::new();
    let mut stack = vec![(start, 0)];
    seen[start] = true;
    // No recursion: a chain of modes may be long.
    while let Some((node, done)) = stack.pop() {
        match edges[node].get(done) {
            None => order.push(node),
            Some(next) => {
                stack.push((node, done + 1));
                if !seen[*next] {
                    seen[*next] = true;
                    stack.push((*next, 0));
                }
            }
        }
    }
    order
}

/// The first cycle that a walk from the lowest number on meets.
fn find_cycle(edges: &Edges, set: &Bits) -> Option<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        OnPath,
        Done,
    }
    let mut states = vec![State::New; edges.len()];
    for start in set.iter() {
        if states[start] != State::New {
            continue;
        }
        let mut path = vec![(start, 0)];
        states[start] = State::OnPath;
        while let Some((node, done)) = path.pop() {
            let Some(next) = edges[node].get(done).copied() else {
                states[node] = State::Done;
                continue;
            };
            path.push((node, done + 1));
            match states[next] {
                State::Done => {}
                State::New => {
                    states[next] = State::OnPath;
                    path.push((next, 0));
                }
                State::OnPath => {
                    let from = path.iter().position(|(it, _)| *it == next).unwrap_or_default();
                    let mut cycle: Vec<usize> = path[from..].iter().map(|(it, _)| *it).collect();
                    cycle.push(next);
                    return Some(cycle);
                }
            }
        }
    }
    None
}
