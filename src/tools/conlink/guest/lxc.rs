//! Containers of LXC, by the command socket of their monitor.
//!
//! The monitor of a running container listens on an abstract socket, `@LXCPATH/NAME/command`
//! (`lxc_make_abstract_socket_name()` in LXC's `src/lxc/commands_utils.c`).

use std::fs;
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use anyhow::anyhow;
use nix::sys::socket::{getsockopt, sockopt};

use crate::tools::conlink::guest::found::{Found, Miss, Search, is_ended, open_process, stopped, unopened};
use crate::tools::conlink::socket::PATIENCE;

/// LXC_CMD_GET_INIT_PID in LXC's `src/lxc/commands.h`.
const GET_INIT_PID: i32 = 4;

pub(super) fn find(name: &str) -> Search {
    let end = format!("/{name}/command");
    let mut matching = sockets().into_iter().filter(|it| it.ends_with(&end));
    let socket = matching.next().ok_or(Miss::Absent)?;
    if let Some(other) = matching.next() {
        return Err(Miss::Unusable(anyhow!(
            "several LXC containers are named `{name}`: @{socket}, @{other}"
        )));
    }
    let pid = || match init_pid(&socket) {
        Ok(Some(it)) => Ok(it),
        Ok(None) => Err(stopped("lxc", name)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Err(stopped("lxc", name)),
        Err(error) => Err(Miss::Unknown(anyhow!("lxc: @{socket}: {error}"))),
    };
    let first = pid()?;
    let failed = |it| if is_ended(&it) { stopped("lxc", name) } else { unopened("lxc", name, it) };
    let process = open_process(first).map_err(failed)?;
    // The container may have ended before, and the number may belong to another process by now.
    if pid()? != first {
        return Err(Miss::Unusable(anyhow!("lxc container `{name}` was restarted during the inspection")));
    }
    Found::of_process("lxc", name, process)
}

/// The names of the running containers.
pub(super) fn names() -> Vec<String> {
    let name = |it: &String| Some(it.strip_suffix("/command")?.rsplit_once('/')?.1.to_owned());
    sockets().iter().filter_map(name).collect()
}

/// The abstract sockets of this network namespace that listen as an LXC monitor does, without the `@`.
fn sockets() -> Vec<String> {
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let path = |line: &str| {
        let (_, path) = line.split_once(" @")?;
        // A connection that a monitor has accepted has the same name.
        let listens = line.split_whitespace().nth(3) == Some("00010000");
        (listens && path.starts_with('/') && path.ends_with("/command")).then(|| path.to_owned())
    };
    table.lines().filter_map(path).collect()
}

/// Asks a monitor for the first process of its container; None if there is none.
///
/// The request is `struct lxc_cmd_req`, the answer `struct lxc_cmd_rsp`, whose pointer is the number.
fn init_pid(socket: &str) -> io::Result<Option<u32>> {
    let mut stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(socket)?)?;
    // Every user can listen with this name, and would then choose the namespace.
    let peer = getsockopt(&stream, sockopt::PeerCredentials)?.uid();
    if peer != 0 && peer != nix::unistd::getuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("expected a monitor of root, found one of user {peer}"),
        ));
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = [0; 16];
    request[..4].copy_from_slice(&GET_INIT_PID.to_ne_bytes());
    stream.write_all(&request)?;
    let mut answer = [0; 16];
    stream.read_exact(&mut answer)?;
    let [result, _, pid, _] = [0, 4, 8, 12].map(|at| {
        i32::from_ne_bytes(answer.get(at..at + 4).and_then(|it| it.try_into().ok()).unwrap_or_default())
    });
    Ok(u32::try_from(pid).ok().filter(|it| *it > 0 && result == 0))
}
