//! Sending and receiving file descriptors over a unix socket (SCM_RIGHTS, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Most file descriptors in one message (`SCM_MAX_FD` in the kernel's `include/net/scm.h`).
const SCM_MAX_FD: usize = 253;

/// Receives bytes and file descriptors. The descriptors are close-on-exec. Returns the number of bytes; 0 is the end of
/// the stream.
///
/// # Errors
/// recvmsg(2); without `wait`, `WouldBlock` if there is nothing to receive.
#[expect(unsafe_code, reason = "received file descriptors are plain numbers")]
pub fn receive(socket: impl AsFd, bytes: &mut [u8], wait: bool) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; SCM_MAX_FD]);
    let mut parts = [IoSliceMut::new(bytes)];
    let flags = if wait { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
    let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut files = Vec::new();
    for it in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = it {
            // SAFETY: the kernel has just made them, and no other code uses them.
            files.extend(received.into_iter().map(|it| unsafe { OwnedFd::from_raw_fd(it) }));
        }
    }
    Ok((message.bytes, files))
}

/// Sends bytes, and file descriptors with the first byte. Returns the number of bytes sent.
///
/// # Errors
/// sendmsg(2), without SIGPIPE; without `wait`, `WouldBlock` if the socket's buffer is full.
pub fn send(
    socket: impl AsFd,
    parts: &[IoSlice<'_>],
    files: &[BorrowedFd<'_>],
    wait: bool,
) -> io::Result<usize> {
    let numbers: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let controls = if files.is_empty() { &[][..] } else { &rights[..] };
    let flags = if wait { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
    let flags = flags | MsgFlags::MSG_NOSIGNAL;
    Ok(sendmsg::<()>(socket.as_fd().as_raw_fd(), parts, controls, flags, None)?)
}
