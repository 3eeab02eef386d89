//! Tests of `conlink lab` with real nodes. Each lab has a world of its own, which must be unchanged at the end.

mod drift;
mod examples;
mod isolation;
mod killed;
mod left;
mod life;
mod logs;
mod ovs;
mod ping;
mod privileges;
mod pulled;
mod root;
mod rootless;
mod run;
mod service;
mod told;
mod up;
mod waiting;
mod which;
pub(crate) mod world;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Run, finish};

use world::{LIMIT, Machine, World, without_progress};

/// A lab, running or not. When it is dropped, the lab ends, and the world must be as before.
pub(crate) struct Lab {
    world: World,
    before: Machine,
    name: String,
}

/// A node that ignores SIGTERM, and a bridge in the host's network namespace.
const STUBBORN: &str = r#"
services:
  slow:
    command: [sh, -c, "trap : TERM; echo ready; while :; do sleep 0.02; done"]
    stop_grace_period: 10m
    x-network: {links: [{base: host, bridge: made, ip: 10.0.0.1/24}]}
"#;

impl Lab {
    /// A project with this compose file. None, with a report, if this machine cannot run labs.
    fn new(what: &str, compose: &str) -> Option<Self> {
        let lab = Self::empty(what)?;
        lab.write("compose.yaml", compose);
        Some(lab)
    }

    /// A folder without files.
    fn empty(what: &str) -> Option<Self> {
        let world = World::new(what)?;
        let before = world.machine();
        Some(Self { world, before, name: "test".to_owned() })
    }

    /// A running lab.
    fn up_with(what: &str, compose: &str) -> Option<Self> {
        let lab = Self::new(what, compose)?;
        lab.up(&[]);
        Some(lab)
    }

    fn write(&self, name: &str, text: &str) {
        self.world.write(name, text);
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.world.path(name)).unwrap_or_default()
    }

    /// `conlink lab SUBCOMMAND -n NAME ARGS`
    fn command(&self, subcommand: &str, args: &[&str]) -> Command {
        let mut all = vec!["lab", subcommand, "-n", &self.name];
        all.extend(args);
        self.world.conlink(&all)
    }

    fn run(&self, subcommand: &str, args: &[&str]) -> Run {
        self.world.run(self.command(subcommand, args))
    }

    /// Runs a subcommand that must succeed. Returns its standard output.
    #[track_caller]
    fn done(&self, subcommand: &str, args: &[&str]) -> String {
        let run = self.run(subcommand, args);
        assert_eq!(run.code, 0, "lab {subcommand} {args:?}: {run:?}\n{}", self.keepers_log());
        run.stdout
    }

    #[track_caller]
    fn up(&self, args: &[&str]) -> Run {
        let run = self.run("up", args);
        assert_eq!(run.code, 0, "lab up {args:?}: {run:?}\n{}", self.keepers_log());
        run
    }

    /// The output of a command in a node, which must succeed.
    #[track_caller]
    fn exec(&self, node: &str, args: &[&str]) -> String {
        self.done("exec", &[&[node, "--"], args].concat())
    }

    /// The output of a shell command in a node, which must succeed.
    #[track_caller]
    fn sh(&self, node: &str, line: &str) -> String {
        self.exec(node, &["sh", "-c", line])
    }

    fn start(&self, subcommand: &str, args: &[&str]) -> Child {
        self.world.start(self.command(subcommand, args))
    }

    fn status(&self) -> Value {
        let run = self.run("status", &["--json"]);
        serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run:?}"))
    }

    /// The status of a node's process.
    fn process(&self, node: &str) -> Value {
        process(&self.status(), node)
    }

    fn pid(&self, node: &str) -> u64 {
        self.process(node)["pid"].as_u64().unwrap()
    }

    fn log(&self, node: &str) -> String {
        self.done("logs", &[node])
    }

    /// Waits until a condition holds for the status.
    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + LIMIT;
        loop {
            let status = self.status();
            if holds(&status) {
                return status;
            }
            assert!(Instant::now() < end, "never {what}: {status:#}\n{}", self.keepers_log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until a node's process is in that state.
    #[track_caller]
    fn until_node(&self, node: &str, state: &str) -> Value {
        process(&self.until(&format!("{node} {state}"), |it| process(it, node)["state"] == state), node)
    }

    /// Waits until a node has printed this line.
    #[track_caller]
    fn until_said(&self, node: &str, line: &str) {
        let end = Instant::now() + LIMIT;
        loop {
            let log = self.log(node);
            if log.lines().any(|it| it == line) {
                return;
            }
            assert!(Instant::now() < end, "{node} never says `{line}`: {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn folder(&self) -> std::path::PathBuf {
        match self.world.env.get("XDG_RUNTIME_DIR") {
            Some(it) => std::path::Path::new(it).join("conlink/lab").join(&self.name),
            None => self.world.outside("/run/conlink/lab").join(&self.name),
        }
    }

    fn keepers_log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    /// The process ID of its keeper, which holds the lock; None if the keeper is dead.
    fn keeper(&self) -> Option<u64> {
        let lock = self.folder().join("lock");
        let ours = fs::metadata(lock).ok()?.ino();
        let locks = self.world.sh("cat /proc/locks");
        let held = locks.lines().find(|it| it.contains("POSIX") && it.contains(&format!(":{ours} ")))?;
        held.split_whitespace().nth(4)?.parse().ok()
    }

    /// Waits until the keeper is dead.
    #[track_caller]
    fn until_dead(&self) {
        let end = Instant::now() + LIMIT;
        while self.keeper().is_some() {
            assert!(Instant::now() < end, "the keeper lives");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn signal(&self, signal: &str, pid: u64) {
        self.world.sh(&format!("kill -{signal} {pid}"));
    }

    /// Ends the lab. The world must be as before.
    #[track_caller]
    fn down(&self) {
        if self.folder().exists() {
            self.done("down", &[]);
        }
        self.world.expect(&self.before);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // After a failure, the end of the world ends the lab.
        if !std::thread::panicking() {
            self.down();
        }
    }
}

/// The process of a node in a status; null if there is no such node.
fn process(status: &Value, node: &str) -> Value {
    let nodes = status["nodes"].as_array().unwrap();
    let found = nodes.iter().map(|it| &it["process"]).find(|it| it["name"] == node);
    found.cloned().unwrap_or_default()
}

/// Waits for the end of a program in a world.
fn end(mut child: Child, what: &str) -> Run {
    drop(child.stdin.take());
    without_progress(finish(child, what, LIMIT))
}
