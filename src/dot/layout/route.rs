//! The lines of links: right angles, a column of tracks between bars and nodes, one track a segment.

use std::collections::BTreeMap;

use crate::dot::layout::place::{LANE, Placed, TRACK};
use crate::dot::layout::{Scene, Wire};

/// Every link that joins a segment, drawn.
pub(super) fn wires(scene: &Scene<'_>, placed: &Placed) -> Vec<Wire> {
    let mut wires = leaf_wires(scene, placed);
    for left in [true, false] {
        wires.extend(core_wires(scene, placed, left));
    }
    wires.sort_by_key(|it| it.link);
    wires
}

/// How often wires to the nodes between the bars cross those of another segment.
pub(super) fn crossings(scene: &Scene<'_>, placed: &Placed) -> usize {
    let of = |left: bool| core_wires(scene, placed, left);
    let lines: Vec<(usize, Line)> = [true, false]
        .into_iter()
        .flat_map(of)
        .flat_map(|it| it.points.windows(2).map(|ends| (it.segment, (ends[0], ends[1]))).collect::<Vec<_>>())
        .collect();
    let mut count = 0;
    for (at, (segment, a)) in lines.iter().enumerate() {
        count += lines.iter().take(at).filter(|(other, b)| other != segment && cross(*a, *b)).count();
    }
    count
}

type Line = ((i32, i32), (i32, i32));

/// Does one of two straight lines, level or upright, pass through the other?
pub(super) fn cross(a: Line, b: Line) -> bool {
    let within = |low: i32, high: i32, at: i32| low.min(high) < at && at < low.max(high);
    let (level, upright) = match (a.0.1 == a.1.1, b.0.1 == b.1.1) {
        (true, false) => (a, b),
        (false, true) => (b, a),
        _ => return false,
    };
    within(level.0.0, level.1.0, upright.0.0) && within(upright.0.1, upright.1.1, level.0.1)
}

/// The links of a node to a segment, with the height of each in the node's box.
fn links(scene: &Scene<'_>, node: usize, segment: usize) -> Vec<(usize, i32)> {
    let mut found: Vec<(usize, i32)> = Vec::new();
    for row in &scene.contents[node].rows {
        let is_first = found.last().is_none_or(|(link, _)| *link != row.link);
        if is_first && scene.diagram.links[row.link].segment == Some(segment) {
            found.push((row.link, row.y));
        }
    }
    found
}

fn leaf_wires(scene: &Scene<'_>, placed: &Placed) -> Vec<Wire> {
    let mut wires = Vec::new();
    for row in &placed.rows {
        let bar = placed.bars[row.segment];
        let bar_x = if row.to_left { bar.x } else { bar.right() };
        for node in &row.nodes {
            let rect = placed.boxes[*node];
            for (at, (link, y)) in links(scene, *node, row.segment).into_iter().enumerate() {
                let points = match row.branch {
                    None => {
                        let side = if row.to_left { rect.right() } else { rect.x };
                        vec![(side, rect.y + y), (bar_x, rect.y + y)]
                    }
                    Some(branch) => {
                        let step = (18 + at as i32 * 12).min(rect.w - 8);
                        let x = if row.to_left { rect.right() - step } else { rect.x + step };
                        vec![(x, rect.y), (x, branch), (bar_x, branch)]
                    }
                };
                wires.push(Wire { link, far: None, segment: row.segment, points });
            }
        }
    }
    wires
}

/// A link from a node to the tracks: its last point before them, and all before that.
struct Start {
    link: usize,
    points: Vec<(i32, i32)>,
    y: i32,
}

/// All links of one segment on one side.
struct Trunk {
    segment: usize,
    starts: Vec<Start>,
    /// Where it meets the bar.
    port: i32,
}

impl Trunk {
    fn span(&self) -> (i32, i32) {
        let ys = self.starts.iter().map(|it| it.y).chain([self.port]);
        (ys.clone().min().unwrap_or_default(), ys.max().unwrap_or_default())
    }

    /// How many lines cross when this one's track is nearer to the nodes than the other's.
    fn crossings_before(&self, other: &Self) -> usize {
        let within = |y: i32, (low, high): (i32, i32)| usize::from(low < y && y < high);
        // The other's lines from nodes pass our track, our line to the bar passes the other's.
        other.starts.iter().map(|it| within(it.y, self.span())).sum::<usize>()
            + within(self.port, other.span())
    }
}

fn core_wires(scene: &Scene<'_>, placed: &Placed, left: bool) -> Vec<Wire> {
    let mut trunks = trunks(scene, placed, left);
    arrange(&mut trunks);
    let nodes = placed.core.iter().flat_map(|it| &it.nodes).map(|it| placed.boxes[*it]);
    let edge =
        if left { nodes.map(|it| it.x).min() } else { nodes.map(|it| it.right()).max() }.unwrap_or_default();
    let mut wires = Vec::new();
    let tracks = tracks(&trunks);
    for (trunk, track) in trunks.into_iter().zip(tracks) {
        let away = 14 + track * TRACK;
        let x = if left { edge - away } else { edge + away };
        let bar = placed.bars[trunk.segment];
        let bar_x = if left { bar.right() } else { bar.x };
        for start in trunk.starts {
            let mut points = start.points;
            if start.y == trunk.port {
                points.push((bar_x, trunk.port));
            } else {
                points.extend([(x, start.y), (x, trunk.port), (bar_x, trunk.port)]);
            }
            wires.push(Wire { link: start.link, far: None, segment: trunk.segment, points });
        }
    }
    wires
}

fn trunks(scene: &Scene<'_>, placed: &Placed, left: bool) -> Vec<Trunk> {
    let mut starts: BTreeMap<usize, Vec<Start>> = BTreeMap::new();
    for row in &placed.core {
        let mut lanes: BTreeMap<usize, i32> = BTreeMap::new();
        if let Some(first) = row.lanes {
            for segment in row.nodes.iter().flat_map(|it| &scene.joined[*it]) {
                let next = first + lanes.len() as i32 * LANE;
                lanes.entry(*segment).or_insert(next);
            }
        }
        for node in &row.nodes {
            let rect = placed.boxes[*node];
            let mut drops = 0;
            for segment in &scene.joined[*node] {
                for (link, y) in links(scene, *node, *segment) {
                    let drop = rect.x + (18 + drops * 14).min(rect.w - 8);
                    drops += 1;
                    if placed.in_left_column[*segment] != left {
                        continue;
                    }
                    let start = match lanes.get(segment) {
                        Some(lane) => Start { link, points: vec![(drop, rect.y), (drop, *lane)], y: *lane },
                        None => {
                            let x = if left { rect.x } else { rect.right() };
                            Start { link, points: vec![(x, rect.y + y)], y: rect.y + y }
                        }
                    };
                    starts.entry(*segment).or_default().push(start);
                }
            }
        }
    }
    let taken: Vec<(usize, i32)> =
        starts.iter().flat_map(|(segment, all)| all.iter().map(|it| (*segment, it.y))).collect();
    starts
        .into_iter()
        .map(|(segment, starts)| {
            let bar = placed.bars[segment];
            let mut ys: Vec<i32> = starts.iter().map(|it| it.y).collect();
            ys.sort_unstable();
            let middle = ys.get(ys.len() / 2).copied().unwrap_or_default();
            // Clear of the corners, but straight where that is possible at all.
            let within = |margin: i32| middle.clamp(bar.y + margin, bar.bottom() - margin);
            let wish = if within(4) == middle { middle } else { within(8) };
            // A line of another segment at the same height would look like one with it.
            let is_free = |y: i32| !taken.iter().any(|(other, at)| *other != segment && (at - y).abs() < 4);
            let near = (0..bar.h).flat_map(|it| [wish + it, wish - it]);
            let mut near = near.filter(|it| (bar.y + 4..=bar.bottom() - 4).contains(it));
            let port = near.find(|it| is_free(*it)).unwrap_or(wish);
            Trunk { segment, starts, port }
        })
        .collect()
}

/// Orders the tracks, nearest to the nodes first: neighbours change places as long as that saves a crossing.
fn arrange(trunks: &mut [Trunk]) {
    for _ in 0..trunks.len() {
        let mut changed = false;
        for at in 1..trunks.len() {
            let (a, b) = (&trunks[at - 1], &trunks[at]);
            if b.crossings_before(a) < a.crossings_before(b) {
                trunks.swap(at - 1, at);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
}

/// The number of each one's track: those that are not beside each other may share one.
fn tracks(trunks: &[Trunk]) -> Vec<i32> {
    let mut tracks: Vec<i32> = Vec::new();
    for trunk in trunks {
        let (low, high) = trunk.span();
        let before = trunks.iter().zip(&tracks).filter(|(other, _)| {
            let (a, b) = other.span();
            a <= high + 8 && low <= b + 8
        });
        tracks.push(before.map(|(_, track)| track + 1).max().unwrap_or_default());
    }
    tracks
}
