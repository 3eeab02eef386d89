//! Runs a further program in the namespaces of a node.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork};

use crate::process::handed_on::{close_files_but, restore_file_limit};
use crate::process::node::born::{Program, change_user, reset_signals};
use crate::process::node::job::Terminal;
use crate::process::node::{Ended, Setup, alone, leave, mounts};
use crate::process::{Foreground, Signals};

/// The namespaces to enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// All namespaces of a node. `user`: it is in another user namespace.
    Node { user: bool },
    /// The network namespace, with the host's name and files except `/proc` and `/sys`. Also the process namespace, so that
    /// the program ends with its process 1, the keeper of the lab.
    Network { user: bool },
}

impl Entry {
    fn flags(self) -> CloneFlags {
        let (flags, user) = match self {
            Self::Node { user } => (
                CloneFlags::CLONE_NEWNET
                    | CloneFlags::CLONE_NEWNS
                    | CloneFlags::CLONE_NEWUTS
                    | CloneFlags::CLONE_NEWPID,
                user,
            ),
            Self::Network { user } => (CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID, user),
        };
        if user { flags | CloneFlags::CLONE_NEWUSER } else { flags }
    }
}

/// Moves this process into namespaces of the process behind a pidfd (Linux 5.8) and runs a program there. It uses program,
/// environment, directory and user of the setup. The program has our standard streams and gets our signals. Returns how it
/// ended. This process cannot go back to its old namespaces.
///
/// The parent of the program is an intermediate process, which Ctrl-Z does not stop. Process 1 of a namespace ends only
/// after all processes there are reaped ([`pid_namespaces(7)`]), so a stopped parent would block its end.
///
/// [`pid_namespaces(7)`]: https://man7.org/linux/man-pages/man7/pid_namespaces.7.html
pub fn enter(pidfd: &OwnedFd, entry: Entry, setup: &Setup) -> io::Result<Ended> {
    alone()?;
    // The intermediate process stays outside of the process namespace, because its parent reaps it.
    join(pidfd.as_fd(), entry.flags() - CloneFlags::CLONE_NEWPID)?;
    let terminal = Terminal::ours();
    let signals = Signals::hold()?;
    #[expect(unsafe_code, reason = "no crate offers a safe way")]
    // SAFETY: this process has one thread.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Foreground::of(child, &signals).wait(),
        ForkResult::Child => {
            let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
            let stops = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];
            // The program gets the old mask, without blocked signals.
            let _ = stops.into_iter().collect::<SigSet>().thread_block();
            let views = matches!(entry, Entry::Network { .. });
            match run(pidfd, CloneFlags::CLONE_NEWPID, views, terminal, setup, signals) {
                Ok(it) => leave(it.code()),
                Err(error) => {
                    say(&format!("enter the process namespace: {error}"));
                    leave(126)
                }
            }
        }
    }
}

/// Enters the namespaces and runs the program there as a child until its end. Blocked signals are forwarded. With `views`
/// the program has a `/proc` and `/sys` of its own. It gets the `terminal`.
fn run(
    pidfd: &OwnedFd,
    flags: CloneFlags,
    views: bool,
    terminal: Option<Terminal>,
    setup: &Setup,
    signals: Signals,
) -> io::Result<Ended> {
    join(pidfd.as_fd(), flags)?;
    #[expect(unsafe_code, reason = "no crate offers a safe way")]
    // SAFETY: this process has one thread.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => match terminal {
            Some(it) => it.wait(child, &signals),
            None => Foreground::of(child, &signals).wait(),
        },
        ForkResult::Child => {
            if views {
                show_own_views();
            }
            if terminal.is_some() {
                Terminal::take();
            }
            let _ = signals.release();
            replace(setup)
        }
    }
}

/// Moves this process into the user namespace of the process behind a pidfd, in which it is root.
pub fn enter_user(pidfd: &OwnedFd) -> io::Result<()> {
    alone()?;
    Ok(join(pidfd.as_fd(), CloneFlags::CLONE_NEWUSER)?)
}

/// Enters namespaces of the process behind a pidfd (Linux 5.8), or one namespace by its file. Needs a process with a single
/// thread.
#[expect(clippy::disallowed_methods, reason = "only this function moves a process into a namespace")]
pub(super) fn join(of: BorrowedFd<'_>, flags: CloneFlags) -> nix::Result<()> {
    setns(of, flags)
}

/// Runs a further program in a node, without input; its output goes to `output`. Returns the process id of a child that
/// ends like the program.
pub fn run_inside(pidfd: &OwnedFd, setup: &Setup, output: OwnedFd) -> io::Result<i32> {
    alone()?;
    #[expect(unsafe_code, reason = "no crate offers a safe way")]
    // SAFETY: this process has one thread.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child.as_raw()),
        ForkResult::Child => {
            let _ = nix::unistd::setsid();
            reset_signals();
            restore_file_limit();
            let ended = std::fs::File::open("/dev/null")
                .and_then(|null| Ok(dup2_stdin(null).and(dup2_stdout(&output)).and(dup2_stderr(&output))?))
                .and_then(|()| {
                    debug_assert!(output.as_raw_fd() > 2);
                    // The child lives as long as the program and must not hold files of the keeper.
                    close_files_but(&[pidfd.as_raw_fd()]);
                    // The session has no terminal, so Ctrl-Z cannot stop it.
                    run(pidfd, Entry::Node { user: false }.flags(), false, None, setup, Signals::hold()?)
                });
            match ended {
                Ok(it) => leave(it.code()),
                Err(error) => {
                    let _ = io::Write::write_all(&mut io::stderr(), format!("{error}\n").as_bytes());
                    leave(126)
                }
            }
        }
    }
}

/// Mounts the `/proc` of this process namespace and the `/sys` of this network namespace: with those of the machine, `ps`
/// fails and `pkill` would signal wrong processes. If the kernel refuses, those of the machine stay.
fn show_own_views() {
    let own = nix::sched::unshare(CloneFlags::CLONE_NEWNS).map_err(io::Error::from);
    if own.and_then(|()| mounts::keep_to_ourselves()).is_ok() {
        let _ = mounts::mount_kernel_views(true);
    }
}

/// Becomes the program. If that fails, the exit codes are those of shells.
fn replace(setup: &Setup) -> ! {
    #[expect(unsafe_code, reason = "no crate offers a safe way")]
    // SAFETY: the default action runs no code of ours. The Rust runtime ignores the signal, and a program would inherit that.
    let _ = unsafe {
        nix::sys::signal::signal(nix::sys::signal::Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl)
    };
    if nix::unistd::chdir(&setup.folder).is_err() {
        let _ = nix::unistd::chdir("/");
    }
    let Some(program) = Program::find(setup) else {
        say(&format!("program `{}` not found", setup.argv.first().map(String::as_str).unwrap_or_default()));
        leave(127);
    };
    if let Some(user) = &setup.user
        && let Err(why) = change_user(user)
    {
        say(&why);
        leave(126);
    }
    // The program must end if this process is killed. Set after the change of user, which would reset it.
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    match program.exec(setup) {
        Ok(it) => match it {},
        Err(why) => {
            say(&why);
            leave(126)
        }
    }
}

fn say(text: &str) {
    let _ = io::Write::write_all(&mut io::stderr(), format!("error: {text}\n").as_bytes());
}
