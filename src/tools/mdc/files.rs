//! Merges the file trees that modes have for services.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::tools::mdc::project::{Mode, shown};
use crate::tools::mdc::settings::Wrong;

/// The desired content of the files directory, by relative path. Directories come before their content.
pub(super) type Tree = BTreeMap<PathBuf, Entry>;

/// A file, directory or other entry of a mode.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// None for the directory of a service, which has no source.
    pub(super) source: Option<Source>,
}

#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) meta: Metadata,
    pub(super) mode: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File,
    /// A hard link to an earlier file.
    LinkTo(PathBuf),
    Symlink(PathBuf),
    Fifo,
    /// A device or pipe; type and number are in the metadata.
    Device,
}

/// Names in the files directory that mdc uses itself.
pub(super) const MARKER: &str = ".mdc";
pub(super) const STAGE: &str = ".mdc-new";

/// Merges the trees of the modes; later ones win. Returns notes as well.
pub(super) fn merged(modes: &[Mode]) -> Result<(Tree, Vec<String>), Wrong> {
    let mut overlay = Overlay::default();
    for mode in modes {
        for (service, folder) in &mode.files {
            let top = PathBuf::from(service);
            if service == MARKER || service == STAGE {
                overlay.wrong.push(format!("{}: the name is reserved for mdc", shown(folder)));
                continue;
            }
            overlay.tree.entry(top.clone()).or_insert(Entry { kind: Kind::Folder, source: None });
            overlay.add_folder(mode, folder, &top);
        }
    }
    overlay.find_hard_links();
    if overlay.wrong.is_empty() { Ok((overlay.tree, overlay.notes)) } else { Err(overlay.wrong) }
}

/// The system's error of a walk, without the path. Only walks that follow symbolic links have other errors.
pub(super) fn io_error(error: walkdir::Error) -> io::Error {
    error.into_io_error().unwrap_or_else(|| nix::Error::ELOOP.into())
}

#[derive(Default)]
struct Overlay {
    tree: Tree,
    notes: Vec<String>,
    wrong: Wrong,
}

impl Overlay {
    fn add_folder(&mut self, mode: &Mode, folder: &Path, to: &Path) {
        for found in WalkDir::new(folder).min_depth(1).sort_by_file_name() {
            let path = match found {
                Ok(it) => it.into_path(),
                Err(error) => {
                    let path = shown(error.path().unwrap_or(folder));
                    self.wrong.push(format!("{path}: {}", io_error(error)));
                    continue;
                }
            };
            let to = to.join(path.strip_prefix(folder).unwrap_or(&path));
            match entry(mode, &path) {
                Ok(Some(entry)) => self.put(mode, &to, entry),
                Ok(None) => self.notes.push(format!("{} is a socket and is not copied", shown(&path))),
                Err(error) => self.wrong.push(format!("{}: {error}", shown(&path))),
            }
        }
    }

    fn put(&mut self, mode: &Mode, to: &Path, entry: Entry) {
        if let Some(before) = self.tree.get(to) {
            let changes = (before.kind == Kind::Folder) != (entry.kind == Kind::Folder);
            let is_link = [&before.kind, &entry.kind].iter().any(|it| matches!(it, Kind::Symlink(_)));
            if changes && let Some(source) = &before.source {
                let what =
                    |kind: &Kind| if *kind == Kind::Folder { "a directory" } else { "not a directory" };
                match is_link {
                    true => self.notes.push(format!(
                        "mode {} replaces {}, which is {} in mode {}",
                        mode.name,
                        shown(to),
                        what(&before.kind),
                        source.mode
                    )),
                    false => self.wrong.push(format!(
                        "{}: {} in mode {}, {} in mode {}",
                        shown(to),
                        what(&before.kind),
                        source.mode,
                        what(&entry.kind),
                        mode.name
                    )),
                }
            }
            if before.kind == Kind::Folder && changes {
                self.tree.retain(|it, _| !it.starts_with(to));
            }
        }
        self.tree.insert(to.to_owned(), entry);
    }

    /// Hard links stay hard links.
    fn find_hard_links(&mut self) {
        let mut first: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
        for (path, entry) in &mut self.tree {
            let Some(source) = entry.source.as_ref().filter(|it| it.meta.nlink() > 1) else { continue };
            if entry.kind == Kind::File {
                let id = (source.meta.dev(), source.meta.ino());
                match first.get(&id) {
                    Some(it) => entry.kind = Kind::LinkTo(it.clone()),
                    None => drop(first.insert(id, path.clone())),
                }
            }
        }
    }
}

/// The kind of an entry, without following symbolic links. None for a socket.
fn entry(mode: &Mode, path: &Path) -> std::io::Result<Option<Entry>> {
    let meta = path.symlink_metadata()?;
    let kind = meta.file_type();
    let kind = if kind.is_dir() {
        Kind::Folder
    } else if kind.is_file() {
        Kind::File
    } else if kind.is_symlink() {
        Kind::Symlink(fs::read_link(path)?)
    } else if kind.is_fifo() {
        Kind::Fifo
    } else if kind.is_socket() {
        return Ok(None);
    } else {
        Kind::Device
    };
    let source = Source { path: path.to_owned(), meta, mode: mode.name.clone() };
    Ok(Some(Entry { kind, source: Some(source) }))
}
