//! The client of a running engine or lab, over its unix socket.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;

use crate::api::{Frames, Request, frame, read_answer};
use crate::process::{connect, rights};

/// How long an answer may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer in bytes: some ten thousand links.
const LONGEST: usize = 64 << 20;

/// The directory of the sockets of engines, and of labs of root.
pub(super) const RUN: &str = "/run/conlink";

/// The socket of a project's engine.
pub(super) fn engine_socket(project: &str) -> PathBuf {
    Path::new(RUN).join(format!("{}.sock", file_name(project)))
}

/// A project's name as a file name. It is empty for an engine that serves every project.
pub(super) fn file_name(project: &str) -> String {
    if project.is_empty() { "conlink".to_owned() } else { in_file_name(project) }
}

/// A project's name as part of a file name: at most 200 bytes of the 255 that file systems allow.
pub(super) fn in_file_name(project: &str) -> String {
    /// Bytes kept of a longer name, in front of its hash.
    const KEPT: usize = 183;
    let name = project.replace('/', "_");
    if name.len() <= 200 {
        return name;
    }
    // FNV-1a, 64 bits.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let kept = (0..=KEPT).rev().find_map(|it| name.get(..it)).unwrap_or_default();
    format!("{kept}-{hash:016x}")
}

/// What listens on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Engine,
    Lab,
}

/// An engine or a lab. It may have ended since its socket was found.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) kind: Kind,
    /// The name of the compose project, with `/` replaced, or of the lab.
    pub(super) name: String,
    pub(super) socket: PathBuf,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Engine => write!(f, "engine `{}`", self.name),
            Kind::Lab => write!(f, "lab `{}`", self.name),
        }
    }
}

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    frames: Frames,
}

impl Client {
    /// Connects and sends a request.
    pub(super) fn ask(server: &Server, request: &Request) -> anyhow::Result<Self> {
        let mut stream = match connect(&server.socket, PATIENCE) {
            Ok(it) => it,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                bail!("{server} is not running: nothing listens on {}", server.socket.display());
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                bail!(
                    "permission denied: only the owner of {server} may connect to {}",
                    server.socket.display()
                );
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("connect to {server} at {}", server.socket.display()));
            }
        };
        stream.set_write_timeout(Some(PATIENCE))?;
        let said = stream.write_all(&frame(request));
        said.with_context(|| format!("send a request to {server} at {}", server.socket.display()))?;
        Ok(Self { stream, frames: Frames::new(LONGEST) })
    }

    /// The next line of the answer; None at its end. Without a limit, waits forever.
    ///
    /// # Errors
    /// The request was refused, no line arrived in time, or the line is not of this type.
    pub(super) fn next<T: DeserializeOwned>(&mut self, limit: Option<Duration>) -> anyhow::Result<Option<T>> {
        let end = limit.map(|it| Instant::now() + it);
        match self.line(end)? {
            Some(line) => Ok(Some(read_answer(&line)?)),
            None => Ok(None),
        }
    }

    /// The next line, and the file descriptor sent with its first byte.
    ///
    /// # Errors
    /// Those of [`Client::next`], or the answer has ended.
    pub(super) fn next_with_file<T: DeserializeOwned>(
        &mut self,
        limit: Duration,
    ) -> anyhow::Result<(T, Option<OwnedFd>)> {
        self.stream.set_read_timeout(Some(limit))?;
        let mut first = [0; 1];
        let (count, files) = match rights::receive(&self.stream, &mut first, true) {
            Ok(it) => it,
            Err(error) => return Err(unread(error)),
        };
        self.frames.push(first.get(..count).unwrap_or_default());
        let answer = self.next(Some(limit))?.context("the answer is incomplete")?;
        Ok((answer, files.into_iter().next()))
    }

    fn line(&mut self, end: Option<Instant>) -> anyhow::Result<Option<Vec<u8>>> {
        let mut part = vec![0; 64 * 1024];
        loop {
            if let Some(line) = self.frames.next_line().context("read the answer")? {
                return Ok(Some(line));
            }
            self.stream.set_read_timeout(end.map(left))?;
            match self.stream.read(&mut part) {
                Ok(0) if self.frames.is_empty() => return Ok(None),
                Ok(0) => bail!("the answer is incomplete"),
                Ok(count) => self.frames.push(part.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unread(error)),
            }
        }
    }
}

/// The time limit for a line has passed. The client can go on reading.
#[derive(Debug, thiserror::Error)]
#[error("no answer in time")]
pub(super) struct TimedOut;

/// Why nothing can be read.
fn unread(error: io::Error) -> anyhow::Error {
    match error.kind() {
        // What a read answers whose time is over.
        io::ErrorKind::WouldBlock => TimedOut.into(),
        _ => anyhow::Error::new(error).context("read the answer"),
    }
}

/// The answer to one request.
pub(super) fn ask<T: DeserializeOwned>(server: &Server, request: &Request) -> anyhow::Result<T> {
    match Client::ask(server, request)?.next(Some(PATIENCE)) {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => bail!("{server} closed the connection"),
        Err(error) => Err(error.context(format!("ask {server}"))),
    }
}

/// The time left until then. At least a millisecond, because a socket takes no timeout of 0.
fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}
