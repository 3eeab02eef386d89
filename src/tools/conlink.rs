//! `conlink`: the engine and the subcommands of its own.

pub(super) mod attach;
mod check;
mod client;
mod diff;
mod engine;
mod files;
pub(super) mod guest;
mod healthcheck;
mod lab;
mod link;
mod lock;
mod names;
mod options;
mod socket;
mod status;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::api::Status;
use crate::config::schema;
use crate::tools::front;
use crate::tools::install;
use crate::{Usage, out};

pub(super) use check::report;
pub(super) use files::{Described, by_content, locate};
pub(super) use options::Files;

use options::Options;

/// Real networks for containers, from a compose file
#[derive(Debug, Parser)]
#[command(
    name = "conlink",
    version,
    args_conflicts_with_subcommands = true,
    override_usage = "conlink [OPTIONS]\n       conlink <COMMAND> [ARGS]"
)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Sub>,
}

/// What a JSON Schema describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SchemaOf {
    Config,
    Status,
}

#[derive(Debug, Subcommand)]
enum Sub {
    Attach(Box<attach::AttachArgs>),
    Detach(attach::DetachArgs),
    Attachments(attach::AttachmentsArgs),
    Check(check::CheckArgs),
    Status(status::StatusArgs),
    Healthcheck(healthcheck::HealthcheckArgs),
    Diff(diff::DiffArgs),
    /// Pull and plug cables of a running network
    #[command(subcommand)]
    Link(link::Link),
    /// Run the services of a compose file as processes, without a container engine
    #[command(subcommand)]
    Lab(lab::Lab),
    /// Print the JSON Schema of configuration files or of `status --json`
    Schema {
        /// Describe configuration files, or the output of `status --json`
        #[arg(value_enum, value_name = "WHAT", default_value_t = SchemaOf::Config)]
        of: SchemaOf,
        /// Describe compose files with `x-network` instead of network files
        #[arg(long)]
        compose: bool,
    },
    Install(install::InstallArgs),
    /// Print a shell completion script
    Completions {
        /// Shell
        shell: clap_complete::Shell,
        /// Tool to complete when it is started by its own name, such as `mdc`
        #[arg(value_name = "TOOL", default_value = "conlink")]
        tool: String,
    },
    /// Print the names of running labs, engines, nodes or links that fit the last word of a command line
    #[command(hide = true)]
    Complete {
        /// Words of the command line after the program; the last is incomplete
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORD")]
        words: Vec<String>,
    },
    /// Print a manual page, or write all of them to a directory
    Man {
        /// Command, such as `lab up` [default: conlink itself]
        #[arg(value_name = "COMMAND", conflicts_with = "output_dir")]
        command: Vec<String>,
        /// Write the pages of all commands to this directory
        #[arg(short, long, value_name = "DIR")]
        output_dir: Option<PathBuf>,
    },
}

/// The command line of the engine and its subcommands, without the other tools.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

pub(crate) fn main(args: Vec<OsString>) -> anyhow::Result<u8> {
    let args = front::without_help_of_help(args);
    let parsed = front::command().try_get_matches_from(&args);
    let cli = match parsed.and_then(|it| Cli::from_arg_matches(&it)) {
        Ok(it) => it,
        Err(error) => {
            return front::print_clap_of_conlink(error, &args);
        }
    };
    match cli.command {
        None if cli.options.list => out(&front::list()).map(|()| 0),
        None => engine::main(cli.options),
        Some(Sub::Attach(args)) => attach::main(&args),
        Some(Sub::Detach(args)) => attach::detach(&args),
        Some(Sub::Attachments(args)) => attach::list(&args),
        Some(Sub::Check(args)) => check::main(&args),
        Some(Sub::Lab(args)) => lab::main(args),
        Some(Sub::Link(args)) => link::main(args),
        Some(Sub::Status(args)) => status::main(&args),
        Some(Sub::Diff(args)) => diff::main(&args),
        Some(Sub::Healthcheck(args)) => healthcheck::main(&args),
        Some(Sub::Schema { of, compose }) => {
            let schema = match of {
                SchemaOf::Config => schema(compose),
                SchemaOf::Status if compose => {
                    let why = "--compose applies to the configuration schema only";
                    return Err(Usage(why.to_owned()).into());
                }
                SchemaOf::Status => schemars::schema_for!(Status).to_value(),
            };
            out(&format!("{}\n", serde_json::to_string_pretty(&schema)?)).map(|()| 0)
        }
        Some(Sub::Install(args)) => install::main(&args),
        Some(Sub::Completions { shell, tool }) => out(&front::completions(shell, &tool)?).map(|()| 0),
        Some(Sub::Complete { words }) => {
            let names = names::fitting(&Cli::command(), &words);
            out(&names.iter().map(|it| format!("{it}\n")).collect::<String>()).map(|()| 0)
        }
        Some(Sub::Man { output_dir: Some(dir), .. }) => front::manuals(&dir).map(|()| 0),
        Some(Sub::Man { command, output_dir: None }) => out(&front::manual(&command)?).map(|()| 0),
    }
}
