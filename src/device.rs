//! Interface settings that the configuration and the kernel share.

use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of a Linux bridge. The kernel chooses those that are None.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeOptions {
    pub stp: Option<bool>,
    pub vlan_filtering: Option<bool>,
    pub mcast_snooping: Option<bool>,
    /// Link-local groups 01:80:c2:00:00:0X to forward, one bit each; the kernel refuses bits 0, 1 and 2.
    pub group_fwd_mask: Option<u16>,
    pub mtu: Option<u32>,
    /// Seconds.
    pub ageing_time: Option<u32>,
    /// Seconds.
    pub forward_delay: Option<u32>,
}

/// `macvlan_mode` in the kernel's `include/uapi/linux/if_link.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacvlanMode {
    Private,
    Vepa,
    Bridge,
    Passthru,
    Source,
}

impl MacvlanMode {
    /// Every mode with its name.
    pub const NAMES: [(&str, Self); 5] = [
        ("private", Self::Private),
        ("vepa", Self::Vepa),
        ("bridge", Self::Bridge),
        ("passthru", Self::Passthru),
        ("source", Self::Source),
    ];
}

impl fmt::Display for MacvlanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Private => "private",
            Self::Vepa => "vepa",
            Self::Bridge => "bridge",
            Self::Passthru => "passthru",
            Self::Source => "source",
        })
    }
}

/// `ipvlan_mode` in the kernel's `include/uapi/linux/if_link.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpvlanMode {
    L2,
    L3,
    L3s,
}

impl IpvlanMode {
    /// Every mode with its name.
    pub const NAMES: [(&str, Self); 3] = [("l2", Self::L2), ("l3", Self::L3), ("l3s", Self::L3s)];
}

impl fmt::Display for IpvlanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::L2 => "l2",
            Self::L3 => "l3",
            Self::L3s => "l3s",
        })
    }
}

/// What links on one ipvlan or ipvtap parent may send each other: `IPVLAN_F_*` in the kernel's
/// `include/uapi/linux/if_link.h`. All links on a parent share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpvlanFlag {
    /// Everything, directly.
    Bridge,
    /// Nothing.
    Private,
    /// Everything, by way of the switch that the parent is connected to.
    Vepa,
}

impl IpvlanFlag {
    /// Every flag with its name.
    pub const NAMES: [(&str, Self); 3] =
        [("bridge", Self::Bridge), ("private", Self::Private), ("vepa", Self::Vepa)];
}

impl fmt::Display for IpvlanFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bridge => "bridge",
            Self::Private => "private",
            Self::Vepa => "vepa",
        })
    }
}

/// How a bridge carries frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BridgeMode {
    /// The kernel's own bridge.
    Linux,
    /// A bridge of Open vSwitch.
    Ovs,
    /// No bridge: two ends connected at layer 1.
    Patch,
}

impl fmt::Display for BridgeMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// The namespace of an outer end, a bridge or a parent interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The namespace of the engine's bridges.
    Engine,
    /// The network namespace of PID 1.
    Host,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// The type of an interface that is created on a parent interface. A mode or flag of None is left to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackedKind {
    Vlan {
        /// 1 to 4094.
        id: u16,
    },
    Macvlan {
        mode: Option<MacvlanMode>,
    },
    Macvtap {
        mode: Option<MacvlanMode>,
    },
    Ipvlan {
        mode: Option<IpvlanMode>,
        flag: Option<IpvlanFlag>,
    },
    Ipvtap {
        mode: Option<IpvlanMode>,
        flag: Option<IpvlanFlag>,
    },
    /// IP over InfiniBand.
    Ipoib {
        /// The partition key; None: that of the parent.
        pkey: Option<u16>,
    },
}

impl StackedKind {
    /// The name that `ip link add type` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vlan { .. } => "vlan",
            Self::Macvlan { .. } => "macvlan",
            Self::Macvtap { .. } => "macvtap",
            Self::Ipvlan { .. } => "ipvlan",
            Self::Ipvtap { .. } => "ipvtap",
            Self::Ipoib { .. } => "ipoib",
        }
    }

    /// The name of the mode.
    pub fn mode(self) -> Option<String> {
        match self {
            Self::Vlan { .. } | Self::Ipoib { .. } => None,
            Self::Macvlan { mode } | Self::Macvtap { mode } => mode.map(|it| it.to_string()),
            Self::Ipvlan { mode, .. } | Self::Ipvtap { mode, .. } => mode.map(|it| it.to_string()),
        }
    }

    /// The flag of an ipvlan or ipvtap.
    pub fn flag(self) -> Option<IpvlanFlag> {
        match self {
            Self::Vlan { .. } | Self::Macvlan { .. } | Self::Macvtap { .. } | Self::Ipoib { .. } => None,
            Self::Ipvlan { flag, .. } | Self::Ipvtap { flag, .. } => flag,
        }
    }

    /// Does `have` meet this? No mode and no flag match any.
    pub fn matches(self, have: Self) -> bool {
        fn met<T: PartialEq>(wanted: Option<T>, have: Option<T>) -> bool {
            wanted.is_none() || wanted == have
        }
        match (self, have) {
            (Self::Vlan { .. }, _) => self == have,
            (Self::Ipoib { pkey }, Self::Ipoib { pkey: have }) => met(pkey, have),
            _ => self.name() == have.name() && met(self.mode(), have.mode()) && met(self.flag(), have.flag()),
        }
    }
}

impl fmt::Display for StackedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if let Self::Vlan { id } = self {
            write!(f, " {id}")?;
        }
        self.mode().map_or(Ok(()), |it| write!(f, " {it}"))?;
        self.flag().map_or(Ok(()), |it| write!(f, " {it}"))
    }
}

/// The encapsulation of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TunnelKind {
    Geneve,
    Vxlan,
}

impl TunnelKind {
    /// The name that `ip link add type` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Geneve => "geneve",
            Self::Vxlan => "vxlan",
        }
    }

    /// The kernel's default UDP port.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Geneve => 6081,
            // Linux predates IANA's 4789 (`drivers/net/vxlan`).
            Self::Vxlan => 8472,
        }
    }
}

impl fmt::Display for TunnelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The identity of a tunnel: a change of any of it makes another tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelOptions {
    pub kind: TunnelKind,
    /// 1 to 16777215.
    pub vni: u32,
    pub remote: IpAddr,
    /// The source address of packets; vxlan only.
    pub local: Option<IpAddr>,
    pub dstport: u16,
    /// 0: inherited from the inner packet.
    pub ttl: u8,
}

impl fmt::Display for TunnelOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} id {} remote {}", self.kind, self.vni, self.remote)?;
        if let Some(local) = self.local {
            write!(f, " local {local}")?;
        }
        write!(f, " dstport {}", self.dstport)?;
        if self.ttl == 0 { Ok(()) } else { write!(f, " ttl {}", self.ttl) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_without_mode_and_flag_matches_any() {
        let ipvlan = |mode, flag| StackedKind::Ipvlan { mode, flag };
        let have = ipvlan(Some(IpvlanMode::L3), Some(IpvlanFlag::Private));
        for (wanted, expected) in [
            (ipvlan(None, None), true),
            (ipvlan(Some(IpvlanMode::L3), None), true),
            (ipvlan(None, Some(IpvlanFlag::Private)), true),
            (ipvlan(Some(IpvlanMode::L2), Some(IpvlanFlag::Private)), false),
            (ipvlan(None, Some(IpvlanFlag::Bridge)), false),
            (StackedKind::Ipvtap { mode: None, flag: None }, false),
            (StackedKind::Vlan { id: 1 }, false),
        ] {
            assert_eq!(wanted.matches(have), expected, "{wanted}");
        }
        assert!(!StackedKind::Vlan { id: 1 }.matches(StackedKind::Vlan { id: 2 }));
        assert_eq!(have.to_string(), "ipvlan l3 private");
    }
}
