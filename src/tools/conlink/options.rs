//! The options of the engine, and of every command that reads files.

use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};

use crate::config::ConfigMode;
use crate::tools::color::Color;
use crate::tools::logger::{self, LogFormat, Verbosity};

/// Options of the engine.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) files: Files,
    /// Serve the containers of this compose project only [default: the project of the engine's own container, else
    /// COMPOSE_PROJECT_NAME, else all projects]
    #[arg(short = 'n', long = "compose-project", visible_alias = "name", value_name = "NAME")]
    pub(super) compose_project: Option<String>,
    /// Docker socket, or `none` [default: DOCKER_HOST if it is a unix socket, else /var/run/docker.sock]
    #[arg(long, value_name = "PATH")]
    pub(super) docker_socket: Option<PathBuf>,
    /// Podman socket, or `none` [default: /var/run/podman/podman.sock, else /run/podman/podman.sock]
    #[arg(long, value_name = "PATH")]
    pub(super) podman_socket: Option<PathBuf>,
    /// Where bridges live when the engine runs on the host: in a network namespace of their own, or in the host's
    #[arg(long, value_enum, value_name = "WHERE", default_value_t = NetnsPlace::Own)]
    pub(super) netns: NetnsPlace,
    /// Ignored; accepted for compatibility
    #[arg(long, value_name = "FILE")]
    pub(super) config_schema: Option<PathBuf>,
    /// Print the resolved configuration as JSON and exit
    #[arg(long)]
    pub(super) show_config: bool,
    /// Connect the running containers and exit, with code 1 if anything failed; links stay
    #[arg(long)]
    pub(super) once: bool,
    /// Print the plan without applying it
    #[arg(long, conflicts_with = "once")]
    pub(super) dry_run: bool,
    /// Revert changes that others make to links, instead of only reporting them
    #[arg(long)]
    pub(super) repair: bool,
    /// Create links and tunnels without impairments, for kernels without sch_netem
    #[arg(long)]
    pub(super) without_netem: bool,
    /// Attach containers by the pipework commands in their labels and variables `pipework_cmd`, `pipework_cmd_2`, …
    #[arg(long, conflicts_with_all = ["once", "dry_run"])]
    pub(super) pipework_labels: bool,
    #[command(flatten)]
    pub(super) verbosity: Verbosity,
    /// List the tools in this binary and exit
    #[arg(long)]
    pub(super) list: bool,
    /// Format of log lines
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub(super) log_format: LogFormat,
}

/// The files that describe a network, and how they are read.
#[derive(Debug, Args)]
pub(in crate::tools) struct Files {
    /// Compose file with `x-network`; may be repeated
    #[arg(
        short = 'f',
        long = "file",
        visible_alias = "compose-file",
        value_name = "FILE",
        num_args = 1..,
        value_delimiter = ':'
    )]
    pub(super) compose_files: Vec<PathBuf>,
    /// Network configuration file (YAML or JSON); may be repeated
    #[arg(long = "network-file", value_name = "FILE", num_args = 1.., value_delimiter = ':')]
    pub(super) network_files: Vec<PathBuf>,
    /// Default bridge mode
    #[arg(long, value_enum, value_name = "MODE", default_value_t = ModeArg::Auto, env = "CONLINK_BRIDGE_MODE")]
    pub(super) default_bridge_mode: ModeArg,
    /// Default MTU of veth and dummy links
    #[arg(long, value_name = "MTU", default_value_t = 65535, value_parser = clap::value_parser!(u32).range(68..=65535))]
    pub(super) default_mtu: u32,
    /// Leave transmit checksum offload of veth links on
    #[arg(long)]
    pub(super) keep_veth_offload: bool,
    /// When to colour output; `auto` honours NO_COLOR
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub(in crate::tools) color: Color,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ModeArg {
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
pub(super) enum NetnsPlace {
    Own,
    Host,
}

/// The command line of an engine.
#[derive(Debug, Parser)]
#[command(name = "conlink")]
struct Engine {
    #[command(flatten)]
    options: Options,
}

/// The files and defaults that an engine reads if it is started with these words, the program first. None if these
/// words do not start an engine.
pub(super) fn files_of(argv: &[String]) -> Option<Files> {
    Engine::try_parse_from(argv).ok().map(|it| it.options.files)
}

/// Starts the log. VERBOSE counts as one `-v`, as in the reference tool.
pub(super) fn init_log(options: &Options) {
    let mut verbosity = options.verbosity;
    if !verbosity.quiet && std::env::var_os("VERBOSE").is_some_and(|it| !it.is_empty() && it != "0") {
        verbosity.verbose = verbosity.verbose.max(1);
    }
    logger::init(options.log_format, verbosity);
}
