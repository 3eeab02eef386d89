//! The users and groups of this machine, from its files: a static program cannot use NSS.

/// The fields of the first line of `/etc/passwd` or `/etc/group` with this name or number (`passwd(5)`, `group(5)`).
pub fn entry<'a>(text: &'a str, word: &str) -> Option<Vec<&'a str>> {
    let mut entries = entries(text);
    entries.find(|it| it.first().is_some_and(|it| *it == word) || it.get(2).is_some_and(|it| *it == word))
}

/// The fields of each line.
pub(super) fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|it| it.split(':').collect())
}

/// The number of a user or group.
pub fn id(entry: &[&str]) -> Option<u32> {
    number(entry, 2)
}

/// A field that is a number.
pub(super) fn number(entry: &[&str], at: usize) -> Option<u32> {
    entry.get(at)?.parse().ok()
}
