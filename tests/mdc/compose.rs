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
