//! Becoming compose, and what it is given.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::mdc::Project;

/// A stand-in for compose that tells what it gets.
const TELLS: &str = "#!/bin/sh\necho \"$0 $*\"\necho \"file ${COMPOSE_FILE-unset}\"\n\
    echo \"profiles ${COMPOSE_PROFILES-unset}\"\necho \"separator ${COMPOSE_PATH_SEPARATOR-unset}\"\nexit 7\n";

fn project() -> Project {
    let project = Project::new(&[("modes/a/compose.yaml", "services: {}\n"), ("bin/compose", TELLS)]);
    fs::set_permissions(project.path("bin/compose"), Permissions::from_mode(0o755)).unwrap();
    project
}

#[test]
fn arguments_and_exit_code_are_composes() {
    let project = project();
    let run = project
        .mdc_with(&["a", "up", "-d", "--list", "x y"], &[("DOCKER_COMPOSE", "bin/compose  --ansi never")]);
    assert_eq!(
        run.stdout,
        "bin/compose --ansi never --env-file .env up -d --list x y\nfile unset\nprofiles unset\nseparator unset\n"
    );
    assert_eq!((run.code, run.stderr.as_str()), (7, "MODES:  a\n"));
    let env = [("DOCKER_COMPOSE", "no-such-program")];
    let run = project.mdc_with(&["--docker-compose", "bin/compose", "a", "ps"], &env);
    assert_eq!(run.code, 7, "{run:?}");
}

#[test]
fn an_option_of_mdc_after_modes_is_an_error() {
    let project = project();
    for option in ["-n", "--list", "--format=json", "-q", "--config"] {
        let run = project.mdc_with(&["a", option, "up"], &[("DOCKER_COMPOSE", "bin/compose")]);
        let error = format!("error: `{option}` is an option of mdc: write it before MODES\n");
        assert_eq!((run.code, run.stdout.as_str(), run.stderr), (2, "", error), "{option}");
        assert!(!project.exists(".env"), "{option}");
    }
    // Compose has these too.
    for option in ["--dry-run", "-v", "--env-file"] {
        assert_eq!(
            project.mdc_with(&["a", option], &[("DOCKER_COMPOSE", "bin/compose")]).code,
            7,
            "{option}"
        );
    }
}

#[test]
fn the_name_of_the_project_is_a_variable() {
    let project = Project::new(&[
        (
            "modes/a/compose.yaml",
            "name: n-${TAG}\nservices: {s: {image: '${COMPOSE_PROJECT_NAME}:${NONE}'}}\n",
        ),
        ("modes/a/env", "TAG=7\n"),
        ("modes/b/compose.yaml", "services: {s: {image: $COMPOSE_PROJECT_NAME}}\n"),
    ]);
    let args = ["--config", "--interpolate", "a"];
    let run = project.mdc_with(&args, &[]);
    assert_eq!(run.stdout, "name: n-7\nservices:\n  s:\n    image: 'n-7:'\n");
    assert_eq!(
        run.stderr,
        "warning: ./modes/a/compose.yaml:2:48: variable `NONE` is not set and counts as empty \
         (set it, or write `${NONE:-}` if it may be empty)\n"
    );
    let run = project.mdc_with(&args, &[("COMPOSE_PROJECT_NAME", "other"), ("NONE", "x")]);
    assert!(run.stdout.contains("image: other:x"), "{run:?}");
    assert_eq!(run.stderr, "");
    // Otherwise it is the name of the folder.
    let folder = project.path("").file_name().unwrap().to_str().unwrap().to_lowercase();
    let folder: String = folder.chars().filter(char::is_ascii_alphanumeric).collect();
    let run = project.mdc_with(&["--config", "--interpolate", "b"], &[]);
    assert!(run.stdout.contains(&format!("image: {folder}")), "{run:?}");
}

#[test]
fn what_the_caller_exported_is_overruled() {
    let project = project();
    let env = [
        ("DOCKER_COMPOSE", "bin/compose"),
        ("COMPOSE_FILE", "theirs.yaml"),
        ("COMPOSE_PROFILES", ""),
        ("COMPOSE_PATH_SEPARATOR", ";"),
    ];
    let run = project.mdc_with(&["a", "ps"], &env);
    assert_eq!(
        run.stdout,
        "bin/compose --env-file .env ps\nfile ./.compose-empty.yaml:./modes/a/compose.yaml\nprofiles MODE_a\n\
         separator :\n"
    );
}

#[test]
fn without_arguments_nothing_is_run() {
    let project = project();
    let run = project.mdc_with(&["a"], &[("DOCKER_COMPOSE", "bin/compose")]);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""));
}

#[test]
fn a_command_that_cannot_be_run_is_told_by_the_exit_code() {
    let project = project();
    project.write("not-executable", b"");
    let run = project.mdc_with(&["a", "ps"], &[("DOCKER_COMPOSE", "no-such-program")]);
    assert_eq!(run.code, 127);
    assert!(run.stderr.contains("error: run no-such-program: No such file"), "{}", run.stderr);
    let run = project.mdc_with(&["a", "ps"], &[("DOCKER_COMPOSE", "./not-executable")]);
    assert_eq!(run.code, 126);
}

#[test]
fn docker_compose_is_taken_where_only_that_is_there() {
    let project = project();
    let bin = project.path("bin").display().to_string();
    fs::rename(project.path("bin/compose"), project.path("bin/docker-compose")).unwrap();
    let path = format!("{bin}:/nowhere");
    let run = project.mdc_with(&["-n", "a", "ps"], &[("PATH", &path), ("DOCKER_CONFIG", "/nowhere")]);
    assert!(run.stdout.ends_with("run docker-compose --env-file .env ps\n"), "{}", run.stdout);
    fs::copy(project.path("bin/docker-compose"), project.path("bin/docker")).unwrap();
    project.write("config/cli-plugins/docker-compose", b"");
    let config = project.path("config").display().to_string();
    let run = project.mdc_with(&["-n", "a", "ps"], &[("PATH", &path), ("DOCKER_CONFIG", &config)]);
    assert!(run.stdout.ends_with("run docker compose --env-file .env ps\n"), "{}", run.stdout);
    let run = project.mdc_with(&["-n", "a", "ps"], &[("PATH", "/nowhere")]);
    assert!(run.stdout.ends_with("run docker compose --env-file .env ps\n"), "{}", run.stdout);
}
