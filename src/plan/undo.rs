//! Undoes steps.

use std::collections::BTreeMap;

use crate::addr::IfName;
use crate::device::StackedKind;
use crate::ethtool::Ethtool;
use crate::nat::NatAction;
use crate::plan::{Change, Interface, Kind, Mark, Ns, Observed, Qdisc, Step, is_making, making};

/// The steps that restore the state `observed` before `step`, in the order in which to apply them. Empty if there is
/// nothing to restore, or no way to, as for a setting of an interface that the same plan has just made.
pub fn undo(step: &Step, observed: &Observed) -> Vec<Step> {
    match step {
        Step::DelInterface { ns, name } => remade(ns, name, observed).unwrap_or_default(),
        step => undo_setting(step, observed).into_iter().collect(),
    }
}

/// The steps that make an interface of ours again as it was observed. None for one of a type that conlink does not make.
fn remade(ns: &Ns, name: &IfName, observed: &Observed) -> Option<Vec<Step>> {
    let was = observed.interface(ns, name)?;
    let mark = was.alias.clone()?;
    let group = making(&Mark::parse(&mark)?.project);
    let (ns, name, mac, mtu) = (ns.clone(), name.clone(), was.mac, Some(was.mtu));
    let mut steps = Vec::new();
    match &was.kind {
        Kind::Veth => {
            let ends =
                observed.spaces.iter().flat_map(|(ns, it)| it.interfaces.iter().map(move |it| (ns, it)));
            let is_peer = |it: &Interface| it.kind == Kind::Veth && it.alias.is_some();
            let (peer_ns, (peer, other)) = ends
                .filter(|(_, (_, it))| {
                    is_peer(it) && it.link == Some(was.index) && was.link == Some(it.index)
                })
                .find(|(peer_ns, (peer, _))| (*peer_ns, *peer) != (&ns, &name))?;
            let (peer_ns, peer) = (peer_ns.clone(), peer.clone());
            steps.push(Step::AddVeth {
                ns: ns.clone(),
                name: name.clone(),
                group,
                mac,
                mtu,
                peer_ns: peer_ns.clone(),
                peer: peer.clone(),
                many_queues: false,
            });
            steps.extend(settings(&peer_ns, &peer, other, observed));
        }
        Kind::Dummy => steps.push(Step::AddDummy { ns: ns.clone(), name: name.clone(), group, mac, mtu }),
        Kind::Stacked(kind) => {
            let places = [Ns::Host, Ns::Bridges];
            let parents = places.iter().filter_map(|it| Some((it, observed.spaces.get(it)?)));
            let mut parents = parents.flat_map(|(ns, it)| it.interfaces.iter().map(move |it| (ns, it)));
            let (parent_ns, (parent, _)) = parents.find(|(_, (_, it))| was.link == Some(it.index))?;
            steps.push(Step::AddStacked {
                ns: ns.clone(),
                name: name.clone(),
                group,
                parent_ns: parent_ns.clone(),
                parent: parent.clone(),
                kind: *kind,
                mac: mac.filter(|_| !matches!(kind, StackedKind::Ipvlan { .. } | StackedKind::Ipvtap { .. })),
                mtu,
            });
        }
        Kind::Tunnel(options) => steps.push(Step::AddTunnel {
            ns: ns.clone(),
            name: name.clone(),
            group,
            underlay: Ns::Host,
            options: options.clone(),
            mac,
            mtu,
        }),
        Kind::Bridge(_) | Kind::Other(_) => return None,
    }
    steps.extend(settings(&ns, &name, was, observed));
    Some(steps)
}

/// The steps that give a new interface the settings of an earlier one.
fn settings(ns: &Ns, name: &IfName, was: &Interface, observed: &Observed) -> Vec<Step> {
    let ours = was.addrs.iter().filter(|it| it.ours);
    let mut steps: Vec<Step> =
        ours.map(|it| Step::AddAddr { ns: ns.clone(), dev: name.clone(), cidr: it.cidr }).collect();
    if let Some(Qdisc::Netem { netem, .. }) = &was.qdisc {
        steps.push(Step::AddNetem { ns: ns.clone(), name: name.clone(), netem: netem.clone() });
    }
    let change = Change {
        mark: was.alias.clone(),
        master: name_of(was.master, ns, observed).map(Some),
        up: was.up.then_some(true),
        ..Change::default()
    };
    steps.push(Step::SetInterface { ns: ns.clone(), name: name.clone(), change });
    let on = observed.ovs.iter().find(|(_, it)| *ns == Ns::Bridges && it.ports.contains_key(name));
    if let (Some((bridge, it)), note) = (on, was.note()) {
        steps.push(Step::AddOvsPort {
            bridge: bridge.clone(),
            port: name.clone(),
            mark: it.ports.get(name).cloned().flatten().unwrap_or_default(),
            tag: note.vlan,
            ids: BTreeMap::new(),
        });
    }
    steps
}

/// The name of the interface with this index.
fn name_of(index: Option<u32>, ns: &Ns, observed: &Observed) -> Option<IfName> {
    let interfaces = observed.spaces.get(ns).map(|it| &it.interfaces);
    interfaces.into_iter().flatten().find(|(_, it)| Some(it.index) == index).map(|(name, _)| name.clone())
}

fn undo_setting(step: &Step, observed: &Observed) -> Option<Step> {
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
    Change {
        mac: change.mac.and(before.mac),
        mtu: change.mtu.map(|_| before.mtu),
        master: change.master.as_ref().map(|_| name_of(before.master, ns, observed)),
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
