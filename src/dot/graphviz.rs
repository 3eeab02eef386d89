//! The DOT language of Graphviz (graphviz.org/doc/info/lang.html).

use std::fmt::Write;

use crate::dot::text::printable;
use crate::dot::{Diagram, Fact, Link, Node, NodeKind, Segment, SegmentKind, lines};

/// The diagram as DOT: the host, the engine's network, bridges, services and containers are clusters; each interface is
/// a node.
pub fn graphviz(diagram: &Diagram) -> String {
    let mut printer = Printer { text: String::new(), depth: 0 };
    printer.open("digraph conlink");
    printer.line("graph [rankdir=LR, compound=true, fontname=\"sans-serif\", fontsize=12, ranksep=1.2];");
    printer.line("node [shape=box, style=\"filled,rounded\", fontname=\"sans-serif\", fontsize=10];");
    printer.line("edge [arrowhead=none, fontname=\"sans-serif\", fontsize=9, color=\"#475569\"];");
    printer.host(diagram);
    for (at, node) in diagram.nodes.iter().enumerate() {
        let first =
            !at.checked_sub(1).and_then(|it| diagram.nodes.get(it)).is_some_and(|it| is_same(it, node));
        let last = !diagram.nodes.get(at + 1).is_some_and(|it| is_same(it, node));
        printer.node(diagram, at, node, first, last);
    }
    for link in &diagram.links {
        printer.edges(diagram, link);
    }
    printer.close();
    printer.text
}

/// The diagram as DOT for layouts without clusters, such as `neato`: nodes, bridges and interfaces of the host are boxes;
/// cables and links are lines between them.
pub fn graphviz_boxes(diagram: &Diagram) -> String {
    let mut printer = Printer { text: String::new(), depth: 0 };
    printer.open("graph conlink");
    printer.line("graph [overlap=false, splines=true, sep=\"+12\"];");
    printer.line("node [shape=box, style=\"filled,rounded\", fontname=\"sans-serif\", fontsize=10];");
    printer.line("edge [fontname=\"sans-serif\", fontsize=9, color=\"#475569\"];");
    let cables = diagram.cables();
    for (segment, cable) in diagram.segments.iter().zip(&cables) {
        if cable.is_none() {
            printer.segment_box(segment);
        }
    }
    for (at, node) in diagram.nodes.iter().enumerate() {
        printer.node_box(diagram, at, node);
    }
    for (segment, [a, b]) in
        diagram.segments.iter().zip(&cables).filter_map(|(it, ends)| Some((it, (*ends)?)))
    {
        let [a, b] = [a, b].map(|it| &diagram.links[it]);
        let title = format!("{} - {}", a.id, b.id);
        let tooltip = details(&title, &[a.facts.as_slice(), &b.facts].concat());
        let ends = format!("taillabel={}, headlabel={}", label(&a.dev), label(&b.dev));
        let marks: Vec<&str> = [a, b].iter().flat_map(|it| &it.marks).map(String::as_str).collect();
        let name = std::iter::once(segment.name.as_str()).chain(marks).collect::<Vec<_>>().join("\n");
        let [from, to] = [a, b].map(|it| node_id(&diagram.nodes[it.node]));
        printer.line(&format!(
            "{from} -- {to} [label={}, {ends}, tooltip={}];",
            label(&name),
            label(&tooltip)
        ));
    }
    for link in &diagram.links {
        let Some(at) = link.segment.filter(|it| cables[*it].is_none()) else { continue };
        let style = if link.is_tunnel { ", style=dashed, color=\"#7c3aed\"" } else { "" };
        let marks = Some(&link.kind).filter(|it| *it != "veth").into_iter().chain(&link.marks);
        let marks: Vec<&str> = marks.map(String::as_str).collect();
        printer.line(&format!(
            "{} -- {} [label={}, taillabel={}, tooltip={}{style}];",
            node_id(&diagram.nodes[link.node]),
            segment_id(&diagram.segments[at]),
            label(&marks.join("\n")),
            label(&link.dev),
            label(&details(&link.id, &link.facts))
        ));
    }
    printer.close();
    printer.text
}

/// Are both replicas of the same service?
fn is_same(a: &Node, b: &Node) -> bool {
    a.kind == b.kind && a.name == b.name && a.replica.is_some()
}

struct Printer {
    text: String,
    depth: usize,
}

impl Printer {
    fn line(&mut self, text: &str) {
        let depth = self.depth * 2;
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{:depth$}{text}", "");
    }

    fn open(&mut self, what: &str) {
        self.line(&format!("{what} {{"));
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.line("}");
    }

    fn cluster(&mut self, name: &str, title: &str, tooltip: &str, colors: &str) {
        self.open(&format!("subgraph {}", id(&["cluster", name])));
        let tooltip = if tooltip.is_empty() { title } else { tooltip };
        self.line(&format!(
            "graph [label={}, tooltip={}, style=\"filled,rounded\", {colors}];",
            label(title),
            label(tooltip)
        ));
    }

    /// The host: the engine's network with its bridges, and the host's own bridges and interfaces.
    fn host(&mut self, diagram: &Diagram) {
        self.cluster("host", "host system", "", "fillcolor=\"#f1f5f9\", color=\"#94a3b8\"");
        self.cluster("engine", "conlink/network", "", "fillcolor=\"#e0f2fe\", color=\"#38bdf8\"");
        self.segments(diagram, false);
        if !diagram.segments.iter().any(|it| !it.on_host) {
            // Graphviz does not draw a cluster without nodes.
            self.line(&format!("{} [style=invis, label=\"\"];", id(&["engine"])));
        }
        self.close();
        self.segments(diagram, true);
        self.close();
    }

    fn segments(&mut self, diagram: &Diagram, on_host: bool) {
        for (at, segment) in diagram.segments.iter().enumerate().filter(|(_, it)| it.on_host == on_host) {
            let tooltip: Vec<String> =
                std::iter::once(segment.title()).chain(lines(&segment.facts)).collect();
            match segment.kind {
                SegmentKind::Device => self.line(&format!(
                    "{} [label={}, tooltip={}, shape=box3d, style=filled, fillcolor=\"#fde68a\", color=\"#b45309\"];",
                    device(segment),
                    label(&segment.name),
                    label(&tooltip.join("\n"))
                )),
                SegmentKind::Bridge { .. } => {
                    let name = format!("bridge {}", segment.name);
                    let colors = "fillcolor=\"#bfdbfe\", color=\"#2563eb\"";
                    self.cluster(&name, &segment.title(), &tooltip.join("\n"), colors);
                    let mut is_empty = true;
                    for link in diagram.links.iter().filter(|it| it.segment == Some(at)) {
                        is_empty = false;
                        let style = if link.is_tunnel {
                            "shape=cds, style=filled, fillcolor=\"#ddd6fe\", color=\"#7c3aed\""
                        } else {
                            "fillcolor=\"#eff6ff\", color=\"#2563eb\""
                        };
                        let tooltip = if link.is_tunnel { details(&link.outer, &link.facts) } else { link.outer.clone() };
                        self.line(&format!(
                            "{} [label={}, tooltip={}, {style}];",
                            port(link),
                            label(&link.outer),
                            label(&tooltip)
                        ));
                    }
                    if is_empty {
                        self.line(&format!("{} [style=invis, label=\"\"];", id(&["bridge", &segment.name])));
                    }
                    self.close();
                }
            }
        }
    }

    fn node(&mut self, diagram: &Diagram, at: usize, node: &Node, first: bool, last: bool) {
        if node.kind == NodeKind::Remote {
            self.line(&format!(
                "{} [label={}, tooltip={}, shape=house, style=\"filled,dashed\", fillcolor=\"#ede9fe\", color=\"#7c3aed\"];",
                remote(node),
                label(&node.title()),
                label(&node.title())
            ));
            return;
        }
        let colors = match node.kind {
            NodeKind::Service => "fillcolor=\"#dcfce7\", color=\"#16a34a\"",
            _ => "fillcolor=\"#ffedd5\", color=\"#ea580c\"",
        };
        let whole = format!("{} {}", node.kind.word(), node.name);
        let tooltip = |title: &str| details(title, &node.facts);
        if node.replica.is_some() && first {
            let title = format!("{} '{}'", node.kind.word(), node.name);
            self.cluster(&whole, &title, &tooltip(&title), "fillcolor=\"#f0fdf4\", color=\"#86efac\"");
        }
        let (name, title) = match node.replica {
            Some(index) => (format!("{whole} {index}"), format!("replica {index}")),
            None => (whole, node.title()),
        };
        self.cluster(&name, &title, &tooltip(&node.title()), colors);
        let mut is_empty = true;
        for link in diagram.links.iter().filter(|it| it.node == at) {
            is_empty = false;
            let lines: Vec<&str> =
                std::iter::once(link.dev.as_str()).chain(link.addrs.iter().map(String::as_str)).collect();
            let title = format!("{} {}", node.title(), link.dev);
            self.line(&format!(
                "{} [label={}, tooltip={}, fillcolor=\"#ffffff\", color=\"#334155\"];",
                interface(link),
                label(&lines.join("\n")),
                label(&details(&title, &link.facts))
            ));
        }
        if is_empty {
            self.line(&format!(
                "{} [label=\"no links\", shape=plaintext, style=\"\"];",
                id(&["none", &name])
            ));
        }
        self.close();
        if node.replica.is_some() && last {
            self.close();
        }
    }

    fn segment_box(&mut self, segment: &Segment) {
        let colors = if segment.is_bridge() {
            "fillcolor=\"#bfdbfe\", color=\"#2563eb\""
        } else {
            "shape=box3d, style=filled, fillcolor=\"#fde68a\", color=\"#b45309\""
        };
        self.line(&format!(
            "{} [label={}, tooltip={}, {colors}];",
            segment_id(segment),
            label(&segment.title()),
            label(&details(&segment.title(), &segment.facts))
        ));
    }

    fn node_box(&mut self, diagram: &Diagram, at: usize, node: &Node) {
        let colors = match node.kind {
            NodeKind::Service => "fillcolor=\"#dcfce7\", color=\"#16a34a\"",
            NodeKind::Container => "fillcolor=\"#ffedd5\", color=\"#ea580c\"",
            NodeKind::Remote => "style=\"filled,dashed\", fillcolor=\"#ede9fe\", color=\"#7c3aed\"",
        };
        let links = diagram.links.iter().filter(|it| it.node == at && !it.addrs.is_empty());
        let addrs = links.map(|it| format!("{} {}", it.dev, it.addrs.join(" ")));
        let lines: Vec<String> = std::iter::once(node.short()).chain(addrs).collect();
        self.line(&format!(
            "{} [label={}, tooltip={}, {colors}];",
            node_id(node),
            label(&lines.join("\n")),
            label(&details(&node.title(), &node.facts))
        ));
    }

    /// One edge per link with a segment.
    fn edges(&mut self, diagram: &Diagram, link: &Link) {
        let Some(segment) = link.segment.and_then(|it| diagram.segments.get(it)) else { return };
        let mut labels = Vec::new();
        if link.kind != "veth" {
            labels.push(link.kind.clone());
        }
        labels.extend(link.marks.iter().cloned());
        let (from, to) = if link.is_tunnel {
            let Some(node) = diagram.nodes.get(link.node) else { return };
            (port(link), remote(node))
        } else if segment.is_bridge() {
            (interface(link), port(link))
        } else {
            (interface(link), device(segment))
        };
        let mut attributes = vec![format!("tooltip={}", label(&details(&link.id, &link.facts)))];
        if !labels.is_empty() {
            attributes.insert(0, format!("label={}", label(&labels.join("\n"))));
        }
        if link.is_tunnel {
            attributes.push("style=dashed, color=\"#7c3aed\"".to_owned());
        }
        // For those who search the text.
        self.line(&format!("// link {}", printable(&link.id)));
        self.line(&format!("{from} -> {to} [{}];", attributes.join(", ")));
    }
}

fn interface(link: &Link) -> String {
    id(&["interface", &link.id])
}

fn port(link: &Link) -> String {
    id(&["port", &link.id])
}

fn device(segment: &Segment) -> String {
    id(&[if segment.on_host { "device" } else { "device of conlink" }, &segment.name])
}

fn remote(node: &Node) -> String {
    id(&["remote", &node.name])
}

fn node_id(node: &Node) -> String {
    id(&[node.kind.word(), &node.short()])
}

fn segment_id(segment: &Segment) -> String {
    if segment.is_bridge() { id(&["bridge", &segment.name]) } else { device(segment) }
}

fn details(title: &str, facts: &[Fact]) -> String {
    std::iter::once(title.to_owned()).chain(lines(facts)).collect::<Vec<_>>().join("\n")
}

/// A quoted identifier. Backslashes are doubled, because one before the closing quote would escape it. Unprintable
/// characters are escaped as in Rust.
fn id(parts: &[&str]) -> String {
    let mut quoted = String::from("\"");
    for it in parts.join(":").chars() {
        match it {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            it if printable(it.encode_utf8(&mut [0; 4])) == it.to_string() => quoted.push(it),
            it => quoted.push_str(&format!("\\\\u{{{:x}}}", u32::from(it))),
        }
    }
    quoted.push('"');
    quoted
}

/// A quoted label. Escapes of Graphviz (`\N`, `\l`) and entities (`&lt;`) in the text are shown literally.
fn label(text: &str) -> String {
    let mut quoted = String::from("\"");
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            quoted.push_str("\\n");
        }
        for it in printable(line).chars() {
            match it {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                '&' => quoted.push_str("&amp;"),
                it => quoted.push(it),
            }
        }
    }
    quoted.push('"');
    quoted
}
