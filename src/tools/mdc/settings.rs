//! The command line and the environment of mdc.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};

use crate::duration;
use crate::tools::resolve_deps::Format;
use crate::{Usage, err};

/// Assemble a compose project from modes, then run docker compose
#[derive(Debug, Parser)]
#[command(
    name = "mdc",
    version,
    override_usage = "mdc [OPTIONS] MODES [COMPOSE-ARGS]...\n       mdc --list | --graph [MODES]",
    after_help = AFTER_HELP
)]
pub(super) struct Cli {
    /// Directories of modes, separated by colons or commas [env: MODES_DIR] [default: ./modes]
    #[arg(long, value_name = "DIR")]
    pub(super) modes_dir: Option<String>,
    /// Env file to write [env: ENV_FILE] [default: .env]
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Option<String>,
    /// Directory for the files of the modes [env: MDC_FILES_DIR] [default: ./.files]
    #[arg(long, value_name = "DIR")]
    pub(super) files_dir: Option<String>,
    /// Compose command [env: DOCKER_COMPOSE] [default: docker compose, else docker-compose]
    #[arg(long, value_name = "COMMAND")]
    pub(super) docker_compose: Option<String>,
    /// Change to this directory first
    #[arg(short = 'C', long, value_name = "DIR")]
    pub(super) directory: Option<PathBuf>,
    /// Print the names of all modes, or of the modes that MODES resolves to, in order
    #[arg(long, group = "what", help_heading = LOOK)]
    pub(super) list: bool,
    /// Print what would be done without doing it
    #[arg(short = 'n', long, group = "what", help_heading = LOOK)]
    pub(super) dry_run: bool,
    /// Print the merged compose file
    #[arg(long, group = "what", help_heading = LOOK)]
    pub(super) config: bool,
    /// Print every place that sets a value such as `services.r0.image`, the effective one last
    #[arg(long, value_name = "PATH", group = "what", help_heading = LOOK)]
    pub(super) explain: Option<String>,
    /// Print the final value of each variable and where it is set
    #[arg(long, group = "what", help_heading = LOOK)]
    pub(super) env: bool,
    /// Print the dependency graph as DOT, with the chosen modes filled
    #[arg(long, group = "what", help_heading = LOOK)]
    pub(super) graph: bool,
    /// Print why a mode is chosen
    #[arg(long, value_name = "MODE", group = "what", help_heading = LOOK)]
    pub(super) why: Option<String>,
    /// Output format: `lines`, `nodes`, `paths` or `json` with --list; `yaml` or `json` with --config; `text` or `json`
    /// with --env
    #[arg(long, value_name = "FORMAT", help_heading = LOOK)]
    pub(super) format: Option<String>,
    /// Same as `--format json`
    #[arg(long, conflicts_with = "format", help_heading = LOOK)]
    pub(super) json: bool,
    /// Replace variables in the output of --config
    #[arg(long, requires = "config", help_heading = LOOK)]
    pub(super) interpolate: bool,
    /// Take over a directory of files that mdc did not create
    #[arg(long)]
    pub(super) force: bool,
    /// Skip unknown modes with a warning
    #[arg(long)]
    pub(super) allow_missing: bool,
    /// Give up resolving dependencies after this time
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub(super) time_limit: Duration,
    /// Print each change and the compose command [env: VERBOSE]
    #[arg(short, long, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// Print warnings and errors only
    #[arg(short, long, conflicts_with = "verbose")]
    pub(super) quiet: bool,
    /// Modes, separated by commas or spaces; `a|b` for one of several
    pub(super) modes: Option<String>,
}

/// Options that print something and change nothing.
const LOOK: &str = "Inspection";

const AFTER_HELP: &str = "\
Everything after MODES is passed to compose. Without it, mdc only writes the files.

Further environment variables:
  MDC_NO_CMDLINE=1  Leave the command line out of the env file
  MDC_COMPAT=1      Write the env file byte for byte as conlink 2.6
  MDC_STRICT=1      Treat warnings as errors";

/// Errors with their places, one line each.
pub(super) type Wrong = Vec<String>;

/// The settings: options, else environment variables, else defaults.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) modes_dir: String,
    pub(super) env_file: String,
    pub(super) files_dir: String,
    pub(super) dry_run: bool,
    pub(super) force: bool,
    pub(super) allow_missing: bool,
    pub(super) strict: bool,
    pub(super) verbose: bool,
    pub(super) quiet: bool,
    pub(super) as_reference: bool,
    pub(super) time_limit: Duration,
}

/// Why a run failed.
pub(super) enum Failed {
    Wrong(Wrong),
    /// Anything else, such as a closed standard output.
    Output(anyhow::Error),
}

impl From<Wrong> for Failed {
    fn from(it: Wrong) -> Self {
        Self::Wrong(it)
    }
}

impl From<anyhow::Error> for Failed {
    fn from(it: anyhow::Error) -> Self {
        Self::Output(it)
    }
}

impl Settings {
    pub(super) fn new(cli: &Cli) -> Self {
        let text = |option: &Option<String>, variable: &str, default: &str| {
            let set = option.clone().filter(|it| !it.is_empty());
            set.or_else(|| std::env::var(variable).ok().filter(|it| !it.is_empty()))
                .unwrap_or_else(|| default.to_owned())
        };
        let verbose = !cli.quiet && (cli.verbose > 0 || is_on("VERBOSE"));
        if verbose && std::env::var_os("RESOLVE_DEPS").is_some() {
            err("RESOLVE_DEPS is ignored: mdc resolves dependencies itself\n");
        }
        Self {
            modes_dir: text(&cli.modes_dir, "MODES_DIR", "./modes"),
            env_file: text(&cli.env_file, "ENV_FILE", ".env"),
            files_dir: text(&cli.files_dir, "MDC_FILES_DIR", "./.files"),
            dry_run: cli.dry_run,
            force: cli.force,
            allow_missing: cli.allow_missing,
            strict: is_on("MDC_STRICT"),
            verbose,
            quiet: cli.quiet,
            as_reference: is_on("MDC_COMPAT"),
            time_limit: cli.time_limit,
        }
    }

    /// Prints warnings, or turns them into errors with MDC_STRICT.
    pub(super) fn warn(&self, warnings: &[String]) -> Result<(), Wrong> {
        if self.strict && !warnings.is_empty() {
            return Err(warnings.to_vec());
        }
        warnings.iter().for_each(|it| err(&format!("warning: {it}\n")));
        Ok(())
    }
}

/// Whether an environment variable is set to anything but 0.
pub(super) fn is_on(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|it| !it.is_empty() && it != "0")
}

/// The format that is asked for, of these. The first is the default.
pub(super) fn format_of<'a>(cli: &Cli, known: &[&'a str]) -> Result<&'a str, Failed> {
    let asked = if cli.json { "json" } else { cli.format.as_deref().unwrap_or(known[0]) };
    known.iter().find(|it| **it == asked).copied().ok_or_else(|| {
        let why = format!("--format: expected {}, found `{asked}`", crate::words::listed(known));
        Failed::Output(Usage(why).into())
    })
}

/// The format of --list.
pub(super) fn list_format(cli: &Cli) -> Result<Option<Format>, Failed> {
    Ok(match format_of(cli, &["lines", "nodes", "paths", "json"])? {
        "nodes" => Some(Format::Nodes),
        "paths" => Some(Format::Paths),
        "json" => Some(Format::Json),
        _ => None,
    })
}
