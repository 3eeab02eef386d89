//! The state between events.

mod job;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use log::Level;

use crate::addr::IfName;
use crate::container::{Container, ContainerId};
use crate::network::{Attach, BridgeMode, Command, Instance, Link, LinkKind, Network, Place};
use crate::plan::Subject;
use crate::reconcile::state::job::{outers, patches};
use crate::reconcile::{
    About, Effect, EngineId, Event, Failure, Found, Gone, Outcome, Own, Standing, Unreachable,
};

/// How long a container that died is given to take its interfaces with it, or to come back.
const GRACE: Duration = Duration::from_millis(300);

/// Knows which containers run and how far each is; decides what to do next.
#[derive(Debug)]
pub struct Reconciler {
    network: Network,
    own: Own,
    /// Converge once and exit, retry nothing.
    once: bool,
    /// Each engine, and whether it has told what runs.
    engines: BTreeMap<EngineId, bool>,
    containers: BTreeMap<ContainerId, Tracked>,
    gone: Gone,
    base: Standing,
    /// Something was done since everything was last said to be connected.
    news: bool,
    running_commands: BTreeSet<ContainerId>,
    /// Commands that containers have had already, from one before us.
    had: BTreeMap<ContainerId, Vec<Command>>,
    /// Inspections under way: of several about one container the last asked for counts.
    asked: BTreeMap<ContainerId, (EngineId, u64)>,
    ticket: u64,
    stopping: bool,
}

/// A running container that some entry of the configuration is about.
#[derive(Debug)]
struct Tracked {
    engine: EngineId,
    container: Container,
    instance: Instance,
    /// Once inspected.
    netns: Option<u64>,
    standing: Standing,
    commands_ran: bool,
}

/// What a container that is gone may have left.
#[derive(Debug)]
pub(super) struct Left {
    due: Instant,
    outers: BTreeSet<(Place, IfName)>,
    patches: BTreeSet<String>,
    netns: Option<u64>,
    /// Ports were forwarded to it.
    forwarded: bool,
    /// It had ends on bridges of Open vSwitch.
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
            news: true,
            running_commands: BTreeSet::new(),
            had: BTreeMap::new(),
            asked: BTreeMap::new(),
            ticket: 0,
            stopping: false,
        }
    }

    /// Takes another one's place: commands that containers have had by that one are not run again. Those that have
    /// become others are.
    #[must_use]
    pub fn after(mut self, other: &Self) -> Self {
        let ran = other.containers.iter().filter(|(_, it)| it.commands_ran);
        self.had.clone_from(&other.had);
        self.had.extend(ran.map(|(id, it)| (id.clone(), it.instance.commands.clone())));
        self
    }

    /// What it was made with.
    pub fn own(&self) -> &Own {
        &self.own
    }

    /// Takes in one event; the effects are to be performed in their order.
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.stopping {
            if let Event::Done { about: About::Teardown, outcome } = event {
                let texts = outcome.failures.iter().map(|it| Effect::Log(Level::Error, it.text()));
                effects.extend(texts);
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
            Event::Done { about, outcome } => self.done(&about, &outcome, now, &mut effects),
            Event::CommandsDone { id } => {
                self.running_commands.remove(&id);
            }
            Event::Vanished { names } => self.vanished(&names, &mut effects),
            Event::SwitchEnded => {
                let ovs = self.network.bridges.values().filter(|it| it.mode == BridgeMode::Ovs);
                let links = self.containers.values().flat_map(|it| &it.instance.links);
                let attached = links.filter_map(|it| match &it.kind {
                    LinkKind::Veth { attach: Attach::Ovs(name), .. } => Some(name.to_string()),
                    _ => None,
                });
                let names = ovs.map(|it| it.name.clone()).chain(attached).collect();
                self.vanished(&names, &mut effects);
            }
            Event::Lost { engine } => {
                self.engines.insert(engine, false);
            }
            Event::Wake => self.wake(now, &mut effects),
            Event::Stop => {
                self.stopping = true;
                effects.push(Effect::Converge(Box::new(self.teardown())));
                return effects;
            }
        }
        self.settle(&mut effects);
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
        // A connection that was lost took answers with it; whatever still matters is asked for again below.
        self.asked.retain(|_, (it, _)| *it != engine);
        // What an engine that was killed left inside containers is theirs whether the configuration still has anything
        // for them or not: so the first time every container of the project is looked at.
        let first = !self.base.tried;
        for container in containers {
            let id = container.id.clone();
            let ours = first && self.own.project.is_some() && container.project == self.own.project;
            if self.track(engine, container, ours) {
                self.inspect(engine, id, effects);
            }
        }
        self.engines.insert(engine, true);
        if !self.base.tried && self.engines.values().all(|it| *it) {
            // Before any container's turn: their links join the bridges, and names of leftovers are free again.
            effects.insert(0, Effect::Converge(Box::new(self.base_job())));
        }
    }

    /// Starts to follow a container if the configuration has anything for it, or in any case.
    fn track(&mut self, engine: EngineId, container: Container, in_any_case: bool) -> bool {
        if self.containers.contains_key(&container.id) {
            return true;
        }
        if self.foreign(&container) {
            return false;
        }
        let instance = self.network.instantiate(&container);
        if instance.is_empty() && !in_any_case {
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
            },
        );
        true
    }

    /// Is the container of another compose project than ours? One that is named in full counts all the same.
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

    /// The project that marks name.
    fn project(&self) -> &str {
        self.own.marked_as.as_ref().or(self.own.project.as_ref()).map_or("", String::as_str)
    }

    /// Asks about a container; an answer to an earlier question will no longer count.
    fn inspect(&mut self, engine: EngineId, id: ContainerId, effects: &mut Vec<Effect>) {
        self.ticket += 1;
        self.asked.insert(id.clone(), (engine, self.ticket));
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
        if it.netns != Some(found.netns) {
            it.standing = Standing::default();
            it.commands_ran = false;
        }
        it.netns = Some(found.netns);
        self.gone.remove(&it.container.name);
        let job = self.containers_job(found.netns);
        effects.push(Effect::Converge(Box::new(job)));
    }

    /// Has everything been tried that a container is to have?
    pub fn is_tried(&self, id: &ContainerId) -> bool {
        let tried = self.containers.get(id).is_none_or(|it| it.standing.tried);
        self.base.tried && !self.asked.contains_key(id) && tried
    }

    /// Is it the answer to the last question about the container? Then no other is awaited.
    fn is_answer(&mut self, id: &ContainerId, ticket: u64) -> bool {
        let is_last = self.asked.get(id).is_some_and(|(_, last)| *last == ticket);
        if is_last {
            self.asked.remove(id);
        }
        is_last
    }

    /// A container that runs and cannot be reached is not connected, and nobody is to think so.
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
        let failure = Failure { subject, message, help, origin: None, is_final: false };
        let outcome = Outcome { changed: false, failures: vec![failure] };
        it.standing.update(&outcome, now, self.once, &[], effects);
    }

    fn forget(&mut self, id: &ContainerId, now: Instant, effects: &mut Vec<Effect>) {
        effects.push(Effect::Release(id.clone()));
        let Some(it) = self.containers.remove(id) else { return };
        if !it.instance.is_empty() {
            effects.push(Effect::Log(Level::Info, format!("{}: gone", it.container.name)));
        }
        let left = Left {
            due: now + GRACE,
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

    fn done(&mut self, about: &About, outcome: &Outcome, now: Instant, effects: &mut Vec<Effect>) {
        self.news |= outcome.changed;
        match about {
            About::Base => self.base.update(outcome, now, self.once, &[], effects),
            About::Containers(ids) => {
                for id in ids {
                    self.container_done(id, outcome, now, effects);
                }
            }
            About::Gone | About::Teardown => {
                let texts = outcome.failures.iter().map(|it| Effect::Log(Level::Warn, it.text()));
                effects.extend(texts);
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
            | Subject::Patch(_)
            | Subject::Leftover(_)
            | Subject::Container(_)
            | Subject::Everything => true,
        };
        let with_origin = |failure: &Failure| {
            let of = |link: &&Link| failure.subject == Subject::Link(link.id.clone());
            let origin = it.instance.links.iter().find(of).map(|it| it.origin.clone());
            Failure { origin: failure.origin.clone().or(origin), ..failure.clone() }
        };
        let outcome = Outcome {
            changed: outcome.changed,
            failures: outcome.failures.iter().filter(mine).map(with_origin).collect(),
        };
        let was = it.standing.connected;
        it.standing.update(&outcome, now, self.once, &self.base.said(), effects);
        if !it.standing.connected {
            return;
        }
        if !was && !it.instance.is_empty() {
            self.news = true;
            let count = it.instance.links.len();
            let links = if count == 1 { "1 link".to_owned() } else { format!("{count} links") };
            effects.push(Effect::Log(Level::Info, format!("{name}: {links} up")));
        }
        let had = self.had.remove(id).is_some_and(|had| had == it.instance.commands);
        if !it.commands_ran && !had && !it.instance.commands.is_empty() {
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

    fn vanished(&mut self, names: &BTreeSet<String>, effects: &mut Vec<Effect>) {
        let bridge = |it: &crate::network::Bridge| it.mode != BridgeMode::Patch && names.contains(&it.name);
        let tunnel = |it: &crate::network::Tunnel| names.contains(it.name.as_str());
        let (bridges, tunnels) = (self.network.bridges.values(), self.network.tunnels.iter());
        if self.base.tried && (bridges.into_iter().any(bridge) || tunnels.into_iter().any(tunnel)) {
            effects.push(Effect::Converge(Box::new(self.bridges_job())));
        }
        let hit = |it: &Tracked| {
            !self.asked.contains_key(&it.container.id)
                && it.instance.links.iter().any(|link| match &link.kind {
                    LinkKind::Veth { outer, attach, .. } => {
                        let bridge = matches!(
                            attach, Attach::Bridge(it) | Attach::Ovs(it) if names.contains(it.as_str())
                        );
                        bridge || names.contains(outer.as_str())
                    }
                    _ => false,
                })
        };
        let again: Vec<(EngineId, ContainerId)> = self
            .containers
            .iter()
            .filter(|(_, it)| hit(it))
            .map(|(id, it)| (it.engine, id.clone()))
            .collect();
        for (engine, id) in again {
            self.inspect(engine, id, effects);
        }
    }

    fn wake(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let due = |at: Option<Instant>| at.is_some_and(|it| it <= now);
        if due(self.base.retry_at) {
            self.base.retry_at = None;
            effects.push(Effect::Converge(Box::new(self.bridges_job())));
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
            let job = self.containers_job(netns);
            effects.push(Effect::Converge(Box::new(job)));
        }
        let names: Vec<String> =
            self.gone.iter().filter(|(_, it)| it.due <= now).map(|(name, _)| name.clone()).collect();
        for name in names {
            if let Some(left) = self.gone.remove(&name) {
                effects.push(Effect::Converge(Box::new(self.gone_job(name, left))));
            }
        }
    }

    /// What follows from the state alone: the next time to wake, the announcement, the end of `--once`.
    fn settle(&mut self, effects: &mut Vec<Effect>) {
        let retries = self.containers.values().map(|it| it.standing.retry_at).chain([self.base.retry_at]);
        let next = retries.flatten().chain(self.gone.values().map(|it| it.due)).min();
        effects.extend(next.map(Effect::WakeAt));
        let working = effects.iter().any(|it| matches!(it, Effect::Converge(_)));
        let answered = self.engines.values().all(|it| *it) && self.asked.is_empty();
        if working || !answered || !self.base.tried {
            return;
        }
        let all = self.base.connected && self.containers.values().all(|it| it.standing.connected);
        let any = self.containers.values().any(|it| !it.instance.links.is_empty());
        if all && self.news && (any || !self.network.tunnels.is_empty()) {
            self.news = false;
            effects.push(Effect::Announce);
        }
        let tried = self.containers.values().all(|it| it.standing.tried);
        if self.once && tried && self.running_commands.is_empty() && self.gone.is_empty() {
            effects.push(Effect::Exit(u8::from(!all)));
        }
    }
}
