//! Device settings by the SIOCETHTOOL ioctl (`ethtool_ioctl()` in the kernel's `net/ethtool/ioctl.c`).
//!
//! Every structure is an array of 32-bit words, and the first word is the command (`include/uapi/linux/ethtool.h`).
//! Only some fields of link settings are narrower.

mod features;
mod settings;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::addr::IfName;

pub(super) use features::Strings;

const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// A socket for ioctls in one namespace.
#[derive(Debug)]
pub(super) struct Ioctl {
    socket: OwnedFd,
}

impl Ioctl {
    /// Opens a socket in the namespace that the calling thread is in.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { socket: socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)? })
    }

    /// Exchanges a structure with the driver, which reads the words and overwrites them with its answer. `words` must
    /// have room for the whole structure of the command in its first word. Returns the result of the ioctl.
    #[expect(unsafe_code, reason = "no crate offers this ioctl")]
    fn exchange(&self, name: &IfName, words: &mut [u32]) -> io::Result<i32> {
        // SAFETY: all of ifreq's members may be zero bytes.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
            // The type is signed on some architectures.
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
        // SAFETY: the kernel reads and writes the command's structure behind the pointer, which the callers in this
        // module give room for; both outlive the call.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }
}
