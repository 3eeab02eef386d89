//! Steps: single changes of the kernel's state.

use std::collections::BTreeMap;
use std::fmt;

use crate::addr::{Cidr, IfName, Mac};
use crate::device::{BridgeOptions, StackedKind, TunnelOptions};
use crate::ethtool::{Ethtool, Feature};
use crate::nat::NatRule;
use crate::netem::Netem;
use crate::plan::Ns;
use crate::route::Route;

/// One change of the kernel's state, fully specified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `ip link add NAME group GROUP type bridge …`, then marked and up.
    AddBridge {
        ns: Ns,
        name: IfName,
        group: u32,
        mark: String,
        options: BridgeOptions,
    },
    /// `ip link set NAME type bridge …`. Options that are not given do not change.
    SetBridge {
        ns: Ns,
        name: IfName,
        options: BridgeOptions,
    },
    /// Makes both ends of a veth in their namespaces with their final names, down, in the group of unfinished
    /// interfaces.
    AddVeth {
        ns: Ns,
        name: IfName,
        group: u32,
        mac: Option<Mac>,
        mtu: Option<u32>,
        peer_ns: Ns,
        peer: IfName,
        /// One queue per processor instead of one queue, for links that set channels.
        many_queues: bool,
    },
    /// Makes an interface on a parent in its namespace with its final name, down, in the group of unfinished
    /// interfaces.
    AddStacked {
        ns: Ns,
        name: IfName,
        group: u32,
        parent_ns: Ns,
        parent: IfName,
        kind: StackedKind,
        mac: Option<Mac>,
        mtu: Option<u32>,
    },
    AddDummy {
        ns: Ns,
        name: IfName,
        group: u32,
        mac: Option<Mac>,
        mtu: Option<u32>,
    },
    /// `ip link set NAME name TO_NAME netns TO`, then `mac` and `mtu`. It is down afterwards, and without addresses.
    MoveInterface {
        ns: Ns,
        name: IfName,
        to: Ns,
        to_name: IfName,
        mac: Option<Mac>,
        mtu: Option<u32>,
    },
    /// `ip link del NAME`. Succeeds if it does not exist.
    DelInterface {
        ns: Ns,
        name: IfName,
    },
    /// `ip link set NAME …` in one message.
    SetInterface {
        ns: Ns,
        name: IfName,
        change: Change,
    },
    /// `sysctl net.ipv6.conf.NAME.disable_ipv6=0`.
    EnableV6 {
        ns: Ns,
        name: IfName,
    },
    /// `ip addr add CIDR dev NAME` with [`PROTOCOL`](crate::plan::PROTOCOL); IPv6 without duplicate address detection.
    AddAddr {
        ns: Ns,
        dev: IfName,
        cidr: Cidr,
    },
    /// `ip addr del CIDR dev NAME`.
    DelAddr {
        ns: Ns,
        dev: IfName,
        cidr: Cidr,
    },
    /// `ip route replace`; if `replace` is false `ip route add`, which fails if any route of the same destination,
    /// table and metric exists. Its protocol is [`PROTOCOL`](crate::plan::PROTOCOL) if the route has none.
    SetRoute {
        ns: Ns,
        route: Route,
        replace: bool,
    },
    /// `ip route del`. Succeeds if it does not exist.
    DelRoute {
        ns: Ns,
        route: Route,
    },
    /// `ethtool -K NAME FEATURE on|off …` in one request (ETHTOOL_SFEATURES). If two of them switch the same kernel
    /// feature, the later one wins.
    SetFeatures {
        ns: Ns,
        name: IfName,
        features: Vec<(Feature, bool)>,
    },
    /// The same for the features that the device allows to switch. A feature that still waits for another is not an
    /// error.
    ResetFeatures {
        ns: Ns,
        name: IfName,
        features: Vec<(Feature, bool)>,
    },
    /// Any other command of `ethtool`.
    SetEthtool {
        ns: Ns,
        name: IfName,
        setting: Ethtool,
    },
    /// `tc qdisc replace dev NAME root handle c2: netem …`, if the root is not a netem.
    AddNetem {
        ns: Ns,
        name: IfName,
        netem: Netem,
    },
    /// `tc qdisc change dev NAME root netem …`. No packet is lost, and no old parameter stays.
    SetNetem {
        ns: Ns,
        name: IfName,
        netem: Netem,
    },
    /// `tc qdisc del dev NAME root`. Succeeds if it does not exist.
    DelNetem {
        ns: Ns,
        name: IfName,
    },
    /// Changes rules of the table `conlink` in one transaction.
    SetNat {
        ns: Ns,
        del: Vec<NatRule>,
        add: Vec<NatRule>,
    },
    /// `sysctl net.ipv4.ip_forward=1`, or the same for IPv6.
    SetForwarding {
        ns: Ns,
        v6: bool,
    },
    /// `sysctl net.ipv4.conf.NAME.route_localnet=1`, or 0.
    SetLocalnet {
        ns: Ns,
        name: IfName,
        on: bool,
    },
    /// `ip link add NAME group GROUP type vxlan|geneve …`, down. Its packets take the routes of the namespace
    /// `underlay`.
    AddTunnel {
        ns: Ns,
        name: IfName,
        group: u32,
        underlay: Ns,
        options: TunnelOptions,
        mac: Option<Mac>,
        mtu: Option<u32>,
    },
    /// `ovs-vsctl add-br NAME`.
    AddOvsBridge {
        name: IfName,
        mark: String,
    },
    /// `ovs-vsctl del-br NAME`. Succeeds if it does not exist.
    DelOvsBridge {
        name: IfName,
    },
    /// `ovs-vsctl add-port BRIDGE PORT tag=TAG external_ids:…`. The port is removed from another bridge of ours first.
    AddOvsPort {
        bridge: IfName,
        port: IfName,
        mark: String,
        tag: Option<u16>,
        ids: BTreeMap<String, String>,
    },
    /// `ovs-vsctl del-port BRIDGE PORT`. Succeeds if it does not exist.
    DelOvsPort {
        bridge: IfName,
        port: IfName,
    },
    /// `bridge vlan add vid VLAN dev NAME pvid untagged`, and `bridge vlan del vid WAS dev NAME`.
    SetPortVlan {
        ns: Ns,
        name: IfName,
        vlan: u16,
        was: Option<u16>,
    },
    /// Sends every frame that arrives at `from` out of `to`: an ingress qdisc, a filter that matches everything, and a
    /// mirred redirect.
    AddRedirect {
        ns: Ns,
        from: IfName,
        to: IfName,
    },
    /// Removes the ingress qdisc with its filters.
    DelRedirect {
        ns: Ns,
        from: IfName,
    },
}

/// The settings of [`Step::SetInterface`]. None: no change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub mac: Option<Mac>,
    pub mtu: Option<u32>,
    /// The new bridge; `Some(None)`: no bridge.
    pub master: Option<Option<IfName>>,
    /// Sets the mark, and takes the interface out of the group of unfinished interfaces.
    pub mark: Option<String>,
    pub up: Option<bool>,
    /// `ip link set NAME arp on`.
    pub arp: bool,
    /// `bridge link set dev NAME state 3`: the bridge forwards its frames.
    pub forwarding: bool,
    /// `bridge link set dev NAME isolated off`.
    pub unisolated: bool,
    /// Gives it no IPv6 link-local address of its own: an outer end is a plug, not a host.
    pub no_link_local: bool,
}

impl Change {
    /// Takes the mark away.
    pub fn unmarked() -> Self {
        Self { mark: Some(String::new()), ..Self::default() }
    }
}

impl Step {
    /// The namespace that the step acts in.
    pub fn ns(&self) -> &Ns {
        match self {
            Self::AddBridge { ns, .. }
            | Self::SetBridge { ns, .. }
            | Self::AddVeth { ns, .. }
            | Self::AddStacked { ns, .. }
            | Self::AddDummy { ns, .. }
            | Self::MoveInterface { ns, .. }
            | Self::DelInterface { ns, .. }
            | Self::SetInterface { ns, .. }
            | Self::EnableV6 { ns, .. }
            | Self::AddAddr { ns, .. }
            | Self::DelAddr { ns, .. }
            | Self::SetRoute { ns, .. }
            | Self::DelRoute { ns, .. }
            | Self::SetFeatures { ns, .. }
            | Self::ResetFeatures { ns, .. }
            | Self::SetEthtool { ns, .. }
            | Self::AddNetem { ns, .. }
            | Self::SetNetem { ns, .. }
            | Self::DelNetem { ns, .. }
            | Self::SetNat { ns, .. }
            | Self::SetForwarding { ns, .. }
            | Self::SetLocalnet { ns, .. }
            | Self::AddTunnel { ns, .. }
            | Self::SetPortVlan { ns, .. }
            | Self::AddRedirect { ns, .. }
            | Self::DelRedirect { ns, .. } => ns,
            Self::AddOvsBridge { .. }
            | Self::DelOvsBridge { .. }
            | Self::AddOvsPort { .. }
            | Self::DelOvsPort { .. } => &Ns::Bridges,
        }
    }
}

/// The step in the syntax of iproute2, without its namespace.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddBridge { name, options, .. } => write!(f, "add bridge {name}{}", Options(options)),
            Self::SetBridge { name, options, .. } => write!(f, "set bridge {name}{}", Options(options)),
            Self::AddVeth { name, mac, mtu, peer_ns, peer, .. } => {
                write!(f, "add veth {name}{} peer {peer} in {peer_ns}", MacMtu(*mac, *mtu))
            }
            Self::AddStacked { name, parent_ns, parent, kind, mac, mtu, .. } => {
                write!(f, "add {kind} on {parent} in {parent_ns} {name}{}", MacMtu(*mac, *mtu))
            }
            Self::AddDummy { name, mac, mtu, .. } => write!(f, "add dummy {name}{}", MacMtu(*mac, *mtu)),
            Self::MoveInterface { name, to, to_name, mac, mtu, .. } => {
                write!(f, "move {name} to {to}")?;
                if to_name != name {
                    write!(f, " as {to_name}")?;
                }
                write!(f, "{}", MacMtu(*mac, *mtu))
            }
            Self::DelInterface { name, .. } => write!(f, "del {name}"),
            Self::SetInterface { name, change, .. } => write!(f, "set {name}{change}"),
            Self::EnableV6 { name, .. } => write!(f, "set {name} disable_ipv6 0"),
            Self::AddAddr { dev, cidr, .. } => write!(f, "add addr {cidr} dev {dev}"),
            Self::DelAddr { dev, cidr, .. } => write!(f, "del addr {cidr} dev {dev}"),
            Self::SetRoute { route, replace: true, .. } => write!(f, "replace route {route}"),
            Self::SetRoute { route, replace: false, .. } => write!(f, "add route {route}"),
            Self::DelRoute { route, .. } => write!(f, "del route {route}"),
            Self::SetFeatures { name, features, .. } => write!(f, "set {name} offload{}", Switches(features)),
            Self::ResetFeatures { name, features, .. } => {
                write!(f, "reset {name} offload{}", Switches(features))
            }
            Self::SetEthtool { name, setting, .. } => write!(f, "set {name} {setting}"),
            Self::AddNetem { name, netem, .. } => write!(f, "add netem to {name}: {netem}"),
            Self::SetNetem { name, netem, .. } => write!(f, "set netem of {name}: {netem}"),
            Self::DelNetem { name, .. } => write!(f, "del netem of {name}"),
            Self::SetNat { del, add, .. } => {
                let mut words = Vec::new();
                words.extend(del.iter().map(|it| format!("del rule {it}")));
                words.extend(add.iter().map(|it| format!("add rule {it}")));
                f.write_str(&words.join("; "))
            }
            Self::SetForwarding { v6, .. } => {
                write!(f, "set forwarding of {} packets", if *v6 { "IPv6" } else { "IPv4" })
            }
            Self::SetLocalnet { name, on, .. } => write!(f, "set {name} route_localnet {}", u8::from(*on)),
            Self::AddTunnel { name, options, mac, mtu, .. } => {
                write!(f, "add tunnel {name}: {options}{}", MacMtu(*mac, *mtu))
            }
            Self::AddOvsBridge { name, .. } => write!(f, "add ovs bridge {name}"),
            Self::DelOvsBridge { name } => write!(f, "del ovs bridge {name}"),
            Self::AddOvsPort { bridge, port, tag, .. } => {
                write!(f, "add ovs port {port} to {bridge}")?;
                tag.map_or(Ok(()), |it| write!(f, " tag {it}"))
            }
            Self::DelOvsPort { bridge, port } => write!(f, "del ovs port {port} of {bridge}"),
            Self::SetPortVlan { name, vlan, .. } => write!(f, "set {name} port vlan {vlan}"),
            Self::AddRedirect { from, to, .. } => write!(f, "add redirect {from} to {to}"),
            Self::DelRedirect { from, .. } => write!(f, "del redirect {from}"),
        }
    }
}

struct Switches<'a>(&'a [(Feature, bool)]);

impl fmt::Display for Switches<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(it, on)| write!(f, " {it} {}", if *on { "on" } else { "off" }))
    }
}

struct MacMtu(Option<Mac>, Option<u32>);

impl fmt::Display for MacMtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(mac) = self.0 {
            write!(f, " mac {mac}")?;
        }
        if let Some(mtu) = self.1 {
            write!(f, " mtu {mtu}")?;
        }
        Ok(())
    }
}

pub(super) struct Options<'a>(pub(super) &'a BridgeOptions);

impl fmt::Display for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BridgeOptions {
            stp,
            vlan_filtering,
            mcast_snooping,
            group_fwd_mask,
            mtu,
            ageing_time,
            forward_delay,
        } = self.0;
        for (name, value) in
            [("stp", stp), ("vlan-filtering", vlan_filtering), ("mcast-snooping", mcast_snooping)]
        {
            if let Some(value) = value {
                write!(f, " {name} {}", if *value { "on" } else { "off" })?;
            }
        }
        if let Some(mask) = group_fwd_mask {
            write!(f, " group-fwd-mask {mask:#x}")?;
        }
        for (name, value) in [("mtu", mtu), ("ageing-time", ageing_time), ("forward-delay", forward_delay)] {
            if let Some(value) = value {
                write!(f, " {name} {value}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mac, mtu, master, mark, up, arp, forwarding, unisolated, no_link_local } = self;
        write!(f, "{}", MacMtu(*mac, *mtu))?;
        for (word, _) in [(" arp on", arp), (" state forwarding", forwarding), (" isolated off", unisolated)]
            .iter()
            .filter(|(_, it)| **it)
        {
            f.write_str(word)?;
        }
        match master {
            Some(Some(bridge)) => write!(f, " master {bridge}")?,
            Some(None) => f.write_str(" nomaster")?,
            None => {}
        }
        if let Some(mark) = mark {
            write!(f, " alias {}", if mark.is_empty() { "\"\"" } else { mark })?;
        }
        if *no_link_local {
            f.write_str(" addrgenmode none")?;
        }
        match up {
            Some(true) => f.write_str(" up"),
            Some(false) => f.write_str(" down"),
            None => Ok(()),
        }
    }
}
