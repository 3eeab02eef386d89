//! `conlink attach`, `detach`, `attachments` and `pipework` in real namespaces, from outside.

use std::process::Command;

use crate::lab::world::World;
use crate::support::Run;

/// A world with named namespaces as guests.
fn world(what: &str, guests: &[&str]) -> Option<World> {
    let world = World::new(what)?;
    world.sh("ip link set lo up");
    for it in guests {
        world.sh(&format!("ip netns add {it}"));
    }
    Some(world)
}

fn conlink(world: &World, line: &str) -> Run {
    world.run(world.conlink(&words(line)))
}

/// Words at spaces; one in quotation marks may contain spaces.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for (number, part) in line.split('"').enumerate() {
        if number % 2 == 1 {
            words.push(part);
        } else {
            words.extend(part.split_whitespace());
        }
    }
    words
}

/// Runs a command that must succeed. Returns its output.
fn done(world: &World, line: &str) -> String {
    let run = conlink(world, line);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{line}: {run:?}");
    run.stdout
}

/// Runs a command that must fail with this code. Returns its errors.
fn fails(world: &World, line: &str, code: i32) -> String {
    let run = conlink(world, line);
    assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{line}: {run:?}");
    run.stderr
}

/// The addresses of an interface of a guest, without the link-local ones.
fn addrs(world: &World, guest: &str, dev: &str) -> String {
    let all = world.sh(&format!("ip -n {guest} -br addr show dev {dev}"));
    let mut words: Vec<&str> = all.split_whitespace().skip(2).filter(|it| !it.starts_with("fe80")).collect();
    words.sort_unstable();
    words.join(" ")
}

fn routes(world: &World, guest: &str) -> String {
    let text = world.sh(&format!("ip -n {guest} route"));
    text.lines().map(|it| it.trim().replace(" proto 194", "") + "\n").collect()
}

/// Everything of the host that a failed command could have changed.
fn state(world: &World, guests: &[&str]) -> String {
    let mut text = world.sh("ip -br link; ip addr; ip route; ip -6 route");
    for it in guests {
        text += &world.sh(&format!("ip -n {it} addr; ip -n {it} route; ip -n {it} -6 route"));
    }
    // Lifetimes count down, and the order of routes of several interfaces depends on which was up first.
    let mut lines: Vec<&str> = text.lines().filter(|it| !it.contains("valid_lft")).collect();
    lines.sort_unstable();
    lines.into_iter().map(|it| format!("{it}\n")).collect()
}

#[test]
fn an_interface_is_made_and_the_same_request_changes_nothing() {
    let Some(world) = world("attach", &["a", "b"]) else { return };
    let line = "attach a --bridge br1 --ip 192.168.1.1/24 --ip fd00::1/64 --gw 192.168.1.9";
    assert_eq!(done(&world, line), "attached: netns:a eth1 192.168.1.1/24 fd00::1/64\n");
    assert_eq!(addrs(&world, "a", "eth1"), "192.168.1.1/24 fd00::1/64");
    let default = "default via 192.168.1.9 dev eth1\n";
    assert!(routes(&world, "a").starts_with(default), "{}", routes(&world, "a"));
    let before = world.sh("ip link; ip -n a link");
    assert_eq!(done(&world, line), "unchanged: netns:a eth1 192.168.1.1/24 fd00::1/64\n");
    assert_eq!(world.sh("ip link; ip -n a link"), before);

    done(&world, "attach netns:b --bridge br1 --ip 192.168.1.2/24 --wait-up 5s");
    world.sh("ip netns exec a busybox ping -c1 -W5 192.168.1.2");
    let table = done(&world, "attachments");
    let lines: Vec<Vec<&str>> = table.lines().map(|it| it.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["GUEST", "DEV", "TYPE", "ON", "STATE", "ADDRESSES"]);
    assert_eq!(lines[1], ["netns:a", "eth1", "veth", "br1", "up", "192.168.1.1/24", "fd00::1/64"]);
    assert_eq!(lines[2], ["netns:b", "eth1", "veth", "br1", "up", "192.168.1.2/24"]);
    let json: serde_json::Value = serde_json::from_str(&done(&world, "attachments b --json")).unwrap();
    assert_eq!(json["guest"], "netns:b");
    assert_eq!(json["addresses"], serde_json::json!(["192.168.1.2/24"]));

    assert_eq!(done(&world, "detach a"), "detached: netns:a eth1\n");
    assert_eq!(done(&world, "detach b --all"), "detached: netns:b eth1\n");
    assert_eq!(done(&world, "attachments").lines().count(), 1);
    // The bridge is the user's.
    assert!(world.sh("ip -br link").contains("br1"));
}

#[test]
fn another_request_for_the_same_interface_is_refused_with_each_difference() {
    let Some(world) = world("attach", &["a"]) else { return };
    done(&world, "attach a --bridge br1 --ip 10.0.0.1/24 --mac 02:00:00:00:00:07");
    let index = world.sh("ip -n a -o link show eth1 | cut -d: -f1");
    let before = state(&world, &["a"]);
    let errors = fails(&world, "attach a --bridge br1 --ip 10.0.0.2/24 --mtu 1400", 1);
    assert_eq!(
        errors,
        "error: netns:a already has an interface `eth1`, which differs from the request:\n  \
         address 10.0.0.1/24 added\n  address 10.0.0.2/24 missing\n  mtu 1500 instead of 1400\n  \
         va6f1e2c1a7d95: mtu 1500 instead of 1400\nhint: `--ensure` changes it in place\n"
            .replace("va6f1e2c1a7d95", &outer(&world)),
    );
    assert_eq!(state(&world, &["a"]), before);
    assert!(
        done(&world, "attach a --bridge br1 --ip 10.0.0.2/24 --mtu 1400 --ensure").starts_with("changed")
    );
    assert_eq!(addrs(&world, "a", "eth1"), "10.0.0.2/24");
    assert_eq!(world.sh("ip -n a -o link show eth1 | cut -d: -f1"), index);

    // Another type needs another interface.
    let errors = fails(&world, "attach a --macvlan br1 --ip 10.0.0.2/24 --ensure", 1);
    assert!(errors.ends_with("hint: `--replace` makes it anew\n"), "{errors}");
    assert_eq!(addrs(&world, "a", "eth1"), "10.0.0.2/24");
}

/// The name of the only veth on the host.
fn outer(world: &World) -> String {
    let links = world.sh("ip -o link show type veth");
    links.split(": ").nth(1).unwrap().split('@').next().unwrap().to_owned()
}

#[test]
fn after_a_failure_everything_is_as_before() {
    let Some(world) = world("attach", &["a"]) else { return };
    done(&world, "attach a --bridge br1 --ip 10.0.0.1/24 --gw 10.0.0.9");
    let before = state(&world, &["a"]);
    // The gateway of the last route cannot be reached: bridge, interface, address and default route go again.
    let errors = fails(
        &world,
        "attach a --dev eth2 --bridge brnew --ip 10.1.0.1/24 --gw 10.1.0.9 --route \"10.9.0.0/16 via 172.16.0.1\"",
        1,
    );
    assert!(
        errors.starts_with("error: link a:eth2: add route 10.9.0.0/16 via 172.16.0.1 dev eth2:"),
        "{errors}"
    );
    assert_eq!(state(&world, &["a"]), before);
    assert_eq!(done(&world, "attachments a").lines().count(), 2);
    // The same for an interface that was changed in place.
    fails(
        &world,
        "attach a --bridge br1 --ip 10.0.0.2/24 --route \"10.9.0.0/16 via 172.16.0.1\" --ensure",
        1,
    );
    assert_eq!(state(&world, &["a"]), before);
}

#[test]
fn an_interface_that_cannot_be_replaced_is_made_again_as_it_was() {
    let Some(world) = world("attach", &["a"]) else { return };
    let line = "attach a --bridge br1 --ip 10.0.0.1/24 --gw 10.0.0.9 --mac 02:00:00:00:00:07 --mtu 1400";
    done(&world, line);
    fails(
        &world,
        "attach a --macvlan br1 --ip 10.0.0.2/24 --route \"10.9.0.0/16 via 172.16.0.1\" --replace",
        1,
    );
    assert!(done(&world, line).starts_with("unchanged"));
    world.sh("ip -n a link show eth1 | grep -q 02:00:00:00:00:07");
    assert!(done(&world, "attach a --macvlan br1 --ip 10.0.0.2/24 --replace").starts_with("changed"));
    assert!(world.sh("ip -n a -d link show eth1").contains("macvlan"));
    assert_eq!(addrs(&world, "a", "eth1"), "10.0.0.2/24");
}

#[test]
fn default_routes_that_were_replaced_are_restored_in_any_order() {
    let Some(world) = world("attach", &["a"]) else { return };
    world.sh(
        "ip -n a link add old type veth peer name older; ip -n a link set old up; ip -n a link set older up;
         ip -n a addr add 10.0.0.1/24 dev old; ip -n a route add default via 10.0.0.9 dev old",
    );
    let original = world.sh("ip -n a route");
    for (dev, net) in [("eth1", 1), ("eth2", 2), ("eth3", 3)] {
        done(&world, &format!("attach a --dev {dev} --bridge br1 --ip 10.{net}.0.1/24 --gw 10.{net}.0.9"));
    }
    let default = || world.sh("ip -n a route get 8.8.8.8").split_whitespace().nth(4).unwrap().to_owned();
    assert_eq!(default(), "eth3");
    // One whose route was taken by a later one is still as it was asked for.
    assert!(
        done(&world, "attach a --dev eth1 --bridge br1 --ip 10.1.0.1/24 --gw 10.1.0.9")
            .starts_with("unchanged")
    );
    done(&world, "detach a --dev eth2");
    assert_eq!(default(), "eth3");
    done(&world, "detach a --dev eth3");
    assert_eq!(default(), "eth1");
    done(&world, "detach a --dev eth1");
    assert_eq!(world.sh("ip -n a route"), original);
}

#[test]
fn a_moved_interface_comes_back_as_it_was() {
    let Some(world) = world("attach", &["a"]) else { return };
    world.sh("ip link add up0 type veth peer name up1; ip link set up0 address 02:00:00:00:00:09;
         ip link set up1 up mtu 1450; ip link set up0 mtu 1450 up alias uplink;
         ip addr add 10.7.0.1/24 dev up0; ip addr add fd07::1/64 dev up0 nodad;
         ip route add 10.8.0.0/16 via 10.7.0.9");
    let before = state(&world, &["a"]);
    let line =
        "attach a --move mac:02:00:00:00:00:09 --dev wan --ip 10.7.0.5/24 --mac 02:00:00:00:00:05 --mtu 1400";
    assert_eq!(done(&world, line), "attached: netns:a wan 10.7.0.5/24\n");
    assert_eq!(addrs(&world, "a", "wan"), "10.7.0.5/24");
    assert!(!world.sh("ip -br link").contains("up0"));
    assert!(done(&world, "attachments a").contains("moved"));
    done(&world, "attach a --move up0 --dev wan --ip 10.7.0.5/24 --mac 02:00:00:00:00:05 --mtu 1400");
    done(&world, "detach a --dev wan");
    assert_eq!(state(&world, &["a"]), before);
    assert!(world.sh("ip link show up0").contains("alias uplink"));
    // A failure returns it too.
    fails(&world, "attach a --move up0 --dev wan --route \"10.9.0.0/16 via 172.16.0.1\"", 1);
    assert_eq!(state(&world, &["a"]), before);
    assert!(world.sh("ip link show up0").contains("alias uplink"));
}

#[test]
fn an_alias_that_a_guest_has_made_up_moves_nothing() {
    let Some(world) = world("attach", &["a", "b"]) else { return };
    done(&world, "attach b --bridge br1 --ip 10.0.0.2/24");
    let links = world.sh("ip -o link");
    for alias in ["conlink:attach/netns:a:eth1 moved=evil0", "conlink:attach/netns:b:eth1"] {
        done(&world, "attach a --bridge br1 --ip 10.0.0.1/24");
        world.sh("ip netns exec b busybox ping -c1 -W5 10.0.0.1");
        world.sh(&format!("ip -n a link set eth1 alias '{alias}'"));
        // Its outer end tells whose it is.
        done_quietly(&world, "detach a --all");
        let left = world.sh("ip -o link");
        assert_eq!(left.lines().count(), links.lines().count(), "{alias}: {left}");
        assert!(!left.contains("evil0"), "{alias}: {left}");
    }
    world.sh("ip -n b link show eth1 | grep -q LOWER_UP");
}

#[test]
fn an_interface_that_cannot_be_replaced_keeps_its_connection() {
    let Some(world) = world("attach", &["a"]) else { return };
    world.sh("ip link add zz0 type veth peer name zz1; ip link set zz0 up; ip link set zz1 up; ip link add ub type bridge");
    let bad = "--route \"10.9.0.0/16 via 172.16.0.1\" --replace";
    let line = "attach a --macvlan zz0 --ip 10.0.0.3/24 --gw 10.0.0.1";
    done(&world, line);
    fails(&world, &format!("attach a --bridge ub --ip 10.0.0.3/24 {bad}"), 1);
    assert!(done(&world, line).starts_with("unchanged"));
    let line = "attach a --dev eth2 --bridge ub --ip 10.5.0.2/24";
    done(&world, line);
    fails(&world, &format!("attach a --dev eth2 --macvlan zz0 --ip 10.6.0.2/24 {bad}"), 1);
    assert!(done(&world, line).starts_with("unchanged"));
    assert!(world.sh("bridge link").contains("master ub"));
    // A bridge that `attach` made is not replaced by one of Open vSwitch of the same name.
    done(&world, "attach a --dev eth3 --bridge made --ip 10.7.0.2/24");
    let error = fails(&world, "attach a --dev eth4 --ovs made", 1);
    assert!(error.starts_with("error: interface `made` is not a bridge of Open vSwitch\n"), "{error}");
    assert!(world.sh("bridge link").contains("master made"));
}

#[test]
fn a_patch_has_two_ends() {
    let Some(world) = world("attach", &["a", "b", "c"]) else { return };
    done(&world, "attach a --patch cable --ip 10.0.0.1/24");
    done(&world, "attach b --patch cable --ip 10.0.0.2/24");
    world.sh("ip netns exec a busybox ping -c1 -W5 10.0.0.2");
    let errors = fails(&world, "attach c --patch cable --ip 10.0.0.3/24", 1);
    assert!(
        errors.starts_with("error: patch `cable` already has two ends: netns:a (eth1) and netns:b (eth1)\n"),
        "{errors}"
    );
    done(&world, "detach a");
    done(&world, "attach c --patch cable --ip 10.0.0.3/24");
    world.sh("ip netns exec c busybox ping -c1 -W5 10.0.0.2");
}

#[test]
fn many_requests_at_once_wait_for_each_other() {
    let guests: Vec<String> = (0..12).map(|it| format!("g{it}")).collect();
    let names: Vec<&str> = guests.iter().map(String::as_str).collect();
    let Some(world) = world("attach", &names) else { return };
    let start = |it: &str| {
        let line = format!("attach {it} --bridge br1 --ip 10.0.0.{}/24", it[1..].parse::<u8>().unwrap() + 1);
        world.start(world.conlink(&words(&line)))
    };
    let children: Vec<_> = names.iter().flat_map(|it| [start(it), start(it)]).collect();
    for child in children {
        let run = crate::support::finish(child, "attach", crate::lab::world::LIMIT);
        assert_eq!(run.code, 0, "{run:?}");
    }
    assert_eq!(done(&world, "attachments").lines().count(), 13);
    world.sh("ip netns exec g0 busybox ping -c1 -W5 10.0.0.12");
}

#[test]
fn ipv6_is_enabled_for_an_interface_with_such_an_address() {
    let Some(world) = world("attach", &["a"]) else { return };
    world.sh(
        "ip netns exec a sysctl -qw net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1",
    );
    done(&world, "attach a --bridge br1 --ip fd00::1/64 --gw fd01::9");
    assert_eq!(addrs(&world, "a", "eth1"), "fd00::1/64");
    let routes = world.sh("ip -n a -6 route");
    assert!(routes.contains("fd01::9 dev eth1"), "{routes}");
    assert!(routes.contains("default via fd01::9 dev eth1"), "{routes}");
}

#[test]
fn a_guest_that_does_not_exist_has_an_exit_code_of_its_own() {
    let Some(world) = world("attach", &["web"]) else { return };
    for line in ["attach wbe --dummy", "detach netns:wbe", "attach pid:999999 --dummy"] {
        let run = conlink(&world, line);
        assert_eq!(run.code, 3, "{line}: {run:?}");
    }
    assert!(fails(&world, "attach netns:wbe --dummy", 3).contains("did you mean `web`?"));
    for (line, error) in [
        ("attach web --bridge br1 --ip 10.0.0.1", "such as `10.0.0.1/24`"),
        ("attach web --bridge br1 --ip 224.0.0.1/24", "multicast"),
        ("attach web --bridge br1 --gw 10.0.0.1", "needs an address of the same family"),
        ("attach web --bridge br1 --dummy", "cannot be used with"),
        ("attach web --dummy --vlan-tag 5", "it is for --bridge"),
        ("attach web --macvlan eth0:bogus", "expected private, vepa, bridge, passthru, source"),
        ("attach web --vxlan 5", "VNI@ADDRESS"),
        ("attach web --bridge br1 --route \"blackhole 10.0.0.0/8\"", "it uses no interface"),
        ("attach web", "required"),
    ] {
        let run = conlink(&world, line);
        assert_eq!(run.code, 2, "{line}: {run:?}");
        assert!(run.stderr.contains(error), "{line}: {run:?}");
    }
}

#[test]
fn a_dry_run_prints_the_plan_and_changes_nothing() {
    let Some(world) = world("attach", &["a"]) else { return };
    let before = state(&world, &["a"]);
    let plan = done(&world, "attach a --bridge br1 --ip 10.0.0.1/24 --dry-run");
    assert!(plan.starts_with("bridge br1\n  host: add bridge br1\nlink a:eth1\n"), "{plan}");
    assert!(plan.contains("add addr 10.0.0.1/24 dev eth1"), "{plan}");
    assert_eq!(state(&world, &["a"]), before);
}

#[test]
fn a_lab_node_is_a_guest() {
    let Some(world) = world("attach", &[]) else { return };
    world.write("compose.yaml", "name: l\nservices:\n  n:\n    command: sleep 600\n");
    done_quietly(&world, "lab up");
    assert_eq!(
        done(&world, "attach lab:l/n --bridge br1 --ip 10.0.0.1/24"),
        "attached: lab:l/n eth1 10.0.0.1/24\n"
    );
    let run = conlink(&world, "lab exec n -- ip -br addr show eth1");
    assert!(run.stdout.contains("10.0.0.1/24"), "{run:?}");
    assert_eq!(done(&world, "detach lab:l/n"), "detached: lab:l/n eth1\n");
    done_quietly(&world, "lab down");
}

fn done_quietly(world: &World, line: &str) {
    let run = conlink(world, line);
    assert_eq!(run.code, 0, "{line}: {run:?}");
}

/// `pipework LINE`.
fn pipework(world: &World, line: &str) -> Run {
    let mut command: Command = world.conlink(&["pipework"]);
    command.args(words(line));
    world.run(command)
}

#[test]
fn an_interface_of_a_user_is_never_deleted() {
    let Some(world) = world("pipework", &["a"]) else { return };
    world.sh("ip link add mine type bridge; ip link add taken type veth peer name other");
    let before = world.sh("ip -o link | cut -d: -f2");
    let run = pipework(&world, "mine -l taken a 10.0.0.1/24");
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
    assert!(run.stderr.contains("`taken` already exists (host) and was not made by conlink"), "{run:?}");
    assert_eq!(world.sh("ip -o link | cut -d: -f2"), before);
    // One of its own that is down is set up again.
    let ok = || pipework(&world, "mine -l ours a 10.0.0.1/24").code;
    assert_eq!(ok(), 0);
    world.sh("ip link set ours down");
    let again = pipework(&world, "mine -l ours a 10.0.0.1/24");
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("ours: down"), "{again:?}");
}

#[test]
fn attachments_of_a_misspelled_guest_are_an_error() {
    let Some(world) = world("attach", &["web"]) else { return };
    assert!(fails(&world, "attachments netns:wbe", 3).contains("did you mean `web`?"));
    done(&world, "attach web --bridge br1 --ip 10.0.0.1/24");
    let before = state(&world, &["web"]);
    // A dry run refuses what the command refuses.
    let errors = fails(&world, "attach web --bridge br1 --ip 10.0.0.2/24 --dry-run", 1);
    assert!(errors.contains("address 10.0.0.2/24 missing"), "{errors}");
    assert_eq!(state(&world, &["web"]), before);
}

#[test]
fn pipework_makes_what_the_script_makes() {
    let Some(world) = world("pipework", &["a", "b", "c"]) else { return };
    let ok = |line: &str| {
        let run = pipework(&world, line);
        assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "", ""), "{line}");
    };
    ok("br1 a 192.168.1.1/24");
    assert_eq!(addrs(&world, "a", "eth1"), "192.168.1.1/24");
    assert!(world.sh("ip -n a addr show eth1").contains("brd 192.168.1.255"));
    let outer = outer(&world);
    let again = pipework(&world, "br1 a 192.168.1.9/24");
    assert_eq!((again.code, again.stdout), (1, format!("Link {outer} exists and is up\n")));
    ok("br1 -l hostapp1 b 192.168.1.2/24 26:2e:71:98:60:8f");
    assert!(world.sh("ip -br link show hostapp1").contains("UP"));
    assert!(world.sh("ip -n b link show eth1").contains("26:2e:71:98:60:8f"));
    world.sh("ip netns exec a busybox ping -c1 -W5 192.168.1.2");
    // A gateway outside of the subnet.
    ok("br1 c 192.168.4.26/32@10.0.0.1");
    assert_eq!(routes(&world, "c"), "default via 10.0.0.1 dev eth1\n10.0.0.1 dev eth1 scope link\n");
    // The default route moves to the later interface.
    ok("br1 -i eth2 c 10.5.0.2/24@10.5.0.1");
    assert!(routes(&world, "c").starts_with("default via 10.5.0.1 dev eth2\n"), "{}", routes(&world, "c"));
    // A gateway of IPv6 gets a route to it alone.
    ok("br1 -i eth3 c fd00::5/64@fd00:2::1");
    assert!(world.sh("ip -n c -6 route").contains("fd00:2::1 dev eth3 "));
    ok("br1 -i eth4 c 0/0 U:myhost.foo.com");
    assert!(world.sh("ip -n c link show eth4").contains("02:72:6c:cd:9b:8d"));
    ok("route c add 10.0.5.0/24 via 10.5.0.9");
    let unknown = pipework(&world, "br1 nosuch 10.0.0.1/24");
    let words = "Container nosuch not found, and unknown to Docker.\n";
    assert_eq!((unknown.code, unknown.stderr.as_str()), (1, words));
    // Nothing is left of any call.
    for it in ["a", "b"] {
        ok(&format!("--detach {it}"));
    }
    for it in ["eth1", "eth2", "eth3", "eth4"] {
        ok(&format!("--detach c -i {it}"));
    }
    assert_eq!(world.sh("ip -o link show type veth"), "");
    assert!(!world.outside("/run/netns/1").exists());
}
