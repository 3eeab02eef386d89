//! The errors in a status, in the words of the engine's log.

use crate::api::{NodeStatus, Problem, ProcessStatus, Status};
use crate::words::printable;

/// An error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tools::conlink) struct StatusError {
    /// One line: the subject, the message, and the place in the configuration.
    pub(in crate::tools::conlink) text: String,
    /// A hint on how to fix it.
    pub(in crate::tools::conlink) help: Option<String>,
}

/// All errors: failures first, then drift.
pub(in crate::tools::conlink) fn errors(status: &Status) -> Vec<StatusError> {
    let drifted = |(subject, what): (String, &str)| StatusError {
        text: printable(&format!("{subject}: changed outside conlink: {what}")),
        help: None,
    };
    let failed = status.problems().into_iter().map(StatusError::from);
    failed.chain(status.drift().into_iter().map(drifted)).collect()
}

/// The errors about programs of nodes that did start: they have exited or are unhealthy.
pub(in crate::tools::conlink) fn exits(status: &Status) -> Vec<StatusError> {
    let nodes = status.nodes.iter().filter_map(|it| Some((it, it.process.as_ref()?)));
    let started = nodes.filter(|(_, process)| process.state != "failed");
    let of_process = |(node, process): (&NodeStatus, &ProcessStatus)| {
        let subject = format!("node {}", process.name);
        node.errors.iter().filter(|it| it.subject == subject).map(StatusError::from).collect::<Vec<_>>()
    };
    started.flat_map(of_process).collect()
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
