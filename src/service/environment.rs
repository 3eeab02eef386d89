//! The environment of a service: env files, then `environment`.

use std::io::ErrorKind;

use crate::config::{Diagnostic, Env, Node, Severity};
use crate::service::LAB;
use crate::service::project::{absolute, read_env_file};
use crate::service::value::Reader;

impl Reader<'_> {
    /// The variables of `env_file` and `environment`.
    pub(super) fn environment(&mut self, service: &Node) -> Vec<(String, String)> {
        let given = service.get("environment").map(|it| self.pairs(it)).unwrap_or_default();
        let env = self.context.env;
        let own: Vec<(String, Option<String>)> = given
            .into_iter()
            .map(|(name, value, _)| (name.clone(), value.or_else(|| env.get(&name).cloned())))
            .collect();
        // Values of env files may refer to these; the project's environment comes first.
        let mut scope: Env =
            own.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
        scope.extend(env.clone());
        let mut all = Vec::new();
        let mut earlier = Env::new();
        for entry in service.get("env_file").map(|it| self.list(it)).unwrap_or_default() {
            for (name, value) in self.env_file(entry, &scope, &earlier) {
                earlier.insert(name.clone(), value.clone());
                put(&mut all, name, value);
            }
        }
        for (name, value) in own {
            match value {
                Some(value) => put(&mut all, name, value),
                // The variable has no value.
                None => all.retain(|(it, _)| *it != name),
            }
        }
        all
    }

    fn env_file(&mut self, entry: &Node, scope: &Env, earlier: &Env) -> Vec<(String, String)> {
        let Some(path) = entry.get("path").and_then(|it| self.some_text(it)) else { return Vec::new() };
        let required = entry.get("required").and_then(|it| self.boolean(it)).unwrap_or(true);
        let format = entry.get("format").and_then(|it| self.some_text(it));
        let path = absolute(self.context.dir, &path, self.context.env);
        let text = match (self.context.read)(&path) {
            Ok(it) => it,
            Err(error) => {
                let is_missing = error.kind() == ErrorKind::NotFound;
                if required || !is_missing {
                    let message = format!("read env file {}: {error}", path.display());
                    let mut bad = Diagnostic::new(entry.span, message).code(LAB);
                    bad.help = is_missing.then(|| "`required: false` ignores a missing file".into());
                    self.diagnostics.push(bad);
                }
                return Vec::new();
            }
        };
        let name = path.display().to_string();
        let (values, wrong) = match format.as_deref() {
            None => read_env_file(&name, &text, scope, earlier),
            Some("raw") => raw(&name, &text, scope),
            Some(other) => {
                let span = entry.get("format").map_or(entry.span, |it| it.span);
                let message = format!("unknown env file format `{other}`");
                self.error(span, message, "expected `raw`, or no `format`");
                return Vec::new();
            }
        };
        // Several services may have the same file.
        let told = |it: &Diagnostic| self.diagnostics.iter().any(|told| told.message == it.message);
        let new: Vec<Diagnostic> =
            wrong.into_iter().filter(|it| it.severity == Severity::Error || !told(it)).collect();
        self.diagnostics.extend(new.into_iter().map(|it| Diagnostic { span: Some(entry.span), ..it }));
        values
    }
}

/// Reads lines of `NAME=VALUE` without quotes or variables, as `docker run --env-file` does. Errors as for
/// [`read_env_file`].
fn raw(path: &str, text: &str, scope: &Env) -> (Vec<(String, String)>, Vec<Diagnostic>) {
    let mut values = Vec::new();
    let mut wrong = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value)));
        if name.is_empty() || name.contains(char::is_whitespace) {
            let message = format!("{path}:{number}: invalid variable name `{name}`");
            wrong.push(Diagnostic::nowhere(message).help("expected `NAME=value` or a comment after `#`"));
        } else if let Some(value) = value.or_else(|| scope.get(name).map(String::as_str)) {
            values.push((name.to_owned(), value.to_owned()));
        }
    }
    (values, wrong)
}

fn put(all: &mut Vec<(String, String)>, name: String, value: String) {
    match all.iter_mut().find(|(it, _)| *it == name) {
        Some((_, earlier)) => *earlier = value,
        None => all.push((name, value)),
    }
}
