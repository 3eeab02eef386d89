//! Where log lines go: standard error, as text or as one JSON object a line.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// Lines that may wait for a reader of standard error that stalls; more are lost, and counted.
const WAITING: usize = 4096;

/// How long the end waits for lines that nobody has read yet.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A thread that writes lines, so that whoever logs them never waits.
struct Writer {
    lines: SyncSender<String>,
    waiting: AtomicUsize,
    lost: AtomicUsize,
}

static WRITER: OnceLock<Writer> = OnceLock::new();

/// Lines are written by a thread of their own until this is dropped.
pub(crate) struct Background(());

/// Has a thread write log lines from now on: a reader that stalls costs lines, and not the time of those who log.
pub(crate) fn in_background() -> std::io::Result<Background> {
    let (lines, written) = sync_channel::<String>(WAITING);
    let writer = Writer { lines, waiting: AtomicUsize::new(0), lost: AtomicUsize::new(0) };
    std::thread::Builder::new().name("log".to_owned()).spawn(move || {
        for line in written {
            err(&line);
            let Some(writer) = WRITER.get() else { continue };
            let lost = writer.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                err(&format!("warning: {lost} log lines were lost: standard error was not read\n"));
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
