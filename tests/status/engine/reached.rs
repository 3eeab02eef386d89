//! Whose network namespace is opened, and whose never.

use super::*;

#[test]
fn a_process_number_that_is_another_s_by_now_wires_no_other_namespace() {
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
fn the_namespace_of_a_container_that_no_file_speaks_of_is_never_opened() {
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
fn only_a_container_in_the_host_s_network_is_wired_there() {
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
    let expected = "the engine reports process 1, which is in the host's network namespace: the container is not to be there";
    assert!(log.contains(expected), "{log}");
    let there = fs::File::open(format!("/proc/{}/ns/net", world.engine.id())).unwrap();
    assert_eq!(interfaces(&there), "");
    assert_eq!(world.status()["state"], "failing");
    // The container whose namespace it shares is in the host's.
    world.docker().lies.insert(id("q-x-1"), Box::new(lie("host".to_owned())));
    world.within("it is wired", |it| it.status()["state"] == "connected");
    assert_eq!(interfaces(&there), "eth0");
}

const NEEDS_PIDS: &str = "error: hint: a conlink that runs in a container needs `pid: host`\n";

#[test]
fn processes_that_only_the_container_engine_sees_are_an_error_with_a_hint() {
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
            "the engine reports process 1, which is in the host's network namespace: the container is not to be there",
        ),
        ("p-h-2", "the engine reports process 4000000, which /proc does not have"),
    ] {
        let expected = format!("error: container {name}: {message}\n{NEEDS_PIDS}");
        assert!(ended.stderr.contains(&expected), "{}", ended.stderr);
    }
}

#[test]
fn an_engine_whose_container_has_processes_of_its_own_does_not_start() {
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
fn an_engine_that_cannot_learn_its_own_project_serves_no_other() {
    let Some(world) = World::new("an own container unknown", NETWORK) else { return };
    let own = "ab".repeat(32);
    world.add(&own, "p-net-1");
    world.docker().raw.insert(own.clone(), b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec());
    let ended = run(world.contained(Some(&own), &["--once"]));
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.starts_with("error: inspect the engine's own container: "), "{}", ended.stderr);
}
