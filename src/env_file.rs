//! Reads and writes env files by compose's grammar (compose-go's dotenv parser).

mod project;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

pub use project::{EnvFile, EnvMode, ProjectEnv, Written, is_written_by_mdc, mode_variable};

use crate::config::{Env, Unset, expand};
use crate::words::BadWord;

/// `NAME=value`, `NAME: value`, or `NAME` alone on its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub name: String,
    /// Its first line, from 1.
    pub line: usize,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    /// What the environment has, if it has the variable.
    Inherited,
    /// In single quotes.
    Literal(String),
    /// With variables in it, and the byte of the file at which each `$` stands.
    Text(String, Vec<usize>),
}

/// The variables set by earlier statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    pub value: String,
    /// The lines of all statements that set it; the last one counts.
    pub lines: Vec<usize>,
    /// The environment has it too, and wins.
    pub from_environment: bool,
}

/// All statements of an env file, and all mistakes. The rest of a line after a mistake is skipped.
pub fn parse(text: &str) -> (Vec<Statement>, Vec<BadWord>) {
    let mut reader = Reader { text, at: 0, line: 1, lines_to: 0 };
    let mut statements = Vec::new();
    let mut bad = Vec::new();
    while reader.skip_to_statement() {
        match reader.statement() {
            Ok(it) => statements.push(it),
            Err(it) => {
                bad.push(it);
                reader.at = reader.line_end();
            }
        }
    }
    (statements, bad)
}

/// Evaluates the statements. The environment `env` wins over them, and a value may refer to it and to earlier statements.
/// Also returns what was found.
pub fn evaluate(statements: &[Statement], env: &Env) -> (BTreeMap<String, Variable>, Findings) {
    let mut variables: BTreeMap<String, Variable> = BTreeMap::new();
    let findings = each(statements, env, &Env::new(), |it, value| {
        let from_environment = env.get(&it.name);
        let variable = variables.entry(it.name.clone()).or_insert_with(|| Variable {
            value: String::new(),
            lines: Vec::new(),
            from_environment: from_environment.is_some(),
        });
        variable.value = from_environment.cloned().unwrap_or(value);
        variable.lines.push(it.line);
    });
    (variables, findings)
}

/// Evaluates the statements in order and keeps duplicates, as `env_file` of a service does. Values refer to `env`, then to
/// earlier statements, then to `earlier`, the variables of other files.
pub fn values(statements: &[Statement], env: &Env, earlier: &Env) -> (Vec<(String, String)>, Findings) {
    let mut values = Vec::new();
    let findings = each(statements, env, earlier, |it, value| values.push((it.name.clone(), value)));
    (values, findings)
}

/// What was found in the values of an env file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The values that cannot be evaluated.
    pub bad: Vec<BadValue>,
    /// The unset variables that count as empty, each at its first place in the file.
    pub unset: Vec<Unset>,
}

/// The bytes that a variable may have, with its name: the kernel hands no longer one to a program (MAX_ARG_STRLEN in
/// `include/uapi/linux/binfmts.h`).
const MAX_VARIABLE: usize = 128 * 1024;

/// The bytes that all variables of a file may have: no program can be given more (three quarters of the default limit of the
/// stack, `execve(2)`).
const MAX_VARIABLES: usize = 6 * 1024 * 1024;

/// Calls `give` for each statement with a value.
fn each(
    statements: &[Statement],
    env: &Env,
    earlier: &Env,
    mut give: impl FnMut(&Statement, String),
) -> Findings {
    let mut scope = earlier.clone();
    scope.extend(env.clone());
    let mut found = Findings::default();
    let mut told = BTreeSet::new();
    let mut total = 0;
    for it in statements {
        let value = match &it.value {
            Value::Inherited => match env.get(&it.name) {
                Some(value) => value.clone(),
                None => continue,
            },
            Value::Literal(text) => text.clone(),
            Value::Text(text, dollars) => {
                let mut unset = Vec::new();
                let expanded = expand(text, &scope, &mut unset);
                unset.retain(|it| told.insert(it.name.clone()));
                if !unset.is_empty() {
                    let places = text.match_indices('$').map(|(at, _)| at).zip(dollars.iter().copied());
                    let places: BTreeMap<usize, usize> = places.collect();
                    found.unset.extend(unset.into_iter().map(|it| {
                        let start = places.get(&it.at.start).copied().unwrap_or_default();
                        Unset { at: start..start + it.at.len(), ..it }
                    }));
                }
                match expanded {
                    Ok(value) => value,
                    Err(error) => {
                        // An invalid variable is not also reported as unset.
                        told.insert(it.name.clone());
                        found.bad.push(BadValue {
                            line: it.line,
                            message: error.bad.message,
                            help: error.bad.help,
                            unset: error.unset,
                        });
                        continue;
                    }
                }
            }
        };
        let size = it.name.len() + value.len();
        total += size;
        if let Some(message) = too_large(&it.name, size, total) {
            found.bad.push(BadValue { line: it.line, message, help: None, unset: false });
            // Each further one would be told of as well.
            return found;
        }
        if !env.contains_key(&it.name) {
            scope.insert(it.name.clone(), value.clone());
        }
        give(it, value);
    }
    found
}

/// What is wrong with a variable of so many bytes, or with so many bytes of all up to it.
fn too_large(name: &str, size: usize, total: usize) -> Option<String> {
    if size > MAX_VARIABLE {
        Some(format!(
            "the value of `{name}` is longer than {MAX_VARIABLE} bytes, the kernel's limit for a variable"
        ))
    } else if total > MAX_VARIABLES {
        Some(format!(
            "the variables up to here have more than {MAX_VARIABLES} bytes, the kernel's limit for all of them"
        ))
    } else {
        None
    }
}

/// A value that cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadValue {
    pub line: usize,
    pub message: String,
    pub help: Option<String>,
    /// Only a required variable is not set (`${NAME:?message}`); another environment may have it.
    pub unset: bool,
}

/// Quotes a value so that compose and a POSIX shell read it alike, if necessary. None if no form works for both.
pub fn quoted(value: &str) -> Option<String> {
    let plain = |it: char| it.is_alphanumeric() || "_./:,@%+=-".contains(it);
    // A shell takes the escape of a single quote for its end.
    let single = !value.contains('\'') && !value.ends_with('\\');
    if value.chars().all(plain) {
        Some(value.to_owned())
    } else if single {
        Some(format!("'{value}'"))
    } else {
        double_quoted(value)
    }
}

/// The value in double quotes. None if it contains a backtick, which the two read differently.
pub fn double_quoted(value: &str) -> Option<String> {
    if value.contains('`') {
        return None;
    }
    let mut text = String::from("\"");
    for it in value.chars() {
        if matches!(it, '"' | '\\' | '$') {
            text.push('\\');
        }
        text.push(it);
    }
    Some(text + "\"")
}

/// White space within a line, as in compose.
fn is_blank(it: char) -> bool {
    matches!(it, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}')
}

struct Reader<'a> {
    text: &'a str,
    /// The offset of the next byte to read.
    at: usize,
    /// The line of the byte `lines_to`.
    line: usize,
    lines_to: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn line_end(&self) -> usize {
        self.rest().find('\n').map_or(self.text.len(), |it| self.at + it)
    }

    /// The current line.
    fn line(&mut self) -> usize {
        self.line += self.text.get(self.lines_to..self.at).unwrap_or_default().matches('\n').count();
        self.lines_to = self.at;
        self.line
    }

    /// Skips white space and comments. False at the end.
    fn skip_to_statement(&mut self) -> bool {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                return !trimmed.is_empty();
            }
            self.at = self.line_end();
        }
    }

    fn statement(&mut self) -> Result<Statement, BadWord> {
        let line = self.line();
        let after = self
            .rest()
            .strip_prefix("export")
            .filter(|it| it.starts_with(|it: char| it.is_ascii_whitespace()));
        if let Some(after) = after {
            self.at = self.text.len() - after.trim_start_matches(is_blank).len();
        }
        let start = self.at;
        let bad = |at: Range<usize>, message: String, help: &str| {
            Err(BadWord::new(at, message).with_help(help.to_owned()))
        };
        let end = self.rest().char_indices().find(|(_, it)| {
            !(is_blank(*it) || it.is_alphanumeric() || matches!(it, '_' | '.' | '-' | '[' | ']'))
        });
        let (end, separator) = match end {
            Some((idx, it)) => (start + idx, Some(it)),
            None => (self.text.len(), None),
        };
        let name = self.text.get(start..end).unwrap_or_default().trim_end();
        if let Some(it) = separator.filter(|it| !matches!(it, '=' | ':' | '\n')) {
            let shown = if it.is_control() || it == '\u{feff}' {
                it.escape_unicode().to_string()
            } else {
                it.to_string()
            };
            let message = format!("`{shown}` cannot be in the name of a variable");
            return bad(end..end + it.len_utf8(), message, "a line is `NAME=value` or begins with `#`");
        }
        if name.contains(' ') {
            let message = format!("the variable name `{name}` contains a space");
            return bad(start..start + name.len(), message, "a line is `NAME=value` or begins with `#`");
        }
        let name = name.to_owned();
        self.at = end + usize::from(separator.is_some());
        let value = match separator {
            Some('=' | ':') => self.value()?,
            _ => Value::Inherited,
        };
        Ok(Statement { name, line, value })
    }

    fn value(&mut self) -> Result<Value, BadWord> {
        let rest = self.rest();
        let value = rest.trim_start_matches(is_blank);
        self.at += rest.len() - value.len();
        match value.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let (text, len) = in_quotes(value, quote).ok_or_else(|| {
                    let message = format!("the value begins with `{quote}` and has no `{quote}` at its end");
                    BadWord::new(self.at..self.line_end(), message)
                        .with_help("close the quotes, or put the value into the other kind".to_owned())
                })?;
                let start = self.at;
                self.at += len;
                Ok(match quote {
                    '"' => {
                        let mut dollars = Vec::new();
                        let mut escaped = false;
                        for (at, it) in (start..).zip(value.bytes().take(len)) {
                            // `\$` becomes `$$`, and both have this place.
                            let count = if it == b'$' { 1 + usize::from(escaped) } else { 0 };
                            dollars.extend(std::iter::repeat_n(at, count));
                            escaped = it == b'\\' && !escaped;
                        }
                        Value::Text(unescaped(&text), dollars)
                    }
                    _ => Value::Literal(text),
                })
            }
            _ => {
                let start = self.at;
                self.at = self.line_end();
                let line = value.split('\n').next().unwrap_or_default();
                let text = line.split(" #").next().unwrap_or_default();
                let dollars = text.match_indices('$').map(|(at, _)| start + at).collect();
                Ok(Value::Text(text.trim_end().to_owned(), dollars))
            }
        }
    }
}

/// The text between quotes, with only the escapes of the quote itself resolved, and its length in bytes.
fn in_quotes(text: &str, quote: char) -> Option<(String, usize)> {
    let mut out = String::new();
    let mut escaped = false;
    for (idx, it) in text.char_indices().skip(1) {
        if it == quote && !escaped {
            return Some((out, idx + quote.len_utf8()));
        }
        if it == '\\' && !escaped {
            escaped = true;
            continue;
        }
        if escaped && it != quote {
            out.push('\\');
        }
        escaped = false;
        out.push(it);
    }
    None
}

/// Resolves the escapes of double quotes. `\$` becomes `$$`, which interpolation takes for a dollar sign.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let digits = |it: &str| it.bytes().take(3).take_while(u8::is_ascii_digit).count();
        let simple = match after.chars().next() {
            Some('a') => Some("\u{7}"),
            Some('b') => Some("\u{8}"),
            Some('f') => Some("\u{c}"),
            Some('n') => Some("\n"),
            Some('r') => Some("\r"),
            Some('t') => Some("\t"),
            Some('v') => Some("\u{b}"),
            Some('\\') => Some("\\"),
            Some('"') => Some("\""),
            Some('$') => Some("$$"),
            _ => None,
        };
        rest = match (simple, after.strip_prefix('0')) {
            (Some(it), _) => {
                out.push_str(it);
                &after[1..]
            }
            (None, Some(number)) => {
                let (number, after) = number.split_at(digits(number));
                match u8::from_str_radix(number, 8).ok().filter(|_| number.len() == 3) {
                    Some(it) => out.push(char::from(it)),
                    None => out.extend(["\\", number]),
                }
                after
            }
            (None, None) => {
                out.push('\\');
                after
            }
        };
    }
    out + rest
}

#[cfg(test)]
mod tests;
