//! Becoming another program.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Replaces this process by a program, which is looked for in PATH unless its name has a slash. It gets our environment
/// with `vars` set. Answers only when that fails.
#[expect(clippy::disallowed_methods, reason = "this is the one place that starts programs")]
pub fn exec_with(program: &OsString, args: &[OsString], vars: &[(&str, &str)]) -> io::Error {
    Command::new(program).args(args).envs(vars.iter().copied()).exec()
}
