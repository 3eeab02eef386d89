//! The command line: conditions in the order given, each with what holds for it.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, ArgMatches, CommandFactory, FromArgMatches, Parser, ValueEnum};

use crate::addr::{Cidr, IfName};
use crate::tools::wait::condition::{
    AddrWant, Condition, Families, FileWant, Host, IfPattern, Net, RouteWant,
};
use crate::tools::wait::http::Url;

/// Waits for interfaces, addresses, files or ports, then becomes COMMAND.
///
/// Conditions are waited for one after another, in the order given.
#[derive(Debug, Parser)]
#[command(name = "wait", version, after_help = AFTER_HELP)]
struct Cli {
    /// A file of that name exists (links are followed)
    #[arg(short, long, value_name = "PATH")]
    file: Vec<OsString>,
    /// It exists and is not empty
    #[arg(long, value_name = "PATH")]
    file_nonempty: Vec<OsString>,
    /// An interface exists; `*` and `?` match as in a shell
    #[arg(short = 'i', long = "intf", visible_alias = "if", value_name = "IF")]
    interface: Vec<OsString>,
    /// It is up, and has a usable address and a route of the same family
    #[arg(short = 'I', long, value_name = "IF")]
    ip: Vec<OsString>,
    /// The same by IPv4 alone
    #[arg(long, value_name = "IF")]
    ip4: Vec<OsString>,
    /// The same by IPv6 alone
    #[arg(long, value_name = "IF")]
    ip6: Vec<OsString>,
    /// It is up and has a carrier
    #[arg(long, value_name = "IF")]
    up: Vec<OsString>,
    /// No address of it is in duplicate address detection
    #[arg(long, value_name = "IF")]
    dad: Vec<OsString>,
    /// It has this hardware address
    #[arg(long, value_name = "IF=MAC")]
    mac: Vec<OsString>,
    /// It has this MTU
    #[arg(long, value_name = "IF=N")]
    mtu: Vec<OsString>,
    /// There are at least N interfaces of that name pattern, else of any but loopback
    #[arg(long, value_name = "N[:PATTERN]")]
    if_count: Vec<OsString>,
    /// Some interface has this address, or one of this network
    #[arg(long, value_name = "IP|CIDR")]
    addr: Vec<OsString>,
    /// There is a route to this network, or a way to this address; by that interface
    #[arg(long, value_name = "default|CIDR|IP[@IF]")]
    route: Vec<OsString>,
    /// What has a slash in its name is no file any more, anything else no interface
    #[arg(long, value_name = "PATH|IF")]
    gone: Vec<OsString>,
    /// A TCP connection is accepted; IPv6 as `[ADDR]:PORT`
    #[arg(short, long, value_name = "HOST:PORT")]
    tcp: Vec<OsString>,
    /// A connection to this socket is accepted
    #[arg(long, visible_alias = "socket", value_name = "PATH")]
    unix: Vec<OsString>,
    /// The answer to GET has a status of 200 to 299, or the one given
    #[arg(long, value_name = "URL[=STATUS]")]
    http: Vec<OsString>,
    /// The name resolves, to that address
    #[arg(long, value_name = "NAME[=IP]")]
    dns: Vec<OsString>,
    /// `sh -c STRING` succeeds
    #[arg(short, long = "command", visible_alias = "cmd", value_name = "STRING", allow_hyphen_values = true)]
    command: Vec<OsString>,
    /// The next condition must not hold
    #[arg(long, num_args = 0, default_missing_value = "", action = ArgAction::Append)]
    not: Vec<OsString>,
    /// The first of the conditions that follow suffices
    #[arg(long, num_args = 0, default_missing_value = "", action = ArgAction::Append)]
    any: Vec<OsString>,
    /// Seconds between tries of what follows [default: WAIT_SLEEP, else 0.05 doubling to 1]
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    sleep: Vec<OsString>,
    /// How long each condition that follows must go on holding
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    hold: Vec<OsString>,
    /// Pause in this place
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    sleep_for: Vec<OsString>,
    /// The file mode creation mask from this place on
    #[arg(short, long, value_name = "OCTAL")]
    umask: Vec<OsString>,
    /// Give up after that time and exit 124; 0 for never [default: WAIT_TIMEOUT, else never]
    #[arg(short = 'T', long, value_name = "SECONDS", allow_negative_numbers = true)]
    timeout: Option<OsString>,
    /// What happens then
    #[arg(long, value_enum, default_value_t = OnTimeout::Fail)]
    on_timeout: OnTimeout,
    /// The most that one try of tcp, unix, http, dns or a command may take
    #[arg(long, value_name = "SECONDS", default_value = "2", allow_negative_numbers = true)]
    try_timeout: OsString,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Messages to standard output
    #[arg(long)]
    stdout: bool,
    /// What the process becomes
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    run: Vec<OsString>,
}

const AFTER_HELP: &str = "Exit codes: that of COMMAND; 0 all holds and there is no COMMAND; 2 usage; 124 timeout; \
    126 and 127 COMMAND cannot be run or found; 129, 130, 131 and 143 ended by SIGHUP, SIGINT, SIGQUIT and SIGTERM.";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OnTimeout {
    /// Exit 124
    Fail,
    /// Run COMMAND all the same
    Run,
}

/// The options whose order counts.
const ORDERED: [&str; 25] = [
    "file",
    "file_nonempty",
    "interface",
    "ip",
    "ip4",
    "ip6",
    "up",
    "dad",
    "mac",
    "mtu",
    "if_count",
    "addr",
    "route",
    "gone",
    "tcp",
    "unix",
    "http",
    "dns",
    "command",
    "not",
    "any",
    "sleep",
    "hold",
    "sleep_for",
    "umask",
];

/// All that a command line asks for.
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
    /// One of these has to hold.
    Wait(Vec<Item>),
    Pause(Duration),
    Umask(u32),
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) condition: Condition,
    /// It has to be false.
    pub(super) not: bool,
    /// The time between tries, where it is given.
    pub(super) interval: Option<Duration>,
    /// How long it has to go on holding.
    pub(super) hold: Duration,
}

/// Why there is no plan.
#[derive(Debug)]
pub(super) enum BadArgs {
    /// Also when help or version is asked for.
    Clap(clap::Error),
    /// Every mistake.
    Values(Vec<String>),
}

/// Reads the command line. `env` answers the value of an environment variable.
pub(super) fn parse(args: Vec<OsString>, env: impl Fn(&str) -> Option<OsString>) -> Result<Plan, BadArgs> {
    let matches = Cli::command().try_get_matches_from(args).map_err(BadArgs::Clap)?;
    let cli = Cli::from_arg_matches(&matches).map_err(BadArgs::Clap)?;
    let mut reader = Reader { errors: Vec::new() };
    let variable = |name: &str| env(name).filter(|it| !it.is_empty()).map(|value| (name.to_owned(), value));
    let given = cli.timeout.clone().map(|it| ("--timeout".to_owned(), it));
    let timeout =
        given.or_else(|| variable("WAIT_TIMEOUT")).and_then(|(name, it)| reader.seconds(&name, &it));
    let try_timeout = reader.seconds("--try-timeout", &cli.try_timeout).unwrap_or_default();
    if try_timeout.is_zero() {
        reader.errors.push("--try-timeout: a try needs more than no time".to_owned());
    }
    let interval = variable("WAIT_SLEEP").and_then(|(name, it)| reader.seconds(&name, &it));
    let steps = reader.steps(&ordered(&matches), interval);
    if steps.is_empty() && cli.run.is_empty() && reader.errors.is_empty() {
        reader.errors.push("there is nothing to wait for and nothing to run (see `wait --help`)".to_owned());
    }
    if cli.run.first().is_some_and(|it| it.is_empty()) {
        reader.errors.push("COMMAND: a program has a name".to_owned());
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

/// The ordered options with their values, in the order given.
fn ordered(matches: &ArgMatches) -> Vec<(&'static str, OsString)> {
    let mut all = Vec::new();
    for id in ORDERED {
        let values = matches.get_many::<OsString>(id).into_iter().flatten();
        let indices = matches.indices_of(id).into_iter().flatten();
        all.extend(indices.zip(values).map(|(index, value)| (index, id, value.clone())));
    }
    all.sort_by_key(|(index, ..)| *index);
    all.into_iter().map(|(_, id, value)| (id, value)).collect()
}

/// Collects mistakes while values are read.
struct Reader {
    errors: Vec<String>,
}

impl Reader {
    fn steps(&mut self, options: &[(&'static str, OsString)], mut interval: Option<Duration>) -> Vec<Step> {
        let (mut steps, mut hold, mut not) = (Vec::new(), Duration::ZERO, false);
        // Once there, what all conditions that follow go into.
        let mut any: Option<Vec<Item>> = None;
        for (id, value) in options {
            match *id {
                "not" if not => self.errors.push("--not: given twice in a row".to_owned()),
                "not" => not = true,
                "any" if any.is_some() => self.errors.push("--any: given twice".to_owned()),
                "any" => any = Some(Vec::new()),
                "sleep" => interval = self.seconds("--sleep", value),
                "hold" => hold = self.seconds("--hold", value).unwrap_or_default(),
                "sleep_for" | "umask" if any.is_some() => {
                    self.errors.push(format!("--{}: give it before --any", id.replace('_', "-")));
                }
                "sleep_for" => steps.extend(self.seconds("--sleep-for", value).map(Step::Pause)),
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
            self.errors.push("--not: a condition has to follow".to_owned());
        }
        match any {
            Some(group) if group.is_empty() && self.errors.is_empty() => {
                self.errors.push("--any: conditions have to follow".to_owned());
            }
            Some(group) => steps.push(Step::Wait(group)),
            None => {}
        }
        steps
    }

    fn seconds(&mut self, name: &str, value: &OsStr) -> Option<Duration> {
        // What `f64` reads beyond that, like `inf` and `1e3`, is no number of seconds to anybody else.
        let number = value
            .to_str()
            .filter(|it| it.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
            .and_then(|it| it.parse::<f64>().ok())
            .filter(|it| *it <= 1e9)
            .and_then(|it| Duration::try_from_secs_f64(it).ok());
        if number.is_none() {
            let value = value.display();
            self.errors.push(format!("{name}: `{value}` is no number of seconds, like 5 or 0.2"));
        }
        number
    }

    fn umask(&mut self, value: &OsStr) -> Option<u32> {
        let digits = value.to_str().filter(|it| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit()));
        let mask = digits.and_then(|it| u32::from_str_radix(it, 8).ok()).filter(|it| *it <= 0o777);
        if mask.is_none() {
            self.errors.push(format!("--umask: `{}` is no octal number from 0 to 777", value.display()));
        }
        mask
    }
}

/// What is wrong with a value, and what would be right.
type Why = String;

fn condition(id: &str, value: &OsStr) -> Result<Condition, Why> {
    if value.is_empty() {
        return Err("it cannot be empty".to_owned());
    }
    // Only these may be any bytes.
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
    let text = value.to_str().ok_or("it is not UTF-8")?;
    Ok(match id {
        "interface" => Condition::Net(Net::Exists(IfPattern::parse(text)?)),
        "ip" => Condition::Net(Net::Ip(interface(text)?, Families::Either)),
        "ip4" => Condition::Net(Net::Ip(interface(text)?, Families::V4)),
        "ip6" => Condition::Net(Net::Ip(interface(text)?, Families::V6)),
        "up" => Condition::Net(Net::Up(interface(text)?)),
        "dad" => Condition::Net(Net::DadDone(interface(text)?)),
        "gone" => Condition::Net(Net::Gone(interface(text)?)),
        "mac" => {
            let (name, mac) = text.split_once('=').ok_or("it is like `eth0=02:00:00:00:00:01`")?;
            Condition::Net(Net::Mac(interface(name)?, mac.parse().map_err(|it| format!("{it}"))?))
        }
        "mtu" => {
            let (name, mtu) = text.split_once('=').ok_or("it is like `eth0=1500`")?;
            let mtu = mtu.parse().map_err(|_| format!("`{mtu}` is no MTU, which is a number like 1500"))?;
            Condition::Net(Net::Mtu(interface(name)?, mtu))
        }
        "if_count" => {
            let (count, pattern) = match text.split_once(':') {
                Some((count, pattern)) => (count, Some(IfPattern::parse(pattern)?)),
                None => (text, None),
            };
            let count = count.parse().map_err(|_| format!("`{count}` is no number of interfaces"))?;
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
        other => return Err(format!("`{other}` is no condition")),
    })
}

fn path(value: &OsStr) -> Result<PathBuf, Why> {
    // It can come from no command line, and the kernel would not take it.
    if value.as_encoded_bytes().contains(&0) {
        Err("it holds a zero byte".to_owned())
    } else {
        Ok(value.into())
    }
}

fn interface(text: &str) -> Result<IfName, Why> {
    text.parse().map_err(|it| format!("{it}"))
}

fn host_name(text: &str) -> Result<String, Why> {
    if text.is_empty() {
        return Err("the host is missing".to_owned());
    }
    match text.chars().find(|it| it.is_whitespace() || it.is_control() || matches!(it, '/' | '[' | ']' | '@'))
    {
        Some(bad) => Err(format!("a host name cannot hold {bad:?}")),
        None => Ok(text.to_owned()),
    }
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
            return Err(format!("a route leads to a network, like `{}`", cidr.net()));
        }
        Ok(Self::Net(cidr))
    }
}

impl Host {
    /// The error says what is wrong and what would be right.
    pub(super) fn parse(text: &str) -> Result<Self, Why> {
        let (name, port) = text.rsplit_once(':').ok_or("it is like `HOST:PORT`, the port is missing")?;
        let name = match name.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']').ok_or("the `]` is missing")?;
                inner
                    .parse::<std::net::Ipv6Addr>()
                    .map_err(|_| format!("`{inner}` is not an IPv6 address"))?;
                inner.to_owned()
            }
            None if name.contains(':') => {
                name.parse::<std::net::Ipv6Addr>()
                    .map_err(|_| format!("`{name}` is neither a host name nor an IPv6 address"))?;
                name.to_owned()
            }
            None => host_name(name)?,
        };
        let number = Some(port).filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
        match number.and_then(|it| it.parse::<u16>().ok()).filter(|it| *it > 0) {
            Some(port) => Ok(Self { name, port, text: text.to_owned() }),
            None => Err(format!("`{port}` is no port, which is a number from 1 to 65535")),
        }
    }
}
