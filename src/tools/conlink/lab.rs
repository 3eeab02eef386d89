//! `conlink lab`: the services of compose files as processes, connected by the network that the files describe.

mod ask;
mod dir;
mod down;
mod exec;
mod grid;
mod keeper;
mod list;
mod logs;
mod ping;
mod progress;
mod up;

use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;

use crate::api::Request;
use crate::duration;
use crate::tools::conlink::client::{Client, Server};
use crate::tools::conlink::{Files, status};
use crate::tools::logger::{self, LogFormat, Verbosity};

use dir::LabDir;
pub(super) use up::project_here;

/// The subcommands of `conlink lab`.
#[derive(Debug, Subcommand)]
pub(super) enum Lab {
    /// Start a lab, or update a running one to match the files
    Up(UpArgs),
    /// Run a command in a node
    Exec(exec::ExecArgs),
    /// Show the status of a lab: errors, nodes, links and addresses
    Status(StatusArgs),
    /// Start a lab, run a command, and end the lab
    Run(RunArgs),
    /// Show the output of nodes
    Logs(logs::LogsArgs),
    /// Ping between nodes; by default from every node to every other node
    Ping(ping::PingArgs),
    /// End a lab and remove everything it made
    Down(DownArgs),
    /// List labs
    List(list::ListArgs),
}

/// The arguments of `lab up`, which `lab run` has too.
#[derive(Debug, Args)]
pub(super) struct UpArgs {
    #[command(flatten)]
    files: Files,
    /// Name of the lab [default: CONLINK_LAB, otherwise the compose project's name]
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// Set the number of replicas of a service
    #[arg(long, value_name = "SERVICE=N")]
    scale: Vec<String>,
    /// Enable the services of a compose profile
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,
    /// Give each node a root file system of its own, on top of the machine's; its changes are removed with the node
    #[arg(long)]
    private_root: bool,
    /// Give up if the lab is not up after this time, such as 30s or 5m; the lab keeps running
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_above_zero)]
    timeout: Option<Duration>,
    #[command(flatten)]
    verbosity: Verbosity,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Name of the lab, as with --name
    #[arg(value_name = "NAME", conflicts_with = "name")]
    lab: Option<String>,
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    form: status::Form,
}

#[derive(Debug, Args)]
pub(super) struct DownArgs {
    /// Name of the lab, as with --name
    #[arg(value_name = "NAME", conflicts_with = "name")]
    lab: Option<String>,
    #[command(flatten)]
    name: NameArgs,
    /// Print errors only
    #[arg(short, long)]
    quiet: bool,
}

/// The options that choose a lab.
#[derive(Clone, Debug, Args)]
pub(super) struct NameArgs {
    /// Name of the lab [default: CONLINK_LAB, otherwise the project of the compose files in this folder]
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// Compose file of the lab's project, for a lab without --name
    #[arg(short, long = "file", alias = "compose-file", value_name = "FILE", value_delimiter = ':')]
    file: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    up: UpArgs,
    /// Command to run and its arguments; CONLINK_LAB is set to the name of the lab
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Whether a command may use the only running lab when nothing names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnlyOne {
    Allowed,
    Refused,
}

pub(super) fn main(lab: Lab) -> anyhow::Result<u8> {
    let verbosity = match &lab {
        // The keeper's log is complete even if this command is quiet.
        Lab::Up(it) | Lab::Run(RunArgs { up: it, .. }) => Verbosity { quiet: false, ..it.verbosity },
        _ => Verbosity::DEFAULT,
    };
    logger::init(LogFormat::Text, verbosity);
    match lab {
        Lab::Up(args) => up::up(&args),
        Lab::Exec(args) => exec::exec(&args),
        Lab::Status(StatusArgs { name, lab, form }) => status::tell(&form, &[name.or(lab).dir()?.server()]),
        Lab::Run(args) => up::run(&args.up, &args.command),
        Lab::Logs(args) => logs::logs(&args),
        Lab::Ping(args) => ping::ping(&args),
        Lab::Down(DownArgs { name, lab, quiet }) => down::main(&name.or(lab).find(OnlyOne::Refused)?, quiet),
        Lab::List(args) => list::list(&args),
    }
}

impl NameArgs {
    /// With a name that was given as an argument.
    fn or(self, name: Option<String>) -> Self {
        Self { name: self.name.or(name), ..self }
    }

    /// The lab for a command that changes nothing if it is the wrong one.
    fn dir(&self) -> anyhow::Result<LabDir> {
        self.find(OnlyOne::Allowed)
    }

    /// The lab of that name or those files, otherwise of CONLINK_LAB, otherwise of the compose project in the working
    /// directory, otherwise, where that is allowed, the only running one.
    fn find(&self, only_one: OnlyOne) -> anyhow::Result<LabDir> {
        if let Some(name) = &self.name {
            return LabDir::find(name);
        }
        if !self.file.is_empty() {
            return LabDir::find(&up::project_of(&self.file)?);
        }
        if let Some(name) = current() {
            return LabDir::find(&name);
        }
        let labs = LabDir::all();
        let project = up::project_of(&[]).ok();
        if let Some(it) = project.as_ref().and_then(|it| labs.iter().find(|lab| lab.name() == *it)) {
            return Ok(it.clone());
        }
        if labs.is_empty() {
            bail!("no lab is running\nhint: `conlink lab up` starts one");
        }
        if let ([one], OnlyOne::Allowed) = (labs.as_slice(), only_one) {
            return Ok(one.clone());
        }
        let what = match &project {
            Some(it) => format!("lab `{it}` of the compose file in this folder is not running"),
            None => "no compose file in this folder names the lab".to_owned(),
        };
        let hint = match only_one {
            OnlyOne::Allowed => "choose a lab with `--name <NAME>`",
            OnlyOne::Refused => "`conlink lab down <NAME>` ends a lab of another folder",
        };
        bail!("{what}; running labs: {}\nhint: {hint}", names(&labs))
    }
}

/// `a, b (dead)`
fn names(labs: &[LabDir]) -> String {
    let name = |it: &LabDir| match it.is_kept() {
        true => it.name().to_owned(),
        false => format!("{} (dead)", it.name()),
    };
    labs.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// The lab whose `lab run` started this process.
fn current() -> Option<String> {
    std::env::var("CONLINK_LAB").ok().filter(|it| !it.is_empty())
}

/// The labs that have a socket.
pub(super) fn servers() -> Vec<Server> {
    let all = LabDir::all().into_iter().map(|it| it.server());
    all.filter(|it| std::fs::symlink_metadata(&it.socket).is_ok_and(|it| it.file_type().is_socket()))
        .collect()
}

/// Sends a request to the lab's keeper and returns the answer. Without a limit it waits forever.
fn ask<T: DeserializeOwned>(dir: &LabDir, request: &Request, limit: Option<Duration>) -> anyhow::Result<T> {
    asked(dir, request)?.next(limit)?.with_context(|| format!("lab `{}` has ended", dir.name()))
}

fn asked(dir: &LabDir, request: &Request) -> anyhow::Result<Client> {
    if !dir.is_kept() {
        bail!("lab `{}` is not running; `conlink lab up` starts it", dir.name());
    }
    Client::ask(&dir.server(), request)
}
