use std::io::ErrorKind;
use std::sync::Arc;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::config::Severity;

/// The services of a compose file, and what there is to say of it: place, severity, message, help, and other places.
fn read(text: &str) -> (Vec<Service>, Vec<String>) {
    read_with(text, &[], &[])
}

/// As [`read`], with variables and with env files in `/p`.
fn read_with(text: &str, env: &[(&str, &str)], files: &[(&str, &str)]) -> (Vec<Service>, Vec<String>) {
    let mut sources = Sources::default();
    sources.add("c.yaml", text);
    let env: Env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let read = |path: &Path| {
        let found = files.iter().find(|(name, _)| Path::new("/p").join(name) == path);
        found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| io::Error::from(ErrorKind::NotFound))
    };
    let context = Context { env: &env, dir: Path::new("/p"), profiles: &[], read: &read };
    let (services, diagnostics) = services(&sources, &sources.ids().collect::<Vec<_>>(), context);
    let said = diagnostics.iter().map(|it| {
        let place = |span| sources.place(span);
        let severity = if it.severity == Severity::Error { "" } else { "warning: " };
        let help = it.help.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        let label = it.label.as_ref().map(|it| format!(" [{it}]")).unwrap_or_default();
        let notes: String =
            it.notes.iter().map(|(span, text)| format!(" {{{}: {text}}}", place(*span))).collect();
        format!("{}: {severity}{}{help}{label}{notes}\n", it.span.map(place).unwrap_or_default(), it.message)
    });
    (services, said.collect())
}

/// The services of a file that nothing is wrong with.
fn good(text: &str) -> Vec<Service> {
    let (services, said) = read(text);
    assert_eq!(said, [""; 0], "{text}");
    services
}

/// What is wrong with services, each given by its name and keys in flow style.
fn wrong(services: &[&str], expected: &Expect) {
    let text: String = services.iter().map(|it| format!("  {it}\n")).collect();
    expected.assert_eq(&read(&format!("services:\n{text}")).1.concat());
}

#[test]
fn a_service_with_every_key_is_read() {
    let services = good(
        r#"
services:
  db: {command: serve, healthcheck: {test: [CMD, ping], interval: 2s}}
  a:
    entrypoint: [e]
    command: "x 'y z'"
    environment: {A: 1.10, B: null}
    working_dir: /w
    hostname: h
    domainname: example.org
    extra_hosts: [b=::1]
    sysctls: [net.ipv4.ip_forward=1]
    restart: on-failure:3
    depends_on: {db: {condition: service_healthy}}
    stop_signal: SIGINT
    stop_grace_period: 1m30s
    volumes: ["./d:/d/:ro", "data:/v", "/anon", {type: tmpfs, target: /t, tmpfs: {size: 1k, mode: 0o1777}}]
    tmpfs: ["/run:size=1m,mode=755", /x]
    configs: [{source: c, target: /etc/c}]
    secrets: [s]
    user: 1:2
    network_mode: service:db
    init: true
    scale: 2
volumes: {data: {}}
configs: {c: {file: ./c}}
secrets: {s: {file: s}}
"#,
    );
    expect![[r#"
        Service {
            name: "a",
            replicas: 2,
            container_name: None,
            argv: [
                "e",
                "x",
                "y z",
            ],
            env: [
                (
                    "A",
                    "1.1",
                ),
            ],
            working_dir: Some(
                "/w",
            ),
            hostname: Some(
                "h",
            ),
            domainname: Some(
                "example.org",
            ),
            extra_hosts: [
                (
                    "b",
                    ::1,
                ),
            ],
            sysctls: [
                (
                    "net.ipv4.ip_forward",
                    "1",
                ),
            ],
            restart: OnFailure(
                Some(
                    3,
                ),
            ),
            depends_on: [
                Dependency {
                    service: "db",
                    condition: Healthy,
                    required: true,
                },
            ],
            healthcheck: None,
            stop_signal: 2,
            stop_grace: 90s,
            volumes: [
                Mount {
                    source: Path {
                        path: "/p/d",
                        create: true,
                    },
                    target: "/d",
                    read_only: true,
                },
                Mount {
                    source: Volume(
                        "data",
                    ),
                    target: "/v",
                    read_only: false,
                },
                Mount {
                    source: Anonymous,
                    target: "/anon",
                    read_only: false,
                },
                Mount {
                    source: Path {
                        path: "/p/c",
                        create: false,
                    },
                    target: "/etc/c",
                    read_only: true,
                },
                Mount {
                    source: Path {
                        path: "/p/s",
                        create: false,
                    },
                    target: "/run/secrets/s",
                    read_only: true,
                },
            ],
            tmpfs: [
                Tmpfs {
                    target: "/run",
                    options: "size=1m,mode=755",
                },
                Tmpfs {
                    target: "/x",
                    options: "",
                },
                Tmpfs {
                    target: "/t",
                    options: "size=1024,mode=1777",
                },
            ],
            user: Some(
                "1:2",
            ),
            shares_network_of: Some(
                "db",
            ),
            init: true,
            log: LogLimit {
                size: 1048576,
                files: 10,
            },
            privileges: Privileges {
                capabilities: 2818848251,
                filtered: true,
            },
            is_engine: false,
            notes: [],
            origin: "c.yaml:4:3",
        }
    "#]]
    .assert_eq(&format!("{:#?}\n", services[1]));
}

#[test]
fn all_mistakes_are_reported_with_their_places() {
    wrong(
        &[
            "a: {stop_grace_period: 90, restart: alway, scale: many, stop_signal: SIGTREM, hostname: a b, init: si}",
            "b: {command: \"x 'y\", entrypoint: 'e (', container_name: -x, user: [1]}",
            "c: {depends_on: [bb], network_mode: service:d, comand: x}",
            "e: {depends_on: {a: {condition: healthy}, b: {condition: service_healthy}, c: {}}}",
            "f: {extra_hosts: [x, y=z, 'a b=1.2.3.4'], sysctls: {net.: 1, net.//.x: 2, net.a: }, volumes: [nope:/x, ./a:b]}",
            "g: {healthcheck: {test: [CMD-SHEL, x], interval: 1e3s, retries: -1}}",
            "'h/i': {container_name: ../x, tmpfs: run, volumes: [{type: bind, target: /x}, {target: /y}]}",
            "j: {scale: 2, deploy: {replicas: 3}, container_name: j}",
            "k: {scale: 20000, networks: [n], network_mode: none, configs: [c], volumes: [{type: tmpfs, target: /t, tmpfs: {size: x}}]}",
            "l: {container_name: same}",
            "m: {container_name: same}",
        ],
        &expect![[r#"
            c.yaml:2:26: invalid duration `90` (add a unit, such as `90s`)
            c.yaml:2:39: invalid restart policy `alway` (did you mean `always`?)
            c.yaml:2:53: expected a whole number, 0 or more, found `many` (use a whole number)
            c.yaml:2:72: unknown signal `SIGTREM` (did you mean `SIGTERM`?)
            c.yaml:2:91: invalid host name `a b` (expected at most 64 letters, digits, `.`, `_` and `-`)
            c.yaml:2:102: expected `true` or `false`, found `si` (use `true` or `false`)
            c.yaml:3:19: `'` is not closed (close it, or use `\'`)
            c.yaml:3:39: `(` cannot stand here outside of quotes (put it in quotes; for a shell, write `sh -c '…'`)
            c.yaml:3:59: invalid container name `-x` (expected a letter or a digit at the start)
            c.yaml:3:69: expected a string, found a list
            c.yaml:4:20: unknown service `bb` (expected `a`, `b`, `c`, `e`, `f`, `g`, `h/i`, `j`, `k`, `l` or `m`)
            c.yaml:4:39: unknown service `d` (expected `a`, `b`, `c`, `e`, `f`, `g`, `h/i`, `j`, `k`, `l` or `m`)
            c.yaml:4:50: warning: unknown property `comand` of a service (did you mean `command`?)
            c.yaml:5:35: unknown condition `healthy` (did you mean `service_healthy`?)
            c.yaml:5:45: `b` has no healthcheck, so it never becomes healthy (add a `healthcheck`, or use `service_started`) {c.yaml:3:3: this service}
            c.yaml:5:78: dependency `c` has no condition (add `condition: service_started`)
            c.yaml:6:21: `x` has no address (expected `NAME=ADDRESS`)
            c.yaml:6:24: `z` is not an IP address (expected `NAME=ADDRESS`)
            c.yaml:6:29: invalid host name `a b` (expected `NAME=ADDRESS`)
            c.yaml:6:61: invalid sysctl name `net.` (expected a name such as `net.ipv4.ip_forward`)
            c.yaml:6:74: invalid sysctl name `net.//.x` (expected a name such as `net.ipv4.ip_forward`)
            c.yaml:6:82: `net.a` has no value (expected `NAME=VALUE`)
            c.yaml:6:97: unknown volume `nope` (declare it in `volumes:`; a path starts with `.` or `/`)
            c.yaml:6:106: invalid mount point `b` (use an absolute path)
            c.yaml:7:28: unknown kind of test `CMD-SHEL` (expected `[CMD, PROGRAM, ARGUMENT…]`, `[CMD-SHELL, COMMAND]` or `[NONE]`)
            c.yaml:7:52: invalid duration `1e3s` (expected numbers with the units `h`, `m`, `s`, `ms` or `us`, such as `1m30s`)
            c.yaml:7:67: expected a whole number, 0 or more, found `-1` (use a whole number)
            c.yaml:8:3: invalid service name `h/i` (expected at most 200 letters, digits, `.`, `_` and `-`)
            c.yaml:8:27: invalid container name `../x` (expected a letter or a digit at the start)
            c.yaml:8:40: invalid mount point `run` (use an absolute path)
            c.yaml:8:55: `source` is missing (add the file or folder of the host)
            c.yaml:8:81: `type` is missing (expected `bind`, `volume` or `tmpfs`)
            c.yaml:9:14: `scale` is 2 and `deploy.replicas` is 3 (remove one of them) {c.yaml:9:36: here}
            c.yaml:9:56: 2 replicas cannot share one name (remove `container_name`) {c.yaml:9:14: the number of replicas}
            c.yaml:10:14: 20000 replicas are too many (expected at most 10000)
            c.yaml:10:31: a service has `networks` or `network_mode`, not both (remove one of them) {c.yaml:10:50: the other one}
            c.yaml:10:66: unknown name `c` of `configs` (declare it in the top-level `configs:`)
            c.yaml:10:120: invalid size `x` (expected a number of bytes, or a number with `k`, `m` or `g`)
            c.yaml:12:23: duplicate container name `same` (choose another `container_name`) {c.yaml:11:23: first used here}
        "#]],
    );
}

#[test]
fn a_container_name_cannot_be_the_default_name_of_a_replica() {
    let text = "services:\n  a: {scale: 2}\n  b: {container_name: p-a-2}\n  c: {container_name: p-a-3}\n";
    let (_, said) = read_with(text, &[("COMPOSE_PROJECT_NAME", "p")], &[]);
    expect![[r#"
        c.yaml:3:23: duplicate container name `p-a-2` (choose another `container_name`) {c.yaml:2:3: first used here}
    "#]].assert_eq(&said.concat());
}

#[test]
fn a_shared_network_needs_a_replica() {
    wrong(
        &["a: {scale: 0}", "b: {network_mode: 'service:a'}"],
        &expect![[r#"
            c.yaml:3:3: cannot share the network of `a`: it has no replicas (give `a` a replica, or remove `network_mode`) {c.yaml:2:3: this service}
        "#]],
    );
    good("services: {a: {scale: 0}, b: {network_mode: 'service:a', scale: 0}}");
    good("services: {a: {scale: 0, image: conlink}, b: {network_mode: 'service:a'}}");
}

#[test]
fn a_zero_byte_is_an_error() {
    wrong(
        &[r#"a: {command: [x, "a\0b"], environment: {"A\0": 1}, hostname: "h\0", volumes: ["./a\0:/b"]}"#],
        &expect![[r#"
            c.yaml:2:20: zero byte in the argument of a program (remove `\0`)
            c.yaml:2:43: zero byte in the argument of a program (remove `\0`)
            c.yaml:2:64: zero byte in the argument of a program (remove `\0`)
            c.yaml:2:81: zero byte in the argument of a program (remove `\0`)
        "#]],
    );
}

#[test]
fn cycles_are_named() {
    wrong(
        &[
            "a: {depends_on: [b, d]}",
            "b: {depends_on: [c]}",
            "c: {network_mode: 'service:a'}",
            "d: {depends_on: [e]}",
            "e: {links: [e]}",
        ],
        &expect![[r#"
            c.yaml:4:21: services wait for each other: a → b → c → a (remove one of these dependencies)
            c.yaml:6:15: services wait for each other: e → e (remove one of these dependencies)
        "#]],
    );
    // Two ways to one service are no cycle.
    good("services: {a: {depends_on: [b, c]}, b: {depends_on: [d]}, c: {depends_on: [d]}, d: {}}");
}

#[test]
fn a_shell_operator_in_a_command_is_a_warning() {
    wrong(
        &["a: {command: 'x | y'}"],
        &expect![[r#"
            c.yaml:2:19: warning: compose runs no shell: it drops `| y` (use `sh -c '…'`, or quote the character)
        "#]],
    );
    wrong(
        &["a: {command: \"x \\n  & y\"}"],
        &expect![[r#"
            c.yaml:2:16: warning: compose runs no shell: it drops `& y` (use `sh -c '…'`, or quote the character)
        "#]],
    );
}

#[test]
fn a_wrong_value_of_a_variable_is_shown() {
    let (_, said) = read_with(
        "services: {a: {restart: $R, stop_grace_period: \"${T:?say it}\"}}",
        &[("R", "maybe")],
        &[],
    );
    expect![[r#"
        c.yaml:1:25: invalid restart policy `maybe` (expected `no`, `always`, `on-failure`, `on-failure:TIMES` or `unless-stopped`) [this is `maybe` here]
        c.yaml:1:49: variable `T` is not set: say it (set `T` in the environment)
    "#]].assert_eq(&said.concat());
}

#[test]
fn mistakes_in_env_files_have_their_own_places() {
    let (services, said) = read_with(
        "services:\n  a:\n    env_file: [e1, e2, {path: e3, required: false}, {path: e4, format: raw}]\n",
        &[],
        &[("e1", "A=1\nB C=2\nD='x\n"), ("e4", "A=$A\nB C=1\n")],
    );
    expect![[r#"
        c.yaml:3:16: /p/e1:2:1: the variable name `B C` contains a space (a line is `NAME=value` or begins with `#`)
        c.yaml:3:16: /p/e1:3:3: the value begins with `'` and has no `'` at its end (close the quotes, or put the value into the other kind)
        c.yaml:3:20: read env file /p/e2: entity not found (`required: false` ignores a missing file)
        c.yaml:3:53: /p/e4:2: invalid variable name `B C` (expected `NAME=value` or a comment after `#`)
    "#]].assert_eq(&said.concat());
    assert_eq!(services[0].env, [("A".to_owned(), "$A".to_owned())]);
}

#[test]
fn unset_variables_in_env_files_are_warnings() {
    let (services, said) = read_with(
        "services:\n  a:\n    env_file: [e1, e2]\n    environment: {KNOWN: 1}\n  b: {env_file: e1}\n",
        &[],
        &[("e1", "A=1\nB=\"$A $KNOWN\n$NONE\"\n"), ("e2", "C=$A\nD=$NONE\n")],
    );
    expect![[r#"
        c.yaml:3:16: warning: /p/e1:3:1: variable `NONE` is not set and counts as empty (set it, or write `${NONE:-}` if it may be empty)
        c.yaml:3:20: warning: /p/e2:2:3: variable `NONE` is not set and counts as empty (set it, or write `${NONE:-}` if it may be empty)
        c.yaml:5:17: warning: /p/e1:2:7: variable `KNOWN` is not set and counts as empty (set it, or write `${KNOWN:-}` if it may be empty)
    "#]].assert_eq(&said.concat());
    assert_eq!(services[0].env.last(), Some(&("KNOWN".to_owned(), "1".to_owned())));
}

#[test]
fn only_services_of_enabled_profiles_run() {
    let text = "services:\n  a: {}\n  b: {profiles: [p]}\n  c: {profiles: [q, r], stop_grace_period: wrong}\n  \
        d: {depends_on: {b: {condition: service_started, required: false}}}\n";
    let names = |env: &[(&str, &str)]| {
        let (services, said) = read_with(text, env, &[]);
        let names: Vec<String> =
            services.iter().map(|it| format!("{} {}", it.name, it.depends_on.len())).collect();
        (names.join(", "), said.len())
    };
    assert_eq!(names(&[]), ("a 0, d 0".to_owned(), 0));
    assert_eq!(names(&[("COMPOSE_PROFILES", "x, p")]), ("a 0, b 0, d 1".to_owned(), 0));
    assert_eq!(names(&[("COMPOSE_PROFILES", "*")]), ("a 0, b 0, c 0, d 1".to_owned(), 1));
    wrong(
        &["a: {depends_on: [b], network_mode: 'service:b'}", "b: {profiles: [p, q]}"],
        &expect![[r#"
            c.yaml:2:20: no profile of service `b` is enabled (enable profile `p` or `q`, or add `required: false`)
        "#]],
    );
    let mut sources = Sources::default();
    let file = sources.add("c.yaml", text);
    let env = Env::from([("COMPOSE_PROFILES".to_owned(), "q".to_owned())]);
    let asked = ["p".to_owned()];
    let read = |_: &Path| Err(io::Error::from(ErrorKind::NotFound));
    let context = Context { env: &env, dir: Path::new("/p"), profiles: &asked, read: &read };
    let (services, _) = super::services(&sources, &[file], context);
    let names: Vec<&str> = services.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "d"], "what is asked for takes the place of COMPOSE_PROFILES");
}

#[test]
fn capabilities_follow_the_rules_of_docker() {
    let of = |keys: &str| good(&format!("services:\n  a: {{{keys}}}\n"))[0].privileges;
    let default = of("").capabilities;
    let (admin, mknod) = (1 << 21, 1 << 27);
    for (keys, capabilities, filtered) in [
        ("cap_add: [CAP_sys_admin]", default | admin, true),
        ("cap_drop: [MKNOD]", default & !mknod, true),
        ("cap_add: [MKNOD], cap_drop: [MKNOD]", default, true),
        ("cap_drop: [ALL], cap_add: [SYS_ADMIN]", admin, true),
        ("cap_drop: [all]", 0, true),
        ("cap_add: [ALL], cap_drop: [MKNOD]", !mknod, true),
        ("privileged: true, cap_drop: [ALL]", u64::MAX, false),
        ("privileged: false, security_opt: ['no-new-privileges:true']", default, true),
        ("security_opt: ['seccomp:unconfined']", default, false),
    ] {
        assert_eq!(of(keys), Privileges { capabilities, filtered }, "{keys}");
    }
}

#[test]
fn a_log_has_a_size() {
    let of =
        |options: &str| good(&format!("services:\n  a: {{logging: {{options: {{{options}}}}}}}\n"))[0].log;
    assert_eq!(of("max-size: 10m, max-file: '3'"), LogLimit { size: 10 << 20, files: 3 });
    assert_eq!(of("max-size: 500"), LogLimit { size: 500, files: 10 });
    wrong(
        &["a: {logging: {options: {max-size: -1, max-file: 0}}}", "b: {cap_add: [SYS_ADMN, x]}"],
        &expect![[r#"
            c.yaml:2:37: invalid size `-1` (expected a number of bytes above 0, or a number with `k`, `m` or `g`)
            c.yaml:2:51: `max-file` is 0 (expected at least 1)
            c.yaml:3:17: unknown capability `SYS_ADMN` (did you mean `SYS_ADMIN`?)
            c.yaml:3:27: unknown capability `x` (expected a name such as `SYS_ADMIN`, or `ALL`)
        "#]],
    );
}

#[test]
fn a_key_without_effect_is_a_note_with_its_place() {
    let services = good(
        "services:\n  a:\n    image: x\n    cap_add: [ALL]\n    network_mode: none\n    stop_grace_period: 0s\n    \
         ports: ['80:80']\n    privileged: true\n    read_only: false\n    devices: []\n    \
         sysctls: {kernel.shmmax: 1, net.core.somaxconn: 2}\n    extra_hosts: ['g:host-gateway']\n    \
         healthcheck: {interval: 1s}\n    configs: [c]\n  b: {network_mode: host, networks: , deploy: {resources: {limits: {cpus: '1'}}}}\n  \
         conlink: {image: conlink, ports: ['80:80'], privileged: true}\nconfigs: {c: {content: x}}\n",
    );
    let notes: Vec<String> = services.iter().flat_map(|it| it.notes.clone()).map(|it| it + "\n").collect();
    expect![[r#"
        c.yaml:7:5: `ports` has no effect: a lab has a network of its own
        c.yaml:11:30: `kernel.shmmax` is not set: only sysctls of `net.` belong to a node
        c.yaml:12:19: `g` has no address: a lab has no `host-gateway`
        c.yaml:13:18: `healthcheck` has no `test`, and there is no image to define one
        c.yaml:14:15: /c is not mounted: only `configs` with `file` are
        c.yaml:15:21: `network_mode: host` has no effect: the node has a network of its own
        c.yaml:15:59: `deploy.resources` has no effect: a lab sets no limits
        c.yaml:16:29: `ports` has no effect: a lab has a network of its own
    "#]]
    .assert_eq(&notes.concat());
    assert_eq!(services[0].sysctls, [("net.core.somaxconn".to_owned(), "2".to_owned())]);
    assert_eq!(services[0].healthcheck, None);
    assert!(services[2].is_engine);
}

#[test]
fn extends_and_include_are_warnings() {
    let (_, said) = read("services: {a: {extends: b}, b: {}}\ninclude: [c.yaml]\n");
    expect![[r#"
        c.yaml:1:16: warning: `extends` is not followed (write out what it stands for, or give its files too)
        c.yaml:2:1: warning: `include` is not followed (write out what it stands for, or give its files too)
    "#]]
    .assert_eq(&said.concat());
}

#[test]
fn a_service_may_depend_on_the_engine() {
    let services = good(
        "services: {network: {image: conlink}, a: {depends_on: {network: {condition: service_healthy}}}}",
    );
    assert_eq!(services[1].depends_on[0].condition, Condition::Healthy);
}

#[test]
fn dollars_are_single_and_keys_are_as_written() {
    let services = good(
        "services: {a: {command: [\"$$HOME\", '$$$$x'], environment: ['A=$$x', '$$B=1'], volumes: ['./a$$b:/c']}}",
    );
    assert_eq!(services[0].argv, ["$HOME", "$$x"]);
    let env = [("A", "$x"), ("$B", "1")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(services[0].env, env);
    let path = PathBuf::from("/p/a$b");
    assert_eq!(services[0].volumes[0].source, Source::Path { path, create: true });
}

#[test]
fn a_bind_volume_is_its_folder() {
    let services = good(
        "services: {a: {volumes: ['data:/d']}}\nvolumes: {data: {driver_opts: {type: none, o: 'bind,ro', device: ./x}}}",
    );
    let path = PathBuf::from("/p/x");
    assert_eq!(services[0].volumes[0].source, Source::Path { path, create: false });
}

#[test]
fn the_restart_policy_of_deploy_applies_without_restart() {
    let restarts = |text: &str| good(&format!("services: {{a: {{{text}}}}}"))[0].restart;
    assert_eq!(restarts("deploy: {restart_policy: {}}"), Restart::Always);
    assert_eq!(restarts("deploy: {restart_policy: {condition: none}}"), Restart::No);
    let on_failure = "deploy: {restart_policy: {condition: on-failure, max_attempts: 3}}";
    assert_eq!(restarts(on_failure), Restart::OnFailure(Some(3)));
    assert_eq!(restarts(&format!("restart: 'no', {on_failure}")), Restart::No);
    assert_eq!(restarts("restart: on-failure:0"), Restart::OnFailure(None));
}

#[test]
fn files_without_services_have_none() {
    for text in ["", "services:\n", "x-network: {}\n"] {
        assert!(good(text).is_empty(), "{text}");
    }
}

#[test]
fn many_services_are_read_quickly() {
    let service = |it: usize| format!("  s{it}: {{command: sleep 1, depends_on: [s{}]}}\n", it + 1);
    let text: String = (0..2000).map(service).collect();
    let services: Vec<Arc<Service>> =
        good(&format!("services:\n{text}  s2000: {{}}\n")).into_iter().map(Arc::new).collect();
    let nodes = nodes(&services, "p");
    assert_eq!((nodes.len(), nodes[0].short.as_str(), nodes[2000].short.as_str()), (2001, "s2000", "s0"));
}

/// A compose file with a few pieces replaced.
fn mutated() -> impl Strategy<Value = String> {
    let good = "services:\n  a: &a\n    image: conlink\n    command: sh -c 'x; y'\n    entrypoint: [e, '$$x']\n    scale: 2\n    environment: [A=1, B]\n    env_file: [{path: e, required: false}]\n    depends_on: {b: {condition: service_healthy}}\n    healthcheck: {test: [CMD, x], interval: 1m30s, retries: 3}\n    stop_grace_period: 10s\n    stop_signal: SIGINT\n    restart: on-failure:3\n    volumes: ['./a:/b:ro', {type: tmpfs, target: /t, tmpfs: {size: 1m}}]\n    extra_hosts: {x: 1.2.3.4}\n    sysctls: {net.ipv4.ip_forward: 1}\n  b:\n    <<: *a\n    network_mode: service:a\n    deploy: {replicas: 1, restart_policy: {condition: any}}\n    configs: [c]\nvolumes: {v: {driver_opts: {o: bind, device: x}}}\nconfigs: {c: {file: x}}\n";
    let piece = prop::sample::select(vec![
        "",
        "é",
        "[",
        "]",
        "{",
        "}",
        ":",
        "- ",
        "!reset ",
        "${A:-",
        "}",
        "null",
        "-1",
        "1.5",
        "'",
        "\"",
        "\n",
        "*a",
        "99999999999999999999",
        "\\",
        "(",
        "`",
        "service:",
        "a",
        "b",
        "CMD",
        "NONE",
        "/",
        "..",
        "=",
        ".inf",
        "0",
    ]);
    prop::collection::vec((0..good.len(), 0..6usize, piece), 1..5).prop_map(move |cuts| {
        let mut text = good.to_owned();
        for (start, len, piece) in cuts {
            let floor =
                |at: usize| (0..=at.min(text.len())).rev().find(|it| text.is_char_boundary(*it)).unwrap_or(0);
            let (start, end) = (floor(start), floor(start + len));
            text.replace_range(start..end, piece);
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn mutations_are_read_or_refused(text in mutated()) {
        let (services, said) = read(&text);
        let services: Vec<Arc<Service>> = services.into_iter().map(Arc::new).collect();
        let is_refused = |it: &String| it.contains("invalid service name") || it.contains("invalid container name");
        for node in nodes(&services, "p") {
            prop_assert!(said.iter().any(is_refused) || !node.name.contains('/'));
        }
    }
}
