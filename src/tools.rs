//! The tools: argv, environment, standard streams; thin.

mod color;
pub(crate) mod conlink;
pub(crate) mod copy;
mod exec;
pub(crate) mod front;
mod install;
mod logger;
pub(crate) mod mdc;
pub(crate) mod net2dot;
mod nodes;
pub(crate) mod resolve_deps;
pub(crate) mod wait;

use crate::config::Env;

/// The environment, without variables that are not UTF-8: no file can refer to them.
fn environment() -> Env {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
