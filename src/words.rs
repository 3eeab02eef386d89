//! The words of an option text, such as the arguments of `ip route add`, with their places, and errors that point at one.
//!
//! Used by the grammars of routes, netem and ethtool.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Range, RangeInclusive};

/// A mistake in an option text, and its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadWord {
    /// Bytes of the text; empty, and at its end, where a word is missing.
    pub at: Range<usize>,
    pub message: String,
    /// How to fix it.
    pub help: Option<String>,
}

impl BadWord {
    pub fn new(at: Range<usize>, message: String) -> Self {
        Self { at, message, help: None }
    }

    #[must_use]
    pub fn with_help(mut self, help: String) -> Self {
        self.help = Some(help);
        self
    }
}

/// One word of a text: no white space in it, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    pub text: &'a str,
    /// Where it starts in the text, in bytes.
    start: usize,
}

impl Word<'_> {
    /// The bytes of the text that it takes.
    pub fn at(self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }

    pub fn bad(self, message: String) -> BadWord {
        BadWord::new(self.at(), message)
    }

    /// The word is unknown; `known` are the words allowed here.
    pub fn unknown(self, known: &[&str]) -> BadWord {
        let help = match near(self.text, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("expected {}", listed(known)),
        };
        self.bad(format!("unknown word `{}`", self.text)).with_help(help)
    }

    /// The word is no value of option `name`, which takes `takes`.
    pub fn no_value(self, name: &str, takes: &str) -> BadWord {
        self.bad(format!("`{name}` cannot be `{}`", self.text)).with_help(format!("`{name}` takes {takes}"))
    }

    /// The word is no name among `known`, which option `name` takes.
    pub fn no_name(self, name: &str, known: &[&str]) -> BadWord {
        let bad = self.no_value(name, &listed(known));
        match near(self.text, known) {
            Some(near) => bad.with_help(format!("did you mean `{near}`?")),
            None => bad,
        }
    }

    /// Option `name` is given twice.
    pub fn twice(self, name: &str) -> BadWord {
        self.bad(format!("`{name}` is given twice")).with_help(format!("remove one `{name}`"))
    }

    /// The number that the word is: decimal, or hexadecimal after `0x`.
    pub fn number<T>(self, name: &str, range: RangeInclusive<T>) -> Result<T, BadWord>
    where
        T: Copy + fmt::Display + PartialOrd + TryFrom<i128>,
    {
        match whole(self.text).and_then(|it| T::try_from(it).ok()) {
            Some(number) if range.contains(&number) => Ok(number),
            Some(_) | None => {
                let bad = self.no_value(name, &numbers(&range));
                // What iproute2 and ethtool call strtoul() for, with base 0: 010 would be 8.
                let digits = self.text.trim_start_matches('0');
                let octal = digits.len() < self.text.len() && whole(digits).is_some();
                Err(if octal {
                    bad.with_help(format!("write `{digits}`: `ip` reads a leading 0 as octal"))
                } else {
                    bad
                })
            }
        }
    }
}

/// The words of a text, in order.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    text: &'a str,
    /// The offset of the next byte to read.
    pos: usize,
}

impl<'a> Words<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, pos: 0 }
    }

    /// The next word, left where it is.
    pub fn peek(&self) -> Option<Word<'a>> {
        self.clone().next()
    }

    /// The next word where `wanted` holds for its text, else nothing is read.
    pub fn next_if(&mut self, wanted: impl Fn(&str) -> bool) -> Option<Word<'a>> {
        self.peek().filter(|it| wanted(it.text))?;
        self.next()
    }

    /// The next word if it could be a number by its first character, which is how `tc` tells optional numbers from
    /// the next option.
    pub fn next_if_number(&mut self) -> Option<Word<'a>> {
        self.next_if(|it| it.starts_with(|first: char| first.is_ascii_digit()))
    }

    /// The value of option `name`, which takes `takes`.
    pub fn value(&mut self, name: &str, takes: &str) -> Result<Word<'a>, BadWord> {
        self.next().ok_or_else(|| {
            self.missing(format!("`{name}` needs a value")).with_help(format!("`{name}` takes {takes}"))
        })
    }

    /// The number that option `name` takes.
    pub fn number<T>(&mut self, name: &str, range: RangeInclusive<T>) -> Result<T, BadWord>
    where
        T: Copy + fmt::Display + PartialOrd + TryFrom<i128>,
    {
        self.value(name, &numbers(&range))?.number(name, range)
    }

    /// The `on` or `off` that option `name` takes.
    pub fn switch(&mut self, name: &str) -> Result<bool, BadWord> {
        let takes = "`on` or `off`";
        let word = self.value(name, takes)?;
        match word.text {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(word.no_value(name, takes)),
        }
    }

    /// An error at the end of the text, where something is missing.
    pub fn missing(&self, message: String) -> BadWord {
        let end = self.text.trim_end().len();
        BadWord::new(end..end, message)
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let rest = self.text.get(self.pos..)?;
        let word = rest.trim_start();
        let start = self.pos + (rest.len() - word.len());
        let text = word.split(char::is_whitespace).next().filter(|it| !it.is_empty())?;
        self.pos = start + text.len();
        Some(Word { text, start })
    }
}

/// Lists words as in a sentence: "`a`, `b` or `c`".
pub fn listed(words: &[&str]) -> String {
    let mut text = String::new();
    for (idx, word) in words.iter().enumerate() {
        match idx {
            0 => {}
            _ if idx + 1 == words.len() => text.push_str(" or "),
            _ => text.push_str(", "),
        }
        text.push_str(&format!("`{word}`"));
    }
    text
}

/// `1 link`, `2 links`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The one of `known` that `text` may be a misspelling or an abbreviation of.
pub fn near<'a>(text: &str, known: &[&'a str]) -> Option<&'a str> {
    // Short words are soon like any other: one mistake in three letters, two in six.
    let most = |it: &str| (it.len() / 3).clamp(1, 3);
    let mistakes = |it: &&str| strsim::osa_distance(text, it);
    let letters = letters(text);
    // Counting mistakes is slow, and there may be thousands of names. A mistake changes the length by one at most, and the
    // letters by two.
    let is_far = |it: &str| {
        let both_ascii = text.is_ascii() && it.is_ascii();
        let changed = || (letters ^ self::letters(it)).count_ones() as usize;
        both_ascii && (text.len().abs_diff(it.len()) > most(it) || changed() > 2 * most(it))
    };
    let likely = |it: &&&str| {
        it.chars().nth(1).is_some() && !is_far(it) && mistakes(it) <= most(it)
            || text.len() > 1 && it.starts_with(text)
    };
    known.iter().filter(likely).min_by_key(|it| mistakes(it)).copied()
}

/// The set of its bytes, without their two highest bits.
fn letters(text: &str) -> u64 {
    text.bytes().fold(0, |set, it| set | 1 << (it & 63))
}

/// The whole number that `text` is, in the forms that mean the same to strtoul() with base 0 and with base 10, or
/// that only base 0 has.
fn whole(text: &str) -> Option<i128> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |it| (-1, it));
    let (base, digits) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (16, digits),
        None => (10, digits),
    };
    let octal = base == 10 && digits.len() > 1 && digits.starts_with('0');
    if octal || !digits.chars().all(|it| it.is_digit(base)) {
        return None;
    }
    i128::from_str_radix(digits, base).ok().map(|it| sign * it)
}

fn numbers<T: fmt::Display>(range: &RangeInclusive<T>) -> String {
    format!("a number from {} to {}", range.start(), range.end())
}

/// Text in which nothing steers a terminal or begins a line: a name may hold what it likes.
pub fn printable(text: &str) -> String {
    let shown = |it: char| if it.is_control() { it.escape_unicode().collect() } else { it.to_string() };
    text.chars().map(shown).collect()
}

/// Bytes of a line of a message up to which it is printed as it is.
const LONG_LINE: usize = 2000;

/// Characters of each part of a longer line, parts being what backticks separate.
const LONG_PART: usize = 200;

/// A message with long values shortened: a file may hold a name of any length.
pub fn shortened(text: &str) -> Cow<'_, str> {
    let is_short = |line: &str| line.len() <= LONG_LINE;
    if text.split('\n').all(is_short) {
        return Cow::Borrowed(text);
    }
    let shorten = |text: &str, most: usize| match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    };
    let line = |line: &str| {
        if is_short(line) {
            return line.to_owned();
        }
        let parts: Vec<String> = line.split('`').map(|it| shorten(it, LONG_PART)).collect();
        shorten(&parts.join("`"), LONG_LINE)
    };
    Cow::Owned(text.split('\n').map(line).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parted_by_white_space_and_know_their_bytes() {
        let text = " via  ß\tx\u{2003}\n";
        let words: Vec<_> = Words::new(text).map(|it| (it.text, it.at())).collect();
        assert_eq!(words, [("via", 1..4), ("ß", 6..8), ("x", 9..10)]);
        assert!(words.iter().all(|(word, at)| &text[at.clone()] == *word));
        assert_eq!(Words::new(" \n").next(), None);
    }

    #[test]
    fn what_is_missing_is_missing_at_the_end() {
        let mut words = Words::new("metric  ");
        words.next();
        let bad = words.number("metric", 0..=u32::MAX).unwrap_err();
        assert_eq!(bad.at, 6..6);
        assert_eq!(bad.to_string(), "`metric` needs a value");
        assert_eq!(bad.help.as_deref(), Some("`metric` takes a number from 0 to 4294967295"));
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal_and_in_range() {
        let number = |text| Words::new(text).number("n", -5..=300);
        for (text, expected) in [("0", 0), ("300", 300), ("0x1f", 31), ("0XA", 10), ("-5", -5), ("-0x5", -5)]
        {
            assert_eq!(number(text), Ok(expected), "{text}");
        }
        for text in [
            "301",
            "-6",
            "+1",
            "1.0",
            "1k",
            "0x",
            "-",
            "--1",
            "0x-1",
            "x",
            "٣",
            "99999999999999999999999999999999999999999",
        ] {
            let bad = number(text).unwrap_err();
            assert_eq!(bad.message, format!("`n` cannot be `{text}`"));
            assert_eq!(bad.help.as_deref(), Some("`n` takes a number from -5 to 300"));
        }
        assert_eq!(
            number("010").unwrap_err().help.as_deref(),
            Some("write `10`: `ip` reads a leading 0 as octal")
        );
    }

    #[test]
    fn near_words_are_offered() {
        let known = ["via", "dev", "metric", "advmss", "nexthop", "reorder", "é"];
        for (text, expected) in [
            ("vai", Some("via")),
            ("dve", Some("dev")),
            ("metrik", Some("metric")),
            ("mteric", Some("metric")),
            ("re", Some("reorder")),
            ("next-hop", Some("nexthop")),
            ("", None),
            ("foo", None),
            ("hoplimit", None),
            ("a", None),
        ] {
            assert_eq!(near(text, &known), expected, "{text}");
        }
    }

    #[test]
    fn near_words_are_those_with_few_mistakes() {
        let words: Vec<String> = (0..2000_u32)
            .map(|it| {
                let letter = |at: u32| ['a', 'b', 'é'][(it / 3_u32.pow(at) % 3) as usize];
                (0..=it % 7).map(letter).collect()
            })
            .collect();
        for text in words.iter().step_by(17) {
            for known in words.iter().step_by(3) {
                let most = (known.len() / 3).clamp(1, 3);
                let is_near = known.chars().count() > 1 && strsim::osa_distance(text, known) <= most
                    || text.len() > 1 && known.starts_with(text.as_str());
                assert_eq!(near(text, &[known]).is_some(), is_near, "{text} {known}");
            }
        }
    }

    #[test]
    fn long_values_in_messages_are_shortened() {
        let text = format!("expected `a`, found `{}`\nhint: x", "é".repeat(100_000));
        assert_eq!(shortened(&text), format!("expected `a`, found `{}…`\nhint: x", "é".repeat(200)));
        assert!(shortened(&"`a`, ".repeat(100_000)).len() < 2010);
        let plain = "a\n".repeat(5000);
        assert_eq!(shortened(&plain), plain);
    }

    #[test]
    fn lists_read_as_a_sentence() {
        assert_eq!(listed(&[]), "");
        assert_eq!(listed(&["a"]), "`a`");
        assert_eq!(listed(&["a", "b"]), "`a` or `b`");
        assert_eq!(listed(&["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
