//! Plans: the steps from the observed to the desired state.
//!
//! The state has converged exactly when the plan is empty. This one definition serves start-up, events, `--once`,
//! `--dry-run`, the check after each change, and the adoption of a killed engine's interfaces.
//!
//! Architecture invariant: this module does no I/O, reads no clock and draws no random numbers. Every choice is
//! made here, so that applying a [`Step`] leaves nothing to decide.
//!
//! Architecture invariant: a plan changes or deletes only interfaces with a mark of this project, or in the project's
//! group of unfinished interfaces.

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
mod parent;
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

pub use mark::{ATTACHED, Mark, Note, is_making, making};
pub use news::{Names, News};
pub use observed::{
    FeatureState, Forwarding, Interface, Kind, Localnet, Look, Ns, Observed, ObservedAddr, ObservedRoute,
    OvsBridge, OvsError, Qdisc, Space, When, Which,
};
pub use outcome::{Drift, Failure, Outcome};
pub use step::{Change, Step};
pub use undo::undo;

/// IFA_PROTO and rtm_protocol of our addresses and routes.
pub const PROTOCOL: u8 = 0xc2;

/// The desired state of the network, or of a part of it.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The project as in marks ([`Mark::project`]). Empty if the engine serves every project.
    pub project: String,
    pub bridges: BTreeMap<(Place, IfName), BridgeSpec>,
    /// Links with the container in whose namespace they are.
    pub links: Vec<(ContainerId, Link)>,
    /// Patches: their ends are joined once both exist.
    pub patches: Vec<Patch>,
    pub tunnels: Vec<TunnelSpec>,
    /// Interfaces of the host that links are on.
    pub parents: BTreeMap<IfName, ParentSpec>,
    /// Forwarded ports. None: the existing ones do not change.
    pub forwards: Option<Forwards>,
    /// Containers whose namespaces are read even if they have no links.
    pub inside: BTreeSet<ContainerId>,
    pub scope: Scope,
    /// Containers whose routes of other programs are read too, because one of them is in the place of ours.
    pub contested: BTreeSet<ContainerId>,
    /// Subjects that matched before. Later changes by other programs are left alone and reported as drift.
    pub settled: BTreeSet<Subject>,
    /// Either all of it is applied, or nothing.
    pub whole: bool,
}

impl Desired {
    /// The name of a container; its short id if nothing here names it.
    pub fn container_name<'a>(&'a self, id: &'a ContainerId) -> &'a str {
        let link = self.links.iter().find(|(container, _)| container == id);
        let only = || match &self.scope {
            Scope::Containers { names, .. } if names.len() == 1 && self.inside.len() == 1 => names.first(),
            Scope::Containers { .. } | Scope::Project { .. } => None,
        };
        link.map(|(_, link)| &link.id.container).or_else(only).map_or(id.short(), |it| it.as_str())
    }
}

/// A bridge of mode linux or ovs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeSpec {
    pub options: BridgeOptions,
    /// An existing bridge of that name is used as it is.
    pub join_foreign: bool,
    /// It is an Open vSwitch bridge.
    pub ovs: bool,
}

/// An interface of the host that a link is on. It is up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParentSpec {
    /// It is a VLAN of another interface, and is made if it does not exist.
    pub vlan: Option<Vlan>,
    /// The bridge that it is a port of.
    pub master: Option<IfName>,
}

/// A VLAN of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlan {
    pub parent: IfName,
    /// 1 to 4094.
    pub id: u16,
}

/// A tunnel interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelSpec {
    pub name: IfName,
    pub attach: Attach,
    /// The namespace with the routes to the other host.
    pub underlay: Ns,
    pub options: TunnelOptions,
    pub mac: Mac,
    pub mtu: Option<u32>,
    pub netem: Option<Netem>,
}

/// Forwarded ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwards {
    pub specs: Vec<ForwardSpec>,
    /// These are all forwarded ports of the project: others are removed.
    pub whole: bool,
}

/// A port in the namespace of the bridges that is forwarded to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardSpec {
    pub link: LinkId,
    pub bridge: IfName,
    pub forward: Forward,
    /// The container's address.
    pub to: IpAddr,
}

/// One or two outer ends; two of them exchange their frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    pub name: String,
    pub ends: Vec<IfName>,
}

/// What a plan may remove, if it has a mark of the project and is not desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything at these places except outer ends in `keep`, which running containers need, and `inner` ends, which
    /// are there if a container shares the namespace.
    Project { places: BTreeSet<Place>, keep: BTreeSet<(Place, IfName)>, inner: BTreeSet<LinkId> },
    /// The links of these containers, by name; `outers` are their possible outer ends. With `only`, of their interfaces
    /// only this one.
    Containers { names: BTreeSet<String>, outers: BTreeSet<(Place, IfName)>, only: Option<IfName> },
}

/// The steps that turn what is observed into what is desired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are applied. A failed group does not stop the others.
    pub groups: Vec<Group>,
    /// Why some of the desired state is impossible.
    pub problems: Vec<Problem>,
}

impl Plan {
    /// Is there nothing to do, and no problem? Then the state has converged.
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

/// The steps of one subject, in the order in which they are applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub subject: Subject,
    pub steps: Vec<Step>,
}

/// The part of the network that steps, problems and failures belong to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Bridge(String),
    Tunnel(IfName),
    /// An interface of the host that links are on.
    Parent(IfName),
    Link(LinkId),
    Patch(String),
    /// An interface of ours that is no longer configured.
    Leftover(IfName),
    /// All leftovers, if they cannot be listed.
    Leftovers,
    /// A whole container, by name or id.
    Container(String),
    /// Everything outside of containers.
    Everything,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge(name) => write!(f, "bridge {name}"),
            Self::Tunnel(name) => write!(f, "tunnel {name}"),
            Self::Parent(name) => write!(f, "interface {name}"),
            Self::Link(id) => write!(f, "link {id}"),
            Self::Patch(name) => write!(f, "patch {name}"),
            Self::Leftover(name) => write!(f, "leftover {name}"),
            Self::Leftovers => f.write_str("leftovers"),
            Self::Container(name) => write!(f, "container {name}"),
            Self::Everything => f.write_str("the network"),
        }
    }
}

/// Why a subject cannot match the desired state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub subject: Subject,
    pub message: String,
    pub help: Option<String>,
    /// As [`Failure::origin`].
    pub origin: Option<String>,
}

impl fmt::Display for Plan {
    /// One line per step, below the line of its subject, as printed by `--dry-run`.
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
    /// A state without anything that `scope` covers.
    pub fn nothing(project: String, scope: Scope) -> Self {
        Self {
            project: Mark::project(&project),
            bridges: BTreeMap::new(),
            links: Vec::new(),
            patches: Vec::new(),
            tunnels: Vec::new(),
            parents: BTreeMap::new(),
            forwards: None,
            inside: BTreeSet::new(),
            scope,
            contested: BTreeSet::new(),
            settled: BTreeSet::new(),
            whole: false,
        }
    }

    /// What to read before planning: only what the plan compares.
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
                LinkKind::Dummy | LinkKind::Tunnel { .. } => {}
                LinkKind::Stacked(it) => name(it.place.into(), &it.parent),
                LinkKind::Moved(it) => name(Ns::Host, it),
            }
        }
        for end in self.patches.iter().flat_map(|it| &it.ends).chain(self.tunnels.iter().map(|it| &it.name)) {
            name(Ns::Bridges, end);
        }
        for (parent, spec) in &self.parents {
            name(Ns::Host, parent);
            spec.vlan.iter().for_each(|it| name(Ns::Host, &it.parent));
            spec.master.iter().for_each(|it| name(Ns::Host, it));
        }
        if let Scope::Containers { outers, .. } = &self.scope {
            for (place, outer) in outers {
                name((*place).into(), outer);
            }
        }
        for (_, link) in &self.links {
            if let (LinkKind::Veth { place, outer, attach: Attach::Bridge(_) }, Some(_)) =
                (&link.kind, link.port.vlan)
            {
                looks.entry((*place).into()).or_default().port_vlans.insert(outer.clone());
            }
        }
        let attached = |it: &Attach| matches!(it, Attach::Ovs(_));
        let link = |it: &Link| matches!(&it.kind, LinkKind::Veth { attach, .. } if attached(attach));
        let ovs = self.bridges.values().any(|it| it.ovs)
            || self.links.iter().any(|(_, it)| link(it))
            || self.tunnels.iter().any(|it| attached(&it.attach))
            || matches!(self.scope, Scope::Project { .. })
            // What is removed may be a port.
            || matches!(self.scope, Scope::Containers { only: Some(_), .. }) && self.links.is_empty();
        if ovs {
            looks.entry(Ns::Bridges).or_default().ovs = true;
        }
        // An existing outer end may have an impairment that is no longer configured.
        for look in looks.values_mut() {
            look.qdiscs = true;
        }
        let linked: BTreeSet<&ContainerId> = self.links.iter().map(|(it, _)| it).collect();
        for container in &self.inside {
            let look = looks.entry(Ns::Container(container.clone())).or_insert_with(Look::inside);
            if !linked.contains(container) {
                // Leftovers of links may be routes only.
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

    /// May this plan remove the interface? `inner` is [`Desired::inner_ends`].
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

    /// The links by the container in whose namespace they are.
    fn links_by_container(&self) -> BTreeMap<&ContainerId, Vec<&Link>> {
        let mut links: BTreeMap<&ContainerId, Vec<&Link>> = BTreeMap::new();
        for (container, link) in &self.links {
            links.entry(container).or_default().push(link);
        }
        links
    }

    /// The links with `required: true`.
    pub fn wholes(&self) -> BTreeSet<Subject> {
        let links = self.links.iter().map(|(_, it)| it).filter(|it| it.required);
        links.map(|it| Subject::Link(it.id.clone())).collect()
    }

    /// The inner ends of the links of running containers: the container as in marks, and the interface.
    fn inner_ends(&self) -> BTreeSet<(String, &IfName)> {
        let Scope::Project { inner, .. } = &self.scope else { return BTreeSet::new() };
        inner.iter().map(|it| (Mark::container(&it.container), &it.dev)).collect()
    }

    /// Does the scope of this plan include this mark?
    fn covers(&self, mark: &Mark) -> bool {
        mark.project == self.project
            && match &self.scope {
                Scope::Project { .. } => true,
                Scope::Containers { names, only, .. } => {
                    names.iter().any(|it| Mark::container(it) == mark.container)
                        && only.as_ref().is_none_or(|it| it.as_str() == mark.name)
                }
            }
    }

    /// Does the interface have this mark, or is it one that a killed engine had no time to mark?
    fn owns(&self, interface: &Interface, mark: &str) -> bool {
        match &interface.alias {
            Some(alias) => Mark::same_owner(alias, mark),
            None => interface.group == making(&self.project),
        }
    }

    /// Does the interface have the mark of a container in this namespace under the container's earlier name? No other
    /// container of the project has interfaces there.
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
    // Before the interfaces go, whose marks identify these routes.
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
    for (name, spec) in &desired.parents {
        parent::plan_parent(&mut plan, desired, observed, name, spec);
    }
    link::plan_links(&mut plan, desired, observed);
    patch::plan_patches(&mut plan, desired, observed);
    route::plan_routes(&mut plan, desired, observed);
    // After the links, so that everything else of a link is made; before the ports forwarded to it.
    if let Some(error) = &observed.ovs_error {
        bridge::plan_unknown(&mut plan, desired, error);
    }
    if let Some(forwards) = &desired.forwards {
        forward::plan_forwards(&mut plan, desired, observed, forwards);
    }
    // Bridges are removed last, so that an end that moves to another bridge always has one.
    let bridges = bridge::plan_shared(&mut plan, desired, observed, bridges);
    plan_leftovers(&mut plan, &bridges);
    bridge::plan_ovs_leftover_bridges(&mut plan, desired, observed);
    // A link with `required: true` that cannot be made completely is not made at all.
    let wholes = desired.wholes();
    if !wholes.is_empty() {
        let refused = plan.refused();
        plan.groups.retain(|it| !(wholes.contains(&it.subject) && refused.contains(&it.subject)));
    }
    plan
}

/// The step that returns an interface of the host from a container.
fn moved_back(ns: &Ns, name: &IfName, was: IfName) -> Step {
    Step::MoveInterface {
        ns: ns.clone(),
        name: name.clone(),
        to: Ns::Host,
        to_name: was,
        mac: None,
        mtu: None,
    }
}

/// Interfaces of ours that are not desired, by namespace and name.
fn leftovers<'a>(desired: &Desired, observed: &'a Observed) -> Vec<(&'a Ns, &'a IfName, &'a Interface)> {
    let mut wanted: BTreeSet<(Ns, &IfName)> =
        desired.bridges.keys().map(|(place, name)| (Ns::from(*place), name)).collect();
    for (container, link) in &desired.links {
        wanted.insert((Ns::Container(container.clone()), &link.id.dev));
        if let LinkKind::Veth { place, outer, .. } = &link.kind {
            wanted.insert(((*place).into(), outer));
            // The container may share the engine's namespace, where the outer ends are.
            wanted.insert((Ns::Container(container.clone()), outer));
        }
        if let LinkKind::Moved(name) = &link.kind {
            wanted.insert((Ns::Host, name));
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
    for (ns, name, interface) in leftovers {
        let (ns, name) = ((*ns).clone(), (*name).clone());
        let step = match interface.note().moved {
            Some(was) if ns != Ns::Host => moved_back(&ns, &name, was),
            Some(_) => Step::SetInterface { ns, name: name.clone(), change: Change::unmarked() },
            None => Step::DelInterface { ns, name: name.clone() },
        };
        plan.push(Subject::Leftover(name), vec![step]);
    }
}

impl Plan {
    /// The outer ends that this plan makes.
    fn made_outers(&self) -> BTreeSet<IfName> {
        let steps = self.groups.iter().flat_map(|it| &it.steps);
        let outer = |it: &Step| if let Step::AddVeth { peer, .. } = it { Some(peer.clone()) } else { None };
        steps.filter_map(outer).collect()
    }

    /// The subjects with problems.
    fn refused(&self) -> BTreeSet<Subject> {
        self.problems.iter().map(|it| it.subject.clone()).collect()
    }
}

/// The error for an interface that has the name of one of ours but does not belong to it.
fn foreign(subject: Subject, name: &IfName, alias: Option<&str>, ns: &Ns) -> Problem {
    let mark = alias.and_then(Mark::parse);
    let owner = match &mark {
        Some(mark) if mark.container.is_empty() => {
            format!("is bridge `{}` of project `{}`", mark.name, mark.project)
        }
        Some(Mark { project, container, .. }) if project.starts_with(ATTACHED) => {
            let kind = project.split_at(ATTACHED.len()).1;
            format!("`conlink attach` made for {kind}:{}", Mark::plain(container))
        }
        Some(mark) => {
            format!("is conlink's link {}:{} of project `{}`", mark.container, mark.name, mark.project)
        }
        None => "was not made by conlink".to_owned(),
    };
    let (message, help) = match ns {
        Ns::Container(_) => (
            format!("the container already has an interface `{name}`, which {owner}"),
            match mark {
                Some(mark) if mark.project.starts_with(ATTACHED) => {
                    "`conlink detach` removes it; or use another `dev`".to_owned()
                }
                Some(mark) if !mark.project.is_empty() => {
                    format!(
                        "serve that project with `--compose-project {}`, or use another `dev`",
                        mark.project
                    )
                }
                _ => "set `network_mode: none` for the service, or use another `dev`".to_owned(),
            },
        ),
        Ns::Bridges | Ns::Host => (
            format!("interface `{name}` already exists ({ns}) and {owner}"),
            "conlink does not change it: remove or rename it, or use another name".to_owned(),
        ),
    };
    Problem { subject, message, help: Some(help), origin: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_of_another_project_says_how_to_serve_that_project() {
        let mark = Mark {
            project: "demo".to_owned(),
            container: "demo-h-1".to_owned(),
            name: "eth0".to_owned(),
            note: Note::default(),
        };
        let (subject, dev) = (Subject::Everything, "eth0".parse().unwrap());
        let ns = Ns::Container(crate::container::ContainerId::new("a"));
        let foreign = foreign(subject, &dev, Some(&mark.to_string()), &ns);
        assert!(foreign.message.ends_with("is conlink's link demo-h-1:eth0 of project `demo`"));
        assert_eq!(
            foreign.help.unwrap(),
            "serve that project with `--compose-project demo`, or use another `dev`"
        );
    }

    #[test]
    fn a_printed_plan_contains_no_control_characters() {
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
