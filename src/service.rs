//! What the services of compose files are as programs to run where there is no container engine.
//!
//! Only what a process, its namespaces and its mounts can have is read; what an image or an engine would give is not
//! there. What a user would miss of it is a note.
//!
//! Architecture invariant: no I/O. The environment and what reads env files are arguments.

mod check;
mod engine;
mod environment;
mod hosts;
mod node;
mod project;
mod read;
mod signal;
mod split;
mod value;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::compose;
use crate::config::{Diagnostic, Env, FileId, Sources, tidy};

pub use hosts::{Address, hosts};
pub use node::{Node, NotFound, find, nodes};
pub use project::{Files, Project, is_project_name};
pub use read::MAX_REPLICAS;

/// A service that is to run: a command and what it finds around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Letters, digits, `.`, `_` and `-`: good for the name of a file.
    pub name: String,
    /// `scale`, else `deploy.replicas`, else 1. 0 is allowed.
    pub replicas: u32,
    /// Good for the name of a file. Only where there is one replica at most.
    pub container_name: Option<String>,
    /// `entrypoint` and `command`, as compose joins them. Empty where only an image could say what to run.
    pub argv: Vec<String>,
    /// Each name once. Env files in order, then `environment`.
    pub env: Vec<(String, String)>,
    pub working_dir: Option<String>,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    /// In the order of the files; a name may have several addresses.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// Those of `net.` alone, as `net.ipv4.ip_forward`.
    pub sysctls: Vec<(String, String)>,
    pub restart: Restart,
    /// Of services that run. Those that `network_mode`, `links` and the like imply are among them.
    pub depends_on: Vec<Dependency>,
    pub healthcheck: Option<Healthcheck>,
    /// The number of a signal of Linux, 1 to 64.
    pub stop_signal: i32,
    pub stop_grace: Duration,
    pub volumes: Vec<Mount>,
    pub tmpfs: Vec<Tmpfs>,
    /// `USER[:GROUP]`, names or numbers.
    pub user: Option<String>,
    /// `network_mode: service:NAME`: the name of another service that runs.
    pub shares_network_of: Option<String>,
    /// A process that reaps orphans is to be PID 1.
    pub init: bool,
    /// The service is conlink's own engine, which a lab has no need of.
    pub is_engine: bool,
    /// What the service asks for that it does not get, each with its place: `FILE:LINE:COL: …`.
    pub notes: Vec<String>,
    /// `FILE:LINE:COL` of the service.
    pub origin: String,
}

/// When a command that has ended is to be run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    No,
    /// `always` and `unless-stopped`.
    Always,
    /// With an exit code other than 0: so many times at most, where there is a limit.
    OnFailure(Option<u32>),
}

/// Another service that has to be there before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    pub service: String,
    pub condition: Condition,
    /// Without it the service does not start at all.
    pub required: bool,
}

/// What must be true of every replica of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Started,
    /// The service has a healthcheck, or is the engine.
    Healthy,
    CompletedSuccessfully,
}

/// How to find out whether a service does what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healthcheck {
    /// Never empty.
    pub argv: Vec<String>,
    /// Never zero, as are `timeout`, `retries` and `start_interval`.
    pub interval: Duration,
    pub timeout: Duration,
    /// So many failures in a row make it unhealthy.
    pub retries: u32,
    /// Failures within that time of the start do not count.
    pub start_period: Duration,
    /// The interval in that time.
    pub start_interval: Duration,
}

/// Something to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub source: Source,
    /// Absolute, without `.` and `..`.
    pub target: String,
    pub read_only: bool,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An absolute path of the host.
    Path {
        path: PathBuf,
        /// A folder is made where nothing is.
        create: bool,
    },
    /// A volume that services share by its name; good for the name of a file.
    Volume(String),
    /// A folder of this replica's own.
    Anonymous,
}

/// A file system in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Absolute, without `.` and `..`.
    pub target: String,
    /// As for `mount -o`, parted by commas: `size=64m,mode=1777`. May be empty.
    pub options: String,
}

/// What the files are read with.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// That of [`Project::locate`], with the project's name as COMPOSE_PROJECT_NAME.
    pub env: &'a Env,
    /// Absolute; what relative paths in the files are relative to.
    pub dir: &'a Path,
    /// Profiles that are asked for; where there are none, COMPOSE_PROFILES of `env` counts.
    pub profiles: &'a [String],
    /// Reads an env file.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("dir", &self.dir).field("profiles", &self.profiles).finish()
    }
}

/// The services of compose files that their profiles do not leave out, in the order in which the files first name them.
/// What is wrong comes with what could be read.
pub fn services(
    sources: &Sources,
    files: &[FileId],
    context: Context<'_>,
) -> (Vec<Service>, Vec<Diagnostic>) {
    let evaluated = compose::evaluate(sources, files, context.env);
    let mut diagnostics = evaluated.diagnostics;
    let mut found = Vec::new();
    let mut services = Vec::new();
    if let Some(whole) = &evaluated.node {
        let mut reader = value::Reader::new(sources, context, &mut found);
        let mut readings = reader.services(whole);
        let project = context.env.get("COMPOSE_PROJECT_NAME");
        check::check(&mut readings, project.map(String::as_str), &mut found);
        services.extend(readings.running.into_iter().map(|it| it.service));
    }
    // A string that could not be interpolated is nothing that a value could be read from.
    found.retain(|it| !evaluated.broken.iter().any(|string| it.span.is_some_and(|it| string.contains(it))));
    diagnostics.append(&mut found);
    tidy(&mut diagnostics);
    (services, diagnostics)
}

/// The services of a good file, for tests.
#[cfg(test)]
fn sample(text: &str) -> Vec<std::sync::Arc<Service>> {
    let mut sources = Sources::default();
    let file = sources.add("c.yaml", text);
    let context = Context {
        env: &Env::new(),
        dir: Path::new("/p"),
        profiles: &[],
        read: &|_| Err(io::ErrorKind::NotFound.into()),
    };
    let (services, diagnostics) = services(&sources, &[file], context);
    assert_eq!(diagnostics, [], "{text}");
    services.into_iter().map(std::sync::Arc::new).collect()
}

#[cfg(test)]
mod tests;
