//! `conlink healthcheck`: whether an engine or a lab is healthy, for the HEALTHCHECK of an image.

use anyhow::bail;
use clap::Args;

use crate::api::{Health, Request, Status};
use crate::tools::conlink::client::{self, Which};
use crate::tools::conlink::socket::{self, Server};
use crate::tools::conlink::status::errors;
use crate::words::counted;
use crate::{err, out};

/// The number of errors on the line; `conlink status` has all of them.
const NAMED: usize = 3;

/// Check that everything is connected (exit code 0 or 1)
#[derive(Debug, Args)]
pub(super) struct HealthcheckArgs {
    #[command(flatten)]
    which: Which,
    /// Print errors only
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn main(args: &HealthcheckArgs) -> anyhow::Result<u8> {
    let servers = args.which.servers()?;
    let (server, status) = match servers.as_slice() {
        [server] => (server, socket::ask(server, &Request::Status)?),
        // Killed engines leave sockets behind, which do not make the choice ambiguous.
        several => {
            let answers = several.iter().map(|it| (it, socket::ask(it, &Request::Status)));
            let living: Vec<(&Server, Status)> =
                answers.filter_map(|(server, answer)| Some((server, answer.ok()?))).collect();
            match <[_; 1]>::try_from(living) {
                Ok([one]) => one,
                Err(living) if living.is_empty() => bail!("none of {} answers", client::list(several)),
                Err(living) => {
                    let living: Vec<Server> = living.into_iter().map(|(it, _)| it.clone()).collect();
                    bail!("several are running; choose one by name: {}", client::list(&living));
                }
            }
        }
    };
    match why_not(&status) {
        None if args.quiet => Ok(0),
        None => {
            let (nodes, links) = (counted(status.nodes.len(), "node"), counted(status.links(), "link"));
            out(&format!("{server}: connected, {nodes}, {links}\n")).map(|()| 0)
        }
        Some(why) => {
            err(&format!("{server}: {why}\n"));
            Ok(1)
        }
    }
}

/// Why a status is not healthy, on one line. None if it is.
fn why_not(status: &Status) -> Option<String> {
    if !status.listening {
        return Some("not every container engine has listed its containers".to_owned());
    }
    let errors: Vec<String> = errors(status).into_iter().map(|it| it.text).collect();
    match (status.state, errors.as_slice()) {
        (Health::Connected, _) => None,
        (_, []) => Some("not every container has been checked yet".to_owned()),
        (_, errors) => {
            let named = errors.get(..NAMED.min(errors.len())).unwrap_or_default().join("; ");
            match errors.len().saturating_sub(NAMED) {
                0 => Some(named),
                more => Some(format!("{named}; and {more} more")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn healthy_is_listening_and_connected() {
        let status = |listening: bool, state: &str, links: &[Value]| -> Status {
            let node = json!({"name": "n", "service": null, "index": 1, "engine": "docker", "id": "ab",
                "state": "connected", "links": links, "errors": []});
            let status = json!({"version": 1, "kind": "engine", "project": null, "state": state,
                "listening": listening, "engines": [], "bridges": [], "tunnels": [], "nodes": [node], "errors": []});
            serde_json::from_value(status).unwrap()
        };
        let link = |state: &str, drift: &[&str], errors: &[Value]| {
            json!({"dev": "eth0", "type": null, "bridge": null, "outer": null, "parent": null, "vlanid": null,
                "mode": null, "place": null, "mac": null, "mtu": null, "addresses": [], "state": state,
                "origin": "f:1:1", "drift": drift, "errors": errors})
        };
        let failed = |names: &[&str]| -> Vec<Value> {
            let error = |name: &str| json!({"subject": format!("link {name}"), "message": "no"});
            names.iter().map(|it| link("failed", &[], &[error(it)])).collect()
        };
        for (status, expected) in [
            (status(true, "connected", &[]), None),
            (status(false, "connected", &[]), Some("not every container engine has listed its containers")),
            (status(true, "working", &[]), Some("not every container has been checked yet")),
            (
                status(true, "drifted", &[link("drifted", &["down"], &[])]),
                Some("link n:eth0: changed outside conlink: down"),
            ),
            (status(true, "failing", &failed(&["a", "b", "b"])), Some("link a: no; link b: no")),
            (
                status(true, "failing", &failed(&["a", "b", "c", "d", "e"])),
                Some("link a: no; link b: no; link c: no; and 2 more"),
            ),
        ] {
            assert_eq!(why_not(&status).as_deref(), expected, "{status:?}");
        }
    }
}
