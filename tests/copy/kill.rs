//! What a run leaves that does not come to its end.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Trees;

/// Files in folders that are there and in new ones, small and large, templates, links.
fn trees() -> Trees {
    let trees = Trees::new();
    for folder in ["there", "new"] {
        for it in 0..20 {
            trees.write(format!("src/{folder}/{it}"), format!("new {it} {{{{X}}}}\n").repeat(1 + it * 40));
        }
        std::os::unix::fs::symlink("0", trees.path(format!("src/{folder}/link"))).unwrap();
        fs::hard_link(trees.path(format!("src/{folder}/1")), trees.path(format!("src/{folder}/hard")))
            .unwrap();
    }
    trees.write("src/there/large", vec![b'n'; 300_000]);
    trees
}

fn reset(trees: &Trees) {
    fs::remove_dir_all(trees.path("dst")).unwrap();
    for it in 0..20 {
        trees.write(format!("dst/there/{it}"), "old");
    }
    trees.write("dst/there/large", "old");
    trees.write("dst/there/foreign", "foreign");
}

#[test]
fn after_a_kill_every_file_is_old_or_new_and_the_next_run_leaves_nothing_behind() {
    let trees = trees();
    let env = [("X", "y")];
    let expected = |path: &str| -> String { trees.read(format!("src/{path}")).replace("{{X}}", "y") };
    reset(&trees);
    let start = Instant::now();
    trees.done(&["-T", "-q"], &env);
    let whole = start.elapsed();
    let after = trees.list("dst");
    let mut leftovers = 0;
    let mut amid = 0;
    for round in 0_u32..200 {
        reset(&trees);
        let mut child =
            trees.command(&["-T", "-q", "src", "dst"], &env).stdin(Stdio::null()).spawn().unwrap();
        // Moments spread over the time that a run takes, by a fixed rule.
        let moment = whole.mul_f64(f64::from(round * 7919 % 200) / 200.0);
        let end = Instant::now() + moment;
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let listed = trees.list("dst");
        for path in listed.iter().filter(|it| !it.ends_with(['/', '@'])) {
            if path.contains(".conlink-copy-") {
                leftovers += 1;
                continue;
            }
            let text = trees.read(format!("dst/{path}"));
            let old = ["old", "foreign"].contains(&text.as_str()) && path.starts_with("there/");
            assert!(old || text == expected(path), "{path} is neither old nor new: {} bytes", text.len());
        }
        amid += u32::from(listed.len() > 23 && listed != after);
        trees.done(&["-T", "-q"], &env);
        assert_eq!(trees.list("dst"), after, "round {round}");
    }
    eprintln!("{amid} of 200 kills came amid a run, {leftovers} incomplete files were left and removed");
    assert!(amid >= 10, "only {amid} kills came amid a run");
    assert_eq!(trees.read("dst/there/foreign"), "foreign");
    assert_eq!(trees.read("dst/new/5"), expected("new/5"));
    assert_eq!(trees.inode("dst/new/1"), trees.inode("dst/new/hard"));
}

#[test]
fn a_signal_stops_it_and_leaves_nothing_incomplete() {
    let trees = Trees::new();
    // Nothing but holes, which take minutes to compare.
    for it in ["src/large", "dst/large"] {
        fs::File::create(trees.path(it)).unwrap().set_len(1 << 40).unwrap();
    }
    let mut command = trees.command(&["src", "dst", "--", "touch", "ran"], &[]);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let status = Path::new("/proc").join(pid.to_string()).join("task");
    let end = Instant::now() + Duration::from_secs(10);
    // The thread that copies is there: signals are held by then.
    while fs::read_dir(&status).map_or(0, Iterator::count) < 2 {
        assert!(Instant::now() < end && child.try_wait().unwrap().is_none());
    }
    kill(pid, Signal::SIGTERM).unwrap();
    let status = loop {
        if let Some(it) = child.try_wait().unwrap() {
            break it;
        }
        assert!(Instant::now() < end, "it does not stop");
        std::thread::sleep(Duration::from_millis(2));
    };
    assert_eq!(status.code(), Some(143));
    assert_eq!(trees.list("dst").join(" "), "large");
    assert!(!trees.there("ran"));
}

#[test]
fn two_runs_into_one_folder_wait_for_each_other() {
    let trees = trees();
    reset(&trees);
    let file = fs::File::create(trees.path("dst/.conlink-copy-lock")).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    let mut command = trees.command(&["src", "dst"], &[]);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut stderr, &mut said).unwrap();
    assert_eq!(said, "Waiting for another copy into 'dst'...\n");
    assert_eq!(trees.read("dst/there/1"), "old");
    drop(lock);
    assert!(child.wait().unwrap().success());
    assert_ne!(trees.read("dst/there/1"), "old");
    assert!(!trees.there("dst/.conlink-copy-lock"));
    // Whoever may only read DST holds up nobody.
    reset(&trees);
    let folder = fs::File::open(trees.path("dst")).unwrap();
    let lock = Flock::lock(folder, FlockArg::LockExclusive).unwrap();
    trees.done(&["-q"], &[]);
    drop(lock);
    // Both at once, many times: what one is at the other does not take for leftovers.
    for _ in 0..10 {
        reset(&trees);
        let mut children: Vec<_> = (0..4)
            .map(|_| trees.command(&["-q", "src", "dst"], &[]).stdin(Stdio::null()).spawn().unwrap())
            .collect();
        for child in &mut children {
            assert!(child.wait().unwrap().success());
        }
        assert!(trees.list("dst").iter().all(|it| !it.contains(".conlink-copy-")));
    }
}
