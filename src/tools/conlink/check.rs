//! `conlink check FILE…`: all that is wrong, at once.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::tools::color::Color;
use crate::tools::conlink::Files;
use crate::tools::conlink::files::{Described, Role, locate};
use crate::{err, out};

/// Check configuration files and print every error
#[derive(Debug, Args)]
#[command(mut_arg("compose_files", |it| it.num_args(1)), mut_arg("network_files", |it| it.num_args(1)))]
pub(super) struct CheckArgs {
    /// Compose file (if it has `services` or `x-network` at the top level) or network file [default: the compose files
    /// of this directory]
    #[arg(value_name = "FILE")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    files: Files,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Same as `--format json`
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Print errors only
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub(super) fn main(args: &CheckArgs) -> anyhow::Result<u8> {
    let mut files = args.files.list();
    files.extend(args.paths.iter().map(|it| (it.clone(), role(it))));
    let described = locate(files)?.describe(args.files.defaults(""))?;
    match if args.json { Format::Json } else { args.format } {
        Format::Text => {
            report(&described, args.files.color);
            if described.diagnostics.is_empty() && !args.quiet {
                let network = &described.network;
                let (links, bridges) = (network.links.len(), network.bridges.len());
                out(&format!("ok: {} and {}\n", counted(links, "link"), counted(bridges, "bridge")))?;
            }
        }
        Format::Json => {
            let all: Vec<_> = described.diagnostics.iter().map(|it| it.to_json(&described.sources)).collect();
            out(&format!("{}\n", serde_json::to_string_pretty(&json!({"diagnostics": all}))?))?;
        }
    }
    Ok(u8::from(!described.diagnostics.is_empty()))
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Prints everything that is wrong.
pub(in crate::tools) fn report(described: &Described, color: Color) {
    let color = color.on(&std::io::stderr());
    for it in &described.diagnostics {
        err(&format!("{}\n\n", it.render(&described.sources, color)));
    }
    match described.diagnostics.len() {
        0 => {}
        count => err(&format!("error: {} in the configuration\n", counted(count, "mistake"))),
    }
}

/// A look at the first words of lines is enough to tell the two kinds of file apart.
fn role(path: &Path) -> Role {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let is_compose = |line: &str| {
        let key = line.trim_start_matches(['{', '"', '\'', '\u{feff}', ' ']);
        let own = line.len() - line.trim_start().len() == 0 || text.trim_start().starts_with('{');
        own && ["services", "x-network"].iter().any(|it| key.starts_with(it))
    };
    if text.lines().any(is_compose) { Role::Compose } else { Role::Network }
}
