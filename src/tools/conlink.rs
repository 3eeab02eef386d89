//! `conlink`: the engine and the subcommands of its own.

mod check;
mod client;
mod diff;
mod engine;
mod files;
mod healthcheck;
mod lab;
mod link;
mod lock;
mod names;
mod status;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::api::Status;
use crate::config::{ConfigMode, schema};
use crate::tools::color::Color;
use crate::tools::front;
use crate::tools::install;
use crate::tools::logger::{self, LogFormat, Verbosity};
use crate::{Usage, out};

pub(super) use check::{report, role};
pub(super) use files::{Described, locate};

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

/// Options of the engine.
#[derive(Debug, Args)]
struct Options {
    #[command(flatten)]
    files: Files,
    /// Serve the containers of this compose project only [default: the project of the engine's own container, else
    /// COMPOSE_PROJECT_NAME, else all projects]
    #[arg(short = 'n', long = "compose-project", visible_alias = "name", value_name = "NAME")]
    compose_project: Option<String>,
    /// Docker socket, or `none` [default: DOCKER_HOST if it is a unix socket, else /var/run/docker.sock]
    #[arg(long, value_name = "PATH")]
    docker_socket: Option<PathBuf>,
    /// Podman socket, or `none` [default: /var/run/podman/podman.sock, else /run/podman/podman.sock]
    #[arg(long, value_name = "PATH")]
    podman_socket: Option<PathBuf>,
    /// Where bridges live when the engine runs on the host: in a network namespace of their own, or in the host's
    #[arg(long, value_enum, value_name = "WHERE", default_value_t = NetnsPlace::Own)]
    netns: NetnsPlace,
    /// Ignored; accepted for compatibility
    #[arg(long, value_name = "FILE")]
    config_schema: Option<PathBuf>,
    /// Print the resolved configuration as JSON and exit
    #[arg(long)]
    show_config: bool,
    /// Connect the running containers and exit, with code 1 if anything failed; links stay
    #[arg(long)]
    once: bool,
    /// Print the plan without applying it
    #[arg(long, conflicts_with = "once")]
    dry_run: bool,
    /// Revert changes that others make to links, instead of only reporting them
    #[arg(long)]
    repair: bool,
    /// Create links and tunnels without impairments, for kernels without sch_netem
    #[arg(long)]
    without_netem: bool,
    #[command(flatten)]
    verbosity: Verbosity,
    /// List the tools in this binary and exit
    #[arg(long)]
    list: bool,
    /// Format of log lines
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// The files that describe a network, and how they are read.
#[derive(Debug, Args)]
pub(super) struct Files {
    /// Compose file with `x-network`; may be repeated
    #[arg(
        short = 'f',
        long = "file",
        visible_alias = "compose-file",
        value_name = "FILE",
        num_args = 1..,
        value_delimiter = ':'
    )]
    compose_files: Vec<PathBuf>,
    /// Network configuration file (YAML or JSON); may be repeated
    #[arg(long = "network-file", value_name = "FILE", num_args = 1.., value_delimiter = ':')]
    network_files: Vec<PathBuf>,
    /// Default bridge mode
    #[arg(long, value_enum, value_name = "MODE", default_value_t = ModeArg::Auto, env = "CONLINK_BRIDGE_MODE")]
    default_bridge_mode: ModeArg,
    /// Default MTU of veth and dummy links
    #[arg(long, value_name = "MTU", default_value_t = 65535, value_parser = clap::value_parser!(u32).range(68..=65535))]
    default_mtu: u32,
    /// Leave transmit checksum offload of veth links on
    #[arg(long)]
    keep_veth_offload: bool,
    /// When to colour output; `auto` honours NO_COLOR
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub(in crate::tools) color: Color,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArg {
    Auto,
    Ovs,
    Linux,
    Patch,
}

impl From<ModeArg> for ConfigMode {
    fn from(it: ModeArg) -> Self {
        match it {
            ModeArg::Auto => Self::Auto,
            ModeArg::Ovs => Self::Ovs,
            ModeArg::Linux => Self::Linux,
            ModeArg::Patch => Self::Patch,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NetnsPlace {
    Own,
    Host,
}

/// What a JSON Schema describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SchemaOf {
    Config,
    Status,
}

#[derive(Debug, Subcommand)]
enum Sub {
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

/// The files and defaults that an engine reads if it is started with these words, the program first. None if these
/// words do not start an engine.
fn files_of(argv: &[String]) -> Option<Files> {
    Cli::try_parse_from(argv).ok().filter(|it| it.command.is_none()).map(|it| it.options.files)
}

/// Starts the log. VERBOSE counts as one `-v`, as in the reference tool.
fn init_log(options: &Options) {
    let mut verbosity = options.verbosity;
    if !verbosity.quiet && std::env::var_os("VERBOSE").is_some_and(|it| !it.is_empty() && it != "0") {
        verbosity.verbose = verbosity.verbose.max(1);
    }
    logger::init(options.log_format, verbosity);
}
