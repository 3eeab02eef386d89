//! `$NAME` and `${NAME…}` in string values, by compose's grammar.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::source::{Sources, Span, Spanned};
use crate::config::yaml::{Node, Value};
use crate::words::BadWord;

/// Variables by name.
pub type Env = BTreeMap<String, String>;

/// Replaces variables in nodes.
#[derive(Debug)]
pub(crate) struct Interpolation<'a> {
    env: &'a Env,
    sources: &'a Sources,
    /// The unset variables of which a warning exists.
    unset: BTreeSet<String>,
    /// The strings that could not be interpolated. Each has a diagnostic.
    pub(crate) broken: Vec<Span>,
}

impl<'a> Interpolation<'a> {
    pub(crate) fn new(env: &'a Env, sources: &'a Sources) -> Self {
        Self { env, sources, unset: BTreeSet::new(), broken: Vec::new() }
    }

    /// Replaces the variables in every string of `node`. Adds mistakes to `diagnostics`, and a warning at the first place of
    /// each unset variable.
    pub(crate) fn node(&mut self, node: &mut Node, diagnostics: &mut Vec<Diagnostic>) {
        match &mut node.value {
            Value::Text(text) => self.text(text, node.span, diagnostics),
            Value::List(items) => items.iter_mut().for_each(|it| self.node(it, diagnostics)),
            Value::Map(entries) => entries.iter_mut().for_each(|(_, it)| self.node(it, diagnostics)),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {}
        }
    }

    fn text(&mut self, text: &mut String, span: Span, diagnostics: &mut Vec<Diagnostic>) {
        if !text.contains('$') {
            return;
        }
        let mut unset = Vec::new();
        let expanded = expand_within(text, self.env, 0, &mut unset);
        let place = |at| {
            let scalar = Spanned { value: text.clone(), span };
            self.sources.fragment(&scalar, at)
        };
        for it in unset {
            // Compose sets this one itself.
            if it.name != PROJECT_NAME && self.unset.insert(it.name.clone()) {
                diagnostics.push(Diagnostic { span: Some(place(it.at.clone())), ..it.warning() });
            }
        }
        match expanded {
            Ok(expanded) => *text = expanded,
            Err(bad) => {
                let mut diagnostic = Diagnostic::new(place(bad.at), bad.message);
                diagnostic.help = bad.help.map(Into::into);
                diagnostics.push(diagnostic);
                self.broken.push(span);
            }
        }
    }
}

/// The code of the warning about an unset variable.
pub const UNSET: &str = "unset-variable";

/// The variable that has the project's name.
pub const PROJECT_NAME: &str = "COMPOSE_PROJECT_NAME";

/// A variable without a value and without a default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unset {
    pub name: String,
    /// Bytes of the text.
    pub at: Range<usize>,
}

impl Unset {
    /// The warning, without its place.
    pub fn warning(&self) -> Diagnostic {
        let Self { name, .. } = self;
        let message = format!("variable `{name}` is not set and counts as empty");
        let help = format!("set it, or write `${{{name}:-}}` if it may be empty");
        Diagnostic { severity: Severity::Warning, ..Diagnostic::nowhere(message) }.code(UNSET).help(help)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Bad {
    at: Range<usize>,
    message: String,
    help: Option<String>,
    /// A required variable is not set.
    unset: bool,
}

/// The variables of a string cannot be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unexpanded {
    pub bad: BadWord,
    /// The only reason is that a required variable (`${NAME:?message}`) is not set.
    pub unset: bool,
}

/// Replaces the variables in a text of no YAML file, and adds those that count as empty to `unset`.
pub fn expand(text: &str, env: &Env, unset: &mut Vec<Unset>) -> Result<String, Unexpanded> {
    expand_within(text, env, 0, unset).map_err(|it| Unexpanded {
        bad: BadWord { at: it.at, message: it.message, help: it.help },
        unset: it.unset,
    })
}

/// The limit of defaults within defaults, to protect the stack.
const MAX_DEPTH: usize = 20;

/// A megabyte of replaced text: variables that hold other variables several times grow without bound.
const MAX_LENGTH: usize = 1 << 20;

/// Replaces the variables in one string, which is the default of `depth` others.
fn expand_within(text: &str, env: &Env, depth: usize, unset: &mut Vec<Unset>) -> Result<String, Bad> {
    let mut out = String::new();
    let mut rest = 0;
    while let Some(dollar) = text[rest..].find('$').map(|it| rest + it) {
        out.push_str(&text[rest..dollar]);
        let (value, end) = variable(text, dollar, env, depth, unset)?;
        out.push_str(&value);
        rest = end;
        if out.len() > MAX_LENGTH {
            let message = format!("the text has more than {MAX_LENGTH} bytes with its variables replaced");
            return Err(Bad { at: dollar..end, message, help: None, unset: false });
        }
    }
    out.push_str(&text[rest..]);
    Ok(out)
}

/// The value of what begins at a `$`, and where it ends.
fn variable(
    text: &str,
    dollar: usize,
    env: &Env,
    depth: usize,
    unset: &mut Vec<Unset>,
) -> Result<(String, usize), Bad> {
    let mut plain = |name: &str, end: usize| {
        env.get(name).cloned().unwrap_or_else(|| {
            unset.push(Unset { name: name.to_owned(), at: dollar..end });
            String::new()
        })
    };
    let after = &text[dollar + 1..];
    if after.starts_with('$') {
        return Ok(("$".to_owned(), dollar + 2));
    }
    if !after.starts_with('{') {
        let name = name_at(after);
        if name.is_empty() {
            // `$(date)` in a command of a network file: compose refuses it in its own files, nothing refuses it here.
            return Ok(("$".to_owned(), dollar + 1));
        }
        let end = dollar + 1 + name.len();
        return Ok((plain(name, end), end));
    }
    let name = name_at(&after[1..]);
    let begin = dollar + 2 + name.len();
    if depth > MAX_DEPTH {
        let message = format!("variables are nested more than {MAX_DEPTH} deep");
        return Err(Bad { at: dollar..begin, message, help: None, unset: false });
    }
    let unclosed = || Bad {
        at: dollar..text.len(),
        message: "`${` is never closed".to_owned(),
        help: Some("write `${NAME}`, or `$$` for a dollar sign".to_owned()),
        unset: false,
    };
    let close = closing_brace(text, begin).ok_or_else(unclosed)?;
    let whole = dollar..close + 1;
    if name.is_empty() {
        return Err(Bad {
            message: format!("expected the name of a variable in `{}`", &text[whole.clone()]),
            at: whole,
            help: Some("a name has letters, digits and `_`, and does not start with a digit".to_owned()),
            unset: false,
        });
    }
    let value = env.get(name);
    let modifier = &text[begin..close];
    let (rule, argument) = match modifier.strip_prefix(':') {
        Some(rest) => (rest.chars().next(), rest),
        None => (modifier.chars().next(), modifier),
    };
    // With a colon an empty variable counts as unset.
    let set = value.filter(|it| !modifier.starts_with(':') || !it.is_empty());
    let argument = argument.get(1..).unwrap_or_default();
    if modifier.is_empty() {
        return Ok((plain(name, close + 1), close + 1));
    }
    let mut nested = |argument: &str| {
        let start = close - argument.len();
        let before = unset.len();
        let expanded = expand_within(argument, env, depth + 1, unset);
        let shifted = |at: &Range<usize>| start + at.start..start + at.end;
        unset.iter_mut().skip(before).for_each(|it| it.at = shifted(&it.at));
        expanded.map_err(|bad| Bad { at: shifted(&bad.at), ..bad })
    };
    let expanded = match rule {
        Some('-') => match set {
            Some(it) => it.clone(),
            None => nested(argument)?,
        },
        Some('+') => match set {
            Some(_) => nested(argument)?,
            None => String::new(),
        },
        Some('?') => match set {
            Some(it) => it.clone(),
            None => {
                let reason = nested(argument)?;
                let reason = if reason.is_empty() { "it is required".to_owned() } else { reason };
                return Err(Bad {
                    at: whole,
                    message: format!("variable `{name}` is not set: {reason}"),
                    help: Some(format!("set `{name}` in the environment")),
                    unset: true,
                });
            }
        },
        _ => {
            return Err(Bad {
                at: begin..close,
                message: format!("unexpected `{modifier}` after the name of a variable"),
                help: Some("expected `:-`, `-`, `:?`, `?`, `:+` or `+`".to_owned()),
                unset: false,
            });
        }
    };
    Ok((expanded, close + 1))
}

/// The longest name of a variable that the text begins with.
fn name_at(text: &str) -> &str {
    let is_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
    let end = text.find(|it| !is_name(it)).unwrap_or(text.len());
    let name = &text[..end];
    if name.starts_with(|it: char| it.is_ascii_digit()) { "" } else { name }
}

/// The brace that closes a `${` before `begin`, over any that are opened in between, with a `$` or without, as compose
/// counts them.
fn closing_brace(text: &str, begin: usize) -> Option<usize> {
    let mut depth = 1;
    let mut chars = text[begin..].char_indices().peekable();
    while let Some((at, it)) = chars.next() {
        match it {
            '$' if chars.next_if(|(_, it)| *it == '$').is_some() => {
                // An escaped dollar sign, and with it the brace behind it.
                chars.next_if(|(_, it)| *it == '{');
            }
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(begin + at);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Env {
        [("A", "a"), ("EMPTY", ""), ("B_2", "b")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    #[test]
    fn every_form_of_the_grammar() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$A-$B_2", "a-b"),
            ("${A}${NONE}!", "a!"),
            ("$$A $${A}", "$A ${A}"),
            ("${NONE:-x}${EMPTY:-y}${A:-z}", "xya"),
            ("${NONE-x}${EMPTY-y}${A-z}", "xa"),
            ("${A:?m}${A?m}${EMPTY?m}", "aa"),
            ("${A:+x}${EMPTY:+y}${EMPTY+z}${NONE+n}", "xz"),
            ("${NONE:-${NONE:-${A}}}", "a"),
            ("${NONE:-a}b}", "ab}"),
            (r#"${A:-{"k":1}}"#, "a"),
            (r#"${NONE:-{"k":{}}}"#, r#"{"k":{}}"#),
            ("${NONE:-$${}", "${"),
            ("${NONE:--1}", "-1"),
            ("é$A", "éa"),
            ("$(date) $ $5 ${NONE:-é$}", "$(date) $ $5 é$"),
        ] {
            assert_eq!(expand_within(text, &env(), 0, &mut Vec::new()).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn unset_variables_are_found_where_their_value_is_used() {
        for (text, expected) in [
            ("$A${EMPTY}${NONE:-x}${NONE+x}$$NONE", vec![]),
            ("$NONE x ${NO}", vec![("NONE", 0..5), ("NO", 8..13)]),
            ("${NONE:-a${NO}b$NEVER}", vec![("NO", 9..14), ("NEVER", 15..21)]),
            ("${A:-$NONE}${EMPTY:-${NO:-$NEVER}}", vec![("NEVER", 26..32)]),
        ] {
            let mut unset = Vec::new();
            expand_within(text, &env(), 0, &mut unset).unwrap();
            let expected = expected.into_iter().map(|(name, at)| Unset { name: name.to_owned(), at });
            assert_eq!(unset, expected.collect::<Vec<_>>(), "{text}");
        }
    }

    #[test]
    fn depth_has_a_limit() {
        let nested = |depth: usize| "${N:-".repeat(depth) + "x" + &"}".repeat(depth);
        assert_eq!(expand_within(&nested(20), &env(), 0, &mut Vec::new()).as_deref(), Ok("x"));
        assert_eq!(
            expand_within(&nested(100_000), &env(), 0, &mut Vec::new()).unwrap_err().message,
            "variables are nested more than 20 deep"
        );
    }

    #[test]
    fn errors_say_where_and_what() {
        for (text, at, message) in [
            ("x ${NONE:?give one}", 2..19, "variable `NONE` is not set: give one"),
            ("${EMPTY:?}", 0..10, "variable `EMPTY` is not set: it is required"),
            ("${A", 0..3, "`${` is never closed"),
            ("${1x}", 0..5, "expected the name of a variable in `${1x}`"),
            ("${A!b}", 3..5, "unexpected `!b` after the name of a variable"),
            ("${A:b}", 3..5, "unexpected `:b` after the name of a variable"),
            ("${NONE:-é${!}}", 10..14, "expected the name of a variable in `${!}`"),
        ] {
            let bad = expand_within(text, &env(), 0, &mut Vec::new()).unwrap_err();
            assert_eq!((bad.at, bad.message.as_str()), (at, message), "{text}");
        }
    }
}
