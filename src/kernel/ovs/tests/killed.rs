//! Daemons that are killed, stopped or replaced.

use super::*;

#[test]
fn a_killed_engine_finds_its_daemons_again() {
    for lab in Lab::all("a_killed_engine_finds_its_daemons_again") {
        assert!(Ovs::find(&lab.bridges, &lab.rundir(), lab.datapath, false).unwrap().is_none());
        assert!(!lab.rundir().exists() && !Ovs::is_left(&lab.rundir()));
        let mut first = lab.wire();
        let (before, pids) = (first.dump().unwrap(), lab.pids());
        drop(first);
        assert!(Ovs::is_left(&lab.rundir()));
        let mut found = Ovs::find(&lab.bridges, &lab.rundir(), lab.datapath, false).unwrap().unwrap();
        assert_eq!(found.dump().unwrap(), before);
        let mut again = lab.start();
        assert_eq!(again.dump().unwrap(), before);
        assert_eq!(lab.pids(), pids);
        again.stop().unwrap();
        assert!(Ovs::find(&lab.bridges, &lab.rundir(), lab.datapath, false).unwrap().is_none());
    }
}

#[test]
fn a_killed_switch_is_started_again_and_traffic_resumes() {
    for lab in Lab::all("a_killed_switch_is_started_again_and_traffic_resumes") {
        let mut ovs = lab.wire();
        let (before, [server, switch]) = (ovs.dump().unwrap(), lab.pids());
        let watched = ovs.watch();
        assert_eq!(watched.len(), 2);
        assert!(!watched.iter().any(is_readable));
        lab.kill(SWITCH);
        until("the notice", || is_readable(&watched[1]));
        assert!(!is_readable(&watched[0]));
        // By a new engine, and then by the next call of the same engine.
        lab.start();
        lab.reach();
        let [same_server, other_switch] = lab.pids();
        assert_eq!(same_server, server);
        assert_ne!(other_switch, switch);
        lab.kill(SWITCH);
        assert_eq!(ovs.dump().unwrap(), before);
        lab.reach();
        lab.kill(SERVER);
        assert_eq!(ovs.dump().unwrap(), before);
        lab.reach();
        ovs.stop().unwrap();
    }
}

#[test]
fn killed_daemons_are_started_again_with_their_bridges() {
    for lab in Lab::all("killed_daemons_are_started_again_with_their_bridges") {
        let mut ovs = lab.wire();
        let before = ovs.dump().unwrap();
        drop(ovs);
        lab.kill(SWITCH);
        lab.kill(SERVER);
        assert!(Ovs::find(&lab.bridges, &lab.rundir(), lab.datapath, false).unwrap().is_none());
        assert!(Ovs::is_left(&lab.rundir()));
        // An interface that was deleted in the meantime is made again later.
        run(&lab.bridges, "ip link del a-eth0");
        let mut ovs = lab.start();
        let error = ovs.dump().unwrap()["lan"].ports[&name("a-eth0")].error.clone().unwrap();
        assert_eq!(error, "could not open network device a-eth0 (No such device)");
        add_veth(&lab.a, "eth0", &lab.bridges, "a-eth0");
        run(&lab.a, "ip addr add 10.9.0.1/24 dev eth0");
        ovs.add_port(&Join::new(&name("lan"), &name("a-eth0"), A)).unwrap();
        assert_eq!(ovs.dump().unwrap(), before);
        lab.reach();
        ovs.stop().unwrap();
    }
}

#[test]
fn a_killed_switch_that_still_holds_its_ports_is_waited_for() {
    for lab in Lab::all("a_switch_that_is_not_gone_yet_is_waited_for") {
        let mut ovs = lab.wire();
        let lan = name("lan");
        let names: Vec<IfName> = (0..20).map(|it| name(&format!("p{it}-eth0"))).collect();
        for (at, it) in names.iter().enumerate() {
            add_veth(&lab.a, &format!("p{at}"), &lab.bridges, it.as_str());
        }
        let ports: Vec<_> = names.iter().map(|port| Join::new(&lan, port, A)).collect();
        assert!(ovs.add_ports(&ports).unwrap().is_empty());
        // The last port that the switch releases.
        ovs.add_bridge(&name("wan"), LAN).unwrap();
        let before = ovs.dump().unwrap();
        assert_eq!(before["lan"].ports.len(), 22);
        for _ in 0..3 {
            kill(lab.pids()[1], Signal::SIGKILL).unwrap();
            assert_eq!(ovs.dump().unwrap(), before);
            assert_eq!(lab.start().dump().unwrap(), before);
            lab.reach();
        }
        let gone: Vec<_> = names.iter().map(|it| (&lan, it)).collect();
        ovs.del_ports(&gone).unwrap();
        assert_eq!(ovs.dump().unwrap()["lan"].ports.len(), 2);
        ovs.stop().unwrap();
    }
}

#[test]
fn stop_leaves_no_process_no_interface_and_no_folder() {
    for lab in Lab::all("stop_leaves_no_process_no_interface_and_no_folder") {
        for kill_first in [&[][..], &[SWITCH], &[SWITCH, SERVER]] {
            let ovs = lab.wire();
            assert!(lab.interfaces().contains("lan"));
            let pids = lab.pids();
            for it in kill_first {
                lab.kill(it);
            }
            assert!(lab.interfaces().contains("lan") || lab.datapath == Datapath::Kernel);
            ovs.stop().unwrap();
            assert!(!pids.into_iter().any(runs));
            assert_eq!(lab.interfaces(), BTreeSet::new());
            assert!(!lab.rundir().exists());
        }
    }
}

#[test]
fn incomplete_files_of_a_killed_start_do_no_harm() {
    for lab in Lab::all("what_a_kill_left_half_made_is_of_no_consequence") {
        let rundir = lab.rundir();
        let own = std::process::id().to_string();
        let cases: [&[(&str, &str)]; 7] = [
            &[],
            &[("conf.db", "")],
            &[("conf.db", "frob")],
            &[("conf.db", "OVSDB JSON 15170 3f0a\n{\"cksum\"")],
            &[("new.db", "OVSDB"), (".new.db.~lock~", "")],
            &[
                ("ovsdb-server.pid", &own),
                ("ovs-vswitchd.pid", &own),
                ("db.sock", ""),
                ("ovs-vswitchd.ctl", ""),
            ],
            &[("ovsdb-server.pid", "frob"), ("ovs-vswitchd.pid", "")],
        ];
        for files in cases {
            std::fs::create_dir(&rundir).unwrap();
            for (file, text) in files {
                std::fs::write(rundir.join(file), text).unwrap();
            }
            let ovs = lab.wire();
            lab.reach();
            ovs.stop().unwrap();
            assert!(!rundir.exists());
        }
        // Only the database, truncated at any length.
        let ovs = lab.wire();
        drop(ovs);
        lab.daemons().end_all().unwrap();
        let database = std::fs::read(rundir.join("conf.db")).unwrap();
        for part in [1, 2, 3] {
            std::fs::write(rundir.join("conf.db"), &database[..database.len() * part / 4]).unwrap();
            let ovs = lab.wire();
            lab.reach();
            drop(ovs);
            lab.daemons().end_all().unwrap();
        }
        lab.daemons().remove().unwrap();
        std::fs::write(&rundir, "").unwrap();
        let error = Ovs::start(&lab.bridges, &rundir, lab.datapath).unwrap_err().to_string();
        assert!(error.contains("ovs-t"), "{error}");
        std::fs::remove_file(&rundir).unwrap();
    }
}

#[test]
fn daemons_in_an_earlier_namespace_are_replaced() {
    for mut lab in Lab::all("daemons_of_a_namespace_that_is_no_longer_ours_are_replaced") {
        drop(lab.wire());
        let before = lab.pids();
        let old = std::mem::replace(&mut lab.bridges, netns::anonymous().unwrap());
        assert!(Ovs::find(&lab.bridges, &lab.rundir(), lab.datapath, false).unwrap().is_none());
        let mut ovs = lab.start();
        assert!(!before.into_iter().any(runs));
        assert!(!run(&old, "ip link").contains("lan"));
        assert!(lab.interfaces().contains("lan"));
        let errors = ovs.dump().unwrap()["lan"].ports.values().filter(|it| it.error.is_some()).count();
        assert_eq!(errors, 2);
        ovs.stop().unwrap();
    }
}

#[test]
fn system_daemons_are_used_in_their_namespace() {
    for lab in Lab::all("daemons_of_the_system_are_used_where_they_serve") {
        let system = lab.wire();
        let (ours, theirs) = (lab.folder.path().join("ours"), lab.rundir());
        let (daemons, own) = choose(ours.clone(), theirs.clone(), &lab.bridges);
        assert!(!own && daemons.socket().starts_with(&theirs));
        let path = OsStr::new(SYSTEM_PATH);
        let mut ovs = Ovs::with(path, &lab.bridges, (daemons, own), lab.datapath).unwrap();
        ovs.add_bridge(&name("wan"), LAN).unwrap();
        assert_eq!(ovs.dump().unwrap().len(), 2);
        ovs.del_bridge(&name("wan")).unwrap();
        // conlink must not stop them.
        ovs.stop().unwrap();
        lab.reach();
        assert!(!ours.exists());
        // They are not used in other namespaces, nor if conlink already has its own.
        assert!(choose(ours.clone(), theirs.clone(), &lab.a).1);
        std::fs::create_dir(&ours).unwrap();
        std::fs::write(ours.join("conf.db"), "").unwrap();
        assert!(choose(ours.clone(), theirs, &lab.bridges).1);
        system.stop().unwrap();
        assert!(choose(ours, lab.rundir(), &lab.bridges).1);
    }
}
