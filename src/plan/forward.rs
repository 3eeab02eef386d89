//! The part of the plan that is about forwarded ports: of them all, in the namespace where bridges live.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::addr::{Cidr, IfName};
use crate::nat::{NatAction, NatRule};
use crate::network::{LinkId, forward_gateway};
use crate::plan::bridge::is_ours;
use crate::plan::nat::change;
use crate::plan::{Desired, ForwardSpec, Forwards, Mark, Ns, Observed, Plan, Space, Step, Subject};
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
pub(super) fn plan_forwards(plan: &mut Plan, desired: &Desired, observed: &Observed, forwards: &Forwards) {
    let ns = Ns::Bridges;
    let Some(space) = observed.spaces.get(&ns) else { return };
    let mut specs = forwards.specs.clone();
    // Without IPv6 where bridges live none comes in to be forwarded.
    specs.retain(|it| it.to.is_ipv4() || !space.forwarding.no_v6);
    let shares = shares(desired, &specs);
    if forwards.whole {
        let stale = stale(desired, observed, space, &shares);
        plan.push(Subject::Everything, stale);
    }
    for (v6, is_on) in [(false, space.forwarding.v4), (true, space.forwarding.v6)] {
        if !is_on && shares.keys().any(|(_, it)| *it == v6) {
            let step = Step::SetForwarding { ns: ns.clone(), v6 };
            plan.push(Subject::Everything, vec![step]);
        }
    }
    // What one link adds others need not.
    let mut added: BTreeSet<(IfName, Cidr)> = BTreeSet::new();
    for ((id, v6), share) in &shares {
        let subject = Subject::Link((*id).clone());
        if plan.problems.iter().any(|it| it.subject == subject) {
            continue;
        }
        let mut steps = Vec::new();
        for addr in &share.addrs {
            let (dev, cidr) = addr;
            let have = space.interfaces.get(dev).is_some_and(|it| it.addrs.iter().any(|it| it.cidr == *cidr));
            if !have && added.insert(addr.clone()) {
                steps.push(Step::AddAddr { ns: ns.clone(), dev: dev.clone(), cidr: *cidr });
            }
        }
        for route in share.routes.iter().filter(|it| !space.routes.iter().any(|have| have.route == **it)) {
            steps.push(Step::SetRoute { ns: ns.clone(), route: route.clone(), replace: true });
        }
        let mark = desired.rule_mark(&id.container, &id.dev);
        let have = space.nat.iter().filter(|it| it.mark == mark && is_v6(it) == *v6);
        steps.extend(change(&ns, &share.rules, have));
        plan.push(subject, steps);
    }
}

/// What is there of forwards that nobody has any more: on bridges of this project alone, since in the same namespace may
/// be other projects', and links of containers that share it.
fn stale(
    desired: &Desired,
    observed: &Observed,
    space: &Space,
    shares: &BTreeMap<(&LinkId, bool), Share>,
) -> Vec<Step> {
    let ns = Ns::Bridges;
    let is_bridge = |name: &IfName| {
        let alias = space.interfaces.get(name).and_then(|it| it.alias.as_deref()).and_then(Mark::parse);
        alias.is_some_and(|it| it.project == desired.project && it.container.is_empty())
            || observed.ovs.get(name).is_some_and(|it| is_ours(desired, it))
    };
    let mut stale = Vec::new();
    for (name, interface) in space.interfaces.iter().filter(|(name, _)| is_bridge(name)) {
        // With its bridge an address goes by itself.
        let stays = desired.bridges.keys().any(|(_, it)| it == name);
        for addr in interface.addrs.iter().filter(|it| it.ours && stays) {
            let wanted = |it: &Share| it.addrs.iter().any(|(dev, cidr)| dev == name && *cidr == addr.cidr);
            if !shares.values().any(wanted) {
                stale.push(Step::DelAddr { ns: ns.clone(), dev: name.clone(), cidr: addr.cidr });
            }
        }
    }
    for it in space.routes.iter().filter(|it| it.ours && it.route.dev.as_ref().is_some_and(is_bridge)) {
        if !shares.values().any(|share| share.routes.contains(&it.route)) {
            stale.push(Step::DelRoute { ns: ns.clone(), route: it.route.clone() });
        }
    }
    let kept = |rule: &NatRule| {
        let of = |(id, v6): &&(&LinkId, bool)| {
            desired.rule_mark(&id.container, &id.dev) == rule.mark && *v6 == is_v6(rule)
        };
        shares.keys().any(|it| of(&it))
    };
    let gone =
        |it: &&NatRule| !kept(it) && Mark::parse(&it.mark).is_some_and(|it| it.project == desired.project);
    stale.extend(change(&ns, &[], space.nat.iter().filter(gone)));
    stale
}

/// Is it about IPv6? What cannot be told is replaced with what is about IPv4.
fn is_v6(rule: &NatRule) -> bool {
    match &rule.action {
        NatAction::Dnat { to, .. } => to.is_ipv6(),
        NatAction::Snat { from, .. } => from.is_ipv6(),
        NatAction::Forward { to, .. } | NatAction::ForwardSource { to, .. } => to.is_ipv6(),
        NatAction::Other { .. } => false,
    }
}

/// By link and family, IPv4 first: where one family cannot be forwarded the other is.
fn shares<'a>(desired: &Desired, forwards: &'a [ForwardSpec]) -> BTreeMap<(&'a LinkId, bool), Share> {
    let mut shares: BTreeMap<(&LinkId, bool), Share> = BTreeMap::new();
    for ForwardSpec { link, bridge, forward, to } in forwards {
        let share = shares.entry((link, to.is_ipv6())).or_default();
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
