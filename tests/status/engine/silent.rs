//! A container engine that is absent or does not answer.

use super::*;

#[test]
fn a_podman_socket_that_is_named_and_absent_is_an_error() {
    let Some(world) = World::new("absent socket", NETWORK) else { return };
    let mut command = world.apart(&["--network-file", "net.yaml", "--compose-project", "p", "--once"]);
    command.args(["--docker-socket", "docker.sock", "--podman-socket", "nowhere.sock"]);
    let expected = "error: podman: socket nowhere.sock does not exist\n".to_owned();
    assert_eq!(run(command), Run { code: 1, stdout: String::new(), stderr: expected });
}

#[test]
fn a_silent_container_engine_is_reported() {
    let Some(mut world) = World::new("mute engine", NETWORK) else { return };
    world.docker().is_mute = true;
    world.spawn();
    let expected = "warning: docker: no answer for 5 s: ping\n";
    world.within("it is told of", |it| it.log().contains(expected));
    world.docker().is_mute = false;
    world.within("the engine answers", |it| UnixStream::connect(it.socket()).is_ok());
}

#[test]
fn a_silent_podman_socket_that_nobody_named_is_left_out() {
    let Some(world) = World::new("silent Podman", NETWORK) else { return };
    let folder = world.folder.path().join("run/podman");
    fs::create_dir_all(&folder).unwrap();
    // It accepts connections into its queue, and never answers.
    let _silent = std::os::unix::net::UnixListener::bind(folder.join("podman.sock")).unwrap();
    let mut command = world.apart(&["--network-file", "net.yaml", "--compose-project", "p", "--once"]);
    command.args(["--docker-socket", "docker.sock"]);
    let ended = run(command);
    let expected = "podman.sock: no answer within 4 s\n";
    assert!(ended.code == 0 && ended.stderr.starts_with("warning: podman is not used: "), "{ended:?}");
    assert!(ended.stderr.ends_with(expected), "{ended:?}");
}

#[test]
fn a_hanging_inspection_is_reported_and_counts_in_health() {
    let Some(mut world) = World::new("hanging inspection", NETWORK) else { return };
    world.docker().stuck.insert(id("p-h-1"));
    world.start();
    world.within("it has listened", |it| it.status()["state"] == "connected");
    world.run("p-h-1");
    world.within("it is asked for", |it| it.status()["state"] == "working");
    let health = world.conlink(&["healthcheck"]);
    assert_eq!((health.code, health.stdout.as_str()), (1, ""), "{}", health.stderr);
    let expected = format!("warning: docker: no answer for 5 s: inspect container {}\n", &id("p-h-1")[..12]);
    world.within("it is told of", |it| it.log().contains(&expected));
    assert!(!world.log().contains("All links connected"), "{}", world.log());
    world.docker().stuck.clear();
    world.within("it is wired", |it| it.conlink(&["healthcheck"]).code == 0);
}
