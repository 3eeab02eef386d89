//! What people set over the configuration of a lab that runs: cables pulled and plugged in, impairments for a time.

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
fn a_cable_is_pulled_and_plugged_in_again() {
    let Some(lab) = Lab::up_with("pulled", TWO) else { return };
    assert_eq!(conlink(&lab, &["link", "down", "-n", "test", "b"]), said(0, "test-b-1:eth0: carrier down\n"));
    assert!(!has_carrier(&lab, "b", "eth0"));
    assert!(has_carrier(&lab, "a", "eth0"));
    assert_eq!(lab.run("ping", &["a", "b", "-c", "1", "-W", "0.3"]).code, 1);
    // It is as it was set: no drift, and nothing is wrong.
    assert_eq!(conlink(&lab, &["diff", "test"]), said(0, ""));
    assert_eq!(conlink(&lab, &["healthcheck", "test"]).code, 0);
    let status = conlink(&lab, &["status", "test"]);
    assert!(status.stdout.ends_with("\nset: link b:eth0: carrier down\n"), "{status:?}");
    // The node ends and comes again, and its cable is still pulled.
    lab.write("compose.yaml", &TWO.replace("sleep 1000", "sleep 999"));
    lab.up(&[]);
    assert!(!has_carrier(&lab, "b", "eth0"));
    let up = conlink(&lab, &["link", "up", "-n", "test", "b-1:eth0"]);
    assert_eq!(up, said(0, "test-b-1:eth0: as in the configuration\n"));
    lab.until("it has a carrier", |_| has_carrier(&lab, "b", "eth0"));
    assert_eq!(lab.run("ping", &["a", "b", "-c", "3"]).code, 0);
}

#[test]
fn what_is_set_for_a_time_ends_at_it() {
    let Some(lab) = Lab::up_with("pulled for a time", TWO) else { return };
    let down = conlink(&lab, &["link", "down", "-n", "test", "a", "b", "--for", "1s"]);
    assert_eq!(down, said(0, "test-a-1:eth0: carrier down\ntest-b-1:eth0: carrier down\n"));
    let overrides = |status: &serde_json::Value| status["nodes"][0]["links"][0]["overrides"].clone();
    assert!(overrides(&lab.status())[0]["until"].is_u64());
    lab.until("the second is over", |it| overrides(it) == serde_json::json!([]));
    lab.until("there is a carrier", |_| has_carrier(&lab, "a", "eth0") && has_carrier(&lab, "b", "eth0"));
}

#[test]
fn a_link_that_is_not_there_is_told() {
    let Some(lab) = Lab::up_with("pulled by mistake", TWO) else { return };
    for (args, code, expected) in [
        (vec!["c"], 1, "error: no node `c` with links runs here: say NODE or NODE:INTERFACE\n"),
        (vec!["a:eth7"], 1, "error: node `a` has no such link: there is test-a-1:eth0\n"),
        (vec!["a", "c"], 1, "error: no node `c` with links runs here"),
        (vec!["a", "--for", "0s"], 2, "a time is a number above 0 with `ms`, `s`, `m` or `h`, such as 30s"),
        (vec![], 2, "LINK"),
    ] {
        let run = conlink(&lab, &[&["link", "down", "-n", "test"], &args[..]].concat());
        assert!(run.code == code && run.stderr.contains(expected) && run.stdout.is_empty(), "{run:?}");
    }
    assert!(has_carrier(&lab, "a", "eth0"), "a request with a mistake changes nothing");
}
