//! `lab down`, and the removal of what a lab leaves whose keeper was killed.

use std::collections::BTreeSet;
use std::io::PipeReader;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::api::{Ending, Request, Status};
use crate::err;
use crate::kernel::{Kernel, netns};
use crate::lab::USES_HOST;
use crate::network::Place;
use crate::plan::{Desired, Scope};
use crate::process::{Signals, node};
use crate::tools::conlink::lab::dir::LabDir;
use crate::tools::conlink::lab::logs;
use crate::tools::conlink::lab::progress::some_of;
use crate::tools::conlink::lab::which::ask;
use crate::wire;

/// Longest wait for the keeper beyond the time that its nodes have to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A wait that is longer is explained.
const A_MOMENT: Duration = Duration::from_secs(1);

pub(super) fn main(dir: &LabDir, quiet: bool) -> anyhow::Result<u8> {
    let signals = Signals::hold().context("block signals")?;
    Ok(down_or_kill(dir, &signals, quiet)?.unwrap_or(0))
}

/// Ends a lab. A signal that arrives meanwhile kills its nodes at once. Returns the exit code for such a signal.
pub(super) fn down_or_kill(dir: &LabDir, signals: &Signals, quiet: bool) -> anyhow::Result<Option<u8>> {
    // Opened now: a later keeper is that of another lab.
    let Some(keeper) = dir.keeper() else { return down(dir, quiet).map(|()| None) };
    let (over, ending) = std::io::pipe().context("make a pipe")?;
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let signal = signal_before(signals, &over)?;
            if signal.is_some() {
                node::signal(keeper.as_fd(), libc::SIGKILL);
            }
            anyhow::Ok(signal)
        });
        let ended = down(dir, quiet);
        drop(ending);
        let signal =
            watcher.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the thread for signals panicked")));
        ended?;
        // The convention of shells.
        Ok(signal?.map(|it| 128 + it))
    })
}

/// The number of the next signal that would end this process; None if the other end of the pipe is closed first.
fn signal_before(signals: &Signals, over: &PipeReader) -> anyhow::Result<Option<u8>> {
    loop {
        let mut files = [signals.as_fd(), over.as_fd()].map(|it| PollFd::new(it, PollFlags::POLLIN));
        match poll(&mut files, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error).context("wait for signals"),
        }
        if let Some(signal) = signals.next(&[]).context("read signals")?.ending {
            return Ok(Some(signal));
        }
        if files.last().and_then(PollFd::any).unwrap_or_default() {
            return Ok(None);
        }
    }
}

/// Ends a lab: its nodes in the time that their services have, then everything else. Removes what a killed keeper left.
fn down(dir: &LabDir, quiet: bool) -> anyhow::Result<()> {
    // A `lab up` at the same time may start it again.
    for _ in 0..10 {
        let uses_host = uses_host(dir);
        end(dir, quiet)?;
        if uses_host {
            // What nodes have on the host, such as a MAC address, is free only then.
            settle();
        }
        let claim = dir.claim()?;
        if dir.keeper().is_none() {
            clear(dir)?;
            return dir.remove(&claim);
        }
    }
    bail!("lab `{}` is started again and again", dir.name());
}

/// Asks the keeper to end, if there is one, and waits for its end.
pub(super) fn end(dir: &LabDir, quiet: bool) -> anyhow::Result<()> {
    let Some(keeper) = dir.keeper() else { return Ok(()) };
    let time = match ask(dir, &Request::Down, Some(PATIENCE)) {
        Ok(Ending { seconds }) => seconds,
        // A keeper that does not answer cannot end by itself.
        Err(error) => {
            log::debug!("ask the keeper to end: {error:#}");
            node::signal(keeper.as_fd(), libc::SIGKILL);
            0.0
        }
    };
    let has_ended = |limit| node::wait_for_end(keeper.as_fd(), limit).context("wait for the lab to end");
    if has_ended(A_MOMENT)? {
        return Ok(());
    }
    if !quiet {
        say_what_stops(dir, time);
    }
    if !has_ended(Duration::try_from_secs_f64(time).unwrap_or_default() + PATIENCE)? {
        node::signal(keeper.as_fd(), libc::SIGKILL);
        if !has_ended(PATIENCE)? {
            bail!("lab `{}` does not end after SIGKILL", dir.name());
        }
    }
    Ok(())
}

/// Prints which nodes are still stopping, and for how many seconds they may.
fn say_what_stops(dir: &LabDir, time: f64) {
    let Ok(status) = ask::<Status>(dir, &Request::Status, Some(A_MOMENT)) else { return };
    let stops = status.nodes.iter().filter_map(|it| it.process.as_ref()).filter(|it| it.state == "stopping");
    let names: Vec<&str> = stops.map(|it| it.name.as_str()).collect();
    if !names.is_empty() {
        err(&format!(
            "lab {}: waiting up to {time:.0} s for {} to exit; Ctrl-C kills all nodes\n",
            dir.name(),
            some_of(&names)
        ));
    }
}

/// Removes what a killed lab may have left: our interfaces on the host, and the contents of its folder except logs.
pub(super) fn clear(dir: &LabDir) -> anyhow::Result<()> {
    dir.wait_for_last(PATIENCE)?;
    if uses_host(dir) {
        settle();
        clear_host(dir)?;
    }
    clear_folder(dir.folder(), 0)
}

/// Removes everything in the lab's folder but logs: its own at depth 0, and those of nodes at depth 2.
fn clear_folder(folder: &Path, depth: u32) -> anyhow::Result<()> {
    let what = || format!("read {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(what)? {
        let entry = entry.with_context(what)?;
        let path = entry.path();
        let kind = entry.file_type().with_context(what)?;
        if depth != 1 && kind.is_file() && logs::age(&entry.file_name()).is_some() {
            continue;
        }
        let removed = if !kind.is_dir() {
            std::fs::remove_file(&path)
        } else if depth == 1 || (depth == 0 && entry.file_name() == "nodes") {
            clear_folder(&path, depth + 1)?;
            // Logs stay in it.
            let _ = std::fs::remove_dir(&path);
            Ok(())
        } else {
            std::fs::remove_dir_all(&path)
        };
        removed.with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

fn uses_host(dir: &LabDir) -> bool {
    dir.folder().join(USES_HOST).exists()
}

/// Waits until the kernel has removed the namespaces of ended nodes.
fn settle() {
    match netns::settle(PATIENCE) {
        Ok(true) => {}
        Ok(false) => log::warn!("the kernel has not removed all namespaces of the lab yet"),
        Err(error) => log::warn!("wait for the removal of namespaces: {error}"),
    }
}

/// Applies a plan that desires nothing.
fn clear_host(dir: &LabDir) -> anyhow::Result<()> {
    let bridges = netns::anonymous().context("create a network namespace")?;
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
