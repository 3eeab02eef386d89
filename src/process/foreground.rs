//! A child process in the foreground of our terminal.

use std::io;
use std::os::fd::AsFd;
use std::process::Command;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::io::Errno;
use rustix::process::{WaitOptions, waitpid};

use crate::process::Signals;
use crate::process::child::spawn;
use crate::process::node::Ended;

/// A child process with our standard streams and in our process group, so that signals of the terminal reach both.
#[derive(Debug)]
pub struct Foreground<'a> {
    pid: Pid,
    signals: &'a Signals,
}

impl<'a> Foreground<'a> {
    /// Starts a program, which is searched in PATH unless its name contains a slash. It gets our environment and
    /// `vars`.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that starts programs")]
    pub fn start(words: &[String], vars: &[(&str, &str)], signals: &'a Signals) -> io::Result<Self> {
        let Some((program, args)) = words.split_first() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let child = spawn(Command::new(program).args(args).envs(vars.iter().copied()))?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        Ok(Self { pid: Pid::from_raw(pid), signals })
    }

    /// A child that already runs. Signals were blocked before it was started.
    pub(super) fn of(pid: Pid, signals: &'a Signals) -> Self {
        Self { pid, signals }
    }

    /// Waits for its end, and passes signals on, except those that the terminal sends to the whole group. Signals
    /// before its end are consumed; later ones are for this process.
    pub fn wait(&mut self) -> io::Result<Ended> {
        loop {
            if let Some(ended) = self.ended()? {
                while self.signals.next(&[])?.ending.is_some() {}
                return Ok(ended);
            }
            match poll(&mut [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.pass_on()?;
        }
    }

    /// Passes on the received signals.
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
        match waitpid(rustix::process::Pid::from_raw(self.pid.as_raw()), WaitOptions::NOHANG) {
            Ok(found) => Ok(found.and_then(|(_, status)| Ended::of(status))),
            Err(Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
