//! Makes the kernel hold what is desired: look, plan, apply, and look again until nothing is left to do.
//!
//! Whoever wires something calls [`converge`]; whoever only wants to know what is to be done calls [`preview`].

use std::collections::{BTreeMap, BTreeSet};

use crate::addr::IfName;
use crate::container::ContainerId;
use crate::kernel::{Error, Kernel};
use crate::plan::{
    Change, Desired, Drift, Failure, Group, Look, Ns, Observed, Outcome, Plan, Scope, Step, Subject, plan,
    undo,
};

/// Plans until there is nothing left to do. One more than it should take: an address that goes may take others of its
/// subnet with it, which the second plan puts back, and the third finds to be right.
const ROUNDS: usize = 5;

/// What plans are made for and applied to: the kernel, or a model of it.
pub trait World {
    /// Looks at the parts of the namespaces that are asked for. A container's namespace that is gone is left out.
    ///
    /// # Errors
    /// What could not be looked at.
    fn observe(&mut self, looks: &BTreeMap<Ns, Look>) -> Result<Observed, Error>;

    /// Does what the step says.
    ///
    /// # Errors
    /// What the kernel says against it; then nothing was changed.
    fn apply(&mut self, step: &Step) -> Result<(), Error>;

    /// Deletes interfaces of one namespace, all at once. One that is gone already is deleted.
    ///
    /// # Errors
    /// The first that could not be deleted.
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

/// The plan that [`converge`] would begin with.
///
/// # Errors
/// What could not be looked at.
pub fn preview(world: &mut impl World, desired: &Desired) -> Result<Plan, Box<Failure>> {
    look(world, desired).map(|(plan, _)| plan)
}

/// How the world differs from what is desired: what others changed of [`Desired::settled`], and the rest of the plan that
/// [`converge`] would begin with.
///
/// # Errors
/// What could not be looked at.
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
    contested.extend(plan.lacking_routes(&desired.settled).cloned());
    if contested == desired.contested {
        return Ok((plan, observed));
    }
    look_once(world, &Desired { contested, ..desired.clone() })
}

fn look_once(world: &mut impl World, desired: &Desired) -> Result<(Plan, Observed), Box<Failure>> {
    let observed = world.observe(&desired.looks()).map_err(|it| Box::new(failure(whole(desired), &it)))?;
    Ok((plan(desired, &observed), observed))
}

/// Makes the world hold what is desired.
///
/// A step that fails stops no other that can do without it, and is not tried again in the same run. What of
/// [`Desired::settled`] somebody else changed is left alone and answered as drift. The answer is about what the last
/// look found, not about what was done.
pub fn converge(world: &mut impl World, desired: &Desired) -> Outcome {
    let mut run = Run::default();
    let mut desired = desired.clone();
    for _ in 0..ROUNDS {
        let (mut plan, observed) = match look(world, &desired) {
            Ok(it) => it,
            Err(failure) => {
                run.outcome.failures.push(*failure);
                return run.outcome;
            }
        };
        run.outcome.drift = plan.take_drift(&desired.settled, &observed);
        plan.groups.retain(|it| !run.failed.contains(&it.subject));
        if plan.groups.is_empty() {
            for problem in &plan.problems {
                run.take_back(world, &problem.subject);
                run.outcome.failures.push(Failure::from(problem));
            }
            return run.outcome;
        }
        run.apply(world, &plan, &desired, &observed);
        // What is made anew is made as described, all of it, by however many plans.
        for group in plan.groups.iter().filter(|it| it.steps.iter().any(Step::is_creation)) {
            desired.settled.remove(&group.subject);
        }
        // What is in the way is looked at, and the next plan makes room for ours.
        desired.contested.append(&mut run.contested);
    }
    run.outcome.failures.push(Failure {
        subject: whole(&desired),
        message: format!("still not as described after {ROUNDS} tries: something else changes it too"),
        help: None,
        origin: None,
        is_final: false,
    });
    run.outcome
}

/// One run of [`converge`].
#[derive(Default)]
struct Run {
    outcome: Outcome,
    /// What a step failed for: left for the next run.
    failed: BTreeSet<Subject>,
    /// Containers in which somebody else has a route where one of ours is to be.
    contested: BTreeSet<ContainerId>,
    /// What takes back the steps that were applied, for each link of which all or nothing is wanted.
    undo: BTreeMap<Subject, Vec<Step>>,
}

impl Run {
    /// Applies every group.
    fn apply(&mut self, world: &mut impl World, plan: &Plan, desired: &Desired, observed: &Observed) {
        // What cannot be there at all is not given addresses and routes.
        let mut broken = BTreeSet::new();
        let wholes = desired.wholes();
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
            if !self.apply_group(world, first, desired, observed, wholes.contains(&first.subject)) {
                broken.insert(first.subject.clone());
            }
        }
    }

    /// Answers whether what the group is about can be gone on with. With `is_whole` all of it is wanted, or nothing.
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
                    let steps = self.undo.entry(group.subject.clone()).or_default();
                    steps.extend(undo(step, observed));
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
                self.take_back(world, &group.subject);
                return false;
            }
            if is_gone || step.is_creation() || matches!(step, Step::DelInterface { .. }) {
                return false;
            }
        }
        true
    }

    /// Takes back what this run did for something of which all is wanted, or nothing.
    fn take_back(&mut self, world: &mut impl World, subject: &Subject) {
        for undo in self.undo.remove(subject).unwrap_or_default().iter().rev() {
            log::debug!("{subject}: {}: undo: {undo}", undo.ns());
            if let Err(error) = world.apply(undo) {
                log::debug!("{subject}: {}: {undo}: {error}", undo.ns());
            }
        }
    }
}

/// Applies a step; one that consists of several is applied as far as it can be. Answers what failed, and why.
fn apply_step(world: &mut impl World, step: &Step) -> Vec<(Step, Error)> {
    let Err(error) = world.apply(step) else { return Vec::new() };
    let parts = match step {
        Step::SetInterface { ns, name, change } => {
            let part = |change| Step::SetInterface { ns: ns.clone(), name: name.clone(), change };
            parts(change).into_iter().map(part).collect()
        }
        // A rule that nobody wants goes, whatever is said against the new one.
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

/// The single changes that a change consists of.
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

/// The run of deletions in one namespace that the groups begin with: the kernel does them all in one go.
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

/// What a failure is about that no link can be blamed for.
fn whole(desired: &Desired) -> Subject {
    match &desired.scope {
        Scope::Containers { .. } if !desired.inside.is_empty() => {
            let ids: Vec<&str> = desired.inside.iter().map(|it| it.short()).collect();
            Subject::Container(ids.join(", "))
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
    }
}
