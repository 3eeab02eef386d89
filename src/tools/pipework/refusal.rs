//! Why a call is refused.

use crate::{err, out};

/// The message of a refused call, in the words of pipework where it has some: scripts may match them. The exit code is
/// always 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    text: String,
    on_stdout: bool,
}

impl Refusal {
    /// The exit code of a refused call, and of the usage text.
    pub(super) const CODE: u8 = 1;

    /// In pipework's own words, on standard error.
    pub(super) fn known(text: impl Into<String>) -> Self {
        Self { text: text.into(), on_stdout: false }
    }

    /// In pipework's own words, on standard output.
    pub(super) fn on_stdout(text: impl Into<String>) -> Self {
        Self { text: text.into(), on_stdout: true }
    }

    /// What pipework does not refuse, or leaves to the programs that it runs.
    pub(super) fn new(text: impl std::fmt::Display) -> Self {
        Self::known(format!("error: {text}"))
    }

    /// The message without its prefix.
    pub(super) fn text(&self) -> &str {
        self.text.strip_prefix("error: ").unwrap_or(&self.text)
    }

    /// Prints the message. Returns the exit code.
    pub(super) fn print(&self) -> anyhow::Result<u8> {
        let line = format!("{}\n", self.text);
        match self.on_stdout {
            true => out(&line)?,
            false => err(&line),
        }
        Ok(Self::CODE)
    }
}

#[cfg(test)]
impl Refusal {
    /// The message with the name of its stream.
    pub(super) fn shown(&self) -> String {
        format!("{}: {}", if self.on_stdout { "out" } else { "err" }, self.text)
    }
}
