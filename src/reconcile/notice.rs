//! What the reconciler has to say, as data: log lines for people and events for programs are made from it.

use std::fmt;

use log::Level;

use crate::network::LinkId;
use crate::plan::{Failure, Subject};

/// Something that users may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// All links of a container are as described.
    Up { container: String, links: usize },
    /// A container no longer runs.
    Gone { container: String },
    /// Something is not as described, and will be tried again unless the failure is final.
    Failed(Failure),
    /// What was left of a container, or of the whole network, could not be removed.
    NotRemoved(Failure),
    /// Somebody changed something: it is left as it is.
    Drift { subject: Subject, what: Vec<String> },
    /// What somebody changed is as described again.
    DriftOver { subject: Subject },
    /// The overrides of a link changed to these. No author: an override expired.
    Override { link: LinkId, set: Vec<String>, author: Option<String> },
    /// Notices of the kernel were lost in a flood: everything is looked at again.
    NoticesLost,
}

impl Notice {
    /// How much it matters.
    pub fn level(&self) -> Level {
        match self {
            Self::Up { .. } | Self::Gone { .. } | Self::DriftOver { .. } | Self::Override { .. } => {
                Level::Info
            }
            Self::NotRemoved(_) | Self::Drift { .. } | Self::NoticesLost => Level::Warn,
            Self::Failed(_) => Level::Error,
        }
    }

    /// What to do about it, if that is known.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::Failed(it) | Self::NotRemoved(it) => it.help.as_deref(),
            _ => None,
        }
    }
}

/// One line for a log.
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
