//! Network namespaces: opening, entering, naming.
//!
//! A namespace belongs to a thread. To make a socket inside another one, a thread is started that enters it, makes
//! the socket, and dies: nothing has to be restored, and no other code ever runs in the wrong place.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::addr::IfName;
use crate::kernel::link;
use crate::kernel::netlink::Netlink;

/// The number of `lo` in every namespace (LOOPBACK_IFINDEX).
pub(super) const LOOPBACK: u32 = 1;

/// Where `ip netns` keeps names.
const NAMED: &str = "/run/netns";

/// The namespace that the calling thread is in.
pub fn own() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}

/// The namespace of a process, by its id in our own process namespace.
pub fn of_process(pid: u32) -> io::Result<File> {
    File::open(format!("/proc/{pid}/ns/net"))
}

/// What tells a namespace from every other that exists at the same time.
pub fn inode(netns: &File) -> io::Result<u64> {
    Ok(netns.metadata()?.ino())
}

/// Are both one namespace? What cannot be opened is another.
pub fn is_same(netns: &File, other: io::Result<File>) -> bool {
    let other = other.and_then(|it| inode(&it));
    inode(netns).is_ok_and(|it| other.is_ok_and(|other| it == other))
}

/// Runs `f` on a thread of its own inside `netns`.
pub fn inside<T: Send>(netns: &File, f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    on_thread(|| {
        enter(netns)?;
        f()
    })
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that enters a namespace")]
fn enter(netns: &File) -> io::Result<()> {
    Ok(setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)?)
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

/// A new namespace without a name: it lasts as long as the file, and what lives in it.
pub fn anonymous() -> io::Result<File> {
    on_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        own()
    })
}

/// Waits until namespaces whose last process has ended are gone, with the interfaces in them. False when that takes longer
/// than `limit`.
///
/// The kernel takes namespaces apart some time later, one batch after another (`cleanup_net()` in
/// net/core/net_namespace.c). A netlink socket of a process that has ended holds its namespace for some time more
/// (`netlink_release()` in net/netlink/af_netlink.c frees it by RCU), so a namespace of ours may end before those. At its
/// end each batch waits for all that RCU is to free (`rcu_barrier()`): the second batch has them all.
pub fn settle(limit: Duration) -> io::Result<bool> {
    let end = Instant::now() + limit;
    Ok(next_batch_is_gone(end)? && next_batch_is_gone(end)?)
}

/// Waits until a namespace that ends now is gone, and so all that ended before. False when that is not so at `end`.
fn next_batch_is_gone(end: Instant) -> io::Result<bool> {
    // What the other end of its link sees tells that it is gone.
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

/// Opens the namespace that `ip netns add NAME` makes, and makes it, with `lo` up, when it is not there.
pub fn named(name: &str) -> io::Result<File> {
    let path = path(name);
    if let Some(netns) = open_named(&path)? {
        return Ok(netns);
    }
    share_folder()?;
    // A name without a namespace behind it is what a restart of the machine, or a kill in between, leaves.
    File::create(&path)?;
    on_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        // Before it has its name: whoever finds that finds the namespace ready.
        link::up(&mut Netlink::open()?, LOOPBACK).map_err(io::Error::other)?;
        let from = Path::new("/proc/thread-self/ns/net");
        Ok(mount(Some(from), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
    })?;
    File::open(&path)
}

/// Opens the namespace of that name, None where there is none.
pub fn find_named(name: &str) -> io::Result<Option<File>> {
    open_named(&path(name))
}

/// `ip netns del NAME`. What lives in the namespace goes with its last user.
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

/// Makes the folder of names a mount that others see through, as `ip netns add` does: a name that one mount namespace
/// makes or removes must not live on in another.
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
