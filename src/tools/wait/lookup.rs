//! Name resolution by the C library, on a thread of its own because it may block for long.

use std::io::{self, PipeReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

/// A running lookup.
#[derive(Debug)]
pub(super) struct Lookup {
    /// The thread closes the other end when it is done, so that it can be polled.
    done: PipeReader,
    answer: Receiver<io::Result<Vec<IpAddr>>>,
}

impl Lookup {
    pub(super) fn start(name: &str) -> io::Result<Self> {
        let (done, end) = io::pipe()?;
        let (sender, answer) = channel();
        let name = name.to_owned();
        // The C library keeps the packets of an answer on the stack.
        std::thread::Builder::new().name("lookup".to_owned()).stack_size(256 * 1024).spawn(move || {
            // The receiver may be gone.
            let _ = sender.send(resolve(&name));
            drop(end);
        })?;
        Ok(Self { done, answer })
    }

    /// None while the lookup is running.
    pub(super) fn answer(&self) -> Option<io::Result<Vec<IpAddr>>> {
        match self.answer.try_recv() {
            Ok(it) => Some(it),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                Some(Err(io::Error::other("the lookup ended without a result")))
            }
        }
    }
}

impl AsFd for Lookup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.done.as_fd()
    }
}

fn resolve(name: &str) -> io::Result<Vec<IpAddr>> {
    match (name, 0).to_socket_addrs() {
        Ok(found) => {
            let mut addrs: Vec<IpAddr> = Vec::new();
            for it in found.map(|it| it.ip()) {
                if !addrs.contains(&it) {
                    addrs.push(it);
                }
            }
            Ok(addrs)
        }
        // An empty image has no /etc/hosts with this name (RFC 6761, 6.3).
        Err(_) if name == "localhost" => Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]),
        Err(error) => Err(error),
    }
}

/// The error text without the library's prefix.
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.strip_prefix("failed to lookup address information: ") {
        Some(rest) => rest.to_owned(),
        None => text,
    }
}
