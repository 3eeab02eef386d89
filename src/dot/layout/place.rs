//! Coordinates of boxes, bars and the frames around them.

use crate::dot::layout::order::Order;
use crate::dot::layout::{Rect, Region, Scene};

/// Where the bars are, and what is on which side of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One column of bars, nodes on both sides.
    Around,
    /// One column of bars: nodes on several segments at its left, the others at its right.
    OneWing,
    /// Two columns of bars: nodes on several segments between them, the others outside.
    TwoWings,
}

/// Nodes side by side, beside their bar.
#[derive(Clone, Debug)]
pub(super) struct LeafRow {
    pub(super) segment: usize,
    /// From the bar outwards.
    pub(super) nodes: Vec<usize>,
    pub(super) to_left: bool,
    /// The line above the nodes that they hang from; none for a node alone, which is joined at its side.
    pub(super) branch: Option<i32>,
}

/// Nodes side by side, between the bars.
#[derive(Clone, Debug)]
pub(super) struct CoreRow {
    pub(super) nodes: Vec<usize>,
    /// Where the lines above the nodes may begin; none where each node is joined at its sides.
    pub(super) lanes: Option<i32>,
}

#[derive(Debug, Default)]
pub(super) struct Placed {
    pub(super) width: i32,
    pub(super) height: i32,
    /// By node.
    pub(super) boxes: Vec<Rect>,
    /// By segment.
    pub(super) bars: Vec<Rect>,
    /// By segment: are the nodes on several segments at the right of this bar?
    pub(super) in_left_column: Vec<bool>,
    pub(super) rows: Vec<LeafRow>,
    pub(super) core: Vec<CoreRow>,
    pub(super) regions: Vec<Region>,
    /// By segment.
    pub(super) hues: Vec<usize>,
}

const MARGIN: i32 = 24;
/// Between a bar and the nearest node.
const LEAF_GAP: i32 = 40;
const COLUMN_GAP: i32 = 16;
const ROW_GAP: i32 = 12;
const STRIP_GAP: i32 = 22;
/// Above a row, for the line that it hangs from.
const BRANCH: i32 = 14;
const LEAST_BAR: i32 = 60;
pub(super) const TRACK: i32 = 9;
pub(super) const LANE: i32 = 8;
/// Of a frame, around what it holds.
const PAD: i32 = 12;
const BAND: i32 = 24;
/// For the signs' meaning, below everything.
const LEGEND: i32 = 34;

struct Strip {
    height: i32,
    left: Vec<Vec<usize>>,
    right: Vec<Vec<usize>>,
}

/// Places everything in a form, so many nodes side by side.
pub(super) fn place(scene: &Scene<'_>, order: &Order, form: Form, per_row: i32, core_columns: i32) -> Placed {
    let mut placed = Placed {
        boxes: vec![Rect::default(); scene.contents.len()],
        bars: vec![Rect::default(); scene.leaves.len()],
        in_left_column: vec![false; scene.leaves.len()],
        hues: vec![0; scene.leaves.len()],
        ..Placed::default()
    };
    let per_row = per_row.max(1) as usize;
    let strips: Vec<Strip> = (0..scene.leaves.len()).map(|it| strip(scene, it, form, per_row)).collect();
    let block = |rows: &mut dyn Iterator<Item = &Vec<usize>>| {
        let columns = rows.map(Vec::len).max().unwrap_or_default() as i32;
        columns * (scene.leaf_width + COLUMN_GAP) - if columns > 0 { COLUMN_GAP - LEAF_GAP } else { 0 }
    };
    // From left to right.
    let outer_left = match form {
        Form::TwoWings => block(&mut order.left.iter().flat_map(|it| &strips[*it].right)),
        Form::Around => block(&mut order.right.iter().flat_map(|it| &strips[*it].left)),
        Form::OneWing => 0,
    };
    let outer_right = block(&mut order.right.iter().flat_map(|it| &strips[*it].right));
    let channel = |side: &[usize]| {
        let tracks = side.iter().filter(|it| scene.core.iter().any(|node| scene.joined[*node].contains(it)));
        tracks.count() as i32 * TRACK + 2 * PAD + 20
    };
    let core_columns = core_columns.clamp(1, scene.core.len().max(1) as i32);
    let has_core = !scene.core.is_empty();
    let core_width = if has_core { core_columns * (scene.core_width + COLUMN_GAP) - COLUMN_GAP } else { 0 };
    // Beside a bar, the frames around it take room too.
    let frames = if scene.leaves.is_empty() { 0 } else { 2 * PAD };
    let left_edge = MARGIN + if outer_left == 0 && form != Form::OneWing { frames } else { 0 };
    let left_bar = left_edge + outer_left;
    let (core_x, right_bar) = match form {
        Form::TwoWings => {
            let core_x = left_bar + scene.bar_width + channel(&order.left);
            let gap = if has_core { 0 } else { STRIP_GAP };
            (core_x, core_x + core_width + channel(&order.right) + gap)
        }
        _ if has_core => (left_edge, left_edge + core_width + channel(&order.right)),
        _ => (left_edge, left_bar),
    };
    let mut right_edge = if scene.leaves.is_empty() { left_edge } else { right_bar + scene.bar_width };
    right_edge += if outer_right == 0 { frames } else { outer_right };
    // From top to bottom.
    let column = |side: &[usize]| {
        side.iter().map(|it| strips[*it].height + STRIP_GAP).sum::<i32>()
            - if side.is_empty() { 0 } else { STRIP_GAP }
    };
    let rows: Vec<Vec<usize>> = order.core.chunks(core_columns as usize).map(<[usize]>::to_vec).collect();
    let lanes = |row: &[usize]| {
        let mut all: Vec<usize> = row.iter().flat_map(|it| scene.joined[*it].iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        if core_columns > 1 { all.len() as i32 * LANE + 4 } else { 0 }
    };
    let tallest = |row: &[usize]| row.iter().map(|it| scene.contents[*it].h).max().unwrap_or_default();
    let core_heights: Vec<i32> = rows.iter().map(|it| tallest(it) + lanes(it)).collect();
    let core_gap = if core_columns > 1 { ROW_GAP } else { ROW_GAP + 6 };
    let core_height =
        core_heights.iter().map(|it| it + core_gap).sum::<i32>() - if has_core { core_gap } else { 0 };
    let height = column(&order.left).max(column(&order.right)).max(core_height);
    let top = MARGIN + if scene.leaves.is_empty() { 0 } else { 2 * BAND };
    for (side, bar_x, is_left) in [(&order.left, left_bar, true), (&order.right, right_bar, false)] {
        let mut y = top + (height - column(side)) / 2;
        for (at, segment) in side.iter().enumerate() {
            placed.hues[*segment] = if form == Form::TwoWings { 2 * at + usize::from(!is_left) } else { at };
            let strip = &strips[*segment];
            let bar = Rect { x: bar_x, y, w: scene.bar_width, h: strip.height };
            placed.bars[*segment] = bar;
            placed.in_left_column[*segment] = is_left;
            leaf_rows(scene, &mut placed, *segment, &strip.right, is_left);
            leaf_rows(scene, &mut placed, *segment, &strip.left, !is_left);
            y = bar.bottom() + STRIP_GAP;
        }
    }
    core_rows(
        scene,
        &mut placed,
        &rows,
        &core_heights,
        Span { x: core_x, top, height, gap: core_gap },
        lanes,
    );
    frame(scene, order, &mut placed, form, top);
    let mut bottom = top + height + if scene.leaves.is_empty() { 0 } else { 2 * PAD };
    if !scene.alone.is_empty() {
        let fit = ((right_edge - MARGIN + COLUMN_GAP) / (scene.alone_width + COLUMN_GAP)).max(4) as usize;
        for row in scene.alone.chunks(fit) {
            let height = row.iter().map(|it| scene.contents[*it].h).max().unwrap_or_default();
            bottom += ROW_GAP;
            for (at, node) in row.iter().enumerate() {
                let x = MARGIN + at as i32 * (scene.alone_width + COLUMN_GAP);
                placed.boxes[*node] = Rect { x, y: bottom, w: scene.alone_width, h: scene.contents[*node].h };
                right_edge = right_edge.max(x + scene.alone_width);
            }
            bottom += height;
        }
    }
    placed.width = (right_edge + MARGIN).max(320);
    placed.height = bottom + LEGEND + PAD;
    placed
}

fn strip(scene: &Scene<'_>, segment: usize, form: Form, per_row: usize) -> Strip {
    let leaves = &scene.leaves[segment];
    let split = if form == Form::Around { leaves.len() / 2 } else { 0 };
    let (left, right) = leaves.split_at(split);
    let rows = |of: &[usize]| of.chunks(per_row).map(<[usize]>::to_vec).collect::<Vec<_>>();
    let (left, right) = (rows(left), rows(right));
    let height = |rows: &[Vec<usize>]| {
        rows.iter().map(|it| row_height(scene, it) + ROW_GAP).sum::<i32>()
            - if rows.is_empty() { 0 } else { ROW_GAP }
    };
    let joints = scene.core.iter().filter(|it| scene.joined[**it].contains(&segment)).count();
    let least = if joints > 0 { LEAST_BAR } else { LEAST_BAR - 4 };
    Strip { height: height(&left).max(height(&right)).max(least), left, right }
}

fn row_height(scene: &Scene<'_>, row: &[usize]) -> i32 {
    let tallest = row.iter().map(|it| scene.contents[*it].h).max().unwrap_or_default();
    tallest + if row.len() > 1 { BRANCH } else { 0 }
}

/// The rows of one side of a bar, in the middle of its height.
fn leaf_rows(scene: &Scene<'_>, placed: &mut Placed, segment: usize, rows: &[Vec<usize>], to_left: bool) {
    let bar = placed.bars[segment];
    let total = rows.iter().map(|it| row_height(scene, it) + ROW_GAP).sum::<i32>() - ROW_GAP;
    let mut y = bar.y + (bar.h - total) / 2;
    for row in rows {
        let branch = (row.len() > 1).then_some(y + 4);
        let box_y = y + if row.len() > 1 { BRANCH } else { 0 };
        for (at, node) in row.iter().enumerate() {
            let away = LEAF_GAP + at as i32 * (scene.leaf_width + COLUMN_GAP);
            let x = if to_left { bar.x - away - scene.leaf_width } else { bar.right() + away };
            placed.boxes[*node] = Rect { x, y: box_y, w: scene.leaf_width, h: scene.contents[*node].h };
        }
        placed.rows.push(LeafRow { segment, nodes: row.clone(), to_left, branch });
        y += row_height(scene, row) + ROW_GAP;
    }
}

pub(super) struct Span {
    pub(super) x: i32,
    pub(super) top: i32,
    pub(super) height: i32,
    pub(super) gap: i32,
}

/// The rows between the bars: each as near to the middle of its bars as the others let it.
fn core_rows(
    scene: &Scene<'_>,
    placed: &mut Placed,
    rows: &[Vec<usize>],
    heights: &[i32],
    span: Span,
    lanes: impl Fn(&[usize]) -> i32,
) {
    let wish = |row: &Vec<usize>, height: i32| {
        let bars: Vec<i32> =
            row.iter().flat_map(|it| &scene.joined[*it]).map(|it| placed.bars[*it].middle()).collect();
        bars.iter().sum::<i32>() / bars.len().max(1) as i32 - height / 2
    };
    let wishes: Vec<i32> = rows.iter().zip(heights).map(|(row, height)| wish(row, *height)).collect();
    let tops = settle(&wishes, heights, &span);
    for (row, top) in rows.iter().zip(tops) {
        let room = lanes(row);
        for (at, node) in row.iter().enumerate() {
            let x = span.x + at as i32 * (scene.core_width + COLUMN_GAP);
            let y = top + room;
            placed.boxes[*node] = Rect { x, y, w: scene.core_width, h: scene.contents[*node].h };
        }
        placed.core.push(CoreRow { nodes: row.clone(), lanes: (room > 0).then_some(top) });
    }
}

/// Places in order that are nearest to the wishes (least squares) without overlap: pool adjacent violators.
pub(super) fn settle(wishes: &[i32], heights: &[i32], span: &Span) -> Vec<i32> {
    let mut above = 0;
    let mut offsets = Vec::new();
    // Groups of neighbours that move as one: the sum of their wishes, and how many they are.
    let mut groups: Vec<(i32, i32)> = Vec::new();
    for (wish, height) in wishes.iter().zip(heights) {
        offsets.push(above);
        groups.push((wish - above, 1));
        above += height + span.gap;
        while let [.., a, b] = groups.as_slice() {
            if a.0 / a.1 <= b.0 / b.1 {
                break;
            }
            let joined = (a.0 + b.0, a.1 + b.1);
            groups.truncate(groups.len() - 2);
            groups.push(joined);
        }
    }
    let last = (span.top + span.height - (above - span.gap)).max(span.top);
    let all = groups.iter().flat_map(|(sum, count)| (0..*count).map(move |_| sum / count));
    all.zip(offsets).map(|(at, offset)| at.clamp(span.top, last) + offset).collect()
}

/// The frames of host and engine: around one column of bars, or over the nodes between two.
fn frame(scene: &Scene<'_>, order: &Order, placed: &mut Placed, form: Form, top: i32) {
    if scene.leaves.is_empty() {
        return;
    }
    let on_host = |it: &usize| scene.diagram.segments[*it].on_host;
    for (title, class, level, engine_only) in
        [("host system", "host", 1, false), ("conlink/network", "engine", 0, true)]
    {
        let inside = |it: &&usize| !engine_only || !on_host(it);
        let all = || order.left.iter().chain(&order.right).filter(inside);
        if all().next().is_none() {
            continue;
        }
        let pad = PAD / 2 + 2 + level * PAD / 2;
        let has_two = form == Form::TwoWings && !order.left.is_empty();
        let first = order.right.first().map(|it| placed.bars[*it].y);
        let top = if has_two { top } else { first.unwrap_or(top) };
        let y = top - PAD - BAND * (level + 1) + BAND / 2;
        let leg = |side: &[usize]| {
            let bottom = side.iter().filter(inside).map(|it| placed.bars[*it].bottom()).max();
            bottom.map_or(top - PAD, |it| it + pad)
        };
        let edges = |side: &[usize]| {
            let bar = side.first().map(|it| placed.bars[*it]).unwrap_or_default();
            (bar.x - pad, bar.right() + pad)
        };
        let points = if has_two {
            let ((a, b), (c, d)) = (edges(&order.left), edges(&order.right));
            let (left, right, band) = (leg(&order.left), leg(&order.right), top - PAD + 2 * level);
            vec![(a, y), (d, y), (d, right), (c, right), (c, band), (b, band), (b, left), (a, left)]
        } else {
            let (a, d) = edges(&order.right);
            let bottom = leg(&order.right);
            vec![(a, y), (d, y), (d, bottom), (a, bottom)]
        };
        let title_at = (points[0].0 + 10, y + 15);
        placed.regions.push(Region { title, class, points, title_at });
    }
}
