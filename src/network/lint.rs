//! Finds what a network can be read as, and still will not do as intended: two links with one address, a cable with one
//! end, a gateway that nothing reaches.
//!
//! Pure: it sees the files alone. What other programs add to a container is unknown to it, so most findings are
//! warnings.

mod address;
mod bridge;
mod parent;
mod route;
mod service;
mod text;

use crate::config::{Diagnostic, Scope, ServiceConfig, Span, tidy};
use crate::network::instantiate::Names;
use crate::network::{Link, LinkRule, Network, Target};

pub use address::duplicate_addresses;

/// Codes of findings about containers of an engine, which do not hold for the nodes of a lab.
pub const ENGINE_ONLY: [&str; 2] = [service::DOCKER_INTERFACE, service::FORWARD_WITHOUT_NETWORK];

/// Codes of findings about something missing, which may be in an entry that could not be read.
pub const NEED_EVERY_ENTRY: [&str; 7] = [
    bridge::ONE_ENDED_PATCH,
    bridge::LONELY_BRIDGE,
    bridge::UNUSED_BRIDGE,
    route::UNREACHABLE_GATEWAY,
    route::GATEWAY_OF_ANOTHER_LINK,
    route::NEXTHOP_DEV,
    route::UNKNOWN_DEV,
];

/// Replicas of one service that are looked at. A service with more is told apart by its first ones.
const MAX_REPLICAS: u32 = 1024;

/// The network with the links of all replicas.
struct Lint<'a> {
    network: &'a Network,
    replicas: Vec<Replica<'a>>,
    found: Vec<Diagnostic>,
}

/// A link of one replica.
struct Replica<'a> {
    rule: &'a LinkRule,
    /// From 1.
    index: u32,
    link: Link,
    /// Runs beside all others that are not optional: its service has no profiles.
    is_there: bool,
}

impl Network {
    /// Everything that will probably not work as described. In a network with errors of [`Scope::Network`], findings of
    /// [`NEED_EVERY_ENTRY`] may be wrong.
    pub fn lint(&self) -> Vec<Diagnostic> {
        let mut lint = Lint { network: self, replicas: Vec::new(), found: Vec::new() };
        lint.replicate();
        lint.addresses();
        lint.bridges();
        lint.parents();
        lint.routes();
        lint.services();
        lint.texts();
        tidy(&mut lint.found);
        lint.found
    }

    fn service_of(&self, target: &Target) -> Option<&ServiceConfig> {
        match target {
            Target::Service(name) => self.services.as_ref()?.get(name),
            Target::Container(_) => None,
        }
    }
}

impl<'a> Lint<'a> {
    /// Makes the links of all replicas, and reports the first replica that cannot have its link.
    fn replicate(&mut self) {
        for rule in self.network.links.iter().filter(|it| it.fault.is_none()) {
            let service = self.network.service_of(&rule.target);
            let count = service.map_or(1, ServiceConfig::count).min(MAX_REPLICAS);
            for index in 1..=count {
                let names = Names::replica(&rule.target, index, &self.network.defaults.project);
                match self.network.replica(rule, &names) {
                    Ok(link) => {
                        let is_there = service.is_none_or(ServiceConfig::is_there);
                        self.replicas.push(Replica { rule, index, link, is_there });
                    }
                    Err(bad) => {
                        let span = bad.span.unwrap_or(rule.config.node.span);
                        let mut it = error("replica-out-of-range", span, bad.message);
                        if let Some(replicas) = service.and_then(ServiceConfig::several) {
                            it = it.note(replicas, format!("the service has {count} replicas"));
                        }
                        self.found.push(it);
                        break;
                    }
                }
            }
        }
    }

    /// The links that run at the same time.
    fn together(&self) -> impl Iterator<Item = &Replica<'a>> {
        self.replicas.iter().filter(|it| it.is_there)
    }
}

impl Replica<'_> {
    /// `service `a`` or `replica 2 of service `a``.
    fn name(&self) -> String {
        match self.index {
            1 => self.rule.target.to_string(),
            index => format!("replica {index} of {}", self.rule.target),
        }
    }

    /// The place of an address that the entry gives.
    fn addr_span(&self, at: usize) -> Span {
        let ip = self.rule.config.ip.get(at).or(self.rule.config.ip.first());
        ip.map_or(self.rule.config.node.span, |it| it.span)
    }

    fn span(&self) -> Span {
        self.rule.config.node.span
    }
}

fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
    Diagnostic::warning(span, message).code(code)
}

/// An error that other links do not suffer from.
fn error(code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(span, message).code(code).scope(Scope::Link)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use crate::config::{Input, Sources, load};
    use crate::network::{Defaults, resolve};

    /// Resolves this many links and returns the findings.
    fn found(
        count: u32,
        link: impl Fn(u32) -> String,
        bridge: impl Fn(u32) -> Option<String>,
    ) -> Vec<String> {
        let links: String = (0..count).map(|it| format!("- {{{}}}\n", link(it))).collect();
        let bridges: String =
            (0..count).filter_map(bridge).map(|it| format!("- {{bridge: {it}}}\n")).collect();
        let bridges = if bridges.is_empty() { bridges } else { format!("bridges:\n{bridges}") };
        let mut sources = Sources::default();
        let id = sources.add("net.yaml", format!("links:\n{links}{bridges}"));
        let (config, found) = load(&sources, &[Input::Network(id)], &BTreeMap::new());
        assert_eq!(found, []);
        let (network, mut found) = resolve(config, Arc::new(sources), Defaults::default());
        found.extend(network.lint());
        found.into_iter().map(|it| it.message).collect()
    }

    fn addr(it: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(0x0a00_0001 + it)
    }

    // With quadratic cost each of these tests takes minutes.
    const MANY: u32 = 50_000;

    #[test]
    fn the_cost_is_linear_in_the_links() {
        let link = |it| {
            let addr = addr(it);
            format!("service: s{it}, bridge: b{}, ip: {addr}/8, route: 10.0.0.0/9 via 10.0.0.1", it % 100)
        };
        assert_eq!(found(MANY, link, |_| None), [] as [&str; 0]);
    }

    #[test]
    fn the_cost_is_linear_in_the_bridges() {
        let link = |it| format!("service: s{it}, bridge: b{}", it / 2);
        let bridge = |it| (it % 2 == 0).then(|| format!("b{}, mode: patch", it / 2));
        assert_eq!(found(MANY, link, bridge), [] as [&str; 0]);
        let lonely = |it| format!("service: s{it}, bridge: b{it}");
        assert_eq!(found(MANY, lonely, |_| None), [] as [&str; 0]);
    }

    #[test]
    fn the_cost_is_linear_in_the_links_of_one_container() {
        let link = |it| {
            let (own, gateway) = (addr(it * 4), addr(it * 4 + 1));
            format!(
                "service: s, bridge: b{}, dev: d{it}, ip: {own}/30, route: {own}/32 via {gateway}",
                it % 100
            )
        };
        assert_eq!(found(MANY, link, |_| None), [] as [&str; 0]);
    }
}
