//! Files of modes in the folder of files: attributes, links, and containers that look at it.

use std::fs::{self, File, FileTimes};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::mdc::Project;
use crate::support::run;

#[test]
fn a_running_container_sees_new_files_without_a_restart() {
    let project = Project::new(&[
        ("modes/a/svc/files/etc/conf", "old"),
        ("modes/a/svc/files/gone", "x"),
        ("modes/b/svc/files/etc/conf", "new"),
        ("modes/b/svc/files/etc/more", "y"),
    ]);
    project.done(&["a"]);
    // A bind mount holds the folder itself, whatever has its name later.
    let mounted = File::open(project.path(".files/svc")).unwrap();
    let seen = |name: &str| fs::read_to_string(format!("/proc/self/fd/{}/{name}", mounted.as_raw_fd())).ok();
    assert_eq!(seen("etc/conf").as_deref(), Some("old"));
    let reader = File::open(project.path(".files/svc/etc/conf")).unwrap();
    project.done(&["b"]);
    assert_eq!(seen("etc/conf").as_deref(), Some("new"));
    assert_eq!(seen("etc/more").as_deref(), Some("y"));
    assert_eq!(seen("gone"), None);
    // Who had the file open goes on with the old one, whole.
    assert_eq!(fs::read_to_string(format!("/proc/self/fd/{}", reader.as_raw_fd())).unwrap(), "old");
}

#[test]
fn a_second_run_touches_nothing() {
    let project = Project::new(&[
        ("modes/a/svc/files/x/y", "1"),
        ("modes/a/env", "A=1"),
        ("modes/b/svc/files/x/z", "2"),
        ("modes/b/other/files/", ""),
    ]);
    project.done(&["a,b"]);
    let before = project.snapshot();
    project.done(&["a,b"]);
    assert_eq!(project.snapshot(), before);
    let run = project.mdc(&["-n", "a,b"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""));
}

#[test]
fn content_decides_and_not_time_and_size() {
    let project = Project::new(&[("modes/a/s/files/f", "aaa"), ("modes/b/s/files/f", "bbb")]);
    let time = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    for mode in ["a", "b"] {
        File::options()
            .write(true)
            .open(project.path(&format!("modes/{mode}/s/files/f")))
            .unwrap()
            .set_times(time)
            .unwrap();
    }
    project.done(&["a"]);
    project.done(&["b"]);
    assert_eq!(project.read(".files/s/f"), "bbb");
    assert_eq!(project.path(".files/s/f").metadata().unwrap().mtime(), 1_000_000_000);
}

#[test]
fn attributes_hard_links_holes_and_special_files_are_kept() {
    let project = Project::new(&[("modes/a/s/files/one", "1"), ("modes/a/s/files/d/file", "x")]);
    let source = |name: &str| project.path(&format!("modes/a/s/files/{name}"));
    fs::hard_link(source("one"), source("two")).unwrap();
    let mut fifo = Command::new("mkfifo");
    fifo.args(["-m", "640"]).arg(source("fifo"));
    assert_eq!(run(fifo).code, 0);
    let mut sparse = File::create(source("sparse")).unwrap();
    sparse.seek(SeekFrom::Start(8 << 20)).unwrap();
    sparse.write_all(b"end").unwrap();
    drop(sparse);
    let mut bits = Command::new("chmod");
    bits.arg("4711").arg(source("one"));
    assert_eq!(run(bits).code, 0);
    File::open(source("d"))
        .unwrap()
        .set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1234)))
        .unwrap();
    let is_root = nix::unistd::geteuid().is_root();
    if is_root {
        std::os::unix::fs::chown(source("d/file"), Some(1234), Some(4321)).unwrap();
    }
    project.done(&["a"]);
    let meta = |name: &str| project.path(&format!(".files/s/{name}")).symlink_metadata().unwrap();
    assert_eq!(meta("one").ino(), meta("two").ino());
    assert_eq!(meta("one").mode() & 0o7777, 0o4711);
    assert!(meta("fifo").file_type().is_fifo());
    assert_eq!(meta("fifo").mode() & 0o777, 0o640);
    assert_eq!(meta("sparse").len(), (8 << 20) + 3);
    assert!(meta("sparse").blocks() * 512 < 1 << 20, "{} blocks", meta("sparse").blocks());
    assert!(fs::read(project.path(".files/s/sparse")).unwrap().ends_with(b"\0end"));
    assert_eq!(meta("d").mtime(), 1234);
    if is_root {
        assert_eq!((meta("d/file").uid(), meta("d/file").gid()), (1234, 4321));
    }
    let before = project.snapshot();
    project.done(&["a"]);
    assert_eq!(project.snapshot(), before);
    // One of two names gets a content of its own.
    project.write("modes/b/s/files/two", b"2");
    project.done(&["a,b"]);
    assert_eq!((project.read(".files/s/one").as_str(), project.read(".files/s/two").as_str()), ("1", "2"));
}

#[test]
fn links_in_the_folder_of_files_are_never_followed() {
    let project = Project::new(&[
        ("outside/file", "precious"),
        ("outside/dir/file", "precious"),
        ("modes/b/s/files/link", "not written through"),
        ("modes/b/s/files/dir/file", "nor here"),
    ]);
    fs::create_dir_all(project.path("modes/a/s/files")).unwrap();
    std::os::unix::fs::symlink("../../outside/file", project.path("modes/a/s/files/link")).unwrap();
    std::os::unix::fs::symlink("../../outside/dir", project.path("modes/a/s/files/dir")).unwrap();
    for _ in 0..2 {
        project.done(&["a"]);
        assert_eq!(project.read(".files/s/link"), "precious");
        project.done(&["a,b"]);
        assert_eq!(project.read(".files/s/link"), "not written through");
        assert_eq!(project.read(".files/s/dir/file"), "nor here");
    }
    // Nor on the way to removing what is in them.
    project.done(&["a"]);
    project.write("modes/c/", b"");
    project.done(&["c"]);
    assert_eq!(project.read("outside/file"), "precious");
    assert_eq!(project.read("outside/dir/file"), "precious");
    assert!(!project.exists(".files/s"));
}

#[test]
fn a_file_of_one_mode_and_a_folder_of_another_at_the_same_path_are_an_error() {
    let project = Project::new(&[("modes/a/s/files/x", "file"), ("modes/b/s/files/x/y", "in a folder")]);
    for (modes, path) in [("a", "x"), ("b", "x/y"), ("a", "x")] {
        project.done(&[modes]);
        assert!(project.path(&format!(".files/s/{path}")).is_file(), "{modes}");
    }
    let message = "error: s/x: not a directory in mode a, a directory in mode b\n";
    project.refused(&["a,b"], &[], message);
    project.refused(&["b,a"], &[], "error: s/x: a directory in mode b, not a directory in mode a\n");
}

#[test]
fn what_a_container_wrote_goes_with_the_next_run() {
    let project = Project::new(&[("modes/a/s/files/x", "1")]);
    project.done(&["a"]);
    project.write(".files/s/log/today", b"...");
    project.write(".files/s/x", b"changed");
    project.done(&["a"]);
    assert!(!project.exists(".files/s/log"));
    assert_eq!(project.read(".files/s/x"), "1");
}
