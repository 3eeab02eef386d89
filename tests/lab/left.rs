//! Large labs, of which nothing is left.

use std::time::{Duration, Instant};

use crate::lab::Lab;

/// Starts and ends a lab. While it is running there is a process and a namespace per node; afterwards there is none.
fn comes_and_goes(count: usize, rounds: usize, limit: Duration) {
    let compose = format!(
        "services: {{n: {{scale: {count}, x-network: {{links: [{{bridge: lan, ip: 10.0.0.1/16}}]}}}}}}"
    );
    let Some(lab) = Lab::new(&format!("{count} nodes"), &compose) else { return };
    for _ in 0..rounds {
        let start = Instant::now();
        let run = lab.world.run_within(lab.command("up", &[]), limit);
        let took = start.elapsed();
        assert_eq!(run.code, 0, "{run:?}");
        let expected = format!("lab test is up: {count} nodes, {count} links; all links connected\n");
        assert_eq!((run.stdout, run.stderr.as_str()), (expected, ""));
        let status = lab.status();
        let nodes = status["nodes"].as_array().unwrap();
        assert!(nodes.iter().all(|it| it["state"] == "connected" && it["links"][0]["state"] == "up"));
        let machine = lab.world.machine();
        let keeper = 1;
        assert_eq!(machine.processes.len(), lab.before.processes.len() + keeper + count);
        assert_eq!(machine.networks.len(), lab.before.networks.len() + keeper + count);
        assert_eq!(machine.mounts, lab.before.mounts);
        assert_eq!(machine.interfaces, lab.before.interfaces);
        // From the first node to the last.
        let last = format!("n-{count}");
        assert!(lab.done("ping", &["-c", "1", "n-1", &last]).contains("1 received"));
        lab.done("down", &[]);
        assert!(!lab.folder().exists());
        // The command returns when everything has ended.
        let machine = lab.world.machine();
        assert_eq!(machine, lab.before);
        assert!(took < limit, "{took:?}");
    }
}

#[test]
fn nothing_is_left_of_a_hundred_nodes() {
    comes_and_goes(100, 2, Duration::from_secs(20));
}

#[test]
fn nothing_is_left_of_five_hundred_nodes() {
    comes_and_goes(500, 1, Duration::from_secs(30));
}
