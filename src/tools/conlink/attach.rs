//! `conlink attach`, `detach` and `attachments`: one interface of one container, at once.

mod args;
mod guests;
mod list;
mod request;

use std::fs::File;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use crate::addr::Cidr;
use crate::attach::{self, Attachment, Done, Found, Refusal};
use crate::tools::conlink::guest::Guest;
use crate::{Usage, err, out};

use guests::{attachments_of, tell_guest};

pub(super) use args::AttachArgs;
pub(super) use list::AttachmentsArgs;

/// The exit code if the kernel lacks a feature.
pub(in crate::tools) const UNSUPPORTED: u8 = 4;

/// How long to wait between two looks at the carrier.
const PAUSE: Duration = Duration::from_millis(5);

/// Makes the interface. The exit code is 0 if it is as requested.
pub(super) fn main(args: &AttachArgs) -> anyhow::Result<u8> {
    let found = match args.guest.resolve() {
        Ok(it) => it,
        Err(error) => return Ok(tell_guest(&error)),
    };
    let dhcp = args.dhcp(&found);
    let request = args.request(attach::Guest { kind: found.kind.to_owned(), name: found.name })?;
    if args.dry_run {
        return match attach::preview(found.netns, &request, args.how()) {
            Ok(plan) if plan.problems.is_empty() => out(&plan.to_string()).map(|()| 0),
            Ok(plan) => {
                out(&plan.to_string())?;
                Ok(1)
            }
            Err(refusal) => Ok(tell_refusal(&refusal)),
        };
    }
    let netns = found.netns.try_clone()?;
    let done = match attach::attach(found.netns, &request, args.how()) {
        Ok(it) => it,
        Err(refusal) => return Ok(tell_refusal(&refusal)),
    };
    let mut addrs = request.addrs.clone();
    if let Some(dhcp) = dhcp {
        match dhcp.run(&netns, &request.dev) {
            Ok(it) => addrs.push(it),
            Err(error) => return undo(&netns, &request, done, &error),
        }
    }
    out(&if args.json { as_json(&request, done, &addrs) } else { in_words(&request, done, &addrs) })?;
    match args.wait_up.filter(|it| !is_up_within(&netns, &request, *it)) {
        Some(_) => {
            err(&format!("error: interface `{}` has no carrier\n", request.dev));
            Ok(1)
        }
        None => Ok(0),
    }
}

/// Prints why there is no lease, and removes the interface if it was made for it. Returns the exit code.
fn undo(netns: &File, it: &Attachment, done: Done, error: &anyhow::Error) -> anyhow::Result<u8> {
    err(&format!("error: {error:#}\n"));
    if done == Done::Made
        && let Err(refusal) = attach::undo(netns, &it.guest, &it.dev)
    {
        tell_refusal(&refusal);
    }
    Ok(1)
}

fn in_words(it: &Attachment, done: Done, addrs: &[Cidr]) -> String {
    let done = match done {
        Done::Unchanged => "unchanged",
        Done::Made => "attached",
        Done::Changed => "changed",
    };
    let mut text = format!("{done}: {} {}", it.guest, it.dev);
    for addr in addrs {
        text += &format!(" {addr}");
    }
    text + "\n"
}

fn as_json(it: &Attachment, done: Done, addrs: &[Cidr]) -> String {
    let done = match done {
        Done::Unchanged => "unchanged",
        Done::Made => "made",
        Done::Changed => "changed",
    };
    let addrs: Vec<String> = addrs.iter().map(ToString::to_string).collect();
    let value = json!({
        "guest": it.guest.to_string(),
        "dev": it.dev.as_str(),
        "result": done,
        "addresses": addrs,
    });
    format!("{value}\n")
}

/// Waits until the interface is up with a carrier. Returns false after the time.
fn is_up_within(netns: &File, it: &Attachment, time: Duration) -> bool {
    let end = Instant::now() + time;
    loop {
        match attach::has_carrier(netns, &it.dev) {
            Ok(true) => return true,
            _ if Instant::now() >= end => return false,
            _ => std::thread::sleep(PAUSE),
        }
    }
}

/// Prints why nothing was done. Returns the exit code.
pub(in crate::tools) fn tell_refusal(refusal: &Refusal) -> u8 {
    let mut hints: Vec<String> = Vec::new();
    match refusal {
        Refusal::Failed(failures) => {
            for it in failures {
                err(&format!("error: {}: {}\n", it.subject, it.message));
                hints.extend(it.help.clone());
            }
        }
        Refusal::Differs { guest, dev, differences, must_be_anew } => {
            err(&format!(
                "error: {guest} already has an interface `{dev}`, which differs from the request:\n"
            ));
            for it in differences {
                err(&format!("  {it}\n"));
            }
            hints.push(match must_be_anew {
                true => "`--replace` makes it anew".to_owned(),
                false => "`--ensure` changes it in place".to_owned(),
            });
        }
        Refusal::Impossible(it) => {
            err(&format!("error: {it}\n"));
            hints.extend(it.help.clone());
        }
        Refusal::Kernel(it) => {
            err(&format!("error: {it}\n"));
            hints.extend(it.hint().map(str::to_owned));
        }
        Refusal::State(..) => err(&format!("error: {refusal}\n")),
    }
    hints.dedup();
    hints.iter().for_each(|it| err(&format!("hint: {it}\n")));
    match refusal {
        Refusal::Failed(failures) if failures.iter().all(|it| it.is_unsupported) => UNSUPPORTED,
        Refusal::Kernel(it) if it.is_unsupported() => UNSUPPORTED,
        _ => 1,
    }
}

/// Remove interfaces that `attach` or `pipework` made
#[derive(Debug, Args)]
pub(super) struct DetachArgs {
    /// Container, process or network namespace, as for `attach`; it may have died
    #[arg(value_name = "GUEST", value_parser = Guest::parse)]
    guest: Guest,
    /// Interface in the guest
    #[arg(short, long, value_name = "NAME", default_value = "eth1", conflicts_with = "all")]
    dev: String,
    /// Remove all of them
    #[arg(long)]
    all: bool,
}

/// Removes interfaces. The exit code is 0 if there are none afterwards.
pub(super) fn detach(args: &DetachArgs) -> anyhow::Result<u8> {
    let dev = (!args.all).then_some(args.dev.as_str());
    remove(&args.guest, dev, |it| out(&format!("detached: {} {}\n", it.guest, it.dev)))
}

/// Removes one interface of a guest, or all of them. Returns the exit code.
pub(in crate::tools) fn remove(
    guest: &Guest,
    dev: Option<&str>,
    done: impl Fn(&Found) -> anyhow::Result<()>,
) -> anyhow::Result<u8> {
    let resolved = guest.resolve();
    let is_chosen = |it: &&Found| dev.is_none_or(|dev| it.dev.as_str() == dev);
    let mut all = match &resolved {
        Ok(guest) => attach::find_in(&guest.netns)?,
        Err(_) => Vec::new(),
    };
    // An earlier guest of that name may have left something.
    if !all.iter().any(|it| is_chosen(&it)) || dev.is_none() {
        all = attachments_of(guest, &resolved)?;
    }
    let chosen: Vec<&Found> = all.iter().filter(is_chosen).collect();
    if chosen.is_empty() {
        // Without the guest there may be nothing left.
        if let Err(error) = &resolved {
            return Ok(tell_guest(error));
        }
        let Some(dev) = dev else { return Ok(0) };
        let devs: Vec<&str> = all.iter().map(|it| it.dev.as_str()).collect();
        let others = if devs.is_empty() { String::new() } else { format!("; it has {}", devs.join(", ")) };
        err(&format!("error: {guest} has no interface `{dev}` that conlink attached{others}\n"));
        return Ok(1);
    }
    let mut code = 0;
    for it in chosen {
        match attach::detach(it) {
            Ok(()) => done(it)?,
            Err(refusal) => code = code.max(tell_refusal(&refusal)),
        }
    }
    Ok(code)
}

pub(super) fn list(args: &AttachmentsArgs) -> anyhow::Result<u8> {
    list::main(args)
}

/// A usage error.
fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}
