//! Durations as compose reads them (`ParseDuration` of go-str2duration).

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

/// The longest, in nanoseconds: 292 years.
const MAX: f64 = i64::MAX as f64;

/// Reads `1h30m`, `1.5s`, `200ms`: numbers, each with its unit. 0 needs none. None is for negative ones too.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let is_number = |it: char| it.is_ascii_digit() || it == '.';
    let mut rest = text;
    let mut nanoseconds = 0.0;
    while !rest.is_empty() || text.is_empty() {
        let (number, after) = rest.split_at(rest.find(|it| !is_number(it))?);
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanoseconds += number.parse::<f64>().ok()? * size;
        rest = after;
    }
    (nanoseconds < MAX).then(|| Duration::from_nanos(nanoseconds as u64))
}
