//! `lab up` and `lab run`.

use std::ffi::OsString;
use std::io::PipeReader;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::api::{Accepted, Health, Request, Status};
use crate::config::Scope;
use crate::daemon::LAB_ENDS;
use crate::process::node::wait_for_end;
use crate::process::{Foreground, Signals, run_sealed};
use crate::tools::color::Color;
use crate::tools::conlink::check::report;
use crate::tools::conlink::lab::args::UpArgs;
use crate::tools::conlink::lab::ask::{Ask, Reading};
use crate::tools::conlink::lab::dir::LabDir;
use crate::tools::conlink::lab::progress::{Progress, waiting};
use crate::tools::conlink::lab::which::ask;
use crate::tools::conlink::lab::{down, keeper};
use crate::tools::conlink::socket::{Client, PATIENCE, TimedOut};
use crate::tools::conlink::status::{errors, exits};
use crate::words::counted;
use crate::{err, out};

/// The end of a lab takes this long if its nodes end at once.
const A_MOMENT: Duration = Duration::from_secs(1);

/// How a command waits for a lab.
#[derive(Clone, Copy)]
struct Wait {
    quiet: bool,
    /// Where the summary is printed: standard output may belong to a command.
    print: fn(&str) -> anyhow::Result<()>,
    deadline: Option<Instant>,
}

impl Wait {
    fn of(args: &UpArgs, print: fn(&str) -> anyhow::Result<()>) -> Self {
        Self { quiet: args.verbosity.quiet, print, deadline: args.timeout.map(|it| Instant::now() + it) }
    }
}

pub(super) fn up(args: &UpArgs) -> anyhow::Result<u8> {
    seal();
    let ask = Ask::of(args)?;
    let Some(reading) = checked(&ask, args.files.color)? else { return Ok(1) };
    let dir = LabDir::make(&reading.name)?;
    start(&dir, &ask, &reading.folder(), &mut None, Wait::of(args, out))
}

/// Continues in a copy of the binary, which the keeper and the nodes will run.
fn seal() {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Err(error) = run_sealed(&args) {
        log::warn!("nodes can change the conlink binary of this machine: run it from memory: {error}");
    }
}

/// Runs a command in a lab that ends with this process, in whatever way that ends.
pub(super) fn run(args: &UpArgs, command: &[String]) -> anyhow::Result<u8> {
    seal();
    let ask = Ask::of(args)?;
    let Some(reading) = checked(&ask, args.files.color)? else { return Ok(1) };
    let dir = LabDir::make(&reading.name)?;
    // The keeper ends the lab when our end is closed, also by the end of this process.
    let (theirs, ours) = std::io::pipe().context("make a pipe")?;
    let mut tie = Some(theirs);
    let print = |text: &str| {
        err(text);
        Ok(())
    };
    let started = start(&dir, &ask, &reading.folder(), &mut tie, Wait::of(args, print));
    if tie.is_some() {
        // The lab belongs to another process.
        return started;
    }
    // Not earlier: the keeper would inherit the blocked signals. An error closes `ours`, which ends the lab.
    let signals = Signals::hold().context("block signals")?;
    let code = match started {
        Ok(0) => in_front(&dir, command, &signals),
        other => other,
    };
    let ended = down::down_or_kill(&dir, &signals, args.verbosity.quiet);
    drop(ours);
    let code = code?;
    Ok(ended?.unwrap_or(code))
}

/// Reads the files. None, and nothing starts, if they have errors, which are printed.
fn checked(ask: &Ask, color: Color) -> anyhow::Result<Option<Reading>> {
    let reading = ask.read()?;
    if !reading.described.stops(Scope::Link) {
        reading.described.log();
        return Ok(Some(reading));
    }
    report(&reading.described, color);
    Ok(None)
}

/// Applies the request to the lab; starts its keeper if there is none. With `tie` there must be none. `folder` is that of
/// the project.
fn start(
    dir: &LabDir,
    ask: &Ask,
    folder: &Path,
    tie: &mut Option<PipeReader>,
    wait: Wait,
) -> anyhow::Result<u8> {
    let to_be_tied = tie.is_some();
    for _ in 0..10 {
        let claim = dir.claim()?;
        match dir.keeper() {
            // The next keeper would not end with this process.
            None if to_be_tied && tie.is_none() => {
                bail!("lab `{}` was ended by another command", dir.name());
            }
            // What is there was left by a killed keeper.
            None => {
                if let Some(other) = dir.project().filter(|it| it != folder) {
                    bail!(
                        "lab `{0}` was started with the files in {1}\nhint: remove it with `conlink lab down {0}`, \
                         or choose another --name",
                        dir.name(),
                        other.display()
                    );
                }
                down::clear(dir)?;
                keeper::start(dir, &claim, tie.take())?;
            }
            Some(keeper) if tie.is_some() => {
                drop(claim);
                if wait_for_end(keeper.as_fd(), A_MOMENT).context("wait for the lab to end")? {
                    continue;
                }
                bail!(
                    "lab `{0}` is already running\nhint: end it with `conlink lab down {0}`, or choose another --name",
                    dir.name()
                );
            }
            Some(_) => {}
        }
        let asked = Client::ask(&dir.server(), &ask.request());
        drop(claim);
        // It was listening before, so now it is ending.
        let Ok(mut client) = asked else {
            down::end(dir, wait.quiet)?;
            continue;
        };
        match accepted(dir, &mut client) {
            Ok(Some(_)) => {}
            Err(error) if error.is::<Stopped>() => return Err(error),
            Err(error) if error.to_string() != LAB_ENDS && !is_cut(&error) => return Err(error),
            Ok(None) | Err(_) => {
                down::end(dir, wait.quiet)?;
                continue;
            }
        }
        let status = settled(dir, &mut client, wait)?;
        return tell(dir, &status, wait);
    }
    bail!("lab `{}` is ended again and again", dir.name());
}

/// Waits until the lab has done everything that it can, and prints what it waits for.
fn settled(dir: &LabDir, client: &mut Client, wait: Wait) -> anyhow::Result<Status> {
    let ended = || format!("lab `{}` was ended by another command", dir.name());
    let mut progress = Progress::new(wait.quiet);
    let mut answered_at = Instant::now();
    let now = || ask::<Status>(dir, &Request::Status, Some(A_MOMENT)).map(|it| waiting(&it));
    loop {
        let left = wait.deadline.map(|it| it.saturating_duration_since(Instant::now()));
        if left.is_some_and(|it| it.is_zero()) {
            progress.clear();
            let state = now().map(|it| format!(": {it}")).unwrap_or_default();
            bail!(
                "lab `{0}` is not up in time{state}\nhint: it keeps running; see `conlink lab status -n {0}`",
                dir.name()
            );
        }
        let pause = left.unwrap_or(PATIENCE).min(progress.due_in()).min(PATIENCE);
        match client.next(Some(pause)) {
            Ok(status) => {
                progress.clear();
                return status.with_context(ended);
            }
            Err(error) if error.is::<TimedOut>() => {}
            Err(error) => {
                progress.clear();
                return Err(error).with_context(ended);
            }
        }
        let state = now();
        if state.is_ok() {
            answered_at = Instant::now();
        } else if answered_at.elapsed() > PATIENCE && dir.is_stopped() {
            progress.clear();
            return Err(Stopped(dir.name().to_owned()).into());
        }
        progress.show(|| match state {
            Ok(text) => format!("lab {}: {text}", dir.name()),
            Err(_) => format!("lab {}: waiting for its keeper", dir.name()),
        });
    }
}

/// Waits until the keeper has read the files, which takes time if it is busy.
fn accepted(dir: &LabDir, client: &mut Client) -> anyhow::Result<Option<Accepted>> {
    loop {
        match client.next(Some(PATIENCE)) {
            Err(error) if error.is::<TimedOut>() && dir.is_stopped() => {
                return Err(Stopped(dir.name().to_owned()).into());
            }
            Err(error) if error.is::<TimedOut>() => {}
            result => return result,
        }
    }
}

/// The keeper is stopped by a signal and does not answer.
#[derive(Debug, thiserror::Error)]
#[error("the keeper of lab `{0}` is stopped\nhint: `conlink lab down {0}` kills it")]
struct Stopped(String);

/// Whether the error is about the connection, not an answer of the keeper.
fn is_cut(error: &anyhow::Error) -> bool {
    error.chain().any(|it| it.is::<std::io::Error>())
}

/// Prints errors and a summary. The exit code is 0 if everything is as described. A program that ran and exited is
/// reported and does not count: whether that is before or after this moment is chance.
fn tell(dir: &LabDir, status: &Status, wait: Wait) -> anyhow::Result<u8> {
    if !wait.quiet {
        for process in status.nodes.iter().filter_map(|it| it.process.as_ref()) {
            process.notes.iter().for_each(|it| err(&format!("note: {}: {it}\n", process.name)));
        }
    }
    let exits = exits(status);
    let (exited, wrong): (Vec<_>, Vec<_>) = errors(status).into_iter().partition(|it| exits.contains(it));
    let kinds = exited.iter().map(|it| ("warning", it)).chain(wrong.iter().map(|it| ("error", it)));
    for (kind, error) in kinds {
        err(&format!("{kind}: {}\n", error.text));
        error.help.iter().for_each(|it| err(&format!("hint: {it}\n")));
    }
    let good = wrong.is_empty() && (status.state == Health::Connected || !exited.is_empty());
    if !wait.quiet {
        (wait.print)(&format!(
            "lab {} is up{}: {}, {}{}\n",
            dir.name(),
            if good { "" } else { " with errors" },
            counted(status.nodes.len(), "node"),
            counted(status.links(), "link"),
            if good { "; all links connected" } else { "" },
        ))?;
    }
    Ok(u8::from(!good))
}

/// Runs the command at our terminal. Returns its exit code.
fn in_front(dir: &LabDir, command: &[String], signals: &Signals) -> anyhow::Result<u8> {
    // A sealed copy is called by the path of the binary.
    let own = std::env::args_os().next().unwrap_or_default();
    let vars = [("CONLINK_LAB", dir.name()), ("CONLINK", own.to_str().unwrap_or("conlink"))];
    let shown = command.join(" ");
    let mut child = match Foreground::start(command, &vars, signals) {
        Ok(it) => it,
        Err(error) => {
            err(&format!("error: run `{shown}`: {error}\n"));
            // The convention of shells.
            return Ok(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 });
        }
    };
    let ended = child.wait().with_context(|| format!("wait for `{shown}`"))?;
    Ok(u8::try_from(ended.code()).unwrap_or(1))
}
