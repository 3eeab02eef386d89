//! What helps where the kernel's answer is a bare number.

use crate::kernel::netlink::Error;
use crate::plan::Step;

/// The same error, with a hint where the step tells more than the number does.
pub(super) fn explained(step: &Step, error: Error) -> Error {
    let error = match step {
        // The kernel says "not found" of a discipline that it has no module for (`qdisc_create()` in
        // net/sched/sch_api.c), which would read as the interface being gone.
        Step::AddNetem { .. } if error.errno() == Some(libc::ENOENT) => error.into_unsupported(),
        _ => error,
    };
    match error.errno().and_then(|it| hint(step, it)) {
        Some(it) => error.with_hint(it),
        None => error,
    }
}

fn hint(step: &Step, errno: i32) -> Option<&'static str> {
    Some(match (step, errno) {
        (Step::SetFeatures { .. } | Step::SetEthtool { .. }, libc::EOPNOTSUPP) => {
            "the device does not support this setting"
        }
        (Step::SetFeatures { .. } | Step::SetEthtool { .. }, libc::EINVAL) => {
            "the device does not accept this value: `ethtool` shows the range of each setting"
        }
        (Step::AddNetem { .. } | Step::SetNetem { .. }, libc::EOPNOTSUPP) => {
            "impairments need the kernel module sch_netem: load it with `modprobe sch_netem`"
        }
        // `inet6_addr_add()` and `ipv6_add_dev()` in net/ipv6/addrconf.c. Without the capability it is EPERM.
        (Step::AddAddr { cidr, .. }, libc::EACCES) if cidr.addr().is_ipv6() => {
            "IPv6 is disabled on the interface: give its container `sysctls: [net.ipv6.conf.all.disable_ipv6=0]`"
        }
        (Step::AddAddr { cidr, .. }, libc::EINVAL) if cidr.addr().is_ipv6() => {
            "the kernel has no IPv6 on an interface with an MTU below 1280"
        }
        // Each of them takes the frames that arrive at the parent (`netdev_rx_handler_register()` in net/core/dev.c).
        (Step::AddStacked { .. }, libc::EBUSY) => {
            "the parent serves another purpose: an interface can be a bridge port, carry macvlan and macvtap, or carry \
             ipvlan and ipvtap, and only one of these"
        }
        _ => return None,
    })
}
