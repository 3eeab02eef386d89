//! `lab list`.

use clap::Args;
use serde_json::{Value, json};

use crate::api::{Request, Status};
use crate::out;
use crate::tools::conlink::lab::dir::LabDir;
use crate::tools::conlink::lab::which::ask;
use crate::tools::conlink::socket::PATIENCE;

#[derive(Debug, Args)]
pub(in crate::tools::conlink) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print names only
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
}

/// A lab in the list.
struct Row {
    name: String,
    /// As in the status; `silent`: the keeper does not answer; `dead`: it was killed.
    state: String,
    nodes: usize,
    folder: String,
}

pub(super) fn list(args: &ListArgs) -> anyhow::Result<u8> {
    let labs = LabDir::all();
    if args.quiet {
        out(&labs.iter().map(|it| format!("{}\n", it.name())).collect::<String>())?;
        return Ok(0);
    }
    let rows: Vec<Row> = labs.iter().map(row).collect();
    if args.json {
        let all: Vec<Value> = rows
            .iter()
            .map(|Row { name, state, nodes, folder }| json!({"name": name, "state": state, "nodes": nodes, "folder": folder}))
            .collect();
        out(&format!("{}\n", serde_json::to_string_pretty(&all)?))?;
        return Ok(0);
    }
    let width = rows.iter().map(|it| it.name.len()).max().unwrap_or(0).max(4);
    let mut text = format!("{:<width$}  {:<9}  NODES\n", "NAME", "STATE");
    for Row { name, state, nodes, .. } in &rows {
        text += &format!("{name:<width$}  {state:<9}  {nodes}\n");
    }
    out(&text).map(|()| 0)
}

fn row(dir: &LabDir) -> Row {
    let is_kept = dir.is_kept();
    let status: Option<Status> = ask(dir, &Request::Status, Some(PATIENCE)).ok();
    let nodes = status.as_ref().map_or(0, |it| it.nodes.len());
    let state = match status {
        Some(it) if is_kept => it.state.to_string(),
        _ if is_kept => "silent".to_owned(),
        _ => "dead".to_owned(),
    };
    Row { name: dir.name().to_owned(), state, nodes, folder: dir.folder().display().to_string() }
}
