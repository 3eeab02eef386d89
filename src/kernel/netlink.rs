//! Requests to the kernel's routing family, one at a time.
//!
//! The kernel does its work within `send()`: when that returns, the answer is there to be read. So a blocking socket
//! waits for nothing, and costs a fraction of one behind a queue.

use std::cell::RefCell;
use std::fmt;
use std::io;

use rtnetlink::packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage,
    NetlinkPayload, NlasIterator,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

/// A request that failed.
#[derive(Debug)]
pub struct Error {
    /// What was asked for, in iproute2's words.
    request: String,
    source: io::Error,
    /// What the kernel says beyond the number (NLMSGERR_ATTR_MSG).
    message: Option<String>,
}

impl Error {
    pub(super) fn new(request: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { request: request.into(), source: source.into(), message: None }
    }

    /// The number of the error, as in `errno(3)`.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// Is what the request was about no longer there: a process, a namespace, an interface?
    pub fn is_gone(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOENT | libc::ESRCH | libc::ENODEV))
    }

    /// What usually helps.
    pub fn hint(&self) -> Option<&'static str> {
        match self.errno()? {
            libc::EPERM | libc::EACCES => Some(
                "conlink needs the capabilities SYS_ADMIN and NET_ADMIN, all that its containers have, and `pid: host` \
                 when it runs in a container",
            ),
            libc::EOPNOTSUPP => Some("this kernel may lack the module for this type of interface or filter"),
            libc::EMFILE | libc::ENFILE => {
                Some("raise the limit of open files (`ulimit -n`): each container takes two")
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

/// A socket in one namespace, where it stays for life.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// What one message of a dump may take: the kernel fills up to 32 KiB (`netlink_dump()` in `net/netlink/af_netlink.c`).
const ANSWER: usize = 64 * 1024;

/// NLMSG_DONE, with NLMSG_ERROR before it: objects' types are greater.
const DONE: u16 = 3;

thread_local! {
    /// One for all sockets of the thread: hundreds of them are open, and one is in use.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Dumps that were interrupted by a change are repeated; a namespace that never rests is not waited for.
const TRIES: usize = 10;

impl Netlink {
    /// Opens a socket in the namespace that the calling thread is in.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        // Filters of dumps are honoured; a kernel without it (before 4.20) dumps more, which is sorted out later.
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks for a change. `flags` are those beyond REQUEST and ACK.
    pub(super) fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        what: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_ACK | flags, |_| {}).map_err(|it| it.named(what()))?;
        Ok(())
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

    /// Asks for all objects of a kind.
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
        Err(Error::new(what(), io::Error::other("the kernel's answer was interrupted by changes each time")))
    }

    /// Sends a request and reads its answers to the end.
    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        answer: impl FnMut(RouteNetlinkMessage),
    ) -> Result<Interrupted, Failed> {
        BUFFER.with_borrow_mut(|buffer| self.exchange_by(buffer, message, flags, answer))
    }

    fn exchange_by(
        &mut self,
        buffer: &mut Vec<u8>,
        message: RouteNetlinkMessage,
        flags: u16,
        mut answer: impl FnMut(RouteNetlinkMessage),
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
                // Messages begin at multiples of four bytes.
                rest = more.get(size.next_multiple_of(4) - size..).unwrap_or_default();
                if !mine {
                    continue;
                }
                let one = match NetlinkMessage::<RouteNetlinkMessage>::deserialize(one) {
                    Ok(it) => it,
                    // One strange object must not hide all others: it may well be nobody's that we know.
                    Err(error) if flags & NLM_F_DUMP == NLM_F_DUMP && header.message_type() > DONE => {
                        log::debug!("part of a dump could not be read: {error}");
                        continue;
                    }
                    Err(error) => return Err(Failed::decode(error)),
                };
                match one.payload {
                    NetlinkPayload::InnerMessage(it) => answer(it),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(Failed::kernel(&error));
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

/// Did the kernel change what it was dumping?
struct Interrupted(bool);

/// A failure that does not know yet what was asked for.
struct Failed {
    source: io::Error,
    message: Option<String>,
}

impl From<io::Error> for Failed {
    fn from(source: io::Error) -> Self {
        Self { source, message: None }
    }
}

impl Failed {
    fn decode(error: impl fmt::Display) -> Self {
        io::Error::other(format!("an answer of the kernel could not be read: {error}")).into()
    }

    /// With NETLINK_CAP_ACK the error is followed by the request's header of 16 bytes, then by attributes.
    fn kernel(error: &ErrorMessage) -> Self {
        const MESSAGE: u16 = 1;
        let source = error.to_io();
        let attributes = error.header.get(16..).unwrap_or_default();
        let message = NlasIterator::new(attributes).flatten().find(|it| it.kind() == MESSAGE);
        let message = message.map(|it| String::from_utf8_lossy(it.value()).trim_end_matches('\0').to_owned());
        Self { source, message }
    }

    fn named(self, request: String) -> Error {
        Error { request, source: self.source, message: self.message }
    }
}
