//! Interfaces: RTM_NEWLINK, RTM_DELLINK and RTM_GETLINK.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::link::{
    AfSpecBridge, AfSpecInet6, AfSpecUnspec, BridgePortState, BridgeStpState, BridgeVlanInfo,
    BridgeVlanInfoFlags, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData, InfoGeneve, InfoIpVlan,
    InfoIpVtap, InfoIpoib, InfoKind, InfoMacVlan, InfoMacVtap, InfoPortData, InfoPortKind, InfoVeth,
    InfoVlan, InfoVxlan, IpVlanFlags, IpVlanMode, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
    LinkLayerType, LinkMessage, MacVlanMode,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::addr::{IfName, Mac};
use crate::device::{
    BridgeOptions, IpvlanFlag, IpvlanMode, MacvlanMode, StackedKind, TunnelKind, TunnelOptions,
};
use crate::kernel::netlink::{Error, Netlink};
use crate::plan::{Change, Interface, Kind};

/// The kernel counts the timers of bridges in units of 1/100 s (USER_HZ), conlink in seconds.
const HZ: u32 = 100;

/// A message for a new interface, without its namespace and type.
pub(super) fn message(name: &IfName, group: u32, mac: Option<Mac>, mtu: Option<u32>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_string()));
    message.attributes.push(LinkAttribute::Group(group));
    message.attributes.extend(mac.map(|it| LinkAttribute::Address(it.bytes().to_vec())));
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    message
}

fn with_info(mut message: LinkMessage, kind: InfoKind, data: Option<InfoData>) -> LinkMessage {
    let mut info = vec![LinkInfo::Kind(kind)];
    info.extend(data.map(LinkInfo::Data));
    message.attributes.push(LinkAttribute::LinkInfo(info));
    message
}

/// `ip link add … type veth peer …`, the peer in the namespace of `netns`.
pub(super) fn add_veth(
    netlink: &mut Netlink,
    mut inner: LinkMessage,
    mut peer: LinkMessage,
    many_queues: bool,
    netns: &impl AsRawFd,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    // Without these the kernel makes one queue per processor for each end and then switches off all but one, which
    // takes a third of the time of making a veth (`veth_init_queues()` in drivers/net/veth.c).
    if !many_queues {
        let queues = [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)];
        inner.attributes.extend(queues.clone());
        peer.attributes.extend(queues);
    }
    peer.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
    let data = InfoData::Veth(InfoVeth::Peer(peer));
    add(netlink, with_info(inner, InfoKind::Veth, Some(data)), what)
}

/// `ip link add … type bridge …`.
pub(super) fn add_bridge(
    netlink: &mut Netlink,
    message: LinkMessage,
    options: &BridgeOptions,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    let data = InfoData::Bridge(bridge_data(options));
    add(netlink, with_info(message, InfoKind::Bridge, Some(data)), what)
}

/// `ip link set NAME type bridge …`.
pub(super) fn set_bridge(
    netlink: &mut Netlink,
    index: u32,
    options: &BridgeOptions,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    let data = bridge_data(options);
    if data.is_empty() {
        return Ok(());
    }
    let mut message = with_info(LinkMessage::default(), InfoKind::Bridge, Some(InfoData::Bridge(data)));
    message.header.index = index;
    netlink.request(RouteNetlinkMessage::NewLink(message), 0, what)
}

fn bridge_data(options: &BridgeOptions) -> Vec<InfoBridge> {
    // The MTU is not among them: it is a property of the interface.
    let BridgeOptions {
        stp,
        vlan_filtering,
        mcast_snooping,
        group_fwd_mask,
        mtu: _,
        ageing_time,
        forward_delay,
    } = options;
    let stp = stp.map(|on| if on { BridgeStpState::KernelStp } else { BridgeStpState::Disabled });
    let mut data = Vec::new();
    data.extend(stp.map(InfoBridge::StpState));
    data.extend(vlan_filtering.map(InfoBridge::VlanFiltering));
    data.extend(mcast_snooping.map(InfoBridge::MulticastSnooping));
    data.extend(group_fwd_mask.map(InfoBridge::GroupFwdMask));
    data.extend(ageing_time.map(|it| InfoBridge::AgeingTime(it.saturating_mul(HZ))));
    data.extend(forward_delay.map(|it| InfoBridge::ForwardDelay(it.saturating_mul(HZ))));
    data
}

/// `ip link add … type dummy`.
pub(super) fn add_dummy(
    netlink: &mut Netlink,
    message: LinkMessage,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    add(netlink, with_info(message, InfoKind::Dummy, None), what)
}

/// `ip link add … link PARENT type KIND …`.
pub(super) fn add_stacked(
    netlink: &mut Netlink,
    mut message: LinkMessage,
    kind: StackedKind,
    parent: u32,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    message.attributes.push(LinkAttribute::Link(parent));
    let macvlan = |mode: MacvlanMode| match mode {
        MacvlanMode::Private => MacVlanMode::Private,
        MacvlanMode::Vepa => MacVlanMode::Vepa,
        MacvlanMode::Bridge => MacVlanMode::Bridge,
        MacvlanMode::Passthru => MacVlanMode::Passthrough,
        MacvlanMode::Source => MacVlanMode::Source,
    };
    let ipvlan = |mode: IpvlanMode| match mode {
        IpvlanMode::L2 => IpVlanMode::L2,
        IpvlanMode::L3 => IpVlanMode::L3,
        IpvlanMode::L3s => IpVlanMode::L3S,
    };
    let flags = |flag: IpvlanFlag| match flag {
        IpvlanFlag::Bridge => IpVlanFlags::empty(),
        IpvlanFlag::Private => IpVlanFlags::Private,
        IpvlanFlag::Vepa => IpVlanFlags::Vepa,
    };
    let (kind, data) = match kind {
        StackedKind::Vlan { id } => (InfoKind::Vlan, Some(InfoData::Vlan(vec![InfoVlan::Id(id)]))),
        StackedKind::Macvlan { mode } => {
            (InfoKind::MacVlan, mode.map(|it| InfoData::MacVlan(vec![InfoMacVlan::Mode(macvlan(it))])))
        }
        StackedKind::Macvtap { mode } => {
            (InfoKind::MacVtap, mode.map(|it| InfoData::MacVtap(vec![InfoMacVtap::Mode(macvlan(it))])))
        }
        StackedKind::Ipvlan { mode, flag } => {
            let mode = mode.map(|it| InfoIpVlan::Mode(ipvlan(it)));
            let data: Vec<_> = mode.into_iter().chain(flag.map(|it| InfoIpVlan::Flags(flags(it)))).collect();
            (InfoKind::IpVlan, (!data.is_empty()).then_some(InfoData::IpVlan(data)))
        }
        StackedKind::Ipvtap { mode, flag } => {
            let mode = mode.map(|it| InfoIpVtap::Mode(ipvlan(it)));
            let data: Vec<_> = mode.into_iter().chain(flag.map(|it| InfoIpVtap::Flags(flags(it)))).collect();
            (InfoKind::IpVtap, (!data.is_empty()).then_some(InfoData::IpVtap(data)))
        }
        StackedKind::Ipoib { pkey } => {
            (InfoKind::Ipoib, pkey.map(|it| InfoData::Ipoib(vec![InfoIpoib::Pkey(it)])))
        }
    };
    add(netlink, with_info(message, kind, data), what)
}

/// `ip link add … type vxlan|geneve …`.
pub(super) fn add_tunnel(
    netlink: &mut Netlink,
    message: LinkMessage,
    options: &TunnelOptions,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    let TunnelOptions { kind, vni, remote, local, dstport, ttl } = options;
    let (kind, data) = match kind {
        TunnelKind::Vxlan => {
            let mut data = vec![InfoVxlan::Id(*vni)];
            data.push(match remote {
                IpAddr::V4(it) => InfoVxlan::Group(*it),
                IpAddr::V6(it) => InfoVxlan::Group6(*it),
            });
            data.extend(local.map(|it| match it {
                IpAddr::V4(it) => InfoVxlan::Local(it),
                IpAddr::V6(it) => InfoVxlan::Local6(it),
            }));
            data.push(InfoVxlan::Port(*dstport));
            data.push(InfoVxlan::Ttl(*ttl));
            (InfoKind::Vxlan, InfoData::Vxlan(data))
        }
        TunnelKind::Geneve => {
            let remote = match remote {
                IpAddr::V4(it) => InfoGeneve::Remote(*it),
                IpAddr::V6(it) => InfoGeneve::Remote6(*it),
            };
            let data = vec![InfoGeneve::Id(*vni), remote, InfoGeneve::Port(*dstport), InfoGeneve::Ttl(*ttl)];
            (InfoKind::Geneve, InfoData::Geneve(data))
        }
    };
    add(netlink, with_info(message, kind, Some(data)), what)
}

/// None without a remote address: conlink makes no such tunnel.
fn vxlan(data: &[InfoVxlan]) -> Option<TunnelOptions> {
    let (mut remote, mut local) = (None, None);
    let kind = TunnelKind::Vxlan;
    let (mut vni, mut dstport, mut ttl) = (0, kind.default_port(), 0);
    for it in data {
        match it {
            InfoVxlan::Id(it) => vni = *it,
            InfoVxlan::Group(it) => remote = Some(IpAddr::V4(*it)),
            InfoVxlan::Group6(it) => remote = Some(IpAddr::V6(*it)),
            InfoVxlan::Local(it) => local = Some(IpAddr::V4(*it)),
            InfoVxlan::Local6(it) => local = Some(IpAddr::V6(*it)),
            InfoVxlan::Port(it) => dstport = *it,
            InfoVxlan::Ttl(it) => ttl = *it,
            _ => {}
        }
    }
    Some(TunnelOptions { kind, vni, remote: remote?, local, dstport, ttl })
}

fn geneve(data: &[InfoGeneve]) -> Option<TunnelOptions> {
    let mut remote = None;
    let kind = TunnelKind::Geneve;
    let (mut vni, mut dstport, mut ttl) = (0, kind.default_port(), 0);
    for it in data {
        match it {
            InfoGeneve::Id(it) => vni = *it,
            InfoGeneve::Remote(it) => remote = Some(IpAddr::V4(*it)),
            InfoGeneve::Remote6(it) => remote = Some(IpAddr::V6(*it)),
            InfoGeneve::Port(it) => dstport = *it,
            InfoGeneve::Ttl(it) => ttl = *it,
            _ => {}
        }
    }
    Some(TunnelOptions { kind, vni, remote: remote?, local: None, dstport, ttl })
}

fn add(netlink: &mut Netlink, message: LinkMessage, what: impl FnOnce() -> String) -> Result<(), Error> {
    netlink.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL, what)
}

/// `ip link set INDEX name NAME netns …` in one message.
pub(super) fn move_to(
    netlink: &mut Netlink,
    index: u32,
    name: &IfName,
    netns: RawFd,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![LinkAttribute::IfName(name.to_string()), LinkAttribute::NetNsFd(netns)];
    netlink.request(RouteNetlinkMessage::NewLink(message), 0, what)
}

/// `ip link del`. Succeeds if it does not exist.
pub(super) fn del(netlink: &mut Netlink, name: &IfName, what: impl FnOnce() -> String) -> Result<(), Error> {
    // By index: the kernel would also accept the altname of another interface.
    match get(netlink, name)? {
        Some((_, found)) => del_index(netlink, found.index, what),
        None => Ok(()),
    }
}

/// `ip link del` by index. Succeeds if it does not exist.
pub(super) fn del_index(
    netlink: &mut Netlink,
    index: u32,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    gone_is_fine(netlink.request(RouteNetlinkMessage::DelLink(message), 0, what))
}

/// `ip link del group`.
pub(super) fn del_group(
    netlink: &mut Netlink,
    group: u32,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Group(group));
    gone_is_fine(netlink.request(RouteNetlinkMessage::DelLink(message), 0, what))
}

/// `ip link set INDEX group GROUP`.
pub(super) fn set_group(
    netlink: &mut Netlink,
    index: u32,
    group: u32,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![LinkAttribute::Group(group)];
    netlink.request(RouteNetlinkMessage::SetLink(message), 0, what)
}

/// Turns errors about something that no longer exists into success.
pub(super) fn gone_is_fine(result: Result<(), Error>) -> Result<(), Error> {
    result.or_else(|error| if error.is_gone() { Ok(()) } else { Err(error) })
}

/// `ip link set INDEX up`.
pub(super) fn up(netlink: &mut Netlink, index: u32) -> Result<(), Error> {
    let change = Change { up: Some(true), ..Change::default() };
    set(netlink, index, &change, None, || format!("set interface {index} up"))
}

/// `ip link set INDEX …`: a change in one message. `master` is the index of the bridge, 0: none.
pub(super) fn set(
    netlink: &mut Netlink,
    index: u32,
    change: &Change,
    master: Option<u32>,
    what: impl Fn() -> String,
) -> Result<(), Error> {
    let Change { mac, mtu, master: _, mark, up, arp, forwarding, unisolated, no_link_local } = change;
    if *no_link_local {
        // In a message of its own: the kernel applies it after the flags of the same message (`do_setlink()` in
        // net/core/rtnetlink.c), which is too late for an interface that goes up. A kernel without IPv6 ignores it.
        let mut message = LinkMessage::default();
        message.header.index = index;
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]));
        let result = netlink.request(RouteNetlinkMessage::NewLink(message), 0, &what);
        if let Err(error) = result
            && !matches!(error.errno(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::EINVAL))
        {
            return Err(error);
        }
    }
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.extend(mac.map(|it| LinkAttribute::Address(it.bytes().to_vec())));
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    message.attributes.extend(master.map(LinkAttribute::Controller));
    if let Some(mark) = mark {
        message.attributes.push(LinkAttribute::IfAlias(mark.clone()));
        message.attributes.push(LinkAttribute::Group(0));
    }
    if let Some(up) = up {
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if *up { LinkFlags::Up } else { LinkFlags::empty() };
    }
    if *arp {
        message.header.change_mask |= LinkFlags::Noarp;
    }
    if *forwarding || *unisolated {
        let mut port = Vec::new();
        port.extend(forwarding.then_some(InfoBridgePort::State(BridgePortState::Forwarding)));
        port.extend(unisolated.then_some(InfoBridgePort::Isolated(false)));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(port)),
        ]));
    }
    match netlink.request(RouteNetlinkMessage::NewLink(message.clone()), 0, &what) {
        // Some drivers can change MAC address or MTU only while the interface is down
        // (`eth_prepare_mac_addr_change()`).
        Err(error) if error.errno() == Some(libc::EBUSY) && (mac.is_some() || mtu.is_some()) => {
            set_while_down(netlink, index, message, what).map_err(|again| again.unwrap_or(error))
        }
        result => result,
    }
}

/// Takes an interface down for a change, and up again. The error is None if it was already down, so that another cause
/// keeps it busy.
fn set_while_down(
    netlink: &mut Netlink,
    index: u32,
    message: LinkMessage,
    what: impl Fn() -> String,
) -> Result<(), Option<Error>> {
    let mut flags = LinkMessage::default();
    flags.header.index = index;
    let present = netlink.get(RouteNetlinkMessage::GetLink(flags.clone()), &what).map_err(Some)?;
    if !matches!(present, Some(RouteNetlinkMessage::NewLink(it)) if it.header.flags.contains(LinkFlags::Up)) {
        return Err(None);
    }
    flags.header.change_mask = LinkFlags::Up;
    netlink.request(RouteNetlinkMessage::NewLink(flags.clone()), 0, &what).map_err(Some)?;
    let stays_down =
        message.header.change_mask.contains(LinkFlags::Up) && !message.header.flags.contains(LinkFlags::Up);
    let changed = netlink.request(RouteNetlinkMessage::NewLink(message), 0, &what);
    if !stays_down {
        // The interface goes up again even if the change failed.
        flags.header.flags = LinkFlags::Up;
        netlink.request(RouteNetlinkMessage::NewLink(flags), 0, &what).map_err(Some)?;
    }
    changed.map_err(Some)
}

/// `bridge vlan add vid VLAN dev INDEX pvid untagged`, and `bridge vlan del vid WAS dev INDEX`.
pub(super) fn set_port_vlan(
    netlink: &mut Netlink,
    index: u32,
    vlan: u16,
    was: Option<u16>,
    what: impl Fn() -> String,
) -> Result<(), Error> {
    let message = |flags, vid| {
        let mut message = LinkMessage::default();
        message.header.interface_family = AddressFamily::Bridge;
        message.header.index = index;
        let info = AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid });
        message.attributes.push(LinkAttribute::AfSpecBridge(vec![info]));
        message
    };
    let flags = BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged;
    netlink.request(RouteNetlinkMessage::SetLink(message(flags, vlan)), 0, &what)?;
    match was.filter(|it| *it != vlan) {
        Some(was) => {
            let del = RouteNetlinkMessage::DelLink(message(BridgeVlanInfoFlags::empty(), was));
            gone_is_fine(netlink.request(del, 0, &what))
        }
        None => Ok(()),
    }
}

/// The VLAN of untagged frames of each port of a bridge, by index.
pub(super) fn port_vlans(netlink: &mut Netlink) -> Result<BTreeMap<u32, u16>, Error> {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::Brvlan]));
    let all = netlink.dump(RouteNetlinkMessage::GetLink(message), || "dump VLANs of ports".to_owned())?;
    let mut vlans = BTreeMap::new();
    for it in &all {
        let RouteNetlinkMessage::NewLink(it) = it else { continue };
        for attribute in &it.attributes {
            let LinkAttribute::AfSpecBridge(infos) = attribute else { continue };
            for info in infos {
                if let AfSpecBridge::VlanInfo(info) = info
                    && info.flags.contains(BridgeVlanInfoFlags::Pvid)
                {
                    vlans.insert(it.header.index, info.vid);
                }
            }
        }
    }
    Ok(vlans)
}

/// A request without counters, which are the larger part of an answer.
fn get_message() -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}

/// The interface of that name. An interface that has the name only as altname does not count.
pub(super) fn get(netlink: &mut Netlink, name: &IfName) -> Result<Option<(IfName, Interface)>, Error> {
    let mut message = get_message();
    message.attributes.push(LinkAttribute::IfName(name.to_string()));
    match netlink.get(RouteNetlinkMessage::GetLink(message), || format!("get {name}")) {
        Ok(Some(RouteNetlinkMessage::NewLink(it))) => Ok(decode(&it).filter(|(found, _)| found == name)),
        Ok(_) => Ok(None),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

/// An end of a link, as far as it carries frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) index: u32,
    /// Administratively up (IFF_UP).
    pub(super) up: bool,
    /// It can send and receive (IFF_RUNNING); as a port of a bridge, it is not disabled.
    pub(super) runs: bool,
    /// IFLA_LINK, and the id of its namespace in this one, if it is in another.
    other: Option<(u32, Option<i32>)>,
}

/// An interface as an end of its link.
///
/// # Errors
/// ENODEV: no interface has this name.
pub(super) fn end(netlink: &mut Netlink, name: &IfName) -> io::Result<End> {
    let mut message = get_message();
    message.attributes.push(LinkAttribute::IfName(name.to_string()));
    get_end(netlink, message)
}

/// The other end of a veth, or the parent of a stacked type; it may be in another namespace.
pub(super) fn other_end(netlink: &mut Netlink, of: End) -> io::Result<Option<End>> {
    let Some((index, namespace)) = of.other else { return Ok(None) };
    let mut message = get_message();
    message.header.index = index;
    message.attributes.extend(namespace.map(LinkAttribute::IfNetnsId));
    get_end(netlink, message).map(Some)
}

fn get_end(netlink: &mut Netlink, message: LinkMessage) -> io::Result<End> {
    let found = match netlink.get(RouteNetlinkMessage::GetLink(message), || "get an interface".to_owned()) {
        Ok(Some(RouteNetlinkMessage::NewLink(it))) => it,
        Ok(_) => return Err(io::Error::from_raw_os_error(libc::ENODEV)),
        Err(error) => {
            let number = error.errno();
            return Err(number.map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error));
        }
    };
    let flags = found.header.flags;
    let (mut link, mut namespace, mut disabled) = (None, None, false);
    for attribute in &found.attributes {
        match attribute {
            LinkAttribute::Link(it) => link = Some(*it),
            LinkAttribute::LinkNetNsId(it) => namespace = Some(*it),
            LinkAttribute::LinkInfo(info) => {
                disabled = port(info).contains(&InfoBridgePort::State(BridgePortState::Disabled));
            }
            _ => {}
        }
    }
    Ok(End {
        index: found.header.index,
        up: flags.contains(LinkFlags::Up),
        runs: flags.contains(LinkFlags::Running) && !disabled,
        other: link.map(|it| (it, namespace)),
    })
}

/// Every interface of the namespace.
pub(super) fn dump(netlink: &mut Netlink) -> Result<Vec<(IfName, Interface)>, Error> {
    let all = netlink.dump(RouteNetlinkMessage::GetLink(get_message()), || "dump interfaces".to_owned())?;
    let decoded = all.iter().filter_map(|it| match it {
        RouteNetlinkMessage::NewLink(it) => decode(it),
        _ => None,
    });
    Ok(decoded.collect())
}

fn decode(message: &LinkMessage) -> Option<(IfName, Interface)> {
    let mut name = None;
    let mut interface = Interface::new(message.header.index, Kind::Other(String::new()));
    let flags = message.header.flags;
    interface.up = flags.contains(LinkFlags::Up);
    interface.no_arp = flags.contains(LinkFlags::Noarp);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(it) => name = it.parse().ok(),
            LinkAttribute::IfAlias(it) => interface.alias = Some(it.clone()),
            LinkAttribute::Group(it) => interface.group = *it,
            LinkAttribute::Mtu(it) => interface.mtu = *it,
            LinkAttribute::Controller(it) => interface.master = Some(*it),
            LinkAttribute::Link(it) => interface.link = Some(*it),
            LinkAttribute::Address(it) => {
                interface.mac = it.as_slice().try_into().ok().and_then(|it| Mac::new(it).ok());
            }
            LinkAttribute::LinkInfo(info) => {
                interface.kind = kind(info);
                for it in port(info) {
                    match it {
                        InfoBridgePort::State(it) => {
                            let runs = flags.contains(LinkFlags::Running);
                            interface.blocked = runs && *it != BridgePortState::Forwarding;
                        }
                        InfoBridgePort::Isolated(it) => interface.isolated = *it,
                        _ => {}
                    }
                }
            }
            LinkAttribute::AfSpecUnspec(specs) => interface.v6_off = v6_off(specs),
            _ => {}
        }
    }
    // Not every driver tells its name.
    if interface.kind == Kind::Other(String::new())
        && message.header.link_layer_type == LinkLayerType::Infiniband
    {
        interface.kind = Kind::Stacked(StackedKind::Ipoib { pkey: None });
    }
    Some((name?, interface))
}

/// Is IPv6 disabled on the interface? False without this setting: the kernel has no IPv6 for an MTU below 1280.
fn v6_off(specs: &[AfSpecUnspec]) -> bool {
    let inet6 = specs.iter().filter_map(|it| match it {
        AfSpecUnspec::Inet6(it) => Some(it),
        _ => None,
    });
    inet6.flatten().any(|it| matches!(it, AfSpecInet6::DevConf(it) if it.disable_ipv6 != 0))
}

/// How a bridge treats its port; of any other interface nothing.
fn port(info: &[LinkInfo]) -> &[InfoBridgePort] {
    let data = info.iter().find_map(|it| match it {
        LinkInfo::PortData(InfoPortData::BridgePort(data)) => Some(data.as_slice()),
        _ => None,
    });
    data.unwrap_or_default()
}

fn kind(info: &[LinkInfo]) -> Kind {
    let data = info.iter().find_map(|it| match it {
        LinkInfo::Data(data) => Some(data),
        _ => None,
    });
    let Some(kind) = info.iter().find_map(|it| match it {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    }) else {
        return Kind::Other(String::new());
    };
    let macvlan = |mode: MacVlanMode| match mode {
        MacVlanMode::Private => Some(MacvlanMode::Private),
        MacVlanMode::Vepa => Some(MacvlanMode::Vepa),
        MacVlanMode::Bridge => Some(MacvlanMode::Bridge),
        MacVlanMode::Passthrough => Some(MacvlanMode::Passthru),
        MacVlanMode::Source => Some(MacvlanMode::Source),
        _ => None,
    };
    let ipvlan = |mode: IpVlanMode| match mode {
        IpVlanMode::L2 => Some(IpvlanMode::L2),
        IpVlanMode::L3 => Some(IpvlanMode::L3),
        IpVlanMode::L3S => Some(IpvlanMode::L3s),
        _ => None,
    };
    let flag = |flags: IpVlanFlags| match flags {
        it if it.contains(IpVlanFlags::Private) => IpvlanFlag::Private,
        it if it.contains(IpVlanFlags::Vepa) => IpvlanFlag::Vepa,
        _ => IpvlanFlag::Bridge,
    };
    match (kind, data) {
        (InfoKind::Veth, _) => Kind::Veth,
        (InfoKind::Dummy, _) => Kind::Dummy,
        (InfoKind::Bridge, Some(InfoData::Bridge(data))) => Kind::Bridge(bridge_options(data)),
        (InfoKind::Bridge, _) => Kind::Bridge(BridgeOptions::default()),
        (InfoKind::Vlan, Some(InfoData::Vlan(data))) => {
            let id = data.iter().find_map(|it| if let InfoVlan::Id(it) = it { Some(*it) } else { None });
            Kind::Stacked(StackedKind::Vlan { id: id.unwrap_or(0) })
        }
        (InfoKind::MacVlan, Some(InfoData::MacVlan(data))) => Kind::Stacked(StackedKind::Macvlan {
            mode: data.iter().find_map(|it| if let InfoMacVlan::Mode(it) = it { macvlan(*it) } else { None }),
        }),
        (InfoKind::MacVtap, Some(InfoData::MacVtap(data))) => Kind::Stacked(StackedKind::Macvtap {
            mode: data.iter().find_map(|it| if let InfoMacVtap::Mode(it) = it { macvlan(*it) } else { None }),
        }),
        (InfoKind::IpVlan, Some(InfoData::IpVlan(data))) => Kind::Stacked(StackedKind::Ipvlan {
            mode: data.iter().find_map(|it| if let InfoIpVlan::Mode(it) = it { ipvlan(*it) } else { None }),
            flag: data
                .iter()
                .find_map(|it| if let InfoIpVlan::Flags(it) = it { Some(flag(*it)) } else { None }),
        }),
        (InfoKind::IpVtap, Some(InfoData::IpVtap(data))) => Kind::Stacked(StackedKind::Ipvtap {
            mode: data.iter().find_map(|it| if let InfoIpVtap::Mode(it) = it { ipvlan(*it) } else { None }),
            flag: data
                .iter()
                .find_map(|it| if let InfoIpVtap::Flags(it) = it { Some(flag(*it)) } else { None }),
        }),
        (InfoKind::Ipoib, Some(InfoData::Ipoib(data))) => Kind::Stacked(StackedKind::Ipoib {
            pkey: data.iter().find_map(|it| if let InfoIpoib::Pkey(it) = it { Some(*it) } else { None }),
        }),
        (InfoKind::Vxlan, Some(InfoData::Vxlan(data))) => {
            vxlan(data).map_or_else(|| Kind::Other("vxlan".to_owned()), Kind::Tunnel)
        }
        (InfoKind::Geneve, Some(InfoData::Geneve(data))) => {
            geneve(data).map_or_else(|| Kind::Other("geneve".to_owned()), Kind::Tunnel)
        }
        (kind, _) => Kind::Other(kind.to_string()),
    }
}

fn bridge_options(data: &[InfoBridge]) -> BridgeOptions {
    let mut options = BridgeOptions::default();
    for it in data {
        match it {
            InfoBridge::StpState(it) => options.stp = Some(*it != BridgeStpState::Disabled),
            InfoBridge::VlanFiltering(it) => options.vlan_filtering = Some(*it),
            InfoBridge::MulticastSnooping(it) => options.mcast_snooping = Some(*it),
            InfoBridge::GroupFwdMask(it) => options.group_fwd_mask = Some(*it),
            InfoBridge::AgeingTime(it) => options.ageing_time = Some(it / HZ),
            InfoBridge::ForwardDelay(it) => options.forward_delay = Some(it / HZ),
            _ => {}
        }
    }
    options
}
