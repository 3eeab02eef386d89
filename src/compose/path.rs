//! Paths as compose shortens them.

use std::path::{Component, Path, PathBuf};

/// The path without `.`, `..`, double and last slashes, by its text alone: links are not followed, as in compose. A relative
/// path may still begin with `..`.
pub(crate) fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match (part, clean.components().next_back()) {
            (Component::CurDir, _) | (Component::ParentDir, Some(Component::RootDir)) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => drop(clean.pop()),
            _ => clean.push(part),
        }
    }
    if clean == Path::new("") { PathBuf::from(".") } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shortened_by_their_text() {
        for (path, expected) in [
            ("/../a", "/a"),
            ("/a/../..", "/"),
            ("../a/../../b", "../../b"),
            ("a/..", "."),
            ("", "."),
            (".//a/", "a"),
        ] {
            assert_eq!(cleaned(Path::new(path)), Path::new(expected), "{path}");
        }
    }
}
