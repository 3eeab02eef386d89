//! Finds where a value comes from.

use std::collections::BTreeSet;
use std::fmt;

use crate::compose::Document;
use crate::compose::rule::{Rule, rule};
use crate::compose::unique::{entry_key, text_key};
use crate::config::{Node, Sources, Span, Value};

/// The value that one file sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// `FILE:LINE:COL`; that of the anchor if the value is an alias.
    pub place: String,
    /// The same place, to be told apart by file.
    pub span: Span,
    /// On one line, as JSON unless it is plain text. For a removal, the tag.
    pub value: String,
    pub effect: Effect,
}

/// Its effect on the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is in the merged document, alone or together with others.
    Kept,
    /// A part of it is in the merged document.
    Partly,
    /// Later files override or remove it.
    Overridden,
    /// It removes values of earlier files.
    Removes,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "kept",
            Self::Partly => "kept in part",
            Self::Overridden => "overridden",
            Self::Removes => "removes",
        })
    }
}

/// A step from a value to one within it.
enum Step {
    Key(String),
    /// The entries of a list with this key, by the rule of the list.
    Entry(String),
    /// The entry of a list that came from this place.
    From(Span),
}

pub(super) fn explain(
    sources: &Sources,
    merged: Option<&Node>,
    documents: &[Document],
    path: &str,
) -> Vec<Setting> {
    let trees = || merged.into_iter().chain(documents.iter().rev().map(|it| &it.node));
    let Some(steps) = trees().find_map(|it| resolve(it, path, &mut Vec::new())) else { return Vec::new() };
    let mut kept = BTreeSet::new();
    for node in merged.into_iter().flat_map(|it| find(it, &steps)) {
        leaves(node, &mut kept);
    }
    let mut settings = Vec::new();
    for document in documents {
        for it in document.removals.iter().filter(|it| leads_through(&steps, &it.path)) {
            let (place, value) = (sources.place(it.span), it.tag.clone());
            settings.push(Setting { place, span: it.span, value, effect: Effect::Removes });
        }
        for node in find(&document.node, &steps) {
            let mut own = BTreeSet::new();
            leaves(node, &mut own);
            let effect = match own.intersection(&kept).count() {
                0 => Effect::Overridden,
                count if count == own.len() => Effect::Kept,
                _ => Effect::Partly,
            };
            // Nothing is what most attributes ignore.
            if !matches!(node.value, Value::Null) || effect == Effect::Kept {
                let (place, value) = (sources.place(node.span), shown(node));
                settings.push(Setting { place, span: node.span, value, effect });
            }
        }
    }
    settings
}

fn shown(node: &Node) -> String {
    match &node.value {
        Value::Text(it) if !it.contains(char::is_control) => it.clone(),
        Value::Int(_) | Value::Float(_) => node.plain.clone().unwrap_or_else(|| node.to_json().to_string()),
        _ => node.to_json().to_string(),
    }
}

/// Is the value at a path on the way, or at its end?
fn leads_through(steps: &[Step], path: &[String]) -> bool {
    let is_key = |(step, name): (&Step, &String)| matches!(step, Step::Key(it) if it == name);
    path.len() <= steps.len() && steps.iter().zip(path).all(is_key)
}

/// The values at the end of a way: of a list there may be several.
fn find<'a>(node: &'a Node, steps: &[Step]) -> Vec<&'a Node> {
    let mut found = vec![node];
    let mut path = Vec::new();
    for step in steps {
        found = found.into_iter().flat_map(|it| within(it, step, &path)).collect();
        path.push(match step {
            Step::Key(it) | Step::Entry(it) => it.clone(),
            Step::From(_) => String::new(),
        });
    }
    found
}

fn within<'a>(node: &'a Node, step: &Step, path: &[String]) -> Vec<&'a Node> {
    match (&node.value, step) {
        (Value::Map(_), Step::Key(key)) => node.get(key).into_iter().collect(),
        (Value::List(items), Step::Entry(key)) => {
            items.iter().filter(|it| item_key(it, path).as_ref() == Some(key)).collect()
        }
        (Value::List(items), Step::From(span)) => items.iter().filter(|it| it.span == *span).collect(),
        _ => Vec::new(),
    }
}

/// What tells the entries of the list at a path apart.
fn item_key(item: &Node, path: &[String]) -> Option<String> {
    match rule(path) {
        Rule::Keyed(entry) => entry_key(item, entry),
        Rule::Texts => text_key(item),
        _ => None,
    }
}

/// The way that a dotted path names in a tree. Keys may have dots themselves.
fn resolve(node: &Node, path: &str, above: &mut Vec<String>) -> Option<Vec<Step>> {
    if path.is_empty() {
        return Some(Vec::new());
    }
    let ends = path.match_indices(['.', '[']).map(|(at, _)| at).chain([path.len()]);
    // The longest name first: of `a.b`, the key `a.b` before the key `b` in `a`.
    for end in ends.collect::<Vec<_>>().into_iter().rev() {
        let (name, rest) = path.split_at(end);
        let name = name.strip_suffix(']').unwrap_or(name);
        let rest = rest.strip_prefix(['.', '[']).unwrap_or(rest);
        let Some((step, below)) = enter(node, name, above) else { continue };
        above.push(name.to_owned());
        let steps = resolve(below, rest, above);
        above.pop();
        if let Some(mut steps) = steps {
            steps.insert(0, step);
            return Some(steps);
        }
    }
    None
}

fn enter<'a>(node: &'a Node, name: &str, path: &[String]) -> Option<(Step, &'a Node)> {
    match &node.value {
        Value::Map(_) => Some((Step::Key(name.to_owned()), node.get(name)?)),
        Value::List(items) => {
            let by_key = items.iter().find(|it| item_key(it, path).as_deref() == Some(name));
            let item = by_key.or_else(|| items.get(name.parse::<usize>().ok()?))?;
            let step = item_key(item, path).map_or(Step::From(item.span), Step::Entry);
            Some((step, item))
        }
        _ => None,
    }
}

/// The places of all scalars, and of what is empty.
fn leaves(node: &Node, places: &mut BTreeSet<Span>) {
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => entries.iter().for_each(|(_, it)| leaves(it, places)),
        Value::List(items) if !items.is_empty() => items.iter().for_each(|it| leaves(it, places)),
        _ => {
            places.insert(node.span);
        }
    }
}
