//! Connecting to a unix socket.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

/// Connects to a path, which may be longer than a socket address (107 bytes, `unix(7)`). The stream has a timeout for
/// writing.
///
/// # Errors
/// open(2) and connect(2); `TimedOut` if the server's queue of connections stays full for `limit`.
pub fn connect(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let end = Instant::now() + limit;
    let found = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    let address = SockAddr::unix(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    loop {
        // connect(2) waits for this long (`unix_stream_connect()` in net/unix/af_unix.c). Zero would mean no limit.
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        socket.set_write_timeout(Some(left))?;
        match socket.connect(&address) {
            Ok(()) => return Ok(OwnedFd::from(socket).into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_long_path_works() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x".repeat(100));
        std::fs::create_dir(&deep).unwrap();
        assert!(UnixStream::connect(deep.join("s")).is_err());
        let open = File::open(&deep).unwrap();
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/s", open.as_raw_fd())).unwrap();
        let _stream = connect(&deep.join("s"), Duration::from_secs(10)).unwrap();
        listener.accept().unwrap();
    }

    #[test]
    fn a_full_queue_times_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(1).unwrap();
        let begun = Instant::now();
        let mut connected = Vec::new();
        let error = loop {
            match connect(&path, Duration::from_millis(50)) {
                Ok(it) => connected.push(it),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{} connections", connected.len());
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
