//! Mermaid flowcharts (mermaid.js.org/syntax/flowchart.html), which GitHub and others render in Markdown.

use std::fmt::Write;

use crate::dot::text::printable;
use crate::dot::{Diagram, Node, NodeKind, SegmentKind};

/// The diagram as a flowchart: each node is a box with its interfaces as lines of text, each link an edge.
pub fn mermaid(diagram: &Diagram) -> String {
    let mut text = String::from("flowchart LR\n");
    // Writing to a string cannot fail.
    let _ = writeln!(text, "  subgraph host[\"host system\"]");
    let _ = writeln!(text, "    subgraph engine[\"conlink/network\"]");
    segments(&mut text, diagram, false, "      ");
    text.push_str("    end\n");
    segments(&mut text, diagram, true, "    ");
    text.push_str("  end\n");
    for (at, node) in diagram.nodes.iter().enumerate() {
        let (title, class) = (quoted(&node.title()), class(node));
        match node.kind {
            NodeKind::Remote => {
                let _ = writeln!(text, "  n{at}([{title}]):::{class}");
            }
            NodeKind::Service | NodeKind::Container => {
                let _ = writeln!(text, "  subgraph n{at}[{title}]");
                let mut is_empty = true;
                for (number, link) in diagram.links.iter().enumerate().filter(|(_, it)| it.node == at) {
                    is_empty = false;
                    let lines: Vec<String> =
                        std::iter::once(&link.dev).chain(&link.addrs).map(|it| escaped(it)).collect();
                    let _ = writeln!(text, "    l{number}[\"{}\"]:::interface", lines.join("<br>"));
                }
                if is_empty {
                    let _ = writeln!(text, "    none{at}[\"no links\"]:::interface");
                }
                text.push_str("  end\n");
                let _ = writeln!(text, "  class n{at} {class}");
            }
        }
    }
    for (number, link) in diagram.links.iter().enumerate() {
        let Some(segment) = link.segment else { continue };
        let from = if link.is_tunnel { format!("n{}", link.node) } else { format!("l{number}") };
        let kind = Some(&link.kind).filter(|it| *it != "veth");
        let labels: Vec<String> = kind.into_iter().chain(&link.marks).map(|it| escaped(it)).collect();
        let line = if link.is_tunnel { "-.-" } else { "---" };
        let label = if labels.is_empty() { String::new() } else { format!("|\"{}\"|", labels.join("<br>")) };
        let _ = writeln!(text, "  {from} {line}{label} s{segment}");
    }
    for (class, fill, stroke) in [
        ("bridge", "#bfdbfe", "#2563eb"),
        ("device", "#fde68a", "#b45309"),
        ("service", "#dcfce7", "#16a34a"),
        ("container", "#ffedd5", "#ea580c"),
        ("remote", "#ede9fe", "#7c3aed"),
        ("interface", "#ffffff", "#334155"),
    ] {
        let _ = writeln!(text, "  classDef {class} fill:{fill},stroke:{stroke},color:#0f172a");
    }
    text
}

fn segments(text: &mut String, diagram: &Diagram, on_host: bool, indent: &str) {
    for (at, it) in diagram.segments.iter().enumerate().filter(|(_, it)| it.on_host == on_host) {
        let title = quoted(&it.title());
        let _ = match it.kind {
            SegmentKind::Bridge { .. } => writeln!(text, "{indent}s{at}{{{{{title}}}}}:::bridge"),
            SegmentKind::Device => writeln!(text, "{indent}s{at}[/{title}/]:::device"),
        };
    }
}

fn class(node: &Node) -> &'static str {
    match node.kind {
        NodeKind::Service => "service",
        NodeKind::Container => "container",
        NodeKind::Remote => "remote",
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// Escapes text, so that Mermaid does not interpret its own escapes (`#quot;`), Markdown or HTML.
fn escaped(text: &str) -> String {
    printable(text).chars().fold(String::new(), |mut escaped, it| {
        if it.is_alphanumeric() || " .,:_'()→/-…?=+@".contains(it) {
            escaped.push(it);
        } else {
            let _ = write!(escaped, "#{};", u32::from(it));
        }
        escaped
    })
}
