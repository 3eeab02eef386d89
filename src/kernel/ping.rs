//! ICMP echo (RFC 792, RFC 4443) from within a network namespace: what `ping` does, where there is no `ping`.
//!
//! An answer counts as ours by identifier, sequence number and payload, of which the first bytes are random: other
//! pings of the namespace, which a raw socket hears too, are never taken for ours.

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

use socket::{Received, Socket};

/// What the requests are like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of payload, behind the 8 of ICMP's header: 0 to 65507 (65527 with IPv6). 56 unless said otherwise.
    pub size: usize,
    /// How many routers may pass them on, from 1. None: what the namespace has as its default.
    pub ttl: Option<u8>,
    /// The interface that they leave by, which a link-local IPv6 address needs where there are several.
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

/// What came back for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Echo {
        seq: u16,
        from: IpAddr,
        /// What is left of it on arrival (IPv6: the hop limit).
        ttl: Option<u8>,
        /// From just before the request was sent to when the kernel took the reply in.
        time: Duration,
        /// Bytes of the reply, ICMP's header included.
        bytes: usize,
        /// A request has been answered before.
        duplicate: bool,
    },
    /// Somebody on the way (our own kernel, where the next hop does not answer) could not pass the request on.
    Unreachable { seq: u16, from: IpAddr, reason: Reason },
}

impl Ping {
    /// Opens a socket in the namespace: a raw one, or where that is not allowed, a datagram socket for echo (`icmp(7)`,
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

    /// Sends a request. A number may be used again once 65536 have been sent; an answer then counts for the last.
    ///
    /// The error is that of our own side: ENETUNREACH without a route, EHOSTUNREACH, EACCES and EINVAL for routes of
    /// type unreachable, prohibit and blackhole, EPERM where a rule of the firewall drops it, EMSGSIZE.
    pub fn send(&mut self, seq: u16) -> io::Result<()> {
        let at = socket::now();
        self.sent.insert(seq, Sent { at, answered: false });
        self.socket.send(self.to, seq, &self.payload)
    }

    /// Waits for the next answer to any request; None when the deadline has passed without one.
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

/// What was received, if it answers one of the requests.
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

/// A payload that nobody else's is like, as far as its length allows that.
fn payload(size: usize) -> Vec<u8> {
    let cookie = random().to_be_bytes();
    cookie.into_iter().chain((cookie.len()..).map(|it| it as u8)).take(size).collect()
}

/// Hashers of the standard library start with random keys.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
