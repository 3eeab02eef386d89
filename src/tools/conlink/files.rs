//! From file names to a network and its diagnostics.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use crate::compose;
use crate::config::{
    Diagnostic, Env, FileId, Input, PROJECT_NAME, Scope, Severity, Sources, UNSET, load, tidy,
};
use crate::network::{Defaults, NEED_EVERY_ENTRY, Network, resolve};
use crate::service::{self, Project};
use crate::tools::conlink::options::Files;
use crate::tools::{environment, input};
use crate::{Usage, err};

/// The network that files describe, with all findings.
pub(in crate::tools) struct Described {
    pub(in crate::tools) network: Network,
    pub(in crate::tools) sources: Arc<Sources>,
    pub(in crate::tools) diagnostics: Vec<Diagnostic>,
    /// In merge order.
    pub(in crate::tools) compose_files: Vec<FileId>,
}

impl Described {
    /// Is there an error that makes at least this much unusable?
    pub(in crate::tools) fn stops(&self, scope: Scope) -> bool {
        self.diagnostics.iter().any(|it| it.stops(scope))
    }

    /// Logs what does not keep an engine or lab from running.
    pub(in crate::tools) fn log(&self) {
        for it in &self.diagnostics {
            let level = match it.severity {
                Severity::Error => log::Level::Error,
                Severity::Warning => log::Level::Warn,
                Severity::Hint => log::Level::Debug,
            };
            let place = it.span.map_or_else(String::new, |span| format!("{}: ", self.sources.place(span)));
            let help = it.help.as_ref().map_or_else(String::new, |it| format!("; {it}"));
            log::log!(level, "{place}{} [{}]{help}", it.message, it.code);
        }
    }
}

/// The kind of a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tools) enum Role {
    Compose,
    Network,
}

impl Files {
    /// Every file with its kind, in merge order.
    pub(in crate::tools) fn list(&self) -> Vec<(PathBuf, Role)> {
        let compose = self.compose_files.iter().map(|it| (it.clone(), Role::Compose));
        let network = self.network_files.iter().map(|it| (it.clone(), Role::Network));
        compose.chain(network).filter(|(path, _)| !path.as_os_str().is_empty()).collect()
    }

    pub(in crate::tools) fn defaults(&self, project: &str) -> Defaults {
        Defaults {
            bridge_mode: self.default_bridge_mode.into(),
            mtu: self.default_mtu,
            keep_veth_offload: self.keep_veth_offload,
            // The engine finds out when it starts.
            ovs: false,
            project: project.to_owned(),
        }
    }
}

const HINT: &str = "\nhint: name files with --file or --network-file";

/// Files that have been read: a pipe can be read once.
pub(in crate::tools) type Contents = BTreeMap<PathBuf, Vec<u8>>;

/// Reads files and tells the two kinds apart. What cannot be read is reported when the files are described.
pub(in crate::tools) fn by_content(paths: &[PathBuf]) -> (Vec<(PathBuf, Role)>, Contents) {
    let mut contents = Contents::new();
    for path in paths {
        if !contents.contains_key(path)
            && let Ok(bytes) = input::read(path)
        {
            contents.insert(path.clone(), bytes);
        }
    }
    let kind = |it: &PathBuf| contents.get(it).map_or(Role::Network, |it| role(&String::from_utf8_lossy(it)));
    (paths.iter().map(|it| (it.clone(), kind(it))).collect(), contents)
}

/// Tells the two kinds of file apart by the first words of their lines.
fn role(text: &str) -> Role {
    let is_compose = |line: &str| {
        let key = line.trim_start_matches(['{', '"', '\'', '\u{feff}', ' ']);
        let own = line.len() - line.trim_start().len() == 0 || text.trim_start().starts_with('{');
        own && ["services", "x-network"].iter().any(|it| key.starts_with(it))
    };
    if text.lines().any(is_compose) { Role::Compose } else { Role::Network }
}

/// Files to describe, and what they are read with.
#[derive(Debug)]
pub(in crate::tools) struct Located {
    files: Vec<(PathBuf, Role)>,
    contents: Contents,
    env: Env,
    /// The project of the compose files, if there are any.
    project: Option<Project>,
    /// No file was given: a project without a usable name is an error.
    found: bool,
}

/// Takes the files that are given, else the compose files that `docker compose` reads in the working directory.
pub(in crate::tools) fn locate(given: Vec<(PathBuf, Role)>, contents: Contents) -> anyhow::Result<Located> {
    let env = environment();
    let cwd = std::env::current_dir().context("find the working directory")?;
    let look = service::Files { exists: &|it| it.is_file(), read: &|it| input::read_text(it) };
    if !given.is_empty() {
        let compose = given.iter().filter(|(_, role)| *role == Role::Compose).map(|(path, _)| path.clone());
        let compose: Vec<PathBuf> = compose.collect();
        let project =
            (!compose.is_empty()).then(|| Project::locate(&compose, &env, &cwd, look).ok()).flatten();
        return Ok(Located { files: given, contents, env, project, found: false });
    }
    let project = Project::locate(&[], &env, &cwd, look).map_err(|it| Usage(it.join("\nerror: ") + HINT))?;
    project.warnings.iter().for_each(|it| err(&format!("warning: {it}\n")));
    let names = project.files.iter().map(|it| it.strip_prefix(&cwd).unwrap_or(it).to_owned());
    let files = names.map(|it| (it, Role::Compose)).collect();
    Ok(Located { files, contents, env: project.env.clone(), project: Some(project), found: true })
}

impl Located {
    /// No files, even if the working directory has some.
    pub(in crate::tools) fn none() -> Self {
        Self { files: Vec::new(), contents: Contents::new(), env: environment(), project: None, found: false }
    }

    /// The same files without a project: the engine learns its name from its container.
    pub(in crate::tools) fn without_project(self) -> Self {
        Self { project: None, ..self }
    }

    /// Reads the files and resolves them. `defaults.project` overrides the name of the project.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(in crate::tools) fn describe(&self, mut defaults: Defaults) -> anyhow::Result<Described> {
        let mut wrong = None;
        let mut described = describe_by(&self.files, &self.contents, &self.env, |sources, compose_files| {
            if let Some(project) = self.project.as_ref().filter(|_| defaults.project.is_empty()) {
                match project.name(sources, compose_files) {
                    Ok(name) => defaults.project = name,
                    Err(it) => wrong = Some(it).filter(|_| self.found),
                }
            }
            defaults
        })?;
        described.diagnostics.extend(wrong);
        Ok(described)
    }

    /// Adds what is wrong with the services of the compose files. Errors that only a lab has, or that may not occur where
    /// compose runs, become warnings.
    pub(in crate::tools) fn check_services(&self, described: &mut Described) {
        let Some(project) = &self.project else { return };
        let (sources, files) = (&described.sources, &described.compose_files);
        let mut env = project.env.clone();
        env.insert(PROJECT_NAME.to_owned(), project.name(sources, files).unwrap_or_default());
        let read = |path: &Path| input::read_text(path);
        let context = service::Context { env: &env, dir: &project.dir, profiles: &[], read: &read };
        let (_, mut found) = service::services(sources, files, context);
        // Other files may declare what these name, and other variables may be set.
        let more = found.iter().any(|it| it.code == compose::NOT_FOLLOWED);
        let unset = described.diagnostics.iter().chain(&found).any(|it| it.code == UNSET);
        for it in found.iter_mut().filter(|it| it.severity == Severity::Error) {
            let is_expanded = it.span.is_some_and(|it| sources.slice(it).contains('$'));
            if it.code == service::LAB || more || unset && is_expanded {
                (it.severity, it.code) = (Severity::Warning, service::LAB);
            }
        }
        let known = |it: &Diagnostic| {
            described.diagnostics.iter().any(|known| known.span == it.span && known.message == it.message)
        };
        found.retain(|it| !known(it));
        described.diagnostics.extend(found);
        tidy(&mut described.diagnostics);
    }
}

/// Reads, resolves and lints the files.
///
/// # Errors
/// A file cannot be read.
pub(in crate::tools) fn describe(
    files: &[(PathBuf, Role)],
    defaults: Defaults,
    env: &Env,
) -> anyhow::Result<Described> {
    describe_by(files, &Contents::new(), env, |_, _| defaults)
}

/// The same with defaults that depend on the compose files.
fn describe_by(
    files: &[(PathBuf, Role)],
    contents: &Contents,
    env: &Env,
    defaults: impl FnOnce(&Sources, &[FileId]) -> Defaults,
) -> anyhow::Result<Described> {
    let mut compose_files = Vec::new();
    let mut sources = Sources::default();
    let mut inputs = Vec::new();
    let mut unreadable = Vec::new();
    for (path, role) in files {
        let name = match path.to_str() {
            Some(input::STDIN) => "standard input".to_owned(),
            _ => path.display().to_string(),
        };
        let bytes = contents.get(path).map_or_else(|| input::read(path), |it| Ok(it.clone()));
        match bytes.with_context(|| format!("read {name}")) {
            Ok(bytes) => {
                let file = sources.add(name, bytes);
                inputs.push(match role {
                    Role::Compose => {
                        compose_files.push(file);
                        Input::Compose(file)
                    }
                    Role::Network => Input::Network(file),
                });
            }
            Err(error) => unreadable.push(format!("{error:#}")),
        }
    }
    if !unreadable.is_empty() {
        anyhow::bail!(unreadable.join("\nerror: "));
    }
    let defaults = defaults(&sources, &compose_files);
    let mut env = env.clone();
    if !defaults.project.is_empty() {
        env.insert(PROJECT_NAME.to_owned(), defaults.project.clone());
    }
    let (config, mut diagnostics) = load(&sources, &inputs, &env);
    let sources = Arc::new(sources);
    let (network, found) = resolve(config, sources.clone(), defaults);
    diagnostics.extend(found);
    let mut likely = network.lint();
    // Without the entries that have errors, the others look incomplete.
    if diagnostics.iter().any(|it| it.stops(Scope::Network)) {
        likely.retain(|it| !NEED_EVERY_ENTRY.contains(&it.code));
    }
    diagnostics.extend(likely);
    tidy(&mut diagnostics);
    Ok(Described { network, sources, diagnostics, compose_files })
}
