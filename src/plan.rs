//! What has to change: the difference between desired and observed state.
//!
//! The state has converged exactly when the plan is empty. That one definition serves start-up, events, `--once`,
//! `--dry-run`, the check after each change and the adoption of what a killed engine left.
//!
//! Architecture invariant: this module does no I/O, reads no clock and draws no random numbers. Every choice is
//! made here, so that applying a [`Step`] leaves nothing to decide.
//!
//! Architecture invariant: a plan changes or deletes only interfaces with a mark of this project, or in its group of
//! those being made.

mod bridge;
mod drift;
mod ethtool;
mod forward;
mod link;
mod mark;
mod nat;
mod netem;
mod news;
mod observed;
mod origin;
mod outcome;
mod patch;
mod route;
mod step;
mod tunnel;
mod undo;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use crate::addr::{IfName, Mac};
use crate::container::ContainerId;
use crate::device::{BridgeOptions, TunnelOptions};
use crate::netem::Netem;
use crate::network::{Attach, Forward, Link, LinkId, LinkKind, Place};
use crate::words::printable;

pub use mark::{Mark, Note, is_making, making};
pub use news::{Names, News};
pub use observed::{
    FeatureState, Forwarding, Interface, Kind, Localnet, Look, Ns, Observed, ObservedAddr, ObservedRoute,
    OvsBridge, OvsError, Qdisc, Space, When, Which,
};
pub use outcome::{Drift, Failure, Outcome};
pub use step::{Change, Step};
pub use undo::undo;

/// IFA_PROTO and rtm_protocol of addresses and routes that are ours to remove.
pub const PROTOCOL: u8 = 0xc2;

/// What is to be there, of all or of a part.
#[derive(Clone, Debug)]
pub struct Desired {
    /// As marks name it ([`Mark::project`]). Empty when the engine serves every project.
    pub project: String,
    pub bridges: BTreeMap<(Place, IfName), BridgeSpec>,
    /// With the container whose namespace each is in.
    pub links: Vec<(ContainerId, Link)>,
    /// Pairs to join, once both ends are there.
    pub patches: Vec<Patch>,
    pub tunnels: Vec<TunnelSpec>,
    /// None: ports that are forwarded stay as they are.
    pub forwards: Option<Forwards>,
    /// Containers whose namespaces are looked at, links or not.
    pub inside: BTreeSet<ContainerId>,
    pub scope: Scope,
    /// Containers whose namespaces are looked at for routes of others too: one of them is in the place of ours.
    pub contested: BTreeSet<ContainerId>,
    /// What was as described before: what somebody changed of it since is left alone, and told.
    pub settled: BTreeSet<Subject>,
}

/// A bridge of mode linux or ovs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeSpec {
    pub options: BridgeOptions,
    /// A bridge of the same name that somebody else made serves as it is.
    pub join_foreign: bool,
    /// It is one of Open vSwitch.
    pub ovs: bool,
}

/// An interface that carries frames to another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelSpec {
    pub name: IfName,
    pub attach: Attach,
    /// The namespace that has the routes to the other host.
    pub underlay: Ns,
    pub options: TunnelOptions,
    pub mac: Mac,
    pub mtu: Option<u32>,
    pub netem: Option<Netem>,
}

/// Ports that are to be forwarded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwards {
    pub specs: Vec<ForwardSpec>,
    /// They are all there are of the project: what is there beside them is removed.
    pub whole: bool,
}

/// A port of the bridges' namespace that leads to one of a container's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardSpec {
    pub link: LinkId,
    pub bridge: IfName,
    pub forward: Forward,
    /// The container's address.
    pub to: IpAddr,
}

/// One or two outer ends that pass their frames to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    pub name: String,
    pub ends: Vec<IfName>,
}

/// What a plan removes when it carries a mark of the project and is not desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything at these places but the outer ends in `keep`, which running containers want, and `inner` ends, which
    /// are there where a container shares that namespace.
    Project { places: BTreeSet<Place>, keep: BTreeSet<(Place, IfName)>, inner: BTreeSet<LinkId> },
    /// What belongs to these containers, by name; `outers` are the outer ends that they may have.
    Containers { names: BTreeSet<String>, outers: BTreeSet<(Place, IfName)> },
}

/// The steps that turn what is observed into what is desired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order to apply them; one that fails stops no other.
    pub groups: Vec<Group>,
    /// What cannot be as desired.
    pub problems: Vec<Problem>,
}

impl Plan {
    /// Nothing to do, and nothing in the way: converged.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.problems.is_empty()
    }

    pub fn steps(&self) -> usize {
        self.groups.iter().map(|it| it.steps.len()).sum()
    }

    fn push(&mut self, subject: Subject, steps: Vec<Step>) {
        if !steps.is_empty() {
            self.groups.push(Group { subject, steps });
        }
    }
}

/// Steps about one thing, in the order to apply them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub subject: Subject,
    pub steps: Vec<Step>,
}

/// What a group of steps or a problem is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Bridge(String),
    Tunnel(IfName),
    Link(LinkId),
    Patch(String),
    /// An interface of ours that nobody wants any more.
    Leftover(IfName),
    /// Everything of ours that nobody wants any more, where it cannot be listed.
    Leftovers,
    /// A container as a whole, by name or id.
    Container(String),
    /// All that is outside of containers.
    Everything,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge(name) => write!(f, "bridge {name}"),
            Self::Tunnel(name) => write!(f, "tunnel {name}"),
            Self::Link(id) => write!(f, "link {id}"),
            Self::Patch(name) => write!(f, "patch {name}"),
            Self::Leftover(name) => write!(f, "leftover {name}"),
            Self::Leftovers => f.write_str("leftovers"),
            Self::Container(name) => write!(f, "container {name}"),
            Self::Everything => f.write_str("the network"),
        }
    }
}

/// Why something cannot be as desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub subject: Subject,
    pub message: String,
    pub help: Option<String>,
    /// As [`Failure::origin`].
    pub origin: Option<String>,
}

impl fmt::Display for Plan {
    /// One line for each step, below the line of its group; what `--dry-run` prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in &self.groups {
            writeln!(f, "{}", printable(&group.subject.to_string()))?;
            for step in &group.steps {
                writeln!(f, "  {}: {}", step.ns(), printable(&step.to_string()))?;
            }
        }
        for problem in &self.problems {
            writeln!(f, "{}", printable(&format!("{}: {}", problem.subject, problem.message)))?;
            if let Some(help) = &problem.help {
                writeln!(f, "  {}", printable(help))?;
            }
        }
        Ok(())
    }
}

impl From<Place> for Ns {
    fn from(place: Place) -> Self {
        match place {
            Place::Engine => Self::Bridges,
            Place::Host => Self::Host,
        }
    }
}

impl Desired {
    /// Nothing is to be there of what `scope` covers.
    pub fn nothing(project: String, scope: Scope) -> Self {
        Self {
            project: Mark::project(&project),
            bridges: BTreeMap::new(),
            links: Vec::new(),
            patches: Vec::new(),
            tunnels: Vec::new(),
            forwards: None,
            inside: BTreeSet::new(),
            scope,
            contested: BTreeSet::new(),
            settled: BTreeSet::new(),
        }
    }

    /// Where to look before planning: no more than what the plan compares.
    pub fn looks(&self) -> BTreeMap<Ns, Look> {
        let mut looks: BTreeMap<Ns, Look> = BTreeMap::new();
        if let Scope::Project { places, .. } = &self.scope {
            for place in places {
                looks.insert((*place).into(), Look { qdiscs: true, ..Look::all() });
            }
        }
        if let Some(forwards) = &self.forwards {
            let look = looks.entry(Ns::Bridges).or_default();
            (look.nat, look.addresses) = (When::Always, When::Always);
            if forwards.whole {
                look.interfaces = Which::All;
            }
            forwards.specs.iter().for_each(|it| look.add(&it.bridge));
        }
        let mut name = |ns: Ns, name: &IfName| looks.entry(ns).or_default().add(name);
        for (place, bridge) in self.bridges.keys() {
            name((*place).into(), bridge);
        }
        for (_, link) in &self.links {
            match &link.kind {
                LinkKind::Veth { place, outer, attach } => {
                    name((*place).into(), outer);
                    if let Attach::Bridge(bridge) | Attach::Ovs(bridge) = attach {
                        name((*place).into(), bridge);
                    }
                }
                LinkKind::Dummy => {}
                LinkKind::Stacked(it) => name(it.place.into(), &it.parent),
            }
        }
        for end in self.patches.iter().flat_map(|it| &it.ends).chain(self.tunnels.iter().map(|it| &it.name)) {
            name(Ns::Bridges, end);
        }
        if let Scope::Containers { outers, .. } = &self.scope {
            for (place, outer) in outers {
                name((*place).into(), outer);
            }
        }
        let attached = |it: &Attach| matches!(it, Attach::Ovs(_));
        let link = |it: &Link| matches!(&it.kind, LinkKind::Veth { attach, .. } if attached(attach));
        let ovs = self.bridges.values().any(|it| it.ovs)
            || self.links.iter().any(|(_, it)| link(it))
            || self.tunnels.iter().any(|it| attached(&it.attach))
            || matches!(self.scope, Scope::Project { .. });
        if ovs {
            looks.entry(Ns::Bridges).or_default().ovs = true;
        }
        // Whether an outer end that is there has an impairment that it should not have, only a look tells.
        for look in looks.values_mut() {
            look.qdiscs = true;
        }
        let linked: BTreeSet<&ContainerId> = self.links.iter().map(|(it, _)| it).collect();
        for container in &self.inside {
            let look = looks.entry(Ns::Container(container.clone())).or_insert_with(Look::inside);
            if !linked.contains(container) {
                // What is left of links may be routes alone.
                (look.addresses, look.nat) = (When::Always, When::Always);
            }
        }
        for (container, link) in &self.links {
            let look = looks.entry(Ns::Container(container.clone())).or_insert_with(Look::inside);
            look.v6_default |= link::wants_v6(link);
            if self.contested.contains(container) {
                (look.addresses, look.routes_of_others) = (When::Always, true);
            }
            look.destinations.extend(link.routes.iter().map(|it| it.dst));
            look.protocols.extend(link.routes.iter().filter_map(|it| it.proto));
            if link.nat.is_some() {
                look.nat = When::Always;
            }
            if !link.ethtool.is_empty() {
                look.ethtool.insert(link.id.dev.clone(), ethtool::merged(&link.ethtool));
            }
        }
        looks
    }

    /// Is the interface this project's, and within what this plan may remove? `inner` is [`Desired::inner_ends`].
    fn may_remove(
        &self,
        ns: &Ns,
        name: &IfName,
        interface: &Interface,
        inner: &BTreeSet<(String, &IfName)>,
    ) -> bool {
        let place = match ns {
            Ns::Bridges => Some(Place::Engine),
            Ns::Host => Some(Place::Host),
            Ns::Container(_) => None,
        };
        if let (Some(place), Scope::Project { keep, .. }) = (place, &self.scope)
            && keep.contains(&(place, name.clone()))
        {
            return false;
        }
        match interface.alias.as_deref().map(Mark::parse) {
            None => interface.group == making(&self.project),
            Some(None) => false,
            Some(Some(mark)) if mark.project != self.project => false,
            Some(Some(mark)) => {
                let is_inner = mark.name == name.as_str() && inner.contains(&(mark.container.clone(), name));
                self.covers(&mark) && !(place.is_some() && is_inner)
            }
        }
    }

    /// The links by the container whose namespace each is in.
    fn links_by_container(&self) -> BTreeMap<&ContainerId, Vec<&Link>> {
        let mut links: BTreeMap<&ContainerId, Vec<&Link>> = BTreeMap::new();
        for (container, link) in &self.links {
            links.entry(container).or_default().push(link);
        }
        links
    }

    /// Of what all is wanted, or nothing.
    pub fn wholes(&self) -> BTreeSet<Subject> {
        let links = self.links.iter().map(|(_, it)| it).filter(|it| it.required);
        links.map(|it| Subject::Link(it.id.clone())).collect()
    }

    /// The inner ends of links that running containers want: the container as marks name it, and the interface.
    fn inner_ends(&self) -> BTreeSet<(String, &IfName)> {
        let Scope::Project { inner, .. } = &self.scope else { return BTreeSet::new() };
        inner.iter().map(|it| (Mark::container(&it.container), &it.dev)).collect()
    }

    /// Is what carries this mark within what this plan may remove?
    fn covers(&self, mark: &Mark) -> bool {
        mark.project == self.project
            && match &self.scope {
                Scope::Project { .. } => true,
                Scope::Containers { names, .. } => {
                    names.iter().any(|it| Mark::container(it) == mark.container)
                }
            }
    }

    /// Is the interface the one that carries `mark`, or one that a killed engine had no time to mark?
    fn owns(&self, interface: &Interface, mark: &str) -> bool {
        match &interface.alias {
            Some(alias) => Mark::same_owner(alias, mark),
            None => interface.group == making(&self.project),
        }
    }

    /// Is it the end of a link that a container here had under an earlier name of its own? Nobody else of the project
    /// has interfaces in this namespace.
    fn was_renamed(&self, name: &IfName, interface: &Interface) -> bool {
        let mark = interface.alias.as_deref().and_then(Mark::parse);
        matches!(self.scope, Scope::Containers { .. })
            && mark
                .is_some_and(|it| it.project == self.project && it.name == name.as_str() && !self.covers(&it))
    }

    fn mark(&self, container: &str, name: &IfName, note: Note) -> String {
        let mark = Mark {
            project: self.project.clone(),
            container: Mark::container(container),
            name: name.to_string(),
            note,
        };
        mark.to_string()
    }
}

/// Returns the steps that turn `observed` into `desired`, in the order to apply them.
///
/// The state has converged exactly when the result is empty.
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let (bridges, others): (Vec<_>, Vec<_>) = leftovers(desired, observed)
        .into_iter()
        .partition(|(_, _, interface)| matches!(interface.kind, Kind::Bridge(_)));
    // While there is still something to tell that they are ours by.
    route::plan_leftovers(&mut plan, desired, observed);
    plan_leftovers(&mut plan, &others);
    nat::plan_leftovers(&mut plan, desired, observed);
    bridge::plan_ovs_leftover_ports(&mut plan, desired, observed);
    for ((place, name), spec) in &desired.bridges {
        bridge::plan_bridge(&mut plan, desired, observed, (*place).into(), name, spec);
    }
    for tunnel in &desired.tunnels {
        tunnel::plan_tunnel(&mut plan, desired, observed, tunnel);
    }
    link::plan_links(&mut plan, desired, observed);
    patch::plan_patches(&mut plan, desired, observed);
    route::plan_routes(&mut plan, desired, observed);
    // After the links, so that everything else of a link is made. Before the ports that are forwarded to one.
    if let Some(error) = &observed.ovs_error {
        bridge::plan_unknown(&mut plan, desired, error);
    }
    if let Some(forwards) = &desired.forwards {
        forward::plan_forwards(&mut plan, desired, observed, forwards);
    }
    // Bridges go last: an end that moves from one to the next is never without.
    let bridges = bridge::plan_shared(&mut plan, desired, observed, bridges);
    plan_leftovers(&mut plan, &bridges);
    bridge::plan_ovs_leftover_bridges(&mut plan, desired, observed);
    // Of what cannot be had as a whole nothing is made.
    let wholes = desired.wholes();
    if !wholes.is_empty() {
        let refused = plan.refused();
        plan.groups.retain(|it| !(wholes.contains(&it.subject) && refused.contains(&it.subject)));
    }
    plan
}

/// What is ours to remove and not desired, by namespace and name.
fn leftovers<'a>(desired: &Desired, observed: &'a Observed) -> Vec<(&'a Ns, &'a IfName, &'a Interface)> {
    let mut wanted: BTreeSet<(Ns, &IfName)> =
        desired.bridges.keys().map(|(place, name)| (Ns::from(*place), name)).collect();
    for (container, link) in &desired.links {
        wanted.insert((Ns::Container(container.clone()), &link.id.dev));
        if let LinkKind::Veth { place, outer, .. } = &link.kind {
            wanted.insert(((*place).into(), outer));
            // The container may be the engine's own, in whose namespace outer ends are.
            wanted.insert((Ns::Container(container.clone()), outer));
        }
    }
    for end in desired.patches.iter().flat_map(|it| &it.ends).chain(desired.tunnels.iter().map(|it| &it.name))
    {
        wanted.insert((Ns::Bridges, end));
    }
    let inner = desired.inner_ends();
    let mut found = Vec::new();
    for (ns, space) in &observed.spaces {
        for (name, interface) in &space.interfaces {
            if !wanted.contains(&(ns.clone(), name)) && desired.may_remove(ns, name, interface, &inner) {
                found.push((ns, name, interface));
            }
        }
    }
    found
}

fn plan_leftovers(plan: &mut Plan, leftovers: &[(&Ns, &IfName, &Interface)]) {
    for (ns, name, _) in leftovers {
        let step = Step::DelInterface { ns: (*ns).clone(), name: (*name).clone() };
        plan.push(Subject::Leftover((*name).clone()), vec![step]);
    }
}

impl Plan {
    /// The outer ends that this plan makes.
    fn made_outers(&self) -> BTreeSet<IfName> {
        let steps = self.groups.iter().flat_map(|it| &it.steps);
        let outer = |it: &Step| if let Step::AddVeth { peer, .. } = it { Some(peer.clone()) } else { None };
        steps.filter_map(outer).collect()
    }

    /// What cannot be as desired.
    fn refused(&self) -> BTreeSet<Subject> {
        self.problems.iter().map(|it| it.subject.clone()).collect()
    }
}

/// The answer to an interface in our way that is not ours.
fn foreign(subject: Subject, name: &IfName, interface: &Interface, ns: &Ns) -> Problem {
    let whose = match interface.alias.as_deref().and_then(Mark::parse) {
        Some(mark) if mark.container.is_empty() => {
            format!("is bridge `{}` of project `{}`", mark.name, mark.project)
        }
        Some(mark) => {
            format!("is conlink's link {}:{} of project `{}`", mark.container, mark.name, mark.project)
        }
        None => "was not made by conlink".to_owned(),
    };
    Problem {
        subject,
        message: format!("interface `{name}` is there already ({ns}) and {whose}"),
        help: Some("it is left as it is: remove or rename it, or give the link another name".to_owned()),
        origin: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_in_words_steers_no_terminal() {
        let mut plan = Plan::default();
        let ends = |it: &str| it.parse().unwrap();
        let step = Step::AddRedirect { ns: Ns::Bridges, from: ends("a"), to: ends("b") };
        plan.push(Subject::Patch("p\u{1b}[2J\nlink x".to_owned()), vec![step]);
        let message = "no\rway".to_owned();
        plan.problems.push(Problem {
            subject: Subject::Everything,
            message,
            help: Some("a\nb".to_owned()),
            origin: None,
        });
        assert_eq!(
            plan.to_string(),
            "patch p\\u{1b}[2J\\u{a}link x\n  bridges: add redirect a to b\nthe network: no\\u{d}way\n  a\\u{a}b\n"
        );
    }
}
