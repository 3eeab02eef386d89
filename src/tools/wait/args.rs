//! The command line: conditions in the order given, each with the options that apply to it.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, Id, Parser, ValueEnum, value_parser};

use crate::duration;
use crate::tools::front::BadArgs;
use crate::tools::wait::condition::{Condition, KINDS, Kind};

/// Wait for interfaces, addresses, files or ports, then run a command
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
struct Cli {
    /// Wait until the next condition is false
    #[arg(long, num_args = 0, default_missing_value = "", action = ArgAction::Append)]
    not: Vec<OsString>,
    /// Wait for any one of the conditions that follow
    #[arg(long, num_args = 0, default_missing_value = "", action = ArgAction::Append)]
    any: Vec<OsString>,
    /// Time between attempts for the conditions that follow [default: WAIT_SLEEP, else 50ms doubling to 1s]
    #[arg(short, long, value_name = "DURATION", allow_negative_numbers = true)]
    sleep: Vec<OsString>,
    /// Require the conditions that follow to stay true for this time
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true)]
    hold: Vec<OsString>,
    /// Pause for this time before the conditions that follow
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true)]
    sleep_for: Vec<OsString>,
    /// Set the file mode creation mask for the conditions that follow and for COMMAND
    #[arg(short, long, value_name = "OCTAL")]
    umask: Vec<OsString>,
    /// Give up after this time and exit with code 124; 0 waits forever [default: WAIT_TIMEOUT, else 0]
    #[arg(short = 'T', long, value_name = "DURATION", allow_negative_numbers = true)]
    timeout: Option<OsString>,
    /// After the timeout, fail with code 124 or run COMMAND anyway
    #[arg(long, value_enum, value_name = "ACTION", default_value_t = OnTimeout::Fail)]
    on_timeout: OnTimeout,
    /// Time limit of one attempt of --tcp, --unix, --http, --dns or --command
    #[arg(long, value_name = "DURATION", default_value = "2s", allow_negative_numbers = true)]
    try_timeout: OsString,
    /// Print errors only
    #[arg(short, long)]
    quiet: bool,
    /// Print each message as one line of JSON
    #[arg(long)]
    json: bool,
    /// Print messages to standard output instead of standard error
    #[arg(long)]
    stdout: bool,
    /// Command to run afterwards
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    run: Vec<OsString>,
}

const AFTER_HELP: &str = "\
Waits for one condition after another, in the order given, then replaces itself with COMMAND. A duration without a \
unit is in seconds.

Exit codes: that of COMMAND; 0 success without COMMAND; 2 usage error; 124 timeout; 126 COMMAND cannot be executed; \
127 COMMAND not found; 129, 130, 131, 143 ended by SIGHUP, SIGINT, SIGQUIT, SIGTERM.";

pub(super) fn command() -> clap::Command {
    let conditions = KINDS.iter().filter(|it| !it.help.is_empty()).map(condition);
    // Its text may be a command that begins with an option.
    let command = clap::Command::default()
        .name("wait")
        .args(conditions)
        .mut_arg("command", |it| it.allow_hyphen_values(true));
    Cli::augment_args(command)
}

/// The option of a condition.
fn condition(kind: &'static Kind) -> Arg {
    let arg = Arg::new(kind.name).value_name(kind.value).help(kind.help).help_heading("Conditions");
    let arg = arg.action(ArgAction::Append).value_parser(value_parser!(OsString));
    kind.options.split(' ').fold(arg, |arg, option| {
        match (option.strip_prefix("--"), option.chars().nth(1)) {
            (Some(long), _) if arg.get_long().is_none() => arg.long(long),
            (Some(alias), _) => arg.visible_alias(alias),
            (None, Some(short)) => arg.short(short),
            (None, None) => arg,
        }
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OnTimeout {
    Fail,
    Run,
}

/// A parsed command line.
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) timeout: Option<Duration>,
    pub(super) try_timeout: Duration,
    pub(super) on_timeout: OnTimeout,
    pub(super) quiet: bool,
    pub(super) json: bool,
    pub(super) stdout: bool,
    pub(super) command: Vec<OsString>,
}

pub(super) enum Step {
    /// Wait until one of these is met.
    Wait(Vec<Item>),
    Pause(Duration),
    Umask(u32),
}

pub(super) struct Item {
    pub(super) condition: Condition,
    /// Wait until the condition is false.
    pub(super) not: bool,
    /// The time between attempts, if given.
    pub(super) interval: Option<Duration>,
    /// How long the condition must stay met.
    pub(super) hold: Duration,
}

/// Parses the command line. `env` returns the value of an environment variable.
pub(super) fn parse(args: Vec<OsString>, env: impl Fn(&str) -> Option<OsString>) -> Result<Plan, BadArgs> {
    let command = command();
    // The options whose order matters are those that may be repeated.
    let is_ordered = |it: &&Arg| !it.is_positional() && matches!(it.get_action(), ArgAction::Append);
    let ids: Vec<Id> = command.get_arguments().filter(is_ordered).map(|it| it.get_id().clone()).collect();
    let matches = command.try_get_matches_from(args).map_err(BadArgs::Clap)?;
    let cli = Cli::from_arg_matches(&matches).map_err(BadArgs::Clap)?;
    let mut reader = Reader { errors: Vec::new() };
    let variable = |name: &str| env(name).filter(|it| !it.is_empty()).map(|value| (name.to_owned(), value));
    let given = cli.timeout.clone().map(|it| ("--timeout".to_owned(), it));
    let timeout =
        given.or_else(|| variable("WAIT_TIMEOUT")).and_then(|(name, it)| reader.duration(&name, &it));
    let try_timeout = reader.duration("--try-timeout", &cli.try_timeout).unwrap_or_default();
    if try_timeout.is_zero() && reader.errors.is_empty() {
        reader.errors.push("--try-timeout: expected a duration above 0".to_owned());
    }
    let interval = variable("WAIT_SLEEP").and_then(|(name, it)| reader.duration(&name, &it));
    let steps = reader.steps(&ordered(&ids, &matches), interval);
    if steps.is_empty() && cli.run.is_empty() && reader.errors.is_empty() {
        reader.errors.push("expected a condition or a command (see `wait --help`)".to_owned());
    }
    if cli.run.first().is_some_and(|it| it.is_empty()) {
        reader.errors.push("COMMAND: the program name is empty".to_owned());
    }
    if !reader.errors.is_empty() {
        reader.errors.dedup();
        return Err(BadArgs::Values(reader.errors));
    }
    Ok(Plan {
        steps,
        timeout: timeout.filter(|it| !it.is_zero()),
        try_timeout,
        on_timeout: cli.on_timeout,
        quiet: cli.quiet,
        json: cli.json,
        stdout: cli.stdout,
        command: cli.run,
    })
}

/// These options with their values, in the order given.
fn ordered<'a>(ids: &'a [Id], matches: &ArgMatches) -> Vec<(&'a str, OsString)> {
    let mut all = Vec::new();
    for id in ids.iter().map(Id::as_str) {
        let values = matches.get_many::<OsString>(id).into_iter().flatten();
        let indices = matches.indices_of(id).into_iter().flatten();
        all.extend(indices.zip(values).map(|(index, value)| (index, id, value.clone())));
    }
    all.sort_by_key(|(index, ..)| *index);
    all.into_iter().map(|(_, id, value)| (id, value)).collect()
}

/// Parses values and collects errors.
struct Reader {
    errors: Vec<String>,
}

impl Reader {
    fn steps(&mut self, options: &[(&str, OsString)], mut interval: Option<Duration>) -> Vec<Step> {
        let (mut steps, mut hold, mut not) = (Vec::new(), Duration::ZERO, false);
        // After `--any`, the group of all conditions that follow.
        let mut any: Option<Vec<Item>> = None;
        for (id, value) in options {
            match *id {
                "not" if not => self.errors.push("--not: given twice in a row".to_owned()),
                "not" => not = true,
                "any" if any.is_some() => self.errors.push("--any: given twice".to_owned()),
                "any" => any = Some(Vec::new()),
                "sleep" => interval = self.duration("--sleep", value),
                "hold" => hold = self.duration("--hold", value).unwrap_or_default(),
                "sleep_for" | "umask" if any.is_some() => {
                    self.errors.push(format!("--{}: must come before --any", id.replace('_', "-")));
                }
                "sleep_for" => steps.extend(self.duration("--sleep-for", value).map(Step::Pause)),
                "umask" => steps.extend(self.umask(value).map(Step::Umask)),
                id => {
                    let not = std::mem::take(&mut not);
                    match Condition::parse(id, value) {
                        Err(why) => self.errors.push(why),
                        Ok(condition) => {
                            let item = Item { condition, not, interval, hold };
                            match &mut any {
                                Some(group) => group.push(item),
                                None => steps.push(Step::Wait(vec![item])),
                            }
                        }
                    }
                }
            }
        }
        if not {
            self.errors.push("--not: expected a condition to follow".to_owned());
        }
        match any {
            Some(group) if group.is_empty() && self.errors.is_empty() => {
                self.errors.push("--any: expected conditions to follow".to_owned());
            }
            Some(group) => steps.push(Step::Wait(group)),
            None => {}
        }
        steps
    }

    fn duration(&mut self, name: &str, value: &OsStr) -> Option<Duration> {
        let parsed = duration::parse(value.to_str().unwrap_or_default());
        parsed.inspect_err(|why| self.errors.push(format!("{name}: `{}`: {why}", value.display()))).ok()
    }

    fn umask(&mut self, value: &OsStr) -> Option<u32> {
        let digits = value.to_str().filter(|it| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit()));
        let mask = digits.and_then(|it| u32::from_str_radix(it, 8).ok()).filter(|it| *it <= 0o777);
        if mask.is_none() {
            self.errors
                .push(format!("--umask: `{}`: expected an octal number from 0 to 777", value.display()));
        }
        mask
    }
}
