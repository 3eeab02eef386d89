//! A model of the kernel to which steps can be applied, for fast tests of sequences of events.

use std::collections::BTreeMap;

use conlink::addr::IfName;
use conlink::container::ContainerId;
use conlink::device::BridgeOptions;
use conlink::kernel;
use conlink::plan::{
    FeatureState, Interface, Kind, Look, Names, News, Ns, Observed, ObservedAddr, ObservedRoute, OvsBridge,
    OvsError, Qdisc, Space, Step, Which,
};
use conlink::wire::World;

/// Namespaces by number; number 0 is where bridges live, 1 the host's.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) spaces: BTreeMap<u64, Space>,
    pub(crate) attached: BTreeMap<ContainerId, u64>,
    pub(crate) ovs: BTreeMap<IfName, OvsBridge>,
    /// Open vSwitch does not answer, for this reason.
    pub(crate) ovs_error: Option<OvsError>,
    /// What changed since the last look at it, whoever changed it.
    pub(crate) news: News,
    next_index: u32,
}

pub(crate) const BRIDGES: u64 = 0;
pub(crate) const HOST: u64 = 1;

impl Model {
    pub(crate) fn new() -> Self {
        let spaces = BTreeMap::from([(BRIDGES, Space::default()), (HOST, Space::default())]);
        Self { spaces, next_index: 1, ..Self::default() }
    }

    /// Something of an interface changed.
    pub(crate) fn tell(&mut self, number: u64, name: &str) {
        match number {
            BRIDGES => drop(self.news.bridges.changed.insert(name.to_owned())),
            HOST => drop(self.news.host.changed.insert(name.to_owned())),
            _ => drop(self.news.inside.insert(number)),
        }
    }

    fn tell_deleted(&mut self, number: u64, name: &IfName) {
        match number {
            BRIDGES => drop(self.news.bridges.deleted.insert(name.to_string())),
            HOST => drop(self.news.host.deleted.insert(name.to_string())),
            _ => drop(self.news.inside.insert(number)),
        }
    }

    /// What is looked at is no news any more.
    fn forget(&mut self, ns: &Ns, look: &Look) {
        let names = match ns {
            Ns::Bridges => &mut self.news.bridges,
            Ns::Host => &mut self.news.host,
            Ns::Container(_) => {
                if let Some(number) = self.number(ns) {
                    self.news.inside.remove(&number);
                }
                return;
            }
        };
        match &look.interfaces {
            Which::All => *names = Names::default(),
            Which::Names(looked) => {
                let is_left = |it: &String| !looked.iter().any(|name| name.as_str() == it);
                names.changed.retain(is_left);
                names.deleted.retain(is_left);
            }
        }
    }

    pub(crate) fn observe(&self, looks: &BTreeMap<Ns, Look>) -> Observed {
        let mut observed = Observed::default();
        if looks.values().any(|it| it.ovs) {
            observed.ovs_error.clone_from(&self.ovs_error);
            if self.ovs_error.is_none() {
                observed.ovs.clone_from(&self.ovs);
            }
        }
        for (ns, look) in looks {
            let Some(space) = self.number(ns).and_then(|it| self.spaces.get(&it)) else { continue };
            let mut space = space.clone();
            if let Which::Names(names) = &look.interfaces {
                space.interfaces.retain(|name, _| names.contains(name));
            }
            observed.spaces.insert(ns.clone(), space);
        }
        observed
    }

    fn number(&self, ns: &Ns) -> Option<u64> {
        match ns {
            Ns::Bridges => Some(BRIDGES),
            Ns::Host => Some(HOST),
            Ns::Container(id) => self.attached.get(id).copied(),
        }
    }

    fn space(&mut self, ns: &Ns) -> Result<&mut Space, String> {
        let number = self.number(ns).ok_or("No such process")?;
        self.spaces.get_mut(&number).ok_or_else(|| "No such process".to_owned())
    }

    fn interface(&mut self, ns: &Ns, name: &IfName) -> Result<&mut Interface, String> {
        self.space(ns)?.interfaces.get_mut(name).ok_or_else(|| "No such device".to_owned())
    }

    pub(crate) fn add(&mut self, number: u64, name: &IfName, kind: Kind, group: u32) -> Result<u32, String> {
        let index = self.next_index;
        let space = self.spaces.entry(number).or_default();
        if space.interfaces.contains_key(name) {
            return Err("File exists".to_owned());
        }
        let v6_off = space.v6_off_by_default;
        let interface = Interface { group, v6_off, ..Interface::new(index, kind) };
        space.interfaces.insert(name.clone(), interface);
        self.next_index += 1;
        self.tell(number, name.as_str());
        Ok(index)
    }

    /// Removes an interface, and a veth's other end with it.
    pub(crate) fn del(&mut self, number: u64, name: &IfName) {
        let Some(space) = self.spaces.get_mut(&number) else { return };
        let Some(gone) = space.interfaces.remove(name) else { return };
        space.routes.retain(|it| it.route.dev.as_ref() != Some(name));
        self.tell_deleted(number, name);
        let mut told = Vec::new();
        for (number, space) in &mut self.spaces {
            for it in space.interfaces.values_mut() {
                it.master = it.master.filter(|it| *it != gone.index);
                // A redirect stays when its target goes, and leads nowhere.
                it.redirect = it.redirect.map(|it| if it == gone.index { 0 } else { it });
            }
            if gone.kind == Kind::Veth {
                let peers: Vec<IfName> = space
                    .interfaces
                    .iter()
                    .filter(|(_, it)| it.kind == Kind::Veth && it.link == Some(gone.index))
                    .map(|(name, _)| name.clone())
                    .collect();
                for name in peers {
                    space.interfaces.remove(&name);
                    space.routes.retain(|it| it.route.dev.as_ref() != Some(&name));
                    told.push((*number, name));
                }
            }
        }
        told.iter().for_each(|(number, name)| self.tell_deleted(*number, name));
    }

    /// The namespace with all in it goes, as when its last process ends.
    pub(crate) fn del_space(&mut self, number: u64) {
        let names: Vec<IfName> =
            self.spaces.get(&number).map(|it| it.interfaces.keys().cloned().collect()).unwrap_or_default();
        for name in names {
            self.del(number, &name);
        }
        self.spaces.remove(&number);
        // Nobody is left in it to be told.
        self.news.inside.remove(&number);
    }

    pub(crate) fn apply(&mut self, step: &Step) -> Result<(), String> {
        if let (Some(number), Some(name)) = (self.number(step.ns()), changed(step)) {
            self.tell(number, name.as_str());
        }
        let of_ovs = matches!(
            step,
            Step::AddOvsBridge { .. }
                | Step::DelOvsBridge { .. }
                | Step::AddOvsPort { .. }
                | Step::DelOvsPort { .. }
        );
        if let Some(error) = self.ovs_error.as_ref().filter(|_| of_ovs) {
            return Err(error.message.clone());
        }
        match step {
            Step::AddBridge { ns, name, mark, options, group } => {
                let number = self.number(ns).ok_or("No such process")?;
                self.add(number, name, Kind::Bridge(options.clone()), *group)?;
                let it = self.interface(ns, name)?;
                (it.alias, it.group, it.up) = (Some(mark.clone()), 0, true);
                it.localnet.writable = true;
                it.mtu = options.mtu.unwrap_or(it.mtu);
            }
            Step::SetBridge { ns, name, options } => {
                let it = self.interface(ns, name)?;
                it.mtu = options.mtu.unwrap_or(it.mtu);
                let Kind::Bridge(have) = &mut it.kind else { return Err("no bridge".to_owned()) };
                *have = BridgeOptions {
                    stp: options.stp.or(have.stp),
                    vlan_filtering: options.vlan_filtering.or(have.vlan_filtering),
                    mcast_snooping: options.mcast_snooping.or(have.mcast_snooping),
                    group_fwd_mask: options.group_fwd_mask.or(have.group_fwd_mask),
                    mtu: None,
                    ageing_time: options.ageing_time.or(have.ageing_time),
                    forward_delay: options.forward_delay.or(have.forward_delay),
                };
            }
            Step::AddVeth { ns, name, group, mac, mtu, peer_ns, peer, .. } => {
                let (here, there) = (self.number(ns).ok_or("gone")?, self.number(peer_ns).ok_or("gone")?);
                let inner = self.add(here, name, Kind::Veth, *group)?;
                let outer = match self.add(there, peer, Kind::Veth, *group) {
                    Ok(it) => it,
                    Err(error) => {
                        self.del(here, name);
                        return Err(error);
                    }
                };
                let it = self.interface(ns, name)?;
                (it.mac, it.link, it.mtu) = (*mac, Some(outer), mtu.unwrap_or(1500));
                // Two of the four that `tx` stands for, one of them beyond this driver.
                let features = [("tx-checksum-ip-generic", false), ("tx-checksum-sctp", true)];
                it.features = features
                    .map(|(name, fixed)| {
                        (name.to_owned(), FeatureState { on: !fixed, asked_for: !fixed, fixed })
                    })
                    .into();
                let it = self.interface(peer_ns, peer)?;
                (it.link, it.mtu) = (Some(inner), mtu.unwrap_or(1500));
            }
            Step::AddStacked { ns, name, group, parent_ns, parent, kind, mac, mtu } => {
                let parent = self.interface(parent_ns, parent)?.index;
                let number = self.number(ns).ok_or("gone")?;
                self.add(number, name, Kind::Stacked(*kind), *group)?;
                let it = self.interface(ns, name)?;
                (it.mac, it.link, it.mtu) = (*mac, Some(parent), mtu.unwrap_or(1500));
            }
            Step::AddDummy { ns, name, group, mac, mtu } => {
                let number = self.number(ns).ok_or("gone")?;
                self.add(number, name, Kind::Dummy, *group)?;
                let it = self.interface(ns, name)?;
                (it.mac, it.mtu) = (*mac, mtu.unwrap_or(1500));
            }
            Step::MoveInterface { ns, name, to, to_name, mac, mtu } => {
                let there = self.number(to).ok_or("gone")?;
                let moved = self.interface(ns, name)?.clone();
                let here = self.number(ns).ok_or("gone")?;
                self.add(there, to_name, moved.kind.clone(), moved.group)?;
                self.del(here, name);
                let it = self.interface(to, to_name)?;
                (it.alias, it.mac, it.mtu) = (moved.alias, mac.or(moved.mac), mtu.unwrap_or(moved.mtu));
            }
            Step::SetPortVlan { ns, name, vlan, .. } => self.interface(ns, name)?.pvid = Some(*vlan),
            Step::DelInterface { ns, name } => {
                if let Some(number) = self.number(ns) {
                    self.del(number, name);
                }
            }
            Step::SetInterface { ns, name, change } => {
                let master = match &change.master {
                    Some(Some(bridge)) => Some(Some(self.interface(ns, bridge)?.index)),
                    Some(None) => Some(None),
                    None => None,
                };
                let it = self.interface(ns, name)?;
                it.mac = change.mac.or(it.mac);
                it.mtu = change.mtu.unwrap_or(it.mtu);
                it.master = master.unwrap_or(it.master);
                it.up = change.up.unwrap_or(it.up);
                if let Some(mark) = &change.mark {
                    (it.alias, it.group) = (Some(mark.clone()), 0);
                }
            }
            Step::EnableV6 { ns, name } => self.interface(ns, name)?.v6_off = false,
            Step::AddAddr { ns, dev, cidr } => {
                self.interface(ns, dev)?.addrs.push(ObservedAddr {
                    cidr: *cidr,
                    ours: true,
                    broadcast: cidr.addr().is_ipv4(),
                });
            }
            Step::DelAddr { ns, dev, cidr } => self.interface(ns, dev)?.addrs.retain(|it| it.cidr != *cidr),
            Step::SetRoute { ns, route, .. } => {
                let space = self.space(ns)?;
                let new = ObservedRoute { route: route.clone(), ours: true };
                space.routes.retain(|it| it.route.place() != new.route.place());
                space.routes.push(new);
            }
            Step::DelRoute { ns, route } => self.space(ns)?.routes.retain(|it| it.route != *route),
            Step::SetFeatures { ns, name, features } | Step::ResetFeatures { ns, name, features } => {
                for (feature, state) in &mut self.interface(ns, name)?.features {
                    let wanted = features.iter().rev().find(|(it, _)| it.covers(feature));
                    if let Some((_, on)) = wanted.filter(|_| !state.fixed) {
                        (state.on, state.asked_for) = (*on, *on);
                    }
                }
            }
            Step::SetEthtool { ns, name, setting } => {
                self.interface(ns, name)?.settings.push(setting.clone())
            }
            Step::AddNetem { ns, name, netem } | Step::SetNetem { ns, name, netem } => {
                let netem = netem.observable();
                self.interface(ns, name)?.qdisc = Some(Qdisc::Netem { netem, ours: true });
            }
            Step::DelNetem { ns, name } => self.interface(ns, name)?.qdisc = None,
            Step::SetNat { ns, del, add } => {
                let space = self.space(ns)?;
                space.nat.retain(|it| !del.contains(it));
                space.nat.extend(add.iter().cloned());
            }
            Step::SetForwarding { ns, v6 } => {
                let forwarding = &mut self.space(ns)?.forwarding;
                *(if *v6 { &mut forwarding.v6 } else { &mut forwarding.v4 }) = true;
            }
            Step::SetLocalnet { ns, name, on } => self.interface(ns, name)?.localnet.on = *on,
            Step::AddTunnel { ns, name, group, options, mac, mtu, .. } => {
                let number = self.number(ns).ok_or("gone")?;
                self.add(number, name, Kind::Tunnel(options.clone()), *group)?;
                let it = self.interface(ns, name)?;
                (it.mac, it.mtu) = (*mac, mtu.unwrap_or(1450));
            }
            Step::AddOvsBridge { name, mark } => {
                self.add(BRIDGES, name, Kind::Other("openvswitch".to_owned()), 0)?;
                let bridge = OvsBridge { mark: Some(mark.clone()), ..OvsBridge::default() };
                self.ovs.insert(name.clone(), bridge);
            }
            Step::DelOvsBridge { name } => {
                self.ovs.remove(name);
                self.del(BRIDGES, name);
            }
            Step::AddOvsPort { bridge, port, mark, .. } => {
                self.ovs.values_mut().for_each(|it| drop(it.ports.remove(port)));
                let bridge = self.ovs.get_mut(bridge).ok_or("no such bridge")?;
                bridge.ports.insert(port.clone(), Some(mark.clone()));
            }
            Step::DelOvsPort { bridge, port } => {
                self.ovs.get_mut(bridge).map(|it| it.ports.remove(port));
            }
            Step::AddRedirect { ns, from, to } => {
                let to = self.interface(ns, to)?.index;
                self.interface(ns, from)?.redirect = Some(to);
            }
            Step::DelRedirect { ns, from } => self.interface(ns, from)?.redirect = None,
        }
        Ok(())
    }
}

impl World for Model {
    fn observe(&mut self, looks: &BTreeMap<Ns, Look>) -> Result<Observed, kernel::Error> {
        looks.iter().for_each(|(ns, look)| self.forget(ns, look));
        Ok(Self::observe(self, looks))
    }

    fn apply(&mut self, step: &Step) -> Result<(), kernel::Error> {
        let error = |it: String| kernel::Error::new(step.to_string(), std::io::Error::other(it));
        Self::apply(self, step).map_err(error)
    }

    fn del_interfaces(&mut self, ns: &Ns, names: &[&IfName]) -> Result<(), kernel::Error> {
        if let Some(number) = self.number(ns) {
            names.iter().for_each(|it| self.del(number, it));
        }
        Ok(())
    }
}

/// The interface of which a step changes something.
fn changed(step: &Step) -> Option<&IfName> {
    match step {
        Step::SetBridge { name, .. }
        | Step::SetInterface { name, .. }
        | Step::SetFeatures { name, .. }
        | Step::ResetFeatures { name, .. }
        | Step::SetEthtool { name, .. }
        | Step::AddNetem { name, .. }
        | Step::SetNetem { name, .. }
        | Step::DelNetem { name, .. } => Some(name),
        Step::AddAddr { dev, .. } | Step::DelAddr { dev, .. } => Some(dev),
        Step::AddRedirect { from, .. } | Step::DelRedirect { from, .. } => Some(from),
        _ => None,
    }
}
