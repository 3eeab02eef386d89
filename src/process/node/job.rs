//! Makes a program the foreground job of our terminal, as a shell with job control does.
//!
//! A program in a process namespace cannot see a process group from outside. A shell there could neither detect that it
//! is in the foreground nor give the terminal back. So the program gets a process group of its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getpgrp, getpid, getppid, getsid, isatty, setpgid, tcgetpgrp, tcsetpgrp};
use rustix::process::WaitOptions;

use crate::process::node::Ended;
use crate::process::{Foreground, Signals};

/// The terminal of a process that leads the foreground group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    /// The leader, which is also the id of its group.
    leader: Pid,
    /// A shell waits for the leader: it notices when the leader stops, and continues it.
    has_shell: bool,
}

impl Terminal {
    /// Our terminal. None unless this process leads the foreground group and all standard streams are the terminal: in
    /// a script or pipeline Ctrl-C must reach the other processes of the group too.
    pub(super) fn ours() -> Option<Self> {
        let leader = getpid();
        let stdin = io::stdin();
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let is_ours = |it: &BorrowedFd<'_>| isatty(it).unwrap_or(false) && tcgetpgrp(it) == Ok(leader);
        let has_shell = getsid(Some(getppid())).is_ok_and(|it| getsid(None) == Ok(it));
        (getpgrp() == leader && streams.iter().all(is_ours)).then_some(Self { leader, has_shell })
    }

    /// Moves this process into a new group in the foreground. SIGTTOU must be blocked.
    pub(super) fn take() {
        let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
        let _ = tcsetpgrp(io::stdin(), getpid());
    }

    /// Waits for a child that has taken the terminal. If the child stops, the leader stops too; if the leader
    /// continues, so does the child. SIGTTOU must be blocked.
    pub(super) fn wait(self, child: Pid, signals: &Signals) -> io::Result<Ended> {
        let continued = SigSet::from(Signal::SIGCONT);
        continued.thread_block()?;
        let continued = SignalFd::with_flags(&continued, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let program = Foreground::of(child, signals);
        loop {
            let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
            match rustix::process::waitpid(rustix::process::Pid::from_raw(child.as_raw()), options) {
                Ok(Some((_, status))) if status.stopped() && self.has_shell => {
                    let _ = tcsetpgrp(io::stdin(), self.leader);
                    let _ = kill(self.leader, Signal::SIGSTOP);
                }
                // Nobody would let it go on.
                Ok(Some((_, status))) if status.stopped() => drop(killpg(child, Signal::SIGCONT)),
                Ok(Some((_, status))) => {
                    if let Some(ended) = Ended::of(status) {
                        let _ = tcsetpgrp(io::stdin(), self.leader);
                        return Ok(ended);
                    }
                }
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let mut files = [signals.as_fd(), continued.as_fd()].map(|it| PollFd::new(it, PollFlags::POLLIN));
            match poll(&mut files, PollTimeout::NONE) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            program.pass_on()?;
            if continued.read_signal()?.is_some() {
                // After `fg` the leader's group is in the foreground, after `bg` it is not.
                if tcgetpgrp(io::stdin()) == Ok(self.leader) {
                    let _ = tcsetpgrp(io::stdin(), child);
                }
                let _ = killpg(child, Signal::SIGCONT);
            }
        }
    }
}
