//! What commands say while they wait, and how they are interrupted.

use std::io::{BufRead, BufReader, Read};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::world::is_progress;
use crate::lab::{Lab, STUBBORN, end};

#[test]
fn up_says_after_a_second_what_it_waits_for() {
    let compose = r#"
services:
  init: {command: [sh, -c, "until test -e go; do sleep 0.05; done"]}
  first: {depends_on: {init: {condition: service_completed_successfully}}, command: sleep 1000}
  second: {depends_on: [first], command: sleep 1000}
"#;
    let Some(lab) = Lab::new("lab up that waits", compose) else { return };
    let start = Instant::now();
    let mut child = lab.start("up", &[]);
    let mut line = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "not before a second");
    assert!(is_progress(&line));
    let said = "lab test: 1/3 nodes; waiting for init (service_completed_successfully)\n";
    // A busy machine may still be starting nodes at the first look.
    while line.lines().last().map(|it| format!("{it}\n")).as_deref() != Some(said) {
        assert!(start.elapsed() < Duration::from_secs(20), "{line}");
        stderr.read_line(&mut line).unwrap();
    }
    let table = lab.run("status", &[]).stdout;
    assert!(table.contains("waiting: first for init (service_completed_successfully)\n"), "{table}");
    lab.write("go", "");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success(), "{rest}");
}

#[test]
fn up_gives_up_when_its_time_is_over() {
    let compose = r#"
services:
  init: {command: sleep 1000}
  next: {depends_on: {init: {condition: service_completed_successfully}}}
"#;
    let Some(lab) = Lab::new("lab up with a timeout", compose) else { return };
    let run = lab.run("up", &["--timeout", "1500ms", "-q"]);
    let said = "error: lab `test` is not up in time: 1/2 nodes; waiting for init (service_completed_successfully)\n\
                hint: it keeps running; see `conlink lab status -n test`\n";
    assert_eq!((run.code, run.stderr.as_str()), (1, said));
}

#[test]
fn a_service_that_never_completes_is_refused() {
    let compose = "
services:
  init: {command: 'true', restart: always}
  next: {depends_on: {init: {condition: service_completed_successfully}}}
";
    let Some(lab) = Lab::new("a wait for ever", compose) else { return };
    let run = lab.run("up", &[]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("`init` is always restarted, so it never completes"), "{run:?}");
    lab.world.expect(&lab.before);
}

#[test]
fn a_signal_during_down_kills_the_nodes_at_once() {
    let Some(lab) = Lab::new("an interrupted lab down", STUBBORN) else { return };
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        lab.up(&[]);
        lab.until_said("slow", "ready");
        let mut child = lab.start("down", &[]);
        let mut line = String::new();
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        let said = "lab test: waiting up to 600 s for slow to exit; Ctrl-C kills all nodes\n";
        assert_eq!(line, said);
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        assert_eq!(end(child, "lab down").code, code, "{signal}");
        assert!(!lab.folder().exists(), "{signal}");
        lab.world.expect(&lab.before);
    }
}

#[test]
fn down_does_not_wait_for_a_program_that_was_busy_and_then_ignores_its_signal() {
    // It is busy for longer than the first looks, then sleeps without a handler.
    let busy = "import time\nend = time.time() + 0.6\nwhile time.time() < end: pass\ntime.sleep(1000)\n";
    let compose = "services: {a: {command: [python3, busy.py], stop_grace_period: 20s}}";
    let Some(lab) = Lab::new("a busy program", compose) else { return };
    lab.write("busy.py", busy);
    lab.up(&[]);
    let start = Instant::now();
    lab.done("down", &[]);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn up_fails_if_a_node_that_runs_no_program_is_to_complete() {
    for command in ["no-such-program", "''"] {
        let compose = format!(
            "
services:
  init: {{command: {command}}}
  next: {{depends_on: {{init: {{condition: service_completed_successfully}}}}, command: sleep 1000}}
"
        );
        let Some(lab) = Lab::new("lab up of a node without a program", &compose) else { return };
        let run = lab.run("up", &["-q"]);
        let said = "it depends on `init`, which runs no program, so it never completes";
        assert!(run.code == 1 && run.stderr.contains(said), "{command}: {run:?}");
        let health = lab.world.run(lab.world.conlink(&["healthcheck", "test"]));
        assert!(health.code == 1 && health.stderr.contains(said), "{command}: {health:?}");
    }
}
