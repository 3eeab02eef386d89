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

/// Keeps our mounts in our namespace. Later mounts of the host still propagate to us.
pub(super) fn keep_to_ourselves() -> io::Result<()> {
    Ok(mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)?)
}

/// Mounts `/proc` and `/sys` of our namespaces. Returns those that failed: in a container that hides parts of its own, the
/// kernel refuses complete ones.
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

pub(super) fn bind_all(from: &Path, to: &Path) -> io::Result<()> {
    Ok(mount(Some(from), to, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?)
}

/// Makes a mounted directory the root file system. During `between`, paths refer to the new one, and files opened in the
/// old one can still be mounted.
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

/// Replaces octal escapes of blanks and similar characters (`proc_pid_mountinfo(5)`).
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

/// Mounts a file or directory. A missing target is created if that is allowed.
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
    let source = PathBuf::from(format!("/proc/self/fd/{}", source.as_raw_fd()));
    bind_all(&source, target)?;
    if it.read_only {
        // A user namespace cannot clear inherited flags of a mount (mount_namespaces(7)).
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
        mount(NONE, target, NONE, flags, NONE)?;
    }
    Ok(())
}

/// Mounts a tmpfs.
pub(super) fn tmpfs(target: &Path, options: &str, may_make: bool) -> io::Result<()> {
    if may_make {
        fs::create_dir_all(target)?;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(options).filter(|it| !it.is_empty()))?)
}
