//! The content of a file: bytes in memory, an unchanged file, or a large file with its placeholders replaced.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;

use nix::fcntl::copy_file_range;
use nix::unistd::{Whence, lseek};

use crate::tools::copy::template::{Found, Replaced, Variables};

/// Bytes copied between checks whether to stop.
const STRETCH: usize = 16 << 20;

/// The buffer size where the kernel cannot copy by itself.
const BUFFER: usize = 256 * 1024;

/// The size of a block in `st_blocks` (`stat(2)`).
const BLOCK: i64 = 512;

#[derive(Debug)]
pub(in crate::tools) enum Content<'a> {
    Bytes(&'a [u8]),
    /// An unchanged file, and its size.
    Whole(&'a File, u64),
    Replaced(&'a File, &'a Variables),
}

/// Whether to keep holes. A file that is overwritten has holes of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tools) enum Holes {
    Keep,
    Fill,
}

impl Content<'_> {
    /// Whether the file has this content. Calls `stop` from time to time.
    pub(in crate::tools) fn is_in(
        &self,
        mut there: &File,
        size: u64,
        room: &mut Vec<u8>,
        stop: impl Fn() -> io::Result<()>,
    ) -> io::Result<bool> {
        match self {
            Self::Bytes(bytes) if bytes.len() as u64 != size => Ok(false),
            Self::Bytes(bytes) => {
                room.resize(bytes.len(), 0);
                let length = fill(&mut there, room)?;
                Ok(room.get(..length) == Some(*bytes))
            }
            Self::Whole(file, length) => Ok(*length == size && same(start(file)?, there, stop)?),
            Self::Replaced(file, variables) => same(Replaced::new(start(file)?, variables), there, stop),
        }
    }

    /// The whole content in memory.
    pub(in crate::tools) fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self {
            Self::Bytes(it) => bytes.extend_from_slice(it),
            Self::Whole(file, _) => drop(start(file)?.read_to_end(&mut bytes)?),
            Self::Replaced(file, variables) => {
                Replaced::new(start(file)?, variables).read_to_end(&mut bytes)?;
            }
        }
        Ok(bytes)
    }

    /// Writes the content from the beginning. Returns the number of bytes and what was replaced. Calls `stop` from time to time.
    pub(in crate::tools) fn write(
        &self,
        mut to: &File,
        holes: Holes,
        stop: impl Fn() -> io::Result<()>,
    ) -> io::Result<(u64, Found)> {
        match self {
            Self::Bytes(bytes) => {
                to.write_all(bytes)?;
                Ok((bytes.len() as u64, Found::default()))
            }
            Self::Whole(file, size) => Ok((copy(file, *size, to, holes, stop)?, Found::default())),
            Self::Replaced(file, variables) => {
                let mut replaced = Replaced::new(start(file)?, variables);
                let written = pump(&mut replaced, to, stop)?;
                Ok((written, replaced.found))
            }
        }
    }
}

fn start(mut file: &File) -> io::Result<&File> {
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// Whether both yield the same bytes up to the end.
fn same(mut one: impl Read, there: &File, stop: impl Fn() -> io::Result<()>) -> io::Result<bool> {
    let mut there = start(there)?;
    let mut buffers = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        stop()?;
        let length = fill(&mut one, &mut buffers.0)?;
        let other = fill(&mut there, &mut buffers.1)?;
        if buffers.0.get(..length) != buffers.1.get(..other) {
            return Ok(false);
        }
        if length < BUFFER {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|it| !it.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Copies a file up to its current end, with its holes.
fn copy(
    from: &File,
    size: u64,
    to: &File,
    holes: Holes,
    stop: impl Fn() -> io::Result<()>,
) -> io::Result<u64> {
    let sparse = nix::sys::stat::fstat(from)?.st_blocks.saturating_mul(BLOCK)
        < i64::try_from(size).unwrap_or(i64::MAX);
    if !sparse || holes == Holes::Fill {
        let mut at = 0;
        return copy_stretch(from, to, &mut at, None, &stop);
    }
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    let mut at = 0;
    while at < size {
        let data = match lseek(from, at, Whence::SeekData) {
            Ok(it) => it,
            // The rest is a hole.
            Err(nix::Error::ENXIO) => break,
            // The file system does not report holes.
            Err(_) => at,
        };
        let end = lseek(from, data, Whence::SeekHole).unwrap_or(size).min(size);
        at = data;
        copy_stretch(from, to, &mut at, Some(end), &stop)?;
        if at < end {
            // The file has become shorter.
            break;
        }
    }
    let size = size as u64;
    to.set_len(size)?;
    Ok(size)
}

/// Copies the bytes from `at` to `end` or the end of the file. Returns where it stopped.
fn copy_stretch(
    from: &File,
    to: &File,
    at: &mut i64,
    end: Option<i64>,
    stop: &impl Fn() -> io::Result<()>,
) -> io::Result<u64> {
    let mut write_at = *at;
    loop {
        stop()?;
        let left = end.map_or(STRETCH, |end| usize::try_from(end - *at).unwrap_or(0).min(STRETCH));
        if left == 0 {
            return Ok(write_at.unsigned_abs());
        }
        match copy_file_range(from.as_fd(), Some(at), to.as_fd(), Some(&mut write_at), left) {
            Ok(0) => return Ok(write_at.unsigned_abs()),
            Ok(_) => {}
            Err(nix::Error::EINTR) => {}
            // On different file systems, or on one without copy_file_range(): read and write.
            Err(
                nix::Error::EXDEV
                | nix::Error::EINVAL
                | nix::Error::ENOSYS
                | nix::Error::EOPNOTSUPP
                | nix::Error::EPERM
                | nix::Error::EBADF
                | nix::Error::ETXTBSY,
            ) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let (mut from, mut to) = (from, to);
    from.seek(SeekFrom::Start(at.unsigned_abs()))?;
    to.seek(SeekFrom::Start(write_at.unsigned_abs()))?;
    let copied = match end {
        Some(end) => pump(&mut from.take((end - *at).unsigned_abs()), to, stop)?,
        None => pump(&mut from, to, stop)?,
    };
    *at += i64::try_from(copied).unwrap_or(0);
    Ok(write_at.unsigned_abs() + copied)
}

fn pump(from: &mut impl Read, mut to: &File, stop: impl Fn() -> io::Result<()>) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut copied = 0;
    loop {
        stop()?;
        let length = fill(from, &mut buffer)?;
        to.write_all(buffer.get(..length).unwrap_or_default())?;
        copied += length as u64;
        if length < BUFFER {
            return Ok(copied);
        }
    }
}
