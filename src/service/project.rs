//! What a project is before its compose files are read: its files, its environment, its name.

use std::path::{Path, PathBuf};

use crate::config::Env;

/// The absolute path that a path of a compose file is, without `.` and `..`; `~` is HOME.
pub(super) fn absolute(dir: &Path, path: &str, env: &Env) -> PathBuf {
    let home = path.strip_prefix('~').filter(|it| it.is_empty() || it.starts_with('/'));
    let path = match (home, env.get("HOME")) {
        (Some(rest), Some(home)) => Path::new(home).join(rest.trim_start_matches('/')),
        _ => dir.join(path),
    };
    cleaned(&path)
}

/// The path by its text alone: compose does not ask what is a link.
pub(super) fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => drop(clean.pop()),
            _ => clean.push(part),
        }
    }
    clean
}
