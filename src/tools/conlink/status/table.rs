//! A status as a table.

use std::collections::BTreeMap;

use unicode_width::UnicodeWidthStr;

use super::errors::errors;
use crate::api::{
    BridgeStatus, LinkState, LinkStatus, LinkType, NodeStatus, ProcessStatus, Served, Status, TunnelStatus,
};
use crate::device::{BridgeMode, Place};
use crate::words::{counted, printable};

/// The layout of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Columns of the terminal; None: lines may have any length.
    pub(super) width: Option<usize>,
    pub(super) color: bool,
}

/// A status as text, in two parts: the first one fits on a screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// A line about the whole, and everything that is wrong.
    pub(super) head: String,
    /// Everything else. It starts with an empty line if something is wrong.
    pub(super) rest: String,
}

/// A row of the table.
struct Row {
    node: String,
    process: String,
    link: String,
    joined: String,
    addresses: Vec<String>,
    state: String,
}

/// How many errors are printed; the rest is counted.
const ERRORS: usize = 20;

/// Spaces between two columns.
const GAP: &str = "  ";

/// What is wrong comes first, then bridges, tunnels and links, then overrides and notes.
pub(super) fn table(status: &Status, style: &Style) -> Table {
    let mut head = head(status, style);
    let mut text = String::new();
    let errors = errors(status);
    let waiting = waiting(status);
    if !errors.is_empty() || !status.warnings.is_empty() || !waiting.is_empty() {
        text += "\n";
    }
    let more = errors.len().saturating_sub(ERRORS);
    for it in errors.into_iter().take(ERRORS) {
        head += &format!("{} {}\n", paint("error:", "failed", style), it.text);
        head += &it.help.map(|it| format!("hint: {it}\n")).unwrap_or_default();
    }
    if more > 0 {
        head += &format!("and {}: --json prints all of them\n", counted(more, "more error"));
    }
    for it in &status.warnings {
        head += &format!("warning: {}\n", printable(it));
    }
    head += &waiting;
    text += &wrapped("bridges: ", &bridges(status), style);
    text += &wrapped("tunnels: ", &status.tunnels.iter().map(tunnel).collect::<Vec<_>>(), style);
    let rows = rows(status);
    if !rows.is_empty() {
        let fits = |lines: &[String]| match style.width {
            Some(width) => lines.iter().all(|it| it.width() <= width),
            None => true,
        };
        let plain = Style { color: false, ..*style };
        let lines = match [false, true].into_iter().find(|tall| fits(&columns(&rows, *tall, &plain))) {
            Some(tall) => columns(&rows, tall, style),
            None => stacked(&rows, style),
        };
        lines.iter().for_each(|it| text += &format!("{it}\n"));
    }
    let notes = overrides(status) + &notes(status);
    if !notes.is_empty() {
        text += "\n";
    }
    Table { head, rest: text + &notes }
}

/// Nodes that wait for their dependencies.
fn waiting(status: &Status) -> String {
    let line = |it: &ProcessStatus| {
        let awaited = it.waits_for.iter().map(|it| format!("{} ({})", it.service, it.condition));
        let text = format!("{} for {}", it.name, awaited.collect::<Vec<_>>().join(", "));
        format!("waiting: {}\n", printable(&text))
    };
    let processes = status.nodes.iter().filter_map(|it| it.process.as_ref());
    processes.filter(|it| !it.waits_for.is_empty()).map(line).collect()
}

/// `project p: failing, 4 nodes, 6 links, 1 failed`
fn head(status: &Status, style: &Style) -> String {
    let name = match (status.served, status.project.as_deref()) {
        (Served::Lab, name) => format!("lab {}", printable(name.unwrap_or_default())),
        (Served::Engine, Some(name)) => format!("project {}", printable(name)),
        (Served::Engine, None) => "every project".to_owned(),
    };
    let state = status.state.to_string();
    let mut parts = vec![
        paint(&state, &state, style),
        counted(status.nodes.len(), "node"),
        counted(status.links(), "link"),
    ];
    for state in [LinkState::Failed, LinkState::Drifted, LinkState::Pending] {
        let links = status.nodes.iter().flat_map(|it| &it.links);
        match links.filter(|it| it.state == state).count() {
            0 => {}
            count => parts.push(format!("{count} {state}")),
        }
    }
    match status.nodes.iter().flat_map(|it| &it.links).filter(|it| is_unplugged(it)).count() {
        0 => {}
        count => parts.push(format!("{count} unplugged")),
    }
    let silent = status.engines.iter().filter(|it| !it.connected);
    parts.extend(silent.map(|it| format!("no connection to {}", printable(&it.name))));
    format!("{name}: {}\n", parts.join(", "))
}

/// All bridges; cables only if they are not up.
fn bridges(status: &Status) -> Vec<String> {
    let ports = ports(status);
    let is_shown = |it: &&BridgeStatus| it.mode != BridgeMode::Patch || it.state != LinkState::Up;
    let bridge = |it: &BridgeStatus| {
        let mut about = vec![it.mode.to_string()];
        if it.place == Place::Host {
            about.push("on the host".to_owned());
        }
        about.push(match it.state {
            LinkState::Up => counted(ports.get(it.name.as_str()).map_or(0, Vec::len), "port"),
            state => state.to_string(),
        });
        format!("{} ({})", printable(&it.name), about.join(", "))
    };
    status.bridges.iter().filter(is_shown).map(bridge).collect()
}

fn tunnel(it: &TunnelStatus) -> String {
    let state = match it.state {
        LinkState::Up => String::new(),
        state => format!(" ({state})"),
    };
    format!("{} from {} to {}{state}", printable(&it.name), printable(&it.bridge), it.remote)
}

/// The ports of each bridge: links and tunnels that exist, whether or not somebody has changed them.
fn ports(status: &Status) -> BTreeMap<&str, Vec<String>> {
    let links = status
        .nodes
        .iter()
        .flat_map(|node| node.links.iter().map(move |it| (it.state, it.bridge.as_deref(), end(node, it))));
    let tunnels = status.tunnels.iter().map(|it| (it.state, Some(it.bridge.as_str()), it.name.clone()));
    let mut ports: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (state, bridge, name) in links.chain(tunnels) {
        if let (LinkState::Up | LinkState::Drifted, Some(bridge)) = (state, bridge) {
            ports.entry(bridge).or_default().push(name);
        }
    }
    ports
}

/// `p-h-1:eth0`
fn end(node: &NodeStatus, link: &LinkStatus) -> String {
    format!("{}:{}", name(node), link.dev)
}

fn rows(status: &Status) -> Vec<Row> {
    let ports = ports(status);
    let mut rows = Vec::new();
    for node in &status.nodes {
        let row = |link: &str, state: String| Row {
            node: printable(name(node)),
            process: node.process.as_ref().map(process).unwrap_or_default(),
            link: printable(link),
            joined: "-".to_owned(),
            addresses: Vec::new(),
            state,
        };
        // States that no link shows.
        if node.links.is_empty() || !node.errors.is_empty() {
            rows.push(row("-", node.state.to_string()));
        }
        for it in &node.links {
            rows.push(Row {
                joined: printable(&joined(node, it, &ports)),
                addresses: it.addresses.iter().map(|it| printable(it)).collect(),
                ..row(&it.dev, if is_unplugged(it) { "unplugged".to_owned() } else { it.state.to_string() })
            });
        }
    }
    rows
}

/// `running`, `unhealthy`, `exited 1`, `restarting (3)`: the state, the exit code, the number of restarts.
fn process(it: &ProcessStatus) -> String {
    let mut text = printable(&it.state);
    if let Some(code) = it.exit_code.filter(|_| it.state == "exited") {
        text += &format!(" {code}");
    }
    if it.state == "running" && it.health.as_deref() == Some("unhealthy") {
        "unhealthy".clone_into(&mut text);
    }
    match it.restarts {
        0 => text,
        restarts => format!("{text} ({restarts})"),
    }
}

/// A bridge, the other end of a cable, or the parent interface.
fn joined(node: &NodeStatus, link: &LinkStatus, ports: &BTreeMap<&str, Vec<String>>) -> String {
    let host = if link.place == Some(Place::Host) { "host:" } else { "" };
    if let Some(bridge) = link.bridge.as_deref() {
        if link.mode.as_deref() != Some("patch") || link.state != LinkState::Up {
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
    let Some(parent) = link.parent.as_deref() else { return "-".to_owned() };
    let kind = link.kind.as_ref().map(LinkType::to_string).unwrap_or_default();
    match (link.vlanid, link.mode.as_deref()) {
        (Some(id), _) => format!("{host}{parent} {kind} {id}"),
        (None, Some(mode)) => format!("{host}{parent} {kind} {mode}"),
        (None, None) => format!("{host}{parent} {kind}"),
    }
}

/// One line per link; with `tall`, addresses are below each other.
fn columns(rows: &[Row], tall: bool, style: &Style) -> Vec<String> {
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
        let state = if at == 0 { state.to_owned() } else { paint(state, state, style) };
        (padded.collect::<String>() + &state).trim_end().to_owned()
    };
    lines.into_iter().enumerate().map(line).collect()
}

/// One line per node; below it, one per link and per address.
fn stacked(rows: &[Row], style: &Style) -> Vec<String> {
    let mut lines = Vec::new();
    let mut last = None;
    for it in rows {
        if last != Some(&it.node) {
            lines.push([it.node.as_str(), it.process.as_str()].join(GAP).trim_end().to_owned());
        }
        last = Some(&it.node);
        lines.push(format!("{GAP}{}{GAP}{}{GAP}{}", it.link, paint(&it.state, &it.state, style), it.joined));
        lines.extend(it.addresses.iter().map(|it| format!("{GAP}{GAP}{it}")));
    }
    lines
}

/// Items separated by commas, wrapped to the width.
fn wrapped(begin: &str, items: &[String], style: &Style) -> String {
    let mut lines: Vec<String> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let item = if at + 1 < items.len() { format!("{item},") } else { item.clone() };
        match lines.last_mut() {
            Some(line) if style.width.is_none_or(|it| line.width() + 1 + item.width() <= it) => {
                *line += &format!(" {item}");
            }
            Some(_) => lines.push(format!("{:indent$}{item}", "", indent = begin.len())),
            None => lines.push(format!("{begin}{item}")),
        }
    }
    lines.iter().map(|it| format!("{it}\n")).collect()
}

/// Is the link as described but for its pulled cable?
fn is_unplugged(link: &LinkStatus) -> bool {
    link.state == LinkState::Up && link.overrides.iter().any(|it| it.what == "carrier down")
}

/// Settings that override the configuration.
fn overrides(status: &Status) -> String {
    let mut text = String::new();
    for node in &status.nodes {
        for link in &node.links {
            for it in &link.overrides {
                let by = if it.author.is_empty() { String::new() } else { format!(", by {}", it.author) };
                let until = it.until.map(until).unwrap_or_default();
                let line = format!("link {}: {}{by}{until}", end(node, link), it.what);
                text += &format!("override: {}\n", printable(&line));
            }
        }
    }
    text
}

/// `, until 14:03:20 UTC`
fn until(unix: u64) -> String {
    let second = unix % (24 * 3600);
    format!(", until {:02}:{:02}:{:02} UTC", second / 3600, second / 60 % 60, second % 60)
}

/// Hints for the user.
fn notes(status: &Status) -> String {
    let of_node = |node: &NodeStatus| {
        let name = printable(name(node));
        let notes = node.process.iter().flat_map(|it| &it.notes);
        notes.map(|it| format!("note: {name}: {}\n", printable(it))).collect::<String>()
    };
    status.nodes.iter().map(of_node).collect()
}

/// Text in the colour of a state.
fn paint(text: &str, state: &str, style: &Style) -> String {
    let code = match state {
        _ if !style.color || text.is_empty() => return text.to_owned(),
        "up" | "connected" => 32,
        "failed" | "failing" | "unreachable" => 31,
        _ => 33,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// The node's name; in a lab its short name.
fn name(node: &NodeStatus) -> &str {
    node.process.as_ref().map_or(&node.name, |it| &it.name)
}
