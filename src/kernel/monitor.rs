//! The kernel's notices about interfaces.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use crate::addr::IfName;
use crate::kernel::netns;

/// RTM_DELLINK, as in `rtnetlink(7)`.
const DELLINK: u16 = 17;

/// Bytes of notices that may wait, before the kernel's own overhead: those of some thousand deletions.
const WAITING: usize = 4 << 20;

/// A socket that hears of every interface that goes from one namespace.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Monitor {
    pub(super) fn open(netns: &File) -> io::Result<Self> {
        let socket = netns::inside(netns, || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            socket.add_membership(MulticastGroup::Link as u32)?;
            socket.set_non_blocking(true)?;
            // Without these two it still works, until many interfaces come or go at once.
            let limit = setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &WAITING);
            if let Err(error) = limit.map_err(io::Error::from).and_then(|()| only_deletions(socket.as_fd())) {
                log::debug!("notices of interfaces may be lost: {error}");
            }
            Ok(socket)
        })?;
        Ok(Self { socket, buffer: vec![0; 64 * 1024] })
    }

    /// Names what was deleted, or left its bridge (which the kernel tells in the same way), by all notices that wait.
    /// Those lost in a flood (ENOBUFS) are not missed for long: whose interface went has died, or is looked at again
    /// when its container is.
    pub fn deleted(&mut self) -> io::Result<BTreeSet<IfName>> {
        let mut names = BTreeSet::new();
        loop {
            let length = match self.socket.recv(&mut &mut self.buffer[..], 0) {
                Ok(it) => it,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(names),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => continue,
                Err(error) => return Err(error),
            };
            let message = self.buffer.get(..length).unwrap_or_default();
            // Where the kernel does not filter, most notices tell of our own changes, and need not be read.
            if NetlinkBuffer::new_checked(message).is_ok_and(|it| it.message_type() == DELLINK) {
                names.extend(deleted_name(message));
            }
        }
    }
}

/// Has the kernel drop other notices before they take room: each of our own changes makes some, and a few dozen fill a
/// socket's default buffer long before we are done and read.
#[expect(unsafe_code, reason = "no crate offers SO_ATTACH_FILTER")]
fn only_deletions(socket: BorrowedFd) -> io::Result<()> {
    /// Where `nlmsg_type` is in `struct nlmsghdr`.
    const TYPE: u32 = 4;
    let op = |code: u32, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let mut program = [
        op(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, TYPE),
        // Filters read numbers as the network writes them, the kernel wrote this one in its own order.
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, u32::from(DELLINK.to_be())),
        op(libc::BPF_RET | libc::BPF_K, 0, u32::MAX),
        op(libc::BPF_RET | libc::BPF_K, 0, 0),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program that `filter` tells the place and length of; both outlive the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of_val(&filter) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn deleted_name(message: &[u8]) -> Option<IfName> {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).ok()?;
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) = message.payload else {
        return None;
    };
    link.attributes.iter().find_map(|it| match it {
        LinkAttribute::IfName(name) => name.parse().ok(),
        _ => None,
    })
}
