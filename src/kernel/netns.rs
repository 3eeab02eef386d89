//! Network namespaces: opening, entering, naming.
//!
//! Each thread is in one namespace. A socket in another namespace is made by a thread that enters the namespace, makes
//! the socket and ends. So nothing has to be restored, and no other code runs in the wrong namespace.

use std::collections::{BTreeMap, btree_map};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::addr::IfName;
use crate::kernel::link;
use crate::kernel::netlink::Netlink;

/// The index of `lo` in every namespace (LOOPBACK_IFINDEX).
pub(super) const LOOPBACK: u32 = 1;

/// The folder of named namespaces, as used by `ip netns`.
pub const NAMED: &str = "/run/netns";

/// The namespace of the calling thread.
pub fn own() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}

/// The namespace of a process, by its number in our process namespace.
pub fn of_process(pid: u32) -> io::Result<File> {
    File::open(format!("/proc/{pid}/ns/net"))
}

/// The namespace of a process, by its pidfd (Linux 5.8).
///
/// # Errors
/// ESRCH: the process has ended. EPERM.
pub fn of_pidfd(process: BorrowedFd<'_>) -> io::Result<File> {
    on_thread(|| {
        join(process, CloneFlags::CLONE_NEWNET)?;
        own()
    })
}

/// The host name that a process sees, by its pidfd (Linux 5.8).
///
/// # Errors
/// ESRCH: the process has ended. EPERM.
pub fn hostname(process: BorrowedFd<'_>) -> io::Result<OsString> {
    on_thread(|| {
        join(process, CloneFlags::CLONE_NEWUTS)?;
        Ok(nix::unistd::gethostname()?)
    })
}

/// Opens a namespace by the path of its file, such as `/run/netns/NAME` or `/proc/PID/ns/net`. None if it is another
/// file.
///
/// # Errors
/// open(2).
pub fn at_path(path: &Path) -> io::Result<Option<File>> {
    // Before it is opened: a device or a pipe would notice that.
    if nix::sys::statfs::statfs(path)?.filesystem_type() != nix::sys::statfs::NSFS_MAGIC {
        return Ok(None);
    }
    let file = File::open(path)?;
    Ok((kind(&file)? == libc::CLONE_NEWNET).then_some(file))
}

/// The kind of a namespace as a flag of clone(2) (NS_GET_NSTYPE in ioctl_nsfs(2)).
#[expect(unsafe_code, reason = "no crate offers it")]
fn kind(namespace: &File) -> io::Result<libc::c_int> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: this request has no argument.
    Ok(nix::Error::result(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_NSTYPE) })?)
}

/// The inode of a namespace, unique among existing namespaces.
pub fn inode(netns: &File) -> io::Result<u64> {
    Ok(netns.metadata()?.ino())
}

/// Every network namespace that a process or a name in /run/netns holds, once each, by inode. Those that end meanwhile,
/// and those of processes that may not be looked at, are left out.
pub fn all() -> BTreeMap<u64, File> {
    let entries =
        |folder: &str| fs::read_dir(folder).into_iter().flatten().filter_map(|it| Some(it.ok()?.path()));
    let is_process = |it: &PathBuf| it.file_name().and_then(|it| it.to_str()?.parse::<u32>().ok()).is_some();
    let processes = entries("/proc").filter(is_process).map(|it| it.join("ns/net"));
    let mut all = BTreeMap::new();
    for path in processes.chain(entries(NAMED)) {
        // The number is known without opening it, and most processes share one.
        let Ok(inode) = fs::metadata(&path).map(|it| it.ino()) else { continue };
        if let btree_map::Entry::Vacant(entry) = all.entry(inode)
            && let Ok(Some(file)) = at_path(&path)
        {
            entry.insert(file);
        }
    }
    all
}

/// Does a process other than `except`, or a name, hold the network namespace of this inode?
pub fn is_held(inode: u64, except: u32) -> bool {
    // A namespace that is a mounted file, such as a name in /run/netns, is in the field of the root.
    let root = format!(" net:[{inode}] ");
    if fs::read_to_string("/proc/self/mountinfo").is_ok_and(|it| it.contains(&root)) {
        return true;
    }
    let processes = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok());
    let mut others = processes.filter(|it: &u32| *it != except);
    others.any(|it| fs::metadata(format!("/proc/{it}/ns/net")).is_ok_and(|it| it.ino() == inode))
}

/// Are both the same namespace? False if the other could not be opened.
pub fn is_same(netns: &File, other: io::Result<File>) -> bool {
    let other = other.and_then(|it| inode(&it));
    inode(netns).is_ok_and(|it| other.is_ok_and(|other| it == other))
}

/// Runs `f` on a new thread inside `netns`.
pub fn inside<T: Send>(netns: &File, f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    on_thread(|| {
        join(netns.as_fd(), CloneFlags::CLONE_NEWNET)?;
        f()
    })
}

/// Enters a namespace by its file, or those of a process by its pidfd.
#[expect(clippy::disallowed_methods, reason = "this is the one place that enters a namespace")]
fn join(of: BorrowedFd<'_>, kinds: CloneFlags) -> io::Result<()> {
    Ok(setns(of, kinds)?)
}

fn on_thread<T: Send>(f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".to_owned()).stack_size(128 * 1024);
        thread
            .spawn_scoped(scope, f)?
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("thread in a namespace panicked")))
    })
}

/// Makes a namespace without a name. It exists as long as the file or anything in it.
pub fn anonymous() -> io::Result<File> {
    on_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        own()
    })
}

/// Waits until namespaces whose last process has ended no longer exist, nor the interfaces in them. Returns false if
/// that takes longer than `limit`.
///
/// The kernel removes namespaces later, in batches (`cleanup_net()` in net/core/net_namespace.c). A netlink socket of
/// an ended process holds its namespace a little longer (`netlink_release()` in net/netlink/af_netlink.c frees it by
/// RCU), so it may miss the first batch. Each batch ends by waiting for RCU (`rcu_barrier()`), so the second batch
/// includes it.
pub fn settle(limit: Duration) -> io::Result<bool> {
    let end = Instant::now() + limit;
    Ok(next_batch_is_gone(end)? && next_batch_is_gone(end)?)
}

/// Waits for the batch of a namespace that ends now, which includes all that ended before. Returns false after `end`.
fn next_batch_is_gone(end: Instant) -> io::Result<bool> {
    // The other end of its veth vanishes with it.
    let (stays, ends) = (anonymous()?, anonymous()?);
    let mut netlink = inside(&stays, Netlink::open)?;
    let name: IfName = "end".parse().map_err(io::Error::other)?;
    let message = || link::message(&name, 0, None, None);
    link::add_veth(&mut netlink, message(), message(), false, &ends, || "add veth end".to_owned())
        .map_err(io::Error::other)?;
    drop(ends);
    while link::get(&mut netlink, &name).map_err(io::Error::other)?.is_some() {
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(true)
}

/// Opens a named namespace as `ip netns add NAME` makes it. If it does not exist, it is made, with `lo` up.
pub fn named(name: &str) -> io::Result<File> {
    let path = path(name);
    if let Some(netns) = open_named(&path)? {
        return Ok(netns);
    }
    share_folder()?;
    // A name without a namespace may be left by a reboot, or by a kill at this point.
    File::create(&path)?;
    on_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        // Before it gets its name, so that other programs find it ready.
        link::up(&mut Netlink::open()?, LOOPBACK).map_err(io::Error::other)?;
        let from = Path::new("/proc/thread-self/ns/net");
        Ok(mount(Some(from), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
    })?;
    File::open(&path)
}

/// Opens a named namespace; None if it does not exist.
pub fn find_named(name: &str) -> io::Result<Option<File>> {
    open_named(&path(name))
}

/// `ip netns del NAME`. The namespace itself ends with its last user.
pub fn delete_named(name: &str) -> io::Result<()> {
    let path = path(name);
    match umount2(&path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(NAMED).join(name)
}

fn open_named(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => {
            let kind = nix::sys::statfs::fstatfs(&file)?.filesystem_type();
            Ok((kind == nix::sys::statfs::NSFS_MAGIC).then_some(file))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the folder of names a shared mount, as `ip netns add` does: a name that is added or removed in one mount
/// namespace must change in the others too.
fn share_folder() -> io::Result<()> {
    fs::create_dir_all(NAMED)?;
    let none = None::<&str>;
    let shared = MsFlags::MS_SHARED | MsFlags::MS_REC;
    match mount(none, NAMED, none, shared, none) {
        Err(nix::Error::EINVAL) => {
            mount(Some(NAMED), NAMED, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
            Ok(mount(none, NAMED, none, shared, none)?)
        }
        result => Ok(result?),
    }
}
