//! What is to be made so: the desired state of a part, from what runs now.

use std::collections::{BTreeMap, BTreeSet};

use crate::addr::IfName;
use crate::container::ContainerId;
use crate::network::{Attach, BridgeMode, Link, LinkKind, Place};
use crate::plan::{BridgeSpec, Desired, Patch, Scope, Subject};
use crate::reconcile::state::{Left, Reconciler, Tracked};
use crate::reconcile::{About, Failure, Job};

impl Reconciler {
    /// Bridges, and the removal of everything of ours that nobody wants any more.
    pub(super) fn base_job(&self) -> Job {
        let keep = self.containers.values().flat_map(|it| outers(&it.instance.links)).collect();
        let places = self.network.places();
        let scope = Scope::Project { places, keep };
        let mut job = self.bridges_job();
        job.desired.scope = scope;
        job
    }

    pub(super) fn bridges_job(&self) -> Job {
        Job {
            about: About::Base,
            desired: Desired {
                bridges: self.bridges(),
                ..self.nothing(Scope::Containers { names: BTreeSet::new(), outers: BTreeSet::new() })
            },
            refused: self.refused(),
        }
    }

    /// What the configuration has that this version cannot carry out: said by name, never left out in silence.
    fn refused(&self) -> Vec<Failure> {
        let failure = |name: &str, what: &str, origin: &str| Failure {
            subject: Subject::Bridge(name.to_owned()),
            message: format!("{what} cannot be carried out by this version{origin}"),
            help: None,
            is_final: true,
        };
        let ovs = self.network.bridges.values().filter(|it| it.mode == BridgeMode::Ovs);
        let bridges = ovs.map(|it| failure(&it.name, "mode ovs", ""));
        let tunnels = self.network.tunnels.iter();
        bridges
            .chain(
                tunnels.map(|it| {
                    failure(&it.bridge, &format!("tunnel {}", it.name), &format!(" ({})", it.origin))
                }),
            )
            .collect()
    }

    pub(super) fn teardown(&self) -> Job {
        // One container of each namespace is enough to reach it.
        let inside: BTreeMap<u64, ContainerId> =
            self.containers.iter().filter_map(|(id, it)| Some((it.netns?, id.clone()))).collect();
        let scope = Scope::Project { places: self.network.places(), keep: BTreeSet::new() };
        let desired = Desired { inside: inside.into_values().collect(), ..self.nothing(scope) };
        Job { about: About::Teardown, desired, refused: Vec::new() }
    }

    pub(super) fn gone_job(&self, name: String, left: Left) -> Job {
        // A namespace that others still use keeps what the one that is gone had in it.
        let mut job = match left.netns.filter(|it| self.containers.values().any(|c| c.netns == Some(*it))) {
            Some(netns) => self.containers_job(netns),
            None => Job {
                about: About::Gone,
                desired: self.nothing(Scope::Containers { names: BTreeSet::new(), outers: BTreeSet::new() }),
                refused: Vec::new(),
            },
        };
        if let Scope::Containers { names, outers } = &mut job.desired.scope {
            names.insert(name);
            // Replicas come and go: a name that another container has by now is that one's.
            let taken: BTreeSet<_> =
                self.containers.values().flat_map(|it| self::outers(&it.instance.links)).collect();
            outers.extend(left.outers.into_iter().filter(|it| !taken.contains(it)));
        }
        let known: BTreeSet<String> = job.desired.patches.iter().map(|it| it.name.clone()).collect();
        for patch in left.patches.difference(&known) {
            let (ends, _) = self.patch_ends(patch);
            if !ends.is_empty() {
                job.desired.patches.push(Patch { name: patch.clone(), ends });
            }
        }
        job
    }

    /// Everything that the containers of one namespace want.
    pub(super) fn containers_job(&self, netns: u64) -> Job {
        let here: BTreeMap<&ContainerId, &Tracked> =
            self.containers.iter().filter(|(_, it)| it.netns == Some(netns)).collect();
        let names = here.values().map(|it| it.container.name.clone()).collect();
        let outers = here.values().flat_map(|it| outers(&it.instance.links)).collect();
        let problems = here.values().flat_map(|it| it.instance.problems.iter().cloned());
        let mut refused: Vec<Failure> = problems.map(Failure::from).collect();
        let mut desired = self.nothing(Scope::Containers { names, outers });
        let mut third = BTreeSet::new();
        for patch in here.values().flat_map(|it| patches(&it.instance.links)).collect::<BTreeSet<_>>() {
            let (ends, more) = self.patch_ends(&patch);
            let names: BTreeSet<&str> = here.values().map(|it| it.container.name.as_str()).collect();
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
                    is_final: false,
                });
            }
            desired.patches.push(Patch { name: patch, ends });
        }
        // Every container of the namespace reaches it by the first one's handle.
        if let Some(first) = here.keys().next() {
            desired.inside.insert((*first).clone());
            let links = here.values().flat_map(|it| &it.instance.links);
            let mine =
                links.filter(|it| !matches!(&it.kind, LinkKind::Veth { outer, .. } if third.contains(outer)));
            desired.links = mine.map(|it| ((*first).clone(), it.clone())).collect();
        }
        desired.bridges = self.bridges_of(desired.links.iter().map(|(_, it)| it));
        Job { about: About::Containers(here.into_keys().cloned().collect()), desired, refused }
    }

    /// The outer ends that a patch joins, those that are up first; then the links that are too many. Which of them
    /// are there yet, the plan sees for itself.
    fn patch_ends(&self, patch: &str) -> (Vec<IfName>, Vec<(IfName, &Link)>) {
        let mut ends: Vec<(bool, &Link, IfName)> = Vec::new();
        for it in self.containers.values().filter(|it| it.netns.is_some()) {
            for link in &it.instance.links {
                if let LinkKind::Veth { outer, attach: Attach::Patch(name), .. } = &link.kind
                    && name == patch
                {
                    ends.push((!it.standing.connected, link, outer.clone()));
                }
            }
        }
        ends.sort_by(|a, b| (a.0, &a.1.id).cmp(&(b.0, &b.1.id)));
        let more = ends.split_off(ends.len().min(2));
        (ends.into_iter().map(|it| it.2).collect(), more.into_iter().map(|it| (it.2, it.1)).collect())
    }

    /// The linux bridges that links are ports of, with what the configuration says of them.
    fn bridges_of<'a>(&self, links: impl Iterator<Item = &'a Link>) -> BTreeMap<(Place, IfName), BridgeSpec> {
        let attached = links.filter_map(|it| match &it.kind {
            LinkKind::Veth { place, attach: Attach::Bridge(name), .. } => Some((*place, name.clone())),
            _ => None,
        });
        attached
            .map(|(place, name)| {
                let options = self.network.bridges.get(name.as_str()).map(|it| it.options.clone());
                let join_foreign = place == Place::Host;
                ((place, name), BridgeSpec { options: options.unwrap_or_default(), join_foreign })
            })
            .collect()
    }

    /// Those of the configuration, and those that only replicas name (`rack{{index}}`).
    fn bridges(&self) -> BTreeMap<(Place, IfName), BridgeSpec> {
        let mut bridges = self.bridges_of(self.containers.values().flat_map(|it| &it.instance.links));
        for it in self.network.bridges.values().filter(|it| it.mode == BridgeMode::Linux) {
            if let Ok(name) = it.name.parse() {
                let spec = BridgeSpec { options: it.options.clone(), join_foreign: it.place == Place::Host };
                bridges.insert((it.place, name), spec);
            }
        }
        bridges
    }

    fn nothing(&self, scope: Scope) -> Desired {
        Desired {
            project: self.project().to_owned(),
            bridges: BTreeMap::new(),
            links: Vec::new(),
            patches: Vec::new(),
            inside: BTreeSet::new(),
            scope,
        }
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
