//! Replacing this process with another program.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Replaces this process with a program, which is searched in PATH unless its name contains a slash. The program gets our
/// environment with `vars` set. Returns only if that fails.
#[expect(clippy::disallowed_methods, reason = "this is the one place that starts programs")]
pub fn exec_with(program: &OsString, args: &[OsString], vars: &[(&str, &str)]) -> io::Error {
    Command::new(program).args(args).envs(vars.iter().copied()).exec()
}
