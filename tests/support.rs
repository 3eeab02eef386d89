//! What tests share: running the binary, temporary folders, expected texts in files, namespaces.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What a run of the binary came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the binary in `dir` with these variables and no others.
pub(crate) fn conlink(dir: &Path, args: &[&str], env: &BTreeMap<String, String>) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conlink"));
    command.args(args).current_dir(dir).env_clear().envs(env);
    run(command)
}

/// Runs a program to its end, of which there must be one within a minute: an emulated machine may stand still for long.
pub(crate) fn run(mut command: Command) -> Run {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    finish(child, &format!("{command:?}"), Duration::from_secs(60))
}

/// The end of a program that was started with pipes for its output. It must come within that time, and nobody may keep
/// the pipes open for longer.
pub(crate) fn finish(mut child: Child, what: &str, limit: Duration) -> Run {
    fn read(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
        let (sender, text) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            from.read_to_end(&mut text).unwrap();
            let _ = sender.send(String::from_utf8_lossy(&text).into_owned());
        });
        text
    }
    let out = read(child.stdout.take().unwrap());
    let err = read(child.stderr.take().unwrap());
    let end = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            child.wait().unwrap();
            let said = [out, err].map(|it| it.recv_timeout(Duration::from_secs(1)).unwrap_or_default());
            panic!("{what} does not end: {said:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let text = |it: mpsc::Receiver<String>| {
        let text = it.recv_timeout(Duration::from_secs(10));
        text.unwrap_or_else(|_| panic!("{what} has ended, and its output is still open"))
    };
    Run { code: status.code().unwrap_or(-1), stdout: text(out), stderr: text(err) }
}

/// `tests/data/NAME`.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The case folders of `tests/data/NAME`, in order.
pub(crate) fn cases(name: &str) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(data(name)).unwrap().map(|it| it.unwrap().path()).collect();
    all.retain(|it| it.is_dir());
    all.sort();
    assert!(!all.is_empty(), "no cases in {name}");
    all
}

/// Runs every case, then fails with all that went wrong.
pub(crate) fn for_each_case(name: &str, check: impl Fn(&Path) -> Result<(), String>) {
    let mut failed = Vec::new();
    for case in cases(name) {
        if let Err(message) = check(&case) {
            failed.push(format!("{}:\n{message}", case.display()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// Compares with the text in a file; UPDATE_EXPECT=1 writes it there instead.
pub(crate) fn expect_file(path: &Path, actual: &str) -> Result<(), String> {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path, actual).unwrap();
        return Ok(());
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if expected == actual {
        return Ok(());
    }
    let name = path.file_name().unwrap().display();
    Err(format!("--- {name}\n{expected}\n--- actual\n{actual}"))
}

/// Reports that this machine cannot run a test, or a part of one. Where everything must run, that is a failure.
pub(crate) fn skip(what: &str, reason: &str) {
    assert!(std::env::var_os("CONLINK_TEST_ALL").is_none(), "{what} must not be skipped: {reason}");
    // Past the test runner's capture: a skip that nobody sees is a test that nobody misses.
    use std::io::Write;
    let mut tty = File::options().append(true).open("/proc/self/fd/2").unwrap();
    // On a line of its own, wherever the runner's own output stands.
    writeln!(tty, "\nSKIP {what}: {reason}").unwrap();
}

/// May this process make network namespaces?
pub(crate) fn may_unshare(what: &str) -> bool {
    match conlink::kernel::netns::anonymous() {
        Ok(_) => true,
        Err(error) => {
            skip(what, &format!("no network namespace can be made: {error}"));
            false
        }
    }
}

/// Runs a program inside a namespace and answers what it prints.
pub(crate) fn inside(netns: &File, program: &str, args: &[&str]) -> String {
    conlink::kernel::netns::inside(netns, || {
        let output = Command::new(program).args(args).stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {}: {error}", args.join(" "));
        Ok(text)
    })
    .unwrap()
}

/// Does a program end well in a network namespace?
pub(crate) fn succeeds(netns: &File, program: &str, args: &str) -> bool {
    let start = || {
        let mut command = Command::new(program);
        command.args(args.split_whitespace());
        Ok(run(command))
    };
    conlink::kernel::netns::inside(netns, start).unwrap().code == 0
}

/// `ip ARGS` inside a namespace.
pub(crate) fn ip(netns: &File, args: &str) -> String {
    inside(netns, "ip", &args.split_whitespace().collect::<Vec<_>>())
}
