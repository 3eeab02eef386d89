//! Changes that others make to a running network: drift is reported, deleted interfaces are made again.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::Lab;
use crate::support::Run;

const TWO: &str = "
services:
  a:
    command: sleep 1000
    x-network: {links: [{bridge: lan, ip: 10.0.0.1/24, route: 10.9.0.0/16 via 10.0.0.2}]}
  b:
    command: sleep 1000
    x-network: {links: [{bridge: lan, ip: 10.0.0.2/24}]}
";

fn conlink(lab: &Lab, subcommand: &str) -> Run {
    lab.world.run(lab.world.conlink(&[subcommand, "test"]))
}

#[test]
fn the_first_status_after_a_change_shows_it() {
    let Some(lab) = Lab::up_with("first-status", TWO) else { return };
    lab.until("connected", |it| it["state"] == "connected");
    for round in 0..20 {
        lab.exec("b", &["ip", "link", "set", "eth0", "down"]);
        assert_eq!(lab.status()["state"], "drifted", "round {round}");
        lab.exec("b", &["ip", "link", "set", "eth0", "up"]);
        assert_eq!(lab.status()["state"], "connected", "round {round}");
    }
}

#[test]
fn changes_of_others_are_reported_and_not_repaired() {
    let Some(lab) = Lab::up_with("drift", TWO) else { return };
    let changes = [
        ("b", "ip link set eth0 down", "link test-b-1:eth0: down", "ip link set eth0 up"),
        (
            "a",
            "ip link set eth0 mtu 1400",
            "link test-a-1:eth0: mtu 1400 instead of",
            "ip link set eth0 mtu 65535",
        ),
        (
            "b",
            "ip addr flush dev eth0",
            "link test-b-1:eth0: address 10.0.0.2/24 missing",
            "ip addr add 10.0.0.2/24 dev eth0",
        ),
        ("--bridges", "ip link set lan down", "bridge lan: lan: down", "ip link set lan up"),
        (
            "--bridges",
            "ip link set b_1-eth0 down",
            "link test-b-1:eth0: b_1-eth0: down",
            "ip link set b_1-eth0 up",
        ),
        ("a", "ip link set eth0 arp off", "link test-a-1:eth0: arp off", "ip link set eth0 arp on"),
        (
            "--bridges",
            "bridge link set dev a_1-eth0 state 0",
            "link test-a-1:eth0: a_1-eth0: bridge port not forwarding",
            "bridge link set dev a_1-eth0 state 3",
        ),
        (
            "--bridges",
            "bridge link set dev a_1-eth0 isolated on",
            "link test-a-1:eth0: a_1-eth0: bridge port isolated",
            "bridge link set dev a_1-eth0 isolated off",
        ),
        // The same route by another hand is as good as ours.
        (
            "a",
            "ip route del 10.9.0.0/16",
            "link test-a-1:eth0: route 10.9.0.0/16 via 10.0.0.2 dev eth0 missing",
            "ip route add 10.9.0.0/16 via 10.0.0.2",
        ),
        (
            "a",
            "ip route replace 10.9.0.0/16 via 10.0.0.3",
            "link test-a-1:eth0: route 10.9.0.0/16 via 10.0.0.2 dev eth0 missing",
            "ip route replace 10.9.0.0/16 via 10.0.0.2",
        ),
    ];
    for (node, change, told, back) in changes {
        let command = |line: &str| lab.exec(node, &line.split(' ').collect::<Vec<_>>());
        command(change);
        let start = Instant::now();
        lab.until("drifted", |it| it["state"] == "drifted");
        assert!(start.elapsed() < Duration::from_secs(2), "{change} was told after {:?}", start.elapsed());
        let diff = conlink(&lab, "diff");
        assert_eq!(diff.code, 1, "{diff:?}");
        assert!(diff.stdout.contains(told), "{change}: {diff:?}");
        let health = conlink(&lab, "healthcheck");
        assert_eq!(health.code, 1, "{health:?}");
        assert!(health.stderr.contains("changed outside conlink"), "{health:?}");
        command(back);
        lab.until("connected", |it| it["state"] == "connected");
        let diff = conlink(&lab, "diff");
        assert_eq!((diff.code, diff.stdout.as_str()), (0, ""), "{diff:?}");
    }
}

#[test]
fn diff_shows_failed_steps_with_their_errors() {
    let bad = TWO.replace("via 10.0.0.2", "via 10.7.7.7");
    let Some(lab) = Lab::new("pending", &bad) else { return };
    assert_eq!(lab.run("up", &[]).code, 1);
    let diff = conlink(&lab, "diff");
    let pending = "link test-a-1:eth0: not applied yet: add route 10.9.0.0/16 via 10.7.7.7 dev eth0\n";
    assert!(diff.code == 1 && diff.stdout.starts_with(pending), "{diff:?}");
    assert!(diff.stdout.contains("Network is unreachable"), "{diff:?}");
    let json = lab.world.run(lab.world.conlink(&["diff", "--json", "test"]));
    assert!(json.stdout.starts_with("{\"kind\":\"pending\",\"subject\":\"link test-a-1:eth0\","), "{json:?}");
}

#[test]
fn deleted_interfaces_are_made_again() {
    let Some(lab) = Lab::up_with("repair", TWO) else { return };
    let damage = [
        ("a", "ip link del eth0"),
        ("--bridges", "ip link del a_1-eth0"),
        ("--bridges", "ip link set a_1-eth0 nomaster"),
        ("--bridges", "ip link set a_1-eth0 name elsewhere"),
        ("--bridges", "ip link del lan"),
        ("--bridges", "ip link set lan name astray"),
    ];
    for (node, damage) in damage {
        lab.exec(node, &damage.split(' ').collect::<Vec<_>>());
        lab.until("repaired", |it| {
            let links = lab.exec("--bridges", &["ip", "-o", "link"]);
            let is_port = |name: &str| links.lines().any(|it| it.contains(name) && it.contains("master lan"));
            it["state"] == "connected" && is_port("a_1-eth0") && is_port("b_1-eth0")
        });
        assert!(lab.done("ping", &["-c", "1", "a", "b"]).contains("1 received"), "after {damage}");
        lab.until("cleared", |it| {
            it["state"] == "connected" && !lab.exec("--bridges", &["ip", "link"]).contains("astray")
        });
        assert!(lab.exec("a", &["ip", "route"]).contains("10.9.0.0/16"), "after {damage}");
    }
}

#[test]
fn repair_restores_a_route_that_was_replaced_by_hand_before() {
    let compose = TWO.replace("via 10.0.0.2}", "via 10.0.0.2, repair: true}");
    let Some(lab) = Lab::up_with("repair of a route", &compose) else { return };
    let has_route = |_: &Value| lab.exec("a", &["ip", "route"]).contains("10.9.0.0/16");
    lab.sh("a", "ip route del 10.9.0.0/16; ip route add 10.9.0.0/16 via 10.0.0.2");
    for _ in 0..3 {
        lab.until("connected", |it| it["state"] == "connected" && has_route(it));
        let diff = conlink(&lab, "diff");
        assert_eq!((diff.code, diff.stdout.as_str()), (0, ""), "{diff:?}");
        lab.sh("a", "ip route del 10.9.0.0/16");
        lab.until("restored", has_route);
        lab.sh("a", "ip route del 10.9.0.0/16; ip route add 10.9.0.0/16 via 10.0.0.2");
    }
}

#[test]
fn link_up_and_lab_up_undo_the_changes_of_others() {
    let Some(lab) = Lab::up_with("undone changes", TWO) else { return };
    let changes = [
        ("a", "ip link set eth0 down"),
        ("a", "ip addr flush dev eth0"),
        ("a", "ip route del 10.9.0.0/16"),
        ("--bridges", "ip link set a_1-eth0 down"),
    ];
    let ways = [&["link", "up", "-n", "test", "a"] as &[&str], &["lab", "up", "-n", "test"]];
    for (way, (node, change)) in ways.into_iter().flat_map(|way| changes.map(|it| (way, it))) {
        lab.sh(node, change);
        lab.until("told", |it| it["state"] == "drifted");
        let diff = conlink(&lab, "diff");
        assert_eq!(diff.stderr, "hint: `conlink link up <NODE>` restores the links of a node\n", "{diff:?}");
        let run = lab.world.run(lab.world.conlink(way));
        assert_eq!((run.code, run.stderr.contains("error")), (0, false), "{way:?} after {change}: {run:?}");
        let diff = conlink(&lab, "diff");
        assert_eq!((diff.code, diff.stdout.as_str()), (0, ""), "{way:?} after {change}: {diff:?}");
    }
    // At once too, before the change has been heard of.
    for _ in 0..4 {
        lab.sh("a", "ip link set eth0 down");
        let run = lab.world.run(lab.world.conlink(ways[0]));
        assert_eq!((run.code, run.stdout.as_str()), (0, "test-a-1:eth0: plugged in\n"), "{run:?}");
    }
}
