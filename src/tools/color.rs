//! Whether output is coloured.

use std::io::IsTerminal;

use clap::ValueEnum;

/// The value of `--color`. `Auto` is on a terminal, unless NO_COLOR is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    /// Whether output to this stream is coloured.
    pub(crate) fn on(self, stream: &impl IsTerminal) -> bool {
        match self {
            Self::Auto => stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty()),
            Self::Always => true,
            Self::Never => false,
        }
    }
}
