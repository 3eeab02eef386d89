//! `net2dot`: the network as a diagram.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{CommandFactory, Parser, ValueEnum};
use serde_json::Value;

use crate::config::Scope;
use crate::dot::{self, Diagram, Replicas};
use crate::process;
use crate::service;
use crate::tools::conlink::{Described, Files, by_content, locate, report};
use crate::tools::front::print_clap;
use crate::tools::{environment, input};
use crate::{Usage, err, out};

/// Draw a network as DOT, SVG, HTML, Mermaid, D2 or JSON
#[derive(Debug, Parser)]
#[command(
    name = "net2dot",
    version,
    after_help = AFTER_HELP,
    mut_arg("compose_files", |it| it.num_args(1)),
    mut_arg("network_files", |it| it.num_args(1))
)]
struct Cli {
    /// JSON of `conlink --show-config`, `-` for standard input, or a YAML file as with `--file`
    #[arg(value_name = "FILE", conflicts_with_all = ["network_files", "compose_files"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    files: Files,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Dot)]
    format: Format,
    /// Program that places boxes and lines with `--format svg`; `dot` and `neato` need Graphviz
    #[arg(long, value_name = "PROGRAM", value_enum, default_value_t = Layout::Net2dot)]
    layout: Layout,
    /// Same as `--format json`
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Draw each of N replicas of a service, instead of its `scale`; repeat, or separate several with commas
    #[arg(long, value_name = "SERVICE=N", value_parser = replicas, value_delimiter = ',')]
    replicas: Vec<(String, u32)>,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Dot,
    Svg,
    Html,
    Mermaid,
    D2,
    Json,
}

/// Who lays out an SVG.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Layout {
    /// This program
    Net2dot,
    /// Graphviz, in layers, with frames
    Dot,
    /// Graphviz, by springs, without frames
    Neato,
}

const AFTER_HELP: &str = "\
Without files, net2dot reads JSON from standard input if that is a pipe or a file, else the compose files of this \
directory.

`--format svg` needs no other program; with `--layout dot` or `--layout neato`, Graphviz lays it out. `--format html` draws an interactive page.";

/// The most replicas of a service that can be drawn.
const MOST_REPLICAS: u32 = 1000;

/// `SERVICE=N`, with N from 1 to 1000.
fn replicas(text: &str) -> Result<(String, u32), String> {
    let (service, count) = text.rsplit_once('=').ok_or("expected SERVICE=N")?;
    match count.parse() {
        Ok(count @ 1..=MOST_REPLICAS) if !service.is_empty() => Ok((service.to_owned(), count)),
        _ => Err("expected SERVICE=N with N from 1 to 1000".to_owned()),
    }
}

pub(crate) fn command() -> clap::Command {
    Cli::command()
}

pub(crate) fn main(args: Vec<OsString>) -> anyhow::Result<u8> {
    let cli = match Cli::try_parse_from(args) {
        Ok(it) => it,
        Err(error) => return print_clap(error),
    };
    let format = if cli.json { Format::Json } else { cli.format };
    if cli.layout != Layout::Net2dot && format != Format::Svg {
        return Err(Usage("`--layout` needs `--format svg`".to_owned()).into());
    }
    let Some(diagram) = read(&cli)? else { return Ok(1) };
    let text = match format {
        Format::Dot => dot::graphviz(&diagram),
        Format::Svg => match cli.layout {
            Layout::Net2dot => dot::svg(&diagram),
            Layout::Dot => drawn_by("dot", &dot::graphviz(&diagram))?,
            Layout::Neato => drawn_by("neato", &dot::graphviz_boxes(&diagram))?,
        },
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

/// The SVG that a program of Graphviz makes of DOT. Its warnings are printed.
fn drawn_by(program: &str, text: &str) -> anyhow::Result<String> {
    let drawn = match process::filter(OsStr::new(program), &["-Tsvg"], text) {
        Ok(it) => it,
        Err(process::Error::Start { source, .. }) if source.kind() == ErrorKind::NotFound => bail!(
            "`--layout {program}` needs Graphviz: no program `{program}` in PATH\n\
             hint: install Graphviz, or leave out `--layout`"
        ),
        Err(error) => return Err(error.into()),
    };
    drawn.stderr.lines().for_each(|it| err(&format!("{program}: {it}\n")));
    String::from_utf8(drawn.stdout).with_context(|| format!("read the SVG of `{program}`"))
}

/// The network to draw. None after errors in it, which have been printed.
fn read(cli: &Cli) -> anyhow::Result<Option<Diagram>> {
    let mut replicas = Replicas::new(cli.replicas.iter().cloned().collect::<BTreeMap<_, _>>());
    let mut files = cli.files.list();
    let given: Vec<PathBuf> = cli.file.iter().filter(|it| is_yaml(it)).cloned().collect();
    let (more, contents) = by_content(&given);
    files.extend(more);
    let (name, shown) = if files.is_empty() && (cli.file.is_some() || has_input()) {
        let (name, text) = json(cli)?;
        let shown: Value = serde_json::from_str(&text).with_context(|| {
            let hint = "expected JSON of `conlink --show-config` (--file and --network-file read configuration files)";
            format!("{name}: {hint}")
        })?;
        (Some(name), shown)
    } else {
        let project = std::env::var("COMPOSE_PROJECT_NAME").ok();
        let described = locate(files, contents)
            .map_err(|it| match it.downcast::<Usage>() {
                Ok(Usage(it)) => Usage(it + ", or pipe in the output of `conlink --show-config`").into(),
                Err(it) => it,
            })
            .and_then(|it| it.describe(cli.files.defaults(project.as_deref().unwrap_or_default())))?;
        if described.stops(Scope::Config) {
            report(&described, cli.files.color);
            return Ok(None);
        }
        let project = Some(described.network.project()).filter(|it| !it.is_empty());
        for (service, count) in scales(&described) {
            replicas.add(&service, count);
        }
        let problems = replicas.instantiate(&described.network, project);
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

/// The services with several replicas in the compose files, up to the number that `--replicas` takes. Other errors of a
/// service do not matter for a drawing.
fn scales(described: &Described) -> Vec<(String, u32)> {
    let env = environment();
    let read = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    let context = service::Context { env: &env, dir: Path::new("/"), profiles: &[], read: &read };
    let (services, _) = service::services(&described.sources, &described.compose_files, context);
    let scaled = services.into_iter().filter(|it| it.replicas > 1);
    scaled.map(|it| (it.name.clone(), it.replicas.min(MOST_REPLICAS))).collect()
}

/// Whether the file is a configuration file and not JSON of `--show-config`, by its name.
fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "yaml" || it == "yml")
}

/// Whether standard input is a pipe or a file, and not a terminal or /dev/null.
fn has_input() -> bool {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().map(File::from);
    stdin.and_then(|it| it.metadata()).is_ok_and(|it| !it.file_type().is_char_device())
}

/// The name of the JSON in messages, and its text.
fn json(cli: &Cli) -> anyhow::Result<(String, String)> {
    let stdin = PathBuf::from(input::STDIN);
    let path = cli.file.as_ref().unwrap_or(&stdin);
    let name = if *path == stdin { "standard input".to_owned() } else { path.display().to_string() };
    let text = input::read_text(path).with_context(|| format!("read {name}"))?;
    Ok((name, text))
}
