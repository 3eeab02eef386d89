//! The mark on an interface that says whose it is.

use std::fmt;

/// Whose an interface is: its alias reads `conlink:PROJECT:CONTAINER:NAME`, then perhaps a space and a note.
///
/// Neither projects nor containers have a `:` in their names, and none of the names has a space, so the text reads back
/// in one way only. A bridge belongs to no container: that part is empty. Without a project the first part is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    pub project: String,
    pub container: String,
    /// The interface's name in the container, or the bridge's.
    pub name: String,
    /// Settings of the interface that the kernel does not report, such as the shape of its delays
    /// ([`Netem::hidden`](crate::netem::Netem::hidden)).
    pub note: Option<String>,
}

impl Mark {
    /// The longest alias the kernel keeps, in bytes (IFALIASZ less the closing zero).
    const MAX: usize = 255;

    /// Reads an alias; None where it is no mark of ours.
    pub fn parse(alias: &str) -> Option<Self> {
        let (names, note) = match alias.split_once(' ') {
            Some((names, note)) => (names, Some(note.to_owned())),
            None => (alias, None),
        };
        let mut parts = names.strip_prefix("conlink:")?.splitn(3, ':');
        let mut next = || parts.next().map(str::to_owned);
        Some(Self { project: next()?, container: next()?, name: next()?, note })
    }

    /// Are they the same but for their notes?
    pub fn same_owner(alias: &str, mark: &str) -> bool {
        fn names(text: &str) -> &str {
            text.split(' ').next().unwrap_or(text)
        }
        names(alias) == names(mark)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("conlink:{}:{}:{}", self.project, self.container, self.name);
        if let Some(note) = &self.note {
            text = format!("{text} {note}");
        }
        while text.len() > Self::MAX {
            text.pop();
        }
        f.write_str(&text)
    }
}

/// IFLA_GROUP of an interface that was made and not yet marked, a number of the project's own.
///
/// The kernel sets the group in the same message that makes the interface (`rtnl_create_link()` in
/// `net/core/rtnetlink.c`), which it does not do for the alias: a kill between the two leaves an interface that is
/// known as the project's by this.
pub fn making(project: &str) -> u32 {
    let hash = project
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    // Positive as an i32, as `ip` prints it, and far from the small numbers that people use.
    0x6300_0000 | (hash ^ (hash >> 24)) & 0x00ff_ffff
}

/// Is it the group of some project's interfaces that are being made?
pub fn is_making(group: u32) -> bool {
    group >> 24 == 0x63
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(project: &str, container: &str, name: &str) -> Mark {
        Mark { project: project.into(), container: container.into(), name: name.into(), note: None }
    }

    #[test]
    fn mark_reads_back() {
        for it in [mark("p", "p-h1-1", "eth0"), mark("", "h1", "e:0"), mark("p", "", "lan")] {
            assert_eq!(Mark::parse(&it.to_string()), Some(it));
        }
        let noted = Mark { note: Some("distribution normal".into()), ..mark("p", "h1", "eth0") };
        assert_eq!(Mark::parse("conlink:p:h1:eth0 distribution normal"), Some(noted));
        assert!(Mark::same_owner("conlink:p:h1:eth0 seed 7", "conlink:p:h1:eth0"));
        assert!(!Mark::same_owner("conlink:p:h1:eth01", "conlink:p:h1:eth0"));
        for foreign in ["", "conlink", "conlink:p", "conlink:p:h1", "uplink", "xconlink:p:h1:eth0"] {
            assert_eq!(Mark::parse(foreign), None, "{foreign:?}");
        }
    }

    #[test]
    fn mark_fits_the_kernels_limit() {
        assert_eq!(mark("p", &"é".repeat(200), "eth0").to_string().len(), 254);
    }

    #[test]
    fn projects_have_groups_of_their_own() {
        assert_ne!(making("a"), making("b"));
        assert!(is_making(making("")) && !is_making(0));
    }
}
