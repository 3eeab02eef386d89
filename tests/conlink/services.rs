//! `conlink check` on compose files: mistakes in services, which `lab up` refuses too, and files that are no files.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Duration;

use expect_test::expect;

use crate::conlink::check;
use crate::support::{conlink, finish, run};

#[test]
fn check_finds_what_compose_and_labs_refuse_in_services() {
    check(
        &[(
            "compose.yaml",
            r#"services:
  a:
    comand: sleep 1
    cap_add: [NOPE]
    hostname: x y
    stop_signal: FOO
    depends_on: [nobody]
    sysctls: {"../x": "1"}
    volumes: ["data:/data"]
  b: {image: web, command: sleep 1}
  c: {depends_on: {b: {condition: service_healthy}}}
  "a b":
    x-network: {links: [{bridge: lan}]}
"#,
        )],
        &["check", "compose.yaml"],
        1,
        &expect![""],
        &expect![[r#"
            warning: unknown property `comand` of a service
             --> compose.yaml:3:5
              |
            3 |     comand: sleep 1
              |     ^^^^^^
              |
              = help: did you mean `command`?

            error: unknown capability `NOPE`
             --> compose.yaml:4:15
              |
            4 |     cap_add: [NOPE]
              |               ^^^^
              |
              = help: expected a name such as `SYS_ADMIN`, or `ALL`

            error: invalid host name `x y`
             --> compose.yaml:5:15
              |
            5 |     hostname: x y
              |               ^^^
              |
              = help: expected at most 64 letters, digits, `.`, `_` and `-`

            error: unknown signal `FOO`
             --> compose.yaml:6:18
              |
            6 |     stop_signal: FOO
              |                  ^^^
              |
              = help: expected a name such as `SIGINT`, or a number from 1 to 64

            error: unknown service `nobody`
             --> compose.yaml:7:18
              |
            7 |     depends_on: [nobody]
              |                  ^^^^^^
              |
              = help: expected `a`, `b`, `c` or `a b`

            error: invalid sysctl name `../x`
             --> compose.yaml:8:23
              |
            8 |     sysctls: {"../x": "1"}
              |                       ^^^
              |
              = help: expected a name such as `net.ipv4.ip_forward`

            error: unknown volume `data`
             --> compose.yaml:9:15
              |
            9 |     volumes: ["data:/data"]
              |               ^^^^^^^^^^^^
              |
              = help: declare it in `volumes:`; a path starts with `.` or `/`

            warning[lab]: `b` has no healthcheck, so it never becomes healthy
              --> compose.yaml:11:20
               |
            10 |   b: {image: web, command: sleep 1}
               |   - this service
            11 |   c: {depends_on: {b: {condition: service_healthy}}}
               |                    ^
               |
               = help: add a `healthcheck`, or use `service_started`

            error: invalid service name `a b`
              --> compose.yaml:12:3
               |
            12 |   "a b":
               |   ^^^^^
               |
               = help: expected at most 200 letters, digits, `.`, `_` and `-`

            error: service `a b` gives the outer interface the name `a b_1-eth0`: an interface name cannot hold ' '
              --> compose.yaml:13:25
               |
            13 |     x-network: {links: [{bridge: lan}]}
               |                         ^^^^^^^^^^^^^

            found 8 errors, 2 warnings
        "#]],
    );
}

#[test]
fn what_an_included_file_may_declare_is_a_warning() {
    check(
        &[("compose.yaml", "include: [more.yaml]\nservices:\n  a: {depends_on: [b]}\n")],
        &["check", "compose.yaml"],
        0,
        &expect![""],
        &expect![[r#"
            warning[not-followed]: `include` is not followed
             --> compose.yaml:1:1
              |
            1 | include: [more.yaml]
              | ^^^^^^^
              |
              = help: write out what it stands for, or give its files too

            warning[lab]: unknown service `b`
             --> compose.yaml:3:20
              |
            3 |   a: {depends_on: [b]}
              |                    ^
              |
              = help: expected `a`

            found 2 warnings
        "#]],
    );
}

#[test]
fn an_env_file_that_may_be_elsewhere_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("compose.yaml"), "services:\n  a: {env_file: none.env}\n").unwrap();
    let run = conlink(dir.path(), &["check"], &Default::default());
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stderr.contains("warning[lab]: read env file ") && run.stderr.contains("compose.yaml:2:17"));
}

#[test]
fn a_value_of_an_unset_variable_is_a_warning() {
    check(
        &[("compose.yaml", "services:\n  a: {scale: '${COUNT}'}\n")],
        &["check", "compose.yaml"],
        0,
        &expect![""],
        &expect![[r#"
            warning[lab]: expected a whole number, 0 or more, found ``
             --> compose.yaml:2:14
              |
            2 |   a: {scale: '${COUNT}'}
              |              ^^^^^^^^^^
              |
              = help: use a whole number

            warning[unset-variable]: variable `COUNT` is not set and counts as empty
             --> compose.yaml:2:15
              |
            2 |   a: {scale: '${COUNT}'}
              |               ^^^^^^^^
              |
              = help: set it, or write `${COUNT:-}` if it may be empty

            found 2 warnings
        "#]],
    );
}

#[test]
fn a_configuration_file_is_a_file_with_an_end() {
    let dir = tempfile::tempdir().unwrap();
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    File::create(dir.path().join("large")).unwrap().set_len(100 << 20).unwrap();
    for (path, message) in [
        ("fifo", "error: read fifo: expected a file, found a pipe\n"),
        ("/dev/zero", "error: read /dev/zero: expected a file, found a device\n"),
        (".", "error: read .: expected a file, found a directory\n"),
        ("large", "error: read large: the file is larger than 64 MiB\n"),
    ] {
        for args in [&["check", path][..], &["net2dot", "--network-file", path]] {
            let run = conlink(dir.path(), args, &Default::default());
            assert_eq!((run.code, run.stderr.as_str()), (1, message), "{args:?}");
        }
    }
}

#[test]
fn check_reads_standard_input_and_pipes_of_the_shell() {
    let dir = tempfile::tempdir().unwrap();
    let text = "services: {a: {x-network: {links: [{bridge: lan}, {bridge: lan, dev: eth1}]}}}\n";
    fs::write(dir.path().join("c.yaml"), text).unwrap();
    for path in ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"] {
        let mut cat =
            Command::new("cat").arg("c.yaml").current_dir(&dir).stdout(Stdio::piped()).spawn().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_conlink"));
        command.args(["check", path]).current_dir(&dir).env_clear();
        command.stdin(cat.stdout.take().unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = finish(command.spawn().unwrap(), path, Duration::from_secs(60));
        assert_eq!((run.code, run.stdout.as_str()), (0, "ok: 2 links and 1 bridge\n"), "{run:?}");
        assert!(cat.wait().unwrap().success());
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_conlink"));
    command.args(["check", "-"]).current_dir(&dir).env_clear();
    assert_eq!(run(command).stdout, "ok: 0 links and 0 bridges\n");
}

#[test]
fn a_long_value_is_shortened_in_messages() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("links: [{{service: a, bridge: {}}}]\n", "x".repeat(1 << 20));
    fs::write(dir.path().join("n.yaml"), text).unwrap();
    let run = conlink(dir.path(), &["check", "n.yaml"], &Default::default());
    assert!(run.code == 1 && run.stderr.len() < 4000, "{}", run.stderr.len());
}
