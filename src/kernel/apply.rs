//! Steps of a plan, carried out.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};

use crate::addr::{Cidr, IfName};
use crate::device::{BridgeOptions, TunnelOptions};
use crate::kernel::ethtool::Strings;
use crate::kernel::netlink::{Error, Netlink};
use crate::kernel::open::Open;
use crate::kernel::ovs::Join;
use crate::kernel::{Kernel, addr, hint, link, route, sysctl, tc};
use crate::netem::Netem;
use crate::plan::{Change, Ns, PROTOCOL, Step};

/// ETH_DATA_LEN: the MTU of a new bridge.
const DEFAULT_MTU: u32 = 1500;

impl Kernel {
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
            Step::MoveInterface { name, to, to_name, mac, mtu, .. } => {
                let index = open.index(name)?;
                open.forget(name);
                let there = self.open(to)?;
                there.forget(to_name);
                let netns = there.netns.as_raw_fd();
                link::move_to(&mut self.open(step.ns())?.netlink, index, to_name, netns, what)?;
                let change = Change { mac: *mac, mtu: *mtu, ..Change::default() };
                if change == Change::default() {
                    return Ok(());
                }
                let there = self.open(to)?;
                let index = there.index(to_name)?;
                link::set(&mut there.netlink, index, &change, None, what)
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
                addr::add(&mut open.netlink, index, *cidr, Some(PROTOCOL), true, what)
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
            Step::AddOvsPort { bridge, port, mark, tag, ids } => {
                let index = open.index(port).ok();
                let join = Join { bridge, port, mark, index, tag: *tag, ids: Some(ids) };
                self.with_ovs(|it| it.add_port(&join))
            }
            Step::DelOvsPort { bridge, port } => self.with_ovs(|it| it.del_port(bridge, port)),
            Step::SetPortVlan { name, vlan, was, .. } => {
                let index = open.index(name)?;
                link::set_port_vlan(&mut open.netlink, index, *vlan, *was, what)
            }
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

    /// Gives an interface an address that it had before it was moved: without our protocol, because it was never ours.
    pub fn return_addr(&mut self, ns: &Ns, dev: &IfName, cidr: Cidr, broadcast: bool) -> Result<(), Error> {
        let open = self.open(ns)?;
        let index = open.index(dev)?;
        addr::add(&mut open.netlink, index, cidr, None, broadcast, || format!("add addr {cidr} dev {dev}"))
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
            let name = "kernel::apply::tests::processes_that_are_all_process_1_have_numbers_of_their_own";
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
