//! What a request means on this machine: the kind of the interface, what it is attached to, and the names.
//!
//! Everything here is a pure function of the request and of what exists.

use std::collections::{BTreeMap, BTreeSet};

use crate::addr::IfName;
use crate::attach::{by_mac, vlan_name};
use crate::device::StackedKind;
use crate::plan::{Interface, Kind};
use crate::tools::pipework::args::{Host, Request};
use crate::tools::pipework::refusal::Refusal;

/// What exists on the machine, in the namespace of the bridges.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    /// Those of [`names`]; all for a request by MAC address.
    pub(super) interfaces: BTreeMap<IfName, Interface>,
    /// Bridges of Open vSwitch.
    pub(super) ovs: BTreeSet<IfName>,
    /// Open vSwitch is installed or runs.
    pub(super) has_ovs: bool,
}

/// How a request is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The name of the interface in the guest.
    pub(super) dev: IfName,
    pub(super) wiring: Wiring,
}

/// The interface and what it is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wiring {
    /// A veth, with its outer end in a Linux bridge.
    Bridge {
        bridge: IfName,
        /// The bridge does not exist.
        create: bool,
        /// The port carries this VLAN, untagged.
        vlan: Option<u16>,
        /// What leads from the bridge to another network.
        uplink: Option<Parent>,
    },
    /// A veth, with its outer end in a bridge of Open vSwitch.
    Ovs { bridge: IfName, create: bool, tag: Option<u16> },
    /// A macvlan of mode bridge.
    Macvlan { parent: Parent },
    /// The host interface itself.
    Move { parent: Parent },
    /// Another interface on an IPoIB interface.
    Ipoib { parent: IfName, pkey: Option<u16> },
    /// An interface that leads nowhere.
    Dummy,
}

impl Wiring {
    /// Whether the interface in the guest is one end of a veth.
    pub(super) fn has_local_end(&self) -> bool {
        matches!(self, Self::Bridge { .. } | Self::Ovs { .. })
    }
}

/// An interface of the host, or a VLAN on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) dev: IfName,
    pub(super) vlan: Option<Vlan>,
}

/// A VLAN interface on a parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vlan {
    pub(super) name: IfName,
    pub(super) id: u16,
    /// It does not exist.
    pub(super) create: bool,
}

/// Interfaces that [`choose`] looks up. None: all of them.
pub(super) fn names(request: &Request) -> Option<BTreeSet<IfName>> {
    let (bridge, parent) = match &request.host {
        Host::Mac { .. } => return None,
        Host::Name(name) => (None, name.parse().ok()),
        Host::Uplink { bridge, parent } => (Some(bridge.clone()), Some(parent.clone())),
    };
    let vlan = parent.as_ref().and_then(|it| Some(vlan_name(it, vlan_id(request).ok()??)));
    Some([bridge, parent, vlan].into_iter().flatten().collect())
}

/// Decides how a request is carried out.
pub(super) fn choose(request: &Request, machine: &Machine) -> Result<Plan, Refusal> {
    let wiring = wiring(request, machine)?;
    let default = if matches!(wiring, Wiring::Ipoib { .. }) { "ib0" } else { "eth1" };
    let dev = request.dev.clone().map_or_else(|| default.parse().map_err(Refusal::new), Ok)?;
    Ok(Plan { dev, wiring })
}

fn wiring(request: &Request, machine: &Machine) -> Result<Wiring, Refusal> {
    let (word, found) = match &request.host {
        Host::Uplink { bridge, parent } => return uplink(request, machine, bridge, parent),
        Host::Mac { text, mac } => {
            let found = mac.and_then(|it| by_mac(it, &machine.interfaces));
            let found = found.ok_or_else(|| {
                Refusal::known(format!(
                    "Mac address {text} specified for interface but no host interface matched."
                ))
            })?;
            (found.0.as_str(), Some(found))
        }
        Host::Name(word) => {
            (word.as_str(), word.parse().ok().and_then(|it: IfName| machine.interfaces.get_key_value(&it)))
        }
    };
    let Some((name, interface)) = found else { return missing(request, machine, word) };
    let name = name.clone();
    match &interface.kind {
        Kind::Bridge(_) => {
            Ok(Wiring::Bridge { bridge: name, create: false, vlan: vlan_id(request)?, uplink: None })
        }
        _ if machine.ovs.contains(&name) => {
            Ok(Wiring::Ovs { bridge: name, create: false, tag: vlan_id(request)? })
        }
        Kind::Stacked(StackedKind::Ipoib { .. }) => {
            if request.has_mac() {
                return Err(Refusal::known("MACADDR configuration unsupported for IPoIB interfaces."));
            }
            Ok(Wiring::Ipoib { parent: name, pkey: pkey(request)? })
        }
        _ => {
            let parent = parent(&name, vlan_id(request)?, &machine.interfaces)?;
            Ok(if request.direct_phys { Wiring::Move { parent } } else { Wiring::Macvlan { parent } })
        }
    }
}

/// Without an interface of that name, its first letters say what to make.
fn missing(request: &Request, machine: &Machine, word: &str) -> Result<Wiring, Refusal> {
    let name = || {
        let name = word.parse::<IfName>().and_then(IfName::to_make);
        name.map_err(|it| Refusal::new(format!("`{word}`: {it}")))
    };
    if word.starts_with("br") {
        return Ok(Wiring::Bridge { bridge: name()?, create: true, vlan: vlan_id(request)?, uplink: None });
    }
    if word.starts_with("ovs") {
        if !machine.has_ovs {
            return Err(Refusal::known("Need OVS installed on the system to create an ovs bridge"));
        }
        return Ok(Wiring::Ovs { bridge: name()?, create: true, tag: vlan_id(request)? });
    }
    if word.starts_with("dummy") {
        return match &request.tag {
            Some(tag) => Err(Refusal::new(format!("`@{tag}`: a dummy interface cannot have a VLAN"))),
            None => Ok(Wiring::Dummy),
        };
    }
    Err(unknown(word))
}

fn unknown(word: &str) -> Refusal {
    Refusal::known(format!("I do not know how to setup interface {word}."))
}

/// `BRIDGE@PARENT`: the parent, or the VLAN on it, is a port of the bridge. The port of the guest is untagged.
fn uplink(request: &Request, machine: &Machine, bridge: &IfName, dev: &IfName) -> Result<Wiring, Refusal> {
    let create = match machine.interfaces.get(bridge).map(|it| &it.kind) {
        Some(Kind::Bridge(_)) => false,
        Some(_) => return Err(Refusal::new(format!("`{bridge}` is not a Linux bridge"))),
        None if bridge.as_str().starts_with("br") => true,
        None => return Err(unknown(bridge.as_str())),
    };
    if !machine.interfaces.contains_key(dev) {
        return Err(unknown(dev.as_str()));
    }
    let uplink = Some(parent(dev, vlan_id(request)?, &machine.interfaces)?);
    Ok(Wiring::Bridge { bridge: bridge.clone(), create, vlan: None, uplink })
}

fn parent(
    dev: &IfName,
    vlan: Option<u16>,
    interfaces: &BTreeMap<IfName, Interface>,
) -> Result<Parent, Refusal> {
    let Some(id) = vlan else { return Ok(Parent { dev: dev.clone(), vlan: None }) };
    let name = vlan_name(dev, id);
    let found = interfaces.get(&name);
    let is_it = |it: &Interface| {
        it.kind == Kind::Stacked(StackedKind::Vlan { id })
            && it.link == interfaces.get(dev).map(|it| it.index)
    };
    if found.is_some_and(|it| !is_it(it)) {
        return Err(Refusal::known(format!("{name} already exists but is not a VLAN device for tag {id}")));
    }
    Ok(Parent { dev: dev.clone(), vlan: Some(Vlan { name, id, create: found.is_none() }) })
}

fn vlan_id(request: &Request) -> Result<Option<u16>, Refusal> {
    let Some(tag) = &request.tag else { return Ok(None) };
    let id = tag.parse().ok().filter(|it| (1..=4094).contains(it));
    id.map(Some).ok_or_else(|| Refusal::new(format!("`@{tag}`: expected a VLAN from 1 to 4094")))
}

/// The partition key, in hexadecimal digits.
fn pkey(request: &Request) -> Result<Option<u16>, Refusal> {
    let Some(tag) = &request.tag else { return Ok(None) };
    let digits = tag.strip_prefix("0x").unwrap_or(tag);
    let key = u16::from_str_radix(digits, 16).ok().filter(|it| *it & 0x7fff != 0);
    key.map(Some).ok_or_else(|| {
        Refusal::new(format!("`@{tag}`: expected a partition key of InfiniBand, such as `8001`"))
    })
}

/// The name of the outer end: that of `-l`, else `vDEVplNUMBER`, or a hash if that is too long. The number is the
/// process of the guest, or that of its namespace if it has none.
pub(super) fn local_name(request: &Request, dev: &IfName, number: u64) -> IfName {
    let long = |_| IfName::hashed("vp", &[dev.as_str(), &number.to_string()]);
    let default = || format!("v{dev}pl{number}").parse().unwrap_or_else(long);
    request.local.clone().unwrap_or_else(default)
}

/// What pipework notes at a port of Open vSwitch. A guest that is not a container has no id and no name.
pub(super) fn external_ids(
    (bridge, tag): (&IfName, Option<u16>),
    local: &IfName,
    container: Option<(Option<&str>, &str)>,
    pid: Option<u32>,
) -> Vec<(&'static str, String)> {
    let (id, name) = container.unzip();
    let id = id.flatten();
    [
        ("pipework.interface", Some(local.to_string())),
        ("pipework.bridge", Some(bridge.to_string())),
        ("pipework.containerid", id.map(str::to_owned)),
        // As Docker reports it: with a slash.
        ("pipework.containername", name.map(|it| format!("/{}", it.trim_start_matches('/')))),
        ("pipework.nspid", pid.map(|it| it.to_string())),
        ("pipework.vlan", tag.map(|it| it.to_string())),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::device::BridgeOptions;
    use crate::tools::pipework::args::{self, Call};

    fn request(line: &str) -> Request {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        match args::parse(&words) {
            Ok(Call::Attach(it)) => *it,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn name(text: &str) -> IfName {
        text.parse().unwrap()
    }

    fn other(kind: &str) -> Kind {
        Kind::Other(kind.to_owned())
    }

    /// A machine with interfaces, numbered from 1.
    fn machine(interfaces: &[(&str, Kind)]) -> Machine {
        let numbered = (1..).zip(interfaces);
        let made = numbered.map(|(index, (name, kind))| {
            (self::name(name), Interface { up: true, ..Interface::new(index, kind.clone()) })
        });
        Machine { interfaces: made.collect(), ovs: BTreeSet::new(), has_ovs: true }
    }

    fn some_machine() -> Machine {
        let mut machine = machine(&[
            ("br1", Kind::Bridge(BridgeOptions::default())),
            ("ovsbr0", other("openvswitch")),
            ("ib0", Kind::Stacked(StackedKind::Ipoib { pkey: None })),
            ("eth9", other("")),
            ("dummy0", Kind::Dummy),
            ("lan", Kind::Bridge(BridgeOptions::default())),
        ]);
        machine.ovs.insert(name("ovsbr0"));
        machine
    }

    fn chosen(line: &str) -> Plan {
        choose(&request(line), &some_machine()).unwrap_or_else(|it| panic!("{line}: {}", it.shown()))
    }

    fn refused(line: &str, machine: &Machine) -> String {
        choose(&request(line), machine).expect_err(line).shown()
    }

    fn plain(dev: &str) -> Parent {
        Parent { dev: name(dev), vlan: None }
    }

    fn tagged(dev: &str, id: u16, vlan: &str, create: bool) -> Parent {
        Parent { dev: name(dev), vlan: Some(Vlan { name: name(vlan), id, create }) }
    }

    fn bridge(bridge: &str, create: bool, vlan: Option<u16>, uplink: Option<Parent>) -> Wiring {
        Wiring::Bridge { bridge: name(bridge), create, vlan, uplink }
    }

    #[test]
    fn the_kind_of_the_host_interface_decides() {
        for (line, wiring) in [
            ("br1 c 10.0.0.1/24", bridge("br1", false, None, None)),
            ("lan c 10.0.0.1/24", bridge("lan", false, None, None)),
            ("br1 c 10.0.0.1/24 @10", bridge("br1", false, Some(10), None)),
            // A bridge is a bridge with `--direct-phys` too.
            ("--direct-phys br1 c 10.0.0.1/24", bridge("br1", false, None, None)),
            (
                "ovsbr0 c 10.0.0.1/24 @10",
                Wiring::Ovs { bridge: name("ovsbr0"), create: false, tag: Some(10) },
            ),
            ("eth9 c 10.0.0.1/24", Wiring::Macvlan { parent: plain("eth9") }),
            ("eth9 c 10.0.0.1/24 @42", Wiring::Macvlan { parent: tagged("eth9", 42, "eth9.42", true) }),
            ("--direct-phys eth9 c 10.0.0.1/24", Wiring::Move { parent: plain("eth9") }),
            (
                "--direct-phys eth9 c 10.0.0.1/24 @42",
                Wiring::Move { parent: tagged("eth9", 42, "eth9.42", true) },
            ),
            // It exists, so it is no order for a dummy.
            ("dummy0 c 10.0.0.1/24", Wiring::Macvlan { parent: plain("dummy0") }),
            ("ib0 c 10.0.0.1/24", Wiring::Ipoib { parent: name("ib0"), pkey: None }),
            ("ib0 c 10.0.0.1/24 @8001", Wiring::Ipoib { parent: name("ib0"), pkey: Some(0x8001) }),
        ] {
            assert_eq!(chosen(line).wiring, wiring, "{line}");
        }
    }

    #[test]
    fn the_first_letters_of_a_missing_interface_decide() {
        for (line, wiring) in [
            ("br7 c 10.0.0.1/24", bridge("br7", true, None, None)),
            ("br7 c 10.0.0.1/24 @10", bridge("br7", true, Some(10), None)),
            ("ovs1 c 10.0.0.1/24", Wiring::Ovs { bridge: name("ovs1"), create: true, tag: None }),
            ("dummy c 10.0.0.1/24", Wiring::Dummy),
            ("dummy-of-any-length c 10.0.0.1/24", Wiring::Dummy),
        ] {
            assert_eq!(chosen(line).wiring, wiring, "{line}");
        }
        let none = Machine::default();
        for (word, expected) in [
            ("wibble0", "err: I do not know how to setup interface wibble0."),
            // Q17: no other word is a command because of its first letters.
            ("tcfoo", "err: I do not know how to setup interface tcfoo."),
            ("routex", "err: I do not know how to setup interface routex."),
            ("ruleset", "err: I do not know how to setup interface ruleset."),
            (
                "an-interface-with-a-long-name",
                "err: I do not know how to setup interface an-interface-with-a-long-name.",
            ),
            ("ovs1", "err: Need OVS installed on the system to create an ovs bridge"),
            (
                "br-with-a-long-name",
                "err: error: `br-with-a-long-name`: an interface name is at most 15 bytes, this has 19",
            ),
        ] {
            assert_eq!(refused(&format!("{word} c 10.0.0.1/24"), &none), expected);
        }
    }

    #[test]
    fn the_interface_of_a_guest_is_eth1_or_ib0() {
        assert_eq!(chosen("br1 c 10.0.0.1/24").dev, name("eth1"));
        assert_eq!(chosen("dummy c 10.0.0.1/24").dev, name("eth1"));
        assert_eq!(chosen("ib0 c 10.0.0.1/24").dev, name("ib0"));
        assert_eq!(chosen("ib0 -i ib7 c 10.0.0.1/24").dev, name("ib7"));
    }

    #[test]
    fn a_mac_address_finds_the_interface_that_others_are_made_of() {
        let mac: crate::addr::Mac = "5e:9d:1e:eb:56:a0".parse().unwrap();
        let with_mac = |kinds: &[(&str, Kind)]| {
            let mut machine = machine(kinds);
            machine.interfaces.values_mut().for_each(|it| it.mac = Some(mac));
            machine
        };
        let found = |machine: &Machine| {
            choose(&request("mac:5E:9D:1E:EB:56:A0 c 10.0.0.1/24"), machine).unwrap().wiring
        };
        let bridge_kind = || Kind::Bridge(BridgeOptions::default());
        let vlan = || Kind::Stacked(StackedKind::Vlan { id: 7 });
        // Q8: pipework takes the first by name, and only lower case.
        let machine = with_mac(&[("br0", bridge_kind()), ("eth0", other("")), ("aa", vlan())]);
        assert_eq!(found(&machine), Wiring::Macvlan { parent: plain("eth0") });
        let bonded = with_mac(&[("eth0", other("")), ("eth1", other("")), ("zbond", other("bond"))]);
        assert_eq!(found(&bonded), Wiring::Macvlan { parent: plain("zbond") });
        assert_eq!(found(&with_mac(&[("lan", bridge_kind())])), bridge("lan", false, None, None));
        for text in ["BE:6F:D2:98:96:97", "frob"] {
            assert_eq!(
                refused(&format!("mac:{text} c 10.0.0.1/24"), &machine),
                format!("err: Mac address {text} specified for interface but no host interface matched.")
            );
        }
    }

    #[test]
    fn an_existing_vlan_interface_is_used_if_it_is_the_wanted_one() {
        let line = "eth9 c 10.0.0.1/24 @42";
        let with = |name: &str, id: u16, link: u32| {
            let mut machine =
                machine(&[("eth9", other("")), (name, Kind::Stacked(StackedKind::Vlan { id }))]);
            machine.interfaces.get_mut(&self::name(name)).unwrap().link = Some(link);
            machine
        };
        let chosen = choose(&request(line), &with("eth9.42", 42, 1)).unwrap();
        assert_eq!(chosen.wiring, Wiring::Macvlan { parent: tagged("eth9", 42, "eth9.42", false) });
        // Q9: another VLAN, or on another interface.
        for (id, link) in [(43, 1), (42, 7)] {
            assert_eq!(
                refused(line, &with("eth9.42", id, link)),
                "err: eth9.42 already exists but is not a VLAN device for tag 42"
            );
        }
        // Q5: the name would be too long.
        let long = machine(&[("longifname0123", other(""))]);
        let chosen = choose(&request("longifname0123 c 10.2.0.4/24 @4000"), &long).unwrap();
        let Wiring::Macvlan { parent: Parent { vlan: Some(vlan), .. } } = chosen.wiring else {
            panic!("{chosen:?}")
        };
        assert_eq!(vlan.name, IfName::hashed("vl", &["longifname0123", "4000"]));
    }

    #[test]
    fn a_tag_is_a_vlan_or_a_partition_key() {
        let machine = some_machine();
        for (line, expected) in [
            ("br1 c 10.0.0.1/24 @4095", "err: error: `@4095`: expected a VLAN from 1 to 4094"),
            ("eth9 c 10.0.0.1/24 U:user@host", "err: error: `@host`: expected a VLAN from 1 to 4094"),
            (
                "ib0 c 10.0.0.1/24 @0",
                "err: error: `@0`: expected a partition key of InfiniBand, such as `8001`",
            ),
            ("dummy c 10.0.0.1/24 @5", "err: error: `@5`: a dummy interface cannot have a VLAN"),
            (
                "ib0 c 10.0.0.1/24 02:00:00:00:00:01",
                "err: MACADDR configuration unsupported for IPoIB interfaces.",
            ),
        ] {
            assert_eq!(refused(line, &machine), expected);
        }
    }

    #[test]
    fn an_uplink_is_the_parent_or_a_vlan_on_it() {
        for (line, wiring) in [
            (
                "br63@eth9 c 10.0.0.1/24 @63",
                bridge("br63", true, None, Some(tagged("eth9", 63, "eth9.63", true))),
            ),
            ("br1@eth9 c 10.0.0.1/24", bridge("br1", false, None, Some(plain("eth9")))),
        ] {
            assert_eq!(chosen(line).wiring, wiring, "{line}");
        }
        let machine = some_machine();
        for (line, expected) in [
            ("br1@eth8 c 10.0.0.1/24", "err: I do not know how to setup interface eth8."),
            ("lan2@eth9 c 10.0.0.1/24", "err: I do not know how to setup interface lan2."),
            ("dummy0@eth9 c 10.0.0.1/24", "err: error: `dummy0` is not a Linux bridge"),
        ] {
            assert_eq!(refused(line, &machine), expected);
        }
    }

    #[test]
    fn all_that_is_looked_up_is_asked_for() {
        let asked = |line: &str| {
            let names = names(&request(line))?;
            Some(names.iter().map(IfName::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(asked("eth9 c 10.0.0.1/24").unwrap(), "eth9");
        assert_eq!(asked("eth9 c 10.0.0.1/24 @42").unwrap(), "eth9 eth9.42");
        assert_eq!(asked("br63@bond0 c 10.0.0.1/24 @63").unwrap(), "bond0 bond0.63 br63");
        assert_eq!(asked("dummy-of-any-length c 10.0.0.1/24").unwrap(), "");
        assert_eq!(asked("mac:02:00:00:00:00:01 c 10.0.0.1/24"), None);
    }

    #[test]
    fn outer_names_are_those_of_pipework_unless_they_are_too_long() {
        let local = |line: &str, number| {
            let request = request(line);
            let dev = request.dev.clone().unwrap_or(name("eth1"));
            local_name(&request, &dev, number).to_string()
        };
        assert_eq!(local("br1 c 10.0.0.1/24", 27740), "veth1pl27740");
        assert_eq!(local("br1 -i eth2 c 10.0.0.1/24", 20158), "veth2pl20158");
        assert_eq!(local("br1 -l hostapp1 c 10.0.0.1/24", 27740), "hostapp1");
        // Q5.
        let long = local("br1 -i abcdefghijk c 10.0.0.1/24", 24199);
        assert!(long.starts_with("vp") && long.len() <= IfName::MAX, "{long}");
        assert_eq!(local("br1 -i abcdefghijk c 10.0.0.1/24", 24199), long);
        assert_ne!(local("br1 -i abcdefghijk c 10.0.0.1/24", 24198), long);
        assert_ne!(local("br1 -i abcdefghijl c 10.0.0.1/24", 24199), long);
    }

    #[test]
    fn a_port_of_open_vswitch_has_the_recorded_notes() {
        let id = "87428fc522803d31065e7bce3cf03fe475096631e5e07bbd7a0fde60c4cf25c7";
        let (bridge, local) = (name("ovsbr0"), name("veth1pl235"));
        let ids = external_ids((&bridge, Some(10)), &local, Some((Some(id), "a")), Some(235));
        let expected = [
            ("pipework.interface", "veth1pl235"),
            ("pipework.bridge", "ovsbr0"),
            ("pipework.containerid", id),
            ("pipework.containername", "/a"),
            ("pipework.nspid", "235"),
            ("pipework.vlan", "10"),
        ];
        assert_eq!(ids, expected.map(|(key, value)| (key, value.to_owned())));
        assert_eq!(external_ids((&bridge, None), &local, None, None).len(), 2);
    }
}
