//! `pipework`: attaches one interface to one running container, with the command line of the shell script of that name.
//!
//! It reads the command line, decides what it means on this machine, and leaves the rest to the core.

mod args;
pub(in crate::tools) mod labels;
pub(in crate::tools) mod mac;
mod plan;
mod refusal;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;

use anyhow::Context;
use clap::{CommandFactory, Parser};

use crate::addr::IfName;
use crate::attach::{self, Attachment, Done, How, Wiring};
use crate::device::{MacvlanMode, StackedKind};
use crate::kernel::{self, Kernel, netns, ovs};
use crate::out;
use crate::plan::{Kind, Look, Ns, Observed};
use crate::process::node::enter_network;
use crate::tools::conlink::attach::{remove, tell_refusal};
use crate::tools::conlink::guest::{Found, Guest, Unresolved};
use crate::tools::dhcp::Dhcp;
use crate::tools::exec::{exec, find};
use crate::tools::front::print_clap;
use crate::tools::wait;
use args::{Addressing, Call, Request};
use plan::{Machine, Parent, Plan};
use refusal::Refusal;

/// The interface of `--wait` and `--detach` without `-i`.
const DEFAULT_DEV: &str = "eth1";

/// Attach one interface to a running container, with the command line of pipework
///
/// HOSTIF is a bridge, an interface of the host that gets a macvlan, `mac:MAC`, or `BRIDGE@PARENT`. A missing interface
/// `br…`, `ovs…` or `dummy…` is made. `0/0` is no address. MAC may be `U:TEXT`, which is hashed.
// For help and completions only: the words of an attachment have a grammar of their own.
#[derive(Debug, Parser)]
#[command(
    name = "pipework",
    override_usage = "\
pipework <HOSTIF> [OPTIONS] <GUEST> <ADDR>/<LEN>[,…][@<GATEWAY>] [<MAC>][@<VLAN>]
       pipework <HOSTIF> [OPTIONS] <GUEST> dhcp|udhcpc|dhclient|dhcpcd[:<ARGS>] [<MAC>][@<VLAN>]
       pipework --detach <GUEST> [-i <IF>]
       pipework route|rule|tc <GUEST> <ARG>…
       pipework --wait [-i <IF>]"
)]
struct Cli {
    /// Name of the interface in the container [default: eth1, for IPoIB ib0]
    #[arg(short = 'i', value_name = "IF")]
    dev: Option<String>,
    /// Name of the outer end in the host's namespace [default: vIFplPID]
    #[arg(short = 'l', value_name = "IF")]
    local: Option<String>,
    /// Address family that the addresses must have: 4 or 6
    #[arg(short = 'a', value_name = "FAMILY")]
    family: Option<String>,
    /// Move the host interface itself into the container
    #[arg(long)]
    direct_phys: bool,
    /// Remove an attached interface
    #[arg(long)]
    detach: bool,
    /// Wait in a container until the interface is up and has a carrier
    #[arg(long)]
    wait: bool,
    /// Host interface, container, addresses, and MAC address or VLAN
    #[arg(value_name = "WORD")]
    words: Vec<OsString>,
}

pub(crate) fn command() -> clap::Command {
    Cli::command()
}

pub(crate) fn main(args: Vec<OsString>) -> anyhow::Result<u8> {
    let call = match args::parse(args.get(1..).unwrap_or_default()) {
        Ok(it) => it,
        Err(refusal) => return refusal.print(),
    };
    match call {
        Call::Usage => out(args::USAGE).map(|()| Refusal::CODE),
        Call::Help(option) => {
            let name = args.into_iter().next().unwrap_or_default();
            command().try_get_matches_from([name, option.into()]).map_or_else(print_clap, |_| Ok(0))
        }
        Call::Wait { dev } => {
            let dev = dev.map_or(DEFAULT_DEV.to_owned(), |it| it.to_string());
            // Without a time limit, whatever WAIT_TIMEOUT is.
            wait::main(["wait", "-q", "-T", "0", "--up", &dev].map(OsString::from).to_vec())
        }
        Call::Pass { program, guest, args } => {
            let words = program.words().iter().map(OsString::from);
            match find_guest(&guest)? {
                Ok(it) => run_inside(&it.netns, &words.chain(args).collect::<Vec<_>>()),
                Err(refusal) => refusal.print(),
            }
        }
        Call::Attach(request) => attach(&request),
        Call::Detach { guest, dev } => detach(&guest, dev),
    }
}

/// Becomes a program in a network namespace. Returns the exit code if it cannot be run.
fn run_inside(netns: &File, words: &[OsString]) -> anyhow::Result<u8> {
    enter_network(netns).context("enter the network namespace")?;
    Ok(exec(words))
}

fn attach(request: &Request) -> anyhow::Result<u8> {
    match make(request, || find_guest(&request.guest), Existing::Refused) {
        Ok(_) => Ok(0),
        Err(Unmade::Refused(it)) => it.print(),
        Err(Unmade::Core(it)) => Ok(tell_refusal(&it)),
        Err(Unmade::Failed(it)) => Err(it),
    }
}

/// Why an interface was not made.
enum Unmade {
    Refused(Refusal),
    Core(attach::Refusal),
    Failed(anyhow::Error),
}

impl From<Refusal> for Unmade {
    fn from(it: Refusal) -> Self {
        Self::Refused(it)
    }
}

impl From<attach::Refusal> for Unmade {
    fn from(it: attach::Refusal) -> Self {
        Self::Core(it)
    }
}

impl From<kernel::Error> for Unmade {
    fn from(it: kernel::Error) -> Self {
        Self::Failed(it.into())
    }
}

impl From<anyhow::Error> for Unmade {
    fn from(it: anyhow::Error) -> Self {
        Self::Failed(it)
    }
}

/// What becomes of an outer end that exists and is up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    /// As by the script.
    Refused,
    /// If it is that of the same interface, there is nothing to do.
    Compared,
}

/// Makes the interface that a request describes, and returns its name. `guest` finds the one that the request names.
fn make(
    request: &Request,
    guest: impl FnOnce() -> anyhow::Result<Result<Found, Refusal>>,
    existing: Existing,
) -> Result<(IfName, Done), Unmade> {
    let netns = netns::own().context("open the network namespace")?;
    let mut kernel = Kernel::new(netns)?;
    kernel.look_only();
    let machine = machine(&mut kernel, request)?;
    let plan = plan::choose(request, &machine)?;
    let (addressing, mac) = (request.addressing()?, request.mac()?);
    if let Addressing::Dhcp { client, .. } = &addressing
        && let Some(program) = client.program()
        && find(program.as_ref()).is_none()
    {
        let why = format!("You asked for DHCP client {program}, but I can't find it.");
        return Err(Refusal::known(why).into());
    }
    let guest = guest()??;
    let local = local(&mut kernel, request, &plan, &guest, existing)??;
    let (addrs, gateways, dhcp) = match addressing {
        Addressing::Static { addrs, gateways } => (addrs, gateways, None),
        Addressing::Dhcp { client, options, keep } => {
            let hostname = guest.own_name();
            let client = client.of_machine();
            let dhcp = Dhcp { client, guest: request.guest.clone(), hostname, options, keep };
            (Vec::new(), Vec::new(), Some(dhcp))
        }
    };
    let inside = guest.netns.try_clone().context("open the network namespace")?;
    let attachment = Attachment {
        guest: attach::Guest { kind: guest.kind.to_owned(), name: guest.name.clone() },
        dev: plan.dev.clone(),
        wiring: wiring(plan.wiring, local, &guest),
        mac,
        mtu: None,
        addrs,
        gateways,
        routes: Vec::new(),
        netem: None,
    };
    let done = attach::attach(guest.netns, &attachment, How::Nothing)?;
    if let Some(Err(error)) = dhcp.map(|it| it.run(&inside, &plan.dev)) {
        if done == Done::Made {
            attach::undo(&inside, &attachment.guest, &plan.dev)?;
        }
        return Err(error.into());
    }
    Ok((plan.dev, done))
}

/// A running guest, with the messages of the script for one that does not run.
fn find_guest(word: &str) -> anyhow::Result<Result<Found, Refusal>> {
    let guest = match Guest::parse(word) {
        Ok(it) => it,
        Err(error) => return Ok(Err(Refusal::new(error))),
    };
    match guest.resolve() {
        Ok(it) => Ok(Ok(it)),
        Err(Unresolved::NotFound(_)) => {
            Ok(Err(Refusal::known(format!("Container {word} not found, and unknown to Docker."))))
        }
        Err(Unresolved::Failed(error)) => Err(error),
    }
}

/// The request of the core for what was chosen.
fn wiring(chosen: plan::Wiring, outer: Option<IfName>, guest: &Found) -> Wiring {
    let id = |it: &Parent| it.vlan.as_ref().map(|it| it.id);
    match chosen {
        plan::Wiring::Bridge { bridge, vlan, uplink, .. } => {
            let uplink = uplink.map(|it| (it.dev.clone(), id(&it)));
            Wiring::Bridge { bridge, vlan, uplink, outer }
        }
        plan::Wiring::Ovs { bridge, tag, .. } => {
            // The id is not known here; a process and a namespace have no name either.
            let is_container = !["pid", "netns"].contains(&guest.kind);
            let container = is_container.then_some((None, guest.name.as_str()));
            let ids =
                outer.as_ref().map(|outer| plan::external_ids((&bridge, tag), outer, container, guest.pid));
            let ids = ids.into_iter().flatten().map(|(key, it)| (key.to_owned(), it)).collect();
            Wiring::Ovs { bridge, vlan: tag, outer, ids }
        }
        plan::Wiring::Macvlan { parent } => {
            let kind = StackedKind::Macvlan { mode: Some(MacvlanMode::Bridge) };
            Wiring::Stacked { vlan: id(&parent), parent: parent.dev, kind }
        }
        plan::Wiring::Move { parent: Parent { dev, vlan: None } } => Wiring::Moved(dev),
        plan::Wiring::Move { parent: Parent { vlan: Some(it), .. } } if !it.create => Wiring::Moved(it.name),
        plan::Wiring::Move { parent: Parent { dev, vlan: Some(it) } } => {
            Wiring::Stacked { parent: dev, vlan: None, kind: StackedKind::Vlan { id: it.id } }
        }
        plan::Wiring::Ipoib { parent, pkey } => {
            Wiring::Stacked { parent, vlan: None, kind: StackedKind::Ipoib { pkey } }
        }
        plan::Wiring::Dummy => Wiring::Dummy,
    }
}

/// The outer end, if the interface is one end of a veth.
fn local(
    kernel: &mut Kernel,
    request: &Request,
    plan: &Plan,
    guest: &Found,
    existing: Existing,
) -> anyhow::Result<Result<Option<IfName>, Refusal>> {
    if !plan.wiring.has_local_end() {
        return Ok(Ok(None));
    }
    // What tells its interfaces from those of other guests.
    let number = match guest.pid {
        Some(pid) => u64::from(pid),
        None => netns::inode(&guest.netns).context("read the inode of a network namespace")?,
    };
    let name = plan::local_name(request, &plan.dev, number);
    let seen = look(kernel, Look::names([name.clone()]))?;
    if existing == Existing::Refused && seen.interface(&Ns::Bridges, &name).is_some_and(|it| it.up) {
        return Ok(Err(Refusal::on_stdout(format!("Link {name} exists and is up"))));
    }
    Ok(Ok(Some(name)))
}

/// Reads what a plan depends on.
fn machine(kernel: &mut Kernel, request: &Request) -> anyhow::Result<Machine> {
    let look_at = |names: &Option<BTreeSet<IfName>>| match names {
        Some(names) => Look::names(names.iter().cloned()),
        None => Look::all(),
    };
    let names = plan::names(request);
    let interfaces = |seen: Observed| seen.spaces.into_values().next().unwrap_or_default().interfaces;
    let mut seen = look(kernel, look_at(&names))?;
    // The interface of such a bridge is an internal port, or a tun device of the userspace datapath. The others cost no
    // question to the database.
    let may_be_ovs = |kind: &Kind| matches!(kind, Kind::Other(it) if it == "openvswitch" || it == "tun");
    if seen.spaces.values().flat_map(|it| it.interfaces.values()).any(|it| may_be_ovs(&it.kind)) {
        kernel.set_ovs_folder(attach::ovs_folder());
        seen = look(kernel, Look { ovs: true, ..look_at(&names) })?;
    }
    Ok(Machine {
        ovs: std::mem::take(&mut seen.ovs).into_keys().collect(),
        interfaces: interfaces(seen),
        has_ovs: ovs::check_installed().is_ok(),
    })
}

fn look(kernel: &mut Kernel, look: Look) -> anyhow::Result<Observed> {
    Ok(kernel.observe(&BTreeMap::from([(Ns::Bridges, look)]))?)
}

/// Removes an interface of a guest, which may have died.
fn detach(word: &str, dev: Option<IfName>) -> anyhow::Result<u8> {
    let guest = match Guest::parse(word) {
        Ok(it) => it,
        Err(error) => return Refusal::new(error).print(),
    };
    let dev = dev.map_or(DEFAULT_DEV.to_owned(), |it| it.to_string());
    remove(&guest, Some(&dev), |_| Ok(()))
}
