//! The services of compose files as programs that run without a container engine.
//!
//! Only settings of a process, its namespaces and its mounts are read, not those of an image or an engine. A note reports
//! a setting that a user would miss.
//!
//! Architecture invariant: no I/O. The environment and the function that reads env files are arguments.

mod capability;
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

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::compose;
use crate::config::{Diagnostic, Env, FileId, PROJECT_NAME, Sources, tidy};

pub use hosts::{Address, hosts};
pub use node::{Node, NotFound, find, nodes};
pub use project::{Files, Project, is_project_name};
pub use read::MAX_REPLICAS;

/// The code of errors that depend on the machine, or that only a lab has: an image may have a healthcheck.
pub const LAB: &str = "lab";

/// A service: a command and its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Letters, digits, `.`, `_` and `-`; valid as a file name.
    pub name: String,
    /// `scale`, otherwise `deploy.replicas`, otherwise 1. 0 is allowed.
    pub replicas: u32,
    /// Valid as a file name. Only for services with at most one replica.
    pub container_name: Option<String>,
    /// `entrypoint` and `command`, joined as compose does. Empty if only an image could define the command.
    pub argv: Vec<String>,
    /// Each name once: env files in order, then `environment`.
    pub env: Vec<(String, String)>,
    pub working_dir: Option<String>,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    /// In the order of the files; a name may have several addresses.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// Only those of `net.`, such as `net.ipv4.ip_forward`.
    pub sysctls: Vec<(String, String)>,
    pub restart: Restart,
    /// Dependencies on enabled services, including those that `network_mode`, `links` and others imply.
    pub depends_on: Vec<Dependency>,
    pub healthcheck: Option<Healthcheck>,
    /// Signal number, 1 to 64.
    pub stop_signal: i32,
    pub stop_grace: Duration,
    pub volumes: Vec<Mount>,
    pub tmpfs: Vec<Tmpfs>,
    /// `USER[:GROUP]`, names or numbers.
    pub user: Option<String>,
    /// `network_mode: service:NAME`: the name of another enabled service.
    pub shares_network_of: Option<String>,
    /// PID 1 is a process that reaps orphans.
    pub init: bool,
    pub log: LogLimit,
    pub privileges: Privileges,
    /// The service is conlink's own engine, which a lab does not need.
    pub is_engine: bool,
    /// Settings that have no effect, each with its place: `FILE:LINE:COL: …`.
    pub notes: Vec<String>,
    /// `FILE:LINE:COL` of the service.
    pub origin: String,
}

/// The largest log of a node: a file and its predecessors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimit {
    /// Bytes of one file, above 0.
    pub size: u64,
    /// Number of files, above 0.
    pub files: u32,
}

impl Default for LogLimit {
    fn default() -> Self {
        Self { size: 1 << 20, files: 10 }
    }
}

/// What the kernel allows a service's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// A bit for each capability, by its number.
    pub capabilities: u64,
    /// System calls that containers may not use are refused (seccomp).
    pub filtered: bool,
}

impl Privileges {
    const ALL: Self = Self { capabilities: capability::ALL, filtered: false };
}

/// When an exited command is run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    No,
    /// `always` and `unless-stopped`.
    Always,
    /// After an exit code other than 0, at most this many times; None: no limit.
    OnFailure(Option<u32>),
}

/// A dependency on another service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    pub service: String,
    pub condition: Condition,
    /// The service does not start if the dependency fails.
    pub required: bool,
}

/// A condition that every replica of a service must meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Started,
    /// The service has a healthcheck, or is the engine.
    Healthy,
    CompletedSuccessfully,
}

impl fmt::Display for Condition {
    /// As in compose files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "service_started",
            Self::Healthy => "service_healthy",
            Self::CompletedSuccessfully => "service_completed_successfully",
        })
    }
}

/// A health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healthcheck {
    /// Never empty.
    pub argv: Vec<String>,
    /// Never zero; nor are `timeout`, `retries` and `start_interval`.
    pub interval: Duration,
    pub timeout: Duration,
    /// Consecutive failures until the node is unhealthy.
    pub retries: u32,
    /// Failures within this time after the start do not count.
    pub start_period: Duration,
    /// The interval during the start period.
    pub start_interval: Duration,
}

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub source: Source,
    /// Absolute, without `.` and `..`.
    pub target: String,
    pub read_only: bool,
}

/// The source of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An absolute path of the host.
    Path {
        path: PathBuf,
        /// Create a folder if nothing exists there.
        create: bool,
    },
    /// A named volume that services share; valid as a file name.
    Volume(String),
    /// A folder that belongs to this replica.
    Anonymous,
}

/// A tmpfs mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Absolute, without `.` and `..`.
    pub target: String,
    /// Comma-separated, as for `mount -o`: `size=64m,mode=1777`. May be empty.
    pub options: String,
}

/// Arguments for reading the files.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The environment of [`Project::locate`], with the project's name as COMPOSE_PROJECT_NAME.
    pub env: &'a Env,
    /// The absolute path that relative paths in the files start from.
    pub dir: &'a Path,
    /// Enabled profiles; if empty, COMPOSE_PROFILES of `env` applies.
    pub profiles: &'a [String],
    /// Reads an env file.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("dir", &self.dir).field("profiles", &self.profiles).finish()
    }
}

/// The enabled services of compose files, in the order in which they first appear, and all mistakes.
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
        let project = context.env.get(PROJECT_NAME);
        check::check(&mut readings, project.map(String::as_str), &mut found);
        services.extend(readings.running.into_iter().map(|it| it.service));
    }
    // A string that could not be interpolated has been reported already.
    found.retain(|it| !evaluated.broken.iter().any(|string| it.span.is_some_and(|it| string.contains(it))));
    diagnostics.append(&mut found);
    tidy(&mut diagnostics);
    (services, diagnostics)
}

/// The services of a valid file, for tests.
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
