//! Framing: one JSON value per line.

use serde::Serialize;

/// Serializes a value as one line with its newline.
pub fn frame(value: &impl Serialize) -> Vec<u8> {
    // Serialization of these types cannot fail: all map keys are strings.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Splits a stream of bytes into lines.
#[derive(Debug)]
pub struct Frames {
    limit: usize,
    received: Vec<u8>,
    /// Number of leading bytes that are known to contain no newline.
    seen: usize,
}

/// A line is longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line has at most {0} bytes")]
pub struct TooLong(pub usize);

impl Frames {
    /// `limit`: longest line in bytes, without the newline.
    pub fn new(limit: usize) -> Self {
        Self { limit, received: Vec::new(), seen: 0 }
    }

    /// Appends received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next line without its newline; None if it is not complete yet.
    ///
    /// # Errors
    /// The line is longer than the limit, complete or not.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let unseen = self.received.get(self.seen..).unwrap_or_default();
        let end = memchr::memchr(b'\n', unseen).map(|it| self.seen + it);
        if end.unwrap_or(self.received.len()) > self.limit {
            return Err(TooLong(self.limit));
        }
        let Some(end) = end else {
            self.seen = self.received.len();
            return Ok(None);
        };
        let rest = self.received.split_off(end + 1);
        self.received.pop();
        self.seen = 0;
        Ok(Some(std::mem::replace(&mut self.received, rest)))
    }

    /// The bytes after the last newline.
    pub fn rest(self) -> Vec<u8> {
        self.received
    }

    /// Are there no bytes after the last newline?
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_do_not_depend_on_how_the_bytes_arrive() {
        let bytes = b"{\"a\":1}\n\n{\"b\":2}\nrest";
        for size in 1..=bytes.len() {
            let mut frames = Frames::new(7);
            let mut lines = Vec::new();
            for part in bytes.chunks(size) {
                frames.push(part);
                while let Some(line) = frames.next_line().unwrap() {
                    lines.push(String::from_utf8(line).unwrap());
                }
            }
            assert_eq!(lines, ["{\"a\":1}", "", "{\"b\":2}"], "{size}");
            assert_eq!(frames.rest(), b"rest", "{size}");
        }
    }

    #[test]
    fn an_overlong_line_is_refused_before_its_newline() {
        let mut frames = Frames::new(3);
        frames.push(b"abc\nabcd");
        assert_eq!(frames.next_line(), Ok(Some(b"abc".to_vec())));
        assert_eq!(frames.next_line(), Err(TooLong(3)));
    }

    #[test]
    fn newlines_in_strings_are_escaped() {
        assert_eq!(frame(&"a\nb"), b"\"a\\nb\"\n");
    }
}
