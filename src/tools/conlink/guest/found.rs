//! What a search for a guest finds, and why it finds nothing.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::anyhow;

use crate::kernel::{self, netns};
use crate::process::node;

/// A guest and its network namespace.
#[derive(Debug)]
pub(in crate::tools) struct Found {
    /// `docker`, `podman`, `containerd`, `lxc`, `pid`, `netns` or `lab`.
    pub(in crate::tools) kind: &'static str,
    /// The name without abbreviations. `KIND:NAME` names the same guest.
    pub(in crate::tools) name: String,
    pub(in crate::tools) netns: File,
    /// Its first process, in our process namespace.
    pub(in crate::tools) pid: Option<u32>,
    /// A pidfd of that process.
    pub(super) process: Option<OwnedFd>,
}

/// Why there is no network namespace.
#[derive(Debug, thiserror::Error)]
pub(in crate::tools) enum Unresolved {
    /// There is no such guest.
    #[error("{0}")]
    NotFound(String),
    /// The guest exists and cannot be used, for example because it is not running, or it is unknown whether it exists.
    #[error(transparent)]
    Failed(anyhow::Error),
}

/// Why a search in one place has no result.
pub(super) enum Miss {
    /// There is no such guest.
    Absent,
    /// It is unknown whether there is one.
    Unknown(anyhow::Error),
    /// There is one, and it cannot be used.
    Unusable(anyhow::Error),
}

impl Miss {
    /// For the user, with the words for a guest that does not exist.
    pub(super) fn told(self, absence: impl FnOnce() -> String) -> Unresolved {
        match self {
            Self::Absent => Unresolved::NotFound(absence()),
            Self::Unknown(error) | Self::Unusable(error) => Unresolved::Failed(error),
        }
    }
}

pub(super) type Search = Result<Found, Miss>;

impl Found {
    /// By the pidfd of its first process.
    pub(super) fn of_process(kind: &'static str, name: &str, process: OwnedFd) -> Search {
        let pid = node::number_in_proc(process.as_fd()).and_then(|it| u32::try_from(it).ok());
        match netns::of_pidfd(process.as_fd()) {
            Ok(netns) => Ok(Self { kind, name: name.to_owned(), netns, pid, process: Some(process) }),
            Err(error) if is_ended(&error) => Err(stopped(kind, name)),
            Err(error) => Err(unopened(kind, name, error)),
        }
    }

    /// A container that runs, as an engine reports it.
    pub(in crate::tools) fn of_container(kind: &'static str, name: &str, pid: u32, netns: File) -> Self {
        let process = node::pidfd(pid.cast_signed()).ok();
        Self { kind, name: name.to_owned(), netns, pid: Some(pid), process }
    }

    /// The name that the guest has for others: its host name, else its own name. A number or a path is none.
    pub(in crate::tools) fn own_name(&self) -> Option<String> {
        let is_name = !(self.kind == "pid" || self.kind == "netns" && self.name.contains('/'));
        let name = self.name.rsplit('/').next().unwrap_or_default();
        self.hostname().or_else(|| is_name.then(|| name.to_owned()))
    }

    /// The host name of the guest; None if it is that of this machine, or unknown.
    pub(in crate::tools) fn hostname(&self) -> Option<String> {
        let name = netns::hostname(self.process.as_ref()?.as_fd()).ok()?;
        let ours = nix::unistd::gethostname().ok()?;
        if name == ours { None } else { name.into_string().ok().filter(|it| !it.is_empty()) }
    }
}

/// The names in a folder; none if it cannot be read.
pub(super) fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|it| it.file_name().into_string().ok()).collect()
}

/// A pidfd of a process.
pub(super) fn open_process(pid: u32) -> io::Result<OwnedFd> {
    node::pidfd(i32::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?)
}

/// A process ID of the kernel's type int.
pub(super) fn process_id(text: &str) -> Option<u32> {
    text.parse()
        .ok()
        .filter(|it| (1..=0x7fff_ffff).contains(it) && text.bytes().all(|it| it.is_ascii_digit()))
}

pub(super) fn is_ended(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT))
}

pub(super) fn stopped(kind: &str, name: &str) -> Miss {
    Miss::Unusable(match kind {
        "pid" => anyhow!("process {name} has ended"),
        "lab" => anyhow!("node {name} is not running"),
        _ => anyhow!("{kind} container `{name}` is not running"),
    })
}

pub(super) fn unopened(kind: &str, name: &str, error: io::Error) -> Miss {
    let request = format!("open the network namespace of {kind}:{name}");
    Miss::Unusable(kernel::Error::new(request, error).into())
}
