//! Kills at any moment, and several runs at once.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::mdc::{Project, walk};

/// Two modes that differ in every file.
fn project() -> Project {
    let project = Project::new(&[]);
    for mode in ["a", "b"] {
        let filler = mode.repeat(2000);
        project.write(&format!("modes/{mode}/env"), format!("WHO={mode}\nFILLER={filler}\n").as_bytes());
        project.write(&format!("modes/{mode}/compose.yaml"), b"services: {}\n");
        for it in 0..40 {
            project.write(&format!("modes/{mode}/s{}/files/d{}/f{it}", it % 3, it % 7), filler.as_bytes());
        }
        project.write(&format!("modes/{mode}/s0/files/only-{mode}"), filler.as_bytes());
    }
    project.write("modes/a/s0/files/kind", b"file");
    project.write("modes/b/s0/files/kind/in", b"folder");
    project
}

/// What there is but for the modes and what waits to be moved in.
fn made(project: &Project) -> BTreeMap<String, Vec<u8>> {
    let root = project.path("");
    let is_made = |(name, path): &(String, PathBuf)| {
        path.is_file() && !name.starts_with("modes/") && !name.contains(".mdc-new")
    };
    walk(&root).filter(is_made).map(|(name, path)| (name, fs::read(path).unwrap())).collect()
}

#[test]
fn a_kill_at_any_moment_leaves_each_file_old_or_new_and_the_next_run_completes_it() {
    let project = project();
    project.done(&["b"]);
    let new = made(&project);
    project.done(&["a"]);
    let old = made(&project);
    // How long a run takes decides where kills fall: the middle of five.
    let mut times: Vec<Duration> = (0..5)
        .map(|_| {
            project.done(&["a"]);
            let begun = Instant::now();
            project.done(&["b"]);
            begun.elapsed()
        })
        .collect();
    times.sort();
    let whole = times[2];
    project.done(&["a"]);
    let mut states = BTreeMap::new();
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    let (mut from, mut to, mut target) = (&old, &new, "b");
    for round in 0..200 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let moment = whole.mul_f64((seed % 1000) as f64 / 900.0);
        let mut command = project.command(&[target], &[]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begun = Instant::now();
        let mut child = command.spawn().unwrap();
        while begun.elapsed() < moment {
            std::thread::sleep(Duration::from_micros(50));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let found = made(&project);
        let mut changed = 0;
        for (name, content) in &found {
            let is_old = from.get(name) == Some(content);
            let is_new = to.get(name) == Some(content);
            assert!(is_old || is_new, "round {round}: {name} is neither old nor new");
            changed += usize::from(!is_old);
        }
        // Nothing that is in both is ever missing, other than what changes its kind.
        for name in from.keys().filter(|it| to.contains_key(*it)) {
            assert!(found.contains_key(name), "round {round}: {name} is missing");
        }
        *states
            .entry(if changed == 0 {
                "old"
            } else if found == *to {
                "new"
            } else {
                "amid"
            })
            .or_insert(0) += 1;
        // The next run completes it, whichever way it goes.
        if round % 2 == 0 {
            project.done(&[target]);
            assert_eq!(made(&project), *to, "round {round}");
            (from, to) = (to, from);
            target = if target == "a" { "b" } else { "a" };
        } else {
            let back = if target == "a" { "b" } else { "a" };
            project.done(&[back]);
            assert_eq!(made(&project), *from, "round {round}");
        }
        assert!(!project.exists(".files/.mdc-new") && !project.exists(".env.mdc-new"));
    }
    assert!(states.get("amid").is_some_and(|it| *it > 5), "few kills were amid the work: {states:?}");
}

#[test]
fn two_runs_in_one_folder_take_turns() {
    let project = project();
    project.done(&["a"]);
    let old = made(&project);
    project.done(&["b"]);
    let new = made(&project);
    for _ in 0..10 {
        let start = |mode: &str| {
            let mut command = project.command(&[mode], &[]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().unwrap()
        };
        let mut children = [start("a"), start("b"), start("a"), start("b")];
        for child in &mut children {
            let end = Instant::now() + Duration::from_secs(10);
            let status = loop {
                if let Some(it) = child.try_wait().unwrap() {
                    break it;
                }
                assert!(Instant::now() < end, "a run does not end");
                std::thread::sleep(Duration::from_millis(1));
            };
            assert!(status.success());
        }
        let found = made(&project);
        assert!(found == old || found == new);
    }
}

#[test]
fn a_run_waits_for_another_one_and_says_so() {
    let project = project();
    let folder = fs::File::open(project.path("")).unwrap();
    let lock = nix::fcntl::Flock::lock(folder, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let mut command = project.command(&["a"], &[]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let expected = "mdc: waiting for another mdc in this directory\n";
    let mut line = vec![0; expected.len()];
    child.stderr.as_mut().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(String::from_utf8_lossy(&line), expected);
    assert!(!project.exists(".env"));
    drop(lock);
    assert!(child.wait().unwrap().success());
    assert!(project.exists(".env"));
}
