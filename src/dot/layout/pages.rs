//! Small dense networks, such as full meshes: one column, with lines on its left and right so that few cross.
//!
//! On two pages the lines of a complete graph cross as seldom as they can (Ábrego and others 2013).

use crate::dot::layout::graph::{Drawing, Graph, Vertex, in_order, row_of};
use crate::dot::layout::random::Random;
use crate::dot::layout::{Rect, Scene};

pub(super) const MOST: usize = 16;
const STARTS: u64 = 24;
const GAP: i32 = 40;
const TRACK: i32 = 12;

/// Where a line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    /// Straight to the next box.
    Between,
    Left,
    Right,
}

pub(super) fn draw(scene: &Scene<'_>, graph: &Graph) -> Drawing {
    let pages = pages(graph);
    let count = graph.vertices.len();
    let widest = graph.sizes.iter().map(|it| it.0).max().unwrap_or_default();
    let mut rects = vec![Rect::default(); count];
    let mut y = 0;
    for (rect, (_, h)) in rects.iter_mut().zip(&graph.sizes) {
        *rect = Rect { x: 0, y, w: widest, h: *h };
        y += h + GAP;
    }
    let mut contents = vec![None; count];
    // The height at which each edge leaves each of its ends.
    let mut ports = vec![[0, 0]; graph.edges.len()];
    for (at, vertex) in graph.vertices.iter().enumerate() {
        let mut edges = graph.incident[at].clone();
        // The nearest above comes first and the nearest below last: no line passes another one's beginning.
        edges.sort_by_key(|it| {
            let other = graph.edges[*it].other(at);
            (other > at, std::cmp::Reverse(other), *it)
        });
        let content = match vertex {
            Vertex::Bar(_) => None,
            Vertex::Node(node) => {
                let links: Vec<usize> = edges.iter().filter_map(|it| graph.edges[*it].link_at(at)).collect();
                Some(in_order(&scene.contents[*node], &links))
            }
        };
        for (number, edge) in edges.iter().enumerate() {
            let own = match (&content, graph.edges[*edge].link_at(at)) {
                (Some(content), Some(link)) => row_of(content, link),
                _ => rects[at].h * (2 * number as i32 + 1) / (2 * edges.len() as i32),
            };
            ports[*edge][usize::from(graph.edges[*edge].ends[0] != at)] = rects[at].y + own;
        }
        contents[at] = content;
    }
    let tracks = tracks(&pages, &ports);
    let lines = (0..graph.edges.len()).map(|it| {
        let [a, b] = ports[it];
        let away = 22 + tracks[it] * TRACK;
        match pages[it] {
            Page::Right => vec![(widest, a), (widest + away, a), (widest + away, b), (widest, b)],
            Page::Left => vec![(0, a), (-away, a), (-away, b), (0, b)],
            Page::Between => {
                let [a, b] = graph.edges[it].ends.map(|it| rects[it]);
                let (upper, lower) = if a.y < b.y { (a.bottom(), b.y) } else { (a.y, b.bottom()) };
                vec![(widest / 2, upper), (widest / 2, lower)]
            }
        }
    });
    let mut drawing = Drawing { lines: lines.collect(), rects, contents, names_ends: false };
    drawing.settle();
    drawing
}

/// The side of each line: from several random starts, lines change sides as long as that saves crossings.
fn pages(graph: &Graph) -> Vec<Page> {
    let span = |edge: usize| {
        let [a, b] = graph.edges[edge].ends;
        (a.min(b), a.max(b))
    };
    let is_crossed = |a: usize, b: usize| {
        let ((a, b), (c, d)) = (span(a), span(b));
        (a < c && c < b && b < d) || (c < a && a < d && d < b)
    };
    let count = graph.edges.len();
    let mut best: Option<(usize, Vec<Page>)> = None;
    for start in 0..STARTS {
        let mut random = Random::new(start);
        let mut pages: Vec<Page> =
            (0..count).map(|_| if random.below(2) == 0 { Page::Left } else { Page::Right }).collect();
        for (at, page) in pages.iter_mut().enumerate() {
            let (a, b) = span(at);
            if b - a == 1 && !(0..at).any(|it| span(it) == (a, b)) {
                *page = Page::Between;
            }
        }
        let on = |pages: &[Page], edge: usize, page: Page| {
            (0..count).filter(|it| pages[*it] == page && is_crossed(edge, *it)).count()
        };
        for _ in 0..count {
            let mut changed = false;
            for at in 0..count {
                let other = match pages[at] {
                    Page::Between => continue,
                    Page::Left => Page::Right,
                    Page::Right => Page::Left,
                };
                if on(&pages, at, other) < on(&pages, at, pages[at]) {
                    pages[at] = other;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        let crossings = (0..count).map(|it| on(&pages, it, pages[it])).sum();
        if best.as_ref().is_none_or(|(least, _)| crossings < *least) {
            best = Some((crossings, pages));
        }
    }
    best.map(|(_, it)| it).unwrap_or_default()
}

/// How far out each line runs: a shorter one is nearer to the boxes than a longer one beside it.
fn tracks(pages: &[Page], ports: &[[i32; 2]]) -> Vec<i32> {
    let span = |edge: usize| {
        let [a, b] = ports[edge];
        (a.min(b), a.max(b))
    };
    let mut order: Vec<usize> = (0..pages.len()).filter(|it| pages[*it] != Page::Between).collect();
    order.sort_by_key(|it| (span(*it).1 - span(*it).0, *it));
    let mut tracks = vec![0; pages.len()];
    for (at, edge) in order.iter().enumerate() {
        let (low, high) = span(*edge);
        let beside = order.iter().take(at).filter(|it| {
            let (a, b) = span(**it);
            pages[**it] == pages[*edge] && a <= high && low <= b
        });
        tracks[*edge] = beside.map(|it| tracks[*it] + 1).max().unwrap_or_default();
    }
    tracks
}
