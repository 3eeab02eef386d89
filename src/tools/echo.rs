//! `echo`: prints its arguments, in images that have no other program.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Prints the arguments with spaces between them and a newline, which `-n` leaves out.
pub(crate) fn main(args: Vec<OsString>) -> anyhow::Result<u8> {
    let words = args.get(1..).unwrap_or_default();
    let (words, end) = match words.split_first() {
        Some((first, rest)) if first == "-n" => (rest, ""),
        _ => (words, "\n"),
    };
    let words: Vec<&[u8]> = words.iter().map(|it| it.as_bytes()).collect();
    crate::out_bytes(&[&words.join(&b' '), end.as_bytes()].concat())?;
    Ok(0)
}
