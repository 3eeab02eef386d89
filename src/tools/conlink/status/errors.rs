//! What is wrong, of a status, as the engine's log has it.

use crate::api::{Problem, Status};
use crate::words::printable;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tools::conlink) struct StatusError {
    /// One line: what it is about, what is wrong, and where the configuration says so.
    pub(in crate::tools::conlink) text: String,
    /// What may be done about it.
    pub(in crate::tools::conlink) help: Option<String>,
}

/// All that is wrong: what failed, and then what somebody else changed.
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
