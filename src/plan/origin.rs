//! The configuration entries that steps come from.

use crate::ethtool::Ethtool;
use crate::nat::NatAction;
use crate::network::{Item, Link};
use crate::plan::{Change, Desired, Ns, Step, Subject};

impl Desired {
    /// `FILE:LINE:COL` of the item of a step. None if the step belongs to no link.
    pub fn origin(&self, subject: &Subject, step: &Step) -> Option<String> {
        let Subject::Link(id) = subject else { return None };
        let (_, link) = self.links.iter().find(|(_, it)| it.id == *id)?;
        Some(item(link, step).map_or(link.origin.as_str(), |it| link.origin_of(&it)).to_owned())
    }
}

/// The item of the link that a step sets; None for the link as a whole.
fn item(link: &Link, step: &Step) -> Option<Item> {
    Some(match step {
        Step::AddAddr { ns: Ns::Container(_), cidr, .. }
        | Step::DelAddr { ns: Ns::Container(_), cidr, .. } => Item::Addr(*cidr),
        Step::EnableV6 { .. } => Item::Addr(*link.addrs.iter().find(|it| it.addr().is_ipv6())?),
        Step::SetRoute { ns: Ns::Container(_), route, .. }
        | Step::DelRoute { ns: Ns::Container(_), route } => Item::Route(route.clone()),
        Step::AddNetem { ns, .. } | Step::SetNetem { ns, .. } | Step::DelNetem { ns, .. } => match ns {
            Ns::Container(_) => Item::Netem,
            Ns::Bridges | Ns::Host => Item::NetemIn,
        },
        Step::SetFeatures { features, .. } | Step::ResetFeatures { features, .. } => {
            let switches = |it: &Ethtool| match it {
                Ethtool::Features(all) => all.iter().any(|it| features.contains(it)),
                _ => false,
            };
            Item::Ethtool(link.ethtool.iter().rfind(|it| switches(it))?.clone())
        }
        Step::SetEthtool { setting, .. } => {
            let same = |it: &&Ethtool| std::mem::discriminant(*it) == std::mem::discriminant(setting);
            Item::Ethtool(link.ethtool.iter().rfind(same)?.clone())
        }
        Step::SetNat { ns: Ns::Container(_), .. } => Item::Nat,
        Step::SetNat { add, .. } => {
            let forward = add.iter().find_map(|it| match it.action {
                NatAction::Forward { protocol, port, .. } => Some((protocol, port)),
                _ => None,
            })?;
            Item::Forward(*link.forwards.iter().find(|it| (it.protocol, it.outer) == forward)?)
        }
        Step::AddStacked { .. } => Item::OuterDev,
        Step::AddOvsPort { .. } => Item::Bridge,
        Step::SetInterface { change, .. } => return changed(change),
        _ => return None,
    })
}

/// The item that a change of an interface sets, if it is only one.
fn changed(change: &Change) -> Option<Item> {
    let given = [
        (change.mac.is_some(), Some(Item::Mac)),
        (change.mtu.is_some(), Some(Item::Mtu)),
        (change.master.is_some(), Some(Item::Bridge)),
        (change.mark.is_some() || change.up.is_some() || change.no_link_local, None),
    ];
    let mut given = given.into_iter().filter(|(is, _)| *is);
    given.next().filter(|_| given.next().is_none())?.1
}
