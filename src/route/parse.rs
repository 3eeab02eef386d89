//! The text of a route, word by word.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::addr::{BadIfName, Cidr, IfName};
use crate::route::{Metric, MetricValue, Nexthop, PROTOS, Route, RouteKind, SCOPES, TABLES, TOSES};
use crate::words::{BadWord, Word, Words, listed, near};

/// What the options of a route are called, beside [`Metric`]s; the aliases of some are known too.
const OPTIONS: [&str; 10] =
    ["via", "dev", "src", "metric", "table", "scope", "proto", "tos", "onlink", "nexthop"];

const DESTINATION: &str = "a destination comes first, like `10.0.0.0/8`, `fd00::/64` or `default`";

/// `via [inet6] ADDR`.
#[derive(Clone, Copy)]
struct Gateway<'a> {
    addr: IpAddr,
    /// The word that is the address.
    word: Word<'a>,
    /// The word `inet6`, where it is there.
    inet6: Option<Word<'a>>,
}

/// `nexthop [via [inet6] ADDR] [dev NAME] [weight N]`.
struct Hop<'a> {
    /// The word `nexthop`.
    word: Word<'a>,
    via: Option<Gateway<'a>>,
    dev: Option<IfName>,
    weight: u16,
}

/// A destination and the word it comes from; None is `default`, of a family that is known last.
type Destination<'a> = (Word<'a>, Option<Cidr>);

/// The options of a route, as they are read.
#[derive(Default)]
struct Options<'a> {
    /// Which there were, by their first name, and the words that named them.
    given: Vec<(&'static str, Word<'a>)>,
    via: Option<Gateway<'a>>,
    dev: Option<IfName>,
    src: Option<(IpAddr, Word<'a>)>,
    metric: Option<u32>,
    table: Option<u32>,
    scope: Option<u8>,
    proto: Option<u8>,
    onlink: bool,
    tos: u8,
    metrics: BTreeMap<Metric, MetricValue>,
    hops: Vec<Hop<'a>>,
}

impl<'a> Options<'a> {
    /// The word that named the option, where there was one.
    fn word(&self, name: &str) -> Option<Word<'a>> {
        self.given.iter().find(|(it, _)| *it == name).map(|(_, word)| *word)
    }
}

pub(super) fn route(text: &str) -> Result<Route, BadWord> {
    let mut words = Words::new(text);
    let kind = kind(&mut words);
    let dst = destination(&mut words)?;
    let options = options(&mut words)?;
    check_kind(kind, &options)?;
    check_hops(&options)?;
    let dst = check_family(dst, &options)?;
    Ok(canonical(kind, dst, options))
}

fn kind(words: &mut Words<'_>) -> RouteKind {
    let named = |text: &str| RouteKind::ALL.into_iter().find(|it| it.name() == text);
    words.next_if(|it| named(it).is_some()).and_then(|it| named(it.text)).unwrap_or(RouteKind::Unicast)
}

fn destination<'a>(words: &mut Words<'a>) -> Result<Destination<'a>, BadWord> {
    let Some(word) = words.next() else {
        return Err(words
            .missing("a route needs a destination".to_owned())
            .with_help(DESTINATION.to_owned()));
    };
    if word.text == "default" {
        return Ok((word, None));
    }
    let net = match word.text.parse::<IpAddr>() {
        Ok(addr) => Cidr::host(addr),
        Err(_) => match word.text.parse::<Cidr>().or_else(|err| shorthand(word.text).ok_or(err)) {
            Ok(net) => net,
            Err(_) if !word.text.contains(['.', ':', '/']) => {
                let known: Vec<&str> =
                    RouteKind::ALL.map(RouteKind::name).into_iter().chain(["default"]).collect();
                let help = match near(word.text, &known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => DESTINATION.to_owned(),
                };
                return Err(word
                    .bad(format!("expected a destination, found `{}`", word.text))
                    .with_help(help));
            }
            Err(err) => {
                return Err(word.bad(err.to_string()).with_help(DESTINATION.to_owned()));
            }
        },
    };
    // The kernel says "Invalid prefix for given prefix length".
    if net != net.net() {
        let bad = word.bad(format!("`{net}` has bits set after its prefix"));
        return Err(bad.with_help(format!(
            "the network is `{}`, the host alone `{}`",
            net.net(),
            net.addr()
        )));
    }
    Ok((word, Some(net)))
}

/// A prefix in the forms that `ip` has besides: `10.1/16` and `10.1.0.0/255.255.0.0`.
fn shorthand(text: &str) -> Option<Cidr> {
    let (addr, prefix) = text.split_once('/')?;
    let mut bytes = [0; 4];
    for (idx, part) in addr.split('.').enumerate() {
        // A leading zero would mean octal to `ip`.
        let is_octal = part.len() > 1 && part.starts_with('0');
        *bytes.get_mut(idx)? = part.parse().ok().filter(|_| !is_octal && !part.starts_with('+'))?;
    }
    let prefix = match prefix.parse::<Ipv4Addr>() {
        Ok(mask) if mask.to_bits().leading_ones() + mask.to_bits().trailing_zeros() >= 32 => {
            u8::try_from(mask.to_bits().leading_ones()).ok()?
        }
        Ok(_) => return None,
        Err(_) => prefix.parse().ok()?,
    };
    Cidr::new(IpAddr::from(bytes), prefix)
}

fn options<'a>(words: &mut Words<'a>) -> Result<Options<'a>, BadWord> {
    let mut options = Options::default();
    while let Some(word) = words.next() {
        let text = match word.text {
            "preference" | "priority" => "metric",
            "protocol" => "proto",
            "dsfield" => "tos",
            text => text,
        };
        let known = OPTIONS.into_iter().chain(Metric::ALL.map(Metric::name));
        let Some(name) = known.clone().find(|it| *it == text) else {
            return Err(word.unknown(&known.collect::<Vec<_>>()));
        };
        if name != "nexthop" && options.word(name).is_some() {
            return Err(word.twice(name));
        }
        if name != "nexthop" && !options.hops.is_empty() {
            let bad = word.bad(format!("`{name}` comes after `nexthop`"));
            return Err(bad.with_help(format!("write `{name}` before the first `nexthop`")));
        }
        options.given.push((name, word));
        match name {
            "via" => options.via = Some(gateway(words)?),
            "dev" => options.dev = Some(interface(words)?),
            "src" => options.src = Some(address(words, "src", "an IP address of ours")?),
            "metric" => options.metric = Some(words.number(word.text, 0..=u32::MAX)?),
            "table" => options.table = Some(named(words, name, &TABLES, u32::MAX)?),
            "scope" => options.scope = Some(named(words, name, &SCOPES, 254)?),
            "proto" => options.proto = Some(named(words, word.text, &PROTOS, 255)?),
            "onlink" => options.onlink = true,
            "tos" => options.tos = tos(words, word.text)?,
            "nexthop" => options.hops.push(hop(words, word)?),
            _ => {
                let metric = Metric::ALL.into_iter().find(|it| it.name() == name);
                options.metrics.extend(metric.map(|it| value(words, it)).transpose()?.flatten());
            }
        }
    }
    Ok(options)
}

fn gateway<'a>(words: &mut Words<'a>) -> Result<Gateway<'a>, BadWord> {
    let inet6 = words.next_if(|it| it == "inet6");
    let (addr, word) = match inet6 {
        Some(_) => address(words, "via inet6", "an IPv6 address")?,
        None => address(words, "via", "an IP address without prefix length")?,
    };
    if inet6.is_some() && addr.is_ipv4() {
        return Err(word.no_value("via inet6", "an IPv6 address"));
    }
    Ok(Gateway { addr, word, inet6 })
}

fn address<'a>(words: &mut Words<'a>, name: &str, takes: &str) -> Result<(IpAddr, Word<'a>), BadWord> {
    let word = words.value(name, takes)?;
    match word.text.parse() {
        Ok(addr) => Ok((addr, word)),
        Err(_) => Err(word.no_value(name, takes)),
    }
}

fn interface(words: &mut Words<'_>) -> Result<IfName, BadWord> {
    let takes = "the name of an interface";
    let word = words.value("dev", takes)?;
    word.text.parse().map_err(|err: BadIfName| word.no_value("dev", takes).with_help(err.to_string()))
}

/// A number, or one of the names for some.
fn named<T>(words: &mut Words<'_>, name: &str, names: &[(&str, T)], most: T) -> Result<T, BadWord>
where
    T: Copy + From<u8> + PartialOrd + TryFrom<i128> + fmt::Display,
{
    let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    let takes = format!("{}, or a number from 0 to {most}", listed(&known));
    let word = words.value(name, &takes)?;
    if let Some((_, number)) = names.iter().find(|(it, _)| *it == word.text) {
        return Ok(*number);
    }
    word.number(name, T::from(0)..=most).map_err(|bad| match near(word.text, &known) {
        Some(near) => bad.with_help(format!("did you mean `{near}`?")),
        None => bad.with_help(format!("`{name}` takes {takes}")),
    })
}

/// The byte of DSCP and ECN: a name, or a number that is hexadecimal with and without `0x`.
fn tos(words: &mut Words<'_>, name: &str) -> Result<u8, BadWord> {
    let takes = "a hexadecimal number from 0 to fc, or a name like `AF11`, `CS1` or `EF`";
    let word = words.value(name, takes)?;
    if let Some((_, tos)) = TOSES.iter().find(|(it, _)| *it == word.text) {
        return Ok(*tos);
    }
    let digits = word.text.strip_prefix("0x").unwrap_or(word.text);
    match u8::from_str_radix(digits, 16) {
        // The kernel says "Invalid dsfield (tos): ECN bits must be 0".
        Ok(tos) if tos & 3 != 0 => {
            let bad =
                word.bad(format!("`{name}` cannot be `{}`: the two low bits are those of ECN", word.text));
            Err(bad.with_help(format!("write `{name} {:#04x}`", tos & !3)))
        }
        Ok(tos) if !digits.starts_with('+') => Ok(tos),
        Ok(_) | Err(_) => Err(word.no_value(name, takes)),
    }
}

/// The value of a metric, perhaps after `lock`. Zero is as none.
fn value(words: &mut Words<'_>, metric: Metric) -> Result<Option<(Metric, MetricValue)>, BadWord> {
    let lock = metric.can_be_locked() && words.next_if(|it| it == "lock").is_some();
    let value = metric.clamped(words.number(metric.name(), 0..=metric.most())?);
    Ok((value != 0).then_some((metric, MetricValue { value, lock })))
}

fn hop<'a>(words: &mut Words<'a>, nexthop: Word<'a>) -> Result<Hop<'a>, BadWord> {
    let help = || "write `nexthop via ADDR` or `nexthop dev NAME`".to_owned();
    let mut hop = Hop { word: nexthop, via: None, dev: None, weight: 1 };
    let mut weighed = false;
    while let Some(word) = words.next_if(|it| matches!(it, "via" | "dev" | "weight")) {
        match word.text {
            "via" if hop.via.is_none() => hop.via = Some(gateway(words)?),
            "dev" if hop.dev.is_none() => hop.dev = Some(interface(words)?),
            "weight" if !weighed => {
                hop.weight = words.number("weight", 1..=256)?;
                weighed = true;
            }
            _ => return Err(word.twice(word.text)),
        }
    }
    if hop.via.is_none() && hop.dev.is_none() {
        let bad = match words.peek() {
            Some(word) if word.text != "nexthop" => {
                word.bad(format!("expected `via` or `dev`, found `{}`", word.text))
            }
            _ => words.missing("`nexthop` needs a gateway or an interface".to_owned()),
        };
        return Err(bad.with_help(help()));
    }
    Ok(hop)
}

/// Refuses what the kernel refuses for the kind ("Gateway, device and multipath can not be specified for this route
/// type", "Route with host scope can not have a gateway"), and what IPv6 ignores.
fn check_kind(kind: RouteKind, options: &Options<'_>) -> Result<(), BadWord> {
    let wrong: &[&str] = match kind {
        RouteKind::Unicast => &[],
        RouteKind::Local => &["via", "onlink", "nexthop"],
        RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit | RouteKind::Throw => {
            &["via", "dev", "onlink", "nexthop"]
        }
    };
    match options.given.iter().find(|(name, _)| wrong.contains(name)) {
        Some((name, word)) => {
            let bad = word.bad(format!("a `{}` route takes no `{name}`", kind.name()));
            Err(bad.with_help(format!("leave `{name}` or `{}` out", kind.name())))
        }
        None => Ok(()),
    }
}

/// Refuses what belongs to each next hop where there are several, and `onlink` of no gateway.
fn check_hops(options: &Options<'_>) -> Result<(), BadWord> {
    let single = ["via", "dev"].into_iter().find(|it| options.word(it).is_some());
    match (options.word("nexthop"), single, options.word("onlink")) {
        (Some(nexthop), Some(name), _) => {
            let bad = nexthop.bad(format!("`{name}` and `nexthop` exclude each other"));
            Err(bad.with_help("write `nexthop via ADDR dev NAME` for each gateway".to_owned()))
        }
        (_, _, Some(onlink)) if options.via.is_none() && options.hops.iter().all(|it| it.via.is_none()) => {
            let bad = onlink.bad("`onlink` needs a gateway".to_owned());
            Err(bad.with_help("write `via ADDR onlink`".to_owned()))
        }
        (_, _, _) => Ok(()),
    }
}

/// The destination, once it is known that everything is of its family.
fn check_family(dst: Destination<'_>, options: &Options<'_>) -> Result<Cidr, BadWord> {
    let gateways = || options.via.iter().chain(options.hops.iter().filter_map(|it| it.via.as_ref()));
    let (_, net) = dst;
    let net = net.unwrap_or_else(|| {
        // A gateway after `inet6` is of the other family, and says nothing.
        let plain = gateways().filter(|it| it.inet6.is_none()).map(|it| it.addr);
        let mut addrs = plain.chain(options.src.map(|(addr, _)| addr));
        let any = match addrs.next() {
            Some(IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            Some(IpAddr::V4(_)) | None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        Cidr::new(any, 0).expect("0 bits are a prefix in any family")
    });
    let v6 = net.addr().is_ipv6();
    let family = if v6 { "an IPv6" } else { "an IPv4" };
    if v6 && let Some(word) = options.word("tos") {
        let bad = word.bad(format!("`{}` is for a destination of IPv4", word.text));
        return Err(bad.with_help(format!("leave `{}` out", word.text)));
    }
    // The kernel says "Device only routes can not be added for IPv6 using the multipath API".
    if let Some(hop) = options.hops.iter().find(|it| v6 && it.via.is_none() && options.hops.len() > 1) {
        let bad = hop.word.bad("each of several next hops of IPv6 needs a gateway".to_owned());
        return Err(bad.with_help("write `nexthop via ADDR`".to_owned()));
    }
    for via in gateways() {
        match via.inet6 {
            Some(inet6) if v6 => {
                let bad = inet6.bad("`inet6` is for a destination of IPv4".to_owned());
                return Err(bad.with_help(format!("write `via {}`", via.addr)));
            }
            None if via.addr.is_ipv6() != v6 => {
                let bad =
                    via.word.bad(format!("{family} destination cannot have the gateway `{}`", via.addr));
                return Err(if v6 {
                    bad.with_help("`via` takes an IPv6 address".to_owned())
                } else {
                    bad.with_help(format!("write `via inet6 {}`", via.addr))
                });
            }
            Some(_) | None => {}
        }
    }
    match options.src {
        Some((src, word)) if src.is_ipv6() != v6 => {
            let bad = word.bad(format!("{family} destination cannot have the source `{src}`"));
            Err(bad.with_help(format!("`src` takes {family} address")))
        }
        Some(_) | None => Ok(net),
    }
}

/// The route as the kernel will hold it.
fn canonical(kind: RouteKind, dst: Cidr, options: Options<'_>) -> Route {
    let v6 = dst.addr().is_ipv6();
    let mut route = Route {
        kind,
        dst,
        tos: options.tos,
        via: options.via.map(|it| it.addr),
        dev: options.dev,
        src: options.src.map(|(addr, _)| addr),
        metric: options.metric.filter(|it| *it != 0 && *it != Route::default_metric(v6)),
        // The kernel takes table 0 for main.
        table: match options.table {
            Some(0) => RouteKind::Unicast.default_table(),
            Some(table) => table,
            None => kind.default_table(),
        },
        scope: None,
        proto: options.proto,
        onlink: options.onlink,
        metrics: options.metrics,
        nexthops: Vec::new(),
    };
    let mut scope = options.scope;
    let mut hops = options.hops.into_iter();
    match (hops.next(), hops.len()) {
        // The kernel holds a single next hop as a gateway.
        (Some(hop), 0) => {
            route.via = hop.via.map(|it| it.addr);
            route.dev = hop.dev;
            // `ip` gives a next hop the scope of a gateway's, be it one or not.
            scope = scope.or(Some(0));
        }
        (first, _) => {
            let hops = first.into_iter().chain(hops);
            let hop = |it: Hop<'_>| Nexthop { via: it.via.map(|it| it.addr), dev: it.dev, weight: it.weight };
            route.nexthops = hops.map(hop).collect();
        }
    }
    // The kernel ignores the scope of an IPv6 route.
    route.scope = scope.filter(|it| !v6 && *it != route.default_scope());
    route
}
