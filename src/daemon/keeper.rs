//! A lab in the loop: its nodes take the place of an engine's containers.

use std::collections::{BTreeMap, VecDeque};
use std::io::{PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::api::{
    Accepted, Apply, Ending, Entrance, EntranceUser, FoundNode, Health, NodeState, NodeStatus, Nodes,
    Problem, ProcessStatus, Request, Served, Status,
};
use crate::container::ContainerId;
use crate::daemon::Daemon;
use crate::daemon::serve::Connection;
use crate::daemon::worker::{Attach, Work};
use crate::lab::{Changed, Lab, Wanted};
use crate::network::{Command, Network};
use crate::plan::Subject;
use crate::process::node;
use crate::reconcile::{EngineId, Event};
use crate::service::{self, Node};

/// What the loop of a lab runs with beyond that of an engine.
#[derive(Debug)]
pub struct LabSetup {
    pub lab: Lab,
    /// What a request to be of another shape means.
    pub read: Read,
    /// Readable once the other end is closed: then everything is to end.
    pub tie: Option<OwnedFd>,
    /// Is told `ok` once requests are answered; what comes with it is closed then.
    pub ready: Option<(PipeWriter, OwnedFd)>,
}

/// Why a lab on its way down takes no requests to be of another shape.
pub const LAB_ENDS: &str = "it is ending";

/// Turns a request into what there is to be; the error is for whoever asks.
pub type Read = fn(&Apply, &Lab) -> anyhow::Result<LabContents>;

/// What there is to be.
#[derive(Debug)]
pub struct LabContents {
    pub network: Network,
    pub nodes: Vec<Wanted>,
}

/// What the loop listens to for a lab.
pub(super) struct LabEvents {
    said: AsyncFd<OwnedFd>,
    child: Signal,
    tie: Option<AsyncFd<OwnedFd>>,
}

/// What made the loop look at its lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LabEvent {
    /// A node has sent a message.
    NodeSpoke,
    /// A child process has ended.
    ChildEnded,
    /// The process that owns the lab (`lab run`) is gone.
    OwnerGone,
    /// The lab's next deadline has passed.
    DeadlinePassed,
}

impl LabEvents {
    #[expect(unsafe_code, reason = "tokio takes raw file descriptors on the caller's word")]
    pub(super) fn new(setup: &mut LabSetup) -> anyhow::Result<Self> {
        // SAFETY: each file owns its descriptor and keeps it.
        let watch = |it: OwnedFd| unsafe { AsyncFd::register_with_interest(it, Interest::READABLE) };
        let said = setup.lab.poll().try_clone_to_owned().context("listen to nodes")?;
        Ok(Self {
            said: watch(said).context("listen to nodes")?,
            child: signal(SignalKind::child()).context("listen for SIGCHLD")?,
            tie: setup.tie.take().map(watch).transpose().context("listen to who runs the lab")?,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(lab_events: &mut Option<Self>) -> LabEvent {
        let Some(it) = lab_events else { return std::future::pending().await };
        tokio::select! {
            ready = it.said.readable() => {
                if let Ok(mut ready) = ready {
                    ready.clear_ready();
                }
                LabEvent::NodeSpoke
            }
            _ = it.child.recv() => LabEvent::ChildEnded,
            () = owner_gone(&mut it.tie) => LabEvent::OwnerGone,
        }
    }
}

async fn owner_gone(tie: &mut Option<AsyncFd<OwnedFd>>) {
    match tie {
        Some(it) => drop(it.readable().await),
        None => std::future::pending().await,
    }
    *tie = None;
}

/// A lab, and how far it is.
pub(super) struct Keeper {
    pub(super) lab: Lab,
    read: Read,
    /// It is to end, and its loop with it.
    ending: bool,
    /// Those who wait for it to be as they asked.
    waiting: Vec<Connection>,
}

impl Keeper {
    pub(super) fn new(setup: LabSetup) -> anyhow::Result<Self> {
        if let Some((mut ready, _claim)) = setup.ready
            && let Err(error) = ready.write_all(b"ok")
        {
            // A lab without nodes is as good as any to whoever comes next.
            log::warn!("who started the lab is gone: {error}");
        }
        Ok(Self { lab: setup.lab, read: setup.read, ending: false, waiting: Vec::new() })
    }
}

impl Daemon {
    /// Looks at the lab after something made us.
    pub(super) fn lab_event(&mut self, event: LabEvent, events: &mut VecDeque<Event>) {
        let now = Instant::now();
        let Some(keeper) = &mut self.keeper else { return };
        let changed = match event {
            LabEvent::NodeSpoke => keeper.lab.hear(now),
            LabEvent::ChildEnded => {
                let buried = keeper.lab.bury(now);
                events.extend(buried.commands.into_iter().map(|id| Event::CommandsDone { id }));
                buried.changed
            }
            LabEvent::OwnerGone => {
                log::info!("whoever the lab was for is gone: it ends");
                self.end_lab();
                return;
            }
            LabEvent::DeadlinePassed => Vec::new(),
        };
        let hint = |Changed(id)| Event::Hint { engine: EngineId::Lab, id };
        events.extend(changed.into_iter().map(hint));
    }

    /// Does for the lab what has become possible. Answers events that follow.
    pub(super) fn advance_lab(&mut self) -> Option<Event> {
        let keeper = self.keeper.as_mut()?;
        let reconciler = &self.reconciler;
        keeper.lab.link(|id| reconciler.is_tried(id));
        {
            // Nodes are copies of this process.
            let _paused = self.worker.pause();
            keeper.lab.act(Instant::now());
        }
        if !keeper.waiting.is_empty() && keeper.lab.is_settled() && reconciler.health() != Health::Working {
            let waiting = std::mem::take(&mut keeper.waiting);
            let status = self.status();
            waiting.into_iter().for_each(|it| it.reply(&status));
        }
        let keeper = self.keeper.as_mut()?;
        if !keeper.ending || !keeper.lab.is_empty() {
            return None;
        }
        keeper.ending = false;
        if keeper.lab.uses_host() {
            return Some(Event::Stop);
        }
        // With the lab's own namespaces everything in them goes.
        self.exit = Some(0);
        None
    }

    /// Ends all nodes, and then the loop.
    pub(super) fn end_lab(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.lab.stop(Instant::now());
            keeper.ending = true;
            for it in std::mem::take(&mut keeper.waiting) {
                it.refuse("the lab was ended meanwhile");
            }
        }
    }

    /// Makes the lab what a request asks for. The error is for whoever asks; then nothing has changed.
    pub(super) fn reshape(&mut self, request: &Apply) -> anyhow::Result<()> {
        let Some(keeper) = &mut self.keeper else { anyhow::bail!("this is no lab") };
        anyhow::ensure!(!keeper.ending, LAB_ENDS);
        let asked = (keeper.read)(request, &keeper.lab)?;
        if !asked.network.stays_inside() && !self.reconciler.own().no_host {
            keeper.lab.set_uses_host()?;
        }
        {
            let _paused = self.worker.pause();
            keeper.lab.set(asked.nodes, Instant::now())?;
        }
        let containers = keeper.lab.containers();
        let effects = self.reconciler.replace(asked.network, Instant::now());
        let mut events = VecDeque::new();
        for effect in effects {
            self.perform(effect, &mut events);
        }
        events.push_back(Event::Listed { engine: EngineId::Lab, containers });
        self.handle(&mut events);
        Ok(())
    }

    /// Answers a request that a lab alone has an answer to.
    pub(super) fn answer_for_lab(&mut self, request: Request, connection: Connection) {
        if self.keeper.is_none() {
            return connection.refuse("this request is for labs, and this is an engine");
        }
        match request {
            Request::Apply(apply) => match self.reshape(&apply) {
                Ok(()) => {
                    connection.announce(&Accepted { accepted: true });
                    if let Some(keeper) = &mut self.keeper {
                        // Whoever went away makes room.
                        keeper.waiting.retain(Connection::is_open);
                        keeper.waiting.push(connection);
                    }
                }
                Err(error) => connection.refuse(&format!("{error:#}")),
            },
            Request::Down => {
                self.end_lab();
                let time = self.keeper.as_ref().map(|it| it.lab.time_to_end(Instant::now()));
                connection.reply(&Ending { seconds: time.unwrap_or_default().as_secs_f64() });
            }
            Request::Find { nodes } => connection.answer(self.find_nodes(&nodes)),
            Request::Enter { node } => match self.way_into(node.as_deref()) {
                Ok((answer, file)) => connection.reply_with_file(&answer, file),
                Err(error) => connection.refuse(&format!("{error:#}")),
            },
            // Answered before.
            Request::Status | Request::Watch | Request::Diff | Request::Override(_) => {}
        }
    }

    /// Nodes by what people call them, all of them where none is named: names, logs and addresses.
    fn find_nodes(&self, words: &[String]) -> anyhow::Result<Nodes> {
        let keeper = self.keeper.as_ref().context("this is no lab")?;
        let all = keeper.lab.nodes();
        let mut found: Vec<&Node> = Vec::new();
        for word in words {
            found.push(service::find(&all, word)?);
        }
        if words.is_empty() {
            found = all.iter().collect();
        }
        let node = |it: &Node| FoundNode {
            name: it.short.clone(),
            container: it.name.clone(),
            log: keeper.lab.log(&it.name),
            addresses: self.reconciler.addresses(&it.name),
        };
        Ok(Nodes { nodes: found.into_iter().map(node).collect() })
    }

    /// The process whose namespaces are a node's, or those of the bridges, and what a program there is to have.
    fn way_into(&self, node: Option<&str>) -> anyhow::Result<(Entrance, OwnedFd)> {
        let keeper = self.keeper.as_ref().context("this is no lab")?;
        let user_namespace = std::fs::read_link("/proc/self/ns/user").context("tell the user namespace")?;
        let user_namespace = user_namespace.display().to_string();
        let Some(word) = node else {
            let own = node::pidfd(i32::try_from(std::process::id())?).context("open the keeper itself")?;
            let answer = Entrance {
                name: "the bridges".to_owned(),
                env: BTreeMap::new(),
                folder: PathBuf::new(),
                user: None,
                user_namespace,
            };
            return Ok((answer, own));
        };
        let all = keeper.lab.nodes();
        let found = service::find(&all, word)?;
        let Some((pidfd, setup)) = keeper.lab.entry(&found.name) else {
            let life = keeper.lab.life(&found.name);
            let state = life.as_ref().map_or("gone", |it| it.state);
            anyhow::bail!("node {} does not run: it is {state}", found.short);
        };
        let user = setup.user.as_ref();
        let answer = Entrance {
            name: found.short.clone(),
            env: setup.env.iter().cloned().collect(),
            folder: setup.folder.clone(),
            user: user.map(|it| EntranceUser { uid: it.uid, gid: it.gid, groups: it.groups.clone() }),
            user_namespace,
        };
        Ok((answer, pidfd.try_clone_to_owned()?))
    }

    /// Has a node's namespace taken hold of, unless it has ended since.
    pub(super) fn inspect_node(&mut self, id: ContainerId, ticket: u64) -> Option<Event> {
        let engine = EngineId::Lab;
        let Some((container, netns)) = self.keeper.as_ref().and_then(|it| it.lab.find(&id)) else {
            return Some(Event::Inspected { engine, id, ticket, found: None });
        };
        let attach = Attach { engine, ticket, container, netns, loopback: true };
        self.worker.push(Work::Attach(Box::new(attach)));
        None
    }

    /// Runs the commands of a node; answers an event where none could be started.
    pub(super) fn run_in_node(&mut self, id: ContainerId, name: &str, commands: &[Command]) -> Option<Event> {
        let keeper = self.keeper.as_mut()?;
        let _paused = self.worker.pause();
        let mut any = false;
        for it in commands {
            match keeper.lab.run(&id, it.argv.clone(), it.origin.clone()) {
                Ok(()) => any = true,
                Err(error) => {
                    log::warn!("{name}: command could not be run: {error} ({})", it.origin);
                }
            }
        }
        (!any).then_some(Event::CommandsDone { id })
    }

    /// Everything that is known, of a lab with its processes.
    pub(super) fn status(&self) -> Status {
        let mut status = self.reconciler.status();
        let Some(keeper) = &self.keeper else { return status };
        status.served = Served::Lab;
        let mut nodes: Vec<NodeStatus> = Vec::new();
        for (container, life) in keeper.lab.lives() {
            let known = status.nodes.iter().position(|it| it.name == container.name);
            let mut node = match known {
                Some(at) => status.nodes.remove(at),
                None => NodeStatus {
                    name: container.name.clone(),
                    service: container.service,
                    index: container.index,
                    engine: EngineId::Lab.to_string(),
                    id: container.id.as_str().to_owned(),
                    state: match life.state {
                        "running" | "stopping" => NodeState::Connected,
                        "waiting" => NodeState::Working,
                        _ => NodeState::Stopped,
                    },
                    links: Vec::new(),
                    errors: Vec::new(),
                    process: None,
                },
            };
            if let Some(why) = &life.error {
                node.errors.push(Problem {
                    subject: Subject::Container(node.name.clone()).to_string(),
                    message: why.clone(),
                    help: None,
                    origin: None,
                });
                status.state = Health::Failing;
            }
            node.process = Some(ProcessStatus {
                name: life.short,
                state: life.state.to_owned(),
                pid: life.pid,
                exit_code: life.exit_code,
                restarts: life.restarts,
                health: life.health.map(str::to_owned),
                command: life.command,
                notes: life.notes,
                log: life.log.display().to_string(),
            });
            nodes.push(node);
        }
        nodes.append(&mut status.nodes);
        status.nodes = nodes;
        status
    }
}
