//! The terminal of `lab exec` in a node that has its own terminals: without a file in `/dev` that is this terminal,
//! `ttyname(3)` fails.

use std::io;
use std::os::fd::OwnedFd;

use nix::fcntl::AT_FDCWD;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::ttyname;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::process::node::devices::CONSOLE;

/// A mount of our terminal that is in no namespace yet.
#[derive(Debug)]
pub(super) struct Console(OwnedFd);

impl Console {
    /// The terminal of our standard input. Moves this process into a new mount namespace: there it has the right to
    /// mount, also in a user namespace that it has just entered.
    pub(super) fn of_stdin() -> Option<Self> {
        let path = ttyname(io::stdin()).ok()?;
        unshare(CloneFlags::CLONE_NEWNS).ok()?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Some(Self(open_tree(AT_FDCWD, path, flags).ok()?))
    }

    /// Makes it the console for this process and its children, if it has no name in the node that we have entered. The
    /// other processes of the node do not see it.
    pub(super) fn show(self) {
        if ttyname(io::stdin()).is_err() && unshare(CloneFlags::CLONE_NEWNS).is_ok() {
            let _ = move_mount(&self.0, "", AT_FDCWD, CONSOLE, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
        }
    }
}
