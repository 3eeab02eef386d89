//! `net2dot`: the network as a picture.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use serde_json::Value;

use crate::dot::{self, Diagram, Replicas};
use crate::service;
use crate::tools::conlink::{Described, Files, describe, report};
use crate::tools::environment;
use crate::{err, out, print_clap};

/// Draws the network that `conlink --show-config` prints, or that configuration files describe.
#[derive(Debug, Parser)]
#[command(
    name = "net2dot",
    version,
    after_help = "`conlink --show-config … | net2dot | dot -Tsvg` needs Graphviz; \
    `net2dot --format svg` draws by itself."
)]
struct Cli {
    /// JSON of `conlink --show-config`; `-` or nothing: standard input
    #[arg(value_name = "FILE", conflicts_with_all = ["network_files", "compose_files"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    files: Files,
    /// What is written
    #[arg(short, long, value_enum, default_value_t = Format::Dot)]
    format: Format,
    /// Draw each of N replicas of a service, in place of its `scale`; may be given several times
    #[arg(long, value_name = "SERVICE=N", value_parser = replicas, value_delimiter = ',')]
    replicas: Vec<(String, u32)>,
    /// Write to a file, not to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For the programs of Graphviz
    Dot,
    /// A picture
    Svg,
    /// A page to explore: zoom, search, details; one file that needs no network
    Html,
    /// A Mermaid flowchart, for Markdown
    Mermaid,
    /// For d2
    D2,
    /// Segments, nodes and links, for programs
    Json,
}

/// Of a service that can be drawn.
const MOST_REPLICAS: u32 = 1000;

/// `SERVICE=N`, with N from 1 to 1000.
fn replicas(text: &str) -> Result<(String, u32), String> {
    let (service, count) = text.rsplit_once('=').ok_or("expected SERVICE=N")?;
    match count.parse() {
        Ok(count @ 1..=MOST_REPLICAS) if !service.is_empty() => Ok((service.to_owned(), count)),
        _ => Err("expected SERVICE=N with N from 1 to 1000".to_owned()),
    }
}

pub(crate) fn main(args: Vec<OsString>) -> anyhow::Result<u8> {
    let cli = match Cli::try_parse_from(args) {
        Ok(it) => it,
        Err(error) => {
            return print_clap(&error);
        }
    };
    let Some(diagram) = read(&cli)? else { return Ok(1) };
    let text = match cli.format {
        Format::Dot => dot::graphviz(&diagram),
        Format::Svg => dot::svg(&diagram),
        Format::Html => dot::html(&diagram),
        Format::Mermaid => dot::mermaid(&diagram),
        Format::D2 => dot::d2(&diagram),
        Format::Json => serde_json::to_string_pretty(&dot::json(&diagram))? + "\n",
    };
    match &cli.output {
        Some(path) => std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?,
        None => out(&text)?,
    }
    Ok(0)
}

/// What is to be drawn. None where that is wrong, which has been told then.
fn read(cli: &Cli) -> anyhow::Result<Option<Diagram>> {
    let mut replicas = Replicas::new(cli.replicas.iter().cloned().collect::<BTreeMap<_, _>>());
    let files = cli.files.list();
    let (name, shown) = if files.is_empty() {
        let (name, text) = input(cli)?;
        let shown: Value = serde_json::from_str(&text).with_context(|| {
            let hint = "it is no JSON of `conlink --show-config`; configuration files are read by --compose-file \
                        and --network-file";
            format!("{name}: {hint}")
        })?;
        (Some(name), shown)
    } else {
        let project = std::env::var("COMPOSE_PROJECT_NAME").ok();
        let described =
            describe(&files, cli.files.defaults(project.as_deref().unwrap_or_default()), &environment())?;
        report(&described);
        if !described.diagnostics.is_empty() {
            return Ok(None);
        }
        for (service, count) in scales(&described) {
            replicas.add(&service, count);
        }
        let problems = replicas.instantiate(&described.network, project.as_deref());
        if !problems.is_empty() {
            problems.iter().for_each(|it| err(&format!("error: {it}\n")));
            return Ok(None);
        }
        (None, described.network.show())
    };
    match dot::read(&shown, &replicas) {
        Ok(it) => Ok(Some(it)),
        Err(problems) => {
            let place = name.map_or_else(String::new, |it| format!("{it}: "));
            problems.iter().for_each(|it| err(&format!("error: {place}{it}\n")));
            Ok(None)
        }
    }
}

/// The services that compose files ask several replicas of, up to the number that `--replicas` takes. What else is wrong
/// with a service concerns no drawing.
fn scales(described: &Described) -> Vec<(String, u32)> {
    let env = environment();
    let read = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    let context = service::Context { env: &env, dir: Path::new("/"), profiles: &[], read: &read };
    let (services, _) = service::services(&described.sources, &described.compose_files, context);
    let scaled = services.into_iter().filter(|it| it.replicas > 1);
    scaled.map(|it| (it.name.clone(), it.replicas.min(MOST_REPLICAS))).collect()
}

/// The JSON's name for messages, and its text.
fn input(cli: &Cli) -> anyhow::Result<(String, String)> {
    match cli.file.as_ref().filter(|it| it.as_os_str() != "-") {
        Some(path) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path).with_context(|| format!("read {name}"))?;
            Ok((name, text))
        }
        None => {
            let mut text = String::new();
            let name = "standard input".to_owned();
            std::io::stdin().read_to_string(&mut text).with_context(|| format!("read {name}"))?;
            Ok((name, text))
        }
    }
}
