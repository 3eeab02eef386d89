//! Plans for forwarded ports: all of the project's, in the namespace of the bridges.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::addr::{Cidr, IfName};
use crate::nat::{NatAction, NatRule};
use crate::network::{LinkId, forward_gateway};
use crate::plan::bridge::is_ours;
use crate::plan::nat::change;
use crate::plan::{
    Desired, ForwardSpec, Forwards, Interface, Localnet, Mark, Ns, Observed, ObservedAddr, Plan, Space, Step,
    Subject,
};
use crate::route::Route;

/// The forwarded ports of one link and one address family.
#[derive(Default)]
struct Share {
    addrs: Vec<(IfName, Cidr)>,
    routes: Vec<Route>,
    rules: Vec<NatRule>,
}

/// Appends the steps that forward these ports and no others.
///
/// A connection to one of the namespace's own addresses is sent to the container from an address of the bridge, to
/// which the container has a route. So the container answers whatever other routes it has. A host route leads from the
/// bridge to the container.
///
/// Connections from inside the namespace are forwarded too, also those to 127.0.0.1. For that the bridge must route
/// addresses in 127.0.0.0/8 (`route_localnet`), which would let hosts on the bridge reach services that listen on them.
/// So two rules drop all packets that arrive there from or to such addresses, before connection tracking. Invariant:
/// `route_localnet` is switched on by a plan that sees these rules, and off by a plan that does not see them; the rules
/// are deleted by a plan that sees it off.
pub(super) fn plan_forwards(plan: &mut Plan, desired: &Desired, observed: &Observed, forwards: &Forwards) {
    let ns = Ns::Bridges;
    let Some(space) = observed.spaces.get(&ns) else { return };
    let mut specs = forwards.specs.clone();
    // Without IPv6 in the namespace of the bridges there is nothing to forward.
    specs.retain(|it| it.to.is_ipv4() || !space.forwarding.no_v6);
    let refused = plan.refused();
    specs.retain(|it| !refused.contains(&Subject::Link(it.link.clone())));
    let shares = shares(desired, &specs, space);
    let bridges = our_bridges(desired, observed, space);
    let wanted: BTreeSet<&IfName> = specs.iter().filter(|it| it.to.is_ipv4()).map(|it| &it.bridge).collect();
    let guarded_now = guarded(space.nat.iter());
    // Guarded by rules that this plan does not delete.
    let rules: BTreeSet<&NatRule> = shares.values().flat_map(|it| &it.rules).collect();
    let stays_guarded = guarded(space.nat.iter().filter(|it| rules.contains(it)));
    let mut switched = Vec::new();
    for (name, interface) in space.interfaces.iter().filter(|(name, _)| bridges.contains(name)) {
        let Localnet { on, writable } = interface.localnet;
        let is_due = writable && wanted.contains(name) && stays_guarded.contains(name);
        let may_stay = guarded_now.contains(name) && (wanted.contains(name) || !forwards.whole);
        if on && !may_stay || !on && is_due {
            switched.push(Step::SetLocalnet { ns: ns.clone(), name: name.clone(), on: !on });
        }
    }
    plan.push(Subject::Everything, switched);
    if forwards.whole {
        let stale = stale(desired, space, &bridges, &shares);
        plan.push(Subject::Everything, stale);
    }
    for (v6, is_on) in [(false, space.forwarding.v4), (true, space.forwarding.v6)] {
        if !is_on && shares.keys().any(|(_, it)| *it == v6) {
            let step = Step::SetForwarding { ns: ns.clone(), v6 };
            plan.push(Subject::Everything, vec![step]);
        }
    }
    let routes: BTreeSet<&Route> = space.routes.iter().map(|it| &it.route).collect();
    let mut rules: BTreeMap<(&str, bool), Vec<&NatRule>> = BTreeMap::new();
    for rule in space.nat.iter().filter(|it| it.action.is_forward() != Some(false)) {
        rules.entry((&rule.mark, is_v6(rule))).or_default().push(rule);
    }
    // A link may have had more forwarded ports before.
    let links = desired.links.iter().flat_map(|(_, it)| [(&it.id, false), (&it.id, true)]);
    let all: BTreeSet<(&LinkId, bool)> = shares.keys().copied().chain(links).collect();
    let nothing = Share::default();
    // A route or address that one link adds is not added again for another.
    let mut added: BTreeSet<(IfName, Cidr)> = BTreeSet::new();
    for (id, v6) in all {
        let subject = Subject::Link(id.clone());
        let share = shares.get(&(id, v6)).unwrap_or(&nothing);
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
        let have = have.iter().copied().filter(|it| !is_needed(space, it) || share.rules.contains(it));
        steps.extend(change(&ns, &share.rules, have));
        plan.push(subject, steps);
    }
}

/// The bridges of this project. The namespace may also have bridges of other projects, and links of containers that
/// share it.
fn our_bridges<'a>(desired: &Desired, observed: &Observed, space: &'a Space) -> BTreeSet<&'a IfName> {
    let is_bridge = |name: &IfName, interface: &Interface| {
        let mark = interface.alias.as_deref().and_then(Mark::parse);
        mark.is_some_and(|it| it.project == desired.project && it.container.is_empty())
            || observed.ovs.get(name).is_some_and(|it| is_ours(desired, it))
    };
    space.interfaces.iter().filter(|(name, it)| is_bridge(name, it)).map(|(name, _)| name).collect()
}

/// The interfaces whose packets from and to 127.0.0.0/8 these rules drop.
fn guarded<'a>(rules: impl Iterator<Item = &'a NatRule>) -> BTreeSet<&'a IfName> {
    let guards: BTreeSet<(&IfName, bool)> = rules
        .filter_map(|it| match &it.action {
            NatAction::Guard { dev, source } => Some((dev, *source)),
            _ => None,
        })
        .collect();
    let both = guards.iter().filter(|(dev, source)| *source && guards.contains(&(*dev, false)));
    both.map(|(dev, _)| *dev).collect()
}

/// Does the rule guard an interface that routes such addresses?
fn is_needed(space: &Space, rule: &NatRule) -> bool {
    let NatAction::Guard { dev, .. } = &rule.action else { return false };
    space.interfaces.get(dev).is_some_and(|it| it.localnet.on)
}

/// The routes and addresses on these bridges that belong to forwards that are no longer configured.
fn stale(
    desired: &Desired,
    space: &Space,
    bridges: &BTreeSet<&IfName>,
    shares: &BTreeMap<(&LinkId, bool), Share>,
) -> Vec<Step> {
    let ns = Ns::Bridges;
    let mut stale = Vec::new();
    let addrs: BTreeSet<(&IfName, Cidr)> =
        shares.values().flat_map(|it| &it.addrs).map(|(dev, cidr)| (dev, *cidr)).collect();
    let stays: BTreeSet<&IfName> = desired.bridges.keys().map(|(_, it)| it).collect();
    for (name, interface) in space.interfaces.iter().filter(|(name, _)| bridges.contains(name)) {
        // A removed bridge takes its addresses with it.
        let stays = stays.contains(name);
        let gone = |it: &&ObservedAddr| it.ours && stays && !addrs.contains(&(name, it.cidr));
        for addr in interface.addrs.iter().filter(gone) {
            stale.push(Step::DelAddr { ns: ns.clone(), dev: name.clone(), cidr: addr.cidr });
        }
    }
    let routes: BTreeSet<&Route> = shares.values().flat_map(|it| &it.routes).collect();
    for it in space
        .routes
        .iter()
        .filter(|it| it.ours && it.route.dev.as_ref().is_some_and(|it| bridges.contains(it)))
    {
        if !routes.contains(&it.route) {
            stale.push(Step::DelRoute { ns: ns.clone(), route: it.route.clone() });
        }
    }
    let mark = |(id, v6): &(&LinkId, bool)| (desired.rule_mark(&id.container, &id.dev), *v6);
    let marks: BTreeSet<(String, bool)> = shares.keys().map(mark).collect();
    let gone = |it: &&NatRule| {
        it.action.is_forward() != Some(false)
            && !is_needed(space, it)
            && !marks.contains(&(it.mark.clone(), is_v6(it)))
            && Mark::parse(&it.mark).is_some_and(|it| it.project == desired.project)
    };
    stale.extend(change(&ns, &[], space.nat.iter().filter(gone)));
    stale
}

/// Is it about IPv6? What cannot be told is replaced with what is about IPv4.
fn is_v6(rule: &NatRule) -> bool {
    match &rule.action {
        NatAction::Dnat { to, .. } => to.is_ipv6(),
        NatAction::Snat { from, .. } => from.is_ipv6(),
        NatAction::Forward { to, .. } | NatAction::ForwardSource { to, .. } => to.is_ipv6(),
        NatAction::ForwardOwn { to, .. } => to.is_ipv6(),
        NatAction::Guard { .. } | NatAction::Other { .. } => false,
    }
}

/// The forwarded ports by link and family, IPv4 first, so that a failure of one family does not stop the other.
fn shares<'a>(
    desired: &Desired,
    forwards: &'a [ForwardSpec],
    space: &Space,
) -> BTreeMap<(&'a LinkId, bool), Share> {
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
        let localnet = space.interfaces.get(bridge).map(|it| it.localnet).unwrap_or_default();
        // If the rule cannot work, connections are refused at once, as they are without a rule.
        if to.is_ipv6() || localnet.on || localnet.writable {
            add(NatAction::ForwardOwn { protocol: forward.protocol, port: forward.outer, to: socket });
        }
        if to.is_ipv4() {
            for source in [false, true] {
                add(NatAction::Guard { dev: bridge.clone(), source });
            }
        }
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
