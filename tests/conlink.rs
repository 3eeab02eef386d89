//! The binary from outside: codes, standard output and standard error in full.

mod refusals;
mod services;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use expect_test::{Expect, expect};

use crate::support::{Run, conlink, run};

/// Runs `conlink` in a folder with these files.
fn with_files(files: &[(&str, &str)], args: &[&str], env: &[(&str, &str)]) -> Run {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let env: BTreeMap<String, String> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    conlink(dir.path(), args, &env)
}

fn check(files: &[(&str, &str)], args: &[&str], code: i32, stdout: &Expect, stderr: &Expect) {
    let run = with_files(files, args, &[]);
    stdout.assert_eq(&run.stdout);
    stderr.assert_eq(&run.stderr);
    assert_eq!(run.code, code);
}

#[test]
fn twelve_mistakes_are_twelve_diagnostics_at_their_places() {
    let compose = "\
services:
  a:
    x-network:
      links:
        - {brigde: lan, bridge: lan, ip: 10.0.0.256/24}
        - {bridge: lan, dev: much-too-long-a-name}
        - {bridge: lan, dev: eth2, mac: '01:00:00:00:00:01', mtu: 9}
  b: {}
x-network:
  links:
    - {service: b, type: vlan, vlanid: 4095, outer-dev: up0}
    - {service: b, dev: eth1, bridge: lan, route: default vai 10.0.0.1}
    - {service: b, dev: eth2, bridge: lan, netem: [delay 1ms, loss 101%]}
    - {service: b, dev: eth3, bridge: lan, nat: 10.0.0.1}
    - {bridge: lan}
  bridges:
    - {bridge: lan, mode: lynux}
  tunnels:
    - {type: vxlan, bridge: lan, remote: 192.0.2.1, vni: '${VNI:?say which}'}
";
    let run = with_files(&[("compose.yaml", compose)], &["check", "--format", "json", "compose.yaml"], &[]);
    let said: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let lines: Vec<String> = said["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            format!(
                "{}:{}:{}: {}\n",
                it["file"].as_str().unwrap(),
                it["line"],
                it["col"],
                it["message"].as_str().unwrap()
            )
        })
        .collect();
    expect![[r#"
        compose.yaml:5:12: unknown property `brigde`
        compose.yaml:5:42: `10.0.0.256` is not an IP address
        compose.yaml:6:30: an interface name is at most 15 bytes, this has 20
        compose.yaml:7:41: expected the MAC address of one interface, found a group address (its first byte is odd)
        compose.yaml:7:67: expected a number from 68 to 65535, found `9`
        compose.yaml:11:40: expected a number from 1 to 4094, found `4095`
        compose.yaml:12:59: unknown word `vai`
        compose.yaml:13:68: `loss` cannot be `101%`
        compose.yaml:14:49: `nat` needs an address to translate to
        compose.yaml:15:7: `service` or `container` is missing
        compose.yaml:17:27: unknown mode of a bridge: `lynux`
        compose.yaml:19:59: variable `VNI` is not set: say which
    "#]]
    .assert_eq(&lines.concat());
    assert_eq!((run.code, run.stderr.as_str()), (1, ""));
}

#[test]
fn what_cannot_be_in_the_hosts_namespace_or_on_that_type_is_told() {
    let net = "\
links:
- {service: a, bridge: x, base: host, ip: 10.0.0.1/24, forward: 80:80/tcp}
- {service: b, type: macvlan, outer-dev: up0, netem-in: delay 1ms}
bridges:
- {bridge: x, mode: ovs}
tunnels:
- {type: geneve, bridge: z, remote: 192.0.2.1, vni: 7, local: 192.0.2.2}
";
    let run = with_files(&[("net.yaml", net)], &["check", "net.yaml"], &[]);
    let said: Vec<&str> = run
        .stdout
        .lines()
        .chain(run.stderr.lines())
        .filter(|it| it.contains("error: ") || it.contains("--> "))
        .collect();
    expect![[r#"
        error: ports are forwarded in the engine's namespace, and this link's bridge is in the host's
         --> net.yaml:2:65
        error: a macvlan has no outer end, where `netem-in` would be
         --> net.yaml:3:57
        error: bridge `x` has mode ovs, and is in the host's namespace by `base: host`
         --> net.yaml:5:12
        error: a geneve tunnel has no `local`
         --> net.yaml:7:63"#]]
    .assert_eq(&said.join("\n"));
    assert_eq!(run.code, 1);
}

#[test]
fn a_mistake_is_shown_with_its_line_and_what_would_be_right() {
    check(
        &[("net.yaml", "links:\n  - {service: a, bridge: lan, ip: 10.0.0.1}\n")],
        &["--network-file", "net.yaml", "--show-config"],
        1,
        &expect![""],
        &expect![[r#"
            error: expected an address with a prefix length, such as `10.0.0.1/24`
             --> net.yaml:2:35
              |
            2 |   - {service: a, bridge: lan, ip: 10.0.0.1}
              |                                   ^^^^^^^^

            found 1 error
        "#]],
    );
}

#[test]
fn check_tells_that_all_is_well() {
    check(
        &[("net.json", r#"{"links": [{"service": "a", "bridge": "lan", "ip": ["10.0.0.1/24"]}]}"#)],
        &["check", "net.json"],
        0,
        &expect![[r#"
            ok: 1 link and 1 bridge
        "#]],
        &expect![""],
    );
}

#[test]
fn files_that_cannot_be_read_are_all_named() {
    check(
        &[],
        &["--network-file", "a.yaml:b.yaml"],
        1,
        &expect![""],
        &expect![[r#"
            error: read a.yaml: No such file or directory (os error 2)
            error: read b.yaml: No such file or directory (os error 2)
        "#]],
    );
}

#[test]
fn without_a_configuration_there_is_nothing_to_do() {
    check(
        &[],
        &[],
        2,
        &expect![""],
        &expect![[r#"
            error: no configuration file
            hint: name a compose file with --file; `conlink --help` lists all commands
        "#]],
    );
}

#[test]
fn an_engine_that_does_not_answer_is_named_with_the_reason() {
    check(
        &[("net.yaml", "links: [{service: a, bridge: lan}]\n")],
        &["--network-file", "net.yaml", "--docker-socket", "no.sock", "--podman-socket", "pod.sock"],
        1,
        &expect![""],
        &expect![[r#"
            error: no container engine answers: docker: socket no.sock does not exist; podman: socket pod.sock does not exist
        "#]],
    );
}

#[test]
fn an_unknown_subcommand_is_a_usage_error_with_a_near_name() {
    for (args, stderr) in [
        (&["statsu"] as &[&str], "error: unknown subcommand `statsu`; did you mean `status`?\n"),
        (&["help", "lab", "pign"], "error: unknown subcommand `pign`; did you mean `ping`?\n"),
        (
            &["lab", "begin"],
            "error: unknown subcommand `begin`\nhint: `conlink lab --help` lists all subcommands\n",
        ),
        (&["mcd", "a"], "error: unknown subcommand `mcd`; did you mean `mdc`?\n"),
        (&["lab", "staus"], "error: unknown subcommand `staus`; did you mean `status`?\n"),
        (
            &["help", "reslove-deps"],
            "error: unknown subcommand `reslove-deps`; did you mean `resolve-deps`?\n",
        ),
        (
            &["frobnicate"],
            "error: unknown subcommand `frobnicate`\nhint: `conlink --help` lists all subcommands\n",
        ),
        (&["completions", "bash", "mcd"], "error: unknown tool `mcd`; did you mean `mdc`?\n"),
        (&["man", "lab", "upp"], "error: unknown command `lab upp`; did you mean `lab up`?\n"),
    ] {
        let run = with_files(&[], args, &[]);
        assert_eq!(run, Run { code: 2, stdout: String::new(), stderr: stderr.to_owned() }, "{args:?}");
    }
}

#[test]
fn help_takes_its_own_help_option() {
    for (words, same) in
        [(&["help", "--help"] as &[&str], &["help"] as &[&str]), (&["help", "lab", "-h"], &["help", "lab"])]
    {
        let run = with_files(&[], words, &[]);
        assert_eq!((run.code, run.stdout.is_empty()), (0, false), "{words:?}");
        assert_eq!(run, with_files(&[], same, &[]));
    }
}

#[test]
fn an_unknown_option_has_no_tip_to_pass_it_as_a_value() {
    for args in [["check", "--lba"], ["wait", "--lba"], ["copy", "--lba"], ["net2dot", "--lba"]] {
        let run = with_files(&[], &args, &[]);
        let start = "error: unexpected argument '--lba' found\n\nUsage: ";
        assert!(run.code == 2 && run.stderr.starts_with(start), "{run:?}");
    }
}

#[test]
fn a_docker_host_that_is_no_unix_socket_causes_a_warning() {
    let files = [("net.yaml", "links: []\n")];
    let args = ["--once", "--network-file", "net.yaml", "--podman-socket", "no.sock"];
    let run = with_files(&files, &args, &[("DOCKER_HOST", "tcp://192.0.2.1:2375")]);
    let told =
        "DOCKER_HOST=tcp://192.0.2.1:2375 is ignored: expected `unix://PATH`; using /var/run/docker.sock\n";
    assert!(run.code == 1 && run.stderr.contains(told), "{run:?}");
}

#[test]
fn the_help_lists_every_command_on_one_line() {
    let help = with_files(&[], &["--help"], &[]);
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    let (commands, options) = help.stdout.split_once("\nOptions:\n").unwrap();
    for line in [
        "Labs without a container engine:",
        "  check         Check configuration files for errors and likely mistakes",
        "  link down     Pull cables: the interface in each node stays up and loses its carrier",
        "  mdc           Assemble a compose project from modes, then run docker compose",
        "  wait          Wait for interfaces, addresses, files or ports, then run a command",
    ] {
        assert!(commands.lines().any(|it| it == line), "{line}: {commands}");
    }
    assert!(options.contains("  -f, --file <FILE>...") && options.contains("--network-file <FILE>..."));
    assert_eq!(with_files(&[], &["help"], &[]).stdout, help.stdout);
    assert_eq!(with_files(&[], &["-h"], &[]).stdout.lines().next(), help.stdout.lines().next());
}

#[test]
fn help_describes_every_command() {
    for name in [
        "check",
        "net2dot",
        "schema",
        "status",
        "diff",
        "healthcheck",
        "link down",
        "link up",
        "lab up",
        "lab run",
        "lab exec",
        "lab ping",
        "lab logs",
        "lab status",
        "lab list",
        "lab down",
        "mdc",
        "resolve-deps",
        "wait",
        "copy",
        "pipework",
        "install",
        "completions",
        "man",
    ] {
        let words: Vec<&str> = name.split(' ').collect();
        let help = with_files(&[], &[&["help"], words.as_slice()].concat(), &[]);
        assert_eq!((help.code, help.stderr.as_str()), (0, ""), "{name}");
        assert!(help.stdout.contains("Usage: "), "{name}: {}", help.stdout);
        assert_eq!(with_files(&[], &[words.as_slice(), &["--help"]].concat(), &[]).stdout, help.stdout);
    }
}

#[test]
fn completions_and_manual_pages_cover_every_tool() {
    let script = with_files(&[], &["completions", "bash"], &[]).stdout;
    for word in ["resolve-deps", "--allow-missing", "--if-count", "--template-glob", "--private-root"] {
        assert!(script.contains(word), "{word}");
    }
    let script = with_files(&[], &["completions", "zsh", "mdc"], &[]).stdout;
    assert!(script.starts_with("#compdef mdc\n"), "{script}");
    assert!(with_files(&[], &["man", "lab", "up"], &[]).stdout.contains("private\\-root"));
    let dir = tempfile::tempdir().unwrap();
    let run = conlink(dir.path(), &["man", "--output-dir", "pages"], &BTreeMap::new());
    assert_eq!(run, Run { code: 0, stdout: String::new(), stderr: String::new() });
    for name in ["conlink.1", "conlink-lab-up.1", "conlink-wait.1", "conlink-link-down.1", "conlink-mdc.1"] {
        let page = fs::read_to_string(dir.path().join("pages").join(name)).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
    }
}

#[test]
fn a_usage_error_is_code_2_in_every_tool() {
    let tools =
        ["check", "status", "lab", "mdc", "wait", "copy", "net2dot", "resolve-deps", "install", "link"];
    for tool in tools {
        let run = with_files(&[], &[tool, "--frob"], &[]);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{tool}");
        assert!(run.stderr.starts_with("error: "), "{tool}: {}", run.stderr);
    }
    for args in [
        &["mdc"] as &[&str],
        &["mdc", "--list", "--format", "frob"],
        &["check"],
        &["net2dot"],
        &["--show-config"],
        &["schema", "status", "--compose"],
        &["link", "down", "a", "--for", "0s"],
        &["lab", "ping", "-i", "2h"],
        &["resolve-deps", "--time-limit", "1x", "a"],
        &["wait", "-T", "1x", "-i", "lo"],
    ] {
        let run = with_files(&[], args, &[]);
        assert!(run.code == 2 && run.stderr.starts_with("error: "), "{args:?}: {run:?}");
    }
}

#[test]
fn without_files_commands_that_look_read_the_compose_file_of_the_folder() {
    let files = [
        ("docker-compose.yml", "name: found\nservices: {a: {x-network: {links: [{bridge: '${LAN}'}]}}}\n"),
        (".env", "LAN=lan\n"),
    ];
    let shown = |args: &[&str], env: &[(&str, &str)]| {
        let run = with_files(&files, args, env);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{args:?}");
        run.stdout
    };
    assert_eq!(shown(&["check"], &[]), "ok: 1 link and 1 bridge\n");
    assert_eq!(shown(&["check", "-q"], &[]), "");
    assert!(shown(&["net2dot"], &[]).contains("lan"));
    let found: serde_json::Value = serde_json::from_str(&shown(&["--show-config"], &[])).unwrap();
    assert_eq!(found["bridges"]["lan"]["mode"], "linux");
    // The project is the one of the file, unless another is named.
    assert_eq!(shown(&["--show-config"], &[]), shown(&["--show-config", "-n", "found"], &[]));
    assert_ne!(shown(&["--show-config"], &[]), shown(&["--show-config", "-n", "other"], &[]));
    let named = shown(&["--show-config", "-f", "docker-compose.yml"], &[("LAN", "lan")]);
    assert_eq!(shown(&["--show-config"], &[]), named);
    let nothing = with_files(&[], &["net2dot"], &[]);
    let hint =
        "hint: name files with --file or --network-file, or pipe in the output of `conlink --show-config`\n";
    assert!(nothing.code == 2 && nothing.stderr.ends_with(hint), "{nothing:?}");
    // The engine itself takes only files that are named.
    let run = with_files(&files, &["--once"], &[]);
    assert!(run.code == 2 && run.stderr.starts_with("error: no configuration file\nhint: "), "{run:?}");
    let wrong = [("compose.yaml", "x-network: {links: [{bridge: lan}]}\n")];
    let run = with_files(&wrong, &["check"], &[]);
    assert!(run.code == 1 && run.stderr.contains(" --> compose.yaml:1:"), "{run:?}");
}

#[test]
fn unset_variables_in_the_env_file_of_the_folder_are_warnings() {
    let files = [
        ("compose.yaml", "name: found\nservices: {a: {x-network: {links: [{bridge: '${LAN}'}]}}}\n"),
        (".env", "# a\nLAN=l$NONE\nA=${LAN}${NONE}\n"),
    ];
    let run = with_files(&files, &["check"], &[]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "ok: 1 link and 1 bridge\n"));
    let (_, warning) = run.stderr.split_once(".env:").unwrap();
    assert_eq!(
        warning,
        "2:6: variable `NONE` is not set and counts as empty (set it, or write `${NONE:-}` if it may be empty)\n"
    );
    assert!(run.stderr.starts_with("warning: "), "{run:?}");
    assert_eq!(with_files(&files, &["check"], &[("NONE", "")]).stderr, "");
}

#[test]
fn several_files_may_follow_one_option() {
    let files = [
        ("a.yaml", "name: p\nx-network: {links: [{service: a, bridge: x}]}\n"),
        ("b.yaml", "x-network: {links: [{service: b, bridge: x}]}\n"),
        ("c.yaml", "links: [{service: c, bridge: x}]\n"),
        ("d.yaml", "links: [{service: d, bridge: x}]\n"),
    ];
    let shown = |line: &str| {
        let args: Vec<&str> = line.split(' ').chain(["--show-config"]).collect();
        let run = with_files(&files, &args, &[]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{line}");
        run.stdout
    };
    let all =
        shown("--compose-file a.yaml --compose-file b.yaml --network-file c.yaml --network-file d.yaml");
    for line in [
        "--compose-file a.yaml b.yaml --network-file c.yaml d.yaml",
        "-f a.yaml b.yaml --network-file c.yaml:d.yaml",
        "--file a.yaml:b.yaml --network-file c.yaml d.yaml",
    ] {
        assert_eq!(shown(line), all, "{line}");
    }
    assert!(all.contains("\"d\""), "{all}");
    // What follows an option's file in `check` is a file of any kind.
    let run = with_files(&files, &["check", "-f", "a.yaml", "c.yaml"], &[]);
    assert_eq!(run.stdout, "ok: 2 links and 1 bridge\n", "{}", run.stderr);
}

#[test]
fn colour_follows_the_option() {
    let files = [("net.yaml", "links: [{bridge: lan}]\n")];
    let coloured = |args: &[&str], env: &[(&str, &str)]| {
        with_files(&files, &[&["check", "net.yaml"], args].concat(), env).stderr.contains('\u{1b}')
    };
    assert!(!coloured(&[], &[]));
    assert!(coloured(&["--color", "always"], &[("NO_COLOR", "1")]));
    assert!(!coloured(&["--color", "never"], &[]));
}

#[test]
fn json_is_short_for_the_format() {
    let files = [("net.yaml", "links: [{bridge: lan}]\n")];
    let json = with_files(&files, &["check", "--json", "net.yaml"], &[]);
    assert_eq!(json, with_files(&files, &["check", "--format", "json", "net.yaml"], &[]));
    assert!(json.stdout.starts_with("{\n  \"diagnostics\""), "{}", json.stdout);
    let json = with_files(&[], &["resolve-deps", "--json", "a"], &[]);
    assert_eq!(json.stdout, "[{\"node\": \"a\", \"deps\": []}]\n");
}

#[test]
fn an_unknown_option_is_a_usage_error() {
    let run = with_files(&[], &["--frob"], &[]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""));
    assert!(run.stderr.starts_with("error: unexpected argument '--frob' found"), "{}", run.stderr);
}

#[test]
fn version_list_completions_and_manual_go_to_standard_output() {
    for (args, begin) in [
        (vec!["--version"], "conlink "),
        (vec!["--list"], "conlink       Real networks for containers"),
        (vec!["--help"], "Real networks for containers"),
        (vec!["completions", "bash"], "_conlink() {"),
        (vec!["man"], ".ie \\n(.g"),
        (vec!["schema"], "{\n  \"$schema\""),
        (vec!["schema", "--compose"], "{\n  \"$schema\""),
    ] {
        let run = with_files(&[], &args, &[]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{args:?}");
        assert!(run.stdout.starts_with(begin), "{args:?}: {}", run.stdout);
    }
}

#[test]
fn install_creates_a_file_for_each_tool() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("utils");
    let name = target.to_str().unwrap();
    // Twice: what is there already is replaced.
    for _ in 0..2 {
        let run = conlink(dir.path(), &["install", name], &BTreeMap::new());
        assert_eq!(run, Run { code: 0, stdout: String::new(), stderr: String::new() });
    }
    let mut names: Vec<String> =
        fs::read_dir(&target).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(
        names.join(" "),
        "conlink conlink.js copy copy.sh mdc net2dot pipework resolve-deps resolve-deps.py wait wait.sh"
    );
    assert_eq!(fs::metadata(target.join("conlink")).unwrap().mode() & 0o777, 0o755);
    // Files that can be copied one by one, and take no more room than one.
    for name in &names {
        let it = fs::symlink_metadata(target.join(name)).unwrap();
        assert!(it.is_file(), "{name}");
        assert_eq!(it.nlink(), names.len() as u64, "{name}");
    }
    let mut called = Command::new(target.join("wait.sh"));
    called.args(["-i", "a/b"]);
    assert_eq!(run(called).stderr, "error: --intf: `a/b`: an interface name cannot hold '/'\n");
    let run = conlink(dir.path(), &["install", name, "echo", "wait", "wait"], &BTreeMap::new());
    assert_eq!(run, Run { code: 0, stdout: String::new(), stderr: String::new() });
    assert_eq!(fs::read_dir(&target).unwrap().count(), names.len() + 1);
    for (args, said) in [(&["a", "b  c"][..], "a b  c\n"), (&["-n", "a", "-n"], "a -n"), (&[], "\n")] {
        let mut called = Command::new(target.join("echo"));
        called.args(args);
        assert_eq!(crate::support::run(called).stdout, said);
    }
    let run = conlink(dir.path(), &["install", name, "frob"], &BTreeMap::new());
    assert_eq!(run.code, 2);
    assert!(run.stderr.starts_with("error: unknown tool `frob`; expected `conlink`, "), "{}", run.stderr);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$0\" schema | head -c 1; exit \"${PIPESTATUS:-0}\"", env!("CARGO_BIN_EXE_conlink")]);
    assert_eq!(run(shell), Run { code: 0, stdout: "{".to_owned(), stderr: String::new() });
}

#[test]
fn the_bridge_mode_may_come_from_the_environment() {
    let files = [("net.yaml", "links: [{service: a, bridge: x}]\n")];
    let args = ["--network-file", "net.yaml", "--show-config"];
    let mode = |env: &[(&str, &str)], more: &[&str]| {
        let run = with_files(&files, &[&args, more].concat(), env);
        let shown: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        shown["bridges"]["x"]["mode"].as_str().unwrap().to_owned()
    };
    assert_eq!(mode(&[], &[]), "linux");
    assert_eq!(mode(&[("CONLINK_BRIDGE_MODE", "patch")], &[]), "patch");
    assert_eq!(mode(&[("CONLINK_BRIDGE_MODE", "patch")], &["--default-bridge-mode", "linux"]), "linux");
}

#[test]
fn a_mac_that_is_not_given_is_the_same_at_each_start() {
    let files = [("net.yaml", "links: [{service: a, bridge: x}, {container: c, bridge: x}]\n")];
    let args = ["--network-file", "net.yaml", "--show-config"];
    let of = |project: &str| with_files(&files, &args, &[("COMPOSE_PROJECT_NAME", project)]).stdout;
    assert_eq!(of("p"), of("p"));
    assert_ne!(of("p"), of("q"));
}
