//! Lines that say what a command waits for: on a terminal one line that is overwritten, otherwise a few lines.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use terminal_size::{Width, terminal_size_of};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::api::{NodeState, NodeStatus, ProcessStatus, Status};
use crate::err;
use crate::words::printable;

/// Time between two updates on a terminal.
const REDRAW: Duration = Duration::from_millis(300);

/// Longest time between two lines where there is no terminal.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Prints progress on standard error.
#[derive(Debug)]
pub(super) struct Progress {
    is_terminal: bool,
    /// None: nothing is ever printed.
    next: Option<Instant>,
    /// Time until the line after the next one. It doubles where there is no terminal.
    pause: Duration,
    shown: bool,
}

impl Progress {
    /// The first line is due after a second.
    pub(super) fn new(quiet: bool) -> Self {
        let pause = Duration::from_secs(1);
        let next = (!quiet).then(|| Instant::now() + pause);
        Self { is_terminal: std::io::stderr().is_terminal(), next, pause, shown: false }
    }

    /// One for counts that mean nothing in a file.
    pub(super) fn on_terminal(quiet: bool) -> Self {
        Self::new(quiet || !std::io::stderr().is_terminal())
    }

    /// The time until the next line is due.
    pub(super) fn due_in(&self) -> Duration {
        self.next.map_or(LONGEST_PAUSE, |it| it.saturating_duration_since(Instant::now()))
    }

    /// Prints a line if one is due.
    pub(super) fn show(&mut self, text: impl FnOnce() -> String) {
        let now = Instant::now();
        if self.next.is_none_or(|it| it > now) {
            return;
        }
        let text = printable(&text());
        if self.is_terminal {
            let width = terminal_size_of(std::io::stderr()).map_or(80, |(Width(it), _)| usize::from(it));
            // A full last column would wrap.
            err(&format!("\r{}\x1b[K", cut(&text, width.saturating_sub(1))));
            self.next = Some(now + REDRAW);
        } else {
            err(&format!("{text}\n"));
            self.next = Some(now + self.pause);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        self.shown = true;
    }

    /// Removes the line from the terminal.
    pub(super) fn clear(&mut self) {
        if self.shown && self.is_terminal {
            err("\r\x1b[K");
        }
        self.shown = false;
    }
}

/// The start of a text that is too wide, with an ellipsis.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut used = 1;
    for it in text.chars() {
        used += it.width().unwrap_or(0);
        if used > width {
            break;
        }
        shown.push(it);
    }
    shown + "…"
}

/// `a, b, c and 20 more`
pub(super) fn some_of(names: &[impl AsRef<str>]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// How many nodes of a lab are up, and what the others wait for: `37/200 nodes; waiting for db (service_healthy)`.
pub(super) fn waiting(status: &Status) -> String {
    let all: Vec<(&NodeStatus, &ProcessStatus)> =
        status.nodes.iter().filter_map(|it| Some((it, it.process.as_ref()?))).collect();
    let names = |state: &str, more: fn(&NodeStatus) -> bool| -> Vec<&str> {
        let found = all.iter().filter(|(node, process)| process.state == state && more(node));
        found.map(|(_, process)| process.name.as_str()).collect()
    };
    let unlinked = names("waiting", |it| it.state == NodeState::Working && !it.links.is_empty());
    let (waiting, stopping) = (names("waiting", |_| true), names("stopping", |_| true));
    let what = if !unlinked.is_empty() {
        format!("the links of {}", some_of(&unlinked))
    } else if !stopping.is_empty() {
        format!("{} to exit", some_of(&stopping))
    } else {
        let awaited = awaited(&all);
        if awaited.is_empty() { some_of(&waiting) } else { some_of(&awaited) }
    };
    let done = all.len() - waiting.len() - stopping.len();
    let what = if what.is_empty() { what } else { format!("; waiting for {what}") };
    format!("{done}/{} nodes{what}", all.len())
}

/// The services that others depend on and that do not wait themselves: `db (service_healthy)`.
fn awaited(all: &[(&NodeStatus, &ProcessStatus)]) -> Vec<String> {
    let service = |it: &NodeStatus| it.service.clone().unwrap_or_default();
    let held = all.iter().filter(|(_, it)| !it.waits_for.is_empty());
    let held: BTreeSet<String> = held.map(|(node, _)| service(node)).collect();
    let mut restarts: BTreeMap<String, u32> = BTreeMap::new();
    for (node, process) in all {
        *restarts.entry(service(node)).or_default() += process.restarts;
    }
    let awaited = all.iter().flat_map(|(_, it)| &it.waits_for).filter(|it| !held.contains(&it.service));
    let awaited: BTreeSet<(&str, &str)> =
        awaited.map(|it| (it.service.as_str(), it.condition.as_str())).collect();
    let text = |(service, condition): (&str, &str)| match restarts.get(service) {
        None | Some(0) => format!("{service} ({condition})"),
        Some(1) => format!("{service} ({condition}, restarted once)"),
        Some(times) => format!("{service} ({condition}, restarted {times} times)"),
    };
    awaited.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, state: &str, node_state: &str, waits_for: &Value) -> Value {
        let link = json!({"dev": "eth0", "type": "veth", "bridge": null, "outer": null, "parent": null, "vlanid": null,
            "mode": null, "place": "engine", "mac": null, "mtu": 1500, "addresses": [], "state": "pending",
            "origin": "c.yaml:1:1", "errors": []});
        json!({"name": format!("p-{name}-1"), "service": name, "index": 1, "engine": "lab", "id": "a",
            "state": node_state, "links": [link], "errors": [], "process": {"name": name, "state": state, "pid": null,
            "exit_code": null, "restarts": 0, "health": null, "command": [], "notes": [], "log": "l",
            "waits_for": waits_for}})
    }

    fn text(nodes: Vec<Value>) -> String {
        let status = json!({"version": 1, "kind": "lab", "project": "p", "state": "working", "listening": true,
            "engines": [], "bridges": [], "tunnels": [], "nodes": nodes, "errors": []});
        waiting(&serde_json::from_value(status).unwrap())
    }

    #[test]
    fn the_text_names_what_everything_else_waits_for() {
        let on = |service: &str, condition: &str| json!([{"service": service, "condition": condition}]);
        let none = json!([]);
        let mut crashing = node("init", "restarting", "stopped", &none);
        crashing["process"]["restarts"] = json!(12);
        assert_eq!(
            text(vec![
                node("a", "waiting", "connected", &on("b", "service_started")),
                node("b", "waiting", "connected", &on("db", "service_healthy")),
                node("c", "waiting", "connected", &on("init", "service_completed_successfully")),
                node("db", "running", "connected", &none),
                crashing,
            ]),
            "2/5 nodes; waiting for db (service_healthy), \
             init (service_completed_successfully, restarted 12 times)"
        );
        let many: Vec<Value> =
            (1..=8).map(|it| node(&format!("h{it}"), "waiting", "working", &none)).collect();
        assert_eq!(text(many), "0/8 nodes; waiting for the links of h1, h2, h3, h4, h5 and 3 more");
        assert_eq!(
            text(vec![node("a", "stopping", "connected", &none), node("b", "running", "connected", &none)]),
            "1/2 nodes; waiting for a to exit"
        );
        assert_eq!(text(vec![node("a", "running", "connected", &none)]), "1/1 nodes");
    }

    #[test]
    fn a_text_is_cut_to_the_width_of_the_terminal() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abcde…");
        assert_eq!(cut("網路交換", 6), "網路…");
    }
}
