//! The guest of an attachment: a network namespace, named by a container, a process, a lab's node or a file.

mod containerd;
mod engine;
mod found;
mod lxc;
mod places;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::Path;

use anyhow::anyhow;

use crate::docker::is_name;
use crate::kernel::netns;
use crate::reconcile::EngineId;
use crate::tools::conlink::lab;
use crate::words::{listed, near};

pub(in crate::tools) use found::{Found, Unresolved};

use found::{Miss, Search, is_ended, names_in, open_process, process_id, unopened};
use places::Places;

/// What a command line names as the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tools) enum Guest {
    /// A name, an id or the beginning of an id.
    Docker(String),
    /// A name, an id or the beginning of an id.
    Podman(String),
    Containerd {
        namespace: String,
        /// An id or the beginning of one.
        id: String,
    },
    Lxc(String),
    Pid(u32),
    /// A name in `/run/netns`, or a path, which contains a slash.
    Netns(String),
    Lab {
        lab: String,
        node: String,
    },
    /// A name without its kind.
    Bare(String),
}

/// The text does not name a guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(in crate::tools) struct BadGuest(String);

const KINDS: [&str; 7] = ["docker", "podman", "containerd", "lxc", "pid", "netns", "lab"];

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Docker(name) => write!(f, "docker:{name}"),
            Self::Podman(name) => write!(f, "podman:{name}"),
            Self::Containerd { namespace, id } => write!(f, "containerd:{namespace}/{id}"),
            Self::Lxc(name) => write!(f, "lxc:{name}"),
            Self::Pid(pid) => write!(f, "pid:{pid}"),
            Self::Netns(name) => write!(f, "netns:{name}"),
            Self::Lab { lab, node } => write!(f, "lab:{lab}/{node}"),
            Self::Bare(name) => f.write_str(name),
        }
    }
}

impl Guest {
    /// `docker:NAME`, `podman:NAME`, `containerd:NAMESPACE/ID`, `lxc:NAME`, `pid:N`, `netns:NAME`, `netns:PATH`,
    /// `lab:LAB/NODE`, or one of the names without its kind.
    pub(in crate::tools) fn parse(text: &str) -> Result<Self, BadGuest> {
        let bad = |expected: &str| Err(BadGuest(format!("expected {expected}, found `{text}`")));
        let (kind, name) = match text.split_once(':') {
            // A path may contain a colon.
            Some((kind, name)) if !kind.contains('/') => (kind, name),
            _ if text.contains('/') => return Ok(Self::Netns(text.to_owned())),
            _ if is_file_name(text) => return Ok(Self::Bare(text.to_owned())),
            _ => return bad("the name of a guest, such as `docker:web`"),
        };
        let pair = || name.split_once('/').map(|(one, other)| (one.to_owned(), other.to_owned()));
        match kind {
            "docker" if is_name(name) => Ok(Self::Docker(name.to_owned())),
            "podman" if is_name(name) => Ok(Self::Podman(name.to_owned())),
            "docker" | "podman" => bad("the name of a container: letters, digits, `_`, `.` and `-`"),
            "containerd" => match pair() {
                Some((namespace, id)) if is_name(&namespace) && is_name(&id) => {
                    Ok(Self::Containerd { namespace, id })
                }
                _ => bad("`containerd:NAMESPACE/ID`"),
            },
            "lxc" if is_file_name(name) => Ok(Self::Lxc(name.to_owned())),
            "lxc" => bad("the name of a container"),
            "pid" => match process_id(name) {
                Some(it) => Ok(Self::Pid(it)),
                None => bad("a process ID"),
            },
            "netns" if name.contains('/') || is_file_name(name) => Ok(Self::Netns(name.to_owned())),
            "netns" => bad("a name in /run/netns, or a path"),
            "lab" => match pair() {
                Some((lab, node)) if is_file_name(&lab) && is_file_name(&node) => Ok(Self::Lab { lab, node }),
                _ => bad("`lab:LAB/NODE`"),
            },
            _ => Err(BadGuest(match near(kind, &KINDS) {
                Some(near) => format!("unknown kind of guest `{kind}`; did you mean `{near}:{name}`?"),
                None => format!("unknown kind of guest `{kind}`; expected {}", listed(&KINDS)),
            })),
        }
    }

    /// Whether it may be the guest of this kind and name, which perhaps no longer exists.
    pub(in crate::tools) fn names(&self, kind: &str, name: &str) -> bool {
        match self {
            Self::Docker(it) => kind == "docker" && it == name,
            Self::Podman(it) => kind == "podman" && it == name,
            Self::Containerd { namespace, id } => {
                kind == "containerd" && name.split_once('/') == Some((namespace, id))
            }
            Self::Lxc(it) => kind == "lxc" && it == name,
            Self::Pid(it) => kind == "pid" && it.to_string() == name,
            Self::Netns(it) => kind == "netns" && it == name,
            Self::Lab { lab, node } => kind == "lab" && name.split_once('/') == Some((lab, node)),
            Self::Bare(it) => kind != "lab" && it == name,
        }
    }

    /// Finds the guest and opens its network namespace.
    pub(in crate::tools) fn resolve(&self) -> Result<Found, Unresolved> {
        self.resolve_in(&Places::of_machine())
    }

    fn resolve_in(&self, places: &Places) -> Result<Found, Unresolved> {
        let guest = match self {
            Self::Bare(name) => return bare(name, places),
            Self::Lab { lab, node } => return lab_node(lab, node),
            it => it,
        };
        let absence = || {
            let near = nearest(guest.name(), guest.neighbours(places));
            format!("{}{near}", guest.absence(places))
        };
        guest.search(places).map_err(|it| it.told(absence))
    }

    /// A search in the one place that the kind names.
    fn search(&self, places: &Places) -> Search {
        match self {
            Self::Docker(name) => engine::find(EngineId::Docker, &places.docker, name),
            Self::Podman(name) => engine::find(EngineId::Podman, &places.podman, name),
            Self::Containerd { namespace, id } => containerd::find(&places.containerd, namespace, id),
            Self::Lxc(name) => lxc::find(name),
            Self::Pid(pid) => process(*pid),
            Self::Netns(name) => named(name, &places.netns),
            Self::Lab { .. } | Self::Bare(_) => Err(Miss::Absent),
        }
    }

    /// Names that this one may be a misspelling of. For errors: an engine that does not answer has none.
    fn neighbours(&self, places: &Places) -> Vec<String> {
        match self {
            Self::Docker(_) => engine::names(&places.docker),
            Self::Podman(_) => engine::names(&places.podman),
            Self::Containerd { namespace, .. } => containerd::ids(&places.containerd, namespace),
            Self::Lxc(_) => lxc::names(),
            Self::Netns(name) if !name.contains('/') => names_in(&places.netns),
            _ => Vec::new(),
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Containerd { id, .. } => id,
            Self::Docker(name) | Self::Podman(name) | Self::Lxc(name) => name,
            Self::Netns(name) | Self::Bare(name) => name,
            Self::Lab { node, .. } => node,
            Self::Pid(_) => "",
        }
    }

    /// That it does not exist, in words.
    fn absence(&self, places: &Places) -> String {
        match self {
            Self::Docker(name) => format!("docker container `{name}` not found ({})", places.docker),
            Self::Podman(name) => format!("podman container `{name}` not found ({})", places.podman),
            Self::Containerd { namespace, id } => {
                let folder = places.containerd.display();
                format!("containerd container `{id}` not found in namespace `{namespace}` of {folder}")
            }
            Self::Lxc(name) => format!("no running LXC container is named `{name}`"),
            Self::Pid(pid) => format!("no process has the ID {pid}"),
            Self::Netns(name) if name.contains('/') => format!("{name} does not exist"),
            Self::Netns(name) => {
                format!("network namespace `{name}` not found in {}", places.netns.display())
            }
            Self::Lab { node: name, .. } | Self::Bare(name) => format!("guest `{name}` not found"),
        }
    }
}

/// The first of these that exists: a namespace in `/run/netns`, a process, a container of Docker, Podman or LXC.
fn bare(name: &str, places: &Places) -> Result<Found, Unresolved> {
    let mut guests = vec![Guest::Netns(name.to_owned())];
    guests.extend(process_id(name).map(Guest::Pid));
    if is_name(name) {
        guests.extend([Guest::Docker(name.to_owned()), Guest::Podman(name.to_owned())]);
    }
    guests.push(Guest::Lxc(name.to_owned()));
    let mut unknown = None;
    for guest in &guests {
        match guest.search(places) {
            Ok(found) => return Ok(found),
            Err(Miss::Absent) => {}
            // A name that a restart of the machine has left.
            Err(Miss::Unusable(_)) if matches!(guest, Guest::Netns(_)) => {}
            Err(Miss::Unusable(error)) => return Err(Unresolved::Failed(error)),
            Err(Miss::Unknown(error)) => unknown = unknown.or(Some(error)),
        }
    }
    if let Some(error) = unknown {
        return Err(Unresolved::Failed(error));
    }
    let near = nearest(name, guests.iter().flat_map(|it| it.neighbours(places)).collect());
    Err(Unresolved::NotFound(format!(
        "guest `{name}` not found{near}\nhint: it is not a name in {}, a process ID, or a container of docker ({}), podman \
         ({}) or LXC",
        places.netns.display(),
        places.docker,
        places.podman
    )))
}

/// `; did you mean …?` or nothing.
fn nearest(name: &str, names: Vec<String>) -> String {
    let near = near(name, &names.iter().map(String::as_str).collect::<Vec<_>>());
    near.map(|it| format!("; did you mean `{it}`?")).unwrap_or_default()
}

fn lab_node(lab: &str, node: &str) -> Result<Found, Unresolved> {
    let found = match lab::node_process(lab, node) {
        Ok(Ok(it)) => it,
        Ok(Err(absence)) => return Err(Unresolved::NotFound(absence)),
        Err(error) => return Err(Unresolved::Failed(error)),
    };
    let name = format!("{lab}/{}", found.name);
    Found::of_process("lab", &name, found.pidfd).map_err(|it| it.told(|| format!("node {name} not found")))
}

fn process(pid: u32) -> Search {
    let (kind, name) = ("pid", pid.to_string());
    let process = open_process(pid)
        .map_err(|it| if is_ended(&it) { Miss::Absent } else { unopened(kind, &name, it) })?;
    Found::of_process(kind, &name, process)
}

/// A namespace by its path, or by its name in a folder.
fn named(name: &str, folder: &Path) -> Search {
    let path = folder.join(name);
    let path = if name.contains('/') { Path::new(name) } else { &path };
    let unusable = |what: String| Miss::Unusable(anyhow!("{}: {what}", path.display()));
    match netns::at_path(path) {
        Ok(Some(netns)) => {
            Ok(Found { kind: "netns", name: name.to_owned(), netns, pid: None, process: None })
        }
        Ok(None) => Err(unusable("expected a network namespace, found another file".to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Miss::Absent),
        Err(error) => Err(unusable(error.to_string())),
    }
}

/// Whether it can be the name of a file.
fn is_file_name(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && !text.contains(['/', '\0'])
}
