//! JSON-RPC 1.0 as in RFC 7047 section 4: JSON values without separators, on a unix socket.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv};
use serde_json::{Value, json};

use crate::process;

/// Why a call failed.
#[derive(Debug)]
pub(super) enum SwitchError {
    /// The connection is broken. It is unknown whether the server received the call.
    Broken(io::Error),
    /// The error message of the server.
    Refused(String),
    /// The switch's reason for not using an interface.
    Device(String),
    /// The object of the call does not exist.
    Missing(String),
    /// No answer in time.
    Late,
}

impl From<io::Error> for SwitchError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Late,
            _ => Self::Broken(error),
        }
    }
}

/// Size of the read buffer, in bytes.
const PART: usize = 64 * 1024;

/// Time limit for sending an echo.
const ECHO_LIMIT: Duration = Duration::from_millis(100);

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Rpc {
    stream: UnixStream,
    received: Received,
    calls: u64,
    /// The received updates, in order.
    updates: Vec<Value>,
}

impl AsFd for Rpc {
    /// Readable when the server has sent something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Rpc {
    /// Connects. Waits at most `limit` for a server that does not accept connections; then the error is TimedOut.
    pub(super) fn connect(socket: &Path, limit: Duration) -> io::Result<Self> {
        let stream = process::connect(socket, limit)?;
        Ok(Self { stream, received: Received::default(), calls: 0, updates: Vec::new() })
    }

    /// Calls a method and waits for the result. Requests of the server in the meantime are answered, and its updates
    /// are kept for [`Rpc::take_updates`].
    pub(super) fn call(
        &mut self,
        method: &str,
        params: &Value,
        limit: Duration,
    ) -> Result<Value, SwitchError> {
        let end = Instant::now() + limit;
        let id = self.begin(method, params, end)?;
        loop {
            let message = self.receive(end)?;
            let Some(mut message) = self.sort(message, end)? else { continue };
            if message.get("id").and_then(Value::as_u64) == Some(id) {
                return match message.get("error") {
                    None | Some(Value::Null) => Ok(message["result"].take()),
                    Some(error) => Err(SwitchError::Refused(words(error))),
                };
            }
        }
    }

    /// Sends a call without waiting for the answer, which [`Rpc::hear`] receives.
    pub(super) fn begin(&mut self, method: &str, params: &Value, end: Instant) -> Result<u64, SwitchError> {
        self.calls += 1;
        self.send(&json!({"id": self.calls, "method": method, "params": params}), end)?;
        Ok(self.calls)
    }

    /// Receives messages without waiting. Returns whether the last call has been answered.
    pub(super) fn hear(&mut self) -> Result<bool, SwitchError> {
        let mut part = vec![0; PART];
        let mut answered = false;
        loop {
            while let Some(message) = self.received.next() {
                let message = message.map_err(|it| SwitchError::Broken(it.into()))?;
                let answer = self.sort(message, Instant::now() + ECHO_LIMIT)?;
                answered |= answer.is_some_and(|it| it.get("id").and_then(Value::as_u64) == Some(self.calls));
            }
            match recv(self.stream.as_raw_fd(), &mut part, MsgFlags::MSG_DONTWAIT) {
                // The next call finds the end of the connection.
                Ok(0) if answered => return Ok(true),
                Ok(0) => return Err(SwitchError::Broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.received.push(part.get(..count).unwrap_or_default()),
                Err(nix::Error::EAGAIN) => return Ok(answered),
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(SwitchError::Broken(error.into())),
            }
        }
    }

    /// The updates since the last call of this function.
    pub(super) fn take_updates(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.updates)
    }

    /// Handles requests and updates of the server, and returns any other message. A server requests an echo after a while
    /// without traffic, and disconnects a client that does not answer.
    fn sort(&mut self, mut message: Value, end: Instant) -> Result<Option<Value>, SwitchError> {
        match message.get("method").and_then(Value::as_str) {
            None => return Ok(Some(message)),
            Some("echo") => {
                if let Some(id) = message.get("id").filter(|it| !it.is_null()) {
                    self.send(&json!({"id": id, "result": message.get("params"), "error": null}), end)?;
                }
            }
            Some("update") => self.updates.extend(message.pointer_mut("/params/1").map(Value::take)),
            Some(_) => {}
        }
        Ok(None)
    }

    fn send(&mut self, message: &Value, end: Instant) -> Result<(), SwitchError> {
        let bytes = message.to_string().into_bytes();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            self.stream.set_write_timeout(Some(left(end)?))?;
            match self.stream.write(rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn receive(&mut self, end: Instant) -> Result<Value, SwitchError> {
        let mut part = vec![0; PART];
        loop {
            match self.received.next() {
                Some(Ok(message)) => return Ok(message),
                Some(Err(error)) => return Err(SwitchError::Broken(error.into())),
                None => {}
            }
            self.stream.set_read_timeout(Some(left(end)?))?;
            match self.stream.read(&mut part) {
                Ok(0) => return Err(SwitchError::Broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.received.push(part.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn left(end: Instant) -> Result<Duration, SwitchError> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(SwitchError::Late) } else { Ok(left) }
}

/// The text of a server's error, which is a string or, for OVSDB, an object (RFC 7047 section 3.1).
pub(super) fn words(error: &Value) -> String {
    let part = |name: &str| error.get(name).and_then(Value::as_str);
    match (part("error"), part("details")) {
        (Some(error), Some(details)) => format!("{error}: {details}"),
        (Some(error), None) => error.to_owned(),
        _ => error.as_str().map_or_else(|| error.to_string(), |it| it.trim().to_owned()),
    }
}

/// Received bytes.
#[derive(Debug, Default)]
struct Received {
    bytes: Vec<u8>,
    /// Number of bytes that have been scanned.
    seen: usize,
    /// Number of open objects and lists there.
    depth: usize,
    in_text: bool,
    after_backslash: bool,
}

impl Received {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next complete message.
    fn next(&mut self) -> Option<serde_json::Result<Value>> {
        while let Some(byte) = self.bytes.get(self.seen) {
            self.seen += 1;
            if self.after_backslash {
                self.after_backslash = false;
                continue;
            }
            match byte {
                b'\\' if self.in_text => self.after_backslash = true,
                b'"' => self.in_text = !self.in_text,
                b'{' | b'[' if !self.in_text => self.depth += 1,
                b'}' | b']' if !self.in_text => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        let message = serde_json::from_slice(self.bytes.get(..self.seen).unwrap_or_default());
                        self.bytes.drain(..self.seen);
                        self.seen = 0;
                        return Some(message);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    const SECONDS: Duration = Duration::from_secs(10);

    #[test]
    fn messages_do_not_depend_on_how_the_bytes_arrive() {
        let first = json!({"id": 1, "result": ["a\"}{[\\", {"b": [[], {}, "\\\""]}], "error": null});
        let second = json!({"id": 2, "result": "é]}", "error": null});
        let text = format!("{first}{second} \n{first}");
        for at in 0..=text.len() {
            let (one, two) = text.as_bytes().split_at(at);
            let mut received = Received::default();
            let mut found = Vec::new();
            for part in [one, two] {
                received.push(part);
                found.extend(std::iter::from_fn(|| received.next()).map(Result::unwrap));
            }
            assert_eq!(found, [first.clone(), second.clone(), first.clone()], "cut at {at}");
        }
        let mut received = Received::default();
        let mut found = Vec::new();
        for byte in text.bytes() {
            received.push(&[byte]);
            found.extend(received.next().map(Result::unwrap));
        }
        assert_eq!(found.len(), 3);
        received.push(b"{]");
        assert!(received.next().unwrap().is_err());
    }

    /// A server that sends these pieces after the first message. Returns everything that it received.
    fn serve(socket: &Path, say: Vec<String>) -> std::thread::JoinHandle<String> {
        let listener = UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(SECONDS)).unwrap();
            let mut received = Received::default();
            let mut heard = String::new();
            let mut part = [0; 1024];
            loop {
                let count = stream.read(&mut part).unwrap();
                received.push(&part[..count]);
                heard.push_str(std::str::from_utf8(&part[..count]).unwrap());
                if received.next().is_some() {
                    break;
                }
            }
            for it in &say {
                stream.write_all(it.as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut rest = String::new();
            stream.read_to_string(&mut rest).unwrap();
            heard + &rest
        })
    }

    fn call(say: &[&str], limit: Duration) -> (Result<Value, SwitchError>, String) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let server = serve(&socket, say.iter().map(|it| (*it).to_owned()).collect());
        let mut rpc = Rpc::connect(&socket, SECONDS).unwrap();
        let result = rpc.call("transact", &json!(["db"]), limit);
        drop(rpc);
        (result, server.join().unwrap())
    }

    #[test]
    fn echo_requests_of_the_server_are_answered() {
        let (result, heard) = call(
            &[
                r#"{"method":"update","params":[null],"id":null}{"method":"echo","params":["x"],"#,
                r#""id":"echo"}{"id":7,"result":"of another","error":null}{"id":1,"res"#,
                r#"ult":[1],"error":null}"#,
            ],
            SECONDS,
        );
        assert_eq!(result.unwrap(), json!([1]));
        let expected = concat!(
            r#"{"id":1,"method":"transact","params":["db"]}"#,
            r#"{"id":"echo","result":["x"],"error":null}"#
        );
        assert_eq!(heard, expected);
    }

    #[test]
    fn a_call_fails_with_the_reason() {
        let (result, _) = call(&[r#"{"id":1,"result":null,"error":{"error":"unknown database"}}"#], SECONDS);
        assert!(matches!(result, Err(SwitchError::Refused(it)) if it == "unknown database"));
        let (result, _) =
            call(&[r#"{"id":1,"result":null,"error":"\"frob\" is not a valid command\n"}"#], SECONDS);
        assert!(matches!(result, Err(SwitchError::Refused(it)) if it == "\"frob\" is not a valid command"));
        let (result, _) = call(&[r#"{"id":1,"resu"#], SECONDS);
        assert!(matches!(result, Err(SwitchError::Broken(_))));
        let (result, _) = call(&["{\"id\":1,]}"], SECONDS);
        assert!(matches!(result, Err(SwitchError::Broken(_))));
    }

    #[test]
    fn a_call_to_a_silent_server_times_out() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let _listener = UnixListener::bind(&socket).unwrap();
        let begun = Instant::now();
        let mut rpc = Rpc::connect(&socket, SECONDS).unwrap();
        let result = rpc.call("echo", &json!([]), Duration::from_millis(50));
        assert!(matches!(result, Err(SwitchError::Late)));
        assert!(!rpc.hear().unwrap());
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn updates_are_received_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let update = r#"{"method":"update","params":[null,{"Port":{}}],"id":null}"#;
        let server =
            serve(&socket, vec![update.to_owned(), r#"{"id":1,"result":[],"error":null}"#.to_owned()]);
        let mut rpc = Rpc::connect(&socket, SECONDS).unwrap();
        rpc.begin("echo", &json!([]), Instant::now() + SECONDS).unwrap();
        let end = Instant::now() + SECONDS;
        while !matches!(rpc.hear(), Ok(true)) {
            assert!(Instant::now() < end);
            std::thread::yield_now();
        }
        assert_eq!(rpc.take_updates(), [json!({"Port": {}})]);
        assert_eq!(rpc.take_updates(), [] as [Value; 0]);
        drop(rpc);
        server.join().unwrap();
    }
}
