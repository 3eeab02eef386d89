//! What the command finds: descriptors, environment, signals, its place in the process tree.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{Waiter, proc_file, wait};
use crate::support::{may_unshare, run, skip};

#[test]
fn the_exit_code_is_the_commands_or_tells_why_there_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let bad = file("bad", "#!/no/such/interpreter\n", 0o755);
    let plain = file("plain", "text", 0o644);
    let here = dir.path().to_str().unwrap();
    for (command, code, message) in [
        (vec!["sh", "-c", "exit 7"], 7, ""),
        (vec!["sh", "-c", "kill -9 $$"], -1, ""),
        (vec!["no-such-program"], 127, "error: run `no-such-program`: not found in PATH ("),
        (vec!["/no/such/file"], 127, "error: run `/no/such/file`: no such file"),
        (vec![&bad], 126, "the interpreter of "),
        (vec![&plain], 126, "Permission denied"),
        (vec![here], 126, "Permission denied"),
    ] {
        let run = run(wait(&[&["-q", "-i", "lo", "--"], &command[..]].concat()));
        assert_eq!(run.code, code, "{command:?}: {}", run.stderr);
        assert!(run.stderr.contains(message), "{command:?}: {}", run.stderr);
    }
}

#[test]
fn the_command_needs_no_dashes_before_it_and_keeps_its_own() {
    for (args, expected) in [
        (vec!["-q", "-i", "lo", "--", "echo", "-i", "--", "x", ""], "-i -- x \n"),
        (vec!["-q", "-i", "lo", "echo", "-n", "--", "x"], "-- x"),
        (vec!["-q", "--", "echo", "{{X}} $HOME *"], "{{X}} $HOME *\n"),
    ] {
        let run = run(wait(&args));
        assert_eq!((run.code, run.stdout.as_str()), (0, expected), "{args:?}: {}", run.stderr);
    }
}

#[test]
fn the_umask_is_set_in_its_place() {
    let run = run(wait(&["-q", "-u", "027", "-c", "umask", "--umask", "22", "--", "sh", "-c", "umask"]));
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "0022\n", "0027\n"));
}

#[test]
fn descriptors_environment_and_folder_are_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let extra = File::open("/dev/zero").unwrap();
    let number = extra.as_raw_fd();
    nix::fcntl::fcntl(&extra, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    // All that opens something: signals, netlink, inotify, mounts, connections, names, a command.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let tcp = format!("localhost:{port}");
    let script = "ls -l /proc/self/fd | awk 'NR > 1 {print $9, $11}' >fds; env | sort >env; pwd";
    let mut command =
        wait(&["-q", "-i", "lo", "-f", "/", "-t", &tcp, "-c", "true", "--", "sh", "-c", script]);
    command
        .current_dir(dir.path())
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .env("A", "x=y\nz");
    let run = run(command);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stdout.trim(), fs::canonicalize(dir.path()).unwrap().to_str().unwrap());
    let fds = fs::read_to_string(dir.path().join("fds")).unwrap();
    let mut numbers: Vec<i32> = fds
        .lines()
        .filter(|it| !it.contains("/proc/"))
        .map(|it| it.split(' ').next().unwrap().parse().unwrap())
        .collect();
    // What other tests of this process have open with the same lack of care cannot be told from ours.
    numbers.retain(|it| *it <= 2 || *it == number);
    numbers.sort_unstable(); // `ls` sorts them as text: 102 before 2.
    assert_eq!(numbers, [0, 1, 2, number], "{fds}");
    assert!(!fds.contains("inotify") && !fds.contains("signalfd"), "{fds}");
    let env = fs::read_to_string(dir.path().join("env")).unwrap();
    let names: Vec<&str> =
        env.lines().filter(|it| !it.starts_with("PWD=") && !it.starts_with("_=")).collect();
    assert!(env.contains("A=x=y\nz") || names.contains(&"A=x=y"), "{env}");
    assert!(
        names.iter().all(|it| ["A=", "PATH", "SHLV", "OLDP", "z"].iter().any(|name| it.starts_with(name))),
        "{env}"
    );
}

/// A field of `/proc/PID/status`, as a number of bits.
fn status_bits(text: &str, field: &str) -> u64 {
    let line = text.lines().find(|it| it.starts_with(field)).unwrap();
    let bits = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
    // Those above are the C library's own.
    bits & 0x7fff_ffff
}

fn bit(signal: Signal) -> u64 {
    1 << (signal as i32 - 1)
}

#[test]
fn signal_mask_and_dispositions_are_those_that_it_came_with() {
    let mut command = wait(&["-q", "-i", "lo", "-c", "true", "--", "cat", "/proc/self/status"]);
    // SAFETY: only async-signal-safe calls between fork and exec.
    #[expect(unsafe_code, reason = "there is no other way to start with signals blocked or ignored")]
    unsafe {
        command.pre_exec(|| {
            use nix::sys::signal::{SigHandler, SigSet, signal};
            SigSet::from_iter([Signal::SIGUSR1, Signal::SIGTERM]).thread_set_mask()?;
            signal(Signal::SIGHUP, SigHandler::SigIgn)?;
            signal(Signal::SIGCHLD, SigHandler::SigIgn)?;
            Ok(())
        });
    }
    let status = run(command).stdout;
    assert_eq!(status_bits(&status, "SigBlk"), bit(Signal::SIGUSR1) | bit(Signal::SIGTERM));
    // Rust's start-up ignores SIGPIPE: a command that inherits that never dies of a closed pipe.
    assert_eq!(status_bits(&status, "SigIgn"), bit(Signal::SIGHUP) | bit(Signal::SIGCHLD), "{status}");
}

#[test]
fn the_process_stays_the_same_and_signals_reach_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("go");
    let script = "trap 'echo got it; exit 9' TERM; echo rea''dy >&2; while :; do sleep 0.02; done";
    let mut waiter = Waiter::start(wait(&["-f", path.to_str().unwrap(), "--", "sh", "-c", script]));
    waiter.until("Waiting for");
    let pid = waiter.pid();
    fs::write(&path, "").unwrap();
    waiter.until("ready");
    assert!(proc_file(pid, "cmdline").starts_with("sh\0-c\0"));
    waiter.signal(Signal::SIGTERM);
    let run = waiter.end_within(Duration::from_secs(5));
    assert_eq!((run.code, run.stdout.as_str()), (9, "got it\n"));
}

#[test]
fn signals_end_the_wait_at_once() {
    for (signal, code) in
        [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129), (Signal::SIGQUIT, 131)]
    {
        let mut waiter = Waiter::start(wait(&["-f", "/none", "--", "echo", "ran"]));
        waiter.until("Waiting for");
        waiter.signal(signal);
        let run = waiter.end_within(Duration::from_secs(10));
        assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{signal}");
    }
    // What nohup ignores stays without effect.
    let mut ignoring = Command::new("sh");
    ignoring.args(["-c", "trap '' HUP; exec \"$0\" wait -f /none", env!("CARGO_BIN_EXE_conlink")]);
    let mut waiter = Waiter::start(ignoring);
    waiter.until("Waiting for");
    waiter.signal(Signal::SIGHUP);
    waiter.goes_on();
}

/// `unshare -pf`: the program is PID 1 of a namespace of its own.
fn as_init(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-pf", "--mount-proc", "--kill-child", program]).args(args);
    command
}

#[test]
fn as_pid_1_it_obeys_signals_reaps_orphans_and_becomes_the_command() {
    if !may_unshare("PID 1") {
        return;
    }
    let probe = run(as_init("true", &[]));
    if probe.code != 0 {
        skip("PID 1", &probe.stderr);
        return;
    }
    let binary = env!("CARGO_BIN_EXE_conlink");
    let run_as_init = run(as_init(binary, &["wait", "-q", "-i", "lo", "--", "sh", "-c", "echo $$"]));
    assert_eq!((run_as_init.code, run_as_init.stdout.as_str()), (0, "1\n"), "{}", run_as_init.stderr);

    // A signal without a handler does not reach PID 1: the reference goes on until it is killed.
    let mut waiter = Waiter::start(as_init(binary, &["wait", "-f", "/none", "--", "true"]));
    waiter.until("Waiting for");
    let children = format!("task/{}/children", waiter.pid());
    let init: i32 = proc_file(waiter.pid(), &children).trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), Signal::SIGTERM).unwrap();
    assert_eq!(waiter.end_within(Duration::from_secs(10)).code, 143);

    // Each try leaves an orphan that a real-time signal ends at once; while it waits none of them is left.
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let orphan = format!("(sh -c 'sleep 0.05; echo x >> {}; kill -34 $$' &) ; false", log.display());
    let mut waiter = Waiter::start(as_init(binary, &["wait", "-s", "0.02", "-c", &orphan]));
    waiter.until("Waiting for");
    let init: i32 =
        proc_file(waiter.pid(), &format!("task/{}/children", waiter.pid())).trim().parse().unwrap();
    let end = Instant::now() + Duration::from_secs(8);
    while fs::read_to_string(&log).unwrap_or_default().lines().count() < 20 {
        assert!(Instant::now() < end, "orphans do not run");
        std::thread::sleep(Duration::from_millis(5));
    }
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let children = proc_file(init, &format!("task/{init}/children"));
        let zombies = children
            .split_whitespace()
            .filter(|it| proc_file(it.parse().unwrap(), "stat").contains(") Z "))
            .count();
        // The one that has just ended may not be seen to yet.
        if zombies <= 1 {
            break;
        }
        assert!(Instant::now() < end, "{zombies} zombies");
    }
}

#[test]
fn it_runs_in_an_empty_root_without_a_shell() {
    if !may_unshare("empty root") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::copy(env!("CARGO_BIN_EXE_conlink"), dir.path().join("wait")).unwrap();
    let chroot = |args: &[&str]| {
        let mut command = Command::new("chroot");
        command.arg(dir.path()).args(args);
        run(command)
    };
    let ended =
        chroot(&["/wait", "-i", "lo", "-f", "/wait", "-c", "/wait --version", "--", "/wait", "--version"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "wait 3.0.0\n"), "{}", ended.stderr);
    let ended = chroot(&["/wait", "-T", "0.1", "-c", "a | b"]);
    assert!(ended.stderr.contains("the command needs a shell, and `sh` is not found"), "{}", ended.stderr);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ended = chroot(&["/wait", "-T", "5", "-t", &format!("localhost:{port}"), "--dns", "localhost"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}
