//! Messages of the reconciler to the user, as data.

use std::fmt;

use log::Level;

use crate::network::LinkId;
use crate::plan::{Failure, Subject};

/// A message to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// All links of a container match the configuration.
    Up { container: String, links: usize },
    /// A container no longer runs.
    Gone { container: String },
    /// Something does not match the configuration. It is tried again unless the failure is final.
    Failed(Failure),
    /// Leftovers of a container or of the whole network could not be removed.
    NotRemoved(Failure),
    /// Another program changed something. conlink leaves the change.
    Drift { subject: Subject, what: Vec<String> },
    /// Drift has ended: the subject matches the configuration again.
    DriftOver { subject: Subject },
    /// A link has these overrides now. `author` is None if an override expired.
    Override { link: LinkId, set: Vec<String>, author: Option<String> },
    /// Kernel notifications were lost: everything is checked again.
    NoticesLost,
}

impl Notice {
    /// The log level.
    pub fn level(&self) -> Level {
        match self {
            Self::Up { .. } | Self::Gone { .. } | Self::DriftOver { .. } | Self::Override { .. } => {
                Level::Info
            }
            Self::NotRemoved(_) | Self::Drift { .. } | Self::NoticesLost => Level::Warn,
            Self::Failed(_) => Level::Error,
        }
    }

    /// A hint on how to fix it.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::Failed(it) | Self::NotRemoved(it) => it.help.as_deref(),
            _ => None,
        }
    }
}

/// The log line.
impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up { container, links: 1 } => write!(f, "{container}: 1 link up"),
            Self::Up { container, links } => write!(f, "{container}: {links} links up"),
            Self::Gone { container } => write!(f, "{container}: gone"),
            Self::Failed(it) | Self::NotRemoved(it) => it.fmt(f),
            Self::Drift { subject, what } => {
                write!(f, "{subject}: changed outside conlink: {}", what.join(", "))
            }
            Self::DriftOver { subject } => write!(f, "{subject}: matches the configuration again"),
            Self::Override { link, set, author } => {
                match (set.as_slice(), author) {
                    ([], None) => write!(f, "link {link}: override expired")?,
                    ([], Some(_)) => write!(f, "link {link}: override removed")?,
                    (set, _) => write!(f, "link {link}: override: {}", set.join(", "))?,
                }
                match author.as_deref() {
                    None | Some("") => Ok(()),
                    Some(author) => write!(f, " (by {author})"),
                }
            }
            Self::NoticesLost => f.write_str("kernel notifications were lost: checking everything again"),
        }
    }
}
