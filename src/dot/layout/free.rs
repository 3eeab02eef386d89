//! Straight lines between boxes anywhere: distances like those in the graph, by stress majorisation (Gansner, Koren, North
//! 2004), then single boxes moved to where lines cross less and pass no box.
//!
//! Only the four operations and square roots, which IEEE 754 rounds alike on every machine.

use crate::dot::layout::Rect;
use crate::dot::layout::graph::{Drawing, Graph, cross, passes};
use crate::dot::layout::random::Random;

/// Above this, moving single boxes takes too long where tiers do as well.
pub(super) const MOST: usize = 80;
const STARTS: u64 = 4;
/// Between boxes that are not joined, at least.
const APART: i32 = 22;

type Point = (f64, f64);

pub(super) fn draw(graph: &Graph) -> Drawing {
    let count = graph.vertices.len();
    let mut best: Option<(u64, Vec<(i32, i32)>)> = None;
    let distances: Vec<Vec<usize>> = (0..count).map(|it| graph.distances(&[it])).collect();
    let starts = if count > 2 * MOST { 1 } else { STARTS };
    for start in 0..starts {
        let spread = spread(&distances, start);
        let mut places = scaled(graph, &spread);
        let mut crowd = Crowd { graph, places: &mut places };
        crowd.improve(start);
        let cost = crowd.total();
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, places));
        }
    }
    let places = best.map(|(_, it)| it).unwrap_or_default();
    let rects: Vec<Rect> = (0..count).map(|it| rect_at(graph, it, places[it])).collect();
    let mut drawing = Drawing {
        contents: vec![None; count],
        lines: lines(graph, &rects),
        rects,
        names_ends: true,
    };
    drawing.settle();
    drawing
}

/// Places whose distances are like those in the graph, with 1 for an edge.
fn spread(distances: &[Vec<usize>], seed: u64) -> Vec<Point> {
    const ROUNDS: usize = 120;
    let count = distances.len();
    let mut random = Random::new(seed);
    let size = (count as f64).sqrt();
    let mut places: Vec<Point> =
        (0..count).map(|_| (random.unit() * size, random.unit() * size)).collect();
    let rounds = if count > MOST { 30 } else { ROUNDS };
    for _ in 0..rounds {
        for at in 0..count {
            let (mut sum, mut weights) = ((0.0, 0.0), 0.0);
            let (x, y) = places[at];
            for (other, (ox, oy)) in places.iter().enumerate().filter(|(it, _)| *it != at) {
                let wanted = distances[at][other] as f64;
                let weight = 1.0 / (wanted * wanted);
                let (dx, dy) = (x - ox, y - oy);
                let length = (dx * dx + dy * dy).sqrt().max(0.01);
                sum.0 += weight * (ox + dx * wanted / length);
                sum.1 += weight * (oy + dy * wanted / length);
                weights += weight;
            }
            if weights > 0.0 {
                places[at] = (sum.0 / weights, sum.1 / weights);
            }
        }
    }
    places
}

/// Whole pixels, as far apart as edges with their names and boxes need it.
fn scaled(graph: &Graph, places: &[Point]) -> Vec<(i32, i32)> {
    let count = graph.sizes.len().max(1) as f64;
    let w = graph.sizes.iter().map(|it| f64::from(it.0)).sum::<f64>() / count;
    let h = graph.sizes.iter().map(|it| f64::from(it.1)).sum::<f64>() / count;
    let (across, down) = (w * 1.2 + 50.0, h * 1.2 + 70.0);
    places.iter().map(|it| ((it.0 * across).round() as i32, (it.1 * down).round() as i32)).collect()
}

fn rect_at(graph: &Graph, vertex: usize, (x, y): (i32, i32)) -> Rect {
    let (w, h) = graph.sizes[vertex];
    Rect { x: x - w / 2, y: y - h / 2, w, h }
}

fn wider(rect: Rect, by: i32) -> Rect {
    Rect { x: rect.x - by, y: rect.y - by, w: rect.w + 2 * by, h: rect.h + 2 * by }
}

fn overlap(a: Rect, b: Rect) -> bool {
    a.x < b.right() && b.x < a.right() && a.y < b.bottom() && b.y < a.bottom()
}

/// Boxes that move to where they are in nobody's way.
struct Crowd<'a> {
    graph: &'a Graph,
    /// The middle of each box.
    places: &'a mut Vec<(i32, i32)>,
}

const CROSSING: u64 = 3_000;
const HIT: u64 = 20_000;
const OVERLAP: u64 = 60_000;

impl Crowd<'_> {
    fn line(&self, edge: usize) -> [(i32, i32); 2] {
        self.graph.edges[edge].ends.map(|it| self.places[it])
    }

    /// What one vertex, where it is, adds to the cost of the picture.
    fn cost(&self, vertex: usize) -> u64 {
        let own = rect_at(self.graph, vertex, self.places[vertex]);
        let roomy = wider(own, APART);
        let narrow = wider(own, 8);
        let mut cost = 0;
        for other in (0..self.places.len()).filter(|it| *it != vertex) {
            if overlap(roomy, rect_at(self.graph, other, self.places[other])) {
                cost += OVERLAP;
            }
        }
        for (at, edge) in self.graph.edges.iter().enumerate() {
            if edge.ends.contains(&vertex) {
                cost += self.cost_of(at);
            } else if passes(self.line(at), narrow) {
                cost += HIT;
            }
        }
        cost
    }

    /// Crossings of a line, boxes that it passes, and its length.
    fn cost_of(&self, edge: usize) -> u64 {
        let line = self.line(edge);
        let own = &self.graph.edges[edge];
        let others = self.graph.edges.iter().enumerate().filter(|(at, it)| *at != edge && !it.touches(own));
        let crossings = others.filter(|(at, _)| cross(line, self.line(*at))).count() as u64;
        let boxes = (0..self.places.len()).filter(|it| !own.ends.contains(it));
        let hits = boxes
            .filter(|it| passes(line, wider(rect_at(self.graph, *it, self.places[*it]), 8)))
            .count() as u64;
        // Beyond the boxes' own size, so that wide boxes may stand beside each other.
        let [(ax, ay), (bx, by)] = line;
        let (w, h) = (i64::from((ax - bx).abs()), i64::from((ay - by).abs()));
        let length = (w * w + 3 * h * h).unsigned_abs() / 400;
        crossings * CROSSING + hits * HIT + length
    }

    fn total(&self) -> u64 {
        (0..self.places.len()).map(|it| self.cost(it)).sum()
    }

    fn improve(&mut self, seed: u64) {
        let count = self.places.len();
        // So many moves that the time is bounded, whatever the size.
        let moves = (400_000 / (self.graph.edges.len() + count + 1)).min(60 * count);
        let mut random = Random::new(seed + 100);
        let (w, h) = self.graph.sizes.iter().fold((0, 0), |all, it| (all.0.max(it.0), all.1.max(it.1)));
        for number in 0..moves {
            let vertex = random.below(count);
            let before = self.places[vertex];
            let old = self.cost(vertex);
            // Far at first, then near.
            let reach = 3.0 * (moves - number) as f64 / moves as f64 + 0.1;
            let around = match random.below(3) {
                0 => self.among_neighbours(vertex),
                _ => before,
            };
            let step = |length: i32, random: &mut Random| (f64::from(length + 60) * reach * random.unit()) as i32;
            self.places[vertex] = (around.0 + step(w, &mut random), around.1 + step(h, &mut random));
            if self.cost(vertex) >= old {
                self.places[vertex] = before;
            }
        }
    }

    fn among_neighbours(&self, vertex: usize) -> (i32, i32) {
        let near: Vec<(i32, i32)> = self.graph.neighbours(vertex).map(|it| self.places[it]).collect();
        let count = near.len().max(1) as i32;
        (near.iter().map(|it| it.0).sum::<i32>() / count, near.iter().map(|it| it.1).sum::<i32>() / count)
    }
}

/// Lines between the middles, cut where the boxes begin; several between the same two side by side.
fn lines(graph: &Graph, rects: &[Rect]) -> Vec<Vec<(i32, i32)>> {
    const BESIDE: i32 = 14;
    let key = |at: usize| {
        let [a, b] = graph.edges[at].ends;
        (a.min(b), a.max(b))
    };
    let all = (0..graph.edges.len()).map(|at| {
        let same: Vec<usize> = (0..graph.edges.len()).filter(|it| key(*it) == key(at)).collect();
        let number = same.iter().position(|it| *it == at).unwrap_or_default() as i32;
        let away = (2 * number + 1 - same.len() as i32) * BESIDE / 2;
        let [a, b] = [key(at).0, key(at).1].map(|it| middle(rects[it]));
        // Across the line: level or upright, whichever is nearer.
        let (dx, dy) = if (a.0 - b.0).abs() > (a.1 - b.1).abs() { (0, away) } else { (away, 0) };
        let [from, to] = graph.edges[at].ends.map(|it| {
            let (x, y) = middle(rects[it]);
            (x + dx, y + dy)
        });
        let [near, far] = graph.edges[at].ends;
        vec![border(rects[near], from, to), border(rects[far], to, from)]
    });
    all.collect()
}

fn middle(rect: Rect) -> (i32, i32) {
    (rect.x + rect.w / 2, rect.middle())
}

/// Where a line from a point in a rectangle leaves it.
fn border(rect: Rect, from: (i32, i32), to: (i32, i32)) -> (i32, i32) {
    let (dx, dy) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
    let way = |room: i32, by: f64| if by == 0.0 { f64::MAX } else { f64::from(room) / by.abs() };
    let across = way(if dx > 0.0 { rect.right() - from.0 } else { from.0 - rect.x }, dx);
    let down = way(if dy > 0.0 { rect.bottom() - from.1 } else { from.1 - rect.y }, dy);
    let part = across.min(down).min(1.0);
    (from.0 + (dx * part).round() as i32, from.1 + (dy * part).round() as i32)
}
