//! `lab run`: a lab that ends with a command.

use std::io::Read;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{Lab, STUBBORN, end};

const TWO: &str = "
services:
  a: {x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
  b: {x-network: {links: [{bridge: lan, ip: 10.0.0.2/24}]}}
";

/// What is printed before the command runs.
const UP: &str = "lab test is up: 2 nodes, 2 links; all links connected\n";

#[test]
fn the_command_knows_the_lab_and_its_exit_code_is_returned() {
    let Some(lab) = Lab::new("lab run", TWO) else { return };
    let line = "echo $CONLINK_LAB; $CONLINK lab ping | tail -1; $CONLINK lab status | head -1; cat; exit 7";
    let mut child = lab.start("run", &["--", "sh", "-c", line]);
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"from standard input\n").unwrap();
    let run = end(child, "lab run");
    assert_eq!(run.code, 7, "{run:?}");
    // Standard output belongs to the command.
    assert_eq!(
        run.stdout,
        "test\n2 of 2 answered\nlab test: connected, 2 nodes, 2 links\nfrom standard input\n"
    );
    assert_eq!(run.stderr, UP);
    // The lab ends with the command.
    assert!(!lab.folder().exists());
    lab.world.expect(&lab.before);
}

#[test]
fn the_lab_ends_however_the_command_does() {
    let Some(lab) = Lab::new("commands that fail", TWO) else { return };
    for (command, code, said) in [
        (&["false"][..], 1, ""),
        (&["sh", "-c", "kill -9 $$"], 137, ""),
        (
            &["no-such-program", "x"],
            127,
            "error: run `no-such-program x`: No such file or directory (os error 2)\n",
        ),
        (&["/etc/passwd"], 126, "error: run `/etc/passwd`: Permission denied (os error 13)\n"),
        // The command may end the lab.
        (&["sh", "-c", "$CONLINK lab down"], 0, ""),
    ] {
        let run = lab.run("run", &[&["--"], command].concat());
        assert_eq!((run.code, run.stderr), (code, format!("{UP}{said}")), "{command:?}");
        lab.world.expect(&lab.before);
    }
    // A process that the command leaves running does not keep the lab.
    lab.done("run", &["--", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $! >pid"]);
    assert!(!lab.folder().exists());
    lab.world.sh("kill -9 $(cat pid)");
}

#[test]
fn run_refuses_a_running_lab() {
    let Some(lab) = Lab::up_with("lab run, and one that is up", TWO) else { return };
    let pid = lab.pid("a");
    let run = lab.run("run", &["--", "touch", "ran"]);
    assert_eq!(run.code, 1);
    assert_eq!(
        run.stderr,
        "error: lab `test` is already running\nhint: end it with `conlink lab down test`, or choose another --name\n"
    );
    assert_eq!(lab.pid("a"), pid);
    assert!(!lab.world.path("ran").exists());
}

#[test]
fn no_command_runs_if_the_lab_is_not_as_described() {
    let compose =
        "services: {a: {x-network: {links: [{type: macvlan, outer-dev: nobody, ip: 10.0.0.1/24}]}}}";
    let Some(lab) = Lab::new("lab run with a refused link", compose) else { return };
    let run = lab.run("run", &["--", "touch", "ran"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.starts_with("error: link test-a-1:eth0: "), "{}", run.stderr);
    assert!(!lab.world.path("ran").exists());
    lab.world.expect(&lab.before);
}

/// A `lab run` whose command is running.
fn started(lab: &Lab, line: &str) -> Child {
    let mut child = lab.start("run", &["--", "sh", "-c", line]);
    let mut said = String::new();
    let mut byte = [0];
    while !said.ends_with("ready\n") {
        child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        said.push(char::from(byte[0]));
    }
    child
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn signals_are_passed_to_the_command_and_then_the_lab_ends() {
    let Some(lab) = Lab::new("lab run and signals", TWO) else { return };
    for (which, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let child = started(&lab, "echo ready; exec sleep 1000");
        signal(&child, which);
        assert_eq!(end(child, "lab run").code, code, "{which}");
        lab.world.expect(&lab.before);
        // The command may handle them.
        let child =
            started(&lab, "trap 'echo told; exit 3' TERM INT HUP; echo ready; while :; do sleep 0.02; done");
        signal(&child, which);
        let run = end(child, "lab run");
        assert_eq!((run.code, run.stdout.as_str()), (3, "told\n"), "{which}");
        lab.world.expect(&lab.before);
    }
}

#[test]
fn a_killed_lab_run_takes_the_lab_with_it() {
    let Some(lab) = Lab::new("a killed lab run", TWO) else { return };
    let child = started(&lab, "echo $$ >pid; echo ready; exec sleep 1000");
    assert!(lab.folder().exists());
    signal(&child, Signal::SIGKILL);
    // Without `lab down`: the keeper notices it.
    let stop = Instant::now() + Duration::from_secs(10);
    while lab.folder().exists() {
        assert!(Instant::now() < stop, "the lab goes on: {}", lab.keepers_log());
        std::thread::sleep(Duration::from_millis(10));
    }
    lab.world.sh("kill -9 $(cat pid)");
    drop(end(child, "lab run"));
    lab.world.expect(&lab.before);
}

#[test]
fn a_signal_while_the_lab_ends_kills_it() {
    let Some(lab) = Lab::new("lab run and a further signal", STUBBORN) else { return };
    let ends = |child: Child, further: Signal, code: i32| {
        lab.until_node("slow", "stopping");
        signal(&child, further);
        assert_eq!(end(child, "lab run").code, code, "{further}");
        assert!(!lab.folder().exists(), "{further}");
        lab.world.expect(&lab.before);
    };
    // The node is running before the command, and prints `ready` once it handles SIGTERM.
    let heeds = "until $CONLINK lab logs slow | grep -q ready; do sleep 0.02; done; echo ready";
    for (further, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let child = started(&lab, &format!("{heeds}; exec sleep 1000"));
        signal(&child, Signal::SIGINT);
        ends(child, further, code);
    }
    // While the command is running, it gets every signal.
    let line = format!("trap 'echo told' INT; {heeds}; until test -e stop; do sleep 0.02; done; rm stop");
    let mut child = started(&lab, &line);
    for _ in 0..3 {
        signal(&child, Signal::SIGINT);
        let mut told = [0; 5];
        child.stdout.as_mut().unwrap().read_exact(&mut told).unwrap();
        assert_eq!(&told, b"told\n");
    }
    assert_eq!(lab.process("slow")["state"], "running");
    lab.write("stop", "");
    ends(child, Signal::SIGINT, 130);
}
