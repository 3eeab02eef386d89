//! Runs programs in the namespaces of a node.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork};

use crate::process::handed_on::{close_files_but, restore_file_limit};
use crate::process::node::born::{Program, change_user, enter_folder, lower, reset_signals};
use crate::process::node::console::Console;
use crate::process::node::job::Terminal;
use crate::process::node::{Ended, Setup, alone, leave, mounts};
use crate::process::{Foreground, Signals};

/// The namespaces to enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// All namespaces of a node; `user`: it is in another user namespace.
    Node { user: bool },
    /// The network, with new `/proc` and `/sys`; host name and other files stay. Also the process namespace, so that
    /// the end of its process 1, the lab's keeper, ends the program.
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

/// Moves this process into namespaces of a process (Linux 5.8) and runs a program there, of which `setup` gives the
/// command, environment, folder and user. The program has our standard streams and gets our signals. Returns how it
/// ended. This process cannot leave the namespaces again.
///
/// The program's parent is an intermediate process, which Ctrl-Z does not stop. Process 1 of a namespace ends only
/// after every process in the namespace has been reaped ([`pid_namespaces(7)`]), and a stopped parent would delay that.
///
/// [`pid_namespaces(7)`]: https://man7.org/linux/man-pages/man7/pid_namespaces.7.html
pub fn enter(pidfd: &OwnedFd, entry: Entry, setup: &Setup) -> io::Result<Ended> {
    alone()?;
    // Until it is the program, the node must not reach the binary of the process.
    nix::sys::prctl::set_dumpable(false)?;
    // The intermediate process stays outside of the process namespace, because its parent would have to reap it.
    let mut flags = entry.flags() - CloneFlags::CLONE_NEWPID;
    if flags.contains(CloneFlags::CLONE_NEWUSER) {
        join(pidfd.as_fd(), CloneFlags::CLONE_NEWUSER)?;
        flags -= CloneFlags::CLONE_NEWUSER;
    }
    let console = matches!(entry, Entry::Node { .. }).then(Console::of_stdin).flatten();
    join(pidfd.as_fd(), flags)?;
    console.filter(|_| !setup.privileges.may_mount()).into_iter().for_each(Console::show);
    let terminal = Terminal::ours();
    let signals = Signals::hold()?;
    #[expect(unsafe_code, reason = "no crate offers a safe way")]
    // SAFETY: this process has one thread.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Foreground::of(child, &signals).wait(),
        ForkResult::Child => {
            let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
            let stops = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];
            // The program gets the earlier mask, without blocked signals.
            let _ = stops.into_iter().collect::<SigSet>().thread_block();
            let views = matches!(entry, Entry::Network { .. });
            match run(pidfd, views, terminal, setup, signals) {
                Ok(it) => leave(it.code()),
                Err(error) => {
                    say(&format!("enter the process namespace: {error}"));
                    leave(126)
                }
            }
        }
    }
}

/// Enters the process namespace and runs the program there as a child until it ends. Blocked signals are passed on. With
/// `views` it gets new mounts of `/proc` and `/sys`; it gets `terminal`.
fn run(
    pidfd: &OwnedFd,
    views: bool,
    terminal: Option<Terminal>,
    setup: &Setup,
    signals: Signals,
) -> io::Result<Ended> {
    join(pidfd.as_fd(), CloneFlags::CLONE_NEWPID)?;
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

/// Moves this process into the user namespace of a process, as root there.
pub fn enter_user(pidfd: &OwnedFd) -> io::Result<()> {
    alone()?;
    Ok(join(pidfd.as_fd(), CloneFlags::CLONE_NEWUSER)?)
}

/// Moves the calling thread into a network namespace, for the program that it becomes ([`exec`](crate::process::exec)).
pub fn enter_network(netns: &File) -> io::Result<()> {
    Ok(join(netns.as_fd(), CloneFlags::CLONE_NEWNET)?)
}

/// Enters namespaces of a process (Linux 5.8), or one by its own file. Only for processes with one thread, but for the
/// network namespace, which each thread has of its own.
#[expect(clippy::disallowed_methods, reason = "this is the one place of processes that enters a namespace")]
pub(super) fn join(of: BorrowedFd<'_>, flags: CloneFlags) -> nix::Result<()> {
    setns(of, flags)
}

/// Runs an additional program in a node without input; its output goes to `output`. Returns the process number of a
/// child that ends like the program.
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
            // The input is a file of the node, which may change its owner and mode.
            let ended = join(pidfd.as_fd(), Entry::Node { user: false }.flags() - CloneFlags::CLONE_NEWPID)
                .map_err(io::Error::from)
                .and_then(|()| std::fs::File::open("/dev/null"))
                .and_then(|null| Ok(dup2_stdin(null).and(dup2_stdout(&output)).and(dup2_stderr(&output))?))
                .and_then(|()| {
                    debug_assert!(output.as_raw_fd() > 2);
                    // It runs as long as the program, and must not keep files of the keeper open.
                    close_files_but(&[pidfd.as_raw_fd()]);
                    // It has its own session, so Ctrl-Z does not stop it.
                    run(pidfd, false, None, setup, Signals::hold()?)
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

/// Mounts `/proc` of the process namespace and `/sys` of the network namespace: with those of the machine `ps` fails,
/// and `pkill` would signal the wrong process. If the kernel refuses, those of the machine stay.
fn show_own_views() {
    let own = nix::sched::unshare(CloneFlags::CLONE_NEWNS).map_err(io::Error::from);
    if own.and_then(|()| mounts::keep_to_ourselves()).is_ok() {
        let _ = mounts::mount_kernel_views(true);
    }
}

/// Executes the program. If that fails, the exit codes are those of shells.
fn replace(setup: &Setup) -> ! {
    #[expect(unsafe_code, reason = "no crate offers a safe way")]
    // SAFETY: the default action runs no code of ours. Rust ignores SIGPIPE at start-up, and the program would inherit
    // that.
    let _ = unsafe {
        nix::sys::signal::signal(nix::sys::signal::Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl)
    };
    if let Err(why) = enter_folder(setup) {
        if setup.needs_folder {
            say(&why);
            leave(126);
        }
        let _ = nix::unistd::chdir("/");
    }
    let Some(program) = Program::find(setup) else {
        say(&format!("program `{}` not found", setup.argv.first().map(String::as_str).unwrap_or_default()));
        leave(127);
    };
    // The node has a note if this machine does not allow it.
    let _ = setup.privileges.limit();
    let changed = setup.user.as_ref().map_or(Ok(()), change_user).and_then(|()| lower(setup));
    if let Err(why) = changed {
        say(&why);
        leave(126);
    }
    // If this process is killed, the program must end too. This comes after the change of user, which resets it.
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
