//! `conlink attachments`.

use clap::Args;
use serde_json::json;

use crate::attach::{self, Found};
use crate::out;
use crate::tools::conlink::attach::guests::{attachments_of, tell_guest};
use crate::tools::conlink::guest::Guest;

/// List the interfaces that `attach` and `pipework` made
#[derive(Debug, Args)]
pub(in crate::tools::conlink) struct AttachmentsArgs {
    /// Of this container, process or network namespace only
    #[arg(value_name = "GUEST", value_parser = Guest::parse)]
    guest: Option<Guest>,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

/// Prints what the kernel has. The exit code is 0 unless the given guest neither exists nor has left anything.
pub(super) fn main(args: &AttachmentsArgs) -> anyhow::Result<u8> {
    let all = match &args.guest {
        None => attach::find()?,
        Some(guest) => {
            let resolved = guest.resolve();
            match (attachments_of(guest, &resolved)?, &resolved) {
                // Without the guest there may be something left.
                (all, Err(error)) if all.is_empty() => return Ok(tell_guest(error)),
                (all, _) => all,
            }
        }
    };
    if args.json {
        let lines = all.iter().map(|it| format!("{}\n", as_json(it)));
        return out(&lines.collect::<String>()).map(|()| 0);
    }
    let rows: Vec<[String; 6]> = all.iter().map(row).collect();
    let titles = ["GUEST", "DEV", "TYPE", "ON", "STATE", "ADDRESSES"].map(str::to_owned);
    let rows: Vec<&[String; 6]> = [&titles].into_iter().chain(&rows).collect();
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row.iter()) {
            *width = (*width).max(cell.len());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    out(&text).map(|()| 0)
}

fn state(it: &Found) -> &'static str {
    match (&it.netns, it.up) {
        (None, _) => "guest gone",
        (Some(_), true) => "up",
        (Some(_), false) => "down",
    }
}

fn row(it: &Found) -> [String; 6] {
    let addrs: Vec<String> = it.addrs.iter().map(ToString::to_string).collect();
    [
        it.guest.to_string(),
        it.dev.to_string(),
        it.kind.to_owned(),
        it.on.clone().unwrap_or_else(|| "-".to_owned()),
        state(it).to_owned(),
        if addrs.is_empty() { "-".to_owned() } else { addrs.join(" ") },
    ]
}

fn as_json(it: &Found) -> serde_json::Value {
    json!({
        "guest": it.guest.to_string(),
        "dev": it.dev.as_str(),
        "type": it.kind,
        "on": it.on,
        "state": state(it),
        "mac": it.mac.map(|it| it.to_string()),
        "mtu": it.netns.is_some().then_some(it.mtu),
        "addresses": it.addrs.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
