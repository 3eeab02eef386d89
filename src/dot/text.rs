//! Names and values as text that can be shown.

use serde_json::Value;

/// A scalar as people write it.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(it) => Some(it.clone()),
        Value::Number(it) => Some(it.to_string()),
        Value::Bool(it) => Some(it.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Text without what no picture can show and no XML may have: control characters become U+FFFD.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|it| if is_control(it) { '\u{fffd}' } else { it }).collect()
}

/// C0 and C1 controls, and what XML 1.0 leaves out (section 2.2).
fn is_control(it: char) -> bool {
    it.is_control()
        || matches!(it, '\u{fffe}' | '\u{ffff}' | '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How many columns a text takes, East Asian wide characters two.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(width).sum()
}

fn width(it: char) -> usize {
    match u32::from(it) {
        0x300..=0x36f => 0,
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f => 2,
        0xff00..=0xff60 | 0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// A text of at most so many columns, the middle left out where it is longer: both ends tell names apart.
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
            used += width(*it);
            used <= most
        })
        .collect()
}

/// Text for XML: element content and attribute values in double quotes.
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
