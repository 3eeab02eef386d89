//! `lab exec`: a command in a node, at our terminal.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::api::{Entrance, Request};
use crate::process::node::{Entry, Setup, User, enter};
use crate::tools::conlink::client::PATIENCE;
use crate::tools::conlink::lab::dir::LabDir;
use crate::tools::conlink::lab::{NameArgs, asked};
use crate::tools::environment;

/// Which node, and what to run in it.
#[derive(Debug, Args)]
pub(in crate::tools::conlink) struct ExecArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Run it where the bridges are: NODE is left out then
    #[arg(long)]
    bridges: bool,
    /// Set a variable for the command
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// The folder to run it in [default: that of the node's own program]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// The node (a service, SERVICE-INDEX, or a container's name), the command, and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "NODE COMMAND")]
    words: Vec<String>,
}

/// How to get into a node.
pub(super) struct Way {
    pub(super) pidfd: OwnedFd,
    /// What its own program has.
    pub(super) setup: Setup,
    /// It is in another user namespace than we are.
    pub(super) other_user: bool,
    /// The lab's user namespace, as `/proc/PID/ns/user` tells it.
    pub(super) user_namespace: String,
    /// What the node is called.
    pub(super) name: String,
}

pub(super) fn exec(args: &ExecArgs) -> anyhow::Result<u8> {
    let dir = args.name.dir()?;
    let mut words = args.words.clone();
    let node = if args.bridges { None } else { Some(words.remove(0)) };
    if words.first().is_some_and(|it| it == "--") {
        words.remove(0);
    }
    if words.is_empty() {
        words.push("sh".to_owned());
    }
    let mut way = way(&dir, node.as_deref())?;
    way.setup.argv = words;
    for it in &args.env {
        let Some((name, value)) = it.split_once('=') else {
            anyhow::bail!("--env {it}: a name and a value are due, like `LEVEL=3`");
        };
        way.setup.env.retain(|(known, _)| known != name);
        way.setup.env.push((name.to_owned(), value.to_owned()));
    }
    if let Some(folder) = &args.workdir {
        way.setup.folder.clone_from(folder);
    } else if args.bridges {
        way.setup.folder = std::env::current_dir().unwrap_or_default();
    }
    if args.bridges {
        way.setup.env.extend(environment());
    }
    // The terminal that we are at now is what counts for the command.
    if let Ok(term) = std::env::var("TERM") {
        way.setup.env.retain(|(known, _)| known != "TERM");
        way.setup.env.push(("TERM".to_owned(), term));
    }
    let entry = match node {
        Some(_) => Entry::Node { user: way.other_user },
        None => Entry::Network { user: way.other_user },
    };
    let what = || format!("enter {}", way.name);
    let ended = enter(&way.pidfd, entry, &way.setup).with_context(what)?;
    Ok(u8::try_from(ended.code()).unwrap_or(1))
}

/// Asks a lab's keeper for the way into a node, or to where the bridges are.
pub(super) fn way(dir: &LabDir, node: Option<&str>) -> anyhow::Result<Way> {
    let request = Request::Enter { node: node.map(str::to_owned) };
    let (entrance, file): (Entrance, _) = asked(dir, &request)?.next_with_file(PATIENCE)?;
    let pidfd = file.context("the lab's keeper sent no way into the node")?;
    let user = entrance.user.map(|it| User { uid: it.uid, gid: it.gid, groups: it.groups });
    let env = entrance.env.into_iter().collect();
    let setup = Setup { env, folder: entrance.folder, user, ..Setup::default() };
    let ours = std::fs::read_link("/proc/self/ns/user").context("tell our user namespace")?;
    let user_namespace = entrance.user_namespace;
    let other_user = ours.to_str() != Some(user_namespace.as_str());
    Ok(Way { pidfd, setup, other_user, user_namespace, name: entrance.name })
}
