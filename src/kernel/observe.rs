//! What a plan needs to know of the namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use crate::addr::IfName;
use crate::kernel::netlink::Error;
use crate::kernel::ovs::Ovs;
use crate::kernel::{Kernel, addr, link, route, sysctl};
use crate::plan::{
    Interface, Kind, Look, Mark, Ns, Observed, OvsBridge, OvsError, Space, When, Which, is_making,
};

impl Kernel {
    /// Reads the requested parts of the namespaces. Notices of changes to them are dropped, except in
    /// [`Kernel::keeping_notices`].
    pub fn observe(&mut self, looks: &BTreeMap<Ns, Look>) -> Result<Observed, Error> {
        let mut observed = Observed::default();
        // First, because its start makes interfaces.
        if looks.values().any(|it| it.ovs) {
            let names = match looks.get(&Ns::Bridges).map(|it| &it.interfaces) {
                Some(Which::Names(names)) => Some(names),
                Some(Which::All) | None => None,
            };
            match self.observe_ovs(names) {
                Ok(bridges) => observed.ovs = bridges,
                Err(error) => {
                    let help = error.hint().map(str::to_owned);
                    observed.ovs_error = Some(OvsError { message: error.to_string(), help });
                }
            }
        }
        for (ns, look) in looks {
            match self.observe_space(ns, look) {
                Ok(space) => drop(observed.spaces.insert(ns.clone(), space)),
                // The container has died, and its namespace no longer exists.
                Err(error) if error.is_gone() && matches!(ns, Ns::Container(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.find_unused(&mut observed);
        Ok(observed)
    }

    /// Adds ports whose interface was made again to the unused ones: Open vSwitch may still use the earlier interface.
    fn find_unused(&self, observed: &mut Observed) {
        let Some(ovs) = self.switch.ovs.as_ref().filter(|_| !observed.ovs.is_empty()) else { return };
        let Some(space) = observed.spaces.get(&Ns::Bridges) else { return };
        let is_anew =
            |(name, index): &(IfName, u32)| space.interfaces.get(name).is_some_and(|it| it.index != *index);
        for (name, _) in ovs.indices().filter(is_anew) {
            let on = observed.ovs.values_mut().find(|it| it.ports.contains_key(&name));
            on.map(|it| it.unused.insert(name));
        }
    }

    /// The bridges of Open vSwitch, if it runs. `names` are those that the plan compares; None: all.
    fn observe_ovs(
        &mut self,
        names: Option<&BTreeSet<IfName>>,
    ) -> Result<BTreeMap<IfName, OvsBridge>, Error> {
        let Some(folder) = &self.switch.folder else { return Ok(BTreeMap::new()) };
        if self.switch.ovs.is_none() {
            let (datapath, look_only) = (self.switch.datapath(), self.switch.look_only);
            // The daemons of a killed engine are used again, and started if they have ended.
            self.switch.ovs = if !look_only && Ovs::is_left(folder) {
                Some(Ovs::new(&self.bridges.netns, folder, datapath)?)
            } else {
                Ovs::find(&self.bridges.netns, folder, datapath, look_only)?
            };
        }
        let Some(ovs) = &mut self.switch.ovs else { return Ok(BTreeMap::new()) };
        let dumped = ovs.dump();
        if dumped.is_ok() && !self.keeps_notices {
            ovs.forget(names);
        }
        self.listen_to_ovs();
        let mut observed = BTreeMap::new();
        for (name, bridge) in dumped? {
            let Ok(name) = name.parse() else { continue };
            let unused =
                bridge.ports.iter().filter(|(_, it)| it.error.is_some()).map(|(name, _)| name.clone());
            let unused = unused.collect();
            let ports = bridge.ports.into_iter().map(|(name, port)| (name, port.mark)).collect();
            observed.insert(name, OvsBridge { mark: bridge.mark, ports, unused });
        }
        Ok(observed)
    }

    fn observe_space(&mut self, ns: &Ns, look: &Look) -> Result<Space, Error> {
        let is_container = matches!(ns, Ns::Container(_));
        let mut strings = self.feature_names.take();
        let is_host = is_container && self.is_host(ns);
        let keeps_notices = self.keeps_notices;
        let open = self.open(ns)?;
        let mut space = Space { is_host, ..Space::default() };
        if let Some(monitor) = open.monitor.as_mut().filter(|_| !keeps_notices) {
            match &look.interfaces {
                Which::All if is_container => monitor.forget_all(),
                Which::All => monitor.forget_everything_but_rules(look.nat == When::Always),
                Which::Names(names) => {
                    monitor.forget(names.iter().map(IfName::as_str), look.nat == When::Always);
                }
            }
        }
        match &look.interfaces {
            Which::All => {
                space.interfaces = link::dump(&mut open.netlink)?.into_iter().collect();
                open.indices.clear();
            }
            Which::Names(names) => {
                for name in names {
                    open.forget(name);
                    space.interfaces.extend(link::get(&mut open.netlink, name)?);
                }
            }
        }
        open.indices.extend(space.interfaces.iter().map(|(name, it)| (name.clone(), it.index)));
        if !look.port_vlans.is_empty() {
            let vlans = link::port_vlans(&mut open.netlink)?;
            for name in &look.port_vlans {
                if let Some(it) = space.interfaces.get_mut(name) {
                    it.pvid = vlans.get(&it.index).copied();
                }
            }
        }
        // Addresses and routes matter only with interfaces that have a mark.
        let is_marked = |it: &Interface| it.alias.as_deref().is_some_and(|it| Mark::parse(it).is_some());
        let is_ours = |it: &Interface| is_marked(it) || is_making(it.group);
        let any_ours = space.interfaces.values().any(is_ours);
        let is_due = |when: When| match when {
            When::Never => false,
            When::WithInterfaces => any_ours,
            When::Always => true,
        };
        if is_due(look.addresses) {
            let names: BTreeMap<u32, IfName> =
                space.interfaces.iter().map(|(name, it)| (it.index, name.clone())).collect();
            for (index, addr) in addr::dump(&mut open.netlink)? {
                if let Some(it) = names.get(&index).and_then(|name| space.interfaces.get_mut(name)) {
                    it.addrs.push(addr);
                }
            }
            let known = open.routes.take(&names).filter(|_| look.addresses == When::WithInterfaces);
            let protocols = (!look.routes_of_others).then_some(&look.protocols);
            if let Some(monitor) = &mut open.monitor {
                monitor.hear_routes_of_others(look.routes_of_others);
            }
            space.routes = match known {
                Some(it) => it,
                None => route::dump(&mut open.netlink, &names, protocols)?,
            };
            if let Some(monitor) = &mut open.monitor {
                let ours = space.routes.iter().filter(|it| it.ours).map(|it| it.route.dst);
                monitor.set_routes(ours.chain(look.destinations.iter().copied()));
            }
        }
        let is_bare = !any_ours && look.interfaces == Which::All;
        open.routes = if is_bare { route::Known::Bare } else { route::Known::Unknown };
        open.observe_qdiscs(&mut space, look, *ns == Ns::Bridges, any_ours || !is_container)?;
        if is_due(look.nat) {
            space.nat = open.nft.dump()?;
            if !is_container {
                space.forwarding = sysctl::forwarding(&open.netns)
                    .map_err(|it| Error::new("read whether packets are forwarded", it))?;
            }
            if *ns == Ns::Bridges {
                observe_localnet(&open.netns, &mut space)?;
            }
        }
        let has_rules = !space.nat.is_empty();
        if look.v6_default {
            space.v6_off_by_default = sysctl::is_v6_off_by_default(&open.netns)
                .map_err(|it| Error::new("read whether IPv6 is disabled", it))?;
        }
        for (name, wanted) in &look.ethtool {
            if let Some(interface) = space.interfaces.get_mut(name) {
                open.observe_ethtool(name, wanted, interface, &mut strings);
            }
        }
        self.feature_names = strings;
        if has_rules && let Some(listener) = self.listener.take() {
            let heard = self.open(ns).and_then(|it| it.listen_to_rules(&listener));
            self.listener = Some(listener);
            heard?;
        }
        Ok(space)
    }
}

/// Reads whether bridges route addresses in 127.0.0.0/8.
fn observe_localnet(netns: &File, space: &mut Space) -> Result<(), Error> {
    let bridges =
        space.interfaces.iter().filter(|(_, it)| matches!(it.kind, Kind::Bridge(_) | Kind::Other(_)));
    let names: Vec<IfName> = bridges.map(|(name, _)| name.clone()).collect();
    let found = sysctl::localnet(netns, &names).map_err(|it| Error::new("read route_localnet", it))?;
    for (name, localnet) in found {
        if let Some(it) = space.interfaces.get_mut(&name) {
            it.localnet = localnet;
        }
    }
    Ok(())
}
