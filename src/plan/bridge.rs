//! Plans for bridges, of the kernel and of Open vSwitch.

use std::collections::{BTreeMap, BTreeSet};

use crate::addr::IfName;
use crate::device::BridgeOptions;
use crate::network::{Attach, LinkKind, Place, Port};
use crate::plan::{
    BridgeSpec, Change, Desired, Interface, Kind, Mark, Note, Ns, Observed, OvsBridge, OvsError, Plan,
    Problem, Scope, Step, Subject, foreign, making,
};

pub(super) fn plan_bridge(
    plan: &mut Plan,
    desired: &Desired,
    observed: &Observed,
    ns: Ns,
    name: &IfName,
    spec: &BridgeSpec,
) {
    if spec.ovs {
        // While Open vSwitch does not answer, its bridges are neither made nor removed: `plan_unknown` reports them.
        if observed.ovs_error.is_none() {
            plan_ovs_bridge(plan, desired, observed, name);
        }
        return;
    }
    let subject = Subject::Bridge(name.to_string());
    let mark = desired.mark("", name, Note::default());
    let del = Step::DelInterface { ns: ns.clone(), name: name.clone() };
    let add = Step::AddBridge {
        ns: ns.clone(),
        name: name.clone(),
        group: making(&desired.project),
        mark: mark.clone(),
        options: spec.options.clone(),
    };
    let ovs = observed.ovs.get(name).filter(|_| ns == Ns::Bridges);
    if ovs.is_some_and(|it| is_ours(desired, it)) {
        // It was an Open vSwitch bridge with the same ports before. This one may have been made while that was unknown.
        let is_made = |it: &Interface| desired.owns(it, &mark) && matches!(it.kind, Kind::Bridge(_));
        let mut steps = vec![Step::DelOvsBridge { name: name.clone() }];
        if !observed.interface(&ns, name).is_some_and(is_made) {
            steps.push(add);
        }
        return plan.push(subject, steps);
    }
    let Some(interface) = observed.interface(&ns, name) else {
        return plan.push(subject, vec![add]);
    };
    if !desired.owns(interface, &mark) {
        if !(spec.join_foreign && matches!(interface.kind, Kind::Bridge(_))) {
            plan.problems.push(foreign(subject, name, interface.alias.as_deref(), &ns));
        }
        return;
    }
    let Kind::Bridge(options) = &interface.kind else {
        return plan.push(subject, vec![del, add]);
    };
    let mut steps = Vec::new();
    let missing = spec.options.completed(options).missing_in(options, interface.mtu);
    if missing != BridgeOptions::default() {
        steps.push(Step::SetBridge { ns: ns.clone(), name: name.clone(), options: missing });
    }
    let change = Change {
        mark: (interface.alias.as_deref() != Some(&mark)).then_some(mark),
        up: (!interface.up).then_some(true),
        ..Change::default()
    };
    if change != Change::default() {
        steps.push(Step::SetInterface { ns, name: name.clone(), change });
    }
    plan.push(subject, steps);
}

impl BridgeOptions {
    /// Adds the kernel's defaults for options that are not configured (`br_stp_timer_init()` and `br_dev_setup()` in
    /// net/bridge), so that an option that was removed from the configuration is reset. The MTU is not reset.
    fn completed(&self, observed: &Self) -> Self {
        fn or<T: Clone>(want: &Option<T>, have: &Option<T>, default: T) -> Option<T> {
            want.clone().or(have.as_ref().map(|_| default))
        }
        Self {
            stp: or(&self.stp, &observed.stp, false),
            vlan_filtering: or(&self.vlan_filtering, &observed.vlan_filtering, false),
            mcast_snooping: or(&self.mcast_snooping, &observed.mcast_snooping, true),
            group_fwd_mask: or(&self.group_fwd_mask, &observed.group_fwd_mask, 0),
            mtu: self.mtu,
            ageing_time: or(&self.ageing_time, &observed.ageing_time, 300),
            forward_delay: or(&self.forward_delay, &observed.forward_delay, 15),
        }
    }

    /// The configured options that differ from `observed`; the others are None.
    fn missing_in(&self, observed: &Self, mtu: u32) -> Self {
        fn differs<T: PartialEq + Clone>(want: &Option<T>, have: &Option<T>) -> Option<T> {
            want.clone().filter(|_| want != have)
        }
        Self {
            stp: differs(&self.stp, &observed.stp),
            vlan_filtering: differs(&self.vlan_filtering, &observed.vlan_filtering),
            mcast_snooping: differs(&self.mcast_snooping, &observed.mcast_snooping),
            group_fwd_mask: differs(&self.group_fwd_mask, &observed.group_fwd_mask),
            mtu: differs(&self.mtu, &Some(mtu)),
            ageing_time: differs(&self.ageing_time, &observed.ageing_time),
            forward_delay: differs(&self.forward_delay, &observed.forward_delay),
        }
    }

    /// The configured options with the values of `observed`.
    pub(super) fn restored(&self, observed: &Self, mtu: u32) -> Self {
        Self {
            stp: self.stp.and(observed.stp),
            vlan_filtering: self.vlan_filtering.and(observed.vlan_filtering),
            mcast_snooping: self.mcast_snooping.and(observed.mcast_snooping),
            group_fwd_mask: self.group_fwd_mask.and(observed.group_fwd_mask),
            mtu: self.mtu.map(|_| mtu),
            ageing_time: self.ageing_time.and(observed.ageing_time),
            forward_delay: self.forward_delay.and(observed.forward_delay),
        }
    }
}

/// Returns the leftover bridges that have no ports of others. A bridge with ports of another project is handed over to
/// that project; one with other foreign ports stays.
pub(super) fn plan_shared<'a>(
    plan: &mut Plan,
    desired: &Desired,
    observed: &'a Observed,
    bridges: Vec<(&'a Ns, &'a IfName, &'a Interface)>,
) -> Vec<(&'a Ns, &'a IfName, &'a Interface)> {
    let mut ports: BTreeMap<(&Ns, u32), Vec<&Interface>> = BTreeMap::new();
    for (ns, space) in observed.spaces.iter().filter(|_| !bridges.is_empty()) {
        for (master, port) in space.interfaces.values().filter_map(|it| Some((it.master?, it))) {
            ports.entry((ns, master)).or_default().push(port);
        }
    }
    let mut alone = Vec::new();
    for (ns, name, bridge) in bridges {
        let is_ours = |it: &Interface| match it.alias.as_deref() {
            Some(alias) => Mark::parse(alias).is_some_and(|it| it.project == desired.project),
            None => it.group == making(&desired.project),
        };
        let others: Vec<&Interface> = ports
            .remove(&(ns, bridge.index))
            .unwrap_or_default()
            .into_iter()
            .filter(|it| !is_ours(it))
            .collect();
        if others.is_empty() {
            alone.push((ns, name, bridge));
            continue;
        }
        let mut marks = others.into_iter().filter_map(|it| Mark::parse(it.alias.as_deref()?));
        if let Some(heir) = marks.find(|it| it.project != desired.project) {
            let mark =
                Mark { container: String::new(), name: name.to_string(), note: Note::default(), ..heir };
            let change = Change { mark: Some(mark.to_string()), ..Change::default() };
            let step = Step::SetInterface { ns: ns.clone(), name: name.clone(), change };
            plan.push(Subject::Leftover(name.clone()), vec![step]);
        }
    }
    alone
}

fn plan_ovs_bridge(plan: &mut Plan, desired: &Desired, observed: &Observed, name: &IfName) {
    let subject = Subject::Bridge(name.to_string());
    let mark = desired.mark("", name, Note::default());
    let interface = observed.interface(&Ns::Bridges, name);
    let mut steps = Vec::new();
    match observed.ovs.get(name) {
        Some(bridge) if bridge.mark.as_deref() == Some(&mark) => {}
        Some(_) => {
            let message =
                format!("an Open vSwitch bridge `{name}` already exists and was not made by conlink");
            plan.problems.push(Problem {
                subject,
                message,
                help: Some("conlink does not change it: remove it, or use another name".to_owned()),
                origin: None,
            });
            return;
        }
        None => {
            match interface {
                // It was a Linux bridge before.
                Some(it) if desired.owns(it, &mark) => {
                    steps.push(Step::DelInterface { ns: Ns::Bridges, name: name.clone() });
                }
                Some(it) => {
                    return plan.problems.push(foreign(subject, name, it.alias.as_deref(), &Ns::Bridges));
                }
                None => {}
            }
            steps.push(Step::AddOvsBridge { name: name.clone(), mark });
        }
    }
    let made = !steps.is_empty();
    // If the switch has made no interface for the bridge, it does not exist yet.
    if made || interface.is_none_or(|it| !it.up) {
        let change = Change { up: Some(true), no_link_local: true, ..Change::default() };
        steps.push(Step::SetInterface { ns: Ns::Bridges, name: name.clone(), change });
    }
    plan.push(subject, steps);
}

/// Reports everything that depends on Open vSwitch bridges while they are unknown.
pub(super) fn plan_unknown(plan: &mut Plan, desired: &Desired, error: &OvsError) {
    let OvsError { message, help } = error;
    let mut report = |subject: Subject, message: String| {
        plan.problems.push(Problem { subject, message, help: help.clone(), origin: None });
    };
    for ((_, name), _) in desired.bridges.iter().filter(|(_, it)| it.ovs) {
        report(Subject::Bridge(name.to_string()), message.clone());
    }
    for tunnel in &desired.tunnels {
        if let Attach::Ovs(bridge) = &tunnel.attach {
            report(Subject::Tunnel(tunnel.name.clone()), format!("bridge {bridge}: {message}"));
        }
    }
    for (_, link) in &desired.links {
        if let LinkKind::Veth { attach: Attach::Ovs(bridge), .. } = &link.kind {
            report(Subject::Link(link.id.clone()), format!("bridge {bridge}: {message}"));
        }
    }
    if matches!(desired.scope, Scope::Project { .. }) && !desired.bridges.values().any(|it| it.ovs) {
        report(Subject::Leftovers, format!("bridges of Open vSwitch: {message}"));
    }
}

/// Removes ports of links and tunnels that are no longer configured, except on bridges that are removed themselves.
pub(super) fn plan_ovs_leftover_ports(plan: &mut Plan, desired: &Desired, observed: &Observed) {
    let mut wanted: BTreeSet<(&IfName, &IfName)> = BTreeSet::new();
    for (_, link) in &desired.links {
        if let LinkKind::Veth { outer, attach: Attach::Ovs(bridge), .. } = &link.kind {
            wanted.insert((bridge, outer));
        }
    }
    for tunnel in &desired.tunnels {
        if let Attach::Ovs(bridge) = &tunnel.attach {
            wanted.insert((bridge, &tunnel.name));
        }
    }
    for (bridge, it) in &observed.ovs {
        for (port, mark) in &it.ports {
            let keep = match &desired.scope {
                Scope::Project { keep, .. } => keep.contains(&(Place::Engine, port.clone())),
                Scope::Containers { .. } => false,
            };
            let may = mark.as_deref().and_then(Mark::parse).is_some_and(|it| desired.covers(&it)) && !keep;
            if may && !wanted.contains(&(bridge, port)) {
                let step = Step::DelOvsPort { bridge: bridge.clone(), port: port.clone() };
                plan.push(Subject::Leftover(port.clone()), vec![step]);
            }
        }
    }
}

/// Removes bridges of ours that are no longer configured.
pub(super) fn plan_ovs_leftover_bridges(plan: &mut Plan, desired: &Desired, observed: &Observed) {
    if matches!(desired.scope, Scope::Containers { .. }) {
        return;
    }
    for (name, _) in observed.ovs.iter().filter(|(_, it)| is_ours(desired, it)) {
        if !desired.bridges.contains_key(&(Place::Engine, name.clone())) {
            plan.push(Subject::Leftover(name.clone()), vec![Step::DelOvsBridge { name: name.clone() }]);
        }
    }
}

pub(super) fn is_ours(desired: &Desired, bridge: &OvsBridge) -> bool {
    bridge.mark.as_deref().and_then(Mark::parse).is_some_and(|it| it.project == desired.project)
}

/// How an end is connected to its bridge and disconnected from an earlier one: the steps before the change of the end
/// itself, the new master in that change, and the steps after it.
pub(super) struct Joining {
    pub before: Vec<Step>,
    /// As [`Change::master`].
    pub master: Option<Option<IfName>>,
    pub after: Vec<Step>,
}

pub(super) fn joining(
    observed: &Observed,
    ns: &Ns,
    end: &IfName,
    attach: &Attach,
    kept: Option<&Interface>,
    mark: &str,
    port: &Port,
) -> Joining {
    let mut it = Joining { before: Vec::new(), master: None, after: Vec::new() };
    // Without Open vSwitch there are no such bridges.
    let present =
        observed.ovs.iter().find(|(_, bridge)| bridge.ports.contains_key(end)).map(|(name, _)| name);
    let wanted = if let Attach::Ovs(bridge) = attach { Some(bridge) } else { None };
    let is_retagged = kept.is_some_and(|it| it.note().vlan != port.vlan);
    let unused = |it: &IfName| observed.ovs.get(it).is_none_or(|it| it.unused.contains(end));
    // For an end that is made again, the switch has a port for an earlier interface of that name, which its userspace
    // datapath keeps using.
    if *ns == Ns::Bridges
        && let Some(present) =
            present.filter(|it| Some(*it) != wanted || kept.is_none() || is_retagged || unused(it))
    {
        it.before.push(Step::DelOvsPort { bridge: present.clone(), port: end.clone() });
    }
    match attach {
        Attach::Bridge(bridge) => {
            if kept.is_some_and(|it| it.redirect.is_some()) {
                // The bridge was a patch before.
                it.before.push(Step::DelRedirect { ns: ns.clone(), from: end.clone() });
            }
            let index = observed.interface(ns, bridge).map(|it| it.index);
            if kept.is_none_or(|it| it.master.is_none() || it.master != index) {
                it.master = Some(Some(bridge.clone()));
            }
        }
        Attach::Patch(_) => {
            if kept.is_some_and(|it| it.master.is_some()) && present.is_none() {
                it.master = Some(None);
            }
        }
        // It is unknown whether it is a port, so it is not changed.
        Attach::Ovs(_) if observed.ovs_error.is_some() => {}
        Attach::Ovs(bridge) => {
            if kept.is_some_and(|it| it.redirect.is_some()) {
                it.before.push(Step::DelRedirect { ns: ns.clone(), from: end.clone() });
            }
            if present != Some(bridge) || kept.is_none() || is_retagged || unused(bridge) {
                if kept.is_some_and(|it| it.master.is_some()) && present.is_none() {
                    it.master = Some(None);
                }
                let mark = mark.split(' ').next().unwrap_or(mark).to_owned();
                it.after.push(Step::AddOvsPort {
                    bridge: bridge.clone(),
                    port: end.clone(),
                    mark,
                    tag: port.vlan,
                    ids: port.ids.clone(),
                });
            }
        }
    }
    it
}
