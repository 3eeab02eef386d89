//! What the parser gets to read, and places of its in the file.

use crate::config::diagnostic::Diagnostic;
use crate::config::source::{FileId, Span};
use crate::config::yaml::Value;

/// The text as the parser is to see it. The parser counts characters, everybody else bytes of the file.
pub(super) struct Text<'a> {
    source: &'a str,
    rewritten: Option<String>,
    /// The byte in the file of each character that the parser sees, and of the end. Empty if every character is one byte.
    bytes: Vec<usize>,
}

impl<'a> Text<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        let mut bytes = Vec::new();
        let rewritten = has_surrogates(source).then(|| unpair_surrogates(source, &mut bytes));
        if rewritten.is_none() && !source.is_ascii() {
            bytes.extend(source.char_indices().map(|(it, _)| it));
        }
        if !bytes.is_empty() {
            bytes.push(source.len());
        }
        Self { source, rewritten, bytes }
    }

    pub(super) fn for_parser(&self) -> &str {
        self.rewritten.as_deref().unwrap_or(self.source)
    }

    /// Where in the file the character of that index begins.
    pub(super) fn byte(&self, index: usize) -> usize {
        let byte = if self.bytes.is_empty() { Some(index) } else { self.bytes.get(index).copied() };
        byte.unwrap_or(usize::MAX).min(self.source.len())
    }
}

/// JSON writes characters beyond the sixteenth bit as two escapes, which in YAML are an error.
fn has_surrogates(source: &str) -> bool {
    source.trim_start().starts_with(['{', '['])
        && ["\\ud", "\\uD"].iter().any(|it| source.contains(it))
        && serde_json::from_str::<serde::de::IgnoredAny>(source).is_ok()
}

/// Makes `\ud83d\ude00` YAML's `\U0001f600`.
fn unpair_surrogates(source: &str, bytes: &mut Vec<usize>) -> String {
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while let Some(it) = source.get(at..).and_then(|rest| rest.chars().next()) {
        let (piece, len) = match surrogates(source.get(at..).unwrap_or_default()) {
            Some(it) => (format!("\\U{:08x}", u32::from(it)), 12),
            // In JSON a backslash is in a string, and what it escapes is one byte.
            None if it == '\\' => (source.get(at..at + 2).unwrap_or("\\").to_owned(), 2),
            None => (it.to_string(), it.len_utf8()),
        };
        for (index, _) in piece.char_indices() {
            bytes.push(at + index);
        }
        out.push_str(&piece);
        at += len;
    }
    out
}

/// The character that a text begins with as a pair of escapes.
fn surrogates(text: &str) -> Option<char> {
    let unit = |it: &str| u16::from_str_radix(it.strip_prefix("\\u")?, 16).ok();
    let pair = [unit(text.get(..6)?)?, unit(text.get(6..12)?)?];
    char::decode_utf16(pair).next()?.ok().filter(|it| it.len_utf16() == 2)
}

/// A value without the anchor and the tag before it.
pub(super) fn bare(source: &str, span: Span) -> Span {
    let mut rest = source.get(span.start..span.end).unwrap_or_default();
    // No value begins with these itself.
    while rest.starts_with(['&', '!']) {
        let word = rest.find(char::is_whitespace).unwrap_or(rest.len());
        rest = rest.get(word..).unwrap_or_default().trim_start();
    }
    let end = span.start + source.get(span.start..span.end).unwrap_or_default().len();
    trimmed(source, Span { start: end - rest.len(), end, ..span })
}

/// A list from its first dash: the parser may tell only of what comes after it.
pub(super) fn dash(source: &str, span: Span, value: &Value) -> Span {
    let (before, after) = source.split_at_checked(span.start).unwrap_or((source, ""));
    let begins = after.starts_with('[') || after.starts_with("- ") || after.starts_with("-\n");
    let before = before.trim_end_matches([' ', '\t', '\r', '\n']);
    match value {
        Value::List(items) if !items.is_empty() && !begins && before.ends_with('-') => {
            Span { start: before.len() - 1, ..span }
        }
        _ => span,
    }
}

/// Without the white space and comments that a span may take in after the last value.
pub(super) fn trimmed(source: &str, span: Span) -> Span {
    let mut end = span.end;
    while let Some(slice) = source.get(span.start..end) {
        let cut = slice.trim_end();
        let line = cut.rfind('\n').map_or(0, |it| it + 1);
        end = span.start + cut.len();
        match cut.get(line..) {
            Some(last) if line > 0 && last.trim_start().starts_with('#') => end = span.start + line,
            _ => break,
        }
    }
    Span { end: end.max(span.start), ..span }
}

/// At least a character of what a span begins with, to put a caret below.
pub(super) fn shown(source: &str, span: Span) -> Span {
    let first = source.get(span.start..).and_then(|it| it.chars().next()).filter(|it| !it.is_control());
    Span { end: span.end.max(span.start + first.map_or(0, char::len_utf8)), ..span }
}

/// A mistake in the syntax, in words of the file's author and not of a parser's.
pub(super) struct Broken {
    start: usize,
    end: usize,
    message: String,
    help: Option<&'static str>,
}

impl Broken {
    pub(super) fn at(self, file: FileId) -> Diagnostic {
        let place = Span { file, start: self.start, end: self.end };
        let diagnostic = Diagnostic::new(place, format!("this is not YAML: {}", self.message));
        Diagnostic { help: self.help.map(Into::into), ..diagnostic }
    }
}

/// What the parser stumbled over at a byte of the file.
pub(super) fn explain(source: &str, at: usize, info: &str) -> Broken {
    // The parser may notice only on the next line: the last thing written is what to look at.
    let (before, after) = source.split_at_checked(at).unwrap_or((source, ""));
    let line = before.rfind('\n').map_or(0, |it| it + 1);
    let indent = before.get(line..).unwrap_or_default();
    let is_indent = indent.chars().all(char::is_whitespace);
    let tab = if after.starts_with('\t') { Some(at) } else { indent.find('\t').map(|it| line + it) };
    let tab = tab.filter(|_| is_indent);
    if let Some(tab) = tab {
        let message = "a tab cannot indent".to_owned();
        return Broken { start: tab, end: tab + 1, message, help: Some("indent with spaces") };
    }
    if let Some(it) = after.chars().next().filter(|it| it.is_control() && !it.is_whitespace()) {
        let message = format!("the control character U+{:04X} cannot stand here", u32::from(it));
        return Broken { start: at, end: at + it.len_utf8(), message, help: Some("remove it") };
    }
    let end = at + after.chars().next().filter(|it| !it.is_control()).map_or(0, char::len_utf8);
    let known = EXPLANATIONS.iter().find(|(it, ..)| info.contains(it));
    let plain = info.strip_prefix("while ").unwrap_or(info);
    let (message, help) = known.map_or((plain, None), |(_, message, help)| (message, *help));
    Broken { start: at, end, message: message.to_owned(), help }
}

const INDENTATION: Option<&str> = Some("is the indentation right?");
const QUOTES: Option<&str> = Some("put the string in quotes");

/// What the parser's messages hold, in other words, and what would be right.
const EXPLANATIONS: [(&str, &str, Option<&str>); 18] = [
    ("tab", "a tab cannot stand here", Some("use spaces")),
    (
        "mapping values are not allowed",
        "`:` begins a value where none can be",
        Some("put a string that holds `: ` in quotes; or is the indentation wrong?"),
    ),
    (
        "illegal placement of ':'",
        "`:` begins a value where none can be",
        Some("is a bracket or a brace before it never closed?"),
    ),
    ("unexpected end of stream", "the quotes that begin here are never closed", None),
    ("unexpected document indicator", "the quotes that begin here are never closed", None),
    (
        "indentation in quoted scalar",
        "the quotes that begin here are not closed in their line, and the next is not indented",
        None,
    ),
    (
        "unknown escape character",
        "these quotes hold a `\\` that escapes nothing known",
        Some("take single quotes, or write `\\\\`"),
    ),
    ("expected ',' or '}'", "expected `,` or `}`", None),
    ("expected ',' or ']'", "expected `,` or `]`", None),
    ("misplaced bracket", "this closes nothing", QUOTES),
    (
        "did not find expected key",
        "this fits neither the mapping before it nor one of its values",
        INDENTATION,
    ),
    ("expected '-' indicator", "this fits neither the list before it nor one of its items", INDENTATION),
    ("unknown anchor", "no anchor of this name comes before this alias", QUOTES),
    ("simple key expected", "expected `:` and a value after this key", None),
    ("unexpected character", "a string without quotes cannot begin so", QUOTES),
    ("handle wasn't declared", "no `%TAG` line declares the first part of this tag", None),
    ("invalid Unicode character escape code", "these quotes hold an escape of no character", None),
    ("invalid content after document end", "only a comment can follow `...`", None),
];
