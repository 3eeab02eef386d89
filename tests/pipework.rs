//! `pipework` from outside: its texts, its streams and its exit codes are those of the shell script.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use conlink::kernel::netns;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Run, data, ip, may_unshare, run};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conlink"));
    command.arg0("/usr/local/bin/pipework").args(args);
    command
}

/// `pipework LINE`.
fn pipework(line: &str) -> Run {
    run(command(&line.split_whitespace().collect::<Vec<_>>()))
}

/// `pipework LINE` inside a namespace.
fn pipework_in(netns: &File, line: &str) -> Run {
    netns::inside(netns, || Ok(pipework(line))).unwrap()
}

fn failed(stdout: &str, stderr: &str) -> Run {
    Run { code: 1, stdout: stdout.to_owned(), stderr: stderr.to_owned() }
}

/// A program that runs in a namespace, until the end of the test.
struct Guest(Child);

impl Guest {
    fn start(netns: &File) -> Self {
        let start = || Command::new("sleep").arg("60").stdin(Stdio::null()).spawn();
        Self(netns::inside(netns, start).unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_call_without_an_address_prints_the_recorded_usage() {
    let usage = fs::read_to_string(data("pipework/usage.txt")).unwrap();
    for line in ["", "br1", "br1 c", "route", "tc c", "--detach"] {
        assert_eq!(pipework(line), failed(&usage, ""), "{line}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_conlink"));
    command.args(["pipework", "br1"]);
    assert_eq!(run(command), failed(&usage, ""));
}

#[test]
fn errors_are_those_of_the_recordings() {
    let what = "errors of pipework";
    if !may_unshare(what) {
        return;
    }
    let host = netns::anonymous().unwrap();
    ip(&host, "link add br1 type bridge");
    ip(&host, "link add ph0 address be:6f:d2:98:96:97 type veth peer name ph0x");
    for (line, stderr) in [
        ("br1 c 192.168.1.7", "The IP address should include a netmask.\nMaybe you meant 192.168.1.7/24 ?\n"),
        ("wibble0 c 192.168.1.7/24", "I do not know how to setup interface wibble0.\n"),
        ("tcfoo c qdisc show", "I do not know how to setup interface tcfoo.\n"),
        ("br1 c 300.1.1.1/24", "Error: inet prefix is expected rather than \"300.1.1.1/24\".\n"),
        (
            "mac:BE:6F:D2:98:96:98 c 10.2.0.3/24",
            "Mac address BE:6F:D2:98:96:98 specified for interface but no host interface matched.\n",
        ),
        ("br1 c frob", "The IP address should include a netmask.\nMaybe you meant frob/24 ?\n"),
        ("br1 -x c 10.0.0.1/24", "error: unknown option `-x`\n"),
    ] {
        assert_eq!(pipework_in(&host, line), failed("", stderr), "{line}");
    }
    let without_clients = || {
        let mut command = command(&["br1", "c", "dhcpcd"]);
        Ok(run({
            command.env("PATH", "/nonexistent");
            command
        }))
    };
    assert_eq!(
        netns::inside(&host, without_clients).unwrap(),
        failed("", "You asked for DHCP client dhcpcd, but I can't find it.\n")
    );
}

#[test]
fn a_repeated_attachment_to_a_bridge_is_told_on_standard_output() {
    if !may_unshare("a repeated attachment of pipework") {
        return;
    }
    let (host, inside) = (netns::anonymous().unwrap(), netns::anonymous().unwrap());
    let guest = Guest::start(&inside);
    let (pid, local) = (guest.pid(), format!("veth1pl{}", guest.pid()));
    ip(&host, "link add br1 type bridge");
    ip(&host, &format!("link add {local} up type veth peer name other"));
    // Without the state, which the kernel settles some time later.
    let links = || {
        ip(&host, "-o link").lines().map(|it| it.split(' ').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = links();
    for line in [format!("br1 {pid} 192.168.1.9/24"), format!("br1 -l {local} {pid} 192.168.1.9/24")] {
        let expected = failed(&format!("Link {local} exists and is up\n"), "");
        assert_eq!(pipework_in(&host, &line), expected, "{line}");
    }
    assert_eq!(links(), before);
}

#[test]
fn route_rule_and_tc_run_in_the_guest_with_their_output_and_exit_code() {
    if !may_unshare("route, rule and tc of pipework") {
        return;
    }
    let inside = netns::anonymous().unwrap();
    ip(&inside, "link set lo up");
    ip(&inside, "link add eth1 up type bridge");
    ip(&inside, "addr add 192.168.1.11/24 dev eth1");
    let guest = Guest::start(&inside);
    let pid = guest.pid();
    let path = format!("/proc/{pid}/ns/net");
    let done = Run { code: 0, stdout: String::new(), stderr: String::new() };
    assert_eq!(pipework(&format!("route {pid} add 10.0.5.0/24 via 192.168.1.1 onlink dev eth1")), done);
    assert_eq!(pipework(&format!("rule {path} add from 172.19.0.2/32 table 1")), done);
    assert_eq!(
        pipework(&format!("tc {pid} qdisc add dev lo root tbf rate 1mbit burst 10k latency 50ms")),
        done
    );
    assert!(ip(&inside, "route").contains("10.0.5.0/24 via 192.168.1.1 dev eth1"));
    assert!(ip(&inside, "rule").contains("from 172.19.0.2 lookup 1"));
    let shown = pipework(&format!("tc {pid} qdisc show dev lo"));
    assert!(shown.code == 0 && shown.stdout.contains("tbf"), "{shown:?}");
    let shown = pipework(&format!("route {pid} show 10.0.5.0/24"));
    assert_eq!((shown.code, shown.stdout.as_str()), (0, "10.0.5.0/24 via 192.168.1.1 dev eth1 onlink \n"));
    let failing = pipework(&format!("route {pid} add 10.0.5.0/24 via 99.1.1.1"));
    assert_eq!(
        failing,
        Run { code: 2, stdout: String::new(), stderr: "Error: Nexthop has invalid gateway.\n".to_owned() }
    );
    let mut without = command(&["route", &pid.to_string(), "show"]);
    without.env("PATH", "/nonexistent");
    let expected = "error: run `ip`: not found in PATH (/nonexistent)\n";
    assert_eq!(run(without), Run { code: 127, stdout: String::new(), stderr: expected.to_owned() });
    // Q4: pipework leaves a name for each guest.
    assert!(!Path::new("/run/netns").join(pid.to_string()).exists());
}

#[test]
fn wait_is_over_when_the_interface_has_a_carrier() {
    if !may_unshare("pipework --wait") {
        return;
    }
    let inside = netns::anonymous().unwrap();
    ip(&inside, "link set lo up");
    let done = Run { code: 0, stdout: String::new(), stderr: String::new() };
    assert_eq!(pipework_in(&inside, "--wait -i lo"), done);
    ip(&inside, "link add eth1 type veth peer name other");
    let start = || {
        let mut command = command(&["--wait"]);
        command.env("WAIT_TIMEOUT", "0.05").stdin(Stdio::null()).spawn()
    };
    let mut waiting = netns::inside(&inside, start).unwrap();
    // Q16: it exists, but is down.
    std::thread::sleep(Duration::from_millis(300));
    assert!(waiting.try_wait().unwrap().is_none());
    ip(&inside, "link set eth1 up");
    ip(&inside, "link set other up");
    let end = Instant::now() + Duration::from_secs(10);
    let status = loop {
        if let Some(it) = waiting.try_wait().unwrap() {
            break it;
        }
        if Instant::now() > end {
            kill(Pid::from_raw(i32::try_from(waiting.id()).unwrap()), Signal::SIGKILL).unwrap();
            panic!("it still waits: {}", ip(&inside, "link"));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(status.code(), Some(0));
}
