//! The modes of a project: their order and their content.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::config::{Diagnostic, FileId, Severity, Sources, documents};
use crate::deps::{Dep, Resolution, Wants};
use crate::env_file::{BadValue, EnvFile, EnvMode, ProjectEnv, Written, evaluate, parse};
use crate::tools::mdc::settings::{Settings, Wrong, is_on};
use crate::tools::nodes::{Lines, Nodes, Reach, complaints, places};
use crate::tools::resolve_deps::{parse_request, resolve_in_time};
use crate::tools::{environment, input};
use crate::words::near;

/// The project that a run of mdc assembles.
#[derive(Debug)]
pub(super) struct Project {
    /// In order: later ones win.
    pub(super) modes: Vec<Mode>,
    /// The new env file.
    pub(super) written: Written,
    /// The compose files of the modes, in order.
    pub(super) sources: Sources,
}

/// A mode with its directory.
#[derive(Debug)]
pub(super) struct Mode {
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// The first existing file of [`COMPOSE_FILES`].
    pub(super) compose_file: Option<PathBuf>,
    /// Each service with a directory `files`, and that directory.
    pub(super) files: Vec<(OsString, PathBuf)>,
}

/// The names of a mode's compose file; the first existing one is used.
const COMPOSE_FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// The names of a mode's env files, in order.
const ENV_FILES: [&str; 2] = ["env", ".env"];

/// The result of resolving MODES.
pub(super) struct Resolved {
    pub(super) nodes: Nodes,
    pub(super) reach: Reach,
    pub(super) found: Resolution,
}

/// Resolves MODES. An unknown name is an error if it is required, and is dropped among alternatives.
pub(super) fn resolve(settings: &Settings, modes: &str) -> Result<Resolved, Wrong> {
    let mut request = parse_request(&[modes.to_owned()], "MODES")?;
    // Separators alone stand for no mode, as with the reference tool; a comment is a mistake.
    if request.is_empty() && modes.contains('#') {
        return Err(vec![format!("MODES `{modes}` names no mode")]);
    }
    let nodes = Nodes::read(&places(&settings.modes_dir))
        .map_err(|wrong| wrong.into_iter().map(|it| it.replace("Node ", "Mode ")).collect::<Wrong>())?;
    let mut reach = nodes.reach(&request)?;
    let mut warnings = Vec::new();
    let mut wrong = Vec::new();
    let mut places = Places::new(&nodes, &reach.texts);
    let known: Vec<&str> = nodes.names().collect();
    let mut deps: Vec<(Option<&str>, &mut Dep)> = request.iter_mut().map(|it| (None, it)).collect();
    for (node, asked) in &mut reach.graph {
        deps.extend(asked.iter_mut().map(|it| (Some(node.as_str()), it)));
    }
    for (by, dep) in deps {
        let mut place = || places.place(by, dep.at.start);
        match &mut dep.wants {
            Wants::Node(name) | Wants::After(name) => wrong.extend(no_path(name, &place())),
            Wants::AnyOf(names) => {
                wrong.extend(names.iter().filter_map(|it| no_path(it, &place())));
                let is_known = |it: &String| nodes.get(it).is_some();
                if names.iter().any(is_known) && !names.iter().all(is_known) {
                    let missing = names.iter().filter(|it| !is_known(it));
                    warnings.extend(missing.map(|it| {
                        let help = did_you_mean(&known, it);
                        format!("{}: unknown mode `{it}` among alternatives{help}", place())
                    }));
                    names.retain(|it| nodes.get(it).is_some());
                }
            }
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let found = resolve_in_time(&reach, &request, settings.time_limit).map_err(|it| vec![it])?;
    let (missing, mut found) = missing(&nodes, &reach, found);
    if settings.allow_missing {
        warnings.extend(missing.iter().map(|it| format!("skipped: {it}")));
        found.order.retain(|it| nodes.get(it).is_some());
    } else if !missing.is_empty() {
        return Err(missing);
    }
    settings.warn(&warnings)?;
    Ok(Resolved { nodes, reach, found })
}

/// An error if a name is a path: a mode is a subdirectory of a modes directory.
fn no_path(name: &str, place: &str) -> Option<String> {
    let is_path = name.contains('/') || name == "." || name == "..";
    is_path.then(|| format!("{place}: `{name}` is a path, not the name of a mode"))
}

/// The unknown modes, each with the mode that requires it.
fn missing(nodes: &Nodes, reach: &Reach, found: Resolution) -> (Vec<String>, Resolution) {
    let known: Vec<&str> = nodes.names().collect();
    let mut places = Places::new(nodes, &reach.texts);
    // Where each mode first names the others.
    let mut named: BTreeMap<&str, HashMap<&str, usize>> = BTreeMap::new();
    let mut missing = Vec::new();
    for it in found.why.iter().filter(|it| nodes.get(&it.node).is_none()) {
        let asked = it.by.as_ref().map(|by| {
            let names = named.entry(by).or_insert_with(|| first_places(reach.graph.get(by)));
            let at = names.get(it.node.as_str()).copied().unwrap_or_default();
            format!(" (required by {by}, {})", places.place(Some(by), at))
        });
        let (asked, help) = (asked.unwrap_or_default(), did_you_mean(&known, &it.node));
        missing.push(format!("unknown mode `{}`{asked}{help}", it.node));
    }
    if !missing.is_empty() && known.is_empty() {
        missing.push("no modes in the modes directory".to_owned());
    }
    (missing, found)
}

/// Where each name first appears.
fn first_places(deps: Option<&Vec<Dep>>) -> HashMap<&str, usize> {
    let mut first = HashMap::new();
    for dep in deps.into_iter().flatten() {
        let names = match &dep.wants {
            Wants::Node(it) | Wants::After(it) => std::slice::from_ref(it),
            Wants::AnyOf(all) => all,
        };
        for it in names {
            first.entry(it.as_str()).or_insert(dep.at.start);
        }
    }
    first
}

fn did_you_mean(known: &[&str], name: &str) -> String {
    near(name, known).map(|it| format!("; did you mean `{it}`?")).unwrap_or_default()
}

/// The places of dependencies.
struct Places<'a> {
    nodes: &'a Nodes,
    texts: &'a BTreeMap<String, String>,
    lines: HashMap<&'a str, Lines<'a>>,
}

impl<'a> Places<'a> {
    fn new(nodes: &'a Nodes, texts: &'a BTreeMap<String, String>) -> Self {
        Self { nodes, texts, lines: HashMap::new() }
    }

    /// The place of what a mode requires, or the request.
    fn place(&mut self, by: Option<&str>, at: usize) -> String {
        let Some(by) = by else { return "MODES".to_owned() };
        let path = self.nodes.get(by).map(|it| it.path.clone()).unwrap_or_default();
        match self.texts.get_key_value(by) {
            Some((name, text)) => {
                let lines = self.lines.entry(name).or_insert_with(|| Lines::of(text));
                format!("{}:{}", path.join("deps").display(), lines.line(at))
            }
            None => path.display().to_string(),
        }
    }
}

impl Project {
    /// Resolves MODES and reads each mode. `args` are recorded in the env file.
    pub(super) fn find(settings: &Settings, modes: &str, args: &[OsString]) -> Result<Self, Wrong> {
        let resolved = resolve(settings, modes)?;
        let mut wrong = Vec::new();
        let mut warnings = Vec::new();
        let mut all = Vec::new();
        let mut env_modes = Vec::new();
        for name in &resolved.found.order {
            let path = resolved.nodes.get(name).map(|it| it.path.clone()).unwrap_or_default();
            let mut mode = Mode { name: name.clone(), path, compose_file: None, files: Vec::new() };
            let mut env_files = Vec::new();
            // A mode from a JSON file has no directory.
            if mode.path.is_dir() {
                match mode.look(&mut warnings) {
                    Ok(it) => env_files = it,
                    Err(bad) => wrong.extend(bad),
                }
            }
            let inputs = env_files.iter().map(|it| PathBuf::from(&it.path)).chain(mode.compose_file.clone());
            let target = Path::new(&settings.env_file).canonicalize().ok();
            for it in inputs.chain([mode.path.join("deps")]) {
                if target.is_some() && it.canonicalize().ok() == target {
                    wrong.push(format!(
                        "ENV_FILE `{}` is a file of mode {name}, which would be overwritten: choose another --env-file",
                        settings.env_file
                    ));
                }
            }
            env_modes.push(EnvMode { name: name.clone(), path: shown(&mode.path), files: env_files });
            all.push(mode);
        }
        // A dry run shows what the real run would write.
        let args = args.iter().filter(|it| !settings.dry_run || (*it != "-n" && *it != "--dry-run"));
        let command = args.map(|it| it.to_string_lossy().into_owned()).collect();
        let env = ProjectEnv {
            command: (!is_on("MDC_NO_CMDLINE")).then_some(command),
            modes: env_modes,
            compose_files: all.iter().filter_map(|it| it.compose_file.as_deref()).map(shown).collect(),
            dir: compose_dir(&settings.env_file).map_err(|it| vec![it])?,
            as_reference: settings.as_reference,
        };
        let sources = read_compose_files(&all, &mut wrong);
        match env.write() {
            Ok(written) => {
                check_env(&written, &mut wrong, &mut warnings);
                if wrong.is_empty() {
                    settings.warn(&warnings)?;
                    return Ok(Self { modes: all, written, sources });
                }
            }
            Err(bad) => wrong.extend(bad),
        }
        Err(wrong)
    }

    /// The mode of a place in a compose file (`FILE:LINE:COL`).
    pub(super) fn mode_of(&self, place: &str) -> Option<&str> {
        let file = place.rsplitn(3, ':').nth(2)?;
        let is_in = |it: &&Mode| it.compose_file.as_deref().is_some_and(|it| shown(it) == file);
        self.modes.iter().find(is_in).map(|it| it.name.as_str())
    }

    /// The compose files, in order.
    pub(super) fn compose_files(&self) -> Vec<FileId> {
        self.sources.ids().collect()
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.modes.iter().map(|it| it.name.as_str()).collect()
    }
}

impl Mode {
    /// Finds the compose file and the directories `files`, and reads the env files.
    fn look(&mut self, warnings: &mut Vec<String>) -> Result<Vec<EnvFile>, Wrong> {
        let mut wrong = Vec::new();
        let mut env_files = Vec::new();
        let mut compose_files = COMPOSE_FILES.map(|it| self.path.join(it)).into_iter();
        self.compose_file = compose_files.find(|it| it.metadata().is_ok());
        for path in ENV_FILES.map(|it| self.path.join(it)) {
            match path.metadata() {
                Ok(it) if it.is_file() => match input::read(&path) {
                    Ok(content) if content.contains(&0) => {
                        wrong.push(format!("{}: expected variables, found a binary file", shown(&path)));
                    }
                    Ok(content) => {
                        wrong.extend(env_mistakes(&shown(&path), &content));
                        env_files.push(EnvFile { path: shown(&path), content });
                    }
                    Err(error) => wrong.push(format!("{}: {error}", shown(&path))),
                },
                Ok(_) => warnings.push(format!("{} is not a file and is ignored", shown(&path))),
                Err(_) => {}
            }
        }
        match services(&self.path) {
            Ok(names) => {
                for name in names {
                    let files = self.path.join(&name).join("files");
                    match files.metadata() {
                        Ok(it) if it.is_dir() => self.files.push((name, files)),
                        Ok(_) => {
                            warnings.push(format!("{} is not a directory and is not copied", shown(&files)))
                        }
                        // A service without files, or a link to a file.
                        Err(it) if matches!(it.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                        Err(error) => wrong.push(format!("{}: {error}", shown(&files))),
                    }
                }
            }
            Err(error) => wrong.push(format!("{}: {error}", shown(&self.path))),
        }
        if wrong.is_empty() { Ok(env_files) } else { Err(wrong) }
    }
}

/// The subdirectories of a mode, in order.
fn services(mode: &Path) -> std::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(mode)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() || kind.is_symlink() {
            names.push(entry.file_name());
        }
    }
    names.sort();
    Ok(names)
}

/// A path as text. Invalid UTF-8 is replaced; compose cannot find such a path either.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Adds a path to an error.
pub(super) fn at(path: &Path) -> impl Fn(std::io::Error) -> std::io::Error {
    |it| std::io::Error::new(it.kind(), format!("{}: {it}", shown(path)))
}

/// The absolute directory of the env file. Without a directory in its path, the working directory followed by `/.`.
fn compose_dir(env_file: &str) -> Result<String, String> {
    let folder = match Path::new(env_file).parent().and_then(Path::to_str) {
        None | Some("") => ".",
        Some(it) => it,
    };
    if folder.starts_with('/') {
        return Ok(folder.to_owned());
    }
    let cwd = working_dir().map_err(|it| format!("find the working directory: {it}"))?;
    Ok(format!("{}/{}", shown(&cwd).trim_end_matches('/'), folder.strip_prefix("./").unwrap_or(folder)))
}

/// The working directory by the shell's name for it, if that is right.
fn working_dir() -> std::io::Result<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let cwd = std::env::current_dir()?;
    let named = std::env::var_os("PWD").map(PathBuf::from).filter(|it| it.is_absolute());
    let same = |it: &PathBuf| {
        let ids = |it: &Path| it.metadata().ok().map(|it| (it.dev(), it.ino()));
        ids(it).is_some() && ids(it) == ids(&cwd)
    };
    Ok(named.filter(same).unwrap_or(cwd))
}

/// The errors that compose would find in a mode's env file.
fn env_mistakes(path: &str, content: &[u8]) -> Wrong {
    let text = String::from_utf8_lossy(content);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let (_, bad) = parse(&format!("{text}\n"));
    complaints(path, text, &bad)
}

/// The errors that compose would find in the whole env file, each with its origin, and warnings about variables of mdc.
fn check_env(written: &Written, wrong: &mut Wrong, warnings: &mut Vec<String>) {
    // An error in one file would be reported for the following files too.
    if !wrong.is_empty() {
        return;
    }
    let text = String::from_utf8_lossy(&written.bytes);
    let (statements, _) = parse(&text);
    // Whether a variable is set depends on the environment of compose.
    let (_, found) = evaluate(&statements, &environment());
    for BadValue { line, message, help, .. } in found.bad.iter().filter(|it| !it.unset) {
        let help = help.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        let place = written.origin(*line).map(|(path, line)| format!("{path}:{line}: "));
        wrong.push(format!("{}{message}{help}", place.unwrap_or_default()));
    }
    let lines = Lines::of(&text);
    for it in found.unset {
        let (line, col) = lines.line_col(it.at.start);
        let place = written.origin(line).map(|(path, line)| format!("{path}:{line}:{col}: "));
        warnings.push(format!("{}{}", place.unwrap_or_default(), told(&it.warning(), &Sources::default())));
    }
    let ours: BTreeSet<&str> = ["COMPOSE_FILE", "COMPOSE_DIR", "COMPOSE_PROFILES", "MDC_MODE_DIRS"].into();
    for it in statements.iter().filter(|it| ours.contains(it.name.as_str())) {
        if let Some((path, line)) = written.origin(it.line) {
            warnings.push(format!("{path}:{line}: {} is overridden by mdc", it.name));
        }
    }
}

/// Reads the compose files and checks their syntax.
fn read_compose_files(modes: &[Mode], wrong: &mut Wrong) -> Sources {
    let mut sources = Sources::default();
    for path in modes.iter().filter_map(|it| it.compose_file.as_deref()) {
        match input::read(path) {
            Ok(bytes) => drop(sources.add(shown(path), bytes)),
            Err(error) => wrong.push(format!("{}: {error}", shown(path))),
        }
    }
    let mut diagnostics = Vec::new();
    sources.ids().for_each(|it| drop(documents(&sources, it, &mut diagnostics)));
    let errors = diagnostics.iter().filter(|it| it.severity == Severity::Error);
    wrong.extend(errors.map(|it| told(it, &sources)));
    sources
}

/// A diagnostic on one line.
pub(super) fn told(diagnostic: &Diagnostic, sources: &Sources) -> String {
    let place = diagnostic.span.map(|it| format!("{}: ", sources.place(it))).unwrap_or_default();
    let help = diagnostic.help.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
    format!("{place}{}{help}", diagnostic.message)
}

/// All modes, for requests without MODES.
pub(super) fn whole(nodes: &Nodes) -> Result<Reach, Wrong> {
    let request: Vec<Dep> =
        nodes.names().map(|it| Dep { wants: Wants::Node(it.to_owned()), at: 0..0 }).collect();
    nodes.reach(&request)
}
