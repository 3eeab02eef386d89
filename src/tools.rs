//! The tools: argv, environment, standard streams; thin.

pub(crate) mod conlink;
pub(crate) mod install;
mod logger;
mod nodes;
pub(crate) mod resolve_deps;

/// The answer of a tool that is announced and not built.
pub(crate) fn unbuilt(name: &str) -> anyhow::Result<u8> {
    anyhow::bail!("`{name}` is not built into this version of conlink yet")
}
