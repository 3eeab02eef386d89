//! Makes the kernel match the desired state: observe, plan, apply, and repeat until the plan is empty.
//!
//! [`converge`] wires; [`preview`] and [`diff`] only compare.

use std::collections::{BTreeMap, BTreeSet};

use crate::addr::IfName;
use crate::container::ContainerId;
use crate::kernel::{Error, Kernel};
use crate::plan::{
    Change, Desired, Drift, Failure, Group, Look, Ns, Observed, Outcome, Plan, Scope, Step, Subject, plan,
    undo,
};
use crate::route::Route;

/// Most rounds of one run, one more than should be needed. A removed address may take others of its subnet with it,
/// which the second plan restores and the third finds correct.
const ROUNDS: usize = 5;

/// The target of plans: the kernel, or a model of it in tests.
pub trait World {
    /// Reads the requested parts of namespaces. A container's namespace that no longer exists is left out.
    ///
    /// # Errors
    /// What could not be read.
    fn observe(&mut self, looks: &BTreeMap<Ns, Look>) -> Result<Observed, Error>;

    /// Applies a step.
    ///
    /// # Errors
    /// The kernel refused it, and nothing was changed.
    fn apply(&mut self, step: &Step) -> Result<(), Error>;

    /// Deletes interfaces of one namespace in one batch. An interface that does not exist is not an error.
    ///
    /// # Errors
    /// The error of the first interface that could not be deleted.
    fn del_interfaces(&mut self, ns: &Ns, names: &[&IfName]) -> Result<(), Error>;
}

impl World for Kernel {
    fn observe(&mut self, looks: &BTreeMap<Ns, Look>) -> Result<Observed, Error> {
        self.observe(looks)
    }

    fn apply(&mut self, step: &Step) -> Result<(), Error> {
        self.apply(step)
    }

    fn del_interfaces(&mut self, ns: &Ns, names: &[&IfName]) -> Result<(), Error> {
        self.del_interfaces(ns, names)
    }
}

/// The first plan of [`converge`].
///
/// # Errors
/// What could not be read.
pub fn preview(world: &mut impl World, desired: &Desired) -> Result<Plan, Box<Failure>> {
    look(world, desired).map(|(plan, _)| plan)
}

/// The differences from the desired state: changes by other programs to [`Desired::settled`], and the rest of the first
/// plan of [`converge`].
///
/// # Errors
/// What could not be read.
pub fn diff(world: &mut impl World, desired: &Desired) -> Result<(Drift, Plan), Box<Failure>> {
    let (mut plan, observed) = look(world, desired)?;
    let drift = plan.take_drift(&desired.settled, &observed);
    Ok((drift, plan))
}

/// The plan for what is there now. Where a route is missing that was there before, those of others are looked at too: one
/// of them may do what is wanted.
fn look(world: &mut impl World, desired: &Desired) -> Result<(Plan, Observed), Box<Failure>> {
    let (plan, observed) = look_once(world, desired)?;
    let mut contested = desired.contested.clone();
    contested.extend(plan.lacking_routes().cloned());
    if contested == desired.contested {
        return Ok((plan, observed));
    }
    look_once(world, &Desired { contested, ..desired.clone() })
}

fn look_once(world: &mut impl World, desired: &Desired) -> Result<(Plan, Observed), Box<Failure>> {
    let observed = world.observe(&desired.looks()).map_err(|it| Box::new(failure(whole(desired), &it)))?;
    Ok((plan(desired, &observed), observed))
}

/// Makes the world match the desired state.
///
/// A failed step stops only the steps that need it, and is not tried again in the same run. Changes by other programs
/// to [`Desired::settled`] are left alone and returned as drift. The outcome describes what the last look found, not
/// what was done.
pub fn converge(world: &mut impl World, desired: &Desired) -> Outcome {
    let mut run = Run::default();
    let mut desired = desired.clone();
    for round in 0..ROUNDS {
        let (mut plan, observed) = match look(world, &desired) {
            Ok(it) => it,
            Err(failure) => {
                run.outcome.failures.push(*failure);
                run.take_back_all(world, &desired);
                return run.outcome;
            }
        };
        if round == 0 && desired.whole {
            run.note_routes(&observed);
        }
        run.outcome.drift = plan.take_drift(&desired.settled, &observed);
        plan.groups.retain(|it| !run.failed.contains(&it.subject));
        if plan.groups.is_empty() {
            for problem in &plan.problems {
                run.take_back(world, &unit(&desired, &problem.subject));
                run.outcome.failures.push(Failure::from(problem));
            }
            return run.outcome;
        }
        run.apply(world, &plan, &desired, &observed);
        if desired.whole && !run.failed.is_empty() {
            return run.outcome;
        }
        // An interface that is made again gets all of its settings, even if that needs several plans.
        for group in plan.groups.iter().filter(|it| it.steps.iter().any(Step::is_creation)) {
            desired.settled.remove(&group.subject);
        }
        // Another program's route is in the place of ours: it is read, and the next plan sets it aside.
        desired.contested.append(&mut run.contested);
    }
    run.outcome.failures.push(Failure {
        subject: whole(&desired),
        message: format!(
            "does not match the configuration after {ROUNDS} tries: another program may be changing it"
        ),
        help: None,
        origin: None,
        is_final: false,
        is_unsupported: false,
    });
    run.take_back_all(world, &desired);
    run.outcome
}

/// One run of [`converge`].
#[derive(Default)]
struct Run {
    outcome: Outcome,
    /// The subjects of failed steps: not tried again in this run.
    failed: BTreeSet<Subject>,
    /// Containers with a route of another program in the place of one of ours.
    contested: BTreeSet<ContainerId>,
    /// The steps that undo the applied ones, for each unit that is all or nothing.
    undo: BTreeMap<Subject, Vec<Step>>,
    /// The routes in containers before the run, if it is all or nothing.
    routes: Vec<(Ns, Route)>,
}

impl Run {
    /// Notes the routes in containers.
    fn note_routes(&mut self, observed: &Observed) {
        let inside = observed.spaces.iter().filter(|(ns, _)| matches!(ns, Ns::Container(_)));
        let routes =
            inside.flat_map(|(ns, it)| it.routes.iter().map(move |it| (ns.clone(), it.route.clone())));
        self.routes.extend(routes);
    }

    /// Applies every group.
    fn apply(&mut self, world: &mut impl World, plan: &Plan, desired: &Desired, observed: &Observed) {
        // A subject with a failed step gets no addresses and routes.
        let mut broken = BTreeSet::new();
        let wholes = desired.wholes();
        let is_whole = |it: &Subject| desired.whole || wholes.contains(it);
        let mut groups = plan.groups.as_slice();
        while let [first, rest @ ..] = groups {
            if let Some((ns, names)) = deletions(groups).filter(|(_, names)| names.len() > 1) {
                let (batch, rest) = groups.split_at(names.len());
                groups = rest;
                self.outcome.changed = true;
                log::debug!("{ns}: del {} interfaces", names.len());
                if let Err(error) = world.del_interfaces(ns, &names) {
                    self.failed.extend(batch.iter().map(|it| it.subject.clone()));
                    self.outcome.failures.push(failure(first.subject.clone(), &error));
                }
                continue;
            }
            groups = rest;
            if broken.contains(&first.subject) {
                continue;
            }
            self.outcome.changed = true;
            if !self.apply_group(world, first, desired, observed, is_whole(&first.subject)) {
                broken.insert(first.subject.clone());
                if desired.whole {
                    return;
                }
            }
        }
    }

    /// Returns whether the next groups of the subject can be applied. With `is_whole` the subject is all or nothing.
    fn apply_group(
        &mut self,
        world: &mut impl World,
        group: &Group,
        desired: &Desired,
        observed: &Observed,
        is_whole: bool,
    ) -> bool {
        for step in &group.steps {
            log::debug!("{}: {}: {step}", group.subject, step.ns());
            let failures = apply_step(world, step);
            if failures.is_empty() {
                if is_whole {
                    let steps = self.undo.entry(unit(desired, &group.subject)).or_default();
                    // They are applied from the last to the first.
                    steps.extend(undo(step, observed).into_iter().rev());
                }
                continue;
            }
            if let (Step::SetRoute { ns: Ns::Container(id), replace: false, .. }, [(_, error)]) =
                (step, failures.as_slice())
                && error.is_taken()
                && !desired.contested.contains(id)
            {
                self.contested.insert(id.clone());
                continue;
            }
            let is_gone = failures.iter().any(|(_, it)| it.is_gone());
            self.failed.insert(group.subject.clone());
            self.outcome.failures.extend(failures.iter().map(|(step, error)| Failure {
                origin: desired.origin(&group.subject, step),
                ..failure(group.subject.clone(), error)
            }));
            if is_whole {
                self.take_back(world, &unit(desired, &group.subject));
                return false;
            }
            if is_gone || step.is_creation() || matches!(step, Step::DelInterface { .. }) {
                return false;
            }
        }
        true
    }

    /// Undoes all that this run did, if all of it is one unit.
    fn take_back_all(&mut self, world: &mut impl World, desired: &Desired) {
        if desired.whole {
            self.take_back(world, &Subject::Everything);
        }
    }

    /// Undoes what this run did for a subject that is all or nothing.
    fn take_back(&mut self, world: &mut impl World, subject: &Subject) {
        for undo in self.undo.remove(subject).unwrap_or_default().iter().rev() {
            log::debug!("{subject}: {}: undo: {undo}", undo.ns());
            if let Err(error) = world.apply(undo) {
                log::debug!("{subject}: {}: {undo}: {error}", undo.ns());
            }
        }
        // The kernel deletes routes with the last address of their interface.
        for (ns, route) in std::mem::take(&mut self.routes) {
            let _ = world.apply(&Step::SetRoute { ns, route, replace: false });
        }
    }
}

/// What is all or nothing together with the subject.
fn unit(desired: &Desired, subject: &Subject) -> Subject {
    if desired.whole { Subject::Everything } else { subject.clone() }
}

/// Applies a step, or as many of its parts as possible. Returns the failed parts with their errors.
fn apply_step(world: &mut impl World, step: &Step) -> Vec<(Step, Error)> {
    let Err(error) = world.apply(step) else { return Vec::new() };
    let parts = match step {
        Step::SetInterface { ns, name, change } => {
            let part = |change| Step::SetInterface { ns: ns.clone(), name: name.clone(), change };
            parts(change).into_iter().map(part).collect()
        }
        // An obsolete rule is deleted even if the new one is refused.
        Step::SetNat { ns, del, add } if !del.is_empty() && !add.is_empty() => vec![
            Step::SetNat { ns: ns.clone(), del: del.clone(), add: Vec::new() },
            Step::SetNat { ns: ns.clone(), del: Vec::new(), add: add.clone() },
        ],
        _ => Vec::new(),
    };
    if parts.len() < 2 || error.is_gone() {
        return vec![(step.clone(), error)];
    }
    parts.into_iter().filter_map(|it| world.apply(&it).err().map(|error| (it, error))).collect()
}

/// The parts of a change.
fn parts(change: &Change) -> Vec<Change> {
    let none = Change::default;
    let Change { mac, mtu, master, mark, up, arp, forwarding, unisolated, no_link_local } = change;
    let all = [
        Change { mark: mark.clone(), no_link_local: *no_link_local, ..none() },
        Change { mac: *mac, ..none() },
        Change { mtu: *mtu, ..none() },
        Change { master: master.clone(), ..none() },
        Change { forwarding: *forwarding, unisolated: *unisolated, ..none() },
        Change { up: *up, arp: *arp, ..none() },
    ];
    all.into_iter().filter(|it| *it != none()).collect()
}

/// The deletions in one namespace at the beginning of the groups: the kernel performs them in one batch.
fn deletions(groups: &[Group]) -> Option<(&Ns, Vec<&IfName>)> {
    let single = |it: &Group| matches!(it.steps.as_slice(), [Step::DelInterface { .. }]);
    let ns = groups.first().filter(|it| single(it))?.steps.first()?.ns();
    let run = groups.iter().take_while(|it| single(it) && it.steps.iter().all(|step| step.ns() == ns));
    let names = run.flat_map(|it| &it.steps).filter_map(|it| match it {
        Step::DelInterface { name, .. } => Some(name),
        _ => None,
    });
    Some((ns, names.collect()))
}

/// The subject of a failure that belongs to no single link.
fn whole(desired: &Desired) -> Subject {
    match &desired.scope {
        Scope::Containers { .. } if !desired.inside.is_empty() => {
            let names: Vec<&str> = desired.inside.iter().map(|it| desired.container_name(it)).collect();
            Subject::Container(names.join(", "))
        }
        Scope::Containers { .. } | Scope::Project { .. } => Subject::Everything,
    }
}

fn failure(subject: Subject, error: &Error) -> Failure {
    Failure {
        subject,
        message: error.to_string(),
        help: error.hint().map(str::to_owned),
        origin: None,
        is_final: false,
        is_unsupported: error.is_unsupported(),
    }
}
