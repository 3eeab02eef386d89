//! `conlink status`: the status of running engines and labs, for people and programs.

mod errors;
mod table;
#[cfg(test)]
mod tests;

use std::io::IsTerminal;
use std::sync::mpsc;

use clap::Args;
use terminal_size::{Height, Width, terminal_size_of};

use crate::api::{Health, Request, Status, frame};
use crate::tools::color::Color;
use crate::tools::conlink::client::{self, Client, Server};
use crate::{err, out};

pub(super) use errors::{StatusError, errors};
pub(super) use table::count;
use table::{Style, table};

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

/// How a status is printed.
#[derive(Debug, Args)]
pub(super) struct Form {
    /// Print each status as one line of JSON
    #[arg(long)]
    json: bool,
    /// Keep running and print each change
    #[arg(long)]
    watch: bool,
    /// When to colour output; `auto` honours NO_COLOR
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    color: Color,
}

/// Prints the status. The exit code is 0 if everything is connected, else 1.
pub(super) fn main(args: &StatusArgs) -> anyhow::Result<u8> {
    let name = args.name.as_deref().or(args.name_option.as_deref());
    tell(&args.form, &client::chosen(name)?)
}

/// The same for these servers.
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

/// A status in the form that is asked for.
fn text(args: &Form, status: &Status) -> String {
    if args.json {
        String::from_utf8_lossy(&frame(status)).into_owned()
    } else {
        table(status, &style(args.color))
    }
}

fn style(color: Color) -> Style {
    let stdout = std::io::stdout();
    let width = terminal_size_of(&stdout).map(|(Width(it), _)| usize::from(it)).filter(|it| *it > 0);
    Style { width, color: color.on(&stdout) }
}

/// Prints each change until the last server ends. The exit code is 1: a server that is watched is expected to run.
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

/// Passes on each status of a server, and finally why there are no more, until `tell` returns false.
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

/// The text that replaces the screen, cut at its last line.
fn redrawn(parts: &[String], height: Option<usize>) -> String {
    let shown: Vec<&str> = parts.iter().map(String::as_str).filter(|it| !it.is_empty()).collect();
    let shown = shown.join("\n");
    let mut lines: Vec<&str> = shown.lines().collect();
    // The cursor needs the last line.
    let room = height.unwrap_or(usize::MAX).saturating_sub(1).max(1);
    let mut more = String::new();
    if lines.len() > room {
        let hidden = lines.len() - room + 1;
        lines.truncate(room - 1);
        more = format!("… and {hidden} more lines");
    }
    let last = Some(more.as_str()).filter(|it| !it.is_empty());
    // Move home, clear the rest of each line, and clear the lines below.
    let lines: String = lines.into_iter().chain(last).map(|it| format!("{it}\x1b[K\n")).collect();
    format!("\x1b[H{lines}\x1b[J")
}
