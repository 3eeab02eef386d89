//! The namespaces and names of nodes, and `lab exec`.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::process::Command;

use crate::lab::{Lab, World, end};
use crate::support::{Run, may_unshare};

const TWO: &str = "
services:
  h1: {environment: {COLOR: blue}, x-network: {links: [{bridge: lan, ip: 10.0.1.1/24}]}}
  h2: {x-network: {links: [{bridge: lan, ip: 10.0.1.2/24}]}}
";

#[test]
fn each_node_has_namespaces_of_its_own() {
    let Some(lab) = Lab::up_with("namespaces", TWO) else { return };
    for kind in ["net", "uts", "mnt", "pid"] {
        let link = format!("/proc/self/ns/{kind}");
        let outside = lab.world.sh(&format!("readlink {link}"));
        let bridges = lab.exec("--bridges", &["readlink", "/proc/self/ns/net"]);
        let all =
            [outside, bridges, lab.exec("h1", &["readlink", &link]), lab.exec("h2", &["readlink", &link])];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 4, "{kind}: {all:?}");
    }
    for node in ["h1", "h2"] {
        let lo = lab.exec(node, &["ip", "-br", "addr", "show", "lo"]);
        assert!(lo.contains("127.0.0.1/8") && lo.contains("::1/128"), "{lo}");
        // Its /proc and /sys show its own processes and interfaces.
        assert_eq!(lab.sh(node, "ls /sys/class/net | grep -v bonding"), "eth0\nlo\n");
        assert_eq!(lab.sh(node, "echo /proc/[0-9]*").split_whitespace().count(), 2, "itself, and this shell");
        assert_eq!(lab.sh(node, "hostname"), format!("{node}\n"));
    }
}

#[test]
fn mounts_of_a_node_are_private_and_those_of_the_host_reach_it() {
    let compose = TWO.replace("  h1: {", "  h1: {cap_add: [SYS_ADMIN], ");
    let Some(lab) = Lab::up_with("mounts", &compose) else { return };
    let before = lab.world.machine().mounts;
    lab.sh("h1", "mount -t tmpfs none /mnt && echo mine >/mnt/file");
    assert_eq!(lab.sh("h1", "cat /mnt/file"), "mine\n");
    // mount(8) writes a file in /run.
    lab.sh("h1", "rm -rf /run/mount");
    assert!(!lab.sh("h2", "cat /proc/mounts").contains(" /mnt "));
    assert_eq!(lab.world.machine().mounts, before);
    assert_eq!(lab.exec("h1", &["sh", "-c", "hostname other; hostname"]), "other\n");
    assert_eq!(lab.exec("h2", &["hostname"]), "h2\n");
    assert!(!["other", "h1", "h2"].contains(&lab.world.sh("hostname").trim()));
}

#[test]
fn processes_of_a_node_end_with_it() {
    let Some(lab) = Lab::up_with("processes", TWO) else { return };
    // One in another session, and one with a terminal.
    lab.sh("h1", "setsid sleep 987 >/dev/null 2>&1 </dev/null & sleep 0.1");
    let mut inside = lab.start("exec", &["h1", "sh", "-c", "echo there; exec sleep 986"]);
    let mut said = [0; 6];
    inside.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    let count = || lab.world.sh("cat /proc/[0-9]*/comm | grep -c '^sleep$' || true");
    assert_eq!(count(), "2\n");
    lab.signal("KILL", lab.pid("h1"));
    assert_eq!(end(inside, "exec").code, 137);
    lab.until_node("h1", "exited");
    assert_eq!(count(), "0\n");
}

#[test]
fn a_command_in_a_node_has_the_environment_of_its_program_and_our_streams() {
    let Some(lab) = Lab::up_with("exec", TWO) else { return };
    for code in [0, 1, 7, 255] {
        assert_eq!(lab.run("exec", &["h1", "--", "sh", "-c", &format!("exit {code}")]).code, code);
    }
    assert_eq!(lab.run("exec", &["h1", "--", "sh", "-c", "kill -9 $$"]).code, 137);
    let run = lab.run("exec", &["h1", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(run, Run { code: 0, stdout: "out\n".to_owned(), stderr: "err\n".to_owned() });
    assert_eq!(lab.sh("h1", "echo $COLOR $HOSTNAME"), "blue h1\n");
    assert_eq!(
        lab.done("exec", &["-e", "COLOR=red", "-e", "MORE=1", "h1", "sh", "-c", "echo $COLOR $MORE"]),
        "red 1\n"
    );
    assert_eq!(lab.done("exec", &["-w", "/usr", "h1", "pwd"]), "/usr\n");
    for node in ["h1", "--bridges"] {
        let run = lab.run("exec", &["-w", "/nope", node, "pwd"]);
        let said = "error: working directory /nope: No such file or directory\n";
        assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (126, "", said), "{node}");
    }
    let mut with_secret = lab.command("exec", &["h1", "env"]);
    with_secret.env("SECRET", "x").env("TERM", "vt100");
    let said = lab.world.run(with_secret).stdout;
    assert!(!said.contains("SECRET") && said.contains("TERM=vt100\n"), "{said}");
    // Options after the command belong to it.
    assert_eq!(lab.exec("h1", &["echo", "-n", "--name", "x"]), "--name x");
    let mut child = lab.start("exec", &["h1", "tr", "a-z", "A-Z"]);
    let text = "from standard input\n".repeat(10_000);
    let mut stdin = child.stdin.take().unwrap();
    let sent = text.clone();
    let writer = std::thread::spawn(move || stdin.write_all(sent.as_bytes()).unwrap());
    let run = end(child, "exec tr");
    writer.join().unwrap();
    assert_eq!((run.code, run.stdout), (0, text.to_uppercase()));
    // A closed pipe is not an error of the writer.
    assert_eq!(
        lab.world.sh(&format!("{} lab exec -n test h1 yes | head -1", lab.world.binary.display())),
        "y\n"
    );
    let run = lab.run("exec", &["h1", "--", "no-such-program"]);
    assert_eq!((run.code, run.stderr.as_str()), (127, "error: program `no-such-program` not found\n"));
    let run = lab.run("exec", &["h1", "--", "/etc/passwd"]);
    assert_eq!((run.code, run.stderr.as_str()), (126, "error: run `/etc/passwd`: Permission denied\n"));
}

#[test]
fn a_command_in_a_node_ends_on_a_signal() {
    let Some(lab) = Lab::up_with("exec and signals", TWO) else { return };
    let line = "trap 'echo told; exit 5' TERM INT; echo ready; while :; do sleep 0.02; done";
    for signal in [nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGINT] {
        let mut child = lab.start("exec", &["h1", "sh", "-c", line]);
        let mut said = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
        let run = end(child, "exec");
        assert_eq!((run.code, run.stdout.as_str()), (5, "told\n"), "{signal}");
    }
    // It also ends with `lab exec` if that cannot pass on the signal.
    let mut child = lab.start("exec", &["h1", "sh", "-c", line]);
    let mut said = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    child.kill().unwrap();
    assert_eq!(end(child, "exec").code, -1, "its output is closed");
}

#[test]
fn bridges_are_in_a_namespace_of_their_own() {
    let Some(lab) = Lab::up_with("bridges", TWO) else { return };
    let links = lab.exec("--bridges", &["ip", "-br", "link"]);
    for name in ["lan", "h1_1-eth0", "h2_1-eth0"] {
        assert!(links.contains(name), "{links}");
    }
    assert!(!lab.exec("h1", &["ip", "-br", "link"]).contains("lan"));
    // The files and names there are those of this machine.
    assert_eq!(lab.exec("--bridges", &["hostname"]), lab.world.sh("hostname"));
    // /proc and /sys show the processes and interfaces there.
    assert_eq!(
        lab.exec("--bridges", &["sh", "-c", "cat /proc/$$/comm; ls -d /sys/class/net/lan"]),
        "sh\n/sys/class/net/lan\n"
    );
    let mut with_variable = lab.command("exec", &["--bridges", "sh", "-c", "echo $MINE; pwd"]);
    with_variable.env("MINE", "mine");
    let folder = lab.world.dir().canonicalize().unwrap();
    assert_eq!(lab.world.run(with_variable).stdout, format!("mine\n{}\n", folder.display()));
}

#[test]
fn a_command_at_the_bridges_has_our_terminal_and_signals() {
    let Some(lab) = Lab::up_with("exec --bridges", TWO) else { return };
    for code in [0, 7] {
        assert_eq!(lab.run("exec", &["--bridges", "sh", "-c", &format!("exit {code}")]).code, code);
    }
    assert_eq!(lab.run("exec", &["--bridges", "sh", "-c", "kill -9 $$"]).code, 137);
    let line = "trap 'echo told; exit 5' TERM INT; echo ready; while :; do sleep 0.02; done";
    for signal in [nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGINT] {
        let mut child = started(&lab, line);
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
        drop(child.stdin.take());
        let run = end(child, "exec --bridges");
        assert_eq!((run.code, run.stdout.as_str()), (5, "told\n"), "{signal}");
    }
    // `script` provides a terminal; a Ctrl-C (\x03) reaches the command only.
    let exec = format!("exec {} lab exec -n test --bridges sh terminal", lab.world.binary.display());
    lab.write("terminal", "trap 'echo told; exit 5' INT; tty; echo ready; while :; do sleep 0.02; done\n");
    let mut script = std::process::Command::new("script");
    script.args(["--quiet", "--return", "--flush", "--command", &exec, "/dev/null"]);
    let mut child = lab.world.start(script);
    let said = until_ready(&mut child);
    assert!(said.starts_with("/dev/pts/"), "{said}");
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    let mut told = [0; 8];
    child.stdout.as_mut().unwrap().read_exact(&mut told).unwrap();
    let run = end(child, "script");
    assert_eq!(run.code, 5, "{run:?}");
}

/// Runs a shell command at a terminal with this input.
pub(super) fn at_terminal(lab: &Lab, line: &str, typed: &str) -> Run {
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--flush", "--command", line, "/dev/null"]);
    let mut child = lab.world.start(script);
    child.stdin.as_mut().unwrap().write_all(typed.as_bytes()).unwrap();
    end(child, line)
}

#[test]
fn a_shell_in_a_node_has_job_control() {
    let Some(lab) = Lab::up_with("job control", TWO) else { return };
    for place in ["h1", "--bridges"] {
        let exec = format!("{} lab exec -n test {place}", lab.world.binary.display());
        let run = at_terminal(&lab, &format!("exec {exec} sh"), "sleep 0 & wait; exit 9\n");
        assert_eq!(run.code, 9, "{place}: {run:?}");
        assert!(!run.stdout.contains("tty") && !run.stdout.contains("job control"), "{place}: {run:?}");
        // A stopped command is a stopped job of the outer shell, and continues with it.
        let line = format!(
            "set -m; {exec} sh -c 'kill -STOP $$; tty; exit 4'; echo code $?; fg >/dev/null; echo code $?"
        );
        lab.write("line", &line);
        let run = at_terminal(&lab, "exec sh line", "");
        let said: Vec<&str> = run.stdout.lines().filter(|it| it.starts_with("code ")).collect();
        assert_eq!(said, ["code 147", "code 4"], "{place}: {run:?}");
        assert!(run.stdout.contains("/dev/pts/"), "{place}: {run:?}");
    }
}

#[test]
fn a_stopped_exec_does_not_delay_the_end_of_the_lab() {
    let Some(lab) = Lab::new("stopped exec", TWO) else { return };
    for place in ["h1", "--bridges"] {
        lab.up(&[]);
        let mut child = lab.start("exec", &[place, "sh", "-c", "echo ready; exec sleep 983"]);
        until_ready(&mut child);
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
        lab.done("down", &[]);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
        assert_eq!(end(child, "exec").code, 137, "{place}");
        lab.world.expect(&lab.before);
    }
}

/// A shell command in the namespace of the bridges that has printed `ready`.
fn started(lab: &Lab, line: &str) -> std::process::Child {
    let mut child = lab.start("exec", &["--bridges", "sh", "-c", line]);
    until_ready(&mut child);
    child
}

/// Reads and returns a program's output up to the line `ready`.
fn until_ready(child: &mut std::process::Child) -> String {
    let mut said = String::new();
    let mut byte = [0];
    while !said.trim_end().ends_with("ready") || !said.ends_with('\n') {
        child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        said.push(char::from(byte[0]));
    }
    said
}

#[test]
fn commands_at_the_bridges_end_with_the_lab() {
    let Some(lab) = Lab::new("exec --bridges, and the end", TWO) else { return };
    for end_it in ["down", "kill"] {
        lab.up(&[]);
        let inside =
            started(&lab, "setsid sleep 985 >/dev/null 2>&1 </dev/null & echo ready; exec sleep 984");
        match end_it {
            "down" => drop(lab.done("down", &[])),
            _ => lab.signal("KILL", lab.keeper().unwrap()),
        }
        assert_eq!(end(inside, "exec --bridges").code, 137, "{end_it}");
        if end_it == "kill" {
            lab.until_dead();
            lab.done("down", &[]);
        }
        // No process and no network namespace is left.
        lab.world.expect(&lab.before);
    }
}

#[test]
fn a_node_has_several_names_and_a_misspelled_one_is_an_error() {
    let compose = "
services:
  worker: {scale: 2}
  server: {container_name: the-server}
";
    let Some(lab) = Lab::up_with("names", compose) else { return };
    for (word, host) in [
        ("worker", "worker-1"),
        ("worker-1", "worker-1"),
        ("worker-2", "worker-2"),
        ("test-worker-2", "worker-2"),
        ("server", "server"),
        ("server-1", "server"),
        ("the-server", "server"),
    ] {
        assert_eq!(lab.exec(word, &["hostname"]), format!("{host}\n"), "{word}");
    }
    for (word, said) in [
        ("sevrer", "error: no node is named `sevrer`; did you mean `server`?\n"),
        ("worker-3", "error: no node is named `worker-3`; did you mean `worker-1`?\n"),
        ("nothing-like-it", "error: no node is named `nothing-like-it`\n"),
    ] {
        for (subcommand, args) in [("exec", vec![word, "true"]), ("logs", vec![word]), ("ping", vec![word])] {
            let run = lab.run(subcommand, &args);
            assert_eq!((run.code, run.stderr.as_str()), (1, said), "lab {subcommand} {args:?}");
        }
    }
}

#[test]
fn labs_that_run_at_once_share_nothing() {
    let Some(mut lab) = Lab::up_with("several labs", TWO) else { return };
    lab.name = "other".to_owned();
    lab.up(&[]);
    // The same bridges, names and addresses.
    assert!(lab.done("ping", &[]).ends_with("2 of 2 answered\n"));
    lab.exec("--bridges", &["ip", "link", "set", "lan", "down"]);
    assert!(lab.run("ping", &["-c", "1", "-W", "0.2", "h1", "h2"]).stdout.contains("0 received"));
    lab.name = "test".to_owned();
    assert!(lab.done("ping", &[]).ends_with("2 of 2 answered\n"));
    let run = lab.world.run(lab.world.conlink(&["lab", "list"]));
    assert_eq!(run.stdout.lines().count(), 3, "{}", run.stdout);
    lab.world.write("elsewhere/keep", "");
    let mut ambiguous = lab.world.conlink(&["lab", "exec", "h1", "true"]);
    ambiguous.current_dir(lab.world.path("elsewhere"));
    // The compose file of the folder above is found; its project has no lab.
    let run = lab.world.run(ambiguous);
    assert!(
        run.stderr.ends_with("; running labs: other, test\nhint: choose a lab with `--name <NAME>`\n"),
        "{run:?}"
    );
    lab.name = "other".to_owned();
    lab.done("down", &[]);
    lab.name = "test".to_owned();
    assert!(lab.done("ping", &[]).ends_with("2 of 2 answered\n"));
}

/// Runs `conlink lab WORDS` in a folder of the world.
fn lab_in(world: &World, folder: &str, words: &str, env: &[(&str, &str)]) -> Run {
    let mut args = vec!["lab"];
    args.extend(words.split_whitespace());
    let mut command = world.conlink(&args);
    command.current_dir(world.path(folder)).envs(env.iter().copied());
    world.run(command)
}

#[test]
fn a_lab_has_the_name_of_its_project_by_default() {
    let Some(lab) = Lab::empty("default names") else { return };
    let world = &lab.world;
    world.write("My Folder/compose.yaml", "services: {a: {}}");
    world.write("named/compose.yaml", "name: of-the-file\nservices: {a: {}}");
    world.write("named/sub/keep", "");
    let up = |folder: &str, words: &str, env: &[(&str, &str)]| {
        let run = lab_in(world, folder, &format!("up {words}"), env);
        assert_eq!(run.code, 0, "{run:?}");
        run.stdout.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(up("My Folder", "", &[]), "myfolder");
    assert_eq!(up("named", "", &[]), "of-the-file");
    assert_eq!(up("named", "", &[("COMPOSE_PROJECT_NAME", "of-the-caller")]), "of-the-caller");
    assert_eq!(up("named", "--name told", &[("COMPOSE_PROJECT_NAME", "of-the-caller")]), "told");
    assert_eq!(up("named", "", &[("CONLINK_LAB", "current"), ("COMPOSE_PROJECT_NAME", "x")]), "current");
    // Commands use the lab of their folder, even if there are several.
    let host_of = |folder: &str, env: &[(&str, &str)]| lab_in(world, folder, "status", env).stdout;
    assert!(host_of("named/sub", &[]).starts_with("lab of-the-file: "));
    assert!(host_of("My Folder", &[]).starts_with("lab myfolder: "));
    assert!(
        host_of("named", &[("COMPOSE_PROJECT_NAME", "of-the-caller")]).starts_with("lab of-the-caller: ")
    );
    assert!(host_of("named", &[("CONLINK_LAB", "told")]).starts_with("lab told: "));
    for name in ["myfolder", "of-the-file", "of-the-caller", "told", "current"] {
        let run = lab_in(world, ".", &format!("down --name {name}"), &[]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{name}");
    }
    for name in ["", ".", "..", "a/b", ".hidden", "a b", &"x".repeat(65)] {
        let mut command = world.conlink(&["lab", "up", "--name", name]);
        command.current_dir(world.path("named"));
        let run = world.run(command);
        assert_eq!(run.code, 1, "{name}: {run:?}");
        assert!(run.stderr.starts_with(&format!("error: invalid lab name `{name}`: expected ")), "{run:?}");
    }
}

#[test]
fn the_only_running_lab_needs_no_name() {
    let Some(lab) = Lab::up_with("the only lab", TWO) else { return };
    let mut command = lab.world.conlink(&["lab", "exec", "h1", "hostname"]);
    command.current_dir("/");
    assert_eq!(lab.world.run(command).stdout, "h1\n");
    lab.down();
    let mut command = lab.world.conlink(&["lab", "exec", "h1", "hostname"]);
    command.current_dir("/");
    let run = lab.world.run(command);
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (1, "error: no lab is running\nhint: `conlink lab up` starts one\n")
    );
}

#[test]
fn the_folder_of_a_lab_of_root_is_private() {
    let Some(lab) = Lab::up_with("the folder", TWO) else { return };
    let folder = "/run/conlink/lab/test";
    assert_eq!(lab.world.sh(&format!("stat -c %a {folder} {folder}/socket")), "700\n600\n");
    let listed = lab.world.sh(&format!("ls {folder}"));
    assert_eq!(listed, "lock\nlog\nnodes\nproject\nsocket\n");
}

#[test]
fn a_lab_on_the_machine_itself_leaves_it_as_it_was() {
    if !may_unshare("a lab on the machine itself") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("compose.yaml"), TWO).unwrap();
    let name = format!("conlink-test-{}", std::process::id());
    let lab = |subcommand: &str, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_conlink"));
        command.args(["lab", subcommand, "-n", &name]).args(args).current_dir(dir.path());
        command.env_remove("CONLINK_LAB");
        crate::support::run(command)
    };
    let up = lab("up", &["-q"]);
    let ping = lab("ping", &[]);
    let list = lab("status", &["--json"]);
    let down = lab("down", &[]);
    assert_eq!((up.code, up.stderr.as_str()), (0, ""), "{up:?}");
    assert!(ping.stdout.ends_with("2 of 2 answered\n"), "{ping:?}");
    assert!(list.stdout.contains(&format!("\"project\":\"{name}\"")), "{list:?}");
    assert_eq!((down.code, down.stderr.as_str()), (0, ""), "{down:?}");
    assert!(!std::path::Path::new("/run/conlink/lab").join(&name).exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&name), "{mounts}");
    let links = Command::new("ip").arg("link").output().unwrap();
    assert!(!String::from_utf8_lossy(&links.stdout).contains(&name));
}
