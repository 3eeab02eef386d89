//! Where events come from: engines, the kernel's notices, signals, the clock.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::StreamExt;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use crate::daemon::Message;
use crate::docker::{ContainerEvent, Engine};
use crate::kernel::Kernel;
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

/// The kernel's notices: readable when others changed something.
pub(super) struct Notices {
    readable: AsyncFd<OwnedFd>,
}

/// The daemons of Open vSwitch, while there are any.
#[derive(Default)]
pub(super) struct SwitchWatch {
    ends: Vec<AsyncFd<OwnedFd>>,
}

impl Notices {
    #[expect(unsafe_code, reason = "tokio takes raw file descriptors on the caller's word")]
    pub(super) fn new(kernel: &mut Kernel) -> anyhow::Result<Self> {
        let readable = kernel.listen()?;
        // SAFETY: it owns its descriptor and keeps it.
        let readable = unsafe { AsyncFd::register_with_interest(readable, Interest::READABLE) };
        Ok(Self { readable: readable.context("listen to the kernel's notices")? })
    }

    /// Waits for the next one.
    pub(super) async fn next(notices: &mut Option<Self>) {
        let Some(it) = notices else { return std::future::pending().await };
        match it.readable.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            Err(error) => {
                log::error!("listen to the kernel's notices: {error}");
                std::future::pending().await
            }
        }
    }
}

impl SwitchWatch {
    /// Takes hold of the daemons once they run.
    #[expect(unsafe_code, reason = "tokio takes raw file descriptors on the caller's word")]
    pub(super) fn follow(&mut self, files: Vec<OwnedFd>) {
        // SAFETY: each file owns its descriptor and keeps it.
        let watch = |it| unsafe { AsyncFd::register_with_interest(it, Interest::READABLE) };
        self.ends = files.into_iter().filter_map(|it| watch(it).ok()).collect();
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
