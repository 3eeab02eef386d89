//! `mdc` from outside. `tests/data/mdc/CASE/case.txt` has a tree of files and command lines; `expected.txt` what they
//! print, and all that is there afterwards but for the modes.

mod atomic;
mod compose;
mod example;
mod overlay;
mod safety;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use walkdir::WalkDir;

use crate::support::{Run, expect_file, for_each_case, run};

/// A project in a temporary folder.
pub(crate) struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    /// Files by path and content; a path that ends with `/` is a folder.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let project = Self { dir: tempfile::tempdir().unwrap() };
        files.iter().for_each(|(name, content)| project.write(name, content.as_bytes()));
        project
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        if name.ends_with('/') {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    pub(crate) fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap()).into_owned()
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    /// The command, ready to run `mdc` here.
    pub(crate) fn command(&self, args: &[&str], env: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_conlink"));
        command.arg("mdc").args(args).current_dir(self.dir.path()).env_clear();
        command.env("PATH", "/usr/bin:/bin").envs(env.iter().copied());
        command
    }

    pub(crate) fn mdc(&self, args: &[&str]) -> Run {
        run(self.command(args, &[]))
    }

    pub(crate) fn mdc_with(&self, args: &[&str], env: &[(&str, &str)]) -> Run {
        run(self.command(args, env))
    }

    /// Runs it, and it must succeed.
    #[track_caller]
    pub(crate) fn done(&self, args: &[&str]) {
        let run = self.mdc(args);
        assert_eq!(run.code, 0, "{run:?}");
    }

    /// Runs it, and it must fail with such a message and change nothing.
    #[track_caller]
    pub(crate) fn refused(&self, args: &[&str], env: &[(&str, &str)], message: &str) {
        let before = self.snapshot();
        let run = self.mdc_with(args, env);
        assert_eq!(run.code, 1, "{run:?}");
        assert!(run.stderr.contains(message), "{}", run.stderr);
        assert_eq!(self.snapshot(), before);
    }

    /// All that is there: paths with kind, permissions, times and content.
    pub(crate) fn snapshot(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for (name, path) in walk(self.dir.path()) {
            let meta = path.symlink_metadata().unwrap();
            let time = if meta.is_dir() { 0 } else { meta.mtime_nsec() };
            found.insert(name, format!("{} {:o} {time} {}", meta.ino(), meta.mode(), content(&path)));
        }
        found
    }
}

/// Every path below, parents first, in order.
fn walk(root: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    WalkDir::new(root).min_depth(1).sort_by_file_name().into_iter().map(move |it| {
        let path = it.unwrap().into_path();
        (path.strip_prefix(root).unwrap().to_string_lossy().into_owned(), path)
    })
}

fn content(path: &Path) -> String {
    let meta = path.symlink_metadata().unwrap();
    if meta.is_symlink() {
        format!("-> {}", fs::read_link(path).unwrap().display())
    } else if meta.is_file() {
        fs::read(path).unwrap().escape_ascii().to_string()
    } else {
        String::new()
    }
}

/// Files and command lines of a case.
struct Case {
    project: Project,
    runs: Vec<(Vec<String>, Vec<String>)>,
}

/// Lines `$ [NAME=VALUE…] mdc ARG…`, then files: `=== PATH [BITS] [escaped]` with content below (its last line break
/// left out where the path ends with ` noeol`), `=== PATH/` for a folder, `=== PATH -> TARGET` for a link.
fn read_case(text: &str) -> Case {
    let project = Project::new(&[]);
    let mut parts = text.split("=== ");
    let mut runs = Vec::new();
    for line in parts.next().unwrap().lines().filter_map(|it| it.strip_prefix("$ ")) {
        let words = words(line);
        let split = words.iter().position(|it| it == "mdc").unwrap();
        runs.push((words[..split].to_vec(), words[split + 1..].to_vec()));
    }
    for part in parts {
        let (head, body) = part.split_once('\n').unwrap();
        if let Some((link, target)) = head.split_once(" -> ") {
            let link = project.path(link);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(target, link).unwrap();
            continue;
        }
        let mut head = words(head);
        let mut body = body.to_owned();
        let mut bits = 0o644;
        for option in head.split_off(1) {
            match option.as_str() {
                "escaped" => body = unescape(&body),
                "noeol" => body.truncate(body.trim_end_matches('\n').len()),
                number => bits = u32::from_str_radix(number, 8).unwrap(),
            }
        }
        project.write(&head[0], body.as_bytes());
        if !head[0].ends_with('/') {
            fs::set_permissions(project.path(&head[0]), Permissions::from_mode(bits)).unwrap();
        }
    }
    Case { project, runs }
}

fn unescape(text: &str) -> String {
    text.replace("\\r", "\r").replace("\\t", "\t").replace("\\0", "\0").replace("\\uFEFF", "\u{feff}")
}

/// Words between blanks, with single quotes around what has some.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let mut word = String::new();
        let mut quoted = false;
        let end = rest
            .char_indices()
            .find(|(_, it)| {
                if *it == '\'' {
                    quoted = !quoted;
                } else if quoted || *it != ' ' {
                    word.push(*it);
                }
                *it == ' ' && !quoted
            })
            .map_or(rest.len(), |(idx, _)| idx);
        words.push(word);
        rest = rest[end..].trim_start();
    }
    words
}

#[test]
fn cases_print_and_write_what_is_expected() {
    for_each_case("mdc", |path| {
        let case = read_case(&fs::read_to_string(path.join("case.txt")).unwrap());
        let project = &case.project;
        let dir = project.path("").display().to_string();
        let dir = dir.trim_end_matches('/');
        let mut text = String::new();
        for (env, args) in &case.runs {
            let env: Vec<(&str, &str)> = env.iter().map(|it| it.split_once('=').unwrap()).collect();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let run = project.mdc_with(&args, &env);
            let _ =
                writeln!(text, "$ mdc {}\n{}{}exit {}\n", args.join(" "), run.stdout, run.stderr, run.code);
        }
        for (name, path) in walk(project.dir.path()) {
            let meta = path.symlink_metadata().unwrap();
            let kind = meta.file_type();
            let is_source = ["modes", "m1", "m2", "my modes"].iter().any(|it| name.starts_with(it));
            if is_source || name == ".files/.mdc" {
                continue;
            }
            let bits = meta.mode() & 0o7777;
            let content = content(&path);
            let lines = content.replace("\\n", "\n").replace("\\'", "'").replace("\\\"", "\"");
            let _ = match () {
                () if kind.is_dir() => writeln!(text, "=== {name}/ {bits:o}"),
                () if kind.is_fifo() => writeln!(text, "=== {name} {bits:o} fifo"),
                () if kind.is_symlink() => writeln!(text, "=== {name} {content}"),
                () => writeln!(text, "=== {name} {bits:o}\n{lines}"),
            };
        }
        expect_file(&path.join("expected.txt"), &text.replace(dir, "DIR"))
    });
}

#[test]
fn a_shell_reads_the_env_file_as_compose_does() {
    let project = Project::new(&[
        ("my modes/it's $a/env", "A='x y'\n"),
        ("my modes/it's $a/compose.yaml", "services: {}\n"),
        ("my modes/b#1/env", "B=1"),
    ]);
    let run = project.mdc_with(&["b#1"], &[("MODES_DIR", "./my modes")]);
    assert_eq!(run.stderr, "error: unknown mode `b`\n", "a # begins a comment");
    fs::rename(project.path("my modes/b#1"), project.path("my modes/b")).unwrap();
    fs::rename(project.path("my modes/it's $a"), project.path("my modes/$a")).unwrap();
    let run = project.mdc_with(&["$a,b"], &[("MODES_DIR", "./my modes")]);
    assert_eq!(run.code, 0, "{run:?}");
    let mut shell = Command::new("sh");
    shell.args(["-c", ". ./.env; printf '%s\\n' \"$COMPOSE_FILE\" \"$COMPOSE_PROFILES\" \"$MDC_MODE_DIRS\" \"$A\" \"$COMPOSE_DIR\""]);
    shell.current_dir(project.path(""));
    let by_shell = crate::support::run(shell).stdout;
    let by_us = project.mdc_with(&["--env", "--format", "json", "$a,b"], &[("MODES_DIR", "./my modes")]);
    let by_us: serde_json::Value = serde_json::from_str(&by_us.stdout).unwrap();
    let value = |name: &str| by_us[name]["value"].as_str().unwrap().to_owned();
    let names = ["COMPOSE_FILE", "COMPOSE_PROFILES", "MDC_MODE_DIRS", "A", "COMPOSE_DIR"];
    let expected: String = names.iter().map(|it| value(it) + "\n").collect();
    assert_eq!(by_shell, expected);
    assert_eq!(value("COMPOSE_FILE"), "./.compose-empty.yaml:./my modes/$a/compose.yaml");
}

#[test]
fn unset_variables_in_env_files_of_modes_are_warnings() {
    let project = Project::new(&[
        ("modes/a/env", "A=\"\\$NONE \\t$NONE\"\nB=${NONE}${A}${ALSO-}\n"),
        ("modes/a/.env", "C='$NO'\nD=é${NO}\n"),
    ]);
    let run = project.mdc(&["-q", "a"]);
    let help = |name: &str| {
        format!(
            "variable `{name}` is not set and counts as empty (set it, or write `${{{name}:-}}` if it may be empty)"
        )
    };
    let expected = format!(
        "warning: ./modes/a/env:1:13: {}\nwarning: ./modes/a/.env:2:4: {}\n",
        help("NONE"),
        help("NO")
    );
    assert_eq!((run.code, run.stderr.as_str()), (0, expected.as_str()));
    assert_eq!(project.mdc_with(&["-q", "a"], &[("NONE", ""), ("NO", "1")]).stderr, "");
    let strict = project.mdc_with(&["-q", "a"], &[("MDC_STRICT", "1")]);
    assert_eq!((strict.code, strict.stderr), (1, expected.replace("warning: ", "error: ")));
}

#[test]
fn help_and_version_write_nothing() {
    let project = Project::new(&[("modes/a/", ""), (".env", "MINE=1\n")]);
    let before = project.snapshot();
    for option in ["--help", "-h", "--version", "-V"] {
        let run = project.mdc(&[option]);
        assert_eq!(run.code, 0, "{run:?}");
        assert!(run.stdout.contains("mdc"), "{}", run.stdout);
    }
    assert_eq!(project.snapshot(), before);
}

#[test]
fn the_order_is_the_same_on_every_run() {
    let project = Project::new(&[("modes/a/", ""), ("modes/b/", ""), ("modes/c/", ""), ("modes/d/", "")]);
    for _ in 0..10 {
        assert_eq!(project.mdc(&["c,a,d,b"]).stderr, "MODES:  c a d b\n");
    }
}
