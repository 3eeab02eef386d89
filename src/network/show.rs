//! `--show-config`: the resolved configuration as JSON, in the reference tool's shape.

use serde_json::{Map, Value, json};

use crate::config::merge_text;
use crate::device::BridgeOptions;
use crate::network::{Bridge, LinkKind, LinkRule, Network, Target};

impl Network {
    /// The whole network as one JSON object.
    pub fn show(&self) -> Value {
        let shown = self.bridges.iter().filter(|(_, it)| it.shown);
        let bridges: Map<String, Value> = shown.map(|(name, it)| (name.clone(), bridge(it))).collect();
        let (mut containers, mut services) = (Map::new(), Map::new());
        let mut add = |target: &Target, key: &str, value: Value| {
            let (all, name) = match target {
                Target::Service(name) => (&mut services, name),
                Target::Container(name) => (&mut containers, name),
            };
            let entry = all.entry(name.clone()).or_insert_with(|| json!({}));
            match entry.get_mut(key).and_then(Value::as_array_mut) {
                Some(list) => list.push(value),
                None => entry[key] = json!([value]),
            }
        };
        for rule in &self.links {
            add(&rule.target, "links", self.show_link(rule));
        }
        for rule in &self.commands {
            add(&rule.target, "commands", rule.config.node.to_json());
        }
        let tunnels: Vec<Value> = self
            .tunnels
            .iter()
            .map(|it| {
                let mut tunnel = it.config.to_json();
                tunnel["vni"] = json!(it.vni);
                for (key, number) in
                    [("mtu", it.mtu), ("dstport", it.dstport.map(u32::from)), ("ttl", it.ttl.map(u32::from))]
                {
                    if let Some(number) = number {
                        tunnel[key] = json!(number);
                    }
                }
                tunnel
            })
            .collect();
        json!({
            "bridges": bridges,
            "tunnels": if self.tunnels_given { json!(tunnels) } else { Value::Null },
            "containers": containers,
            "services": services,
        })
    }

    fn show_link(&self, rule: &LinkRule) -> Value {
        let (config, link) = (&rule.config, &rule.sample);
        let mut shown = config.node.to_json();
        shown["dev"] = json!(link.id.dev.as_str());
        let base = match &link.kind {
            LinkKind::Veth { .. } => "conlink",
            LinkKind::Dummy => "local",
            LinkKind::Stacked(_) | LinkKind::Moved(_) | LinkKind::Tunnel { .. } => "host",
        };
        shown["type"] = json!(link.kind.name());
        shown["base"] = config.base.as_ref().map_or(json!(base), |it| json!(it.value.to_string()));
        if let Some(bridge) = config.bridge.as_ref().and_then(|it| self.bridges.get(&it.value)) {
            shown["bridge"] = self::bridge(bridge);
        }
        if let Some(mac) = link.mac {
            // A given one as it was written: a replica's is offset from it.
            shown["mac"] =
                config.mac.as_ref().map_or_else(|| json!(mac.to_string()), |it| json!(it.value.to_string()));
        }
        if let Some(mtu) = link.mtu {
            shown["mtu"] = json!(mtu);
        }
        if let Some(vlanid) = &config.vlanid {
            shown["vlanid"] = json!(vlanid.value);
        }
        for key in ["route", "netem", "netem-in"] {
            if let Some(node) = config.node.get(key) {
                shown[key] = json!(texts(node));
            }
        }
        let mut ethtool = config.node.get("ethtool").map(texts).unwrap_or_default();
        if matches!(link.kind, LinkKind::Veth { .. }) && !self.defaults.keep_veth_offload {
            ethtool.insert(0, "--offload tx off".to_owned());
        }
        shown["ethtool"] = json!(ethtool);
        if !config.forward.is_empty() {
            let forwards = config.forward.iter().map(|it| &it.value);
            shown["forward"] =
                forwards.map(|it| json!([it.outer, it.inner, it.protocol.to_string()])).collect();
        }
        shown
    }
}

/// A string or a list of them, as a list.
fn texts(node: &crate::config::Node) -> Vec<String> {
    match &node.value {
        crate::config::Value::List(items) => items.iter().filter_map(merge_text).collect(),
        _ => merge_text(node).into_iter().collect(),
    }
}

fn bridge(it: &Bridge) -> Value {
    let mut shown = json!({"bridge": it.name, "mode": it.mode.to_string()});
    let BridgeOptions {
        stp,
        vlan_filtering,
        mcast_snooping,
        group_fwd_mask,
        mtu,
        ageing_time,
        forward_delay,
    } = &it.options;
    for (key, value) in [
        ("stp", stp.map(Value::from)),
        ("vlan-filtering", vlan_filtering.map(Value::from)),
        ("mcast-snooping", mcast_snooping.map(Value::from)),
        ("group-fwd-mask", group_fwd_mask.map(Value::from)),
        ("mtu", mtu.map(Value::from)),
        ("ageing-time", ageing_time.map(Value::from)),
        ("forward-delay", forward_delay.map(Value::from)),
    ] {
        if let Some(value) = value {
            shown[key] = value;
        }
    }
    shown
}
