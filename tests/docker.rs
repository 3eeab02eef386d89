//! The client of container engines, with a fake engine: a unix socket that speaks HTTP.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use conlink::container::ContainerId;
use conlink::docker::{ContainerEvent, Engine};
use futures_util::StreamExt;

const OLD: &str = r#"{"status":"start","id":"aa","from":"x","time":1}"#;
const NEW: &str = r#"{"Type":"container","Action":"die","Actor":{"ID":"bb","Attributes":{"name":"b"}},"time":2,"timeNano":2}"#;
const BOTH: &str =
    r#"{"status":"start","id":"cc","Type":"container","Action":"start","Actor":{"ID":"cc"},"time":3}"#;

/// Answers requests, one connection each; its event stream is cut into pieces of `piece` bytes.
fn serve(listener: UnixListener, piece: usize, requests: Arc<Mutex<Vec<String>>>) {
    for stream in listener.incoming() {
        let requests = requests.clone();
        // A client that goes away amid an answer is no concern of the test.
        std::thread::spawn(move || answer(stream.unwrap(), piece, &requests).unwrap_or_default());
    }
}

fn answer(stream: UnixStream, piece: usize, requests: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(request)) = lines.next() {
        for line in lines.by_ref() {
            if line?.is_empty() {
                break;
            }
        }
        requests.lock().unwrap().push(request.clone());
        let path = request.split_whitespace().nth(1).unwrap_or_default().to_owned();
        let json = |body: &str| {
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        if path.contains("/events") {
            out.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
            )?;
            let text = format!("{OLD}\n{NEW}\n{BOTH}\n");
            for part in text.as_bytes().chunks(piece) {
                write!(out, "{:x}\r\n", part.len())?;
                out.write_all(part)?;
                out.write_all(b"\r\n")?;
                out.flush()?;
            }
            out.write_all(b"0\r\n\r\n")?;
        } else if path.contains("/_ping") {
            out.write_all(json("OK").as_bytes())?;
        } else if path.contains("/containers/json") {
            out.write_all(json(LIST).as_bytes())?;
        } else if path.contains("/containers/aa/json") {
            out.write_all(json(INSPECT).as_bytes())?;
        } else {
            let body = r#"{"message":"no such container"}"#;
            write!(
                out,
                "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )?;
        }
    }
    Ok(())
}

const LIST: &str = r#"[{"Id":"aa","Names":["/p-h-2"],"State":"running","Labels":{
    "com.docker.compose.project":"p","com.docker.compose.service":"h","com.docker.compose.container-number":"2",
    "com.docker.compose.project.working_dir":"/w"}},
    {"Id":"bb","Names":["/other"],"State":"running","Labels":{}}]"#;
const INSPECT: &str = r#"{"Id":"aa","Name":"/p-h-2","State":{"Status":"running","Running":true,"Pid":4711},
    "Config":{"Labels":{"com.docker.compose.service":"h"}}}"#;

/// Runs a test with a fake engine.
fn with_engine<F: Future<Output = ()>>(
    piece: usize,
    test: impl FnOnce(Engine, Arc<Mutex<Vec<String>>>) -> F,
) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("engine.sock");
    let requests = Arc::new(Mutex::new(Vec::new()));
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn({
        let requests = requests.clone();
        move || serve(listener, piece, requests)
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { test(Engine::connect(&socket).await.unwrap(), requests).await });
}

#[test]
fn events_do_not_depend_on_how_the_stream_is_chunked() {
    for piece in [1, 2, 3, 7, 50, 51, 64, 4096] {
        with_engine(piece, async |engine, _| {
            let events: Vec<ContainerEvent> =
                engine.events().await.unwrap().map(|it| it.unwrap()).collect().await;
            let expected = [
                ContainerEvent::Unknown,
                ContainerEvent::Died(ContainerId::new("bb")),
                ContainerEvent::Started(ContainerId::new("cc")),
            ];
            assert_eq!(events, expected, "in pieces of {piece} bytes");
        });
    }
}

#[test]
fn events_are_requested_from_before_the_list() {
    with_engine(64, async |engine, requests| {
        // The stream is made, then the list is asked for, and only then the stream is read: as the daemon does.
        let events = engine.events().await.unwrap();
        let listed_at =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        engine.list().await.unwrap();
        drop(events.collect::<Vec<_>>().await);
        let requests = requests.lock().unwrap();
        let asked = requests.iter().find(|it| it.contains("/events")).unwrap();
        let since: f64 =
            asked.split("since=").nth(1).unwrap().split(['&', ' ']).next().unwrap().parse().unwrap();
        assert!(since <= listed_at && since > listed_at - 5.0, "{asked}");
        assert!(asked.contains("container") && asked.contains("start") && asked.contains("die"), "{asked}");
    });
}

#[test]
fn containers_are_listed_with_their_compose_labels() {
    with_engine(64, async |engine, _| {
        let all = engine.list().await.unwrap();
        let shown: Vec<String> = all
            .iter()
            .map(|it| {
                format!("{} {:?} {:?} {:?} {}", it.name, it.project, it.service, it.working_dir, it.index)
            })
            .collect();
        assert_eq!(shown, [r#"p-h-2 Some("p") Some("h") Some("/w") 2"#, "other None None None 1"]);
        let found = engine.inspect_container(&ContainerId::new("aa")).await.unwrap().unwrap();
        assert_eq!((found.container.name.as_str(), found.pid), ("p-h-2", 4711));
        assert!(engine.inspect_container(&ContainerId::new("zz")).await.unwrap().is_none());
    });
}

/// Connects to a socket whose listener answers each connection with these bytes and closes it.
fn connect_to(answer: &'static [u8]) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("engine.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|it| it.is_ok_and(|it| !it.is_empty())) {}
            let _ = stream.write_all(answer);
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(Engine::connect(&socket)).unwrap_err();
    (socket.display().to_string(), error.to_string())
}

#[test]
fn an_error_names_the_socket_and_says_what_its_listener_did() {
    for (answer, expected) in [
        (b"".as_slice(), "the engine closed the connection before it answered"),
        (b"HTTP/1.1 200 OK\r\nConte", "the engine closed the connection before it answered"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP: is this the socket of a container engine?"),
        (
            b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{\"message\":\"broken\"}",
            "the engine answered with HTTP status 500: broken",
        ),
    ] {
        let (socket, error) = connect_to(answer);
        assert_eq!(error, format!("{socket}: {expected}"), "{}", String::from_utf8_lossy(answer));
    }
}

#[test]
fn a_socket_without_a_listener_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("engine.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(Engine::connect(&socket)).unwrap_err();
    let expected = "connection refused: no container engine listens there";
    assert_eq!(error.to_string(), format!("{}: {expected}", socket.display()));
}

#[test]
fn a_socket_that_does_not_exist_is_named() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(Engine::connect(Path::new("/nowhere/engine.sock"))).unwrap_err();
    assert_eq!(error.to_string(), "socket /nowhere/engine.sock does not exist");
}
