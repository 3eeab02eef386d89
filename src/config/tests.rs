use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

/// Texts of files, `compose` or `network` by their names; the merged links and the rest, then what is wrong.
#[expect(clippy::needless_pass_by_value, reason = "expect! makes a value")]
fn check(files: &[(&str, &str)], expected: Expect) {
    let (sources, config, diagnostics) = loaded(files);
    let mut lines: Vec<String> = config.links.iter().map(|it| it.node.to_json().to_string()).collect();
    let names = config.bridges.iter().map(|it| {
        let mode = it.mode.as_ref().map_or_else(String::new, |it| format!(" {}", it.value));
        format!("bridge {}{mode}", it.bridge.as_ref().map_or("", |it| &it.value))
    });
    lines.extend(names);
    lines.extend(config.commands.iter().map(|it| format!("command {}", it.node.to_json())));
    lines.extend(diagnostics.iter().map(|it| {
        let place = it.span.map(|it| sources.place(it)).unwrap_or_default();
        format!("{place}: {}", it.message)
    }));
    expected.assert_eq(&lines.iter().map(|it| format!("{it}\n")).collect::<String>());
}

fn loaded(files: &[(&str, &str)]) -> (Sources, Config, Vec<Diagnostic>) {
    let mut sources = Sources::default();
    let mut inputs = Vec::new();
    for (name, text) in files {
        let file = sources.add(*name, *text);
        inputs.push(if name.starts_with("compose") { Input::Compose(file) } else { Input::Network(file) });
    }
    let env = Env::from([("A".to_owned(), "a".to_owned()), ("N".to_owned(), "1400".to_owned())]);
    let (config, diagnostics) = load(&sources, &inputs, &env);
    (sources, config, diagnostics)
}

#[test]
fn compose_files_come_first_then_network_files_in_order() {
    check(
        &[
            ("network", "links: [{service: n, bridge: x}]\ncommands: [{container: c, command: $A}]"),
            (
                "compose-1",
                "services:\n  a: {x-network: {links: [{bridge: x}, {service: z, bridge: y}]}}\n  b: {}\nx-network: {links: [{service: t, bridge: t}]}",
            ),
            (
                "compose-2",
                "services:\n  $b:\n    x-network:\n      commands: [{command: id}, {container: d, command: [ls, -l]}]\n      links: [{container: c, bridge: z}, {bridge: $$A}]",
            ),
        ],
        expect![[r#"
            {"service":"t","bridge":"t"}
            {"bridge":"x","service":"a"}
            {"service":"z","bridge":"y"}
            {"container":"c","bridge":"z"}
            {"bridge":"$A","service":"$b"}
            {"service":"n","bridge":"x"}
            command {"command":"id","service":"$b"}
            command {"container":"d","command":["ls","-l"]}
            command {"container":"c","command":"a"}
        "#]],
    );
}

#[test]
fn entries_of_one_interface_merge_into_the_first() {
    check(
        &[(
            "network",
            "links:\n- {service: a, bridge: x, ip: 10.0.0.1/24, route: default via 10.0.0.2, netem: [delay 1ms]}\n- {container: a, bridge: y}\n- {service: a, dev: eth1, bridge: z}\n- {service: a, dev: eth0, bridge: w, ip: 10.0.0.3/24, route: [10.1.0.0/16 via 10.0.0.2], netem: loss 1%, mtu: \"${N}\"}",
        )],
        expect![[r#"
            {"service":"a","bridge":"w","ip":"10.0.0.3/24","route":["default via 10.0.0.2","10.1.0.0/16 via 10.0.0.2"],"netem":["delay 1ms","loss 1%"],"dev":"eth0","mtu":"1400"}
            {"container":"a","bridge":"y"}
            {"service":"a","dev":"eth1","bridge":"z"}
            network:5:3: two links of service `a` have `dev: eth0`: both are merged into one link
        "#]],
    );
}

#[test]
fn override_replaces_and_reset_removes_what_the_same_place_said() {
    let first = "x-network: {links: [{service: t, bridge: t}], bridges: [{bridge: t}], x-k: {a: 1}}\nservices:\n  a: {x-network: {links: [{bridge: a}], bridges: [{bridge: a}]}}\n  b: {x-network: {links: [{bridge: b}]}}\n";
    let with = |second| [("compose-1", first), ("compose-2", second)];
    check(
        &with("x-network: {links: !override [{service: u, bridge: u}], bridges: !reset []}"),
        expect![[r#"
            {"bridge":"a","service":"a"}
            {"bridge":"b","service":"b"}
            {"service":"u","bridge":"u"}
            bridge a
        "#]],
    );
    check(
        &with("services: {a: {x-network: {links: !reset null}}, b: !reset null}"),
        expect![[r#"
        {"service":"t","bridge":"t"}
        bridge t
        bridge a
    "#]],
    );
    check(
        &with("services: {a: {x-network: !override {links: [{bridge: v}]}}}"),
        expect![[r#"
        {"service":"t","bridge":"t"}
        {"bridge":"b","service":"b"}
        {"bridge":"v","service":"a"}
        bridge t
    "#]],
    );
    check(&with("x-network: !reset {}\nservices: !override {}"), expect![[""]]);
    check(
        &[("compose", first), ("network", "links: !override [{service: n, bridge: n}]")],
        expect![[r#"
        {"service":"n","bridge":"n"}
        bridge t
        bridge a
    "#]],
    );
}

#[test]
fn tags_work_within_a_link_too() {
    check(
        &[(
            "network",
            "links:\n- {service: a, bridge: x, ip: [10.0.0.1/24], mtu: 100, route: !reset [default via 10.0.0.9]}\n- {service: a, ip: !override 10.0.0.2/24, mtu: !reset null}\n- !reset {service: b, bridge: y}\nbridges: [{bridge: x, mode: !override linux}]",
        )],
        expect![[r#"
            {"service":"a","bridge":"x","ip":"10.0.0.2/24"}
            bridge x linux
            network:3:3: two links of service `a` have no `dev`: both are merged into `eth0`
        "#]],
    );
}

#[test]
fn empty_files_and_parts_say_nothing() {
    for text in ["", "# nothing\n", "---\n", "~", "{}", "links:\nbridges:\n", "services:\n  a:\nx-network:\n"]
    {
        let name = if text.contains("services") { "compose" } else { "network" };
        let (_, config, diagnostics) = loaded(&[(name, text)]);
        assert!(config.links.is_empty() && diagnostics.is_empty(), "{text:?} {diagnostics:?}");
    }
}

#[test]
fn only_our_parts_of_compose_files_are_looked_at() {
    check(
        &[(
            "compose",
            "services:\n  a:\n    image: ${NO:?x}\n    build: !any ${\n    links: [b]\n  b: 5\nnetworks: {links: \"${\"}",
        )],
        expect![[""]],
    );
}

#[test]
fn values_are_typed_after_interpolation() {
    let text = "links: [{service: 007, bridge: 1e3, mtu: '$N', vlanid: 0o17, forward: 1080:80/udp, nat: 'fd00::1', mac: 2:0:0:0:0:1}]";
    let (_, config, diagnostics) = loaded(&[("network", text)]);
    assert_eq!(diagnostics, []);
    let link = &config.links[0];
    assert_eq!(link.service.as_ref().unwrap().value, "007");
    assert_eq!(link.bridge.as_ref().unwrap().value, "1e3");
    assert_eq!(link.mtu.as_ref().unwrap().value, 1400);
    assert_eq!(link.vlanid.as_ref().unwrap().value, 15);
    assert_eq!(link.forward[0].value.to_string(), "1080:80/udp");
    assert_eq!(link.nat.as_ref().unwrap().value.to_string(), "fd00::1");
    assert_eq!(link.mac.as_ref().unwrap().value.to_string(), "02:00:00:00:00:01");
    assert!(link.kind.is_none() && link.ip.is_empty() && link.base.is_none() && !link.templated);
}

#[test]
fn placeholders_are_read_anew_for_each_replica() {
    let text = "links: [{service: web, dev: 'e{{ index }}', ip: '10.0.{{index}}.1/24', bridge: '{{project}}-{{service}}', x-a: '{{z}}'}]";
    let (sources, config, diagnostics) = loaded(&[("network", text)]);
    assert_eq!(diagnostics, []);
    let link = &config.links[0];
    assert!(link.templated);
    assert_eq!(link.bridge.as_ref().unwrap().value, "project-web");
    let vars = |index: &str| {
        let vars = [("index", index), ("service", "web"), ("project", "p"), ("container", "p-web-3")];
        Vars::from(vars.map(|(name, value)| (name, value.to_owned())))
    };
    let (third, found) = LinkConfig::read(&link.node, &sources, &vars("3"));
    assert_eq!(found, []);
    assert_eq!(third.dev.unwrap().value.to_string(), "e3");
    assert_eq!(third.ip[0].value.to_string(), "10.0.3.1/24");
    assert_eq!(third.bridge.unwrap().value, "p-web");
    let (_, found) = LinkConfig::read(&link.node, &sources, &vars("300"));
    assert_eq!(found[0].message, "`10.0.300.1` is not an IP address");
    assert_eq!(found[0].label.as_deref(), Some("this is `10.0.300.1/24` here"));
}

#[test]
fn many_links_are_quick() {
    let entry = |it: usize| format!("- {{service: s{it}, bridge: b, ip: 10.0.0.1/8}}\n");
    let text: String = (0..3000).map(entry).collect();
    let text = format!("links:\n{text}");
    let (_, config, diagnostics) = loaded(&[("network", &text)]);
    assert_eq!((config.links.len(), diagnostics.len()), (3000, 0));
}

/// A network file with a few pieces replaced: near enough to a good one to reach what reads values.
fn mutated() -> impl Strategy<Value = String> {
    let good = "links:\n  - service: h1\n    type: veth\n    bridge: s1\n    ip: [10.0.0.1/24, '${A}']\n    mtu: 1500\n    route: default via 10.0.0.2\n    netem: [delay 1ms, loss 1%]\n    ethtool: --offload rx off\n    forward: 80:80/tcp\n    dev: 'e{{index}}'\nbridges:\n  - {bridge: s1, mode: linux, group-fwd-mask: 0x4000}\ntunnels: [{type: vxlan, bridge: s1, remote: 10.0.0.1, vni: 1}]\ncommands: [{service: h1, command: [a, b]}]\n";
    let piece = prop::sample::select(vec![
        "",
        "é",
        "[",
        "]",
        "{",
        "}",
        ":",
        "- ",
        "!reset ",
        "!override ",
        "${A:-",
        "}",
        "${",
        "{{x}}",
        "null",
        "-1",
        "1.5",
        "'",
        "\"",
        "\n",
        "&a ",
        "*a",
        "<<: *a\n",
        "yes",
        "999999999999",
        "\t",
        "%",
        "ms",
        " via ",
        "/",
        "0",
        "\r\n",
    ]);
    prop::collection::vec((0..good.len(), 0..6usize, piece), 1..6).prop_map(move |cuts| {
        let mut text = good.to_owned();
        for (start, len, piece) in cuts {
            let start = (0..=start.min(text.len())).rev().find(|it| text.is_char_boundary(*it)).unwrap_or(0);
            let end = (start..=(start + len).min(text.len())).rev().find(|it| text.is_char_boundary(*it));
            text.replace_range(start..end.unwrap_or(start), piece);
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn mutations_are_read_or_refused_with_places_in_the_file(text in mutated()) {
        let compose = format!("x-network: &n\n  {}\nservices: {{a: {{x-network: *n}}}}\n", text.replace('\n', "\n  "));
        let (sources, _, diagnostics) = loaded(&[("network", &text), ("compose", &compose)]);
        for it in diagnostics {
            let span = it.span.unwrap();
            prop_assert!(span.start <= span.end && sources.text(span.file).get(span.start..span.end).is_some());
            it.render(&sources, false);
        }
    }
}
