//! Twelve networks whose drawings have their crossings counted, as `--show-config` shows them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A network that is still being described.
#[derive(Default)]
struct Builder {
    links: BTreeMap<String, Vec<Value>>,
    cables: usize,
}

impl Builder {
    fn link(&mut self, service: &str, bridge: &str, mode: &str, ip: String) {
        let links = self.links.entry(service.to_owned()).or_default();
        let dev = format!("eth{}", links.len());
        links.push(json!({"dev": dev, "bridge": {"bridge": bridge, "mode": mode}, "ip": [ip]}));
    }

    fn cable(&mut self, a: &str, b: &str) {
        self.cables += 1;
        let (name, net) = (format!("c{}", self.cables), self.cables * 2);
        for (at, service) in [a, b].into_iter().enumerate() {
            let ip = format!("10.{}.{}.{}/31", net >> 16, (net >> 8) & 255, (net & 255) + at);
            self.link(service, &name, "patch", ip);
        }
    }

    /// The next member of a bridge.
    fn lan(&mut self, service: &str, bridge: usize, host: usize) {
        self.link(service, &format!("lan{bridge}"), "linux", format!("192.168.{bridge}.{host}/24"));
    }

    fn show(self) -> Value {
        let services = self.links.into_iter().map(|(name, links)| (name, json!({"links": links})));
        json!({"services": services.collect::<serde_json::Map<_, _>>()})
    }
}

pub(super) fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("ring of 16", ring(16)),
        ("leaf-spine 2x4x2", leaf_spine()),
        ("fat tree k=4", fat_tree(4)),
        ("fat tree k=8", fat_tree(8)),
        ("chain of 20", chain(20)),
        ("star of 60", star(60)),
        ("campus of 60", campus()),
        ("mesh of 8", mesh(8)),
        ("WAN of six sites", wan()),
        ("200 on 20 bridges", bridges()),
        ("tree 3-3-3", tree()),
        ("random 40", random(40, 60)),
    ]
}

fn ring(count: usize) -> Value {
    let mut it = Builder::default();
    for at in 1..=count {
        it.cable(&format!("r{at}"), &format!("r{}", at % count + 1));
    }
    it.show()
}

fn leaf_spine() -> Value {
    let mut it = Builder::default();
    for leaf in 1..=4 {
        for spine in 1..=2 {
            it.cable(&format!("leaf{leaf}"), &format!("spine{spine}"));
        }
        for host in 1..=2 {
            it.cable(&format!("leaf{leaf}"), &format!("host{leaf}{host}"));
        }
    }
    it.show()
}

/// Pods of k/2 edge and k/2 aggregation switches, (k/2)² core switches, k/2 hosts at each edge switch.
fn fat_tree(k: usize) -> Value {
    let mut it = Builder::default();
    let half = k / 2;
    for pod in 0..k {
        for a in 0..half {
            for up in 0..half {
                it.cable(&format!("core{}", a * half + up), &format!("agg{pod}-{a}"));
            }
            for edge in 0..half {
                it.cable(&format!("agg{pod}-{a}"), &format!("edge{pod}-{edge}"));
            }
        }
        for edge in 0..half {
            for host in 0..half {
                it.cable(&format!("edge{pod}-{edge}"), &format!("h{pod}-{edge}-{host}"));
            }
        }
    }
    it.show()
}

fn chain(count: usize) -> Value {
    let mut it = Builder::default();
    for at in 1..count {
        it.cable(&format!("r{at}"), &format!("r{}", at + 1));
    }
    it.show()
}

fn star(count: usize) -> Value {
    let mut it = Builder::default();
    for at in 1..=count {
        it.cable("hub", &format!("h{at}"));
    }
    it.show()
}

/// Two cores, four distribution and twelve access switches, hosts on a bridge of each of these: 60 containers.
fn campus() -> Value {
    let mut it = Builder::default();
    it.cable("core1", "core2");
    for dist in 1..=4 {
        it.cable(&format!("dist{dist}"), "core1");
        it.cable(&format!("dist{dist}"), "core2");
    }
    for access in 1..=12 {
        let name = format!("access{access}");
        let first = if access <= 6 { 1 } else { 3 };
        it.cable(&name, &format!("dist{first}"));
        it.cable(&name, &format!("dist{}", first + 1));
        it.lan(&name, access, 1);
        for host in 0..3 + usize::from(access % 2 == 0) {
            it.lan(&format!("pc{access}-{}", host + 1), access, host + 2);
        }
    }
    it.show()
}

fn mesh(count: usize) -> Value {
    let mut it = Builder::default();
    for a in 1..=count {
        for b in a + 1..=count {
            it.cable(&format!("r{a}"), &format!("r{b}"));
        }
    }
    it.show()
}

/// A ring of six routers with three lines across, and a bridge with three hosts at each.
fn wan() -> Value {
    let mut it = Builder::default();
    let sites = ["berlin", "lisbon", "madrid", "oslo", "paris", "rome"];
    for (at, site) in sites.iter().enumerate() {
        it.cable(site, sites[(at + 1) % 6]);
    }
    for at in 0..3 {
        it.cable(sites[at], sites[at + 3]);
    }
    for (at, site) in sites.iter().enumerate() {
        it.lan(site, at + 1, 1);
        for host in 1..=3 {
            it.lan(&format!("{site}-{host}"), at + 1, host + 1);
        }
    }
    it.show()
}

/// A ring of 20 bridges, nine hosts on each, and a router between each two.
fn bridges() -> Value {
    let mut it = Builder::default();
    for bridge in 0..20 {
        for host in 1..=9 {
            it.lan(&format!("host{bridge}-{host}"), bridge, host);
        }
        it.lan(&format!("gw{bridge}"), bridge, 253);
        it.lan(&format!("gw{bridge}"), (bridge + 1) % 20, 254);
    }
    it.show()
}

fn tree() -> Value {
    let mut it = Builder::default();
    for a in 1..=3 {
        it.cable("root", &format!("a{a}"));
        for b in 1..=3 {
            it.cable(&format!("a{a}"), &format!("b{a}{b}"));
            for c in 1..=3 {
                it.cable(&format!("b{a}{b}"), &format!("c{a}{b}{c}"));
            }
        }
    }
    it.show()
}

/// A random tree, and more edges up to so many, from a fixed seed.
fn random(count: usize, edges: usize) -> Value {
    let mut state = 7_u64;
    let mut below = |most: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % most
    };
    let mut it = Builder::default();
    let mut seen = std::collections::BTreeSet::new();
    for at in 1..count {
        let other = below(at);
        seen.insert((other, at));
    }
    while seen.len() < edges {
        let (a, b) = (below(count), below(count));
        if a != b {
            seen.insert((a.min(b), a.max(b)));
        }
    }
    for (a, b) in seen {
        it.cable(&format!("n{a}"), &format!("n{b}"));
    }
    it.show()
}
