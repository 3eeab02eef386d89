//! The command line of `copy`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use clap::{ArgAction, CommandFactory, Parser};

use crate::tools::copy::owner::Owner;
use crate::tools::copy::select::Globs;
use crate::tools::copy::template::{Undefined, Variables};
use crate::tools::front::BadArgs;

/// Copy a directory tree over another, fill in templates, then run a command
#[derive(Debug, Parser)]
#[command(name = "copy", version, after_help = AFTER_HELP)]
struct Cli {
    /// Source directory
    #[arg(value_name = "SRC")]
    src: PathBuf,
    /// Destination directory
    #[arg(value_name = "DST")]
    dst: PathBuf,
    /// Replace `{{NAME}}` in text files with the environment variable NAME, if it is set
    #[arg(short = 'T', long)]
    template: bool,
    /// Render text files as Jinja templates, with environment variables as template variables
    #[arg(short = 'J', long, conflicts_with = "template")]
    jinja: bool,
    /// Treat only files that match as templates; may be repeated
    #[arg(long, value_name = "GLOB")]
    template_glob: Vec<OsString>,
    /// How --template handles unset variables: keep the placeholder, fail, or insert nothing
    #[arg(long, value_enum, value_name = "ACTION", default_value_t = Undefined::Keep, requires = "template")]
    undefined: Undefined,
    /// Copy only files that match; may be repeated
    #[arg(long, value_name = "GLOB")]
    include: Vec<OsString>,
    /// Skip files that match; may be repeated
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<OsString>,
    /// Owner of created files, as names or numbers [default: the current user]
    #[arg(long, value_name = "USER[:GROUP]", conflicts_with = "preserve_owner")]
    owner: Option<OsString>,
    /// Keep the owners of SRC
    #[arg(long)]
    preserve_owner: bool,
    /// Copy extended attributes, such as file capabilities and access control lists
    #[arg(long)]
    xattrs: bool,
    /// Create DST if it is missing
    #[arg(long)]
    mkdir: bool,
    /// Print what would change, without changing it or running COMMAND
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print changes to text files as a unified diff
    #[arg(long)]
    diff: bool,
    /// Print each file and each replacement; repeat to include values
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Print errors only
    #[arg(short, long)]
    quiet: bool,
    /// Command to run afterwards
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    command: Vec<OsString>,
}

const AFTER_HELP: &str = "\
Copies the content of SRC into DST without deleting anything, then replaces itself with COMMAND. A GLOB without a \
slash matches file names in every directory; a GLOB with a slash matches paths relative to SRC.

Exit codes: that of COMMAND; 0 success without COMMAND; 1 a file could not be copied; 2 usage error, or SRC or DST \
is not a directory; 126 COMMAND cannot be executed; 127 COMMAND not found.";

pub(super) fn command() -> clap::Command {
    Cli::command()
}

/// How text files are processed.
#[derive(Debug)]
pub(super) enum Templating {
    None,
    Names(Variables),
    Jinja,
}

/// A parsed command line.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) src: PathBuf,
    pub(super) dst: PathBuf,
    pub(super) templating: Templating,
    pub(super) template_glob: Globs,
    pub(super) include: Globs,
    pub(super) exclude: Globs,
    pub(super) owner: Owner,
    pub(super) xattrs: bool,
    pub(super) mkdir: bool,
    pub(super) dry_run: bool,
    pub(super) diff: bool,
    pub(super) verbose: u8,
    pub(super) quiet: bool,
    pub(super) command: Vec<OsString>,
}

/// Parses the command line. `env` has the environment variables.
pub(super) fn parse(
    args: Vec<OsString>,
    env: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Options, BadArgs> {
    let cli = Cli::try_parse_from(args).map_err(BadArgs::Clap)?;
    let mut mistakes = Vec::new();
    if cli.command.first().is_some_and(|it| it.is_empty()) {
        mistakes.push("COMMAND: the program name is empty".to_owned());
    }
    let template_glob = Globs::parse("--template-glob", &cli.template_glob, &mut mistakes);
    if !template_glob.is_empty() && !cli.template && !cli.jinja {
        mistakes.push("--template-glob: requires --template or --jinja".to_owned());
    }
    let include = Globs::parse("--include", &cli.include, &mut mistakes);
    let exclude = Globs::parse("--exclude", &cli.exclude, &mut mistakes);
    let owner = match &cli.owner {
        None if cli.preserve_owner => Owner::Source,
        None => Owner::Process,
        Some(text) => {
            let owner = text.to_str().ok_or("the value is not UTF-8".to_owned()).and_then(Owner::parse);
            owner.unwrap_or_else(|why| {
                mistakes.push(format!("--owner: `{}`: {why}", text.display()));
                Owner::Process
            })
        }
    };
    if !mistakes.is_empty() {
        return Err(BadArgs::Values(mistakes));
    }
    let templating = if cli.template {
        let values: HashMap<Vec<u8>, Vec<u8>> = env.map(|(k, v)| (k.into_vec(), v.into_vec())).collect();
        Templating::Names(Variables::new(values, cli.undefined))
    } else if cli.jinja {
        Templating::Jinja
    } else {
        Templating::None
    };
    Ok(Options {
        src: cli.src,
        dst: cli.dst,
        templating,
        template_glob,
        include,
        exclude,
        owner,
        xattrs: cli.xattrs,
        mkdir: cli.mkdir,
        dry_run: cli.dry_run,
        diff: cli.diff,
        verbose: cli.verbose,
        quiet: cli.quiet,
        command: cli.command,
    })
}
