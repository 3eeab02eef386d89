//! Becoming the command that a tool prepares the ground for.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::{err, process};

/// Where programs are looked for when PATH is not set (`confstr(_CS_PATH)`).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The exit codes of a shell that cannot become a command (POSIX, 2.8.2).
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Replaces this process by a command; answers the exit code when that fails, which it tells. An empty command is done.
pub(super) fn exec(command: &[OsString]) -> u8 {
    let Some((program, args)) = command.split_first() else { return 0 };
    let error = process::exec(program, args);
    let found = find(program);
    let code =
        if error.kind() == io::ErrorKind::NotFound && found.is_none() { NOT_FOUND } else { NOT_EXECUTABLE };
    let reason = match found {
        None if code == NOT_FOUND && program.as_bytes().contains(&b'/') => "there is no such file".to_owned(),
        None if code == NOT_FOUND => format!("it is in no folder of PATH ({})", path().display()),
        // The file is there, so what is missing is what its first line, or its ELF header, names.
        Some(file) if error.kind() == io::ErrorKind::NotFound => {
            format!("{} needs an interpreter that is not there", file.display())
        }
        _ => error.to_string(),
    };
    err(&format!("error: run `{}`: {reason}\n", program.display()));
    code
}

/// The file that a program's name stands for.
pub(super) fn find(program: &OsStr) -> Option<PathBuf> {
    if program.is_empty() {
        return None;
    }
    if program.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(program)).filter(|it| it.exists());
    }
    std::env::split_paths(&path()).map(|it| it.join(program)).find(|it| it.exists())
}

fn path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into())
}

/// A command as the tools show it: `["a", "b c"]`.
pub(super) fn shown(command: &[OsString]) -> String {
    let words: Vec<String> = command.iter().map(|it| format!("{:?}", it.display().to_string())).collect();
    format!("[{}]", words.join(", "))
}
