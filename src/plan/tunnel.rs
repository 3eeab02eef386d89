//! Plans for tunnels.

use crate::netem::Netem;
use crate::network::Port;
use crate::plan::bridge::joining;
use crate::plan::netem::plan_netem;
use crate::plan::{
    Change, Desired, Interface, Kind, Note, Ns, Observed, Plan, Step, Subject, TunnelSpec, foreign, making,
};

/// Appends the steps that make a tunnel and connect it to its bridge.
pub(super) fn plan_tunnel(plan: &mut Plan, desired: &Desired, observed: &Observed, spec: &TunnelSpec) {
    let (ns, name) = (Ns::Bridges, &spec.name);
    let subject = Subject::Tunnel(name.clone());
    let netem = spec.netem.as_ref().and_then(Netem::hidden);
    let mark = desired.mark("", name, Note { netem, mtu: spec.mtu.is_some(), ..Note::default() });
    let present = observed.interface(&ns, name);
    if let Some(it) = present.filter(|it| !desired.owns(it, &mark)) {
        return plan.problems.push(foreign(subject, name, it.alias.as_deref(), &ns));
    }
    // The default MTU of a tunnel depends on the routes at its creation, so the tunnel is made again.
    let keeps_mtu = |it: &Interface| spec.mtu.is_some() || !it.note().mtu;
    let kept = present.filter(|it| it.kind == Kind::Tunnel(spec.options.clone()) && keeps_mtu(it));
    let mut steps = Vec::new();
    if kept.is_none() {
        steps.extend(present.map(|_| Step::DelInterface { ns: ns.clone(), name: name.clone() }));
        steps.push(Step::AddTunnel {
            ns: ns.clone(),
            name: name.clone(),
            group: making(&desired.project),
            underlay: spec.underlay.clone(),
            options: spec.options.clone(),
            mac: Some(spec.mac),
            mtu: spec.mtu,
        });
    }
    plan_netem(&mut steps, &ns, name, spec.netem.as_ref(), kept, &mark);
    let joining = joining(observed, &ns, name, &spec.attach, kept, &mark, &Port::default());
    steps.extend(joining.before);
    let unmarked = kept.is_none_or(|it| it.alias.as_deref() != Some(&mark));
    let change = Change {
        mac: kept.filter(|it| it.mac != Some(spec.mac)).map(|_| spec.mac),
        mtu: spec.mtu.filter(|mtu| kept.is_some_and(|it| it.mtu != *mtu)),
        master: joining.master,
        mark: unmarked.then_some(mark),
        up: kept.is_none_or(|it| !it.up).then_some(true),
        no_link_local: unmarked,
        ..Change::default()
    };
    if change != Change::default() {
        steps.push(Step::SetInterface { ns, name: name.clone(), change });
    }
    steps.extend(joining.after);
    plan.push(subject, steps);
}
