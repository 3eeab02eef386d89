//! Parts of a problem that have nothing to do with each other: each is solved by itself, and once.

use crate::deps::bits::Bits;
use crate::deps::problem::Item;
use crate::deps::search::{OutOfTime, Search, State};

/// What is known of a part.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// The smallest choice.
    Best(Bits, usize),
    /// It takes at least that many nodes.
    AtLeast(usize),
}

/// Parts remembered at a time.
const MAX_PARTS: usize = 1 << 16;

impl Search<'_> {
    /// The open clauses in groups that no choice of one matters to another.
    pub(super) fn split(&self, state: &State) -> Vec<Vec<usize>> {
        let mut groups: Vec<usize> = (0..state.open.len()).collect();
        fn root(groups: &[usize], mut it: usize) -> usize {
            while groups[it] != it {
                it = groups[it];
            }
            it
        }
        let mut owner = vec![usize::MAX; self.problem.len()];
        for (idx, clause) in state.open.iter().enumerate() {
            let mut stack = self.problem.alternatives(*clause).to_vec();
            while let Some(node) = stack.pop() {
                if state.chosen.has(node) || !self.is_free(state, node) {
                    continue;
                }
                match owner[node] {
                    usize::MAX => {
                        owner[node] = idx;
                        for item in self.problem.items(node) {
                            match item {
                                Item::Needs(it) => stack.push(*it),
                                Item::AnyOf(it) if !self.is_fulfilled(state, *it) => {
                                    stack.extend(self.problem.alternatives(*it));
                                }
                                Item::AnyOf(_) | Item::After(_) => {}
                            }
                        }
                    }
                    other => {
                        let (a, b) = (root(&groups, other), root(&groups, idx));
                        groups[a.max(b)] = a.min(b);
                    }
                }
            }
        }
        let mut parts: Vec<(usize, Vec<usize>)> = Vec::new();
        for (idx, clause) in state.open.iter().enumerate() {
            let group = root(&groups, idx);
            match parts.iter_mut().find(|(it, _)| *it == group) {
                Some((_, part)) => part.push(*clause),
                None => parts.push((group, vec![*clause])),
            }
        }
        parts.into_iter().map(|(_, it)| it).collect()
    }

    pub(super) fn best_of_parts(
        &mut self,
        state: &State,
        parts: Vec<Vec<usize>>,
        bound: usize,
    ) -> Result<Option<(Bits, usize)>, OutOfTime> {
        let mut parts: Vec<(usize, State, Vec<usize>)> = parts
            .into_iter()
            .map(|open| {
                let part = State { open, ..state.clone() };
                let key = self.key(&part);
                let least = match self.parts.get(&key) {
                    Some(Part::Best(_, size)) => *size,
                    Some(Part::AtLeast(least)) => (*least).max(self.at_least(&part)),
                    None => self.at_least(&part),
                };
                (least, part, key)
            })
            .collect();
        parts.sort_by_key(|(least, part, _)| (part.open.len(), *least));
        let mut chosen = state.chosen.clone();
        let mut sum: usize = parts.iter().map(|(least, _, _)| least).sum();
        for (least, part, key) in parts {
            if state.count + sum >= bound {
                return Ok(None);
            }
            // What is left for this part when all others take no more than they must.
            let room = bound - (sum - least);
            let known = self.parts.get(&key).cloned();
            let (set, size) = match known {
                Some(Part::Best(set, size)) => (set, size),
                _ => match self.best(part, room, 0)? {
                    Some((mut set, size)) => {
                        set.remove_all(&state.chosen);
                        let size = size - state.count;
                        self.remember(key, Part::Best(set.clone(), size));
                        (set, size)
                    }
                    None => {
                        self.remember(key, Part::AtLeast(room.saturating_sub(state.count)));
                        return Ok(None);
                    }
                },
            };
            chosen.add_all(&set);
            sum = sum - least + size;
        }
        let size = state.count + sum;
        Ok((size < bound).then_some((chosen, size)))
    }

    fn remember(&mut self, key: Vec<usize>, part: Part) {
        if self.parts.len() >= MAX_PARTS {
            self.parts.clear();
        }
        self.parts.insert(key, part);
    }

    /// All that the solution of a part depends on: its clauses, open ones and those that may open, and the nodes that
    /// may be chosen.
    fn key(&self, state: &State) -> Vec<usize> {
        let mut seen = Bits::none(self.problem.len());
        let mut clauses: Vec<usize> = Vec::new();
        let mut stack: Vec<usize> = Vec::new();
        for clause in &state.open {
            stack.extend(self.problem.alternatives(*clause));
        }
        while let Some(node) = stack.pop() {
            if state.chosen.has(node) || !self.is_free(state, node) || !seen.insert(node) {
                continue;
            }
            for item in self.problem.items(node) {
                match item {
                    Item::Needs(it) => stack.push(*it),
                    Item::AnyOf(it) if !self.is_fulfilled(state, *it) => {
                        clauses.push(*it);
                        stack.extend(self.problem.alternatives(*it));
                    }
                    Item::AnyOf(_) | Item::After(_) => {}
                }
            }
        }
        clauses.sort_unstable();
        let mut key = state.open.clone();
        key.sort_unstable();
        key.push(usize::MAX);
        key.extend(clauses);
        key.push(usize::MAX);
        key.extend(seen.iter());
        key
    }
}
