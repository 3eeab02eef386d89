//! Settings of a namespace that only files under `/proc/sys` give access to.

use std::fs;
use std::fs::File;
use std::io;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::kernel::netns;
use crate::plan::Forwarding;

const V4: &str = "/proc/sys/net/ipv4/ip_forward";
const NO_V6: &str = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
const V6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

/// Does the namespace pass on packets? A kernel without IPv6 does not pass on IPv6.
pub(super) fn forwarding(netns: &File) -> io::Result<Forwarding> {
    let is_on = |path: &str| fs::read_to_string(path).map(|it| it.trim() != "0");
    // These files show the namespace of the thread that opens them.
    netns::inside(netns, || {
        let no_v6 = is_on(NO_V6).unwrap_or(true);
        Ok(Forwarding { v4: is_on(V4)?, v6: is_on(V6).unwrap_or(false), no_v6 })
    })
}

/// Lets the namespace pass on packets of a family.
pub(super) fn set_forwarding(netns: &File, v6: bool) -> io::Result<()> {
    let path = if v6 { V6 } else { V4 };
    netns::inside(netns, || {
        match fs::write(path, "1") {
        // Container engines mount these files so that they can only be read.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            own_proc().and_then(|()| fs::write(path, "1")).map_err(|_| {
                let name = path.trim_start_matches("/proc/sys/").replace('/', ".");
                io::Error::new(
                    io::ErrorKind::ReadOnlyFilesystem,
                    format!("give the engine's service `sysctls: [{name}=1]`, since {path} cannot be written there"),
                )
            })
        }
        result => result,
    }
    })
}

/// Gives the calling thread, which ends soon, a `/proc` of its own.
fn own_proc() -> io::Result<()> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)?;
    Ok(())
}
