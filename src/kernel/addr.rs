//! Addresses of interfaces: RTM_NEWADDR, RTM_DELADDR and RTM_GETADDR.

use std::net::{IpAddr, Ipv4Addr};

use rtnetlink::packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol};
use rtnetlink::packet_route::link::{AfSpecInet, AfSpecUnspec, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::addr::Cidr;
use crate::kernel::attribute::Attributes;
use crate::kernel::link::gone_is_fine;
use crate::kernel::netlink::{Error, Netlink};
use crate::plan::{ObservedAddr, PROTOCOL};

fn message(index: u32, cidr: Cidr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = cidr.prefix();
    message.header.family = if cidr.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.attributes = vec![AddressAttribute::Address(cidr.addr()), AddressAttribute::Local(cidr.addr())];
    message
}

/// `ip addr add CIDR dev INDEX [proto PROTOCOL] [brd +]`; IPv6 with `nodad`.
pub(super) fn add(
    netlink: &mut Netlink,
    index: u32,
    cidr: Cidr,
    protocol: Option<u8>,
    broadcast: bool,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    let mut message = message(index, cidr);
    message.attributes.extend(protocol.map(|it| AddressAttribute::Protocol(AddressProtocol::Other(it))));
    match cidr.addr() {
        IpAddr::V4(addr) if broadcast && cidr.prefix() < 31 => {
            let hosts = u32::MAX.checked_shr(u32::from(cidr.prefix())).unwrap_or(0);
            let broadcast = Ipv4Addr::from_bits(addr.to_bits() | hosts);
            message.attributes.push(AddressAttribute::Broadcast(broadcast));
        }
        IpAddr::V4(_) => {}
        IpAddr::V6(_) => message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad)),
    }
    netlink.request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL, what)
}

/// `ip addr del`. Succeeds if the address does not exist. Other addresses of the subnet stay: without
/// `promote_secondaries` the kernel would delete them with the first one.
pub(super) fn del(
    netlink: &mut Netlink,
    index: u32,
    cidr: Cidr,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    if cidr.addr().is_ipv4() {
        promote_secondaries(netlink, index)?;
    }
    let result = netlink.request(RouteNetlinkMessage::DelAddress(message(index, cidr)), 0, what);
    match gone_is_fine(result) {
        Err(error) if error.errno() == Some(libc::EADDRNOTAVAIL) => Ok(()),
        result => result,
    }
}

/// `sysctl net.ipv4.conf.NAME.promote_secondaries=1` by netlink, because the file may be read-only in a container.
fn promote_secondaries(netlink: &mut Netlink, index: u32) -> Result<(), Error> {
    /// IFLA_INET_CONF: nested attributes with the numbers of `include/uapi/linux/ip.h` as types.
    const CONF: u16 = 1;
    const PROMOTE_SECONDARIES: u16 = 20;
    let mut setting = Attributes::default();
    setting.words(PROMOTE_SECONDARIES, &[1]);
    let mut message = LinkMessage::default();
    message.header.index = index;
    let conf = AfSpecInet::Other(DefaultNla::new(CONF, setting.into_bytes()));
    message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![conf])]));
    let what = || format!("set promote_secondaries of interface {index}");
    netlink.request(RouteNetlinkMessage::SetLink(message), 0, what)
}

/// Every address of the namespace, with the index of its interface.
pub(super) fn dump(netlink: &mut Netlink) -> Result<Vec<(u32, ObservedAddr)>, Error> {
    let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let all = netlink.dump(message, || "dump addresses".to_owned())?;
    let decoded = all.iter().filter_map(|it| match it {
        RouteNetlinkMessage::NewAddress(it) => decode(it),
        _ => None,
    });
    Ok(decoded.collect())
}

/// The addresses of an interface that have this protocol. Kernels before 5.18 report none.
pub(super) fn of_protocol(netlink: &mut Netlink, index: u32, protocol: u8) -> Result<Vec<Cidr>, Error> {
    let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let all = netlink.dump(message, || "dump addresses".to_owned())?;
    let has_it =
        |it: &AddressAttribute| matches!(it, AddressAttribute::Protocol(it) if u8::from(*it) == protocol);
    let found = all.iter().filter_map(|it| match it {
        RouteNetlinkMessage::NewAddress(it)
            if it.header.index == index && it.attributes.iter().any(has_it) =>
        {
            Some(decode(it)?.1.cidr)
        }
        _ => None,
    });
    Ok(found.collect())
}

fn decode(message: &AddressMessage) -> Option<(u32, ObservedAddr)> {
    let (mut addr, mut local, mut ours, mut broadcast) = (None, None, false, false);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(it) => addr = Some(*it),
            AddressAttribute::Local(it) => local = Some(*it),
            AddressAttribute::Broadcast(_) => broadcast = true,
            AddressAttribute::Protocol(it) => ours = u8::from(*it) == PROTOCOL,
            _ => {}
        }
    }
    // On a point-to-point interface IFA_ADDRESS is the peer's address.
    let cidr = Cidr::new(local.or(addr)?, message.header.prefix_len)?;
    Some((message.header.index, ObservedAddr { cidr, ours, broadcast }))
}
