//! Overrides in a running lab: cables are pulled and plugged in.

use crate::lab::Lab;
use crate::support::Run;

const TWO: &str = "
services:
  a:
    command: sleep 1000
    x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}
  b:
    command: sleep 1000
    x-network: {links: [{bridge: lan, ip: 10.0.0.2/24}]}
";

fn conlink(lab: &Lab, args: &[&str]) -> Run {
    lab.world.run(lab.world.conlink(args))
}

fn said(code: i32, stdout: &str) -> Run {
    Run { code, stdout: stdout.to_owned(), stderr: String::new() }
}

fn has_carrier(lab: &Lab, node: &str, dev: &str) -> bool {
    !lab.exec(node, &["ip", "-o", "link", "show", dev]).contains("NO-CARRIER")
}

#[test]
fn a_pulled_cable_has_no_carrier_until_it_is_plugged_in() {
    let Some(lab) = Lab::up_with("pulled", TWO) else { return };
    assert_eq!(conlink(&lab, &["link", "down", "-n", "test", "b"]), said(0, "test-b-1:eth0: carrier down\n"));
    assert!(!has_carrier(&lab, "b", "eth0"));
    assert!(has_carrier(&lab, "a", "eth0"));
    assert_eq!(lab.run("ping", &["a", "b", "-c", "1", "-W", "0.3"]).code, 1);
    // An override is not drift.
    assert_eq!(conlink(&lab, &["diff", "test"]), said(0, ""));
    assert_eq!(conlink(&lab, &["healthcheck", "test"]).code, 0);
    let status = conlink(&lab, &["status", "test"]);
    assert!(status.stdout.ends_with("\noverride: link b:eth0: carrier down\n"), "{status:?}");
    assert!(status.stdout.starts_with("lab test: connected, 2 nodes, 2 links, 1 unplugged\n"), "{status:?}");
    let row = |it: &&str| it.starts_with("b ") && it.ends_with(" unplugged");
    assert_eq!(status.stdout.lines().filter(row).count(), 1, "{status:?}");
    // The override survives a restart of the node.
    lab.write("compose.yaml", &TWO.replace("sleep 1000", "sleep 999"));
    lab.up(&[]);
    assert!(!has_carrier(&lab, "b", "eth0"));
    let again = conlink(&lab, &["link", "down", "-n", "test", "--json", "b"]);
    let again: serde_json::Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(
        (&again["node"], &again["link"]["overrides"][0]["what"]),
        (&"test-b-1".into(), &"carrier down".into())
    );
    assert_eq!(conlink(&lab, &["link", "down", "-q", "-n", "test", "b"]), said(0, ""));
    let up = conlink(&lab, &["link", "up", "-n", "test", "b-1:eth0"]);
    assert_eq!(up, said(0, "test-b-1:eth0: plugged in\n"));
    lab.until("it has a carrier", |_| has_carrier(&lab, "b", "eth0"));
    assert_eq!(lab.run("ping", &["a", "b", "-c", "3"]).code, 0);
}

#[test]
fn an_override_with_a_time_expires() {
    let Some(lab) = Lab::up_with("pulled for a time", TWO) else { return };
    let down = conlink(&lab, &["link", "down", "-n", "test", "a", "b", "--for", "1s"]);
    assert_eq!(down, said(0, "test-a-1:eth0: carrier down\ntest-b-1:eth0: carrier down\n"));
    let overrides = |status: &serde_json::Value| status["nodes"][0]["links"][0]["overrides"].clone();
    assert!(overrides(&lab.status())[0]["until"].is_u64());
    lab.until("the override has expired", |it| overrides(it) == serde_json::json!([]));
    lab.until("there is a carrier", |_| has_carrier(&lab, "a", "eth0") && has_carrier(&lab, "b", "eth0"));
}

#[test]
fn an_unknown_link_is_an_error_and_changes_nothing() {
    let Some(lab) = Lab::up_with("pulled by mistake", TWO) else { return };
    for (args, code, expected) in [
        (vec!["c"], 1, "error: no running node `c` with links; expected NODE or NODE:INTERFACE\n"),
        (vec!["a:eth7"], 1, "error: node `a` has no link `eth7`; it has test-a-1:eth0\n"),
        (vec!["a", "c"], 1, "error: no running node `c` with links"),
        (vec!["a", "--for", "0s"], 2, "expected a duration above 0, such as `5s`, `200ms` or `1m30s`"),
        (vec![], 2, "LINK"),
    ] {
        let run = conlink(&lab, &[&["link", "down", "-n", "test"], &args[..]].concat());
        assert!(run.code == code && run.stderr.contains(expected) && run.stdout.is_empty(), "{run:?}");
    }
    assert!(has_carrier(&lab, "a", "eth0"), "a request with an error changes nothing");
}
