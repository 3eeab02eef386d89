//! What services of compose files have beside their links.

use crate::network::LinkKind;
use crate::network::lint::route::docker_networks;
use crate::network::lint::{Lint, warning};

pub(super) const DOCKER_INTERFACE: &str = "docker-interface";
pub(super) const FORWARD_WITHOUT_NETWORK: &str = "forward-without-network";

impl Lint<'_> {
    pub(super) fn services(&mut self) {
        let mut found = Vec::new();
        for rule in &self.network.links {
            let Some(service) = self.network.service_of(&rule.target) else { continue };
            let dev = &rule.sample.id.dev;
            let taken = (0..docker_networks(service)).any(|it| dev.as_str() == format!("eth{it}"));
            if taken {
                let span = rule.config.dev.as_ref().map_or(rule.config.node.span, |it| it.span);
                let message = format!("Docker gives {} an interface `{dev}` too", rule.target);
                let help = "give the service `network_mode: none`, or the link another `dev`";
                found.push(warning(DOCKER_INTERFACE, span, message).help(help));
            }
        }
        let forwards = self.network.links.iter().filter(|it| matches!(it.sample.kind, LinkKind::Veth { .. }));
        let forward = forwards.filter_map(|it| it.config.forward.first()).next();
        let engines = self.network.services.iter().flatten().filter(|(_, it)| it.is_engine);
        for (name, engine) in engines {
            if let (Some(none), Some(forward)) = (engine.no_network, forward) {
                let message =
                    format!("ports cannot be forwarded from the engine `{name}`, which has no network");
                let it = warning(FORWARD_WITHOUT_NETWORK, forward.span, message).note(none, "the engine");
                found.push(it.help("remove `network_mode: none` of the engine's service"));
            }
        }
        self.found.append(&mut found);
    }
}
