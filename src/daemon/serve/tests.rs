use std::fs;
use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net as std_net;
use std::path::PathBuf;
use std::time::Instant;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};

use super::*;

/// Runs a test with a server at the path `s` in a temporary folder. `find` is answered with its own content, `watch`
/// with the contents of `values`.
fn with_server<T: Send + 'static>(
    values: watch::Receiver<Rc<Value>>,
    test: impl FnOnce(PathBuf) -> T + Send + 'static,
) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let (sender, mut messages) = mpsc::unbounded_channel();
        let _server = Server::start(&path, sender).await.unwrap();
        let mut test = tokio::task::spawn_blocking(move || test(path));
        loop {
            let Incoming { request, files, connection } = tokio::select! {
                result = &mut test => return result.unwrap(),
                Some(message) = messages.recv() => match message {
                    Message::Request(it) => it,
                    it => panic!("{it:?}"),
                },
            };
            match request {
                Request::Find { .. } => {
                    connection.reply(&json!({ "body": request, "files": files.len() }));
                }
                Request::Watch => connection.follow(values.clone()),
                other => connection.refuse(&format!("{other:?}")),
            }
        }
    })
}

fn nothing() -> watch::Receiver<Rc<Value>> {
    watch::Sender::new(Rc::new(Value::Null)).subscribe()
}

fn connect(path: &Path) -> std_net::UnixStream {
    let stream = std_net::UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends these bytes and returns the whole answer.
fn ask(path: &Path, request: &[u8]) -> String {
    let mut stream = connect(path);
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_request_is_answered_with_one_line_however_its_bytes_arrive() {
    with_server(nothing(), |path| {
        let request = br#"{"request":"find","nodes":["1","\u00e9"],"a key that nobody knows":{}}"#;
        let expected = "{\"body\":{\"request\":\"find\",\"nodes\":[\"1\",\"é\"]},\"files\":0}\n";
        assert_eq!(ask(&path, &[request, b"\n".as_slice()].concat()), expected);
        assert_eq!(ask(&path, &[request, b"\nand more".as_slice()].concat()), expected);
        // Byte by byte, and with the end of the stream in place of a newline.
        let mut stream = connect(&path);
        request.iter().for_each(|it| stream.write_all(&[*it]).unwrap());
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, expected);
    });
}

#[test]
fn an_invalid_request_is_answered_with_an_error() {
    with_server(nothing(), |path| {
        let form = "{\"error\":\"a request is an object with its name, such as {\\\"request\\\":\\\"status\\\"}\"}\n";
        for (request, expected) in [
            ("[]\n", form),
            ("7\n", form),
            ("{\"request\":7}\n", form),
            ("{\"Request\":\"status\"}\n", form),
            ("\n", "{\"error\":\"the request is not JSON: EOF while parsing a value at line 1 column 0\"}\n"),
            ("status\n", "{\"error\":\"the request is not JSON: expected value at line 1 column 1\"}\n"),
            (
                "{\"request\":\"frob\"}\n",
                "{\"error\":\"unknown request `frob`; expected `status`, `watch`, `diff`, `override`, or for labs `apply`, \
                 `down`, `find`, `enter`\"}\n",
            ),
            (
                "{\"request\":\"find\",\"nodes\":[7]}\n",
                "{\"error\":\"request `find`: invalid type: integer `7`, expected a string\"}\n",
            ),
            ("{\"request\":\"apply\"}\n", "{\"error\":\"request `apply`: missing field `compose_files`\"}\n"),
        ] {
            assert_eq!(ask(&path, request.as_bytes()), expected, "{request}");
        }
        assert!(ask(&path, b"\xff\xfe\n").starts_with("{\"error\":\"the request is not JSON: "));
        let deep = "[".repeat(100_000) + "\n";
        assert!(ask(&path, deep.as_bytes()).contains("recursion limit"), "a deep one");
    });
}

#[test]
fn an_overlong_request_is_refused() {
    with_server(nothing(), |path| {
        // One of the maximum length, and a longer one.
        let request = |size: usize| {
            let begin = r#"{"request":"find","nodes":[""#;
            format!("{begin}{}\"]}}\n", "x".repeat(size - begin.len() - 3)).into_bytes()
        };
        assert!(ask(&path, &request(LONGEST)).starts_with("{\"body\":"));
        let mut stream = connect(&path);
        // The server may close the connection before it has read everything.
        let _ = stream.write_all(&request(LONGEST + 1));
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(
            answer.is_empty() || answer.contains("a request: a line has at most 1048576 bytes"),
            "{answer}"
        );
    });
}

#[test]
fn a_request_brings_at_most_16_file_descriptors() {
    with_server(nothing(), |path| {
        for (count, expected) in [
            (1, "{\"body\":{\"request\":\"find\",\"nodes\":[]},\"files\":1}\n"),
            (16, "{\"body\":{\"request\":\"find\",\"nodes\":[]},\"files\":16}\n"),
            (17, "{\"error\":\"a request comes with at most 16 files\"}\n"),
            (253, "{\"error\":\"a request comes with at most 16 files\"}\n"),
        ] {
            let mut stream = connect(&path);
            let file = fs::File::open("/dev/null").unwrap();
            let numbers = vec![file.as_raw_fd(); count];
            let line = [IoSlice::new(b"{\"request\":\"find\"}\n")];
            let files = [ControlMessage::ScmRights(&numbers)];
            sendmsg::<()>(stream.as_raw_fd(), &line, &files, MsgFlags::empty(), None).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, expected, "{count} files");
        }
    });
}

#[test]
fn a_hundred_silent_clients_do_not_delay_others() {
    with_server(nothing(), |path| {
        let mut silent: Vec<_> = (0..100).map(|_| connect(&path)).collect();
        // Half a request counts as no request.
        silent.iter_mut().for_each(|it| drop(it.write_all(b"{\"request\":")));
        let start = Instant::now();
        for _ in 0..100 {
            assert!(ask(&path, b"{\"request\":\"find\"}\n").starts_with("{\"body\""));
        }
        assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
        // The oldest were closed to make room, the newest were not.
        let mut byte = [0];
        assert!(matches!(silent[0].read(&mut byte), Ok(0) | Err(_)));
        silent[99].set_nonblocking(true).unwrap();
        assert_eq!(silent[99].read(&mut byte).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    });
}

#[test]
fn clients_that_do_not_read_are_limited_and_do_not_delay_others() {
    let long = Rc::new(json!({ "x": "y".repeat(1 << 20) }));
    let sender = watch::Sender::new(long);
    with_server(sender.subscribe(), |path| {
        let mut full = Vec::new();
        let large = format!("{{\"request\":\"find\",\"nodes\":[\"{}\"]}}\n", "y".repeat(900_000));
        for at in 0..CLIENTS {
            let mut stream = connect(&path);
            let request = if at < WATCHERS { "{\"request\":\"watch\"}\n" } else { &large };
            stream.write_all(request.as_bytes()).unwrap();
            // Its answer has begun.
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            full.push(stream);
        }
        let refused = "{\"error\":\"too many requests at the same time\"}\n";
        assert_eq!(ask(&path, b"{\"request\":\"find\"}\n"), refused);
        drop(full.pop());
        let end = Instant::now() + PATIENCE / 2;
        while ask(&path, b"{\"request\":\"find\"}\n") == refused {
            assert!(Instant::now() < end, "the place of a client that disconnected is not free");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn watching_clients_leave_room_for_other_requests() {
    let values = watch::Sender::new(Rc::new(json!(1)));
    with_server(values.subscribe(), |path| {
        let mut watchers = Vec::new();
        for _ in 0..WATCHERS {
            let mut stream = BufReader::new(connect(&path));
            stream.get_mut().write_all(b"{\"request\":\"watch\"}\n").unwrap();
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            assert_eq!(line, "1\n");
            watchers.push(stream);
        }
        assert!(
            ask(&path, b"{\"request\":\"watch\"}\n").contains("too many watching clients: the limit is 48")
        );
        assert!(ask(&path, b"{\"request\":\"find\"}\n").contains("body"));
    });
}

#[test]
fn a_watching_client_gets_the_current_value_and_each_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let (sender, mut messages) = mpsc::unbounded_channel();
        let _server = Server::start(&path, sender).await.unwrap();
        let values = watch::Sender::new(Rc::new(json!(1)));
        let (told, mut lines) = mpsc::unbounded_channel();
        let client = tokio::task::spawn_blocking(move || {
            let mut stream = connect(&path);
            stream.write_all(b"{\"request\":\"watch\"}\n").unwrap();
            // The client sends nothing more, but still listens.
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            for line in BufReader::new(stream).lines().take(3) {
                told.send(line.unwrap()).unwrap();
            }
        });
        let Some(Message::Request(request)) = messages.recv().await else { panic!("no request") };
        assert_eq!(request.request, Request::Watch);
        request.connection.follow(values.subscribe());
        for value in 1..=3 {
            assert_eq!(lines.recv().await.unwrap(), value.to_string());
            values.send_replace(Rc::new(json!(value + 1)));
        }
        client.await.unwrap();
        let end = Instant::now() + PATIENCE / 2;
        while values.receiver_count() > 0 {
            assert!(Instant::now() < end, "a client that disconnected is still served");
            sleep(Duration::from_millis(5)).await;
        }
    });
}

/// Starts a server and passes the result to `then`.
fn start(path: &Path, then: impl FnOnce(io::Result<Server>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (sender, _messages) = mpsc::unbounded_channel();
        then(Server::start(path, sender).await);
    });
}

#[test]
fn only_the_owner_may_use_the_socket_and_it_is_removed_with_the_server() {
    let folder = tempfile::tempdir().unwrap();
    // Longer than a socket address can be.
    let path = folder.path().join("d".repeat(90)).join("e".repeat(200)).join("x".repeat(200) + ".sock");
    start(&path, |server| {
        let server = server.unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "only the socket is there");
        drop(server);
        assert!(!path.exists());
    });
}

#[test]
fn the_socket_of_a_killed_engine_is_replaced_but_not_that_of_a_running_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let killed = std_net::UnixListener::bind(&path).unwrap();
    let refused = |server: io::Result<Server>| server.unwrap_err().to_string();
    start(&path, |it| assert_eq!(refused(it), "another process listens on it"));
    // The listener's queue is full, but it is running.
    let stuck = folder.path().join("stuck");
    let flags = nix::sys::socket::SockFlag::empty();
    let unix = nix::sys::socket::AddressFamily::Unix;
    let socket = nix::sys::socket::socket(unix, nix::sys::socket::SockType::Stream, flags, None).unwrap();
    nix::sys::socket::bind(socket.as_raw_fd(), &nix::sys::socket::UnixAddr::new(&stuck).unwrap()).unwrap();
    nix::sys::socket::listen(&socket, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let _first = std_net::UnixStream::connect(&stuck).unwrap();
    start(&stuck, |it| assert_eq!(refused(it), "another process listens on it"));
    drop(killed);
    assert!(path.exists(), "a listener that ends leaves its name behind");
    start(&path, |server| {
        let server = server.unwrap();
        std_net::UnixStream::connect(&path).unwrap();
        // A file that has replaced the socket is not removed.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(server);
        assert_eq!(fs::read_to_string(&path).unwrap(), "another's");
    });
    start(&path, |it| assert_eq!(refused(it), "the path exists and is not a socket"));
    let below = folder.path().join("s/below/s");
    start(&below, |it| assert!(refused(it).starts_with("Not a directory"), "a folder cannot be made"));
}
