//! `lab logs`: the output of nodes.

use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::api::{Nodes, Request};
use crate::out;
use crate::tools::conlink::lab::which::{NameArgs, ask};
use crate::tools::conlink::socket::PATIENCE;
use crate::words::printable;

/// Time between two looks at a followed file.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(in crate::tools::conlink) struct LogsArgs {
    /// Name of the lab [default: CONLINK_LAB, otherwise the project of the compose files in this folder]
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// Compose file of the lab's project, for a lab without --name
    #[arg(long, alias = "compose-file", value_name = "FILE", value_delimiter = ':')]
    file: Vec<PathBuf>,
    /// Follow the output
    #[arg(short, long)]
    follow: bool,
    /// Show the log of the lab's keeper instead of nodes' output
    #[arg(long, conflicts_with = "nodes")]
    lab: bool,
    /// Nodes [default: all]
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
}

/// A log, read from its start.
struct Tail {
    /// Printed before each line; empty if there is only one log.
    name: String,
    file: File,
    /// The start of an incomplete line.
    rest: Vec<u8>,
    /// Escape control characters.
    escape: bool,
}

pub(super) fn logs(args: &LogsArgs) -> anyhow::Result<u8> {
    let dir = NameArgs { name: args.name.clone(), file: args.file.clone() }.dir()?;
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    if args.lab {
        files.push((String::new(), dir.folder().join("log")));
    } else {
        let request = Request::Find { nodes: args.nodes.clone() };
        let found: Nodes = ask(&dir, &request, Some(PATIENCE))?;
        files.extend(found.nodes.into_iter().map(|it| (it.name, it.log)));
    }
    let width = files.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let single = files.len() == 1;
    let escape = std::io::stdout().is_terminal();
    let mut tails = Vec::new();
    for (name, path) in files {
        // A node that has not started yet has no log.
        let Ok(file) = File::open(&path) else { continue };
        let name = if single { String::new() } else { format!("{name:<width$} | ") };
        tails.push(Tail { name, file, rest: Vec::new(), escape });
    }
    loop {
        // Before reading: what is printed until the end is read then.
        let is_last = !args.follow || !dir.is_kept();
        for tail in &mut tails {
            tail.print(is_last)?;
        }
        if is_last {
            return Ok(0);
        }
        std::thread::sleep(PAUSE);
    }
}

impl Tail {
    /// Prints new lines. An incomplete last line is printed only if `all` is true.
    fn print(&mut self, all: bool) -> anyhow::Result<()> {
        let length = self.file.metadata().map_or(0, |it| it.len());
        if self.file.stream_position()? > length {
            self.file.seek(SeekFrom::Start(0))?;
        }
        self.file.read_to_end(&mut self.rest).context("read a log")?;
        let end =
            if all { self.rest.len() } else { memchr::memrchr(b'\n', &self.rest).map_or(0, |it| it + 1) };
        let lines: Vec<u8> = self.rest.drain(..end).collect();
        let text = String::from_utf8_lossy(&lines);
        let shown = |it: &str| if self.escape { escaped(it) } else { it.to_owned() };
        let text: String = text.lines().map(|it| format!("{}{}\n", self.name, shown(it))).collect();
        out(&text)
    }
}

/// A line without control characters except tabs.
fn escaped(line: &str) -> String {
    line.split('\t').map(printable).collect::<Vec<_>>().join("\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_tabs_are_not() {
        assert_eq!(escaped("a\tb\u{1b}[2Jé\u{7}"), "a\tb\\u{1b}[2Jé\\u{7}");
    }
}
