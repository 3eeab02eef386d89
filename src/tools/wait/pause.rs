//! The pauses between attempts. They are random, because waiters that one event releases would otherwise try at the same
//! moments, and a server that accepts a single connection would have all of them in its queue.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The limits of the first pause and of the longest ones; the limit doubles from pause to pause.
const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(1);

/// The shortest pause, so that other programs can run.
const LEAST: Duration = Duration::from_millis(5);

/// The pauses of one condition.
#[derive(Debug)]
pub(super) struct Pauses {
    /// The fixed pause, if `-s` sets it. Only the first pause is random then.
    interval: Option<Duration>,
    /// The limit of the next random pause.
    limit: Duration,
    is_first: bool,
}

impl Pauses {
    pub(super) fn new(interval: Option<Duration>) -> Self {
        let interval = interval.map(|it| it.max(LEAST));
        Self { interval, limit: interval.unwrap_or(FIRST), is_first: true }
    }

    /// Starts again with short pauses.
    pub(super) fn restart(&mut self) {
        self.limit = self.interval.unwrap_or(FIRST);
    }

    /// The pause after an attempt that succeeded.
    pub(super) fn steady(&self) -> Duration {
        self.interval.unwrap_or(FIRST)
    }

    /// The pause after an attempt that failed.
    pub(super) fn next(&mut self) -> Duration {
        let limit = self.limit;
        self.limit = self.interval.unwrap_or((limit * 2).min(LAST));
        let is_first = std::mem::replace(&mut self.is_first, false);
        if self.interval.is_some() && !is_first { limit } else { part_of(limit).max(LEAST) }
    }
}

/// A random part of a time.
fn part_of(time: Duration) -> Duration {
    // Hashers of the standard library start with random keys.
    let random = RandomState::new().build_hasher().finish() as u32;
    time.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_random_below_a_limit_that_doubles_up_to_a_second() {
        let limits = [50, 100, 200, 400, 800, 1000, 1000].map(Duration::from_millis);
        let pauses: Vec<Vec<Duration>> = (0..100)
            .map(|_| {
                let mut pauses = Pauses::new(None);
                limits.map(|_| pauses.next()).to_vec()
            })
            .collect();
        for (at, limit) in limits.into_iter().enumerate() {
            let (least, most) = (pauses.iter().map(|it| it[at]).min(), pauses.iter().map(|it| it[at]).max());
            assert!(least >= Some(LEAST) && most <= Some(limit), "{at}: {least:?} to {most:?}");
            // Of a hundred, some are in the lower and some in the upper half.
            assert!(least < Some(limit / 2) && most > Some(limit / 2), "{at}: {least:?} to {most:?}");
        }
    }

    #[test]
    fn a_given_interval_is_kept_after_the_first_pause() {
        let interval = Duration::from_millis(300);
        let mut pauses = Pauses::new(Some(interval));
        assert!(pauses.next() <= interval);
        assert_eq!([pauses.next(), pauses.next(), pauses.steady()], [interval; 3]);
    }
}
