//! The keys that identify entries of lists and maps.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;

use crate::compose::mount;
use crate::compose::rule::Entry;
use crate::config::{Key, Node, Value, merge_text};

/// The key of an entry of a list; None if the entry is its own key.
pub(super) fn entry_key(node: &Node, entry: Entry) -> Option<String> {
    let get = |key: &str| node.get(key).and_then(merge_text);
    let short = merge_text(node);
    match entry {
        Entry::Port => Some(match short {
            Some(it) => it,
            None => {
                // For compose a number and the same text are two ports.
                let published = match node.get("published").map(|it| &it.value) {
                    Some(Value::Int(it)) => format!("number {it}"),
                    _ => get("published").unwrap_or_default(),
                };
                let host_ip = get("host_ip").unwrap_or_else(|| "0.0.0.0".to_owned());
                let protocol = get("protocol").unwrap_or_else(|| "tcp".to_owned());
                format!("{host_ip} {published}>{}/{protocol}", get("target")?)
            }
        }),
        Entry::Volume => match short {
            Some(it) => mount::parse(&it).ok().map(|it| it.target),
            None => get("target"),
        },
        Entry::Device => match short {
            Some(it) => mount::device(&it).map(|(_, target, _)| target.to_owned()),
            None => get("target"),
        },
        Entry::Secret => get("target").or_else(|| Some(format!("/run/secrets/{}", get("source")?))),
        Entry::Config => get("target").or_else(|| Some(format!("/{}", get("source")?))),
        Entry::EnvFile => get("path"),
        Entry::Expose => short,
        Entry::BuildSecret => None,
    }
}

/// What tells texts of a list apart.
pub(super) fn text_key(node: &Node) -> Option<String> {
    let text = merge_text(node)?;
    Some(text.split_once('=').map_or(text.as_str(), |(key, _)| key).to_owned())
}

/// Keeps the last of several entries with the same key, at the place of the first.
pub(super) fn unique(node: &mut Node, key: impl Fn(&Node) -> Option<String>) {
    let Value::List(items) = &mut node.value else { return };
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut kept: Vec<Node> = Vec::new();
    for item in std::mem::take(items) {
        let key = key(&item);
        match key.as_ref().and_then(|it| known.get(it)).and_then(|it| kept.get_mut(*it)) {
            Some(earlier) => *earlier = item,
            None => {
                known.extend(key.map(|it| (it, kept.len())));
                kept.push(item);
            }
        }
    }
    *items = kept;
}

/// Puts entries into a map: `join` says what becomes of a key that both have.
pub(super) fn put(
    entries: &mut Vec<(Key, Node)>,
    more: impl IntoIterator<Item = (Key, Node)>,
    mut join: impl FnMut(&mut (Key, Node), (Key, Node)),
) {
    let mut known: BTreeMap<String, usize> =
        entries.iter().enumerate().map(|(at, (key, _))| (key.text.clone(), at)).collect();
    for entry in more {
        match known.get(&entry.0.text).and_then(|it| entries.get_mut(*it)) {
            Some(earlier) => join(earlier, entry),
            None => {
                known.insert(entry.0.text.clone(), entries.len());
                entries.push(entry);
            }
        }
    }
}

/// Every item that is there before already, with the first such.
pub(super) fn repeated(items: &[Node]) -> Vec<(&Node, &Node)> {
    let mut known: BTreeMap<String, &Node> = BTreeMap::new();
    let mut found = Vec::new();
    for item in items {
        match known.entry(item.to_json().to_string()) {
            Place::Occupied(first) => found.push((item, *first.get())),
            Place::Vacant(place) => drop(place.insert(item)),
        }
    }
    found
}
