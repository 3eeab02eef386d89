//! The examples that need no image, each in a lab.

use std::path::Path;

use crate::lab::Lab;
use crate::support::skip;

fn example(name: &str, args: &[&str]) -> Option<Lab> {
    let mut lab = Lab::empty(name)?;
    lab.name = name.to_owned();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("modes-examples").join(name);
    for entry in std::fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), lab.world.path(entry.file_name().to_str().unwrap())).unwrap();
        }
    }
    let run = lab.up(args);
    assert_eq!(run.stderr, "", "nothing of it is left out in silence, nor is anything wrong");
    assert!(run.stdout.ends_with("; all links connected\n"), "{}", run.stdout);
    Some(lab)
}

/// Checks that every node reaches every other, in this number of pairs.
#[track_caller]
fn all_answer(lab: &Lab, pairs: usize) {
    let said = lab.done("ping", &[]);
    assert!(said.ends_with(&format!("\n{pairs} of {pairs} answered\n")), "{said}");
}

#[test]
fn two_hosts_reach_each_other() {
    let Some(lab) = example("two-hosts", &["--compose-file", "compose.yaml"]) else { return };
    all_answer(&lab, 2);
    let said = lab.done("ping", &["-c", "2", "-i", "0.01", "h1", "10.0.1.2"]);
    assert!(said.contains("2 sent, 2 received, 0% lost"), "{said}");
}

#[test]
fn hosts_reach_each_other_through_a_router() {
    let Some(lab) = example("router", &[]) else { return };
    all_answer(&lab, 12);
    // One hop: the router reduces the TTL of 64 by one.
    assert!(lab.done("ping", &["-c", "1", "h1", "10.3.0.10"]).contains("ttl=63"));
    assert_eq!(lab.exec("r", &["cat", "/proc/sys/net/ipv4/ip_forward"]), "1\n");
    assert!(lab.exec("h3", &["ip", "route"]).starts_with("default via 10.3.0.1 dev eth0"));
}

#[test]
fn each_replica_has_addresses_of_its_own() {
    let Some(lab) = example("scaled", &[]) else { return };
    all_answer(&lab, 12);
    for index in 1..=3 {
        let node = format!("worker-{index}");
        assert!(lab.done("ping", &["-c", "1", "server", &node]).contains("1 received"));
        let eth0 = lab.exec(&node, &["ip", "addr", "show", "eth0"]);
        assert!(eth0.contains(&format!("02:00:0a:00:01:6{}", 3 + index)), "{eth0}");
        assert!(eth0.contains(&format!("inet 10.0.1.{}/24", 99 + index)), "{eth0}");
        let eth1 = lab.exec(&node, &["ip", "addr", "show", "eth1"]);
        assert!(eth1.contains(&format!("inet 10.9.{index}.1/24")), "{eth1}");
    }
}

#[test]
fn a_patch_passes_frames_as_they_were_sent() {
    let Some(lab) = example("patch", &[]) else { return };
    all_answer(&lab, 2);
    let python = ["/usr/bin/python3", "/usr/local/bin/python3"].into_iter().find(|it| Path::new(it).exists());
    let Some(python) = python else { return skip("frames over a patch", "python3 is not installed") };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("modes-examples/frames.py");
    for (from, to) in [("s1", "s2"), ("s2", "s1")] {
        let line = format!("{python} {} {} {}", script.display(), lab.pid(from), lab.pid(to));
        let said = lab.world.sh(&line);
        assert_eq!(said.matches("arrived as sent").count(), 3, "{said}");
    }
}

#[test]
fn ospf_finds_another_way_when_a_cable_is_pulled() {
    if !Path::new("/usr/sbin/bird").exists() {
        return skip("OSPF with BIRD", "the package bird2 is not installed");
    }
    let Some(lab) = example("ospf", &[]) else { return };
    let neighbors = lab.exec("r1", &["birdc", "show", "ospf", "neighbors"]);
    assert_eq!(neighbors.matches("Full/PtP").count(), 2, "{neighbors}");
    assert!(lab.exec("r1", &["ip", "route"]).contains("10.3.0.0/24 via 10.0.13.2 dev eth2"));
    all_answer(&lab, 20);
    let pulled = lab.world.run(lab.world.conlink(&["link", "down", "-n", &lab.name, "r1:eth2"]));
    assert_eq!(pulled.code, 0, "{pulled:?}");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let there = lab.exec("r1", &["ip", "route"]).contains("10.3.0.0/24 via 10.0.12.2 dev eth1");
        let back = lab.exec("r3", &["ip", "route"]).contains("10.1.0.0/24 via 10.0.23.1 dev eth1");
        if there && back {
            break;
        }
        assert!(std::time::Instant::now() < end, "the routes of r1 and r3 lead through r2");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    // Three hops: each router takes one from the 64 that the other end sends.
    assert!(lab.done("ping", &["-c", "1", "h1", "h3"]).contains("ttl=61"));
}

#[test]
fn files_of_both_kinds_become_one_network_and_commands_run() {
    let files = ["--compose-file", "compose.yaml:more.yaml", "--network-file", "net.yaml"];
    let Some(lab) = example("spread", &files) else { return };
    all_answer(&lab, 6);
    assert!(lab.done("ping", &["-c", "1", "h1", "10.9.0.3"]).contains("ttl=63"));
    lab.until_said("h2", "h2 has 2 links");
    assert!(lab.exec("--bridges", &["ip", "-o", "link", "show", "wan"]).contains("mtu 1400"));
}
