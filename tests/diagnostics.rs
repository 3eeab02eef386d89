//! What is wrong with a configuration, as it is told: `tests/data/diagnostics/CASE`.
//!
//! Files whose names begin with `compose` are compose files, other YAML and JSON is network files; `env` has variables,
//! a `NAME=VALUE` a line; `expected.txt` is all that is said.

use std::fs;
use std::path::{Path, PathBuf};

use conlink::config::{Env, Input, Sources, load};

use crate::support::{cases, expect_file, for_each_case};

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
