//! The reconciler and the kernel together, without a container engine: namespaces stand for containers.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::time::{Duration, Instant};

use conlink::container::{Container, ContainerId};
use conlink::kernel::{Kernel, netns};
use conlink::reconcile::{Effect, EngineId, Event, Found, Own, Reconciler};
use conlink::wire;

use crate::netns::network;
use crate::support::{inside, ip, may_unshare};

/// A project `t` whose containers all run.
pub(super) struct Engine {
    pub(super) kernel: Kernel,
    pub(super) bridges: File,
    /// By container name: `SERVICE-INDEX`.
    containers: BTreeMap<String, File>,
    pub(super) own: Own,
}

/// What a start of the engine came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Start {
    /// Was anything done?
    pub(super) changed: bool,
    /// What was said of things that are not as described.
    pub(super) errors: Vec<String>,
    /// Did it say that all links are connected?
    pub(super) announced: bool,
}

impl Engine {
    /// None, and said so, where this process may not make namespaces.
    pub(super) fn new(test: &str, containers: &[&str]) -> Option<Self> {
        may_unshare(test).then(|| Self::within(netns::anonymous().unwrap(), containers))
    }

    /// With bridges in a namespace that is there already.
    pub(super) fn within(bridges: File, containers: &[&str]) -> Self {
        ip(&bridges, "link set lo up");
        let mut kernel = Kernel::new(bridges.try_clone().unwrap()).unwrap();
        let mut opened = BTreeMap::new();
        for name in containers {
            let netns = netns::anonymous().unwrap();
            ip(&netns, "link set lo up");
            kernel.attach_netns(&ContainerId::new(*name), netns.try_clone().unwrap()).unwrap();
            opened.insert((*name).to_owned(), netns);
        }
        let own = Own { project: Some("t".to_owned()), ..Own::default() };
        Self { kernel, bridges, containers: opened, own }
    }

    /// Has a container in the namespace of bridges, as the engine's own service is.
    pub(super) fn add_own(&mut self, name: &str) {
        let netns = self.bridges.try_clone().unwrap();
        self.kernel.attach_netns(&ContainerId::new(name), netns.try_clone().unwrap()).unwrap();
        self.containers.insert(name.to_owned(), netns);
    }

    pub(super) fn netns(&self, name: &str) -> &File {
        &self.containers[name]
    }

    /// Starts an engine with this configuration, which wires what runs, and is killed then.
    pub(super) fn start(&mut self, yaml: &str) -> Start {
        let mut reconciler = Reconciler::new(network(yaml), self.own.clone(), &[EngineId::Docker], true);
        let containers = self.containers.keys().map(|it| container(it)).collect();
        let mut events = VecDeque::from([Event::Listed { engine: EngineId::Docker, containers }]);
        let mut start = Start::default();
        while let Some(event) = events.pop_front() {
            for effect in reconciler.handle(event, Instant::now()) {
                match effect {
                    Effect::Inspect { engine, id, ticket } => {
                        let name = id.as_str();
                        let netns = netns::inode(&self.containers[name]).unwrap();
                        let found = Some(Found { container: container(name), netns });
                        events.push_back(Event::Inspected { engine, id, ticket, found });
                    }
                    Effect::Converge(job) => {
                        let mut outcome = wire::converge(&mut self.kernel, &job.desired);
                        outcome.failures.splice(0..0, job.refused.iter().cloned());
                        start.changed |= outcome.changed;
                        events.push_back(Event::Done { job: job.number, outcome });
                    }
                    Effect::Exec { id, .. } => events.push_back(Event::CommandsDone { id }),
                    Effect::Notify(it) if it.level() <= log::Level::Warn => {
                        start.errors.push(it.to_string());
                        start.errors.extend(it.help().map(|it| format!("hint: {it}")));
                    }
                    Effect::Announce => start.announced = true,
                    Effect::Release(_) | Effect::WakeAt(_) | Effect::Notify(_) | Effect::Exit(_) => {}
                }
            }
        }
        start
    }

    /// Starts an engine that must find or make everything as described, and then one that must find nothing to do.
    #[track_caller]
    pub(super) fn wire(&mut self, yaml: &str) {
        let end = Instant::now() + Duration::from_secs(30);
        let mut start = self.start(yaml);
        // On a busy machine a switch may be silent for a moment: an engine that goes on asks it again.
        while start.errors.iter().any(|it| it.contains("does not answer")) && Instant::now() < end {
            start = self.start(yaml);
        }
        assert_eq!(start.errors, [] as [&str; 0], "{yaml}");
        let described = network(yaml);
        assert_eq!(start.announced, !described.links.is_empty() || !described.tunnels.is_empty(), "{yaml}");
        let again = self.start(yaml);
        assert_eq!(again.errors, [] as [&str; 0], "a second start of {yaml}");
        assert!(!again.changed, "a second start finds something to do: {yaml}");
    }

    /// What shapes traffic, with counters.
    pub(super) fn shaped(&self) -> String {
        let inside = |netns| inside(netns, "tc", &["-s", "qdisc", "show"]) + &ip(netns, "-s link");
        self.containers.values().map(inside).chain([inside(&self.bridges)]).collect()
    }

    /// All that could be left behind, of every namespace.
    pub(super) fn snapshot(&self) -> String {
        let mut all = String::new();
        for (name, netns) in
            self.containers.iter().map(|(name, it)| (name.as_str(), it)).chain([("bridges", &self.bridges)])
        {
            for args in ["-d link", "addr", "route show table all", "-6 route show table all"] {
                all += &format!("{name}: ip {args}\n{}", ip(netns, args));
            }
            all += &format!("{name}: tc qdisc\n{}", inside(netns, "tc", &["qdisc", "show"]));
            all += &format!("{name}: nft\n{}", inside(netns, "nft", &["list", "ruleset"]));
        }
        // Addresses that interfaces give themselves come and settle in their own time.
        all.lines().filter(|it| !it.contains("fe80::")).map(|it| format!("{it}\n")).collect()
    }
}

impl Drop for Engine {
    /// A failed test leaves no daemons.
    fn drop(&mut self) {
        let stopped = self.kernel.stop_ovs();
        assert!(std::thread::panicking() || stopped.is_ok(), "{stopped:?}");
    }
}

fn container(name: &str) -> Container {
    let (service, index) = name.rsplit_once('-').unwrap_or((name, "1"));
    Container {
        id: ContainerId::new(name),
        name: name.to_owned(),
        project: Some("t".to_owned()),
        working_dir: None,
        service: Some(service.to_owned()),
        index: index.parse().unwrap(),
    }
}

/// Compares what two snapshots show, line by line.
#[track_caller]
pub(super) fn assert_same(now: &str, before: &str) {
    let only = |a: &str, b: &str| {
        let known: std::collections::BTreeSet<&str> = b.lines().collect();
        a.lines().filter(|it| !known.contains(it)).map(str::to_owned).collect::<Vec<_>>()
    };
    let (more, less) = (only(now, before), only(before, now));
    assert!(more.is_empty() && less.is_empty(), "left: {more:#?}\nmissing: {less:#?}");
}
