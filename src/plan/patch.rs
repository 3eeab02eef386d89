//! The part of the plan that is about patches: two ends that pass their frames to each other.

use crate::addr::IfName;
use crate::network::LinkKind;
use crate::plan::{Desired, Interface, Mark, Ns, Observed, Patch, Plan, Step, Subject, making};

pub(super) fn plan_patch(plan: &mut Plan, desired: &Desired, observed: &Observed, patch: &Patch) {
    let ns = Ns::Bridges;
    // An end whose link is refused is not there, and will not be.
    let refused = |end: &IfName| {
        desired.links.iter().any(|(_, link)| {
            matches!(&link.kind, LinkKind::Veth { outer, .. } if outer == end)
                && plan.problems.iter().any(|it| it.subject == Subject::Link(link.id.clone()))
        })
    };
    // An interface of that name that is somebody else's keeps its frames.
    let ours = |it: &Interface| match it.alias.as_deref() {
        Some(alias) => Mark::parse(alias).is_some_and(|it| it.project == desired.project),
        None => it.group == making(&desired.project),
    };
    let is_there = |end: &IfName| plan.makes_veth(end) || observed.interface(&ns, end).is_some_and(ours);
    let ends: Vec<&IfName> = patch.ends.iter().filter(|it| is_there(it) && !refused(it)).collect();
    let mut steps = Vec::new();
    for end in &ends {
        let other = match ends.as_slice() {
            [a, b] => Some(if a == end { *b } else { *a }),
            _ => None,
        };
        // An end that this plan makes anew has lost its filter with it.
        let kept = observed.interface(&ns, end).filter(|_| !plan.makes_veth(end));
        let target = other.filter(|it| !plan.makes_veth(it)).and_then(|it| observed.interface(&ns, it));
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
