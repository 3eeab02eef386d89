//! Reads configuration files.

use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// The largest configuration file in bytes.
const MAX_SIZE: u64 = 64 << 20;

/// The file that stands for standard input.
pub(in crate::tools) const STDIN: &str = "-";

/// Reads a regular file, standard input (`-`), or an open file by its number, such as `/dev/stdin` or the `/dev/fd/63`
/// of a shell's `<(…)`.
///
/// # Errors
/// Any other pipe or device, which may have no end, or a file above the limit.
pub(in crate::tools) fn read(path: &Path) -> io::Result<Vec<u8>> {
    if path == Path::new(STDIN) {
        return bounded(io::stdin().lock());
    }
    let is_open =
        path == Path::new("/dev/stdin") || ["/dev/fd", "/proc/self/fd"].iter().any(|it| path.starts_with(it));
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_file() && (!is_open || kind.is_dir()) {
        return Err(io::Error::other(format!("expected a file, found {}", name_of(kind))));
    }
    bounded(File::open(path)?)
}

/// The same for text.
pub(in crate::tools) fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the file is not UTF-8"))
}

fn bounded(file: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(io::Error::other(format!("the file is larger than {} MiB", MAX_SIZE >> 20)));
    }
    Ok(bytes)
}

fn name_of(kind: FileType) -> &'static str {
    match kind {
        it if it.is_dir() => "a directory",
        it if it.is_fifo() => "a pipe",
        it if it.is_socket() => "a socket",
        _ => "a device",
    }
}
