//! Changes by other programs, as hints where to look.

use std::collections::BTreeSet;

/// Changes by other programs that the kernel has reported, by namespace. Only a look shows what they mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// In the namespace of the bridges.
    pub bridges: Names,
    pub host: Names,
    /// In these namespaces of containers, by inode.
    pub inside: BTreeSet<u64>,
    /// Notifications were lost, so anything may have changed.
    pub lost: bool,
}

/// Changed interfaces by name, and bridges and ports of Open vSwitch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub changed: BTreeSet<String>,
    /// Deleted, renamed, or no longer a port of its bridge.
    pub deleted: BTreeSet<String>,
    /// Our routes or translation rules changed.
    pub rules: bool,
}

impl Names {
    /// Has nothing changed?
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.deleted.is_empty() && !self.rules
    }
}

impl News {
    /// Has nothing changed?
    pub fn is_empty(&self) -> bool {
        !self.lost && self.bridges.is_empty() && self.host.is_empty() && self.inside.is_empty()
    }
}
