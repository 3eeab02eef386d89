//! `echo`: prints its arguments, in images that have no other program.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// The command line, for help and completions. Arguments are printed as they are, so clap never parses them.
pub(crate) fn command() -> clap::Command {
    clap::Command::new("echo")
        .about("Print the arguments")
        .disable_help_flag(true)
        .arg(
            clap::Arg::new("no-newline").short('n').action(clap::ArgAction::SetTrue).help("Print no newline"),
        )
        .arg(clap::Arg::new("TEXT").num_args(0..))
}

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
