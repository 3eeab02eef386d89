//! Namespaces: of containers, and named ones of the engine.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use conlink::container::ContainerId;
use conlink::kernel::netns;
use conlink::plan::{Kind, Look, Ns};

use crate::kernel::{Lab, add_veth, container, del, name, set, up};
use crate::support::{ip, may_unshare};

#[test]
fn a_shared_namespace_is_held_until_the_last_container_is_detached() {
    let Some(mut lab) = Lab::new("shared", &["a"]) else { return };
    let netns = lab.containers["a"].try_clone().unwrap();
    let inode = netns::inode(&netns).unwrap();
    for _ in 0..2 {
        assert_eq!(
            lab.kernel.attach_netns(&ContainerId::new("b"), netns.try_clone().unwrap()).unwrap(),
            inode
        );
    }
    lab.apply(add_veth(&container("a"), "eth0", &Ns::Bridges, "x"));
    assert_eq!(lab.space(&container("a")), lab.space(&container("b")));
    lab.kernel.detach(&ContainerId::new("a"));
    assert_eq!(lab.interface(&container("b"), "eth0").kind, Kind::Veth);
    // Nobody else holds the namespace: with it goes the interface, and so its peer.
    drop(netns);
    lab.containers.clear();
    lab.kernel.detach(&ContainerId::new("b"));
    let end = Instant::now() + Duration::from_secs(5);
    while ip(&lab.bridges, "link").contains("x@") {
        assert!(Instant::now() < end, "a handle keeps the namespace alive");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_removed_namespace_is_not_observed_and_has_nothing_to_delete() {
    let Some(mut lab) = Lab::new("gone", &[]) else { return };
    let gone = container("gone");
    let observed = lab.kernel.observe(&BTreeMap::from([(gone.clone(), Look::inside())])).unwrap();
    assert!(observed.spaces.is_empty());
    lab.apply(del(&gone, "eth0"));
    lab.kernel.del_interfaces(&gone, &[&name("eth0")]).unwrap();
    let error = lab.refused(set(&gone, "eth0", up()));
    assert!(error.is_gone() && std::error::Error::source(&error).is_none(), "{error}");
}

/// Runs `f` where `/run` is a folder of its own, so that no name of the machine's is touched.
fn with_own_run<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    let none = None::<&str>;
    let body = || {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        f()
    };
    std::thread::scope(|scope| scope.spawn(body).join().unwrap())
}

#[test]
fn a_named_namespace_is_made_once_found_and_deleted() {
    if !may_unshare("named namespace") {
        return;
    }
    with_own_run(|| {
        assert!(netns::find_named("t").unwrap().is_none());
        let made = netns::named("t").unwrap();
        assert_eq!(ip(&File::open("/proc/thread-self/ns/net").unwrap(), "netns list").trim(), "t");
        assert!(ip(&made, "link show lo").contains("<LOOPBACK,UP"));
        for found in [netns::named("t").unwrap(), netns::find_named("t").unwrap().unwrap()] {
            assert_eq!(netns::inode(&found).unwrap(), netns::inode(&made).unwrap());
        }
        assert_ne!(netns::inode(&made).unwrap(), netns::inode(&netns::own().unwrap()).unwrap());
        for _ in 0..2 {
            netns::delete_named("t").unwrap();
            assert!(netns::find_named("t").unwrap().is_none());
        }
        // What a kill amid the making leaves: a name with nothing behind it.
        fs::write("/run/netns/t", "").unwrap();
        assert!(netns::find_named("t").unwrap().is_none());
        assert!(ip(&netns::named("t").unwrap(), "link show lo").contains("<LOOPBACK,UP"));
        netns::delete_named("t").unwrap();
    });
}

#[test]
fn work_in_a_namespace_does_not_move_the_caller() {
    if !may_unshare("inside") {
        return;
    }
    let other = netns::anonymous().unwrap();
    let inode = |netns: io::Result<File>| netns::inode(&netns.unwrap()).unwrap();
    let before = inode(netns::own());
    assert_eq!(netns::inside(&other, || Ok(inode(netns::own()))).unwrap(), inode(Ok(other)));
    assert_eq!(inode(netns::own()), before);
}

#[test]
fn interfaces_of_ended_namespaces_vanish_before_settle_returns() {
    let Some(lab) = Lab::new("namespaces that end", &[]) else { return };
    for round in 0..20 {
        // Processes hold the namespaces, not files: a program that another test starts would inherit those for a moment.
        let mut holders: Vec<Child> = (0..5).map(|_| process_in_a_namespace()).collect();
        for (number, it) in holders.iter().enumerate() {
            ip(&lab.bridges, &format!("link add e{number} type veth peer name p netns {}", it.id()));
        }
        for it in &mut holders {
            it.kill().unwrap();
            it.wait().unwrap();
        }
        assert!(netns::settle(Duration::from_secs(10)).unwrap());
        let left = ip(&lab.bridges, "-br link");
        assert_eq!(left.lines().count(), 1, "round {round}: {left}");
    }
}

/// A process in a network namespace of its own.
fn process_in_a_namespace() -> Child {
    let mut command = Command::new("busybox");
    command.args(["unshare", "-n", "sh", "-c", "echo; exec sleep 1000"]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    child
}
