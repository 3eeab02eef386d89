//! Plans for device settings.

use std::collections::BTreeMap;

use crate::ethtool::{Ethtool, Feature};
use crate::network::{Item, Link, LinkKind};
use crate::plan::link::problem;
use crate::plan::{FeatureState, Interface, Ns, Problem, Step, Subject};

/// A feature that cannot be switched, and why.
pub(super) struct Unswitchable(Feature, String);

impl Unswitchable {
    pub(super) fn problem(self, link: &Link, subject: &Subject) -> Problem {
        let Self(feature, message) = self;
        let problem = problem(subject, message);
        let switches = |it: &&Ethtool| match it {
            Ethtool::Features(all) => all.iter().any(|(it, _)| *it == feature),
            _ => false,
        };
        match link.ethtool.iter().rfind(switches) {
            Some(it) => problem.about(link, &Item::Ethtool(it.clone())),
            None => problem,
        }
    }
}

/// Features that are no longer configured, with their state before conlink switched them.
fn no_longer_given(link: &Link, kept: Option<&Interface>) -> Vec<(Feature, bool)> {
    let features = features(&link.ethtool);
    let noted = kept.map(|it| it.note().features).unwrap_or_default();
    noted.into_iter().filter(|(it, _)| !features.iter().any(|(known, _)| known.includes(*it))).collect()
}

/// Appends the step that resets features that are no longer configured.
pub(super) fn plan_reset(steps: &mut Vec<Step>, ns: &Ns, link: &Link, kept: Option<&Interface>) {
    let features = no_longer_given(link, kept);
    if !features.is_empty() {
        steps.push(Step::ResetFeatures { ns: ns.clone(), name: link.id.dev.clone(), features });
    }
}

/// Appends the steps for the device settings of a link's inner end. The error says why the device does not support one.
///
/// A new interface gets its features with the second plan, when they have been read: their earlier state must be noted
/// ([`switched`]).
pub(super) fn plan_ethtool(
    steps: &mut Vec<Step>,
    ns: &Ns,
    link: &Link,
    kept: Option<&Interface>,
) -> Result<(), Unswitchable> {
    let name = &link.id.dev;
    let mut features = features(&link.ethtool);
    let is_reset = !no_longer_given(link, kept).is_empty();
    let switch = match kept {
        // The kernel refuses invalid values.
        None => {
            features.retain(|it| is_usual(link, it));
            !features.is_empty()
        }
        Some(kept) => differs(&features, kept)? || is_reset && !features.is_empty(),
    };
    if switch {
        steps.push(Step::SetFeatures { ns: ns.clone(), name: name.clone(), features });
    }
    for setting in merged(&link.ethtool).into_iter().filter(|it| !matches!(it, Ethtool::Features(_))) {
        if kept.is_none_or(|it| !it.settings.contains(&setting)) {
            steps.push(Step::SetEthtool { ns: ns.clone(), name: name.clone(), setting });
        }
    }
    Ok(())
}

/// Transmit checksum offload is off on a veth unless the configuration switches it on.
fn is_usual(link: &Link, feature: &(Feature, bool)) -> bool {
    matches!(link.kind, LinkKind::Veth { .. }) && *feature == (Feature::TX, false)
}

/// The earlier states of the features that the link switches: as noted, otherwise as they are now. Empty for an
/// interface that has not been read yet.
pub(super) fn switched(link: &Link, kept: Option<&Interface>) -> BTreeMap<Feature, bool> {
    let mut before = BTreeMap::new();
    let Some(kept) = kept else { return before };
    let noted = kept.note().features;
    for (feature, _) in features(&link.ethtool).into_iter().filter(|it| !is_usual(link, it)) {
        let covered = kept.features.iter().filter(|(name, it)| feature.covers(name) && !it.fixed);
        let was = |name: &str, it: &FeatureState| {
            noted.iter().find(|(it, _)| it.covers(name)).map_or(it.asked_for, |(_, on)| *on)
        };
        let all: Vec<(&str, bool)> = covered.map(|(name, it)| (name.as_str(), was(name, it))).collect();
        match all.first() {
            Some((_, on)) if all.iter().all(|(_, it)| it == on) => drop(before.insert(feature, *on)),
            // One name stands for several features with different states.
            _ => before.extend(all.iter().filter_map(|(name, on)| Some((Feature::named(name)?, *on)))),
        }
    }
    before
}

/// All features that the configuration switches.
fn features(want: &[Ethtool]) -> Vec<(Feature, bool)> {
    let features = merged(want).into_iter().filter_map(|it| match it {
        Ethtool::Features(features) => Some(features),
        _ => None,
    });
    features.flatten().collect()
}

/// Merges commands of the same kind. Later values win.
pub(super) fn merged(want: &[Ethtool]) -> Vec<Ethtool> {
    let mut merged: Vec<Ethtool> = Vec::new();
    for command in want {
        if !merged.iter_mut().any(|it| it.merge(command)) {
            merged.push(command.clone());
        }
    }
    merged
}

fn differs(features: &[(Feature, bool)], kept: &Interface) -> Result<bool, Unswitchable> {
    // A feature that the device did not report is set, so that the kernel gives the error.
    if kept.features.is_empty() {
        return Ok(!features.is_empty());
    }
    let wanted = |name: &str| features.iter().rev().find(|(it, _)| it.covers(name)).map(|(_, on)| *on);
    for (feature, _) in features {
        let mut covered = kept.features.iter().filter(|(name, _)| feature.covers(name)).peekable();
        if covered.peek().is_none() {
            return Err(Unswitchable(*feature, format!("the kernel has no feature `{feature}`")));
        }
        // One name may stand for several kernel features, and the device may lack some of them.
        let mut fixed = covered.filter(|(name, it)| wanted(name).is_some_and(|on| on != it.on)).peekable();
        if let Some((name, it)) = fixed.peek()
            && it.fixed
            && kept.features.iter().filter(|(name, _)| feature.covers(name)).all(|(_, it)| it.fixed)
        {
            let state = if it.on { "on" } else { "off" };
            let message = format!(
                "the driver does not allow switching feature `{feature}` ({name}): it is fixed {state}"
            );
            return Err(Unswitchable(*feature, message));
        }
    }
    Ok(kept.features.iter().any(|(name, it)| !it.fixed && wanted(name).is_some_and(|on| on != it.on)))
}
