//! Jobs: the desired state of a part of the network, for the containers that run now.

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

/// Forwarded ports, and the failures of those that cannot be forwarded.
struct AssignedForwards {
    granted: Vec<ForwardSpec>,
    refused: Vec<Failure>,
}

/// The outer ends that a patch joins, ends that are up first, and the links beyond two.
#[derive(Default)]
struct Ends<'a> {
    joined: Vec<IfName>,
    more: Vec<(IfName, &'a Link)>,
}

impl Reconciler {
    /// Bridges and tunnels, and the removal of everything of ours that is no longer configured.
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

    /// Where interfaces of ours may be, outside of containers. That includes the host, whatever the configuration says:
    /// an engine that was killed may have had another configuration.
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
                ..self.nothing(Scope::Containers {
                    names: BTreeSet::new(),
                    outers: BTreeSet::new(),
                    only: None,
                })
            },
            refused: self.tunnels_without_host(),
        }
    }

    /// May conlink change interfaces there?
    fn may_act(&self, place: Place) -> bool {
        !self.own.no_host || place != Place::Host
    }

    /// The failures of tunnels without access to the host, whose routes their packets take.
    fn tunnels_without_host(&self) -> Vec<Failure> {
        let refused = self.network.tunnels.iter().filter(|_| self.own.bridges_apart && self.own.no_host);
        let failure = |it: &Tunnel| {
            let origin = Some(it.origin.clone());
            Failure { origin, ..without_host(Subject::Tunnel(it.name.clone())) }
        };
        refused.map(failure).collect()
    }

    pub(super) fn teardown(&self) -> Job {
        // One container per namespace is enough.
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
        // If other containers use the namespace, interfaces of this one are still in it.
        let mut job = match left.netns.filter(|it| self.containers.values().any(|c| c.netns == Some(*it))) {
            Some(netns) => self.containers_job(netns),
            None => Job {
                number: 0,
                about: About::Gone(name.clone()),
                desired: self.nothing(Scope::Containers {
                    names: BTreeSet::new(),
                    outers: BTreeSet::new(),
                    only: None,
                }),
                refused: Vec::new(),
            },
        };
        job.about = About::Gone(name.clone());
        if let Scope::Containers { names, outers, .. } = &mut job.desired.scope {
            names.insert(name);
            // Another replica may have the name by now.
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
            // Its addresses and ports on bridges are checked there.
            job.desired.bridges = self.bridges();
        }
        job
    }

    /// All links of the containers in one namespace.
    pub(super) fn containers_job(&self, netns: u64) -> Job {
        let here: BTreeMap<&ContainerId, &Tracked> =
            self.containers.iter().filter(|(_, it)| it.netns == Some(netns)).collect();
        let names = here.values().map(|it| it.container.name.clone()).collect();
        let outers = here.values().flat_map(|it| outers(&it.instance.links));
        let outers = outers.filter(|it| self.may_act(it.0)).collect();
        let problems = here.values().flat_map(|it| it.instance.problems.iter().cloned());
        let mut refused: Vec<Failure> = problems.map(Failure::from).collect();
        let mut desired = self.nothing(Scope::Containers { names, outers, only: None });
        let mut third = BTreeSet::new();
        let patches: BTreeSet<String> = here.values().flat_map(|it| patches(&it.instance.links)).collect();
        let names: BTreeSet<&str> = here.values().map(|it| it.container.name.as_str()).collect();
        for (patch, Ends { joined: ends, more }) in self.patch_ends(patches.iter().map(String::as_str)) {
            for (end, link) in more.into_iter().filter(|(_, it)| names.contains(it.id.container.as_str())) {
                let message = format!(
                    "patch `{patch}` joins exactly two links, and already has {}",
                    ends.iter().map(IfName::to_string).collect::<Vec<_>>().join(" and ")
                );
                third.insert(end);
                refused.push(Failure {
                    subject: Subject::Link(link.id.clone()),
                    message,
                    help: None,
                    origin: Some(link.origin_of(&Item::Bridge).to_owned()),
                    is_final: false,
                    is_unsupported: false,
                });
            }
            desired.patches.push(Patch { name: patch.to_owned(), ends });
        }
        // The namespace is opened through its first container.
        if let Some(first) = here.keys().next() {
            desired.inside.insert((*first).clone());
            let links = here.values().flat_map(|it| &it.instance.links);
            let (links, away): (Vec<_>, Vec<_>) =
                links.partition(|it| it.kind.place().is_none_or(|it| self.may_act(it)));
            refused.extend(away.iter().map(|it| without_host(Subject::Link(it.id.clone()))));
            let mine = links
                .into_iter()
                .filter(|it| !matches!(&it.kind, LinkKind::Veth { outer, .. } if third.contains(outer)));
            desired.links = mine.map(|it| ((*first).clone(), self.current(it))).collect();
        }
        desired.bridges = self.bridges_of(desired.links.iter().map(|(_, it)| it));
        if desired.links.iter().any(|(_, it)| !it.forwards.is_empty()) {
            let AssignedForwards { mut granted, refused: conflicts } = self.forwards();
            let ids: BTreeSet<&LinkId> = desired.links.iter().map(|(_, it)| &it.id).collect();
            let mine = |it: &Failure| matches!(&it.subject, Subject::Link(id) if ids.contains(id));
            refused.extend(conflicts.into_iter().filter(mine));
            granted.retain(|it| ids.contains(&it.link));
            desired.forwards = Some(Forwards { specs: granted, whole: false });
        }
        let about = About::Containers(here.into_keys().cloned().collect());
        Job { number: 0, about, desired, refused }
    }

    /// A link with its overrides and with the options of this engine.
    fn current(&self, link: &Link) -> Link {
        let link = self.overrides.apply(link);
        match self.own.without_netem {
            true => Link { netem: None, netem_in: None, ..link },
            false => link,
        }
    }

    /// The ends of these patches, found in one pass over all links. The plan checks which of them exist.
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

    /// The patches with tunnels.
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
                // Invalid names have been refused before.
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

    /// All forwarded ports. If several links want the same one, the first has it, and the others get a failure.
    fn forwards(&self) -> AssignedForwards {
        let mut all: Vec<(bool, &Link)> = Vec::new();
        for it in self.containers.values() {
            let links = it.instance.links.iter().filter(|it| !it.forwards.is_empty());
            all.extend(links.map(|link| (!it.standing.connected, link)));
        }
        all.sort_by(|a, b| (a.0, &a.1.id).cmp(&(b.0, &b.1.id)));
        let mut forwards = AssignedForwards { granted: Vec::new(), refused: Vec::new() };
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
                    is_unsupported: false,
                });
            };
            if self.own.on_host {
                refuse(
                    link.forwards.first().map(|it| Item::Forward(*it)),
                    "`forward` needs an engine that runs in a container, because it forwards from the engine's container"
                        .to_owned(),
                    "run conlink as a service of the project, and publish the ports with `ports:`",
                );
                continue;
            }
            // One address per family.
            let v4 = link.addrs.iter().map(|it| it.addr()).find(IpAddr::is_ipv4);
            let v6 = link.addrs.iter().map(|it| it.addr()).find(IpAddr::is_ipv6);
            for to in [v4, v6].into_iter().flatten() {
                let (other, holder) = *addrs.entry(to).or_insert((bridge, &link.id));
                if other != bridge {
                    refuse(
                        link.addrs.iter().find(|it| it.addr() == to).map(|it| Item::Addr(*it)),
                        format!(
                            "cannot forward to {to} on bridge `{bridge}`: {holder} has the same address on bridge `{other}`"
                        ),
                        "use different addresses",
                    );
                    continue;
                }
                for forward in &link.forwards {
                    let holder = *ports.entry((forward.protocol, forward.outer)).or_insert(&link.id);
                    if *holder != link.id {
                        refuse(
                            Some(Item::Forward(*forward)),
                            format!(
                                "port {}/{} is already forwarded to {holder}",
                                forward.outer, forward.protocol
                            ),
                            "each replica uses the next port: leave enough ports between two services",
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

    /// The bridges of these links, with their configuration.
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

    /// All bridges: those of the configuration, and those that only links of replicas name (`rack{{index}}`).
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

/// The failure of something that needs the host's network namespace.
fn without_host(subject: Subject) -> Failure {
    Failure {
        subject,
        message: "an ordinary user may not change the host's network".to_owned(),
        help: Some("run the lab as root".to_owned()),
        origin: None,
        is_final: true,
        is_unsupported: false,
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
