//! The plan, made before anything is changed: an error anywhere leaves DST unchanged.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, readlinkat};
use nix::sys::stat::FileStat;
use nix::unistd::{AccessFlags, faccessat, geteuid};

use crate::tools::copy::args::{Options, Templating};
use crate::tools::copy::folder::{Identity, Kind, LinkEnd, Root, list, look, open_file};
use crate::tools::copy::jinja::Jinja;
use crate::tools::copy::template::{self, Replaced, SMALL, TextKind, Variables};

/// The prefix of temporary names. Such a name contains a token of its DST, so that leftovers of a killed run can be told
/// from the files of another run.
pub(super) const BESIDE: &str = ".conlink-copy-";

/// A directory of SRC and the destination of its content.
#[derive(Debug)]
pub(super) struct Folder {
    /// Relative to SRC.
    pub(super) src: PathBuf,
    /// Relative to DST, without symbolic links.
    pub(super) dst: PathBuf,
    /// It must be created.
    pub(super) new: bool,
    pub(super) stat: FileStat,
    parent: usize,
    /// An include pattern matches it or a directory above, so everything in it is included.
    included: bool,
}

/// A file or a symbolic link of SRC.
#[derive(Debug)]
pub(super) struct Entry {
    /// The index of its directory.
    pub(super) folder: usize,
    pub(super) name: OsString,
    pub(super) what: What,
    /// DST has an entry with this name.
    pub(super) there: bool,
    /// The file that a symbolic link with this name in DST leads to, by directory and name.
    pub(super) at: Option<(PathBuf, OsString)>,
    /// The rendered template, if it differs from the file.
    pub(super) text: Option<Vec<u8>>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    File,
    /// A symbolic link and its target.
    Link(PathBuf),
}

/// Everything that a run does.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Each after its parent; the first is the top.
    pub(super) folders: Vec<Folder>,
    /// Grouped by directory.
    pub(super) entries: Vec<Entry>,
    /// Leftovers of killed runs, by directory of DST.
    pub(super) stale: Vec<(PathBuf, OsString)>,
    pub(super) mistakes: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// Walks SRC and compares it with DST. `token` is part of temporary names.
pub(super) fn plan(
    src: &Root,
    dst: &Root,
    options: &Options,
    jinja: Option<&Jinja>,
    token: &str,
) -> io::Result<Plan> {
    let top = Folder {
        src: PathBuf::new(),
        dst: PathBuf::new(),
        new: false,
        stat: nix::sys::stat::fstat(src.file())?,
        parent: 0,
        included: options.include.is_empty(),
    };
    let mut planner = Planner {
        src,
        dst,
        options,
        jinja,
        stale_prefix: format!("{BESIDE}{token}-"),
        dst_identity: dst.identity()?,
        may_read_all: geteuid().is_root(),
        listed: HashSet::new(),
        redirected: false,
        plan: Plan { folders: vec![top], ..Plan::default() },
    };
    let mut pending = vec![0];
    while let Some(idx) = pending.pop() {
        let first = planner.plan.folders.len();
        planner.folder(idx);
        pending.extend((first..planner.plan.folders.len()).rev());
    }
    if planner.redirected {
        planner.collisions();
    }
    let mut plan = planner.plan;
    if !options.include.is_empty() {
        plan.prune();
    }
    Ok(plan)
}

struct Planner<'a> {
    src: &'a Root,
    dst: &'a Root,
    options: &'a Options,
    jinja: Option<&'a Jinja>,
    stale_prefix: String,
    dst_identity: Identity,
    /// Root can read every file, so the check is skipped.
    may_read_all: bool,
    /// Directories of DST that were searched for leftovers.
    listed: HashSet<PathBuf>,
    /// Symbolic links in DST may lead two paths of SRC to the same place.
    redirected: bool,
    plan: Plan,
}

impl Planner<'_> {
    fn mistake(&mut self, path: &Path, what: impl std::fmt::Display) {
        self.plan.mistakes.push(format!("{}: {what}", path.display()));
    }

    fn folder(&mut self, idx: usize) {
        let Some(folder) = self.plan.folders.get(idx) else { return };
        let (src_path, dst_path, new) = (folder.src.clone(), folder.dst.clone(), folder.new);
        let included = folder.included;
        let opened = self.src.folder(&src_path).and_then(|it| Ok((it.try_clone()?, list(it)?)));
        let (open, names) = match opened {
            Ok(it) => it,
            Err(error) => return self.mistake(&self.src.shown(&src_path), error),
        };
        let there = if new { Ok(HashMap::new()) } else { self.there(&dst_path) };
        let there = match there {
            Ok(it) => it,
            Err(error) => return self.mistake(&self.dst.shown(&dst_path), error),
        };
        for (name, kind) in names {
            if name.as_bytes().starts_with(BESIDE.as_bytes()) {
                continue;
            }
            let path = src_path.join(&name);
            if self.options.exclude.matches(&path) {
                continue;
            }
            let included = included || self.options.include.matches(&path);
            let to = Slot { folder: idx, dst: &dst_path, there: there.get(&name).copied() };
            let done = match kind {
                Kind::Folder => self.subfolder(&open, &to, name, path, included),
                _ if !included => Ok(()),
                Kind::File => self.file(&open, &to, name, &path),
                Kind::Link => self.link(&open, &to, name),
                Kind::Special => {
                    let shown = self.src.shown(&path);
                    self.plan.warnings.push(format!(
                        "{}: skipped: not a file, directory or symbolic link",
                        shown.display()
                    ));
                    Ok(())
                }
            };
            if let Err((path, what)) = done {
                self.mistake(&path, what);
            }
        }
    }

    /// The entries of a directory of DST. Records leftovers of killed runs.
    fn there(&mut self, path: &Path) -> io::Result<HashMap<OsString, Kind>> {
        let names = list(self.dst.folder(path)?)?;
        if self.listed.insert(path.to_owned()) {
            let prefix = self.stale_prefix.as_bytes();
            let stale = names
                .iter()
                .filter(|(name, kind)| *kind != Kind::Folder && name.as_bytes().starts_with(prefix));
            self.plan.stale.extend(stale.map(|(name, _)| (path.to_owned(), name.clone())));
        }
        Ok(names.into_iter().collect())
    }

    fn subfolder(
        &mut self,
        open: &OwnedFd,
        to: &Slot<'_>,
        name: OsString,
        path: PathBuf,
        included: bool,
    ) -> Result<(), Mistake> {
        let shown = || self.src.shown(&path);
        let stat = match look(open, &name) {
            Ok(Some(it)) => it,
            // It was removed meanwhile.
            Ok(None) => return Ok(()),
            Err(error) => return Err((shown(), error.to_string())),
        };
        if Identity::of(&stat) == self.dst_identity {
            self.plan.warnings.push(format!("{}: skipped: this is DST itself", shown().display()));
            return Ok(());
        }
        let target = to.dst.join(&name);
        let (dst, new) = match to.there {
            None => (target, true),
            Some(Kind::Folder) => (target, false),
            Some(Kind::Link) => match self.follow(to.dst, &name)? {
                LinkEnd::Folder(it) => {
                    self.redirected = true;
                    (it, false)
                }
                LinkEnd::File(..) => return Err((self.dst.shown(&target), NO_FOLDER_OVER_FILE.to_owned())),
                LinkEnd::Nowhere => return Err((self.dst.shown(&target), LEADS_NOWHERE.to_owned())),
                LinkEnd::Outside => return Err((self.dst.shown(&target), LEADS_OUT.to_owned())),
                LinkEnd::Loop => return Err((self.dst.shown(&target), LOOPS.to_owned())),
            },
            Some(Kind::File | Kind::Special) => {
                return Err((self.dst.shown(&target), NO_FOLDER_OVER_FILE.to_owned()));
            }
        };
        self.plan.folders.push(Folder { src: path, dst, new, stat, parent: to.folder, included });
        Ok(())
    }

    fn follow(&self, folder: &Path, name: &OsStr) -> Result<LinkEnd, Mistake> {
        let open = self.dst.folder(folder);
        let target = open.and_then(|it| Ok(PathBuf::from(readlinkat(it, name)?)));
        target
            .and_then(|it| self.dst.follow(folder, &it))
            .map_err(|error| (self.dst.shown(&folder.join(name)), error.to_string()))
    }

    fn file(&mut self, open: &OwnedFd, to: &Slot<'_>, name: OsString, path: &Path) -> Result<(), Mistake> {
        let target = to.dst.join(&name);
        let shown = self.dst.shown(&target);
        let (there, at) = match to.there {
            None => (false, None),
            Some(Kind::File) => (true, None),
            Some(Kind::Folder) => return Err((shown, NO_FILE_OVER_FOLDER.to_owned())),
            Some(Kind::Special) => return Err((shown, "is a device, a pipe or a socket".to_owned())),
            Some(Kind::Link) => match self.follow(to.dst, &name)? {
                LinkEnd::Folder(_) => return Err((shown, NO_FILE_OVER_FOLDER.to_owned())),
                LinkEnd::Outside => return Err((shown, LEADS_OUT.to_owned())),
                // The target cannot be written, so the file replaces the link.
                LinkEnd::Nowhere | LinkEnd::Loop => (true, None),
                LinkEnd::File(folder, name) => {
                    self.redirected = true;
                    let found = self.there(&folder).map(|it| it.get(&name).copied());
                    match found.map_err(|error| (shown.clone(), error.to_string()))? {
                        Some(Kind::File) => (true, Some((folder, name))),
                        _ => return Err((shown, "leads to a device, a pipe or a socket".to_owned())),
                    }
                }
            },
        };
        if !self.may_read_all
            && let Err(error) = faccessat(open, name.as_os_str(), AccessFlags::R_OK, AtFlags::AT_EACCESS)
        {
            return Err((self.src.shown(path), io::Error::from(error).to_string()));
        }
        let text = match &self.options.templating {
            Templating::None => None,
            _ if !self.options.is_template(path) => None,
            Templating::Jinja => self.rendered(open, &name, path)?,
            Templating::Names(variables) if variables.must_be_set() => {
                let missing = missing(open, &name, variables);
                let missing = missing.map_err(|error| (self.src.shown(path), error.to_string()))?;
                let shown = self.src.shown(path);
                for (name, line) in missing {
                    let name = template::shown(&name);
                    self.plan.mistakes.push(format!("{}:{line}: {name} is not set", shown.display()));
                }
                None
            }
            Templating::Names(_) => None,
        };
        self.plan.entries.push(Entry { folder: to.folder, name, what: What::File, there, at, text });
        Ok(())
    }

    /// The rendered template; None if the file is copied as it is.
    fn rendered(&self, open: &OwnedFd, name: &OsStr, path: &Path) -> Result<Option<Vec<u8>>, Mistake> {
        let Some(jinja) = self.jinja else { return Ok(None) };
        let text = text_of(open, name).map_err(|error| (self.src.shown(path), error.to_string()))?;
        let Some(text) = text else { return Ok(None) };
        let rendered = jinja.render(&path.display().to_string(), &text);
        let rendered = rendered.map_err(|wrong| {
            let mut place = self.src.shown(Path::new(&wrong.file)).into_os_string();
            place.push(format!(":{}:{}", wrong.line, wrong.col));
            (PathBuf::from(place), wrong.what)
        })?;
        Ok((rendered != text).then(|| rendered.into_bytes()))
    }

    fn link(&mut self, open: &OwnedFd, to: &Slot<'_>, name: OsString) -> Result<(), Mistake> {
        let shown = self.dst.shown(&to.dst.join(&name));
        let there = match to.there {
            None => false,
            Some(Kind::File | Kind::Link) => true,
            Some(Kind::Folder) => {
                return Err((shown, "expected a symbolic link, found a directory".to_owned()));
            }
            Some(Kind::Special) => return Err((shown, "is a device, a pipe or a socket".to_owned())),
        };
        let target = match readlinkat(open, name.as_os_str()) {
            Ok(it) => PathBuf::from(it),
            Err(nix::Error::ENOENT) => return Ok(()),
            Err(error) => return Err((shown, io::Error::from(error).to_string())),
        };
        self.plan.entries.push(Entry {
            folder: to.folder,
            name,
            what: What::Link(target),
            there,
            at: None,
            text: None,
        });
        Ok(())
    }

    /// Reports paths of SRC that symbolic links in DST lead to the same place.
    fn collisions(&mut self) {
        let mut seen: HashMap<(PathBuf, OsString), usize> = HashMap::new();
        let mut mistakes = Vec::new();
        for (idx, entry) in self.plan.entries.iter().enumerate() {
            let Some(folder) = self.plan.folders.get(entry.folder) else { continue };
            let place = entry.at.clone().unwrap_or_else(|| (folder.dst.clone(), entry.name.clone()));
            let shown = self.dst.shown(&place.0.join(&place.1));
            if let Some(first) = seen.insert(place, idx) {
                let path = |idx: usize| {
                    let entry = self.plan.entries.get(idx);
                    let folder = entry.and_then(|it| self.plan.folders.get(it.folder));
                    entry
                        .zip(folder)
                        .map(|(it, folder)| self.src.shown(&folder.src.join(&it.name)).display().to_string())
                };
                let (a, b) = (path(first).unwrap_or_default(), path(idx).unwrap_or_default());
                mistakes.push(format!("{}: both {a} and {b} would be copied here", shown.display()));
            }
        }
        self.plan.mistakes.extend(mistakes);
    }
}

/// The destination of an entry of SRC.
struct Slot<'a> {
    /// The index of its directory in the plan.
    folder: usize,
    dst: &'a Path,
    /// The existing entry with this name.
    there: Option<Kind>,
}

/// A path, and what is wrong with it.
type Mistake = (PathBuf, String);

const NO_FOLDER_OVER_FILE: &str = "expected a directory, found a file";
const NO_FILE_OVER_FOLDER: &str = "expected a file, found a directory";
const LEADS_NOWHERE: &str = "expected a directory, found a dangling symbolic link";
const LEADS_OUT: &str = "the symbolic link leads out of DST";
const LOOPS: &str = "too many levels of symbolic links";

impl Options {
    /// Whether a file of SRC is a template if it is text.
    pub(super) fn is_template(&self, path: &Path) -> bool {
        self.template_glob.is_empty() || self.template_glob.matches(path)
    }
}

/// The text of a file; None for a binary file, of which a large one is not loaded.
fn text_of(open: &OwnedFd, name: &OsStr) -> io::Result<Option<String>> {
    let mut file = open_file(open, name)?;
    if file.metadata()?.len() > SMALL {
        if template::scan(&file)? == TextKind::Binary {
            return Ok(None);
        }
        file.rewind()?;
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8(bytes).ok().filter(|it| !it.contains('\0')))
}

/// The unset names in a file, each with its first line.
fn missing(open: &OwnedFd, name: &OsStr, variables: &Variables) -> io::Result<Vec<(Vec<u8>, usize)>> {
    if template::scan(open_file(open, name)?)? != TextKind::Template {
        return Ok(Vec::new());
    }
    let mut replaced: Replaced<'_, File> = Replaced::new(open_file(open, name)?, variables);
    io::copy(&mut replaced, &mut io::sink())?;
    Ok(replaced.found.missing)
}

impl Plan {
    /// Drops new directories that stay empty: only their content was asked for.
    fn prune(&mut self) {
        let mut used = vec![false; self.folders.len()];
        for folder in self.entries.iter().map(|it| it.folder) {
            if let Some(it) = used.get_mut(folder) {
                *it = true;
            }
        }
        for (idx, folder) in self.folders.iter().enumerate().rev() {
            let needed = folder.included || used.get(idx).copied().unwrap_or(false);
            for it in [idx, folder.parent] {
                if needed && let Some(it) = used.get_mut(it) {
                    *it = true;
                }
            }
        }
        for (folder, used) in self.folders.iter_mut().zip(used) {
            // Entries refer to directories by index.
            folder.new &= used;
        }
    }
}
