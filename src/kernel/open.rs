//! An open namespace: its sockets, cached state, and reading its parts.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use crate::addr::IfName;
use crate::ethtool::Ethtool;
use crate::kernel::ethtool::{Ioctl, Strings};
use crate::kernel::monitor::{Monitor, Pending};
use crate::kernel::netlink::{Error, Netlink};
use crate::kernel::nft::Nft;
use crate::kernel::{link, netns, route, tc};
use crate::plan::{Interface, Kind, Look, Names, Space, Which};

/// An open namespace with sockets inside it.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) netns: File,
    pub(super) netlink: Netlink,
    pub(super) ioctl: Ioctl,
    pub(super) nft: Nft,
    /// The indices of interfaces by name, as last read. An outdated index makes a step fail, and the next look corrects
    /// it.
    pub(super) indices: BTreeMap<IfName, u32>,
    /// What is known of its routes.
    pub(super) routes: route::Known,
    /// Where somebody wants to know what others change.
    pub(super) monitor: Option<Monitor>,
}

impl Open {
    /// Opens the sockets. With `listener` it also listens for changes by other programs, which make `listener`
    /// readable.
    pub(super) fn new(netns: File, listener: Option<&Epoll>) -> Result<Self, Error> {
        let opened = netns::inside(&netns, || {
            let netlink = Netlink::open()?;
            let monitor = listener.map(|_| Monitor::open(netlink.port()?)).transpose()?;
            Ok((netlink, Ioctl::open()?, Nft::open()?, monitor))
        });
        let (netlink, ioctl, nft, monitor) =
            opened.map_err(|it| Error::new("open sockets in a network namespace", it))?;
        let open = Self {
            netns,
            netlink,
            ioctl,
            nft,
            indices: BTreeMap::new(),
            routes: route::Known::default(),
            monitor,
        };
        if let (Some(listener), Some(monitor)) = (listener, &open.monitor) {
            let inode = netns::inode(&open.netns)
                .map_err(|it| Error::new("read the inode of a network namespace", it))?;
            listen(listener, inode, monitor.sockets())?;
        }
        Ok(open)
    }

    /// Listens for changes of nf_tables rules too.
    pub(super) fn listen_to_rules(&mut self, listener: &Epoll) -> Result<(), Error> {
        let Some(monitor) = self.monitor.as_mut().filter(|it| !it.hears_rules()) else { return Ok(()) };
        let socket = netns::inside(&self.netns, Monitor::rules);
        let socket = socket.map_err(|it| Error::new("listen for changes of nf_tables", it))?;
        let inode = netns::inode(&self.netns)
            .map_err(|it| Error::new("read the inode of a network namespace", it))?;
        listen(listener, inode, [socket.as_fd()])?;
        monitor.add_rules(socket);
        Ok(())
    }

    /// Changes by other programs since the last look.
    pub(super) fn news(&mut self) -> (Names, bool) {
        let Some(monitor) = &mut self.monitor else { return (Names::default(), false) };
        let Pending { mut names, indices, lost } = monitor.news();
        let known = self.indices.iter().filter(|(_, it)| indices.contains(it));
        names.changed.extend(known.map(|(name, _)| name.to_string()));
        (names, lost)
    }

    pub(super) fn index(&mut self, name: &IfName) -> Result<u32, Error> {
        if let Some(index) = self.indices.get(name) {
            return Ok(*index);
        }
        let found = link::get(&mut self.netlink, name)?;
        let missing = || Error::new(format!("find interface {name}"), nix::Error::ENODEV);
        let (_, interface) = found.ok_or_else(missing)?;
        self.indices.insert(name.clone(), interface.index);
        Ok(interface.index)
    }

    pub(super) fn forget(&mut self, name: &IfName) {
        self.indices.remove(name);
    }

    /// Reads the queueing disciplines, and the targets of patches.
    pub(super) fn observe_qdiscs(
        &mut self,
        space: &mut Space,
        look: &Look,
        redirects: bool,
        any: bool,
    ) -> Result<(), Error> {
        let all = match &look.interfaces {
            // One dump shows the few interfaces that need further requests.
            Which::All if redirects || look.qdiscs && any => Some(tc::dump_qdiscs(&mut self.netlink)?),
            _ => None,
        };
        for interface in space.interfaces.values_mut() {
            let index = interface.index;
            if look.qdiscs && !matches!(interface.kind, Kind::Bridge(_)) {
                interface.qdisc = match (&all, &look.interfaces) {
                    (Some(all), _) => all.roots.get(&index).cloned(),
                    (None, Which::All) => None,
                    (None, Which::Names(_)) => tc::get_root(&mut self.netlink, index)?,
                };
            }
            let may_redirect = matches!(interface.kind, Kind::Veth | Kind::Tunnel(_));
            if redirects && may_redirect && all.as_ref().is_none_or(|it| it.filtered.contains(&index)) {
                interface.redirect = tc::get_redirect(&mut self.netlink, index)?;
            }
        }
        Ok(())
    }

    /// Reads device settings. Unreadable ones are left out: the plan then sets them, and the kernel gives the error.
    pub(super) fn observe_ethtool(
        &mut self,
        name: &IfName,
        wanted: &[Ethtool],
        interface: &mut Interface,
        strings: &mut Option<Strings>,
    ) {
        let mut features = Vec::new();
        for it in wanted {
            match it {
                Ethtool::Features(them) => features.extend(them.iter().map(|(feature, _)| *feature)),
                it => interface.settings.extend(self.ioctl.setting(name, it).ok()),
            }
        }
        if features.is_empty() {
            return;
        }
        if strings.is_none() {
            *strings = self.ioctl.feature_names(name).ok();
        }
        if let Some(strings) = strings {
            interface.features = self.ioctl.features(name, strings, &features).unwrap_or_default();
        }
    }
}

/// Adds sockets to the listener. `inode` is that of their namespace.
fn listen<'a>(
    listener: &Epoll,
    inode: u64,
    sockets: impl IntoIterator<Item = BorrowedFd<'a>>,
) -> Result<(), Error> {
    for socket in sockets {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, inode);
        listener.add(socket, event).map_err(|it| Error::new("listen for kernel notifications", it))?;
    }
    Ok(())
}
