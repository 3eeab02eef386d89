//! Another program in the namespaces of a node.

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

/// Into which of a process's namespaces to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// All that a node has of its own; the flag says whether it is in another user namespace than we are.
    Node { user: bool },
    /// The network, with host name and files left as they are, but for `/proc` and `/sys`. The processes as well:
    /// process 1 of the namespace, a lab's keeper, is to take all that runs in its network with it.
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

/// Moves this process into namespaces of the process behind a pidfd (Linux 5.8). Of the setup count program, environment,
/// folder and user; the program runs with our standard streams, gets the signals that we get, and its end is answered.
/// This process stays where it is then: there is no way back.
///
/// The program's parent is a process between the two, which a Ctrl-Z does not stop. Process 1 of a namespace ends only
/// once every process in there is reaped ([`pid_namespaces(7)`]): a parent that is stopped would hold up its end.
///
/// [`pid_namespaces(7)`]: https://man7.org/linux/man-pages/man7/pid_namespaces.7.html
pub fn enter(pidfd: &OwnedFd, entry: Entry, setup: &Setup) -> io::Result<Ended> {
    alone()?;
    // The process between stays outside of the process namespace, as its parent would have to reap it.
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
            // The program has none of them blocked: it gets the mask of before.
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

/// Enters the namespaces, and runs the program there as a child until its end. Signals that are held back are passed on.
/// With `views` it has a `/proc` and `/sys` of its own; `terminal` is given to it.
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

/// Moves this process into the user namespace of the process behind a pidfd, where it may do whatever root does there.
pub fn enter_user(pidfd: &OwnedFd) -> io::Result<()> {
    alone()?;
    Ok(join(pidfd.as_fd(), CloneFlags::CLONE_NEWUSER)?)
}

/// Enters namespaces of the process behind a pidfd (Linux 5.8), or one by its own file. In a process of one thread alone.
#[expect(clippy::disallowed_methods, reason = "this is the one place of processes that enters a namespace")]
pub(super) fn join(of: BorrowedFd<'_>, flags: CloneFlags) -> nix::Result<()> {
    setns(of, flags)
}

/// Runs a program in a node beside its own, without input; what it prints goes to `output`. Answers the process id of a
/// child of ours that ends as the program does.
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
                    // It stays for as long as the program runs, and must not hold what is the keeper's.
                    close_files_but(&[pidfd.as_raw_fd()]);
                    // The session is ours alone: nobody stops it by a Ctrl-Z.
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

/// Gives this process the `/proc` of its process namespace and the `/sys` of its network: with those of the machine
/// `ps` fails, and `pkill` would signal a process of another number. Where the kernel refuses, they are the machine's.
fn show_own_views() {
    let own = nix::sched::unshare(CloneFlags::CLONE_NEWNS).map_err(io::Error::from);
    if own.and_then(|()| mounts::keep_to_ourselves()).is_ok() {
        let _ = mounts::mount_kernel_views(true);
    }
}

/// Becomes the program; the exit codes where it cannot are those of shells.
fn replace(setup: &Setup) -> ! {
    #[expect(unsafe_code, reason = "no crate offers a safe way")]
    // SAFETY: the default action runs no code of ours. Rust's start-up ignores it, and a program would inherit that.
    let _ = unsafe {
        nix::sys::signal::signal(nix::sys::signal::Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl)
    };
    if nix::unistd::chdir(&setup.folder).is_err() {
        let _ = nix::unistd::chdir("/");
    }
    let Some(program) = Program::find(setup) else {
        say(&format!(
            "there is no program `{}` here",
            setup.argv.first().map(String::as_str).unwrap_or_default()
        ));
        leave(127);
    };
    if let Some(user) = &setup.user
        && let Err(why) = change_user(user)
    {
        say(&why);
        leave(126);
    }
    // Were we killed without notice, nobody would be left to end it. A change of user would undo it.
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
