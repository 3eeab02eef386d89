//! Executing a program, running a child process, and signals in the meantime.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, killpg, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, execvp, getpid};

/// Replaces this process with a program, which is searched in PATH unless its name contains a slash. Environment,
/// working directory, open files and signal mask are kept. Returns only if it fails.
pub fn exec(program: &OsStr, args: &[OsString]) -> io::Error {
    let words = std::iter::once(program).chain(args.iter().map(OsString::as_os_str));
    let words: Result<Vec<CString>, _> = words.map(|it| CString::new(it.as_bytes())).collect();
    let words = match words {
        Ok(it) => it,
        Err(error) => return error.into(),
    };
    // Rust ignores SIGPIPE at start-up, and the program would inherit that.
    if let Err(error) = set_action(Signal::SIGPIPE, &default_action()) {
        return error;
    }
    match words.first().map(|it| execvp(it, &words)) {
        Some(Err(error)) => error.into(),
        None | Some(Ok(_)) => io::ErrorKind::InvalidInput.into(),
    }
}

/// A child process in a process group of its own.
#[derive(Debug)]
pub struct Child {
    child: std::process::Child,
}

impl Child {
    /// Starts a program without input. Its standard output goes to `stdout`.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that starts programs")]
    pub fn start(program: &OsStr, args: &[OsString], stdout: ChildOutput) -> io::Result<Self> {
        let command = |stdin: Stdio| {
            let mut command = Command::new(program);
            command.args(args).process_group(0).stdin(stdin);
            if stdout == ChildOutput::Error {
                command.stdout(io::stderr().as_fd().try_clone_to_owned()?);
            }
            spawn(&mut command)
        };
        // An empty image may lack /dev/null too.
        let child = match std::fs::File::open("/dev/null") {
            Ok(null) => command(null.into()),
            Err(_) => command(Stdio::inherit()),
        }?;
        Ok(Self { child })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status; None while it runs.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Signals its whole process group. Succeeds if it no longer exists.
    pub fn signal(&self, signal: ChildSignal) {
        let signal = match signal {
            ChildSignal::Terminate => Signal::SIGTERM,
            ChildSignal::Kill => Signal::SIGKILL,
        };
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Child {
    /// Kills and reaps it if it is still running.
    fn drop(&mut self) {
        if let Ok(None) = self.ended() {
            self.signal(ChildSignal::Kill);
            let _ = self.child.wait();
        }
    }
}

/// Starts a program without the signal mask of [`Signals`].
pub(super) fn spawn(command: &mut Command) -> io::Result<std::process::Child> {
    #[expect(unsafe_code, reason = "the standard library has no other way")]
    // SAFETY: between fork and exec there is only one system call.
    unsafe {
        command.pre_exec(|| Ok(SigSet::empty().thread_set_mask()?))
    };
    command.spawn()
}

/// The standard output of a [`Child`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildOutput {
    /// Our standard output.
    Inherit,
    /// Our standard error.
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildSignal {
    Terminate,
    Kill,
}

/// An exit status as text: `exit code 1`, `killed by signal 9`.
pub fn status_text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The signals that end a program, blocked and read from a signalfd. This works as PID 1 too, which the kernel protects
/// from signals without a handler.
#[derive(Debug)]
pub struct Signals {
    file: SignalFd,
    mask: SigSet,
    on_child: SigAction,
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Signals {
    /// Signals that were ignored when this process started (`nohup`) stay ignored.
    const ENDING: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

    /// Blocks them until [`Signals::release`], in this thread and the threads it starts. Also blocks SIGCHLD and SIGIO.
    pub fn hold() -> io::Result<Self> {
        let mut held = SigSet::from(Signal::SIGIO);
        for signal in Self::ENDING {
            if !is_ignored(signal)? {
                held.add(signal);
            }
        }
        held.add(Signal::SIGCHLD);
        let mask = SigSet::thread_get_mask()?;
        // If SIGCHLD is ignored, children leave no exit status.
        let on_child = set_action(Signal::SIGCHLD, &default_action())?;
        held.thread_block()?;
        let file = SignalFd::with_flags(&held, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { file, mask, on_child })
    }

    /// Reads the received signals, up to the first that ends a program: the next call reads the others. As PID 1 it also
    /// reaps ended children, except `ours`.
    pub fn next(&self, ours: &[u32]) -> io::Result<Came> {
        let mut came = Came::default();
        while came.ending.is_none()
            && let Some(info) = self.file.read_signal()?
        {
            match i32::try_from(info.ssi_signo) {
                Ok(libc::SIGIO) => came.io = true,
                Ok(libc::SIGCHLD) => reap(ours),
                _ => {
                    came.ending = u8::try_from(info.ssi_signo).ok();
                    // Signals from the kernel have another code (sigaction(2)).
                    came.from_process = info.ssi_code <= 0;
                }
            }
        }
        Ok(came)
    }

    /// Restores the mask and the dispositions. Returns the number of a received signal that ends this process. Files
    /// with SIGIO must have been closed before, because SIGIO would now end the process.
    pub fn release(self) -> io::Result<Option<u8>> {
        let came = self.next(&[])?;
        set_action(Signal::SIGCHLD, &self.on_child)?;
        self.mask.thread_set_mask()?;
        Ok(came.ending)
    }
}

/// The received signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Came {
    /// The number of a signal that ends this process.
    pub ending: Option<u8>,
    /// It was sent by a process, and not by the terminal.
    pub from_process: bool,
    /// SIGIO was received.
    pub io: bool,
}

/// Reaps orphans as PID 1, which inherits them. Other processes leave inherited children to the program that they
/// execute.
fn reap(ours: &[u32]) {
    if getpid().as_raw() != 1 {
        return;
    }
    // One of ours is taken by who waits for it, and is in the way of the others until then: the signal comes again.
    while let Some(pid) = next_ended().filter(|it| !ours.contains(&it.as_raw().unsigned_abs())) {
        // Its status is of no interest, and for a real-time signal nix has none.
        if matches!(waitpid(pid, Some(WaitPidFlag::WNOHANG)), Err(nix::Error::ECHILD)) {
            return;
        }
    }
}

/// The next child that has ended, which stays as it is.
#[expect(
    unsafe_code,
    reason = "nix fails for a child that a real-time signal ended, rustix does not tell which it is"
)]
fn next_ended() -> Option<Pid> {
    let look = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the kernel writes to where `info` is, which is all zeros before.
    let info =
        unsafe { (libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), look) == 0).then(|| info.assume_init()) };
    // SAFETY: waitid() sets this field, or leaves it zero where no child has ended.
    let pid = info.map_or(0, |it| unsafe { it.si_pid() });
    (pid > 0).then(|| Pid::from_raw(pid))
}

fn default_action() -> SigAction {
    SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty())
}

#[expect(unsafe_code, reason = "no crate offers a safe way")]
fn set_action(signal: Signal, action: &SigAction) -> io::Result<SigAction> {
    // SAFETY: the action is the default or an earlier one of this process, so no new handler runs.
    Ok(unsafe { sigaction(signal, action) }?)
}

#[expect(unsafe_code, reason = "nix cannot read a disposition")]
fn is_ignored(signal: Signal) -> io::Result<bool> {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the call only writes the current one to `now`.
    let result = unsafe { libc::sigaction(signal as i32, std::ptr::null(), now.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded and has initialized it.
    Ok(unsafe { now.assume_init() }.sa_sigaction == libc::SIG_IGN)
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn every_signal_of_a_batch_is_read() {
        // On a thread of its own, because the signals stay blocked.
        let read = std::thread::spawn(|| {
            let signals = Signals::hold().unwrap();
            for signal in [Signal::SIGTERM, Signal::SIGIO, Signal::SIGHUP] {
                raise(signal).unwrap();
            }
            [(); 3].map(|()| signals.next(&[]).unwrap())
        });
        let came = read.join().unwrap();
        assert_eq!(came.map(|it| it.ending), [Some(1), Some(15), None]);
        assert!(came.iter().any(|it| it.io));
    }
}
