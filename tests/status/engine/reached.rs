//! Which network namespaces are opened, and errors at the start.

use super::*;

#[test]
fn a_reused_process_number_wires_no_other_namespace() {
    let Some(mut world) = World::new("recycled number", NETWORK) else { return };
    // Part of the name of every process's cgroup.
    let short = "0";
    world.add(short, "p-h-1");
    world.add("f", "q-x-1");
    let other = world.docker().containers["f"].1.id();
    world.docker().lies.insert(
        short.to_owned(),
        Box::new(move |count, answer| {
            if count == 0 {
                answer["State"]["Pid"] = json!(other);
            }
        }),
    );
    world.start();
    world.within("it is wired", |it| it.status()["state"] == "connected");
    assert_eq!(interfaces(&world.netns(short)), "eth0");
    assert_eq!(interfaces(&world.netns("f")), "");
}

#[test]
fn the_namespace_of_an_unconfigured_container_is_never_opened() {
    let Some(mut world) = World::new("nobody's container", NETWORK) else { return };
    world.start();
    world.within("it has listened", |it| it.status()["state"] == "connected");
    world.add(&id("q-h-1"), "q-h-1");
    let netns = fs::read_link(format!("/proc/{}/ns/net", world.docker().containers[&id("q-h-1")].1.id()));
    // A second inspection would hang, with the namespace open.
    let docker = world.docker.clone();
    world.docker().lies.insert(
        id("q-h-1"),
        Box::new(move |_, _| {
            std::thread::spawn({
                let docker = docker.clone();
                move || docker.lock().unwrap().stuck.insert(id("q-h-1"))
            });
        }),
    );
    world.docker().tell("start", &id("q-h-1"));
    world.within("it is asked about", |it| it.docker().stuck.contains(&id("q-h-1")));
    world.run("p-h-1");
    world.within("one of ours is wired", |it| it.status()["state"] == "connected");
    assert_eq!(world.docker().inspected[&id("q-h-1")], 1);
    let open = fs::read_dir(format!("/proc/{}/fd", world.engine.id())).unwrap();
    let open: Vec<PathBuf> = open.filter_map(|it| fs::read_link(it.unwrap().path()).ok()).collect();
    assert!(!open.contains(&netns.unwrap()), "{open:?}");
}

#[test]
fn only_a_container_with_host_networking_is_wired_in_the_hosts_namespace() {
    let Some(mut world) = World::new("the host's network", NETWORK) else { return };
    world.add(&id("q-x-1"), "q-x-1");
    let lie = |mode: String| move |_: usize, it: &mut Value| it["HostConfig"]["NetworkMode"] = json!(mode);
    let host = move |_: usize, it: &mut Value| {
        // Process 1 there is the shell.
        it["State"]["Pid"] = json!(1);
        it["HostConfig"]["NetworkMode"] = json!(format!("container:{}", id("q-x-1")));
    };
    world.add(&id("p-h-1"), "p-h-1");
    world.docker().lies.insert(id("p-h-1"), Box::new(host));
    let mut command = world.contained(None, &[]);
    command.stderr(fs::File::create(world.log_file()).unwrap());
    world.engine = command.spawn().unwrap();
    world.within("it is refused", |it| it.log().contains("error: container p-h-1: "));
    let log = world.log();
    let expected =
        "the engine reports process 1, which is in the host's network namespace, but the container is not";
    assert!(log.contains(expected), "{log}");
    let there = fs::File::open(format!("/proc/{}/ns/net", world.engine.id())).unwrap();
    assert_eq!(interfaces(&there), "");
    assert_eq!(world.status()["state"], "failing");
    // The container whose namespace it shares is in the host's.
    world.docker().lies.insert(id("q-x-1"), Box::new(lie("host".to_owned())));
    world.within("it is wired", |it| it.status()["state"] == "connected");
    assert_eq!(interfaces(&there), "eth0");
}

const NEEDS_PIDS: &str = "hint: if conlink runs in a container, its service needs `pid: host`\n";

#[test]
fn process_numbers_that_are_not_in_proc_are_an_error_with_a_hint() {
    let Some(world) = World::new("processes unseen", NETWORK) else { return };
    for (name, pid) in [("p-h-1", 1), ("p-h-2", 4_000_000)] {
        world.add(&id(name), name);
        let lie = move |_: usize, it: &mut Value| it["State"]["Pid"] = json!(pid);
        world.docker().lies.insert(id(name), Box::new(lie));
    }
    let ended = run(world.contained(None, &["--once"]));
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    for (name, message) in [
        (
            "p-h-1",
            "the engine reports process 1, which is in the host's network namespace, but the container is not",
        ),
        ("p-h-2", "the engine reports process 4000000, which is not in /proc"),
    ] {
        let expected = format!("error: container {name}: {message}\n{NEEDS_PIDS}");
        assert!(ended.stderr.contains(&expected), "{}", ended.stderr);
    }
}

const OPTIONS: [&str; 7] = [
    "--network-file=net.yaml",
    "--compose-project=p",
    "--once",
    "--docker-socket",
    "docker.sock",
    "--podman-socket",
    "none",
];

#[test]
fn an_engine_without_a_capability_names_it_and_says_how_to_give_it() {
    let Some(world) = World::new("missing capability", NETWORK) else { return };
    for (dropped, error, capability) in [
        (
            "-sys_admin",
            "create network namespace conlink-p: Operation not permitted (os error 1)",
            "the capability SYS_ADMIN",
        ),
        (
            "-sys_admin,-net_admin",
            "create network namespace conlink-p: Operation not permitted (os error 1)",
            "the capabilities SYS_ADMIN and NET_ADMIN",
        ),
        (
            "-net_admin",
            "create network namespace conlink-p: set interface 1 up: Operation not permitted (os error 1)",
            "the capability NET_ADMIN",
        ),
    ] {
        let program = format!("run='setpriv --bounding-set={dropped} --inh-caps={dropped}'");
        let ended = run(world.apart_after(&program, &OPTIONS));
        let expected = format!(
            "error: {error}\nhint: conlink lacks {capability}: run it as root, or give its container \
             `cap_add: [SYS_ADMIN, NET_ADMIN]`\n"
        );
        assert_eq!(ended, Run { code: 1, stdout: String::new(), stderr: expected }, "{dropped}");
    }
}

#[test]
fn a_bridge_of_mode_ovs_without_open_vswitch_ends_the_engine() {
    let yaml = "bridges: [{bridge: sw, mode: ovs}]\nlinks: [{service: h, bridge: sw}]\n";
    let Some(world) = World::new("no Open vSwitch", yaml) else { return };
    let hide = "for it in $(which -a ovsdb-server); do mount --bind /dev/null $it; done";
    let ended = run(world.apart_after(hide, &OPTIONS));
    let expected = "error: bridge `sw` has mode ovs: find ovsdb-server: program not found\n\
         hint: install the package openvswitch-switch, use the image `conlink`, or set `mode: linux` for the bridge\n";
    assert_eq!(ended, Run { code: 1, stdout: String::new(), stderr: expected.to_owned() });
}

#[test]
fn a_bridge_of_mode_auto_without_open_vswitch_is_a_linux_bridge_with_a_warning() {
    for (yaml, warning) in [
        (
            "bridges: [{bridge: lan, mode: auto}]\n",
            "warning: bridges of mode auto are linux bridges: Open vSwitch is not installed\n",
        ),
        // Nobody asked for Open vSwitch by name.
        ("bridges: [{bridge: lan}]\n", ""),
    ] {
        let Some(world) = World::new("no Open vSwitch", yaml) else { return };
        let hide = "for it in $(which -a ovsdb-server); do mount --bind /dev/null $it; done";
        let ended = run(world.apart_after(hide, &OPTIONS));
        assert_eq!((ended.code, ended.stderr.contains("mode auto")), (0, !warning.is_empty()), "{yaml}");
        assert!(ended.stderr.starts_with(warning), "{}", ended.stderr);
    }
}

#[test]
fn an_engine_without_pid_host_does_not_start() {
    let Some(world) = World::new("an init of its own", NETWORK) else { return };
    let own = "ab".repeat(32);
    world.add(&own, "z-net-1");
    for mode in ["", "private"] {
        let lie = move |_: usize, it: &mut Value| it["HostConfig"]["PidMode"] = json!(mode);
        world.docker().lies.insert(own.clone(), Box::new(lie));
        let ended = run(world.contained(Some(&own), &["--once"]));
        let expected =
            "error: the engine's container cannot see other containers: its service needs `pid: host`\n";
        assert_eq!(ended, Run { code: 1, stdout: String::new(), stderr: expected.to_owned() }, "{mode}");
    }
    let lie = move |_: usize, it: &mut Value| it["HostConfig"]["PidMode"] = json!("host");
    world.docker().lies.insert(own.clone(), Box::new(lie));
    let ended = run(world.contained(Some(&own), &["--once"]));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

#[test]
fn an_engine_that_does_not_know_its_project_does_not_start() {
    let Some(world) = World::new("an own container unknown", NETWORK) else { return };
    let own = "ab".repeat(32);
    world.add(&own, "p-net-1");
    world.docker().raw.insert(own.clone(), b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec());
    let ended = run(world.contained(Some(&own), &["--once"]));
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.starts_with("error: inspect the engine's own container: "), "{}", ended.stderr);
}
