//! The last steps after merging.

use std::collections::BTreeMap;

use crate::compose::form::has_variable;
use crate::compose::rule::{Entry, Rule, refuses_twice, rule};
use crate::compose::tag::OWN;
use crate::compose::unique::repeated;
use crate::config::{Diagnostic, Key, Node, Severity, Value, merge_own, merge_text};

/// Brings the value at a path, and all below, into the form that is shown, and checks what only the whole can tell.
pub(super) fn finish(node: &mut Node, path: &mut Vec<String>, diagnostics: &mut Vec<Diagnostic>) {
    if path.last().is_some_and(|it| it == OWN) {
        let service = match path.as_slice() {
            [services, service, _] if services == "services" => Some(service.as_str()),
            _ => None,
        };
        merge_own(node, service, diagnostics);
        return;
    }
    match rule(path) {
        Rule::KeyValue => key_value(node),
        Rule::Keyed(Entry::Port) => ports(node, diagnostics),
        _ if refuses_twice(path) => twice(node, path, diagnostics),
        _ => {}
    }
    match &mut node.value {
        Value::Map(entries) => {
            for (key, value) in entries {
                path.push(key.text.clone());
                finish(value, path, diagnostics);
                path.pop();
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push(index.to_string());
                finish(item, path, diagnostics);
                path.pop();
            }
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => {}
    }
}

/// Compose replaces variables in the entries of a list, and not in the keys of a map. So a key from a list that has
/// one stays in a list.
fn key_value(node: &mut Node) {
    let Value::Map(entries) = &mut node.value else { return };
    if !entries.iter().any(|it| is_from_list(it) && has_variable(&it.0.text)) {
        for entry in entries.iter_mut().filter(|it| is_from_list(it)) {
            entry.0.text = entry.0.text.replace("$$", "$");
        }
        return;
    }
    let item = |(key, value): (Key, Node)| {
        let name = match is_from_list(&(key.clone(), value.clone())) {
            true => key.text,
            false => key.text.replace('$', "$$"),
        };
        let text = match merge_text(&value) {
            Some(value) => format!("{name}={value}"),
            None => name,
        };
        Node::new(Value::Text(text), value.span)
    };
    node.value = Value::List(std::mem::take(entries).into_iter().map(item).collect());
}

/// Key and value of an entry of a list stand at one place.
fn is_from_list((key, value): &(Key, Node)) -> bool {
    key.span == value.span
}

/// A port that is published by a number and by the same text is two for compose, and the engine refuses the second.
fn ports(node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let Value::List(items) = &node.value else { return };
    let key = |it: &Node| {
        let get = |key: &str| it.get(key).and_then(merge_text);
        let host_ip = get("host_ip").unwrap_or_else(|| "0.0.0.0".to_owned());
        let protocol = get("protocol").unwrap_or_else(|| "tcp".to_owned());
        Some((host_ip, get("published")?, get("target")?, protocol))
    };
    let mut known: BTreeMap<_, &Node> = BTreeMap::new();
    for (key, item) in items.iter().filter_map(|it| Some((key(it)?, it))) {
        if let Some(first) = known.insert(key, item) {
            let message = "compose publishes this port twice: it does not merge a number with a text";
            let mut warning = Diagnostic::new(item.span, message).note(first.span, "and here");
            warning.severity = Severity::Warning;
            diagnostics.push(warning.help("put `published` in quotes"));
        }
    }
}

fn twice(node: &Node, path: &[String], diagnostics: &mut Vec<Diagnostic>) {
    let Value::List(items) = &node.value else { return };
    let name = path.last().map_or("", String::as_str);
    for (item, first) in repeated(items) {
        let message = format!("`{name}` has the same entry twice, which compose refuses");
        let twice = Diagnostic::new(item.span, message).note(first.span, "first here");
        diagnostics.push(twice.help("keep one of them"));
    }
}
