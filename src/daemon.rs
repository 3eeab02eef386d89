//! The loop: events in, effects performed.
//!
//! One thread. Engine calls, signals and the clock wait their turn in tokio; the kernel answers within the system
//! call, so its work is done in place, while the engine prepares its next answer on its own time.

mod converge;
mod keeper;
mod listen;
mod serve;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::container::{Container, ContainerId};
use crate::daemon::serve::Request;
use crate::docker::Engine;
use crate::kernel::Kernel;
use crate::network::{Command, Network};
use crate::reconcile::{Effect, EngineId, Event, Found, Own, Reconciler, Unreachable};

pub use converge::{Mode, converge};
pub use keeper::{Asked, Keeping, LAB_ENDS, Read};

use keeper::{Keeper, Stir, Stirs};

/// What users and their scripts look for in the log. Printed when it is true, and never otherwise.
pub const ALL_CONNECTED: &str = "All links connected";

/// Inspections under way at once: enough to keep the engine busy, few enough to be answered in order.
const INSPECTIONS: usize = 8;

/// How often an engine is asked about a container that it has an error for.
const INSPECTION_TRIES: usize = 6;

/// The shortest time between two lines to those who watch.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);

/// How long a change waits for those that come with it: most containers that start are not ours, and are asked about.
const PUBLISH_AFTER: Duration = Duration::from_millis(10);

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
    pub lab: Option<Keeping>,
}

/// Writes to standard output.
pub type Print = fn(&str) -> anyhow::Result<()>;

/// What reaches the loop from its tasks.
#[derive(Debug)]
enum Message {
    Event(Event),
    Lab(Stir),
    /// An inspection's answer, before the namespace is taken hold of.
    Inspected {
        engine: EngineId,
        id: ContainerId,
        ticket: u64,
        found: Option<(Container, u32)>,
    },
    Request(serve::Request),
}

/// Runs until told to stop, or, with [`Mode::Once`] and [`Mode::DryRun`], until all is looked at.
pub async fn run(setup: Setup) -> anyhow::Result<u8> {
    let Setup { network, own, engines, kernel, mode, print, socket, mut lab } = setup;
    let ids: Vec<EngineId> = engines.keys().copied().chain(lab.as_ref().map(|_| EngineId::Lab)).collect();
    let reconciler = Reconciler::new(network, own, &ids, mode != Mode::Run);
    let (sender, mut messages) = mpsc::unbounded_channel();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut watch = listen::Watch::new(&kernel)?;
    let mut switch = listen::SwitchWatch::default();
    let mut stirs = lab.as_mut().map(Stirs::new).transpose()?;
    let mut daemon = Daemon {
        reconciler,
        engines: engines.into_iter().map(|(id, it)| (id, Rc::new(it))).collect(),
        kernel,
        mode,
        print,
        sender,
        inspections: Rc::new(Semaphore::new(INSPECTIONS)),
        wake_at: None,
        exit: None,
        published: watch::Sender::new(Rc::new(Value::Null)),
        published_at: None,
        publish_at: None,
        keeper: None,
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
    if let Some(keeping) = lab {
        anyhow::ensure!(server.is_some(), "a lab that nobody can talk to is of no use");
        daemon.keeper = Some(Keeper::new(keeping)?);
    }
    for (id, engine) in &daemon.engines {
        tokio::task::spawn_local(listen::engine(*id, engine.clone(), daemon.sender.clone()));
    }
    loop {
        let (wake_at, publish_at) = (daemon.wake_at, daemon.publish_at);
        let lab_wake_at = daemon.keeper.as_ref().and_then(|it| it.lab.wake_at());
        let mut message = tokio::select! {
            // Signals first: under a flood of events they must still be heard, and those who watch be told.
            biased;
            _ = terminate.recv() => Message::Event(Event::Stop),
            _ = interrupt.recv() => Message::Event(Event::Stop),
            () = listen::sleep_until(publish_at) => {
                daemon.publish();
                continue;
            }
            Some(it) = messages.recv() => it,
            names = watch.vanished() => Message::Event(Event::Vanished { names }),
            () = switch.ended() => {
                log::warn!("a daemon of Open vSwitch has ended: it is started again");
                Message::Event(Event::SwitchEnded)
            }
            stir = Stirs::next(&mut stirs) => Message::Lab(stir),
            () = listen::sleep_until(lab_wake_at) => Message::Lab(Stir::Due),
            () = listen::sleep_until(wake_at) => {
                daemon.wake_at = None;
                Message::Event(Event::Wake)
            }
        };
        if matches!(message, Message::Event(Event::Stop)) {
            listen::exit_on_next_signal();
            // Its nodes go before its network does.
            if daemon.keeper.is_some() {
                message = Message::Lab(Stir::Untied);
            }
        }
        daemon.take(message);
        daemon.schedule_publishing();
        switch.follow(&daemon.kernel);
        if let Some(code) = daemon.exit {
            // What is wired once stays wired.
            if mode == Mode::Run
                && let Err(error) = daemon.kernel.stop_ovs()
            {
                log::error!("{error}");
                return Ok(1);
            }
            return Ok(code);
        }
    }
}

struct Daemon {
    reconciler: Reconciler,
    engines: BTreeMap<EngineId, Rc<Engine>>,
    kernel: Kernel,
    mode: Mode,
    print: Print,
    sender: mpsc::UnboundedSender<Message>,
    inspections: Rc<Semaphore>,
    wake_at: Option<Instant>,
    exit: Option<u8>,
    /// The status that those who watch were told last.
    published: watch::Sender<Rc<Value>>,
    published_at: Option<Instant>,
    /// When they are told the next one, if it is another.
    publish_at: Option<Instant>,
    keeper: Option<Keeper>,
}

impl Daemon {
    /// Handles a message and all that follows from it at once.
    fn take(&mut self, message: Message) {
        let mut events = VecDeque::new();
        match message {
            Message::Event(event) => events.push_back(event),
            Message::Inspected { engine, id, ticket, found } => {
                events.push_back(self.attach(engine, id, ticket, found));
            }
            Message::Request(request) => self.answer(request),
            Message::Lab(stir) => self.stirred(stir, &mut events),
        }
        self.handle(&mut events);
        while let Some(event) = self.tend() {
            events.push_back(event);
            self.handle(&mut events);
        }
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
    fn answer(&mut self, request: Request) {
        let Request { name, body, connection, .. } = request;
        match name.as_str() {
            "status" => connection.reply(&self.status().to_json()),
            "watch" => {
                // Else what was told last is as new as those who watch can have it.
                if self.published.receiver_count() == 0 {
                    self.publish();
                }
                connection.follow(self.published.subscribe());
            }
            _ if self.keeper.is_some() => self.answer_for_lab(&name, &body, connection),
            _ => connection.refuse(&format!("there is no request `{name}`, but `status` and `watch`")),
        }
    }

    /// Tells those who watch how all is, unless they know.
    fn publish(&mut self) {
        self.publish_at = None;
        let status = self.status().to_json();
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

    /// Takes hold of a container's namespace, unless it has died since.
    fn attach(
        &mut self,
        engine: EngineId,
        id: ContainerId,
        ticket: u64,
        found: Option<(Container, u32)>,
    ) -> Event {
        let found = match found {
            None => None,
            Some((container, pid)) => match self.kernel.attach(&id, pid) {
                Ok(netns) => Some(Found { container, netns }),
                Err(error) if error.is_gone() => None,
                Err(error) => {
                    let (message, help) = (error.to_string(), error.hint().map(str::to_owned));
                    let container = Some(container);
                    return Event::Unreachable(Unreachable { engine, id, container, ticket, message, help });
                }
            },
        };
        Event::Inspected { engine, id, ticket, found }
    }

    fn perform(&mut self, effect: Effect, events: &mut VecDeque<Event>) {
        match effect {
            Effect::Inspect { engine: EngineId::Lab, id, ticket } => {
                events.push_back(self.inspect_node(id, ticket));
            }
            Effect::Inspect { engine, id, ticket } => self.inspect(engine, id, ticket),
            Effect::Release(id) => self.kernel.detach(&id),
            Effect::Converge(job) => {
                let outcome = converge::converge(&mut self.kernel, &job, self.mode, self.print);
                events.push_back(Event::Done { about: job.about, outcome });
            }
            Effect::Exec { engine: EngineId::Lab, id, name, commands } => {
                events.extend(self.run_in_node(id, &name, &commands));
            }
            Effect::Exec { engine, id, name, commands } => self.exec(engine, id, name, commands),
            Effect::WakeAt(at) => self.wake_at = Some(at),
            // What a dry run has to say is its plan, and what is in the way.
            Effect::Log(log::Level::Info, _) if self.mode == Mode::DryRun => {}
            Effect::Log(level, text) => log::log!(level, "{text}"),
            Effect::Announce => match self.mode {
                Mode::Run | Mode::Once => log::info!("{ALL_CONNECTED}"),
                Mode::DryRun => {}
            },
            Effect::Exit(code) => self.exit = Some(code),
        }
    }

    fn inspect(&self, engine_id: EngineId, id: ContainerId, ticket: u64) {
        let Some(engine) = self.engines.get(&engine_id).cloned() else { return };
        let (sender, inspections) = (self.sender.clone(), self.inspections.clone());
        tokio::task::spawn_local(async move {
            // The semaphore is never closed, so there is a permit, sooner or later.
            let _permit = inspections.acquire().await;
            let mut wait = Duration::from_millis(100);
            // A connection that is lost ends these tries too: when it is back everything is listed, and asked for, again.
            let mut message = String::new();
            for _ in 0..INSPECTION_TRIES {
                match engine.inspect_container(&id).await {
                    Ok(found) => {
                        let _ = sender.send(Message::Inspected { engine: engine_id, id, ticket, found });
                        return;
                    }
                    Err(error) => message = format!("inspect {}: {error:#}", id.short()),
                }
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
            let it = Unreachable { engine: engine_id, id, container: None, ticket, message, help: None };
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

/// Runs one command of the configuration and logs what it says with the container's name in front.
async fn run_command(engine: &Engine, id: &ContainerId, name: &str, command: &Command) {
    let argv = command.argv();
    let result = engine.exec(id, &argv, |line| log::info!("{name}: {line}")).await;
    let shown = match command {
        Command::Shell(text) => text.clone(),
        Command::Exec(argv) => argv.join(" "),
    };
    match result {
        Ok(0) => {}
        Ok(code) => log::warn!("{name}: command `{shown}` ended with exit code {code}"),
        Err(error) => log::warn!("{name}: command `{shown}` could not be run: {error:#}"),
    }
}
