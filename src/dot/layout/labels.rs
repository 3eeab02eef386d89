//! The names of cables and of their ends, where they cover nothing.

use crate::dot::layout::graph::{Drawing, Graph, passes};
use crate::dot::layout::{Label, Rect, Scene};
use crate::dot::text::{columns, shortened};

/// Of a column of a name at 10 pixels, in thousandths of a pixel.
const COLUMN: i32 = 6_200;
const HEIGHT: i32 = 12;

/// Names for the lines of a part: of each cable in its middle, of interfaces at the ends where lines do not lead to rows. A
/// name that finds no place is left out; the details have it.
pub(super) fn labels(scene: &Scene<'_>, graph: &Graph, drawing: &Drawing) -> Vec<Label> {
    let mut taken: Vec<Rect> = drawing.rects.clone();
    let mut found = Vec::new();
    for (at, edge) in graph.edges.iter().enumerate() {
        if scene.cables[edge.segment].is_none() {
            continue;
        }
        let text = shortened(&scene.diagram.segments[edge.segment].name, 16);
        let spots = [50, 42, 58, 34, 66, 26, 74, 18, 82, 12, 88];
        if let Some(at) = free_spot(drawing, at, &text, &spots, &mut taken) {
            found.push(Label { segment: edge.segment, text, at, is_end: false });
        }
    }
    if !drawing.names_ends {
        return found;
    }
    for (at, edge) in graph.edges.iter().enumerate() {
        for (link, is_far) in edge.links.iter().zip([false, true]) {
            let Some(link) = link else { continue };
            let node = scene.diagram.links[*link].node;
            // The only interface of a box needs no name.
            let rows = &scene.contents[node].rows;
            if rows.iter().all(|it| it.link == *link) {
                continue;
            }
            let text = shortened(&scene.diagram.links[*link].dev, 15);
            let spots = [8, 11, 14, 17, 20, 24, 28, 33].map(|it| if is_far { 100 - it } else { it });
            if let Some(at) = free_spot(drawing, at, &text, &spots, &mut taken) {
                found.push(Label { segment: edge.segment, text, at, is_end: true });
            }
        }
    }
    found
}

/// The first spot along a line, in hundredths of its length, where a text covers nothing; if there is none, the first
/// where it covers no box and no other text.
fn free_spot(
    drawing: &Drawing,
    line: usize,
    text: &str,
    spots: &[i32],
    taken: &mut Vec<Rect>,
) -> Option<(i32, i32)> {
    let w = columns(text) as i32 * COLUMN / 1000 + 4;
    let around = |(x, y): (i32, i32)| Rect { x: x - w / 2, y: y - HEIGHT / 2, w, h: HEIGHT };
    let is_free = |rect: Rect, taken: &[Rect]| {
        !taken.iter().any(|it| {
            it.x < rect.right() && rect.x < it.right() && it.y < rect.bottom() && rect.y < it.bottom()
        })
    };
    let others = |rect: Rect| {
        let lines = drawing.lines.iter().enumerate().filter(|(at, _)| *at != line);
        lines.filter(|(_, it)| it.windows(2).any(|it| passes([it[0], it[1]], rect))).count()
    };
    let candidates: Vec<(i32, i32)> = spots
        .iter()
        .map(|it| along(&drawing.lines[line], *it))
        .filter(|it| is_free(around(*it), taken))
        .collect();
    let at = candidates.iter().copied().min_by_key(|it| others(around(*it)))?;
    taken.push(around(at));
    Some(at)
}

/// A point of a line, so many hundredths of its length from its beginning.
fn along(line: &[(i32, i32)], hundredths: i32) -> (i32, i32) {
    let length = |it: &[(i32, i32)]| {
        let (dx, dy) = (i64::from(it[0].0 - it[1].0), i64::from(it[0].1 - it[1].1));
        ((dx * dx + dy * dy) as u64).isqrt() as i64
    };
    let mut left = line.windows(2).map(length).sum::<i64>() * i64::from(hundredths) / 100;
    for piece in line.windows(2) {
        let own = length(piece);
        if left <= own && own > 0 {
            let part = |a: i32, b: i32| a + (i64::from(b - a) * left / own) as i32;
            return (part(piece[0].0, piece[1].0), part(piece[0].1, piece[1].1));
        }
        left -= own;
    }
    line.last().copied().unwrap_or_default()
}
