//! Conditions that need attempts: connections, answers, names, commands.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, connect as connect_socket,
    socket,
};

use crate::process::{Child, ChildOutput, ChildSignal, status_text};
use crate::tools::exec::find;
use crate::tools::wait::check::{Parsed, tries};
use crate::tools::wait::host::{Host, host_name};
use crate::tools::wait::http::{self, Answer, Url};
use crate::tools::wait::lookup::{self, Lookup};
use crate::tools::wait::shell::plain_words;
use crate::tools::wait::tries::Io;

/// The time between SIGTERM and SIGKILL for a command that takes too long.
const GRACE: Duration = Duration::from_millis(500);

/// The time that a new connection must last if others may have connected at the same moment. A server that accepts a single
/// connection resets the others when it stops listening, just after it has accepted one.
const SETTLED: Duration = Duration::from_millis(50);

/// A server that has reset this many connections at once does so with every connection.
const MOST_RESETS: u32 = 3;

/// The most addresses of a name that are tried at once.
const MOST_ADDRS: usize = 16;

const NO_ADDRESS: &str = "the name has no address";

/// A connection is accepted.
pub(super) fn tcp(text: &str) -> Parsed {
    let host = Host::parse(text)?;
    tries(vec![text.to_owned()], None, async move |io: Rc<Io>| {
        let stream = connect(&io, &host).await?;
        if io.is_crowded.get() { settle(&io, stream).await } else { Ok(()) }
    })
}

/// A connection is accepted by a socket in the file system, which the kernel decides at once.
pub(super) fn unix(text: &OsStr) -> Parsed {
    let path = PathBuf::from(text);
    if UnixAddr::new(&path).is_err() {
        return Err(format!("a socket path has at most 107 bytes, this has {}", text.len()));
    }
    tries(vec![path.display().to_string()], Some(path.clone()), async move |_| {
        match UnixAddr::new(&path).and_then(|addr| start_connect(AddressFamily::Unix, &addr)) {
            Ok(_) => Ok(()),
            Err(nix::Error::EAGAIN) => Err("the connection queue is full".to_owned()),
            Err(nix::Error::EPROTOTYPE) => Err("not a stream socket".to_owned()),
            Err(error) => Err(reason(error as i32)),
        }
    })
}

/// A GET request is answered with an accepted status.
pub(super) fn http(text: &str) -> Parsed {
    let url = Url::parse(text)?;
    tries(vec![text.to_owned()], None, async move |io: Rc<Io>| {
        let stream = connect(&io, &url.host).await?;
        let status = ask(&io, stream, url.request().as_bytes()).await?;
        if url.status.contains(&status) { Ok(()) } else { Err(format!("the answer has status {status}")) }
    })
}

/// A name resolves, to this address if one is given.
pub(super) fn dns(text: &str) -> Parsed {
    let (name, wanted) = match text.split_once('=') {
        Some((name, addr)) => {
            (name, Some(addr.parse::<IpAddr>().map_err(|_| format!("`{addr}` is not an IP address"))?))
        }
        None => (text, None),
    };
    let name = host_name(name)?;
    let parts = [name.clone()].into_iter().chain(wanted.map(|it| it.to_string())).collect();
    tries(parts, None, async move |io: Rc<Io>| {
        let addrs = look_up(&io, &name).await?;
        match wanted {
            _ if addrs.is_empty() => Err(NO_ADDRESS.to_owned()),
            Some(wanted) if !addrs.contains(&wanted) => {
                let addrs: Vec<String> = addrs.iter().map(IpAddr::to_string).collect();
                Err(format!("the name resolves to {}", addrs.join(" ")))
            }
            _ => Ok(()),
        }
    })
}

/// `sh -c` succeeds.
pub(super) fn command(text: &OsStr) -> Parsed {
    let text = text.to_owned();
    tries(vec![text.display().to_string()], None, async move |io: Rc<Io>| {
        let mut child = start(&text, io.stdout).map_err(|it| it.to_string())?;
        io.child.set(Some(child.id()));
        let mut is_told = false;
        let status = loop {
            if let Some(it) = child.ended().map_err(|it| it.to_string())? {
                break it;
            }
            if io.is_late() {
                child.signal(if is_told { ChildSignal::Kill } else { ChildSignal::Terminate });
                io.until.set(Instant::now() + GRACE);
                is_told = true;
            }
            io.change(Vec::new()).await;
        };
        io.child.set(None);
        match status.success() {
            _ if is_told => Err(format!("the command takes longer than {} s", io.limit.as_secs_f64())),
            true => Ok(()),
            false => Err(status_text(status)),
        }
    })
}

fn start(text: &OsString, stdout: ChildOutput) -> io::Result<Child> {
    match Child::start("sh".as_ref(), &["-c".into(), text.clone()], stdout) {
        Err(error) if error.kind() == ErrorKind::NotFound && find("sh".as_ref()).is_none() => {
            // An empty image has no shell, but plain words need none.
            match plain_words(text) {
                Some(words) if !words.is_empty() => Child::start(&words[0], &words[1..], stdout),
                _ => Err(io::Error::other("the command needs a shell, and `sh` is not found")),
            }
        }
        started => started,
    }
}

async fn look_up(io: &Io, name: &str) -> Result<Vec<IpAddr>, String> {
    let running = io.lookup.take();
    let lookup = match running {
        Some(it) => it,
        None => Rc::new(Lookup::start(name).map_err(|it| it.to_string())?),
    };
    loop {
        if let Some(answer) = lookup.answer() {
            return answer.map_err(|it| lookup::reason(&it));
        }
        if io.is_late() {
            io.lookup.replace(Some(lookup));
            return Err(format!("the lookup takes longer than {} s", io.limit.as_secs_f64()));
        }
        io.change(vec![(lookup.clone(), PollFlags::POLLIN)]).await;
    }
}

/// The first connection to one of the host's addresses. All are tried at once, so that none waits for another.
async fn connect(io: &Io, host: &Host) -> Result<Rc<TcpStream>, String> {
    let addrs = match host.name.parse() {
        Ok(addr) => vec![addr],
        Err(_) => look_up(io, &host.name).await?,
    };
    let (mut pending, mut failed) = (Vec::new(), NO_ADDRESS.to_owned());
    for addr in addrs.into_iter().take(MOST_ADDRS).map(|it| SocketAddr::new(it, host.port)) {
        let family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        match start_connect(family, &SockaddrStorage::from(addr)) {
            Ok(socket) => pending.push((addr, Rc::new(TcpStream::from(socket)))),
            Err(error) => failed = format!("{addr}: {}", reason(error as i32)),
        }
    }
    if !pending.is_empty() {
        failed = format!("no answer within {} s", io.limit.as_secs_f64());
    }
    loop {
        let mut connected = None;
        pending.retain(|(addr, stream)| {
            let error = match (stream.take_error(), stream.peer_addr(), stream.local_addr()) {
                (Ok(Some(error)), ..) | (Err(error), ..) => error.raw_os_error().unwrap_or(libc::EIO),
                // Nothing listens, and the kernel chose this very port as the source port.
                (_, Ok(peer), Ok(local)) if peer == local => libc::ECONNREFUSED,
                (_, Ok(_), _) => {
                    connected.get_or_insert_with(|| stream.clone());
                    return false;
                }
                (_, Err(_), _) => return true,
            };
            failed = format!("{addr}: {}", reason(error));
            false
        });
        if let Some(it) = connected {
            return Ok(it);
        }
        if pending.is_empty() || io.is_late() {
            return Err(failed);
        }
        io.change(pending.iter().map(|(_, it)| (it.clone() as _, PollFlags::POLLOUT)).collect()).await;
    }
}

fn start_connect(family: AddressFamily, addr: &dyn SockaddrLike) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Stream, flags, None)?;
    match connect_socket(socket.as_raw_fd(), addr) {
        Ok(()) | Err(nix::Error::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// Is the connection reset? Data, or its regular end, shows that the server accepted it.
async fn settle(io: &Io, stream: Rc<TcpStream>) -> Result<(), String> {
    io.until.set(Instant::now() + SETTLED);
    loop {
        match stream.peek(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && !io.is_late() => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset && io.resets.get() + 1 < MOST_RESETS => {
                io.resets.set(io.resets.get() + 1);
                return Err("connected, and the connection was reset at once".to_owned());
            }
            _ => return Ok(()),
        }
        io.change(vec![(stream.clone(), PollFlags::POLLIN)]).await;
    }
}

/// The status of the answer to an HTTP request.
async fn ask(io: &Io, stream: Rc<TcpStream>, mut request: &[u8]) -> Result<u16, String> {
    let (mut answer, mut buffer) = (Vec::new(), [0; 2048]);
    loop {
        let is_sending = !request.is_empty();
        let moved = if is_sending { (&*stream).write(request) } else { (&*stream).read(&mut buffer) };
        match moved {
            Ok(length) if is_sending => {
                request = request.get(length..).unwrap_or_default();
                continue;
            }
            Ok(length) => {
                answer.extend(buffer.get(..length).unwrap_or_default());
                match http::read(&answer) {
                    Answer::Status(status) => return Ok(status),
                    Answer::Strange => return Err("the answer is not HTTP".to_owned()),
                    Answer::TooLong => {
                        let most = http::MOST >> 10;
                        return Err(format!("the first {most} KiB of the answer have no final status"));
                    }
                    Answer::Partial if length == 0 => {
                        return Err("the connection was closed without an answer".to_owned());
                    }
                    Answer::Partial => continue,
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.to_string()),
        }
        if io.is_late() {
            return Err(format!("connected, but no HTTP answer within {} s", io.limit.as_secs_f64()));
        }
        let ready = if is_sending { PollFlags::POLLOUT } else { PollFlags::POLLIN };
        io.change(vec![(stream.clone(), ready)]).await;
    }
}

/// The text of an error number, such as `connection refused`.
fn reason(errno: i32) -> String {
    nix::Error::from_raw(errno).desc().to_lowercase()
}
