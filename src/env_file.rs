//! Env files by compose's grammar (compose-go's dotenv parser): what each statement gives, and how to write a value.

mod project;

use std::collections::BTreeMap;
use std::ops::Range;

pub use project::{EnvFile, EnvMode, ProjectEnv, Written, is_written_by_mdc, mode_variable};

use crate::config::{Env, expand};
use crate::words::BadWord;

/// `NAME=value`, `NAME: value`, or `NAME` alone on its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub name: String,
    /// Where it starts, from 1.
    pub line: usize,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    /// What the environment has, if it has the variable.
    Inherited,
    /// In single quotes.
    Literal(String),
    /// With variables in it.
    Text(String),
}

/// What the statements before a place have given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    pub value: String,
    /// The lines of all statements that set it; the last one counts.
    pub lines: Vec<usize>,
    /// The environment has it, and its value there is the one that counts.
    pub from_environment: bool,
}

/// Every statement of an env file, and all that is wrong with it. What follows a mistake in its line is not looked at.
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

/// The variables that the statements give where the environment is `env`: it goes before what they say, and a value
/// may refer to it and to what comes before it in the file. With them goes what cannot be evaluated: the line, what is
/// wrong, and whether it is only that a variable is not set (`${NAME:?message}`).
pub fn evaluate(statements: &[Statement], env: &Env) -> (BTreeMap<String, Variable>, Vec<BadValue>) {
    let mut variables: BTreeMap<String, Variable> = BTreeMap::new();
    let bad = each(statements, env, &Env::new(), |it, value| {
        let from_environment = env.get(&it.name);
        let variable = variables.entry(it.name.clone()).or_insert_with(|| Variable {
            value: String::new(),
            lines: Vec::new(),
            from_environment: from_environment.is_some(),
        });
        variable.value = from_environment.cloned().unwrap_or(value);
        variable.lines.push(it.line);
    });
    (variables, bad)
}

/// What the statements themselves say, in order, a name as often as the file has it: what `env_file` gives to a service.
/// Values refer to `env`, to what comes before in the file, then to `earlier`, which other files gave.
pub fn values(statements: &[Statement], env: &Env, earlier: &Env) -> (Vec<(String, String)>, Vec<BadValue>) {
    let mut values = Vec::new();
    let bad = each(statements, env, earlier, |it, value| values.push((it.name.clone(), value)));
    (values, bad)
}

/// The bytes that a variable may have, with its name: the kernel hands no longer one to a program (MAX_ARG_STRLEN in
/// `include/uapi/linux/binfmts.h`).
const MAX_VARIABLE: usize = 128 * 1024;

/// The bytes that all variables of a file may have: no program can be given more (three quarters of the default limit of the
/// stack, `execve(2)`).
const MAX_VARIABLES: usize = 6 * 1024 * 1024;

/// Hands each statement that gives something to `give`, with its value.
fn each(
    statements: &[Statement],
    env: &Env,
    earlier: &Env,
    mut give: impl FnMut(&Statement, String),
) -> Vec<BadValue> {
    let mut scope = earlier.clone();
    scope.extend(env.clone());
    let mut bad = Vec::new();
    let mut total = 0;
    for it in statements {
        let value = match &it.value {
            Value::Inherited => match env.get(&it.name) {
                Some(value) => value.clone(),
                None => continue,
            },
            Value::Literal(text) => text.clone(),
            Value::Text(text) => match expand(text, &scope) {
                Ok(value) => value,
                Err(error) => {
                    bad.push(BadValue {
                        line: it.line,
                        message: error.bad.message,
                        help: error.bad.help,
                        unset: error.unset,
                    });
                    continue;
                }
            },
        };
        let size = it.name.len() + value.len();
        total += size;
        if let Some(message) = too_large(&it.name, size, total) {
            bad.push(BadValue { line: it.line, message, help: None, unset: false });
            // Each further one would be told of as well.
            return bad;
        }
        if !env.contains_key(&it.name) {
            scope.insert(it.name.clone(), value.clone());
        }
        give(it, value);
    }
    bad
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
    /// A required variable is not set, which another environment may have.
    pub unset: bool,
}

/// A value as compose and a POSIX shell read the same; None where no form of it does. What needs no quotes has none.
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

/// The same in double quotes, where a backtick has no form that both read.
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

/// White space within a line, as compose has it.
fn is_blank(it: char) -> bool {
    matches!(it, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}')
}

struct Reader<'a> {
    text: &'a str,
    /// Up to where it is read, in bytes.
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

    /// The line that the reader is at.
    fn line(&mut self) -> usize {
        self.line += self.text.get(self.lines_to..self.at).unwrap_or_default().matches('\n').count();
        self.lines_to = self.at;
        self.line
    }

    /// Past white space and comments; false at the end.
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
            let message = format!("`{name}` is no name of a variable: it has a space");
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
                self.at += len;
                Ok(if quote == '"' { Value::Text(unescaped(&text)) } else { Value::Literal(text) })
            }
            _ => {
                self.at = self.line_end();
                let line = value.split('\n').next().unwrap_or_default();
                let text = line.split(" #").next().unwrap_or_default();
                Ok(Value::Text(text.trim_end().to_owned()))
            }
        }
    }
}

/// What stands between quotes, with only the escapes of the quote itself resolved, and the bytes it took.
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
