//! `conlink`: the link engine, and what looks at its configuration.

mod check;
mod client;
mod diff;
mod engine;
mod files;
mod healthcheck;
mod lab;
mod link;
mod lock;
mod status;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::api::Status;
use crate::config::{ConfigMode, schema};
use crate::tools::logger::{self, LogFormat};
use crate::{out, print_clap};

pub(super) use check::report;
pub(super) use files::{Described, describe};

/// The first arguments that make us this tool; others name tools of their own.
pub(crate) const SUBCOMMANDS: [&str; 10] =
    ["check", "lab", "link", "status", "diff", "healthcheck", "schema", "completions", "man", "help"];

/// Wires containers as their compose file describes.
#[derive(Debug, Parser)]
#[command(name = "conlink", version, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Sub>,
}

const AFTER_HELP: &str = "Other tools of the same binary: `conlink --list`. \
    `conlink install DIR` puts them into a folder.";

/// Options of the engine.
#[derive(Debug, Args)]
struct Options {
    #[command(flatten)]
    files: Files,
    /// Serve the containers of this compose project [default: that of the engine's own container,
    /// else COMPOSE_PROJECT_NAME, else all]
    #[arg(long, value_name = "NAME")]
    compose_project: Option<String>,
    /// Socket of the Docker engine [default: DOCKER_HOST if it is a unix socket, else /var/run/docker.sock]
    #[arg(long, value_name = "PATH")]
    docker_socket: Option<PathBuf>,
    /// Socket of Podman [default: the first that is there of /var/run/podman/podman.sock and
    /// /run/podman/podman.sock]
    #[arg(long, value_name = "PATH")]
    podman_socket: Option<PathBuf>,
    /// Where bridges live when the engine runs on the host itself
    #[arg(long, value_enum, default_value_t = NetnsPlace::Own)]
    netns: NetnsPlace,
    /// Accepted for compatibility and ignored
    #[arg(long, value_name = "FILE")]
    config_schema: Option<PathBuf>,
    /// Print the resolved configuration as JSON and exit
    #[arg(long)]
    show_config: bool,
    /// Wire what runs now, report and exit (0 converged, 1 not); the links stay
    #[arg(long)]
    once: bool,
    /// Print what would be done and exit
    #[arg(long, conflicts_with = "once")]
    dry_run: bool,
    /// Repair what others change of links; by default such changes are only reported
    #[arg(long)]
    repair: bool,
    /// Wire links and tunnels without their impairments, for kernels without sch_netem
    #[arg(long)]
    without_netem: bool,
    /// Say more: each step, and with two of them what libraries say
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// What describes the network. Each option may be given several times, and take a list with colons.
#[derive(Debug, Args)]
pub(super) struct Files {
    /// YAML or JSON files that are network configuration as a whole
    #[arg(long = "network-file", value_name = "FILE", value_delimiter = ':')]
    network_files: Vec<PathBuf>,
    /// Compose files with `x-network`
    #[arg(long = "compose-file", value_name = "FILE", value_delimiter = ':')]
    compose_files: Vec<PathBuf>,
    /// Mode of bridges that name none
    #[arg(long, value_enum, default_value_t = ModeArg::Auto, env = "CONLINK_BRIDGE_MODE")]
    default_bridge_mode: ModeArg,
    /// MTU of veth and dummy links that name none
    #[arg(long, value_name = "N", default_value_t = 65535, value_parser = clap::value_parser!(u32).range(68..=65535))]
    default_mtu: u32,
    /// Leave the transmit checksum offload of veth links on
    #[arg(long)]
    keep_veth_offload: bool,
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
    /// In a namespace of their own, named after the project
    Own,
    /// In the host's namespace
    Host,
}

/// What a JSON Schema describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SchemaOf {
    /// Network files, or compose files with --compose
    Config,
    /// Output of `conlink status --json`
    Status,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Validate configuration files and tell all that is wrong with them
    Check(check::CheckArgs),
    /// Tell how far an engine or a lab that runs has come: bridges, links, addresses, and what is wrong
    Status(status::StatusArgs),
    /// Tell whether an engine or a lab that runs is all connected (0), or why not (1)
    Healthcheck {
        /// The compose project, or the lab [default: COMPOSE_PROJECT_NAME, else the one that runs]
        name: Option<String>,
    },
    /// Print what in the kernel differs from the configuration; exit with 1 if anything does
    Diff(diff::DiffArgs),
    /// Pull and plug cables of a running network
    #[command(subcommand)]
    Link(link::Link),
    /// Run a compose file's services as processes with the network that it describes, without a container engine
    #[command(subcommand)]
    Lab(lab::Lab),
    /// Print the JSON Schema of the configuration (for editors) or of `status --json`
    Schema {
        /// Which schema
        #[arg(value_enum, default_value_t = SchemaOf::Config)]
        of: SchemaOf,
        /// The schema of compose files with `x-network`, not of network files
        #[arg(long)]
        compose: bool,
    },
    /// Print the completion script of a shell
    Completions { shell: clap_complete::Shell },
    /// Print the manual page
    Man,
}

pub(crate) fn main(args: Vec<OsString>) -> anyhow::Result<u8> {
    let cli = match Cli::try_parse_from(args) {
        Ok(it) => it,
        Err(error) => {
            return print_clap(&error);
        }
    };
    match cli.command {
        None => engine::main(cli.options),
        Some(Sub::Check(args)) => check::main(&args),
        Some(Sub::Lab(args)) => lab::main(args),
        Some(Sub::Link(args)) => link::main(args),
        Some(Sub::Status(args)) => status::main(&args),
        Some(Sub::Diff(args)) => diff::main(&args),
        Some(Sub::Healthcheck { name }) => healthcheck::main(name.as_deref()),
        Some(Sub::Schema { of, compose }) => {
            let schema = match of {
                SchemaOf::Config => schema(compose),
                SchemaOf::Status if compose => {
                    anyhow::bail!("--compose applies to the configuration schema only");
                }
                SchemaOf::Status => schemars::schema_for!(Status).to_value(),
            };
            out(&format!("{}\n", serde_json::to_string_pretty(&schema)?)).map(|()| 0)
        }
        Some(Sub::Completions { shell }) => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "conlink", &mut text);
            out(&String::from_utf8_lossy(&text)).map(|()| 0)
        }
        Some(Sub::Man) => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut text)?;
            out(&String::from_utf8_lossy(&text)).map(|()| 0)
        }
    }
}

/// The files and defaults of an engine that is started with these words, the program first. None where they would not
/// start one.
fn files_of(argv: &[String]) -> Option<Files> {
    Cli::try_parse_from(argv).ok().filter(|it| it.command.is_none()).map(|it| it.options.files)
}

/// Sets up logging: `-v` counts, and VERBOSE stands for one of them, as in the reference tool.
fn init_log(options: &Options) {
    let from_env = std::env::var_os("VERBOSE").is_some_and(|it| !it.is_empty() && it != "0");
    logger::init(options.log_format, options.verbose.max(u8::from(from_env)));
}
