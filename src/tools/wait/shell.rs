//! The part of the shell grammar that simple commands use, to run them without a shell.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Characters with a meaning to a shell when unquoted (POSIX, 2.2), and within double quotes.
const SPECIAL: &[u8] = b"|&;<>()$`*?[]#~{}!\n";
const SPECIAL_QUOTED: &[u8] = b"$`";

/// The words of a simple command without their quotes. None if the command needs a shell.
pub(super) fn plain_words(text: &OsStr) -> Option<Vec<OsString>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = text.as_bytes().iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' => words.extend(word.take().map(OsString::from_vec)),
            b'\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match bytes.next()? {
                        b'\'' => break,
                        byte => word.push(byte),
                    }
                }
            }
            b'"' => {
                let word = word.get_or_insert_default();
                loop {
                    match bytes.next()? {
                        b'"' => break,
                        b'\\' => match bytes.next()? {
                            byte @ (b'"' | b'\\' | b'$' | b'`') => word.push(byte),
                            b'\n' => {}
                            byte => word.extend([b'\\', byte]),
                        },
                        byte if SPECIAL_QUOTED.contains(&byte) => return None,
                        byte => word.push(byte),
                    }
                }
            }
            b'\\' => word.get_or_insert_default().push(bytes.next()?),
            // `A=b command` sets a variable.
            b'=' if words.is_empty() => return None,
            byte if SPECIAL.contains(&byte) => return None,
            byte => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word.map(OsString::from_vec));
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_a_shell_reads_them() {
        for (text, expected) in [
            ("a b  c", Some(vec!["a", "b", "c"])),
            (" test -e '/a b' ", Some(vec!["test", "-e", "/a b"])),
            (r#"a "b \"c\" \d" e\ f ''"#, Some(vec!["a", r#"b "c" \d"#, "e f", ""])),
            ("a'b'c", Some(vec!["abc"])),
            ("a b=c", Some(vec!["a", "b=c"])),
            ("", Some(vec![])),
            ("a=b c", None),
            ("a | b", None),
            ("a \"$b\"", None),
            ("a 'b", None),
            ("a \\", None),
            ("[ -e x ]", None),
        ] {
            let expected = expected.map(|it| it.into_iter().map(OsString::from).collect::<Vec<_>>());
            assert_eq!(plain_words(OsStr::new(text)), expected, "{text}");
        }
    }
}
