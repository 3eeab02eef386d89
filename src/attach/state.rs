//! What the kernel cannot hold: how an interface of the host was before it was moved, and what else a guest used.
//!
//! One file per interface, on tmpfs. Without the files everything can still be removed; only what the interface was like
//! on the host is lost.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::addr::{Cidr, IfName};
use crate::attach::{Attachment, Guest, Refusal, Wiring, under};
use crate::kernel::{Error, Kernel, netns};
use crate::plan::{Change, Look, Mark, Ns, Step, When};
use crate::route::Route;

/// RTPROT_KERNEL: the kernel makes these routes itself.
const BY_KERNEL: u8 = 2;

pub(super) fn folder() -> PathBuf {
    PathBuf::from("/run/conlink/attach")
}

/// The folder of Open vSwitch daemons for the caller's network namespace, if the machine's own do not serve it.
pub fn ovs_folder() -> PathBuf {
    let inode = netns::own().and_then(|it| netns::inode(&it)).unwrap_or_default();
    PathBuf::from(format!("/run/conlink/ovs-attach-{inode}"))
}

/// The record of one interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    kind: String,
    name: String,
    dev: String,
    /// The inode of the guest's network namespace.
    pub(super) netns: u64,
    /// A VLAN on the host that was made for it, or for another like it.
    pub(super) parent: Option<String>,
    /// It is a port of Open vSwitch, which stays when the guest has died.
    pub(super) ovs: bool,
    pub(super) moved: Option<Moved>,
}

/// An interface of the host before it was moved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Moved {
    name: String,
    alias: Option<String>,
    mac: Option<String>,
    mtu: u32,
    up: bool,
    /// Each with whether it has a broadcast address.
    addrs: Vec<(String, bool)>,
    routes: Vec<String>,
}

impl Moved {
    pub(super) fn is_of(&self, name: &IfName) -> bool {
        self.name == name.as_str()
    }
}

impl Record {
    pub(super) fn new(it: &Attachment, netns: u64) -> Self {
        let parent = match &it.wiring {
            Wiring::Stacked { parent, vlan: vlan @ Some(_), .. }
            | Wiring::Bridge { uplink: Some((parent, vlan @ Some(_))), .. } => Some(under(parent, *vlan).0),
            _ => None,
        };
        Self {
            kind: it.guest.kind.clone(),
            name: it.guest.name.clone(),
            dev: it.dev.to_string(),
            netns,
            parent: parent.map(|it| it.to_string()),
            ovs: it.wiring.is_ovs(),
            moved: None,
        }
    }

    pub(super) fn guest(&self) -> Guest {
        Guest { kind: self.kind.clone(), name: self.name.clone() }
    }

    pub(super) fn dev(&self) -> Option<IfName> {
        self.dev.parse().ok()
    }

    /// Is there anything that the kernel cannot hold?
    pub(super) fn is_needed(&self) -> bool {
        self.parent.is_some() || self.ovs || self.moved.is_some()
    }

    fn path(&self) -> PathBuf {
        path(&self.guest(), &self.dev)
    }

    /// Writes it to a file beside and renames that, so that no reader sees half of it.
    pub(super) fn save(&self) -> io::Result<()> {
        let path = self.path();
        let beside = path.with_extension("new");
        let mut file = fs::File::create(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        fs::rename(beside, path)
    }

    pub(super) fn remove(&self) {
        let _ = fs::remove_file(self.path());
    }

    /// Every record. Files that are not records are left out.
    pub(super) fn all() -> Vec<Self> {
        let files = fs::read_dir(folder()).into_iter().flatten().filter_map(|it| Some(it.ok()?.path()));
        files.filter(|it| it.extension().is_some_and(|it| it == "json")).filter_map(|it| read(&it)).collect()
    }

    pub(super) fn find(guest: &Guest, dev: &IfName) -> Option<Self> {
        read(&path(guest, dev.as_str()))
    }
}

fn read(path: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// The names as in marks, which have no `/` but for paths.
fn path(guest: &Guest, dev: &str) -> PathBuf {
    let name = Mark::container(&guest.name).replace('/', "%2f");
    folder().join(format!("{}:{name}:{dev}.json", guest.kind))
}

/// The state of an interface of the host, which is about to be moved. None if it has been moved already.
pub(super) fn before_move(kernel: &mut Kernel, name: &IfName) -> Result<Option<Moved>, Refusal> {
    let look = Look { addresses: When::Always, routes_of_others: true, ..Look::names([name.clone()]) };
    let observed = kernel.observe(&[(Ns::Host, look)].into())?;
    let Some(it) = observed.interface(&Ns::Host, name) else { return Ok(None) };
    let of_it = |route: &&Route| route.dev.as_ref() == Some(name) && route.proto != Some(BY_KERNEL);
    let routes = observed.spaces.get(&Ns::Host).into_iter().flat_map(|it| &it.routes).map(|it| &it.route);
    let is_global = |it: &Cidr| !matches!(it.addr(), std::net::IpAddr::V6(it) if it.is_unicast_link_local());
    Ok(Some(Moved {
        name: name.to_string(),
        alias: it.alias.clone().filter(|it| Mark::parse(it).is_none()),
        mac: it.mac.map(|it| it.to_string()),
        mtu: it.mtu,
        up: it.up,
        addrs: it
            .addrs
            .iter()
            .filter(|it| is_global(&it.cidr))
            .map(|it| (it.cidr.to_string(), it.broadcast))
            .collect(),
        routes: routes.filter(of_it).map(Route::to_string).collect(),
    }))
}

/// Makes an interface that is back on the host as it was. What cannot be restored is logged.
pub(super) fn restore(kernel: &mut Kernel, moved: &Moved) {
    let Ok(name) = moved.name.parse::<IfName>() else { return };
    let ns = Ns::Host;
    let set = |change| Step::SetInterface { ns: ns.clone(), name: name.clone(), change };
    let mut steps = vec![set(Change {
        mark: Some(moved.alias.clone().unwrap_or_default()),
        mac: moved.mac.as_ref().and_then(|it| it.parse().ok()),
        mtu: Some(moved.mtu),
        ..Change::default()
    })];
    let addrs: Vec<(Cidr, bool)> =
        moved.addrs.iter().filter_map(|(it, broadcast)| Some((it.parse().ok()?, *broadcast))).collect();
    steps.push(set(Change { up: Some(moved.up), ..Change::default() }));
    for route in moved.routes.iter().filter_map(|it| Route::parse(it).ok()) {
        steps.push(Step::SetRoute { ns: ns.clone(), route, replace: false });
    }
    let mut done: Vec<Result<(), Error>> =
        addrs.iter().map(|(it, broadcast)| kernel.return_addr(&ns, &name, *it, *broadcast)).collect();
    done.extend(steps.iter().map(|it| kernel.apply(it)));
    for error in done.into_iter().filter_map(Result::err).filter(|it| !it.is_taken()) {
        log::warn!("interface {name}: {error}");
    }
}
