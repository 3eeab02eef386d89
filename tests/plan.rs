//! Properties of plans, for random networks and random observed states.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use conlink::addr::IfName;
use conlink::config::{Forward, Input, Sources, load};
use conlink::container::{Container, ContainerId};
use conlink::nat::Protocol;
use conlink::network::{Attach, BridgeMode, Defaults, Link, LinkKind, Place, resolve};
use conlink::plan::{
    BridgeSpec, Desired, ForwardSpec, Forwards, Kind, Mark, Ns, ObservedRoute, Patch, Plan, Scope, Step,
    making, plan,
};
use conlink::route::Route;
use proptest::prelude::*;

use crate::model::{BRIDGES, Model};

/// A link of the configuration, by the numbers of its parts.
#[derive(Clone, Debug)]
struct LinkCase {
    host: u8,
    dev: u8,
    bridge: u8,
    dummy: bool,
    ip: u8,
    mtu: u16,
}

/// An interface that is there before: where, its name, and whose.
#[derive(Clone, Debug)]
struct Before {
    inside: Option<u8>,
    name: u8,
    is_bridge: bool,
    mark: u8,
}

fn links() -> impl Strategy<Value = Vec<LinkCase>> {
    let link = (0..3_u8, 0..3_u8, 0..2_u8, prop::bool::weighted(0.2), 1..250_u8, 1280..1500_u16);
    let link =
        link.prop_map(|(host, dev, bridge, dummy, ip, mtu)| LinkCase { host, dev, bridge, dummy, ip, mtu });
    prop::collection::vec(link, 0..7)
}

fn world() -> impl Strategy<Value = Vec<Before>> {
    let it = (prop::option::of(0..3_u8), 0..14_u8, any::<bool>(), 0..5_u8);
    let it = it.prop_map(|(inside, name, is_bridge, mark)| Before { inside, name, is_bridge, mark });
    prop::collection::vec(it, 0..12)
}

fn desired(links: &[LinkCase]) -> Desired {
    let mut yaml = "links:\n".to_owned();
    let mut seen = BTreeSet::new();
    for it in links.iter().filter(|it| seen.insert((it.host, it.dev))) {
        let kind = if it.dummy { "type: dummy".to_owned() } else { format!("bridge: br{}", it.bridge) };
        let LinkCase { host, dev, ip, mtu, .. } = it;
        yaml +=
            &format!("- {{service: h{host}, dev: eth{dev}, {kind}, ip: 10.{dev}.0.{ip}/24, mtu: {mtu}}}\n");
    }
    let mut sources = Sources::default();
    let id = sources.add("random.yaml", yaml.clone());
    let (config, found) = load(&sources, &[Input::Network(id)], &BTreeMap::new());
    assert!(found.is_empty(), "{yaml}{found:?}");
    let defaults = Defaults { project: "p".to_owned(), ..Defaults::default() };
    let (network, found) = resolve(config, Arc::new(sources), defaults);
    assert!(found.is_empty(), "{yaml}{found:?}");
    let mut all = Vec::new();
    for host in 0..3 {
        let id = ContainerId::new(format!("h{host}"));
        let container = Container {
            id: id.clone(),
            name: format!("h{host}"),
            project: None,
            working_dir: None,
            service: Some(format!("h{host}")),
            index: 1,
        };
        all.extend(network.instantiate(&container).links.into_iter().map(|it| (id.clone(), it)));
    }
    let bridges = network.bridges.values().filter(|it| it.mode == BridgeMode::Linux);
    Desired {
        bridges: bridges.map(|it| ((it.place, it.name.parse().unwrap()), BridgeSpec::default())).collect(),
        links: all,
        inside: (0..3).map(|it| ContainerId::new(format!("h{it}"))).collect(),
        ..Desired::nothing(
            "p".to_owned(),
            Scope::Project {
                places: BTreeSet::from([Place::Engine]),
                keep: BTreeSet::new(),
                inner: BTreeSet::new(),
            },
        )
    }
}

fn name(number: u8) -> IfName {
    let names = [
        "eth0",
        "eth1",
        "eth2",
        "br0",
        "br1",
        "h0_1-eth0",
        "h0_1-eth1",
        "h0_1-eth2",
        "h1_1-eth0",
        "h1_1-eth1",
        "h2_1-eth0",
        "h2_1-eth2",
        "up0",
        "old",
    ];
    names[usize::from(number) % names.len()].parse().unwrap()
}

/// The number of a host's namespace in the model.
fn space(host: u8) -> u64 {
    100 + u64::from(host)
}

fn build(world: &[Before]) -> Model {
    let mut model = Model::new();
    for host in 0..3 {
        model.spaces.entry(space(host)).or_default();
        model.attached.insert(ContainerId::new(format!("h{host}")), space(host));
    }
    for it in world {
        let number = it.inside.map_or(BRIDGES, space);
        let name = name(it.name);
        let kind = if it.is_bridge { Kind::Bridge(Default::default()) } else { Kind::Dummy };
        let group = if it.mark == 1 { making("p") } else { 0 };
        if model.add(number, &name, kind, group).is_err() {
            continue;
        }
        let mark = |project: &str, container: &str| {
            let mark = Mark {
                project: project.into(),
                container: container.into(),
                name: name.to_string(),
                note: Default::default(),
            };
            Some(mark.to_string())
        };
        model.spaces.get_mut(&number).unwrap().interfaces.get_mut(&name).unwrap().alias = match it.mark {
            2 => mark("p", "h0"),
            3 => mark("q", "h0"),
            4 => Some("somebody else's".to_owned()),
            _ => None,
        };
    }
    model
}

/// What is not this project's, in full.
fn foreign(model: &Model) -> Vec<String> {
    let mut found = Vec::new();
    for (number, space) in &model.spaces {
        for (name, it) in &space.interfaces {
            let mark = it.alias.as_deref().and_then(Mark::parse);
            let ours = match &mark {
                Some(mark) => mark.project == "p",
                None => it.alias.is_none() && it.group == making("p"),
            };
            if !ours {
                found.push(format!("{number} {name} {it:?}"));
            }
        }
    }
    found
}

proptest! {
    #[test]
    fn nothing_foreign_is_touched_and_what_can_converge_does(links in links(), world in world()) {
        let desired = desired(&links);
        let mut model = build(&world);
        let before = foreign(&model);
        for round in 0..3 {
            let plan = plan(&desired, &model.observe(&desired.looks()));
            if plan.groups.is_empty() {
                break;
            }
            prop_assert!(round < 2, "never converges:\n{plan}");
            let problems: Vec<_> = plan.problems.iter().map(|it| it.subject.clone()).collect();
            for group in &plan.groups {
                for step in &group.steps {
                    // A port of a bridge that is refused fails, as it should: nothing else does.
                    let result = model.apply(step);
                    let refused = matches!(step, Step::SetInterface { .. }) && !problems.is_empty();
                    prop_assert!(result.is_ok() || refused, "{step}: {result:?}\n{plan}");
                    if result.is_err() {
                        return Ok(());
                    }
                }
            }
        }
        prop_assert_eq!(&foreign(&model), &before);
        // And all of it goes again, without a trace of ours or a scratch on others'.
        let nothing = Desired { links: Vec::new(), bridges: BTreeMap::new(), ..desired };
        let plan = plan(&nothing, &model.observe(&nothing.looks()));
        for step in plan.groups.iter().flat_map(|it| &it.steps) {
            model.apply(step).unwrap();
        }
        prop_assert_eq!(&foreign(&model), &before);
        let left: usize = model.spaces.values().map(|it| it.interfaces.len()).sum();
        prop_assert_eq!(left, before.len());
    }
}

/// Applies a plan without the passes over all routes and rules that the model makes for each of them.
fn apply_all(model: &mut Model, plan: &Plan) {
    for step in plan.groups.iter().flat_map(|it| &it.steps) {
        let number = match step.ns() {
            Ns::Bridges => BRIDGES,
            Ns::Host => crate::model::HOST,
            Ns::Container(id) => model.attached[id],
        };
        let space = model.spaces.get_mut(&number).unwrap();
        match step {
            Step::SetRoute { route, .. } => {
                space.routes.push(ObservedRoute { route: route.clone(), ours: true });
            }
            Step::SetNat { del, add, .. } if del.is_empty() => space.nat.extend(add.iter().cloned()),
            step => model.apply(step).unwrap(),
        }
    }
}

/// Each part of the plan looks at each link a few times. If one looked at every link for each, this would take minutes.
#[test]
fn the_cost_of_a_plan_is_linear_in_its_links() {
    const COUNT: u16 = 10_000;
    let one = LinkCase { host: 0, dev: 0, bridge: 0, dummy: false, ip: 1, mtu: 1500 };
    let mut desired = desired(&[one]);
    let (id, sample) = desired.links.pop().unwrap();
    let name = |prefix: &str, number: u16| format!("{prefix}{number}").parse::<IfName>().unwrap();
    let lan = name("br", 0);
    let addr = |number: u16| IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + u32::from(number)));
    let mut forwards = Forwards { specs: Vec::new(), whole: true };
    let mut model = Model::new();
    model.attached.insert(id.clone(), 2);
    model.spaces.entry(2).or_default();
    for number in 0..COUNT {
        // Half of the links in one container, in pairs that are joined by patches.
        let (dev, outer) = (name("eth", number), name("a", number));
        let route = format!("{}/32 via 10.0.0.254 dev {dev}", addr(number));
        let patch = format!("patch{}", number / 2);
        let mut link =
            Link { addrs: Vec::new(), routes: vec![Route::parse(&route).unwrap()], ..sample.clone() };
        link.id.dev = dev;
        link.kind = LinkKind::Veth {
            place: Place::Engine,
            outer: outer.clone(),
            attach: Attach::Patch(patch.clone()),
        };
        link.required = number % 2 == 0;
        match desired.patches.last_mut().filter(|it| it.name == patch) {
            Some(it) => it.ends.push(outer),
            None => desired.patches.push(Patch { name: patch, ends: vec![outer] }),
        }
        desired.links.push((id.clone(), link));
        // The other half each in a container of its own, with a forwarded port.
        let container = ContainerId::new(format!("f{number}"));
        let mut link = sample.clone();
        link.id.container = format!("f{number}");
        link.kind = LinkKind::Veth {
            place: Place::Engine,
            outer: name("f", number),
            attach: Attach::Bridge(lan.clone()),
        };
        let forward = Forward { outer: number + 1, inner: 80, protocol: Protocol::Tcp };
        let link_id = link.id.clone();
        forwards.specs.push(ForwardSpec { link: link_id, bridge: lan.clone(), forward, to: addr(number) });
        let space = 3 + u64::from(number);
        model.attached.insert(container.clone(), space);
        model.spaces.entry(space).or_default();
        desired.links.push((container.clone(), link));
        desired.inside.insert(container);
    }
    desired.forwards = Some(forwards);
    let observe = |model: &Model, desired: &Desired| model.observe(&desired.looks());
    let first = plan(&desired, &observe(&model, &desired));
    let rules = |it: &&Step| matches!(it, Step::SetNat { .. });
    let steps = || first.groups.iter().flat_map(|it| &it.steps);
    assert_eq!(steps().filter(rules).count(), usize::from(COUNT));
    assert_eq!(steps().filter(|it| matches!(it, Step::AddRedirect { .. })).count(), usize::from(COUNT));
    apply_all(&mut model, &first);
    // Connections of the bridges' own namespace are forwarded once it is guarded.
    let second = plan(&desired, &observe(&model, &desired));
    apply_all(&mut model, &second);
    let third = plan(&desired, &observe(&model, &desired));
    assert!(third.is_empty(), "{} steps, {} problems", third.steps(), third.problems.len());
    // Without the files all of it goes.
    let keep = desired.links.iter().filter_map(|(_, it)| match &it.kind {
        LinkKind::Veth { place, outer, .. } => Some((*place, outer.clone())),
        _ => None,
    });
    let mut nothing = Desired {
        links: Vec::new(),
        patches: Vec::new(),
        bridges: BTreeMap::new(),
        forwards: Some(Forwards { specs: Vec::new(), whole: true }),
        scope: Scope::Project {
            places: BTreeSet::from([Place::Engine]),
            keep: keep.collect(),
            inner: desired.links.iter().map(|(_, it)| it.id.clone()).collect(),
        },
        ..desired
    };
    let kept = plan(&nothing, &observe(&model, &nothing));
    let deletions = |plan: &Plan| {
        let steps = plan.groups.iter().flat_map(|it| &it.steps);
        steps.filter(|it| matches!(it, Step::DelInterface { ns: Ns::Bridges, .. })).count()
    };
    assert_eq!(deletions(&kept), 1);
    nothing.scope = Scope::Project {
        places: BTreeSet::from([Place::Engine]),
        keep: BTreeSet::new(),
        inner: BTreeSet::new(),
    };
    assert_eq!(deletions(&plan(&nothing, &observe(&model, &nothing))), 2 * usize::from(COUNT) + 1);
}
