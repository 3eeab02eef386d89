//! Messages: when waiting starts, from time to time while it lasts, and when it ends.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::tools::exec::shown;
use crate::tools::wait::args::Item;
use crate::{err, out};

/// The time between reminders.
pub(super) const EVERY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Say {
    pub(super) quiet: bool,
    pub(super) json: bool,
    pub(super) stdout: bool,
    pub(super) started: Instant,
}

/// A condition that is not met.
pub(super) struct Missing<'a> {
    pub(super) item: &'a Item,
    /// None if waiting for it has not started.
    pub(super) reason: Option<String>,
}

impl Say {
    pub(super) fn waiting(&self, item: &Item) {
        self.say("waiting", item, None, || format!("Waiting for {}...", awaited(item)));
    }

    pub(super) fn still_waiting(&self, item: &Item, reason: &str) {
        self.say("waiting", item, Some(reason), || {
            let seconds = self.started.elapsed().as_secs();
            format!("Still waiting for {} after {seconds} s: {reason}", awaited(item))
        });
    }

    pub(super) fn holds(&self, item: &Item) {
        let not = if item.not { "No longer: " } else { "" };
        self.say("holds", item, None, || format!("{not}{}", item.condition.holds()));
    }

    pub(super) fn running(&self, command: &[OsString]) {
        if self.quiet || command.is_empty() {
            return;
        }
        if self.json {
            let words: Vec<String> = command.iter().map(|it| it.display().to_string()).collect();
            self.line(&json!({"event": "running", "command": words, "elapsed": self.elapsed()}).to_string());
        } else {
            self.line(&format!("Running: {}", shown(command)));
        }
    }

    /// The error after a timeout, which is printed with `-q` too.
    pub(super) fn timeout(&self, limit: Duration, missing: &[Missing<'_>]) {
        let reason = |it: &Missing<'_>| it.reason.clone().unwrap_or_else(|| "not checked yet".to_owned());
        if self.json {
            let missing = missing.iter().map(|it| {
                let mut object = object(it.item);
                object.insert("reason".to_owned(), reason(it).into());
                Value::from(object)
            });
            let missing: Vec<Value> = missing.collect();
            self.line(
                &json!({"event": "timeout", "missing": missing, "elapsed": self.elapsed()}).to_string(),
            );
            return;
        }
        let mut text = format!("error: timeout after {} s:\n", limit.as_secs_f64());
        for it in missing {
            let not = if it.item.not { "no " } else { "" };
            text.push_str(&format!("  {not}{}: {}\n", it.item.condition.awaited(), reason(it)));
        }
        err(&text);
    }

    fn say(&self, event: &str, item: &Item, reason: Option<&str>, text: impl FnOnce() -> String) {
        if self.quiet {
            return;
        }
        if !self.json {
            return self.line(&text());
        }
        let mut all = Map::from_iter([("event".to_owned(), Value::from(event))]);
        all.extend(object(item));
        all.extend(reason.map(|it| ("reason".to_owned(), it.into())));
        all.insert("elapsed".to_owned(), self.elapsed());
        self.line(&Value::from(all).to_string());
    }

    /// Seconds since the start, to the millisecond.
    fn elapsed(&self) -> Value {
        (self.started.elapsed().as_millis() as f64 / 1e3).into()
    }

    fn line(&self, text: &str) {
        let line = format!("{text}\n");
        if self.stdout {
            // The command must run even if nothing reads the messages.
            let _ = out(&line);
        } else {
            err(&line);
        }
    }
}

fn awaited(item: &Item) -> String {
    format!("{}{}", if item.not { "the end of " } else { "" }, item.condition.awaited())
}

fn object(item: &Item) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("condition".to_owned(), item.condition.kind.name.into());
    object.insert("target".to_owned(), item.condition.target().into());
    if item.not {
        object.insert("not".to_owned(), true.into());
    }
    object
}
