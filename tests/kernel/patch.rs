//! Patches: their filters, and the frames that pass.

use std::fs::File;

use conlink::kernel::netns;
use conlink::plan::{Ns, Step};

use crate::kernel::{Lab, add_veth, container, del, name, quiet, set, up};
use crate::support::inside;

fn tc(lab: &Lab, args: &str) {
    inside(&lab.bridges, "tc", &args.split(' ').collect::<Vec<_>>());
}

#[test]
fn a_redirect_is_read_replaced_and_completed() {
    let Some(mut lab) = Lab::new("redirect", &["a", "b"]) else { return };
    lab.apply(add_veth(&container("a"), "eth0", &Ns::Bridges, "a0"));
    lab.apply(add_veth(&container("b"), "eth0", &Ns::Bridges, "b0"));
    let add = || Step::AddRedirect { ns: Ns::Bridges, from: name("a0"), to: name("b0") };
    let del_redirect = || Step::DelRedirect { ns: Ns::Bridges, from: name("a0") };
    let target = lab.interface(&Ns::Bridges, "b0").index;
    assert_eq!(lab.interface(&Ns::Bridges, "a0").redirect, None);
    for _ in 0..2 {
        lab.apply(add());
        assert_eq!(lab.interface(&Ns::Bridges, "a0").redirect, Some(target));
        assert_eq!(lab.refused(add()).errno(), Some(libc::EEXIST));
        for _ in 0..2 {
            lab.apply(del_redirect());
            assert_eq!(lab.interface(&Ns::Bridges, "a0").redirect, None);
        }
    }
    // A kill between the queueing discipline and the filter: the next start puts the filter. Earlier versions used clsact.
    for kind in ["clsact", "ingress"] {
        tc(&lab, &format!("qdisc add dev a0 {kind}"));
        assert_eq!(lab.interface(&Ns::Bridges, "a0").redirect, None);
        lab.apply(add());
        assert_eq!(lab.interface(&Ns::Bridges, "a0").redirect, Some(target));
        if kind == "clsact" {
            lab.apply(del_redirect());
            assert_eq!(lab.interface(&Ns::Bridges, "a0").redirect, None);
        }
    }
    // Where scripts look.
    let shown = inside(&lab.bridges, "tc", &["filter", "show", "dev", "a0", "parent", "ffff:"]);
    assert!(shown.contains("action order 1: mirred (Egress Redirect to device b0)"), "{shown}");
    // The target goes and comes again.
    lab.apply(del(&Ns::Bridges, "b0"));
    assert_eq!(lab.interface(&Ns::Bridges, "a0").redirect, Some(0));
    lab.apply(add_veth(&container("b"), "eth0", &Ns::Bridges, "b0"));
    lab.apply(del_redirect());
    lab.apply(add());
    let target = lab.interface(&Ns::Bridges, "b0").index;
    assert_eq!(lab.interface(&Ns::Bridges, "a0").redirect, Some(target));
    // A copy of what passes is no patch.
    let mirror =
        "filter add dev b0 ingress protocol all u32 match u32 0 0 action mirred egress mirror dev a0";
    tc(&lab, "qdisc add dev b0 clsact");
    tc(&lab, mirror);
    assert_eq!(lab.interface(&Ns::Bridges, "b0").redirect, None);
}

#[test]
fn a_patch_passes_unusual_frames_unchanged() {
    let Some(mut lab) = Lab::new("frames", &["a", "b"]) else { return };
    for (host, outer) in [("a", "a0"), ("b", "b0")] {
        lab.apply(add_veth(&container(host), "eth0", &Ns::Bridges, outer));
        lab.apply(set(&container(host), "eth0", up()));
        lab.apply(set(&Ns::Bridges, outer, quiet()));
    }
    for (from, to) in [("a0", "b0"), ("b0", "a0")] {
        lab.apply(Step::AddRedirect { ns: Ns::Bridges, from: name(from), to: name(to) });
    }
    let (sender, receiver) = (Packets::open(&lab.containers["a"]), Packets::open(&lab.containers["b"]));
    // LLDP, STP (a length instead of a type), pause, MACsec, an experimental type, none at all, a jumbo.
    let odd = [
        (0x88cc_u16, [1, 0x80, 0xc2, 0, 0, 0x0e], 60),
        (38, [1, 0x80, 0xc2, 0, 0, 0], 52),
        (0x8808, [1, 0x80, 0xc2, 0, 0, 1], 60),
        (0x88e5, [2, 0, 0, 0, 0, 0x0a], 64),
        (0x88b5, [0xff; 6], 15),
        (0, [2, 9, 9, 9, 9, 9], 14),
        (0xffff, [2, 9, 9, 9, 9, 8], 9014),
    ];
    for (ether_type, to, length) in odd {
        let mut frame = to.to_vec();
        frame.extend([2, 0, 0, 0, 0, 0xee]);
        frame.extend(ether_type.to_be_bytes());
        frame.extend((14..length).map(|it| (it % 251) as u8));
        sender.send(&frame);
        assert_eq!(receiver.receive_from_ee(), frame, "{ether_type:#06x}");
    }
}

/// A raw socket on the `eth0` of a namespace.
struct Packets(std::os::fd::OwnedFd);

impl Packets {
    #[expect(unsafe_code, reason = "nix makes addresses of packet sockets from raw ones alone")]
    fn open(netns: &File) -> Self {
        use nix::sys::socket::*;
        use std::os::fd::AsRawFd;
        let socket = netns::inside(netns, || {
            let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
            let socket = socket(AddressFamily::Packet, kind, flags, SockProtocol::EthAll)?;
            // SAFETY: all of its members may be zero bytes.
            let mut addr: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            addr.sll_family = libc::AF_PACKET as u16;
            addr.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            addr.sll_ifindex = nix::net::if_::if_nametoindex("eth0")?.cast_signed();
            let length = size_of_val(&addr) as u32;
            // SAFETY: the pointer is to a sockaddr_ll of that length, which outlives the call.
            let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const addr).cast(), length) };
            nix::Error::result(bound)?;
            Ok(socket)
        });
        let socket = socket.unwrap();
        setsockopt(&socket, sockopt::ReceiveTimeout, &nix::sys::time::TimeVal::new(2, 0)).unwrap();
        Self(socket)
    }

    fn send(&self, frame: &[u8]) {
        assert_eq!(nix::unistd::write(&self.0, frame).unwrap(), frame.len());
    }

    /// The next frame that the test has sent: others are the kernel's own.
    fn receive_from_ee(&self) -> Vec<u8> {
        let mut buffer = vec![0; 10_000];
        loop {
            let length = nix::unistd::read(&self.0, &mut buffer).expect("no frame arrives");
            if buffer[6..12] == [2, 0, 0, 0, 0, 0xee] {
                return buffer[..length].to_vec();
            }
        }
    }
}
