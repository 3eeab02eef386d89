//! A status as a table.

use std::collections::BTreeMap;

use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use super::errors::{errors, list};
use crate::words::printable;

/// How it is to look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Columns of the terminal; None where lines may be as long as they are.
    pub(super) width: Option<usize>,
    pub(super) color: bool,
}

/// A line of the table.
struct Row {
    node: String,
    process: String,
    link: String,
    joined: String,
    addresses: Vec<String>,
    state: String,
}

/// Spaces between two columns.
const GAP: &str = "  ";

/// What there is, what it is joined to, how far it is; then all that is wrong.
pub(super) fn table(status: &Value, look: &Look) -> String {
    let mut text = head(status, look);
    text += &wrapped("bridges: ", &bridges(status), look);
    text += &wrapped("tunnels: ", &tunnels(status), look);
    let rows = rows(status);
    if !rows.is_empty() {
        let fits = |lines: &[String]| match look.width {
            Some(width) => lines.iter().all(|it| it.width() <= width),
            None => true,
        };
        let plain = Look { color: false, ..*look };
        let lines = match [false, true].into_iter().find(|tall| fits(&columns(&rows, *tall, &plain))) {
            Some(tall) => columns(&rows, tall, look),
            None => stacked(&rows, look),
        };
        lines.iter().for_each(|it| text += &format!("{it}\n"));
    }
    let errors = errors(status);
    let notes = notes(status);
    if !errors.is_empty() || !notes.is_empty() {
        text += "\n";
    }
    for it in errors {
        text += &format!("{} {}\n", paint("error:", "failed", look), it.text);
        text += &it.help.map(|it| format!("hint: {it}\n")).unwrap_or_default();
    }
    text + &notes
}

/// `project p: failing, 4 nodes, 6 links, 1 failed`
fn head(status: &Value, look: &Look) -> String {
    let name = match (word(&status["kind"]), status["project"].as_str()) {
        ("lab", name) => format!("lab {}", printable(name.unwrap_or_default())),
        (_, Some(name)) => format!("project {}", printable(name)),
        (_, None) => "every project".to_owned(),
    };
    let links = || list(&status["nodes"]).flat_map(|it| list(&it["links"]));
    let state = word(&status["state"]);
    let mut parts = vec![
        paint(state, state, look),
        count(list(&status["nodes"]).count(), "node"),
        count(links().count(), "link"),
    ];
    for state in ["failed", "drifted", "pending"] {
        match links().filter(|it| it["state"] == state).count() {
            0 => {}
            count => parts.push(format!("{count} {state}")),
        }
    }
    let silent = list(&status["engines"]).filter(|it| it["connected"] != true);
    parts.extend(silent.map(|it| format!("no word from {}", word(&it["name"]))));
    format!("{name}: {}\n", parts.join(", "))
}

/// `1 link`, `2 links`
pub(in crate::tools::conlink) fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Those that are more than a cable; of cables, those that are not as they should be.
fn bridges(status: &Value) -> Vec<String> {
    let ports = ports(status);
    let shown = list(&status["bridges"]).filter(|it| it["mode"] != "patch" || it["state"] != "up");
    let bridge = |it: &Value| {
        let name = word(&it["name"]);
        let mut about = vec![word(&it["mode"]).to_owned()];
        if it["place"] == "host" {
            about.push("on the host".to_owned());
        }
        about.push(match it["state"].as_str() {
            Some("up") => count(ports.get(name).map_or(0, Vec::len), "port"),
            _ => word(&it["state"]).to_owned(),
        });
        format!("{} ({})", printable(name), about.join(", "))
    };
    shown.map(bridge).collect()
}

fn tunnels(status: &Value) -> Vec<String> {
    let tunnel = |it: &Value| {
        let state = match word(&it["state"]) {
            "up" => String::new(),
            state => format!(" ({state})"),
        };
        let name = |key: &str| printable(word(&it[key]));
        format!("{} from {} to {}{state}", name("name"), name("bridge"), name("remote"))
    };
    list(&status["tunnels"]).map(tunnel).collect()
}

/// What is joined to each bridge: links that are up, and tunnels.
fn ports(status: &Value) -> BTreeMap<&str, Vec<String>> {
    let links =
        list(&status["nodes"]).flat_map(|node| list(&node["links"]).map(move |it| (it, end(node, it))));
    let tunnels = list(&status["tunnels"]).map(|it| (it, word(&it["name"]).to_owned()));
    let mut ports: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (it, name) in links.chain(tunnels).filter(|(it, _)| it["state"] == "up") {
        if let Some(bridge) = it["bridge"].as_str() {
            ports.entry(bridge).or_default().push(name);
        }
    }
    ports
}

/// `p-h-1:eth0`
fn end(node: &Value, link: &Value) -> String {
    format!("{}:{}", name(node), word(&link["dev"]))
}

fn rows(status: &Value) -> Vec<Row> {
    let ports = ports(status);
    let mut rows = Vec::new();
    for node in list(&status["nodes"]) {
        let row = |link: &str, state: &Value| Row {
            node: printable(name(node)),
            process: process(&node["process"]),
            link: printable(link),
            joined: "-".to_owned(),
            addresses: Vec::new(),
            state: printable(word(state)),
        };
        let mut links = list(&node["links"]).peekable();
        // What is not to be seen by its links.
        if links.peek().is_none() || list(&node["errors"]).next().is_some() {
            rows.push(row("-", &node["state"]));
        }
        for it in links {
            rows.push(Row {
                joined: printable(&joined(node, it, &ports)),
                addresses: list(&it["addresses"]).map(|it| printable(word(it))).collect(),
                ..row(word(&it["dev"]), &it["state"])
            });
        }
    }
    rows
}

/// `running`, `exited 1`, `restarting (3)`: the word; what it ended with; how often it was started again.
fn process(it: &Value) -> String {
    let mut text = printable(it["state"].as_str().unwrap_or_default());
    if let Some(code) = it["exit_code"].as_i64().filter(|_| text == "exited") {
        text += &format!(" {code}");
    }
    match it["restarts"].as_u64() {
        None | Some(0) => text,
        Some(restarts) => format!("{text} ({restarts})"),
    }
}

/// A bridge, the other end of a cable, or the interface that it is made on.
fn joined(node: &Value, link: &Value, ports: &BTreeMap<&str, Vec<String>>) -> String {
    let host = if link["place"] == "host" { "host:" } else { "" };
    let kind = word(&link["type"]);
    if let Some(bridge) = link["bridge"].as_str() {
        if link["mode"] != "patch" || link["state"] != "up" {
            return format!("{host}{bridge}");
        }
        let own = end(node, link);
        let ports = ports.get(bridge).map(Vec::as_slice).unwrap_or_default();
        return match ports.iter().filter(|it| **it != own).collect::<Vec<_>>().as_slice() {
            [] => format!("{bridge} (one end)"),
            [other] => format!("{other} ({bridge})"),
            _ => bridge.to_owned(),
        };
    }
    let Some(parent) = link["parent"].as_str() else { return "-".to_owned() };
    match (link["vlanid"].as_u64(), link["mode"].as_str()) {
        (Some(id), _) => format!("{host}{parent} {kind} {id}"),
        (None, Some(mode)) => format!("{host}{parent} {kind} {mode}"),
        (None, None) => format!("{host}{parent} {kind}"),
    }
}

/// A line a link; with `tall` addresses stand below each other.
fn columns(rows: &[Row], tall: bool, look: &Look) -> Vec<String> {
    let has_process = rows.iter().any(|it| !it.process.is_empty());
    let cells = |node: &str, process: &str, link: &str, joined: &str, address: &str| {
        let mut cells = vec![node.to_owned(), link.to_owned(), joined.to_owned(), address.to_owned()];
        if has_process {
            cells.insert(1, process.to_owned());
        }
        cells
    };
    let mut lines = vec![(cells("NODE", "PROCESS", "LINK", "JOINED TO", "ADDRESSES"), "STATE")];
    for it in rows {
        let (first, rest) = match it.addresses.as_slice() {
            [first, rest @ ..] if tall => (first.clone(), rest),
            all => (all.join(" "), [].as_slice()),
        };
        lines.push((cells(&it.node, &it.process, &it.link, &it.joined, &first), &it.state));
        lines.extend(rest.iter().map(|it| (cells("", "", "", "", it), "")));
    }
    let mut widths = Vec::new();
    for (cells, _) in &lines {
        widths.resize(cells.len(), 0);
        widths.iter_mut().zip(cells).for_each(|(width, it)| *width = it.width().max(*width));
    }
    let line = |(at, (cells, state)): (usize, (Vec<String>, &str))| {
        let padded = cells.iter().zip(&widths).map(|(it, width)| {
            let gap = width.saturating_sub(it.width());
            format!("{it}{:gap$}{GAP}", "")
        });
        let state = if at == 0 { state.to_owned() } else { paint(state, state, look) };
        (padded.collect::<String>() + &state).trim_end().to_owned()
    };
    lines.into_iter().enumerate().map(line).collect()
}

/// A line a node and, below it, one a link and one an address.
fn stacked(rows: &[Row], look: &Look) -> Vec<String> {
    let mut lines = Vec::new();
    let mut last = None;
    for it in rows {
        if last != Some(&it.node) {
            lines.push([it.node.as_str(), it.process.as_str()].join(GAP).trim_end().to_owned());
        }
        last = Some(&it.node);
        lines.push(format!("{GAP}{}{GAP}{}{GAP}{}", it.link, paint(&it.state, &it.state, look), it.joined));
        lines.extend(it.addresses.iter().map(|it| format!("{GAP}{GAP}{it}")));
    }
    lines
}

/// Items with commas between them, on as many lines as they need.
fn wrapped(begin: &str, items: &[String], look: &Look) -> String {
    let mut lines: Vec<String> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let item = if at + 1 < items.len() { format!("{item},") } else { item.clone() };
        match lines.last_mut() {
            Some(line) if look.width.is_none_or(|it| line.width() + 1 + item.width() <= it) => {
                *line += &format!(" {item}");
            }
            Some(_) => lines.push(format!("{:indent$}{item}", "", indent = begin.len())),
            None => lines.push(format!("{begin}{item}")),
        }
    }
    lines.iter().map(|it| format!("{it}\n")).collect()
}

/// What users may wonder about.
fn notes(status: &Value) -> String {
    let of_node = |node: &Value| {
        let name = printable(name(node));
        let note = |it: &Value| format!("note: {name}: {}\n", printable(word(it)));
        list(&node["process"]["notes"]).map(note).collect::<String>()
    };
    list(&status["nodes"]).map(of_node).collect()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// Text in the colour of a state.
fn paint(text: &str, state: &str, look: &Look) -> String {
    let code = match state {
        _ if !look.color || text.is_empty() => return text.to_owned(),
        "up" | "connected" => 32,
        "failed" | "failing" | "unreachable" => 31,
        _ => 33,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// What people call a node: one of a lab has a short name.
fn name(node: &Value) -> &str {
    node.pointer("/process/name").and_then(Value::as_str).unwrap_or(word(&node["name"]))
}
