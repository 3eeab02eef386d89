//! The grammar of `deps` files, and the same in JSON.

use std::ops::Range;

use serde_json::Value;

use crate::deps::{Dep, Wants};
use crate::words::BadWord;

/// What a text asks for, in order: names between white space and commas, `a|b` for either, `+a` for "after a, if a
/// is there", `#` to the end of the line for a comment. An error is everything that is wrong with the text.
pub fn parse(text: &str) -> Result<Vec<Dep>, Vec<BadWord>> {
    let mut deps: Vec<Dep> = Vec::new();
    let mut bad = Vec::new();
    let mut tokens = tokens(text).into_iter().peekable();
    while let Some(first) = tokens.next() {
        if first.text == "," {
            continue;
        }
        let mut alternatives = vec![first];
        let mut broken = false;
        if first.text == "|" {
            bad.push(nothing_before(first));
            broken = true;
        }
        while let Some(bar) = tokens.next_if(|it| it.text == "|") {
            match tokens.next_if(|it| !matches!(it.text, "|" | ",")) {
                Some(next) => alternatives.push(next),
                None => {
                    let message = "`|` has no alternative behind it".to_owned();
                    bad.push(BadWord::new(bar.at(), message).with_help("write `a|b`".to_owned()));
                    broken = true;
                }
            }
        }
        let among_others = alternatives.len() > 1;
        for it in alternatives.iter().filter(|it| it.text != "|") {
            if let Err(it) = check(*it, among_others) {
                bad.push(it);
                broken = true;
            }
        }
        if !broken {
            deps.push(dep(&alternatives));
        }
    }
    if bad.is_empty() { Ok(deps) } else { Err(bad) }
}

fn dep(alternatives: &[Token<'_>]) -> Dep {
    let start = alternatives.first().map_or(0, |it| it.start);
    let end = alternatives.last().map_or(0, |it| it.at().end);
    let wants = match alternatives {
        [one] => match one.text.strip_prefix('+') {
            Some(name) => Wants::After(name.to_owned()),
            None => Wants::Node(one.text.to_owned()),
        },
        several => Wants::AnyOf(several.iter().map(|it| it.text.to_owned()).collect()),
    };
    Dep { wants, at: start..end }
}

fn nothing_before(bar: Token<'_>) -> BadWord {
    let message = "`|` has no alternative before it".to_owned();
    BadWord::new(bar.at(), message).with_help("write `a|b`".to_owned())
}

/// A name, `|` or `,`.
#[derive(Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    start: usize,
}

impl Token<'_> {
    fn at(self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let start = text.len() - rest.len();
        let len = match first {
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '|' | ',' => 1,
            it if it.is_whitespace() => it.len_utf8(),
            _ => rest
                .find(|it: char| it.is_whitespace() || matches!(it, ',' | '|' | '#'))
                .unwrap_or(rest.len()),
        };
        if first == '\n' {
            // Alternatives are on one line.
            tokens.push(Token { text: ",", start });
        } else if first != '#' && !first.is_whitespace() {
            tokens.push(Token { text: &rest[..len], start });
        }
        rest = &rest[len..];
    }
    tokens
}

/// Characters of a name are free but for those that only a mistake would put there.
fn check(token: Token<'_>, among_others: bool) -> Result<(), BadWord> {
    let bad = |message: String, help: &str| Err(BadWord::new(token.at(), message).with_help(help.to_owned()));
    let name = token.text.strip_prefix('+').unwrap_or(token.text);
    if among_others && name != token.text {
        return bad(
            format!("`{}` is among alternatives, which cannot be order only", token.text),
            "write `a|b`, and `+a` as a word of its own",
        );
    }
    if name.is_empty() {
        return bad("`+` has no name behind it".to_owned(), "write `+a`: after a, if a is there");
    }
    if name.starts_with(['+', '!']) {
        return bad(format!("`{}` is not a name", token.text), "expected `a`, `a|b` or `+a`");
    }
    if let Some(it) = name.chars().find(|it| matches!(it, '"' | '\'' | '`') || it.is_control()) {
        let help = if it.is_control() {
            "a name has no control characters"
        } else {
            "names are written without quotes"
        };
        let shown: String = name
            .chars()
            .map(|it| if it.is_control() { it.escape_debug().to_string() } else { it.to_string() })
            .collect();
        return bad(format!("`{shown}` is not a name"), help);
    }
    Ok(())
}

/// The nodes of a JSON document, each with what it asks for, in the document's order: `{"node": ["dep", ["a", "b"],
/// {"or": ["a", "b"]}, {"after": "c"}]}`; null is an empty list. An error is everything that is wrong.
pub fn parse_json(text: &str) -> Result<Vec<(String, Vec<Dep>)>, Vec<String>> {
    let value: Value = serde_json::from_str(text).map_err(|it| vec![it.to_string()])?;
    let Value::Object(entries) = value else {
        return Err(vec!["expected an object of nodes, each with a list of what it needs".to_owned()]);
    };
    let mut nodes = Vec::new();
    let mut bad = Vec::new();
    for (node, deps) in entries {
        let items = match deps {
            Value::Null => Vec::new(),
            Value::Array(items) => items,
            other => {
                bad.push(format!("node `{node}`: expected a list, found `{other}`"));
                continue;
            }
        };
        let mut deps = Vec::new();
        for item in &items {
            match json_dep(item) {
                Ok(it) => deps.push(it),
                Err(why) => bad.push(format!("node `{node}`: {why}")),
            }
        }
        nodes.push((node, deps));
    }
    if bad.is_empty() { Ok(nodes) } else { Err(bad) }
}

fn json_dep(item: &Value) -> Result<Dep, String> {
    let wants = match item {
        Value::String(text) => {
            let mut deps = parse(text).map_err(|bad| joined(&bad))?;
            match (deps.pop(), deps.is_empty()) {
                (Some(it), true) => it.wants,
                _ => return Err(format!("`{item}` is not one dependency")),
            }
        }
        Value::Array(names) => Wants::AnyOf(json_names(names)?),
        Value::Object(entries) if entries.len() == 1 => match (entries.get("or"), entries.get("after")) {
            (Some(Value::Array(names)), _) => Wants::AnyOf(json_names(names)?),
            (_, Some(name)) => Wants::After(json_name(name)?),
            _ => return Err(unknown(item)),
        },
        _ => return Err(unknown(item)),
    };
    Ok(Dep { wants, at: 0..0 })
}

fn json_names(names: &[Value]) -> Result<Vec<String>, String> {
    if names.is_empty() {
        return Err("a list of alternatives is empty".to_owned());
    }
    names.iter().map(json_name).collect()
}

fn json_name(name: &Value) -> Result<String, String> {
    let text = name.as_str().ok_or_else(|| unknown(name))?;
    match parse(text).map_err(|bad| joined(&bad))?.as_slice() {
        [Dep { wants: Wants::Node(name), .. }] => Ok(name.clone()),
        _ => Err(format!("`{name}` is not one name")),
    }
}

fn unknown(item: &Value) -> String {
    format!(
        "expected \"name\", [\"a\", \"b\"], {{\"or\": [\"a\", \"b\"]}} or {{\"after\": \"a\"}}, found `{item}`"
    )
}

fn joined(bad: &[BadWord]) -> String {
    bad.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse(text) {
            Ok(deps) => deps.iter().map(|it| it.wants.to_string()).collect::<Vec<_>>().join(" "),
            Err(bad) => bad
                .iter()
                .map(|it| format!("{}..{} {it}", it.at.start, it.at.end))
                .collect::<Vec<_>>()
                .join("; "),
        }
    }

    #[test]
    fn every_form_of_the_grammar() {
        for (text, expected) in [
            ("", ""),
            (" \n\t", ""),
            ("a", "a"),
            (",a,, b,", "a b"),
            ("a\tb\r\nc", "a b c"),
            ("a b|c +d", "a b|c +d"),
            ("a | b |c| d", "a|b|c|d"),
            ("a#b c\nd # e", "a d"),
            ("# all", ""),
            ("é-1.2_x", "é-1.2_x"),
            ("a|a", "a|a"),
        ] {
            assert_eq!(shown(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_only_a_mistake_would_write_is_refused_with_its_place() {
        for (text, expected) in [
            ("|", "0..1 `|` has no alternative before it"),
            ("a |", "2..3 `|` has no alternative behind it"),
            ("a|,b", "1..2 `|` has no alternative behind it"),
            ("a|\nb", "1..2 `|` has no alternative behind it"),
            ("a||b", "1..2 `|` has no alternative behind it"),
            ("+", "0..1 `+` has no name behind it"),
            ("++a", "0..3 `++a` is not a name"),
            ("x +a|b", "2..4 `+a` is among alternatives, which cannot be order only"),
            ("a|+b", "2..4 `+b` is among alternatives, which cannot be order only"),
            ("!a", "0..2 `!a` is not a name"),
            ("\"a\"", "0..3 `\"a\"` is not a name"),
            ("a\0", "0..2 `a\\0` is not a name"),
            ("!a 'b'", "0..2 `!a` is not a name; 3..6 `'b'` is not a name"),
        ] {
            assert_eq!(shown(text), expected, "{text:?}");
        }
    }

    #[test]
    fn json_has_the_same_forms() {
        let nodes =
            parse_json(r#"{"b": ["a", ["x", "y"], {"or": ["x"]}, {"after": "z"}], "a": null}"#).unwrap();
        let shown: Vec<String> = nodes
            .iter()
            .map(|(node, deps)| {
                format!(
                    "{node}: {}",
                    deps.iter().map(|it| it.wants.to_string()).collect::<Vec<_>>().join(" ")
                )
            })
            .collect();
        assert_eq!(shown, ["b: a x|y x +z", "a: "]);
    }

    #[test]
    fn json_mistakes_are_all_told() {
        let bad =
            parse_json(r#"{"a": 1, "b": [2, "x y", {"or": []}, {"after": "+x"}, {"if": "x"}]}"#).unwrap_err();
        assert_eq!(bad.len(), 6, "{bad:#?}");
        assert!(parse_json("[]").is_err());
        assert!(parse_json("{").unwrap_err()[0].contains("line 1"));
    }
}
