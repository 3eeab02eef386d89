//! Steps in real namespaces: the applied state equals the observed one and the output of `ip`.

mod announce;
mod namespace;
mod notices;
mod patch;
mod ping;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use conlink::addr::{Cidr, IfName, Mac};
use conlink::container::ContainerId;
use conlink::device::{BridgeOptions, MacvlanMode, StackedKind};
use conlink::ethtool::{Ethtool, Feature};
use conlink::kernel::{Error, Kernel, netns};
use conlink::plan::{
    Change, FeatureState, Interface, Kind, Look, Ns, ObservedRoute, Space, Step, When, Which, making,
};
use conlink::route::Route;

use crate::support::{inside, ip, may_unshare, skip};

const MARK: &str = "conlink:t:a:eth0";

/// The bridges' namespace and those of some containers, with nothing in them.
struct Lab {
    kernel: Kernel,
    bridges: File,
    containers: BTreeMap<&'static str, File>,
}

impl Lab {
    /// None, and said so, where this process may not make namespaces.
    fn new(test: &str, containers: &[&'static str]) -> Option<Self> {
        if !may_unshare(test) {
            return None;
        }
        let bridges = netns::anonymous().unwrap();
        let mut kernel = Kernel::new(bridges.try_clone().unwrap()).unwrap();
        let containers = containers.iter().map(|name| {
            let netns = netns::anonymous().unwrap();
            kernel.attach_netns(&ContainerId::new(*name), netns.try_clone().unwrap()).unwrap();
            (*name, netns)
        });
        let containers = containers.collect();
        Some(Self { kernel, bridges, containers })
    }

    #[track_caller]
    fn apply(&mut self, step: Step) {
        self.kernel.apply(&step).unwrap();
    }

    #[track_caller]
    fn refused(&mut self, step: Step) -> Error {
        self.kernel.apply(&step).unwrap_err()
    }

    /// All of one namespace but `lo`; what is asked for by name must look the same.
    #[track_caller]
    fn space(&mut self, ns: &Ns) -> Space {
        let wide = Look { nat: When::Always, routes_of_others: true, ..Look::inside() };
        let look = |kernel: &mut Kernel, look| {
            let mut observed = kernel.observe(&BTreeMap::from([(ns.clone(), look)])).unwrap();
            observed.spaces.remove(ns).unwrap()
        };
        let all = look(&mut self.kernel, Look { interfaces: Which::All, ..wide.clone() });
        let names: BTreeSet<IfName> = all.interfaces.keys().cloned().chain([name("absent")]).collect();
        let mut by_name = look(&mut self.kernel, Look { interfaces: Which::Names(names), ..wide });
        assert_eq!(by_name, all);
        by_name.interfaces.remove(&name("lo"));
        by_name
    }

    #[track_caller]
    fn interface(&mut self, ns: &Ns, dev: &str) -> Interface {
        let mut space = self.space(ns);
        space.interfaces.remove(&name(dev)).unwrap_or_else(|| panic!("{dev} is not in {ns}"))
    }

    fn netns(&self, ns: &Ns) -> &File {
        match ns {
            Ns::Container(id) => &self.containers[id.as_str()],
            Ns::Bridges | Ns::Host => &self.bridges,
        }
    }

    /// `ip -d link show DEV` as data.
    fn shown(&self, ns: &Ns, dev: &str) -> serde_json::Value {
        let text = ip(self.netns(ns), &format!("-j -d link show {dev}"));
        serde_json::from_str::<serde_json::Value>(&text).unwrap()[0].clone()
    }
}

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn mac(text: &str) -> Mac {
    text.parse().unwrap()
}

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn container(name: &str) -> Ns {
    Ns::Container(ContainerId::new(name))
}

fn add_veth(ns: &Ns, dev: &str, peer_ns: &Ns, peer: &str) -> Step {
    Step::AddVeth {
        ns: ns.clone(),
        name: name(dev),
        group: making("t"),
        mac: Some(mac("02:00:00:00:00:0a")),
        mtu: Some(9000),
        peer_ns: peer_ns.clone(),
        peer: name(peer),
        many_queues: false,
    }
}

fn add_bridge(dev: &str, options: BridgeOptions) -> Step {
    Step::AddBridge { ns: Ns::Bridges, name: name(dev), group: making("t"), mark: "m".to_owned(), options }
}

fn set(ns: &Ns, dev: &str, change: Change) -> Step {
    Step::SetInterface { ns: ns.clone(), name: name(dev), change }
}

fn up() -> Change {
    Change { up: Some(true), ..Change::default() }
}

/// Up without an address of its own, which would come some time after.
fn quiet() -> Change {
    Change { no_link_local: true, ..up() }
}

fn del(ns: &Ns, dev: &str) -> Step {
    Step::DelInterface { ns: ns.clone(), name: name(dev) }
}

#[test]
fn a_new_veth_is_in_the_group_of_unfinished_interfaces_until_it_is_marked() {
    let Some(mut lab) = Lab::new("veth", &["a"]) else { return };
    let a = container("a");
    // Both ends have the same name, and there are others of it: in our own namespace and in the one of bridges.
    ip(&lab.bridges, "link add eth0 type bridge");
    lab.apply(add_veth(&a, "eth0", &Ns::Bridges, "a_1-eth0"));
    let inner = lab.interface(&a, "eth0");
    let outer = lab.interface(&Ns::Bridges, "a_1-eth0");
    assert_eq!((inner.mac, inner.mtu, inner.up), (Some(mac("02:00:00:00:00:0a")), 9000, false));
    assert_eq!((outer.mtu, outer.up, outer.master), (9000, false, None));
    assert_eq!((inner.link, outer.link), (Some(outer.index), Some(inner.index)));
    for it in [&inner, &outer] {
        assert_eq!((&it.kind, it.group, &it.alias), (&Kind::Veth, making("t"), &None));
    }
    let again = lab.refused(add_veth(&a, "eth0", &Ns::Bridges, "a_1-eth0"));
    assert_eq!((again.errno(), again.is_gone()), (Some(libc::EEXIST), false));
    let text = again.to_string();
    assert!(text.starts_with("add veth eth0 ") && text.contains("File exists (os error 17)"), "{text}");
    lab.apply(add_bridge("lan", BridgeOptions::default()));
    let attach =
        Change { master: Some(Some(name("lan"))), mark: Some(MARK.to_owned()), no_link_local: true, ..up() };
    let lan = lab.interface(&Ns::Bridges, "lan").index;
    for _ in 0..2 {
        lab.apply(set(&Ns::Bridges, "a_1-eth0", attach.clone()));
        let outer = lab.interface(&Ns::Bridges, "a_1-eth0");
        assert_eq!((outer.master, outer.group, outer.alias.as_deref()), (Some(lan), 0, Some(MARK)));
        assert!(outer.up);
    }
    let shown = lab.shown(&Ns::Bridges, "a_1-eth0");
    assert_eq!(
        (shown["master"].as_str(), shown["inet6_addr_gen_mode"].as_str()),
        (Some("lan"), Some("none"))
    );
    assert!(!ip(&lab.bridges, "addr show a_1-eth0").contains("inet6"));
    // In place, while it is up.
    let change = Change { mac: Some(mac("02:00:00:00:00:0b")), mtu: Some(1400), ..quiet() };
    lab.apply(set(&a, "eth0", quiet()));
    lab.apply(set(&a, "eth0", change));
    let changed = lab.interface(&a, "eth0");
    assert_eq!((changed.index, changed.mac), (inner.index, Some(mac("02:00:00:00:00:0b"))));
    assert_eq!((changed.mtu, changed.up), (1400, true));
    lab.apply(set(&Ns::Bridges, "a_1-eth0", Change { master: Some(None), ..Change::default() }));
    lab.apply(set(&Ns::Bridges, "a_1-eth0", Change { up: Some(false), ..Change::default() }));
    let outer = lab.interface(&Ns::Bridges, "a_1-eth0");
    assert_eq!((outer.master, outer.up), (None, false));
    for _ in 0..2 {
        lab.apply(del(&a, "eth0"));
        assert!(lab.space(&a).interfaces.is_empty());
    }
    assert_eq!(lab.interface(&Ns::Bridges, "eth0").kind, Kind::Bridge(bridge_of(&mut lab, "eth0")));
}

fn bridge_of(lab: &mut Lab, dev: &str) -> BridgeOptions {
    match lab.interface(&Ns::Bridges, dev).kind {
        Kind::Bridge(options) => options,
        other => panic!("{other:?}"),
    }
}

#[test]
fn interfaces_of_two_containers_may_have_the_same_name() {
    let Some(mut lab) = Lab::new("one name", &["a", "b"]) else { return };
    ip(&lab.bridges, "link add eth0 type bridge");
    lab.apply(add_veth(&container("a"), "eth0", &container("b"), "eth0"));
    for it in ["a", "b"] {
        assert_eq!(lab.interface(&container(it), "eth0").kind, Kind::Veth);
    }
}

#[test]
fn an_altname_does_not_identify_an_interface() {
    let Some(mut lab) = Lab::new("altname", &[]) else { return };
    ip(&lab.bridges, "link add ß@x. type bridge");
    ip(&lab.bridges, "link property add dev ß@x. altname lan");
    assert_eq!(lab.space(&Ns::Bridges).interfaces.keys().collect::<Vec<_>>(), [&name("ß@x.")]);
    let look = Look::names([name("lan")]);
    let observed = lab.kernel.observe(&BTreeMap::from([(Ns::Bridges, look)])).unwrap();
    assert!(observed.spaces[&Ns::Bridges].interfaces.is_empty(), "{observed:?}");
    assert!(lab.refused(set(&Ns::Bridges, "lan", up())).is_gone());
    lab.apply(del(&Ns::Bridges, "lan"));
    lab.kernel.del_interfaces(&Ns::Bridges, &[&name("lan")]).unwrap();
    assert!(!lab.interface(&Ns::Bridges, "ß@x.").up);
}

#[test]
fn bridge_options_are_set_and_read() {
    let Some(mut lab) = Lab::new("bridge", &["a"]) else { return };
    let options = BridgeOptions {
        stp: Some(true),
        vlan_filtering: None,
        mcast_snooping: Some(false),
        group_fwd_mask: Some(0x4000),
        mtu: Some(1400),
        ageing_time: Some(60),
        forward_delay: Some(4),
    };
    lab.apply(add_bridge("lan", options.clone()));
    let lan = lab.interface(&Ns::Bridges, "lan");
    assert_eq!((lan.up, lan.group, lan.alias.as_deref(), lan.mtu), (true, 0, Some("m"), 1400));
    // A port of another MTU does not move the bridge's, which somebody has set.
    lab.apply(add_veth(&container("a"), "eth0", &Ns::Bridges, "x"));
    lab.apply(set(&Ns::Bridges, "x", Change { master: Some(Some(name("lan"))), ..Change::default() }));
    let mut seen = bridge_of(&mut lab, "lan");
    (seen.mtu, seen.vlan_filtering) = (Some(lab.interface(&Ns::Bridges, "lan").mtu), None);
    assert_eq!(seen, options);
    let change =
        BridgeOptions { stp: Some(false), mtu: Some(1300), ageing_time: Some(0), ..Default::default() };
    for _ in 0..2 {
        lab.apply(Step::SetBridge { ns: Ns::Bridges, name: name("lan"), options: change.clone() });
    }
    let seen = bridge_of(&mut lab, "lan");
    assert_eq!((seen.stp, seen.ageing_time, seen.forward_delay), (Some(false), Some(0), Some(4)));
    assert_eq!(lab.interface(&Ns::Bridges, "lan").mtu, 1300);
    let huge = BridgeOptions { ageing_time: Some(u32::MAX), ..BridgeOptions::default() };
    let _ = lab.kernel.apply(&Step::SetBridge { ns: Ns::Bridges, name: name("lan"), options: huge });
    let filtering = BridgeOptions { vlan_filtering: Some(true), ..BridgeOptions::default() };
    match lab.kernel.apply(&add_bridge("vlans", filtering)) {
        Ok(()) => assert_eq!(bridge_of(&mut lab, "vlans").vlan_filtering, Some(true)),
        Err(error) => {
            assert_eq!(error.errno(), Some(libc::EOPNOTSUPP), "{error}");
            assert!(
                !lab.space(&Ns::Bridges).interfaces.contains_key(&name("vlans")),
                "half a bridge is left"
            );
            skip("vlan_filtering of a bridge", &error.to_string());
        }
    }
}

#[test]
fn stacked_interfaces_are_made_next_to_their_parent_and_moved() {
    let Some(mut lab) = Lab::new("stacked kinds", &["a", "b"]) else { return };
    let a = container("a");
    ip(&lab.bridges, "link add par0 mtu 1600 type veth peer name par1");
    ip(lab.netns(&a), "link add near0 mtu 1600 type veth peer name near1");
    let mode = Some(MacvlanMode::Bridge);
    for (parent_ns, parent) in [(Ns::Bridges, name("par0")), (a.clone(), name("near0"))] {
        let index = lab.interface(&parent_ns, parent.as_str()).index;
        let kinds = [
            Some(StackedKind::Macvlan { mode }),
            Some(StackedKind::Macvtap { mode }),
            Some(StackedKind::Vlan { id: 7 }),
            Some(StackedKind::Ipvlan { mode: None, flag: None }),
            Some(StackedKind::Ipvtap { mode: None, flag: None }),
            None,
        ];
        for kind in kinds {
            let is_own = !matches!(kind, Some(StackedKind::Ipvlan { .. } | StackedKind::Ipvtap { .. }));
            let given = is_own.then(|| mac("02:00:00:00:00:0c"));
            let (ns, group, mtu) = (a.clone(), making("t"), Some(1450));
            let step = |dev: &str| match kind {
                Some(kind) => {
                    let (parent_ns, parent) = (parent_ns.clone(), parent.clone());
                    let (ns, name) = (ns.clone(), name(dev));
                    Step::AddStacked { ns, name, group, parent_ns, parent, kind, mac: given, mtu }
                }
                None => Step::AddDummy { ns: ns.clone(), name: name(dev), group, mac: given, mtu },
            };
            let before = (lab.space(&a), lab.space(&Ns::Bridges));
            match lab.kernel.apply(&step("par0")) {
                Ok(()) => {}
                Err(error) if error.errno() == Some(libc::EOPNOTSUPP) => {
                    assert_eq!((lab.space(&a), lab.space(&Ns::Bridges)), before);
                    skip(kind.map_or("dummy", StackedKind::name), &error.to_string());
                    continue;
                }
                Err(error) => panic!("{error}"),
            }
            // Its name is that of an interface of where it was made.
            let made = lab.interface(&a, "par0");
            assert_eq!((made.up, made.group, made.mtu), (false, making("t"), 1450));
            match (kind, &made.kind) {
                (Some(kind), Kind::Stacked(seen)) => assert!(kind.matches(*seen), "{kind} is {seen}"),
                (None, Kind::Dummy) => {}
                other => panic!("{other:?}"),
            }
            assert_eq!(made.link, kind.map(|_| index), "{kind:?}");
            assert!(!is_own || made.mac == given);
            // A second of the same name leaves nothing behind, neither here nor there.
            let before = (lab.space(&a), lab.space(&Ns::Bridges));
            assert_eq!(lab.refused(step("par0")).errno(), Some(libc::EEXIST));
            assert_eq!((lab.space(&a), lab.space(&Ns::Bridges)), before);
            lab.apply(set(&a, "par0", Change { mark: Some(MARK.to_owned()), ..Change::default() }));
            assert_eq!(lab.interface(&a, "par0").alias.as_deref(), Some(MARK));
            lab.apply(del(&a, "par0"));
        }
    }
    let step = Step::AddStacked {
        ns: a,
        name: name("x"),
        group: 1,
        parent_ns: Ns::Bridges,
        parent: name("nowhere"),
        kind: StackedKind::Macvlan { mode },
        mac: None,
        mtu: None,
    };
    assert_eq!(lab.refused(step).to_string(), "find interface nowhere: No such device (os error 19)");
}

#[test]
fn addresses_carry_our_protocol() {
    let Some(mut lab) = Lab::new("addresses", &["a"]) else { return };
    let a = container("a");
    lab.apply(add_veth(&a, "eth0", &Ns::Bridges, "x"));
    ip(lab.netns(&a), "addr add 10.0.0.9/24 dev eth0");
    let all = ["10.0.0.1/24", "10.0.0.2/24", "10.1.0.1/32", "10.2.0.0/31", "fd00::1/64", "fd00::2/128"];
    for it in all {
        let add = Step::AddAddr { ns: a.clone(), dev: name("eth0"), cidr: cidr(it) };
        lab.apply(add.clone());
        assert_eq!(lab.refused(add).errno(), Some(libc::EEXIST));
    }
    lab.apply(set(&a, "eth0", quiet()));
    lab.apply(set(&Ns::Bridges, "x", quiet()));
    let seen = lab.interface(&a, "eth0").addrs;
    for it in all {
        assert!(seen.iter().any(|have| have.cidr == cidr(it) && have.ours), "{it}: {seen:?}");
    }
    assert!(seen.iter().any(|it| it.cidr == cidr("10.0.0.9/24") && !it.ours), "{seen:?}");
    let shown = ip(lab.netns(&a), "addr show dev eth0");
    assert!(shown.contains("inet 10.0.0.1/24 brd 10.0.0.255"), "{shown}");
    assert!(shown.contains("inet 10.2.0.0/31 scope") && shown.contains("inet 10.1.0.1/32 scope"), "{shown}");
    assert!(shown.lines().all(|it| !it.contains("fd00::") || it.contains("nodad")), "{shown}");
    // The first of a subnet goes, the others stay.
    for it in ["10.0.0.1/24", "fd00::1/64"] {
        for _ in 0..2 {
            lab.apply(Step::DelAddr { ns: a.clone(), dev: name("eth0"), cidr: cidr(it) });
        }
        let seen = lab.interface(&a, "eth0").addrs;
        assert!(!seen.iter().any(|addr| addr.cidr == cidr(it)), "{seen:?}");
    }
    assert!(ip(lab.netns(&a), "addr show dev eth0").contains("10.0.0.9/24"));
    // A refusal by a namespace without IPv6 is passed on.
    netns::inside(lab.netns(&a), || std::fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1"))
        .unwrap();
    let add = Step::AddAddr { ns: a.clone(), dev: name("eth0"), cidr: cidr("fd00::3/64") };
    let error = lab.refused(add);
    assert!(matches!(error.errno(), Some(libc::EACCES | libc::EPERM)), "{error}");
    let hint = error.hint().unwrap_or_default();
    assert!(hint.starts_with("IPv6 is disabled on the interface: "), "{hint}");
}

#[test]
fn ipv6_is_enabled_on_an_interface_even_where_the_settings_are_read_only() {
    let Some(mut lab) = Lab::new("IPv6 enabled", &["a"]) else { return };
    let a = container("a");
    let off = || std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    netns::inside(lab.netns(&a), off).unwrap();
    let look = Look { v6_default: true, ..Look::all() };
    let mut is_off = |ns: &Ns| {
        let observed = lab.kernel.observe(&BTreeMap::from([(ns.clone(), look.clone())])).unwrap();
        observed.spaces[ns].v6_off_by_default
    };
    assert_eq!((is_off(&a), is_off(&Ns::Bridges)), (true, false));
    lab.apply(add_veth(&a, "eth0", &Ns::Bridges, "x"));
    assert!(lab.interface(&a, "eth0").v6_off && !lab.interface(&Ns::Bridges, "x").v6_off);
    let enable = |dev: &str| Step::EnableV6 { ns: a.clone(), name: name(dev) };
    assert_eq!(enable("eth0").to_string(), "set eth0 disable_ipv6 0");
    // As in a container: what is mounted over /proc/sys can only be read.
    std::thread::scope(|scope| {
        let read_only = || {
            use nix::mount::{MsFlags, mount};
            use nix::sched::{CloneFlags, unshare};
            let none = None::<&str>;
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(Some("/proc/sys"), "/proc/sys", none, MsFlags::MS_BIND, none).unwrap();
            let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            mount(none, "/proc/sys", none, flags, none).unwrap();
            lab.apply(enable("eth0"));
        };
        scope.spawn(read_only).join().unwrap();
    });
    assert!(!lab.interface(&a, "eth0").v6_off);
    lab.apply(Step::AddAddr { ns: a.clone(), dev: name("eth0"), cidr: cidr("fd00::3/64") });
    // The kernel gives so small an interface no IPv6.
    lab.apply(set(&a, "eth0", Change { mtu: Some(1000), ..Change::default() }));
    let error = lab.refused(enable("eth0"));
    assert_eq!(
        (error.to_string().as_str(), error.is_gone()),
        (
            "set eth0 disable_ipv6 0: the kernel has no IPv6 for the interface: IPv6 needs an MTU of at least 1280",
            false
        )
    );
    let error = lab.refused(Step::AddAddr { ns: a, dev: name("eth0"), cidr: cidr("fd00::4/64") });
    assert_eq!(
        error.hint(),
        Some("the kernel has no IPv6 on an interface with an MTU below 1280"),
        "{error}"
    );
}

#[test]
fn error_numbers_of_the_kernel_have_hints() {
    let Some(mut lab) = Lab::new("hints", &["a"]) else { return };
    let a = container("a");
    let starts = |error: Error, hint: &str| {
        assert!(error.hint().is_some_and(|it| it.starts_with(hint)), "{error}: {:?}", error.hint());
        assert!(!error.is_gone(), "{error}");
    };
    lab.apply(add_veth(&a, "eth0", &Ns::Bridges, "x"));
    for (setting, hint) in [
        ("--set-ring rx 64", "the device does not support this setting"),
        ("--set-channels rx 100", "the device does not accept this value"),
    ] {
        let setting = Ethtool::parse(setting).unwrap();
        starts(lab.refused(Step::SetEthtool { ns: a.clone(), name: name("eth0"), setting }), hint);
    }
    let macvlan = |parent: &str| Step::AddStacked {
        ns: a.clone(),
        name: name("m"),
        group: making("t"),
        parent_ns: Ns::Bridges,
        parent: name(parent),
        kind: StackedKind::Macvlan { mode: None },
        mac: None,
        mtu: None,
    };
    lab.apply(add_bridge("lan", BridgeOptions::default()));
    lab.apply(set(&Ns::Bridges, "x", Change { master: Some(Some(name("lan"))), ..Change::default() }));
    let error = lab.refused(macvlan("x"));
    match error.errno() {
        Some(libc::EOPNOTSUPP) => skip("macvlan on a bridge port", &error.to_string()),
        _ => starts(error, "the parent serves another purpose"),
    }
    let netem = conlink::netem::Netem::parse("delay 1ms seed 7").unwrap();
    match lab.kernel.apply(&Step::AddNetem { ns: a.clone(), name: name("eth0"), netem }) {
        Ok(()) => {}
        Err(error) => starts(error, "the kernel module sch_netem is missing"),
    }
}

#[test]
fn routes_of_other_programs_are_not_requested() {
    let Some(mut lab) = Lab::new("many routes", &["a"]) else { return };
    let a = container("a");
    lab.apply(add_veth(&a, "eth0", &Ns::Bridges, "x"));
    lab.apply(Step::AddAddr { ns: a.clone(), dev: name("eth0"), cidr: cidr("10.0.0.1/24") });
    lab.apply(set(&a, "eth0", Change { mark: Some(MARK.to_owned()), ..quiet() }));
    let count: u32 = std::env::var("CONLINK_TEST_ROUTES").map_or(1000, |it| it.parse().unwrap());
    for family in [4, 6] {
        let route = |number: u32| match family {
            4 => format!("{}/32 dev eth0 proto bgp", std::net::Ipv4Addr::from_bits(0x1400_0000 + number)),
            _ => format!("fd44::{:x}:{:x}/128 dev eth0 proto bgp", number >> 16, number & 0xffff),
        };
        for number in 0..count {
            let route = Route::parse(&route(number)).unwrap();
            lab.apply(Step::SetRoute { ns: a.clone(), route, replace: false });
        }
    }
    let ours = ["blackhole 10.6.0.0/16", "10.7.0.0/16 dev eth0", "blackhole fd06::/64"];
    let named = ["10.8.0.0/16 dev eth0 proto static"];
    for it in ours.iter().chain(&named) {
        lab.apply(Step::SetRoute { ns: a.clone(), route: Route::parse(it).unwrap(), replace: false });
    }
    let mut routes = |look: Look| {
        let start = std::time::Instant::now();
        let observed = lab.kernel.observe(&BTreeMap::from([(a.clone(), look)])).unwrap();
        eprintln!("{} routes in {:?}", observed.spaces[&a].routes.len(), start.elapsed());
        observed.spaces[&a].routes.iter().map(|it| it.route.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(routes(Look::inside()), ours);
    let mut with_static = routes(Look { protocols: [4].into(), ..Look::inside() });
    with_static.sort();
    let mut expected = [ours.as_slice(), &named].concat();
    expected.sort();
    assert_eq!(with_static, expected);
    // And the one that the kernel made with the address.
    let all = routes(Look { routes_of_others: true, ..Look::inside() });
    assert_eq!(all.len(), 2 * count as usize + ours.len() + named.len() + 1);
}

#[test]
fn routes_are_read_as_they_were_set() {
    let Some(mut lab) = Lab::new("route forms", &["a"]) else { return };
    let a = container("a");
    lab.apply(add_veth(&a, "eth0", &Ns::Bridges, "x"));
    for it in ["10.0.0.1/24", "fd00::1/64"] {
        lab.apply(Step::AddAddr { ns: a.clone(), dev: name("eth0"), cidr: cidr(it) });
    }
    lab.apply(set(&a, "eth0", quiet()));
    lab.apply(set(&Ns::Bridges, "x", quiet()));
    ip(lab.netns(&a), "route add 10.99.0.0/16 via 10.0.0.99");
    let before = lab.space(&a).routes;
    assert_eq!(
        before.iter().map(|it| (it.route.to_string(), it.ours)).collect::<Vec<_>>(),
        [
            ("10.0.0.0/24 dev eth0 src 10.0.0.1 proto kernel".to_owned(), false),
            ("10.99.0.0/16 via 10.0.0.99 dev eth0 proto boot".to_owned(), false),
            ("fd00::/64 dev eth0 metric 256 proto kernel".to_owned(), false),
        ]
    );
    let forms = [
        "default via 10.0.0.254",
        "10.1.0.0/16 via 10.0.0.254 src 10.0.0.1 metric 77 table 200",
        "10.2.0.0/16 via 10.0.0.254 table 100000",
        "10.3.0.0/16",
        "10.3.1.0/24 scope global",
        "10.4.0.0/16 via 192.0.2.1 onlink",
        "10.5.0.0/16 via 10.0.0.254 mtu 1300 advmss 1200",
        "blackhole 10.6.0.0/16",
        "prohibit 10.7.0.0/16 metric 5",
        "unreachable 10.8.0.0/16",
        "throw 10.9.0.0/16 table 200",
        "local 10.9.1.0/24",
        "10.10.0.0/16 via inet6 fe80::1",
        "10.11.0.0/16 nexthop via 10.0.0.251 nexthop via 10.0.0.252 weight 3",
        "10.11.1.0/24 onlink nexthop via 192.0.2.1 nexthop via 192.0.2.2 weight 256",
        "10.11.2.0/24 nexthop via inet6 fe80::1 nexthop via 10.0.0.252",
        "10.12.0.0/16 proto static via 10.0.0.254",
        "10.13.0.1 via 10.0.0.254",
        "default via fd00::254",
        "fd01::/64 via fe80::1 metric 5",
        "fd02::/64 via fd00::254 mtu 1300 advmss 1200 table 100000",
        "unreachable fd03::/64",
        "blackhole fd04::/64",
        "prohibit fd04:1::/64",
        "throw fd04:2::/64 table 200",
        "fd05::/64 nexthop via fd00::251 nexthop via fd00::252 weight 2",
        "fd06::/64",
        "fd07::/64 via fd00::254 src fd00::1",
        "fd08::/64 via fd00:99::1 onlink",
    ];
    for form in forms {
        let route = Route::parse(form).unwrap().with_default_dev(&name("eth0"));
        let observed = ObservedRoute { ours: route.proto.is_none(), route: route.clone() };
        let step = Step::SetRoute { ns: a.clone(), route: route.clone(), replace: true };
        for _ in 0..2 {
            lab.kernel.apply(&step).unwrap_or_else(|error| panic!("{form}: {error}"));
            let added: Vec<_> = lab.space(&a).routes.into_iter().filter(|it| !before.contains(it)).collect();
            assert_eq!(added, std::slice::from_ref(&observed), "{form}");
        }
        for _ in 0..2 {
            lab.apply(Step::DelRoute { ns: a.clone(), route: route.clone() });
            assert_eq!(lab.space(&a).routes, before, "{form}");
        }
    }
    // A route of the same destination, table and metric is left as it is, whoever made it.
    for taken in ["10.99.0.0/16 via 10.0.0.98", "10.0.0.0/24", "fd00::/64 metric 256"] {
        let route = Route::parse(taken).unwrap().with_default_dev(&name("eth0"));
        let step = Step::SetRoute { ns: a.clone(), route, replace: false };
        let error = lab.refused(step.clone());
        assert!(
            error.is_taken() && error.to_string().starts_with(&format!("{step}: File exists")),
            "{error}"
        );
        assert_eq!(lab.space(&a).routes, before, "{taken}");
    }
    let beside = Route::parse("10.99.0.0/16 via 10.0.0.98 dev eth0 metric 1").unwrap();
    lab.apply(Step::SetRoute { ns: a.clone(), route: beside.clone(), replace: false });
    lab.apply(Step::DelRoute { ns: a.clone(), route: beside });
    assert_eq!(lab.space(&a).routes, before);
    let unreached = Route::parse("10.1.0.0/16 via 10.9.9.9 dev eth0").unwrap();
    assert_eq!(
        lab.refused(Step::SetRoute { ns: a.clone(), route: unreached, replace: false }).to_string(),
        "add route 10.1.0.0/16 via 10.9.9.9 dev eth0: Network is unreachable (os error 101): \
         Nexthop has invalid gateway"
    );
    let elsewhere = Route::parse("10.1.0.0/16 dev absent").unwrap();
    lab.apply(Step::DelRoute { ns: a, route: elsewhere });
}

#[test]
fn transmit_checksums_are_switched() {
    let Some(mut lab) = Lab::new("checksums", &["a"]) else { return };
    let a = container("a");
    lab.apply(add_veth(&a, "eth0", &Ns::Bridges, "x"));
    let features =
        |on| Step::SetFeatures { ns: a.clone(), name: name("eth0"), features: vec![(Feature::TX, on)] };
    for on in [false, false, true, true] {
        lab.apply(features(on));
        let wanted = vec![Ethtool::Features(vec![(Feature::TX, on)])];
        let look = Look { ethtool: BTreeMap::from([(name("eth0"), wanted)]), ..Look::all() };
        let observed = lab.kernel.observe(&BTreeMap::from([(a.clone(), look)])).unwrap();
        let interface = observed.interface(&a, &name("eth0")).unwrap();
        let generic = FeatureState { on, asked_for: on, fixed: false };
        assert_eq!(interface.features["tx-checksum-ip-generic"], generic, "{:?}", interface.features);
        let shown = inside(lab.netns(&a), "ethtool", &["-k", "eth0"]);
        assert!(shown.contains(if on { "tx-checksumming: on" } else { "tx-checksumming: off" }), "{shown}");
    }
    let features = vec![(Feature::TX, false)];
    assert!(lab.refused(Step::SetFeatures { ns: a, name: name("absent"), features }).is_gone());
}

/// What the settings asked for are, as a plan would see them.
fn settings(lab: &mut Lab, ns: &Ns, dev: &str, wanted: &[Ethtool]) -> Vec<Ethtool> {
    let look = Look { ethtool: BTreeMap::from([(name(dev), wanted.to_vec())]), ..Look::all() };
    let observed = lab.kernel.observe(&BTreeMap::from([(ns.clone(), look)])).unwrap();
    observed.interface(ns, &name(dev)).unwrap().settings.clone()
}

/// Sets each, which must then be what is observed; `ethtool` must show the words.
fn check_settings(lab: &mut Lab, ns: &Ns, dev: &str, cases: &[(&str, &str, &str)]) {
    for (text, show, expected) in cases {
        let setting = Ethtool::parse(text).unwrap();
        lab.apply(Step::SetEthtool { ns: ns.clone(), name: name(dev), setting: setting.clone() });
        assert_eq!(settings(lab, ns, dev, std::slice::from_ref(&setting)), [setting], "{text}");
        let args: Vec<&str> = show.split(' ').chain([dev]).filter(|it| !it.is_empty()).collect();
        let shown = inside(lab.netns(ns), "ethtool", &args);
        let words = |it: &str| it.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words(&shown).contains(&words(expected)), "{text}: {shown}");
    }
}

#[test]
fn speed_duplex_coalescing_and_channels_are_set_and_read() {
    let Some(mut lab) = Lab::new("ethtool settings", &["a"]) else { return };
    let a = container("a");
    ip(lab.netns(&a), "tuntap add tap0 mode tap");
    check_settings(
        &mut lab,
        &a,
        "tap0",
        &[
            ("--change speed 1000 duplex full autoneg off", "", "Speed: 1000Mb/s"),
            ("-s speed 100", "", "Speed: 100Mb/s"),
            ("-s duplex half", "", "Duplex: Half"),
            ("--coalesce rx-frames 8", "-c", "rx-frames: 8"),
        ],
    );
    ip(lab.netns(&a), "link add v0 numtxqueues 2 numrxqueues 2 type veth peer v1");
    check_settings(
        &mut lab,
        &a,
        "v0",
        &[("--set-channels rx 2 tx 2", "-l", "RX: 2 TX: 2"), ("-L rx 1", "-l", "RX: 1 TX: 2")],
    );
    // What a device lacks is not there to compare, and an error to set.
    let rings = Ethtool::parse("--set-ring rx 64").unwrap();
    assert_eq!(settings(&mut lab, &a, "v0", std::slice::from_ref(&rings)), []);
    let error = lab.refused(Step::SetEthtool { ns: a.clone(), name: name("v0"), setting: rings });
    assert_eq!(error.to_string(), "set v0 --set-ring rx 64: Operation not supported (os error 95)");
}

/// The virtual machine has a network card that nobody uses.
#[test]
fn rings_and_channels_of_a_card_are_set_and_read() {
    if std::env::var_os("CONLINK_VM").is_none() {
        return;
    }
    let Some(mut lab) = Lab::new("card", &["a"]) else { return };
    let a = container("a");
    let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(lab.netns(&a)));
    let own = netns::own().unwrap();
    ip(&own, &format!("link set eth0 name card netns {path}"));
    let cases = [
        ("--set-ring rx 128 tx 128", "-g", "RX: 128 RX Mini: n/a RX Jumbo: n/a TX: 128"),
        ("-G tx 64", "-g", "RX: 128 RX Mini: n/a RX Jumbo: n/a TX: 64"),
        ("-L combined 1", "-l", "Combined: 1"),
        ("-s speed 10000 duplex full", "", "Speed: 10000Mb/s"),
    ];
    check_settings(&mut lab, &a, "card", &cases);
}

#[test]
fn hundreds_of_interfaces_are_dumped_and_deleted_in_one_batch() {
    let Some(mut lab) = Lab::new("hundreds", &["a"]) else { return };
    let a = container("a");
    let names: Vec<IfName> = (0..300).map(|it| name(&format!("v{it}"))).collect();
    for it in &names {
        lab.apply(add_veth(&a, it.as_str(), &Ns::Bridges, it.as_str()));
        // Half of them are as a kill leaves them: unmarked, in their group.
        if it.as_str().ends_with(['1', '3', '5', '7', '9']) {
            lab.apply(set(&Ns::Bridges, it.as_str(), Change { mark: Some(MARK.into()), ..up() }));
        }
    }
    ip(&lab.bridges, "link add other group 77 type bridge");
    assert_eq!(lab.space(&Ns::Bridges).interfaces.len(), 301);
    assert_eq!(lab.space(&a).interfaces.len(), 300);
    let mut some: Vec<&IfName> = names.iter().take(200).collect();
    let absent = name("absent");
    some.push(&absent);
    let start = std::time::Instant::now();
    for _ in 0..2 {
        lab.kernel.del_interfaces(&Ns::Bridges, &some).unwrap();
        assert_eq!(lab.space(&Ns::Bridges).interfaces.len(), 101);
    }
    // One by one they would take 3 s and more.
    eprintln!("200 deleted in {:?}", start.elapsed());
    assert_eq!(lab.space(&a).interfaces.len(), 100);
    assert_eq!(lab.interface(&Ns::Bridges, "other").group, 77);
}

#[test]
fn a_batch_deletes_the_others_if_one_interface_cannot_be_deleted() {
    let Some(mut lab) = Lab::new("batch", &["a"]) else { return };
    for it in ["x", "y"] {
        lab.apply(add_veth(&container("a"), it, &Ns::Bridges, it));
        lab.apply(set(&Ns::Bridges, it, Change { mark: Some(MARK.into()), ..Change::default() }));
    }
    let names = ["x", "lo", "y"].map(name);
    let error = lab.kernel.del_interfaces(&Ns::Bridges, &names.each_ref()).unwrap_err();
    assert!(error.to_string().contains("del lo"), "{error}");
    assert!(lab.space(&Ns::Bridges).interfaces.is_empty());
    let lo = &ip(&lab.bridges, "-d link show lo");
    assert!(lo.contains("group default"), "{lo}");
}

#[test]
fn an_interface_with_a_small_mtu_needs_no_ipv6_setting() {
    let Some(mut lab) = Lab::new("small mtu", &["a"]) else { return };
    lab.apply(add_veth(&container("a"), "eth0", &Ns::Bridges, "x"));
    lab.apply(set(&Ns::Bridges, "x", Change { mtu: Some(1000), ..Change::default() }));
    lab.apply(set(&Ns::Bridges, "x", quiet()));
    assert!(lab.interface(&Ns::Bridges, "x").up);
}
