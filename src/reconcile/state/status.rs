//! The status of the network, derived from the reconciler's state.

use std::collections::{BTreeMap, HashSet};

use crate::addr::Cidr;
use crate::api::{
    BridgeStatus, EngineStatus, Health, LinkState, LinkStatus, LinkType, NodeState, NodeStatus,
    OverrideStatus, Problem, Served, Status, TunnelStatus, distinct,
};
use crate::container::Container;
use crate::device::StackedKind;
use crate::network::{
    Attach, BadInstance, BridgeMode, Link, LinkKind, Override, Overrides, Place, Tunnel, duplicate_addresses,
};
use crate::plan::{Drift, Subject};
use crate::reconcile::state::{Reconciler, Tracked};
use crate::reconcile::{Failure, Standing};

impl Reconciler {
    /// The current status.
    pub fn status(&self) -> Status {
        let mut containers: Vec<&Tracked> = self.containers.values().collect();
        containers.sort_by_key(|it| {
            let Container { name, service, index, .. } = &it.container;
            (service.as_ref().unwrap_or(name), *index, name)
        });
        // Containers that are tracked only because of possible leftovers are not nodes.
        let (nodes, others): (Vec<_>, Vec<_>) =
            containers.into_iter().partition(|it| !it.instance.is_empty());
        // The jobs of containers may have failures of bridges too.
        let standings = [&self.base].into_iter().chain(self.containers.values().map(|it| &it.standing));
        let failures: Vec<&Failure> = standings.flat_map(|it| &it.failures).collect();
        let bridges = self.bridge_statuses(&failures);
        let tunnels: Vec<TunnelStatus> =
            self.network.tunnels.iter().map(|it| self.tunnel_status(it, &failures)).collect();
        let elsewhere = |it: &&Failure| match &it.subject {
            Subject::Bridge(name) | Subject::Patch(name) => !bridges.iter().any(|it| it.name == *name),
            Subject::Tunnel(name) => !self.network.tunnels.iter().any(|it| it.name == *name),
            Subject::Link(_)
            | Subject::Parent(_)
            | Subject::Leftover(_)
            | Subject::Leftovers
            | Subject::Container(_)
            | Subject::Everything => true,
        };
        let others = others.iter().flat_map(|it| &it.standing.failures);
        let left = self.gone.values().flat_map(|it| &it.failures);
        let all = self.base.failures.iter().chain(others).chain(left).filter(elsewhere);
        let errors = distinct(all.map(Problem::from));
        Status {
            version: Status::VERSION,
            served: Served::Engine,
            project: self.own.project.clone(),
            state: self.health(),
            listening: self.engines.values().all(|it| *it),
            engines: self
                .engines
                .iter()
                .map(|(engine, connected)| EngineStatus { name: engine.to_string(), connected: *connected })
                .collect(),
            nodes: nodes.into_iter().map(|it| it.status(&self.drift, &self.overrides)).collect(),
            bridges,
            tunnels,
            errors,
            warnings: duplicate_addresses(self.containers.values().flat_map(|it| &it.instance.links)),
        }
    }

    /// The state of the network as a whole.
    pub fn health(&self) -> Health {
        let all = || self.containers.values().map(|it| &it.standing).chain([&self.base]);
        if all().any(|it| it.tried && !it.connected) || self.gone.values().any(|it| !it.failures.is_empty()) {
            return Health::Failing;
        }
        let answered = self.engines.values().all(|it| *it) && self.inspections.is_empty();
        match answered && !self.stopping && all().all(|it| it.connected) {
            true if !self.drift.is_empty() => Health::Drifted,
            true => Health::Connected,
            false => Health::Working,
        }
    }

    /// Whether something has failed that may succeed in a moment.
    pub fn is_retrying(&self) -> bool {
        self.containers.values().map(|it| &it.standing).chain([&self.base]).any(Standing::is_retrying)
    }

    fn bridge_statuses(&self, failures: &[&Failure]) -> Vec<BridgeStatus> {
        let mut all: BTreeMap<(String, Place), BridgeMode> =
            self.network.bridges.values().map(|it| ((it.name.clone(), it.place), it.mode)).collect();
        for link in self.containers.values().flat_map(|it| &it.instance.links) {
            if let LinkKind::Veth { place, attach, .. } = &link.kind {
                let (name, mode) = bridge_of(attach);
                all.entry((name, *place)).or_insert(mode);
            }
        }
        let status = |((name, place), mode): ((String, Place), BridgeMode)| {
            let errors = about(failures, |it| match it {
                Subject::Bridge(it) | Subject::Patch(it) => *it == name,
                _ => false,
            });
            let drift = self.drift_of(&Subject::Bridge(name.clone()));
            BridgeStatus { state: self.outside(&errors, &drift), name, mode, place, drift, errors }
        };
        all.into_iter().map(status).collect()
    }

    fn tunnel_status(&self, it: &Tunnel, failures: &[&Failure]) -> TunnelStatus {
        let errors = about(failures, |subject| matches!(subject, Subject::Tunnel(name) if *name == it.name));
        let drift = self.drift_of(&Subject::Tunnel(it.name.clone()));
        TunnelStatus {
            name: it.name.to_string(),
            kind: it.kind,
            bridge: it.bridge.clone(),
            remote: it.remote,
            vni: it.vni,
            state: self.outside(&errors, &drift),
            drift,
            errors,
            origin: it.origin.clone(),
        }
    }

    /// The state of a bridge or tunnel with these failures.
    fn outside(&self, errors: &[Problem], drift: &[String]) -> LinkState {
        match (errors, drift) {
            ([], []) => self.base.state_of_the_rest(),
            ([], _) => LinkState::Drifted,
            _ => LinkState::Failed,
        }
    }

    fn drift_of(&self, subject: &Subject) -> Vec<String> {
        self.drift.get(subject).cloned().unwrap_or_default()
    }
}

/// The failures with the subjects that `is_meant` selects, without duplicates.
fn about(failures: &[&Failure], is_meant: impl Fn(&Subject) -> bool) -> Vec<Problem> {
    distinct(failures.iter().filter(|it| is_meant(&it.subject)).map(|it| Problem::from(*it)))
}

impl Tracked {
    fn status(&self, drift: &Drift, overrides: &Overrides) -> NodeStatus {
        let standing = &self.standing;
        let state = match (standing.tried, standing.connected) {
            (false, _) => NodeState::Working,
            (true, true) => NodeState::Connected,
            (true, false) if self.netns.is_none() => NodeState::Unreachable,
            (true, false) => NodeState::Failing,
        };
        let links = self.instance.links.iter().map(|it| self.link_status(it, drift, overrides));
        let refused = self.instance.problems.iter().map(bad_link_status);
        let links: Vec<LinkStatus> = links.chain(refused).collect();
        let is_drifted = links.iter().any(|it| it.state == LinkState::Drifted);
        let state = if state == NodeState::Connected && is_drifted { NodeState::Drifted } else { state };
        let of_links: HashSet<&Problem> = links.iter().flat_map(|it| &it.errors).collect();
        let errors =
            standing.failures.iter().map(Problem::from).filter(|it| !of_links.contains(it)).collect();
        NodeStatus {
            name: self.container.name.clone(),
            service: self.container.service.clone(),
            index: self.container.index,
            engine: self.engine.to_string(),
            id: self.container.id.as_str().to_owned(),
            state,
            errors,
            links,
            process: None,
        }
    }

    fn link_status(&self, link: &Link, drift: &Drift, overrides: &Overrides) -> LinkStatus {
        let drift = drift.get(&Subject::Link(link.id.clone())).cloned().unwrap_or_default();
        let standing = &self.standing;
        let mine = |it: &&Failure| match (&it.subject, &link.kind) {
            (Subject::Link(id), _) => *id == link.id,
            // Without the patch the link carries no frames.
            (Subject::Patch(name), LinkKind::Veth { attach: Attach::Patch(it), .. }) => name == it,
            _ => false,
        };
        let errors: Vec<Problem> = standing.failures.iter().filter(mine).map(Problem::from).collect();
        LinkStatus {
            state: match (errors.is_empty(), drift.is_empty()) {
                (true, true) => standing.state_of_the_rest(),
                (true, false) => LinkState::Drifted,
                (false, _) => LinkState::Failed,
            },
            mac: link.mac.map(|it| it.to_string()),
            mtu: link.mtu,
            addresses: link.addrs.iter().map(Cidr::to_string).collect(),
            drift,
            overrides: overrides.of(&link.id).map(override_status).collect(),
            errors,
            ..described(link.id.dev.as_str(), Some(&link.kind), &link.origin)
        }
    }
}

fn bad_link_status(it: &BadInstance) -> LinkStatus {
    LinkStatus {
        state: LinkState::Failed,
        errors: vec![Problem::from(&Failure::from(it.clone()))],
        ..described(it.id.dev.as_str(), None, &it.origin)
    }
}

/// The type and connections of a link, without its state.
fn described(dev: &str, kind: Option<&LinkKind>, origin: &str) -> LinkStatus {
    let mut link = LinkStatus {
        dev: dev.to_owned(),
        kind: None,
        bridge: None,
        outer: None,
        parent: None,
        vlanid: None,
        mode: None,
        place: kind.and_then(LinkKind::place),
        mac: None,
        mtu: None,
        addresses: Vec::new(),
        state: LinkState::Pending,
        origin: origin.to_owned(),
        drift: Vec::new(),
        overrides: Vec::new(),
        errors: Vec::new(),
    };
    let (kind, parent, mode) = match kind {
        None | Some(LinkKind::Moved(_) | LinkKind::Tunnel { .. }) => return link,
        Some(LinkKind::Veth { outer, attach, .. }) => {
            let (name, mode) = bridge_of(attach);
            link.bridge = Some(name);
            link.outer = Some(outer.to_string());
            (LinkType::Veth, None, Some(mode.to_string()))
        }
        Some(LinkKind::Dummy) => (LinkType::Dummy, None, None),
        Some(LinkKind::Stacked(it)) => {
            let kind = match it.kind {
                StackedKind::Vlan { id } => {
                    link.vlanid = Some(id);
                    LinkType::Vlan
                }
                StackedKind::Macvlan { .. } => LinkType::Macvlan,
                StackedKind::Macvtap { .. } => LinkType::Macvtap,
                StackedKind::Ipvlan { .. } => LinkType::Ipvlan,
                StackedKind::Ipvtap { .. } => LinkType::Ipvtap,
                StackedKind::Ipoib { .. } => return link,
            };
            (kind, Some(&it.parent), it.kind.mode())
        }
    };
    link.kind = Some(kind);
    link.parent = parent.map(ToString::to_string);
    link.mode = mode;
    link
}

fn override_status(it: &Override) -> OverrideStatus {
    OverrideStatus {
        what: it.setting.to_string(),
        author: it.author.clone(),
        until: it.until.map(|it| it.unix),
    }
}

/// The bridge or patch of an outer end.
fn bridge_of(attach: &Attach) -> (String, BridgeMode) {
    match attach {
        Attach::Bridge(name) => (name.to_string(), BridgeMode::Linux),
        Attach::Ovs(name) => (name.to_string(), BridgeMode::Ovs),
        Attach::Patch(name) => (name.clone(), BridgeMode::Patch),
    }
}

impl Standing {
    /// The state of links without failures of their own: up, unless a failure of the whole container makes it unknown.
    fn state_of_the_rest(&self) -> LinkState {
        let blind = |it: &Failure| matches!(it.subject, Subject::Container(_) | Subject::Everything);
        match self.tried && !self.failures.iter().any(blind) {
            true => LinkState::Up,
            false => LinkState::Pending,
        }
    }
}
