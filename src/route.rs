//! Parses and formats routes in the syntax of `ip route add`.
//!
//! Routes that are the same to the kernel are equal: values that it clamps or ignores are clamped or ignored here too.

mod metric;
mod parse;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::addr::{Cidr, IfName};
use crate::words::BadWord;

pub use metric::{Metric, MetricValue};

/// The table of addresses of our own (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u32 = 255;

/// The table that is meant when none is named (`RT_TABLE_MAIN`).
const MAIN_TABLE: u32 = 254;

/// Tables by name (`rt_tables(5)`), without those that a machine's own file may add.
const TABLES: [(&str, u32); 3] = [("local", LOCAL_TABLE), ("main", MAIN_TABLE), ("default", 253)];

/// Scopes by name (`/etc/iproute2/rt_scopes`). `nowhere`, 255, is not for routes.
const SCOPES: [(&str, u8); 4] = [("global", 0), ("site", 200), ("link", 253), ("host", 254)];

/// Origins of routes by name (`/etc/iproute2/rt_protos` of iproute2 6.1).
const PROTOS: [(&str, u8); 22] = [
    ("unspec", 0),
    ("redirect", 1),
    ("kernel", 2),
    ("boot", 3),
    ("static", 4),
    ("gated", 8),
    ("ra", 9),
    ("mrt", 10),
    ("zebra", 11),
    ("bird", 12),
    ("dnrouted", 13),
    ("xorp", 14),
    ("ntk", 15),
    ("dhcp", 16),
    ("keepalived", 18),
    ("babel", 42),
    ("openr", 99),
    ("bgp", 186),
    ("isis", 187),
    ("ospf", 188),
    ("rip", 189),
    ("eigrp", 192),
];

/// Values of the byte that a packet's DSCP is in, by name (`/etc/iproute2/rt_dsfield` of iproute2 6.1).
const TOSES: [(&str, u8); 21] = [
    ("default", 0x00),
    ("AF11", 0x28),
    ("AF12", 0x30),
    ("AF13", 0x38),
    ("AF21", 0x48),
    ("AF22", 0x50),
    ("AF23", 0x58),
    ("AF31", 0x68),
    ("AF32", 0x70),
    ("AF33", 0x78),
    ("AF41", 0x88),
    ("AF42", 0x90),
    ("AF43", 0x98),
    ("CS1", 0x20),
    ("CS2", 0x40),
    ("CS3", 0x60),
    ("CS4", 0x80),
    ("CS5", 0xa0),
    ("CS6", 0xc0),
    ("CS7", 0xe0),
    ("EF", 0xb8),
];

/// The metric of an IPv6 route that has none (`IP6_RT_PRIO_USER` in `include/net/ip6_fib.h`).
const IPV6_METRIC: u32 = 1024;

/// One route, as `ip-route(8)` describes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    pub kind: RouteKind,
    /// The destination network, host bits zero; `default` is `0.0.0.0/0` or `::/0`, by the family of what else is given.
    pub dst: Cidr,
    /// The route is for packets whose byte of DSCP and ECN is this, 0: for all that have no route of their own. IPv4
    /// only; the two bits of ECN are zero.
    pub tos: u8,
    /// May be of the other family: `via inet6 fe80::1` for an IPv4 destination (RTA_VIA).
    pub via: Option<IpAddr>,
    pub dev: Option<IfName>,
    pub src: Option<IpAddr>,
    /// Preference, lower first; None for the kernel's default (0; 1024 for IPv6).
    pub metric: Option<u32>,
    /// 254 (main) when none is given, 255 (local) for [`RouteKind::Local`].
    pub table: u32,
    /// rtm_scope; None: as `ip` chooses it, [`Route::default_scope`].
    pub scope: Option<u8>,
    /// rtm_protocol; None: ours to choose.
    pub proto: Option<u8>,
    /// Gateways are reachable even if no network of the interface contains them; applies to all of `nexthops` too.
    pub onlink: bool,
    pub metrics: BTreeMap<Metric, MetricValue>,
    /// Several next hops instead of one `via`: none, or two and more.
    pub nexthops: Vec<Nexthop>,
}

/// `nexthop [via ADDR] [dev NAME] [weight N]`, with one of the first two at least.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nexthop {
    /// Never None for IPv6.
    pub via: Option<IpAddr>,
    pub dev: Option<IfName>,
    /// 1 to 256, 1 when none is given.
    pub weight: u16,
}

/// What happens to packets that match a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    Unicast,
    Blackhole,
    Unreachable,
    Prohibit,
    Local,
    Throw,
}

impl RouteKind {
    const ALL: [RouteKind; 6] =
        [Self::Unicast, Self::Blackhole, Self::Unreachable, Self::Prohibit, Self::Local, Self::Throw];

    /// Its name in `ip route`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unicast => "unicast",
            Self::Blackhole => "blackhole",
            Self::Unreachable => "unreachable",
            Self::Prohibit => "prohibit",
            Self::Local => "local",
            Self::Throw => "throw",
        }
    }

    /// Whether packets of such a route go by an interface. The kernel refuses one for the others ("Gateway, device and
    /// multipath can not be specified for this route type").
    pub fn has_dev(self) -> bool {
        match self {
            Self::Unicast | Self::Local => true,
            Self::Blackhole | Self::Unreachable | Self::Prohibit | Self::Throw => false,
        }
    }

    /// The table of a route that names none.
    fn default_table(self) -> u32 {
        match self {
            Self::Local => LOCAL_TABLE,
            Self::Unicast | Self::Blackhole | Self::Unreachable | Self::Prohibit | Self::Throw => MAIN_TABLE,
        }
    }
}

/// What the kernel tells routes apart by: of two with one place it keeps one, or makes next hops of one route of them.
/// Destination, type of service, table and preference.
pub type RoutePlace = (Cidr, u8, u32, u32);

impl Route {
    /// Reads what follows `ip route add`:
    ///
    /// ```text
    /// [unicast|blackhole|unreachable|prohibit|local|throw] PREFIX|default
    ///     [tos HEX|name] [via [inet6] ADDR] [dev NAME] [src ADDR] [metric N] [table N|main|local|default]
    ///     [scope global|link|host|N] [proto N|name] [onlink] { mtu|advmss|window|hoplimit|initcwnd|… [lock] N }
    ///     { nexthop [via [inet6] ADDR] [dev NAME] [weight N] }
    /// ```
    ///
    /// Unlike with `ip`, `default via inet6 ADDR` is an IPv4 route: `inet6` is for a gateway of the other family.
    pub fn parse(text: &str) -> Result<Route, BadWord> {
        parse::route(text)
    }

    /// `unicast ADDR dev DEV`: to one address that is reached without a gateway.
    pub fn to_host(addr: IpAddr, dev: IfName) -> Route {
        Route {
            kind: RouteKind::Unicast,
            dst: Cidr::host(addr),
            tos: 0,
            via: None,
            dev: Some(dev),
            src: None,
            metric: None,
            table: MAIN_TABLE,
            scope: None,
            proto: None,
            onlink: false,
            metrics: BTreeMap::new(),
            nexthops: Vec::new(),
        }
    }

    pub fn is_v6(&self) -> bool {
        self.dst.addr().is_ipv6()
    }

    /// Its identity in the kernel.
    pub fn place(&self) -> RoutePlace {
        (self.dst, self.tos, self.table, self.priority())
    }

    /// The preference, including the kernel's default.
    pub fn priority(&self) -> u32 {
        self.metric.unwrap_or(Self::default_metric(self.is_v6()))
    }

    /// The preference of a route that names none.
    pub fn default_metric(v6: bool) -> u32 {
        if v6 { IPV6_METRIC } else { 0 }
    }

    /// Is it in the table that packets without a rule of their own go by?
    pub fn is_in_main(&self) -> bool {
        self.table == MAIN_TABLE
    }

    /// The rtm_scope of a route that names none.
    pub fn default_scope(&self) -> u8 {
        match self.kind {
            // IPv6 has no scopes of routes: all are global.
            _ if self.is_v6() => 0,
            RouteKind::Local => 254,
            RouteKind::Unicast if self.via.is_none() && self.nexthops.is_empty() => 253,
            RouteKind::Unicast
            | RouteKind::Blackhole
            | RouteKind::Unreachable
            | RouteKind::Prohibit
            | RouteKind::Throw => 0,
        }
    }

    /// The route with `dev` wherever it could name an interface and names none.
    #[must_use]
    pub fn with_default_dev(mut self, dev: &IfName) -> Self {
        if self.nexthops.is_empty() {
            if self.kind.has_dev() {
                self.dev.get_or_insert_with(|| dev.clone());
            }
        } else {
            for hop in &mut self.nexthops {
                hop.dev.get_or_insert_with(|| dev.clone());
            }
        }
        self
    }

    /// Whether `default` would be read as a route of this one's family.
    fn default_is_clear(&self) -> bool {
        let mut gateways = self.via.iter().chain(self.nexthops.iter().filter_map(|it| it.via.as_ref()));
        if self.is_v6() {
            self.src.is_some() || gateways.next().is_some()
        } else {
            // `ip` takes the family of `default` from `via inet6 ADDR`: leave no doubt.
            gateways.all(IpAddr::is_ipv4)
        }
    }
}

/// What `ip route add` takes. Read again, it is the same route.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind != RouteKind::Unicast {
            write!(f, "{} ", self.kind.name())?;
        }
        if self.dst.prefix() == 0 && self.default_is_clear() {
            f.write_str("default")?;
        } else if self.dst == Cidr::host(self.dst.addr()) {
            write!(f, "{}", self.dst.addr())?;
        } else {
            write!(f, "{}", self.dst)?;
        }
        if self.tos != 0 {
            match TOSES.iter().find(|(_, it)| *it == self.tos) {
                Some((name, _)) => write!(f, " tos {name}")?,
                None => write!(f, " tos {:#04x}", self.tos)?,
            }
        }
        if let Some(via) = self.via {
            write!(f, " {}", Via { via, dst: self.dst.addr() })?;
        }
        if let Some(dev) = &self.dev {
            write!(f, " dev {dev}")?;
        }
        if let Some(src) = self.src {
            write!(f, " src {src}")?;
        }
        if let Some(metric) = self.metric {
            write!(f, " metric {metric}")?;
        }
        if self.table != self.kind.default_table() {
            write!(f, " table {}", Named { number: self.table, names: &TABLES })?;
        }
        if let Some(number) = self.scope {
            write!(f, " scope {}", Named { number, names: &SCOPES })?;
        }
        if let Some(number) = self.proto {
            write!(f, " proto {}", Named { number, names: &PROTOS })?;
        }
        if self.onlink {
            f.write_str(" onlink")?;
        }
        for (metric, MetricValue { value, lock }) in &self.metrics {
            write!(f, " {}{} {value}", metric.name(), if *lock { " lock" } else { "" })?;
        }
        for hop in &self.nexthops {
            f.write_str(" nexthop")?;
            if let Some(via) = hop.via {
                write!(f, " {}", Via { via, dst: self.dst.addr() })?;
            }
            if let Some(dev) = &hop.dev {
                write!(f, " dev {dev}")?;
            }
            if hop.weight != 1 {
                write!(f, " weight {}", hop.weight)?;
            }
        }
        Ok(())
    }
}

/// `via ADDR`, or `via inet6 ADDR` where the destination is of IPv4.
struct Via {
    via: IpAddr,
    dst: IpAddr,
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.via.is_ipv6() && self.dst.is_ipv4() { "inet6 " } else { "" };
        write!(f, "via {family}{}", self.via)
    }
}

/// A number by its name, where it has one.
struct Named<'a, T> {
    number: T,
    names: &'a [(&'a str, T)],
}

impl<T: Copy + PartialEq + fmt::Display> fmt::Display for Named<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.names.iter().find(|(_, it)| *it == self.number) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}", self.number),
        }
    }
}

#[cfg(test)]
mod tests;
