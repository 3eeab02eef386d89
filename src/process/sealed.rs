//! Running from a copy of our binary in memory. Programs in a node can open the binary of its processes (`/proc/1/exe`),
//! and as root change the owner and mode of that file.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Executes a sealed copy of this binary, with the path of the binary and these arguments. Returns an error, or nothing
/// in the copy.
#[expect(clippy::disallowed_methods, reason = "this is the one place that starts programs")]
pub fn run_sealed(args: &[OsString]) -> io::Result<()> {
    let mut own = File::open("/proc/self/exe")?;
    if fcntl(&own, FcntlArg::F_GET_SEALS).is_ok_and(|it| it & SealFlag::F_SEAL_WRITE.bits() != 0) {
        // The kernel has named the process after a number.
        return Ok(nix::sys::prctl::set_name(c"conlink")?);
    }
    let path = std::fs::read_link("/proc/self/exe")?;
    let mut copy = executable()?;
    io::copy(&mut own, &mut copy)?;
    // Since Linux 6.3: a node must not take the right to execute it from the other nodes.
    let _ = fcntl(&copy, FcntlArg::F_ADD_SEALS(SealFlag::from_bits_retain(libc::F_SEAL_EXEC)));
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    let file = Path::new("/proc/self/fd").join(copy.as_raw_fd().to_string());
    Err(Command::new(file).arg0(path).args(args).exec())
}

/// An empty file in memory that may be executed.
fn executable() -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Linux 6.3 and later require the flag if `vm.memfd_noexec` is 1, earlier versions refuse it.
    let exec = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let file = memfd_create(c"conlink", flags | exec).or_else(|_| memfd_create(c"conlink", flags))?;
    Ok(file.into())
}
