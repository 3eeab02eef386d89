//! The owner of created files.

use std::fs;

use nix::sys::stat::{FileStat, Mode};
use nix::unistd::{Gid, Uid};

use crate::lab::users;

/// The owner of created files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The user of the process.
    Process,
    /// As in SRC.
    Source,
    Given(Option<u32>, Option<u32>),
}

impl Owner {
    /// Parses `USER`, `USER:GROUP` or `:GROUP`, names or numbers. Names are looked up on this system, even if DST is
    /// another root file system.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        if user.is_empty() && group.is_empty() {
            return Err("expected an owner such as `1000:1000`, `www-data` or `:adm`".to_owned());
        }
        let user = if user.is_empty() { None } else { Some(number("/etc/passwd", "user", user)?) };
        let group = if group.is_empty() { None } else { Some(number("/etc/group", "group", group)?) };
        Ok(Self::Given(user, group))
    }

    /// The owner to set on the copy of this file. None if there is nothing to set.
    pub(super) fn of(self, source: &FileStat) -> Option<(Option<Uid>, Option<Gid>)> {
        match self {
            Self::Process => None,
            Self::Source => Some((Some(Uid::from_raw(source.st_uid)), Some(Gid::from_raw(source.st_gid)))),
            Self::Given(user, group) => Some((user.map(Uid::from_raw), group.map(Gid::from_raw))),
        }
    }

    /// Whether the existing file has the right owner.
    pub(super) fn is_right(self, source: &FileStat, there: &FileStat) -> bool {
        self.of(source).is_none_or(|(user, group)| {
            user.is_none_or(|it| it.as_raw() == there.st_uid)
                && group.is_none_or(|it| it.as_raw() == there.st_gid)
        })
    }
}

/// The permissions of a copy that this user and group own. Set-id bits lend the rights of the owner in SRC, so the copy of
/// another owner has none.
pub(super) fn permissions(source: &FileStat, user: u32, group: u32) -> Mode {
    let mut mode = Mode::from_bits_truncate(source.st_mode & 0o7777);
    if user != source.st_uid {
        mode.remove(Mode::S_ISUID);
    }
    if group != source.st_gid {
        mode.remove(Mode::S_ISGID);
    }
    mode
}

/// The id of a name in a file such as `/etc/passwd`: its third field (`passwd(5)`, `group(5)`).
fn number(file: &str, what: &str, name: &str) -> Result<u32, String> {
    // To the kernel, 2³² − 1 means no change.
    if name.bytes().all(|it| it.is_ascii_digit()) {
        return name
            .parse()
            .ok()
            .filter(|it| *it != u32::MAX)
            .ok_or_else(|| format!("{what} id `{name}` is too large"));
    }
    let text = fs::read(file).map_err(|error| format!("read {file}: {error}"))?;
    let text = String::from_utf8_lossy(&text);
    let found = users::entry(&text, name).and_then(|it| users::id(&it));
    found.ok_or_else(|| format!("no {what} `{name}` in {file}"))
}

#[cfg(test)]
mod tests {
    use super::Owner;

    #[test]
    fn owners_are_numbers_or_names() {
        for (text, expected) in [
            ("0", Owner::Given(Some(0), None)),
            ("1000:50", Owner::Given(Some(1000), Some(50))),
            (":50", Owner::Given(None, Some(50))),
            ("root:root", Owner::Given(Some(0), Some(0))),
            ("7:", Owner::Given(Some(7), None)),
        ] {
            assert_eq!(Owner::parse(text), Ok(expected), "{text}");
        }
        for text in ["", ":", "no-such-user", "0:no-such-group", "4294967295", "-1"] {
            assert!(Owner::parse(text).is_err(), "{text}");
        }
    }
}
