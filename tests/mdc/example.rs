//! The example's page: what follows each `$ mdc …` is what `mdc` prints in a copy of the example.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use walkdir::WalkDir;

use crate::support::{expect_file, run};

fn copy(from: &Path, to: &Path) {
    for entry in WalkDir::new(from) {
        let entry = entry.unwrap();
        let there = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir_all(there).unwrap();
        } else {
            fs::copy(entry.path(), there).unwrap();
        }
    }
}

#[test]
fn what_mdc_prints_is_what_the_example_shows() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("modes-examples/assembled");
    let project = tempfile::tempdir().unwrap();
    copy(&example.join("modes"), &project.path().join("modes"));
    let readme = example.join("README.md");
    let text = fs::read_to_string(&readme).unwrap();
    let mut actual = String::new();
    // Within a block of commands all but these is what they printed.
    let mut skip = false;
    let mut count = 0;
    for line in text.lines() {
        if let Some(args) = line.strip_prefix("$ mdc ") {
            count += 1;
            skip = true;
            let mut command = Command::new(env!("CARGO_BIN_EXE_conlink"));
            command.arg("mdc").args(args.split(' ')).current_dir(project.path()).env_clear();
            command.env("PATH", "/usr/bin:/bin").env("DOCKER_COMPOSE", "docker compose");
            let ran = run(command);
            assert_eq!(ran.code, 0, "{line}: {}", ran.stderr);
            let said = ran.stderr.clone() + &ran.stdout;
            writeln!(actual, "{line}").unwrap();
            actual += &said.replace(&project.path().display().to_string(), "/project");
            continue;
        }
        skip &= line != "```";
        if !skip {
            writeln!(actual, "{line}").unwrap();
        }
    }
    assert!(count >= 10, "{count} commands");
    expect_file(&readme, &actual).unwrap();
}
