//! What is to be made so: the desired state of a part, from what runs now.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::addr::IfName;
use crate::container::ContainerId;
use crate::device::TunnelOptions;
use crate::nat::Protocol;
use crate::network::{Attach, BridgeMode, Item, Link, LinkId, LinkKind, Place, Tunnel};
use crate::plan::{BridgeSpec, Desired, ForwardSpec, Forwards, Ns, Patch, Scope, Subject, TunnelSpec};
use crate::reconcile::state::{Leftovers, Reconciler, Tracked};
use crate::reconcile::{About, Failure, Job};

/// Forwarded ports, and those that cannot be.
struct GrantedForwards {
    granted: Vec<ForwardSpec>,
    refused: Vec<Failure>,
}

/// The outer ends that a patch joins, those that are up first; then the links that are too many.
#[derive(Default)]
struct Ends<'a> {
    joined: Vec<IfName>,
    more: Vec<(IfName, &'a Link)>,
}

impl Reconciler {
    /// Bridges, and the removal of everything of ours that nobody wants any more.
    pub(super) fn sweep_job(&self) -> Job {
        let keep = self.containers.values().flat_map(|it| outers(&it.instance.links)).collect();
        let links = self.containers.values().flat_map(|it| &it.instance.links);
        let inner = links.map(|it| it.id.clone()).collect();
        let scope = Scope::Project { places: self.places(), keep, inner };
        let mut job = self.bridges_job();
        job.about = About::Sweep;
        job.desired.scope = scope;
        job.desired.forwards = Some(Forwards { specs: self.forwards().granted, whole: true });
        job
    }

    /// Where interfaces of ours may be, outside of containers: on the host whatever the configuration says by now, since
    /// an engine that was killed may have had another.
    fn places(&self) -> BTreeSet<Place> {
        let mut places = self.network.places();
        if self.own.sweeps_host || self.own.bridges_apart && !self.network.tunnels.is_empty() {
            places.insert(Place::Host);
        }
        places.retain(|it| self.may_act(*it));
        places
    }

    pub(super) fn bridges_job(&self) -> Job {
        Job {
            number: 0,
            about: About::Base,
            desired: Desired {
                bridges: self.bridges(),
                tunnels: self.tunnels(),
                patches: self.tunnel_patches(),
                ..self.nothing(Scope::Containers { names: BTreeSet::new(), outers: BTreeSet::new() })
            },
            refused: self.tunnels_without_host(),
        }
    }

    /// May interfaces there be ours?
    fn may_act(&self, place: Place) -> bool {
        !self.own.no_host || place != Place::Host
    }

    /// A tunnel's packets take the host's routes.
    fn tunnels_without_host(&self) -> Vec<Failure> {
        let refused = self.network.tunnels.iter().filter(|_| self.own.bridges_apart && self.own.no_host);
        let failure = |it: &Tunnel| {
            let origin = Some(it.origin.clone());
            Failure { origin, ..without_host(Subject::Tunnel(it.name.clone())) }
        };
        refused.map(failure).collect()
    }

    pub(super) fn teardown(&self) -> Job {
        // One container of each namespace is enough to reach it.
        let inside: BTreeMap<u64, ContainerId> =
            self.containers.iter().filter_map(|(id, it)| Some((it.netns?, id.clone()))).collect();
        let scope = Scope::Project { places: self.places(), keep: BTreeSet::new(), inner: BTreeSet::new() };
        let desired = Desired {
            inside: inside.into_values().collect(),
            forwards: Some(Forwards { specs: Vec::new(), whole: true }),
            ..self.nothing(scope)
        };
        Job { number: 0, about: About::Teardown, desired, refused: Vec::new() }
    }

    pub(super) fn gone_job(&self, name: String, left: Leftovers) -> Job {
        // A namespace that others still use keeps what the one that is gone had in it.
        let mut job = match left.netns.filter(|it| self.containers.values().any(|c| c.netns == Some(*it))) {
            Some(netns) => self.containers_job(netns),
            None => Job {
                number: 0,
                about: About::Gone(name.clone()),
                desired: self.nothing(Scope::Containers { names: BTreeSet::new(), outers: BTreeSet::new() }),
                refused: Vec::new(),
            },
        };
        job.about = About::Gone(name.clone());
        if let Scope::Containers { names, outers } = &mut job.desired.scope {
            names.insert(name);
            // Replicas come and go: a name that another container has by now is that one's.
            let taken: BTreeSet<_> =
                self.containers.values().flat_map(|it| self::outers(&it.instance.links)).collect();
            let gone = left.outers.into_iter().filter(|it| self.may_act(it.0) && !taken.contains(it));
            outers.extend(gone);
        }
        let known: BTreeSet<String> = job.desired.patches.iter().map(|it| it.name.clone()).collect();
        for (name, ends) in self.patch_ends(left.patches.difference(&known).map(String::as_str)) {
            if !ends.joined.is_empty() {
                job.desired.patches.push(Patch { name: name.to_owned(), ends: ends.joined });
            }
        }
        if left.forwarded {
            job.desired.forwards = Some(Forwards { specs: self.forwards().granted, whole: true });
        }
        if left.forwarded || left.ovs {
            // Addresses and ports on bridges are to be looked at there.
            job.desired.bridges = self.bridges();
        }
        job
    }

    /// Everything that the containers of one namespace want.
    pub(super) fn containers_job(&self, netns: u64) -> Job {
        let here: BTreeMap<&ContainerId, &Tracked> =
            self.containers.iter().filter(|(_, it)| it.netns == Some(netns)).collect();
        let names = here.values().map(|it| it.container.name.clone()).collect();
        let outers = here.values().flat_map(|it| outers(&it.instance.links));
        let outers = outers.filter(|it| self.may_act(it.0)).collect();
        let problems = here.values().flat_map(|it| it.instance.problems.iter().cloned());
        let mut refused: Vec<Failure> = problems.map(Failure::from).collect();
        let mut desired = self.nothing(Scope::Containers { names, outers });
        let mut third = BTreeSet::new();
        let patches: BTreeSet<String> = here.values().flat_map(|it| patches(&it.instance.links)).collect();
        let names: BTreeSet<&str> = here.values().map(|it| it.container.name.as_str()).collect();
        for (patch, Ends { joined: ends, more }) in self.patch_ends(patches.iter().map(String::as_str)) {
            for (end, link) in more.into_iter().filter(|(_, it)| names.contains(it.id.container.as_str())) {
                let message = format!(
                    "patch bridge `{patch}` joins exactly two links, and {} has both already",
                    ends.iter().map(IfName::to_string).collect::<Vec<_>>().join(" with ")
                );
                third.insert(end);
                refused.push(Failure {
                    subject: Subject::Link(link.id.clone()),
                    message,
                    help: None,
                    origin: Some(link.origin_of(&Item::Bridge).to_owned()),
                    is_final: false,
                });
            }
            desired.patches.push(Patch { name: patch.to_owned(), ends });
        }
        // Every container of the namespace reaches it by the first one's handle.
        if let Some(first) = here.keys().next() {
            desired.inside.insert((*first).clone());
            let links = here.values().flat_map(|it| &it.instance.links);
            let (links, away): (Vec<_>, Vec<_>) =
                links.partition(|it| it.kind.place().is_none_or(|it| self.may_act(it)));
            refused.extend(away.iter().map(|it| without_host(Subject::Link(it.id.clone()))));
            let mine = links
                .into_iter()
                .filter(|it| !matches!(&it.kind, LinkKind::Veth { outer, .. } if third.contains(outer)));
            desired.links = mine.map(|it| ((*first).clone(), self.as_now(it))).collect();
        }
        desired.bridges = self.bridges_of(desired.links.iter().map(|(_, it)| it));
        if desired.links.iter().any(|(_, it)| !it.forwards.is_empty()) {
            let GrantedForwards { mut granted, refused: conflicts } = self.forwards();
            let ids: BTreeSet<&LinkId> = desired.links.iter().map(|(_, it)| &it.id).collect();
            let mine = |it: &Failure| matches!(&it.subject, Subject::Link(id) if ids.contains(id));
            refused.extend(conflicts.into_iter().filter(mine));
            granted.retain(|it| ids.contains(&it.link));
            desired.forwards = Some(Forwards { specs: granted, whole: false });
        }
        let about = About::Containers(here.into_keys().cloned().collect());
        Job { number: 0, about, desired, refused }
    }

    /// A link as it is to be now, and as this engine wires it.
    fn as_now(&self, link: &Link) -> Link {
        let link = self.overrides.apply(link);
        match self.own.without_netem {
            true => Link { netem: None, netem_in: None, ..link },
            false => link,
        }
    }

    /// The ends of each of those patches, in one pass over all links. Which of them are there yet, the plan sees for
    /// itself.
    fn patch_ends<'a>(&'a self, patches: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, Ends<'a>> {
        let mut ends: BTreeMap<&str, Vec<(bool, &Link, &IfName)>> =
            patches.map(|it| (it, Vec::new())).collect();
        if ends.is_empty() {
            return BTreeMap::new();
        }
        let mut tunnels: BTreeMap<&str, Vec<IfName>> = BTreeMap::new();
        for it in &self.network.tunnels {
            tunnels.entry(&it.bridge).or_default().push(it.name.clone());
        }
        for it in self.containers.values() {
            for link in &it.instance.links {
                if let LinkKind::Veth { outer, attach: Attach::Patch(name), .. } = &link.kind
                    && let Some(ends) = ends.get_mut(name.as_str())
                {
                    ends.push((!it.standing.connected, link, outer));
                }
            }
        }
        let ordered = |(name, mut ends): (&'a str, Vec<(bool, &'a Link, &'a IfName)>)| {
            let tunnels = tunnels.remove(name).unwrap_or_default();
            ends.sort_by(|a, b| (a.0, &a.1.id).cmp(&(b.0, &b.1.id)));
            let more = ends.split_off(ends.len().min(2_usize.saturating_sub(tunnels.len())));
            let joined = ends.into_iter().map(|it| it.2.clone()).chain(tunnels).collect();
            (name, Ends { joined, more: more.into_iter().map(|it| (it.2.clone(), it.1)).collect() })
        };
        ends.into_iter().map(ordered).collect()
    }

    /// The patches that tunnels are ends of.
    fn tunnel_patches(&self) -> Vec<Patch> {
        let is_patch =
            |name: &&str| self.network.bridges.get(*name).is_some_and(|it| it.mode == BridgeMode::Patch);
        let names: BTreeSet<&str> =
            self.network.tunnels.iter().map(|it| it.bridge.as_str()).filter(is_patch).collect();
        let patch = |(name, ends): (&str, Ends<'_>)| Patch { name: name.to_owned(), ends: ends.joined };
        self.patch_ends(names.into_iter()).into_iter().map(patch).collect()
    }

    fn tunnels(&self) -> Vec<TunnelSpec> {
        let spec = |it: &Tunnel| {
            let mode = self.network.bridges.get(&it.bridge).map(|it| it.mode);
            let attach = match (mode, it.bridge.parse()) {
                (Some(BridgeMode::Patch), _) => Attach::Patch(it.bridge.clone()),
                (Some(BridgeMode::Ovs), Ok(name)) => Attach::Ovs(name),
                (_, Ok(name)) => Attach::Bridge(name),
                // Names that are no interface's are refused before.
                (_, Err(_)) => return None,
            };
            Some(TunnelSpec {
                name: it.name.clone(),
                attach,
                underlay: if self.own.bridges_apart { Ns::Host } else { Ns::Bridges },
                options: TunnelOptions {
                    kind: it.kind,
                    vni: it.vni,
                    remote: it.remote,
                    local: it.local,
                    dstport: it.dstport.unwrap_or_else(|| it.kind.default_port()),
                    ttl: it.ttl.unwrap_or(0),
                },
                mac: it.mac,
                mtu: it.mtu,
                netem: it.netem.clone().filter(|_| !self.own.without_netem),
            })
        };
        let tunnels = self.network.tunnels.iter();
        tunnels.filter(|_| !self.own.bridges_apart || !self.own.no_host).filter_map(spec).collect()
    }

    /// Every forwarded port, of those who were there first; and why others cannot have theirs.
    fn forwards(&self) -> GrantedForwards {
        let mut all: Vec<(bool, &Link)> = Vec::new();
        for it in self.containers.values() {
            let links = it.instance.links.iter().filter(|it| !it.forwards.is_empty());
            all.extend(links.map(|link| (!it.standing.connected, link)));
        }
        all.sort_by(|a, b| (a.0, &a.1.id).cmp(&(b.0, &b.1.id)));
        let mut forwards = GrantedForwards { granted: Vec::new(), refused: Vec::new() };
        let mut ports: BTreeMap<(Protocol, u16), &LinkId> = BTreeMap::new();
        let mut addrs: BTreeMap<IpAddr, (&IfName, &LinkId)> = BTreeMap::new();
        for (_, link) in all {
            let LinkKind::Veth { attach: Attach::Bridge(bridge) | Attach::Ovs(bridge), .. } = &link.kind
            else {
                continue;
            };
            let mut refuse = |item: Option<Item>, message: String, help: &str| {
                forwards.refused.push(Failure {
                    subject: Subject::Link(link.id.clone()),
                    message,
                    help: Some(help.to_owned()),
                    origin: item.map(|it| link.origin_of(&it).to_owned()),
                    is_final: false,
                });
            };
            if self.own.on_host {
                refuse(
                    link.forwards.first().map(|it| Item::Forward(*it)),
                    "ports are forwarded from the engine's own container, and the engine runs in none"
                        .to_owned(),
                    "run the engine as a service of the project, with `ports:` for what is to be published",
                );
                continue;
            }
            // One address of each family.
            let v4 = link.addrs.iter().map(|it| it.addr()).find(IpAddr::is_ipv4);
            let v6 = link.addrs.iter().map(|it| it.addr()).find(IpAddr::is_ipv6);
            for to in [v4, v6].into_iter().flatten() {
                let (other, holder) = *addrs.entry(to).or_insert((bridge, &link.id));
                if other != bridge {
                    refuse(
                        link.addrs.iter().find(|it| it.addr() == to).map(|it| Item::Addr(*it)),
                        format!(
                            "forwards to {to} on bridge `{bridge}`, and {holder} has that address on bridge `{other}`"
                        ),
                        "give one of the two another address",
                    );
                    continue;
                }
                for forward in &link.forwards {
                    let holder = *ports.entry((forward.protocol, forward.outer)).or_insert(&link.id);
                    if *holder != link.id {
                        refuse(
                            Some(Item::Forward(*forward)),
                            format!(
                                "port {}/{} is forwarded to {holder} already",
                                forward.outer, forward.protocol
                            ),
                            "each replica takes the next port: leave room between those of two services",
                        );
                        continue;
                    }
                    forwards.granted.push(ForwardSpec {
                        link: link.id.clone(),
                        bridge: bridge.clone(),
                        forward: *forward,
                        to,
                    });
                }
            }
        }
        forwards
    }

    /// The bridges that links are ports of, with what the configuration says of them.
    fn bridges_of<'a>(&self, links: impl Iterator<Item = &'a Link>) -> BTreeMap<(Place, IfName), BridgeSpec> {
        let attached = links.filter_map(|it| match &it.kind {
            LinkKind::Veth { place, attach: Attach::Bridge(name), .. } => Some((*place, name.clone(), false)),
            LinkKind::Veth { place, attach: Attach::Ovs(name), .. } => Some((*place, name.clone(), true)),
            _ => None,
        });
        attached
            .map(|(place, name, ovs)| {
                let options = self.network.bridges.get(name.as_str()).map(|it| it.options.clone());
                let join_foreign = place == Place::Host;
                ((place, name), BridgeSpec { options: options.unwrap_or_default(), join_foreign, ovs })
            })
            .collect()
    }

    /// Those of the configuration, and those that only replicas name (`rack{{index}}`).
    fn bridges(&self) -> BTreeMap<(Place, IfName), BridgeSpec> {
        let mut bridges = self.bridges_of(self.containers.values().flat_map(|it| &it.instance.links));
        for it in self.network.bridges.values().filter(|it| it.mode != BridgeMode::Patch) {
            if let Ok(name) = it.name.parse() {
                let spec = BridgeSpec {
                    options: it.options.clone(),
                    join_foreign: it.place == Place::Host,
                    ovs: it.mode == BridgeMode::Ovs,
                };
                bridges.insert((it.place, name), spec);
            }
        }
        bridges.retain(|(place, _), _| self.may_act(*place));
        bridges
    }

    fn nothing(&self, scope: Scope) -> Desired {
        Desired::nothing(self.project().to_owned(), scope)
    }
}

/// Why what is on the host cannot be had without it.
fn without_host(subject: Subject) -> Failure {
    Failure {
        subject,
        message: "it needs the host's own network, which an ordinary user may not change".to_owned(),
        help: Some("run the lab as root".to_owned()),
        origin: None,
        is_final: true,
    }
}

pub(super) fn outers(links: &[Link]) -> BTreeSet<(Place, IfName)> {
    let outer = |it: &Link| match &it.kind {
        LinkKind::Veth { place, outer, .. } => Some((*place, outer.clone())),
        _ => None,
    };
    links.iter().filter_map(outer).collect()
}

pub(super) fn patches(links: &[Link]) -> BTreeSet<String> {
    let patch = |it: &Link| match &it.kind {
        LinkKind::Veth { attach: Attach::Patch(name), .. } => Some(name.clone()),
        _ => None,
    };
    links.iter().filter_map(patch).collect()
}
