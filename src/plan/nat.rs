//! Plans for address translation inside containers.

use std::collections::{BTreeMap, BTreeSet};

use crate::nat::{NatAction, NatRule};
use crate::network::Link;
use crate::plan::{Desired, Mark, Note, Ns, Observed, Plan, Space, Step, Subject};

impl Desired {
    /// The mark on a link's rules: that of its interface, which is never too long for a rule.
    pub(super) fn rule_mark(&self, container: &str, dev: &crate::addr::IfName) -> String {
        self.mark(container, dev, Note::default())
    }

    /// The rules for `nat` of a link. Packets that arrive are sent to the address; packets that leave come from the
    /// link's first address of the same family.
    pub(super) fn nat_rules(&self, link: &Link) -> Vec<NatRule> {
        let Some(to) = link.nat else { return Vec::new() };
        let mark = self.rule_mark(&link.id.container, &link.id.dev);
        let dev = &link.id.dev;
        let rule = |action| NatRule { mark: mark.clone(), action };
        let from = link.addrs.iter().map(|it| it.addr()).find(|it| it.is_ipv4() == to.is_ipv4());
        let mut rules = vec![rule(NatAction::Dnat { dev: dev.clone(), to })];
        rules.extend(from.map(|from| rule(NatAction::Snat { dev: dev.clone(), from })));
        rules
    }
}

/// Appends the step that sets the rules in the link's namespace.
pub(super) fn plan_nat(steps: &mut Vec<Step>, ns: &Ns, desired: &Desired, link: &Link, space: &Space) {
    let want = desired.nat_rules(link);
    let mark = desired.rule_mark(&link.id.container, &link.id.dev);
    // Where bridges live its forwarded ports have rules of the same mark.
    let have = |it: &&NatRule| it.mark == mark && it.action.is_forward() != Some(true);
    steps.extend(change(ns, &want, space.nat.iter().filter(have)));
}

/// The step from the rules that are there to those that are wanted; None when they are the same.
pub(super) fn change<'a>(
    ns: &Ns,
    want: &[NatRule],
    have: impl Iterator<Item = &'a NatRule> + Clone,
) -> Option<Step> {
    let wanted: BTreeSet<&NatRule> = want.iter().collect();
    let present: BTreeSet<&NatRule> = have.clone().collect();
    let del: Vec<NatRule> = have.filter(|it| !wanted.contains(it)).cloned().collect();
    let add: Vec<NatRule> = want.iter().filter(|it| !present.contains(it)).cloned().collect();
    (!del.is_empty() || !add.is_empty()).then(|| Step::SetNat { ns: ns.clone(), del, add })
}

/// Removes rules in containers of links that are no longer configured.
pub(super) fn plan_leftovers(plan: &mut Plan, desired: &Desired, observed: &Observed) {
    let links = desired.links_by_container();
    for (ns, space) in &observed.spaces {
        let Ns::Container(id) = ns else { continue };
        if space.nat.is_empty() {
            continue;
        }
        let links = links.get(id).into_iter().flatten();
        let wanted: BTreeSet<String> =
            links.map(|it| desired.rule_mark(&it.id.container, &it.id.dev)).collect();
        let stale = |it: &&NatRule| {
            !wanted.contains(&it.mark) && Mark::parse(&it.mark).is_some_and(|mark| desired.covers(&mark))
        };
        let mut by_mark: BTreeMap<&str, Vec<&NatRule>> = BTreeMap::new();
        for rule in space.nat.iter().filter(stale) {
            by_mark.entry(&rule.mark).or_default().push(rule);
        }
        for (mark, rules) in by_mark {
            let step = change(ns, &[], rules.into_iter());
            let container = Mark::parse(mark).map(|it| it.container).unwrap_or_default();
            plan.push(Subject::Container(container), step.into_iter().collect());
        }
    }
}
