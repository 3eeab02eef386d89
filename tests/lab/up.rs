//! `lab up`: again, with changed files, with mistakes.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{Lab, process};

const THREE: &str = "
services:
  a:
    command: sleep 1000
    x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}
  b:
    command: sleep 1000
    x-network: {links: [{bridge: lan, ip: 10.0.0.2/24}]}
  c: {command: sleep 1000}
";

fn pids(status: &Value) -> Vec<(String, u64)> {
    let nodes = status["nodes"].as_array().unwrap().iter().map(|it| &it["process"]);
    let mut all: Vec<_> =
        nodes.map(|it| (it["name"].as_str().unwrap().to_owned(), it["pid"].as_u64().unwrap())).collect();
    all.sort();
    all
}

#[test]
fn a_second_up_restarts_nothing() {
    let Some(lab) = Lab::up_with("up twice", THREE) else { return };
    let before = lab.status();
    let links = lab.exec("--bridges", &["ip", "-o", "link"]);
    let run = lab.up(&[]);
    assert_eq!(run.stdout, "lab test is up: 3 nodes, 2 links; all links connected\n");
    assert_eq!(pids(&lab.status()), pids(&before));
    assert_eq!(lab.exec("--bridges", &["ip", "-o", "link"]), links);
}

#[test]
fn up_starts_exited_nodes_again() {
    let Some(lab) = Lab::up_with("up after an end", THREE) else { return };
    let before = lab.status();
    lab.signal("KILL", lab.pid("a"));
    lab.until_node("a", "exited");
    lab.up(&[]);
    let after = lab.status();
    assert_ne!(process(&after, "a")["pid"], process(&before, "a")["pid"]);
    assert_eq!(process(&after, "b")["pid"], process(&before, "b")["pid"]);
    assert!(lab.done("ping", &[]).ends_with("2 of 2 answered\n"));
}

#[test]
fn up_restarts_only_changed_nodes() {
    let Some(lab) = Lab::up_with("changed files", THREE) else { return };
    let before = lab.status();
    let pid = |status: &Value, node: &str| process(status, node)["pid"].clone();
    // Another command for b, a new service d, and no service c.
    let changed = THREE.replace("  b:\n    command: sleep 1000", "  b:\n    command: sleep 1001");
    let changed = changed.replace("  c: {", "  d: {");
    lab.write("compose.yaml", &changed);
    lab.up(&[]);
    let after = lab.status();
    let names: Vec<String> = pids(&after).into_iter().map(|it| it.0).collect();
    assert_eq!(names, ["a", "b", "d"]);
    assert_eq!(pid(&after, "a"), pid(&before, "a"));
    assert_ne!(pid(&after, "b"), pid(&before, "b"));
    assert_eq!(lab.sh("b", "tr '\\0' ' ' </proc/1/cmdline"), "sleep 1001 ");
    assert!(lab.done("ping", &[]).ends_with("2 of 2 answered\n"));
    assert!(!lab.folder().join("nodes/test-c-1").exists());
}

#[test]
fn a_changed_link_is_changed_in_place() {
    let Some(lab) = Lab::up_with("a changed link", THREE) else { return };
    let before = pids(&lab.status());
    let changed = THREE.replace("ip: 10.0.0.2/24", "ip: 10.0.0.99/24, mtu: 1400");
    let changed = changed.replace("  c: {", "  c: {x-network: {links: [{bridge: lan, ip: 10.0.0.3/24}]}, ");
    lab.write("compose.yaml", &changed);
    let run = lab.up(&[]);
    assert!(run.stdout.contains("3 nodes, 3 links; all links connected"), "{run:?}");
    assert_eq!(pids(&lab.status()), before);
    let shown = lab.exec("b", &["ip", "-o", "addr", "show", "eth0"]) + &lab.exec("b", &["ip", "link"]);
    assert!(
        shown.contains("10.0.0.99/24") && !shown.contains("10.0.0.2/24") && shown.contains("mtu 1400"),
        "{shown}"
    );
    assert!(lab.done("ping", &[]).ends_with("6 of 6 answered\n"));
    // Running nodes see the new addresses by name.
    assert!(lab.exec("a", &["cat", "/etc/hosts"]).contains("10.0.0.99"));
    assert!(lab.exec("a", &["getent", "hosts", "c"]).contains("10.0.0.3"));
    // And the link is removed again.
    lab.write("compose.yaml", THREE);
    lab.up(&[]);
    assert_eq!(pids(&lab.status()), before);
    assert!(!lab.exec("c", &["ip", "link"]).contains("eth0"));
    assert_eq!(lab.exec("--bridges", &["ip", "-o", "link", "show", "master", "lan"]).lines().count(), 2);
}

#[test]
fn removed_links_leave_no_bridge_behind() {
    let Some(lab) = Lab::up_with("no links any more", THREE) else { return };
    lab.write("compose.yaml", "services: {a: {command: sleep 1000}}");
    lab.up(&[]);
    assert_eq!(lab.exec("--bridges", &["ip", "-br", "link"]).lines().count(), 1);
    assert_eq!(lab.exec("a", &["ip", "-br", "link"]).lines().count(), 1);
}

#[test]
fn mistakes_are_reported_with_their_places_and_nothing_is_started() {
    let compose = "\
services:
  a:
    command: [sh, -c, touch started]
    x-network: {links: [{bridge: lan, ip: 10.0.0.256/24}]}
  b:
    depends_on: [nobody]
    stop_signal: SIGNOTHING
    scale: lots
";
    let Some(lab) = Lab::new("mistakes", compose) else { return };
    for subcommand in ["up", "run"] {
        let args: &[&str] = if subcommand == "run" { &["--", "touch", "ran"] } else { &[] };
        let run = lab.run(subcommand, args);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
        for place in ["compose.yaml:4:43", "compose.yaml:6:18", "compose.yaml:7:18", "compose.yaml:8:12"] {
            assert!(run.stderr.contains(place), "{place}: {}", run.stderr);
        }
    }
    lab.world.expect(&lab.before);
    assert_eq!((lab.read("started"), lab.read("ran")), Default::default());
    // A running lab is not changed either.
    lab.write("compose.yaml", THREE);
    lab.up(&[]);
    let before = pids(&lab.status());
    lab.write("compose.yaml", compose);
    assert_eq!(lab.run("up", &[]).code, 1);
    assert_eq!(pids(&lab.status()), before);
}

#[test]
fn missing_files_are_named() {
    let Some(lab) = Lab::empty("no files") else { return };
    for (args, said) in [
        (&["--compose-file", "no.yaml"][..], "no.yaml"),
        (&["--network-file", "no.yaml"], "compose.yaml"),
        (&[], "compose.yaml"),
    ] {
        let run = lab.run("up", args);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
        assert!(run.stderr.starts_with("error: ") && run.stderr.contains(said), "{args:?}: {}", run.stderr);
    }
    lab.world.expect(&lab.before);
}

#[test]
fn a_link_that_the_kernel_refuses_stops_no_other() {
    let compose = "\
services:
  good: {x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
  better: {x-network: {links: [{bridge: lan, ip: 10.0.0.2/24}]}}
  bad:
    command: [sh, -c, echo it runs; exec sleep 1000]
    x-network:
      links:
        - {bridge: lan, ip: 10.0.0.3/24}
        - {type: macvlan, outer-dev: no-such-parent, dev: eth1, ip: 10.9.0.1/24}
";
    let Some(lab) = Lab::new("a refused link", compose) else { return };
    let run = lab.run("up", &[]);
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(run.stdout, "lab test is up with errors: 3 nodes, 4 links\n");
    let errors: Vec<&str> = run.stderr.lines().filter(|it| it.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("error: link test-bad-1:eth1: "), "{errors:?}");
    assert!(errors[0].contains("no-such-parent") && errors[0].contains("compose.yaml:9:38"), "{errors:?}");
    assert!(lab.done("ping", &["good", "bad"]).contains("3 received"));
    lab.until_said("bad", "it runs");
    assert_eq!(lab.run("status", &[]).code, 1);
    // The link is made when its parent appears.
    lab.world.sh("ip link add no-such-parent type veth peer name peer && ip link set no-such-parent up");
    lab.until("connected", |it| it["state"] == "connected");
    assert!(lab.exec("bad", &["ip", "-br", "addr", "show", "eth1"]).contains("10.9.0.1/24"));
    lab.done("down", &[]);
    lab.world.sh("ip link del no-such-parent");
}

#[test]
fn twenty_ups_at_once_make_one_lab() {
    let Some(lab) = Lab::new("ups at once", THREE) else { return };
    let children: Vec<_> = (0..20).map(|_| lab.start("up", &[])).collect();
    for child in children {
        let run = crate::lab::end(child, "up");
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    }
    let keepers = lab.world.sh("cat /proc/[0-9]*/comm | grep -c '^conlink: test' || true");
    assert_eq!(keepers, "1\n");
    assert_eq!(lab.status()["nodes"].as_array().unwrap().len(), 3);
}

#[test]
fn ups_and_downs_at_once_leave_a_working_lab() {
    let Some(lab) = Lab::new("ups and downs at once", THREE) else { return };
    let start = Instant::now();
    let mut children = Vec::new();
    for _ in 0..8 {
        children.push(("up", lab.start("up", &[])));
        children.push(("down", lab.start("down", &[])));
    }
    for (what, child) in children {
        let run = crate::lab::end(child, what);
        assert!(run.code == 0 || run.stderr.starts_with("error: "), "{what}: {run:?}");
        assert!(!run.stderr.contains("panicked"), "{what}: {run:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(20));
    lab.up(&[]);
    assert!(lab.done("ping", &[]).ends_with("2 of 2 answered\n"));
}
