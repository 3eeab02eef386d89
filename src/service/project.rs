//! What a project is before its compose files are read: which files, in which folder, with which variables; its name.

use std::io;
use std::path::{Component, Path, PathBuf};

use crate::config::{Diagnostic, Env, FileId, Sources, Span, documents, expand};
use crate::env_file;

/// The files that compose looks for, the first that is there; of the folder itself, else of the next above that has one.
const FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// The file that goes over it, the first that is there.
const OVERRIDES: [&str; 4] = [
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// The files of a project and what they are read with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Absolute, in the order of merging.
    pub files: Vec<PathBuf>,
    /// The folder of the first file, absolute: what relative paths in all of them are relative to.
    pub dir: PathBuf,
    /// The caller's environment, with what the project's `.env` adds.
    pub env: Env,
    /// Of several files with a name to look for, which one it is.
    pub warnings: Vec<String>,
}

/// What looks at the files of the machine.
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
    /// The project that compose would take in the folder `cwd` (absolute): the files that are `given`, else those of
    /// COMPOSE_FILE, which `.env` may set, else the ones of the usual names. An error is all that is wrong.
    pub fn locate(given: &[PathBuf], own: &Env, cwd: &Path, look: Files<'_>) -> Result<Self, Vec<String>> {
        let mut env = own.clone();
        let mut wrong = Vec::new();
        if given.is_empty() {
            read_env(&mut env, cwd, cwd, look, &mut wrong);
        }
        let mut warnings = Vec::new();
        let mut files: Vec<PathBuf> = given.to_vec();
        if files.is_empty() {
            files = named_by(&env);
        }
        if files.is_empty() {
            files = usual(cwd, look.exists, &mut warnings);
        }
        let files: Vec<PathBuf> = files.iter().map(|it| cleaned(&cwd.join(it))).collect();
        let Some(dir) = files.first().and_then(|it| it.parent()).map(Path::to_owned) else {
            wrong.push(format!("no {} is in {}, or in a folder above it", FILES.join(", "), cwd.display()));
            return Err(wrong);
        };
        if !given.is_empty() || dir != cwd {
            read_env(&mut env, &dir, cwd, look, &mut wrong);
        }
        if wrong.is_empty() { Ok(Self { files, dir, env, warnings }) } else { Err(wrong) }
    }

    /// What the project goes by: COMPOSE_PROJECT_NAME, else `name` in the last file that has it, else its folder's
    /// name. The files see it as COMPOSE_PROJECT_NAME, which is for the caller to put into `env`.
    pub fn name(&self, sources: &Sources, files: &[FileId]) -> Result<String, Diagnostic> {
        const HELP: &str = "a name is of `a` to `z`, digits, `-` and `_`, and begins with a letter or digit";
        if let Some(name) = self.env.get("COMPOSE_PROJECT_NAME").filter(|it| !it.is_empty()) {
            if is_project_name(name) {
                return Ok(name.clone());
            }
            let bad = Diagnostic::nowhere(format!("COMPOSE_PROJECT_NAME cannot be `{name}`"));
            return Err(bad.help(HELP));
        }
        // What is wrong with the files is told where they are read for what they say.
        let documents = files.iter().flat_map(|it| documents(sources, *it, &mut Vec::new()));
        let named = documents.filter_map(|it| {
            let node = it.get("name")?;
            let text = crate::config::merge_text(node).filter(|it| !it.is_empty())?;
            Some((expand(&text, &self.env).ok()?, node.span))
        });
        // Of several the last.
        if let Some((name, span)) = named.reduce(|_, it| it) {
            return Some(normalized(&name)).filter(|it| !it.is_empty()).ok_or_else(|| {
                Diagnostic::new(span, format!("`{name}` leaves no name of a project")).help(HELP)
            });
        }
        let folder = self.dir.file_name().unwrap_or_default().to_string_lossy();
        Some(normalized(&folder)).filter(|it| !it.is_empty()).ok_or_else(|| {
            let bad = format!("the folder {} gives the project no name", self.dir.display());
            Diagnostic::nowhere(bad).help("set COMPOSE_PROJECT_NAME, or `name` in a compose file")
        })
    }
}

/// Good for the name of a project, as it is.
pub fn is_project_name(name: &str) -> bool {
    !name.is_empty() && normalized(name) == name
}

/// What compose makes of a name: small letters of ASCII, digits, `-` and `_`, of which a letter or digit comes first.
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

/// The files of the usual names.
fn usual(cwd: &Path, exists: &dyn Fn(&Path) -> bool, warnings: &mut Vec<String>) -> Vec<PathBuf> {
    let mut first = |dir: &Path, names: &[&str]| {
        let there: Vec<PathBuf> = names.iter().map(|it| dir.join(it)).filter(|it| exists(it)).collect();
        if let [taken, others @ ..] = there.as_slice()
            && !others.is_empty()
        {
            let others: Vec<String> = others.iter().map(|it| it.display().to_string()).collect();
            warnings.push(format!("{} is taken, not {}", taken.display(), others.join(", ")));
        }
        there.into_iter().next()
    };
    let Some((dir, file)) = cwd.ancestors().find_map(|dir| Some((dir, first(dir, &FILES)?))) else {
        return Vec::new();
    };
    let over = first(dir, &OVERRIDES);
    [file].into_iter().chain(over).collect()
}

/// Adds what `.env` of a folder says, or the files of COMPOSE_ENV_FILES; what is there already goes first.
fn read_env(env: &mut Env, dir: &Path, cwd: &Path, look: Files<'_>, wrong: &mut Vec<String>) {
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
        let (values, bad) = read_env_file(&shown, &text, env, &added);
        wrong.extend(bad.into_iter().map(|it| match it.help {
            Some(help) => format!("{} ({help})", it.message),
            None => it.message,
        }));
        added.extend(values);
    }
    for (name, value) in added {
        env.entry(name).or_insert(value);
    }
}

/// What the statements of an env file give, and what is wrong with them, with the place in the message. Values refer
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
    let (values, mistakes) = env_file::values(&statements, scope, earlier);
    for it in mistakes {
        bad(format!("{name}:{}", it.line), it.message, it.help);
    }
    (values, wrong)
}

/// The absolute path that a path of a compose file is, without `.` and `..`. `~` is HOME, whatever follows it.
pub(super) fn absolute(dir: &Path, path: &str, env: &Env) -> PathBuf {
    match (path.strip_prefix('~'), env.get("HOME")) {
        (Some(rest), Some(home)) => cleaned(&Path::new(home).join(rest.trim_start_matches('/'))),
        _ => cleaned(&dir.join(path)),
    }
}

/// The path by its text alone: compose does not ask what is a link.
pub(super) fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(clean.pop()),
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => clean.push(part),
        }
    }
    clean
}
