//! What copies of a process and started programs must not inherit: open files, and the raised limit on them.

use std::os::fd::RawFd;
use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The soft limit at the start.
static SOFT: OnceLock<u64> = OnceLock::new();

/// Raises the limit of open files to the hard limit. Started programs must get the old limit back: some loop over all
/// numbers up to it, or use `select(2)`, which is limited to 1024.
pub fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        SOFT.get_or_init(|| soft);
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

pub(super) fn restore_file_limit() {
    if let (Some(soft), Ok((_, hard))) = (SOFT.get(), getrlimit(Resource::RLIMIT_NOFILE)) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, (*soft).min(hard), hard);
    }
}

/// Closes every file from number 3 on except these (`close_range(2)`, Linux 5.9). Only for copies of a process, which
/// never return to code that uses one of the others.
pub(super) fn close_files_but(kept: &[RawFd]) {
    let mut kept: Vec<u32> = kept.iter().filter_map(|it| u32::try_from(*it).ok()).collect();
    kept.sort_unstable();
    let mut from = 3;
    for it in kept.into_iter().filter(|it| *it >= 3) {
        if it > from {
            close_range(from, it - 1);
        }
        from = it + 1;
    }
    close_range(from, u32::MAX);
}

#[expect(unsafe_code, reason = "no crate offers it")]
fn close_range(first: u32, last: u32) {
    // SAFETY: the callers do not use the closed files.
    unsafe {
        libc::syscall(libc::SYS_close_range, first, last, 0);
    }
}
