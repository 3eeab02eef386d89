//! Parent interfaces: what only one link on them can be.

use std::collections::BTreeMap;

use crate::addr::IfName;
use crate::device::{MacvlanMode, Place, StackedKind};
use crate::network::lint::{Lint, Replica, error};
use crate::network::{LinkKind, Stacked};

impl Lint<'_> {
    pub(super) fn parents(&mut self) {
        let mut parents: BTreeMap<(Place, &IfName), Vec<(&Replica, StackedKind)>> = BTreeMap::new();
        for replica in self.together() {
            if let LinkKind::Stacked(Stacked { place, parent, kind }) = &replica.link.kind {
                parents.entry((*place, parent)).or_default().push((replica, *kind));
            }
        }
        let mut found = Vec::new();
        for ((_, parent), links) in parents {
            let on_macvlan: Vec<&(&Replica, StackedKind)> =
                links.iter().filter(|(_, kind)| macvlan_mode(*kind).is_some()).collect();
            let is_passthru = |kind| macvlan_mode(kind).flatten() == Some(MacvlanMode::Passthru);
            if let Some((passthru, _)) = links.iter().find(|(_, kind)| is_passthru(*kind))
                && let Some((other, _)) = on_macvlan.iter().find(|(it, _)| !std::ptr::eq(*it, *passthru))
            {
                let mode = passthru.rule.config.mode.as_ref();
                let span = mode.map_or_else(|| passthru.span(), |it| it.span);
                let message = format!("a passthru link has its parent `{parent}` to itself");
                let mut it = error("passthru-parent", span, message);
                if passthru.span() == other.span() {
                    it = it.help("each replica of the service would have such a link: use mode bridge");
                } else {
                    it = it.note(other.span(), "another link on it").help("use mode bridge on both");
                }
                found.push(it);
            }
            let mut ids = BTreeMap::new();
            for (replica, kind) in &links {
                let StackedKind::Vlan { id } = kind else { continue };
                let given = replica.rule.config.vlanid.as_ref();
                let span = given.map_or_else(|| replica.span(), |it| it.span);
                let Some(first) = ids.insert(*id, span) else { continue };
                let message = format!("two links have VLAN {id} of `{parent}`");
                let twice = error("duplicate-vlan", span, message);
                found.push(if first == span {
                    twice.help(
                        "each replica of the service would have it: use a placeholder, such as `10{{index}}`",
                    )
                } else {
                    twice.note(first, "the first").help("the kernel allows each VLAN once on a parent")
                });
            }
        }
        self.found.append(&mut found);
    }
}

/// The mode of a macvlan or macvtap; None for other kinds.
fn macvlan_mode(kind: StackedKind) -> Option<Option<MacvlanMode>> {
    match kind {
        StackedKind::Macvlan { mode } | StackedKind::Macvtap { mode } => Some(mode),
        StackedKind::Vlan { .. }
        | StackedKind::Ipvlan { .. }
        | StackedKind::Ipvtap { .. }
        | StackedKind::Ipoib { .. } => None,
    }
}
