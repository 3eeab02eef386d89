//! A running engine with a fake container engine, whose containers are processes in new namespaces.
//!
//! The engine runs in new namespaces with its own `/run`, separate from other engines.

mod hostile;
mod labels;
mod left;
mod missed;
mod reached;
mod silent;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::status::Lines;
use crate::support::{Run, ip, may_unshare, run, skip};

/// Time limit of each step.
const PATIENCE: Duration = Duration::from_secs(20);

/// A fake container engine, and a conlink engine that uses it.
struct World {
    folder: tempfile::TempDir,
    docker: Arc<Mutex<Docker>>,
    engine: Child,
}

/// Changes the answer to an inspection, given the number of the inspection (from 0).
type Lie = Box<dyn Fn(usize, &mut Value) + Send>;

/// Number of past events that a real daemon keeps.
const REMEMBERED: usize = 256;

/// What the container engine knows.
#[derive(Default)]
struct Docker {
    /// By id: name and process.
    containers: BTreeMap<String, (String, Child)>,
    /// The time of each event, in seconds since 1970, and its text.
    events: Vec<(f64, String)>,
    /// The clients that listen for events.
    listeners: Vec<UnixStream>,
    /// Inspections are not answered.
    is_stuck: bool,
    /// Inspections of these containers (by id) are not answered.
    stuck: BTreeSet<String>,
    /// All containers are paused, and listed only if paused ones are requested.
    is_paused: bool,
    /// Requests for events get no answer, not even its beginning.
    hides_events: bool,
    /// The list of containers is made but not sent.
    holds_list: bool,
    /// Nothing is answered.
    is_mute: bool,
    /// How often each container was inspected, by id.
    inspected: BTreeMap<String, usize>,
    /// By id.
    lies: BTreeMap<String, Lie>,
    /// Bytes that are sent, before the connection is closed, for requests of the list (`list`), for events (`events`)
    /// and for inspections (the id).
    raw: BTreeMap<String, Vec<u8>>,
    /// Paths of requests, in their order.
    requests: Vec<String>,
}

impl Docker {
    /// The labels of `p-h-2`.
    fn labels(name: &str) -> Value {
        let mut parts = name.split('-');
        let mut part = || parts.next().unwrap();
        json!({"com.docker.compose.project": part(), "com.docker.compose.service": part(),
            "com.docker.compose.container-number": part()})
    }

    fn list(&self, query: &str) -> Value {
        if self.is_paused && !query.contains("paused") {
            return json!([]);
        }
        let container = |(id, (name, _)): (&String, &(String, Child))| json!({"Id": id, "Names": [format!("/{name}")], "State": "running", "Labels": Self::labels(name)});
        self.containers.iter().map(container).collect()
    }

    fn inspect(&mut self, id: &str) -> Option<Value> {
        let count = self.inspected.entry(id.to_owned()).or_default();
        *count += 1;
        let (name, process) = self.containers.get(id)?;
        let mut answer = json!({"Id": id, "Name": format!("/{name}"), "State": {"Running": true, "Pid": process.id()},
            "Config": {"Labels": Self::labels(name)}, "HostConfig": {"NetworkMode": "none"}});
        if let Some(lie) = self.lies.get(id) {
            lie(*count - 1, &mut answer);
        }
        Some(answer)
    }

    fn tell(&mut self, action: &str, id: &str) {
        let event =
            json!({"Type": "container", "Action": action, "Actor": {"ID": id, "Attributes": {}}, "time": 1});
        let text = format!("{event}\n");
        self.listeners.retain_mut(|it| send(it, &text).is_ok());
        self.events.push((seconds(), text));
    }

    /// Tells that in place of an event.
    fn tell_text(&mut self, text: &[u8]) {
        let chunk = [format!("{:x}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat();
        self.listeners.retain_mut(|it| it.write_all(&chunk).is_ok());
    }

    /// Tells all that was since then, and goes on telling.
    fn listen(&mut self, mut stream: UnixStream, since: f64) -> std::io::Result<()> {
        let remembered = &self.events[self.events.len().saturating_sub(REMEMBERED)..];
        for (_, text) in remembered.iter().filter(|(at, _)| *at >= since) {
            send(&mut stream, text)?;
        }
        self.listeners.push(stream);
        Ok(())
    }
}

fn send(stream: &mut UnixStream, event: &str) -> std::io::Result<()> {
    write!(stream, "{:x}\r\n{event}\r\n", event.len())
}

fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Waits, but not for ever: a test that has failed ends.
fn wait_while(docker: &Mutex<Docker>, holds: impl Fn(&Docker) -> bool) {
    let end = Instant::now() + PATIENCE;
    while holds(&docker.lock().unwrap()) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Listens at that path and answers whoever comes.
fn serve(path: &Path, docker: Arc<Mutex<Docker>>) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let docker = docker.clone();
            // A client that goes away is no concern of the test.
            std::thread::spawn(move || answer(stream.unwrap(), &docker).unwrap_or_default());
        }
    });
}

/// Answers the requests of one connection.
fn answer(stream: UnixStream, docker: &Mutex<Docker>) -> std::io::Result<()> {
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
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let parts: Vec<&str> = path.split('/').filter(|it| !it.is_empty()).collect();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
        docker.lock().unwrap().requests.push(path.to_owned());
        wait_while(docker, |it| it.is_mute);
        let raw = match parts.as_slice() {
            [.., "events"] => "events",
            [.., "containers", "json"] => "list",
            [.., "containers", id, "json"] => id,
            _ => "",
        };
        let raw = docker.lock().unwrap().raw.get(raw).cloned();
        if let Some(raw) = raw {
            return out.write_all(&raw);
        }
        let (status, body) = match parts.as_slice() {
            [.., "_ping"] => ("200 OK", "OK".to_owned()),
            [.., "events"] => {
                wait_while(docker, |it| it.hides_events);
                let since = query.split('&').find_map(|it| it.strip_prefix("since="));
                let since = since.and_then(|it| it.parse().ok()).unwrap_or(0.0);
                let mut docker = docker.lock().unwrap();
                write!(out, "{head}Transfer-Encoding: chunked\r\n\r\n")?;
                return docker.listen(out, since);
            }
            [.., "containers", "json"] => {
                let list = docker.lock().unwrap().list(query).to_string();
                wait_while(docker, |it| it.holds_list);
                ("200 OK", list)
            }
            [.., "containers", id, "json"] => {
                wait_while(docker, |it| it.is_stuck || it.stuck.contains(*id));
                match docker.lock().unwrap().inspect(id) {
                    Some(it) => ("200 OK", it.to_string()),
                    None => ("404 Not Found", json!({"message": "no such container"}).to_string()),
                }
            }
            _ => ("404 Not Found", json!({"message": "what?"}).to_string()),
        };
        write!(out, "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n")?;
        write!(out, "Content-Length: {}\r\n\r\n{body}", body.len())?;
    }
    Ok(())
}

impl World {
    /// None, and said so, where this process may make no namespaces.
    fn new(test: &str, yaml: &str) -> Option<Self> {
        if !may_unshare(test) {
            return None;
        }
        let mut mounts = Command::new("unshare");
        mounts.args(["-mn", "mount", "-t", "tmpfs", "none", "/run"]);
        if run(mounts).code != 0 {
            skip(test, "nothing can be mounted");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("net.yaml"), yaml).unwrap();
        let docker = Arc::new(Mutex::new(Docker::default()));
        serve(&folder.path().join("docker.sock"), docker.clone());
        let engine = Command::new("true").spawn().unwrap();
        Some(Self { folder, docker, engine })
    }

    /// Starts an engine that answers.
    fn start(&mut self) {
        self.spawn();
        self.within("the engine answers", |it| UnixStream::connect(it.socket()).is_ok());
    }

    /// Starts an engine that may come to nothing.
    fn spawn(&mut self) {
        self.end_engine();
        let mut command = self.apart(&["--network-file", "net.yaml", "--compose-project", "p"]);
        command.args(["--docker-socket", "docker.sock", "--podman-socket", "none"]);
        self.spawn_logged(command);
    }

    fn spawn_logged(&mut self, mut command: Command) {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(self.log_file()).unwrap());
        self.engine = command.spawn().unwrap();
    }

    /// The binary in namespaces of its own, for networks and for mounts: its `/run` is a folder of ours.
    fn apart(&self, args: &[&str]) -> Command {
        self.apart_after("true", args)
    }

    /// The same, after a shell command there. The command may set `run` to a program that starts conlink.
    fn apart_after(&self, command: &str, args: &[&str]) -> Command {
        let run = self.folder.path().join("run");
        fs::create_dir_all(&run).unwrap();
        let script = format!("mount --bind \"$1\" /run && shift && {command} && exec $run \"$@\"");
        let mut command = Command::new("unshare");
        command.args([
            "-mn",
            "sh",
            "-c",
            &script,
            "sh",
            run.to_str().unwrap(),
            env!("CARGO_BIN_EXE_conlink"),
        ]);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.args(args).current_dir(self.folder.path()).env_clear().env("PATH", path);
        command
    }

    /// The binary as a child of process 1 of a process namespace of its own: what is said to be the host's network
    /// namespace there is that of process 1. `own_id`: the id of the container that this is.
    fn contained(&self, own_id: Option<&str>, args: &[&str]) -> Command {
        let run = self.folder.path().join("run");
        fs::create_dir_all(&run).unwrap();
        let mut script = "mount --bind \"$1\" /run && shift".to_owned();
        if let Some(id) = own_id {
            let folder = self.folder.path().join(id);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("hostname"), "engine\n").unwrap();
            script += &format!(" && mount --bind {}/hostname /etc/hostname", folder.display());
        }
        // The shell stays, as process 1.
        script += " && \"$@\"; code=$?; exit $code";
        let mut command = Command::new("unshare");
        command.args(["-mnpf", "--kill-child", "--mount-proc", "sh", "-c", &script, "sh"]);
        command.args([run.to_str().unwrap(), env!("CARGO_BIN_EXE_conlink")]).args(args);
        command.args(["--network-file", "net.yaml", "--compose-project", "p"]);
        command.args(["--docker-socket", "docker.sock", "--podman-socket", "none"]);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.current_dir(self.folder.path()).env_clear().env("PATH", path);
        command
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("run/conlink/p.sock")
    }

    fn end_engine(&mut self) {
        let _ = self.engine.kill();
        let _ = self.engine.wait();
    }

    /// Runs a container, and tells so.
    fn run(&self, name: &str) {
        self.add(&id(name), name);
        self.docker().tell("start", &id(name));
    }

    /// What the container engine knows.
    fn docker(&self) -> MutexGuard<'_, Docker> {
        // A test that fails with it in hand still has containers to end.
        self.docker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a container with that id, and tells nobody.
    fn add(&self, id: &str, name: &str) {
        let process = Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap();
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let theirs = format!("/proc/{}/ns/net", process.id());
        self.within("it has a namespace of its own", |_| fs::read_link(&theirs).is_ok_and(|it| it != own));
        self.docker().containers.insert(id.to_owned(), (name.to_owned(), process));
    }

    /// The network namespace of a container, by its id.
    fn netns(&self, id: &str) -> fs::File {
        netns_of(self.docker().containers[id].1.id())
    }

    /// Kills a container, and tells so.
    fn kill(&self, name: &str) {
        let id = id(name);
        let mut docker = self.docker();
        let (_, mut process) = docker.containers.remove(&id).unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
        docker.tell("die", &id);
    }

    /// All that is answered to a line.
    fn ask(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.ask("{\"request\":\"status\"}\n")).unwrap()
    }

    /// The binary, where the engine is.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.engine.id()));
        command.arg(env!("CARGO_BIN_EXE_conlink")).args(args);
        command.env_remove("COMPOSE_PROJECT_NAME").env_remove("XDG_RUNTIME_DIR");
        command
    }

    fn conlink(&self, args: &[&str]) -> Run {
        run(self.command(args))
    }

    #[track_caller]
    fn within(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < end, "not in time: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.end_engine();
        for (_, process) in self.docker().containers.values_mut() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The id of the container of that name.
fn id(name: &str) -> String {
    let hex: String = name.bytes().map(|it| format!("{it:02x}")).collect();
    format!("{hex:0<64}")
}

fn netns_of(pid: u32) -> fs::File {
    fs::File::open(format!("/proc/{pid}/ns/net")).unwrap()
}

/// The names of a namespace's interfaces but `lo`, with spaces between.
fn interfaces(netns: &fs::File) -> String {
    let text = ip(netns, "-o link");
    let name = |it: &str| it.split(": ").nth(1).unwrap().split('@').next().unwrap().to_owned();
    let mut names: Vec<String> = text.lines().map(name).filter(|it| it != "lo").collect();
    names.sort();
    names.join(" ")
}

/// Engines that end with the test.
#[derive(Default)]
struct Engines(Vec<Child>);

impl Drop for Engines {
    fn drop(&mut self) {
        for it in &mut self.0 {
            let _ = it.kill();
            let _ = it.wait();
        }
    }
}

/// Starts engines at once that would serve one project in one `/run`; answers those that stay, and what the others say.
fn start_at_once(world: &mut World, count: usize) -> (Engines, Vec<String>) {
    world.end_engine();
    let run = world.folder.path().join("run");
    fs::create_dir_all(&run).unwrap();
    let mut holder = Command::new("unshare");
    let script = "mount --bind \"$1\" /run && echo ready && exec sleep 1000";
    holder.args(["-mn", "sh", "-c", script, "sh", run.to_str().unwrap()]).stdout(Stdio::piped());
    world.engine = holder.spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(world.engine.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    let file = |name: &str| world.folder.path().join(name).to_str().unwrap().to_owned();
    let (net, docker) = (file("net.yaml"), file("docker.sock"));
    let args = ["--network-file", &net, "--compose-project", "p", "--docker-socket", &docker];
    let start = |_| world.command(&args).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut engines = Engines((0..count).map(start).collect());
    let mut said = Vec::new();
    world.within("all but one have ended", |_| {
        while let Some(ended) = engines.0.iter().position(|it| is_over(it.id())) {
            let output = engines.0.remove(ended).wait_with_output().unwrap();
            said.push(String::from_utf8(output.stderr).unwrap());
        }
        engines.0.len() <= 1 && UnixStream::connect(world.socket()).is_ok()
    });
    (engines, said)
}

/// Has a child of ours ended, whether or not somebody has waited for it?
fn is_over(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|it| it.starts_with('Z'))
}

#[test]
fn only_one_of_several_engines_serves_a_project() {
    let Some(mut world) = World::new("engines at once", NETWORK) else { return };
    for _ in 0..5 {
        let (mut engines, said) = start_at_once(&mut world, 4);
        assert_eq!((engines.0.len(), said.len()), (1, 3));
        for it in said {
            assert!(it.ends_with("error: another conlink already serves project `p` here\n"), "{it}");
        }
        let engine = &mut engines.0[0];
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(engine.id() as i32), nix::sys::signal::SIGTERM)
            .unwrap();
        assert!(engine.wait().unwrap().success());
        let left = |folder: &str| fs::read_dir(world.folder.path().join(folder)).unwrap().count();
        assert_eq!((left("run/netns"), left("run/conlink/lock")), (0, 0));
    }
}

#[test]
fn a_signal_during_the_start_leaves_nothing() {
    let Some(mut world) = World::new("signal amid the start", NETWORK) else { return };
    let name = world.folder.path().join("run/netns/conlink-p");
    for round in 0..10 {
        world.spawn();
        let end = Instant::now() + PATIENCE;
        while !name.exists() {
            assert!(Instant::now() < end, "no namespace is made: {}", world.log());
        }
        let pid = nix::unistd::Pid::from_raw(world.engine.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
        let status = world.engine.wait().unwrap();
        assert!(status.success() && !name.exists(), "round {round}: {status}\n{}", world.log());
    }
}

#[test]
fn a_project_with_a_long_name_is_served() {
    let Some(world) = World::new("long name", NETWORK) else { return };
    for length in [120, 240] {
        let project = "p".repeat(length);
        let mut command =
            world.apart(&["--network-file", "net.yaml", "--compose-project", &project, "--once"]);
        command.args(["--docker-socket", "docker.sock", "--podman-socket", "none"]);
        let ended = run(command);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
    }
}

#[test]
fn an_engine_starts_despite_a_foreign_socket() {
    use std::os::linux::net::SocketAddrExt;
    let Some(mut world) = World::new("socket of somebody else", NETWORK) else { return };
    let go = world.folder.path().join("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir_all(world.folder.path().join("run")).unwrap();
    // Process 1 there is the shell: its namespace stands for the host's.
    let script = "mount --bind run /run && read _ <go && \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-mnpf", "--mount-proc", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_conlink")]);
    command.args(["--network-file", "net.yaml", "--compose-project", "p", "--netns", "host", "--once"]);
    command.args(["--docker-socket", "docker.sock", "--podman-socket", "none"]);
    command.current_dir(world.folder.path()).stderr(Stdio::piped());
    world.engine = command.spawn().unwrap();
    let theirs = format!("/proc/{}/ns/net", world.engine.id());
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    world.within("it has a namespace of its own", |_| fs::read_link(&theirs).is_ok_and(|it| it != own));
    let address = std::os::unix::net::SocketAddr::from_abstract_name("conlink:p").unwrap();
    let netns = fs::File::open(&theirs).unwrap();
    let _held = conlink::kernel::netns::inside(&netns, || UnixListener::bind_addr(&address)).unwrap();
    fs::write(&go, "\n").unwrap();
    let status = world.engine.wait().unwrap();
    let mut said = String::new();
    world.engine.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(status.success(), "{status}: {said}");
}

const NETWORK: &str = "links:\n- {service: h, bridge: lan, ip: 10.0.0.1/24}\n- {service: x, bridge: lan, ip: 10.8.0.2/24, route: 10.9.0.0/16 via 10.8.0.255}\n";

#[test]
fn an_engine_reports_its_status() {
    let Some(mut world) = World::new("an engine's status", NETWORK) else { return };
    world.start();
    let metadata = fs::symlink_metadata(world.socket()).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    world.within("it has listened", |it| it.status()["state"] == "connected");
    // No container runs: nothing is amiss.
    let health = world.conlink(&["healthcheck"]);
    assert_eq!((health.code, health.stdout.as_str()), (0, "engine `p`: connected, 0 nodes, 0 links\n"));
    world.run("p-h-1");
    world.run("p-h-2");
    world.within("two nodes are connected", |it| {
        let status = it.status();
        status["state"] == "connected" && status["nodes"].as_array().unwrap().len() == 2
    });
    let shown = world.conlink(&["status"]);
    let expected = "\
project p: connected, 2 nodes, 2 links
bridges: lan (linux, 2 ports)
NODE   LINK  JOINED TO  ADDRESSES    STATE
p-h-1  eth0  lan        10.0.0.1/24  up
p-h-2  eth0  lan        10.0.0.2/24  up
";
    assert_eq!(shown, Run { code: 0, stdout: expected.to_owned(), stderr: String::new() });
    assert_eq!(world.conlink(&["status", "p"]).stdout, expected);
    let json: Value = serde_json::from_str(&world.conlink(&["status", "--json"]).stdout).unwrap();
    assert_eq!(
        (&json["version"], &json["kind"], &json["project"]),
        (&json!(1), &json!("engine"), &json!("p"))
    );
    assert_eq!(json["nodes"][1]["links"][0]["outer"], "h_2-eth0");
    // One that cannot have what is described.
    world.run("p-x-1");
    world.within("the third fails", |it| it.status()["state"] == "failing");
    let shown = world.conlink(&["status"]);
    assert_eq!((shown.code, shown.stderr.as_str()), (1, ""));
    let lines: Vec<&str> = shown.stdout.lines().collect();
    assert_eq!(lines[0], "project p: failing, 3 nodes, 3 links, 1 failed", "{}", shown.stdout);
    assert_eq!(lines[7], "p-x-1  eth0  lan        10.8.0.2/24  failed", "{}", shown.stdout);
    let log = world.log();
    assert!(
        lines[1].starts_with("error: link p-x-1:eth0: ") && lines[1].ends_with("(net.yaml:3:53)"),
        "{}",
        lines[1]
    );
    assert!(log.lines().any(|it| it == lines[1]), "the log has it in the same words: {log}");
    let health = world.conlink(&["healthcheck", "p"]);
    assert_eq!((health.code, health.stdout.as_str()), (1, ""));
    assert!(health.stderr.starts_with("engine `p`: link p-x-1:eth0: ") && health.stderr.lines().count() == 1);
    world.kill("p-x-1");
    world.within("it is forgotten", |it| it.conlink(&["healthcheck"]).code == 0);
}

#[test]
fn a_watching_client_gets_each_change_and_nothing_else() {
    let Some(mut world) = World::new("watching an engine", NETWORK) else { return };
    world.start();
    world.within("it has listened", |it| it.status()["state"] == "connected");
    let mut stream = UnixStream::connect(world.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"{\"request\":\"watch\"}\n").unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let first = next();
    assert_eq!((&first["state"], &first["nodes"]), (&json!("connected"), &json!([])));
    // One that is on its way for longer than a moment is seen to be.
    world.docker.lock().unwrap().is_stuck = true;
    world.run("p-h-1");
    assert_eq!(next()["state"], "working");
    world.docker.lock().unwrap().is_stuck = false;
    let last = next();
    assert_eq!((&last["state"], &last["nodes"][0]["name"]), (&json!("connected"), &json!("p-h-1")));
    // What is not about this project ends where it began: between the two there may be a moment.
    world.run("q-h-1");
    world.run("p-h-2");
    let mut seen = Vec::new();
    while seen.last() != Some(&("connected".to_owned(), 2)) {
        let status = next();
        seen.push((status["state"].as_str().unwrap().to_owned(), status["nodes"].as_array().unwrap().len()));
        assert!(seen.len() < 6, "{seen:?}");
    }
    assert!(seen.iter().all(|(_, count)| *count <= 2), "{seen:?}");
    // The same by the command, which goes on until the engine ends.
    let mut command = world.command(&["status", "--watch", "--json"]);
    command.stderr(Stdio::null());
    let watch = Lines::of(command);
    let status: Value = serde_json::from_str(&watch.next()).unwrap();
    assert_eq!(status["nodes"].as_array().unwrap().len(), 2);
    world.kill("p-h-1");
    loop {
        let status: Value = serde_json::from_str(&watch.next()).unwrap();
        if status["state"] == "connected" && status["nodes"].as_array().unwrap().len() == 1 {
            break;
        }
    }
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(world.engine.id().cast_signed()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(watch.end(), 1);
    assert!(world.engine.wait().unwrap().success());
    assert!(!world.socket().exists(), "an engine that ends takes its socket with it");
}

#[test]
fn simultaneous_changes_are_one_line() {
    let Some(mut world) = World::new("a burst of changes", NETWORK) else { return };
    world.start();
    world.within("it has listened", |it| it.status()["state"] == "connected");
    let mut stream = UnixStream::connect(world.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"{\"request\":\"watch\"}\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    lines.next().unwrap().unwrap();
    let start = Instant::now();
    for index in 1..=20 {
        world.run(&format!("p-h-{index}"));
    }
    let mut count: u128 = 0;
    loop {
        let status: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        count += 1;
        if status["state"] == "connected" && status["nodes"].as_array().unwrap().len() == 20 {
            break;
        }
    }
    // One more for the first, whose line follows none.
    assert!(count <= start.elapsed().as_millis() / 50 + 2, "{count} lines in {:?}", start.elapsed());
}

#[test]
fn an_engine_that_was_killed_is_replaced_at_the_same_socket() {
    let Some(mut world) = World::new("a killed engine's socket", NETWORK) else { return };
    world.start();
    let first = fs::symlink_metadata(world.socket()).unwrap();
    world.run("p-h-1");
    world.within("it is wired", |it| it.status()["nodes"][0]["state"] == "connected");
    world.end_engine();
    assert!(world.socket().exists(), "nobody was left to remove it");
    let none = run(world.apart(&["status"]));
    let expected = "error: engine `p` is not running: nothing listens on /run/conlink/p.sock\n";
    assert_eq!(none, Run { code: 1, stdout: String::new(), stderr: expected.to_owned() });
    world.start();
    let second = fs::symlink_metadata(world.socket()).unwrap();
    assert_eq!(second.permissions().mode() & 0o7777, 0o600);
    assert!(std::os::unix::fs::MetadataExt::ino(&first) != std::os::unix::fs::MetadataExt::ino(&second));
    world.within("the second one has found what the first made", |it| it.conlink(&["healthcheck"]).code == 0);
}

#[test]
fn a_busy_socket_does_not_delay_wiring() {
    let Some(mut world) = World::new("a busy socket", NETWORK) else { return };
    world.start();
    // Silent ones, such as ask and do not read, such as send junk.
    let silent: Vec<UnixStream> = (0..100).map(|_| UnixStream::connect(world.socket()).unwrap()).collect();
    let deaf = (0..40).map(|_| {
        let mut stream = UnixStream::connect(world.socket()).unwrap();
        stream.write_all(b"{\"request\":\"watch\"}\n").unwrap();
        stream
    });
    let deaf: Vec<UnixStream> = deaf.collect();
    for (request, expected) in [
        ("junk\n", "{\"error\":\"the request is not JSON: expected value at line 1 column 1\"}\n"),
        (
            "{\"request\":\"frob\"}\n",
            "{\"error\":\"unknown request `frob`; expected `status`, `watch`, `diff`, `override`, or for labs `apply`, `down`, \
             `find`, `enter`\"}\n",
        ),
        ("{\"request\":\"down\"}\n", "{\"error\":\"this request is for labs; this is an engine\"}\n"),
    ] {
        assert_eq!(world.ask(request), expected);
    }
    world.run("p-h-1");
    world.within("it is wired", |it| it.status()["nodes"][0]["state"] == "connected");
    assert_eq!(world.conlink(&["healthcheck"]).code, 0);
    drop((silent, deaf));
}

#[test]
fn an_engine_works_without_its_socket() {
    let Some(mut world) = World::new("no place for a socket", NETWORK) else { return };
    let run = world.folder.path().join("run");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("conlink"), "not a folder").unwrap();
    world.run("p-h-1");
    world.spawn();
    world.within("it is connected", |it| it.log().contains("All links connected"));
    let said = world.log();
    let expected = "warning: no status socket, so `conlink status` does not work: /run/conlink/p.sock: ";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn an_unread_log_does_not_block_the_engine() {
    let Some(mut world) = World::new("unread log", NETWORK) else { return };
    let (_unread, log) = nix::unistd::pipe().unwrap();
    nix::fcntl::fcntl(&log, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let mut command = world.apart(&["--network-file", "net.yaml", "--compose-project", "p", "-vv"]);
    command.args(["--docker-socket", "docker.sock", "--podman-socket", "none"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    world.engine = command.spawn().unwrap();
    world.within("the engine answers", |it| UnixStream::connect(it.socket()).is_ok());
    for round in 0..20 {
        world.run(&format!("p-h-{}", round + 1));
    }
    world.within("it goes on", |it| it.status()["state"] == "connected");
}

#[test]
fn hanging_inspections_do_not_delay_others() {
    let Some(mut world) = World::new("hanging inspections", NETWORK) else { return };
    let hanging: Vec<String> = (1..=8).map(|it| format!("p-h-{it}")).collect();
    world.docker.lock().unwrap().stuck.extend(hanging.iter().map(|it| id(it)));
    world.start();
    hanging.iter().for_each(|it| world.run(it));
    world.run("p-h-9");
    world.within("the ninth is wired", |it| {
        let nodes = it.status()["nodes"].as_array().cloned().unwrap_or_default();
        nodes.iter().any(|it| it["name"] == "p-h-9" && it["state"] == "connected")
    });
    assert_ne!(world.status()["state"], "connected");
    world.docker.lock().unwrap().stuck.clear();
    world.within("all are wired", |it| it.status()["state"] == "connected");
}

#[test]
fn a_paused_container_keeps_its_link_when_the_engine_restarts() {
    let Some(mut world) = World::new("paused", NETWORK) else { return };
    world.start();
    world.run("p-h-1");
    world.within("it is wired", |it| it.status()["nodes"][0]["state"] == "connected");
    world.docker.lock().unwrap().is_paused = true;
    world.start();
    world.within("it is adopted", |it| it.status()["nodes"][0]["state"] == "connected");
    let links = world.status()["nodes"][0]["links"].clone();
    assert_eq!(links[0]["state"], "up", "{links}");
}
