//! What the tool says, and what came of everything.

use std::fmt::Write as _;
use std::path::Path;

use similar::TextDiff;

use crate::tools::copy::args::Options;
use crate::tools::copy::template::{TextKind, shown, text_kind};
use crate::{err, out};

/// Texts that are larger are not compared line by line.
const LARGEST: usize = 4 << 20;

/// Of more mistakes than that nobody reads each.
const MOST: usize = 200;

/// How often what was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) files: u64,
    pub(super) unchanged: u64,
    /// Only mode or owner were set.
    pub(super) modes: u64,
    pub(super) links: u64,
    pub(super) folders: u64,
    /// Files written where they are, as mounts have to be. They count as files too.
    pub(super) in_place: u64,
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
        let files_word = if files == 1 { "file" } else { "files" };
        let done = if dry_run { "to copy" } else { "copied" };
        let mut text = format!("copy: {files} {files_word} {done}, {unchanged} unchanged");
        for (count, one, more) in [
            (modes, "mode or owner set", "modes or owners set"),
            (links, "link", "links"),
            (folders, "folder made", "folders made"),
            (in_place, "written in place", "written in place"),
        ] {
            if count > 0 {
                let _ = write!(text, ", {count} {}", if count == 1 { one } else { more });
            }
        }
        text
    }
}

/// What becomes of a file or link.
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

/// What would be done is data for whoever asked for it.
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
            Change::Folder => format!("Making folder '{}'\n", to.display()),
            Change::Link => format!("Linking '{}'\n", to.display()),
        });
    }
    Ok(())
}

/// Values may be secrets: they are shown only where that is asked for twice.
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

/// A unified diff. `old` is None where there is no such file.
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
