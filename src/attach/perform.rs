//! Makes an attachment: all of it or nothing.

use std::fs::File;

use crate::addr::{IfName, Mac};
use crate::attach::detach::remove_parent;
use crate::attach::{Attachment, Guest, Impossible, Wiring, by_mac, lock, state};
use crate::kernel::{Error, Kernel, announce, netns};
use crate::plan::{Change, Desired, Failure, Interface, Look, Ns, Observed, Plan, Step, Subject};
use crate::wire;

/// What may be changed if the interface exists already and is not as requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum How {
    #[default]
    Nothing,
    /// Whatever can change while it stays.
    InPlace,
    /// Everything: it is made anew if necessary.
    Anew,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Unchanged,
    Made,
    Changed,
}

/// Why the interface is not as requested. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Impossible(#[from] Impossible),
    #[error(transparent)]
    Kernel(#[from] Error),
    /// Each difference in words.
    #[error("{guest} already has an interface `{dev}` that is not as requested: {}", .differences.join(", "))]
    Differs { guest: Guest, dev: IfName, differences: Vec<String>, must_be_anew: bool },
    /// At least one.
    #[error("{}", .0.iter().map(|it| it.message.as_str()).collect::<Vec<_>>().join("; "))]
    Failed(Vec<Failure>),
    #[error("{0}: {1}")]
    State(String, std::io::Error),
}

impl Refusal {
    /// A hint on how to fix it.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::Impossible(it) => it.help.as_deref(),
            Self::Kernel(it) => it.hint(),
            Self::Failed(failures) => failures.iter().find_map(|it| it.help.as_deref()),
            Self::Differs { .. } | Self::State(..) => None,
        }
    }
}

/// The namespaces of an attachment: the guest's, and the caller's own for bridges and parents.
pub(super) fn kernel(guest: &Guest, netns: Option<File>) -> Result<Kernel, Error> {
    let own = || netns::own().map_err(|it| Error::new("open the network namespace", it));
    let mut kernel = Kernel::new(own()?)?;
    kernel.set_host(Some(own()?));
    kernel.set_ovs_folder(state::ovs_folder());
    if let Some(netns) = netns {
        kernel.attach_netns(&guest.id(), netns)?;
    }
    Ok(kernel)
}

/// What [`attach`] would do.
///
/// # Errors
/// As by [`attach`], as far as it can be known before.
pub fn preview(netns: File, it: &Attachment, how: How) -> Result<Plan, Refusal> {
    let mut kernel = kernel(&it.guest, Some(netns))?;
    kernel.look_only();
    let (desired, _) = checked(&mut kernel, it, how)?;
    wire::preview(&mut kernel, &desired).map_err(|it| Refusal::Failed(vec![*it]))
}

/// Makes the interface as requested, or changes nothing.
///
/// Neighbours are told of its addresses; their answers are not waited for.
///
/// # Errors
/// It exists and differs from the request by more than `how` allows, or the kernel refuses it.
pub fn attach(netns: File, it: &Attachment, how: How) -> Result<Done, Refusal> {
    let _lock = lock::hold()?;
    let again = netns.try_clone().map_err(|it| Error::new("open the network namespace", it))?;
    let mut kernel = kernel(&it.guest, Some(netns))?;
    let (desired, done) = checked(&mut kernel, it, how)?;
    if done != Done::Unchanged {
        make(&mut kernel, &again, &desired, it)?;
    }
    Ok(done)
}

/// The desired state, and what there is to do for it.
fn checked(kernel: &mut Kernel, it: &Attachment, how: How) -> Result<(Desired, Done), Refusal> {
    let whole = how == How::Anew;
    let desired = it.desired(&kernel.observe(&it.looks(whole))?, whole)?;
    let done = match differences(kernel, &desired, it)? {
        Differences::None => Done::Unchanged,
        Differences::All => Done::Made,
        Differences::Some { words, must_be_anew } => {
            let may = match how {
                How::Nothing => false,
                How::InPlace => !must_be_anew,
                How::Anew => true,
            };
            if !may {
                let (guest, dev) = (it.guest.clone(), it.dev.clone());
                return Err(Refusal::Differs { guest, dev, differences: words, must_be_anew });
            }
            Done::Changed
        }
    };
    Ok((desired, done))
}

/// How an interface differs from the request.
enum Differences {
    None,
    Some {
        words: Vec<String>,
        must_be_anew: bool,
    },
    /// It does not exist.
    All,
}

fn differences(kernel: &mut Kernel, desired: &Desired, it: &Attachment) -> Result<Differences, Refusal> {
    let (drift, plan) = {
        let mut settled = desired.clone();
        settled.settled.insert(Subject::Link(it.id()));
        wire::diff(kernel, &settled).map_err(|it| Refusal::Failed(vec![*it]))?
    };
    let ns = Ns::Container(it.guest.id());
    let inside = kernel.observe(&[(ns.clone(), Look::names([it.dev.clone()]))].into())?;
    match inside.interface(&ns, &it.dev).filter(|it| Guest::of_interface(it).is_some()) {
        None => return Ok(Differences::All),
        Some(have) if have.moved_from().is_some() && !matches!(it.wiring, Wiring::Moved(_)) => {
            let message = format!("interface `{}` of {} was moved there from the host", it.dev, it.guest);
            return Err(Impossible { message, help: Some("`conlink detach` returns it".to_owned()) }.into());
        }
        Some(_) => {}
    }
    let steps = || plan.groups.iter().flat_map(|it| &it.steps);
    let deletes =
        |step: &Step| matches!(step, Step::DelInterface { ns: of, name } if *of == ns && *name == it.dev);
    let must_be_anew = steps().any(deletes);
    if plan.groups.is_empty() && drift.is_empty() && !plan.problems.is_empty() {
        return Err(Refusal::Failed(plan.problems.iter().map(Failure::from).collect()));
    }
    let mut words: Vec<String> = drift.into_values().flatten().collect();
    words.extend(steps().filter(|it| !only_marks(it)).map(Step::to_string));
    match words.is_empty() && plan.groups.is_empty() {
        true => Ok(Differences::None),
        false => Ok(Differences::Some { words, must_be_anew }),
    }
}

fn only_marks(step: &Step) -> bool {
    let Step::SetInterface { change, .. } = step else { return false };
    Change { mark: None, ..change.clone() } == Change::default()
}

/// Applies the request. If that fails, everything is as before.
fn make(kernel: &mut Kernel, netns: &File, desired: &Desired, it: &Attachment) -> Result<(), Refusal> {
    let inode = netns::inode(netns).map_err(|it| Error::new("read the inode of a network namespace", it))?;
    let mut record = state::Record::new(it, inode);
    let earlier = state::Record::find(&it.guest, &it.dev);
    // The kernel has returned it without its settings when its guest died.
    if let Some(moved) = earlier.as_ref().filter(|it| it.netns != inode).and_then(|it| it.moved.as_ref()) {
        state::restore(kernel, moved);
    }
    let mut moved = None;
    if let Wiring::Moved(name) = &it.wiring {
        moved = state::before_move(kernel, name)?;
        record.moved = moved.clone().or(earlier.as_ref().and_then(|it| it.moved.clone()));
    }
    if record.is_needed() {
        record
            .save()
            .map_err(|it| Refusal::State("cannot write the state of the interface".to_owned(), it))?;
    }
    let outcome = wire::converge(kernel, desired);
    if !outcome.failures.is_empty() {
        if let Some(moved) = &moved {
            state::restore(kernel, moved);
        }
        record.remove();
        if let Some(Err(error)) = earlier.map(|it| it.save()) {
            log::warn!("the state of interface {} is lost: {error}", it.dev);
        }
        return Err(Refusal::Failed(outcome.failures));
    }
    if !record.is_needed() {
        record.remove();
    }
    if let Some(earlier) = earlier.filter(|it| it.parent != record.parent) {
        remove_parent(kernel, &earlier)?;
    }
    let addrs: Vec<_> = it.addrs.iter().map(|it| it.addr()).collect();
    announce::tell(netns, &it.dev, &addrs);
    Ok(())
}

/// The interface of the host with this MAC address, as [`by_mac`] chooses it.
///
/// # Errors
/// There is none, or the interfaces could not be read.
pub fn interface_with(mac: Mac) -> Result<IfName, Refusal> {
    let own = netns::own().map_err(|it| Error::new("open the network namespace", it))?;
    let mut observed = Kernel::new(own)?.observe(&[(Ns::Bridges, Look::all())].into())?;
    let interfaces = observed.spaces.remove(&Ns::Bridges).unwrap_or_default().interfaces;
    let missing = || Impossible { message: format!("no interface has the MAC address {mac}"), help: None };
    Ok(by_mac(mac, &interfaces).map(|(name, _)| name.clone()).ok_or_else(missing)?)
}

/// Is the interface up, with a carrier?
///
/// # Errors
/// It could not be read.
pub fn has_carrier(netns: &File, dev: &IfName) -> Result<bool, Error> {
    let file = netns.try_clone().map_err(|it| Error::new("open a network namespace", it))?;
    Kernel::new(file)?.has_carrier(&Ns::Bridges, dev)
}

pub(super) fn interfaces<'a>(
    observed: &'a Observed,
    ns: &Ns,
) -> impl Iterator<Item = (&'a IfName, &'a Interface)> {
    observed.spaces.get(ns).into_iter().flat_map(|it| &it.interfaces)
}
