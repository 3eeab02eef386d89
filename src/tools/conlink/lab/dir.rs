//! The folder of a lab, and the lock of its keeper.
//!
//! The folder is `/run/conlink/lab/NAME`, or one in the user's runtime folder. The keeper holds a lock in it. The kernel
//! releases the lock when the process ends in any way, so the lock alone shows whether the lab is running.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};

use crate::lab::{PROJECT, at};
use crate::process::node;
use crate::tools::conlink::socket::{Kind, Server};

/// The folder of a lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LabDir {
    folder: PathBuf,
    /// Empty folders below it are removed with the lab.
    base: PathBuf,
}

/// `a, b (dead)`
pub(super) fn names(labs: &[LabDir]) -> String {
    let name = |it: &LabDir| match it.is_kept() {
        true => it.name().to_owned(),
        false => format!("{} (dead)", it.name()),
    };
    labs.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// The labs that have a socket.
pub(in crate::tools::conlink) fn servers() -> Vec<Server> {
    let all = LabDir::all().into_iter().map(|it| it.server());
    all.filter(|it| fs::symlink_metadata(&it.socket).is_ok_and(|it| it.file_type().is_socket())).collect()
}

/// While it is held, no other process starts or ends the lab.
#[derive(Debug)]
pub(super) struct Claim(Flock<File>);

impl Claim {
    /// A file that holds the claim until it is closed or the claim is dropped.
    pub(super) fn share(&self) -> io::Result<OwnedFd> {
        Ok(self.0.try_clone()?.into())
    }
}

impl LabDir {
    /// The lab of that name, running or dead.
    pub(super) fn find(name: &str) -> anyhow::Result<Self> {
        if let Some(it) = Self::found(name) {
            return Ok(it);
        }
        let all = Self::all();
        match all.is_empty() {
            true => bail!("lab `{name}` is not running, and no other lab is"),
            false => bail!("lab `{name}` is not running; running labs: {}", names(&all)),
        }
    }

    fn found(name: &str) -> Option<Self> {
        roots().into_iter().filter(|_| is_plain(name)).find_map(|it| it.lab(name.as_ref()))
    }

    /// The lab of that name; its folder is made if there is none.
    pub(super) fn make(name: &str) -> anyhow::Result<Self> {
        if !is_plain(name) {
            bail!(
                "invalid lab name `{name}`: expected 1 to 64 letters, digits, `.`, `_` and `-`, and no `.` at the start"
            );
        }
        if let Some(found) = Self::found(name) {
            return Ok(found);
        }
        let mut refusal = None;
        for root in roots() {
            let folder = root.folder().join(name);
            let others = |it: &Path| {
                anyhow::anyhow!("{} belongs to another user or is writable by others", it.display())
            };
            // Another user may have made a folder of this name in /tmp.
            let there = folder.ancestors().find(|it| it.exists()).unwrap_or(Path::new("/"));
            if there.starts_with(&root.base) && !root.is_ours(there) {
                refusal.get_or_insert(others(there));
                continue;
            }
            match make_folder(&folder) {
                // Another user may have made it at this moment.
                Ok(()) if root.is_ours(&folder) => return Ok(Self { folder, base: root.base }),
                Ok(()) => {
                    refusal.get_or_insert(others(&folder));
                }
                Err(error) => {
                    refusal.get_or_insert(
                        anyhow::Error::new(error).context(format!("create {}", folder.display())),
                    );
                }
            }
        }
        Err(refusal.unwrap_or_else(|| anyhow::anyhow!("no folder for labs was found")))
    }

    /// All labs: the system's and the user's own.
    pub(super) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for root in roots() {
            let entries = fs::read_dir(root.folder()).into_iter().flatten().flatten();
            all.extend(entries.filter_map(|it| root.lab(&it.file_name())));
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

    /// The folder of the compose project that it was started with. None if it is not known yet.
    pub(super) fn project(&self) -> Option<PathBuf> {
        let path = fs::read(self.folder.join(PROJECT)).ok().filter(|it| !it.is_empty());
        path.map(|it| OsString::from_vec(it).into())
    }

    /// Waits until no other process has a claim on the lab, and takes it. Makes the folder if it is gone by then.
    pub(super) fn claim(&self) -> anyhow::Result<Claim> {
        let what = || format!("lock {}", self.folder.display());
        loop {
            make_folder(&self.folder).with_context(what)?;
            let folder = match File::open(&self.folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                folder => folder.with_context(what)?,
            };
            let locked = Flock::lock(folder, FlockArg::LockExclusive)
                .map_err(|(_, it)| io::Error::from(it))
                .with_context(what)?;
            // The last holder may have removed the folder.
            let same = fs::metadata(&self.folder).is_ok_and(|it| {
                locked.metadata().is_ok_and(|ours| (it.dev(), it.ino()) == (ours.dev(), ours.ino()))
            });
            if same {
                if self.is_kept() && self.keeper().is_none() {
                    bail!(
                        "the keeper of lab `{}` is outside of this process namespace\nhint: run the command outside \
                         of nodes and containers",
                        self.name()
                    );
                }
                return Ok(Claim(locked));
            }
        }
    }

    /// Makes this process the keeper of the lab until it ends or closes the file.
    pub(super) fn keep(&self) -> anyhow::Result<File> {
        let path = self.lock_path();
        let what = || format!("lock {}", path.display());
        let file =
            OpenOptions::new().create(true).write(true).truncate(false).open(&path).with_context(what)?;
        fcntl(&file, FcntlArg::F_SETLK(&whole_file())).with_context(what)?;
        // The process ID outside of the lab: `/proc` is still the one there.
        let number = fs::read_link("/proc/self").with_context(what)?;
        file.set_len(0).with_context(what)?;
        // By the same descriptor: closing another one would release the lock (`fcntl_locking(2)`).
        (&file).write_all(number.as_os_str().as_encoded_bytes()).map_err(|it| at(&path, &it))?;
        Ok(file)
    }

    /// Whether this is the file of [`Self::keep`]: the folder may have been removed, and made again for another keeper.
    pub(super) fn is_kept_by(&self, lock: &File) -> bool {
        let inode = |it: io::Result<fs::Metadata>| it.ok().map(|it| (it.dev(), it.ino()));
        inode(fs::metadata(self.lock_path())) == inode(lock.metadata())
    }

    /// Waits for the end of a keeper that has already released its lock: a process releases its locks before its
    /// namespaces end. The process ID may have been reused; then the process has another name.
    pub(super) fn wait_for_last(&self, limit: Duration) -> anyhow::Result<()> {
        let number = fs::read_to_string(self.lock_path()).unwrap_or_default();
        let Ok(pid) = number.trim().parse::<i32>() else { return Ok(()) };
        let Ok(process) = node::pidfd(pid) else { return Ok(()) };
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        // The kernel keeps 15 bytes of it.
        let ours = format!("conlink: {}", self.name());
        let is_ours = name.trim_end() == ours.get(..15).unwrap_or(&ours);
        if is_ours && !self.is_kept() {
            node::wait_for_end(process.as_fd(), limit).context("wait for the lab to end")?;
        }
        Ok(())
    }

    /// Whether a process holds the keeper's lock.
    pub(super) fn is_kept(&self) -> bool {
        self.holder().is_some()
    }

    /// The process ID, in our process namespace, of the holder of the lock; 0 if it is not in that namespace.
    fn holder(&self) -> Option<i32> {
        let file = OpenOptions::new().write(true).open(self.lock_path()).ok()?;
        let mut lock = whole_file();
        fcntl(&file, FcntlArg::F_GETLK(&mut lock)).ok()?;
        (i32::from(lock.l_type) != libc::F_UNLCK).then_some(lock.l_pid)
    }

    /// A pidfd of the lab's keeper, if it is running and in our process namespace. The kernel reports the holder of the
    /// lock by its process ID in our namespace (`fcntl_locking(2)`).
    pub(super) fn keeper(&self) -> Option<OwnedFd> {
        let pid = self.holder().filter(|it| *it > 0)?;
        let process = node::pidfd(pid).ok()?;
        // If the process ID had been reused, the new process would not hold the lock.
        (self.holder()? == pid).then_some(process)
    }

    /// Whether the keeper is stopped by a signal, and not just busy (`proc_pid_stat(5)`).
    pub(super) fn is_stopped(&self) -> bool {
        let pid = self.keeper().and_then(|it| node::number_in_proc(it.as_fd()));
        let stat = pid.and_then(|it| fs::read_to_string(format!("/proc/{it}/stat")).ok()).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, it)| it.starts_with(['T', 't']))
    }

    /// Removes the folder, and those above it that are empty and were made for labs.
    pub(super) fn remove(&self, _claim: &Claim) -> anyhow::Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.with_context(|| format!("remove {}", self.folder.display()))?,
        }
        // Engines use /run/conlink too.
        if self.base != Path::new(SYSTEM) {
            let above = self.folder.ancestors().skip(1).take_while(|it| *it != self.base);
            for it in above {
                if fs::remove_dir(it).is_err() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Removes the folder unless another process has a claim. That process waits for the keeper's end and removes it.
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

/// Makes a folder and those above it. Another lab that ends may remove one of them meanwhile.
fn make_folder(folder: &Path) -> io::Result<()> {
    let make = || DirBuilder::new().recursive(true).mode(0o700).create(folder);
    for _ in 0..10 {
        match make() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    make()
}

/// Whether it is valid as the name of a folder and of a compose project.
fn is_plain(name: &str) -> bool {
    let fits = |it: char| it.is_ascii_alphanumeric() || "._-".contains(it);
    !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.chars().all(fits)
}

/// A folder with the folders of labs.
struct Root {
    /// Only we or root can rename this folder. It may contain files of other users.
    base: PathBuf,
    below: PathBuf,
}

/// The base of labs that root starts.
const SYSTEM: &str = "/run";

impl Root {
    fn folder(&self) -> PathBuf {
        self.base.join(&self.below)
    }

    /// The lab of that name, if it has a folder. A folder of another user, such as one in /tmp, does not count: its owner
    /// could make us write anywhere, or run programs in namespaces of theirs.
    fn lab(&self, name: &OsStr) -> Option<LabDir> {
        let folder = self.folder().join(name);
        self.is_ours(&folder).then(|| LabDir { folder, base: self.base.clone() })
    }

    /// Whether it and everything above it is a folder that only we or root may write to.
    fn is_ours(&self, folder: &Path) -> bool {
        let us = nix::unistd::getuid().as_raw();
        folder.ancestors().take_while(|it| *it != self.base).all(|it| {
            let theirs = fs::symlink_metadata(it);
            theirs.is_ok_and(|it| it.is_dir() && (it.uid() == us || it.uid() == 0) && it.mode() & 0o022 == 0)
        })
    }
}

/// Folders of labs: the system's first if we are root, then our own.
fn roots() -> Vec<Root> {
    let uid = nix::unistd::getuid();
    let root = |base: PathBuf, below: &str| Root { base, below: below.into() };
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|it| !it.is_empty()).map(PathBuf::from);
    // After sudo it may be that of another user.
    let trusted = [uid.as_raw(), 0];
    let runtime = runtime.filter(|it| fs::metadata(it).is_ok_and(|it| trusted.contains(&it.uid())));
    let own = match runtime {
        Some(it) => root(it, "conlink/lab"),
        None => root("/tmp".into(), &format!("conlink-{uid}/conlink/lab")),
    };
    // Root of a user namespace may not write there, and uses a runtime folder.
    if uid.is_root() && may_write(Path::new(SYSTEM)) {
        vec![root(SYSTEM.into(), "conlink/lab"), own]
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
    fn a_folder_that_others_can_write_to_is_not_a_lab() {
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
        // A user who can write to a parent folder can replace it.
        mode(&base.path().join("conlink"), 0o775);
        assert!(!found("good"));
        if nix::unistd::geteuid().is_root() {
            mode(&base.path().join("conlink"), 0o755);
            nix::unistd::chown(&root.folder().join("good"), Some(65534.into()), None).unwrap();
            assert!(!found("good"), "of another user");
        }
    }

    #[test]
    fn empty_folders_above_a_lab_are_removed_with_it() {
        let base = tempfile::tempdir().unwrap();
        let lab = |name: &str| LabDir {
            folder: base.path().join("conlink/lab").join(name),
            base: base.path().to_owned(),
        };
        let (one, two) = (lab("one"), lab("two"));
        let claims = (one.claim().unwrap(), two.claim().unwrap());
        one.remove(&claims.0).unwrap();
        assert!(!one.folder.exists() && two.folder.exists());
        two.remove(&claims.1).unwrap();
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }
}
