//! Wires each example of the reference.

use std::collections::BTreeSet;

use conlink::kernel::netns;

use crate::netns::engine::Engine;
use crate::netns::network;
use crate::netns::properties::{has_kind, has_netem};
use crate::support::{ip, may_unshare, skip, succeeds};

const REFERENCE: &str = include_str!("../../docs/reference/network-configuration.md");

/// What an example needs that not every kernel has.
const NEEDS: [(&str, &str); 5] = [
    ("type: ipvlan", "ipvlan"),
    ("type: ipvtap", "ipvtap"),
    ("type: vlan", "vlan"),
    ("type: dummy", "dummy"),
    ("type: geneve", "geneve"),
];

fn kernel_has_what_it_needs(yaml: &str) -> bool {
    let kinds = NEEDS.iter().all(|(text, kind)| !yaml.contains(text) || has_kind(kind));
    let netem = !yaml.contains("netem") || has_netem("an example with netem");
    let filtering = !yaml.contains("vlan-filtering") || {
        let netns = netns::anonymous().unwrap();
        let has = succeeds(&netns, "ip", "link add x type bridge vlan_filtering 1");
        if !has {
            skip("an example with vlan-filtering", "the kernel's bridge has none");
        }
        has
    };
    kinds && netem && filtering
}

#[test]
fn every_example_of_the_reference_is_wired() {
    if !may_unshare("examples of the reference") {
        return;
    }
    let blocks = REFERENCE.split("```yaml\n").skip(1).map(|it| it.split("```").next().unwrap());
    let blocks: Vec<&str> = blocks.collect();
    assert!(blocks.len() >= 15, "{} examples", blocks.len());
    let mut seen = BTreeSet::new();
    for yaml in blocks {
        let described = network(yaml);
        seen.extend(yaml.split([' ', '{', ',']).filter_map(|it| it.strip_suffix(':')).map(str::to_owned));
        let services = described.links.iter().map(|it| it.sample.id.container.clone());
        let services: BTreeSet<String> = services.collect();
        let names: Vec<&str> = services.iter().map(String::as_str).collect();
        if !kernel_has_what_it_needs(yaml) {
            continue;
        }
        if yaml.contains("mode: ovs") && conlink::kernel::probe().is_none() {
            skip("the example with mode ovs", "openvswitch-switch is not installed");
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut engine = Engine::within(netns::anonymous().unwrap(), &names);
        engine.kernel.set_ovs_folder(folder.path().join("ovs-t"));
        let host = netns::anonymous().unwrap();
        ip(&host, "link add up0 type veth peer name up1");
        ip(&host, "link set up0 up");
        engine.kernel.set_host(Some(host));
        engine.wire(yaml);
        engine.wire("links: []");
        engine.kernel.stop_ovs().unwrap();
    }
    let keys = [
        "type",
        "service",
        "container",
        "bridge",
        "dev",
        "outer-dev",
        "ip",
        "mac",
        "mtu",
        "route",
        "nat",
        "netem",
        "netem-in",
        "mode",
        "vlanid",
        "forward",
        "ethtool",
        "stp",
        "vlan-filtering",
        "mcast-snooping",
        "group-fwd-mask",
        "ageing-time",
        "forward-delay",
        "remote",
        "vni",
        "dstport",
        "local",
        "ttl",
        "command",
    ];
    let missing: Vec<&&str> = keys.iter().filter(|it| !seen.contains(**it)).collect();
    assert!(missing.is_empty(), "no example has {missing:?}");
}
