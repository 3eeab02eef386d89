//! `lab down`, and what there is to clean up after a lab whose keeper was killed; `lab list`.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::api::{Ending, Request, Status};
use crate::kernel::{Kernel, netns};
use crate::lab::USES_HOST;
use crate::network::Place;
use crate::out;
use crate::plan::{Desired, Scope};
use crate::process::node;
use crate::tools::conlink::lab::ask;
use crate::tools::conlink::lab::dir::LabDir;
use crate::wire;

/// The longest that a keeper is waited for beyond the time that its nodes have to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends a lab: its nodes in the time that their services give them, then everything else. What a killed keeper left goes
/// as well.
pub(super) fn down(dir: &LabDir) -> anyhow::Result<u8> {
    // Who starts it at the same time comes first, or after all.
    for _ in 0..10 {
        let uses_host = uses_host(dir);
        end(dir)?;
        if uses_host {
            // What is theirs on the host, say a MAC address, is free only then.
            settle();
        }
        let claim = dir.claim()?;
        if dir.keeper().is_none() {
            clear(dir)?;
            dir.remove(&claim)?;
            return Ok(0);
        }
    }
    bail!("lab `{}` is started again and again", dir.name());
}

/// Has the keeper end, if there is one, and waits until it has.
pub(super) fn end(dir: &LabDir) -> anyhow::Result<()> {
    let Some(keeper) = dir.keeper() else { return Ok(()) };
    let time = match ask(dir, &Request::Down, Some(PATIENCE)) {
        Ok(Ending { seconds }) => seconds,
        // A keeper that does not answer has no claim to being asked.
        Err(error) => {
            log::debug!("ask the keeper to end: {error:#}");
            node::signal(keeper.as_fd(), libc::SIGKILL);
            0.0
        }
    };
    let limit = Duration::try_from_secs_f64(time).unwrap_or_default() + PATIENCE;
    if !node::wait_for_end(keeper.as_fd(), limit).context("wait for the lab to end")? {
        node::signal(keeper.as_fd(), libc::SIGKILL);
        if !node::wait_for_end(keeper.as_fd(), PATIENCE).context("wait for the lab to end")? {
            bail!("lab `{}` does not end, though it was killed", dir.name());
        }
    }
    Ok(())
}

/// Removes what a lab that was killed may have left: interfaces of ours on the host, and what is in its folder.
pub(super) fn clear(dir: &LabDir) -> anyhow::Result<()> {
    dir.wait_for_last(PATIENCE)?;
    if uses_host(dir) {
        settle();
        clear_host(dir)?;
    }
    for entry in std::fs::read_dir(dir.folder()).context("read the lab's folder")? {
        let path = entry.context("read the lab's folder")?.path();
        let removed = if path.is_dir() && !path.is_symlink() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        removed.with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

fn uses_host(dir: &LabDir) -> bool {
    dir.folder().join(USES_HOST).exists()
}

/// Waits for the kernel to take the namespaces of nodes that have ended apart.
fn settle() {
    match netns::settle(PATIENCE) {
        Ok(true) => {}
        Ok(false) => log::warn!("the kernel is still taking namespaces apart"),
        Err(error) => log::warn!("wait for namespaces to go: {error}"),
    }
}

/// The same plan as for everything else: nothing is desired any more.
fn clear_host(dir: &LabDir) -> anyhow::Result<()> {
    let bridges = netns::anonymous().context("make a network namespace")?;
    let mut kernel = Kernel::new(bridges)?;
    kernel.set_host(Some(netns::own().context("open the network namespace")?));
    let places = BTreeSet::from([Place::Host]);
    let scope = Scope::Project { places, keep: BTreeSet::new(), inner: BTreeSet::new() };
    let desired = Desired::nothing(format!("{}.lab", dir.name()), scope);
    let outcome = wire::converge(&mut kernel, &desired);
    match outcome.failures.first() {
        None => Ok(()),
        Some(failure) => bail!("clean up on the host: {}: {}", failure.subject, failure.message),
    }
}

pub(super) fn list(as_json: bool) -> anyhow::Result<u8> {
    let mut rows = Vec::new();
    for dir in LabDir::all() {
        let lives = dir.is_kept();
        let status: Option<Status> = ask(&dir, &Request::Status, Some(PATIENCE)).ok();
        let nodes = status.as_ref().map_or(0, |it| it.nodes.len());
        let state = match status {
            Some(it) if lives => it.state.to_string(),
            _ if lives => "silent".to_owned(),
            _ => "dead".to_owned(),
        };
        rows.push((dir.name().to_owned(), state, nodes, dir.folder().display().to_string()));
    }
    if as_json {
        let all: Vec<Value> = rows
            .iter()
            .map(|(name, state, nodes, folder)| json!({"name": name, "state": state, "nodes": nodes, "folder": folder}))
            .collect();
        out(&format!("{}\n", serde_json::to_string_pretty(&all)?))?;
        return Ok(0);
    }
    let width = rows.iter().map(|it| it.0.len()).max().unwrap_or(0).max(4);
    let mut text = format!("{:<width$}  {:<9}  NODES\n", "NAME", "STATE");
    for (name, state, nodes, _) in &rows {
        text += &format!("{name:<width$}  {state:<9}  {nodes}\n");
    }
    out(&text).map(|()| 0)
}
