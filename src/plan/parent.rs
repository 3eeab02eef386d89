//! Plans for interfaces of the host that links are on.

use crate::addr::IfName;
use crate::device::StackedKind;
use crate::plan::link::problem;
use crate::plan::{
    Change, Desired, Interface, Kind, Note, Ns, Observed, ParentSpec, Plan, Step, Subject, Vlan, making,
};

/// Appends the steps that make an interface if it is a VLAN, set it up, and connect it to its bridge.
///
/// One that exists is used as it is, whoever made it, because links of others may be on it too.
pub(super) fn plan_parent(
    plan: &mut Plan,
    desired: &Desired,
    observed: &Observed,
    name: &IfName,
    spec: &ParentSpec,
) {
    let ns = Ns::Host;
    let subject = Subject::Parent(name.clone());
    let have = observed.interface(&ns, name);
    let mut steps = Vec::new();
    // A VLAN can be up only while its parent is.
    if let Some(under) = spec.vlan.as_ref().map(|it| &it.parent)
        && observed.interface(&ns, under).is_some_and(|it| !it.up)
    {
        let change = Change { up: Some(true), ..Change::default() };
        steps.push(Step::SetInterface { ns: ns.clone(), name: under.clone(), change });
    }
    match (have, &spec.vlan) {
        (Some(have), Some(Vlan { parent, id })) => {
            let under = observed.interface(&ns, parent).map(|it| it.index);
            if have.kind != Kind::Stacked(StackedKind::Vlan { id: *id }) || have.link != under {
                let message = format!("interface `{name}` exists and is not VLAN {id} of `{parent}`");
                return plan.problems.push(problem(&subject, message));
            }
        }
        (Some(_), None) => {}
        (None, Some(Vlan { parent, id })) => {
            if observed.interface(&ns, parent).is_none() {
                let message = format!("interface `{parent}` does not exist ({ns})");
                return plan.problems.push(problem(&subject, message));
            }
            steps.push(Step::AddStacked {
                ns: ns.clone(),
                name: name.clone(),
                group: making(&desired.project),
                parent_ns: ns.clone(),
                parent: parent.clone(),
                kind: StackedKind::Vlan { id: *id },
                mac: None,
                mtu: None,
            });
        }
        (None, None) => {
            let message = format!("interface `{name}` does not exist ({ns})");
            return plan.problems.push(problem(&subject, message));
        }
    }
    let index = |it: &IfName| observed.interface(&ns, it).map(|it| it.index);
    let joined = |it: &IfName| have.is_some_and(|have| have.master.is_some() && have.master == index(it));
    let unfinished = |it: &Interface| it.alias.is_none() && it.group == making(&desired.project);
    let change = Change {
        master: spec.master.as_ref().filter(|it| !joined(it)).map(|it| Some(it.clone())),
        mark: have.is_none_or(unfinished).then(|| desired.mark("", name, Note::default())),
        up: have.is_none_or(|it| !it.up).then_some(true),
        ..Change::default()
    };
    if change != Change::default() {
        steps.push(Step::SetInterface { ns, name: name.clone(), change });
    }
    plan.push(subject, steps);
}
