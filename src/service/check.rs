//! Checks that need all services.

use std::collections::BTreeMap;

use crate::config::{Diagnostic, Span};
use crate::service::read::{Reading, Readings};
use crate::service::{Condition, LAB, Restart};
use crate::words::{listed, near};

/// A longer list of names is no help.
const MAX_LISTED: usize = 12;

/// Checks references between services. Removes optional dependencies on services that are not enabled.
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
                let message = format!("`{}` has no healthcheck, so it never becomes healthy", it.service);
                let bad = Diagnostic::new(span, message).code(LAB).note(other.span, "this service");
                diagnostics.push(bad.help("add a `healthcheck`, or use `service_started`"));
            }
            if it.condition == Condition::CompletedSuccessfully && other.is_always_restarted {
                let message = format!("`{}` is always restarted, so it never completes", it.service);
                let bad = Diagnostic::new(span, message).code(LAB).note(other.span, "this service");
                diagnostics.push(bad.help("use `restart: on-failure` or `restart: no`"));
            }
            kept.push((it, span));
        }
        (service.depends_on, reading.dependencies) = kept.into_iter().unzip();
        // If it is missing, the dependency that it implies has been reported.
        service.shares_network_of = service.shares_network_of.take().filter(|it| known.contains_key(it));
        let absent = service.shares_network_of.as_ref().and_then(|it| Some((it, known.get(it)?)));
        if let Some((name, known)) = absent.filter(|(_, it)| it.replicas == 0 && service.replicas > 0) {
            let message = format!("cannot share the network of `{name}`: it has no replicas");
            let bad = Diagnostic::new(reading.span, message).code(LAB).note(known.span, "this service");
            diagnostics.push(bad.help(format!("give `{name}` a replica, or remove `network_mode`")));
        }
    }
    cycles(&readings.running, diagnostics);
    same_container_name(&readings.running, project, diagnostics);
}

/// What other services refer to.
struct Known {
    span: Span,
    /// It can become healthy.
    is_checked: bool,
    is_always_restarted: bool,
    /// The engine counts as one.
    replicas: u32,
}

impl Known {
    fn of(it: &Reading) -> Self {
        let service = &it.service;
        Self {
            span: it.span,
            is_checked: service.healthcheck.is_some() || service.is_engine,
            is_always_restarted: service.restart == Restart::Always && !service.is_engine,
            replicas: if service.is_engine { 1 } else { service.replicas },
        }
    }
}

fn missing(name: &str, span: Span, running: &[String], left_out: &[(String, Vec<String>)]) -> Diagnostic {
    if let Some((_, profiles)) = left_out.iter().find(|(it, _)| it == name) {
        let profiles: Vec<&str> = profiles.iter().map(String::as_str).collect();
        let bad = Diagnostic::new(span, format!("no profile of service `{name}` is enabled"));
        return bad.help(format!("enable profile {}, or add `required: false`", listed(&profiles)));
    }
    let running: Vec<&str> = running.iter().map(String::as_str).collect();
    let bad = Diagnostic::new(span, format!("unknown service `{name}`"));
    match near(name, &running) {
        Some(near) => bad.help(format!("did you mean `{near}`?")),
        None if running.len() > MAX_LISTED => bad,
        None => bad.help(format!("expected {}", listed(&running))),
    }
}

/// Reports services that wait for each other: none of them would ever start.
fn cycles(readings: &[Reading], diagnostics: &mut Vec<Diagnostic>) {
    let by_name: BTreeMap<&str, &Reading> =
        readings.iter().map(|it| (it.service.name.as_str(), it)).collect();
    // A service on the current path is false, a finished one is true.
    let mut done: BTreeMap<&str, bool> = BTreeMap::new();
    for reading in readings {
        // The current path: each service with the number of its dependencies that were visited.
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
                    diagnostics.push(Diagnostic::new(span, message).help("remove one of these dependencies"));
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
            let bad = Diagnostic::new(span, format!("duplicate container name `{name}`"));
            diagnostics.push(bad.note(first, "first used here").help("choose another `container_name`"));
        }
    }
}

/// The service that has a replica with that default name.
fn replica(readings: &[Reading], project: &str, name: &str) -> Option<Span> {
    let (service, index) = name.strip_prefix(project)?.strip_prefix('-')?.rsplit_once('-')?;
    let index: u32 = index.parse().ok().filter(|it: &u32| *it > 0 && it.to_string() == index)?;
    let is_it = |it: &&Reading| {
        it.service.name == service && it.service.container_name.is_none() && index <= it.service.replicas
    };
    readings.iter().find(is_it).map(|it| it.span)
}
