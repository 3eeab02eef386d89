//! Merges compose files by the rules of the compose specification, as compose 2.40 applies them.
//!
//! Short forms become long ones (`8080:80` becomes `target` and `published`), because their parts are merged. Defaults
//! are not filled in. Variables stay, and so do paths, which are relative to the folder of the first file. `x-network`
//! merges by conlink's own rules.
//!
//! Architecture invariant: no I/O.

mod emit;
mod explain;
mod finish;
mod form;
mod merge;
mod mount;
mod path;
mod port;
mod rule;
mod tag;
mod unique;

use crate::config::{
    Diagnostic, Env, FileId, Interpolation, Node, Sources, Span, Value, documents, reads_as_text, tidy,
};

pub use explain::{Effect, Setting};
pub(crate) use path::cleaned;

pub use merge::NOT_FOLLOWED;

use merge::Merger;
use tag::Removal;

/// A merged compose file.
#[derive(Debug)]
pub struct Merged<'a> {
    sources: &'a Sources,
    /// None if all files are empty.
    node: Option<Node>,
    documents: Vec<Document>,
}

/// A document in the form to merge, and what it removes from earlier ones.
#[derive(Debug)]
struct Document {
    node: Node,
    removals: Vec<Removal>,
}

impl Merged<'_> {
    /// The compose document in block style. Keys are in the order of their first appearance.
    pub fn to_yaml(&self) -> String {
        self.node.as_ref().map_or_else(|| "{}\n".to_owned(), emit::document)
    }

    /// The same as JSON, which has no tags: see [`Merged::has_tags`].
    pub fn to_json(&self) -> serde_json::Value {
        let Some(node) = &self.node else { return serde_json::json!({}) };
        let mut node = node.clone();
        tag::drop_reset(&mut node);
        node.to_json()
    }

    /// Whether the document has `!reset` or `!override`, which stay below services with `extends`.
    pub fn has_tags(&self) -> bool {
        self.node.as_ref().is_some_and(has_tags)
    }

    /// Every place that sets the value at a dotted path (`services.r0.image`), in the order of files; the last one that is
    /// [`Effect::Kept`] wins. Lists and maps show what each file adds. An entry of a list is named by its index, from 0, or
    /// by its key: `services.r0.volumes./data`. Empty if no file sets it.
    pub fn explain(&self, path: &str) -> Vec<Setting> {
        explain::explain(self.sources, self.node.as_ref(), &self.documents, path)
    }
}

/// Merges files in order; later ones override. Returns what could be merged, and all mistakes.
pub fn merge<'a>(sources: &'a Sources, files: &[FileId]) -> (Merged<'a>, Vec<Diagnostic>) {
    merge_all(Merger::default(), sources, files, None, &mut Vec::new())
}

/// As [`merge`], after interpolating each file. A remaining dollar sign is doubled, as in compose's own output, so that
/// compose reads the same values again.
pub fn merge_interpolated<'a>(
    sources: &'a Sources,
    files: &[FileId],
    env: &Env,
) -> (Merged<'a>, Vec<Diagnostic>) {
    merge_all(Merger::default(), sources, files, Some(env), &mut Vec::new())
}

/// The values that containers get, by [`evaluate`].
#[derive(Debug, Default)]
pub struct Evaluated {
    /// None if all files are empty.
    pub node: Option<Node>,
    pub diagnostics: Vec<Diagnostic>,
    /// The strings that could not be interpolated. Each has a diagnostic.
    pub broken: Vec<Span>,
}

/// Merges files in order, after interpolating each: values are as containers get them, with single dollar signs.
pub fn evaluate(sources: &Sources, files: &[FileId], env: &Env) -> Evaluated {
    let mut broken = Vec::new();
    let (Merged { mut node, .. }, diagnostics) =
        merge_all(Merger::last(), sources, files, Some(env), &mut broken);
    if let Some(node) = &mut node {
        // While merging they are doubled: a single one would be a variable, which parts no value.
        single_dollars(node);
    }
    Evaluated { node, diagnostics, broken }
}

fn merge_all<'a>(
    mut merger: Merger,
    sources: &'a Sources,
    files: &[FileId],
    env: Option<&Env>,
    broken: &mut Vec<Span>,
) -> (Merged<'a>, Vec<Diagnostic>) {
    let mut interpolation = env.map(|it| Interpolation::new(it, sources));
    for file in files {
        // Compose merges the documents of a file as if each were a file.
        for mut document in documents(sources, *file, &mut merger.diagnostics) {
            check_keys(&document, sources, &mut merger.diagnostics);
            tag::prepare(&mut document, false);
            if let Some(it) = &mut interpolation {
                it.node(&mut document, &mut merger.diagnostics);
                double_dollars(&mut document);
            }
            merger.add(document);
        }
    }
    broken.extend(interpolation.into_iter().flat_map(|it| it.broken));
    let Merger { mut node, mut diagnostics, documents, tagged, is_last, .. } = merger;
    if let Some(node) = &mut node {
        finish::finish(node, &mut Vec::new(), &mut diagnostics);
        if !is_last {
            tag::put_back(node, &tagged);
        }
    }
    tidy(&mut diagnostics);
    (Merged { sources, node, documents }, diagnostics)
}

/// Reports keys that are not strings: YAML allows them, and compose does not.
fn check_keys(node: &Node, sources: &Sources, diagnostics: &mut Vec<Diagnostic>) {
    match &node.value {
        Value::Map(entries) => {
            for (key, node) in entries {
                if sources.slice(key.span) == key.text && !reads_as_text(&key.text) {
                    let bad =
                        Diagnostic::new(key.span, format!("expected a string as key, found `{}`", key.text));
                    diagnostics.push(bad.help("put it in quotes"));
                }
                check_keys(node, sources, diagnostics);
            }
        }
        Value::List(items) => items.iter().for_each(|it| check_keys(it, sources, diagnostics)),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => {}
    }
}

fn has_tags(node: &Node) -> bool {
    node.tag.is_some()
        || match &node.value {
            Value::Map(entries) => entries.iter().any(|(_, it)| has_tags(it)),
            Value::List(items) => items.iter().any(has_tags),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => false,
        }
}

fn double_dollars(node: &mut Node) {
    texts(node, &|it| it.replace('$', "$$"));
}

fn single_dollars(node: &mut Node) {
    texts(node, &|it| it.replace("$$", "$"));
}

/// Changes every text in a tree.
fn texts(node: &mut Node, change: &impl Fn(&str) -> String) {
    match &mut node.value {
        Value::Text(text) => *text = change(text),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, it)| texts(it, change)),
        Value::List(items) => items.iter_mut().for_each(|it| texts(it, change)),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {}
    }
}

#[cfg(test)]
mod tests;
