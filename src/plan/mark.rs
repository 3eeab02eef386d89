//! The mark that identifies our interfaces.

use std::collections::BTreeMap;
use std::fmt;

use crate::addr::IfName;
use crate::ethtool::Feature;
use crate::plan::Interface;

/// The project in marks of interfaces that were attached without an engine is this and the kind of guest. No compose project
/// can have such a name.
pub const ATTACHED: &str = "attach/";

/// The owner of an interface, stored in its alias: `conlink:PROJECT:CONTAINER:NAME`, optionally followed by a space and
/// a note.
///
/// In the names, `:`, `%` and all characters other than printable ASCII are written as `%` and two hexadecimal digits,
/// so that each text has one meaning. Names that are too long for the kernel are cut and end in a hash of the whole
/// name. CONTAINER is empty for a bridge, PROJECT is empty without a project.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    pub project: String,
    pub container: String,
    /// The name of the interface in the container, or of the bridge.
    pub name: String,
    pub note: Note,
}

/// Settings of an interface that the kernel does not report.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// The hidden part of an impairment, such as its distribution ([`Netem::hidden`](crate::netem::Netem::hidden)).
    pub netem: Option<String>,
    /// The MTU is configured. If it is no longer configured later, it is reset to the kernel's default.
    pub mtu: bool,
    /// The configured features, with their state before conlink switched them.
    pub features: BTreeMap<Feature, bool>,
    /// It is an interface of the host that was moved here, with its name there.
    pub moved: Option<IfName>,
    /// The VLAN of the port was set. If none is configured later, it is reset to that of a new port.
    pub vlan: Option<u16>,
}

const MTU: &str = "mtu";
const MOVED: &str = "moved=";
const VLAN: &str = "vlan=";

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
                None if word.starts_with(MOVED) => note.moved = word.split_at(MOVED.len()).1.parse().ok(),
                None if word.starts_with(VLAN) => note.vlan = word.split_at(VLAN.len()).1.parse().ok(),
                // It was cut off, or is from another version.
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
        if let Some(it) = &self.moved {
            write!(f, " {MOVED}{it}")?;
        }
        if let Some(it) = self.vlan {
            write!(f, " {VLAN}{it}")?;
        }
        self.features.iter().try_for_each(|(it, on)| write!(f, " {it}={}", if *on { "on" } else { "off" }))
    }
}

impl Interface {
    /// Its name on the host, if it was moved here from there.
    pub fn moved_from(&self) -> Option<IfName> {
        self.note().moved
    }

    /// The note on an interface of ours.
    pub(super) fn note(&self) -> Note {
        self.alias.as_deref().and_then(Mark::parse).map(|it| it.note).unwrap_or_default()
    }
}

impl Mark {
    /// Longest alias in bytes (IFALIASZ less the closing zero, which the length includes).
    const MAX: usize = 254;

    /// Longest name of a project and of a container in a mark, in bytes. They leave room for the interface and a note.
    const PROJECT_MAX: usize = 64;
    const CONTAINER_MAX: usize = 96;

    /// A project's name as in marks.
    pub fn project(name: &str) -> String {
        shortened(name, Self::PROJECT_MAX)
    }

    /// A container's name as in marks.
    pub fn container(name: &str) -> String {
        shortened(name, Self::CONTAINER_MAX)
    }

    /// A name in a mark as it was before [`Mark::container`]. A name that was cut stays cut.
    pub fn plain(name: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = name.as_bytes();
        while let Some((first, more)) = rest.split_first() {
            let digits = more.get(..2).filter(|_| *first == b'%').and_then(|it| std::str::from_utf8(it).ok());
            let (byte, after) = match digits.and_then(|it| u8::from_str_radix(it, 16).ok()) {
                Some(it) => (it, more.get(2..).unwrap_or_default()),
                None => (*first, more),
            };
            bytes.push(byte);
            rest = after;
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Parses an alias; None if it is not a mark.
    pub fn parse(alias: &str) -> Option<Self> {
        let (names, note) = match alias.split_once(' ') {
            Some((names, note)) => (names, Note::parse(note)),
            None => (alias, Note::default()),
        };
        let mut parts = names.strip_prefix("conlink:")?.splitn(3, ':');
        let mut next = || parts.next().map(str::to_owned);
        Some(Self { project: next()?, container: next()?, name: next()?, note })
    }

    /// Are the two marks equal except for their notes?
    pub fn same_owner(alias: &str, mark: &str) -> bool {
        fn names(text: &str) -> &str {
            text.split(' ').next().unwrap_or(text)
        }
        names(alias) == names(mark)
    }
}

/// The escaped name. A name that is too long is cut and ends in a hash of the whole name.
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
        // Only a note can make it too long; the note is cut.
        while text.len() > Self::MAX {
            text.pop();
        }
        f.write_str(&text)
    }
}

/// The group (IFLA_GROUP) of interfaces that have been made and not yet marked; each project has a number of its own.
///
/// The kernel can set the group, unlike the alias, in the message that creates the interface (`rtnl_create_link()` in
/// `net/core/rtnetlink.c`). If the engine is killed before it sets the alias, the group identifies the interface.
pub fn making(project: &str) -> u32 {
    let hash = project
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    // Positive as an i32, as `ip` prints it, and far from the small numbers that users choose.
    0x6300_0000 | (hash ^ (hash >> 24)) & 0x00ff_ffff
}

/// Is this the group of unfinished interfaces of any project?
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
            (
                Note { netem, mtu: true, features, ..Note::default() },
                " distribution normal mtu gro=on tso=off",
            ),
            (
                Note { moved: Some("eth2".parse().unwrap()), vlan: Some(42), ..Note::default() },
                " moved=eth2 vlan=42",
            ),
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
    fn different_names_give_different_marks() {
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
        for name in ["a", "a b", "a:b", "a%3ab", "/run/netns/é"] {
            assert_eq!(Mark::plain(&Mark::container(name)), name);
        }
    }

    #[test]
    fn different_projects_have_different_groups() {
        assert_ne!(making("a"), making("b"));
        assert!(is_making(making("")) && !is_making(0));
    }
}
