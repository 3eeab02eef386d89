//! To whom what is made belongs.

use std::fs;

use nix::sys::stat::FileStat;
use nix::unistd::{Gid, Uid};

/// Who owns what is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Whoever the process is.
    Process,
    /// As in SRC.
    Source,
    Given(Option<u32>, Option<u32>),
}

impl Owner {
    /// Reads `USER`, `USER:GROUP` or `:GROUP`, names or numbers. Names are those of this system's own files, not of a
    /// root file system that may be copied to.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        if user.is_empty() && group.is_empty() {
            return Err("it is like `1000:1000`, `www-data` or `:adm`".to_owned());
        }
        let user = if user.is_empty() { None } else { Some(number("/etc/passwd", "user", user)?) };
        let group = if group.is_empty() { None } else { Some(number("/etc/group", "group", group)?) };
        Ok(Self::Given(user, group))
    }

    /// The owner to set on what is made from this; None where there is nothing to set.
    pub(super) fn of(self, source: &FileStat) -> Option<(Option<Uid>, Option<Gid>)> {
        match self {
            Self::Process => None,
            Self::Source => Some((Some(Uid::from_raw(source.st_uid)), Some(Gid::from_raw(source.st_gid)))),
            Self::Given(user, group) => Some((user.map(Uid::from_raw), group.map(Gid::from_raw))),
        }
    }

    /// Does what is there belong to whom it should?
    pub(super) fn is_right(self, source: &FileStat, there: &FileStat) -> bool {
        self.of(source).is_none_or(|(user, group)| {
            user.is_none_or(|it| it.as_raw() == there.st_uid)
                && group.is_none_or(|it| it.as_raw() == there.st_gid)
        })
    }
}

/// The number of a name in a file such as `/etc/passwd`: its third field (`passwd(5)`, `group(5)`).
fn number(file: &str, what: &str, name: &str) -> Result<u32, String> {
    // 2³² − 1 means "leave it" to the kernel.
    if name.bytes().all(|it| it.is_ascii_digit()) {
        return name
            .parse()
            .ok()
            .filter(|it| *it != u32::MAX)
            .ok_or_else(|| format!("`{name}` is too large for the number of a {what}"));
    }
    let text = fs::read(file).map_err(|error| format!("`{name}` is looked for in {file}: {error}"))?;
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1))?
        })
        .find_map(|it| it.parse().ok())
        .ok_or_else(|| format!("{file} has no {what} `{name}`"))
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
