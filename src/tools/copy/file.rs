//! Copies one file unless it is up to date: writes a temporary file and renames it, or writes in place on a mount.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, futimens};
use nix::unistd::{Gid, Uid, fchown};

use crate::tools::copy::args::Templating;
use crate::tools::copy::content::{Content, Holes};
use crate::tools::copy::folder::{Identity, Kind, look, open_file};
use crate::tools::copy::owner::permissions;
use crate::tools::copy::plan::Entry;
use crate::tools::copy::run::{Refused, Run, modified};
use crate::tools::copy::say::{self, Change};
use crate::tools::copy::template::{Found, SMALL, TextKind, scan, text_kind};
use crate::tools::copy::xattr;

/// How often a file that changes while it is read is read again.
const AGAIN: usize = 3;

/// Changes within this time may have equal timestamps: file systems use the time of the last tick, at least 100 a second.
const TICK: Duration = Duration::from_millis(50);

/// The buffer of a thread, reused for each file.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    source: Vec<u8>,
    replaced: Vec<u8>,
    there: Vec<u8>,
}

/// What was done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    Copied,
    /// Written in place, because a mount cannot be replaced.
    InPlace,
    Unchanged,
    /// Only the mode or owner was changed.
    Mode,
    Skipped,
    /// The file has hard links and is left for later.
    Linked(Identity),
}

/// The destination of a file.
#[derive(Clone, Copy)]
struct Target<'a> {
    folder: Option<BorrowedFd<'a>>,
    name: &'a OsStr,
    shown: &'a Path,
}

impl Run<'_> {
    /// Copies a file into a directory under this name unless it is up to date. `linked` means that hard links are copied
    /// now.
    pub(super) fn file(
        &self,
        entry: &Entry,
        src: &OwnedFd,
        folder: Option<BorrowedFd<'_>>,
        name: &OsStr,
        buffers: &mut Buffers,
        linked: bool,
    ) -> io::Result<Done> {
        let (from, to) = self.shown(entry);
        let place = Target { folder, name, shown: &to };
        if self.is_verbatim(entry) && self.is_copied_already(entry, src, place)? {
            return Ok(Done::Unchanged);
        }
        for again in 0.. {
            let source = open_file(src, &entry.name)?;
            let stat = fstat(&source)?;
            if Kind::of(&stat) != Kind::File {
                self.warn(format!("{}: skipped: no longer a file", from.display()));
                return Ok(Done::Skipped);
            }
            if stat.st_nlink > 1 && !linked {
                return Ok(Done::Linked(Identity::of(&stat)));
            }
            let done = self.one(entry, &source, &stat, place, buffers, &from)?;
            let now = fstat(&source)?;
            let same = (now.st_size, now.st_mtime, now.st_mtime_nsec)
                == (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
            if same || self.options.dry_run {
                return Ok(done);
            }
            if again == AGAIN {
                self.warn(format!("{}: the file keeps changing while it is copied", from.display()));
                return Ok(done);
            }
        }
        Ok(Done::Skipped)
    }

    fn one(
        &self,
        entry: &Entry,
        source: &File,
        stat: &FileStat,
        place: Target<'_>,
        buffers: &mut Buffers,
        from: &Path,
    ) -> io::Result<Done> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let Buffers { source: bytes, replaced, there: room } = buffers;
        let mut found = Found::default();
        let content = match (&entry.text, &self.options.templating) {
            (Some(text), _) => Content::Bytes(text),
            (None, Templating::Names(variables)) if !self.is_verbatim(entry) => {
                if size > SMALL {
                    match scan(source)? {
                        TextKind::Template => Content::Replaced(source, variables),
                        TextKind::Plain | TextKind::Binary => Content::Whole(source, size),
                    }
                } else {
                    read_whole(source, size, bytes)?;
                    if text_kind(bytes) == TextKind::Template {
                        replaced.clear();
                        variables.replace(bytes, true, replaced, &mut found);
                        Content::Bytes(replaced)
                    } else {
                        Content::Bytes(bytes)
                    }
                }
            }
            _ if size > SMALL => Content::Whole(source, size),
            _ => {
                read_whole(source, size, bytes)?;
                Content::Bytes(bytes)
            }
        };
        let there = match place.folder {
            Some(folder) if entry.there => there(folder, place.name)?,
            _ => None,
        };
        let is_same = |file: &File, size: i64, room: &mut Vec<u8>| {
            content.is_in(file, size.unsigned_abs(), room, || self.go_on()).unwrap_or(false)
        };
        if let Some((file, there)) = &there
            && file.as_ref().is_some_and(|file| is_same(file, there.st_size, room))
        {
            return self.settle(source, file.as_ref(), stat, there, place, from);
        }
        let change = if there.is_some() { Change::Replace } else { Change::Create };
        if self.options.diff {
            self.diff(&content, there.as_ref().and_then(|(it, _)| it.as_ref()), place.shown)?;
        }
        if !(self.options.dry_run && self.options.diff) {
            say::change(self.options, change, from, place.shown).map_err(io::Error::other)?;
        }
        let Some(folder) = place.folder.filter(|_| !self.options.dry_run) else { return Ok(Done::Copied) };
        // A rendered text is as new as its variables.
        let altered = entry.text.is_some() || !found.names.is_empty() || !found.missing.is_empty();
        let beside = self.beside_and_over(folder, place.name, source, &content, stat, altered);
        let (done, more) = match beside {
            Ok(found) => (Done::Copied, found),
            Err(Refused::For(error)) => return Err(error),
            // The file cannot be replaced: it is a mount, or only its directory is read-only.
            Err(Refused::ToReplace(error)) if there.is_some() => {
                let found = self.in_place(folder, place.name, &content).map_err(|_| error)?;
                (Done::InPlace, found)
            }
            Err(Refused::ToReplace(error)) => return Err(error),
        };
        if let Templating::Names(variables) = &self.options.templating {
            for name in found.names.iter().chain(&more.names) {
                say::replaced(self.options, name, variables.value(name).unwrap_or_default(), place.shown);
            }
        }
        Ok(done)
    }

    /// Whether the file is copied unchanged.
    fn is_verbatim(&self, entry: &Entry) -> bool {
        match self.options.templating {
            Templating::None => true,
            // It has been rendered already.
            Templating::Jinja => entry.text.is_none(),
            Templating::Names(_) => !self.is_template(entry),
        }
    }

    /// Whether timestamps prove that the existing file is a copy of this one and that neither has changed since.
    ///
    /// Equal times are not enough: archives and images often have the same whole second on every file. So the time must
    /// have a fraction, and the ctime in SRC must be older than the one in DST.
    fn is_copied_already(&self, entry: &Entry, src: &OwnedFd, place: Target<'_>) -> io::Result<bool> {
        // Timestamps do not tell about extended attributes.
        let (Some(folder), true, false) = (place.folder, entry.there, self.options.xattrs) else {
            return Ok(false);
        };
        let (Some(from), Some(to)) = (look(src, &entry.name)?, look(folder, place.name)?) else {
            return Ok(false);
        };
        let same = (from.st_size, from.st_mtime, from.st_mtime_nsec)
            == (to.st_size, to.st_mtime, to.st_mtime_nsec)
            && permissions(&from, to.st_uid, to.st_gid) == Mode::from_bits_truncate(to.st_mode & 0o7777);
        let changed = |it: &FileStat| Duration::new(it.st_ctime.unsigned_abs(), it.st_ctime_nsec as u32);
        Ok(same
            && from.st_nlink == 1
            && (Kind::of(&from), Kind::of(&to)) == (Kind::File, Kind::File)
            && from.st_mtime_nsec != 0
            && changed(&from) + TICK < changed(&to)
            && self.options.owner.is_right(&from, &to))
    }

    /// The content is up to date; fixes mode and owner.
    fn settle(
        &self,
        source: &File,
        file: Option<&File>,
        stat: &FileStat,
        there: &FileStat,
        place: Target<'_>,
        from: &Path,
    ) -> io::Result<Done> {
        let owner = self.options.owner.of(stat);
        let (user, group) = owner.unwrap_or_default();
        let user = user.map_or(there.st_uid, Uid::as_raw);
        let group = group.map_or(there.st_gid, Gid::as_raw);
        let mode = permissions(stat, user, group);
        let mode_is_right = mode == Mode::from_bits_truncate(there.st_mode & 0o7777);
        let owner_is_right = self.options.owner.is_right(stat, there);
        let (Some(file), Some(folder)) = (file, place.folder) else { return Ok(Done::Unchanged) };
        // A file on another file system than its directory is a mount. It was written in place and keeps its mode.
        let is_mount = fstat(folder)?.st_dev != there.st_dev;
        let attributes_are_right = !self.options.xattrs || !xattr::copy(source, file, true)?;
        if (mode_is_right && owner_is_right && attributes_are_right) || is_mount {
            return Ok(Done::Unchanged);
        }
        say::change(self.options, Change::Mode, from, place.shown).map_err(io::Error::other)?;
        if !self.options.dry_run {
            if let Some((user, group)) = owner.filter(|_| !owner_is_right) {
                fchown(file, user, group)?;
            }
            // Changing the owner clears set-user-id bits.
            fchmod(file, mode)?;
            // It clears file capabilities too.
            if self.options.xattrs {
                xattr::copy(source, file, false)?;
            }
        }
        Ok(Done::Mode)
    }

    /// Writes a temporary file and renames it, so that a reader sees the old file or the new one.
    fn beside_and_over(
        &self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        source: &File,
        content: &Content<'_>,
        stat: &FileStat,
        altered: bool,
    ) -> Result<Found, Refused> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        // The umask is 0, so this is the mode. Set-id bits are set last, because writing clears them.
        let mode = Mode::from_bits_truncate(stat.st_mode & 0o777);
        let create = |beside: &OsStr| openat(folder, beside, flags, mode).map(File::from);
        self.put(folder, name, create, |file, _| self.fill(source, &file, content, stat, altered))
    }

    fn fill(
        &self,
        source: &File,
        file: &File,
        content: &Content<'_>,
        stat: &FileStat,
        altered: bool,
    ) -> io::Result<Found> {
        let (_, found) = content.write(file, Holes::Keep, || self.go_on())?;
        let owner = self.options.owner.of(stat);
        if let Some((user, group)) = owner {
            fchown(file, user, group)?;
        }
        if owner.is_some() || stat.st_mode & 0o7000 != 0 {
            let now = fstat(file)?;
            fchmod(file, permissions(stat, now.st_uid, now.st_gid))?;
        }
        if self.options.xattrs {
            xattr::copy(source, file, false)?;
        }
        if !altered && found.names.is_empty() && found.missing.is_empty() {
            let time = modified(stat);
            futimens(file, &time, &time)?;
        }
        Ok(found)
    }

    /// Overwrites the existing file, which keeps its owner and mode.
    fn in_place(&self, folder: BorrowedFd<'_>, name: &OsStr, content: &Content<'_>) -> io::Result<Found> {
        let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = File::from(openat(folder, name, flags, Mode::empty())?);
        // Truncated last, so that a reader never sees an empty file.
        let (length, found) = content.write(&file, Holes::Fill, || Ok(()))?;
        file.set_len(length)?;
        Ok(found)
    }

    fn diff(&self, content: &Content<'_>, there: Option<&File>, shown: &Path) -> io::Result<()> {
        let old = there.map(|file| {
            let mut bytes = Vec::new();
            read_from_start(file, &mut bytes).map(|()| bytes)
        });
        let old = old.transpose()?;
        let new = content.bytes()?;
        say::diff(old.as_deref(), &new, shown).map_err(io::Error::other)
    }
}

/// The existing file: opened if it is readable, and its metadata.
fn there(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<(Option<File>, FileStat)>> {
    match open_file(folder, name) {
        Ok(file) => {
            let stat = fstat(&file)?;
            Ok(Some((Some(file), stat)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // A symbolic link or an unreadable file is replaced.
        Err(_) => {
            let stat = look(folder, name)?;
            Ok(stat.map(|it| (None, it)))
        }
    }
}

/// Reads a small file in one call. The buffer has one byte more, which shows whether the file has grown.
fn read_whole(mut file: &File, size: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    let room = usize::try_from(size).unwrap_or(0) + 1;
    bytes.resize(room, 0);
    let mut length = 0;
    loop {
        match file.read(bytes.get_mut(length..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if length < room && length as u64 == size {
            break;
        }
        if length == bytes.len() {
            // The file has grown, or is a kernel file without a size.
            bytes.resize(length * 2, 0);
        }
    }
    bytes.truncate(length);
    Ok(())
}

fn read_from_start(mut file: &File, bytes: &mut Vec<u8>) -> io::Result<()> {
    use std::io::{Seek, SeekFrom};
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(bytes)?;
    Ok(())
}
