//! Tests with real daemons in new namespaces.

#![expect(clippy::disallowed_methods, reason = "tests run programs: `ip`, `ping`")]

mod hung;
mod killed;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::daemon::{CLEANUP_LIMIT, LONGEST_LOG, Process, SERVER};
use super::port::Join;
use super::*;
use crate::device::BridgeOptions;
use crate::kernel::ethtool::Ioctl;
use crate::kernel::netns;

const A: &str = "conlink:t:a:eth0";
const B: &str = "conlink:t:b:eth0";
const LAN: &str = "conlink:t::lan";

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

/// The namespace of the bridges, and two containers with a veth into it.
struct Lab {
    bridges: File,
    a: File,
    b: File,
    folder: TempDir,
    datapath: Datapath,
}

impl Drop for Lab {
    /// A failed test leaves no daemons.
    fn drop(&mut self) {
        for rundir in std::fs::read_dir(self.folder.path()).unwrap() {
            let mut daemons = Daemons::new(rundir.unwrap().path());
            let ended = daemons.end_all();
            assert!(std::thread::panicking() || ended.is_ok(), "{ended:?}");
        }
    }
}

impl Lab {
    /// One per available datapath; none, with a SKIP line, if Open vSwitch cannot run here.
    fn all(test: &str) -> Vec<Self> {
        let Some(best) = probe() else {
            skip(test, "openvswitch-switch is not installed");
            return Vec::new();
        };
        if let Err(error) = netns::anonymous() {
            skip(test, &format!("no network namespace can be made: {error}"));
            return Vec::new();
        }
        match best {
            // The userspace datapath is tested where it is the only one.
            Datapath::Kernel => vec![Self::new(Datapath::Kernel)],
            Datapath::Userspace => vec![Self::new(Datapath::Userspace)],
        }
    }

    fn new(datapath: Datapath) -> Self {
        let lab = Self {
            bridges: netns::anonymous().unwrap(),
            a: netns::anonymous().unwrap(),
            b: netns::anonymous().unwrap(),
            folder: tempfile::tempdir().unwrap(),
            datapath,
        };
        for (netns, outer, ip) in [(&lab.a, "a-eth0", "10.9.0.1/24"), (&lab.b, "b-eth0", "10.9.0.2/24")] {
            add_veth(netns, "eth0", &lab.bridges, outer);
            run(netns, &format!("ip addr add {ip} dev eth0"));
        }
        lab
    }

    fn rundir(&self) -> PathBuf {
        self.folder.path().join("ovs-t")
    }

    fn start(&self) -> Ovs {
        Ovs::start(&self.bridges, &self.rundir(), self.datapath).unwrap()
    }

    fn wire(&self) -> Ovs {
        let mut ovs = self.start();
        ovs.add_bridge(&name("lan"), LAN).unwrap();
        ovs.add_port(&Join::new(&name("lan"), &name("a-eth0"), A)).unwrap();
        ovs.add_port(&Join::new(&name("lan"), &name("b-eth0"), B)).unwrap();
        ovs
    }

    /// Waits for an answer: the switch revises its rules shortly after a change.
    #[track_caller]
    fn reach(&self) {
        until("an answer", || self.ping());
    }

    fn ping(&self) -> bool {
        succeeds(&self.a, "busybox ping -c 1 -W 1 10.9.0.2")
    }
}

/// Makes a veth as conlink does: without transmit checksum offload; both ends up.
fn add_veth(netns: &File, inner: &str, bridges: &File, outer: &str) {
    let there = format!("/proc/{}/fd/{}", std::process::id(), bridges.as_raw_fd());
    run(netns, &format!("ip link add {inner} type veth peer name {outer} netns {there}"));
    let inner = name(inner);
    netns::inside(netns, || {
        let ioctl = Ioctl::open()?;
        ioctl.set_features(&inner, &ioctl.feature_names(&inner)?, &[(crate::ethtool::Feature::TX, false)])
    })
    .unwrap();
    run(netns, &format!("ip link set {inner} up"));
    run(bridges, &format!("ip link set {outer} up"));
}

fn command(text: &str) -> Command {
    let mut words = text.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words).stdin(Stdio::null());
    command
}

fn output(netns: &File, text: &str) -> std::process::Output {
    netns::inside(netns, || command(&format!("timeout 20 {text}")).output()).unwrap()
}

#[track_caller]
fn run(netns: &File, text: &str) -> String {
    let output = output(netns, text);
    assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn succeeds(netns: &File, text: &str) -> bool {
    output(netns, text).status.success()
}

/// The same as `support::skip` of the integration tests.
fn skip(what: &str, reason: &str) {
    assert!(std::env::var_os("CONLINK_TEST_ALL").is_none(), "{what} must not be skipped: {reason}");
    use std::io::Write;
    let mut tty = File::options().append(true).open("/proc/self/fd/2").unwrap();
    writeln!(tty, "\nSKIP {what}: {reason}").unwrap();
}

const SECONDS: Duration = Duration::from_secs(20);

/// Does the process run, and is it not a zombie?
fn runs(pid: Pid) -> bool {
    Process::open(pid).is_ok_and(|it| !it.ends_within(Duration::ZERO))
}

/// Waits until the condition holds.
#[track_caller]
fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + SECONDS;
    while !done() {
        assert!(Instant::now() < end, "{what} does not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Lab {
    fn daemons(&self) -> Daemons {
        Daemons::new(self.rundir())
    }

    fn pids(&self) -> [Pid; 2] {
        [SERVER, SWITCH].map(|it| self.daemons().pid(it).unwrap())
    }

    fn kill(&self, daemon: &str) {
        let pid = self.daemons().pid(daemon).unwrap();
        kill(pid, Signal::SIGKILL).unwrap();
        until("the end of a killed daemon", || !runs(pid));
    }

    /// The names of the interfaces in the namespace of the bridges, without outer ends and `lo`.
    fn interfaces(&self) -> BTreeSet<String> {
        let text = run(&self.bridges, "ip -o link");
        let names = text.lines().filter_map(|it| it.split(&[':', '@', ' '][..]).nth(2));
        names.filter(|it| *it != "lo" && !it.ends_with("-eth0")).map(str::to_owned).collect()
    }
}

/// The record of a bridge with these ports, as conlink makes it.
fn bridge(lab: &Lab, mark: Option<&str>, ports: &[(&str, Option<&str>)]) -> BridgeRecord {
    let port = |(port, mark): &(&str, Option<&str>)| {
        (name(port), OvsPort { mark: mark.map(str::to_owned), error: None })
    };
    BridgeRecord {
        mark: mark.map(str::to_owned),
        datapath: Some(lab.datapath),
        options: BridgeOptions { stp: Some(false), mcast_snooping: Some(false), ..BridgeOptions::default() },
        error: None,
        ports: ports.iter().map(port).collect(),
    }
}

/// Runs database operations as another program.
fn others(ovs: &mut Ovs, operations: Vec<Value>) {
    ovs.commit(operations, 1).unwrap();
}

fn others_bridge(ovs: &mut Ovs, name: &str, datapath: &str) {
    let ports = json!({"name": name, "datapath_type": datapath, "ports": db::new_row("p")});
    let port = json!({"name": name, "interfaces": db::new_row("i")});
    let operations = vec![
        insert("Bridge", ports, "b"),
        insert("Port", port, "p"),
        insert("Interface", json!({"name": name, "type": "internal"}), "i"),
        mutate(DATABASE, json!([]), json!([["bridges", "insert", db::new_row("b")]])),
    ];
    others(ovs, operations);
}

#[test]
fn hosts_on_a_bridge_reach_each_other() {
    for lab in Lab::all("hosts_on_a_bridge_reach_each_other") {
        let mut ovs = lab.start();
        assert_eq!(ovs.dump().unwrap(), BTreeMap::new());
        ovs.add_bridge(&name("lan"), LAN).unwrap();
        ovs.add_port(&Join::new(&name("lan"), &name("a-eth0"), A)).unwrap();
        assert!(!lab.ping());
        ovs.add_port(&Join::new(&name("lan"), &name("b-eth0"), B)).unwrap();
        lab.reach();
        let ports = [("a-eth0", Some(A)), ("b-eth0", Some(B))];
        let wired = BTreeMap::from([("lan".to_owned(), bridge(&lab, Some(LAN), &ports))]);
        assert_eq!(ovs.dump().unwrap(), wired);
        // Adding it again succeeds.
        ovs.add_bridge(&name("lan"), LAN).unwrap();
        ovs.add_port(&Join::new(&name("lan"), &name("b-eth0"), B)).unwrap();
        assert_eq!(ovs.dump().unwrap(), wired);
        ovs.add_port(&Join::new(&name("lan"), &name("b-eth0"), A)).unwrap();
        assert_eq!(ovs.dump().unwrap()["lan"].ports[&name("b-eth0")].mark.as_deref(), Some(A));

        ovs.del_port(&name("lan"), &name("b-eth0")).unwrap();
        assert!(!lab.ping());
        assert_eq!(ovs.dump().unwrap()["lan"], bridge(&lab, Some(LAN), &[("a-eth0", Some(A))]));
        ovs.del_port(&name("lan"), &name("b-eth0")).unwrap();
        ovs.del_port(&name("other"), &name("b-eth0")).unwrap();
        ovs.del_port(&name("lan"), &name("lan")).unwrap();
        assert!(lab.interfaces().contains("lan"));
        ovs.del_bridge(&name("lan")).unwrap();
        ovs.del_bridge(&name("lan")).unwrap();
        assert_eq!(ovs.dump().unwrap(), BTreeMap::new());
        assert!(!lab.interfaces().contains("lan"));
        ovs.stop().unwrap();
    }
}

#[test]
fn big_frames_and_tags_pass() {
    for lab in Lab::all("big_frames_and_tags_pass") {
        for (netns, dev) in
            [(&lab.a, "eth0"), (&lab.b, "eth0"), (&lab.bridges, "a-eth0"), (&lab.bridges, "b-eth0")]
        {
            run(netns, &format!("ip link set {dev} mtu 65535"));
        }
        let ovs = lab.wire();
        assert!(succeeds(&lab.a, "busybox ping -c 1 -W 2 -s 60000 10.9.0.2"));
        let (sender, receiver) = (Packets::open(&lab.a), Packets::open(&lab.b));
        for tags in [&[(0x8100_u16, 5_u16)][..], &[(0x88a8, 7), (0x8100, 0xe005)]] {
            let mut payload: Vec<u8> =
                tags.iter().flat_map(|it| [it.0.to_be_bytes(), it.1.to_be_bytes()]).flatten().collect();
            payload.extend([0x88, 0xb5]);
            payload.resize(80, 7);
            sender.send([0xff; 6], &payload);
            assert!(receiver.receives(&payload[4..]), "{tags:x?}");
        }
        ovs.stop().unwrap();
    }
}

#[test]
fn link_local_frames_pass_when_asked_for() {
    for lab in Lab::all("link_local_frames_pass_when_asked_for") {
        let mut ovs = lab.wire();
        let (sender, receiver) = (Packets::open(&lab.a), Packets::open(&lab.b));
        let lldp = |it: u8| {
            let mut payload = vec![0x88, 0xcc, it];
            payload.resize(50, 0);
            payload
        };
        let send = |it| {
            sender.send([1, 0x80, 0xc2, 0, 0, 0x0e], &lldp(it));
            // A later frame has arrived, so this one was not forwarded.
            sender.send([0xff; 6], &[&[0x88, 0xb5, it], &[0; 50][..]].concat());
            receiver.next()
        };
        assert_eq!(send(1)[..3], [0x88, 0xb5, 1]);
        for (mask, passes) in [(0x4000, true), (0, false)] {
            let options = BridgeOptions { group_fwd_mask: Some(mask), ..BridgeOptions::default() };
            ovs.set_bridge(&name("lan"), &options).unwrap();
            // The switch revises its rules after a while.
            until("the rule", || {
                let got = send(2);
                if got[..2] == [0x88, 0xcc] {
                    assert_eq!(receiver.next()[..2], [0x88, 0xb5]);
                }
                (got[..2] == [0x88, 0xcc]) == passes
            });
        }
        ovs.stop().unwrap();
    }
}

#[test]
fn options_are_set_and_read() {
    for lab in Lab::all("options_are_set_and_read") {
        let mut ovs = lab.wire();
        let lan = name("lan");
        let options = BridgeOptions {
            stp: Some(true),
            vlan_filtering: None,
            mcast_snooping: Some(true),
            group_fwd_mask: Some(u16::MAX),
            mtu: Some(1400),
            ageing_time: Some(20),
            forward_delay: Some(4),
        };
        ovs.set_bridge(&lan, &options).unwrap();
        assert_eq!(ovs.dump().unwrap()["lan"].options, options);
        assert!(run(&lab.bridges, "ip link show lan").contains("mtu 1400"));
        // Options that are not given do not change.
        let less = BridgeOptions { stp: Some(false), ageing_time: Some(30), ..BridgeOptions::default() };
        ovs.set_bridge(&lan, &less).unwrap();
        let now = BridgeOptions { stp: Some(false), ageing_time: Some(30), ..options };
        assert_eq!(ovs.dump().unwrap()["lan"].options, now);
        ovs.set_bridge(&lan, &BridgeOptions::default()).unwrap();
        let error = ovs.set_bridge(&name("none"), &less).unwrap_err();
        let message = "set Open vSwitch bridge none: ENODEV: No such device: bridge none does not exist";
        assert_eq!(
            error.to_string().replace("No such device (os error 19)", "ENODEV: No such device"),
            message
        );
        ovs.stop().unwrap();
    }
}

#[test]
fn foreign_bridges_and_ports_are_left_alone() {
    for lab in Lab::all("what_is_not_ours_is_left_alone") {
        let mut ovs = lab.wire();
        others_bridge(&mut ovs, "theirs", lab.datapath.name());
        add_veth(&lab.a, "eth1", &lab.bridges, "c-eth0");
        let port = json!({"name": "c-eth0", "interfaces": db::new_row("i")});
        let operations = vec![
            insert("Port", port, "p"),
            insert("Interface", json!({"name": "c-eth0"}), "i"),
            mutate("Bridge", is("name", "theirs"), json!([["ports", "insert", db::new_row("p")]])),
        ];
        others(&mut ovs, operations);
        let theirs = bridge(&lab, None, &[("c-eth0", None)]);
        assert_eq!(ovs.dump().unwrap()["theirs"], theirs);

        let error = ovs.add_bridge(&name("theirs"), LAN).unwrap_err().to_string();
        assert_eq!(error, "add Open vSwitch bridge theirs: it already exists and was not made by conlink");
        let error = ovs.add_port(&Join::new(&name("lan"), &name("c-eth0"), A)).unwrap_err().to_string();
        assert_eq!(
            error,
            "add port c-eth0 to bridge lan: it is a port of another bridge and was not made by conlink"
        );
        ovs.del_port(&name("lan"), &name("c-eth0")).unwrap();
        ovs.del_bridge(&name("lan")).unwrap();
        assert_eq!(ovs.dump().unwrap(), BTreeMap::from([("theirs".to_owned(), theirs)]));
        ovs.stop().unwrap();
    }
}

#[test]
fn an_interface_of_that_name_is_left_alone() {
    for lab in Lab::all("an_interface_of_that_name_is_left_alone") {
        let mut ovs = lab.start();
        run(&lab.bridges, "ip link add lan type bridge");
        let error = ovs.add_bridge(&name("lan"), LAN).unwrap_err();
        assert!(error.to_string().starts_with("add Open vSwitch bridge lan: "), "{error}");
        assert_eq!(ovs.dump().unwrap(), BTreeMap::new());
        assert!(run(&lab.bridges, "ip -d link show lan").contains("bridge forward_delay"));
        run(&lab.bridges, "ip link del lan");
        ovs.add_bridge(&name("lan"), LAN).unwrap();
        ovs.stop().unwrap();
    }
}

#[test]
fn a_bridge_that_cannot_be_made_has_the_switchs_reason() {
    for mut lab in Lab::all("a_bridge_that_cannot_be_made_says_why") {
        let mut ovs = lab.start();
        others_bridge(&mut ovs, "theirs", "nonsense");
        let error = ovs.device_error("theirs").unwrap().unwrap();
        assert_eq!(error, "failed to create bridge theirs: Address family not supported by protocol");
        assert_eq!(ovs.dump().unwrap()["theirs"].datapath, None);
        ovs.stop().unwrap();
        if probe() == Some(Datapath::Kernel) {
            // The switch logs no reason then.
            continue;
        }
        lab.datapath = Datapath::Kernel;
        let mut ovs = lab.start();
        let error = ovs.add_bridge(&name("lan"), LAN).unwrap_err();
        let message = "add Open vSwitch bridge lan: failed to create bridge lan: No such file or directory";
        assert_eq!(error.to_string(), message);
        assert_eq!(error.hint(), Some(NO_MODULE));
        assert_eq!(ovs.dump().unwrap(), BTreeMap::new());
        ovs.stop().unwrap();
    }
}

#[test]
fn logs_are_bounded_without_an_engine_and_have_room_for_the_next_change() {
    for lab in Lab::all("logs_are_bounded") {
        drop(lab.wire());
        let pids = lab.pids();
        for daemon in [SERVER, SWITCH] {
            let control = lab.rundir().join(format!("{daemon}.ctl"));
            let tell = |method: &str, arg: &str| {
                let mut rpc = Rpc::connect(&control, PATIENCE).unwrap();
                rpc.call(method, &json!([arg]), PATIENCE)
            };
            if daemon == SWITCH {
                tell("vlog/set", "file:dbg").unwrap();
            }
            // It logs each request that it refuses.
            let long = "x".repeat(100_000);
            for _ in 0..30 {
                tell("nonsense", &long).unwrap_err();
            }
        }
        let sizes = || {
            let sizes =
                [SERVER, SWITCH].map(|it| lab.rundir().join(format!("{it}.log")).metadata().unwrap().len());
            (sizes[0], sizes[1])
        };
        assert_eq!(sizes(), (0, LONGEST_LOG));
        lab.reach();
        let mut ovs = lab.start();
        others_bridge(&mut ovs, "theirs", "nonsense");
        let error = ovs.device_error("theirs").unwrap().unwrap();
        assert_eq!(error, "failed to create bridge theirs: Address family not supported by protocol");
        assert!(sizes().1 < LONGEST_LOG / 2, "{:?}", sizes());
        let earlier = lab.rundir().join(format!("{SWITCH}.log.1"));
        assert_eq!(earlier.metadata().unwrap().len(), LONGEST_LOG);
        assert_eq!(lab.pids(), pids);
        ovs.stop().unwrap();
    }
}

#[test]
fn a_long_project_name_works() {
    for lab in Lab::all("a_long_name_of_a_project_is_no_obstacle") {
        let rundir = lab.folder.path().join(format!("ovs-{}", "p".repeat(200)));
        let start = || Ovs::start(&lab.bridges, &rundir, lab.datapath).unwrap();
        start().add_bridge(&name("lan"), LAN).unwrap();
        let mut ovs = start();
        assert_eq!(ovs.dump().unwrap()["lan"], bridge(&lab, Some(LAN), &[]));
        ovs.stop().unwrap();
        assert!(!rundir.exists());
        assert_eq!(lab.interfaces(), BTreeSet::new());
    }
}

#[test]
fn a_port_without_interface_is_an_error_and_the_others_are_added() {
    for lab in Lab::all("a_port_that_does_not_exist_is_an_error") {
        let mut ovs = lab.start();
        let (lan, none) = (name("lan"), name("none"));
        let error = ovs.add_port(&Join::new(&lan, &name("a-eth0"), A)).unwrap_err();
        assert!(error.is_gone());
        let message =
            "add port a-eth0 to bridge lan: No such device (os error 19): bridge lan does not exist";
        assert_eq!(error.to_string(), message);

        ovs.add_bridge(&lan, LAN).unwrap();
        let empty = bridge(&lab, Some(LAN), &[]);
        let error = ovs.add_port(&Join::new(&lan, &none, A)).unwrap_err();
        assert!(error.is_gone());
        let message =
            "add port none to bridge lan: No such device (os error 19): could not open network device none";
        assert_eq!(error.to_string(), message);
        assert_eq!(ovs.dump().unwrap()["lan"], empty);

        let (a, b) = (name("a-eth0"), name("b-eth0"));
        let other = name("other");
        let join = |bridge, port, mark| Join::new(bridge, port, mark);
        let ports = [join(&lan, &a, A), join(&lan, &none, B), join(&other, &none, B), join(&lan, &b, B)];
        let failed = ovs.add_ports(&ports).unwrap();
        assert_eq!(failed.into_keys().collect::<Vec<_>>(), std::slice::from_ref(&none));
        assert_eq!(
            ovs.dump().unwrap()["lan"],
            bridge(&lab, Some(LAN), &[("a-eth0", Some(A)), ("b-eth0", Some(B))])
        );
        lab.reach();
        // The database refuses this one: the bridge's own interface cannot be another port.
        ovs.del_ports(&[(&lan, &a), (&lan, &b)]).unwrap();
        let interface =
            json!({"name": "bond", "interfaces": db::set_of(vec![db::new_row("i"), db::new_row("j")])});
        let operations = vec![
            insert("Port", interface, "p"),
            insert("Interface", json!({"name": "member"}), "i"),
            insert("Interface", json!({"name": "member2"}), "j"),
            mutate("Bridge", is("name", "lan"), json!([["ports", "insert", db::new_row("p")]])),
        ];
        others(&mut ovs, operations);
        let member = name("member");
        let failed = ovs.add_ports(&[join(&lan, &a, A), join(&lan, &member, A), join(&lan, &b, B)]).unwrap();
        assert_eq!(failed.len(), 1);
        assert!(failed[&member].to_string().contains("constraint violation"), "{}", failed[&member]);
        lab.reach();
        let dumped = ovs.dump().unwrap();
        assert!(dumped["lan"].ports[&name("bond")].error.as_ref().unwrap().contains("No such device"));
        ovs.stop().unwrap();
    }
}

#[test]
fn a_port_of_ours_moves_to_another_bridge() {
    for lab in Lab::all("a_port_of_ours_comes_over_from_another_bridge") {
        let mut ovs = lab.wire();
        ovs.add_bridge(&name("wan"), LAN).unwrap();
        ovs.add_port(&Join::new(&name("wan"), &name("a-eth0"), A)).unwrap();
        assert!(!lab.ping());
        let dumped = ovs.dump().unwrap();
        assert_eq!(dumped["wan"], bridge(&lab, Some(LAN), &[("a-eth0", Some(A))]));
        assert_eq!(dumped["lan"], bridge(&lab, Some(LAN), &[("b-eth0", Some(B))]));
        ovs.add_port(&Join::new(&name("wan"), &name("b-eth0"), B)).unwrap();
        lab.reach();
        ovs.stop().unwrap();
    }
}

#[test]
fn changes_by_other_programs_are_reported() {
    for lab in Lab::all("what_others_change_is_heard") {
        let mut ovs = lab.wire();
        let all = |it: Changes| it.changed.into_iter().chain(it.deleted).collect::<BTreeSet<_>>();
        ovs.dump().unwrap();
        ovs.forget(None);
        assert_eq!(ovs.changes(), Changes::default());
        let connection = ovs.connection().unwrap().1.try_clone_to_owned().unwrap();
        assert!(!is_readable(&connection));
        // Another program with its own connection.
        let mut other = lab.start();
        other.del_port(&name("lan"), &name("b-eth0")).unwrap();
        until("the notice", || is_readable(&connection));
        let changes = ovs.changes();
        assert!(changes.changed.contains("b-eth0") && changes.deleted.is_empty(), "{changes:?}");
        assert!(!ovs.dump().unwrap()["lan"].ports.contains_key(&name("b-eth0")));
        // A look at a name drops its changes.
        ovs.changes();
        other.add_port(&Join::new(&name("lan"), &name("b-eth0"), B)).unwrap();
        other.add_bridge(&name("wan"), LAN).unwrap();
        ovs.dump().unwrap();
        ovs.forget(Some(&BTreeSet::from([name("lan"), name("b-eth0")])));
        assert_eq!(all(ovs.changes()), BTreeSet::from(["wan".to_owned()]));
        other.del_bridge(&name("wan")).unwrap();
        ovs.dump().unwrap();
        assert!(ovs.changes().deleted.contains("wan"));
        // The server closes its connections.
        let mut control = Rpc::connect(&lab.rundir().join("ovsdb-server.ctl"), SECONDS).unwrap();
        control.call("ovsdb-server/reconnect", &json!([]), SECONDS).unwrap();
        until("the end", || is_readable(&connection));
        let before = ovs.connection().unwrap().0;
        assert_eq!(ovs.changes(), Changes::default());
        let (number, connection) = ovs.connection().unwrap();
        let connection = connection.try_clone_to_owned().unwrap();
        assert!(number > before);
        other.del_port(&name("lan"), &name("b-eth0")).unwrap();
        until("the notice", || is_readable(&connection));
        assert!(ovs.changes().changed.contains("b-eth0"));
        other.add_port(&Join::new(&name("lan"), &name("b-eth0"), B)).unwrap();
        // Changes that were made while the server was down.
        lab.kill(SERVER);
        other.del_port(&name("lan"), &name("a-eth0")).unwrap();
        let now = ovs.dump().unwrap();
        assert_eq!(now["lan"], bridge(&lab, Some(LAN), &[("b-eth0", Some(B))]));
        assert!(ovs.changes().changed.contains("a-eth0"));
        // The copy is up to date as soon as another program's change is done.
        for at in 0..50 {
            let is_there = at % 2 == 0;
            if is_there {
                other.add_port(&Join::new(&name("lan"), &name("a-eth0"), A)).unwrap();
            } else {
                other.del_port(&name("lan"), &name("a-eth0")).unwrap();
            }
            assert_eq!(ovs.dump().unwrap()["lan"].ports.contains_key(&name("a-eth0")), is_there);
        }
        ovs.stop().unwrap();
    }
}

/// As the engine's loop sees it.
#[expect(unsafe_code, reason = "tokio leaves it to the caller that the file stays open")]
fn is_readable(file: &OwnedFd) -> bool {
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // SAFETY: the file is moved in, and closed with it.
        let file = unsafe { AsyncFd::register_with_interest(file.try_clone().unwrap(), Interest::READABLE) };
        let file = file.ok().unwrap();
        tokio::time::timeout(Duration::from_millis(20), file.readable()).await.is_ok()
    })
}

#[test]
fn a_missing_program_is_named() {
    if netns::anonymous().is_err() {
        return skip("a_missing_program_is_named", "no network namespace can be made");
    }
    let netns = netns::anonymous().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    assert_eq!(probe_on(bin.as_os_str()), None);
    for (there, missing) in
        [(None, "ovsdb-server"), (Some("ovsdb-server"), "ovs-vswitchd"), (Some("ovs-vswitchd"), "ovsdb-tool")]
    {
        if let Some(it) = there {
            std::fs::copy("/bin/true", bin.join(it)).unwrap();
        }
        let rundir = folder.path().join("run");
        let error = Ovs::start_on(bin.as_os_str(), &netns, &rundir, Datapath::Userspace).unwrap_err();
        assert_eq!(error.to_string(), format!("find {missing}: program not found"));
        assert!(error.hint().unwrap().contains("install the package openvswitch-switch"));
    }
    std::fs::copy("/bin/true", bin.join("ovsdb-tool")).unwrap();
    assert!(probe_on(bin.as_os_str()).is_some());
    // Programs that do nothing, and one that fails.
    let start = |name: &str| {
        let error = Ovs::start_on(bin.as_os_str(), &netns, &folder.path().join(name), Datapath::Userspace);
        error.unwrap_err().to_string()
    };
    let error = start("nothing");
    assert!(error.starts_with("make ") && error.contains("conf.db: No such file"), "{error}");
    std::fs::copy("/bin/false", bin.join("ovsdb-tool")).unwrap();
    let error = start("fails");
    assert!(error.ends_with("conf.db: ovsdb-tool: exit status: 1"), "{error}");
}

/// A raw socket on the `eth0` of a namespace, which tells the test's own frames from others by their sender.
struct Packets(OwnedFd);

const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 0xee];

impl Packets {
    #[expect(unsafe_code, reason = "nix makes addresses of packet sockets from raw ones alone")]
    fn open(netns: &File) -> Self {
        use nix::sys::socket::*;
        let socket = netns::inside(netns, || {
            let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
            let socket = socket(AddressFamily::Packet, kind, flags, SockProtocol::EthAll)?;
            // SAFETY: all of its members may be zero bytes.
            let mut addr: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            addr.sll_family = libc::AF_PACKET as u16;
            addr.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            addr.sll_ifindex = nix::net::if_::if_nametoindex("eth0")?.cast_signed();
            let length = size_of_val(&addr) as u32;
            // SAFETY: the pointer is to a sockaddr_ll of that length, which outlives the call.
            let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const addr).cast(), length) };
            nix::Error::result(bound)?;
            Ok(socket)
        });
        let socket = socket.unwrap();
        setsockopt(&socket, sockopt::ReceiveTimeout, &nix::sys::time::TimeVal::new(5, 0)).unwrap();
        Self(socket)
    }

    fn send(&self, to: [u8; 6], payload: &[u8]) {
        let frame = [&to[..], &SENDER, payload].concat();
        assert_eq!(nix::unistd::write(&self.0, &frame).unwrap(), frame.len());
    }

    /// What follows the addresses in the next frame. The outermost tag is not part of what a packet socket reads.
    #[track_caller]
    fn next(&self) -> Vec<u8> {
        let mut buffer = vec![0; 10_000];
        loop {
            let length = nix::unistd::read(&self.0, &mut buffer).expect("no frame arrives");
            if buffer[6..12] == SENDER {
                return buffer[12..length].to_vec();
            }
        }
    }

    fn receives(&self, payload: &[u8]) -> bool {
        self.next() == payload
    }
}
