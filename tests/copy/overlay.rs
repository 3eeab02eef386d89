//! Trees: kinds of files, names, modes, times, what is there already.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use expect_test::expect;

use super::Trees;
use crate::support::run;

#[test]
fn every_kind_of_file_arrives() {
    let trees = Trees::new();
    trees.write("src/file", "text");
    trees.write("src/.hidden/.dot", "dot");
    trees.write("src/empty", "");
    trees.write("src/binary", b"\x00\xff\xfe{{A}}");
    fs::create_dir_all(trees.path("src/void/void")).unwrap();
    symlink("file", trees.path("src/link")).unwrap();
    symlink("/no/where", trees.path("src/dangling")).unwrap();
    nix::unistd::mkfifo(&trees.path("src/pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let _socket = UnixListener::bind(trees.path("src/socket")).unwrap();
    trees.write("dst/kept", "kept");
    let said = trees.done(&[], &[]);
    expect![[r#"
        warning: src/pipe: skipped: not a file, directory or symbolic link
        warning: src/socket: skipped: not a file, directory or symbolic link
        copy: 4 files copied, 0 unchanged, 2 links, 3 directories created
    "#]]
    .assert_eq(&said);
    let listed = ".hidden/ .hidden/.dot binary dangling@ empty file kept link@ void/ void/void/";
    assert_eq!(trees.list("dst").join(" "), listed);
    assert_eq!(trees.read("dst/kept"), "kept");
    assert_eq!(fs::read(trees.path("dst/binary")).unwrap(), b"\x00\xff\xfe{{A}}");
    assert_eq!(fs::read_link(trees.path("dst/dangling")).unwrap(), Path::new("/no/where"));
}

#[test]
fn names_may_be_any_bytes_and_as_long_as_they_get() {
    let trees = Trees::new();
    let names: Vec<Vec<u8>> = vec![
        b"new\nline".to_vec(),
        b"\xff\xfe".to_vec(),
        b"-n".to_vec(),
        b" ".to_vec(),
        vec![b'x'; 255],
        vec![0xc3; 255],
    ];
    for name in &names {
        let name = OsStr::from_bytes(name);
        trees.write(Path::new("src").join(name), "1");
        fs::create_dir(trees.path("src/d")).ok();
        symlink(name, trees.path("src/d").join(name)).unwrap();
    }
    trees.done(&[], &[]);
    for name in &names {
        let name = OsStr::from_bytes(name);
        assert_eq!(fs::read(trees.path("dst").join(name)).unwrap(), b"1");
        assert_eq!(fs::read_link(trees.path("dst/d").join(name)).unwrap(), name);
        fs::write(trees.path("src").join(name), "2").unwrap();
    }
    trees.done(&[], &[]);
    for name in &names {
        assert_eq!(fs::read(trees.path("dst").join(OsStr::from_bytes(name))).unwrap(), b"2");
    }
}

#[test]
fn trees_may_be_deeper_than_any_path_is_long() {
    let trees = Trees::new();
    // 3000 folders: a path of 15 kB. Each is made by its descriptor alone.
    let name = "deep";
    let mut at = File::open(trees.path("src")).unwrap();
    for _ in 0..3000 {
        nix::sys::stat::mkdirat(&at, name, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let flags = nix::fcntl::OFlag::O_DIRECTORY;
        at = File::from(nix::fcntl::openat(&at, name, flags, nix::sys::stat::Mode::empty()).unwrap());
    }
    let flags = nix::fcntl::OFlag::O_CREAT | nix::fcntl::OFlag::O_WRONLY;
    let file = nix::fcntl::openat(&at, "file", flags, nix::sys::stat::Mode::S_IRUSR).unwrap();
    File::from(file).write_all(b"down here").unwrap();
    let said = trees.done(&[], &[]);
    assert_eq!(said, "copy: 1 file copied, 0 unchanged, 3000 directories created\n");
    assert_eq!(trees.done(&[], &[]), "copy: 0 files copied, 1 unchanged\n");
    let mut remove = std::process::Command::new("rm");
    remove.arg("-rf").arg(trees.path("src")).arg(trees.path("dst"));
    run(remove);
}

#[test]
fn modes_and_times_are_those_of_src_and_owners_the_processs() {
    let trees = Trees::new();
    for (name, mode) in [
        ("plain", 0o644),
        ("run", 0o755),
        ("secret", 0o600),
        ("setuid", 0o4755),
        ("setgid", 0o4755),
        ("read", 0o444),
        ("none", 0o000),
    ] {
        trees.write(format!("src/{name}"), name);
        trees.chmod(&format!("src/{name}"), mode);
    }
    trees.write("src/sub/file", "");
    trees.chmod("src/sub", 0o2750);
    trees.write("src/locked/file", "");
    trees.chmod("src/locked", 0o555);
    let old = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    for it in ["src/plain", "src/sub", "src/locked"] {
        File::open(trees.path(it)).unwrap().set_modified(old).unwrap();
    }
    let as_root = nix::unistd::geteuid().is_root();
    if as_root {
        for (name, user, group) in [("run", 1234, 4321), ("setgid", 0, 4321)] {
            std::os::unix::fs::chown(trees.path(format!("src/{name}")), Some(user), Some(group)).unwrap();
        }
        trees.chmod("src/run", 0o6755);
        trees.chmod("src/setgid", 0o6755);
    } else {
        fs::remove_file(trees.path("src/none")).unwrap();
    }
    // Whatever the process's own mask is.
    let mut command = trees.command(&[], &[]);
    command = {
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", "umask 077; exec \"$0\" copy src dst"])
            .arg(command.get_program())
            .current_dir(trees.dir.path());
        shell
    };
    assert_eq!(run(command).code, 0);
    for (name, mode) in [
        ("plain", 0o644),
        ("run", 0o755),
        ("secret", 0o600),
        ("setuid", 0o4755),
        ("setgid", 0o4755),
        ("read", 0o444),
        ("sub", 0o2750),
        ("locked", 0o555),
    ] {
        assert_eq!(trees.mode(&format!("dst/{name}")), mode, "{name}");
    }
    for it in ["plain", "sub", "locked"] {
        assert_eq!(trees.modified(&format!("dst/{it}")), old, "{it}");
    }
    let owner = |path: &str| {
        let it = trees.path(path).symlink_metadata().unwrap();
        (it.uid(), it.gid())
    };
    assert_eq!(owner("dst/run"), (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
    if !as_root {
        return;
    }
    assert!(trees.done(&[], &[]).starts_with("copy: 0 files copied, 9 unchanged\n"));
    // The content is the same, the owner is not.
    assert!(trees.done(&["--preserve-owner"], &[]).contains("2 modes or owners set"));
    assert_eq!((owner("dst/run"), trees.mode("dst/run")), ((1234, 4321), 0o6755));
    symlink("x", trees.path("src/link")).unwrap();
    fs::create_dir(trees.path("src/new")).unwrap();
    trees.done(&["--owner", "7:8"], &[]);
    for it in ["dst/run", "dst/setuid", "dst/link", "dst/new"] {
        assert_eq!(owner(it), (7, 8), "{it}");
    }
    // It would lend the rights of another user.
    assert_eq!(trees.mode("dst/setuid"), 0o755);
    assert_eq!(owner("dst/sub"), (0, 0), "a folder that was there keeps its owner");
}

/// Sets the attribute `user.note`; false where the file system has none.
#[expect(unsafe_code, reason = "neither nix nor std has extended attributes")]
fn set_note(path: &Path, value: &[u8]) -> bool {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: both texts end with a zero byte, and of the value as many bytes are read as it has.
    unsafe {
        libc::setxattr(path.as_ptr(), c"user.note".as_ptr(), value.as_ptr().cast(), value.len(), 0) == 0
    }
}

#[expect(unsafe_code, reason = "neither nix nor std has extended attributes")]
fn note(path: &Path) -> String {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut room = [0_u8; 100];
    // SAFETY: both texts end with a zero byte, and no more bytes are written than there is room.
    let size =
        unsafe { libc::getxattr(path.as_ptr(), c"user.note".as_ptr(), room.as_mut_ptr().cast(), room.len()) };
    String::from_utf8_lossy(&room[..usize::try_from(size).unwrap_or(0)]).into_owned()
}

#[test]
fn extended_attributes_come_along_when_asked_for() {
    let trees = Trees::new();
    trees.write("src/d/a", "x");
    if !["src/d", "src/d/a"].iter().all(|it| set_note(&trees.path(it), b"kept")) {
        crate::support::skip("extended attributes", "the file system has none");
        return;
    }
    let note = |path: &str| note(&trees.path(path));
    trees.done(&[], &[]);
    assert_eq!((note("dst/d").as_str(), note("dst/d/a").as_str()), ("", ""));
    // The content is the same, the attribute is missing; then nothing is.
    assert!(trees.done(&["--xattrs"], &[]).contains("1 mode or owner set"));
    assert_eq!(note("dst/d/a"), "kept");
    assert_eq!(trees.done(&["--xattrs"], &[]), "copy: 0 files copied, 1 unchanged\n");
    fs::remove_dir_all(trees.path("dst/d")).unwrap();
    trees.done(&["--xattrs"], &[]);
    assert_eq!((note("dst/d").as_str(), note("dst/d/a").as_str()), ("kept", "kept"));
}

#[test]
fn folders_that_are_there_keep_their_mode() {
    let trees = Trees::new();
    trees.write("src/d/file", "");
    trees.chmod("src/d", 0o700);
    fs::create_dir(trees.path("dst/d")).unwrap();
    trees.chmod("dst/d", 0o1777);
    trees.done(&[], &[]);
    assert_eq!(trees.mode("dst/d"), 0o1777);
}

#[test]
fn what_is_unchanged_is_left_alone() {
    let trees = Trees::new();
    trees.write("src/a", "same");
    trees.write("src/b", "new!");
    trees.write("src/c", "{{X}}");
    trees.write("src/big", vec![b'x'; 300_000]);
    symlink("a", trees.path("src/l")).unwrap();
    trees.done(&["-T"], &[("X", "1")]);
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    for it in ["a", "b", "c", "big"] {
        File::open(trees.path("dst").join(it)).unwrap().set_modified(old).unwrap();
    }
    // Same length, same time as all files of an image have it, another content: only content tells.
    trees.write("dst/b", "old!");
    for it in ["src/b", "dst/b"] {
        File::open(trees.path(it)).unwrap().set_modified(old).unwrap();
    }
    let inodes =
        |names: &[&str]| names.iter().map(|it| trees.inode(&format!("dst/{it}"))).collect::<Vec<_>>();
    let before = inodes(&["a", "c", "big", "l"]);
    assert_eq!(trees.done(&["-T"], &[("X", "1")]), "copy: 1 file copied, 4 unchanged\n");
    assert_eq!(inodes(&["a", "c", "big", "l"]), before);
    for it in ["a", "c", "big"] {
        assert_eq!(trees.modified(&format!("dst/{it}")), old, "{it}");
    }
    assert_eq!(trees.read("dst/b"), "new!");
    // Only the mode differs: the file stays the same one.
    trees.chmod("src/a", 0o711);
    assert!(trees.done(&["-T"], &[("X", "1")]).contains("1 mode or owner set"));
    assert_eq!((trees.mode("dst/a"), trees.inode("dst/a")), (0o711, before[0]));
    assert_eq!(trees.modified("dst/a"), old);
    // Another value is another file, as new as that.
    trees.done(&["-T"], &[("X", "2")]);
    assert_eq!(trees.read("dst/c"), "2");
    assert!(trees.modified("dst/c") > trees.modified("src/c") - Duration::from_secs(1));
}

#[test]
fn a_second_run_sees_each_change_however_soon_it_comes() {
    let trees = Trees::new();
    for round in 0..60 {
        trees.write("src/a", format!("{round:04}"));
        trees.done(&["-q"], &[]);
        assert_eq!(trees.read("dst/a"), format!("{round:04}"));
    }
    // What is in DST was written by somebody else, or SRC's time was put back.
    trees.write("dst/a", "else");
    trees.done(&["-q"], &[]);
    assert_eq!(trees.read("dst/a"), "0059");
    let time = trees.modified("src/a");
    trees.write("src/a", "back");
    File::open(trees.path("src/a")).unwrap().set_modified(time).unwrap();
    trees.done(&["-q"], &[]);
    assert_eq!(trees.read("dst/a"), "back");
    // Without templates it was copied as it is; with them it is another file.
    trees.write("src/t", "{{X}}");
    trees.done(&["-q"], &[]);
    let written = Instant::now();
    while written.elapsed() < Duration::from_millis(60) {
        trees.done(&["-q"], &[]);
    }
    trees.done(&["-q", "-T"], &[("X", "1")]);
    assert_eq!(trees.read("dst/t"), "1");
}

#[test]
fn hard_links_stay_one_file() {
    let trees = Trees::new();
    trees.write("src/a", "one {{X}}");
    trees.write("src/d/other", "two");
    for (from, to) in [("src/a", "src/b"), ("src/a", "src/d/c"), ("src/d/other", "src/d/other2")] {
        fs::hard_link(trees.path(from), trees.path(to)).unwrap();
    }
    trees.write("dst/b", "old");
    assert_eq!(
        trees.done(&["-T"], &[("X", "1")]),
        "copy: 2 files copied, 0 unchanged, 3 links, 1 directory created\n"
    );
    assert_eq!(trees.inode("dst/a"), trees.inode("dst/b"));
    assert_eq!(trees.inode("dst/a"), trees.inode("dst/d/c"));
    assert_eq!(trees.inode("dst/d/other"), trees.inode("dst/d/other2"));
    assert_ne!(trees.inode("dst/a"), trees.inode("dst/d/other"));
    assert_eq!(trees.read("dst/d/c"), "one 1");
    assert_eq!(trees.done(&["-T"], &[("X", "1")]), "copy: 0 files copied, 5 unchanged\n");
    // Where only one of the names is a template, they are two files.
    trees.done(&["-T", "--template-glob", "b"], &[("X", "2")]);
    assert_eq!((trees.read("dst/a"), trees.read("dst/b")), ("one {{X}}".to_owned(), "one 2".to_owned()));
}

#[test]
fn holes_stay_holes() {
    let trees = Trees::new();
    let mut file = File::create(trees.path("src/sparse")).unwrap();
    file.write_all(b"begin").unwrap();
    file.seek(SeekFrom::Start(20 << 20)).unwrap();
    file.write_all(b"middle").unwrap();
    file.set_len(40 << 20).unwrap();
    drop(file);
    trees.done(&[], &[]);
    let (src, dst) =
        (trees.path("src/sparse").metadata().unwrap(), trees.path("dst/sparse").metadata().unwrap());
    assert_eq!(src.len(), dst.len());
    assert!(dst.blocks() * 512 < 1 << 20, "{} blocks", dst.blocks());
    assert!(fs::read(trees.path("src/sparse")).unwrap() == fs::read(trees.path("dst/sparse")).unwrap());
    assert_eq!(trees.done(&[], &[]), "copy: 0 files copied, 1 unchanged\n");
}

#[test]
fn types_that_do_not_fit_are_all_told_and_nothing_is_done() {
    let trees = Trees::new();
    trees.write("src/fine", "fine");
    trees.write("src/file-over-folder", "");
    trees.write("src/folder-over-file/x", "");
    trees.write("src/over-pipe", "");
    symlink("x", trees.path("src/link-over-folder")).unwrap();
    trees.write("src/folder-over-dangling/x", "");
    for it in ["dst/file-over-folder", "dst/link-over-folder"] {
        fs::create_dir(trees.path(it)).unwrap();
    }
    trees.write("dst/folder-over-file", "old");
    symlink("nowhere", trees.path("dst/folder-over-dangling")).unwrap();
    nix::unistd::mkfifo(&trees.path("dst/over-pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let before = trees.list("dst");
    let run = trees.copy(&["src", "dst", "--", "touch", "ran"], &[]);
    expect![[r#"
        error: dst/file-over-folder: expected a file, found a directory
        error: dst/folder-over-dangling: expected a directory, found a dangling symbolic link
        error: dst/folder-over-file: expected a directory, found a file
        error: dst/link-over-folder: expected a symbolic link, found a directory
        error: dst/over-pipe: is a device, a pipe or a socket
    "#]]
    .assert_eq(&run.stderr);
    assert_eq!(run.code, 1);
    assert_eq!(trees.list("dst"), before);
    assert!(!trees.there("ran"));
}

#[test]
fn what_cannot_be_read_is_an_error_before_anything_is_written() {
    let trees = Trees::new();
    trees.write("src/a", "");
    trees.write("src/secret", "");
    trees.write("src/closed/x", "");
    trees.chmod("src/secret", 0);
    trees.chmod("src/closed", 0);
    for it in ["", "src", "dst"] {
        trees.chmod(it, 0o777);
    }
    let mut command = trees.command(&["src", "dst"], &[]);
    if nix::unistd::geteuid().is_root() {
        use std::os::unix::process::CommandExt;
        // The binary may be in a folder that is root's alone.
        fs::copy(env!("CARGO_BIN_EXE_conlink"), trees.path("copy")).unwrap();
        command = std::process::Command::new(trees.path("copy"));
        command.args(["src", "dst"]).current_dir(trees.dir.path()).uid(65534).gid(65534);
    }
    let run = run(command);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("error: src/closed: Permission denied"), "{}", run.stderr);
    assert!(run.stderr.contains("error: src/secret: Permission denied"), "{}", run.stderr);
    assert!(trees.list("dst").is_empty());
    trees.chmod("src/closed", 0o700);
}

#[test]
fn patterns_choose_what_is_copied() {
    let trees = Trees::new();
    for it in ["a.conf", "b.txt", "etc/c.conf", "etc/d.txt", "cache/x.conf", "deep/er/e.conf", "only/txt.txt"]
    {
        trees.write(format!("src/{it}"), "");
    }
    trees.done(&["--include", "*.conf", "--exclude", "cache"], &[]);
    assert_eq!(trees.list("dst").join(" "), "a.conf deep/ deep/er/ deep/er/e.conf etc/ etc/c.conf");
    let trees_only = |options: &[&str]| {
        fs::remove_dir_all(trees.path("dst")).unwrap();
        fs::create_dir(trees.path("dst")).unwrap();
        trees.done(options, &[]);
        trees.list("dst").join(" ")
    };
    assert_eq!(trees_only(&["--include", "etc"]), "etc/ etc/c.conf etc/d.txt");
    assert_eq!(trees_only(&["--include", "etc/*.txt", "--include", "/b.txt"]), "b.txt etc/ etc/d.txt");
    assert_eq!(
        trees_only(&["--exclude", "*.conf", "--exclude", "only/"]),
        "b.txt cache/ deep/ deep/er/ etc/ etc/d.txt"
    );
}

#[test]
fn dry_run_and_diff_show_what_would_be_done() {
    let trees = Trees::new();
    trees.write("src/new", "line\n");
    trees.write("src/same", "same");
    trees.write("src/text", "one\ntwo {{X}}\nthree\n");
    trees.write("src/mode", "");
    trees.chmod("src/mode", 0o600);
    trees.write("src/d/x", b"\0");
    symlink("x", trees.path("src/d/l")).unwrap();
    for (name, text) in [("same", "same"), ("text", "one\n2\nthree\n"), ("mode", "")] {
        trees.write(format!("dst/{name}"), text);
        trees.chmod(&format!("dst/{name}"), 0o644);
        trees.chmod(&format!("src/{name}"), if name == "mode" { 0o600 } else { 0o644 });
    }
    let before = trees.list("dst");
    let run = trees.copy(&["-n", "-T", "src", "dst", "--", "touch", "ran"], &[("X", "2")]);
    expect![[r#"
        folder dst/d
        mode dst/mode
        create dst/new
        replace dst/text
        link dst/d/l
        create dst/d/x
    "#]]
    .assert_eq(&run.stdout);
    assert_eq!(
        run.stderr,
        "copy: 3 files to copy, 1 unchanged, 1 mode or owner set, 1 link, 1 directory created\n"
    );
    assert_eq!((run.code, trees.list("dst"), trees.there("ran")), (0, before, false));
    let run = trees.copy(&["--diff", "-T", "src", "dst"], &[("X", "2")]);
    expect![[r#"
        --- /dev/null
        +++ dst/new
        @@ -0,0 +1 @@
        +line
        --- dst/text
        +++ dst/text
        @@ -1,3 +1,3 @@
         one
        -2
        +two 2
         three
        Binary or large file dst/d/x differs
    "#]]
    .assert_eq(&run.stdout);
    assert_eq!((run.code, trees.read("dst/text").as_str()), (0, "one\ntwo 2\nthree\n"));
    let run = trees.copy(&["-n", "--diff", "-T", "src", "dst"], &[("X", "2")]);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""));
}

#[test]
fn dst_may_be_within_src_around_it_or_the_same() {
    let trees = Trees::new();
    trees.write("src/a", "1");
    fs::create_dir(trees.path("src/out")).unwrap();
    for _ in 0..2 {
        let run = trees.copy(&["src", "src/out"], &[]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(run.stderr.contains("warning: src/out: skipped: this is DST itself"), "{}", run.stderr);
        assert_eq!(trees.list("src/out").join(" "), "a");
    }
    trees.write("src/t", "{{X}}");
    assert_eq!(trees.copy(&["-T", "src", "src"], &[("X", "1")]).code, 0);
    assert_eq!(trees.read("src/t"), "1");
    assert_eq!(trees.copy(&["src", "."], &[]).code, 0);
    assert_eq!(trees.read("a"), "1");
    // A folder that is not there may be made.
    assert_eq!(trees.copy(&["--mkdir", "src", "made/so", "--", "true"], &[]).code, 0);
    assert_eq!(trees.read("made/so/a"), "1");
}

#[test]
fn a_running_program_and_a_read_only_file_are_replaced() {
    let trees = Trees::new();
    fs::copy("/bin/sleep", trees.path("dst/sleep")).unwrap();
    trees.write("src/sleep", "#!/bin/sh\n");
    trees.write("src/read-only", "new");
    trees.write("dst/read-only", "old");
    trees.chmod("dst/read-only", 0o444);
    let mut running = std::process::Command::new(trees.path("dst/sleep")).arg("60").spawn().unwrap();
    trees.done(&[], &[]);
    assert!(running.try_wait().unwrap().is_none());
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(trees.read("dst/sleep"), "#!/bin/sh\n");
    assert_eq!(trees.read("dst/read-only"), "new");
}

#[test]
fn a_reader_sees_the_old_file_or_the_new_one() {
    let trees = Trees::new();
    let contents = ["a".repeat(200_000), "b".repeat(300_000)];
    trees.write("dst/file", &contents[0]);
    let path: PathBuf = trees.path("dst/file");
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let text = fs::read_to_string(&path).unwrap();
                assert!(contents.contains(&text), "half a file of {} bytes", text.len());
                seen += 1;
            }
            seen
        });
        for it in 0..40 {
            trees.write("src/file", &contents[(it + 1) % 2]);
            trees.done(&["-q"], &[]);
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(reader.join().unwrap() > 10);
    });
}

#[test]
fn a_file_that_changes_while_it_is_read_comes_to_a_version_it_had() {
    let trees = Trees::new();
    let over = std::sync::atomic::AtomicBool::new(false);
    let path = trees.path("src/file");
    fs::write(&path, "").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut length = 0;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                length = (length + 70_001) % 1_000_000;
                fs::write(&path, vec![b'x'; length]).unwrap();
            }
        });
        for _ in 0..15 {
            let run = trees.copy(&["src", "dst"], &[]);
            assert_eq!(run.code, 0, "{}", run.stderr);
            assert!(fs::read(trees.path("dst/file")).unwrap().iter().all(|it| *it == b'x'));
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(trees.list("dst").join(" "), "file");
}
