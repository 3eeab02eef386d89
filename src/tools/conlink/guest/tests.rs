//! Guests in real namespaces, with fake engines and monitors.

#![expect(clippy::disallowed_methods, reason = "tests run programs: `unshare`")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::process::node;
use crate::tools::conlink::guest::places::Sockets;
use crate::tools::conlink::socket::PATIENCE;

#[test]
fn a_guest_has_a_kind_and_a_name() {
    let text = |it: &str| it.to_owned();
    for (given, expected) in [
        ("docker:web", Guest::Docker(text("web"))),
        ("podman:p-web_1.x", Guest::Podman(text("p-web_1.x"))),
        ("containerd:k8s.io/0a1b", Guest::Containerd { namespace: text("k8s.io"), id: text("0a1b") }),
        ("lxc:web", Guest::Lxc(text("web"))),
        ("pid:4294", Guest::Pid(4294)),
        ("netns:blue", Guest::Netns(text("blue"))),
        ("netns:a:b", Guest::Netns(text("a:b"))),
        ("netns:/proc/1/ns/net", Guest::Netns(text("/proc/1/ns/net"))),
        ("lab:demo/r1", Guest::Lab { lab: text("demo"), node: text("r1") }),
        ("/run/netns/x", Guest::Netns(text("/run/netns/x"))),
        ("./a:b", Guest::Netns(text("./a:b"))),
        ("web", Guest::Bare(text("web"))),
        ("4294", Guest::Bare(text("4294"))),
    ] {
        assert_eq!(Guest::parse(given), Ok(expected), "{given}");
    }
    let container = "expected the name of a container: letters, digits, `_`, `.` and `-`, found";
    for (given, expected) in [
        ("", "expected the name of a guest, such as `docker:web`, found ``".to_owned()),
        ("..", "expected the name of a guest, such as `docker:web`, found `..`".to_owned()),
        ("docker:", format!("{container} `docker:`")),
        ("docker:a/b", format!("{container} `docker:a/b`")),
        ("podman:-x", format!("{container} `podman:-x`")),
        ("containerd:web", "expected `containerd:NAMESPACE/ID`, found `containerd:web`".to_owned()),
        ("containerd:../x", "expected `containerd:NAMESPACE/ID`, found `containerd:../x`".to_owned()),
        ("lxc:a/b", "expected the name of a container, found `lxc:a/b`".to_owned()),
        ("pid:0", "expected a process ID, found `pid:0`".to_owned()),
        ("pid:+1", "expected a process ID, found `pid:+1`".to_owned()),
        ("pid:2147483648", "expected a process ID, found `pid:2147483648`".to_owned()),
        ("netns:", "expected a name in /run/netns, or a path, found `netns:`".to_owned()),
        ("lab:r1", "expected `lab:LAB/NODE`, found `lab:r1`".to_owned()),
        ("dockr:web", "unknown kind of guest `dockr`; did you mean `docker:web`?".to_owned()),
        (
            "x:web",
            "unknown kind of guest `x`; expected `docker`, `podman`, `containerd`, `lxc`, `pid`, `netns` or `lab`"
                .to_owned(),
        ),
    ] {
        assert_eq!(Guest::parse(given).unwrap_err().to_string(), expected, "{given}");
    }
}

/// A process in network and host name namespaces of its own.
struct Process(Child);

impl Process {
    /// None, with a SKIP line, if no namespaces can be made.
    fn new(test: &str) -> Option<Self> {
        let mut command = Command::new("unshare");
        command.args(["-nu", "sh", "-c", "hostname box && echo ready && exec cat"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let process = Self(child);
        if line == "ready\n" {
            return Some(process);
        }
        assert!(std::env::var_os("CONLINK_TEST_ALL").is_none(), "{test} must not be skipped");
        let mut tty = File::options().append(true).open("/proc/self/fd/2").unwrap();
        writeln!(tty, "\nSKIP {test}: no namespaces can be made").unwrap();
        None
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    #[track_caller]
    fn is(&self, found: &Found) {
        assert_eq!(netns::inode(&found.netns).unwrap(), netns::inode(&self.netns()).unwrap());
        assert_eq!((found.pid, found.hostname().as_deref()), (Some(self.pid()), Some("box")));
    }

    fn netns(&self) -> File {
        netns::of_process(self.pid()).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A folder with the sockets of fake engines, and nothing else.
struct World {
    folder: TempDir,
    places: Places,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |it: &str| folder.path().join(it);
        let none = || Sockets::at(Vec::new());
        let places =
            Places { docker: none(), podman: none(), containerd: path("containerd"), netns: path("netns") };
        fs::create_dir(&places.netns).unwrap();
        Self { folder, places }
    }

    /// A socket where inspections are answered by `inspect`, given the name and the number of the inspection, from 0.
    /// One container, `web`, is listed.
    fn engine(&self, inspect: impl Fn(&str, usize) -> Option<Value> + Send + 'static) -> Sockets {
        let path =
            self.folder.path().join(format!("{}.sock", fs::read_dir(self.folder.path()).unwrap().count()));
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            let count = Arc::new(Mutex::new(0));
            let inspect = Arc::new(Mutex::new(inspect));
            for stream in listener.incoming() {
                let (count, inspect) = (count.clone(), inspect.clone());
                std::thread::spawn(move || {
                    let answer = |target: &str| {
                        let path = target.trim_start_matches("/containers/");
                        let Some(name) = path.strip_suffix("/json") else {
                            return Some(json!([{"Id": ID, "Names": ["/web"], "Labels": {}}]));
                        };
                        let mut count = count.lock().unwrap();
                        *count += 1;
                        inspect.lock().unwrap()(name, *count - 1)
                    };
                    // A client that goes away is no concern of the test.
                    let _ = serve(stream.unwrap(), &answer);
                });
            }
        });
        Sockets::at(vec![path])
    }

    #[track_caller]
    fn found(&self, guest: &str) -> Found {
        Guest::parse(guest).unwrap().resolve_in(&self.places).unwrap()
    }

    #[track_caller]
    fn not_found(&self, guest: &str) -> String {
        match Guest::parse(guest).unwrap().resolve_in(&self.places) {
            Err(Unresolved::NotFound(it)) => it.replace(self.folder.path().to_str().unwrap(), "DIR"),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn failed(&self, guest: &str) -> String {
        match Guest::parse(guest).unwrap().resolve_in(&self.places) {
            Err(Unresolved::Failed(it)) => {
                format!("{it:#}").replace(self.folder.path().to_str().unwrap(), "DIR")
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Answers HTTP requests; None is status 404.
fn serve(stream: UnixStream, answer: &dyn Fn(&str) -> Option<Value>) -> io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(request) = lines.next() {
        let request = request?;
        for line in lines.by_ref() {
            if line?.is_empty() {
                break;
            }
        }
        let target = request.split_whitespace().nth(1).unwrap_or_default();
        let target = target.split('?').next().unwrap_or_default();
        let (status, body) = match answer(target) {
            Some(it) => ("200 OK", it.to_string()),
            None => ("404 Not Found", json!({"message": "no such container"}).to_string()),
        };
        write!(out, "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n")?;
        write!(out, "Content-Length: {}\r\n\r\n{body}", body.len())?;
    }
    Ok(())
}

const ID: &str = "0a1b0a1b0a1b0a1b0a1b0a1b0a1b0a1b0a1b0a1b0a1b0a1b0a1b0a1b0a1b0a1b";

/// The inspection of the container `web` with that first process; 0: it is not running.
fn web(pid: u32) -> Value {
    let state = json!({"Running": pid > 0, "Pid": pid, "StartedAt": "2026-01-01T00:00:00.5Z"});
    json!({"Id": ID, "Name": "/web", "State": state, "Config": {}, "HostConfig": {"NetworkMode": "none"}})
}

#[test]
fn a_container_is_found_by_its_name_or_the_beginning_of_its_id() {
    let Some(process) = Process::new("a container of a fake engine") else { return };
    let mut world = World::new();
    let pid = process.pid();
    let answers = move |name: &str, _| (name == "web" || ID.starts_with(name)).then(|| web(pid));
    world.places.docker = world.engine(answers);
    for guest in ["docker:web", "docker:0a1b0a1b", "web", "0a1b"] {
        let found = world.found(guest);
        assert_eq!((found.kind, found.name.as_str()), ("docker", "web"), "{guest}");
        process.is(&found);
    }
    world.places.podman = std::mem::replace(&mut world.places.docker, Sockets::at(Vec::new()));
    for guest in ["podman:web", "web"] {
        let found = world.found(guest);
        assert_eq!((found.kind, found.name.as_str()), ("podman", "web"), "{guest}");
        process.is(&found);
    }
}

#[test]
fn a_missing_container_is_not_found_and_the_nearest_name_suggested() {
    let mut world = World::new();
    world.places.docker = world.engine(|_, _| None);
    let socket = world.places.docker.to_string().replace(world.folder.path().to_str().unwrap(), "DIR");
    let expected = format!("docker container `wbe` not found ({socket}); did you mean `web`?");
    assert_eq!(world.not_found("docker:wbe"), expected);
    assert_eq!(world.not_found("podman:wbe"), "podman container `wbe` not found (no socket)");
    let expected = format!(
        "guest `wbe` not found; did you mean `web`?\nhint: it is not a name in DIR/netns, a process ID, or a container of \
         docker ({socket}), podman (no socket) or LXC"
    );
    assert_eq!(world.not_found("wbe"), expected);
}

#[test]
fn a_container_that_does_not_run_is_an_error() {
    let mut world = World::new();
    world.places.docker = world.engine(|_, _| Some(web(0)));
    for guest in ["docker:web", "web"] {
        assert_eq!(world.failed(guest), "docker container `web` is not running");
    }
    // It ends, or is started again, before its namespace is open.
    let Some(process) = Process::new("a container that ends") else { return };
    let pid = process.pid();
    world.places.docker = world.engine(move |_, count| Some(web(if count == 0 { pid } else { 0 })));
    assert_eq!(world.failed("docker:web"), "docker container `web` is not running");
    world.places.docker = world.engine(move |_, count| Some(web(if count == 0 { pid } else { 1 })));
    let expected = "docker container `web`: restarted during the inspection";
    assert_eq!(world.failed("docker:web"), expected);
}

#[test]
fn an_engine_that_cannot_be_asked_is_an_error_unless_another_has_the_container() {
    let mut world = World::new();
    let path = world.folder.path().join("dead.sock");
    drop(UnixListener::bind(&path).unwrap());
    world.places.docker = Sockets::at(vec![path]);
    let expected = "docker: DIR/dead.sock: connection refused: no container engine listens there";
    assert_eq!(world.failed("docker:web"), expected);
    assert_eq!(world.failed("web"), expected);
    world.places.docker = Sockets::at(vec![PathBuf::from("/nonexistent/docker.sock")]);
    assert_eq!(world.failed("docker:web"), "docker: socket /nonexistent/docker.sock does not exist");
    let Some(process) = Process::new("a container of the other engine") else { return };
    let pid = process.pid();
    world.places.podman = world.engine(move |_, _| Some(web(pid)));
    assert_eq!(world.found("web").kind, "podman");
    // An answer without sense.
    world.places.docker = world.engine(|_, _| Some(json!({"Id": ID})));
    assert!(world.failed("docker:web").contains("has no state"), "{}", world.failed("docker:web"));
}

#[test]
fn a_bare_name_is_first_a_namespace_then_a_process_then_a_container() {
    let Some(process) = Process::new("a bare name") else { return };
    let mut world = World::new();
    let pid = process.pid();
    world.places.docker = world.engine(move |_, _| Some(web(pid)));
    let number = pid.to_string();
    assert_eq!(world.found(&number).kind, "pid");
    let link = world.places.netns.join(&number);
    std::os::unix::fs::symlink(format!("/proc/{pid}/ns/net"), &link).unwrap();
    assert_eq!(world.found(&number).kind, "netns");
    // A name that a restart of the machine has left.
    fs::remove_file(&link).unwrap();
    fs::write(&link, "").unwrap();
    assert_eq!(world.found(&number).kind, "pid");
    // No process has this number.
    assert_eq!(world.found("2147483647").kind, "docker");
}

#[test]
fn a_process_is_a_guest_until_it_ends() {
    let Some(process) = Process::new("a process") else { return };
    let (world, pid) = (World::new(), process.pid());
    let found = world.found(&format!("pid:{pid}"));
    assert_eq!((found.kind, found.name), ("pid", pid.to_string()));
    process.is(&world.found(&format!("pid:{pid}")));
    // Our own host name is that of the machine.
    assert_eq!(world.found(&format!("pid:{}", std::process::id())).hostname(), None);
    assert_eq!(world.not_found("pid:2147483647"), "no process has the ID 2147483647");
    // A process that has ended, and whose parent does not know that yet.
    let mut ended = Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
    ended.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
    let pidfd = open_process(ended.id()).unwrap();
    node::wait_for_end(pidfd.as_fd(), PATIENCE).unwrap();
    assert_eq!(world.failed(&format!("pid:{}", ended.id())), format!("process {} has ended", ended.id()));
    ended.wait().unwrap();
}

#[test]
fn a_namespace_is_a_guest_by_its_name_or_path() {
    let Some(process) = Process::new("a namespace by name") else { return };
    let (world, pid) = (World::new(), process.pid());
    let path = format!("/proc/{pid}/ns/net");
    std::os::unix::fs::symlink(&path, world.places.netns.join("blue")).unwrap();
    for (guest, name) in
        [("netns:blue", "blue"), ("blue", "blue"), (&path, &path), (&format!("netns:{path}"), &path)]
    {
        let found = world.found(guest);
        assert_eq!((found.kind, found.name.as_str(), found.pid), ("netns", name, None), "{guest}");
        assert_eq!(netns::inode(&found.netns).unwrap(), netns::inode(&process.netns()).unwrap());
    }
    let expected = "network namespace `bleu` not found in DIR/netns; did you mean `blue`?";
    assert_eq!(world.not_found("netns:bleu"), expected);
    assert_eq!(world.not_found("/proc/1/ns/nothing"), "/proc/1/ns/nothing does not exist");
    nix::unistd::mkfifo(&world.folder.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let pipe = world.folder.path().join("pipe");
    for other in ["/proc/self/ns/uts", "/dev/null", pipe.to_str().unwrap()] {
        let shown = other.replace(world.folder.path().to_str().unwrap(), "DIR");
        let expected = format!("{shown}: expected a network namespace, found another file");
        assert_eq!(world.failed(other), expected);
    }
}

#[test]
fn a_task_of_containerd_is_found_by_the_beginning_of_its_id() {
    let Some(process) = Process::new("a task of containerd") else { return };
    let (world, pid) = (World::new(), process.pid());
    let tasks = world.places.containerd.join("io.containerd.runtime.v2.task/default");
    let task = |id: &str, pid: &str| {
        fs::create_dir_all(tasks.join(id)).unwrap();
        fs::write(tasks.join(id).join("init.pid"), pid).unwrap();
    };
    let expected = "containerd container `web` not found in namespace `default` of DIR/containerd";
    assert_eq!(world.not_found("containerd:default/web"), expected);
    task("one", &pid.to_string());
    task("two", "2147483647");
    task("twofold", "");
    let expected = format!("{expected}; did you mean `one`?").replace("web", "oen");
    assert_eq!(world.not_found("containerd:default/oen"), expected);
    assert_eq!(world.failed("containerd:default/tw"), "containerd id `tw` is ambiguous: 2 ids start with it");
    for (id, full) in [("two", "two"), ("twof", "twofold")] {
        let expected = format!("containerd container `default/{full}` is not running");
        assert_eq!(world.failed(&format!("containerd:default/{id}")), expected);
    }
    // Its number belongs to a process that is not in the container.
    let expected = format!(
        "containerd container `default/one` is not running: process {pid} of its init.pid is not in a cgroup of the container"
    );
    assert_eq!(world.failed("containerd:default/one"), expected);
    // A container is in a cgroup that is named after it. The process is in our own.
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let Some(id) = groups.split(['/', '\n', ':']).find(|it| it.len() > 8 && is_name(it)) else { return };
    task(id, &pid.to_string());
    let found = world.found(&format!("containerd:default/{}", &id[..8]));
    assert_eq!((found.kind, found.name), ("containerd", format!("default/{id}")));
}

/// A monitor of LXC that answers each request with the next of these process IDs.
fn monitor(path: &str, pids: Vec<u32>) {
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(path).unwrap()).unwrap();
    std::thread::spawn(move || {
        for pid in pids {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 16];
            stream.read_exact(&mut request).unwrap();
            assert_eq!(request, [4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            let answer = [0_u32, 0, pid, 0].map(u32::to_ne_bytes).concat();
            stream.write_all(&answer).unwrap();
        }
        // It listens until the test ends.
        loop {
            std::thread::park();
        }
    });
}

#[test]
fn a_container_of_lxc_is_found_by_its_name() {
    let Some(process) = Process::new("a container of LXC") else { return };
    let (world, pid) = (World::new(), process.pid());
    // Names of this test alone.
    let name = |it: &str| format!("{it}-{pid}");
    let listen =
        |name: &str, pids| monitor(&format!("{}/{name}/command", world.folder.path().display()), pids);
    listen(&name("box"), vec![pid; 4]);
    for guest in [format!("lxc:{}", name("box")), name("box")] {
        let found = world.found(&guest);
        assert_eq!((found.kind, &found.name), ("lxc", &name("box")));
        process.is(&found);
    }
    listen(&name("starts"), vec![0]);
    let expected = format!("lxc container `{}` is not running", name("starts"));
    assert_eq!(world.failed(&format!("lxc:{}", name("starts"))), expected);
    listen(&name("again"), vec![pid, 1]);
    let expected = format!("lxc container `{}` was restarted during the inspection", name("again"));
    assert_eq!(world.failed(&format!("lxc:{}", name("again"))), expected);
    listen(&name("twin"), vec![0]);
    monitor(&format!("/other/{}/command", name("twin")), vec![0]);
    assert!(world.failed(&format!("lxc:{}", name("twin"))).starts_with("several LXC containers are named"));
    let expected =
        format!("no running LXC container is named `{}`; did you mean `{}`?", name("bx"), name("box"));
    assert_eq!(world.not_found(&format!("lxc:{}", name("bx"))), expected);
}
