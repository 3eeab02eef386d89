//! A filter of system calls (`seccomp(2)`): what containers may not call, nodes may not call either.

use std::io;

use libc::{sock_filter, sock_fprog};

use crate::process::Capability;

/// A call that is refused, unless the program has one of some capabilities.
struct Refused {
    /// A bit for each of the capabilities.
    unless: u64,
    /// Its number; -1 if there is none.
    number: libc::c_long,
    /// Its number for 32-bit programs on x86_64 (`asm/unistd_32.h`); -1 if there is none.
    number_32: libc::c_long,
}

const fn refused(unless: u64, number: libc::c_long, number_32: libc::c_long) -> Refused {
    Refused { unless, number, number_32 }
}

const NEVER: u64 = 0;
const SYS_ADMIN: u64 = Capability::SysAdmin.bit();

/// Those of Docker's default profile that exist today and reach the machine's kernel beyond the node: with keyrings, page
/// faults and user namespaces a program needs no capability for that.
const REFUSED: &[Refused] = &[
    refused(NEVER, libc::SYS_kexec_load, 283),
    refused(NEVER, libc::SYS_kexec_file_load, -1),
    refused(NEVER, libc::SYS_swapon, 87),
    refused(NEVER, libc::SYS_swapoff, 115),
    refused(NEVER, libc::SYS_add_key, 286),
    refused(NEVER, libc::SYS_request_key, 287),
    refused(NEVER, libc::SYS_keyctl, 288),
    refused(NEVER, libc::SYS_userfaultfd, 374),
    refused(NEVER, libc::SYS_io_uring_setup, 425),
    refused(NEVER, libc::SYS_io_uring_enter, 426),
    refused(NEVER, libc::SYS_io_uring_register, 427),
    refused(Capability::SysModule.bit(), libc::SYS_init_module, 128),
    refused(Capability::SysModule.bit(), libc::SYS_finit_module, 350),
    refused(Capability::SysModule.bit(), libc::SYS_delete_module, 129),
    refused(Capability::SysBoot.bit(), libc::SYS_reboot, 88),
    refused(Capability::SysPacct.bit(), libc::SYS_acct, 51),
    refused(Capability::SysTime.bit(), libc::SYS_settimeofday, 79),
    refused(Capability::SysTime.bit(), libc::SYS_clock_settime, 264),
    refused(Capability::SysTime.bit(), -1, 404), // clock_settime64
    refused(Capability::DacReadSearch.bit(), libc::SYS_open_by_handle_at, 342),
    refused(SYS_ADMIN | Capability::Bpf.bit(), libc::SYS_bpf, 357),
    refused(SYS_ADMIN | Capability::Perfmon.bit(), libc::SYS_perf_event_open, 336),
    refused(SYS_ADMIN, libc::SYS_mount, 21),
    refused(SYS_ADMIN, -1, 22), // umount
    refused(SYS_ADMIN, libc::SYS_umount2, 52),
    refused(SYS_ADMIN, libc::SYS_pivot_root, 217),
    refused(SYS_ADMIN, libc::SYS_open_tree, 428),
    refused(SYS_ADMIN, libc::SYS_move_mount, 429),
    refused(SYS_ADMIN, libc::SYS_fsopen, 430),
    refused(SYS_ADMIN, libc::SYS_fsconfig, 431),
    refused(SYS_ADMIN, libc::SYS_fsmount, 432),
    refused(SYS_ADMIN, libc::SYS_fspick, 433),
    refused(SYS_ADMIN, libc::SYS_mount_setattr, 442),
    refused(SYS_ADMIN, libc::SYS_unshare, 310),
    refused(SYS_ADMIN, libc::SYS_setns, 346),
    refused(SYS_ADMIN, libc::SYS_quotactl, 131),
    refused(SYS_ADMIN, libc::SYS_quotactl_fd, 443),
    refused(SYS_ADMIN, libc::SYS_fanotify_init, 338),
];

/// The architecture of this program (`AUDIT_ARCH_…` of `linux/audit.h`).
const ARCH: u32 = if cfg!(target_arch = "x86_64") { 0xC000_003E } else { 0xC000_00B7 };
/// That of 32-bit programs on x86_64.
const ARCH_I386: u32 = 0x4000_0003;

/// Flags of clone(2) that create namespaces.
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET)
    .cast_unsigned();

/// Refuses system calls to this thread, and to all threads and programs that it starts. Needs CAP_SYS_ADMIN.
pub(super) fn filter(capabilities: u64) -> io::Result<()> {
    let mut code = program(capabilities);
    let program =
        sock_fprog { len: u16::try_from(code.len()).map_err(io::Error::other)?, filter: code.as_mut_ptr() };
    #[expect(unsafe_code, reason = "no crate offers it")]
    // SAFETY: `program` points at `code`, of that length; the kernel copies it.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } {
        ..0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn op(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    // Codes have 16 bits.
    sock_filter { code: code as u16, jt, jf, k }
}

/// Loads a field of `seccomp_data`.
fn load(offset: u32) -> sock_filter {
    op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

/// Skips `then` instructions if the loaded value meets the condition, otherwise `otherwise`.
fn jump(condition: u32, value: u32, then: u8, otherwise: u8) -> sock_filter {
    op(libc::BPF_JMP | condition | libc::BPF_K, value, then, otherwise)
}

fn answer(errno: i32) -> sock_filter {
    op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned(), 0, 0)
}

/// The filter (`seccomp(2)`). The fields of `seccomp_data` are: the call at 0, the architecture at 4, its first argument
/// at 16.
fn program(capabilities: u64) -> Vec<sock_filter> {
    let refused = REFUSED.iter().filter(|it| it.unless & capabilities == 0);
    let numbers: Vec<u32> = refused.clone().filter_map(|it| u32::try_from(it.number).ok()).collect();
    let own = calls(&numbers, libc::SYS_clone as u32, capabilities);
    let mut code = vec![load(4), jump(libc::BPF_JEQ, ARCH, 0, own.len() as u8)];
    code.extend(own);
    if cfg!(target_arch = "x86_64") {
        let numbers: Vec<u32> = refused.filter_map(|it| u32::try_from(it.number_32).ok()).collect();
        let compatible = calls(&numbers, 120, capabilities);
        code.push(jump(libc::BPF_JEQ, ARCH_I386, 0, compatible.len() as u8));
        code.extend(compatible);
    }
    // Numbers of other architectures mean other calls.
    code.push(answer(libc::ENOSYS));
    code
}

/// The part of the filter for one architecture.
fn calls(refused: &[u32], clone: u32, capabilities: u64) -> Vec<sock_filter> {
    /// In a number: a call of the x32 architecture.
    const X32: u32 = 0x4000_0000;
    let allow = op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0);
    let mut code = vec![load(0), jump(libc::BPF_JGE, X32, 0, 1), answer(libc::ENOSYS)];
    for number in refused {
        code.extend([jump(libc::BPF_JEQ, *number, 0, 1), answer(libc::EPERM)]);
    }
    if capabilities & SYS_ADMIN == 0 {
        // The flags of clone3 are in memory, where no filter can look. The C library then uses clone.
        code.extend([jump(libc::BPF_JEQ, libc::SYS_clone3 as u32, 0, 1), answer(libc::ENOSYS)]);
        code.extend([
            jump(libc::BPF_JEQ, clone, 0, 3),
            load(16),
            jump(libc::BPF_JSET, NAMESPACES, 0, 1),
            answer(libc::EPERM),
        ]);
    }
    code.push(allow);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error of a system call with arguments 0.
    fn call(number: libc::c_long, first: libc::c_long) -> Option<i32> {
        #[expect(unsafe_code, reason = "no crate offers it")]
        // SAFETY: the calls of the test fail, or only read.
        let result = unsafe { libc::syscall(number, first, 0, 0, 0, 0, 0) };
        (result < 0).then(|| io::Error::last_os_error().raw_os_error().unwrap())
    }

    /// Runs `test` in a thread with a filter. None, if this machine has none.
    fn filtered<T: Send + 'static>(
        capabilities: u64,
        test: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        std::thread::spawn(move || filter(capabilities).ok().map(|()| test())).join().unwrap()
    }

    #[test]
    fn calls_that_reach_beyond_a_node_are_refused_and_others_work() {
        let Some(errors) = filtered(0, || {
            // One that is checked only after its arguments would answer with another error.
            let refused: Vec<_> = REFUSED.iter().filter(|it| it.number >= 0).map(|it| it.number).collect();
            let errors: Vec<_> = refused.into_iter().map(|it| call(it, -1)).collect();
            assert_eq!(call(libc::SYS_getppid, 0), None);
            assert_eq!(call(libc::SYS_clone, libc::CLONE_NEWUSER.into()), Some(libc::EPERM));
            assert_eq!(call(libc::SYS_clone3, 0), Some(libc::ENOSYS));
            std::thread::spawn(|| ()).join().unwrap();
            errors
        }) else {
            return;
        };
        assert_eq!(errors, vec![Some(libc::EPERM); errors.len()]);
    }

    #[test]
    fn a_capability_lifts_its_refusals() {
        let Some(errors) = filtered(SYS_ADMIN, || {
            [libc::SYS_setns, libc::SYS_quotactl_fd, libc::SYS_clone3].map(|it| call(it, -1))
        }) else {
            return;
        };
        assert_eq!(errors, [Some(libc::EBADF), Some(libc::EBADF), Some(libc::EINVAL)]);
    }

    #[test]
    fn jumps_of_the_filter_stay_in_it() {
        for capabilities in [0, SYS_ADMIN, u64::MAX] {
            let code = program(capabilities);
            for (at, it) in code.iter().enumerate().filter(|(_, it)| it.code & 7 == libc::BPF_JMP as u16) {
                assert!(at + usize::from(it.jt.max(it.jf)) + 1 < code.len());
            }
            assert!(code.len() < 256, "an offset has 8 bits");
        }
    }
}
