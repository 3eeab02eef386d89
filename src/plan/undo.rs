//! Undoes steps.

use crate::addr::IfName;
use crate::ethtool::Ethtool;
use crate::nat::NatAction;
use crate::plan::{Change, Interface, Kind, Ns, Observed, Qdisc, Step, is_making};

/// The step that restores the state `observed` before `step`. None if there is nothing to restore, or no way to: an
/// interface that was deleted, or one that the same plan has just made.
pub fn undo(step: &Step, observed: &Observed) -> Option<Step> {
    let before = |ns: &Ns, name: &IfName| observed.interface(ns, name);
    match step {
        Step::AddBridge { ns, name, .. }
        | Step::AddVeth { ns, name, .. }
        | Step::AddStacked { ns, name, .. }
        | Step::AddDummy { ns, name, .. }
        | Step::AddTunnel { ns, name, .. } => {
            Some(Step::DelInterface { ns: ns.clone(), name: name.clone() })
        }
        Step::AddOvsBridge { name, .. } => Some(Step::DelOvsBridge { name: name.clone() }),
        Step::AddOvsPort { bridge, port, .. } => {
            Some(Step::DelOvsPort { bridge: bridge.clone(), port: port.clone() })
        }
        Step::SetBridge { ns, name, options } => {
            let interface = before(ns, name)?;
            let Kind::Bridge(have) = &interface.kind else { return None };
            let options = options.restored(have, interface.mtu);
            Some(Step::SetBridge { ns: ns.clone(), name: name.clone(), options })
        }
        Step::SetInterface { ns, name, change } => {
            let change = restored(change, ns, before(ns, name)?, observed);
            (change != Change::default()).then(|| Step::SetInterface {
                ns: ns.clone(),
                name: name.clone(),
                change,
            })
        }
        Step::AddAddr { ns, dev, cidr } => {
            Some(Step::DelAddr { ns: ns.clone(), dev: dev.clone(), cidr: *cidr })
        }
        Step::DelAddr { ns, dev, cidr } => {
            Some(Step::AddAddr { ns: ns.clone(), dev: dev.clone(), cidr: *cidr })
        }
        Step::SetRoute { ns, route, .. } => {
            let routes = observed.spaces.get(ns).map(|it| it.routes.as_slice()).unwrap_or_default();
            let replaced = routes.iter().find(|it| it.route.place() == route.place());
            Some(match replaced {
                Some(it) => Step::SetRoute { ns: ns.clone(), route: it.route.clone(), replace: true },
                None => Step::DelRoute { ns: ns.clone(), route: route.clone() },
            })
        }
        Step::DelRoute { ns, route } => {
            Some(Step::SetRoute { ns: ns.clone(), route: route.clone(), replace: false })
        }
        Step::SetFeatures { ns, name, features } => {
            let interface = before(ns, name)?;
            let was = |feature: &crate::ethtool::Feature| {
                interface.features.iter().find(|(name, _)| feature.covers(name)).map(|(_, it)| it.on)
            };
            let features = features.iter().filter_map(|(it, _)| Some((*it, was(it)?))).collect();
            Some(Step::SetFeatures { ns: ns.clone(), name: name.clone(), features })
        }
        Step::SetEthtool { ns, name, setting } => {
            let same = |it: &&Ethtool| std::mem::discriminant(*it) == std::mem::discriminant(setting);
            let setting = before(ns, name)?.settings.iter().find(same)?.clone();
            Some(Step::SetEthtool { ns: ns.clone(), name: name.clone(), setting })
        }
        Step::AddNetem { ns, name, .. } | Step::SetNetem { ns, name, .. } | Step::DelNetem { ns, name } => {
            let (ns, name) = (ns.clone(), name.clone());
            let was = observed.interface(&ns, &name)?.qdisc.as_ref();
            match (was, step) {
                (Some(Qdisc::Netem { netem, .. }), Step::DelNetem { .. }) => {
                    Some(Step::AddNetem { ns, name, netem: netem.clone() })
                }
                (Some(Qdisc::Netem { netem, .. }), _) => {
                    Some(Step::SetNetem { ns, name, netem: netem.clone() })
                }
                (_, Step::DelNetem { .. }) => None,
                _ => Some(Step::DelNetem { ns, name }),
            }
        }
        Step::SetNat { ns, del, add } => {
            // The interface may route by now what these rules drop.
            let added = add.iter().filter(|it| !matches!(it.action, NatAction::Guard { .. }));
            Some(Step::SetNat { ns: ns.clone(), del: added.cloned().collect(), add: del.clone() })
        }
        Step::SetPortVlan { ns, name, vlan, was } => Some(Step::SetPortVlan {
            ns: ns.clone(),
            name: name.clone(),
            vlan: (*was)?,
            was: Some(*vlan),
        }),
        Step::AddRedirect { ns, from, .. } => Some(Step::DelRedirect { ns: ns.clone(), from: from.clone() }),
        Step::MoveInterface { ns, name, to, to_name, .. } => Some(Step::MoveInterface {
            ns: to.clone(),
            name: to_name.clone(),
            to: ns.clone(),
            to_name: name.clone(),
            mac: before(ns, name)?.mac,
            mtu: Some(before(ns, name)?.mtu),
        }),
        Step::DelInterface { .. }
        | Step::DelOvsBridge { .. }
        | Step::DelOvsPort { .. }
        | Step::DelRedirect { .. }
        // Their old state is no longer configured.
        | Step::ResetFeatures { .. }
        // It depends on the rules that guard it.
        | Step::SetLocalnet { .. }
        // Other programs may rely on these by now.
        | Step::EnableV6 { .. }
        | Step::SetForwarding { .. } => None,
    }
}

/// The mark stays on an interface of ours, and is taken from one that is not.
fn restored(change: &Change, ns: &Ns, before: &Interface, observed: &Observed) -> Change {
    let name_of = |index: u32| {
        let interfaces = observed.spaces.get(ns).map(|it| &it.interfaces);
        interfaces.into_iter().flatten().find(|(_, it)| it.index == index).map(|(name, _)| name.clone())
    };
    Change {
        mac: change.mac.and(before.mac),
        mtu: change.mtu.map(|_| before.mtu),
        master: change.master.as_ref().map(|_| before.master.and_then(name_of)),
        // One that was moved is the host's again.
        mark: change
            .mark
            .as_ref()
            .filter(|_| before.alias.is_none() && !is_making(before.group))
            .map(|_| String::new()),
        up: change.up.map(|_| before.up),
        // What keeps frames from passing is not put back.
        ..Change::default()
    }
}
