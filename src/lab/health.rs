//! Whether a node is healthy, by a command of its service that is run again and again.

use std::time::{Duration, Instant};

use crate::process::node::Ended;
use crate::service::Healthcheck;

/// What checks have told so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Health {
    #[default]
    Unknown,
    Healthy,
    Unhealthy,
}

/// The course of a node's checks, by the rules of Docker's HEALTHCHECK.
#[derive(Debug, Default)]
pub(super) struct Checks {
    pub(super) health: Health,
    began: Option<Instant>,
    failures: u32,
    next: Option<Instant>,
    running: Option<(i32, Instant)>,
}

impl Checks {
    /// Begins them, with the program.
    pub(super) fn begin(&mut self, check: &Healthcheck, now: Instant) {
        *self = Self { began: Some(now), ..Self::default() };
        self.next = Some(now + self.pause(check, now));
    }

    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// Is it time for another one? Then one that takes too long is to be killed by the same process id as before.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.running.is_none() && self.next.is_some_and(|it| it <= now)
    }

    pub(super) fn runs(&mut self, pid: i32, check: &Healthcheck, now: Instant) {
        self.running = Some((pid, now + check.timeout));
        self.next = None;
    }

    /// One that has run for longer than it may.
    pub(super) fn late(&mut self, now: Instant) -> Option<i32> {
        let (pid, until) = self.running.filter(|(_, until)| *until <= now)?;
        // Once is enough; its end is told all the same.
        self.running = Some((pid, until + Duration::from_secs(3600)));
        Some(pid)
    }

    /// Takes in what came of one.
    pub(super) fn ran(&mut self, pid: i32, ended: Ended, check: &Healthcheck, now: Instant) {
        if self.running.is_none_or(|(it, _)| it != pid) {
            return;
        }
        self.running = None;
        if ended.code() == 0 {
            self.failures = 0;
            self.health = Health::Healthy;
        } else {
            let starts = self.began.is_some_and(|it| now < it + check.start_period);
            // Within the time that a service is given to start, nothing counts against it.
            if !starts || self.health == Health::Healthy {
                self.failures += 1;
            }
            if self.failures >= check.retries.max(1) {
                self.health = Health::Unhealthy;
            }
        }
        self.next = Some(now + self.pause(check, now));
    }

    /// How long until the next one: while a service starts, by an interval of its own.
    fn pause(&self, check: &Healthcheck, now: Instant) -> Duration {
        let starts = self.began.is_none_or(|it| now < it + check.start_period);
        if starts && self.health == Health::Unknown { check.start_interval } else { check.interval }
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.next.into_iter().chain(self.running.map(|(_, until)| until)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(retries: u32, start_period: u64) -> Healthcheck {
        Healthcheck {
            argv: vec!["true".to_owned()],
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
            retries,
            start_period: Duration::from_secs(start_period),
            start_interval: Duration::from_secs(5),
        }
    }

    #[test]
    fn failures_count_after_the_time_to_start_and_one_success_ends_them() {
        let (check, start) = (check(2, 30), Instant::now());
        let mut checks = Checks::default();
        checks.begin(&check, start);
        let mut at = start;
        let mut told = Vec::new();
        // Five while it starts, which do not count, and then.
        for code in [1, 1, 1, 1, 1, 0, 1, 1, 0] {
            at = checks.wake_at().unwrap();
            assert!(checks.is_due(at));
            checks.runs(7, &check, at);
            checks.ran(7, Ended::Code(code), &check, at);
            told.push(checks.health);
        }
        use Health::{Healthy, Unhealthy, Unknown};
        assert_eq!(told, [Unknown, Unknown, Unknown, Unknown, Unknown, Healthy, Healthy, Unhealthy, Healthy]);
        assert_eq!(at - start, Duration::from_secs(60));
    }

    #[test]
    fn without_a_time_to_start_the_first_check_comes_after_the_usual_interval() {
        let start = Instant::now();
        for (start_period, seconds) in [(0, 10), (30, 5)] {
            let mut checks = Checks::default();
            checks.begin(&check(1, start_period), start);
            assert_eq!(checks.wake_at(), Some(start + Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn one_that_takes_too_long_is_named_once() {
        let (check, start) = (check(1, 0), Instant::now());
        let mut checks = Checks::default();
        checks.begin(&check, start);
        checks.runs(9, &check, start);
        assert_eq!(checks.late(start + Duration::from_secs(1)), None);
        assert_eq!(checks.late(start + Duration::from_secs(2)), Some(9));
        assert_eq!(checks.late(start + Duration::from_secs(3)), None);
        checks.ran(9, Ended::Signal(9), &check, start + Duration::from_secs(3));
        assert_eq!(checks.health, Health::Unhealthy);
    }
}
