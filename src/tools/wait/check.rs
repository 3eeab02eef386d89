//! The three ways to check a condition.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::kernel::{Error, Watch};
use crate::tools::wait::tries::Start;

pub(super) enum Check {
    /// Asks the kernel after each change of the network.
    Network(Box<dyn Fn(&mut Watch) -> Answer>),
    /// Looks at the path after each change of a directory on it, with `content` also after writes to the file.
    File { path: PathBuf, content: bool, missing: fn(&Path) -> io::Result<Option<String>> },
    /// Tries repeatedly, and at once after each change of a directory on the path, if there is one.
    Try { path: Option<PathBuf>, start: Box<dyn Start> },
}

/// None if the condition is met, else the reason why not.
pub(super) type Answer = Result<Option<String>, Error>;

/// The parts of an option's value in their usual form, and how the condition is checked; or what is wrong with the value.
pub(super) type Parsed = Result<(Vec<String>, Check), String>;

pub(super) fn network(parts: Vec<String>, missing: impl Fn(&mut Watch) -> Answer + 'static) -> Parsed {
    Ok((parts, Check::Network(Box::new(missing))))
}

pub(super) fn file(path: &OsStr, content: bool, missing: fn(&Path) -> io::Result<Option<String>>) -> Parsed {
    Ok((vec![path.display().to_string()], Check::File { path: path.into(), content, missing }))
}

pub(super) fn tries(parts: Vec<String>, path: Option<PathBuf>, start: impl Start + 'static) -> Parsed {
    Ok((parts, Check::Try { path, start: Box::new(start) }))
}

/// A part of a value, or what is wrong with it.
pub(super) fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|it: T::Err| it.to_string())
}
