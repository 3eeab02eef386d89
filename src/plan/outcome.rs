//! What came of making the kernel hold what is desired.

use std::collections::BTreeMap;
use std::fmt;

use crate::plan::{Problem, Subject};

/// What came of one run: what was changed, what failed, what differs and was left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Was there anything to do?
    pub changed: bool,
    pub failures: Vec<Failure>,
    pub drift: Drift,
}

/// What in the kernel differs from the configuration because somebody changed it, by what it is about.
pub type Drift = BTreeMap<Subject, Vec<String>>;

/// Why something is not as described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub subject: Subject,
    pub message: String,
    pub help: Option<String>,
    /// `FILE:LINE:COL` of what it is about, where it is known: of an item, such as a route, or else of the entry.
    pub origin: Option<String>,
    /// Only another configuration or another container can change it: a retry is of no use.
    pub is_final: bool,
}

impl From<&Problem> for Failure {
    fn from(it: &Problem) -> Self {
        Self {
            subject: it.subject.clone(),
            message: it.message.clone(),
            help: it.help.clone(),
            origin: it.origin.clone(),
            is_final: false,
        }
    }
}

/// One line for a log: what it is about, what is wrong, and where the configuration says so.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.message)?;
        self.origin.as_ref().map_or(Ok(()), |it| write!(f, " ({it})"))
    }
}
