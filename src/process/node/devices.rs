//! The `/dev` of a node with a private root file system.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use crate::process::node::mounts::{bind_all, make_read_only};

/// Devices that are there if the machine has them. They are those of a container, and the one of tunnel interfaces.
const DEVICES: [&str; 7] = ["null", "zero", "full", "random", "urandom", "tty", "net/tun"];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Group of terminals (`tty`), which all distributions have.
const TTY: u32 = 5;

/// The file that stands for the terminal of `lab exec`.
pub(super) const CONSOLE: &str = "/dev/console";

/// Mounts a new `/dev` on this folder, while the machine's is still visible.
pub(super) fn mount_devices(dev: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let tmpfs = |at: &Path, options: &str| {
        mount(Some("tmpfs"), at, Some("tmpfs"), flags | MsFlags::MS_NODEV, Some(options))
    };
    tmpfs(dev, "mode=755")?;
    for name in DEVICES {
        let (source, target) = (Path::new("/dev").join(name), dev.join(name));
        if !source.exists() {
            continue;
        }
        target.parent().map_or(Ok(()), fs::create_dir_all)?;
        File::create(&target)?;
        bind_all(&source, &target)?;
        // The device stays usable, but its owner and mode belong to the machine.
        make_read_only(&target)?;
    }
    for (name, target) in LINKS {
        symlink(target, dev.join(name))?;
    }
    let [pts, shm] = ["pts", "shm"].map(|it| dev.join(it));
    fs::create_dir(&pts)?;
    let options = "newinstance,ptmxmode=0666,mode=0620";
    let devpts = |options: &str| {
        mount(Some("devpts"), &pts, Some("devpts"), MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, Some(options))
    };
    // A user namespace may lack the group.
    devpts(&format!("{options},gid={TTY}")).or_else(|_| devpts(options))?;
    fs::create_dir(&shm)?;
    tmpfs(&shm, "mode=1777")?;
    File::create(dev.join("console"))?;
    Ok(())
}
