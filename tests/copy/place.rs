//! Where things go: links in DST, mounts, read-only folders.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use expect_test::expect;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::Trees;
use crate::support::{may_unshare, skip};

#[test]
fn links_to_folders_in_dst_are_entered() {
    let trees = Trees::new();
    for it in ["lib/x.so", "usr/lib/y.so", "var/run/pid", "abs/z"] {
        trees.write(format!("src/{it}"), it);
    }
    fs::create_dir_all(trees.path("dst/usr/lib")).unwrap();
    fs::create_dir_all(trees.path("dst/run")).unwrap();
    fs::create_dir_all(trees.path("dst/var")).unwrap();
    symlink("usr/lib", trees.path("dst/lib")).unwrap();
    symlink("../run", trees.path("dst/var/run")).unwrap();
    symlink("/run", trees.path("dst/abs")).unwrap();
    trees.done(&[], &[]);
    assert_eq!(
        trees.list("dst").join(" "),
        "abs@ lib@ run/ run/pid run/z usr/ usr/lib/ usr/lib/x.so usr/lib/y.so var/ var/run@"
    );
    assert_eq!(trees.done(&[], &[]), "copy: 0 files copied, 4 unchanged\n");
}

#[test]
fn nothing_leaves_dst() {
    let trees = Trees::new();
    trees.write("outside/x", "untouched");
    trees.write("secret", "untouched");
    for it in ["up/x", "upfile", "loop/x", "clever/x"] {
        trees.write(format!("src/{it}"), "new");
    }
    symlink("../outside", trees.path("dst/up")).unwrap();
    symlink("../secret", trees.path("dst/upfile")).unwrap();
    symlink("loop", trees.path("dst/loop")).unwrap();
    fs::create_dir_all(trees.path("dst/a/b")).unwrap();
    symlink("a/b/../../../outside", trees.path("dst/clever")).unwrap();
    let run = trees.copy(&["src", "dst"], &[]);
    expect![[r#"
        error: dst/clever: the symbolic link leads out of DST
        error: dst/loop: too many levels of symbolic links
        error: dst/up: the symbolic link leads out of DST
        error: dst/upfile: the symbolic link leads out of DST
    "#]]
    .assert_eq(&run.stderr);
    assert_eq!(run.code, 1);
    assert_eq!((trees.read("outside/x").as_str(), trees.read("secret").as_str()), ("untouched", "untouched"));
    // An absolute link is one within DST, as it is for a process with that root.
    fs::remove_dir_all(trees.path("dst")).unwrap();
    fs::create_dir_all(trees.path("dst/etc")).unwrap();
    symlink("/etc/real", trees.path("dst/link")).unwrap();
    trees.write("dst/etc/real", "old");
    fs::remove_dir_all(trees.path("src")).unwrap();
    trees.write("src/link", "new");
    trees.done(&[], &[]);
    assert_eq!(trees.read("dst/etc/real"), "new");
    assert!(trees.path("dst/link").is_symlink());
}

#[test]
fn a_link_to_a_file_is_followed_and_one_to_nothing_replaced() {
    let trees = Trees::new();
    trees.write("src/etc/resolv.conf", "new");
    trees.write("src/etc/mtab", "new");
    trees.write("dst/run/real", "old");
    fs::create_dir(trees.path("dst/etc")).unwrap();
    symlink("../run/real", trees.path("dst/etc/resolv.conf")).unwrap();
    symlink("../run/none", trees.path("dst/etc/mtab")).unwrap();
    trees.done(&[], &[]);
    assert_eq!(trees.list("dst").join(" "), "etc/ etc/mtab etc/resolv.conf@ run/ run/real");
    assert_eq!((trees.read("dst/run/real").as_str(), trees.read("dst/etc/mtab").as_str()), ("new", "new"));
    assert_eq!(trees.done(&[], &[]), "copy: 0 files copied, 2 unchanged\n");
}

#[test]
fn two_files_that_links_lead_to_one_place_are_an_error() {
    let trees = Trees::new();
    trees.write("src/lib/x", "1");
    trees.write("src/usr/lib/x", "2");
    fs::create_dir_all(trees.path("dst/usr/lib")).unwrap();
    symlink("usr/lib", trees.path("dst/lib")).unwrap();
    let run = trees.copy(&["src", "dst"], &[]);
    assert_eq!(run.stderr, "error: dst/usr/lib/x: both src/lib/x and src/usr/lib/x would be copied here\n");
    assert_eq!((run.code, trees.there("dst/usr/lib/x")), (1, false));
}

/// Runs `f` in a mount namespace of its own.
fn with_mounts(what: &str, f: impl FnOnce(&Trees) + Send) {
    if !may_unshare(what) {
        return;
    }
    let body = || {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        f(&Trees::new());
    };
    std::thread::scope(|scope| scope.spawn(body).join().unwrap());
}

fn bind(from: &Path, to: &Path) {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

#[test]
fn what_is_a_mount_of_its_own_is_written_in_place() {
    with_mounts("mounts", |trees| {
        // As an engine does it with these two in every container.
        for it in ["hosts", "resolv.conf"] {
            trees.write(format!("engine/{it}"), "a longer text that was there before\n");
            trees.chmod(&format!("engine/{it}"), 0o640);
            trees.write(format!("dst/etc/{it}"), "");
            bind(&trees.path("engine").join(it), &trees.path("dst/etc").join(it));
        }
        trees.write("src/etc/hosts", "{{ADDR}} web\n");
        trees.write("src/etc/resolv.conf", "nameserver {{ADDR}}\n");
        trees.write("src/etc/plain", "plain");
        let inode = trees.inode("engine/hosts");
        let said = trees.done(&["-T"], &[("ADDR", "10.0.0.1")]);
        assert_eq!(said, "copy: 3 files copied, 0 unchanged, 2 written in place\n");
        assert_eq!(trees.read("engine/hosts"), "10.0.0.1 web\n");
        assert_eq!(trees.read("dst/etc/resolv.conf"), "nameserver 10.0.0.1\n");
        assert_eq!((trees.inode("engine/hosts"), trees.mode("engine/hosts")), (inode, 0o640));
        assert_eq!(trees.list("dst/etc").join(" "), "hosts plain resolv.conf");
        let said = trees.done(&["-T"], &[("ADDR", "10.0.0.1")]);
        assert!(said.contains("0 files copied, "), "{said}");
    });
}

#[test]
fn a_file_that_can_be_written_in_a_folder_that_cannot() {
    with_mounts("read-only folder", |trees| {
        let none = None::<&str>;
        trees.write("real", "old");
        trees.write("dst/etc/hosts", "");
        bind(&trees.path("dst"), &trees.path("dst"));
        bind(&trees.path("real"), &trees.path("dst/etc/hosts"));
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, &trees.path("dst"), none, flags, none).unwrap();
        trees.write("src/etc/hosts", "new");
        assert!(trees.done(&[], &[]).contains("1 written in place"));
        assert_eq!(trees.read("real"), "new");
        // One that is not there cannot be made, and the others are all the same.
        trees.write("src/etc/other", "x");
        trees.write("src/etc/hosts", "newer");
        let run = trees.copy(&["src", "dst", "--", "touch", "ran"], &[]);
        assert_eq!(run.code, 1);
        expect![[r#"
            error: copy src/etc/other to dst/etc/other: Read-only file system (os error 30)
        "#]]
        .assert_eq(&run.stderr);
        assert_eq!(trees.read("real"), "newer");
        assert!(!trees.there("ran"));
    });
}

#[test]
fn between_file_systems_and_onto_overlay() {
    with_mounts("file systems", |trees| {
        let none = None::<&str>;
        mount(Some("tmpfs"), &trees.path("dst"), Some("tmpfs"), MsFlags::empty(), none).unwrap();
        trees.write("src/a", "a");
        trees.write("src/b", vec![7; 3_000_000]);
        fs::hard_link(trees.path("src/a"), trees.path("src/a2")).unwrap();
        // Inside DST is another file system, which no link crosses.
        fs::create_dir(trees.path("dst/other")).unwrap();
        fs::create_dir(trees.path("src/other")).unwrap();
        mount(Some("tmpfs"), &trees.path("dst/other"), Some("tmpfs"), MsFlags::empty(), none).unwrap();
        fs::hard_link(trees.path("src/a"), trees.path("src/other/a3")).unwrap();
        trees.done(&[], &[]);
        assert_eq!(fs::read(trees.path("dst/b")).unwrap(), vec![7; 3_000_000]);
        assert_eq!(trees.inode("dst/a"), trees.inode("dst/a2"));
        assert_eq!(trees.read("dst/other/a3"), "a");
        assert_ne!(
            trees.path("dst/a").metadata().unwrap().dev(),
            trees.path("dst/other/a3").metadata().unwrap().dev()
        );
        for it in ["lower/d", "upper", "work", "merged"] {
            fs::create_dir_all(trees.path("dst").join(it)).unwrap();
        }
        trees.write("dst/lower/a", "lower");
        trees.write("dst/lower/d/x", "lower");
        let text = |it: &str| trees.path("dst").join(it).display().to_string();
        let options =
            format!("lowerdir={},upperdir={},workdir={}", text("lower"), text("upper"), text("work"));
        let merged = trees.path("dst/merged");
        if let Err(error) =
            mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        {
            skip("copy onto overlay", &error.to_string());
            return;
        }
        trees.write("src/d/x", "new");
        let run = trees.copy(&["src", "dst/merged"], &[]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert_eq!(
            (trees.read("dst/merged/a").as_str(), trees.read("dst/merged/d/x").as_str()),
            ("a", "new")
        );
        assert_eq!(trees.read("dst/lower/d/x"), "lower");
    });
}
