//! A program that has our terminal while it is running.

use std::io;
use std::os::fd::AsFd;
use std::process::Command;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::process::Signals;
use crate::process::child::spawn;
use crate::process::node::Ended;

/// A program with our standard streams, in our process group, so that signals of the terminal reach both.
#[derive(Debug)]
pub struct Foreground<'a> {
    pid: Pid,
    signals: &'a Signals,
}

impl<'a> Foreground<'a> {
    /// Starts a program, which is searched in PATH unless its name contains a slash. It gets our environment with `vars`
    /// set.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that starts programs")]
    pub fn start(words: &[String], vars: &[(&str, &str)], signals: &'a Signals) -> io::Result<Self> {
        let Some((program, args)) = words.split_first() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let child = spawn(Command::new(program).args(args).envs(vars.iter().copied()))?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        Ok(Self { pid: Pid::from_raw(pid), signals })
    }

    /// A running child. Our signals have been blocked since before its start.
    pub(super) fn of(pid: Pid, signals: &'a Signals) -> Self {
        Self { pid, signals }
    }

    /// Waits for the end of the program and forwards signals, except those of the terminal, which it gets itself. Signals
    /// that arrived before its end are consumed; later ones are for us.
    pub fn wait(&mut self) -> io::Result<Ended> {
        loop {
            if let Some(ended) = self.ended()? {
                self.signals.next(&[])?;
                return Ok(ended);
            }
            match poll(&mut [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.pass_on()?;
        }
    }

    /// Forwards the pending signals.
    pub(super) fn pass_on(&self) -> io::Result<()> {
        let came = self.signals.next(&[self.pid.as_raw().unsigned_abs()])?;
        let signal = came.ending.and_then(|it| Signal::try_from(i32::from(it)).ok());
        if let Some(signal) = signal
            && (came.from_process || matches!(signal, Signal::SIGTERM | Signal::SIGHUP))
        {
            let _ = kill(self.pid, signal);
        }
        Ok(())
    }

    /// How the program ended; None while it is running.
    fn ended(&self) -> io::Result<Option<Ended>> {
        match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(status) => Ok(Ended::of(status)),
            Err(nix::Error::EINTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
