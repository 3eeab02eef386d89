//! The effect of rules on traffic: a client and a server with a namespace between them.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::*;
use crate::kernel::netns;

/// Time limit of each step.
const PATIENCE: Duration = Duration::from_secs(5);

struct Lab {
    client: File,
    middle: File,
    server: File,
    nft: Nft,
}

impl Lab {
    /// Three namespaces. Client and server have `eth0`, connected to `c` and `s` in the middle. None with a SKIP line
    /// if this process may not make namespaces.
    fn new(test: &str) -> Option<Self> {
        let make = || Ok((netns::anonymous()?, netns::anonymous()?, netns::anonymous()?));
        let (client, middle, server) = match make() {
            Ok(made) => made,
            Err::<_, io::Error>(error) => {
                skip(test, &format!("no network namespace can be made: {error}"));
                return None;
            }
        };
        for (name, end) in [("c", &client), ("s", &server)] {
            let there = format!("/proc/{}/fd/{}", std::process::id(), end.as_raw_fd());
            ip(&middle, &format!("link add {name} type veth peer name eth0 netns {there}"));
            ip(&middle, &format!("link set {name} up"));
            ip(end, "link set lo up");
            ip(end, "link set eth0 up");
        }
        ip(&middle, "link set lo up");
        let nft = netns::inside(&middle, Nft::open).unwrap();
        Some(Self { client, middle, server, nft })
    }

    /// The client uses the middle as router; the server has a route to its own network only.
    fn routed(test: &str) -> Option<Self> {
        let lab = Self::new(test)?;
        for (family, client, by_client, by_server, server) in [
            ("-4", "10.1.0.1/24", "10.1.0.254", "10.2.0.254", "10.2.0.2/24"),
            ("-6", "fd01::1/64 nodad", "fd01::fe", "fd02::fe", "fd02::2/64 nodad"),
        ] {
            let whole =
                |addr: &str| if family == "-4" { format!("{addr}/24") } else { format!("{addr}/64 nodad") };
            ip(&lab.client, &format!("addr add {client} dev eth0"));
            ip(&lab.middle, &format!("addr add {} dev c", whole(by_client)));
            ip(&lab.middle, &format!("addr add {} dev s", whole(by_server)));
            ip(&lab.server, &format!("addr add {server} dev eth0"));
            ip(&lab.client, &format!("{family} route add default via {by_client}"));
        }
        set(&lab.middle, "net/ipv4/ip_forward", "1");
        set(&lab.middle, "net/ipv6/conf/all/forwarding", "1");
        Some(lab)
    }
}

#[track_caller]
fn ip(netns: &File, args: &str) {
    let args: Vec<&str> = args.split_whitespace().collect();
    let result = netns::inside(netns, || Ok(run("ip", &args, ""))).unwrap();
    result.unwrap_or_else(|it| panic!("ip {}: {it}", args.join(" ")));
}

#[track_caller]
fn set(netns: &File, name: &str, value: &str) {
    netns::inside(netns, || fs::write(format!("/proc/sys/{name}"), value)).unwrap();
}

fn may_ping(netns: &File, addr: &str) -> bool {
    netns::inside(netns, || Ok(run("busybox", &["ping", "-c1", "-W2", addr], "").is_ok())).unwrap()
}

/// The result of `attempt`, which is repeated until it succeeds.
#[track_caller]
fn poll<T>(mut attempt: impl FnMut() -> io::Result<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(it) => return it,
            Err(error) if Instant::now() > end => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

struct Server(TcpListener);

impl Server {
    fn listen(netns: &File, addr: &str) -> Self {
        let listener = netns::inside(netns, || TcpListener::bind(addr)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    /// Connects from `client` to `addr` and exchanges data. Returns the addresses of both sides as seen by the server.
    #[track_caller]
    fn seen(&self, client: &File, addr: &str) -> (SocketAddr, SocketAddr) {
        let mut near = connect(client, addr).unwrap_or_else(|it| panic!("{addr}: {it}"));
        let (mut far, from) = poll(|| self.0.accept());
        far.set_nonblocking(false).unwrap();
        talk(&mut near, &mut far);
        talk(&mut far, &mut near);
        (from, far.local_addr().unwrap())
    }
}

fn connect(client: &File, addr: &str) -> io::Result<TcpStream> {
    netns::inside(client, || TcpStream::connect_timeout(&addr.parse().unwrap(), PATIENCE))
}

#[track_caller]
fn talk(from: &mut TcpStream, to: &mut TcpStream) {
    let mut heard = [0; 5];
    to.set_read_timeout(Some(PATIENCE)).unwrap();
    from.write_all(b"hello").unwrap();
    to.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
}

/// Sends from `client` to `addr` and waits for the answer of `server`. Returns the sender as seen by the server.
#[track_caller]
fn udp_seen(client: &File, addr: &str, server: &UdpSocket) -> SocketAddr {
    let any = if addr.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let near = netns::inside(client, || UdpSocket::bind(any)).unwrap();
    near.connect(addr).unwrap();
    near.set_read_timeout(Some(PATIENCE)).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    near.send(b"ping").unwrap();
    let mut heard = [0; 9];
    let (length, from) = server.recv_from(&mut heard).unwrap();
    assert_eq!(&heard[..length], b"ping");
    server.send_to(b"pong", from).unwrap();
    let length = near.recv(&mut heard).unwrap();
    assert_eq!(&heard[..length], b"pong");
    from
}

#[test]
fn a_forwarded_port_reaches_a_server_that_knows_no_route_back() {
    let Some(mut lab) = Lab::routed("forward") else { return };
    let ends = [("10.1.0.254", "10.2.0.2", "10.2.0.254"), ("[fd01::fe]", "[fd02::2]", "fd02::fe")];
    for (near, server, from) in ends {
        let rules = [
            forward("p:a:eth0", Protocol::Tcp, 8080, &format!("{server}:80")),
            forward("p:a:eth0", Protocol::Udp, 8080, &format!("{server}:53")),
            forward_source("p:a:eth0", "s", Protocol::Tcp, &format!("{server}:80"), from),
            forward_source("p:a:eth0", "s", Protocol::Udp, &format!("{server}:53"), from),
        ];
        let listening = Server::listen(&lab.server, &format!("{server}:80"));
        let udp = netns::inside(&lab.server, || UdpSocket::bind(format!("{server}:53"))).unwrap();
        let addr = format!("{near}:8080");
        assert_eq!(connect(&lab.client, &addr).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        lab.nft.change(&[], &rules).unwrap();
        let (seen, at) = listening.seen(&lab.client, &addr);
        assert_eq!((seen.ip().to_string().as_str(), at.port()), (from, 80));
        assert_eq!(udp_seen(&lab.client, &addr, &udp).ip().to_string(), from);
        // The rule does not match other ports, nor addresses that are not the middle's own.
        assert_eq!(
            connect(&lab.client, &format!("{near}:8081")).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        let beyond = if near.starts_with('[') { "[fd09::9]:8080" } else { "10.9.9.9:8080" };
        assert!(connect(&lab.client, beyond).is_err());
        lab.nft.change(&rules, &[]).unwrap();
        assert_eq!(connect(&lab.client, &addr).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}

#[test]
fn connections_that_are_not_forwarded_keep_their_source() {
    let Some(mut lab) = Lab::routed("source") else { return };
    ip(&lab.server, "route add default via 10.2.0.254");
    ip(&lab.server, "route add default via fd02::fe");
    for (server, from, client) in
        [("10.2.0.2:80", "10.2.0.254", "10.1.0.1"), ("[fd02::2]:80", "fd02::fe", "fd01::1")]
    {
        let listening = Server::listen(&lab.server, server);
        lab.nft.change(&[], &[forward_source("p:a:eth0", "s", Protocol::Tcp, server, from)]).unwrap();
        assert_eq!(listening.seen(&lab.client, server).0.ip().to_string(), client);
    }
}

#[test]
fn all_traffic_that_arrives_is_translated_in_both_directions() {
    let Some(mut lab) = Lab::routed("nat") else { return };
    let rules = [
        dnat("p:a:c", "c", "10.2.0.2"),
        dnat("p:a:c", "c", "fd02::2"),
        snat("p:a:s", "s", "10.2.0.254"),
        snat("p:a:s", "s", "fd02::fe"),
    ];
    lab.nft.change(&[], &rules).unwrap();
    for (near, server, from) in
        [("10.1.0.254", "10.2.0.2", "10.2.0.254"), ("[fd01::fe]", "[fd02::2]", "fd02::fe")]
    {
        // Any address and port: the middle's own address, and one that no host has.
        let nobodys = if near.starts_with('[') { "[fd09::9]" } else { "10.9.9.9" };
        let listening = Server::listen(&lab.server, &format!("{server}:80"));
        let udp = netns::inside(&lab.server, || UdpSocket::bind(format!("{server}:53"))).unwrap();
        for addr in [near, nobodys] {
            assert!(may_ping(&lab.client, addr.trim_matches(['[', ']'])), "{addr}");
            let (seen, at) = listening.seen(&lab.client, &format!("{addr}:80"));
            assert_eq!((seen.ip().to_string().as_str(), at.port()), (from, 80));
            assert_eq!(udp_seen(&lab.client, &format!("{addr}:53"), &udp).ip().to_string(), from);
        }
    }
    // There is no rule for the other direction: answers need none, and other traffic is not changed.
    let listening = Server::listen(&lab.client, "10.1.0.1:80");
    ip(&lab.server, "route add default via 10.2.0.254");
    assert_eq!(listening.seen(&lab.server, "10.1.0.1:80").0.ip().to_string(), "10.2.0.2");
    lab.nft.change(&[], &[snat("p:a:c", "c", "10.1.0.254")]).unwrap();
    assert_eq!(listening.seen(&lab.server, "10.1.0.1:80").0.ip().to_string(), "10.1.0.254");
    // Without the rules the server has no route for its answers.
    lab.nft.change(&rules, &[]).unwrap();
    ip(&lab.server, "route del default");
    assert!(!may_ping(&lab.client, "10.9.9.9"));
}

#[test]
fn frames_between_ports_of_a_bridge_are_not_translated() {
    let Some(mut lab) = Lab::new("bridge netfilter") else { return };
    ip(&lab.middle, "link add br0 type bridge");
    ip(&lab.middle, "link set br0 up");
    ip(&lab.middle, "link set c master br0");
    ip(&lab.middle, "link set s master br0");
    for (netns, name, last) in [(&lab.client, "eth0", 1), (&lab.server, "eth0", 2), (&lab.middle, "br0", 254)]
    {
        ip(netns, &format!("addr add 10.5.0.{last}/24 dev {name}"));
        ip(netns, &format!("addr add fd05::{last}/64 dev {name} nodad"));
    }
    set(&lab.middle, "net/ipv4/ip_forward", "1");
    let call = |name: &str| {
        netns::inside(&lab.middle, || fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{name}"), "1"))
    };
    if let Err(error) = call("iptables").and_then(|()| call("ip6tables")) {
        return skip("bridge netfilter", &format!("bridge-nf-call-iptables cannot be set: {error}"));
    }
    for (server, middle, other) in
        [("10.5.0.2", "10.5.0.254", "10.5.0.1"), ("[fd05::2]", "[fd05::254]", "[fd05::1]")]
    {
        // A rule without the guard translates frames that pass the bridge, because netfilter sees them.
        let listening = Server::listen(&lab.server, &format!("{server}:80"));
        let (family, proto) = if server.starts_with('[') { ("ip6", "ipv6") } else { ("ip", "ipv4") };
        netns::inside(&lab.middle, || {
            nft(&format!(
                "table inet unguarded {{
                    chain pre {{ type nat hook prerouting priority dstnat - 1; meta nfproto {proto} tcp dport 81 dnat {family} to {server}:80; }}
                }}"
            ));
            Ok(())
        })
        .unwrap();
        let (seen, at) = listening.seen(&lab.client, &format!("{server}:81"));
        assert_eq!((SocketAddr::new(seen.ip(), 0), at.port()), (format!("{other}:0").parse().unwrap(), 80));
        // With the guard the client reaches the server, although its port is forwarded to an address without a host.
        let rules = [forward("p:a:eth0", Protocol::Tcp, 80, &format!("{other}:9"))];
        lab.nft.change(&[], &rules).unwrap();
        let (seen, at) = listening.seen(&lab.client, &format!("{server}:80"));
        assert_eq!((SocketAddr::new(seen.ip(), 0), at.port()), (format!("{other}:0").parse().unwrap(), 80));
        lab.nft.change(&rules, &[]).unwrap();
        // The rule matches the bridge's own address, also for clients behind a port of the bridge.
        let rules = [
            forward("p:a:eth0", Protocol::Tcp, 8080, &format!("{server}:80")),
            forward_source(
                "p:a:eth0",
                "br0",
                Protocol::Tcp,
                &format!("{server}:80"),
                middle.trim_matches(['[', ']']),
            ),
        ];
        lab.nft.change(&[], &rules).unwrap();
        let (seen, at) = listening.seen(&lab.client, &format!("{middle}:8080"));
        assert_eq!((SocketAddr::new(seen.ip(), 0), at.port()), (format!("{middle}:0").parse().unwrap(), 80));
        netns::inside(&lab.middle, || {
            nft("delete table inet unguarded");
            Ok(())
        })
        .unwrap();
    }
}
