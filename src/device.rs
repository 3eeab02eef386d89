//! Settings of interfaces that a configuration names and the kernel holds.

use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of a linux bridge; what is None is left to the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeOptions {
    pub stp: Option<bool>,
    pub vlan_filtering: Option<bool>,
    pub mcast_snooping: Option<bool>,
    /// Link-local groups 01:80:c2:00:00:0X that are forwarded, a bit each; 0, 1 and 2 are refused by the kernel.
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

/// How a bridge carries frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BridgeMode {
    /// The kernel's own bridge.
    Linux,
    /// A bridge of Open vSwitch.
    Ovs,
    /// No bridge at all: two ends joined at layer 1.
    Patch,
}

impl fmt::Display for BridgeMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Where an outer end, a bridge or a parent interface lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Where the engine keeps its bridges.
    Engine,
    /// The network namespace of PID 1.
    Host,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// The type of an interface that is made on a parent interface. A mode of None is the kernel's default.
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
    },
    Ipvtap {
        mode: Option<IpvlanMode>,
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
        }
    }

    /// The name of the mode.
    pub fn mode(self) -> Option<String> {
        match self {
            Self::Vlan { .. } => None,
            Self::Macvlan { mode } | Self::Macvtap { mode } => mode.map(|it| it.to_string()),
            Self::Ipvlan { mode } | Self::Ipvtap { mode } => mode.map(|it| it.to_string()),
        }
    }

    /// Is `have` what this asks for? No mode matches any mode.
    pub fn matches(self, have: Self) -> bool {
        match (self, have) {
            (Self::Macvlan { mode: None }, Self::Macvlan { .. })
            | (Self::Macvtap { mode: None }, Self::Macvtap { .. })
            | (Self::Ipvlan { mode: None }, Self::Ipvlan { .. })
            | (Self::Ipvtap { mode: None }, Self::Ipvtap { .. }) => true,
            _ => self == have,
        }
    }
}

impl fmt::Display for StackedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if let Self::Vlan { id } = self {
            write!(f, " {id}")?;
        }
        self.mode().map_or(Ok(()), |it| write!(f, " {it}"))
    }
}

/// How a tunnel wraps frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TunnelKind {
    Geneve,
    Vxlan,
}

impl TunnelKind {
    /// The UDP port that the kernel takes when none is given.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Geneve => 6081,
            // Linux was there before IANA gave it 4789 (`drivers/net/vxlan`).
            Self::Vxlan => 8472,
        }
    }
}

impl fmt::Display for TunnelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// What tells one tunnel from another: none of it is changed in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelOptions {
    pub kind: TunnelKind,
    /// 1 to 16777215.
    pub vni: u32,
    pub remote: IpAddr,
    /// The address that packets come from; vxlan alone has it.
    pub local: Option<IpAddr>,
    pub dstport: u16,
    /// 0: that of what is carried (inherited).
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
