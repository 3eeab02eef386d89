//! The loop: check, report, sleep until something may have changed.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::stat::{Mode, umask};
use nix::sys::time::TimeSpec;

use crate::kernel::Watch;
use crate::process::{ChildOutput, Signals};
use crate::tools::wait::args::{Item, Plan, Step};
use crate::tools::wait::check::Check;
use crate::tools::wait::files::Files;
use crate::tools::wait::network::{NO_INTERFACE, present};
use crate::tools::wait::say::{EVERY, Missing, Say};
use crate::tools::wait::tries::Tries;

/// How often to check if there is no notification of changes.
const LOOK: Duration = Duration::from_secs(1);

/// How waiting ended.
pub(super) enum End<'a> {
    Held,
    Timeout(Vec<Missing<'a>>),
    /// The number of the signal that ended it.
    Signal(u8),
}

/// Runs all steps of a plan, but not its command.
pub(super) fn wait<'a>(plan: &'a Plan, say: &Say, signals: &Signals) -> anyhow::Result<End<'a>> {
    let mut waiter = Waiter {
        plan,
        say,
        signals,
        net: None,
        files: None,
        slept: false,
        deadline: plan.timeout.and_then(|it| say.started.checked_add(it)),
    };
    for (idx, step) in plan.steps.iter().enumerate() {
        let end = match step {
            Step::Umask(mask) => {
                umask(Mode::from_bits_truncate(*mask));
                None
            }
            Step::Pause(time) => waiter.pause(*time)?,
            Step::Wait(items) => waiter.items(items)?,
        };
        match end {
            None => {}
            Some(End::Timeout(mut missing)) => {
                let later = plan.steps.iter().skip(idx + 1).flat_map(Step::items);
                missing.extend(later.map(|item| Missing { item, reason: None }));
                return Ok(End::Timeout(missing));
            }
            Some(end) => return Ok(end),
        }
    }
    Ok(End::Held)
}

impl Step {
    fn items(&self) -> &[Item] {
        match self {
            Self::Wait(items) => items,
            Self::Pause(_) | Self::Umask(_) => &[],
        }
    }
}

struct Waiter<'a> {
    plan: &'a Plan,
    say: &'a Say,
    signals: &'a Signals,
    /// Opened by the first condition that needs it.
    net: Option<Watch>,
    files: Option<Files>,
    /// Something had to be waited for.
    slept: bool,
    deadline: Option<Instant>,
}

/// What may have changed since the last check.
#[derive(Clone, Copy, Debug)]
struct Changed {
    net: bool,
    files: bool,
}

impl Waiter<'_> {
    /// Waits until one of these conditions is met, and returns None then.
    fn items<'a>(&mut self, items: &'a [Item]) -> anyhow::Result<Option<End<'a>>> {
        let now = Instant::now();
        let mut probes: Vec<Probe<'a>> =
            items.iter().map(|it| Probe::new(it, self.plan, self.slept, now)).collect();
        let end = self.probes(&mut probes);
        // Events of this condition must not wake the next one.
        (self.net, self.files) = (None, None);
        end
    }

    fn probes<'a>(&mut self, probes: &mut [Probe<'a>]) -> anyhow::Result<Option<End<'a>>> {
        // The first check covers the present state.
        let mut changed = Changed { net: true, files: true };
        loop {
            let now = Instant::now();
            for probe in probes.iter_mut() {
                // An attempt may print something itself and takes time.
                if probe.tries.is_some() && probe.said.is_none() {
                    self.remind(probe, now);
                }
                if self.look(probe, changed, now)? {
                    self.say.holds(probe.item);
                    return Ok(None);
                }
            }
            if self.deadline.is_some_and(|it| it <= now) {
                let missing = |it: &Probe<'a>| Missing { item: it.item, reason: Some(self.reason(it)) };
                return Ok(Some(End::Timeout(probes.iter().map(missing).collect())));
            }
            for probe in probes.iter_mut() {
                self.remind(probe, now);
            }
            let until = probes.iter().flat_map(Probe::due).chain(self.deadline).min();
            changed = match self.sleep(probes, until)? {
                Ok(it) => it,
                Err(end) => return Ok(Some(end)),
            };
        }
    }

    fn pause(&mut self, time: Duration) -> anyhow::Result<Option<End<'static>>> {
        let end = Instant::now().checked_add(time);
        loop {
            let now = Instant::now();
            if end.is_some_and(|it| it <= now) {
                return Ok(None);
            }
            if self.deadline.is_some_and(|it| it <= now) {
                return Ok(Some(End::Timeout(Vec::new())));
            }
            if let Err(end) = self.sleep(&[], end.into_iter().chain(self.deadline).min())? {
                return Ok(Some(end));
            }
        }
    }

    /// Whether the condition is met, and for long enough.
    fn look(&mut self, probe: &mut Probe<'_>, changed: Changed, now: Instant) -> anyhow::Result<bool> {
        let again = probe.again.is_some_and(|it| it <= now);
        let found = match &probe.item.condition.check {
            Check::Network(missing) if changed.net || again => {
                let watch = match &mut self.net {
                    Some(it) => it,
                    None => self.net.insert(Watch::open().context("watch network interfaces")?),
                };
                Some(missing(watch)?)
            }
            Check::File { path, content, missing } if changed.files || again => {
                let is_deaf = self.files.get_or_insert_default().listen(path, *content);
                probe.again = is_deaf.then(|| now + probe.item.interval.unwrap_or(LOOK));
                Some(missing(path).unwrap_or_else(|error| Some(error.to_string())))
            }
            Check::Network(_) | Check::File { .. } => None,
            Check::Try { path, .. } => probe.tries.as_mut().and_then(|tries| {
                if let (Some(path), true) = (path, changed.files) {
                    self.files.get_or_insert_default().listen(path, false);
                    tries.hurry(now);
                }
                tries.advance(now)
            }),
        };
        if let Some(missing) = found {
            probe.found(missing, now);
        }
        Ok(probe.is_held(now))
    }

    fn remind(&mut self, probe: &mut Probe<'_>, now: Instant) {
        match probe.said {
            None => self.say.waiting(probe.item),
            Some(said) if now.saturating_duration_since(said) >= EVERY => {
                let reason = self.reason(probe);
                self.say.still_waiting(probe.item, &reason);
            }
            Some(_) => return,
        }
        probe.said = Some(now);
    }

    /// Why the condition is not met, with the interfaces that exist instead.
    fn reason(&mut self, probe: &Probe<'_>) -> String {
        let mut reason = probe.reason.clone();
        if let (Some(watch), NO_INTERFACE, false) = (&mut self.net, reason.as_str(), probe.item.not) {
            reason.push_str(&format!(" (found: {})", present(watch)));
        }
        reason
    }

    /// Sleeps until something may have changed, at most until this time. The error is a signal that ends the program.
    fn sleep(
        &mut self,
        probes: &[Probe<'_>],
        until: Option<Instant>,
    ) -> anyhow::Result<Result<Changed, End<'static>>> {
        self.slept = true;
        let tried: Vec<_> = probes.iter().flat_map(|it| it.tries.iter().flat_map(Tries::polled)).collect();
        let mounted = {
            let mounts = self.files.as_ref().and_then(Files::mounts);
            let mut polled = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            polled.extend(mounts.map(|it| PollFd::new(it, PollFlags::POLLPRI)));
            let net = self.net.as_ref().map(AsFd::as_fd);
            let notices = self.files.as_ref().and_then(Files::notices);
            polled.extend(net.into_iter().chain(notices).map(|it| PollFd::new(it, PollFlags::POLLIN)));
            polled.extend(tried.iter().map(|(it, flags)| PollFd::new(it.as_fd(), *flags)));
            let time = until.map(|it| TimeSpec::from_duration(it.saturating_duration_since(Instant::now())));
            match ppoll(&mut polled, time, None) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error).context("poll"),
            }
            mounts.is_some() && polled.get(1).is_some_and(|it| it.any().unwrap_or(false))
        };
        let ours: Vec<u32> =
            probes.iter().filter_map(|it| it.tries.as_ref().and_then(Tries::child)).collect();
        let came = self.signals.next(&ours).context("read signals")?;
        if let Some(signal) = came.ending {
            return Ok(Err(End::Signal(signal)));
        }
        let net = match &mut self.net {
            Some(it) => it.changed()?,
            None => false,
        };
        let files = self.files.as_ref().is_some_and(Files::changed) || came.io || mounted;
        Ok(Ok(Changed { net, files }))
    }
}

/// A condition that is being waited for.
struct Probe<'a> {
    item: &'a Item,
    tries: Option<Tries<'a>>,
    /// Why the condition is not met.
    reason: String,
    /// Since when the condition is met.
    since: Option<Instant>,
    /// When to check again without a notification.
    again: Option<Instant>,
    said: Option<Instant>,
}

impl<'a> Probe<'a> {
    fn new(item: &'a Item, plan: &Plan, is_crowded: bool, now: Instant) -> Self {
        let tries = match &item.condition.check {
            Check::Network(_) | Check::File { .. } => None,
            Check::Try { start, .. } => {
                let stdout = if plan.stdout { ChildOutput::Inherit } else { ChildOutput::Error };
                Some(Tries::new(start.as_ref(), plan.try_timeout, item.interval, stdout, is_crowded, now))
            }
        };
        let reason = "the first attempt has not finished".to_owned();
        Self { item, tries, reason, since: None, again: None, said: None }
    }

    /// Records the result of a check: why the condition is not met, or None if it is.
    fn found(&mut self, missing: Option<String>, now: Instant) {
        let wrong = match (missing, self.item.not) {
            (missing, false) => missing,
            (Some(_), true) => None,
            (None, true) => Some("it is still met".to_owned()),
        };
        match wrong {
            Some(reason) => {
                self.reason = reason;
                self.since = None;
            }
            None => {
                self.reason = format!("it must stay met for {} s", self.item.hold.as_secs_f64());
                self.since = self.since.or(Some(now));
            }
        }
    }

    fn is_held(&self, now: Instant) -> bool {
        self.since.is_some_and(|it| now.saturating_duration_since(it) >= self.item.hold)
    }

    /// The times at which something changes by itself or a reminder is due.
    fn due(&self) -> impl Iterator<Item = Instant> {
        let tries = self.tries.as_ref().map(Tries::due);
        let held = self.since.and_then(|it| it.checked_add(self.item.hold));
        let remind = self.said.map(|it| it + EVERY);
        [tries, self.again, held, remind].into_iter().flatten()
    }
}
