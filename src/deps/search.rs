//! The smallest set that fulfils a request: branch and bound, then the first of the smallest ones.

mod bound;
mod parts;

use std::collections::HashMap;

use crate::deps::Unresolved;
use crate::deps::bits::Bits;
use crate::deps::problem::{Item, Problem, REQUEST};

use parts::Part;

/// A smallest set.
#[derive(Debug)]
pub(super) struct Answer {
    /// With the request's node.
    pub(super) nodes: Bits,
    /// In the order met.
    pub(super) why: Vec<Why>,
}

/// Why a node is in the set.
#[derive(Debug)]
pub(super) struct Why {
    pub(super) node: usize,
    pub(super) by: usize,
    /// What it was chosen from.
    pub(super) alternatives: Option<Vec<usize>>,
}

/// More nodes than anyone has, and as much memory as a search may take: 128 MiB for the sets of what each needs.
const MAX_NODES: usize = 1 << 15;

/// The smallest set, of which the alternatives written first are taken.
pub(super) fn smallest(problem: &Problem, stop: &mut dyn FnMut() -> bool) -> Result<Answer, Unresolved> {
    if problem.clauses.is_empty() {
        let mut walk = Walk::new(problem);
        while walk.next(|_| None).is_some() {}
        return Ok(Answer { nodes: walk.seen, why: walk.why });
    }
    if problem.len() > MAX_NODES {
        return Err(Unresolved::TooHard);
    }
    let found = Search::new(problem, stop).first_smallest(problem.len());
    // All nodes together fulfil everything, so that there is a smallest set.
    found.map_err(|OutOfTime| Unresolved::TooHard)?.ok_or(Unresolved::TooHard)
}

/// As [`smallest`], of the sets of `size` nodes that have an order; None if none has.
pub(super) fn smallest_with_order(
    problem: &Problem,
    size: usize,
    stop: &mut dyn FnMut() -> bool,
) -> Result<Option<Answer>, Unresolved> {
    if problem.clauses.is_empty() {
        return Ok(None);
    }
    let mut search = Search { ordered: true, ..Search::new(problem, stop) };
    search.first_smallest(size).map_err(|OutOfTime| Unresolved::TooHard)
}

/// Choices in each other: more than a graph that can be solved has, and no danger to the stack.
const MAX_DEPTH: usize = 1000;

/// Meets nodes and alternatives in the order that decides among smallest sets: the request's, then breadth first,
/// but a chosen alternative at once.
struct Walk<'a> {
    problem: &'a Problem,
    queue: std::collections::VecDeque<(usize, Item)>,
    seen: Bits,
    why: Vec<Why>,
}

impl<'a> Walk<'a> {
    fn new(problem: &'a Problem) -> Self {
        let mut seen = Bits::none(problem.len());
        seen.insert(REQUEST);
        let queue = problem.items(REQUEST).iter().map(|it| (REQUEST, *it)).collect();
        Self { problem, queue, seen, why: Vec::new() }
    }

    /// Goes on by one entry; `pick` chooses among alternatives. None at the end.
    fn next(&mut self, pick: impl FnOnce(usize) -> Option<usize>) -> Option<()> {
        let (by, item) = self.queue.pop_front()?;
        let (node, alternatives) = match item {
            Item::Needs(node) => (Some(node), None),
            Item::AnyOf(clause) => (pick(clause), Some(self.problem.alternatives(clause).to_vec())),
            Item::After(_) => (None, None),
        };
        if let Some(node) = node
            && self.seen.insert(node)
        {
            self.queue.extend(self.problem.items(node).iter().map(|it| (node, *it)));
            self.why.push(Why { node, by, alternatives });
        }
        Some(())
    }
}

/// The time given is over.
struct OutOfTime;

/// A part of the way to a set.
#[derive(Clone, Debug)]
struct State {
    /// Closed under what they need.
    chosen: Bits,
    /// How many are chosen.
    count: usize,
    /// Not in the set, as another branch has those that are.
    banned: Bits,
    /// Clauses of chosen nodes that no chosen node fulfils as yet.
    open: Vec<usize>,
}

struct Search<'a> {
    problem: &'a Problem,
    /// For each node, itself and what is in every set that it is in.
    must: Vec<Bits>,
    /// The clauses that each node is an alternative of.
    occurs: Vec<Vec<usize>>,
    /// The nodes that need each node.
    users: Vec<Vec<usize>>,
    stop: &'a mut dyn FnMut() -> bool,
    /// Only sets that have an order count.
    ordered: bool,
    /// How many choices deep the search is.
    depth: usize,
    /// Solutions of parts that have nothing to do with each other.
    parts: HashMap<Vec<usize>, Part>,
}

impl<'a> Search<'a> {
    fn new(problem: &'a Problem, stop: &'a mut dyn FnMut() -> bool) -> Self {
        let mut occurs = vec![Vec::new(); problem.len()];
        for (number, clause) in problem.clauses.iter().enumerate() {
            clause.alternatives.iter().for_each(|it| occurs[*it].push(number));
        }
        let mut users = vec![Vec::new(); problem.len()];
        for node in 0..problem.len() {
            problem.needs(node).for_each(|it| users[it].push(node));
        }
        let must = must(problem);
        Self { problem, must, occurs, users, stop, ordered: false, depth: 0, parts: HashMap::new() }
    }

    /// The smallest set of at most so many nodes whose alternatives are those written first, in the order in which they
    /// are met.
    ///
    /// Nothing is enumerated: an alternative written before that of a known smallest set is taken if some smallest set
    /// goes on from it, which the search for one tells.
    fn first_smallest(&mut self, most: usize) -> Result<Option<Answer>, OutOfTime> {
        let mut state = State {
            chosen: Bits::none(self.problem.len()),
            count: 0,
            banned: Bits::none(self.problem.len()),
            open: Vec::new(),
        };
        self.take(&mut state, REQUEST);
        let Some((mut witness, size)) = self.best(state.clone(), most + 1, 0)? else { return Ok(None) };
        let mut walk = Walk::new(self.problem);
        let mut result = Ok(());
        while walk
            .next(|clause| {
                for it in self.problem.alternatives(clause) {
                    if witness.has(*it) {
                        self.take(&mut state, *it);
                        return Some(*it);
                    }
                    let mut with = state.clone();
                    if !self.take(&mut with, *it) {
                        continue;
                    }
                    match self.best(with.clone(), size + 1, size) {
                        Ok(Some((other, _))) => {
                            witness = other;
                            state = with;
                            return Some(*it);
                        }
                        Ok(None) => {}
                        Err(it) => result = Err(it),
                    }
                }
                None
            })
            .is_some()
        {
            if result.is_err() {
                break;
            }
        }
        result?;
        Ok(Some(Answer { nodes: witness, why: walk.why }))
    }

    /// Chooses a node with all that comes with it; false where that is banned.
    fn take(&self, state: &mut State, node: usize) -> bool {
        if state.chosen.has(node) {
            return true;
        }
        let all = &self.must[node];
        if all.meets(&state.banned) {
            return false;
        }
        for it in all.iter() {
            if state.chosen.insert(it) {
                state.count += 1;
                state.open.extend(self.problem.clauses(it));
            }
        }
        true
    }

    /// Can it still be in the set?
    fn is_free(&self, state: &State, node: usize) -> bool {
        !self.must[node].meets(&state.banned)
    }

    fn is_fulfilled(&self, state: &State, clause: usize) -> bool {
        self.problem.alternatives(clause).iter().any(|it| state.chosen.has(*it))
    }

    /// Takes what every choice would; false where there is no choice left.
    fn settle(&self, state: &mut State) -> bool {
        loop {
            let before = state.count;
            let mut open = std::mem::take(&mut state.open);
            open.sort_unstable();
            open.dedup();
            open.retain(|it| !self.is_fulfilled(state, *it));
            for clause in &open {
                if self.is_fulfilled(state, *clause) {
                    continue;
                }
                let mut all =
                    self.problem.alternatives(*clause).iter().filter(|it| self.is_free(state, **it));
                let Some(first) = all.next() else { return false };
                let mut common = self.must[*first].clone();
                all.for_each(|it| common.keep(&self.must[*it]));
                common.remove_all(&state.chosen);
                for it in common.iter() {
                    if !self.take(state, it) {
                        return false;
                    }
                }
            }
            state.open.extend(open);
            if state.count == before {
                return true;
            }
        }
    }

    /// The smallest set that goes on from `state` with fewer than `bound` nodes; any set of `enough` nodes will do.
    fn best(
        &mut self,
        state: State,
        bound: usize,
        enough: usize,
    ) -> Result<Option<(Bits, usize)>, OutOfTime> {
        if self.depth > MAX_DEPTH || (self.stop)() {
            return Err(OutOfTime);
        }
        self.depth += 1;
        let found = self.best_here(state, bound, enough);
        self.depth -= 1;
        found
    }

    fn best_here(
        &mut self,
        mut state: State,
        mut bound: usize,
        enough: usize,
    ) -> Result<Option<(Bits, usize)>, OutOfTime> {
        if !self.settle(&mut state) {
            return Ok(None);
        }
        // An alternative that stands in for another need not do so in the order.
        while !self.ordered && self.dominate(&mut state) {
            if !self.settle(&mut state) {
                return Ok(None);
            }
        }
        state.open.retain(|it| !self.problem.alternatives(*it).iter().any(|it| state.chosen.has(*it)));
        if state.count >= bound {
            return Ok(None);
        }
        let mut choice = Vec::new();
        if self.ordered {
            if !self.may_have_order(&state) {
                return Ok(None);
            }
            if state.open.is_empty() {
                choice = self.cures(&state);
            }
        }
        if state.open.is_empty() && choice.is_empty() {
            return Ok(Some((state.chosen, state.count)));
        }
        let least = state.count + self.at_least(&state);
        if least >= bound {
            return Ok(None);
        }
        let enough = enough.max(least);
        // An order is of the whole, not of parts.
        if !self.ordered && state.open.len() > 1 {
            let parts = self.split(&state);
            if parts.len() > 1 {
                return self.best_of_parts(&state, parts, bound);
            }
        }
        if choice.is_empty() {
            choice = self.branch(&state);
        }
        let mut best = None;
        for node in choice {
            let mut next = state.clone();
            if self.take(&mut next, node)
                && let Some((set, size)) = self.best(next, bound, enough)?
            {
                best = Some((set, size));
                bound = size;
                if size <= enough {
                    break;
                }
            }
            // Sets with this node have been looked at.
            state.banned.insert(node);
        }
        Ok(best)
    }

    /// Could what is chosen be put into an order, if alternatives that may yet be chosen were there already?
    fn may_have_order(&self, state: &State) -> bool {
        let hope = |clause: usize| {
            let all = self.problem.alternatives(clause);
            all.iter().any(|it| !state.chosen.has(*it) && self.is_free(state, *it))
        };
        self.problem.orderable(&state.chosen, hope).len() == state.count
    }

    /// A set that fulfils everything and has no order needs one of these: alternatives for nodes that wait for
    /// themselves. None where it has an order.
    fn cures(&self, state: &State) -> Vec<usize> {
        let mut placed = Bits::none(self.problem.len());
        self.problem.orderable(&state.chosen, |_| false).into_iter().for_each(|it| {
            placed.insert(it);
        });
        let mut stuck = state.chosen.clone();
        stuck.remove_all(&placed);
        let mut cures = Bits::none(self.problem.len());
        for clause in stuck.iter().flat_map(|it| self.problem.clauses(it)) {
            let all = self.problem.alternatives(clause);
            if !all.iter().any(|it| placed.has(*it)) {
                let free = all.iter().filter(|it| !state.chosen.has(**it) && self.is_free(state, **it));
                free.for_each(|it| {
                    cures.insert(*it);
                });
            }
        }
        cures.iter().collect()
    }
}

/// For each node, itself and what is in every set that it is in.
fn must(problem: &Problem) -> Vec<Bits> {
    let mut must: Vec<Bits> = (0..problem.len())
        .map(|it| {
            let mut own = Bits::none(problem.len());
            own.insert(it);
            own
        })
        .collect();
    // Numbers rise from who needs to what is needed, mostly: few rounds from the end are enough.
    let mut grown = true;
    while grown {
        grown = false;
        for node in (0..problem.len()).rev() {
            let mut own = std::mem::replace(&mut must[node], Bits::none(0));
            for item in problem.items(node) {
                match item {
                    Item::Needs(it) => grown |= *it != node && own.add_all(&must[*it]),
                    Item::AnyOf(clause) => {
                        let all = problem.alternatives(*clause);
                        // A node that is its own alternative adds nothing to what it must have.
                        if !all.contains(&node) {
                            let mut common = must[all[0]].clone();
                            all.iter().for_each(|it| common.keep(&must[*it]));
                            grown |= own.add_all(&common);
                        }
                    }
                    Item::After(_) => {}
                }
            }
            must[node] = own;
        }
    }
    must
}
