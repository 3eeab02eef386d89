//! Conditions that need attempts: connections, answers, names, commands. An attempt never blocks: poll drives it.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, UnixAddr, connect, getsockopt, socket, sockopt,
};

use crate::process::{Child, ChildOutput, ChildSignal, status_text};
use crate::tools::exec::find;
use crate::tools::wait::condition::Condition;
use crate::tools::wait::host::Host;
use crate::tools::wait::http::{self, Answer, Url};
use crate::tools::wait::lookup::{self, Lookup};
use crate::tools::wait::pause::Pauses;
use crate::tools::wait::shell::plain_words;

/// The time between SIGTERM and SIGKILL for a command that takes too long.
const GRACE: Duration = Duration::from_millis(500);

/// The time that a new connection must last if others may have connected at the same moment. A server that accepts a single
/// connection resets the others when it stops listening, just after it has accepted one.
const SETTLED: Duration = Duration::from_millis(50);

/// A server that has reset this many connections at once does so with every connection.
const MOST_RESETS: u32 = 3;

/// The most addresses of a name that are tried at once.
const MOST_ADDRS: usize = 16;

/// The attempts for one condition.
#[derive(Debug)]
pub(super) struct Tries<'a> {
    condition: &'a Condition,
    limit: Duration,
    pauses: Pauses,
    /// Others may try at the same moment, because an event that they waited for has just happened.
    is_crowded: bool,
    /// The number of connections that were reset at once.
    resets: u32,
    stdout: ChildOutput,
    /// Outlives the attempt that started it: a second lookup would not be faster.
    lookup: Option<Lookup>,
    stage: Stage,
    /// When the pause or the attempt ends.
    until: Instant,
}

#[derive(Debug)]
enum Stage {
    Pause,
    Lookup,
    /// To all addresses at once. `failed` is the last error.
    Connect {
        sockets: Vec<(SocketAddr, OwnedFd)>,
        failed: String,
    },
    /// Connected, until it is clear whether the connection lasts.
    Settle {
        stream: TcpStream,
    },
    Send {
        stream: TcpStream,
        request: Vec<u8>,
    },
    Receive {
        stream: TcpStream,
        answer: Vec<u8>,
    },
    /// `told` is when SIGTERM was sent.
    Run {
        child: Child,
        told: bool,
    },
}

/// The state of an attempt.
#[derive(Debug)]
pub(super) enum Progress {
    Pending,
    Held,
    Failed(String),
}

/// The result of a stage: the attempt continues, or it has ended.
type Next = Result<Stage, Progress>;

impl<'a> Tries<'a> {
    pub(super) fn new(
        condition: &'a Condition,
        limit: Duration,
        interval: Option<Duration>,
        stdout: ChildOutput,
        is_crowded: bool,
        now: Instant,
    ) -> Self {
        Self {
            condition,
            limit,
            pauses: Pauses::new(interval),
            is_crowded,
            resets: 0,
            stdout,
            lookup: None,
            stage: Stage::Pause,
            until: now,
        }
    }

    /// The next time at which something changes by itself.
    pub(super) fn due(&self) -> Instant {
        self.until
    }

    /// Tries now and again soon, because something changed. A socket exists in the file system before it accepts.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.pauses.restart();
        if matches!(self.stage, Stage::Pause) {
            self.until = now;
        }
    }

    /// The descriptors to poll.
    pub(super) fn files(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        match &self.stage {
            Stage::Pause | Stage::Run { .. } => Vec::new(),
            Stage::Lookup => self.lookup.iter().map(|it| (it.as_fd(), PollFlags::POLLIN)).collect(),
            Stage::Connect { sockets, .. } => {
                sockets.iter().map(|(_, it)| (it.as_fd(), PollFlags::POLLOUT)).collect()
            }
            Stage::Settle { stream } => vec![(stream.as_fd(), PollFlags::POLLIN)],
            Stage::Send { stream, .. } => vec![(stream.as_fd(), PollFlags::POLLOUT)],
            Stage::Receive { stream, .. } => vec![(stream.as_fd(), PollFlags::POLLIN)],
        }
    }

    /// The running process.
    pub(super) fn child(&self) -> Option<u32> {
        match &self.stage {
            Stage::Run { child, .. } => Some(child.id()),
            _ => None,
        }
    }

    /// Ends the running command.
    pub(super) fn stop(&mut self) {
        if let Stage::Run { child, .. } = std::mem::replace(&mut self.stage, Stage::Pause) {
            child.kill();
        }
    }

    /// Proceeds as far as possible without waiting. Returns the outcome of one attempt.
    pub(super) fn advance(&mut self, now: Instant) -> Progress {
        let progress = self.go_on(now);
        match progress {
            Progress::Pending => {}
            Progress::Held => self.until = now + self.pauses.steady(),
            Progress::Failed(_) => {
                self.until = now + self.pauses.next();
                self.is_crowded = true;
            }
        }
        progress
    }

    fn go_on(&mut self, now: Instant) -> Progress {
        let mut stage = std::mem::replace(&mut self.stage, Stage::Pause);
        if matches!(stage, Stage::Pause) {
            if now < self.until {
                return Progress::Pending;
            }
            self.until = now + self.limit;
            stage = match self.start() {
                Ok(it) => it,
                Err(progress) => return progress,
            };
        }
        loop {
            let before = std::mem::discriminant(&stage);
            stage = match self.step(stage) {
                Ok(it) => it,
                Err(progress) => return progress,
            };
            if std::mem::discriminant(&stage) == before {
                break;
            }
        }
        if now < self.until {
            self.stage = stage;
            return Progress::Pending;
        }
        let limit = self.limit.as_secs_f64();
        match stage {
            Stage::Run { child, told } => {
                child.signal(if told { ChildSignal::Kill } else { ChildSignal::Terminate });
                self.until = now + GRACE;
                self.stage = Stage::Run { child, told: true };
                Progress::Pending
            }
            Stage::Lookup => Progress::Failed(format!("the lookup takes longer than {limit} s")),
            Stage::Connect { failed, .. } if !failed.is_empty() => Progress::Failed(failed),
            Stage::Connect { .. } => Progress::Failed(format!("no answer within {limit} s")),
            Stage::Send { .. } | Stage::Receive { .. } => {
                Progress::Failed(format!("connected, but no HTTP answer within {limit} s"))
            }
            Stage::Settle { .. } => Progress::Held,
            Stage::Pause => Progress::Pending,
        }
    }

    fn start(&mut self) -> Next {
        match self.condition {
            Condition::Tcp(host) | Condition::Http(Url { host, .. }) => match host.name.parse::<IpAddr>() {
                Ok(addr) => connect_all(&[addr], host),
                Err(_) => self.look_up(&host.name),
            },
            Condition::Dns(name, _) => self.look_up(name),
            Condition::Unix(path) => Err(unix(path)),
            Condition::Command(text) => self.run(text),
            Condition::Net(_) | Condition::File(..) => Err(Progress::Pending),
        }
    }

    fn look_up(&mut self, name: &str) -> Next {
        if self.lookup.is_none() {
            self.lookup = Some(Lookup::start(name).map_err(|it| Progress::Failed(it.to_string()))?);
        }
        Ok(Stage::Lookup)
    }

    fn run(&self, text: &OsString) -> Next {
        let shell = |text: &OsString| Child::start("sh".as_ref(), &["-c".into(), text.clone()], self.stdout);
        let started = match shell(text) {
            Err(error) if error.kind() == ErrorKind::NotFound && find("sh".as_ref()).is_none() => {
                // An empty image has no shell, but plain words need none.
                match plain_words(text) {
                    Some(words) if !words.is_empty() => Child::start(&words[0], &words[1..], self.stdout),
                    _ => Err(io::Error::other("the command needs a shell, and `sh` is not found")),
                }
            }
            started => started,
        };
        match started {
            Ok(child) => Ok(Stage::Run { child, told: false }),
            Err(error) => Err(Progress::Failed(error.to_string())),
        }
    }

    /// Proceeds to the next stage, or stays in this one if it is not finished.
    fn step(&mut self, stage: Stage) -> Next {
        match stage {
            Stage::Pause => Ok(Stage::Pause),
            Stage::Lookup => self.looked_up(),
            Stage::Connect { sockets, failed } => self.connected(sockets, failed),
            Stage::Settle { stream } => self.settled(stream),
            Stage::Send { stream, request } => send(stream, request),
            Stage::Receive { stream, answer } => self.receive(stream, answer),
            Stage::Run { mut child, told } => match child.ended() {
                Ok(None) => Ok(Stage::Run { child, told }),
                Ok(Some(_)) if told => Err(Progress::Failed(format!(
                    "the command takes longer than {} s",
                    self.limit.as_secs_f64()
                ))),
                Ok(Some(status)) if status.success() => Err(Progress::Held),
                Ok(Some(status)) => Err(Progress::Failed(status_text(status))),
                Err(error) => Err(Progress::Failed(error.to_string())),
            },
        }
    }

    fn looked_up(&mut self) -> Next {
        let Some(answer) = self.lookup.as_ref().map_or(Some(Ok(Vec::new())), Lookup::answer) else {
            return Ok(Stage::Lookup);
        };
        self.lookup = None;
        let addrs = answer.map_err(|it| Progress::Failed(lookup::reason(&it)))?;
        match self.condition {
            Condition::Tcp(host) | Condition::Http(Url { host, .. }) => connect_all(&addrs, host),
            Condition::Dns(_, Some(wanted)) if !addrs.contains(wanted) => {
                let addrs: Vec<String> = addrs.iter().map(IpAddr::to_string).collect();
                Err(Progress::Failed(format!("the name resolves to {}", addrs.join(" "))))
            }
            _ if addrs.is_empty() => Err(Progress::Failed("the name has no address".to_owned())),
            _ => Err(Progress::Held),
        }
    }

    fn connected(&mut self, sockets: Vec<(SocketAddr, OwnedFd)>, mut failed: String) -> Next {
        let mut pending = Vec::new();
        for (addr, socket) in sockets {
            let error = getsockopt(&socket, sockopt::SocketError).unwrap_or(libc::EIO);
            if error != 0 {
                failed = format!("{addr}: {}", reason(error));
                continue;
            }
            let stream = TcpStream::from(socket);
            match (stream.peer_addr(), stream.local_addr()) {
                // Nothing listens, and the kernel chose this very port as the source port.
                (Ok(peer), Ok(local)) if peer == local => {
                    failed = format!("{addr}: {}", reason(libc::ECONNREFUSED))
                }
                (Ok(_), _) => {
                    return match self.condition {
                        Condition::Http(url) => {
                            Ok(Stage::Send { stream, request: url.request().into_bytes() })
                        }
                        _ if self.is_crowded => {
                            self.until = Instant::now() + SETTLED;
                            Ok(Stage::Settle { stream })
                        }
                        _ => Err(Progress::Held),
                    };
                }
                (Err(_), _) => pending.push((addr, stream.into())),
            }
        }
        if pending.is_empty() {
            Err(Progress::Failed(failed))
        } else {
            Ok(Stage::Connect { sockets: pending, failed })
        }
    }

    /// Is the connection reset? Data, or its regular end, shows that the server accepted it.
    fn settled(&mut self, stream: TcpStream) -> Next {
        match stream.peek(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Stage::Settle { stream }),
            Err(error) if error.kind() == ErrorKind::ConnectionReset && self.resets + 1 < MOST_RESETS => {
                self.resets += 1;
                Err(Progress::Failed("connected, and the connection was reset at once".to_owned()))
            }
            _ => Err(Progress::Held),
        }
    }

    fn receive(&self, mut stream: TcpStream, mut answer: Vec<u8>) -> Next {
        let mut buffer = [0; 2048];
        loop {
            let ended = match stream.read(&mut buffer) {
                Ok(0) => true,
                Ok(length) => {
                    answer.extend(buffer.get(..length).unwrap_or_default());
                    false
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Stage::Receive { stream, answer });
                }
                Err(error) => return Err(Progress::Failed(error.to_string())),
            };
            let wanted = match self.condition {
                Condition::Http(url) => url.status.clone(),
                _ => 200..=299,
            };
            match http::read(&answer) {
                Answer::Status(status) if wanted.contains(&status) => return Err(Progress::Held),
                Answer::Status(status) => {
                    return Err(Progress::Failed(format!("the answer has status {status}")));
                }
                Answer::Strange => return Err(Progress::Failed("the answer is not HTTP".to_owned())),
                Answer::TooLong => {
                    let most = http::MOST >> 10;
                    let why = format!("the first {most} KiB of the answer have no final status");
                    return Err(Progress::Failed(why));
                }
                Answer::Partial if ended => {
                    return Err(Progress::Failed("the connection was closed without an answer".to_owned()));
                }
                Answer::Partial => {}
            }
        }
    }
}

/// Starts connections to all addresses at once, so that none waits for another.
fn connect_all(addrs: &[IpAddr], host: &Host) -> Next {
    let (mut sockets, mut failed) = (Vec::new(), "the name has no address".to_owned());
    for addr in addrs.iter().take(MOST_ADDRS) {
        let addr = SocketAddr::new(*addr, host.port);
        match start_connect(addr) {
            Ok(socket) => sockets.push((addr, socket)),
            Err(error) => failed = format!("{addr}: {}", reason(error as i32)),
        }
    }
    if sockets.is_empty() {
        return Err(Progress::Failed(failed));
    }
    Ok(Stage::Connect { sockets, failed: String::new() })
}

fn start_connect(addr: SocketAddr) -> nix::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(addr)) {
        Ok(()) | Err(nix::Error::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// One attempt to connect to a unix socket, which the kernel decides at once.
fn unix(path: &Path) -> Progress {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let connected = UnixAddr::new(path).and_then(|addr| {
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        connect(socket.as_raw_fd(), &addr)
    });
    match connected {
        Ok(()) => Progress::Held,
        Err(nix::Error::EAGAIN) => Progress::Failed("the connection queue is full".to_owned()),
        Err(nix::Error::EPROTOTYPE) => Progress::Failed("not a stream socket".to_owned()),
        Err(error) => Progress::Failed(reason(error as i32)),
    }
}

fn send(mut stream: TcpStream, mut request: Vec<u8>) -> Next {
    loop {
        match stream.write(&request) {
            Ok(length) if length >= request.len() => {
                return Ok(Stage::Receive { stream, answer: Vec::new() });
            }
            Ok(length) => drop(request.drain(..length)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok(Stage::Send { stream, request });
            }
            Err(error) => return Err(Progress::Failed(error.to_string())),
        }
    }
}

/// The text of an error number, such as `connection refused`.
fn reason(errno: i32) -> String {
    nix::Error::from_raw(errno).desc().to_lowercase()
}
