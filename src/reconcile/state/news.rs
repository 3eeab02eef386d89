//! Reacts to changes by other programs.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::container::ContainerId;
use crate::network::{Attach, BridgeMode, Link, LinkKind, Place};
use crate::reconcile::state::{Reconciler, Tracked};
use crate::reconcile::{Effect, EngineId, News, Notice};

impl Reconciler {
    /// Checks what another program changed.
    pub(super) fn changed(&mut self, news: &News, now: Instant, effects: &mut Vec<Effect>) {
        if news.lost {
            effects.push(Effect::Notify(Notice::NoticesLost));
            self.sweep_again(effects);
            let all: BTreeSet<u64> = self.containers.values().filter_map(|it| it.netns).collect();
            all.into_iter().for_each(|it| self.check_inside(it, now, effects));
            return;
        }
        let mut inside = news.inside.clone();
        let outside = [(Place::Engine, &news.bridges), (Place::Host, &news.host)];
        for (place, names) in outside.iter().filter(|(_, it)| !it.changed.is_empty()) {
            if self.is_of_base(&names.changed) {
                self.check_bridges(effects);
            }
            let touched = |link: &Link| match &link.kind {
                LinkKind::Veth { place: it, outer, attach } => {
                    // Forwarded connections come from an address of the bridge.
                    let bridge = match attach {
                        Attach::Bridge(it) | Attach::Ovs(it) if !link.forwards.is_empty() => {
                            Some(it.as_str())
                        }
                        _ => None,
                    };
                    let is_changed = |it: &str| names.changed.contains(it);
                    it == place && (is_changed(outer.as_str()) || bridge.is_some_and(is_changed))
                }
                kind => {
                    kind.place() == Some(*place)
                        && kind.parent().is_some_and(|it| names.changed.contains(it.as_str()))
                }
            };
            let hit = self.containers.values().filter(|it| it.instance.links.iter().any(touched));
            inside.extend(hit.filter_map(|it| it.netns));
        }
        if news.bridges.rules {
            let forwards = |it: &&Tracked| it.instance.links.iter().any(|it| !it.forwards.is_empty());
            inside.extend(self.containers.values().filter(forwards).filter_map(|it| it.netns));
        }
        let deleted: BTreeSet<String> = news.bridges.deleted.union(&news.host.deleted).cloned().collect();
        if !deleted.is_empty() {
            self.vanished(&deleted, now, effects);
        }
        for netns in inside {
            self.check_inside(netns, now, effects);
        }
    }

    /// Does the configuration have bridges or tunnels of these names?
    fn is_of_base(&self, names: &BTreeSet<String>) -> bool {
        let bridge = |it: &crate::network::Bridge| it.mode != BridgeMode::Patch && names.contains(&it.name);
        let tunnel = |it: &crate::network::Tunnel| names.contains(it.name.as_str());
        self.network.bridges.values().any(bridge) || self.network.tunnels.iter().any(tunnel)
    }

    /// Checks the bridges, unless their first try or a retry is due anyway.
    fn check_bridges(&mut self, effects: &mut Vec<Effect>) {
        if !self.swept {
            self.sweep_again(effects);
        } else if self.base.tried && self.base.retry_at.is_none() {
            self.make_bridges(effects);
        }
    }

    /// The same, and removes leftovers if every engine has listed its containers.
    fn sweep_again(&mut self, effects: &mut Vec<Effect>) {
        if self.base.tried && self.base.retry_at.is_none() {
            match self.engines.values().all(|it| *it) {
                true => self.sweep(effects),
                false => self.make_bridges(effects),
            }
        }
    }

    pub(super) fn check_inside(&mut self, netns: u64, now: Instant, effects: &mut Vec<Effect>) {
        let here = || self.containers.values().filter(|it| it.netns == Some(netns));
        let waits = |it: &Tracked| it.standing.retry_at.is_some_and(|it| it > now);
        if here().next().is_some() && !here().any(waits) {
            self.wire(netns, effects);
        }
    }

    /// Restores what was deleted in the namespace of the bridges. Its container may have died, so that is inspected
    /// first.
    pub(super) fn vanished(&mut self, names: &BTreeSet<String>, now: Instant, effects: &mut Vec<Effect>) {
        if self.is_of_base(names) {
            // An interface that was renamed is still ours, and has become a leftover.
            self.sweep_again(effects);
        }
        let waits = |it: &Tracked| it.standing.retry_at.is_some_and(|it| it > now);
        let hit = |it: &Tracked| {
            !self.inspections.contains_key(&it.container.id)
                && !waits(it)
                && it.instance.links.iter().any(|link| match &link.kind {
                    LinkKind::Veth { outer, attach, .. } => {
                        let bridge = matches!(
                            attach, Attach::Bridge(it) | Attach::Ovs(it) if names.contains(it.as_str())
                        );
                        bridge || names.contains(outer.as_str())
                    }
                    kind => kind.parent().is_some_and(|it| names.contains(it.as_str())),
                })
        };
        let again: Vec<(EngineId, ContainerId)> = self
            .containers
            .iter()
            .filter(|(_, it)| hit(it))
            .map(|(id, it)| (it.engine, id.clone()))
            .collect();
        for (engine, id) in again {
            self.inspect(engine, id, effects);
        }
    }
}
