//! `lab logs`: what nodes print.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::api::{Nodes, Request};
use crate::out;
use crate::tools::conlink::client::PATIENCE;
use crate::tools::conlink::lab::{NameArgs, ask};

/// How often files are looked at that are followed.
const PAUSE: Duration = Duration::from_millis(100);

/// Whose.
#[derive(Debug, Args)]
pub(in crate::tools::conlink) struct LogsArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Go on as they print more
    #[arg(short, long)]
    follow: bool,
    /// The keeper's own log, instead of nodes'
    #[arg(long, conflicts_with = "nodes")]
    lab: bool,
    /// Nodes [default: all]
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
}

/// A log that is read, from its beginning on.
struct Tail {
    /// In front of each line; empty where there is one log alone.
    name: String,
    file: File,
    /// The start of a line whose end is still to come.
    rest: Vec<u8>,
}

pub(super) fn logs(args: &LogsArgs) -> anyhow::Result<u8> {
    let dir = args.name.dir()?;
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
    let mut tails = Vec::new();
    for (name, path) in files {
        // A node that has yet to print anything has none.
        let Ok(file) = File::open(&path) else { continue };
        let name = if single { String::new() } else { format!("{name:<width$} | ") };
        tails.push(Tail { name, file, rest: Vec::new() });
    }
    loop {
        // Asked before: what is printed last is read then.
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
    /// Prints what is new; the last line without its end only if it is `all` there will be.
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
        let text: String = text.lines().map(|it| format!("{}{it}\n", self.name)).collect();
        out(&text)
    }
}
