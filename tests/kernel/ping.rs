//! Echo requests: between namespaces on a bridge, through routers that refuse them, next to other pings, and all pairs.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use conlink::kernel::netns;
use conlink::kernel::ping::{self, Answer, Options, Pair, Ping, PingError, Reason};

use crate::kernel::name;
use crate::support::{inside, ip, may_unshare};

/// How long an answer may take on a machine that is busy.
const SOON: Duration = Duration::from_secs(10);

/// Namespaces with an `eth0` each on one bridge: 10.0.0.1 and fd00::1 the first, and so on.
struct Lan {
    _bridge: File,
    nodes: Vec<File>,
}

impl Lan {
    fn new(test: &str, count: usize) -> Option<Self> {
        if !may_unshare(test) {
            return None;
        }
        let bridge = netns::anonymous().unwrap();
        batch(&bridge, "link add lan type bridge mcast_snooping 0\nlink set lan up\n");
        let nodes = (1..=count).map(|number| {
            let node = netns::anonymous().unwrap();
            let path = format!("/proc/{}/fd/{}", std::process::id(), node.as_raw_fd());
            batch(
                &bridge,
                &format!(
                    "link add v{number} type veth peer eth0 netns {path}\nlink set v{number} master lan up\n"
                ),
            );
            let [v4, v6] = addresses(number);
            batch(
                &node,
                &format!(
                    "addr add {v4}/16 dev eth0\naddr add {v6}/64 dev eth0 nodad\n\
                     link set lo up\nlink set eth0 up\n"
                ),
            );
            node
        });
        let nodes = nodes.collect();
        Some(Self { _bridge: bridge, nodes })
    }

    /// Every node with every other one, both directions of two nodes behind one another.
    fn pairs(&self, v6: bool) -> Vec<Pair<'_>> {
        let to = |number| addresses(number)[usize::from(v6)];
        let mut pairs = Vec::new();
        for (one, node) in (1..).zip(&self.nodes) {
            for (other, peer) in (1..one).zip(&self.nodes) {
                pairs.push(Pair { netns: node, to: to(other) });
                pairs.push(Pair { netns: peer, to: to(one) });
            }
        }
        pairs
    }
}

fn addresses(number: usize) -> [IpAddr; 2] {
    [addr(&format!("10.0.{}.{}", number / 250, number % 250)), addr(&format!("fd00::{number:x}"))]
}

/// One program for several commands.
fn batch(netns: &File, commands: &str) {
    inside(netns, "sh", &["-c", &format!("printf '%s' '{commands}' | timeout 10 ip -batch -")]);
}

fn sysctl(netns: &File, name: &str, value: &str) {
    netns::inside(netns, || std::fs::write(format!("/proc/sys/net/{name}"), value)).unwrap();
}

/// Shortens the time until the kernel gives up on a neighbour that does not answer.
fn impatient(netns: &File) {
    for family in ["ipv4", "ipv6"] {
        sysctl(netns, &format!("{family}/neigh/eth0/retrans_time_ms"), "50");
    }
}

/// A namespace with `eth0` (10.1.0.2, fd01::2), whose router (10.1.0.1, fd01::1) knows no other network.
struct Routed {
    host: File,
    router: File,
}

impl Routed {
    fn new(test: &str) -> Option<Self> {
        if !may_unshare(test) {
            return None;
        }
        let (host, router) = (netns::anonymous().unwrap(), netns::anonymous().unwrap());
        let path = format!("/proc/{}/fd/{}", std::process::id(), host.as_raw_fd());
        batch(
            &router,
            &format!(
                "link add r0 type veth peer eth0 netns {path}\naddr add 10.1.0.1/24 dev r0\n\
                 addr add fd01::1/64 dev r0 nodad\nlink set r0 up\nlink set lo up\n"
            ),
        );
        // It tells of every packet that it drops. With `icmp_ratelimit` 0 Linux 6.1 takes the tokens that
        // `ip_error()` wants too.
        for name in ["ipv4/icmp_ratemask", "ipv6/icmp/ratelimit"] {
            sysctl(&router, name, "0");
        }
        sysctl(&router, "ipv4/ip_forward", "1");
        sysctl(&router, "ipv6/conf/all/forwarding", "1");
        batch(
            &host,
            "addr add 10.1.0.2/24 dev eth0\naddr add fd01::2/64 dev eth0 nodad\nlink set lo up\n\
             link set eth0 up\nroute add default via 10.1.0.1\nroute add default via fd01::1\n",
        );
        Some(Self { host, router })
    }
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn open(netns: &File, to: &str) -> Ping {
    Ping::open(netns, addr(to), &Options::default()).unwrap()
}

fn open_with(netns: &File, to: &str, options: Options) -> Ping {
    Ping::open(netns, addr(to), &options).unwrap()
}

#[track_caller]
fn reply(ping: &mut Ping) -> Answer {
    ping.reply(Instant::now() + SOON).unwrap().expect("no answer comes")
}

/// Nothing comes, and that does not take longer than it is waited for.
#[track_caller]
fn silent(ping: &mut Ping) {
    let (start, wait) = (Instant::now(), Duration::from_millis(200));
    assert_eq!(ping.reply(start + wait).unwrap(), None);
    let took = start.elapsed();
    assert!(took >= wait && took < SOON, "{took:?}");
}

/// A request and its answer.
#[track_caller]
fn exchange(ping: &mut Ping, seq: u16) -> Answer {
    ping.send(seq).unwrap();
    reply(ping)
}

#[track_caller]
fn unreachable(answer: &Answer) -> (u16, IpAddr, String) {
    match answer {
        Answer::Unreachable { seq, from, reason } => (*seq, *from, reason.to_string()),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn echo(answer: &Answer) -> (u16, IpAddr, Option<u8>, usize) {
    match answer {
        Answer::Echo { seq, from, ttl, time, bytes, duplicate: false } if *time < SOON => {
            (*seq, *from, *ttl, *bytes)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_ping_is_answered_over_both_families() {
    let Some(lan) = Lan::new("ping", 2) else { return };
    for (from, to) in [(0, "10.0.0.2"), (0, "fd00::2"), (1, "10.0.0.1"), (0, "10.0.0.1"), (0, "::1")] {
        let mut ping = open(&lan.nodes[from], to);
        for seq in [1, 2, 65535] {
            assert_eq!(echo(&exchange(&mut ping, seq)), (seq, addr(to), Some(64), 64));
        }
        silent(&mut ping);
    }
    // Several that are out at once.
    let mut ping = open(&lan.nodes[0], "10.0.0.2");
    for seq in 1..=20 {
        ping.send(seq).unwrap();
    }
    for seq in 1..=20 {
        assert_eq!(echo(&reply(&mut ping)).0, seq);
    }
}

#[test]
fn the_time_does_not_depend_on_when_the_reply_is_read() {
    let Some(lan) = Lan::new("ping time", 2) else { return };
    let mut ping = open(&lan.nodes[0], "10.0.0.2");
    exchange(&mut ping, 1);
    ping.send(2).unwrap();
    let sent = Instant::now();
    while sent.elapsed() < Duration::from_millis(300) {
        std::thread::yield_now();
    }
    match reply(&mut ping) {
        Answer::Echo { seq: 2, time, .. } => assert!(time < Duration::from_millis(200), "{time:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_payload_may_have_any_length_that_fits_a_packet() {
    let Some(lan) = Lan::new("ping size", 2) else { return };
    for (to, longest) in [("10.0.0.2", 65507), ("fd00::2", 65527)] {
        for size in [0, 1, 1473, longest] {
            let mut ping = open_with(&lan.nodes[0], to, Options { size, ..Options::default() });
            assert_eq!(echo(&exchange(&mut ping, 3)), (3, addr(to), Some(64), size + 8));
        }
        let mut ping = open_with(&lan.nodes[0], to, Options { size: longest + 1, ..Options::default() });
        assert_eq!(ping.send(1).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
    }
}

#[test]
fn a_silent_host_is_waited_for_until_the_deadline() {
    let Some(lan) = Lan::new("silent ping", 2) else { return };
    sysctl(&lan.nodes[1], "ipv4/icmp_echo_ignore_all", "1");
    sysctl(&lan.nodes[1], "ipv6/icmp/echo_ignore_all", "1");
    for to in ["10.0.0.2", "fd00::2"] {
        let mut ping = open(&lan.nodes[0], to);
        ping.send(1).unwrap();
        silent(&mut ping);
    }
    sysctl(&lan.nodes[1], "ipv4/icmp_echo_ignore_all", "0");
    assert_eq!(echo(&exchange(&mut open(&lan.nodes[0], "10.0.0.2"), 2)).0, 2);
}

#[test]
fn a_missing_neighbour_is_reported_by_the_own_kernel() {
    let Some(lan) = Lan::new("ping a neighbour", 1) else { return };
    impatient(&lan.nodes[0]);
    let host = |to| unreachable(&exchange(&mut open(&lan.nodes[0], to), 5));
    assert_eq!(host("10.0.9.9"), (5, addr("10.0.0.1"), "Destination Host Unreachable".to_owned()));
    let text = "Destination unreachable: Address unreachable";
    assert_eq!(host("fd00::99"), (5, addr("fd00::1"), text.to_owned()));
}

#[test]
fn local_errors_are_errors_of_sending() {
    let Some(lan) = Lan::new("refused ping", 1) else { return };
    let node = &lan.nodes[0];
    batch(
        node,
        "route add unreachable 10.5.0.0/16\nroute add prohibit 10.6.0.0/16\nroute add blackhole 10.7.0.0/16\n\
         route add unreachable fd05::/16\nroute add prohibit fd06::/16\nroute add blackhole fd07::/16\n",
    );
    let refused = |to| open(node, to).send(1).unwrap_err().raw_os_error().unwrap();
    for (to, expected) in [
        ("10.4.0.1", libc::ENETUNREACH),
        ("10.5.0.1", libc::EHOSTUNREACH),
        ("10.6.0.1", libc::EACCES),
        ("10.7.0.1", libc::EINVAL),
        ("fd04::1", libc::ENETUNREACH),
        ("fd05::1", libc::EHOSTUNREACH),
        ("fd06::1", libc::EACCES),
        ("fd07::1", libc::EINVAL),
    ] {
        assert_eq!(refused(to), expected, "{to}");
    }
    let options = Options { dev: Some(name("absent")), ..Options::default() };
    let error = Ping::open(node, addr("10.0.0.1"), &options).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
}

#[test]
fn the_reason_of_a_router_is_reported() {
    let Some(routed) = Routed::new("refusing router") else { return };
    batch(
        &routed.router,
        "route add unreachable 10.5.0.0/16\nroute add prohibit 10.6.0.0/16\nroute add blackhole 10.7.0.0/16\n\
         route add unreachable fd05::/16\nroute add prohibit fd06::/16\nroute add blackhole fd07::/16\n",
    );
    let (v4, v6) = (addr("10.1.0.1"), addr("fd01::1"));
    for (to, from, text) in [
        ("10.4.0.1", v4, "Destination Net Unreachable"),
        ("10.5.0.1", v4, "Destination Host Unreachable"),
        ("10.6.0.1", v4, "Packet filtered"),
        ("fd04::1", v6, "Destination unreachable: No route"),
        ("fd05::1", v6, "Destination unreachable: No route"),
        ("fd06::1", v6, "Destination unreachable: Administratively prohibited"),
    ] {
        let answer = exchange(&mut open(&routed.host, to), 9);
        assert_eq!(unreachable(&answer), (9, from, text.to_owned()), "{to}");
    }
    for to in ["10.7.0.1", "fd07::1"] {
        let mut ping = open(&routed.host, to);
        ping.send(1).unwrap();
        silent(&mut ping);
    }
}

#[test]
fn the_time_to_live_ends_at_the_router() {
    let Some(routed) = Routed::new("ping by hops") else { return };
    batch(
        &routed.router,
        "link add far type bridge\nlink set far up\naddr add 10.3.0.1/24 dev far\naddr add fd03::1/64 dev far nodad\n",
    );
    // The kernel adds the local route of an IPv6 address in the background (`addrconf_dad_work()` in net/ipv6/addrconf.c).
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ip(&routed.router, "-6 route show table local").contains("fd03::1 ") {
        assert!(Instant::now() < deadline, "the router has no local route");
        std::thread::sleep(Duration::from_millis(5));
    }
    let ttl = |ttl| Options { ttl: Some(ttl), ..Options::default() };
    // The router's own address is reached, what is behind it is not.
    for to in ["10.3.0.1", "fd03::1"] {
        assert_eq!(echo(&exchange(&mut open_with(&routed.host, to, ttl(1)), 1)).1, addr(to));
    }
    for (to, from, text) in [
        ("10.3.0.9", "10.1.0.1", "Time to live exceeded"),
        ("fd03::9", "fd01::1", "Time exceeded: Hop limit"),
    ] {
        let answer = exchange(&mut open_with(&routed.host, to, ttl(1)), 2);
        assert_eq!(unreachable(&answer), (2, addr(from), text.to_owned()));
    }
}

#[test]
fn an_error_belongs_to_its_own_request() {
    let Some(routed) = Routed::new("ping errors") else { return };
    for to in ["10.4.0.1", "fd04::1"] {
        let mut ping = open(&routed.host, to);
        for seq in 1..=3 {
            // The socket has the error of the one before by now, and would tell it to us.
            ping.send(seq).unwrap();
        }
        for seq in 1..=3 {
            assert_eq!(unreachable(&reply(&mut ping)).0, seq);
        }
    }
}

#[test]
fn answers_to_other_pings_are_not_ours() {
    let Some(lan) = Lan::new("two pings", 2) else { return };
    for to in ["10.0.0.2", "fd00::2"] {
        let [mut one, mut other] = [(); 2].map(|()| open(&lan.nodes[0], to));
        one.send(1).unwrap();
        silent(&mut other);
        other.send(1).unwrap();
        other.send(2).unwrap();
        assert_eq!(echo(&reply(&mut one)).0, 1);
        silent(&mut one);
        assert_eq!([echo(&reply(&mut other)).0, echo(&reply(&mut other)).0], [1, 2]);
        silent(&mut other);
    }
    // Nor are errors that others' requests met.
    impatient(&lan.nodes[0]);
    for to in ["10.0.9.9", "fd00::99"] {
        let [mut one, mut other] = [(); 2].map(|()| open(&lan.nodes[0], to));
        one.send(1).unwrap();
        assert_eq!(unreachable(&reply(&mut one)).0, 1);
        silent(&mut other);
    }
}

#[test]
fn a_link_local_address_needs_its_interface() {
    let Some(lan) = Lan::new("link-local ping", 2) else { return };
    ip(&lan.nodes[1], "addr add fe80::2/64 dev eth0 nodad");
    batch(
        &lan.nodes[0],
        "link add aside type bridge\nlink set aside up\naddr add fe80::1/64 dev aside nodad\n\
         addr add fe80::1/64 dev eth0 nodad\n",
    );
    // Two interfaces have such addresses, and the other one leads nowhere.
    let options = Options { dev: Some(name("eth0")), ..Options::default() };
    let mut ping = open_with(&lan.nodes[0], "fe80::2", options);
    assert_eq!(echo(&exchange(&mut ping, 1)).1, addr("fe80::2"));
    let options = Options { dev: Some(name("aside")), ..Options::default() };
    let mut ping = open_with(&lan.nodes[0], "fe80::2", options);
    let _ = ping.send(1);
    assert!(!matches!(
        ping.reply(Instant::now() + Duration::from_millis(200)).unwrap(),
        Some(Answer::Echo { .. })
    ));
}

/// Takes the right to raw sockets from the calling thread.
#[expect(unsafe_code, reason = "nix has no capabilities")]
fn drop_net_raw() {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const NET_RAW: u32 = 13;
    // _LINUX_CAPABILITY_VERSION_3, with 64 capabilities.
    let mut header = Header { version: 0x2008_0522, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: the structures are those of capget(2), which are two of data with this version, and outlive the calls.
    let result = unsafe {
        let got = libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr());
        data[0].effective &= !(1 << NET_RAW);
        got | libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr())
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

#[test]
fn without_permission_for_raw_sockets_a_datagram_socket_is_used() {
    let Some(lan) = Lan::new("datagram ping", 2) else { return };
    let node = &lan.nodes[0];
    impatient(node);
    std::thread::scope(|scope| {
        let body = || {
            drop_net_raw();
            // A new namespace has nobody in the range.
            let error = Ping::open(node, addr("10.0.0.2"), &Options::default()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            sysctl(node, "ipv4/ping_group_range", "0 0");
            for (to, absent) in [("10.0.0.2", "10.0.9.9"), ("fd00::2", "fd00::99")] {
                let [mut ping, mut other] = [(); 2].map(|()| open(node, to));
                assert_eq!(echo(&exchange(&mut ping, 4)), (4, addr(to), Some(64), 64));
                silent(&mut other);
                assert_eq!(unreachable(&exchange(&mut open(node, absent), 6)).0, 6);
            }
        };
        scope.spawn(body).join().unwrap();
    });
}

#[test]
fn all_nodes_of_a_bridge_reach_each_other() {
    let Some(lan) = Lan::new("ping all", 20) else { return };
    for v6 in [false, true] {
        let pairs = lan.pairs(v6);
        assert_eq!(pairs.len(), 20 * 19);
        for (pair, result) in pairs.iter().zip(ping::all(&pairs, 3, Duration::from_secs(2))) {
            let took = result.unwrap_or_else(|error| panic!("{}: {error}", pair.to));
            assert!(took < SOON);
        }
    }
}

#[test]
fn each_of_many_pairs_has_its_own_result() {
    let Some(lan) = Lan::new("ping some", 4) else { return };
    let [one, two, three, four] = &lan.nodes[..] else { unreachable!() };
    impatient(one);
    sysctl(two, "ipv4/icmp_echo_ignore_all", "1");
    ip(four, "link set eth0 down");
    let file = File::open("/proc/self/status").unwrap();
    let pair = |netns, to| Pair { netns, to: addr(to) };
    let pairs = [
        pair(one, "10.0.0.3"),
        pair(one, "10.0.0.2"),
        pair(one, "fd00::2"),
        pair(one, "10.0.0.4"),
        pair(four, "10.0.0.1"),
        pair(&file, "10.0.0.1"),
        pair(three, "10.0.0.1"),
        pair(one, "10.0.0.3"),
        pair(one, "10.0.0.1"),
    ];
    let start = Instant::now();
    let results = ping::all(&pairs, 2, Duration::from_millis(500));
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(1) && took < SOON, "{took:?}");
    let text =
        |it: &Result<Duration, PingError>| it.as_ref().map_or_else(ToString::to_string, |_| "ok".to_owned());
    let expected = [
        "ok",
        "no answer",
        "ok",
        "Destination Host Unreachable (from 10.0.0.1)",
        "Network is unreachable (os error 101)",
        "Invalid argument (os error 22)",
        "ok",
        "ok",
        "ok",
    ];
    assert_eq!(results.iter().map(text).collect::<Vec<_>>(), expected);
    let reason = Reason { v6: false, kind: 3, code: 1, mtu: 0 };
    assert!(matches!(results[3], Err(PingError::Unreachable { reason: it, .. }) if it == reason));
    assert!(ping::all(&[], 0, Duration::ZERO).is_empty());
}

#[test]
fn more_pairs_than_the_neighbour_table_holds_are_pinged() {
    let Some(lan) = Lan::new("ping many", 40) else { return };
    // What was there before us stays, learned or set.
    let node = &lan.nodes[0];
    exchange(&mut open(node, "10.0.0.2"), 1);
    ip(node, "neigh add 10.0.8.8 lladdr 02:00:00:00:00:08 dev eth0 nud permanent");
    let pairs = lan.pairs(false);
    let open_files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let results = std::thread::scope(|scope| {
        let work = scope.spawn(|| ping::all(&pairs, 3, Duration::from_secs(2)));
        let mut most = 0;
        while !work.is_finished() {
            most = most.max(open_files());
            std::thread::yield_now();
        }
        (work.join().unwrap(), most)
    });
    let (results, most) = results;
    for (pair, result) in pairs.iter().zip(results) {
        result.unwrap_or_else(|error| panic!("{}: {error}", pair.to));
    }
    // Other tests have theirs at the same time.
    assert!(most < pairs.len(), "{most} open files");
    let left = ip(node, "neigh show");
    assert!(left.contains("10.0.0.2 ") && left.contains("10.0.8.8 "), "{left}");
}

/// Prints how long an all-to-all ping takes: docs/performance.md quotes it.
#[test]
#[ignore = "measures"]
fn ping_of_100_nodes_all_to_all() {
    let Some(lan) = Lan::new("ping speed", 100) else { return };
    let pairs = lan.pairs(false);
    for _ in 0..3 {
        let start = Instant::now();
        let results = ping::all(&pairs, 2, Duration::from_secs(1));
        let took = start.elapsed();
        let answered = results.iter().filter(|it| it.is_ok()).count();
        println!("{answered} of {} pairs in {} ms", pairs.len(), took.as_millis());
        assert_eq!(answered, pairs.len());
    }
}
