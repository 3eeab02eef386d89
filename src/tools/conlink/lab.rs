//! `conlink lab`: the services of compose files as processes, connected by the network that the files describe.

mod args;
pub(super) mod ask;
pub(super) mod dir;
mod down;
mod exec;
mod grid;
mod keeper;
mod list;
mod logs;
mod ping;
mod progress;
mod up;
mod which;

use clap::{Args, Subcommand};

use crate::tools::conlink::status;
use crate::tools::logger::{self, LogFormat, Verbosity};

use args::UpArgs;
use which::{NameArgs, OnlyOne};

pub(super) use exec::node_process;

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

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    up: UpArgs,
    /// Command to run and its arguments; CONLINK_LAB is set to the name of the lab
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
        Lab::Status(StatusArgs { name, lab, form }) => status::tell(&form, &[name.or(lab).dir()?.server()]),
        Lab::Run(args) => up::run(&args.up, &args.command),
        Lab::Logs(args) => logs::logs(&args),
        Lab::Ping(args) => ping::ping(&args),
        Lab::Down(DownArgs { name, lab, quiet }) => down::main(&name.or(lab).find(OnlyOne::Refused)?, quiet),
        Lab::List(args) => list::list(&args),
    }
}
