//! The part of the plan that is about forwarded ports: of them all, in the namespace where bridges live.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::addr::{Cidr, IfName};
use crate::nat::{NatAction, NatRule};
use crate::network::{LinkId, forward_gateway};
use crate::plan::nat::change;
use crate::plan::{Desired, ForwardSpec, Kind, Mark, Ns, Observed, Plan, Step, Subject};
use crate::route::Route;

/// A link's share of the whole.
#[derive(Default)]
struct Share {
    addrs: Vec<(IfName, Cidr)>,
    routes: Vec<Route>,
    rules: Vec<NatRule>,
}

/// Appends what makes the forwarded ports be these and no others.
///
/// A connection that comes for one of the namespace's own addresses goes to the container, and comes from an address of
/// the bridge's, to which the container has a route: so it is answered whatever other routes the container has. The
/// bridge itself is told where the container is by a route of one address.
pub(super) fn plan_forwards(
    plan: &mut Plan,
    desired: &Desired,
    observed: &Observed,
    forwards: &[ForwardSpec],
) {
    let ns = Ns::Bridges;
    let Some(space) = observed.spaces.get(&ns) else { return };
    let shares = shares(desired, forwards);
    let is_wanted = |addr: &(IfName, Cidr)| shares.values().any(|it| it.addrs.contains(addr));
    let mut stale = Vec::new();
    for (name, interface) in &space.interfaces {
        let ours = matches!(&interface.alias, Some(it) if Mark::parse(it).is_some_and(|it| it.project == desired.project));
        let ours = ours || observed.ovs.contains_key(name);
        // With its bridge an address goes by itself.
        let stays =
            !matches!(interface.kind, Kind::Bridge(_)) || desired.bridges.keys().any(|(_, it)| it == name);
        for addr in interface.addrs.iter().filter(|it| it.ours && ours && stays) {
            if !is_wanted(&(name.clone(), addr.cidr)) {
                stale.push(Step::DelAddr { ns: ns.clone(), dev: name.clone(), cidr: addr.cidr });
            }
        }
    }
    for it in space.routes.iter().filter(|it| it.ours) {
        if !shares.values().any(|share| share.routes.contains(&it.route)) {
            stale.push(Step::DelRoute { ns: ns.clone(), route: it.route.clone() });
        }
    }
    let marks: BTreeSet<String> = shares.keys().map(|id| desired.rule_mark(&id.container, &id.dev)).collect();
    let gone = |it: &&NatRule| {
        !marks.contains(&it.mark) && Mark::parse(&it.mark).is_some_and(|it| it.project == desired.project)
    };
    stale.extend(change(&ns, &[], space.nat.iter().filter(gone)));
    plan.push(Subject::Everything, stale, Vec::new());

    let mut enable = BTreeMap::from([(false, space.forwarding.v4), (true, space.forwarding.v6)]);
    for (id, share) in &shares {
        let subject = Subject::Link((*id).clone());
        if plan.problems.iter().any(|it| it.subject == subject) {
            continue;
        }
        let mut steps = Vec::new();
        for v6 in share.addrs.iter().map(|(_, it)| !it.addr().is_ipv4()) {
            if enable.insert(v6, true) == Some(false) {
                steps.push(Step::SetForwarding { ns: ns.clone(), v6 });
            }
        }
        for (dev, cidr) in &share.addrs {
            let have = space.interfaces.get(dev).is_some_and(|it| it.addrs.iter().any(|it| it.cidr == *cidr));
            let coming = plan.groups.iter().flat_map(|it| &it.steps).chain(&steps).any(
                |it| matches!(it, Step::AddAddr { ns: Ns::Bridges, dev: other, cidr: its } if other == dev && its == cidr),
            );
            if !have && !coming {
                steps.push(Step::AddAddr { ns: ns.clone(), dev: dev.clone(), cidr: *cidr });
            }
        }
        for route in share.routes.iter().filter(|it| !space.routes.iter().any(|have| have.route == **it)) {
            steps.push(Step::SetRoute { ns: ns.clone(), route: route.clone() });
        }
        let mark = desired.rule_mark(&id.container, &id.dev);
        steps.extend(change(&ns, &share.rules, space.nat.iter().filter(|it| it.mark == mark)));
        plan.push(subject, steps, Vec::new());
    }
}

fn shares<'a>(desired: &Desired, forwards: &'a [ForwardSpec]) -> BTreeMap<&'a LinkId, Share> {
    let mut shares: BTreeMap<&LinkId, Share> = BTreeMap::new();
    for ForwardSpec { link, bridge, forward, to } in forwards {
        let share = shares.entry(link).or_default();
        let mark = desired.rule_mark(&link.container, &link.dev);
        let from = forward_gateway(bridge.as_str(), to.is_ipv4());
        let socket = SocketAddr::new(*to, forward.inner);
        let mut add = |action| {
            let rule = NatRule { mark: mark.clone(), action };
            if !share.rules.contains(&rule) {
                share.rules.push(rule);
            }
        };
        add(NatAction::Forward { protocol: forward.protocol, port: forward.outer, to: socket });
        add(NatAction::ForwardSource { dev: bridge.clone(), protocol: forward.protocol, to: socket, from });
        let addr = (bridge.clone(), Cidr::host(from));
        if !share.addrs.contains(&addr) {
            share.addrs.push(addr);
        }
        let route = Route::to_host(*to, bridge.clone());
        if !share.routes.contains(&route) {
            share.routes.push(route);
        }
    }
    shares
}
