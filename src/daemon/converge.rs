//! One job: observe, plan, apply, and observe again until the plan is empty.

use std::collections::BTreeSet;

use crate::daemon::Print;
use crate::kernel::{self, Kernel};
use crate::plan::{Group, Ns, Plan, Problem, Step, Subject, plan};
use crate::reconcile::{About, Failure, Job, Outcome};

/// How far the loop goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Until it is told to stop.
    Run,
    /// Until what runs now is wired.
    Once,
    /// Print what would be done, do nothing.
    DryRun,
}

/// Plans until there is nothing left to do. One more than it should take: an address that goes may take others of its
/// subnet with it, which the second plan puts back, and the third finds to be right.
const ROUNDS: usize = 4;

/// Makes the kernel hold what the job desires.
pub fn converge(kernel: &mut Kernel, job: &Job, mode: Mode, print: Print) -> Outcome {
    let mut outcome = Outcome { changed: false, failures: job.refused.clone() };
    for _ in 0..ROUNDS {
        let plan = match kernel.observe(&job.desired.looks()) {
            Ok(observed) => plan(&job.desired, &observed),
            Err(error) => {
                outcome.failures.push(failure(subject(&job.about), &error));
                return outcome;
            }
        };
        if mode == Mode::DryRun {
            let plan = without_bridges(plan, &job.about);
            outcome.failures.extend(plan.problems.iter().map(problem));
            if let Err(error) = print(&plan.to_string()) {
                log::debug!("print the plan: {error:#}");
            }
            return outcome;
        }
        let failed = apply(kernel, &plan, &mut outcome);
        outcome.failures.extend(plan.problems.iter().map(problem));
        if plan.groups.is_empty() || failed || !plan.problems.is_empty() {
            return outcome;
        }
    }
    outcome.failures.push(Failure {
        subject: subject(&job.about),
        message: format!("still not as described after {ROUNDS} tries: something else changes it too"),
        help: None,
        origin: None,
        is_final: false,
    });
    outcome
}

/// Containers' plans bring the bridges that they need, which in a plan that is only printed stay missing.
fn without_bridges(mut plan: Plan, about: &About) -> Plan {
    if matches!(about, About::Containers(_)) {
        plan.groups.retain(|it| !matches!(it.subject, Subject::Bridge(_)));
    }
    plan
}

fn problem(it: &Problem) -> Failure {
    Failure {
        subject: it.subject.clone(),
        message: it.message.clone(),
        help: it.help.clone(),
        origin: None,
        is_final: false,
    }
}

/// What a failure is about that no link can be blamed for.
fn subject(about: &About) -> Subject {
    match about {
        About::Containers(ids) => {
            Subject::Container(ids.iter().map(|it| it.short()).collect::<Vec<_>>().join(", "))
        }
        About::Base | About::Gone | About::Teardown => Subject::Everything,
    }
}

/// Applies every group; the first step that fails ends its group and has it undone. Has any failed?
fn apply(kernel: &mut Kernel, plan: &Plan, outcome: &mut Outcome) -> bool {
    let mut failed = BTreeSet::new();
    let mut groups = plan.groups.as_slice();
    while let [first, rest @ ..] = groups {
        let batch = deletions(groups);
        if let Some((ns, names)) = batch.filter(|(_, names)| names.len() > 1) {
            groups = groups.get(names.len()..).unwrap_or_default();
            outcome.changed = true;
            log::debug!("{ns}: del {} interfaces", names.len());
            if let Err(error) = kernel.del_interfaces(ns, &names) {
                outcome.failures.push(failure(first.subject.clone(), &error));
            }
            continue;
        }
        groups = rest;
        // A link that could not be made is not given routes.
        if failed.contains(&first.subject) {
            continue;
        }
        outcome.changed = true;
        if let Err(it) = apply_group(kernel, first) {
            outcome.failures.push(*it);
            failed.insert(first.subject.clone());
        }
    }
    !failed.is_empty()
}

fn apply_group(kernel: &mut Kernel, group: &Group) -> Result<(), Box<Failure>> {
    for step in &group.steps {
        log::debug!("{}: {}: {step}", group.subject, step.ns());
        if let Err(error) = kernel.apply(step) {
            for undo in &group.undo {
                if let Err(error) = kernel.apply(undo) {
                    log::debug!("{}: {}: {undo}: {error}", group.subject, undo.ns());
                }
            }
            return Err(Box::new(failure(group.subject.clone(), &error)));
        }
    }
    Ok(())
}

/// The run of deletions in one namespace that the groups begin with: the kernel does them all in one go.
fn deletions(groups: &[Group]) -> Option<(&Ns, Vec<&crate::addr::IfName>)> {
    let single = |it: &Group| matches!(it.steps.as_slice(), [Step::DelInterface { .. }]);
    let ns = groups.first().filter(|it| single(it))?.steps.first()?.ns();
    let run = groups.iter().take_while(|it| single(it) && it.steps.iter().all(|step| step.ns() == ns));
    let names = run.flat_map(|it| &it.steps).filter_map(|it| match it {
        Step::DelInterface { name, .. } => Some(name),
        _ => None,
    });
    Some((ns, names.collect()))
}

fn failure(subject: Subject, error: &kernel::Error) -> Failure {
    Failure {
        subject,
        message: error.to_string(),
        help: error.hint().map(str::to_owned),
        origin: None,
        is_final: false,
    }
}
