//! Placeholders such as `{{index}}`, whose values differ between replicas.

use std::collections::BTreeMap;

use crate::config::diagnostic::Diagnostic;
use crate::config::merge::scalar_text;
use crate::config::source::{Sources, Spanned};
use crate::config::yaml::{Node, Value};

/// The values of placeholders.
pub type Vars = BTreeMap<&'static str, String>;

/// Example values for the first replica, to find mistakes before any container runs.
pub(super) fn sample(link: &Node) -> Vars {
    let text = |key: &str| link.get(key).and_then(scalar_text).filter(|it| !it.contains("{{"));
    let service = text("service").unwrap_or_else(|| "svc".to_owned());
    let container = text("container").unwrap_or_else(|| format!("{service}-1"));
    Vars::from([
        ("index", "1".to_owned()),
        ("service", service),
        ("project", "project".to_owned()),
        ("container", container),
    ])
}

/// Does any string contain a placeholder?
pub(super) fn is_in(node: &Node) -> bool {
    match &node.value {
        Value::Text(it) => it.contains("{{"),
        Value::List(items) => items.iter().any(is_in),
        Value::Map(entries) => entries.iter().any(|(_, it)| is_in(it)),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => false,
    }
}

/// Replaces the placeholders in every string.
pub(super) fn fill(node: &mut Node, vars: &Vars, sources: &Sources, diagnostics: &mut Vec<Diagnostic>) {
    match &mut node.value {
        Value::Text(text) if text.contains("{{") => {
            let scalar = Spanned { value: std::mem::take(text), span: node.span };
            *text = filled(&scalar, vars, sources, diagnostics);
        }
        Value::List(items) => items.iter_mut().for_each(|it| fill(it, vars, sources, diagnostics)),
        Value::Map(entries) => {
            let ours = entries.iter_mut().filter(|(key, _)| !key.text.starts_with("x-"));
            ours.for_each(|(_, it)| fill(it, vars, sources, diagnostics));
        }
        Value::Text(_) | Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {}
    }
}

fn filled(
    text: &Spanned<String>,
    vars: &Vars,
    sources: &Sources,
    diagnostics: &mut Vec<Diagnostic>,
) -> String {
    let mut out = String::new();
    let mut rest = text.value.as_str();
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let start = text.value.len() - after.len() - 2;
        let Some((name, after)) = after.split_once("}}") else {
            let span = sources.part(text, start..text.value.len());
            let message = "`{{` is never closed";
            diagnostics.push(Diagnostic::new(span, message).help(format!("expected one of {}", known(vars))));
            return out;
        };
        match vars.get(name.trim()) {
            Some(value) => out.push_str(value),
            None => {
                let span = sources.part(text, start..text.value.len() - after.len());
                let message = format!("unknown placeholder `{{{{{name}}}}}`");
                diagnostics
                    .push(Diagnostic::new(span, message).help(format!("expected one of {}", known(vars))));
            }
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn known(vars: &Vars) -> String {
    let names: Vec<String> = vars.keys().map(|it| format!("`{{{{{it}}}}}`")).collect();
    names.join(", ")
}
