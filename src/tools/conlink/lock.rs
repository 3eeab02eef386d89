//! Allows one engine per project and network namespace: a second one would undo the work of the first.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};

/// A locked file that only its owner may open. The kernel releases the lock when the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock `name` in `folder`; None if another process has it.
    pub(super) fn take(folder: &Path, name: &str) -> anyhow::Result<Option<Self>> {
        let path = folder.join(name);
        let what = || format!("lock {}", path.display());
        DirBuilder::new().recursive(true).mode(0o755).create(folder).with_context(what)?;
        loop {
            let mut options = OpenOptions::new();
            // Read access is enough to lock a file, so others must not have it.
            options.read(true).write(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            let file = options.open(&path).with_context(what)?;
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(it) => it,
                Err((_, nix::Error::EWOULDBLOCK)) => return Ok(None),
                Err((_, error)) => return Err(io::Error::from(error)).with_context(what),
            };
            let ours = file.metadata().with_context(what)?;
            // The last holder removes the file at its end, so the path may be gone or another file.
            match fs::symlink_metadata(&path) {
                Ok(it) if (it.dev(), it.ino()) == (ours.dev(), ours.ino()) => {
                    return Ok(Some(Self { path, _file: file }));
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    bail!(anyhow::Error::new(error).context(what()));
                }
                _ => {}
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is locked.
        if let Err(error) = fs::remove_file(&self.path) {
            log::debug!("remove {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_lock_is_one_process_s_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made");
        let lock = Lock::take(&folder, "p").unwrap().unwrap();
        assert_eq!(fs::metadata(&lock.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Lock::take(&folder, "p").unwrap().is_none());
        assert!(Lock::take(&folder, "q").unwrap().is_some());
        drop(lock);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        // A killed process leaves the file, and no lock.
        fs::write(folder.join("p"), "").unwrap();
        assert!(Lock::take(&folder, "p").unwrap().is_some());
    }

    #[test]
    fn a_lock_that_many_take_and_leave_is_never_two_s() {
        let folder = tempfile::tempdir().unwrap();
        let (holders, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while taken.load(Ordering::SeqCst) < 500 {
                        let Some(lock) = Lock::take(folder.path(), "p").unwrap() else { continue };
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        taken.fetch_add(1, Ordering::SeqCst);
                        holders.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
    }
}
