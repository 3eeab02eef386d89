//! What is wrong with a configuration, as it is reported: `tests/data/diagnostics/CASE` when files are read, and
//! `tests/data/lint/CASE` by `conlink check`.
//!
//! Files whose names begin with `compose` are compose files, other YAML and JSON files are network files; `env` has
//! variables, one `NAME=VALUE` per line; `expected.txt` is everything that is printed.

use std::fs;
use std::path::{Path, PathBuf};

use conlink::config::{Env, Input, Sources, load};
use serde_json::Value;

use crate::support::{Run, cases, conlink, data, expect_file, for_each_case};

#[test]
fn mistakes_are_told_with_their_places() {
    for_each_case("diagnostics", |case| expect_file(&case.join("expected.txt"), &told(case)));
}

#[test]
fn json_has_a_place_for_every_mistake() {
    for case in cases("diagnostics") {
        let (sources, inputs) = read(&case);
        for it in load(&sources, &inputs, &env(&case)).1 {
            let json = it.to_json(&sources);
            let has = |key: &str| json[key].as_u64().is_some_and(|it| it > 0);
            assert!(json["file"].is_string() && json["message"].is_string(), "{json}");
            assert!(["line", "col", "end_line", "end_col"].into_iter().all(has), "{json}");
        }
    }
}

#[test]
fn check_finds_what_will_not_work() {
    for_each_case("lint", |case| {
        let Run { code, stdout, stderr } = check(case, &[]);
        expect_file(&case.join("expected.txt"), &format!("{stderr}{stdout}exit code {code}\n"))
    });
}

#[test]
fn every_finding_of_check_has_a_case_named_after_its_code() {
    for case in cases("lint") {
        let code = case.file_name().unwrap().to_str().unwrap().to_owned();
        let json: Value = serde_json::from_str(&check(&case, &["--json"]).stdout).unwrap();
        let found = json["diagnostics"].as_array().unwrap();
        assert!(found.iter().any(|it| it["code"] == *code), "{code}: {json:#}");
    }
}

#[test]
fn denied_warnings_and_hints_fail_the_check() {
    let code = |case: &str, args: &[&str]| check(&data("lint").join(case), args).code;
    assert_eq!(code("lonely-bridge", &[]), 0);
    assert_eq!(code("lonely-bridge", &["--deny", "warnings"]), 1);
    assert_eq!(code("unused-bridge", &["--deny", "warnings"]), 0);
    assert_eq!(code("unused-bridge", &["--deny", "hints"]), 1);
    assert_eq!(code("duplicate-vlan", &[]), 1);
    assert_eq!(code("duplicate-vlan", &["--deny", "nonsense"]), 2);
    assert_eq!(conlink(&data("lint"), &["check"], &Env::new()).code, 2);
}

/// The properties that the SARIF 2.1.0 schema requires, and what it says of their values.
#[test]
fn sarif_has_the_shape_that_its_schema_asks_for() {
    for case in cases("lint") {
        let log: Value = serde_json::from_str(&check(&case, &["--format", "sarif"]).stdout).unwrap();
        assert_eq!((&log["version"], log["runs"].as_array().unwrap().len()), (&"2.1.0".into(), 1));
        assert!(log["$schema"].as_str().unwrap().starts_with("https://"));
        let run = &log["runs"][0];
        let driver = &run["tool"]["driver"];
        assert_eq!(driver["name"], "conlink");
        let rules: Vec<&str> =
            driver["rules"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
        for result in run["results"].as_array().unwrap() {
            assert!(rules.contains(&result["ruleId"].as_str().unwrap()), "{result}");
            assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()), "{result}");
            assert!(!result["message"]["text"].as_str().unwrap().is_empty(), "{result}");
            let related = result["relatedLocations"].as_array().into_iter().flatten();
            for location in result["locations"].as_array().into_iter().flatten().chain(related) {
                let place = &location["physicalLocation"];
                assert!(place["artifactLocation"]["uri"].is_string(), "{location}");
                for key in ["startLine", "startColumn", "endLine", "endColumn"] {
                    assert!(place["region"][key].as_u64().is_some_and(|it| it > 0), "{location}");
                }
            }
        }
    }
}

#[test]
fn findings_with_one_cause_are_printed_twenty_times() {
    let dir = tempfile::tempdir().unwrap();
    let link = |at| format!("  - {{service: s{at}, bridge: lan, mtu: none{at}}}\n");
    let links: String = (0..45).map(link).collect();
    fs::write(dir.path().join("net.yaml"), format!("links:\n{links}  - {{service: x, brige: lan}}\n"))
        .unwrap();
    let run = conlink(dir.path(), &["check", "net.yaml"], &Env::new());
    assert_eq!(run.stderr.matches("error: expected a number").count(), 20, "{}", run.stderr);
    assert!(run.stderr.contains("\n… and 25 more like this\n"), "{}", run.stderr);
    assert!(run.stderr.contains("unknown property `brige`"), "{}", run.stderr);
    assert!(run.stderr.ends_with("\nfound 47 errors\n"), "{}", run.stderr);
}

#[test]
fn findings_that_need_an_unreadable_address_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let net = "\
links:
- {service: a, bridge: x, ip: [10.0.1.1/24, 10.0.2.300/24], route: default via 10.0.2.254}
- {service: a, bridge: y, dev: eth1, ip: 10.0.2.1/24}
- {service: b, bridge: x, ip: [10.0.1.2/24, 10.0.2.300/24], route: default nexthop via 10.0.2.254 nexthop via 10.0.1.1}
- {service: b, bridge: y, dev: eth1, ip: 10.0.2.2/24}
";
    for (net, summary) in [(net, "found 2 errors"), (&net.replace(", 10.0.2.300/24", ""), "found 2 warnings")]
    {
        fs::write(dir.path().join("net.yaml"), net).unwrap();
        let run = conlink(dir.path(), &["check", "net.yaml"], &Env::new());
        assert!(run.stderr.ends_with(&format!("\n{summary}\n")), "{}", run.stderr);
    }
}

fn check(case: &Path, args: &[&str]) -> Run {
    let (sources, _) = read(case);
    let mut all = vec!["check"];
    all.extend(args);
    all.extend(sources.ids().map(|it| sources.name(it)));
    conlink(case, &all, &env(case))
}

fn told(case: &Path) -> String {
    let (sources, inputs) = read(case);
    let (_, diagnostics) = load(&sources, &inputs, &env(case));
    diagnostics.iter().map(|it| it.render(&sources, false) + "\n\n").collect()
}

fn read(case: &Path) -> (Sources, Vec<Input>) {
    let mut paths: Vec<PathBuf> = fs::read_dir(case).unwrap().map(|it| it.unwrap().path()).collect();
    paths.retain(|it| it.extension().is_some_and(|it| it == "yaml" || it == "json"));
    paths.sort();
    let mut sources = Sources::default();
    let mut inputs = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap();
        let file = sources.add(name, fs::read(&path).unwrap());
        inputs.push(if name.starts_with("compose") { Input::Compose(file) } else { Input::Network(file) });
    }
    (sources, inputs)
}

fn env(case: &Path) -> Env {
    let text = fs::read_to_string(case.join("env")).unwrap_or_default();
    text.lines().filter_map(|it| it.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}
