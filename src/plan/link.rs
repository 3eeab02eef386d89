//! Plans for the links of containers.

use std::collections::BTreeSet;

use crate::addr::IfName;
use crate::container::ContainerId;
use crate::ethtool::Ethtool;
use crate::netem::Netem;
use crate::network::{Attach, Item, Link, LinkKind, Place, Stacked};
use crate::plan::bridge::joining;
use crate::plan::ethtool::{Unswitchable, plan_ethtool, plan_reset, switched};
use crate::plan::nat::plan_nat;
use crate::plan::netem::plan_netem;
use crate::plan::{
    Change, Desired, Interface, Kind, Mark, Note, Ns, Observed, Plan, Problem, Space, Step, Subject, foreign,
    making,
};

/// The VLAN of a new port (`br_vlan_init()` in net/bridge/br_vlan.c).
const NEW_PORT: u16 = 1;

/// Appends the steps for the interfaces of all links. Their routes are planned by [`plan_routes`].
pub(super) fn plan_links(plan: &mut Plan, desired: &Desired, observed: &Observed) {
    let mut seen = BTreeSet::new();
    for (container, link) in &desired.links {
        let ns = Ns::Container(container.clone());
        let subject = Subject::Link(link.id.clone());
        let planned = if !seen.insert((ns.clone(), &link.id.dev)) {
            Err(problem(
                &subject,
                format!("another link has the same interface `{}` in the same namespace", link.id.dev),
            ))
        } else {
            match observed.spaces.get(&ns) {
                Some(space) => plan_link(desired, observed, space, container, link, &subject),
                None => {
                    Err(problem(&subject, "the container's network namespace no longer exists".to_owned()))
                }
            }
        };
        match planned {
            Ok(steps) => {
                plan.push(subject, steps);
            }
            Err(it) => plan.problems.push(it),
        }
    }
}

pub(super) fn problem(subject: &Subject, message: String) -> Problem {
    Problem { subject: subject.clone(), message, help: None, origin: None }
}

impl Problem {
    /// Adds the place of an item of the link.
    pub(super) fn about(self, link: &Link, item: &Item) -> Self {
        Self { origin: Some(link.origin_of(item).to_owned()), ..self }
    }
}

fn plan_link(
    desired: &Desired,
    observed: &Observed,
    space: &Space,
    container: &ContainerId,
    link: &Link,
    subject: &Subject,
) -> Result<Vec<Step>, Problem> {
    let ns = Ns::Container(container.clone());
    let dev = &link.id.dev;
    let mark = desired.mark(&link.id.container, dev, Note::default());
    let inner = space.interfaces.get(dev);
    let renamed = inner.filter(|it| desired.was_renamed(dev, it));
    if let Some(it) = inner.filter(|it| !desired.owns(it, &mark) && renamed.is_none()) {
        return Err(foreign(subject.clone(), dev, it.alias.as_deref(), &ns));
    }
    let mut steps = Vec::new();
    let replace = |inner: Option<&Interface>, steps: &mut Vec<Step>| {
        if inner.is_some() {
            steps.push(Step::DelInterface { ns: ns.clone(), name: dev.clone() });
        }
    };
    let kept = match &link.kind {
        LinkKind::Veth { place, outer, .. } => {
            let outer_ns = Ns::from(*place);
            let end = observed.interface(&outer_ns, outer);
            let is_renamed = |it: &Interface| renamed.is_some_and(|inner| paired(inner, it));
            if let Some(it) = end.filter(|it| !desired.owns(it, &mark) && !is_renamed(it)) {
                return Err(foreign(subject.clone(), outer, it.alias.as_deref(), &outer_ns));
            }
            match (inner, end) {
                (Some(a), Some(b)) if paired(a, b) => Some(a),
                (a, b) => {
                    // Deleting one end deletes its peer too.
                    replace(a, &mut steps);
                    if b.is_some() {
                        steps.push(Step::DelInterface { ns: outer_ns.clone(), name: outer.clone() });
                    }
                    steps.push(Step::AddVeth {
                        ns: ns.clone(),
                        name: dev.clone(),
                        group: making(&desired.project),
                        mac: link.mac,
                        mtu: link.mtu,
                        peer_ns: outer_ns,
                        peer: outer.clone(),
                        many_queues: link.ethtool.iter().any(|it| matches!(it, Ethtool::Channels(_))),
                    });
                    None
                }
            }
        }
        LinkKind::Dummy => match inner {
            Some(it) if it.kind == Kind::Dummy => Some(it),
            _ => {
                replace(inner, &mut steps);
                steps.push(Step::AddDummy {
                    ns: ns.clone(),
                    name: dev.clone(),
                    group: making(&desired.project),
                    mac: link.mac,
                    mtu: link.mtu,
                });
                None
            }
        },
        LinkKind::Moved(name) => {
            let was = inner.and_then(|it| it.note().moved);
            match inner.filter(|_| was.as_ref() == Some(name)) {
                Some(it) => Some(it),
                None => {
                    if inner.is_some() {
                        let message = format!("interface `{dev}` of the container is another one");
                        return Err(problem(subject, message));
                    }
                    steps.extend(moving(desired, observed, link, &ns, name, subject)?);
                    None
                }
            }
        }
        LinkKind::Tunnel { underlay, options } => {
            let same = |it: &&Interface| it.kind == Kind::Tunnel(options.clone());
            let keeps_mtu = |it: &&Interface| link.mtu.is_some() || !it.note().mtu;
            match inner.filter(same).filter(keeps_mtu) {
                Some(it) => Some(it),
                None => {
                    replace(inner, &mut steps);
                    steps.push(Step::AddTunnel {
                        ns: ns.clone(),
                        name: dev.clone(),
                        group: making(&desired.project),
                        underlay: Ns::from(*underlay),
                        options: options.clone(),
                        mac: link.mac,
                        mtu: link.mtu,
                    });
                    None
                }
            }
        }
        LinkKind::Stacked(it) => {
            let parent = parent_for(it, link, observed, subject)?;
            let is_as_wanted = |have: &Interface| {
                let same_kind = matches!(have.kind, Kind::Stacked(have) if it.kind.matches(have));
                same_kind && have.link == Some(parent.index)
            };
            match inner {
                Some(it) if is_as_wanted(it) => Some(it),
                _ => {
                    replace(inner, &mut steps);
                    steps.push(Step::AddStacked {
                        ns: ns.clone(),
                        name: dev.clone(),
                        group: making(&desired.project),
                        parent_ns: it.place.into(),
                        parent: it.parent.clone(),
                        kind: it.kind,
                        mac: link.mac,
                        mtu: link.mtu,
                    });
                    None
                }
            }
        }
    };
    let parent = parent(&link.kind, observed);
    let note = Note {
        netem: link.netem.as_ref().and_then(Netem::hidden),
        mtu: link.mtu.is_some() && (parent.is_some() || matches!(link.kind, LinkKind::Tunnel { .. })),
        features: switched(link, kept),
        moved: if let LinkKind::Moved(name) = &link.kind { Some(name.clone()) } else { None },
        vlan: None,
    };
    let mark = desired.mark(&link.id.container, dev, note);
    plan_inner(&mut steps, &ns, link, kept, space, parent, &mark).map_err(|it| it.problem(link, subject))?;
    plan_nat(&mut steps, &ns, desired, link, space);
    if let LinkKind::Veth { place, outer, attach } = &link.kind {
        let end = kept.and_then(|_| observed.interface(&(*place).into(), outer));
        let netem = link.netem_in.as_ref().and_then(Netem::hidden);
        let note = Note { netem, vlan: link.port.vlan, ..Note::default() };
        let mark = desired.mark(&link.id.container, dev, note);
        plan_outer(&mut steps, observed, link, *place, outer, attach, end, &mark);
    }
    Ok(steps)
}

/// The steps that move an interface of the host into the container. It has its mark before it moves, so it can be
/// returned whenever the engine is killed.
fn moving(
    desired: &Desired,
    observed: &Observed,
    link: &Link,
    ns: &Ns,
    name: &IfName,
    subject: &Subject,
) -> Result<[Step; 2], Problem> {
    let Some(interface) = observed.interface(&Ns::Host, name) else {
        return Err(problem(subject, format!("interface `{name}` does not exist ({})", Ns::Host)));
    };
    let note = Note { moved: Some(name.clone()), ..Note::default() };
    let mark = desired.mark(&link.id.container, &link.id.dev, note);
    let owner = interface.alias.as_deref().and_then(Mark::parse);
    if owner.is_some() && interface.alias.as_deref() != Some(&mark) {
        return Err(foreign(subject.clone(), name, interface.alias.as_deref(), &Ns::Host));
    }
    let change = Change { mark: Some(mark), ..Change::default() };
    Ok([
        Step::SetInterface { ns: Ns::Host, name: name.clone(), change },
        Step::MoveInterface {
            ns: Ns::Host,
            name: name.clone(),
            to: ns.clone(),
            to_name: link.id.dev.clone(),
            mac: link.mac,
            mtu: link.mtu,
        },
    ])
}

/// Are these two ends of the same veth?
fn paired(a: &Interface, b: &Interface) -> bool {
    a.kind == Kind::Veth && b.kind == Kind::Veth && a.link == Some(b.index) && b.link == Some(a.index)
}

/// Does the link have an IPv6 address?
pub(super) fn wants_v6(link: &Link) -> bool {
    link.addrs.iter().any(|it| it.addr().is_ipv6())
}

/// The steps for the container's end. Addresses come before `up`, so that the first packet has the right source.
fn plan_inner(
    steps: &mut Vec<Step>,
    ns: &Ns,
    link: &Link,
    kept: Option<&Interface>,
    space: &Space,
    parent: Option<&Interface>,
    mark: &str,
) -> Result<(), Unswitchable> {
    let dev = &link.id.dev;
    // An MTU that is no longer configured is reset to that of the parent, the kernel's default.
    let was_given = kept.is_some_and(|it| it.note().mtu);
    let mtu = link.mtu.or_else(|| parent.filter(|_| was_given).map(|it| it.mtu));
    let v6_off = kept.map_or(space.v6_off_by_default, |it| it.v6_off);
    if v6_off && wants_v6(link) {
        steps.push(Step::EnableV6 { ns: ns.clone(), name: dev.clone() });
    }
    let addrs = kept.map(|it| it.addrs.as_slice()).unwrap_or_default();
    for stale in addrs.iter().filter(|it| it.ours && !link.addrs.contains(&it.cidr)) {
        steps.push(Step::DelAddr { ns: ns.clone(), dev: dev.clone(), cidr: stale.cidr });
    }
    for cidr in link.addrs.iter().filter(|it| !addrs.iter().any(|have| have.cidr == **it)) {
        steps.push(Step::AddAddr { ns: ns.clone(), dev: dev.clone(), cidr: *cidr });
    }
    plan_netem(steps, ns, dev, link.netem.as_ref(), kept, mark);
    plan_reset(steps, ns, link, kept);
    let mut settings = Vec::new();
    plan_ethtool(&mut settings, ns, link, kept)?;
    if kept.is_none() {
        steps.append(&mut settings);
    }
    let change = Change {
        mac: link.mac.filter(|mac| kept.is_some_and(|it| it.mac != Some(*mac))),
        mtu: mtu.filter(|mtu| kept.is_some_and(|it| it.mtu != *mtu)),
        mark: kept.is_none_or(|it| it.alias.as_deref() != Some(mark)).then(|| mark.to_owned()),
        up: kept.is_none_or(|it| !it.up).then_some(true),
        // Other kinds have none from birth, as dummies and some modes of ipvlan.
        arp: kept.is_some_and(|it| it.no_arp && it.kind == Kind::Veth),
        ..Change::default()
    };
    if change != Change::default() {
        steps.push(Step::SetInterface { ns: ns.clone(), name: dev.clone(), change });
    }
    // After the earlier state has been noted, because the engine may be killed at any moment.
    steps.append(&mut settings);
    Ok(())
}

/// The steps for the outer end of a veth. It goes up last, when the container's end is ready.
#[expect(clippy::too_many_arguments, reason = "the parts of one veth link, taken apart by the one caller")]
fn plan_outer(
    steps: &mut Vec<Step>,
    observed: &Observed,
    link: &Link,
    place: Place,
    outer: &IfName,
    attach: &Attach,
    kept: Option<&Interface>,
    mark: &str,
) {
    let ns = Ns::from(place);
    plan_netem(steps, &ns, outer, link.netem_in.as_ref(), kept, mark);
    let joining = joining(observed, &ns, outer, attach, kept, mark, &link.port);
    steps.extend(joining.before);
    let unmarked = kept.is_none_or(|it| it.alias.as_deref() != Some(mark));
    let port = kept.filter(|_| joining.master.is_none() && forwards(observed, &ns, attach));
    let change = Change {
        mtu: link.mtu.filter(|mtu| kept.is_some_and(|it| it.mtu != *mtu)),
        forwarding: port.is_some_and(|it| it.blocked),
        unisolated: port.is_some_and(|it| it.isolated),
        arp: false,
        master: joining.master,
        mark: unmarked.then(|| mark.to_owned()),
        up: (kept.is_some_and(|it| it.up) != link.carrier).then_some(link.carrier),
        no_link_local: unmarked,
        mac: None,
    };
    if change != Change::default() {
        steps.push(Step::SetInterface { ns: ns.clone(), name: outer.clone(), change });
    }
    steps.extend(joining.after);
    if matches!(attach, Attach::Bridge(_)) {
        plan_port_vlan(steps, &ns, outer, link.port.vlan, kept);
    }
}

/// The step that sets the VLAN of a port.
fn plan_port_vlan(
    steps: &mut Vec<Step>,
    ns: &Ns,
    outer: &IfName,
    wanted: Option<u16>,
    kept: Option<&Interface>,
) {
    // A new port has the VLAN that the bridge gives it.
    let (was, noted) = match kept {
        Some(it) => (it.pvid, it.note().vlan),
        None => (Some(NEW_PORT), None),
    };
    let step = |vlan, was| Step::SetPortVlan { ns: ns.clone(), name: outer.clone(), vlan, was };
    match (wanted, noted) {
        (Some(vlan), _) if was != Some(vlan) => steps.push(step(vlan, was)),
        (None, Some(noted)) => steps.push(step(NEW_PORT, Some(noted))),
        _ => {}
    }
}

/// Is it a bridge of the kernel that forwards the frames of each port that runs? With the spanning tree protocol some wait
/// or are blocked.
fn forwards(observed: &Observed, ns: &Ns, attach: &Attach) -> bool {
    let Attach::Bridge(name) = attach else { return false };
    let is_plain = |it: &Interface| matches!(&it.kind, Kind::Bridge(options) if options.stp != Some(true));
    observed.interface(ns, name).is_some_and(|it| it.up && is_plain(it))
}

/// The interface that a link is on, for a kind that has one.
fn parent<'a>(kind: &LinkKind, observed: &'a Observed) -> Option<&'a Interface> {
    observed.interface(&kind.place()?.into(), kind.parent()?)
}

/// The parent interface, checked against the link's settings.
fn parent_for<'a>(
    stacked: &Stacked,
    link: &Link,
    observed: &'a Observed,
    subject: &Subject,
) -> Result<&'a Interface, Problem> {
    let Stacked { place, parent, .. } = stacked;
    let ns = Ns::from(*place);
    let Some(interface) = observed.interface(&ns, parent) else {
        let message = format!("parent interface `{parent}` does not exist ({ns})");
        return Err(problem(subject, message).about(link, &Item::OuterDev));
    };
    match link.mtu {
        Some(mtu) if mtu > interface.mtu => Err(problem(
            subject,
            format!("mtu {mtu} is greater than the mtu {} of the parent interface `{parent}`", interface.mtu),
        )
        .about(link, &Item::Mtu)),
        _ => Ok(interface),
    }
}
