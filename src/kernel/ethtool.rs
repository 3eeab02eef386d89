//! Device settings by the SIOCETHTOOL ioctl (`ethtool_ioctl()` in the kernel's `net/ethtool/ioctl.c`).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::addr::IfName;

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_STXCSUM: u32 = 0x17;

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

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

    /// `ethtool -k NAME`: is transmit checksumming on?
    pub(super) fn tx_checksum(&self, name: &IfName) -> io::Result<bool> {
        Ok(self.value(name, ETHTOOL_GTXCSUM, 0)? != 0)
    }

    /// `ethtool -K NAME tx on|off`.
    pub(super) fn set_tx_checksum(&self, name: &IfName, on: bool) -> io::Result<()> {
        self.value(name, ETHTOOL_STXCSUM, u32::from(on))?;
        // A feature that the driver holds fixed stays as it was, without an error.
        if self.tx_checksum(name)? == on {
            return Ok(());
        }
        Err(io::Error::other("the driver holds transmit checksumming fixed"))
    }

    #[expect(unsafe_code, reason = "no crate offers this ioctl")]
    fn value(&self, name: &IfName, cmd: u32, data: u32) -> io::Result<u32> {
        let mut value = EthtoolValue { cmd, data };
        // SAFETY: all of ifreq's members may be zero bytes.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
            // Signed on some architectures, unsigned on others.
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        // SAFETY: the kernel reads and writes one ethtool_value behind the pointer; both outlive the call.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data) }
    }
}
