//! What a DHCP server has leased for an interface: an address and routes.
//!
//! They carry the protocol of DHCP, so that they are told from those of others and from what a plan makes. A leased
//! route goes before other routes to its destination, and those count again when the interface is gone.

use std::net::IpAddr;

use crate::addr::{Cidr, IfName};
use crate::kernel::netlink::{Error, Netlink};
use crate::kernel::{addr, announce, link, netns, route};
use crate::route::Route;

/// RTPROT_DHCP. Addresses have no number of their own for it, so this one serves for both.
const DHCP: u8 = 16;

/// An address with routes, IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub addr: Cidr,
    /// Destinations with their gateways; None: reachable on the link.
    pub routes: Vec<(Cidr, Option<IpAddr>)>,
}

impl Lease {
    /// The routes as the kernel takes them. A gateway outside of the subnet gets a route of its own.
    fn kernel_routes(&self, dev: &IfName) -> Vec<Route> {
        let mut routes: Vec<Route> = Vec::new();
        for (dst, via) in &self.routes {
            let reachable = |it: &IpAddr| {
                self.addr.contains(*it)
                    || self.routes.iter().any(|(dst, via)| via.is_none() && dst.contains(*it))
            };
            if let Some(via) = via.filter(|it| !reachable(it)) {
                routes.push(by_dhcp(Route::to_host(via, dev.clone())));
            }
            let mut route = by_dhcp(Route::to_host(dst.addr(), dev.clone()));
            (route.dst, route.via) = (*dst, *via);
            routes.push(route);
        }
        // Those on the link first: a gateway must be reachable when its route is added.
        routes.sort_by_key(|it| it.via.is_some());
        routes.dedup();
        routes
    }
}

fn by_dhcp(route: Route) -> Route {
    Route { proto: Some(DHCP), ..route }
}

/// Gives an interface in the caller's network namespace this lease in place of an earlier one; None: takes it away. The
/// kernel may not report who added an address, so `earlier` is the address of the earlier lease, if it is known.
///
/// # Errors
/// ENODEV: no interface of that name. The kernel refuses the address or a route.
pub fn set(dev: &IfName, lease: Option<&Lease>, earlier: Option<Cidr>) -> Result<(), Error> {
    let mut netlink = Netlink::open().map_err(|it| Error::new("open a netlink socket", it))?;
    let gone = || Error::new(format!("get {dev}"), std::io::Error::from_raw_os_error(libc::ENODEV));
    let (_, interface) = link::get(&mut netlink, dev)?.ok_or_else(gone)?;
    let index = interface.index;
    let mut old = addr::of_protocol(&mut netlink, index, DHCP)?;
    old.extend(earlier);
    let names = [(index, dev.clone())].into();
    let protocols = [DHCP].into();
    let old_routes: Vec<Route> = route::dump(&mut netlink, &names, Some(&protocols))?
        .into_iter()
        .map(|it| it.route)
        .filter(|it| it.proto == Some(DHCP) && it.dev.as_ref() == Some(dev))
        .collect();
    let wanted = lease.map(|it| it.kernel_routes(dev)).unwrap_or_default();
    for it in old_routes.iter().filter(|it| !wanted.contains(it)) {
        route::del(&mut netlink, it, |_| Ok(index))?;
    }
    if let Some(lease) = lease {
        link::up(&mut netlink, index)?;
        let what = || format!("add addr {} dev {dev}", lease.addr);
        match addr::add(&mut netlink, index, lease.addr, Some(DHCP), true, what) {
            Err(error) if error.is_taken() => {}
            Err(error) => return Err(error),
            Ok(()) => {
                let own = netns::own().map_err(|it| Error::new("open the network namespace", it))?;
                announce::tell(&own, dev, &[lease.addr.addr()]);
            }
        }
    }
    for it in old.into_iter().filter(|it| lease.is_none_or(|lease| lease.addr != *it)) {
        addr::del(&mut netlink, index, it, || format!("del addr {it} dev {dev}"))?;
    }
    wanted.iter().try_for_each(|it| route::prepend(&mut netlink, it, index))
}
