//! Merges all files into one tree: the network parts of compose files, then network files, all interpolated.

use std::collections::BTreeMap;

use crate::config::ServiceConfig;
use crate::config::diagnostic::Diagnostic;
use crate::config::interpolate::{Env, Interpolation};
use crate::config::merge::{check_tags, is_reset, merge, merge_own, replaces, scalar_text, settle};
use crate::config::source::{FileId, Sources, Span, Spanned};
use crate::config::yaml::{self, Key, Node, Value, integer};

/// A file to read, and its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A compose file: its `x-network`, and that of each service.
    Compose(FileId),
    /// The whole document is the configuration.
    Network(FileId),
}

/// The part of the files that a description is in. `!override` and `!reset` apply to earlier descriptions in the same part,
/// as in compose.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Section {
    /// `x-network` of a compose file.
    Top,
    /// `x-network` of that service.
    Service(String),
    /// A network file, which can replace what any file says.
    Network,
}

struct Part {
    section: Section,
    node: Node,
}

/// The services of compose files.
#[derive(Default)]
pub(super) struct Services {
    by_name: BTreeMap<String, ServiceConfig>,
    /// A file includes others, which may have more services.
    more: bool,
}

impl Services {
    /// The services by name; None if the files do not name them all.
    pub(super) fn known(self) -> Option<BTreeMap<String, ServiceConfig>> {
        (!self.more && !self.by_name.is_empty()).then_some(self.by_name)
    }

    fn add(&mut self, name: &str, service: &Node, env: &Env, sources: &Sources) {
        let known = self.by_name.entry(name.to_owned()).or_default();
        // Compose reports bad values itself.
        let given = |node: Option<&Node>| {
            let mut node = node?.clone();
            Interpolation::new(env, sources).node(&mut node, &mut Vec::new());
            Some(node)
        };
        if let Some(mode) = given(service.get("network_mode")) {
            let is =
                |name: &str| matches!(&mode.value, Value::Text(text) if text == name) && !is_reset(&mode);
            known.host_network = is("host").then_some(mode.span);
            known.no_network = is("none").then_some(mode.span);
            known.has_mode = !is("bridge") && !is_reset(&mode);
        }
        if let Some(image) = given(service.get("image")).as_ref().and_then(scalar_text) {
            let name = image.rsplit('/').next().unwrap_or_default();
            known.is_engine = name.split(['@', ':']).next() == Some("conlink");
        }
        if let Some(networks) = service.get("networks") {
            known.networks = match &networks.value {
                Value::List(it) => u32::try_from(it.len()).ok(),
                Value::Map(it) => u32::try_from(it.len()).ok(),
                _ => None,
            };
        } else if service.get("image").or(service.get("build")).is_some() {
            known.networks = known.networks.or(Some(1));
        }
        let replicas = service.get("deploy").and_then(|it| it.get("replicas"));
        if let Some(count) = given(service.get("scale").or(replicas)) {
            let number = match &count.value {
                Value::Int(it) => Some(*it),
                Value::Text(it) => integer(it),
                _ => None,
            };
            let number = number.filter(|_| !is_reset(&count)).and_then(|it| u32::try_from(it).ok());
            known.replicas = number.map(|value| Spanned { value, span: count.span });
        }
        // Each file's are added to those before.
        if let Some(profiles) = service.get("profiles") {
            let given = matches!(&profiles.value, Value::List(it) if !it.is_empty()) && !is_reset(profiles);
            known.has_profiles = given || known.has_profiles && !is_reset(profiles) && !replaces(profiles);
        }
    }
}

/// The configuration of all files: compose files first, in order, then network files. None if there is none.
/// `broken` gets the strings that could not be interpolated.
pub(super) fn collect(
    sources: &Sources,
    inputs: &[Input],
    env: &Env,
    services: &mut Services,
    diagnostics: &mut Vec<Diagnostic>,
    broken: &mut Vec<Span>,
) -> Option<Node> {
    let mut parts = Vec::new();
    for input in inputs {
        if let Input::Compose(file) = input {
            // Compose merges the documents of a file as if each were a file.
            for document in yaml::documents(sources, *file, diagnostics) {
                add_services(services, &document, env, sources);
                add_compose(&mut parts, document, diagnostics);
            }
        }
    }
    for input in inputs {
        if let Input::Network(file) = input {
            let mut documents = yaml::documents(sources, *file, diagnostics);
            documents.retain(|it| !matches!(it.value, Value::Null));
            if let [first, second, ..] = documents.as_slice() {
                let message = "expected one document in a network file, found a second one";
                let second = Diagnostic::new(second.span, message).note(first.span, "the first");
                diagnostics.push(second.help("merge both, or use two files"));
            }
            for document in documents.into_iter().take(1) {
                add(&mut parts, Part { section: Section::Network, node: document }, diagnostics);
            }
        }
    }
    let mut whole: Option<Node> = None;
    let mut interpolation = Interpolation::new(env, sources);
    for Part { mut node, .. } in parts {
        interpolation.node(&mut node, diagnostics);
        check_lists(&mut node, diagnostics);
        check_same_dev(&node, diagnostics);
        match &mut whole {
            Some(whole) => merge(whole, node, "x-network", diagnostics),
            None => whole = Some(node),
        }
    }
    broken.append(&mut interpolation.broken);
    let mut whole = whole?;
    merge_own(&mut whole, None, diagnostics);
    Some(whole)
}

/// Adds the services of a compose file.
fn add_services(services: &mut Services, document: &Node, env: &Env, sources: &Sources) {
    services.more |= document.get("include").is_some();
    let Some(node) = document.get("services") else { return };
    if replaces(node) {
        services.by_name.clear();
    }
    let Value::Map(entries) = &node.value else { return };
    for (name, service) in entries {
        if replaces(service) {
            services.by_name.remove(&name.text);
        }
        if !is_reset(service) {
            services.add(&name.text, service, env, sources);
        }
    }
}

/// Reports and removes what should be a list and is none. Merging would compare it with the lists of other services.
fn check_lists(part: &mut Node, diagnostics: &mut Vec<Diagnostic>) {
    let Value::Map(entries) = &mut part.value else { return };
    entries.retain(|(key, node)| {
        let is_list = matches!(node.value, Value::List(_) | Value::Null);
        let is_ours = ["links", "bridges", "tunnels", "commands"].contains(&key.text.as_str());
        if is_ours && !is_list {
            let message = format!("expected a list of {}, found {}", key.text, node.type_name());
            diagnostics.push(Diagnostic::new(node.span, message));
        }
        is_list || !is_ours
    });
}

/// Warns of two links of one list that become one because both have the same `dev`, or none. Those of different lists
/// are merged on purpose.
fn check_same_dev(part: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let Some(Value::List(links)) = part.get("links").map(|it| &it.value) else { return };
    let mut first: BTreeMap<(&str, String, String), &Node> = BTreeMap::new();
    for link in links.iter().filter(|it| it.tag.is_none()) {
        let own = link.get("dev").and_then(scalar_text);
        let dev = own.clone().unwrap_or_else(|| "eth0".to_owned());
        for key in ["service", "container"] {
            let Some(name) = link.get(key).and_then(scalar_text) else { continue };
            let Some(other) = first.insert((key, name.clone(), dev.clone()), link) else { continue };
            let message = match (&own, other.get("dev")) {
                (None, None) => {
                    format!("two links of {key} `{name}` have no `dev`: both are merged into `eth0`")
                }
                _ => format!("two links of {key} `{name}` have `dev: {dev}`: both are merged into one link"),
            };
            let merged = Diagnostic::warning(link.span, message).code("merged-links");
            diagnostics.push(merged.note(other.span, "the first").help("give one of them another `dev`"));
        }
    }
}

/// Warns of a key that is probably meant to be `x-network`, which compose takes like any `x-` key.
fn check_spelling(key: &Key, diagnostics: &mut Vec<Diagnostic>) {
    let text = key.text.to_ascii_lowercase().replace('_', "-");
    let is_near = strsim::osa_distance(&text, "x-network") <= 2;
    if key.text != "x-network" && key.text.starts_with("x") && is_near {
        let message = format!("key `{}` is ignored", key.text);
        let unknown = Diagnostic::warning(key.span, message).code("misspelled-x-network");
        diagnostics.push(unknown.help("did you mean `x-network`?"));
    }
}

/// Adds the network parts of a compose file: the top level's, then those of its services in order.
fn add_compose(parts: &mut Vec<Part>, document: Node, diagnostics: &mut Vec<Diagnostic>) {
    let found = document.type_name();
    let (mut own, mut services) = (None, None);
    match document.value {
        Value::Map(entries) => {
            for (key, node) in entries {
                check_spelling(&key, diagnostics);
                match key.text.as_str() {
                    "x-network" => own = Some(node),
                    "services" => services = Some(node),
                    _ => {}
                }
            }
        }
        Value::Null => {}
        _ => {
            diagnostics.push(Diagnostic::new(
                document.span,
                format!("expected a mapping in a compose file, found {found}"),
            ));
        }
    }
    if let Some(node) = own {
        add(parts, Part { section: Section::Top, node }, diagnostics);
    }
    let Some(services) = services else { return };
    if replaces(&services) {
        parts.retain(|it| !matches!(it.section, Section::Service(_)));
    }
    let Value::Map(entries) = services.value else { return };
    for (name, service) in entries {
        let section = Section::Service(name.text.clone());
        if replaces(&service) {
            parts.retain(|it| it.section != section);
        }
        let Value::Map(entries) = service.value else { continue };
        entries.iter().for_each(|(key, _)| check_spelling(key, diagnostics));
        if let Some((_, mut node)) = entries.into_iter().find(|(key, _)| key.text == "x-network") {
            belongs_to(&mut node, &name);
            add(parts, Part { section, node }, diagnostics);
        }
    }
}

/// Adds a description, after its tags have changed earlier ones.
fn add(parts: &mut Vec<Part>, mut part: Part, diagnostics: &mut Vec<Diagnostic>) {
    check_tags(&part.node, diagnostics);
    let is_about = |it: &Part| part.section == Section::Network || it.section == part.section;
    if replaces(&part.node) {
        parts.retain(|it| !is_about(it));
    }
    if is_reset(&part.node) {
        return;
    }
    match part.node.value {
        Value::Map(_) => {
            let mut earlier: Vec<&mut Node> =
                parts.iter_mut().filter(|it| is_about(it)).map(|it| &mut it.node).collect();
            settle(&mut part.node, &mut earlier);
            part.node.tag = None;
            parts.push(part);
        }
        Value::Null => {}
        _ => {
            let message = format!("expected a mapping, found {}", part.node.type_name());
            let help = "expected `links`, `bridges`, `tunnels` or `commands`";
            diagnostics.push(Diagnostic::new(part.node.span, message).help(help));
        }
    }
}

/// Assigns the links and commands within a service to that service, unless they name another.
fn belongs_to(node: &mut Node, service: &Key) {
    let Value::Map(entries) = &mut node.value else { return };
    for (_, list) in entries.iter_mut().filter(|(key, _)| matches!(key.text.as_str(), "links" | "commands")) {
        let Value::List(items) = &mut list.value else { continue };
        for item in items {
            if item.get("service").is_some() || item.get("container").is_some() {
                continue;
            }
            let span = item.span;
            if let Value::Map(entries) = &mut item.value {
                let key = Key { text: "service".to_owned(), span };
                // The name goes through interpolation like all that is written: compose does not interpolate keys.
                let name = Value::Text(service.text.replace('$', "$$"));
                entries.push((key, Node::new(name, service.span)));
            }
        }
    }
}
