//! `wait` from outside: what it takes, says, waits for, and becomes.

mod files;
mod network;
mod process;
mod tries;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use expect_test::expect;

use crate::support::{Run, run};

/// What every event has to come to within: far less than the second that a poll would take, on a busy machine.
const SOON: Duration = Duration::from_millis(800);

/// `wait ARGS`.
fn wait(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conlink"));
    command.arg("wait").args(args).env_remove("WAIT_SLEEP").env_remove("WAIT_TIMEOUT");
    command
}

/// A tool that runs, its standard error line by line.
struct Waiter {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Waiter {
    fn start(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, said: Vec::new() }
    }

    /// Starts it inside a network namespace.
    fn start_in(netns: &File, command: Command) -> Self {
        conlink::kernel::netns::inside(netns, || Ok(Self::start(command))).unwrap()
    }

    /// Reads until a line has this in it.
    fn until(&mut self, text: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let found = line.contains(text);
                    self.said.push(line);
                    if found {
                        return;
                    }
                }
                Err(error) => panic!("`{text}` was not said ({error}): {:?}", self.said),
            }
        }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Has it not ended for a while?
    fn goes_on(&mut self) {
        let end = Instant::now() + Duration::from_millis(150);
        while Instant::now() < end {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended: {:?}", self.rest());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn rest(&mut self) -> Vec<String> {
        while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(500)) {
            self.said.push(line);
        }
        std::mem::take(&mut self.said)
    }

    /// Its end, which must come within this time.
    fn end_within(mut self, time: Duration) -> Run {
        use std::io::Read;
        let end = Instant::now() + time;
        let status = loop {
            if let Some(it) = self.child.try_wait().unwrap() {
                break it;
            }
            if Instant::now() > end {
                self.child.kill().unwrap();
                panic!("not over after {time:?}: {:?}", self.rest());
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        let stderr = self.rest().iter().map(|it| format!("{it}\n")).collect();
        Run { code: status.code().unwrap_or(-1), stdout, stderr }
    }

    /// It ends soon, well.
    fn held(self) -> Run {
        let run = self.end_within(SOON);
        assert_eq!(run.code, 0, "{run:?}");
        run
    }
}

/// A test gave up: nothing it started goes on.
impl Drop for Waiter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn forty_malformed_invocations_say_what_is_wrong_and_run_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().join("ran");
    let cases: &[(&[&str], &str)] = &[
        (&["--frob"], "unexpected argument '--frob'"),
        (&["-x"], "unexpected argument '-x'"),
        (&["--fil", "x"], "a similar argument exists: '--file'"),
        (&["-i"], "a value is required for '--intf <IF>'"),
        (&["-T", "1", "-T", "2", "-i", "lo"], "cannot be used multiple times"),
        (&["-q", "-q", "-i", "lo"], "cannot be used multiple times"),
        (&["--on-timeout", "frob", "-i", "lo"], "possible values: fail, run"),
        (&["-i", ""], "--intf: ``: the value is empty"),
        (&["-i", "a/b"], "an interface name cannot hold '/'"),
        (&["-i", "a b"], "an interface name cannot hold ' '"),
        (&["-i", "much-too-long-a-name"], "an interface name is at most 15 bytes, this has 20"),
        (&["-I", ".."], "an interface name cannot be `..`"),
        (&["-I", "eth0:1"], "an interface name cannot hold ':'"),
        (&["-t", "nohost"], "expected HOST:PORT, found no port"),
        (&["-t", "a:b"], "expected a port from 1 to 65535, found `b`"),
        (&["-t", "a:0"], "expected a port from 1 to 65535, found `0`"),
        (&["-t", "a:65536"], "expected a port from 1 to 65535, found `65536`"),
        (&["-t", "a:+80"], "expected a port from 1 to 65535, found `+80`"),
        (&["-t", ":80"], "missing host"),
        (&["-t", "[::1:80"], "missing `]`"),
        (&["-t", "[x]:80"], "`x` is not an IPv6 address"),
        (&["-t", "a:b:80"], "`a:b` is neither a host name nor an IPv6 address"),
        (&["-t", "http://web:80"], "neither a host name nor an IPv6 address"),
        (&["-s", "x", "-i", "lo"], "--sleep: `x`: expected a duration such as `5s`, `200ms` or `1m30s`"),
        (&["-s", "-1", "-i", "lo"], "--sleep: `-1`: expected a duration"),
        (&["-s", "1 s", "-i", "lo"], "--sleep: `1 s`: expected a duration"),
        (&["-T", "inf", "-i", "lo"], "--timeout: `inf`: expected a duration"),
        (&["-T", "", "-i", "lo"], "--timeout: ``: expected a duration"),
        (&["--try-timeout", "0", "-i", "lo"], "--try-timeout: expected a duration above 0"),
        (&["-u", "9", "-i", "lo"], "--umask: `9`: expected an octal number from 0 to 777"),
        (&["-u", "1777", "-i", "lo"], "--umask: `1777`: expected an octal number"),
        (&["--addr", "10.0.0.256"], "`10.0.0.256` is not an IP address"),
        (&["--addr", "10.0.0.1/33"], "expected a prefix length from 0 to 32 for IPv4"),
        (&["--route", "10.0.0.1/8"], "expected a network address, such as `10.0.0.0/8`"),
        (&["--route", "everywhere"], "`everywhere` is not an IP address, or `default`"),
        (&["--route", "default@a/b"], "an interface name cannot hold '/'"),
        (&["--http", "web"], "expected a URL that starts with `http://`"),
        (&["--http", "https://web"], "TLS is not supported"),
        (
            &["--http", "http://web/=99"],
            "expected a status from 100 to 599, or a range such as 200-399, found `99`",
        ),
        (&["--dns", "a=b"], "`b` is not an IP address"),
        (&["--dns", "a b"], "a host name cannot contain ' '"),
        (&["--mac", "eth0"], "expected an interface and an address, such as `eth0=02:00:00:00:00:01`"),
        (&["--mtu", "eth0=big"], "expected an MTU such as 1500, found `big`"),
        (&["--if-count", "few"], "expected a number of interfaces, found `few`"),
        (&["--not"], "--not: expected a condition to follow"),
        (&["--not", "--not", "-i", "lo"], "--not: given twice in a row"),
        (&["--any"], "--any: expected conditions to follow"),
        (&["--any", "-i", "lo", "--any"], "--any: given twice"),
        (&["--any", "-u", "22", "-i", "lo"], "--umask: must come before --any"),
        (&["--unix", ""], "--unix: ``: the value is empty"),
    ];
    assert!(cases.len() >= 40);
    for (args, message) in cases {
        let mut command = wait(args);
        command.args(["--", "touch"]).arg(&marker);
        let run = run(command);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args:?}: {}", run.stderr);
        assert!(
            run.stderr.starts_with("error: ") && run.stderr.contains(message),
            "{args:?}: {}",
            run.stderr
        );
        assert!(!marker.exists(), "{args:?} ran the command");
    }
    // Without conditions and without a command there is nothing to do, which is a mistake too.
    assert_eq!(run(wait(&[])).code, 2);
    assert_eq!(run(wait(&["--", ""])).code, 2);
    let mut environment = wait(&["-i", "lo"]);
    environment.env("WAIT_SLEEP", "soon").env("WAIT_TIMEOUT", "late");
    let environment = run(environment);
    expect![[r#"
        error: WAIT_TIMEOUT: `late`: expected a duration such as `5s`, `200ms` or `1m30s`
        error: WAIT_SLEEP: `soon`: expected a duration such as `5s`, `200ms` or `1m30s`
    "#]]
    .assert_eq(&environment.stderr);
    assert_eq!(environment.code, 2);
}

#[test]
fn durations_may_have_units() {
    let start = Instant::now();
    let ran = run(wait(&["--sleep-for", "150ms", "-T", "1m30s", "-s", "0.01", "-i", "lo", "--", "true"]));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!((150..5000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    let mut environment = wait(&["-i", "nope0"]);
    environment.env("WAIT_TIMEOUT", "100ms");
    let ran = run(environment);
    assert!(ran.code == 124 && ran.stderr.contains("error: timeout after 0.1 s:"), "{}", ran.stderr);
}

#[test]
fn all_mistakes_are_shown_at_once() {
    let run = run(wait(&["-t", "a:b", "-i", "a/b", "-s", "x", "-T", "y", "--", "true"]));
    expect![[r#"
        error: --timeout: `y`: expected a duration such as `5s`, `200ms` or `1m30s`
        error: --tcp: `a:b`: expected a port from 1 to 65535, found `b`
        error: --intf: `a/b`: an interface name cannot hold '/'
        error: --sleep: `x`: expected a duration such as `5s`, `200ms` or `1m30s`
    "#]]
    .assert_eq(&run.stderr);
    assert_eq!(run.code, 2);
}

#[test]
fn what_holds_already_is_told_in_the_words_of_the_reference_and_stdout_is_the_commands_alone() {
    let args = ["-f", "/", "-i", "lo", "-c", "echo noise", "--", "echo", "a b"];
    let told = run(wait(&args));
    expect![[r#"
        File '/' exists
        Interface 'lo' exists
        Waiting for command: echo noise...
        noise
        Command 'echo noise' executed successfully
        Running: ["echo", "a b"]
    "#]]
    .assert_eq(&told.stderr);
    assert_eq!((told.code, told.stdout.as_str()), (0, "a b\n"));
    let told = run(wait(&[&["-q"], &args[..]].concat()));
    assert_eq!((told.code, told.stdout.as_str(), told.stderr.as_str()), (0, "a b\n", "noise\n"));
    let told = run(wait(&[&["--stdout"], &args[..]].concat()));
    assert_eq!(told.stderr, "");
    assert!(
        told.stdout.starts_with("File '/' exists\n") && told.stdout.ends_with("a b\n"),
        "{}",
        told.stdout
    );
}

#[test]
fn json_is_an_object_a_line() {
    let run =
        run(wait(&["--json", "-T", "0.1", "-f", "/", "--not", "-i", "lo", "-f", "/none", "--", "true"]));
    assert_eq!((run.code, run.stdout.as_str()), (124, ""));
    let lines: Vec<String> = run
        .stderr
        .lines()
        .map(|it| {
            let mut object: serde_json::Value = serde_json::from_str(it).unwrap();
            assert!(object["elapsed"].as_f64().unwrap() < 5.0);
            object.as_object_mut().unwrap().remove("elapsed");
            format!("{object}\n")
        })
        .collect();
    expect![[r#"
        {"event":"holds","condition":"file","target":"/"}
        {"event":"waiting","condition":"interface","target":"lo","not":true}
        {"event":"timeout","missing":[{"condition":"interface","target":"lo","not":true,"reason":"it is still met"},{"condition":"file","target":"/none","reason":"not checked yet"}]}
    "#]]
    .assert_eq(&lines.concat());
}

#[test]
fn a_timeout_names_what_is_missing_and_why() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("a/b");
    let missing = missing.to_str().unwrap();
    let run = run(wait(&["-T", "0.2", "-f", "/", "-f", missing, "-t", "localhost:1", "--", "echo", "ran"]));
    assert_eq!((run.code, run.stdout.as_str()), (124, ""));
    expect![[r#"
        File '/' exists
        Waiting for file: DIR/a/b...
        error: timeout after 0.2 s:
          file: DIR/a/b: No such file or directory (os error 2)
          TCP connection: localhost:1: not checked yet
    "#]]
    .assert_eq(&run.stderr.replace(dir.path().to_str().unwrap(), "DIR"));
    let mut by_variable = wait(&["-f", missing]);
    by_variable.env("WAIT_TIMEOUT", "0.1");
    assert_eq!(crate::support::run(by_variable).code, 124);
    let run =
        crate::support::run(wait(&["-T", "0.1", "--on-timeout", "run", "-f", missing, "--", "echo", "ran"]));
    assert_eq!((run.code, run.stdout.as_str()), (0, "ran\n"));
    // Zero is no limit.
    let mut waiter = Waiter::start(wait(&["-T", "0", "-f", missing]));
    waiter.until("Waiting for");
    waiter.goes_on();
}

#[test]
fn help_and_version_are_no_errors() {
    for (args, begin) in [(["--help"], "Wait for interfaces, addresses"), (["--version"], "wait 3")] {
        let run = run(wait(&args));
        assert_eq!((run.code, run.stderr.as_str()), (0, ""));
        assert!(run.stdout.starts_with(begin), "{}", run.stdout);
    }
}

#[test]
fn conditions_are_waited_for_in_order_and_any_ends_with_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let [a, b, c] = ["a", "b", "c"].map(|it| file(it).to_str().unwrap().to_owned());
    // A command that comes later is not tried while an earlier condition is false.
    let ran = format!("echo x >> {}", file("ran").display());
    let mut waiter = Waiter::start(wait(&["-f", &a, "-c", &ran, "--any", "-f", &b, "-f", &c, "--", "true"]));
    waiter.until("Waiting for file");
    fs::write(&c, "").unwrap();
    waiter.goes_on();
    assert!(!file("ran").exists());
    fs::write(&a, "").unwrap();
    let run = waiter.held();
    assert_eq!(fs::read_to_string(file("ran")).unwrap(), "x\n");
    assert!(run.stderr.contains(&format!("File '{c}' exists")), "{}", run.stderr);
}

#[test]
fn a_condition_may_have_to_be_false_or_to_go_on_holding() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, "").unwrap();
    let name = path.to_str().unwrap();
    let mut waiter = Waiter::start(wait(&["--not", "-f", name]));
    waiter.until("Waiting for the end of file");
    waiter.goes_on();
    fs::remove_file(&path).unwrap();
    waiter.held();
    // It comes, goes before its time, and comes to stay.
    let mut waiter = Waiter::start(wait(&["--hold", "1", "-f", name]));
    waiter.until("Waiting for file");
    fs::write(&path, "").unwrap();
    waiter.goes_on();
    fs::remove_file(&path).unwrap();
    for _ in 0..8 {
        waiter.goes_on();
    }
    let start = Instant::now();
    fs::write(&path, "").unwrap();
    waiter.end_within(Duration::from_secs(5));
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(run(wait(&["--sleep-for", "0.2", "-i", "lo"])).code, 0);
    assert!(start.elapsed() >= Duration::from_millis(200));
}

/// `/proc/PID/FILE` of a process.
fn proc_file(pid: i32, file: &str) -> String {
    fs::read_to_string(Path::new("/proc").join(pid.to_string()).join(file)).unwrap_or_default()
}

#[test]
fn a_socket_path_that_no_socket_can_have_is_a_usage_error() {
    let path = format!("/tmp/{}", "x".repeat(103));
    let run = run(wait(&["--unix", &path]));
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("a socket path has at most 107 bytes, this has 108"), "{run:?}");
}
