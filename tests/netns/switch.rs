//! Bridges of Open vSwitch, and a hanging switch.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::netns::engine::{Engine, assert_same};
use crate::netns::properties::index;
use crate::netns::{json, ping};
use crate::support::{inside, ip, skip};

#[test]
fn bridges_of_open_vswitch_are_made_kept_and_removed() {
    // Declared first, and so removed last: the daemons are ended by what is in it.
    let folder = tempfile::tempdir().unwrap();
    let rundir = folder.path().join("ovs-t");
    let Some(mut engine) = with_ovs("bridges of mode ovs", &["a-1", "b-1"], &rundir) else { return };
    let before = engine.snapshot();
    let yaml = |mode: &str| {
        format!(
            "links:\n- {{service: a, bridge: lan, ip: 10.0.0.1/24}}\n- {{service: b, bridge: lan, ip: 10.0.0.2/24}}\n\
             bridges:\n- {{bridge: lan, mode: {mode}}}\n"
        )
    };
    engine.wire(&yaml("ovs"));
    ping(engine.netns("a-1"), "10.0.0.2");
    let ends = |engine: &Engine| (index(&engine.bridges, "a_1-eth0"), index(engine.netns("a-1"), "eth0"));
    // A port that somebody takes off is put back.
    let socket = format!("--db=unix:{}", folder.path().join("ovs-t/db.sock").display());
    inside(&engine.bridges, "ovs-vsctl", &[&socket, "--timeout=10", "del-port", "lan", "b_1-eth0"]);
    engine.wire(&yaml("ovs"));
    ping(engine.netns("a-1"), "10.0.0.2");
    // A container that is started again has a new end, which the switch has yet to take up when it has the old one's
    // record.
    ip(engine.netns("a-1"), "link del eth0");
    let start = engine.start(&yaml("ovs"));
    assert!(start.announced, "{:?}", start.errors);
    let shown = inside(&engine.bridges, "ovs-vsctl", &[&socket, "get", "interface", "a_1-eth0", "ifindex"]);
    assert_eq!(shown.trim(), index(&engine.bridges, "a_1-eth0").to_string());
    ping(engine.netns("a-1"), "10.0.0.2");
    let made = ends(&engine);
    // Another mode and back, without new links.
    engine.wire(&yaml("linux"));
    assert_eq!(json(&engine.bridges, "-d link show lan")[0]["linkinfo"]["info_kind"], "bridge");
    ping(engine.netns("a-1"), "10.0.0.2");
    engine.wire(&yaml("patch"));
    ping(engine.netns("a-1"), "10.0.0.2");
    engine.wire(&yaml("ovs"));
    ping(engine.netns("a-1"), "10.0.0.2");
    assert_eq!(ends(&engine), made);
    engine.wire("links: []");
    engine.kernel.stop_ovs().unwrap();
    assert!(!folder.path().join("ovs-t").exists());
    assert_same(&engine.snapshot(), &before);
}

#[test]
fn failures_of_open_vswitch_affect_only_its_bridges() {
    let Some(mut engine) = Engine::new("ovs", &["a-1", "b-1"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    // An earlier engine left a database, and nobody can make a new one.
    let rundir = folder.path().join("ovs-t");
    std::fs::create_dir(&rundir).unwrap();
    std::fs::write(rundir.join("conf.db"), "").unwrap();
    std::fs::create_dir(rundir.join("new.db")).unwrap();
    engine.kernel.set_ovs_folder(rundir);
    let start = engine.start(
        "links:\n- {service: a, bridge: lan, ip: 10.0.0.1/24}\n- {service: b, bridge: lan, ip: 10.0.0.2/24}\n\
         - {service: a, bridge: sw, dev: eth1, ip: 10.0.1.1/24}\nbridges:\n- {bridge: sw, mode: ovs}\n",
    );
    ping(engine.netns("a-1"), "10.0.0.2");
    ping(engine.netns("a-1"), "10.0.1.1");
    assert!(!start.announced);
    let about = |it: &&String| {
        ["bridge sw: ", "link a-1:eth1: bridge sw: ", "hint: "].iter().any(|begin| it.starts_with(begin))
    };
    assert!(!start.errors.is_empty() && start.errors.iter().all(|it| about(&it)), "{:?}", start.errors);
}

/// An engine with Open vSwitch in that folder. None, and said so, where there is none.
fn with_ovs(test: &str, containers: &[&str], folder: &Path) -> Option<Engine> {
    let mut engine = Engine::new(test, containers)?;
    if conlink::kernel::probe().is_none() {
        skip(test, "openvswitch-switch is not installed");
        return None;
    }
    engine.kernel.set_ovs_folder(folder.to_owned());
    Some(engine)
}

fn signal_switch(folder: &Path, signal: Signal) {
    let pid = std::fs::read_to_string(folder.join("ovs-vswitchd.pid")).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

#[test]
fn a_link_that_is_made_again_while_the_switch_hangs_is_connected_later() {
    let folder = tempfile::tempdir().unwrap();
    let rundir = folder.path().join("ovs-t");
    let Some(mut engine) = with_ovs("a link made anew", &["a-1", "b-1", "c-1"], &rundir) else { return };
    let yaml = |more: &str| {
        format!(
            "links:\n- {{service: a, bridge: sw, ip: 10.0.0.1/24}}\n- {{service: b, bridge: sw, ip: 10.0.0.2/24}}\n{more}\
             bridges:\n- {{bridge: sw, mode: ovs}}\n"
        )
    };
    engine.wire(&yaml(""));
    ping(engine.netns("a-1"), "10.0.0.2");
    signal_switch(&rundir, Signal::SIGSTOP);
    let third = yaml("- {service: c, bridge: sw, ip: 10.0.0.3/24}\n");
    assert!(!engine.start(&third).announced);
    // Now that it is known to hang, an end is made anew, of which the database has an earlier one on record.
    ip(engine.netns("a-1"), "link del eth0");
    assert!(!engine.start(&third).announced);
    ip(engine.netns("a-1"), "link show eth0");
    signal_switch(&rundir, Signal::SIGCONT);
    let end = Instant::now() + Duration::from_secs(30);
    while !engine.start(&third).announced {
        assert!(Instant::now() < end, "{:?}", engine.start(&third).errors);
    }
    ping(engine.netns("a-1"), "10.0.0.2");
    engine.wire("links: []");
    engine.kernel.stop_ovs().unwrap();
}

#[test]
fn a_hanging_switch_does_not_delay_linux_bridges() {
    let folder = tempfile::tempdir().unwrap();
    let rundir = folder.path().join("ovs-t");
    let Some(mut engine) = with_ovs("a hung switch", &["a-1", "b-1", "c-1"], &rundir) else { return };
    let sw = "- {service: a, bridge: sw, dev: eth1, ip: 10.0.1.1/24}\n- {service: b, bridge: sw, dev: eth1, ip: 10.0.1.2/24}\n\
              bridges:\n- {bridge: sw, mode: ovs}\n";
    engine.wire(&format!("links:\n{sw}"));
    signal_switch(&rundir, Signal::SIGSTOP);
    // A port that is new has the switch asked.
    let lan = "- {service: a, bridge: lan, ip: 10.0.0.1/24}\n- {service: b, bridge: lan, ip: 10.0.0.2/24}\n";
    let yaml = |more: &str| format!("links:\n{lan}{more}- {{service: c, bridge: sw, ip: 10.0.1.3/24}}\n{sw}");
    let start = engine.start(&yaml(""));
    assert!(start.errors.iter().any(|it| it.contains("ovs-vswitchd does not answer")), "{:?}", start.errors);
    ping(engine.netns("a-1"), "10.0.0.2");
    // From then on nothing waits for it.
    let begin = Instant::now();
    let start = engine.start(&yaml("- {service: c, bridge: lan, dev: eth1, ip: 10.0.0.3/24}\n"));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    ping(engine.netns("c-1"), "10.0.0.1");
    let of_switch = |it: &&String| it.contains("sw") || it.starts_with("hint: ");
    assert!(start.errors.iter().all(|it| of_switch(&it)), "{:?}", start.errors);
    // It is started again, and serves as before.
    let end = Instant::now() + Duration::from_secs(30);
    while !engine.start(&yaml("")).announced {
        assert!(Instant::now() < end, "{:?}", engine.start(&yaml("")).errors);
    }
    ping(engine.netns("c-1"), "10.0.1.1");
    engine.wire(&yaml(""));
    engine.wire("links: []");
    engine.kernel.stop_ovs().unwrap();
}
