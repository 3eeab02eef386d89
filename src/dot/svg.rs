//! The picture, as SVG that needs nothing but itself: light, or dark where the reader's screen is.

use std::fmt::Write;

use crate::dot::layout::{Content, Label, Layout, Rect, TITLE_HEIGHT, Wire, bar_title, layout};
use crate::dot::text::xml;
use crate::dot::{Diagram, Fact, NodeKind, SegmentKind, lines};
use crate::words::counted;

/// The hues of segments, light and dark, each with the names that ask for it. Segments without such a name take the first
/// eight in turn; cables take the last.
const HUES: [(&str, &str, &[&str]); 10] = [
    ("#2563eb", "#60a5fa", &["blue", "navy", "azure"]),
    ("#c2410c", "#fb923c", &["orange", "brown"]),
    ("#15803d", "#4ade80", &["green"]),
    ("#a21caf", "#e879f9", &["magenta", "pink", "fuchsia"]),
    ("#0e7490", "#22d3ee", &["cyan", "teal", "turquoise"]),
    ("#b91c1c", "#f87171", &["red", "crimson"]),
    ("#4d7c0f", "#a3e635", &["lime", "olive"]),
    ("#6d28d9", "#a78bfa", &["violet", "purple"]),
    ("#a16207", "#facc15", &["yellow", "amber", "gold"]),
    ("#64748b", "#94a3b8", &["grey", "gray", "black", "white", "silver"]),
];
const TELL_APART: usize = 8;
const CABLE: usize = HUES.len() - 1;

/// The hue of each segment: the one in its name, or one that is in no other segment's name.
fn hues(diagram: &Diagram, layout: &Layout) -> Vec<usize> {
    let of_name = |name: &str| {
        let name = name.to_lowercase();
        let mut words = name.split(|it: char| !it.is_alphabetic());
        words.find_map(|word| HUES.iter().position(|(_, _, words)| words.contains(&word)))
    };
    let named: Vec<Option<usize>> = diagram.segments.iter().map(|it| of_name(&it.name)).collect();
    let mut free: Vec<usize> = (0..TELL_APART).filter(|it| !named.contains(&Some(*it))).collect();
    if free.is_empty() {
        free = (0..TELL_APART).collect();
    }
    let hue = |at: usize| match (named[at], layout.bars[at]) {
        (Some(it), _) => it,
        (None, None) => CABLE,
        (None, Some(_)) => free[layout.hues[at] % free.len()],
    };
    (0..diagram.segments.len()).map(hue).collect()
}

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
.name,.dev{font-size:10px;fill:#334155;paint-order:stroke;stroke:#ffffff;stroke-width:4px;stroke-linejoin:round}\
.dev{fill:#64748b}\
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
.name,.dev{fill:#cbd5e1;stroke:#0f172a}\
.dev{fill:#94a3b8}\
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
    let hues = hues(diagram, layout);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" role=\"img\" \
         aria-label=\"{0}\">\n<title>{0}</title>",
        xml(&summary)
    );
    let _ = writeln!(text, "<style>{}</style>", style(&hues));
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
        if let Some(far) = wire.far {
            cable(&mut text, diagram, layout, wire, far, hues[wire.segment]);
            continue;
        }
        let class = if link.is_tunnel { " tunnel" } else { "" };
        let _ = writeln!(
            text,
            "<path class=\"wire h{}{class}\" data-link=\"{}\" d=\"{}\"><title>{}</title></path>",
            hues[wire.segment],
            wire.link,
            path(&wire.points, 6, false),
            details(&link.id, &link.facts)
        );
    }
    text.push_str("</g>\n");
    for (at, rect) in layout.bars.iter().enumerate() {
        if let Some(rect) = rect {
            bar(&mut text, diagram, at, *rect, hues[at]);
        }
    }
    for (at, (rect, content)) in layout.boxes.iter().enumerate() {
        node(&mut text, diagram, at, *rect, content);
    }
    for wire in &layout.wires {
        let near = wire.points.first().map(|it| (it, wire.link));
        let far = wire.points.last().zip(wire.far);
        for ((x, y), link) in near.into_iter().chain(far) {
            let _ = writeln!(
                text,
                "<circle class=\"end f{}\" data-link=\"{link}\" cx=\"{x}\" cy=\"{y}\" r=\"3\"/>",
                hues[wire.segment]
            );
        }
    }
    legend(&mut text, diagram, layout);
    text.push_str("</svg>\n");
    text
}

/// `Network: 12 nodes, 3 bridges, 2 cables, 15 links`.
pub(super) fn summary(diagram: &Diagram) -> String {
    let cables = diagram.cables().iter().flatten().count();
    let bridges = diagram.segments.iter().filter(|it| it.is_bridge()).count() - cables;
    let nodes = diagram.nodes.iter().filter(|it| it.kind != NodeKind::Remote).count();
    format!(
        "Network: {}, {}, {}{}",
        counted(nodes, "node"),
        counted(bridges, "bridge"),
        if cables > 0 { counted(cables, "cable") + ", " } else { String::new() },
        counted(diagram.links.len(), "link")
    )
}

fn style(hues: &[usize]) -> String {
    let mut style = STYLE.to_owned();
    let mut dark = DARK.to_owned();
    for (number, (light, dark_hue, _)) in HUES.iter().enumerate() {
        if !hues.contains(&number) {
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

/// A cable with its name and the names of its ends; `data-far` is the link at the other end.
fn cable(text: &mut String, diagram: &Diagram, layout: &Layout, wire: &Wire, far: usize, hue: usize) {
    let segment = &diagram.segments[wire.segment];
    let links = [wire.link, far].map(|it| &diagram.links[it]);
    let class = if links.iter().any(|it| it.is_tunnel) { " tunnel" } else { "" };
    let ends =
        links.map(|it| std::iter::once(it.id.clone()).chain(lines(&it.facts)).collect::<Vec<_>>().join("\n"));
    let facts: Vec<String> = lines(&segment.facts).collect();
    let title: Vec<String> =
        std::iter::once(format!("cable {}", segment.name)).chain(facts).chain(ends).collect();
    let _ = write!(
        text,
        "<g class=\"cable\" data-segment=\"{}\"><path class=\"wire h{hue}{class}\" data-link=\"{}\" data-far=\"{far}\" \
         d=\"{}\"><title>{}</title></path>",
        wire.segment,
        wire.link,
        path(&wire.points, 6, false),
        xml(&title.join("\n"))
    );
    for Label { text: name, at: (x, y), is_end, .. } in
        layout.labels.iter().filter(|it| it.segment == wire.segment)
    {
        let class = if *is_end { "dev" } else { "name" };
        let _ = write!(
            text,
            "<text class=\"{class}\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            y + 4,
            xml(name)
        );
    }
    text.push_str("</g>\n");
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
        hue,
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

/// The sign of a kind: three replicas' worth of bars for a service, a square for a container, a circle for a remote host.
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

/// What the signs mean: those of them that are there.
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
