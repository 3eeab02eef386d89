//! One interface for one network namespace, made or removed at once, without an engine that runs.
//!
//! [`Attachment::desired`] turns a request into the same [`Desired`] that the engine plans with, so the same plan makes
//! it, checks it, and finds nothing to do when it is asked for again. Bridges and parents are in the namespace of the
//! caller, and stay when the interface is removed.

mod detach;
mod lock;
mod perform;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use crate::addr::{Cidr, IfName, Mac};
use crate::container::ContainerId;
use crate::device::{StackedKind, TunnelOptions};
use crate::netem::Netem;
use crate::network::{Attach, Link, LinkId, LinkKind, Place, Port, Stacked};
use crate::plan::{
    ATTACHED, BridgeSpec, Desired, Interface, Kind, Look, Mark, Ns, Observed, ParentSpec, Patch, Scope, Vlan,
    is_making,
};
use crate::route::Route;

pub use detach::{Found, detach, find, find_in, sweep, undo};
pub use perform::{Done, How, Refusal, attach, has_carrier, interface_with, preview};
pub use state::ovs_folder;

/// The owner of a network namespace, as users name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guest {
    /// `docker`, `podman`, `containerd`, `lxc`, `pid`, `netns` or `lab`.
    pub kind: String,
    pub name: String,
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}

impl Guest {
    /// The project in the marks of its interfaces.
    fn owner(&self) -> String {
        format!("{ATTACHED}{}", self.kind)
    }

    /// The guest that an interface was attached for, and its name there. None for one of an engine, and for a bridge.
    fn of_interface(interface: &Interface) -> Option<(Self, IfName)> {
        let mark = Mark::parse(interface.alias.as_deref()?)?;
        let kind = mark.project.strip_prefix(ATTACHED).filter(|_| !mark.container.is_empty())?;
        Some((Self { kind: kind.to_owned(), name: Mark::plain(&mark.container) }, mark.name.parse().ok()?))
    }

    fn id(&self) -> ContainerId {
        ContainerId::new(self.name.clone())
    }
}

/// One interface of one guest.
#[derive(Clone, Debug)]
pub struct Attachment {
    pub guest: Guest,
    /// Its name in the guest.
    pub dev: IfName,
    pub wiring: Wiring,
    pub mac: Option<Mac>,
    /// None: that of the bridge, or the kernel's default.
    pub mtu: Option<u32>,
    pub addrs: Vec<Cidr>,
    /// Default gateways. One outside of the subnets of `addrs` gets a route of its own.
    pub gateways: Vec<IpAddr>,
    /// Each with its interface.
    pub routes: Vec<Route>,
    /// Impairs packets that leave the guest.
    pub netem: Option<Netem>,
}

/// What the interface is, and what it is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// A veth to a bridge of the kernel, which is made if it does not exist.
    Bridge {
        bridge: IfName,
        /// The VLAN of the port on a bridge that filters VLANs, 1 to 4094.
        vlan: Option<u16>,
        /// An interface that connects the bridge to the outside, by its VLAN if one is given.
        uplink: Option<(IfName, Option<u16>)>,
        outer: Option<IfName>,
    },
    /// A veth to a bridge of Open vSwitch, which is made if it does not exist.
    Ovs {
        bridge: IfName,
        /// The tag of the port, 1 to 4094.
        vlan: Option<u16>,
        outer: Option<IfName>,
        /// `external_ids` of the port.
        ids: BTreeMap<String, String>,
    },
    /// A macvlan, ipvlan, VLAN or IPoIB interface on an interface of the host, or on a VLAN of it.
    Stacked {
        parent: IfName,
        vlan: Option<u16>,
        kind: StackedKind,
    },
    /// An interface of the host itself.
    Moved(IfName),
    Dummy,
    /// A veth that exchanges its frames with the other interface of the same patch.
    Patch(String),
    /// A tunnel whose packets take the routes of the host.
    Tunnel(TunnelOptions),
}

/// Why a request cannot be carried out as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Impossible {
    pub message: String,
    pub help: Option<String>,
}

impl Attachment {
    fn id(&self) -> LinkId {
        LinkId { container: self.guest.name.clone(), dev: self.dev.clone() }
    }

    /// What to read of the host before [`Attachment::desired`]. With `whole` that includes what an earlier interface of
    /// that name may be connected to, so that it can be made again.
    pub fn looks(&self, whole: bool) -> BTreeMap<Ns, Look> {
        let ovs = self.wiring.is_ovs();
        if whole {
            return [(Ns::Bridges, Look { ovs, ..Look::all() }), (Ns::Host, Look::all())].into();
        }
        let names: Vec<IfName> = match &self.wiring {
            Wiring::Bridge { bridge, .. } | Wiring::Ovs { bridge, .. } => vec![bridge.clone()],
            Wiring::Patch(id) => patch_ends(id).into(),
            _ => Vec::new(),
        };
        let place = Ns::from(self.wiring.place());
        BTreeMap::from([(place, Look { ovs, ..Look::names(names) })])
    }

    /// The desired state of this interface alone.
    ///
    /// `host` is what [`Attachment::looks`] asked for, with the same `whole`: an existing bridge is used as it is.
    ///
    /// # Errors
    /// What exists on the host does not allow it.
    pub fn desired(&self, host: &Observed, whole: bool) -> Result<Desired, Impossible> {
        let guest = self.guest.id();
        let place = self.wiring.place();
        let mut bridges = BTreeMap::new();
        let mut parents = BTreeMap::new();
        let mut patches = Vec::new();
        let mut link = Link::new(self.id(), LinkKind::Dummy, "");
        (link.mac, link.mtu) = (self.mac, self.mtu);
        // One that a killed command has left unfinished is made again.
        let have = |name: &IfName| host.interface(&place.into(), name).filter(|it| !is_unfinished(it));
        let outer = |given: &Option<IfName>, letters| given.clone().unwrap_or_else(|| self.outer(letters));
        link.kind = match &self.wiring {
            Wiring::Bridge { bridge, vlan, uplink, outer: given } => {
                match have(bridge) {
                    None => drop(bridges.insert((place, bridge.clone()), self.new_bridge(*vlan))),
                    Some(Interface { kind: Kind::Bridge(options), mtu, .. }) => {
                        link.mtu = link.mtu.or(Some(*mtu));
                        if vlan.is_some() && options.vlan_filtering == Some(false) {
                            return Err(unfiltered(bridge));
                        }
                    }
                    Some(_) => return Err(no_bridge(bridge, host)),
                }
                if let Some((name, vlan)) = uplink {
                    let (name, spec) = under(name, *vlan);
                    parents.insert(name, ParentSpec { master: Some(bridge.clone()), ..spec });
                }
                link.port = Port { vlan: *vlan, ids: BTreeMap::new() };
                LinkKind::Veth { place, outer: outer(given, "va"), attach: Attach::Bridge(bridge.clone()) }
            }
            Wiring::Ovs { bridge, vlan, outer: given, ids } => {
                if !host.ovs.contains_key(bridge) {
                    if have(bridge).is_some() {
                        return Err(no_switch(bridge));
                    }
                    let spec = BridgeSpec { ovs: true, ..BridgeSpec::default() };
                    bridges.insert((place, bridge.clone()), spec);
                }
                link.mtu = link.mtu.or(have(bridge).map(|it| it.mtu));
                link.port = Port { vlan: *vlan, ids: ids.clone() };
                LinkKind::Veth { place, outer: outer(given, "vo"), attach: Attach::Ovs(bridge.clone()) }
            }
            Wiring::Stacked { parent, vlan, kind } => {
                let (parent, spec) = under(parent, *vlan);
                parents.insert(parent.clone(), spec);
                LinkKind::Stacked(Stacked { place, parent, kind: *kind })
            }
            Wiring::Moved(name) => LinkKind::Moved(name.clone()),
            Wiring::Dummy => LinkKind::Dummy,
            Wiring::Patch(id) => {
                patches.push(Patch { name: id.clone(), ends: patch_ends(id).into() });
                LinkKind::Veth { place, outer: self.patch_end(id, host)?, attach: Attach::Patch(id.clone()) }
            }
            Wiring::Tunnel(options) => LinkKind::Tunnel { underlay: place, options: options.clone() },
        };
        link.addrs.clone_from(&self.addrs);
        link.routes = self.all_routes();
        link.netem.clone_from(&self.netem);
        let mut outers = BTreeSet::new();
        let new = match &link.kind {
            LinkKind::Veth { place, outer, .. } => Some((*place, outer.clone())),
            _ => None,
        };
        for place in [Place::Engine, Place::Host] {
            let space = host.spaces.get(&place.into());
            for (name, it) in space.into_iter().flat_map(|it| &it.interfaces) {
                let owner = Guest::of_interface(it);
                let is_its = owner.is_some_and(|(guest, dev)| guest == self.guest && dev == self.dev);
                // Both are the same namespace.
                let is_new = new.as_ref().is_some_and(|(_, it)| it == name);
                // To make an earlier interface again, everything that it may be connected to must be known.
                let is_known = whole && place == Place::Host;
                if (is_its && *name != self.dev || is_known) && !is_new {
                    outers.insert((place, name.clone()));
                }
            }
        }
        outers.extend(new);
        let scope = Scope::Containers {
            names: BTreeSet::from([self.guest.name.clone()]),
            outers,
            only: Some(self.dev.clone()),
        };
        Ok(Desired {
            bridges,
            parents,
            patches,
            links: vec![(guest.clone(), link)],
            inside: BTreeSet::from([guest]),
            whole: true,
            ..Desired::nothing(self.guest.owner(), scope)
        })
    }

    fn new_bridge(&self, vlan: Option<u16>) -> BridgeSpec {
        let mut spec = BridgeSpec { join_foreign: true, ..BridgeSpec::default() };
        spec.options.vlan_filtering = vlan.map(|_| true);
        spec
    }

    /// The name of its outer end, if none is given: the same in each run.
    fn outer(&self, letters: &str) -> IfName {
        IfName::hashed(letters, &[&self.guest.kind, &self.guest.name, self.dev.as_str()])
    }

    /// Which end of the patch is this interface's.
    fn patch_end(&self, id: &str, host: &Observed) -> Result<IfName, Impossible> {
        let mut others = Vec::new();
        for end in patch_ends(id) {
            let there = host.interface(&self.wiring.place().into(), &end);
            let Some(it) = there.filter(|it| !is_unfinished(it)) else { return Ok(end) };
            match Guest::of_interface(it) {
                Some((guest, dev)) if guest == self.guest && dev == self.dev => return Ok(end),
                Some((guest, dev)) => others.push(format!("{guest} ({dev})")),
                None => others.push(end.to_string()),
            }
        }
        Err(Impossible {
            message: format!("patch `{id}` already has two ends: {}", others.join(" and ")),
            help: Some("detach one of them, or use another patch".to_owned()),
        })
    }

    /// The given routes, and those by the gateways.
    fn all_routes(&self) -> Vec<Route> {
        let mut routes = Vec::new();
        for gateway in &self.gateways {
            if !self.addrs.iter().any(|it| it.contains(*gateway)) {
                routes.push(Route::to_host(*gateway, self.dev.clone()));
            }
            let mut route = Route::to_host(*gateway, self.dev.clone());
            route.dst = Cidr::everything(*gateway);
            route.via = Some(*gateway);
            routes.push(route);
        }
        routes.extend(self.routes.iter().cloned());
        routes
    }
}

impl Wiring {
    /// The namespace of its bridge or parent. Both are the caller's, but Open vSwitch and patches are of the first.
    fn place(&self) -> Place {
        match self {
            Self::Ovs { .. } | Self::Patch(_) => Place::Engine,
            _ => Place::Host,
        }
    }

    fn is_ovs(&self) -> bool {
        matches!(self, Self::Ovs { .. })
    }
}

/// The two ends of a patch.
fn patch_ends(id: &str) -> [IfName; 2] {
    ["pa", "pb"].map(|it| IfName::hashed(it, &[id]))
}

/// The name of a VLAN on an interface: `NAME.ID`, or a hash if that is too long.
pub fn vlan_name(parent: &IfName, id: u16) -> IfName {
    let long = |_| IfName::hashed("vl", &[parent.as_str(), &id.to_string()]);
    format!("{parent}.{id}").parse().unwrap_or_else(long)
}

/// The interface with this MAC address. A bridge has that of one of its ports, and so has a VLAN or a macvlan that of its
/// parent: they count only if there is no other. A bond stands for its members, which have its address.
pub fn by_mac(mac: Mac, interfaces: &BTreeMap<IfName, Interface>) -> Option<(&IfName, &Interface)> {
    let rank = |it: &Interface| match &it.kind {
        Kind::Other(kind) if kind == "bond" || kind == "team" => 0,
        Kind::Bridge(_) | Kind::Stacked(_) => 2,
        _ => 1,
    };
    interfaces.iter().filter(|(_, it)| it.mac == Some(mac)).min_by_key(|(_, it)| rank(it))
}

/// The interface that a link is on: the given one, or its VLAN.
fn under(name: &IfName, vlan: Option<u16>) -> (IfName, ParentSpec) {
    let Some(id) = vlan else { return (name.clone(), ParentSpec::default()) };
    let spec = ParentSpec { vlan: Some(Vlan { parent: name.clone(), id }), master: None };
    (vlan_name(name, id), spec)
}

/// Has a killed command made it, and had no time to mark it?
fn is_unfinished(it: &Interface) -> bool {
    it.alias.is_none() && is_making(it.group)
}

fn no_switch(bridge: &IfName) -> Impossible {
    Impossible {
        message: format!("interface `{bridge}` is not a bridge of Open vSwitch"),
        help: Some("for a Linux bridge, use `--bridge`".to_owned()),
    }
}

fn unfiltered(bridge: &IfName) -> Impossible {
    Impossible {
        message: format!("bridge `{bridge}` does not filter VLANs"),
        help: Some(format!("run `ip link set {bridge} type bridge vlan_filtering 1`")),
    }
}

fn no_bridge(name: &IfName, host: &Observed) -> Impossible {
    let help = if host.ovs.contains_key(name) {
        "it is a bridge of Open vSwitch: use `--ovs`"
    } else {
        "to put an interface on it, use `--macvlan` or `--ipvlan`; to move it, `--move`"
    };
    Impossible { message: format!("interface `{name}` is not a bridge"), help: Some(help.to_owned()) }
}
