//! `!reset` removes what earlier files say, `!override` replaces it. Any other tag makes a text of a scalar, as
//! go-yaml has it, and means nothing else.

use std::collections::BTreeSet;

use crate::config::{Diagnostic, Key, Node, Severity, Span, Value};

const RESET: &str = "!reset";
const OVERRIDE: &str = "!override";

/// The extension that conlink itself reads: what its tags do to entries of lists, its own merging decides.
pub(super) const OWN: &str = "x-network";

pub(super) fn is_reset(node: &Node) -> bool {
    node.tag.as_deref() == Some(RESET)
}

pub(super) fn removes(node: &Node) -> bool {
    matches!(node.tag.as_deref(), Some(RESET | OVERRIDE))
}

/// Settles what the tags of a document mean for its own values; `!reset` and `!override` stay where they mean more.
/// Within what replaces all that is earlier they mean no more than any other tag.
pub(super) fn prepare(node: &mut Node, is_within: bool) {
    if node.tag.is_some()
        && let Some(plain) = node.plain.take()
    {
        node.value = Value::Text(plain);
    }
    if is_within || !removes(node) {
        node.tag = None;
    } else if is_reset(node) {
        node.value = Value::Null;
    }
    let is_within = is_within || node.tag.is_some();
    match &mut node.value {
        Value::Map(entries) => {
            entries.iter_mut().filter(|(key, _)| key.text != OWN).for_each(|(_, it)| prepare(it, is_within));
        }
        Value::List(items) => {
            // No place of a list could be found again: what is reset there is no more than left out.
            items.retain(|it| is_within || !is_reset(it));
            items.iter_mut().for_each(|it| prepare(it, is_within));
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => {}
    }
}

/// What a tag has removed.
#[derive(Clone, Debug)]
pub(super) struct Removal {
    pub(super) path: Vec<String>,
    pub(super) tag: String,
    pub(super) span: Span,
}

/// Carries the tags of a later document out on what is merged so far.
pub(super) struct Tags<'a> {
    /// Where `KEY=VALUE` is a list for compose: single keys cannot be taken out of one.
    pub(super) listed: &'a mut BTreeSet<Vec<String>>,
    pub(super) removals: Vec<Removal>,
    /// The paths of all tags.
    pub(super) tagged: &'a mut BTreeSet<Vec<String>>,
    /// The keys that were reset already.
    pub(super) done: BTreeSet<Span>,
    pub(super) diagnostics: &'a mut Vec<Diagnostic>,
}

impl Tags<'_> {
    /// Removes from `earlier` what the tags in `later` say, and from `later` what is reset, and all tags.
    pub(super) fn settle(
        &mut self,
        later: &mut Node,
        mut earlier: Option<&mut Node>,
        path: &mut Vec<String>,
    ) {
        match &mut later.value {
            Value::Map(entries) => entries.retain_mut(|(key, value)| {
                path.push(key.text.clone());
                if is_reset(value) && !self.done.insert(key.span) {
                    let message = "this tag has no effect where an alias repeats it";
                    self.warn(
                        value,
                        message,
                        "for compose only the place of the anchor is reset: write it out",
                    );
                } else if removes(value) {
                    self.tagged.insert(path.clone());
                    self.remove(value, earlier.as_deref_mut(), path);
                }
                let below = earlier.as_deref_mut().and_then(|it| get_mut(it, &key.text));
                self.settle(value, below, path);
                path.pop();
                let keep = !is_reset(value);
                value.tag = None;
                keep
            }),
            Value::List(items) if !path.iter().any(|it| it == OWN) => {
                for item in items {
                    item.tag = None;
                    self.settle(item, None, path);
                }
            }
            _ => {}
        }
    }

    fn remove(&mut self, tagged: &Node, earlier: Option<&mut Node>, path: &[String]) {
        let Some((name, above)) = path.split_last() else { return };
        let Some(Value::Map(entries)) = earlier.map(|it| &mut it.value) else { return };
        let Some(index) = entries.iter().position(|(key, _)| key.text == *name) else { return };
        if self.listed.contains(above) {
            let attribute = above.last().map_or("", String::as_str);
            let message = format!("this tag has no effect: `{attribute}` has become a list");
            let help = format!("put the tag on `{attribute}` itself and repeat what is to stay");
            self.warn(tagged, &message, &help);
            return;
        }
        entries.remove(index);
        self.listed.retain(|it| !it.starts_with(path));
        let tag = tagged.tag.clone().unwrap_or_default();
        self.removals.push(Removal { path: path.to_vec(), tag, span: tagged.span });
    }

    fn warn(&mut self, node: &Node, message: &str, help: &str) {
        let warning = Diagnostic::new(node.span, message).help(help);
        self.diagnostics.push(Diagnostic { severity: Severity::Warning, ..warning });
    }
}

/// Puts the tags back that are below services with `extends`: for compose they remove what the service extends too.
pub(super) fn put_back(node: &mut Node, tagged: &BTreeSet<Vec<String>>) {
    for path in tagged {
        let [services, service, between @ .., name] = path.as_slice() else { continue };
        let extends = get_mut(node, services).and_then(|it| get_mut(it, service));
        let Some(service) = extends.filter(|it| services == "services" && it.get("extends").is_some()) else {
            continue;
        };
        let above = between.iter().try_fold(service, |it, name| get_mut(it, name));
        if path.iter().any(|it| it == OWN) || name == "extends" {
            continue;
        }
        let Some(Node { value: Value::Map(entries), span, .. }) = above else { continue };
        match entries.iter_mut().find(|(key, _)| key.text == *name) {
            Some((_, value)) => value.tag = Some(OVERRIDE.to_owned()),
            None => {
                let gone = Node { tag: Some(RESET.to_owned()), ..Node::new(Value::Null, *span) };
                entries.push((Key { text: name.clone(), span: *span }, gone));
            }
        }
    }
}

/// Removes the keys that only have a tag to say.
pub(super) fn drop_reset(node: &mut Node) {
    if let Value::Map(entries) = &mut node.value {
        entries.retain(|(_, it)| !is_reset(it));
        entries.iter_mut().for_each(|(_, it)| drop_reset(it));
    }
}

fn get_mut<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    match &mut node.value {
        Value::Map(entries) => entries.iter_mut().find(|(it, _)| it.text == key).map(|(_, it)| it),
        _ => None,
    }
}
