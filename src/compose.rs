//! Compose files into one, by the compose specification's rules of merging as compose 2.40 goes by them.
//!
//! What files say in short is said at length in the answer (`8080:80` as `target` and `published`), since the parts
//! are what is merged. Defaults are not filled in; variables stay, and paths, which for every file are relative to
//! the folder of the first. `x-network` merges as conlink itself merges it.
//!
//! Architecture invariant: no I/O.

mod emit;
mod explain;
mod finish;
mod form;
mod merge;
mod mount;
mod port;
mod rule;
mod tag;
mod unique;

use crate::config::{
    Diagnostic, Env, FileId, Node, Sources, Span, Value, documents, interpolate, reads_as_text, tidy,
};

pub use explain::{Effect, Setting};

use merge::Merger;
use tag::Removal;

/// Several compose files as one.
#[derive(Debug)]
pub struct Merged<'a> {
    sources: &'a Sources,
    /// None where no file says anything.
    node: Option<Node>,
    documents: Vec<Document>,
}

/// What a document adds, in the form that it is merged in, and what it removes before.
#[derive(Debug)]
struct Document {
    node: Node,
    removals: Vec<Removal>,
}

impl Merged<'_> {
    /// One compose document in block style. Keys are in the order in which files first name them.
    pub fn to_yaml(&self) -> String {
        self.node.as_ref().map_or_else(|| "{}\n".to_owned(), emit::document)
    }

    pub fn to_json(&self) -> serde_json::Value {
        self.node.as_ref().map_or_else(|| serde_json::json!({}), Node::to_json)
    }

    /// Every place that sets the value at a dotted path (`services.r0.image`), in the order of files, so that the
    /// last that is [`Effect::Kept`] is the one that counts. Lists and maps show what each file adds. An entry of a
    /// list is named by its index, from 0, or by what tells it apart: `services.r0.volumes./data`. Empty where no
    /// file says anything of it.
    pub fn explain(&self, path: &str) -> Vec<Setting> {
        explain::explain(self.sources, self.node.as_ref(), &self.documents, path)
    }
}

/// Merges files in order: later ones override. What is wrong comes with what could be merged.
pub fn merge<'a>(sources: &'a Sources, files: &[FileId]) -> (Merged<'a>, Vec<Diagnostic>) {
    merge_all(Merger::default(), sources, files, None, &mut Vec::new())
}

/// As [`merge`], with the variables of each file replaced before. A dollar sign that is left is doubled, as compose
/// does where it prints what it has merged: to compose the answer means what the files mean.
pub fn merge_interpolated<'a>(
    sources: &'a Sources,
    files: &[FileId],
    env: &Env,
) -> (Merged<'a>, Vec<Diagnostic>) {
    merge_all(Merger::default(), sources, files, Some(env), &mut Vec::new())
}

/// What containers would get of the files: [`evaluate`].
#[derive(Debug, Default)]
pub struct Evaluated {
    /// None where no file says anything.
    pub node: Option<Node>,
    pub diagnostics: Vec<Diagnostic>,
    /// The strings whose variables could not be replaced, which is among the diagnostics.
    pub broken: Vec<Span>,
}

/// Merges files in order, with the variables of each replaced before: values as containers would get them, with single
/// dollar signs.
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
    for file in files {
        // Compose merges the documents of a file as if each were a file.
        for mut document in documents(sources, *file, &mut merger.diagnostics) {
            check_keys(&document, sources, &mut merger.diagnostics);
            tag::prepare(&mut document, false);
            if let Some(env) = env {
                interpolate(&mut document, env, sources, &mut merger.diagnostics, broken);
                double_dollars(&mut document);
            }
            merger.add(document);
        }
    }
    let Merger { mut node, mut diagnostics, documents, .. } = merger;
    if let Some(node) = &mut node {
        finish::finish(node, &mut Vec::new(), &mut diagnostics);
    }
    tidy(&mut diagnostics);
    (Merged { sources, node, documents }, diagnostics)
}

/// Compose takes no number, boolean or nothing for a key, though YAML does.
fn check_keys(node: &Node, sources: &Sources, diagnostics: &mut Vec<Diagnostic>) {
    match &node.value {
        Value::Map(entries) => {
            for (key, node) in entries {
                if sources.slice(key.span) == key.text && !reads_as_text(&key.text) {
                    let bad = Diagnostic::new(key.span, format!("the key `{}` is no string", key.text));
                    diagnostics.push(bad.help("put it in quotes"));
                }
                check_keys(node, sources, diagnostics);
            }
        }
        Value::List(items) => items.iter().for_each(|it| check_keys(it, sources, diagnostics)),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => {}
    }
}

fn double_dollars(node: &mut Node) {
    texts(node, &|it| it.replace('$', "$$"));
}

fn single_dollars(node: &mut Node) {
    texts(node, &|it| it.replace("$$", "$"));
}

/// Changes every text below.
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
