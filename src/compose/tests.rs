use expect_test::{Expect, expect};

use super::*;
use crate::config::Env;

fn sources(files: &[&str]) -> Sources {
    let mut sources = Sources::default();
    for (index, text) in files.iter().enumerate() {
        sources.add(format!("{}.yaml", (b'a' + index as u8) as char), *text);
    }
    sources
}

fn said(diagnostics: &[Diagnostic], sources: &Sources) -> String {
    let said = diagnostics.iter().map(|it| {
        let place = it.span.map(|it| sources.place(it)).unwrap_or_default();
        format!("{place}: {}\n", it.message)
    });
    said.collect()
}

fn check(files: &[&str], expected: &Expect) {
    let sources = sources(files);
    let (merged, diagnostics) = merge(&sources, &sources.ids().collect::<Vec<_>>());
    expected.assert_eq(&(merged.to_yaml() + &said(&diagnostics, &sources)));
}

fn explained(files: &[&str], path: &str) -> Vec<String> {
    let sources = sources(files);
    let (merged, _) = merge(&sources, &sources.ids().collect::<Vec<_>>());
    let settings = merged.explain(path).into_iter();
    settings.map(|Setting { place, value, effect, .. }| format!("{place} {value} ({effect})")).collect()
}

#[test]
fn keys_keep_their_order_and_values_their_spelling() {
    check(
        &[
            "# kept out\nservices:\n  r0: &r\n    image: x:1\n    environment: {B: 1.10, A: yes}\n    ports: ['80:80', \"${P:-1}:1\"]\n  r1: *r\nx-a: 0440\n",
            "name: p\nservices:\n  r1:\n    environment: [A=2, 'C=$$x']\n    command: |\n      one\n      two\n  r0: {build: ./b}\n",
        ],
        &expect![[r#"
            services:
              r0:
                image: x:1
                environment:
                  B: 1.10
                  A: 'yes'
                ports:
                  - target: 80
                    published: '80'
                  - ${P:-1}:1
                build:
                  context: ./b
              r1:
                image: x:1
                environment:
                  B: 1.10
                  A: '2'
                  C: $$x
                ports:
                  - target: 80
                    published: '80'
                  - ${P:-1}:1
                command: |
                  one
                  two
            x-a: 0440
            name: p
        "#]],
    );
    check(
        &[],
        &expect![[r#"
        {}
    "#]],
    );
    check(
        &["", "# none\n"],
        &expect![[r#"
        {}
    "#]],
    );
}

#[test]
fn keys_with_variables_stay_in_a_list() {
    check(
        &[
            "services: {a: {environment: ['$K=1', B=1], labels: ['$$l=1']}}",
            "services: {a: {environment: {$m: 2}}}",
        ],
        &expect![[r#"
            services:
              a:
                environment:
                  - $K=1
                  - B=1
                  - $$m=2
                labels:
                  $l: '1'
        "#]],
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    check(
        &[
            "services: {a: {ports: ['1:2:3:4', '9:x'], environment: 5, volumes: [{source: x}], x-a: [1]}, b: 5, c: {1: 2}}\ninclude: [x]",
            "services: {a: {x-a: {b: 1}, depends_on: {c: }}}",
        ],
        &expect![[r#"
            services:
              a:
                ports: []
                environment: 5
                volumes:
                  - source: x
                x-a:
                  - 1
                depends_on: {}
              b: 5
              c:
                '1': 2
            include:
              - x
            a.yaml:1:24: invalid IP address `1:2`
            a.yaml:1:35: expected a port from 0 to 65535, found `x`
            a.yaml:1:56: expected a mapping, or a list of `KEY=VALUE`, found a number
            a.yaml:1:69: `target` is missing
            a.yaml:1:97: service `b` is a mapping, not a number
            a.yaml:1:104: expected a string as key, found `1`
            a.yaml:2:1: `include` stays as it is written: the files that it names are not merged
            b.yaml:1:21: `x-a` is a mapping here and a list elsewhere
            b.yaml:1:43: expected a mapping, found nothing
        "#]],
    );
    check(
        &["a: [", "services: {a: {image: x}}"],
        &expect![[r#"
        services:
          a:
            image: x
        a.yaml:1:5: this is not YAML: parsing a node, did not find expected node content
    "#]],
    );
}

#[test]
fn tags_stay_where_a_service_extends_another() {
    let sources = sources(&[
        "services:\n  a:\n    extends: b\n    environment: !reset null\n    ports: !override ['80:80']\n    labels: {L: !reset , M: y}\n    user: !reset ''\n  c: {labels: !override {L: x}}",
        "services: {a: {environment: [B=1], labels: {M: !override z}}}",
    ]);
    let (merged, _) = merge(&sources, &sources.ids().collect::<Vec<_>>());
    expect![[r#"
        services:
          a:
            extends:
              service: b
            ports: !override
              - target: 80
                published: '80'
            labels:
              M: !override z
              L: !reset null
            environment: !override
              B: '1'
            user: !reset null
          c:
            labels:
              L: x
    "#]]
    .assert_eq(&merged.to_yaml());
    assert!(merged.has_tags());
    let json = merged.to_json();
    assert_eq!(json["services"]["a"]["labels"], serde_json::json!({"M": "z"}));
    assert!(json["services"]["a"].get("user").is_none());
}

#[test]
fn ranges_of_ports_have_a_limit() {
    let sources = sources(&["services: {a: {ports: ['1-65535:1-65535', '1-65535:1-65535/udp']}}"]);
    let (_, diagnostics) = merge(&sources, &sources.ids().collect::<Vec<_>>());
    let expected = "a.yaml:1:43: the ports of this document are more than 100000\n";
    assert_eq!(said(&diagnostics, &sources), expected);
}

#[test]
fn variables_are_replaced_where_asked_for() {
    let sources = sources(&[
        "services: {a: {ports: ['$P:80'], environment: ['$K=1', 'A=$$x'], volumes: ['${D:-./d}:/d'], user: !override $U, labels: {$l: $P}}}",
        "services: {a: {environment: [k=2], ports: ['8080:80']}}",
        "services: {a: {image: '${NONE:?give one}'}}",
    ]);
    let env: Env =
        [("P", "8080"), ("K", "k"), ("U", "$me")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let (merged, diagnostics) = merge_interpolated(&sources, &sources.ids().collect::<Vec<_>>(), &env);
    expect![[r#"
        services:
          a:
            ports:
              - target: 80
                published: '8080'
            environment:
              k: '2'
              A: $$x
            volumes:
              - type: bind
                source: ./d
                target: /d
                bind:
                  create_host_path: true
            user: $$me
            labels:
              $l: '8080'
            image: $${NONE:?give one}
        c.yaml:1:24: variable `NONE` is not set: give one
    "#]]
    .assert_eq(&(merged.to_yaml() + &said(&diagnostics, &sources)));
}

#[test]
fn a_scalar_is_explained_with_every_file_that_sets_it() {
    let files = [
        "services:\n  r0: {image: one, user: root}\n  r1: {image: other}\n",
        "services:\n  r0: {image: two}\n",
        "services:\n  r0: {image: null, user: !override $U}\n",
        "services:\n  r0:\n    image: 'three'\n",
    ];
    assert_eq!(
        explained(&files, "services.r0.image"),
        ["a.yaml:2:15 one (overridden)", "b.yaml:2:15 two (overridden)", "d.yaml:3:12 three (kept)"]
    );
    assert_eq!(
        explained(&files, "services.r0.user"),
        ["a.yaml:2:26 root (overridden)", "c.yaml:2:37 !override (removes)", "c.yaml:2:37 $U (kept)"]
    );
    assert_eq!(explained(&files, "services.r0.none"), [""; 0]);
    assert_eq!(explained(&files, "nowhere"), [""; 0]);
    assert_eq!(explained(&files, "services.r0.image.x"), [""; 0]);
}

#[test]
fn maps_and_lists_are_explained_with_what_each_file_adds() {
    let files = [
        "services: {a: {environment: {A: 1, B: 1}, cap_add: [X], labels: {com.ex.a: 1}, command: [a, b]}}",
        "services: {a: {environment: [A=2, C=2], cap_add: [Y, X], labels: [com.ex.a=2], command: }}",
        "services: {a: {environment: [A=3], command: [c]}}",
    ];
    assert_eq!(
        explained(&files, "services.a.environment"),
        [
            r#"a.yaml:1:29 {"A":1,"B":1} (kept in part)"#,
            r#"b.yaml:1:29 {"A":"2","C":"2"} (kept in part)"#,
            r#"c.yaml:1:29 {"A":"3"} (kept)"#
        ]
    );
    assert_eq!(
        explained(&files, "services.a.environment.A"),
        ["a.yaml:1:33 1 (overridden)", "b.yaml:1:30 2 (overridden)", "c.yaml:1:30 3 (kept)"]
    );
    assert_eq!(
        explained(&files, "services.a.labels.com.ex.a"),
        ["a.yaml:1:76 1 (overridden)", "b.yaml:1:67 2 (kept)"]
    );
    assert_eq!(
        explained(&files, "services.a.cap_add"),
        [r#"a.yaml:1:52 ["X"] (overridden)"#, r#"b.yaml:1:50 ["Y","X"] (kept)"#]
    );
    assert_eq!(
        explained(&files, "services.a.cap_add[0]"),
        ["a.yaml:1:53 X (overridden)", "b.yaml:1:54 X (kept)"]
    );
    assert_eq!(
        explained(&files, "services.a.command"),
        [r#"a.yaml:1:89 ["a","b"] (overridden)"#, r#"c.yaml:1:45 ["c"] (kept)"#]
    );
}

#[test]
fn entries_of_lists_are_explained_by_index_and_by_key() {
    let files = [
        "services: {a: {volumes: ['./x:/data', 'v:/w'], ports: ['8080:80', '81-82:81-82'], x-l: [1, {a: 1}]}}",
        "services: {a: {volumes: [{type: bind, source: ./y, target: /data}], ports: ['82:82'], x-l: [{a: 2}]}}",
    ];
    for path in ["services.a.volumes./data", "services.a.volumes.0", "services.a.volumes[0]"] {
        assert_eq!(
            explained(&files, path),
            [
                r#"a.yaml:1:26 {"type":"bind","source":"./x","target":"/data","bind":{"create_host_path":true}} (overridden)"#,
                r#"b.yaml:1:26 {"type":"bind","source":"./y","target":"/data"} (kept)"#
            ],
            "{path}"
        );
    }
    assert_eq!(
        explained(&files, "services.a.volumes./data.source"),
        ["a.yaml:1:26 ./x (overridden)", "b.yaml:1:47 ./y (kept)"]
    );
    assert_eq!(
        explained(&files, "services.a.ports[2]"),
        [
            r#"a.yaml:1:67 {"target":82,"published":"82"} (overridden)"#,
            r#"b.yaml:1:77 {"target":82,"published":"82"} (kept)"#
        ]
    );
    assert_eq!(explained(&files, "services.a.x-l[2].a"), ["b.yaml:1:97 2 (kept)"]);
}

#[test]
fn what_is_removed_is_explained_too() {
    let files = [
        "services: {a: {ports: ['1:1'], user: u}, b: {image: x}}",
        "services: {a: {ports: !reset []}, b: !reset {}}",
        "services: {a: {ports: ['2:2']}, b: {user: w}}",
    ];
    assert_eq!(
        explained(&files, "services.a.ports"),
        [
            r#"a.yaml:1:23 [{"target":1,"published":"1"}] (overridden)"#,
            "b.yaml:1:30 !reset (removes)",
            r#"c.yaml:1:23 [{"target":2,"published":"2"}] (kept)"#
        ]
    );
    assert_eq!(
        explained(&files, "services.b.image"),
        ["a.yaml:1:53 x (overridden)", "b.yaml:1:45 !reset (removes)"]
    );
}
