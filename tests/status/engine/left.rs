//! Leftovers of a killed engine.

use super::*;

/// A machine on paper: its process 1, whose network is the host's there, and its `/run`.
struct Machine {
    world: World,
}

impl Machine {
    fn new(test: &str, yaml: &str) -> Option<Self> {
        let mut world = World::new(test, yaml)?;
        let run = world.folder.path().join("run");
        fs::create_dir_all(&run).unwrap();
        let script = "mount --bind \"$1\" /run && echo ready && exec sleep 1000";
        let mut command = Command::new("unshare");
        command.args(["-mnpf", "--kill-child", "--mount-proc", "sh", "-c", script, "sh"]).arg(&run);
        world.engine = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(world.engine.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        Some(Self { world })
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let parent = self.world.engine.id();
        let first = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
        let mut command = Command::new("nsenter");
        command
            .args([&format!("--target={}", first.trim()), "--mount", "--net", "--pid", program])
            .args(args);
        command
    }

    /// An engine there.
    fn engine(&self, args: &[&str]) -> Command {
        let file = |name: &str| self.world.folder.path().join(name).to_str().unwrap().to_owned();
        let mut command = self.command(env!("CARGO_BIN_EXE_conlink"), args);
        command.args(["--network-file", &file("net.yaml"), "--compose-project", "p"]);
        command.args(["--docker-socket", &file("docker.sock"), "--podman-socket", "none"]);
        command
    }

    /// `ip` in the host's network namespace there.
    fn ip(&self, args: &str) -> Run {
        run(self.command("ip", &args.split(' ').collect::<Vec<_>>()))
    }

    fn has_name(&self) -> bool {
        self.world.folder.path().join("run/netns/conlink-p").exists()
    }
}

#[test]
fn a_killed_engines_namespace_is_removed_by_an_engine_with_netns_host() {
    let Some(machine) = Machine::new("namespace left", NETWORK) else { return };
    // One that wires once leaves all there is, as one that is killed.
    let own = || {
        let ended = run(machine.engine(&["--once"]));
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert_eq!(machine.ip("-n conlink-p link show lan").code, 0);
    };
    let on_host = || {
        let ended = run(machine.engine(&["--once", "--netns", "host"]));
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert_eq!(machine.ip("link show lan").code, 0);
        ended.stderr
    };
    own();
    let said = on_host();
    let expected = "removed network namespace conlink-p of an earlier engine\n";
    assert!(said.contains(expected) && !machine.has_name(), "{said}");
    own();
    assert_ne!(machine.ip("link show lan").code, 0, "and the other way round");
    // What somebody else has in it stays, and what is ours goes.
    assert_eq!(machine.ip("-n conlink-p link add theirs type veth peer name others").code, 0);
    let said = on_host();
    assert!(said.contains("conlink-p contains interfaces of other programs: others, theirs\n"), "{said}");
    assert_ne!(machine.ip("-n conlink-p link show lan").code, 0);
    assert_eq!(machine.ip("-n conlink-p link del theirs").code, 0);
    assert!(on_host().contains(expected) && !machine.has_name());
    // One that runs is left alone.
    let mut running = machine.engine(&[]).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    machine.world.within("it answers", |it| UnixStream::connect(it.socket()).is_ok());
    let shown = |it: &Machine| it.ip("-n conlink-p link show lan").code;
    machine.world.within("it has its bridge", |_| shown(&machine) == 0);
    let second = run(machine.engine(&["--once", "--netns", "host"]));
    let refused = "error: another conlink already serves project `p` here\n";
    assert!(second.code == 1 && second.stderr.ends_with(refused), "{second:?}");
    assert!(shown(&machine) == 0);
    running.kill().unwrap();
    running.wait().unwrap();
}

#[test]
fn a_killed_engines_daemons_are_stopped_by_an_engine_with_another_netns() {
    let test = "daemons left";
    let yaml = "bridges: [{bridge: sw, mode: ovs}]\nlinks: [{service: h, bridge: sw}]\n";
    let Some(machine) = Machine::new(test, yaml) else { return };
    if conlink::kernel::probe().is_none() {
        return skip(test, "openvswitch-switch is not installed");
    }
    let first = run(machine.engine(&["--once"]));
    assert_eq!(first.code, 0, "{}", first.stderr);
    let folder = |name: &str| machine.world.folder.path().join("run/conlink").join(name).exists();
    assert_eq!((folder("ovs-p"), folder("ovs-p-host")), (true, false));
    for (args, expected) in
        [(vec!["--once", "--netns", "host"], (false, true)), (vec!["--once"], (true, false))]
    {
        let ended = run(machine.engine(&args));
        assert_eq!(ended.code, 0, "{args:?}: {}", ended.stderr);
        assert_eq!((folder("ovs-p"), folder("ovs-p-host")), expected, "{args:?}: {}", ended.stderr);
    }
    // The last ones end with the machine, whose process 1 they are children of.
    assert_ne!(machine.ip("link show sw").code, 0);
}
