//! Address translation: the table `conlink` of nf_tables (family inet), one for each namespace that needs it.
//!
//! A rule carries the mark of its link as its comment. What a rule does is read from its expressions, and only what is
//! exactly as we would write it counts as ours being right: anything else with a mark of ours is seen as
//! [`NatAction::Other`], which is in nobody's wish and so gets deleted. A rule without such a mark is left alone.

mod expr;
mod rule;
mod table;
mod wire;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::kernel::netlink::{Error, Failed, TRIES};
use crate::nat::{NatAction, NatChain, NatRule};
use crate::plan::Mark;

use table::{ChainState, Found, TABLE, Transaction};
use wire::Wire;

/// The kernel has said that it has no nf_tables: each further question would have it look for a module.
static ABSENT: AtomicBool = AtomicBool::new(false);

/// A socket for the rules of one namespace.
#[derive(Debug)]
pub(super) struct Nft {
    /// None where the kernel has no netfilter.
    wire: Option<Wire>,
}

impl Nft {
    /// Opens a socket in the namespace that the calling thread is in. A kernel without netfilter is no error: it has
    /// no rules.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { wire: Wire::open()? })
    }

    /// The rules that carry a mark, of any project, in the order in which packets meet them.
    ///
    /// Without a table, or in a kernel without nf_tables, there are none; neither is made or loaded by asking.
    pub(super) fn dump(&mut self) -> Result<Vec<NatRule>, Error> {
        let Some(wire) = &mut self.wire else { return Ok(Vec::new()) };
        if ABSENT.load(Ordering::Relaxed) || is_unloaded() {
            return Ok(Vec::new());
        }
        let what = || format!("dump rules of table {TABLE}");
        match table::found(wire) {
            Ok(found) => Ok(reported(found)),
            Err(error) if is_absent(&error) => {
                ABSENT.store(true, Ordering::Relaxed);
                Ok(Vec::new())
            }
            Err(error) => Err(error.named(what())),
        }
    }

    /// Deletes and adds rules in one transaction: all of it is done, or nothing.
    ///
    /// The table and its chains are made when a rule needs them, and put right when somebody changed them; with the
    /// last rule, anybody's, the table goes. A rule of `del` that is gone already is deleted, one of `add` that is
    /// there already is not added again.
    pub(super) fn change(&mut self, del: &[NatRule], add: &[NatRule]) -> Result<(), Error> {
        for rule in add {
            writable(rule).map_err(|it| Error::new(format!("add rule {rule}"), it))?;
        }
        let Some(wire) = &mut self.wire else { return absent(add) };
        for _ in 0..TRIES {
            match change(wire, del, add) {
                // Somebody else changed the rules since we looked.
                Err(error) if error.errno() == Some(libc::ERESTART) => {}
                Err(error)
                    if error.errno() == Some(libc::EINVAL)
                        && table::generation(wire).is_err_and(|it| is_absent(&it)) =>
                {
                    return absent(add);
                }
                result => {
                    if result.is_ok() {
                        ABSENT.store(false, Ordering::Relaxed);
                    }
                    return result;
                }
            }
        }
        let busy = io::Error::other("others change the rules of the namespace each time");
        Err(Error::new(format!("change table inet {TABLE}"), busy))
    }
}

fn absent(add: &[NatRule]) -> Result<(), Error> {
    match add.first() {
        Some(rule) => {
            let failed = Failed {
                message: Some("the kernel has no nf_tables".to_owned()),
                ..io::Error::from_raw_os_error(libc::EOPNOTSUPP).into()
            };
            Err(failed.named(format!("add rule {rule}")))
        }
        None => Ok(()),
    }
}

/// What the kernel answers for a subsystem that it does not have (`nfnetlink_rcv_msg()` in
/// `net/netfilter/nfnetlink.c`).
fn is_absent(error: &Failed) -> bool {
    error.source.raw_os_error() == Some(libc::EINVAL)
}

/// Is nf_tables a module that nobody has loaded? Then there is no table, and to ask for one would load it. Where it
/// cannot be told, as in a container that sees no modules, it is taken for loaded.
fn is_unloaded() -> bool {
    static MODULE: OnceLock<bool> = OnceLock::new();
    *MODULE.get_or_init(|| is_module(Path::new("/"))) && !Path::new("/sys/module/nf_tables").exists()
}

/// Is nf_tables, if the kernel has it, a module?
fn is_module(root: &Path) -> bool {
    let builtin = || {
        let release = fs::read_to_string(root.join("proc/sys/kernel/osrelease")).ok()?;
        fs::read_to_string(root.join("lib/modules").join(release.trim_end()).join("modules.builtin")).ok()
    };
    root.join("sys/module").exists() && builtin().is_some_and(|it| !it.contains("/nf_tables.ko"))
}

/// The kernel changes neither type nor hook of a chain that is there.
fn occupied(chain: NatChain) -> Error {
    let message = "it is of another type or at another hook, and holds rules that are not ours to delete";
    let failed =
        Failed { message: Some(message.to_owned()), ..io::Error::from_raw_os_error(libc::EEXIST).into() };
    failed.named(format!("add chain inet {TABLE} {chain}"))
}

/// Can this be a rule in the kernel?
fn writable(rule: &NatRule) -> Result<(), io::Error> {
    if rule.mark.len() > NatRule::MARK_MAX || rule.mark.contains('\0') || Mark::parse(&rule.mark).is_none() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the mark must read `conlink:PROJECT:CONTAINER:DEV`, in {} bytes", NatRule::MARK_MAX),
        ));
    }
    if rule::encode(&rule.action).is_none() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "such a rule cannot be added"));
    }
    Ok(())
}

/// The table's rules as our planner sees them.
fn reported(found: Vec<Found>) -> Vec<NatRule> {
    let mut seen = BTreeSet::new();
    let marked = found.into_iter().filter_map(|it| {
        let handle = it.handle;
        let rule = NatRule { mark: it.mark?, action: it.action.unwrap_or(NatAction::Other { handle }) };
        // The second of two alike would outlive the first.
        let is_first = seen.insert(rule.clone());
        Some(if is_first { rule } else { NatRule { action: NatAction::Other { handle }, ..rule } })
    });
    marked.collect()
}

/// Looks, and makes the change if nobody else makes one meanwhile: else the error is ERESTART.
fn change(wire: &mut Wire, del: &[NatRule], add: &[NatRule]) -> Result<(), Error> {
    let looking = |it: Failed| it.named(format!("dump rules of table {TABLE}"));
    let generation = table::generation(wire).map_err(looking)?;
    let found = table::found(wire).map_err(looking)?;
    let is_deleted = |it: &Found| {
        let same = |rule: &NatRule| match &rule.action {
            NatAction::Other { handle } => *handle == it.handle,
            action => Some(action) == it.action.as_ref(),
        };
        del.iter().any(|rule| it.mark.as_ref() == Some(&rule.mark) && same(rule))
    };
    let (deleted, left): (Vec<Found>, Vec<Found>) = found.into_iter().partition(is_deleted);
    let is_there = |rule: &NatRule| {
        left.iter().any(|it| it.mark.as_ref() == Some(&rule.mark) && it.action.as_ref() == Some(&rule.action))
    };
    let added: Vec<&NatRule> = add.iter().filter(|it| !is_there(it)).collect();
    let mut transaction = Transaction::default();
    if added.is_empty() && left.is_empty() {
        if table::is_dormant(wire).map_err(looking)?.is_some() {
            transaction.del_table();
        }
    } else {
        if !added.is_empty() {
            transaction.add_table();
        }
        for it in &deleted {
            transaction.del_rule(it);
        }
        for chain in NatChain::ALL {
            if !added.iter().any(|it| it.action.chain() == Some(chain)) {
                continue;
            }
            if table::chain_state(wire, chain).map_err(looking)? == ChainState::Wrong {
                if left.iter().any(|it| it.chain == chain.name()) {
                    return Err(occupied(chain));
                }
                transaction.del_chain(chain);
            }
            transaction.add_chain(chain);
        }
        for rule in added {
            transaction.add_rule(rule);
        }
    }
    transaction.commit(wire, generation)
}

#[cfg(test)]
mod tests;
