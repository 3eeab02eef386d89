//! Merges each document over the earlier ones.

use std::collections::BTreeSet;

use crate::compose::Document;
use crate::compose::form::Form;
use crate::compose::rule::{Rule, refuses_twice, rule};
use crate::compose::tag::{self, Tags};
use crate::compose::unique::{entry_key, put, text_key, unique};
use crate::config::{Diagnostic, Key, Node, Severity, Value, merge_text};

/// The code of the warning about `include` or `extends`, which stands for what is not read.
pub const NOT_FOLLOWED: &str = "not-followed";

/// The documents merged so far.
#[derive(Default)]
pub(super) struct Merger {
    pub(super) node: Option<Node>,
    pub(super) documents: Vec<Document>,
    /// Where `KEY=VALUE` is a list for compose, as it is wherever two were merged.
    listed: BTreeSet<Vec<String>>,
    /// Where the document to add has a form that compose merges with nothing earlier.
    alone: BTreeSet<Vec<String>>,
    /// The paths of all tags.
    pub(super) tagged: BTreeSet<Vec<String>>,
    /// What is merged is for nobody to merge further: what stays as it is written is lost.
    pub(super) is_last: bool,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl Merger {
    /// For documents of which nobody merges more.
    pub(super) fn last() -> Self {
        Self { is_last: true, ..Self::default() }
    }

    /// Merges one more document, with its tags prepared.
    pub(super) fn add(&mut self, mut document: Node) {
        match &mut document.value {
            Value::Map(entries) => entries.retain(|(key, _)| key.text != "version"),
            Value::Null => return,
            _ => {
                let message = format!("a compose file is a mapping, not {}", document.type_name());
                self.diagnostics.push(Diagnostic::new(document.span, message));
                return;
            }
        }
        self.check(&document);
        let mut form = Form {
            listed: BTreeSet::new(),
            alone: BTreeSet::new(),
            ports: 0,
            diagnostics: &mut self.diagnostics,
        };
        form.unify(&mut document, &mut Vec::new());
        let listed = form.listed;
        self.alone = form.alone;
        let mut tags = Tags {
            listed: &mut self.listed,
            removals: Vec::new(),
            tagged: &mut self.tagged,
            done: BTreeSet::new(),
            diagnostics: &mut self.diagnostics,
        };
        tags.settle(&mut document, self.node.as_mut(), &mut Vec::new());
        document.tag = None;
        self.documents.push(Document { node: document.clone(), removals: tags.removals });
        match self.node.take() {
            Some(mut node) => {
                self.merge(&mut node, document, &mut Vec::new());
                self.node = Some(node);
            }
            None => self.node = Some(document),
        }
        self.listed.extend(listed);
    }

    /// What cannot be merged at all, and what is left as it is.
    fn check(&mut self, document: &Node) {
        let Value::Map(entries) = &document.value else { return };
        for (key, node) in entries {
            match key.text.as_str() {
                "services" | "networks" | "volumes" | "secrets" | "configs" | "models" => {
                    self.mapping(node, &format!("`{}`", key.text));
                    if key.text == "services" {
                        self.services(node);
                    }
                }
                "include" => self.stays(key, "the files that it names are not merged"),
                _ => {}
            }
        }
    }

    fn services(&mut self, services: &Node) {
        let Value::Map(entries) = &services.value else { return };
        for (name, service) in entries {
            self.mapping(service, &format!("service `{}`", name.text));
            let Value::Map(entries) = &service.value else { continue };
            if let Some((key, _)) = entries.iter().find(|(key, _)| key.text == "extends") {
                self.stays(
                    key,
                    "what it takes from elsewhere is not merged, and comes before all files that are",
                );
            }
        }
    }

    fn mapping(&mut self, node: &Node, what: &str) {
        if !matches!(node.value, Value::Map(_) | Value::Null) && !tag::is_reset(node) {
            let message = format!("{what} is a mapping, not {}", node.type_name());
            self.diagnostics.push(Diagnostic::new(node.span, message));
        }
    }

    fn stays(&mut self, key: &Key, why: &str) {
        let warning = match self.is_last {
            false => Diagnostic::new(key.span, format!("`{}` stays as it is written: {why}", key.text)),
            true => Diagnostic::new(key.span, format!("`{}` is not followed", key.text))
                .code(NOT_FOLLOWED)
                .help("write out what it stands for, or give its files too"),
        };
        self.diagnostics.push(Diagnostic { severity: Severity::Warning, ..warning });
    }

    fn warn(&mut self, node: &Node, message: &str) {
        self.diagnostics
            .push(Diagnostic { severity: Severity::Warning, ..Diagnostic::new(node.span, message) });
    }

    /// Merges `later` into the value at a path.
    fn merge(&mut self, node: &mut Node, later: Node, path: &mut Vec<String>) {
        let rule = rule(path);
        if rule == Rule::Replace {
            *node = later;
            return;
        }
        if rule == Rule::KeyValue && !matches!(node.value, Value::Null) {
            self.listed.insert(path.clone());
        }
        if matches!(later.value, Value::Null) {
            if rule == Rule::Logging {
                self.warn(&later, "compose 2.40 crashes on this: it is left out");
            }
            return;
        }
        if matches!(node.value, Value::Null) || rule == Rule::Logging && has_other_driver(node, &later) {
            *node = later;
            return;
        }
        if self.alone.contains(path) {
            self.conflict(node, &later, path);
            return;
        }
        match (&mut node.value, later.value) {
            (Value::Map(entries), Value::Map(more)) if rule == Rule::KeyValue => {
                put(entries, more, |earlier, later| {
                    let is_same = merge_text(&earlier.1) == merge_text(&later.1);
                    if is_same && refuses_twice(path) {
                        let message = format!(
                            "compose refuses `{}` where an earlier file says just the same",
                            later.0.text
                        );
                        let twice = Diagnostic::new(later.1.span, message).note(earlier.1.span, "first here");
                        self.diagnostics.push(twice.help("leave one of them out"));
                    }
                    *earlier = later;
                });
            }
            (mine, theirs) if rule == Rule::Hosts => {
                let mut items = hosts(std::mem::replace(mine, Value::Null));
                items.extend(hosts(theirs));
                *mine = Value::List(items);
                unique(node, merge_text);
            }
            (Value::List(items), Value::List(more)) if rule == Rule::Ipam => {
                if items.len() > 1
                    && let [_, second, ..] = more.as_slice()
                {
                    self.warn(second, "compose 2.40 mixes the subnets up where both files have several");
                }
                *items = more.into_iter().map(|it| self.subnet(items, it, path)).collect();
            }
            (Value::List(items), Value::List(more)) => {
                items.extend(more);
                match rule {
                    Rule::Texts => unique(node, text_key),
                    Rule::Keyed(entry) => unique(node, |it| entry_key(it, entry)),
                    _ => {}
                }
            }
            (Value::Map(entries), Value::Map(more)) => {
                put(entries, more, |(_, node), (key, value)| {
                    path.push(key.text);
                    self.merge(node, value, path);
                    path.pop();
                });
            }
            (Value::Map(_) | Value::List(_), value) => {
                let later = Node { value, ..later };
                self.conflict(node, &later, path);
            }
            (_, value) => *node = Node { value, ..later },
        }
    }

    fn conflict(&mut self, node: &Node, later: &Node, path: &[String]) {
        let name = path.last().map_or("", String::as_str);
        let message = match node.type_name() == later.type_name() {
            true => format!("compose cannot merge this form of `{name}` with an earlier one"),
            false => format!("`{name}` is {} here and {} elsewhere", later.type_name(), node.type_name()),
        };
        let conflict = Diagnostic::new(later.span, message).note(node.span, "elsewhere");
        self.diagnostics.push(conflict.help("write both in one form; `!override` replaces the earlier"));
    }

    /// An entry of `ipam.config` over the earlier one of its subnet.
    fn subnet(&mut self, earlier: &[Node], later: Node, path: &mut Vec<String>) -> Node {
        let subnet = |it: &Node| it.get("subnet").and_then(merge_text);
        match earlier.iter().find(|it| subnet(it) == subnet(&later)) {
            Some(it) => {
                let mut node = it.clone();
                path.push(String::new());
                self.merge(&mut node, later, path);
                path.pop();
                node
            }
            None => later,
        }
    }
}

/// Options of one driver mean nothing to another.
fn has_other_driver(node: &Node, later: &Node) -> bool {
    let driver = |it: &Node| it.get("driver").and_then(merge_text);
    matches!((driver(node), driver(later)), (Some(a), Some(b)) if a != b)
}

/// `extra_hosts` as a list of `HOST=ADDRESS`.
fn hosts(value: Value) -> Vec<Node> {
    let entries = match value {
        Value::List(items) => return items,
        Value::Map(entries) => entries,
        _ => return Vec::new(),
    };
    let mut items = Vec::new();
    for (key, node) in entries {
        let addresses = match node.value {
            Value::List(items) => items,
            value => vec![Node { value, ..node }],
        };
        for address in addresses {
            let text = format!("{}={}", key.text, merge_text(&address).unwrap_or_default());
            items.push(Node::new(Value::Text(text), address.span));
        }
    }
    items
}
