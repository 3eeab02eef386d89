//! Jinja templates, with environment variables as template variables.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Component, Path};
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};

use crate::tools::copy::folder::{Root, open_file};

/// The largest rendered file in bytes.
const MAX_OUTPUT: usize = 256 << 20;

/// The longest run of a template, in instructions of the template engine: some seconds.
const MAX_STEPS: u64 = 100_000_000;

/// The longest chain of words and operators without a comma, and most `elif` of a template: the compiler recurses
/// for each of them.
const MAX_CHAIN: usize = 4000;

/// The stack for a template, in bytes; only what is used takes memory.
const STACK: usize = 64 << 20;

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
        environment.set_fuel(Some(MAX_STEPS));
        environment.set_loader(move |name| load(&src, name));
        let variables: BTreeMap<String, Value> =
            variables.map(|(name, value)| (name, value.into())).collect();
        Ok(Self { environment, variables: variables.into() })
    }

    /// Renders the text of a file; `name` is its path in the tree.
    pub(super) fn render(&self, name: &str, text: &str) -> Result<String, Wrong> {
        if let Some(at) = too_deep(text) {
            return Err(wrong_at(name, text, at, TOO_DEEP.to_owned()));
        }
        let render = || self.render_here(name, text);
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, render);
            let thread = thread.map_err(|it| wrong_at(name, text, 0..0, format!("start a thread: {it}")))?;
            thread.join().unwrap_or_else(|it| std::panic::resume_unwind(it))
        })
    }

    fn render_here(&self, name: &str, text: &str) -> Result<String, Wrong> {
        let mut output = Bounded(Vec::new());
        let template = self.environment.template_from_named_str(name, text);
        let rendered =
            template.and_then(|it| it.render_captured_to(self.variables.clone(), &mut output).map(drop));
        rendered.map_err(|error| explain(&error, name, text))?;
        Ok(String::from_utf8_lossy(&output.0).into_owned())
    }
}

/// The output of a template, of at most [`MAX_OUTPUT`] bytes.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.0.len() + part.len() > MAX_OUTPUT {
            let limit = MAX_OUTPUT >> 20;
            return Err(io::Error::other(format!("the result is larger than {limit} MiB")));
        }
        self.0.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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

/// An error at these bytes of a file.
fn wrong_at(name: &str, text: &str, at: Range<usize>, what: String) -> Wrong {
    let before = text.get(..at.start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let col = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Wrong { file: name.to_owned(), line, col, what }
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
    let what = match (deepest.kind(), deepest.detail(), deepest.source()) {
        (ErrorKind::OutOfFuel, ..) => "the template runs too long".to_owned(),
        (ErrorKind::WriteFailure, _, Some(cause)) => cause.to_string(),
        (kind, Some(detail), _) => format!("{kind}: {detail}"),
        (kind, None, _) => {
            let words = source.get(range).filter(|it| !it.is_empty() && !it.contains('\n'));
            words.map_or(kind.to_string(), |words| format!("{kind}: `{words}`"))
        }
    };
    Wrong { file, line, col, what }
}

const TOO_DEEP: &str = "the expression is too long";

/// The place of an expression for which the compiler would need more stack than there is.
fn too_deep(text: &str) -> Option<Range<usize>> {
    let (mut at, mut elifs) = (0, 0);
    while let Some(start) = text.get(at..).and_then(|it| it.find('{')).map(|it| at + it) {
        let inside = start + 2;
        let rest = text.get(inside..).unwrap_or_default();
        let statement = rest.trim_start_matches(['-', '+']).trim_start();
        let (kind, is) = (text.as_bytes().get(start + 1), |word| statement.starts_with(word));
        elifs += usize::from(kind == Some(&b'%') && is("elif"));
        if elifs > MAX_CHAIN {
            return Some(inside..inside);
        }
        at = match kind {
            Some(b'#') => inside + rest.find("#}")?,
            Some(b'%') if is("raw") => inside + rest.find("endraw")?,
            Some(b'%' | b'{') => match end_of_chain(text, inside) {
                Ok(end) => end,
                Err(at) => return Some(at..at),
            },
            _ => start + 1,
        };
    }
    None
}

/// The end of the expression that starts here; an error is the place where it is too long.
fn end_of_chain(text: &str, start: usize) -> Result<usize, usize> {
    // The length of the chain in each of the open brackets, and of all of them.
    let (mut open, mut total) = (vec![0_usize], 0_usize);
    let rest = text.get(start..).unwrap_or_default();
    let mut chars = rest.char_indices().map(|(at, it)| (start + at, it)).peekable();
    while let Some((at, it)) = chars.next() {
        let closes = matches!(it, ')' | ']' | '}');
        match it {
            '}' | '%' if open.len() == 1 && chars.peek().is_some_and(|(_, it)| *it == '}') => return Ok(at),
            ',' => total -= open.last_mut().map(std::mem::take).unwrap_or_default(),
            it if it.is_whitespace() => {}
            _ if closes && open.len() > 1 => total -= open.pop().unwrap_or_default(),
            '\'' | '"' => {
                while let Some((_, next)) = chars.next() {
                    match next {
                        '\\' => drop(chars.next()),
                        next if next == it => break,
                        _ => {}
                    }
                }
            }
            _ => {
                if it.is_alphanumeric() || it == '_' {
                    while chars.next_if(|(_, it)| it.is_alphanumeric() || *it == '_').is_some() {}
                }
                total += 1;
                open.iter_mut().next_back().into_iter().for_each(|it| *it += 1);
                if matches!(it, '(' | '[' | '{') {
                    open.push(0);
                }
                if total > MAX_CHAIN {
                    return Err(at);
                }
            }
        }
    }
    Ok(text.len())
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
        Ok(_) => match too_deep(&text) {
            Some(at) => {
                let Wrong { line, col, what, .. } = wrong_at(name, &text, at, TOO_DEEP.to_owned());
                Err(bad(format!("{name}:{line}:{col}: {what}")))
            }
            None => Ok(Some(text)),
        },
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
        for (text, place) in [
            (format!("a\nb {{{{ {} 1 }}}}", "not ".repeat(30_000)), "x.html:2:"),
            (format!("{{{{ 1 {} }}}}", "+1".repeat(200_000)), "x.html:1:"),
            (format!("{{{{ A {} }}}}", ".a".repeat(100_000)), "x.html:1:"),
            (format!("{{{{ [{{'a': 1}}, {}] }}}}", "-".repeat(100_000)), "x.html:1:"),
            (format!("{{% if A %}}{}{{% endif %}}", "{% elif B %}".repeat(100_000)), "x.html:1:"),
        ] {
            let error = render(&text);
            assert!(error.starts_with(&format!("error: {place}")), "{error}");
            assert!(error.ends_with(": the expression is too long"), "{error}");
        }
        let list =
            format!("{{% raw %}}{{{{ {0} }}}}{{% endraw %}}{{{{ [{0}] | length }}}}", "1,".repeat(10_000));
        assert!(render(&list).ends_with("10000"));
        let sum = format!("{{{{ 1 {} }}}}", "+1".repeat(1900));
        assert_eq!(render(&sum), "1901");
        assert_eq!(render(&format!("{{{{ {}1 }}}}", "not ".repeat(3900))), "True");
        let nested = "{% for a in range(99999) %}{% for b in range(99999) %}TEXT{% endfor %}{% endfor %}";
        let large = render(&nested.replace("TEXT", &"0".repeat(10_000)));
        assert!(large.ends_with("the result is larger than 256 MiB"), "{large}");
        assert!(render(&nested.replace("TEXT", "")).ends_with(": the template runs too long"));
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
