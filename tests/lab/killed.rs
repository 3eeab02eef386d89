//! `lab down` and the next `lab up` remove everything that is left after any process is killed at any time.

use std::hash::{BuildHasher, Hasher};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::lab::{Lab, end};

/// A lab that takes some time to start: nodes share networks, wait for others, and have several links.
const SOME: &str = r#"
services:
  r:
    command: [sh, -c, "exec sleep 1000"]
    x-network: {links: [{bridge: red, ip: 10.1.0.1/24}, {bridge: blue, dev: eth1, ip: 10.2.0.1/24}]}
  h:
    scale: 3
    command: sleep 1000
    restart: always
    depends_on: [r]
    x-network: {links: [{bridge: red, ip: 10.1.0.10/24}]}
  s: {network_mode: "service:r", command: sleep 1000}
"#;

/// Number of kills per kind of process.
const TIMES: usize = 50;

/// Random times; the message of a failure contains them.
struct Moments {
    seed: u64,
    longest: Duration,
}

impl Moments {
    /// Times up to `longest`.
    fn within(longest: Duration) -> Self {
        Self { seed: std::hash::RandomState::new().build_hasher().finish() | 1, longest }
    }

    fn number(&mut self) -> u64 {
        // xorshift64
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }

    /// Sleeps until the next time. Returns the duration.
    fn wait(&mut self) -> Duration {
        let micros = u64::try_from(self.longest.as_micros()).unwrap();
        let moment = Duration::from_micros(self.number() % micros);
        std::thread::sleep(moment);
        moment
    }
}

/// The time that an undisturbed start takes.
fn time_to_come_up(lab: &Lab) -> Duration {
    let start = Instant::now();
    lab.up(&[]);
    let took = start.elapsed();
    lab.done("down", &[]);
    took
}

/// The child processes of the keeper, by their process IDs in the world.
fn children(lab: &Lab) -> Vec<u64> {
    let Some(keeper) = lab.keeper() else { return Vec::new() };
    let listed = lab.world.sh(&format!("cat /proc/{keeper}/task/{keeper}/children 2>/dev/null || true"));
    listed.split_whitespace().map(|it| it.parse().unwrap()).collect()
}

/// Kills a process of the world if it still exists.
fn kill(lab: &Lab, pid: Option<u64>) {
    if let Some(pid) = pid {
        lab.world.sh(&format!("kill -9 {pid} 2>/dev/null || true"));
    }
}

/// Waits for a command that was killed, or whose lab was. Any end is allowed except a panic.
fn ends(child: Child, what: &str) {
    let run = end(child, what);
    assert!(!run.stderr.contains("panicked"), "{what}: {run:?}");
}

/// Cleans up, in some rounds after another start, and checks that nothing is left.
fn cleans_up(lab: &Lab, round: usize, what: &str) {
    if round % 2 == 1 {
        let run = lab.run("up", &[]);
        assert_eq!(run.code, 0, "{what}: {run:?}\n{}", lab.keepers_log());
        assert!(run.stdout.ends_with("all links connected\n"), "{what}: {run:?}");
    }
    if lab.folder().exists() {
        let run = lab.run("down", &[]);
        // The lab may have ended by itself.
        let gone = run.stderr.starts_with("error: lab `test` is not running");
        assert!(run.code == 0 || gone, "{what}: {run:?}\n{}", lab.keepers_log());
    }
    assert!(!lab.folder().exists(), "{what}: {}", lab.world.sh("ls -lR /run/conlink; cat /proc/[0-9]*/comm"));
    lab.world.expect(&lab.before);
}

#[test]
fn lab_up_may_be_killed_at_any_moment() {
    let Some(lab) = Lab::new("killed clients", SOME) else { return };
    let mut moments = Moments::within(time_to_come_up(&lab) * 5 / 4);
    for round in 0..TIMES / 2 {
        let mut child = lab.start("up", &[]);
        let moment = moments.wait();
        let _ = child.kill();
        ends(child, "up");
        cleans_up(&lab, round, &format!("up killed after {moment:?}"));
    }
}

#[test]
fn lab_run_may_be_killed_at_any_moment() {
    let Some(lab) = Lab::new("killed runners", SOME) else { return };
    let mut moments = Moments::within(time_to_come_up(&lab) * 3 / 2);
    for round in 0..TIMES / 2 {
        let mut child = lab.start("run", &["--", "cat"]);
        let moment = moments.wait();
        let _ = child.kill();
        ends(child, "run");
        cleans_up(&lab, round, &format!("run killed after {moment:?}"));
    }
}

#[test]
fn keepers_may_be_killed_at_any_moment() {
    let Some(lab) = Lab::new("killed keepers", SOME) else { return };
    let mut moments = Moments::within(time_to_come_up(&lab) * 5 / 4);
    for round in 0..TIMES {
        let child = lab.start("up", &[]);
        let mut moment = moments.wait();
        if round % 3 == 2 {
            // While it ends.
            ends(child, "up");
            let child = lab.start("down", &[]);
            moment = Duration::from_millis(moments.number() % 30);
            std::thread::sleep(moment);
            kill(&lab, lab.keeper());
            ends(child, "down");
        } else {
            kill(&lab, lab.keeper());
            ends(child, "up");
        }
        cleans_up(&lab, round, &format!("keeper killed after {moment:?}, round {round}"));
    }
}

#[test]
fn nodes_may_be_killed_at_any_moment() {
    let Some(lab) = Lab::new("killed nodes", SOME) else { return };
    let mut moments = Moments::within(time_to_come_up(&lab) * 5 / 4);
    for round in 0..TIMES {
        let child = lab.start("up", &[]);
        let moment = moments.wait();
        for _ in 0..3 {
            let children = children(&lab);
            let which = usize::try_from(moments.number()).unwrap().checked_rem(children.len()).unwrap_or(0);
            kill(&lab, children.get(which).copied());
        }
        // `up` returns in any case, and reports nodes that are not restarted.
        ends(child, "up");
        if round % 5 == 4 {
            lab.up(&[]);
            // If the keeper learns of a kill only after this `up`, the next one starts the node again.
            lab.until("connected", |it| {
                let is_connected = it["state"] == "connected";
                if !is_connected {
                    lab.up(&[]);
                }
                is_connected
            });
        }
        cleans_up(&lab, round, &format!("nodes killed after {moment:?}"));
    }
}

#[test]
fn lab_down_may_be_killed_at_any_moment() {
    let Some(lab) = Lab::new("killed ends", SOME) else { return };
    let mut moments = Moments::within(Duration::from_millis(40));
    for round in 0..TIMES / 3 {
        lab.up(&[]);
        let mut child = lab.start("down", &[]);
        let moment = moments.wait();
        let _ = child.kill();
        ends(child, "down");
        cleans_up(&lab, round, &format!("down killed after {moment:?}"));
    }
}

#[test]
fn a_signal_to_the_keeper_ends_the_lab() {
    let Some(lab) = Lab::new("a signal to the keeper", SOME) else { return };
    for signal in ["TERM", "INT"] {
        lab.up(&[]);
        lab.signal(signal, lab.keeper().unwrap());
        let end = Instant::now() + Duration::from_secs(10);
        while lab.folder().exists() {
            assert!(Instant::now() < end, "{}", lab.keepers_log());
            std::thread::sleep(Duration::from_millis(5));
        }
        lab.world.expect(&lab.before);
    }
}

#[test]
fn a_keeper_that_hangs_is_killed_and_one_that_waits_for_its_nodes_is_not() {
    let compose = r#"
services:
  slow:
    command: [sh, -c, "trap 'sleep 11; echo in time >slow; exit' TERM; echo ready; while :; do sleep 0.02; done"]
    stop_grace_period: 1m
"#;
    let Some(hung) = Lab::up_with("a keeper that hangs", SOME) else { return };
    let Some(slow) = Lab::up_with("a keeper that waits", compose) else { return };
    hung.signal("STOP", hung.keeper().unwrap());
    slow.until_said("slow", "ready");
    let start = Instant::now();
    let downs = [&hung, &slow].map(|it| it.start("down", &[]));
    for child in downs {
        let run = end(child, "down");
        assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    }
    assert!(start.elapsed() < Duration::from_secs(25));
    assert_eq!(slow.read("slow"), "in time\n", "longer than any answer is waited for");
    assert!(!hung.folder().exists() && !slow.folder().exists());
}

#[test]
fn up_gives_up_on_a_keeper_that_does_not_answer() {
    let Some(lab) = Lab::up_with("up and a stopped keeper", SOME) else { return };
    let keeper = lab.keeper().unwrap();
    lab.signal("STOP", keeper);
    let start = Instant::now();
    let run = lab.run("up", &["-q"]);
    lab.signal("CONT", keeper);
    let said = "error: the keeper of lab `test` is stopped\nhint: `conlink lab down test` kills it\n";
    assert_eq!((run.code, run.stderr.as_str()), (1, said));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    // Also while it waits.
    lab.write("compose.yaml", "services: {a: {healthcheck: {test: 'true', interval: 1h}}, b: {depends_on: {a: {condition: service_healthy}}}}");
    let child = lab.start("up", &["-q"]);
    lab.until("waiting", |it| it["nodes"].as_array().unwrap().len() == 2);
    lab.signal("STOP", keeper);
    let run = end(child, "up");
    lab.signal("CONT", keeper);
    assert_eq!((run.code, run.stderr.as_str()), (1, said));
}

#[test]
fn a_lab_whose_folder_is_removed_ends() {
    let compose = "
services:
  a: {command: sleep 1000, volumes: ['data:/mnt'], x-network: {links: [{base: host, bridge: made, ip: 10.0.0.1/24}]}}
volumes: {data: }
";
    let Some(lab) = Lab::new("a removed folder", compose) else { return };
    for line in ["rm -rf /run/conlink/lab/test", "mv /run/conlink/lab/test /run/moved", "rm -rf /run/conlink"]
    {
        lab.up(&[]);
        lab.world.sh(line);
        lab.world.sh("rm -rf /run/moved");
        lab.world.expect(&lab.before);
    }
}

#[test]
fn files_of_a_dead_lab_do_not_stop_the_next_one() {
    let Some(lab) = Lab::new("half-written folders", SOME) else { return };
    let folder = "/run/conlink/lab/test";
    for (number, junk) in [
        "true",
        "touch lock",
        "touch lock socket log",
        "mkdir lock",
        "mkdir -p socket/x nodes/test-r-1/log",
        "mkdir -p nodes/test-r-1/layer nodes/gone volumes/x; ln -s /etc nodes/link; touch uses-host",
        "ln -s /no/such/file log; ln -s / volumes",
    ]
    .into_iter()
    .enumerate()
    {
        for subcommand in ["up", "down"] {
            lab.world.sh(&format!("mkdir -p {folder} && cd {folder} && {junk}"));
            let listed = lab.world.run(lab.world.conlink(&["lab", "list"])).stdout;
            assert!(listed.contains("test  dead       0"), "{junk}: {listed}");
            let run = lab.run(subcommand, &[]);
            assert_eq!(run.code, 0, "{subcommand} over `{junk}`: {run:?}");
            cleans_up(&lab, 0, &format!("{subcommand} over {junk}, {number}"));
        }
    }
    // Symbolic links are not followed, so their targets remain.
    assert_eq!(lab.world.sh("test -e /etc/passwd && echo there"), "there\n");
}

#[test]
fn interfaces_of_a_dead_lab_on_the_host_are_removed_by_the_next_command() {
    let compose = r#"
services:
  a:
    x-network:
      links:
        - {base: host, bridge: made, ip: 10.0.0.1/24}
        - {base: host, bridge: foreign, dev: eth1, ip: 10.7.0.2/24}
        - {type: macvlan, outer-dev: up0, dev: eth2, ip: 10.8.0.1/24}
  b: {x-network: {links: [{base: host, bridge: made, ip: 10.0.0.2/24}]}}
"#;
    let Some(mut lab) = Lab::new("the host's interfaces", compose) else { return };
    lab.world.sh(
        "ip link add foreign address 02:00:00:00:00:01 type bridge && ip addr add 10.7.0.1/24 dev foreign \
         && ip link add p0 type veth peer name p1 && ip link set p0 master foreign \
         && ip link add up0 type veth peer name up1 \
         && for it in foreign p0 p1 up0 up1; do ip link set $it up; done; sleep 0.2",
    );
    lab.before = lab.world.machine();
    let names = |lab: &Lab| {
        let listed = lab.world.sh("ip -br link");
        listed
            .lines()
            .filter_map(|it| it.split_whitespace().next())
            .fold(String::new(), |all, it| all + " " + it)
    };
    let before = names(&lab);
    let start = Instant::now();
    lab.up(&[]);
    let took = start.elapsed();
    assert!(names(&lab).contains(" made"), "{}", names(&lab));
    assert!(lab.done("ping", &["-c", "1", "a", "b"]).contains("1 received"));
    assert!(lab.done("ping", &["-c", "1", "a", "10.7.0.1"]).contains("1 received"));
    kill(&lab, lab.keeper());
    lab.until_dead();
    assert!(names(&lab).contains(" made"), "the kernel keeps what is in a namespace that lives");
    lab.done("down", &[]);
    assert_eq!(names(&lab), before);
    let mut moments = Moments::within(took * 5 / 4);
    for round in 0..15 {
        let child = lab.start("up", &[]);
        let moment = moments.wait();
        kill(&lab, lab.keeper());
        ends(child, "up");
        if round % 2 == 1 {
            lab.up(&[]);
        }
        if lab.folder().exists() {
            lab.done("down", &[]);
        }
        assert_eq!(names(&lab), before, "keeper killed after {moment:?}");
    }
    // Also without a kill.
    lab.up(&[]);
    lab.done("down", &[]);
    assert_eq!(names(&lab), before);
    assert!(lab.world.sh("ip -br addr show foreign").contains("10.7.0.1/24"));
}

#[test]
fn up_waits_a_moment_for_a_link_that_fails_at_first() {
    let compose = r#"
services:
  a: {x-network: {links: [{type: macvlan, outer-dev: up0, dev: eth0, mac: "02:00:00:00:00:07", ip: 10.8.0.1/24}]}}
"#;
    let Some(mut lab) = Lab::new("a link that fails at first", compose) else { return };
    lab.world.sh(
        "ip link add up0 type veth peer name up1 && ip link set up0 up && ip link set up1 up && sleep 0.2",
    );
    lab.before = lab.world.machine();
    // The MAC address is in use, as that of a namespace that the kernel has not removed yet.
    let hold = "ip link add held link up0 address 02:00:00:00:00:07 type macvlan && ip link set held up";
    lab.world.sh(hold);
    let mut free = std::process::Command::new("sh");
    free.args(["-c", "sleep 0.4; ip link del held"]);
    let freed = lab.world.start(free);
    lab.up(&[]);
    end(freed, "ip link del");
    lab.down();
    // If it stays so, it is an error.
    lab.world.sh(hold);
    let run = lab.run("up", &[]);
    assert_eq!(run.code, 1, "{run:?}");
    lab.world.sh("ip link del held");
}

#[test]
fn a_lab_with_a_tunnel_comes_up_right_after_its_keeper_was_killed() {
    let compose = r#"
services:
  a: {x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}], tunnels: [{type: vxlan, bridge: lan, remote: 192.0.2.1, vni: 7}]}}
"#;
    let Some(mut lab) = Lab::new("a tunnel and a killed keeper", compose) else { return };
    lab.world.sh("ip link set lo up && ip addr add 192.0.2.2/24 dev lo");
    lab.before = lab.world.machine();
    for round in 0..TIMES / 2 {
        let run = lab.run("up", &[]);
        assert!(run.code == 0 && run.stderr.is_empty(), "round {round}: {run:?}\n{}", lab.keepers_log());
        kill(&lab, lab.keeper());
    }
}
