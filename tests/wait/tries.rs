//! Connections, answers, names and commands that are tried for.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{Waiter, wait};
use crate::support::run;

/// A port that nobody listens on: it was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn waiting(args: &[&str]) -> Waiter {
    let mut waiter = Waiter::start(wait(args));
    waiter.until("Waiting for");
    waiter
}

#[test]
fn tcp_by_address_by_name_and_by_ipv6() {
    for (host, bind) in
        [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("[::1]", "[::1]"), ("::1", "[::1]")]
    {
        let port = free_port();
        let mut waiter = waiting(&["-t", &format!("{host}:{port}")]);
        waiter.goes_on();
        let _listener = TcpListener::bind(format!("{bind}:{port}")).unwrap();
        let run = waiter.end_within(Duration::from_secs(3));
        assert_eq!(run.code, 0);
        let last = format!("TCP connection established at {host}:{port}\n");
        assert!(run.stderr.ends_with(&last), "{}", run.stderr);
    }
}

#[test]
fn a_port_that_answers_nothing_ends_with_the_time_limit() {
    // Its queue is full: the kernel drops what asks for a connection, as a black hole does.
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    let any: nix::sys::socket::SockaddrIn = "127.0.0.1:0".parse().unwrap();
    nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &any).unwrap();
    nix::sys::socket::listen(&socket, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let listener = TcpListener::from(socket);
    let addr = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(it) = TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
        queued.push(it);
        assert!(queued.len() < 64, "the queue is never full");
    }
    let start = Instant::now();
    let text = addr.to_string();
    let ended = run(wait(&["-T", "1", "--try-timeout", "0.3", "-t", &text, "--", "true"]));
    assert_eq!(ended.code, 124);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(
        ended.stderr.contains(&format!("TCP connection: {text}: no answer within 0.3 s")),
        "{}",
        ended.stderr
    );
    // The same while no try has come to its end.
    let ended = run(wait(&["-T", "0.2", "--http", &format!("http://{text}/")]));
    assert_eq!(ended.code, 124);
    assert!(ended.stderr.contains("the first attempt has not finished"), "{}", ended.stderr);
}

#[test]
fn tries_are_as_far_apart_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let command = format!("echo x >> {}; false", log.display());
    let tries = |args: &[&str], env: Option<&str>| {
        let _ = fs::remove_file(&log);
        let mut command = wait(&[&["-T", "0.75"], args, &["-c", &command]].concat());
        if let Some(it) = env {
            command.env("WAIT_SLEEP", it);
        }
        assert_eq!(run(command).code, 124);
        fs::read_to_string(&log).unwrap().lines().count()
    };
    // At the latest after 0, 50, 150 and 350 ms; pauses are random, so there may be more.
    assert!((3..=12).contains(&tries(&[], None)));
    // Only the first pause is random.
    assert!((5..=9).contains(&tries(&["-s", "0.1"], None)));
    assert!((2..=4).contains(&tries(&[], Some("0.3"))));
    assert!((5..=9).contains(&tries(&["-s", "0.1"], Some("5"))));
}

#[test]
fn a_command_that_fails_hangs_or_is_a_pipeline() {
    let ended = run(wait(&["-T", "0.3", "-c", "exit 7"]));
    assert_eq!(ended.code, 124);
    assert!(ended.stderr.contains("command: exit 7: exit code 7"), "{}", ended.stderr);
    let start = Instant::now();
    let ended = run(wait(&["-T", "1", "--try-timeout", "0.2", "-c", "sleep 77 | sleep 78"]));
    assert!(start.elapsed() < Duration::from_secs(4));
    assert!(ended.stderr.contains("the command takes longer than 0.2 s"), "{}", ended.stderr);
    // One that does not go when it is asked to.
    let ended =
        run(wait(&["-T", "1.5", "--try-timeout", "0.2", "-c", "trap '' TERM; while :; do sleep 0.1; done"]));
    assert!(ended.stderr.contains("the command takes longer than 0.2 s"), "{}", ended.stderr);
    // Words with quotes, as the shell reads them; and input that is the command's own.
    let ended = run(wait(&["-c", "test 'a b' = \"a b\" && ! read x", "--", "echo", "done"]));
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "done\n"));
}

#[test]
fn no_command_outlives_the_wait() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let command = format!("echo $$ > {}; sleep 60; true", file.display());
    let mut waiter = waiting(&["-c", &command]);
    let end = Instant::now() + Duration::from_secs(5);
    let pid = loop {
        match fs::read_to_string(&file).ok().and_then(|it| it.trim().parse::<i32>().ok()) {
            Some(it) => break it,
            None => assert!(Instant::now() < end),
        }
    };
    waiter.goes_on();
    waiter.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(waiter.end_within(Duration::from_secs(2)).code, 143);
    assert!(nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_err(), "the shell lives on");
}

#[test]
fn a_socket_in_the_file_system_has_to_accept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut waiter = waiting(&["--unix", path.to_str().unwrap()]);
    waiter.goes_on();
    // One that is there and refuses.
    drop(UnixListener::bind(&path).unwrap());
    waiter.goes_on();
    fs::remove_file(&path).unwrap();
    let _listener = UnixListener::bind(&path).unwrap();
    waiter.held();
    let path = dir.path().join("d");
    let _datagram = UnixDatagram::bind(&path).unwrap();
    let ended = run(wait(&["-T", "0.1", "--unix", path.to_str().unwrap()]));
    assert!(ended.stderr.contains("not a stream socket"), "{}", ended.stderr);
}

/// Answers each connection by the next of these texts, and ends with the last.
fn serve(listener: TcpListener, answers: Vec<&'static str>) -> std::thread::JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                request.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            asked.push(String::from_utf8(request).unwrap());
        }
        asked
    })
}

#[test]
fn http_waits_for_the_status_asked_for() {
    for (suffix, answers) in [
        (
            "",
            vec![
                "HTTP/1.1 503 No\r\n\r\n",
                "garbage\r\n",
                "",
                "HTTP/1.1 301 Moved\r\n\r\n",
                "HTTP/1.1 204 Fine\r\n\r\n",
            ],
        ),
        ("=301", vec!["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 301 Moved\r\n\r\n"]),
        ("=200-399", vec!["HTTP/1.1 404 No\r\n\r\n", "HTTP/1.1 302 Found\r\n\r\n"]),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a?b=c", listener.local_addr().unwrap());
        // Each status but the last is one that will not do: as many are asked for as there are.
        let url_text =
            if suffix.is_empty() { url.clone() } else { format!("{}{suffix}", url.replace("?b=c", "")) };
        let server = serve(listener, answers);
        let waiter = Waiter::start(wait(&["-s", "0.01", "--http", &url_text]));
        let ended = waiter.end_within(Duration::from_secs(5));
        assert_eq!(ended.code, 0, "{ended:?}");
        let asked = server.join().unwrap();
        let target =
            if suffix.is_empty() { "GET /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:" } else { "GET /a HTTP/1.1\r\n" };
        assert!(asked[0].starts_with(target), "{asked:?}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = serve(listener, vec!["HTTP/1.1 503 No\r\n\r\n"]);
    let ended = run(wait(&["-T", "0.5", "-s", "5", "--http", &url]));
    assert!(ended.stderr.contains("the answer has status 503"), "{}", ended.stderr);
    server.join().unwrap();
}

/// Answers every connection with the beginning and then the rest, again and again, until the client closes.
fn flood(beginning: &'static str, rest: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let rest = rest.repeat(4096);
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.write_all(beginning.as_bytes());
            while stream.write_all(rest.as_bytes()).is_ok() {}
        }
    });
    url
}

#[test]
fn an_answer_without_end_stops_neither_the_timeout_nor_a_signal() {
    let url = flood("", "HTTP/1.1 100 Continue\r\n\r\n");
    let ended = Waiter::start(wait(&["-T", "0.5", "--http", &url])).end_within(Duration::from_secs(5));
    assert_eq!(ended.code, 124, "{ended:?}");
    assert!(ended.stderr.contains("the first 64 KiB of the answer have no final status"), "{ended:?}");
    let mut waiter = Waiter::start(wait(&["--http", &url]));
    waiter.until("Waiting for HTTP answer");
    waiter.signal(Signal::SIGTERM);
    assert_eq!(waiter.end_within(Duration::from_secs(5)).code, 143);
    // A body is not read, whatever its length.
    let url = flood("HTTP/1.1 200 OK\r\n\r\n", "x");
    assert_eq!(Waiter::start(wait(&["--http", &url])).end_within(Duration::from_secs(5)).code, 0);
}

#[test]
fn names_resolve_to_any_address_or_to_one() {
    assert_eq!(run(wait(&["-T", "5", "--dns", "localhost", "--dns", "localhost=127.0.0.1"])).code, 0);
    let ended = run(wait(&["-T", "0.5", "--dns", "localhost=192.0.2.1"]));
    assert_eq!(ended.code, 124);
    assert!(
        ended.stderr.contains("name to resolve: localhost=192.0.2.1: the name resolves to "),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("failed to lookup"), "{}", ended.stderr);
}

#[test]
fn signals_reach_a_command_that_is_tried() {
    let line = "test $(sed -n 's/^SigBlk:\t//p' /proc/self/status) = 0000000000000000";
    let ended = run(wait(&["-T", "2", "-c", line]));
    assert_eq!(ended.code, 0, "{ended:?}");
}

/// A server that accepts one connection and no other, as `nc -l` does. True when there was one within ten seconds.
fn serve_once(listener: TcpListener) -> bool {
    listener.set_nonblocking(true).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        if let Ok((mut stream, _)) = listener.accept() {
            drop(listener);
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let _ = stream.read(&mut [0]);
            return true;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    false
}

/// A port that a listener can have again at once.
fn listen(port: u16) -> TcpListener {
    loop {
        if let Ok(it) = TcpListener::bind(("127.0.0.1", port)) {
            return it;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn waiters_released_at_once_each_find_a_server_that_accepts_one_connection() {
    // In half of the rounds the first server listens already when they are released.
    for round in 0..40 {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("go");
        let port = free_port();
        let start =
            || waiting(&["-f", file.to_str().unwrap(), "-t", &format!("127.0.0.1:{port}"), "--", "true"]);
        let waiters = [start(), start()];
        let is_there = round % 2 == 0;
        let first = is_there.then(|| listen(port));
        fs::write(&file, "").unwrap();
        if !is_there {
            std::thread::sleep(Duration::from_millis(120));
        }
        assert!(serve_once(first.unwrap_or_else(|| listen(port))), "round {round}: nobody comes");
        assert!(serve_once(listen(port)), "round {round}: the second server was never used");
        for it in waiters {
            assert_eq!(it.end_within(Duration::from_secs(5)).code, 0);
        }
    }
}

#[test]
fn a_server_that_resets_every_connection_counts_as_there() {
    let port = free_port();
    let waiter = waiting(&["-t", &format!("127.0.0.1:{port}"), "--", "true"]);
    let listener = listen(port);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            nix::sys::socket::setsockopt(&stream.unwrap(), nix::sys::socket::sockopt::Linger, &linger)
                .unwrap();
        }
    });
    assert_eq!(waiter.end_within(Duration::from_secs(5)).code, 0);
}
