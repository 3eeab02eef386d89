//! Pings between many pairs at the same time, such as all pairs of nodes.
//!
//! One socket per namespace and family serves all pairs that start there, distinguished by sequence numbers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};

use crate::kernel::netns;
use crate::kernel::ping::message::{Reason, is_start_of};
use crate::kernel::ping::neighbours::{Neighbours, most};
use crate::kernel::ping::socket::{self, Received, Socket};
use crate::kernel::ping::{Options, payload};

/// Most requests that are sent before answers are read, less than the queue of a network device (`netdev_max_backlog`).
const BURST: usize = 64;

/// The longest time between two calls of the observer.
const WATCH: Duration = Duration::from_millis(100);

/// Time until a request is sent again for which the kernel had no room.
const PAUSE: Duration = Duration::from_millis(10);

/// The source and destination of a ping.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    pub netns: &'a File,
    pub to: IpAddr,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum PingError {
    /// No answer in time.
    Silent,
    /// A router could not forward the request.
    Unreachable { from: IpAddr, reason: Reason },
    /// The request was not sent: an error of [`Ping::open`](super::Ping::open) or [`Ping::send`](super::Ping::send).
    Failed(io::Error),
}

impl fmt::Display for PingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("no answer"),
            Self::Unreachable { from, reason } => write!(f, "{reason} (from {from})"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PingError {}

/// Sends echo requests for all pairs as fast as possible. Returns the round-trip time of each pair.
///
/// A pair without an answer within `timeout` is tried again, at most `tries` times in all (at least 1). If there are so
/// many pairs that the kernel's neighbour table would overflow, the entries of finished pairs are removed from it. It
/// is fastest if both directions of two nodes follow each other, because the first request teaches the other node the
/// address.
pub fn all(pairs: &[Pair<'_>], tries: u32, timeout: Duration) -> Vec<Result<Duration, PingError>> {
    let results = all_watched(pairs, tries, timeout, |_| true);
    results.into_iter().map(|it| it.unwrap_or(Err(PingError::Silent))).collect()
}

/// As [`all`], and calls `watch` with the number of finished pairs, at least every 100 ms. When it returns false, the pairs
/// that are not finished have no result.
pub fn all_watched(
    pairs: &[Pair<'_>],
    tries: u32,
    timeout: Duration,
    mut watch: impl FnMut(usize) -> bool,
) -> Vec<Option<Result<Duration, PingError>>> {
    let mut run = Run::new(pairs, tries.max(1), timeout);
    while run.open > 0 && watch(pairs.len() - run.open) {
        run.send_again();
        run.send_first();
        for station in run.wait() {
            run.receive(station);
        }
        run.forget_neighbours();
    }
    run.states.into_iter().map(|it| it.result).collect()
}

/// The socket of one namespace and family.
struct Station {
    socket: Socket,
    next_seq: u16,
    /// The outstanding requests by sequence number.
    sent: BTreeMap<u16, Request>,
    /// Only if entries must be removed.
    neighbours: Option<Neighbours>,
}

#[derive(Clone, Copy)]
struct Request {
    pair: usize,
    at: Duration,
}

struct State {
    station: usize,
    to: SocketAddr,
    /// Number of sent requests.
    tries: u32,
    since: Option<Instant>,
    result: Option<Result<Duration, PingError>>,
}

struct Run {
    stations: Vec<Station>,
    states: Vec<State>,
    /// Pairs without a result.
    open: usize,
    /// Pairs that have not started.
    fresh: VecDeque<usize>,
    /// When pairs that have started are checked again.
    timers: BTreeSet<(Instant, usize)>,
    room: Room,
    tries: u32,
    timeout: Duration,
    payload: Vec<u8>,
    buffer: Vec<u8>,
}

/// Number of pairs with entries in the kernel's neighbour table.
#[derive(Clone, Copy)]
struct Room {
    most: usize,
    /// Started pairs whose entries have not been removed.
    taken: usize,
    /// Finished pairs among them.
    done: usize,
}

impl Run {
    fn new(pairs: &[Pair<'_>], tries: u32, timeout: Duration) -> Self {
        let options = Options::default();
        // A pair needs two entries, one for each direction, and half of the table is left to others.
        let most = (most(false).min(most(true)) / 4).max(1);
        let mut run = Self {
            stations: Vec::new(),
            states: Vec::new(),
            open: 0,
            fresh: VecDeque::new(),
            timers: BTreeSet::new(),
            room: Room { most, taken: 0, done: 0 },
            tries,
            timeout,
            payload: payload(options.size),
            buffer: vec![0; socket::LONGEST],
        };
        // A namespace that cannot be opened is not tried again for each pair.
        let mut found: BTreeMap<(u64, bool), Result<usize, Cause>> = BTreeMap::new();
        for (index, pair) in pairs.iter().enumerate() {
            let v6 = pair.to.is_ipv6();
            let station = netns::inode(pair.netns).map_err(|it| Cause::of(&it)).and_then(|inode| {
                let opened = found.entry((inode, v6));
                *opened.or_insert_with(|| {
                    let station = Station::open(pair.netns, v6, &options, pairs.len() > most);
                    run.stations.push(station.map_err(|it| Cause::of(&it))?);
                    Ok(run.stations.len() - 1)
                })
            });
            let (station, result) = match station {
                Ok(station) => (station, None),
                Err(cause) => (usize::MAX, Some(Err(PingError::Failed(cause.into())))),
            };
            if result.is_none() {
                run.fresh.push_back(index);
                run.open += 1;
            }
            let to = SocketAddr::new(pair.to, 0);
            run.states.push(State { station, to, tries: 0, since: None, result });
        }
        run
    }

    /// Sends again for pairs whose time is over, or ends them.
    fn send_again(&mut self) {
        let now = Instant::now();
        for _ in 0..BURST {
            let Some(&(at, pair)) = self.timers.first() else { break };
            if at > now {
                break;
            }
            self.timers.pop_first();
            match self.states.get(pair) {
                Some(state) if state.result.is_some() => {}
                Some(state) if state.tries >= self.tries => self.finish(pair, Err(PingError::Silent)),
                _ => self.send(pair),
            }
        }
    }

    fn send_first(&mut self) {
        for _ in 0..BURST {
            if self.room.taken >= self.room.most {
                break;
            }
            let Some(pair) = self.fresh.pop_front() else { break };
            self.room.taken += 1;
            self.send(pair);
        }
    }

    fn send(&mut self, pair: usize) {
        let Some(state) = self.states.get_mut(pair) else { return };
        let Some(station) = self.stations.get_mut(state.station) else { return };
        let seq = station.next_seq;
        station.next_seq = seq.wrapping_add(1);
        station.sent.insert(seq, Request { pair, at: socket::now() });
        let sent = station.socket.send(state.to, seq, &self.payload);
        let now = Instant::now();
        let since = *state.since.get_or_insert(now);
        match sent {
            Ok(()) => {
                state.tries += 1;
                self.timers.insert((now + self.timeout, pair));
            }
            Err(error) if is_passing(&error) && now - since < self.timeout * self.tries => {
                self.timers.insert((now + PAUSE, pair));
            }
            Err(error) => self.finish(pair, Err(PingError::Failed(error))),
        }
    }

    fn finish(&mut self, pair: usize, result: Result<Duration, PingError>) {
        if let Some(state) = self.states.get_mut(pair)
            && state.result.is_none()
        {
            state.result = Some(result);
            self.open -= 1;
            self.room.done += 1;
        }
    }

    /// Waits until there is something to do. Returns the stations with received messages.
    fn wait(&self) -> Vec<usize> {
        let now = Instant::now();
        let may_begin = !self.fresh.is_empty() && self.room.taken < self.room.most;
        let next = self.timers.first().filter(|_| !may_begin).map_or(now, |(at, _)| *at);
        let sockets = self.stations.iter().map(|it| it.socket.as_fd());
        let mut polled: Vec<_> = sockets.map(|it| PollFd::new(it, PollFlags::POLLIN)).collect();
        match poll(&mut polled, socket::milliseconds(next.saturating_duration_since(now).min(WATCH))) {
            Ok(_) => (0..).zip(polled).filter(|(_, it)| it.any() == Some(true)).map(|(it, _)| it).collect(),
            // All are read without waiting anyway.
            Err(_) => (0..self.stations.len()).collect(),
        }
    }

    fn receive(&mut self, index: usize) {
        let mut results = Vec::new();
        let Some(station) = self.stations.get_mut(index) else { return };
        // An unreadable answer counts as missing.
        while let Ok(Some(received)) = station.socket.receive(&mut self.buffer) {
            match received {
                Received::Echo { seq, at, payload, .. } if payload == self.payload => {
                    if let Some(request) = station.sent.remove(&seq) {
                        results.push((request.pair, Ok(at.saturating_sub(request.at))));
                    }
                }
                Received::Error { seq, from, to, reason, quoted } if is_start_of(quoted, &self.payload) => {
                    let request = station.sent.get(&seq).copied();
                    let of = |it: &Request| self.states.get(it.pair).is_some_and(|it| it.to.ip() == to);
                    if let Some(request) = request.filter(of) {
                        results.push((request.pair, Err(PingError::Unreachable { from, reason })));
                    }
                }
                _ => {}
            }
        }
        for (pair, result) in results {
            self.finish(pair, result);
        }
    }

    /// Removes neighbour entries if there is no room for more pairs and enough pairs have finished.
    fn forget_neighbours(&mut self) {
        let Room { most, taken, done } = self.room;
        if self.fresh.is_empty() || taken < most || done < most.div_ceil(4) {
            return;
        }
        for neighbours in self.stations.iter_mut().filter_map(|it| it.neighbours.as_mut()) {
            if let Err(error) = neighbours.forget() {
                log::debug!("{error}");
            }
        }
        self.room = Room { most, taken: taken - done, done: 0 };
    }
}

impl Station {
    fn open(netns: &File, v6: bool, options: &Options, many: bool) -> io::Result<Self> {
        let (socket, _) = Socket::open(netns, v6, options)?;
        let neighbours = many.then(|| Neighbours::open(netns, v6)).transpose()?;
        Ok(Self { socket, next_seq: 1, sent: BTreeMap::new(), neighbours })
    }
}

/// An error in a form that can be copied.
#[derive(Clone, Copy)]
enum Cause {
    Number(i32),
    Kind(io::ErrorKind),
}

impl Cause {
    fn of(error: &io::Error) -> Self {
        error.raw_os_error().map_or(Self::Kind(error.kind()), Self::Number)
    }
}

impl From<Cause> for io::Error {
    fn from(it: Cause) -> Self {
        match it {
            Cause::Number(it) => Self::from_raw_os_error(it),
            Cause::Kind(it) => it.into(),
        }
    }
}

/// Is the error temporary: a full queue or table, an IPv6 address that is not usable yet?
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR | libc::EADDRNOTAVAIL)
    )
}
