//! When nodes start, end and restart.

use std::time::{Duration, Instant};

use crate::lab::{Lab, process};

/// The addresses of a node, which a restart must keep.
fn network(lab: &Lab, node: &str) -> String {
    let shown = lab.exec(node, &["ip", "-o", "addr", "show", "eth0"]);
    let ether = lab.exec(node, &["ip", "-o", "link", "show", "eth0"]);
    let words = shown.split_whitespace().chain(ether.split_whitespace());
    let words: Vec<&str> =
        words.filter(|it| it.contains(['/', '.']) || it.matches(':').count() == 5).collect();
    words.join(" ")
}

#[test]
fn a_restarted_program_has_the_same_network_as_before() {
    let compose = r#"
services:
  a:
    restart: always
    command: [sh, -c, "echo begun; exec sleep 1000"]
    x-network: {links: [{bridge: lan, ip: 10.0.0.1/24, route: "10.9.0.0/16 via 10.0.0.2"}]}
  b: {x-network: {links: [{bridge: lan, ip: 10.0.0.2/24}]}}
"#;
    let Some(lab) = Lab::up_with("restarts", compose) else { return };
    let (pid, before) = (lab.pid("a"), network(&lab, "a"));
    assert!(before.contains("10.0.0.1/24"), "{before}");
    for count in 1..=3 {
        lab.signal("KILL", lab.pid("a"));
        lab.until("restarted", |it| {
            let a = process(it, "a");
            a["restarts"] == count && a["state"] == "running" && it["state"] == "connected"
        });
        assert_ne!(lab.pid("a"), pid);
        assert_eq!(network(&lab, "a"), before);
        assert!(lab.exec("a", &["ip", "route"]).contains("10.9.0.0/16 via 10.0.0.2 dev eth0"));
        assert!(lab.done("ping", &["-c", "1", "b", "a"]).contains("1 received"));
    }
    assert_eq!(lab.log("a"), "begun\n".repeat(4));
    assert_eq!(lab.process("b")["restarts"], 0);
    // The bridge has no old ports.
    assert_eq!(lab.exec("--bridges", &["ip", "-o", "link", "show", "master", "lan"]).lines().count(), 2);
}

#[test]
fn a_failed_program_is_restarted_as_often_as_its_service_says() {
    let compose = r#"
services:
  twice: {restart: "on-failure:2", command: [sh, -c, "echo try; exit 3"]}
  never: {command: [sh, -c, "echo try; exit 3"]}
  well: {restart: on-failure, command: [sh, -c, "echo try; exit 0"]}
  later: {restart: on-failure, command: [sh, -c, "echo try; test -e marker && exit 0; touch marker; exit 1"]}
  killed: {restart: "on-failure:1", command: [sh, -c, "echo try; kill -9 $$$$"], init: true}
"#;
    let Some(lab) = Lab::up_with("restarts of what fails", compose) else { return };
    for (node, code, restarts) in
        [("twice", 3, 2), ("never", 3, 0), ("well", 0, 0), ("later", 0, 1), ("killed", 137, 1)]
    {
        let process = lab.until_node(node, "exited");
        assert_eq!((&process["exit_code"], &process["restarts"]), (&code.into(), &restarts.into()), "{node}");
        assert_eq!(lab.log(node), "try\n".repeat(restarts + 1), "{node}");
    }
    let run = lab.run("status", &[]);
    assert!(run.code == 1 && run.stdout.contains("error: node twice: exited with code 3\n"), "{run:?}");
}

#[test]
fn a_service_starts_after_its_dependencies() {
    let compose = r#"
services:
  last:
    depends_on:
      first: {condition: service_completed_successfully}
      second: {condition: service_started}
    command: [sh, -c, "cat order; ip -br addr show eth0"]
    x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}
  second:
    depends_on: {first: {condition: service_completed_successfully}}
    command: [sh, -c, "echo second >>order; exec sleep 1000"]
  first: {command: [sh, -c, "sleep 0.3; echo first >>order"]}
"#;
    let Some(lab) = Lab::up_with("an order", compose) else { return };
    lab.until_node("last", "exited");
    let log = lab.log("last");
    assert!(log.starts_with("first\n") && log.contains("10.0.0.1/24"), "{log}");
    let status = lab.until("ended", |it| process(it, "first")["state"] == "exited");
    assert_eq!(status["state"], "connected", "what has ended well is no error: {status:#}");
}

#[test]
fn a_service_whose_dependency_failed_does_not_start_and_says_why() {
    let compose = r#"
services:
  fails: {command: [sh, -c, "exit 4"], x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
  needs:
    depends_on: {fails: {condition: service_completed_successfully}}
    command: [sh, -c, "echo never >>ran"]
  further: {depends_on: [needs], command: [sh, -c, "echo never >>ran"]}
  optional:
    depends_on: {fails: {condition: service_completed_successfully, required: false}}
    command: [sh, -c, "echo it goes on; exec sleep 1000"]
  apart: {command: [sleep, "1000"]}
"#;
    let Some(lab) = Lab::new("a failed dependency", compose) else { return };
    let run = lab.run("up", &[]);
    assert_eq!(run.code, 1, "{run:?}");
    for line in [
        "error: node needs: it depends on `fails`, which exited with code 4",
        "error: node further: it depends on `needs`, which could not be started",
    ] {
        assert!(run.stderr.lines().any(|it| it == line), "{}", run.stderr);
    }
    assert_eq!(lab.process("needs")["state"], "failed");
    assert_eq!(lab.process("further")["state"], "failed");
    assert_eq!(lab.process("apart")["state"], "running");
    lab.until_said("optional", "it goes on");
    assert_eq!(lab.read("ran"), "");
    // After a correction it is tried again.
    lab.write("compose.yaml", &compose.replace("exit 4", "exit 0"));
    lab.up(&[]);
    lab.until_node("further", "exited");
    assert_eq!(lab.read("ran"), "never\nnever\n");
}

#[test]
fn a_service_waits_for_the_health_of_another() {
    let compose = r#"
services:
  server:
    command: [sh, -c, "sleep 0.4; touch healthy; exec sleep 1000"]
    healthcheck: {test: [CMD, test, -e, healthy], interval: 50ms, retries: 100}
  client:
    depends_on: {server: {condition: service_healthy}}
    command: [sh, -c, "test -e healthy && echo it was healthy"]
  shell:
    command: sleep 1000
    healthcheck: {test: "test -e healthy || exit 1", interval: 50ms, retries: 100}
  unchecked:
    command: sleep 1000
    healthcheck: {test: [NONE]}
"#;
    let Some(lab) = Lab::new("health", compose) else { return };
    let start = Instant::now();
    lab.up(&[]);
    assert!(start.elapsed() < Duration::from_secs(4), "the first look at it came late");
    assert_eq!(lab.process("server")["health"], "healthy");
    lab.until_said("client", "it was healthy");
    lab.until("healthy", |it| process(it, "shell")["health"] == "healthy");
    assert_eq!(lab.process("unchecked")["health"], serde_json::Value::Null);
    // A node can become unhealthy again, and its check can change while it is running.
    let pid = lab.pid("server");
    lab.write("compose.yaml", &compose.replace("retries: 100", "retries: 2"));
    lab.up(&[]);
    std::fs::remove_file(lab.world.path("healthy")).unwrap();
    lab.until("unhealthy", |it| process(it, "server")["health"] == "unhealthy");
    assert_eq!(lab.pid("server"), pid);
}

#[test]
fn a_service_that_needs_an_unhealthy_one_does_not_start() {
    let compose = r#"
services:
  server:
    command: sleep 1000
    healthcheck: {test: [CMD, "false"], interval: 20ms, retries: 3}
  hangs:
    command: sleep 1000
    healthcheck: {test: [CMD, sleep, "1000"], interval: 20ms, timeout: 100ms, retries: 1}
  client: {depends_on: {server: {condition: service_healthy}}, command: [sh, -c, "echo never"]}
  other: {depends_on: {hangs: {condition: service_healthy}}, command: [sh, -c, "echo never"]}
"#;
    let Some(lab) = Lab::new("no health", compose) else { return };
    let run = lab.run("up", &[]);
    assert_eq!(run.code, 1, "{run:?}");
    for line in [
        "error: node client: it depends on `server`, which is unhealthy",
        "error: node other: it depends on `hangs`, which is unhealthy",
    ] {
        assert!(run.stderr.lines().any(|it| it == line), "{}", run.stderr);
    }
    assert_eq!(lab.process("server")["health"], "unhealthy");
    assert_eq!(lab.log("client"), "");
}

#[test]
fn a_program_that_handles_its_stop_signal_is_waited_for() {
    let trap = |signal: &str, name: &str| {
        format!(
            "trap 'sleep 0.4; echo in time >{name}; exit 9' {signal}; echo ready; while :; do sleep 0.02; done"
        )
    };
    let compose = format!(
        r#"
services:
  term: {{command: [sh, -c, "{}"]}}
  int: {{command: [sh, -c, "{}"], stop_signal: SIGINT}}
  number: {{command: [sh, -c, "{}"], stop_signal: "10", stop_grace_period: 1m}}
  init: {{command: [sh, -c, "{}"], init: true}}
  realtime: {{command: [sh, -c, "{}"], init: true, stop_signal: SIGRTMIN+3}}
"#,
        trap("TERM", "term"),
        trap("INT", "int"),
        trap("USR1", "number"),
        trap("TERM", "init"),
        trap("37", "realtime"),
    );
    let Some(lab) = Lab::up_with("signals to stop", &compose) else { return };
    let nodes = ["term", "int", "number", "init", "realtime"];
    nodes.iter().for_each(|it| lab.until_said(it, "ready"));
    let start = Instant::now();
    lab.down();
    // All nodes end at the same time.
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    for it in nodes {
        assert_eq!(lab.read(it), "in time\n", "{it}");
    }
}

#[test]
fn a_program_that_does_not_end_is_killed_after_its_grace_period() {
    let compose = r#"
services:
  hears: {command: [sh, -c, "trap 'echo no' TERM; echo ready; while :; do sleep 0.02; done"], stop_grace_period: 500ms}
  deaf: {command: [sh, -c, "trap '' TERM; echo ready; while :; do sleep 0.02; done"], stop_grace_period: 1m}
  plain: {command: [sleep, "1000"], stop_grace_period: 1m}
  idle: {stop_grace_period: 1m}
"#;
    let Some(lab) = Lab::up_with("no end", compose) else { return };
    ["hears", "deaf"].iter().for_each(|it| lab.until_said(it, "ready"));
    let start = Instant::now();
    lab.down();
    let took = start.elapsed();
    assert!((Duration::from_millis(500)..Duration::from_secs(5)).contains(&took), "{took:?}");
}

#[test]
fn a_restarted_node_restarts_those_that_share_its_network() {
    let compose = r#"
services:
  main:
    restart: always
    command: sleep 1000
    x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}
  sidecar: {network_mode: "service:main", command: sleep 1000}
  once: {network_mode: "service:main", command: [sh, -c, echo once]}
  other: {x-network: {links: [{bridge: lan, ip: 10.0.0.2/24}]}}
"#;
    let Some(lab) = Lab::up_with("a shared network that ends", compose) else { return };
    lab.until_node("once", "exited");
    let (before, other) = (lab.pid("sidecar"), lab.pid("other"));
    let netns = |node: &str| lab.exec(node, &["readlink", "/proc/self/ns/net"]);
    let is_anew = |it: &serde_json::Value| {
        let sidecar = process(it, "sidecar");
        sidecar["state"] == "running" && sidecar["pid"] != before && it["state"] == "connected"
    };
    lab.signal("KILL", lab.pid("main"));
    lab.until("anew", |it| process(it, "main")["restarts"] == 1 && is_anew(it));
    assert_eq!(netns("sidecar"), netns("main"));
    assert!(lab.done("ping", &["-c", "1", "sidecar", "other"]).contains("1 received"));
    // Also when `up` restarts it.
    lab.write(
        "compose.yaml",
        &compose.replace("command: sleep 1000\n    x-network", "command: sleep 1001\n    x-network"),
    );
    lab.up(&[]);
    lab.until("anew", is_anew);
    assert_eq!(lab.sh("main", "tr '\\0' ' ' </proc/1/cmdline"), "sleep 1001 ");
    assert_eq!(netns("sidecar"), netns("main"));
    assert_eq!(lab.pid("other"), other);
}

#[test]
fn the_network_of_an_exited_node_cannot_be_shared() {
    let compose = r#"
services:
  ends: {command: "true"}
  late: {network_mode: "service:ends", command: [sh, -c, "sleep 0.1; kill -9 $$$$"], init: true, restart: "on-failure:1"}
"#;
    let Some(lab) = Lab::new("nothing to share", compose) else { return };
    lab.up(&[]);
    // It exited by itself and was not started again.
    let late = lab.until_node("late", "failed");
    assert_eq!(late["restarts"], 0, "{late}");
    let status = lab.status();
    assert!(
        status.to_string().contains("it shares the network of `ends`, which is not running"),
        "{status:#}"
    );
}
