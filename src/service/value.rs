//! Reads values of the merged document and reports mistakes in them.

use crate::config::{Diagnostic, Key, Node, Severity, Sources, Span, Value};
use crate::service::Context;

/// Reads values and collects diagnostics.
pub(super) struct Reader<'a> {
    pub(super) sources: &'a Sources,
    pub(super) context: Context<'a>,
    pub(super) diagnostics: &'a mut Vec<Diagnostic>,
    /// Notes about the service that is being read.
    pub(super) notes: Vec<(Span, String)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        sources: &'a Sources,
        context: Context<'a>,
        diagnostics: &'a mut Vec<Diagnostic>,
    ) -> Self {
        Self { sources, context, diagnostics, notes: Vec::new() }
    }

    pub(super) fn error(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.diagnostics.push(Diagnostic::new(span, message).help(help));
    }

    pub(super) fn warn(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        let warning = Diagnostic::new(span, message).help(help);
        self.diagnostics.push(Diagnostic { severity: Severity::Warning, ..warning });
    }

    /// Adds a note about a setting without effect.
    pub(super) fn note(&mut self, span: Span, text: &str) {
        self.notes.push((span, text.to_owned()));
    }

    /// Reports a wrong value. If it came from a variable, the label shows it, since the file does not.
    pub(super) fn bad(&mut self, node: &Node, message: String, help: impl Into<String>) {
        let mut diagnostic = Diagnostic::new(node.span, message).help(help);
        let written = self.sources.slice(node.span);
        if let Some(text) = text_of(node)
            && written.contains('$')
            && !written.contains(&text)
        {
            diagnostic = diagnostic.label(format!("this is `{text}` here"));
        }
        self.diagnostics.push(diagnostic);
    }

    fn wrong(&mut self, node: &Node, expected: &str) {
        let message = format!("expected {expected}, found {}", node.type_name());
        self.diagnostics.push(Diagnostic::new(node.span, message));
    }

    /// A scalar as text; None, without a diagnostic, for null.
    pub(super) fn text(&mut self, node: &Node) -> Option<String> {
        let text = text_of(node);
        if text.is_none() && !matches!(node.value, Value::Null) {
            self.wrong(node, "a string");
        }
        text.filter(|it| self.is_c_string(it, node.span))
    }

    /// Reports a zero byte, which would end the string for a program.
    fn is_c_string(&mut self, text: &str, span: Span) -> bool {
        let fits = !text.contains('\0');
        if !fits {
            self.error(span, "zero byte in the argument of a program", "remove `\\0`");
        }
        fits
    }

    /// A text; None if it is empty.
    pub(super) fn some_text(&mut self, node: &Node) -> Option<String> {
        self.text(node).filter(|it| !it.is_empty())
    }

    pub(super) fn number(&mut self, node: &Node) -> Option<u32> {
        let given = match &node.value {
            Value::Int(it) => u32::try_from(*it).ok(),
            Value::Text(it) => it.parse().ok().filter(|_| !it.starts_with('+')),
            Value::Null => return None,
            Value::List(_) | Value::Map(_) => {
                self.wrong(node, "a number");
                return None;
            }
            Value::Bool(_) | Value::Float(_) => None,
        };
        if given.is_none() {
            let message =
                format!("expected a whole number, 0 or more, found `{}`", text_of(node).unwrap_or_default());
            self.bad(node, message, "use a whole number");
        }
        given
    }

    pub(super) fn boolean(&mut self, node: &Node) -> Option<bool> {
        match &node.value {
            Value::Bool(it) => return Some(*it),
            Value::Null => return None,
            Value::Text(it) => match it.to_ascii_lowercase().as_str() {
                "true" | "yes" | "y" | "on" | "1" | "t" => return Some(true),
                "false" | "no" | "n" | "off" | "0" | "f" => return Some(false),
                _ => {}
            },
            Value::Int(_) | Value::Float(_) | Value::List(_) | Value::Map(_) => {}
        }
        match text_of(node) {
            Some(text) => {
                let message = format!("expected `true` or `false`, found `{text}`");
                self.bad(node, message, "use `true` or `false`");
            }
            None => self.wrong(node, "`true` or `false`"),
        }
        None
    }

    /// The items of a list, as texts with their nodes.
    pub(super) fn texts<'n>(&mut self, node: &'n Node) -> Vec<(String, &'n Node)> {
        self.list(node).iter().filter_map(|it| Some((self.text(it)?, it))).collect()
    }

    pub(super) fn list<'n>(&mut self, node: &'n Node) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            Value::Null => &[],
            _ => {
                self.wrong(node, "a list");
                &[]
            }
        }
    }

    pub(super) fn map<'n>(&mut self, node: &'n Node) -> &'n [(Key, Node)] {
        match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            _ => {
                self.wrong(node, "a mapping");
                &[]
            }
        }
    }

    /// `KEY=VALUE` as a map or a list; a key alone has no value.
    pub(super) fn pairs<'n>(&mut self, node: &'n Node) -> Vec<(String, Option<String>, &'n Node)> {
        if let Value::List(_) = node.value {
            let pair = |(text, node): (String, &'n Node)| match text.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned()), node),
                None => (text, None, node),
            };
            return self.texts(node).into_iter().map(pair).collect();
        }
        let entries = self.map(node).iter().filter(|(key, _)| self.is_c_string(&key.text, key.span));
        let entries: Vec<_> = entries.collect();
        entries.into_iter().map(|(key, node)| (key.text.clone(), self.text(node), node)).collect()
    }
}

/// A scalar as text, as compose prints it: a number by its value, not as it is written.
pub(super) fn text_of(node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(it) => Some(it.clone()),
        Value::Bool(it) => Some(it.to_string()),
        Value::Int(it) => Some(it.to_string()),
        Value::Float(it) => Some(float(*it)),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

/// As `%g` of Go's FormatFloat, with an exponent below 1e-4 and from 1e6.
fn float(number: f64) -> String {
    let size = number.abs();
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else if size == 0.0 || (1e-4..1e6).contains(&size) {
        number.to_string()
    } else {
        let text = format!("{number:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |it| ('-', it));
        format!("{mantissa}e{sign}{digits:0>2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_texts_as_compose_has_them() {
        // As `docker compose config` 2.40 prints them.
        for (number, expected) in [
            (1.1, "1.1"),
            (999_999.5, "999999.5"),
            (1e6, "1e+06"),
            (1_234_567.5, "1.2345675e+06"),
            (1e21, "1e+21"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (-0.0, "-0"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(float(number), expected);
        }
    }
}
