//! The effect of every property of links and tunnels on traffic.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use conlink::kernel::netns;

use crate::netns::engine::{Engine, assert_same};
use crate::netns::{json, ping};
use crate::support::{inside, ip, skip, succeeds};

/// Has this kernel network emulation?
pub(super) fn has_netem(test: &str) -> bool {
    let netns = netns::anonymous().unwrap();
    let has = succeeds(&netns, "tc", "qdisc add dev lo root netem delay 1ms");
    if !has {
        skip(test, "the kernel has no netem");
    }
    has
}

/// Each line is what follows `ip`.
fn ips(netns: &File, lines: &str) {
    for it in lines.lines().map(str::trim).filter(|it| !it.is_empty()) {
        ip(netns, it);
    }
}

/// How `ip link … netns` names a namespace that has no name.
fn path(netns: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd())
}

/// Has this kernel interfaces of that type?
pub(super) fn has_kind(kind: &str) -> bool {
    let netns = netns::anonymous().unwrap();
    ip(&netns, "link add p type veth peer q");
    let has = match kind {
        "dummy" => succeeds(&netns, "ip", "link add x type dummy"),
        "vxlan" => succeeds(&netns, "ip", "link add x type vxlan id 1 remote 127.0.0.1 dstport 9"),
        "geneve" => succeeds(&netns, "ip", "link add x type geneve id 1 remote 127.0.0.1"),
        "vlan" => succeeds(&netns, "ip", "link add link p name x type vlan id 5"),
        _ => succeeds(&netns, "ip", &format!("link add link p name x type {kind}")),
    };
    if !has {
        skip(kind, "the kernel has no such type of interface");
    }
    has
}

pub(super) fn index(netns: &File, dev: &str) -> u64 {
    json(netns, &format!("link show {dev}"))[0]["ifindex"].as_u64().unwrap()
}

fn udp(netns: &File, addr: &str) -> UdpSocket {
    let socket = netns::inside(netns, || UdpSocket::bind(addr)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

#[test]
fn every_property_is_wired_changed_in_place_and_removed_without_a_trace() {
    let Some(mut engine) = Engine::new("every property", &["a-1"]) else { return };
    let before = engine.snapshot();
    let netem = has_netem("netem among every property");
    let text = |delay: &str,
                ip: &str,
                mac: &str,
                mtu: u32,
                route: &str,
                nat: &str,
                port: u16,
                gro: &str,
                bridge: &str| {
        let (out, arriving) = if netem {
            (format!("netem: '{delay}', "), format!("netem-in: [{delay}, limit 99], "))
        } else {
            (String::new(), String::new())
        };
        format!(
            "links:\n- {{service: a, bridge: {bridge}, dev: eth0, ip: [{ip}, 'fd00::5/64'], mac: '{mac}', mtu: {mtu}, \
             route: ['{route}', 'blackhole 192.0.2.0/24'], nat: {nat}, {out}{arriving}forward: '{port}:80/tcp', \
             ethtool: ['--offload gro {gro}', '-K rx {gro}']}}\n\
             bridges:\n- {{bridge: s1, mode: linux, group-fwd-mask: 0x4000, ageing-time: 10}}\n- {{bridge: s2, mode: linux}}\n"
        )
    };
    let first = || {
        text(
            "delay 1ms 100us distribution pareto loss 1%",
            "10.0.0.5/24",
            "02:00:00:00:00:05",
            1400,
            "10.9.0.0/16 via 10.0.0.9",
            "127.0.0.1",
            8080,
            "on",
            "s1",
        )
    };
    engine.wire(&first());
    let inner = index(engine.netns("a-1"), "eth0");
    let outer = index(&engine.bridges, "a_1-eth0");
    let base = [
        "delay 1ms 100us distribution pareto loss 1%",
        "10.0.0.5/24",
        "02:00:00:00:00:05",
        "1400",
        "10.9.0.0/16 via 10.0.0.9",
        "127.0.0.1",
        "8080",
        "on",
        "s1",
    ];
    // Each property alone, then all of them back at once.
    let others = [
        "delay 1ms 100us distribution normal loss 2% 10% rate 1gbit",
        "10.0.0.6/24",
        "02:00:00:00:00:06",
        "1300",
        "10.8.0.0/16 via 10.0.0.8",
        "10.0.0.7",
        "8081",
        "off",
        "s2",
    ];
    for at in 0..base.len() {
        let mut it = base;
        it[at] = others[at];
        let [delay, ip, mac, mtu, route, nat, port, gro, bridge] = it;
        let yaml = text(delay, ip, mac, mtu.parse().unwrap(), route, nat, port.parse().unwrap(), gro, bridge);
        engine.wire(&yaml);
        assert_eq!(index(engine.netns("a-1"), "eth0"), inner, "{yaml}");
        assert_eq!(index(&engine.bridges, "a_1-eth0"), outer, "{yaml}");
    }
    engine.wire(&first());
    assert_eq!(index(engine.netns("a-1"), "eth0"), inner);
    let shown = engine.snapshot();
    for it in [
        "10.9.0.0/16 via 10.0.0.9",
        "blackhole 192.0.2.0/24",
        "dnat ip to 127.0.0.1",
        "snat ip to 10.0.0.5",
        "tcp dport 8080",
        "02:00:00:00:00:05",
        "mtu 1400",
        "group_fwd_mask 0x4000",
    ] {
        assert!(shown.contains(it), "{it} is not in\n{shown}");
    }
    if netem {
        let qdisc = inside(engine.netns("a-1"), "tc", &["qdisc", "show", "dev", "eth0"]);
        assert!(
            qdisc.contains("netem") && qdisc.contains("delay 1ms  ") && qdisc.contains("loss 1%"),
            "{qdisc}"
        );
        let qdisc = inside(&engine.bridges, "tc", &["qdisc", "show", "dev", "a_1-eth0"]);
        assert!(qdisc.contains("limit 99"), "{qdisc}");
    }
    engine.wire("links: []");
    assert_same(&engine.snapshot(), &before);
}

#[test]
fn a_delay_is_added_on_the_way_out_and_on_the_way_in() {
    let Some(mut engine) = Engine::new("netem delay", &["a-1", "b-1"]) else { return };
    if !has_netem("netem delay") {
        return;
    }
    let yaml = |netem: &str| {
        format!(
            "links:\n- {{service: a, bridge: s, ip: 10.0.0.1/24{netem}}}\n- {{service: b, bridge: s, ip: 10.0.0.2/24}}\n"
        )
    };
    let round_trip = |engine: &Engine| {
        let (a, b) = (udp(engine.netns("a-1"), "10.0.0.1:7000"), udp(engine.netns("b-1"), "10.0.0.2:7000"));
        let once = || {
            let begin = Instant::now();
            a.send_to(b"?", "10.0.0.2:7000").unwrap();
            let (_, from) =
                b.recv_from(&mut [0; 9]).unwrap_or_else(|error| panic!("{error}: {}", engine.shaped()));
            b.send_to(b"!", from).unwrap();
            a.recv(&mut [0; 9]).unwrap();
            begin.elapsed()
        };
        // Neighbours are known by then.
        ping(engine.netns("a-1"), "10.0.0.2");
        (0..3).map(|_| once()).min().unwrap()
    };
    engine.wire(&yaml(""));
    let plain = round_trip(&engine);
    for (netem, at_least) in [
        (", netem: delay 300ms", 300),
        (", netem-in: delay 300ms", 300),
        (", netem: delay 200ms, netem-in: delay 150ms", 350),
    ] {
        engine.wire(&yaml(netem));
        let took = round_trip(&engine);
        let expected = Duration::from_millis(at_least);
        assert!(
            took >= expected && took < expected + plain + Duration::from_millis(250),
            "{netem}: {took:?}, without {plain:?}"
        );
    }
    engine.wire(&yaml(""));
    assert!(round_trip(&engine) < Duration::from_millis(200));
}

#[test]
fn packets_are_lost_at_the_rate_given() {
    let Some(mut engine) = Engine::new("netem loss", &["a-1", "b-1"]) else { return };
    if !has_netem("netem loss") {
        return;
    }
    let yaml = "links:\n- {service: a, bridge: s, ip: 10.0.0.1/24, netem: [limit 5000, loss 30%]}\n- {service: b, bridge: s, ip: 10.0.0.2/24}\n";
    engine.wire(yaml);
    // Neighbours are known beforehand: their questions could be lost too.
    let mac = json(engine.netns("b-1"), "link show eth0")[0]["address"].as_str().unwrap().to_owned();
    ip(engine.netns("a-1"), &format!("neigh add 10.0.0.2 lladdr {mac} dev eth0"));
    let (a, b) = (udp(engine.netns("a-1"), "10.0.0.1:7000"), udp(engine.netns("b-1"), "10.0.0.2:7000"));
    b.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut received = 0;
    for _ in 0..40 {
        for _ in 0..50 {
            a.send_to(b"x", "10.0.0.2:7000").unwrap();
        }
        b.set_nonblocking(true).unwrap();
        while b.recv(&mut [0; 9]).is_ok() {
            received += 1;
        }
        b.set_nonblocking(false).unwrap();
    }
    while b.recv(&mut [0; 9]).is_ok() {
        received += 1;
    }
    // 1400 of 2000 is expected; six standard deviations are 123.
    assert!((1277..=1523).contains(&received), "{received} of 2000");
}

#[test]
fn a_rate_limits_outgoing_traffic() {
    let Some(mut engine) = Engine::new("netem rate", &["a-1", "b-1"]) else { return };
    if !has_netem("netem rate") {
        return;
    }
    engine.wire("links:\n- {service: a, bridge: s, ip: 10.0.0.1/24, netem: rate 800kbit}\n- {service: b, bridge: s, ip: 10.0.0.2/24}\n");
    let (a, b) = (udp(engine.netns("a-1"), "10.0.0.1:7000"), udp(engine.netns("b-1"), "10.0.0.2:7000"));
    a.send_to(b"first", "10.0.0.2:7000").unwrap();
    b.recv(&mut [0; 9]).unwrap();
    let begin = Instant::now();
    for _ in 0..50 {
        a.send_to(&[7; 958], "10.0.0.2:7000").unwrap();
    }
    for _ in 0..50 {
        b.recv(&mut [0; 1000]).unwrap();
    }
    // 50 frames of 1000 bytes at 100000 bytes a second.
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(440) && took < Duration::from_millis(1200), "{took:?}");
}

#[test]
fn nat_sends_arriving_packets_to_its_address_and_translates_answers() {
    let Some(mut engine) = Engine::new("nat", &["a-1", "b-1"]) else { return };
    let yaml = "links:\n- {service: a, bridge: s, ip: [10.0.0.1/24, 'fd00::1/64'], nat: 10.5.5.5}\n\
         - {service: b, bridge: s, ip: [10.0.0.2/24, 'fd00::2/64']}\n";
    ip(engine.netns("a-1"), "addr add 10.5.5.5/32 dev lo");
    engine.wire(yaml);
    let (a, b) = (engine.netns("a-1"), engine.netns("b-1"));
    ping(b, "10.0.0.1");
    // The service listens on the inner address alone.
    let server = udp(a, "10.5.5.5:53");
    let client = udp(b, "10.0.0.2:0");
    client.send_to(b"?", "10.0.0.1:53").unwrap();
    let (_, from) = server.recv_from(&mut [0; 9]).unwrap();
    assert_eq!(from.ip(), IpAddr::from(Ipv4Addr::new(10, 0, 0, 2)));
    server.send_to(b"!", from).unwrap();
    let (_, from) = client.recv_from(&mut [0; 9]).unwrap();
    assert_eq!(from, "10.0.0.1:53".parse().unwrap());
    // What leaves by the link on its own account has the link's address too.
    let server = udp(b, "10.0.0.2:99");
    udp(a, "10.5.5.5:0").send_to(b"x", "10.0.0.2:99").unwrap();
    assert_eq!(server.recv_from(&mut [0; 9]).unwrap().1.ip(), IpAddr::from(Ipv4Addr::new(10, 0, 0, 1)));
}

/// A client beyond an uplink of the bridges' namespace, as a container engine's network is.
fn uplink(engine: &Engine) -> File {
    let client = netns::anonymous().unwrap();
    ip(&client, "link set lo up");
    ips(
        &engine.bridges,
        &format!(
            "link add up0 type veth peer up1 netns {}
            addr add 172.30.0.2/24 dev up0
            addr add fd30::2/64 dev up0 nodad
            link set up0 up",
            path(&client)
        ),
    );
    ips(&client, "addr add 172.30.0.1/24 dev up1\naddr add fd30::1/64 dev up1 nodad\nlink set up1 up");
    client
}

pub(super) fn echo_tcp(server: &TcpListener, client: &File, to: &str) -> SocketAddr {
    let to: SocketAddr = to.parse().unwrap();
    std::thread::scope(|scope| {
        let peer = scope.spawn(|| {
            let (mut stream, peer) = server.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            stream.write_all(text.to_uppercase().as_bytes()).unwrap();
            peer
        });
        let connect = || TcpStream::connect_timeout(&to, Duration::from_secs(10));
        let mut stream = netns::inside(client, connect).unwrap();
        stream.write_all(b"hello").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "HELLO");
        peer.join().unwrap()
    })
}

#[test]
fn ports_are_forwarded_to_each_replica_without_a_route_of_its_own() {
    let Some(mut engine) = Engine::new("forward", &["web-1", "web-2", "other-1"]) else { return };
    let client = uplink(&engine);
    let before = engine.snapshot();
    let yaml = "links:\n- {service: web, bridge: s, ip: [10.0.0.1/24, 'fd00::1/64'], forward: [8080:80/tcp, 5353:53/udp]}\n\
        - {service: other, bridge: t, ip: 10.0.1.1/24, forward: 9000:80/tcp}\n";
    engine.wire(yaml);
    for (name, port, addr) in
        [("web-1", 8080, "10.0.0.1"), ("web-2", 8081, "10.0.0.2"), ("other-1", 9000, "10.0.1.1")]
    {
        let server = netns::inside(engine.netns(name), || TcpListener::bind("[::]:80")).unwrap();
        let peer = echo_tcp(&server, &client, &format!("172.30.0.2:{port}"));
        // Whoever asked: the container sees an address that it has a route to.
        let IpAddr::V4(peer) = peer.ip().to_canonical() else { panic!("{peer}") };
        assert!(peer.is_link_local(), "{name} at {addr} was asked by {peer}");
        if name != "other-1" {
            echo_tcp(&server, &client, &format!("[fd30::2]:{port}"));
        }
    }
    for (name, port) in [("web-1", 5353), ("web-2", 5354)] {
        let (server, socket) = (udp(engine.netns(name), "0.0.0.0:53"), udp(&client, "172.30.0.1:0"));
        socket.send_to(b"?", format!("172.30.0.2:{port}")).unwrap();
        let (_, from) = server.recv_from(&mut [0; 9]).unwrap();
        server.send_to(b"!", from).unwrap();
        assert_eq!(socket.recv_from(&mut [0; 9]).unwrap().1.port(), port);
    }
    // Containers reach each other without any of it.
    let server = netns::inside(engine.netns("web-1"), || TcpListener::bind("10.0.0.1:80")).unwrap();
    let peer = echo_tcp(&server, engine.netns("web-2"), "10.0.0.1:80");
    assert_eq!(peer.ip().to_string(), "10.0.0.2");
    // Fewer, then none.
    engine
        .wire("links:\n- {service: web, bridge: s, ip: [10.0.0.1/24, 'fd00::1/64'], forward: 8080:80/tcp}\n");
    let rules = inside(&engine.bridges, "nft", &["list", "ruleset"]);
    assert!(rules.contains("8081") && !rules.contains("9000") && !rules.contains("5353"), "{rules}");
    engine.wire("links: []");
    // A namespace that passes packets on has addresses of routers, and stays one.
    let after = engine.snapshot();
    let after: Vec<&str> = after.lines().filter(|it| !it.starts_with("anycast ")).collect();
    assert_same(&after.join("\n"), &before);
}

#[test]
fn forwards_do_not_change_other_rules_and_routes() {
    let Some(mut engine) = Engine::new("forward beside others", &["web-1"]) else { return };
    let client = uplink(&engine);
    // The engine's own container has a leg on the bridge, with a route.
    engine.add_own("gw-1");
    let yaml = "links:\n- {service: gw, dev: leg, bridge: s, ip: 10.0.0.254/24, route: 10.77.0.0/16 via 10.0.0.1}\n\
        - {service: web, bridge: s, ip: 10.0.0.1/24, forward: 8080:80/tcp}\n";
    engine.wire(yaml);
    let shown = ip(&engine.bridges, "addr show leg") + &ip(&engine.bridges, "route");
    assert!(shown.contains("10.0.0.254/24") && shown.contains("10.77.0.0/16"), "{shown}");
    let server = netns::inside(engine.netns("web-1"), || TcpListener::bind("0.0.0.0:80")).unwrap();
    echo_tcp(&server, &client, "172.30.0.2:8080");
    // Without forwards none of it is left on the bridge.
    engine.wire(&yaml.replace(", forward: 8080:80/tcp", ""));
    assert!(!ip(&engine.bridges, "addr show s").contains("169.254."));
    assert!(ip(&engine.bridges, "route").contains("10.77.0.0/16"));
}

#[test]
fn an_engine_on_the_host_refuses_to_forward() {
    let Some(mut engine) = Engine::new("forward on the host", &["web-1"]) else { return };
    engine.own.on_host = true;
    let start = engine.start("links:\n- {service: web, bridge: s, ip: 10.0.0.1/24, forward: 8080:80/tcp}\n");
    assert_eq!(
        start.errors,
        [
            "link web-1:eth0: `forward` needs an engine that runs in a container, because it forwards from the engine's container \
             (test.yaml:2:55)",
            "hint: run conlink as a service of the project, and publish the ports with `ports:`"
        ]
    );
    assert!(!start.announced);
    assert_eq!(inside(&engine.bridges, "nft", &["list", "ruleset"]), "");
    // The link itself is there.
    assert!(ip(engine.netns("web-1"), "addr show eth0").contains("10.0.0.1/24"));
}

#[test]
fn ipv4_is_forwarded_where_there_is_no_ipv6() {
    let Some(mut engine) = Engine::new("forward without IPv6", &["web-1"]) else { return };
    let off = "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6";
    inside(&engine.bridges, "busybox", &["sh", "-c", off]);
    engine
        .wire("links:\n- {service: web, bridge: s, ip: [10.0.0.1/24, 'fd00::1/64'], forward: 8080:80/tcp}\n");
    let rules = inside(&engine.bridges, "nft", &["list", "ruleset"]);
    assert!(rules.contains("10.0.0.1:80") && !rules.contains("fd00::1"), "{rules}");
}

#[test]
fn ipv6_is_enabled_where_a_link_has_an_ipv6_address() {
    let Some(mut engine) = Engine::new("IPv6 disabled in containers", &["a-1", "b-1"]) else { return };
    for name in ["a-1", "b-1"] {
        let off = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6";
        inside(engine.netns(name), "busybox", &["sh", "-c", off]);
    }
    let yaml = "links:\n- {service: a, bridge: s, ip: 'fd00::1/64'}\n- {service: b, bridge: s, ip: 'fd00::2/64'}\n\
        - {service: b, dev: eth1, bridge: s, ip: 10.0.0.2/24}\n";
    engine.wire(yaml);
    ping(engine.netns("a-1"), "fd00::2");
    let left = "cat /proc/sys/net/ipv6/conf/eth1/disable_ipv6";
    assert_eq!(inside(engine.netns("b-1"), "busybox", &["sh", "-c", left]), "1\n");
    // What is disabled later takes the address with it: both come back.
    let off = "echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6";
    inside(engine.netns("a-1"), "busybox", &["sh", "-c", off]);
    engine.wire(yaml);
    ping(engine.netns("a-1"), "fd00::2");
}

#[test]
fn several_commands_may_set_the_same_kind_of_setting() {
    let Some(mut engine) = Engine::new("ethtool twice", &["a-1"]) else { return };
    engine.wire("links:\n- {service: a, bridge: s, ethtool: ['--set-channels rx 2', '--set-channels tx 1', -K gro on, -K gro off]}\n");
    let shown = inside(engine.netns("a-1"), "ethtool", &["-l", "eth0"]);
    let words: Vec<&str> = shown.split("Current").nth(1).unwrap().split_whitespace().collect();
    assert!(words.join(" ").contains("RX: 2 TX: 1"), "{shown}");
}

#[test]
fn a_port_that_two_links_forward_is_an_error_with_both_names() {
    let Some(mut engine) = Engine::new("forward twice", &["web-1", "web-2", "api-1"]) else { return };
    let yaml = "links:\n- {service: web, bridge: s, ip: 10.0.0.1/24, forward: 8080:80/tcp}\n\
        - {service: api, bridge: s, ip: 10.0.0.9/24, forward: [8081:80/tcp, 8081:80/udp]}\n";
    let start = engine.start(yaml);
    assert_eq!(
        start.errors,
        [
            "link web-2:eth0: port 8081/tcp is already forwarded to api-1:eth0 (test.yaml:2:55)",
            "hint: each replica uses the next port: leave enough ports between two services"
        ]
    );
    assert!(!start.announced);
    // The first to ask has it; what is not in conflict works.
    let rules = inside(&engine.bridges, "nft", &["list", "ruleset"]);
    assert!(rules.contains("10.0.0.9:80") && rules.contains("udp dport 8081"), "{rules}");
}

#[test]
fn two_engines_are_joined_by_each_type_of_tunnel() {
    for (kind, v6) in [("vxlan", false), ("vxlan", true), ("geneve", false), ("geneve", true)] {
        if !has_kind(kind) {
            continue;
        }
        let (Some(mut left), Some(mut right)) =
            (Engine::new("tunnels", &["a-1"]), Engine::new("tunnels", &["b-1"]))
        else {
            return;
        };
        // A router between the two: their packets are routed, not bridged.
        let router = netns::anonymous().unwrap();
        for (side, number) in [(&left, 1), (&right, 2)] {
            ips(
                &side.bridges,
                &format!(
                    "link add up0 type veth peer r{number} netns {}
                    link set up0 up
                    addr add 172.30.{number}.2/24 dev up0
                    addr add fd3{number}::2/64 dev up0 nodad",
                    path(&router)
                ),
            );
            ips(
                &router,
                &format!(
                    "link set r{number} up
                    addr add 172.30.{number}.1/24 dev r{number}
                    addr add fd3{number}::1/64 dev r{number} nodad"
                ),
            );
            let routes =
                format!("route add default via 172.30.{number}.1\n-6 route add default via fd3{number}::1");
            ips(&side.bridges, &routes);
        }
        let forward =
            "echo 1 >/proc/sys/net/ipv4/ip_forward && echo 1 >/proc/sys/net/ipv6/conf/all/forwarding";
        inside(&router, "busybox", &["sh", "-c", forward]);
        let remote = |number: u8| if v6 { format!("fd3{number}::2") } else { format!("172.30.{number}.2") };
        let yaml = |service: &str, own: u8, other: u8, more: &str| {
            let local = if kind == "vxlan" { format!(", local: '{}'", remote(own)) } else { String::new() };
            format!(
                "links:\n- {{service: {service}, bridge: s, ip: 10.0.0.{own}/24, mtu: 1300}}\n\
                 tunnels:\n- {{type: {kind}, bridge: s, vni: 77, remote: '{}', ttl: 9, dstport: 5555{local}{more}}}\n",
                remote(other)
            )
        };
        let before = left.snapshot();
        left.wire(&yaml("a", 1, 2, ", mtu: 1350"));
        right.wire(&yaml("b", 2, 1, ""));
        ping(left.netns("a-1"), "10.0.0.2");
        let name = format!("{kind}-77");
        let shown = json(&left.bridges, &format!("-d link show {name}"));
        assert_eq!(shown[0]["linkinfo"]["info_data"]["ttl"], 9, "{shown}");
        assert_eq!(shown[0]["mtu"], 1350);
        // One that somebody changed or removed is put right.
        ip(&left.bridges, &format!("link set {name} nomaster mtu 1300"));
        left.wire(&yaml("a", 1, 2, ", mtu: 1350"));
        ip(&left.bridges, &format!("link del {name}"));
        left.wire(&yaml("a", 1, 2, ", mtu: 1350"));
        ping(left.netns("a-1"), "10.0.0.2");
        if has_netem("netem on a tunnel") {
            left.wire(&yaml("a", 1, 2, ", mtu: 1350, netem: delay 5ms"));
            assert!(inside(&left.bridges, "tc", &["qdisc", "show", "dev", &name]).contains("delay 5ms"));
        }
        left.wire("links: []");
        assert_same(&left.snapshot(), &before);
    }
}

/// A parent in the bridges' namespace with a wire to a namespace that looks at what passes.
pub(super) fn parent(engine: &Engine) -> File {
    let other = netns::anonymous().unwrap();
    ips(
        &engine.bridges,
        &format!("link add p0 type veth peer p1 netns {}\nlink set p0 up mtu 1400", path(&other)),
    );
    ip(&other, "link set p1 up");
    other
}

#[test]
fn links_on_one_parent_reach_each_other() {
    for (kind, mode) in [
        ("macvlan", "bridge"),
        ("macvtap", "bridge"),
        ("ipvlan", "l2"),
        ("ipvlan", "l3"),
        ("ipvlan", "l3s"),
        ("ipvtap", "l2"),
        ("vlan", ""),
    ] {
        if !has_kind(kind) {
            continue;
        }
        let Some(mut engine) = Engine::new(kind, &["a-1", "b-1"]) else { return };
        let before = engine.snapshot();
        let wire = parent(&engine);
        let with_parent = engine.snapshot();
        let mode = if kind == "vlan" { "vlanid: 5".to_owned() } else { format!("mode: {mode}") };
        let yaml = |mtu: &str| {
            format!(
                "links:\n- {{service: a, type: {kind}, {mode}, base: conlink, outer-dev: p0, ip: 10.0.0.1/24{mtu}}}\n\
                 - {{service: b, type: {kind}, {mode}, base: conlink, outer-dev: p0, ip: 10.0.0.2/24}}\n"
            )
        };
        if kind == "vlan" {
            // Two of one tag cannot be on one parent: the other end of the wire is the second.
            let one = yaml("").lines().take(2).collect::<Vec<_>>().join("\n");
            engine.wire(&one);
            ips(
                &wire,
                "link add link p1 name v5 type vlan id 5\naddr add 10.0.0.2/24 dev v5\nlink set v5 up",
            );
            ping(engine.netns("a-1"), "10.0.0.2");
            let start = engine.start(&yaml(""));
            assert!(start.errors.iter().any(|it| it.starts_with("link b-1:eth0: ")), "{:?}", start.errors);
        } else {
            engine.wire(&yaml(""));
            ping(engine.netns("a-1"), "10.0.0.2");
        }
        let start = engine.start(&yaml(", mtu: 1450"));
        let col = yaml(", mtu: 1450").lines().nth(1).and_then(|it| it.find("1450")).unwrap() + 1;
        let expected = format!(
            "link a-1:eth0: mtu 1450 is greater than the mtu 1400 of the parent interface `p0` (test.yaml:2:{col})"
        );
        assert!(start.errors.contains(&expected), "{kind}: {:?}", start.errors);
        engine.start("links: []");
        assert_same(&engine.snapshot(), &with_parent);
        ip(&engine.bridges, "link del p0");
        assert_same(&engine.snapshot(), &before);
    }
}

#[test]
fn a_tag_is_on_the_wire() {
    if !has_kind("vlan") {
        return;
    }
    let Some(mut engine) = Engine::new("vlan tag", &["a-1"]) else { return };
    let wire = parent(&engine);
    engine.wire(
        "links:\n- {service: a, type: vlan, vlanid: 1234, base: conlink, outer-dev: p0, ip: 10.0.0.1/24}\n",
    );
    for (id, expected) in [(1233, "silence"), (1234, "reached")] {
        ips(
            &wire,
            &format!("link add link p1 name v type vlan id {id}\naddr add 10.0.0.2/24 dev v\nlink set v up"),
        );
        let tries = "for try in 1 2 3; do busybox ping -c1 -W1 10.0.0.1 >/dev/null && echo reached && break; done; true";
        let said = inside(&wire, "busybox", &["sh", "-c", tries]);
        ip(&wire, "link del v");
        assert_eq!(if said.is_empty() { "silence" } else { said.trim() }, expected, "tag {id}");
    }
}

#[test]
fn a_macvlan_of_mode_private_does_not_reach_its_neighbour() {
    if !has_kind("macvlan") {
        return;
    }
    let Some(mut engine) = Engine::new("macvlan private", &["a-1", "b-1"]) else { return };
    let wire = parent(&engine);
    let yaml = |mode: &str| {
        ["a", "b"].iter().zip(1..).fold("links:\n".to_owned(), |all, (it, number)| {
            format!("{all}- {{service: {it}, type: macvlan, mode: {mode}, base: conlink, outer-dev: p0, ip: 10.0.0.{number}/24}}\n")
        })
    };
    engine.wire(&yaml("private"));
    let once = |engine: &Engine| {
        let script = "busybox ping -c1 -W1 10.0.0.2 >/dev/null && echo reached || echo silence";
        inside(engine.netns("a-1"), "busybox", &["sh", "-c", script]).trim().to_owned()
    };
    assert_eq!(once(&engine), "silence");
    engine.wire(&yaml("bridge"));
    ping(engine.netns("a-1"), "10.0.0.2");
    drop(wire);
}

#[test]
fn a_dummy_answers_at_its_address_and_has_no_connection() {
    if !has_kind("dummy") {
        return;
    }
    let Some(mut engine) = Engine::new("dummy", &["a-1"]) else { return };
    let before = engine.snapshot();
    engine.wire("links:\n- {service: a, type: dummy, dev: d0, ip: 10.7.0.1/24, mac: '02:00:00:00:00:07', mtu: 9000, route: 10.8.0.0/16}\n");
    ping(engine.netns("a-1"), "10.7.0.1");
    let shown = json(engine.netns("a-1"), "-d link show d0");
    assert_eq!(shown[0]["linkinfo"]["info_kind"], "dummy");
    assert_eq!(shown[0]["mtu"], 9000);
    engine.wire("links: []");
    assert_same(&engine.snapshot(), &before);
}

/// How long it takes to wire 20 containers, in one namespace of bridges.
fn wiring(more: &str) -> Duration {
    let names: Vec<String> = (1..=20).map(|it| format!("a-{it}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut engine = Engine::within(netns::anonymous().unwrap(), &names);
    let yaml = format!("links:\n- {{service: a, bridge: s, ip: 10.0.0.1/24{more}}}\n");
    let begin = Instant::now();
    let start = engine.start(&yaml);
    let took = begin.elapsed();
    assert_eq!(start.errors, [] as [&str; 0]);
    took
}

/// Quoted in docs/performance.md.
#[test]
#[ignore = "a measurement"]
fn impairment_settings_and_translation_cost() {
    let netem = if has_netem("netem in the measurement") {
        ", netem: delay 40ms 5ms distribution normal loss 1%"
    } else {
        ""
    };
    let all = format!("{netem}, nat: 127.0.0.1, ethtool: -K gro off");
    let mut ratios: Vec<f64> = (0..9)
        .map(|_| {
            let plain = wiring("");
            wiring(&all).as_secs_f64() / plain.as_secs_f64()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "with `{all}`: median {:.2} times a plain link, {:.2} to {:.2}",
        ratios[4], ratios[0], ratios[8]
    );
    assert!(ratios[4] <= 2.0, "{ratios:?}");
}

#[test]
fn a_bridge_with_ports_of_another_project_is_handed_over() {
    let Some(mut lab) = Engine::new("a shared bridge", &["a-1"]) else { return };
    lab.wire("links: [{service: a, bridge: shared, ip: 10.0.0.1/24}]");
    let bridges = lab.bridges.try_clone().unwrap();
    for it in [
        "link add other0 type veth peer name other1",
        "link set other0 master shared",
        "link set other0 alias conlink:q:q-b-1:eth0",
    ] {
        ip(&bridges, it);
    }
    lab.start("links: []");
    let shown = ip(&bridges, "-d link show shared");
    assert!(shown.contains("alias conlink:q::shared"), "{shown}");
    assert!(ip(&bridges, "link show master shared").contains("other0"));
    // A port of nobody's keeps a bridge too.
    lab.wire("links: [{service: a, bridge: lan, ip: 10.0.0.1/24}]");
    ip(&bridges, "link add tap0 type veth peer name tap1");
    ip(&bridges, "link set tap0 master lan");
    lab.start("links: []");
    assert!(ip(&bridges, "link show master lan").contains("tap0"));
    ip(&bridges, "link del tap0");
    lab.start("links: []");
    assert!(!ip(&bridges, "link").contains("lan"));
}

#[test]
fn a_link_survives_a_rename_of_its_container() {
    let Some(mut lab) = Engine::new("renamed", &["a-1"]) else { return };
    lab.wire("links: [{service: a, bridge: lan, ip: 10.0.0.1/24}]");
    let netns = lab.netns("a-1").try_clone().unwrap();
    ip(&netns, "link set eth0 alias conlink:t:old-name-1:eth0");
    ip(&lab.bridges, "link set a_1-eth0 alias conlink:t:old-name-1:eth0");
    let index = ip(&netns, "-o link show eth0");
    let start = lab.start("links: [{service: a, bridge: lan, ip: 10.0.0.1/24}]");
    assert_eq!(start.errors, [] as [&str; 0]);
    let now = ip(&netns, "-o link show eth0");
    assert_eq!(now.split(':').next(), index.split(':').next(), "the link was made anew");
    assert!(now.contains("conlink:t:a-1:eth0"), "{now}");
}
