//! Announces addresses to the neighbours of an interface, so that they do not use an older MAC address for them.
//!
//! An IPv4 address is announced by ARP (RFC 5227, section 3), an IPv6 address by an unsolicited neighbour advertisement
//! (RFC 4861, section 7.2.6). Nobody answers either.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, sendto, socket};

use crate::addr::{IfName, Mac};
use crate::kernel::link;
use crate::kernel::netlink::Netlink;
use crate::kernel::netns;
use crate::kernel::ping::checksum;

const BROADCAST: [u8; 6] = [0xff; 6];

/// ff02::1, all nodes of the link, and its MAC address (RFC 2464, section 7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// Longest time that a new carrier is waited for.
const CARRIER: Duration = Duration::from_millis(20);

/// Announces addresses of an interface of a namespace. The neighbours would find out anyway, so it may fail.
pub fn tell(netns: &File, name: &IfName, addrs: &[IpAddr]) {
    let announced = netns::inside(netns, || link::get(&mut Netlink::open()?, name).map_err(io::Error::other))
        .and_then(|found| match found.and_then(|(_, it)| it.mac) {
            Some(mac) => announce(netns, name, mac, addrs),
            None => Ok(()),
        });
    if let Err(error) = announced {
        log::debug!("{name}: announce addresses: {error}");
    }
}

/// Sends an announcement of each address, which the interface has, and does not wait for answers.
///
/// An interface that was set up a moment ago, and the bridge at the other end of a veth, are waited for, at most 20 ms.
///
/// # Errors
/// ENODEV: no interface of that name; ENETDOWN: it is down or has no carrier; EPERM.
pub fn announce(netns: &File, name: &IfName, mac: Mac, addrs: &[IpAddr]) -> io::Result<()> {
    netns::inside(netns, || {
        let index = wait_for_carrier(name)?;
        // Without a protocol it receives nothing. The kernel writes the Ethernet header.
        let socket = socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        let mut sent = Ok(());
        for addr in addrs {
            let one = match addr {
                IpAddr::V4(it) => announce_v4(&socket, index, mac, *it),
                IpAddr::V6(it) => announce_v6(&socket, index, name, mac, *it),
            };
            sent = sent.and(one);
        }
        sent
    })
}

/// The index of an interface, once it can send and the other end of its link can receive.
///
/// The kernel handles a new carrier some time later, or when it is asked about the interface (`linkwatch_sync_dev()` in
/// net/core/link_watch.c): each end of a veth on its own. Until then the interface drops what it should send, and a bridge
/// drops what it receives from its port.
fn wait_for_carrier(name: &IfName) -> io::Result<u32> {
    let mut netlink = Netlink::open()?;
    let limit = Instant::now() + CARRIER;
    loop {
        let end = link::end(&mut netlink, name)?;
        // It may be in a namespace that we have no permission for.
        let other = link::other_end(&mut netlink, end).ok().flatten();
        let is_over = !end.up || Instant::now() >= limit;
        match end.runs {
            true if is_over || other.is_none_or(|it| it.runs) => return Ok(end.index),
            false if is_over => return Err(io::Error::from_raw_os_error(libc::ENETDOWN)),
            _ => std::thread::sleep(Duration::from_micros(200)),
        }
    }
}

fn announce_v4(socket: &OwnedFd, index: u32, mac: Mac, addr: Ipv4Addr) -> io::Result<()> {
    // RFC 5227 has the request, and some hosts know only the reply.
    for operation in [Operation::Request, Operation::Reply] {
        send(socket, index, libc::ETH_P_ARP, BROADCAST, &arp(operation, mac, addr))?;
    }
    Ok(())
}

fn announce_v6(socket: &OwnedFd, index: u32, name: &IfName, mac: Mac, addr: Ipv6Addr) -> io::Result<()> {
    // Hosts forget a default route by a router that says it is none.
    let is_router = std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{name}/forwarding"));
    let is_router = is_router.is_ok_and(|it| it.trim() != "0");
    send(socket, index, libc::ETH_P_IPV6, ALL_NODES_MAC, &advertisement(is_router, mac, addr))
}

/// The operation of an ARP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Request = 1,
    Reply = 2,
}

/// An ARP message (RFC 826) about one's own address.
fn arp(operation: Operation, mac: Mac, addr: Ipv4Addr) -> Vec<u8> {
    let (mac, addr) = (mac.bytes(), addr.octets());
    let target = match operation {
        Operation::Request => [0; 6],
        // Linux takes the reply for an announcement if both are the same (`arp_is_garp()` in net/ipv4/arp.c).
        Operation::Reply => mac,
    };
    // Ethernet and IPv4, with the lengths of their addresses.
    let head = [0, 1, 8, 0, 6, 4, 0, operation as u8];
    [&head[..], &mac, &addr, &target, &addr].concat()
}

/// An IPv6 packet with an unsolicited neighbour advertisement (RFC 4861, section 4.4).
fn advertisement(is_router: bool, mac: Mac, addr: Ipv6Addr) -> Vec<u8> {
    const ICMPV6: u8 = 58;
    const ADVERTISEMENT: u8 = 136;
    const ROUTER: u8 = 0x80;
    const OVERRIDE: u8 = 0x20;
    const HOP_LIMIT: u8 = 255;
    /// Target link-layer address, and its length in units of eight bytes.
    const TARGET: [u8; 2] = [2, 1];
    let flags = if is_router { ROUTER | OVERRIDE } else { OVERRIDE };
    let head = [ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    let mut message = [&head[..], &addr.octets(), &TARGET, &mac.bytes()].concat();
    let length = message.len() as u8;
    let ends = [addr.octets(), ALL_NODES.octets()].concat();
    let pseudo_header = [&ends[..], &[0, 0, 0, length, 0, 0, 0, ICMPV6]].concat();
    let sum = checksum(&[pseudo_header, message.clone()].concat()).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let header = [0x60, 0, 0, 0, 0, length, ICMPV6, HOP_LIMIT];
    [&header[..], &ends, &message].concat()
}

/// Sends a packet in an Ethernet frame.
fn send(socket: &OwnedFd, index: u32, protocol: libc::c_int, to: [u8; 6], packet: &[u8]) -> io::Result<()> {
    let to = address(index, protocol, to).ok_or(io::ErrorKind::InvalidInput)?;
    sendto(socket.as_raw_fd(), packet, &to, MsgFlags::empty())?;
    Ok(())
}

/// The address of a frame: packet(7).
#[expect(unsafe_code, reason = "no crate offers it")]
fn address(index: u32, protocol: libc::c_int, to: [u8; 6]) -> Option<LinkAddr> {
    let [a, b, c, d, e, f] = to;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (protocol as u16).to_be(),
        sll_ifindex: i32::try_from(index).ok()?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [a, b, c, d, e, f, 0, 0],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).ok()?;
    // SAFETY: the pointer is that of an address of this length, which is copied.
    unsafe { LinkAddr::from_raw(std::ptr::from_ref(&address).cast(), Some(length)) }
}
