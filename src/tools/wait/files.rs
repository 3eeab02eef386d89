//! Files that are waited for: told by inotify, on each folder of the path and of the links in it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::statfs::statfs;

use crate::tools::wait::condition::FileWant;

/// As many as the kernel follows (MAXSYMLINKS).
const LINKS: usize = 40;

/// File systems on which others may make files that the kernel here is not told of (`statfs(2)`): 9P, AFS, Ceph, CIFS,
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

/// What tells of files.
#[derive(Debug)]
pub(super) struct Files {
    /// None where the kernel gives no more of them (`fs.inotify.max_user_instances`).
    inotify: Option<Inotify>,
    /// Has an exceptional condition when something is mounted, which inotify does not tell.
    mounts: Option<File>,
}

/// What a look at a path found.
#[derive(Debug)]
pub(super) struct Look {
    /// Why it is not as wanted.
    pub(super) missing: Option<String>,
    /// Changes may go unheard: it has to be looked at again from time to time.
    pub(super) deaf: bool,
}

impl Files {
    pub(super) fn open() -> Self {
        Self {
            inotify: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok(),
            mounts: File::open("/proc/self/mountinfo").ok(),
        }
    }

    /// What is readable when something has happened.
    pub(super) fn notices(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// What has an exceptional condition when something is mounted. Polling takes it.
    pub(super) fn mounts(&self) -> Option<BorrowedFd<'_>> {
        self.mounts.as_ref().map(AsFd::as_fd)
    }

    /// Takes all notices that wait. Has anything changed?
    pub(super) fn changed(&self) -> bool {
        let mut changed = false;
        while let Some(Ok(events)) = self.inotify.as_ref().map(Inotify::read_events) {
            changed |= !events.is_empty();
        }
        changed
    }

    /// Listens to what could bring the path about, then looks at it.
    pub(super) fn look(&self, path: &Path, want: FileWant) -> Look {
        let deaf = self.listen(path, want == FileWant::NonEmpty);
        let missing = match (want, fs::metadata(path)) {
            (FileWant::Exists, Ok(_)) => None,
            (FileWant::Exists | FileWant::NonEmpty, Err(error)) => Some(error.to_string()),
            (FileWant::NonEmpty, Ok(it)) if it.is_dir() => match fs::read_dir(path).map(|mut it| it.next()) {
                Ok(Some(_)) => None,
                Ok(None) => Some("it is an empty folder".to_owned()),
                Err(error) => Some(error.to_string()),
            },
            (FileWant::NonEmpty, Ok(it)) => (it.len() == 0).then(|| "it is empty".to_owned()),
            (FileWant::Gone, _) => match path.symlink_metadata() {
                Ok(_) => Some("it is still there".to_owned()),
                Err(error) if is_gone(&error) => None,
                Err(error) => Some(error.to_string()),
            },
        };
        Look { missing, deaf }
    }

    /// Watches every folder on the way, as far as it is there: each before what is in it is looked at, so that
    /// whatever comes too late to be seen is told. Answers whether some of it cannot be watched.
    pub(super) fn listen(&self, path: &Path, content: bool) -> bool {
        let mut deaf = self.mounts.is_none();
        let mut watched = HashSet::new();
        let mut at = PathBuf::from(if path.is_absolute() { "/" } else { "." });
        let mut rest: Vec<OsString> = names(path);
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if watched.insert(at.clone()) {
                deaf |= !self.watch(&at, AddWatchFlags::IN_ONLYDIR);
            }
            let next = at.join(name);
            match next.symlink_metadata() {
                Err(_) => return deaf,
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
        if content {
            deaf |= !self.watch(&at, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CLOSE_WRITE);
        }
        deaf
    }

    /// Can what happens there be heard of?
    fn watch(&self, path: &Path, more: AddWatchFlags) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let changes = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        // Two watches on one inode would be one with the later flags only.
        let add = AddWatchFlags::from_bits_retain(libc::IN_MASK_ADD);
        let heard = inotify.add_watch(path, changes | more | add).is_ok();
        heard && statfs(path).is_ok_and(|it| !REMOTE.contains(&(it.filesystem_type().0 as u64 & 0xffff_ffff)))
    }
}

/// The parts of a path, the first one last.
fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().filter(|it| matches!(it, Component::Normal(_) | Component::ParentDir));
    let mut names: Vec<OsString> = names.map(|it| it.as_os_str().to_owned()).collect();
    names.reverse();
    names
}

fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}
