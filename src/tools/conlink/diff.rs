//! `conlink diff`: what in the kernel differs from the configuration.

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use crate::out;
use crate::tools::conlink::client;
use crate::tools::conlink::status::{drift, failures};

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
        let status = client::ask(&server, &json!({ "request": "status" }))?;
        if status["listening"] != Value::Bool(true) || status["state"] == "working" {
            bail!("{server}: not everything has been checked yet");
        }
        let drift = drift(&status);
        for (subject, what) in &drift {
            out(&match args.json {
                true => format!("{}\n", json!({"kind": "drift", "subject": subject, "what": what})),
                false => format!("{subject}: {what}\n"),
            })?;
        }
        for it in failures(&status) {
            differs = true;
            out(&match args.json {
                true => format!("{}\n", json!({"kind": "failure", "what": it.text})),
                false => format!("{}\n", it.text),
            })?;
        }
        differs |= !drift.is_empty();
    }
    Ok(u8::from(differs))
}
