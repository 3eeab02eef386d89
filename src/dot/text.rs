//! Text of names and values.

use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A scalar as text.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(it) => Some(it.clone()),
        Value::Number(it) => Some(it.to_string()),
        Value::Bool(it) => Some(it.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Replaces control characters, which XML does not allow, with U+FFFD.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|it| if is_control(it) { '\u{fffd}' } else { it }).collect()
}

/// C0 and C1 controls, and other characters that XML 1.0 excludes (section 2.2).
fn is_control(it: char) -> bool {
    it.is_control()
        || matches!(it, '\u{fffe}' | '\u{ffff}' | '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The width of a text in columns; East Asian wide characters have two, combining marks none.
pub(super) fn columns(text: &str) -> usize {
    text.width()
}

/// Shortens a text to a number of columns by cutting out its middle, because both ends distinguish names.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let text = printable(text);
    if columns(&text) <= most {
        return text;
    }
    let tail_columns = most.saturating_sub(1) / 3;
    let head = taken(text.chars(), most.saturating_sub(1) - tail_columns);
    let tail: String = taken(text.chars().rev(), tail_columns).chars().rev().collect();
    format!("{head}…{tail}")
}

fn taken(chars: impl Iterator<Item = char>, most: usize) -> String {
    let mut used = 0;
    chars
        .take_while(|it| {
            used += it.width().unwrap_or_default();
            used <= most
        })
        .collect()
}

/// Escapes text for XML elements and attribute values in double quotes.
pub(super) fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for it in text.chars() {
        match it {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            it if is_control(it) => escaped.push('\u{fffd}'),
            it => escaped.push(it),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_a_terminal() {
        for (text, expected) in [
            ("", 0),
            ("eth0", 4),
            ("日本", 4),
            ("a\u{301}", 1),
            ("한", 2),
            ("ﾊ", 1),
            ("🦀", 2),
            ("…", 1),
            // Signs of the two planes that a table of ranges easily forgets.
            ("⌚", 2),
            ("\u{200d}", 0),
        ] {
            assert_eq!(columns(text), expected, "{text}");
        }
        assert_eq!(shortened("日本語日本語日本語", 9), "日本語…語");
    }
}
