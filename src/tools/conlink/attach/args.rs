//! The command line of `conlink attach`.

use std::time::Duration;

use clap::{ArgGroup, Args};

use crate::addr::{Cidr, IfName};
use crate::attach::How;
use crate::duration;
use crate::tools::conlink::guest::Guest;
use crate::tools::dhcp;

/// Connect a running container, process or network namespace to a network, at once
///
/// Bridges and parent interfaces are those of the caller's network namespace. Either all of it is made, or nothing.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("wiring").required(true),
    override_usage = "conlink attach <GUEST> <CONNECTION> [OPTIONS]"
)]
pub(in crate::tools::conlink) struct AttachArgs {
    /// docker:NAME, podman:NAME, containerd:NAMESPACE/ID, lxc:NAME, pid:N, netns:NAME, netns:/PATH or lab:LAB/NODE.
    /// Without the first part: a network namespace, else a process, else a container of docker, podman or lxc
    #[arg(value_name = "GUEST", value_parser = Guest::parse)]
    pub(super) guest: Guest,
    /// Name of the interface in the guest [default: eth1; ib0 with --ipoib]
    #[arg(short, long, value_name = "NAME")]
    pub(super) dev: Option<IfName>,
    /// Connect to this bridge; made if it does not exist
    #[arg(long, group = "wiring", value_name = "NAME", help_heading = "Connection")]
    pub(super) bridge: Option<IfName>,
    /// Connect to this Open vSwitch bridge; made if it does not exist
    #[arg(long, group = "wiring", value_name = "NAME", help_heading = "Connection")]
    pub(super) ovs: Option<IfName>,
    /// Put a macvlan on this interface; MODE is bridge (default), private, vepa, passthru or source
    #[arg(long, group = "wiring", value_name = "NAME[:MODE]", help_heading = "Connection")]
    pub(super) macvlan: Option<String>,
    /// Put an ipvlan on this interface; MODE is l2 (default), l3 or l3s
    #[arg(long, group = "wiring", value_name = "NAME[:MODE]", help_heading = "Connection")]
    pub(super) ipvlan: Option<String>,
    /// Move this interface itself; `detach` returns it as it was
    #[arg(long = "move", group = "wiring", value_name = "NAME|mac:MAC", help_heading = "Connection")]
    pub(super) moved: Option<String>,
    /// Make a VLAN of an interface, such as `eth2.42`
    #[arg(long, group = "wiring", value_name = "NAME.ID", help_heading = "Connection")]
    pub(super) vlan: Option<String>,
    /// Make an interface that is connected to nothing
    #[arg(long, group = "wiring", help_heading = "Connection")]
    pub(super) dummy: bool,
    /// Put an IP over InfiniBand interface on this interface
    #[arg(long, group = "wiring", value_name = "NAME[:PKEY]", help_heading = "Connection")]
    pub(super) ipoib: Option<String>,
    /// Connect two guests with a cable: both give the same ID
    #[arg(long, group = "wiring", value_name = "ID", help_heading = "Connection")]
    pub(super) patch: Option<String>,
    /// Make a VXLAN tunnel to another host
    #[arg(long, group = "wiring", value_name = "VNI@REMOTE", help_heading = "Connection")]
    pub(super) vxlan: Option<String>,
    /// Address with prefix length, such as `10.0.0.2/24`; several are allowed
    #[arg(long, value_name = "ADDRESS", value_parser = with_length)]
    pub(super) ip: Vec<Cidr>,
    /// Default gateway, one per address family; an earlier default route is restored by `detach`
    #[arg(long, value_name = "ADDRESS")]
    pub(super) gw: Vec<std::net::IpAddr>,
    /// Get an IPv4 address and its routes by DHCP, with a client of this machine
    #[arg(
        long,
        value_name = "CLIENT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "any",
        conflicts_with_all = ["ip", "gw"]
    )]
    pub(super) dhcp: Option<dhcp::Client>,
    /// Keep udhcpc or dhclient running, so that it renews the lease
    #[arg(long, requires = "dhcp")]
    pub(super) dhcp_renew: bool,
    /// Route as `ip route add` takes it, without `dev`; several are allowed
    #[arg(long, value_name = "ROUTE")]
    pub(super) route: Vec<String>,
    /// MAC address; `U:TEXT` derives it from a text
    #[arg(long, value_name = "MAC")]
    pub(super) mac: Option<String>,
    /// VLAN, 1 to 4094: of the port on a bridge, or of the parent interface
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(1..=4094))]
    pub(super) vlan_tag: Option<u16>,
    /// MTU in bytes [default: that of the bridge or of the parent interface]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(68..=65535))]
    pub(super) mtu: Option<u32>,
    /// Impair outgoing packets, as `tc netem` takes it, such as `delay 10ms loss 1%`
    #[arg(long, value_name = "NETEM")]
    pub(super) netem: Option<String>,
    /// Limit the rate of outgoing packets, such as `10mbit`
    #[arg(long, value_name = "RATE")]
    pub(super) rate: Option<String>,
    /// Name of the other end of the veth
    #[arg(long, value_name = "NAME")]
    pub(super) host_dev: Option<IfName>,
    /// If the interface exists and differs, make it anew if necessary
    #[arg(long, conflicts_with = "ensure")]
    replace: bool,
    /// If the interface exists and differs, change it in place, or fail
    #[arg(long)]
    ensure: bool,
    /// Wait for a carrier, at most this long, such as `5s`
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_above_zero)]
    pub(super) wait_up: Option<Duration>,
    /// Print the result as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Print the plan without applying it
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// An address with its prefix length: without one, it would be that of a host alone, which is hardly ever meant.
fn with_length(text: &str) -> Result<Cidr, String> {
    match text.contains('/') {
        true => text.parse().map_err(|it: crate::addr::BadCidr| it.to_string()),
        false => Err(format!("expected an address with a prefix length, such as `{text}/24`")),
    }
}

impl AttachArgs {
    pub(super) fn how(&self) -> How {
        match (self.replace, self.ensure) {
            (true, _) => How::Anew,
            (_, true) => How::InPlace,
            _ => How::Nothing,
        }
    }
}
