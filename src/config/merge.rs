//! Merges descriptions: maps merge, lists append, the later of two scalars wins.

use std::collections::BTreeMap;

use crate::config::diagnostic::Diagnostic;
use crate::config::yaml::{Key, Node, Value};

/// Properties for which one string stands for a list of one.
pub(super) const ONE_OR_MANY: [&str; 6] = ["ip", "route", "netem", "netem-in", "ethtool", "forward"];

const OVERRIDE: &str = "!override";
const RESET: &str = "!reset";

/// Merges `later` into `node`. `key` is the property that both are the value of.
pub(super) fn merge(node: &mut Node, later: Node, key: &str, diagnostics: &mut Vec<Diagnostic>) {
    if later.tag.as_deref() == Some(OVERRIDE) || is_scalar(&later) && is_scalar(node) {
        *node = later;
        return;
    }
    let list_of_one = ONE_OR_MANY.contains(&key) && (is_scalar(node) || is_scalar(&later));
    match (&mut node.value, later.value) {
        (_, Value::Null) => {}
        (nothing @ Value::Null, value) => {
            *nothing = value;
            (node.span, node.plain) = (later.span, later.plain);
        }
        (Value::Map(entries), Value::Map(more)) => {
            for (key, value) in more {
                merge_entry(entries, key, value, diagnostics);
            }
        }
        (Value::List(items), Value::List(more)) => items.extend(more),
        (Value::List(items), value) if list_of_one => items.push(Node { value, ..later }),
        (scalar, Value::List(more)) if list_of_one => {
            let value = std::mem::replace(scalar, Value::Null);
            let first = Node { value, span: node.span, tag: None, plain: node.plain.take() };
            *scalar = Value::List(std::iter::once(first).chain(more).collect());
        }
        (_, value) => {
            let later = Node { value, ..later };
            let message = format!("`{key}` is {} here and {} elsewhere", later.type_name(), node.type_name());
            let help = "merged values must have the same type; `!override` replaces the earlier one";
            diagnostics.push(Diagnostic::new(later.span, message).note(node.span, "elsewhere").help(help));
        }
    }
}

fn merge_entry(entries: &mut Vec<(Key, Node)>, key: Key, later: Node, diagnostics: &mut Vec<Diagnostic>) {
    if later.tag.as_deref() == Some(RESET) {
        entries.retain(|(it, _)| it.text != key.text);
        return;
    }
    match entries.iter_mut().find(|(it, _)| it.text == key.text) {
        Some((_, node)) => merge(node, later, &key.text, diagnostics),
        None => entries.push((key, later)),
    }
}

/// Links of one service or container with one `dev` become one link, at the place of the first.
/// `service` owns the links that name no service or container.
pub(super) fn merge_links(
    links: Vec<Node>,
    service: Option<&str>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Node> {
    let mut merged: Vec<Node> = Vec::new();
    let mut known: BTreeMap<LinkKey, usize> = BTreeMap::new();
    for link in links {
        let key = link_key(&link, service);
        let first = key.as_ref().and_then(|it| known.get(it)).and_then(|it| merged.get_mut(*it));
        match first {
            Some(first) => merge(first, link, "links", diagnostics),
            None => {
                known.extend(key.map(|it| (it, merged.len())));
                merged.push(link);
            }
        }
    }
    merged
}

/// Finishes one `x-network` of a compose file, that of a service or the top level's, once all files are merged:
/// its links become one where they are the same, and its tags have done their work.
pub(crate) fn merge_own(node: &mut Node, service: Option<&str>, diagnostics: &mut Vec<Diagnostic>) {
    if let Value::Map(entries) = &mut node.value {
        for (_, node) in entries.iter_mut().filter(|(key, _)| key.text == "links") {
            if let Value::List(links) = &mut node.value {
                *links = merge_links(std::mem::take(links), service, diagnostics);
            }
        }
    }
    strip(node);
}

/// The identity of a link: its owner and its `dev`.
type LinkKey = (&'static str, String, String);

/// None if it is unknown.
fn link_key(link: &Node, service: Option<&str>) -> Option<LinkKey> {
    let text = |key: &str| link.get(key).and_then(scalar_text);
    let dev = match link.get("dev") {
        Some(it) if !matches!(it.value, Value::Null) => scalar_text(it)?,
        _ => "eth0".to_owned(),
    };
    match (text("service"), text("container")) {
        (Some(service), None) => Some(("service", service, dev)),
        (None, Some(container)) => Some(("container", container, dev)),
        (None, None) => Some(("service", service?.to_owned(), dev)),
        (Some(_), Some(_)) => None,
    }
}

/// Does the tag discard earlier values?
pub(super) fn replaces(node: &Node) -> bool {
    matches!(node.tag.as_deref(), Some(OVERRIDE | RESET))
}

pub(super) fn is_reset(node: &Node) -> bool {
    node.tag.as_deref() == Some(RESET)
}

/// Removes from `earlier` what the tags in `node` replace or reset, and the tags with what is reset. Items of lists
/// have no place that could be found again: their tags stay, for [`merge_links`].
pub(super) fn settle(node: &mut Node, earlier: &mut [&mut Node]) {
    let Value::Map(entries) = &mut node.value else { return };
    entries.retain_mut(|(key, value)| {
        if replaces(value) {
            for it in earlier.iter_mut() {
                remove(it, &key.text);
            }
        }
        let keep = !is_reset(value);
        let mut below: Vec<&mut Node> = earlier.iter_mut().filter_map(|it| get_mut(it, &key.text)).collect();
        settle(value, &mut below);
        if replaces(value) {
            value.tag = None;
        }
        keep
    });
}

/// Removes what is left of tags once everything is merged.
pub(super) fn strip(node: &mut Node) {
    node.tag = None;
    match &mut node.value {
        Value::Map(entries) => {
            entries.retain(|(_, it)| !is_reset(it));
            entries.iter_mut().for_each(|(_, it)| strip(it));
        }
        Value::List(items) => {
            items.retain(|it| !is_reset(it));
            items.iter_mut().for_each(strip);
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => {}
    }
}

/// Reports unknown tags.
pub(super) fn check_tags(node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    if let Some(tag) = node.tag.as_ref().filter(|_| !replaces(node)) {
        let message = format!("unknown tag `{tag}`");
        diagnostics
            .push(Diagnostic::new(node.span, message).help(format!("expected `{OVERRIDE}` or `{RESET}`")));
    }
    match &node.value {
        Value::Map(entries) => {
            let ours = entries.iter().filter(|(key, _)| !key.text.starts_with("x-"));
            ours.for_each(|(_, it)| check_tags(it, diagnostics));
        }
        Value::List(items) => items.iter().for_each(|it| check_tags(it, diagnostics)),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => {}
    }
}

fn get_mut<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    match &mut node.value {
        Value::Map(entries) => entries.iter_mut().find(|(it, _)| it.text == key).map(|(_, it)| it),
        _ => None,
    }
}

fn remove(node: &mut Node, key: &str) {
    if let Value::Map(entries) = &mut node.value {
        entries.retain(|(it, _)| it.text != key);
    }
}

/// A scalar as text, a number as it was written; None for lists, maps and nothing.
pub fn scalar_text(node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(it) => Some(it.clone()),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            Some(node.plain.clone().unwrap_or_else(|| node.to_json().to_string()))
        }
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

fn is_scalar(node: &Node) -> bool {
    !matches!(node.value, Value::List(_) | Value::Map(_) | Value::Null)
}
