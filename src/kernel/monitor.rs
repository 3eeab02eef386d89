//! Kernel notifications about changes in one namespace.
//!
//! A notification is a hint where to look. A look drops all notifications that arrived before it. So our own changes,
//! which are checked after they are made, are not taken for changes by other programs.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::packet_core::NlasIterator;
use rtnetlink::sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rtnetlink::sys::{Socket, SocketAddr};
use socket2::{SockFilter, SockRef};

use crate::addr::Cidr;
use crate::kernel::netlink::{ANSWER, BUFFER};
use crate::plan::{Names, PROTOCOL};

// Types of notifications, as in `rtnetlink(7)` and the kernel's `include/uapi/linux/rtnetlink.h`.
const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const NEWQDISC: u16 = 36;
const DELQDISC: u16 = 37;
const NEWTFILTER: u16 = 44;
const DELTFILTER: u16 = 45;
const NEWNETCONF: u16 = 80;

/// Multicast groups: RTNLGRP_LINK, _TC, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE, _IPV4_NETCONF,
/// _IPV6_NETCONF.
const GROUPS: [u32; 8] = [1, 4, 5, 7, 9, 11, 24, 25];

/// NFNLGRP_NFTABLES, in `include/uapi/linux/netfilter/nfnetlink.h`.
const NFTABLES: u32 = 7;

/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// The offsets of `rtm_dst_len` and `rtm_protocol`, in the `struct rtmsg` after the header.
const ROUTE_LENGTH: usize = HEADER + 1;
const ROUTE_PROTOCOL: usize = HEADER + 5;

/// NLM_F_REPLACE: a route replaces another.
const REPLACE: u16 = 0x100;

/// RT_SCOPE_LINK: link-local addresses.
const SCOPE_LINK: u8 = 253;

/// Receive buffer in bytes, without the kernel's overhead: enough for some thousand deletions.
const WAITING: usize = 4 << 20;

/// Receives the notifications of one namespace.
#[derive(Debug)]
pub(super) struct Monitor {
    socket: Socket,
    /// The address of our request socket in this namespace. Notifications with this address come from our own requests,
    /// including reads (before Linux 6.8 RTM_GETQDISC was answered by a notification to everyone).
    own: u32,
    /// A socket for nf_tables, if some rules are ours.
    rules: Option<Socket>,
    /// The last reported state of each interface by index, because most notifications repeat it.
    known: BTreeMap<u32, Known>,
    /// Bridge ports that are blocked or isolated, by the indices of their interfaces.
    ports: BTreeMap<u32, PortState>,
    /// Whether notifications about all routes pass the filter, and not only those about ours and about replaced ones.
    hears_routes: bool,
    /// The destinations of our routes as in notifications: the length of the prefix, and its bytes.
    routes: BTreeSet<(u8, Vec<u8>)>,
    pending: Pending,
}

#[derive(Debug)]
struct Known {
    name: String,
    hash: u64,
    /// The notification reports a change of offloads.
    features: bool,
}

/// The state of a bridge port, as its bridge reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PortState {
    /// It does not forward although its interface runs. Without a carrier no port forwards.
    blocked: bool,
    isolated: bool,
}

/// Changes that have been reported and not been observed yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) names: Names,
    /// The indices of interfaces with a changed address or queueing discipline.
    pub(super) indices: BTreeSet<u32>,
    pub(super) lost: bool,
}

impl Monitor {
    /// Listens in the namespace of the calling thread. `own` is the address of our request socket there.
    pub(super) fn open(own: u32) -> io::Result<Self> {
        let socket = listener(NETLINK_ROUTE)?;
        // Without the filter a busy router in a container causes unnecessary looks.
        filter(&socket, false);
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        Ok(Self {
            socket,
            own,
            rules: None,
            known: BTreeMap::new(),
            ports: BTreeMap::new(),
            hears_routes: false,
            routes: BTreeSet::new(),
            pending: Pending::default(),
        })
    }

    /// A socket for nf_tables in the namespace of the calling thread.
    pub(super) fn rules() -> io::Result<Socket> {
        let socket = listener(NETLINK_NETFILTER)?;
        socket.add_membership(NFTABLES)?;
        Ok(socket)
    }

    /// Receives from this socket too.
    pub(super) fn add_rules(&mut self, socket: Socket) {
        self.rules = Some(socket);
    }

    /// Sets whether notifications about all routes pass the filter.
    pub(super) fn hear_routes_of_others(&mut self, all: bool) {
        if std::mem::replace(&mut self.hears_routes, all) != all {
            filter(&self.socket, all);
        }
    }

    /// Sets the destinations of our routes. Changes of other routes to these destinations are reported too.
    pub(super) fn set_routes(&mut self, routes: impl Iterator<Item = Cidr>) {
        let bytes = |it: Cidr| match it.addr() {
            _ if it.prefix() == 0 => Vec::new(),
            IpAddr::V4(it) => it.octets().to_vec(),
            IpAddr::V6(it) => it.octets().to_vec(),
        };
        self.routes = routes.map(|it| (it.prefix(), bytes(it))).collect();
    }

    pub(super) fn hears_rules(&self) -> bool {
        self.rules.is_some()
    }

    /// The sockets, readable when there are notifications.
    pub(super) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [Some(&self.socket), self.rules.as_ref()].into_iter().flatten().map(AsFd::as_fd)
    }

    /// Receives all waiting notifications.
    pub(super) fn receive(&mut self) {
        let Self { socket, own, rules, known, ports, routes, pending, .. } = self;
        let lost = each_message(socket, |message| {
            // An unreadable notification counts as lost.
            if read(message, *own, known, ports, routes, pending).is_none() {
                pending.lost = true;
            }
        });
        pending.lost |= lost;
        if let Some(rules) = rules {
            let lost = each_message(rules, |_| pending.names.rules = true);
            pending.names.rules |= lost;
        }
    }

    /// Drops all reported changes: everything is about to be read.
    pub(super) fn forget_all(&mut self) {
        self.receive();
        self.pending = Pending::default();
    }

    /// Drops all reported changes: every interface is about to be read, and the rules if `rules`.
    pub(super) fn forget_everything_but_rules(&mut self, rules: bool) {
        let rules = !rules && {
            self.receive();
            self.pending.names.rules
        };
        self.forget_all();
        self.pending.names.rules = rules;
    }

    /// Drops the reported changes of these interfaces, which are about to be read.
    pub(super) fn forget<'a>(&mut self, names: impl Iterator<Item = &'a str>, rules: bool) {
        self.receive();
        let Self { known, pending, .. } = self;
        let names: BTreeSet<&str> = names.collect();
        pending.names.changed.retain(|it| !names.contains(it.as_str()));
        pending.names.deleted.retain(|it| !names.contains(it.as_str()));
        let looked_at = |it: &Known| names.contains(it.name.as_str());
        pending.indices.retain(|it| !known.get(it).is_some_and(looked_at));
        if rules {
            pending.names.rules = false;
        }
    }

    /// The changes since the last call.
    pub(super) fn news(&mut self) -> Pending {
        self.receive();
        let mut news = std::mem::take(&mut self.pending);
        for index in std::mem::take(&mut news.indices) {
            match self.known.get(&index) {
                Some(it) => drop(news.names.changed.insert(it.name.clone())),
                None => drop(news.indices.insert(index)),
            }
        }
        news
    }
}

fn listener(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    socket.set_non_blocking(true)?;
    // Without the privilege for it, notifications are lost earlier, and then everything is read again.
    if let Err(error) = setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &WAITING) {
        log::debug!("enlarge the receive buffer: {error}");
    }
    Ok(socket)
}

fn filter(socket: &Socket, all_routes: bool) {
    if let Err(error) = only_what_matters(socket.as_fd(), all_routes) {
        log::debug!("filter notifications: {error}");
    }
}

/// Passes each waiting message to `take`. Returns whether some were lost (ENOBUFS).
fn each_message(socket: &Socket, mut take: impl FnMut(&[u8])) -> bool {
    let mut lost = false;
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < ANSWER {
            buffer.resize(ANSWER, 0);
        }
        loop {
            match socket.recv(&mut &mut buffer[..], 0) {
                Ok(length) => take(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => lost = true,
                Err(error) => {
                    log::warn!("listen for kernel notifications: {error}");
                    lost = true;
                    return;
                }
            }
        }
    });
    lost
}

/// Reads one notification. None if it cannot be parsed.
fn read(
    message: &[u8],
    own: u32,
    known: &mut BTreeMap<u32, Known>,
    ports: &mut BTreeMap<u32, PortState>,
    routes: &BTreeSet<(u8, Vec<u8>)>,
    pending: &mut Pending,
) -> Option<()> {
    let number = |at: usize| Some(u32::from_ne_bytes(message.get(at..at + 4)?.try_into().ok()?));
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    let family = *message.get(HEADER)?;
    let is_own = number(12)? == own;
    match kind {
        // A bridge reports the state of its ports, and that a port has left, only in its own family.
        NEWLINK if i32::from(family) == libc::AF_BRIDGE => {
            let (index, now) = (number(HEADER + 4)?, port(message)?);
            let before = match now == PortState::default() {
                true => ports.remove(&index),
                false => ports.insert(index, now),
            };
            if now != before.unwrap_or_default() && !is_own {
                pending.indices.insert(index);
            }
        }
        NEWLINK | DELLINK => {
            let index = number(HEADER + 4)?;
            let now = link(message)?;
            if kind == DELLINK {
                ports.remove(&index);
                if i32::from(family) != libc::AF_BRIDGE {
                    known.remove(&index);
                }
                pending.names.deleted.insert(now.name);
                return Some(());
            }
            let before = known.get(&index);
            if !now.features && before.is_some_and(|it| it.hash == now.hash) {
                return Some(());
            }
            if let Some(before) = before.filter(|it| it.name != now.name) {
                pending.names.deleted.insert(before.name.clone());
            }
            if !is_own {
                pending.names.changed.insert(now.name.clone());
            }
            known.insert(index, now);
        }
        _ if is_own => {}
        NEWADDR | DELADDR => {
            let scope = *message.get(HEADER + 3)?;
            if kind == DELADDR || scope != SCOPE_LINK {
                pending.indices.insert(number(HEADER + 4)?);
            }
        }
        // Routes to destinations without a route of ours do not matter.
        NEWROUTE | DELROUTE => {
            let is_ours = *message.get(ROUTE_PROTOCOL)? == PROTOCOL;
            pending.names.rules |= is_ours || routes.contains(&destination(message)?);
        }
        // Forwarding was switched on or off for the whole namespace, and our rules depend on it.
        NEWNETCONF => pending.names.rules |= is_about_all(message),
        NEWQDISC | DELQDISC | NEWTFILTER | DELTFILTER => {
            pending.indices.insert(number(HEADER + 4)?);
        }
        _ => {}
    }
    Some(())
}

/// The destination of a route; a default route has no bytes.
fn destination(message: &[u8]) -> Option<(u8, Vec<u8>)> {
    /// `struct rtmsg`, and RTA_DST.
    const ROUTE: usize = 12;
    const DST: u16 = 1;
    let mut attributes = NlasIterator::new(message.get(HEADER + ROUTE..)?).flatten();
    let bytes = attributes.find(|it| it.kind() == DST).map(|it| it.value().to_vec());
    Some((*message.get(ROUTE_LENGTH)?, bytes.unwrap_or_default()))
}

/// Is the notification about the settings of the whole namespace, and not of one interface?
fn is_about_all(message: &[u8]) -> bool {
    /// `struct netconfmsg` with its padding, NETCONFA_IFINDEX, and NETCONFA_IFINDEX_ALL.
    const CONF: usize = 4;
    const INDEX: u16 = 1;
    const ALL: i32 = -1;
    let attributes = NlasIterator::new(message.get(HEADER + CONF..).unwrap_or_default());
    attributes.flatten().any(|it| it.kind() == INDEX && it.value() == ALL.to_ne_bytes())
}

/// The properties of an interface that can matter: flags, name and addresses, but not counters and carrier.
fn link(message: &[u8]) -> Option<Known> {
    /// `struct ifinfomsg`.
    const INFO: usize = 16;
    const ADDRESS: u16 = libc::IFLA_ADDRESS;
    const NAME: u16 = libc::IFLA_IFNAME;
    const MTU: u16 = libc::IFLA_MTU;
    const MASTER: u16 = libc::IFLA_MASTER;
    const ALIAS: u16 = libc::IFLA_IFALIAS;
    const LINKINFO: u16 = libc::IFLA_LINKINFO;
    /// IFLA_EVENT, with IFLA_EVENT_FEATURES after `ethtool -K`, whose settings are in no attribute.
    const EVENT: u16 = 44;
    const FEATURES: u32 = 2;
    let flags = u32::from_ne_bytes(message.get(HEADER + 8..HEADER + 12)?.try_into().ok()?);
    let mut hasher = DefaultHasher::new();
    (flags & (libc::IFF_UP | libc::IFF_NOARP) as u32).hash(&mut hasher);
    let (mut name, mut features) = (None, false);
    for attribute in NlasIterator::new(message.get(HEADER + INFO..)?).flatten() {
        let kind = attribute.kind();
        if kind == NAME {
            let text = String::from_utf8_lossy(attribute.value());
            name = Some(text.trim_end_matches('\0').to_owned());
        }
        match kind {
            NAME | ADDRESS | MTU | MASTER | ALIAS => (kind, attribute.value()).hash(&mut hasher),
            LINKINFO => options(attribute.value()).hash(&mut hasher),
            EVENT => features = attribute.value() == FEATURES.to_ne_bytes(),
            _ => {}
        }
    }
    Some(Known { name: name?, hash: hasher.finish(), features })
}

/// The state of a port from a notification of the bridge's family.
fn port(message: &[u8]) -> Option<PortState> {
    /// `struct ifinfomsg`, IFLA_PROTINFO, IFLA_BRPORT_STATE, IFLA_BRPORT_ISOLATED, and BR_STATE_FORWARDING.
    const INFO: usize = 16;
    const PROTINFO: u16 = 12;
    const STATE: u16 = 1;
    const ISOLATED: u16 = 33;
    const FORWARDING: u8 = 3;
    let flags = u32::from_ne_bytes(message.get(HEADER + 8..HEADER + 12)?.try_into().ok()?);
    let mut port = PortState::default();
    for attribute in NlasIterator::new(message.get(HEADER + INFO..)?).flatten() {
        if attribute.kind() & 0x3fff != PROTINFO {
            continue;
        }
        for it in NlasIterator::new(attribute.value()).flatten() {
            match (it.kind(), it.value().first()) {
                (STATE, Some(state)) => {
                    port.blocked = flags & libc::IFF_RUNNING as u32 != 0 && *state != FORWARDING;
                }
                (ISOLATED, Some(isolated)) => port.isolated = *isolated != 0,
                _ => {}
            }
        }
    }
    Some(port)
}

/// The configurable options of an interface, from IFLA_LINKINFO.
fn options(info: &[u8]) -> Vec<(u16, Vec<u8>)> {
    const KIND: u16 = 1;
    const DATA: u16 = 2;
    /// IFLA_BR_FORWARD_DELAY, _AGEING_TIME, _STP_STATE, _VLAN_FILTERING, _GROUP_FWD_MASK, _MCAST_SNOOPING.
    const OF_BRIDGES: [u16; 6] = [1, 4, 5, 7, 9, 23];
    const OF_OTHERS: [&str; 7] = ["vxlan", "geneve", "vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"];
    let attribute = |wanted: u16| {
        let found = NlasIterator::new(info).flatten().find(|it| it.kind() & 0x3fff == wanted);
        found.map(|it| it.value().to_vec()).unwrap_or_default()
    };
    let kind = attribute(KIND);
    let kind = String::from_utf8_lossy(kind.strip_suffix(&[0]).unwrap_or(&kind)).into_owned();
    let data = attribute(DATA);
    let all = NlasIterator::new(data.as_slice()).flatten().map(|it| (it.kind(), it.value().to_vec()));
    match kind.as_str() {
        // The timers of a bridge change all the time.
        "bridge" => all.filter(|(it, _)| OF_BRIDGES.contains(it)).collect(),
        kind if OF_OTHERS.contains(&kind) => all.collect(),
        _ => Vec::new(),
    }
}

/// Makes the kernel drop notifications about routes of other programs, because a router may have hundreds of thousands. With
/// `all_routes` they pass.
fn only_what_matters(socket: BorrowedFd, all_routes: bool) -> io::Result<()> {
    /// The offsets of `nlmsg_type` and `nlmsg_flags` in `struct nlmsghdr`.
    const TYPE: u32 = 4;
    const FLAGS: u32 = 6;
    let op = |code: u32, jt: u8, jf: u8, k: u32| SockFilter::new(code as u16, jt, jf, k);
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let any = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    // Filters read numbers in network byte order, while these are in the byte order of the machine.
    let number = |it: u16| u32::from(it.to_be());
    let mut program = vec![
        op(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, TYPE),
        op(equal, 1, 0, number(NEWROUTE)),
        op(equal, 2, 5, number(DELROUTE)),
        // A route of another program may replace one of ours.
        op(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, FLAGS),
        op(any, 3, 0, number(REPLACE)),
        op(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, ROUTE_PROTOCOL as u32),
        op(equal, 1, 0, u32::from(PROTOCOL)),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    if all_routes {
        program.drain(..program.len() - 1);
    }
    SockRef::from(&socket).attach_filter(&program)
}
