//! Names to addresses, by the C library on a thread of its own: it may take as long as it likes and blocks nobody.

use std::io::{self, PipeReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

/// A question that is being answered.
#[derive(Debug)]
pub(super) struct Lookup {
    /// Closed by the thread when it is done, so that it can be polled.
    done: PipeReader,
    answer: Receiver<io::Result<Vec<IpAddr>>>,
}

impl Lookup {
    pub(super) fn start(name: &str) -> io::Result<Self> {
        let (done, end) = io::pipe()?;
        let (sender, answer) = channel();
        let name = name.to_owned();
        // The C library keeps the answer's packets on the stack.
        std::thread::Builder::new().name("lookup".to_owned()).stack_size(256 * 1024).spawn(move || {
            // Whoever asked may have lost interest.
            let _ = sender.send(resolve(&name));
            drop(end);
        })?;
        Ok(Self { done, answer })
    }

    /// None while it is being looked for.
    pub(super) fn answer(&self) -> Option<io::Result<Vec<IpAddr>>> {
        match self.answer.try_recv() {
            Ok(it) => Some(it),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                Some(Err(io::Error::other("the lookup ended without an answer")))
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
        // An image that holds nothing has no /etc/hosts to say so (RFC 6761, 6.3).
        Err(_) if name == "localhost" => Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]),
        Err(error) => Err(error),
    }
}

/// What is wrong, without the library's own preamble.
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.strip_prefix("failed to lookup address information: ") {
        Some(rest) => rest.to_owned(),
        None => text,
    }
}
