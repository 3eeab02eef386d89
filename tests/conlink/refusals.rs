//! Configurations that are read and still cannot work: links that contradict each other, reserved names, ends of patches.

use expect_test::expect;

use crate::conlink::{check, with_files};

#[test]
fn links_that_contradict_each_other_are_refused() {
    check(
        &[(
            "net.yaml",
            r#"links:
  - {service: a, bridge: lan, ip: 10.0.0.1/24, route: [default via 10.0.0.2, default via 10.0.0.3]}
  - {service: b, bridge: lan, outer-dev: up0}
  - {service: c, bridge: lan, outer-dev: up0}
  - {service: d, type: ipvlan, outer-dev: eth0, mode: l2}
  - {service: e, type: ipvlan, outer-dev: eth0, mode: l3}
  - {service: f, bridge: lan, ip: 10.0.0.9/24, forward: ["80:80/tcp", "80:81/tcp"]}
"#,
        )],
        &["check", "net.yaml"],
        1,
        &expect![""],
        &expect![[r#"
            error[duplicate-route]: two routes to 0.0.0.0/0 have the same metric
             --> net.yaml:2:78
              |
            2 |   - {service: a, bridge: lan, ip: 10.0.0.1/24, route: [default via 10.0.0.2, default via 10.0.0.3]}
              |                                                        --------------------  ^^^^^^^^^^^^^^^^^^^^
              |                                                        |
              |                                                        the first
              |
              = help: give them different metrics, or give one route several nexthops

            error[duplicate-outer-dev]: two links have the outer interface `up0`
             --> net.yaml:4:42
              |
            3 |   - {service: b, bridge: lan, outer-dev: up0}
              |                                          --- the first
            4 |   - {service: c, bridge: lan, outer-dev: up0}
              |                                          ^^^

            error[mixed-parent]: the links on `eth0` have modes l2 and l3
             --> net.yaml:6:55
              |
            5 |   - {service: d, type: ipvlan, outer-dev: eth0, mode: l2}
              |                                                       -- the first
            6 |   - {service: e, type: ipvlan, outer-dev: eth0, mode: l3}
              |                                                       ^^
              |
              = help: the mode belongs to the parent: give all its links the same

            error: port 80/tcp is forwarded twice
             --> net.yaml:7:71
              |
            7 |   - {service: f, bridge: lan, ip: 10.0.0.9/24, forward: ["80:80/tcp", "80:81/tcp"]}
              |                                                          -----------  ^^^^^^^^^^^
              |                                                          |
              |                                                          the first

            found 4 errors
        "#]],
    );
}

#[test]
fn names_that_no_interface_of_ours_can_have_are_refused() {
    let net = "\
links:
- {service: a, bridge: lo, dev: all}
- {service: b, bridge: lan, outer-dev: default}
- {service: c, bridge: lan, outer-dev: lan}
- {service: d, bridge: lan, outer-dev: vxlan-7}
- {service: e, bridge: up, base: host, outer-dev: lan}
- {service: f, type: macvlan, outer-dev: lo}
- {service: g, bridge: default, outer-dev: cable}
- {service: h, bridge: cable}
- {container: h, bridge: 'br1', outer-dev: 'br{{index}}'}
bridges:
- {bridge: all, mode: ovs}
- {bridge: default, mode: patch}
- {bridge: cable, mode: patch}
- {bridge: vxlan-8}
- {bridge: vxlan-9, mode: patch}
tunnels:
- {type: vxlan, bridge: lan, remote: 192.0.2.1, vni: 7}
- {type: vxlan, bridge: lan, remote: 192.0.2.1, vni: 8}
- {type: vxlan, bridge: lan, remote: 192.0.2.1, vni: 9}
- {type: geneve, bridge: lan, remote: 192.0.2.1, vni: 9}
- {type: geneve, bridge: lan, remote: 192.0.2.2, vni: 9}
";
    check(
        &[("net.yaml", net)],
        &["check", "net.yaml"],
        1,
        &expect![""],
        &expect![[r#"
            error: `lo` cannot name a bridge: `lo` is the loopback interface of every network namespace
             --> net.yaml:2:24
              |
            2 | - {service: a, bridge: lo, dev: all}
              |                        ^^
              |
              = help: a bridge of mode linux is an interface of that name

            error: the kernel reserves the name `all` for settings in /proc/sys/net
             --> net.yaml:2:33
              |
            2 | - {service: a, bridge: lo, dev: all}
              |                                 ^^^
              |
              = help: choose another name

            error: the kernel reserves the name `default` for settings in /proc/sys/net
             --> net.yaml:3:40
              |
            3 | - {service: b, bridge: lan, outer-dev: default}
              |                                        ^^^^^^^
              |
              = help: choose another name

            error: outer interface `lan` has the name of a bridge
             --> net.yaml:4:40
              |
            3 | - {service: b, bridge: lan, outer-dev: default}
              |                        --- the bridge
            4 | - {service: c, bridge: lan, outer-dev: lan}
              |                                        ^^^
              |
              = help: choose another name

            error: outer interface `vxlan-7` has the name of a tunnel
              --> net.yaml:5:40
               |
             5 | - {service: d, bridge: lan, outer-dev: vxlan-7}
               |                                        ^^^^^^^
            ...
            18 | - {type: vxlan, bridge: lan, remote: 192.0.2.1, vni: 7}
               |   ----------------------------------------------------- the tunnel
               |
               = help: choose another name

            error: `lo` cannot be the parent of another interface
             --> net.yaml:7:42
              |
            7 | - {service: f, type: macvlan, outer-dev: lo}
              |                                          ^^
              |
              = help: name an Ethernet interface

            error[replica-out-of-range]: replica 1: outer interface `br1` has the name of a bridge
              --> net.yaml:10:44
               |
            10 | - {container: h, bridge: 'br1', outer-dev: 'br{{index}}'}
               |                                            ^^^^^^^^^^^^^

            error: `all` cannot name a bridge: the kernel reserves the name `all` for settings in /proc/sys/net
              --> net.yaml:12:12
               |
            12 | - {bridge: all, mode: ovs}
               |            ^^^
               |
               = help: a bridge of mode ovs is an interface of that name

            error: the tunnel's interface `vxlan-8` has the name of a bridge
              --> net.yaml:19:54
               |
            15 | - {bridge: vxlan-8}
               |            ------- the bridge
            ...
            19 | - {type: vxlan, bridge: lan, remote: 192.0.2.1, vni: 8}
               |                                                      ^
               |
               = help: choose another name for the bridge, or another `vni`

            error: two geneve tunnels have vni 9
              --> net.yaml:22:55
               |
            21 | - {type: geneve, bridge: lan, remote: 192.0.2.1, vni: 9}
               |   ------------------------------------------------------ the first
            22 | - {type: geneve, bridge: lan, remote: 192.0.2.2, vni: 9}
               |                                                       ^

            found 10 errors
        "#]],
    );
}

#[test]
fn services_that_no_compose_file_has_and_default_routes_of_the_host_are_refused() {
    let compose = r#"services:
  web: {image: i, x-network: {links: [{bridge: lan}]}}
  edge: {image: i, network_mode: "${MODE:-host}"}
x-network:
  links:
    - {service: wbe, bridge: lan}
    - {service: edge, bridge: lan, route: [10.0.0.0/8, default via 10.0.0.2, default via 10.0.0.2 table 100]}
"#;
    let net = "commands: [{service: database, command: 'true'}]\n";
    check(
        &[("compose.yaml", compose), ("net.yaml", net)],
        &["check", "--compose-file", "compose.yaml", "--network-file", "net.yaml"],
        1,
        &expect![""],
        &expect![[r#"
            warning[docker-interface]: Docker gives service `web` an interface `eth0` too
             --> compose.yaml:2:39
              |
            2 |   web: {image: i, x-network: {links: [{bridge: lan}]}}
              |                                       ^^^^^^^^^^^^^
              |
              = help: give the service `network_mode: none`, or the link another `dev`

            error[unknown-service]: unknown service `wbe`
             --> compose.yaml:6:17
              |
            6 |     - {service: wbe, bridge: lan}
              |                 ^^^
              |
              = help: did you mean `web`?

            error: this would be a default route of the host
             --> compose.yaml:7:56
              |
            3 |   edge: {image: i, network_mode: "${MODE:-host}"}
              |                                  --------------- the service is in the host's network
            ...
            7 |     - {service: edge, bridge: lan, route: [10.0.0.0/8, default via 10.0.0.2, default via 10.0.0.2 table 100]}
              |                                                        ^^^^^^^^^^^^^^^^^^^^
              |
              = help: remove the route, or use another table: `table 100`

            error[unknown-service]: unknown service `database`
             --> net.yaml:1:22
              |
            1 | commands: [{service: database, command: 'true'}]
              |                      ^^^^^^^^
              |
              = help: pass every compose file of the project

            found 3 errors, 1 warning
        "#]],
    );
    // Another file may have the service.
    let included = format!("include: [more.yaml]\n{}", compose.replace("edge, bridge", "other, bridge"));
    let run = with_files(&[("a.yaml", &included)], &["check", "--compose-file", "a.yaml"], &[]);
    assert!(run.code == 0 && run.stderr.contains("warning[not-followed]"), "{run:?}");
    let alone = "x-network: {links: [{service: a, bridge: lan}]}";
    let ok = expect!["ok: 1 link and 1 bridge\n"];
    check(&[("a.yaml", alone)], &["check", "--compose-file", "a.yaml"], 0, &ok, &expect![""]);
}

#[test]
fn one_outer_interface_for_several_replicas_is_refused() {
    let compose = r#"services:
  a: {image: i, scale: 2, x-network: {links: [{bridge: lan, outer-dev: up-a}]}}
  b: {image: i, deploy: {replicas: "${COUNT:-3}"}, x-network: {links: [{bridge: lan, outer-dev: 'up-{{service}}'}]}}
  c: {image: i, scale: 2, x-network: {links: [{bridge: lan, outer-dev: 'up-c{{ index }}'}]}}
  d: {image: i, scale: 2, x-network: {links: [{type: macvlan, outer-dev: eth0}]}}
  e: {image: i, scale: 1, x-network: {links: [{bridge: lan, outer-dev: up-e}]}}
  f: {image: i, x-network: {links: [{bridge: lan, outer-dev: up-e, ip: '10.0.{{index}}.1/24'}]}}
"#;
    let more = "services: {e: {scale: 1}, g: {image: i, scale: 5}}\n\
                x-network: {links: [{service: g, bridge: lan, outer-dev: up-g}]}\n";
    let last = "services: {g: {scale: 1}}\n";
    check(
        &[("a.yaml", compose), ("b.yaml", more), ("c.yaml", last)],
        &["check", "--compose-file", "a.yaml:b.yaml:c.yaml"],
        1,
        &expect![""],
        &expect![[r#"
            warning[docker-interface]: Docker gives service `a` an interface `eth0` too
             --> a.yaml:2:47
              |
            2 |   a: {image: i, scale: 2, x-network: {links: [{bridge: lan, outer-dev: up-a}]}}
              |                                               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: give the service `network_mode: none`, or the link another `dev`

            error: every replica of `a` would have the outer interface `up-a`
             --> a.yaml:2:72
              |
            2 |   a: {image: i, scale: 2, x-network: {links: [{bridge: lan, outer-dev: up-a}]}}
              |                        - the service has several replicas              ^^^^
              |
              = help: add `{{index}}` to the name, or remove `outer-dev`

            warning[docker-interface]: Docker gives service `b` an interface `eth0` too
             --> a.yaml:3:72
              |
            3 |   b: {image: i, deploy: {replicas: "${COUNT:-3}"}, x-network: {links: [{bridge: lan, outer-dev: 'up-{{service}}'}]}}
              |                                                                        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: give the service `network_mode: none`, or the link another `dev`

            error: every replica of `b` would have the outer interface `up-b`
             --> a.yaml:3:97
              |
            3 |   b: {image: i, deploy: {replicas: "${COUNT:-3}"}, x-network: {links: [{bridge: lan, outer-dev: 'up-{{service}}'}]}}
              |                                    ------------- the service has several replicas               ^^^^^^^^^^^^^^^^
              |
              = help: add `{{index}}` to the name, or remove `outer-dev`

            warning[docker-interface]: Docker gives service `c` an interface `eth0` too
             --> a.yaml:4:47
              |
            4 |   c: {image: i, scale: 2, x-network: {links: [{bridge: lan, outer-dev: 'up-c{{ index }}'}]}}
              |                                               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: give the service `network_mode: none`, or the link another `dev`

            warning[docker-interface]: Docker gives service `d` an interface `eth0` too
             --> a.yaml:5:47
              |
            5 |   d: {image: i, scale: 2, x-network: {links: [{type: macvlan, outer-dev: eth0}]}}
              |                                               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: give the service `network_mode: none`, or the link another `dev`

            warning[docker-interface]: Docker gives service `e` an interface `eth0` too
             --> a.yaml:6:47
              |
            6 |   e: {image: i, scale: 1, x-network: {links: [{bridge: lan, outer-dev: up-e}]}}
              |                                               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: give the service `network_mode: none`, or the link another `dev`

            warning[docker-interface]: Docker gives service `f` an interface `eth0` too
             --> a.yaml:7:37
              |
            7 |   f: {image: i, x-network: {links: [{bridge: lan, outer-dev: up-e, ip: '10.0.{{index}}.1/24'}]}}
              |                                     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: give the service `network_mode: none`, or the link another `dev`

            error[duplicate-outer-dev]: two links have the outer interface `up-e`
             --> a.yaml:7:62
              |
            6 |   e: {image: i, scale: 1, x-network: {links: [{bridge: lan, outer-dev: up-e}]}}
              |                                                                        ---- the first
            7 |   f: {image: i, x-network: {links: [{bridge: lan, outer-dev: up-e, ip: '10.0.{{index}}.1/24'}]}}
              |                                                              ^^^^

            warning[docker-interface]: Docker gives service `g` an interface `eth0` too
             --> b.yaml:2:21
              |
            2 | x-network: {links: [{service: g, bridge: lan, outer-dev: up-g}]}
              |                     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: give the service `network_mode: none`, or the link another `dev`

            found 3 errors, 7 warnings
        "#]],
    );
}

#[test]
fn a_link_without_a_mode_sets_the_mode_of_its_parent_too() {
    let net = r#"links:
  - {service: a, type: ipvlan, outer-dev: eth0, mode: l2}
  - {service: b, type: ipvlan, outer-dev: eth0}
  - {service: c, type: ipvlan, outer-dev: eth1, mode: l3}
  - {service: d, type: ipvlan, outer-dev: eth1}
"#;
    check(
        &[("net.yaml", net)],
        &["check", "net.yaml"],
        1,
        &expect![""],
        &expect![[r#"
            error[mixed-parent]: the links on `eth0` have modes l2 and l3
             --> net.yaml:3:5
              |
            2 |   - {service: a, type: ipvlan, outer-dev: eth0, mode: l2}
              |                                                       -- the first
            3 |   - {service: b, type: ipvlan, outer-dev: eth0}
              |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: the mode belongs to the parent: give all its links the same

            found 1 error
        "#]],
    );
}

#[test]
fn macvlan_and_ipvlan_on_one_parent_are_refused() {
    let net = r#"links:
  - {service: a, type: macvlan, outer-dev: eth0}
  - {service: b, type: vlan, outer-dev: eth0, vlanid: 5}
  - {service: c, type: ipvtap, outer-dev: eth0, ip: '10.0.{{index}}.1/24'}
  - {service: d, type: ipvlan, outer-dev: eth0, base: conlink}
  - {service: e, type: macvtap, outer-dev: 'eth{{index}}', base: conlink}
  - {service: f, type: ipvlan, outer-dev: eth1, base: conlink}
"#;
    check(
        &[("net.yaml", net)],
        &["check", "net.yaml"],
        1,
        &expect![""],
        &expect![[r#"
            error[mixed-parent]: `eth0` is the parent of macvlan links and of ipvlan links
             --> net.yaml:4:24
              |
            2 |   - {service: a, type: macvlan, outer-dev: eth0}
              |                        ------- the first
            3 |   - {service: b, type: vlan, outer-dev: eth0, vlanid: 5}
            4 |   - {service: c, type: ipvtap, outer-dev: eth0, ip: '10.0.{{index}}.1/24'}
              |                        ^^^^^^
              |
              = help: the kernel allows only one of the two on a parent: use different parents

            found 1 error
        "#]],
    );
}

#[test]
fn a_patch_has_two_ends_that_are_there_at_the_same_time() {
    let compose = r#"services:
  a: {network_mode: none, x-network: {links: [{bridge: p}]}}
  b: {network_mode: none, x-network: {links: [{bridge: p}]}}
  c: {network_mode: none, profiles: [c], x-network: {links: [{bridge: p}]}}
  d: {network_mode: none, profiles: [d], x-network: {links: [{bridge: p}]}}
  e: {network_mode: none, scale: 0, x-network: {links: [{bridge: p}]}}
  f: {network_mode: none, deploy: {replicas: 0}, x-network: {links: [{bridge: p}]}}
  g: {network_mode: none, x-network: {links: [{bridge: "p{{index}}"}]}}
x-network:
  links:
    - {container: q-g-2, bridge: "p{{index}}"}
    - {container: q-g-3, bridge: "p{{index}}"}
  bridges: [{bridge: p, mode: patch}, {bridge: p1, mode: patch}]
"#;
    let ok = expect!["ok: 9 links and 2 bridges\n"];
    check(&[("a.yaml", compose)], &["check", "--compose-file", "a.yaml"], 0, &ok, &expect![""]);
    let more = "services: {c: {profiles: !reset []}, e: {scale: 1}}\n";
    let third = "x-network: {links: [{container: q, bridge: p1}, {container: r, bridge: p1}]}\n";
    check(
        &[("a.yaml", compose), ("b.yaml", more), ("c.yaml", third)],
        &["check", "--compose-file", "a.yaml:b.yaml:c.yaml"],
        1,
        &expect![""],
        &expect![[r#"
            error[patch-ends]: bridge `p` has mode patch, which joins exactly two links
             --> a.yaml:4:71
              |
            2 |   a: {network_mode: none, x-network: {links: [{bridge: p}]}}
              |                                                        - the first
            3 |   b: {network_mode: none, x-network: {links: [{bridge: p}]}}
              |                                                        - the second
            4 |   c: {network_mode: none, profiles: [c], x-network: {links: [{bridge: p}]}}
              |                                                                       ^
              |
              = help: use mode linux for more than two

            error[patch-ends]: bridge `p` has mode patch, which joins exactly two links
             --> a.yaml:6:66
              |
            2 |   a: {network_mode: none, x-network: {links: [{bridge: p}]}}
              |                                                        - the first
            3 |   b: {network_mode: none, x-network: {links: [{bridge: p}]}}
              |                                                        - the second
            ...
            6 |   e: {network_mode: none, scale: 0, x-network: {links: [{bridge: p}]}}
              |                                                                  ^
              |
              = help: use mode linux for more than two

            error[patch-ends]: bridge `p1` has mode patch, which joins exactly two links
             --> c.yaml:1:72
              |
            1 | x-network: {links: [{container: q, bridge: p1}, {container: r, bridge: p1}]}
              |                                            -- the second               ^^
              |
             ::: a.yaml:8:56
              |
            8 |   g: {network_mode: none, x-network: {links: [{bridge: "p{{index}}"}]}}
              |                                                        ------------ the first
              |
              = help: use mode linux for more than two

            found 3 errors
        "#]],
    );
}
