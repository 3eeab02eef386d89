//! `conlink attach --dhcp` with the real clients, each against a server in a world of its own.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use walkdir::WalkDir;

use crate::lab::world::{Machine, World};
use crate::support::{Run, skip};

const CLIENTS: [&str; 3] = ["udhcpc", "dhclient", "dhcpcd"];

/// Folders that clients write to.
const FOLDERS: [&str; 6] =
    ["/var/lib/dhcp", "/var/lib/dhcpcd", "/etc/dhcp", "/etc/dhclient", "/etc/udhcpc", "/etc/dhcpcd.conf"];

/// A bridge with a DHCP server, and a guest with a host name of its own.
struct Net {
    world: World,
    guest: Child,
    server: Option<Child>,
}

/// What a client of the machine could change.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    resolv_conf: (String, u64, i64, i64),
    others: BTreeSet<(String, i64)>,
}

impl Net {
    /// None, with a report, if a program is missing.
    fn new(what: &str, programs: &[&str]) -> Option<Self> {
        let world = World::new(what)?;
        for program in programs {
            let mut probe = Command::new("which");
            probe.arg(program);
            if world.run(probe).code != 0 {
                skip(what, &format!("{program} is not installed"));
                return None;
            }
        }
        // The machine's own file is not at risk.
        world.write("resolv.conf", "nameserver 192.0.2.53\n");
        world.sh("mount --bind resolv.conf /etc/resolv.conf");
        world.sh("ip link add br1 type bridge && ip addr add 10.77.0.1/24 dev br1 && ip link set br1 up");
        let mut guest = Command::new("unshare");
        guest.args(["--net", "--uts", "sh", "-c", "hostname box && exec sleep 1000"]);
        let guest = world.start(guest);
        let net = Self { world, guest, server: None };
        net.until(|| (!net.world.sh("pgrep -x sleep || true").is_empty()).then_some(()));
        Some(net)
    }

    fn serve(&mut self, options: &[&str]) {
        let mut server = Command::new("dnsmasq");
        server.args([
            "-k",
            "-C",
            "/dev/null",
            "--port=0",
            "--interface=br1",
            "--bind-interfaces",
            "--no-ping",
        ]);
        server.args([
            "--user=root",
            "--dhcp-authoritative",
            "--dhcp-range=10.77.0.50,10.77.0.99,255.255.255.0,2m",
        ]);
        server.arg(format!("--dhcp-leasefile={}", self.world.path("leases").display()));
        server.arg(format!("--pid-file={}", self.world.path("server.pid").display()));
        self.server = Some(self.world.start({
            server.args(options);
            server
        }));
        self.until(|| self.world.path("server.pid").exists().then_some(()));
    }

    fn guest(&self) -> String {
        format!("pid:{}", self.world.sh("pgrep -x sleep").trim())
    }

    fn conlink(&self, line: &str) -> Run {
        let guest = self.guest();
        let words: Vec<&str> =
            line.split_whitespace().map(|it| if it == "GUEST" { guest.as_str() } else { it }).collect();
        self.world.run(self.world.conlink(&words))
    }

    /// Runs a command in the guest's network.
    fn inside(&self, line: &str) -> String {
        self.world.sh(&format!("nsenter -n -t $(pgrep -x sleep) {line}"))
    }

    fn leases(&self) -> String {
        fs::read_to_string(self.world.path("leases")).unwrap_or_default()
    }

    fn files(&self) -> Files {
        let file = fs::metadata(self.world.path("resolv.conf")).unwrap();
        let text = fs::read_to_string(self.world.path("resolv.conf")).unwrap();
        let all = FOLDERS.iter().flat_map(|it| WalkDir::new(self.world.outside(it))).flatten();
        let others = all.map(|it| {
            let time = it.metadata().map_or(0, |it| it.mtime_nsec());
            (it.path().display().to_string(), time)
        });
        Files { resolv_conf: (text, file.ino(), file.mtime(), file.mtime_nsec()), others: others.collect() }
    }

    /// An attachment has been made and removed, so what all of them leave is there.
    fn settled(&self) -> Machine {
        assert_eq!(self.conlink("attach GUEST --bridge br1").code, 0);
        assert_eq!(self.conlink("detach GUEST").code, 0);
        // The bridge takes a moment to notice that it has no port.
        self.until(|| self.world.sh("ip -o link show br1").contains("state DOWN").then_some(()));
        self.world.machine()
    }

    #[track_caller]
    fn until<T>(&self, mut found: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(15);
        loop {
            if let Some(it) = found() {
                return it;
            }
            assert!(Instant::now() < end, "too late: {:?}", self.world.machine());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for it in self.server.iter_mut().chain([&mut self.guest]) {
            let _ = it.kill();
            let _ = it.wait();
        }
    }
}

#[test]
fn each_client_gets_an_address_and_a_default_route_and_changes_nothing_else() {
    for client in CLIENTS {
        let Some(mut net) = Net::new("DHCP", &[client, "dnsmasq"]) else { continue };
        net.serve(&[]);
        let (machine, files) = (net.settled(), net.files());
        let run = net.conlink(&format!("attach GUEST --bridge br1 --dhcp={client} --json"));
        assert_eq!(run.code, 0, "{client}: {run:?}");
        let told: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        let addr = told["addresses"][0].as_str().unwrap();
        assert!(addr.starts_with("10.77.0.") && addr.ends_with("/24"), "{client}: {addr}");
        assert!(net.inside("ip -o -4 addr show dev eth1").contains(addr), "{client}");
        assert_eq!(
            net.inside("ip route show default").trim(),
            "default via 10.77.0.1 dev eth1 proto dhcp",
            "{client}"
        );
        net.inside("ping -c 1 -W 2 10.77.0.1");
        let bare = addr.strip_suffix("/24").unwrap();
        assert!(net.leases().contains(&format!(" {bare} box ")), "{client}: {}", net.leases());
        assert_eq!(net.files(), files, "{client}");
        assert_eq!(net.conlink("attachments --json").stdout.matches(addr).count(), 1, "{client}");
        // The same request again keeps the address.
        let run = net.conlink(&format!("attach GUEST --bridge br1 --dhcp={client}"));
        assert_eq!((run.code, run.stdout.contains("unchanged")), (0, true), "{client}: {run:?}");
        assert_eq!(net.inside("ip -o -4 addr show dev eth1").lines().count(), 1, "{client}");
        assert_eq!(net.conlink("detach GUEST").code, 0);
        net.world.expect(&machine);
        assert_eq!(net.files(), files, "{client}");
    }
}

#[test]
fn classless_routes_are_set_and_an_earlier_default_route_counts_again_at_the_end() {
    for client in CLIENTS {
        let Some(mut net) = Net::new("DHCP", &[client, "dnsmasq"]) else { continue };
        net.serve(&["--dhcp-option=121,0.0.0.0/0,10.77.0.7,192.0.2.0/24,10.77.0.8"]);
        assert_eq!(net.conlink("attach GUEST -d eth0 --bridge br1 --ip 10.66.0.2/24 --gw 10.66.0.1").code, 0);
        let before = net.inside("ip route");
        let run = net.conlink(&format!("attach GUEST --bridge br1 --dhcp={client}"));
        assert_eq!(run.code, 0, "{client}: {run:?}");
        assert!(net.inside("ip route get 8.8.8.8").contains("via 10.77.0.7 dev eth1"), "{client}");
        assert!(net.inside("ip route get 192.0.2.1").contains("via 10.77.0.8 dev eth1"), "{client}");
        assert_eq!(net.conlink("detach GUEST").code, 0);
        assert_eq!(net.inside("ip route"), before, "{client}");
    }
}

#[test]
fn without_a_server_each_client_ends_in_time_and_the_interface_is_removed() {
    for client in CLIENTS {
        let Some(net) = Net::new("DHCP", &[client]) else { continue };
        let (machine, files) = (net.settled(), net.files());
        let begun = Instant::now();
        let run = net.conlink(&format!("attach GUEST --bridge br1 --dhcp={client}"));
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{client}: {run:?}");
        assert!(run.stderr.starts_with("error: no DHCP lease for `eth1`"), "{client}: {run:?}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{client}: {:?}", begun.elapsed());
        net.world.expect(&machine);
        assert_eq!(net.files(), files, "{client}");
    }
}

#[test]
fn a_client_that_is_kept_renews_the_lease_and_ends_with_the_interface() {
    for client in ["udhcpc", "dhclient"] {
        let Some(mut net) = Net::new("DHCP", &[client, "dnsmasq"]) else { continue };
        net.serve(&[]);
        let (machine, files) = (net.settled(), net.files());
        let line = format!("attach GUEST --bridge br1 --dhcp={client} --dhcp-renew");
        assert_eq!(net.conlink(&line).code, 0, "{client}");
        let pid = net.guest().replace("pid:", "");
        let pid_file = net.world.outside(&format!("/run/{client}.{pid}.pid"));
        let client_pid = net.until(|| fs::read_to_string(&pid_file).ok().filter(|it| !it.is_empty()));
        let addr = net.inside("ip -o -4 addr show dev eth1");
        // Another call finds it running.
        let run = net.conlink(&line);
        assert!(run.code == 0 && run.stdout.starts_with("unchanged"), "{client}: {run:?}");
        assert_eq!(fs::read_to_string(&pid_file).unwrap(), client_pid, "{client}");
        if client == "udhcpc" {
            net.inside("ip route del default");
            net.world.sh(&format!("kill -USR1 {client_pid}"));
            net.until(|| net.inside("ip route").contains("default via 10.77.0.1").then_some(()));
        }
        assert_eq!(net.inside("ip -o -4 addr show dev eth1"), addr, "{client}");
        assert_eq!(net.conlink("detach GUEST").code, 0);
        net.world.expect(&machine);
        assert_eq!(net.files(), files, "{client}");
    }
}

#[test]
fn a_client_that_is_kept_ends_with_its_guest() {
    let Some(mut net) = Net::new("DHCP", &["udhcpc", "dnsmasq"]) else { return };
    net.serve(&[]);
    net.settled();
    assert_eq!(net.conlink("attach GUEST --bridge br1 --dhcp=udhcpc --dhcp-renew").code, 0);
    net.world.sh("pgrep -x udhcpc");
    net.world.sh("kill -9 $(pgrep -x sleep)");
    net.until(|| net.world.sh("pgrep -x udhcpc || true").is_empty().then_some(()));
    net.until(|| (!net.world.outside("/run/conlink/attach/dhcp").exists()).then_some(()));
    // Nothing holds the namespace, so the kernel removes the veth.
    net.until(|| (!net.world.sh("ip -o link show master br1").contains("veth")).then_some(()));
}

#[test]
fn dhcp_and_addresses_exclude_each_other() {
    let Some(world) = World::new("DHCP") else { return };
    for (line, code) in [
        ("attach pid:1 --bridge br1 --dhcp --ip 10.0.0.2/24", 2),
        ("attach pid:1 --bridge br1 --dhcp --gw 10.0.0.1", 2),
        ("attach pid:1 --bridge br1 --dhcp-renew", 2),
        ("attach pid:1 --bridge br1 --dhcp=nonsense", 2),
        ("conlink-dhcp bound", 1),
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let run = world.run(world.conlink(&words));
        assert_eq!(run.code, code, "{line}: {run:?}");
    }
}
