//! The mark on an interface that says whose it is.

use std::collections::BTreeMap;
use std::fmt;

use crate::ethtool::Feature;
use crate::plan::Interface;

/// Whose an interface is: its alias reads `conlink:PROJECT:CONTAINER:NAME`, then perhaps a space and a note.
///
/// The text reads back in one way only: `:`, `%` and what is no printable ASCII character are written as `%` and two
/// hexadecimal digits. Names of projects and containers that are too long for the kernel end in a hash of the whole, so
/// that they still differ. A bridge belongs to no container: that part is empty. Without a project the first part is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    pub project: String,
    pub container: String,
    /// The interface's name in the container, or the bridge's.
    pub name: String,
    pub note: Note,
}

/// What the kernel does not report of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// Such as the shape of its delays ([`Netem::hidden`](crate::netem::Netem::hidden)).
    pub netem: Option<String>,
    /// The configuration gives its MTU: once it does so no more the MTU is the kernel's again.
    pub mtu: bool,
    /// Features that the configuration switches, and how they were before.
    pub features: BTreeMap<Feature, bool>,
}

const MTU: &str = "mtu";

impl Note {
    fn parse(text: &str) -> Self {
        let feature = |word: &str| match word.split_once('=')? {
            (name, "on") => Some((Feature::named(name)?, true)),
            (name, "off") => Some((Feature::named(name)?, false)),
            _ => None,
        };
        let mut note = Self::default();
        let mut netem = Vec::new();
        for word in text.split(' ') {
            match feature(word) {
                Some((feature, on)) => drop(note.features.insert(feature, on)),
                None if word == MTU => note.mtu = true,
                // One that was cut off, or of another version.
                None if word.contains('=') => {}
                None => netem.push(word),
            }
        }
        note.netem = (!netem.is_empty()).then(|| netem.join(" "));
        note
    }
}

/// Each part after a space.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.netem.as_ref().map_or(Ok(()), |it| write!(f, " {it}"))?;
        if self.mtu {
            write!(f, " {MTU}")?;
        }
        self.features.iter().try_for_each(|(it, on)| write!(f, " {it}={}", if *on { "on" } else { "off" }))
    }
}

impl Interface {
    /// The note on an interface of ours.
    pub(super) fn note(&self) -> Note {
        self.alias.as_deref().and_then(Mark::parse).map(|it| it.note).unwrap_or_default()
    }
}

impl Mark {
    /// The longest alias the kernel keeps, in bytes (IFALIASZ less the closing zero, which the length counts too).
    const MAX: usize = 254;

    /// The longest name of a project in a mark, and of a container, in bytes: with both there is room for a name and a
    /// note.
    const PROJECT_MAX: usize = 64;
    const CONTAINER_MAX: usize = 96;

    /// A project as marks name it.
    pub fn project(name: &str) -> String {
        shortened(name, Self::PROJECT_MAX)
    }

    /// A container as marks name it.
    pub fn container(name: &str) -> String {
        shortened(name, Self::CONTAINER_MAX)
    }

    /// Reads an alias; None where it is no mark of ours.
    pub fn parse(alias: &str) -> Option<Self> {
        let (names, note) = match alias.split_once(' ') {
            Some((names, note)) => (names, Note::parse(note)),
            None => (alias, Note::default()),
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

/// The name escaped; too long, its beginning and a hash of all of it.
fn shortened(name: &str, max: usize) -> String {
    let is_plain = |it: u8| it.is_ascii_graphic() && it != b':' && it != b'%';
    let escape = |it: u8| if is_plain(it) { char::from(it).to_string() } else { format!("%{it:02x}") };
    let escaped: String = name.bytes().map(escape).collect();
    if escaped.len() <= max {
        return escaped;
    }
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = format!("~{hash:016x}");
    format!("{}{hash}", escaped.get(..max - hash.len()).unwrap_or_default())
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("conlink:{}:{}:{}{}", self.project, self.container, self.name, self.note);
        // Only a note can be too long, and of that the beginning does.
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
        Mark {
            project: project.into(),
            container: container.into(),
            name: name.into(),
            note: Note::default(),
        }
    }

    #[test]
    fn mark_reads_back() {
        for it in [mark("p", "p-h1-1", "eth0"), mark("", "h1", "e:0"), mark("p", "", "lan")] {
            assert_eq!(Mark::parse(&it.to_string()), Some(it));
        }
        let netem = Some("distribution normal".to_owned());
        let named = |name| Feature::named(name).unwrap();
        let features = BTreeMap::from([(named("tso"), false), (named("gro"), true)]);
        for (note, text) in [
            (Note { netem: netem.clone(), ..Note::default() }, " distribution normal"),
            (Note { mtu: true, ..Note::default() }, " mtu"),
            (Note { netem, mtu: true, features }, " distribution normal mtu gro=on tso=off"),
        ] {
            let noted = Mark { note, ..mark("p", "h1", "eth0") };
            assert_eq!(noted.to_string(), format!("conlink:p:h1:eth0{text}"));
            assert_eq!(Mark::parse(&noted.to_string()), Some(noted));
        }
        assert!(Mark::same_owner("conlink:p:h1:eth0 seed 7", "conlink:p:h1:eth0"));
        assert!(!Mark::same_owner("conlink:p:h1:eth01", "conlink:p:h1:eth0"));
        for foreign in ["", "conlink", "conlink:p", "conlink:p:h1", "uplink", "xconlink:p:h1:eth0"] {
            assert_eq!(Mark::parse(foreign), None, "{foreign:?}");
        }
    }

    #[test]
    fn names_of_any_length_and_kind_stay_apart() {
        let names = ["a", "a b", "a:b", "a%3ab", "é", &"x".repeat(300), &("x".repeat(300) + "y")];
        let mut seen = std::collections::BTreeSet::new();
        for project in names {
            for container in names {
                let it = mark(&Mark::project(project), &Mark::container(container), "eth0-and-longer");
                let text = it.to_string();
                assert!(text.len() <= 254 - 60, "no room for a note: {text}");
                assert_eq!(Mark::parse(&text), Some(it));
                assert!(seen.insert(text));
            }
        }
        assert_eq!(Mark::container("p-h1-1"), "p-h1-1");
    }

    #[test]
    fn projects_have_groups_of_their_own() {
        assert_ne!(making("a"), making("b"));
        assert!(is_making(making("")) && !is_making(0));
    }
}
