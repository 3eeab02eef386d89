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

mod link;
mod mark;
mod observed;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::addr::IfName;
use crate::container::ContainerId;
use crate::device::BridgeOptions;
use crate::network::{Attach, Link, LinkId, LinkKind, Place};

pub use mark::{Mark, is_making, making};
pub use observed::{Interface, Kind, Look, Ns, Observed, ObservedAddr, ObservedRoute, Space};
pub use step::{Change, StackedKind, Step};

/// IFA_PROTO and rtm_protocol of addresses and routes that are ours to remove.
pub const PROTOCOL: u8 = 0xc2;

/// What is to be there, of all or of a part.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Empty when the engine serves every project.
    pub project: String,
    pub bridges: BTreeMap<(Place, IfName), BridgeSpec>,
    /// With the container whose namespace each is in.
    pub links: Vec<(ContainerId, Link)>,
    /// Pairs to join, once both ends are there.
    pub patches: Vec<Patch>,
    /// Containers whose namespaces are looked at, links or not.
    pub inside: BTreeSet<ContainerId>,
    pub scope: Scope,
}

/// A bridge of mode linux.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeSpec {
    pub options: BridgeOptions,
    /// A bridge of the same name that somebody else made serves as it is.
    pub join_foreign: bool,
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
    /// Everything at these places but the outer ends in `keep`, which running containers want.
    Project { places: BTreeSet<Place>, keep: BTreeSet<(Place, IfName)> },
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

    fn push(&mut self, subject: Subject, steps: Vec<Step>, undo: Vec<Step>) {
        if !steps.is_empty() {
            self.groups.push(Group { subject, steps, undo });
        }
    }
}

/// Steps that belong together: the first that fails ends them, and `undo` is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub subject: Subject,
    pub steps: Vec<Step>,
    /// Leaves what the group is about absent rather than half there.
    pub undo: Vec<Step>,
}

/// What a group of steps or a problem is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Bridge(String),
    Link(LinkId),
    Patch(String),
    /// An interface of ours that nobody wants any more.
    Leftover(IfName),
    /// A container as a whole, by name or id.
    Container(String),
    /// All that is outside of containers.
    Everything,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge(name) => write!(f, "bridge {name}"),
            Self::Link(id) => write!(f, "link {id}"),
            Self::Patch(name) => write!(f, "patch {name}"),
            Self::Leftover(name) => write!(f, "leftover {name}"),
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
}

impl fmt::Display for Plan {
    /// One line a step, under its group's; what `--dry-run` prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in &self.groups {
            writeln!(f, "{}", group.subject)?;
            for step in &group.steps {
                writeln!(f, "  {}: {step}", step.ns())?;
            }
        }
        for problem in &self.problems {
            writeln!(f, "{}: {}", problem.subject, problem.message)?;
            if let Some(help) = &problem.help {
                writeln!(f, "  {help}")?;
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
    /// Where to look before planning: no more than what the plan compares.
    pub fn looks(&self) -> BTreeMap<Ns, Look> {
        let mut looks = BTreeMap::new();
        let mut name = |ns: Ns, name: &IfName| {
            let names = Look::Names(BTreeSet::new());
            if let Look::Names(names) = looks.entry(ns).or_insert(names) {
                names.insert(name.clone());
            }
        };
        for (place, bridge) in self.bridges.keys() {
            name((*place).into(), bridge);
        }
        for (_, link) in &self.links {
            match &link.kind {
                LinkKind::Veth { place, outer, attach } => {
                    name((*place).into(), outer);
                    if let Attach::Bridge(bridge) = attach {
                        name((*place).into(), bridge);
                    }
                }
                LinkKind::Dummy => {}
                LinkKind::Vlan { place, parent, .. }
                | LinkKind::Macvlan { place, parent, .. }
                | LinkKind::Macvtap { place, parent, .. }
                | LinkKind::Ipvlan { place, parent, .. }
                | LinkKind::Ipvtap { place, parent, .. } => name((*place).into(), parent),
            }
        }
        for end in self.patches.iter().flat_map(|it| &it.ends) {
            name(Ns::Bridges, end);
        }
        match &self.scope {
            Scope::Containers { outers, .. } => {
                for (place, outer) in outers {
                    name((*place).into(), outer);
                }
            }
            Scope::Project { places, .. } => {
                looks.extend(places.iter().map(|it| (Ns::from(*it), Look::All)));
            }
        }
        for container in self.links.iter().map(|(it, _)| it).chain(&self.inside) {
            looks.insert(Ns::Container(container.clone()), Look::All);
        }
        looks
    }

    /// Is the interface this project's, and within what this plan may remove?
    fn may_remove(&self, ns: &Ns, name: &IfName, interface: &Interface) -> bool {
        let kept = match &self.scope {
            Scope::Project { keep, .. } => {
                keep.iter().any(|(place, it)| Ns::from(*place) == *ns && it == name)
            }
            Scope::Containers { .. } => false,
        };
        if kept {
            return false;
        }
        match interface.alias.as_deref().map(Mark::parse) {
            None => interface.group == making(&self.project),
            Some(None) => false,
            Some(Some(mark)) if mark.project != self.project => false,
            Some(Some(mark)) => match &self.scope {
                Scope::Project { .. } => true,
                Scope::Containers { names, .. } => names.contains(&mark.container),
            },
        }
    }

    /// Is the interface the one that carries `mark`, or one that a killed engine had no time to mark?
    fn owns(&self, interface: &Interface, mark: &str) -> bool {
        interface.alias.as_deref() == Some(mark)
            || interface.alias.is_none() && interface.group == making(&self.project)
    }

    fn mark(&self, container: &str, name: &IfName) -> String {
        let mark =
            Mark { project: self.project.clone(), container: container.to_owned(), name: name.to_string() };
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
    plan_leftovers(&mut plan, &others);
    for ((place, name), spec) in &desired.bridges {
        plan_bridge(&mut plan, desired, observed, (*place).into(), name, spec);
    }
    link::plan_links(&mut plan, desired, observed);
    for patch in &desired.patches {
        plan_patch(&mut plan, desired, observed, patch);
    }
    link::plan_routes(&mut plan, desired, observed);
    // Bridges go last: an end that moves from one to the next is never without.
    plan_leftovers(&mut plan, &bridges);
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
        }
    }
    for end in desired.patches.iter().flat_map(|it| &it.ends) {
        wanted.insert((Ns::Bridges, end));
    }
    let mut found = Vec::new();
    for (ns, space) in &observed.spaces {
        for (name, interface) in &space.interfaces {
            if !wanted.contains(&(ns.clone(), name)) && desired.may_remove(ns, name, interface) {
                found.push((ns, name, interface));
            }
        }
    }
    found
}

fn plan_leftovers(plan: &mut Plan, leftovers: &[(&Ns, &IfName, &Interface)]) {
    for (ns, name, _) in leftovers {
        let step = Step::DelInterface { ns: (*ns).clone(), name: (*name).clone() };
        plan.push(Subject::Leftover((*name).clone()), vec![step], Vec::new());
    }
}

fn plan_bridge(
    plan: &mut Plan,
    desired: &Desired,
    observed: &Observed,
    ns: Ns,
    name: &IfName,
    spec: &BridgeSpec,
) {
    let subject = Subject::Bridge(name.to_string());
    let mark = desired.mark("", name);
    let del = Step::DelInterface { ns: ns.clone(), name: name.clone() };
    let add = Step::AddBridge {
        ns: ns.clone(),
        name: name.clone(),
        group: making(&desired.project),
        mark: mark.clone(),
        options: spec.options.clone(),
    };
    let Some(interface) = observed.interface(&ns, name) else {
        return plan.push(subject, vec![add], vec![del]);
    };
    if !desired.owns(interface, &mark) {
        if !(spec.join_foreign && matches!(interface.kind, Kind::Bridge(_))) {
            plan.problems.push(foreign(subject, name, interface, &ns));
        }
        return;
    }
    let Kind::Bridge(options) = &interface.kind else {
        return plan.push(subject, vec![del.clone(), add], vec![del]);
    };
    let mut steps = Vec::new();
    let missing = spec.options.missing_in(options, interface.mtu);
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
    plan.push(subject, steps, Vec::new());
}

impl BridgeOptions {
    /// Those options that are given and differ from `observed`; the rest None.
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
}

fn plan_patch(plan: &mut Plan, desired: &Desired, observed: &Observed, patch: &Patch) {
    let ns = Ns::Bridges;
    // An end whose link is refused is not there, and will not be.
    let refused = |end: &IfName| {
        desired.links.iter().any(|(_, link)| {
            matches!(&link.kind, LinkKind::Veth { outer, .. } if outer == end)
                && plan.problems.iter().any(|it| it.subject == Subject::Link(link.id.clone()))
        })
    };
    let is_there = |end: &IfName| plan.makes_veth(end) || observed.interface(&ns, end).is_some();
    let ends: Vec<&IfName> = patch.ends.iter().filter(|it| is_there(it) && !refused(it)).collect();
    let mut steps = Vec::new();
    for end in &ends {
        let other = match ends.as_slice() {
            [a, b] => Some(if a == end { *b } else { *a }),
            _ => None,
        };
        // An end that this plan makes anew has lost its filter with it.
        let kept = observed.interface(&ns, end).filter(|_| !plan.makes_veth(end));
        let target = other.filter(|it| !plan.makes_veth(it)).and_then(|it| observed.interface(&ns, it));
        let present = kept.and_then(|it| it.redirect);
        if present.is_some() && present == target.map(|it| it.index) {
            continue;
        }
        if present.is_some() {
            steps.push(Step::DelRedirect { ns: ns.clone(), from: (*end).clone() });
        }
        if let Some(other) = other {
            steps.push(Step::AddRedirect { ns: ns.clone(), from: (*end).clone(), to: other.clone() });
        }
    }
    plan.push(Subject::Patch(patch.name.clone()), steps, Vec::new());
}

impl Plan {
    fn makes_veth(&self, outer: &IfName) -> bool {
        self.groups
            .iter()
            .flat_map(|it| &it.steps)
            .any(|it| matches!(it, Step::AddVeth { peer, .. } if peer == outer))
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
    }
}
