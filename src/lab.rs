//! The nodes of a lab: programs in namespaces of their own, in place of containers.
//!
//! A node is a process that makes its namespaces and mounts. From then on the reconciler wires it like any container.
//! Once its links are up and its dependencies are met, the process becomes the node's program. When the program exits,
//! the node and its network are gone; it may be restarted.
//!
//! Architecture invariant: nothing here blocks. The loop calls when children have ended, when [`Lab::poll`] is readable,
//! and at the time of [`Lab::wake_at`].

mod gate;
mod health;
mod member;
mod output;
mod setup;
pub mod users;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::container::{Container, ContainerId};
use crate::process::node::{self, Heard, Net};
use crate::service::Dependency;

use gate::{Gate, Stage, gate};
use member::{Member, Phase};
use output::Outputs;

pub use member::Life;
pub use setup::{Surroundings, Wanted, wanted};

/// The file in a lab's folder that shows that the lab may have interfaces in the host's network namespace.
pub const USES_HOST: &str = "uses-host";

/// The file in a lab's folder with the folder of its compose project.
pub const PROJECT: &str = "project";

/// A node that must be inspected again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed(pub ContainerId);

/// All nodes of a lab.
#[derive(Debug)]
pub struct Lab {
    /// The lab's name, which is the project of its containers.
    name: String,
    /// The lab's folder; each node has a folder in it.
    folder: PathBuf,
    members: BTreeMap<String, Member>,
    /// Names in the order of starting: dependencies first.
    order: Vec<String>,
    epoll: Epoll,
    outputs: Outputs,
    /// The inode of the keeper's lock, which shows whether the folder is still this lab's.
    lock: Option<u64>,
    /// The folder of the compose project, once its nodes are set.
    project: Option<PathBuf>,
    /// It may have interfaces in the host's network namespace.
    uses_host: bool,
    /// Number of starts of nodes.
    generation: u64,
    /// Nodes that still send messages, by generation.
    talking: BTreeMap<u64, String>,
    /// Nodes by the process IDs of their first processes.
    pids: BTreeMap<i32, String>,
    /// Other programs that run in nodes, by process ID.
    jobs: BTreeMap<i32, Job>,
}

/// A program in a node that is not the node's own.
#[derive(Debug)]
enum Job {
    /// A command from `commands:`, with the place of its entry.
    Command {
        id: ContainerId,
        node: String,
        origin: String,
    },
    Check {
        node: String,
    },
}

/// What follows from the end of child processes.
#[derive(Debug, Default)]
pub struct Buried {
    pub changed: Vec<Changed>,
    /// Containers whose `commands:` have all ended.
    pub commands: Vec<ContainerId>,
}

impl Lab {
    /// A lab without nodes.
    pub fn new(name: String, folder: PathBuf) -> io::Result<Self> {
        Ok(Self {
            name,
            lock: inode(&folder.join("lock")),
            project: None,
            folder,
            members: BTreeMap::new(),
            order: Vec::new(),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            outputs: Outputs::new()?,
            uses_host: false,
            generation: 0,
            talking: BTreeMap::new(),
            pids: BTreeMap::new(),
            jobs: BTreeMap::new(),
        })
    }

    /// Records that the lab may have interfaces in the host's network namespace, for the cleanup after a crash.
    pub fn set_uses_host(&mut self) -> io::Result<()> {
        let path = self.folder.join(USES_HOST);
        File::create(&path).map_err(|it| at(&path, &it))?;
        self.uses_host = true;
        Ok(())
    }

    pub fn uses_host(&self) -> bool {
        self.uses_host
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the lab's folder still is where it was made.
    pub fn has_folder(&self) -> bool {
        inode(&self.folder.join("lock")) == self.lock
    }

    /// The folder of the compose project whose nodes it has.
    pub fn project(&self) -> Option<&Path> {
        self.project.as_deref()
    }

    /// The lab's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Sets the nodes of the lab, which are those of a project. Nodes that are not in the list end, changed nodes are
    /// restarted, and nodes that have exited are started again. [`Lab::act`] does it.
    pub fn set(&mut self, wanted: Vec<Wanted>, project: PathBuf, now: Instant) -> io::Result<()> {
        if self.project.as_ref() != Some(&project) {
            let path = self.folder.join(PROJECT);
            fs::write(&path, project.as_os_str().as_encoded_bytes()).map_err(|it| at(&path, &it))?;
        }
        self.order = wanted.iter().map(|it| it.node.name.clone()).collect();
        for member in self.members.values_mut() {
            if !self.order.contains(&member.wanted.node.name) {
                member.doom(now);
            }
        }
        for it in wanted {
            let folder = self.node_folder(&it.node.name);
            fs::create_dir_all(&folder).map_err(|it| at(&folder, &it))?;
            // In place: the file is mounted in the running node.
            for (name, text) in
                [("hosts", it.hosts.clone()), ("hostname", format!("{}\n", it.setup.hostname))]
            {
                let path = folder.join(name);
                fs::write(&path, text).map_err(|it| at(&path, &it))?;
            }
            match self.members.get_mut(&it.node.name) {
                Some(member) => {
                    self.outputs.set_limit(member.generation, it.node.service.log);
                    member.want(it, now);
                }
                None => drop(self.members.insert(it.node.name.clone(), Member::new(it))),
            }
        }
        self.project = Some(project);
        Ok(())
    }

    fn node_folder(&self, name: &str) -> PathBuf {
        setup::node_folder(&self.folder, name)
    }

    /// Ends all nodes. [`Lab::is_empty`] becomes true when they have ended.
    pub fn stop(&mut self, now: Instant) {
        self.order.clear();
        self.members.values_mut().for_each(|it| it.doom(now));
        self.sweep();
    }

    /// The longest time that the nodes that are stopping may take.
    pub fn time_to_end(&self, now: Instant) -> Duration {
        self.members.values().map(|it| it.time_to_end(now)).max().unwrap_or_default()
    }

    /// Whether all nodes are gone.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Does what is due: starts nodes, starts the programs of nodes whose links are up and whose dependencies are met,
    /// and kills nodes whose time to end is over.
    pub fn act(&mut self, now: Instant) {
        if let Err(error) = output::rotate_own(&self.folder.join("log")) {
            log::debug!("rotate the log: {error}");
        }
        self.sweep();
        let order = std::mem::take(&mut self.order);
        order.iter().for_each(|it| self.start_if_due(it, now));
        // A program starts only when the links of all nodes are there.
        if !self.members.values().any(Member::lacks_links) {
            order.iter().for_each(|it| self.begin_if_due(it, now));
        }
        self.order = order;
        for member in self.members.values_mut() {
            member.end_if_due(now);
            if let Some(pid) = member.check_if_due(now) {
                self.jobs.insert(pid, Job::Check { node: member.wanted.node.name.clone() });
            }
        }
        self.sweep();
    }

    /// Removes ended nodes that are not wanted any more.
    fn sweep(&mut self) {
        // All wanted nodes are members.
        if self.members.len() == self.order.len() {
            return;
        }
        let (folder, order) = (self.folder.clone(), &self.order);
        self.members.retain(|name, member| {
            let keep = order.contains(name) || !member.has_ended();
            for it in [setup::node_folder(&folder, name), setup::node_volumes(&folder, name)] {
                if !keep && let Err(error) = fs::remove_dir_all(&it) {
                    log::debug!("remove {}: {error}", it.display());
                }
            }
            keep
        });
    }

    fn start_if_due(&mut self, name: &str, now: Instant) {
        let Some(member) = self.members.get(name).filter(|it| it.start_is_due(now)) else { return };
        let owner = match &member.wanted.node.service.shares_network_of {
            None => None,
            Some(service) => match self.netns_of(service, member.wanted.node.index) {
                Some(it) => Some(it),
                None => return self.wait_for_network(name),
            },
        };
        let net = owner.as_ref().map_or(Net::Own, |(_, it)| Net::Of(it.as_fd()));
        self.generation += 1;
        let generation = self.generation;
        let log = setup::node_folder(&self.folder, name).join("log");
        let opened = self.outputs.open(generation, log, member.wanted.node.service.log);
        let started = opened.and_then(|()| {
            let output = self.outputs.writer(generation).ok_or(io::ErrorKind::NotFound)?;
            node::Node::start(&member.wanted.setup, net, output)
        });
        let Some(member) = self.members.get_mut(name) else { return };
        match started {
            Ok(process) => {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, generation);
                if let Err(error) = self.epoll.add(process.talk(), event) {
                    log::error!("{name}: listen to the node: {error}");
                }
                self.talking.insert(generation, name.to_owned());
                self.pids.insert(process.pid(), name.to_owned());
                member.started(process, generation, owner.map(|(name, _)| name));
                // Nodes that share its network are still in that of its last run, which has no links any more.
                let sharing = self.members.values_mut().filter(|it| it.shares.as_deref() == Some(name));
                sharing.for_each(|it| it.again(now));
            }
            Err(error) => {
                self.outputs.close(generation);
                log::error!("{name}: start the node: {error}");
                member.failed(format!("start the node: {error}"), now);
            }
        }
    }

    /// Makes a node wait for the node whose network it shares, or fail if that node never runs.
    fn wait_for_network(&mut self, name: &str) {
        let Some(member) = self.members.get(name) else { return };
        let owner = member.wanted.node.service.shares_network_of.clone().unwrap_or_default();
        let mut owners = self.members.values().filter(|it| it.wanted.node.service.name == owner);
        let never = owners.all(|it| matches!(it.stage(), Stage::Ended(_) | Stage::Failed));
        let Some(member) = self.members.get_mut(name) else { return };
        if never {
            let why = format!("it shares the network of `{owner}`, which is not running");
            log::error!("{name}: {why}");
            member.cannot_start(why);
        } else {
            member.wait();
        }
    }

    /// The network namespace of the replica with that index, otherwise of the first replica, and the node's name.
    fn netns_of(&self, service: &str, index: u32) -> Option<(String, OwnedFd)> {
        let mut replicas: Vec<&Member> =
            self.members.values().filter(|it| it.wanted.node.service.name == service).collect();
        replicas.sort_by_key(|it| (it.wanted.node.index != index, it.wanted.node.index));
        replicas.into_iter().find_map(|it| {
            let pidfd = it.pidfd()?;
            // The process may have ended already; the handle to its namespace stays valid.
            let netns = it.netns().map(OwnedFd::from).or_else(|| pidfd.try_clone_to_owned().ok())?;
            Some((it.wanted.node.name.clone(), netns))
        })
    }

    fn begin_if_due(&mut self, name: &str, now: Instant) {
        let Some(member) = self.members.get(name).filter(|it| it.waits_to_begin()) else { return };
        let refusal = match gate(&member.wanted.node.service.depends_on, |it| self.stages(it)) {
            Gate::Closed(_) => return,
            Gate::Open => None,
            Gate::Never(why) => Some(why),
        };
        let Some(member) = self.members.get_mut(name) else { return };
        match refusal {
            None => member.begin(),
            Some(why) => {
                log::error!("{name}: {why}");
                member.give_up(why, now);
            }
        }
    }

    /// The stages of all replicas of a service.
    fn stages(&self, service: &str) -> Vec<Stage> {
        let replicas = self.members.values().filter(|it| it.wanted.node.service.name == service);
        replicas.map(Member::stage).collect()
    }

    /// Readable when a node has sent a message.
    pub fn poll(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// Readable when a node has printed something.
    pub fn poll_output(&self) -> BorrowedFd<'_> {
        self.outputs.poll()
    }

    /// Moves a part of the nodes' output to their logs.
    pub fn copy_output(&mut self) {
        self.outputs.copy();
    }

    /// Reads the messages of nodes.
    pub fn hear(&mut self, now: Instant) -> Vec<Changed> {
        let mut changed = Vec::new();
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
                Ok(0) | Err(_) => return changed,
                Ok(count) => count,
            };
            for event in events.iter().take(count) {
                self.hear_one(event.data(), now, &mut changed);
            }
        }
    }

    fn hear_one(&mut self, generation: u64, now: Instant, changed: &mut Vec<Changed>) {
        let name = self.talking.get(&generation).cloned().unwrap_or_default();
        let Some(member) = self.members.get_mut(&name).filter(|it| it.generation == generation) else {
            self.talking.remove(&generation);
            return;
        };
        loop {
            let heard = match member.process().map_or(Ok(Heard::Began), node::Node::hear) {
                Ok(it) => it,
                // Too many open files, for example. The node would wait forever.
                Err(error) => {
                    log::error!("{name}: read a message of the node: {error}");
                    member.failed(format!("read a message of the node: {error}"), now);
                    if let Some(process) = member.process() {
                        let _ = self.epoll.delete(process.talk());
                        process.signal(libc::SIGKILL);
                    }
                    self.talking.remove(&generation);
                    return;
                }
            };
            match heard {
                Heard::Nothing => return,
                Heard::Note(text) => {
                    log::info!("{name}: {text}");
                    member.notes.push(text);
                }
                Heard::Idles => member.idles = true,
                Heard::Failed(text) => {
                    log::error!("{name}: {text}");
                    member.failed(text, now);
                }
                Heard::Ready(netns) => {
                    member.ready(netns);
                    changed.push(Changed(member.id.clone()));
                }
                Heard::Began => {
                    if let Some(process) = member.process() {
                        // An error means that the file is closed, which removes it too.
                        let _ = self.epoll.delete(process.talk());
                    }
                    self.talking.remove(&generation);
                    member.began(now);
                    return;
                }
            }
        }
    }

    /// Reaps child processes that have ended.
    pub fn bury(&mut self, now: Instant) -> Buried {
        let mut buried = Buried::default();
        for (pid, ended) in node::buried() {
            if let Some(name) = self.pids.remove(&pid) {
                if let Some(member) = self.members.get_mut(&name).filter(|it| it.pid() == Some(pid)) {
                    // Its last messages come before its end.
                    let generation = member.generation;
                    let mut changed = Vec::new();
                    self.hear_one(generation, now, &mut changed);
                    self.talking.remove(&generation);
                    self.outputs.close(generation);
                    if let Some(member) = self.members.get_mut(&name) {
                        buried.changed.push(Changed(member.id.clone()));
                        member.ended(ended, now);
                    }
                }
                continue;
            }
            match self.jobs.remove(&pid) {
                Some(Job::Check { node }) => {
                    if let Some(member) = self.members.get_mut(&node) {
                        member.checked(pid, ended, now);
                    }
                }
                Some(Job::Command { id, node, origin }) => {
                    if ended.code() != 0 {
                        log::warn!("{node}: command failed with {ended} ({origin})");
                    }
                    let more =
                        self.jobs.values().any(|it| matches!(it, Job::Command { id: of, .. } if *of == id));
                    if !more {
                        buried.commands.push(id);
                    }
                }
                None => {}
            }
        }
        buried
    }

    /// The next time at which [`Lab::act`] has something to do.
    pub fn wake_at(&self) -> Option<Instant> {
        self.members.values().filter_map(Member::wake_at).min()
    }

    /// The nodes that have a network.
    pub fn containers(&self) -> Vec<Container> {
        self.members.values().filter(|it| it.has_network()).map(|it| it.container(&self.name)).collect()
    }

    /// A node that has a network, with a handle to its network namespace.
    pub fn find(&self, id: &ContainerId) -> Option<(Container, File)> {
        let member = self.members.get(name_of(id)).filter(|it| it.id == *id && it.has_network())?;
        Some((member.container(&self.name), member.netns()?))
    }

    /// Records which nodes' links are up or have failed; `is_tried` returns that for each node.
    pub fn link(&mut self, is_tried: impl Fn(&ContainerId) -> bool) {
        for member in self.members.values_mut() {
            if let Phase::Held { linked: linked @ false, .. } = &mut member.phase {
                *linked = is_tried(&member.id);
            }
        }
    }

    /// Whether every node is running, has exited, or can never start.
    pub fn is_settled(&self) -> bool {
        self.members.values().all(Member::is_settled)
    }

    /// The state of every node, in the order of starting.
    pub fn lives(&self) -> Vec<(Container, Life)> {
        let names = self.order.iter().chain(self.members.keys().filter(|it| !self.order.contains(it)));
        let members = names.filter_map(|it| self.members.get(it));
        let life = |it: &Member| Life { waits_for: self.waits_for(it), ..it.life(&self.folder) };
        members.map(|it| (it.container(&self.name), life(it))).collect()
    }

    /// The dependencies that a node whose program has not started waits for.
    fn waits_for(&self, member: &Member) -> Vec<Dependency> {
        if member.stage() != Stage::Waiting {
            return Vec::new();
        }
        match gate(&member.wanted.node.service.depends_on, |it| self.stages(it)) {
            Gate::Closed(unmet) => unmet.into_iter().cloned().collect(),
            Gate::Open | Gate::Never(_) => Vec::new(),
        }
    }

    /// The state of the node with that container name.
    pub fn life(&self, name: &str) -> Option<Life> {
        self.members.get(name).map(|it| it.life(&self.folder))
    }

    /// A pidfd of a node's first process, and the environment for further programs. None if the node is not running.
    pub fn entry(&self, name: &str) -> Option<(BorrowedFd<'_>, &node::Setup)> {
        let member = self.members.get(name).filter(|it| it.has_network())?;
        Some((member.pidfd()?, &member.wanted.setup))
    }

    /// Every node, in the order of starting.
    pub fn nodes(&self) -> Vec<crate::service::Node> {
        let members = self.order.iter().filter_map(|it| self.members.get(it));
        members.map(|it| it.wanted.node.clone()).collect()
    }

    /// The file with a node's output.
    pub fn log(&self, name: &str) -> PathBuf {
        self.node_folder(name).join("log")
    }

    /// Starts a command in a node, in addition to its program. Its output goes to the node's log; [`Lab::bury`] reports
    /// its end.
    ///
    /// # Errors
    /// The command could not be started.
    pub fn run(&mut self, id: &ContainerId, argv: Vec<String>, origin: String) -> io::Result<()> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the node has ended");
        let member = self.members.get(name_of(id)).filter(|it| it.id == *id).ok_or_else(gone)?;
        let setup = node::Setup { argv, ..member.wanted.setup.clone() };
        let output = self.outputs.writer(member.generation).ok_or_else(gone)?.try_clone_to_owned()?;
        let pidfd = member.pidfd().ok_or_else(gone)?.try_clone_to_owned()?;
        let pid = node::run_inside(&pidfd, &setup, output)?;
        let node = member.wanted.node.name.clone();
        self.jobs.insert(pid, Job::Command { id: id.clone(), node, origin });
        Ok(())
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|it| it.ino())
}

/// An error with the path that it is about, and with what helps if the file system is full.
pub fn at(path: &Path, error: &io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull => {
            "\nhint: free space in this file system; `conlink lab list` lists labs, `conlink lab down <NAME>` removes one"
        }
        _ => "",
    };
    io::Error::new(error.kind(), format!("write {}: {error}{hint}", path.display()))
}

/// The node's name in an ID, which is `NAME@GENERATION`.
fn name_of(id: &ContainerId) -> &str {
    id.as_str().rsplit_once('@').map_or(id.as_str(), |(name, _)| name)
}
