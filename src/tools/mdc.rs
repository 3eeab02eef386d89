//! `mdc`: assembles a compose project from modes, then runs compose.

mod commit;
mod files;
mod graph;
mod project;
mod safety;
mod show;
mod swap;
mod sync;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{ArgAction, CommandFactory, Parser};

use crate::duration;
use crate::process::exec_with;
use crate::tools::front::print_clap;
use crate::tools::mdc::project::Project;
use crate::tools::mdc::swap::{Change, Prepared};
use crate::tools::resolve_deps::Format;
use crate::{USAGE, Usage, err};

/// Assemble a compose project from modes, then run docker compose
#[derive(Debug, Parser)]
#[command(
    name = "mdc",
    version,
    override_usage = "mdc [OPTIONS] MODES [COMPOSE-ARGS]...\n       mdc --list | --graph [MODES]",
    after_help = AFTER_HELP
)]
struct Cli {
    /// Directories of modes, separated by colons or commas [env: MODES_DIR] [default: ./modes]
    #[arg(long, value_name = "DIR")]
    modes_dir: Option<String>,
    /// Env file to write [env: ENV_FILE] [default: .env]
    #[arg(long, value_name = "FILE")]
    env_file: Option<String>,
    /// Directory for the files of the modes [env: MDC_FILES_DIR] [default: ./.files]
    #[arg(long, value_name = "DIR")]
    files_dir: Option<String>,
    /// Compose command [env: DOCKER_COMPOSE] [default: docker compose, else docker-compose]
    #[arg(long, value_name = "COMMAND")]
    docker_compose: Option<String>,
    /// Change to this directory first
    #[arg(short = 'C', long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Print the names of all modes, or of the modes that MODES resolves to, in order
    #[arg(long, group = "what", help_heading = LOOK)]
    list: bool,
    /// Print what would be done without doing it
    #[arg(short = 'n', long, group = "what", help_heading = LOOK)]
    dry_run: bool,
    /// Print the merged compose file
    #[arg(long, group = "what", help_heading = LOOK)]
    config: bool,
    /// Print every place that sets a value such as `services.r0.image`, the effective one last
    #[arg(long, value_name = "PATH", group = "what", help_heading = LOOK)]
    explain: Option<String>,
    /// Print the final value of each variable and where it is set
    #[arg(long, group = "what", help_heading = LOOK)]
    env: bool,
    /// Print the dependency graph as DOT, with the chosen modes filled
    #[arg(long, group = "what", help_heading = LOOK)]
    graph: bool,
    /// Print why a mode is chosen
    #[arg(long, value_name = "MODE", group = "what", help_heading = LOOK)]
    why: Option<String>,
    /// Output format: `lines`, `nodes`, `paths` or `json` with --list; `yaml` or `json` with --config; `text` or `json`
    /// with --env
    #[arg(long, value_name = "FORMAT", help_heading = LOOK)]
    format: Option<String>,
    /// Same as `--format json`
    #[arg(long, conflicts_with = "format", help_heading = LOOK)]
    json: bool,
    /// Replace variables in the output of --config
    #[arg(long, requires = "config", help_heading = LOOK)]
    interpolate: bool,
    /// Take over a directory of files that mdc did not create
    #[arg(long)]
    force: bool,
    /// Skip unknown modes with a warning
    #[arg(long)]
    allow_missing: bool,
    /// Give up resolving dependencies after this time
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    time_limit: Duration,
    /// Print each change and the compose command [env: VERBOSE]
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
    /// Print warnings and errors only
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
    /// Modes, separated by commas or spaces; `a|b` for one of several
    modes: Option<String>,
}

/// Options that print something and change nothing.
const LOOK: &str = "Inspection";

const AFTER_HELP: &str = "\
Everything after MODES is passed to compose. Without it, mdc only writes the files.

Further environment variables:
  MDC_NO_CMDLINE=1  Leave the command line out of the env file
  MDC_COMPAT=1      Write the env file byte for byte as the reference tool
  MDC_STRICT=1      Treat warnings as errors";

/// Errors with their places, one line each.
pub(super) type Wrong = Vec<String>;

/// The settings: options, else environment variables, else defaults.
#[derive(Debug)]
struct Settings {
    modes_dir: String,
    env_file: String,
    files_dir: String,
    dry_run: bool,
    force: bool,
    allow_missing: bool,
    strict: bool,
    verbose: bool,
    quiet: bool,
    as_reference: bool,
    time_limit: Duration,
}

pub(crate) fn command() -> clap::Command {
    Cli::command()
}

pub(crate) fn main(mut args: Vec<OsString>) -> anyhow::Result<u8> {
    // The env file records the command line, in which the tool goes by its own name.
    if let Some(first) = args.first_mut().filter(|it| *it == "conlink mdc") {
        *first = "mdc".into();
    }
    let (own, compose_args) = split(args.clone());
    let cli = match Cli::try_parse_from(own) {
        Ok(it) => it,
        Err(error) => {
            return print_clap(error);
        }
    };
    if let Some(dir) = &cli.directory {
        std::env::set_current_dir(dir).with_context(|| format!("change to {}", dir.display()))?;
    }
    let settings = Settings::new(&cli);
    let without_modes = cli.list || cli.graph;
    if cli.modes.as_ref().is_none_or(String::is_empty) && !without_modes {
        let name = args.first().map(|it| it.display().to_string()).unwrap_or_default();
        err(&format!("error: missing MODES\nUsage: {name} MODES [DOCKER-COMPOSE-ARGS]\n"));
        return Ok(USAGE);
    }
    match run(&cli, &settings, &args, &compose_args) {
        Ok(code) => Ok(code),
        Err(Failed::Wrong(wrong)) => {
            wrong.iter().for_each(|it| err(&format!("error: {it}\n")));
            Ok(1)
        }
        Err(Failed::Output(error)) => Err(error),
    }
}

/// Why a run failed.
enum Failed {
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

fn run(cli: &Cli, settings: &Settings, args: &[OsString], compose_args: &[OsString]) -> Result<u8, Failed> {
    let modes = cli.modes.as_deref().filter(|it| !it.is_empty());
    if cli.list || cli.graph || cli.why.is_some() {
        show::modes(cli, settings, modes)?;
        return Ok(0);
    }
    let project = Project::find(settings, modes.unwrap_or_default(), args)?;
    if cli.config || cli.explain.is_some() {
        show::compose(cli, settings, &project)?;
        return Ok(0);
    }
    if cli.env {
        show::env(cli, settings, &project)?;
        return Ok(0);
    }
    let lock = swap::lock(!cli.dry_run)?;
    let prepared = Prepared::new(settings, &project)?;
    if !settings.quiet {
        err(&format!("MODES:  {}\n", project.names().join(" ")));
    }
    let compose = (!compose_args.is_empty()).then(|| compose_command(cli));
    if cli.dry_run {
        let mut text: String = prepared.changes().iter().map(|it| format!("{it}\n")).collect();
        if let Some(words) = &compose {
            text += &format!("run {}\n", shown(words, settings, compose_args));
        }
        crate::out(&text)?;
        return Ok(0);
    }
    if settings.verbose {
        prepared.changes().iter().map(Change::to_string).for_each(|it| err(&format!("{it}\n")));
        err(&format!("ENV_FILE: {}\n", settings.env_file));
        err(&format!("COMPOSE_FILE: {}\n", project.written.compose_file));
        err(&format!("COMPOSE_PROFILES: {}\n", project.written.compose_profiles));
    }
    prepared.carry_out()?;
    drop(lock);
    match compose {
        None => Ok(0),
        Some(words) => Ok(become_compose(&words, settings, &project, compose_args)),
    }
}

impl Settings {
    fn new(cli: &Cli) -> Self {
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
    fn warn(&self, warnings: &[String]) -> Result<(), Wrong> {
        if self.strict && !warnings.is_empty() {
            return Err(warnings.to_vec());
        }
        warnings.iter().for_each(|it| err(&format!("warning: {it}\n")));
        Ok(())
    }
}

/// Whether an environment variable is set to anything but 0.
fn is_on(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|it| !it.is_empty() && it != "0")
}

/// Splits the arguments: ours up to MODES, and those of compose.
fn split(args: Vec<OsString>) -> (Vec<OsString>, Vec<OsString>) {
    let command = Cli::command();
    let takes_value = |word: &str| {
        command.get_arguments().filter(|it| it.get_action().takes_values()).any(|it| {
            it.get_long().is_some_and(|long| word.strip_prefix("--") == Some(long))
                || it.get_short().is_some_and(|short| is_cluster(word, short))
        })
    };
    let mut own = Vec::new();
    let mut rest = args.into_iter();
    own.extend(rest.next());
    while let Some(arg) = rest.next() {
        let word = arg.to_string_lossy().into_owned();
        own.push(arg);
        if word == "--" {
            own.extend(rest.next());
            break;
        }
        if !word.starts_with('-') {
            break;
        }
        if takes_value(&word) {
            own.extend(rest.next());
        }
    }
    (own, rest.collect())
}

/// Whether the word is a group of short options that ends with this one.
fn is_cluster(word: &str, short: char) -> bool {
    !word.starts_with("--") && word.starts_with('-') && word.ends_with(short)
}

/// The compose command: the one that is set, else `docker compose`, or `docker-compose` if only that is installed.
fn compose_command(cli: &Cli) -> Vec<OsString> {
    let set = cli.docker_compose.clone().or_else(|| std::env::var("DOCKER_COMPOSE").ok()).unwrap_or_default();
    let words: Vec<OsString> = set.split_whitespace().map(OsString::from).collect();
    if !words.is_empty() {
        return words;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |name: &str| std::env::split_paths(&path).any(|it| it.join(name).is_file());
    if has("docker-compose") && !(has("docker") && has_plugin()) {
        vec!["docker-compose".into()]
    } else {
        vec!["docker".into(), "compose".into()]
    }
}

/// Whether the docker client has the compose plugin.
fn has_plugin() -> bool {
    let own = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|it| Path::new(&it).join(".docker"));
    let system =
        ["/usr/local/lib/docker", "/usr/local/libexec/docker", "/usr/lib/docker", "/usr/libexec/docker"];
    let folders = own.or(home).into_iter().chain(system.map(PathBuf::from));
    folders.into_iter().any(|it| it.join("cli-plugins/docker-compose").exists())
}

/// The compose command, as a person would type it.
fn shown(words: &[OsString], settings: &Settings, args: &[OsString]) -> String {
    let option = [OsStr::new("--env-file"), OsStr::new(&settings.env_file)];
    let all = words.iter().map(OsString::as_os_str).chain(option).chain(args.iter().map(OsString::as_os_str));
    all.map(|it| it.display().to_string()).collect::<Vec<_>>().join(" ")
}

/// Replaces the process with compose. Returns the exit code if that fails.
fn become_compose(words: &[OsString], settings: &Settings, project: &Project, args: &[OsString]) -> u8 {
    if settings.verbose {
        err(&format!("Running: {}\n", shown(words, settings, args)));
    }
    let Some((program, first)) = words.split_first() else { return 127 };
    let option = ["--env-file".into(), OsString::from(&settings.env_file)];
    let all: Vec<OsString> = first.iter().cloned().chain(option).chain(args.iter().cloned()).collect();
    // Compose prefers its environment to the env file.
    let separator = project.written.separator.to_string();
    let ours = [
        ("COMPOSE_FILE", project.written.compose_file.as_str()),
        ("COMPOSE_PROFILES", project.written.compose_profiles.as_str()),
        ("COMPOSE_PATH_SEPARATOR", separator.as_str()),
    ];
    let exported: Vec<(&str, &str)> =
        ours.into_iter().filter(|(name, _)| std::env::var_os(name).is_some()).collect();
    let error = exec_with(program, &all, &exported);
    err(&format!("error: run {}: {error}\n", program.display()));
    if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
}

/// The format that is asked for, of these. The first is the default.
fn format_of<'a>(cli: &Cli, known: &[&'a str]) -> Result<&'a str, Failed> {
    let asked = if cli.json { "json" } else { cli.format.as_deref().unwrap_or(known[0]) };
    known.iter().find(|it| **it == asked).copied().ok_or_else(|| {
        let why = format!("--format: expected {}, found `{asked}`", crate::words::listed(known));
        Failed::Output(Usage(why).into())
    })
}

/// The format of --list.
fn list_format(cli: &Cli) -> Result<Option<Format>, Failed> {
    Ok(match format_of(cli, &["lines", "nodes", "paths", "json"])? {
        "nodes" => Some(Format::Nodes),
        "paths" => Some(Format::Paths),
        "json" => Some(Format::Json),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_after_modes_belongs_to_compose() {
        for (line, own, rest) in [
            ("mdc a,b up -d", "mdc a,b", "up -d"),
            ("mdc -v --modes-dir m a --list --env", "mdc -v --modes-dir m a", "--list --env"),
            ("mdc --modes-dir=m -C d a", "mdc --modes-dir=m -C d a", ""),
            ("mdc -vC d a -n", "mdc -vC d a", "-n"),
            ("mdc --explain services.a a,b x", "mdc --explain services.a a,b", "x"),
            ("mdc -- -a b", "mdc -- -a", "b"),
            ("mdc --list", "mdc --list", ""),
        ] {
            let words = |it: &str| it.split_whitespace().map(OsString::from).collect::<Vec<_>>();
            assert_eq!(split(words(line)), (words(own), words(rest)), "{line}");
        }
    }
}
