//! Where events come from: engines, the kernel's notices, signals, the clock.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::StreamExt;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::daemon::Message;
use crate::docker::{ContainerEvent, Engine};
use crate::kernel::{Kernel, Monitor};
use crate::reconcile::{EngineId, Event};

/// The longest wait between two tries to reach an engine that went away.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Tells what an engine runs, then what changes, for ever: a lost connection is made again and all is told anew.
pub(super) async fn engine(id: EngineId, engine: Rc<Engine>, sender: mpsc::UnboundedSender<Message>) {
    let mut wait = Duration::from_millis(100);
    let mut lost = false;
    loop {
        match follow(id, &engine, &sender, &mut lost).await {
            // The loop has ended, and so does all this.
            Ok(()) => return,
            Err(error) => {
                if !lost {
                    log::warn!("{id}: connection lost, trying again: {error:#}");
                    lost = true;
                    wait = Duration::from_millis(100);
                }
                let _ = sender.send(Message::Event(Event::Lost { engine: id }));
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
}

/// Subscribes, lists (in this order, so that no container is missed), and passes on events until they end.
async fn follow(
    id: EngineId,
    engine: &Engine,
    sender: &mpsc::UnboundedSender<Message>,
    lost: &mut bool,
) -> anyhow::Result<()> {
    let mut events = std::pin::pin!(engine.events());
    let containers = engine.list().await?;
    if std::mem::take(lost) {
        log::info!("{id}: connected again");
    }
    if sender.send(Message::Event(Event::Listed { engine: id, containers })).is_err() {
        return Ok(());
    }
    while let Some(event) = events.next().await {
        let event = match event? {
            ContainerEvent::Started(container) | ContainerEvent::Died(container) => {
                Event::Hint { engine: id, id: container }
            }
            ContainerEvent::Unknown => Event::Listed { engine: id, containers: engine.list().await? },
        };
        if sender.send(Message::Event(event)).is_err() {
            return Ok(());
        }
    }
    anyhow::bail!("the engine closed its event stream")
}

/// The kernel's notices about interfaces where bridges live.
pub(super) struct Watch {
    monitor: AsyncFd<Monitor>,
}

/// The daemons of Open vSwitch, while there are any.
#[derive(Default)]
pub(super) struct SwitchWatch {
    ends: Vec<AsyncFd<OwnedFd>>,
}

impl Watch {
    #[expect(unsafe_code, reason = "tokio takes raw file descriptors on the caller's word")]
    pub(super) fn new(kernel: &Kernel) -> anyhow::Result<Self> {
        let monitor = kernel.watch().context("watch interfaces")?;
        // SAFETY: the monitor owns its socket and neither replaces nor closes it.
        let monitor = unsafe { AsyncFd::register_with_interest(monitor, Interest::READABLE) };
        Ok(Self { monitor: monitor.context("watch interfaces")? })
    }

    /// Waits until interfaces are deleted, and names them.
    pub(super) async fn vanished(&mut self) -> BTreeSet<String> {
        loop {
            let Ok(mut ready) = self.monitor.readable_mut().await else {
                return std::future::pending().await;
            };
            let names = ready.get_inner_mut().deleted();
            ready.clear_ready();
            match names {
                Ok(names) if names.is_empty() => {}
                Ok(names) => return names.into_iter().map(|it| it.to_string()).collect(),
                Err(error) => log::debug!("watch interfaces: {error}"),
            }
        }
    }
}

impl SwitchWatch {
    /// Takes hold of the daemons once they run.
    #[expect(unsafe_code, reason = "tokio takes raw file descriptors on the caller's word")]
    pub(super) fn follow(&mut self, kernel: &Kernel) {
        if self.ends.is_empty() {
            let files = kernel.watch_ovs().unwrap_or_default();
            // SAFETY: each file owns its descriptor and keeps it.
            let watch = |it| unsafe { AsyncFd::register_with_interest(it, Interest::READABLE) };
            self.ends = files.into_iter().filter_map(|it| watch(it).ok()).collect();
        }
    }

    /// Waits until one of them ends.
    pub(super) async fn ended(&mut self) {
        if self.ends.is_empty() {
            return std::future::pending().await;
        }
        let (result, ..) =
            futures_util::future::select_all(self.ends.iter().map(|it| Box::pin(it.readable()))).await;
        if let Err(error) = result {
            log::debug!("watch Open vSwitch: {error}");
        }
        self.ends.clear();
    }
}

/// Sleeps until then; for ever when there is nothing to wake for.
pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Whoever signals twice does not want to wait for the end of the work.
pub(super) fn exit_on_next_signal() {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        if let Ok(mut signals) = signal(kind) {
            tokio::task::spawn_local(async move {
                signals.recv().await;
                std::process::exit(128 + kind.as_raw_value());
            });
        }
    }
}
