//! Daemons that hang.

use super::*;

/// Stops a daemon, so that it looks like a hung one.
fn hang(pid: Pid) {
    kill(pid, Signal::SIGSTOP).unwrap();
}

/// Checks that the first call finds the daemon silent, and that later calls do not wait.
#[track_caller]
fn is_found_silent(ovs: &mut Ovs, daemon: &str) {
    let message = format!("{daemon} does not answer");
    let begun = Instant::now();
    let error = ovs.add_port(&Join::new(&name("lan"), &name("a-eth0"), A)).unwrap_err();
    assert!(error.to_string().contains(&message), "{error}");
    // A switch that is stopped is not waited for.
    assert!(daemon == SERVER || begun.elapsed() < WAKE_SLICES * SLICE, "{:?}", begun.elapsed());
    let begun = Instant::now();
    for _ in 0..50 {
        let error = ovs.dump().unwrap_err();
        assert!(error.to_string().starts_with(&format!("ask Open vSwitch: {message}")), "{error}");
    }
    assert!(begun.elapsed() < PATIENCE, "{:?} for 50 calls", begun.elapsed());
}

#[test]
fn a_hung_daemon_delays_one_call_and_is_started_again() {
    for lab in Lab::all("a_hung_daemon_holds_up_one_call_and_is_started_again") {
        for (at, daemon) in [SERVER, SWITCH].into_iter().enumerate() {
            let mut ovs = lab.wire();
            let (before, pids) = (ovs.dump().unwrap(), lab.pids());
            hang(pids[at]);
            is_found_silent(&mut ovs, daemon);
            // A new engine does not wait longer.
            let error = Ovs::start(&lab.bridges, &lab.rundir(), lab.datapath).unwrap_err().to_string();
            assert!(error.contains(&format!("{daemon} does not answer")), "{error}");
            let dumped = std::cell::RefCell::new(ovs);
            until("an answer", || dumped.borrow_mut().dump().is_ok_and(|it| it == before));
            let mut ovs = dumped.into_inner();
            let now = lab.pids();
            assert_eq!((now[at] == pids[at], now[1 - at] == pids[1 - at]), (false, true), "{daemon}");
            ovs.add_port(&Join::new(&name("lan"), &name("a-eth0"), A)).unwrap();
            lab.reach();
            ovs.stop().unwrap();
        }
    }
}

#[test]
fn a_daemon_that_answers_again_is_left_running() {
    for lab in Lab::all("a_daemon_that_answers_again_is_left_running") {
        let mut ovs = lab.wire();
        let (before, pids) = (ovs.dump().unwrap(), lab.pids());
        for (pid, daemon) in pids.into_iter().zip([SERVER, SWITCH]) {
            hang(pid);
            is_found_silent(&mut ovs, daemon);
            kill(pid, Signal::SIGCONT).unwrap();
            let dumped = std::cell::RefCell::new(&mut ovs);
            until("an answer", || dumped.borrow_mut().dump().is_ok_and(|it| it == before));
        }
        assert_eq!(lab.pids(), pids);
        ovs.stop().unwrap();
    }
}

#[test]
fn a_hung_daemon_of_the_system_is_not_killed() {
    for lab in Lab::all("a_hung_daemon_of_the_system_is_not_killed") {
        let system = lab.wire();
        let pids = lab.pids();
        for (pid, daemon) in pids.into_iter().zip([SERVER, SWITCH]) {
            let theirs = (lab.daemons(), false);
            let mut ovs = Ovs::with(OsStr::new(SYSTEM_PATH), &lab.bridges, theirs, lab.datapath).unwrap();
            ovs.dump().unwrap();
            hang(pid);
            is_found_silent(&mut ovs, daemon);
            // As if it had been silent for an hour.
            let since = Instant::now().checked_sub(Duration::from_secs(3600));
            ovs.silence.as_mut().unwrap().since = since.unwrap();
            let error = ovs.dump().unwrap_err();
            assert_eq!(error.hint(), Some(THEIRS_IS_SILENT));
            kill(pid, Signal::SIGCONT).unwrap();
            let dumped = std::cell::RefCell::new(ovs);
            until("an answer", || dumped.borrow_mut().dump().is_ok());
        }
        assert_eq!(lab.pids(), pids);
        system.stop().unwrap();
    }
}

#[test]
fn hung_daemons_are_stopped_with_their_interfaces() {
    for lab in Lab::all("hung_daemons_are_ended_with_their_interfaces") {
        for hung in [&[1][..], &[0], &[0, 1]] {
            let ovs = lab.wire();
            let pids = lab.pids();
            hung.iter().for_each(|it| hang(pids[*it]));
            let begun = Instant::now();
            ovs.stop().unwrap();
            assert!(begun.elapsed() < CLEANUP_LIMIT, "{:?}", begun.elapsed());
            assert!(!pids.into_iter().any(runs));
            assert_eq!(lab.interfaces(), BTreeSet::new());
            assert!(!lab.rundir().exists());
        }
    }
}

#[test]
fn a_daemon_that_hangs_at_its_start_delays_one_call() {
    if netns::anonymous().is_err() {
        return skip("a_daemon_that_hangs_at_its_start", "no network namespace can be made");
    }
    let netns = netns::anonymous().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let pids = folder.path().join("pids");
    let hangs = format!("#!/bin/sh\necho $$ >>{}\nexec sleep 1000\n", pids.display());
    for (program, text) in
        [("ovsdb-tool", "#!/bin/sh\n: >$2\n"), ("ovsdb-server", &hangs), ("ovs-vswitchd", &hangs)]
    {
        std::fs::write(bin.join(program), text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(bin.join(program), mode).unwrap();
    }
    let rundir = folder.path().join("run");
    let mut ovs = Ovs::new_on(bin.as_os_str(), &netns, &rundir, Datapath::Userspace).unwrap();
    let message = "start Open vSwitch: ovsdb-server is still starting";
    assert_eq!(ovs.dump().unwrap_err().to_string(), message);
    let begun = Instant::now();
    for _ in 0..3 {
        assert_eq!(ovs.dump().unwrap_err().to_string(), message);
    }
    assert!(begun.elapsed() < START_PATIENCE, "{:?}", begun.elapsed());
    assert_eq!(ovs.stop().unwrap_err().to_string(), message);
    // It was started once, and has ended.
    let pids = std::fs::read_to_string(pids).unwrap();
    let pids: Vec<i32> = pids.lines().map(|it| it.parse().unwrap()).collect();
    assert_eq!(pids.len(), 1);
    assert!(!runs(Pid::from_raw(pids[0])));
}
