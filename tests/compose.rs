//! Merging of compose files against compose's own answers: `tests/data/compose/CASE`.
//!
//! A case has `1.yaml`, `2.yaml`, … and `expected.json`, compose's answer, or `error.txt`, its refusal (made by
//! `tests/data/compose/expect.sh`). Where ours differs on purpose, `difference.txt` says why, and `ours.json` has our
//! answer. `diagnostics.txt` has what we have to say.

use std::fs;
use std::path::Path;

use conlink::compose::{Merged, merge};
use conlink::config::{Diagnostic, Severity, Sources};
use serde_json::{Value, json};

use crate::support::{cases, expect_file, for_each_case};

#[test]
fn files_merge_as_compose_merges_them() {
    for_each_case("compose", |case| {
        let sources = read(case);
        let (merged, diagnostics) = merge_all(&sources);
        let said: Vec<String> = diagnostics.iter().map(|it| it.render(&sources, false)).collect();
        let said = if said.is_empty() { String::new() } else { said.join("\n\n") + "\n" };
        expect_file_or_none(&case.join("diagnostics.txt"), &said)?;
        let is_refused = diagnostics.iter().any(|it| it.severity == Severity::Error);
        let ours = if is_refused { json!("refused") } else { canonical(merged.to_json()) };
        let theirs = match fs::read_to_string(case.join("expected.json")) {
            Ok(text) => canonical(serde_json::from_str(&text).unwrap()),
            Err(_) if case.join("error.txt").exists() => json!("refused"),
            Err(error) => return Err(format!("expected.json: {error}")),
        };
        let is_same = ours == theirs;
        if case.join("difference.txt").exists() {
            if is_same {
                return Err("difference.txt tells of a difference that is not there".to_owned());
            }
            return expect_file(&case.join("ours.json"), &format!("{ours:#}\n"));
        }
        if is_same { Ok(()) } else { Err(format!("--- compose\n{theirs:#}\n--- ours\n{ours:#}")) }
    });
}

#[test]
fn there_are_cases_enough() {
    let cases = cases("compose");
    let differing = cases.iter().filter(|it| it.join("difference.txt").exists()).count();
    assert!(cases.len() >= 100 && differing * 10 <= cases.len(), "{differing} of {}", cases.len());
}

/// What is written is what was merged, and merging it again changes nothing.
#[test]
fn the_document_reads_as_what_was_merged() {
    for_each_case("compose", |case| {
        let sources = read(case);
        let (merged, diagnostics) = merge_all(&sources);
        if diagnostics.iter().any(|it| it.severity == Severity::Error) {
            return Ok(());
        }
        let yaml = merged.to_yaml();
        let mut again = Sources::default();
        again.add("merged.yaml", yaml.clone());
        let (twice, diagnostics) = merge_all(&again);
        if diagnostics.iter().any(|it| it.severity == Severity::Error) {
            return Err(format!("{yaml}\n{}", diagnostics[0].render(&again, false)));
        }
        if twice.to_json() != merged.to_json() || twice.to_yaml() != yaml {
            return Err(format!("--- merged\n{yaml}\n--- again\n{}", twice.to_yaml()));
        }
        Ok(())
    });
}

fn read(case: &Path) -> Sources {
    let mut sources = Sources::default();
    for number in 1.. {
        let name = format!("{number}.yaml");
        let Ok(text) = fs::read_to_string(case.join(&name)) else { break };
        sources.add(name, text);
    }
    sources
}

fn merge_all(sources: &Sources) -> (Merged<'_>, Vec<Diagnostic>) {
    merge(sources, &sources.ids().collect::<Vec<_>>())
}

fn expect_file_or_none(path: &Path, actual: &str) -> Result<(), String> {
    if actual.is_empty() && !path.exists() {
        return Ok(());
    }
    expect_file(path, actual)
}

/// The one form in which both answers are compared. Compose's own is not one: what it merged is in another form than
/// what only one file gives, and defaults are filled in. None of that is merging:
///
/// - `KEY=VALUE` is a map with texts as values, the last of a key; names with addresses are a sorted list;
/// - one text stands in a list;
/// - defaults go: `mode`, `protocol` of a port, `target` of a secret, `required`, `condition`, `count`, `context`;
/// - `published` is a text;
/// - an empty list is nothing, as are no pairs of `KEY=VALUE`; an empty `volume` of a mount goes.
fn canonical(mut document: Value) -> Value {
    no_empty_list(&mut document);
    if let Some(services) = document.get_mut("services").and_then(Value::as_object_mut) {
        services.values_mut().for_each(service);
    }
    for kind in ["networks", "volumes"] {
        for it in
            document.get_mut(kind).and_then(Value::as_object_mut).into_iter().flat_map(|it| it.values_mut())
        {
            at(it, "/labels", key_value);
        }
    }
    document
}

fn no_empty_list(value: &mut Value) {
    match value {
        Value::Array(items) if items.is_empty() => *value = Value::Null,
        Value::Array(items) => items.iter_mut().for_each(no_empty_list),
        Value::Object(map) => map.values_mut().for_each(no_empty_list),
        _ => {}
    }
}

fn service(service: &mut Value) {
    for pointer in [
        "/environment",
        "/labels",
        "/annotations",
        "/sysctls",
        "/build/args",
        "/build/labels",
        "/build/additional_contexts",
        "/deploy/labels",
    ] {
        at(service, pointer, key_value);
    }
    for pointer in ["/extra_hosts", "/build/extra_hosts"] {
        at(service, pointer, hosts);
    }
    for pointer in ["/dns", "/dns_search", "/tmpfs", "/label_file"] {
        at(service, pointer, |it| {
            if it.is_string() {
                *it = json!([it.take()]);
            }
        });
    }
    at(service, "/ports", |it| each(it, port));
    at(service, "/volumes", |it| each(it, volume));
    at(service, "/env_file", |it| each(it, |it| default(it, "required", &json!(true))));
    at(service, "/depends_on", |it| {
        for it in it.as_object_mut().into_iter().flat_map(|it| it.values_mut()) {
            default(it, "required", &json!(true));
            default(it, "condition", &json!("service_started"));
        }
    });
    at(service, "/secrets", |it| {
        each(it, |it| {
            let target = format!("/run/secrets/{}", it["source"].as_str().unwrap_or_default());
            default(it, "target", &json!(target));
        });
    });
    for pointer in ["/gpus", "/deploy/resources/reservations/devices"] {
        at(service, pointer, |it| each(it, |it| default(it, "count", &json!("all"))));
    }
    at(service, "/build", |it| default(it, "context", &json!(".")));
}

fn at(value: &mut Value, pointer: &str, change: impl Fn(&mut Value)) {
    if let Some(it) = value.pointer_mut(pointer) {
        change(it);
    }
}

fn each(list: &mut Value, change: impl Fn(&mut Value)) {
    list.as_array_mut().into_iter().flatten().for_each(change);
}

fn default(value: &mut Value, key: &str, default: &Value) {
    if let Some(map) = value.as_object_mut()
        && map.get(key) == Some(default)
    {
        map.remove(key);
    }
}

fn port(port: &mut Value) {
    default(port, "mode", &json!("ingress"));
    default(port, "protocol", &json!("tcp"));
    at(port, "/published", |it| *it = json!(text(it)));
}

fn volume(volume: &mut Value) {
    default(volume, "volume", &json!({}));
    at(volume, "/volume/labels", key_value);
}

fn key_value(value: &mut Value) {
    let entries: Vec<(String, Value)> = match &*value {
        Value::Object(map) => map.iter().map(|(key, it)| (key.clone(), it.clone())).collect(),
        Value::Array(items) => items
            .iter()
            .map(|it| match text(it).split_once('=') {
                Some((key, value)) => (key.to_owned(), json!(value)),
                None => (text(it), Value::Null),
            })
            .collect(),
        _ => return,
    };
    if entries.is_empty() {
        *value = Value::Null;
        return;
    }
    let text = |it: Value| if it.is_null() { it } else { json!(text(&it)) };
    *value = Value::Object(entries.into_iter().map(|(key, it)| (key, text(it))).collect());
}

fn hosts(value: &mut Value) {
    let mut items = match value.take() {
        Value::Object(map) => map
            .iter()
            .flat_map(|(host, it)| match it {
                Value::Array(items) => items.iter().map(|it| json!(format!("{host}={}", text(it)))).collect(),
                it => vec![json!(format!("{host}={}", text(it)))],
            })
            .collect(),
        Value::Array(items) => items,
        _ => return,
    };
    items.sort_by_key(text);
    *value = Value::Array(items);
}

/// A scalar as Go prints it: `%v`.
fn text(value: &Value) -> String {
    let float = match value {
        Value::String(it) => return it.clone(),
        Value::Number(it) if it.is_f64() => it.as_f64().unwrap(),
        it => return it.to_string(),
    };
    let shortest = format!("{float:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap();
    let exponent: i32 = exponent.parse().unwrap();
    match exponent {
        -4..6 => float.to_string(),
        _ => format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()),
    }
}

#[test]
fn numbers_are_printed_as_go_prints_them() {
    for (number, expected) in [
        (1.5e7, "1.5e+07"),
        (123_456_789.5, "1.234567895e+08"),
        (1e21, "1e+21"),
        (1e-7, "1e-07"),
        (-0.5, "-0.5"),
        (1.0, "1"),
    ] {
        assert_eq!(text(&json!(number)), expected);
    }
}
