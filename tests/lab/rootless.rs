//! Labs of ordinary users.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::Lab;
use crate::lab::isolation::at_terminal;
use crate::lab::world::World;
use crate::support::{Run, skip};

/// A user ID that no account of the machine is likely to have.
const UID: u32 = 61_234;

const TWO: &str = "
services:
  h1: {command: [sh, -c, 'id -u; exec sleep 1000'], x-network: {links: [{bridge: lan, ip: 10.0.1.1/24}]}}
  h2: {x-network: {links: [{bridge: lan, ip: 10.0.1.2/24}]}}
";

/// The lab of an ordinary user. None, with a report, if the machine does not allow user namespaces.
fn users(what: &str, compose: &str) -> Option<Lab> {
    users_after("true", what, compose)
}

/// The same, after a shell command that root runs in the world.
fn users_after(line: &str, what: &str, compose: &str) -> Option<Lab> {
    let mut lab = Lab::new(what, compose)?;
    lab.world.sh(line);
    lab.world.become_user(UID);
    chown(lab.world.path("compose.yaml"), Some(UID), Some(UID)).unwrap();
    let mut probe = Command::new("unshare");
    probe.args(["-U", "-r", "-n", "true"]);
    let run = lab.world.run(probe);
    if run.code != 0 {
        skip(what, &format!("ordinary users make no namespaces here: {}", run.stderr.trim()));
        return None;
    }
    lab.before = lab.world.machine();
    Some(lab)
}

#[test]
fn an_ordinary_user_can_have_labs() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("modes-examples/router/compose.yaml");
    let Some(lab) = users("labs of ordinary users", &fs::read_to_string(example).unwrap()) else { return };
    let run = lab.up(&[]);
    assert_eq!(
        (run.stdout.as_str(), run.stderr.as_str()),
        ("lab test is up: 4 nodes, 6 links; all links connected\n", "")
    );
    assert!(lab.done("ping", &[]).ends_with("12 of 12 answered\n"));
    assert!(lab.done("ping", &["-c", "1", "h1", "h3"]).contains("ttl=63"));
    assert_eq!(lab.exec("h1", &["id", "-u"]), "0\n", "it is root there, and nowhere else");
    assert!(lab.exec("h1", &["ip", "-br", "addr", "show", "eth0"]).contains("10.1.0.10/24"));
    assert!(lab.exec("--bridges", &["ip", "-br", "link"]).contains("red"));
    assert_eq!(lab.exec("r", &["cat", "/proc/sys/net/ipv4/ip_forward"]), "1\n");
    assert!(lab.exec("h1", &["cat", "/etc/hosts"]).contains("10.3.0.10"));
    // A node may change its own network, and the status shows it.
    lab.exec("h1", &["ip", "link", "set", "eth0", "down"]);
    lab.until("told", |it| it["state"] == "drifted");
    lab.exec("h1", &["ip", "link", "set", "eth0", "up"]);
    lab.exec("h1", &["ip", "route", "add", "default", "via", "10.1.0.1", "proto", "194"]);
    lab.until("as it was", |it| it["state"] == "connected");
    assert!(lab.done("status", &[]).starts_with("lab test: connected, 4 nodes, 6 links\n"));
    let listed = lab.world.run(lab.world.conlink(&["lab", "list"]));
    assert_eq!(listed.stdout, "NAME  STATE      NODES\ntest  connected  4\n");
    let folder = fs::metadata(lab.folder()).unwrap();
    assert_eq!((folder.uid(), folder.mode() & 0o777), (UID, 0o700));
}

#[test]
fn services_of_an_ordinary_user_have_private_files() {
    let compose = r#"
services:
  a:
    hostname: mine
    command: [sh, -c, "cat /etc/hostname; cat /mnt/file; echo x >made; exec sleep 1000"]
    user: daemon
    sysctls: {net.ipv4.ip_forward: 1}
    tmpfs: /srv
    volumes: ["./data:/mnt:ro"]
    x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}
"#;
    let Some(lab) = users("files of ordinary users", compose) else { return };
    lab.write("data/file", "of the volume\n");
    let run = lab.up(&[]);
    assert_eq!(run.stderr, "note: a: user: ignored, since the lab of an ordinary user has no other users\n");
    lab.until_said("a", "of the volume");
    assert_eq!(lab.log("a"), "mine\nof the volume\n");
    assert_eq!(lab.exec("a", &["cat", "/proc/sys/net/ipv4/ip_forward"]), "1\n");
    lab.sh("a", "echo y >/srv/file");
    assert_ne!(lab.run("exec", &["a", "sh", "-c", "echo z >/mnt/file"]).code, 0);
    assert_eq!(fs::metadata(lab.world.path("made")).unwrap().uid(), UID);
}

#[test]
fn ordinary_users_can_have_private_roots() {
    // The folder is closed to the user, and something is mounted in it.
    let line = "mkdir -p closed/inner && mount -n -t tmpfs none closed/inner && chmod 700 closed";
    let Some(lab) = users_after(line, "private roots of ordinary users", TWO) else { return };
    let run = lab.run("up", &["--private-root"]);
    assert_eq!(run.code, 0, "{run:?}");
    let said = |path: &str| {
        format!(
            "note: h1: {path}: the node shares the machine's files there: Permission denied (os error 13)"
        )
    };
    let closed = said(lab.world.path("closed").to_str().unwrap());
    assert!(run.stderr.lines().any(|it| it == closed), "{run:?}");
    // The machine may have more of them.
    assert!(run.stderr.lines().all(|it| it.ends_with(": Permission denied (os error 13)")), "{run:?}");
    lab.sh("h1", "mkdir /made && echo x >/made/file && echo x >/etc/made");
    assert_eq!(lab.sh("h2", "ls -d /made /etc/made 2>/dev/null || true"), "");
    assert!(!Path::new("/made").exists() && !Path::new("/etc/made").exists());
    assert!(lab.done("ping", &[]).ends_with("2 of 2 answered\n"));
    lab.sh("h1", "echo x >/dev/null; test $(head -c 3 /dev/zero | wc -c) = 3; echo x >/dev/shm/file");
    assert_eq!(lab.sh("h2", "ls /dev/pts /dev/shm"), "/dev/pts:\nptmx\n\n/dev/shm:\n");
    let exec = format!("exec {} lab exec -n test h1 tty", lab.world.binary.display());
    let run = at_terminal(&lab, &exec, "");
    assert_eq!((run.code, run.stdout.trim()), (0, "/dev/console"), "{run:?}");
}

#[test]
fn a_node_of_an_ordinary_user_does_not_reach_the_users_binary() {
    let Some(mut lab) = users("the binary of an ordinary user", TWO) else { return };
    let copy = lab.world.path("mine");
    fs::copy(&lab.world.binary, &copy).unwrap();
    chown(&copy, Some(UID), Some(UID)).unwrap();
    lab.world.binary = copy.clone();
    let before = fs::metadata(&copy).unwrap().mode();
    lab.up(&[]);
    assert_eq!(
        lab.sh("h2", "chmod 4777 /proc/1/exe; readlink /proc/1/exe >/dev/null && echo done"),
        "done\n"
    );
    assert_eq!(fs::metadata(&copy).unwrap().mode(), before);
}

#[test]
fn a_link_on_the_host_is_an_error_for_an_ordinary_user() {
    let compose = "\
services:
  a:
    x-network:
      links:
        - {bridge: lan, ip: 10.0.0.1/24}
        - {type: macvlan, outer-dev: eth0, dev: eth1, ip: 10.9.0.1/24}
        - {base: host, bridge: docker0, dev: eth2, ip: 10.8.0.1/24}
  b: {x-network: {links: [{bridge: lan, ip: 10.0.0.2/24}], tunnels: [{type: vxlan, bridge: lan, remote: 192.0.2.1, vni: 7}]}}
";
    let Some(lab) = users("the host's interfaces and ordinary users", compose) else { return };
    let run = lab.run("up", &[]);
    assert_eq!(run.code, 1, "{run:?}");
    let errors: Vec<&str> = run.stderr.lines().filter(|it| it.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 3, "{}", run.stderr);
    for (start, place) in
        [("tunnel vxlan-7: ", "8:70"), ("link test-a-1:eth1: ", "6:11"), ("link test-a-1:eth2: ", "7:11")]
    {
        let found = errors.iter().find(|it| it.starts_with(&format!("error: {start}")));
        let end = format!("compose.yaml:{place})");
        let said = "an ordinary user may not change the host's network (";
        assert!(found.is_some_and(|it| it.contains(said) && it.ends_with(&end)), "{start}: {errors:?}");
    }
    assert!(run.stderr.contains("hint: run the lab as root\n"), "{}", run.stderr);
    assert!(lab.done("ping", &["-c", "1", "a", "b"]).contains("1 received"));
}

#[test]
fn a_killed_keeper_of_an_ordinary_user_leaves_nothing() {
    let Some(lab) = users("killed keepers of ordinary users", TWO) else { return };
    for _ in 0..5 {
        lab.up(&[]);
        lab.signal("KILL", lab.keeper().unwrap());
        lab.until_dead();
    }
    lab.up(&[]);
    assert!(lab.done("ping", &[]).ends_with("2 of 2 answered\n"));
    let run = lab.run("run", &["-n", "other", "--", "true"]);
    assert_eq!(run.code, 2, "a name is given once: {run:?}");
}

#[test]
fn without_a_runtime_folder_one_in_tmp_is_used_and_removed() {
    let Some(mut lab) = users("no runtime folder", TWO) else { return };
    lab.world.env.remove("XDG_RUNTIME_DIR");
    let folder = PathBuf::from(format!("/tmp/conlink-{UID}"));
    let _ = fs::remove_dir_all(&folder);
    let lab_run = |subcommand: &str, args: &[&str]| -> Run { lab.run(subcommand, args) };
    let up = lab_run("up", &[]);
    let ping = lab_run("ping", &[]);
    let made = fs::metadata(folder.join("conlink/lab/test")).map(|it| (it.uid(), it.mode() & 0o777));
    let status = lab.world.run(lab.world.conlink(&["status", "test"]));
    let list = lab.world.run(lab.world.conlink(&["lab", "list"]));
    let outer = fs::metadata(&folder).map(|it| it.mode() & 0o777);
    let down = lab_run("down", &[]);
    let left = folder.exists();
    assert_eq!(up.code, 0, "{up:?}");
    assert!(ping.stdout.ends_with("2 of 2 answered\n"), "{ping:?}");
    assert_eq!(made.unwrap(), (UID, 0o700));
    assert_eq!(outer.unwrap(), 0o700);
    assert!(status.stdout.starts_with("lab test: connected"), "{status:?}");
    assert!(list.stdout.contains("test  connected  2"), "{list:?}");
    assert_eq!((down.code, left), (0, false), "{down:?}");
    lab.world.expect(&lab.before);
}

#[test]
fn a_folder_in_tmp_of_another_user_is_not_used() {
    let Some(mut lab) = users("somebody else's folder", TWO) else { return };
    // Not the user of the test above.
    lab.world.become_other(UID + 1);
    let folder = PathBuf::from(format!("/tmp/conlink-{}", UID + 1));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("conlink/lab")).unwrap();
    World::open_to_all(&folder);
    let run = lab.run("up", &[]);
    let made = folder.join("conlink/lab/test").exists();
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!((run.code, made), (1, false), "{run:?}");
    let said = format!("/tmp/conlink-{}", UID + 1);
    assert!(run.stderr.starts_with("error: ") && run.stderr.contains(&said), "{run:?}");
    lab.world.expect(&lab.before);
}

#[test]
fn root_of_a_user_namespace_can_have_labs() {
    let Some(lab) = users("labs within a user namespace", TWO) else { return };
    let conlink = lab.world.binary.display().to_string();
    let script = format!(
        "set -e; c='{conlink}'; $c lab up -n inner; $c lab ping -n inner | tail -1; \
         $c lab exec -n inner h1 -- hostname; $c lab status -n inner | head -1; $c lab down -n inner; $c lab list"
    );
    for options in [&["-U", "-r", "-n"][..], &["-U", "-r", "-n", "-m", "-p", "-f", "--mount-proc"]] {
        let mut command = Command::new("unshare");
        command.args(options).args(["sh", "-c", &script]);
        let run = lab.world.run(command);
        assert_eq!(
            run.stdout,
            "lab inner is up: 2 nodes, 2 links; all links connected\n2 of 2 answered\nh1\n\
             lab inner: connected, 2 nodes, 2 links\nNAME  STATE      NODES\n",
            "{options:?}: {run:?}"
        );
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{options:?}");
        lab.world.expect(&lab.before);
    }
}

#[test]
fn forwarded_ports_are_at_127_0_0_1_in_the_namespace_of_the_bridges() {
    let compose = r#"
services:
  web:
    command: [busybox, httpd, -f, -p, "80", -h, /etc]
    x-network: {links: [{bridge: lan, ip: 10.0.1.1/24, forward: 8080:80/tcp}]}
"#;
    let root = Lab::new("forwarded ports of a lab", compose);
    for lab in [root, users("forwarded ports of an ordinary user's lab", compose)].into_iter().flatten() {
        let run = lab.up(&[]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
        let url = "http://127.0.0.1:8080/passwd";
        let conlink = lab.world.conlink(&[]);
        let wait = [conlink.get_program().to_str().unwrap(), "wait", "-T", "20", "--http", url, "--"];
        let said = lab.exec("--bridges", &[&wait[..], &["busybox", "wget", "-q", "-O", "-", url]].concat());
        assert!(said.contains("root:"), "{said}");
        // The settings that forwarding needs in the namespace of the bridges are repaired.
        let answers = ["busybox", "wget", "-q", "-O", "/dev/null", url];
        for damage in ["ip addr flush dev lan", "busybox sysctl -w net.ipv4.ip_forward=0"] {
            lab.exec("--bridges", &damage.split(' ').collect::<Vec<_>>());
            lab.until(damage, |_| {
                let shown = lab.exec("--bridges", &["ip", "addr", "show", "dev", "lan"]);
                let forwards = lab.exec("--bridges", &["busybox", "sysctl", "-n", "net.ipv4.ip_forward"]);
                shown.contains("inet 169.254.") && forwards.trim() == "1"
            });
            lab.exec("--bridges", &answers);
        }
        lab.down();
    }
}
