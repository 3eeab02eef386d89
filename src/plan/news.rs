//! What somebody else changed, as hints where to look again.

use std::collections::BTreeSet;

/// What somebody else changed, by where: the kernel tells it, and a look tells what it means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Where bridges live.
    pub bridges: Names,
    pub host: Names,
    /// Namespaces of containers, by inode.
    pub inside: BTreeSet<u64>,
    /// Notices were lost, so anything may have changed.
    pub lost: bool,
}

/// Interfaces by name, and bridges and ports of Open vSwitch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub changed: BTreeSet<String>,
    /// Deleted, renamed, or no longer a port of its bridge.
    pub deleted: BTreeSet<String>,
    /// Routes of ours or rules of translation changed.
    pub rules: bool,
}

impl Names {
    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.deleted.is_empty() && !self.rules
    }
}

impl News {
    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        !self.lost && self.bridges.is_empty() && self.host.is_empty() && self.inside.is_empty()
    }
}
