use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::api::Health;
use crate::config::{Input, Sources, load};
use crate::network::{Defaults, resolve};
use crate::plan::{Names, News};

/// If each patch looked at every link, this would take minutes.
#[test]
fn the_cost_of_a_job_is_linear_in_its_links() {
    const COUNT: u32 = 10_000;
    let yaml = "links:
- {service: h, dev: 'a{{index}}', bridge: 'p{{index}}'}
- {service: h, dev: 'b{{index}}', bridge: 'p{{index}}'}
- {service: h, dev: 'c{{index}}', bridge: lan, ip: 10.0.0.1/8, forward: '1:80/tcp'}
bridges: [{bridge: lan, mode: linux}]";
    let mut sources = Sources::default();
    let id = sources.add("net.yaml", yaml);
    let (config, found) = load(&sources, &[Input::Network(id)], &BTreeMap::new());
    assert!(found.is_empty(), "{found:?}");
    let defaults = Defaults { bridge_mode: crate::config::ConfigMode::Patch, ..Defaults::default() };
    let (network, found) = resolve(config, Arc::new(sources), defaults);
    assert!(found.is_empty(), "{found:?}");
    let engine = EngineId::Docker;
    let container = |index| Container {
        id: ContainerId::new(format!("h{index}")),
        name: format!("h-{index}"),
        project: None,
        working_dir: None,
        service: Some("h".to_owned()),
        index,
    };
    let mut it = Reconciler::new(network, Own::default(), &[engine], false);
    it.handle(Event::Listed { engine, containers: (1..=COUNT).map(container).collect() }, Instant::now());
    it.containers.values_mut().for_each(|it| it.netns = Some(7));
    let job = it.containers_job(7);
    assert_eq!(job.refused, []);
    assert_eq!(job.desired.patches.len(), COUNT as usize);
    assert!(job.desired.patches.iter().all(|it| it.ends.len() == 2));
    assert_eq!(job.desired.forwards.map(|it| it.specs.len()), Some(COUNT as usize));
}

fn network(text: &str) -> Network {
    let mut sources = Sources::default();
    let id = sources.add("net.yaml", text);
    let (config, _) = load(&sources, &[Input::Network(id)], &BTreeMap::new());
    let (network, found) = resolve(config, Arc::new(sources), Defaults::default());
    assert!(found.is_empty(), "{found:?}");
    network
}

fn reconciler(once: bool) -> Reconciler {
    let network = network("links: [{service: h, bridge: lan}]");
    Reconciler::new(network, Own::default(), &[EngineId::Docker], once)
}

fn container() -> Container {
    Container {
        id: ContainerId::new("h1"),
        name: "h-1".to_owned(),
        project: None,
        working_dir: None,
        service: Some("h".to_owned()),
        index: 1,
    }
}

/// The container's namespace is found.
fn inspected(ticket: u64) -> Event {
    let found = Some(Found { container: container(), netns: 7 });
    Event::Inspected { engine: EngineId::Docker, id: container().id, ticket, found }
}

/// A leftover that could not be removed.
fn failure() -> Failure {
    let subject = Subject::Leftover("old".parse().unwrap());
    Failure {
        subject,
        message: "del old: busy".to_owned(),
        help: None,
        origin: None,
        is_final: false,
        is_unsupported: false,
    }
}

fn names(changed: &str) -> Names {
    Names { changed: [changed.to_owned()].into(), ..Names::default() }
}

fn ticket(effects: &[Effect]) -> u64 {
    let ticket = effects.iter().find_map(|it| match it {
        Effect::Inspect { ticket, .. } => Some(*ticket),
        _ => None,
    });
    ticket.unwrap()
}

fn job(effects: &[Effect]) -> u64 {
    let job = effects.iter().find_map(|it| match it {
        Effect::Converge(job) => Some(job.number),
        _ => None,
    });
    job.unwrap()
}

fn about(effects: &[Effect]) -> Option<About> {
    effects.iter().find_map(|it| match it {
        Effect::Converge(job) => Some(job.about.clone()),
        _ => None,
    })
}

#[test]
fn a_lost_engine_does_not_delay_bridges_and_tunnels_of_the_other_one() {
    let now = Instant::now();
    let (docker, podman) = (EngineId::Docker, EngineId::Podman);
    let lost = || Event::Lost { engine: podman };
    let listed = || Event::Listed { engine: docker, containers: Vec::new() };
    for events in [[lost(), listed()], [listed(), lost()]] {
        let text = "bridges: [{bridge: lan}]\n\
            tunnels: [{bridge: lan, type: geneve, remote: 192.0.2.1, vni: 5}]\n";
        let mut it = Reconciler::new(network(text), Own::default(), &[docker, podman], false);
        let effects: Vec<Effect> = events.into_iter().flat_map(|event| it.handle(event, now)).collect();
        let made = effects.iter().find_map(|it| match it {
            Effect::Converge(job) => Some((job.desired.bridges.len(), job.desired.tunnels.len())),
            _ => None,
        });
        assert_eq!((made, about(&effects)), (Some((1, 1)), Some(About::Base)));
    }
}

#[test]
fn once_fails_if_a_leftover_cannot_be_removed() {
    let engine = EngineId::Docker;
    let now = Instant::now();
    for (failures, code) in [(Vec::new(), 0), (vec![failure()], 1)] {
        let mut it = reconciler(true);
        let listed = it.handle(Event::Listed { engine, containers: vec![container()] }, now);
        let wired = it.handle(inspected(ticket(&listed)), now);
        // The container dies before the end.
        let id = container().id;
        let hinted = it.handle(Event::Hint { engine, id: id.clone() }, now);
        let answer = Event::Inspected { engine, id, ticket: ticket(&hinted), found: None };
        it.handle(answer, now);
        it.handle(Event::Done { job: job(&listed), outcome: Outcome::default() }, now);
        it.handle(Event::Done { job: job(&wired), outcome: Outcome::default() }, now);
        let removed = it.handle(Event::Wake, now + GRACE);
        let outcome = Outcome { failures, ..Outcome::default() };
        let done = it.handle(Event::Done { job: job(&removed), outcome }, now + GRACE);
        let end = done.iter().find_map(|it| match it {
            Effect::Exit(code) => Some(*code),
            _ => None,
        });
        assert_eq!(end, Some(code), "{done:?}");
    }
}

#[test]
fn the_removal_of_leftovers_is_retried_and_the_network_is_failing_until_then() {
    let engine = EngineId::Docker;
    let now = Instant::now();
    let mut it = reconciler(false);
    let listed = it.handle(Event::Listed { engine, containers: Vec::new() }, now);
    let failed = Outcome { failures: vec![failure()], ..Outcome::default() };
    it.handle(Event::Done { job: job(&listed), outcome: failed.clone() }, now);
    assert_eq!(it.health(), Health::Failing);
    // Another program changes a bridge: no new bridge is needed, but leftovers still have to be removed.
    let news = News { bridges: names("lan"), ..News::default() };
    assert_eq!(about(&it.handle(Event::Changed(news.clone()), now)), None);
    let again = it.handle(Event::Wake, now + back_off(0));
    assert_eq!(about(&again), Some(About::Sweep));
    // A final failure stays a failure.
    let final_failure = Failure { is_final: true, ..failure() };
    let failed = Outcome { failures: vec![final_failure], ..Outcome::default() };
    it.handle(Event::Done { job: job(&again), outcome: failed }, now);
    assert_eq!(about(&it.handle(Event::Changed(news), now)), Some(About::Sweep));
    assert_eq!(it.health(), Health::Failing);

    // The same for leftovers of a container.
    let mut it = reconciler(false);
    let listed = it.handle(Event::Listed { engine, containers: vec![container()] }, now);
    it.handle(Event::Done { job: job(&listed), outcome: Outcome::default() }, now);
    let wired = it.handle(inspected(ticket(&listed)), now);
    it.handle(Event::Done { job: job(&wired), outcome: Outcome::default() }, now);
    it.handle(Event::Listed { engine, containers: Vec::new() }, now);
    let removed = it.handle(Event::Wake, now + GRACE);
    let failed = Outcome { failures: vec![failure()], ..Outcome::default() };
    it.handle(Event::Done { job: job(&removed), outcome: failed }, now);
    assert_eq!(it.health(), Health::Failing);
    let again = it.handle(Event::Wake, now + back_off(0));
    assert_eq!(about(&again), Some(About::Gone("h-1".to_owned())));
    it.handle(Event::Done { job: job(&again), outcome: Outcome::default() }, now);
    assert_eq!(it.health(), Health::Connected);
}

#[test]
fn drift_ends_with_its_container() {
    let engine = EngineId::Docker;
    let now = Instant::now();
    let mut it = reconciler(false);
    let listed = it.handle(Event::Listed { engine, containers: vec![container()] }, now);
    it.handle(Event::Done { job: job(&listed), outcome: Outcome::default() }, now);
    let wired = it.handle(inspected(ticket(&listed)), now);
    // The container dies during a check, whose result arrives later.
    it.handle(Event::Listed { engine, containers: Vec::new() }, now);
    let link =
        Subject::Link(crate::network::LinkId { container: "h-1".to_owned(), dev: "eth0".parse().unwrap() });
    let drift = Drift::from([(link, vec!["down".to_owned()])]);
    let outcome = Outcome { drift, ..Outcome::default() };
    it.handle(Event::Done { job: job(&wired), outcome }, now);
    assert!(it.drift.is_empty(), "{:?}", it.drift);
    assert_ne!(it.health(), Health::Drifted);
}
