//! Replaces `{{NAME}}` with the value of a variable, in one pass. All other bytes are kept.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::io::{self, Read};
use std::ops::Range;

use memchr::{memchr, memmem};

/// The longest unset name that is recognized, in bytes.
const LONGEST: usize = 255;

/// Files up to this many bytes are held in memory.
pub(super) const SMALL: u64 = 64 * 1024;

/// How unset names are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Undefined {
    Keep,
    Error,
    Empty,
}

/// The variables, and how unset names are handled.
#[derive(Debug)]
pub(in crate::tools) struct Variables {
    values: HashMap<Vec<u8>, Vec<u8>>,
    undefined: Undefined,
    /// The longest name in bytes.
    longest: usize,
}

/// The placeholders found in a text.
#[derive(Clone, Debug, Default)]
pub(in crate::tools) struct Found {
    /// The names that were replaced.
    pub(super) names: BTreeSet<Vec<u8>>,
    /// The unset names, each with its first line.
    pub(super) missing: Vec<(Vec<u8>, usize)>,
    lines: usize,
}

/// The kind of a file for templating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextKind {
    /// Contains a zero byte or is not UTF-8.
    Binary,
    /// Without `{{`.
    Plain,
    /// Contains `{{`.
    Template,
}

impl Variables {
    pub(super) fn new(values: HashMap<Vec<u8>, Vec<u8>>, undefined: Undefined) -> Self {
        let longest = values.keys().map(Vec::len).max().unwrap_or(0);
        let longest = if undefined == Undefined::Keep { longest } else { longest.max(LONGEST) };
        Self { values, undefined, longest }
    }

    pub(super) fn value(&self, name: &[u8]) -> Option<&[u8]> {
        self.values.get(name).map(Vec::as_slice)
    }

    /// Whether unset names are errors.
    pub(super) fn must_be_set(&self) -> bool {
        self.undefined == Undefined::Error
    }

    /// Appends `text` with its placeholders replaced. Returns how many bytes are done: unless `text` is the `last` part of
    /// a file, a placeholder may start at its end.
    pub(super) fn replace(&self, text: &[u8], last: bool, out: &mut Vec<u8>, found: &mut Found) -> usize {
        let mut done = 0;
        for at in memmem::find_iter(text, b"{{") {
            // Within a replaced placeholder, or the second pair of `{{{`.
            let mut at = at;
            if at < done {
                continue;
            }
            // The last two of several braces count.
            while text.get(at + 2) == Some(&b'{') {
                at += 1;
            }
            let Some(name) = name_at(text, at + 2) else {
                if !last && text.len() - at <= self.longest + 3 {
                    // The rest may be in the next part.
                    self.keep(text, done..at, out, found);
                    return at;
                }
                continue;
            };
            let end = name.end + 2;
            let name = text.get(name).unwrap_or_default();
            let value = match self.value(name) {
                Some(value) => {
                    if !found.names.contains(name) {
                        found.names.insert(name.to_vec());
                    }
                    value
                }
                None if self.undefined != Undefined::Keep && is_variable(name) => {
                    if !found.missing.iter().any(|(it, _)| it == name) {
                        let before = text.get(done..at).unwrap_or_default();
                        let line = found.lines + memchr::memchr_iter(b'\n', before).count() + 1;
                        found.missing.push((name.to_vec(), line));
                    }
                    &[]
                }
                None => continue,
            };
            self.keep(text, done..at, out, found);
            out.extend_from_slice(value);
            done = end;
        }
        // One brace may be the first of two.
        let end =
            if !last && text.len() > done && text.ends_with(b"{") { text.len() - 1 } else { text.len() };
        self.keep(text, done..end, out, found);
        end
    }

    fn keep(&self, text: &[u8], range: Range<usize>, out: &mut Vec<u8>, found: &mut Found) {
        let text = text.get(range).unwrap_or_default();
        if self.undefined != Undefined::Keep {
            found.lines += memchr::memchr_iter(b'\n', text).count();
        }
        out.extend_from_slice(text);
    }
}

/// The range of the name that starts here and ends with `}}`.
fn name_at(text: &[u8], start: usize) -> Option<Range<usize>> {
    let rest = text.get(start..)?;
    let length = rest.iter().position(|it| matches!(it, b'{' | b'}') || it.is_ascii_whitespace())?;
    (length > 0 && rest.get(length..length + 2) == Some(b"}}")).then_some(start..start + length)
}

/// Whether this is a name in a shell. Other placeholders, such as `{{#if}}`, belong to other programs.
fn is_variable(name: &[u8]) -> bool {
    !name.first().is_none_or(u8::is_ascii_digit)
        && name.iter().all(|it| it.is_ascii_alphanumeric() || *it == b'_')
}

/// The kind of a file, from all of its bytes.
pub(super) fn text_kind(bytes: &[u8]) -> TextKind {
    if memchr(0, bytes).is_some() || std::str::from_utf8(bytes).is_err() {
        TextKind::Binary
    } else if memmem::find(bytes, b"{{").is_some() {
        TextKind::Template
    } else {
        TextKind::Plain
    }
}

/// The same for a file that is too large for memory.
pub(super) fn scan(mut file: impl Read) -> io::Result<TextKind> {
    let mut buffer = vec![0; 256 * 1024];
    let (mut kept, mut kind) = (0, TextKind::Plain);
    loop {
        let length = read(&mut file, buffer.get_mut(kept..).unwrap_or_default())?;
        let bytes = buffer.get(..kept + length).unwrap_or_default();
        if memchr(0, bytes).is_some() {
            return Ok(TextKind::Binary);
        }
        if kind == TextKind::Plain && memmem::find(bytes, b"{{").is_some() {
            kind = TextKind::Template;
        }
        // Up to three bytes at the end may start a character, and one may be the first of two braces.
        let keep = match std::str::from_utf8(bytes) {
            Err(error) if error.error_len().is_some() => return Ok(TextKind::Binary),
            Err(_) if length == 0 => return Ok(TextKind::Binary),
            Err(error) => error.valid_up_to(),
            Ok(_) if length == 0 => return Ok(kind),
            Ok(_) if bytes.ends_with(b"{") => bytes.len() - 1,
            Ok(_) => bytes.len(),
        };
        let end = kept + length;
        buffer.copy_within(keep..end, 0);
        kept = end - keep;
    }
}

fn read(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A file with its placeholders replaced, read in parts.
#[derive(Debug)]
pub(super) struct Replaced<'a, R> {
    inner: R,
    variables: &'a Variables,
    pub(super) found: Found,
    /// Read but not replaced yet.
    input: Vec<u8>,
    output: Vec<u8>,
    /// The number of output bytes that are consumed.
    taken: usize,
    ended: bool,
}

impl<'a, R: Read> Replaced<'a, R> {
    pub(super) fn new(inner: R, variables: &'a Variables) -> Self {
        Self {
            inner,
            variables,
            found: Found::default(),
            input: Vec::new(),
            output: Vec::new(),
            taken: 0,
            ended: false,
        }
    }
}

impl<R: Read> Read for Replaced<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.output.len() && !self.ended {
            self.output.clear();
            self.taken = 0;
            let kept = self.input.len();
            self.input.resize(kept + 256 * 1024, 0);
            let length = read(&mut self.inner, self.input.get_mut(kept..).unwrap_or_default())?;
            self.input.truncate(kept + length);
            self.ended = length == 0;
            let done = self.variables.replace(&self.input, self.ended, &mut self.output, &mut self.found);
            self.input.drain(..done);
        }
        let ready = self.output.get(self.taken..).unwrap_or_default();
        let length = ready.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(ready) {
            *to = *from;
        }
        self.taken += length;
        Ok(length)
    }
}

/// A name in messages: `{{NAME}}`.
pub(super) fn shown(name: &[u8]) -> String {
    let mut text = String::new();
    let _ = write!(text, "{{{{{}}}}}", String::from_utf8_lossy(name));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(undefined: Undefined) -> Variables {
        let values = [("A", "1"), ("FOO", "{{A}}"), ("B", "}}"), ("x-y.z", "odd"), ("E", "")];
        let values = values.iter().map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec())).collect();
        Variables::new(values, undefined)
    }

    const CASES: [(&str, &str); 22] = [
        ("", ""),
        ("no", "no"),
        ("{{A}}", "1"),
        ("a{{A}}b{{A}}c", "a1b1c"),
        ("{{FOO}}", "{{A}}"),
        ("{{{FOO}}}", "{{{A}}}"),
        ("{{{{A}}}}", "{{1}}"),
        ("{{ A }}", "{{ A }}"),
        ("{{A }}", "{{A }}"),
        ("{{NOT}} {{A}}", "{{NOT}} 1"),
        ("{{NOT{{A}}", "{{NOT1"),
        ("{{}}{{A}}", "{{}}1"),
        ("{{A}", "{{A}"),
        ("{{A", "{{A"),
        ("{{", "{{"),
        ("{", "{"),
        ("{{A}}}", "1}"),
        ("{{x-y.z}}", "odd"),
        ("{{E}}|", "|"),
        ("{{B}}}}", "}}}}"),
        ("{{ {{A}} }}", "{{ 1 }}"),
        ("ä{{A}}ö\r\n${A} {{A|x}}", "ä1ö\r\n${A} {{A|x}}"),
    ];

    #[test]
    fn placeholders_are_replaced_once_and_all_else_stays() {
        let variables = variables(Undefined::Keep);
        for (text, expected) in CASES {
            let mut out = Vec::new();
            let done = variables.replace(text.as_bytes(), true, &mut out, &mut Found::default());
            assert_eq!((String::from_utf8(out).unwrap().as_str(), done), (expected, text.len()), "{text}");
        }
    }

    /// Reads so many bytes at a time.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.0.len().min(self.1).min(buffer.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    #[test]
    fn it_is_the_same_wherever_a_read_ends() {
        for undefined in [Undefined::Keep, Undefined::Error] {
            let variables = variables(undefined);
            let text: String = CASES.iter().map(|(text, _)| format!("{text}\n")).collect();
            let mut whole = (Vec::new(), Found::default());
            variables.replace(text.as_bytes(), true, &mut whole.0, &mut whole.1);
            for size in 1..40 {
                let mut replaced = Replaced::new(Drip(text.as_bytes(), size), &variables);
                let mut out = Vec::new();
                replaced.read_to_end(&mut out).unwrap();
                assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&whole.0), "{size}");
                assert_eq!(replaced.found.names, whole.1.names);
                assert_eq!(replaced.found.missing, whole.1.missing);
            }
        }
    }

    #[test]
    fn names_that_are_not_set_are_told_with_their_lines() {
        let text = b"{{A}}\n{{NOPE}}\n{{#if}} {{ X }} {{A}}\n\n{{NO2}} {{NOPE}}\n";
        let mut found = Found::default();
        let mut out = Vec::new();
        variables(Undefined::Empty).replace(text, true, &mut out, &mut found);
        assert_eq!(out, b"1\n\n{{#if}} {{ X }} 1\n\n \n");
        assert_eq!(found.missing, [(b"NOPE".to_vec(), 2), (b"NO2".to_vec(), 5)]);
    }

    #[test]
    fn text_is_told_from_binary_in_one_go_and_bit_by_bit() {
        for (bytes, expected) in [
            (&b""[..], TextKind::Plain),
            (b"a\n", TextKind::Plain),
            (b"a{{b", TextKind::Template),
            (b"a\0{{b", TextKind::Binary),
            (b"a\xff", TextKind::Binary),
            ("äöü€😀 {{".as_bytes(), TextKind::Template),
            (&"€".as_bytes()[..2], TextKind::Binary),
            (b"{{\xed\xa0\x80", TextKind::Binary),
        ] {
            assert_eq!(text_kind(bytes), expected, "{bytes:?}");
            for size in 1..8 {
                assert_eq!(scan(Drip(bytes, size)).unwrap(), expected, "{bytes:?} by {size}");
            }
        }
    }
}
