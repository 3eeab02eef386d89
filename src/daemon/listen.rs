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

/// How long the list of what runs waits for the engine to answer the request for events. Some versions of Podman send
/// nothing before the first of them.
const HEAD_WAIT: Duration = Duration::from_millis(250);

/// The longest wait between two tries to reach an engine that went away.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How long an engine may take to answer before that is told, and then between two such lines.
const FIRST_WORD: Duration = Duration::from_secs(5);
const NEXT_WORD: Duration = Duration::from_secs(60);

/// Tells what an engine runs, then what changes, for ever: a lost connection is made again and all is told anew.
pub(super) async fn engine(id: EngineId, engine: Rc<Engine>, sender: mpsc::UnboundedSender<Message>) {
    let mut wait = Duration::from_millis(100);
    let mut lost = false;
    loop {
        let begin = Instant::now();
        match follow(id, &engine, &sender, &mut lost).await {
            // The loop has ended, and so does all this.
            Ok(()) => return,
            Err(error) => {
                if !lost {
                    log::warn!("{id}: connection lost, trying again: {error:#}");
                    lost = true;
                }
                // One that was lost at once is lost again, though it could list what runs.
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

/// What is heard of the events of an engine.
enum Heard {
    /// It has begun to tell them.
    Begun,
    Event(ContainerEvent),
}

/// Subscribes, lists (in this order, so that no container is missed), and passes on events until they end.
async fn follow(
    id: EngineId,
    engine: &Rc<Engine>,
    sender: &mpsc::UnboundedSender<Message>,
    lost: &mut bool,
) -> anyhow::Result<()> {
    // Read from the start on: an engine keeps only the last few hundred events for who is slow to ask.
    let (heard, mut events) = mpsc::unbounded_channel();
    let _reader = Reader(tokio::task::spawn_local({
        let engine = engine.clone();
        async move {
            let mut stream = match engine.events().await {
                Ok(it) => std::pin::pin!(it),
                Err(error) => return drop(heard.send(Err(error))),
            };
            let _ = heard.send(Ok(Heard::Begun));
            while let Some(event) = stream.next().await {
                if heard.send(event.map(Heard::Event)).is_err() {
                    return;
                }
            }
        }
    }));
    if let Ok(Some(begun)) = tokio::time::timeout(HEAD_WAIT, events.recv()).await {
        begun?;
    }
    let containers = within(id, "the list of containers", engine.list()).await?;
    if std::mem::take(lost) {
        log::info!("{id}: connected again");
    }
    if sender.send(Message::Event(Event::Listed { engine: id, containers })).is_err() {
        return Ok(());
    }
    while let Some(event) = events.recv().await {
        let event = match event? {
            Heard::Event(ContainerEvent::Started(container) | ContainerEvent::Died(container)) => {
                Event::Hint { engine: id, id: container }
            }
            // What was listed may be older than the first event.
            Heard::Begun | Heard::Event(ContainerEvent::Unknown) => {
                // Until then it is not known what runs.
                if sender.send(Message::Event(Event::Lost { engine: id })).is_err() {
                    return Ok(());
                }
                let containers = within(id, "the list of containers", engine.list()).await?;
                Event::Listed { engine: id, containers }
            }
        };
        if sender.send(Message::Event(event)).is_err() {
            return Ok(());
        }
    }
    anyhow::bail!("the engine closed its event stream")
}

/// A task that ends with its handle.
struct Reader(tokio::task::JoinHandle<()>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits for an engine's answer, and warns in the log after 5 s and then each minute. `what` is asked for.
pub async fn within<T>(id: EngineId, what: &str, answer: impl Future<Output = T>) -> T {
    let mut answer = std::pin::pin!(answer);
    let begin = Instant::now();
    for patience in patience() {
        match tokio::time::timeout(patience, &mut answer).await {
            Ok(it) => return it,
            Err(_) => {
                log::warn!("{id}: no answer for {} s to the request for {what}", begin.elapsed().as_secs())
            }
        }
    }
    answer.await
}

/// How long nothing is said each time, for ever.
fn patience() -> impl Iterator<Item = Duration> {
    std::iter::once(FIRST_WORD).chain(std::iter::repeat(NEXT_WORD))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_does_not_answer_is_told_of_after_5_s_and_then_each_minute() {
        let until = |count| patience().take(count).sum::<Duration>().as_secs();
        assert_eq!([1, 2, 3, 60].map(until), [5, 65, 125, 3545]);
    }
}
