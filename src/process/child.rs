//! Replacing this process with a program, running one as a child, and the signals that arrive meanwhile.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, killpg, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::{Pid, execvp, getpid};

/// Replaces this process with a program, which is searched in PATH unless its name contains a slash. Environment, working
/// directory, open files and the signal mask are kept. Returns only if that fails.
pub fn exec(program: &OsStr, args: &[OsString]) -> io::Error {
    let words = std::iter::once(program).chain(args.iter().map(OsString::as_os_str));
    let words: Result<Vec<CString>, _> = words.map(|it| CString::new(it.as_bytes())).collect();
    let words = match words {
        Ok(it) => it,
        Err(error) => return error.into(),
    };
    // The Rust runtime ignores SIGPIPE, and a program would inherit that.
    if let Err(error) = set_action(Signal::SIGPIPE, &default_action()) {
        return error;
    }
    match words.first().map(|it| execvp(it, &words)) {
        Some(Err(error)) => error.into(),
        None | Some(Ok(_)) => io::ErrorKind::InvalidInput.into(),
    }
}

/// A child in a process group of its own.
#[derive(Debug)]
pub struct Child {
    child: std::process::Child,
}

impl Child {
    /// Starts a program without input. `stdout` selects its standard output.
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
        // An empty image may lack /dev/null.
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

    /// The exit status; None while the program is running.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Signals the whole process group. Ignores a missing one.
    pub fn signal(&self, signal: ChildSignal) {
        let signal = match signal {
            ChildSignal::Terminate => Signal::SIGTERM,
            ChildSignal::Kill => Signal::SIGKILL,
        };
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(pid), signal);
        }
    }

    /// Kills the program and reaps it.
    pub fn kill(mut self) {
        self.signal(ChildSignal::Kill);
        let _ = self.child.wait();
    }
}

/// Starts a program with no signal blocked.
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

/// An exit status in words: `exit code 1`, `killed by signal 9`.
pub fn status_text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The signals that end a program, blocked and read from a file descriptor. This works as PID 1 too, which the kernel
/// protects from signals without a handler.
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
    /// Signals that are ignored at the start (`nohup`) stay ignored.
    const ENDING: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

    /// Blocks the signals until [`Signals::release`], in this thread and those that it starts. Blocks SIGCHLD too, and SIGIO,
    /// which notifies of files.
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

    /// Reads the pending signals. As PID 1, reaps children that have ended, except `ours`.
    pub fn next(&self, ours: &[u32]) -> io::Result<Came> {
        let mut came = Came::default();
        while let Some(info) = self.file.read_signal()? {
            match i32::try_from(info.ssi_signo) {
                Ok(libc::SIGIO) => came.io = true,
                Ok(libc::SIGCHLD) => reap(ours),
                _ if came.ending.is_none() => {
                    came.ending = u8::try_from(info.ssi_signo).ok();
                    // Signals from the kernel have another code (sigaction(2)).
                    came.from_process = info.ssi_code <= 0;
                }
                _ => {}
            }
        }
        Ok(came)
    }

    /// Restores mask and dispositions. Returns the number of a pending signal that ends the program. Descriptors that
    /// send SIGIO must be closed before, because SIGIO would end the program now.
    pub fn release(self) -> io::Result<Option<u8>> {
        let came = self.next(&[])?;
        set_action(Signal::SIGCHLD, &self.on_child)?;
        self.mask.thread_set_mask()?;
        Ok(came.ending)
    }
}

/// The pending signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Came {
    /// The number of a signal that ends the program.
    pub ending: Option<u8>,
    /// That signal was sent by a process, not by the terminal.
    pub from_process: bool,
    /// SIGIO has arrived.
    pub io: bool,
}

/// Reaps orphans as PID 1, which inherits them. Any other process leaves children that it had before to the program that
/// replaces it.
fn reap(ours: &[u32]) {
    if getpid().as_raw() != 1 {
        return;
    }
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(status) = waitid(Id::All, look) {
        // A child of ours is reaped by its owner and hides the others until then; the signal arrives again.
        let Some(pid) = status.pid().filter(|it| !ours.iter().any(|our| *our == it.as_raw() as u32)) else {
            return;
        };
        if waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_err() {
            return;
        }
    }
}

fn default_action() -> SigAction {
    SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty())
}

#[expect(unsafe_code, reason = "no crate offers a safe way")]
fn set_action(signal: Signal, action: &SigAction) -> io::Result<SigAction> {
    // SAFETY: the action is the default one or the one before, so no handler of ours runs.
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
    // SAFETY: the call succeeded, so `now` is initialized.
    Ok(unsafe { now.assume_init() }.sa_sigaction == libc::SIG_IGN)
}
