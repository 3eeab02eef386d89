//! What the kernel allows the programs of a node.

use std::io;

use crate::process::Capability;
use crate::process::node::seccomp;

/// What the kernel allows a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// A bit for each capability, by its number.
    pub capabilities: u64,
    /// System calls that containers may not use are refused.
    pub filtered: bool,
}

impl Default for Privileges {
    /// Those of this process.
    fn default() -> Self {
        Self { capabilities: u64::MAX, filtered: false }
    }
}

impl Privileges {
    /// Whether the program may change mounts.
    pub(super) fn may_mount(self) -> bool {
        self.capabilities & Capability::SysAdmin.bit() != 0
    }

    /// Limits what this process and its programs can ever get. Its own capabilities stay until [`Self::lower`], so it can
    /// still switch to another user.
    pub(super) fn limit(self) -> io::Result<()> {
        for number in 0..u64::BITS {
            match prctl(libc::PR_CAPBSET_READ, number.into()) {
                Ok(0) => {}
                Ok(_) if self.capabilities >> number & 1 == 1 => {}
                Ok(_) => drop(prctl(libc::PR_CAPBSET_DROP, number.into())?),
                // The kernel knows no capability of this number and above.
                Err(_) => break,
            }
        }
        if self.filtered { seccomp::filter(self.capabilities) } else { Ok(()) }
    }

    /// Gives up the capabilities of this process that its programs will not have.
    pub(super) fn lower(self) -> io::Result<()> {
        // Version 3: two sets of 32 bits each (capget(2)).
        let header = Header { version: 0x2008_0522, pid: 0 };
        let mut sets = [Sets::default(); 2];
        let call = |number, sets: &mut [Sets; 2]| {
            #[expect(unsafe_code, reason = "no crate offers it")]
            // SAFETY: the kernel reads the header, and reads or writes as many sets as the version has.
            let result = unsafe { libc::syscall(number, &raw const header, sets.as_mut_ptr()) };
            if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        };
        call(libc::SYS_capget, &mut sets)?;
        for (at, it) in sets.iter_mut().enumerate() {
            let kept = (self.capabilities >> (32 * at)) as u32;
            *it = Sets { effective: it.effective & kept, permitted: it.permitted & kept, inheritable: 0 };
        }
        call(libc::SYS_capset, &mut sets)
    }
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

#[expect(unsafe_code, reason = "nix does not offer these operations")]
fn prctl(operation: i32, argument: libc::c_ulong) -> io::Result<i32> {
    // SAFETY: the operations of the callers take a number.
    match unsafe { libc::prctl(operation, argument, 0, 0, 0) } {
        ..0 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}
