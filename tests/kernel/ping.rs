//! Echo requests: between namespaces on a bridge, through routers that refuse, beside others' pings, all to all.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use conlink::kernel::netns;
use conlink::kernel::ping::{self, Answer, Failure, Options, Pair, Ping, Reason};

use crate::support::{inside, ip, may_unshare};

/// How long an answer may take on a machine that is busy.
const SOON: Duration = Duration::from_secs(5);

/// Namespaces with an `eth0` each on one bridge: 10.0.0.1 and fd00::1 the first, and so on.
struct Lan {
    _bridge: File,
    nodes: Vec<File>,
}

impl Lan {
    fn new(test: &str, count: usize) -> Option<Self> {
        if !may_unshare(test) {
            return None;
        }
        let bridge = netns::anonymous().unwrap();
        ip(&bridge, "link add lan type bridge mcast_snooping 0");
        ip(&bridge, "link set lan up");
        let nodes = (1..=count).map(|it| {
            let node = netns::anonymous().unwrap();
            let fd = std::os::fd::AsRawFd::as_raw_fd(&node);
            let us = std::process::id();
            // One program for all of a node's commands: many nodes are made.
            let outside = format!("link add v{it} type veth peer eth0 netns /proc/{us}/fd/{fd}\nlink set v{it} master lan up\n");
            batch(&bridge, &outside);
            let group = it / 250;
            let host = it % 250;
            batch(
                &node,
                &format!(
                    "addr add 10.0.{group}.{host}/16 dev eth0\naddr add fd00::{it:x}/64 dev eth0 nodad\nlink set lo up\nlink set eth0 up\n"
                ),
            );
            node
        });
        let nodes = nodes.collect();
        Some(Self { _bridge: bridge, nodes })
    }
}

fn batch(netns: &File, commands: &str) {
    let script = format!("printf '%s' '{commands}' | ip -batch -");
    inside(netns, "sh", &["-c", &script]);
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn open(netns: &File, to: &str) -> Ping {
    Ping::open(netns, addr(to), &Options::default()).unwrap()
}

fn reply(ping: &mut Ping) -> Answer {
    ping.reply(Instant::now() + SOON).unwrap().expect("no answer comes")
}

fn refused(ping: &mut Ping) -> Option<i32> {
    ping.send(1).unwrap_err().raw_os_error()
}

#[test]
fn zz_speed() {
    let count: usize = std::env::var("N").unwrap_or("100".into()).parse().unwrap();
    let Some(lan) = Lan::new("speed", count) else { return };
    let mut pairs = Vec::new();
    for (i, a) in lan.nodes.iter().enumerate() {
        for j in 0..count {
            if i != j {
                let to = addr(&format!("10.0.{}.{}", (j + 1) / 250, (j + 1) % 250));
                pairs.push(Pair { netns: a, to });
            }
        }
    }
    for _ in 0..2 {
        let start = Instant::now();
        let results = ping::all(&pairs, 2, Duration::from_secs(1));
        let ok = results.iter().filter(|it| it.is_ok()).count();
        eprintln!("{} pairs, {ok} ok in {:?}", pairs.len(), start.elapsed());
        let mut times: Vec<_> = results.iter().flatten().collect();
        times.sort();
        eprintln!("median {:?} max {:?}", times[times.len() / 2], times[times.len() - 1]);
        if let Some(Err(e)) = results.iter().find(|it| it.is_err()) {
            eprintln!("{e}");
        }
    }
}
