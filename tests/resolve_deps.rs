//! `resolve-deps` from outside: formats, sources, errors.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Run, conlink};

/// A folder with these files.
fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if !name.ends_with('/') {
            fs::write(path, text).unwrap();
        } else {
            fs::create_dir_all(path).unwrap();
        }
    }
    dir
}

fn resolve(dir: &Path, args: &[&str]) -> Run {
    let args: Vec<&str> = ["resolve-deps"].iter().chain(args).copied().collect();
    conlink(dir, &args, &BTreeMap::new())
}

#[track_caller]
fn check(dir: &Path, args: &[&str], code: i32, stdout: &str, stderr: &str) {
    let run = resolve(dir, args);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (code, stdout, stderr));
}

fn basic() -> tempfile::TempDir {
    tree(&[
        ("m/a/", ""),
        ("m/b/deps", "a\n"),
        ("m/c/deps", "a b\n"),
        ("m/f/deps", "# what f needs\na\tc|d, +e"),
        ("m/file", ""),
    ])
}

#[test]
fn every_format_is_the_references() {
    let dir = basic();
    check(dir.path(), &["-p", "m", "f"], 0, "a b c f\n".replace("b c", "d").as_str(), "");
    check(dir.path(), &["--path=m", "f", "c"], 0, "a b c f\n", "");
    check(
        dir.path(),
        &["-p", "./m", "--format=paths", "f,c", "other"],
        0,
        "a=./m/a\nb=./m/b\nc=./m/c\nf=./m/f\nother=\n",
        "",
    );
    let json = concat!(
        r#"[{"node": "a", "path": "m/a", "dep-str": "", "deps": []}, "#,
        r#"{"node": "d", "deps": []}, "#,
        r##"{"node": "f", "path": "m/f", "dep-str": "# what f needs\na\tc|d, +e", "##,
        r#""deps": ["a", {"or": ["c", "d"]}, {"after": "e"}]}]"#,
        "\n"
    );
    check(dir.path(), &["-p", "m", "--format", "json", "f"], 0, json, "");
}

#[test]
fn folders_files_and_standard_input_are_one_graph() {
    let dir = tree(&[("m/a/deps", "b"), ("n.json", r#"{"b": ["c"], "x": null}"#), ("k/d/deps", "")]);
    let env = BTreeMap::from([("RESOLVE_DEPS_PATH".to_owned(), "m:n.json,k/".to_owned())]);
    let run = conlink(dir.path(), &["resolve-deps.py", "--format=paths", "a d"], &env);
    assert_eq!(run.stdout, "c=\nb=n.json\na=m/a\nd=k/d\n");
    let mut child = Command::new(env!("CARGO_BIN_EXE_conlink"))
        .args(["resolve-deps", "-p", "-:m", "a"])
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(br#"{"b": [["x", "y"], {"or": ["y", "x"]}]}"#).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "x b a\n");
}

#[test]
fn mistakes_are_told_with_their_places_and_all_at_once() {
    let dir = tree(&[
        ("m/a/deps", "b |\nok +x|y\n"),
        ("m/b/deps", "\"c\"\n"),
        ("m/unused/deps", "!!! not looked at"),
        ("n/e/", ""),
        ("o/e/", ""),
        ("bad.json", "[]"),
    ]);
    fs::write(dir.path().join("m/ok"), "a file is no node").unwrap();
    let path = dir.path();
    check(
        path,
        &["-p", "m", "a b"],
        1,
        "",
        "error: m/a/deps:1:3: `|` has no alternative behind it (write `a|b`)\n\
         error: m/a/deps:2:4: `+x` is among alternatives, which cannot be order only (write `a|b`, and `+a` as a word of its own)\n\
         error: m/b/deps:1:1: `\"c\"` is not a name (names are written without quotes)\n",
    );
    check(path, &["-p", "n:o", "z"], 1, "", "error: Node e appears in multiple places: n/e, o/e\n");
    check(path, &["-p", "none", "z"], 1, "", "error: none: No such file or directory (os error 2)\n");
    check(
        path,
        &["-p", "bad.json", "z"],
        1,
        "",
        "error: bad.json: expected an object of nodes, each with a list of what it needs\n",
    );
    check(
        path,
        &["-p", "n", "z|"],
        1,
        "",
        "error: DEP `z|`:1:2: `|` has no alternative behind it (write `a|b`)\n",
    );
    fs::write(path.join("n/e/deps"), b"ok\n\xff").unwrap();
    check(path, &["-p", "n", "e"], 1, "", "error: n/e/deps:2:1: the file is not UTF-8\n");
    assert_eq!(resolve(path, &[]).code, 2);
    assert_eq!(resolve(path, &["--format", "dot", "a"]).code, 2);
}

#[test]
fn a_cycle_is_named() {
    let dir = tree(&[("m/a/deps", "b"), ("m/b/deps", "+a")]);
    check(dir.path(), &["-p", "m", "a"], 1, "", "error: Graph contains a cycle: a → b → a\n");
}

#[test]
fn the_order_is_the_same_on_every_run() {
    let dir = tree(&[]);
    for _ in 0..5 {
        check(dir.path(), &["e", "b", "d", "a", "c"], 0, "e b d a c\n", "");
    }
}

#[test]
fn what_is_too_hard_is_given_up_in_time() {
    // Every triple of many nodes, each with a long tail of its own: no bound is near the truth.
    let mut graph = serde_json::Map::new();
    for it in 0..80_usize {
        let tail: Vec<String> = (0..12).map(|k| format!("t{}", it * (k * k + 31) * 7919 % 211)).collect();
        graph.insert(format!("v{it}"), tail.into());
    }
    let wanted: Vec<String> = (0..600_usize)
        .map(|it| format!("v{}|v{}|v{}", it * 7919 % 80, it * 104_729 % 79, it * 1_299_709 % 73))
        .collect();
    let dir = tree(&[("g.json", &serde_json::Value::Object(graph).to_string())]);
    let run = resolve(dir.path(), &["-p", "g.json", "--time-limit", "0.2", &wanted.join(" ")]);
    assert_eq!(
        run.stderr,
        "error: the alternatives are too many to find the smallest set in time (after 0.2 s; raise --time-limit, or \
         name some of the alternatives in the request)\n"
    );
    assert_eq!(run.code, 1);
}
