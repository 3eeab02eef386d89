//! What a DHCP client tells its script, by its arguments and its environment.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Context;

use crate::addr::Cidr;
use crate::kernel::lease::Lease;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// There is a lease: a new one, or the earlier one again.
    Bound(Lease),
    /// The lease is no longer valid.
    Lost,
    /// It asks for more than we do: an old lease without an answer of a server is not used.
    Refused,
    Other,
}

/// Reads an event. `word` is the argument of udhcpc; the others have the variable `reason`.
///
/// # Errors
/// There is a lease that cannot be read.
pub(super) fn read(word: Option<&str>, var: impl Fn(&str) -> Option<String>) -> anyhow::Result<Event> {
    let reason = var("reason");
    Ok(match word.or(reason.as_deref()).unwrap_or_default() {
        "bound" | "renew" => Event::Bound(lease(&var, "ip", "subnet", "router", "staticroutes")?),
        "BOUND" | "RENEW" | "REBIND" | "REBOOT" => {
            let (addr, mask) = ("new_ip_address", "new_subnet_mask");
            // dhclient gives the name of its configuration, dhcpcd its own.
            let routes = ["new_rfc3442_classless_static_routes", "new_classless_static_routes"];
            let routes = routes.into_iter().find(|it| var(it).is_some()).unwrap_or_default();
            Event::Bound(lease(&var, addr, mask, "new_routers", routes)?)
        }
        "deconfig" | "EXPIRE" | "FAIL" | "NAK" | "RELEASE" | "STOP" => Event::Lost,
        "TIMEOUT" => Event::Refused,
        _ => Event::Other,
    })
}

/// A lease by the names of the variables for address, netmask, routers and classless routes.
fn lease(
    var: &impl Fn(&str) -> Option<String>,
    addr: &str,
    mask: &str,
    routers: &str,
    routes: &str,
) -> anyhow::Result<Lease> {
    let addr: Ipv4Addr =
        var(addr).context("the lease has no address")?.parse().context("the leased address")?;
    let mask =
        var(mask).as_deref().map_or(Ok(Ipv4Addr::BROADCAST), str::parse).context("the leased netmask")?;
    let prefix = u8::try_from(mask.to_bits().leading_ones()).unwrap_or(u8::MAX);
    let addr = Cidr::new(addr.into(), prefix).context("the leased address")?;
    // With classless routes the routers do not count (RFC 3442).
    let routes = match var(routes).filter(|it| !it.trim().is_empty()) {
        Some(text) => classless(&text).with_context(|| format!("the leased routes `{text}`"))?,
        None => {
            let routers = var(routers).unwrap_or_default();
            // The first is the one to prefer (RFC 2132, 3.5).
            let first = routers.split_ascii_whitespace().next().and_then(|it| it.parse().ok());
            first.map(|it: Ipv4Addr| (default(), Some(it.into()))).into_iter().collect()
        }
    };
    Ok(Lease { addr, routes })
}

fn default() -> Cidr {
    Cidr::everything(Ipv4Addr::UNSPECIFIED.into())
}

/// `NET/LEN GATEWAY …`, or numbers as dhclient prints an option without a format: the prefix length, as many bytes of the
/// destination as it needs, and four of the gateway. None if it is neither.
fn classless(text: &str) -> Option<Vec<(Cidr, Option<IpAddr>)>> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    if text.contains('/') {
        let pairs = words
            .chunks(2)
            .map(|it| Some((it.first()?.parse::<Cidr>().ok()?.net(), via(it.get(1)?.parse().ok()?))));
        return pairs.collect();
    }
    let bytes: Vec<u8> = words.iter().map(|it| it.parse().ok()).collect::<Option<_>>()?;
    let mut rest = bytes.as_slice();
    let mut routes = Vec::new();
    while let Some((prefix, after)) = rest.split_first() {
        let length = usize::from(prefix.div_ceil(8));
        let mut dst = [0; 4];
        dst.get_mut(..length)?.copy_from_slice(after.get(..length)?);
        let gateway: [u8; 4] = after.get(length..length + 4)?.try_into().ok()?;
        routes.push((Cidr::new(Ipv4Addr::from(dst).into(), *prefix)?.net(), via(gateway.into())));
        rest = after.get(length + 4..)?;
    }
    Some(routes)
}

/// A gateway; 0.0.0.0: the destination is on the link.
fn via(addr: Ipv4Addr) -> Option<IpAddr> {
    (!addr.is_unspecified()).then_some(addr.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(word: Option<&str>, vars: &[(&str, &str)]) -> Event {
        read(word, |name| vars.iter().find(|(it, _)| *it == name).map(|(_, it)| (*it).to_owned())).unwrap()
    }

    fn bound(addr: &str, routes: &[(&str, &str)]) -> Event {
        let routes = routes.iter().map(|(dst, gateway)| (dst.parse().unwrap(), gateway.parse().ok()));
        Event::Bound(Lease { addr: addr.parse().unwrap(), routes: routes.collect() })
    }

    #[test]
    fn each_client_tells_a_lease_in_its_own_variables() {
        let expected = bound("10.0.0.9/20", &[("0.0.0.0/0", "10.0.0.1")]);
        let udhcpc = [
            ("ip", "10.0.0.9"),
            ("subnet", "255.255.240.0"),
            ("router", "10.0.0.1 10.0.0.2"),
            ("mask", "20"),
        ];
        assert_eq!(event(Some("bound"), &udhcpc), expected);
        let others = [
            ("reason", "REBOOT"),
            ("new_ip_address", "10.0.0.9"),
            ("new_subnet_mask", "255.255.240.0"),
            ("new_routers", "10.0.0.1"),
        ];
        assert_eq!(event(None, &others), expected);
        assert_eq!(event(None, &others[..2]), bound("10.0.0.9/32", &[]));
        assert!(read(Some("renew"), |_| None).is_err());
    }

    #[test]
    fn classless_routes_take_the_place_of_the_router() {
        let routes =
            [("0.0.0.0/0", "10.0.0.3"), ("10.8.0.0/13", "10.0.0.4"), ("192.0.2.0/24", "on the link")];
        let expected = bound("10.0.0.9/24", &routes);
        let slashes = "0.0.0.0/0 10.0.0.3 10.8.0.0/13 10.0.0.4 192.0.2.0/24 0.0.0.0";
        let mut udhcpc = vec![("ip", "10.0.0.9"), ("subnet", "255.255.255.0"), ("router", "10.0.0.1")];
        udhcpc.push(("staticroutes", slashes));
        assert_eq!(event(Some("renew"), &udhcpc), expected);
        let others = [
            ("reason", "BOUND"),
            ("new_ip_address", "10.0.0.9"),
            ("new_subnet_mask", "255.255.255.0"),
            ("new_routers", "10.0.0.1"),
        ];
        let numbers = "0 10 0 0 3 13 10 8 10 0 0 4 24 192 0 2 0 0 0 0";
        for (name, text) in
            [("new_rfc3442_classless_static_routes", numbers), ("new_classless_static_routes", slashes)]
        {
            let vars: Vec<_> = others.into_iter().chain([(name, text)]).collect();
            assert_eq!(event(None, &vars), expected, "{name}");
        }
    }

    #[test]
    fn numbers_that_are_no_routes_are_refused() {
        for text in ["24 192 0 2", "33 1 2 3 4 5 6 7 8 9", "8 10 10 0 0", "a", "10.0.0.0/8", "300 1"] {
            assert_eq!(classless(text), None, "{text}");
        }
    }

    #[test]
    fn an_old_lease_without_an_answer_is_refused() {
        assert_eq!(event(None, &[("reason", "TIMEOUT"), ("new_ip_address", "10.0.0.9")]), Event::Refused);
        for word in ["leasefail", "nak"] {
            assert_eq!(event(Some(word), &[]), Event::Other);
        }
        assert_eq!(event(Some("deconfig"), &[]), Event::Lost);
        assert_eq!(event(None, &[("reason", "PREINIT")]), Event::Other);
        assert_eq!(event(None, &[("reason", "EXPIRE")]), Event::Lost);
    }
}
