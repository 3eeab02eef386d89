//! What to do next: events in, effects out.
//!
//! An event carries no truth, only where to look again: a container that started or died is inspected, whatever the
//! order in which the two were told; what the kernel holds is observed before it is changed. Failures, retries and
//! back-off are data here, so that any course of events can be written down and tested.
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

/// A container engine that we listen to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EngineId {
    Docker,
    Podman,
    /// A lab, whose containers are processes in namespaces that it makes.
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

/// The compose context that the engine itself runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// None: containers of every project are served.
    pub project: Option<String>,
    /// What marks name as the project, where it is another name than the project's: a lab and an engine may serve
    /// projects of one name at the same time.
    pub marked_as: Option<String>,
    /// Label `com.docker.compose.project.working_dir` of the engine's own container.
    pub working_dir: Option<String>,
    /// Bridges live in a namespace that nothing but us leads into: neither the engine's container's nor the host's.
    pub bridges_apart: bool,
    /// The engine runs in no container, which could have published ports.
    pub on_host: bool,
    /// We may not act in the host's network namespace.
    pub no_host: bool,
    /// The host's network namespace can be looked at for what an earlier engine left there.
    pub sweeps_host: bool,
    /// What somebody changes of a link is repaired, whether the link asks for it or not.
    pub repair: bool,
    /// Links are wired without the impairments that the configuration gives them.
    pub without_netem: bool,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Every running container of one engine: when it was connected to, and whenever an event was unclear.
    Listed { engine: EngineId, containers: Vec<Container> },
    /// Something about a container changed: look again.
    Hint { engine: EngineId, id: ContainerId },
    /// The answer to [`Effect::Inspect`] with the same ticket.
    Inspected { engine: EngineId, id: ContainerId, ticket: u64, found: Option<Found> },
    /// The other answer to [`Effect::Inspect`].
    Unreachable(Unreachable),
    /// A job was done.
    Done { job: u64, outcome: Outcome },
    /// The commands of a container have ended.
    CommandsDone { id: ContainerId },
    /// Somebody else changed something in namespaces of ours.
    Changed(News),
    /// A daemon of Open vSwitch ended.
    SwitchEnded,
    /// The engine's event stream ended: what it knew may have changed meanwhile.
    Lost { engine: EngineId },
    /// The time asked for with [`Effect::WakeAt`] has come.
    Wake,
    /// SIGTERM or SIGINT.
    Stop,
}

/// A running container with its network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub container: Container,
    /// The namespace's identity: its inode.
    pub netns: u64,
}

/// A running container whose namespace cannot be had, or about which the engine has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreachable {
    pub engine: EngineId,
    pub id: ContainerId,
    /// None when the engine had no answer.
    pub container: Option<Container>,
    pub ticket: u64,
    pub message: String,
    pub help: Option<String>,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Ask for one container's namespace, take hold of it, answer with [`Event::Inspected`].
    Inspect {
        engine: EngineId,
        id: ContainerId,
        ticket: u64,
    },
    /// Let go of a container's namespace.
    Release(ContainerId),
    /// Make the kernel hold what is desired: answered by [`Event::Done`].
    Converge(Box<Job>),
    /// Run commands in a container, all at once: answered by [`Event::CommandsDone`].
    Exec {
        engine: EngineId,
        id: ContainerId,
        name: String,
        commands: Vec<Command>,
    },
    WakeAt(Instant),
    /// Say something.
    Notify(Notice),
    /// Say that everything is as described.
    Announce,
    Exit(u8),
}

/// Something to be made as desired.
#[derive(Clone, Debug)]
pub struct Job {
    /// Tells it from every other.
    pub number: u64,
    pub about: About,
    pub desired: Desired,
    /// What is known to be impossible before the kernel is asked.
    pub refused: Vec<Failure>,
}

/// What a job is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// Bridges and tunnels.
    Base,
    /// Those, and the removal of everything of ours that nobody wants any more.
    Sweep,
    /// The containers of one namespace.
    Containers(BTreeSet<ContainerId>),
    /// What a container that is gone may have left, by its name.
    Gone(String),
    /// Everything is to be removed.
    Teardown,
}

/// How long until the next try after `tries` failures: 0.2 s, doubling, at most 5 s.
fn back_off(tries: u32) -> Duration {
    Duration::from_millis(200 << tries.min(5)).min(Duration::from_secs(5))
}

/// Whether something is as described, and when it is looked at next if not.
#[derive(Debug, Default)]
struct Standing {
    connected: bool,
    /// Has it been tried at all?
    tried: bool,
    /// Tries that failed, since the last that did not.
    tries: u32,
    retry_at: Option<Instant>,
    /// Why the last try failed. Each was said once, and is not said again by a retry.
    failures: Vec<Failure>,
}

impl Standing {
    /// Takes in a job's failures and appends what there is to say about them, but for what was `heard` elsewhere.
    fn update(
        &mut self,
        failures: &[Failure],
        now: Instant,
        once: bool,
        heard: &[Failure],
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
            if !self.failures.contains(failure) && !heard.contains(failure) {
                effects.push(Effect::Notify(Notice::Failed(failure.clone())));
            }
        }
        self.failures = failures.to_vec();
        if !once && failures.iter().any(|it| !it.is_final) {
            self.retry_at = Some(now + back_off(self.tries));
        }
        self.tries += 1;
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
        Self { subject, message: it.message, help: None, origin: Some(it.origin), is_final: true }
    }
}

/// Containers by name, and what they may have left behind.
type Gone = BTreeMap<String, state::Leftovers>;
