//! The tools: argv, environment, standard streams; thin.

mod color;
pub(crate) mod conlink;
pub(crate) mod copy;
pub(crate) mod dhcp;
pub(crate) mod echo;
mod exec;
pub(crate) mod front;
mod input;
mod install;
mod logger;
pub(crate) mod mdc;
pub(crate) mod net2dot;
mod nodes;
pub(crate) mod pipework;
pub(crate) mod resolve_deps;
pub(crate) mod wait;

use crate::config::Env;
use crate::kernel;

/// The hint of an error that ends a tool.
pub(crate) fn hint(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|it| it.downcast_ref::<kernel::Error>()?.hint())
}

/// The environment, without variables that are not UTF-8: no file can refer to them.
fn environment() -> Env {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
