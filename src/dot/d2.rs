//! D2 (d2lang.com).

use std::fmt::Write;

use crate::dot::text::printable;
use crate::dot::{Diagram, Fact, NodeKind, SegmentKind, lines};

/// The diagram as D2: the host, the engine's network, services and containers are D2 containers; each interface is a
/// shape.
pub fn d2(diagram: &Diagram) -> String {
    let mut text = String::from("direction: right\n");
    // Writing to a string cannot fail.
    text.push_str("classes: {\n");
    for (class, fill, stroke) in [
        ("host", "#f1f5f9", "#94a3b8"),
        ("engine", "#e0f2fe", "#38bdf8"),
        ("bridge", "#bfdbfe", "#2563eb"),
        ("device", "#fde68a", "#b45309"),
        ("service", "#dcfce7", "#16a34a"),
        ("container", "#ffedd5", "#ea580c"),
        ("remote", "#ede9fe", "#7c3aed"),
        ("interface", "#ffffff", "#334155"),
    ] {
        let _ = writeln!(text, "  {class}: {{style: {{fill: \"{fill}\"; stroke: \"{stroke}\"}}}}");
    }
    text.push_str(
        "}\nhost: \"host system\" {\n  class: host\n  engine: \"conlink/network\" {\n    class: engine\n",
    );
    segments(&mut text, diagram, false, "    ");
    text.push_str("  }\n");
    segments(&mut text, diagram, true, "  ");
    text.push_str("}\n");
    for (at, node) in diagram.nodes.iter().enumerate() {
        let class = match node.kind {
            NodeKind::Service => "service",
            NodeKind::Container => "container",
            NodeKind::Remote => "remote; shape: cloud",
        };
        let tooltip = tooltip(&node.title(), &node.facts);
        let _ = writeln!(text, "n{at}: {} {{\n  class: {class}\n  tooltip: {tooltip}", quoted(&node.title()));
        for (number, link) in
            diagram.links.iter().enumerate().filter(|(_, it)| it.node == at && !it.is_tunnel)
        {
            let lines: Vec<&str> =
                std::iter::once(link.dev.as_str()).chain(link.addrs.iter().map(String::as_str)).collect();
            let (label, tooltip) = (quoted(&lines.join("\n")), self::tooltip(&link.id, &link.facts));
            let _ = writeln!(text, "  l{number}: {label} {{class: interface; tooltip: {tooltip}}}");
        }
        text.push_str("}\n");
    }
    for (number, link) in diagram.links.iter().enumerate() {
        let Some((at, segment)) = link.segment.and_then(|it| Some((it, diagram.segments.get(it)?))) else {
            continue;
        };
        let to = if segment.on_host { format!("host.s{at}") } else { format!("host.engine.s{at}") };
        let from =
            if link.is_tunnel { format!("n{}", link.node) } else { format!("n{}.l{number}", link.node) };
        let kind = Some(link.kind.as_str()).filter(|it| *it != "veth");
        let labels: Vec<&str> = kind.into_iter().chain(link.marks.iter().map(String::as_str)).collect();
        let label =
            if labels.is_empty() { String::new() } else { format!(": {}", quoted(&labels.join("\n"))) };
        let style = if link.is_tunnel { " {style.stroke-dash: 4}" } else { "" };
        let colon = if label.is_empty() && !style.is_empty() { ":" } else { "" };
        let _ = writeln!(text, "{from} -- {to}{label}{colon}{style}");
    }
    text
}

fn segments(text: &mut String, diagram: &Diagram, on_host: bool, indent: &str) {
    for (at, it) in diagram.segments.iter().enumerate().filter(|(_, it)| it.on_host == on_host) {
        let class = match it.kind {
            SegmentKind::Bridge { .. } => "bridge; shape: hexagon",
            SegmentKind::Device => "device; shape: parallelogram",
        };
        let (title, tooltip) = (quoted(&it.title()), tooltip(&it.title(), &it.facts));
        let _ = writeln!(text, "{indent}s{at}: {title} {{class: {class}; tooltip: {tooltip}}}");
    }
}

fn tooltip(title: &str, facts: &[Fact]) -> String {
    quoted(&std::iter::once(title.to_owned()).chain(lines(facts)).collect::<Vec<_>>().join("\n"))
}

/// A string in double quotes. `$` is escaped with a backslash, because D2 substitutes `${variable}`.
fn quoted(text: &str) -> String {
    let lines: Vec<String> = text
        .split('\n')
        .map(|it| printable(it).replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$"))
        .collect();
    format!("\"{}\"", lines.join("\\n"))
}
