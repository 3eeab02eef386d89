//! Routes: RTM_NEWROUTE, RTM_DELROUTE and RTM_GETROUTE.
//!
//! Routes are read in the form of the configuration: the default scope of `ip`, the kernel's default metric and our own
//! protocol are None. So an unchanged route equals the configured one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use rtnetlink::packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Nla, Parseable};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RouteProtocol, RouteScope, RouteType, RouteVia,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::addr::{Cidr, IfName};
use crate::kernel::link::gone_is_fine;
use crate::kernel::netlink::{Error, Netlink};
use crate::plan::{ObservedRoute, PROTOCOL, Step};
use crate::route::{Metric, MetricValue, Nexthop, Route, RouteKind};

const LOCAL: u32 = 255;

/// The offset of the protocol in `struct rtmsg`.
const RTM_PROTOCOL: usize = 5;

/// What is known of the routes in a namespace without a dump, in which the kernel walks through every route of others.
///
/// A container that is wired for the first time has the routes that the kernel itself says it has just added, and no
/// others of ours. A router may have hundreds of thousands of its own.
#[derive(Debug, Default)]
pub(super) enum Known {
    /// Only a dump tells.
    #[default]
    Unknown,
    /// The last look found no interface of ours.
    Bare,
    /// The first interface of ours was added after that look, then these routes, and nothing else happened since the first
    /// of them.
    Added(Vec<RouteMessage>),
}

impl Known {
    /// Takes note of a step before it is applied to the namespace.
    pub(super) fn note(&mut self, step: &Step) {
        *self = match (std::mem::take(self), step) {
            (Self::Bare, it) if it.is_creation() => Self::Added(Vec::new()),
            (Self::Added(routes), Step::SetRoute { replace: false, .. }) => Self::Added(routes),
            // What is done to an interface may take routes with it.
            (_, Step::SetRoute { .. }) => Self::Unknown,
            (Self::Added(routes), _) if routes.is_empty() => Self::Added(routes),
            _ => Self::Unknown,
        };
    }

    /// Takes note of a route that was added, as the kernel reports it. None if it did not report it.
    fn add(&mut self, route: Option<RouteMessage>) {
        match (self, route) {
            (Self::Added(routes), Some(route)) => routes.push(route),
            (this, _) => *this = Self::Unknown,
        }
    }

    /// The routes of ours and of wanted protocols, if they are known. They are known for one look.
    pub(super) fn take(&mut self, names: &BTreeMap<u32, IfName>) -> Option<Vec<ObservedRoute>> {
        let Self::Added(routes) = std::mem::take(self) else { return None };
        routes.iter().map(|it| decode(it, names)).collect()
    }
}

/// `ip route replace …`, or `ip route add …`. `index` answers the number of an interface.
pub(super) fn set(
    netlink: &mut Netlink,
    known: &mut Known,
    route: &Route,
    replace: bool,
    index: impl FnMut(&IfName) -> Result<u32, Error>,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    let message = encode(route, index)?;
    let flags = NLM_F_CREATE | if replace { NLM_F_REPLACE } else { NLM_F_EXCL };
    let parse = |bytes: &[u8]| RouteMessage::parse(bytes).ok();
    known.add(netlink.echo(RouteNetlinkMessage::NewRoute(message), flags, parse, what)?);
    Ok(())
}

/// `ip route prepend …`: before other routes to the same destination. Succeeds if it exists.
pub(super) fn prepend(netlink: &mut Netlink, route: &Route, index: u32) -> Result<(), Error> {
    let message = RouteNetlinkMessage::NewRoute(encode(route, |_| Ok(index))?);
    match netlink.request(message, NLM_F_CREATE, || format!("prepend route {route}")) {
        Err(error) if error.is_taken() => Ok(()),
        result => result,
    }
}

/// `ip route del …`. Succeeds if it does not exist.
pub(super) fn del(
    netlink: &mut Netlink,
    route: &Route,
    index: impl FnMut(&IfName) -> Result<u32, Error>,
) -> Result<(), Error> {
    let message = match encode(route, index) {
        Ok(it) => it,
        Err(error) if error.is_gone() => return Ok(()),
        Err(error) => return Err(error),
    };
    gone_is_fine(netlink.request(RouteNetlinkMessage::DelRoute(message), 0, || format!("del route {route}")))
}

fn encode(
    route: &Route,
    mut index: impl FnMut(&IfName) -> Result<u32, Error>,
) -> Result<RouteMessage, Error> {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: if route.is_v6() { AddressFamily::Inet6 } else { AddressFamily::Inet },
        destination_prefix_length: route.dst.prefix(),
        tos: route.tos,
        table: u8::try_from(route.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
        protocol: RouteProtocol::from(route.proto.unwrap_or(PROTOCOL)),
        scope: RouteScope::from(route.scope.unwrap_or_else(|| route.default_scope())),
        kind: match route.kind {
            RouteKind::Unicast => RouteType::Unicast,
            RouteKind::Blackhole => RouteType::BlackHole,
            RouteKind::Unreachable => RouteType::Unreachable,
            RouteKind::Prohibit => RouteType::Prohibit,
            RouteKind::Local => RouteType::Local,
            RouteKind::Throw => RouteType::Throw,
        },
        flags: if route.onlink { RouteFlags::Onlink } else { RouteFlags::empty() },
        ..RouteHeader::default()
    };
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Destination(address(route.dst.addr())));
    attributes.push(RouteAttribute::Table(route.table));
    attributes.extend(route.via.map(|it| gateway(it, route.is_v6())));
    if let Some(dev) = &route.dev {
        attributes.push(RouteAttribute::Oif(index(dev)?));
    }
    attributes.extend(route.src.map(|it| RouteAttribute::PrefSource(address(it))));
    attributes.extend(route.metric.map(RouteAttribute::Priority));
    if !route.metrics.is_empty() {
        attributes.push(RouteAttribute::Metrics(metrics(&route.metrics)));
    }
    let mut hops = Vec::new();
    for hop in &route.nexthops {
        let mut next = RouteNextHop::default();
        next.hops = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
        if let Some(dev) = &hop.dev {
            next.interface_index = index(dev)?;
        }
        if route.onlink && hop.via.is_some() {
            next.flags = RouteNextHopFlags::Onlink;
        }
        next.attributes.extend(hop.via.map(|it| gateway(it, route.is_v6())));
        hops.push(next);
    }
    if !hops.is_empty() {
        attributes.push(RouteAttribute::MultiPath(hops));
    }
    Ok(message)
}

fn metrics(metrics: &BTreeMap<Metric, MetricValue>) -> Vec<RouteMetric> {
    let locks = metrics.iter().filter(|(_, it)| it.lock).fold(0, |bits, (it, _)| bits | 1 << it.number());
    let number = |it: Metric, value: u32| {
        RouteMetric::Other(DefaultNla::new(it.number(), value.to_ne_bytes().to_vec()))
    };
    let numbers = metrics.iter().map(|(metric, it)| number(*metric, it.value));
    numbers.chain((locks != 0).then_some(RouteMetric::Lock(locks))).collect()
}

/// The metrics that a [`Route`] can have.
fn decode_metrics(metrics: &[RouteMetric]) -> BTreeMap<Metric, MetricValue> {
    let locks =
        metrics.iter().find_map(|it| if let RouteMetric::Lock(bits) = it { Some(*bits) } else { None });
    let read = |nla: &RouteMetric| {
        let metric = Metric::ALL.into_iter().find(|it| it.number() == nla.kind())?;
        let mut bytes = [0; 4];
        if nla.value_len() != bytes.len() {
            return None;
        }
        nla.emit_value(&mut bytes);
        let lock = locks.unwrap_or_default() & 1 << metric.number() != 0;
        Some((metric, MetricValue { value: u32::from_ne_bytes(bytes), lock }))
    };
    metrics.iter().filter_map(read).collect()
}

fn address(addr: IpAddr) -> RouteAddress {
    match addr {
        IpAddr::V4(it) => RouteAddress::Inet(it),
        IpAddr::V6(it) => RouteAddress::Inet6(it),
    }
}

/// RTA_GATEWAY has the family of the route; RTA_VIA includes its family.
fn gateway(via: IpAddr, v6: bool) -> RouteAttribute {
    match via {
        IpAddr::V6(it) if !v6 => RouteAttribute::Via(RouteVia::Inet6(it)),
        it => RouteAttribute::Gateway(address(it)),
    }
}

/// The routes of the namespace: ours and those of `protocols`, or of all protocols. `names` has the interfaces by
/// index.
pub(super) fn dump(
    netlink: &mut Netlink,
    names: &BTreeMap<u32, IfName>,
    protocols: Option<&BTreeSet<u8>>,
) -> Result<Vec<ObservedRoute>, Error> {
    // A request filters by one protocol; 0: all.
    let filters: BTreeSet<u8> =
        protocols.map_or([0].into(), |it| it.iter().copied().chain([PROTOCOL]).collect());
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        for filter in &filters {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            message.header.protocol = RouteProtocol::from(*filter);
            let read = |bytes: &[u8]| {
                // Kernels before 5.0 do not filter.
                let wanted = *filter == 0 || bytes.get(RTM_PROTOCOL) == Some(filter);
                wanted.then(|| decode(&RouteMessage::parse(bytes).ok()?, names)).flatten()
            };
            match netlink.dump_raw(RouteNetlinkMessage::GetRoute(message), read, || "dump routes".to_owned())
            {
                Ok(found) => routes.extend(found),
                // The kernel has no IPv6.
                Err(error) if matches!(error.errno(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(routes)
}

fn decode(message: &RouteMessage, names: &BTreeMap<u32, IfName>) -> Option<ObservedRoute> {
    let header = &message.header;
    let proto = u8::from(header.protocol);
    let ours = proto == PROTOCOL;
    if header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let v6 = header.address_family == AddressFamily::Inet6;
    let unspecified: IpAddr = if v6 { [0_u8; 16].into() } else { [0_u8; 4].into() };
    let kind = match header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Prohibit => RouteKind::Prohibit,
        RouteType::Local => RouteKind::Local,
        RouteType::Throw => RouteKind::Throw,
        _ => return None,
    };
    let mut route = Route {
        kind,
        dst: Cidr::new(unspecified, header.destination_prefix_length)?,
        tos: header.tos,
        via: None,
        dev: None,
        src: None,
        metric: None,
        table: u32::from(header.table),
        scope: Some(u8::from(header.scope)),
        proto: (!ours).then_some(proto),
        onlink: header.flags.contains(RouteFlags::Onlink),
        metrics: BTreeMap::new(),
        nexthops: Vec::new(),
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(it) => {
                route.dst = Cidr::new(ip(it)?, header.destination_prefix_length)?
            }
            RouteAttribute::Gateway(it) => route.via = ip(it),
            RouteAttribute::Via(RouteVia::Inet6(it)) => route.via = Some(IpAddr::V6(*it)),
            RouteAttribute::Oif(it) => route.dev = names.get(it).cloned(),
            RouteAttribute::PrefSource(it) => route.src = ip(it),
            RouteAttribute::Priority(it) => route.metric = Some(*it),
            RouteAttribute::Table(it) => route.table = *it,
            RouteAttribute::Metrics(it) => route.metrics = decode_metrics(it),
            RouteAttribute::MultiPath(hops) => {
                route.nexthops = hops.iter().map(|it| nexthop(it, names)).collect();
                route.onlink |= hops.iter().any(|it| it.flags.contains(RouteNextHopFlags::Onlink));
            }
            _ => {}
        }
    }
    // The kernel makes the routes of table local itself.
    if route.table == LOCAL && !ours {
        return None;
    }
    if !route.kind.has_dev() {
        // For IPv6 routes without an interface the kernel reports `lo`.
        route.dev = None;
    }
    if route.metric == Some(Route::default_metric(v6)) {
        route.metric = None;
    }
    if v6 || route.scope == Some(route.default_scope()) {
        route.scope = None;
    }
    Some(ObservedRoute { route, ours })
}

fn nexthop(hop: &RouteNextHop, names: &BTreeMap<u32, IfName>) -> Nexthop {
    let via = hop.attributes.iter().find_map(|it| match it {
        RouteAttribute::Gateway(it) => ip(it),
        RouteAttribute::Via(RouteVia::Inet6(it)) => Some(IpAddr::V6(*it)),
        _ => None,
    });
    Nexthop { via, dev: names.get(&hop.interface_index).cloned(), weight: u16::from(hop.hops) + 1 }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(it) => Some(IpAddr::V4(*it)),
        RouteAddress::Inet6(it) => Some(IpAddr::V6(*it)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::ContainerId;
    use crate::plan::{Change, Ns};

    fn ns() -> Ns {
        Ns::Container(ContainerId::new("c"))
    }

    fn eth0() -> IfName {
        "eth0".parse().unwrap()
    }

    fn creation() -> Step {
        Step::AddDummy { ns: ns(), name: eth0(), group: 1, mac: None, mtu: None }
    }

    fn route(replace: bool) -> Step {
        let route = Route::parse("10.9.0.0/16 via 10.0.0.2").unwrap();
        Step::SetRoute { ns: ns(), route, replace }
    }

    fn change() -> Step {
        Step::SetInterface { ns: ns(), name: eth0(), change: Change { up: Some(true), ..Change::default() } }
    }

    /// What is known after a look that found nothing of ours, and these steps.
    fn after(steps: &[Step]) -> Option<usize> {
        let mut known = Known::Bare;
        for step in steps {
            known.note(step);
            if matches!(step, Step::SetRoute { .. }) {
                let mut reported = RouteMessage::default();
                reported.header.kind = RouteType::Unicast;
                known.add(Some(reported));
            }
        }
        known.take(&BTreeMap::new()).map(|it| it.len())
    }

    #[test]
    fn routes_are_known_after_a_first_wiring() {
        assert_eq!(after(&[creation(), change()]), Some(0));
        assert_eq!(after(&[creation(), change(), creation(), change(), route(false), route(false)]), Some(2));
    }

    #[test]
    fn routes_are_unknown_after_anything_else() {
        assert_eq!(after(&[]), None, "interfaces that somebody else made since");
        assert_eq!(after(&[route(false)]), None);
        assert_eq!(after(&[creation(), route(true)]), None, "a replaced route");
        assert_eq!(
            after(&[creation(), route(false), change()]),
            None,
            "a change that may take routes with it"
        );
        assert_eq!(after(&[creation(), route(false), creation()]), None);
        let mut known = Known::Bare;
        known.note(&creation());
        known.note(&route(false));
        known.add(None);
        assert!(known.take(&BTreeMap::new()).is_none(), "a kernel that reports no route that was added");
    }

    #[test]
    fn routes_are_known_for_one_look() {
        let mut known = Known::Added(Vec::new());
        assert!(known.take(&BTreeMap::new()).is_some());
        assert!(known.take(&BTreeMap::new()).is_none());
    }
}
