//! The health of a node, which a command of its service checks periodically.

use std::time::{Duration, Instant};

use crate::process::node::Ended;
use crate::service::Healthcheck;

/// The result of the checks so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Health {
    #[default]
    Unknown,
    Healthy,
    Unhealthy,
}

/// The checks of a node, by the rules of Docker's HEALTHCHECK.
#[derive(Debug, Default)]
pub(super) struct Checks {
    pub(super) health: Health,
    began: Option<Instant>,
    failures: u32,
    next: Option<Instant>,
    running: Option<(i32, Instant)>,
}

impl Checks {
    /// Starts the checks, when the program starts.
    pub(super) fn begin(&mut self, check: &Healthcheck, now: Instant) {
        *self = Self { began: Some(now), ..Self::default() };
        self.next = Some(now + self.pause(check, now));
    }

    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// Whether the next check is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.running.is_none() && self.next.is_some_and(|it| it <= now)
    }

    pub(super) fn runs(&mut self, pid: i32, check: &Healthcheck, now: Instant) {
        self.running = Some((pid, now + check.timeout));
        self.next = None;
    }

    /// The process ID of a check that has exceeded its timeout. Each is returned once.
    pub(super) fn late(&mut self, now: Instant) -> Option<i32> {
        let (pid, until) = self.running.filter(|(_, until)| *until <= now)?;
        // It is killed only once; its end is reported as usual.
        self.running = Some((pid, until + Duration::from_secs(3600)));
        Some(pid)
    }

    /// Records the result of a check.
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
            // Failures within the start period do not count.
            if !starts || self.health == Health::Healthy {
                self.failures += 1;
            }
            if self.failures >= check.retries.max(1) {
                self.health = Health::Unhealthy;
            }
        }
        self.next = Some(now + self.pause(check, now));
    }

    /// Time until the next check; the start period has an interval of its own.
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
    fn failures_count_after_the_start_period_and_a_success_resets_them() {
        let (check, start) = (check(2, 30), Instant::now());
        let mut checks = Checks::default();
        checks.begin(&check, start);
        let mut at = start;
        let mut told = Vec::new();
        // The first five are within the start period and do not count.
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
    fn without_a_start_period_the_first_check_comes_after_the_usual_interval() {
        let start = Instant::now();
        for (start_period, seconds) in [(0, 10), (30, 5)] {
            let mut checks = Checks::default();
            checks.begin(&check(1, start_period), start);
            assert_eq!(checks.wake_at(), Some(start + Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn a_check_that_exceeds_its_timeout_is_reported_once() {
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
