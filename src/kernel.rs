//! Access to the kernel: reads its state and applies steps.
//!
//! Architecture invariant: this module makes no decisions. A step specifies everything that it does.

mod addr;
pub mod announce;
mod apply;
mod attribute;
mod ethtool;
mod hint;
pub mod lease;
mod link;
mod monitor;
mod netem;
mod netlink;
pub mod netns;
mod nft;
mod observe;
mod open;
pub mod ovs;
pub mod ping;
mod route;
mod sysctl;
mod tc;
mod watch;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::addr::IfName;
use crate::container::ContainerId;
use crate::plan::{News, Ns};

pub use netlink::Error;
pub use ovs::{Datapath, probe};
pub use watch::{Seen, SeenAddr, SeenRoute, Watch};

use ethtool::Strings;
use open::Open;
use ovs::Ovs;
use tc::Classifier;

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
    /// An observation leaves the notices of changes where they are.
    keeps_notices: bool,
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
            keeps_notices: false,
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

    /// Observes without dropping the notices of changes: for who compares and does not keep what was found.
    pub fn keeping_notices<T>(&mut self, look: impl FnOnce(&mut Self) -> T) -> T {
        self.keeps_notices = true;
        let seen = look(self);
        self.keeps_notices = false;
        seen
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

    /// Is the interface up, with a carrier? False if it does not exist.
    pub fn has_carrier(&mut self, ns: &Ns, name: &IfName) -> Result<bool, Error> {
        match link::end(&mut self.open(ns)?.netlink, name) {
            Ok(end) => Ok(end.up && end.runs),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            Err(error) => Err(Error::new(format!("get {name}"), error)),
        }
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
}
