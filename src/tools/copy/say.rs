//! Messages and the summary.

use std::fmt::Write as _;
use std::path::Path;

use similar::TextDiff;

use crate::tools::copy::args::Options;
use crate::tools::copy::template::{TextKind, shown, text_kind};
use crate::words::counted;
use crate::{err, out};

/// The largest text in bytes that is compared line by line.
const LARGEST: usize = 4 << 20;

/// The most errors printed.
const MOST: usize = 200;

/// The number of changes of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) files: usize,
    pub(super) unchanged: usize,
    /// Only the mode or owner was set.
    pub(super) modes: usize,
    pub(super) links: usize,
    pub(super) folders: usize,
    /// Files written in place, such as mounts. They count as files too.
    pub(super) in_place: usize,
}

impl Tally {
    pub(super) fn add(&mut self, more: Self) {
        let Self { files, unchanged, modes, links, folders, in_place } = more;
        self.files += files;
        self.unchanged += unchanged;
        self.modes += modes;
        self.links += links;
        self.folders += folders;
        self.in_place += in_place;
    }

    /// `copy: 3 files copied, 1 unchanged`.
    pub(super) fn summary(self, dry_run: bool) -> String {
        let Self { files, unchanged, modes, links, folders, in_place } = self;
        let done = if dry_run { "to copy" } else { "copied" };
        let mut text = format!("copy: {} {done}, {unchanged} unchanged", counted(files, "file"));
        for (count, one, more) in [
            (modes, "mode or owner set", "modes or owners set"),
            (links, "link", "links"),
            (folders, "directory created", "directories created"),
            (in_place, "written in place", "written in place"),
        ] {
            if count > 0 {
                let _ = write!(text, ", {count} {}", if count == 1 { one } else { more });
            }
        }
        text
    }
}

/// A change of a file or symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Create,
    Replace,
    Mode,
    Folder,
    Link,
}

pub(super) fn mistakes(all: &[String]) {
    let mut text: String = all.iter().take(MOST).map(|it| format!("error: {it}\n")).collect();
    if all.len() > MOST {
        let _ = writeln!(text, "error: and {} more", all.len() - MOST);
    }
    err(&text);
}

pub(super) fn warnings(options: &Options, all: &[String]) {
    if !options.quiet {
        err(&all.iter().map(|it| format!("warning: {it}\n")).collect::<String>());
    }
}

/// Reports a change: on standard output in a dry run, else on standard error with `-v`.
pub(super) fn change(options: &Options, change: Change, from: &Path, to: &Path) -> anyhow::Result<()> {
    if options.dry_run {
        let word = match change {
            Change::Create => "create",
            Change::Replace => "replace",
            Change::Mode => "mode",
            Change::Folder => "folder",
            Change::Link => "link",
        };
        return out(&format!("{word} {}\n", to.display()));
    }
    if options.verbose > 0 {
        err(&match change {
            Change::Create | Change::Replace => {
                format!("Copying '{}' to '{}'\n", from.display(), to.display())
            }
            Change::Mode => format!("Setting mode and owner of '{}'\n", to.display()),
            Change::Folder => format!("Creating directory '{}'\n", to.display()),
            Change::Link => format!("Linking '{}'\n", to.display()),
        });
    }
    Ok(())
}

/// Reports a replacement. Values may be secrets, so they need `-vv`.
pub(super) fn replaced(options: &Options, name: &[u8], value: &[u8], to: &Path) {
    match options.verbose {
        0 => {}
        1 => err(&format!("Replacing '{}' in '{}'\n", shown(name), to.display())),
        _ => {
            let value = String::from_utf8_lossy(value);
            err(&format!("Replacing '{}' with '{value}' in '{}'\n", shown(name), to.display()));
        }
    }
}

/// Prints a unified diff. `old` is None if the file does not exist.
pub(super) fn diff(old: Option<&[u8]>, new: &[u8], to: &Path) -> anyhow::Result<()> {
    let name = to.display();
    let texts = old.unwrap_or_default().len().max(new.len()) <= LARGEST
        && text_kind(old.unwrap_or_default()) != TextKind::Binary
        && text_kind(new) != TextKind::Binary;
    if !texts {
        return out(&format!("Binary or large file {name} differs\n"));
    }
    let before = if old.is_some() { name.to_string() } else { "/dev/null".to_owned() };
    let (old, new) = (String::from_utf8_lossy(old.unwrap_or_default()), String::from_utf8_lossy(new));
    let diff = TextDiff::from_lines(old.as_ref(), new.as_ref());
    out(&diff.unified_diff().header(&before, &name.to_string()).to_string())
}
