//! Checks what mdc may write to, before anything is changed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use walkdir::WalkDir;

use crate::env_file::is_written_by_mdc;
use crate::tools::copy::folder::Root;
use crate::tools::mdc::files::{MARKER, STAGE, io_error};
use crate::tools::mdc::project::shown;
use crate::tools::mdc::settings::{Settings, Wrong};
use crate::tools::nodes::{folders, places};

/// The files directory.
#[derive(Debug)]
pub(super) struct FilesDir {
    pub(super) path: PathBuf,
    /// The open directory, so that later changes of its name do not matter. None if it does not exist yet.
    pub(super) root: Option<Root>,
    /// The directory has the marker of mdc.
    pub(super) is_marked: bool,
}

/// The files directory, if mdc may change it and remove files from it.
pub(super) fn files_dir(settings: &Settings) -> Result<FilesDir, Wrong> {
    let text = settings.files_dir.as_str();
    let wrong = |what: &str| Err(vec![format!("MDC_FILES_DIR {what} (found `{text}`)")]);
    let path = PathBuf::from(text.strip_suffix('/').filter(|it| !it.is_empty()).unwrap_or(text));
    if !matches!(path.components().next_back(), Some(Component::Normal(_))) || text.ends_with("/.") {
        return wrong("must not be '.' or '/', nor contain the working directory");
    }
    let root = match path.symlink_metadata() {
        Ok(it) if it.is_dir() => {
            Some(Root::open_itself(&path).map_err(|error| vec![format!("{text}: {error}")])?)
        }
        Ok(it) if it.is_symlink() => return wrong("must be a directory, not a symbolic link"),
        Ok(_) => return wrong("must be a directory"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(vec![format!("{text}: {error}")]),
    };
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| vec![format!("{what}: {error}")]
    };
    let real = real(&path).map_err(failed(text))?;
    let project = fs::canonicalize(".").map_err(failed("find the working directory"))?;
    if project.starts_with(&real) {
        return wrong("must not be '.' or '/', nor contain the working directory");
    }
    if !real.starts_with(&project) && !settings.force {
        return wrong("must be in the project directory");
    }
    for place in places(&settings.modes_dir) {
        let Ok(modes) = fs::canonicalize(place) else { continue };
        if modes.starts_with(&real) || real.starts_with(&modes) {
            return wrong(&format!("and the modes directory `{place}` must not contain each other"));
        }
    }
    let env_dir = Path::new(&settings.env_file).parent().filter(|it| *it != Path::new(""));
    if let Some(Ok(it)) = env_dir.map(fs::canonicalize)
        && it.starts_with(&real)
    {
        return wrong("must not contain the env file");
    }
    let is_marked = path.join(MARKER).symlink_metadata().is_ok_and(|it| it.is_file());
    let dir = FilesDir { path, root, is_marked };
    if dir.root.is_none() || is_marked || settings.force {
        return Ok(dir);
    }
    match strangers(&dir.path, settings) {
        Ok(None) => Ok(dir),
        Ok(Some(it)) => wrong(&format!(
            "has files that mdc did not create, such as {}: move them away, choose another directory, or use --force, \
             which removes them",
            shown(&it)
        )),
        Err(error) => Err(vec![format!("{text}: {error}")]),
    }
}

/// The path without symbolic links. Its last parts need not exist.
fn real(path: &Path) -> io::Result<PathBuf> {
    let mut missing = Vec::new();
    let mut there = path;
    loop {
        let folder = if there == Path::new("") { Path::new(".") } else { there };
        match fs::canonicalize(folder) {
            Ok(it) => return Ok(missing.iter().rev().fold(it, |path, name| path.join(name))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match (there.file_name(), there.parent()) {
                    (Some(name), Some(parent)) => {
                        missing.push(name.to_owned());
                        there = parent;
                    }
                    _ => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// A file in a directory without a marker that the reference tool did not create. That tool writes no marker: its
/// directory has the usual name next to an env file of mdc, or contains files of modes only.
fn strangers(dir: &Path, settings: &Settings) -> io::Result<Option<PathBuf>> {
    let mut found = BTreeSet::new();
    collect(dir, Path::new(""), &mut found)?;
    let by_name = dir.file_name().is_some_and(|it| it == ".files")
        && fs::read(&settings.env_file).is_ok_and(|it| is_written_by_mdc(&it));
    if found.is_empty() || by_name {
        return Ok(None);
    }
    let mut known = BTreeSet::new();
    for place in places(&settings.modes_dir) {
        for mode in folders(Path::new(place)).unwrap_or_default() {
            let mode = Path::new(place).join(mode);
            for service in folders(&mode).unwrap_or_default() {
                // An unreadable directory proves nothing.
                let _ = collect(&mode.join(&service).join("files"), Path::new(&service), &mut known);
            }
        }
    }
    Ok(found.into_iter().find(|it| !known.contains(it)))
}

/// Every path that is not a directory.
fn collect(folder: &Path, name: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in WalkDir::new(folder).min_depth(1) {
        let entry = entry.map_err(io_error)?;
        let name = name.join(entry.path().strip_prefix(folder).unwrap_or(entry.path()));
        if !entry.file_type().is_dir() && !name.starts_with(STAGE) {
            found.insert(name);
        }
    }
    Ok(())
}
