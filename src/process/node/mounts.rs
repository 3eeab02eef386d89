//! The mounts of a node.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{chdir, pivot_root};

use crate::process::node::Bind;

pub(super) const NONE: Option<&str> = None;

/// Makes our mounts private, while later mounts of the host still propagate to us.
pub(super) fn keep_to_ourselves() -> io::Result<()> {
    Ok(mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)?)
}

/// Mounts new `/proc` and `/sys` for our namespaces. Returns those that failed: in a container that hides parts of its
/// own, the kernel refuses complete ones.
pub(super) fn mount_kernel_views(own_network: bool) -> Vec<&'static str> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let mut refused = Vec::new();
    if mount(Some("proc"), "/proc", Some("proc"), flags, NONE).is_err() {
        refused.push("/proc");
    }
    if own_network && mount(Some("sysfs"), "/sys", Some("sysfs"), flags, NONE).is_err() {
        refused.push("/sys");
    }
    refused
}

/// Makes the parts of `/proc` and `/sys` that belong to the whole machine read-only, as container engines do. What fails
/// stays as it is: in a container it is so already.
pub(super) fn guard_kernel_views() {
    // The network's settings belong to the node.
    let net = source(Path::new("/proc/sys/net"));
    for path in ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/sys"] {
        let path = Path::new(path);
        let _ = bind_all(path, path).and_then(|()| make_read_only(path));
    }
    let _ = net.and_then(|it| bind_all(&fd_path(&it), Path::new("/proc/sys/net")));
}

/// Hides the content of a folder.
pub(super) fn hide(folder: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(Some("tmpfs"), folder, Some("tmpfs"), flags, Some("mode=555,nr_inodes=1"))?)
}

/// Mounts a file system in memory for volumes in our mount namespace. It has at most a fifth of the memory, so it can
/// neither fill the host's `/run` nor all memory.
pub fn mount_volumes(folder: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(Some("tmpfs"), folder, Some("tmpfs"), flags, Some("mode=755,size=20%"))?)
}

pub(super) fn bind_all(from: &Path, to: &Path) -> io::Result<()> {
    Ok(mount(Some(from), to, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?)
}

/// Makes a mounted folder the root file system. Calls `between` when paths already refer to the new root, and files
/// opened in the old one can still be mounted.
pub(super) fn enter_root(root: &Path, between: impl FnOnce()) -> io::Result<()> {
    chdir(root)?;
    pivot_root(".", ".")?;
    between();
    // The old root is now on top of the new one.
    umount2(".", MntFlags::MNT_DETACH)?;
    Ok(chdir("/")?)
}

/// The mount points, outer ones first.
pub(super) fn mounted() -> io::Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let mut paths: Vec<PathBuf> =
        text.lines().filter_map(|it| it.split(' ').nth(4)).map(|it| PathBuf::from(unescaped(it))).collect();
    paths.sort();
    Ok(paths)
}

/// Decodes spaces and similar characters, written as three octal digits (`proc_pid_mountinfo(5)`).
fn unescaped(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let digits = (*first == b'\\').then(|| more.get(..3)).flatten();
        let byte = digits.and_then(|it| u8::from_str_radix(std::str::from_utf8(it).ok()?, 8).ok());
        match byte {
            Some(it) => {
                out.push(it);
                rest = more.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Opens the source of a mount.
pub(super) fn source(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)
}

/// Mounts a file or folder. A missing target is created if `may_make`.
pub(super) fn bind(source: &File, it: &Bind, may_make: bool) -> io::Result<()> {
    let is_folder = source.metadata()?.is_dir();
    let target = &it.target;
    if may_make && !target.exists() {
        if is_folder {
            fs::create_dir_all(target)?;
        } else {
            target.parent().map_or(Ok(()), fs::create_dir_all)?;
            File::create(target)?;
        }
    }
    bind_all(&fd_path(source), target)?;
    if it.read_only { make_read_only(target) } else { Ok(()) }
}

/// A path of an open file.
fn fd_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Makes a mount read-only.
pub(super) fn make_read_only(target: &Path) -> io::Result<()> {
    // A user namespace may not remove flags that the mount already had (mount_namespaces(7)).
    let now = statvfs(target)?.flags();
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    for (has, flag) in [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ] {
        if now.contains(has) {
            flags |= flag;
        }
    }
    Ok(mount(NONE, target, NONE, flags, NONE)?)
}

/// Mounts a tmpfs.
pub(super) fn tmpfs(target: &Path, options: &str, may_make: bool) -> io::Result<()> {
    if may_make {
        fs::create_dir_all(target)?;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(options).filter(|it| !it.is_empty()))?)
}
