//! The unix socket that requests come by: a line of JSON in, lines of JSON out, then the connection is closed.
//!
//! A client that is slow, silent or dead costs its own task and nobody else's time: the loop hears of a request when all
//! of it is there, and answers by handing text to a task.

mod socket;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::api::{Frames, Refusal, Request, frame};
use crate::daemon::Message;
use crate::process::rights;

use socket::Name;

/// The longest request in bytes.
const LONGEST: usize = 1 << 20;

/// Connections that have asked for nothing yet: one more, and the oldest is closed. As many again may be answered.
const CLIENTS: usize = 64;

/// Of those that are answered, how many may watch: they stay, and others are to be answered too.
const WATCHERS: usize = 48;

/// File descriptors that come with a request.
const DESCRIPTORS: usize = 16;

/// How long a client may take to send its request, and to take each line of the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers at a path for as long as it is kept.
#[derive(Debug)]
pub(super) struct Server {
    task: JoinHandle<()>,
    /// Given up when the server is.
    _name: Name,
}

/// A client that asks for something.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) request: Request,
    /// What was sent along.
    #[cfg_attr(not(test), expect(dead_code, reason = "no request takes files yet"))]
    pub(super) files: Vec<OwnedFd>,
    pub(super) connection: Connection,
}

/// A client that waits for an answer. Dropped, it is closed.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    watchers: Arc<Semaphore>,
    _permit: OwnedSemaphorePermit,
}

impl Server {
    /// Makes the socket, for its owner alone, and its folder; one that nobody listens on is replaced. Requests go to
    /// `sender`. Must be called within a `LocalSet`.
    ///
    /// # Errors
    /// Something else is there, or another process listens on it; what the system has to say.
    pub(super) async fn start(path: &Path, sender: mpsc::UnboundedSender<Message>) -> io::Result<Self> {
        let (listener, name) = socket::listen(path).await?;
        Ok(Self { task: tokio::task::spawn_local(accept(listener, sender)), _name: name })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: UnixListener, sender: mpsc::UnboundedSender<Message>) {
    let answered = Arc::new(Semaphore::new(CLIENTS));
    let watchers = Arc::new(Semaphore::new(WATCHERS));
    let mut silent: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files, say: those that there are will be closed.
                log::debug!("accept a connection: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        silent.retain(|it| !it.is_finished());
        if silent.len() >= CLIENTS
            && let Some(oldest) = silent.pop_front()
        {
            oldest.abort();
        }
        let (sender, answered, watchers) = (sender.clone(), answered.clone(), watchers.clone());
        silent.push_back(tokio::task::spawn_local(hear(stream, sender, answered, watchers)));
    }
}

/// Waits for a request and hands it over.
async fn hear(
    stream: UnixStream,
    sender: mpsc::UnboundedSender<Message>,
    answered: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
) {
    let mut files = Vec::new();
    let line = match timeout(PATIENCE, read_line(&stream, &mut files)).await {
        Ok(Ok(Some(line))) => Ok(line),
        // It came and went.
        Ok(Ok(None)) => return,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no request came within {} s", PATIENCE.as_secs())),
    };
    let Ok(permit) = answered.try_acquire_owned() else {
        let _ = stream.try_write(&frame(&refusal("too many requests are being answered")));
        return;
    };
    let connection = Connection { stream, watchers, _permit: permit };
    match line.and_then(|it| Request::read(&it)) {
        Ok(request) => drop(sender.send(Message::Request(Asking { request, files, connection }))),
        Err(message) => connection.refuse(&message),
    }
}

/// Reads up to the end of a line, or of all; None when there is nothing before that.
async fn read_line(stream: &UnixStream, files: &mut Vec<OwnedFd>) -> io::Result<Option<Vec<u8>>> {
    let mut frames = Frames::new(LONGEST);
    let mut part = [0; 4096];
    loop {
        stream.readable().await?;
        let (count, more) =
            match stream.try_io(Interest::READABLE, || rights::receive(stream, &mut part, false)) {
                Ok((0, _)) => return Ok(Some(frames.rest()).filter(|it| !it.is_empty())),
                Ok(it) => it,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
        files.extend(more);
        if files.len() > DESCRIPTORS {
            return Err(io::Error::other(format!("a request comes with at most {DESCRIPTORS} files")));
        }
        frames.push(part.get(..count).unwrap_or_default());
        if let Some(line) = frames.next_line().map_err(|it| io::Error::other(format!("a request: {it}")))? {
            return Ok(Some(line));
        }
    }
}

impl Connection {
    /// One whose client has gone.
    #[cfg(test)]
    pub(super) fn to_nobody() -> Self {
        let one = || Arc::new(Semaphore::new(1));
        let permit = one().try_acquire_owned().unwrap();
        Self { stream: UnixStream::pair().unwrap().0, watchers: one(), _permit: permit }
    }

    /// Answers with one line.
    pub(super) fn reply(self, answer: &impl Serialize) {
        let line = frame(answer);
        tokio::task::spawn_local(async move {
            // The whole of it: the permit too is to be given back only then.
            let connection = self;
            if let Err(error) = write(&connection.stream, &line).await {
                log::debug!("answer a request: {error}");
            }
        });
    }

    /// Is there still somebody to be answered?
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.stream.try_read(&mut [0; 64]), Ok(0))
    }

    /// Sends a short line ahead of the answer: nothing waits on a new connection.
    pub(super) fn announce(&self, line: &impl Serialize) {
        if let Err(error) = self.stream.try_write(&frame(line)) {
            log::debug!("answer a request: {error}");
        }
    }

    /// Answers with one line, be it an error.
    pub(super) fn answer(self, answer: anyhow::Result<impl Serialize>) {
        match answer {
            Ok(it) => self.reply(&it),
            Err(error) => self.refuse(&format!("{error:#}")),
        }
    }

    /// Answers with one line, and a file that comes with its first byte.
    pub(super) fn reply_with_file(self, answer: &impl Serialize, file: OwnedFd) {
        let line = frame(answer);
        tokio::task::spawn_local(async move {
            let connection = self;
            let stream = &connection.stream;
            let first = [IoSlice::new(line.get(..1).unwrap_or_default())];
            let send = || rights::send(stream, &first, &[file.as_fd()], false);
            let sent = async {
                loop {
                    stream.writable().await?;
                    match stream.try_io(Interest::WRITABLE, send) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        result => return result,
                    }
                }
            };
            let result = match timeout(PATIENCE, sent).await {
                Ok(Ok(count)) => write(stream, line.get(count..).unwrap_or_default()).await,
                Ok(Err(error)) => Err(error),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            if let Err(error) = result {
                log::debug!("answer a request: {error}");
            }
        });
    }

    /// Answers with an error.
    pub(super) fn refuse(self, message: &str) {
        self.reply(&refusal(message));
    }

    /// Answers with the value that there is, and with each one that replaces it, until the client goes. Who reads
    /// slowly misses those that were replaced meanwhile.
    pub(super) fn follow<T: Serialize + 'static>(self, mut values: watch::Receiver<Rc<T>>) {
        let Ok(share) = self.watchers.clone().try_acquire_owned() else {
            return self.refuse(&format!("{WATCHERS} clients are watching already"));
        };
        tokio::task::spawn_local(async move {
            let (connection, _share) = (self, share);
            loop {
                let line = frame(&**values.borrow_and_update());
                if write(&connection.stream, &line).await.is_err() {
                    return;
                }
                tokio::select! {
                    changed = values.changed() => if changed.is_err() { return },
                    () = gone(&connection.stream) => return,
                }
            }
        });
    }
}

fn refusal(message: &str) -> Refusal {
    Refusal { error: message.to_owned() }
}

async fn write(stream: &UnixStream, line: &[u8]) -> io::Result<()> {
    let all = async {
        let mut rest = line;
        while !rest.is_empty() {
            stream.writable().await?;
            match stream.try_write(rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    timeout(PATIENCE, all).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Waits until the client has closed the connection. One that has only nothing more to say still listens: of that one
/// there is no notice, so it is looked after now and then.
async fn gone(stream: &UnixStream) {
    let mut part = [0; 4096];
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut part) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
    while let Ok(ready) = stream.ready(Interest::WRITABLE).await {
        if ready.is_write_closed() {
            return;
        }
        sleep(Duration::from_secs(1)).await;
    }
}
