//! The output of nodes: pipes that the keeper reads, and files of bounded size.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::service::LogLimit;

/// Bytes that are read at once: the size of a pipe.
const PART: usize = 64 << 10;

/// The output of the running nodes, by the generation of each.
#[derive(Debug)]
pub(super) struct Outputs {
    epoll: Epoll,
    all: BTreeMap<u64, Output>,
    part: Vec<u8>,
}

/// The output of one run of a node.
#[derive(Debug)]
struct Output {
    reader: PipeReader,
    /// For further programs in the node.
    writer: PipeWriter,
    path: PathBuf,
    limit: LogLimit,
    /// An error has been reported.
    failed: bool,
}

impl Outputs {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, all: BTreeMap::new(), part: vec![0; PART] })
    }

    /// Opens the output of a node that starts.
    pub(super) fn open(&mut self, generation: u64, path: PathBuf, limit: LogLimit) -> io::Result<()> {
        let (reader, writer) = io::pipe()?;
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        self.epoll.add(&reader, EpollEvent::new(EpollFlags::EPOLLIN, generation))?;
        self.all.insert(generation, Output { reader, writer, path, limit, failed: false });
        Ok(())
    }

    /// Where the node writes.
    pub(super) fn writer(&self, generation: u64) -> Option<BorrowedFd<'_>> {
        self.all.get(&generation).map(|it| it.writer.as_fd())
    }

    /// Changes the size of a log.
    pub(super) fn set_limit(&mut self, generation: u64, limit: LogLimit) {
        if let Some(it) = self.all.get_mut(&generation) {
            it.limit = limit;
        }
    }

    /// Readable when a node has printed something.
    pub(super) fn poll(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// Moves a part of each node's output to its log: a node that prints without end keeps neither us nor others from
    /// anything else.
    pub(super) fn copy(&mut self) {
        let mut events = [EpollEvent::empty(); 64];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        for event in events.iter().take(count) {
            if let Some(it) = self.all.get_mut(&event.data()) {
                it.copy(&mut self.part);
            }
        }
    }

    /// Moves the rest of the output of a node that has ended.
    pub(super) fn close(&mut self, generation: u64) {
        if let Some(mut it) = self.all.remove(&generation) {
            while it.copy(&mut self.part) {}
            // Only now: the file is removed from the epoll with its last copy, and a child of ours may have one.
            let _ = self.epoll.delete(&it.reader);
        }
    }
}

impl Output {
    /// Moves a part to the log. Returns false if there is none.
    fn copy(&mut self, part: &mut [u8]) -> bool {
        let bytes = match self.reader.read(part) {
            Ok(0) | Err(_) => return false,
            Ok(count) => part.get(..count).unwrap_or_default(),
        };
        // Without room the output is lost: the node must not wait for it.
        match append(&self.path, bytes, self.limit) {
            Err(error) if !std::mem::replace(&mut self.failed, true) => {
                log::error!("write {}: {error}; output of the node is lost", self.path.display());
            }
            Err(_) => {}
            Ok(()) => self.failed = false,
        }
        true
    }
}

/// Appends to a log, which is rotated when it is full.
fn append(path: &Path, mut bytes: &[u8], limit: LogLimit) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        let length = file.metadata()?.len();
        let room = usize::try_from(limit.size.saturating_sub(length)).unwrap_or(usize::MAX);
        let fits = bytes.get(..room).unwrap_or(bytes);
        let count = match memchr::memrchr(b'\n', fits) {
            _ if fits.len() == bytes.len() => fits.len(),
            Some(end) => end + 1,
            // A line is divided only if it is longer than a file.
            None if length == 0 => fits.len(),
            None => 0,
        };
        let (now, later) = bytes.split_at(count);
        file.write_all(now)?;
        bytes = later;
        if !bytes.is_empty() {
            rotate(path, limit.files)?;
        }
    }
    Ok(())
}

/// The log before that many others: `log.1` is the last one before `log`.
fn older(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name.into()
}

/// Renames each log to the next older one. The oldest one is removed when there are `files` of them.
fn rotate(path: &Path, files: u32) -> io::Result<()> {
    let free = (1..files).find(|it| !older(path, *it).exists());
    let Some(last) = free.or(files.checked_sub(1)).filter(|it| *it > 0) else { return fs::remove_file(path) };
    for number in (1..=last).rev() {
        fs::rename(older(path, number - 1), older(path, number))?;
    }
    Ok(())
}

/// Rotates the log of this process if it is full and both standard streams are written to it.
pub(super) fn rotate_own(path: &Path) -> io::Result<()> {
    let limit = LogLimit::default();
    // `fstat` for its size; it is another file if the log is not ours.
    let ours = File::from(io::stderr().as_fd().try_clone_to_owned()?).metadata()?;
    if ours.len() < limit.size || fs::metadata(path)?.ino() != ours.ino() {
        return Ok(());
    }
    rotate(path, limit.files)?;
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    nix::unistd::dup2_stdout(&file)?;
    nix::unistd::dup2_stderr(&file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content of the logs, the newest first.
    fn logs(path: &Path) -> Vec<String> {
        (0..).map_while(|it| fs::read_to_string(older(path, it)).ok()).collect()
    }

    #[test]
    fn a_full_log_is_rotated_between_lines_and_the_oldest_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let limit = LogLimit { size: 10, files: 3 };
        append(&path, b"one\ntwo\n", limit).unwrap();
        append(&path, b"three\nfour\n", limit).unwrap();
        assert_eq!(logs(&path), ["four\n", "three\n", "one\ntwo\n"]);
        append(&path, b"a line of 23 characters\nend", limit).unwrap();
        assert_eq!(logs(&path), ["ers\nend", "23 charact", "a line of "]);
        append(&path, b"0123456789", LogLimit { size: 10, files: 1 }).unwrap();
        assert_eq!(logs(&path)[0], "0123456789");
    }
}
