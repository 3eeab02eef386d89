//! `conlink diff`: what in the kernel differs from the configuration.

use clap::Args;
use serde_json::json;

use crate::api::{Diff, DifferenceKind, Request};
use crate::tools::conlink::client;
use crate::tools::conlink::status::StatusError;
use crate::words::printable;
use crate::{err, out};

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The compose project or lab [default: COMPOSE_PROJECT_NAME, else all running ones]
    name: Option<String>,
    /// Print a JSON object per line
    #[arg(long)]
    json: bool,
}

/// Prints one line per difference. Exits with 0 when there is none, else with 1.
pub(super) fn main(args: &DiffArgs) -> anyhow::Result<u8> {
    let mut differs = false;
    for server in client::chosen(args.name.as_deref())? {
        let diff: Diff = match client::ask(&server, &Request::Diff) {
            Ok(it) => it,
            Err(error) => {
                err(&format!("error: {error:#}\n"));
                differs = true;
                continue;
            }
        };
        differs |= !diff.differences.is_empty() || !diff.errors.is_empty();
        for it in &diff.differences {
            out(&match (args.json, it.kind) {
                (true, _) => json_line(it)?,
                (false, DifferenceKind::Drift) => printable(&format!("{}: {}", it.subject, it.what)) + "\n",
                (false, DifferenceKind::Pending) => {
                    printable(&format!("{}: not applied yet: {}", it.subject, it.what)) + "\n"
                }
            })?;
        }
        for it in &diff.errors {
            let text = StatusError::from(it).text;
            out(&match args.json {
                true => format!("{}\n", json!({"kind": "failure", "what": text})),
                false => format!("{text}\n"),
            })?;
        }
    }
    Ok(u8::from(differs))
}

fn json_line(it: &impl serde::Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string(it)? + "\n")
}
