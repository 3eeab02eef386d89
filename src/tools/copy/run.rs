//! What the threads of one run share: its arguments, its results, and how a file takes the place of another.

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::fcntl::renameat;
use nix::sys::stat::FileStat;
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::tools::copy::args::Options;
use crate::tools::copy::folder::{Identity, Root};
use crate::tools::copy::plan::{BESIDE, Entry, Plan};
use crate::tools::copy::say::Tally;

/// One run, shared by its threads.
pub(super) struct Run<'a> {
    pub(super) plan: &'a Plan,
    pub(super) options: &'a Options,
    pub(super) src: &'a Root,
    pub(super) dst: &'a Root,
    token: &'a str,
    /// The number in the next temporary name.
    next: AtomicU64,
    stop: AtomicBool,
    results: Mutex<Results>,
}

/// The results of a run.
#[derive(Debug, Default)]
pub(super) struct Results {
    pub(super) tally: Tally,
    /// Errors, each with the index of its entry.
    pub(super) mistakes: Vec<(usize, String)>,
    pub(super) warnings: Vec<String>,
    /// Entries whose files are hard links.
    pub(super) linked: Vec<(usize, Identity)>,
}

impl Results {
    pub(super) fn mistakes(&mut self) -> Vec<String> {
        self.mistakes.sort();
        std::mem::take(&mut self.mistakes).into_iter().map(|(_, it)| it).collect()
    }
}

impl<'a> Run<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        options: &'a Options,
        src: &'a Root,
        dst: &'a Root,
        token: &'a str,
        first: u64,
    ) -> Self {
        let results = Mutex::default();
        let stop = AtomicBool::new(false);
        Self { plan, options, src, dst, token, next: AtomicU64::new(first), stop, results }
    }

    /// Makes all threads stop.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// An error if the run is to stop.
    pub(super) fn go_on(&self) -> io::Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped by a signal"));
        }
        Ok(())
    }

    /// A unique temporary name for an incomplete file.
    fn beside(&self) -> String {
        format!("{BESIDE}{}-{}", self.token, self.next.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn with_results<T>(&self, f: impl FnOnce(&mut Results) -> T) -> T {
        f(&mut self.results.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub(super) fn mistake(&self, idx: usize, what: String) {
        self.with_results(|it| it.mistakes.push((idx, what)));
    }

    pub(super) fn warn(&self, what: String) {
        self.with_results(|it| it.warnings.push(what));
    }

    /// Source and destination of an entry, for messages.
    pub(super) fn shown(&self, entry: &Entry) -> (PathBuf, PathBuf) {
        let Some(folder) = self.plan.folders.get(entry.folder) else { return Default::default() };
        let to = match &entry.at {
            Some((folder, name)) => folder.join(name),
            None => folder.dst.join(&entry.name),
        };
        (self.src.shown(&folder.src.join(&entry.name)), self.dst.shown(&to))
    }

    /// Makes a file under a temporary name, fills it, and renames it. `make` fails with EEXIST if the name is taken; `fill` gets
    /// what it returns, and the name.
    pub(super) fn put<T, U>(
        &self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        make: impl Fn(&OsStr) -> nix::Result<T>,
        fill: impl FnOnce(T, &OsStr) -> io::Result<U>,
    ) -> Result<U, Refused> {
        let (beside, made) = loop {
            let beside = self.beside();
            match make(OsStr::new(&beside)) {
                Ok(made) => break (beside, made),
                Err(nix::Error::EEXIST) => {}
                Err(error) => return Err(Refused::to_replace(error)),
            }
        };
        let filled = fill(made, OsStr::new(&beside)).map_err(Refused::For).and_then(|filled| {
            renameat(folder, beside.as_str(), folder, name).map(|()| filled).map_err(Refused::to_replace)
        });
        if filled.is_err() {
            let _ = unlinkat(folder, beside.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        filled
    }

    /// Whether a file is a template if it is text.
    pub(super) fn is_template(&self, entry: &Entry) -> bool {
        let folder = self.plan.folders.get(entry.folder);
        folder.is_some_and(|it| self.options.is_template(&it.src.join(&entry.name)))
    }
}

/// Why a file was not replaced.
pub(super) enum Refused {
    For(io::Error),
    /// The file cannot be renamed over, but may still be written in place.
    ToReplace(io::Error),
}

impl Refused {
    fn to_replace(error: nix::Error) -> Self {
        match error {
            nix::Error::EBUSY
            | nix::Error::EXDEV
            | nix::Error::EROFS
            | nix::Error::EACCES
            | nix::Error::EPERM => Self::ToReplace(error.into()),
            error => Self::For(error.into()),
        }
    }
}

impl From<Refused> for io::Error {
    fn from(it: Refused) -> Self {
        match it {
            Refused::For(error) | Refused::ToReplace(error) => error,
        }
    }
}

/// The modification time of a file.
pub(super) fn modified(stat: &FileStat) -> TimeSpec {
    TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec)
}
