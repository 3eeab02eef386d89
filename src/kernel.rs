//! Access to the kernel: reads its state and applies steps.
//!
//! Architecture invariant: this module makes no decisions. A step specifies everything that it does.

mod addr;
mod attribute;
mod ethtool;
mod hint;
mod link;
mod monitor;
mod netem;
mod netlink;
pub mod netns;
mod nft;
mod open;
pub mod ovs;
pub mod ping;
mod route;
mod sysctl;
mod tc;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};

use crate::addr::IfName;
use crate::container::ContainerId;
use crate::device::{BridgeOptions, TunnelOptions};
use crate::netem::Netem;
use crate::plan::{
    Change, Interface, Kind, Look, Mark, News, Ns, Observed, OvsBridge, OvsError, Space, Step, When, Which,
    is_making,
};

pub use netlink::Error;
pub use ovs::{Datapath, probe};
pub use watch::{Seen, SeenAddr, SeenRoute, Watch};

use ethtool::Strings;
use netlink::Netlink;
use open::Open;
use ovs::Ovs;
use tc::Classifier;

/// ETH_DATA_LEN: the MTU of a new bridge.
const DEFAULT_MTU: u32 = 1500;

/// Open vSwitch. It is not started before there is a bridge of mode ovs.
#[derive(Debug, Default)]
struct Switch {
    folder: Option<PathBuf>,
    ovs: Option<Ovs>,
    look_only: bool,
    /// The number of the connection that the listener watches.
    heard: Option<u64>,
}

/// The number of Open vSwitch in the listener. No namespace has this inode.
const OVS_EVENT: u64 = u64::MAX;

impl Switch {
    /// Without the programs the result does not matter: the start reports the missing program.
    fn datapath(&self) -> Datapath {
        probe().unwrap_or(Datapath::Userspace)
    }
}

/// The host's network namespace.
#[derive(Debug)]
enum Host {
    /// The namespace of process 1, not opened yet.
    First,
    Given(File),
    Open(Box<Open>),
    /// It may not be used.
    None,
}

/// All namespaces of a network.
#[derive(Debug)]
pub struct Kernel {
    bridges: Open,
    host: Host,
    /// By inode: two containers may share one.
    spaces: BTreeMap<u64, Open>,
    containers: BTreeMap<ContainerId, u64>,
    /// The best classifier that this kernel is known to support.
    classifier: Classifier,
    feature_names: Option<Strings>,
    switch: Switch,
    /// Readable when another program has changed something in one of the namespaces.
    listener: Option<Epoll>,
}

impl Kernel {
    /// `bridges` is the namespace for bridges and outer ends.
    pub fn new(bridges: File) -> Result<Self, Error> {
        Ok(Self {
            bridges: Open::new(bridges, None)?,
            host: Host::First,
            spaces: BTreeMap::new(),
            containers: BTreeMap::new(),
            classifier: Classifier::Matchall,
            feature_names: None,
            switch: Switch::default(),
            listener: None,
        })
    }

    /// Starts to listen for changes by other programs in all namespaces. The returned descriptor is readable when
    /// [`Kernel::news`] has something to report.
    pub fn listen(&mut self) -> Result<OwnedFd, Error> {
        let what = "listen for kernel notifications";
        let listener = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|it| Error::new(what, it))?;
        let netns = self.bridges.netns.try_clone().map_err(|it| Error::new(what, it))?;
        self.bridges = Open::new(netns, Some(&listener))?;
        let readable = listener.0.try_clone().map_err(|it| Error::new(what, it))?;
        self.listener = Some(listener);
        self.switch.heard = None;
        self.listen_to_ovs();
        Ok(readable)
    }

    /// Changes by other programs since the last look. Our own changes are not reported, because they are checked after
    /// they are made.
    pub fn news(&mut self) -> News {
        let mut news = News::default();
        let (names, lost) = self.bridges.news();
        (news.bridges, news.lost) = (names, lost);
        if let Some(ovs) = &mut self.switch.ovs {
            let ovs::Changes { changed, deleted } = ovs.changes();
            news.bridges.changed.extend(changed);
            news.bridges.deleted.extend(deleted);
            self.listen_to_ovs();
        }
        if let Host::Open(open) = &mut self.host {
            let (names, lost) = open.news();
            news.host = names;
            news.lost |= lost;
        }
        // Only a few of hundreds of containers have changes.
        let mut ready = [EpollEvent::empty(); 64];
        while let Some(listener) = &self.listener {
            let count = listener.wait(&mut ready, EpollTimeout::ZERO).unwrap_or(0);
            for event in ready.iter().take(count) {
                // The namespace has been detached.
                let Some(open) = self.spaces.get_mut(&event.data()) else { continue };
                let (names, lost) = open.news();
                if lost || !names.is_empty() {
                    news.inside.insert(event.data());
                }
            }
            if count < ready.len() {
                break;
            }
        }
        news
    }

    /// Sets `lo` up.
    pub fn loopback_up(&mut self, ns: &Ns) -> Result<(), Error> {
        let open = self.open(ns)?;
        link::up(&mut open.netlink, netns::LOOPBACK)
    }

    /// Opens a container's namespace. Returns its inode.
    pub fn attach_netns(&mut self, id: &ContainerId, netns: File) -> Result<u64, Error> {
        let inode =
            netns::inode(&netns).map_err(|it| Error::new("read the inode of a network namespace", it))?;
        if self.containers.get(id) != Some(&inode) {
            self.detach(id);
        }
        if let std::collections::btree_map::Entry::Vacant(entry) = self.spaces.entry(inode) {
            entry.insert(Open::new(netns, self.listener.as_ref())?);
        }
        self.containers.insert(id.clone(), inode);
        Ok(inode)
    }

    /// Closes a container's namespace. An open handle would keep the namespace of a dead container and its interfaces.
    pub fn detach(&mut self, id: &ContainerId) {
        if let Some(inode) = self.containers.remove(id)
            && !self.containers.values().any(|it| *it == inode)
        {
            self.spaces.remove(&inode);
        }
    }

    fn open(&mut self, ns: &Ns) -> Result<&mut Open, Error> {
        match ns {
            Ns::Bridges => Ok(&mut self.bridges),
            Ns::Host => {
                let netns = match std::mem::replace(&mut self.host, Host::None) {
                    Host::First => netns::of_process(1).map_err(|it| {
                        Error::new("open the host's network namespace (that of process 1)", it)
                    })?,
                    Host::Given(netns) => netns,
                    open @ (Host::Open(_) | Host::None) => {
                        self.host = open;
                        return match &mut self.host {
                            Host::Open(it) => Ok(it),
                            _ => Err(Error::new("use an interface of the host", nix::Error::EPERM)),
                        };
                    }
                };
                self.host = Host::Open(Box::new(Open::new(netns, self.listener.as_ref())?));
                self.open(ns)
            }
            Ns::Container(id) => {
                let gone = || Error::new(format!("enter container {}", id.short()), nix::Error::ESRCH);
                let inode = self.containers.get(id).ok_or_else(gone)?;
                self.spaces.get_mut(inode).ok_or_else(gone)
            }
        }
    }

    /// Is a container's namespace the host's own?
    fn is_host(&self, ns: &Ns) -> bool {
        let Ns::Container(id) = ns else { return false };
        let host = match &self.host {
            Host::First => netns::of_process(1).and_then(|it| netns::inode(&it)),
            Host::Given(netns) => netns::inode(netns),
            Host::Open(open) => netns::inode(&open.netns),
            Host::None => return false,
        };
        host.is_ok_and(|host| self.containers.get(id) == Some(&host))
    }

    /// Reads the requested parts of the namespaces.
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

    /// Uses this namespace as the host's, instead of that of process 1. None: the host's may not be used.
    pub fn set_host(&mut self, netns: Option<File>) {
        self.host = netns.map_or(Host::None, Host::Given);
    }

    /// Sets the folder for the files of Open vSwitch daemons. Without it Open vSwitch is not used.
    pub fn set_ovs_folder(&mut self, folder: PathBuf) {
        self.switch.folder = Some(folder);
    }

    /// Does not start Open vSwitch only to read its state.
    pub fn look_only(&mut self) {
        self.switch.look_only = true;
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
        if dumped.is_ok() {
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

    /// Runs `act` with Open vSwitch, which is started first if it does not run.
    fn with_ovs(&mut self, act: impl FnOnce(&mut Ovs) -> Result<(), Error>) -> Result<(), Error> {
        let missing = || Error::new("start Open vSwitch", nix::Error::EOPNOTSUPP);
        if self.switch.ovs.is_none() {
            let folder = self.switch.folder.clone().ok_or_else(missing)?;
            let datapath = self.switch.datapath();
            self.switch.ovs = Some(Ovs::new(&self.bridges.netns, &folder, datapath)?);
        }
        let done = act(self.switch.ovs.as_mut().ok_or_else(missing)?);
        self.listen_to_ovs();
        done
    }

    /// Listens for changes by other programs in the Open vSwitch database.
    fn listen_to_ovs(&mut self) {
        let Some(listener) = &self.listener else { return };
        let Some((number, connection)) = self.switch.ovs.as_ref().and_then(Ovs::connection) else { return };
        if self.switch.heard == Some(number) {
            return;
        }
        // An earlier connection has been closed, which removed it from the listener.
        match listener.add(connection, EpollEvent::new(EpollFlags::EPOLLIN, OVS_EVENT)) {
            Ok(()) => self.switch.heard = Some(number),
            Err(error) => log::debug!("listen to Open vSwitch: {error}"),
        }
    }

    /// Pidfds of the Open vSwitch daemons, readable when one ends. None unless both daemons run.
    pub fn watch_ovs(&self) -> Option<Vec<OwnedFd>> {
        let watch = self.switch.ovs.as_ref()?.watch();
        // One of the daemons is still starting.
        (watch.len() == 2).then_some(watch)
    }

    /// Stops the Open vSwitch daemons if they are ours.
    pub fn stop_ovs(&mut self) -> Result<(), Error> {
        self.switch.heard = None;
        self.switch.ovs.take().map_or(Ok(()), Ovs::stop)
    }

    fn observe_space(&mut self, ns: &Ns, look: &Look) -> Result<Space, Error> {
        let is_container = matches!(ns, Ns::Container(_));
        let mut strings = self.feature_names.take();
        let is_host = is_container && self.is_host(ns);
        let open = self.open(ns)?;
        let mut space = Space { is_host, ..Space::default() };
        if let Some(monitor) = &mut open.monitor {
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

    /// Applies a step.
    pub fn apply(&mut self, step: &Step) -> Result<(), Error> {
        self.carry_out(step).map_err(|it| hint::explained(step, it))
    }

    fn carry_out(&mut self, step: &Step) -> Result<(), Error> {
        let what = || step.to_string();
        let mut classifier = self.classifier;
        let is_about_features = matches!(step, Step::SetFeatures { .. } | Step::ResetFeatures { .. });
        let strings = if is_about_features { self.feature_names.take() } else { None };
        let open = match step {
            // The container may have died, and its interfaces with it.
            Step::DelInterface { ns, .. } => match self.open(ns) {
                Err(error) if error.is_gone() => return Ok(()),
                open => open?,
            },
            _ => self.open(step.ns())?,
        };
        open.routes.note(step);
        match step {
            Step::AddBridge { name, group, mark, options, .. } => {
                open.forget(name);
                let message = link::message(name, *group, None, None);
                link::add_bridge(&mut open.netlink, message, options, what)?;
                // The kernel forgets an MTU that is given at creation when a port joins, and keeps one that is set
                // later (`br_change_mtu()`).
                let change = Change {
                    mtu: options.mtu,
                    mark: Some(mark.clone()),
                    up: Some(true),
                    no_link_local: true,
                    ..Change::default()
                };
                let index = open.index(name)?;
                if options.mtu == Some(DEFAULT_MTU) {
                    // It must be set even if the bridge already has this MTU.
                    let other = Change { mtu: Some(DEFAULT_MTU - 1), ..Change::default() };
                    link::set(&mut open.netlink, index, &other, None, what)?;
                }
                link::set(&mut open.netlink, index, &change, None, what)
            }
            Step::SetBridge { name, options, .. } => {
                let index = open.index(name)?;
                if let mtu @ Some(_) = options.mtu {
                    link::set(&mut open.netlink, index, &Change { mtu, ..Change::default() }, None, what)?;
                }
                link::set_bridge(
                    &mut open.netlink,
                    index,
                    &BridgeOptions { mtu: None, ..options.clone() },
                    what,
                )
            }
            Step::AddVeth { ns, name, group, mac, mtu, peer_ns, peer, many_queues } => {
                let inner = link::message(name, *group, *mac, *mtu);
                let outer = link::message(peer, *group, None, *mtu);
                open.forget(name);
                let there = self.open(peer_ns)?;
                there.forget(peer);
                let fd = there.netns.as_raw_fd();
                // The kernel checks for a conflict of names in the socket's own namespace too (before 6.2 even if the
                // interface goes elsewhere), so the request is made in the namespace of the more common name.
                link::add_veth(&mut self.open(ns)?.netlink, inner, outer, *many_queues, &fd, what)
            }
            // If the parent is in another namespace, the interface is made there under a unique name and then moved.
            Step::AddStacked { ns, name, group, parent_ns, parent, kind, mac, mtu } => {
                let message = link::message(name, *group, *mac, *mtu);
                open.forget(name);
                let parent = self.open(parent_ns)?.index(parent)?;
                self.add_elsewhere(ns, name, parent_ns, message, what, |netlink, message| {
                    link::add_stacked(netlink, message, *kind, parent, what)
                })
            }
            Step::AddDummy { name, group, mac, mtu, .. } => {
                let message = link::message(name, *group, *mac, *mtu);
                open.forget(name);
                link::add_dummy(&mut open.netlink, message, what)
            }
            Step::DelInterface { name, .. } => {
                open.forget(name);
                link::del(&mut open.netlink, name, what)
            }
            Step::SetInterface { name, change, .. } => {
                let master = match &change.master {
                    Some(Some(bridge)) => Some(open.index(bridge)?),
                    Some(None) => Some(0),
                    None => None,
                };
                let index = open.index(name)?;
                link::set(&mut open.netlink, index, change, master, what)
            }
            Step::EnableV6 { name, .. } => {
                sysctl::enable_v6(&open.netns, name).map_err(|it| Error::new(what(), it))
            }
            Step::AddAddr { dev, cidr, .. } => {
                let index = open.index(dev)?;
                addr::add(&mut open.netlink, index, *cidr, what)
            }
            Step::DelAddr { dev, cidr, .. } => {
                let index = open.index(dev)?;
                addr::del(&mut open.netlink, index, *cidr, what)
            }
            Step::SetRoute { route, replace, .. } => {
                let indices = indices(open, route)?;
                let Open { netlink, routes, .. } = open;
                route::set(netlink, routes, route, *replace, |it| index_of(&indices, it), what)
            }
            Step::DelRoute { route, .. } => {
                // The route was deleted with its interface.
                let indices = match indices(open, route) {
                    Err(error) if error.is_gone() => return Ok(()),
                    indices => indices?,
                };
                route::del(&mut open.netlink, route, |it| index_of(&indices, it))
            }
            Step::SetFeatures { name, features, .. } => {
                let strings = feature_names(open, name, strings).map_err(|it| Error::new(what(), it))?;
                let set = open.ioctl.set_features(name, &strings, features);
                self.feature_names = Some(strings);
                set.map_err(|it| Error::new(what(), it))
            }
            Step::ResetFeatures { name, features, .. } => {
                let strings = feature_names(open, name, strings).map_err(|it| Error::new(what(), it))?;
                let set = open.ioctl.reset_features(name, &strings, features);
                self.feature_names = Some(strings);
                set.map_err(|it| Error::new(what(), it))
            }
            Step::SetEthtool { name, setting, .. } => {
                open.ioctl.set(name, setting).map_err(|it| Error::new(what(), it))
            }
            Step::AddNetem { name, netem, .. } => {
                let index = open.index(name)?;
                tc::add_netem(&mut open.netlink, index, netem, what)?;
                warn_of_ignored_seed(open, index, netem, step);
                Ok(())
            }
            Step::SetNetem { name, netem, .. } => {
                let index = open.index(name)?;
                tc::set_netem(&mut open.netlink, index, netem, what)?;
                warn_of_ignored_seed(open, index, netem, step);
                Ok(())
            }
            Step::DelNetem { name, .. } => match open.index(name) {
                Ok(index) => tc::del_netem(&mut open.netlink, index, what),
                Err(error) => link::gone_is_fine(Err(error)),
            },
            Step::SetNat { del, add, .. } => open.nft.change(del, add),
            Step::SetForwarding { v6, .. } => {
                sysctl::set_forwarding(&open.netns, *v6).map_err(|it| Error::new(what(), it))
            }
            Step::SetLocalnet { name, on, .. } => {
                sysctl::set_localnet(&open.netns, name, *on).map_err(|it| Error::new(what(), it))
            }
            Step::AddTunnel { ns, name, group, underlay, options, mac, mtu } => {
                let message = link::message(name, *group, *mac, *mtu);
                open.forget(name);
                self.add_tunnel(ns, name, underlay, options, message, what)
            }
            Step::AddOvsBridge { name, mark } => self.with_ovs(|it| it.add_bridge(name, mark)),
            Step::DelOvsBridge { name } => self.with_ovs(|it| it.del_bridge(name)),
            Step::AddOvsPort { bridge, port, mark } => {
                let index = open.index(port).ok();
                self.with_ovs(|it| it.add_port(bridge, port, mark, index))
            }
            Step::DelOvsPort { bridge, port } => self.with_ovs(|it| it.del_port(bridge, port)),
            Step::AddRedirect { from, to, .. } => {
                let (from, to) = (open.index(from)?, open.index(to)?);
                let added = tc::add_redirect(&mut open.netlink, &mut classifier, from, to, what);
                self.classifier = classifier;
                added
            }
            Step::DelRedirect { from, .. } => match open.index(from) {
                Ok(index) => tc::del_redirect(&mut open.netlink, index, what),
                Err(error) => link::gone_is_fine(Err(error)),
            },
        }
    }

    /// Makes a tunnel. Its packets take the routes of the namespace in which it is made, even after it has moved.
    fn add_tunnel(
        &mut self,
        ns: &Ns,
        name: &IfName,
        underlay: &Ns,
        options: &TunnelOptions,
        message: LinkMessage,
        what: impl Fn() -> String,
    ) -> Result<(), Error> {
        if ns == underlay {
            return link::add_tunnel(&mut self.open(ns)?.netlink, message, options, what);
        }
        self.add_elsewhere(ns, name, underlay, message, &what, |netlink, message| {
            link::add_tunnel(netlink, message, options, &what)
        })
    }

    /// Makes an interface in one namespace under a unique name, and moves it to another with its final name.
    fn add_elsewhere(
        &mut self,
        ns: &Ns,
        name: &IfName,
        made_in: &Ns,
        mut message: LinkMessage,
        what: impl Fn() -> String,
        add: impl FnOnce(&mut Netlink, LinkMessage) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let netns = self.open(ns)?.netns.as_raw_fd();
        let beside = self.open(made_in)?;
        let temporary = temporary_name(netns)?;
        for attribute in &mut message.attributes {
            if let LinkAttribute::IfName(it) = attribute {
                *it = temporary.to_string();
            }
        }
        add(&mut beside.netlink, message)?;
        let made = beside.index(&temporary)?;
        beside.forget(&temporary);
        let moved = link::move_to(&mut beside.netlink, made, name, netns, &what);
        if moved.is_err() {
            // It may already have moved when the kernel found the name in use.
            let _ = link::del(&mut beside.netlink, &temporary, &what);
            let _ = link::del(&mut self.open(ns)?.netlink, &temporary, &what);
        }
        moved
    }

    /// Deletes interfaces of one namespace in one batch, so that the kernel waits for its readers only once. Interfaces
    /// that do not exist are no error. If some cannot be deleted, the others are, and the first error is returned.
    pub fn del_interfaces(&mut self, ns: &Ns, names: &[&IfName]) -> Result<(), Error> {
        let open = match self.open(ns) {
            Err(error) if error.is_gone() => return Ok(()),
            open => open?,
        };
        let what = || format!("del {} interfaces", names.len());
        open.routes = route::Known::Unknown;
        // A number that no other project's interfaces have: only what is given it here is deleted by it.
        let group = 0x6400_0000 | own_number();
        let mut one_by_one = Vec::new();
        for name in names {
            open.forget(name);
            let Some((_, found)) = link::get(&mut open.netlink, name)? else { continue };
            // An interface without a mark is identified by its group only. If the engine were killed after a change of
            // the group, nothing would identify the interface as ours.
            if found.alias.is_none() || link::set_group(&mut open.netlink, found.index, group, what).is_err()
            {
                one_by_one.push((*name, found.index));
            }
        }
        let mut result = Ok(());
        if one_by_one.len() < names.len()
            && let Err(error) = link::del_group(&mut open.netlink, group, what)
        {
            log::debug!("{error}: deleting one by one");
            one_by_one.clear();
            for name in names {
                if let Some((_, found)) = link::get(&mut open.netlink, name)? {
                    one_by_one.push((name, found.index));
                }
            }
        }
        for (name, index) in one_by_one {
            result = result.and(link::del_index(&mut open.netlink, index, || format!("del {name}")));
        }
        result
    }
}

/// Logs a warning if the kernel ignores the seed of an impairment.
fn warn_of_ignored_seed(open: &mut Open, index: u32, netem: &Netem, step: &Step) {
    if netem.seed.is_some() {
        match tc::keeps_seed(&mut open.netlink, index) {
            Ok(true) => {}
            Ok(false) => log::warn!("{step}: the kernel ignores `seed`, which needs Linux 6.6 or later"),
            Err(error) => log::debug!("{error}"),
        }
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

/// The names of features; read from the kernel if not known yet.
fn feature_names(open: &Open, name: &IfName, known: Option<Strings>) -> std::io::Result<Strings> {
    known.map_or_else(|| open.ioctl.feature_names(name), Ok)
}

/// The indices of a route's interfaces.
fn indices(open: &mut Open, route: &crate::route::Route) -> Result<BTreeMap<IfName, u32>, Error> {
    let mut indices = BTreeMap::new();
    for dev in route.dev.iter().chain(route.nexthops.iter().filter_map(|it| it.dev.as_ref())) {
        if !indices.contains_key(dev) {
            indices.insert(dev.clone(), open.index(dev)?);
        }
    }
    Ok(indices)
}

fn index_of(indices: &BTreeMap<IfName, u32>, dev: &IfName) -> Result<u32, Error> {
    indices.get(dev).copied().ok_or_else(|| Error::new(format!("find interface {dev}"), nix::Error::ENODEV))
}

fn temporary_name(netns: i32) -> Result<IfName, Error> {
    let name = format!("cl{:x}-{netns:x}", own_number());
    name.parse().map_err(|it| Error::new(format!("name an interface: {it}"), nix::Error::EINVAL))
}

/// A random number of 24 bits for this process. Process numbers are not unique: the keepers of labs are all process 1.
fn own_number() -> u32 {
    static NUMBER: OnceLock<u32> = OnceLock::new();
    // Hashers of the standard library have random keys.
    *NUMBER.get_or_init(|| RandomState::new().build_hasher().finish() as u32 & 0x00ff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes this test print the number instead.
    const PRINT: &str = "CONLINK_TEST_PRINT_NUMBER";

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test runs itself as process 1")]
    fn processes_that_are_all_process_1_have_numbers_of_their_own() {
        if std::env::var_os(PRINT).is_some() {
            let name = temporary_name(0xffff).unwrap();
            println!("process {} has {:06x} for {name}", std::process::id(), own_number());
            return;
        }
        let line = || {
            let mut command = std::process::Command::new("unshare");
            command.arg("-pf").arg(std::env::current_exe().unwrap());
            let name = "kernel::tests::processes_that_are_all_process_1_have_numbers_of_their_own";
            command.args(["--exact", name, "--nocapture"]).env(PRINT, "1");
            let output = command.output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let line = text.lines().find(|it| it.contains("process 1 has ")).map(str::to_owned);
            (line, String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let lines = [line(), line()];
        if lines.iter().any(|(_, error)| error.contains("unshare failed")) {
            assert!(std::env::var_os("CONLINK_TEST_ALL").is_none(), "{lines:?}");
            eprintln!("SKIP process 1: no process namespace can be made");
            return;
        }
        assert!(lines[0].0.is_some() && lines[0].0 != lines[1].0, "{lines:?}");
    }
}
