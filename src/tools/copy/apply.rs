//! Carries out a plan: directories, then files on several threads, then hard links, then attributes of directories.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, UtimensatFlags, mkdirat, utimensat};
use nix::unistd::{LinkatFlags, UnlinkatFlags, linkat, symlinkat, unlinkat};

use crate::tools::copy::file::{Buffers, Done};
use crate::tools::copy::folder::{Identity, look};
use crate::tools::copy::plan::{Entry, Folder, What};
use crate::tools::copy::run::{Results, Run, modified};
use crate::tools::copy::say::{self, Change, Tally};
use crate::tools::copy::xattr;

/// The number of entries of one directory that a thread takes at a time.
const UNIT: usize = 64;

/// The most threads: more do not make a disk faster.
const THREADS: usize = 4;

/// The open directories of a thread's current entry.
struct Open {
    folder: usize,
    src: OwnedFd,
    /// None in a dry run, if the directory does not exist.
    dst: Option<OwnedFd>,
}

impl<'a> Run<'a> {
    /// Carries out the plan. `done` is dropped at the end in any case.
    pub(super) fn all(&self, done: impl Send) -> Results {
        if !self.options.dry_run {
            self.remove_stale();
        }
        self.folders();
        let units = self.units();
        let taken = AtomicUsize::new(0);
        // Verbose output must be in the order of files, so it takes one thread.
        let shown = self.options.dry_run || self.options.diff || self.options.verbose > 0;
        let threads = match std::thread::available_parallelism() {
            Ok(it) if !shown => it.get().min(THREADS).min(units.len()),
            _ => 1,
        };
        let work = || {
            let (mut open, mut buffers, mut tally) = (None, Buffers::default(), Tally::default());
            while let Some(unit) = units.get(taken.fetch_add(1, Ordering::Relaxed)) {
                for idx in unit.clone() {
                    if self.go_on().is_err() {
                        break;
                    }
                    self.entry(idx, &mut open, &mut buffers, &mut tally);
                }
            }
            self.with_results(|it| it.tally.add(tally));
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        self.hard_links();
        if !self.options.dry_run {
            self.finish_folders();
        }
        drop(done);
        self.with_results(std::mem::take)
    }

    /// Ranges of entries, each within one directory.
    fn units(&self) -> Vec<std::ops::Range<usize>> {
        let entries = &self.plan.entries;
        let (mut units, mut start) = (Vec::new(), 0);
        for (idx, entry) in entries.iter().enumerate() {
            let other = entries.get(start).is_some_and(|it| it.folder != entry.folder);
            if other || idx - start >= UNIT {
                units.push(start..idx);
                start = idx;
            }
        }
        if start < entries.len() {
            units.push(start..entries.len());
        }
        units
    }

    fn remove_stale(&self) {
        for (folder, name) in &self.plan.stale {
            let removed = self
                .dst
                .folder(folder)
                .and_then(|it| Ok(unlinkat(it, name.as_os_str(), UnlinkatFlags::NoRemoveDir)?));
            if let Err(error) = removed {
                self.warn(format!("{}: {error}", self.dst.shown(&folder.join(name)).display()));
            }
        }
    }

    fn new_folders(&self) -> impl DoubleEndedIterator<Item = &'a Folder> {
        self.plan.folders.iter().filter(|it| it.new)
    }

    fn folders(&self) {
        let mut made = 0;
        for folder in self.new_folders() {
            let shown = self.dst.shown(&folder.dst);
            if say::change(self.options, Change::Folder, &self.src.shown(&folder.src), &shown).is_err() {
                self.stop();
            }
            if self.options.dry_run {
                made += 1;
                continue;
            }
            let (Some(parent), Some(name)) = (folder.dst.parent(), folder.dst.file_name()) else { continue };
            // The directory must be writable until it is filled; then it gets its own mode.
            let mode = Mode::from_bits_truncate(folder.stat.st_mode & 0o777) | Mode::S_IRWXU;
            let result = self.dst.folder(parent).and_then(|it| match mkdirat(it, name, mode) {
                Ok(()) => Ok(1),
                Err(nix::Error::EEXIST) => Ok(0),
                Err(error) => Err(error.into()),
            });
            match result {
                Ok(new) => made += new,
                Err(error) => self.mistake(0, format!("create {}: {error}", shown.display())),
            }
        }
        self.with_results(|it| it.tally.folders += made);
    }

    /// Sets modes, owners and times of new directories, inner ones first, because a new entry changes the directory's time.
    fn finish_folders(&self) {
        for folder in self.new_folders().rev() {
            let finish = || -> io::Result<()> {
                let open = self.dst.folder(&folder.dst)?;
                if let Some((user, group)) = self.options.owner.of(&folder.stat) {
                    nix::unistd::fchown(&open, user, group)?;
                }
                let mode = folder.stat.st_mode & 0o7777;
                if mode & 0o7000 != 0 || mode & 0o700 != 0o700 {
                    nix::sys::stat::fchmod(&open, Mode::from_bits_truncate(mode))?;
                }
                if self.options.xattrs {
                    xattr::copy(&self.src.folder(&folder.src)?.into(), &open.try_clone()?.into(), false)?;
                }
                let time = modified(&folder.stat);
                Ok(nix::sys::stat::futimens(&open, &time, &time)?)
            };
            if let Err(error) = finish() {
                let failed_before = self.with_results(|it| !it.mistakes.is_empty());
                if !failed_before {
                    self.mistake(0, format!("{}: {error}", self.dst.shown(&folder.dst).display()));
                }
            }
        }
    }

    fn entry(&self, idx: usize, open: &mut Option<Open>, buffers: &mut Buffers, tally: &mut Tally) {
        let Some(entry) = self.plan.entries.get(idx) else { return };
        let result = self.open(entry, open).and_then(|open| match &entry.what {
            What::Link(target) => self.link(entry, open, target, tally),
            What::File => match self.file_of(entry, open, buffers, false)? {
                Done::Linked(identity) => {
                    self.with_results(|it| it.linked.push((idx, identity)));
                    Ok(())
                }
                done => {
                    count(done, tally);
                    Ok(())
                }
            },
        });
        self.take(idx, entry, result);
    }

    fn take(&self, idx: usize, entry: &Entry, result: io::Result<()>) {
        if let Err(error) = result
            && self.go_on().is_ok()
        {
            let (from, to) = self.shown(entry);
            self.mistake(idx, format!("copy {} to {}: {error}", from.display(), to.display()));
        }
    }

    /// Opens the directories of an entry, unless they are open already.
    fn open<'b>(&self, entry: &Entry, open: &'b mut Option<Open>) -> io::Result<&'b Open> {
        let now = match open.take() {
            Some(it) if it.folder == entry.folder => it,
            _ => {
                let folder = self.plan.folders.get(entry.folder).ok_or(io::ErrorKind::NotFound)?;
                let dst = match self.dst.folder(&folder.dst) {
                    Ok(it) => Some(it),
                    Err(_) if self.options.dry_run => None,
                    Err(error) => return Err(error),
                };
                Open { folder: entry.folder, src: self.src.folder(&folder.src)?, dst }
            }
        };
        Ok(open.insert(now))
    }

    fn file_of(&self, entry: &Entry, open: &Open, buffers: &mut Buffers, linked: bool) -> io::Result<Done> {
        match &entry.at {
            None => {
                self.file(entry, &open.src, open.dst.as_ref().map(AsFd::as_fd), &entry.name, buffers, linked)
            }
            Some((folder, name)) => {
                let dst = self.dst.folder(folder)?;
                self.file(entry, &open.src, Some(dst.as_fd()), name, buffers, linked)
            }
        }
    }

    fn link(&self, entry: &Entry, open: &Open, target: &Path, tally: &mut Tally) -> io::Result<()> {
        let name = entry.name.as_os_str();
        let there =
            |dst: &OwnedFd| entry.there && nix::fcntl::readlinkat(dst, name).is_ok_and(|it| it == target);
        if open.dst.as_ref().is_some_and(there) {
            tally.unchanged += 1;
            return Ok(());
        }
        let (from, to) = self.shown(entry);
        say::change(self.options, Change::Link, &from, &to).map_err(io::Error::other)?;
        if let (Some(dst), false) = (&open.dst, self.options.dry_run) {
            let stat = look(&open.src, name)?.ok_or(io::ErrorKind::NotFound)?;
            let make = |beside: &OsStr| symlinkat(target, dst, beside);
            self.put(dst.as_fd(), name, make, |(), beside| {
                if let Some((user, group)) = self.options.owner.of(&stat) {
                    nix::unistd::fchownat(dst, beside, user, group, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                }
                let time = modified(&stat);
                Ok(utimensat(dst, beside, &time, &time, UtimensatFlags::NoFollowSymlink)?)
            })?;
        }
        tally.links += 1;
        Ok(())
    }

    /// Hard links in SRC are hard links in DST: the first is copied, the others are linked to it.
    fn hard_links(&self) {
        let mut linked = self.with_results(|it| std::mem::take(&mut it.linked));
        linked.sort();
        let mut first: HashMap<(Identity, bool), usize> = HashMap::new();
        let (mut buffers, mut tally, mut open) = (Buffers::default(), Tally::default(), None);
        for (idx, identity) in linked {
            let Some(entry) = self.plan.entries.get(idx) else { continue };
            if self.go_on().is_err() {
                break;
            }
            // If only one of two names is a template, they are different files in DST.
            let key = (identity, self.is_template(entry));
            let copy = |tally: &mut Tally, buffers: &mut Buffers, open: &mut Option<Open>| {
                let open = self.open(entry, open)?;
                count(self.file_of(entry, open, buffers, true)?, tally);
                Ok(())
            };
            let result = match first.get(&key).and_then(|it| self.plan.entries.get(*it)) {
                None => {
                    first.insert(key, idx);
                    copy(&mut tally, &mut buffers, &mut open)
                }
                Some(other) => match self.hard_link(entry, other, &mut tally) {
                    Ok(()) => Ok(()),
                    // On different mounts, or with too many links: copy the file.
                    Err(_) => copy(&mut tally, &mut buffers, &mut open),
                },
            };
            self.take(idx, entry, result);
        }
        self.with_results(|it| it.tally.add(tally));
    }

    fn hard_link(&self, entry: &Entry, other: &Entry, tally: &mut Tally) -> io::Result<()> {
        let place = |entry: &Entry| -> io::Result<(OwnedFd, std::ffi::OsString)> {
            match &entry.at {
                Some((folder, name)) => Ok((self.dst.folder(folder)?, name.clone())),
                None => {
                    let folder = self.plan.folders.get(entry.folder).ok_or(io::ErrorKind::NotFound)?;
                    Ok((self.dst.folder(&folder.dst)?, entry.name.clone()))
                }
            }
        };
        let (from, to) = self.shown(entry);
        if self.options.dry_run && !entry.there {
            tally.links += 1;
            return say::change(self.options, Change::Link, &from, &to).map_err(io::Error::other);
        }
        let ((dst, name), (other_dst, other_name)) = (place(entry)?, place(other)?);
        let other = look(&other_dst, &other_name)?.ok_or(io::ErrorKind::NotFound)?;
        if look(&dst, &name)?.is_some_and(|it| Identity::of(&it) == Identity::of(&other)) {
            tally.unchanged += 1;
            return Ok(());
        }
        say::change(self.options, Change::Link, &from, &to).map_err(io::Error::other)?;
        if !self.options.dry_run {
            let make = |beside: &OsStr| {
                linkat(&other_dst, other_name.as_os_str(), &dst, beside, LinkatFlags::empty())
            };
            self.put(dst.as_fd(), &name, make, |(), _| Ok(()))?;
        }
        tally.links += 1;
        Ok(())
    }
}

fn count(done: Done, tally: &mut Tally) {
    match done {
        Done::Copied => tally.files += 1,
        Done::InPlace => {
            tally.files += 1;
            tally.in_place += 1;
        }
        Done::Unchanged => tally.unchanged += 1,
        Done::Mode => tally.modes += 1,
        Done::Skipped | Done::Linked(_) => {}
    }
}
