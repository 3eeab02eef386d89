//! Writes the env file and the other files: all are prepared first, then renamed together.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{AccessFlags, access};

use crate::env_file::is_written_by_mdc;
use crate::err;
use crate::tools::mdc::commit::Staged;
use crate::tools::mdc::files::merged;
use crate::tools::mdc::project::{Project, at, shown};
use crate::tools::mdc::safety::files_dir;
use crate::tools::mdc::settings::{Settings, Wrong};
use crate::tools::mdc::sync::{Does, Sync};

/// The first compose file, which makes relative paths relative to the project directory.
const EMPTY: &str = "./.compose-empty.yaml";
const EMPTY_TEXT: &[u8] = b"services: {}\n";

/// Locks the directory against another run; waits for it.
pub(super) fn lock(wanted: bool) -> Result<Option<Flock<File>>, Wrong> {
    if !wanted {
        return Ok(None);
    }
    let failed = |what: String| vec![format!("lock the project directory: {what}")];
    let folder = File::open(".").map_err(|it| failed(it.to_string()))?;
    match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
        Ok(it) => Ok(Some(it)),
        Err((folder, Errno::EWOULDBLOCK)) => {
            err("mdc: waiting for another mdc in this directory\n");
            let locked = Flock::lock(folder, FlockArg::LockExclusive);
            locked.map(Some).map_err(|(_, it)| failed(it.to_string()))
        }
        // Some network file systems cannot lock directories.
        Err((_, error)) => {
            err(&format!("warning: cannot lock the project directory: {}\n", io::Error::from(error)));
            Ok(None)
        }
    }
}

/// Everything to be done, checked as far as possible.
#[derive(Debug)]
pub(super) struct Prepared {
    /// In the order of renaming: the env file is last, because compose starts with it.
    texts: Vec<TextFile>,
    backup: Option<Backup>,
    files: Sync,
    shown_files: PathBuf,
}

/// A file and its new content.
#[derive(Debug)]
struct TextFile {
    path: PathBuf,
    content: Vec<u8>,
    /// The permissions of the existing file, which the new one must not exceed.
    at_most: u32,
    /// The file has this content already.
    is_there: bool,
}

/// An env file that mdc did not write, and its backup.
#[derive(Debug)]
struct Backup {
    from: PathBuf,
    to: PathBuf,
}

/// A change, for messages.
#[derive(Debug)]
pub(super) enum Change {
    BackUp(PathBuf, PathBuf),
    Write(PathBuf),
    File(Does, PathBuf),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BackUp(from, to) => write!(f, "back up {} to {}", from.display(), to.display()),
            Self::Write(path) => write!(f, "write {}", path.display()),
            Self::File(does, path) => {
                let verb = match does {
                    Does::Add => "add",
                    Does::Replace => "replace",
                    Does::Adjust => "adjust",
                    Does::Remove => "remove",
                };
                write!(f, "{verb} {}", path.display())
            }
        }
    }
}

impl Prepared {
    /// Compares the existing files with the desired ones; changes nothing.
    pub(super) fn new(settings: &Settings, project: &Project) -> Result<Self, Wrong> {
        let mut wrong = Vec::new();
        let mut notes = Vec::new();
        let env_path = Path::new(&settings.env_file);
        let empty = TextFile::new(Path::new(EMPTY), EMPTY_TEXT.to_vec(), &mut wrong);
        // A device or a pipe is neither read nor replaced.
        if env_path.metadata().is_ok_and(|it| !it.is_file() && !it.is_dir()) {
            return Err(vec![format!(
                "{}: expected a regular file, found a device, a pipe or a socket",
                shown(env_path)
            )]);
        }
        let env = TextFile::new(env_path, project.written.bytes.clone(), &mut wrong);
        let backup = match backup(env_path) {
            Ok(it) => it,
            Err(error) => {
                wrong.push(format!("{}: {error}", shown(env_path)));
                None
            }
        };
        let files = files_dir(settings).and_then(|dir| {
            let (tree, more) = merged(&project.modes)?;
            notes.extend(more);
            let shown = dir.path.clone();
            Ok((Sync::plan(dir, tree)?, shown))
        });
        match files {
            Ok((files, shown_files)) if wrong.is_empty() => {
                if settings.verbose {
                    notes.iter().for_each(|it| err(&format!("note: {it}\n")));
                }
                Ok(Self { texts: vec![empty, env], backup, files, shown_files })
            }
            Ok(_) => Err(wrong),
            Err(more) => {
                wrong.extend(more);
                Err(wrong)
            }
        }
    }

    /// The changes, in order.
    pub(super) fn changes(&self) -> Vec<Change> {
        let files = self.files.steps.iter().map(|it| Change::File(it.does, self.shown_files.join(&it.path)));
        let backup = self.backup.iter().map(|it| Change::BackUp(it.from.clone(), it.to.clone()));
        let texts = self.texts.iter().filter(|it| !it.is_there).map(|it| Change::Write(it.path.clone()));
        files.chain(backup).chain(texts).collect()
    }

    /// Carries out the changes. If preparing fails, nothing is changed.
    pub(super) fn carry_out(&self) -> Result<(), Wrong> {
        let failed = |error: io::Error| vec![error.to_string()];
        let prepared = self.texts.iter().try_for_each(TextFile::stage);
        let prepared = prepared.and_then(|()| Staged::new(&self.files).map_err(at(&self.shown_files)));
        let staged = prepared.map_err(|error| {
            self.texts.iter().for_each(|it| drop(fs::remove_file(it.staged())));
            failed(error)
        })?;
        staged.commit(&self.files).map_err(failed)?;
        if let Some(it) = &self.backup {
            it.make().map_err(|error| vec![format!("back up {}: {error}", shown(&it.from))])?;
            err(&format!(
                "warning: {} was not written by mdc; saved as {}\n",
                it.from.display(),
                it.to.display()
            ));
        }
        self.texts.iter().try_for_each(TextFile::commit).map_err(failed)
    }
}

impl TextFile {
    fn new(path: &Path, content: Vec<u8>, wrong: &mut Wrong) -> Self {
        let name = shown(path);
        let folder = match path.parent() {
            Some(it) if it != Path::new("") => it,
            _ => Path::new("."),
        };
        if let Err(error) = access(folder, AccessFlags::W_OK | AccessFlags::X_OK) {
            wrong.push(format!("{name}: cannot write to its directory: {}", io::Error::from(error)));
        }
        let there = path.symlink_metadata().ok();
        if path.is_dir() || path.file_name().is_none() {
            wrong.push(format!("{name}: expected a file, found a directory"));
        }
        let is_file = there.as_ref().is_some_and(|it| it.is_file());
        let is_there = is_file && fs::read(path).is_ok_and(|it| it == content);
        let at_most = path.metadata().map_or(0o777, |it| it.permissions().mode() & 0o777);
        Self { path: path.to_owned(), content, at_most, is_there }
    }

    fn staged(&self) -> PathBuf {
        beside(&self.path)
    }

    fn stage(&self) -> io::Result<()> {
        let staged = self.staged();
        remove(&staged).map_err(at(&staged))?;
        if self.is_there {
            return Ok(());
        }
        create(&staged, 0o666 & self.at_most, &mut self.content.as_slice()).map_err(at(&staged))
    }

    fn commit(&self) -> io::Result<()> {
        if self.is_there {
            return Ok(());
        }
        fs::rename(self.staged(), &self.path).map_err(at(&self.path))
    }
}

/// The temporary name of a file.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".mdc-new");
    name.into()
}

/// Removes a temporary file that a killed run has left.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Creates a file, which must not exist.
fn create(path: &Path, mode: u32, content: &mut impl Read) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    io::copy(content, &mut file).map(drop)
}

/// Backs up an env file that mdc did not write, unless it is empty.
fn backup(path: &Path) -> io::Result<Option<Backup>> {
    let content = match fs::read(path) {
        Ok(it) => it,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // A directory, which is reported elsewhere.
        Err(_) if path.is_dir() => return Ok(None),
        Err(error) => return Err(error),
    };
    if is_written_by_mdc(&content) || content.is_empty() {
        return Ok(None);
    }
    let name = |number: usize| {
        let mut name = path.as_os_str().to_owned();
        name.push(if number == 0 { ".mdc-bak".to_owned() } else { format!(".mdc-bak.{number}") });
        PathBuf::from(name)
    };
    // An earlier backup is kept, unless it is equal.
    let free = |it: &PathBuf| it.symlink_metadata().is_err() || fs::read(it).is_ok_and(|it| it == content);
    let to = (0..).map(name).find(free).unwrap_or_else(|| name(0));
    Ok(Some(Backup { from: path.to_owned(), to }))
}

impl Backup {
    /// Copies, so that the env file exists at any time.
    fn make(&self) -> io::Result<()> {
        let beside = beside(&self.to);
        let bits = self.from.metadata()?.permissions().mode() & 0o777;
        remove(&beside)?;
        create(&beside, 0o600, &mut File::open(&self.from)?)?;
        fs::set_permissions(&beside, Permissions::from_mode(bits))?;
        fs::rename(&beside, &self.to)
    }
}
