//! The choice of a lab, and requests to it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde::de::DeserializeOwned;

use crate::api::Request;
use crate::tools::conlink::lab::args::current;
use crate::tools::conlink::lab::ask::{Reading, reading_of};
use crate::tools::conlink::lab::dir::{LabDir, names};
use crate::tools::conlink::socket::Client;

/// The options that choose a lab.
#[derive(Clone, Debug, Args)]
pub(in crate::tools::conlink) struct NameArgs {
    /// Name of the lab [default: CONLINK_LAB, otherwise the project of the compose files in this folder]
    #[arg(short, long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Compose file of the lab's project, for a lab without --name
    #[arg(short, long = "file", alias = "compose-file", value_name = "FILE", value_delimiter = ':')]
    pub(super) file: Vec<PathBuf>,
}

/// Whether a command may use a lab that is perhaps not meant: the only running one when nothing names a lab, and one that
/// has the name of the project but was started in another folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guess {
    Allowed,
    Refused,
}

/// The same, or the name as an argument.
#[derive(Debug, Args)]
pub(super) struct LabArgs {
    /// Name of the lab, as with --name
    #[arg(value_name = "NAME", conflicts_with = "name")]
    lab: Option<String>,
    #[command(flatten)]
    name: NameArgs,
}

impl LabArgs {
    pub(super) fn find(self, guess: Guess) -> anyhow::Result<LabDir> {
        NameArgs { name: self.name.name.or(self.lab), ..self.name }.find(guess)
    }
}

impl NameArgs {
    /// The lab for a command that changes nothing if it is the wrong one.
    pub(super) fn dir(&self) -> anyhow::Result<LabDir> {
        self.find(Guess::Allowed)
    }

    /// The lab of that name or those files, otherwise of CONLINK_LAB, otherwise of the compose project in the working
    /// directory, otherwise, where that is allowed, the only running one.
    pub(super) fn find(&self, guess: Guess) -> anyhow::Result<LabDir> {
        if let Some(name) = &self.name {
            return LabDir::find(name);
        }
        if !self.file.is_empty() {
            let reading = reading_of(&self.file)?;
            return guess.of_project(LabDir::find(&reading.name)?, &reading);
        }
        if let Some(name) = current() {
            return LabDir::find(&name);
        }
        let labs = LabDir::all();
        let reading = reading_of(&[]).ok();
        if let Some(reading) = &reading
            && let Some(it) = labs.iter().find(|lab| lab.name() == reading.name)
        {
            return guess.of_project(it.clone(), reading);
        }
        if labs.is_empty() {
            bail!("no lab is running\nhint: `conlink lab up` starts one");
        }
        if let ([one], Guess::Allowed) = (labs.as_slice(), guess) {
            return Ok(one.clone());
        }
        let what = match &reading {
            Some(it) => format!("lab `{}` of the compose file in this folder is not running", it.name),
            None => "no compose file in this folder names the lab".to_owned(),
        };
        let hint = match guess {
            Guess::Allowed => "choose a lab with `--name <NAME>`",
            Guess::Refused => "`conlink lab down <NAME>` ends a lab of another folder",
        };
        bail!("{what}; running labs: {}\nhint: {hint}", names(&labs))
    }
}

impl Guess {
    /// The lab with the name of the project that was read.
    fn of_project(self, lab: LabDir, reading: &Reading) -> anyhow::Result<LabDir> {
        match lab.project() {
            Some(other) if self == Self::Refused && other != reading.folder() => bail!(
                "lab `{0}` was started with the files in {1}\nhint: `conlink lab down {0}` ends it anyway",
                lab.name(),
                other.display()
            ),
            _ => Ok(lab),
        }
    }
}

/// Sends a request to the lab's keeper and returns the answer. Without a limit it waits forever.
pub(super) fn ask<T: DeserializeOwned>(
    dir: &LabDir,
    request: &Request,
    limit: Option<Duration>,
) -> anyhow::Result<T> {
    asked(dir, request)?.next(limit)?.with_context(|| format!("lab `{}` has ended", dir.name()))
}

pub(super) fn asked(dir: &LabDir, request: &Request) -> anyhow::Result<Client> {
    if !dir.is_kept() {
        bail!("lab `{}` is not running; `conlink lab up` starts it", dir.name());
    }
    Client::ask(&dir.server(), request)
}
