//! Draws the replicas of a service separately.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::addr::{Cidr, Mac};
use crate::container::{Container, ContainerId};
use crate::network::{Attach, Link, LinkKind, Network};

/// The services whose replicas are drawn separately, with their numbers. Other services are drawn once.
#[derive(Debug, Default)]
pub struct Replicas {
    counts: BTreeMap<String, u32>,
    /// The links of each replica from the configuration files; for JSON input they are derived from the first replica.
    known: BTreeMap<(String, u32), Vec<Value>>,
}

impl Replicas {
    pub fn new(counts: BTreeMap<String, u32>) -> Self {
        Self { counts, known: BTreeMap::new() }
    }

    /// Replicas of a service, unless there is a number already.
    pub fn add(&mut self, service: &str, count: u32) {
        self.counts.entry(service.to_owned()).or_insert(count);
    }

    pub(super) fn count(&self, service: &str) -> Option<u32> {
        self.counts.get(service).copied()
    }

    /// The requested services.
    pub(super) fn services(&self) -> impl Iterator<Item = &str> {
        self.counts.keys().map(String::as_str)
    }

    /// Reads the links of each replica from the configuration, with placeholders replaced. The errors are invalid links
    /// of replicas.
    pub fn instantiate(&mut self, network: &Network, project: Option<&str>) -> Vec<String> {
        let mut problems = Vec::new();
        let shown = network.show();
        let project = project.unwrap_or("project");
        for (service, count) in &self.counts {
            let Some(rules) = shown["services"][service]["links"].as_array() else { continue };
            for index in 1..=*count {
                let container = Container {
                    id: ContainerId::new("0".repeat(64)),
                    name: format!("{project}-{service}-{index}"),
                    project: Some(project.to_owned()),
                    working_dir: None,
                    service: Some(service.clone()),
                    index,
                };
                let instance = network.instantiate(&container);
                problems.extend(
                    instance.problems.iter().map(|it| format!("{}: {}: {}", it.origin, it.id, it.message)),
                );
                if instance.links.len() == rules.len() {
                    let number = index.to_string();
                    let vars = [
                        ("index", number.as_str()),
                        ("service", service.as_str()),
                        ("project", project),
                        ("container", container.name.as_str()),
                    ];
                    let links = rules.iter().zip(&instance.links);
                    let links = links.map(|(rule, link)| instantiated(network, rule, link, &vars)).collect();
                    self.known.insert((service.clone(), index), links);
                }
            }
        }
        problems
    }

    /// The links of a replica, derived from those of the service.
    pub(super) fn links(&self, service: &str, index: u32, shown: &[Value]) -> Vec<Value> {
        let known = self.known.get(&(service.to_owned(), index));
        known.cloned().unwrap_or_else(|| shown.iter().map(|it| counted_up(it, service, index)).collect())
    }
}

/// The links of the first replica, for a service that is drawn once.
pub(super) fn first(service: &str, shown: &[Value]) -> Vec<Value> {
    let mut links = shown.to_vec();
    links.iter_mut().for_each(|it| fill(it, &[("index", "1"), ("service", service)]));
    links
}

/// A shown link with the values of this replica.
fn instantiated(network: &Network, shown: &Value, link: &Link, vars: &[(&str, &str)]) -> Value {
    let mut replica = shown.clone();
    replica["dev"] = json!(link.id.dev.as_str());
    if let LinkKind::Veth { attach, .. } = &link.kind {
        let name = match attach {
            Attach::Bridge(it) | Attach::Ovs(it) => it.as_str(),
            Attach::Patch(it) => it,
        };
        let mode = network.bridges.get(name).map_or_else(|| "linux".to_owned(), |it| it.mode.to_string());
        if replica["bridge"]["bridge"] != name {
            replica["bridge"] = json!({"bridge": name, "mode": mode});
        }
    }
    // Only configured values: derived ones are not shown for services either.
    let mut set = |key: &str, value: Value| {
        if shown.get(key).is_some() {
            replica[key] = value;
        }
    };
    set("ip", link.addrs.iter().map(ToString::to_string).collect());
    set("mac", link.mac.map_or(Value::Null, |it| json!(it.to_string())));
    set("nat", link.nat.map_or(Value::Null, |it| json!(it.to_string())));
    let forwards = link.forwards.iter();
    set("forward", forwards.map(|it| json!([it.outer, it.inner, it.protocol.to_string()])).collect());
    let outer = match &link.kind {
        LinkKind::Veth { outer, .. } => Some(outer),
        kind => kind.parent(),
    };
    let outer = outer.map_or(Value::Null, |it| Value::from(it.as_str()));
    set("outer-dev", outer);
    fill(&mut replica, vars);
    replica
}

/// The link of the first replica with incremented addresses, MAC and ports. Values that cannot be incremented stay.
fn counted_up(first: &Value, service: &str, index: u32) -> Value {
    let offset = index.saturating_sub(1);
    let mut link = first.clone();
    let is_open = |it: &str| it.contains("{{");
    let address = |it: &str| {
        let cidr = it.parse::<Cidr>().ok()?;
        cidr.offset(offset).ok().map(|it| it.to_string())
    };
    each_text(&mut link, "ip", |it| if is_open(it) { None } else { address(it) });
    if offset > 0 {
        each_text(&mut link, "mac", |it| {
            let mac = it.parse::<Mac>().ok()?;
            // A derived MAC depends on values that are unknown here.
            let is_derived = it.to_lowercase().starts_with("c2:");
            if is_derived { Some(String::new()) } else { mac.offset(offset).ok().map(|it| it.to_string()) }
        });
    }
    for forward in link.get_mut("forward").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(outer) = forward.get_mut(0)
            && let Some(port) = outer.as_u64()
        {
            *outer = json!(port + u64::from(offset));
        }
    }
    fill(&mut link, &[("index", &index.to_string()), ("service", service)]);
    link
}

fn each_text(link: &mut Value, key: &str, change: impl Fn(&str) -> Option<String>) {
    let change = |value: &mut Value| {
        if let Some(changed) = value.as_str().and_then(&change) {
            *value = json!(changed);
        }
    };
    match link.get_mut(key) {
        Some(Value::Array(items)) => items.iter_mut().for_each(change),
        Some(value) => change(value),
        None => {}
    }
}

/// Replaces `{{name}}` in all texts.
fn fill(value: &mut Value, vars: &[(&str, &str)]) {
    match value {
        Value::String(text) => {
            for (name, to) in vars {
                let placeholder = format!("{{{{{name}}}}}");
                if text.contains(&placeholder) {
                    *text = text.replace(&placeholder, to);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|it| fill(it, vars)),
        Value::Object(entries) => entries.values_mut().for_each(|it| fill(it, vars)),
        _ => {}
    }
}
