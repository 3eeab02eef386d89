//! The command line: conditions in the order given, each with the options that apply to it.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, CommandFactory, FromArgMatches, Id, Parser, ValueEnum};

use crate::addr::{Cidr, IfName};
use crate::duration;
use crate::tools::wait::condition::{AddrWant, Condition, Families, FileWant, IfPattern, Net, RouteWant};
use crate::tools::wait::host::{Host, host_name};
use crate::tools::wait::http::Url;

/// Wait for interfaces, addresses, files or ports, then run a command
#[derive(Debug, Parser)]
#[command(name = "wait", version, after_help = AFTER_HELP)]
struct Cli {
    /// The file exists (symbolic links are followed)
    #[arg(short, long, value_name = "PATH", help_heading = CONDITIONS)]
    file: Vec<OsString>,
    /// The file exists and is not empty
    #[arg(long, value_name = "PATH", help_heading = CONDITIONS)]
    file_nonempty: Vec<OsString>,
    /// The interface exists; `*` and `?` match as in a shell
    #[arg(short = 'i', long = "intf", visible_alias = "if", value_name = "IF", help_heading = CONDITIONS)]
    interface: Vec<OsString>,
    /// The interface is up, with an address and a route of the same family
    #[arg(short = 'I', long, value_name = "IF", help_heading = CONDITIONS)]
    ip: Vec<OsString>,
    /// Same as --ip, for IPv4 only
    #[arg(long, value_name = "IF", help_heading = CONDITIONS)]
    ip4: Vec<OsString>,
    /// Same as --ip, for IPv6 only
    #[arg(long, value_name = "IF", help_heading = CONDITIONS)]
    ip6: Vec<OsString>,
    /// The interface is up and has a carrier
    #[arg(long, value_name = "IF", help_heading = CONDITIONS)]
    up: Vec<OsString>,
    /// Duplicate address detection is finished on the interface
    #[arg(long, value_name = "IF", help_heading = CONDITIONS)]
    dad: Vec<OsString>,
    /// The interface has this hardware address
    #[arg(long, value_name = "IF=MAC", help_heading = CONDITIONS)]
    mac: Vec<OsString>,
    /// The interface has this MTU
    #[arg(long, value_name = "IF=MTU", help_heading = CONDITIONS)]
    mtu: Vec<OsString>,
    /// At least N interfaces match the pattern; without a pattern, all but loopback count
    #[arg(long, value_name = "N[:PATTERN]", help_heading = CONDITIONS)]
    if_count: Vec<OsString>,
    /// An interface has this address, or an address in this network
    #[arg(long, value_name = "IP|CIDR", help_heading = CONDITIONS)]
    addr: Vec<OsString>,
    /// A route leads to exactly this network, or to this address (through the interface)
    #[arg(long, value_name = "default|CIDR|IP[@IF]", help_heading = CONDITIONS)]
    route: Vec<OsString>,
    /// The path (if it contains a slash) or interface no longer exists
    #[arg(long, value_name = "PATH|IF", help_heading = CONDITIONS)]
    gone: Vec<OsString>,
    /// The port accepts a TCP connection; IPv6 as `[ADDR]:PORT`
    #[arg(short, long, value_name = "HOST:PORT", help_heading = CONDITIONS)]
    tcp: Vec<OsString>,
    /// The unix socket accepts a connection
    #[arg(long, visible_alias = "socket", value_name = "PATH", help_heading = CONDITIONS)]
    unix: Vec<OsString>,
    /// A GET request is answered with a status from 200 to 299, or with STATUS
    #[arg(long, value_name = "URL[=STATUS]", help_heading = CONDITIONS)]
    http: Vec<OsString>,
    /// The name resolves (to the address)
    #[arg(long, value_name = "NAME[=IP]", help_heading = CONDITIONS)]
    dns: Vec<OsString>,
    /// `sh -c STRING` succeeds
    #[arg(
        short,
        long = "command",
        visible_alias = "cmd",
        value_name = "STRING",
        allow_hyphen_values = true,
        help_heading = CONDITIONS
    )]
    command: Vec<OsString>,
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

const CONDITIONS: &str = "Conditions";

const AFTER_HELP: &str = "\
Waits for one condition after another, in the order given, then replaces itself with COMMAND. A duration without a \
unit is in seconds.

Exit codes: that of COMMAND; 0 success without COMMAND; 2 usage error; 124 timeout; 126 COMMAND cannot be executed; \
127 COMMAND not found; 129, 130, 131, 143 ended by SIGHUP, SIGINT, SIGQUIT, SIGTERM.";

pub(super) fn command() -> clap::Command {
    Cli::command()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OnTimeout {
    Fail,
    Run,
}

/// A parsed command line.
#[derive(Debug)]
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

#[derive(Debug)]
pub(super) enum Step {
    /// Wait until one of these is met.
    Wait(Vec<Item>),
    Pause(Duration),
    Umask(u32),
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) condition: Condition,
    /// Wait until the condition is false.
    pub(super) not: bool,
    /// The time between attempts, if given.
    pub(super) interval: Option<Duration>,
    /// How long the condition must stay met.
    pub(super) hold: Duration,
}

/// An error in the command line.
#[derive(Debug)]
pub(super) enum BadArgs {
    /// Includes requests for help or the version.
    Clap(clap::Error),
    /// Every error.
    Values(Vec<String>),
}

/// Parses the command line. `env` returns the value of an environment variable.
pub(super) fn parse(args: Vec<OsString>, env: impl Fn(&str) -> Option<OsString>) -> Result<Plan, BadArgs> {
    let command = Cli::command();
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
                    let name = if id == "interface" { "intf".to_owned() } else { id.replace('_', "-") };
                    match condition(id, value) {
                        Err(why) => self.errors.push(format!("--{name}: `{}`: {why}", value.display())),
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

/// What is wrong with a value, and what is expected.
type Why = String;

fn condition(id: &str, value: &OsStr) -> Result<Condition, Why> {
    if value.is_empty() {
        return Err("the value is empty".to_owned());
    }
    // Only these values may contain any bytes.
    match id {
        "file" => return Ok(Condition::File(path(value)?, FileWant::Exists)),
        "file_nonempty" => return Ok(Condition::File(path(value)?, FileWant::NonEmpty)),
        "unix" => return Ok(Condition::Unix(path(value)?)),
        "gone" if value.as_encoded_bytes().contains(&b'/') => {
            return Ok(Condition::File(path(value)?, FileWant::Gone));
        }
        "command" => {
            path(value)?;
            return Ok(Condition::Command(value.to_owned()));
        }
        _ => {}
    }
    let text = value.to_str().ok_or("the value is not UTF-8")?;
    Ok(match id {
        "interface" => Condition::Net(Net::Exists(IfPattern::parse(text)?)),
        "ip" => Condition::Net(Net::Ip(interface(text)?, Families::Either)),
        "ip4" => Condition::Net(Net::Ip(interface(text)?, Families::V4)),
        "ip6" => Condition::Net(Net::Ip(interface(text)?, Families::V6)),
        "up" => Condition::Net(Net::Up(interface(text)?)),
        "dad" => Condition::Net(Net::DadDone(interface(text)?)),
        "gone" => Condition::Net(Net::Gone(interface(text)?)),
        "mac" => {
            let (name, mac) = text
                .split_once('=')
                .ok_or("expected an interface and an address, such as `eth0=02:00:00:00:00:01`")?;
            Condition::Net(Net::Mac(interface(name)?, mac.parse().map_err(|it| format!("{it}"))?))
        }
        "mtu" => {
            let (name, mtu) =
                text.split_once('=').ok_or("expected an interface and an MTU, such as `eth0=1500`")?;
            let mtu = mtu.parse().map_err(|_| format!("expected an MTU such as 1500, found `{mtu}`"))?;
            Condition::Net(Net::Mtu(interface(name)?, mtu))
        }
        "if_count" => {
            let (count, pattern) = match text.split_once(':') {
                Some((count, pattern)) => (count, Some(IfPattern::parse(pattern)?)),
                None => (text, None),
            };
            let count =
                count.parse().map_err(|_| format!("expected a number of interfaces, found `{count}`"))?;
            Condition::Net(Net::Count(count, pattern))
        }
        "addr" => Condition::Net(Net::Addr(AddrWant::parse(text)?)),
        "route" => {
            let (to, by) = match text.rsplit_once('@') {
                Some((to, by)) => (to, Some(interface(by)?)),
                None => (text, None),
            };
            Condition::Net(Net::Route(RouteWant::parse(to)?, by))
        }
        "tcp" => Condition::Tcp(Host::parse(text)?),
        "http" => Condition::Http(Url::parse(text)?),
        "dns" => {
            let (name, addr) = match text.split_once('=') {
                Some((name, addr)) => {
                    let addr = addr.parse().map_err(|_| format!("`{addr}` is not an IP address"))?;
                    (name, Some(addr))
                }
                None => (text, None),
            };
            Condition::Dns(host_name(name)?, addr)
        }
        other => return Err(format!("unknown condition `{other}`")),
    })
}

fn path(value: &OsStr) -> Result<PathBuf, Why> {
    // The kernel rejects it, and it cannot come from a command line.
    if value.as_encoded_bytes().contains(&0) {
        Err("the value contains a zero byte".to_owned())
    } else {
        Ok(value.into())
    }
}

fn interface(text: &str) -> Result<IfName, Why> {
    text.parse().map_err(|it| format!("{it}"))
}

impl IfPattern {
    fn parse(text: &str) -> Result<Self, Why> {
        let exact: IfName = interface(text)?;
        let has_wildcard = text.contains(['*', '?']);
        Ok(Self { exact: (!has_wildcard).then_some(exact), text: text.to_owned() })
    }
}

impl AddrWant {
    fn parse(text: &str) -> Result<Self, Why> {
        if let Ok(addr) = text.parse::<IpAddr>() {
            return Ok(Self::Addr(addr));
        }
        let cidr: Cidr = text.parse().map_err(|it| format!("{it}"))?;
        let is_host = cidr == Cidr::host(cidr.addr());
        Ok(if cidr.net() == cidr && !is_host { Self::In(cidr) } else { Self::Exact(cidr) })
    }
}

impl RouteWant {
    fn parse(text: &str) -> Result<Self, Why> {
        if text == "default" {
            return Ok(Self::Default);
        }
        if let Ok(addr) = text.parse::<IpAddr>() {
            return Ok(Self::To(addr));
        }
        let cidr: Cidr = text.parse().map_err(|it| format!("{it}, or `default`"))?;
        if cidr.net() != cidr {
            return Err(format!("expected a network address, such as `{}`", cidr.net()));
        }
        Ok(Self::Net(cidr))
    }
}
