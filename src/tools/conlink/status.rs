//! `conlink status`: the status of engines and labs, for people and programs.

mod errors;
mod table;
#[cfg(test)]
mod tests;

use std::io::IsTerminal;
use std::sync::mpsc;

use clap::Args;
use terminal_size::{Height, Width, terminal_size_of};
use unicode_width::UnicodeWidthStr;

use crate::api::{Health, Request, Status, frame};
use crate::tools::color::Color;
use crate::tools::conlink::client;
use crate::tools::conlink::socket::{self, Client, PATIENCE, Server};
use crate::{err, out};

pub(super) use errors::{StatusError, errors, exits};
use table::{Style, Table, table};

/// Show the status of running engines and labs
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Compose project or lab [default: COMPOSE_PROJECT_NAME, else all that are running]
    #[arg(value_name = "NAME", conflicts_with = "name_option")]
    name: Option<String>,
    /// Same as NAME
    #[arg(short, long = "name", value_name = "NAME")]
    name_option: Option<String>,
    #[command(flatten)]
    form: Form,
}

/// Output options.
#[derive(Debug, Args)]
pub(super) struct Form {
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
    /// Keep running and print each change
    #[arg(long)]
    watch: bool,
    /// When to colour output; `auto` honours NO_COLOR
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    color: Color,
}

/// Prints the status of the chosen servers. The exit code is 0 if all are connected, else 1.
pub(super) fn main(args: &StatusArgs) -> anyhow::Result<u8> {
    let name = args.name.as_deref().or(args.name_option.as_deref());
    tell(&args.form, &client::chosen(name)?)
}

/// Prints the status of these servers.
pub(super) fn tell(args: &Form, servers: &[Server]) -> anyhow::Result<u8> {
    if args.watch { watch(args, servers) } else { show(args, servers) }
}

fn show(args: &Form, servers: &[Server]) -> anyhow::Result<u8> {
    let mut all_connected = true;
    for (at, server) in servers.iter().enumerate() {
        let status: Status = match socket::ask(server, &Request::Status) {
            Ok(it) => it,
            Err(error) => {
                err(&format!("error: {error:#}\n"));
                all_connected = false;
                continue;
            }
        };
        all_connected &= status.state == Health::Connected;
        if at > 0 && !args.json {
            out("\n")?;
        }
        let Table { head, rest } = text(args, &status);
        out(&(head + &rest))?;
    }
    Ok(u8::from(!all_connected))
}

/// A status as it is printed. JSON has only a head.
fn text(args: &Form, status: &Status) -> Table {
    if args.json {
        let head = String::from_utf8_lossy(&frame(status)).into_owned();
        return Table { head, rest: String::new() };
    }
    table(status, &style(args.color))
}

fn style(color: Color) -> Style {
    let stdout = std::io::stdout();
    let width = terminal_size_of(&stdout).map(|(Width(it), _)| usize::from(it)).filter(|it| *it > 0);
    Style { width, color: color.on(&stdout) }
}

/// Prints the statuses of all servers until the last one ends, which is an error.
fn watch(args: &Form, servers: &[Server]) -> anyhow::Result<u8> {
    let redraws = !args.json && std::io::stdout().is_terminal();
    let (sender, changes) = mpsc::channel();
    for (at, server) in servers.iter().cloned().enumerate() {
        let sender = sender.clone();
        std::thread::spawn(move || follow(&server, |it| sender.send((at, it)).is_ok()));
    }
    drop(sender);
    let mut screen = vec![Table::default(); servers.len()];
    let mut printed = false;
    for (at, change) in changes {
        let text = match change {
            Ok(status) => text(args, &status),
            Err(message) if redraws => Table { head: format!("error: {message}\n"), rest: String::new() },
            Err(message) => {
                err(&format!("error: {message}\n"));
                continue;
            }
        };
        if redraws {
            if let Some(it) = screen.get_mut(at) {
                *it = text;
            }
            let size = terminal_size_of(std::io::stdout());
            let size = size.map(|(Width(width), Height(height))| (width.into(), height.into()));
            out(&redrawn(&screen, size))?;
            continue;
        }
        // An empty line between two tables.
        let between = if printed && !args.json { "\n" } else { "" };
        printed = true;
        out(&format!("{between}{}{}", text.head, text.rest))?;
    }
    Ok(1)
}

/// Passes each status of one server to `tell`, and finally why there are no more, until `tell` returns false.
fn follow(server: &Server, mut tell: impl FnMut(Result<Status, String>) -> bool) {
    let mut client = match Client::ask(server, &Request::Watch) {
        Ok(it) => it,
        Err(error) => {
            tell(Err(format!("{error:#}")));
            return;
        }
    };
    let mut limit = Some(PATIENCE);
    loop {
        let change = match client.next(limit.take()) {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err(format!("{server} has ended")),
            Err(error) => Err(format!("{server}: {error:#}")),
        };
        let is_last = change.is_err();
        if !tell(change) || is_last {
            return;
        }
    }
}

/// Overwrites the screen, whose width and height are given. What is wrong comes first, of all servers; the rest takes the
/// rows that are left, and a line counts what is cut.
fn redrawn(parts: &[Table], size: Option<(usize, usize)>) -> String {
    let shown: Vec<&Table> = parts.iter().filter(|it| !it.head.is_empty()).collect();
    // The cursor is on the row below.
    let (width, room) = size.map_or((usize::MAX, usize::MAX), |(width, height)| (width, height.max(2) - 1));
    let rows = |text: &str| text.lines().map(|it| rows_of(it, width)).sum::<usize>();
    let between = shown.len().saturating_sub(1);
    let mut left = room.saturating_sub(shown.iter().map(|it| rows(&it.head)).sum::<usize>() + between);
    let mut lines: Vec<String> = Vec::new();
    for (at, it) in shown.iter().enumerate() {
        if at > 0 {
            lines.push(String::new());
        }
        lines.extend(it.head.lines().map(str::to_owned));
        let rest = cut(it.rest.lines().map(str::to_owned).collect(), width, left);
        left -= rest.iter().map(|it| rows_of(it, width)).sum::<usize>();
        lines.extend(rest);
    }
    // Home; each line, and the rest of its row is cleared; then everything below is cleared.
    let lines: String = cut(lines, width, room).into_iter().map(|it| format!("{it}\x1b[K\n")).collect();
    format!("\x1b[H{lines}\x1b[J")
}

/// The lines that fit in `room` rows; if not all do, the last row counts the others.
fn cut(mut lines: Vec<String>, width: usize, room: usize) -> Vec<String> {
    let total: usize = lines.iter().map(|it| rows_of(it, width)).sum();
    if total <= room {
        return lines;
    }
    let mut used = 1;
    let fits = lines.iter().take_while(|it| {
        used += rows_of(it, width);
        used <= room
    });
    let kept = fits.count();
    let hidden = lines.len() - kept;
    lines.truncate(kept);
    if room > 0 {
        lines.push(format!("… and {hidden} more lines"));
    }
    lines
}

/// The number of rows that a line takes on a terminal.
fn rows_of(line: &str, width: usize) -> usize {
    let mut visible = String::new();
    let mut parts = line.split("\x1b[");
    visible += parts.next().unwrap_or_default();
    // What follows the introducer of a colour ends with `m`.
    parts.for_each(|it| visible += it.split_once('m').map_or(it, |(_, text)| text));
    visible.width().div_ceil(width.max(1)).max(1)
}
