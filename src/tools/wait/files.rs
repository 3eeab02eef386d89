//! Waiting for files: the kernel notifies of changes in each directory of the path and of the symbolic links in it.
//!
//! It notifies by SIGIO (dnotify, F_NOTIFY in `fcntl(2)`): closing an inotify takes the kernel 5 to 25 ms, for which the
//! command would have to wait (`fsnotify_destroy_group()` in fs/notify/group.c); closing a directory takes none. Without
//! dnotify, inotify is used; if its limit is reached, files are checked from time to time.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::statfs::fstatfs;

use crate::tools::wait::check::{Parsed, file};

/// The number of symbolic links that the kernel follows (MAXSYMLINKS).
const LINKS: usize = 40;

/// File systems on which other machines may create files without a notification here (`statfs(2)`): 9P, AFS, Ceph, CIFS,
/// FUSE with virtiofs, NFS, SMB, SMB2, vboxsf.
const REMOTE: [u64; 9] = [
    0x0102_1997,
    0x5346_414f,
    0x00c3_6400,
    0xff53_4d42,
    0x6573_5546,
    0x6969,
    0x517b,
    0xfe53_4d42,
    0x786f_4256,
];

/// The most directories that are kept open.
const FOLDERS: usize = 100;

/// Flags of dnotify (`include/uapi/linux/fcntl.h`): create, delete, rename; repeatedly.
const CHANGES: libc::c_int = 0x04 | 0x08 | 0x10 | 0x8000_0000_u32.cast_signed();

/// The flag for writes to a file.
const MODIFY: libc::c_int = 0x02;

pub(super) fn exists(path: &OsStr) -> Parsed {
    file(path, false, |path| fs::metadata(path).map(|_| None))
}

/// A file with at least one byte, or a directory with at least one entry.
pub(super) fn nonempty(path: &OsStr) -> Parsed {
    file(path, true, |path| {
        let it = fs::metadata(path)?;
        Ok(if it.is_dir() {
            fs::read_dir(path)?.next().is_none().then(|| "the directory is empty".to_owned())
        } else {
            (it.len() == 0).then(|| "the file is empty".to_owned())
        })
    })
}

pub(super) fn gone(path: &OsStr) -> Parsed {
    file(path, false, |path| match path.symlink_metadata() {
        Ok(_) => Ok(Some("it still exists".to_owned())),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        Err(error) => Err(error),
    })
}

/// Notifications of files. Must not outlive [`crate::process::Signals`], which takes its signal.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// The watched directories, by path.
    folders: HashMap<PathBuf, Folder>,
    inotify: Option<Inotify>,
    /// Has an exceptional condition after a mount, of which there is no other notification.
    mounts: Option<File>,
}

#[derive(Debug)]
struct Folder {
    open: File,
    /// Writes to its files matter as well.
    content: bool,
}

impl Files {
    /// The descriptor that becomes readable after a change, unless changes come as a signal.
    pub(super) fn notices(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// The descriptor with an exceptional condition after a mount. Polling clears it.
    pub(super) fn mounts(&self) -> Option<BorrowedFd<'_>> {
        self.mounts.as_ref().map(AsFd::as_fd)
    }

    /// Reads all notifications that are not signals. Returns whether there were any.
    pub(super) fn changed(&self) -> bool {
        let mut changed = false;
        while let Some(Ok(events)) = self.inotify.as_ref().map(Inotify::read_events) {
            changed |= !events.is_empty();
        }
        changed
    }

    /// Watches every existing directory on the path, each before it is read, so that a later change is notified; in the
    /// last one writes to files too, with `content`. Returns whether some directory
    /// cannot be watched.
    pub(super) fn listen(&mut self, path: &Path, content: bool) -> bool {
        if self.mounts.is_none() {
            self.mounts = File::open("/proc/self/mountinfo").ok();
        }
        if self.folders.len() > FOLDERS {
            self.folders.clear();
        }
        let mut deaf = self.mounts.is_none();
        let mut at = PathBuf::from(if path.is_absolute() { "/" } else { "." });
        let mut rest: Vec<OsString> = names(path);
        let mut links = 0;
        loop {
            // The path itself may be a directory, whose content matters.
            deaf |= !self.folder(&at, content && rest.len() == 1).unwrap_or(rest.is_empty());
            let Some(name) = rest.pop() else { return deaf };
            let next = at.join(name);
            match next.symlink_metadata() {
                Err(error) => return deaf || error.kind() == io::ErrorKind::PermissionDenied,
                Ok(it) if it.is_symlink() => {
                    links += 1;
                    let Ok(target) = fs::read_link(&next) else { return true };
                    if links > LINKS {
                        return deaf;
                    }
                    if target.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    rest.extend(names(&target));
                }
                Ok(_) => at = next,
            }
        }
    }

    /// Whether every change in a directory is notified.
    fn folder(&mut self, path: &Path, content: bool) -> io::Result<bool> {
        let now = fs::metadata(path)?;
        let heard = |it: &Folder| {
            let same = it.open.metadata().is_ok_and(|it| (it.dev(), it.ino()) == (now.dev(), now.ino()));
            same && (it.content || !content)
        };
        if !self.folders.get(path).is_some_and(heard) {
            let open = File::options().read(true).custom_flags(libc::O_DIRECTORY).open(path)?;
            let changes = if content { CHANGES | MODIFY } else { CHANGES };
            if notify(&open, changes).is_err() && !self.inotify(path) {
                return Ok(false);
            }
            self.folders.insert(path.to_owned(), Folder { open, content });
        }
        let Some(folder) = self.folders.get(path) else { return Ok(false) };
        let kind = fstatfs(&folder.open)?.filesystem_type().0 as u64 & 0xffff_ffff;
        Ok(!REMOTE.contains(&kind))
    }

    fn inotify(&mut self, path: &Path) -> bool {
        if self.inotify.is_none() {
            self.inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok();
        }
        let changes = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_MODIFY;
        self.inotify.as_ref().is_some_and(|it| it.add_watch(path, changes).is_ok())
    }
}

/// Asks the kernel for SIGIO at each of these changes in a directory, until it is closed.
#[expect(unsafe_code, reason = "no crate offers F_NOTIFY")]
fn notify(folder: &File, changes: libc::c_int) -> io::Result<()> {
    // SAFETY: the call takes a number and no memory.
    let result = unsafe { libc::fcntl(folder.as_raw_fd(), libc::F_NOTIFY, changes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The parts of a path, the first one last.
fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().filter(|it| matches!(it, Component::Normal(_) | Component::ParentDir));
    let mut names: Vec<OsString> = names.map(|it| it.as_os_str().to_owned()).collect();
    names.reverse();
    names
}
