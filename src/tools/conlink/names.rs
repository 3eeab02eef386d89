//! Names for completion scripts: of labs, engines, nodes and links that are there when the Tab key is pressed.

use std::time::Duration;

use clap::{Arg, ArgAction, Command};

use crate::api::{Request, Status};
use crate::tools::conlink::client::{chosen_here, servers};
use crate::tools::conlink::socket::{Client, Kind, Server};

/// How long a lab or an engine may take to answer: as long as a person waits for the Tab key.
const PATIENCE: Duration = Duration::from_millis(500);

/// What an argument names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// A lab.
    Lab,
    /// An engine or a lab.
    Network,
    /// A node of a running network.
    Node,
    /// A node, or one of its links as NODE:INTERFACE.
    Link,
}

/// The names that fit the last of these words, which may be empty. The words before it are those of a command line of
/// `command`, without the program.
pub(super) fn fitting(command: &Command, words: &[String]) -> Vec<String> {
    let Some((last, before)) = words.split_last() else { return Vec::new() };
    let Some((what, network)) = wanted(command, before) else { return Vec::new() };
    let all = servers();
    let names = match what {
        What::Lab => all.iter().filter(|it| it.kind == Kind::Lab).map(|it| it.name.clone()).collect(),
        What::Network => all.iter().map(|it| it.name.clone()).collect(),
        What::Node | What::Link => {
            let chosen = chosen_here(network.as_deref()).unwrap_or_default();
            chosen.iter().filter_map(ask).flat_map(|it| nodes(&it, what)).collect::<Vec<_>>()
        }
    };
    names.into_iter().filter(|it| it.starts_with(last.as_str())).collect()
}

/// What the word after these words names, and the network that they choose. None if it names nothing that runs.
fn wanted(root: &Command, words: &[String]) -> Option<(What, Option<String>)> {
    let (mut command, mut path) = (root, Vec::new());
    let (mut count, mut network) = (0, None);
    let mut option: Option<&Arg> = None;
    for word in words {
        if let Some(it) = option.take() {
            if it.get_long() == Some("name") {
                network = Some(word.clone());
            }
        } else if word.len() > 1 && word.starts_with('-') {
            let found = command.get_arguments().find(|it| is_named(it, word));
            option = found.filter(|it| it.get_action().takes_values());
        } else if let (0, Some(it)) = (count, command.find_subcommand(word)) {
            path.push(it.get_name());
            command = it;
        } else {
            count += 1;
        }
    }
    let argument = match option {
        Some(it) => it,
        None => positional(command, count)?,
    };
    let what = match (argument.get_value_names()?.first()?.as_str(), path.first()) {
        ("NAME", Some(&"lab")) if argument.get_id() != "profile" => What::Lab,
        ("NAME", Some(&("status" | "diff" | "healthcheck" | "link"))) => What::Network,
        ("NODE" | "FROM" | "TO", _) => What::Node,
        ("NODE COMMAND", _) if count == 0 => What::Node,
        ("LINK", _) => What::Link,
        _ => return None,
    };
    Some((what, network))
}

/// Whether a word such as `-n` or `--name` is this option.
fn is_named(option: &Arg, word: &str) -> bool {
    match word.strip_prefix("--") {
        Some(long) => option.get_long_and_visible_aliases().unwrap_or_default().contains(&long),
        None => option.get_short().is_some_and(|it| word == format!("-{it}")),
    }
}

/// The positional argument that the word after `count` others belongs to.
fn positional(command: &Command, count: usize) -> Option<&Arg> {
    let last = command.get_positionals().last()?;
    let takes_rest = matches!(last.get_action(), ArgAction::Append);
    command.get_positionals().nth(count).or(takes_rest.then_some(last))
}

fn ask(server: &Server) -> Option<Status> {
    Client::ask(server, &Request::Status).ok()?.next(Some(PATIENCE)).ok()?
}

/// The nodes by the shortest name that commands take: SERVICE, SERVICE-INDEX of several replicas, or the container's.
fn nodes(status: &Status, what: What) -> Vec<String> {
    let mut names = Vec::new();
    for node in &status.nodes {
        let replicas = status.nodes.iter().filter(|it| it.service == node.service).count();
        let name = match &node.service {
            None => node.name.clone(),
            Some(it) if replicas == 1 => it.clone(),
            Some(it) => format!("{it}-{}", node.index),
        };
        if what == What::Link {
            names.extend(node.links.iter().map(|it| format!("{name}:{}", it.dev)));
        }
        names.push(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_tells_what_the_next_word_names() {
        let cases = [
            ("lab exec", Some((What::Node, None))),
            ("lab exec r1", None),
            ("lab exec r1 ping", None),
            ("lab exec -n", Some((What::Lab, None))),
            ("lab exec --name demo", Some((What::Node, Some("demo")))),
            ("lab logs a b", Some((What::Node, None))),
            ("lab ping a", Some((What::Node, None))),
            ("lab ping a b", None),
            ("lab down", Some((What::Lab, None))),
            ("lab up", None),
            ("lab up --profile", None),
            ("lab up -v -n", Some((What::Lab, None))),
            ("status --name", Some((What::Network, None))),
            ("diff", Some((What::Network, None))),
            ("link down -n demo", Some((What::Link, Some("demo")))),
            ("-n", None),
        ];
        let command = crate::tools::conlink::Cli::command();
        for (line, expected) in cases {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let expected = expected.map(|(what, network)| (what, network.map(str::to_owned)));
            assert_eq!(wanted(&command, &words), expected, "{line}");
        }
    }
}
