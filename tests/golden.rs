//! `--show-config` against the reference tool's answers: `tests/data/show-config/CASE`.
//!
//! A case has `expected.json`, the reference's answer, or `error.txt`, its refusal. Where our stricter rules refuse
//! what the reference takes, `refused.txt` has the whole of what we say: it names the rule.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::support::{cases, conlink, expect_file, for_each_case};

#[test]
fn show_config_answers_as_the_reference_does() {
    for_each_case("show-config", |case| {
        let spec: Value = serde_json::from_str(&fs::read_to_string(case.join("case.json")).unwrap()).unwrap();
        let args: Vec<&str> =
            spec["args"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        let env: BTreeMap<String, String> = serde_json::from_value(spec["env"].clone()).unwrap();
        let run = conlink(case, &[args.as_slice(), &["--show-config"]].concat(), &env);
        if run.code != 0 {
            if run.code != 1 || !run.stdout.is_empty() {
                return Err(format!("code {}, stdout {}", run.code, run.stdout));
            }
            return expect_file(&case.join("refused.txt"), &run.stderr);
        }
        if case.join("refused.txt").exists() || case.join("error.txt").exists() {
            return Err("is no longer refused".to_owned());
        }
        if !run.stderr.is_empty() {
            return Err(format!("stderr: {}", run.stderr));
        }
        let mut actual: Value = serde_json::from_str(&run.stdout).unwrap();
        let mut expected: Value =
            serde_json::from_str(&fs::read_to_string(case.join("expected.json")).unwrap()).unwrap();
        let mut own: Vec<String> = links(&mut actual).map(|it| take_derived_mac(it, "c2:")).collect();
        let mut theirs: Vec<String> = links(&mut expected).map(|it| take_derived_mac(it, "random")).collect();
        own.sort();
        theirs.sort();
        if own != theirs {
            return Err(format!("links with a MAC of their own: {own:?}, expected {theirs:?}"));
        }
        if actual == expected {
            Ok(())
        } else {
            Err(format!("--- expected\n{expected:#}\n--- actual\n{actual:#}"))
        }
    });
}

#[test]
fn most_refusals_are_of_links_that_the_kernel_would_refuse() {
    let refused = cases("show-config").iter().filter(|it| it.join("refused.txt").exists()).count();
    let answered = cases("show-config").iter().filter(|it| !it.join("refused.txt").exists()).count();
    assert_eq!(refused + answered, 40);
    assert!(answered >= 8, "{answered} cases are answered");
}

fn links(shown: &mut Value) -> impl Iterator<Item = &mut Value> {
    let targets = shown.as_object_mut().unwrap().iter_mut();
    let targets =
        targets.filter(|(key, _)| matches!(key.as_str(), "containers" | "services")).map(|(_, it)| it);
    let named = targets.flat_map(|it| it.as_object_mut().unwrap().values_mut());
    named.flat_map(|it| it.get_mut("links").and_then(Value::as_array_mut).into_iter().flatten())
}

/// The reference draws a MAC where we derive one; and gives one to ipvtap, which has its parent's.
fn take_derived_mac(link: &mut Value, prefix: &str) -> String {
    let name = format!("{}:{}", link["service"], link["dev"]);
    let is_derived = link.get("mac").and_then(Value::as_str).is_some_and(|it| it.starts_with(prefix));
    if is_derived {
        link.as_object_mut().unwrap().remove("mac");
    }
    if is_derived && link["type"] != "ipvtap" { name } else { String::new() }
}
