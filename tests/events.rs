//! Sequences of events on a model of the kernel: `tests/data/events/CASE/script.txt` → `effects.txt`.
//!
//! Each line of a script is an event. The effects of the reconciler and all plans are printed.
//!
//! ```text
//! config FILE                  an engine starts with this network file (a running one was killed)
//! replace FILE                 the running engine changes to this network file, as a lab does
//! run NAME NETNS [SERVICE N]   a container runs from now on, in the namespace of that number
//! gone NAME                    it ends, and its namespace too unless another container uses it
//! list | start NAME | die NAME the container engine reports this
//! hold | answer                inspections wait | are answered, the last one first
//! wait MS                      time passes
//! unreachable NAME | reachable NAME    its namespace cannot be opened | can be opened
//! override JSON                a user sets or removes overrides: the request without its name
//! foreign NETNS NAME           another program makes an interface
//! del NETNS NAME               another program deletes an interface
//! set NETNS NAME KEY VALUE     another program changes an interface: mtu, up, alias, group, addr
//! ovs silent | ovs answers     Open vSwitch does not answer | does
//! fail WORDS                   the next step with these words fails
//! stop                         SIGTERM
//! lost                         the engine's event stream ends
//! show                         print the interfaces
//! status | json                print the status, in short | as JSON
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conlink::addr::IfName;
use conlink::api::{self, Problem};
use conlink::config::{Input, Sources, load};
use conlink::container::{Container, ContainerId};
use conlink::kernel;
use conlink::network::{Deadline, Defaults, Network, resolve};
use conlink::plan::{Look, Ns, Observed, ObservedAddr, OvsError, Step};
use conlink::reconcile::{Effect, EngineId, Event, Found, News, Own, Reconciler, Unreachable};
use conlink::wire::{self, World};

use crate::model::{BRIDGES, HOST, Model};
use crate::support::{expect_file, for_each_case};

#[test]
fn each_script_has_the_expected_effects() {
    for_each_case("events", |case| {
        let script = std::fs::read_to_string(case.join("script.txt")).unwrap();
        expect_file(&case.join("effects.txt"), &Play::new(case).run(&script))
    });
}

/// The model, with each step printed, and those that are to fail failing.
struct Loud<'a> {
    model: &'a mut Model,
    out: &'a mut String,
    fail: &'a mut Vec<String>,
}

impl World for Loud<'_> {
    fn observe(&mut self, looks: &BTreeMap<Ns, Look>) -> Result<Observed, kernel::Error> {
        World::observe(self.model, looks)
    }

    fn apply(&mut self, step: &Step) -> Result<(), kernel::Error> {
        writeln!(self.out, "  {}: {step}", step.ns()).unwrap();
        if let Some(at) = self.fail.iter().position(|it| step.to_string().starts_with(it)) {
            self.fail.remove(at);
            return Err(kernel::Error::new(step.to_string(), std::io::Error::other("Injected failure")));
        }
        World::apply(self.model, step)
    }

    fn del_interfaces(&mut self, ns: &Ns, names: &[&IfName]) -> Result<(), kernel::Error> {
        writeln!(self.out, "  {ns}: del {} interfaces", names.len()).unwrap();
        World::del_interfaces(self.model, ns, names)
    }
}

struct Play<'a> {
    case: &'a Path,
    model: Model,
    running: BTreeMap<String, (Container, u64)>,
    reconciler: Option<Reconciler>,
    held: Option<Vec<Event>>,
    /// How the steps begin that are to fail, each once.
    fail: Vec<String>,
    unreachable: BTreeSet<String>,
    now: Instant,
    out: String,
}

impl<'a> Play<'a> {
    fn new(case: &'a Path) -> Self {
        Self {
            case,
            model: Model::new(),
            running: BTreeMap::new(),
            reconciler: None,
            held: None,
            fail: Vec::new(),
            unreachable: BTreeSet::new(),
            now: Instant::now(),
            out: String::new(),
        }
    }

    fn run(mut self, script: &str) -> String {
        for line in script.lines().filter(|it| !it.is_empty() && !it.starts_with('#')) {
            writeln!(self.out, "> {line}").unwrap();
            let words: Vec<&str> = line.split_whitespace().collect();
            self.line(&words);
        }
        self.out
    }

    fn line(&mut self, words: &[&str]) {
        let number = |it: &str| match it {
            "bridges" => BRIDGES,
            "host" => HOST,
            it => it.parse().unwrap(),
        };
        match *words {
            ["config", file] => self.start(file),
            ["override", ..] => self.set_over(&words[1..].join(" ")),
            ["replace", file] => {
                let network = self.network(file);
                let effects = self.reconciler.as_mut().unwrap().replace(network, self.now);
                let events = effects.into_iter().filter_map(|it| self.perform(it)).collect();
                self.handle_all(events);
            }
            ["run", name, netns, ref service @ ..] => {
                let container = Container {
                    id: ContainerId::new(format!("{name:0<64}")),
                    name: name.to_owned(),
                    project: Some("p".to_owned()),
                    working_dir: None,
                    service: service.first().map(|it| (*it).to_owned()),
                    index: service.get(1).map_or(1, |it| it.parse().unwrap()),
                };
                self.model.spaces.entry(number(netns)).or_default();
                self.running.insert(name.to_owned(), (container, number(netns)));
            }
            ["gone", name] => {
                let (_, netns) = self.running.remove(name).unwrap();
                if !self.running.values().any(|(_, it)| *it == netns) {
                    self.model.del_space(netns);
                }
            }
            ["list"] => {
                let containers = self.running.values().map(|(it, _)| it.clone()).collect();
                self.handle(Event::Listed { engine: EngineId::Docker, containers });
            }
            ["start" | "die", name] => {
                let id = ContainerId::new(format!("{name:0<64}"));
                self.handle(Event::Hint { engine: EngineId::Docker, id });
            }
            ["hold"] => self.held = Some(Vec::new()),
            ["answer"] => {
                for event in self.held.take().unwrap().into_iter().rev() {
                    self.handle(event);
                }
            }
            ["wait", ms] => {
                self.now += Duration::from_millis(ms.parse().unwrap());
                self.handle(Event::Wake);
            }
            ["unreachable", name] => drop(self.unreachable.insert(name.to_owned())),
            ["reachable", name] => drop(self.unreachable.remove(name)),
            ["foreign", netns, name] => {
                let kind = conlink::plan::Kind::Other("tun".to_owned());
                self.model.add(number(netns), &name.parse().unwrap(), kind, 0).unwrap();
            }
            ["del", netns, name] => {
                self.model.del(number(netns), &name.parse().unwrap());
                self.handle_all(VecDeque::new());
            }
            ["set", netns, name, key, value] => {
                let space = self.model.spaces.get_mut(&number(netns)).unwrap();
                let it = space.interfaces.get_mut(&name.parse().unwrap()).unwrap();
                match key {
                    "mtu" => it.mtu = value.parse().unwrap(),
                    "up" => it.up = value == "yes",
                    "alias" => it.alias = (value != "none").then(|| value.to_owned()),
                    "group" => it.group = conlink::plan::making(value),
                    "addr" => it.addrs.push(ObservedAddr {
                        cidr: value.parse().unwrap(),
                        ours: false,
                        broadcast: false,
                    }),
                    _ => panic!("no key {key}"),
                }
                self.model.tell(number(netns), name);
                self.handle_all(VecDeque::new());
            }
            ["fail", ..] => self.fail.push(words[1..].join(" ")),
            ["ovs", it] => {
                let message = "ovs-vswitchd does not answer".to_owned();
                self.model.ovs_error = (it == "silent").then_some(OvsError { message, help: None });
            }
            ["lost"] => self.handle(Event::Lost { engine: EngineId::Docker }),
            ["stop"] => self.handle(Event::Stop),
            ["show"] => self.show(),
            ["status"] => self.status(),
            ["json"] => {
                let json = self.reconciler.as_ref().unwrap().status();
                writeln!(self.out, "{}", serde_json::to_string_pretty(&json).unwrap()).unwrap();
            }
            _ => panic!("no command {words:?}"),
        }
    }

    fn start(&mut self, file: &str) {
        let network = self.network(file);
        let own = Own { project: Some("p".to_owned()), ..Own::default() };
        self.reconciler = Some(Reconciler::new(network, own, &[EngineId::Docker], false));
        self.model.attached.clear();
        self.model.news = News::default();
    }

    fn set_over(&mut self, json: &str) {
        let asked: api::Override = serde_json::from_str(json).unwrap();
        let after = asked.seconds.map(Duration::from_secs_f64);
        let until = after.map(|it| Deadline { at: self.now + it, unix: it.as_secs() });
        match self.reconciler.as_mut().unwrap().set_over(&asked, until, self.now) {
            Ok((links, effects)) => {
                let links: Vec<String> = links.iter().map(ToString::to_string).collect();
                writeln!(self.out, "override of {}", links.join(", ")).unwrap();
                let events = effects.into_iter().filter_map(|it| self.perform(it)).collect();
                self.handle_all(events);
            }
            Err(why) => writeln!(self.out, "refused: {why}").unwrap(),
        }
    }

    fn network(&self, file: &str) -> Network {
        let mut sources = Sources::default();
        let text = std::fs::read_to_string(self.case.join(file)).unwrap();
        let id = sources.add(file, text);
        let (config, found) = load(&sources, &[Input::Network(id)], &BTreeMap::new());
        assert!(found.is_empty(), "{found:?}");
        let defaults = Defaults { project: "p".to_owned(), mtu: 1500, ..Defaults::default() };
        let (network, found) = resolve(config, Arc::new(sources), defaults);
        assert!(found.is_empty(), "{found:?}");
        network
    }

    fn handle(&mut self, event: Event) {
        self.handle_all(VecDeque::from([event]));
    }

    /// Handles events, and then what the kernel told meanwhile, until it has no more to tell.
    fn handle_all(&mut self, mut events: VecDeque<Event>) {
        loop {
            while let Some(event) = events.pop_front() {
                let effects = self.reconciler.as_mut().unwrap().handle(event, self.now);
                for effect in effects {
                    events.extend(self.perform(effect));
                }
            }
            let news = std::mem::take(&mut self.model.news);
            if news.is_empty() || self.reconciler.is_none() {
                return;
            }
            events.push_back(Event::Changed(news));
        }
    }

    fn perform(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Inspect { engine, id, ticket } => {
                let running = self.running.values().find(|(it, _)| it.id == id).cloned();
                if let Some((container, _)) =
                    running.clone().filter(|(it, _)| self.unreachable.contains(&it.name))
                {
                    let message = "open the network namespace: Permission denied".to_owned();
                    let container = Some(container);
                    let it = Unreachable { engine, id, container, ticket, message, help: None };
                    return Some(Event::Unreachable(it));
                }
                let found = running.map(|(container, netns)| {
                    self.model.attached.insert(id.clone(), netns);
                    Found { container, netns }
                });
                let event = Event::Inspected { engine, id, ticket, found };
                match &mut self.held {
                    Some(held) => held.push(event),
                    None => return Some(event),
                }
            }
            Effect::Release(id) => drop(self.model.attached.remove(&id)),
            Effect::Converge(job) => {
                let mut world = Loud { model: &mut self.model, out: &mut self.out, fail: &mut self.fail };
                let mut outcome = wire::converge(&mut world, &job.desired);
                outcome.failures.splice(0..0, job.refused.iter().cloned());
                return Some(Event::Done { job: job.number, outcome });
            }
            Effect::Exec { id, name, commands, .. } => {
                for it in commands {
                    writeln!(self.out, "exec {name}: {}", it.argv.join(" ")).unwrap();
                }
                return Some(Event::CommandsDone { id });
            }
            Effect::WakeAt(at) => {
                let ms = at.saturating_duration_since(self.now).as_millis();
                writeln!(self.out, "wake in {ms} ms").unwrap();
            }
            Effect::Notify(notice) => {
                writeln!(self.out, "{}: {notice}", notice.level().as_str().to_lowercase()).unwrap();
                if let Some(help) = notice.help() {
                    writeln!(self.out, "hint: {help}").unwrap();
                }
            }
            Effect::Announce => writeln!(self.out, "All links connected").unwrap(),
            Effect::Exit(code) => writeln!(self.out, "exit {code}").unwrap(),
        }
        None
    }

    fn status(&mut self) {
        let status = self.reconciler.as_ref().unwrap().status();
        let mut lines =
            vec![format!("{}{}", status.state, if status.listening { ", listening" } else { "" })];
        let errors = |errors: &[Problem]| -> Vec<String> {
            let error = |it: &Problem| {
                let origin = it.origin.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
                format!("      {}: {}{origin}", it.subject, it.message)
            };
            errors.iter().map(error).collect()
        };
        for it in &status.bridges {
            lines.push(format!("  bridge {} {} {}", it.name, it.mode, it.state));
            lines.extend(errors(&it.errors));
        }
        for it in &status.tunnels {
            lines.push(format!("  tunnel {} {}", it.name, it.state));
            lines.extend(errors(&it.errors));
        }
        for node in &status.nodes {
            lines.push(format!("  node {} {}", node.name, node.state));
            lines.extend(errors(&node.errors));
            for it in &node.links {
                let overrides: String = it.overrides.iter().map(|it| format!(", {}", it.what)).collect();
                lines.push(format!("    link {} {}{overrides}", it.dev, it.state));
                lines.extend(errors(&it.errors));
            }
        }
        lines.extend(errors(&status.errors));
        lines.extend(status.warnings.iter().map(|it| format!("  warning: {it}")));
        self.out += &(lines.join("\n") + "\n");
    }

    fn show(&mut self) {
        for (number, space) in &self.model.spaces {
            for (name, it) in &space.interfaces {
                let addrs: Vec<String> = it.addrs.iter().map(|it| it.cidr.to_string()).collect();
                let alias = it.alias.as_deref().unwrap_or("-");
                writeln!(self.out, "  {number} {name} {alias} {}", addrs.join(" ")).unwrap();
            }
        }
    }
}
