//! What keeps the search small: how much is still to come at least, which alternatives need no look, and where to
//! branch.

use std::cmp::Reverse;

use crate::deps::bits::Bits;
use crate::deps::search::{Search, State};

impl Search<'_> {
    /// How many nodes the open clauses take at least: each needs one alternative with all that comes with it, and what
    /// counts for one clause does not count for another.
    pub(super) fn at_least(&self, state: &State) -> usize {
        let mut clauses: Vec<(usize, usize, Vec<usize>)> = Vec::new();
        for clause in &state.open {
            let all = self.problem.alternatives(*clause).iter().copied();
            let free: Vec<usize> = all.filter(|it| self.is_free(state, *it)).collect();
            let none = &state.chosen;
            let cost = free.iter().map(|it| self.must[*it].count_without(&state.chosen, none)).min();
            clauses.push((free.len(), cost.unwrap_or_default(), free));
        }
        clauses.sort_by_key(|(len, cost, _)| (*len, Reverse(*cost)));
        let mut used = Bits::none(self.problem.len());
        let mut sum = 0;
        for (_, _, free) in clauses {
            let mut costs: Vec<(usize, usize)> =
                free.iter().map(|it| (self.must[*it].count_without(&state.chosen, &used), *it)).collect();
            costs.sort_unstable();
            let Some((least, _)) = costs.first().copied() else { continue };
            if least == 0 {
                continue;
            }
            let mut mine = Bits::none(self.problem.len());
            for (_, it) in costs {
                let fresh = self.must[it].iter().filter(|it| !state.chosen.has(*it) && !used.has(*it));
                let (counted, free): (Vec<usize>, Vec<usize>) = fresh.partition(|it| mine.has(*it));
                let wanting = least.saturating_sub(counted.len());
                free.into_iter().take(wanting).for_each(|it| {
                    mine.insert(it);
                });
            }
            used.add_all(&mine);
            sum += least;
        }
        sum
    }

    /// Bans alternatives that another one can stand in for at no greater cost; was there one?
    pub(super) fn dominate(&self, state: &mut State) -> bool {
        let mut banned = false;
        for clause in state.open.clone() {
            let all = self.problem.alternatives(clause);
            for worse in all {
                if state.chosen.has(*worse) || !self.is_free(state, *worse) {
                    continue;
                }
                let stands_in = |better: &usize| {
                    better != worse
                        && self.is_free(state, *better)
                        && self.can_replace(state, *better, *worse)
                };
                if all.iter().any(stands_in) {
                    state.banned.insert(*worse);
                    banned = true;
                }
            }
        }
        banned
    }

    /// Is every set with `worse` and without `better` as good after an exchange of the two?
    fn can_replace(&self, state: &State, better: usize, worse: usize) -> bool {
        // Nobody else that may be chosen needs the worse one.
        let used = |it: &usize| !state.chosen.has(*it) && self.is_free(state, *it);
        if self.users[worse].iter().any(used) {
            return false;
        }
        // All that the better one brings is there with the worse one already, but for itself.
        let brings = |it: usize| it != better && !state.chosen.has(it) && !self.must[worse].has(it);
        if self.must[better].has(worse) || self.must[better].iter().any(brings) {
            return false;
        }
        // It asks for no more alternatives.
        let asks = |it: &usize| !self.is_fulfilled(state, *it);
        if self.problem.clauses(better).any(|it| asks(&it)) {
            return false;
        }
        // Every clause that the worse one could fulfil has the better one too.
        self.occurs[worse].iter().all(|it| {
            let clause = &self.problem.clauses[*it];
            let owner = clause.owner;
            let idle = !state.chosen.has(owner) && !self.is_free(state, owner);
            idle || self.is_fulfilled(state, *it) || owner == worse || clause.alternatives.contains(&better)
        })
    }

    /// The alternatives of the clause that leaves the least choice, the most promising first.
    pub(super) fn branch(&self, state: &State) -> Vec<usize> {
        let gain = |node: usize| {
            state
                .open
                .iter()
                .filter(|it| self.problem.alternatives(**it).iter().any(|it| self.must[node].has(*it)))
                .count()
        };
        let mut best = Vec::new();
        let mut best_key = (usize::MAX, Reverse(0));
        for clause in &state.open {
            let all = self.problem.alternatives(*clause).iter().copied();
            let free: Vec<usize> = all.filter(|it| self.is_free(state, *it)).collect();
            if free.len() > best_key.0 {
                continue;
            }
            let most = free.iter().map(|it| gain(*it)).max().unwrap_or_default();
            let key = (free.len(), Reverse(most));
            if key < best_key {
                (best, best_key) = (free, key);
            }
        }
        let cost = |it: usize| self.must[it].count_without(&state.chosen, &state.chosen);
        best.sort_by_key(|it| cost(*it).saturating_add(state.open.len()) - gain(*it));
        best
    }
}
