//! Settings of interfaces that a configuration names and the kernel holds.

use std::fmt;

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
