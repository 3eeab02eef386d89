//! `conlink check FILE…`: all that is wrong, at once.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::tools::conlink::Files;
use crate::tools::conlink::files::{Described, Role, describe};
use crate::tools::environment;
use crate::{err, out};

/// Which files, and how to tell about them.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Files: one that has `services` or `x-network` at its top is a compose file, any other a network file
    #[arg(value_name = "FILE")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    files: Files,
    /// Text for people, or JSON for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub(super) fn main(args: &CheckArgs) -> anyhow::Result<u8> {
    let mut files = args.files.list();
    files.extend(args.paths.iter().map(|it| (it.clone(), role(it))));
    if files.is_empty() {
        anyhow::bail!("no file is given: `conlink check FILE…`");
    }
    let described = describe(&files, args.files.defaults(""), &environment())?;
    match args.format {
        Format::Text => {
            report(&described);
            if described.diagnostics.is_empty() {
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
pub(in crate::tools) fn report(described: &Described) {
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
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
