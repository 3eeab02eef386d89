//! Guests that do not exist, and what was attached to those that do or did.

use crate::attach::{self, Found};
use crate::err;
use crate::kernel::netns;
use crate::tools::conlink::guest::{self, Guest, Unresolved};

/// The exit code if the guest does not exist.
const NOT_FOUND: u8 = 3;
/// Prints why a guest was not found. Returns the exit code.
pub(super) fn tell_guest(error: &Unresolved) -> u8 {
    match error {
        Unresolved::NotFound(message) => {
            err(&format!("error: {message}\n"));
            NOT_FOUND
        }
        Unresolved::Failed(error) => {
            err(&format!("error: {error:#}\n"));
            if let Some(hint) = crate::tools::hint(error) {
                err(&format!("hint: {hint}\n"));
            }
            1
        }
    }
}

/// Everything that was attached to a guest, which may have died.
pub(super) fn attachments_of(
    guest: &Guest,
    resolved: &Result<guest::Found, Unresolved>,
) -> anyhow::Result<Vec<Found>> {
    let inode = resolved.as_ref().ok().map(|it| netns::inode(&it.netns)).transpose()?;
    let is_its = |it: &Found| match (inode, &it.netns) {
        (Some(inode), Some(space)) => space.inode == inode,
        _ => guest.names(&it.guest.kind, &it.guest.name),
    };
    Ok(attach::find()?.into_iter().filter(is_its).collect())
}
