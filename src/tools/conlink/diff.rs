//! `conlink diff`: differences between the kernel and the configuration.

use clap::Args;
use serde_json::json;

use crate::api::{Diff, DifferenceKind, Request};
use crate::tools::conlink::client::Which;
use crate::tools::conlink::socket;
use crate::tools::conlink::status::StatusError;
use crate::words::printable;
use crate::{err, out};

/// Print differences between the kernel and the configuration
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    which: Which,
    /// Print each difference as one line of JSON
    #[arg(long)]
    json: bool,
}

/// Prints one line per difference. The exit code is 0 if there is none, else 1.
pub(super) fn main(args: &DiffArgs) -> anyhow::Result<u8> {
    let (mut differs, mut drifted) = (false, false);
    for server in args.which.servers()? {
        let diff: Diff = match socket::ask(&server, &Request::Diff) {
            Ok(it) => it,
            Err(error) => {
                err(&format!("error: {error:#}\n"));
                differs = true;
                continue;
            }
        };
        differs |= !diff.differences.is_empty() || !diff.errors.is_empty();
        for it in &diff.differences {
            drifted |= it.kind == DifferenceKind::Drift && it.subject.starts_with("link ");
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
    if drifted && !args.json {
        err("hint: `conlink link up <NODE>` restores the links of a node\n");
    }
    Ok(u8::from(differs))
}

fn json_line(it: &impl serde::Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string(it)? + "\n")
}
