//! The size of logs and volumes, logs of dead labs, and what a full file system means.

use std::fs;
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use crate::lab::{LIMIT, Lab, end};

/// Prints more than a log keeps, then a last line.
const LOUD: &str = r#"
services:
  a: {command: [sh, -c, "seq 3000000; echo end; exec sleep 1000"]}
"#;

impl Lab {
    /// The sizes of a node's logs, by their file names.
    fn log_sizes(&self, node: &str) -> Vec<(String, u64)> {
        let folder = self.folder().join("nodes").join(node);
        let mut sizes: Vec<(String, u64)> = fs::read_dir(folder)
            .unwrap()
            .flatten()
            .map(|it| (it.file_name().into_string().unwrap(), it.metadata().map_or(0, |it| it.len())))
            .filter(|(name, _)| name.starts_with("log"))
            .collect();
        sizes.sort();
        sizes
    }

    /// Waits until the last line of a node's log is this one.
    fn until_last_line(&self, node: &str, line: &str) {
        let log = self.folder().join("nodes").join(node).join("log");
        let end = Instant::now() + LIMIT;
        while fs::read_to_string(&log).unwrap_or_default().lines().last() != Some(line) {
            assert!(Instant::now() < end, "{:?}", self.log_sizes(node));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn the_log_of_a_node_takes_ten_mebibytes_at_most() {
    let Some(lab) = Lab::up_with("the size of logs", LOUD) else { return };
    lab.until_last_line("test-a-1", "end");
    let sizes = lab.log_sizes("test-a-1");
    assert_eq!(sizes.len(), 10, "{sizes:?}");
    assert!(sizes.iter().all(|(_, size)| *size <= 1 << 20), "{sizes:?}");
    // The files are one log, from an older line to the last one.
    let text = lab.log("a");
    let lines: Vec<&str> = text.lines().collect();
    let first: usize = lines[0].parse().unwrap();
    assert!(first > 1 && text.len() > 9 << 20, "{first}, {}", text.len());
    for (at, line) in lines[..lines.len() - 1].iter().enumerate() {
        assert_eq!(*line, (first + at).to_string());
    }
    assert_eq!(lines.last(), Some(&"end"));
}

#[test]
fn logs_are_printed_in_little_memory() {
    let Some(lab) = Lab::up_with("the memory of lab logs", LOUD) else { return };
    lab.until_last_line("test-a-1", "end");
    let binary = lab.world.binary.display();
    // Kibibytes of data.
    let last = lab.world.sh(&format!("ulimit -d 8192; {binary} lab logs -n test a | tail -1"));
    assert_eq!(last, "end\n");
}

#[test]
fn a_service_sets_the_size_of_its_logs() {
    let compose = r#"
services:
  a:
    command: [sh, -c, "seq 100000; echo end; exec sleep 1000"]
    logging: {options: {max-size: 8k, max-file: "3"}}
  b:
    command: [sh, -c, "seq 100000; echo end; exec sleep 1000"]
    logging: {driver: json-file, options: {max-size: 8k, max-file: 1}}
"#;
    let Some(lab) = Lab::up_with("logging", compose) else { return };
    for (node, files) in [("test-a-1", 3), ("test-b-1", 1)] {
        lab.until_last_line(node, "end");
        let sizes = lab.log_sizes(node);
        assert_eq!(sizes.len(), files, "{sizes:?}");
        assert!(sizes.iter().all(|(_, size)| *size <= 8 << 10), "{sizes:?}");
    }
}

#[test]
fn followed_logs_have_every_line_of_rotated_files() {
    let compose = r#"
services:
  a: {command: [sh, -c, "until test -e go; do sleep 0.02; done; seq 700000; echo end; exec sleep 1000"]}
"#;
    let Some(lab) = Lab::up_with("followed logs that are rotated", compose) else { return };
    let mut child = lab.start("logs", &["-f", "a"]);
    lab.write("go", "");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    for number in 1..=700_000 {
        assert_eq!(lines.next().unwrap(), number.to_string());
    }
    assert_eq!(lines.next().unwrap(), "end");
    assert!(lab.log_sizes("test-a-1").len() > 1);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_node_that_prints_without_end_delays_no_answer() {
    let compose = r#"
services:
  a: {command: ["yes"]}
  b: {command: sleep 1000, x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
"#;
    let Some(lab) = Lab::new("a node that prints without end", compose) else { return };
    let start = Instant::now();
    lab.up(&[]);
    for _ in 0..20 {
        lab.status();
    }
    lab.down();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn logs_of_a_dead_lab_can_be_read_and_its_next_run_continues_them() {
    let compose = r#"
services:
  a:
    command: [sh, -c, "echo run of $$RUN; exec sleep 1000"]
    environment: [RUN]
    x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}
  b: {scale: 2, command: [sh, -c, "echo other; exec sleep 1000"]}
"#;
    let Some(lab) = Lab::new("logs of a dead lab", compose) else { return };
    let up = |run: &str| {
        let mut up = lab.command("up", &[]);
        up.env("RUN", run);
        assert_eq!(lab.world.run(up).code, 0);
    };
    up("1");
    ["b-1", "b-2"].iter().for_each(|it| lab.until_said(it, "other"));
    lab.until_said("a", "run of 1");
    lab.signal("KILL", lab.keeper().unwrap());
    lab.until_dead();
    assert_eq!(lab.done("logs", &[]), "a-1 | run of 1\nb-1 | other\nb-2 | other\n");
    for name in ["a", "a-1", "test-a-1"] {
        assert_eq!(lab.done("logs", &["-f", name]), "run of 1\n", "{name}");
    }
    assert!(lab.done("logs", &["--lab"]).contains("All links connected"));
    let run = lab.run("logs", &["c"]);
    let said = "error: no node of the dead lab `test` is named `c`\n";
    assert_eq!((run.code, run.stderr.as_str()), (1, said));
    up("2");
    lab.until_said("a", "run of 2");
    assert_eq!(lab.log("a"), "run of 1\nrun of 2\n");
    assert_eq!(lab.done("logs", &["--lab"]).matches("All links connected").count(), 2);
}

#[test]
fn volumes_take_no_space_of_the_folder_of_labs() {
    let compose = "
services:
  a: {volumes: ['data:/mnt', '/media']}
volumes: {data: }
";
    let Some(lab) = Lab::up_with("the size of volumes", compose) else { return };
    for folder in ["/mnt", "/media"] {
        lab.sh("a", &format!("head -c 5000000 /dev/zero >{folder}/file"));
    }
    let kilobytes = lab.world.sh("du -sk /run/conlink | cut -f1");
    assert!(kilobytes.trim().parse::<u32>().unwrap() < 1000, "{kilobytes}");
}

#[test]
fn a_full_file_system_is_named_with_what_helps() {
    let compose = "services: {a: {}}";
    let Some(lab) = Lab::new("a full file system", compose) else { return };
    let fill = "mount -n -o remount,size=1m /run && { head -c 2000000 /dev/zero >/run/fill || true; }";
    lab.world.sh(fill);
    let run = lab.run("up", &[]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("/run/conlink/lab/test/"), "{run:?}");
    assert!(run.stderr.contains("No space left on device"), "{run:?}");
    assert!(run.stderr.contains("\nhint: free space in this file system; `conlink lab list` "), "{run:?}");
    lab.world.sh("rm /run/fill && mount -n -o remount,size=50% /run");
    // Also while it is running.
    lab.up(&[]);
    lab.world.sh(fill);
    lab.write("compose.yaml", "services: {a: {}, b: {}}");
    let run = lab.run("up", &[]);
    assert!(run.stderr.contains("/run/conlink/lab/test/nodes/test-b-1/hosts: No space left"), "{run:?}");
    lab.world.sh("rm /run/fill && mount -n -o remount,size=50% /run");
    lab.up(&[]);
    let child = lab.start("logs", &["b"]);
    assert_eq!(end(child, "logs").code, 0);
    lab.done("down", &[]);
    lab.world.sh("mount -n -o remount,size=50% /run");
}

#[test]
fn the_log_of_the_keeper_is_rotated() {
    let compose = "services: {a: {x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}}";
    let Some(lab) = Lab::up_with("the keeper's log", compose) else { return };
    lab.world.sh("head -c 1100000 /dev/zero | tr '\\0' '\\n' >>/run/conlink/lab/test/log");
    lab.signal("KILL", lab.pid("a"));
    lab.until_node("a", "exited");
    lab.up(&[]);
    let folder = lab.folder();
    let size = |name: &str| fs::metadata(folder.join(name)).map_or(0, |it| it.len());
    assert!(size("log") < 100_000 && size("log.1") > 1_100_000, "{} {}", size("log"), size("log.1"));
    assert!(lab.done("logs", &["--lab"]).ends_with("All links connected\n"));
}
