//! Whether the dependencies of a node allow its program to start.

use crate::service::{Condition, Dependency};

/// The state of a node, as those that depend on it see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its program has not started yet.
    Waiting,
    /// Its program is running. No health check has finished yet.
    Running,
    /// It runs no program: it has none, or the machine has no program of that name.
    Idle,
    Healthy,
    Unhealthy,
    /// Its program has exited with that code and is not restarted.
    Ended(i32),
    /// Its program could not be started.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gate<'a> {
    Open,
    /// The dependencies that are not met yet.
    Closed(Vec<&'a Dependency>),
    /// A dependency can never be met, with the reason.
    Never(String),
}

/// Checks the dependencies of a service; `stages` returns the stage of each replica of a service.
pub(super) fn gate(dependencies: &[Dependency], stages: impl Fn(&str) -> Vec<Stage>) -> Gate<'_> {
    let mut unmet = Vec::new();
    for it in dependencies {
        let mut waits = false;
        for stage in stages(&it.service) {
            match one(it.condition, stage) {
                One::Met => {}
                One::Unmet => waits = true,
                One::Never(why) if it.required => {
                    return Gate::Never(format!("it depends on `{}`, which {why}", it.service));
                }
                One::Never(_) => {}
            }
        }
        if waits {
            unmet.push(it);
        }
    }
    if unmet.is_empty() { Gate::Open } else { Gate::Closed(unmet) }
}

/// A condition for one replica.
enum One {
    Met,
    Unmet,
    Never(String),
}

fn one(condition: Condition, stage: Stage) -> One {
    match (condition, stage) {
        (_, Stage::Failed) => One::Never("could not be started".to_owned()),
        (_, Stage::Waiting) => One::Unmet,
        (Condition::Started, _) => One::Met,
        (Condition::Healthy, Stage::Healthy) => One::Met,
        (Condition::Healthy, Stage::Running | Stage::Idle) => One::Unmet,
        (Condition::CompletedSuccessfully, Stage::Idle) => {
            One::Never("runs no program, so it never completes".to_owned())
        }
        (Condition::Healthy, Stage::Unhealthy) => One::Never("is unhealthy".to_owned()),
        (Condition::CompletedSuccessfully, Stage::Ended(0)) => One::Met,
        (Condition::Healthy | Condition::CompletedSuccessfully, Stage::Ended(code)) => {
            One::Never(format!("exited with code {code}"))
        }
        (Condition::CompletedSuccessfully, Stage::Running | Stage::Healthy | Stage::Unhealthy) => One::Unmet,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(condition: Condition, required: bool) -> Dependency {
        Dependency { service: "a".to_owned(), condition, required }
    }

    #[test]
    fn a_dependency_is_met_when_every_replica_meets_it() {
        use Stage::{Ended, Failed, Healthy, Idle, Running, Unhealthy, Waiting};
        let of = |condition, stages: &[Stage]| match gate(&[on(condition, true)], |_| stages.to_vec()) {
            Gate::Open => "open",
            Gate::Closed(unmet) => {
                assert_eq!(unmet, [&on(condition, true)]);
                "closed"
            }
            Gate::Never(_) => "never",
        };
        for (stages, started, healthy, completed) in [
            (vec![Waiting], "closed", "closed", "closed"),
            (vec![Running], "open", "closed", "closed"),
            (vec![Idle], "open", "closed", "never"),
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
    fn a_dependency_that_is_not_required_may_fail() {
        let optional = on(Condition::CompletedSuccessfully, false);
        assert_eq!(gate(std::slice::from_ref(&optional), |_| vec![Stage::Ended(1)]), Gate::Open);
        assert!(matches!(gate(&[optional], |_| vec![Stage::Running]), Gate::Closed(_)));
    }

    #[test]
    fn the_reason_names_the_service() {
        let Gate::Never(why) = gate(&[on(Condition::Healthy, true)], |_| vec![Stage::Ended(3)]) else {
            panic!("open");
        };
        assert_eq!(why, "it depends on `a`, which exited with code 3");
    }
}
