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
        ("modes", "must not be in each other"),
        (modes.as_str(), "must not be in each other"),
        ("modes/a", "must not be in each other"),
        ("modes/.files", "must not be in each other"),
        ("data", "has files that mdc did not make, such as precious"),
        ("/tmp", contains),
        ("/tmp/conlink-no-such-folder", "must be within the project's folder"),
        ("../elsewhere", "must be within the project's folder"),
        (".env", "must be a folder, and is another kind of file"),
    ] {
        project.refused(&["a,b"], &[("MDC_FILES_DIR", files_dir)], message);
    }
    symlink("data", project.path("link")).unwrap();
    project.refused(&["a"], &[("MDC_FILES_DIR", "link")], "must be a folder itself, not a link to one");
    project.refused(&["a"], &[("MDC_FILES_DIR", "link/")], "must be a folder itself, not a link to one");
    symlink("/tmp", project.path("out")).unwrap();
    project.refused(&["a"], &[("MDC_FILES_DIR", "out/.files")], "must be within the project's folder");
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
    assert_eq!(run.stderr, "MODES:  a\nWarning: .env was not written by mdc, and is kept as .env.mdc-bak\n");
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
    project.refused(
        &["deps-binary"],
        &[],
        "Error: ./modes/deps-binary/deps:2:1: the file is not text in UTF-8",
    );
    project.write("modes/yaml/compose.yaml", b"services:\n  a: {image: x\n");
    project.refused(&["b,yaml"], &[], "Error: ./modes/yaml/compose.yaml:3:1: ");
    project.write("modes/yaml-binary/compose.yaml", b"a: \xff\n");
    project.refused(
        &["yaml-binary"],
        &[],
        "Error: ./modes/yaml-binary/compose.yaml:1:4: expected text in UTF-8, found the byte 0xff",
    );
    project.write("modes/env-binary/env", b"A=1\n\0\x01\xff");
    project.refused(&["env-binary"], &[], "Error: ./modes/env-binary/env: the file is binary");
    project.write("modes/env-noise/env", b"\xff\xfe\x80");
    project.refused(&["env-noise"], &[], "Error: ./modes/env-noise/env:1:1: ");
    project.write("modes/env-quote/env", b"A=1\nB='x\n");
    project.refused(&["env-quote"], &[], "Error: ./modes/env-quote/env:2:3: the value begins with `'`");
    project.write("modes/env-template/env", b"A=1\nB=${A!}\n");
    project.refused(&["env-template"], &[], "Error: ./modes/env-template/env:2: unexpected `!`");
    for name in ["a/b", "../modes/a", "..", "a|./b", "/etc", "+a/b"] {
        project.refused(&[name], &[], "is a path, not the name of a mode");
    }
    project.write("modes/leads-out/deps", b"a\n../../x\n");
    project.refused(&["leads-out"], &[], "Error: ./modes/leads-out/deps:2: `../../x` is a path");
    project.refused(&["nope"], &[], "Error: unknown mode 'nope'");
    project.refused(&["a|"], &[], "Error: MODES `a|`:1:2: `|` has no alternative behind it");
    project.refused(&["a"], &[("MODES_DIR", "none")], "Error: none: No such file or directory");
    project.refused(
        &["a"],
        &[("ENV_FILE", "modes")],
        "Error: modes: this is a folder, where a file is to be written",
    );
    project.refused(&["a"], &[("ENV_FILE", "no/such/folder/env")], "its folder cannot be written to");
    project.write("modes/socket/s/files/", b"");
    project.write("modes/reserved/.mdc/files/x", b"");
    project.refused(&["reserved"], &[], "a service cannot have this name here");
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
        told.stderr.contains("Error: .env: its folder cannot be written to: Permission denied"),
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
    assert!(told.stderr.contains("Error: ./.files/s: the folder cannot be written to"), "{}", told.stderr);
    assert_eq!(project.snapshot(), before);
    project.write("modes/c/s/files/x", b"2");
    let before = project.snapshot();
    let told = as_nobody("c");
    assert_eq!(told.code, 1);
    assert!(told.stderr.contains("Error: ./.files/s: the folder cannot be written to"), "{}", told.stderr);
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
