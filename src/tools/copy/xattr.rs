//! Extended attributes (`xattr(7)`): file capabilities, access control lists, user attributes.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// Copies the attributes of a file to another. Returns whether any was missing or different.
pub(super) fn copy(from: &File, to: &File, dry_run: bool) -> io::Result<bool> {
    let mut changed = false;
    for name in names(from.as_raw_fd())? {
        // The attribute was removed meanwhile.
        let Some(value) = get(from.as_raw_fd(), &name)? else { continue };
        if get(to.as_raw_fd(), &name)?.as_ref() == Some(&value) {
            continue;
        }
        changed = true;
        if !dry_run {
            set(to.as_raw_fd(), &name, &value).map_err(|error| {
                io::Error::new(error.kind(), format!("set {}: {error}", name.to_string_lossy()))
            })?;
        }
    }
    Ok(changed)
}

#[expect(unsafe_code, reason = "neither nix nor std has extended attributes")]
fn names(file: RawFd) -> io::Result<Vec<CString>> {
    let list = grown(|room| {
        // SAFETY: the kernel writes at most as many bytes as the buffer has; with an empty one it only returns the size.
        unsafe { libc::flistxattr(file, room.as_mut_ptr().cast(), room.len()) }
    });
    let list = match list {
        // The file system has no attributes.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Vec::new(),
        list => list?,
    };
    Ok(list
        .split_inclusive(|it| *it == 0)
        .filter_map(|it| CStr::from_bytes_with_nul(it).ok())
        .map(CStr::to_owned)
        .collect())
}

#[expect(unsafe_code, reason = "neither nix nor std has extended attributes")]
fn get(file: RawFd, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let value = grown(|room| {
        // SAFETY: the name ends with a zero byte, and the kernel writes at most as many bytes as the buffer has.
        unsafe { libc::fgetxattr(file, name.as_ptr(), room.as_mut_ptr().cast(), room.len()) }
    });
    match value {
        Ok(it) => Ok(Some(it)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[expect(unsafe_code, reason = "neither nix nor std has extended attributes")]
fn set(file: RawFd, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: the name ends with a zero byte, and the kernel reads as many bytes as the value has.
    let result = unsafe { libc::fsetxattr(file, name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gets the size and then the value; again if it has grown in between.
fn grown(mut call: impl FnMut(&mut [u8]) -> isize) -> io::Result<Vec<u8>> {
    loop {
        let size = usize::try_from(call(&mut [])).map_err(|_| io::Error::last_os_error())?;
        let mut room = vec![0; size];
        match usize::try_from(call(&mut room)) {
            Ok(size) => {
                room.truncate(size);
                return Ok(room);
            }
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.raw_os_error() != Some(libc::ERANGE) {
                    return Err(error);
                }
            }
        }
    }
}
