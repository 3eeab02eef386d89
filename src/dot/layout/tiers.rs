//! Layered drawings (Sugiyama, Tagawa, Toda 1981): the highest tier in the middle, those below it towards both sides.
//!
//! A tier is how far a vertex is from the nearest one with a single edge, and in a tree how far from the middle. So edges
//! join neighbouring tiers, or two vertices of one tier that stand next to each other.

use std::collections::BTreeSet;

use crate::dot::layout::graph::{Drawing, Graph, Vertex, in_order, row_of};
use crate::dot::layout::order::crossings_of;
use crate::dot::layout::place::{Span, settle};
use crate::dot::layout::{Rect, Scene, random::Random};

/// Vertices from top to bottom, in each column from left to right.
type Columns = Vec<Vec<usize>>;

const GAP: i32 = 12;
const ROUNDS: usize = 8;
const STARTS: u64 = 6;

/// Draws a graph that has tiers.
pub(super) fn draw(scene: &Scene<'_>, graph: &Graph) -> Option<Drawing> {
    if let Some(chain) = chain(graph) {
        return Some(snake(scene, graph, &chain));
    }
    let ranks = ranks(graph)?;
    let columns = columns(graph, &ranks);
    let columns = best_order(graph, columns)?;
    Some(place(scene, graph, &columns))
}

/// How far below the highest tier each vertex is.
fn ranks(graph: &Graph) -> Option<Vec<usize>> {
    let count = graph.vertices.len();
    if count == 1 {
        return Some(vec![0]);
    }
    if graph.edges.len() + 1 == count {
        let farthest = |from: usize| graph.distances(&[from]).into_iter().max().unwrap_or_default();
        let middle = (0..count).min_by_key(|it| (farthest(*it), count - graph.incident[*it].len()))?;
        return Some(graph.distances(&[middle]));
    }
    let ends: Vec<usize> = (0..count).filter(|it| graph.incident[*it].len() == 1).collect();
    if ends.is_empty() {
        return None;
    }
    let above = graph.distances(&ends);
    let top = above.iter().max().copied()?;
    Some(above.iter().map(|it| top - it).collect())
}

/// Halves what hangs below the highest tier, so that both sides are of one height.
fn columns(graph: &Graph, ranks: &[usize]) -> Columns {
    let depth = ranks.iter().max().copied().unwrap_or_default();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut seen = BTreeSet::new();
    for start in 0..ranks.len() {
        if ranks[start] == 0 || !seen.insert(start) {
            continue;
        }
        let mut group = vec![start];
        let mut next = 0;
        while let Some(vertex) = group.get(next).copied() {
            next += 1;
            group.extend(graph.neighbours(vertex).filter(|it| ranks[*it] > 0 && seen.insert(*it)));
        }
        groups.push(group);
    }
    // Of a group, the height of its highest column counts.
    let height = |group: &Vec<usize>| {
        let of = |rank: usize| {
            group.iter().filter(|it| ranks[**it] == rank).map(|it| graph.sizes[*it].1 + GAP).sum::<i32>()
        };
        (1..=depth).map(of).max().unwrap_or_default()
    };
    let total: i32 = groups.iter().map(height).sum();
    let mut columns = vec![Vec::new(); 2 * depth + 1];
    columns[depth].extend((0..ranks.len()).filter(|it| ranks[*it] == 0));
    let mut above = 0;
    for group in &groups {
        let to_left = groups.len() > 1 && 2 * above + height(group) <= total;
        above += height(group);
        for it in group {
            let rank = ranks[*it];
            columns[if to_left { depth - rank } else { depth + rank }].push(*it);
        }
    }
    columns.retain(|it| !it.is_empty());
    columns
}

/// The order with the fewest crossings of several: by barycentres, then by exchanging neighbours. None where an edge
/// within a tier would have to pass a third vertex.
fn best_order(graph: &Graph, columns: Columns) -> Option<Columns> {
    let mut best: Option<(usize, Columns)> = None;
    for start in 0..STARTS {
        let mut order = columns.clone();
        let mut random = Random::new(start);
        for column in order.iter_mut().filter(|_| start > 0) {
            for at in (1..column.len()).rev() {
                column.swap(at, random.below(at + 1));
            }
        }
        for round in 0..ROUNDS {
            sweep(graph, &mut order, round % 2 == 0);
            exchange(graph, &mut order);
            let (crossings, is_possible) = (crossings(graph, &order), is_possible(graph, &order));
            if is_possible && best.as_ref().is_none_or(|(least, _)| crossings < *least) {
                best = Some((crossings, order.clone()));
            }
        }
        // Nothing can be better.
        if best.as_ref().is_some_and(|(least, _)| *least == 0) {
            break;
        }
    }
    best.map(|(_, it)| it)
}

/// The column of each vertex, and its place there.
fn places(graph: &Graph, order: &Columns) -> Vec<(usize, usize)> {
    let mut places = vec![(0, 0); graph.vertices.len()];
    for (number, column) in order.iter().enumerate() {
        column.iter().enumerate().for_each(|(at, it)| places[*it] = (number, at));
    }
    places
}

fn sweep(graph: &Graph, order: &mut Columns, rightwards: bool) {
    let count = order.len();
    let mut places = places(graph, order);
    for step in 0..count {
        let number = if rightwards { step } else { count - 1 - step };
        let mean = |vertex: usize| {
            let near: Vec<usize> = graph
                .neighbours(vertex)
                .filter(|it| if rightwards { places[*it].0 < number } else { places[*it].0 > number })
                .map(|it| places[it].1)
                .collect();
            if near.is_empty() {
                places[vertex].1 * 1000
            } else {
                near.iter().sum::<usize>() * 1000 / near.len()
            }
        };
        order[number].sort_by_cached_key(|it| mean(*it));
        order[number].iter().enumerate().for_each(|(at, it)| places[*it].1 = at);
    }
}

/// Neighbours in a column change places as long as that saves a crossing.
fn exchange(graph: &Graph, order: &mut Columns) {
    let mut places = places(graph, order);
    for _ in 0..12 {
        let mut changed = false;
        for column in order.iter_mut() {
            for at in 1..column.len() {
                let (a, b) = (column[at - 1], column[at]);
                let (mut now, mut then) = (0, 0);
                for x in graph.neighbours(a) {
                    for y in graph.neighbours(b).filter(|y| places[*y].0 == places[x].0) {
                        now += usize::from(places[x].1 > places[y].1);
                        then += usize::from(places[x].1 < places[y].1);
                    }
                }
                if then < now {
                    column.swap(at - 1, at);
                    (places[a].1, places[b].1) = (at, at - 1);
                    changed = true;
                }
            }
        }
        if !changed {
            break;
        }
    }
}

fn crossings(graph: &Graph, order: &Columns) -> usize {
    let places = places(graph, order);
    let mut lines: Vec<Vec<(usize, usize)>> = vec![Vec::new(); order.len()];
    for edge in &graph.edges {
        let [a, b] = edge.ends.map(|it| places[it]);
        if a.0 != b.0 {
            let (near, far) = if a.0 < b.0 { (a, b) } else { (b, a) };
            lines[near.0].push((near.1, far.1));
        }
    }
    lines.iter().map(|it| crossings_of(it)).sum()
}

fn is_possible(graph: &Graph, order: &Columns) -> bool {
    let places = places(graph, order);
    graph.edges.iter().all(|edge| {
        let [a, b] = edge.ends.map(|it| places[it]);
        a.0 != b.0 || a.1.abs_diff(b.1) == 1
    })
}

/// Coordinates: each column as near to what it is joined to as it can be, the highest column first.
fn place(scene: &Scene<'_>, graph: &Graph, order: &Columns) -> Drawing {
    let gap = |column: &[usize]| {
        let is_inner = column.iter().any(|it| graph.incident[*it].len() > 1);
        if is_inner { 2 * GAP } else { GAP }
    };
    let heights: Vec<Vec<i32>> =
        order.iter().map(|column| column.iter().map(|it| graph.sizes[*it].1).collect()).collect();
    let mut middles = vec![0; graph.vertices.len()];
    let totals: Vec<i32> = order
        .iter()
        .zip(&heights)
        .map(|(column, all)| all.iter().map(|it| it + gap(column)).sum::<i32>() - gap(column))
        .collect();
    let whole = totals.iter().max().copied().unwrap_or_default();
    for ((column, heights), total) in order.iter().zip(&heights).zip(&totals) {
        let mut y = (whole - total) / 2;
        for (it, height) in column.iter().zip(heights) {
            middles[*it] = y + height / 2;
            y += height + gap(column);
        }
    }
    // Outwards from the highest column, and back.
    let first = totals.iter().position(|it| *it == whole).unwrap_or_default();
    let mut turns: Vec<usize> = (0..first).rev().chain(first + 1..order.len()).collect();
    turns.extend(turns.clone().into_iter().rev());
    turns.extend(turns.clone());
    for number in turns {
        let column = &order[number];
        let wish = |vertex: usize, height: i32| {
            let near: Vec<i32> = graph.neighbours(vertex).map(|it| middles[it]).collect();
            near.iter().sum::<i32>() / near.len().max(1) as i32 - height / 2
        };
        let wishes: Vec<i32> =
            column.iter().zip(&heights[number]).map(|(it, height)| wish(*it, *height)).collect();
        let span = Span { x: 0, top: 0, height: whole, gap: gap(column) };
        let tops = settle(&wishes, &heights[number], &span);
        for ((it, top), height) in column.iter().zip(tops).zip(&heights[number]) {
            middles[*it] = top + height / 2;
        }
    }
    let places = places(graph, order);
    let mut rects = vec![Rect::default(); graph.vertices.len()];
    let mut x = 0;
    for (number, column) in order.iter().enumerate() {
        let width = column.iter().map(|it| graph.sizes[*it].0).max().unwrap_or_default();
        for it in column {
            let h = graph.sizes[*it].1;
            rects[*it] = Rect { x, y: middles[*it] - h / 2, w: width, h };
        }
        // Steep lines need room to be told apart.
        let steepest = graph.edges.iter().filter(|edge| {
            let numbers = edge.ends.map(|it| places[it].0);
            numbers.iter().min() == Some(&number) && numbers.iter().max() == Some(&(number + 1))
        });
        let steepest = steepest.map(|it| (middles[it.ends[0]] - middles[it.ends[1]]).abs()).max();
        x += width + (steepest.unwrap_or_default() / 4).clamp(110, 280);
    }
    let mut drawing = join(scene, graph, rects, &|vertex, edge| {
        let [a, b] = graph.edges[edge].ends.map(|it| places[it].0);
        (a != b).then(|| places[graph.edges[edge].other(vertex)].0 > places[vertex].0)
    });
    drawing.settle();
    drawing
}

/// Straight lines from row to row. `side` tells whether an edge leaves a vertex to the right; none where it leaves at the
/// top or at the bottom.
fn join(
    scene: &Scene<'_>,
    graph: &Graph,
    rects: Vec<Rect>,
    side: &dyn Fn(usize, usize) -> Option<bool>,
) -> Drawing {
    let mut contents = vec![None; rects.len()];
    let mut ports: Vec<[(i32, i32); 2]> = vec![[(0, 0); 2]; graph.edges.len()];
    for (at, vertex) in graph.vertices.iter().enumerate() {
        let rect = rects[at];
        let mut edges = graph.incident[at].clone();
        edges.sort_by_key(|it| (rects[graph.edges[*it].other(at)].middle(), *it));
        let content = match vertex {
            Vertex::Bar(_) => None,
            Vertex::Node(node) => {
                let links: Vec<usize> = edges.iter().filter_map(|it| graph.edges[*it].link_at(at)).collect();
                Some(in_order(&scene.contents[*node], &links))
            }
        };
        for edge in &edges {
            let way = side(at, *edge);
            let same: Vec<usize> = edges.iter().copied().filter(|it| side(at, *it) == way).collect();
            let place = same.iter().position(|it| it == edge).unwrap_or_default() as i32;
            let y = match (&content, graph.edges[*edge].link_at(at)) {
                (Some(content), Some(link)) => rect.y + row_of(content, link),
                _ => rect.y + rect.h * (2 * place + 1) / (2 * same.len() as i32),
            };
            let point = match way {
                Some(true) => (rect.right(), y),
                Some(false) => (rect.x, y),
                None if rects[graph.edges[*edge].other(at)].y > rect.y => {
                    (rect.x + rect.w / 2, rect.bottom())
                }
                None => (rect.x + rect.w / 2, rect.y),
            };
            ports[*edge][usize::from(graph.edges[*edge].ends[0] != at)] = point;
        }
        contents[at] = content;
    }
    Drawing { rects, contents, lines: ports.into_iter().map(Vec::from).collect(), names_ends: false }
}

/// A long chain from end to end.
fn chain(graph: &Graph) -> Option<Vec<usize>> {
    let is_chain =
        graph.edges.len() + 1 == graph.vertices.len() && graph.incident.iter().all(|it| it.len() <= 2);
    if !is_chain || graph.vertices.len() < 7 {
        return None;
    }
    let start = graph.incident.iter().position(|it| it.len() == 1)?;
    let far = graph.distances(&[start]);
    let mut order: Vec<usize> = (0..far.len()).collect();
    order.sort_by_key(|it| far[*it]);
    Some(order)
}

/// A chain in rows, rightwards and leftwards in turn.
fn snake(scene: &Scene<'_>, graph: &Graph, chain: &[usize]) -> Drawing {
    const ACROSS: i32 = 84;
    const DOWN: i32 = 44;
    let widest = graph.sizes.iter().map(|it| it.0).max().unwrap_or_default();
    let tallest = graph.sizes.iter().map(|it| it.1).max().unwrap_or_default();
    let (w, h) = (widest + ACROSS, tallest + DOWN);
    // Rows of so many fill a screen of 16:10.
    let cells = chain.len() as i32;
    let per_row =
        (1..=cells).min_by_key(|it| (it * w).max((cells + it - 1) / it * h * 8 / 5)).unwrap_or(1) as usize;
    let mut rects = vec![Rect::default(); chain.len()];
    let mut cell = vec![(0, 0); chain.len()];
    for (at, vertex) in chain.iter().enumerate() {
        let (row, step) = (at / per_row, at % per_row);
        let column = if row % 2 == 0 { step } else { per_row - 1 - step };
        cell[*vertex] = (row, column);
        let own = graph.sizes[*vertex].1;
        rects[*vertex] =
            Rect { x: column as i32 * w, y: row as i32 * h + (tallest - own) / 2, w: widest, h: own };
    }
    let side = |vertex: usize, edge: usize| {
        let (own, other) = (cell[vertex], cell[graph.edges[edge].other(vertex)]);
        (own.0 == other.0).then_some(other.1 > own.1)
    };
    let mut drawing = join(scene, graph, rects, &side);
    drawing.settle();
    drawing
}
