//! A listening socket in the file system.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{Mode, fchmod};
use tokio::net::{UnixListener, UnixStream};

/// The path of our socket. The socket is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Name {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Listens at the path with mode 0600.
///
/// The socket gets its name only after it listens, so that a client that finds it can connect.
pub(super) async fn listen(path: &Path) -> io::Result<(UnixListener, Name)> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    is_free(path).await?;
    // A socket address has room for 107 bytes; the path may be longer.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(folder)?;
    let hidden = format!(".{}", std::process::id());
    let address = format!("/proc/self/fd/{}/{hidden}", opened.as_raw_fd());
    let hidden = folder.join(hidden);
    match fs::remove_file(&hidden) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        // Left by a killed process that had our process number.
        _ => {}
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // The file gets the permissions of the socket when it is created (`unix_bind_bsd()` in the kernel's
    // `net/unix/af_unix.c`), so other users can connect at no time.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    nix::sys::socket::bind(socket.as_raw_fd(), &UnixAddr::new(address.as_str())?)?;
    let named = nix::sys::socket::listen(&socket, Backlog::new(128)?)
        .map_err(io::Error::from)
        .and_then(|()| fs::symlink_metadata(&hidden))
        .and_then(|it| fs::rename(&hidden, path).map(|()| it));
    let metadata = match named {
        Ok(it) => it,
        Err(error) => {
            let _ = fs::remove_file(&hidden);
            return Err(error);
        }
    };
    let name = Name { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() };
    Ok((UnixListener::from_std(socket.into())?, name))
}

/// Is the path free: nothing there, or a socket that no process listens on?
async fn is_free(path: &Path) -> io::Result<()> {
    let found = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path);
    let found = match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.metadata()?.file_type().is_socket() {
        return Err(io::Error::other("the path exists and is not a socket"));
    }
    match UnixStream::connect(format!("/proc/self/fd/{}", found.as_raw_fd())).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        // A full queue belongs to a listening process.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Err(io::Error::other("another process listens on it")),
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let ours = |it: fs::Metadata| (it.dev(), it.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
