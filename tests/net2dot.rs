//! `net2dot`: every example and every answered case of `--show-config` in every form; random configurations.

mod crossings;
mod networks;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use conlink::config::{Env, Input, Sources, load};
use conlink::dot::{Diagram, Replicas};
use conlink::network::{Defaults, resolve};
use expect_test::{Expect, expect};
use graphviz_rust::dot_structures::{EdgeTy, Graph, GraphAttributes, Id, Stmt, Subgraph, Vertex};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{Run, cases, conlink, data, expect_file, run, skip};

fn net2dot(dir: &Path, args: &[&str]) -> Run {
    conlink(dir, &[&["net2dot"], args].concat(), &BTreeMap::new())
}

fn ok(dir: &Path, args: &[&str]) -> String {
    let run = net2dot(dir, args);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{args:?} in {}", dir.display());
    run.stdout
}

/// An example or a case, and the arguments that draw it.
struct Subject {
    name: String,
    dir: PathBuf,
    args: Vec<String>,
}

impl Subject {
    fn draw(&self, more: &[&str]) -> String {
        let args: Vec<&str> = self.args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        ok(&self.dir, &args)
    }
}

/// Every folder of `modes-examples`, read as its own engine reads it.
fn examples() -> Vec<Subject> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("modes-examples");
    let mut all = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let dir = entry.unwrap().path();
        let Ok(text) = fs::read_to_string(dir.join("compose.yaml")) else { continue };
        let command =
            text.lines().find_map(|it| it.split_once("--compose-file ")).map(|(_, it)| it.to_owned());
        let words = command.unwrap_or_else(|| "compose.yaml".to_owned());
        let words: Vec<&str> = std::iter::once("--compose-file").chain(words.split_whitespace()).collect();
        // Two words an option; what else the engine is told is not ours.
        let options = words.chunks(2).filter(|it| matches!(it[0], "--compose-file" | "--network-file"));
        let args = options.flatten().map(|it| (*it).to_owned()).collect();
        let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
        all.push(Subject { name, dir, args });
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(all.len() >= 6, "{} examples", all.len());
    all
}

/// The reference tool's own answers.
fn answered() -> Vec<Subject> {
    let answers = cases("show-config").into_iter().filter(|it| it.join("expected.json").exists());
    answers
        .map(|dir| Subject {
            name: format!("show-config-{}", dir.file_name().unwrap().display()),
            dir,
            args: vec!["expected.json".to_owned()],
        })
        .collect()
}

fn subjects() -> Vec<Subject> {
    let mut all = examples();
    all.extend(answered());
    all
}

#[test]
fn every_example_and_case_is_drawn_as_expected() {
    let mut failed = Vec::new();
    for it in subjects() {
        let drawn = it.draw(&[]);
        assert_eq!(drawn, it.draw(&[]), "{} is not byte-stable", it.name);
        if let Err(message) = expect_file(&data("net2dot").join(format!("{}.dot", it.name)), &drawn) {
            failed.push(message);
        }
        let parsed = Parsed::of(&drawn);
        let diagram: Value = serde_json::from_str(&it.draw(&["--format", "json"])).unwrap();
        let joined =
            diagram["links"].as_array().unwrap().iter().filter(|it| !it["segment"].is_null()).count();
        assert_eq!(parsed.edges.len(), joined, "{}", it.name);
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// Suites of existing projects count such lines.
#[test]
fn a_link_on_a_bridge_is_in_four_lines_of_dot() {
    let router = examples().into_iter().find(|it| it.name == "router").unwrap();
    let drawn = router.draw(&[]);
    for link in ["r:eth0", "r:eth1", "r:eth2"] {
        assert_eq!(drawn.lines().filter(|it| it.contains(link)).count(), 4, "{link}: {drawn}");
    }
}

#[test]
fn every_example_is_written_as_mermaid_d2_and_json() {
    let mut failed = Vec::new();
    for it in examples() {
        for (format, extension) in [("mermaid", "mmd"), ("d2", "d2"), ("json", "json")] {
            let path = data("net2dot").join(format!("{}.{extension}", it.name));
            failed.extend(expect_file(&path, &it.draw(&["--format", format])).err());
        }
    }
    for it in answered() {
        for format in ["mermaid", "d2", "json"] {
            assert!(!it.draw(&["--format", format]).is_empty(), "{} as {format}", it.name);
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn every_example_and_case_is_a_picture_and_a_page() {
    let renders = Command::new("rsvg-convert").arg("--version").stdin(Stdio::null()).output().is_ok();
    if !renders {
        skip("rendering of svg", "the program `rsvg-convert` is not there");
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("hostile.json"), hostile_names().to_string()).unwrap();
    let mut all = subjects();
    all.push(Subject { name: "hostile".into(), dir: dir.path().into(), args: vec!["hostile.json".into()] });
    for it in all {
        let svg = it.draw(&["--format", "svg"]);
        assert_eq!(svg, it.draw(&["--format", "svg"]), "{} is not byte-stable", it.name);
        let diagram: Value = serde_json::from_str(&it.draw(&["--format", "json"])).unwrap();
        let joined =
            diagram["links"].as_array().unwrap().iter().filter(|it| !it["segment"].is_null()).count();
        // A cable is one line for its two links.
        let (lines, cables) = (svg.matches("<path class=\"wire ").count(), svg.matches("data-far=").count());
        assert_eq!(lines + cables, joined, "{}", it.name);
        assert!(svg.contains("prefers-color-scheme:dark"), "{}", it.name);
        if renders {
            let path = dir.path().join("it.svg");
            fs::write(&path, &svg).unwrap();
            let mut rsvg = Command::new("rsvg-convert");
            rsvg.arg(&path).arg("-o").arg(dir.path().join("it.png"));
            assert_eq!(
                run(rsvg),
                Run { code: 0, stdout: String::new(), stderr: String::new() },
                "{}",
                it.name
            );
        }
        let html = it.draw(&["--format", "html"]);
        assert!(html.contains(&svg), "{}", it.name);
        // A name closes no element, and nothing is fetched from anywhere.
        assert_eq!(html.matches("</script>").count(), 2, "{}", it.name);
        assert_eq!(html.matches("<script").count(), 2, "{}", it.name);
        for fetch in ["src=\"", "@import", "url(", "fetch(", "XMLHttpRequest", "https://"] {
            assert!(!html.contains(fetch), "{} has {fetch}", it.name);
        }
        assert_eq!(html.matches("http://").count(), 1, "{}: the name space of svg", it.name);
        let data =
            html.split("type=\"application/json\">").nth(1).unwrap().split("</script>").next().unwrap();
        assert_eq!(serde_json::from_str::<Value>(data).unwrap(), diagram, "{}", it.name);
    }
}

#[test]
fn the_gallery_shows_the_examples_as_they_are() {
    let gallery = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gallery");
    let mut failed = Vec::new();
    let mut expected = BTreeSet::new();
    for it in examples() {
        let name = format!("{}.svg", it.name);
        failed.extend(expect_file(&gallery.join(&name), &it.draw(&["--format", "svg"])).err());
        expected.insert(name);
    }
    // With each replica, as the reference page shows it.
    let scaled = examples().into_iter().find(|it| it.name == "scaled").unwrap();
    let drawn = scaled.draw(&["--format", "svg", "--replicas", "worker=3"]);
    failed.extend(expect_file(&gallery.join("scaled-replicas.svg"), &drawn).err());
    expected.insert("scaled-replicas.svg".to_owned());
    let files = fs::read_dir(&gallery).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    assert_eq!(files.collect::<BTreeSet<_>>(), expected, "of examples that are gone, or new");
    let page = fs::read_to_string(gallery.join("../reference/net2dot.md")).unwrap();
    for name in expected {
        assert!(page.contains(&format!("(../gallery/{name})")), "{name} is not in docs/reference/net2dot.md");
    }
    assert!(failed.is_empty(), "UPDATE_EXPECT=1 rewrites:\n{}", failed.join("\n\n"));
}

#[test]
fn graphviz_takes_every_drawing_without_a_warning() {
    let version = Command::new("dot").arg("-V").stdin(Stdio::null()).output();
    if !version.is_ok_and(|it| it.status.success()) {
        return skip("dot -Tsvg", "the program `dot` of Graphviz is not there");
    }
    let dir = tempfile::tempdir().unwrap();
    let hostile = dir.path().join("hostile.json");
    fs::write(&hostile, hostile_names().to_string()).unwrap();
    let mut all = subjects();
    all.push(Subject {
        name: "hostile".into(),
        dir: dir.path().into(),
        args: vec!["hostile.json".into(), "--replicas".into(), "r=3".into()],
    });
    for it in all {
        let path = dir.path().join(format!("{}.dot", it.name));
        fs::write(&path, it.draw(&[])).unwrap();
        let mut dot = Command::new("dot");
        dot.arg("-Tsvg").arg(&path);
        let run = run(dot);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{}", it.name);
        if it.name == "hostile" {
            for name in HOSTILE {
                let shown = xml(&format!("service '{}'", name.replace('\0', "\u{fffd}")));
                assert!(run.stdout.contains(&format!(">{shown}</text>")), "{shown} in {}", run.stdout);
            }
        }
    }
}

/// As Graphviz writes text.
fn xml(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    text.replace('\'', "&#39;").replace('-', "&#45;")
}

/// Names that some syntax or other takes for its own.
const HOSTILE: [&str; 16] = [
    "a\"b",
    "back\\slash",
    "end\\",
    "\\N\\G\\l",
    "{x|y}",
    "a->b",
    "a:b:c",
    "<b>bold</b>",
    "&lt;amp&amp;",
    "größe/网络/🦀",
    "a;b]",
    "subgraph",
    "nul\0byte",
    "--",
    "</script><script>alert(1)</script>",
    "#quot;`code`$x${y}",
];

fn hostile_names() -> Value {
    let mut services = serde_json::Map::new();
    for name in HOSTILE {
        let link = json!({"dev": name, "bridge": {"bridge": name, "mode": name}, "ip": name, "netem": [name], "route": [name]});
        let parent = json!({"type": "macvlan", "dev": "m0", "outer-dev": name, "mode": name});
        services.insert(name.to_owned(), json!({"links": [link, parent], "commands": [{"command": name}]}));
    }
    let link = json!({"bridge": "lan", "ip": ["10.0.0.1/24", "fd00::1/64"], "mac": "02:00:00:00:00:01"});
    services.insert("r".to_owned(), json!({"links": [link]}));
    json!({
        "bridges": {}, "containers": services.clone(), "services": services,
        "tunnels": [{"type": "vxlan", "vni": 5, "remote": "a\"b\\", "bridge": "</script>"}],
    })
}

/// A drawing that was parsed back.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parsed {
    /// Each node with the clusters that it is in, outermost first.
    nodes: BTreeMap<String, Vec<String>>,
    edges: Vec<(String, String)>,
}

impl Parsed {
    fn of(text: &str) -> Self {
        let Graph::DiGraph { stmts, .. } =
            graphviz_rust::parse(text).unwrap_or_else(|it| panic!("{it}\n{text}"))
        else {
            panic!("no digraph")
        };
        let mut parsed = Self::default();
        parsed.walk(&stmts, &[]);
        for (from, to) in &parsed.edges {
            assert!(parsed.nodes.contains_key(from) && parsed.nodes.contains_key(to), "{from} -> {to}");
        }
        parsed
    }

    fn walk(&mut self, stmts: &[Stmt], clusters: &[String]) {
        for stmt in stmts {
            match stmt {
                Stmt::Node(it) => {
                    let name = plain(&it.id.0);
                    assert!(
                        self.nodes.insert(name.clone(), clusters.to_vec()).is_none(),
                        "{name} is there twice"
                    );
                }
                Stmt::Subgraph(Subgraph { id, stmts }) => {
                    self.walk(stmts, &[clusters, &[plain(id)]].concat());
                }
                Stmt::Edge(it) => {
                    let EdgeTy::Pair(Vertex::N(from), Vertex::N(to)) = &it.ty else { panic!("{it:?}") };
                    self.edges.push((plain(&from.0), plain(&to.0)));
                }
                Stmt::GAttribute(
                    GraphAttributes::Graph(_) | GraphAttributes::Node(_) | GraphAttributes::Edge(_),
                )
                | Stmt::Attribute(_) => {}
            }
        }
    }
}

/// An identifier without its quotes.
fn plain(id: &Id) -> String {
    match id {
        Id::Escaped(it) => {
            let inner = it.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap();
            inner.replace("\\\"", "\"").replace("\\\\", "\\")
        }
        Id::Plain(it) => it.clone(),
        Id::Html(_) | Id::Anonymous(_) => panic!("{id:?}"),
    }
}

/// A configuration, and what links it has: owner, interface, and what it joins.
#[derive(Clone, Debug)]
struct Random {
    config: Value,
    links: BTreeSet<(String, String, Option<String>)>,
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z][a-z0-9_.-]{0,9}",
        1 => proptest::sample::select(HOSTILE.iter().filter(|it| !it.contains('\0')).map(|it| (*it).to_owned()).collect::<Vec<_>>()),
        // Placeholders are another matter.
        1 => "\\PC{1,12}".prop_map(|it| it.replace("{{", "{").trim().to_owned()).prop_filter(
            "empty, or shown by an escape",
            |it| !it.is_empty() && !it.contains(['\u{2028}', '\u{2029}']),
        ),
    ]
}

fn random() -> impl Strategy<Value = Random> {
    let link = (0..6_usize, any::<bool>(), 0..8_u8, 0..5_usize, 0..3_u8, any::<bool>());
    let tunnel = (0..5_usize, 1..250_u8, any::<bool>());
    (
        proptest::collection::vec(name(), 6),
        proptest::collection::vec(link, 0..14),
        proptest::collection::vec(tunnel, 0..3),
    )
        .prop_map(|(names, links, tunnels)| {
            let mut config = json!({"links": [], "tunnels": []});
            let mut expected = BTreeSet::new();
            for (at, (owner, is_container, kind, segment, ips, has_netem)) in links.into_iter().enumerate() {
                let key = if is_container { "container" } else { "service" };
                // A name that starts so is a `container` and a `service` both: they are two all the same.
                let owner = &names[owner];
                let dev = format!("e{at}");
                let mut link = json!({"dev": dev});
                link[key] = json!(owner.replace('$', "$$"));
                let joined = match kind {
                    0 => {
                        link["type"] = json!("dummy");
                        None
                    }
                    1 | 2 => {
                        let kinds = [("vlan", "vlanid", json!(5)), ("macvlan", "mode", json!("bridge"))];
                        let (kind, key, value) = &kinds[usize::from(kind) - 1];
                        link["type"] = json!(kind);
                        link[*key] = value.clone();
                        link["outer-dev"] = json!(format!("up{segment}"));
                        Some(format!("device:up{segment}"))
                    }
                    _ => {
                        link["bridge"] = json!(format!("br{segment}"));
                        // What an owner's name would make is not always an interface's.
                        link["outer-dev"] = json!(format!("p{at}"));
                        Some(format!("bridge br{segment}"))
                    }
                };
                let ips: Vec<String> =
                    (0..ips).map(|it| format!("10.{segment}.{at}.{}/16", it + 1)).collect();
                link["ip"] = json!(ips);
                if has_netem {
                    link["netem"] = json!("delay 10ms");
                }
                config["links"].as_array_mut().unwrap().push(link);
                expected.insert((format!("{key} {owner}"), dev, joined));
            }
            let mut seen = BTreeSet::new();
            for (segment, vni, v6) in tunnels {
                if !seen.insert(vni) {
                    continue;
                }
                let remote = if v6 { "2001:db8::1".to_owned() } else { format!("192.0.2.{}", vni % 4 + 1) };
                let bridge = format!("br{segment}");
                config["tunnels"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"type": "vxlan", "vni": vni, "remote": remote, "bridge": bridge}));
                expected.insert((
                    format!("remote:{remote}"),
                    format!("vxlan-{vni}"),
                    Some(format!("bridge {bridge}")),
                ));
            }
            Random { config, links: expected }
        })
}

/// Reads a network file as the tool does.
fn shown(config: &Value) -> Value {
    let mut sources = Sources::default();
    let file = sources.add("net.json".to_owned(), config.to_string());
    let (config, mut diagnostics) = load(&sources, &[Input::Network(file)], &Env::new());
    let (network, found) = resolve(config, Arc::new(sources), Defaults::default());
    diagnostics.extend(found);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    network.show()
}

fn diagram(shown: &Value) -> Diagram {
    conlink::dot::read(shown, &Replicas::default()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_drawing_holds_exactly_the_links_of_the_input(random in random()) {
        let shown = shown(&random.config);
        let diagram = diagram(&shown);
        let drawn = conlink::dot::graphviz(&diagram);
        prop_assert_eq!(&drawn, &conlink::dot::graphviz(&self::diagram(&shown)));
        let parsed = Parsed::of(&drawn);
        let cluster_of = |id: &str| {
            let last = parsed.nodes[id].last().cloned().unwrap_or_default();
            last.strip_prefix("cluster:").unwrap_or_default().to_owned()
        };
        let mut found: BTreeMap<String, Option<String>> = parsed
            .nodes
            .keys()
            .filter(|it| it.starts_with("interface:"))
            .map(|it| (it.clone(), None))
            .collect();
        let mut links = BTreeSet::new();
        for (from, to) in &parsed.edges {
            if to.starts_with("remote:") {
                let outer = from.strip_prefix("port:").unwrap().split(':').next().unwrap().to_owned();
                links.insert((to.clone(), outer, Some(cluster_of(from))));
                continue;
            }
            let joined = if to.starts_with("device:") { to.clone() } else { cluster_of(to) };
            let before = found.insert(from.clone(), Some(joined));
            prop_assert_eq!(before, Some(None), "one edge an interface");
        }
        for (interface, joined) in found {
            // Two owners of one name may share an interface's name: then the later one's id has a number.
            let dev = interface.rsplit(':').next().unwrap().split('#').next().unwrap().to_owned();
            links.insert((cluster_of(&interface), dev, joined));
        }
        prop_assert_eq!(links, random.links);
    }
}

#[test]
fn names_of_any_kind_are_kept_apart_and_parsed_back() {
    let parsed = Parsed::of(&conlink::dot::graphviz(&diagram(&hostile_names())));
    let interfaces = parsed.nodes.keys().filter(|it| it.starts_with("interface:")).count();
    assert_eq!(interfaces, HOSTILE.len() * 4 + 2);
    for name in HOSTILE.iter().filter(|it| !it.contains('\0')) {
        let clusters: Vec<&Vec<String>> = parsed.nodes.values().collect();
        assert!(clusters.iter().any(|it| it.contains(&format!("cluster:service {name}"))), "{name}");
    }
}

#[test]
fn a_cable_is_a_line_with_its_name_between_two_containers() {
    let shown = json!({"services": {
        "a": {"links": [{"bridge": {"bridge": "wire", "mode": "patch"}, "ip": ["10.0.0.1/24"]}]},
        "b": {"links": [{"bridge": {"bridge": "wire", "mode": "patch"}, "ip": ["10.0.0.2/24"]}]},
        "c": {"links": [{"bridge": {"bridge": "loose", "mode": "patch"}}]},
    }});
    let svg = conlink::dot::svg(&diagram(&shown));
    assert_eq!(svg.matches("<g class=\"cable\"").count(), 1, "one end alone is no cable: {svg}");
    assert!(svg.contains(">wire</text></g>") && svg.contains("data-link=\"0\" data-far=\"1\""), "{svg}");
    assert!(svg.contains("<title>cable wire&#10;a:eth0&#10;"), "{svg}");
    assert!(!svg.contains("bridge wire (patch)") && svg.contains("bridge loose (patch)"), "{svg}");
    assert!(svg.contains("eth0 10.0.0.1/24") && svg.contains("eth0 10.0.0.2/24"), "{svg}");
}

#[test]
fn a_bridge_whose_name_is_a_colour_has_that_colour() {
    let links: Vec<Value> = ["lan", "red", "net-green2", "b", "c", "d", "e", "f", "g", "hundred"]
        .iter()
        .enumerate()
        .map(|(at, it)| json!({"bridge": it, "dev": format!("e{at}")}))
        .collect();
    let diagram = diagram(&json!({"services": {"a": {"links": links}}}));
    let svg = conlink::dot::svg(&diagram);
    let hue = |name: &str| {
        let at = diagram.segments.iter().position(|it| it.name == name).unwrap();
        let bar = svg.split(&format!("data-segment=\"{at}\"")).nth(1).unwrap();
        let class = bar.split("<rect class=\"bar ").nth(1).unwrap().split('"').next().unwrap();
        let rule = svg.split(&format!(".{class}{{stroke:")).nth(1).unwrap();
        rule.split('}').next().unwrap().to_owned()
    };
    assert_eq!((hue("red").as_str(), hue("net-green2").as_str()), ("#b91c1c", "#15803d"));
    for other in ["lan", "b", "c", "d", "e", "f", "g", "hundred"] {
        assert!(!["#b91c1c", "#15803d"].contains(&hue(other).as_str()), "{other}");
    }
}

#[test]
fn replicas_that_the_files_ask_for_are_drawn() {
    let compose = "services:\n  a:\n    scale: 3\n    x-network: {links: [{bridge: 'b{{index}}', ip: '10.9.{{index}}.1/24'}]}\n  \
                   b:\n    deploy: {replicas: 2}\n    x-network: {links: [{bridge: lan}]}\n";
    let titles = |args: &[&str]| -> Vec<String> {
        let args = [&["--compose-file", "c.yaml", "--format", "json"], args].concat();
        let drawn: Value =
            serde_json::from_str(&check(&[("c.yaml", compose)], None, &args, 0, &expect![""])).unwrap();
        drawn["nodes"].as_array().unwrap().iter().map(|it| it["title"].as_str().unwrap().to_owned()).collect()
    };
    let [a1, a2, a3] = [1, 2, 3].map(|it| format!("service 'a' {it}"));
    let [b1, b2] = [1, 2].map(|it| format!("service 'b' {it}"));
    assert_eq!(titles(&[]), [&a1, &a2, &a3, &b1, &b2].map(String::clone));
    assert_eq!(titles(&["--replicas", "a=1"]), [a1, b1, b2]);
    // Drawn once, a service is its first replica: no placeholder is left.
    let shown = json!({"services": {"a": {"links": [{"bridge": "lan", "ip": ["10.9.{{index}}.1/24"]}]}}});
    let svg = conlink::dot::svg(&diagram(&shown));
    assert!(svg.contains("10.9.1.1/24") && !svg.contains("{{"), "{svg}");
}

fn check(files: &[(&str, &str)], stdin: Option<&str>, args: &[&str], code: i32, stderr: &Expect) -> String {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let run = match stdin {
        None => net2dot(dir.path(), args),
        Some(text) => piped(dir.path(), args, text),
    };
    stderr.assert_eq(&run.stderr);
    assert_eq!(run.code, code);
    run.stdout
}

fn piped(dir: &Path, args: &[&str], text: &str) -> Run {
    let mut child = Command::new(env!("CARGO_BIN_EXE_conlink"))
        .arg("net2dot")
        .args(args)
        .current_dir(dir)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |it: Vec<u8>| String::from_utf8(it).unwrap();
    Run { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn files_give_what_show_config_of_them_gives() {
    for it in examples() {
        // What compose files say of replicas is not in what `--show-config` prints.
        let once = match it.name.as_str() {
            "scaled" => "worker=1",
            "forward" => "web=1",
            _ => "",
        };
        let args: Vec<&str> = it.args.iter().map(String::as_str).chain(["--show-config"]).collect();
        let shown = conlink(&it.dir, &args, &BTreeMap::new());
        assert_eq!(shown.code, 0, "{}", shown.stderr);
        for format in ["dot", "json", "mermaid", "d2"] {
            let mut more = vec!["--format", format];
            if !once.is_empty() {
                more.extend(["--replicas", once]);
            }
            let piped = piped(&it.dir, &more, &shown.stdout);
            assert_eq!(piped.stdout, it.draw(&more), "{} as {format}", it.name);
        }
    }
}

#[test]
fn a_yaml_file_is_read_as_by_file() {
    let files = [("c.yaml", "name: p\nservices: {a: {x-network: {links: [{bridge: lan}]}}}\n")];
    let drawn = |args: &[&str]| check(&files, None, args, 0, &expect![""]);
    assert!(drawn(&["c.yaml"]).contains("lan"));
    assert_eq!(drawn(&["c.yaml"]), drawn(&["-f", "c.yaml"]));
}

#[test]
fn mistakes_in_files_are_told_as_by_check() {
    let files = [("net.yaml", "links:\n  - {service: a, bridge: lan, ip: 10.0.0.1}\n")];
    let stderr = expect![[r#"
        error: expected an address with a prefix length, such as `10.0.0.1/24`
         --> net.yaml:2:35
          |
        2 |   - {service: a, bridge: lan, ip: 10.0.0.1}
          |                                   ^^^^^^^^

        found 1 error
    "#]];
    assert_eq!(check(&files, None, &["--network-file", "net.yaml"], 1, &stderr), "");
}

#[test]
fn links_that_the_kernel_would_refuse_are_drawn() {
    let link =
        "{service: a, type: ipvlan, outer-dev: up0, mode: bridge, bridge: lan, mac: '02:00:00:00:00:01'}";
    let text = format!("links: [{link}]\n");
    let files = [("n.yaml", text.as_str())];
    let args = ["--network-file", "n.yaml", "--format", "json"];
    let drawn: Value = serde_json::from_str(&check(&files, None, &args, 0, &expect![""])).unwrap();
    assert!(drawn["segments"].as_array().unwrap().iter().any(|it| it["name"] == "up0"), "{drawn:#}");
    assert_eq!(drawn["links"][0]["id"], "a:eth0");
}

#[test]
fn json_of_another_shape_is_refused_with_all_its_places() {
    let text = r#"{"services": {"a": {"links": [{"dev": [], "ip": {"x": 1}}, 7]}, "b": []}, "tunnels": [{"vni": 1}]}"#;
    let stderr = expect![[r#"
        error: standard input: services.a.links[0].dev: expected a text, found `[]`
        error: standard input: services.a.links[0].ip: expected a text, found `{"x":1}`
        error: standard input: services.a.links[1]: expected an object, found `7`
        error: standard input: services.b: expected an object, found `[]`
        error: standard input: tunnels[0]: expected `remote` and `bridge`
        error: standard input: --replicas: no service is named `web`; there are `a`, `b`
    "#]];
    assert_eq!(check(&[], Some(text), &["--replicas", "web=2"], 1, &stderr), "");
    let stderr = expect![[r#"
        error: net.txt: expected JSON of `conlink --show-config` (--file and --network-file read configuration files): expected value at line 1 column 1
    "#]];
    assert_eq!(check(&[("net.txt", "links: []\n")], None, &["net.txt"], 1, &stderr), "");
    let stderr = expect![[r#"
        error: standard input: expected an object with `bridges`, `tunnels`, `containers` or `services`, as `conlink --show-config` prints it, found `{"links":[]}`
    "#]];
    assert_eq!(check(&[], Some(r#"{"links": []}"#), &["-"], 1, &stderr), "");
}

#[test]
fn replicas_are_drawn_one_by_one() {
    let scaled = examples().into_iter().find(|it| it.name == "scaled").unwrap();
    let drawn: Value =
        serde_json::from_str(&scaled.draw(&["--replicas", "worker=3", "--format", "json"])).unwrap();
    let segments: Vec<&str> =
        drawn["segments"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    // A placeholder is filled in for each.
    assert_eq!(segments, ["lan", "rack1", "rack2", "rack3"]);
    let links: Vec<String> = drawn["links"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            format!("{} {} {}", it["id"].as_str().unwrap(), it["ip"][0].as_str().unwrap(), it["segment"])
        })
        .collect();
    assert_eq!(
        links,
        [
            "server:eth0 10.0.1.1/24 0",
            "worker 1:eth0 10.0.1.100/24 0",
            "worker 1:eth1 10.9.1.1/24 1",
            "worker 2:eth0 10.0.1.101/24 0",
            "worker 2:eth1 10.9.2.1/24 2",
            "worker 3:eth0 10.0.1.102/24 0",
            "worker 3:eth1 10.9.3.1/24 3",
        ]
    );
    assert_eq!(drawn["links"][5]["facts"]["mac"][0], "02:00:0a:00:01:66");
    let files = [(
        "n.yaml",
        "links: [{service: a, bridge: x, route: 'default via 10.0.0.{{index}}', netem: 'delay {{index}}ms'}]\n",
    )];
    let args = ["--network-file", "n.yaml", "--replicas", "a=2", "--json"];
    let drawn: Value = serde_json::from_str(&check(&files, None, &args, 0, &expect![""])).unwrap();
    assert_eq!(drawn["links"][1]["facts"]["route"][0], "default via 10.0.0.2");
    assert_eq!(drawn["links"][1]["marks"][0], "netem delay 2ms");
    // What cannot be is an error, as for the engine.
    let files = [("n.yaml", "links: [{service: a, bridge: x, ip: 10.0.0.254/24}]\n")];
    let stderr = expect![[r#"
        error: n.yaml:1:37: project-a-3:eth0: replica 3: 10.0.0.254 + 2 is outside of 10.0.0.0/24
    "#]];
    check(&files, None, &["--network-file", "n.yaml", "--replicas", "a=3"], 1, &stderr);
}

#[test]
fn a_file_is_written_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("n.json"), r#"{"services": {}}"#).unwrap();
    let printed = ok(dir.path(), &["n.json"]);
    assert_eq!(ok(dir.path(), &["n.json", "-o", "n.dot"]), "");
    assert_eq!(fs::read_to_string(dir.path().join("n.dot")).unwrap(), printed);
    let run = net2dot(dir.path(), &["n.json", "-o", "no/n.dot"]);
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (1, "error: write no/n.dot: No such file or directory (os error 2)\n")
    );
    assert_eq!(net2dot(dir.path(), &["--replicas", "a=0"]).code, 2);
}

/// Whether Graphviz is installed; otherwise the test is skipped.
fn has_graphviz(what: &str) -> bool {
    let found = Command::new("dot").arg("-V").stdin(Stdio::null()).output().is_ok();
    if !found {
        skip(what, "Graphviz is not installed");
    }
    found
}

#[test]
fn graphviz_lays_out_a_picture_with_everything_in_it() {
    if !has_graphviz("pictures by Graphviz") {
        return;
    }
    for subject in examples() {
        let drawn: Value = serde_json::from_str(&subject.draw(&["--json"])).unwrap();
        let list = |key: &str| drawn[key].as_array().unwrap().clone();
        for layout in ["dot", "neato"] {
            let svg = subject.draw(&["--format", "svg", "--layout", layout]);
            assert!(svg.starts_with("<?xml") && svg.ends_with("</svg>\n"), "{}: {svg}", subject.name);
            for it in list("nodes").iter().chain(&list("links")) {
                let name = it["name"].as_str().or(it["interface"].as_str()).unwrap();
                assert!(svg.contains(name), "{}: {layout} draws no {name}", subject.name);
            }
            let lines = svg.matches("class=\"edge\"").count();
            // `neato` draws one line per cable, which has two links.
            let links = list("links").iter().filter(|it| !it["segment"].is_null()).count();
            let is_cable = |(at, it): &(usize, Value)| {
                let ends = list("links").iter().filter(|link| link["segment"] == *at).count();
                it["mode"] == "patch" && ends == 2
            };
            let cables = list("segments").into_iter().enumerate().filter(is_cable).count();
            let expected = if layout == "dot" { links } else { links - cables };
            assert_eq!(lines, expected, "{}: {layout}", subject.name);
        }
    }
}

#[test]
fn names_with_any_characters_survive_graphviz() {
    if !has_graphviz("odd names in pictures by Graphviz") {
        return;
    }
    let files = [(
        "n.yaml",
        r#"links: [{container: 'a"\N<b>&', bridge: c, dev: x}, {container: b, bridge: c, dev: y}]
bridges: [{bridge: c, mode: patch}]
"#,
    )];
    let args = ["--network-file", "n.yaml", "--json"];
    let node = |text: String| serde_json::from_str::<Value>(&text).unwrap()["nodes"][0]["name"].clone();
    let name = node(check(&files, None, &args, 0, &expect![""]));
    assert_eq!(name, r#"a"\N<b>&"#);
    for layout in ["dot", "neato"] {
        let args = ["--network-file", "n.yaml", "--format", "svg", "--layout", layout];
        let svg = check(&files, None, &args, 0, &expect![""]);
        assert!(svg.contains("a&quot;\\N&lt;b&gt;&amp;"), "{svg}");
    }
}

#[test]
fn a_layout_without_graphviz_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("n.json"), r#"{"services": {}}"#).unwrap();
    let draw = |args: &[&str]| {
        let args = [&["net2dot", "n.json"], args].concat();
        conlink(dir.path(), &args, &BTreeMap::from([("PATH".to_owned(), "/nowhere".to_owned())]))
    };
    let run = draw(&["--format", "svg", "--layout", "neato", "-o", "n.svg"]);
    expect![[r#"
        error: `--layout neato` needs Graphviz: no program `neato` in PATH
        hint: install Graphviz, or leave out `--layout`
    "#]]
    .assert_eq(&run.stderr);
    assert_eq!(run.code, 1);
    assert!(!dir.path().join("n.svg").exists());
    assert_eq!(draw(&["--format", "svg", "--layout", "net2dot"]).code, 0);
    let run = draw(&["--layout", "dot"]);
    assert_eq!((run.code, run.stderr.as_str()), (2, "error: `--layout` needs `--format svg`\n"));
}
