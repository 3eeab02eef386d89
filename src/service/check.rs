//! What only all services together can tell.

use std::collections::BTreeMap;

use crate::config::{Diagnostic, Span};
use crate::service::Condition;
use crate::service::read::{Reading, Readings};
use crate::words::{listed, near};

/// More names than these are no help.
const MAX_LISTED: usize = 12;

/// Checks what services say of each other. What need not be there and is not is taken out.
pub(super) fn check(readings: &mut Readings, project: Option<&str>, diagnostics: &mut Vec<Diagnostic>) {
    let names: Vec<String> = readings.running.iter().map(|it| it.service.name.clone()).collect();
    let known: BTreeMap<String, Known> =
        readings.running.iter().map(|it| (it.service.name.clone(), Known::of(it))).collect();
    for reading in &mut readings.running {
        let service = &mut reading.service;
        let mut kept = Vec::new();
        for (it, span) in service.depends_on.drain(..).zip(reading.dependencies.drain(..)) {
            let Some(other) = known.get(&it.service) else {
                let is_left_out = readings.left_out.iter().any(|(name, _)| *name == it.service);
                if it.required || !is_left_out {
                    diagnostics.push(missing(&it.service, span, &names, &readings.left_out));
                }
                continue;
            };
            if it.condition == Condition::Healthy && !other.is_checked {
                let message = format!("`{}` has no healthcheck, so it never gets healthy", it.service);
                let bad = Diagnostic::new(span, message).note(other.span, "this service");
                diagnostics.push(bad.help("give it a `healthcheck`, or write `service_started`"));
            }
            kept.push((it, span));
        }
        (service.depends_on, reading.dependencies) = kept.into_iter().unzip();
        // That it is missing is told of the dependency that it implies.
        service.shares_network_of = service.shares_network_of.take().filter(|it| known.contains_key(it));
        let absent = service.shares_network_of.as_ref().and_then(|it| Some((it, known.get(it)?)));
        if let Some((name, known)) = absent.filter(|(_, it)| it.replicas == 0 && service.replicas > 0) {
            let message = format!("the network of `{name}` is not there: it has no replicas");
            let bad = Diagnostic::new(reading.span, message).note(known.span, "this service");
            diagnostics.push(bad.help("give it one, or a network of its own to this one"));
        }
    }
    cycles(&readings.running, diagnostics);
    same_container_name(&readings.running, project, diagnostics);
}

/// What matters of a service to others.
struct Known {
    span: Span,
    /// It can get healthy.
    is_checked: bool,
    /// The engine is there as one.
    replicas: u32,
}

impl Known {
    fn of(it: &Reading) -> Self {
        let service = &it.service;
        Self {
            span: it.span,
            is_checked: service.healthcheck.is_some() || service.is_engine,
            replicas: if service.is_engine { 1 } else { service.replicas },
        }
    }
}

fn missing(name: &str, span: Span, running: &[String], left_out: &[(String, Vec<String>)]) -> Diagnostic {
    if let Some((_, profiles)) = left_out.iter().find(|(it, _)| it == name) {
        let profiles: Vec<&str> = profiles.iter().map(String::as_str).collect();
        let bad = Diagnostic::new(span, format!("service `{name}` is in no profile that is asked for"));
        return bad.help(format!("ask for profile {}, or write `required: false`", listed(&profiles)));
    }
    let running: Vec<&str> = running.iter().map(String::as_str).collect();
    let bad = Diagnostic::new(span, format!("no service is named `{name}`"));
    match near(name, &running) {
        Some(near) => bad.help(format!("did you mean `{near}`?")),
        None if running.len() > MAX_LISTED => bad,
        None => bad.help(format!("there are {}", listed(&running))),
    }
}

/// Services that wait for each other would never start.
fn cycles(readings: &[Reading], diagnostics: &mut Vec<Diagnostic>) {
    let by_name: BTreeMap<&str, &Reading> =
        readings.iter().map(|it| (it.service.name.as_str(), it)).collect();
    // Each service: not there yet, on the way, done.
    let mut done: BTreeMap<&str, bool> = BTreeMap::new();
    for reading in readings {
        // The services on the way, each with the number of dependencies that were looked at.
        let mut way: Vec<(&Reading, usize)> = Vec::new();
        if !done.contains_key(reading.service.name.as_str()) {
            done.insert(&reading.service.name, false);
            way.push((reading, 0));
        }
        while let Some((at, next)) = way.last_mut() {
            let name = at.service.name.as_str();
            let found = at.service.depends_on.get(*next).zip(at.dependencies.get(*next).copied());
            *next += 1;
            let Some((dependency, span)) = found else {
                done.insert(name, true);
                way.pop();
                continue;
            };
            match done.get(dependency.service.as_str()) {
                Some(true) => {}
                Some(false) => {
                    let from = way.iter().position(|(it, _)| it.service.name == dependency.service);
                    let mut names: Vec<&str> =
                        way.iter().skip(from.unwrap_or(0)).map(|(it, _)| it.service.name.as_str()).collect();
                    names.push(&dependency.service);
                    let message = format!("services wait for each other: {}", names.join(" → "));
                    diagnostics
                        .push(Diagnostic::new(span, message).help("take one of these dependencies out"));
                }
                None => {
                    if let Some(it) = by_name.get(dependency.service.as_str()) {
                        done.insert(&it.service.name, false);
                        way.push((it, 0));
                    }
                }
            }
        }
    }
}

fn same_container_name(readings: &[Reading], project: Option<&str>, diagnostics: &mut Vec<Diagnostic>) {
    let mut known: BTreeMap<&str, Span> = BTreeMap::new();
    for it in readings {
        let Some((name, span)) = it.service.container_name.as_deref().zip(it.container_name) else {
            continue;
        };
        if let Some(first) = known.insert(name, span).or_else(|| replica(readings, project?, name)) {
            let bad = Diagnostic::new(span, format!("another service has the name `{name}` already"));
            diagnostics.push(bad.note(first, "first here").help("give it another `container_name`"));
        }
    }
}

/// The service of which a replica gets that name by itself.
fn replica(readings: &[Reading], project: &str, name: &str) -> Option<Span> {
    let (service, index) = name.strip_prefix(project)?.strip_prefix('-')?.rsplit_once('-')?;
    let index: u32 = index.parse().ok().filter(|it: &u32| *it > 0 && it.to_string() == index)?;
    let is_it = |it: &&Reading| {
        it.service.name == service && it.service.container_name.is_none() && index <= it.service.replicas
    };
    readings.iter().find(is_it).map(|it| it.span)
}
