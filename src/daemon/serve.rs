//! The unix socket for requests: one line of JSON in, lines of JSON out, then the connection is closed.
//!
//! Each client has a task of its own, so a slow or dead client delays nobody else: the loop gets a request when it is
//! complete, and hands the answer to a task.

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

/// Most connections without a complete request; one more closes the oldest. As many again may be waiting for an answer.
const CLIENTS: usize = 64;

/// Most watching clients. They stay connected, so they may not use all places for answers.
const WATCHERS: usize = 48;

/// Most file descriptors in one request.
const DESCRIPTORS: usize = 16;

/// How long a client may take to send its request, and to receive each line of the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server on a unix socket. It stops when it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    task: JoinHandle<()>,
    /// The socket file; removed when the server is dropped.
    _name: Name,
}

/// A request with the connection that waits for its answer.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) request: Request,
    /// The file descriptors sent with it.
    #[cfg_attr(not(test), expect(dead_code, reason = "no request takes files yet"))]
    pub(super) files: Vec<OwnedFd>,
    pub(super) connection: Connection,
}

/// A client that waits for an answer. The connection closes when this is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    watchers: Arc<Semaphore>,
    _permit: OwnedSemaphorePermit,
}

impl Server {
    /// Creates the socket (mode 0600) and its folder, and sends requests to `sender`. An existing socket that no
    /// process listens on is replaced. Must be called within a `LocalSet`.
    ///
    /// # Errors
    /// The path is not a socket, another process listens on it, or a system call failed.
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
                // For example too many open files: others will be closed.
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
        silent.push_back(tokio::task::spawn_local(read_request(stream, sender, answered, watchers)));
    }
}

/// Reads a request and sends it to the loop.
async fn read_request(
    stream: UnixStream,
    sender: mpsc::UnboundedSender<Message>,
    answered: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
) {
    let mut files = Vec::new();
    let line = match timeout(PATIENCE, read_line(&stream, &mut files)).await {
        Ok(Ok(Some(line))) => Ok(line),
        // The client closed the connection without a request.
        Ok(Ok(None)) => return,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no request came within {} s", PATIENCE.as_secs())),
    };
    let Ok(permit) = answered.try_acquire_owned() else {
        let _ = stream.try_write(&frame(&refusal("too many requests at the same time")));
        return;
    };
    let connection = Connection { stream, watchers, _permit: permit };
    match line.and_then(|it| Request::read(&it)) {
        Ok(request) => drop(sender.send(Message::Request(Incoming { request, files, connection }))),
        Err(message) => connection.refuse(&message),
    }
}

/// Reads one line, ended by a newline or by the end of the stream. None if the stream ends before any byte.
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
            // Moves the whole connection, so that its permit is released only after the answer.
            let connection = self;
            if let Err(error) = write(&connection.stream, &line).await {
                log::debug!("answer a request: {error}");
            }
        });
    }

    /// Is the client still connected?
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.stream.try_read(&mut [0; 64]), Ok(0))
    }

    /// Sends a short line ahead of the answer. It does not block: the send buffer of a new connection is empty.
    pub(super) fn announce(&self, line: &impl Serialize) {
        if let Err(error) = self.stream.try_write(&frame(line)) {
            log::debug!("answer a request: {error}");
        }
    }

    /// Answers with one line, which may be an error.
    pub(super) fn answer(self, answer: anyhow::Result<impl Serialize>) {
        match answer {
            Ok(it) => self.reply(&it),
            Err(error) => self.refuse(&format!("{error:#}")),
        }
    }

    /// Answers with one line, and a file descriptor with its first byte.
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

    /// Answers with the current value and each new one, until the client disconnects. A slow client misses values that
    /// are replaced in the meantime.
    pub(super) fn follow<T: Serialize + 'static>(self, mut values: watch::Receiver<Rc<T>>) {
        let Ok(share) = self.watchers.clone().try_acquire_owned() else {
            return self.refuse(&format!("too many watching clients: the limit is {WATCHERS}"));
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

/// Waits until the client has closed the connection. A client that has only shut down its sending side still listens,
/// and its end causes no event, so the connection is checked now and then.
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
