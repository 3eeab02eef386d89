//! Directories by descriptor, so that no path is too long and no symbolic link leads out of the tree.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::dir::{Dir, Type};
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

/// The number of symbolic links that the kernel follows (MAXSYMLINKS).
const LINKS: usize = 40;

/// The longest path passed to the kernel at once: PATH_MAX without room for a name.
const PATH: usize = 3800;

const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW);

/// Whether openat2() is missing: kernels before 5.6, or a filter of system calls.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// The top directory of a tree. Paths below it are relative and contain neither symbolic links nor `..`.
#[derive(Debug)]
pub(in crate::tools) struct Root {
    folder: File,
    /// As given.
    path: PathBuf,
}

/// An entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tools) enum Kind {
    Folder,
    File,
    Link,
    /// A device, a pipe or a socket.
    Special,
}

impl Kind {
    pub(in crate::tools) fn of(stat: &FileStat) -> Self {
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFDIR => Self::Folder,
            SFlag::S_IFREG => Self::File,
            SFlag::S_IFLNK => Self::Link,
            _ => Self::Special,
        }
    }
}

/// Where a symbolic link in a tree leads. `/` is the top of the tree, as for a process with that root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tools) enum LinkEnd {
    Folder(PathBuf),
    /// A file or special file, by directory and name.
    File(PathBuf, OsString),
    Nowhere,
    /// Out of the tree.
    Outside,
    /// Through too many symbolic links.
    Loop,
}

/// The identity of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::tools) struct Identity {
    dev: u64,
    ino: u64,
}

impl Identity {
    pub(in crate::tools) fn of(stat: &FileStat) -> Self {
        Self { dev: stat.st_dev, ino: stat.st_ino }
    }
}

impl Root {
    /// Opens a folder, or the one that a link leads to.
    pub(in crate::tools) fn open(path: &Path) -> io::Result<Self> {
        Self::open_with(path, FOLDER.difference(OFlag::O_NOFOLLOW))
    }

    /// Opens a folder; ELOOP or ENOTDIR for a link to one.
    pub(in crate::tools) fn open_itself(path: &Path) -> io::Result<Self> {
        Self::open_with(path, FOLDER)
    }

    /// The same folder, however it is named by now.
    pub(in crate::tools) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { folder: self.folder.try_clone()?, path: self.path.clone() })
    }

    fn open_with(path: &Path, flags: OFlag) -> io::Result<Self> {
        let folder = nix::fcntl::open(path, flags, Mode::empty())?;
        Ok(Self { folder: File::from(folder), path: path.to_owned() })
    }

    pub(in crate::tools) fn identity(&self) -> io::Result<Identity> {
        Ok(Identity::of(&fstat(&self.folder)?))
    }

    pub(in crate::tools) fn file(&self) -> &File {
        &self.folder
    }

    /// A path below the top, for messages.
    pub(in crate::tools) fn shown(&self, below: &Path) -> PathBuf {
        if below.as_os_str().is_empty() { self.path.clone() } else { self.path.join(below) }
    }

    /// Opens a directory below the top.
    pub(in crate::tools) fn folder(&self, below: &Path) -> io::Result<OwnedFd> {
        let mut rest = below.as_os_str().as_bytes();
        let mut at: Option<OwnedFd> = None;
        while rest.len() > PATH {
            let Some(end) = rest.get(..PATH).and_then(|it| memchr::memrchr(b'/', it)) else { break };
            let (part, more) = rest.split_at(end);
            let from = at.as_ref().map_or(self.folder.as_fd(), AsFd::as_fd);
            at = Some(open_folder(from, Path::new(OsStr::from_bytes(part)))?);
            rest = more.strip_prefix(b"/").unwrap_or(more);
        }
        let from = at.as_ref().map_or(self.folder.as_fd(), AsFd::as_fd);
        open_folder(from, Path::new(if rest.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(rest) }))
    }

    /// Follows a symbolic link in the directory `from`, within the tree.
    pub(in crate::tools) fn follow(&self, from: &Path, target: &Path) -> io::Result<LinkEnd> {
        let mut at: Vec<OsString> = from.components().map(|it| it.as_os_str().to_owned()).collect();
        let mut rest = Vec::new();
        push_parts(&mut at, &mut rest, target);
        let mut links = 1;
        while let Some(name) = rest.pop() {
            if name == ".." {
                if at.pop().is_none() {
                    return Ok(LinkEnd::Outside);
                }
                continue;
            }
            let folder: PathBuf = at.iter().collect();
            let open = self.folder(&folder)?;
            let stat = match fstatat(&open, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(it) => it,
                Err(nix::Error::ENOENT) => return Ok(LinkEnd::Nowhere),
                Err(error) => return Err(error.into()),
            };
            match Kind::of(&stat) {
                Kind::Folder => at.push(name),
                Kind::Link if links >= LINKS => return Ok(LinkEnd::Loop),
                Kind::Link => {
                    links += 1;
                    let target = PathBuf::from(readlinkat(&open, name.as_os_str())?);
                    push_parts(&mut at, &mut rest, &target);
                }
                Kind::File | Kind::Special if rest.is_empty() => return Ok(LinkEnd::File(folder, name)),
                Kind::File | Kind::Special => return Ok(LinkEnd::Nowhere),
            }
        }
        Ok(LinkEnd::Folder(at.iter().collect()))
    }
}

/// Adds the parts of a symbolic link's target to the rest of the path. An absolute target starts at the top.
fn push_parts(at: &mut Vec<OsString>, rest: &mut Vec<OsString>, target: &Path) {
    if target.is_absolute() {
        at.clear();
    }
    let parts = target.components().filter(|it| matches!(it, Component::Normal(_) | Component::ParentDir));
    rest.extend(parts.map(|it| it.as_os_str().to_owned()).collect::<Vec<_>>().into_iter().rev());
}

fn open_folder(from: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    if !NO_OPENAT2.load(Ordering::Relaxed) {
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        loop {
            match openat2(from, path, OpenHow::new().flags(FOLDER).resolve(resolve)) {
                // Something was renamed meanwhile.
                Err(nix::Error::EAGAIN) => {}
                Err(nix::Error::ENOSYS | nix::Error::EPERM) => break,
                result => return Ok(result?),
            }
        }
        NO_OPENAT2.store(true, Ordering::Relaxed);
    }
    walk(from, path)
}

/// Opens a folder below a folder without openat2(). The flag against links is about the last name alone, so the path is
/// walked name by name.
fn walk(from: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let mut at = openat(from, ".", FOLDER, Mode::empty())?;
    for name in path.components().filter(|it| matches!(it, Component::Normal(_))) {
        at = openat(&at, name.as_os_str(), FOLDER, Mode::empty())?;
    }
    Ok(at)
}

/// Opens a folder below a folder. Neither it nor one on the way may be a mount: the error is then EXDEV. Without openat2() a
/// bind mount from the same file system goes unnoticed.
pub(in crate::tools) fn open_unmounted(folder: impl AsFd, below: &Path) -> io::Result<OwnedFd> {
    let below = if below == Path::new("") { Path::new(".") } else { below };
    if !NO_OPENAT2.load(Ordering::Relaxed) {
        let resolve =
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
        match openat2(&folder, below, OpenHow::new().flags(FOLDER).resolve(resolve)) {
            Err(nix::Error::ENOSYS | nix::Error::EPERM) => NO_OPENAT2.store(true, Ordering::Relaxed),
            result => return Ok(result?),
        }
    }
    let opened = open_folder(folder.as_fd(), below)?;
    if fstat(&opened)?.st_dev != fstat(&folder)?.st_dev {
        return Err(nix::Error::EXDEV.into());
    }
    Ok(opened)
}

/// Removes what has this name, if anything has, and all that is in it. Nothing is removed from a mount: the error is then
/// EXDEV or EBUSY.
pub(in crate::tools) fn remove(folder: impl AsFd, name: &OsStr) -> io::Result<()> {
    let is_folder = match look(&folder, name)? {
        None => return Ok(()),
        Some(stat) => Kind::of(&stat) == Kind::Folder,
    };
    if is_folder {
        let opened = open_unmounted(&folder, Path::new(name))?;
        make_writable(&opened)?;
        for (name, _) in list(opened.try_clone()?)? {
            remove(&opened, &name)?;
        }
    }
    let flag = if is_folder { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
    match unlinkat(folder, name, flag) {
        Err(nix::Error::ENOENT) => Ok(()),
        result => Ok(result?),
    }
}

/// Gives the owner of a folder, if that is us, the right to change what is in it.
pub(in crate::tools) fn make_writable(folder: &OwnedFd) -> io::Result<()> {
    let stat = fstat(folder)?;
    let is_own = stat.st_uid == geteuid().as_raw() && !geteuid().is_root();
    if is_own && stat.st_mode & 0o300 != 0o300 {
        fchmod(folder, Mode::from_bits_truncate(stat.st_mode & 0o7777) | Mode::S_IRWXU)?;
    }
    Ok(())
}

/// The entries of a directory, sorted by name.
pub(in crate::tools) fn list(folder: OwnedFd) -> io::Result<Vec<(OsString, Kind)>> {
    let mut dir = Dir::from_fd(folder)?;
    let mut found = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        found.push((OsString::from_vec(name.to_vec()), entry.file_type()));
    }
    let mut listed = Vec::with_capacity(found.len());
    for (name, kind) in found {
        let kind = match kind {
            Some(Type::Directory) => Kind::Folder,
            Some(Type::File) => Kind::File,
            Some(Type::Symlink) => Kind::Link,
            Some(_) => Kind::Special,
            // Some file systems do not report the type.
            None => match fstatat(&dir, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => Kind::of(&stat),
                Err(nix::Error::ENOENT) => continue,
                Err(error) => return Err(error.into()),
            },
        };
        listed.push((name, kind));
    }
    listed.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(listed)
}

/// The entry with a name in a directory, without following symbolic links. None if there is none.
pub(in crate::tools) fn look(folder: impl AsFd, name: &OsStr) -> io::Result<Option<FileStat>> {
    match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(it) => Ok(Some(it)),
        Err(nix::Error::ENOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a file for reading, without following a symbolic link or waiting for a pipe.
pub(in crate::tools) fn open_file(folder: impl AsFd, name: &OsStr) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    Ok(File::from(openat(folder, name, flags, Mode::empty())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_within_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir_all(top.join("usr/lib/x")).unwrap();
        fs::write(top.join("usr/file"), "").unwrap();
        fs::write(dir.path().join("secret"), "").unwrap();
        for (target, name) in [
            ("usr/lib", "lib"),
            ("/usr/lib", "abs"),
            ("lib/../file", "file"),
            ("none/x", "dangling"),
            ("../secret", "up"),
            ("/../secret", "absup"),
            ("usr/../../top/usr", "upagain"),
            ("loop", "loop"),
            ("usr/file/x", "through"),
            ("lib/x", "twice"),
            (".", "self"),
        ] {
            symlink(target, top.join(name)).unwrap();
        }
        let root = Root::open(&top).unwrap();
        let follow =
            |name: &str| root.follow(Path::new(""), &fs::read_link(top.join(name)).unwrap()).unwrap();
        assert_eq!(follow("lib"), LinkEnd::Folder("usr/lib".into()));
        assert_eq!(follow("abs"), LinkEnd::Folder("usr/lib".into()));
        assert_eq!(follow("file"), LinkEnd::File("usr".into(), "file".into()));
        assert_eq!(follow("dangling"), LinkEnd::Nowhere);
        assert_eq!(follow("up"), LinkEnd::Outside);
        assert_eq!(follow("absup"), LinkEnd::Outside);
        assert_eq!(follow("upagain"), LinkEnd::Outside);
        assert_eq!(follow("loop"), LinkEnd::Loop);
        assert_eq!(follow("through"), LinkEnd::Nowhere);
        assert_eq!(follow("twice"), LinkEnd::Folder("usr/lib/x".into()));
        assert_eq!(follow("self"), LinkEnd::Folder("".into()));
        assert_eq!(
            root.follow(Path::new("usr"), Path::new("../lib/x")).unwrap(),
            LinkEnd::Folder("usr/lib/x".into())
        );
        // Symbolic links in a path are not followed here, with openat2() or without.
        let without = |path: &Path| walk(root.file().as_fd(), path);
        for path in ["lib", "lib/x", "upagain", "upagain/lib"].map(Path::new) {
            assert!(root.folder(path).is_err() && without(path).is_err(), "{path:?}");
        }
        let path = Path::new("usr/lib/x");
        assert!(root.folder(path).is_ok() && without(path).is_ok());
    }
}
