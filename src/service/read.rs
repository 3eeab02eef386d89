//! Reads one service, key by key.

mod health;
mod host;
mod keys;
mod log;
mod mount;
mod privileges;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::{Diagnostic, Key, Node, Span, Spanned, Value};
use crate::duration;
use crate::service::value::{Reader, text_of};
use crate::service::{Condition, Dependency, Restart, Service, engine, signal, split};
use crate::words::near;

/// The largest number of replicas of a service.
pub const MAX_REPLICAS: u32 = 10_000;

/// Default stop grace period of compose.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// A service, with the places of its references to other services.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) service: Service,
    pub(super) span: Span,
    /// The place of each dependency, in order.
    pub(super) dependencies: Vec<Span>,
    pub(super) container_name: Option<Span>,
}

/// All services, enabled or not.
#[derive(Debug, Default)]
pub(super) struct Readings {
    pub(super) running: Vec<Reading>,
    /// Services that no profile enables, with their profiles.
    pub(super) left_out: Vec<(String, Vec<String>)>,
}

impl Reader<'_> {
    /// The services of the merged document.
    pub(super) fn services(&mut self, whole: &Node) -> Readings {
        let mut readings = Readings::default();
        let volumes = self.volumes(whole);
        let services = whole.get("services").map(|it| self.map(it)).unwrap_or_default();
        let active = self.active_profiles();
        for (name, node) in services {
            let profiles = node.get("profiles").map(|it| self.texts(it)).unwrap_or_default();
            let profiles: Vec<String> = profiles.into_iter().map(|(it, _)| it).collect();
            if !profiles.is_empty() && !active.contains("*") && !profiles.iter().any(|it| active.contains(it))
            {
                readings.left_out.push((name.text.clone(), profiles));
                continue;
            }
            readings.running.push(self.service(name, node, whole, &volumes));
        }
        readings
    }

    /// The enabled profiles: those of the command line, otherwise those of the environment.
    fn active_profiles(&self) -> BTreeSet<String> {
        if !self.context.profiles.is_empty() {
            return self.context.profiles.iter().cloned().collect();
        }
        let named = self.context.env.get("COMPOSE_PROFILES").map(String::as_str).unwrap_or_default();
        named.split(',').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
    }

    fn service(&mut self, name: &Key, node: &Node, whole: &Node, volumes: &mount::Volumes) -> Reading {
        self.notes.clear();
        self.name(&name.text, name.span, "service");
        self.unknown_keys(node);
        let argv = self.argv(node);
        let is_engine = engine::is_engine(node.get("image").and_then(text_of).as_deref(), &argv);
        let (shares_network_of, shares_span) = self.network_mode(node).unzip();
        let (depends_on, dependencies) =
            self.dependencies(node, &shares_network_of, shares_span).into_iter().unzip();
        let container_name =
            node.get("container_name").filter(|it| text_of(it).is_some_and(|it| !it.is_empty()));
        let (mut mounts, tmpfs) = self.mounts(node, volumes);
        mounts.extend(["configs", "secrets"].into_iter().flat_map(|it| self.files(node, it, whole)));
        let service = Service {
            name: name.text.clone(),
            replicas: self.replicas(node),
            container_name: container_name.and_then(|it| self.container_name(it)),
            env: self.environment(node),
            working_dir: node.get("working_dir").and_then(|it| self.some_text(it)),
            hostname: node.get("hostname").and_then(|it| self.host_name(it)),
            domainname: node.get("domainname").and_then(|it| self.host_name(it)),
            extra_hosts: node.get("extra_hosts").map(|it| self.extra_hosts(it)).unwrap_or_default(),
            sysctls: node.get("sysctls").map(|it| self.sysctls(it)).unwrap_or_default(),
            restart: self.restart(node),
            depends_on,
            healthcheck: node.get("healthcheck").and_then(|it| self.healthcheck(it)),
            stop_signal: node.get("stop_signal").and_then(|it| self.signal(it)).unwrap_or(signal::TERM),
            stop_grace: node.get("stop_grace_period").and_then(|it| self.duration(it)).unwrap_or(STOP_GRACE),
            volumes: mounts,
            tmpfs,
            user: node.get("user").and_then(|it| self.some_text(it)),
            shares_network_of,
            init: node.get("init").and_then(|it| self.boolean(it)).unwrap_or(false),
            log: self.log_limit(node),
            privileges: self.privileges(node),
            is_engine,
            argv,
            notes: self.notes(node, is_engine),
            origin: self.sources.place(name.span),
        };
        let container_name = container_name.map(|it| it.span);
        Reading { service, span: name.span, dependencies, container_name }
    }

    /// Checks a name, which is also used as a file name.
    fn name(&mut self, name: &str, span: Span, what: &str) {
        let fits = name.chars().all(|it| it.is_ascii_alphanumeric() || "._-".contains(it));
        if !fits || name.chars().all(|it| it == '.') || name.len() > 200 {
            let message = format!("invalid {what} name `{name}`");
            self.error(span, message, "expected at most 200 letters, digits, `.`, `_` and `-`");
        }
    }

    fn container_name(&mut self, node: &Node) -> Option<String> {
        let name = self.some_text(node)?;
        if name.starts_with(|it: char| it.is_ascii_alphanumeric()) {
            self.name(&name, node.span, "container");
        } else {
            self.bad(
                node,
                format!("invalid container name `{name}`"),
                "expected a letter or a digit at the start",
            );
        }
        Some(name)
    }

    fn unknown_keys(&mut self, node: &Node) {
        for (key, _) in self.map(node) {
            if !keys::KNOWN.contains(&key.text.as_str()) && !key.text.starts_with("x-") {
                let help = match near(&key.text, keys::KNOWN) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "compose refuses unknown properties".to_owned(),
                };
                self.warn(key.span, format!("unknown property `{}` of a service", key.text), help);
            }
        }
    }

    fn replicas(&mut self, node: &Node) -> u32 {
        let scale = node.get("scale");
        let replicas = node.get("deploy").and_then(|it| it.get("replicas"));
        let scale = scale.and_then(|it| Some((self.number(it)?, it)));
        let replicas = replicas.and_then(|it| Some((self.number(it)?, it)));
        if let (Some((scale, at)), Some((replicas, other))) = (scale, replicas)
            && scale != replicas
        {
            let message = format!("`scale` is {scale} and `deploy.replicas` is {replicas}");
            let differ = Diagnostic::new(at.span, message).note(other.span, "here");
            self.diagnostics.push(differ.help("remove one of them"));
        }
        let Some((count, at)) = scale.or(replicas) else { return 1 };
        if count > MAX_REPLICAS {
            self.bad(
                at,
                format!("{count} replicas are too many"),
                format!("expected at most {MAX_REPLICAS}"),
            );
            return 1;
        }
        if count > 1
            && let Some(name) = node.get("container_name").filter(|it| !matches!(it.value, Value::Null))
        {
            let message = format!("{count} replicas cannot share one name");
            let bad = Diagnostic::new(name.span, message).note(at.span, "the number of replicas");
            self.diagnostics.push(bad.help("remove `container_name`"));
        }
        count
    }

    fn argv(&mut self, node: &Node) -> Vec<String> {
        let mut argv = Vec::new();
        for key in ["entrypoint", "command"] {
            argv.extend(node.get(key).map(|it| self.command(it)).unwrap_or_default());
        }
        argv
    }

    /// A list of words, or a string that is split into words.
    fn command(&mut self, node: &Node) -> Vec<String> {
        if let Value::List(_) = node.value {
            return self.texts(node).into_iter().map(|(it, _)| it).collect();
        }
        let Some(text) = self.text(node) else { return Vec::new() };
        let place = |at| self.sources.part(&Spanned { value: text.clone(), span: node.span }, at);
        match split::split(&text) {
            Ok(split) => {
                if let Some(cut) = split.cut {
                    let span = place(cut..text.trim_end().len());
                    let message = format!(
                        "compose runs no shell: it drops `{}`",
                        text.get(cut..).unwrap_or_default().trim_end().replace('\n', " ")
                    );
                    self.warn(span, message, "use `sh -c '…'`, or quote the character");
                }
                split.words
            }
            Err(bad) => {
                let span = place(bad.at);
                self.error(span, bad.message, bad.help.unwrap_or_default());
                Vec::new()
            }
        }
    }

    fn restart(&mut self, node: &Node) -> Restart {
        if let Some(node) = node.get("restart")
            && let Some(text) = self.some_text(node)
        {
            let (policy, limit) = text.split_once(':').map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
            let limit = limit.map(str::parse::<u32>);
            match (policy, limit) {
                ("no", None) => return Restart::No,
                ("always" | "unless-stopped", None) => return Restart::Always,
                // 0 means no limit.
                ("on-failure", None | Some(Ok(0))) => return Restart::OnFailure(None),
                ("on-failure", Some(Ok(limit))) => return Restart::OnFailure(Some(limit)),
                _ => {}
            }
            let known = ["no", "always", "on-failure", "unless-stopped"];
            let help = match near(policy, &known).filter(|it| *it != policy) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    "expected `no`, `always`, `on-failure`, `on-failure:TIMES` or `unless-stopped`".to_owned()
                }
            };
            self.bad(node, format!("invalid restart policy `{text}`"), help);
            return Restart::No;
        }
        let Some(policy) = node.get("deploy").and_then(|it| it.get("restart_policy")) else {
            return Restart::No;
        };
        let limit = policy.get("max_attempts").and_then(|it| self.number(it)).filter(|it| *it > 0);
        let condition = policy.get("condition");
        match condition.and_then(|it| self.some_text(it)).as_deref() {
            None | Some("any" | "always" | "unless-stopped") => Restart::Always,
            Some("none" | "no") => Restart::No,
            Some("on-failure") => Restart::OnFailure(limit),
            Some(other) => {
                let message = format!("invalid restart policy `{other}`");
                self.bad(condition.unwrap_or(policy), message, "expected `none`, `on-failure` or `any`");
                Restart::No
            }
        }
    }

    /// The service in a value such as `network_mode: service:NAME`.
    fn of_service(&mut self, node: &Node, key: &str) -> Option<(String, Span)> {
        let node = node.get(key)?;
        let mode = self.some_text(node)?;
        mode.strip_prefix("service:").map(|it| (it.to_owned(), node.span))
    }

    fn network_mode(&mut self, service: &Node) -> Option<(String, Span)> {
        let node = service.get("network_mode")?;
        if let Some(networks) = service.get("networks").filter(|it| !is_nothing(it)) {
            let both = Diagnostic::new(networks.span, "a service has `networks` or `network_mode`, not both");
            self.diagnostics.push(both.note(node.span, "the other one").help("remove one of them"));
        }
        self.of_service(service, "network_mode")
    }

    /// The dependencies of `depends_on`, then those that other keys imply.
    fn dependencies(
        &mut self,
        node: &Node,
        network: &Option<String>,
        network_span: Option<Span>,
    ) -> Vec<(Dependency, Span)> {
        let mut all: Vec<(Dependency, Span)> = Vec::new();
        for (name, node) in node.get("depends_on").map(|it| self.map(it)).unwrap_or_default() {
            let condition = node.get("condition");
            if condition.is_none() {
                let message = format!("dependency `{}` has no condition", name.text);
                self.error(name.span, message, "add `condition: service_started`");
            }
            let condition = condition.and_then(|it| self.condition(it)).unwrap_or(Condition::Started);
            let required = node.get("required").and_then(|it| self.boolean(it)).unwrap_or(true);
            all.push((Dependency { service: name.text.clone(), condition, required }, name.span));
        }
        let mut implied: Vec<(String, Span)> = network.clone().zip(network_span).into_iter().collect();
        implied.extend(["ipc", "pid"].into_iter().filter_map(|it| self.of_service(node, it)));
        for key in ["links", "volumes_from"] {
            for (text, node) in node.get(key).map(|it| self.texts(it)).unwrap_or_default() {
                let name = text.split(':').next().unwrap_or_default().to_owned();
                if !text.starts_with("container:") {
                    implied.push((name, node.span));
                }
            }
        }
        for (service, span) in implied {
            if !all.iter().any(|(it, _)| it.service == service) {
                all.push((Dependency { service, condition: Condition::Started, required: true }, span));
            }
        }
        all
    }

    fn condition(&mut self, node: &Node) -> Option<Condition> {
        const KNOWN: [(&str, Condition); 3] = [
            ("service_started", Condition::Started),
            ("service_healthy", Condition::Healthy),
            ("service_completed_successfully", Condition::CompletedSuccessfully),
        ];
        let text = self.some_text(node)?;
        if let Some((_, condition)) = KNOWN.iter().find(|(name, _)| *name == text) {
            return Some(*condition);
        }
        let names = KNOWN.map(|(name, _)| name);
        let help = match near(&text, &names).or_else(|| near(&format!("service_{text}"), &names)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("expected {}", crate::words::listed(&names)),
        };
        self.bad(node, format!("unknown condition `{text}`"), help);
        None
    }

    fn signal(&mut self, node: &Node) -> Option<i32> {
        let text = self.some_text(node)?;
        let signal = signal::parse(&text);
        if signal.is_none() {
            let help = match signal::near(&text) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "expected a name such as `SIGINT`, or a number from 1 to 64".to_owned(),
            };
            self.bad(node, format!("unknown signal `{text}`"), help);
        }
        signal
    }

    pub(super) fn duration(&mut self, node: &Node) -> Option<Duration> {
        let text = self.text(node)?;
        let duration = duration::with_units(&text);
        if duration.is_none() {
            let is_number = text.parse::<f64>().is_ok_and(|it| it >= 0.0);
            let help = match is_number {
                true => format!("add a unit, such as `{text}s`"),
                false => {
                    "expected numbers with the units `h`, `m`, `s`, `ms` or `us`, such as `1m30s`".to_owned()
                }
            };
            self.bad(node, format!("invalid duration `{text}`"), help);
        }
        duration
    }

    /// The notes of the service, including those about keys without effect, in the order of their places.
    fn notes(&mut self, node: &Node, is_engine: bool) -> Vec<String> {
        if is_engine {
            // The service is not run, but a user would miss its published ports.
            self.notes.clear();
        }
        for (key, value) in self.map(node) {
            if let Some((_, text)) = keys::WITHOUT_EFFECT.iter().find(|(it, _)| *it == key.text)
                && !is_nothing(value)
                && (!is_engine || key.text == "ports")
            {
                self.note(key.span, text);
            }
        }
        if let Some(limits) = node.get("deploy").and_then(|it| it.get("resources"))
            && !is_nothing(limits)
            && !is_engine
        {
            self.note(limits.span, "`deploy.resources` has no effect: a lab sets no limits");
        }
        if let Some(node) = node.get("network_mode").filter(|_| !is_engine)
            && let Some(mode) = text_of(node).filter(|it| !matches!(it.as_str(), "none" | ""))
            && !mode.starts_with("service:")
        {
            let text = format!("`network_mode: {mode}` has no effect: the node has a network of its own");
            self.note(node.span, &text);
        }
        let mut notes = std::mem::take(&mut self.notes);
        notes.sort_by_key(|(span, _)| *span);
        notes.iter().map(|(span, text)| format!("{}: {text}", self.sources.place(*span))).collect()
    }
}

/// Whether the value is empty or off.
fn is_nothing(node: &Node) -> bool {
    match &node.value {
        Value::Null | Value::Bool(false) => true,
        Value::Text(it) => it.is_empty() || it == "false",
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
        Value::Bool(true) | Value::Int(_) | Value::Float(_) => false,
    }
}
