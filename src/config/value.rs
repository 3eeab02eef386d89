//! Converts single values to their types, and reports what is wrong with them.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::addr::{Cidr, IfName};
use crate::config::diagnostic::{Diagnostic, Scope};
use crate::config::merge::scalar_text;
use crate::config::source::{Sources, Span, Spanned};
use crate::config::yaml::{Key, Node, Value, integer};
use crate::netem::Netem;
use crate::words::{BadWord, listed};

/// Reads values and collects mistakes.
pub(super) struct Reader<'a> {
    pub(super) sources: &'a Sources,
    pub(super) diagnostics: &'a mut Vec<Diagnostic>,
}

impl Reader<'_> {
    /// The entries of a mapping. Reports unknown keys.
    pub(super) fn entries<'n>(&mut self, node: &'n Node, known: &[&str]) -> &'n [(Key, Node)] {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            _ => {
                self.wrong(node, "a mapping");
                &[]
            }
        };
        for (key, _) in entries {
            if !known.contains(&key.text.as_str()) && !key.text.starts_with("x-") {
                let message = format!("unknown property `{}`", key.text);
                self.diagnostics.push(Diagnostic::new(key.span, message).help(suggestion(&key.text, known)));
            }
        }
        entries
    }

    /// The items of a list of mappings. Reports the others.
    pub(super) fn items<'n>(&mut self, node: &'n Node) -> Vec<&'n Node> {
        // A value that is not a list is reported when the files are collected.
        let Value::List(items) = &node.value else { return Vec::new() };
        let is_entry = |it: &&Node| matches!(it.value, Value::Map(_) | Value::Null);
        let (entries, others): (Vec<_>, Vec<_>) = items.iter().partition(is_entry);
        others.into_iter().for_each(|it| self.wrong(it, "a mapping"));
        entries
    }

    /// Reports a value of the wrong type.
    pub(super) fn wrong(&mut self, node: &Node, expected: &str) {
        // A placeholder without quotes is a mapping whose key is one, which is told already.
        if !self.sources.slice(node.span).starts_with("{{") {
            let message = format!("expected {expected}, found {}", node.type_name());
            self.diagnostics.push(Diagnostic::new(node.span, message));
        }
    }

    /// Reports a bad text. `span` is the bad part of it.
    fn bad(&mut self, span: Span, text: &Spanned<String>, message: String, help: Option<String>) {
        let mut diagnostic = Diagnostic::new(span, message);
        diagnostic.help = help.map(Into::into);
        // The file shows the variable, and the message its value.
        let written = self.sources.slice(text.span);
        if text.value.is_empty()
            && let Some(name) = variable_in(written)
        {
            diagnostic.message += &format!(": variable `{name}` is not set or empty");
        } else if !written.contains(text.value.as_str()) && (written.contains('$') || written.contains("{{"))
        {
            diagnostic = diagnostic.label(format!("this is `{}` here", text.value));
        }
        self.diagnostics.push(diagnostic);
    }

    /// A scalar as text: `service: 1` names service `1`.
    pub(super) fn text(&mut self, node: &Node) -> Option<Spanned<String>> {
        let text = scalar_text(node);
        if text.is_none() {
            self.wrong(node, "a string");
        }
        Some(Spanned { value: text?, span: node.span })
    }

    /// A text that is not empty.
    pub(super) fn name(&mut self, node: &Node) -> Option<Spanned<String>> {
        let text = self.text(node)?;
        if text.value.is_empty() {
            self.bad(text.span, &text, "expected a name, found nothing".to_owned(), None);
            return None;
        }
        Some(text)
    }

    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, node: &Node) -> Option<Spanned<T>> {
        let text = self.text(node)?;
        self.parse(&text)
    }

    pub(super) fn parse<T: FromStr<Err: Display>>(&mut self, text: &Spanned<String>) -> Option<Spanned<T>> {
        match text.value.parse() {
            Ok(value) => Some(Spanned { value, span: text.span }),
            Err(error) => {
                self.bad(text.span, text, error.to_string(), None);
                None
            }
        }
    }

    /// The name of an interface that we create.
    pub(super) fn name_to_make(&mut self, node: &Node) -> Option<Spanned<IfName>> {
        let text = self.text(node)?;
        let name = self.parse::<IfName>(&text)?;
        if let Err(error) = name.value.clone().to_make() {
            self.bad(text.span, &text, error.to_string(), Some("choose another name".to_owned()));
            return None;
        }
        Some(name)
    }

    /// An address that an interface can have.
    pub(super) fn host(&mut self, text: &Spanned<String>) -> Option<Spanned<Cidr>> {
        let cidr = self.parse::<Cidr>(text)?;
        if let Err(error) = cidr.value.of_host() {
            self.bad(text.span, text, error.to_string(), None);
            return None;
        }
        Some(cidr)
    }

    pub(super) fn address(&mut self, node: &Node) -> Option<Spanned<IpAddr>> {
        let text = self.text(node)?;
        let Ok(value) = text.value.parse() else {
            let alone =
                text.value.split_once('/').map(|(addr, _)| addr).filter(|it| it.parse::<IpAddr>().is_ok());
            let help = alone.map(|it| format!("write the address alone: `{it}`"));
            self.bad(text.span, &text, format!("`{}` is not an IP address", text.value), help);
            return None;
        };
        Some(Spanned { value, span: text.span })
    }

    /// A number, or the text of one, since interpolation yields text.
    pub(super) fn number<T: TryFrom<u32>>(
        &mut self,
        node: &Node,
        range: RangeInclusive<u32>,
    ) -> Option<Spanned<T>> {
        let given = match &node.value {
            Value::Int(it) => Some(*it),
            Value::Text(it) => integer(it),
            Value::Null | Value::Bool(_) | Value::Float(_) | Value::List(_) | Value::Map(_) => None,
        };
        let value = given.and_then(|it| u32::try_from(it).ok()).filter(|it| range.contains(it));
        if let Some(value) = value.and_then(|it| T::try_from(it).ok()) {
            return Some(Spanned { value, span: node.span });
        }
        self.unexpected(node, &format!("a number from {} to {}", range.start(), range.end()));
        None
    }

    pub(super) fn boolean(&mut self, node: &Node) -> Option<bool> {
        match &node.value {
            Value::Bool(it) => return Some(*it),
            Value::Text(it) if it == "true" => return Some(true),
            Value::Text(it) if it == "false" => return Some(false),
            _ => {}
        }
        self.unexpected(node, "`true` or `false`");
        None
    }

    fn unexpected(&mut self, node: &Node, expected: &str) {
        match scalar_text(node) {
            Some(value) => {
                let found = if value.is_empty() { "nothing".to_owned() } else { format!("`{value}`") };
                let text = Spanned { value, span: node.span };
                self.bad(node.span, &text, format!("expected {expected}, found {found}"), None);
            }
            None => self.wrong(node, expected),
        }
    }

    /// One of the names of an enum.
    pub(super) fn named<T: Copy>(
        &mut self,
        node: &Node,
        what: &str,
        names: &[(&str, T)],
    ) -> Option<Spanned<T>> {
        let text = self.text(node)?;
        if let Some((_, value)) = names.iter().find(|(name, _)| *name == text.value) {
            return Some(Spanned { value: *value, span: text.span });
        }
        let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        let help = suggestion(&text.value, &known);
        self.bad(text.span, &text, format!("unknown {what}: `{}`", text.value), Some(help));
        None
    }

    /// A string or a list of strings.
    pub(super) fn texts(&mut self, node: &Node) -> Vec<Spanned<String>> {
        match &node.value {
            Value::List(items) => items.iter().filter_map(|it| self.text(it)).collect(),
            Value::Map(_) | Value::Null => {
                self.wrong(node, "a string or a list of strings");
                Vec::new()
            }
            _ => self.text(node).into_iter().collect(),
        }
    }

    /// The value of each text of a string or a list of strings.
    pub(super) fn each<T>(
        &mut self,
        node: &Node,
        mut read: impl FnMut(&mut Self, &Spanned<String>) -> Option<Spanned<T>>,
    ) -> Vec<Spanned<T>> {
        self.texts(node).iter().filter_map(|it| read(self, it)).collect()
    }

    /// What was reported last makes no more than the link fail: `ip`, `tc` or `ethtool` would refuse the text.
    fn only_the_link(&mut self) {
        if let Some(it) = self.diagnostics.last_mut() {
            it.scope = Scope::Link;
        }
    }

    /// Parses a text by one of the option grammars of a link.
    pub(super) fn grammar<T>(
        &mut self,
        text: &Spanned<String>,
        parse: impl Fn(&str) -> Result<T, BadWord>,
    ) -> Option<Spanned<T>> {
        match parse(&text.value) {
            Ok(value) => Some(Spanned { value, span: text.span }),
            Err(bad) => {
                self.bad(self.sources.part(text, bad.at), text, bad.message, bad.help);
                self.only_the_link();
                None
            }
        }
    }

    /// The items of a list are one text, as on the command line of `tc`.
    pub(super) fn netem(&mut self, node: &Node) -> Option<Spanned<Netem>> {
        let items = self.texts(node);
        // Without a single item something is wrong that is told already, or nothing is asked for.
        if items.is_empty() {
            return None;
        }
        let joined = items.iter().map(|it| it.value.as_str()).collect::<Vec<_>>().join(" ");
        let bad = match Netem::parse(&joined) {
            Ok(value) => return Some(Spanned { value, span: node.span }),
            Err(bad) => bad,
        };
        let mut begin = 0;
        for item in &items {
            let end = begin + item.value.len();
            if bad.at.start <= end {
                let (from, to) =
                    (bad.at.start.saturating_sub(begin), bad.at.end.min(end).saturating_sub(begin));
                let span = self.sources.part(item, from..to.max(from));
                self.bad(span, item, bad.message, bad.help);
                self.only_the_link();
                return None;
            }
            begin = end + 1;
        }
        self.diagnostics.push(Diagnostic::new(node.span, bad.message).scope(Scope::Link));
        None
    }
}

/// The name of the first variable in a text that interpolation has emptied.
fn variable_in(written: &str) -> Option<&str> {
    let (_, after) = written.split_once('$')?;
    let name = after.strip_prefix('{').unwrap_or(after);
    let end = name.find(|it: char| !it.is_ascii_alphanumeric() && it != '_').unwrap_or(name.len());
    name.get(..end).filter(|it| !it.is_empty())
}

/// Words that other tools have for a property, and its name here.
const OTHER_WORDS: [(&str, &str); 16] = [
    ("address", "ip"),
    ("addresses", "ip"),
    ("addr", "ip"),
    ("ipv4", "ip"),
    ("ipv6", "ip"),
    ("interface", "dev"),
    ("ifname", "dev"),
    ("intf", "dev"),
    ("gateway", "route"),
    ("mac-address", "mac"),
    ("hwaddr", "mac"),
    ("switch", "bridge"),
    ("network", "bridge"),
    ("parent", "outer-dev"),
    ("master", "outer-dev"),
    ("vlan-id", "vlanid"),
];

/// The known name that is near, or near to another word for it; else all of them.
fn suggestion(given: &str, known: &[&str]) -> String {
    let given = given.to_ascii_lowercase().replace('_', "-");
    let distance = |word: &str| strsim::damerau_levenshtein(word, &given);
    let own = known.iter().map(|it| (distance(it), *it)).filter(|(found, it)| *found <= 1 + it.len() / 4);
    let others =
        OTHER_WORDS.iter().filter(|(word, it)| known.contains(it) && distance(word) <= word.len() / 4);
    match own.chain(others.map(|(word, it)| (distance(word), *it))).min() {
        Some((_, near)) => format!("did you mean `{near}`?"),
        None => format!("expected {}", listed(known)),
    }
}
