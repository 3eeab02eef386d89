//! `mdc`: assembles one compose project from modes, then becomes compose.

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

use crate::process::exec_with;
use crate::tools::mdc::project::Project;
use crate::tools::mdc::swap::{Change, Prepared};
use crate::tools::resolve_deps::{Format, seconds};
use crate::{err, print_clap};

/// Assembles one compose project from mode directories, then runs compose on it.
#[derive(Debug, Parser)]
#[command(
    name = "mdc",
    version,
    override_usage = "mdc [OPTIONS] MODES [COMPOSE-ARGS]...\n       mdc --list | --graph [MODES]",
    after_help = AFTER_HELP
)]
struct Cli {
    /// Folders of modes, with colons or commas between [env: MODES_DIR] [default: ./modes]
    #[arg(long, value_name = "DIR")]
    modes_dir: Option<String>,
    /// The env file to write [env: ENV_FILE] [default: .env]
    #[arg(long, value_name = "FILE")]
    env_file: Option<String>,
    /// The folder for the modes' files [env: MDC_FILES_DIR] [default: ./.files]
    #[arg(long, value_name = "DIR")]
    files_dir: Option<String>,
    /// The command of compose [env: DOCKER_COMPOSE] [default: docker compose, else docker-compose]
    #[arg(long, value_name = "COMMAND")]
    docker_compose: Option<String>,
    /// Go to this folder first
    #[arg(short = 'C', long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Print the names of the modes: all there are, or those that MODES resolves to, in order
    #[arg(long, group = "what")]
    list: bool,
    /// Print what would be done, and do nothing
    #[arg(short = 'n', long, group = "what")]
    dry_run: bool,
    /// Print the merged compose document
    #[arg(long, group = "what")]
    config: bool,
    /// Print every place that sets the value at a path such as `services.r0.image`, the one that counts last
    #[arg(long, value_name = "PATH", group = "what")]
    explain: Option<String>,
    /// Print each variable's final value and the place that gave it
    #[arg(long, group = "what")]
    env: bool,
    /// Print the dependency graph as DOT, the chosen modes filled
    #[arg(long, group = "what")]
    graph: bool,
    /// Print why a mode is chosen
    #[arg(long, value_name = "MODE", group = "what")]
    why: Option<String>,
    /// How --list, --config and --env print: `nodes`, `paths` or `json` (--list); `yaml` or `json` (--config); `text`
    /// or `json` (--env)
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// With --config: replace variables
    #[arg(long, requires = "config")]
    interpolate: bool,
    /// Take over a folder of files that mdc did not make
    #[arg(long)]
    force: bool,
    /// Leave out modes that no folder has, with a warning
    #[arg(long)]
    allow_missing: bool,
    /// Give up on resolving after so many seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    time_limit: Duration,
    /// Say more [env: VERBOSE]
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
    /// Modes, with commas or spaces between; `a|b` for one of them
    modes: Option<String>,
}

const AFTER_HELP: &str = "\
All that follows MODES goes to compose as it is. Without it the files alone are made.

Environment: MODES_DIR, ENV_FILE, MDC_FILES_DIR, DOCKER_COMPOSE and VERBOSE are as the options;
MDC_NO_CMDLINE=1 keeps the command line out of the env file; MDC_COMPAT=1 writes the env file byte for byte as the
reference tool; MDC_STRICT=1 makes warnings errors.";

/// What is wrong, each with its place. Shown as lines of their own.
pub(super) type Wrong = Vec<String>;

/// How the tool is to work: options, else variables, else defaults.
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
    as_reference: bool,
    time_limit: Duration,
}

pub(crate) fn main(args: Vec<OsString>) -> anyhow::Result<u8> {
    let (own, compose_args) = split(args.clone());
    let cli = match Cli::try_parse_from(own) {
        Ok(it) => it,
        Err(error) => {
            print_clap(&error)?;
            return Ok(u8::from(error.use_stderr()));
        }
    };
    if let Some(dir) = &cli.directory {
        std::env::set_current_dir(dir).with_context(|| format!("go to {}", dir.display()))?;
    }
    let settings = Settings::new(&cli);
    let without_modes = cli.list || cli.graph;
    if cli.modes.as_ref().is_none_or(String::is_empty) && !without_modes {
        let name = args.first().map(|it| it.display().to_string()).unwrap_or_default();
        err(&format!("Usage: {name} MODES [DOCKER-COMPOSE-ARGS]\n"));
        return Ok(1);
    }
    match run(&cli, &settings, &args, &compose_args) {
        Ok(code) => Ok(code),
        Err(Failed::Wrong(wrong)) => {
            wrong.iter().for_each(|it| err(&format!("Error: {it}\n")));
            Ok(1)
        }
        Err(Failed::Output(error)) => Err(error),
    }
}

/// Why a run came to nothing.
enum Failed {
    Wrong(Wrong),
    /// Standard output takes no more.
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
    err(&format!("MODES:  {}\n", project.names().join(" ")));
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
        let verbose = cli.verbose > 0 || is_on("VERBOSE");
        if verbose && std::env::var_os("RESOLVE_DEPS").is_some() {
            err("RESOLVE_DEPS is set and not needed: resolving is built in\n");
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
            as_reference: is_on("MDC_COMPAT"),
            time_limit: cli.time_limit,
        }
    }

    /// Tells what is odd, or makes it an error where that is asked for.
    fn warn(&self, warnings: &[String]) -> Result<(), Wrong> {
        if self.strict && !warnings.is_empty() {
            return Err(warnings.to_vec());
        }
        warnings.iter().for_each(|it| err(&format!("Warning: {it}\n")));
        Ok(())
    }
}

/// Is a switch of the environment on?
fn is_on(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|it| !it.is_empty() && it != "0")
}

/// Our arguments up to MODES, and compose's.
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

/// Is the word a group of short options whose last one is this?
fn is_cluster(word: &str, short: char) -> bool {
    !word.starts_with("--") && word.starts_with('-') && word.ends_with(short)
}

/// The words that run compose: what is set, else `docker compose`, or `docker-compose` where only that is there.
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

/// Has the docker client compose? It looks for it in these folders.
fn has_plugin() -> bool {
    let own = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|it| Path::new(&it).join(".docker"));
    let system =
        ["/usr/local/lib/docker", "/usr/local/libexec/docker", "/usr/lib/docker", "/usr/libexec/docker"];
    let folders = own.or(home).into_iter().chain(system.map(PathBuf::from));
    folders.into_iter().any(|it| it.join("cli-plugins/docker-compose").exists())
}

/// What is run, as a person would write it.
fn shown(words: &[OsString], settings: &Settings, args: &[OsString]) -> String {
    let option = [OsStr::new("--env-file"), OsStr::new(&settings.env_file)];
    let all = words.iter().map(OsString::as_os_str).chain(option).chain(args.iter().map(OsString::as_os_str));
    all.map(|it| it.display().to_string()).collect::<Vec<_>>().join(" ")
}

/// Answers only when compose cannot be run.
fn become_compose(words: &[OsString], settings: &Settings, project: &Project, args: &[OsString]) -> u8 {
    if settings.verbose {
        err(&format!("Running: {}\n", shown(words, settings, args)));
    }
    let Some((program, first)) = words.split_first() else { return 127 };
    let option = ["--env-file".into(), OsString::from(&settings.env_file)];
    let all: Vec<OsString> = first.iter().cloned().chain(option).chain(args.iter().cloned()).collect();
    // Compose takes these from its environment before it looks at the file.
    let separator = project.written.separator.to_string();
    let ours = [
        ("COMPOSE_FILE", project.written.compose_file.as_str()),
        ("COMPOSE_PROFILES", project.written.compose_profiles.as_str()),
        ("COMPOSE_PATH_SEPARATOR", separator.as_str()),
    ];
    let exported: Vec<(&str, &str)> =
        ours.into_iter().filter(|(name, _)| std::env::var_os(name).is_some()).collect();
    let error = exec_with(program, &all, &exported);
    err(&format!("Error: run {}: {error}\n", program.display()));
    if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
}

/// The format that an option names, of those that there are.
fn format_of<'a>(cli: &Cli, known: &[&'a str]) -> Result<&'a str, Wrong> {
    let asked = cli.format.as_deref().unwrap_or(known[0]);
    known.iter().find(|it| **it == asked).copied().ok_or_else(|| {
        vec![format!("--format cannot be `{asked}` here (there are {})", crate::words::listed(known))]
    })
}

/// The format of --list.
fn list_format(cli: &Cli) -> Result<Option<Format>, Wrong> {
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
    fn all_that_follows_modes_is_composes() {
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

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
