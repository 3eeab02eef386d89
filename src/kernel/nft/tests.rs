//! Rules in real namespaces, read by `nft` and by conlink.

mod traffic;

use std::io::Write;
use std::net::SocketAddrV6;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicUsize;

use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::addr::IfName;
use crate::nat::Protocol;

/// Runs `test` in a new namespace, if this process may make one.
pub(super) fn in_namespace(name: &str, test: impl FnOnce() + Send) {
    let body = || match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => test(),
        Err(error) => skip(name, &format!("no network namespace can be made: {error}")),
    };
    std::thread::scope(|scope| {
        scope.spawn(body).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
}

/// Reports that this machine cannot run a test or a part of it. With CONLINK_TEST_ALL that is a failure.
fn skip(what: &str, reason: &str) {
    assert!(std::env::var_os("CONLINK_TEST_ALL").is_none(), "{what} must not be skipped: {reason}");
    // Not to standard error, which the test runner captures.
    let mut shown = fs::File::options().append(true).open("/proc/self/fd/2").unwrap();
    writeln!(shown, "\nSKIP {what}: {reason}").unwrap();
}

#[expect(clippy::disallowed_methods, reason = "tests run programs: `nft`, `iptables-nft`")]
fn run(program: &str, args: &[&str], input: &str) -> Result<String, String> {
    let mut command = Command::new("timeout");
    command.arg("10").arg(program).args(args);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// Runs `nft -f -` with `script` as input.
#[track_caller]
fn nft(script: &str) {
    // nft needs a newline at the end.
    let script = &script.replace('}', "\n}\n");
    run("nft", &["-f", "-"], script).unwrap_or_else(|it| panic!("{script}\n{it}"));
}

/// All rules of the namespace in the format of nft.
#[track_caller]
fn ruleset() -> String {
    run("nft", &["list", "ruleset"], "").unwrap()
}

/// Only the rules, without tables and chains.
#[track_caller]
fn shown() -> Vec<String> {
    let text = ruleset();
    text.lines().map(str::trim).filter(|it| it.contains("comment")).map(str::to_owned).collect()
}

fn dev(name: &str) -> IfName {
    name.parse().unwrap()
}

fn rule(mark: &str, action: NatAction) -> NatRule {
    NatRule { mark: format!("conlink:{mark}"), action }
}

fn dnat(mark: &str, name: &str, to: &str) -> NatRule {
    rule(mark, NatAction::Dnat { dev: dev(name), to: to.parse().unwrap() })
}

fn snat(mark: &str, name: &str, from: &str) -> NatRule {
    rule(mark, NatAction::Snat { dev: dev(name), from: from.parse().unwrap() })
}

fn forward(mark: &str, protocol: Protocol, port: u16, to: &str) -> NatRule {
    rule(mark, NatAction::Forward { protocol, port, to: to.parse().unwrap() })
}

fn forward_own(mark: &str, protocol: Protocol, port: u16, to: &str) -> NatRule {
    rule(mark, NatAction::ForwardOwn { protocol, port, to: to.parse().unwrap() })
}

fn forward_source(mark: &str, name: &str, protocol: Protocol, to: &str, from: &str) -> NatRule {
    let (to, from) = (to.parse().unwrap(), from.parse().unwrap());
    rule(mark, NatAction::ForwardSource { dev: dev(name), protocol, to, from })
}

fn other(mark: &str, handle: u64) -> NatRule {
    rule(mark, NatAction::Other { handle })
}

/// One rule of each action and family.
fn every() -> Vec<NatRule> {
    vec![
        dnat("p:a:eth0", "eth0", "10.2.0.2"),
        dnat("p:a:eth0", "fifteen-bytes-1", "fd00::2"),
        dnat("p:a:e*", "e*", "10.2.0.2"),
        forward("p:b:eth0", Protocol::Tcp, 8080, "10.2.0.2:80"),
        forward("p:b:eth0", Protocol::Udp, 1, "[fd00::2]:65535"),
        snat("p:a:eth0", "eth0", "10.2.0.1"),
        snat("p:a:eth0", "é", "fd00::1"),
        forward_source("p:b:eth0", "lan", Protocol::Tcp, "10.2.0.2:80", "10.2.0.254"),
        forward_source("p:b:eth0", "lan", Protocol::Udp, "[fd00::2]:53", "fd00::fe"),
        forward_own("p:b:eth0", Protocol::Tcp, 8080, "10.2.0.2:80"),
        forward_own("p:b:eth0", Protocol::Udp, 1, "[fd00::2]:65535"),
        rule("p:b:eth0", NatAction::Guard { dev: dev("lan"), source: false }),
        rule("p:b:eth0", NatAction::Guard { dev: dev("é*"), source: true }),
    ]
}

#[test]
fn every_action_is_shown_by_nft_and_reads_back() {
    in_namespace("actions", || {
        let mut nft = Nft::open().unwrap();
        for rule in every() {
            nft.change(&[], std::slice::from_ref(&rule)).unwrap();
            let words = rule.to_string();
            let chain = rule.action.chain().unwrap();
            assert_eq!(shown(), [words.strip_prefix(&format!("{chain} ")).unwrap()]);
            assert_eq!(nft.dump().unwrap(), std::slice::from_ref(&rule));
            nft.change(&[rule], &[]).unwrap();
            assert_eq!(ruleset(), "");
        }
        nft.change(&[], &every()).unwrap();
        assert_eq!(nft.dump().unwrap(), every());
        let text = ruleset();
        for line in [
            "table inet conlink {",
            "type nat hook prerouting priority dstnat; policy accept;",
            "type nat hook postrouting priority srcnat; policy accept;",
            "type nat hook output priority -100; policy accept;",
            "type filter hook prerouting priority raw; policy accept;",
        ] {
            assert!(text.contains(line), "{text}");
        }
        nft.change(&every(), &[]).unwrap();
        assert_eq!(ruleset(), "");
    });
}

/// Changes the rules to the desired ones, as the plan does.
#[track_caller]
fn converge(nft: &mut Nft, desired: &[NatRule]) {
    let observed = nft.dump().unwrap();
    let without = |all: &[NatRule], those: &[NatRule]| -> Vec<NatRule> {
        all.iter().filter(|it| !those.contains(it)).cloned().collect()
    };
    let (del, add) = (without(&observed, desired), without(desired, &observed));
    assert!(!del.is_empty() || !add.is_empty(), "nothing to do for:\n{}", ruleset());
    nft.change(&del, &add).unwrap_or_else(|it| panic!("{it}\n{}", ruleset()));
    let (mut seen, mut desired) = (nft.dump().unwrap(), desired.to_vec());
    seen.sort();
    desired.sort();
    assert_eq!(seen, desired, "{}", ruleset());
}

/// The kernel's handle of the first rule with these words.
#[track_caller]
fn handle(words: &str) -> u64 {
    let text = run("nft", &["-a", "list", "table", "inet", "conlink"], "").unwrap();
    let line = text.lines().find(|it| it.contains(words)).unwrap_or_else(|| panic!("{text}"));
    line.rsplit_once("# handle ").unwrap().1.parse().unwrap()
}

#[test]
fn rules_added_by_nft_equal_ours() {
    in_namespace("nft's own", || {
        let mut ours = Nft::open().unwrap();
        ours.change(&[], &every()).unwrap();
        let saved = ruleset();
        ours.change(&every(), &[]).unwrap();
        let rules: String = every().iter().map(|it| format!("add rule inet conlink {it}\n")).collect();
        nft(&format!(
            "table inet conlink {{
                chain prerouting {{ type nat hook prerouting priority dstnat; }}
                chain postrouting {{ type nat hook postrouting priority srcnat; }}
                chain output {{ type nat hook output priority -100; }}
                chain guard {{ type filter hook prerouting priority raw; }}
            }}
            {rules}"
        ));
        assert_eq!(ruleset(), saved);
        assert_eq!(ours.dump().unwrap(), every());
        nft(&format!("flush ruleset\n{saved}"));
        assert_eq!(ours.dump().unwrap(), every());
    });
}

#[test]
fn reading_makes_no_table() {
    in_namespace("looking", || {
        let mut nft = Nft::open().unwrap();
        let before = table::generation(nft.wire.as_mut().unwrap()).unwrap();
        assert_eq!(nft.dump().unwrap(), []);
        nft.change(&[], &[]).unwrap();
        // Deleting a rule that does not exist succeeds.
        nft.change(&every(), &[]).unwrap();
        nft.change(&[other("p:a:eth0", 7)], &[]).unwrap();
        assert_eq!(table::generation(nft.wire.as_mut().unwrap()).unwrap(), before);
        assert_eq!(ruleset(), "");
    });
}

#[test]
fn a_module_is_distinguished_from_built_in_code() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("proc/sys/kernel/osrelease", "6.1.0\n");
    write("sys/module/veth/refcnt", "0\n");
    // No list, or one of another kernel: unknown.
    assert!(!is_module(root.path()));
    write("lib/modules/6.1.1/modules.builtin", "kernel/net/ipv4/tcp_cubic.ko\n");
    assert!(!is_module(root.path()));
    write("lib/modules/6.1.0/modules.builtin", "kernel/net/ipv4/tcp_cubic.ko\n");
    assert!(is_module(root.path()));
    write("lib/modules/6.1.0/modules.builtin", "kernel/net/netfilter/nf_tables.ko\n");
    assert!(!is_module(root.path()));
}

#[test]
fn a_change_is_made_completely_or_not_at_all() {
    in_namespace("atomic", || {
        let mut ours = Nft::open().unwrap();
        let first = [dnat("p:a:eth0", "eth0", "10.2.0.2"), dnat("p:b:eth0", "eth1", "10.2.0.3")];
        ours.change(&[], &first).unwrap();
        // Another program's chain with the name of ours.
        nft("add chain inet conlink postrouting { type filter hook postrouting priority 0; }
            add rule inet conlink postrouting oifname \"x\" accept");
        let before = ruleset();
        let add = [forward("p:a:eth0", Protocol::Tcp, 1, "10.2.0.2:1"), snat("p:a:eth0", "eth0", "10.2.0.1")];
        let error = ours.change(&first[..1], &add).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EEXIST));
        assert_eq!(
            error.to_string(),
            "add chain inet conlink postrouting: File exists (os error 17): the chain exists with another type or hook, \
             and has rules of other programs"
        );
        assert_eq!(ruleset(), before);
        // The same without the rule that needs the chain.
        ours.change(&first[..1], &add[..1]).unwrap();
        assert_eq!(ours.dump().unwrap(), [first[1].clone(), add[0].clone()]);
        // One change replaces a rule, and does not add an existing rule again.
        let (del, add) =
            ([add[0].clone()], [forward("p:a:eth0", Protocol::Tcp, 2, "10.2.0.2:2"), first[1].clone()]);
        ours.change(&del, &add).unwrap();
        assert_eq!(ours.dump().unwrap(), [first[1].clone(), add[0].clone()]);
        ours.change(&[], &add).unwrap();
        assert_eq!(ours.dump().unwrap(), [first[1].clone(), add[0].clone()]);
    });
}

#[test]
fn unsupported_rules_are_refused() {
    in_namespace("refused", || {
        let mut nft = Nft::open().unwrap();
        let right = dnat("p:a:eth0", "eth0", "10.2.0.2");
        let marked = |mark: &str| NatRule { mark: mark.to_owned(), ..right.clone() };
        let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 80, 0, 3);
        let to_scoped = NatAction::Forward { protocol: Protocol::Tcp, port: 1, to: scoped.into() };
        for (wrong, expected) in [
            (forward_source("p:a:eth0", "lan", Protocol::Tcp, "10.2.0.2:80", "fd00::1"), "unsupported rule"),
            (rule("p:a:eth0", to_scoped), "unsupported rule"),
            (other("p:a:eth0", 3), "unsupported rule"),
            (marked("somebody"), "expected a mark `conlink:PROJECT:CONTAINER:DEV` of at most 254 bytes"),
            (
                marked("conlink:p:a:x\0"),
                "expected a mark `conlink:PROJECT:CONTAINER:DEV` of at most 254 bytes",
            ),
            (
                marked(&format!("conlink:p:{}:x", "a".repeat(243))),
                "expected a mark `conlink:PROJECT:CONTAINER:DEV` of at most 254 bytes",
            ),
        ] {
            let error = nft.change(&[], &[right.clone(), wrong.clone()]).unwrap_err();
            assert_eq!(error.to_string(), format!("add rule {wrong}: {expected}"));
        }
        assert_eq!(ruleset(), "");
    });
}

#[test]
fn marks_of_every_length_read_back() {
    in_namespace("long marks", || {
        let mut nft = Nft::open().unwrap();
        for length in [16, 127, 128, 129, 200, 253, 254] {
            let mark = format!("p:{}é:x", "a".repeat(length - "conlink:p:é:x".len()));
            let rule = dnat(&mark, "eth0", "10.2.0.2");
            assert_eq!(rule.mark.len(), length);
            nft.change(&[], std::slice::from_ref(&rule)).unwrap();
            assert_eq!(nft.dump().unwrap(), std::slice::from_ref(&rule), "{length} bytes");
            let is_shown = ruleset().contains(&format!("comment \"{}\"", rule.mark));
            assert_eq!(is_shown, length < 254, "{length} bytes: {}", ruleset());
            nft.change(&[rule], &[]).unwrap();
        }
    });
}

#[test]
fn rules_of_one_mark_change_without_those_of_another() {
    in_namespace("two marks", || {
        let mut nft = Nft::open().unwrap();
        let of_a = [dnat("p:a:eth0", "eth0", "10.2.0.2"), snat("p:a:eth0", "eth0", "10.2.0.1")];
        // The same rule with another mark.
        let of_b = [dnat("p:b:eth0", "eth0", "10.2.0.2"), dnat("q:a:eth0", "eth0", "10.2.0.2")];
        nft.change(&[], &of_a).unwrap();
        nft.change(&[], &of_b).unwrap();
        nft.change(&of_a, &[]).unwrap();
        assert_eq!(nft.dump().unwrap(), of_b);
        nft.change(&of_a, &of_a[1..]).unwrap();
        assert_eq!(nft.dump().unwrap(), [&of_b[..], &of_a[1..]].concat());
        nft.change(&of_b, &[]).unwrap();
        nft.change(&of_a, &[]).unwrap();
        assert_eq!(ruleset(), "");
    });
}

#[test]
fn rules_of_other_programs_are_left_alone() {
    in_namespace("others", || {
        let mut ours = Nft::open().unwrap();
        nft(
            "table ip nat {
                chain PREROUTING { type nat hook prerouting priority dstnat; tcp dport 1 dnat to 10.0.0.1 comment \"conlink:p:a:eth0\"; }
            }
            table ip conlink { chain prerouting { type nat hook prerouting priority dstnat; tcp dport 1 dnat to 10.0.0.1 comment \"conlink:p:a:eth0\"; } }
            table inet conlink2 { chain prerouting { counter comment \"conlink:p:a:eth0\"; } }",
        );
        // As Docker adds them.
        for args in [
            "-t nat -N DOCKER",
            "-t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
            "-t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
            "-t nat -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80",
            "-P FORWARD DROP",
        ] {
            let words: Vec<&str> = args.split(' ').collect();
            if let Err(error) = run("iptables-nft", &words, "") {
                skip("rules of iptables", &error);
                break;
            }
        }
        let foreign = ruleset();
        assert_eq!(ours.dump().unwrap(), []);
        ours.change(&[], &every()).unwrap();
        assert_eq!(ours.dump().unwrap(), every());
        ours.change(&every(), &[]).unwrap();
        assert_eq!(ruleset(), foreign);
        // In our table: without a mark of ours, and in another chain.
        ours.change(&[], &every()).unwrap();
        nft(
            "insert rule inet conlink prerouting iifname \"eth0\" accept
            add rule inet conlink prerouting iifname \"eth0\" meta nfproto ipv4 dnat ip to 10.2.0.2 comment \"mine\"
            add chain inet conlink own
            add rule inet conlink own counter",
        );
        assert_eq!(ours.dump().unwrap(), every());
        ours.change(&every(), &[]).unwrap();
        let (text, of_others) = (ruleset(), "iifname \"eth0\" accept");
        assert!(text.contains(of_others) && text.contains("\"mine\"") && text.contains("counter"), "{text}");
        assert_eq!(shown().iter().filter(|it| it.contains("inet conlink:")).count(), 0);
        assert_eq!(ours.dump().unwrap(), []);
        // The table is deleted after the last rule of another program.
        nft("flush table inet conlink");
        ours.change(&[], &every()).unwrap();
        ours.change(&every(), &[]).unwrap();
        assert_eq!(ruleset(), foreign);
    });
}

#[test]
fn an_edited_rule_is_noticed_and_repaired() {
    in_namespace("edited", || {
        let mut ours = Nft::open().unwrap();
        let desired = every();
        ours.change(&[], &desired).unwrap();
        let mark = "comment \"conlink:p:a:eth0\"";
        let source = "comment \"conlink:p:b:eth0\"";
        let words = [
            // Another action.
            format!("iifname \"eth0\" meta nfproto ipv4 dnat ip to 10.2.0.9 {mark}"),
            format!("iifname \"eth0\" meta nfproto ipv4 dnat ip to 10.2.0.2-10.2.0.3 {mark}"),
            format!("iifname \"eth0\" meta nfproto ipv4 dnat ip to 10.2.0.2 random {mark}"),
            format!("iifname \"eth0\" meta nfproto ipv4 tcp dport 1-65535 dnat ip to 10.2.0.2:80 {mark}"),
            format!("iifname != \"eth0\" meta nfproto ipv4 dnat ip to 10.2.0.2 {mark}"),
            format!("iifname \"eth0*\" meta nfproto ipv4 dnat ip to 10.2.0.2 {mark}"),
            format!("iifname \"eth0\" iifname \"eth0\" meta nfproto ipv4 dnat ip to 10.2.0.2 {mark}"),
            format!("iifname \"eth0\" ip saddr 10.0.0.1 dnat ip to 10.2.0.2 {mark}"),
            format!("iifname \"eth0\" meta nfproto ipv4 counter dnat ip to 10.2.0.2 {mark}"),
            format!("iifname \"eth0\" meta nfproto ipv4 redirect {mark}"),
            format!("iifname \"eth0\" drop {mark}"),
            format!("meta nfproto ipv4 tcp sport 8080 fib daddr type local dnat ip to 10.2.0.2:80 {mark}"),
            format!("meta nfproto ipv4 tcp dport 8080 fib saddr type local dnat ip to 10.2.0.2:80 {mark}"),
            format!("meta nfproto ipv4 tcp dport 8080 fib daddr type unicast dnat ip to 10.2.0.2:80 {mark}"),
            format!("meta nfproto ipv4 tcp dport 8080 dnat ip to 10.2.0.2:80 {mark}"),
            format!(
                "meta nfproto ipv4 tcp dport 8080-8081 fib daddr type local dnat ip to 10.2.0.2:80 {mark}"
            ),
            // The same action with another mark.
            format!("iifname \"eth0\" meta nfproto ipv4 dnat ip to 10.2.0.2 {source}"),
        ];
        let is_left = || handle("iifname \"eth0\" meta nfproto ipv4 dnat ip to 10.2.0.2 comment");
        for words in words {
            nft(&format!("replace rule inet conlink prerouting handle {} {words}", is_left()));
            let observed = ours.dump().unwrap();
            assert_eq!(observed.len(), desired.len(), "{words}");
            assert!(!observed.contains(&desired[0]), "{words}");
            converge(&mut ours, &desired);
        }
        for words in [
            "oifname \"lan\" ct status snat ip daddr 10.2.0.2 tcp dport 80 snat ip to 10.2.0.254",
            "oifname \"lan\" ip daddr 10.2.0.2 tcp dport 80 snat ip to 10.2.0.254",
            "oifname \"lan\" ct status dnat ip daddr != 10.2.0.2 tcp dport 80 snat ip to 10.2.0.254",
            "oifname \"lan\" ct status dnat ip daddr 10.2.0.0/24 tcp dport 80 snat ip to 10.2.0.254",
            "oifname \"lan\" ct status dnat ip saddr 10.2.0.2 tcp dport 80 snat ip to 10.2.0.254",
            "oifname \"lan\" ct status dnat ip daddr 10.2.0.2 tcp dport 80 masquerade",
        ] {
            let handle = handle("tcp dport 80 snat ip to 10.2.0.254");
            nft(&format!("replace rule inet conlink postrouting handle {handle} {words} {source}"));
            assert!(!ours.dump().unwrap().contains(&desired[7]), "{words}");
            converge(&mut ours, &desired);
        }
        // An additional rule with our mark, equal or not, in any chain.
        let again = format!("iifname \"eth0\" meta nfproto ipv4 dnat ip to 10.2.0.2 {mark}");
        for script in [
            format!("insert rule inet conlink prerouting {again}"),
            format!("add rule inet conlink prerouting {again}"),
            format!(
                "add chain inet conlink own\nadd rule inet conlink own {}",
                again.replace("dnat ip to 10.2.0.2", "accept")
            ),
        ] {
            nft(&script);
            let observed = ours.dump().unwrap();
            assert_eq!(observed.len(), desired.len() + 1);
            let strange = observed.iter().filter(|it| matches!(it.action, NatAction::Other { .. })).count();
            assert_eq!(strange, 1, "{observed:?}");
            converge(&mut ours, &desired);
        }
        nft(&format!("add rule inet conlink prerouting drop {mark}"));
        converge(&mut ours, &[]);
        assert_eq!(ruleset(), "");
    });
}

#[test]
fn rules_that_no_packet_reaches_are_noticed_and_repaired() {
    in_namespace("no effect", || {
        let mut ours = Nft::open().unwrap();
        let desired = every();
        let rules = |of: &[NatRule]| -> String {
            of.iter().map(|it| format!("add rule inet conlink {it}\n")).collect()
        };
        let accept = |it: &NatRule| {
            let chain = it.action.chain().unwrap();
            format!("add rule inet conlink {chain} accept comment \"{}\"\n", it.mark)
        };
        let accepts: String = desired.iter().map(accept).collect();
        let pre = "chain prerouting { type nat hook prerouting priority dstnat; }";
        let post = "chain postrouting { type nat hook postrouting priority srcnat; }";
        let own = "chain output { type nat hook output priority -100; }
            chain guard { type filter hook prerouting priority raw; }";
        for (table, rules, strange) in [
            // The table is dormant.
            (format!("flags dormant; {pre} {post} {own}"), rules(&desired), 13),
            // A chain has another priority or hook.
            (format!("{} {post} {own}", pre.replace("dstnat", "dstnat + 1")), rules(&desired), 5),
            (format!("{pre} {} {own}", post.replace("srcnat", "srcnat - 1")), rules(&desired), 4),
            (format!("{pre} {post} {}", own.replace("raw", "mangle")), rules(&desired), 2),
            (
                format!("{} {post} {own}", pre.replace("prerouting priority dstnat", "output priority -100")),
                rules(&desired[5..]) + &rules(&desired[..2]),
                2,
            ),
            // No packet passes the chain. The kernel allows no translation in it.
            (
                "chain prerouting { } chain postrouting { } chain output { } chain guard { }".to_owned(),
                accepts,
                13,
            ),
        ] {
            nft(&format!("table inet conlink {{ {table} }}\n{rules}"));
            let observed = ours.dump().unwrap();
            let others = observed.iter().filter(|it| matches!(it.action, NatAction::Other { .. }));
            assert_eq!(others.count(), strange, "{table}: {observed:?}");
            converge(&mut ours, &desired);
            ours.change(&desired, &[]).unwrap();
            assert_eq!(ruleset(), "");
        }
        // Another program has flushed or deleted it.
        for script in
            ["flush table inet conlink", "delete table inet conlink", "flush chain inet conlink postrouting"]
        {
            ours.change(&[], &desired).unwrap();
            nft(script);
            converge(&mut ours, &desired);
        }
        // The policy of a chain.
        nft(
            "table inet conlink { chain prerouting { type nat hook prerouting priority dstnat; policy drop; } }",
        );
        ours.change(&desired[..1], &desired[..1]).unwrap();
        assert!(!ruleset().contains("policy drop"), "{}", ruleset());
    });
}

/// So many rules that a dump needs several messages.
fn many(mark: &str) -> Vec<NatRule> {
    (0..500).map(|it| forward(mark, Protocol::Tcp, 1000 + it, &format!("[fd00::2]:{it}"))).collect()
}

#[test]
fn hundreds_of_rules_are_one_change_and_one_dump() {
    in_namespace("many", || {
        let mut nft = Nft::open().unwrap();
        // The longest possible rules.
        let long = "x".repeat(NatRule::MARK_MAX - "conlink:p::eth0".len());
        let mut rules = many(&format!("p:{long}:eth0"));
        rules.extend((0..500).map(|it| {
            forward_source(
                &format!("p:{long}:eth0"),
                "lan",
                Protocol::Udp,
                &format!("[fd00::2]:{it}"),
                "fd00::1",
            )
        }));
        nft.change(&[], &rules).unwrap();
        assert_eq!(nft.dump().unwrap(), rules);
        nft.change(&rules[..499], &[]).unwrap();
        assert_eq!(nft.dump().unwrap(), rules[499..]);
        nft.change(&rules, &[]).unwrap();
        assert_eq!(ruleset(), "");
    });
}

#[test]
fn a_dump_that_is_interrupted_by_changes_is_repeated() {
    in_namespace("interrupted", || {
        let mut nft = Nft::open().unwrap();
        let rules = many("p:a:eth0");
        nft.change(&[], &rules).unwrap();
        // Each change on another thread, because this one uses the receive buffer.
        let change = |add: &[NatRule], del: &[NatRule]| {
            std::thread::scope(|scope| {
                scope.spawn(|| Nft::open().unwrap().change(del, add)).join().unwrap().unwrap();
            });
        };
        let first = AtomicUsize::new(0);
        let extra = [dnat("p:b:eth0", "eth0", "10.2.0.2")];
        let mut request = crate::kernel::attribute::Attributes::default();
        request.text(1, TABLE);
        let interrupted = nft.wire.as_mut().unwrap().dump(wire::Kind::GetRule, &request, |_| {
            if first.fetch_add(1, Ordering::Relaxed) == 0 {
                change(&extra, &[]);
            }
        });
        assert!(interrupted.unwrap().0, "the kernel did not report that rules changed during a dump");
        assert!(first.load(Ordering::Relaxed) > 1);
        assert_eq!(nft.dump().unwrap(), [&extra[..0], &rules, &extra].concat());
        change(&[], &extra);
        assert_eq!(nft.dump().unwrap(), rules);
    });
}

#[test]
fn simultaneous_changes_lose_no_rule() {
    in_namespace("same time", || {
        std::thread::scope(|scope| {
            for mark in ["p:a:eth0", "q:a:eth0", "r:a:eth0"] {
                scope.spawn(move || {
                    let mut nft = Nft::open().unwrap();
                    let rules = [dnat(mark, "eth0", "10.2.0.2"), snat(mark, "eth0", "10.2.0.1")];
                    // The last rule of each thread deletes the table while others use it.
                    for _ in 0..100 {
                        for (del, add) in [(&rules[..0], &rules[..]), (&rules[..], &rules[..0])] {
                            while let Err(error) = nft.change(del, add) {
                                assert!(
                                    error.to_string().contains("another program changed the rules"),
                                    "{error}"
                                );
                            }
                            let seen = nft.dump().unwrap();
                            let mine = seen.iter().filter(|it| rules.contains(it)).count();
                            assert_eq!(mine, add.len(), "{mark}");
                        }
                    }
                });
            }
        });
        assert_eq!(ruleset(), "");
    });
}
