//! The part of a graph that a request can reach, in numbers.

use std::collections::{HashMap, HashSet};

use crate::deps::bits::Bits;
use crate::deps::{Dep, Graph, Wants};

/// The node that stands for the request.
pub(super) const REQUEST: usize = 0;

/// What each node asks for. Nodes are numbered in the order in which they are met.
#[derive(Debug, Default)]
pub(super) struct Problem {
    pub(super) nodes: Vec<Node>,
    pub(super) clauses: Vec<Clause>,
}

#[derive(Debug, Default)]
pub(super) struct Node {
    /// In the order written.
    pub(super) items: Vec<Item>,
}

/// An entry of a `deps` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Needs(usize),
    /// Number of a clause.
    AnyOf(usize),
    After(usize),
}

/// Alternatives.
#[derive(Debug)]
pub(super) struct Clause {
    pub(super) owner: usize,
    /// At least two, each once.
    pub(super) alternatives: Vec<usize>,
}

impl Problem {
    /// The problem, and the name of each node; the request has an empty one.
    pub(super) fn new<'a>(graph: &'a Graph, request: &'a [Dep]) -> (Self, Vec<&'a str>) {
        let mut problem = Self::default();
        let mut names = vec![""];
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut afters: Vec<(usize, usize, &str)> = Vec::new();
        let mut next = 0;
        while next < names.len() {
            let name = names[next];
            let deps = if next == REQUEST { request } else { graph.get(name).map_or(&[][..], Vec::as_slice) };
            let mut number = |name: &'a str| {
                *numbers.entry(name).or_insert_with(|| {
                    names.push(name);
                    names.len() - 1
                })
            };
            let mut node = Node::default();
            for dep in deps {
                match &dep.wants {
                    Wants::Node(name) => node.items.push(Item::Needs(number(name))),
                    Wants::AnyOf(all) => {
                        let mut alternatives: Vec<usize> = Vec::new();
                        let mut seen = HashSet::new();
                        for it in all.iter().map(|it| number(it)) {
                            if seen.insert(it) {
                                alternatives.push(it);
                            }
                        }
                        node.items.push(match alternatives.as_slice() {
                            [] => continue,
                            [one] => Item::Needs(*one),
                            _ => Item::AnyOf(problem.clauses.len()),
                        });
                        if alternatives.len() > 1 {
                            problem.clauses.push(Clause { owner: next, alternatives });
                        }
                    }
                    // Where its place in the order written is: it counts only if the node turns out to be in reach.
                    Wants::After(name) => {
                        afters.push((next, node.items.len(), name));
                        node.items.push(Item::After(usize::MAX));
                    }
                }
            }
            problem.nodes.push(node);
            next += 1;
        }
        for (node, idx, name) in afters {
            if let Some(number) = numbers.get(name)
                && node != REQUEST
            {
                problem.nodes[node].items[idx] = Item::After(*number);
            }
        }
        for node in &mut problem.nodes {
            node.items.retain(|it| *it != Item::After(usize::MAX));
        }
        (problem, names)
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn items(&self, node: usize) -> &[Item] {
        self.nodes.get(node).map_or(&[], |it| &it.items)
    }

    pub(super) fn alternatives(&self, clause: usize) -> &[usize] {
        self.clauses.get(clause).map_or(&[], |it| &it.alternatives)
    }

    /// What a node cannot be without.
    pub(super) fn needs(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        self.items(node).iter().filter_map(|it| match it {
            Item::Needs(it) => Some(*it),
            Item::AnyOf(_) | Item::After(_) => None,
        })
    }

    pub(super) fn clauses(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        self.items(node).iter().filter_map(|it| match it {
            Item::AnyOf(it) => Some(*it),
            Item::Needs(_) | Item::After(_) => None,
        })
    }

    /// The nodes of a set that can be put into an order, from the first on: each after its needs, after the nodes
    /// of the set that it asks to be after, and after an alternative of each clause, but for
    /// those that `hope` says may yet be fulfilled.
    pub(super) fn orderable(&self, set: &Bits, hope: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut waits: HashMap<usize, usize> = HashMap::new();
        let mut freed_by: HashMap<usize, Vec<(usize, Option<usize>)>> = HashMap::new();
        let mut ready: Vec<usize> = Vec::new();
        for node in set.iter() {
            let mut count = 0;
            for item in self.items(node) {
                match *item {
                    Item::Needs(it) | Item::After(it) => {
                        if set.has(it) {
                            freed_by.entry(it).or_default().push((node, None));
                            count += 1;
                        }
                    }
                    Item::AnyOf(clause) if hope(clause) => {}
                    Item::AnyOf(clause) => {
                        let chosen = self.alternatives(clause).iter().filter(|it| set.has(**it));
                        chosen.for_each(|it| freed_by.entry(*it).or_default().push((node, Some(clause))));
                        count += 1;
                    }
                }
            }
            if count == 0 {
                ready.push(node);
            }
            waits.insert(node, count);
        }
        let mut order = Vec::new();
        let mut fulfilled: std::collections::HashSet<usize> = std::collections::HashSet::new();
        while let Some(node) = ready.pop() {
            order.push(node);
            for (freed, clause) in freed_by.remove(&node).unwrap_or_default() {
                if clause.is_some_and(|it| !fulfilled.insert(it)) {
                    continue;
                }
                if let Some(count) = waits.get_mut(&freed) {
                    *count -= 1;
                    if *count == 0 {
                        ready.push(freed);
                    }
                }
            }
        }
        order
    }
}
