//! Interfaces, addresses and routes that are waited for, in namespaces of their own.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

use conlink::kernel::netns;
use nix::sys::signal::Signal;

use super::{Waiter, proc_file, wait};
use crate::support::{inside, ip, may_unshare};

/// A fresh namespace with `lo` up.
fn space(what: &str) -> Option<File> {
    if !may_unshare(what) {
        return None;
    }
    let netns = netns::anonymous().unwrap();
    ip(&netns, "link set lo up");
    Some(netns)
}

/// `wait ARGS` inside, at the point where it waits.
fn waiting(netns: &File, args: &str) -> Waiter {
    let args: Vec<&str> = args.split_whitespace().collect();
    let mut waiter = Waiter::start_in(netns, wait(&args));
    waiter.until("Waiting for");
    waiter
}

/// Does it hold at once?
fn holds(netns: &File, args: &str) -> bool {
    let args: Vec<&str> = args.split_whitespace().collect();
    let run = Waiter::start_in(netns, wait(&[&["-T", "0.05"], &args[..]].concat()))
        .end_within(std::time::Duration::from_secs(5));
    assert!(run.code == 0 || run.code == 124, "{run:?}");
    run.code == 0
}

#[test]
fn an_interface_that_comes_goes_and_comes_again() {
    let Some(netns) = space("interface") else { return };
    let waiter = waiting(&netns, "-i eth0");
    ip(&netns, "link add eth0 type bridge");
    let run = waiter.held();
    assert!(run.stderr.ends_with("Interface 'eth0' exists\n"), "{}", run.stderr);
    let waiter = waiting(&netns, "--gone eth0");
    ip(&netns, "link del eth0");
    waiter.held();
    // While it has to hold for a time, it goes: the time starts anew.
    let mut waiter = waiting(&netns, "--hold 1 -i eth0");
    ip(&netns, "link add eth0 type bridge");
    waiter.goes_on();
    ip(&netns, "link del eth0");
    for _ in 0..8 {
        waiter.goes_on();
    }
    ip(&netns, "link add eth0 type bridge");
    waiter.goes_on();
    waiter.end_within(std::time::Duration::from_secs(5));
}

#[test]
fn an_interface_may_be_renamed_or_moved_into_place() {
    let Some(netns) = space("rename") else { return };
    ip(&netns, "link add tmp0 type bridge");
    let mut waiter = waiting(&netns, "-i eth0");
    // Not the interface of that name, which the kernel finds by it all the same.
    ip(&netns, "link property add dev tmp0 altname eth0");
    waiter.goes_on();
    ip(&netns, "link property del dev tmp0 altname eth0");
    ip(&netns, "link set tmp0 name eth0");
    waiter.held();
    let other = netns::anonymous().unwrap();
    ip(&other, "link add eth1 type veth peer name peer");
    let waiter = waiting(&netns, "-i eth1");
    let file = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&netns));
    inside(&other, "ip", &["link", "set", "eth1", "netns", &file]);
    waiter.held();
}

#[test]
fn an_address_that_comes_before_the_route() {
    let Some(netns) = space("address and route") else { return };
    ip(&netns, "link add eth0 type veth peer name peer");
    let mut waiter = waiting(&netns, "-I eth0");
    ip(&netns, "link set peer up");
    ip(&netns, "link set eth0 up");
    waiter.goes_on();
    ip(&netns, "addr add 10.0.0.1/32 dev eth0");
    waiter.goes_on();
    ip(&netns, "route add 10.9.0.0/16 dev eth0");
    let run = waiter.held();
    assert!(run.stderr.ends_with("Interface 'eth0' has IP/routing\n"), "{}", run.stderr);
    // Down again, it has neither.
    ip(&netns, "link set eth0 down");
    let waiter = waiting(&netns, "--ip4 eth0");
    ip(&netns, "link set eth0 up");
    ip(&netns, "route add default dev eth0");
    waiter.held();
    assert!(!holds(&netns, "--ip6 eth0"));
}

#[test]
fn what_the_reference_never_sees_or_sees_too_soon() {
    let Some(netns) = space("reference") else { return };
    ip(&netns, "link add eth0 type veth peer name peer");
    ip(&netns, "link set peer up");
    ip(&netns, "link set eth0 up");
    // A route alone is not enough.
    ip(&netns, "route add 10.9.0.0/16 dev eth0");
    assert!(!holds(&netns, "-I eth0"));
    ip(&netns, "route del 10.9.0.0/16 dev eth0");
    // IPv6 alone.
    ip(&netns, "addr add fd00::1/64 dev eth0 nodad");
    assert!(holds(&netns, "-I eth0"));
    assert!(holds(&netns, "--ip6 eth0"));
    assert!(!holds(&netns, "--ip4 eth0"));
    ip(&netns, "addr del fd00::1/64 dev eth0");
    assert!(!holds(&netns, "-I eth0"));
    // A /32 without a prefix route, its route in another table as in a VRF.
    ip(&netns, "addr add 10.0.0.1/32 dev eth0 noprefixroute");
    assert!(!holds(&netns, "-I eth0"));
    ip(&netns, "route add default dev eth0 table 77");
    assert!(holds(&netns, "-I eth0"));
    assert!(holds(&netns, "-I lo"));
}

#[test]
fn an_ipv6_address_counts_once_duplicate_address_detection_is_over() {
    let Some(netns) = space("duplicate address detection") else { return };
    ip(&netns, "link add eth0 type veth peer name peer");
    ip(&netns, "link set peer up");
    ip(&netns, "link set eth0 up");
    ip(&netns, "addr add fd00::1/64 dev eth0");
    assert!(ip(&netns, "addr show dev eth0").contains("fd00::1/64 scope global tentative"));
    let mut waiter = waiting(&netns, "-I eth0");
    let mut addr = waiting(&netns, "--addr fd00::1");
    let mut dad = waiting(&netns, "--dad eth0");
    waiter.goes_on();
    addr.goes_on();
    dad.goes_on();
    // It takes the kernel one to two seconds, with a random delay before.
    for it in [waiter, addr, dad] {
        let run = it.end_within(std::time::Duration::from_secs(8));
        assert_eq!(run.code, 0, "{run:?}");
    }
    assert!(!ip(&netns, "addr show dev eth0").contains("fd00::1/64 scope global tentative"));
}

#[test]
fn a_duplicate_address_is_none() {
    let Some(netns) = space("duplicate address") else { return };
    ip(&netns, "link add eth0 type veth peer name peer");
    ip(&netns, "link set peer up");
    ip(&netns, "link set eth0 up");
    ip(&netns, "addr add fd00::1/64 dev peer nodad");
    ip(&netns, "addr add fd00::1/64 dev eth0");
    let command = wait(&["-T", "4", "-I", "eth0"]);
    let run = Waiter::start_in(&netns, command).end_within(std::time::Duration::from_secs(8));
    assert_eq!(run.code, 124);
    assert!(run.stderr.contains("the address fd00::1/64 is a duplicate"), "{}", run.stderr);
}

#[test]
fn up_is_with_a_carrier() {
    let Some(netns) = space("carrier") else { return };
    ip(&netns, "link add eth0 type veth peer name peer");
    let mut waiter = waiting(&netns, "--up eth0");
    ip(&netns, "link set eth0 up");
    waiter.goes_on();
    ip(&netns, "link set peer up");
    waiter.held();
    assert!(holds(&netns, "--up lo"));
    assert!(!holds(&netns, "--up none"));
}

#[test]
fn addresses_by_themselves_or_by_their_network() {
    let Some(netns) = space("addresses") else { return };
    ip(&netns, "link add eth0 type bridge");
    for (args, cidr) in [
        ("--addr 10.0.0.1", "10.0.0.1/24"),
        ("--addr 10.1.0.1/16", "10.1.0.1/16"),
        ("--addr 10.2.0.0/16", "10.2.3.4/24"),
        ("--addr fd00::1", "fd00::1/64"),
    ] {
        let mut waiter = waiting(&netns, args);
        ip(&netns, "addr add 192.0.2.1/24 dev eth0");
        waiter.goes_on();
        ip(
            &netns,
            &format!("addr add {cidr} dev eth0 nodad")
                .replace(if cidr.contains(':') { "" } else { " nodad" }, ""),
        );
        ip(&netns, "link set eth0 up");
        waiter.held();
        ip(&netns, "addr flush dev eth0");
        ip(&netns, "link set eth0 down");
    }
    ip(&netns, "addr add 10.1.0.1/24 dev eth0");
    assert!(!holds(&netns, "--addr 10.1.0.1/16"));
}

#[test]
fn routes_by_their_network_or_as_a_way_to_an_address() {
    let Some(netns) = space("routes") else { return };
    ip(&netns, "link add eth0 type veth peer name peer");
    ip(&netns, "link set peer up");
    ip(&netns, "link set eth0 up");
    ip(&netns, "addr add 10.0.0.1/24 dev eth0");
    for (args, route) in [
        ("--route default", "default via 10.0.0.2"),
        ("--route 10.5.0.0/16", "10.5.0.0/16 via 10.0.0.2"),
        ("--route 10.6.0.0/16@eth0", "10.6.0.0/16 dev eth0"),
        ("--route 10.7.1.2", "10.7.0.0/16 dev eth0"),
        ("--route 10.8.1.2@eth0", "10.8.0.0/16 dev eth0"),
        ("--route fd05::/32", "fd05::/32 dev eth0"),
        ("--route fd06::1", "fd06::/32 dev eth0"),
    ] {
        let mut waiter = waiting(&netns, args);
        ip(&netns, "route add 172.16.0.0/12 dev eth0");
        waiter.goes_on();
        let family = if route.starts_with("fd") { "-6 " } else { "" };
        ip(&netns, &format!("{family}route add {route}"));
        waiter.held();
        ip(&netns, &format!("{family}route del {route}"));
        ip(&netns, "route del 172.16.0.0/12 dev eth0");
    }
    ip(&netns, "route add blackhole 10.5.0.0/16");
    assert!(!holds(&netns, "--route 10.5.0.0/16"));
    assert!(!holds(&netns, "--route 10.5.0.1"));
    assert!(!holds(&netns, "--route 10.0.0.0/24@peer"));
    assert!(holds(&netns, "--route 10.0.0.0/24@eth0"));
    assert!(holds(&netns, "--route 10.0.0.1"));
}

#[test]
fn patterns_counts_and_settings() {
    let Some(netns) = space("settings") else { return };
    let pattern = waiting(&netns, "-i eth*");
    let mut count = waiting(&netns, "--if-count 2:eth*");
    let mut all = waiting(&netns, "--if-count 2");
    ip(&netns, "link add eth5 type bridge");
    pattern.held();
    count.goes_on();
    all.goes_on();
    ip(&netns, "link add eth6 type bridge");
    count.held();
    all.held();
    let mtu = waiting(&netns, "--mtu eth5=1400");
    ip(&netns, "link set eth5 mtu 1400");
    mtu.held();
    let mac = waiting(&netns, "--mac eth5=02:00:00:00:00:05");
    ip(&netns, "link set eth5 address 02:00:00:00:00:05");
    mac.held();
}

/// Feeds `ip -batch` inside a namespace.
fn batch(netns: &File, lines: &str) {
    netns::inside(netns, || {
        let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn()?;
        child.stdin.take().unwrap().write_all(lines.as_bytes())?;
        assert!(child.wait()?.success());
        Ok(())
    })
    .unwrap();
}

#[test]
fn nothing_is_missed_in_a_flood_that_overruns_the_socket() {
    let Some(netns) = space("flood") else { return };
    ip(&netns, "link add noise type bridge");
    // Only of what is switched on are such changes told.
    ip(&netns, "link set noise up");
    let waiter = waiting(&netns, "-i eth0 -I eth0");
    let flood: String = (0..10_000).map(|it| format!("link set noise alias n{it}\n")).collect();
    // While it is stopped, its socket takes some of the notices and loses the rest.
    waiter.signal(Signal::SIGSTOP);
    batch(&netns, &flood);
    ip(&netns, "link add eth0 type bridge");
    batch(&netns, &flood);
    let dropped = proc_file(waiter.pid(), "net/netlink");
    let dropped: u64 =
        dropped.lines().skip(1).filter_map(|it| it.split_whitespace().nth(8)?.parse::<u64>().ok()).sum();
    assert!(dropped > 1000, "{dropped} dropped");
    let mut waiter = waiter;
    waiter.signal(Signal::SIGCONT);
    waiter.until("Interface 'eth0' exists");
    // In the midst of another one, and it still hears.
    let more = std::thread::scope(|scope| {
        let noise = scope.spawn(|| batch(&netns, &flood));
        ip(&netns, "link set eth0 up");
        ip(&netns, "addr add 10.0.0.1/24 dev eth0");
        noise.join().unwrap();
        waiter.held()
    });
    assert!(more.stderr.ends_with("Interface 'eth0' has IP/routing\n"), "{}", more.stderr);
}
