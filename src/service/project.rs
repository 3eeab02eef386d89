//! Finds a project: its compose files, its folder, its variables and its name.

use std::io;
use std::path::{Path, PathBuf};

use crate::compose::cleaned;
use crate::config::{Diagnostic, Env, FileId, PROJECT_NAME, Severity, Sources, Span, documents, expand};
use crate::env_file;

/// The names of compose files, in the order of preference, in a folder or the nearest one above.
const FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// The names of override files, in the order of preference.
const OVERRIDES: [&str; 4] = [
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// The files of a project and its variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Absolute, in the order of merging.
    pub files: Vec<PathBuf>,
    /// The folder of the first file, absolute. Relative paths in all files start from it.
    pub dir: PathBuf,
    /// The caller's environment and the variables of the project's `.env`.
    pub env: Env,
    /// Which one of several default files is used.
    pub warnings: Vec<String>,
}

/// Access to files.
#[derive(Clone, Copy)]
pub struct Files<'a> {
    pub exists: &'a dyn Fn(&Path) -> bool,
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

impl std::fmt::Debug for Files<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Files")
    }
}

impl Project {
    /// The project that compose would use in the folder `cwd` (absolute): the files `given`, otherwise those of
    /// COMPOSE_FILE, which `.env` may set, otherwise those with default names. An error has all mistakes.
    pub fn locate(given: &[PathBuf], own: &Env, cwd: &Path, look: Files<'_>) -> Result<Self, Vec<String>> {
        let mut env = own.clone();
        let (mut wrong, mut warnings) = (Vec::new(), Vec::new());
        if given.is_empty() {
            read_env(&mut env, cwd, cwd, look, &mut wrong, &mut warnings);
        }
        let mut files: Vec<PathBuf> = given.to_vec();
        if files.is_empty() {
            files = named_by(&env);
        }
        if files.is_empty() {
            files = usual(cwd, look.exists, &mut warnings);
        }
        let files: Vec<PathBuf> = files.iter().map(|it| cleaned(&cwd.join(it))).collect();
        let Some(dir) = files.first().and_then(|it| it.parent()).map(Path::to_owned) else {
            wrong.push(format!(
                "no compose file in {} or a folder above it: expected {}",
                cwd.display(),
                FILES.join(", ")
            ));
            return Err(wrong);
        };
        if !given.is_empty() || dir != cwd {
            read_env(&mut env, &dir, cwd, look, &mut wrong, &mut warnings);
        }
        if wrong.is_empty() { Ok(Self { files, dir, env, warnings }) } else { Err(wrong) }
    }

    /// The project's name: COMPOSE_PROJECT_NAME, otherwise `name` in the last file that has it, otherwise its folder's
    /// name. The caller puts it into `env` as COMPOSE_PROJECT_NAME, for the files.
    pub fn name(&self, sources: &Sources, files: &[FileId]) -> Result<String, Diagnostic> {
        const HELP: &str = "expected `a` to `z`, digits, `-` and `_`, with a letter or digit at the start";
        if let Some(name) = self.env.get(PROJECT_NAME).filter(|it| !it.is_empty()) {
            if is_project_name(name) {
                return Ok(name.clone());
            }
            let bad = Diagnostic::nowhere(format!("invalid project name `{name}` in COMPOSE_PROJECT_NAME"));
            return Err(bad.help(HELP));
        }
        // Mistakes in the files are reported when they are read as a whole.
        let documents = files.iter().flat_map(|it| documents(sources, *it, &mut Vec::new()));
        let named = documents.filter_map(|it| {
            let node = it.get("name")?;
            let text = crate::config::merge_text(node).filter(|it| !it.is_empty())?;
            Some((expand(&text, &self.env, &mut Vec::new()).ok()?, node.span))
        });
        // The last one counts.
        if let Some((name, span)) = named.reduce(|_, it| it) {
            return Some(normalized(&name))
                .filter(|it| !it.is_empty())
                .ok_or_else(|| Diagnostic::new(span, format!("invalid project name `{name}`")).help(HELP));
        }
        let folder = self.dir.file_name().unwrap_or_default().to_string_lossy();
        Some(normalized(&folder)).filter(|it| !it.is_empty()).ok_or_else(|| {
            let bad = format!("the name of folder {} is not usable as a project name", self.dir.display());
            Diagnostic::nowhere(bad).help("set COMPOSE_PROJECT_NAME, or `name` in a compose file")
        })
    }
}

/// Whether it is a valid project name.
pub fn is_project_name(name: &str) -> bool {
    !name.is_empty() && normalized(name) == name
}

/// Normalizes a name as compose does: lower-case ASCII letters, digits, `-` and `_`, with a letter or digit first.
fn normalized(name: &str) -> String {
    let small = name.to_lowercase();
    let kept =
        small.chars().filter(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || "_-".contains(*it));
    kept.collect::<String>().trim_start_matches(['_', '-']).to_owned()
}

/// The files that COMPOSE_FILE lists.
fn named_by(env: &Env) -> Vec<PathBuf> {
    let get = |name| env.get(name).map(String::as_str).filter(|it| !it.is_empty());
    let separator = get("COMPOSE_PATH_SEPARATOR").unwrap_or(":");
    let list = get("COMPOSE_FILE").unwrap_or_default();
    list.split(separator).filter(|it| !it.is_empty()).map(PathBuf::from).collect()
}

/// The files with default names.
fn usual(cwd: &Path, exists: &dyn Fn(&Path) -> bool, warnings: &mut Vec<String>) -> Vec<PathBuf> {
    let mut first = |dir: &Path, names: &[&str]| {
        let there: Vec<PathBuf> = names.iter().map(|it| dir.join(it)).filter(|it| exists(it)).collect();
        if let [taken, others @ ..] = there.as_slice()
            && !others.is_empty()
        {
            let others: Vec<String> = others.iter().map(|it| it.display().to_string()).collect();
            warnings.push(format!("using {}, not {}", taken.display(), others.join(", ")));
        }
        there.into_iter().next()
    };
    let Some((dir, file)) = cwd.ancestors().find_map(|dir| Some((dir, first(dir, &FILES)?))) else {
        return Vec::new();
    };
    let over = first(dir, &OVERRIDES);
    [file].into_iter().chain(over).collect()
}

/// Adds the variables of a folder's `.env`, or of the files in COMPOSE_ENV_FILES; existing variables take precedence.
fn read_env(
    env: &mut Env,
    dir: &Path,
    cwd: &Path,
    look: Files<'_>,
    wrong: &mut Vec<String>,
    warnings: &mut Vec<String>,
) {
    let get = |name| env.get(name).map(String::as_str).filter(|it| !it.is_empty());
    let is_off =
        get("COMPOSE_DISABLE_ENV_FILE").is_some_and(|it| it == "1" || it.eq_ignore_ascii_case("true"));
    let listed: Vec<PathBuf> = get("COMPOSE_ENV_FILES")
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|it| !it.is_empty())
        .map(|it| cleaned(&cwd.join(it)))
        .collect();
    let default = dir.join(".env");
    let paths = match listed.is_empty() {
        true if is_off || !(look.exists)(&default) => Vec::new(),
        true => vec![default],
        false => listed,
    };
    let mut added = Env::new();
    for path in paths {
        let shown = path.display().to_string();
        let text = match (look.read)(&path) {
            Ok(it) => it,
            Err(error) => {
                wrong.push(format!("{shown}: {error}"));
                continue;
            }
        };
        let (values, found) = read_env_file(&shown, &text, env, &added);
        for it in found {
            let help = it.help.map(|it| format!(" ({it})")).unwrap_or_default();
            let is_error = it.severity == Severity::Error;
            if is_error { &mut *wrong } else { &mut *warnings }.push(format!("{}{help}", it.message));
        }
        added.extend(values);
    }
    for (name, value) in added {
        env.entry(name).or_insert(value);
    }
}

/// The variables of an env file, its mistakes and warnings, with their places in the messages. Values may refer
/// to `scope`, to what comes before in the file, then to `earlier`.
pub(super) fn read_env_file(
    name: &str,
    text: &str,
    scope: &Env,
    earlier: &Env,
) -> (Vec<(String, String)>, Vec<Diagnostic>) {
    let mut sources = Sources::default();
    let file = sources.add(name, text);
    let mut wrong = Vec::new();
    let mut bad = |place: String, message: String, help: Option<String>| {
        let mut bad = Diagnostic::nowhere(format!("{place}: {message}"));
        bad.help = help.map(Into::into);
        wrong.push(bad);
    };
    let (statements, mistakes) = env_file::parse(sources.text(file));
    for it in mistakes {
        bad(sources.place(Span { file, start: it.at.start, end: it.at.end }), it.message, it.help);
    }
    let (values, found) = env_file::values(&statements, scope, earlier);
    for it in found.bad {
        bad(format!("{name}:{}", it.line), it.message, it.help);
    }
    wrong.extend(found.unset.into_iter().map(|it| {
        let warning = it.warning();
        let place = sources.place(Span { file, start: it.at.start, end: it.at.end });
        Diagnostic { message: format!("{place}: {}", warning.message), ..warning }
    }));
    (values, wrong)
}

/// The absolute path of a path in a compose file, without `.` and `..`. A leading `~` is HOME.
pub(super) fn absolute(dir: &Path, path: &str, env: &Env) -> PathBuf {
    match (path.strip_prefix('~'), env.get("HOME")) {
        (Some(rest), Some(home)) => cleaned(&Path::new(home).join(rest.trim_start_matches('/'))),
        _ => cleaned(&dir.join(path)),
    }
}
