//! `lab logs`: the output of nodes.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{IsTerminal, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use crate::api::{Nodes, Request};
use crate::out_bytes;
use crate::tools::conlink::lab::dir::LabDir;
use crate::tools::conlink::lab::which::{NameArgs, ask};
use crate::tools::conlink::socket::PATIENCE;
use crate::words::printable;

/// Time between two looks at a followed file.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes that are read at once. A longer line is printed in parts.
const PART: usize = 64 << 10;

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

/// A log, read from its start: a file, and those that it was rotated to.
struct Tail {
    /// Printed before each line; empty if there is only one log.
    name: String,
    path: PathBuf,
    /// The files that are not read yet, the oldest first. The first one is being read.
    files: VecDeque<File>,
    /// The start of an incomplete line.
    rest: Vec<u8>,
    /// Escape control characters.
    escape: bool,
}

pub(super) fn logs(args: &LogsArgs) -> anyhow::Result<u8> {
    let dir = NameArgs { name: args.name.clone(), file: args.file.clone() }.dir()?;
    let mut logs: Vec<(String, PathBuf)> = Vec::new();
    if args.lab {
        logs.push((String::new(), dir.folder().join("log")));
    } else if dir.is_kept() {
        let request = Request::Find { nodes: args.nodes.clone() };
        let found: Nodes = ask(&dir, &request, Some(PATIENCE))?;
        logs.extend(found.nodes.into_iter().map(|it| (it.name, it.log)));
    } else {
        logs.extend(left(&dir, &args.nodes)?);
    }
    let width = logs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let single = logs.len() == 1;
    let escape = std::io::stdout().is_terminal();
    let tail = |(name, path): (String, PathBuf)| {
        let name = if single { String::new() } else { format!("{name:<width$} | ") };
        let files = files(&path, None);
        Tail { name, path, files, rest: Vec::new(), escape }
    };
    let mut tails: Vec<Tail> = logs.into_iter().map(tail).collect();
    loop {
        // Before reading: what is printed until the end is read then.
        let is_last = !args.follow || !dir.is_kept();
        for tail in &mut tails {
            tail.print(args.follow, is_last)?;
        }
        if is_last {
            return Ok(0);
        }
        std::thread::sleep(PAUSE);
    }
}

/// The logs that a killed keeper left, with the names of their nodes: all, or those of these nodes.
fn left(dir: &LabDir, words: &[String]) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let folder = dir.folder().join("nodes");
    let mut containers: Vec<String> = entries(&folder).filter_map(|it| it.into_string().ok()).collect();
    containers.sort();
    let prefix = format!("{}-", dir.name());
    let indexed = |it: &str| it.strip_prefix(&prefix).unwrap_or(it).to_owned();
    let mut found: Vec<&String> = containers.iter().collect();
    if !words.is_empty() {
        found.clear();
        for word in words {
            let is_meant = |it: &&String| {
                let indexed = indexed(it);
                **it == *word || indexed == *word || indexed.strip_suffix("-1") == Some(word)
            };
            let Some(node) = containers.iter().find(is_meant) else {
                bail!("no node of the dead lab `{}` is named `{word}`", dir.name());
            };
            found.push(node);
        }
    }
    Ok(found.into_iter().map(|it| (indexed(it), folder.join(it).join("log"))).collect())
}

/// The names of the files in a folder.
fn entries(folder: &Path) -> impl Iterator<Item = std::ffi::OsString> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.file_name())
}

/// How often a log with this file name was rotated: 0 for `log`, 2 for `log.2`. None for other files.
pub(super) fn age(name: &OsStr) -> Option<u32> {
    match name.to_str()?.strip_prefix("log")? {
        "" => Some(0),
        more => more.strip_prefix('.')?.parse().ok().filter(|it| *it > 0),
    }
}

/// Opens the files of a log that are newer than one of them, the oldest first.
fn files(path: &Path, than: Option<u64>) -> VecDeque<File> {
    let mut ages: Vec<u32> =
        path.parent().into_iter().flat_map(entries).filter_map(|it| age(&it)).chain([0]).collect();
    // Another one if the log is rotated now.
    ages.extend(ages.iter().max().map(|it| it + 1));
    ages.sort_unstable();
    ages.dedup();
    let mut files: VecDeque<File> = VecDeque::new();
    // From the newest to the oldest: a file that is renamed meanwhile is met again, and none is missed.
    for age in ages {
        let name = if age == 0 { "log".to_owned() } else { format!("log.{age}") };
        let Ok(file) = File::open(path.with_file_name(name)) else { continue };
        let inode = inode(&file);
        if than.is_some() && inode == than {
            break;
        }
        if files.iter().all(|it| self::inode(it) != inode) {
            files.push_front(file);
        }
    }
    files
}

fn inode(file: &File) -> Option<u64> {
    file.metadata().ok().map(|it| it.ino())
}

impl Tail {
    /// Prints new lines. An incomplete last line is printed only if `all` is true. With `follow` it goes on with files
    /// that are newer than those found at the start.
    fn print(&mut self, follow: bool, all: bool) -> anyhow::Result<()> {
        let mut part = vec![0; PART];
        loop {
            let Some(file) = self.files.front_mut() else {
                // A node that has not started yet has no log.
                self.files = if follow { files(&self.path, None) } else { VecDeque::new() };
                if self.files.is_empty() { break } else { continue }
            };
            let length = file.metadata().map_or(0, |it| it.len());
            if file.stream_position()? > length {
                file.seek(SeekFrom::Start(0))?;
            }
            let count = file.read(&mut part).context("read a log")?;
            if count > 0 {
                self.rest.extend(part.iter().take(count));
                self.print_lines()?;
                continue;
            }
            if self.files.len() == 1 {
                let newer = self.newer().filter(|it| follow && !it.is_empty());
                let Some(newer) = newer else { break };
                // The end of this file may have been written since.
                self.files.extend(newer);
                continue;
            }
            self.files.pop_front();
        }
        if all && !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            self.show(&rest, true)?;
        }
        Ok(())
    }

    /// The files that are newer than the last one.
    fn newer(&self) -> Option<VecDeque<File>> {
        let last = self.files.back().and_then(inode)?;
        let is_current = fs::metadata(&self.path).is_ok_and(|it| it.ino() == last);
        (!is_current).then(|| files(&self.path, Some(last)))
    }

    /// Prints the complete lines that were read.
    fn print_lines(&mut self) -> anyhow::Result<()> {
        let end = memchr::memrchr(b'\n', &self.rest).map_or(0, |it| it + 1);
        let later = self.rest.split_off(end);
        let lines = std::mem::replace(&mut self.rest, later);
        if !lines.is_empty() {
            self.show(&lines, true)?;
        }
        if self.rest.len() >= PART {
            let rest = std::mem::take(&mut self.rest);
            // Alone, a line has no name in front of each part.
            self.show(&rest, !self.name.is_empty())?;
        }
        Ok(())
    }

    fn show(&self, lines: &[u8], ends: bool) -> anyhow::Result<()> {
        let mut text = Vec::with_capacity(lines.len());
        let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
        for line in lines.split(|it| *it == b'\n') {
            text.extend_from_slice(self.name.as_bytes());
            if self.escape {
                let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
                text.extend_from_slice(escaped(&line).as_bytes());
            } else {
                text.extend_from_slice(line);
            }
            text.push(b'\n');
        }
        if !ends {
            text.pop();
        }
        out_bytes(&text)
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
