//! Attempts: futures that never block. They are polled after every poll(2), so nothing needs to wake them.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use crate::process::ChildOutput;
use crate::tools::wait::lookup::Lookup;
use crate::tools::wait::pause::Pauses;

/// Starts an attempt, which fails with the reason why the condition is not met.
pub(super) trait Start {
    fn start(&self, io: Rc<Io>) -> Attempt<'_>;
}

impl<F: AsyncFn(Rc<Io>) -> Result<(), String>> Start for F {
    fn start(&self, io: Rc<Io>) -> Attempt<'_> {
        Box::pin(self(io))
    }
}

type Attempt<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + 'a>>;

/// A descriptor to poll.
pub(super) type Polled = (Rc<dyn AsFd>, PollFlags);

/// The attempts for one condition.
pub(super) struct Tries<'a> {
    start: &'a dyn Start,
    io: Rc<Io>,
    pauses: Pauses,
    /// None in a pause.
    attempt: Option<Attempt<'a>>,
}

/// What an attempt waits for, and what it leaves for the next.
pub(super) struct Io {
    /// The time limit of an attempt.
    pub(super) limit: Duration,
    pub(super) stdout: ChildOutput,
    /// When the pause ends, or the attempt must proceed without its descriptors.
    pub(super) until: Cell<Instant>,
    pub(super) polled: RefCell<Vec<Polled>>,
    /// The process id of the running command.
    pub(super) child: Cell<Option<u32>>,
    /// Others may try at the same moment, because an event that they waited for has just happened.
    pub(super) is_crowded: Cell<bool>,
    /// The number of connections that were reset at once.
    pub(super) resets: Cell<u32>,
    /// Outlives the attempt that started it: a second lookup would not be faster.
    pub(super) lookup: RefCell<Option<Rc<Lookup>>>,
}

impl Io {
    pub(super) fn is_late(&self) -> bool {
        Instant::now() >= self.until.get()
    }

    /// Waits until something may have changed.
    pub(super) async fn change(&self, polled: Vec<Polled>) {
        self.polled.replace(polled);
        let mut is_over = false;
        poll_fn(|_| if std::mem::replace(&mut is_over, true) { Poll::Ready(()) } else { Poll::Pending })
            .await;
        self.polled.take();
    }
}

impl<'a> Tries<'a> {
    pub(super) fn new(
        start: &'a dyn Start,
        limit: Duration,
        interval: Option<Duration>,
        stdout: ChildOutput,
        is_crowded: bool,
        now: Instant,
    ) -> Self {
        let io = Io {
            limit,
            stdout,
            until: Cell::new(now),
            polled: RefCell::default(),
            child: Cell::default(),
            is_crowded: Cell::new(is_crowded),
            resets: Cell::default(),
            lookup: RefCell::default(),
        };
        Self { start, io: Rc::new(io), pauses: Pauses::new(interval), attempt: None }
    }

    /// The next time at which something changes by itself.
    pub(super) fn due(&self) -> Instant {
        self.io.until.get()
    }

    /// Tries now and again soon, because something changed. A socket exists in the file system before it accepts.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.pauses.restart();
        if self.attempt.is_none() {
            self.io.until.set(now);
        }
    }

    pub(super) fn polled(&self) -> Vec<Polled> {
        self.io.polled.borrow().clone()
    }

    /// The running process.
    pub(super) fn child(&self) -> Option<u32> {
        self.io.child.get()
    }

    /// Proceeds as far as possible without waiting. Returns the outcome of an attempt that has ended: why the condition is
    /// not met, or None inside.
    pub(super) fn advance(&mut self, now: Instant) -> Option<Option<String>> {
        let mut attempt = match self.attempt.take() {
            Some(it) => it,
            None if now < self.due() => return None,
            None => {
                self.io.until.set(now + self.io.limit);
                self.start.start(self.io.clone())
            }
        };
        let outcome = match attempt.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(it) => it,
            Poll::Pending => {
                self.attempt = Some(attempt);
                return None;
            }
        };
        let pause = match outcome {
            Ok(()) => self.pauses.steady(),
            Err(_) => {
                self.io.is_crowded.set(true);
                self.pauses.next()
            }
        };
        self.io.until.set(now + pause);
        Some(outcome.err())
    }
}
