//! `wait`: waits for interfaces, addresses, files or ports, then runs a command.
//!
//! The kernel notifies of changes of interfaces, addresses, routes and files; everything else is tried repeatedly. One
//! thread does all of this, but names are resolved on threads of their own.

mod args;
mod attempts;
mod check;
mod condition;
mod files;
mod host;
mod http;
mod lookup;
mod network;
mod pause;
mod run;
mod say;
mod shell;
mod tries;

use std::ffi::OsString;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::process::Signals;
use crate::tools::exec::exec;
use args::OnTimeout;
use run::End;
use say::Say;

/// The exit code after a timeout, as of `timeout(1)`.
const TIMEOUT: u8 = 124;

/// Added to the number of a signal that ends the program, as in shells.
const SIGNALLED: u8 = 128;

pub(crate) fn command() -> clap::Command {
    args::command()
}

pub(crate) fn main(args: Vec<OsString>) -> anyhow::Result<u8> {
    let started = Instant::now();
    let plan = match args::parse(args, |name| std::env::var_os(name)) {
        Ok(it) => it,
        Err(bad) => return bad.print(),
    };
    let say = Say { quiet: plan.quiet, json: plan.json, stdout: plan.stdout, started };
    let signals = Signals::hold().context("block signals")?;
    match run::wait(&plan, &say, &signals)? {
        End::Held => {}
        End::Signal(signal) => return Ok(SIGNALLED.saturating_add(signal)),
        End::Timeout(missing) => {
            say.timeout(plan.timeout.unwrap_or(Duration::ZERO), &missing);
            if plan.on_timeout == OnTimeout::Fail {
                return Ok(TIMEOUT);
            }
        }
    }
    say.running(&plan.command);
    if let Some(signal) = signals.release().context("unblock signals")? {
        return Ok(SIGNALLED.saturating_add(signal));
    }
    Ok(exec(&plan.command))
}
