//! The reconciler's state.

mod job;
mod news;
mod overrides;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::addr::IfName;
use crate::container::{Container, ContainerId};
use crate::network::{Attach, BridgeMode, Instance, Link, LinkId, LinkKind, Network, Overrides, Place};
use crate::plan::{Drift, Subject};
use crate::reconcile::state::job::{outers, patches};
use crate::reconcile::{
    About, Effect, EngineId, Event, Failure, Found, Gone, Job, Notice, Outcome, Own, Standing, Unreachable,
    back_off,
};

/// Time after a container's death until its leftovers are removed. Until then its interfaces may vanish by themselves,
/// or it may restart.
const GRACE: Duration = Duration::from_millis(300);

/// Tracks the running containers and their state, and decides what to do next.
#[derive(Debug)]
pub struct Reconciler {
    network: Network,
    own: Own,
    /// Converge once and exit, without retries.
    once: bool,
    /// Each engine, and whether it has listed its running containers.
    engines: BTreeMap<EngineId, bool>,
    containers: BTreeMap<ContainerId, Tracked>,
    gone: Gone,
    /// Bridges, tunnels and leftovers.
    base: Standing,
    /// All leftovers of an earlier engine have been removed.
    swept: bool,
    /// Subjects that matched the configuration. Later changes by other programs are drift and are not repaired.
    settled: BTreeSet<Subject>,
    /// Changes by other programs to `settled`.
    drift: Drift,
    /// Settings of users that override the configuration.
    overrides: Overrides,
    /// Something has changed since [`Effect::Announce`].
    unannounced: bool,
    running_commands: BTreeSet<ContainerId>,
    /// Running jobs.
    jobs: BTreeMap<u64, About>,
    last_job: u64,
    /// Number of the last job for the bridges of an earlier configuration.
    base_before: u64,
    /// Running inspections. If a container has several, only the answer to the last one counts.
    inspections: BTreeMap<ContainerId, (EngineId, u64)>,
    ticket: u64,
    stopping: bool,
}

/// A running container that the configuration mentions.
#[derive(Debug)]
struct Tracked {
    engine: EngineId,
    container: Container,
    instance: Instance,
    /// The inode of its network namespace; None until it has been inspected.
    netns: Option<u64>,
    standing: Standing,
    commands_ran: bool,
    /// Number of the last job for an earlier namespace or earlier links of it.
    before: u64,
}

/// What a container that no longer runs may have left.
#[derive(Clone, Debug)]
pub(super) struct Leftovers {
    /// When it is removed; None after the last try.
    due: Option<Instant>,
    /// Why it could not be removed.
    failures: Vec<Failure>,
    tries: u32,
    /// The removal is running.
    in_progress: bool,
    outers: BTreeSet<(Place, IfName)>,
    patches: BTreeSet<String>,
    netns: Option<u64>,
    /// It had forwarded ports.
    forwarded: bool,
    /// It had ports on Open vSwitch bridges.
    ovs: bool,
}

impl Reconciler {
    pub fn new(network: Network, own: Own, engines: &[EngineId], once: bool) -> Self {
        Self {
            network,
            own,
            once,
            engines: engines.iter().map(|it| (*it, false)).collect(),
            containers: BTreeMap::new(),
            gone: BTreeMap::new(),
            base: Standing::default(),
            swept: false,
            settled: BTreeSet::new(),
            drift: Drift::new(),
            overrides: Overrides::default(),
            unannounced: true,
            running_commands: BTreeSet::new(),
            jobs: BTreeMap::new(),
            last_job: 0,
            base_before: 0,
            inspections: BTreeMap::new(),
            ticket: 0,
            stopping: false,
        }
    }

    /// Replaces the configuration. Links that are equal in both keep their state, unless others have changed them, and
    /// commands that have already run in a container are not run again.
    pub fn replace(&mut self, network: Network, now: Instant) -> Vec<Effect> {
        self.network = network;
        self.unannounced = true;
        let drifted: BTreeSet<LinkId> = self
            .drift
            .keys()
            .filter_map(|it| match it {
                Subject::Link(id) => Some(id.clone()),
                _ => None,
            })
            .collect();
        self.doubt(&drifted);
        let mut namespaces = self.namespaces_of(&drifted);
        for it in self.containers.values_mut() {
            let instance = self.network.instantiate(&it.container);
            if instance == it.instance {
                // The same commands may be at other lines of the files.
                it.instance = instance;
                continue;
            }
            let stays = |link: &Link| instance.links.contains(link);
            for link in it.instance.links.iter().filter(|it| !stays(it)) {
                let subject = Subject::Link(link.id.clone());
                self.settled.remove(&subject);
                self.drift.remove(&subject);
            }
            it.commands_ran &= instance.commands == it.instance.commands;
            it.instance = instance;
            it.standing = Standing::default();
            it.before = self.last_job;
            namespaces.extend(it.netns);
        }
        let outside =
            |it: &Subject| matches!(it, Subject::Bridge(_) | Subject::Tunnel(_) | Subject::Patch(_));
        self.settled.retain(|it| !outside(it));
        self.drift.retain(|it, _| !outside(it));
        self.base = Standing::default();
        self.base_before = self.last_job;
        self.swept = false;
        let mut effects = Vec::new();
        if self.engines.values().all(|it| *it) {
            self.sweep(&mut effects);
        }
        for netns in namespaces {
            self.wire(netns, &mut effects);
        }
        self.settle(now, &mut effects);
        effects
    }

    /// The environment given to [`Reconciler::new`].
    pub fn own(&self) -> &Own {
        &self.own
    }

    /// Handles an event. The effects must be performed in order.
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.stopping {
            if let Event::Done { job, outcome } = event
                && self.jobs.remove(&job) == Some(About::Teardown)
            {
                let notice = |it: &Failure| Effect::Notify(Notice::NotRemoved(it.clone()));
                effects.extend(outcome.failures.iter().map(notice));
                effects.push(Effect::Exit(u8::from(!outcome.failures.is_empty())));
            }
            return effects;
        }
        match event {
            Event::Listed { engine, containers } => self.listed(engine, containers, now, &mut effects),
            Event::Hint { engine, id } => self.inspect(engine, id, &mut effects),
            Event::Inspected { engine, id, ticket, found } => {
                self.inspected(engine, id, ticket, found, now, &mut effects);
            }
            Event::Unreachable(it) => self.unreachable(it, now, &mut effects),
            Event::Done { job, outcome } => self.done(job, outcome, now, &mut effects),
            Event::CommandsDone { id } => {
                self.running_commands.remove(&id);
            }
            Event::Changed(news) => self.changed(&news, now, &mut effects),
            Event::SwitchEnded => {
                let ovs = self.network.bridges.values().filter(|it| it.mode == BridgeMode::Ovs);
                let links = self.containers.values().flat_map(|it| &it.instance.links);
                let attached = links.filter_map(|it| match &it.kind {
                    LinkKind::Veth { attach: Attach::Ovs(name), .. } => Some(name.to_string()),
                    _ => None,
                });
                let names = ovs.map(|it| it.name.clone()).chain(attached).collect();
                self.vanished(&names, now, &mut effects);
            }
            Event::Lost { engine } => {
                self.engines.insert(engine, false);
                // Containers of the other engines need the bridges even if this engine does not come back.
                if !self.base.tried && !self.base_job_is_running() && self.engines.values().any(|it| *it) {
                    self.make_bridges(&mut effects);
                }
            }
            Event::Wake => self.wake(now, &mut effects),
            Event::Stop => {
                self.stopping = true;
                let job = self.teardown();
                self.start(job, &mut effects);
                return effects;
            }
        }
        self.settle(now, &mut effects);
        effects
    }

    fn listed(
        &mut self,
        engine: EngineId,
        containers: Vec<Container>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let listed: BTreeSet<&ContainerId> = containers.iter().map(|it| &it.id).collect();
        let lost: Vec<ContainerId> = self
            .containers
            .iter()
            .filter(|(id, it)| it.engine == engine && !listed.contains(id))
            .map(|(id, _)| id.clone())
            .collect();
        for id in lost {
            self.forget(&id, now, effects);
        }
        // Answers may have been lost with the connection; the inspections are repeated below.
        self.inspections.retain(|_, (it, _)| *it != engine);
        // A killed engine may have left something in containers that the configuration no longer mentions. So the first
        // time all containers of the project are inspected.
        let first = !self.swept;
        for container in containers {
            let id = container.id.clone();
            let ours = first && self.own.project.is_some() && container.project == self.own.project;
            if self.track(engine, container, ours) {
                self.inspect(engine, id, effects);
            }
        }
        self.engines.insert(engine, true);
        // Before the containers: their links need the bridges and may need the names of leftovers.
        let mut before = Vec::new();
        if !self.swept && self.engines.values().all(|it| *it) {
            self.sweep(&mut before);
        } else if !self.base.tried && !self.base_job_is_running() {
            // The containers of another engine are still unknown, and so are leftovers.
            self.make_bridges(&mut before);
        }
        effects.splice(0..0, before);
    }

    /// Starts a job. Its result is [`Event::Done`].
    fn start(&mut self, mut job: Job, effects: &mut Vec<Effect>) {
        self.last_job += 1;
        job.number = self.last_job;
        job.desired.settled = self.settled_for(&job);
        self.jobs.insert(job.number, job.about.clone());
        effects.push(Effect::Converge(Box::new(job)));
    }

    /// The subjects of a job whose drift is left alone: all that matched the configuration, except those with `repair`.
    fn settled_for(&self, job: &Job) -> BTreeSet<Subject> {
        if self.own.repair {
            return BTreeSet::new();
        }
        let repaired: BTreeSet<Subject> = job
            .desired
            .links
            .iter()
            .filter(|(_, link)| link.repair)
            .map(|(_, link)| Subject::Link(link.id.clone()))
            .collect();
        self.settled.difference(&repaired).cloned().collect()
    }

    /// The whole network as jobs that are not started: for a comparison with the kernel.
    pub fn all_jobs(&self) -> Vec<Job> {
        let namespaces: BTreeSet<u64> = self.containers.values().filter_map(|it| it.netns).collect();
        let mut jobs = vec![if self.swept { self.sweep_job() } else { self.bridges_job() }];
        jobs.extend(namespaces.into_iter().map(|it| self.containers_job(it)));
        for job in &mut jobs {
            job.desired.settled = self.settled_for(job);
        }
        jobs
    }

    /// The configured addresses of a container, in the order of its links.
    pub fn addresses(&self, container: &str) -> Vec<IpAddr> {
        let found = self.containers.values().filter(|it| it.container.name == container);
        found.flat_map(|it| &it.instance.links).flat_map(|it| &it.addrs).map(|it| it.addr()).collect()
    }

    fn sweep(&mut self, effects: &mut Vec<Effect>) {
        self.base.retry_at = None;
        self.swept = false;
        let job = self.sweep_job();
        self.start(job, effects);
    }

    fn make_bridges(&mut self, effects: &mut Vec<Effect>) {
        self.base.retry_at = None;
        let job = self.bridges_job();
        self.start(job, effects);
    }

    /// Starts the job for the containers of one namespace.
    fn wire(&mut self, netns: u64, effects: &mut Vec<Effect>) {
        for it in self.containers.values_mut().filter(|it| it.netns == Some(netns)) {
            it.standing.retry_at = None;
        }
        let job = self.containers_job(netns);
        self.start(job, effects);
    }

    fn base_job_is_running(&self) -> bool {
        self.jobs.values().any(|it| matches!(it, About::Base | About::Sweep))
    }

    /// Starts to track a container if the configuration mentions it, or if `always`.
    fn track(&mut self, engine: EngineId, container: Container, always: bool) -> bool {
        if self.containers.contains_key(&container.id) {
            return true;
        }
        if self.foreign(&container) {
            return false;
        }
        let instance = self.network.instantiate(&container);
        if instance.is_empty() && !always {
            return false;
        }
        self.containers.insert(
            container.id.clone(),
            Tracked {
                engine,
                container,
                instance,
                netns: None,
                standing: Standing::default(),
                commands_ran: false,
                before: self.last_job,
            },
        );
        true
    }

    /// Does the configuration mention the container, or may there be leftovers in it?
    pub fn wants(&self, container: &Container) -> bool {
        self.containers.contains_key(&container.id)
            || !self.foreign(container) && !self.network.instantiate(container).is_empty()
    }

    /// The name of a container; its short id if the container is not known.
    pub fn container_name<'a>(&'a self, id: &'a ContainerId) -> &'a str {
        self.containers.get(id).map_or(id.short(), |it| &it.container.name)
    }

    /// Is this the container's last inspection?
    pub fn is_asked(&self, id: &ContainerId, ticket: u64) -> bool {
        self.inspections.get(id).is_some_and(|(_, last)| *last == ticket)
    }

    /// Does the container belong to another compose project? A container that the configuration names in full does not.
    fn foreign(&self, container: &Container) -> bool {
        if self.network.names_container(&container.name) {
            return false;
        }
        let other = |own: &Option<String>, its: &Option<String>| own.is_some() && own != its;
        let elsewhere = match (&self.own.working_dir, &container.working_dir) {
            (Some(own), Some(its)) => own != its,
            _ => false,
        };
        other(&self.own.project, &container.project) || elsewhere
    }

    /// The project name in marks.
    fn project(&self) -> &str {
        self.own.marked_as.as_ref().or(self.own.project.as_ref()).map_or("", String::as_str)
    }

    /// Starts an inspection. The answers to earlier ones no longer count.
    fn inspect(&mut self, engine: EngineId, id: ContainerId, effects: &mut Vec<Effect>) {
        self.ticket += 1;
        self.inspections.insert(id.clone(), (engine, self.ticket));
        effects.push(Effect::Inspect { engine, id, ticket: self.ticket });
    }

    fn inspected(
        &mut self,
        engine: EngineId,
        id: ContainerId,
        ticket: u64,
        found: Option<Found>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        if !self.is_answer(&id, ticket) {
            return;
        }
        let Some(found) = found else {
            self.forget(&id, now, effects);
            return;
        };
        if !self.track(engine, found.container, false) {
            effects.push(Effect::Release(id));
            return;
        }
        let Some(it) = self.containers.get_mut(&id) else { return };
        let is_same = it.netns == Some(found.netns);
        if !is_same {
            it.standing = Standing::default();
            it.before = self.last_job;
            it.commands_ran = false;
            it.netns = Some(found.netns);
            let links = it.instance.links.iter().map(|it| Subject::Link(it.id.clone()));
            for subject in links {
                self.settled.remove(&subject);
                self.drift.remove(&subject);
            }
        }
        self.gone.remove(&it.container.name);
        // After a failure the next try is at its own time.
        if !is_same || it.standing.retry_at.is_none() {
            self.wire(found.netns, effects);
        }
    }

    /// Has the container been wired, or at least tried?
    pub fn is_tried(&self, id: &ContainerId) -> bool {
        let tried = self.containers.get(id).is_none_or(|it| it.standing.tried);
        self.base.tried && !self.inspections.contains_key(id) && tried
    }

    /// Is this the answer to the container's last inspection? If so, the inspection has ended.
    fn is_answer(&mut self, id: &ContainerId, ticket: u64) -> bool {
        let is_last = self.inspections.get(id).is_some_and(|(_, last)| *last == ticket);
        if is_last {
            self.inspections.remove(id);
        }
        is_last
    }

    /// Records a running container that cannot be reached as failed.
    fn unreachable(&mut self, it: Unreachable, now: Instant, effects: &mut Vec<Effect>) {
        let Unreachable { engine, id, container, ticket, message, help } = it;
        if !self.is_answer(&id, ticket) {
            return;
        }
        if let Some(container) = container {
            self.track(engine, container, false);
        }
        let Some(it) = self.containers.get_mut(&id) else { return };
        it.netns = None;
        let subject = Subject::Container(it.container.name.clone());
        let failure =
            Failure { subject, message, help, origin: None, is_final: false, is_unsupported: false };
        it.standing.update(&[failure], now, self.once, &[], effects);
    }

    fn forget(&mut self, id: &ContainerId, now: Instant, effects: &mut Vec<Effect>) {
        effects.push(Effect::Release(id.clone()));
        let Some(it) = self.containers.remove(id) else { return };
        if !it.instance.is_empty() {
            effects.push(Effect::Notify(Notice::Gone { container: it.container.name.clone() }));
        }
        for link in &it.instance.links {
            let subject = Subject::Link(link.id.clone());
            self.settled.remove(&subject);
            self.drift.remove(&subject);
        }
        let left = Leftovers {
            due: Some(now + GRACE),
            failures: Vec::new(),
            tries: 0,
            in_progress: false,
            outers: outers(&it.instance.links),
            patches: patches(&it.instance.links),
            netns: it.netns,
            forwarded: it.instance.links.iter().any(|it| !it.forwards.is_empty()),
            ovs: it
                .instance
                .links
                .iter()
                .any(|it| matches!(&it.kind, LinkKind::Veth { attach: Attach::Ovs(_), .. })),
        };
        self.gone.insert(it.container.name, left);
    }

    fn done(&mut self, number: u64, mut outcome: Outcome, now: Instant, effects: &mut Vec<Effect>) {
        let Some(about) = self.jobs.remove(&number) else { return };
        self.unannounced |= outcome.changed;
        outcome.failures =
            std::mem::take(&mut outcome.failures).into_iter().map(|it| self.with_origin(it)).collect();
        let outcome = &outcome;
        match &about {
            About::Base | About::Sweep if number <= self.base_before => {}
            About::Base | About::Sweep => {
                self.swept |= about == About::Sweep && outcome.failures.is_empty();
                self.base.update(&outcome.failures, now, self.once, &[], effects);
                let here =
                    |it: &Subject| matches!(it, Subject::Bridge(_) | Subject::Tunnel(_) | Subject::Patch(_));
                self.note(outcome, here, effects);
            }
            About::Containers(ids) => {
                let is_now =
                    |id: &&ContainerId| self.containers.get(*id).is_some_and(|it| it.before < number);
                let ids: Vec<ContainerId> = ids.iter().filter(is_now).cloned().collect();
                let links: BTreeSet<Subject> = ids
                    .iter()
                    .filter_map(|it| self.containers.get(it))
                    .flat_map(|it| &it.instance.links)
                    .map(|it| Subject::Link(it.id.clone()))
                    .collect();
                for id in &ids {
                    self.container_done(id, outcome, now, effects);
                }
                self.note(outcome, |it| links.contains(it), effects);
            }
            About::Gone(name) => {
                let Some(left) = self.gone.get_mut(name) else { return };
                if outcome.failures.is_empty() {
                    self.gone.remove(name);
                    return;
                }
                for it in outcome.failures.iter().filter(|it| !left.failures.contains(it)) {
                    effects.push(Effect::Notify(Notice::NotRemoved(it.clone())));
                }
                left.failures.clone_from(&outcome.failures);
                left.in_progress = false;
                left.due = (!self.once).then(|| now + back_off(left.tries));
                left.tries += 1;
            }
            About::Teardown => {}
        }
    }

    /// Adds the place of the configuration entry to a failure that has no place yet.
    fn with_origin(&self, mut failure: Failure) -> Failure {
        let origin = || match &failure.subject {
            Subject::Link(id) => {
                let links = self.containers.values().flat_map(|it| &it.instance.links);
                links.into_iter().find(|it| it.id == *id).map(|it| it.origin.clone())
            }
            Subject::Bridge(name) | Subject::Patch(name) => self.network.bridges.get(name)?.origin.clone(),
            Subject::Tunnel(name) => {
                self.network.tunnels.iter().find(|it| it.name == *name).map(|it| it.origin.clone())
            }
            Subject::Parent(_)
            | Subject::Leftover(_)
            | Subject::Leftovers
            | Subject::Container(_)
            | Subject::Everything => None,
        };
        if failure.origin.is_none() {
            failure.origin = origin();
        }
        failure
    }

    /// Stores the result of a check of the subjects that `is_meant` selects: drift is reported, the others are settled.
    fn note(&mut self, outcome: &Outcome, is_meant: impl Fn(&Subject) -> bool, effects: &mut Vec<Effect>) {
        let over: Vec<Subject> =
            self.drift.keys().filter(|it| is_meant(it) && !outcome.drift.contains_key(it)).cloned().collect();
        for subject in over {
            self.drift.remove(&subject);
            effects.push(Effect::Notify(Notice::DriftOver { subject }));
        }
        // The check may have begun before its subject was removed.
        for (subject, what) in outcome.drift.iter().filter(|(it, _)| is_meant(it)) {
            if self.drift.get(subject) != Some(what) {
                self.drift.insert(subject.clone(), what.clone());
                effects.push(Effect::Notify(Notice::Drift { subject: subject.clone(), what: what.clone() }));
            }
        }
        let bridges = self.network.bridges.values().map(|it| Subject::Bridge(it.name.clone()));
        let tunnels = self.network.tunnels.iter().map(|it| Subject::Tunnel(it.name.clone()));
        let links = self.containers.values().flat_map(|it| &it.instance.links);
        let links = links.map(|it| Subject::Link(it.id.clone()));
        let known: Vec<Subject> = bridges.chain(tunnels).chain(links).filter(|it| is_meant(it)).collect();
        let failed: BTreeSet<&Subject> = outcome.failures.iter().map(|it| &it.subject).collect();
        for subject in known {
            match failed.contains(&subject) {
                true => drop(self.settled.remove(&subject)),
                false => drop(self.settled.insert(subject)),
            }
        }
    }

    fn container_done(
        &mut self,
        id: &ContainerId,
        outcome: &Outcome,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Some(it) = self.containers.get_mut(id) else { return };
        let name = &it.container.name;
        let mine = |failure: &&Failure| match &failure.subject {
            Subject::Link(link) => link.container == *name,
            Subject::Bridge(_)
            | Subject::Tunnel(_)
            | Subject::Parent(_)
            | Subject::Patch(_)
            | Subject::Leftover(_)
            | Subject::Leftovers
            | Subject::Container(_)
            | Subject::Everything => true,
        };
        let failures: Vec<Failure> = outcome.failures.iter().filter(mine).cloned().collect();
        let was = it.standing.connected;
        it.standing.update(&failures, now, self.once, &self.base.failures, effects);
        if !it.standing.connected {
            return;
        }
        if !was && !it.instance.is_empty() {
            self.unannounced = true;
            let links = it.instance.links.len();
            effects.push(Effect::Notify(Notice::Up { container: name.clone(), links }));
        }
        if !it.commands_ran && !it.instance.commands.is_empty() {
            self.running_commands.insert(id.clone());
            effects.push(Effect::Exec {
                engine: it.engine,
                id: id.clone(),
                name: name.clone(),
                commands: it.instance.commands.clone(),
            });
        }
        it.commands_ran = true;
    }

    fn wake(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.expire_overrides(now, effects);
        let due = |at: Option<Instant>| at.is_some_and(|it| it <= now);
        if due(self.base.retry_at) {
            match !self.swept && self.engines.values().all(|it| *it) {
                true => self.sweep(effects),
                false => self.make_bridges(effects),
            }
        }
        let mut again = BTreeSet::new();
        let mut unreached = Vec::new();
        for (id, it) in self.containers.iter_mut().filter(|(_, it)| due(it.standing.retry_at)) {
            it.standing.retry_at = None;
            match it.netns {
                Some(netns) => drop(again.insert(netns)),
                None => unreached.push((it.engine, id.clone())),
            }
        }
        for (engine, id) in unreached {
            self.inspect(engine, id, effects);
        }
        for netns in again {
            self.wire(netns, effects);
        }
        let due = |it: &Leftovers| due(it.due) && !it.in_progress;
        let names: Vec<String> =
            self.gone.iter().filter(|(_, it)| due(it)).map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(left) = self.gone.get_mut(&name) else { continue };
            left.in_progress = true;
            let left = left.clone();
            let job = self.gone_job(name, left);
            self.start(job, effects);
        }
    }

    /// Adds the effects that follow from the state alone: the next wake-up, the announcement, the end of `--once`.
    fn settle(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let retries = self.containers.values().map(|it| it.standing.retry_at).chain([self.base.retry_at]);
        let leftovers = self.gone.values().filter(|it| !it.in_progress).filter_map(|it| it.due);
        let next = retries.flatten().chain(leftovers).chain(self.overrides.next_deadline()).min();
        effects.extend(next.map(|it| Effect::WakeAt(it.max(now))));
        let answered = self.engines.values().all(|it| *it) && self.inspections.is_empty();
        if !self.jobs.is_empty() || !answered || !self.base.tried {
            return;
        }
        let all = self.is_connected();
        let any = self.containers.values().any(|it| !it.instance.links.is_empty());
        if all && self.unannounced && (any || !self.network.tunnels.is_empty()) {
            self.unannounced = false;
            effects.push(Effect::Announce);
        }
        let tried = self.containers.values().all(|it| it.standing.tried);
        if self.once
            && tried
            && self.running_commands.is_empty()
            && self.gone.values().all(|it| it.due.is_none())
        {
            effects.push(Effect::Exit(u8::from(!all)));
        }
    }

    /// Did everything match the configuration at its last check?
    fn is_connected(&self) -> bool {
        self.base.connected
            && self.drift.is_empty()
            && self.containers.values().all(|it| it.standing.connected)
            && self.gone.values().all(|it| it.failures.is_empty())
    }
}
