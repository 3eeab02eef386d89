//! `lab up` and `lab run`.

use std::io::PipeReader;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use crate::process::{Foreground, node};
use crate::tools::conlink::client::Client;
use crate::tools::conlink::lab::ask::{Ask, Reading};
use crate::tools::conlink::lab::place::{Claim, Place};
use crate::tools::conlink::lab::{UpArgs, down, keeper};
use crate::tools::conlink::report;
use crate::tools::conlink::status::{count, errors};
use crate::{err, out};

pub(super) fn up(args: &UpArgs) -> anyhow::Result<u8> {
    let ask = Ask::of(args)?;
    let Some(reading) = checked(&ask)? else { return Ok(1) };
    let place = Place::make(&reading.name)?;
    let claim = place.claim()?;
    start(&place, claim, &ask, None)
}

/// Runs a command beside a lab that lives as long as this does, however it ends.
pub(super) fn run(args: &UpArgs, command: &[String]) -> anyhow::Result<u8> {
    let ask = Ask::of(args)?;
    let Some(reading) = checked(&ask)? else { return Ok(1) };
    let place = Place::make(&reading.name)?;
    // Before the question, so that nobody starts it in between.
    let claim = place.claim()?;
    if place.is_kept() {
        anyhow::bail!(
            "lab `{0}` is up already: end it (`conlink lab down -n {0}`), or give this one another --name",
            place.name()
        );
    }
    // Held here; the keeper ends the lab when it is closed, be it by our end.
    let (theirs, ours) = std::io::pipe().context("make a pipe")?;
    let code = match start(&place, claim, &ask, Some(theirs)) {
        Ok(0) => in_front(&place, command),
        other => other,
    };
    let ended = down::down(&place).map(|_| ());
    drop(ours);
    let code = code?;
    ended.map(|()| code)
}

/// Reads the files and tells what is wrong with them: then nothing is started.
fn checked(ask: &Ask) -> anyhow::Result<Option<Reading>> {
    let reading = ask.read()?;
    if reading.described.diagnostics.is_empty() {
        return Ok(Some(reading));
    }
    report(&reading.described);
    Ok(None)
}

fn start(place: &Place, claim: Claim, ask: &Ask, tie: Option<PipeReader>) -> anyhow::Result<u8> {
    let mut claim = claim;
    if let Some(keeper) = place.keeper() {
        match applied(place, claim, ask) {
            // One that was about to end when we asked makes room for another.
            Err(error) if node::wait_for_end(keeper.as_fd(), ENDING)? => {
                log::debug!("ask the lab: {error:#}")
            }
            answer => return tell(place, &answer?),
        }
        claim = place.claim()?;
    }
    if !place.is_kept() {
        // Of a lab whose keeper was killed.
        down::clear(place)?;
        keeper::start(place, &claim, tie)?;
    }
    tell(place, &applied(place, claim, ask)?)
}

/// Has the lab made what is asked for; answers how it is then.
fn applied(place: &Place, claim: Claim, ask: &Ask) -> anyhow::Result<Value> {
    let mut answer = Client::ask(&place.server(), &ask.to_json())?;
    drop(claim);
    answer.next(None)?.with_context(|| format!("lab `{}` has ended meanwhile", place.name()))
}

/// How long a keeper that refuses may take to its end.
const ENDING: Duration = Duration::from_millis(500);

/// Says how the lab is; the exit code is 0 where everything is as described.
fn tell(place: &Place, status: &Value) -> anyhow::Result<u8> {
    let list =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let text =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let nodes = list(status, "nodes");
    let mut links = 0;
    for node in &nodes {
        links += list(node, "links").len();
        let Some(process) = node.get("process") else { continue };
        for note in list(process, "notes") {
            err(&format!("note: {}: {}\n", text(process, "name"), note.as_str().unwrap_or_default()));
        }
    }
    for error in errors(status) {
        err(&format!("error: {}\n", error.text));
        error.help.iter().for_each(|it| err(&format!("hint: {it}\n")));
    }
    let good = text(status, "state") == "connected";
    out(&format!(
        "lab {} is up: {}, {}{}\n",
        place.name(),
        count(nodes.len(), "node"),
        count(links, "link"),
        if good { "; all links connected" } else { "; not everything is as described" },
    ))?;
    Ok(u8::from(!good))
}

/// Runs the command with our terminal, and answers its exit code.
fn in_front(place: &Place, command: &[String]) -> anyhow::Result<u8> {
    let own = std::env::current_exe().unwrap_or_default();
    let vars = [("CONLINK_LAB", place.name()), ("CONLINK", own.to_str().unwrap_or("conlink"))];
    let shown = command.join(" ");
    let mut child = match Foreground::start(command, &vars) {
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
pub(super) fn project_here() -> Option<String> {
    Ask::here().ok()?.read().ok().map(|it| it.name)
}
