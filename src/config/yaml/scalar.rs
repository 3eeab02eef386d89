//! The types of plain scalars, by the rules of go-yaml v3 (`resolve.go`): `yes` and `on` are strings, `0777` and
//! `0o777` octal, `_` may stand between digits.

use crate::config::yaml::Value;

pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        _ => {}
    }
    if let Some(it) = integer(text) {
        return Value::Int(it);
    }
    match float(text) {
        Some(it) => Value::Float(it),
        None => Value::Text(text.to_owned()),
    }
}

/// The digits of what may be a number.
fn digits(text: &str) -> Option<String> {
    let numeric = text.starts_with(|it: char| it.is_ascii_digit() || matches!(it, '+' | '-' | '.'));
    numeric.then(|| text.replace('_', ""))
}

/// The number that a text is as a plain scalar.
pub(in crate::config) fn integer(text: &str) -> Option<i64> {
    let digits = digits(text)?;
    let (sign, number) = match digits.strip_prefix('-') {
        Some(it) => ("-", it),
        None => ("", digits.strip_prefix('+').unwrap_or(&digits)),
    };
    let number = number.to_ascii_lowercase();
    let (radix, number) = if let Some(it) = number.strip_prefix("0x") {
        (16, it)
    } else if let Some(it) = number.strip_prefix("0b") {
        (2, it)
    } else if let Some(it) = number.strip_prefix("0o") {
        (8, it)
    } else if let Some(it) = number.strip_prefix('0').filter(|it| !it.is_empty()) {
        (8, it)
    } else {
        (10, number.as_str())
    };
    if number.starts_with(['+', '-']) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{number}"), radix).ok()
}

fn float(text: &str) -> Option<f64> {
    let digits = digits(text)?;
    let number = digits.strip_prefix(['+', '-']).unwrap_or(&digits);
    let is_float = number.starts_with(|it: char| it.is_ascii_digit() || it == '.')
        && number.chars().all(|it| it.is_ascii_digit() || matches!(it, '.' | 'e' | 'E' | '+' | '-'));
    digits.parse().ok().filter(|_| is_float)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_what_go_yaml_takes_them_for() {
        // `docker compose config` 2.26 agrees on each.
        for (text, expected) in [
            ("0", Value::Int(0)),
            ("0777", Value::Int(511)),
            ("0o777", Value::Int(511)),
            ("0x1F", Value::Int(31)),
            ("-0x10", Value::Int(-16)),
            ("0b101", Value::Int(5)),
            ("1_000", Value::Int(1000)),
            ("+7", Value::Int(7)),
            ("-7", Value::Int(-7)),
            ("9223372036854775807", Value::Int(i64::MAX)),
            ("9223372036854775808", Value::Float(9_223_372_036_854_775_808.0)),
            ("08", Value::Float(8.0)),
            ("1e3", Value::Float(1000.0)),
            ("1.", Value::Float(1.0)),
            (".5", Value::Float(0.5)),
            ("-.inf", Value::Float(f64::NEG_INFINITY)),
            ("true", Value::Bool(true)),
            ("FALSE", Value::Bool(false)),
            ("~", Value::Null),
            ("", Value::Null),
        ] {
            assert_eq!(resolve(text), expected, "{text}");
        }
        for text in [
            "yes",
            "no",
            "on",
            "off",
            "y",
            "tRUE",
            "1080:80",
            "22:22",
            "10.0.0.1",
            "1e",
            "-",
            "+",
            ".",
            "..",
            "--1",
            "+-1",
            "0x",
            "0b2",
            "0o8",
            "0x-1",
            "_1",
            "1-2",
            "infinity",
            "nan",
            "00:0a:0b:0c:0d:0a",
            "2001-12-14",
            "1 000",
        ] {
            assert_eq!(resolve(text), Value::Text(text.to_owned()), "{text}");
        }
    }
}
