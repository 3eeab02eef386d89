//! `echo`: prints its arguments, in images that have no other program.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::{CommandFactory, Parser};

/// Print the arguments
///
/// This is the command line for help and completions. All arguments but a first `-n` are printed as they are.
#[derive(Debug, Parser)]
#[command(name = "echo", disable_help_flag = true)]
struct Cli {
    /// Print no newline at the end
    #[arg(short = 'n')]
    no_newline: bool,
    /// Arguments to print, separated by spaces
    #[arg(value_name = "TEXT")]
    text: Vec<OsString>,
}

pub(crate) fn command() -> clap::Command {
    Cli::command()
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
