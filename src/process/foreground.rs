//! A program that has our terminal for as long as it runs.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::Signals;
use crate::process::node::Ended;

/// A program with our standard streams, in our process group: what the terminal sends reaches both.
#[derive(Debug)]
pub struct Foreground {
    child: Child,
    signals: Signals,
}

impl Foreground {
    /// Starts a program, which is looked for in PATH unless its name has a slash. It gets our environment with `vars`
    /// set. From now on signals that would end us are held back.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that starts programs")]
    pub fn start(words: &[String], vars: &[(&str, &str)]) -> io::Result<Self> {
        let Some((program, args)) = words.split_first() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let signals = Signals::hold()?;
        let child = Command::new(program).args(args).envs(vars.iter().copied()).spawn()?;
        Ok(Self { child, signals })
    }

    /// Waits for its end. SIGTERM and SIGHUP are passed on; what the terminal sends it has got itself.
    pub fn wait(&mut self) -> io::Result<Ended> {
        let pid = i32::try_from(self.child.id()).map_err(io::Error::other)?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(match status.signal() {
                    Some(signal) => Ended::Signal(signal),
                    None => Ended::Code(status.code().unwrap_or(1)),
                });
            }
            match poll(&mut [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let came = self.signals.next(&[self.child.id()])?.ending;
            let signal = came.and_then(|it| Signal::try_from(i32::from(it)).ok());
            if let Some(signal @ (Signal::SIGTERM | Signal::SIGHUP)) = signal {
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
    }
}
