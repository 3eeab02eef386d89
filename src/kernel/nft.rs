//! Address translation: the nf_tables table `conlink` (family inet) in each namespace that needs it.
//!
//! Each rule has the mark of its link as comment. Its action is parsed from its expressions: a rule with a mark that is
//! not exactly as conlink writes it is read as [`NatAction::Other`], which is never desired and so is deleted. Rules
//! without a mark are left alone.

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

/// The kernel has no nf_tables. It is not asked again, because each request would make it search for the module.
static ABSENT: AtomicBool = AtomicBool::new(false);

/// A socket for the rules of one namespace.
#[derive(Debug)]
pub(super) struct Nft {
    /// None if the kernel has no netfilter.
    wire: Option<Wire>,
}

impl Nft {
    /// Opens a socket in the namespace of the calling thread. A kernel without netfilter is not an error: it has no
    /// rules.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { wire: Wire::open()? })
    }

    /// The rules with a mark of any project, in their order.
    ///
    /// Empty without the table or without nf_tables; reading neither makes the table nor loads the module.
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

    /// Deletes and adds rules in one transaction.
    ///
    /// The table and its chains are made when a rule needs them, and repaired if another program has changed them. The
    /// table is deleted with its last rule. Rules of `del` that do not exist and rules of `add` that already exist are
    /// skipped.
    pub(super) fn change(&mut self, del: &[NatRule], add: &[NatRule]) -> Result<(), Error> {
        for rule in add {
            writable(rule).map_err(|it| Error::new(format!("add rule {rule}"), it))?;
        }
        let Some(wire) = &mut self.wire else { return absent(add) };
        for _ in 0..TRIES {
            match change(wire, del, add) {
                // Another program has changed the rules since they were read.
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
        let busy = io::Error::other("another program changed the rules during each try");
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

/// Is it the kernel's error for a missing subsystem (`nfnetlink_rcv_msg()` in `net/netfilter/nfnetlink.c`)?
fn is_absent(error: &Failed) -> bool {
    error.source.raw_os_error() == Some(libc::EINVAL)
}

/// Is nf_tables a module that is not loaded? Then there is no table, and a request would load it. False if that is
/// unknown, as in a container that cannot see the modules.
fn is_unloaded() -> bool {
    static MODULE: OnceLock<bool> = OnceLock::new();
    *MODULE.get_or_init(|| is_module(Path::new("/"))) && !Path::new("/sys/module/nf_tables").exists()
}

/// Is nf_tables a module, and not built in?
fn is_module(root: &Path) -> bool {
    let builtin = || {
        let release = fs::read_to_string(root.join("proc/sys/kernel/osrelease")).ok()?;
        fs::read_to_string(root.join("lib/modules").join(release.trim_end()).join("modules.builtin")).ok()
    };
    root.join("sys/module").exists() && builtin().is_some_and(|it| !it.contains("/nf_tables.ko"))
}

/// The error for a chain of another type or hook, which the kernel cannot change.
fn occupied(chain: NatChain) -> Error {
    let message = "the chain exists with another type or hook, and has rules of other programs";
    let failed =
        Failed { message: Some(message.to_owned()), ..io::Error::from_raw_os_error(libc::EEXIST).into() };
    failed.named(format!("add chain inet {TABLE} {chain}"))
}

/// Checks that the kernel accepts the rule.
fn writable(rule: &NatRule) -> Result<(), io::Error> {
    if rule.mark.len() > NatRule::MARK_MAX || rule.mark.contains('\0') || Mark::parse(&rule.mark).is_none() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("expected a mark `conlink:PROJECT:CONTAINER:DEV` of at most {} bytes", NatRule::MARK_MAX),
        ));
    }
    if rule::encode(&rule.action).is_none() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "unsupported rule"));
    }
    Ok(())
}

/// The rules of the table for the plan.
fn reported(found: Vec<Found>) -> Vec<NatRule> {
    let mut seen = BTreeSet::new();
    let marked = found.into_iter().filter_map(|it| {
        let handle = it.handle;
        let rule = NatRule { mark: it.mark?, action: it.action.unwrap_or(NatAction::Other { handle }) };
        // Of two equal rules only the first would be deleted.
        let is_first = seen.insert(rule.clone());
        Some(if is_first { rule } else { NatRule { action: NatAction::Other { handle }, ..rule } })
    });
    marked.collect()
}

/// Reads the rules and makes the change. The error is ERESTART if another program has changed the rules in between.
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
