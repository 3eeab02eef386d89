//! Updates the files directory in place, so that running containers that mount parts of it see the new files. All files
//! are copied first, then renamed one by one.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{
    DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink,
};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::{Mode as Bits, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{AccessFlags, Whence, access, geteuid, lseek, mkfifo};

use crate::tools::mdc::Wrong;
use crate::tools::mdc::files::{Entry, Kind, MARKER, STAGE, Source, Tree};
use crate::tools::mdc::project::shown;
use crate::tools::mdc::safety::FilesDir;

/// The text of the marker.
const MARKER_TEXT: &str = "This directory belongs to mdc, which replaces and removes its content.\n";

/// The changes of the files directory.
#[derive(Debug)]
pub(super) struct Sync {
    dir: FilesDir,
    tree: Tree,
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
        for (path, entry) in &sync.tree {
            let in_fresh = path.parent().is_some_and(|it| fresh.contains(it));
            let there = if in_fresh { None } else { sync.dir.path.join(path).symlink_metadata().ok() };
            let does = match &there {
                None => Some(Does::Add),
                Some(meta) => sync.compare(path, entry, meta, &changed).unwrap_or_else(|error| {
                    wrong.push(error);
                    None
                }),
            };
            if matches!(does, Some(Does::Add | Does::Replace)) {
                changed.insert(path);
                if entry.kind == Kind::Folder {
                    fresh.insert(path);
                }
            }
            steps.extend(does.map(|does| Step { path: path.clone(), does }));
        }
        if sync.dir.exists
            && let Err(error) = sync.find_strangers(Path::new(""), &mut steps)
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
        there: &Metadata,
        changed: &BTreeSet<&Path>,
    ) -> Result<Option<Does>, String> {
        let target = self.dir.path.join(path);
        let failed = |path: &Path, error: io::Error| format!("{}: {error}", shown(path));
        let kind = there.file_type();
        let Some(source) = &entry.source else {
            return Ok((!kind.is_dir()).then_some(Does::Replace));
        };
        let same = match &entry.kind {
            Kind::Folder => kind.is_dir(),
            Kind::File => {
                kind.is_file()
                    && there.len() == source.meta.len()
                    && same_content(&source.path, &target).map_err(|it| failed(&source.path, it))?
            }
            Kind::LinkTo(first) => {
                let first_there = self.dir.path.join(first).symlink_metadata();
                !changed.contains(first.as_path()) && first_there.is_ok_and(|it| ids(&it) == ids(there))
            }
            Kind::Symlink(to) => kind.is_symlink() && fs::read_link(&target).is_ok_and(|it| it == *to),
            Kind::Fifo => kind.is_fifo(),
            Kind::Device => {
                (kind.is_char_device() || kind.is_block_device())
                    && there.rdev() == source.meta.rdev()
                    && kind == source.meta.file_type()
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

    /// Adds steps that remove what no mode has.
    fn find_strangers(&self, folder: &Path, steps: &mut Vec<Step>) -> io::Result<()> {
        for name in names(&self.dir.path.join(folder))? {
            let path = folder.join(&name);
            if path == Path::new(MARKER) || path == Path::new(STAGE) {
                continue;
            }
            match self.tree.get(&path) {
                None => steps.push(Step { path, does: Does::Remove }),
                Some(entry) if entry.kind == Kind::Folder => {
                    if self.dir.path.join(&path).symlink_metadata()?.is_dir() {
                        self.find_strangers(&path, steps)?;
                    }
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Checks that each directory that changes is writable, before anything is changed.
    fn check_writable(&self, wrong: &mut Wrong) {
        let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
        if self.dir.exists {
            if !self.steps.is_empty() || !self.dir.is_marked {
                folders.insert(self.dir.path.clone());
            }
            let parents = self.steps.iter().filter_map(|it| it.path.parent());
            folders.extend(parents.map(|it| self.dir.path.join(it)).filter(|it| it.is_dir()));
            // A directory is removed with its content.
            let gone = self.steps.iter().filter(|it| matches!(it.does, Does::Remove | Does::Replace));
            gone.for_each(|it| filled_folders(&self.dir.path.join(&it.path), &mut folders));
        } else if let Some(parent) =
            self.dir.path.ancestors().skip(1).find(|it| it.is_dir() || *it == Path::new(""))
        {
            folders.insert(parent.to_owned());
        }
        for it in folders {
            let folder = if it == Path::new("") { Path::new(".") } else { &it };
            if let Err(error) = access(folder, AccessFlags::W_OK | AccessFlags::X_OK) {
                wrong.push(format!(
                    "{}: cannot write to the directory: {}",
                    shown(folder),
                    io::Error::from(error)
                ));
            }
        }
    }

    /// Copies new files to the staging directory, without changing existing ones.
    pub(super) fn stage(&self) -> io::Result<()> {
        if !self.dir.exists {
            fs::create_dir_all(&self.dir.path)?;
        }
        self.clear_stage()?;
        if self.steps.is_empty() {
            return Ok(());
        }
        fs::DirBuilder::new().mode(0o700).create(self.staged(None))?;
        for (number, step) in self.steps.iter().enumerate() {
            if matches!(step.does, Does::Add | Does::Replace)
                && let Some(Entry { kind, source: Some(source) }) = self.tree.get(&step.path)
            {
                let context =
                    |it: io::Error| io::Error::new(it.kind(), format!("{}: {it}", shown(&source.path)));
                copy(kind, source, &self.staged(Some(number))).map_err(context)?;
            }
        }
        Ok(())
    }

    /// Renames new files into place one by one, and removes what no mode has.
    pub(super) fn commit(&self) -> io::Result<()> {
        if !self.dir.is_marked {
            let marker = self.dir.path.join(MARKER);
            // In a directory that is taken over it may be anything.
            remove(&marker)?;
            fs::write(marker, MARKER_TEXT)?;
        }
        for (number, step) in self.steps.iter().enumerate() {
            let target = self.dir.path.join(&step.path);
            let context = |it: io::Error| io::Error::new(it.kind(), format!("{}: {it}", shown(&target)));
            self.carry_out(number, step, &target).map_err(context)?;
        }
        self.finish_folders()?;
        self.clear_stage()
    }

    fn carry_out(&self, number: usize, step: &Step, target: &Path) -> io::Result<()> {
        let staged = self.staged(Some(number));
        let entry = self.tree.get(&step.path);
        match (step.does, entry) {
            (Does::Remove, _) | (_, None) => remove(target),
            // Directories are adjusted at the end.
            (Does::Adjust, Some(Entry { kind: Kind::Folder, .. })) => Ok(()),
            (Does::Adjust, Some(entry)) => adjust(entry, target),
            (Does::Add | Does::Replace, Some(entry)) => {
                match &entry.kind {
                    Kind::Folder => {
                        let bits = entry.source.as_ref().map_or(0o777, |it| it.meta.mode() & 0o777 | 0o700);
                        fs::DirBuilder::new().mode(bits).create(&staged)?;
                    }
                    Kind::LinkTo(first) => fs::hard_link(self.dir.path.join(first), &staged)?,
                    Kind::File | Kind::Symlink(_) | Kind::Fifo | Kind::Device => {}
                }
                move_in(&staged, target, entry.kind == Kind::Folder)
            }
        }
    }

    /// Sets the attributes of directories last and inner ones first, because changes in a directory change its time.
    fn finish_folders(&self) -> io::Result<()> {
        for (path, entry) in self.tree.iter().rev() {
            if let (Kind::Folder, Some(source)) = (&entry.kind, &entry.source) {
                let target = self.dir.path.join(path);
                let there = target.symlink_metadata()?;
                let agree =
                    attributes_agree(&entry.kind, source, &there) && times(&there) == times(&source.meta);
                if !agree && may_change(&there) {
                    adjust(entry, &target)?;
                }
            }
        }
        Ok(())
    }

    /// The staged file of a step, or the staging directory.
    fn staged(&self, number: Option<usize>) -> PathBuf {
        let stage = self.dir.path.join(STAGE);
        number.map_or(stage.clone(), |it| stage.join(it.to_string()))
    }

    /// Reverts [`Sync::stage`].
    pub(super) fn unstage(&self) {
        // The error that led here is reported instead.
        let _ = self.clear_stage();
        if !self.dir.exists {
            let _ = fs::remove_dir(&self.dir.path);
        }
    }

    /// Removes staged files, those of a killed run too.
    fn clear_stage(&self) -> io::Result<()> {
        remove(&self.staged(None))
    }
}

/// Collects the non-empty directories at and below a path.
fn filled_folders(path: &Path, found: &mut BTreeSet<PathBuf>) {
    if !path.symlink_metadata().is_ok_and(|it| it.is_dir()) {
        return;
    }
    // An unreadable directory cannot be emptied either.
    let names = names(path).unwrap_or_else(|_| vec!["?".into()]);
    if !names.is_empty() {
        found.insert(path.to_owned());
    }
    names.iter().for_each(|it| filled_folders(&path.join(it), found));
}

/// Whether this process may change owner, permissions and time of the entry.
fn may_change(there: &Metadata) -> bool {
    geteuid().is_root() || there.uid() == geteuid().as_raw()
}

fn ids(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

fn times(meta: &Metadata) -> (i64, i64) {
    (meta.mtime(), meta.mtime_nsec())
}

fn names(folder: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names =
        fs::read_dir(folder)?.map(|it| it.map(|it| it.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// The permissions of a copy: without set-id bits if it gets another owner.
fn bits(source: &Source) -> u32 {
    let bits = source.meta.mode() & 0o7777;
    if may_change(&source.meta) { bits } else { bits & 0o777 }
}

/// Whether owner, permissions and time are those of a copy. Times of directories are checked at the end.
fn attributes_agree(kind: &Kind, source: &Source, there: &Metadata) -> bool {
    let owners = !geteuid().is_root() || (there.uid(), there.gid()) == (source.meta.uid(), source.meta.gid());
    let permissions = matches!(kind, Kind::Symlink(_)) || there.mode() & 0o7777 == bits(source);
    owners && permissions && (*kind == Kind::Folder || times(there) == times(&source.meta))
}

fn same_content(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    let mut buffers = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let read = a.read(&mut buffers.0)?;
        let Some(other) = buffers.1.get_mut(..read) else { return Ok(false) };
        if read == 0 {
            return Ok(true);
        }
        // The file has become shorter meanwhile.
        if b.read_exact(other).is_err() || buffers.0.get(..read) != Some(other) {
            return Ok(false);
        }
    }
}

/// Creates a copy with all attributes at a new path.
fn copy(kind: &Kind, source: &Source, to: &Path) -> io::Result<()> {
    match kind {
        // Created later.
        Kind::Folder | Kind::LinkTo(_) => return Ok(()),
        Kind::File => {
            let from = File::open(&source.path)?;
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
            copy_content(from, &file, &source.meta)?;
        }
        Kind::Symlink(target) => symlink(target, to)?,
        Kind::Fifo => mkfifo(to, Bits::S_IRUSR | Bits::S_IWUSR)?,
        Kind::Device => {
            let kind = SFlag::from_bits_truncate(source.meta.mode() & SFlag::S_IFMT.bits());
            mknod(to, kind, Bits::S_IRUSR | Bits::S_IWUSR, source.meta.rdev())?;
        }
    }
    set_attributes(kind, source, to)
}

/// Copies a file with its holes.
fn copy_content(mut from: File, mut to: &File, meta: &Metadata) -> io::Result<()> {
    let is_sparse = meta.blocks().saturating_mul(512) < meta.len();
    if !is_sparse {
        return io::copy(&mut from, &mut to).map(|_| ());
    }
    to.set_len(meta.len())?;
    let mut end = 0;
    while let Ok(start) = lseek(&from, end, Whence::SeekData) {
        end = lseek(&from, start, Whence::SeekHole)?;
        from.seek(SeekFrom::Start(start.cast_unsigned()))?;
        to.seek(SeekFrom::Start(start.cast_unsigned()))?;
        io::copy(&mut (&from).take((end - start).cast_unsigned()), &mut to)?;
    }
    Ok(())
}

/// Sets owner (if allowed), permissions and time.
fn set_attributes(kind: &Kind, source: &Source, to: &Path) -> io::Result<()> {
    if geteuid().is_root() {
        lchown(to, Some(source.meta.uid()), Some(source.meta.gid()))?;
    }
    let is_link = matches!(kind, Kind::Symlink(_));
    if !is_link {
        fs::set_permissions(to, Permissions::from_mode(bits(source)))?;
    }
    let modified = TimeSpec::new(source.meta.mtime(), source.meta.mtime_nsec());
    let accessed = TimeSpec::new(source.meta.atime(), source.meta.atime_nsec());
    Ok(utimensat(AT_FDCWD, to, &accessed, &modified, UtimensatFlags::NoFollowSymlink)?)
}

fn adjust(entry: &Entry, target: &Path) -> io::Result<()> {
    entry.source.as_ref().map_or(Ok(()), |source| set_attributes(&entry.kind, source, target))
}

/// Renames a staged file into place in one step, whatever exists there.
fn move_in(staged: &Path, target: &Path, is_folder: bool) -> io::Result<()> {
    let there = match target.symlink_metadata() {
        Ok(it) => Some(it.is_dir()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    match there {
        Some(is_dir) if is_dir || is_folder => {
            let exchanged = renameat2(AT_FDCWD, staged, AT_FDCWD, target, RenameFlags::RENAME_EXCHANGE);
            if exchanged.is_err() {
                // The file system cannot exchange; the entry is missing for a moment.
                remove(target)?;
                return fs::rename(staged, target);
            }
            remove(staged)
        }
        _ => fs::rename(staged, target),
    }
}

/// Removes an entry if it exists. Symbolic links are not followed.
fn remove(path: &Path) -> io::Result<()> {
    let result = match path.symlink_metadata() {
        Ok(it) if it.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
