//! Splits a command string into words, as compose does.

use crate::words::BadWord;

/// The words of a command, and where it ends if not at the end of the string.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) words: Vec<String>,
    /// The byte of an operator of a shell (`; & | < >`) outside of quotes: compose drops it and what follows.
    pub(super) cut: Option<usize>,
}

/// The kind of quotes around a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    Nothing,
    Double,
    Single,
    /// `$(…)`, in which quotes have no meaning.
    Parentheses,
}

/// Splits at white space. Quotes group, a backslash escapes the next character (also in double quotes, unlike
/// in a shell; not in single ones), backquotes and `$(…)` group and are kept. Variables are not expanded.
pub(super) fn split(text: &str) -> Result<Split, BadWord> {
    let mut words = Vec::new();
    // None: between words.
    let mut word: Option<String> = None;
    let mut within = Within::Nothing;
    // Where the quotes began.
    let mut since = 0;
    // Where backquotes began; they may contain quotes.
    let mut backquotes: Option<usize> = None;
    let mut chars = text.char_indices();
    while let Some((at, it)) = chars.next() {
        if it == '\\' && within != Within::Single {
            let Some((_, next)) = chars.next() else {
                let bad = BadWord::new(at..at + 1, "expected a character after the backslash".to_owned());
                return Err(bad.with_help("use `\\\\` for a backslash".to_owned()));
            };
            word.get_or_insert_default().push(next);
            continue;
        }
        let is_plain = within == Within::Nothing && backquotes.is_none();
        let outer = within;
        match it {
            ' ' | '\t' | '\r' | '\n' if is_plain => {
                words.extend(word.take());
                continue;
            }
            ';' | '&' | '|' | '<' | '>' if is_plain => {
                // The descriptor number of a redirection belongs to it.
                let starts_with_digit = |it: &String| it.starts_with(|it: char| it.is_ascii_digit());
                words.extend(word.filter(|word| it != '>' || !starts_with_digit(word)));
                return Ok(Split { words, cut: Some(at) });
            }
            '"' if within == Within::Nothing => within = Within::Double,
            '\'' if within == Within::Nothing => within = Within::Single,
            '"' if within == Within::Double => within = Within::Nothing,
            '\'' if within == Within::Single => within = Within::Nothing,
            '`' if within == Within::Nothing => backquotes = backquotes.xor(Some(at)),
            '(' if is_plain && word.as_ref().is_some_and(|it| it.ends_with('$')) => {
                within = Within::Parentheses
            }
            '(' if is_plain || within == Within::Parentheses => return Err(parenthesis(at, "(")),
            // Compose takes it as an opening one.
            ')' if is_plain => within = Within::Parentheses,
            ')' if within == Within::Parentheses => within = Within::Nothing,
            _ => {}
        }
        if outer == Within::Nothing && within != outer {
            since = at;
        }
        let is_quote = within != outer && matches!(it, '"' | '\'');
        if !is_quote {
            word.get_or_insert_default().push(it);
        } else if within == Within::Nothing {
            word.get_or_insert_default();
        }
    }
    let open = match (within, backquotes) {
        (Within::Nothing, None) => {
            words.extend(word);
            return Ok(Split { words, cut: None });
        }
        (Within::Nothing, Some(at)) => {
            since = at;
            "`"
        }
        (Within::Double, _) => "\"",
        (Within::Single, _) => "'",
        (Within::Parentheses, _) if text.get(since..).is_some_and(|it| it.starts_with(')')) => {
            return Err(parenthesis(since, ")"));
        }
        (Within::Parentheses, _) => "(",
    };
    let bad = BadWord::new(since..text.len(), format!("`{open}` is not closed"));
    Err(bad.with_help(format!("close it, or use `\\{open}`")))
}

fn parenthesis(at: usize, it: &str) -> BadWord {
    let bad = BadWord::new(at..at + 1, format!("`{it}` cannot stand here outside of quotes"));
    bad.with_help("put it in quotes; for a shell, write `sh -c '…'`".to_owned())
}
