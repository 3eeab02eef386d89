//! The texts of configuration files, and places in them.

use std::ops::Range;

use crate::config::diagnostic::Diagnostic;

/// Every file of a run, in the order it was given.
#[derive(Debug, Default)]
pub struct Sources {
    files: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    name: String,
    text: String,
    /// The offset of the start of each line.
    lines: Vec<usize>,
    /// Every character is one byte, so that columns need no counting.
    is_ascii: bool,
    /// The first byte that is not UTF-8: its offset in `text`, and its value.
    broken: Option<(usize, u8)>,
}

/// One of the files of [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(usize);

/// A place in a file: a range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    pub file: FileId,
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// Is the other place within this one?
    pub fn contains(self, other: Self) -> bool {
        self.file == other.file && self.start <= other.start && other.end <= self.end
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    pub value: T,
    pub span: Span,
}

/// A place for users: line and column from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineCol {
    pub line: usize,
    pub col: usize,
}

impl Sources {
    /// Adds a file, without its byte order mark. [`Sources::check_text`] reports text that is not UTF-8.
    pub fn add(&mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> FileId {
        let mut broken = None;
        let mut text = String::from_utf8(bytes.into()).unwrap_or_else(|error| {
            let at = error.utf8_error().valid_up_to();
            broken = error.as_bytes().get(at).map(|it| (at, *it));
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        });
        if text.starts_with('\u{feff}') {
            let mark = '\u{feff}'.len_utf8();
            text.drain(..mark);
            broken = broken.map(|(at, byte)| (at - mark, byte));
        }
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let is_ascii = text.is_ascii();
        self.files.push(Source { name: name.into(), text, lines, is_ascii, broken });
        FileId(self.files.len() - 1)
    }

    /// Is the file text? The error points at the first byte that is not UTF-8.
    pub(super) fn check_text(&self, file: FileId) -> Result<(), Diagnostic> {
        let Some((start, byte)) = self.files.get(file.0).and_then(|it| it.broken) else { return Ok(()) };
        let end = start + char::REPLACEMENT_CHARACTER.len_utf8();
        let message = format!("expected text in UTF-8, found the byte 0x{byte:02x}");
        Err(Diagnostic::new(Span { file, start, end }, message).help("save the file in UTF-8"))
    }

    /// Every file, in order.
    pub fn ids(&self) -> impl Iterator<Item = FileId> + use<> {
        (0..self.files.len()).map(FileId)
    }

    pub fn name(&self, file: FileId) -> &str {
        self.files.get(file.0).map_or("", |it| &it.name)
    }

    pub fn text(&self, file: FileId) -> &str {
        self.files.get(file.0).map_or("", |it| &it.text)
    }

    /// The text at a place.
    pub fn slice(&self, span: Span) -> &str {
        self.text(span.file).get(span.start..span.end).unwrap_or_default()
    }

    pub fn line_col(&self, file: FileId, offset: usize) -> LineCol {
        let Some(Source { text, lines, is_ascii, .. }) = self.files.get(file.0) else {
            return LineCol { line: 1, col: 1 };
        };
        let offset = if text.is_char_boundary(offset) { offset } else { text.len() };
        let line = lines.partition_point(|it| *it <= offset);
        let start = lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let before = text.get(start..offset).unwrap_or_default();
        let chars = if *is_ascii { before.len() } else { before.chars().count() };
        LineCol { line, col: chars + 1 }
    }

    /// `FILE:LINE:COL` of where a span starts.
    pub fn place(&self, span: Span) -> String {
        let LineCol { line, col } = self.line_col(span.file, span.start);
        format!("{}:{line}:{col}", self.name(span.file))
    }

    /// The place of a part of a scalar, where the file has the scalar's text as it is, with or without quotes;
    /// else the place of the whole scalar.
    pub fn part(&self, scalar: &Spanned<String>, part: Range<usize>) -> Span {
        let slice = self.slice(scalar.span);
        let quoted = slice.get(1..slice.len().saturating_sub(1));
        // A block of one line ends with a line break that its place does not take in.
        let skip = if slice == scalar.value.trim_end_matches('\n') {
            0
        } else if quoted == Some(scalar.value.as_str()) {
            1
        } else {
            return scalar.span;
        };
        let start = scalar.span.start + skip;
        let end = (start + part.end).min(scalar.span.end);
        Span { file: scalar.span.file, start: (start + part.start).min(end), end }
    }

    /// As [`Sources::part`], for a scalar that is as yet what the file says: a part that stands there just once is
    /// found in text of several lines too.
    pub(super) fn fragment(&self, scalar: &Spanned<String>, part: Range<usize>) -> Span {
        let found = self.part(scalar, part.clone());
        let fragment = scalar.value.get(part).unwrap_or_default().trim_end();
        let slice = self.slice(scalar.span);
        if found != scalar.span || fragment.is_empty() || slice.matches(fragment).count() != 1 {
            return found;
        }
        let start = scalar.span.start + slice.find(fragment).unwrap_or_default();
        Span { start, end: start + fragment.len(), ..scalar.span }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_end_either_way() {
        let mut sources = Sources::default();
        let file = sources.add("f", "\u{feff}a: é\r\nbß: x\n");
        let at = |needle: &str| {
            let start = sources.text(file).find(needle).unwrap();
            sources.place(Span { file, start, end: start + needle.len() })
        };
        assert_eq!(at("a"), "f:1:1");
        assert_eq!(at("é"), "f:1:4");
        assert_eq!(at("x"), "f:2:5");
    }

    #[test]
    fn a_byte_that_is_not_utf_8_is_told_with_its_place() {
        for (bytes, place) in [
            (&b"a: \xc3\xa9\nb: \xe9\n"[..], "f:2:4"),
            (&b"\xef\xbb\xbfa: \xe9"[..], "f:1:4"),
            (&b"\xff\xfea\0"[..], "f:1:1"),
        ] {
            let mut sources = Sources::default();
            let file = sources.add("f", bytes);
            let error = sources.check_text(file).unwrap_err();
            assert_eq!(sources.place(error.span.unwrap()), place);
        }
    }

    #[test]
    fn part_of_a_scalar_is_found_in_plain_and_quoted_text_alone() {
        let mut sources = Sources::default();
        let file = sources.add("f", r#"a "a" "\x61""#);
        let part = |start, end| {
            let scalar = Spanned { value: "a".to_owned(), span: Span { file, start, end } };
            let it = sources.part(&scalar, 0..1);
            (it.start, it.end)
        };
        assert_eq!((part(0, 1), part(2, 5), part(6, 12)), ((0, 1), (3, 4), (6, 12)));
    }
}
