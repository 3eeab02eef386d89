//! `mdc`: assembles a compose project from modes, then runs compose.

mod commit;
mod files;
mod graph;
mod project;
mod safety;
mod settings;
mod show;
mod swap;
mod sync;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{CommandFactory, Parser};

use crate::process::exec_with;
use crate::tools::exec::find;
use crate::tools::front::print_clap;
use crate::tools::mdc::project::Project;
use crate::tools::mdc::settings::{Cli, Failed, Settings};
use crate::tools::mdc::swap::{Change, Prepared};
use crate::{USAGE, err};

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
        Err(error) => return print_clap(error),
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
    if let Some(option) = misplaced(&compose_args) {
        err(&format!("error: `{option}` is an option of mdc: write it before MODES\n"));
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

/// An option of mdc that is the first argument of compose, which does not have it.
fn misplaced(compose_args: &[OsString]) -> Option<&str> {
    const OF_COMPOSE_TOO: [&str; 4] = ["env-file", "dry-run", "verbose", "version"];
    let first = compose_args.first()?.to_str()?;
    let long = first.strip_prefix("--").and_then(|it| it.split('=').next());
    let command = Cli::command();
    let is_ours = command.get_arguments().any(|it| match long {
        Some(long) => it.get_long() == Some(long) && !OF_COMPOSE_TOO.contains(&long),
        // Compose has `-v` too.
        None => it.get_short().is_some_and(|short| short != 'v' && first == format!("-{short}")),
    });
    is_ours.then_some(first)
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
    let has = |name: &str| find(OsStr::new(name)).is_some();
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
