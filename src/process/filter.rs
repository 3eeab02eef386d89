//! Programs that read their standard input to its end and write a result.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::process::Command;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::process::Error;

/// What a program has written.
#[derive(Debug)]
pub struct Filtered {
    pub stdout: Vec<u8>,
    /// Its warnings.
    pub stderr: String,
}

/// Runs a program on this input until it ends. It is searched in PATH unless its name contains a slash. It is in our process
/// group, so that an interrupt from the terminal ends it too.
#[expect(clippy::disallowed_methods, reason = "this is the one place that starts programs")]
pub fn filter(program: &OsStr, args: &[&str], input: &str) -> Result<Filtered, Error> {
    let name = || program.to_string_lossy().into_owned();
    let output = in_memory(input).and_then(|it| Command::new(program).args(args).stdin(it).output());
    let output = output.map_err(|source| Error::Start { program: name(), source })?;
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if !output.status.success() {
        return Err(Error::Failed { program: name(), status: output.status, printed: stderr });
    }
    Ok(Filtered { stdout: output.stdout, stderr })
}

/// A file with this text. A program that fills its output before it has read its input cannot block us, as with a pipe.
fn in_memory(text: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"input", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, input: &str) -> Result<Filtered, Error> {
        filter(OsStr::new("/bin/sh"), &["-c", script], input)
    }

    #[test]
    fn output_and_warnings_are_returned() {
        let large = "x".repeat(1 << 20);
        let done = shell("tr x y; echo note >&2", &large).unwrap();
        assert_eq!(done.stdout, large.replace('x', "y").into_bytes());
        assert_eq!(done.stderr, "note");
    }

    #[test]
    fn a_failure_has_what_the_program_printed() {
        let error = shell("echo bad input >&2; exit 3", "").unwrap_err();
        assert_eq!(error.to_string(), "/bin/sh: exit status: 3: bad input");
        let error = filter(OsStr::new("conlink-no-such-program"), &[], "").unwrap_err();
        assert!(matches!(error, Error::Start { source, .. } if source.kind() == io::ErrorKind::NotFound));
    }
}
