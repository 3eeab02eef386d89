//! Messages: when waiting starts, from time to time while it lasts, and when it ends.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::tools::exec::shown;
use crate::tools::wait::condition::Words;
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
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) words: Words,
    pub(super) not: bool,
    /// None if waiting for it has not started.
    pub(super) reason: Option<String>,
}

impl Say {
    pub(super) fn waiting(&self, words: &Words, not: bool) {
        self.say("waiting", words, not, None, || match not {
            false => format!("Waiting for {}...", words.awaited),
            true => format!("Waiting for the end of {}...", words.awaited),
        });
    }

    pub(super) fn still_waiting(&self, words: &Words, not: bool, reason: &str) {
        let seconds = self.started.elapsed().as_secs();
        self.say("waiting", words, not, Some(reason), || {
            let end = if not { "the end of " } else { "" };
            format!("Still waiting for {end}{} after {seconds} s: {reason}", words.awaited)
        });
    }

    pub(super) fn holds(&self, words: &Words, not: bool) {
        self.say("holds", words, not, None, || match not {
            false => words.holds.clone(),
            true => format!("No longer: {}", words.holds),
        });
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
    pub(super) fn timeout(&self, limit: Duration, missing: &[Missing]) {
        let reason = |it: &Missing| it.reason.clone().unwrap_or_else(|| "not checked yet".to_owned());
        if self.json {
            let missing: Vec<Value> = missing
                .iter()
                .map(|it| {
                    let mut object = self.object(&it.words, it.not);
                    object.insert("reason".to_owned(), reason(it).into());
                    object.into()
                })
                .collect();
            self.line(
                &json!({"event": "timeout", "missing": missing, "elapsed": self.elapsed()}).to_string(),
            );
            return;
        }
        let mut text = format!("error: timeout after {} s:\n", limit.as_secs_f64());
        for it in missing {
            let not = if it.not { "no " } else { "" };
            text.push_str(&format!("  {not}{}: {}\n", it.words.awaited, reason(it)));
        }
        err(&text);
    }

    fn say(
        &self,
        event: &str,
        words: &Words,
        not: bool,
        reason: Option<&str>,
        text: impl FnOnce() -> String,
    ) {
        if self.quiet {
            return;
        }
        if !self.json {
            return self.line(&text());
        }
        let mut object = Map::from_iter([("event".to_owned(), Value::from(event))]);
        object.extend(self.object(words, not));
        object.extend(reason.map(|it| ("reason".to_owned(), it.into())));
        object.insert("elapsed".to_owned(), self.elapsed());
        self.line(&Value::from(object).to_string());
    }

    fn object(&self, words: &Words, not: bool) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("condition".to_owned(), words.kind.into());
        object.insert("target".to_owned(), words.target.clone().into());
        if not {
            object.insert("not".to_owned(), true.into());
        }
        object
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
