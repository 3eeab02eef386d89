//! Connections to forwarded ports from inside the namespace of the bridges.

use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use conlink::kernel::netns;

use crate::netns::engine::{Engine, assert_same};
use crate::netns::properties::echo_tcp;
use crate::support::{inside, ip};

const YAML: &str = "links: [{service: web, bridge: s, ip: [10.0.0.1/24, 'fd00::1/64'], forward: 8080:80/tcp}, {service: out, bridge: s, ip: 10.0.0.2/24}]";

/// Whether the bridge lets addresses in 127.0.0.0/8 pass.
fn is_on(engine: &Engine) -> bool {
    let path = "/proc/sys/net/ipv4/conf/s/route_localnet";
    netns::inside(&engine.bridges, || std::fs::read_to_string(path)).unwrap().trim() == "1"
}

/// The address of the bridge that containers on it have a route to.
fn gateway(engine: &Engine) -> String {
    let shown = ip(&engine.bridges, "-4 -o addr show s");
    shown.split_whitespace().find_map(|it| it.strip_suffix("/32")).unwrap().to_owned()
}

fn refused(netns: &File, to: &str) -> io::ErrorKind {
    let connect = || TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_millis(300));
    netns::inside(netns, connect).unwrap_err().kind()
}

/// Has the container send what is for 127.0.0.0/8 to the bridge, from an address of its choice.
fn attack(engine: &Engine, from: &str) {
    let netns = engine.netns("out-1");
    let set = |path: &str, value: &str| netns::inside(netns, || std::fs::write(path, value)).unwrap();
    set("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1");
    let lladdr = ip(&engine.bridges, "-o link show s");
    let lladdr = lladdr.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
    for it in [
        "addr flush dev lo".to_owned(),
        format!("addr replace {from}/32 dev eth0"),
        format!("neigh replace 10.0.0.254 lladdr {lladdr} dev eth0"),
        format!("route replace 127.0.0.1 via 10.0.0.254 dev eth0 src {from} onlink"),
        format!("route replace {} dev eth0", gateway(engine)),
        // For the answers.
        "addr replace 10.0.0.2/24 dev eth0".to_owned(),
    ] {
        ip(netns, &it);
    }
    ip(&engine.bridges, "route replace 10.0.0.2 dev s");
}

#[test]
fn the_engines_namespace_reaches_forwarded_ports_at_127_0_0_1() {
    let Some(mut engine) = Engine::new("forwards of one's own", &["web-1", "out-1"]) else { return };
    let before = engine.snapshot();
    engine.wire(YAML);
    let server = netns::inside(engine.netns("web-1"), || TcpListener::bind("[::]:80")).unwrap();
    let gateway = gateway(&engine);
    for to in ["127.0.0.1:8080", "127.0.0.9:8080", &format!("{gateway}:8080")] {
        let peer = echo_tcp(&server, &engine.bridges, to);
        assert_eq!(peer.ip().to_canonical().to_string(), gateway, "{to}");
    }
    let shown = ip(&engine.bridges, "-6 -o addr show s");
    let v6 = shown.split_whitespace().find_map(|it| it.strip_suffix("/128")).unwrap();
    echo_tcp(&server, &engine.bridges, &format!("[{v6}]:8080"));
    // Nothing else is caught: another port, the container's own address, `::1`.
    for to in ["127.0.0.1:8081", "127.0.0.1:80", "[::1]:8080"] {
        assert_eq!(refused(&engine.bridges, to), io::ErrorKind::ConnectionRefused, "{to}");
    }
    echo_tcp(&server, &engine.bridges, "10.0.0.1:80");
    let own = netns::inside(&engine.bridges, || TcpListener::bind("127.0.0.1:9000")).unwrap();
    echo_tcp(&own, &engine.bridges, "127.0.0.1:9000");
    // Without forwards all of it goes.
    assert!(is_on(&engine));
    engine.wire(&YAML.replace(", forward: 8080:80/tcp", ""));
    assert!(!is_on(&engine));
    assert_eq!(inside(&engine.bridges, "nft", &["list", "ruleset"]), "");
    engine.wire(YAML);
    engine.wire("links: []");
    let after = engine.snapshot();
    let after: Vec<&str> = after.lines().filter(|it| !it.starts_with("anycast ")).collect();
    assert_same(&after.join("\n"), &before);
}

#[test]
fn containers_cannot_reach_services_at_127_0_0_1() {
    let Some(mut engine) = Engine::new("the guard of 127.0.0.1", &["web-1", "out-1"]) else { return };
    engine.wire(YAML);
    let secret = netns::inside(&engine.bridges, || TcpListener::bind("127.0.0.1:9999")).unwrap();
    attack(&engine, "10.0.0.2");
    assert!(is_on(&engine));
    assert_eq!(refused(engine.netns("out-1"), "127.0.0.1:9999"), io::ErrorKind::TimedOut);
    // It is the two rules that keep it so: the attack is one.
    inside(&engine.bridges, "nft", &["flush", "chain", "inet", "conlink", "guard"]);
    echo_tcp(&secret, engine.netns("out-1"), "127.0.0.1:9999");
    // Without them the next plan has the bridge let nothing of it pass, and then puts them back.
    engine.wire(YAML);
    assert!(is_on(&engine));
    ip(&engine.bridges, "route replace 10.0.0.2 dev s");
    assert_eq!(refused(engine.netns("out-1"), "127.0.0.1:9999"), io::ErrorKind::TimedOut);
    // Nor does an address of 127.0.0.0/8 as the source get in.
    let udp = netns::inside(&engine.bridges, || std::net::UdpSocket::bind("0.0.0.0:9998")).unwrap();
    udp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    attack(&engine, "127.0.0.2");
    let gateway = gateway(&engine);
    let send = |from: &str| {
        let socket = netns::inside(engine.netns("out-1"), || std::net::UdpSocket::bind(from)).unwrap();
        socket.send_to(b"x", format!("{gateway}:9998")).unwrap();
    };
    send("127.0.0.2:0");
    // When this one arrives, the other has arrived, or never will.
    send("10.0.0.2:0");
    let mut heard = Vec::new();
    while heard.last().is_none_or(|it| it != "10.0.0.2") {
        let (_, from) = udp.recv_from(&mut [0; 9]).unwrap();
        heard.push(from.ip().to_string());
    }
    assert_eq!(heard, ["10.0.0.2"]);
}
