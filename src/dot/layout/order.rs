//! The order and side of the bars, and the order of the nodes between them, by the barycentre method for layered
//! drawings (Sugiyama, Tagawa, Toda 1981). The order with the fewest crossings is kept.

use std::collections::{BTreeSet, VecDeque};

use crate::dot::layout::Scene;

/// Segments from top to bottom in each column, and the nodes between them.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    pub(super) left: Vec<usize>,
    pub(super) right: Vec<usize>,
    pub(super) core: Vec<usize>,
}

const ROUNDS: usize = 12;

/// Computes the order. A single column is the right one.
pub(super) fn order(scene: &Scene<'_>, two_columns: bool) -> Order {
    let mut best: Option<((usize, u64), Order)> = None;
    // Depth first is good for chains and trees, breadth first for rings.
    for breadth in [false, true] {
        let mut order = Order { core: scene.core.clone(), ..Order::default() };
        let mut heights = [0, 0];
        for segment in walk(scene, breadth) {
            let height = scene.leaves[segment].len() + 1;
            let to_left = two_columns && heights[0] < heights[1];
            heights[usize::from(!to_left)] += height;
            if to_left { &mut order.left } else { &mut order.right }.push(segment);
        }
        by_place(scene, &mut order);
        for _ in 0..ROUNDS {
            settle_core(scene, &mut order);
            let cost = (crossings(scene, &order), length(scene, &order));
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, order.clone()));
            }
            settle_segments(scene, &mut order);
        }
    }
    best.map(|(_, it)| it).unwrap_or_default()
}

/// Orders segments so that connected ones are next to each other, starting at the ends.
fn walk(scene: &Scene<'_>, breadth: bool) -> Vec<usize> {
    let nodes_of =
        |segment: usize| scene.core.iter().copied().filter(move |it| scene.joined[*it].contains(&segment));
    let mut starts: Vec<usize> = (0..scene.leaves.len()).collect();
    starts.sort_by_key(|it| (nodes_of(*it).count(), *it));
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for start in starts {
        let mut open = VecDeque::from([start]);
        while let Some(segment) = if breadth { open.pop_front() } else { open.pop_back() } {
            if !seen.insert(segment) {
                continue;
            }
            found.push(segment);
            let next: BTreeSet<usize> =
                nodes_of(segment).flat_map(|it| scene.joined[it].iter().copied()).collect();
            let next = next.into_iter().filter(|it| !seen.contains(it));
            if breadth { open.extend(next) } else { open.extend(next.rev()) }
        }
    }
    found
}

/// Moves the engine's segments above the host's, because each has one frame.
fn by_place(scene: &Scene<'_>, order: &mut Order) {
    for side in [&mut order.left, &mut order.right] {
        side.sort_by_key(|it| scene.diagram.segments[*it].on_host);
    }
}

/// The vertical position of each segment's middle, in thousandths of the column's height.
fn heights(scene: &Scene<'_>, order: &Order) -> Vec<i64> {
    let mut heights = vec![0; scene.leaves.len()];
    for side in [&order.left, &order.right] {
        let size = |it: usize| scene.leaves[it].len() as i64 + 1;
        let total: i64 = side.iter().map(|it| size(*it)).sum::<i64>().max(1);
        let mut above = 0;
        for it in side {
            heights[*it] = (2 * above + size(*it)) * 500_000 / total;
            above += size(*it);
        }
    }
    heights
}

fn settle_core(scene: &Scene<'_>, order: &mut Order) {
    let heights = heights(scene, order);
    let mean = |node: usize| mean(scene.joined[node].iter().map(|it| heights[*it]));
    order.core.sort_by_key(|it| mean(*it));
}

fn settle_segments(scene: &Scene<'_>, order: &mut Order) {
    let own = heights(scene, order);
    let count = order.core.len().max(1) as i64;
    let mut positions = vec![0; scene.joined.len()];
    for (at, node) in order.core.iter().enumerate() {
        positions[*node] = (2 * at as i64 + 1) * 500_000 / count;
    }
    let core = order.core.clone();
    let mean = |segment: usize| {
        let mut nodes = core.iter().filter(|it| scene.joined[**it].contains(&segment)).peekable();
        if nodes.peek().is_none() { own[segment] } else { mean(nodes.map(|it| positions[*it])) }
    };
    order.left.sort_by_key(|it| mean(*it));
    order.right.sort_by_key(|it| mean(*it));
    by_place(scene, order);
}

fn mean(of: impl Iterator<Item = i64>) -> i64 {
    let (sum, count) = of.fold((0, 0), |(sum, count), it| (sum + it, count + 1));
    sum / count.max(1)
}

/// The sum of the vertical distances of all lines, in thousandths of the height.
fn length(scene: &Scene<'_>, order: &Order) -> u64 {
    let heights = heights(scene, order);
    let count = order.core.len().max(1) as i64;
    let lines = order.core.iter().enumerate().flat_map(|(at, node)| {
        let own = (2 * at as i64 + 1) * 500_000 / count;
        scene.joined[*node].iter().map(move |it| (own, *it))
    });
    lines.map(|(own, it)| own.abs_diff(heights[it])).sum()
}

/// The number of crossings of straight lines between the nodes and the columns.
fn crossings(scene: &Scene<'_>, order: &Order) -> usize {
    let mut count = 0;
    for side in [&order.left, &order.right] {
        let mut lines = Vec::new();
        for (above, node) in order.core.iter().enumerate() {
            lines.extend(
                side.iter()
                    .enumerate()
                    .filter(|(_, it)| scene.joined[*node].contains(it))
                    .map(|(at, _)| (above, at)),
            );
        }
        // With more lines single ones cannot be followed anyway, and counting all pairs takes too long.
        lines.truncate(1500);
        count += crossings_of(&lines);
    }
    count
}

/// The number of pairs of lines that cross. A line joins a place of one column with a place of the next.
pub(super) fn crossings_of(lines: &[(usize, usize)]) -> usize {
    let cross = |a: &(usize, usize), b: &(usize, usize)| (a.0 < b.0 && a.1 > b.1) || (a.0 > b.0 && a.1 < b.1);
    lines.iter().enumerate().map(|(at, a)| lines.iter().take(at).filter(|b| cross(a, b)).count()).sum()
}
