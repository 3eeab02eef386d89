//! Jinja templates, with environment variables as template variables.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::Read;
use std::path::{Component, Path};
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};

use crate::tools::copy::folder::{Root, open_file};

/// Renders the templates of a tree.
#[derive(Debug)]
pub(super) struct Jinja {
    environment: Environment<'static>,
    variables: Value,
}

impl Jinja {
    /// Templates may include others by their path in `src`.
    pub(super) fn new(
        src: Arc<Root>,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build()?);
        // By default, values are escaped in `.html` files.
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_debug(true);
        environment.set_loader(move |name| load(&src, name));
        let variables: BTreeMap<String, Value> =
            variables.map(|(name, value)| (name, value.into())).collect();
        Ok(Self { environment, variables: variables.into() })
    }

    /// Renders the text of a file; `name` is its path in the tree.
    pub(super) fn render(&self, name: &str, text: &str) -> Result<String, Wrong> {
        self.environment
            .render_named_str(name, text, self.variables.clone())
            .map_err(|error| explain(&error, name, text))
    }
}

/// An error in a template.
#[derive(Debug)]
pub(super) struct Wrong {
    /// The path of the file, which may be an included one.
    pub(super) file: String,
    /// From 1; columns count characters.
    pub(super) line: usize,
    pub(super) col: usize,
    pub(super) what: String,
}

/// The error with its place, which may be in an included file.
fn explain(error: &Error, name: &str, text: &str) -> Wrong {
    let mut deepest = error;
    while let Some(cause) = deepest.source().and_then(|it| it.downcast_ref::<Error>()) {
        deepest = cause;
    }
    // An error without a place, such as a missing include, has the place of the error around it.
    let placed = if deepest.line().is_some() { deepest } else { error };
    let file = placed.name().unwrap_or(name).to_owned();
    let source = placed.template_source().unwrap_or(text);
    let range = placed.range().unwrap_or(0..0);
    let at = source.get(..range.start).unwrap_or_default();
    let line = placed.line().unwrap_or(1);
    let col = at.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let what = match deepest.detail() {
        Some(detail) => format!("{}: {detail}", deepest.kind()),
        None => deepest.kind().to_string(),
    };
    let words =
        source.get(range).filter(|it| deepest.detail().is_none() && !it.is_empty() && !it.contains('\n'));
    let what = words.map_or(what.clone(), |words| format!("{what}: `{words}`"));
    Wrong { file, line, col, what }
}

/// The file with this path in the tree.
fn load(src: &Root, name: &str) -> Result<Option<String>, Error> {
    let bad = |what: String| Error::new(ErrorKind::InvalidOperation, what);
    let path = Path::new(name);
    if path.components().any(|it| !matches!(it, Component::Normal(_))) {
        return Err(bad(format!("`{name}` is not a path in the tree")));
    }
    let (Some(folder), Some(file)) = (path.parent(), path.file_name()) else { return Ok(None) };
    let opened = src.folder(folder).and_then(|it| open_file(it, file));
    let mut text = String::new();
    match opened.and_then(|mut it| it.read_to_string(&mut text)) {
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(bad(format!("read `{name}`: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn templates_render_and_mistakes_are_placed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/part"), "<{{ A }}>").unwrap();
        fs::write(dir.path().join("d/bad"), "x\n {{ NOPE }}").unwrap();
        fs::write(dir.path().join("binary"), b"\xff").unwrap();
        let root = Arc::new(Root::open(dir.path()).unwrap());
        let variables = [("A", "1"), ("HTML", "<&>")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let jinja = Jinja::new(root, variables.into_iter()).unwrap();
        let render = |text: &str| match jinja.render("x.html", text) {
            Ok(it) => it,
            Err(Wrong { file, line, col, what }) => format!("error: {file}:{line}:{col}: {what}"),
        };
        for (text, expected) in [
            ("{{ A }} {{A}} {{ HTML }}\n", "1 1 <&>\n"),
            ("{{ B | default('b') }}{% for it in [1, 2] %}{{ it }}{% endfor %}", "b12"),
            ("{% if B is defined %}yes{% else %}no{% endif %}\n\n", "no\n\n"),
            ("{% include 'd/part' %}", "<1>"),
            ("{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(A) }}", "[1]"),
            ("a\nb {{ NOPE }}", "error: x.html:2:6: undefined value: `NOPE` is undefined"),
            (
                "ä {{ A",
                "error: x.html:1:6: syntax error: unexpected end of input, expected end of variable block",
            ),
            ("{% include 'd/bad' %}", "error: d/bad:2:5: undefined value: `NOPE` is undefined"),
        ] {
            assert_eq!(render(text), expected, "{text}");
        }
        for text in [
            "{% include '../x' %}",
            "{% include '/etc/passwd' %}",
            "{% include 'none' %}",
            "{% include 'binary' %}",
        ] {
            let error = render(text);
            assert!(error.starts_with("error: x.html:1:"), "{error}");
        }
    }
}
