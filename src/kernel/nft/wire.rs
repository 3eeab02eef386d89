//! Requests to nf_tables: single requests, dumps and transactions.

use std::io;

use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};

use crate::kernel::attribute::{Attributes, Received};
use crate::kernel::netlink::{ANSWER, BUFFER, Failed, Interrupted};

/// The size of `struct nlmsghdr`; `struct nfgenmsg` follows it.
const HEADER: usize = 16;
const FULL_HEADER: usize = HEADER + 4;

const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;
const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
const BATCH_BEGIN: u16 = libc::NFNL_MSG_BATCH_BEGIN as u16;
const BATCH_END: u16 = libc::NFNL_MSG_BATCH_END as u16;
const INET: u8 = libc::NFPROTO_INET as u8;
/// NFNL_BATCH_GENID.
const GENERATION: u16 = 1;

/// Bytes that a socket can send without a larger send buffer (`net.core.wmem_default` is 208 KiB), with a margin.
const USUAL: usize = 128 * 1024;

/// Types of requests (`enum nf_tables_msg_types`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    NewTable = 0,
    GetTable = 1,
    DelTable = 2,
    NewChain = 3,
    GetChain = 4,
    DelChain = 5,
    NewRule = 6,
    GetRule = 7,
    DelRule = 8,
    GetGeneration = 16,
}

/// A socket for nf_tables in one namespace.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Socket,
    sequence: u32,
}

impl Wire {
    /// Opens a socket in the namespace of the calling thread; None if the kernel has no netfilter.
    pub(super) fn open() -> io::Result<Option<Self>> {
        let mut socket = match Socket::new(NETLINK_NETFILTER) {
            Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(None),
            socket => socket?,
        };
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        Ok(Some(Self { socket, sequence: 0 }))
    }

    /// Requests one object, whose attributes `answer` parses.
    pub(super) fn get<T>(
        &mut self,
        kind: Kind,
        attributes: &Attributes,
        mut answer: impl FnMut(Received<'_>) -> T,
    ) -> Result<Option<T>, Failed> {
        let mut got = None;
        self.exchange(kind, NLM_F_ACK, attributes, |it| got = Some(answer(it)))?;
        Ok(got)
    }

    /// Requests all objects of a type, and calls `answer` with the attributes of each.
    pub(super) fn dump(
        &mut self,
        kind: Kind,
        attributes: &Attributes,
        answer: impl FnMut(Received<'_>),
    ) -> Result<Interrupted, Failed> {
        self.exchange(kind, NLM_F_DUMP, attributes, answer)
    }

    fn exchange(
        &mut self,
        kind: Kind,
        flags: u16,
        attributes: &Attributes,
        mut answer: impl FnMut(Received<'_>),
    ) -> Result<Interrupted, Failed> {
        let mut request = Vec::new();
        let sequence = self.next(1);
        write(&mut request, SUBSYSTEM << 8 | kind as u16, flags, sequence, INET, attributes);
        self.socket.send(&request, 0)?;
        let mut interrupted = false;
        loop {
            let mut end = None;
            self.receive(0, |message| {
                if message.sequence != sequence || end.is_some() {
                    return;
                }
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.end() {
                    Some(it) => end = Some(it),
                    None => answer(Received(message.body.get(4..).unwrap_or_default())),
                }
            })?;
            if let Some(end) = end {
                return end.map(|()| Interrupted(interrupted));
            }
        }
    }

    /// Commits a batch, completely or not at all. If the rules have another `generation` than expected, nothing is
    /// changed and the error is ERESTART. An error has the number of the failed part within the batch; None: the whole
    /// batch.
    pub(super) fn commit(&mut self, batch: &Batch, generation: u32) -> Result<(), (Option<usize>, Failed)> {
        let whole = |it: io::Error| (None, Failed::from(it));
        // One sequence number for the start, one per part, one for the end.
        let first = self.next(batch.parts.len() as u32 + 2);
        let request = batch.finish(first, generation);
        if request.len() > USUAL {
            let size = request.len() + USUAL;
            // Before about Linux 5.16 this needs the capability in the initial user namespace; if it fails, the limit
            // stays.
            if setsockopt(&self.socket, sockopt::SndBufForce, &size).is_err() {
                setsockopt(&self.socket, sockopt::SndBuf, &size).map_err(|it| whole(it.into()))?;
            }
        }
        self.socket.send(&request, 0).map_err(whole)?;
        // All answers have arrived. There may be more errors than fit into the socket: the first ones count.
        let mut acknowledged = false;
        let mut failed: Option<(u32, Failed)> = None;
        loop {
            let received = self.receive(libc::MSG_DONTWAIT, |message| {
                let number = message.sequence.wrapping_sub(first);
                let is_ours = number < u32::MAX / 2;
                match message.end() {
                    Some(Ok(())) if is_ours => acknowledged = true,
                    Some(Err(error)) if is_ours && failed.as_ref().is_none_or(|(it, _)| number < *it) => {
                        failed = Some((number, error));
                    }
                    _ => {}
                }
            });
            match received.map_err(|it| it.source.raw_os_error().ok_or(it)) {
                Ok(()) | Err(Ok(libc::ENOBUFS)) => {}
                Err(Ok(libc::EAGAIN)) => break,
                Err(Ok(number)) => return Err(whole(io::Error::from_raw_os_error(number))),
                Err(Err(error)) => return Err((None, error)),
            }
        }
        match failed {
            Some((number, error)) => Err(((number as usize).checked_sub(1), error)),
            None if acknowledged => Ok(()),
            None => Err(whole(io::Error::other("the kernel did not answer"))),
        }
    }

    /// Reserves `count` sequence numbers and returns the first.
    fn next(&mut self, count: u32) -> u32 {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(count);
        first
    }

    /// Receives once, and calls `each` for each message.
    fn receive(&self, flags: libc::c_int, mut each: impl FnMut(Message<'_>)) -> Result<(), Failed> {
        BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < ANSWER {
                buffer.resize(ANSWER, 0);
            }
            let length = self.socket.recv(&mut &mut buffer[..], flags)?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while !rest.is_empty() {
                let (message, more) =
                    Message::read(rest).ok_or_else(|| Failed::decode("truncated message"))?;
                each(message);
                rest = more;
            }
            Ok(())
        })
    }
}

/// A message from the kernel.
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Splits off the first message.
    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *bytes.first_chunk::<HEADER>()?;
        let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).ok()?;
        let message = Self {
            kind: u16::from_ne_bytes([e, f]),
            flags: u16::from_ne_bytes([g, h]),
            sequence: u32::from_ne_bytes([i, j, k, l]),
            body: bytes.get(HEADER..length)?,
        };
        Some((message, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
    }

    /// The result of the request, if this message has it.
    fn end(&self) -> Option<Result<(), Failed>> {
        if !matches!(self.kind, NLMSG_ERROR | NLMSG_DONE) {
            return None;
        }
        let code = self.body.first_chunk().map_or(0, |it| i32::from_ne_bytes(*it));
        if code == 0 {
            return Some(Ok(()));
        }
        let error = io::Error::from_raw_os_error(code.saturating_neg());
        Some(Err(if self.kind == NLMSG_ERROR {
            Failed::kernel(error, self.body.get(4..).unwrap_or_default())
        } else {
            error.into()
        }))
    }
}

/// Changes of one transaction.
#[derive(Debug, Default)]
pub(super) struct Batch {
    parts: Vec<(Kind, u16, Attributes)>,
}

impl Batch {
    /// Appends a part. `flags` are added to REQUEST and ACK.
    pub(super) fn push(&mut self, kind: Kind, flags: u16, attributes: Attributes) {
        self.parts.push((kind, flags, attributes));
    }

    /// The bytes to send, with sequence numbers from `first`. Only the last part requests an answer, because hundreds
    /// of answers do not fit into the socket. Errors are always answered.
    pub(super) fn finish(&self, first: u32, generation: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut sequence = first;
        let mut begin = Attributes::default();
        begin.number(GENERATION, generation);
        write(&mut bytes, BATCH_BEGIN, 0, sequence, 0, &begin);
        for (idx, (kind, flags, attributes)) in self.parts.iter().enumerate() {
            sequence = sequence.wrapping_add(1);
            let ack = if idx + 1 == self.parts.len() { NLM_F_ACK } else { 0 };
            write(&mut bytes, SUBSYSTEM << 8 | *kind as u16, flags | ack, sequence, INET, attributes);
        }
        write(&mut bytes, BATCH_END, 0, sequence.wrapping_add(1), 0, &Attributes::default());
        bytes
    }

    /// The bytes of a part's message from an offset ([`Failed::at`]).
    pub(super) fn part_at(&self, part: usize, at: usize) -> Option<&[u8]> {
        self.parts.get(part)?.2.as_bytes().get(at.checked_sub(FULL_HEADER)?..)
    }
}

fn write(to: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, family: u8, attributes: &Attributes) {
    // The start and the end of a batch name the subsystem in `nfgenmsg.res_id`, which is 0 in other messages.
    let resource = if matches!(kind, BATCH_BEGIN | BATCH_END) { SUBSYSTEM } else { 0 };
    to.extend(((FULL_HEADER + attributes.as_bytes().len()) as u32).to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    to.extend(sequence.to_ne_bytes());
    // The port; the kernel fills it in.
    to.extend([0; 4]);
    to.extend([family, libc::NFNETLINK_V0 as u8]);
    to.extend(resource.to_be_bytes());
    to.extend(attributes.as_bytes());
}
