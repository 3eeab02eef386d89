//! The command line of `copy`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use clap::{ArgAction, Parser};

use crate::tools::copy::owner::Owner;
use crate::tools::copy::select::Globs;
use crate::tools::copy::template::{Undefined, Variables};

/// Overlays the tree SRC onto the folder DST, then becomes COMMAND.
#[derive(Debug, Parser)]
#[command(name = "copy", version, after_help = AFTER_HELP)]
struct Cli {
    /// The folder whose content is copied
    #[arg(value_name = "SRC")]
    src: PathBuf,
    /// The folder that it is copied into
    #[arg(value_name = "DST")]
    dst: PathBuf,
    /// Replace each `{{NAME}}` in text files by the environment variable of that name, if it is set
    #[arg(short = 'T', long)]
    template: bool,
    /// Render text files as Jinja templates with the environment as variables
    #[arg(short = 'J', long, conflicts_with = "template")]
    jinja: bool,
    /// Only files that match are templates
    #[arg(long, value_name = "GLOB")]
    template_glob: Vec<OsString>,
    /// With -T: what becomes of names that are not set
    #[arg(long, value_enum, default_value_t = Undefined::Keep, requires = "template")]
    undefined: Undefined,
    /// Copy only what matches
    #[arg(long, value_name = "GLOB")]
    include: Vec<OsString>,
    /// Leave out what matches
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<OsString>,
    /// Owner of what is made, names or numbers [default: the process's own]
    #[arg(long, value_name = "USER[:GROUP]", conflicts_with = "preserve_owner")]
    owner: Option<OsString>,
    /// Owners as in SRC
    #[arg(long)]
    preserve_owner: bool,
    /// Extended attributes too: file capabilities, access control lists
    #[arg(long)]
    xattrs: bool,
    /// Make DST when it is not there
    #[arg(long)]
    mkdir: bool,
    /// Print what would be done; neither do it nor run COMMAND
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print changes of text files as a unified diff
    #[arg(long)]
    diff: bool,
    /// Name each file and each replacement; twice: with values
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// What the process becomes
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    command: Vec<OsString>,
}

const AFTER_HELP: &str = "A GLOB without a slash matches names in any folder, one with a slash paths from SRC. \
    Exit codes: that of COMMAND; 0 all is copied and there is no COMMAND; 1 something could not be copied; 2 usage, or \
    SRC or DST is no folder; 126 and 127 COMMAND cannot be run or found.";

/// What is made of text files.
#[derive(Debug)]
pub(super) enum Templating {
    None,
    Names(Variables),
    Jinja,
}

/// All that a command line asks for.
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

/// Why there are no options.
#[derive(Debug)]
pub(super) enum BadArgs {
    /// Also when help or version is asked for.
    Clap(clap::Error),
    /// Every mistake.
    Values(Vec<String>),
}

/// Reads the command line. `env` has the environment variables.
pub(super) fn parse(
    args: Vec<OsString>,
    env: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Options, BadArgs> {
    let cli = Cli::try_parse_from(args).map_err(BadArgs::Clap)?;
    let mut mistakes = Vec::new();
    if cli.command.first().is_some_and(|it| it.is_empty()) {
        mistakes.push("COMMAND: a program has a name".to_owned());
    }
    let template_glob = Globs::parse("--template-glob", &cli.template_glob, &mut mistakes);
    if !template_glob.is_empty() && !cli.template && !cli.jinja {
        mistakes.push("--template-glob: it needs -T or -J".to_owned());
    }
    let include = Globs::parse("--include", &cli.include, &mut mistakes);
    let exclude = Globs::parse("--exclude", &cli.exclude, &mut mistakes);
    let owner = match &cli.owner {
        None if cli.preserve_owner => Owner::Source,
        None => Owner::Process,
        Some(text) => {
            let owner = text.to_str().ok_or("it is not UTF-8".to_owned()).and_then(Owner::parse);
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
