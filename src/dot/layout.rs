//! Where everything goes in a picture.
//!
//! Without cables: segments as bars in one or two columns, nodes on one segment in rows beside its bar, nodes on several
//! between the columns, where their wires reach every bar. With cables the picture shows the topology ([`graph`]): tiers,
//! or boxes as far apart as they are in the network.
//!
//! Whole pixels throughout, so that equal input gives equal bytes on every machine.

mod free;
mod graph;
mod labels;
mod order;
mod pages;
mod place;
mod random;
mod route;
mod tiers;

use std::collections::BTreeSet;

use crate::dot::text::{columns, shortened};
use crate::dot::{Diagram, Node, NodeKind};

use order::order;
use place::{Form, Placed, place};

/// A rectangle, its corner at the top left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rect {
    pub(super) x: i32,
    pub(super) y: i32,
    pub(super) w: i32,
    pub(super) h: i32,
}

impl Rect {
    pub(super) fn right(self) -> i32 {
        self.x + self.w
    }

    pub(super) fn bottom(self) -> i32 {
        self.y + self.h
    }

    pub(super) fn middle(self) -> i32 {
        self.y + self.h / 2
    }
}

/// A line of text in a node's box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) link: usize,
    pub(super) text: String,
    /// An impairment, a forward or a translation, not an address.
    pub(super) is_mark: bool,
    /// Of the middle, from the top of the box.
    pub(super) y: i32,
}

/// What a node's box shows, and how large that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) title: String,
    pub(super) rows: Vec<Row>,
    pub(super) w: i32,
    pub(super) h: i32,
}

/// The line of a link, from the node to the segment, or of a cable, from node to node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wire {
    pub(super) link: usize,
    /// The link at the other end of a cable.
    pub(super) far: Option<usize>,
    pub(super) segment: usize,
    pub(super) points: Vec<(i32, i32)>,
}

/// A name at the middle or the end of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) segment: usize,
    pub(super) text: String,
    /// Of the middle.
    pub(super) at: (i32, i32),
    /// The name of an interface, not of the cable.
    pub(super) is_end: bool,
}

/// What several bars are in: the engine's network, the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) title: &'static str,
    pub(super) class: &'static str,
    pub(super) points: Vec<(i32, i32)>,
    pub(super) title_at: (i32, i32),
}

/// The whole picture.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) width: i32,
    pub(super) height: i32,
    /// By node.
    pub(super) boxes: Vec<(Rect, Content)>,
    /// By segment; none for a cable, which is a line.
    pub(super) bars: Vec<Option<Rect>>,
    /// By segment: a number for its colour, another one than its neighbours'.
    pub(super) hues: Vec<usize>,
    pub(super) wires: Vec<Wire>,
    pub(super) labels: Vec<Label>,
    /// Outermost first.
    pub(super) regions: Vec<Region>,
}

pub(super) const TITLE_HEIGHT: i32 = 24;
const ROW_HEIGHT: i32 = 15;
/// Of a column of the interfaces' monospaced text at 11 pixels, in thousandths of a pixel.
const ROW_COLUMN: i32 = 6_700;
/// Of an average column of a title, at 13 pixels.
const TITLE_COLUMN: i32 = 8_300;
const MOST_COLUMNS: usize = 34;
/// An interface and its address share a row up to here: `eth0 192.168.100.100/24`.
const ONE_ROW: usize = 24;
const MOST_ADDRS: usize = 3;
const MOST_MARKS: usize = 3;

/// What is to be laid out: sizes, and who is joined to what.
struct Scene<'a> {
    diagram: &'a Diagram,
    contents: Vec<Content>,
    /// By segment: the two links that it joins, if it is a cable.
    cables: Vec<Option<[usize; 2]>>,
    /// The segments of each node.
    joined: Vec<BTreeSet<usize>>,
    /// The nodes of each segment that are on no other.
    leaves: Vec<Vec<usize>>,
    /// The nodes on several segments.
    core: Vec<usize>,
    /// The nodes on none.
    alone: Vec<usize>,
    leaf_width: i32,
    core_width: i32,
    alone_width: i32,
    bar_width: i32,
}

impl<'a> Scene<'a> {
    fn new(diagram: &'a Diagram) -> Self {
        let contents: Vec<Content> = (0..diagram.nodes.len()).map(|it| content(diagram, it)).collect();
        let mut joined = vec![BTreeSet::new(); diagram.nodes.len()];
        for link in &diagram.links {
            joined[link.node].extend(link.segment);
        }
        let mut leaves = vec![Vec::new(); diagram.segments.len()];
        let (mut core, mut alone) = (Vec::new(), Vec::new());
        for (node, segments) in joined.iter().enumerate() {
            match (segments.len(), segments.first()) {
                (1, Some(only)) => leaves[*only].push(node),
                (0, _) => alone.push(node),
                _ => core.push(node),
            }
        }
        for all in leaves.iter_mut().chain([&mut core, &mut alone]) {
            all.sort_by_cached_key(|it| natural(&diagram.nodes[*it]));
        }
        let widest =
            |of: &mut dyn Iterator<Item = usize>| of.map(|it| contents[it].w).max().unwrap_or_default();
        let (leaf_width, core_width) =
            (widest(&mut leaves.iter().flatten().copied()), widest(&mut core.iter().copied()));
        let alone_width = widest(&mut alone.iter().copied());
        let names = diagram.segments.iter().map(|it| columns(&bar_title(&it.name)));
        let bar_width = (names.max().unwrap_or_default() as i32 * TITLE_COLUMN / 1000 + 24).max(104);
        Self {
            diagram,
            contents,
            cables: diagram.cables(),
            joined,
            leaves,
            core,
            alone,
            leaf_width,
            core_width,
            alone_width,
            bar_width,
        }
    }
}

/// Services, containers, remote hosts; `h2` before `h10`.
fn natural(node: &Node) -> (NodeKind, Vec<(u64, String)>, Option<u32>) {
    let mut parts = vec![(0_u64, String::new())];
    let mut in_number = false;
    for it in node.name.chars() {
        let digit = it.to_digit(10);
        if digit.is_none() && in_number {
            parts.push((0, String::new()));
        }
        in_number = digit.is_some();
        if let Some(last) = parts.last_mut() {
            match digit {
                Some(digit) => last.0 = last.0.saturating_mul(10).saturating_add(digit.into()),
                None => last.1.push(it),
            }
        }
    }
    // Text first, then the number that follows it.
    let mut key: Vec<(u64, String)> = Vec::new();
    for (number, text) in parts {
        key.push((0, text));
        key.push((number, String::new()));
    }
    (node.kind, key, node.replica)
}

/// A segment's name as its bar has it.
pub(super) fn bar_title(name: &str) -> String {
    shortened(name, 20)
}

fn content(diagram: &Diagram, at: usize) -> Content {
    let node = &diagram.nodes[at];
    let title = shortened(&node.short(), 26);
    let mut rows = Vec::new();
    let mut y = TITLE_HEIGHT + ROW_HEIGHT / 2;
    let mut push = |link: usize, text: String, is_mark: bool| {
        rows.push(Row { link, text: shortened(&text, MOST_COLUMNS), is_mark, y });
        y += ROW_HEIGHT;
    };
    for (number, link) in diagram.links.iter().enumerate().filter(|(_, it)| it.node == at) {
        let mut head = if link.is_tunnel { link.outer.clone() } else { link.dev.clone() };
        if !link.is_tunnel && link.kind != "veth" {
            head = format!("{head} {}", link.kind);
        }
        let addrs = &link.addrs;
        let first = addrs.first().filter(|it| columns(&head) + 1 + columns(it) <= ONE_ROW);
        let rest = addrs.get(usize::from(first.is_some())..).unwrap_or_default();
        push(number, first.map_or(head.clone(), |it| format!("{head} {it}")), false);
        for (shown, it) in rest.iter().enumerate() {
            if shown + 2 > MOST_ADDRS && rest.len() > shown + 1 {
                push(number, format!("  and {} more", rest.len() - shown), false);
                break;
            }
            push(number, format!("  {it}"), false);
        }
        for (shown, it) in link.marks.iter().enumerate() {
            if shown + 1 == MOST_MARKS && link.marks.len() > MOST_MARKS {
                push(number, format!("  and {} more", link.marks.len() - shown), true);
                break;
            }
            push(number, it.clone(), true);
        }
    }
    let widest = rows.iter().map(|it| columns(&it.text) as i32 * ROW_COLUMN / 1000).max().unwrap_or_default();
    // The sign of what it is stands before the title.
    let w = widest.max(columns(&title) as i32 * TITLE_COLUMN / 1000 + 16) + 20;
    let extra = if rows.is_empty() { 4 } else { 6 };
    Content {
        title,
        w: w.max(if node.kind == NodeKind::Remote { 120 } else { 80 }),
        h: y - ROW_HEIGHT / 2 + extra,
        rows,
    }
}

/// Lays the picture out.
pub(super) fn layout(diagram: &Diagram) -> Layout {
    let scene = Scene::new(diagram);
    if scene.cables.iter().any(Option::is_some) { graph::layout(scene) } else { bridged(scene) }
}

/// A network without cables: of all forms that it can have, the one that fills a screen best.
fn bridged(mut scene: Scene<'_>) -> Layout {
    let diagram = scene.diagram;
    let one = order(&scene, false);
    let two = order(&scene, true);
    let largest = scene.leaves.iter().map(Vec::len).max().unwrap_or_default().clamp(1, 12);
    let most_core = match scene.core.len() {
        0..=4 => 1,
        many => many.div_ceil(4).min(10),
    };
    let mut best: Option<(i64, Placed)> = None;
    for per_row in 1..=largest {
        for core_columns in 1..=most_core {
            for form in [Form::Around, Form::OneWing, Form::TwoWings] {
                if (form == Form::Around) != scene.core.is_empty() && form != Form::TwoWings {
                    continue;
                }
                if form == Form::TwoWings && diagram.segments.len() < 2 {
                    continue;
                }
                let order = if form == Form::TwoWings { &two } else { &one };
                let placed = place(&scene, order, form, per_row as i32, core_columns as i32);
                let cost = cost(&scene, &placed, form, per_row, core_columns);
                if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                    best = Some((cost, placed));
                }
            }
        }
    }
    let placed = best.map(|(_, it)| it).unwrap_or_default();
    sort_rows(&mut scene, &placed);
    let wires = route::wires(&scene, &placed);
    Layout {
        width: placed.width,
        height: placed.height,
        boxes: placed.boxes.into_iter().zip(scene.contents).collect(),
        bars: placed.bars.into_iter().map(Some).collect(),
        hues: placed.hues,
        wires,
        labels: Vec::new(),
        regions: placed.regions,
    }
}

/// Puts the rows of nodes on several segments in the order of their bars, where lines cross less for it.
fn sort_rows(scene: &mut Scene<'_>, placed: &Placed) {
    let before = (route::crossings(scene, placed), scene.contents.clone());
    for node in scene.core.clone() {
        let mut links: Vec<usize> = scene.contents[node].rows.iter().map(|it| it.link).collect();
        links.dedup();
        let bar = |it: usize| scene.diagram.links[it].segment.map_or(i32::MAX, |it| placed.bars[it].y);
        links.sort_by_key(|it| bar(*it));
        scene.contents[node] = graph::in_order(&scene.contents[node], &links);
    }
    if route::crossings(scene, placed) >= before.0 {
        scene.contents = before.1;
    }
}

/// How far a picture is from one that is as small as it can be and of the shape of a slide: the side of the smallest frame
/// of 16:10 that it fits into, and something for what makes wires hard to follow.
fn cost(scene: &Scene<'_>, placed: &Placed, form: Form, per_row: usize, core_columns: usize) -> i64 {
    let frame = i64::from(placed.width.max(placed.height * 16 / 10));
    let wings = if form == Form::TwoWings { 3 } else { 0 };
    // Where there are many, crossings cannot be helped, and counting them takes long.
    let crossings = if scene.core.len() <= FEW { route::crossings(scene, placed).min(40) as i64 } else { 0 };
    // A picture that fits a screen anyway gains nothing from being smaller.
    frame.max(700) * (100 + wings + 2 * per_row as i64 + 6 * core_columns as i64 + 5 * crossings)
}

/// So many nodes between the bars are few.
const FEW: usize = 24;

#[cfg(test)]
mod tests;
