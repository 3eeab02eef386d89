//! Files that are waited for.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::{Waiter, wait};
use crate::support::{may_unshare, run, skip};

fn waiting(args: &[&OsStr]) -> Waiter {
    let mut command = wait(&[]);
    command.args(args);
    let mut waiter = Waiter::start(command);
    waiter.until("Waiting for");
    waiter
}

fn file(path: &Path) -> Waiter {
    waiting(&["-f".as_ref(), path.as_os_str()])
}

#[test]
fn parents_may_be_missing_and_come_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/c/d");
    let mut waiter = file(&path);
    for parent in ["a", "a/b", "a/b/c"] {
        fs::create_dir(dir.path().join(parent)).unwrap();
        waiter.goes_on();
    }
    fs::write(&path, "").unwrap();
    waiter.held();
}

#[test]
fn a_whole_tree_may_be_renamed_into_place() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("new/b")).unwrap();
    fs::write(dir.path().join("new/b/c"), "").unwrap();
    let waiter = file(&dir.path().join("a/b/c"));
    fs::rename(dir.path().join("new"), dir.path().join("a")).unwrap();
    waiter.held();
    // In place of one that is there already, and is being watched.
    fs::create_dir_all(dir.path().join("x/b")).unwrap();
    let waiter = file(&dir.path().join("x/b/c"));
    fs::rename(dir.path().join("x"), dir.path().join("old")).unwrap();
    fs::rename(dir.path().join("a"), dir.path().join("x")).unwrap();
    waiter.held();
}

#[test]
fn a_file_may_be_renamed_into_place_or_be_of_any_kind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let waiter = file(&path);
    fs::write(dir.path().join("b"), "").unwrap();
    fs::rename(dir.path().join("b"), &path).unwrap();
    waiter.held();
    let path = dir.path().join("folder");
    let waiter = file(&path);
    fs::create_dir(&path).unwrap();
    waiter.held();
    let path = dir.path().join("pipe");
    let waiter = file(&path);
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
    waiter.held();
}

#[test]
fn links_are_followed_to_folders_and_files_that_come_later() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("far")).unwrap();
    symlink("far/away", dir.path().join("near")).unwrap();
    let mut waiter = file(&dir.path().join("near/x"));
    fs::create_dir(dir.path().join("far/away")).unwrap();
    waiter.goes_on();
    symlink(dir.path().join("target"), dir.path().join("far/away/x")).unwrap();
    waiter.goes_on();
    fs::write(dir.path().join("target"), "").unwrap();
    waiter.held();
    symlink("loop", dir.path().join("loop")).unwrap();
    let run = run(wait(&["-T", "0.1", "-f", dir.path().join("loop").to_str().unwrap()]));
    assert_eq!(run.code, 124);
    assert!(run.stderr.contains("Too many levels of symbolic links"), "{}", run.stderr);
}

#[test]
fn names_may_be_relative_long_and_any_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let long = [b'x'; 255];
    for name in [&b"n\xff\xfe\nb"[..], &long, b"../up", b"./a/../b"] {
        let name = OsStr::from_bytes(name);
        fs::create_dir_all(dir.path().join("in/a")).unwrap();
        let mut command = wait(&["-f"]);
        command.arg(name).current_dir(dir.path().join("in"));
        let mut waiter = Waiter::start(command);
        waiter.until("Waiting for");
        fs::write(dir.path().join("in").join(name), "").unwrap();
        waiter.held();
    }
}

#[test]
fn files_may_have_to_go_or_to_have_content() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, "").unwrap();
    let mut waiter = waiting(&["--gone".as_ref(), path.as_os_str()]);
    waiter.goes_on();
    fs::rename(&path, dir.path().join("b")).unwrap();
    waiter.held();
    let mut waiter = waiting(&["--file-nonempty".as_ref(), path.as_os_str()]);
    fs::write(&path, "").unwrap();
    waiter.goes_on();
    fs::write(&path, "x").unwrap();
    waiter.held();
    let folder = dir.path().join("folder");
    let mut waiter = waiting(&["--file-nonempty".as_ref(), folder.as_os_str()]);
    fs::create_dir(&folder).unwrap();
    waiter.goes_on();
    fs::write(folder.join("x"), "").unwrap();
    waiter.held();
    // A link that leads nowhere is there to be removed.
    symlink("nowhere", dir.path().join("link")).unwrap();
    let waiter = waiting(&["--gone".as_ref(), dir.path().join("link").as_os_str()]);
    fs::remove_file(dir.path().join("link")).unwrap();
    waiter.held();
}

/// Runs `f` with a folder for mounts of its own.
fn with_mounts(what: &str, f: impl FnOnce(&Path) + Send) {
    if !may_unshare(what) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let body = || {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), none).unwrap();
        f(dir.path());
    };
    std::thread::scope(|scope| scope.spawn(body).join().unwrap());
}

#[test]
fn files_on_tmpfs_and_overlay_and_those_that_a_mount_brings() {
    with_mounts("mounts", |dir| {
        let none = None::<&str>;
        let path = dir.join("a");
        let waiter = file(&path);
        fs::write(&path, "").unwrap();
        waiter.held();
        for it in ["lower", "upper", "work", "merged"] {
            fs::create_dir_all(dir.join(it).join("folder")).unwrap();
        }
        let text = |it: &str| dir.join(it).display().to_string();
        let options =
            format!("lowerdir={},upperdir={},workdir={}", text("lower"), text("upper"), text("work"));
        match mount(
            Some("overlay"),
            &dir.join("merged"),
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        ) {
            Ok(()) => {
                let path = dir.join("merged/folder/x");
                let waiter = file(&path);
                fs::write(&path, "").unwrap();
                waiter.held();
            }
            Err(error) => skip("files on overlay", &error.to_string()),
        }
        fs::create_dir_all(dir.join("there/sub")).unwrap();
        fs::create_dir(dir.join("here")).unwrap();
        let mut waiter = file(&dir.join("here/sub"));
        waiter.goes_on();
        mount(Some(&dir.join("there")), &dir.join("here"), none, MsFlags::MS_BIND, none).unwrap();
        waiter.held();
    });
}

#[test]
fn where_the_kernel_gives_no_notices_files_are_looked_at_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    // No descriptor is left for inotify: 0 to 2 are the streams, one is the signals'.
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -n 4; exec \"$0\" wait -s 0.05 -f \"$1\"", env!("CARGO_BIN_EXE_conlink")]);
    command.arg(&path);
    let mut waiter = Waiter::start(command);
    waiter.until("Waiting for");
    fs::write(&path, "").unwrap();
    waiter.held();
}
