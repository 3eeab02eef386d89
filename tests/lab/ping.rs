//! `lab ping` between many nodes.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::lab::{Lab, end};

const FOUR: &str = "
services:
  h1: {x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
  h2: {x-network: {links: [{bridge: lan, ip: 10.0.0.2/24}]}}
  twin: {x-network: {links: [{bridge: apart, ip: 10.0.0.1/24}]}}
  sidecar: {network_mode: 'service:h1', command: sleep 1000}
";

#[test]
fn pings_between_all_nodes_are_a_grid() {
    let compose = "
services:
  h: {scale: 3, x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
  far: {x-network: {links: [{bridge: apart, ip: 10.0.0.9/24}]}}
";
    let Some(lab) = Lab::up_with("a grid of pings", compose) else { return };
    let run = lab.run("ping", &["-W", "200ms", "-c", "1"]);
    let lines: Vec<Vec<&str>> = run.stdout.lines().map(|it| it.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ms", "h-1", "h-2", "h-3", "far"], "{run:?}");
    assert_eq!((lines[1][0], lines[1][1], lines[1][4]), ("h-1", "-", "✗"));
    assert!(lines[1][2].parse::<f64>().unwrap() > 0.0);
    assert_eq!(lines[5], ["6", "of", "12", "answered"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("h-1 -> far (10.0.0.9): "), "{run:?}");
    // Patterns for either side.
    let said = lab.done("ping", &["h-[12]", "h*"]);
    assert!(said.ends_with("4 of 4 answered\n") && said.starts_with("ms "), "{said}");
    assert!(lab.done("ping", &["h-[23]", "10.0.0.1"]).ends_with("2 of 2 answered\n"));
    let run = lab.run("ping", &["x*"]);
    let said = "error: no node matches `x*`; nodes: h-1, h-2, h-3, far\n";
    assert_eq!((run.code, run.stderr.as_str()), (1, said));
    assert_eq!(lab.done("ping", &["-q", "h*", "h*"]), "6 of 6 answered\n");
}

#[test]
fn a_ping_to_an_address_of_the_source_itself_does_not_count() {
    let Some(lab) = Lab::up_with("pings to oneself", FOUR) else { return };
    let run = lab.run("ping", &["-W", "200ms", "-c", "1", "--json"]);
    let json: Value = serde_json::from_str(&run.stdout).unwrap();
    let pairs = json["pairs"].as_array().unwrap();
    let pair = |from: &str, to: &str| {
        let found = pairs.iter().find(|it| it["from"] == from && it["to"] == to);
        found.unwrap_or_else(|| panic!("{from} {to}: {json:#}")).clone()
    };
    let own = json!("the source has this address too");
    assert_eq!((&pair("h1", "twin")["error"], &pair("h1", "twin")["ms"]), (&own, &Value::Null));
    assert_eq!(pair("twin", "h1")["error"], own);
    assert!(pair("h1", "h2")["ms"].as_f64().unwrap() > 0.0);
    assert_eq!((json["total"].as_u64(), run.code), (Some(6), 1));
    assert!(run.stderr.starts_with("warning: 10.0.0.1 is an address of h1, twin; any of them may reply\n"));
    let run = lab.run("ping", &["h1", "twin"]);
    let said = "error: 10.0.0.1 is an address of h1 itself: a reply would not show that twin is reachable\n";
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (1, "", said));
    // Nor does one to a node with the same network.
    let run = lab.run("ping", &["sidecar", "h1"]);
    assert!(run.code == 1 && run.stderr.contains("10.0.0.1 is an address of sidecar itself"), "{run:?}");
}

#[test]
fn a_signal_ends_pings_with_a_summary() {
    let Some(lab) = Lab::up_with("interrupted pings", FOUR) else { return };
    let interrupt = |args: &[&str]| {
        let child = lab.start("ping", args);
        std::thread::sleep(Duration::from_millis(1500));
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
        let start = Instant::now();
        let run = end(child, "lab ping");
        assert!(start.elapsed() < Duration::from_secs(5));
        run
    };
    // No node has this address.
    let run = interrupt(&["-W", "20s", "h*", "10.0.0.77"]);
    assert_eq!(run.code, 130, "{run:?}");
    assert!(run.stdout.ends_with("0 of 2 answered, 2 not finished\n"), "{run:?}");
    let run = interrupt(&["-c", "1000", "h1", "h2"]);
    assert!(run.code == 0 && run.stdout.contains(" received, 0% lost; min/avg/max "), "{run:?}");
}
