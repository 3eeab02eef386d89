//! Where a lab has its folder, and who keeps it.
//!
//! The folder is `/run/conlink/lab/NAME`, or one in the user's runtime folder. Its keeper holds a lock in it, which ends
//! with the process, however that ends: the lock alone tells whether the lab lives.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};

use crate::process::node;
use crate::tools::conlink::client::{Kind, Server};

/// A lab's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LabDir {
    folder: PathBuf,
}

/// Nobody else starts or ends the lab while this is held.
#[derive(Debug)]
pub(super) struct Claim(Flock<File>);

impl Claim {
    /// A file that keeps it for as long as it is open, unless the claim itself is given up.
    pub(super) fn share(&self) -> io::Result<OwnedFd> {
        Ok(self.0.try_clone()?.into())
    }
}

impl LabDir {
    /// The lab of that name, which need not live.
    pub(super) fn find(name: &str) -> anyhow::Result<Self> {
        let mut found = roots().into_iter().filter_map(|it| it.lab(name.as_ref()));
        if is_plain(name)
            && let Some(folder) = found.next()
        {
            return Ok(Self { folder });
        }
        let all = Self::all();
        match all.is_empty() {
            true => bail!("there is no lab `{name}`, nor any other"),
            false => bail!(
                "there is no lab `{name}`; there are: {}",
                all.iter().map(Self::name).collect::<Vec<_>>().join(", ")
            ),
        }
    }

    /// The lab of that name, to be made where there is none.
    pub(super) fn make(name: &str) -> anyhow::Result<Self> {
        if !is_plain(name) {
            bail!("`{name}` is no name for a lab: letters, digits, `.`, `_` and `-` are");
        }
        if let Ok(found) = Self::find(name) {
            return Ok(found);
        }
        let mut refusal = None;
        for root in roots() {
            let folder = root.folder().join(name);
            // A folder in /tmp may have been made by somebody else before.
            let there = folder.ancestors().find(|it| it.exists()).unwrap_or(Path::new("/"));
            if there.starts_with(&root.base) && !root.is_ours(there) {
                refusal.get_or_insert(anyhow::anyhow!("{} is somebody else's", there.display()));
                continue;
            }
            match DirBuilder::new().recursive(true).mode(0o700).create(&folder) {
                // It may have been made in that very moment.
                Ok(()) if root.is_ours(&folder) => return Ok(Self { folder }),
                Ok(()) => {
                    refusal.get_or_insert(anyhow::anyhow!("{} is somebody else's", folder.display()));
                }
                Err(error) => {
                    refusal.get_or_insert(
                        anyhow::Error::new(error).context(format!("make {}", folder.display())),
                    );
                }
            }
        }
        Err(refusal.unwrap_or_else(|| anyhow::anyhow!("there is no folder for labs")))
    }

    /// Every lab there is, ours and the system's.
    pub(super) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for root in roots() {
            let entries = fs::read_dir(root.folder()).into_iter().flatten().flatten();
            all.extend(entries.filter_map(|it| Some(Self { folder: root.lab(&it.file_name())? })));
        }
        all.sort_by(|a, b| a.folder.cmp(&b.folder));
        all
    }

    pub(super) fn name(&self) -> &str {
        self.folder.file_name().and_then(|it| it.to_str()).unwrap_or_default()
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    pub(super) fn server(&self) -> Server {
        Server { kind: Kind::Lab, name: self.name().to_owned(), socket: self.socket() }
    }

    fn lock_path(&self) -> PathBuf {
        self.folder.join("lock")
    }

    /// Takes the lab for ourselves, when nobody else has; makes its folder if it is gone by then.
    pub(super) fn claim(&self) -> anyhow::Result<Claim> {
        let what = || format!("lock {}", self.folder.display());
        loop {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).with_context(what)?;
            let folder = match File::open(&self.folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                folder => folder.with_context(what)?,
            };
            let locked = Flock::lock(folder, FlockArg::LockExclusive)
                .map_err(|(_, it)| io::Error::from(it))
                .with_context(what)?;
            // Who had it before may have removed the folder.
            let same = fs::metadata(&self.folder).is_ok_and(|it| {
                locked.metadata().is_ok_and(|ours| (it.dev(), it.ino()) == (ours.dev(), ours.ino()))
            });
            if same {
                if self.is_kept() && self.keeper().is_none() {
                    bail!(
                        "lab `{}` is kept by a process that cannot be seen from here: is this the inside of a node, or \
                         of a container?",
                        self.name()
                    );
                }
                return Ok(Claim(locked));
            }
        }
    }

    /// Marks this process as the lab's keeper, for as long as it lives and the file stays open.
    pub(super) fn keep(&self) -> anyhow::Result<File> {
        let path = self.lock_path();
        let what = || format!("lock {}", path.display());
        let file =
            OpenOptions::new().create(true).write(true).truncate(false).open(&path).with_context(what)?;
        fcntl(&file, FcntlArg::F_SETLK(&whole_file())).with_context(what)?;
        // As the host counts, whose `/proc` is still ours.
        let number = fs::read_link("/proc/self").with_context(what)?;
        file.set_len(0).with_context(what)?;
        // By the same file: to close another one would give the lock up (`fcntl_locking(2)`).
        (&file).write_all(number.as_os_str().as_encoded_bytes()).with_context(what)?;
        Ok(file)
    }

    /// Waits for the last keeper, if it is on its way out: a process gives its locks up before its namespaces end. The
    /// number may be another process's by now, which has no such name.
    pub(super) fn wait_for_last(&self, limit: Duration) -> anyhow::Result<()> {
        let number = fs::read_to_string(self.lock_path()).unwrap_or_default();
        let Ok(pid) = number.trim().parse::<i32>() else { return Ok(()) };
        let Ok(process) = node::pidfd(pid) else { return Ok(()) };
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.starts_with("conlink: ") && !self.is_kept() {
            node::wait_for_end(process.as_fd(), limit).context("wait for the lab to end")?;
        }
        Ok(())
    }

    /// Does a process keep the lab?
    pub(super) fn is_kept(&self) -> bool {
        self.holder().is_some()
    }

    /// The number of the process that holds the lock, as we number processes; 0 where we do not see it.
    fn holder(&self) -> Option<i32> {
        let file = OpenOptions::new().write(true).open(self.lock_path()).ok()?;
        let mut lock = whole_file();
        fcntl(&file, FcntlArg::F_GETLK(&mut lock)).ok()?;
        (i32::from(lock.l_type) != libc::F_UNLCK).then_some(lock.l_pid)
    }

    /// The process that keeps the lab, if it lives, and is one that we see. The kernel names the holder of the lock as we number processes
    /// (`fcntl_locking(2)`).
    pub(super) fn keeper(&self) -> Option<OwnedFd> {
        let pid = self.holder().filter(|it| *it > 0)?;
        let process = node::pidfd(pid).ok()?;
        // Were the number another process's by now, the lock would not be that one's.
        (self.holder()? == pid).then_some(process)
    }

    /// Removes the folder with all that is in it.
    pub(super) fn remove(&self, _claim: &Claim) -> anyhow::Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.with_context(|| format!("remove {}", self.folder.display())),
        }
    }

    /// The same by the lab's keeper at its end. Who has a claim already waits for that end, and does it then.
    pub(super) fn remove_unclaimed(&self) -> anyhow::Result<()> {
        let folder = File::open(&self.folder).with_context(|| format!("open {}", self.folder.display()))?;
        match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
            Ok(it) => self.remove(&Claim(it)),
            Err(_) => Ok(()),
        }
    }
}

fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Good for the name of a folder, and of a compose project.
fn is_plain(name: &str) -> bool {
    let fits = |it: char| it.is_ascii_alphanumeric() || "._-".contains(it);
    !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.chars().all(fits)
}

/// Where labs have their folders.
struct Root {
    /// Nobody but us, or root, can put something of another name in its place. In it may be what others made.
    base: PathBuf,
    below: PathBuf,
}

impl Root {
    fn folder(&self) -> PathBuf {
        self.base.join(&self.below)
    }

    /// The folder of the lab of that name, where there is one. One that somebody else made, in /tmp say, is none: its
    /// owner could have us write anywhere, and enter namespaces with programs of his.
    fn lab(&self, name: &OsStr) -> Option<PathBuf> {
        let folder = self.folder().join(name);
        self.is_ours(&folder).then_some(folder)
    }

    /// Is it a folder, and ours alone to write in, and those above it too?
    fn is_ours(&self, folder: &Path) -> bool {
        let us = nix::unistd::getuid().as_raw();
        folder.ancestors().take_while(|it| *it != self.base).all(|it| {
            let theirs = fs::symlink_metadata(it);
            theirs.is_ok_and(|it| it.is_dir() && (it.uid() == us || it.uid() == 0) && it.mode() & 0o022 == 0)
        })
    }
}

/// Folders of labs: the system's first where we are root, then our own.
fn roots() -> Vec<Root> {
    let uid = nix::unistd::getuid();
    let root = |base: PathBuf, below: &str| Root { base, below: below.into() };
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|it| !it.is_empty()).map(PathBuf::from);
    // sudo may have left us that of another user.
    let trusted = [uid.as_raw(), 0];
    let runtime = runtime.filter(|it| fs::metadata(it).is_ok_and(|it| trusted.contains(&it.uid())));
    let own = match runtime {
        Some(it) => root(it, "conlink/lab"),
        None => root("/tmp".into(), &format!("conlink-{uid}/conlink/lab")),
    };
    // Root of a user namespace alone may not write there, and has a runtime folder.
    if uid.is_root() && may_write(Path::new("/run")) {
        vec![root("/run".into(), "conlink/lab"), own]
    } else {
        vec![own]
    }
}

fn may_write(path: &Path) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_folder_that_others_may_have_made_is_no_lab() {
        let base = tempfile::tempdir().unwrap();
        let root = Root { base: base.path().to_owned(), below: "conlink/lab".into() };
        for name in ["good", "writable"] {
            fs::create_dir_all(root.folder().join(name)).unwrap();
        }
        symlink(root.folder().join("good"), root.folder().join("link")).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let found = |name: &str| root.lab(name.as_ref()).is_some();
        mode(&base.path().join("conlink"), 0o755);
        mode(&root.folder(), 0o755);
        mode(&root.folder().join("good"), 0o755);
        mode(&root.folder().join("writable"), 0o777);
        assert!(found("good"));
        for name in ["writable", "link", "missing"] {
            assert!(!found(name), "{name}");
        }
        // Whoever may write above may put another one in its place.
        mode(&base.path().join("conlink"), 0o775);
        assert!(!found("good"));
        if nix::unistd::geteuid().is_root() {
            mode(&base.path().join("conlink"), 0o755);
            nix::unistd::chown(&root.folder().join("good"), Some(65534.into()), None).unwrap();
            assert!(!found("good"), "of somebody else");
        }
    }
}
