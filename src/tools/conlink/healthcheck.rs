//! `conlink healthcheck`: is everything that runs connected? For the HEALTHCHECK of an image.

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::tools::conlink::client::{self, Server};
use crate::tools::conlink::status::{count, errors};
use crate::{err, out};

/// How many errors a line names; `conlink status` has them all.
const NAMED: usize = 3;

/// Exits with 0 when every container is known and every link up, else with 1 and a line that says why not.
pub(super) fn main(name: Option<&str>) -> anyhow::Result<u8> {
    let servers = client::chosen(name)?;
    let request = json!({ "request": "status" });
    let (server, status) = match servers.as_slice() {
        [server] => (server, client::ask(server, &request)?),
        // Sockets of engines that were killed do not make it unclear who is meant.
        several => {
            let answers = several.iter().map(|it| (it, client::ask(it, &request)));
            let living: Vec<(&Server, Value)> =
                answers.filter_map(|(server, answer)| Some((server, answer.ok()?))).collect();
            match <[_; 1]>::try_from(living) {
                Ok([one]) => one,
                Err(living) if living.is_empty() => bail!("none of {} answers", client::list(several)),
                Err(living) => {
                    let living: Vec<Server> = living.into_iter().map(|(it, _)| it.clone()).collect();
                    bail!("which one? There is {}: name it", client::list(&living));
                }
            }
        }
    };
    match why_not(&status) {
        None => {
            let nodes = status["nodes"].as_array().context("read the answer: it has no nodes")?;
            let links = nodes.iter().filter_map(|it| it["links"].as_array()).map(Vec::len).sum();
            let (nodes, links) = (count(nodes.len(), "node"), count(links, "link"));
            out(&format!("{server}: connected, {nodes}, {links}\n")).map(|()| 0)
        }
        Some(why) => {
            err(&format!("{server}: {why}\n"));
            Ok(1)
        }
    }
}

/// Why what a status tells is not healthy, on one line.
fn why_not(status: &Value) -> Option<String> {
    let errors: Vec<String> = errors(status).into_iter().map(|it| it.text).collect();
    if status["listening"] != json!(true) {
        return Some("not every container engine has told what runs".to_owned());
    }
    match (status["state"].as_str(), errors.as_slice()) {
        (Some("connected"), _) => None,
        (_, []) => Some("not everything that runs has been looked at yet".to_owned()),
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
    use super::*;

    #[test]
    fn healthy_is_listening_and_connected() {
        let error = |name: &str| json!({"subject": format!("link {name}"), "message": "no", "origin": null});
        let links = |names: &[&str]| -> Value {
            names.iter().map(|it| json!({"state": "failed", "errors": [error(it)]})).collect()
        };
        for (status, expected) in [
            (json!({"listening": true, "state": "connected", "nodes": []}), None),
            (
                json!({"listening": false, "state": "connected", "nodes": []}),
                Some("not every container engine has told what runs"),
            ),
            (
                json!({"listening": true, "state": "working", "nodes": []}),
                Some("not everything that runs has been looked at yet"),
            ),
            (
                json!({"listening": true, "state": "failing", "nodes": [{"links": links(&["a", "b", "b"])}]}),
                Some("link a: no; link b: no"),
            ),
            (
                json!({"listening": true, "state": "failing",
                    "nodes": [{"links": links(&["a", "b", "c", "d", "e"])}]}),
                Some("link a: no; link b: no; link c: no; and 2 more"),
            ),
            (json!({}), Some("not every container engine has told what runs")),
        ] {
            assert_eq!(why_not(&status).as_deref(), expected, "{status}");
        }
    }
}
