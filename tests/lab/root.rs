//! Nodes with a root file system of their own.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::lab::Lab;
use crate::lab::isolation::at_terminal;
use crate::support::skip;

/// A lab of nodes with private roots. None, with a report, if the kernel has no overlayfs.
fn private(what: &str, compose: &str, files: &[(&str, &str)]) -> Option<Lab> {
    let lab = Lab::new(what, compose)?;
    if !fs::read_to_string("/proc/filesystems").unwrap().contains("overlay") {
        skip(what, "the kernel has no overlay");
        return None;
    }
    files.iter().for_each(|(name, text)| lab.write(name, text));
    let run = lab.up(&["--private-root"]);
    assert_eq!(run.stderr, "", "{what}");
    Some(lab)
}

#[test]
fn writes_of_a_node_reach_neither_the_host_nor_other_nodes() {
    let compose = "
services:
  a: {x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
  b: {x-network: {links: [{bridge: lan, ip: 10.0.0.2/24}]}}
";
    let Some(lab) = private("roots of their own", compose, &[("file", "of the host\n")]) else { return };
    let file = lab.world.path("file");
    let file = file.to_str().unwrap();
    let host = lab.world.sh("ls -A / /usr; cat /etc/passwd");
    // Mounts of the host are not removed.
    lab.sh("a", &format!("echo of a >{file}; mkdir /made; echo x >/usr/made; rm /etc/passwd"));
    let said = lab.sh("a", &format!("cat {file}; ls -d /made /usr/made; ls /etc/passwd 2>/dev/null || true"));
    assert_eq!(said, "of a\n/made\n/usr/made\n");
    assert_eq!(
        lab.sh("b", &format!("cat {file}; ls -d /made /usr/made 2>/dev/null || true")),
        "of the host\n"
    );
    assert_eq!(lab.world.sh("ls -A / /usr; cat /etc/passwd"), host);
    assert_eq!(lab.read("file"), "of the host\n");
    // Mounts below / are there too: devices, /proc, /sys, /tmp.
    assert_eq!(
        lab.sh("a", "echo x >/dev/null; ls /sys/class/net | grep -v bonding; cat /proc/sys/kernel/hostname"),
        "eth0\nlo\na\n"
    );
    assert!(lab.done("ping", &[]).ends_with("2 of 2 answered\n"));
    assert_eq!(lab.sh("a", "getent hosts b").split_whitespace().next(), Some("10.0.0.2"));
    // The changes are removed with the node.
    lab.signal("KILL", lab.pid("a"));
    lab.until_node("a", "exited");
    lab.up(&["--private-root"]);
    assert_eq!(lab.sh("a", &format!("cat {file}")), "of the host\n");
}

#[test]
fn mounts_of_the_host_do_not_lead_to_its_files() {
    let compose = "services: {a: {volumes: ['./shared:/shared']}, b: {}}";
    let Some(mut lab) = Lab::new("mounts under roots of their own", compose) else { return };
    for folder in ["memory/deep", "bound/inner", "shared"] {
        fs::create_dir_all(lab.world.path(folder)).unwrap();
    }
    lab.write("file", "of the host\n");
    lab.write("other", "of the other\n");
    // Nested tmpfs mounts, one with a comma in its name, and a single file.
    lab.world.sh(
        "mount -n -t tmpfs none memory && mkdir 'memory/a,b:c' && mount -n -t tmpfs none 'memory/a,b:c' \
         && echo host >memory/file && echo host >'memory/a,b:c/file' && chown 1234:5678 memory \
         && mount -n --bind bound bound && mount -n --bind other file && echo host >/run/file && rm -rf /run/mount",
    );
    lab.before = lab.world.machine();
    let run = lab.up(&["--private-root"]);
    assert_eq!(run.stderr, "");
    let read = "cat memory/file 'memory/a,b:c/file' file /run/file; ls bound; stat -c %u:%g memory";
    let host = lab.world.sh(read);
    assert_eq!(host, "host\nhost\nof the other\nhost\ninner\n1234:5678\n");
    assert_eq!(lab.sh("a", read), host);
    lab.sh("a", "for it in memory/file 'memory/a,b:c/file' file /run/file; do echo of a >\"$it\"; done; rmdir bound/*");
    assert_eq!(lab.sh("a", read), "of a\nof a\nof a\nof a\n1234:5678\n");
    assert_eq!(lab.sh("b", read), host);
    assert_eq!(lab.world.sh(read), host);
    // Except its volumes.
    lab.sh("a", "echo of a >/shared/file");
    assert_eq!(lab.read("shared/file"), "of a\n");
    lab.down();
    lab.world.sh("umount -n memory/a,b:c memory bound file && rm -rf /run/mount /run/file");
    lab.before = lab.world.machine();
}

#[test]
fn volumes_and_tmpfs_may_be_at_paths_that_the_host_does_not_have() {
    let compose = r#"
services:
  a:
    volumes: ["data:/made/for/data", "./one:/made/one:ro", "./one/file:/made/file", "/made/own"]
    tmpfs: /made/tmp
  b:
    volumes: ["data:/other"]
volumes: {data: {}}
"#;
    let Some(lab) = private("volumes anywhere", compose, &[("one/file", "text\n")]) else { return };
    lab.sh("a", "echo shared >/made/for/data/file; echo x >/made/own/x; echo y >/made/tmp/y");
    assert_eq!(lab.exec("b", &["cat", "/other/file"]), "shared\n");
    assert_eq!(
        lab.sh("a", "cat /made/one/file /made/file; ls /made/own /made/tmp"),
        "text\ntext\n/made/own:\nx\n\n/made/tmp:\ny\n"
    );
    assert_ne!(lab.run("exec", &["a", "sh", "-c", "echo no >/made/one/file"]).code, 0);
    lab.sh("a", "echo back >/made/file");
    assert_eq!(lab.read("one/file"), "back\n", "a volume is the host's");
    assert_eq!(lab.world.sh("ls -d /made /other 2>/dev/null || true"), "");
}

#[test]
fn our_own_tools_work_by_name() {
    let compose = r#"
services:
  a:
    environment: {NAME: world}
    command: [copy, -T, ./files, /, --, cat, /made/by-copy, /etc/hosts]
  b:
    depends_on: {a: {condition: service_completed_successfully}}
    command: [/utils/wait.sh, -I, eth0, --, echo, it is wired]
    x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}
"#;
    let files = [("files/made/by-copy", "hello {{NAME}}\n"), ("files/etc/hosts", "10.0.0.9 by-copy\n")];
    let Some(lab) = private("copy in a node", compose, &files) else { return };
    let log = lab.log("a");
    assert_eq!(lab.until_node("a", "exited")["exit_code"], 0, "{log}");
    assert!(log.contains("\nhello world\n10.0.0.9 by-copy\n"), "{log}");
    lab.until_said("b", "it is wired");
    assert!(!lab.world.sh("cat /etc/hosts").contains("by-copy"));
    assert!(!Path::new("/made").exists());
}

#[test]
fn a_program_of_a_volume_runs() {
    let compose = r#"
services:
  a: {command: [/opt/tools/say, word], volumes: ["./tools:/opt/tools:ro"]}
"#;
    let lab = Lab::new("a program of a volume", compose);
    let Some(lab) = lab else { return };
    lab.write("tools/say", "#!/bin/sh\necho it says $1\n");
    fs::set_permissions(lab.world.path("tools/say"), fs::Permissions::from_mode(0o755)).unwrap();
    lab.up(&["--private-root"]);
    lab.until_said("a", "it says word");
}

#[test]
fn the_example_of_the_tools_works_without_its_images() {
    let Some(lab) = Lab::empty("the example web") else { return };
    for program in ["busybox", "wget"] {
        if lab.world.sh(&format!("command -v {program} || true")).is_empty() {
            return skip("the example web", &format!("{program} is not installed"));
        }
    }
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("modes-examples/web");
    lab.world.sh(&format!("cp -r {}/. .", example.display()));
    lab.up(&["--private-root"]);
    let end = std::time::Instant::now() + crate::lab::LIMIT;
    while lab.run("exec", &["client", "test", "-s", "/tmp/page"]).code != 0 {
        assert!(std::time::Instant::now() < end, "{}", lab.done("logs", &[]));
    }
    let page = lab.exec("client", &["cat", "/tmp/page"]);
    assert!(page.contains("a templated page, served at 10.0.1.1; {{THIS}} is no variable"), "{page}");
    assert!(lab.sh("web", "tr '\\0' ' ' </proc/1/cmdline").starts_with("busybox httpd"));
    assert_eq!(lab.world.sh("ls -d /www /utils /tmp/page 2>/dev/null || true"), "");
}

#[test]
fn a_node_does_not_reach_the_machines_binary_through_its_processes() {
    let compose = "
services:
  idle: {}
  attended: {command: [sleep, '1000'], init: true}
  tool: {command: [wait.sh, -T, '1000', --file, /no/such/file]}
";
    let Some(mut lab) = Lab::new("the binary in nodes", compose) else { return };
    // Not the binary of other tests.
    let copy = lab.world.path("conlink");
    // By another process: a child that is started meanwhile would keep the file open for writing.
    let status = std::process::Command::new("cp").arg(&lab.world.binary).arg(&copy).status().unwrap();
    assert!(status.success());
    lab.world.binary = copy.clone();
    let told = || fs::metadata(&copy).map(|it| (it.mode(), it.uid(), it.len())).unwrap();
    let before = told();
    for options in [&[][..], &["--private-root"]] {
        lab.up(options);
        for node in ["idle", "attended", "tool"] {
            assert!(lab.sh(node, "readlink /proc/1/exe").contains("conlink"), "{node} {options:?}");
            lab.run(
                "exec",
                &[node, "sh", "-c", "chmod 4777 /proc/1/exe; chown 1:1 /proc/1/exe; echo x >>/proc/1/exe"],
            );
            assert_eq!(told(), before, "{node} {options:?}");
        }
        lab.down();
    }
}

/// Gives the world a `/dev` of its own, which the nodes of a faulty lab may damage.
const OWN_DEV: &str = "mkdir dev && mount -n -t tmpfs none dev && mkdir dev/pts dev/shm \
    && for it in null zero full random urandom tty; do cp -a /dev/$it dev; done \
    && ln -s pts/ptmx dev/ptmx && mount -n --bind /dev/pts dev/pts && mount -n --rbind dev /dev";

#[test]
fn a_private_root_has_devices_of_its_own() {
    let compose = "services: {a: {}, b: {volumes: ['/dev/full:/dev/more/full']}}";
    let Some(mut lab) = Lab::new("devices of private roots", compose) else { return };
    lab.world.sh(OWN_DEV);
    lab.before = lab.world.machine();
    let run = lab.up(&["--private-root"]);
    assert_eq!(run.stderr, "");
    let list = "stat -c '%n %a %u %s' /dev /dev/* /dev/shm/* 2>/dev/null";
    let host = lab.world.sh(&format!("{list} || true"));
    for line in [
        "echo x >/dev/null && test $(head -c 3 /dev/zero | wc -c) = 3 && ! echo x 2>/dev/null >/dev/full",
        "test $(head -c 3 /dev/urandom | wc -c) = 3 && test -c /dev/random && test -c /dev/tty",
        "test $(stat -c %a /dev/shm) = 1777 && echo x >/dev/shm/file",
        "test -c /dev/ptmx && test \"$(ls /dev/pts)\" = ptmx",
        "echo x | cat /dev/fd/0 /dev/stdin >/dev/stdout",
        "test \"$(script -qc tty /dev/null)\" = $(printf '/dev/pts/0\\r')",
        // A device that a node makes elsewhere is no way to one of the machine.
        "mknod /made c 1 3 && ! echo x 2>/dev/null >/made",
    ] {
        lab.sh("a", line);
    }
    // Process 1 has the node's devices open, not those of the machine.
    for line in ["chmod 0 /proc/1/fd/0", "chmod 0 /dev/zero", "rm -f /dev/null", "mkdir /dev/made"] {
        lab.run("exec", &["a", "sh", "-c", line]);
    }
    assert_eq!(lab.world.sh(&format!("{list} || true")), host);
    assert_eq!(lab.sh("b", "echo x >/dev/null; ls -d /dev/made /dev/shm/* 2>/dev/null || true"), "");
    lab.sh("b", "test -c /dev/more/full && ! echo x 2>/dev/null >/dev/more/full");
    lab.down();
    lab.world.sh("umount -n -R /dev && umount -n -R dev");
    lab.before = lab.world.machine();
}

#[test]
fn a_command_at_a_terminal_finds_its_name_in_a_private_root() {
    let Some(lab) = private("terminals of private roots", "services: {a: {}}", &[]) else { return };
    let exec = format!("exec {} lab exec -n test a", lab.world.binary.display());
    let run = at_terminal(&lab, &format!("{exec} sh"), "tty; sleep 0 & wait; exit 9\n");
    assert_eq!(run.code, 9, "{run:?}");
    assert!(run.stdout.contains("/dev/console") && !run.stdout.contains("job control"), "{run:?}");
    // Only this command has it.
    assert_eq!(lab.sh("a", "test -s /dev/console || test -c /dev/console || echo none"), "none\n");
}

#[test]
fn a_missing_working_directory_is_made_in_a_private_root() {
    let compose = "services: {a: {command: pwd, working_dir: /made/for/it}}";
    let Some(lab) = private("working folders of private roots", compose, &[]) else { return };
    lab.until_said("a", "/made/for/it");
    assert!(!Path::new("/made").exists());
}
