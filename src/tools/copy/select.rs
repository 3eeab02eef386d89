//! Glob patterns.

use std::ffi::OsString;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Patterns as in `.gitignore`: without a slash they match names in every directory, with a slash paths from the top.
#[derive(Debug, Default)]
pub(super) struct Globs {
    set: Option<GlobSet>,
}

impl Globs {
    /// Parses the patterns of an option, and adds errors to `mistakes`.
    pub(super) fn parse(option: &str, patterns: &[OsString], mistakes: &mut Vec<String>) -> Self {
        let mut builder = GlobSetBuilder::new();
        for pattern in patterns {
            let Some(text) = pattern.to_str() else {
                mistakes.push(format!("{option}: `{}`: the value is not UTF-8", pattern.display()));
                continue;
            };
            let trimmed = text.trim_end_matches('/');
            let full = match trimmed.strip_prefix('/') {
                Some(rest) => rest.to_owned(),
                None if trimmed.contains('/') => trimmed.to_owned(),
                None => format!("**/{trimmed}"),
            };
            if trimmed.trim_start_matches('/').is_empty() {
                mistakes
                    .push(format!("{option}: `{text}`: expected a pattern, such as `*.conf` or `etc/**`"));
                continue;
            }
            match GlobBuilder::new(&full).literal_separator(true).backslash_escape(true).build() {
                Ok(glob) => drop(builder.add(glob)),
                Err(error) => mistakes.push(format!("{option}: `{text}`: {}", error.kind())),
            }
        }
        if patterns.is_empty() {
            return Self::default();
        }
        match builder.build() {
            Ok(set) => Self { set: Some(set) },
            Err(error) => {
                mistakes.push(format!("{option}: {error}"));
                Self::default()
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.set.is_none()
    }

    /// Whether a pattern matches a path below the top.
    pub(super) fn matches(&self, path: &Path) -> bool {
        self.set.as_ref().is_some_and(|it| it.is_match(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn patterns_are_about_names_or_about_paths() {
        let matches = |pattern: &str, path: &[u8]| {
            let mut mistakes = Vec::new();
            let globs = Globs::parse("--include", &[pattern.into()], &mut mistakes);
            assert!(mistakes.is_empty(), "{mistakes:?}");
            globs.matches(Path::new(OsStr::from_bytes(path)))
        };
        for (pattern, path, expected) in [
            ("*.conf", &b"a.conf"[..], true),
            ("*.conf", b"etc/a.conf", true),
            ("*.conf", b"etc/a.conf.bak", false),
            ("etc/*.conf", b"etc/a.conf", true),
            ("etc/*.conf", b"etc/x/a.conf", false),
            ("etc/*.conf", b"usr/etc/a.conf", false),
            ("etc/**", b"etc/x/a", true),
            ("/a", b"a", true),
            ("/a", b"b/a", false),
            ("{a,b}?", b"x/b1", true),
            ("[!a]*", b"a", false),
            ("x/", b"y/x", true),
            ("*.conf", b"\xff.conf", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path:?}");
        }
    }
}
