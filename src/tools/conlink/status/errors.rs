//! The errors in a status, as in the log of the engine.

use crate::api::{Problem, Status};
use crate::words::printable;

/// An error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tools::conlink) struct StatusError {
    /// One line: the subject, the error, and the place in the configuration.
    pub(in crate::tools::conlink) text: String,
    /// A hint.
    pub(in crate::tools::conlink) help: Option<String>,
}

/// Every error: first failures, then changes by others.
pub(in crate::tools::conlink) fn errors(status: &Status) -> Vec<StatusError> {
    let drifted = |(subject, what): (String, &str)| StatusError {
        text: printable(&format!("{subject}: changed outside conlink: {what}")),
        help: None,
    };
    let failed = status.problems().into_iter().map(StatusError::from);
    failed.chain(status.drift().into_iter().map(drifted)).collect()
}

impl From<&Problem> for StatusError {
    fn from(it: &Problem) -> Self {
        let origin = it.origin.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        Self {
            text: printable(&format!("{}: {}{origin}", it.subject, it.message)),
            help: it.help.as_deref().map(printable),
        }
    }
}
