//! What mdc refuses, and leaves as it was.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;

use crate::mdc::Project;
use crate::support::run;

fn project() -> Project {
    let project = Project::new(&[
        ("modes/a/env", "A=1\n"),
        ("modes/a/s/files/x", "1"),
        ("modes/b/env", "B=1\n"),
        ("data/precious", "p"),
    ]);
    project.done(&["a"]);
    project
}

#[test]
fn folders_that_are_not_mdcs_are_not_touched() {
    let project = project();
    let dir = project.path("").display().to_string();
    let modes = project.path("modes").display().to_string();
    let contains = "MDC_FILES_DIR must not be '.' or '/', nor contain the working directory";
    for (files_dir, message) in [
        (".", contains),
        ("./", contains),
        ("/", contains),
        ("..", contains),
        ("data/..", contains),
        ("data/../..", contains),
        ("data/.", contains),
        (dir.as_str(), contains),
        ("modes", "must not contain each other"),
        (modes.as_str(), "must not contain each other"),
        ("modes/a", "must not contain each other"),
        ("modes/.files", "must not contain each other"),
        ("data", "has files that mdc did not create, such as precious"),
        ("/tmp", contains),
        ("/tmp/conlink-no-such-folder", "must be in the project directory"),
        ("../elsewhere", "must be in the project directory"),
        (".env", "must be a directory"),
    ] {
        project.refused(&["a,b"], &[("MDC_FILES_DIR", files_dir)], message);
    }
    symlink("data", project.path("link")).unwrap();
    project.refused(&["a"], &[("MDC_FILES_DIR", "link")], "must be a directory, not a symbolic link");
    project.refused(&["a"], &[("MDC_FILES_DIR", "link/")], "must be a directory, not a symbolic link");
    symlink("/tmp", project.path("out")).unwrap();
    project.refused(&["a"], &[("MDC_FILES_DIR", "out/.files")], "must be in the project directory");
    project.refused(
        &["a"],
        &[("MDC_FILES_DIR", "data"), ("ENV_FILE", "data/.env")],
        "must not contain the env file",
    );
}

#[test]
fn a_name_with_spaces_is_one_folder() {
    let project = Project::new(&[("modes/a/s/files/x", "1"), ("my/keep", ""), ("files/keep", "")]);
    for _ in 0..2 {
        let run = project.mdc_with(&["a"], &[("MDC_FILES_DIR", "my files")]);
        assert_eq!(run.code, 0, "{run:?}");
    }
    assert_eq!(project.read("my files/s/x"), "1");
    assert!(project.exists("my/keep") && project.exists("files/keep"));
}

#[test]
fn a_folder_of_the_reference_tool_is_taken_over() {
    // Its usual name, beside an env file of its making.
    let project = Project::new(&[
        ("modes/a/s/files/x", "1"),
        (".files/s/x", "0"),
        (".files/s/written-by-a-container", ""),
        (".env", "### mdc command line: mdc a\n"),
    ]);
    project.done(&["a"]);
    assert_eq!(project.read(".files/s/x"), "1");
    assert!(!project.exists(".files/s/written-by-a-container"));
    assert!(!project.exists(".env.mdc-bak"));
    // Another name, and nothing in it but what modes have.
    let project = Project::new(&[
        ("modes/a/s/files/x", "1"),
        ("modes/other/s/files/y", "2"),
        ("out/s/x", "0"),
        ("out/s/y", "2"),
    ]);
    let run = project.mdc_with(&["a"], &[("MDC_FILES_DIR", "out")]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(!project.exists("out/s/y"));
    // A stranger's, until it is said to be ours.
    project.write("their/file", b"");
    project.refused(&["a"], &[("MDC_FILES_DIR", "their")], "such as file");
    let run = project.mdc_with(&["--force", "a"], &[("MDC_FILES_DIR", "their")]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(project.exists("their/s/x") && !project.exists("their/file"));
}

#[test]
fn an_env_file_of_somebody_else_is_kept() {
    let project = Project::new(&[("modes/a/env", "A=1"), (".env", "SECRET=1\n")]);
    fs::set_permissions(project.path(".env"), Permissions::from_mode(0o600)).unwrap();
    let run = project.mdc(&["a"]);
    assert_eq!(run.stderr, "MODES:  a\nwarning: .env was not written by mdc; saved as .env.mdc-bak\n");
    assert_eq!(project.read(".env.mdc-bak"), "SECRET=1\n");
    let bits = |name: &str| project.path(name).metadata().unwrap().mode() & 0o777;
    assert_eq!((bits(".env"), bits(".env.mdc-bak")), (0o600, 0o600));
    // Once more, with another one: both are kept.
    project.write(".env", b"SECRET=2\n");
    project.done(&["a"]);
    assert_eq!(project.read(".env.mdc-bak"), "SECRET=1\n");
    assert_eq!(project.read(".env.mdc-bak.1"), "SECRET=2\n");
    // Our own is not backed up, and an empty one has nothing to lose.
    let before = project.snapshot().len();
    project.done(&["a"]);
    project.write(".env", b"");
    project.done(&["a"]);
    assert_eq!(project.snapshot().len(), before);
    // A link is replaced, and what it leads to stays.
    fs::remove_file(project.path(".env")).unwrap();
    project.write("shared.env", b"SHARED=1\n");
    symlink("shared.env", project.path(".env")).unwrap();
    project.done(&["a"]);
    assert_eq!(project.read("shared.env"), "SHARED=1\n");
    assert!(project.read(".env").starts_with("### mdc "));
}

#[test]
fn bad_input_changes_nothing() {
    let project = project();
    project.write("modes/deps-binary/deps", b"a\n\xff\xfe");
    project.refused(&["deps-binary"], &[], "error: ./modes/deps-binary/deps:2:1: the file is not UTF-8");
    project.write("modes/yaml/compose.yaml", b"services:\n  a: {image: x\n");
    project.refused(&["b,yaml"], &[], "error: ./modes/yaml/compose.yaml:3:1: ");
    project.write("modes/yaml-binary/compose.yaml", b"a: \xff\n");
    project.refused(
        &["yaml-binary"],
        &[],
        "error: ./modes/yaml-binary/compose.yaml:1:4: expected text in UTF-8, found the byte 0xff",
    );
    project.write("modes/env-binary/env", b"A=1\n\0\x01\xff");
    project.refused(
        &["env-binary"],
        &[],
        "error: ./modes/env-binary/env: expected variables, found a binary file",
    );
    project.write("modes/env-noise/env", b"\xff\xfe\x80");
    project.refused(&["env-noise"], &[], "error: ./modes/env-noise/env:1:1: ");
    project.write("modes/env-quote/env", b"A=1\nB='x\n");
    project.refused(&["env-quote"], &[], "error: ./modes/env-quote/env:2:3: the value begins with `'`");
    project.write("modes/env-template/env", b"A=1\nB=${A!}\n");
    project.refused(&["env-template"], &[], "error: ./modes/env-template/env:2: unexpected `!`");
    for name in ["a/b", "../modes/a", "..", "a|./b", "/etc", "+a/b"] {
        project.refused(&[name], &[], "is a path, not the name of a mode");
    }
    project.write("modes/leads-out/deps", b"a\n../../x\n");
    project.refused(&["leads-out"], &[], "error: ./modes/leads-out/deps:2: `../../x` is a path");
    project.refused(&["nope"], &[], "error: unknown mode `nope`");
    project.refused(&["a|"], &[], "error: MODES `a|`:1:2: `|` has no alternative behind it");
    project.refused(&["a"], &[("MODES_DIR", "none")], "error: none: No such file or directory");
    project.refused(&["a"], &[("ENV_FILE", "modes")], "error: modes: expected a file, found a directory");
    project.refused(&["a"], &[("ENV_FILE", "no/such/folder/env")], "cannot write to its directory");
    project.write("modes/socket/s/files/", b"");
    project.write("modes/reserved/.mdc/files/x", b"");
    project.refused(&["reserved"], &[], "the name is reserved for mdc");
    // All that is wrong is told at once.
    let all = project.mdc(&["yaml,env-quote,env-binary"]);
    assert_eq!(all.stderr.lines().count(), 3, "{}", all.stderr);
}

#[test]
fn a_folder_that_cannot_be_written_to_is_told_before_anything_is_done() {
    if !nix::unistd::geteuid().is_root() {
        crate::support::skip("a read-only project", "only root can become another user");
        return;
    }
    let project = project();
    let as_nobody = |modes: &str| {
        let mut command = project.command(&[modes], &[]);
        command.uid(65534).gid(65534);
        run(command)
    };
    fs::set_permissions(project.path(""), Permissions::from_mode(0o755)).unwrap();
    let before = project.snapshot();
    let told = as_nobody("b");
    assert_eq!(told.code, 1);
    assert!(
        told.stderr.contains("error: .env: cannot write to its directory: Permission denied"),
        "{}",
        told.stderr
    );
    assert_eq!(project.snapshot(), before);
    // The project is theirs, one folder within is not.
    std::os::unix::fs::chown(project.path(""), Some(65534), Some(65534)).unwrap();
    std::os::unix::fs::chown(project.path(".files"), Some(65534), Some(65534)).unwrap();
    let before = project.snapshot();
    let told = as_nobody("b");
    assert_eq!(told.code, 1);
    assert!(told.stderr.contains("error: ./.files/s: cannot write to the directory"), "{}", told.stderr);
    assert_eq!(project.snapshot(), before);
    project.write("modes/c/s/files/x", b"2");
    let before = project.snapshot();
    let told = as_nobody("c");
    assert_eq!(told.code, 1);
    assert!(told.stderr.contains("error: ./.files/s: cannot write to the directory"), "{}", told.stderr);
    assert_eq!(project.snapshot(), before);
    // What cannot be read is told of too.
    fs::set_permissions(project.path("modes/c/s/files/x"), Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(project.path(".files/s"), Some(65534), Some(65534)).unwrap();
    let before = project.snapshot();
    let told = as_nobody("c");
    assert_eq!(told.code, 1);
    assert!(told.stderr.contains("x: Permission denied"), "{}", told.stderr);
    assert_eq!(project.snapshot(), before);
}

#[test]
fn folders_that_are_swapped_for_links_meanwhile_lead_nowhere() {
    let project = Project::new(&[
        ("modes/a/s/files/dir/file", "a"),
        ("modes/a/s/files/dir/only-a", "a"),
        ("modes/b/s/files/dir/file", "b"),
        ("modes/b/s/files/dir/only-b", "b"),
        ("outside/file", "precious"),
        ("outside/only-a", "precious"),
        ("outside/only-b", "precious"),
    ]);
    project.done(&["a"]);
    let (dir, aside, link) = (project.path(".files/s/dir"), project.path("aside"), project.path("link"));
    symlink(project.path("outside"), &link).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // What a container that mounts the folder may do all the time.
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = fs::rename(&dir, &aside).and_then(|()| fs::rename(&link, &dir));
                let _ = fs::rename(&dir, &link).and_then(|()| fs::rename(&aside, &dir));
            }
        });
        for modes in ["b", "a"].iter().cycle().take(60) {
            project.mdc(&[modes]);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    for name in ["file", "only-a", "only-b"] {
        assert_eq!(project.read(&format!("outside/{name}")), "precious", "{name}");
    }
    assert_eq!(fs::read_dir(project.path("outside")).unwrap().count(), 3);
}

#[test]
fn what_is_mounted_below_the_folder_of_files_is_never_removed() {
    let project = Project::new(&[
        ("modes/a/s/files/dir/sub/file", "a"),
        ("modes/b/s/files/dir", "a file now"),
        ("modes/c/env", "C=1\n"),
        ("outside/file", "precious"),
    ]);
    project.done(&["a"]);
    // A bind mount from the same file system, which has the same device number.
    let mounted = |modes: &str| {
        let script = format!("mount --bind outside .files/s/dir/sub && exec \"$0\" {modes}");
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, env!("CARGO_BIN_EXE_conlink")]);
        command.current_dir(project.path(""));
        run(command)
    };
    if mounted("--version").code != 0 {
        return crate::support::skip("mounts below the folder of files", "nothing can be mounted here");
    }
    let before = project.snapshot();
    for modes in ["a", "b", "c"] {
        let told = mounted(&format!("mdc {modes}"));
        assert_eq!(told.code, 1, "{told:?}");
        let message = "./.files/s/dir/sub: a file system is mounted here; unmount it first";
        assert!(told.stderr.contains(message), "{}", told.stderr);
        assert_eq!(project.snapshot(), before);
    }
}

#[test]
fn a_folder_without_write_permission_is_replaced_by_its_owner() {
    if !nix::unistd::geteuid().is_root() {
        return crate::support::skip(
            "a folder without write permission",
            "only root can become another user",
        );
    }
    let project = Project::new(&[
        ("modes/a/s/files/dir/one", "1"),
        ("modes/b/s/files/dir/two", "2"),
        ("modes/c/env", "C=1\n"),
    ]);
    let chown = |path: &str| std::os::unix::fs::chown(project.path(path), Some(65534), Some(65534)).unwrap();
    chown("");
    for mode in ["a", "b"] {
        fs::set_permissions(
            project.path(&format!("modes/{mode}/s/files/dir")),
            Permissions::from_mode(0o555),
        )
        .unwrap();
    }
    for (modes, names) in [("a", "one"), ("a,b", "one two"), ("b", "two"), ("c", "")] {
        let mut command = project.command(&[modes], &[]);
        command.uid(65534).gid(65534);
        let done = run(command);
        assert_eq!(done.code, 0, "{modes}: {done:?}");
        let dir = project.path(".files/s/dir");
        let mut found: Vec<String> = fs::read_dir(&dir)
            .map(|all| all.map(|it| it.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default();
        found.sort();
        assert_eq!(found.join(" "), names, "{modes}");
        assert!(names.is_empty() || dir.metadata().unwrap().mode() & 0o777 == 0o555, "{modes}");
    }
}

#[test]
fn an_env_file_that_is_a_device_or_a_pipe_is_neither_read_nor_replaced() {
    let project = project();
    let mut pipe = std::process::Command::new("mkfifo");
    pipe.arg(project.path("pipe"));
    assert_eq!(run(pipe).code, 0);
    symlink("/dev/null", project.path("null")).unwrap();
    for name in ["pipe", "null"] {
        let message = format!("{name}: expected a regular file, found a device, a pipe or a socket");
        let told = project.mdc_with(&["a"], &[("ENV_FILE", name)]);
        assert_eq!(told.code, 1, "{told:?}");
        assert!(told.stderr.contains(&message), "{}", told.stderr);
    }
    assert!(project.path("null").symlink_metadata().unwrap().is_symlink());
}

#[test]
fn variables_that_grow_without_bound_are_refused_with_their_line() {
    let project = project();
    let doubled = format!("A=0123456789\n{}", "A=${A}${A}\n".repeat(34));
    project.write("modes/d/env", doubled.as_bytes());
    project.refused(&["d"], &[], "modes/d/env:15: the value of `A` is longer than 131072 bytes");
    // Each of them is short enough.
    let many: String = (0..200).map(|it| format!("B{it}=${{A}}\n")).collect();
    project.write("modes/d/env", format!("A={}\n{many}", "x".repeat(100_000)).as_bytes());
    project.refused(&["d"], &[], "the variables up to here have more than 6291456 bytes");
}

#[test]
fn a_comment_is_no_mode() {
    project().refused(&["#h"], &[], "MODES `#h` names no mode");
}

#[test]
fn a_folder_of_a_service_that_cannot_be_read_is_an_error() {
    if !nix::unistd::geteuid().is_root() {
        return crate::support::skip("an unreadable service folder", "only root can become another user");
    }
    let project = project();
    fs::set_permissions(project.path("modes/a/s"), Permissions::from_mode(0o700)).unwrap();
    for path in ["", ".files", ".files/s", ".env"] {
        std::os::unix::fs::chown(project.path(path), Some(65534), Some(65534)).unwrap();
    }
    let before = project.snapshot();
    let mut command = project.command(&["a"], &[]);
    command.uid(65534).gid(65534);
    let told = run(command);
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.stderr.contains("modes/a/s/files: Permission denied"), "{}", told.stderr);
    assert_eq!(project.snapshot(), before);
}

#[test]
fn compose_files_and_deps_that_are_no_files_are_errors() {
    for name in ["compose.yaml", "deps"] {
        let project = Project::new(&[("modes/a/env", "A=1")]);
        let path = project.path(&format!("modes/a/{name}"));
        fs::create_dir(&path).unwrap();
        project.refused(&["a"], &[], &format!("modes/a/{name}: expected a file, found a directory\n"));
        fs::remove_dir(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        project.refused(&["a"], &[], &format!("modes/a/{name}: expected a file, found a pipe\n"));
    }
}

#[test]
fn the_env_file_may_not_be_a_file_of_a_mode() {
    let project = Project::new(&[("modes/base/env", "A=1"), ("modes/web/deps", "base")]);
    for file in ["modes/base/env", "./modes/../modes/base/env", "modes/web/deps"] {
        project.refused(&["--env-file", file, "web"], &[], "which would be overwritten");
    }
}

#[test]
fn many_unknown_modes_take_no_longer_than_the_time_limit() {
    let deps: String = (0..20_000).map(|it| format!("x{it}\ny{it}|b\n")).collect();
    let project = Project::new(&[("modes/a/deps", &deps), ("modes/b/env", "")]);
    let start = std::time::Instant::now();
    let run = project.mdc(&["-q", "--time-limit", "5s", "a"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("error: unknown mode `x19999` (required by a, ./modes/a/deps:39999)"));
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}
