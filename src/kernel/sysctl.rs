//! Settings of a namespace that are only accessible through files in `/proc/sys`.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{AccessFlags, access};

use crate::addr::IfName;
use crate::kernel::netns;
use crate::plan::{Forwarding, Localnet};

const V4: &str = "/proc/sys/net/ipv4/ip_forward";
const NO_V6: &str = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
const V6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

/// Does the namespace forward packets? False for IPv6 in a kernel without IPv6.
pub(super) fn forwarding(netns: &File) -> io::Result<Forwarding> {
    // These files show the namespace of the opening thread.
    netns::inside(netns, || {
        let no_v6 = is_on(NO_V6).unwrap_or(true);
        Ok(Forwarding { v4: is_on(V4)?, v6: is_on(V6).unwrap_or(false), no_v6 })
    })
}

/// Do new interfaces of the namespace have IPv6 disabled? False in a kernel without IPv6.
pub(super) fn is_v6_off_by_default(netns: &File) -> io::Result<bool> {
    netns::inside(netns, || match is_on(NO_V6) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        is_off => is_off,
    })
}

fn is_on(path: &str) -> io::Result<bool> {
    fs::read_to_string(path).map(|it| it.trim() != "0")
}

/// Enables forwarding for a family.
pub(super) fn set_forwarding(netns: &File, v6: bool) -> io::Result<()> {
    let path = if v6 { V6 } else { V4 };
    let name = path.trim_start_matches("/proc/sys/").replace('/', ".");
    write(netns, path, "1", || {
        format!("{path} is read-only: give the engine's service `sysctls: [{name}=1]`")
    })
}

fn localnet_path(name: &IfName) -> String {
    format!("/proc/sys/net/ipv4/conf/{name}/route_localnet")
}

/// Whether each interface routes addresses in 127.0.0.0/8. Interfaces that do not exist are left out.
pub(super) fn localnet(netns: &File, names: &[IfName]) -> io::Result<BTreeMap<IfName, Localnet>> {
    netns::inside(netns, || {
        let may_write = |it: &IfName| access(localnet_path(it).as_str(), AccessFlags::W_OK).is_ok();
        let writable = names.iter().all(may_write) || own_proc().is_ok();
        let state =
            |it: &IfName| Some((it.clone(), Localnet { on: is_on(&localnet_path(it)).ok()?, writable }));
        Ok(names.iter().filter_map(state).collect())
    })
}

/// Sets whether an interface routes addresses in 127.0.0.0/8.
pub(super) fn set_localnet(netns: &File, name: &IfName, on: bool) -> io::Result<()> {
    let path = localnet_path(name);
    write(netns, &path, if on { "1" } else { "0" }, || format!("{path} is read-only"))
}

/// Enables IPv6 on an interface.
///
/// # Errors
/// `InvalidInput` if the kernel has no IPv6 for the interface: either none at all, or the MTU is below 1280
/// (`ipv6_add_dev()` in net/ipv6/addrconf.c).
pub(super) fn enable_v6(netns: &File, name: &IfName) -> io::Result<()> {
    let path = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
    let written = write(netns, &path, "0", || {
        format!("{path} is read-only: give the container `sysctls: [net.ipv6.conf.default.disable_ipv6=0]`")
    });
    written.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(
            io::ErrorKind::InvalidInput,
            "the kernel has no IPv6 for the interface: IPv6 needs an MTU of at least 1280",
        ),
        _ => error,
    })
}

/// Writes to a file in `/proc/sys` in the namespace. `help` is the error if the file is read-only.
fn write(netns: &File, path: &str, value: &str, help: impl Fn() -> String) -> io::Result<()> {
    let read_only = io::ErrorKind::ReadOnlyFilesystem;
    let written = netns::inside(netns, || match fs::write(path, value) {
        // Container engines mount these files read-only.
        Err(error) if error.kind() == read_only => {
            own_proc().and_then(|()| fs::write(path, value)).map_err(|_| error)
        }
        result => result,
    });
    written.map_err(|it| if it.kind() == read_only { io::Error::new(read_only, help()) } else { it })
}

/// Mounts a new `/proc` for the calling thread, which ends soon.
fn own_proc() -> io::Result<()> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)?;
    Ok(())
}
