//! What a process hands on to its copies and to programs that it starts, and should not: open files, and a limit on them
//! that it has raised for itself.

use std::os::fd::RawFd;
use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The soft limit that we were started with.
static SOFT: OnceLock<u64> = OnceLock::new();

/// Allows this process as many open files as it may have at all. Programs have to be given their own limit back: some
/// go through every number up to it, or use `select(2)`, which knows 1024.
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

/// Closes every file from number 3 on but these (`close_range(2)`, Linux 5.9). For copies of a process alone, which never
/// come back to code that believes to have one of them.
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
    // SAFETY: the callers use nothing that is closed.
    unsafe {
        libc::syscall(libc::SYS_close_range, first, last, 0);
    }
}
