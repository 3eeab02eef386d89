//! The outcome of applying plans.

use std::collections::BTreeMap;
use std::fmt;

use crate::plan::{Problem, Subject};

/// The outcome of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Were any steps applied?
    pub changed: bool,
    pub failures: Vec<Failure>,
    pub drift: Drift,
}

/// Differences from the configuration that other programs have made, by subject.
pub type Drift = BTreeMap<Subject, Vec<String>>;

/// Why a subject does not match the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub subject: Subject,
    pub message: String,
    pub help: Option<String>,
    /// `FILE:LINE:COL` of the item, such as a route, or otherwise of the entry; None if unknown.
    pub origin: Option<String>,
    /// A retry is useless: only another configuration or another container can help.
    pub is_final: bool,
    /// The kernel has no such feature.
    pub is_unsupported: bool,
}

impl From<&Problem> for Failure {
    fn from(it: &Problem) -> Self {
        Self {
            subject: it.subject.clone(),
            message: it.message.clone(),
            help: it.help.clone(),
            origin: it.origin.clone(),
            is_final: false,
            is_unsupported: false,
        }
    }
}

/// The log line: subject, message and place.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.message)?;
        self.origin.as_ref().map_or(Ok(()), |it| write!(f, " ({it})"))
    }
}
