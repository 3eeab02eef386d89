//! Containers that start while conlink connects to the container engine.

use super::*;

/// Tells of more containers that are nobody's than the container engine remembers.
fn tell_of_many(world: &World) {
    let mut docker = world.docker();
    for number in 0..300 {
        docker.tell("start", &format!("{number:064}"));
    }
}

fn is_wired(world: &World, name: &str) -> bool {
    let nodes = world.status()["nodes"].as_array().cloned().unwrap_or_default();
    nodes.iter().any(|it| it["name"] == name && it["state"] == "connected")
}

#[test]
fn a_container_that_starts_during_the_list_request_is_wired() {
    let Some(mut world) = World::new("slow list", NETWORK) else { return };
    world.docker().holds_list = true;
    world.start();
    let listed = |it: &World| it.docker().requests.iter().any(|it| it.ends_with("/containers/json"));
    world.within("the list is made", listed);
    let requests = world.docker().requests.clone();
    let at = |end: &str| requests.iter().position(|it| it.ends_with(end)).unwrap();
    assert!(at("/events") < at("/containers/json"), "{requests:?}");
    world.run("p-h-1");
    tell_of_many(&world);
    world.docker().holds_list = false;
    world.within("it is wired", |it| is_wired(it, "p-h-1"));
}

#[test]
fn a_container_whose_start_event_is_lost_is_wired() {
    let Some(mut world) = World::new("slow events", NETWORK) else { return };
    world.docker().hides_events = true;
    world.start();
    world.within("all is listed", |it| it.status()["state"] == "connected");
    world.run("p-h-1");
    tell_of_many(&world);
    world.docker().hides_events = false;
    world.within("it is wired", |it| is_wired(it, "p-h-1"));
}

#[test]
fn an_engine_that_dies_before_its_list_does_not_delay_the_other() {
    let Some(mut world) = World::new("two engines", NETWORK) else { return };
    let podman = Arc::new(Mutex::new(Docker::default()));
    serve(&world.folder.path().join("podman.sock"), podman.clone());
    // It closes each connection that asks for what runs.
    podman.lock().unwrap().raw.extend(["list", "events"].map(|it| (it.to_owned(), Vec::new())));
    world.run("p-h-1");
    let mut command = world.apart(&["--network-file", "net.yaml", "--compose-project", "p"]);
    command.args(["--docker-socket", "docker.sock", "--podman-socket", "podman.sock"]);
    command.stderr(fs::File::create(world.log_file()).unwrap());
    world.engine = command.spawn().unwrap();
    world.within("the engine answers", |it| UnixStream::connect(it.socket()).is_ok());
    world.within("what the other runs is wired", |it| is_wired(it, "p-h-1"));
    world.within("bridges are made", |it| it.status()["bridges"][0]["state"] == "up");
    assert!(world.log().contains("warning: podman: connection lost, trying again: "), "{}", world.log());
    // Not everything that runs is known.
    assert_eq!(world.conlink(&["healthcheck"]).code, 1);
    podman.lock().unwrap().raw.clear();
    world.within("all is well in the end", |it| it.status()["state"] == "connected");
}
