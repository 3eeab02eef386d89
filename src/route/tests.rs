use proptest::prelude::*;

use super::*;

fn route(text: &str) -> Route {
    Route::parse(text).unwrap_or_else(|err| panic!("{text}: {err:?}"))
}

/// Both texts are the same route, and the second is how it is written.
#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(route(text).to_string(), expected, "{text}");
    assert_eq!(route(expected), route(text), "{text}");
}

/// `text` marks with `^` below it, as in a diagnostic, the bytes that are wrong; then come message and help.
#[track_caller]
fn check_error(text: &str, expected: &str) {
    let bad = Route::parse(text).unwrap_err();
    let marks = format!("{}{}", " ".repeat(bad.at.start), "^".repeat(bad.at.len().max(1)));
    let help = bad.help.unwrap_or_default();
    assert_eq!(format!("{text}\n{marks} {}; {help}", bad.message), format!("{text}\n{expected}"));
}

#[test]
fn every_word_has_its_field() {
    assert_eq!(
        route(
            "unicast 10.1.0.0/16 tos AF11 via inet6 fe80::1 dev eth1 src 10.0.0.1 metric 5 table 100 scope link \
             proto bird onlink mtu lock 1400 advmss 1360"
        ),
        Route {
            kind: RouteKind::Unicast,
            dst: "10.1.0.0/16".parse().unwrap(),
            tos: 0x28,
            via: Some("fe80::1".parse().unwrap()),
            dev: Some("eth1".parse().unwrap()),
            src: Some("10.0.0.1".parse().unwrap()),
            metric: Some(5),
            table: 100,
            scope: Some(253),
            proto: Some(12),
            onlink: true,
            metrics: [
                (Metric::Mtu, MetricValue { value: 1400, lock: true }),
                (Metric::Advmss, MetricValue { value: 1360, lock: false }),
            ]
            .into(),
            nexthops: vec![],
        }
    );
    let hop = |via: &str, dev: Option<&str>, weight| Nexthop {
        via: (!via.is_empty()).then(|| via.parse().unwrap()),
        dev: dev.map(|it| it.parse().unwrap()),
        weight,
    };
    assert_eq!(
        route("default nexthop via 10.0.0.1 dev eth0 weight 256 nexthop via inet6 fe80::1 nexthop dev eth2")
            .nexthops,
        [hop("10.0.0.1", Some("eth0"), 256), hop("fe80::1", None, 1), hop("", Some("eth2"), 1)]
    );
}

#[test]
fn routes_read_as_ip_route_reads_them() {
    check("default via 10.0.0.1", "default via 10.0.0.1");
    check("  10.0.0.0/8\tvia 10.0.0.1 \n", "10.0.0.0/8 via 10.0.0.1");
    check("0.0.0.0/0 via 10.0.0.1", "default via 10.0.0.1");
    check("10.9.9.9 dev eth0", "10.9.9.9 dev eth0");
    check("10.9.9.9/32 dev eth0", "10.9.9.9 dev eth0");
    check("fd00::9/128 via FD00:0::1", "fd00::9 via fd00::1");
    check("unicast 10.0.0.0/8", "10.0.0.0/8");
    check("blackhole 10.0.0.0/8 metric 0x10", "blackhole 10.0.0.0/8 metric 16");
    check("10.0.0.0/8 preference 3", "10.0.0.0/8 metric 3");
    check("10.0.0.0/8 priority 3 protocol 4", "10.0.0.0/8 metric 3 proto static");
    check("10.0.0.0/8 proto 201 scope 7 table 7", "10.0.0.0/8 table 7 scope 7 proto 201");
    check(
        "default via 10.0.0.1 dev eth0 onlink table default",
        "default via 10.0.0.1 dev eth0 table default onlink",
    );
    check(
        "default onlink nexthop via 10.0.0.1 nexthop via 10.0.0.2",
        "default onlink nexthop via 10.0.0.1 nexthop via 10.0.0.2",
    );
    for (text, expected) in [
        ("10.1/16", "10.1.0.0/16"),
        ("10/8 via 10.0.0.1", "10.0.0.0/8 via 10.0.0.1"),
        ("10.1.0.0/255.255.0.0", "10.1.0.0/16"),
        ("10.1/255.255.128.0", "10.1.0.0/17"),
        ("10.0.0.0/8 tos 10", "10.0.0.0/8 tos 0x10"),
        ("10.0.0.0/8 dsfield 0x20", "10.0.0.0/8 tos CS1"),
        (
            "10.0.0.0/8 hoplimit 3 window 9000 initcwnd lock 20",
            "10.0.0.0/8 window 9000 hoplimit 3 initcwnd lock 20",
        ),
        (
            "10.0.0.0/8 nexthop dev a nexthop weight 2 dev b",
            "10.0.0.0/8 nexthop dev a nexthop dev b weight 2",
        ),
    ] {
        check(text, expected);
    }
    for metric in Metric::ALL {
        check(&format!("10.0.0.0/8 {} 1", metric.name()), &format!("10.0.0.0/8 {} 1", metric.name()));
    }
    check("default dev metric metric 3", "default dev metric metric 3");
    for kind in RouteKind::ALL.into_iter().skip(1) {
        check(&format!("{} fd00::/8", kind.name()), &format!("{} fd00::/8", kind.name()));
    }
}

#[test]
fn default_takes_the_family_of_the_rest() {
    for (text, v6) in [
        ("default", false),
        ("default dev eth0", false),
        ("default via 10.0.0.1", false),
        ("default via fd00::1", true),
        ("default src fd00::1", true),
        ("default dev eth0 via inet6 fe80::1", false),
        ("default nexthop via fd00::1 nexthop via fd00::2", true),
        ("default nexthop via inet6 fe80::1 nexthop via inet6 fe80::2", false),
        ("unreachable default", false),
        ("::/0 dev eth0", true),
    ] {
        assert_eq!(route(text).is_v6(), v6, "{text}");
        assert_eq!(route(text).dst.prefix(), 0, "{text}");
    }
    check("::/0 via fd00::1", "default via fd00::1");
    check("::/0 dev eth0", "::/0 dev eth0");
    // `ip` would make an IPv6 route of `default via inet6 fe80::1`.
    check("default via inet6 fe80::1", "0.0.0.0/0 via inet6 fe80::1");
}

#[test]
fn routes_that_the_kernel_holds_alike_are_equal() {
    for (text, same) in [
        ("default via 10.0.0.1 table 0", "default via 10.0.0.1"),
        ("default via 10.0.0.1 table 254", "default via 10.0.0.1"),
        ("default via 10.0.0.1 metric 0", "default via 10.0.0.1"),
        ("default via fd00::1 metric 1024", "default via fd00::1"),
        ("default via 10.0.0.1 mtu 0 advmss lock 0", "default via 10.0.0.1"),
        ("default via 10.0.0.1 tos default", "default via 10.0.0.1"),
        ("10.0.0.0/8 nexthop dev eth0", "10.0.0.0/8 dev eth0 scope global"),
        ("default via 10.0.0.1 mtu 65535 advmss 65535", "default via 10.0.0.1 mtu 65520 advmss 65495"),
        ("default via 10.0.0.1 scope global", "default via 10.0.0.1"),
        ("default dev eth0 scope link", "default dev eth0"),
        ("local 10.0.0.1 dev lo scope host table local", "local 10.0.0.1 dev lo"),
        ("fd00::/64 dev eth0 scope link", "fd00::/64 dev eth0"),
        ("default nexthop via 10.0.0.1 dev eth0 weight 7", "default via 10.0.0.1 dev eth0"),
    ] {
        check(text, same);
    }
    assert_ne!(route("default via 10.0.0.1 metric 1024"), route("default via 10.0.0.1"));
    check("default dev eth0 scope host", "default dev eth0 scope host");
    check("default via 10.0.0.1 table 255", "default via 10.0.0.1 table local");
    check("local 10.0.0.1 dev lo table main", "local 10.0.0.1 dev lo table main");
}

#[test]
fn an_interface_is_filled_in_where_one_is_possible() {
    let dev: IfName = "eth7".parse().unwrap();
    for (text, expected) in [
        ("default via 10.0.0.1", "default via 10.0.0.1 dev eth7"),
        ("default via 10.0.0.1 dev eth1", "default via 10.0.0.1 dev eth1"),
        ("local 10.0.0.1", "local 10.0.0.1 dev eth7"),
        ("blackhole 10.0.0.0/8", "blackhole 10.0.0.0/8"),
        (
            "default nexthop via 10.0.0.1 nexthop via 10.0.0.2 dev eth1",
            "default nexthop via 10.0.0.1 dev eth7 nexthop via 10.0.0.2 dev eth1",
        ),
    ] {
        assert_eq!(route(text).with_default_dev(&dev), route(expected), "{text}");
    }
}

#[test]
fn errors_point_at_the_word_and_say_what_would_be_right() {
    let first = "a destination comes first, like `10.0.0.0/8`, `fd00::/64` or `default`";
    check_error("", &format!("^ a route needs a destination; {first}"));
    check_error("blackhole", &format!("         ^ a route needs a destination; {first}"));
    check_error("via 10.0.0.1", &format!("^^^ expected a destination, found `via`; {first}"));
    check_error(
        "defualt via 10.0.0.1",
        "^^^^^^^ expected a destination, found `defualt`; did you mean `default`?",
    );
    check_error(
        "blakhole 10.0.0.0/8",
        "^^^^^^^^ expected a destination, found `blakhole`; did you mean `blackhole`?",
    );
    check_error("10.0.0.0.0/8", &format!("^^^^^^^^^^^^ `10.0.0.0.0` is not an IP address; {first}"));
    check_error(
        "10.0.0.0/33",
        &format!("^^^^^^^^^^^ expected a prefix length from 0 to 32 for IPv4, found `33`; {first}"),
    );
    check_error("010/8", &format!("^^^^^ `010` is not an IP address; {first}"));
    check_error(
        "10.1.2/16",
        "^^^^^^^^^ `10.1.2.0/16` has bits set after its prefix; the network is `10.1.0.0/16`, the host alone `10.1.2.0`",
    );
    check_error(
        "10.1.0.0/255.0.255.0",
        &format!(
            "^^^^^^^^^^^^^^^^^^^^ expected a prefix length from 0 to 32 for IPv4, found `255.0.255.0`; {first}"
        ),
    );
    check_error(
        "10.1.2.3/16",
        "^^^^^^^^^^^ `10.1.2.3/16` has bits set after its prefix; the network is `10.1.0.0/16`, the host alone `10.1.2.3`",
    );
}

#[test]
fn errors_of_options() {
    check_error("default vai 10.0.0.1", "        ^^^ unknown word `vai`; did you mean `via`?");
    check_error(
        "default via 10.0.0.1 realms 3",
        "                     ^^^^^^ unknown word `realms`; expected `via`, `dev`, `src`, `metric`, `table`, `scope`, \
         `proto`, `tos`, `onlink`, `nexthop`, `mtu`, `window`, `ssthresh`, `cwnd`, `advmss`, `reordering`, `hoplimit`, \
         `initcwnd`, `initrwnd` or `quickack`",
    );
    check_error(
        "default via",
        "           ^ `via` needs a value; `via` takes an IP address without prefix length",
    );
    check_error(
        "default via 10.0.0.1/24",
        "            ^^^^^^^^^^^ `via` cannot be `10.0.0.1/24`; `via` takes an IP address without prefix length",
    );
    check_error(
        "default via inet6 10.0.0.1",
        "                  ^^^^^^^^ `via inet6` cannot be `10.0.0.1`; `via inet6` takes an IPv6 address",
    );
    check_error(
        "default dev a/b",
        "            ^^^ `dev` cannot be `a/b`; an interface name cannot hold '/'",
    );
    check_error(
        "default metric x",
        "               ^ `metric` cannot be `x`; `metric` takes a number from 0 to 4294967295",
    );
    check_error(
        "default metric 010",
        "               ^^^ `metric` cannot be `010`; write `10`: `ip` reads a leading 0 as octal",
    );
    check_error(
        "default table x",
        "              ^ `table` cannot be `x`; `table` takes `local`, `main` or `default`, or a number from 0 to 4294967295",
    );
    check_error("default table mian", "              ^^^^ `table` cannot be `mian`; did you mean `main`?");
    check_error(
        "default scope nowhere",
        "              ^^^^^^^ `scope` cannot be `nowhere`; `scope` takes `global`, `site`, `link` or `host`, or a number \
         from 0 to 254",
    );
    check_error(
        "default proto statik",
        "              ^^^^^^ `proto` cannot be `statik`; did you mean `static`?",
    );
    check_error(
        "default hoplimit 256",
        "                 ^^^ `hoplimit` cannot be `256`; `hoplimit` takes a number from 0 to 255",
    );
    check_error(
        "default advmss lock",
        "                   ^ `advmss` needs a value; `advmss` takes a number from 0 to 4294967295",
    );
    check_error(
        "default quickack lock 1",
        "                 ^^^^ `quickack` cannot be `lock`; `quickack` takes a number from 0 to 1",
    );
    check_error(
        "default tos 0x12",
        "            ^^^^ `tos` cannot be `0x12`: the two low bits are those of ECN; write `tos 0x10`",
    );
    check_error(
        "default dsfield AF19",
        "                ^^^^ `dsfield` cannot be `AF19`; `dsfield` takes a hexadecimal number from 0 to fc, or a name like \
         `AF11`, `CS1` or `EF`",
    );
}

#[test]
fn errors_of_what_does_not_go_together() {
    check_error(
        "default metric 1 priority 2",
        "                 ^^^^^^^^ `metric` is given twice; remove one `metric`",
    );
    check_error(
        "blackhole 10.0.0.0/8 via 10.0.0.1",
        "                     ^^^ a `blackhole` route takes no `via`; leave `via` or `blackhole` out",
    );
    check_error(
        "throw 10.0.0.0/8 dev eth0",
        "                 ^^^ a `throw` route takes no `dev`; leave `dev` or `throw` out",
    );
    check_error(
        "local 10.0.0.1 via 10.0.0.2",
        "               ^^^ a `local` route takes no `via`; leave `via` or `local` out",
    );
    check_error(
        "default dev eth0 onlink",
        "                 ^^^^^^ `onlink` needs a gateway; write `via ADDR onlink`",
    );
    check_error(
        "default onlink nexthop dev a nexthop dev b",
        "        ^^^^^^ `onlink` needs a gateway; write `via ADDR onlink`",
    );
    check_error("fd00::/64 tos CS1", "          ^^^ `tos` is for a destination of IPv4; leave `tos` out");
    check_error(
        "10.0.0.0/8 via fe80::1",
        "               ^^^^^^^ an IPv4 destination cannot have the gateway `fe80::1`; write `via inet6 fe80::1`",
    );
    check_error(
        "fd00::/64 via 10.0.0.1",
        "              ^^^^^^^^ an IPv6 destination cannot have the gateway `10.0.0.1`; `via` takes an IPv6 address",
    );
    check_error(
        "fd00::/64 via inet6 fe80::1",
        "              ^^^^^ `inet6` is for a destination of IPv4; write `via fe80::1`",
    );
    check_error(
        "default via 10.0.0.1 src fd00::1",
        "                         ^^^^^^^ an IPv4 destination cannot have the source `fd00::1`; `src` takes an IPv4 address",
    );
    check_error(
        "default nexthop via fd00::1 nexthop via 10.0.0.1",
        "                                        ^^^^^^^^ an IPv6 destination cannot have the gateway `10.0.0.1`; `via` \
         takes an IPv6 address",
    );
}

#[test]
fn errors_of_next_hops() {
    let each = "write `nexthop via ADDR dev NAME` for each gateway";
    check_error(
        "default via 10.0.0.1 nexthop via 10.0.0.2",
        &format!("                     ^^^^^^^ `via` and `nexthop` exclude each other; {each}"),
    );
    check_error(
        "default dev eth0 nexthop via 10.0.0.2",
        &format!("                 ^^^^^^^ `dev` and `nexthop` exclude each other; {each}"),
    );
    let either = "write `nexthop via ADDR` or `nexthop dev NAME`";
    check_error(
        "default nexthop",
        &format!("               ^ `nexthop` needs a gateway or an interface; {either}"),
    );
    check_error(
        "default nexthop 10.0.0.1",
        &format!("                ^^^^^^^^ expected `via` or `dev`, found `10.0.0.1`; {either}"),
    );
    check_error(
        "::/0 nexthop via fd00::1 nexthop dev eth0",
        "                         ^^^^^^^ each of several next hops of IPv6 needs a gateway; write `nexthop via ADDR`",
    );
    check_error(
        "default nexthop via 10.0.0.1 weight 0",
        "                                    ^ `weight` cannot be `0`; `weight` takes a number from 1 to 256",
    );
    check_error(
        "default nexthop via 10.0.0.1 weight 1 weight 2",
        "                                      ^^^^^^ `weight` is given twice; remove one `weight`",
    );
    check_error(
        "default nexthop via 10.0.0.1 metric 2",
        "                             ^^^^^^ `metric` comes after `nexthop`; write `metric` before the first `nexthop`",
    );
}

fn v4() -> impl Strategy<Value = IpAddr> {
    any::<std::net::Ipv4Addr>().prop_map(IpAddr::V4)
}

fn v6() -> impl Strategy<Value = IpAddr> {
    any::<std::net::Ipv6Addr>().prop_map(IpAddr::V6)
}

fn dev() -> impl Strategy<Value = Option<IfName>> {
    proptest::option::of("[a-z][a-z0-9.-]{0,14}".prop_map(|it| it.parse().unwrap()))
}

/// Any route of one family that [`Route::parse`] can return.
fn any_route(v6_dst: bool) -> impl Strategy<Value = Route> {
    let own = if v6_dst { v6().boxed() } else { v4().boxed() };
    let via = if v6_dst { v6().boxed() } else { prop_oneof![v4(), v6()].boxed() };
    let hop = (via.clone(), any::<bool>(), dev(), 1_u16..=256).prop_map(move |(via, no_via, dev, weight)| {
        let via = Some(via).filter(|_| v6_dst || !no_via || dev.is_none());
        Nexthop { via, dev, weight }
    });
    let ways = (
        proptest::sample::select(RouteKind::ALL.as_slice()),
        proptest::option::of(via),
        dev(),
        any::<bool>(),
        prop_oneof![Just(vec![]), proptest::collection::vec(hop, 2..4)],
    );
    let numbers = (
        proptest::option::of(1_u32..),
        prop_oneof![1_u32.., 250_u32..256],
        proptest::option::of(0_u8..=254),
        proptest::option::of(any::<u8>()),
        if v6_dst { Just(0).boxed() } else { any::<u8>().prop_map(|it| it & !3).boxed() },
        proptest::collection::btree_map(
            proptest::sample::select(Metric::ALL.as_slice()),
            (1_u32.., any::<bool>()),
            0..4,
        ),
    );
    let src = proptest::option::of(own.clone());
    (own, 0_u8..=if v6_dst { 128 } else { 32 }, src, ways, numbers).prop_map(
        move |(addr, prefix, src, ways, numbers)| {
            let (kind, via, dev, onlink, nexthops) = ways;
            let (metric, table, scope, proto, tos, metrics) = numbers;
            let metrics = metrics.into_iter().map(|(metric, (value, lock))| {
                let value = metric.clamped(value.min(metric.most()));
                (metric, MetricValue { value, lock: lock && metric.can_be_locked() })
            });
            let nexthops = if kind == RouteKind::Unicast { nexthops } else { vec![] };
            let via = via.filter(|_| kind == RouteKind::Unicast && nexthops.is_empty());
            let mut route = Route {
                kind,
                dst: Cidr::new(addr, prefix).unwrap().net(),
                tos,
                via,
                dev: dev.filter(|_| kind.has_dev() && nexthops.is_empty()),
                src,
                metric: metric.filter(|it| !(v6_dst && *it == 1024)),
                table,
                scope: None,
                proto,
                onlink: onlink && (via.is_some() || nexthops.iter().any(|it| it.via.is_some())),
                metrics: metrics.collect(),
                nexthops,
            };
            route.scope = scope.filter(|it| !v6_dst && *it != route.default_scope());
            route
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(route in prop_oneof![any_route(false), any_route(true)]) {
        prop_assert_eq!(Route::parse(&route.to_string()), Ok(route));
    }

    #[test]
    fn no_text_is_too_odd(text in any::<String>()) {
        let _ = Route::parse(&text);
    }

    #[test]
    fn no_words_are_too_odd(words in proptest::collection::vec(
        prop_oneof![
            proptest::sample::select(parse_words()),
            "[0-9a-f:./]{0,12}",
            any::<String>(),
        ], 0..12)
    ) {
        let text = words.join(" ");
        match Route::parse(&text) {
            Ok(route) => prop_assert_eq!(Route::parse(&route.to_string()), Ok(route)),
            Err(bad) => prop_assert!(text.get(bad.at.clone()).is_some(), "{:?}", bad),
        }
    }
}

fn parse_words() -> Vec<String> {
    let words = "default via inet6 dev src metric table scope proto onlink tos mtu advmss hoplimit lock nexthop weight blackhole local \
                 10.0.0.0/8 10.0.0.1 fd00::/64 fd00::1 ::/0 eth0 main link static 0 1 1024 70000";
    words.split(' ').map(str::to_owned).collect()
}
