//! What a route tells connections that go by it.

/// A property of a route that the kernel calls a metric (`RTAX_…` in `include/uapi/linux/rtnetlink.h`, `ip-route(8)`). The
/// `metric` of the text, its preference, is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Bytes.
    Mtu,
    /// The most that a peer may send ahead, in bytes.
    Window,
    /// Segments.
    Ssthresh,
    /// Segments. Only with `lock`.
    Cwnd,
    /// Bytes.
    Advmss,
    /// Segments.
    Reordering,
    /// Routers that a packet may pass, at most 255.
    Hoplimit,
    /// Segments.
    Initcwnd,
    /// Segments.
    Initrwnd,
    /// 0 or 1.
    Quickack,
}

/// What a metric is set to, above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetricValue {
    pub value: u32,
    /// The kernel leaves it as it is: an MTU that is found on the way does not replace it.
    pub lock: bool,
}

impl Metric {
    pub const ALL: [Metric; 10] = [
        Self::Mtu,
        Self::Window,
        Self::Ssthresh,
        Self::Cwnd,
        Self::Advmss,
        Self::Reordering,
        Self::Hoplimit,
        Self::Initcwnd,
        Self::Initrwnd,
        Self::Quickack,
    ];

    /// What `ip route` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mtu => "mtu",
            Self::Window => "window",
            Self::Ssthresh => "ssthresh",
            Self::Cwnd => "cwnd",
            Self::Advmss => "advmss",
            Self::Reordering => "reordering",
            Self::Hoplimit => "hoplimit",
            Self::Initcwnd => "initcwnd",
            Self::Initrwnd => "initrwnd",
            Self::Quickack => "quickack",
        }
    }

    /// Its `RTAX_…`, which is its bit of `RTAX_LOCK` too.
    pub fn number(self) -> u16 {
        match self {
            Self::Mtu => 2,
            Self::Window => 3,
            Self::Ssthresh => 6,
            Self::Cwnd => 7,
            Self::Advmss => 8,
            Self::Reordering => 9,
            Self::Hoplimit => 10,
            Self::Initcwnd => 11,
            Self::Initrwnd => 14,
            Self::Quickack => 15,
        }
    }

    /// The greatest value that `ip` takes.
    pub(super) fn most(self) -> u32 {
        match self {
            Self::Hoplimit => 255,
            Self::Quickack => 1,
            _ => u32::MAX,
        }
    }

    /// What the kernel makes of a value (`ip_metrics_convert()` in `net/ipv4/metrics.c`).
    pub(super) fn clamped(self, value: u32) -> u32 {
        match self {
            Self::Mtu => value.min(65535 - 15),
            Self::Advmss => value.min(65535 - 40),
            _ => value,
        }
    }

    pub(super) fn can_be_locked(self) -> bool {
        self != Self::Quickack
    }
}
