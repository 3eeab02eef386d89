//! What the kernel allows the programs of a node.

use crate::lab::Lab;

/// Each node prints its capabilities.
const NODES: &str = r#"
x-show: &show [sh, -c, "grep -E '^(CapEff|CapBnd|Seccomp):' /proc/self/status; exec sleep 1000"]
services:
  plain: {command: *show}
  idle: {}
  attended: {command: *show, init: true}
  adds: {command: *show, cap_add: [sys_time, CAP_SYS_ADMIN], cap_drop: [MKNOD, Net_Admin]}
  few: {command: *show, cap_drop: [ALL], cap_add: [NET_RAW]}
  user: {command: *show, user: daemon, cap_drop: [ALL]}
  open: {command: *show, privileged: true, cap_drop: [ALL]}
  unfiltered: {command: *show, security_opt: ["seccomp=unconfined"]}
"#;

/// Those of Docker, and NET_ADMIN.
const DEFAULT: u64 = 0xa804_35fb;

/// The lines of `/proc/PID/status`: effective and bounding capabilities, and whether there is a filter.
fn shown(text: &str) -> (u64, u64, bool) {
    let field = |name: &str| text.lines().find_map(|it| it.strip_prefix(name)).unwrap().trim();
    let set = |name: &str| u64::from_str_radix(field(name), 16).unwrap();
    (set("CapEff:"), set("CapBnd:"), field("Seccomp:") == "2")
}

#[test]
fn a_node_has_the_capabilities_of_a_container_and_those_of_its_service() {
    let Some(lab) = Lab::up_with("capabilities", NODES) else { return };
    let (all, _, machine) = shown(&lab.world.sh("cat /proc/self/status"));
    let net_raw = 1 << 13;
    let adds = DEFAULT & !(1 << 27) & !(1 << 12) | 1 << 25 | 1 << 21;
    for (node, effective, bounding, filtered) in [
        ("plain", DEFAULT, DEFAULT, true),
        ("idle", DEFAULT, DEFAULT, true),
        ("attended", DEFAULT, DEFAULT, true),
        ("adds", adds, adds, true),
        ("few", net_raw, net_raw, true),
        ("user", 0, 0, true),
        ("open", all, all, false),
        ("unfiltered", DEFAULT, DEFAULT, false),
    ] {
        let expected = (effective & all, bounding & all, filtered || machine);
        assert_eq!(shown(&lab.sh(node, "cat /proc/self/status")), expected, "exec in {node}");
        assert_eq!(shown(&lab.sh(node, "cat /proc/1/status")), expected, "process 1 of {node}");
        if node != "idle" {
            lab.until_said(node, if expected.2 { "Seccomp:\t2" } else { "Seccomp:\t0" });
            assert_eq!(shown(&lab.log(node)), expected, "{node}");
        }
    }
    // The namespace of the bridges is not a node.
    assert_eq!(shown(&lab.exec("--bridges", &["cat", "/proc/self/status"])), (all, all, machine));
}

#[test]
fn a_node_sets_up_its_network_and_not_the_machine() {
    let compose = r#"
services:
  h1:
    x-network:
      links: [{bridge: lan, ip: 10.0.1.1/24}]
      commands: [{service: h1, command: "ip link set dev lo mtu 1400; mount -n -t tmpfs none /mnt"}]
  mounts: {cap_add: [SYS_ADMIN]}
"#;
    let Some(lab) = Lab::up_with("what a node may do", compose) else { return };
    for line in [
        "ip link add v0 type veth peer name v1 && ip link set v0 up",
        "echo 1 >/proc/sys/net/ipv4/ip_forward",
        "ping -c 1 -W 1 10.0.1.1 >/dev/null || ! command -v ping",
        "nft add table ip t 2>/dev/null || ! command -v nft",
        "chown 1:1 /dev/stdout; kill -0 $$; touch /tmp/$$ && chmod 4755 /tmp/$$ && rm /tmp/$$",
        "until test \"$(cat /sys/class/net/lo/mtu)\" = 1400; do sleep 0.01; done",
    ] {
        lab.sh("h1", line);
    }
    for line in [
        "mount -n -t tmpfs none /mnt",
        "umount -n /run/conlink",
        "hostname other",
        "unshare --user true",
        "unshare --net true",
        "date -s 2001-01-01",
        "echo 0 >/proc/sys/kernel/printk",
        "echo h >/proc/sysrq-trigger",
        "echo 1 >/sys/kernel/uevent_seqnum",
    ] {
        let run = lab.run("exec", &["h1", "sh", "-c", line]);
        assert_ne!(run.code, 0, "{line}: {run:?}");
    }
    assert!(
        !lab.sh("h1", "cat /proc/mounts").contains(" /mnt "),
        "a command of the network has no more rights"
    );
    lab.sh("mounts", "mount -n -t tmpfs none /mnt && umount -n /mnt && hostname other");
}

#[test]
fn a_node_sees_no_socket_of_an_engine_or_a_lab() {
    let compose = "services: {a: {}, open: {privileged: true}}";
    let Some(lab) = Lab::new("hidden sockets", compose) else { return };
    for options in [&[][..], &["--private-root"]] {
        lab.up(options);
        lab.world.sh("test -S /run/conlink/lab/test/socket");
        for node in ["a", "open"] {
            assert_eq!(lab.sh(node, "ls -A /run/conlink"), "", "{node} {options:?}");
            lab.sh(node, "! touch /run/conlink/file 2>/dev/null");
        }
        lab.down();
    }
}

#[test]
fn wrong_privileges_are_reported() {
    let compose = "
services:
  a: {cap_add: [NET_ADMN, SYS_ADMIN], cap_drop: [none]}
  b: {logging: {options: {max-size: 0, max-file: 0}}}
";
    let Some(lab) = Lab::new("wrong privileges", compose) else { return };
    let run = lab.run("up", &[]);
    assert_eq!(run.code, 1);
    for said in [
        "unknown capability `NET_ADMN`",
        "did you mean `NET_ADMIN`?",
        "unknown capability `none`",
        "expected a name such as `SYS_ADMIN`, or `ALL`",
        "invalid size `0`",
        "`max-file` is 0",
    ] {
        assert!(run.stderr.contains(said), "{said}: {}", run.stderr);
    }
}
