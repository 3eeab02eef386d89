//! Bridges of Open vSwitch in labs, whose keeper has a process namespace of its own.

use std::time::Instant;

use crate::lab::Lab;
use crate::lab::world::LIMIT;
use crate::support::skip;

const COMPOSE: &str = "
services: {a: {}, b: {}}
x-network:
  links:
  - {service: a, bridge: lan, ip: 10.0.0.1/24}
  - {service: b, bridge: lan, ip: 10.0.0.2/24}
  bridges:
  - {bridge: lan, mode: ovs}
";

fn lab(test: &str) -> Option<Lab> {
    if conlink::kernel::probe().is_none() {
        skip(test, "openvswitch-switch is not installed");
        return None;
    }
    Lab::up_with(test, COMPOSE)
}

fn reaches(lab: &Lab) -> bool {
    lab.run("exec", &["a", "--", "ping", "-c", "1", "-W", "1", "10.0.0.2"]).code == 0
}

#[track_caller]
fn until_it_reaches(lab: &Lab) {
    let end = Instant::now() + LIMIT;
    while !reaches(lab) {
        assert!(Instant::now() < end, "{:#}\n{}", lab.status(), lab.keepers_log());
    }
}

#[test]
fn nodes_on_a_bridge_of_open_vswitch_reach_each_other() {
    let Some(lab) = lab("nodes_on_a_bridge_of_open_vswitch_reach_each_other") else { return };
    lab.until("connected", |it| it["state"] == "connected");
    until_it_reaches(&lab);
    // Nodes change, and the daemons keep running.
    lab.write("compose.yaml", &COMPOSE.replace("{a: {}, b: {}}", "{a: {}, b: {}, c: {}}"));
    lab.up(&[]);
    until_it_reaches(&lab);
    lab.down();
}

#[test]
fn a_port_that_somebody_deletes_is_restored() {
    let Some(lab) = lab("a_port_that_somebody_deletes_is_restored") else { return };
    lab.until("connected", |it| it["state"] == "connected");
    until_it_reaches(&lab);
    let switch = "ovs-vsctl --timeout=10 --db=unix:/run/conlink/lab/test/ovs/db.sock";
    let ports = lab.world.sh(&format!("{switch} list-ports lan"));
    for port in ports.lines() {
        lab.world.sh(&format!("{switch} del-port lan {port}"));
    }
    let end = Instant::now() + LIMIT;
    while lab.world.sh(&format!("{switch} list-ports lan")) != ports {
        assert!(Instant::now() < end, "{:#}\n{}", lab.status(), lab.keepers_log());
    }
    until_it_reaches(&lab);
    // Also the whole bridge.
    lab.world.sh(&format!("{switch} del-br lan"));
    let end = Instant::now() + LIMIT;
    while lab.world.sh(&format!("{switch} list-ports lan || true")) != ports {
        assert!(Instant::now() < end, "{:#}\n{}", lab.status(), lab.keepers_log());
    }
    until_it_reaches(&lab);
    lab.down();
}

#[test]
fn a_lab_with_a_hung_switch_answers_and_recovers() {
    let Some(lab) = lab("a_lab_with_a_hung_switch_answers_and_recovers") else { return };
    lab.until("connected", |it| it["state"] == "connected");
    // The world has processes of its own.
    let pid = || lab.world.sh("pgrep -x ovs-vswitchd").trim().parse::<u64>().unwrap();
    let before = pid();
    lab.signal("STOP", before);
    let more = COMPOSE.replace("{a: {}, b: {}}", "{a: {}, b: {}, c: {}}").replace(
        "  bridges:",
        "  - {service: c, bridge: lan, ip: 10.0.0.3/24}\n  \
         - {service: c, bridge: other, dev: eth1, ip: 10.0.1.1/24}\n  \
         - {service: a, bridge: other, dev: eth1, ip: 10.0.1.2/24}\n  bridges:",
    );
    lab.write("compose.yaml", &more);
    let begin = Instant::now();
    let run = lab.run("up", &[]);
    assert!(begin.elapsed() < LIMIT, "{run:?}");
    lab.until("connected", |it| it["state"] == "connected");
    assert_ne!(pid(), before);
    for ip in ["10.0.0.2", "10.0.0.1", "10.0.1.2"] {
        lab.exec("c", &["ping", "-c", "1", "-W", "5", ip]);
    }
    // A hung daemon does not prevent the end.
    lab.signal("STOP", pid());
    lab.run("down", &[]);
    lab.down();
}
