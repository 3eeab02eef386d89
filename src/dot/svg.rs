//! The picture as self-contained SVG, with a light and a dark colour scheme.

use std::fmt::Write;

use crate::dot::layout::{Content, Layout, Rect, TITLE_HEIGHT, bar_title, layout};
use crate::dot::text::xml;
use crate::dot::{Diagram, Fact, NodeKind, SegmentKind, lines};

/// Number of hues for segments.
const HUES: [(&str, &str); 8] = [
    ("#2563eb", "#60a5fa"),
    ("#c2410c", "#fb923c"),
    ("#15803d", "#4ade80"),
    ("#a21caf", "#e879f9"),
    ("#0e7490", "#22d3ee"),
    ("#b91c1c", "#f87171"),
    ("#4d7c0f", "#a3e635"),
    ("#6d28d9", "#a78bfa"),
];

const STYLE: &str = "\
.page{fill:#ffffff}\
text{font-family:system-ui,-apple-system,\"Segoe UI\",\"Helvetica Neue\",\"DejaVu Sans\",Arial,sans-serif;fill:#0f172a}\
.row{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,\"DejaVu Sans Mono\",monospace;font-size:11px;fill:#334155}\
.mark{fill:#b45309}\
.title{font-size:13px;font-weight:600}\
.sub{font-size:10px;fill:#475569}\
.host{fill:#f1f5f9;stroke:#cbd5e1}\
.engine{fill:#e0f2fe;stroke:#7dd3fc}\
.region{font-size:10px;font-weight:600;fill:#475569}\
.box{stroke-width:1.5}\
.service .box{fill:#f0fdf4;stroke:#16a34a}\
.container .box{fill:#fff7ed;stroke:#ea580c}\
.remote .box{fill:#f5f3ff;stroke:#7c3aed;stroke-dasharray:5 3}\
.service .sign{fill:#16a34a}\
.container .sign{fill:#ea580c}\
.remote .sign{fill:#7c3aed}\
.bar{fill:#ffffff;stroke-width:2}\
.device .bar{fill:#fef3c7;stroke-dasharray:7 3}\
.wire{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}\
.tunnel{stroke-dasharray:6 4}\
.end{stroke:none}\
";

const DARK: &str = "\
.page{fill:#0f172a}\
text{fill:#f1f5f9}\
.row{fill:#cbd5e1}\
.mark{fill:#fbbf24}\
.sub{fill:#94a3b8}\
.host{fill:#1e293b;stroke:#475569}\
.engine{fill:#0c3049;stroke:#0369a1}\
.region{fill:#94a3b8}\
.service .box{fill:#0b2a1a;stroke:#22c55e}\
.container .box{fill:#331a0b;stroke:#f97316}\
.remote .box{fill:#251a45;stroke:#a78bfa}\
.service .sign{fill:#22c55e}\
.container .sign{fill:#f97316}\
.remote .sign{fill:#a78bfa}\
.bar{fill:#0f172a}\
.device .bar{fill:#3a2c0a}\
";

/// The diagram as a picture.
pub fn svg(diagram: &Diagram) -> String {
    draw(diagram, &layout(diagram))
}

fn draw(diagram: &Diagram, layout: &Layout) -> String {
    let mut text = String::new();
    let (w, h) = (layout.width, layout.height);
    let summary = summary(diagram);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" role=\"img\" \
         aria-label=\"{0}\">\n<title>{0}</title>",
        xml(&summary)
    );
    let _ = writeln!(text, "<style>{}</style>", style(layout));
    let _ = writeln!(text, "<rect class=\"page\" width=\"{w}\" height=\"{h}\" rx=\"8\"/>");
    for it in &layout.regions {
        let _ = writeln!(
            text,
            "<path class=\"{}\" d=\"{}\"/><text class=\"region\" x=\"{}\" y=\"{}\">{}</text>",
            it.class,
            path(&it.points, 10, true),
            it.title_at.0,
            it.title_at.1,
            it.title
        );
    }
    text.push_str("<g class=\"wires\">\n");
    for wire in &layout.wires {
        let link = &diagram.links[wire.link];
        let class = if link.is_tunnel { " tunnel" } else { "" };
        let _ = writeln!(
            text,
            "<path class=\"wire h{}{class}\" data-link=\"{}\" d=\"{}\"><title>{}</title></path>",
            layout.hues[wire.segment] % HUES.len(),
            wire.link,
            path(&wire.points, 6, false),
            details(&link.id, &link.facts)
        );
    }
    text.push_str("</g>\n");
    for (at, rect) in layout.bars.iter().enumerate() {
        bar(&mut text, diagram, at, *rect, layout.hues[at]);
    }
    for (at, (rect, content)) in layout.boxes.iter().enumerate() {
        node(&mut text, diagram, at, *rect, content);
    }
    for wire in &layout.wires {
        if let Some((x, y)) = wire.points.first() {
            let _ = writeln!(
                text,
                "<circle class=\"end f{}\" data-link=\"{}\" cx=\"{x}\" cy=\"{y}\" r=\"3\"/>",
                layout.hues[wire.segment] % HUES.len(),
                wire.link
            );
        }
    }
    legend(&mut text, diagram, layout);
    text.push_str("</svg>\n");
    text
}

/// `12 services and containers, 3 bridges, 15 links`.
pub(super) fn summary(diagram: &Diagram) -> String {
    let bridges = diagram.segments.iter().filter(|it| it.is_bridge()).count();
    let nodes = diagram.nodes.iter().filter(|it| it.kind != NodeKind::Remote).count();
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    format!(
        "Network: {}, {}, {}",
        counted(nodes, "node"),
        counted(bridges, "bridge"),
        counted(diagram.links.len(), "link")
    )
}

fn style(layout: &Layout) -> String {
    let mut style = STYLE.to_owned();
    let mut dark = DARK.to_owned();
    for (number, (light, dark_hue)) in HUES.iter().enumerate() {
        if !layout.hues.iter().any(|it| it % HUES.len() == number) {
            continue;
        }
        let _ = write!(style, ".h{number}{{stroke:{light}}}.f{number}{{fill:{light}}}");
        let _ = write!(dark, ".h{number}{{stroke:{dark_hue}}}.f{number}{{fill:{dark_hue}}}");
    }
    format!("{style}@media (prefers-color-scheme:dark){{{dark}}}")
}

/// A line through the points with rounded corners.
fn path(points: &[(i32, i32)], radius: i32, closed: bool) -> String {
    let mut text = String::new();
    let count = points.len();
    for (at, (x, y)) in points.iter().copied().enumerate() {
        let is_end = at == 0 || at + 1 == count;
        if is_end && !closed {
            let _ = write!(text, "{}{x} {y}", if at == 0 { "M" } else { "L" });
            continue;
        }
        let toward = |(to_x, to_y): (i32, i32)| {
            let (dx, dy) = (to_x - x, to_y - y);
            let step = radius.min(dx.abs().max(dy.abs()) / 2);
            (x + dx.signum() * step, y + dy.signum() * step)
        };
        let (before, after) = (toward(points[(at + count - 1) % count]), toward(points[(at + 1) % count]));
        let command = if at == 0 { "M" } else { "L" };
        let _ = write!(text, "{command}{} {}Q{x} {y} {} {}", before.0, before.1, after.0, after.1);
    }
    if closed {
        text.push('Z');
    }
    text
}

fn details(title: &str, facts: &[Fact]) -> String {
    xml(&std::iter::once(title.to_owned()).chain(lines(facts)).collect::<Vec<_>>().join("\n"))
}

fn bar(text: &mut String, diagram: &Diagram, at: usize, rect: Rect, hue: usize) {
    let segment = &diagram.segments[at];
    let (class, sub) = match &segment.kind {
        SegmentKind::Bridge { mode } if mode == "patch" => ("bridge", "patch".to_owned()),
        SegmentKind::Bridge { mode } => ("bridge", format!("{mode} bridge").trim_start().to_owned()),
        SegmentKind::Device => {
            ("device", if segment.on_host { "host interface" } else { "interface" }.to_owned())
        }
    };
    let (x, y) = (rect.x + rect.w / 2, rect.middle());
    let _ = writeln!(
        text,
        "<g class=\"{class}\" data-segment=\"{at}\"><title>{}</title><rect class=\"bar h{}\" x=\"{}\" y=\"{}\" width=\"{}\" \
         height=\"{}\" rx=\"{}\"/><text class=\"title\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
         <text class=\"sub\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text></g>",
        details(&segment.title(), &segment.facts),
        hue % HUES.len(),
        rect.x,
        rect.y,
        rect.w,
        rect.h,
        if class == "device" { 2 } else { 10 },
        y - 1,
        xml(&bar_title(&segment.name)),
        y + 13,
        xml(&crate::dot::text::shortened(&sub, 18)),
    );
}

fn class(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Service => "service",
        NodeKind::Container => "container",
        NodeKind::Remote => "remote",
    }
}

/// The symbol of a node type: three bars for a service, a square for a container, a circle for a remote host.
fn sign(kind: NodeKind, x: i32, y: i32) -> String {
    match kind {
        NodeKind::Service => {
            format!("<path class=\"sign\" d=\"M{x} {}h10v2.5h-10zm0 4h10v2.5h-10zm0 4h10v2.5h-10z\"/>", y - 5)
        }
        NodeKind::Container => {
            format!("<rect class=\"sign\" x=\"{x}\" y=\"{}\" width=\"10\" height=\"10\" rx=\"1\"/>", y - 5)
        }
        NodeKind::Remote => format!("<circle class=\"sign\" cx=\"{}\" cy=\"{y}\" r=\"5\"/>", x + 5),
    }
}

fn node(text: &mut String, diagram: &Diagram, at: usize, rect: Rect, content: &Content) {
    let node = &diagram.nodes[at];
    let radius = if node.kind == NodeKind::Service { 8 } else { 3 };
    let _ = write!(
        text,
        "<g class=\"{}\" data-node=\"{at}\"><title>{}</title><rect class=\"box\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" \
         rx=\"{radius}\"/>{}<text class=\"title\" x=\"{}\" y=\"{}\">{}</text>",
        class(node.kind),
        details(&node.title(), &node.facts),
        rect.x,
        rect.y,
        rect.w,
        rect.h,
        sign(node.kind, rect.x + 10, rect.y + TITLE_HEIGHT / 2 + 1),
        rect.x + 26,
        rect.y + 17,
        xml(&content.title),
    );
    for row in &content.rows {
        let link = &diagram.links[row.link];
        let class = if row.is_mark { "row mark" } else { "row" };
        let _ = write!(
            text,
            "<text class=\"{class}\" data-link=\"{}\" x=\"{}\" y=\"{}\" xml:space=\"preserve\">{}<title>{}</title></text>",
            row.link,
            rect.x + 10,
            rect.y + row.y + 4,
            xml(&row.text),
            details(&link.id, &link.facts)
        );
    }
    text.push_str("</g>\n");
}

/// The legend of the symbols in the picture.
fn legend(text: &mut String, diagram: &Diagram, layout: &Layout) {
    let y = layout.height - 18;
    let mut x = 26;
    for kind in [NodeKind::Service, NodeKind::Container, NodeKind::Remote] {
        if diagram.nodes.iter().any(|it| it.kind == kind) {
            let _ = write!(
                text,
                "<g class=\"{}\">{}<text class=\"sub\" x=\"{}\" y=\"{}\">{}</text></g>",
                class(kind),
                sign(kind, x, y),
                x + 15,
                y + 4,
                kind.word()
            );
            x += 32 + kind.word().len() as i32 * 6;
        }
    }
    text.push('\n');
}
