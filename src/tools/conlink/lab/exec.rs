//! `lab exec`: runs a command in a node, at our terminal.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::api::{BadAnswer, Entrance, Nodes, Request};
use crate::process::node::{Entry, Privileges, Setup, User, enter};
use crate::tools::conlink::lab::dir::LabDir;
use crate::tools::conlink::lab::which::{NameArgs, ask, asked};
use crate::tools::conlink::socket::PATIENCE;
use crate::tools::environment;

#[derive(Debug, Args)]
pub(in crate::tools::conlink) struct ExecArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Run the command in the network namespace of the bridges; omit NODE
    #[arg(long)]
    bridges: bool,
    /// Set an environment variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Working directory [default: that of the node's program]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// Node (SERVICE, SERVICE-INDEX or a container name), then the command and its arguments [default command: sh]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "NODE COMMAND")]
    words: Vec<String>,
}

/// What is needed to enter a node.
pub(super) struct Way {
    pub(super) pidfd: OwnedFd,
    /// The environment of its program.
    pub(super) setup: Setup,
    /// It is in another user namespace than this process.
    pub(super) other_user: bool,
    /// The lab's user namespace, as the link `/proc/PID/ns/user` reads.
    pub(super) user_namespace: String,
    /// The short name of the node.
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
            anyhow::bail!("--env {it}: expected NAME=VALUE");
        };
        way.setup.env.retain(|(known, _)| known != name);
        way.setup.env.push((name.to_owned(), value.to_owned()));
    }
    if let Some(folder) = &args.workdir {
        way.setup.folder.clone_from(folder);
        way.setup.needs_folder = true;
    } else if args.bridges {
        way.setup.folder = std::env::current_dir().unwrap_or_default();
    }
    if args.bridges {
        way.setup.env.extend(environment());
    }
    // The command runs at our terminal, not at that of `lab up`.
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

/// The first process of a node.
pub(in crate::tools::conlink) struct NodeProcess {
    pub(in crate::tools::conlink) pidfd: OwnedFd,
    /// The short name of the node.
    pub(in crate::tools::conlink) name: String,
}

/// Asks the keeper of a lab for the first process of a node. The inner error says that the lab or the node does not exist.
pub(in crate::tools::conlink) fn node_process(
    lab: &str,
    node: &str,
) -> anyhow::Result<Result<NodeProcess, String>> {
    let dir = match LabDir::find(lab) {
        Ok(it) if it.is_kept() => it,
        Ok(_) => return Ok(Err(format!("lab `{lab}` is not running"))),
        Err(absence) => return Ok(Err(absence.to_string())),
    };
    let request = Request::Find { nodes: vec![node.to_owned()] };
    match ask::<Nodes>(&dir, &request, Some(PATIENCE)) {
        Ok(_) => {}
        Err(error) => match error.downcast::<BadAnswer>() {
            Ok(BadAnswer::Refused(absence)) => return Ok(Err(format!("lab `{lab}`: {absence}"))),
            Ok(other) => return Err(other.into()),
            Err(error) => return Err(error),
        },
    }
    let Way { pidfd, name, .. } = way(&dir, Some(node))?;
    Ok(Ok(NodeProcess { pidfd, name }))
}

/// Asks the keeper of a lab for the way into a node; None: into the namespace of the bridges.
pub(super) fn way(dir: &LabDir, node: Option<&str>) -> anyhow::Result<Way> {
    let request = Request::Enter { node: node.map(str::to_owned) };
    let (entrance, file): (Entrance, _) = asked(dir, &request)?.next_with_file(PATIENCE)?;
    let pidfd = file.context("the answer of the lab's keeper has no file descriptor")?;
    let user = entrance.user.map(|it| User { uid: it.uid, gid: it.gid, groups: it.groups });
    let env = entrance.env.into_iter().collect();
    let privileges = Privileges { capabilities: entrance.capabilities, filtered: entrance.filtered };
    let setup = Setup { env, folder: entrance.folder, user, privileges, ..Setup::default() };
    let ours = std::fs::read_link("/proc/self/ns/user").context("read our user namespace")?;
    let user_namespace = entrance.user_namespace;
    let other_user = ours.to_str() != Some(user_namespace.as_str());
    Ok(Way { pidfd, setup, other_user, user_namespace, name: entrance.name })
}
