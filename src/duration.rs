//! Durations, as compose files and command lines write them.

use std::time::Duration;

/// Nanoseconds of each unit.
const UNITS: [(&str, f64); 10] = [
    ("w", 604_800e9),
    ("d", 86_400e9),
    ("h", 3_600e9),
    ("m", 60e9),
    ("s", 1e9),
    ("ms", 1e6),
    ("us", 1e3),
    ("\u{b5}s", 1e3),
    ("\u{3bc}s", 1e3),
    ("ns", 1.0),
];

/// The longest duration, in nanoseconds: 292 years.
const MAX: f64 = i64::MAX as f64;

/// Reads a duration of a compose file: numbers, each with a unit, such as `1h30m`, `1.5s` or `200ms` (`ParseDuration` of
/// go-str2duration). Only `0` needs no unit. Returns None for a negative one.
pub fn with_units(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanoseconds = 0.0;
    while !rest.is_empty() || text.is_empty() {
        let (number, after) = rest.split_at(rest.find(|it| !is_number(it))?);
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanoseconds += number.parse::<f64>().ok()? * size;
        rest = after;
    }
    (nanoseconds < MAX).then(|| Duration::from_nanos(nanoseconds.round() as u64))
}

fn is_number(it: char) -> bool {
    it.is_ascii_digit() || it == '.'
}

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDuration {
    #[error("expected a duration such as `5s`, `200ms` or `1m30s`")]
    Malformed,
    #[error("expected a duration above 0, such as `5s`, `200ms` or `1m30s`")]
    Zero,
}

/// Reads a duration of a command line or an environment variable: as [`with_units`], or a number of seconds.
pub fn parse(text: &str) -> Result<Duration, BadDuration> {
    let seconds = !text.is_empty() && text.chars().all(is_number);
    let time = if seconds { with_units(&format!("{text}s")) } else { with_units(text) };
    time.ok_or(BadDuration::Malformed)
}

/// The same for a duration that must not be 0.
pub fn parse_above_zero(text: &str) -> Result<Duration, BadDuration> {
    match parse(text) {
        Ok(Duration::ZERO) => Err(BadDuration::Zero),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_without_a_unit_is_seconds_on_the_command_line_only() {
        for (text, ms) in [
            ("5", 5000),
            ("0.2", 200),
            (".3", 300),
            ("0", 0),
            ("7s", 7000),
            ("200ms", 200),
            ("1.5m", 90_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in
            ["", "s", "-1", "-1s", "5 s", "1s2", "1x", "nan", "inf", "1e3", ".", "9999999999999", "1.2.3"]
        {
            assert_eq!(parse(text), Err(BadDuration::Malformed), "{text}");
        }
        assert_eq!(parse_above_zero("0s"), Err(BadDuration::Zero));
        assert_eq!(with_units("5"), None);
        assert_eq!(with_units("1m30s"), Some(Duration::from_secs(90)));
    }
}
