//! Where log lines go: standard error, as text or as one JSON object a line.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::err;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

struct Logger {
    json: AtomicBool,
}

static LOGGER: Logger = Logger { json: AtomicBool::new(false) };

/// Shows information; with `verbose` 1 each step, with 2 what the libraries say as well.
pub(crate) fn init(format: LogFormat, verbose: u8) {
    LOGGER.json.store(format == LogFormat::Json, Ordering::Relaxed);
    // A second call (there is none) would find the first one's logger in place, which is this one.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(match verbose {
        0 => LevelFilter::Info,
        1 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    });
}

/// One line, whatever is in it: names and output of containers must neither forge lines nor steer a terminal.
fn printable(message: &str) -> String {
    let shown = |it: char| match it {
        '\t' => it.to_string(),
        it if it.is_control() => it.escape_unicode().collect(),
        it => it.to_string(),
    };
    message.chars().map(shown).collect()
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries are heard only where everything is.
        metadata.target().starts_with("conlink") || log::max_level() == LevelFilter::Trace
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let message = record.args().to_string();
        if self.json.load(Ordering::Relaxed) {
            let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |it| it.as_secs_f64());
            let level = record.level().as_str().to_ascii_lowercase();
            err(&format!("{}\n", serde_json::json!({"time": time, "level": level, "message": message})));
            return;
        }
        let prefix = match record.level() {
            Level::Error => "error: ",
            Level::Warn => "warning: ",
            Level::Info => "",
            Level::Debug => "debug: ",
            Level::Trace => "trace: ",
        };
        err(&format!("{prefix}{}\n", printable(&message)));
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newline_forges_no_line() {
        assert_eq!(
            printable("h1: x\nAll links connected\u{1b}[2J"),
            "h1: x\\u{a}All links connected\\u{1b}[2J"
        );
        assert_eq!(printable("a\tb é"), "a\tb é");
    }
}
