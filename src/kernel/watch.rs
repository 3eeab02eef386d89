//! The network of one namespace for programs that wait for it: its state, and notifications of changes.
//!
//! A notification is only a hint to look again, so lost notifications do no harm.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use rtnetlink::MulticastGroup;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage, State};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use crate::addr::{Cidr, IfName, Mac};
use crate::kernel::netlink::{Error, Netlink};

/// Multicast groups for interfaces, addresses and routes.
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// The routing table of the namespace's own addresses (RT_TABLE_LOCAL).
const LOCAL: u32 = 255;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub name: IfName,
    pub index: u32,
    /// Switched on (IFF_UP).
    pub up: bool,
    /// It has a carrier (IFF_LOWER_UP), and its operational state is up or unknown (RFC 2863).
    pub running: bool,
    pub loopback: bool,
    pub mac: Option<Mac>,
    pub mtu: u32,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenAddr {
    pub index: u32,
    pub cidr: Cidr,
    /// Duplicate address detection (RFC 4862) is not running and has not failed.
    pub usable: bool,
    /// Duplicate address detection found it in use (IFA_F_DADFAILED).
    pub duplicate: bool,
}

/// A route through one or several interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRoute {
    pub dst: Cidr,
    pub indices: Vec<u32>,
    /// It leads to the namespace's own addresses; made by the kernel.
    pub local: bool,
}

/// A namespace's network, with a socket for notifications.
#[derive(Debug)]
pub struct Watch {
    netlink: Netlink,
    notices: Socket,
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notices.as_fd()
    }
}

impl Watch {
    /// Listens in the namespace of the calling thread for changes from now on.
    pub fn open() -> Result<Self, Error> {
        let open = || {
            let mut notices = Socket::new(NETLINK_ROUTE)?;
            notices.bind(&SocketAddr::new(0, 0))?;
            for group in GROUPS {
                notices.add_membership(group as u32)?;
            }
            notices.set_non_blocking(true)?;
            Ok(Self { netlink: Netlink::open()?, notices })
        };
        open().map_err(|it: io::Error| Error::new("listen for kernel notifications", it))
    }

    /// Receives all waiting notifications. Returns whether anything has changed.
    pub fn changed(&mut self) -> Result<bool, Error> {
        // The content of a notification does not matter, so it may be truncated.
        let mut start = [0_u8; 16];
        let mut changed = false;
        loop {
            match self.notices.recv(&mut &mut start[..], 0) {
                Ok(_) => changed = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changed),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Some were dropped. The waiting ones must be received, because until then the kernel drops all new
                // ones.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                Err(error) => return Err(Error::new("read kernel notifications", error)),
            }
        }
    }

    /// The interface of that name.
    pub fn interface(&mut self, name: &IfName) -> Result<Option<Seen>, Error> {
        let mut message = link_message();
        message.attributes.push(LinkAttribute::IfName(name.to_string()));
        match self.netlink.get(RouteNetlinkMessage::GetLink(message), || format!("get {name}")) {
            // The kernel also accepts the altname of another interface.
            Ok(Some(RouteNetlinkMessage::NewLink(it))) => Ok(seen(&it).filter(|it| it.name == *name)),
            Ok(_) => Ok(None),
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All interfaces.
    pub fn interfaces(&mut self) -> Result<Vec<Seen>, Error> {
        let message = RouteNetlinkMessage::GetLink(link_message());
        let all = self.netlink.dump(message, || "dump interfaces".to_owned())?;
        let decoded = all.iter().filter_map(|it| match it {
            RouteNetlinkMessage::NewLink(it) => seen(it),
            _ => None,
        });
        Ok(decoded.collect())
    }

    /// The addresses of an interface, or all.
    pub fn addrs(&mut self, index: Option<u32>) -> Result<Vec<SeenAddr>, Error> {
        let mut message = AddressMessage::default();
        message.header.index = index.unwrap_or(0);
        let asked =
            self.netlink.dump(RouteNetlinkMessage::GetAddress(message), || "dump addresses".to_owned());
        let all = match asked {
            Ok(it) => it,
            // The interface was deleted between two requests.
            Err(error) if error.is_gone() => Vec::new(),
            Err(error) => return Err(error),
        };
        let decoded = all.iter().filter_map(|it| match it {
            RouteNetlinkMessage::NewAddress(it) => seen_addr(it),
            _ => None,
        });
        Ok(decoded.filter(|it| index.is_none_or(|index| it.index == index)).collect())
    }

    /// The routes through an interface, or all, without multicast routes and routes that drop packets.
    pub fn routes(&mut self, index: Option<u32>) -> Result<Vec<SeenRoute>, Error> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            message.attributes.extend(index.map(RouteAttribute::Oif));
            let all = match self
                .netlink
                .dump(RouteNetlinkMessage::GetRoute(message), || "dump routes".to_owned())
            {
                Ok(it) => it,
                Err(error) if error.is_gone() => continue,
                // A kernel without IPv6 has no routes of it.
                Err(error) if matches!(error.errno(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT)) => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            routes.extend(all.iter().filter_map(|it| match it {
                RouteNetlinkMessage::NewRoute(it) => seen_route(it),
                _ => None,
            }));
        }
        routes.retain(|it| index.is_none_or(|index| it.indices.contains(&index)));
        Ok(routes)
    }

    /// The index of the interface for packets to this address; `lo` for own addresses. None without a route.
    pub fn route_to(&mut self, addr: IpAddr) -> Result<Option<u32>, Error> {
        let mut message = RouteMessage::default();
        let (family, length, addr) = match addr {
            IpAddr::V4(it) => (AddressFamily::Inet, 32, RouteAddress::Inet(it)),
            IpAddr::V6(it) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(it)),
        };
        message.header.address_family = family;
        message.header.destination_prefix_length = length;
        message.attributes.push(RouteAttribute::Destination(addr));
        match self.netlink.get(RouteNetlinkMessage::GetRoute(message), || "look up a route".to_owned()) {
            Ok(Some(RouteNetlinkMessage::NewRoute(it)))
                if matches!(it.header.kind, RouteType::Unicast | RouteType::Local) =>
            {
                Ok(it.attributes.iter().find_map(|it| match it {
                    RouteAttribute::Oif(index) => Some(*index),
                    _ => None,
                }))
            }
            Ok(_) => Ok(None),
            Err(error) if error.is_gone() => Ok(None),
            // The errors for routes of type unreachable, blackhole and prohibit, and for a missing route.
            Err(error)
                if matches!(
                    error.errno(),
                    Some(
                        libc::ENETUNREACH
                            | libc::EHOSTUNREACH
                            | libc::EINVAL
                            | libc::EACCES
                            | libc::EAFNOSUPPORT
                            | libc::EOPNOTSUPP
                    )
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// A request without counters, which are the larger part of an answer.
fn link_message() -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}

fn seen(message: &LinkMessage) -> Option<Seen> {
    let flags = message.header.flags;
    let (mut name, mut state, mut mac, mut mtu) = (None, State::Unknown, None, 0);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(it) => name = it.parse().ok(),
            LinkAttribute::OperState(it) => state = *it,
            LinkAttribute::Mtu(it) => mtu = *it,
            LinkAttribute::Address(it) => {
                mac = it.as_slice().try_into().ok().and_then(|it| Mac::new(it).ok());
            }
            _ => {}
        }
    }
    let up = flags.contains(LinkFlags::Up);
    let works = matches!(state, State::Up | State::Unknown);
    Some(Seen {
        name: name?,
        index: message.header.index,
        up,
        running: up && works && flags.contains(LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
        mac,
        mtu,
    })
}

fn seen_addr(message: &AddressMessage) -> Option<SeenAddr> {
    let (mut addr, mut local) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(it) => addr = Some(*it),
            AddressAttribute::Local(it) => local = Some(*it),
            _ => {}
        }
    }
    let flags = message.header.flags;
    let duplicate = flags.contains(AddressHeaderFlags::Dadfailed);
    let tentative =
        flags.contains(AddressHeaderFlags::Tentative) && !flags.contains(AddressHeaderFlags::Optimistic);
    // On a point-to-point interface IFA_ADDRESS is the peer's address.
    let cidr = Cidr::new(local.or(addr)?, message.header.prefix_len)?;
    Some(SeenAddr { index: message.header.index, cidr, usable: !tentative && !duplicate, duplicate })
}

fn seen_route(message: &RouteMessage) -> Option<SeenRoute> {
    let header = &message.header;
    let local = header.kind == RouteType::Local;
    if header.flags.contains(RouteFlags::Cloned) || !(local || header.kind == RouteType::Unicast) {
        return None;
    }
    let unspecified: IpAddr = match header.address_family {
        AddressFamily::Inet => [0_u8; 4].into(),
        _ => [0_u8; 16].into(),
    };
    let mut route = SeenRoute {
        dst: Cidr::new(unspecified, header.destination_prefix_length)?,
        indices: Vec::new(),
        local: local || u32::from(header.table) == LOCAL,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(it)) => {
                route.dst = Cidr::new((*it).into(), header.destination_prefix_length)?;
            }
            RouteAttribute::Destination(RouteAddress::Inet6(it)) => {
                route.dst = Cidr::new((*it).into(), header.destination_prefix_length)?;
            }
            RouteAttribute::Oif(it) => route.indices.push(*it),
            RouteAttribute::Table(it) => route.local |= *it == LOCAL,
            RouteAttribute::MultiPath(hops) => route.indices.extend(hops.iter().map(|it| it.interface_index)),
            _ => {}
        }
    }
    Some(route)
}
