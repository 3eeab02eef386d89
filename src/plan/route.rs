//! Plans for the routes of containers.
//!
//! A route of another program in the place of one of ours is set aside: it is kept with a metric that no packet uses
//! while ours exists, and restored when ours is removed. The new metric encodes the original protocol and metric, so no
//! other record is needed.

use std::collections::{BTreeMap, BTreeSet};

use crate::addr::IfName;
use crate::container::ContainerId;
use crate::network::{Item, Link, LinkId};
use crate::plan::link::problem;
use crate::plan::{
    Desired, Interface, Mark, Ns, Observed, ObservedRoute, PROTOCOL, Plan, Space, Step, Subject,
};
use crate::route::{Route, RoutePlace};

/// The upper 8 bits of the metric of a route that was set aside. Then follow its protocol (8 bits) and its metric (16).
const ASIDE: u32 = 0xc2;

/// Appends the routes. They come last, because a route may use the interface of a later link.
pub(super) fn plan_routes(plan: &mut Plan, desired: &Desired, observed: &Observed) {
    let refused = plan.refused();
    let made: BTreeSet<(Ns, IfName)> = plan
        .groups
        .iter()
        .flat_map(|it| &it.steps)
        .filter_map(|it| match it {
            Step::AddVeth { ns, name, .. }
            | Step::AddStacked { ns, name, .. }
            | Step::AddTunnel { ns, name, .. }
            | Step::AddDummy { ns, name, .. } => Some((ns.clone(), name.clone())),
            Step::MoveInterface { to, to_name, .. } => Some((to.clone(), to_name.clone())),
            _ => None,
        })
        .collect();
    let mut wanted: BTreeMap<&ContainerId, Wanted<'_>> = BTreeMap::new();
    for (container, link) in &desired.links {
        wanted.entry(container).or_insert_with(|| Wanted::new(link)).add(link);
    }
    let mut present: BTreeMap<&ContainerId, Present<'_>> = BTreeMap::new();
    for (container, link) in &desired.links {
        let subject = Subject::Link(link.id.clone());
        let ns = Ns::Container(container.clone());
        let Some(space) = observed.spaces.get(&ns).filter(|_| !refused.contains(&subject)) else {
            continue;
        };
        let Some(wanted) = wanted.get(container) else { continue };
        let present = present.entry(container).or_insert_with(|| Present::new(desired, space));
        let mut steps = Vec::new();
        // Routes through an interface that is made again are deleted with the old one.
        let stays = |route: &Route| !devs(route).any(|dev| made.contains(&(ns.clone(), dev.clone())));
        for route in stale(wanted, present, link).into_iter().filter(|it| stays(it)) {
            steps.push(Step::DelRoute { ns: ns.clone(), route: route.clone() });
        }
        for route in &link.routes {
            if stays(route) && (present.at(route).any(|it| it.serves(route)) || present.yielded(route)) {
                continue;
            }
            if space.is_host && route.dst.prefix() == 0 {
                let message = format!("route {route} would replace the host's default route");
                plan.problems.push(problem(&subject, message).about(link, &Item::Route(route.clone())));
                continue;
            }
            match foreign(wanted, present, route) {
                Some(it) if space.is_host => {
                    let message = format!("route {route} would replace the host's {}", it.route);
                    plan.problems.push(problem(&subject, message).about(link, &Item::Route(route.clone())));
                }
                Some(it) => match present.aside(it) {
                    Some(aside) => {
                        steps.push(Step::SetRoute { ns: ns.clone(), route: aside, replace: false });
                        steps.extend(take_place(&ns, &it.route, route));
                    }
                    None => {
                        let message = format!("route {} is in the place of {route}", it.route);
                        plan.problems
                            .push(problem(&subject, message).about(link, &Item::Route(route.clone())));
                    }
                },
                None => {
                    // For an existing route IPv6 adds a next hop, while IPv4 replaces it.
                    let replace = !route.is_v6() && present.at(route).any(|it| stays(&it.route));
                    steps.push(Step::SetRoute { ns: ns.clone(), route: route.clone(), replace });
                }
            }
        }
        plan.push(subject, steps);
    }
}

/// Restores routes that were set aside for routes that are no longer configured. In containers without links it also
/// removes routes that use no interface; other routes are deleted with their interfaces.
pub(super) fn plan_leftovers(plan: &mut Plan, desired: &Desired, observed: &Observed) {
    let links = desired.links_by_container();
    for container in &desired.inside {
        let ns = Ns::Container(container.clone());
        let Some(space) = observed.spaces.get(&ns) else { continue };
        let others = others(desired, space);
        let mut steps = Vec::new();
        let links = links.get(container).map(Vec::as_slice).unwrap_or_default();
        let wanted =
            |it: &Route| links.iter().flat_map(|link| &link.routes).any(|route| route.place() == it.place());
        // Of several in one place, the one that was set aside last.
        let mut asides: BTreeMap<RoutePlace, (&Route, Route)> = BTreeMap::new();
        for it in space.routes.iter().filter(|it| it.ours).map(|it| &it.route) {
            let Some(original) = original(it).filter(|it| !wanted(it)) else { continue };
            let last = asides.entry(original.place()).or_insert_with(|| (it, original.clone()));
            if last.0.metric < it.metric {
                *last = (it, original);
            }
        }
        for (_, (aside, original)) in asides {
            let ours = space.routes.iter().find(|it| it.ours && it.route.place() == original.place());
            // It was set aside for a link of another project.
            if ours.is_some_and(|it| devs(&it.route).any(|dev| others.contains(dev))) {
                continue;
            }
            match ours {
                Some(ours) => steps.extend(take_place(&ns, &ours.route, &original)),
                None => steps.push(Step::SetRoute { ns: ns.clone(), route: original, replace: false }),
            }
            steps.push(Step::DelRoute { ns: ns.clone(), route: aside.clone() });
        }
        let mut marks = space.interfaces.values().filter_map(|it| Mark::parse(it.alias.as_deref()?));
        if links.is_empty() && marks.all(|it| desired.covers(&it)) {
            let stale = space.routes.iter().filter(|it| it.ours && devs(&it.route).next().is_none());
            steps.extend(stale.map(|it| Step::DelRoute { ns: ns.clone(), route: it.route.clone() }));
        }
        plan.push(Subject::Container(desired.container_name(container).to_owned()), steps);
    }
}

impl ObservedRoute {
    /// Does it lead where the wanted one does? By whose hand, and so by which protocol, matters for none of ours.
    fn serves(&self, wanted: &Route) -> bool {
        self.route == *wanted || !self.ours && Route { proto: wanted.proto, ..self.route.clone() } == *wanted
    }
}

impl Route {
    /// It was set aside for one of ours.
    pub(super) fn is_aside(&self) -> bool {
        self.metric.is_some_and(|it| it >> 24 == ASIDE)
    }
}

/// The interfaces of conlink that are not in the scope.
fn others<'a>(desired: &Desired, space: &'a Space) -> BTreeSet<&'a IfName> {
    let is_other =
        |it: &Interface| it.alias.as_deref().and_then(Mark::parse).is_some_and(|it| !desired.covers(&it));
    space.interfaces.iter().filter(|(_, it)| is_other(it)).map(|(name, _)| name).collect()
}

fn devs(route: &Route) -> impl Iterator<Item = &IfName> {
    route.dev.iter().chain(route.nexthops.iter().filter_map(|it| it.dev.as_ref()))
}

/// The desired routes of one container.
struct Wanted<'a> {
    /// The link that is responsible for routes without an interface.
    first: &'a LinkId,
    devs: BTreeSet<&'a IfName>,
    routes: BTreeSet<&'a Route>,
    places: BTreeSet<RoutePlace>,
}

impl<'a> Wanted<'a> {
    fn new(first: &'a Link) -> Self {
        Self { first: &first.id, devs: BTreeSet::new(), routes: BTreeSet::new(), places: BTreeSet::new() }
    }

    fn add(&mut self, link: &'a Link) {
        self.devs.insert(&link.id.dev);
        self.routes.extend(&link.routes);
        self.places.extend(link.routes.iter().map(Route::place));
    }
}

/// The existing routes of one namespace, ours and others.
struct Present<'a> {
    by_place: BTreeMap<RoutePlace, Vec<&'a ObservedRoute>>,
    /// Our routes, by their first interface.
    ours: BTreeMap<Option<&'a IfName>, Vec<&'a Route>>,
    /// Interfaces of conlink that are not in the scope.
    others: BTreeSet<&'a IfName>,
}

impl<'a> Present<'a> {
    fn new(desired: &Desired, space: &'a Space) -> Self {
        let others = others(desired, space);
        let mut present = Self { by_place: BTreeMap::new(), ours: BTreeMap::new(), others };
        for it in &space.routes {
            present.by_place.entry(it.route.place()).or_default().push(it);
            if it.ours {
                present.ours.entry(devs(&it.route).next()).or_default().push(&it.route);
            }
        }
        present
    }

    /// Was our route set aside for one of a link that is not in the scope?
    fn yielded(&self, route: &Route) -> bool {
        let by_others = |it: &Route| devs(it).any(|dev| self.others.contains(dev));
        self.at(route).any(|it| it.ours && by_others(&it.route))
            && self.ours.values().flatten().any(|it| original(it).as_ref() == Some(route))
    }

    /// The route, set aside. None if its metric is too large to be encoded.
    ///
    /// Several routes of conlink may be set aside in one place, one for another, so they are numbered. Their own metric
    /// must be the usual one.
    fn aside(&self, it: &ObservedRoute) -> Option<Route> {
        let route = &it.route;
        if !it.ours {
            return aside(route, route.proto?, route.priority());
        }
        let usual = route.priority() == Route::default_metric(route.is_v6());
        let lower = self.ours.values().flatten().filter_map(|it| it.metric.filter(|_| it.is_aside()));
        let lower = lower.filter(|it| (it >> 16 & 0xff) as u8 == PROTOCOL).max();
        aside(route, PROTOCOL, lower.map_or(0, |it| (it & 0xffff) + 1)).filter(|_| usual)
    }

    /// The routes with the same destination, table and metric.
    fn at(&self, route: &Route) -> impl Iterator<Item = &'a ObservedRoute> {
        self.by_place.get(&route.place()).into_iter().flatten().copied()
    }
}

/// Our routes through this link's interface (for the first link also routes without an interface) that are no longer
/// configured.
fn stale<'a>(wanted: &Wanted<'_>, present: &Present<'a>, link: &Link) -> Vec<&'a Route> {
    let of = |dev| present.ours.get(&dev).map(Vec::as_slice).unwrap_or_default();
    let of_none = if *wanted.first == link.id { of(None) } else { &[] };
    let mine = of(Some(&link.id.dev)).iter().chain(of_none).copied();
    // A route of the same destination, table and metric is replaced in one step, so that it is never missing. IPv6
    // would add a next hop instead.
    let stays = |it: &Route| wanted.routes.contains(it) || !it.is_v6() && wanted.places.contains(&it.place());
    mine.filter(|it| original(it).is_none() && !stays(it)).collect()
}

/// The route of another program, or of a link that is not in the scope, in the place of one of ours. Routes through our interfaces do not count: they are the
/// kernel's own for our addresses.
fn foreign<'a>(wanted: &Wanted<'_>, present: &Present<'a>, route: &Route) -> Option<&'a ObservedRoute> {
    let by_ours = |it: &Route| devs(it).any(|dev| wanted.devs.contains(dev));
    let by_others = |it: &Route| devs(it).any(|dev| present.others.contains(dev));
    present.at(route).find(|it| if it.ours { by_others(&it.route) } else { !by_ours(&it.route) })
}

/// The route set aside: its protocol and `low` in the lower 24 bits of the metric. None if `low` needs more than 16.
fn aside(route: &Route, proto: u8, low: u32) -> Option<Route> {
    let metric = ASIDE << 24 | u32::from(proto) << 16 | low;
    (low <= 0xffff).then(|| Route { metric: Some(metric), proto: None, ..route.clone() })
}

/// The original of a route that was set aside; None for other routes.
fn original(route: &Route) -> Option<Route> {
    let metric = route.metric.filter(|it| it >> 24 == ASIDE)?;
    let proto = (metric >> 16 & 0xff) as u8;
    if proto == PROTOCOL {
        return Some(Route { metric: None, ..route.clone() });
    }
    let usual = Route::default_metric(route.is_v6());
    let metric = Some(metric & 0xffff).filter(|it| *it != usual);
    Some(Route { metric, proto: Some(proto), ..route.clone() })
}

/// The steps that replace one route with another.
fn take_place(ns: &Ns, old: &Route, new: &Route) -> Vec<Step> {
    let del = Step::DelRoute { ns: ns.clone(), route: old.clone() };
    let set = |replace| Step::SetRoute { ns: ns.clone(), route: new.clone(), replace };
    match new.is_v6() {
        true => vec![del, set(false)],
        false => vec![set(true)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_that_was_set_aside_can_be_restored() {
        for (text, proto, metric) in
            [("default via 10.0.0.1 dev eth0", 3, None), ("default via fe80::1 dev eth0", 9, Some(100))]
        {
            let route = Route::parse(text).unwrap();
            let route = Route { proto: Some(proto), metric, ..route };
            let aside = aside(&route, proto, route.priority()).unwrap();
            assert_eq!(aside.proto, None);
            assert_eq!(original(&aside), Some(route.clone()));
            assert_eq!(original(&route), None);
        }
    }
}
