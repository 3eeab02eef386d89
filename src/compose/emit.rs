//! A tree as YAML in block style. A scalar that two YAML readers could take for different things is put in quotes;
//! a number is written as its file has it.

use crate::config::{Node, Value, reads_as_text};

/// The whole document.
pub(super) fn document(node: &Node) -> String {
    let mut out = String::new();
    value(node, 0, true, &mut out);
    out
}

/// Writes a value and the line break after it. Only the value of a key may have a tag. `indent` is that of its lines; the
/// cursor stands where the first one begins if `at_start`, else behind a key.
fn value(node: &Node, indent: usize, at_start: bool, out: &mut String) {
    let lead = |out: &mut String, index: usize| {
        if index > 0 || !at_start {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
        }
    };
    if let Some(tag) = &node.tag {
        out.push(' ');
        out.push_str(tag);
    }
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            for (index, (key, node)) in entries.iter().enumerate() {
                lead(out, index);
                name(&key.text, indent, out);
                out.push(':');
                value(node, indent + 2, false, out);
                out.truncate(out.trim_end_matches('\n').len());
            }
        }
        Value::List(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                lead(out, index);
                out.push_str("- ");
                value(item, indent + 2, true, out);
                out.truncate(out.trim_end_matches('\n').len());
            }
        }
        _ => {
            if !at_start {
                out.push(' ');
            }
            scalar(node, indent, out);
        }
    }
    out.push('\n');
}

/// YAML takes no longer text than this for a key that nothing announces.
const LONGEST_KEY: usize = 1000;

fn name(key: &str, indent: usize, out: &mut String) {
    if key.len() > LONGEST_KEY {
        out.push_str("? ");
        quoted(key, out);
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent));
    } else if is_plain(key) {
        out.push_str(key);
    } else {
        quoted(key, out);
    }
}

fn scalar(node: &Node, indent: usize, out: &mut String) {
    match (&node.value, &node.plain) {
        (Value::Text(text), _) if is_plain(text) => out.push_str(text),
        (Value::Text(text), _) if is_block(text) => block(text, indent, out),
        (Value::Text(text), _) => quoted(text, out),
        (Value::Int(_) | Value::Float(_), Some(plain)) => out.push_str(plain),
        (Value::Null, _) => out.push_str("null"),
        (Value::Map(_), _) => out.push_str("{}"),
        (Value::List(_), _) => out.push_str("[]"),
        (Value::Bool(_) | Value::Int(_) | Value::Float(_), _) => out.push_str(&node.to_json().to_string()),
    }
}

/// What YAML 1.1 has for booleans beyond those of 1.2, and other words that readers differ about.
const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "nan", "inf", "infinity"];

/// May a text stand without quotes, for a reader of any version of YAML?
fn is_plain(text: &str) -> bool {
    let inside = |it: char| it.is_alphanumeric() || "_-./:@%+=,~$(){}[]*&!?;^ ".contains(it);
    let Some(first) = text.chars().next() else { return false };
    let begins = first.is_alphanumeric() || "/_$.(".contains(first);
    // Digits with these alone may be a number, a date, or a time to some reader.
    let numeric = |it: char| it.is_ascii_digit() || "_:.-+ eExXoObBtTzZ".contains(it);
    let is_numeric =
        text.starts_with(|it: char| it.is_ascii_digit() || it == '.') && text.chars().all(numeric);
    begins
        && text.chars().all(inside)
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && !is_numeric
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
        && reads_as_text(text)
}

/// Is it text of several lines that a literal block holds as it is?
fn is_block(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let is_line = |it: &str| it.is_empty() || !it.trim().is_empty() && !it.chars().any(is_special);
    body.contains('\n')
        && !body.starts_with([' ', '\t', '\n'])
        && !body.ends_with('\n')
        && body.split('\n').all(is_line)
}

fn block(text: &str, indent: usize, out: &mut String) {
    out.push_str(if text.ends_with('\n') { "|" } else { "|-" });
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', indent.max(2)));
            out.push_str(line);
        }
    }
}

/// Characters that only an escape carries through.
fn is_special(it: char) -> bool {
    it.is_control() || matches!(it, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn quoted(text: &str, out: &mut String) {
    if !text.chars().any(is_special) {
        out.push('\'');
        out.push_str(&text.replace('\'', "''"));
        out.push('\'');
        return;
    }
    out.push('"');
    for it in text.chars() {
        match it {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            it if is_special(it) => out.push_str(&format!("\\u{:04x}", u32::from(it))),
            it => out.push(it),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Sources, documents};

    fn read(text: &str) -> Node {
        let mut sources = Sources::default();
        let file = sources.add("f", text);
        let mut diagnostics = Vec::new();
        let mut documents = documents(&sources, file, &mut diagnostics);
        assert!(diagnostics.is_empty(), "{text}\n{}", diagnostics[0].render(&sources, false));
        documents.remove(0)
    }

    #[test]
    fn blocks_quotes_and_numbers_as_they_were() {
        let text = "a: {b: [], c: {}, d: ~, e: [1, [2, 3], {f: 0440, g: [x]}], 'yes': no}\nm: 1.10\nt: True\n\
            q: ['1', 10.0.0.1, 1_000, 2001-12-14, '22:22', 10s, /x, $V, '${A:-b}', '', ' x', 'a: b', 'a #b', \"it's\\n\", \"x\\ty\"]\n\
            s: |\n  one\n    two\n\n  three\nu: \"one\\ntwo\"\nv: [\"one\\ntwo\\n\"]\n";
        expect![[r#"
            a:
              b: []
              c: {}
              d: null
              e:
                - 1
                - - 2
                  - 3
                - f: 0440
                  g:
                    - x
              'yes': 'no'
            m: 1.10
            t: true
            q:
              - '1'
              - '10.0.0.1'
              - 1_000
              - '2001-12-14'
              - '22:22'
              - 10s
              - /x
              - $V
              - ${A:-b}
              - ''
              - ' x'
              - 'a: b'
              - 'a #b'
              - "it's\n"
              - "x\ty"
            s: |
              one
                two

              three
            u: |-
              one
              two
            v:
              - |
                one
                two
        "#]]
        .assert_eq(&document(&read(text)));
    }

    fn strings() -> impl Strategy<Value = String> {
        let words = [
            "yes",
            "null",
            "0x1F",
            "1_0",
            "~",
            "-",
            "- a",
            "a: b",
            "? x",
            "# c",
            "&a",
            "*a",
            "!t",
            "|",
            "%",
            "@",
            "`",
            "{{x}}",
            "\u{85}",
            "\u{feff}x",
            "\u{2028}",
            "'",
            "\"",
            "\\",
            "\n",
            "\r\n",
            "\t",
            " ",
            "é",
            "a\n b\n",
            "---",
            "...",
            "1:30",
            "=",
            "<<",
        ];
        let part =
            prop_oneof![proptest::sample::select(words.to_vec()).prop_map(str::to_owned), any::<String>()];
        proptest::collection::vec(part, 0..4).prop_map(|it| it.concat())
    }

    fn trees() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            strings().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                proptest::collection::vec((strings(), inner), 0..4).prop_map(|it| serde_json::Value::Object(
                    it.into_iter().filter(|(key, _)| key != "<<").collect()
                )),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_it_was(tree in trees()) {
            // JSON is YAML: what it says is what the writer is given.
            let node = read(&serde_json::to_string(&tree).unwrap().replace('\u{7f}', "\\u007f"));
            prop_assert_eq!(node.to_json(), tree.clone());
            let written = document(&node);
            prop_assert_eq!(read(&written).to_json(), tree, "{}", written);
        }
    }
}
