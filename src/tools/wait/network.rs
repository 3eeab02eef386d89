//! Conditions of the network of the namespace.

use std::net::IpAddr;

use crate::addr::{Cidr, IfName, Mac};
use crate::kernel::{Error, Seen, SeenAddr, Watch};
use crate::tools::wait::check::{Answer, Parsed, network, parse};

pub(super) const NO_INTERFACE: &str = "no such interface";

pub(super) fn exists(text: &str) -> Parsed {
    let name: IfName = parse(text)?;
    let has_wildcard = text.contains(['*', '?']);
    network(vec![text.to_owned()], move |watch| {
        let found = match has_wildcard {
            false => watch.interface(&name)?.is_some(),
            true => watch.interfaces()?.iter().any(|it| is_like(it, &name)),
        };
        Ok((!found).then(|| NO_INTERFACE.to_owned()))
    })
}

pub(super) fn gone(text: &str) -> Parsed {
    let name: IfName = parse(text)?;
    network(vec![text.to_owned()], move |watch| {
        Ok(watch.interface(&name)?.map(|_| "it still exists".to_owned()))
    })
}

pub(super) fn count(text: &str) -> Parsed {
    let (count, pattern) = match text.split_once(':') {
        Some((count, pattern)) => (count, Some(parse::<IfName>(pattern)?)),
        None => (text, None),
    };
    let least: usize =
        count.parse().map_err(|_| format!("expected a number of interfaces, found `{count}`"))?;
    let parts = [least.to_string()].into_iter().chain(pattern.as_ref().map(IfName::to_string)).collect();
    network(parts, move |watch| {
        let counts = |it: &&Seen| match &pattern {
            Some(pattern) => is_like(it, pattern),
            None => !it.loopback,
        };
        let found = watch.interfaces()?.iter().filter(counts).count();
        Ok((found < least).then(|| format!("found {found}")))
    })
}

/// The interface is up, with an address and a route of the same family.
pub(super) fn ip(text: &str, is_of_family: fn(IpAddr) -> bool) -> Parsed {
    interface(parse(text)?, None, move |watch, seen| {
        if !seen.up {
            return Ok(Some("the interface is down".to_owned()));
        }
        // Every interface with IPv6 has link-local addresses and routes, even if none is configured.
        let link_local = |it: IpAddr| matches!(it, IpAddr::V6(it) if it.is_unicast_link_local());
        let mut addrs = watch.addrs(Some(seen.index))?;
        addrs.retain(|it| is_of_family(it.cidr.addr()) && !link_local(it.cidr.addr()));
        let usable: Vec<Cidr> = addrs.iter().filter(|it| it.usable).map(|it| it.cidr).collect();
        if usable.is_empty() {
            return Ok(Some(addrs.first().map_or("the interface has no address".to_owned(), |it| {
                format!("the address {}", unusable(it))
            })));
        }
        let mut routes = watch.routes(Some(seen.index))?;
        // Each address has routes in the local table, which lead nowhere else. Loopback has no others.
        routes.retain(|it| (seen.loopback || !it.local) && !link_local(it.dst.addr()));
        let is_served =
            |it: &Cidr| routes.iter().any(|route| route.dst.addr().is_ipv4() == it.addr().is_ipv4());
        Ok((!usable.iter().any(is_served)).then(|| {
            let cidrs: Vec<String> = usable.iter().map(Cidr::to_string).collect();
            format!("the interface has {} but no route", cidrs.join(" "))
        }))
    })
}

pub(super) fn up(text: &str) -> Parsed {
    interface(parse(text)?, None, |_, seen| {
        Ok(match seen.up {
            false => Some("the interface is down".to_owned()),
            true => (!seen.running).then(|| "the interface has no carrier".to_owned()),
        })
    })
}

pub(super) fn dad(text: &str) -> Parsed {
    interface(parse(text)?, None, |watch, seen| {
        let addrs = watch.addrs(Some(seen.index))?;
        Ok(addrs.iter().find(|it| !it.usable && !it.duplicate).map(unusable))
    })
}

pub(super) fn mac(text: &str) -> Parsed {
    let (name, mac) = text
        .split_once('=')
        .ok_or("expected an interface and an address, such as `eth0=02:00:00:00:00:01`")?;
    let (name, mac) = (parse(name)?, parse::<Mac>(mac)?);
    interface(name, Some(mac.to_string()), move |_, seen| {
        let found = || seen.mac.map_or("none".to_owned(), |it| it.to_string());
        Ok((seen.mac != Some(mac)).then(|| format!("the MAC is {}", found())))
    })
}

pub(super) fn mtu(text: &str) -> Parsed {
    let (name, mtu) = text.split_once('=').ok_or("expected an interface and an MTU, such as `eth0=1500`")?;
    let mtu: u32 = mtu.parse().map_err(|_| format!("expected an MTU such as 1500, found `{mtu}`"))?;
    interface(parse(name)?, Some(mtu.to_string()), move |_, seen| {
        Ok((seen.mtu != mtu).then(|| format!("the MTU is {}", seen.mtu)))
    })
}

/// An address with any prefix length or with this one, or any address of a network.
pub(super) fn addr(text: &str) -> Parsed {
    let addr: Option<IpAddr> = text.parse().ok();
    let cidr: Cidr = addr.map_or_else(|| parse(text), |it| Ok(Cidr::host(it)))?;
    let is_net = cidr.net() == cidr && cidr != Cidr::host(cidr.addr());
    let target = addr.map_or_else(|| cidr.to_string(), |it| it.to_string());
    network(vec![target], move |watch| {
        let mut addrs = watch.addrs(None)?;
        addrs.retain(|it| match addr {
            Some(addr) => it.cidr.addr() == addr,
            None => it.cidr == cidr || is_net && cidr.contains(it.cidr.addr()),
        });
        Ok(match addrs.first() {
            None => Some("no interface has this address".to_owned()),
            Some(_) if addrs.iter().any(|it| it.usable) => None,
            Some(it) => Some(unusable(it)),
        })
    })
}

pub(super) fn route(text: &str) -> Parsed {
    type Exists = Box<dyn Fn(&mut Watch, Option<u32>) -> Result<bool, Error>>;
    let (to, by) = match text.rsplit_once('@') {
        Some((to, by)) => (to, Some(parse::<IfName>(by)?)),
        None => (text, None),
    };
    let (mut target, exists): (String, Exists) = if to == "default" {
        let is_default =
            |watch: &mut Watch, by| Ok(watch.routes(by)?.iter().any(|it| it.dst.prefix() == 0 && !it.local));
        (to.to_owned(), Box::new(is_default))
    } else if let Ok(addr) = to.parse::<IpAddr>() {
        let leads = move |watch: &mut Watch, by: Option<u32>| {
            Ok(watch.route_to(addr)?.is_some_and(|it| by.is_none_or(|by| by == it)))
        };
        (addr.to_string(), Box::new(leads))
    } else {
        let net: Cidr = parse(to).map_err(|it| format!("{it}, or `default`"))?;
        if net.net() != net {
            return Err(format!("expected a network address, such as `{}`", net.net()));
        }
        let leads =
            move |watch: &mut Watch, by| Ok(watch.routes(by)?.iter().any(|it| it.dst == net && !it.local));
        (net.to_string(), Box::new(leads))
    };
    target.extend(by.iter().map(|it| format!("@{it}")));
    network(vec![target], move |watch| {
        let index = match &by {
            Some(name) => match watch.interface(name)? {
                Some(seen) => Some(seen.index),
                None => return Ok(Some(format!("no interface {name}"))),
            },
            None => None,
        };
        Ok((!exists(watch, index)?).then(|| "no such route".to_owned()))
    })
}

/// A condition of one interface, with the second part of the value if there is one.
fn interface(
    name: IfName,
    detail: Option<String>,
    missing: impl Fn(&mut Watch, &Seen) -> Answer + 'static,
) -> Parsed {
    let parts = [name.to_string()].into_iter().chain(detail).collect();
    network(parts, move |watch| match watch.interface(&name)? {
        Some(seen) => missing(watch, &seen),
        None => Ok(Some(NO_INTERFACE.to_owned())),
    })
}

/// Why an address is not usable.
fn unusable(it: &SeenAddr) -> String {
    format!("{} is {}", it.cidr, if it.duplicate { "a duplicate" } else { "tentative" })
}

fn is_like(seen: &Seen, pattern: &IfName) -> bool {
    matches(pattern.as_str().as_bytes(), seen.name.as_str().as_bytes())
}

/// `*` matches any bytes, `?` matches one. Recursion is fast enough because names have 15 bytes.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), more) => {
            matches(rest, name) || more.is_some_and(|(_, shorter)| matches(pattern, shorter))
        }
        (Some((b'?', rest)), Some((_, shorter))) => matches(rest, shorter),
        (Some((byte, rest)), Some((same, shorter))) if byte == same => matches(rest, shorter),
        _ => false,
    }
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

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_of_interface_names() {
        for (pattern, name, expected) in [
            ("eth*", "eth0", true),
            ("eth*", "eth", true),
            ("eth?", "eth", false),
            ("eth?", "eth1", true),
            ("*-in", "web-in", true),
            ("*-in", "web-in2", false),
            ("*a*a*b", "aaaaaaaaaaaaaaa", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
