//! The arguments of `lab up`.

use std::time::Duration;

use clap::Args;

use crate::duration;
use crate::tools::conlink::options::Files;
use crate::tools::logger::Verbosity;

/// The arguments of `lab up`, which `lab run` has too.
#[derive(Debug, Args)]
pub(in crate::tools::conlink) struct UpArgs {
    #[command(flatten)]
    pub(super) files: Files,
    /// Name of the lab [default: CONLINK_LAB, otherwise the compose project's name]
    #[arg(short, long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Set the number of replicas of a service
    #[arg(long, value_name = "SERVICE=N")]
    pub(super) scale: Vec<String>,
    /// Enable the services of a compose profile
    #[arg(long, value_name = "NAME")]
    pub(super) profile: Vec<String>,
    /// Give each node its own layer over the machine's files, and its own /dev; its changes are removed with the node
    #[arg(long)]
    pub(super) private_root: bool,
    /// Give up if the lab is not up after this time, such as 30s or 5m; the lab keeps running
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_above_zero)]
    pub(super) timeout: Option<Duration>,
    #[command(flatten)]
    pub(super) verbosity: Verbosity,
}

/// The lab whose `lab run` started this process.
pub(super) fn current() -> Option<String> {
    std::env::var("CONLINK_LAB").ok().filter(|it| !it.is_empty())
}
