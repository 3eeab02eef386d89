//! `conlink status`: how far an engine or a lab has come, for people and programs.

mod errors;
mod table;
#[cfg(test)]
mod tests;

use std::io::IsTerminal;
use std::sync::mpsc;

use clap::Args;
use terminal_size::{Height, Width, terminal_size_of};

use crate::api::{Health, Request, Status, frame};
use crate::tools::conlink::client::{self, Client, Server};
use crate::{err, out};

pub(super) use errors::{StatusError, errors};
pub(super) use table::count;
use table::{Style, table};

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The compose project, or the lab [default: COMPOSE_PROJECT_NAME, else all that run]
    name: Option<String>,
    #[command(flatten)]
    form: Form,
}

/// How to tell it.
#[derive(Debug, Args)]
pub(super) struct Form {
    /// Print a JSON object on a line
    #[arg(long)]
    json: bool,
    /// Go on, and tell each change
    #[arg(long)]
    watch: bool,
}

/// Prints what is asked for; 0 when all of it is connected, else 1.
pub(super) fn main(args: &StatusArgs) -> anyhow::Result<u8> {
    tell(&args.form, &client::chosen(args.name.as_deref())?)
}

/// The same for servers that were chosen otherwise.
pub(super) fn tell(args: &Form, servers: &[Server]) -> anyhow::Result<u8> {
    if args.watch { watch(args, servers) } else { show(args, servers) }
}

fn show(args: &Form, servers: &[Server]) -> anyhow::Result<u8> {
    let mut all_connected = true;
    for (at, server) in servers.iter().enumerate() {
        let status: Status = match client::ask(server, &Request::Status) {
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
        out(&text(args, &status))?;
    }
    Ok(u8::from(!all_connected))
}

/// One status as it is printed.
fn text(args: &Form, status: &Status) -> String {
    if args.json { String::from_utf8_lossy(&frame(status)).into_owned() } else { table(status, &style()) }
}

fn style() -> Style {
    let stdout = std::io::stdout();
    let width = terminal_size_of(&stdout).map(|(Width(it), _)| usize::from(it)).filter(|it| *it > 0);
    let color = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    Style { width, color }
}

/// Follows all of them to the end of the last, which is no good end.
fn watch(args: &Form, servers: &[Server]) -> anyhow::Result<u8> {
    let redraws = !args.json && std::io::stdout().is_terminal();
    let (sender, changes) = mpsc::channel();
    for (at, server) in servers.iter().cloned().enumerate() {
        let sender = sender.clone();
        std::thread::spawn(move || follow(&server, |it| sender.send((at, it)).is_ok()));
    }
    drop(sender);
    let mut screen = vec![String::new(); servers.len()];
    let mut printed = false;
    for (at, change) in changes {
        let text = match change {
            Ok(status) => text(args, &status),
            Err(message) if redraws => format!("error: {message}\n"),
            Err(message) => {
                err(&format!("error: {message}\n"));
                continue;
            }
        };
        if redraws {
            if let Some(it) = screen.get_mut(at) {
                *it = text;
            }
            let height = terminal_size_of(std::io::stdout()).map(|(_, Height(it))| usize::from(it));
            out(&redrawn(&screen, height))?;
            continue;
        }
        // An empty line between two tables.
        let between = if printed && !args.json { "\n" } else { "" };
        printed = true;
        out(&format!("{between}{text}"))?;
    }
    Ok(1)
}

/// Hands over each status of one server, and at last why there are no more, while anybody wants to know.
fn follow(server: &Server, mut tell: impl FnMut(Result<Status, String>) -> bool) {
    let mut client = match Client::ask(server, &Request::Watch) {
        Ok(it) => it,
        Err(error) => {
            tell(Err(format!("{error:#}")));
            return;
        }
    };
    let mut limit = Some(client::PATIENCE);
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

/// Writes over what is on the screen, and no further than its last line.
fn redrawn(parts: &[String], height: Option<usize>) -> String {
    let shown: Vec<&str> = parts.iter().map(String::as_str).filter(|it| !it.is_empty()).collect();
    let shown = shown.join("\n");
    let mut lines: Vec<&str> = shown.lines().collect();
    // The cursor stands on the line below.
    let room = height.unwrap_or(usize::MAX).saturating_sub(1).max(1);
    let mut more = String::new();
    if lines.len() > room {
        let hidden = lines.len() - room + 1;
        lines.truncate(room - 1);
        more = format!("… and {hidden} more lines");
    }
    let last = Some(more.as_str()).filter(|it| !it.is_empty());
    // Home; each line, and what was behind it goes; what was below goes.
    let lines: String = lines.into_iter().chain(last).map(|it| format!("{it}\x1b[K\n")).collect();
    format!("\x1b[H{lines}\x1b[J")
}
