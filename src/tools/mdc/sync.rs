//! Updates the files directory in place, so that running containers that mount parts of it see the new files. All files
//! are copied first, then renamed one by one.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, readlinkat};
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::unistd::{AccessFlags, access, faccessat, geteuid};

use crate::tools::copy::content::Content;
use crate::tools::copy::folder::{self, Identity, Root, list, look, open_file, open_unmounted};
use crate::tools::mdc::files::{Entry, Kind, MARKER, STAGE, Source, Tree};
use crate::tools::mdc::project::shown;
use crate::tools::mdc::safety::FilesDir;
use crate::tools::mdc::settings::Wrong;

/// What has to be done to the folder of files.
#[derive(Debug)]
pub(super) struct Sync {
    pub(super) dir: FilesDir,
    pub(super) tree: Tree,
    pub(super) steps: Vec<Step>,
}

/// A change of one path, relative to the files directory.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) path: PathBuf,
    pub(super) does: Does,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    Add,
    /// The kind or the content differs.
    Replace,
    /// Only attributes differ.
    Adjust,
    Remove,
}

impl Sync {
    /// Compares the directory with the desired tree; changes nothing.
    pub(super) fn plan(dir: FilesDir, tree: Tree) -> Result<Self, Wrong> {
        let mut sync = Self { dir, tree, steps: Vec::new() };
        let mut wrong = Vec::new();
        // New directories, whose content is new too.
        let mut fresh: BTreeSet<&Path> = BTreeSet::new();
        let mut steps = Vec::new();
        let mut changed: BTreeSet<&Path> = BTreeSet::new();
        let mut open = Opened::new(sync.dir.root.as_ref());
        for (path, entry) in &sync.tree {
            let in_fresh = path.parent().is_some_and(|it| fresh.contains(it));
            let does = match if in_fresh { None } else { open.look(path) } {
                None => Some(Does::Add),
                Some((folder, there)) => {
                    sync.compare(path, entry, folder, &there, &changed).unwrap_or_else(|error| {
                        wrong.push(error);
                        None
                    })
                }
            };
            if matches!(does, Some(Does::Add | Does::Replace)) {
                changed.insert(path);
                if entry.kind == Kind::Folder {
                    fresh.insert(path);
                }
            }
            steps.extend(does.map(|does| Step { path: path.clone(), does }));
        }
        if let Some(root) = &sync.dir.root
            && let Err(error) = sync.find_strangers(root, Path::new(""), &mut steps)
        {
            wrong.push(format!("{}: {error}", shown(&sync.dir.path)));
        }
        sync.steps = steps;
        sync.check_writable(&mut wrong);
        if wrong.is_empty() { Ok(sync) } else { Err(wrong) }
    }

    /// Compares an existing entry with the desired one.
    fn compare(
        &self,
        path: &Path,
        entry: &Entry,
        folder: &OwnedFd,
        there: &FileStat,
        changed: &BTreeSet<&Path>,
    ) -> Result<Option<Does>, String> {
        let kind = SFlag::from_bits_truncate(there.st_mode & SFlag::S_IFMT.bits());
        let is_folder = kind == SFlag::S_IFDIR;
        let Some(source) = &entry.source else {
            return Ok((!is_folder).then_some(Does::Replace));
        };
        let name = path.file_name().unwrap_or_default();
        let same = match &entry.kind {
            Kind::Folder => is_folder,
            Kind::File => {
                kind == SFlag::S_IFREG
                    && there.st_size.unsigned_abs() == source.meta.len()
                    && same_content(&source.path, folder, name)
                        .map_err(|error| format!("{}: {error}", shown(&source.path)))?
            }
            Kind::LinkTo(first) => {
                let mut open = Opened::new(self.dir.root.as_ref());
                let first_there = open.look(first).map(|(_, it)| Identity::of(&it));
                !changed.contains(first.as_path()) && first_there == Some(Identity::of(there))
            }
            Kind::Symlink(to) => kind == SFlag::S_IFLNK && readlinkat(folder, name).is_ok_and(|it| it == *to),
            Kind::Fifo => kind == SFlag::S_IFIFO,
            Kind::Device => {
                there.st_rdev == source.meta.rdev()
                    && kind.bits() == source.meta.mode() & SFlag::S_IFMT.bits()
            }
        };
        if !same {
            return Ok(Some(Does::Replace));
        }
        // A file of another user cannot be adjusted, but may be replaced.
        let may_adjust = entry.kind == Kind::Folder || may_change(there);
        let does = if may_adjust { Does::Adjust } else { Does::Replace };
        Ok((!attributes_agree(&entry.kind, source, there)).then_some(does))
    }

    /// Finds what is there and is not to be.
    fn find_strangers(&self, root: &Root, folder: &Path, steps: &mut Vec<Step>) -> io::Result<()> {
        for (name, kind) in list(root.folder(folder)?)? {
            let path = folder.join(&name);
            if path == Path::new(MARKER) || path == Path::new(STAGE) {
                continue;
            }
            match self.tree.get(&path) {
                None => steps.push(Step { path, does: Does::Remove }),
                Some(entry) if entry.kind == Kind::Folder && kind == folder::Kind::Folder => {
                    self.find_strangers(root, &path, steps)?;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Checks that each directory that changes is writable, before anything is changed.
    fn check_writable(&self, wrong: &mut Wrong) {
        let not_writable = |folder: &Path, error: io::Error| {
            if error.raw_os_error() == Some(libc::EXDEV) {
                return format!("{}: a file system is mounted here; unmount it first", shown(folder));
            }
            format!("{}: cannot write to the directory: {error}", shown(folder))
        };
        let Some(root) = &self.dir.root else {
            let above = self.dir.path.ancestors().skip(1).find(|it| it.is_dir() || *it == Path::new(""));
            let above = above.filter(|it| *it != Path::new("")).unwrap_or(Path::new("."));
            if let Err(error) = access(above, AccessFlags::W_OK | AccessFlags::X_OK) {
                wrong.push(not_writable(above, error.into()));
            }
            return;
        };
        let mut folders: Vec<(PathBuf, io::Result<OwnedFd>)> = Vec::new();
        if !self.steps.is_empty() || !self.dir.is_marked {
            folders.push((PathBuf::new(), root.folder(Path::new(""))));
        }
        let parents: BTreeSet<&Path> = self.steps.iter().filter_map(|it| it.path.parent()).collect();
        for parent in parents.into_iter().filter(|it| *it != Path::new("")) {
            match open_unmounted(root.file(), parent) {
                // It is not there, or no folder: an earlier step makes it.
                Err(error) if error.raw_os_error() != Some(libc::EXDEV) => {}
                opened => folders.push((parent.to_owned(), opened)),
            }
        }
        // A folder goes with all that is in it.
        for step in self.steps.iter().filter(|it| matches!(it.does, Does::Remove | Does::Replace)) {
            if let Ok(parent) = root.folder(step.path.parent().unwrap_or(Path::new(""))) {
                filled_folders(&parent, &step.path, &mut folders);
            }
        }
        for (path, folder) in folders {
            let is_owned = |it: &OwnedFd| {
                // The modes' own are given back the permissions that they are to have.
                path != Path::new("") && fstat(it).is_ok_and(|it| it.st_uid == geteuid().as_raw())
            };
            let checked = folder.and_then(|it| {
                match faccessat(&it, ".", AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::AT_EACCESS) {
                    Err(nix::Error::EACCES) if is_owned(&it) => Ok(()),
                    result => Ok(result?),
                }
            });
            if let Err(error) = checked {
                wrong.push(not_writable(&self.dir.path.join(&path), error));
            }
        }
    }
}

/// The folder that was looked into last, open.
struct Opened<'a> {
    root: Option<&'a Root>,
    last: Option<(PathBuf, OwnedFd)>,
}

impl<'a> Opened<'a> {
    fn new(root: Option<&'a Root>) -> Self {
        Self { root, last: None }
    }

    /// What has this path, if anything, and the folder that it is in.
    fn look(&mut self, path: &Path) -> Option<(&OwnedFd, FileStat)> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if self.last.as_ref().is_none_or(|(it, _)| it != parent) {
            self.last = Some((parent.to_owned(), self.root?.folder(parent).ok()?));
        }
        let (_, folder) = self.last.as_ref()?;
        let stat = look(folder, path.file_name()?).ok()??;
        Some((folder, stat))
    }
}

/// Finds the folders in a folder from which something must be removed before it can go.
fn filled_folders(parent: &OwnedFd, path: &Path, found: &mut Vec<(PathBuf, io::Result<OwnedFd>)>) {
    let Some(name) = path.file_name() else { return };
    if !matches!(look(parent, name), Ok(Some(stat)) if folder::Kind::of(&stat) == folder::Kind::Folder) {
        return;
    }
    let opened = match open_unmounted(parent, Path::new(name)) {
        Ok(it) => it,
        Err(error) => return found.push((path.to_owned(), Err(error))),
    };
    match opened.try_clone().and_then(list) {
        Ok(names) if names.is_empty() => {}
        Ok(names) => {
            names.iter().for_each(|(name, _)| filled_folders(&opened, &path.join(name), found));
            found.push((path.to_owned(), Ok(opened)));
        }
        // One that cannot be read cannot be emptied either.
        Err(error) => found.push((path.to_owned(), Err(error))),
    }
}

/// May this process change owner, permissions and time of what is there?
pub(super) fn may_change(there: &FileStat) -> bool {
    geteuid().is_root() || there.st_uid == geteuid().as_raw()
}

/// The permission bits that a copy gets: without an owner's rights where it cannot be the owner's.
pub(super) fn bits(source: &Source) -> u32 {
    let bits = source.meta.mode() & 0o7777;
    if geteuid().is_root() || source.meta.uid() == geteuid().as_raw() { bits } else { bits & 0o777 }
}

/// Are owner, permissions and time of what is there those that a copy has? Times of folders are looked at at the end.
pub(super) fn attributes_agree(kind: &Kind, source: &Source, there: &FileStat) -> bool {
    let meta = &source.meta;
    let owners = !geteuid().is_root() || (there.st_uid, there.st_gid) == (meta.uid(), meta.gid());
    let permissions = matches!(kind, Kind::Symlink(_)) || there.st_mode & 0o7777 == bits(source);
    owners && permissions && (*kind == Kind::Folder || times_agree(source, there))
}

pub(super) fn times_agree(source: &Source, there: &FileStat) -> bool {
    (there.st_mtime, there.st_mtime_nsec) == (source.meta.mtime(), source.meta.mtime_nsec())
}

/// Does the file in the folder have the content of the source?
fn same_content(source: &Path, folder: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    let from = File::open(source)?;
    let size = from.metadata()?.len();
    // What cannot be read is not known to be the same.
    let Ok(there) = open_file(folder, name) else { return Ok(false) };
    let there_size = there.metadata()?.len();
    Content::Whole(&from, size).is_in(&there, there_size, &mut Vec::new(), || Ok(()))
}
