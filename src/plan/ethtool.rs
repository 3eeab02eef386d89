//! The part of the plan that is about device settings.

use crate::addr::IfName;
use crate::ethtool::{Ethtool, Feature};
use crate::plan::{Interface, Ns, Step};

/// Appends what gives the interface the settings that are wanted of it. The error says why the device cannot have one.
pub(super) fn plan_ethtool(
    steps: &mut Vec<Step>,
    ns: &Ns,
    name: &IfName,
    want: &[Ethtool],
    kept: Option<&Interface>,
) -> Result<(), String> {
    let mut settings = merged(want);
    let mut features = Vec::new();
    settings.retain(|it| match it {
        Ethtool::Features(them) => {
            features.extend(them.iter().copied());
            false
        }
        _ => true,
    });
    let switch = match kept {
        // An interface that is only to be made: the kernel tells when it cannot be so.
        None => !features.is_empty(),
        Some(kept) => differs(&features, kept)?,
    };
    if switch {
        steps.push(Step::SetFeatures { ns: ns.clone(), name: name.clone(), features });
    }
    for setting in settings {
        if kept.is_none_or(|it| !it.settings.contains(&setting)) {
            steps.push(Step::SetEthtool { ns: ns.clone(), name: name.clone(), setting });
        }
    }
    Ok(())
}

/// All commands of one kind as one, the later having the last word.
pub(super) fn merged(want: &[Ethtool]) -> Vec<Ethtool> {
    let mut merged: Vec<Ethtool> = Vec::new();
    for command in want {
        if !merged.iter_mut().any(|it| it.merge(command)) {
            merged.push(command.clone());
        }
    }
    merged
}

fn differs(features: &[(Feature, bool)], kept: &Interface) -> Result<bool, String> {
    // What the device did not tell is set, and the kernel then says what is wrong.
    if kept.features.is_empty() {
        return Ok(!features.is_empty());
    }
    let wanted = |name: &str| features.iter().rev().find(|(it, _)| it.covers(name)).map(|(_, on)| *on);
    for (feature, _) in features {
        let mut covered = kept.features.iter().filter(|(name, _)| feature.covers(name)).peekable();
        if covered.peek().is_none() {
            return Err(format!("this kernel has no feature `{feature}`"));
        }
        // One name may stand for several features of the kernel; a device need not have all of them.
        let mut fixed = covered.filter(|(name, it)| wanted(name).is_some_and(|on| on != it.on)).peekable();
        if let Some((name, it)) = fixed.peek()
            && it.fixed
            && kept.features.iter().filter(|(name, _)| feature.covers(name)).all(|(_, it)| it.fixed)
        {
            let state = if it.on { "on" } else { "off" };
            return Err(format!("its driver holds feature `{feature}` ({name}) fixed {state}"));
        }
    }
    Ok(kept.features.iter().any(|(name, it)| !it.fixed && wanted(name).is_some_and(|on| on != it.on)))
}
