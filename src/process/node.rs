//! A program in new namespaces (network, host name, mounts and processes), on the root file system of the host.
//!
//! The first process is a copy of this one ([`clone(2)`] without exec). It sets up its environment, reports that it is
//! ready, waits for the start message, and executes the program as process 1 of its process namespace, as in a
//! container. When it ends, all processes in the namespace end, and with the last one the namespaces, interfaces and
//! mounts.
//!
//! [`clone(2)`]: https://man7.org/linux/man-pages/man2/clone.2.html

mod born;
mod console;
mod cover;
mod devices;
mod enter;
mod job;
mod mounts;
mod privileges;
mod seccomp;

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, fork};
use rustix::process::{WaitOptions, WaitStatus, wait};

use crate::process::handed_on::close_files_but;
use crate::process::rights;

pub use enter::{Entry, enter, enter_network, enter_user, run_inside};
pub use mounts::mount_volumes;
pub use privileges::Privileges;

/// The setup of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    pub hostname: String,
    pub domainname: Option<String>,
    /// A folder for files that the node writes: its root file system is then an overlay over the host's. None: it
    /// shares the host's files.
    pub layer: Option<PathBuf>,
    pub binds: Vec<Bind>,
    /// Folders with an empty tmpfs, each with its mount options.
    pub tmpfs: Vec<(String, String)>,
    /// Names (with dots) and values of sysctls.
    pub sysctls: Vec<(String, String)>,
    /// The program and its arguments. Empty: the node idles.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    pub folder: PathBuf,
    /// A missing folder is an error. Otherwise `/` takes its place.
    pub needs_folder: bool,
    /// User and groups, as numbers.
    pub user: Option<User>,
    /// Process 1 is ours: it passes signals on, and reaps orphans.
    pub init: bool,
    /// Folders of the host that the node sees as empty.
    pub hidden: Vec<PathBuf>,
    pub privileges: Privileges,
    /// Names of our own tools, which are used if the file system has no program of that name.
    pub own_programs: Vec<&'static str>,
}

/// A bind mount of a file or folder of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    pub source: PathBuf,
    pub target: PathBuf,
    pub read_only: bool,
}

/// The user and groups of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// The network namespace of a node.
#[derive(Clone, Copy, Debug)]
pub enum Net<'a> {
    Own,
    /// An existing one, by its file or by the pidfd of a process.
    Of(BorrowedFd<'a>),
}

/// A node, by its first process.
#[derive(Debug)]
pub struct Node {
    pid: Pid,
    pidfd: OwnedFd,
    /// A socket to the process. The other end is closed when the program runs.
    talk: OwnedFd,
}

/// A message of a node's first process before it executes the program.
#[derive(Debug)]
pub enum Heard {
    /// Its environment is set up; this is its network namespace.
    Ready(File),
    /// A part of the setup was not possible.
    Note(String),
    /// It runs no program.
    Idles,
    /// The setup failed, and the process ends.
    Failed(String),
    /// The program is running, or the process has ended.
    Began,
    /// No message yet.
    Nothing,
}

/// Whether a process reacts to a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heeds {
    Yes,
    No,
    /// It may wait for the signal without a handler. Programs also block signals briefly while they start others.
    MayWait,
    /// It is not known yet: a program that starts has no handlers at first.
    Busy,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Code(i32),
    Signal(i32),
}

impl Ended {
    /// None if the process has not ended.
    pub(super) fn of(status: WaitStatus) -> Option<Self> {
        let signal = status.terminating_signal().map(Self::Signal);
        status.exit_status().map(Self::Code).or(signal)
    }

    /// The exit code, or 128 plus the signal number as in shells.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(it) => it,
            Self::Signal(it) => 128 + it,
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(it) => write!(f, "exit code {it}"),
            Self::Signal(it) => match Signal::try_from(*it) {
                Ok(signal) => write!(f, "{}", signal.as_str()),
                Err(_) => write!(f, "signal {it}"),
            },
        }
    }
}

impl Node {
    /// Starts a node, which waits for [`Node::go`]. Its standard output and standard error go to `output`. Fails in a
    /// process with several threads, because the copy could need locks that other threads hold.
    pub fn start(setup: &Setup, net: Net<'_>, output: BorrowedFd<'_>) -> io::Result<Self> {
        alone()?;
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        )?;
        let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWPID;
        if matches!(net, Net::Own) {
            flags |= CloneFlags::CLONE_NEWNET;
        }
        match clone(flags)? {
            Cloned::Child => born::live(setup, net, output, &theirs),
            Cloned::Parent(pid, pidfd) => Ok(Self { pid, pidfd, talk: ours }),
        }
    }

    /// Its process number in our process namespace.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Its pidfd.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Readable when there is a message.
    pub fn talk(&self) -> BorrowedFd<'_> {
        self.talk.as_fd()
    }

    /// Its process number in the process namespace of our `/proc`.
    pub fn host_pid(&self) -> Option<i32> {
        number_in_proc(self.pidfd())
    }

    /// Makes it execute the program.
    pub fn go(&self) -> io::Result<()> {
        match rights::send(&self.talk, &[IoSlice::new(b"go")], &[], true) {
            Ok(_) => Ok(()),
            // It has ended, which is reported separately.
            Err(error) if is_hung_up(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The next message.
    pub fn hear(&self) -> io::Result<Heard> {
        let mut text = [0; 4096];
        let (bytes, files) = match rights::receive(&self.talk, &mut text, false) {
            Ok(it) => it,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Heard::Nothing),
            Err(error) if is_hung_up(&error) => return Ok(Heard::Began),
            Err(error) => return Err(error),
        };
        let said = text.get(..bytes).unwrap_or_default();
        let rest = || String::from_utf8_lossy(said.get(1..).unwrap_or_default()).into_owned();
        Ok(match (said.first(), files.into_iter().next()) {
            (Some(b'r'), Some(netns)) => Heard::Ready(File::from(netns)),
            (Some(b'n'), _) => Heard::Note(rest()),
            (Some(b'i'), _) => Heard::Idles,
            (None, _) => Heard::Began,
            _ => Heard::Failed(rest()),
        })
    }

    /// Sends a signal, also a real-time one. Succeeds if the process no longer exists.
    pub fn signal(&self, number: i32) {
        signal(self.pidfd(), number);
    }

    /// Does it react to that signal? Process 1 of a namespace only gets signals with a handler ([`pid_namespaces(7)`]).
    ///
    /// [`pid_namespaces(7)`]: https://man7.org/linux/man-pages/man7/pid_namespaces.7.html
    pub fn heeds(&self, signal: i32) -> Heeds {
        let read = |what: &str| {
            std::fs::read_to_string(format!("/proc/{}/{what}", self.host_pid().unwrap_or_default())).ok()
        };
        // An unreadable process is assumed to react.
        let (Some(before), Some(status), Some(after)) = (read("syscall"), read("status"), read("syscall"))
        else {
            return Heeds::Yes;
        };
        let has = |field: &str| {
            let mask = status.lines().find_map(|line| line.strip_prefix(field));
            let mask = mask.and_then(|it| u64::from_str_radix(it.trim(), 16).ok());
            mask.unwrap_or_default() >> (signal - 1) & 1 == 1
        };
        // A process that waits in sigtimedwait(2) does not block the signal in the meantime.
        let waits =
            |call: &str| call.split_whitespace().next() == Some(&libc::SYS_rt_sigtimedwait.to_string());
        if has("SigCgt:") {
            Heeds::Yes
        } else if has("SigBlk:") || waits(&before) {
            Heeds::MayWait
        } else if before != after || before.starts_with("running") {
            Heeds::Busy
        } else {
            Heeds::No
        }
    }
}

/// Whether the other end is closed.
fn is_hung_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Reaps the children of this thread that have ended: nodes, and orphans inherited as process 1. Children of other
/// threads are left to them.
pub fn buried() -> Vec<(i32, Ended)> {
    let mut found = Vec::new();
    while let Some(it) = next_ended() {
        found.push(it);
    }
    found
}

/// The next child that has ended.
fn next_ended() -> Option<(i32, Ended)> {
    // Children of this thread alone; rustix has no name for it.
    let options = WaitOptions::NOHANG | WaitOptions::from_bits_retain(libc::__WNOTHREAD.cast_unsigned());
    loop {
        match wait(options) {
            Ok(Some((pid, status))) => match Ended::of(status) {
                Some(ended) => return Some((pid.as_raw_nonzero().get(), ended)),
                None => continue,
            },
            Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Opens a pidfd, which is readable when the process has ended (`pidfd_open(2)`, Linux 5.3).
#[expect(unsafe_code, reason = "no crate offers it")]
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the arguments are numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The number of a process in our `/proc`. It may differ from its process number: the `/proc` of a lab's keeper is that
/// of the machine. None if the process has ended or is not in there.
pub fn number_in_proc(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok()).filter(|it| *it > 0)
}

/// Signals a process. Succeeds if it no longer exists.
#[expect(unsafe_code, reason = "no crate offers it")]
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) {
    // SAFETY: the arguments are numbers and a null pointer.
    unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<u8>(), 0)
    };
}

/// Waits until a process has ended. Returns false after `limit`.
pub fn wait_for_end(pidfd: BorrowedFd<'_>, limit: Duration) -> io::Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], timeout) {
            Ok(count) => return Ok(count > 0),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Kills a child and its whole process group.
pub fn kill_group(pid: i32) {
    let _ = nix::sys::signal::killpg(Pid::from_raw(pid), Signal::SIGKILL);
}

/// The user namespace of a new process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Our own, with permission to make other namespaces.
    Ours,
    /// A new one, in which our user is root.
    OwnUser,
}

/// Starts a process in a new session and in new network, mount and process namespaces. It runs `main`, which returns
/// its exit code, with only the standard streams and `kept` open. Returns its process number in our namespace. It
/// becomes an orphan.
pub fn detach(rights: Rights, kept: &[RawFd], main: impl FnOnce() -> i32) -> io::Result<i32> {
    alone()?;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    #[expect(unsafe_code, reason = "no crate offers a safe way")]
    // SAFETY: this process has one thread, so its copy may run any code.
    let child = match unsafe { fork() }? {
        nix::unistd::ForkResult::Parent { child } => child,
        nix::unistd::ForkResult::Child => {
            drop(ours);
            let result = detached(rights);
            if let Ok(Cloned::Child) = result {
                close_files_but(kept);
                leave(main());
            }
            let text = match result {
                Ok(Cloned::Parent(pid, _)) => format!("p{}", pid.as_raw()),
                Ok(Cloned::Child) => String::new(),
                Err(error) => format!("e{error}"),
            };
            let _ = nix::unistd::write(&theirs, text.as_bytes());
            leave(0);
        }
    };
    drop(theirs);
    let mut text = [0; 512];
    let bytes = nix::unistd::read(&ours, &mut text)?;
    let _ = waitpid(child, None);
    let said = String::from_utf8_lossy(text.get(..bytes).unwrap_or_default()).into_owned();
    match said.strip_prefix('p').map(str::parse) {
        Some(Ok(pid)) => Ok(pid),
        _ => Err(io::Error::other(said.get(1..).unwrap_or("it was killed").to_owned())),
    }
}

fn detached(rights: Rights) -> io::Result<Cloned> {
    nix::unistd::setsid()?;
    if rights == Rights::OwnUser {
        let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
        let what = |what: &str, it: io::Error| io::Error::new(it.kind(), format!("{what}: {it}"));
        nix::sched::unshare(CloneFlags::CLONE_NEWUSER)
            .map_err(|it| what("make a user namespace", it.into()))?;
        // Groups can be mapped only after setgroups(2) has been denied (user_namespaces(7)).
        for (file, text) in [
            ("setgroups", "deny".to_owned()),
            ("uid_map", format!("0 {uid} 1")),
            ("gid_map", format!("0 {gid} 1")),
        ] {
            std::fs::write(format!("/proc/self/{file}"), text)
                .map_err(|it| what(&format!("write {file}"), it))?;
        }
    }
    let flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID;
    let cloned = clone(flags).map_err(|it| {
        io::Error::new(it.kind(), format!("create network, mount and process namespaces: {it}"))
    })?;
    if let Cloned::Child = cloned {
        mounts::keep_to_ourselves()?;
    }
    Ok(cloned)
}

enum Cloned {
    Parent(Pid, OwnedFd),
    Child,
}

/// `fork()` into new namespaces, with a pidfd for the parent.
#[expect(unsafe_code, reason = "no crate offers clone(2) as a fork")]
fn clone(flags: CloneFlags) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let flags = flags.bits() as libc::c_long | i64::from(libc::CLONE_PIDFD) | i64::from(libc::SIGCHLD);
    // SAFETY: without CLONE_VM and a stack this is fork(): the child runs in a copy of our memory. The callers have
    // made sure that there is no other thread. The kernel writes the descriptor to `pidfd`, which is valid.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) };
    match pid {
        ..0 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        _ => {
            // SAFETY: the call has succeeded, so the descriptor is new and ours.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent(Pid::from_raw(i32::try_from(pid).unwrap_or(-1)), pidfd))
        }
    }
}

/// Number of threads that hold no lock while a node is made.
static RESTING: AtomicUsize = AtomicUsize::new(0);

/// Registers a running thread that is idle whenever a node is made. It must hold no lock then, neither ours nor one of
/// a library such as the allocator, because the copy could never release it.
pub fn add_resting_thread() {
    RESTING.fetch_add(1, Ordering::Relaxed);
}

/// Checks that only the calling thread and registered idle threads exist.
fn alone() -> io::Result<()> {
    // A thread that has just been joined may still exist in the kernel.
    let end = Instant::now() + Duration::from_secs(1);
    loop {
        // Two of the links are `.` and `..`.
        let threads = std::fs::metadata("/proc/self/task")?.nlink().saturating_sub(2);
        if threads <= 1 + RESTING.load(Ordering::Relaxed) as u64 {
            return Ok(());
        }
        if Instant::now() >= end {
            let message = format!("{threads} threads are running, expected only paused ones");
            return Err(io::Error::other(message));
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Ends this process without the exit handlers of the process that it is a copy of.
#[expect(unsafe_code, reason = "no crate offers it")]
fn leave(code: i32) -> ! {
    // SAFETY: it takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// Sends a message to the parent. Errors are ignored.
fn say(talk: &OwnedFd, letter: u8, text: &str, file: Option<&File>) {
    let files: Vec<_> = file.map(AsFd::as_fd).into_iter().collect();
    // The other end reads a message at once, so longer texts are cut.
    let cut = text.char_indices().map(|(at, _)| at).find(|it| *it > 4000).unwrap_or(text.len());
    let letter = [letter];
    let parts = [IoSlice::new(&letter), IoSlice::new(text.get(..cut).unwrap_or_default().as_bytes())];
    let _ = rights::send(talk, &parts, &files, true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        clippy::zombie_processes,
        reason = "the test is about the end of a program"
    )]
    fn a_real_time_signal_ends_a_process_like_any_other() {
        for (script, expected) in
            [("kill -34 $$", Ended::Signal(34)), ("kill -9 $$", Ended::Signal(9)), ("exit 7", Ended::Code(7))]
        {
            let child = std::process::Command::new("sh").args(["-c", script]).spawn().unwrap();
            let pid = rustix::process::Pid::from_child(&child);
            let (_, status) = rustix::process::waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
            assert_eq!(Ended::of(status), Some(expected), "{script}");
        }
    }
}
