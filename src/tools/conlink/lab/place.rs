//! Where a lab has its folder, and who keeps it.
//!
//! The folder is `/run/conlink/lab/NAME`, or one in the user's runtime folder. Its keeper holds a lock in it, which ends
//! with the process, however that ends: the lock alone tells whether the lab lives.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};

use crate::tools::conlink::client::{Kind, Server};

const SYSTEM: &str = "/run/conlink/lab";

/// A lab's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    folder: PathBuf,
}

/// Nobody else starts or ends the lab while this is held.
#[derive(Debug)]
pub(super) struct Claim(Flock<File>);

impl Claim {
    pub(super) fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

impl Place {
    /// The lab of that name, which need not live.
    pub(super) fn find(name: &str) -> anyhow::Result<Self> {
        let places = roots().into_iter().map(|it| Self { folder: it.join(name) });
        if let Some(place) = places.into_iter().find(|it| is_plain(name) && it.folder.is_dir()) {
            return Ok(place);
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
            let folder = root.join(name);
            match DirBuilder::new().recursive(true).mode(0o700).create(&folder) {
                // A folder in /tmp may have been made by somebody else before.
                Ok(()) if is_ours(&folder) => return Ok(Self { folder }),
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
            let entries = fs::read_dir(root).into_iter().flatten().flatten();
            all.extend(entries.map(|it| Self { folder: it.path() }).filter(|it| it.folder.is_dir()));
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
        Ok(file)
    }

    /// The process that keeps the lab, if it lives. The kernel names the holder of the lock as we number processes
    /// (`fcntl_locking(2)`).
    pub(super) fn keeper(&self) -> Option<OwnedFd> {
        let file = OpenOptions::new().write(true).open(self.lock_path()).ok()?;
        let holder = || {
            let mut lock = whole_file();
            fcntl(&file, FcntlArg::F_GETLK(&mut lock)).ok()?;
            (i32::from(lock.l_type) != libc::F_UNLCK && lock.l_pid > 0).then_some(lock.l_pid)
        };
        let pid = holder()?;
        let process = crate::process::node::pidfd(pid).ok()?;
        // Were the number another process's by now, the lock would not be that one's.
        (holder()? == pid).then_some(process)
    }

    /// Removes the folder with all that is in it.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.with_context(|| format!("remove {}", self.folder.display())),
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

/// Are the folder and those above it, up to one for everybody's temporary files, ours alone to write in?
fn is_ours(folder: &Path) -> bool {
    let us = nix::unistd::getuid().as_raw();
    folder.ancestors().take_while(|it| *it != Path::new("/tmp") && *it != Path::new("/run")).all(|it| {
        let theirs = fs::symlink_metadata(it);
        theirs.is_ok_and(|it| it.is_dir() && (it.uid() == us || it.uid() == 0) && it.mode() & 0o022 == 0)
    })
}

/// Good for the name of a folder, and of a compose project.
fn is_plain(name: &str) -> bool {
    let fits = |it: char| it.is_ascii_alphanumeric() || "._-".contains(it);
    !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.chars().all(fits)
}

/// Folders of labs: the system's first where we are root, then our own.
fn roots() -> Vec<PathBuf> {
    let uid = nix::unistd::getuid();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|it| !it.is_empty()).map(PathBuf::from);
    let own = runtime.unwrap_or_else(|| PathBuf::from(format!("/tmp/conlink-{uid}"))).join("conlink/lab");
    // Root of a user namespace alone may not write there, and has a runtime folder.
    if uid.is_root() && may_write(Path::new("/run")) { vec![SYSTEM.into(), own] } else { vec![own] }
}

fn may_write(path: &Path) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_ok()
}
