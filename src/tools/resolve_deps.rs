//! `resolve-deps`: the smallest set of nodes that satisfies a request, in order.

use std::ffi::OsString;
use std::io;
use std::time::{Duration, Instant};

use clap::{CommandFactory, Parser, ValueEnum};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::deps::{Dep, Resolution, Unresolved, Wants, parse, resolve};
use crate::duration;
use crate::tools::front::print_clap;
use crate::tools::nodes::{Nodes, Reach, complaints, places};
use crate::{err, out};

/// Resolve dependencies to the smallest set of nodes, in order
#[derive(Debug, Parser)]
#[command(name = "resolve-deps", version)]
struct Cli {
    /// Places of nodes, separated by colons or commas: directories (each subdirectory is a node, with its dependencies in
    /// the file `deps`), JSON files, or `-` for JSON on standard input
    #[arg(
        short,
        long,
        value_name = "PATH",
        env = "RESOLVE_DEPS_PATH",
        default_value = "./",
        allow_hyphen_values = true
    )]
    path: String,
    /// Output format: names on one line, `NAME=PATH` lines, or a JSON list
    #[arg(long, value_enum, env = "RESOLVE_DEPS_FORMAT", default_value_t = Format::Nodes)]
    format: Format,
    /// Same as `--format json`
    #[arg(long)]
    json: bool,
    /// Give up after this time; graphs with very many alternatives can be too hard
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    time_limit: Duration,
    /// Requested node: `a`, `a|b` for one of them, or `+a` to order only
    #[arg(required = true, value_name = "DEP")]
    request: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Nodes,
    Paths,
    Json,
}

pub(crate) fn command() -> clap::Command {
    Cli::command()
}

pub(crate) fn main(args: Vec<OsString>) -> anyhow::Result<u8> {
    let cli = match Cli::try_parse_from(args) {
        Ok(it) => it,
        Err(error) => return print_clap(error),
    };
    match run(&cli) {
        Ok(text) => out(&text).map(|()| 0),
        Err(wrong) => {
            wrong.iter().for_each(|it| err(&format!("error: {it}\n")));
            Ok(1)
        }
    }
}

fn run(cli: &Cli) -> Result<String, Vec<String>> {
    let request = parse_request(&cli.request, "DEP")?;
    let nodes = Nodes::read(&places(&cli.path))?;
    let reach = nodes.reach(&request)?;
    let found = resolve_in_time(&reach, &request, cli.time_limit).map_err(|it| vec![it])?;
    let format = if cli.json { Format::Json } else { cli.format };
    Ok(show(&nodes, &reach, &found.order, format))
}

/// Parses requests of a command line; `name` is their placeholder in the usage text.
pub(crate) fn parse_request(words: &[String], name: &str) -> Result<Vec<Dep>, Vec<String>> {
    let mut request = Vec::new();
    let mut wrong = Vec::new();
    for word in words {
        match parse(word) {
            Ok(deps) => request.extend(deps),
            Err(bad) => wrong.extend(complaints(&format!("{name} `{word}`"), word, &bad)),
        }
    }
    if wrong.is_empty() { Ok(request) } else { Err(wrong) }
}

/// The resolution, or why there is none within the time limit.
pub(crate) fn resolve_in_time(reach: &Reach, request: &[Dep], limit: Duration) -> Result<Resolution, String> {
    let start = Instant::now();
    resolve(&reach.graph, request, &mut || start.elapsed() >= limit).map_err(|error| match error {
        Unresolved::Cycle(_) => error.to_string(),
        Unresolved::TooHard => format!(
            "{error} (after {} s; raise --time-limit, or name some of the alternatives in the request)",
            limit.as_secs_f64()
        ),
    })
}

/// The chosen nodes in this format, ending with a line break.
pub(crate) fn show<T: AsRef<str>>(nodes: &Nodes, reach: &Reach, order: &[T], format: Format) -> String {
    let order: Vec<&str> = order.iter().map(AsRef::as_ref).collect();
    let path = |name: &str| nodes.get(name).map(|it| it.path.display().to_string());
    match format {
        Format::Nodes => format!("{}\n", order.join(" ")),
        Format::Paths => {
            let lines = order.iter().map(|it| format!("{it}={}\n", path(it).unwrap_or_default()));
            lines.collect()
        }
        Format::Json => {
            let all: Vec<Value> = order
                .iter()
                .map(|name| {
                    let mut node = Map::new();
                    node.insert("node".to_owned(), json!(name));
                    if let Some(path) = path(name) {
                        node.insert("path".to_owned(), json!(path));
                    }
                    if let Some(text) = reach.texts.get(*name) {
                        node.insert("dep-str".to_owned(), json!(text));
                    }
                    let deps = reach.graph.get(*name).map_or(&[][..], Vec::as_slice);
                    node.insert("deps".to_owned(), deps.iter().map(|it| wants(&it.wants)).collect());
                    Value::Object(node)
                })
                .collect();
            spaced(&Value::Array(all)) + "\n"
        }
    }
}

fn wants(wants: &Wants) -> Value {
    match wants {
        Wants::Node(name) => json!(name),
        Wants::AnyOf(names) => json!({ "or": names }),
        Wants::After(name) => json!({ "after": name }),
    }
}

/// JSON on one line, with a space after each comma and colon as the reference tool prints it.
fn spaced(value: &Value) -> String {
    struct Spaced;
    impl serde_json::ser::Formatter for Spaced {
        fn begin_array_value<W: ?Sized + io::Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
            to.write_all(if first { b"" } else { b", " })
        }
        fn begin_object_key<W: ?Sized + io::Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
            to.write_all(if first { b"" } else { b", " })
        }
        fn begin_object_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
            to.write_all(b": ")
        }
    }
    let mut text = Vec::new();
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, Spaced));
    match written {
        Ok(()) => String::from_utf8_lossy(&text).into_owned(),
        Err(_) => value.to_string(),
    }
}
