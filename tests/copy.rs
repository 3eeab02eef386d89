//! `copy` from outside: what comes to be in DST, what is said, and what stays as it was.

mod kill;
mod overlay;
mod place;
mod template;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use expect_test::expect;
use walkdir::WalkDir;

use crate::support::{Run, run};

/// Folders `src` and `dst` of a test's own.
struct Trees {
    dir: tempfile::TempDir,
}

impl Trees {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for it in ["src", "dst"] {
            fs::create_dir(dir.path().join(it)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Writes a file and the folders that it is in.
    fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn read(&self, path: impl AsRef<Path>) -> String {
        String::from_utf8_lossy(&fs::read(self.path(path)).unwrap()).into_owned()
    }

    fn there(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    fn chmod(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mode(&self, path: &str) -> u32 {
        self.path(path).symlink_metadata().unwrap().permissions().mode() & 0o7777
    }

    fn modified(&self, path: &str) -> SystemTime {
        self.path(path).symlink_metadata().unwrap().modified().unwrap()
    }

    fn inode(&self, path: &str) -> u64 {
        self.path(path).symlink_metadata().unwrap().ino()
    }

    /// `copy ARGS` in the folder of both, with these variables and PATH.
    fn command(&self, args: &[&str], env: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_conlink"));
        command.arg("copy").args(args).current_dir(self.dir.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).envs(env.iter().copied());
        command
    }

    fn copy(&self, args: &[&str], env: &[(&str, &str)]) -> Run {
        run(self.command(args, env))
    }

    /// Copies `src` to `dst`, which has to succeed; answers what is said.
    fn done(&self, options: &[&str], env: &[(&str, &str)]) -> String {
        let run = self.copy(&[options, &["src", "dst"]].concat(), env);
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.stderr
    }

    /// The paths below a folder, and what each is.
    fn list(&self, top: &str) -> Vec<String> {
        let top = self.path(top);
        let entries = WalkDir::new(&top).min_depth(1).into_iter().map(|it| it.unwrap());
        let mut found: Vec<String> = entries
            .map(|entry| {
                let mark = match entry.file_type() {
                    it if it.is_dir() => "/",
                    it if it.is_symlink() => "@",
                    _ => "",
                };
                format!("{}{mark}", entry.path().strip_prefix(&top).unwrap().display())
            })
            .collect();
        found.sort();
        found
    }
}

#[test]
fn malformed_invocations_say_what_is_wrong_and_change_nothing() {
    let trees = Trees::new();
    trees.write("src/a", "{{A}}");
    trees.write("file", "");
    let cases: &[(&[&str], &str)] = &[
        (&["--frob", "src", "dst"], "unexpected argument '--frob'"),
        (&["--templat", "src", "dst"], "a similar argument exists: '--template'"),
        (&["none", "dst"], "SRC: none: no such directory"),
        (&["src", "none"], "DST: none: no such directory"),
        (&["none", "nowhere"], "SRC: none: no such directory\nerror: DST: nowhere: no such directory"),
        (&["file", "dst"], "SRC: file: not a directory"),
        (&["src", "file"], "DST: file: not a directory"),
        (&["", "dst"], "a value is required for '<SRC>'"),
        (&["src", ""], "a value is required for '<DST>'"),
        (&["-T", "-J", "src", "dst"], "cannot be used with"),
        (&["-q", "-v", "src", "dst"], "cannot be used with"),
        (&["--owner", "root", "--preserve-owner", "src", "dst"], "cannot be used with"),
        (&["--owner", "no-such-user", "src", "dst"], "no user `no-such-user` in /etc/passwd"),
        (&["--owner", "0:no-such-group", "src", "dst"], "no group `no-such-group` in /etc/group"),
        (&["--owner", "", "src", "dst"], "expected an owner such as `1000:1000`"),
        (&["--owner", "99999999999", "src", "dst"], "user id `99999999999` is too large"),
        (&["--include", "[", "src", "dst"], "--include: `[`: "),
        (&["--exclude", "a{b", "src", "dst"], "--exclude: `a{b`: "),
        (&["--exclude", "/", "src", "dst"], "expected a pattern"),
        (&["--template-glob", "*", "src", "dst"], "--template-glob: requires --template or --jinja"),
        (&["--undefined", "error", "src", "dst"], "--template"),
        (&["-T", "--undefined", "frob", "src", "dst"], "possible values: keep, error, empty"),
        (&["--template-glob"], "a value is required for '--template-glob <GLOB>'"),
    ];
    for (args, message) in cases {
        let run = trees.copy(&[args, &["--", "touch", "ran"][..]].concat(), &[("A", "1")]);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args:?}: {}", run.stderr);
        assert!(
            run.stderr.starts_with("error: ") && run.stderr.contains(message),
            "{args:?}: {}",
            run.stderr
        );
        assert!(!trees.there("ran") && !trees.there("dst/a"), "{args:?}");
    }
    assert_eq!(trees.copy(&["src", "dst", "--", ""], &[]).code, 2);
    for args in [&[][..], &["src"], &["-T"]] {
        let run = trees.copy(args, &[]);
        assert!(
            run.code == 2 && run.stderr.contains("required arguments were not provided"),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn what_is_said_is_a_line_at_the_end_and_more_on_demand() {
    let trees = Trees::new();
    trees.write("src/a", "{{USER}} {{SECRET}} {{NOT}}\n");
    trees.write("src/d/b", "plain");
    let env = [("USER", "me"), ("SECRET", "s3cret")];
    expect![[r#"
        copy: 2 files copied, 0 unchanged, 1 directory created
    "#]]
    .assert_eq(&trees.done(&["-T"], &env));
    expect![[r#"
        copy: 0 files copied, 2 unchanged
    "#]]
    .assert_eq(&trees.done(&["-T"], &env));
    assert_eq!(trees.done(&["-T", "-q"], &env), "");
    fs::remove_dir_all(trees.path("dst/d")).unwrap();
    trees.write("dst/a", "old\n");
    expect![[r#"
        Creating directory 'dst/d'
        Copying 'src/a' to 'dst/a'
        Replacing '{{SECRET}}' in 'dst/a'
        Replacing '{{USER}}' in 'dst/a'
        Copying 'src/d/b' to 'dst/d/b'
        copy: 2 files copied, 0 unchanged, 1 directory created
    "#]]
    .assert_eq(&trees.done(&["-T", "-v"], &env));
    trees.write("dst/a", "old\n");
    let said = trees.done(&["-T", "-vv"], &env);
    assert!(said.contains("Replacing '{{SECRET}}' with 's3cret' in 'dst/a'\n"), "{said}");
}

#[test]
fn the_command_runs_when_all_is_copied_and_only_then() {
    let trees = Trees::new();
    trees.write("src/a", "{{WHO}}");
    let run = trees.copy(&["-T", "src", "dst", "--", "cat", "dst/a"], &[("WHO", "me")]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "me"));
    assert!(run.stderr.ends_with("Running: [\"cat\", \"dst/a\"]\n"), "{}", run.stderr);
    // Without dashes, as the reference's shell version takes it; and with an exit code of its own.
    let run = trees.copy(&["-q", "src", "dst", "sh", "-c", "umask; exit 7"], &[]);
    let umask = crate::support::run(trees_shell("umask"));
    assert_eq!((run.code, run.stdout, run.stderr), (7, umask.stdout, String::new()));
    for (command, code) in [("no-such-program", 127), ("./src/a", 126)] {
        assert_eq!(trees.copy(&["src", "dst", "--", command], &[]).code, code);
    }
    fs::create_dir(trees.path("dst/b")).unwrap();
    trees.write("src/b", "");
    let run = trees.copy(&["src", "dst", "--", "echo", "ran"], &[]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
}

fn trees_shell(text: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", text]);
    command
}

#[test]
fn copy_and_wait_are_chained_in_an_empty_root() {
    if !crate::support::may_unshare("empty root") {
        return;
    }
    let trees = Trees::new();
    fs::create_dir_all(trees.path("root/files/etc")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_conlink"), trees.path("root/copy")).unwrap();
    std::os::unix::fs::symlink("copy", trees.path("root/wait")).unwrap();
    trees.write("root/files/etc/motd", "hello {{WHO}}\n");
    let mut command = Command::new("chroot");
    command.arg(trees.path("root")).env("WHO", "you");
    command.args([
        "/copy",
        "-T",
        "/files",
        "/",
        "--",
        "/wait",
        "-f",
        "/etc/motd",
        "-i",
        "lo",
        "--",
        "/wait",
        "--version",
    ]);
    let run = run(command);
    assert_eq!((run.code, run.stdout.as_str()), (0, "wait 3.0.0\n"), "{}", run.stderr);
    assert_eq!(trees.read("root/etc/motd"), "hello you\n");
}

#[test]
fn help_and_version_are_no_errors() {
    let trees = Trees::new();
    for (args, begin) in [(["--help"], "Copy a directory tree over another"), (["--version"], "copy 3")] {
        let run = trees.copy(&args, &[]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""));
        assert!(run.stdout.starts_with(begin), "{}", run.stdout);
    }
}
