//! The keys of a service that have an effect on its nodes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::lab::Lab;
use crate::support::skip;

/// Writes a program to the project's folder that prints its arguments, one per line.
fn with_arguments(lab: &Lab) {
    lab.write("args", "#!/bin/sh\nfor it; do echo \"<$it>\"; done\n");
    fs::set_permissions(lab.world.path("args"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn commands_are_strings_or_lists_and_the_entrypoint_comes_first() {
    let compose = r#"
services:
  text: {command: "./args one 'two  three' four\\ five"}
  list: {command: [./args, one, "two  three", "$$HOME"]}
  both: {entrypoint: [./args, first], command: second third}
  alone: {entrypoint: ./args only}
  none: {}
"#;
    let Some(lab) = Lab::new("commands", compose) else { return };
    with_arguments(&lab);
    lab.up(&[]);
    for (node, expected) in [
        ("text", "<one>\n<two  three>\n<four five>\n"),
        ("list", "<one>\n<two  three>\n<$HOME>\n"),
        ("both", "<first>\n<second>\n<third>\n"),
        ("alone", "<only>\n"),
        ("none", ""),
    ] {
        if node != "none" {
            assert_eq!(lab.until_node(node, "exited")["exit_code"], 0);
        }
        assert_eq!(lab.log(node), expected, "{node}");
    }
    assert_eq!(lab.process("none")["state"], "running");
}

#[test]
fn a_node_has_the_variables_of_its_service_and_no_others_of_the_caller() {
    let compose = r#"
services:
  list:
    env_file: one.env
    environment: [PLAIN=a b, "FROM_CALLER", "FROM_FILE", "INTERPOLATED=${CALLERS:-none} ${MISSING:-default}"]
    command: env
  map:
    env_file: [one.env, two.env]
    environment: {NUMBER: 1, EMPTY: "", "TRUE": "yes", PATH: /bin:/usr/bin}
    command: env
"#;
    let Some(lab) = Lab::new("variables", compose) else { return };
    lab.write(".env", "FROM_FILE=of .env\nCALLERS=of .env\n");
    lab.write("one.env", "A=1\nB='two words'\n");
    lab.write("two.env", "B=later\n");
    let mut up = lab.command("up", &[]);
    up.env("FROM_CALLER", "yes").env("CALLERS", "of the caller").env("SECRET", "x").env("LANG", "C.UTF-8");
    let run = lab.world.run(up);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    for (node, expected) in [
        (
            "list",
            "A=1\nB=two words\nFROM_CALLER=yes\nFROM_FILE=of .env\nHOME=/\nHOSTNAME=list\n\
             INTERPOLATED=of the caller default\nLANG=C.UTF-8\nPATH=SAME\nPLAIN=a b\n",
        ),
        (
            "map",
            "A=1\nB=later\nEMPTY=\nHOME=/\nHOSTNAME=map\nLANG=C.UTF-8\nNUMBER=1\nPATH=/bin:/usr/bin\nTRUE=yes\n",
        ),
    ] {
        lab.until_node(node, "exited");
        let mut lines: Vec<String> = lab.log(node).lines().map(str::to_owned).collect();
        lines.sort();
        let said = lines.join("\n") + "\n";
        assert_eq!(said.replace(&lab.world.env["PATH"], "SAME"), expected, "{node}");
    }
}

#[test]
fn the_working_directory_is_that_of_the_project_by_default() {
    let compose = r#"
services:
  here: {command: pwd}
  there: {command: pwd, working_dir: /usr/lib}
  nowhere: {command: pwd, working_dir: /no/such/folder}
  idle: {working_dir: /no/such/folder}
"#;
    let Some(lab) = Lab::new("working folder", compose) else { return };
    let run = lab.run("up", &[]);
    let folder = lab.world.dir().canonicalize().unwrap().display().to_string();
    for (node, expected) in [("here", folder.as_str()), ("there", "/usr/lib")] {
        lab.until_said(node, expected);
    }
    assert_eq!(run.code, 1, "{run:?}");
    let said = |node: &str| {
        format!("error: node {node}: working directory /no/such/folder: No such file or directory\n")
    };
    assert!(run.stderr.contains(&(said("nowhere") + &said("idle"))), "{run:?}");
}

#[test]
fn each_node_has_a_host_name_and_a_hosts_file_with_all_the_others() {
    let compose = r#"
services:
  named:
    hostname: gateway
    domainname: example.org
    extra_hosts: ["printer:192.0.2.7", "six=2001:db8::7"]
    x-network: {links: [{bridge: lan, ip: 10.5.0.1/24}, {bridge: other, dev: eth1, ip: [10.6.0.1/24, "fd00::1/64"]}]}
  plain:
    container_name: the-plain-one
    x-network: {links: [{bridge: lan, ip: 10.5.0.2/24}]}
  many:
    scale: 2
    x-network: {links: [{bridge: lan, ip: 10.5.0.11/24}]}
"#;
    let Some(lab) = Lab::up_with("host names", compose) else { return };
    assert_eq!(lab.exec("named", &["hostname"]), "gateway\n");
    assert_eq!(lab.exec("named", &["cat", "/proc/sys/kernel/domainname"]), "example.org\n");
    assert_eq!(lab.exec("named", &["cat", "/etc/hostname"]), "gateway\n");
    assert_eq!(lab.exec("many-2", &["hostname"]), "many-2\n");
    let lookup = |node: &str, name: &str| {
        let hosts = lab.exec(node, &["cat", "/etc/hosts"]);
        let lines = hosts.lines().map(|it| it.split('#').next().unwrap_or_default());
        let found = lines.filter_map(|it| {
            let mut words = it.split_whitespace();
            let addr = words.next()?;
            words.any(|it| it == name).then(|| addr.to_owned())
        });
        found.collect::<Vec<String>>().join(" ")
    };
    for (node, name, expected) in [
        ("plain", "plain", "10.5.0.2"),
        ("plain", "localhost", "127.0.0.1 ::1"),
        ("plain", "named", "10.5.0.1 10.6.0.1 fd00::1"),
        ("plain", "many", "10.5.0.11 10.5.0.12"),
        ("plain", "many-2", "10.5.0.12"),
        ("plain", "test-many-2", "10.5.0.12"),
        ("plain", "gateway", "10.5.0.1 10.6.0.1 fd00::1"),
        ("plain", "printer", ""),
        ("named", "printer", "192.0.2.7"),
        ("named", "six", "2001:db8::7"),
        ("named", "plain", "10.5.0.2"),
        ("named", "the-plain-one", "10.5.0.2"),
        ("many-1", "many", "10.5.0.11 10.5.0.12"),
    ] {
        assert_eq!(
            lookup(node, name),
            expected,
            "{name} in {node}: {}",
            lab.exec(node, &["cat", "/etc/hosts"])
        );
    }
    // The machine's file is unchanged, and the C library finds the names.
    assert!(!lab.world.sh("cat /etc/hosts").contains("10.5.0.2"));
    assert!(lab.exec("named", &["getent", "hosts", "plain"]).contains("10.5.0.2"));
}

#[test]
fn sysctls_are_set_before_and_after_interfaces_exist() {
    let compose = r#"
services:
  router:
    sysctls:
      net.ipv4.ip_forward: 1
      net.ipv4.conf.eth0.rp_filter: 2
      net.ipv6.conf.default.hop_limit: 99
    x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}
  listed:
    sysctls: ["net.ipv4.ip_default_ttl=7", "net.ipv4.ip_forward=0"]
  plain: {}
  wrong:
    sysctls: {net.ipv4.no_such_thing: 1}
"#;
    let Some(lab) = Lab::new("sysctls", compose) else { return };
    let run = lab.up(&[]);
    let read = |node: &str, path: &str| lab.exec(node, &["cat", &format!("/proc/sys/net/{path}")]);
    assert_eq!(read("router", "ipv4/ip_forward"), "1\n");
    assert_eq!(read("router", "ipv4/conf/eth0/rp_filter"), "2\n");
    assert_eq!(read("router", "ipv6/conf/eth0/hop_limit"), "99\n");
    assert_eq!(read("listed", "ipv4/ip_default_ttl"), "7\n");
    assert_eq!(read("listed", "ipv4/ip_forward"), "0\n");
    assert_eq!(read("plain", "ipv4/ip_default_ttl"), "64\n");
    assert!(run.stderr.contains("note: wrong: sysctl net.ipv4.no_such_thing=1: "), "{}", run.stderr);
}

#[test]
fn tmpfs_mounts_are_private() {
    let compose = r#"
services:
  a: {tmpfs: /mnt}
  b: {tmpfs: ["/mnt:size=1m,mode=0750"]}
  c: {volumes: [{type: tmpfs, target: /mnt, tmpfs: {size: 2m}}]}
  d: {}
"#;
    let Some(lab) = Lab::up_with("tmpfs", compose) else { return };
    let outside = lab.world.sh("ls -A /mnt");
    for node in ["a", "b", "c"] {
        lab.sh(node, "echo mine >/mnt/file");
        assert_eq!(lab.sh(node, "ls -A /mnt"), "file\n");
        assert!(lab.sh(node, "grep ' /mnt ' /proc/mounts").starts_with("tmpfs "));
    }
    assert!(lab.sh("b", "grep ' /mnt ' /proc/mounts").contains("size=1024k,mode=750"));
    assert!(lab.sh("c", "grep ' /mnt ' /proc/mounts").contains("size=2048k"));
    assert_eq!(lab.sh("d", "ls -A /mnt"), outside);
    assert_eq!(lab.world.sh("ls -A /mnt"), outside);
}

#[test]
fn volumes_are_mounted_at_existing_paths() {
    let compose = r#"
services:
  writer:
    command: [sh, -c, "echo shared >/mnt/file"]
    volumes: ["shared:/mnt", "./one:/srv"]
  reader:
    depends_on: {writer: {condition: service_completed_successfully}}
    volumes: ["shared:/mnt:ro", "./one/file:/etc/issue:ro", "/var/empty-of-its-own"]
  other:
    volumes: ["./made/by/compose:/mnt", "./one:/no/such/place", "./not/made:/no/such/folder"]
  within:
    volumes: ["./one:/mnt", "./made/within:/mnt/inner", "./not/made:/mnt/no-folder"]
volumes: {shared: {}}
"#;
    let Some(lab) = Lab::new("volumes", compose) else { return };
    lab.write("one/file", "of the project\n");
    lab.write("one/inner/keep", "");
    let issue = lab.world.sh("cat /etc/issue 2>/dev/null || true");
    let run = lab.up(&[]);
    assert_eq!(lab.sh("reader", "cat /mnt/file"), "shared\n");
    assert_eq!(lab.run("exec", &["reader", "--", "sh", "-c", "echo no >/mnt/file"]).code, 2);
    assert_eq!(lab.exec("reader", &["cat", "/etc/issue"]), "of the project\n");
    assert_eq!(lab.world.sh("cat /etc/issue 2>/dev/null || true"), issue);
    lab.sh("other", "echo there >/mnt/file");
    assert_eq!(lab.read("made/by/compose/file"), "there\n");
    let notes: Vec<&str> = run.stderr.lines().collect();
    assert_eq!(
        notes,
        [
            "note: reader: volume /var/empty-of-its-own is not mounted: no such file or directory \
             (--private-root creates it)",
            "note: other: volume /no/such/folder is not mounted: no such file or directory \
             (--private-root creates it)",
            "note: other: volume /no/such/place is not mounted: no such file or directory \
             (--private-root creates it)",
            "note: within: volume /mnt/no-folder is not mounted: no such file or directory \
             (--private-root creates it)",
        ]
    );
    // A volume that is not mounted leaves nothing on the machine.
    assert!(lab.world.path("made/within").exists() && !lab.world.path("not").exists());
}

#[test]
fn a_volume_outlives_its_nodes_and_ends_with_the_lab() {
    let compose = "
services:
  a: {volumes: ['data:/mnt'], environment: [TRY]}
volumes: {data: }
";
    let Some(lab) = Lab::up_with("volumes that last", compose) else { return };
    lab.sh("a", "echo kept >/mnt/file");
    let pid = lab.pid("a");
    let mut again = lab.command("up", &[]);
    again.env("TRY", "2");
    assert_eq!(lab.world.run(again).code, 0);
    assert_ne!(lab.pid("a"), pid, "it has another environment, so it is another process");
    assert_eq!(lab.sh("a", "cat /mnt/file"), "kept\n");
    lab.down();
    lab.up(&[]);
    assert_eq!(lab.sh("a", "ls /mnt"), "");
}

#[test]
fn a_program_runs_as_the_user_of_its_service() {
    let compose = r#"
services:
  named: {command: [sh, -c, "id -u; id -g; exec sleep 1000"], user: daemon}
  numbers: {command: [sh, -c, "id -u; id -g; exec sleep 1000"], user: "4711:4712"}
  root: {command: [sh, -c, "id -u; id -g; exec sleep 1000"]}
  unknown: {command: [sh, -c, "id -u; id -g; exec sleep 1000"], user: nobody-of-that-name}
"#;
    let Some(lab) = Lab::new("users", compose) else { return };
    let run = lab.up(&[]);
    let daemon = lab.world.sh("id -u daemon; id -g daemon");
    for (node, expected) in
        [("named", daemon.as_str()), ("numbers", "4711\n4712\n"), ("root", "0\n0\n"), ("unknown", "0\n0\n")]
    {
        lab.until_said(node, expected.lines().last().unwrap());
        assert_eq!(lab.log(node), expected, "{node}");
        // `lab exec` uses the same user.
        assert_eq!(lab.sh(node, "id -u; id -g"), expected, "{node}");
    }
    assert_eq!(
        run.stderr,
        "note: unknown: user: ignored, since this machine has no user `nobody-of-that-name`\n"
    );
}

#[test]
fn with_init_orphans_are_reaped_and_without_it_the_program_is_pid_1() {
    // A child leaves an orphan, which exits.
    let compose = r#"
services:
  with: {init: true, command: [sh, -c, "(sleep 0.05 &) ; exec sleep 1000"]}
  without: {command: [sh, -c, "(sleep 0.05 &) ; exec sleep 1000"]}
  code: {init: true, command: [sh, -c, "exit 7"]}
  signal: {init: true, command: [sh, -c, "kill -9 $$$$"]}
"#;
    let Some(lab) = Lab::up_with("init", compose) else { return };
    let zombies = "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l";
    let count = |node: &str| lab.sh(node, zombies).trim().parse::<u32>().unwrap();
    let end = std::time::Instant::now() + crate::lab::LIMIT;
    while count("without") == 0 {
        assert!(std::time::Instant::now() < end, "sleep buries what is not its own");
    }
    assert_eq!(count("with"), 0);
    assert_eq!(lab.sh("without", "tr '\\0' ' ' </proc/1/cmdline"), "sleep 1000 ");
    assert_ne!(lab.sh("with", "tr '\\0' ' ' </proc/1/cmdline"), "sleep 1000 ");
    assert_eq!(lab.until_node("code", "exited")["exit_code"], 7);
    assert_eq!(lab.until_node("signal", "exited")["exit_code"], 137);
}

#[test]
fn replicas_come_from_the_files_or_the_command_line() {
    let compose = r#"
services:
  scaled: {scale: 2}
  deployed: {deploy: {replicas: 3}}
  one: {}
  none: {scale: 0}
"#;
    let Some(lab) = Lab::up_with("replicas", compose) else { return };
    let names = || {
        let status = lab.status();
        let all = status["nodes"].as_array().unwrap().iter();
        let mut all: Vec<String> = all.map(|it| it["process"]["name"].as_str().unwrap().to_owned()).collect();
        all.sort();
        all.join(" ")
    };
    assert_eq!(names(), "deployed-1 deployed-2 deployed-3 one scaled-1 scaled-2");
    let pid = lab.pid("scaled-1");
    lab.up(&["--scale", "scaled=1", "--scale", "none=2", "--scale", "deployed=0"]);
    assert_eq!(names(), "none-1 none-2 one scaled");
    // It has another name now, also as its host name.
    assert_eq!(lab.exec("scaled", &["hostname"]), "scaled\n");
    assert_ne!(lab.pid("scaled"), pid);
    let run = lab.run("up", &["--scale", "nobody=1"]);
    assert_eq!((run.code, run.stderr.as_str()), (1, "error: --scale nobody=1: unknown service `nobody`\n"));
    let run = lab.run("up", &["--scale", "one"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("expected SERVICE=N, such as `worker=3`"), "{}", run.stderr);
}

#[test]
fn services_of_enabled_profiles_run() {
    let compose = r#"
services:
  always: {}
  debug: {profiles: [debug]}
  extra: {profiles: [extra, debug]}
"#;
    let Some(lab) = Lab::up_with("profiles", compose) else { return };
    let names = || {
        let status = lab.status();
        let all = status["nodes"].as_array().unwrap().iter();
        all.map(|it| it["process"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(), "always");
    lab.up(&["--profile", "extra"]);
    assert_eq!(names(), "always extra");
    lab.up(&["--profile", "debug"]);
    assert_eq!(names(), "always debug extra");
    let mut again = lab.command("up", &[]);
    again.env("COMPOSE_PROFILES", "debug");
    assert_eq!(lab.world.run(again).code, 0);
    assert_eq!(names(), "always debug extra");
    lab.up(&[]);
    assert_eq!(names(), "always");
}

#[test]
fn a_node_may_share_the_network_of_another() {
    let compose = r#"
services:
  sidecar: {network_mode: "service:main", hostname: beside}
  main: {x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
  other: {x-network: {links: [{bridge: lan, ip: 10.0.0.2/24}]}}
"#;
    let Some(lab) = Lab::up_with("a shared network", compose) else { return };
    let netns = |node: &str| lab.exec(node, &["readlink", "/proc/self/ns/net"]);
    assert_eq!(netns("sidecar"), netns("main"));
    assert_ne!(netns("sidecar"), netns("other"));
    assert!(lab.exec("sidecar", &["ip", "-br", "addr"]).contains("10.0.0.1/24"));
    assert_eq!(lab.exec("sidecar", &["hostname"]), "beside\n");
    assert!(lab.done("ping", &["-c", "1", "sidecar", "other"]).contains("1 received"));
    // It has a process namespace of its own.
    assert_ne!(
        lab.exec("sidecar", &["readlink", "/proc/self/ns/pid"]),
        lab.exec("main", &["readlink", "/proc/self/ns/pid"])
    );
}

#[test]
fn a_node_without_its_program_idles_with_a_note() {
    let compose = r#"
services:
  a: {command: no-such-program --flag, x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
  b: {command: [/no/such/file], x-network: {links: [{bridge: lan, ip: 10.0.0.2/24}]}}
"#;
    let Some(lab) = Lab::new("programs that are not here", compose) else { return };
    let run = lab.up(&[]);
    assert!(run.stdout.contains("2 nodes, 2 links; all links connected"), "{run:?}");
    for line in [
        "note: a: program `no-such-program` not found: the node idles",
        "note: b: program `/no/such/file` not found: the node idles",
    ] {
        assert!(run.stderr.lines().any(|it| it == line), "{}", run.stderr);
    }
    assert_eq!(lab.process("a")["state"], "running");
    assert!(lab.done("ping", &["-c", "1", "a", "b"]).contains("1 received"));
}

#[test]
fn a_program_that_cannot_be_run_is_an_error_and_stops_no_other_node() {
    let compose = "services: {a: {command: [./not-executable]}, b: {command: [sleep, \"1000\"]}}";
    let Some(lab) = Lab::new("programs that cannot be run", compose) else { return };
    lab.write("not-executable", "text");
    let run = lab.run("up", &[]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("run `./not-executable`: Permission denied"), "{run:?}");
    assert_eq!(lab.process("a")["state"], "failed");
    assert_eq!(lab.process("b")["state"], "running");
}

#[test]
fn a_script_without_an_interpreter_line_runs_in_a_shell() {
    let Some(lab) = Lab::new("scripts", "services: {a: {command: [./script, word]}}") else { return };
    lab.write("script", "echo \"it has $1\"\n");
    fs::set_permissions(lab.world.path("script"), fs::Permissions::from_mode(0o755)).unwrap();
    lab.up(&[]);
    lab.until_said("a", "it has word");
}

#[test]
fn our_own_tools_replace_missing_programs() {
    let compose = r#"
services:
  a:
    command: [wait, -I, eth0, --, echo, wired]
    x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}
"#;
    let Some(lab) = Lab::up_with("wait in a node", compose) else { return };
    lab.until_said("a", "wired");
}

#[test]
fn without_a_private_root_a_node_writes_to_the_host() {
    let Some(lab) = Lab::up_with("a shared root", "services: {a: {command: [sh, -c, 'echo x >made']}}")
    else {
        return;
    };
    lab.until_node("a", "exited");
    assert_eq!(lab.read("made"), "x\n");
    assert_eq!(fs::metadata(lab.world.path("made")).unwrap().uid(), 0);
}

#[test]
fn the_engines_own_service_has_no_node() {
    let compose = r#"
services:
  network: {image: conlink, command: [/bin/conlink, --compose-file, compose.yaml]}
  a: {depends_on: {network: {condition: service_healthy}}}
"#;
    let Some(lab) = Lab::up_with("the engine's service", compose) else { return };
    let status = lab.status();
    assert_eq!(status["nodes"].as_array().unwrap().len(), 1, "{status:#}");
    lab.until_node("a", "running");
}

#[test]
fn a_server_serves_another_node_by_name() {
    let compose = r#"
services:
  web:
    command: [busybox, httpd, -f, -p, "10.0.1.1:8080", -h, ./www]
    x-network: {links: [{bridge: lan, ip: 10.0.1.1/24}]}
  client:
    depends_on: [web]
    command: [wait, -T, "20", --http, "http://web:8080/", --, busybox, wget, -q, -O, "-", "http://web:8080/"]
    x-network: {links: [{bridge: lan, ip: 10.0.1.2/24}]}
"#;
    let Some(lab) = Lab::new("a server and its client", compose) else { return };
    if lab.world.sh("command -v busybox || true").is_empty() {
        return skip("a server and its client", "busybox is not installed");
    }
    lab.write("www/index.html", "hello from the lab\n");
    lab.up(&[]);
    lab.until_said("client", "hello from the lab");
    assert_eq!(lab.until_node("client", "exited")["exit_code"], 0);
}
