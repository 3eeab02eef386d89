//! One node, from its start to its end and its restarts.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::container::{Container, ContainerId};
use crate::lab::gate::Stage;
use crate::lab::health::{Checks, Health};
use crate::lab::setup::Wanted;
use crate::process::node::{self, Ended, Heeds, Node, Setup, run_inside};
use crate::service::{Dependency, Restart};

/// After a program has run for this long, its next restart is immediate.
const WELL: Duration = Duration::from_secs(10);

/// Time between two looks at a process that is to end.
const LOOK_AFTER: Duration = Duration::from_millis(10);
/// Number of looks.
const LOOKS: u32 = 10;

/// When to look again whether a process reacts to its stop signal.
#[derive(Clone, Copy, Debug)]
struct Unclear {
    look_at: Instant,
    /// Number of looks before it is sent.
    looks: u32,
}

/// The longest wait between two starts.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Member {
    pub(super) wanted: Wanted,
    /// The settings to start it with after its end.
    next: Option<Wanted>,
    pub(super) phase: Phase,
    /// Its container ID; each start gets a new one.
    pub(super) id: ContainerId,
    pub(super) generation: u64,
    restarts: u32,
    /// Restarts since it last ran for a while.
    quick: u32,
    pub(super) notes: Vec<String>,
    /// It runs no program.
    pub(super) idles: bool,
    /// Why its program will not start.
    why: Option<String>,
    /// It is stopping, and is killed at this time.
    end_by: Option<Instant>,
    /// It is stopping, and may not react to its stop signal.
    unclear: Option<Unclear>,
    checks: Checks,
    /// The node whose network it shares.
    pub(super) shares: Option<String>,
}

/// The phase of a node.
#[derive(Debug)]
pub(super) enum Phase {
    /// To be started.
    Waiting,
    /// Its namespaces and mounts are being made.
    Making(Node),
    /// It waits for its links and its dependencies.
    Held {
        process: Node,
        netns: File,
        linked: bool,
    },
    /// It was told to become its program.
    Beginning {
        process: Node,
        netns: File,
    },
    Running {
        process: Node,
        netns: File,
        since: Instant,
    },
    /// It has ended, and may be started again.
    Ended {
        how: How,
        again_at: Option<Instant>,
    },
}

#[derive(Clone, Debug)]
pub(super) enum How {
    Ended(Ended),
    /// It could not be started.
    Failed(String),
}

/// The state of a node, for users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// `waiting`, `running`, `stopping`, `restarting`, `exited`, `failed`.
    pub state: &'static str,
    /// Why it could not be started.
    pub error: Option<String>,
    /// Process ID of its first process, outside the lab.
    pub pid: Option<i32>,
    /// Exit code of its last run.
    pub exit_code: Option<i32>,
    pub restarts: u32,
    /// `healthy`, `unhealthy`, or `starting`; None without a health check.
    pub health: Option<&'static str>,
    /// Its program and arguments; empty if it idles.
    pub command: Vec<String>,
    pub notes: Vec<String>,
    pub log: std::path::PathBuf,
    /// Its short name.
    pub short: String,
    /// The dependencies that it waits for.
    pub waits_for: Vec<Dependency>,
}

impl Member {
    pub(super) fn new(wanted: Wanted) -> Self {
        let id = id(&wanted.node.name, 0);
        let notes = wanted.notes.clone();
        Self {
            wanted,
            next: None,
            phase: Phase::Waiting,
            id,
            generation: 0,
            restarts: 0,
            quick: 0,
            notes,
            idles: false,
            why: None,
            end_by: None,
            unclear: None,
            checks: Checks::default(),
            shares: None,
        }
    }

    pub(super) fn container(&self, project: &str) -> Container {
        Container {
            id: self.id.clone(),
            name: self.wanted.node.name.clone(),
            project: Some(project.to_owned()),
            working_dir: None,
            service: Some(self.wanted.node.service.name.clone()),
            index: self.wanted.node.index,
        }
    }

    pub(super) fn process(&self) -> Option<&Node> {
        match &self.phase {
            Phase::Making(process)
            | Phase::Held { process, .. }
            | Phase::Beginning { process, .. }
            | Phase::Running { process, .. } => Some(process),
            Phase::Waiting | Phase::Ended { .. } => None,
        }
    }

    pub(super) fn pid(&self) -> Option<i32> {
        self.process().map(Node::pid)
    }

    /// Once it has its namespaces.
    pub(super) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.process().map(Node::pidfd)
    }

    pub(super) fn has_network(&self) -> bool {
        matches!(self.phase, Phase::Held { .. } | Phase::Beginning { .. } | Phase::Running { .. })
    }

    pub(super) fn netns(&self) -> Option<File> {
        match &self.phase {
            Phase::Held { netns, .. } | Phase::Beginning { netns, .. } | Phase::Running { netns, .. } => {
                netns.try_clone().ok()
            }
            Phase::Waiting | Phase::Making(_) | Phase::Ended { .. } => None,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Waiting | Phase::Ended { .. })
    }

    /// Gives it new settings; restarts it if its program or surroundings have changed.
    pub(super) fn want(&mut self, wanted: Wanted, now: Instant) {
        if self.wanted.setup != wanted.setup
            || self.wanted.node.service.shares_network_of != wanted.node.service.shares_network_of
        {
            if self.has_ended() {
                *self = Self { generation: self.generation, ..Self::new(wanted) };
            } else {
                self.next = Some(wanted);
                self.doom(now);
            }
            return;
        }
        let other_check = self.wanted.node.service.healthcheck != wanted.node.service.healthcheck;
        self.wanted = wanted;
        if other_check {
            self.begin_checks(now);
        }
        if self.end_by.is_some() {
            // It is stopping already, and is started again.
            self.next = Some(self.wanted.clone());
        } else if let Phase::Ended { .. } = self.phase {
            self.phase = Phase::Waiting;
        }
    }

    /// Restarts it if it is running.
    pub(super) fn again(&mut self, now: Instant) {
        if self.process().is_some() && self.end_by.is_none() {
            self.next = Some(self.wanted.clone());
            self.doom(now);
        }
    }

    /// Stops it, within the stop grace period of its service.
    pub(super) fn doom(&mut self, now: Instant) {
        if self.end_by.is_some() {
            return;
        }
        let service = &self.wanted.node.service;
        let signal = service.stop_signal;
        let Some(process) = self.process() else {
            self.phase = Phase::Ended { how: How::Ended(Ended::Code(0)), again_at: None };
            return;
        };
        // There is no point in waiting for a process that is not the program yet or ignores the signal.
        let heeds = if let Phase::Running { .. } = self.phase { process.heeds(signal) } else { Heeds::No };
        if heeds == Heeds::Yes {
            process.signal(signal);
        }
        self.end_by = Some(now + service.stop_grace);
        match heeds {
            Heeds::Yes => {}
            Heeds::No => self.kill(now),
            Heeds::MayWait | Heeds::Busy => {
                self.unclear = Some(Unclear { look_at: now + LOOK_AFTER, looks: LOOKS });
            }
        }
    }

    fn kill(&mut self, now: Instant) {
        if let Some(process) = self.process() {
            process.signal(libc::SIGKILL);
            self.end_by = Some(now + LONGEST);
        }
    }

    /// Sends the stop signal once it is clear that the process reacts to it, or after some looks. A process that was busy
    /// all the time is looked at further: if it turns out to ignore the signal, its end need not be waited for.
    fn look_again(&mut self, now: Instant) {
        let Some(Unclear { look_at, looks }) = self.unclear.filter(|it| it.look_at <= now) else { return };
        self.unclear = None;
        let signal = self.wanted.node.service.stop_signal;
        let Some(process) = self.process() else { return };
        match process.heeds(signal) {
            Heeds::No => self.kill(now),
            Heeds::MayWait | Heeds::Busy if looks > 1 => {
                self.unclear = Some(Unclear { look_at: look_at + LOOK_AFTER, looks: looks - 1 });
            }
            Heeds::Yes | Heeds::MayWait => process.signal(signal),
            Heeds::Busy => {
                if looks == 1 {
                    process.signal(signal);
                }
                self.unclear = Some(Unclear { look_at: now + LOOK_AFTER * LOOKS, looks: 0 });
            }
        }
    }

    /// The longest time that its end may take.
    pub(super) fn time_to_end(&self, now: Instant) -> Duration {
        let left = self.end_by.map(|it| it.saturating_duration_since(now)).unwrap_or_default();
        left.min(self.wanted.node.service.stop_grace)
    }

    /// Kills it, or a health check, if its time is over.
    pub(super) fn end_if_due(&mut self, now: Instant) {
        self.look_again(now);
        if self.end_by.is_some_and(|it| it <= now) {
            self.kill(now);
        }
        if let Some(pid) = self.checks.late(now) {
            node::kill_group(pid);
        }
    }

    pub(super) fn start_is_due(&self, now: Instant) -> bool {
        match &self.phase {
            Phase::Waiting => true,
            Phase::Ended { again_at, .. } => again_at.is_some_and(|it| it <= now),
            _ => false,
        }
    }

    pub(super) fn started(&mut self, process: Node, generation: u64, shares: Option<String>) {
        if let Phase::Ended { .. } = self.phase {
            self.restarts += 1;
        }
        self.phase = Phase::Making(process);
        self.id = id(&self.wanted.node.name, generation);
        self.generation = generation;
        self.notes = self.wanted.notes.clone();
        self.idles = false;
        self.shares = shares;
        self.why = None;
    }

    /// Starts it again as soon as possible, not at a certain time.
    pub(super) fn wait(&mut self) {
        if let Phase::Ended { .. } = self.phase {
            self.restarts += 1;
            self.phase = Phase::Waiting;
        }
    }

    /// Records that it cannot be started.
    pub(super) fn cannot_start(&mut self, why: String) {
        self.phase = Phase::Ended { how: How::Failed(why), again_at: None };
    }

    pub(super) fn ready(&mut self, netns: File) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Waiting) {
            Phase::Making(process) => Phase::Held { process, netns, linked: false },
            other => other,
        };
    }

    /// Whether its links are not made yet. A node that waits for another's network does not count.
    pub(super) fn lacks_links(&self) -> bool {
        match self.phase {
            Phase::Waiting => self.wanted.node.service.shares_network_of.is_none(),
            Phase::Making(_) | Phase::Held { linked: false, .. } => true,
            Phase::Held { .. } | Phase::Beginning { .. } | Phase::Running { .. } | Phase::Ended { .. } => {
                false
            }
        }
    }

    pub(super) fn waits_to_begin(&self) -> bool {
        matches!(self.phase, Phase::Held { linked: true, .. }) && self.end_by.is_none()
    }

    pub(super) fn begin(&mut self) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Waiting) {
            Phase::Held { process, netns, .. } => {
                if let Err(error) = process.go() {
                    log::error!("{}: start the program of the node: {error}", self.wanted.node.name);
                }
                Phase::Beginning { process, netns }
            }
            other => other,
        };
    }

    pub(super) fn began(&mut self, now: Instant) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Waiting) {
            Phase::Beginning { process, netns } if self.why.is_none() => {
                Phase::Running { process, netns, since: now }
            }
            other => other,
        };
        self.begin_checks(now);
    }

    fn begin_checks(&mut self, now: Instant) {
        self.checks.end();
        if let (Phase::Running { .. }, Some(check)) = (&self.phase, &self.wanted.node.service.healthcheck) {
            self.checks.begin(check, now);
        }
    }

    /// Records why it failed. Its process, if there is one, ends by itself.
    pub(super) fn failed(&mut self, why: String, now: Instant) {
        match self.process() {
            None => {
                let again_at = self.again_at(&Ended::Code(126), now);
                self.phase = Phase::Ended { how: How::Failed(why), again_at };
            }
            Some(_) => self.why = Some(why),
        }
    }

    /// Kills it: its program can never start.
    pub(super) fn give_up(&mut self, why: String, now: Instant) {
        if let Some(process) = self.process() {
            process.signal(libc::SIGKILL);
        }
        self.why = Some(why);
        self.end_by = Some(now + LONGEST);
    }

    pub(super) fn ended(&mut self, ended: Ended, now: Instant) {
        let began = matches!(self.phase, Phase::Running { .. });
        if let Phase::Running { since, .. } = self.phase
            && now - since > WELL
        {
            self.quick = 0;
        }
        self.checks.end();
        if let Some(next) = self.next.take() {
            *self = Self { generation: self.generation, ..Self::new(next) };
            return;
        }
        let asked = self.end_by.take().is_some();
        self.unclear = None;
        let how = match self.why.take() {
            Some(why) => How::Failed(why),
            None if !began && !asked => How::Failed(format!("it ended before its program started: {ended}")),
            None => How::Ended(ended),
        };
        let again_at = if asked { None } else { self.again_at(&ended, now) };
        self.phase = Phase::Ended { how, again_at };
    }

    fn again_at(&mut self, ended: &Ended, now: Instant) -> Option<Instant> {
        let again = match self.wanted.node.service.restart {
            Restart::No => false,
            Restart::Always => true,
            Restart::OnFailure(most) => ended.code() != 0 && most.is_none_or(|most| self.restarts < most),
        };
        if !again {
            return None;
        }
        let pause = (Duration::from_millis(100) * 2_u32.pow(self.quick.min(10))).min(LONGEST);
        self.quick += 1;
        Some(now + pause)
    }

    pub(super) fn stage(&self) -> Stage {
        match &self.phase {
            Phase::Waiting | Phase::Making(_) | Phase::Held { .. } | Phase::Beginning { .. } => {
                Stage::Waiting
            }
            Phase::Running { .. } => match self.checks.health {
                Health::Unknown if self.idles => Stage::Idle,
                Health::Unknown => Stage::Running,
                Health::Healthy => Stage::Healthy,
                Health::Unhealthy => Stage::Unhealthy,
            },
            Phase::Ended { again_at: Some(_), .. } => Stage::Running,
            Phase::Ended { how: How::Ended(it), .. } => Stage::Ended(it.code()),
            Phase::Ended { how: How::Failed(_), .. } => Stage::Failed,
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        match &self.phase {
            Phase::Running { .. } => self.end_by.is_none(),
            Phase::Ended { .. } => true,
            Phase::Waiting | Phase::Making(_) | Phase::Held { .. } | Phase::Beginning { .. } => false,
        }
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        let again = match &self.phase {
            Phase::Ended { again_at, .. } => *again_at,
            _ => None,
        };
        again
            .into_iter()
            .chain(self.end_by)
            .chain(self.unclear.map(|it| it.look_at))
            .chain(self.checks.wake_at())
            .min()
    }

    /// Starts a health check if one is due. Returns its process ID.
    pub(super) fn check_if_due(&mut self, now: Instant) -> Option<i32> {
        let check = self.wanted.node.service.healthcheck.clone()?;
        if !matches!(self.phase, Phase::Running { .. }) || !self.checks.is_due(now) {
            return None;
        }
        let setup = Setup { argv: check.argv.clone(), ..self.wanted.setup.clone() };
        let run = || {
            let output = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
            let pidfd = self.pidfd().ok_or(std::io::ErrorKind::NotFound)?.try_clone_to_owned()?;
            run_inside(&pidfd, &setup, output.into())
        };
        match run() {
            Ok(pid) => {
                self.checks.runs(pid, &check, now);
                Some(pid)
            }
            Err(error) => {
                log::warn!("{}: run the health check: {error}", self.wanted.node.name);
                // It counts as a failed check.
                self.checks.runs(0, &check, now);
                self.checks.ran(0, Ended::Code(126), &check, now);
                None
            }
        }
    }

    pub(super) fn checked(&mut self, pid: i32, ended: Ended, now: Instant) {
        if let Some(check) = &self.wanted.node.service.healthcheck {
            self.checks.ran(pid, ended, check, now);
        }
    }

    pub(super) fn life(&self, folder: &Path) -> Life {
        let (state, error, exit_code) = match &self.phase {
            _ if self.end_by.is_some() => ("stopping", None, None),
            Phase::Running { .. } => ("running", None, None),
            Phase::Ended { how: How::Failed(why), again_at: None } => ("failed", Some(why.clone()), None),
            Phase::Ended { how: How::Failed(why), .. } => ("restarting", Some(why.clone()), None),
            Phase::Ended { how: How::Ended(it), again_at: None } => ("exited", None, Some(it.code())),
            Phase::Ended { how: How::Ended(it), .. } => ("restarting", None, Some(it.code())),
            Phase::Waiting | Phase::Making(_) | Phase::Held { .. } | Phase::Beginning { .. } => {
                ("waiting", None, None)
            }
        };
        let health = self.wanted.node.service.healthcheck.as_ref().map(|_| match self.checks.health {
            Health::Unknown => "starting",
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        });
        // The error is not repeated as a note.
        let notes = self.notes.iter().filter(|it| error.as_ref() != Some(*it)).cloned().collect();
        Life {
            state,
            error,
            pid: self.process().and_then(Node::host_pid),
            exit_code,
            restarts: self.restarts,
            health,
            command: self.wanted.setup.argv.clone(),
            notes,
            log: crate::lab::setup::node_folder(folder, &self.wanted.node.name).join("log"),
            short: self.wanted.node.short.clone(),
            waits_for: Vec::new(),
        }
    }
}

fn id(name: &str, generation: u64) -> ContainerId {
    ContainerId::new(format!("{name}@{generation}"))
}
