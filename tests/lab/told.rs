//! `lab logs`, `lab list` and `lab status`.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::Lab;

#[test]
fn logs_of_several_nodes_have_their_names_in_front() {
    let compose = r#"
services:
  a: {command: [sh, -c, "echo one; echo two >&2; printf unended"]}
  longer: {command: [sh, -c, "echo other"]}
  silent: {x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
"#;
    let Some(lab) = Lab::up_with("logs", compose) else { return };
    ["a", "longer"].iter().for_each(|it| drop(lab.until_node(it, "exited")));
    assert_eq!(lab.log("a"), "one\ntwo\nunended\n");
    assert_eq!(lab.done("logs", &[]), "a      | one\na      | two\na      | unended\nlonger | other\n");
    assert_eq!(lab.done("logs", &["longer", "a"]).lines().next(), Some("longer | other"));
    assert_eq!(lab.log("silent"), "");
    assert!(lab.done("logs", &["--lab"]).contains("All links connected"));
}

#[test]
fn followed_logs_end_with_the_lab() {
    let compose = r#"
services:
  a: {command: [sh, -c, "n=0; while :; do n=$$((n+1)); echo line $$n; sleep 0.05; done"]}
  b: {}
"#;
    let Some(lab) = Lab::up_with("followed logs", compose) else { return };
    let mut one = lab.start("logs", &["-f", "a"]);
    let mut all = lab.start("logs", &["-f"]);
    for (child, prefix) in [(&mut one, ""), (&mut all, "a | ")] {
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        for number in 1..=10 {
            assert_eq!(lines.next().unwrap().unwrap(), format!("{prefix}line {number}"));
        }
    }
    lab.down();
    for mut child in [one, all] {
        let end = Instant::now() + Duration::from_secs(5);
        let status = loop {
            if let Some(it) = child.try_wait().unwrap() {
                break it;
            }
            assert!(Instant::now() < end, "it goes on");
            std::thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success());
    }
}

#[test]
fn followed_logs_show_the_output_of_a_restarted_node() {
    let compose = r#"
services:
  a: {restart: always, command: [sh, -c, "echo begun; exec sleep 1000"]}
"#;
    let Some(lab) = Lab::up_with("followed logs of restarts", compose) else { return };
    let mut child = lab.start("logs", &["-f"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "begun");
    lab.signal("KILL", lab.pid("a"));
    assert_eq!(lines.next().unwrap().unwrap(), "begun");
    child.kill().unwrap();
    child.wait().unwrap();
}

fn list(lab: &Lab, args: &[&str]) -> String {
    let run = lab.world.run(lab.world.conlink(&[&["lab", "list"], args].concat()));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    run.stdout
}

#[test]
fn the_list_has_running_and_dead_labs() {
    let Some(mut lab) = Lab::new("lab list", "services: {a: {}, b: {}}") else { return };
    assert_eq!(list(&lab, &[]), "NAME  STATE      NODES\n");
    assert_eq!(serde_json::from_str::<Value>(&list(&lab, &["--json"])).unwrap(), serde_json::json!([]));
    lab.up(&[]);
    lab.name = "victim".to_owned();
    lab.up(&[]);
    assert_eq!(list(&lab, &[]), "NAME    STATE      NODES\ntest    connected  2\nvictim  connected  2\n");
    assert_eq!(list(&lab, &["-q"]), "test\nvictim\n");
    lab.signal("KILL", lab.keeper().unwrap());
    lab.until_dead();
    assert_eq!(list(&lab, &[]), "NAME    STATE      NODES\ntest    connected  2\nvictim  dead       0\n");
    let json: Value = serde_json::from_str(&list(&lab, &["--json"])).unwrap();
    assert_eq!(
        json,
        serde_json::json!([
            {"name": "test", "state": "connected", "nodes": 2, "folder": "/run/conlink/lab/test"},
            {"name": "victim", "state": "dead", "nodes": 0, "folder": "/run/conlink/lab/victim"},
        ])
    );
    for (subcommand, args) in [("exec", &["a", "true"][..]), ("ping", &[]), ("logs", &["-f", "c"])] {
        let run = lab.run(subcommand, args);
        let said = match subcommand {
            "logs" => "error: no node of the dead lab `victim` is named `c`\n",
            _ => "error: lab `victim` is not running; `conlink lab up` starts it\n",
        };
        assert_eq!((run.code, run.stderr.as_str()), (1, said), "{subcommand}");
    }
    assert_eq!(lab.run("status", &[]).code, 1);
    lab.done("down", &[]);
    assert_eq!(list(&lab, &[]), "NAME  STATE      NODES\ntest  connected  2\n");
    lab.name = "test".to_owned();
}

#[test]
fn the_status_of_a_lab_shows_its_processes_and_failures_first() {
    let compose = r#"
services:
  a: {command: sleep 1000, x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
  b: {command: [sh, -c, "exit 3"], x-network: {links: [{bridge: lan, ip: 10.0.0.2/24}]}}
"#;
    let Some(lab) = Lab::up_with("lab status", compose) else { return };
    lab.until_node("b", "exited");
    let status = lab.run("status", &[]);
    assert_eq!(status.code, 1, "a program that failed is not connected");
    assert_eq!(
        status.stdout,
        "\
lab test: failing, 2 nodes, 1 link
error: node b: exited with code 3
hint: see its output with `conlink lab logs b`

bridges: lan (linux, 1 port)
NODE  PROCESS   LINK  JOINED TO  ADDRESSES    STATE
a     running   eth0  lan        10.0.0.1/24  up
b     exited 3  -     -                       stopped
"
    );
    // As `conlink status` prints it.
    for words in [&["status", "test"][..], &["lab", "status", "test"]] {
        assert_eq!(lab.world.run(lab.world.conlink(words)), status, "{words:?}");
    }
    let a = lab.process("a");
    assert_eq!(a["command"], serde_json::json!(["sleep", "1000"]));
    assert_eq!(a["log"], "/run/conlink/lab/test/nodes/test-a-1/log");
    assert!(lab.world.sh(&format!("cat /proc/{}/comm", a["pid"])).starts_with("sleep"));
}

#[test]
fn a_failed_command_is_logged_with_its_place_and_without_its_text() {
    let compose = r#"
services:
  a:
    x-network:
      links: [{bridge: lan, ip: 10.0.0.1/24}]
      commands: [{command: "TOKEN=${TOKEN:-s3cret} sh -c 'exit 3'"}]
"#;
    let Some(lab) = Lab::up_with("commands that fail", compose) else { return };
    lab.until("the command has failed", |_| lab.keepers_log().contains("exit code 3"));
    let log = lab.keepers_log();
    let told = format!(
        "test-a-1: command failed with exit code 3 ({}:6:28)\n",
        lab.world.path("compose.yaml").display()
    );
    assert!(log.contains(&told), "{log}");
    assert!(!log.contains("s3cret"), "{log}");
}
