//! Times, percentages, rates and sizes as `tc` reads them (`lib/utils.c`, `lib/utils_math.c` of iproute2).

use std::fmt;
use std::ops::RangeInclusive;

use crate::words::{BadWord, Word};

/// A time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub i64);

/// A share as netem has it: 0 is none, [`u32::MAX`] all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(pub u32);

/// What a time without unit is in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bare {
    Micros,
    Nanos,
}

/// Times and rates are read by way of an `f64`, which holds whole numbers exactly up to here; it is 104 days in
/// nanoseconds and 9 petabits.
const EXACT: u64 = 1 << 53;

/// Units of time in nanoseconds, the greatest first. The first name of each is how we write it.
const TIMES: [(&[&str], i64); 4] = [
    (&["s", "sec", "secs"], 1_000_000_000),
    (&["ms", "msec", "msecs"], 1_000_000),
    (&["us", "usec", "usecs"], 1000),
    (&["ns", "nsec", "nsecs"], 1),
];

/// Units of rates in bits per second, the decimal ones from the greatest to the smallest.
const RATES: [(&str, u64); 18] = [
    ("tbit", 1_000_000_000_000),
    ("gbit", 1_000_000_000),
    ("mbit", 1_000_000),
    ("kbit", 1000),
    ("bit", 1),
    ("tibit", 1 << 40),
    ("gibit", 1 << 30),
    ("mibit", 1 << 20),
    ("kibit", 1 << 10),
    ("tbps", 8_000_000_000_000),
    ("gbps", 8_000_000_000),
    ("mbps", 8_000_000),
    ("kbps", 8000),
    ("bps", 8),
    ("tibps", 8 << 40),
    ("gibps", 8 << 30),
    ("mibps", 8 << 20),
    ("kibps", 8 << 10),
];

/// Units of sizes in bytes: always powers of two, `kbit` too.
const SIZES: [(&str, u32); 10] = [
    ("b", 1),
    ("k", 1 << 10),
    ("kb", 1 << 10),
    ("m", 1 << 20),
    ("mb", 1 << 20),
    ("g", 1 << 30),
    ("gb", 1 << 30),
    ("kbit", 1 << 7),
    ("mbit", 1 << 17),
    ("gbit", 1 << 27),
];

impl Nanos {
    pub(super) const TAKES: &str = "a time like `40ms`, in `s`, `ms`, `us` or `ns`";

    /// The time that `word` is, of option `name`.
    pub(super) fn read(word: Word<'_>, name: &str, bare: Bare) -> Result<Self, BadWord> {
        let scale = |unit: &str| match (unit, bare) {
            ("", Bare::Micros) => Some(1000),
            ("", Bare::Nanos) => Some(1),
            _ => {
                let named = |names: &[&str]| names.iter().any(|it| it.eq_ignore_ascii_case(unit));
                TIMES.iter().find(|(names, _)| named(names)).map(|(_, scale)| *scale)
            }
        };
        let time = number(word.text).and_then(|(number, unit)| Some(number * scale(unit)? as f64));
        match time {
            Some(time) if time <= EXACT as f64 => Ok(Self(time.round() as i64)),
            Some(_) => Err(word.no_value(name, "at most 104 days")),
            None => Err(word.no_value(name, Self::TAKES)),
        }
    }

    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl Percent {
    pub(super) const TAKES: &str = "a percentage from 0% to 100%, like `0.3%`";

    pub const ALL: Percent = Percent(u32::MAX);

    /// The share that `word` is, of option `name`.
    pub(super) fn read(word: Word<'_>, name: &str) -> Result<Self, BadWord> {
        fraction(word.text).map(Self::of).ok_or_else(|| word.no_value(name, Self::TAKES))
    }

    /// What is left of the whole without the share that `word` is; rounded once, as `tc` has it.
    pub(super) fn read_rest(word: Word<'_>, name: &str) -> Result<Self, BadWord> {
        fraction(word.text).map(|it| Self::of(1.0 - it)).ok_or_else(|| word.no_value(name, Self::TAKES))
    }

    /// Rounded as `rint()` does, so that our bytes are those of `tc`.
    fn of(fraction: f64) -> Self {
        Self((fraction * f64::from(u32::MAX)).round_ties_even() as u32)
    }

    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// From 0 to 1.
fn fraction(text: &str) -> Option<f64> {
    let (number, unit) = number(text)?;
    let fraction = number / 100.0;
    (matches!(unit, "" | "%") && fraction <= 1.0).then_some(fraction)
}

pub(super) const RATE_TAKES: &str = "bits per second, like `10mbit`, or bytes per second, like `125kbps`";

/// The rate that `word` is, in bytes per second.
pub(super) fn read_rate(word: Word<'_>, name: &str) -> Result<u64, BadWord> {
    let scale = |unit: &str| match unit {
        "" => Some(1),
        _ => RATES.iter().find(|(it, _)| it.eq_ignore_ascii_case(unit)).map(|(_, scale)| *scale),
    };
    let bits = number(word.text).and_then(|(number, unit)| Some(number * scale(unit)? as f64));
    match bits {
        Some(bits) if (8.0..=EXACT as f64).contains(&bits) => Ok((bits / 8.0) as u64),
        Some(bits) if bits < 8.0 => {
            Err(word.no_value(name, "at least `8bit`; without `rate` there is no limit"))
        }
        Some(_) => Err(word.no_value(name, "at most `9000tbit`")),
        None if word.text.ends_with('%') => {
            Err(word.no_value(name, "bits per second, like `10mbit`, not a percentage"))
        }
        None => Err(word.no_value(name, RATE_TAKES)),
    }
}

/// The number of bytes, or of packets, that `word` is; fractions are cut off.
pub(super) fn read_size(word: Word<'_>, name: &str, range: RangeInclusive<u32>) -> Result<u32, BadWord> {
    let scale = |unit: &str| match unit {
        "" => Some(1),
        _ => SIZES.iter().find(|(it, _)| it.eq_ignore_ascii_case(unit)).map(|(_, scale)| *scale),
    };
    let size = hexadecimal(word.text)
        .or_else(|| number(word.text))
        .and_then(|(number, unit)| Some((number * f64::from(scale(unit)?)).floor()));
    match size {
        Some(size) if (f64::from(*range.start())..=f64::from(*range.end())).contains(&size) => {
            Ok(size as u32)
        }
        Some(_) | None => Err(word.no_value(name, &size_takes(&range))),
    }
}

/// What a size is, for an error's help.
pub(super) fn size_takes(range: &RangeInclusive<u32>) -> String {
    format!("a number from {} to {}, or one like `10k`", range.start(), range.end())
}

/// As [`number`], of a text that starts with `0x`: a `b` is a digit then, and no unit.
fn hexadecimal(text: &str) -> Option<(f64, &str)> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    let (digits, unit) = digits.split_at(digits.bytes().take_while(u8::is_ascii_hexdigit).count());
    Some((u64::from_str_radix(digits, 16).ok()? as f64, unit))
}

/// The number that a text starts with, and what follows it: strtod() without signs, names and hexadecimals.
fn number(text: &str) -> Option<(f64, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut len = digits(text);
    if len == 0 {
        return None;
    }
    let rest = |len: usize| text.get(len..).unwrap_or_default();
    if let Some(tail) = rest(len).strip_prefix('.') {
        len += 1 + digits(tail);
    }
    if let Some(tail) = rest(len).strip_prefix(['e', 'E']) {
        let power = tail.strip_prefix(['+', '-']).unwrap_or(tail);
        if digits(power) > 0 {
            len += 1 + (tail.len() - power.len()) + digits(power);
        }
    }
    let (number, unit) = text.split_at_checked(len)?;
    Some((number.parse().ok()?, unit))
}

/// In the greatest unit that leaves a whole number, so that it reads back as the same.
impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TIMES.iter().find(|(_, scale)| self.0 % scale == 0) {
            Some(([unit, ..], scale)) => write!(f, "{}{unit}", self.0 / scale),
            Some(([], _)) | None => write!(f, "{}ns", self.0),
        }
    }
}

/// With as few decimals as read back as the same.
impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = f64::from(self.0) / f64::from(u32::MAX) * 100.0;
        // A step is 2.3e-8 percent: nine decimals tell any two apart.
        let texts = (0..9).map(|decimals| format!("{percent:.decimals$}"));
        let exact = |text: &String| fraction(text).map(Self::of) == Some(*self);
        write!(f, "{}%", texts.into_iter().find(exact).unwrap_or_else(|| format!("{percent:.9}")))
    }
}

/// A rate of so many bytes per second, as text.
pub(super) struct ShownRate(pub(super) u64);

impl fmt::Display for ShownRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from(self.0) * 8;
        match RATES.iter().find(|(_, scale)| bits % u128::from(*scale) == 0) {
            Some((unit, scale)) => write!(f, "{}{unit}", bits / u128::from(*scale)),
            None => write!(f, "{bits}bit"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Words;

    fn word(text: &str) -> Word<'_> {
        Words::new(text).next().unwrap()
    }

    #[test]
    fn times() {
        for (text, expected) in [
            ("40ms", 40_000_000),
            ("1s", 1_000_000_000),
            ("1sec", 1_000_000_000),
            ("2SECS", 2_000_000_000),
            ("1.5msec", 1_500_000),
            ("3msecs", 3_000_000),
            ("100us", 100_000),
            ("7usec", 7000),
            ("7usecs", 7000),
            ("7ns", 7),
            ("7nsec", 7),
            ("7nsecs", 7),
            ("1.001ms", 1_001_000),
            ("0.4ns", 0),
            ("1e3us", 1_000_000),
            ("1E-3s", 1_000_000),
            ("0", 0),
            ("010ms", 10_000_000),
        ] {
            assert_eq!(Nanos::read(word(text), "t", Bare::Micros), Ok(Nanos(expected)), "{text}");
        }
        // netem has its delays in microseconds and its slots in nanoseconds, when no unit is given.
        assert_eq!(Nanos::read(word("15"), "t", Bare::Micros), Ok(Nanos(15_000)));
        assert_eq!(Nanos::read(word("15"), "t", Bare::Nanos), Ok(Nanos(15)));
        for text in
            ["m", "5m", "5min", "-5ms", "5ss", "5mss", "0x10", ".5ms", "inf", "nan", "5e", "5ß", "1s1", "+1s"]
        {
            let bad = Nanos::read(word(text), "t", Bare::Micros).unwrap_err();
            assert_eq!(bad.message, format!("`t` cannot be `{text}`"));
            assert_eq!(bad.help.as_deref(), Some("`t` takes a time like `40ms`, in `s`, `ms`, `us` or `ns`"));
        }
        for text in ["105000000s", "1e999s", "99999999999999999999999"] {
            let bad = Nanos::read(word(text), "t", Bare::Micros).unwrap_err();
            assert_eq!(bad.help.as_deref(), Some("`t` takes at most 104 days"));
        }
    }

    #[test]
    fn times_are_written_in_the_greatest_unit() {
        for (nanos, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1500, "1500ns"),
            (2000, "2us"),
            (40_000_000, "40ms"),
            (90_000_000_000, "90s"),
        ] {
            assert_eq!(Nanos(nanos).to_string(), expected);
        }
    }

    #[test]
    fn percentages_are_scaled_as_by_tc() {
        // What rint(per * UINT32_MAX) gives in C.
        for (text, expected) in [
            ("0%", 0),
            ("0.3%", 12_884_902),
            ("1", 42_949_673),
            ("10%", 429_496_730),
            ("30%", 1_288_490_188),
            ("50%", 2_147_483_648),
            ("99.9%", 4_290_672_328),
            ("100%", u32::MAX),
        ] {
            assert_eq!(Percent::read(word(text), "p"), Ok(Percent(expected)), "{text}");
            assert_eq!(Percent(expected).to_string().trim_end_matches('%'), text.trim_end_matches('%'));
        }
        assert_eq!(Percent::read_rest(word("30%"), "p"), Ok(Percent(3_006_477_106)));
        for text in ["100.1%", "-1%", "5%%", "5x", "%", "nan", "1e9"] {
            let bad = Percent::read(word(text), "p").unwrap_err();
            assert_eq!(bad.message, format!("`p` cannot be `{text}`"));
            assert_eq!(bad.help.as_deref(), Some("`p` takes a percentage from 0% to 100%, like `0.3%`"));
        }
    }

    #[test]
    fn rates() {
        for (text, bytes, expected) in [
            ("10mbit", 1_250_000, "10mbit"),
            ("10Mbit", 1_250_000, "10mbit"),
            ("1gbit", 125_000_000, "1gbit"),
            ("125kbps", 125_000, "1mbit"),
            ("125KBps", 125_000, "1mbit"),
            ("80", 10, "80bit"),
            ("84bit", 10, "80bit"),
            ("8kibit", 1024, "8192bit"),
            ("1Kibps", 1024, "8192bit"),
            ("1mibit", 131_072, "1048576bit"),
            ("0.5gibps", 536_870_912, "4294967296bit"),
            ("2tbit", 250_000_000_000, "2tbit"),
            ("1.5e3kbit", 187_500, "1500kbit"),
            ("10tbps", 10_000_000_000_000, "80tbit"),
        ] {
            assert_eq!(read_rate(word(text), "rate"), Ok(bytes), "{text}");
            assert_eq!(ShownRate(bytes).to_string(), expected);
            assert_eq!(read_rate(word(expected), "rate"), Ok(bytes));
        }
        for (text, help) in [
            ("10", None),
            ("0", Some("at least `8bit`; without `rate` there is no limit")),
            ("7bit", Some("at least `8bit`; without `rate` there is no limit")),
            ("1e9tbit", Some("at most `9000tbit`")),
            ("50%", Some("bits per second, like `10mbit`, not a percentage")),
            ("10mb", Some("bits per second, like `10mbit`, or bytes per second, like `125kbps`")),
            ("-5", Some("bits per second, like `10mbit`, or bytes per second, like `125kbps`")),
        ] {
            let bad = read_rate(word(text), "rate").err();
            assert_eq!(bad.and_then(|it| it.help), help.map(|it| format!("`rate` takes {it}")), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("1000", 1000),
            ("1k", 1024),
            ("2Kb", 2048),
            ("1.5", 1),
            ("1kbit", 128),
            ("1m", 1 << 20),
            ("3b", 3),
            ("0x10", 16),
            ("0X1fk", 31 << 10),
            ("0x1b", 27),
        ] {
            assert_eq!(read_size(word(text), "limit", 0..=u32::MAX), Ok(expected), "{text}");
        }
        for text in ["4294967296", "4g", "-1", "1x", "0x", "0xg", "0x100000000"] {
            let bad = read_size(word(text), "limit", 0..=u32::MAX).unwrap_err();
            assert_eq!(
                bad.help.as_deref(),
                Some("`limit` takes a number from 0 to 4294967295, or one like `10k`")
            );
        }
    }
}
