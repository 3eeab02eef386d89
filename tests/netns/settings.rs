//! Settings that are no longer configured are reset to the kernel's defaults.

use conlink::ethtool::Feature;

use crate::netns::engine::Engine;
use crate::netns::json;
use crate::netns::properties::{has_kind, parent};
use crate::support::{inside, ip};

/// The features of `eth0` in the first container, as `ethtool` shows them.
fn features(engine: &Engine) -> Vec<String> {
    let shown = inside(engine.netns("a-1"), "ethtool", &["-k", "eth0"]);
    shown.lines().skip(1).map(|it| it.trim().to_owned()).collect()
}

fn mtu(engine: &Engine) -> u64 {
    json(engine.netns("a-1"), "link show eth0")[0]["mtu"].as_u64().unwrap()
}

#[test]
fn features_and_mtus_that_are_no_longer_configured_are_reset() {
    let parented = ["vlan", "macvlan", "ipvlan"].map(|it| (it, "base: conlink, outer-dev: p0"));
    for (kind, more) in [("veth", "bridge: s"), ("dummy", "")].into_iter().chain(parented) {
        if kind != "veth" && !has_kind(kind) {
            continue;
        }
        let Some(mut engine) = Engine::new("settings given no more", &["a-1"]) else { return };
        let _wire = parent(&engine);
        let more = if kind == "vlan" { format!("{more}, vlanid: 5") } else { more.to_owned() };
        let yaml = |settings: &str| {
            format!("links: [{{service: a, type: {kind}, ip: 10.0.0.1/24, {more}{settings}}}]")
                .replace(", ,", ",")
        };
        engine.wire(&yaml(""));
        let before = (features(&engine), mtu(&engine));
        let index = json(engine.netns("a-1"), "link show eth0")[0]["ifindex"].clone();
        let switched: Vec<String> = before
            .0
            .iter()
            .filter(|it| !it.contains('['))
            .filter_map(|it| it.split_once(": "))
            // One that stands for others, which depend on each other.
            .filter(|(name, _)| Feature::named(name).is_some() && *name != "scatter-gather")
            // What a parent does not do cannot be had on it.
            .filter(|(_, state)| *state == "on" || !more.contains("p0"))
            .filter(|(name, _)| !name.starts_with("tx-checksum") && !name.contains("segmentation"))
            .map(|(name, state)| format!("{name} {}", if state == "on" { "off" } else { "on" }))
            .collect();
        let ethtool = match switched.as_slice() {
            // On a parent some kernels let nothing be switched.
            [] if more.contains("p0") => String::new(),
            switched => format!(", ethtool: '-K {}'", switched.join(" ")),
        };
        engine.wire(&yaml(&format!(", mtu: 1300{ethtool}")));
        assert_eq!(mtu(&engine), 1300, "{kind}");
        for it in &switched {
            assert!(features(&engine).contains(&it.replacen(' ', ": ", 1)), "{kind}: {it} of {switched:?}");
        }
        engine.wire(&yaml(""));
        assert_eq!((features(&engine), mtu(&engine)), before, "{kind}: {switched:?}");
        assert_eq!(json(engine.netns("a-1"), "link show eth0")[0]["ifindex"], index, "{kind}");
        // What somebody else sets was never given.
        let Some((name, state)) = switched.first().and_then(|it| it.split_once(' ')) else { continue };
        inside(engine.netns("a-1"), "ethtool", &["-K", "eth0", name, state]);
        let changed = features(&engine);
        engine.wire(&yaml(""));
        assert_eq!(features(&engine), changed, "{kind}");
    }
}

#[test]
fn the_mtu_of_a_tunnel_that_is_no_longer_configured_is_reset() {
    for kind in ["vxlan", "geneve"] {
        if !has_kind(kind) {
            continue;
        }
        let Some(mut engine) = Engine::new("mtu of a tunnel", &["a-1"]) else { return };
        let _wire = parent(&engine);
        ip(&engine.bridges, "addr add 192.0.2.1/24 dev p0");
        let yaml = |mtu: &str| {
            format!(
                "links: [{{service: a, bridge: s}}]\n\
                 tunnels: [{{type: {kind}, bridge: s, remote: 192.0.2.2, vni: 7{mtu}}}]\n"
            )
        };
        let mtu = |engine: &Engine| json(&engine.bridges, &format!("link show {kind}-7"))[0]["mtu"].clone();
        engine.wire(&yaml(""));
        let before = mtu(&engine);
        engine.wire(&yaml(", mtu: 1280"));
        assert_eq!(mtu(&engine), 1280);
        engine.wire(&yaml(""));
        assert_eq!(mtu(&engine), before);
        // What somebody else sets was never given.
        ip(&engine.bridges, &format!("link set {kind}-7 mtu 1290"));
        engine.wire(&yaml(""));
        assert_eq!(mtu(&engine), 1290);
    }
}
