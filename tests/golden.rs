//! `--show-config` against the reference tool's answers: `tests/data/show-config/CASE`.
//!
//! A case has `expected.json`, the reference's answer, or `error.txt`, its refusal, and then `refused.txt`, what we print.
//! `ours.json` is our answer where the reference splits a string that it merges with a list into letters, or drops it.

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
        if case.join("error.txt").exists() {
            if run.code != 1 || !run.stdout.is_empty() {
                return Err(format!("code {}, stdout {}", run.code, run.stdout));
            }
            return expect_file(&case.join("refused.txt"), &run.stderr);
        }
        if run.code != 0 || !run.stderr.is_empty() {
            return Err(format!("code {}, stderr: {}", run.code, run.stderr));
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
        sort_links(&mut actual);
        sort_links(&mut expected);
        let ours = case.join("ours.json");
        if ours.exists() {
            assert_ne!(actual, expected, "{} is not needed", ours.display());
            return expect_file(&ours, &format!("{actual:#}\n"));
        }
        if actual == expected {
            Ok(())
        } else {
            Err(format!("--- expected\n{expected:#}\n--- actual\n{actual:#}"))
        }
    });
}

#[test]
fn only_what_the_reference_refuses_too_is_not_shown() {
    let all = cases("show-config");
    let refused = all.iter().filter(|it| it.join("error.txt").exists()).count();
    assert_eq!((all.len(), refused), (40, 8));
    assert!(all.iter().all(|it| it.join("refused.txt").exists() == it.join("error.txt").exists()));
}

/// The reference keeps links in a hash map, which has no order beyond eight of them.
fn sort_links(shown: &mut Value) {
    for key in ["containers", "services"] {
        for target in shown[key].as_object_mut().unwrap().values_mut() {
            if let Some(links) = target.get_mut("links").and_then(Value::as_array_mut) {
                links.sort_by_key(|it| it["dev"].to_string());
            }
        }
    }
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
