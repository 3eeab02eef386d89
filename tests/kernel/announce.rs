//! Announced addresses: the frames, and what neighbours make of them.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use conlink::addr::Mac;
use conlink::kernel::announce::announce;
use conlink::kernel::netns;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};

use super::{Lab, container, mac, name, quiet, set};
use crate::support::ip;

/// How long something may take on a machine that is busy.
const SOON: Duration = Duration::from_secs(10);

const A: &str = "02:00:00:00:00:0a";

/// The nodes `a` (10.0.0.1 and fd00::1) and `b` (10.0.0.2 and fd00::2) on a bridge. Only a's interface is down.
fn lan(test: &str) -> Option<Lab> {
    let lab = Lab::new(test, &["a", "b"])?;
    ip(&lab.bridges, "link add lan type bridge mcast_snooping 0");
    ip(&lab.bridges, "link set lan up");
    for (node, number) in [("a", 1), ("b", 2)] {
        let path = format!("/proc/{}/fd/{}", std::process::id(), lab.containers[node].as_raw_fd());
        ip(&lab.bridges, &format!("link add port-{node} type veth peer eth0 netns {path}"));
        ip(&lab.bridges, &format!("link set port-{node} master lan up"));
        let netns = &lab.containers[node];
        ip(netns, &format!("link set eth0 address 02:00:00:00:00:{}", if node == "a" { "0a" } else { "0b" }));
        ip(netns, &format!("addr add 10.0.0.{number}/24 dev eth0"));
        ip(netns, &format!("addr add fd00::{number}/64 dev eth0 nodad"));
    }
    ip(&lab.containers["b"], "link set eth0 up");
    Some(lab)
}

fn addrs() -> [IpAddr; 2] {
    ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]
}

fn announce_a(lab: &Lab) -> io::Result<()> {
    announce(&lab.containers["a"], &name("eth0"), mac(A), &addrs())
}

/// Sees the frames of a namespace from now on.
struct Tap(OwnedFd);

impl Tap {
    fn new(netns: &File) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let open = || Ok(socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?);
        Self(netns::inside(netns, open).unwrap())
    }

    /// The next announcement or question about an address, from this MAC address.
    fn next(&self, from: Mac, end: Instant) -> Option<Vec<u8>> {
        let mut frame = [0; 2048];
        loop {
            match recv(self.0.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Ok(length) => {
                    let frame = &frame[..length];
                    // ARP, neighbour solicitation and advertisement.
                    let is_about = frame[12..14] == [8, 6]
                        || frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && matches!(frame[54], 135 | 136);
                    // Whether an address is in use already is asked from the address `::`.
                    let is_own = frame[12..14] == [0x86, 0xdd] && frame[22..38] == [0; 16];
                    if frame[6..12] == from.bytes() && is_about && !is_own {
                        return Some(frame.to_vec());
                    }
                }
                Err(nix::Error::EAGAIN) => {
                    let left = end.checked_duration_since(Instant::now())?;
                    let wait = PollTimeout::try_from(left).unwrap();
                    poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], wait).unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn an_address_is_announced_by_arp_or_a_neighbour_advertisement() {
    let Some(mut lab) = lan("announcement") else { return };
    lab.apply(set(&container("a"), "eth0", quiet()));
    let tap = Tap::new(&lab.containers["b"]);
    announce_a(&lab).unwrap();
    let next = || tap.next(mac(A), Instant::now() + SOON).unwrap();
    let (own_mac, own_v4) = (mac(A).bytes(), [10, 0, 0, 1]);
    let start = [&[0xff; 6][..], &own_mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0]].concat();
    assert_eq!(next(), [&start[..], &[1], &own_mac, &own_v4, &[0; 6], &own_v4].concat());
    assert_eq!(next(), [&start[..], &[2], &own_mac, &own_v4, &own_mac, &own_v4].concat());
    let frame = next();
    assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
    // The payload has 32 bytes, and the hop limit is 255.
    assert_eq!(frame[14..22], [0x60, 0, 0, 0, 0, 32, 58, 255]);
    let [own, all] = ["fd00::1", "ff02::1"].map(|it| it.parse::<std::net::Ipv6Addr>().unwrap().octets());
    assert_eq!((&frame[22..38], &frame[38..54]), (&own[..], &all[..]));
    // Type 136, and the flag that replaces an entry.
    assert_eq!((&frame[54..56], &frame[58..62]), (&[136, 0][..], &[0x20, 0, 0, 0][..]));
    assert_eq!(frame[62..], [&own[..], &[2, 1], &own_mac].concat());
    // The sum of everything that a checksum covers is 0xffff.
    let covered = [&frame[22..], &[0, 0, 0, 32, 0, 0, 0, 58]].concat();
    let sum: u32 = covered.chunks(2).map(|it| u32::from(u16::from_be_bytes([it[0], it[1]]))).sum();
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    // A router says that it is one.
    netns::inside(&lab.containers["a"], || std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1"))
        .unwrap();
    announce_a(&lab).unwrap();
    assert_eq!([next(), next(), next()][2][58], 0xa0);
}

#[test]
fn neighbours_replace_an_older_mac_address_without_asking() {
    let Some(mut lab) = lan("older MAC address") else { return };
    lab.apply(set(&container("a"), "eth0", quiet()));
    for addr in addrs() {
        ip(
            &lab.containers["b"],
            &format!("neigh replace {addr} lladdr 02:00:00:00:00:99 dev eth0 nud stale"),
        );
    }
    let tap = Tap::new(&lab.containers["a"]);
    announce_a(&lab).unwrap();
    let end = Instant::now() + SOON;
    for addr in addrs() {
        loop {
            let shown = ip(&lab.containers["b"], &format!("neigh show {addr}"));
            if shown.contains(A) {
                break;
            }
            assert!(Instant::now() < end, "{shown}");
        }
    }
    assert_eq!(tap.next(mac("02:00:00:00:00:0b"), Instant::now()), None);
}

#[test]
fn an_announcement_arrives_from_an_interface_that_has_just_been_set_up() {
    let Some(mut lab) = lan("announcement at once") else { return };
    let a = container("a");
    for round in 0..20 {
        let tap = Tap::new(&lab.containers["b"]);
        lab.apply(set(&a, "eth0", quiet()));
        announce_a(&lab).unwrap();
        let end = Instant::now() + SOON;
        let arrived = (0..3).filter(|_| tap.next(mac(A), end).is_some()).count();
        assert_eq!(arrived, 3, "round {round}");
        ip(&lab.containers["a"], "link set eth0 down");
        // The address goes with the interface.
        ip(&lab.containers["a"], "addr replace fd00::1/64 dev eth0 nodad");
        let end = Instant::now() + SOON;
        while ip(&lab.bridges, "link show port-a").contains("state UP") {
            assert!(Instant::now() < end);
        }
    }
}

#[test]
fn an_interface_that_cannot_send_is_an_error_and_not_waited_for() {
    let Some(lab) = lan("announcement of nothing") else { return };
    let start = Instant::now();
    let errno = |error: io::Error| error.raw_os_error();
    assert_eq!(announce_a(&lab).map_err(errno), Err(Some(libc::ENETDOWN)));
    let absent = announce(&lab.containers["a"], &name("eth9"), mac(A), &addrs());
    assert_eq!(absent.map_err(errno), Err(Some(libc::ENODEV)));
    // The other end is down.
    ip(&lab.bridges, "link set port-a down");
    ip(&lab.containers["a"], "link set eth0 up");
    assert_eq!(announce_a(&lab).map_err(errno), Err(Some(libc::ENETDOWN)));
    assert!(start.elapsed() < SOON);
}
