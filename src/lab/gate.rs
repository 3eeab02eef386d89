//! May a node begin, as far as others are concerned?

use crate::service::{Condition, Dependency};

/// How far a node is, to those that depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its program has yet to begin.
    Waiting,
    /// Its program runs; no check of its health has an answer.
    Running,
    Healthy,
    Unhealthy,
    /// Its program has ended, with that exit code, and is not started again.
    Ended(i32),
    /// Its program never began, and never will.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    Closed,
    /// It will never open, and why.
    Never(String),
}

/// Goes through the dependencies of a service; `stages` answers for each replica of one that it names.
pub(super) fn gate(dependencies: &[Dependency], stages: impl Fn(&str) -> Vec<Stage>) -> Gate {
    let mut result = Gate::Open;
    for it in dependencies {
        for stage in stages(&it.service) {
            match one(it, stage) {
                Gate::Open => {}
                Gate::Closed => result = Gate::Closed,
                never @ Gate::Never(_) if it.required => return never,
                Gate::Never(_) => {}
            }
        }
    }
    result
}

fn one(dependency: &Dependency, stage: Stage) -> Gate {
    let service = &dependency.service;
    let never = |why: String| Gate::Never(format!("it depends on `{service}`, which {why}"));
    match (dependency.condition, stage) {
        (_, Stage::Failed) => never("could not begin".to_owned()),
        (_, Stage::Waiting) => Gate::Closed,
        (Condition::Started, _) => Gate::Open,
        (Condition::Healthy, Stage::Healthy) => Gate::Open,
        (Condition::Healthy, Stage::Running) => Gate::Closed,
        (Condition::Healthy, Stage::Unhealthy) => never("is not healthy".to_owned()),
        (Condition::Healthy, Stage::Ended(code)) => never(format!("has ended with exit code {code}")),
        (Condition::CompletedSuccessfully, Stage::Ended(0)) => Gate::Open,
        (Condition::CompletedSuccessfully, Stage::Ended(code)) => {
            never(format!("has ended with exit code {code}"))
        }
        (Condition::CompletedSuccessfully, Stage::Running | Stage::Healthy | Stage::Unhealthy) => {
            Gate::Closed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(condition: Condition, required: bool) -> Dependency {
        Dependency { service: "a".to_owned(), condition, required }
    }

    #[test]
    fn a_gate_opens_when_every_replica_is_that_far() {
        use Stage::{Ended, Failed, Healthy, Running, Unhealthy, Waiting};
        let of = |condition, stages: &[Stage]| match gate(&[on(condition, true)], |_| stages.to_vec()) {
            Gate::Open => "open",
            Gate::Closed => "closed",
            Gate::Never(_) => "never",
        };
        for (stages, started, healthy, completed) in [
            (vec![Waiting], "closed", "closed", "closed"),
            (vec![Running], "open", "closed", "closed"),
            (vec![Running, Waiting], "closed", "closed", "closed"),
            (vec![Healthy], "open", "open", "closed"),
            (vec![Healthy, Running], "open", "closed", "closed"),
            (vec![Unhealthy], "open", "never", "closed"),
            (vec![Ended(0)], "open", "never", "open"),
            (vec![Ended(0), Running], "open", "never", "closed"),
            (vec![Ended(1)], "open", "never", "never"),
            (vec![Failed], "never", "never", "never"),
            (vec![], "open", "open", "open"),
        ] {
            assert_eq!(of(Condition::Started, &stages), started, "started {stages:?}");
            assert_eq!(of(Condition::Healthy, &stages), healthy, "healthy {stages:?}");
            assert_eq!(of(Condition::CompletedSuccessfully, &stages), completed, "completed {stages:?}");
        }
    }

    #[test]
    fn what_is_not_required_stands_in_nobodys_way_by_failing() {
        let optional = on(Condition::CompletedSuccessfully, false);
        assert_eq!(gate(std::slice::from_ref(&optional), |_| vec![Stage::Ended(1)]), Gate::Open);
        assert_eq!(gate(&[optional], |_| vec![Stage::Running]), Gate::Closed);
    }

    #[test]
    fn the_reason_names_the_service() {
        let Gate::Never(why) = gate(&[on(Condition::Healthy, true)], |_| vec![Stage::Ended(3)]) else {
            panic!("open");
        };
        assert_eq!(why, "it depends on `a`, which has ended with exit code 3");
    }
}
