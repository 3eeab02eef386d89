//! Decides what to do next: events in, effects out.
//!
//! An event is only a hint where to look: a container that started or died is inspected, whatever the order of the
//! events, and the kernel's state is read before it is changed. Failures, retries and back-off are data here, so that
//! any sequence of events can be written down as a test.
//!
//! Architecture invariant: this module does no I/O and reads no clock; `now` is an argument.

mod notice;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::api::Problem;
use crate::container::{Container, ContainerId};
use crate::network::{BadInstance, Command};
use crate::plan::{Desired, Subject};

pub use crate::plan::{Failure, Names, News, Outcome};
pub use notice::Notice;
pub use state::Reconciler;

/// A source of containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EngineId {
    Docker,
    Podman,
    /// A lab. Its containers are processes in namespaces of their own.
    Lab,
}

impl std::fmt::Display for EngineId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Lab => "lab",
        })
    }
}

/// The environment that the engine runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// The compose project to serve; None: every project.
    pub project: Option<String>,
    /// The project name in marks, if it differs from the project's: a lab and an engine may serve projects of the same
    /// name at the same time.
    pub marked_as: Option<String>,
    /// Label `com.docker.compose.project.working_dir` of the engine's own container.
    pub working_dir: Option<String>,
    /// Bridges are in a namespace that only conlink uses: neither the engine's container's nor the host's.
    pub bridges_apart: bool,
    /// The engine does not run in a container, so no ports are published to it.
    pub on_host: bool,
    /// conlink has no permission to change the host's network namespace.
    pub no_host: bool,
    /// Leftovers of an earlier engine are removed from the host's network namespace.
    pub sweeps_host: bool,
    /// Drift is repaired for all links, whether or not they have `repair: true`.
    pub repair: bool,
    /// Configured impairments are not applied.
    pub without_netem: bool,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// All running containers of one engine. Sent after each connect, and after an event of unknown form.
    Listed { engine: EngineId, containers: Vec<Container> },
    /// Something about a container changed: inspect it.
    Hint { engine: EngineId, id: ContainerId },
    /// An answer to [`Effect::Inspect`] with the same ticket; `found` is None if the container does not run.
    Inspected { engine: EngineId, id: ContainerId, ticket: u64, found: Option<Found> },
    /// An answer to [`Effect::Inspect`]: an error.
    Unreachable(Unreachable),
    /// A job has ended.
    Done { job: u64, outcome: Outcome },
    /// The commands of a container have ended.
    CommandsDone { id: ContainerId },
    /// Another program changed something in a namespace that conlink uses.
    Changed(News),
    /// An Open vSwitch daemon ended.
    SwitchEnded,
    /// The engine's event stream ended: events may have been missed.
    Lost { engine: EngineId },
    /// The time of [`Effect::WakeAt`] has come.
    Wake,
    /// SIGTERM or SIGINT.
    Stop,
}

/// A running container with its network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub container: Container,
    /// The inode of the namespace.
    pub netns: u64,
}

/// A running container whose namespace cannot be opened, or that the engine cannot inspect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreachable {
    pub engine: EngineId,
    pub id: ContainerId,
    /// None if the engine did not answer.
    pub container: Option<Container>,
    pub ticket: u64,
    pub message: String,
    pub help: Option<String>,
}

/// An action for the event loop.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Inspect a container and open its namespace. Answered by [`Event::Inspected`] or [`Event::Unreachable`].
    Inspect {
        engine: EngineId,
        id: ContainerId,
        ticket: u64,
    },
    /// Close a container's namespace.
    Release(ContainerId),
    /// Make the kernel match the job. Answered by [`Event::Done`].
    Converge(Box<Job>),
    /// Run commands in a container, all at the same time. Answered by [`Event::CommandsDone`].
    Exec {
        engine: EngineId,
        id: ContainerId,
        name: String,
        commands: Vec<Command>,
    },
    WakeAt(Instant),
    /// Report something to the user.
    Notify(Notice),
    /// Report that everything matches the configuration.
    Announce,
    Exit(u8),
}

/// A part of the network that is to match the configuration.
#[derive(Clone, Debug)]
pub struct Job {
    /// Unique number, counted up.
    pub number: u64,
    pub about: About,
    pub desired: Desired,
    /// Failures that are known before the kernel is asked.
    pub refused: Vec<Failure>,
}

/// The part of the network that a job covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// Bridges and tunnels.
    Base,
    /// Bridges, tunnels, and the removal of everything of ours that is no longer configured.
    Sweep,
    /// The containers of one namespace.
    Containers(BTreeSet<ContainerId>),
    /// The leftovers of a container that no longer runs, by its name.
    Gone(String),
    /// The removal of everything.
    Teardown,
}

/// Time until the next try after `tries` failures: 0.2 s, doubling up to 5 s.
fn back_off(tries: u32) -> Duration {
    Duration::from_millis(200 << tries.min(5)).min(Duration::from_secs(5))
}

/// Whether a part of the network matches the configuration, and when the next try is due if it does not.
#[derive(Debug, Default)]
struct Standing {
    connected: bool,
    /// It has been tried at least once.
    tried: bool,
    /// Number of failed tries since the last success.
    tries: u32,
    retry_at: Option<Instant>,
    /// The failures of the last try. A retry does not report the same failure again.
    failures: Vec<Failure>,
}

impl Standing {
    /// Stores the failures of a try, and reports those that are new and not in `reported`.
    fn update(
        &mut self,
        failures: &[Failure],
        now: Instant,
        once: bool,
        reported: &[Failure],
        effects: &mut Vec<Effect>,
    ) {
        self.tried = true;
        self.connected = failures.is_empty();
        self.retry_at = None;
        if self.connected {
            self.tries = 0;
            self.failures.clear();
            return;
        }
        for failure in failures {
            if !self.failures.contains(failure) && !reported.contains(failure) {
                effects.push(Effect::Notify(Notice::Failed(failure.clone())));
            }
        }
        self.failures = failures.to_vec();
        if !once && failures.iter().any(|it| !it.is_final) {
            self.retry_at = Some(now + back_off(self.tries));
        }
        self.tries += 1;
    }

    /// Whether it has failed only a few times, and may succeed soon: what another network held is freed a moment after its
    /// end.
    fn is_retrying(&self) -> bool {
        /// Three retries take 1.4 s.
        const FEW: u32 = 3;
        self.tried && !self.connected && self.tries <= FEW && self.failures.iter().any(|it| !it.is_final)
    }
}

impl From<&Failure> for Problem {
    fn from(it: &Failure) -> Self {
        Self {
            subject: it.subject.to_string(),
            message: it.message.clone(),
            help: it.help.clone(),
            origin: it.origin.clone(),
        }
    }
}

impl From<BadInstance> for Failure {
    fn from(it: BadInstance) -> Self {
        let subject = Subject::Link(it.id);
        Self {
            subject,
            message: it.message,
            help: None,
            origin: Some(it.origin),
            is_final: true,
            is_unsupported: false,
        }
    }
}

/// Leftovers by the name of the container that no longer runs.
type Gone = BTreeMap<String, state::Leftovers>;
