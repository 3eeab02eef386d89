//! YAML and JSON as compose reads them, each value with its place.
//!
//! Scalars, merge keys and duplicate keys follow go-yaml v3, which compose is built on. The parser is saphyr's; what
//! is ours is what it leaves open: scalars' types, anchors with a limit on what they may unfold to, `<<`, places.

mod scalar;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};

use crate::config::diagnostic::Diagnostic;
use crate::config::source::{FileId, Sources, Span};

pub(super) use scalar::integer;

/// A value of the document.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Value,
    /// Where the value really stands: behind an alias, at its anchor.
    pub span: Span,
    /// `!reset`, `!override` or another tag that is not of YAML's own schema.
    pub tag: Option<String>,
    /// A scalar without quotes, as it was written: `0777` for the number 511.
    pub plain: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the document's order; keys are unique.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub text: String,
    pub span: Span,
}

/// What the values that aliases unfold to may take, in bytes, in one document: far more than a network needs, far
/// less than a machine has.
const ALIAS_BUDGET: usize = 16 << 20;

/// The values and keys of one file: twenty for each of 100,000 services. They take some 400 MiB.
const MAX_VALUES: usize = 2_000_000;

/// Deeper than any description of a network, and no danger to the stack.
const MAX_DEPTH: usize = 100;

impl Node {
    /// A value that stands for what is written at `span`.
    pub(crate) fn new(value: Value, span: Span) -> Self {
        Self { value, span, tag: None, plain: None }
    }

    /// The value of a key, where this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(it, _)| it.text == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// How the type of the value is called in messages.
    pub fn type_name(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(it) => (*it).into(),
            Value::Int(it) => (*it).into(),
            Value::Float(it) => (*it).into(),
            Value::Text(it) => it.as_str().into(),
            Value::List(it) => it.iter().map(Node::to_json).collect(),
            Value::Map(it) => it.iter().map(|(key, node)| (key.text.clone(), node.to_json())).collect(),
        }
    }

    /// Roughly the bytes that it takes.
    fn size(&self) -> usize {
        let plain = self.plain.as_ref().map_or(0, String::len);
        let inner = match &self.value {
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 0,
            Value::Text(it) => it.len(),
            Value::List(it) => it.iter().map(Node::size).sum(),
            Value::Map(it) => {
                it.iter().map(|(key, node)| size_of::<Key>() + key.text.len() + node.size()).sum()
            }
        };
        size_of::<Self>() + plain + inner
    }
}

/// Reads every document of a file; none when its syntax is broken.
pub fn documents(sources: &Sources, file: FileId, diagnostics: &mut Vec<Diagnostic>) -> Vec<Node> {
    read(sources, file, MAX_VALUES, diagnostics).unwrap_or_else(|broken| {
        diagnostics.push(broken);
        Vec::new()
    })
}

/// Reads a file that has at most `most` values.
fn read(
    sources: &Sources,
    file: FileId,
    most: usize,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Vec<Node>, Diagnostic> {
    sources.check_text(file)?;
    let source = sources.text(file);
    let text = text::Text::new(source);
    let mut loader = Loader {
        source,
        file,
        text: &text,
        aliased: aliased(&text),
        parser: Parser::new_from_str(text.for_parser()),
        anchors: BTreeMap::new(),
        spent: 0,
        left: most,
        most,
        earlier: diagnostics.len(),
        diagnostics,
    };
    let mut documents = Vec::new();
    while let Some((event, _)) = loader.event()? {
        if matches!(event, Event::DocumentStart(_)) {
            loader.anchors.clear();
            documents.push(loader.next(0)?);
        }
    }
    Ok(documents)
}

/// The anchors that some alias refers to.
fn aliased(text: &text::Text<'_>) -> BTreeSet<usize> {
    // Most files have no anchors, and are parsed once.
    if !['&', '*'].iter().all(|it| text.for_parser().contains(*it)) {
        return BTreeSet::new();
    }
    let events = Parser::new_from_str(text.for_parser()).map_while(Result::ok);
    events.filter_map(|(it, _)| if let Event::Alias(id) = it { Some(id) } else { None }).collect()
}

struct Loader<'a, 'd> {
    source: &'a str,
    file: FileId,
    text: &'a text::Text<'a>,
    parser: Parser<'a, StrInput<'a>>,
    /// The anchors that some alias refers to: values of others are not kept.
    aliased: BTreeSet<usize>,
    /// The value of each of those; none while it is being read.
    anchors: BTreeMap<usize, Option<Node>>,
    spent: usize,
    /// How many values, with keys, may still follow, of how many.
    left: usize,
    most: usize,
    /// The number of diagnostics of other files.
    earlier: usize,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl<'a> Loader<'a, '_> {
    /// The next event of the parser; None at the end of the file.
    fn event(&mut self) -> Result<Option<(Event<'a>, Span)>, Diagnostic> {
        let Some(event) = self.parser.next() else { return Ok(None) };
        let (event, span) = event.map_err(|it| {
            // What was found before may come from the same mistake.
            self.diagnostics.truncate(self.earlier);
            let start = self.text.byte(it.marker().index()).min(self.source.len());
            text::explain(self.source, start, it.info()).at(self.file)
        })?;
        let start = self.text.byte(span.start.index());
        let end = self.text.byte(span.end.index()).max(start);
        Ok(Some((event, Span { file: self.file, start, end })))
    }

    fn next(&mut self, depth: usize) -> Result<Node, Diagnostic> {
        match self.event()? {
            Some((event, span)) => self.node(event, span, depth),
            None => Err(Diagnostic::new(self.end(), "this is not YAML: it ends too early")),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Diagnostic> {
        if depth > MAX_DEPTH {
            return Err(Diagnostic::new(text::shown(self.source, span), "nested too deep")
                .help(format!("at most {MAX_DEPTH} levels may be in each other")));
        }
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            let message = format!("the file has more than {} values", self.most);
            Diagnostic::new(text::shown(self.source, span), message).help("use several files")
        })?;
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let (core, tag) = tags(tag.as_deref());
                let plain = (style == ScalarStyle::Plain).then(|| text.clone().into_owned());
                let value = match core.as_deref() {
                    Some("str") => Value::Text(text.into_owned()),
                    Some("int" | "float" | "bool" | "null") => scalar::resolve(&text),
                    _ if style == ScalarStyle::Plain && tag.as_deref() != Some("!") => scalar::resolve(&text),
                    _ => Value::Text(text.into_owned()),
                };
                let tag = tag.filter(|it| it != "!");
                (anchor, Node { value, span: text::bare(self.source, span), tag, plain })
            }
            Event::Alias(anchor) => return self.alias(anchor, span),
            Event::SequenceStart(anchor, tag) => {
                self.open(anchor);
                let (items, end) = self.list(depth)?;
                (anchor, self.block(Value::List(items), span, end, tag.as_deref()))
            }
            Event::MappingStart(anchor, tag) => {
                self.open(anchor);
                let (entries, end) = self.map(depth)?;
                (anchor, self.block(Value::Map(entries), span, end, tag.as_deref()))
            }
            other => return Err(Diagnostic::new(span, format!("this is not YAML: unexpected {other:?}"))),
        };
        if self.aliased.contains(&anchor) {
            self.spend(&node, span)?;
            self.anchors.insert(anchor, Some(node.clone()));
        }
        Ok(node)
    }

    fn open(&mut self, anchor: usize) {
        if self.aliased.contains(&anchor) {
            self.anchors.insert(anchor, None);
        }
    }

    /// A collection, from its start to the end of its last value: its end event may stand at the next key.
    fn block(&self, value: Value, start: Span, end: Span, tag: Option<&Tag>) -> Node {
        let start = text::dash(self.source, text::bare(self.source, start), &value);
        let span = text::trimmed(self.source, Span { end: end.end.max(start.end), ..start });
        Node { tag: tags(tag).1.filter(|it| it != "!"), ..Node::new(value, span) }
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<Node, Diagnostic> {
        match self.anchors.get(&anchor) {
            Some(Some(node)) => {
                let node = node.clone();
                self.spend(&node, span)?;
                Ok(node)
            }
            Some(None) => Err(Diagnostic::new(span, "this alias is inside of what it stands for")),
            None => Err(Diagnostic::new(span, "no anchor of this name comes before this alias")),
        }
    }

    fn spend(&mut self, node: &Node, span: Span) -> Result<(), Diagnostic> {
        self.spent += node.size();
        if self.spent <= ALIAS_BUDGET {
            return Ok(());
        }
        Err(Diagnostic::new(
            text::shown(self.source, span),
            "the aliases of this document unfold to too much",
        )
        .help(format!("what they stand for may be at most {} MiB in all", ALIAS_BUDGET >> 20)))
    }

    fn list(&mut self, depth: usize) -> Result<(Vec<Node>, Span), Diagnostic> {
        let mut items = Vec::new();
        loop {
            match self.event()? {
                Some((Event::SequenceEnd, span)) => return Ok((items, span)),
                Some((event, span)) => items.push(self.node(event, span, depth + 1)?),
                None => return Ok((items, self.end())),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<(Vec<(Key, Node)>, Span), Diagnostic> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut first: BTreeMap<String, Span> = BTreeMap::new();
        let mut merged = Vec::new();
        let end = loop {
            let (event, span) = match self.event()? {
                Some((Event::MappingEnd, span)) => break span,
                Some(it) => it,
                None => break self.end(),
            };
            let key = self.node(event, span, depth + 1)?;
            let value = self.next(depth + 1)?;
            let Some(text) = key_text(&key) else {
                let bad = Diagnostic::new(key.span, format!("a key is a string, not {}", key.type_name()));
                let is_placeholder = self.source.get(span.start..).is_some_and(|it| it.starts_with('{'));
                let help = "put a value that begins with `{{` in quotes";
                self.diagnostics.push(if is_placeholder { bad.help(help) } else { bad });
                continue;
            };
            if let Some(before) = first.get(&text) {
                let message = format!("key `{text}` is given twice");
                let twice = Diagnostic::new(key.span, message).note(*before, "first here");
                self.diagnostics.push(twice.help("keep one of them"));
                continue;
            }
            first.insert(text.clone(), key.span);
            if text == "<<" && key.plain.is_some() {
                merged.push(value);
            } else {
                entries.push((Key { text, span: key.span }, value));
            }
        };
        for source in merged {
            self.merge(&mut entries, &mut first, source);
        }
        Ok((entries, end))
    }

    /// `<<: *defaults` and `<<: [*a, *b]`: adds keys that are not there yet.
    fn merge(&mut self, entries: &mut Vec<(Key, Node)>, seen: &mut BTreeMap<String, Span>, source: Node) {
        let span = source.span;
        let sources = match source.value {
            Value::List(items) => items,
            value => vec![Node::new(value, span)],
        };
        for source in sources {
            let Value::Map(more) = source.value else {
                let message =
                    format!("`<<` takes a mapping or a list of mappings, not {}", source.type_name());
                self.diagnostics.push(Diagnostic::new(source.span, message));
                continue;
            };
            for (key, node) in more {
                if !seen.contains_key(&key.text) {
                    seen.insert(key.text.clone(), key.span);
                    entries.push((key, node));
                }
            }
        }
    }

    fn end(&self) -> Span {
        let end = self.source.len();
        Span { file: self.file, start: end, end }
    }
}

/// Is a scalar without quotes a string?
pub(crate) fn reads_as_text(plain: &str) -> bool {
    matches!(scalar::resolve(plain), Value::Text(_))
}

/// A key as it was written; None for lists and maps.
fn key_text(key: &Node) -> Option<String> {
    match (&key.value, &key.plain) {
        (Value::List(_) | Value::Map(_), _) => None,
        (Value::Text(it), _) | (_, Some(it)) => Some(it.clone()),
        (Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_), None) => {
            Some(key.to_json().to_string())
        }
    }
}

/// The name of a tag of YAML's own schema (`int` of `!!int`), and any other tag.
fn tags(tag: Option<&Tag>) -> (Option<String>, Option<String>) {
    let Some(tag) = tag.map(|it| format!("{}{}", it.handle, it.suffix)) else { return (None, None) };
    match tag.strip_prefix("tag:yaml.org,2002:") {
        Some(core) => (Some(core.to_owned()), None),
        None => (None, Some(tag)),
    }
}

#[cfg(test)]
mod tests;
