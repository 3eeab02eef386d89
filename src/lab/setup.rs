//! From a service of the compose files to the settings of a node's first process.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::lab::users;
use crate::process::node::{Bind, Privileges, Setup, User, mount_volumes};
use crate::service::{Mount, Node, Source};

/// The settings of a node.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub node: Node,
    pub setup: Setup,
    /// The text of its `/etc/hosts`.
    pub hosts: String,
    /// Settings of its service that have no effect.
    pub notes: Vec<String>,
}

/// Settings that all nodes of a lab share.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The lab's folder.
    pub folder: PathBuf,
    /// Working directory of programs whose service sets none.
    pub working_dir: PathBuf,
    /// Variables that services need not set, such as PATH and HOME.
    pub env: Vec<(String, String)>,
    /// Folders with sockets, which nodes see as empty.
    pub hidden: Vec<PathBuf>,
    /// Each node has a root file system of its own.
    pub private_root: bool,
    /// Names of our own tools, for machines that have no program of that name.
    pub own_programs: Vec<&'static str>,
    /// The user namespace has only one user.
    pub rootless: bool,
}

/// The first port that every user may listen on.
const LOW_PORTS: &str = "net.ipv4.ip_unprivileged_port_start";

/// The folder with a node's log and files.
pub(super) fn node_folder(lab: &Path, name: &str) -> PathBuf {
    lab.join("nodes").join(name)
}

/// The folder with the volumes of a node alone.
pub(super) fn node_volumes(lab: &Path, name: &str) -> PathBuf {
    lab.join("volumes/nodes").join(name)
}

/// Makes the folder of a volume, in a file system that only the lab has.
fn make_volume(lab: &Path, volume: &Path) -> io::Result<()> {
    let all = lab.join("volumes");
    fs::create_dir_all(&all)?;
    if fs::metadata(&all)?.dev() == fs::metadata(lab)?.dev() {
        mount_volumes(&all)?;
    }
    fs::create_dir_all(volume)
}

/// Whether the target of a volume exists: in the innermost volume around it, otherwise on the machine.
fn has_place(mount: &Mount, all: &[Mount]) -> bool {
    let target = Path::new(&mount.target);
    let around = |it: &&Mount| it.target != mount.target && target.starts_with(&it.target);
    match all.iter().filter(around).max_by_key(|it| it.target.len()) {
        Some(Mount { source: Source::Path { path, .. }, target: outer, .. }) => {
            target.strip_prefix(outer).is_ok_and(|it| path.join(it).exists())
        }
        _ => target.exists(),
    }
}

/// The settings of nodes; `hosts` has the texts of their `/etc/hosts`, in the same order.
pub fn wanted(nodes: Vec<Node>, hosts: Vec<String>, around: &Surroundings) -> Vec<Wanted> {
    let mut users = Users::default();
    let with_hosts = nodes.into_iter().zip(hosts);
    with_hosts.map(|(node, hosts)| one(node, hosts, around, &mut users)).collect()
}

fn one(node: Node, hosts: String, around: &Surroundings, users: &mut Users) -> Wanted {
    let service = node.service.clone();
    let mut notes = service.notes.clone();
    let folder = node_folder(&around.folder, &node.name);
    let mut env: BTreeMap<String, String> = around.env.iter().cloned().collect();
    env.insert("HOSTNAME".to_owned(), node.hostname.clone());
    let user = service.user.as_deref().filter(|it| !["0", "root", "0:0", "root:root"].contains(it));
    let user = match user.map(|it| users.find(it)) {
        None => None,
        Some(Some(_)) if around.rootless => {
            notes.push("user: ignored, since the lab of an ordinary user has no other users".to_owned());
            None
        }
        Some(None) => {
            notes.push(format!(
                "user: ignored, since this machine has no user `{}`",
                service.user.as_deref().unwrap_or_default()
            ));
            None
        }
        Some(Some((user, home))) => {
            env.extend(home.map(|it| ("HOME".to_owned(), it)));
            Some(user)
        }
    };
    env.extend(service.env.iter().cloned());
    let mut binds = vec![
        Bind { source: folder.join("hosts"), target: "/etc/hosts".into(), read_only: false },
        Bind { source: folder.join("hostname"), target: "/etc/hostname".into(), read_only: false },
    ];
    for (number, it) in service.volumes.iter().enumerate() {
        let volume = |source: PathBuf| (make_volume(&around.folder, &source), source);
        let (made, source) = match &it.source {
            // Nothing is created for a volume that will not be mounted.
            Source::Path { path, create: true } if around.private_root || has_place(it, &service.volumes) => {
                (fs::create_dir_all(path), path.clone())
            }
            Source::Path { path, .. } => (Ok(()), path.clone()),
            Source::Volume(name) => volume(around.folder.join("volumes/shared").join(name)),
            Source::Anonymous => volume(node_volumes(&around.folder, &node.name).join(number.to_string())),
        };
        if let Err(error) = made {
            // A file at this path can be mounted too.
            if !source.exists() {
                notes.push(format!("volume {}: create {}: {error}", it.target, source.display()));
                continue;
            }
        }
        binds.push(Bind { source, target: it.target.clone().into(), read_only: it.read_only });
    }
    // Outer mounts first: they would hide inner ones.
    binds.sort_by_key(|it| it.target.components().count());
    let mut sysctls = service.sysctls.clone();
    if user.is_some() && !sysctls.iter().any(|(key, _)| key == LOW_PORTS) {
        // As in a container, every user may listen on every port.
        sysctls.push((LOW_PORTS.to_owned(), "0".to_owned()));
    }
    let setup = Setup {
        hostname: node.hostname.clone(),
        domainname: service.domainname.clone(),
        layer: around.private_root.then(|| folder.join("layer")),
        binds,
        tmpfs: service.tmpfs.iter().map(|it| (it.target.clone(), it.options.clone())).collect(),
        sysctls,
        argv: service.argv.clone(),
        env: env.into_iter().collect(),
        folder: service.working_dir.as_ref().map_or_else(|| around.working_dir.clone(), PathBuf::from),
        needs_folder: service.working_dir.is_some(),
        user,
        init: service.init,
        hidden: around.hidden.clone(),
        privileges: Privileges {
            capabilities: service.privileges.capabilities,
            filtered: service.privileges.filtered,
        },
        own_programs: around.own_programs.clone(),
    };
    Wanted { node, setup, hosts, notes }
}

/// The machine's users and groups.
#[derive(Default)]
struct Users {
    passwd: Option<String>,
    group: Option<String>,
}

impl Users {
    /// Looks up `USER[:GROUP]` by names or numbers. Returns the home directory too, if there is one.
    fn find(&mut self, text: &str) -> Option<(User, Option<String>)> {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let passwd = self.passwd.get_or_insert_with(|| read("/etc/passwd"));
        let group = self.group.get_or_insert_with(|| read("/etc/group"));
        find_user(text, passwd, group)
    }
}

fn find_user(text: &str, passwd: &str, group: &str) -> Option<(User, Option<String>)> {
    let (user, wanted_group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let found = users::entry(passwd, user).unwrap_or_default();
    let uid = users::id(&found).or_else(|| user.parse().ok())?;
    let gid = match wanted_group {
        Some(word) => {
            users::entry(group, word).and_then(|it| users::id(&it)).or_else(|| word.parse().ok())?
        }
        None => users::number(&found, 3).unwrap_or(0),
    };
    let name = found.first().filter(|it| !it.is_empty());
    let is_member = |entry: &Vec<&str>| {
        name.is_some_and(|name| entry.get(3).is_some_and(|it| it.split(',').any(|it| it == *name)))
    };
    let further = users::entries(group).filter(is_member).filter_map(|it| users::id(&it));
    let home = found.get(5).filter(|it| !it.is_empty()).map(|it| (*it).to_owned());
    Some((User { uid, gid, groups: further.collect() }, home))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_names_and_numbers() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nfrr:x:92:93::/:/bin/false\n";
        let group = "root:x:0:\nfrr:x:93:\nfrrvty:x:94:frr,root\n";
        let found = |text: &str| find_user(text, passwd, group).map(|(it, _)| (it.uid, it.gid, it.groups));
        for (text, expected) in [
            ("frr", Some((92, 93, vec![94]))),
            ("92", Some((92, 93, vec![94]))),
            ("frr:frrvty", Some((92, 94, vec![94]))),
            ("frr:7", Some((92, 7, vec![94]))),
            ("1234", Some((1234, 0, vec![]))),
            ("1234:93", Some((1234, 93, vec![]))),
            ("nobody-here", None),
            ("frr:no-group", None),
            ("", None),
        ] {
            assert_eq!(found(text), expected, "{text}");
        }
    }
}
