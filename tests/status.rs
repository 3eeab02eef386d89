//! `conlink status` and `conlink healthcheck`, with fake labs and with a running engine.

mod engine;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Run, conlink, run, skip};

/// A folder that stands for `$XDG_RUNTIME_DIR`, with labs on paper in it.
struct Labs {
    folder: tempfile::TempDir,
}

impl Labs {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn bind(&self, name: &str) -> UnixListener {
        let folder = self.folder.path().join("conlink/lab").join(name);
        fs::create_dir_all(&folder).unwrap();
        UnixListener::bind(folder.join("socket")).unwrap()
    }

    /// A lab that has the same answer for everybody, and keeps the connection if that has no end.
    fn add(&self, name: &str, answer: &str) {
        let (listener, answer) = (self.bind(name), answer.to_owned());
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = String::new();
                BufReader::new(&stream).read_line(&mut request).unwrap();
                // Who hangs up amid an answer is no concern of the test.
                let _ = stream.write_all(answer.as_bytes());
                if !answer.ends_with('\n') {
                    open.push(stream);
                }
            }
        });
    }

    fn env(&self) -> BTreeMap<String, String> {
        [("XDG_RUNTIME_DIR".to_owned(), self.folder.path().display().to_string())].into()
    }

    fn run(&self, args: &[&str]) -> Run {
        conlink(self.folder.path(), args, &self.env())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_conlink"));
        command.args(args).env_clear().envs(self.env());
        command
    }
}

/// A status with one node in that state; its link is in the one after it.
fn lab(name: &str, state: &str, link: &str) -> String {
    let error = json!({"subject": "link h1:eth0", "message": "add veth eth0: File exists", "help": "somebody made it",
        "origin": "c.yaml:3:7"});
    let errors = if link == "failed" { vec![error] } else { Vec::new() };
    let link = json!({"dev": "eth0", "type": "veth", "bridge": "lan", "outer": "h1-eth0", "parent": null, "vlanid": null,
        "mode": "linux", "place": "engine", "mac": null, "mtu": 1500, "addresses": ["10.0.0.1/24"], "state": link,
        "origin": "c.yaml:2:5", "drift": [], "overrides": [], "errors": errors});
    let process = json!({"name": "h1", "state": "running", "pid": 7, "exit_code": null, "restarts": 0, "health": null,
        "command": ["sh"], "notes": [], "log": "/log", "waits_for": []});
    let node = json!({"name": "h1", "service": "h1", "index": 1, "engine": "lab", "id": "h1", "state": state,
        "links": [link], "errors": [], "process": process});
    let status = json!({"version": 1, "kind": "lab", "project": name, "state": state, "listening": true, "engines": [],
        "bridges": [], "tunnels": [], "nodes": [node], "errors": [], "warnings": []});
    format!("{status}\n")
}

const ROWS: &str = "\
NODE  PROCESS  LINK  JOINED TO  ADDRESSES    STATE
h1    running  eth0  lan        10.0.0.1/24  ";

#[test]
fn the_exit_code_is_0_if_all_is_connected_and_1_otherwise() {
    let labs = Labs::new();
    labs.add("st-good", &lab("st-good", "connected", "up"));
    labs.add("st-bad", &lab("st-bad", "failing", "failed"));
    labs.add("st-new", &lab("st-new", "working", "pending"));
    let good = format!("lab st-good: connected, 1 node, 1 link\n{ROWS}up\n");
    let bad = format!(
        "lab st-bad: failing, 1 node, 1 link, 1 failed\nerror: link h1:eth0: add veth eth0: File exists (c.yaml:3:7)\n\
         hint: somebody made it\n\n{ROWS}failed\n"
    );
    let new = format!("lab st-new: working, 1 node, 1 link, 1 pending\n{ROWS}pending\n");
    let code = |name, code, stdout: &str| {
        assert_eq!(
            labs.run(&["status", name]),
            Run { code, stdout: stdout.to_owned(), stderr: String::new() }
        );
    };
    code("st-good", 0, &good);
    code("st-bad", 1, &bad);
    code("st-new", 1, &new);
    let json = labs.run(&["status", "st-bad", "--json"]);
    assert_eq!((json.code, json.stdout.as_str()), (1, lab("st-bad", "failing", "failed").as_str()));
    // The project of the environment, where no other is named.
    let mut command = labs.command(&["status"]);
    command.env("COMPOSE_PROJECT_NAME", "st-good");
    assert_eq!(run(command), Run { code: 0, stdout: good, stderr: String::new() });

    let health = |name, code, stdout: &str, stderr: &str| {
        let expected = Run { code, stdout: stdout.to_owned(), stderr: stderr.to_owned() };
        assert_eq!(labs.run(&["healthcheck", name]), expected);
    };
    // `--name` is the same, and `-q` leaves errors.
    let quiet = labs.run(&["healthcheck", "-q", "-n", "st-good"]);
    assert_eq!(quiet, Run { code: 0, stdout: String::new(), stderr: String::new() });
    assert_eq!(labs.run(&["status", "--name", "st-bad"]), labs.run(&["status", "st-bad"]));
    // Of several, the project of the working directory.
    fs::write(labs.folder.path().join("compose.yaml"), "name: st-bad\nservices: {}\n").unwrap();
    assert_eq!(labs.run(&["healthcheck"]), labs.run(&["healthcheck", "st-bad"]));
    assert_eq!(labs.run(&["status", "--color", "always", "st-bad"]).stdout.matches("\u{1b}[").count(), 6);

    health("st-good", 0, "lab `st-good`: connected, 1 node, 1 link\n", "");
    health("st-bad", 1, "", "lab `st-bad`: link h1:eth0: add veth eth0: File exists (c.yaml:3:7)\n");
    health("st-new", 1, "", "lab `st-new`: not every container has been checked yet\n");
}

#[test]
fn a_silent_lab_and_a_missing_lab_have_different_errors() {
    let labs = Labs::new();
    let socket =
        |name: &str| labs.folder.path().join(format!("conlink/lab/{name}/socket")).display().to_string();
    drop(labs.bind("st-killed"));
    let killed =
        format!("error: lab `st-killed` is not running: nothing listens on {}\n", socket("st-killed"));
    for (name, answer, expected) in [
        ("st-error", "{\"error\":\"there is no request `status`\"}\n", "there is no request `status`"),
        ("st-end", "\n", "the answer is not JSON: EOF while parsing a value at line 1 column 0"),
        ("st-junk", "junk\n", "the answer is not JSON: expected value at line 1 column 1"),
        (
            "st-other",
            "{\"version\":2}\n",
            "unexpected answer, perhaps from another version of conlink: missing field `kind` at line 1 column 13",
        ),
    ] {
        labs.add(name, answer);
        let stderr = format!("error: ask lab `{name}`: {expected}\n");
        for args in [&["status", name] as &[&str], &["healthcheck", name], &["status", "--json", name]] {
            let expected = Run { code: 1, stdout: String::new(), stderr: stderr.clone() };
            assert_eq!(labs.run(args), expected);
        }
    }
    for command in ["status", "healthcheck"] {
        let run = labs.run(&[command, "st-killed"]);
        assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (1, "", killed.as_str()));
        let run = labs.run(&[command, "st-none"]);
        let begin =
            "error: no engine or lab `st-none` is running: no socket /run/conlink/st-none.sock; running: ";
        assert!(run.code == 1 && run.stderr.starts_with(begin), "{run:?}");
        assert!(
            run.stderr.contains("lab `st-error`, lab `st-junk`, lab `st-killed`, lab `st-other`"),
            "{run:?}"
        );
    }
    // A name is no way to other folders.
    assert!(labs.run(&["status", "../../x"]).stderr.contains("no socket /run/conlink/.._.._x.sock"));
    for args in [&["status", "a", "b"] as &[&str], &["status", "--frob"], &["healthcheck", "--json"]] {
        assert_eq!(labs.run(args).code, 2, "{args:?}");
    }
}

#[test]
fn a_lab_that_hangs_up_or_stays_silent_ends_the_command() {
    let labs = Labs::new();
    let hangs_up = labs.bind("st-hangs");
    std::thread::spawn(move || hangs_up.incoming().for_each(drop));
    labs.add("st-breaks", "{\"version\":1");
    let breaks = labs.bind("st-off");
    std::thread::spawn(move || {
        for stream in breaks.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(b"{\"version\":1");
        }
    });
    // Whether the end comes before the request has been taken is a matter of luck.
    let said = ["closed the connection", "Broken pipe", "Connection reset"];
    for command in ["status", "healthcheck", "diff"].repeat(30) {
        let run = labs.run(&[command, "st-hangs"]);
        let is_told = said.iter().any(|it| run.stderr.contains(it));
        assert!(run.code == 1 && run.stdout.is_empty() && is_told, "{command}: {run:?}");
    }
    let run = labs.run(&["status", "st-off"]);
    let said = ["is incomplete", "Broken pipe", "Connection reset"];
    assert!(run.code == 1 && said.iter().any(|it| run.stderr.contains(it)), "{run:?}");
    // As long as the patience of the client, and no longer.
    let start = Instant::now();
    let mut child = labs.command(&["healthcheck", "st-breaks"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(said, "error: ask lab `st-breaks`: no answer in time\n");
    assert!((5..20).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[test]
fn a_socket_of_another_user_and_a_stopped_engine_have_different_errors() {
    if !nix::unistd::geteuid().is_root() {
        return skip("status of somebody else's lab", "this is no superuser");
    }
    let labs = Labs::new();
    labs.add("st-other", &lab("st-other", "connected", "up"));
    let socket = labs.folder.path().join("conlink/lab/st-other/socket");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(labs.folder.path(), 0o755);
    mode(&socket, 0o600);
    // Where nobody may get at it, too. By another process: a file that is open for writing here may be open in a child
    // of another test, and then it cannot be run.
    let binary = labs.folder.path().join("conlink-binary");
    let mut copy = Command::new("cp");
    copy.arg(env!("CARGO_BIN_EXE_conlink")).arg(&binary);
    assert_eq!(run(copy).code, 0);
    let mut command = Command::new(&binary);
    command.args(["status", "st-other"]).env_clear().envs(labs.env()).uid(65534).gid(65534).current_dir("/");
    let expected = format!(
        "error: permission denied: only the owner of lab `st-other` may connect to {}\n",
        socket.display()
    );
    assert_eq!(run(command), Run { code: 1, stdout: String::new(), stderr: expected });
}

/// A program whose output is read line by line.
struct Lines {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Lines {
    fn of(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let out = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    #[track_caller]
    fn next(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(20)).expect("a line")
    }

    /// The exit code, which there must be by now or soon.
    fn end(mut self) -> i32 {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < end, "it goes on");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A lab whose watchers hear of `changes` in turn, and then of its end.
fn changing(labs: &Labs, name: &str) -> mpsc::Sender<String> {
    let listener = labs.bind(name);
    let (sender, changes) = mpsc::channel::<String>();
    std::thread::spawn(move || {
        let (mut stream, _): (UnixStream, _) = listener.accept().unwrap();
        let mut request = String::new();
        BufReader::new(&stream).read_line(&mut request).unwrap();
        assert_eq!(request, "{\"request\":\"watch\"}\n");
        for line in changes {
            stream.write_all(line.as_bytes()).unwrap();
        }
    });
    sender
}

#[test]
fn each_change_is_printed_until_the_lab_ends() {
    let labs = Labs::new();
    let tell = changing(&labs, "st-watch");
    let mut command = labs.command(&["status", "--watch", "st-watch"]);
    let watch = Lines::of({
        command.stderr(Stdio::null());
        command
    });
    let rows: Vec<&str> = ROWS.lines().collect();
    for (state, link, head) in [
        ("working", "pending", "lab st-watch: working, 1 node, 1 link, 1 pending"),
        ("connected", "up", "lab st-watch: connected, 1 node, 1 link"),
    ] {
        tell.send(lab("st-watch", state, link)).unwrap();
        if state == "connected" {
            assert_eq!(watch.next(), "");
        }
        assert_eq!([watch.next(), watch.next()], [head, rows[0]]);
        assert_eq!(watch.next(), format!("{}{link}", rows[1]));
    }
    drop(tell);
    assert_eq!(watch.end(), 1);

    let tell = changing(&labs, "st-json");
    let watch = Lines::of(labs.command(&["status", "--watch", "--json", "st-json"]));
    for _ in 0..2 {
        tell.send(lab("st-json", "connected", "up")).unwrap();
        assert_eq!(watch.next() + "\n", lab("st-json", "connected", "up"));
    }
}

#[test]
fn watch_redraws_the_terminal() {
    if !Path::new("/usr/bin/script").exists() {
        return skip("status --watch on a terminal", "there is no script(1)");
    }
    let labs = Labs::new();
    let tell = changing(&labs, "st-tty");
    let mut command = Command::new("/usr/bin/script");
    let inner = format!("{} status --watch st-tty", env!("CARGO_BIN_EXE_conlink"));
    command.args(["-qefc", &inner, "/dev/null"]).env_clear().envs(labs.env()).env("SHELL", "/bin/sh");
    let watch = Lines::of(command);
    for (state, link, color) in [("failing", "failed", 31), ("connected", "up", 32)] {
        tell.send(lab("st-tty", state, link)).unwrap();
        let line = watch.next();
        assert!(line.contains(&format!("\x1b[Hlab st-tty: \x1b[{color}m{state}\x1b[0m, 1 node")), "{line:?}");
        assert!(line.trim_end().ends_with("\x1b[K"), "{line:?}");
        if link == "failed" {
            // The error, its hint and an empty line.
            assert!(watch.next().starts_with("\x1b[31merror:\x1b[0m link h1:eth0"));
            watch.next();
            assert!(watch.next().starts_with("\x1b[K"));
        }
        assert!(watch.next().starts_with("NODE"));
        assert!(watch.next().contains(&format!("\x1b[{color}m{link}\x1b[0m\x1b[K")));
    }
    drop(tell);
    let line = watch.next();
    assert!(line.contains("\x1b[Herror: lab `st-tty` has ended\x1b[K"), "{line:?}");
    assert_eq!(watch.end(), 1);
}
