//! The environment of a service: env files, then `environment`.

use crate::config::{Env, Node, Span};
use crate::env_file;
use crate::service::project::absolute;
use crate::service::value::Reader;

impl Reader<'_> {
    /// What `env_file` and `environment` give.
    pub(super) fn environment(&mut self, service: &Node) -> Vec<(String, String)> {
        let given = service.get("environment").map(|it| self.pairs(it)).unwrap_or_default();
        let env = self.context.env;
        let own: Vec<(String, Option<String>)> = given
            .into_iter()
            .map(|(name, value, _)| (name.clone(), value.or_else(|| env.get(&name).cloned())))
            .collect();
        // What the values of env files may refer to: the project's environment goes first.
        let mut scope: Env =
            own.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
        scope.extend(env.clone());
        let mut all = Vec::new();
        for entry in service.get("env_file").map(|it| self.list(it)).unwrap_or_default() {
            for (name, value) in self.env_file(entry, &scope) {
                put(&mut all, name, value);
            }
        }
        for (name, value) in own {
            match value {
                Some(value) => put(&mut all, name, value),
                // It stands for a value that is not there.
                None => all.retain(|(it, _)| *it != name),
            }
        }
        all
    }

    fn env_file(&mut self, entry: &Node, scope: &Env) -> Vec<(String, String)> {
        let Some(path) = entry.get("path").and_then(|it| self.some_text(it)) else { return Vec::new() };
        let required = entry.get("required").and_then(|it| self.boolean(it)).unwrap_or(true);
        let format = entry.get("format").and_then(|it| self.some_text(it));
        let path = absolute(self.context.dir, &path, self.context.env);
        let text = match (self.context.read)(&path) {
            Ok(it) => it,
            Err(error) => {
                if required || error.kind() != std::io::ErrorKind::NotFound {
                    let message = format!("env file {} cannot be read: {error}", path.display());
                    self.error(entry.span, message, "`required: false` leaves out one that is not there");
                }
                return Vec::new();
            }
        };
        match format.as_deref() {
            None => self.statements(entry.span, &path.display().to_string(), &text, scope),
            Some("raw") => raw(&text, scope),
            Some(other) => {
                let span = entry.get("format").map_or(entry.span, |it| it.span);
                self.error(
                    span,
                    format!("`{other}` is no format of an env file"),
                    "there is `raw`; leave it out for the usual one",
                );
                Vec::new()
            }
        }
    }

    fn statements(&mut self, span: Span, path: &str, text: &str, scope: &Env) -> Vec<(String, String)> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (statements, bad) = env_file::parse(text);
        for it in bad {
            let before = text.get(..it.at.start).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let col = before.rsplit('\n').next().map_or(0, |it| it.chars().count()) + 1;
            let message = format!("{path}:{line}:{col}: {}", it.message);
            self.error(span, message, it.help.unwrap_or_default());
        }
        let (values, bad) = env_file::values(&statements, scope);
        for it in bad {
            self.error(span, format!("{path}:{}: {}", it.line, it.message), it.help.unwrap_or_default());
        }
        values
    }
}

/// Lines of `NAME=VALUE` that stay as they are, as `docker run --env-file` reads them.
fn raw(text: &str, scope: &Env) -> Vec<(String, String)> {
    let mut values = Vec::new();
    for line in text.lines().map(str::trim_start).filter(|it| !it.is_empty() && !it.starts_with('#')) {
        match line.split_once('=') {
            Some((name, value)) => values.push((name.to_owned(), value.to_owned())),
            None => values.extend(scope.get(line.trim()).map(|it| (line.trim().to_owned(), it.clone()))),
        }
    }
    values
}

fn put(all: &mut Vec<(String, String)>, name: String, value: String) {
    match all.iter_mut().find(|(it, _)| *it == name) {
        Some((_, earlier)) => *earlier = value,
        None => all.push((name, value)),
    }
}
