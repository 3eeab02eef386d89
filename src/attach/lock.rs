//! One change at a time: two of them could choose the same bridge, or the same end of a patch.

use std::fs::{File, create_dir_all};

use nix::fcntl::{Flock, FlockArg};

use crate::attach::Refusal;
use crate::attach::state::folder;

/// Waits for the lock, and holds it until it is dropped.
pub(super) fn hold() -> Result<Flock<File>, Refusal> {
    let folder = folder();
    let path = folder.join("lock");
    let failed = |it: std::io::Error| Refusal::State(format!("cannot lock {}", path.display()), it);
    create_dir_all(&folder).map_err(failed)?;
    let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, it)| failed(it.into()))
}
