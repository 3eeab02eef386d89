//! Brings the folder of files up to date in place, so that running containers that mount parts of it see the new
//! files: everything is copied beside first, then moved in file by file.
//!
//! Containers may write to what they mount while this runs. So every folder is opened below the one that was checked,
//! and no link on the way is followed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat, renameat2};
use nix::sys::stat::{Mode as Bits, SFlag, UtimensatFlags, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid, fchownat, geteuid, linkat, mkfifoat, symlinkat};

use crate::tools::copy::content::{Content, Holes};
use crate::tools::copy::folder::{Kind as There, Root, look, make_writable, remove};
use crate::tools::mdc::files::{Entry, Kind, MARKER, STAGE, Source, Tree};
use crate::tools::mdc::project::at;
use crate::tools::mdc::safety::FilesDir;
use crate::tools::mdc::sync::{Does, Step, Sync, attributes_agree, bits, may_change, times_agree};

/// What the mark says to those who look.
const MARKER_TEXT: &[u8] = b"This directory belongs to mdc, which replaces and removes its content.\n";

/// What is new, copied into a folder beside what is there.
#[derive(Debug)]
pub(super) struct Staged {
    root: Root,
    /// None where there is nothing to move in.
    stage: Option<OwnedFd>,
    /// The folder of files was made for this run.
    is_new: bool,
    is_marked: bool,
}

impl Staged {
    /// Copies what is new beside, without touching what is there.
    pub(super) fn new(sync: &Sync) -> io::Result<Self> {
        let FilesDir { path, root, is_marked } = &sync.dir;
        let is_new = root.is_none();
        let root = match root {
            Some(it) => it.try_clone()?,
            None => {
                fs::create_dir_all(path)?;
                Root::open_itself(path)?
            }
        };
        let mut staged = Self { root, stage: None, is_new, is_marked: *is_marked };
        match staged.fill(sync) {
            Ok(()) => Ok(staged),
            Err(error) => {
                staged.discard();
                Err(error)
            }
        }
    }

    fn fill(&mut self, sync: &Sync) -> io::Result<()> {
        // That of a run that was killed.
        remove(self.root.file(), OsStr::new(STAGE))?;
        if sync.steps.is_empty() {
            return Ok(());
        }
        mkdirat(self.root.file(), STAGE, Bits::S_IRWXU)?;
        let stage = self.stage.insert(self.root.folder(Path::new(STAGE))?);
        for (number, step) in sync.steps.iter().enumerate() {
            if matches!(step.does, Does::Add | Does::Replace)
                && let Some(Entry { kind, source: Some(source) }) = sync.tree.get(&step.path)
            {
                copy(kind, source, stage, &name_of(number)).map_err(at(&source.path))?;
            }
        }
        Ok(())
    }

    /// Takes back what was copied.
    pub(super) fn discard(&self) {
        // The error that led here is the one to tell.
        let _ = remove(self.root.file(), OsStr::new(STAGE));
        if self.is_new {
            let _ = fs::remove_dir(self.root.shown(Path::new("")));
        }
    }

    /// Moves what is new to its place, one by one, and removes what is not wanted.
    pub(super) fn commit(&self, sync: &Sync) -> io::Result<()> {
        if !self.is_marked {
            // It may be anything in a folder that is taken over.
            remove(self.root.file(), OsStr::new(MARKER))?;
            let mode = Bits::from_bits_truncate(0o666);
            File::from(openat(self.root.file(), MARKER, NEW, mode)?).write_all(MARKER_TEXT)?;
        }
        for (number, step) in sync.steps.iter().enumerate() {
            self.carry_out(number, step, &sync.tree).map_err(at(&self.root.shown(&step.path)))?;
        }
        self.finish_folders(&sync.tree)?;
        remove(self.root.file(), OsStr::new(STAGE))
    }

    fn carry_out(&self, number: usize, step: &Step, tree: &Tree) -> io::Result<()> {
        let (Some(stage), Some(name)) = (&self.stage, step.path.file_name()) else { return Ok(()) };
        let parent = step.path.parent().unwrap_or(Path::new(""));
        let folder = self.root.folder(parent)?;
        if parent != Path::new("") {
            make_writable(&folder)?;
        }
        let staged = name_of(number);
        match (step.does, tree.get(&step.path)) {
            (Does::Remove, _) | (_, None) => remove(&folder, name),
            // Folders have their turn at the end.
            (Does::Adjust, Some(Entry { kind: Kind::Folder, .. })) => Ok(()),
            (Does::Adjust, Some(entry)) => adjust(entry, &folder, name),
            (Does::Add | Does::Replace, Some(entry)) => {
                match &entry.kind {
                    Kind::Folder => {
                        let bits = entry.source.as_ref().map_or(0o777, |it| it.meta.mode() & 0o777 | 0o700);
                        mkdirat(stage, staged.as_os_str(), Bits::from_bits_truncate(bits))?;
                    }
                    Kind::LinkTo(first) => {
                        let other = self.root.folder(first.parent().unwrap_or(Path::new("")))?;
                        let first = first.file_name().unwrap_or_default();
                        linkat(&other, first, stage, staged.as_os_str(), LinkatFlags::empty())?;
                    }
                    Kind::File | Kind::Symlink(_) | Kind::Fifo | Kind::Device => {}
                }
                move_in(stage, &staged, &folder, name, entry.kind == Kind::Folder)
            }
        }
    }

    /// What happens in a folder changes its time: folders get their attributes last, the innermost first.
    fn finish_folders(&self, tree: &Tree) -> io::Result<()> {
        for (path, entry) in tree.iter().rev() {
            let (Kind::Folder, Some(source), Some(name)) = (&entry.kind, &entry.source, path.file_name())
            else {
                continue;
            };
            let parent = self.root.folder(path.parent().unwrap_or(Path::new("")))?;
            let Some(there) = look(&parent, name)? else { continue };
            let agree = attributes_agree(&entry.kind, source, &there) && times_agree(source, &there);
            if !agree && may_change(&there) {
                adjust(entry, &parent, name)?;
            }
        }
        Ok(())
    }
}

/// A file that must not be there yet.
const NEW: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_CREAT)
    .union(OFlag::O_EXCL)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// The name under which a step's file waits.
fn name_of(number: usize) -> OsString {
    number.to_string().into()
}

/// Makes a copy with all attributes under a name that is free.
fn copy(kind: &Kind, source: &Source, folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let mode = Bits::S_IRUSR | Bits::S_IWUSR;
    match kind {
        // These are made when their turn comes.
        Kind::Folder | Kind::LinkTo(_) => return Ok(()),
        Kind::File => {
            let from = File::open(&source.path)?;
            let to = File::from(openat(folder, name, NEW, mode)?);
            Content::Whole(&from, source.meta.len()).write(&to, Holes::Keep, || Ok(()))?;
        }
        Kind::Symlink(target) => symlinkat(target.as_path(), folder, name)?,
        Kind::Fifo => mkfifoat(folder, name, mode)?,
        Kind::Device => {
            let kind = SFlag::from_bits_truncate(source.meta.mode() & SFlag::S_IFMT.bits());
            mknodat(folder, name, kind, mode, source.meta.rdev())?;
        }
    }
    set_attributes(kind, source, folder, name)
}

/// Owner (where we may), permissions and time.
fn set_attributes(kind: &Kind, source: &Source, folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let meta = &source.meta;
    if geteuid().is_root() {
        let (user, group) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
        fchownat(folder, name, Some(user), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    }
    if !matches!(kind, Kind::Symlink(_)) {
        // A file of any kind, opened without opening what is behind it; `fchmodat()` would follow a link.
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(folder, name, flags, Bits::empty())?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::set_permissions(path, Permissions::from_mode(bits(source)))?;
    }
    let modified = TimeSpec::new(meta.mtime(), meta.mtime_nsec());
    let accessed = TimeSpec::new(meta.atime(), meta.atime_nsec());
    Ok(utimensat(folder, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink)?)
}

fn adjust(entry: &Entry, folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    entry.source.as_ref().map_or(Ok(()), |source| set_attributes(&entry.kind, source, folder, name))
}

/// Moves a staged file to its place in one step, whatever is there.
fn move_in(
    stage: &OwnedFd,
    staged: &OsStr,
    folder: &OwnedFd,
    name: &OsStr,
    is_folder: bool,
) -> io::Result<()> {
    let there = look(folder, name)?.map(|it| There::of(&it) == There::Folder);
    if !there.is_some_and(|it| it || is_folder) {
        return Ok(renameat(stage, staged, folder, name)?);
    }
    match renameat2(stage, staged, folder, name, RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => return remove(stage, staged),
        // A file system that cannot.
        Err(nix::Error::EINVAL | nix::Error::ENOSYS | nix::Error::EOPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    // It is missing for a moment, and nothing of it is removed before the new one is in its place.
    let mut old = staged.to_owned();
    old.push(".old");
    renameat(folder, name, stage, old.as_os_str())?;
    if let Err(error) = renameat(stage, staged, folder, name) {
        renameat(stage, old.as_os_str(), folder, name)?;
        return Err(error.into());
    }
    remove(stage, &old)
}
