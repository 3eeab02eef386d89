//! A command that is one text, to words, as compose splits it.

use crate::words::BadWord;

/// The words of a command, and where it ends before its text does.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) words: Vec<String>,
    /// The byte of an operator of a shell (`; & | < >`) outside of quotes: compose drops it and what follows.
    pub(super) cut: Option<usize>,
}

const QUOTE: &str = "put it in quotes; for a shell, write `sh -c '…'`";

/// Which signs a place is between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    Nothing,
    Double,
    Single,
    Backquotes,
    /// `$(…)`, in which quotes mean nothing.
    Parentheses,
}

/// Splits at white space. Quotes group, a backslash takes the next character as it is (also in double quotes, unlike
/// in a shell; not in single ones), backquotes and `$(…)` group and stay. Variables are nobody's matter here.
pub(super) fn split(text: &str) -> Result<Split, BadWord> {
    let mut words = Vec::new();
    // None between words.
    let mut word: Option<String> = None;
    let mut within = Within::Nothing;
    // Where that began.
    let mut since = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, it)) = chars.next() {
        if it == '\\' && within != Within::Single {
            let Some((_, next)) = chars.next() else {
                let bad = BadWord::new(at..at + 1, "nothing follows the backslash".to_owned());
                return Err(bad.with_help("write `\\\\` for a backslash".to_owned()));
            };
            word.get_or_insert_default().push(next);
            continue;
        }
        let outer = within;
        match (it, within) {
            (' ' | '\t' | '\r' | '\n', Within::Nothing) => words.extend(word.take()),
            ('"', Within::Nothing) => within = Within::Double,
            ('\'', Within::Nothing) => within = Within::Single,
            ('"', Within::Double) | ('\'', Within::Single) => {
                word.get_or_insert_default();
                within = Within::Nothing;
            }
            (';' | '&' | '|' | '<' | '>', Within::Nothing) => {
                // The number of a file that is redirected goes with it.
                if it == '>' && word.as_ref().is_some_and(|it| it.starts_with(|it: char| it.is_ascii_digit()))
                {
                    word = None;
                }
                words.extend(word);
                return Ok(Split { words, cut: Some(at) });
            }
            _ => {
                match (it, within) {
                    ('`', Within::Nothing) => within = Within::Backquotes,
                    ('(', Within::Nothing) if word.as_ref().is_some_and(|it| it.ends_with('$')) => {
                        within = Within::Parentheses;
                    }
                    ('`', Within::Backquotes) | (')', Within::Parentheses) => within = Within::Nothing,
                    // Compose takes it for the beginning of what another one ends.
                    (')', Within::Nothing) => within = Within::Parentheses,
                    ('(', Within::Nothing | Within::Parentheses) => {
                        let message = "`(` cannot stand here outside of quotes".to_owned();
                        return Err(BadWord::new(at..at + 1, message).with_help(QUOTE.to_owned()));
                    }
                    _ => {}
                }
                word.get_or_insert_default().push(it);
            }
        }
        if outer == Within::Nothing && within != outer {
            since = at;
        }
    }
    let open = match within {
        Within::Nothing => {
            words.extend(word);
            return Ok(Split { words, cut: None });
        }
        Within::Double => "\"",
        Within::Single => "'",
        Within::Backquotes => "`",
        Within::Parentheses if text.get(since..).is_some_and(|it| it.starts_with(')')) => {
            let bad = BadWord::new(since..since + 1, "`)` cannot stand here outside of quotes".to_owned());
            return Err(bad.with_help(QUOTE.to_owned()));
        }
        Within::Parentheses => "(",
    };
    let bad = BadWord::new(since..text.len(), format!("`{open}` is never closed"));
    Err(bad.with_help(format!("close it, or write `\\{open}`")))
}
