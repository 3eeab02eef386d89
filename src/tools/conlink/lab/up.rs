//! `lab up` and `lab run`.

use std::io::PipeReader;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::api::{Accepted, Health, Status};
use crate::config::Scope;
use crate::daemon::LAB_ENDS;
use crate::process::node::{self, wait_for_end};
use crate::process::{Foreground, Signals};
use crate::tools::color::Color;
use crate::tools::conlink::client::Client;
use crate::tools::conlink::lab::ask::{Ask, Reading};
use crate::tools::conlink::lab::dir::LabDir;
use crate::tools::conlink::lab::{UpArgs, down, keeper};
use crate::tools::conlink::report;
use crate::tools::conlink::status::{count, errors};
use crate::{err, out};

/// How long the end of a lab takes whose nodes take none.
const A_MOMENT: Duration = Duration::from_secs(1);

pub(super) fn up(args: &UpArgs) -> anyhow::Result<u8> {
    let ask = Ask::of(args)?;
    let Some(reading) = checked(&ask, args.files.color)? else { return Ok(1) };
    let dir = LabDir::make(&reading.name)?;
    start(&dir, &ask, args.verbosity.quiet, &mut None)
}

/// Runs a command beside a lab that lives as long as this does, however it ends.
pub(super) fn run(args: &UpArgs, command: &[String]) -> anyhow::Result<u8> {
    let ask = Ask::of(args)?;
    let Some(reading) = checked(&ask, args.files.color)? else { return Ok(1) };
    let dir = LabDir::make(&reading.name)?;
    // Held here; the keeper ends the lab when it is closed, be it by our end.
    let (theirs, ours) = std::io::pipe().context("make a pipe")?;
    let mut tie = Some(theirs);
    let started = start(&dir, &ask, args.verbosity.quiet, &mut tie);
    if tie.is_some() {
        // The lab is another's.
        return started;
    }
    // Not before: the keeper would have them held back too. An error closes `ours`, which ends the lab.
    let signals = Signals::hold().context("hold back signals")?;
    let code = match started {
        Ok(0) => in_front(&dir, command, &signals),
        other => other,
    };
    let ended = end(&dir, &signals);
    drop(ours);
    let code = code?;
    Ok(ended?.unwrap_or(code))
}

/// Ends the lab; a signal that comes meanwhile kills it, so that its nodes are not waited for. Answers the exit code that
/// such a signal makes.
fn end(dir: &LabDir, signals: &Signals) -> anyhow::Result<Option<u8>> {
    // Opened now: a keeper that comes later is another lab's.
    let Some(keeper) = dir.keeper() else { return down::down(dir).map(|_| None) };
    let (over, ending) = std::io::pipe().context("make a pipe")?;
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let signal = signal_before(signals, &over)?;
            if signal.is_some() {
                node::signal(keeper.as_fd(), libc::SIGKILL);
            }
            anyhow::Ok(signal)
        });
        let ended = down::down(dir);
        drop(ending);
        let signal = watcher.join().unwrap_or_else(|_| Err(anyhow::anyhow!("watch for signals: panicked")));
        ended?;
        // As shells count.
        Ok(signal?.map(|it| 128 + it))
    })
}

/// The number of the next signal that would end us; None when the pipe's other end is closed before.
fn signal_before(signals: &Signals, over: &PipeReader) -> anyhow::Result<Option<u8>> {
    loop {
        let mut files = [signals.as_fd(), over.as_fd()].map(|it| PollFd::new(it, PollFlags::POLLIN));
        match poll(&mut files, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error).context("wait for signals"),
        }
        if let Some(signal) = signals.next(&[]).context("read signals")?.ending {
            return Ok(Some(signal));
        }
        if files.last().and_then(PollFd::any).unwrap_or_default() {
            return Ok(None);
        }
    }
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

/// Makes the lab what is asked for, with a keeper where it has none. With `tie` it must have none.
fn start(dir: &LabDir, ask: &Ask, quiet: bool, tie: &mut Option<PipeReader>) -> anyhow::Result<u8> {
    let to_be_tied = tie.is_some();
    for _ in 0..10 {
        let claim = dir.claim()?;
        match dir.keeper() {
            // Another one would not end with us.
            None if to_be_tied && tie.is_none() => {
                anyhow::bail!("lab `{}` was ended meanwhile", dir.name());
            }
            // What is left is of one whose keeper was killed.
            None => {
                down::clear(dir)?;
                keeper::start(dir, &claim, tie.take())?;
            }
            Some(keeper) if tie.is_some() => {
                drop(claim);
                if wait_for_end(keeper.as_fd(), A_MOMENT).context("wait for the lab to end")? {
                    continue;
                }
                anyhow::bail!(
                    "lab `{0}` is up already: end it (`conlink lab down -n {0}`), or give this one another --name",
                    dir.name()
                );
            }
            Some(_) => {}
        }
        let asked = Client::ask(&dir.server(), &ask.request());
        drop(claim);
        // It has listened, so where it does no more it is about to end.
        let Ok(mut client) = asked else {
            down::end(dir)?;
            continue;
        };
        match client.next::<Accepted>(None) {
            Ok(Some(_)) => {}
            Err(error) if error.to_string() != LAB_ENDS && !is_cut(&error) => return Err(error),
            Ok(None) | Err(_) => {
                down::end(dir)?;
                continue;
            }
        }
        let ended = || format!("lab `{}` has ended meanwhile", dir.name());
        let status = client.next(None).with_context(ended)?.with_context(ended)?;
        return tell(dir, &status, quiet);
    }
    anyhow::bail!("lab `{}` is ended again and again", dir.name());
}

/// Is it about the connection, and not something that the keeper has to say?
fn is_cut(error: &anyhow::Error) -> bool {
    error.chain().any(|it| it.is::<std::io::Error>())
}

/// Says how the lab is; the exit code is 0 where everything is as described.
fn tell(dir: &LabDir, status: &Status, quiet: bool) -> anyhow::Result<u8> {
    for process in status.nodes.iter().filter_map(|it| it.process.as_ref()).filter(|_| !quiet) {
        process.notes.iter().for_each(|it| err(&format!("note: {}: {it}\n", process.name)));
    }
    for error in errors(status) {
        err(&format!("error: {}\n", error.text));
        error.help.iter().for_each(|it| err(&format!("hint: {it}\n")));
    }
    let good = status.state == Health::Connected;
    if quiet {
        return Ok(u8::from(!good));
    }
    out(&format!(
        "lab {} is up: {}, {}{}\n",
        dir.name(),
        count(status.nodes.len(), "node"),
        count(status.links(), "link"),
        if good { "; all links connected" } else { "; not everything is as described" },
    ))?;
    Ok(u8::from(!good))
}

/// Runs the command with our terminal, and answers its exit code.
fn in_front(dir: &LabDir, command: &[String], signals: &Signals) -> anyhow::Result<u8> {
    let own = std::env::current_exe().unwrap_or_default();
    let vars = [("CONLINK_LAB", dir.name()), ("CONLINK", own.to_str().unwrap_or("conlink"))];
    let shown = command.join(" ");
    let mut child = match Foreground::start(command, &vars, signals) {
        Ok(it) => it,
        Err(error) => {
            err(&format!("error: run `{shown}`: {error}\n"));
            // As shells have it.
            return Ok(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 });
        }
    };
    let ended = child.wait().with_context(|| format!("wait for `{shown}`"))?;
    Ok(u8::try_from(ended.code()).unwrap_or(1))
}

/// The name of the compose project of the working folder, where it has one.
pub(in crate::tools::conlink) fn project_here() -> Option<String> {
    Ask::here().ok()?.read().ok().map(|it| it.name)
}
