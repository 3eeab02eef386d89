//! Hints for errors of the kernel.

use crate::device::{StackedKind, TunnelKind};
use crate::kernel::netlink::Error;
use crate::plan::Step;
use crate::process::{Capability, has_capability};

/// Adds a hint where the step explains the error.
pub(super) fn explained(step: &Step, error: Error) -> Error {
    let error = match step {
        // The kernel answers ENOENT if it has no module for a queueing discipline, filter or action (`qdisc_create()`
        // in net/sched/sch_api.c), which would read as "the interface does not exist".
        Step::AddNetem { .. } | Step::AddRedirect { .. } if error.errno() == Some(libc::ENOENT) => {
            error.into_unsupported()
        }
        _ => error,
    };
    match error.errno().and_then(|it| hint(step, it)) {
        Some(it) => error.with_hint(it),
        None => error,
    }
}

/// The hint for EPERM and EACCES.
pub(super) fn permissions() -> &'static str {
    match [Capability::SysAdmin, Capability::NetAdmin].map(has_capability) {
        [false, false] => {
            "conlink lacks the capabilities SYS_ADMIN and NET_ADMIN: run it as root, or give its container \
             `cap_add: [SYS_ADMIN, NET_ADMIN]`"
        }
        [false, true] => {
            "conlink lacks the capability SYS_ADMIN: run it as root, or give its container \
             `cap_add: [SYS_ADMIN, NET_ADMIN]`"
        }
        [true, false] => {
            "conlink lacks the capability NET_ADMIN: run it as root, or give its container \
             `cap_add: [SYS_ADMIN, NET_ADMIN]`"
        }
        [true, true] => {
            "conlink needs every capability that the containers have: add them to `cap_add` of its own container"
        }
    }
}

/// The hint for a kernel module that is missing.
macro_rules! module {
    ($module:literal) => {
        concat!("the kernel module ", $module, " is missing: run `modprobe ", $module, "` on the host")
    };
}

/// The hint for the modules that a step needs. The kernel loads them itself where they are installed.
fn module(step: &Step) -> Option<&'static str> {
    Some(match step {
        // With the module, it is an option that the kernel was built without.
        Step::AddBridge { options, .. } if options.vlan_filtering.is_some() => return None,
        Step::AddBridge { .. } => module!("bridge"),
        Step::AddVeth { .. } => module!("veth"),
        Step::AddDummy { .. } => module!("dummy"),
        Step::AddStacked { kind, .. } => match kind {
            StackedKind::Vlan { .. } => module!("8021q"),
            StackedKind::Macvlan { .. } => module!("macvlan"),
            StackedKind::Macvtap { .. } => module!("macvtap"),
            StackedKind::Ipvlan { .. } => module!("ipvlan"),
            StackedKind::Ipvtap { .. } => module!("ipvtap"),
            StackedKind::Ipoib { .. } => module!("ib_ipoib"),
        },
        Step::AddTunnel { options, .. } => match options.kind {
            TunnelKind::Geneve => module!("geneve"),
            TunnelKind::Vxlan => module!("vxlan"),
        },
        Step::AddNetem { .. } | Step::SetNetem { .. } => module!("sch_netem"),
        Step::AddRedirect { .. } => {
            "patches need the kernel modules sch_ingress, cls_matchall (or cls_u32) and act_mirred: run `modprobe` for \
             each of them on the host"
        }
        _ => return None,
    })
}

fn hint(step: &Step, errno: i32) -> Option<&'static str> {
    if errno == libc::EOPNOTSUPP
        && let Some(hint) = module(step)
    {
        return Some(hint);
    }
    Some(match (step, errno) {
        (Step::SetFeatures { .. } | Step::SetEthtool { .. }, libc::EOPNOTSUPP) => {
            "the device does not support this setting"
        }
        (Step::SetFeatures { .. } | Step::SetEthtool { .. }, libc::EINVAL) => {
            "the device does not accept this value: `ethtool` shows the range of each setting"
        }

        // `inet6_addr_add()` and `ipv6_add_dev()` in net/ipv6/addrconf.c. Without the capability it is EPERM.
        (Step::AddAddr { cidr, .. }, libc::EACCES) if cidr.addr().is_ipv6() => {
            "IPv6 is disabled on the interface: give its container `sysctls: [net.ipv6.conf.all.disable_ipv6=0]`"
        }
        (Step::AddAddr { cidr, .. }, libc::EINVAL) if cidr.addr().is_ipv6() => {
            "the kernel has no IPv6 on an interface with an MTU below 1280"
        }
        // Each of these receives all frames of the parent (`netdev_rx_handler_register()` in net/core/dev.c).
        (Step::AddStacked { .. }, libc::EBUSY) => {
            "the parent serves another purpose: an interface can be a bridge port, carry macvlan and macvtap, or carry \
             ipvlan and ipvtap, and only one of these"
        }
        _ => return None,
    })
}
