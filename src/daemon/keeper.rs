//! A lab in the loop: its nodes are in the place of an engine's containers.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, PipeWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::api::{
    Accepted, Apply, Awaited, Ending, Entrance, EntranceUser, FoundNode, Health, NodeState, NodeStatus,
    Nodes, Problem, ProcessStatus, Request, Served, Status,
};
use crate::container::ContainerId;
use crate::daemon::Daemon;
use crate::daemon::serve::Connection;
use crate::daemon::worker::{Attach, Work};
use crate::lab::{Changed, Lab, Life, Wanted};
use crate::network::{Command, Network};

use crate::process::node;
use crate::reconcile::{EngineId, Event};
use crate::service::{self, Node};

/// What the loop needs for a lab, in addition to that of an engine.
#[derive(Debug)]
pub struct LabSetup {
    pub lab: Lab,
    /// Reads the files of an [`Apply`] request.
    pub read: Read,
    /// The lab ends when the other end of this pipe is closed.
    pub tie: Option<OwnedFd>,
    /// `ok` is written here once the socket is listening; then both files are closed.
    pub ready: Option<(PipeWriter, OwnedFd)>,
}

/// The answer to an [`Apply`] request while the lab is ending.
pub const LAB_ENDS: &str = "it is ending";

/// Turns a request into the contents of the lab; the error is for the client.
pub type Read = fn(&Apply, &Lab) -> anyhow::Result<LabContents>;

/// The network and the nodes of a lab.
#[derive(Debug)]
pub struct LabContents {
    pub network: Network,
    pub nodes: Vec<Wanted>,
    /// The folder of the project.
    pub project: PathBuf,
}

/// The events of a lab that the loop listens to.
pub(super) struct LabEvents {
    said: AsyncFd<OwnedFd>,
    child: Signal,
    tie: Option<AsyncFd<OwnedFd>>,
    folder: Option<AsyncFd<OwnedFd>>,
}

/// What nodes print.
pub(super) struct LabOutput(AsyncFd<OwnedFd>);

impl LabOutput {
    pub(super) fn new(setup: &LabSetup) -> anyhow::Result<Self> {
        let output = setup.lab.poll_output().try_clone_to_owned();
        Ok(Self(output.and_then(watch).context("listen for the output of nodes")?))
    }

    /// Waits until a node has printed something.
    pub(super) async fn next(output: &mut Option<Self>) {
        let Some(Self(file)) = output else { return std::future::pending().await };
        loop {
            let Ok(mut ready) = file.readable().await else { return std::future::pending().await };
            // There may be more than was read the last time, and no new event tells of it.
            if is_readable(file.get_ref()) {
                return;
            }
            ready.clear_ready();
        }
    }
}

fn is_readable(file: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).is_ok_and(|it| it > 0)
}

#[expect(unsafe_code, reason = "tokio takes raw file descriptors on the caller's word")]
fn watch(file: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the file owns its descriptor and keeps it.
    Ok(unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) }?)
}

/// A file that is readable when something in a folder is removed.
fn watch_folder(folder: &Path) -> io::Result<OwnedFd> {
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let gone = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM;
    watch.add_watch(folder, gone | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF)?;
    Ok(watch.into())
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
    /// Something in the lab's folder was removed.
    FolderChanged,
    /// The lab's next deadline has passed.
    DeadlinePassed,
}

impl LabEvents {
    pub(super) fn new(setup: &mut LabSetup) -> anyhow::Result<Self> {
        let said = setup.lab.poll().try_clone_to_owned().context("listen for messages of nodes")?;
        Ok(Self {
            said: watch(said).context("listen for messages of nodes")?,
            child: signal(SignalKind::child()).context("listen for SIGCHLD")?,
            tie: setup.tie.take().map(watch).transpose().context("watch the owner of the lab")?,
            // A user may have too few of these watches; the lab works without one.
            folder: watch_folder(setup.lab.folder())
                .and_then(watch)
                .inspect_err(|it| log::warn!("watch the folder of the lab: {it}"))
                .ok(),
        })
    }

    /// Waits for the next event.
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
            () = folder_changed(&it.folder) => LabEvent::FolderChanged,
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

/// Waits until something in the lab's folder was removed. Which files does not matter.
async fn folder_changed(folder: &Option<AsyncFd<OwnedFd>>) {
    let Some(file) = folder else { return std::future::pending().await };
    let Ok(mut ready) = file.readable().await else { return std::future::pending().await };
    let _ = nix::unistd::read(file.get_ref(), &mut [0; 4096]);
    if !is_readable(file.get_ref()) {
        ready.clear_ready();
    }
}

/// A lab and its clients.
pub(super) struct Keeper {
    pub(super) lab: Lab,
    read: Read,
    /// The lab is ending, and the loop ends with it.
    ending: bool,
    /// Clients that wait for the result of their [`Apply`] request.
    waiting: Vec<Connection>,
}

impl Keeper {
    pub(super) fn new(setup: LabSetup) -> anyhow::Result<Self> {
        if let Some((mut ready, _claim)) = setup.ready
            && let Err(error) = ready.write_all(b"ok")
        {
            // The next client can still use the lab, which has no nodes yet.
            log::warn!("the command that started the lab is gone: {error}");
        }
        Ok(Self { lab: setup.lab, read: setup.read, ending: false, waiting: Vec::new() })
    }
}

impl Daemon {
    /// Handles an event of the lab.
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
                log::info!("the owner of the lab is gone: the lab ends");
                self.end_lab();
                return;
            }
            LabEvent::FolderChanged => {
                if !keeper.ending && !keeper.lab.has_folder() {
                    log::error!("the folder of the lab was removed: the lab ends");
                    self.end_lab();
                }
                return;
            }
            LabEvent::DeadlinePassed => Vec::new(),
        };
        let hint = |Changed(id)| Event::Hint { engine: EngineId::Lab, id };
        events.extend(changed.into_iter().map(hint));
    }

    /// Does everything that has become possible. Returns the event that follows.
    pub(super) fn advance_lab(&mut self) -> Option<Event> {
        let keeper = self.keeper.as_mut()?;
        let reconciler = &self.reconciler;
        keeper.lab.link(|id| reconciler.is_tried(id));
        {
            // A new node is a copy of this process, which must have no other thread at work.
            let _paused = self.worker.pause();
            keeper.lab.act(Instant::now());
        }
        let is_settled = keeper.lab.is_settled() && !reconciler.is_retrying();
        if !keeper.waiting.is_empty() && is_settled && reconciler.health() != Health::Working {
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
        // The kernel removes the lab's namespaces with everything in them.
        self.exit = Some(0);
        None
    }

    /// Ends all nodes, then the loop.
    pub(super) fn end_lab(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.lab.stop(Instant::now());
            keeper.ending = true;
            for it in std::mem::take(&mut keeper.waiting) {
                it.refuse("the lab was ended by another command");
            }
        }
    }

    /// Applies a request. An error is for the client, and nothing has changed then.
    pub(super) fn reshape(&mut self, request: &Apply) -> anyhow::Result<()> {
        let Some(keeper) = &mut self.keeper else { anyhow::bail!("this is not a lab") };
        anyhow::ensure!(!keeper.ending, LAB_ENDS);
        let asked = (keeper.read)(request, &keeper.lab)?;
        if !asked.network.stays_inside() && !self.reconciler.own().no_host {
            keeper.lab.set_uses_host()?;
        }
        {
            let _paused = self.worker.pause();
            keeper.lab.set(asked.nodes, asked.project, Instant::now())?;
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

    /// Answers a request that is only for labs.
    pub(super) fn answer_for_lab(&mut self, request: Request, connection: Connection) {
        if self.keeper.is_none() {
            return connection.refuse("this request is for labs; this is an engine");
        }
        match request {
            Request::Apply(apply) => match self.reshape(&apply) {
                Ok(()) => {
                    connection.announce(&Accepted { accepted: true });
                    if let Some(keeper) = &mut self.keeper {
                        // Clients that have gone away make room.
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
            // Answered elsewhere.
            Request::Status | Request::Watch | Request::Diff | Request::Override(_) => {}
        }
    }

    /// Looks up nodes by their names; without names, all nodes.
    fn find_nodes(&self, words: &[String]) -> anyhow::Result<Nodes> {
        let keeper = self.keeper.as_ref().context("this is not a lab")?;
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

    /// A pidfd of a process in a node, or in the namespace of the bridges, and the environment for programs there.
    fn way_into(&self, node: Option<&str>) -> anyhow::Result<(Entrance, OwnedFd)> {
        let keeper = self.keeper.as_ref().context("this is not a lab")?;
        let user_namespace = std::fs::read_link("/proc/self/ns/user").context("read the user namespace")?;
        let user_namespace = user_namespace.display().to_string();
        let Some(word) = node else {
            let own = node::pidfd(i32::try_from(std::process::id())?).context("open the keeper itself")?;
            let answer = Entrance {
                name: "the bridges".to_owned(),
                env: BTreeMap::new(),
                folder: PathBuf::new(),
                user: None,
                capabilities: u64::MAX,
                filtered: false,
                user_namespace,
            };
            return Ok((answer, own));
        };
        let all = keeper.lab.nodes();
        let found = service::find(&all, word)?;
        let Some((pidfd, setup)) = keeper.lab.entry(&found.name) else {
            let life = keeper.lab.life(&found.name);
            let state = life.as_ref().map_or("gone", |it| it.state);
            anyhow::bail!("node {} is not running: it is {state}", found.short);
        };
        let user = setup.user.as_ref();
        let answer = Entrance {
            name: found.short.clone(),
            env: setup.env.iter().cloned().collect(),
            folder: setup.folder.clone(),
            user: user.map(|it| EntranceUser { uid: it.uid, gid: it.gid, groups: it.groups.clone() }),
            capabilities: setup.privileges.capabilities,
            filtered: setup.privileges.filtered,
            user_namespace,
        };
        Ok((answer, pidfd.try_clone_to_owned()?))
    }

    /// Opens a node's network namespace, unless the node has ended since.
    pub(super) fn inspect_node(&mut self, id: ContainerId, ticket: u64) -> Option<Event> {
        let engine = EngineId::Lab;
        let Some((container, netns)) = self.keeper.as_ref().and_then(|it| it.lab.find(&id)) else {
            return Some(Event::Inspected { engine, id, ticket, found: None });
        };
        let attach = Attach { engine, ticket, container, netns, loopback: true };
        self.worker.push(Work::Attach(Box::new(attach)));
        None
    }

    /// Runs the `commands:` of a node. Returns an event if none could be started.
    pub(super) fn run_in_node(&mut self, id: ContainerId, name: &str, commands: &[Command]) -> Option<Event> {
        let keeper = self.keeper.as_mut()?;
        let _paused = self.worker.pause();
        let mut any = false;
        for it in commands {
            match keeper.lab.run(&id, it.argv.clone(), it.origin.clone()) {
                Ok(()) => any = true,
                Err(error) => {
                    log::warn!("{name}: command could not be started: {error} ({})", it.origin);
                }
            }
        }
        (!any).then_some(Event::CommandsDone { id })
    }

    /// The status; that of a lab has its processes.
    pub(super) fn status(&self) -> Status {
        let mut status = self.reconciler.status();
        let Some(keeper) = &self.keeper else { return status };
        status.served = Served::Lab;
        let mut nodes: Vec<NodeStatus> = Vec::new();
        for (container, life) in keeper.lab.lives() {
            let known = status.nodes.iter().position(|it| it.name == container.name);
            let mut node = match known {
                // An end that the reconciler has not been told of yet counts too.
                Some(at) if !["exited", "failed"].contains(&life.state) => status.nodes.remove(at),
                Some(at) => {
                    NodeStatus { state: NodeState::Stopped, links: Vec::new(), ..status.nodes.remove(at) }
                }
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
            if let Some(it) = problem(&life) {
                node.errors.push(it);
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
                waits_for: life
                    .waits_for
                    .into_iter()
                    .map(|it| Awaited { service: it.service, condition: it.condition.to_string() })
                    .collect(),
            });
            nodes.push(node);
        }
        nodes.append(&mut status.nodes);
        status.nodes = nodes;
        status
    }
}

/// What is wrong with a node's process: it could not be started, is unhealthy, or has exited with a code other than 0.
fn problem(life: &Life) -> Option<Problem> {
    let see = || Some(format!("see its output with `conlink lab logs {}`", life.short));
    let (message, help) = match (&life.error, life.state, life.exit_code) {
        (Some(why), ..) => (why.clone(), None),
        (None, "exited", Some(code)) if code != 0 => (format!("exited with code {code}"), see()),
        (None, "running", _) if life.health == Some("unhealthy") => ("unhealthy".to_owned(), see()),
        _ => return None,
    };
    Some(Problem { subject: format!("node {}", life.short), message, help, origin: None })
}
