//! Bridges: cables with one end, names that are probably misspelled, and more ports than a bridge has.

use std::collections::BTreeMap;

use crate::config::{Diagnostic, Span};
use crate::network::instantiate::has_placeholder;
use crate::network::lint::{Lint, error, warning};
use crate::network::{Attach, Bridge, BridgeMode, LinkKind};
use crate::words::{counted, near};

pub(super) const ONE_ENDED_PATCH: &str = "one-ended-patch";
pub(super) const LONELY_BRIDGE: &str = "lonely-bridge";
pub(super) const UNUSED_BRIDGE: &str = "unused-bridge";

/// `BR_MAX_PORTS` in the kernel's `net/bridge/br_private.h`, without port 0.
const MAX_PORTS: usize = 1023;

/// Most names that each bridge is compared with. More are generated, and not misspelled.
const MAX_COMPARED: usize = 1000;

/// What is on a bridge.
#[derive(Default)]
struct Ends {
    /// Entries of `links` and `tunnels`.
    entries: Vec<Span>,
    /// Those of entries that run at the same time, replicas counted.
    links: usize,
    tunnels: usize,
}

impl Lint<'_> {
    pub(super) fn bridges(&mut self) {
        let network = self.network;
        // Which bridges exist shows when containers run.
        let is_open = network.links.iter().any(|it| has_placeholder(&it.config, "bridge", 0));
        let mut all: BTreeMap<String, Ends> = BTreeMap::new();
        for rule in &network.links {
            if let (LinkKind::Veth { attach, .. }, Some(given)) = (&rule.sample.kind, &rule.config.bridge) {
                all.entry(bridge_of(attach)).or_default().entries.push(given.span);
            }
        }
        for replica in self.together() {
            if let LinkKind::Veth { attach, .. } = &replica.link.kind {
                all.entry(bridge_of(attach)).or_default().links += 1;
            }
        }
        for tunnel in &network.tunnels {
            let ends = all.entry(tunnel.bridge.clone()).or_default();
            ends.entries.push(tunnel.config.get("bridge").map_or(tunnel.config.span, |it| it.span));
            ends.tunnels += 1;
        }
        let is_used = |it: &&Bridge| {
            it.origin.is_some() || all.get(&it.name).is_some_and(|ends| ends.links + ends.tunnels > 1)
        };
        let used = network.bridges.values().filter(is_used);
        let used: Vec<(String, &str)> = used.map(|it| (letters(&it.name), it.name.as_str())).collect();
        let mut found = Vec::new();
        for bridge in network.bridges.values() {
            let none = Ends::default();
            let ends = all.get(&bridge.name).unwrap_or(&none);
            if !is_open {
                found.extend(check_ends(bridge, ends));
            }
            if !is_open && used.len() <= MAX_COMPARED {
                found.extend(misspelled(bridge, ends, &used));
            }
            let ports = ends.links + ends.tunnels;
            if bridge.mode == BridgeMode::Linux && ports > MAX_PORTS {
                let message = format!("bridge `{}` would have {ports} ports", bridge.name);
                let help = format!("a Linux bridge takes {MAX_PORTS} ports; use several bridges");
                found.push(error("too-many-ports", bridge.span, message).help(help));
            }
        }
        self.found.append(&mut found);
    }
}

/// A cable has two ends, and a bridge something to connect.
fn check_ends(bridge: &Bridge, ends: &Ends) -> Option<Diagnostic> {
    let name = &bridge.name;
    if ends.entries.is_empty() {
        // Without an entry, only a link that cannot join it names it, which is reported.
        bridge.origin.as_ref()?;
        let unused = Diagnostic::hint(bridge.span, format!("no link joins bridge `{name}`"));
        return Some(unused.code(UNUSED_BRIDGE).help("remove it, or add a link"));
    }
    if bridge.mode != BridgeMode::Patch {
        return None;
    }
    match (ends.entries.as_slice(), ends.links + ends.tunnels) {
        ([only], 1) => {
            let message = format!("patch `{name}` has one end");
            let help = "a patch connects two links: add the other one, or check the name";
            Some(warning(ONE_ENDED_PATCH, *only, message).help(help))
        }
        // More than two entries are reported by `resolve`.
        ([] | [_] | [_, _], count) if count > 2 => {
            let message = format!("patch `{name}` would have {}", counted(count, "end"));
            let first = *ends.entries.first()?;
            let help = "a patch connects two links, and each replica has its own; use mode linux";
            Some(error("patch-ends", first, message).help(help))
        }
        _ => None,
    }
}

/// A bridge that only one link joins, with almost the name of another that is used. Names that differ in a number, or in
/// their first letter (`lan` and `wan`), are taken for intended.
fn misspelled(bridge: &Bridge, ends: &Ends, used: &[(String, &str)]) -> Option<Diagnostic> {
    let ([only], None) = (ends.entries.as_slice(), &bridge.origin) else { return None };
    if ends.links > 1 {
        return None;
    }
    let (own, first) = (letters(&bridge.name), bridge.name.chars().next());
    let others = used.iter().filter(|(letters, name)| name.chars().next() == first && *letters != own);
    let others: Vec<&str> = others.map(|(_, name)| *name).collect();
    // The beginning of a name is that of a family: `lan` and `lan-dmz`.
    let other = near(&bridge.name, &others).filter(|it| !it.starts_with(bridge.name.as_str()))?;
    let message = format!("only one link joins bridge `{}`", bridge.name);
    Some(warning(LONELY_BRIDGE, *only, message).help(format!("did you mean `{other}`?")))
}

/// A name without its digits.
fn letters(name: &str) -> String {
    name.chars().filter(|it| !it.is_ascii_digit()).collect()
}

fn bridge_of(attach: &Attach) -> String {
    match attach {
        Attach::Bridge(name) | Attach::Ovs(name) => name.to_string(),
        Attach::Patch(name) => name.clone(),
    }
}
