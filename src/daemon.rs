//! The loop: events in, effects performed.
//!
//! The loop waits for nothing but events: engine calls, signals, requests and the clock are tasks of tokio's on this
//! thread, and the kernel's work is done by another one ([`worker`]), which tells what came of it.

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
use crate::daemon::serve::{Asking, Connection};
use crate::docker::Engine;
use crate::kernel::Kernel;
use crate::network::{Command, Deadline, LinkId, Network};
use crate::reconcile::{About, Effect, EngineId, Event, Notice, Own, Reconciler, Unreachable};

pub use keeper::{LAB_ENDS, LabContents, LabSetup, Read};
pub use listen::within;

use keeper::{Keeper, LabEvent, LabEvents};
use worker::{Attach, Work, Worked, Worker};

/// What users and their scripts look for in the log. Printed when it is true, and never otherwise.
pub const ALL_CONNECTED: &str = "All links connected";

/// Inspections under way at once: enough to keep the engine busy, few enough to be answered in order.
const INSPECTIONS: usize = 8;

/// How long an inspection counts as one of those. One that takes longer hangs.
const HELD: Duration = Duration::from_secs(1);

/// How often an engine is asked about a container that it has an error for.
const INSPECTION_TRIES: usize = 6;

/// The shortest time between two lines to those who watch.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);

/// How long a change waits for those that come with it: most containers that start are not ours, and are asked about.
const PUBLISH_AFTER: Duration = Duration::from_millis(10);

/// How long notices of the kernel wait for those that come with them.
const HEAR_AFTER: Duration = Duration::from_millis(10);

/// How far the loop goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Until it is told to stop.
    Run,
    /// Until what runs now is wired.
    Once,
    /// Print what would be done, do nothing.
    DryRun,
}

/// What the loop runs with.
#[derive(Debug)]
pub struct Setup {
    pub network: Network,
    pub own: Own,
    pub engines: BTreeMap<EngineId, Engine>,
    pub kernel: Kernel,
    pub mode: Mode,
    /// Where `--dry-run` writes the plan.
    pub print: Print,
    /// Where requests are answered, with [`Mode::Run`].
    pub socket: Option<PathBuf>,
    /// A lab, whose nodes are the containers.
    pub lab: Option<LabSetup>,
}

/// Writes to standard output.
pub type Print = fn(&str) -> anyhow::Result<()>;

/// What reaches the loop from its tasks.
#[derive(Debug)]
enum Message {
    Event(Event),
    Lab(LabEvent),
    Worked(Worked),
    /// An inspection's answer, before the namespace is taken hold of.
    Inspected {
        engine: EngineId,
        id: ContainerId,
        ticket: u64,
        found: Option<(Container, File)>,
    },
    /// Is anything to be done in a container that runs?
    IsWanted(Container, oneshot::Sender<bool>),
    Request(Asking),
}

/// Runs until told to stop, or, with [`Mode::Once`] and [`Mode::DryRun`], until all is looked at.
pub async fn run(setup: Setup) -> anyhow::Result<u8> {
    let Setup { network, own, engines, mut kernel, mode, print, socket, mut lab } = setup;
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
    let mut daemon = Daemon {
        reconciler,
        engines: engines.into_iter().map(|(id, it)| (id, Rc::new(it))).collect(),
        worker: Worker::start(kernel, mode, print, sender.clone())?,
        mode,
        sender,
        inspections: Rc::new(Semaphore::new(INSPECTIONS)),
        wake_at: None,
        hear_at: None,
        stopping: false,
        is_ending: false,
        exit: None,
        published: watch::Sender::new(Rc::new(None)),
        published_at: None,
        publish_at: None,
        keeper: None,
        overriding: Vec::new(),
    };
    let server = match socket.filter(|_| mode == Mode::Run) {
        Some(socket) => serve::Server::start(&socket, daemon.sender.clone())
            .await
            .inspect_err(|error| {
                log::warn!("`conlink status` will find nobody to ask: {}: {error}", socket.display());
            })
            .ok(),
        None => None,
    };
    if let Some(setup) = lab {
        anyhow::ensure!(server.is_some(), "a lab that nobody can talk to is of no use");
        daemon.keeper = Some(Keeper::new(setup)?);
    }
    for (id, engine) in &daemon.engines {
        tokio::task::spawn_local(listen::engine(*id, engine.clone(), daemon.sender.clone()));
    }
    loop {
        let (wake_at, publish_at, hear_at) = (daemon.wake_at, daemon.publish_at, daemon.hear_at);
        let lab_wake_at = daemon.keeper.as_ref().and_then(|it| it.lab.wake_at());
        let message = tokio::select! {
            // Signals first: under a flood of events they must still be heard, and those who watch be told.
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
            () = listen::sleep_until(hear_at) => {
                daemon.hear_at = None;
                daemon.worker.push(Work::Hear);
                continue;
            }
            () = listen::Notices::next(&mut notices), if hear_at.is_none() => {
                daemon.hear_at = Some(Instant::now() + HEAR_AFTER);
                continue;
            }
            () = switch.ended() => {
                log::warn!("a daemon of Open vSwitch has ended: it is started again");
                Message::Event(Event::SwitchEnded)
            }
            // Before requests: a lab whose runner is gone takes no more of them.
            event = LabEvents::next(&mut lab_events) => Message::Lab(event),
            Some(it) = messages.recv() => it,
            () = listen::sleep_until(lab_wake_at) => Message::Lab(LabEvent::DeadlinePassed),
            () = listen::sleep_until(wake_at) => {
                daemon.wake_at = None;
                Message::Event(Event::Wake)
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
            // What is wired once stays wired.
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
    worker: Worker,
    mode: Mode,
    sender: mpsc::UnboundedSender<Message>,
    inspections: Rc<Semaphore>,
    wake_at: Option<Instant>,
    /// When the worker is asked what others changed.
    hear_at: Option<Instant>,
    /// A signal to end was heard.
    stopping: bool,
    /// All is done but the end of Open vSwitch.
    is_ending: bool,
    exit: Option<u8>,
    /// The status that those who watch were told last.
    published: watch::Sender<Rc<Option<Status>>>,
    published_at: Option<Instant>,
    /// When they are told the next one, if it is another.
    publish_at: Option<Instant>,
    keeper: Option<Keeper>,
    /// Clients that wait for the effect of an override.
    overriding: Vec<Overriding>,
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
    /// Begins to end, at the first signal. None at a second one: whoever signals twice does not want to wait for the
    /// end of the work.
    fn stop(&mut self) -> Option<Message> {
        if std::mem::replace(&mut self.stopping, true) {
            return None;
        }
        // A lab's nodes go before its network does.
        Some(match self.keeper {
            Some(_) => Message::Lab(LabEvent::OwnerGone),
            None => Message::Event(Event::Stop),
        })
    }

    /// Handles a message and all that follows from it at once.
    fn take(&mut self, message: Message) {
        let mut events = VecDeque::new();
        match message {
            Message::Event(event) | Message::Worked(Worked::Event(event)) => events.push_back(event),
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
    }

    /// Takes events in, and all that follow from them at once.
    fn handle(&mut self, events: &mut VecDeque<Event>) {
        while let Some(event) = events.pop_front() {
            for effect in self.reconciler.handle(event, Instant::now()) {
                self.perform(effect, events);
            }
        }
    }

    /// Answers what a client asks for.
    fn answer(&mut self, asking: Asking) {
        let Asking { request, connection, .. } = asking;
        match request {
            _ if self.exit.is_some() => connection.refuse(LAB_ENDS),
            Request::Status => connection.reply(&self.status()),
            Request::Watch => {
                // Else what was told last is as new as those who watch can have it.
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
                self.worker.push_diff(self.reconciler.whole(), connection);
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

    /// Tells those who watch how all is, unless they know.
    fn publish(&mut self) {
        self.publish_at = None;
        let status = Some(self.status());
        if **self.published.borrow() != status {
            self.published.send_replace(Rc::new(status));
            self.published_at = Some(Instant::now());
        }
    }

    /// Something may have changed.
    fn schedule_publishing(&mut self) {
        if self.publish_at.is_none() && self.published.receiver_count() > 0 {
            let soon = Instant::now() + PUBLISH_AFTER;
            self.publish_at = Some(self.published_at.map_or(soon, |it| soon.max(it + PUBLISH_EVERY)));
        }
    }

    /// Has a container's namespace taken hold of, if anything is to be done in it.
    fn attach(
        &mut self,
        engine: EngineId,
        id: ContainerId,
        ticket: u64,
        found: Option<(Container, File)>,
    ) -> Option<Event> {
        // An answer to an earlier question may be about a namespace that is gone.
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
                    // Nothing of what was still to be done is wanted any more.
                    self.worker.clear();
                }
                self.worker.push(Work::Converge(job));
            }
            Effect::Exec { engine: EngineId::Lab, id, name, commands } => {
                events.extend(self.run_in_node(id, &name, &commands));
            }
            Effect::Exec { engine, id, name, commands } => self.exec(engine, id, name, commands),
            Effect::WakeAt(at) => self.wake_at = Some(at),
            Effect::Notify(notice) => self.say(&notice),
            Effect::Announce => match self.mode {
                Mode::Run | Mode::Once => log::info!("{ALL_CONNECTED}"),
                Mode::DryRun => {}
            },
            Effect::Exit(code) => self.exit = Some(code),
        }
    }

    fn say(&self, notice: &Notice) {
        // What a dry run has to say is its plan, and what is in the way.
        if self.mode == Mode::DryRun && notice.level() == log::Level::Info {
            return;
        }
        log::log!(notice.level(), "{notice}");
        if let Some(help) = notice.help() {
            log::log!(notice.level(), "hint: {help}");
        }
    }

    fn inspect(&self, engine_id: EngineId, id: ContainerId, ticket: u64) {
        let Some(engine) = self.engines.get(&engine_id).cloned() else { return };
        let (sender, inspections) = (self.sender.clone(), self.inspections.clone());
        tokio::task::spawn_local(async move {
            let wanted = async |container: &Container| {
                let (reply, answer) = oneshot::channel();
                let _ = sender.send(Message::IsWanted(container.clone(), reply));
                answer.await.unwrap_or(false)
            };
            let mut wait = Duration::from_millis(100);
            let mut tries = 0;
            // A connection that is lost ends these tries too: when it is back everything is listed, and asked for, again.
            let failed = loop {
                let answer = {
                    // The semaphore is never closed, so there is a permit, sooner or later.
                    let permit = inspections.acquire().await;
                    let mut answer = std::pin::pin!(inspect::container(engine_id, &engine, &id, wanted));
                    match tokio::time::timeout(HELD, &mut answer).await {
                        Ok(it) => it,
                        // One that hangs is waited for, and keeps no other from being asked for.
                        Err(_) => {
                            drop(permit);
                            answer.await
                        }
                    }
                };
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

/// Runs one command of the configuration and logs what it says with the container's name in front. Of the command itself
/// only its place is told.
async fn run_command(engine: &Engine, id: &ContainerId, name: &str, command: &Command) {
    let Command { argv, origin } = command;
    match engine.exec(id, argv, |line| log::info!("{name}: {line}")).await {
        Ok(0) => {}
        Ok(code) => log::warn!("{name}: command failed with exit code {code} ({origin})"),
        Err(error) => log::warn!("{name}: command could not be run: {error:#} ({origin})"),
    }
}
