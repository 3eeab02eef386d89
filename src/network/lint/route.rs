//! Routes: gateways that no link reaches, and interfaces that the container does not have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::addr::{Cidr, IfName};
use crate::config::{Diagnostic, Span};
use crate::network::lint::{Lint, warning};
use crate::network::{LinkRule, Target};
use crate::route::Route;
use crate::words::near;

pub(super) const UNREACHABLE_GATEWAY: &str = "unreachable-gateway";
pub(super) const GATEWAY_OF_ANOTHER_LINK: &str = "gateway-of-another-link";
pub(super) const NEXTHOP_DEV: &str = "nexthop-dev";
pub(super) const UNKNOWN_DEV: &str = "unknown-dev";

/// The links of one container.
struct Node<'a> {
    target: &'a Target,
    links: Vec<&'a LinkRule>,
    devs: BTreeSet<&'a IfName>,
    /// The networks that the container reaches without a gateway, by the interface.
    nets: BTreeMap<&'a IfName, Vec<Cidr>>,
}

impl Lint<'_> {
    pub(super) fn routes(&mut self) {
        let mut links: BTreeMap<&Target, Vec<&LinkRule>> = BTreeMap::new();
        for rule in self.network.links.iter().filter(|it| it.fault.is_none()) {
            links.entry(&rule.target).or_default().push(rule);
        }
        for (target, links) in links {
            let service = self.network.service_of(target);
            // It has other interfaces and addresses than those of its links.
            if service.is_some_and(|it| it.host_network.is_some() || docker_networks(it) > 0) {
                continue;
            }
            let node = Node::new(target, links);
            for rule in &node.links {
                for route in &rule.config.route {
                    node.check(&route.value, route.span, &rule.sample.id.dev, &mut self.found);
                }
            }
        }
    }
}

/// How many interfaces Docker gives a container of the service.
pub(super) fn docker_networks(service: &crate::config::ServiceConfig) -> u32 {
    if service.has_mode { 0 } else { service.networks.unwrap_or_default() }
}

impl<'a> Node<'a> {
    fn new(target: &'a Target, links: Vec<&'a LinkRule>) -> Self {
        let mut nets: BTreeMap<&IfName, Vec<Cidr>> = BTreeMap::new();
        for (dev, net) in links.iter().copied().flat_map(direct) {
            nets.entry(dev).or_default().push(net);
        }
        Self { target, devs: links.iter().map(|it| &it.sample.id.dev).collect(), links, nets }
    }

    /// Checks a route of the link `own`, which it leaves by unless it says otherwise.
    fn check(&self, route: &Route, span: Span, own: &IfName, found: &mut Vec<Diagnostic>) {
        let hops = route.nexthops.iter().map(|it| (it.via, it.dev.as_ref()));
        for (via, dev) in hops.chain([(route.via, route.dev.as_ref())]) {
            if let Some(dev) = dev.filter(|it| it.as_str() != "lo" && !self.devs.contains(it)) {
                let devs: Vec<&str> = self.links.iter().map(|it| it.sample.id.dev.as_str()).collect();
                let help = match near(dev.as_str(), &devs) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("its links have {}", crate::words::listed(&devs)),
                };
                let message = format!("no link of {} has the dev `{dev}`", self.target);
                found.push(warning(UNKNOWN_DEV, span, message).help(help));
                continue;
            }
            let Some(via) = via.filter(|it| !route.onlink && !is_link_local(*it)) else { continue };
            let leaves_by = dev.unwrap_or(own);
            if self.nets.get(leaves_by).is_some_and(|nets| nets.iter().any(|it| it.contains(via))) {
                continue;
            }
            let all = || self.links.iter().copied().flat_map(direct);
            let reaches = all().find(|(_, net)| net.contains(via));
            found.push(match reaches {
                None => {
                    let message = format!("gateway {via} is in no network of {}", self.target);
                    let nets: Vec<String> = all().map(|(_, net)| net.to_string()).collect();
                    let help = match nets.as_slice() {
                        [] => "the container has no address; give one of its links an `ip`".to_owned(),
                        nets => format!("its networks are {}", nets.join(", ")),
                    };
                    warning(UNREACHABLE_GATEWAY, span, message).help(help)
                }
                Some((other, _)) => {
                    let message = format!(
                        "the route leaves by `{leaves_by}`, and its gateway {via} is in the network of `{other}`"
                    );
                    let code = if route.nexthops.is_empty() { GATEWAY_OF_ANOTHER_LINK } else { NEXTHOP_DEV };
                    warning(code, span, message).help(format!("write `via {via} dev {other}`"))
                }
            });
        }
    }
}

/// The networks that a link reaches without a gateway, each with its interface.
fn direct(rule: &LinkRule) -> impl Iterator<Item = (&IfName, Cidr)> {
    let dev = &rule.sample.id.dev;
    let addrs = rule.sample.addrs.iter().map(move |it| (dev, it.net()));
    let routes =
        rule.config.route.iter().map(|it| &it.value).filter(|it| {
            it.via.is_none() && it.nexthops.is_empty() && it.kind.has_dev() && it.dst.prefix() > 0
        });
    addrs.chain(routes.map(move |it| (it.dev.as_ref().unwrap_or(dev), it.dst)))
}

/// Every interface reaches its own.
fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(_) => false,
        IpAddr::V6(it) => it.is_unicast_link_local(),
    }
}
