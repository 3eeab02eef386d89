//! What is wrong with a configuration, where, and how to fix it.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{
    Annotation, AnnotationKind, Group, Level, Renderer, Snippet, normalize_untrusted_str,
};
use serde_json::{Value, json};

use crate::config::source::{Sources, Span};

/// One finding about a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// What an error makes unusable.
    pub scope: Scope,
    /// A stable name for this kind of finding, such as `duplicate-address`; [`Diagnostic::INVALID`] for values that
    /// cannot be read.
    pub code: &'static str,
    /// None if the finding is not about a place in a file.
    pub span: Option<Span>,
    /// Lower case, no full stop; user input in backticks.
    pub message: String,
    /// Text at the place itself.
    pub label: Option<Box<str>>,
    /// How to fix it.
    pub help: Option<Box<str>>,
    /// Related places, each with an explanation.
    pub notes: Vec<(Span, String)>,
}

/// How serious a finding is, most serious first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something that cannot work.
    Error,
    /// Something that works, but probably not as intended.
    Warning,
    /// Something that is probably left over.
    Hint,
}

impl Severity {
    /// Every severity.
    pub const ALL: [Self; 3] = [Self::Error, Self::Warning, Self::Hint];
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Hint => "hint",
        })
    }
}

/// What an error makes unusable, most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The configuration cannot be read.
    Config,
    /// The configuration can be shown, but no engine can run it.
    Network,
    /// One link fails, all others work.
    Link,
}

impl Diagnostic {
    /// The code of findings without a code of their own: a value that cannot be read.
    pub const INVALID: &str = "invalid";

    /// An error at a place.
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span: Some(span), ..Self::nowhere(message) }
    }

    /// An error without a place.
    pub fn nowhere(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            scope: Scope::Config,
            code: Self::INVALID,
            span: None,
            message: message.into(),
            label: None,
            help: None,
            notes: Vec::new(),
        }
    }

    /// A warning at a place.
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::new(span, message) }
    }

    /// A hint at a place.
    pub fn hint(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Hint, ..Self::new(span, message) }
    }

    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }

    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Is it an error that makes at least this much unusable?
    pub fn stops(&self, scope: Scope) -> bool {
        self.severity == Severity::Error && self.scope <= scope
    }

    /// What findings with the same cause have in common.
    pub fn cause(&self) -> (Severity, &'static str, String) {
        let text = match self.code {
            // Outside of backticks: without the user's input.
            Self::INVALID => self.message.split('`').step_by(2).collect(),
            _ => String::new(),
        };
        (self.severity, self.code, text)
    }

    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into().into());
        self
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into().into());
        self
    }

    #[must_use]
    pub fn note(mut self, span: Span, text: impl Into<String>) -> Self {
        self.notes.push((span, text.into()));
        self
    }

    /// The message with its place, the line in question, a caret below, and the help.
    pub fn render(&self, sources: &Sources, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Hint => Level::NOTE.with_name("hint"),
        };
        let mut title = level.primary_title(&self.message);
        if self.code != Self::INVALID {
            title = title.id(self.code);
        }
        let mut group = Group::with_title(title);
        if let Some(span) = self.span {
            let primary = AnnotationKind::Primary.span(first_line(sources, span));
            let label = self.label.as_deref().map(normalize_untrusted_str);
            let primary = primary.label(label);
            // Notes in the same file share its snippet: the renderer wants one snippet per file.
            let here = self.notes.iter().filter(|(note, _)| note.file == span.file);
            let annotations = here.map(|(note, text)| annotation(sources, *note, text));
            group = group.element(snippet(sources, span).annotation(primary).annotations(annotations));
        }
        for (span, text) in
            self.notes.iter().filter(|(note, _)| self.span.is_none_or(|it| it.file != note.file))
        {
            group = group.element(snippet(sources, *span).annotation(annotation(sources, *span, text)));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(normalize_untrusted_str(help)));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    /// The same for editors and scripts. Lines and columns count from 1, columns in characters.
    pub fn to_json(&self, sources: &Sources) -> Value {
        let mut json = self.span.map_or_else(|| json!({}), |it| place(sources, it));
        json["severity"] = json!(self.severity.to_string());
        json["code"] = json!(self.code);
        json["message"] = json!(self.message);
        json["label"] = json!(self.label);
        json["help"] = json!(self.help);
        json["notes"] = self
            .notes
            .iter()
            .map(|(span, text)| {
                let mut note = place(sources, *span);
                note["message"] = json!(text);
                note
            })
            .collect();
        json
    }
}

/// Sorts by place and drops duplicates.
pub fn tidy(diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.sort_by(|a, b| (a.span, &a.message).cmp(&(b.span, &b.message)));
    diagnostics.dedup_by(|a, b| a.span == b.span && a.message == b.message);
}

fn place(sources: &Sources, span: Span) -> Value {
    let start = sources.line_col(span.file, span.start);
    let end = sources.line_col(span.file, span.end);
    json!({
        "file": sources.name(span.file),
        "line": start.line,
        "col": start.col,
        "end_line": end.line,
        "end_col": end.col,
    })
}

fn snippet<'a>(sources: &'a Sources, span: Span) -> Snippet<'a, Annotation<'a>> {
    Snippet::source(sources.text(span.file)).path(sources.name(span.file))
}

fn annotation<'a>(sources: &Sources, span: Span, text: &'a str) -> Annotation<'a> {
    AnnotationKind::Context.span(first_line(sources, span)).label(text)
}

/// A block may span many lines; its first line is enough.
fn first_line(sources: &Sources, span: Span) -> Range<usize> {
    let line = sources.slice(span).split(['\n', '\r']).next().unwrap_or_default();
    span.start..span.start + line.trim_end().len()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn sources() -> Sources {
        let mut sources = Sources::default();
        sources.add("a.yaml", "links:\r\n- bridge: s1\r\n\tdev: é x\r\n");
        sources.add("b.yaml", "links: []\n");
        sources
    }

    fn span(sources: &Sources, name: &str, needle: &str) -> Span {
        let file = sources.ids().find(|it| sources.name(*it) == name).unwrap();
        let start = sources.text(file).find(needle).unwrap();
        Span { file, start, end: start + needle.len() }
    }

    fn check(diagnostic: &Diagnostic, expected: &Expect) {
        expected.assert_eq(&(diagnostic.render(&sources(), false) + "\n"));
    }

    #[test]
    fn error_shows_line_caret_label_and_help() {
        let it = Diagnostic::new(span(&sources(), "a.yaml", "x"), "not good")
            .label("this\u{1b}[1m")
            .help("take\u{7} y");
        check(
            &it,
            &expect![[r"
                error: not good
                 --> a.yaml:3:9
                  |
                3 |     dev: é x
                  |            ^ this␛[1m
                  |
                  = help: take␇ y
            "]],
        );
    }

    #[test]
    fn notes_of_either_file_are_shown() {
        let sources = sources();
        let it = Diagnostic::new(span(&sources, "a.yaml", "- bridge: s1\r\n\tdev: é x"), "two")
            .note(span(&sources, "a.yaml", "links"), "first here")
            .note(span(&sources, "b.yaml", "[]"), "and here");
        check(
            &it,
            &expect![[r"
                error: two
                 --> a.yaml:2:1
                  |
                1 | links:
                  | ----- first here
                2 | - bridge: s1
                  | ^^^^^^^^^^^^
                  |
                 ::: b.yaml:1:8
                  |
                1 | links: []
                  |        -- and here
            "]],
        );
    }

    #[test]
    fn warnings_and_errors_of_no_place() {
        check(
            &Diagnostic { severity: Severity::Warning, ..Diagnostic::nowhere("no file") },
            &expect![[r"
                warning: no file
            "]],
        );
    }

    #[test]
    fn json_counts_from_one() {
        let sources = sources();
        let it =
            Diagnostic::new(span(&sources, "a.yaml", "é x"), "m").note(span(&sources, "b.yaml", "["), "n");
        expect![[r#"{"file":"a.yaml","line":3,"col":7,"end_line":3,"end_col":10,"severity":"error","code":"invalid","message":"m","label":null,"help":null,"notes":[{"file":"b.yaml","line":1,"col":8,"end_line":1,"end_col":9,"message":"n"}]}"#]]
            .assert_eq(&it.to_json(&sources).to_string());
    }

    #[test]
    fn order_is_by_place_and_nothing_is_said_twice() {
        let sources = sources();
        let at = |name, needle| Diagnostic::new(span(&sources, name, needle), "m");
        let mut all = vec![at("b.yaml", "["), at("a.yaml", "x"), at("a.yaml", "links"), at("a.yaml", "x")];
        tidy(&mut all);
        assert_eq!(all, [at("a.yaml", "links"), at("a.yaml", "x"), at("b.yaml", "[")]);
    }
}
