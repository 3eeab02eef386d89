//! Lines of JSON in a stream of bytes: how requests and answers follow each other on a socket.

use serde::Serialize;

/// One line, with its end.
pub fn frame(value: &impl Serialize) -> Vec<u8> {
    // What has a type of ours has a text: no map of it has keys that are not strings.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Takes bytes as they come, and gives lines.
#[derive(Debug)]
pub struct Frames {
    limit: usize,
    received: Vec<u8>,
    /// How many of these bytes are known to hold no end of a line.
    seen: usize,
}

/// A line has more bytes than a line may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line has at most {0} bytes")]
pub struct TooLong(pub usize);

impl Frames {
    /// Lines of at most so many bytes, their ends not counted.
    pub fn new(limit: usize) -> Self {
        Self { limit, received: Vec::new(), seen: 0 }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next line without its end; None until all of it is there.
    ///
    /// # Errors
    /// It is too long, whether all of it is there or not.
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

    /// What follows the last end of a line: at the end of the stream, a line that lacks its end.
    pub fn rest(self) -> Vec<u8> {
        self.received
    }

    /// Is nothing left over?
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_however_the_bytes_are_cut() {
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
    fn a_line_that_is_too_long_is_refused_before_its_end() {
        let mut frames = Frames::new(3);
        frames.push(b"abc\nabcd");
        assert_eq!(frames.next_line(), Ok(Some(b"abc".to_vec())));
        assert_eq!(frames.next_line(), Err(TooLong(3)));
    }

    #[test]
    fn a_text_with_ends_of_lines_is_one_line() {
        assert_eq!(frame(&"a\nb"), b"\"a\\nb\"\n");
    }
}
