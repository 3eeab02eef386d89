//! Whether the network of the namespace meets a condition.

use crate::addr::IfName;
use crate::kernel::{Error, Seen, Watch};
use crate::tools::wait::condition::{AddrWant, Families, Net, RouteWant};

/// None if the condition is met, else the reason why not.
pub(super) fn missing(watch: &mut Watch, net: &Net) -> Result<Option<String>, Error> {
    let name = match net {
        Net::Exists(pattern) => {
            let found = match &pattern.exact {
                Some(name) => watch.interface(name)?.is_some(),
                None => watch.interfaces()?.iter().any(|it| pattern.matches(it.name.as_str())),
            };
            return Ok((!found).then(no_interface));
        }
        Net::Count(count, pattern) => {
            let all = watch.interfaces()?;
            let counts = |it: &&Seen| match pattern {
                Some(pattern) => pattern.matches(it.name.as_str()),
                None => !it.loopback,
            };
            let found = all.iter().filter(counts).count();
            return Ok((found < *count).then(|| format!("found {found}")));
        }
        Net::Gone(name) => return Ok(watch.interface(name)?.map(|_| "it still exists".to_owned())),
        Net::Addr(want) => return address(watch, *want),
        Net::Route(want, by) => return route(watch, *want, by.as_ref()),
        Net::Ip(name, _) | Net::Up(name) | Net::Mac(name, _) | Net::Mtu(name, _) | Net::DadDone(name) => name,
    };
    let Some(seen) = watch.interface(name)? else { return Ok(Some(no_interface())) };
    Ok(match net {
        Net::Ip(_, families) => ip(watch, &seen, *families)?,
        Net::Up(_) if !seen.up => Some("the interface is down".to_owned()),
        Net::Up(_) => (!seen.running).then(|| "the interface has no carrier".to_owned()),
        Net::Mac(_, mac) => (seen.mac != Some(*mac))
            .then(|| format!("the MAC is {}", seen.mac.map_or("none".to_owned(), |it| it.to_string()))),
        Net::Mtu(_, mtu) => (seen.mtu != *mtu).then(|| format!("the MTU is {}", seen.mtu)),
        Net::DadDone(_) => {
            let addrs = watch.addrs(Some(seen.index))?;
            addrs.iter().find(|it| !it.usable && !it.duplicate).map(|it| format!("{} is tentative", it.cidr))
        }
        Net::Exists(_) | Net::Count(..) | Net::Gone(_) | Net::Addr(_) | Net::Route(..) => None,
    })
}

fn no_interface() -> String {
    "no such interface".to_owned()
}

/// Whether the interface is up, with an address and a route of the same family.
fn ip(watch: &mut Watch, seen: &Seen, families: Families) -> Result<Option<String>, Error> {
    if !seen.up {
        return Ok(Some("the interface is down".to_owned()));
    }
    // Every interface with IPv6 has link-local addresses and routes, even if none is configured.
    let link_local =
        |it: std::net::IpAddr| matches!(it, std::net::IpAddr::V6(it) if it.is_unicast_link_local());
    let mut addrs = watch.addrs(Some(seen.index))?;
    addrs.retain(|it| families.has(it.cidr.addr()) && !link_local(it.cidr.addr()));
    let usable: Vec<_> = addrs.iter().filter(|it| it.usable).collect();
    if usable.is_empty() {
        return Ok(Some(match addrs.first() {
            Some(it) if it.duplicate => format!("the address {} is a duplicate", it.cidr),
            Some(it) => format!("the address {} is tentative", it.cidr),
            None => "the interface has no address".to_owned(),
        }));
    }
    let mut routes = watch.routes(Some(seen.index))?;
    // Each address has routes in the local table, which lead nowhere else. Loopback has no others.
    routes.retain(|it| (seen.loopback || !it.local) && !link_local(it.dst.addr()));
    let served = |it: &&crate::kernel::SeenAddr| {
        routes.iter().any(|route| route.dst.addr().is_ipv4() == it.cidr.addr().is_ipv4())
    };
    Ok(match usable.iter().copied().find(served) {
        Some(_) => None,
        None => {
            let cidrs: Vec<String> = usable.iter().map(|it| it.cidr.to_string()).collect();
            Some(format!("the interface has {} but no route", cidrs.join(" ")))
        }
    })
}

fn address(watch: &mut Watch, want: AddrWant) -> Result<Option<String>, Error> {
    let mut addrs = watch.addrs(None)?;
    addrs.retain(|it| match want {
        AddrWant::Addr(addr) => it.cidr.addr() == addr,
        AddrWant::Exact(cidr) => it.cidr == cidr,
        AddrWant::In(net) => net.contains(it.cidr.addr()),
    });
    Ok(match addrs.first() {
        None => Some("no interface has this address".to_owned()),
        Some(_) if addrs.iter().any(|it| it.usable) => None,
        Some(it) if it.duplicate => Some(format!("{} is a duplicate", it.cidr)),
        Some(it) => Some(format!("{} is tentative", it.cidr)),
    })
}

fn route(watch: &mut Watch, want: RouteWant, by: Option<&IfName>) -> Result<Option<String>, Error> {
    let index = match by {
        Some(name) => match watch.interface(name)? {
            Some(seen) => Some(seen.index),
            None => return Ok(Some(format!("no interface {name}"))),
        },
        None => None,
    };
    let found = match want {
        RouteWant::To(addr) => watch.route_to(addr)?.is_some_and(|by| index.is_none_or(|index| index == by)),
        RouteWant::Default => watch.routes(index)?.iter().any(|it| it.dst.prefix() == 0 && !it.local),
        RouteWant::Net(cidr) => watch.routes(index)?.iter().any(|it| it.dst == cidr && !it.local),
    };
    Ok((!found).then(|| "no such route".to_owned()))
}

/// The names of the existing interfaces, for messages.
pub(super) fn present(watch: &mut Watch) -> String {
    /// The most names listed.
    const MOST: usize = 12;
    let Ok(all) = watch.interfaces() else { return String::new() };
    let mut names: Vec<&str> = all.iter().map(|it| it.name.as_str()).take(MOST).collect();
    if all.len() > MOST {
        names.push("…");
    }
    names.join(", ")
}
