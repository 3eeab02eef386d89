//! Normalizes attributes that can be short or long, a list or a map, one text or several.

use std::collections::BTreeSet;

use crate::compose::rule::{Entry, Rule, rule};
use crate::compose::unique::{entry_key, put, repeated, text_key, unique};
use crate::compose::{mount, port};
use crate::config::{Diagnostic, Key, Node, Span, Value, merge_text};

/// The limit of ports in a document: a range is one line and stands for all of its ports.
const MAX_PORTS: usize = 100_000;

/// Brings a document into that form.
pub(super) struct Form<'a> {
    /// Where `KEY=VALUE` was a list.
    pub(super) listed: BTreeSet<Vec<String>>,
    /// Where the form is one that compose merges with nothing earlier.
    pub(super) alone: BTreeSet<Vec<String>>,
    /// How many ports there are so far.
    pub(super) ports: usize,
    pub(super) diagnostics: &'a mut Vec<Diagnostic>,
}

impl Form<'_> {
    /// Brings the value at a path, and all below, into its form.
    pub(super) fn unify(&mut self, node: &mut Node, path: &mut Vec<String>) {
        match rule(path) {
            Rule::KeyValue => self.key_value(node, path),
            Rule::Texts => {
                one_or_many(node);
                unique(node, text_key);
            }
            Rule::Append => one_or_many(node),
            Rule::Keyed(entry) => self.entries(node, entry),
            Rule::Names => self.names(node, None),
            Rule::DependsOn => self.names(node, Some(depends_on)),
            Rule::Build => one_text(node, "context"),
            Rule::Extends => one_text(node, "service"),
            Rule::Ssh => self.ssh(node, path),
            Rule::Gpus => {
                if matches!(&node.value, Value::Text(it) if it == "all") {
                    let count = (key("count", node.span), text("all", node.span));
                    node.value = Value::List(vec![map(vec![count], node.span)]);
                    node.plain = None;
                    self.alone.insert(path.clone());
                }
            }
            Rule::Hosts => self.hosts(node),
            Rule::Deep | Rule::Replace | Rule::Logging | Rule::Ipam => {}
        }
        match &mut node.value {
            Value::Map(entries) => {
                for (key, value) in entries {
                    path.push(key.text.clone());
                    self.unify(value, path);
                    path.pop();
                }
            }
            Value::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    path.push(index.to_string());
                    self.unify(item, path);
                    path.pop();
                }
            }
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => {}
        }
    }

    fn key_value(&mut self, node: &mut Node, path: &[String]) {
        match &mut node.value {
            Value::Map(entries) => entries.retain(|(_, value)| {
                let fits = is_scalar(value);
                if !fits {
                    self.wrong(value, "a string, a number or a boolean");
                }
                fits
            }),
            Value::List(items) => {
                let more = std::mem::take(items).into_iter().filter_map(|it| self.pair(&it));
                let mut entries = Vec::new();
                put(&mut entries, more, |earlier, later| *earlier = later);
                node.value = Value::Map(entries);
                self.listed.insert(path.to_vec());
            }
            Value::Null => {}
            _ => self.wrong(node, "a mapping, or a list of `KEY=VALUE`"),
        }
    }

    fn entries(&mut self, node: &mut Node, entry: Entry) {
        if entry == Entry::EnvFile {
            one_or_many(node);
        }
        let Value::List(items) = &mut node.value else {
            if !matches!(node.value, Value::Null) {
                self.wrong(node, "a list");
            }
            return;
        };
        *items = std::mem::take(items).into_iter().flat_map(|it| self.entry(it, entry)).collect();
        unique(node, |it| entry_key(it, entry));
    }

    /// What an entry stands for: a range of ports for several.
    fn entry(&mut self, node: Node, entry: Entry) -> Vec<Node> {
        let span = node.span;
        let short = match &node.value {
            Value::Map(_) => {
                self.check_key(&node, entry);
                return vec![node];
            }
            Value::Int(_) | Value::Text(_) => merge_text(&node).unwrap_or_default(),
            _ => {
                self.wrong(&node, "a string or a mapping");
                return Vec::new();
            }
        };
        // What a variable holds may decide what the other parts are: `$DATA:/data` is a volume or a folder.
        let is_open = has_variable(&short);
        let long = match entry {
            Entry::Expose => return vec![node],
            Entry::Port | Entry::Volume | Entry::Device if is_open => return vec![node],
            Entry::Port => match port::parse(&short) {
                Ok(ports) => {
                    self.ports += ports.len();
                    if self.ports > MAX_PORTS {
                        let message = format!("the ports of this document are more than {MAX_PORTS}");
                        self.diagnostics.push(Diagnostic::new(span, message));
                        return Vec::new();
                    }
                    return ports.into_iter().map(|it| long_port(it, &node)).collect();
                }
                Err(message) => Err((message, "write `[[IP:]PUBLISHED:]TARGET[/PROTOCOL]`")),
            },
            Entry::Volume => mount::parse(&short)
                .map(|it| long_volume(&it, span))
                .map_err(|it| (it, "write `[SOURCE:]TARGET[:OPTIONS]`")),
            Entry::Device => mount::device(&short)
                .map(|(source, target, permissions)| {
                    vec![
                        ("source", text(source, span)),
                        ("target", text(target, span)),
                        ("permissions", text(permissions, span)),
                    ]
                })
                .ok_or(("too many colons".to_owned(), "write `SOURCE[:TARGET[:PERMISSIONS]]`")),
            Entry::Secret | Entry::Config | Entry::BuildSecret => Ok(vec![("source", text(&short, span))]),
            Entry::EnvFile => Ok(vec![("path", text(&short, span))]),
        };
        match long {
            Ok(entries) => {
                vec![map(entries.into_iter().map(|(name, node)| (key(name, span), node)).collect(), span)]
            }
            Err((message, help)) => {
                self.diagnostics.push(Diagnostic::new(span, message).help(help));
                Vec::new()
            }
        }
    }

    /// Entries without what tells them apart cannot be merged.
    fn check_key(&mut self, node: &Node, entry: Entry) {
        let due: &[&str] = match entry {
            Entry::Port | Entry::Volume | Entry::Device => &["target"],
            Entry::Secret | Entry::Config | Entry::BuildSecret => &["source", "target"],
            Entry::EnvFile => &["path"],
            Entry::Expose => &[],
        };
        if !due.is_empty() && !due.iter().any(|it| node.get(it).and_then(merge_text).is_some()) {
            let message = format!("`{}` is missing", due.first().copied().unwrap_or_default());
            self.diagnostics.push(Diagnostic::new(node.span, message));
        }
    }

    /// A list of names to a map.
    fn names(&mut self, node: &mut Node, value: Option<fn(Span) -> Value>) {
        match &mut node.value {
            Value::List(items) => {
                let mut more = Vec::new();
                for item in std::mem::take(items) {
                    let Some(name) = self.text(&item) else { continue };
                    let value = value.map_or(Value::Null, |it| it(item.span));
                    more.push((key(&name, item.span), Node::new(value, item.span)));
                }
                let mut entries = Vec::new();
                put(&mut entries, more, |(first, _), (key, _)| {
                    let message = format!("`{}` is given twice", key.text);
                    let twice = Diagnostic::new(key.span, message).note(first.span, "first here");
                    self.diagnostics.push(twice.help("keep one of them"));
                });
                node.value = Value::Map(entries);
            }
            Value::Map(entries) if value.is_some() => entries.retain(|(_, value)| {
                let fits = matches!(value.value, Value::Map(_)) || value.tag.is_some();
                if !fits {
                    self.wrong(value, "a mapping");
                }
                fits
            }),
            Value::Map(_) | Value::Null => {}
            _ => self.wrong(node, "a mapping, or a list of names"),
        }
    }

    fn hosts(&mut self, node: &Node) {
        let Value::List(items) = &node.value else { return };
        for (item, first) in repeated(items) {
            let twice = Diagnostic::new(item.span, "this host is given twice").note(first.span, "first here");
            self.diagnostics.push(twice.help("keep one of them"));
        }
    }

    fn ssh(&mut self, node: &mut Node, path: &[String]) {
        let Value::List(items) = &mut node.value else { return };
        self.alone.insert(path.to_vec());
        let more = std::mem::take(items).into_iter().filter_map(|it| self.pair(&it));
        let mut entries = Vec::new();
        put(&mut entries, more, |earlier, later| *earlier = later);
        node.value = Value::Map(entries);
    }

    /// What `KEY=VALUE` says: nothing of a key alone.
    fn pair(&mut self, item: &Node) -> Option<(Key, Node)> {
        let text = self.text(item)?;
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Value::Text(value.to_owned())),
            None => (text.as_str(), Value::Null),
        };
        Some((key(name, item.span), Node::new(value, item.span)))
    }

    /// The text of an item; what is none is reported.
    fn text(&mut self, item: &Node) -> Option<String> {
        let text = merge_text(item);
        if text.is_none() {
            self.wrong(item, "a string");
        }
        text
    }

    fn wrong(&mut self, node: &Node, expected: &str) {
        let message = format!("expected {expected}, found {}", node.type_name());
        self.diagnostics.push(Diagnostic::new(node.span, message));
    }
}

/// Does compose put something in place of a part of the text?
pub(super) fn has_variable(text: &str) -> bool {
    text.replace("$$", "").contains('$')
}

fn is_scalar(node: &Node) -> bool {
    !matches!(node.value, Value::List(_) | Value::Map(_))
}

fn key(name: &str, span: Span) -> Key {
    Key { text: name.to_owned(), span }
}

fn text(value: &str, span: Span) -> Node {
    Node::new(Value::Text(value.to_owned()), span)
}

fn map(entries: Vec<(Key, Node)>, span: Span) -> Node {
    Node::new(Value::Map(entries), span)
}

fn one_or_many(node: &mut Node) {
    if let Some(text) = merge_text(node) {
        let item = Node { value: Value::Text(text), tag: None, plain: node.plain.take(), span: node.span };
        node.value = Value::List(vec![item]);
    }
}

/// A map of one key in place of its value alone.
fn one_text(node: &mut Node, name: &str) {
    if let Some(value) = merge_text(node) {
        node.plain = None;
        node.value = Value::Map(vec![(key(name, node.span), text(&value, node.span))]);
    }
}

fn depends_on(span: Span) -> Value {
    let required = Node::new(Value::Bool(true), span);
    Value::Map(vec![
        (key("condition", span), text("service_started", span)),
        (key("required", span), required),
    ])
}

fn long_port(port: port::Port, short: &Node) -> Node {
    let span = short.span;
    let target = Node::new(Value::Int(port.target.into()), span);
    let mut entries = vec![(key("target", span), target)];
    entries.extend(port.published.map(|it| (key("published", span), text(&it, span))));
    entries.extend(port.host_ip.map(|it| (key("host_ip", span), text(&it, span))));
    if port.protocol != "tcp" {
        entries.push((key("protocol", span), text(&port.protocol, span)));
    }
    map(entries, span)
}

fn long_volume(mount: &mount::Mount, span: Span) -> Vec<(&'static str, Node)> {
    let yes = || Node::new(Value::Bool(true), span);
    let mut entries = vec![("type", text(if mount.is_bind { "bind" } else { "volume" }, span))];
    entries.extend(mount.source.as_ref().map(|it| ("source", text(it, span))));
    entries.push(("target", text(&mount.target, span)));
    if mount.read_only {
        entries.push(("read_only", yes()));
    }
    let mut bind = Vec::new();
    bind.extend(mount.propagation.as_ref().map(|it| (key("propagation", span), text(it, span))));
    bind.extend(mount.selinux.as_ref().map(|it| (key("selinux", span), text(it, span))));
    if mount.is_bind {
        // The long form makes no folder on the host; the short one always did.
        bind.push((key("create_host_path", span), yes()));
    }
    if !bind.is_empty() {
        entries.push(("bind", map(bind, span)));
    }
    if mount.nocopy {
        entries.push(("volume", map(vec![(key("nocopy", span), yes())], span)));
    }
    entries
}
