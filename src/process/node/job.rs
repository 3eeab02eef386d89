//! Makes a program the foreground job of our terminal, like a shell with job control.
//!
//! A program in a process namespace cannot see a process group from outside, so a shell could neither find itself in the
//! foreground nor return the terminal at its end. Therefore it gets a group of its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp, getpid, getppid, getsid, isatty, setpgid, tcgetpgrp, tcsetpgrp};

use crate::process::node::Ended;
use crate::process::{Foreground, Signals};

/// The terminal of a process that leads the foreground group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    /// The leader, which is also the id of its group.
    leader: Pid,
    /// A shell waits for the leader, notices when it stops, and can continue it.
    has_shell: bool,
}

impl Terminal {
    /// Our terminal. None unless we lead the foreground group and all standard streams are the terminal: in a script or a
    /// pipeline, Ctrl-C must reach the other processes of the group too.
    pub(super) fn ours() -> Option<Self> {
        let leader = getpid();
        let stdin = io::stdin();
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let is_ours = |it: &BorrowedFd<'_>| isatty(it).unwrap_or(false) && tcgetpgrp(it) == Ok(leader);
        let has_shell = getsid(Some(getppid())).is_ok_and(|it| getsid(None) == Ok(it));
        (getpgrp() == leader && streams.iter().all(is_ours)).then_some(Self { leader, has_shell })
    }

    /// Puts this process into a group of its own, in the foreground. SIGTTOU must be blocked.
    pub(super) fn take() {
        let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
        let _ = tcsetpgrp(io::stdin(), getpid());
    }

    /// Waits for the end of a child that has taken the terminal. The leader stops and continues together with the child.
    /// SIGTTOU must be blocked.
    pub(super) fn wait(self, child: Pid, signals: &Signals) -> io::Result<Ended> {
        let continued = SigSet::from(Signal::SIGCONT);
        continued.thread_block()?;
        let continued = SignalFd::with_flags(&continued, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let program = Foreground::of(child, signals);
        loop {
            match waitpid(child, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
                Ok(WaitStatus::Stopped(..)) if self.has_shell => {
                    let _ = tcsetpgrp(io::stdin(), self.leader);
                    let _ = kill(self.leader, Signal::SIGSTOP);
                }
                // Nothing would continue it.
                Ok(WaitStatus::Stopped(..)) => drop(killpg(child, Signal::SIGCONT)),
                Ok(WaitStatus::StillAlive) | Err(nix::Error::EINTR) => {}
                Ok(status) => {
                    if let Some(ended) = Ended::of(status) {
                        let _ = tcsetpgrp(io::stdin(), self.leader);
                        return Ok(ended);
                    }
                }
                Err(error) => return Err(error.into()),
            }
            let mut files = [signals.as_fd(), continued.as_fd()].map(|it| PollFd::new(it, PollFlags::POLLIN));
            match poll(&mut files, PollTimeout::NONE) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            program.pass_on()?;
            if continued.read_signal()?.is_some() {
                // `fg` has put the leader's group into the foreground, `bg` has not.
                if tcgetpgrp(io::stdin()) == Ok(self.leader) {
                    let _ = tcsetpgrp(io::stdin(), child);
                }
                let _ = killpg(child, Signal::SIGCONT);
            }
        }
    }
}
