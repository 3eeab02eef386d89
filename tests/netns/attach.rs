//! Attachments that need kernel features which not every machine has.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::{Child, Command, Stdio};

use conlink::addr::IfName;
use conlink::attach::{self, Attachment, Done, Guest, How, Refusal, Wiring};
use conlink::device::{IpvlanMode, MacvlanMode, StackedKind, TunnelKind, TunnelOptions};
use conlink::kernel::{Kernel, netns};
use conlink::plan::{Look, Ns};

use crate::netns::ping;
use crate::support::{inside, ip, may_unshare, skip, succeeds};

/// A host and its guests, each a namespace without a name. What is attached is detached at the end.
struct Rig {
    what: &'static str,
    host: File,
    guests: Vec<(Guest, File)>,
    /// A namespace is found by the processes in it.
    processes: Vec<Child>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        for it in &mut self.processes {
            let _ = it.kill();
            let _ = it.wait();
        }
    }
}

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

impl Rig {
    fn new(what: &'static str, guests: usize) -> Option<Self> {
        if !may_unshare(what) {
            return None;
        }
        let own = || netns::anonymous().unwrap();
        let of = |number| Guest {
            kind: "test".to_owned(),
            name: format!("{what} {number} {}", std::process::id()),
        };
        let guests: Vec<(Guest, File)> = (0..guests).map(|it| (of(it), own())).collect();
        let sleep = || Command::new("sleep").arg("600").stdin(Stdio::null()).spawn();
        let processes = guests.iter().map(|(_, it)| netns::inside(it, sleep).unwrap()).collect();
        let rig = Self { what, host: own(), guests, processes };
        ip(&rig.host, "link set lo up");
        ip(&rig.host, "link add up0 type veth peer name up1");
        ip(&rig.host, "link set up1 up");
        Some(rig)
    }

    fn attachment(&self, guest: usize, dev: &str, wiring: Wiring) -> Attachment {
        Attachment {
            guest: self.guests[guest].0.clone(),
            dev: name(dev),
            wiring,
            mac: None,
            mtu: None,
            addrs: vec![format!("10.0.0.{}/24", guest + 1).parse().unwrap()],
            gateways: Vec::new(),
            routes: Vec::new(),
            netem: None,
        }
    }

    fn attach(&self, guest: usize, it: &Attachment, how: How) -> Result<Done, Refusal> {
        let netns = self.guests[guest].1.try_clone().unwrap();
        netns::inside(&self.host, || Ok(attach::attach(netns, it, how))).unwrap()
    }

    /// Attaches, and asks for the same again, which must change nothing. False, with a report, if the kernel lacks it.
    fn attached(&self, guest: usize, dev: &str, wiring: Wiring) -> bool {
        let it = self.attachment(guest, dev, wiring);
        match self.attach(guest, &it, How::Nothing) {
            Ok(done) => assert_eq!(done, Done::Made),
            Err(Refusal::Failed(failures)) if failures.iter().all(|it| it.is_unsupported) => {
                skip(self.what, &failures[0].to_string());
                return false;
            }
            Err(error) => panic!("{it:?}: {error:?}"),
        }
        assert_eq!(self.attach(guest, &it, How::Nothing).unwrap(), Done::Unchanged, "{it:?}");
        true
    }

    fn detach(&self, guest: usize, dev: &str) {
        let found = netns::inside(&self.host, || Ok(attach::find())).unwrap().unwrap();
        let is_it = |it: &&attach::Found| it.guest == self.guests[guest].0 && it.dev == name(dev);
        let found: Vec<_> = found.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        netns::inside(&self.host, || Ok(attach::detach(found[0]))).unwrap().unwrap();
    }

    /// The names of the host's interfaces.
    fn names(&self) -> Vec<String> {
        let links = ip(&self.host, "-o link");
        links.lines().map(|it| it.split(' ').nth(1).unwrap().to_owned()).collect()
    }

    fn has(&self, dev: &str) -> bool {
        succeeds(&self.host, "ip", &format!("link show {dev}"))
    }
}

#[test]
fn every_type_of_interface_is_made_and_leaves_nothing() {
    let Some(rig) = Rig::new("types of attached interfaces", 1) else { return };
    let before = rig.names();
    let parent = || name("up0");
    let stacked = |kind| Wiring::Stacked { parent: parent(), vlan: None, kind };
    let tunnel = TunnelOptions {
        kind: TunnelKind::Vxlan,
        vni: 42,
        remote: "192.0.2.1".parse().unwrap(),
        local: None,
        dstport: 4789,
        ttl: 0,
    };
    for (wiring, kind) in [
        (Wiring::Dummy, "dummy"),
        (stacked(StackedKind::Macvlan { mode: Some(MacvlanMode::Private) }), "macvlan"),
        (stacked(StackedKind::Ipvlan { mode: Some(IpvlanMode::L3), flag: None }), "ipvlan"),
        (stacked(StackedKind::Vlan { id: 7 }), "vlan"),
        (Wiring::Tunnel(tunnel), "vxlan"),
    ] {
        if !rig.attached(0, "eth1", wiring) {
            continue;
        }
        let details = ip(&rig.guests[0].1, "-d addr show dev eth1");
        assert!(details.contains(kind) && details.contains("10.0.0.1/24"), "{kind}: {details}");
        rig.detach(0, "eth1");
        assert_eq!(ip(&rig.guests[0].1, "-br link").lines().count(), 1);
    }
    assert_eq!(rig.names(), before);
}

#[test]
fn what_was_made_on_the_host_goes_with_its_last_user() {
    let Some(rig) = Rig::new("a VLAN under attached interfaces", 2) else { return };
    let kind = StackedKind::Macvlan { mode: Some(MacvlanMode::Bridge) };
    let wiring = || Wiring::Stacked { parent: name("up0"), vlan: Some(42), kind };
    if !rig.attached(0, "eth1", wiring()) {
        return;
    }
    assert!(rig.attached(1, "eth1", wiring()));
    assert!(ip(&rig.host, "-d link show up0.42").contains("vlan protocol 802.1Q id 42"));
    ping(&rig.guests[0].1, "10.0.0.2");
    rig.detach(0, "eth1");
    assert!(rig.has("up0.42"));
    rig.detach(1, "eth1");
    assert!(!rig.has("up0.42"));
    // One that a user made stays, and one that is another interface is not used.
    ip(&rig.host, "link add link up0 name up0.42 type vlan id 42");
    assert!(rig.attached(0, "eth1", wiring()));
    rig.detach(0, "eth1");
    assert!(rig.has("up0.42"));
    ip(&rig.host, "link del up0.42");
    ip(&rig.host, "link add link up0 name up0.42 type vlan id 43");
    let it = rig.attachment(0, "eth1", wiring());
    let error = rig.attach(0, &it, How::Nothing).unwrap_err().to_string();
    assert_eq!(error, "interface `up0.42` exists and is not VLAN 42 of `up0`");
}

#[test]
fn ports_of_different_vlans_do_not_hear_each_other() {
    let Some(rig) = Rig::new("VLANs of ports of a bridge", 3) else { return };
    let wiring = |vlan| Wiring::Bridge { bridge: name("br1"), vlan: Some(vlan), uplink: None, outer: None };
    if !rig.attached(0, "eth1", wiring(42)) {
        return;
    }
    assert!(rig.attached(1, "eth1", wiring(42)));
    assert!(rig.attached(2, "eth1", wiring(43)));
    let first = &rig.guests[0].1;
    ping(first, "10.0.0.2");
    assert!(!succeeds(first, "busybox", "ping -c1 -W2 10.0.0.3"));
    // The VLAN is a difference, and changes in place.
    let it = rig.attachment(2, "eth1", wiring(42));
    let Err(Refusal::Differs { differences, must_be_anew: false, .. }) = rig.attach(2, &it, How::Nothing)
    else {
        panic!("another VLAN is no difference");
    };
    assert!(differences.iter().any(|it| it.ends_with("port vlan 43 instead of 42")), "{differences:?}");
    assert_eq!(rig.attach(2, &it, How::InPlace).unwrap(), Done::Changed);
    ping(first, "10.0.0.3");
    for guest in 0..3 {
        rig.detach(guest, "eth1");
    }
    // A bridge that does not filter is the user's to change.
    ip(&rig.host, "link add br2 type bridge");
    let plain = Wiring::Bridge { bridge: name("br2"), vlan: Some(42), uplink: None, outer: None };
    let error = rig.attach(0, &rig.attachment(0, "eth1", plain), How::Nothing).unwrap_err().to_string();
    assert_eq!(error, "bridge `br2` does not filter VLANs");
}

#[test]
fn an_uplink_connects_the_bridge_to_the_outside() {
    let Some(rig) = Rig::new("the uplink of a bridge", 2) else { return };
    let uplink = |vlan| Some((name("up0"), vlan));
    let wiring = |vlan| Wiring::Bridge { bridge: name("br1"), vlan: None, uplink: uplink(vlan), outer: None };
    assert!(rig.attached(0, "eth1", wiring(None)));
    ip(&rig.host, "addr add 10.0.0.9/24 dev up1");
    assert!(ip(&rig.host, "link show up0").contains("master br1"));
    ping(&rig.guests[0].1, "10.0.0.9");
    rig.detach(0, "eth1");
    // A VLAN that was made for it goes with its last user.
    if rig.attached(1, "eth1", wiring(Some(63))) {
        assert!(ip(&rig.host, "link show up0.63").contains("master br1"));
        rig.detach(1, "eth1");
        assert!(!rig.has("up0.63"));
    }
}

#[test]
fn a_port_of_open_vswitch_has_its_tag_and_goes_when_detached() {
    let what = "an attached port of Open vSwitch";
    if conlink::kernel::ovs::check_installed().is_err() {
        return skip(what, "Open vSwitch is not installed");
    }
    // The datapath of the kernel is tested in `netns::switch`; the switch starts slowly in an emulated machine.
    if std::env::var_os("CONLINK_VM").is_some() {
        return;
    }
    let Some(rig) = Rig::new(what, 1) else { return };
    let ids = BTreeMap::from([("pipework.bridge".to_owned(), "ovsbr0".to_owned())]);
    let wiring =
        |vlan| Wiring::Ovs { bridge: name("ovsbr0"), vlan, outer: Some(name("port1")), ids: ids.clone() };
    if !rig.attached(0, "eth1", wiring(Some(10))) {
        return;
    }
    let folder = netns::inside(&rig.host, || Ok(attach::ovs_folder())).unwrap();
    let database = format!("--db=unix:{}/db.sock", folder.display());
    let vsctl = |line: &str| {
        let args: Vec<&str> = [database.as_str()].into_iter().chain(line.split(' ')).collect();
        inside(&rig.host, "ovs-vsctl", &args)
    };
    assert_eq!(vsctl("get Port port1 tag").trim(), "10");
    assert_eq!(vsctl("get Port port1 external_ids:pipework.bridge").trim(), "ovsbr0");
    assert!(ip(&rig.host, "link show ovsbr0").contains("UP"));
    let it = rig.attachment(0, "eth1", wiring(Some(11)));
    assert!(matches!(rig.attach(0, &it, How::Nothing), Err(Refusal::Differs { .. })));
    assert_eq!(rig.attach(0, &it, How::InPlace).unwrap(), Done::Changed);
    assert_eq!(vsctl("get Port port1 tag").trim(), "11");
    rig.detach(0, "eth1");
    assert_eq!(vsctl("list-ports ovsbr0").trim(), "");
    let mut kernel = Kernel::new(rig.host.try_clone().unwrap()).unwrap();
    kernel.set_ovs_folder(folder);
    let look = Look { ovs: true, ..Look::default() };
    kernel.observe(&[(Ns::Bridges, look)].into()).unwrap();
    kernel.stop_ovs().unwrap();
}
