//! The nodes of a lab: programs in namespaces of their own, in place of containers.
//!
//! A node is started, makes its surroundings, and is then a container like any other to the reconciler, which wires it.
//! Once its links are up and what it depends on is there it becomes its program. When that ends the node is gone, with
//! its network, and may be started again.
//!
//! Architecture invariant: nothing here blocks. The loop says when children have ended, when [`Lab::poll`] has something
//! to be heard, and when the time that [`Lab::wake_at`] names has come.

mod gate;
mod health;
mod member;
mod setup;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::container::{Container, ContainerId};
use crate::process::node::{self, Heard, Net};

use gate::{Gate, Stage, gate};
use member::{Member, Phase};

pub use member::Life;
pub use setup::{Surroundings, Wanted, wanted};

/// The file in a lab's folder that says that it has made something in the host's network namespace.
pub const USES_HOST: &str = "uses-host";

/// What is worth another look by whoever wires the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed(pub ContainerId);

/// All nodes of a lab.
#[derive(Debug)]
pub struct Lab {
    /// The project of its containers.
    name: String,
    /// Where each node has a folder.
    folder: PathBuf,
    members: BTreeMap<String, Member>,
    /// Names in the order of starting: what others depend on first.
    order: Vec<String>,
    epoll: Epoll,
    /// Counts starts of nodes.
    generation: u64,
    /// Nodes that are talked to, by generation.
    talking: BTreeMap<u64, String>,
    /// Nodes by the process ids of their first processes.
    pids: BTreeMap<i32, String>,
    /// Programs that run in nodes beside their own, by process id.
    jobs: BTreeMap<i32, Job>,
}

/// A program that runs in a node beside its own.
#[derive(Debug)]
enum Job {
    /// One of the commands of a container, with the place that it is written at.
    Command {
        id: ContainerId,
        node: String,
        origin: String,
    },
    Check {
        node: String,
    },
}

/// What came of children that ended.
#[derive(Debug, Default)]
pub struct Buried {
    pub changed: Vec<Changed>,
    /// Containers whose commands have all ended.
    pub commands: Vec<ContainerId>,
}

impl Lab {
    /// A lab without nodes.
    pub fn new(name: String, folder: PathBuf) -> io::Result<Self> {
        Ok(Self {
            name,
            folder,
            members: BTreeMap::new(),
            order: Vec::new(),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            generation: 0,
            talking: BTreeMap::new(),
            pids: BTreeMap::new(),
            jobs: BTreeMap::new(),
        })
    }

    /// Notes, for whoever cleans up after us, that there may be something of ours in the host's network namespace.
    pub fn set_uses_host(&self) -> io::Result<()> {
        File::create(self.folder.join(USES_HOST)).map(drop)
    }

    pub fn uses_host(&self) -> bool {
        self.folder.join(USES_HOST).exists()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the lab keeps what it needs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes these the nodes that there are: others end, and those that are described otherwise than before end and are
    /// started anew; what has ended is started again. [`Lab::act`] does it.
    pub fn set(&mut self, wanted: Vec<Wanted>, now: Instant) -> io::Result<()> {
        self.order = wanted.iter().map(|it| it.node.name.clone()).collect();
        for member in self.members.values_mut() {
            if !self.order.contains(&member.wanted.node.name) {
                member.doom(now);
            }
        }
        for it in wanted {
            let folder = self.node_folder(&it.node.name);
            fs::create_dir_all(&folder)?;
            // In place: the running node sees it by its mount.
            fs::write(folder.join("hosts"), &it.hosts)?;
            fs::write(folder.join("hostname"), format!("{}\n", it.setup.hostname))?;
            match self.members.get_mut(&it.node.name) {
                Some(member) => member.want(it, now),
                None => drop(self.members.insert(it.node.name.clone(), Member::new(it))),
            }
        }
        Ok(())
    }

    fn node_folder(&self, name: &str) -> PathBuf {
        setup::node_folder(&self.folder, name)
    }

    /// Ends every node. [`Lab::is_empty`] tells when it is done.
    pub fn stop(&mut self, now: Instant) {
        self.order.clear();
        self.members.values_mut().for_each(|it| it.doom(now));
        self.sweep();
    }

    /// How long the end of those that are to end may take.
    pub fn time_to_end(&self, now: Instant) -> Duration {
        self.members.values().map(|it| it.time_to_end(now)).max().unwrap_or_default()
    }

    /// No node is left.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Does what is due: starts nodes, lets them begin whose links and dependencies are there, ends those that had time
    /// to end by themselves.
    pub fn act(&mut self, now: Instant) {
        self.sweep();
        let order = std::mem::take(&mut self.order);
        order.iter().for_each(|it| self.start_if_due(it, now));
        // Who begins finds every other node's links there.
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

    /// Removes nodes that have ended for good.
    fn sweep(&mut self) {
        // Each that is wanted is there.
        if self.members.len() == self.order.len() {
            return;
        }
        let (folder, order) = (self.folder.clone(), &self.order);
        self.members.retain(|name, member| {
            let keep = order.contains(name) || !member.has_ended();
            if !keep && let Err(error) = fs::remove_dir_all(setup::node_folder(&folder, name)) {
                log::debug!("remove the folder of {name}: {error}");
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
        let started = node::Node::start(&member.wanted.setup, net);
        self.generation += 1;
        let generation = self.generation;
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
                // The network that they share is that of its last life, which leads nowhere any more.
                let sharing = self.members.values_mut().filter(|it| it.shares.as_deref() == Some(name));
                sharing.for_each(|it| it.again(now));
            }
            Err(error) => {
                log::error!("{name}: start the node: {error}");
                member.failed(format!("start the node: {error}"), now);
            }
        }
    }

    /// A node that shares the network of another waits until that is there, or ends if it never will be.
    fn wait_for_network(&mut self, name: &str) {
        let Some(member) = self.members.get(name) else { return };
        let owner = member.wanted.node.service.shares_network_of.clone().unwrap_or_default();
        let mut owners = self.members.values().filter(|it| it.wanted.node.service.name == owner);
        let never = owners.all(|it| matches!(it.stage(), Stage::Ended(_) | Stage::Failed));
        let Some(member) = self.members.get_mut(name) else { return };
        if never {
            let why = format!("it shares the network of `{owner}`, which does not run");
            log::error!("{name}: {why}");
            member.cannot_start(why);
        } else {
            member.wait();
        }
    }

    /// The network namespace of the replica of that number, else of the first, and which node that is.
    fn netns_of(&self, service: &str, index: u32) -> Option<(String, OwnedFd)> {
        let mut replicas: Vec<&Member> =
            self.members.values().filter(|it| it.wanted.node.service.name == service).collect();
        replicas.sort_by_key(|it| (it.wanted.node.index != index, it.wanted.node.index));
        replicas.into_iter().find_map(|it| {
            let pidfd = it.pidfd()?;
            // A process that has ended leads nowhere, even before its end was heard of; its namespace does.
            let netns = it.netns().map(OwnedFd::from).or_else(|| pidfd.try_clone_to_owned().ok())?;
            Some((it.wanted.node.name.clone(), netns))
        })
    }

    fn begin_if_due(&mut self, name: &str, now: Instant) {
        let Some(member) = self.members.get(name).filter(|it| it.waits_to_begin()) else { return };
        let stages = |service: &str| {
            let replicas = self.members.values().filter(|it| it.wanted.node.service.name == service);
            replicas.map(Member::stage).collect::<Vec<Stage>>()
        };
        match gate(&member.wanted.node.service.depends_on, stages) {
            Gate::Closed => {}
            Gate::Open => {
                if let Some(member) = self.members.get_mut(name) {
                    member.begin();
                }
            }
            Gate::Never(why) => {
                log::error!("{name}: {why}");
                if let Some(member) = self.members.get_mut(name) {
                    member.give_up(why, now);
                }
            }
        }
    }

    /// Readable when a node has something to say.
    pub fn poll(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// Takes in what nodes say.
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
                // Too many open files, say: what it will be waiting for cannot be told to it.
                Err(error) => {
                    log::error!("{name}: hear from the node: {error}");
                    member.failed(format!("hear from the node: {error}"), now);
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
                        // A closed file leaves by itself.
                        let _ = self.epoll.delete(process.talk());
                    }
                    self.talking.remove(&generation);
                    member.began(now);
                    return;
                }
            }
        }
    }

    /// Takes in which children have ended.
    pub fn bury(&mut self, now: Instant) -> Buried {
        let mut buried = Buried::default();
        for (pid, ended) in node::buried() {
            if let Some(name) = self.pids.remove(&pid) {
                if let Some(member) = self.members.get_mut(&name).filter(|it| it.pid() == Some(pid)) {
                    // What it said last comes before its end.
                    let generation = member.generation;
                    let mut changed = Vec::new();
                    self.hear_one(generation, now, &mut changed);
                    self.talking.remove(&generation);
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
                        log::warn!("{node}: command ended with {ended} ({origin})");
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

    /// When something is due that nothing else tells of.
    pub fn wake_at(&self) -> Option<Instant> {
        self.members.values().filter_map(Member::wake_at).min()
    }

    /// The nodes that have a network.
    pub fn containers(&self) -> Vec<Container> {
        self.members.values().filter(|it| it.has_network()).map(|it| it.container(&self.name)).collect()
    }

    /// A node that has a network, with a handle to that.
    pub fn find(&self, id: &ContainerId) -> Option<(Container, File)> {
        let member = self.members.get(name_of(id)).filter(|it| it.id == *id && it.has_network())?;
        Some((member.container(&self.name), member.netns()?))
    }

    /// The links of these nodes are up, or have failed: they may begin. Answers for each whether that is so.
    pub fn link(&mut self, is_tried: impl Fn(&ContainerId) -> bool) {
        for member in self.members.values_mut() {
            if let Phase::Held { linked: linked @ false, .. } = &mut member.phase {
                *linked = is_tried(&member.id);
            }
        }
    }

    /// Nothing more will come by itself: every node runs, has ended, or can never begin.
    pub fn is_settled(&self) -> bool {
        self.members.values().all(Member::is_settled)
    }

    /// How every node fares, in the order of starting.
    pub fn lives(&self) -> Vec<(Container, Life)> {
        let names = self.order.iter().chain(self.members.keys().filter(|it| !self.order.contains(it)));
        let members = names.filter_map(|it| self.members.get(it));
        members.map(|it| (it.container(&self.name), it.life(&self.folder))).collect()
    }

    /// The node of that container name.
    pub fn life(&self, name: &str) -> Option<Life> {
        self.members.get(name).map(|it| it.life(&self.folder))
    }

    /// The first process of a node, and what a program beside its own is to have. None where it does not run.
    pub fn entry(&self, name: &str) -> Option<(BorrowedFd<'_>, &node::Setup)> {
        let member = self.members.get(name).filter(|it| it.has_network())?;
        Some((member.pidfd()?, &member.wanted.setup))
    }

    /// Every node, in the order of starting.
    pub fn nodes(&self) -> Vec<crate::service::Node> {
        let members = self.order.iter().filter_map(|it| self.members.get(it));
        members.map(|it| it.wanted.node.clone()).collect()
    }

    /// The file that has what a node prints.
    pub fn log(&self, name: &str) -> PathBuf {
        self.node_folder(name).join("log")
    }

    /// Starts a command in a node, beside its program; what it prints goes to the node's log. [`Lab::bury`] tells of its
    /// end. An error is one that nothing was started for.
    pub fn run(&mut self, id: &ContainerId, argv: Vec<String>, origin: String) -> io::Result<()> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the node has ended");
        let member = self.members.get(name_of(id)).filter(|it| it.id == *id).ok_or_else(gone)?;
        let setup = node::Setup { argv, ..member.wanted.setup.clone() };
        let log = OpenOptions::new().create(true).append(true).open(&setup.log)?;
        let pidfd = member.pidfd().ok_or_else(gone)?.try_clone_to_owned()?;
        let pid = node::run_inside(&pidfd, &setup, log.into())?;
        let node = member.wanted.node.name.clone();
        self.jobs.insert(pid, Job::Command { id: id.clone(), node, origin });
        Ok(())
    }
}

/// The name within an id, which is that and the number of the start.
fn name_of(id: &ContainerId) -> &str {
    id.as_str().rsplit_once('@').map_or(id.as_str(), |(name, _)| name)
}
