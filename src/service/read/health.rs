//! `healthcheck`.

use std::time::Duration;

use crate::config::{Node, Value};
use crate::service::Healthcheck;
use crate::service::value::{Reader, text_of};

impl Reader<'_> {
    pub(super) fn healthcheck(&mut self, node: &Node) -> Option<Healthcheck> {
        let disabled = node.get("disable").and_then(|it| self.boolean(it)).unwrap_or(false);
        self.map(node);
        // Mistakes are reported even if the check is disabled.
        let argv = node.get("test").and_then(|it| self.health_test(it));
        let mut time = |key, default| {
            let given: Option<Duration> = node.get(key).and_then(|it| self.duration(it));
            given.filter(|it| !it.is_zero()).unwrap_or(Duration::from_secs(default))
        };
        let (interval, timeout) = (time("interval", 30), time("timeout", 30));
        let (start_period, start_interval) = (time("start_period", 0), time("start_interval", 5));
        let retries = node.get("retries").and_then(|it| self.number(it)).filter(|it| *it > 0).unwrap_or(3);
        if disabled {
            return None;
        }
        if argv.is_none() && !matches!(node.value, Value::Null) && node.get("test").is_none() {
            self.note(node.span, "`healthcheck` has no `test`, and there is no image to define one");
        }
        Some(Healthcheck { argv: argv?, interval, timeout, retries, start_period, start_interval })
    }

    /// The command; None if the check is disabled.
    fn health_test(&mut self, node: &Node) -> Option<Vec<String>> {
        let shell = |script: String| vec!["/bin/sh".to_owned(), "-c".to_owned(), script];
        let Value::List(items) = &node.value else {
            return self.some_text(node).map(shell);
        };
        let mut words: Vec<String> = self.texts(node).into_iter().map(|(it, _)| it).collect();
        if words.is_empty() {
            return None;
        }
        let kind = words.remove(0);
        match (kind.as_str(), words.len()) {
            ("NONE", 0) => return None,
            ("CMD", 1..) => return Some(words),
            ("CMD-SHELL", 1) => return words.pop().map(shell),
            _ => {}
        }
        let first = items.first().unwrap_or(node);
        let message = match kind.as_str() {
            "NONE" => "unexpected word after `NONE`".to_owned(),
            "CMD" => "expected a command after `CMD`".to_owned(),
            "CMD-SHELL" => "expected one string after `CMD-SHELL`".to_owned(),
            _ => format!("unknown kind of test `{}`", text_of(first).unwrap_or_default()),
        };
        self.bad(first, message, "expected `[CMD, PROGRAM, ARGUMENT…]`, `[CMD-SHELL, COMMAND]` or `[NONE]`");
        None
    }
}
