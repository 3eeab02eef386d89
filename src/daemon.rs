//! The event loop: it takes in events and performs the reconciler's effects.
//!
//! The loop waits for events only: engine calls, signals, requests and the clock are tokio tasks on this thread, and
//! kernel work runs on another thread ([`worker`]), which reports the results.

mod follow;
mod inspect;
mod keeper;
mod listen;
mod serve;
mod worker;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::api::{
    self, Accepted, Health, LinkStatus, NodeStatus, Overridden, OverriddenLink, Request, Status,
};
use crate::container::{Container, ContainerId};
use crate::daemon::serve::{Connection, Incoming};
use crate::docker::Engine;
use crate::kernel::Kernel;
use crate::network::{Command, Deadline, LinkId, Network};
use crate::reconcile::{About, Effect, EngineId, Event, Notice, Own, Reconciler, Unreachable};

pub use follow::{Change, Follow};
pub use inspect::{Failed, open as open_netns};
pub use keeper::{LAB_ENDS, LabContents, LabSetup, Read};
pub use listen::within;

use follow::Follower;
use keeper::{Keeper, LabEvent, LabEvents, LabOutput};
use worker::{Attach, Work, Worked, Worker};

/// The log line that users and scripts wait for. It is printed only when it is true.
pub const ALL_CONNECTED: &str = "All links connected";

/// Most inspections at the same time: enough to keep the engine busy, few enough to be answered in order.
const INSPECTIONS: usize = 8;

/// How long an inspection counts towards [`INSPECTIONS`]. A slower one hangs and must not delay the others.
const SLOT_LIMIT: Duration = Duration::from_secs(1);

/// Number of tries if the engine answers an inspection with an error.
const INSPECTION_TRIES: usize = 6;

/// Shortest time between two status lines to watching clients.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(50);

/// Delay before a changed status is published. Changes come in groups: each container that starts is inspected, and
/// most of them need no wiring.
const PUBLISH_DELAY: Duration = Duration::from_millis(10);

/// Delay before kernel notifications are read, because they come in groups.
const NOTICE_DELAY: Duration = Duration::from_millis(10);

/// Longest time that a status waits for the checks of reported changes.
const STATUS_WAIT: Duration = Duration::from_millis(100);

/// When the loop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// When a signal or a request ends it.
    Run,
    /// When all running containers have been wired.
    Once,
    /// The same, but the steps are printed and not applied.
    DryRun,
}

/// The parts that the loop needs.
#[derive(Debug)]
pub struct Setup {
    pub network: Network,
    pub own: Own,
    pub engines: BTreeMap<EngineId, Engine>,
    pub kernel: Kernel,
    pub mode: Mode,
    /// The output of `--dry-run`.
    pub print: Print,
    /// Path of the socket for requests; used with [`Mode::Run`] only.
    pub socket: Option<PathBuf>,
    /// A lab whose nodes take the place of containers.
    pub lab: Option<LabSetup>,
    /// Who is told of containers, whatever the network says about them.
    pub follow: Option<Follow>,
}

/// Writes to standard output.
pub type Print = fn(&str) -> anyhow::Result<()>;

/// A message to the loop from one of its tasks.
#[derive(Debug)]
enum Message {
    Event(Event),
    Lab(LabEvent),
    Worked(Worked),
    /// The answer to an inspection. The namespace is not attached yet.
    Inspected {
        engine: EngineId,
        id: ContainerId,
        ticket: u64,
        found: Option<(Container, File)>,
    },
    /// Does the configuration need this running container?
    IsWanted(Container, oneshot::Sender<bool>),
    Request(Incoming),
}

/// Runs the loop until it ends as [`Mode`] says. Returns the exit code.
pub async fn run(setup: Setup) -> anyhow::Result<u8> {
    let Setup { network, own, engines, mut kernel, mode, print, socket, mut lab, follow } = setup;
    let ids: Vec<EngineId> = engines.keys().copied().chain(lab.as_ref().map(|_| EngineId::Lab)).collect();
    let reconciler = Reconciler::new(network, own, &ids, mode != Mode::Run);
    let (sender, mut messages) = mpsc::unbounded_channel();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut notices = match mode {
        Mode::Run => Some(listen::Notices::new(&mut kernel)?),
        Mode::Once | Mode::DryRun => None,
    };
    let mut switch = listen::SwitchWatch::default();
    let mut lab_events = lab.as_mut().map(LabEvents::new).transpose()?;
    let mut lab_output = lab.as_ref().map(LabOutput::new).transpose()?;
    let inspections = Rc::new(Semaphore::new(INSPECTIONS));
    let mut daemon = Daemon {
        reconciler,
        engines: engines.into_iter().map(|(id, it)| (id, Rc::new(it))).collect(),
        follower: follow.map(|it| Follower::new(it, inspections.clone())),
        worker: Worker::start(kernel, mode, print, sender.clone())?,
        mode,
        sender,
        inspections,
        wake_at: None,
        notices_at: None,
        stopping: false,
        is_ending: false,
        exit: None,
        published: watch::Sender::new(Rc::new(None)),
        published_at: None,
        publish_at: None,
        keeper: None,
        overriding: Vec::new(),
        looks: Looks::default(),
        asking: VecDeque::new(),
    };
    let server = match socket.filter(|_| mode == Mode::Run) {
        Some(socket) => serve::Server::start(&socket, daemon.sender.clone())
            .await
            .inspect_err(|error| {
                log::warn!(
                    "no status socket, so `conlink status` does not work: {}: {error}",
                    socket.display()
                );
            })
            .ok(),
        None => None,
    };
    if let Some(setup) = lab {
        let folder = setup.lab.folder().display();
        anyhow::ensure!(server.is_some(), "the lab's socket in {folder} could not be created");
        daemon.keeper = Some(Keeper::new(setup)?);
    }
    for (id, engine) in &daemon.engines {
        tokio::task::spawn_local(listen::engine(*id, engine.clone(), daemon.sender.clone()));
    }
    loop {
        let (wake_at, publish_at, notices_at) = (daemon.wake_at, daemon.publish_at, daemon.notices_at);
        let lab_wake_at = daemon.keeper.as_ref().and_then(|it| it.lab.wake_at());
        let answer_at = daemon.asking.front().map(|it| it.until);
        let message = tokio::select! {
            // Signals first, so that a flood of events delays neither them nor the status of watching clients.
            biased;
            _ = terminate.recv() => match daemon.stop() {
                Some(it) => it,
                None => std::process::exit(128 + SignalKind::terminate().as_raw_value()),
            },
            _ = interrupt.recv() => match daemon.stop() {
                Some(it) => it,
                None => std::process::exit(128 + SignalKind::interrupt().as_raw_value()),
            },
            () = listen::sleep_until(publish_at) => {
                daemon.publish();
                continue;
            }
            () = listen::sleep_until(answer_at) => {
                daemon.answer_asking();
                continue;
            }
            () = listen::sleep_until(notices_at) => {
                daemon.read_notices();
                continue;
            }
            () = listen::Notices::next(&mut notices), if notices_at.is_none() => {
                daemon.notices_at = Some(Instant::now() + NOTICE_DELAY);
                continue;
            }
            () = switch.ended() => {
                log::warn!("an Open vSwitch daemon has ended and is started again");
                Message::Event(Event::SwitchEnded)
            }
            // Before requests: a lab that is ending accepts no more of them.
            event = LabEvents::next(&mut lab_events) => Message::Lab(event),
            Some(it) = messages.recv() => it,
            () = listen::sleep_until(lab_wake_at) => Message::Lab(LabEvent::DeadlinePassed),
            () = listen::sleep_until(wake_at) => {
                daemon.wake_at = None;
                Message::Event(Event::Wake)
            }
            // Last, because a node may print without end.
            () = LabOutput::next(&mut lab_output) => {
                if let Some(keeper) = &mut daemon.keeper {
                    keeper.lab.copy_output();
                }
                continue;
            }
        };
        match message {
            Message::Worked(Worked::Switch(files)) => switch.follow(files),
            Message::Worked(Worked::SwitchStopped(result)) => {
                if let Err(error) = result {
                    log::error!("{error}");
                    return Ok(1);
                }
                return Ok(daemon.exit.unwrap_or(0));
            }
            Message::Event(Event::SwitchEnded) => {
                daemon.take(Message::Event(Event::SwitchEnded));
                daemon.worker.push(Work::FollowSwitch);
            }
            message => daemon.take(message),
        }
        daemon.schedule_publishing();
        if let Some(code) = daemon.exit
            && !daemon.is_ending
        {
            // After `--once` the links stay.
            if mode != Mode::Run {
                return Ok(code);
            }
            daemon.is_ending = true;
            daemon.worker.push(Work::StopSwitch);
        }
    }
}

struct Daemon {
    reconciler: Reconciler,
    engines: BTreeMap<EngineId, Rc<Engine>>,
    follower: Option<Follower>,
    worker: Worker,
    mode: Mode,
    sender: mpsc::UnboundedSender<Message>,
    inspections: Rc<Semaphore>,
    wake_at: Option<Instant>,
    /// When the worker reads kernel notifications.
    notices_at: Option<Instant>,
    /// A signal to end has arrived.
    stopping: bool,
    /// Only Open vSwitch still has to be stopped.
    is_ending: bool,
    exit: Option<u8>,
    /// The last status sent to watching clients.
    published: watch::Sender<Rc<Option<Status>>>,
    published_at: Option<Instant>,
    /// When the next status is published, if it has changed.
    publish_at: Option<Instant>,
    keeper: Option<Keeper>,
    /// Clients that wait for the effect of an override.
    overriding: Vec<Overriding>,
    looks: Looks,
    /// Clients that wait for a status, the first one first.
    asking: VecDeque<Asking>,
}

/// Checks of changes that the kernel has reported.
#[derive(Default)]
struct Looks {
    /// How often notices were to be read, and how often that is done.
    readings: u64,
    read: u64,
    /// The jobs that check what was read.
    jobs: BTreeSet<u64>,
}

/// A client that waits for a status with everything that the kernel had reported when it asked.
struct Asking {
    until: Instant,
    /// The number of the reading that shows what is to be checked.
    reading: u64,
    /// The jobs that check it, once that is known.
    jobs: Option<BTreeSet<u64>>,
    connection: Connection,
}

/// A client that waits for the effect of an override.
struct Overriding {
    links: BTreeSet<LinkId>,
    /// The jobs that wire the links.
    jobs: BTreeSet<u64>,
    connection: Connection,
}

/// Longest duration of an override.
const LONGEST_OVERRIDE: Duration = Duration::from_secs(365 * 24 * 3600);

/// The deadline of an override that lasts this long.
fn deadline(after: Duration) -> Deadline {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Deadline { at: Instant::now() + after, unix: (since + after).as_secs() }
}

impl Daemon {
    /// Starts the shutdown at the first signal. Returns None at the second one, which ends the process at once.
    fn stop(&mut self) -> Option<Message> {
        if std::mem::replace(&mut self.stopping, true) {
            return None;
        }
        // A lab's nodes end before its network is removed.
        Some(match self.keeper {
            Some(_) => Message::Lab(LabEvent::OwnerGone),
            None => Message::Event(Event::Stop),
        })
    }

    /// Handles a message and everything that follows from it at once.
    fn take(&mut self, message: Message) {
        let mut events = VecDeque::new();
        if let (Some(follower), Message::Event(event)) = (&self.follower, &message) {
            follower.hear(event, &self.engines);
        }
        match message {
            Message::Event(event) | Message::Worked(Worked::Event(event)) => events.push_back(event),
            Message::Worked(Worked::NoticesRead) => self.looks.read += 1,
            Message::Worked(Worked::Switch(_) | Worked::SwitchStopped(_)) => {}
            Message::Worked(Worked::Diff(mut diff, clients)) => {
                diff.add_errors(self.status().problems().into_iter().cloned());
                clients.into_iter().for_each(|it| it.reply(&diff));
            }
            Message::Inspected { engine, id, ticket, found } => {
                events.extend(self.attach(engine, id, ticket, found));
            }
            Message::IsWanted(container, reply) => drop(reply.send(self.reconciler.wants(&container))),
            Message::Request(request) => self.answer(request),
            Message::Lab(event) => self.lab_event(event, &mut events),
        }
        self.handle(&mut events);
        while let Some(event) = self.advance_lab() {
            events.push_back(event);
            self.handle(&mut events);
        }
        self.answer_overriding();
        self.answer_asking();
    }

    /// Handles events and all events that follow from them at once.
    fn handle(&mut self, events: &mut VecDeque<Event>) {
        while let Some(event) = events.pop_front() {
            let is_look = matches!(event, Event::Changed(_));
            for effect in self.reconciler.handle(event, Instant::now()) {
                if let Effect::Converge(job) = &effect
                    && is_look
                {
                    self.looks.jobs.insert(job.number);
                }
                self.perform(effect, events);
            }
        }
    }

    /// Answers a client's request.
    fn answer(&mut self, incoming: Incoming) {
        let Incoming { request, connection, .. } = incoming;
        match request {
            _ if self.exit.is_some() => connection.refuse(LAB_ENDS),
            Request::Status => {
                self.read_notices();
                let (until, reading) = (Instant::now() + STATUS_WAIT, self.looks.readings);
                self.asking.push_back(Asking { until, reading, jobs: None, connection });
            }
            Request::Watch => {
                // With other watching clients the published status is current.
                if self.published.receiver_count() == 0 {
                    self.publish();
                }
                connection.follow(self.published.subscribe());
            }
            Request::Diff => {
                let status = self.status();
                if !status.listening || status.state == Health::Working {
                    return connection.refuse("not everything has been checked yet");
                }
                self.worker.push_diff(self.reconciler.all_jobs(), connection);
            }
            Request::Override(it) => self.set_over(&it, connection),
            request => self.answer_for_lab(request, connection),
        }
    }

    /// Sets overrides. The client is answered when the links have been wired.
    fn set_over(&mut self, asked: &api::Override, connection: Connection) {
        let until = match asked.seconds.map(Duration::try_from_secs_f64) {
            None => None,
            Some(Ok(it)) if it > Duration::ZERO && it <= LONGEST_OVERRIDE => Some(deadline(it)),
            Some(_) => {
                return connection.refuse("`seconds` is a number above 0 and at most 31536000 (a year)");
            }
        };
        match self.reconciler.set_over(asked, until, Instant::now()) {
            Ok((links, effects)) => {
                let mut jobs = BTreeSet::new();
                let mut events = VecDeque::new();
                for it in effects {
                    if let Effect::Converge(job) = &it {
                        jobs.insert(job.number);
                    }
                    self.perform(it, &mut events);
                }
                self.handle(&mut events);
                connection.announce(&Accepted { accepted: true });
                self.overriding.retain(|it| it.connection.is_open());
                self.overriding.push(Overriding { links, jobs, connection });
            }
            Err(why) => connection.refuse(&why),
        }
    }

    /// Answers the clients whose overrides have been wired.
    fn answer_overriding(&mut self) {
        let reconciler = &self.reconciler;
        let is_ready = |it: &mut Overriding| it.jobs.iter().all(|it| reconciler.is_done(*it));
        let ready: Vec<Overriding> = self.overriding.extract_if(.., is_ready).collect();
        if ready.is_empty() {
            return;
        }
        let status = self.status();
        for Overriding { links, connection, .. } in ready {
            let meant = |node: &NodeStatus, link: &LinkStatus| {
                links.iter().any(|it| it.container == node.name && it.dev.as_str() == link.dev)
            };
            let links = status.nodes.iter().flat_map(|node| {
                let links = node.links.iter().filter(|it| meant(node, it));
                links.map(|it| OverriddenLink { node: node.name.clone(), link: it.clone() })
            });
            connection.reply(&Overridden { links: links.collect() });
        }
    }

    fn read_notices(&mut self) {
        self.notices_at = None;
        self.looks.readings += 1;
        self.worker.push(Work::ReadNotices);
    }

    /// Answers the clients for which everything that the kernel had reported has been checked. While anything else is
    /// wired, nobody waits.
    fn answer_asking(&mut self) {
        let reconciler = &self.reconciler;
        let is_done = |it: &u64| reconciler.is_done(*it);
        self.looks.jobs.retain(|it| !is_done(it));
        let is_wiring = reconciler.is_wiring(&self.looks.jobs);
        let now = Instant::now();
        let is_ready = |it: &mut Asking| {
            if self.looks.read >= it.reading {
                let jobs = it.jobs.get_or_insert_with(|| self.looks.jobs.clone());
                jobs.retain(|it| !is_done(it));
            }
            is_wiring || it.until <= now || it.jobs.as_ref().is_some_and(BTreeSet::is_empty)
        };
        let (ready, waiting): (Vec<_>, Vec<_>) =
            self.asking.drain(..).map(|mut it| (is_ready(&mut it), it)).partition(|(is_ready, _)| *is_ready);
        self.asking = waiting.into_iter().map(|(_, it)| it).collect();
        if !ready.is_empty() {
            let status = self.status();
            ready.into_iter().for_each(|(_, it)| it.connection.reply(&status));
        }
    }

    /// Publishes the status to watching clients if it has changed.
    fn publish(&mut self) {
        self.publish_at = None;
        let status = Some(self.status());
        if **self.published.borrow() != status {
            self.published.send_replace(Rc::new(status));
            self.published_at = Some(Instant::now());
        }
    }

    /// Schedules [`publish`](Self::publish): the status may have changed.
    fn schedule_publishing(&mut self) {
        if self.publish_at.is_none() && self.published.receiver_count() > 0 {
            let soon = Instant::now() + PUBLISH_DELAY;
            self.publish_at = Some(self.published_at.map_or(soon, |it| soon.max(it + PUBLISH_INTERVAL)));
        }
    }

    /// Attaches a container's namespace if the configuration needs the container.
    fn attach(
        &mut self,
        engine: EngineId,
        id: ContainerId,
        ticket: u64,
        found: Option<(Container, File)>,
    ) -> Option<Event> {
        // The answer to an earlier inspection may have a namespace that no longer exists.
        let is_current = self.reconciler.is_asked(&id, ticket);
        match found.filter(|(container, _)| self.reconciler.wants(container)) {
            _ if !is_current => None,
            None => Some(Event::Inspected { engine, id, ticket, found: None }),
            Some((container, netns)) => {
                let attach = Attach { engine, ticket, container, netns, loopback: false };
                self.worker.push(Work::Attach(Box::new(attach)));
                None
            }
        }
    }

    fn perform(&mut self, effect: Effect, events: &mut VecDeque<Event>) {
        match effect {
            Effect::Inspect { engine: EngineId::Lab, id, ticket } => {
                events.extend(self.inspect_node(id, ticket));
            }
            Effect::Inspect { engine, id, ticket } => self.inspect(engine, id, ticket),
            Effect::Release(id) => self.worker.push(Work::Detach(id)),
            Effect::Converge(job) => {
                if job.about == About::Teardown {
                    // All queued work is obsolete.
                    self.worker.clear();
                    self.looks.read = self.looks.readings;
                }
                self.worker.push(Work::Converge(job));
            }
            Effect::Exec { engine: EngineId::Lab, id, name, commands } => {
                events.extend(self.run_in_node(id, &name, &commands));
            }
            Effect::Exec { engine, id, name, commands } => self.exec(engine, id, name, commands),
            Effect::WakeAt(at) => self.wake_at = Some(at),
            Effect::Notify(notice) => self.log(&notice),
            Effect::Announce => match self.mode {
                Mode::Run | Mode::Once => log::info!("{ALL_CONNECTED}"),
                Mode::DryRun => {}
            },
            Effect::Exit(code) => self.exit = Some(code),
        }
    }

    fn log(&self, notice: &Notice) {
        // A dry run prints its plan and errors only.
        if self.mode == Mode::DryRun && notice.level() == log::Level::Info {
            return;
        }
        log::log!(notice.level(), "{notice}");
        if let Some(help) = notice.help() {
            // At level info, because the log adds no prefix such as `error: ` there.
            log::info!("hint: {help}");
        }
    }

    fn inspect(&self, engine_id: EngineId, id: ContainerId, ticket: u64) {
        let Some(engine) = self.engines.get(&engine_id).cloned() else { return };
        let (sender, inspections) = (self.sender.clone(), self.inspections.clone());
        let name = self.reconciler.container_name(&id).to_owned();
        tokio::task::spawn_local(async move {
            let wanted = async |container: &Container| {
                let (reply, answer) = oneshot::channel();
                let _ = sender.send(Message::IsWanted(container.clone(), reply));
                answer.await.unwrap_or(false)
            };
            let mut wait = Duration::from_millis(100);
            let mut tries = 0;
            // A lost connection ends these tries too: after the reconnect all containers are listed and inspected
            // again.
            let failed = loop {
                let inspection = inspect::container(engine_id, &engine, &id, &name, wanted);
                let answer = in_slot(&inspections, inspection).await;
                tries += 1;
                match answer {
                    Ok(found) => {
                        let _ = sender.send(Message::Inspected { engine: engine_id, id, ticket, found });
                        return;
                    }
                    Err(it) if tries == INSPECTION_TRIES => break it,
                    Err(_) => {}
                }
                tokio::time::sleep(wait).await;
                wait *= 2;
            };
            let inspect::Failed { container, message, help } = failed;
            let container = match container {
                Some(it) => Some(it),
                None => inspect::listed(engine_id, &engine, &id).await,
            };
            let it = Unreachable { engine: engine_id, id, container, ticket, message, help };
            let _ = sender.send(Message::Event(Event::Unreachable(it)));
        });
    }

    fn exec(&self, engine: EngineId, id: ContainerId, name: String, commands: Vec<Command>) {
        if self.mode == Mode::DryRun {
            let _ = self.sender.send(Message::Event(Event::CommandsDone { id }));
            return;
        }
        let Some(engine) = self.engines.get(&engine).cloned() else { return };
        let sender = self.sender.clone();
        tokio::task::spawn_local(async move {
            let all = commands.iter().map(|it| run_command(&engine, &id, &name, it));
            futures_util::future::join_all(all).await;
            let _ = sender.send(Message::Event(Event::CommandsDone { id }));
        });
    }
}

/// Waits for one of the slots, and then for an inspection. One that hangs gives its slot to the others.
async fn in_slot<T>(slots: &Semaphore, inspection: impl Future<Output = T>) -> T {
    // Never an error: the semaphore is never closed.
    let permit = slots.acquire().await;
    let mut inspection = std::pin::pin!(inspection);
    match tokio::time::timeout(SLOT_LIMIT, &mut inspection).await {
        Ok(it) => it,
        Err(_) => {
            drop(permit);
            inspection.await
        }
    }
}

/// Runs a command of the configuration and logs its output with the container's name as prefix. Errors show the place
/// of the command and not its text, which may contain secrets.
async fn run_command(engine: &Engine, id: &ContainerId, name: &str, command: &Command) {
    let Command { argv, origin } = command;
    match engine.exec(id, argv, |line| log::info!("{name}: {line}")).await {
        Ok(0) => {}
        Ok(code) => log::warn!("{name}: command failed with exit code {code} ({origin})"),
        Err(error) => log::warn!("{name}: running the command failed: {error:#} ({origin})"),
    }
}
