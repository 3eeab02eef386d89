//! Runs the command of a tool in its place.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::{err, process};

/// The path if PATH is not set (`confstr(_CS_PATH)`).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The exit codes of a shell that cannot run a command (POSIX, 2.8.2).
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Replaces this process with a command. If that fails, prints the error and returns the exit code. Returns 0 for an empty
/// command.
pub(super) fn exec(command: &[OsString]) -> u8 {
    let Some((program, args)) = command.split_first() else { return 0 };
    let error = process::exec(program, args);
    let found = find(program);
    let code =
        if error.kind() == io::ErrorKind::NotFound && found.is_none() { NOT_FOUND } else { NOT_EXECUTABLE };
    let reason = match found {
        None if code == NOT_FOUND && program.as_bytes().contains(&b'/') => "no such file".to_owned(),
        None if code == NOT_FOUND => format!("not found in PATH ({})", path().display()),
        // The file exists, so its interpreter is missing, named in the first line or in the ELF header.
        Some(file) if error.kind() == io::ErrorKind::NotFound => {
            format!("the interpreter of {} is missing", file.display())
        }
        _ => error.to_string(),
    };
    err(&format!("error: run `{}`: {reason}\n", program.display()));
    code
}

/// The file of a program, whether it can be executed or not.
pub(super) fn find(program: &OsStr) -> Option<PathBuf> {
    process::find(program, &path(), Path::exists)
}

fn path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into())
}

/// A command in messages: `["a", "b c"]`.
pub(super) fn shown(command: &[OsString]) -> String {
    let words: Vec<String> = command.iter().map(|it| format!("{:?}", it.display().to_string())).collect();
    format!("[{}]", words.join(", "))
}
