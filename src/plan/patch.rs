//! The part of the plan that is about patches: two ends that pass their frames to each other.

use std::collections::BTreeSet;

use crate::addr::IfName;
use crate::network::LinkKind;
use crate::plan::{Desired, Interface, Mark, Ns, Observed, Patch, Plan, Step, Subject, making};

/// Appends what makes the ends of each patch pass their frames to each other.
pub(super) fn plan_patches(plan: &mut Plan, desired: &Desired, observed: &Observed) {
    if desired.patches.is_empty() {
        return;
    }
    let made = plan.made_outers();
    let problems = plan.refused();
    // An end whose link is refused is not there, and will not be.
    let refused: BTreeSet<&IfName> = desired
        .links
        .iter()
        .filter(|(_, link)| problems.contains(&Subject::Link(link.id.clone())))
        .filter_map(
            |(_, link)| if let LinkKind::Veth { outer, .. } = &link.kind { Some(outer) } else { None },
        )
        .collect();
    for patch in &desired.patches {
        plan_patch(plan, desired, observed, patch, &made, &refused);
    }
}

fn plan_patch(
    plan: &mut Plan,
    desired: &Desired,
    observed: &Observed,
    patch: &Patch,
    made: &BTreeSet<IfName>,
    refused: &BTreeSet<&IfName>,
) {
    let ns = Ns::Bridges;
    // An interface of that name that is somebody else's keeps its frames.
    let ours = |it: &Interface| match it.alias.as_deref() {
        Some(alias) => Mark::parse(alias).is_some_and(|it| it.project == desired.project),
        None => it.group == making(&desired.project),
    };
    let is_there = |end: &IfName| made.contains(end) || observed.interface(&ns, end).is_some_and(ours);
    let ends: Vec<&IfName> = patch.ends.iter().filter(|it| is_there(it) && !refused.contains(it)).collect();
    let mut steps = Vec::new();
    for end in &ends {
        let other = match ends.as_slice() {
            [a, b] => Some(if a == end { *b } else { *a }),
            _ => None,
        };
        // An end that this plan makes anew has lost its filter with it.
        let kept = observed.interface(&ns, end).filter(|_| !made.contains(*end));
        let target = other.filter(|it| !made.contains(*it)).and_then(|it| observed.interface(&ns, it));
        let present = kept.and_then(|it| it.redirect);
        if present.is_some() && present == target.map(|it| it.index) {
            continue;
        }
        if present.is_some() {
            steps.push(Step::DelRedirect { ns: ns.clone(), from: (*end).clone() });
        }
        if let Some(other) = other {
            steps.push(Step::AddRedirect { ns: ns.clone(), from: (*end).clone(), to: other.clone() });
        }
    }
    plan.push(Subject::Patch(patch.name.clone()), steps);
}
