//! Plans for impairments.

use crate::addr::IfName;
use crate::netem::Netem;
use crate::plan::{Interface, Mark, Ns, Qdisc, Step};

/// Appends the steps for the root queueing discipline of an interface. `mark` is the new alias of the interface, whose
/// note has the part of the impairment that the kernel does not report.
pub(super) fn plan_netem(
    steps: &mut Vec<Step>,
    ns: &Ns,
    name: &IfName,
    want: Option<&Netem>,
    kept: Option<&Interface>,
    mark: &str,
) {
    let have = kept.and_then(|it| it.qdisc.as_ref());
    let (ns, name) = (ns.clone(), name.clone());
    match (want, have) {
        (Some(want), Some(Qdisc::Netem { netem, .. })) => {
            let noted = |alias: &str| Mark::parse(alias).map(|it| it.note.netem);
            let known =
                kept.and_then(|it| noted(it.alias.as_deref()?)).is_some_and(|it| Some(it) == noted(mark));
            if !known || *netem != want.observable() {
                steps.push(Step::SetNetem { ns, name, netem: want.clone() });
            }
        }
        (Some(want), _) => steps.push(Step::AddNetem { ns, name, netem: want.clone() }),
        (None, Some(Qdisc::Netem { ours: true, .. })) => steps.push(Step::DelNetem { ns, name }),
        // A queueing discipline of another program stays.
        (None, _) => {}
    }
}
