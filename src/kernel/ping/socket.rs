//! A socket for ICMP messages in one namespace.
//!
//! Errors on the way are read from the socket's error queue (IP_RECVERR in `ip(7)`), which has the same format for raw
//! and datagram sockets and for both families.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime};

use nix::libc::{sock_extended_err, timespec};
use nix::poll::PollTimeout;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SetSockOpt, SockFlag, SockProtocol, SockType, SockaddrIn6,
    SockaddrStorage, recvmsg, sendto, setsockopt, socket, sockopt,
};

use crate::kernel::netns;
use crate::kernel::ping::message::{self, Echo, Reason, Types, behind_ip};
use crate::kernel::ping::{Options, random};

/// Longest message in bytes, including the header that the kernel adds.
pub(super) const LONGEST: usize = 1 << 16;

/// Receive buffer in bytes, without the kernel's overhead.
const WAITING: usize = 4 << 20;

/// SO_EE_ORIGIN_ICMP and SO_EE_ORIGIN_ICMP6: errors from an ICMP message, and not from our own kernel.
const FROM_ICMP: [u8; 2] = [2, 3];

/// ICMP_FILTER and ICMP6_FILTER, both 1; their levels are SOL_RAW and IPPROTO_ICMPV6 (`linux/icmp.h`,
/// `linux/icmpv6.h`). A set bit blocks a type.
const FILTER: libc::c_int = 1;
const SOL_RAW: libc::c_int = 255;

mod filter {
    #![allow(unreachable_pub, reason = "the macro writes so")]
    use nix::{setsockopt_impl, sockopt_impl};

    sockopt_impl!(V4, SetOnly, super::SOL_RAW, super::FILTER, u32);
    sockopt_impl!(V6, SetOnly, libc::IPPROTO_ICMPV6, super::FILTER, [u32; 8]);
}

#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    types: Types,
    /// None if the kernel chooses it and filters replies by it.
    id: Option<u16>,
}

/// A received message, or an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received<'a> {
    Echo {
        from: IpAddr,
        seq: u16,
        ttl: Option<u8>,
        /// Since the epoch.
        at: Duration,
        payload: &'a [u8],
    },
    Error {
        from: IpAddr,
        /// The destination of the request.
        to: IpAddr,
        seq: u16,
        reason: Reason,
        /// The quoted part of the request's payload.
        quoted: &'a [u8],
    },
    /// Not for us.
    Other,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Socket {
    /// Also returns the index of the interface in the options, 0 without one.
    pub(super) fn open(netns: &File, v6: bool, options: &Options) -> io::Result<(Self, u32)> {
        netns::inside(netns, || {
            let (types, family, protocol) = if v6 {
                (message::V6, AddressFamily::Inet6, SockProtocol::IcmpV6)
            } else {
                (message::V4, AddressFamily::Inet, SockProtocol::Icmp)
            };
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let (fd, id) = match socket(family, SockType::Raw, flags, protocol) {
                Ok(fd) => (fd, Some(random() as u16)),
                Err(nix::Error::EPERM | nix::Error::EACCES) => {
                    (socket(family, SockType::Datagram, flags, protocol)?, None)
                }
                Err(error) => return Err(error.into()),
            };
            let it = Self { fd, types, id };
            it.set_up(options)?;
            let dev = options.dev.as_ref().map(|it| nix::net::if_::if_nametoindex(it.as_str()));
            Ok((it, dev.transpose()?.unwrap_or(0)))
        })
    }

    fn set_up(&self, options: &Options) -> io::Result<()> {
        let v6 = self.is_v6();
        if v6 {
            self.set(sockopt::Ipv6RecvErr, &true)?;
            self.set(sockopt::Ipv6RecvHopLimit, &true)?;
        } else {
            self.set(sockopt::Ipv4RecvErr, &true)?;
            self.set(sockopt::Ipv4RecvTtl, &true)?;
        }
        self.set(sockopt::ReceiveTimestampns, &true)?;
        if self.set(sockopt::RcvBufForce, &WAITING).is_err() {
            // Limited by the machine's maximum without an error.
            self.set(sockopt::RcvBuf, &WAITING)?;
        }
        match (options.ttl.map(i32::from), v6) {
            (Some(ttl), true) => self.set(sockopt::Ipv6Ttl, &ttl)?,
            (Some(ttl), false) => self.set(sockopt::Ipv4Ttl, &ttl)?,
            (None, _) => {}
        }
        if let Some(dev) = &options.dev {
            self.set(sockopt::BindToDevice, &dev.as_str().into())?;
        }
        // A raw socket receives all ICMP messages of the namespace, including requests.
        match (self.id, v6) {
            (Some(_), true) => self.set(filter::V6, &only(self.types.reply)),
            (Some(_), false) => self.set(filter::V4, &!(1 << self.types.reply)),
            (None, _) => Ok(()),
        }
    }

    fn set<O: SetSockOpt>(&self, option: O, value: &O::Val) -> io::Result<()> {
        Ok(setsockopt(&self.fd, option, value)?)
    }

    fn is_v6(&self) -> bool {
        self.types == message::V6
    }

    /// Sends a request.
    pub(super) fn send(&self, to: SocketAddr, seq: u16, payload: &[u8]) -> io::Result<()> {
        let message = Echo { kind: self.types.request, id: self.id.unwrap_or(0), seq, payload }.encode();
        let to = SockaddrStorage::from(to);
        // The error may belong to an earlier request. The error queue has it too, together with its request.
        const OLD_ERRORS: usize = 3;
        let mut result = Ok(0);
        for _ in 0..=OLD_ERRORS {
            result = sendto(self.fd.as_raw_fd(), &message, &to, MsgFlags::empty());
            if matches!(result, Ok(_) | Err(nix::Error::EAGAIN)) {
                break;
            }
        }
        result.map(drop).map_err(io::Error::from)
    }

    /// The next waiting message; None if there is none.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<Received<'a>>> {
        // The first read may fail with an error that the error queue has too.
        for last in [false, true] {
            for queue in [MsgFlags::MSG_ERRQUEUE, MsgFlags::empty()] {
                match self.read(buffer, queue) {
                    Ok(message) => {
                        let (message, data) = message;
                        let data = buffer.get(..data).unwrap_or_default();
                        return Ok(Some(self.understand(&message, data).unwrap_or(Received::Other)));
                    }
                    Err(nix::Error::EAGAIN) if queue.is_empty() => return Ok(None),
                    Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
                    Err(error) if last => return Err(error.into()),
                    Err(_) => {}
                }
            }
        }
        Ok(None)
    }

    /// Receives a message. Returns its ancillary data and its length.
    fn read(&self, buffer: &mut [u8], queue: MsgFlags) -> nix::Result<(Beside, usize)> {
        let mut space = nix::cmsg_space!(timespec, libc::c_int, (sock_extended_err, libc::sockaddr_in6));
        let mut data = [IoSliceMut::new(buffer)];
        let received = recvmsg::<SockaddrStorage>(self.fd.as_raw_fd(), &mut data, Some(&mut space), queue)?;
        let mut beside = Beside { peer: received.address.as_ref().and_then(ip), ..Beside::default() };
        for it in received.cmsgs()? {
            match it {
                ControlMessageOwned::ScmTimestampns(it) => beside.at = Some(Duration::from(it)),
                ControlMessageOwned::Ipv4Ttl(it) | ControlMessageOwned::Ipv6HopLimit(it) => {
                    beside.ttl = u8::try_from(it).ok();
                }
                ControlMessageOwned::Ipv4RecvErr(error, from) => {
                    beside.error =
                        Some((error, from.map(|it| IpAddr::from(it.sin_addr.s_addr.to_ne_bytes()))));
                }
                ControlMessageOwned::Ipv6RecvErr(error, from) => {
                    let from = from.map(|it| IpAddr::from(SockaddrIn6::from(it).ip()));
                    beside.error = Some((error, from));
                }
                _ => {}
            }
        }
        Ok((beside, received.bytes))
    }

    fn understand<'a>(&self, beside: &Beside, data: &'a [u8]) -> Option<Received<'a>> {
        let ours = |it: &Echo<'_>, kind| it.kind == kind && self.id.is_none_or(|id| it.id == id);
        let Some((error, from)) = beside.error else {
            let raw_v4 = !self.is_v6() && self.id.is_some();
            let echo = Echo::decode(if raw_v4 { behind_ip(data)? } else { data })?;
            let Beside { peer: Some(from), ttl, at, .. } = *beside else { return None };
            let at = at.unwrap_or_else(now);
            let Echo { seq, payload, .. } = echo;
            return ours(&echo, self.types.reply).then_some(Received::Echo { from, seq, ttl, at, payload });
        };
        let echo = Echo::decode(data)?;
        let kind = FROM_ICMP.contains(&error.ee_origin) && ours(&echo, self.types.request);
        let (Some(from), Some(to), true) = (from, beside.peer, kind) else { return None };
        let reason =
            Reason { v6: self.is_v6(), kind: error.ee_type, code: error.ee_code, mtu: error.ee_info };
        Some(Received::Error { from, to, seq: echo.seq, reason, quoted: echo.payload })
    }
}

/// The ancillary data of a message.
#[derive(Default)]
struct Beside {
    /// The sender; for an error the destination of the request.
    peer: Option<IpAddr>,
    ttl: Option<u8>,
    at: Option<Duration>,
    /// The error, with the address of the host that reported it.
    error: Option<(sock_extended_err, Option<IpAddr>)>,
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|it| IpAddr::from(it.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::from(it.ip())))
}

/// The filter that allows one type of ICMPv6 messages.
fn only(kind: u8) -> [u32; 8] {
    let mut blocked = [u32::MAX; 8];
    blocked[usize::from(kind / 32)] &= !(1 << (kind % 32));
    blocked
}

/// The time since the epoch, from the clock of the kernel's timestamps.
pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The timeout for `poll`, rounded up so that it does not return early again and again.
pub(super) fn milliseconds(time: Duration) -> PollTimeout {
    PollTimeout::try_from(time + Duration::from_nanos(999_999)).unwrap_or(PollTimeout::MAX)
}
