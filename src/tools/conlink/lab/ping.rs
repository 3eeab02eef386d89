//! `lab ping`: do nodes reach each other? On a machine that has no `ping` too.

use std::fs::File;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use crate::api::{FoundNode, Nodes, Request};
use crate::duration;
use crate::kernel::ping::{Answer, Options, Pair, Ping, PingError, all};
use crate::process::node::enter_user;
use crate::process::raise_file_limit;
use crate::tools::conlink::client::PATIENCE;
use crate::tools::conlink::lab::dir::LabDir;
use crate::tools::conlink::lab::exec::{Way, way};
use crate::tools::conlink::lab::{NameArgs, ask};
use crate::{err, out};

/// From where to where.
#[derive(Debug, Args)]
pub(in crate::tools::conlink) struct PingArgs {
    #[command(flatten)]
    name: NameArgs,
    /// How many requests; with several pairs, how often each is tried
    #[arg(short, long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    count: u16,
    /// Time between requests
    #[arg(short, long, value_name = "DURATION", default_value = "200ms", value_parser = limited)]
    interval: Duration,
    /// Time to wait for an answer
    #[arg(short = 'W', long, value_name = "DURATION", default_value = "1s", value_parser = limited)]
    timeout: Duration,
    /// The node to ping from
    from: Option<String>,
    /// What to ping: a node, or an address [default: every other node]
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

pub(super) fn ping(args: &PingArgs) -> anyhow::Result<u8> {
    let dir = args.name.dir()?;
    let Nodes { nodes } = ask(&dir, &Request::Find { nodes: Vec::new() }, Some(PATIENCE))?;
    match (&args.from, &args.to) {
        (Some(from), Some(to)) => one(&dir, args, from, to, &nodes),
        (from, _) => every(&dir, args, from.as_deref(), &nodes),
    }
}

/// The address that a node goes by.
fn address(host: &FoundNode) -> Option<IpAddr> {
    let told = |it: &&IpAddr| !matches!(it, IpAddr::V6(it) if it.is_unicast_link_local());
    host.addresses.iter().find(told).copied()
}

/// A series of requests, with a line for each answer.
fn one(dir: &LabDir, args: &PingArgs, from: &str, to: &str, hosts: &[FoundNode]) -> anyhow::Result<u8> {
    let addr = match to.parse() {
        Ok(it) => it,
        Err(_) => {
            let found = find(dir, to)?;
            let host = hosts.iter().find(|it| it.name == found);
            host.and_then(address).with_context(|| format!("node {found} has no address"))?
        }
    };
    let way = way(dir, Some(from))?;
    let source = way.name.clone();
    let netns = open(way)?;
    let mut ping =
        Ping::open(&netns, addr, &Options::default()).with_context(|| format!("ping from {source}"))?;
    let named = if to == addr.to_string() { String::new() } else { format!(" ({addr})") };
    out(&format!("{source} pings {to}{named}\n"))?;
    let (interval, timeout) = (args.interval, args.timeout);
    let mut times = Vec::new();
    for seq in 1..=args.count {
        let sent = Instant::now();
        let last = seq == args.count;
        if let Err(error) = ping.send(seq) {
            out(&format!("seq={seq}: {error}\n"))?;
        } else {
            receive(&mut ping, seq, sent + timeout, &mut times)?;
        }
        if !last {
            std::thread::sleep((sent + interval).saturating_duration_since(Instant::now()));
        }
    }
    let lost = usize::from(args.count) - times.len();
    let mut text = format!(
        "{} sent, {} received, {}% lost",
        args.count,
        times.len(),
        100 * lost / usize::from(args.count)
    );
    if let (Some(least), Some(most)) = (times.iter().min(), times.iter().max()) {
        let mean = times.iter().sum::<Duration>() / u32::try_from(times.len()).unwrap_or(1);
        text += &format!("; min/avg/max {}/{}/{} ms", ms(*least), ms(mean), ms(*most));
    }
    out(&format!("{text}\n"))?;
    Ok(u8::from(times.is_empty()))
}

/// Prints what comes until the answer to that request has.
fn receive(ping: &mut Ping, wanted: u16, until: Instant, times: &mut Vec<Duration>) -> anyhow::Result<()> {
    while let Some(answer) = ping.reply(until).context("receive")? {
        match answer {
            Answer::Echo { seq, from, ttl, time, bytes, duplicate } => {
                let ttl = ttl.map(|it| format!(" ttl={it}")).unwrap_or_default();
                let again = if duplicate { " (again)" } else { "" };
                out(&format!("{bytes} bytes from {from}: seq={seq}{ttl} time={} ms{again}\n", ms(time)))?;
                if !duplicate {
                    times.push(time);
                }
                if seq == wanted {
                    return Ok(());
                }
            }
            Answer::Unreachable { seq, from, reason } => {
                out(&format!("from {from}: seq={seq} {reason}\n"))?;
                if seq == wanted {
                    return Ok(());
                }
            }
        }
    }
    out(&format!("seq={wanted} no answer\n"))
}

/// From each node, or from one, to every other.
fn every(dir: &LabDir, args: &PingArgs, from: Option<&str>, hosts: &[FoundNode]) -> anyhow::Result<u8> {
    raise_file_limit();
    let from = from.map(|it| find(dir, it)).transpose()?;
    let targets: Vec<(&str, IpAddr)> =
        hosts.iter().filter_map(|it| Some((it.name.as_str(), address(it)?))).collect();
    let mut sources = Vec::new();
    for host in hosts.iter().filter(|it| from.as_ref().is_none_or(|from| *from == it.name)) {
        if from.is_some() || address(host).is_some() {
            sources.push((host.name.as_str(), way(dir, Some(&host.name))?));
        }
    }
    if targets.len() < 2 {
        bail!("lab `{}` has no two nodes with addresses", dir.name());
    }
    let mut opened = Vec::new();
    for (name, way) in sources {
        opened.push((name, open(way)?));
    }
    let mut pairs = Vec::new();
    let mut between = Vec::new();
    for (source, netns) in &opened {
        for (target, to) in targets.iter().filter(|(it, _)| it != source) {
            pairs.push(Pair { netns, to: *to });
            between.push((*source, *target));
        }
    }
    let results = all(&pairs, u32::from(args.count), args.timeout);
    let answered = show(&between, &pairs, &results)?;
    Ok(u8::from(answered < results.len()))
}

/// A line for each node that was pinged from; answers how many were answered.
fn show(
    between: &[(&str, &str)],
    pairs: &[Pair<'_>],
    results: &[Result<Duration, PingError>],
) -> anyhow::Result<usize> {
    let width = between.iter().map(|(it, _)| it.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    let mut failures = String::new();
    let mut answered = 0;
    let mut last = "";
    for (((source, target), pair), result) in between.iter().zip(pairs).zip(results) {
        if *source != last {
            if !last.is_empty() {
                text += "\n";
            }
            text += &format!("{source:<width$} ->");
            last = source;
        }
        match result {
            Ok(time) => {
                answered += 1;
                text += &format!("  {target} {} ms", ms(*time));
            }
            Err(failure) => {
                text += &format!("  {target} X");
                failures += &format!("{source} -> {target} ({}): {failure}\n", pair.to);
            }
        }
    }
    out(&format!("{text}\n{answered} of {} answered\n", results.len()))?;
    err(&failures);
    Ok(answered)
}

fn ms(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64() * 1000.0)
}

/// What the lab calls a node that a person calls by `word`.
fn find(dir: &LabDir, word: &str) -> anyhow::Result<String> {
    let found: Nodes = ask(dir, &Request::Find { nodes: vec![word.to_owned()] }, Some(PATIENCE))?;
    found.nodes.into_iter().next().map(|it| it.name).context("the lab's keeper named no node")
}

/// The node's network namespace, from whichever user namespace we are in.
fn open(way: Way) -> anyhow::Result<File> {
    if way.other_user && !is_inside(&way) {
        enter_user(&way.pidfd).context("enter the lab's user namespace")?;
    }
    Ok(File::from(way.pidfd))
}

/// Have we entered the lab's user namespace already?
fn is_inside(way: &Way) -> bool {
    std::fs::read_link("/proc/self/ns/user").is_ok_and(|it| it.to_str() == Some(way.user_namespace.as_str()))
}
