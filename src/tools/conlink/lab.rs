//! `conlink lab`: the services of compose files as processes, with the network that the files describe.

mod ask;
mod dir;
mod down;
mod exec;
mod keeper;
mod logs;
mod ping;
mod up;

use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;

use crate::api::Request;
use crate::tools::conlink::client::{Client, Server};
use crate::tools::conlink::{Files, status};
use crate::tools::logger::{self, LogFormat, Verbosity};

use dir::LabDir;
pub(super) use up::project_here;

/// Command lines of `conlink lab`.
#[derive(Debug, Subcommand)]
pub(super) enum Lab {
    /// Start the services as processes and wire them; again, make the lab what the files say by now
    Up(UpArgs),
    /// Run a command in a node
    Exec(exec::ExecArgs),
    /// Tell nodes, links, addresses and errors
    Status(StatusArgs),
    /// Start a lab, run a command beside it, end the lab whatever happens
    Run(RunArgs),
    /// Show what nodes print
    Logs(logs::LogsArgs),
    /// Ping from node to node; without nodes, from each to every other
    Ping(ping::PingArgs),
    /// End a lab, and leave nothing behind
    Down(NameArgs),
    /// List the labs that there are
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// What a lab is made from.
#[derive(Debug, Args)]
pub(super) struct UpArgs {
    #[command(flatten)]
    files: Files,
    /// The lab's name [default: CONLINK_LAB, else that of the compose project: COMPOSE_PROJECT_NAME, `name` of the
    /// files, the name of their folder]
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// How many nodes a service has, whatever the files say
    #[arg(long, value_name = "SERVICE=N")]
    scale: Vec<String>,
    /// Services of this profile too
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,
    /// Give each node a root file system of its own over the host's: what it writes stays there, and goes with it
    #[arg(long)]
    private_root: bool,
    #[command(flatten)]
    verbosity: Verbosity,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    name: NameArgs,
    /// The same as with --name
    #[arg(value_name = "NAME", conflicts_with = "name")]
    lab: Option<String>,
    #[command(flatten)]
    form: status::Form,
}

/// Which lab.
#[derive(Clone, Debug, Args)]
pub(super) struct NameArgs {
    /// The lab's name [default: CONLINK_LAB, else that of the compose project here, else the only lab there is]
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    up: UpArgs,
    /// The command and its arguments; it finds the lab's name in CONLINK_LAB
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
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
        Lab::Status(args) => {
            let dir = NameArgs { name: args.name.name.or(args.lab) }.dir()?;
            status::tell(&args.form, &[dir.server()])
        }
        Lab::Run(args) => up::run(&args.up, &args.command),
        Lab::Logs(args) => logs::logs(&args),
        Lab::Ping(args) => ping::ping(&args),
        Lab::Down(args) => down::down(&args.dir()?),
        Lab::List { json } => down::list(json),
    }
}

impl NameArgs {
    /// The lab that is meant, of those that there are.
    fn dir(&self) -> anyhow::Result<LabDir> {
        if let Some(name) = self.name.clone().or_else(current) {
            return LabDir::find(&name);
        }
        let labs = LabDir::all();
        match labs.as_slice() {
            [] => bail!("there is no lab: `conlink lab up` starts one"),
            // Whatever project is here, there is no other.
            [one] => return Ok(one.clone()),
            _ => {}
        }
        let here = up::project_here();
        match here.and_then(|it| labs.iter().find(|lab| lab.name() == it)) {
            Some(dir) => Ok(dir.clone()),
            None => bail!(
                "there are several labs, say which by --name: {}",
                labs.iter().map(LabDir::name).collect::<Vec<_>>().join(", ")
            ),
        }
    }
}

/// The lab that the command runs beside which we are a part of.
fn current() -> Option<String> {
    std::env::var("CONLINK_LAB").ok().filter(|it| !it.is_empty())
}

/// Labs that have a socket.
pub(super) fn servers() -> Vec<Server> {
    let all = LabDir::all().into_iter().map(|it| it.server());
    all.filter(|it| std::fs::symlink_metadata(&it.socket).is_ok_and(|it| it.file_type().is_socket()))
        .collect()
}

/// What a lab's keeper answers to a request; without a limit it may take as long as it likes.
fn ask<T: DeserializeOwned>(dir: &LabDir, request: &Request, limit: Option<Duration>) -> anyhow::Result<T> {
    asked(dir, request)?.next(limit)?.with_context(|| format!("lab `{}` has ended", dir.name()))
}

fn asked(dir: &LabDir, request: &Request) -> anyhow::Result<Client> {
    if !dir.is_kept() {
        bail!("lab `{}` does not run: `conlink lab up` starts it", dir.name());
    }
    Client::ask(&dir.server(), request)
}

/// The folder that a relative path is relative to.
fn absolute(path: &std::path::Path) -> anyhow::Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}
