//! Finds attachments by their marks, and removes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::IpAddr;

use crate::addr::{Cidr, IfName, Mac};
use crate::attach::perform::{interfaces, kernel};
use crate::attach::state::{Record, restore};
use crate::attach::{Guest, Refusal, lock};
use crate::kernel::{Error, Kernel, netns};
use crate::network::Place;
use crate::plan::{ATTACHED, Desired, Interface, Kind, Look, Mark, Ns, Scope, Step, When};
use crate::wire;

/// An interface that [`attach`](crate::attach::attach) made, or what is left of it.
#[derive(Debug)]
pub struct Found {
    pub guest: Guest,
    pub dev: IfName,
    /// The guest's network namespace; None if the guest has died, and this is left on the host.
    pub netns: Option<Space>,
    pub kind: &'static str,
    pub mac: Option<Mac>,
    pub mtu: u32,
    pub up: bool,
    pub addrs: Vec<Cidr>,
    /// The bridge, the parent or the patch, if it is known.
    pub on: Option<String>,
}

/// An open network namespace.
#[derive(Debug)]
pub struct Space {
    pub inode: u64,
    pub file: File,
}

/// Every attachment of every namespace that a process or a name holds, by guest and interface.
///
/// # Errors
/// A namespace could not be read. One that ends meanwhile is left out.
pub fn find() -> Result<Vec<Found>, Error> {
    found_in(None)
}

/// The attachments of one namespace.
///
/// # Errors
/// It could not be read.
pub fn find_in(netns: &File) -> Result<Vec<Found>, Error> {
    found_in(Some(netns))
}

fn found_in(only: Option<&File>) -> Result<Vec<Found>, Error> {
    let own = netns::own().map_err(|it| Error::new("open the network namespace", it))?;
    let mut kernel = Kernel::new(own)?;
    kernel.look_only();
    let looks = [(Ns::Bridges, Look::all())].into();
    let host = kernel.observe(&looks)?;
    let names: BTreeMap<u32, &IfName> =
        interfaces(&host, &Ns::Bridges).map(|(name, it)| (it.index, name)).collect();
    let mut outers: BTreeMap<(Guest, IfName), &Interface> = BTreeMap::new();
    for (name, it) in interfaces(&host, &Ns::Bridges) {
        if let Some(owner) = Guest::of_interface(it).filter(|(_, dev)| dev != name || it.kind != Kind::Veth) {
            outers.insert(owner, it);
        }
    }
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let spaces = match only {
        None => netns::all(),
        Some(file) => {
            let file = file.try_clone().map_err(|it| Error::new("open a network namespace", it))?;
            let inode =
                netns::inode(&file).map_err(|it| Error::new("read the inode of a network namespace", it))?;
            [(inode, file)].into()
        }
    };
    for (inode, file) in spaces {
        for (name, it) in inside(&mut kernel, &file)? {
            let Some((guest, dev)) = Guest::of_interface(&it).filter(|(_, dev)| *dev == name) else {
                continue;
            };
            let outer = outers.get(&(guest.clone(), dev.clone()));
            if is_forged(&it, outer.copied(), &guest, &dev) {
                log::warn!("interface {name} has the mark of {guest} ({dev}), which is not its own");
                continue;
            }
            let under = it.link.filter(|_| !matches!(it.kind, Kind::Veth)).and_then(|it| names.get(&it));
            let master = outer.and_then(|it| it.master).and_then(|it| names.get(&it));
            let on = master.or(under).map(ToString::to_string);
            seen.insert((guest.clone(), dev.clone()));
            let file = file.try_clone().map_err(|it| Error::new("open a network namespace", it))?;
            found.push(Found::new(guest, dev, &it, Some(Space { inode, file }), on));
        }
    }
    // What is left of guests that are gone, which only a look at all tells.
    let outers = if only.is_some() { BTreeMap::new() } else { outers };
    let records = if only.is_some() { Vec::new() } else { Record::all() };
    for ((guest, dev), it) in outers.iter().filter(|(owner, _)| !seen.contains(owner)) {
        found.push(Found::new(guest.clone(), dev.clone(), it, None, None));
    }
    for record in records {
        let Some(dev) = record.dev() else { continue };
        let owner = (record.guest(), dev);
        if !seen.contains(&owner) && !outers.contains_key(&owner) {
            found.push(Found::of_record(owner.0, owner.1));
        }
    }
    found.sort_by(|a, b| (&a.guest, &a.dev).cmp(&(&b.guest, &b.dev)));
    Ok(found)
}

impl Found {
    fn new(guest: Guest, dev: IfName, it: &Interface, netns: Option<Space>, on: Option<String>) -> Self {
        let kind = match &it.kind {
            _ if it.moved_from().is_some() => "moved",
            Kind::Veth => "veth",
            Kind::Dummy => "dummy",
            Kind::Stacked(kind) => kind.name(),
            Kind::Tunnel(options) => options.kind.name(),
            Kind::Bridge(_) | Kind::Other(_) => "other",
        };
        // The kernel gives every interface one of these itself.
        let is_own = |it: &Cidr| matches!(it.addr(), IpAddr::V6(it) if it.is_unicast_link_local());
        let addrs = it.addrs.iter().map(|it| it.cidr).filter(|it| !is_own(it)).collect();
        Self { guest, dev, netns, kind, mac: it.mac, mtu: it.mtu, up: it.up, addrs, on }
    }

    /// Nothing but its record is left.
    fn of_record(guest: Guest, dev: IfName) -> Self {
        Self {
            guest,
            dev,
            netns: None,
            kind: "gone",
            mac: None,
            mtu: 0,
            up: false,
            addrs: Vec::new(),
            on: None,
        }
    }
}

/// The interfaces of a namespace with their addresses; none if it no longer exists.
fn inside(kernel: &mut Kernel, file: &File) -> Result<BTreeMap<IfName, Interface>, Error> {
    let id = crate::container::ContainerId::new("guest");
    let ns = Ns::Container(id.clone());
    let file = file.try_clone().map_err(|it| Error::new("open a network namespace", it))?;
    kernel.attach_netns(&id, file)?;
    let look = Look { addresses: When::WithInterfaces, ..Look::all() };
    let observed = kernel.observe(&[(ns.clone(), look)].into());
    kernel.detach(&id);
    Ok(observed?.spaces.remove(&ns).map(|it| it.interfaces).unwrap_or_default())
}

/// A guest may give its interfaces any alias. The outer end of a veth tells whose it is, if it is in this namespace, and a
/// virtual interface was moved only if there is a record of it; a guest cannot make a physical one.
fn is_forged(it: &Interface, outer: Option<&Interface>, guest: &Guest, dev: &IfName) -> bool {
    match (it.moved_from(), &it.kind) {
        (Some(_), Kind::Other(kind)) if kind.is_empty() => false,
        (Some(was), _) => {
            let moved = Record::find(guest, dev).and_then(|it| it.moved);
            moved.is_none_or(|it| !it.is_of(&was))
        }
        (None, Kind::Veth) => outer.is_some_and(|outer| outer.link != Some(it.index)),
        (None, _) => false,
    }
}

/// Removes the attachment of an interface of this namespace, if it exists.
///
/// # Errors
/// Something could not be read, or the kernel refuses it.
pub fn undo(netns: &File, guest: &Guest, dev: &IfName) -> Result<(), Refusal> {
    find_in(netns)?.iter().filter(|it| it.guest == *guest && it.dev == *dev).try_for_each(detach)
}

/// Removes an attachment with everything that was made for it alone. An interface of the host is returned to it.
///
/// # Errors
/// The kernel refuses it.
pub fn detach(found: &Found) -> Result<(), Refusal> {
    let _lock = lock::hold()?;
    remove(found)
}

/// The same, for the holder of the lock.
fn remove(found: &Found) -> Result<(), Refusal> {
    let file = found.netns.as_ref().map(|it| it.file.try_clone()).transpose();
    let file = file.map_err(|it| Error::new("open a network namespace", it))?;
    let inside = file.is_some();
    let mut kernel = kernel(&found.guest, file)?;
    let record = Record::find(&found.guest, &found.dev);
    let mut outers = BTreeSet::new();
    let host = kernel.observe(&[(Ns::Host, Look::all())].into())?;
    for (name, it) in interfaces(&host, &Ns::Host) {
        let is_its =
            Guest::of_interface(it).is_some_and(|(guest, dev)| guest == found.guest && dev == found.dev);
        // It may be a guest in the host's own namespace.
        if is_its && !(inside && *name == found.dev) {
            outers.insert((Place::Host, name.clone()));
        }
    }
    let guest = found.guest.id();
    let scope = Scope::Containers {
        names: BTreeSet::from([found.guest.name.clone()]),
        outers,
        only: Some(found.dev.clone()),
    };
    let mut desired = Desired::nothing(found.guest.owner(), scope);
    if inside {
        desired.inside.insert(guest);
    }
    let outcome = wire::converge(&mut kernel, &desired);
    if !outcome.failures.is_empty() {
        return Err(Refusal::Failed(outcome.failures));
    }
    if let Some(record) = record {
        if let Some(moved) = &record.moved {
            restore(&mut kernel, moved);
        }
        record.remove();
        remove_parent(&mut kernel, &record)?;
    }
    Ok(())
}

/// Removes the VLAN on the host, if conlink made it and no other attachment is on it.
pub(super) fn remove_parent(kernel: &mut Kernel, record: &Record) -> Result<(), Refusal> {
    let Some(parent) = record.parent.as_ref().and_then(|it| it.parse::<IfName>().ok()) else { return Ok(()) };
    let alive: BTreeSet<u64> = netns::all().into_keys().collect();
    let uses = |it: &Record| it.parent == record.parent && alive.contains(&it.netns);
    if Record::all().iter().any(uses) {
        return Ok(());
    }
    let observed = kernel.observe(&[(Ns::Host, Look::names([parent.clone()]))].into())?;
    let Some(it) = observed.interface(&Ns::Host, &parent) else { return Ok(()) };
    let mark = it.alias.as_deref().and_then(Mark::parse);
    if mark.is_some_and(|it| it.project.starts_with(ATTACHED) && it.container.is_empty()) {
        kernel.apply(&Step::DelInterface { ns: Ns::Host, name: parent })?;
    }
    Ok(())
}

/// Removes what these guests have left, if they no longer exist.
///
/// # Errors
/// Something could not be read or removed.
pub fn sweep(of: impl Fn(&Guest) -> bool) -> Result<(), Refusal> {
    // From before they are looked for: an interface that is being made looks like one whose guest has died.
    let _lock = lock::hold()?;
    for found in find()?.iter().filter(|it| it.netns.is_none() && of(&it.guest)) {
        remove(found)?;
    }
    Ok(())
}
