//! Drift: changes by other programs, and their descriptions.
//!
//! Whatever was deleted is made again: an interface, a port of a bridge, the filter of a patch. A changed setting of a
//! link that matched before is left alone and reported: users set links down and change addresses on purpose.

use std::collections::BTreeSet;

use crate::container::ContainerId;
use crate::plan::{Change, Drift, Ns, Observed, Plan, Qdisc, Step, Subject};

impl Plan {
    /// Removes steps from the plan that only undo changes by other programs to `settled` subjects, and returns
    /// descriptions of the changes. A subject that is made again keeps all of its steps.
    pub fn take_drift(&mut self, settled: &BTreeSet<Subject>, observed: &Observed) -> Drift {
        let mut drift = Drift::new();
        let anew: BTreeSet<Subject> = self.made_anew().cloned().collect();
        for group in &mut self.groups {
            if !settled.contains(&group.subject) || anew.contains(&group.subject) {
                continue;
            }
            let mut kept = Vec::new();
            for step in std::mem::take(&mut group.steps) {
                let (rest, changed) = split(step, observed);
                kept.extend(rest);
                if !changed.is_empty() {
                    drift.entry(group.subject.clone()).or_default().extend(changed);
                }
            }
            group.steps = kept;
        }
        self.groups.retain(|it| !it.steps.is_empty());
        drift
    }

    /// What this plan makes.
    fn made_anew(&self) -> impl Iterator<Item = &Subject> {
        self.groups.iter().filter(|it| it.steps.iter().any(Step::is_creation)).map(|it| &it.subject)
    }

    /// Containers in which an existing link lacks a route. Somebody else's may be there instead.
    pub fn lacking_routes(&self) -> impl Iterator<Item = &ContainerId> {
        let anew: BTreeSet<&Subject> = self.made_anew().collect();
        let groups = self.groups.iter().filter(move |it| !anew.contains(&it.subject));
        groups.flat_map(|it| &it.steps).filter_map(|it| match it {
            Step::SetRoute { ns: Ns::Container(id), .. } => Some(id),
            _ => None,
        })
    }
}

impl Step {
    /// Does the step make something that does not exist?
    pub fn is_creation(&self) -> bool {
        matches!(
            self,
            Self::AddBridge { .. }
                | Self::AddVeth { .. }
                | Self::AddStacked { .. }
                | Self::AddDummy { .. }
                | Self::AddTunnel { .. }
                | Self::AddOvsBridge { .. }
        )
    }
}

/// Splits a step: the part that is applied in any case, and descriptions of the rest.
fn split(step: Step, observed: &Observed) -> (Option<Step>, Vec<String>) {
    let inside = matches!(step.ns(), Ns::Container(_));
    let says = |text: String| (None, vec![text]);
    match &step {
        Step::SetInterface { ns, name, change } => {
            let done = Change {
                mac: None,
                mtu: None,
                up: None,
                arp: false,
                forwarding: false,
                unisolated: false,
                ..change.clone()
            };
            let whose = if inside { String::new() } else { format!("{name}: ") };
            let before = observed.interface(ns, name);
            let mut changed = Vec::new();
            match change.up {
                Some(true) => changed.push(format!("{whose}down")),
                Some(false) => changed.push(format!("{whose}up")),
                None => {}
            }
            for (is_changed, what) in [
                (change.arp, "arp off"),
                (change.forwarding, "bridge port not forwarding"),
                (change.unisolated, "bridge port isolated"),
            ] {
                changed.extend(is_changed.then(|| format!("{whose}{what}")));
            }
            if let (Some(mtu), Some(it)) = (change.mtu, before) {
                changed.push(format!("{whose}mtu {} instead of {mtu}", it.mtu));
            }
            if let Some(mac) = change.mac {
                let have = before.and_then(|it| it.mac).map_or("none".to_owned(), |it| it.to_string());
                changed.push(format!("{whose}mac {have} instead of {mac}"));
            }
            let (ns, name) = (ns.clone(), name.clone());
            let rest = (done != Change::default()).then_some(Step::SetInterface { ns, name, change: done });
            (rest, changed)
        }
        Step::SetBridge { name, options, .. } => {
            says(format!("options of {name} changed, expected{}", crate::plan::step::Options(options)))
        }
        Step::AddNetem { ns, name, .. } => {
            let have = observed.interface(ns, name).and_then(|it| it.qdisc.as_ref());
            match have {
                Some(Qdisc::Other(kind)) => says(format!("qdisc {kind} instead of netem")),
                _ => says("netem missing".to_owned()),
            }
        }
        Step::SetNetem { .. } => says("netem changed".to_owned()),
        Step::DelNetem { .. } => says("netem added".to_owned()),
        Step::AddAddr { cidr, .. } if inside => says(format!("address {cidr} missing")),
        Step::DelAddr { cidr, .. } if inside => says(format!("address {cidr} added")),
        // The route that is set aside is the one in the place of ours, which is told.
        Step::SetRoute { route, .. } if inside && route.is_aside() => (None, Vec::new()),
        Step::SetRoute { route, .. } if inside => says(format!("route {route} missing")),
        Step::DelRoute { route, .. } if inside => says(format!("route {route} added")),
        Step::SetPortVlan { name, vlan, was, .. } => {
            let was = was.map_or("none".to_owned(), |it| it.to_string());
            says(format!("{name}: port vlan {was} instead of {vlan}"))
        }
        Step::SetFeatures { features, .. } => {
            let wanted = features.iter().map(|(it, on)| format!(" {it} {}", if *on { "on" } else { "off" }));
            says(format!("offload changed, expected{}", wanted.collect::<String>()))
        }
        Step::SetEthtool { setting, .. } => says(format!("changed, expected {setting}")),
        Step::SetNat { .. } if inside => says("nat rules changed".to_owned()),
        _ => (Some(step), Vec::new()),
    }
}
