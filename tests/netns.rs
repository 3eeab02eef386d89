//! Plans in real namespaces: `ip` shows the described state, and a second plan is empty.

mod attach;
mod documentation;
mod engine;
mod own;
mod properties;
mod settings;
mod switch;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::Arc;

use conlink::config::{Input, Sources, load};
use conlink::container::{Container, ContainerId};
use conlink::kernel::{Kernel, netns};
use conlink::network::{Attach, Defaults, LinkKind, Network, Place, resolve};
use conlink::plan::Outcome;
use conlink::plan::{BridgeSpec, Desired, Patch, Scope, plan};
use conlink::wire;

use crate::support::{inside, ip, may_unshare, skip};

/// A network in namespaces that nothing else is in.
struct Lab {
    kernel: Kernel,
    bridges: File,
    hosts: BTreeMap<String, File>,
}

impl Lab {
    /// None, and said so, where this process may not make namespaces.
    fn new(test: &str, hosts: &[&str]) -> Option<Self> {
        if !may_unshare(test) {
            return None;
        }
        let bridges = netns::anonymous().unwrap();
        let mut kernel = Kernel::new(bridges.try_clone().unwrap()).unwrap();
        let mut opened = BTreeMap::new();
        for name in hosts {
            let netns = netns::anonymous().unwrap();
            kernel.attach_netns(&ContainerId::new(*name), netns.try_clone().unwrap()).unwrap();
            opened.insert((*name).to_owned(), netns);
        }
        Some(Self { kernel, bridges, hosts: opened })
    }

    fn host(&self, name: &str) -> &File {
        &self.hosts[name]
    }

    /// All that the text describes for these hosts.
    fn desired(&self, yaml: &str) -> Desired {
        let network = network(yaml);
        let mut links = Vec::new();
        for name in self.hosts.keys() {
            let container = Container {
                id: ContainerId::new(name),
                name: name.clone(),
                project: None,
                working_dir: None,
                service: Some(name.clone()),
                index: 1,
            };
            let instance = network.instantiate(&container);
            assert!(instance.problems.is_empty(), "{:?}", instance.problems);
            links.extend(instance.links.into_iter().map(|it| (container.id.clone(), it)));
        }
        let mut patches: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for (_, link) in &links {
            if let LinkKind::Veth { outer, attach: Attach::Patch(name), .. } = &link.kind {
                patches.entry(name.clone()).or_default().push(outer.clone());
            }
        }
        let bridges = network.bridges.values().filter(|it| it.mode == conlink::network::BridgeMode::Linux);
        Desired {
            bridges: bridges
                .map(|it| {
                    let spec = BridgeSpec { options: it.options.clone(), join_foreign: false, ovs: false };
                    ((it.place, it.name.parse().unwrap()), spec)
                })
                .collect(),
            links,
            patches: patches.into_iter().map(|(name, ends)| Patch { name, ends }).collect(),
            inside: self.hosts.keys().map(ContainerId::new).collect(),
            ..Desired::nothing(
                "t".to_owned(),
                Scope::Project {
                    places: BTreeSet::from([Place::Engine]),
                    keep: BTreeSet::new(),
                    inner: BTreeSet::new(),
                },
            )
        }
    }

    fn outcome(&mut self, desired: Desired) -> Outcome {
        wire::converge(&mut self.kernel, &desired)
    }

    /// Makes it so; then there must be nothing left to do.
    fn converge(&mut self, yaml: &str) -> Outcome {
        let desired = self.desired(yaml);
        let outcome = self.outcome(desired.clone());
        assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
        let again = plan(&desired, &self.kernel.observe(&desired.looks()).unwrap());
        assert!(again.is_empty(), "a second plan is not empty:\n{again}");
        outcome
    }

    fn index(&self, host: &str, dev: &str) -> String {
        let shown = ip(self.host(host), &format!("-o link show {dev}"));
        shown.split(':').next().unwrap().to_owned()
    }
}

fn network(yaml: &str) -> Network {
    let mut sources = Sources::default();
    let id = sources.add("test.yaml", yaml);
    let (config, found) = load(&sources, &[Input::Network(id)], &BTreeMap::new());
    assert!(found.is_empty(), "{found:?}");
    let defaults = Defaults { project: "t".to_owned(), ..Defaults::default() };
    let (network, found) = resolve(config, Arc::new(sources), defaults);
    assert!(found.is_empty(), "{found:?}");
    network
}

fn ping(netns: &File, addr: &str) {
    // The first question for a neighbour may be lost to a port that is just coming up.
    let again = format!("for try in 1 2 3 4 5; do busybox ping -c1 -W2 {addr} && exit 0; done; exit 1");
    inside(netns, "busybox", &["sh", "-c", &again]);
}

/// `ip -j`'s answer.
fn json(netns: &File, args: &str) -> serde_json::Value {
    serde_json::from_str(&ip(netns, &format!("-j {args}"))).unwrap()
}

#[test]
fn two_hosts_on_a_bridge_reach_each_other() {
    let Some(mut lab) = Lab::new("two hosts", &["a", "b"]) else { return };
    lab.converge(
        "links:
        - {service: a, bridge: lan, ip: [10.0.0.1/24, 'fd00::1/64'], mac: '02:00:00:00:00:0a', mtu: 9000}
        - {service: b, bridge: lan, ip: [10.0.0.2/24, 'fd00::2/64']}",
    );
    let shown = &json(lab.host("a"), "-d link show eth0")[0];
    assert_eq!(shown["address"], "02:00:00:00:00:0a");
    assert_eq!(shown["mtu"], 9000);
    assert_eq!(shown["operstate"], "UP");
    assert_eq!(shown["ifalias"], "conlink:t:a:eth0");
    assert_eq!(shown["group"], "default");
    let outer = &json(&lab.bridges, "-d link show a_1-eth0")[0];
    assert_eq!((outer["master"].as_str(), outer["mtu"].as_u64()), (Some("lan"), Some(9000)));
    assert_eq!(outer["inet6_addr_gen_mode"], "none");
    ping(lab.host("a"), "10.0.0.2");
    ping(lab.host("a"), "fd00::2");
    assert!(inside(lab.host("a"), "ethtool", &["-k", "eth0"]).contains("tx-checksumming: off"));
}

#[test]
fn a_second_run_does_nothing_and_a_change_is_made_in_place() {
    let Some(mut lab) = Lab::new("change in place", &["a"]) else { return };
    let first = "links:
        - service: a
          bridge: lan
          ip: [10.0.0.1/24, 10.0.0.2/24, 'fd00::1/64']
          route: [10.1.0.0/16 via 10.0.0.254, 10.2.0.0/16 via 10.0.0.254, 'fd01::/64 via fd00::9']";
    assert!(lab.converge(first).changed);
    assert!(!lab.converge(first).changed);
    let index = lab.index("a", "eth0");
    ip(lab.host("a"), "addr add 10.0.0.77/24 dev eth0");
    ip(lab.host("a"), "route add 10.7.0.0/16 via 10.0.0.77");
    lab.converge(
        "links:
        - service: a
          bridge: wan
          ip: [10.0.0.2/24, 'fd00::2/64']
          mac: '02:00:00:00:00:05'
          mtu: 1400
          route: [10.1.0.0/16 via 10.0.0.253, 'fd01::/64 via fd00::8']",
    );
    assert_eq!(lab.index("a", "eth0"), index, "the interface was made anew");
    let addrs = ip(lab.host("a"), "-br addr show eth0");
    assert!(addrs.contains("10.0.0.2/24") && addrs.contains("fd00::2/64"), "{addrs}");
    assert!(addrs.contains("10.0.0.77/24"), "what somebody else added is gone: {addrs}");
    assert!(!addrs.contains("10.0.0.1/24") && !addrs.contains("fd00::1/"), "{addrs}");
    let routes = ip(lab.host("a"), "route");
    assert!(routes.contains("10.1.0.0/16 via 10.0.0.253") && routes.contains("10.7.0.0/16"), "{routes}");
    assert!(!routes.contains("10.2.0.0/16"), "{routes}");
    assert!(!ip(&lab.bridges, "link").contains("lan"), "the old bridge is left");
}

#[test]
fn a_route_of_another_program_is_restored_when_ours_is_removed() {
    let Some(mut lab) = Lab::new("foreign routes", &["a"]) else { return };
    let host = lab.host("a").try_clone().unwrap();
    for it in [
        "link add ext0 type veth peer name ext1",
        "addr add 192.0.2.2/24 dev ext0",
        "addr add 2001:db8::2/64 dev ext0 nodad",
        "link set ext1 up",
        "link set ext0 up",
        "route add default via 192.0.2.1 dev ext0 proto static",
        "-6 route add default via 2001:db8::1 dev ext0 metric 1024",
    ] {
        ip(&host, it);
    }
    let routes = || ip(&host, "route show default") + &ip(&host, "-6 route show default");
    let before = routes();
    lab.converge(
        "links: [{service: a, bridge: lan, ip: [10.0.0.1/24, 'fd00::1/64'], \
          route: [default via 10.0.0.254, 'default via fd00::fe']}]",
    );
    assert!(ip(&host, "route get 198.51.100.1").contains("via 10.0.0.254"), "{}", routes());
    assert!(ip(&host, "route get 2001:db8:1::1").contains("via fd00::fe"), "{}", routes());
    lab.converge("links: []");
    assert_eq!(routes(), before);
}

#[test]
fn one_invalid_route_does_not_break_a_running_link() {
    let Some(mut lab) = Lab::new("bad route", &["a", "b"]) else { return };
    let links = |route: &str| {
        format!(
            "links: [{{service: a, bridge: lan, ip: 10.0.0.1/24{route}}}, {{service: b, bridge: lan, ip: 10.0.0.2/24}}]"
        )
    };
    lab.converge(&links(""));
    let index = lab.index("a", "eth0");
    let bad = links(", route: [10.8.0.0/16, 10.1.0.0/16 via 10.9.9.9]");
    // The error points at the route.
    let place = format!("test.yaml:1:{}", bad.find("10.1.0.0").unwrap() + 1);
    for _ in 0..2 {
        let desired = lab.desired(&bad);
        let outcome = lab.outcome(desired);
        assert_eq!(outcome.failures.len(), 1, "{:?}", outcome.failures);
        assert_eq!(outcome.failures[0].origin.as_ref(), Some(&place));
        assert_eq!(lab.index("a", "eth0"), index);
        ping(lab.host("a"), "10.0.0.2");
    }
}

#[test]
fn a_required_link_is_all_or_nothing() {
    let Some(mut lab) = Lab::new("required", &["a"]) else { return };
    let bad = "route: 10.1.0.0/16 via 10.9.9.9";
    let link =
        |more: &str| format!("links: [{{service: a, bridge: lan, ip: 10.0.0.1/24, {more}required: true}}]");
    let desired = lab.desired(&link(&format!("{bad}, ")));
    assert_eq!(lab.outcome(desired).failures.len(), 1);
    assert!(!ip(lab.host("a"), "-br link").contains("eth0"), "the link is half there");
    // What its driver holds fixed shows only once the interface is there.
    let desired = lab.desired(&link("ethtool: -K hw-tc-offload on, "));
    assert_eq!(lab.outcome(desired).failures.len(), 1);
    assert!(!ip(lab.host("a"), "-br link").contains("eth0"), "the link is half there");
    // One that is there stays as it was.
    lab.converge(&link(""));
    let before = (lab.index("a", "eth0"), ip(lab.host("a"), "-br addr show eth0"));
    let desired = lab
        .desired(&link(&format!("mtu: 1300, {bad}, ")).replace("10.0.0.1/24", "[10.0.0.1/24, 10.0.0.7/24]"));
    assert_eq!(lab.outcome(desired).failures.len(), 1);
    assert_eq!((lab.index("a", "eth0"), ip(lab.host("a"), "-br addr show eth0")), before);
    assert!(ip(lab.host("a"), "link show eth0").contains("mtu 65535"));
}

#[test]
fn an_interface_that_appears_after_the_plan_is_not_deleted() {
    let Some(mut lab) = Lab::new("eexist", &["a"]) else { return };
    let desired = lab.desired("links: [{service: a, bridge: lan, dev: eth59}]");
    let mut world =
        Intruder { kernel: &mut lab.kernel, netns: lab.hosts["a"].try_clone().unwrap(), done: false };
    let outcome = wire::converge(&mut world, &desired);
    assert!(!outcome.failures.is_empty());
    assert!(ip(lab.host("a"), "-br link").contains("eth59"));
}

/// Makes an interface of the link's name right before the link is made.
struct Intruder<'a> {
    kernel: &'a mut Kernel,
    netns: File,
    done: bool,
}

impl wire::World for Intruder<'_> {
    fn observe(
        &mut self,
        looks: &BTreeMap<conlink::plan::Ns, conlink::plan::Look>,
    ) -> Result<conlink::plan::Observed, conlink::kernel::Error> {
        self.kernel.observe(looks)
    }

    fn apply(&mut self, step: &conlink::plan::Step) -> Result<(), conlink::kernel::Error> {
        if matches!(step, conlink::plan::Step::AddVeth { .. }) && !std::mem::replace(&mut self.done, true) {
            ip(&self.netns, "link add eth59 type veth peer name peer59");
        }
        self.kernel.apply(step)
    }

    fn del_interfaces(
        &mut self,
        ns: &conlink::plan::Ns,
        names: &[&conlink::addr::IfName],
    ) -> Result<(), conlink::kernel::Error> {
        self.kernel.del_interfaces(ns, names)
    }
}

#[test]
fn every_form_of_route_reads_back() {
    let Some(mut lab) = Lab::new("routes", &["a"]) else { return };
    let routes = [
        "default via 10.0.0.254",
        "10.1.0.0/16 via 10.0.0.254 src 10.0.0.1 metric 77 table 200",
        "10.2.0.0/16 via 10.0.0.254 table 100000",
        "10.3.0.0/16 scope link",
        "10.4.0.0/16 via 192.0.2.1 onlink",
        "10.5.0.0/16 via 10.0.0.254 mtu 1300 advmss 1200",
        "blackhole 10.6.0.0/16",
        "prohibit 10.7.0.0/16 metric 5",
        "unreachable 10.8.0.0/16",
        "throw 10.9.0.0/16 table 200",
        "10.10.0.0/16 via inet6 fe80::1",
        "10.11.0.0/16 nexthop via 10.0.0.251 nexthop via 10.0.0.252 weight 3",
        "10.12.0.0/16 proto static via 10.0.0.254",
        "10.13.0.1 via 10.0.0.254",
        "10.14.0.0/16 tos CS1 via 10.0.0.253",
        "10.14.0.0/16 tos AF11 via 10.0.0.254",
        "10.14.0.0/16 via 10.0.0.254",
        "10.15/16 mtu lock 1300 window 9000 hoplimit 3 initcwnd 20 initrwnd lock 30 via 10.0.0.254",
        "10.16.0.0/16 ssthresh 9 cwnd lock 7 advmss lock 1200 reordering 5 quickack 1 via 10.0.0.254",
        "10.17.0.0/16 nexthop dev eth0 nexthop via 10.0.0.252",
        "10.18.0.0/16 nexthop dev eth0",
        "default via fd00::254",
        "fd01::/64 via fe80::1 metric 5",
        "fd02::/64 via fd00::254 mtu 1300 table 200",
        "unreachable fd03::/64",
        "blackhole fd04::/64",
        "fd05::/64 nexthop via fd00::251 nexthop via fd00::252",
        "fd06::/64",
        "fd07::/64 nexthop dev eth0",
        "fd08::/64 mtu lock 1300 hoplimit 9 initcwnd 20 via fd00::254",
    ];
    let list: Vec<String> = routes.iter().map(|it| format!("'{it}'")).collect();
    let yaml = format!(
        "links: [{{service: a, bridge: lan, ip: [10.0.0.1/24, 'fd00::1/64'], route: [{}]}}]",
        list.join(", ")
    );
    lab.converge(&yaml);
    assert!(!lab.converge(&yaml).changed);
    // Names of numbers are files of iproute2, which not every system has.
    let shown = ip(lab.host("a"), "-N route show proto 194");
    for line in [
        "10.14.0.0/16 tos 0x20 via 10.0.0.253 dev eth0 ",
        "10.14.0.0/16 tos 0x28 via 10.0.0.254 dev eth0 ",
        "10.15.0.0/16 via 10.0.0.254 dev eth0 mtu lock 1300 window 9000 hoplimit 3 initcwnd 20 initrwnd lock 30 ",
        "10.16.0.0/16 via 10.0.0.254 dev eth0 ssthresh 9 cwnd lock 7 advmss lock 1200 reordering 5 quickack 1 ",
        "10.18.0.0/16 dev eth0 ",
    ] {
        assert!(shown.lines().any(|it| format!("{it} ").starts_with(line)), "{line} in {shown}");
    }
    assert!(shown.contains("\tnexthop dev eth0 weight 1"), "{shown}");
    // Without them nothing of ours is left; the one of protocol static is the user's to remove.
    lab.converge("links: [{service: a, bridge: lan, ip: [10.0.0.1/24, 'fd00::1/64']}]");
    let left: Vec<String> = ["-4", "-6"]
        .iter()
        .flat_map(|it| {
            ip(lab.host("a"), &format!("{it} route show table all proto 194"))
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_patch_passes_every_frame_unchanged_both_ways() {
    let Some(mut lab) = Lab::new("patch", &["a", "b"]) else { return };
    let patch = "links:
        - {service: a, bridge: x}
        - {service: b, bridge: x}
        bridges: [{bridge: x, mode: patch}]"
        .replace("\n        bridges", "\nbridges");
    lab.converge(&patch);
    let group = |last: u8| [0x01, 0x80, 0xc2, 0, 0, last];
    let mut frames = Vec::new();
    // STP, pause, LACP, 802.1X and LLDP: what a bridge keeps to itself.
    for (last, ether_type) in
        [(0x00, 0x0026_u16), (0x01, 0x8808), (0x02, 0x8809), (0x03, 0x888e), (0x0e, 0x88cc)]
    {
        let mut frame = group(last).to_vec();
        frame.extend([2, 0, 0, 0, 0, 9]);
        frame.extend(ether_type.to_be_bytes());
        frame.extend((0..90).map(|it| it ^ last));
        frames.push(frame);
    }
    for (from, to) in [("a", "b"), ("b", "a")] {
        let receiver = Packet::open(lab.host(to));
        let sender = Packet::open(lab.host(from));
        for frame in &frames {
            sender.send(frame);
            assert_eq!(&receiver.receive(frame), frame, "from {from} to {to}");
        }
    }
    // To a bridge and back again, in place.
    let index = lab.index("a", "eth0");
    lab.converge(
        "links: [{service: a, bridge: x, ip: 10.0.0.1/24}, {service: b, bridge: x, ip: 10.0.0.2/24}]",
    );
    ping(lab.host("a"), "10.0.0.2");
    lab.converge(&patch);
    assert_eq!(lab.index("a", "eth0"), index);
}

#[test]
fn lldp_passes_a_bridge_only_with_its_mask() {
    let Some(mut lab) = Lab::new("lldp", &["a", "b"]) else { return };
    let frame = |last: u8, ether_type: u16, text: &[u8]| {
        let mut frame = vec![0x01, 0x80, 0xc2, 0, 0, last, 2, 0, 0, 0, 0, 9];
        frame.extend(ether_type.to_be_bytes());
        frame.extend(text);
        frame.resize(60, 0);
        frame
    };
    // To a group that every bridge forwards, last: what was sent before it has come by then, or never will.
    let marker = {
        let mut marker = frame(0, 0x1234, b"marker");
        marker[..6].copy_from_slice(&[0x01, 0, 0x5e, 0, 0, 0x7b]);
        marker
    };
    for (options, passes) in [("", false), (", group-fwd-mask: 0x4000", true), ("", false)] {
        // A mask that is no longer given stays as it is: so the bridge is another one each time.
        lab.converge("links: []");
        lab.converge(&format!(
            "links: [{{service: a, bridge: lan}}, {{service: b, bridge: lan}}]\nbridges: [{{bridge: lan{options}}}]"
        ));
        let receiver = Packet::open(lab.host("b"));
        let sender = Packet::open(lab.host("a"));
        // A port that is just coming up drops what it is given.
        for _ in 0..20 {
            sender.send(&marker);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        receiver.receive(&marker);
        sender.send(&frame(0x0e, 0x88cc, b"lldp"));
        sender.send(&frame(0x02, 0x8809, b"lacp"));
        let mut last = marker.clone();
        last[20] = 1;
        sender.send(&last);
        let mut seen = Vec::new();
        loop {
            let it = receiver.next();
            if it[..6] == [0x01, 0x80, 0xc2, 0, 0, 0x0e] || it[..6] == [0x01, 0x80, 0xc2, 0, 0, 2] {
                seen.push(it[5]);
            }
            if it == last {
                break;
            }
        }
        assert_eq!(seen, if passes { vec![0x0e] } else { Vec::new() }, "{options}");
    }
}

/// A raw socket on eth0 of a namespace.
struct Packet {
    socket: std::os::fd::OwnedFd,
}

impl Packet {
    fn open(space: &File) -> Self {
        use nix::sys::socket::{
            AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, SockaddrLike, bind, setsockopt,
            socket, sockopt,
        };
        use std::os::fd::AsRawFd;
        let socket = netns::inside(space, || {
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
            let mut addr: libc::sockaddr_ll = unsafe_zeroed();
            addr.sll_family = libc::AF_PACKET as u16;
            addr.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            addr.sll_ifindex = nix::net::if_::if_nametoindex("eth0")?.cast_signed();
            let addr = link_addr(&addr);
            bind(socket.as_raw_fd(), &addr)?;
            Ok(socket)
        })
        .unwrap();
        setsockopt(&socket, sockopt::ReceiveTimeout, &nix::sys::time::TimeVal::new(2, 0)).unwrap();
        let _ = LinkAddr::size();
        Self { socket }
    }

    fn send(&self, frame: &[u8]) {
        assert_eq!(nix::unistd::write(&self.socket, frame).unwrap(), frame.len());
    }

    /// The next frame to the same address, within two seconds.
    fn receive(&self, like: &[u8]) -> Vec<u8> {
        loop {
            let frame = self.next();
            if frame[..6] == like[..6] {
                return frame;
            }
        }
    }

    /// The next frame, within two seconds.
    fn next(&self) -> Vec<u8> {
        let mut buffer = vec![0; 2000];
        let length = nix::unistd::read(&self.socket, &mut buffer).expect("no frame arrives");
        buffer.truncate(length);
        buffer
    }
}

#[expect(unsafe_code, reason = "nix makes addresses of packet sockets from raw ones alone")]
fn link_addr(addr: &libc::sockaddr_ll) -> nix::sys::socket::LinkAddr {
    use nix::sys::socket::SockaddrLike;
    // SAFETY: the pointer is to a sockaddr_ll of that size.
    unsafe {
        nix::sys::socket::LinkAddr::from_raw(std::ptr::from_ref(addr).cast(), Some(size_of_val(addr) as u32))
    }
    .unwrap()
}

#[expect(unsafe_code, reason = "sockaddr_ll has padding and no constructor")]
fn unsafe_zeroed() -> libc::sockaddr_ll {
    // SAFETY: all of its members may be zero bytes.
    unsafe { std::mem::zeroed() }
}

#[test]
fn bridge_options_are_set_changed_and_reset() {
    let Some(mut lab) = Lab::new("bridge options", &["a"]) else { return };
    let bridge = |options: &str| {
        format!("links: [{{service: a, bridge: lan}}]\nbridges: [{{bridge: lan, {options}}}]")
    };
    lab.converge(&bridge(
        "stp: true, mcast-snooping: false, group-fwd-mask: 0x4000, mtu: 1400, ageing-time: 60, forward-delay: 4",
    ));
    let shown = json(&lab.bridges, "-d link show lan")[0].clone();
    let data = &shown["linkinfo"]["info_data"];
    assert_eq!((data["stp_state"].as_u64(), data["mcast_snooping"].as_u64()), (Some(1), Some(0)));
    assert_eq!((data["ageing_time"].as_u64(), data["forward_delay"].as_u64()), (Some(6000), Some(400)));
    assert_eq!((shown["mtu"].as_u64(), data["group_fwd_mask"].as_str()), (Some(1400), Some("0x4000")));
    let index = shown["ifindex"].clone();
    lab.converge(&bridge("stp: false, mcast-snooping: true, mtu: 1300"));
    let shown = json(&lab.bridges, "-d link show lan")[0].clone();
    assert_eq!(shown["ifindex"], index);
    // What is not given any more is as the kernel makes it.
    let data = &shown["linkinfo"]["info_data"];
    assert_eq!((data["ageing_time"].as_u64(), data["forward_delay"].as_u64()), (Some(30000), Some(1500)));
    assert_eq!(data["group_fwd_mask"].as_str(), Some("0"));
    let desired = lab.desired(&bridge("vlan-filtering: true"));
    let outcome = lab.outcome(desired);
    match outcome.failures.as_slice() {
        [] => {}
        [it] if it.message.contains("os error 95") => skip("bridge vlan-filtering", "the kernel has none"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn stacked_interfaces_are_made_on_a_parent_in_another_namespace() {
    let Some(mut lab) = Lab::new("stacked", &["a", "b"]) else { return };
    // The engine's own namespace stands for the host's: tests do not touch that one.
    ip(&lab.bridges, "link add par0 mtu 1600 type veth peer name par1");
    ip(&lab.bridges, "link set par0 up");
    ip(&lab.bridges, "link set par1 up");
    // Two of a kind reach each other through their parent, but for those that only hand frames to a program, and for
    // VLANs, of which a parent has each id once.
    for (kind, other, reach) in [
        ("macvlan, mode: bridge", "macvlan, mode: bridge", true),
        ("macvtap, mode: bridge", "macvtap, mode: bridge", false),
        ("vlan, vlanid: 7", "vlan, vlanid: 8", false),
        ("ipvlan, mode: l2", "ipvlan, mode: l2", true),
        ("ipvtap", "ipvtap", false),
    ] {
        let yaml = format!(
            "links:
            - {{service: a, type: {kind}, base: conlink, outer-dev: par0, ip: 10.0.0.1/24, mtu: 1450}}
            - {{service: b, type: {other}, base: conlink, outer-dev: par0, ip: 10.0.0.2/24}}"
        );
        let desired = lab.desired(&yaml);
        let outcome = lab.outcome(desired);
        if outcome.failures.iter().any(|it| it.message.contains("Operation not supported")) {
            skip(kind, "the kernel has no such type of interface");
            continue;
        }
        lab.converge(&yaml);
        if reach {
            ping(lab.host("a"), "10.0.0.2");
        }
        let shown = json(lab.host("a"), "link show eth0");
        assert_eq!(
            (shown[0]["mtu"].as_u64(), shown[0]["ifalias"].as_str()),
            (Some(1450), Some("conlink:t:a:eth0 mtu"))
        );
        lab.converge("links: []");
        assert!(!ip(lab.host("a"), "link").contains("eth0"));
    }
    let desired = lab.desired(
        "links: [{service: a, type: macvlan, base: conlink, outer-dev: par0, mtu: 1601},
        {service: b, type: macvlan, base: conlink, outer-dev: nowhere}]",
    );
    let failures = lab.outcome(desired).failures;
    let messages: Vec<&str> = failures.iter().map(|it| it.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "mtu 1601 is greater than the mtu 1600 of the parent interface `par0`",
            "parent interface `nowhere` does not exist (bridges)"
        ]
    );
    let desired = lab.desired("links: [{service: a, type: dummy, dev: d0, ip: 10.3.0.1/32}]");
    match lab.outcome(desired).failures.as_slice() {
        [] => assert!(ip(lab.host("a"), "addr show d0").contains("10.3.0.1/32")),
        _ => skip("dummy", "the kernel has no such type of interface"),
    }
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let Some(mut lab) = Lab::new("foreign", &["a"]) else { return };
    ip(&lab.bridges, "link add lan type bridge");
    ip(&lab.bridges, "link add a_1-eth1 type bridge");
    ip(lab.host("a"), "link add eth0 type bridge");
    let before = (ip(&lab.bridges, "-d link"), ip(lab.host("a"), "-d link"));
    let desired = lab.desired("links: [{service: a, bridge: lan}, {service: a, bridge: lan, dev: eth1}]");
    let outcome = lab.outcome(desired);
    assert_eq!(outcome.failures.len(), 3, "{:?}", outcome.failures);
    assert!(!outcome.changed);
    assert_eq!((ip(&lab.bridges, "-d link"), ip(lab.host("a"), "-d link")), before);
}

#[test]
fn unfinished_interfaces_of_a_killed_engine_are_finished_or_removed() {
    let Some(mut lab) = Lab::new("half made", &["a", "b"]) else { return };
    let yaml = "links: [{service: a, bridge: lan, ip: 10.0.0.1/24}, {service: b, bridge: lan}]";
    let desired = lab.desired(yaml);
    let observed = lab.kernel.observe(&desired.looks()).unwrap();
    let steps: Vec<_> = plan(&desired, &observed).groups.into_iter().flat_map(|it| it.steps).collect();
    // A kill after each step in turn, and a start after it.
    for count in 0..=steps.len() {
        for step in &steps[..count] {
            lab.kernel.apply(step).unwrap();
        }
        lab.converge(yaml);
        assert_eq!(lab.converge("links: []").failures, []);
        for netns in [&lab.bridges, lab.host("a"), lab.host("b")] {
            let left = ip(netns, "-br link");
            assert_eq!(left.lines().count(), 1, "after {count} steps: {left}");
        }
    }
}

#[test]
fn a_container_that_dies_during_the_wiring_is_no_error_of_others() {
    let Some(mut lab) = Lab::new("dead namespace", &["a", "b"]) else { return };
    let desired =
        lab.desired("links: [{service: a, bridge: lan, ip: 10.0.0.1/24}, {service: b, bridge: lan}]");
    lab.kernel.detach(&ContainerId::new("b"));
    let outcome = lab.outcome(desired);
    let said: Vec<String> =
        outcome.failures.iter().map(|it| format!("{}: {}", it.subject, it.message)).collect();
    assert_eq!(said, ["link b:eth0: the container's network namespace no longer exists"]);
    assert!(ip(lab.host("a"), "-br addr").contains("10.0.0.1/24"));
}

#[test]
fn hundreds_of_interfaces_are_observed_and_deleted_at_once() {
    let Some(mut lab) = Lab::new("many", &["a"]) else { return };
    let links: Vec<String> = (0..300).map(|it| format!("{{service: a, bridge: lan, dev: e{it}}}")).collect();
    lab.converge(&format!("links: [{}]", links.join(", ")));
    assert_eq!(ip(lab.host("a"), "-br link").lines().count(), 301);
    lab.converge("links: []");
    assert_eq!(ip(lab.host("a"), "-br link").lines().count(), 1);
    assert_eq!(ip(&lab.bridges, "-br link").lines().count(), 1);
}

#[test]
fn the_error_contains_the_kernels_message() {
    let Some(mut lab) = Lab::new("errors", &["a"]) else { return };
    let desired =
        lab.desired("links: [{service: a, bridge: lan, ip: 10.0.0.1/24, route: 10.1.0.0/16 via 10.9.9.9}]");
    let failures = lab.outcome(desired).failures;
    let said: Vec<String> = failures.iter().map(|it| format!("{}: {}", it.subject, it.message)).collect();
    assert_eq!(
        said,
        ["link a:eth0: add route 10.1.0.0/16 via 10.9.9.9 dev eth0: Network is unreachable (os error 101): \
          Nexthop has invalid gateway"]
    );
    assert!(ip(lab.host("a"), "-br addr").contains("10.0.0.1/24"), "the rest of the link is not there");
}
