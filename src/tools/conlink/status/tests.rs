use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::table::{Style, Table, table};
use crate::api::Status;

/// A link in a status.
fn link(dev: &str, state: &str, more: &Value) -> Value {
    let mut link = json!({
        "dev": dev, "type": "veth", "bridge": null, "outer": null, "parent": null, "vlanid": null, "mode": null,
        "place": "engine", "mac": null, "mtu": 1500, "addresses": [], "state": state, "origin": "c.yaml:1:1",
        "errors": [],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        link[key] = value.clone();
    }
    link
}

fn node(name: &str, state: &str, links: &[Value]) -> Value {
    json!({"name": name, "service": null, "index": 1, "engine": "docker", "id": "ab", "state": state,
        "links": links, "errors": []})
}

fn error(subject: &str, message: &str, help: Option<&str>, origin: Option<&str>) -> Value {
    json!({"subject": subject, "message": message, "help": help, "origin": origin})
}

fn bridge(name: &str, mode: &str, place: &str, state: &str) -> Value {
    json!({"name": name, "mode": mode, "place": place, "state": state, "errors": []})
}

/// Two networks with a router between them and a host on a cable; everything is connected.
fn router() -> Value {
    let on = |bridge: &str, ip: &str| json!({"bridge": bridge, "mode": "linux", "addresses": [ip]});
    json!({
        "version": 1, "kind": "engine", "project": "router", "state": "connected", "listening": true,
        "engines": [{"name": "docker", "connected": true}],
        "bridges": [bridge("cable", "patch", "engine", "up"), bridge("s1", "linux", "engine", "up"),
            bridge("s2", "linux", "engine", "up")],
        "tunnels": [],
        "nodes": [
            node("router-h1-1", "connected", &[link("eth0", "up", &on("s1", "10.0.1.2/24"))]),
            node("router-h2-1", "connected", &[
                link("eth0", "up", &on("s2", "10.0.2.2/24")),
                link("eth1", "up", &json!({"bridge": "cable", "mode": "patch"})),
            ]),
            node("router-r-1", "connected", &[
                link("eth0", "up", &json!({"bridge": "s1", "mode": "linux",
                    "addresses": ["10.0.1.1/24", "fd00:0:0:1::1/64"]})),
                link("eth1", "up", &on("s2", "10.0.2.1/24")),
            ]),
            node("router-r-2", "connected", &[
                link("eth0", "up", &json!({"bridge": "cable", "mode": "patch"})),
            ]),
        ],
        "errors": [],
    })
}

fn read(status: &Value) -> Status {
    serde_json::from_value(status.clone()).unwrap()
}

fn text(status: &Value, style: Style) -> String {
    let Table { head, rest } = table(&read(status), &style);
    head + &rest
}

#[track_caller]
fn check(status: &Value, style: Style, expected: &Expect) {
    let text = text(status, style);
    assert!(text.ends_with('\n'));
    assert!(text.lines().all(|it| !it.ends_with(' ')), "spaces at an end: {text:?}");
    expected.assert_eq(&text);
}

const PLAIN: Style = Style { width: None, color: false };

#[test]
fn a_connected_network_is_a_table_of_its_links() {
    let expected = expect![[r#"
        project router: connected, 4 nodes, 6 links
        bridges: s1 (linux, 2 ports), s2 (linux, 2 ports)
        NODE         LINK  JOINED TO                 ADDRESSES                     STATE
        router-h1-1  eth0  s1                        10.0.1.2/24                   up
        router-h2-1  eth0  s2                        10.0.2.2/24                   up
        router-h2-1  eth1  router-r-2:eth0 (cable)                                 up
        router-r-1   eth0  s1                        10.0.1.1/24 fd00:0:0:1::1/64  up
        router-r-1   eth1  s2                        10.0.2.1/24                   up
        router-r-2   eth0  router-h2-1:eth1 (cable)                                up
    "#]];
    for width in [None, Some(80)] {
        check(&router(), Style { width, color: false }, &expected);
    }
}

#[test]
fn a_narrow_terminal_shows_addresses_below_each_other_and_then_everything() {
    for (width, expected) in [
        (
            70,
            expect![[r#"
        project router: connected, 4 nodes, 6 links
        bridges: s1 (linux, 2 ports), s2 (linux, 2 ports)
        NODE         LINK  JOINED TO                 ADDRESSES         STATE
        router-h1-1  eth0  s1                        10.0.1.2/24       up
        router-h2-1  eth0  s2                        10.0.2.2/24       up
        router-h2-1  eth1  router-r-2:eth0 (cable)                     up
        router-r-1   eth0  s1                        10.0.1.1/24       up
                                                     fd00:0:0:1::1/64
        router-r-1   eth1  s2                        10.0.2.1/24       up
        router-r-2   eth0  router-h2-1:eth1 (cable)                    up
    "#]],
        ),
        (
            30,
            expect![[r#"
        project router: connected, 4 nodes, 6 links
        bridges: s1 (linux, 2 ports),
                 s2 (linux, 2 ports)
        router-h1-1
          eth0  up  s1
            10.0.1.2/24
        router-h2-1
          eth0  up  s2
            10.0.2.2/24
          eth1  up  router-r-2:eth0 (cable)
        router-r-1
          eth0  up  s1
            10.0.1.1/24
            fd00:0:0:1::1/64
          eth1  up  s2
            10.0.2.1/24
        router-r-2
          eth0  up  router-h2-1:eth1 (cable)
    "#]],
        ),
    ] {
        check(&router(), Style { width: Some(width), color: false }, &expected);
    }
}

#[test]
fn an_engine_that_does_not_answer_is_named() {
    let status = json!({
        "version": 1, "kind": "engine", "project": null, "state": "working", "listening": false,
        "engines": [{"name": "docker", "connected": false}, {"name": "podman", "connected": true}],
        "bridges": [], "tunnels": [], "nodes": [], "errors": [],
    });
    check(
        &status,
        PLAIN,
        &expect![[r#"
            every project: working, 0 nodes, 0 links, no connection to docker
        "#]],
    );
}

#[test]
fn errors_are_printed_once_and_first_with_help_and_place() {
    let mut status = router();
    status["state"] = json!("failing");
    let mtu = error("bridge s1", "set bridge s1 mtu 9000: Invalid argument", None, None);
    status["bridges"][1]["state"] = json!("failed");
    status["bridges"][1]["errors"] = json!([mtu]);
    status["bridges"][0]["state"] = json!("pending");
    status["tunnels"] = json!([
        {"name": "vxlan-7", "type": "vxlan", "bridge": "s2", "remote": "192.0.2.2", "vni": 7, "state": "failed",
            "origin": "c.yaml:9:5", "errors": [error("tunnel vxlan-7", "add: No", Some("load the module vxlan"), None)]},
        {"name": "geneve-8", "type": "geneve", "bridge": "s2", "remote": "2001:db8::2", "vni": 8, "state": "up",
            "origin": "c.yaml:10:5", "errors": []},
    ]);
    status["nodes"] = json!([
        node(
            "router-a-1",
            "failing",
            &[
                link(
                    "eth0",
                    "failed",
                    &json!({"bridge": "s1", "mode": "linux", "addresses": ["10.0.0.1/24"],
                "errors": [error("link router-a-1:eth0", "add veth eth0: File exists",
                    Some("another program made it"), Some("c.yaml:4:7"))]})
                ),
                link("eth1", "up", &json!({"bridge": "s2", "mode": "ovs"})),
            ]
        ),
        node("router-b-1", "failing", &[link("eth0", "up", &json!({"bridge": "s1", "mode": "linux"}))]),
        node(
            "router-c-1",
            "unreachable",
            &[link("eth0", "pending", &json!({"bridge": "s1", "mode": "linux"}))]
        ),
        node(
            "router-d-1",
            "working",
            &[link("eth0", "pending", &json!({"bridge": "cable", "mode": "patch"}))]
        ),
        node("router-e-1", "connected", &[]),
        node(
            "router-f-300",
            "failing",
            &[link(
                "eth0",
                "failed",
                &json!({"type": null, "mtu": null,
            "errors": [error("link router-f-300:eth0", "replica 300 cannot have it", None, Some("c.yaml:5:7"))]})
            )]
        ),
    ]);
    status["nodes"][1]["errors"] = json!([mtu]);
    status["nodes"][2]["errors"] =
        json!([error("container router-c-1", "open the network namespace: Permission denied", None, None)]);
    status["errors"] = json!([error("the network", "observe: No buffer space available", None, None)]);
    check(
        &status,
        PLAIN,
        &expect![[r#"
            project router: failing, 6 nodes, 6 links, 2 failed, 2 pending
            error: the network: observe: No buffer space available
            error: bridge s1: set bridge s1 mtu 9000: Invalid argument
            error: tunnel vxlan-7: add: No
            hint: load the module vxlan
            error: link router-a-1:eth0: add veth eth0: File exists (c.yaml:4:7)
            hint: another program made it
            error: container router-c-1: open the network namespace: Permission denied
            error: link router-f-300:eth0: replica 300 cannot have it (c.yaml:5:7)

            bridges: cable (patch, pending), s1 (linux, failed), s2 (linux, 2 ports)
            tunnels: vxlan-7 from s2 to 192.0.2.2 (failed), geneve-8 from s2 to 2001:db8::2
            NODE          LINK  JOINED TO  ADDRESSES    STATE
            router-a-1    eth0  s1         10.0.0.1/24  failed
            router-a-1    eth1  s2                      up
            router-b-1    -     -                       failing
            router-b-1    eth0  s1                      up
            router-c-1    -     -                       unreachable
            router-c-1    eth0  s1                      pending
            router-d-1    eth0  cable                   pending
            router-e-1    -     -                       connected
            router-f-300  eth0  -                       failed
        "#]],
    );
}

#[test]
fn the_table_shows_what_each_link_is_joined_to() {
    let mut status = router();
    let made = |kind: &str, more: Value| {
        let mut more = more;
        more["type"] = json!(kind);
        link("e0", "up", &more)
    };
    status["bridges"] = json!([bridge("br0", "linux", "host", "up"), bridge("sw", "ovs", "engine", "up")]);
    status["nodes"] = json!([node(
        "a",
        "connected",
        &[
            made("veth", json!({"bridge": "br0", "mode": "linux", "place": "host"})),
            made("veth", json!({"bridge": "sw", "mode": "ovs"})),
            made("veth", json!({"bridge": "cable", "mode": "patch"})),
            made("dummy", json!({"place": null})),
            made("vlan", json!({"parent": "eth0", "vlanid": 5, "place": "host"})),
            made("macvlan", json!({"parent": "eth0", "place": "host"})),
            made("macvlan", json!({"parent": "eth0", "mode": "bridge"})),
            made("ipvtap", json!({"parent": "eth0", "mode": "l3s", "place": "host"})),
        ]
    ),]);
    status["tunnels"] = json!([{"name": "vxlan-7", "type": "vxlan", "bridge": "p", "remote": "192.0.2.2", "vni": 7, "state": "up",
            "origin": "c.yaml:9:1", "errors": []}]);
    // The other end of a cable is a tunnel; a third end belongs to none.
    status["nodes"][0]["links"][1]["bridge"] = json!("p");
    status["nodes"][0]["links"][1]["mode"] = json!("patch");
    check(
        &status,
        PLAIN,
        &expect![[r#"
        project router: connected, 1 node, 8 links
        bridges: br0 (linux, on the host, 1 port), sw (ovs, 0 ports)
        tunnels: vxlan-7 from p to 192.0.2.2
        NODE  LINK  JOINED TO             ADDRESSES  STATE
        a     e0    host:br0                         up
        a     e0    vxlan-7 (p)                      up
        a     e0    cable (one end)                  up
        a     e0    -                                up
        a     e0    host:eth0 vlan 5                 up
        a     e0    host:eth0 macvlan                up
        a     e0    eth0 macvlan bridge              up
        a     e0    host:eth0 ipvtap l3s             up
    "#]],
    );
}

#[test]
fn a_lab_tells_what_its_nodes_run() {
    let mut status = router();
    status["kind"] = json!("lab");
    status["project"] = json!("demo");
    let process = |name: &str, state: &str, code: Option<i32>, restarts: u32, notes: &[&str]| {
        json!({"name": name, "state": state, "pid": null, "exit_code": code, "restarts": restarts, "health": null,
            "command": ["x"], "notes": notes, "log": "/log"})
    };
    status["nodes"][0]["process"] = process("h1", "running", None, 0, &[]);
    status["nodes"][1]["process"] = process("h2", "exited", Some(1), 0, &[]);
    status["nodes"][2]["process"] =
        process("r-1", "restarting", Some(137), 3, &["no program `frob` is here: it idles"]);
    status["nodes"][3]["process"] = process("r-2", "waiting", None, 0, &[]);
    status["nodes"][3]["state"] = json!("stopped");
    status["nodes"][3]["links"] = json!([]);
    check(
        &status,
        PLAIN,
        &expect![[r#"
            lab demo: connected, 4 nodes, 5 links
            bridges: s1 (linux, 2 ports), s2 (linux, 2 ports)
            NODE  PROCESS         LINK  JOINED TO        ADDRESSES                     STATE
            h1    running         eth0  s1               10.0.1.2/24                   up
            h2    exited 1        eth0  s2               10.0.2.2/24                   up
            h2    exited 1        eth1  cable (one end)                                up
            r-1   restarting (3)  eth0  s1               10.0.1.1/24 fd00:0:0:1::1/64  up
            r-1   restarting (3)  eth1  s2               10.0.2.1/24                   up
            r-2   waiting         -     -                                              stopped

            note: r-1: no program `frob` is here: it idles
        "#]],
    );
    check(
        &status,
        Style { width: Some(40), color: false },
        &expect![[r#"
            lab demo: connected, 4 nodes, 5 links
            bridges: s1 (linux, 2 ports),
                     s2 (linux, 2 ports)
            h1  running
              eth0  up  s1
                10.0.1.2/24
            h2  exited 1
              eth0  up  s2
                10.0.2.2/24
              eth1  up  cable (one end)
            r-1  restarting (3)
              eth0  up  s1
                10.0.1.1/24
                fd00:0:0:1::1/64
              eth1  up  s2
                10.0.2.1/24
            r-2  waiting
              -  stopped  -

            note: r-1: no program `frob` is here: it idles
        "#]],
    );
}

#[test]
fn errors_beyond_twenty_are_counted() {
    let mut status = router();
    let errors = |count: usize| -> Value {
        (1..=count).map(|it| error(&format!("leftover x{it}"), "del: Busy", Some("wait"), None)).collect()
    };
    let printed = |status: &Value| {
        let status: Status = serde_json::from_value(status.clone()).unwrap();
        table(&status, &PLAIN).head
    };
    status["errors"] = errors(20);
    assert!(printed(&status).ends_with("\nerror: leftover x20: del: Busy\nhint: wait\n"));
    status["errors"] = errors(21);
    assert!(printed(&status).ends_with(
        "\nerror: leftover x20: del: Busy\nhint: wait\nand 1 more error: --json prints all of them\n"
    ));
    status["errors"] = errors(1000);
    assert!(printed(&status).ends_with("\nand 980 more errors: --json prints all of them\n"));
    assert_eq!(printed(&status).lines().filter(|it| it.starts_with("error:")).count(), 20);
}

#[test]
fn wide_characters_take_two_columns_and_control_characters_are_escaped() {
    let mut status = router();
    status["project"] = json!("網路\u{1b}[2J");
    status["nodes"] = json!([
        node("交換機-1", "connected", &[link("é", "up", &json!({"bridge": "ネット", "mode": "linux"}))]),
        node(
            "b-1",
            "failing",
            &[link(
                "e\u{1b}]0;x\u{7}",
                "failed",
                &json!({"bridge": "s1", "mode": "linux",
            "errors": [error("link b-1", "no\nmore\r", Some("a\thint"), Some("\u{9b}.yaml:1:1"))]})
            )]
        ),
    ]);
    check(
        &status,
        PLAIN,
        &expect![[r#"
            project 網路\u{1b}[2J: connected, 2 nodes, 2 links, 1 failed
            error: link b-1: no\u{a}more\u{d} (\u{9b}.yaml:1:1)
            hint: a\u{9}hint

            bridges: s1 (linux, 0 ports), s2 (linux, 0 ports)
            NODE      LINK              JOINED TO  ADDRESSES  STATE
            交換機-1  é                 ネット                up
            b-1       e\u{1b}]0;x\u{7}  s1                    failed
        "#]],
    );
    check(
        &status,
        Style { width: Some(20), color: false },
        &expect![[r#"
            project 網路\u{1b}[2J: connected, 2 nodes, 2 links, 1 failed
            error: link b-1: no\u{a}more\u{d} (\u{9b}.yaml:1:1)
            hint: a\u{9}hint

            bridges: s1 (linux, 0 ports),
                     s2 (linux, 0 ports)
            交換機-1
              é  up  ネット
            b-1
              e\u{1b}]0;x\u{7}  failed  s1
        "#]],
    );
}

#[test]
fn colours_of_states_do_not_change_the_layout() {
    let mut status = router();
    status["nodes"][0]["links"][0]["state"] = json!("failed");
    status["nodes"][1]["links"][1]["state"] = json!("pending");
    let plain = text(&status, Style { width: Some(70), color: false });
    let painted = text(&status, Style { width: Some(70), color: true });
    assert!(painted.contains("  \x1b[31mfailed\x1b[0m\n") && painted.contains("  \x1b[33mpending\x1b[0m\n"));
    assert!(painted.starts_with("project router: \x1b[32mconnected\x1b[0m, 4 nodes"));
    let stripped =
        ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"].iter().fold(painted, |it, code| it.replace(code, ""));
    assert_eq!(stripped, plain);
}

#[test]
fn a_status_matches_its_schema_and_a_wrong_one_does_not() {
    let schema = schemars::schema_for!(Status).to_value();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let status = serde_json::to_value(read(&router())).unwrap();
    assert!(validator.is_valid(&status), "{:?}", validator.validate(&status));
    for (path, wrong) in [
        ("/state", json!("fine")),
        ("/nodes/0/links/0/state", json!("connected")),
        ("/nodes/0/links/0/mtu", json!("1500")),
        ("/bridges/0/mode", json!("auto")),
        ("/listening", json!(null)),
    ] {
        let mut status = status.clone();
        *status.pointer_mut(path).unwrap() = wrong;
        assert!(!validator.is_valid(&status), "{path}");
    }
}

#[test]
fn a_screen_is_overwritten_from_its_top() {
    let part = |head: &str, rest: &str| Table { head: head.to_owned(), rest: rest.to_owned() };
    let parts = [part("a\n", "b\n"), Table::default(), part("c\n", "")];
    let on = |rows: usize| super::redrawn(&parts, Some((80, rows)));
    assert_eq!(super::redrawn(&parts, None), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[K\nc\x1b[K\n\x1b[J");
    assert_eq!(on(5), super::redrawn(&parts, None));
    assert_eq!(on(4), "\x1b[Ha\x1b[K\n\x1b[K\nc\x1b[K\n\x1b[J", "errors of all before details of one");
    assert_eq!(on(1), "\x1b[H… and 3 more lines\x1b[K\n\x1b[J");
}

#[test]
fn what_is_wrong_is_on_the_first_screen_of_24_rows() {
    let mut status = router();
    let errors: Vec<Value> =
        (1..=9).map(|it| error(&format!("node n-{it}"), "exited with code 127", None, None)).collect();
    status["errors"] = json!(errors);
    status["nodes"] = (0..200)
        .map(|it| {
            node(
                &format!("n-{it}"),
                "connected",
                &[link("eth0", "up", &json!({"bridge": "s1", "mode": "linux"}))],
            )
        })
        .collect();
    let table = table(&read(&status), &Style { width: Some(80), color: true });
    let screen = super::redrawn(&[table], Some((80, 24)));
    let lines: Vec<&str> = screen.lines().collect();
    assert!(lines[1].contains("node n-1: exited with code 127") && lines[9].contains("node n-9"), "{screen}");
    assert_eq!(lines[22], "… and 191 more lines\x1b[K");
    assert_eq!(lines.len(), 24, "and the end of what is cleared: {screen}");
}

#[test]
fn long_lines_count_as_the_rows_that_they_take() {
    assert_eq!(super::rows_of("", 10), 1);
    assert_eq!(super::rows_of("0123456789", 10), 1);
    assert_eq!(super::rows_of("0123456789a", 10), 2);
    assert_eq!(super::rows_of("\x1b[31m0123456789\x1b[0m", 10), 1, "colours take no room");
    let lines = |texts: &[&str]| texts.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let long = "0123456789a";
    assert_eq!(super::cut(lines(&[long, "b", "c"]), 10, 4), lines(&[long, "b", "c"]));
    assert_eq!(super::cut(lines(&[long, "b", "c"]), 10, 3), lines(&[long, "… and 2 more lines"]));
    assert_eq!(super::cut(lines(&[long, "b", "c"]), 10, 2), lines(&["… and 3 more lines"]));
}

#[test]
fn a_drifted_link_is_still_a_port_of_its_bridge() {
    let mut status = router();
    status["nodes"][0]["links"][0]["state"] = json!("drifted");
    let text = text(&status, PLAIN);
    assert!(text.contains("s1 (linux, 2 ports), s2 (linux, 2 ports)"), "{text}");
}
