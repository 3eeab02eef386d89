//! Straight lines between boxes anywhere: distances like those in the graph, by stress majorisation (Gansner, Koren, North
//! 2004), then single boxes moved to where lines cross less and pass no box.
//!
//! Only the four operations and square roots, which IEEE 754 rounds alike on every machine.

use crate::dot::layout::Rect;
use crate::dot::layout::graph::{Drawing, Graph, cross, passes};
use crate::dot::layout::random::Random;

/// Above this, moving single boxes takes too long where tiers do as well.
pub(super) const MOST: usize = 80;
const STARTS: u64 = 6;
/// Between boxes that are not joined, at least.
const APART: i32 = 22;
/// Between a box and a line that passes it.
const CLEAR: i32 = 8;

type Point = (f64, f64);

/// The middle of each box.
type Places = Vec<(i32, i32)>;

/// Faults, and how far boxes are from home.
type Cost = (u64, u64);

/// The drawing with the fewest crossings of several, and the fewest that majorisation alone gives.
pub(super) fn draw(graph: &Graph) -> (Drawing, usize) {
    let count = graph.vertices.len();
    let mut best: Option<(Cost, Places)> = None;
    let distances: Vec<Vec<usize>> = (0..count).map(|it| graph.distances(&[it])).collect();
    let starts = if count > MOST { 1 } else { STARTS };
    let mut plain = usize::MAX;
    for start in 0..starts {
        // With more room from start to start: boxes that crowd each other cost crossings.
        let homes = scaled(graph, &spread(&distances, start), 1.0 + 0.2 * start as f64);
        let mut crowd = Crowd { graph, places: homes.clone(), homes, hanging: hanging(graph) };
        plain = plain.min(crowd.crossings());
        crowd.improve(start);
        let cost = crowd.total();
        let is_faultless = cost.0 == 0;
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, crowd.places));
        }
        if is_faultless {
            break;
        }
    }
    let rects = apart(graph, closer(graph, best.map(|(_, it)| it).unwrap_or_default()));
    let mut drawing =
        Drawing { contents: vec![None; count], lines: lines(graph, &rects), rects, names_ends: true };
    drawing.settle();
    (drawing, plain)
}

/// Everything smaller, as long as boxes stay far enough apart for names between them and no line runs through one more.
fn closer(graph: &Graph, mut places: Places) -> Places {
    const ROOM: i32 = 60;
    let faults = |places: &[(i32, i32)]| {
        let rects: Vec<Rect> = places.iter().enumerate().map(|(at, it)| rect_at(graph, at, *it)).collect();
        let near = (0..rects.len())
            .map(|at| rects.iter().take(at).filter(|it| overlap(wider(**it, ROOM), rects[at])).count());
        let lines = graph.edges.iter().map(|edge| {
            let line = edge.ends.map(|it| places[it]);
            let others = (0..rects.len()).filter(|it| !edge.ends.contains(it));
            others.filter(|it| passes(line, wider(rects[*it], CLEAR))).count()
        });
        near.sum::<usize>() + lines.sum::<usize>()
    };
    let before = faults(&places);
    for _ in 0..10 {
        let smaller: Places = places.iter().map(|it| (it.0 * 9 / 10, it.1 * 9 / 10)).collect();
        if faults(&smaller) > before {
            break;
        }
        places = smaller;
    }
    places
}

/// The boxes, everything larger until none lies on another; what crosses stays as it is.
fn apart(graph: &Graph, mut places: Places) -> Vec<Rect> {
    loop {
        let rects: Vec<Rect> = places.iter().enumerate().map(|(at, it)| rect_at(graph, at, *it)).collect();
        let is_clear = |at: usize| rects.iter().take(at).all(|it| !overlap(wider(*it, CLEAR), rects[at]));
        if (0..rects.len()).all(is_clear) {
            return rects;
        }
        for (at, (x, y)) in places.iter_mut().enumerate() {
            // Two at one place come apart, too.
            (*x, *y) = (*x * 5 / 4 + at as i32 % 7, *y * 5 / 4 + at as i32 / 7);
        }
    }
}

/// By vertex: the trees that hang from it, which nothing else joins to the rest.
fn hanging(graph: &Graph) -> Vec<Vec<usize>> {
    let mut hanging: Vec<Vec<usize>> = vec![Vec::new(); graph.vertices.len()];
    let mut degrees: Vec<usize> = graph.incident.iter().map(Vec::len).collect();
    let mut open: Vec<usize> = (0..degrees.len()).filter(|it| degrees[*it] == 1).collect();
    while let Some(vertex) = open.pop() {
        let Some(next) = graph.neighbours(vertex).find(|it| degrees[*it] > 0) else { continue };
        degrees[vertex] = 0;
        degrees[next] -= 1;
        let mut below = hanging[vertex].clone();
        below.push(vertex);
        hanging[next].extend(below);
        if degrees[next] == 1 {
            open.push(next);
        }
    }
    hanging
}

/// Places whose distances are like those in the graph, with 1 for an edge.
fn spread(distances: &[Vec<usize>], seed: u64) -> Vec<Point> {
    const ROUNDS: usize = 120;
    let count = distances.len();
    let mut random = Random::new(seed);
    let size = (count as f64).sqrt();
    let mut places: Vec<Point> = (0..count).map(|_| (random.unit() * size, random.unit() * size)).collect();
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
fn scaled(graph: &Graph, places: &[Point], by: f64) -> Places {
    let count = graph.sizes.len().max(1) as f64;
    let w = graph.sizes.iter().map(|it| f64::from(it.0)).sum::<f64>() / count;
    let h = graph.sizes.iter().map(|it| f64::from(it.1)).sum::<f64>() / count;
    let (across, down) = ((w * 1.2 + 50.0) * by, (h * 1.2 + 70.0) * by);
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

/// Boxes that move to reduce faults.
struct Crowd<'a> {
    graph: &'a Graph,
    /// The middle of each box.
    places: Places,
    /// Where majorisation puts it.
    homes: Places,
    /// By vertex: the boxes that move with it.
    hanging: Vec<Vec<usize>>,
}

const CROSSING: u64 = 1;
const HIT: u64 = 10;
const OVERLAP: u64 = 30;

impl Crowd<'_> {
    fn line(&self, edge: usize) -> [(i32, i32); 2] {
        self.graph.edges[edge].ends.map(|it| self.places[it])
    }

    fn rect(&self, vertex: usize) -> Rect {
        rect_at(self.graph, vertex, self.places[vertex])
    }

    /// The faults of one vertex in its place, and the square of its distance from home.
    fn cost(&self, vertex: usize) -> (u64, u64) {
        let roomy = wider(self.rect(vertex), APART);
        let narrow = wider(self.rect(vertex), CLEAR);
        let others = (0..self.places.len()).filter(|it| *it != vertex);
        let mut faults = others.filter(|it| overlap(roomy, self.rect(*it))).count() as u64 * OVERLAP;
        for (at, edge) in self.graph.edges.iter().enumerate() {
            if edge.ends.contains(&vertex) {
                faults += self.faults_of(at);
            } else if passes(self.line(at), narrow) {
                faults += HIT;
            }
        }
        let ((x, y), (hx, hy)) = (self.places[vertex], self.homes[vertex]);
        let (dx, dy) = (i64::from(x - hx), i64::from(y - hy));
        (faults, (dx * dx + dy * dy) as u64)
    }

    /// Crossings of a line, and boxes that it passes.
    fn faults_of(&self, edge: usize) -> u64 {
        let line = self.line(edge);
        let own = &self.graph.edges[edge];
        let others = self.graph.edges.iter().enumerate().filter(|(_, it)| !it.touches(own));
        let crossings = others.filter(|(at, _)| cross(line, self.line(*at))).count() as u64;
        let boxes = (0..self.places.len()).filter(|it| !own.ends.contains(it));
        let hits = boxes.filter(|it| passes(line, wider(self.rect(*it), CLEAR))).count() as u64;
        crossings * CROSSING + hits * HIT
    }

    fn sum(&self, of: impl Iterator<Item = usize>) -> (u64, u64) {
        of.map(|it| self.cost(it)).fold((0, 0), |all, it| (all.0 + it.0, all.1 + it.1))
    }

    fn total(&self) -> (u64, u64) {
        self.sum(0..self.places.len())
    }

    fn crossings(&self) -> usize {
        let edges = &self.graph.edges;
        let pairs = (0..edges.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
        pairs.filter(|(a, b)| !edges[*a].touches(&edges[*b]) && cross(self.line(*a), self.line(*b))).count()
    }

    /// Moves boxes that have faults, alone or with the trees that hang from them, and in the second half also boxes that are
    /// away from home without need.
    fn improve(&mut self, seed: u64) {
        let count = self.places.len();
        // So many moves that the time is bounded, whatever the size.
        let moves = (300_000 / (self.graph.edges.len() + count + 1)).min(150 * count);
        let mut random = Random::new(seed + 100);
        let w = self.graph.sizes.iter().map(|it| it.0).max().unwrap_or_default();
        let h = self.graph.sizes.iter().map(|it| it.1).max().unwrap_or_default();
        for number in 0..moves {
            let vertex = random.below(count);
            let mut group = vec![vertex];
            if random.below(2) == 0 {
                group.extend(&self.hanging[vertex]);
            }
            let old = self.sum(group.iter().copied());
            if old.0 == 0 && (old.1 == 0 || number < moves / 2) {
                continue;
            }
            // Far at first, then near.
            let reach = 3.0 * (moves - number) as f64 / moves as f64 + 0.1;
            let (x, y) = self.places[vertex];
            let (goal_x, goal_y) = match random.below(4) {
                0 => self.among_neighbours(vertex),
                1 => self.homes[vertex],
                _ => (x, y),
            };
            let reach = if old.0 == 0 { 0.2 } else { reach };
            let step =
                |length: i32, random: &mut Random| (f64::from(length + 60) * reach * random.unit()) as i32;
            let dx = goal_x - x + step(w, &mut random);
            let dy = goal_y - y + step(h, &mut random);
            self.shift(&group, dx, dy);
            let new = self.sum(group.iter().copied());
            // At first an equally bad place will do: it may lead to a better one.
            let is_kept = if number < moves / 2 { new.0 <= old.0 } else { new < old };
            if !is_kept {
                self.shift(&group, -dx, -dy);
            }
        }
    }

    fn shift(&mut self, group: &[usize], dx: i32, dy: i32) {
        for it in group {
            let (x, y) = self.places[*it];
            self.places[*it] = (x + dx, y + dy);
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
