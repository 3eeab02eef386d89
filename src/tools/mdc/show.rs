//! The options that print something and change nothing: --list, --graph, --why, --env, --config, --explain.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::compose::{Setting, merge, merge_interpolated};
use crate::config::{Env, PROJECT_NAME, Severity};
use crate::deps::Wants;
use crate::env_file::{Findings, evaluate, parse, quoted};
use crate::out;
use crate::service;
use crate::tools::environment;
use crate::tools::mdc::graph;
use crate::tools::mdc::project::{Project, resolve, told, whole};
use crate::tools::mdc::settings::{Cli, Failed, Settings, format_of, list_format};
use crate::tools::nodes::{Nodes, places};
use crate::tools::resolve_deps::{Format, show};

/// --list, --graph and --why, for all modes or for those that MODES resolves to.
pub(super) fn modes(cli: &Cli, settings: &Settings, modes: Option<&str>) -> Result<(), Failed> {
    let format = list_format(cli)?;
    let Some(modes) = modes else {
        let nodes = Nodes::read(&places(&settings.modes_dir))?;
        let text = if cli.graph {
            graph::dot(&whole(&nodes)?.graph, &BTreeSet::new(), |it| nodes.get(it).is_some())
        } else {
            match format {
                None => nodes.names().map(|it| format!("{it}\n")).collect(),
                Some(Format::Nodes) => format!("{}\n", nodes.names().collect::<Vec<_>>().join(" ")),
                Some(format) => {
                    let all: Vec<&str> = nodes.names().collect();
                    show(&nodes, &whole(&nodes)?, &all, format)
                }
            }
        };
        return Ok(out(&text)?);
    };
    let resolved = resolve(settings, modes)?;
    let order: Vec<&str> = resolved.found.order.iter().map(String::as_str).collect();
    if cli.graph {
        let chosen = order.into_iter().collect();
        let text = graph::dot(&resolved.reach.graph, &chosen, |it| resolved.nodes.get(it).is_some());
        return Ok(out(&text)?);
    }
    if let Some(mode) = &cli.why {
        return Ok(out(&why(&resolved.found, mode).map_err(|it| vec![it])?)?);
    }
    let text = match format {
        None => order.iter().map(|it| format!("{it}\n")).collect(),
        Some(format) => show(&resolved.nodes, &resolved.reach, &order, format),
    };
    Ok(out(&text)?)
}

/// The path from the request to a mode, one line per step.
fn why(found: &crate::deps::Resolution, mode: &str) -> Result<String, String> {
    let reason = |name: &str| found.why.iter().find(|it| it.node == name);
    let mut next = Some(mode.to_owned());
    let mut lines = Vec::new();
    while let Some(name) = next {
        let Some(it) = reason(&name) else { return Err(format!("mode `{name}` is not chosen")) };
        let asked = it.by.clone().unwrap_or_else(|| "MODES".to_owned());
        lines.push(match &it.wants {
            Wants::AnyOf(_) => format!("{name}: chosen for {asked}, from {}\n", it.wants),
            Wants::Node(_) | Wants::After(_) => format!("{name}: needed by {asked}\n"),
        });
        next = it.by.clone();
    }
    Ok(lines.concat())
}

/// --env: the variables as compose sees them.
pub(super) fn env(cli: &Cli, settings: &Settings, project: &Project) -> Result<(), Failed> {
    let format = format_of(cli, &["text", "json"])?;
    let text = String::from_utf8_lossy(&project.written.bytes);
    let mut env: Env = environment();
    // mdc overrides these when it runs compose.
    for name in ["COMPOSE_FILE", "COMPOSE_PROFILES", "COMPOSE_PATH_SEPARATOR"] {
        env.remove(name);
    }
    let (statements, _) = parse(&text);
    let (variables, Findings { bad, .. }) = evaluate(&statements, &env);
    let place = |line: usize| match project.written.origin(line) {
        Some((path, line)) => format!("{path}:{line}"),
        None => format!("{}:{line}", settings.env_file),
    };
    if !bad.is_empty() {
        return Err(Failed::Wrong(
            bad.iter().map(|it| format!("{}: {}", place(it.line), it.message)).collect(),
        ));
    }
    let places = |lines: &[usize]| lines.iter().rev().map(|it| place(*it)).collect::<Vec<_>>();
    let text = match format {
        "json" => {
            let all: Map<String, Value> = variables
                .iter()
                .map(|(name, it)| {
                    let mut places = places(&it.lines);
                    let mut value = json!({"value": it.value});
                    if it.from_environment {
                        value["place"] = json!("environment");
                    } else {
                        value["place"] = json!(places.remove(0));
                    }
                    value["overrides"] = json!(places);
                    (name.clone(), value)
                })
                .collect();
            serde_json::to_string_pretty(&all).map_err(anyhow::Error::from)? + "\n"
        }
        _ => variables
            .iter()
            .map(|(name, it)| {
                let value = quoted(&it.value).unwrap_or_else(|| format!("{:?}", it.value));
                let mut places = places(&it.lines);
                if it.from_environment {
                    places.insert(0, "environment".to_owned());
                }
                let (first, over) = places.split_first().map_or(("", &[][..]), |(a, b)| (a.as_str(), b));
                let over = if over.is_empty() { String::new() } else { format!(" over {}", over.join(", ")) };
                format!("{name}={value} # {first}{over}\n")
            })
            .collect(),
    };
    Ok(out(&text)?)
}

/// --config and --explain.
pub(super) fn compose(cli: &Cli, settings: &Settings, project: &Project) -> Result<(), Failed> {
    let format = if cli.config { format_of(cli, &["yaml", "json"])? } else { "" };
    let sources = &project.sources;
    let (merged, diagnostics) = if cli.interpolate {
        merge_interpolated(sources, &project.compose_files(), &variables(project)?)
    } else {
        merge(sources, &project.compose_files())
    };
    let of = |severity: Severity| diagnostics.iter().filter(move |it| it.severity == severity);
    let wrong: Vec<String> = of(Severity::Error).map(|it| told(it, sources)).collect();
    if !wrong.is_empty() {
        return Err(Failed::Wrong(wrong));
    }
    settings.warn(&of(Severity::Warning).map(|it| told(it, sources)).collect::<Vec<_>>())?;
    if format == "json" && merged.has_tags() {
        let warning = "JSON has no tags: `!reset` and `!override` of services with `extends` are left out";
        settings.warn(&[warning.to_owned()])?;
    }
    let text = match &cli.explain {
        None if format == "json" => {
            serde_json::to_string_pretty(&merged.to_json()).map_err(anyhow::Error::from)? + "\n"
        }
        None => merged.to_yaml(),
        Some(path) => {
            let all = merged.explain(path);
            if all.is_empty() {
                return Err(Failed::Wrong(vec![format!("no mode sets `{path}`")]));
            }
            let line = |it: &Setting| {
                let mode = project.mode_of(&it.place).map(|it| format!("mode {it}, ")).unwrap_or_default();
                format!("{}: {} ({mode}{})\n", it.place, it.value, it.effect)
            };
            all.iter().map(line).collect()
        }
    };
    Ok(out(&text)?)
}

/// The variables that compose interpolates: the environment, then the env file, and the name of the project.
fn variables(project: &Project) -> Result<Env, Failed> {
    let text = String::from_utf8_lossy(&project.written.bytes);
    let env = environment();
    let (variables, Findings { bad, .. }) = evaluate(&parse(&text).0, &env);
    if !bad.is_empty() {
        return Err(Failed::Wrong(bad.iter().map(|it| it.message.clone()).collect()));
    }
    let env = variables.into_iter().map(|(name, it)| (name, it.value)).chain(env).collect();
    let dir = std::env::current_dir().map_err(anyhow::Error::from)?;
    let mut named = service::Project { files: Vec::new(), dir, env, warnings: Vec::new() };
    let name = named.name(&project.sources, &project.compose_files());
    let name = name.map_err(|it| vec![told(&it, &project.sources)])?;
    named.env.insert(PROJECT_NAME.to_owned(), name);
    Ok(named.env)
}
