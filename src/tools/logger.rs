//! The log: lines on standard error, as text or as JSON objects.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::err;
use crate::words::shortened;

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Verbosity {
    /// Log each step; repeat to include messages of libraries
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Log warnings and errors only
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}

impl Verbosity {
    /// What a command without these options logs.
    pub(crate) const DEFAULT: Self = Self { verbose: 0, quiet: false };
}

struct Logger {
    json: AtomicBool,
}

static LOGGER: Logger = Logger { json: AtomicBool::new(false) };

/// The number of lines kept while standard error is not read. Later ones are dropped and counted.
const WAITING: usize = 4096;

/// How long the process waits at its end for lines that are not written yet.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A thread that writes lines, so that logging never blocks.
struct Writer {
    lines: SyncSender<String>,
    waiting: AtomicUsize,
    lost: AtomicUsize,
}

static WRITER: OnceLock<Writer> = OnceLock::new();

/// While this exists, lines are written by a thread of their own.
pub(crate) struct Background(());

/// Starts a thread that writes log lines: a reader that stalls loses lines and does not block the program.
pub(crate) fn in_background() -> std::io::Result<Background> {
    let (lines, written) = sync_channel::<String>(WAITING);
    let writer = Writer { lines, waiting: AtomicUsize::new(0), lost: AtomicUsize::new(0) };
    std::thread::Builder::new().name("log".to_owned()).spawn(move || {
        for line in written {
            err(&line);
            let Some(writer) = WRITER.get() else { continue };
            let lost = writer.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                err(&format!("warning: {lost} log lines were dropped because standard error was not read\n"));
            }
            writer.waiting.fetch_sub(1, Ordering::Release);
        }
    })?;
    let _ = WRITER.set(writer);
    Ok(Background(()))
}

impl Drop for Background {
    fn drop(&mut self) {
        let end = Instant::now() + LAST_WORDS;
        while WRITER.get().is_some_and(|it| it.waiting.load(Ordering::Acquire) > 0) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn write(line: String) {
    let Some(writer) = WRITER.get() else { return err(&line) };
    writer.waiting.fetch_add(1, Ordering::Relaxed);
    if writer.lines.try_send(line).is_err() {
        writer.waiting.fetch_sub(1, Ordering::Relaxed);
        writer.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// Starts the log.
pub(crate) fn init(format: LogFormat, verbosity: Verbosity) {
    LOGGER.json.store(format == LogFormat::Json, Ordering::Relaxed);
    // Fails only if a logger is set already, and there is no other.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(match verbosity {
        Verbosity { quiet: true, .. } => LevelFilter::Warn,
        Verbosity { verbose: 0, .. } => LevelFilter::Info,
        Verbosity { verbose: 1, .. } => LevelFilter::Debug,
        Verbosity { .. } => LevelFilter::Trace,
    });
}

/// Escapes control characters: names and output of containers must not forge lines or control a terminal.
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
        // Messages of libraries are shown at the highest level only.
        metadata.target().starts_with("conlink") || log::max_level() == LevelFilter::Trace
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let message = record.args().to_string();
        let message = shortened(&message);
        if self.json.load(Ordering::Relaxed) {
            let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |it| it.as_secs_f64());
            let level = record.level().as_str().to_ascii_lowercase();
            write(format!("{}\n", serde_json::json!({"time": time, "level": level, "message": message})));
            return;
        }
        let prefix = match record.level() {
            Level::Error => "error: ",
            Level::Warn => "warning: ",
            Level::Info => "",
            Level::Debug => "debug: ",
            Level::Trace => "trace: ",
        };
        write(format!("{prefix}{}\n", printable(&message)));
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
