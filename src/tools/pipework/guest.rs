//! The guest of a call: a process, or a network namespace by its path or name.

use std::fs::File;
use std::path::Path;

use anyhow::Context;

use crate::kernel::netns;

/// A running guest.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) netns: File,
    /// A process in it.
    pub(super) pid: Option<u32>,
}

impl Guest {
    /// What tells its interfaces from those of others, for names.
    pub(super) fn number(&self) -> anyhow::Result<u64> {
        match self.pid {
            Some(pid) => Ok(pid.into()),
            None => netns::inode(&self.netns).context("read the inode of a network namespace"),
        }
    }
}

pub(super) fn find(word: &str) -> anyhow::Result<Guest> {
    if let Ok(pid) = word.parse() {
        let netns = netns::of_process(pid).with_context(|| format!("open the namespace of process {pid}"))?;
        return Ok(Guest { netns, pid: Some(pid) });
    }
    if word.contains('/') {
        let netns = File::open(Path::new(word)).with_context(|| format!("open {word}"))?;
        return Ok(Guest { netns, pid: None });
    }
    let found = netns::find_named(word).with_context(|| format!("open the namespace `{word}`"))?;
    Ok(Guest { netns: found.with_context(|| format!("no guest `{word}`"))?, pid: None })
}
