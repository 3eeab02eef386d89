//! ICMP echo (RFC 792, RFC 4443) from within a network namespace, without the program `ping`.
//!
//! An answer must match identifier, sequence number and payload, whose first bytes are random. So answers to other
//! pings in the namespace, which a raw socket receives too, are not taken for ours.

mod all;
mod message;
mod neighbours;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};

use crate::addr::IfName;
use crate::kernel::netns;

pub use all::{Pair, PingError, all, all_watched};
pub use message::Reason;

pub(super) use message::checksum;

use socket::{Received, Socket};

/// Options of the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of payload after the ICMP header of 8 bytes: 0 to 65507 (65527 with IPv6). Default: 56.
    pub size: usize,
    /// Time to live (IPv6: hop limit), from 1. None: the namespace's default.
    pub ttl: Option<u8>,
    /// The outgoing interface. A link-local IPv6 address needs it if there are several interfaces.
    pub dev: Option<IfName>,
}

impl Default for Options {
    fn default() -> Self {
        Self { size: 56, ttl: None, dev: None }
    }
}

/// A series of echo requests from one namespace to one address.
#[derive(Debug)]
pub struct Ping {
    socket: Socket,
    to: SocketAddr,
    payload: Vec<u8>,
    sent: BTreeMap<u16, Sent>,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Duration,
    answered: bool,
}

/// An answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Echo {
        seq: u16,
        from: IpAddr,
        /// Time to live on arrival (IPv6: hop limit).
        ttl: Option<u8>,
        /// Time from just before the request was sent until the kernel received the reply.
        time: Duration,
        /// Bytes of the reply, including the ICMP header.
        bytes: usize,
        /// The request has already been answered.
        duplicate: bool,
    },
    /// A router could not forward the request, or our own kernel if the next hop does not answer.
    Unreachable { seq: u16, from: IpAddr, reason: Reason },
}

impl Ping {
    /// Opens a raw socket in the namespace, or if that is not allowed, a datagram socket for echo (`icmp(7)`,
    /// `ping_group_range`).
    pub fn open(netns: &File, to: IpAddr, options: &Options) -> io::Result<Self> {
        let (socket, scope) = Socket::open(netns, to.is_ipv6(), options)?;
        let to = match to {
            IpAddr::V6(it) => std::net::SocketAddrV6::new(it, 0, 0, scope).into(),
            it => SocketAddr::new(it, 0),
        };
        Ok(Self {
            socket,
            to,
            payload: payload(options.size),
            sent: BTreeMap::new(),
            buffer: vec![0; socket::LONGEST],
        })
    }

    /// Sends a request. Sequence numbers may be reused; an answer counts for the last request with its number.
    ///
    /// Errors of the local kernel: ENETUNREACH without a route; EHOSTUNREACH, EACCES and EINVAL for routes of type
    /// unreachable, prohibit and blackhole; EPERM if a firewall rule drops it; EMSGSIZE.
    pub fn send(&mut self, seq: u16) -> io::Result<()> {
        let at = socket::now();
        self.sent.insert(seq, Sent { at, answered: false });
        self.socket.send(self.to, seq, &self.payload)
    }

    /// Waits for the next answer to any request; None after the deadline.
    pub fn reply(&mut self, deadline: Instant) -> io::Result<Option<Answer>> {
        loop {
            let received = self.socket.receive(&mut self.buffer)?;
            let empty = received.is_none();
            if let Some(answer) = received.and_then(|it| answer(&it, &mut self.sent, &self.payload)) {
                return Ok(Some(answer));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            if empty {
                let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
                match poll(&mut polled, socket::milliseconds(left)) {
                    Ok(_) | Err(nix::Error::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

/// Which of these addresses are the namespace's own: a ping to one of them never leaves it.
pub fn own_addresses(netns: &File, addresses: &[IpAddr]) -> io::Result<Vec<bool>> {
    let is_own = |to: &IpAddr| {
        let any = if to.is_ipv6() { IpAddr::from([0_u16; 8]) } else { IpAddr::from([0_u8; 4]) };
        // Connecting sends nothing. To an address of its own the kernel talks from that same address; others have no
        // route, or another source.
        let source = UdpSocket::bind((any, 0)).and_then(|it| {
            it.connect((*to, 9))?;
            it.local_addr()
        });
        source.is_ok_and(|it| it.ip() == *to)
    };
    netns::inside(netns, || Ok(addresses.iter().map(is_own).collect()))
}

/// The answer in a received message, if it belongs to one of the requests.
fn answer(received: &Received<'_>, sent: &mut BTreeMap<u16, Sent>, payload: &[u8]) -> Option<Answer> {
    match *received {
        Received::Echo { from, seq, ttl, at, payload: theirs } => {
            let sent = sent.get_mut(&seq).filter(|_| theirs == payload)?;
            let duplicate = std::mem::replace(&mut sent.answered, true);
            let time = at.saturating_sub(sent.at);
            Some(Answer::Echo { seq, from, ttl, time, bytes: message::HEADER + theirs.len(), duplicate })
        }
        Received::Error { from, seq, reason, quoted, .. } => {
            let ours = sent.contains_key(&seq) && message::is_start_of(quoted, payload);
            ours.then_some(Answer::Unreachable { seq, from, reason })
        }
        Received::Other => None,
    }
}

/// A payload that starts with random bytes.
fn payload(size: usize) -> Vec<u8> {
    let cookie = random().to_be_bytes();
    cookie.into_iter().chain((cookie.len()..).map(|it| it as u8)).take(size).collect()
}

/// A random number, from the random keys of the standard library's hashers.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
