//! Requests to the kernel's routing family (rtnetlink), one at a time.
//!
//! The kernel performs a request within `send()`: when it returns, the answer can be read. So a blocking socket never
//! waits, and is much cheaper than an asynchronous one.

use std::cell::RefCell;
use std::fmt;
use std::io;

use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_ECHO, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage,
    NetlinkPayload, NlasIterator,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use crate::kernel::hint;

/// A failed request.
#[derive(Debug)]
pub struct Error {
    /// The request, in the syntax of iproute2.
    request: String,
    source: io::Error,
    /// The kernel's message (NLMSGERR_ATTR_MSG).
    message: Option<String>,
    hint: Option<&'static str>,
}

impl Error {
    /// `request` is in the syntax of iproute2.
    pub fn new(request: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { request: request.into(), source: source.into(), message: None, hint: None }
    }

    /// Sets the hint.
    pub(super) fn with_hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }

    /// Changes the error number to EOPNOTSUPP.
    pub(super) fn into_unsupported(self) -> Self {
        Self { source: io::Error::from_raw_os_error(libc::EOPNOTSUPP), ..self }
    }

    /// Sets the message.
    pub(super) fn with_message(self, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..self }
    }

    /// The error number, as in `errno(3)`.
    pub fn errno(&self) -> Option<i32> {
        let inner = || self.source.get_ref()?.downcast_ref::<Self>()?.errno();
        self.source.raw_os_error().or_else(inner)
    }

    /// Does the object of the request no longer exist (a process, a namespace, an interface)?
    pub fn is_gone(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOENT | libc::ESRCH | libc::ENODEV))
    }

    /// Does the kernel lack the feature (EOPNOTSUPP)?
    pub fn is_unsupported(&self) -> bool {
        self.errno() == Some(libc::EOPNOTSUPP)
    }

    /// Does the object already exist (EEXIST), such as an interface of that name, an address or a route?
    pub fn is_taken(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// A hint on how to fix it.
    pub fn hint(&self) -> Option<&'static str> {
        if self.hint.is_some() {
            return self.hint;
        }
        match self.errno()? {
            libc::EPERM | libc::EACCES => Some(hint::permissions()),
            libc::EOPNOTSUPP => Some("the kernel may lack a module: see `dmesg`, or load it with `modprobe`"),
            libc::EMFILE | libc::ENFILE => {
                Some("raise the limit of open files (`ulimit -n`): each container needs four")
            }
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.request, self.source)?;
        self.message.as_ref().map_or(Ok(()), |it| write!(f, ": {it}"))
    }
}

impl std::error::Error for Error {}

/// A socket in one namespace.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// Buffer for one message of a dump: the kernel fills up to 32 KiB (`netlink_dump()` in `net/netlink/af_netlink.c`).
pub(super) const ANSWER: usize = 64 * 1024;

/// NLMSG_DONE. NLMSG_ERROR is less, and the types of objects are greater.
const DONE: u16 = 3;

/// `struct nlmsghdr`.
const HEADER: usize = 16;

thread_local! {
    /// One buffer for all sockets of the thread: hundreds are open, and one is in use at a time.
    pub(super) static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Most tries of a dump that is interrupted by changes.
pub(super) const TRIES: usize = 10;

impl Netlink {
    /// Opens a socket in the namespace that the calling thread is in.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        // The kernel filters dumps. Without this (before 4.20) it dumps more, and the rest is filtered out later.
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self { socket, sequence: 0 })
    }

    /// The address of the socket, which is in all notifications that its requests cause.
    pub(super) fn port(&self) -> io::Result<u32> {
        let mut address = SocketAddr::new(0, 0);
        self.socket.get_address(&mut address)?;
        Ok(address.port_number())
    }

    /// Requests a change. `flags` are added to REQUEST and ACK.
    pub(super) fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        what: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_ACK | flags, |_| {}).map_err(|it| it.named(what()))?;
        Ok(())
    }

    /// As [`Netlink::request`], and answers the last object that the kernel reports in return, if it does: what is behind
    /// its header.
    pub(super) fn echo<T>(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        decode: impl Fn(&[u8]) -> Option<T>,
        what: impl FnOnce() -> String,
    ) -> Result<Option<T>, Error> {
        let mut answer = None;
        let asked = self.exchange_raw(message, NLM_F_REQUEST | NLM_F_ACK | NLM_F_ECHO | flags, |it| {
            answer = decode(it);
            Ok(())
        });
        asked.map_err(|it| it.named(what()))?;
        Ok(answer)
    }

    /// Asks for one object.
    pub(super) fn get(
        &mut self,
        message: RouteNetlinkMessage,
        what: impl FnOnce() -> String,
    ) -> Result<Option<RouteNetlinkMessage>, Error> {
        let mut answer = None;
        self.exchange(message, NLM_F_REQUEST | NLM_F_ACK, |it| answer = Some(it))
            .map_err(|it| it.named(what()))?;
        Ok(answer)
    }

    /// Requests all objects of a type.
    pub(super) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
        what: impl FnOnce() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        let mut all = Vec::new();
        for _ in 0..TRIES {
            all.clear();
            match self.exchange(message.clone(), NLM_F_REQUEST | NLM_F_DUMP, |it| all.push(it)) {
                Ok(Interrupted(false)) => return Ok(all),
                Ok(Interrupted(true)) => {}
                Err(error) => return Err(error.named(what())),
            }
        }
        Err(Error::new(what(), io::Error::other("the kernel's state changed during each try to read it")))
    }

    /// [`Netlink::dump`] for objects without a type in the library: the bytes after each header.
    pub(super) fn dump_raw<T>(
        &mut self,
        message: RouteNetlinkMessage,
        decode: impl Fn(&[u8]) -> Option<T>,
        what: impl FnOnce() -> String,
    ) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        for _ in 0..TRIES {
            all.clear();
            let flags = NLM_F_REQUEST | NLM_F_DUMP;
            match self.exchange_raw(message.clone(), flags, |it| {
                all.extend(decode(it));
                Ok(())
            }) {
                Ok(Interrupted(false)) => return Ok(all),
                Ok(Interrupted(true)) => {}
                Err(error) => return Err(error.named(what())),
            }
        }
        Err(Error::new(what(), io::Error::other("the kernel's state changed during each try to read it")))
    }

    /// [`Netlink::get`] for an object without a type in the library.
    pub(super) fn get_raw<T>(
        &mut self,
        message: RouteNetlinkMessage,
        decode: impl Fn(&[u8]) -> Option<T>,
        what: impl FnOnce() -> String,
    ) -> Result<Option<T>, Error> {
        // Before Linux 6.8 the answer to RTM_GETQDISC was a notice, which the one who asks gets as an echo alone
        // (`qdisc_notify()` in net/sched/sch_api.c).
        self.echo(message, 0, decode, what)
    }

    /// Sends a request and reads all answers.
    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        mut answer: impl FnMut(RouteNetlinkMessage),
    ) -> Result<Interrupted, Failed> {
        BUFFER.with_borrow_mut(|buffer| {
            self.exchange_by(buffer, message, flags, |one| {
                match NetlinkMessage::<RouteNetlinkMessage>::deserialize(one) {
                    Ok(NetlinkMessage { payload: NetlinkPayload::InnerMessage(it), .. }) => answer(it),
                    Ok(_) => {}
                    // An object that cannot be parsed must not hide the others.
                    Err(error) if flags & NLM_F_DUMP == NLM_F_DUMP => {
                        log::debug!("part of a dump could not be read: {error}");
                    }
                    Err(error) => return Err(Failed::decode(error)),
                }
                Ok(())
            })
        })
    }

    fn exchange_raw(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        mut answer: impl FnMut(&[u8]) -> Result<(), Failed>,
    ) -> Result<Interrupted, Failed> {
        BUFFER.with_borrow_mut(|buffer| {
            self.exchange_by(buffer, message, flags, |one| answer(one.get(HEADER..).unwrap_or_default()))
        })
    }

    /// Calls `answer` with each object, including its header.
    fn exchange_by(
        &mut self,
        buffer: &mut Vec<u8>,
        message: RouteNetlinkMessage,
        flags: u16,
        mut answer: impl FnMut(&[u8]) -> Result<(), Failed>,
    ) -> Result<Interrupted, Failed> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        if buffer.len() < message.buffer_len().max(ANSWER) {
            buffer.resize(message.buffer_len().max(ANSWER), 0);
        }
        message.serialize(buffer);
        self.socket.send(&buffer[..message.buffer_len()], 0)?;
        let mut interrupted = false;
        loop {
            let length = self.socket.recv(&mut &mut buffer[..], 0)?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while !rest.is_empty() {
                let header = NetlinkBuffer::new_checked(rest).map_err(Failed::decode)?;
                let size = header.length() as usize;
                let mine = header.sequence_number() == self.sequence;
                interrupted |= header.flags() & NLM_F_DUMP_INTR != 0;
                let (one, more) = rest.split_at_checked(size).unwrap_or((rest, &[]));
                // Messages are aligned to four bytes.
                rest = more.get(size.next_multiple_of(4) - size..).unwrap_or_default();
                if !mine {
                    continue;
                }
                if header.message_type() > DONE {
                    answer(one)?;
                    continue;
                }
                let one = NetlinkMessage::<RouteNetlinkMessage>::deserialize(one).map_err(Failed::decode)?;
                match one.payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(Failed::kernel(error.to_io(), &error.header));
                    }
                    NetlinkPayload::Done(it) if it.code < 0 => {
                        return Err(io::Error::from_raw_os_error(-it.code).into());
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => {
                        return Ok(Interrupted(interrupted));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Whether the kernel's state changed during the dump.
pub(super) struct Interrupted(pub(super) bool);

/// A failure without the name of the request.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) source: io::Error,
    pub(super) message: Option<String>,
    /// The offset in the request of the part that the kernel refused, in bytes (NLMSGERR_ATTR_OFFS).
    pub(super) at: Option<usize>,
}

impl From<io::Error> for Failed {
    fn from(source: io::Error) -> Self {
        Self { source, message: None, at: None }
    }
}

impl Failed {
    pub(super) fn decode(error: impl fmt::Display) -> Self {
        io::Error::other(format!("unexpected answer of the kernel: {error}")).into()
    }

    /// `answer` follows the error number: with NETLINK_CAP_ACK the header of the request (16 bytes), then attributes.
    pub(super) fn kernel(source: io::Error, answer: &[u8]) -> Self {
        const MESSAGE: u16 = 1;
        const OFFSET: u16 = 2;
        let mut failed = Self::from(source);
        for attribute in NlasIterator::new(answer.get(16..).unwrap_or_default()).flatten() {
            match (attribute.kind(), attribute.value()) {
                (MESSAGE, text) => {
                    failed.message = Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
                }
                (OFFSET, &[a, b, c, d]) => failed.at = usize::try_from(u32::from_ne_bytes([a, b, c, d])).ok(),
                _ => {}
            }
        }
        failed
    }

    pub(super) fn named(self, request: String) -> Error {
        Error { request, source: self.source, message: self.message, hint: None }
    }
}
