//! Sources of events: container engines, kernel notifications, Open vSwitch, the clock.

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

/// How long to wait for the start of the event stream before containers are listed. Some versions of Podman send
/// nothing before the first event.
const STREAM_WAIT: Duration = Duration::from_millis(250);

/// Longest time between two tries to reconnect to an engine.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// When the first warning about a missing answer is logged, and the time between further ones.
const FIRST_WARNING: Duration = Duration::from_secs(5);
const NEXT_WARNING: Duration = Duration::from_secs(60);

/// Sends an engine's running containers and then its events, forever. After a lost connection it reconnects and starts
/// again with the list.
pub(super) async fn engine(id: EngineId, engine: Rc<Engine>, sender: mpsc::UnboundedSender<Message>) {
    let mut wait = Duration::from_millis(100);
    let mut lost = false;
    loop {
        let begin = Instant::now();
        match follow(id, &engine, &sender, &mut lost).await {
            // The loop has ended.
            Ok(()) => return,
            Err(error) => {
                if !lost {
                    log::warn!("{id}: connection lost, trying again: {error:#}");
                    lost = true;
                }
                // A connection that was lost at once will probably be lost again, even though listing worked.
                if begin.elapsed() > LONGEST_WAIT {
                    wait = Duration::from_millis(100);
                }
                let _ = sender.send(Message::Event(Event::Lost { engine: id }));
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
}

/// An item of an engine's event stream.
enum Item {
    /// The engine has begun to answer.
    Begun,
    Event(ContainerEvent),
}

/// Subscribes to events, lists containers (in this order, so that none is missed), and passes on events until the
/// stream ends.
async fn follow(
    id: EngineId,
    engine: &Rc<Engine>,
    sender: &mpsc::UnboundedSender<Message>,
    lost: &mut bool,
) -> anyhow::Result<()> {
    // Events are read from the start, because an engine keeps only the last few hundred for slow readers.
    let (items, mut events) = mpsc::unbounded_channel();
    let _reader = Reader(tokio::task::spawn_local({
        let engine = engine.clone();
        async move {
            let mut stream = match engine.events().await {
                Ok(it) => std::pin::pin!(it),
                Err(error) => return drop(items.send(Err(error))),
            };
            let _ = items.send(Ok(Item::Begun));
            while let Some(event) = stream.next().await {
                if items.send(event.map(Item::Event)).is_err() {
                    return;
                }
            }
        }
    }));
    if let Ok(Some(begun)) = tokio::time::timeout(STREAM_WAIT, events.recv()).await {
        begun?;
    }
    let containers = within(id, "list containers", engine.list()).await?;
    if std::mem::take(lost) {
        log::info!("{id}: connected again");
    }
    if sender.send(Message::Event(Event::Listed { engine: id, containers })).is_err() {
        return Ok(());
    }
    while let Some(event) = events.recv().await {
        let event = match event? {
            Item::Event(ContainerEvent::Started(container) | ContainerEvent::Died(container)) => {
                Event::Hint { engine: id, id: container }
            }
            // The list may be older than the first event.
            Item::Begun | Item::Event(ContainerEvent::Unknown) => {
                // Until the new list arrives, the running containers are unknown.
                if sender.send(Message::Event(Event::Lost { engine: id })).is_err() {
                    return Ok(());
                }
                let containers = within(id, "list containers", engine.list()).await?;
                Event::Listed { engine: id, containers }
            }
        };
        if sender.send(Message::Event(event)).is_err() {
            return Ok(());
        }
    }
    anyhow::bail!("the engine closed its event stream")
}

/// A task that is aborted when this is dropped.
struct Reader(tokio::task::JoinHandle<()>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits for an engine's answer, and logs a warning with the `request` after 5 s and then once per minute.
pub async fn within<T>(id: EngineId, request: &str, answer: impl Future<Output = T>) -> T {
    let mut answer = std::pin::pin!(answer);
    let begin = Instant::now();
    for interval in warning_intervals() {
        match tokio::time::timeout(interval, &mut answer).await {
            Ok(it) => return it,
            Err(_) => {
                log::warn!("{id}: no answer for {} s: {request}", begin.elapsed().as_secs())
            }
        }
    }
    answer.await
}

/// The times between warnings, without end.
fn warning_intervals() -> impl Iterator<Item = Duration> {
    std::iter::once(FIRST_WARNING).chain(std::iter::repeat(NEXT_WARNING))
}

/// Kernel notifications: readable when another program has changed something.
pub(super) struct Notices {
    readable: AsyncFd<OwnedFd>,
}

/// The running Open vSwitch daemons.
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
        Ok(Self { readable: readable.context("listen for kernel notifications")? })
    }

    /// Waits for the next notification.
    pub(super) async fn next(notices: &mut Option<Self>) {
        let Some(it) = notices else { return std::future::pending().await };
        match it.readable.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            Err(error) => {
                log::error!("listen for kernel notifications: {error}");
                std::future::pending().await
            }
        }
    }
}

impl SwitchWatch {
    /// Watches these daemons, given by pidfds.
    #[expect(unsafe_code, reason = "tokio takes raw file descriptors on the caller's word")]
    pub(super) fn follow(&mut self, files: Vec<OwnedFd>) {
        // SAFETY: each file owns its descriptor and keeps it.
        let watch = |it| unsafe { AsyncFd::register_with_interest(it, Interest::READABLE) };
        self.ends = files.into_iter().filter_map(|it| watch(it).ok()).collect();
    }

    /// Waits until one of the daemons ends.
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

/// Sleeps until then; None: forever.
pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_answer_is_logged_after_5_s_and_then_once_per_minute() {
        let until = |count| warning_intervals().take(count).sum::<Duration>().as_secs();
        assert_eq!([1, 2, 3, 60].map(until), [5, 65, 125, 3545]);
    }
}
