//! The part of the plan that is about forwarded ports: of them all, in the namespace where bridges live.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::addr::{Cidr, IfName};
use crate::nat::{NatAction, NatRule};
use crate::network::{LinkId, forward_gateway};
use crate::plan::bridge::is_ours;
use crate::plan::nat::change;
use crate::plan::{
    Desired, ForwardSpec, Forwards, Mark, Ns, Observed, ObservedAddr, Plan, Space, Step, Subject,
};
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
    let refused = plan.refused();
    let routes: BTreeSet<&Route> = space.routes.iter().map(|it| &it.route).collect();
    let mut rules: BTreeMap<(&str, bool), Vec<&NatRule>> = BTreeMap::new();
    for rule in space.nat.iter().filter(|it| may_forward(it)) {
        rules.entry((&rule.mark, is_v6(rule))).or_default().push(rule);
    }
    // A link that is to be wired may have forwarded more before.
    let links = desired.links.iter().flat_map(|(_, it)| [(&it.id, false), (&it.id, true)]);
    let all: BTreeSet<(&LinkId, bool)> = shares.keys().copied().chain(links).collect();
    let nothing = Share::default();
    // What one link adds others need not.
    let mut added: BTreeSet<(IfName, Cidr)> = BTreeSet::new();
    for (id, v6) in all {
        let subject = Subject::Link(id.clone());
        let share = shares.get(&(id, v6)).filter(|_| !refused.contains(&subject)).unwrap_or(&nothing);
        let mut steps = Vec::new();
        for addr in &share.addrs {
            let (dev, cidr) = addr;
            let have = space.interfaces.get(dev).is_some_and(|it| it.addrs.iter().any(|it| it.cidr == *cidr));
            if !have && added.insert(addr.clone()) {
                steps.push(Step::AddAddr { ns: ns.clone(), dev: dev.clone(), cidr: *cidr });
            }
        }
        for route in share.routes.iter().filter(|it| !routes.contains(it)) {
            steps.push(Step::SetRoute { ns: ns.clone(), route: route.clone(), replace: true });
        }
        let mark = desired.rule_mark(&id.container, &id.dev);
        let have = rules.get(&(mark.as_str(), v6)).map(Vec::as_slice).unwrap_or_default();
        steps.extend(change(&ns, &share.rules, have.iter().copied()));
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
    let addrs: BTreeSet<(&IfName, Cidr)> =
        shares.values().flat_map(|it| &it.addrs).map(|(dev, cidr)| (dev, *cidr)).collect();
    let stays: BTreeSet<&IfName> = desired.bridges.keys().map(|(_, it)| it).collect();
    for (name, interface) in space.interfaces.iter().filter(|(name, _)| is_bridge(name)) {
        // With its bridge an address goes by itself.
        let stays = stays.contains(name);
        let gone = |it: &&ObservedAddr| it.ours && stays && !addrs.contains(&(name, it.cidr));
        for addr in interface.addrs.iter().filter(gone) {
            stale.push(Step::DelAddr { ns: ns.clone(), dev: name.clone(), cidr: addr.cidr });
        }
    }
    let routes: BTreeSet<&Route> = shares.values().flat_map(|it| &it.routes).collect();
    for it in space.routes.iter().filter(|it| it.ours && it.route.dev.as_ref().is_some_and(is_bridge)) {
        if !routes.contains(&it.route) {
            stale.push(Step::DelRoute { ns: ns.clone(), route: it.route.clone() });
        }
    }
    let mark = |(id, v6): &(&LinkId, bool)| (desired.rule_mark(&id.container, &id.dev), *v6);
    let marks: BTreeSet<(String, bool)> = shares.keys().map(mark).collect();
    let gone = |it: &&NatRule| {
        may_forward(it)
            && !marks.contains(&(it.mark.clone(), is_v6(it)))
            && Mark::parse(&it.mark).is_some_and(|it| it.project == desired.project)
    };
    stale.extend(change(&ns, &[], space.nat.iter().filter(gone)));
    stale
}

/// Is it a rule of a forwarded port, or one of ours that somebody changed? In the same namespace may be those of a
/// link's `nat`.
fn may_forward(rule: &NatRule) -> bool {
    !matches!(rule.action, NatAction::Dnat { .. } | NatAction::Snat { .. })
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
    let mut seen = BTreeSet::new();
    for ForwardSpec { link, bridge, forward, to } in forwards {
        let share = shares.entry((link, to.is_ipv6())).or_default();
        let mark = desired.rule_mark(&link.container, &link.dev);
        let from = forward_gateway(bridge.as_str(), to.is_ipv4());
        let socket = SocketAddr::new(*to, forward.inner);
        let mut add = |action| {
            let rule = NatRule { mark: mark.clone(), action };
            if seen.insert(rule.clone()) {
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
