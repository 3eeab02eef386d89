//! Pipework commands in labels and variables of containers.

use std::fs::File;
use std::os::fd::AsRawFd;

use conlink::kernel::netns;
use serde_json::json;

use super::{World, id, interfaces, netns_of};
use crate::support::ip;

const COMMAND: &str = "br1 @CONTAINER_NAME@ 192.168.1.2/24@192.168.1.1";

impl World {
    /// An engine with that option and without files, after a shell command where it runs.
    fn serve_labels(&mut self, before: &str) {
        self.end_engine();
        let options = [
            "--compose-project",
            "p",
            "--docker-socket",
            "docker.sock",
            "--podman-socket",
            "none",
            "--pipework-labels",
        ];
        let command = self.apart_after(before, &options);
        self.spawn_logged(command);
        self.within("the engine answers", |it| std::os::unix::net::UnixStream::connect(it.socket()).is_ok());
    }

    /// Makes a container have labels, and variables.
    fn describe(&self, name: &str, labels: &[(&str, &str)], env: &[&str]) {
        let labels: Vec<(String, String)> =
            labels.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let env = json!(env);
        let lie = move |_, answer: &mut serde_json::Value| {
            for (name, text) in &labels {
                answer["Config"]["Labels"][name] = json!(text);
            }
            answer["Config"]["Env"] = env.clone();
        };
        self.docker().lies.insert(id(name), Box::new(lie));
    }

    fn logs(&self, line: &str) {
        self.within(line, |it| it.log().contains(line));
    }

    /// The namespace of the engine.
    fn host(&self) -> File {
        netns_of(self.engine.id())
    }
}

#[test]
fn containers_are_attached_by_their_labels_when_they_start_and_start_again() {
    let Some(mut world) = World::new("labels", "") else { return };
    let env = [
        "PATH=/bin",
        "pipework_cmd_10=pipework br1  -i eth3 @CONTAINER_NAME@ 10.3.0.@INSTANCE@/24",
        "pipework_cmd_2=br1 -i eth2 @CONTAINER_ID@ 10.2.0.2/24",
        "pipework_cmd_4=br1 -i eth4 p-b-1 10.4.0.2/24",
        "pipework_cmd_5=wibble0 -i eth5 @CONTAINER_NAME@ 10.5.0.2/24",
        "pipework_cmd_6=--wait",
        "pipework_cmdx=br1 -i eth6 @CONTAINER_NAME@ 10.6.0.2/24",
        // The label counts.
        "pipework_cmd=br1 -i eth7 @CONTAINER_NAME@ 10.7.0.2/24",
    ];
    world.describe("p-a-1", &[("pipework_cmd", COMMAND)], &env);
    world.add(&id("p-a-1"), "p-a-1");
    world.run("p-b-1");
    // Engines end, and the namespace of the bridges stays.
    world.add(&id("p-host-1"), "p-host-1");
    let host = world.docker().containers[&id("p-host-1")].1.id();
    let before = format!("run='nsenter --net=/proc/{host}/ns/net'");
    world.serve_labels(&before);
    let attached = |it: &World| interfaces(&it.netns(&id("p-a-1"))) == "eth1 eth2 eth3";
    world.within("it was running and is attached", attached);
    let a = world.netns(&id("p-a-1"));
    assert!(ip(&a, "addr show eth1").contains("192.168.1.2/24"));
    assert!(ip(&a, "addr show eth3").contains("10.3.0.1/24"));
    assert!(ip(&a, "route").contains("default via 192.168.1.1 dev eth1"));
    world.logs("p-a-1: attached eth1: pipework_cmd `br1 p-a-1 192.168.1.2/24@192.168.1.1`");
    world.logs("p-a-1: attached eth3: pipework_cmd_10 `br1 -i eth3 p-a-1 10.3.0.1/24`");
    world.logs("pipework_cmd_4 `br1 -i eth4 p-b-1 10.4.0.2/24`: expected this container, found `p-b-1`");
    world.logs(
        "pipework_cmd_5 `wibble0 -i eth5 p-a-1 10.5.0.2/24`: I do not know how to setup interface wibble0.",
    );
    world.logs("pipework_cmd_6 `--wait`: expected a command that attaches an interface");
    world.logs("hint: the command is run again when the container starts again");
    assert_eq!(interfaces(&world.netns(&id("p-b-1"))), "");
    // Each veth has its other end in the bridge.
    assert_eq!(ip(&world.host(), "-o link show master br1").lines().count(), 3);

    world.kill("p-a-1");
    world.run("p-a-1");
    world.within("it is attached again", attached);

    let before_restart = ip(&world.netns(&id("p-a-1")), "-o link");
    world.serve_labels(&before);
    world.logs("p-a-1: eth3 is attached: pipework_cmd_10");
    assert_eq!(ip(&world.netns(&id("p-a-1")), "-o link"), before_restart);
}

#[test]
fn what_a_dead_container_leaves_on_the_host_is_removed() {
    let Some(mut world) = World::new("leftovers of labels", "") else { return };
    world.describe("p-a-1", &[("pipework_cmd", COMMAND)], &[]);
    world.serve_labels("true");
    world.run("p-a-1");
    world.logs("p-a-1: attached eth1");
    // Its inner end outlives it, so the kernel does not remove the outer end.
    let elsewhere = netns::anonymous().unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), elsewhere.as_raw_fd());
    ip(&world.netns(&id("p-a-1")), &format!("link set eth1 netns {path}"));
    assert_eq!(interfaces(&elsewhere), "eth1");
    assert_eq!(ip(&world.host(), "-o link show master br1").lines().count(), 1);
    world.kill("p-a-1");
    world.within("its outer end is gone", |it| interfaces(&it.host()) == "br1");
}

#[test]
fn a_program_of_a_label_runs_in_the_network_of_its_container() {
    let Some(mut world) = World::new("programs of labels", "") else { return };
    let labels = [
        ("pipework_cmd", COMMAND),
        ("pipework_cmd_2", "route @CONTAINER_NAME@ add 10.9.0.0/24 via 192.168.1.1"),
        ("pipework_cmd_3", "route p-b-1 add 10.9.0.0/24 via 192.168.1.1"),
        ("pipework_cmd_4", "route @CONTAINER_NAME@ add nonsense"),
    ];
    world.describe("p-a-1", &labels, &[]);
    world.serve_labels("true");
    world.run("p-a-1");
    world.logs("p-a-1: done: pipework_cmd_2 `route p-a-1 add 10.9.0.0/24 via 192.168.1.1`");
    assert!(ip(&world.netns(&id("p-a-1")), "route").contains("10.9.0.0/24 via 192.168.1.1"));
    world.logs("pipework_cmd_3 `route p-b-1 add 10.9.0.0/24 via 192.168.1.1`: expected this container");
    world.logs("pipework_cmd_4 `route p-a-1 add nonsense`: ");
}

#[test]
fn labels_of_another_project_and_without_the_option_attach_nothing() {
    let Some(mut world) = World::new("labels of others", "links: []") else { return };
    for name in ["p-a-1", "q-a-1"] {
        world.describe(name, &[("pipework_cmd", COMMAND)], &[]);
    }
    world.run("p-a-1");
    world.run("q-a-1");
    world.start();
    world.within("it has the list", |it| {
        it.status()["listening"] == true && it.status()["state"] != "working"
    });
    assert!(!world.docker().inspected.contains_key(&id("q-a-1")));
    assert_eq!(interfaces(&world.netns(&id("p-a-1"))), "");

    world.serve_labels("true");
    world.within("it is attached", |it| interfaces(&it.netns(&id("p-a-1"))) == "eth1");
    assert_eq!(interfaces(&world.netns(&id("q-a-1"))), "");
    assert!(!world.log().contains("q-a-1"), "{}", world.log());
}
