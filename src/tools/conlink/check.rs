//! `conlink check FILE…`: reports everything that is wrong with configuration files.

mod sarif;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::config::{Diagnostic, Severity};
use crate::tools::color::Color;
use crate::tools::conlink::files::{Described, by_content, locate};
use crate::tools::conlink::options::Files;
use crate::words::counted;
use crate::{err, out};

/// How many findings with one cause are printed as text.
const MAX_ALIKE: usize = 20;

/// Check configuration files for errors and likely mistakes
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 no errors, 1 errors (or denied warnings), 2 usage.")]
#[command(mut_arg("compose_files", |it| it.num_args(1)), mut_arg("network_files", |it| it.num_args(1)))]
pub(super) struct CheckArgs {
    /// Compose file (if it has `services` or `x-network` at the top level) or network file; `-` is standard input [default:
    /// the compose files of this directory]
    #[arg(value_name = "FILE")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    files: Files,
    /// Exit with 1 on these findings too
    #[arg(long, value_enum, value_name = "LEVEL")]
    deny: Option<Deny>,
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
enum Deny {
    /// Warnings
    Warnings,
    /// Warnings and hints
    Hints,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for people
    Text,
    /// One JSON object with all diagnostics
    Json,
    /// SARIF 2.1.0, for code scanning services and editors
    Sarif,
}

pub(super) fn main(args: &CheckArgs) -> anyhow::Result<u8> {
    let mut files = args.files.list();
    let (more, contents) = by_content(&args.paths);
    files.extend(more);
    let located = locate(files, contents)?;
    let mut described = located.describe(args.files.defaults(""))?;
    located.check_services(&mut described);
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
        Format::Sarif => {
            let log = sarif::log(&described.sources, &described.diagnostics);
            out(&format!("{}\n", serde_json::to_string_pretty(&log)?))?;
        }
    }
    let worst = described.diagnostics.iter().map(|it| it.severity).min();
    let denied = match args.deny {
        None => Severity::Error,
        Some(Deny::Warnings) => Severity::Warning,
        Some(Deny::Hints) => Severity::Hint,
    };
    Ok(u8::from(worst.is_some_and(|it| it <= denied)))
}

/// Prints all findings, of those with one cause the first ones, and how many there are of each level.
pub(in crate::tools) fn report(described: &Described, color: Color) {
    let color = color.on(&std::io::stderr());
    let mut totals = BTreeMap::new();
    for it in &described.diagnostics {
        *totals.entry(it.cause()).or_insert(0) += 1;
    }
    let mut printed = BTreeMap::new();
    for it in &described.diagnostics {
        let count: &mut usize = printed.entry(it.cause()).or_default();
        *count += 1;
        if *count <= MAX_ALIKE {
            err(&format!("{}\n\n", it.render(&described.sources, color)));
        }
        let total = totals.get(&it.cause()).copied().unwrap_or_default();
        if *count == MAX_ALIKE && total > MAX_ALIKE {
            err(&format!("… and {} more like this\n\n", total - MAX_ALIKE));
        }
    }
    if !described.diagnostics.is_empty() {
        err(&format!("found {}\n", summary(&described.diagnostics)));
    }
}

/// `2 errors, 1 warning`.
fn summary(diagnostics: &[Diagnostic]) -> String {
    let of = |level: Severity| diagnostics.iter().filter(|it| it.severity == level).count();
    let counts = Severity::ALL.map(|it| (of(it), it.to_string()));
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, level)| counted(*count, level));
    counts.collect::<Vec<_>>().join(", ")
}
