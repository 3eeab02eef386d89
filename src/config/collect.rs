//! All files to one tree: what is ours of compose files, then network files, interpolated and merged.

use std::collections::BTreeMap;

use crate::config::ServiceConfig;
use crate::config::diagnostic::Diagnostic;
use crate::config::interpolate::{Env, interpolate};
use crate::config::merge::{check_tags, is_reset, merge, merge_own, replaces, settle};
use crate::config::source::{FileId, Sources, Span};
use crate::config::yaml::{self, Key, Node, Value, integer};

/// A file to read, and as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A compose file: its `x-network`, and that of each service.
    Compose(FileId),
    /// The whole document is the configuration.
    Network(FileId),
}

/// Where a description stands: `!override` and `!reset` are about earlier ones of the same place, as compose has it.
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
    /// A file includes others, which may have more.
    more: bool,
}

impl Services {
    /// The services by name; None where the files do not tell them all.
    pub(super) fn known(self) -> Option<BTreeMap<String, ServiceConfig>> {
        (!self.more && !self.by_name.is_empty()).then_some(self.by_name)
    }

    fn add(&mut self, name: &str, service: &Node, env: &Env, sources: &Sources) {
        let known = self.by_name.entry(name.to_owned()).or_default();
        // What is wrong with a value is for compose to tell.
        let given = |node: Option<&Node>| {
            let mut node = node?.clone();
            interpolate(&mut node, env, sources, &mut Vec::new(), &mut Vec::new());
            Some(node)
        };
        if let Some(mode) = given(service.get("network_mode")) {
            let is_host = matches!(&mode.value, Value::Text(text) if text == "host") && !is_reset(&mode);
            known.host_network = is_host.then_some(mode.span);
        }
        let replicas = service.get("deploy").and_then(|it| it.get("replicas"));
        if let Some(count) = given(service.get("scale").or(replicas)) {
            let number = match &count.value {
                Value::Int(it) => Some(*it),
                Value::Text(it) => integer(it),
                _ => None,
            };
            let number = number.filter(|_| !is_reset(&count));
            known.several = number.is_some_and(|it| it > 1).then_some(count.span);
            known.no_replicas = number == Some(0);
        }
        // Each file's are added to those before.
        if let Some(profiles) = service.get("profiles") {
            let given = matches!(&profiles.value, Value::List(it) if !it.is_empty()) && !is_reset(profiles);
            known.has_profiles = given || known.has_profiles && !is_reset(profiles) && !replaces(profiles);
        }
    }
}

/// The configuration of all files: compose files first, in order, then network files. None where there is none.
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
                let message = "a network file holds one document, this is a second";
                let second = Diagnostic::new(second.span, message).note(first.span, "the first");
                diagnostics.push(second.help("put both together, or into two files"));
            }
            for document in documents.into_iter().take(1) {
                add(&mut parts, Part { section: Section::Network, node: document }, diagnostics);
            }
        }
    }
    let mut whole: Option<Node> = None;
    for Part { mut node, .. } in parts {
        interpolate(&mut node, env, sources, diagnostics, broken);
        match &mut whole {
            Some(whole) => merge(whole, node, "x-network", diagnostics),
            None => whole = Some(node),
        }
    }
    let mut whole = whole?;
    merge_own(&mut whole, None, diagnostics);
    Some(whole)
}

/// Which services a compose file has.
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

/// What is ours of a compose file: the top level's, then those of services in their order.
fn add_compose(parts: &mut Vec<Part>, document: Node, diagnostics: &mut Vec<Diagnostic>) {
    let found = document.type_name();
    let (mut own, mut services) = (None, None);
    match document.value {
        Value::Map(entries) => {
            for (key, node) in entries {
                match key.text.as_str() {
                    "x-network" => own = Some(node),
                    "services" => services = Some(node),
                    _ => {}
                }
            }
        }
        Value::Null => {}
        _ => {
            diagnostics
                .push(Diagnostic::new(document.span, format!("a compose file is a mapping, not {found}")));
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
        if let Some((_, mut node)) = entries.into_iter().find(|(key, _)| key.text == "x-network") {
            belongs_to(&mut node, &name);
            add(parts, Part { section, node }, diagnostics);
        }
    }
}

/// Adds a description, after what its tags do to earlier ones.
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
            let help = "the network is described by `links`, `bridges`, `tunnels` and `commands`";
            diagnostics.push(Diagnostic::new(part.node.span, message).help(help));
        }
    }
}

/// Gives the links and commands that a service describes to that service, unless they name one themselves.
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
