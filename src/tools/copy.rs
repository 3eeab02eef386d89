//! `copy`: copies a tree of files over a directory, then runs a command.
//!
//! First it compares both trees and makes a plan. After errors, all of which are reported, nothing is changed. Then it
//! carries out the plan file by file. At any time a file is either the old one or the new one.

mod apply;
mod args;
pub(in crate::tools) mod content;
mod file;
pub(in crate::tools) mod folder;
mod jinja;
mod owner;
mod plan;
mod run;
mod say;
mod select;
mod template;
mod xattr;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nix::fcntl::{Flock, FlockArg, OFlag, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, fstat, umask};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::process::Signals;
use crate::tools::exec::{exec, shown};
use crate::{USAGE, err};
use args::{Options, Templating};
use folder::{Identity, Root, look};
use jinja::Jinja;
use run::{Results, Run};

/// The exit code if a file could not be copied.
const FAILED: u8 = 1;

/// Added to the number of a signal that ends the program, as in shells.
const SIGNALLED: u8 = 128;

/// The file in DST that a run locks. The prefix keeps it from being copied if DST is a SRC.
const LOCK: &str = ".conlink-copy-lock";

/// How often to check whether another run has finished.
const LOCK_EVERY: Duration = Duration::from_millis(20);

pub(crate) fn command() -> clap::Command {
    args::command()
}

pub(crate) fn main(args: Vec<OsString>) -> anyhow::Result<u8> {
    let options = match args::parse(args, std::env::vars_os()) {
        Ok(it) => it,
        Err(bad) => return bad.print(),
    };
    let signals = Signals::hold().context("block signals")?;
    let code = overlay(&options, &signals)?;
    if code != 0 || options.dry_run {
        return Ok(code);
    }
    if !options.quiet && !options.command.is_empty() {
        err(&format!("Running: {}\n", shown(&options.command)));
    }
    if let Some(signal) = signals.release().context("unblock signals")? {
        return Ok(SIGNALLED.saturating_add(signal));
    }
    Ok(exec(&options.command))
}

/// Copies the tree. Returns 0, or the exit code if COMMAND must not run.
fn overlay(options: &Options, signals: &Signals) -> anyhow::Result<u8> {
    if options.mkdir
        && !options.dry_run
        && let Err(error) = std::fs::create_dir_all(&options.dst)
    {
        say::mistakes(&[format!("DST: {}: {error}", options.dst.display())]);
        return Ok(USAGE);
    }
    let (src, dst) = match (Root::open(&options.src), Root::open(&options.dst)) {
        (Ok(src), Ok(dst)) => (Arc::new(src), dst),
        (src, dst) => {
            let mistake = |name: &str, path: &Path, result: io::Result<Root>| {
                Some(format!("{name}: {}: {}", path.display(), not_a_directory(&result.err()?)))
            };
            let both = [mistake("SRC", &options.src, src), mistake("DST", &options.dst, dst)];
            say::mistakes(&both.into_iter().flatten().collect::<Vec<_>>());
            return Ok(USAGE);
        }
    };
    // Permissions are those of SRC, whatever the umask.
    let before = umask(Mode::empty());
    let code = locked(options, signals, &src, &dst);
    umask(before);
    code
}

fn not_a_directory(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "no such directory".to_owned(),
        Some(libc::ENOTDIR) => "not a directory".to_owned(),
        _ => error.to_string(),
    }
}

fn locked(options: &Options, signals: &Signals, src: &Arc<Root>, dst: &Root) -> anyhow::Result<u8> {
    let stat = fstat(dst.file())?;
    let token = format!("{:x}-{:x}", stat.st_dev, stat.st_ino);
    let lock = match lock(options, signals, dst, stat.st_mode)? {
        Ok(it) => it,
        Err(signal) => return Ok(SIGNALLED.saturating_add(signal)),
    };
    // Without a lock another run may work on DST, so temporary names must differ.
    let first = if lock.is_some() { 0 } else { u64::from(std::process::id()) << 32 };
    let jinja = match options.templating {
        Templating::Jinja => {
            let variables = std::env::vars_os();
            let text = variables
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
            Some(Jinja::new(Arc::clone(src), text)?)
        }
        Templating::None | Templating::Names(_) => None,
    };
    let mut plan = plan::plan(src, dst, options, jinja.as_ref(), &token)?;
    say::warnings(options, &plan.warnings);
    if lock.is_none() {
        plan.stale.clear();
    }
    if !plan.mistakes.is_empty() {
        say::mistakes(&plan.mistakes);
        return Ok(FAILED);
    }
    let run = Run::new(&plan, options, src, dst, &token, first);
    let (mut results, signal) = carry_out(&run, signals)?;
    say::warnings(options, &results.warnings);
    let mistakes = results.mistakes();
    if !mistakes.is_empty() {
        say::mistakes(&mistakes);
        return Ok(FAILED);
    }
    if let Some(signal) = signal {
        return Ok(SIGNALLED.saturating_add(signal));
    }
    if !options.quiet {
        err(&format!("{}\n", results.tally.summary(options.dry_run)));
    }
    Ok(0)
}

/// Runs the plan on other threads, while this one waits for signals.
fn carry_out(run: &Run<'_>, signals: &Signals) -> anyhow::Result<(Results, Option<u8>)> {
    let (over, end) = io::pipe()?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| run.all(end));
        let mut ended_by = None;
        loop {
            let mut files = [
                PollFd::new(over.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut files, PollTimeout::NONE) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(signal) = signals.next(&[])?.ending {
                run.stop();
                ended_by = Some(signal);
            }
            if files.first().is_some_and(|it| it.any().unwrap_or(false)) {
                let results = thread.join().map_err(|_| anyhow::anyhow!("a copying thread panicked"))?;
                return Ok((results, ended_by));
            }
        }
    })
}

/// The lock of DST: a file in it, which is removed with the lock. A lock on the directory itself could be held by anyone
/// who may read it.
struct Lock<'a> {
    dst: &'a Root,
    _file: Flock<File>,
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // Still locked: another run that waits for it sees that it is gone, and makes a new one.
        let _ = unlinkat(self.dst.file(), LOCK, UnlinkatFlags::NoRemoveDir);
    }
}

/// Locks DST against another run. None if it takes no file, or its file system has no locks; the error is the number of a
/// signal.
fn lock<'a>(
    options: &Options,
    signals: &Signals,
    dst: &'a Root,
    mode: u32,
) -> anyhow::Result<Result<Option<Lock<'a>>, u8>> {
    if options.dry_run {
        return Ok(Ok(None));
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    // Who may write to DST may lock it.
    let mode = Mode::S_IWUSR | Mode::from_bits_truncate(mode & 0o022);
    let open = || openat(dst.file(), LOCK, flags, mode).map(File::from);
    let Ok(mut file) = open() else { return Ok(Ok(None)) };
    let mut told = false;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => {
                let ours = Identity::of(&fstat(&*file)?);
                if look(dst.file(), OsStr::new(LOCK))?.is_some_and(|it| Identity::of(&it) == ours) {
                    return Ok(Ok(Some(Lock { dst, _file: file })));
                }
                // The other run has removed it.
                match open() {
                    Ok(it) => it,
                    Err(_) => return Ok(Ok(None)),
                }
            }
            Err((file, nix::Error::EWOULDBLOCK)) => {
                if !told && !options.quiet {
                    err(&format!("Waiting for another copy into '{}'...\n", options.dst.display()));
                }
                told = true;
                if let Some(signal) = pause(signals)? {
                    return Ok(Err(signal));
                }
                file
            }
            Err(_) => {
                // The file system has no locks.
                let _ = unlinkat(dst.file(), LOCK, UnlinkatFlags::NoRemoveDir);
                return Ok(Ok(None));
            }
        };
    }
}

/// Waits for a moment, or for a signal that ends the program.
fn pause(signals: &Signals) -> anyhow::Result<Option<u8>> {
    let mut files = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    match poll(&mut files, PollTimeout::try_from(LOCK_EVERY).unwrap_or(PollTimeout::ZERO)) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(signals.next(&[])?.ending),
        Err(error) => Err(error.into()),
    }
}
