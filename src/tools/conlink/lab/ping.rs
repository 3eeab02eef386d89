//! `lab ping`: echo requests between nodes, also on a machine without a `ping` program.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::IsTerminal;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use globset::Glob;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use terminal_size::{Width, terminal_size_of};

use crate::api::{FoundNode, Nodes, Request};
use crate::duration;
use crate::kernel::netns;
use crate::kernel::ping::{Answer, Options, Pair, Ping, PingError, all_watched, own_addresses};
use crate::process::node::enter_user;
use crate::process::{Signals, raise_file_limit};
use crate::tools::conlink::lab::dir::LabDir;
use crate::tools::conlink::lab::exec::{Way, way};
use crate::tools::conlink::lab::grid::{Cell, Grid, Style, grid, ms};
use crate::tools::conlink::lab::progress::{Progress, some_of};
use crate::tools::conlink::lab::which::{NameArgs, ask};
use crate::tools::conlink::socket::PATIENCE;
use crate::{err, out};

/// Failures that are listed below the grid.
const LISTED: usize = 20;

/// The longest time until a signal is noticed.
const SLICE: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(in crate::tools::conlink) struct PingArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Number of requests; between many nodes, the number of tries per pair
    #[arg(short, long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    count: u16,
    /// Time between two requests, such as 1s or 200ms
    #[arg(short, long, default_value = "200ms", value_name = "DURATION", value_parser = limited)]
    interval: Duration,
    /// Time to wait for a reply
    #[arg(short = 'W', long, default_value = "1s", value_name = "DURATION", value_parser = limited)]
    timeout: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print the summary only
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
    /// Source: a node, or a pattern such as 'h*' [default: all nodes]
    from: Option<String>,
    /// Destination: a node, a pattern, or an IP address [default: all other nodes]
    to: Option<String>,
}

/// Parses a duration from a millisecond to an hour.
fn limited(text: &str) -> Result<Duration, String> {
    let time = duration::parse(text).map_err(|it| it.to_string())?;
    match (Duration::from_millis(1)..=Duration::from_secs(3600)).contains(&time) {
        true => Ok(time),
        false => Err("expected a duration from `1ms` to `1h`".to_owned()),
    }
}

/// What is pinged.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    label: String,
    /// Never empty.
    addresses: Vec<IpAddr>,
}

/// A node to ping from.
struct Source {
    name: String,
    netns: File,
    inode: u64,
}

pub(super) fn ping(args: &PingArgs) -> anyhow::Result<u8> {
    let dir = args.name.dir()?;
    let Nodes { nodes } = ask(&dir, &Request::Find { nodes: Vec::new() }, Some(PATIENCE))?;
    match (&args.from, &args.to) {
        (Some(from), Some(to)) if !is_pattern(from) && !is_pattern(to) => {
            series(&dir, args, from, to, &nodes)
        }
        _ => many(&dir, args, &nodes),
    }
}

fn is_pattern(word: &str) -> bool {
    word.contains(['*', '?', '[', '{'])
}

/// The addresses that a node can be pinged at.
fn addresses(node: &FoundNode) -> Vec<IpAddr> {
    let is_link_local = |it: &IpAddr| matches!(it, IpAddr::V6(it) if it.is_unicast_link_local());
    node.addresses.iter().filter(|it| !is_link_local(it)).copied().collect()
}

/// Sends a series of requests and prints a line for each reply.
fn series(dir: &LabDir, args: &PingArgs, from: &str, to: &str, nodes: &[FoundNode]) -> anyhow::Result<u8> {
    let source = source(dir, from)?;
    let target = match to.parse() {
        Ok(it) => Target { label: to.to_owned(), addresses: vec![it] },
        Err(_) => {
            let found = find(dir, to)?;
            let node = nodes.iter().find(|it| it.name == found);
            let addresses = node.map(addresses).unwrap_or_default();
            if addresses.is_empty() {
                bail!("node {found} has no address");
            }
            Target { label: found, addresses }
        }
    };
    let own = own_addresses(&source.netns, &target.addresses)?;
    let Some((addr, is_own)) = preferred(&target.addresses, &own) else { bail!("{to} has no address") };
    if is_own && target.label != source.name {
        // A reply would come from the source itself.
        bail!(
            "{addr} is an address of {} itself: a reply would not show that {to} is reachable",
            source.name
        );
    }
    let mut ping = Ping::open(&source.netns, addr, &Options::default())
        .with_context(|| format!("ping from {}", source.name))?;
    let named = if to == addr.to_string() { String::new() } else { format!(" ({addr})") };
    let mut says = Says { lines: !args.quiet && !args.json, signals: Signals::hold()?, signal: None };
    says.line(&format!("{} pings {to}{named}", source.name))?;
    let mut times = Vec::new();
    let mut count = 0;
    for seq in 1..=args.count {
        let sent = Instant::now();
        count = seq;
        if let Err(error) = ping.send(seq) {
            says.line(&format!("seq={seq}: {error}"))?;
        } else {
            receive(&mut ping, seq, sent + args.timeout, &mut times, &mut says)?;
        }
        if seq < args.count {
            says.sleep((sent + args.interval).saturating_duration_since(Instant::now()))?;
        }
        if says.signal.is_some() {
            break;
        }
    }
    if args.json {
        let ms: Vec<f64> = times.iter().map(|it| in_ms(*it)).collect();
        let pair = json!({"from": source.name, "to": target.label, "address": addr, "sent": count,
            "received": times.len(), "ms": ms});
        print_json(dir, vec![pair], usize::from(!times.is_empty()), 1)?;
    } else {
        out(&format!("{}\n", summary(count, &times)))?;
    }
    Ok(u8::from(times.is_empty()))
}

fn summary(count: u16, times: &[Duration]) -> String {
    let (sent, received) = (usize::from(count), times.len());
    let mut text = format!(
        "{sent} sent, {received} received, {}% lost",
        100 * (sent - received.min(sent)) / sent.max(1)
    );
    if let (Some(least), Some(most)) = (times.iter().min(), times.iter().max()) {
        let mean = times.iter().sum::<Duration>() / u32::try_from(received).unwrap_or(1);
        text += &format!("; min/avg/max {}/{}/{} ms", ms(*least), ms(mean), ms(*most));
    }
    text
}

/// The output of a series, and the signal that ends it.
struct Says {
    lines: bool,
    signals: Signals,
    signal: Option<u8>,
}

impl Says {
    fn line(&self, text: &str) -> anyhow::Result<()> {
        if self.lines { out(&format!("{text}\n")) } else { Ok(()) }
    }

    /// Whether a signal has arrived.
    fn is_over(&mut self) -> anyhow::Result<bool> {
        if self.signal.is_none() {
            self.signal = self.signals.next(&[]).context("read signals")?.ending;
        }
        Ok(self.signal.is_some())
    }

    /// Sleeps until a signal arrives, at most for that time.
    fn sleep(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        while !self.is_over()? && Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now()).min(SLICE);
            let left = PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::ZERO);
            let _ = poll(&mut [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)], left);
        }
        Ok(())
    }
}

/// Prints replies until the one to the last request has come.
fn receive(
    ping: &mut Ping,
    wanted: u16,
    until: Instant,
    times: &mut Vec<Duration>,
    says: &mut Says,
) -> anyhow::Result<()> {
    loop {
        let answer = ping.reply(until.min(Instant::now() + SLICE)).context("receive")?;
        match answer {
            None if says.is_over()? => return Ok(()),
            None if Instant::now() >= until => return says.line(&format!("seq={wanted} no answer")),
            None => {}
            Some(Answer::Echo { seq, from, ttl, time, bytes, duplicate }) => {
                let ttl = ttl.map(|it| format!(" ttl={it}")).unwrap_or_default();
                let again = if duplicate { " (duplicate)" } else { "" };
                let time_ms = ms(time);
                says.line(&format!("{bytes} bytes from {from}: seq={seq}{ttl} time={time_ms} ms{again}"))?;
                if !duplicate {
                    times.push(time);
                }
                if seq == wanted {
                    return Ok(());
                }
            }
            Some(Answer::Unreachable { seq, from, reason }) => {
                says.line(&format!("from {from}: seq={seq} {reason}"))?;
                if seq == wanted {
                    return Ok(());
                }
            }
        }
    }
}

/// A pair of a source and a target that is not the same node.
struct Between {
    source: usize,
    target: usize,
    address: IpAddr,
    /// The address is also one of the source's own.
    is_own: bool,
}

/// Pings from several nodes, or to several, and prints a grid.
fn many(dir: &LabDir, args: &PingArgs, nodes: &[FoundNode]) -> anyhow::Result<u8> {
    raise_file_limit();
    let targets = targets(dir, args.to.as_deref(), nodes)?;
    let mut sources = Vec::new();
    for it in selected(dir, args.from.as_deref(), nodes)? {
        // A node that has no network of its own, or none at all, is pinged from only if it is named.
        if args.from.is_some() || !addresses(it).is_empty() {
            sources.push(source(dir, &it.name)?);
        }
    }
    let between = between(&sources, &targets)?;
    if between.is_empty() {
        bail!("lab `{}` has no two nodes with addresses to ping between", dir.name());
    }
    if !args.quiet {
        shared(&targets).iter().for_each(|it| err(it));
    }
    let mut pairs = Vec::new();
    for it in between.iter().filter(|it| !it.is_own) {
        let Some(source) = sources.get(it.source) else { continue };
        pairs.push(Pair { netns: &source.netns, to: it.address });
    }
    let signals = Signals::hold().context("block signals")?;
    let mut signal = None;
    let mut progress = Progress::on_terminal(args.quiet || args.json);
    let results = all_watched(&pairs, u32::from(args.count), args.timeout, |done| {
        progress.show(|| format!("{done}/{} pings", pairs.len()));
        signal = signals.next(&[]).ok().and_then(|it| it.ending);
        signal.is_none()
    });
    progress.clear();
    let mut results = results.into_iter();
    let outcomes: Vec<Outcome> =
        between.iter().map(|it| if it.is_own { Outcome::Own } else { Outcome::of(results.next()) }).collect();
    let answered = outcomes.iter().filter(|it| matches!(it, Outcome::Answered(_))).count();
    if args.json {
        let pair = |(it, outcome): (&Between, &Outcome)| {
            let names = sources.get(it.source).zip(targets.get(it.target));
            let (from, to) = names.map(|(from, to)| (from.name.as_str(), to.label.as_str())).unzip();
            json!({"from": from, "to": to, "address": it.address, "ms": outcome.ms(), "error": outcome.error()})
        };
        let pairs = between.iter().zip(&outcomes).map(pair).collect();
        print_json(dir, pairs, answered, between.len())?;
    } else {
        show(args, &sources, &targets, &between, &outcomes)?;
    }
    // The convention of shells.
    Ok(signal.map_or(u8::from(answered < between.len()), |it| 128 + it))
}

/// What came of a pair.
enum Outcome {
    Answered(Duration),
    Failed(PingError),
    /// The address is the source's own: a reply would prove nothing.
    Own,
    Unfinished,
}

impl Outcome {
    fn of(result: Option<Option<Result<Duration, PingError>>>) -> Self {
        match result.flatten() {
            Some(Ok(it)) => Self::Answered(it),
            Some(Err(it)) => Self::Failed(it),
            None => Self::Unfinished,
        }
    }

    fn ms(&self) -> Option<f64> {
        match self {
            Self::Answered(it) => Some(in_ms(*it)),
            _ => None,
        }
    }

    fn error(&self) -> Option<String> {
        match self {
            Self::Answered(_) => None,
            Self::Failed(it) => Some(it.to_string()),
            Self::Own => Some("the source has this address too".to_owned()),
            Self::Unfinished => Some("interrupted".to_owned()),
        }
    }

    fn cell(&self) -> Cell {
        match self {
            Self::Answered(it) => Cell::Answered(*it),
            Self::Failed(_) | Self::Own => Cell::Failed,
            Self::Unfinished => Cell::Unfinished,
        }
    }
}

/// The nodes that a word or a pattern names; without one, all.
fn selected<'a>(
    dir: &LabDir,
    word: Option<&str>,
    nodes: &'a [FoundNode],
) -> anyhow::Result<Vec<&'a FoundNode>> {
    let Some(word) = word else { return Ok(nodes.iter().collect()) };
    if !is_pattern(word) {
        let name = find(dir, word)?;
        return Ok(nodes.iter().filter(|it| it.name == name).collect());
    }
    let pattern = Glob::new(word).with_context(|| format!("invalid pattern `{word}`"))?.compile_matcher();
    let found: Vec<&FoundNode> =
        nodes.iter().filter(|it| pattern.is_match(&it.name) || pattern.is_match(&it.container)).collect();
    if found.is_empty() {
        let names: Vec<&str> = nodes.iter().map(|it| it.name.as_str()).collect();
        bail!("no node matches `{word}`; nodes: {}", some_of(&names));
    }
    Ok(found)
}

/// The nodes with addresses that a word or a pattern names, or a single address; without a word, all nodes.
fn targets(dir: &LabDir, word: Option<&str>, nodes: &[FoundNode]) -> anyhow::Result<Vec<Target>> {
    if let Some(address) = word.and_then(|it| it.parse::<IpAddr>().ok()) {
        return Ok(vec![Target { label: address.to_string(), addresses: vec![address] }]);
    }
    let found = selected(dir, word, nodes)?;
    let targets = found.into_iter().map(|it| Target { label: it.name.clone(), addresses: addresses(it) });
    Ok(targets.filter(|it| !it.addresses.is_empty()).collect())
}

/// Warnings about addresses that several targets have.
fn shared(targets: &[Target]) -> Vec<String> {
    let mut owners: BTreeMap<IpAddr, Vec<&str>> = BTreeMap::new();
    for it in targets {
        it.addresses.iter().for_each(|address| owners.entry(*address).or_default().push(&it.label));
    }
    let several = owners.into_iter().filter(|(_, names)| names.len() > 1);
    several
        .map(|(address, names)| {
            format!("warning: {address} is an address of {}; any of them may reply\n", some_of(&names))
        })
        .collect()
}

/// The address to ping, preferably one that the source does not have itself, and whether the source has it.
fn preferred(addresses: &[IpAddr], own: &[bool]) -> Option<(IpAddr, bool)> {
    addresses.iter().copied().zip(own.iter().copied()).min_by_key(|(_, is_own)| *is_own)
}

/// Every pair of a source and a target in another network, with the address to ping.
fn between(sources: &[Source], targets: &[Target]) -> anyhow::Result<Vec<Between>> {
    let all: Vec<IpAddr> = targets.iter().flat_map(|it| it.addresses.iter().copied()).collect();
    let networks: BTreeMap<&str, u64> = sources.iter().map(|it| (it.name.as_str(), it.inode)).collect();
    let mut between = Vec::new();
    for (source, it) in sources.iter().enumerate() {
        let own = own_addresses(&it.netns, &all).with_context(|| format!("enter node {}", it.name))?;
        let mut own = own.into_iter();
        for (target, other) in targets.iter().enumerate() {
            let own: Vec<bool> = own.by_ref().take(other.addresses.len()).collect();
            if it.name == other.label || networks.get(other.label.as_str()) == Some(&it.inode) {
                continue;
            }
            let Some((address, is_own)) = preferred(&other.addresses, &own) else { continue };
            between.push(Between { source, target, address, is_own });
        }
    }
    Ok(between)
}

/// Prints the grid, the failures and the summary.
fn show(
    args: &PingArgs,
    sources: &[Source],
    targets: &[Target],
    between: &[Between],
    outcomes: &[Outcome],
) -> anyhow::Result<()> {
    let mut cells = vec![vec![Cell::Same; targets.len()]; sources.len()];
    let mut failures = Vec::new();
    for (it, outcome) in between.iter().zip(outcomes) {
        if let Some(cell) = cells.get_mut(it.source).and_then(|row| row.get_mut(it.target)) {
            *cell = outcome.cell();
        }
        if let (Outcome::Failed(_) | Outcome::Own, Some(why)) = (outcome, outcome.error())
            && let Some((from, to)) = sources.get(it.source).zip(targets.get(it.target))
        {
            failures.push(format!("{} -> {} ({}): {why}\n", from.name, to.label, it.address));
        }
    }
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|it| wanted(it)).count();
    let answered = count(|it| matches!(it, Outcome::Answered(_)));
    let unfinished = count(|it| matches!(it, Outcome::Unfinished));
    if !args.quiet {
        let it = Grid {
            sources: sources.iter().map(|it| it.name.as_str()).collect(),
            targets: targets.iter().map(|it| it.label.as_str()).collect(),
            cells,
        };
        let stdout = std::io::stdout();
        let width = terminal_size_of(&stdout).map(|(Width(it), _)| usize::from(it)).filter(|it| *it > 0);
        // A file may have lines of any length, and a reader of its own.
        let utf8 = !stdout.is_terminal() || is_utf8();
        out(&grid(&it, Style { width, utf8 }))?;
    }
    let open = if unfinished > 0 { format!(", {unfinished} not finished") } else { String::new() };
    out(&format!("{answered} of {} answered{open}\n", between.len()))?;
    if !args.quiet {
        let more = failures.len().saturating_sub(LISTED);
        err(&failures.into_iter().take(LISTED).collect::<String>());
        if more > 0 {
            err(&format!("and {more} more; `--json` prints all\n"));
        }
    }
    Ok(())
}

/// Whether the locale's encoding is UTF-8.
fn is_utf8() -> bool {
    let set = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default().to_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

fn print_json(dir: &LabDir, pairs: Vec<Value>, answered: usize, total: usize) -> anyhow::Result<()> {
    let all = json!({"lab": dir.name(), "answered": answered, "total": total, "pairs": pairs});
    out(&format!("{all}\n"))
}

/// In milliseconds, to the microsecond.
fn in_ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

/// The short name of the node with that name.
fn find(dir: &LabDir, word: &str) -> anyhow::Result<String> {
    let found: Nodes = ask(dir, &Request::Find { nodes: vec![word.to_owned()] }, Some(PATIENCE))?;
    found.nodes.into_iter().next().map(|it| it.name).context("the lab's keeper returned no node")
}

/// Opens the network namespace of a node, also if it is in another user namespace.
fn source(dir: &LabDir, node: &str) -> anyhow::Result<Source> {
    let way = way(dir, Some(node))?;
    if way.other_user && !is_inside(&way) {
        enter_user(&way.pidfd).context("enter the lab's user namespace")?;
    }
    // Before Linux 6.9 all pidfds have the same inode, so the namespace itself is opened.
    let what = || format!("enter node {}", way.name);
    let netns = netns::inside(&File::from(way.pidfd), netns::own).with_context(what)?;
    let inode = netns::inode(&netns).with_context(what)?;
    Ok(Source { name: way.name, netns, inode })
}

/// Whether this process is in the lab's user namespace.
fn is_inside(way: &Way) -> bool {
    std::fs::read_link("/proc/self/ns/user").is_ok_and(|it| it.to_str() == Some(way.user_namespace.as_str()))
}
