//! Networks with cables, as graphs: containers and bridges are vertices, cables and the links to bridges are edges.
//!
//! Each connected part is drawn by itself, in the form that suits it: [`tiers`], [`free`] or [`pages`]. The parts then stand
//! side by side.

use std::collections::{BTreeSet, VecDeque};

use crate::dot::layout::{Content, Label, Layout, Rect, Scene, Wire, free, labels, pages, tiers};

/// What has a box of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vertex {
    Node(usize),
    /// A segment that is not a cable.
    Bar(usize),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub(super) ends: [usize; 2],
    /// The link of each end; a bar has none of its own.
    pub(super) links: [Option<usize>; 2],
    pub(super) segment: usize,
}

impl Edge {
    /// The end that is not this one.
    pub(super) fn other(&self, end: usize) -> usize {
        if self.ends[0] == end { self.ends[1] } else { self.ends[0] }
    }

    pub(super) fn link_at(&self, end: usize) -> Option<usize> {
        self.links[usize::from(self.ends[0] != end)]
    }

    pub(super) fn touches(&self, other: &Self) -> bool {
        self.ends.iter().any(|it| other.ends.contains(it))
    }
}

/// A connected part of the network.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) vertices: Vec<Vertex>,
    pub(super) edges: Vec<Edge>,
    /// Width and height of each vertex.
    pub(super) sizes: Vec<(i32, i32)>,
    /// The edges of each vertex.
    pub(super) incident: Vec<Vec<usize>>,
}

impl Graph {
    pub(super) fn neighbours(&self, vertex: usize) -> impl Iterator<Item = usize> + '_ {
        self.incident[vertex].iter().map(move |it| self.edges[*it].other(vertex))
    }

    /// How many edges the shortest way from one of the starts takes.
    pub(super) fn distances(&self, starts: &[usize]) -> Vec<usize> {
        let mut found = vec![usize::MAX; self.vertices.len()];
        let mut open: VecDeque<usize> = starts.iter().copied().collect();
        starts.iter().for_each(|it| found[*it] = 0);
        while let Some(vertex) = open.pop_front() {
            for next in self.neighbours(vertex) {
                if found[next] == usize::MAX {
                    found[next] = found[vertex] + 1;
                    open.push_back(next);
                }
            }
        }
        found
    }
}

/// A part with places for all that it has; the corner at the top left is near 0, 0.
#[derive(Debug, Default)]
pub(super) struct Drawing {
    pub(super) rects: Vec<Rect>,
    /// What each node shows, where the order of its rows is another one than the configuration's.
    pub(super) contents: Vec<Option<Content>>,
    /// By edge, from its first end to its second.
    pub(super) lines: Vec<Vec<(i32, i32)>>,
    /// Lines do not end beside their rows: each end says which interface it is.
    pub(super) names_ends: bool,
}

impl Drawing {
    /// How often lines cross.
    pub(super) fn crossings(&self) -> usize {
        let pieces: Vec<(usize, [(i32, i32); 2])> = self
            .lines
            .iter()
            .enumerate()
            .flat_map(|(at, line)| line.windows(2).map(move |it| (at, [it[0], it[1]])))
            .collect();
        let mut count = 0;
        for (at, (line, a)) in pieces.iter().enumerate() {
            count += pieces.iter().take(at).filter(|(other, b)| other != line && cross(*a, *b)).count();
        }
        count
    }

    /// How many lines run through a box that they do not join.
    pub(super) fn hits(&self, graph: &Graph) -> usize {
        let lines = self.lines.iter().zip(&graph.edges);
        lines
            .map(|(line, edge)| {
                let others = self
                    .rects
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| !edge.ends.contains(at))
                    .map(|(_, it)| *it);
                others.filter(|rect| line.windows(2).any(|it| passes([it[0], it[1]], *rect))).count()
            })
            .sum()
    }

    /// The corner at the bottom right of everything.
    fn extent(&self) -> (i32, i32) {
        let points = self.lines.iter().flatten().copied();
        let corners = self.rects.iter().map(|it| (it.right(), it.bottom()));
        points.chain(corners).fold((0, 0), |all, it| (all.0.max(it.0), all.1.max(it.1)))
    }

    /// Moves everything so that it begins at 0, 0.
    pub(super) fn settle(&mut self) {
        let points = self.lines.iter().flatten().copied().chain(self.rects.iter().map(|it| (it.x, it.y)));
        let least = points.reduce(|all, it| (all.0.min(it.0), all.1.min(it.1))).unwrap_or_default();
        self.shift(-least.0, -least.1);
    }

    fn shift(&mut self, dx: i32, dy: i32) {
        for it in &mut self.rects {
            (it.x, it.y) = (it.x + dx, it.y + dy);
        }
        for it in self.lines.iter_mut().flatten() {
            *it = (it.0 + dx, it.1 + dy);
        }
    }
}

/// Twice the area of a triangle, with the sign of its direction.
fn turn(a: (i32, i32), b: (i32, i32), c: (i32, i32)) -> i64 {
    let (ux, uy) = (i64::from(b.0 - a.0), i64::from(b.1 - a.1));
    let (vx, vy) = (i64::from(c.0 - a.0), i64::from(c.1 - a.1));
    ux * vy - uy * vx
}

/// Do two straight lines cross between their ends?
pub(super) fn cross(a: [(i32, i32); 2], b: [(i32, i32); 2]) -> bool {
    let differ = |p: i64, q: i64| (p > 0 && q < 0) || (p < 0 && q > 0);
    differ(turn(a[0], a[1], b[0]), turn(a[0], a[1], b[1]))
        && differ(turn(b[0], b[1], a[0]), turn(b[0], b[1], a[1]))
}

/// Does a straight line run through a rectangle?
pub(super) fn passes(line: [(i32, i32); 2], rect: Rect) -> bool {
    let [(ax, ay), (bx, by)] = line;
    if ax.max(bx) < rect.x || ax.min(bx) > rect.right() || ay.max(by) < rect.y || ay.min(by) > rect.bottom() {
        return false;
    }
    let corners =
        [(rect.x, rect.y), (rect.right(), rect.y), (rect.right(), rect.bottom()), (rect.x, rect.bottom())];
    let sides = corners.map(|it| turn(line[0], line[1], it).signum());
    sides.iter().any(|it| *it > 0) && sides.iter().any(|it| *it < 0)
}

/// The connected parts of the network, the largest first.
fn parts(scene: &Scene<'_>) -> Vec<Graph> {
    let diagram = scene.diagram;
    let nodes = diagram.nodes.len();
    // By segment, what it joins: of a cable its two links, of everything else the bar.
    let mut edges = Vec::new();
    for segment in 0..diagram.segments.len() {
        if let Some([a, b]) = scene.cables[segment] {
            let ends = [diagram.links[a].node, diagram.links[b].node];
            edges.push(Edge { ends, links: [Some(a), Some(b)], segment });
        }
    }
    for (at, link) in diagram.links.iter().enumerate() {
        if let Some(segment) = link.segment.filter(|it| scene.cables[*it].is_none()) {
            edges.push(Edge { ends: [link.node, nodes + segment], links: [Some(at), None], segment });
        }
    }
    let mut seen = BTreeSet::new();
    let mut whole =
        Graph { incident: vec![Vec::new(); nodes + diagram.segments.len()], edges, ..Graph::default() };
    for (at, edge) in whole.edges.iter().enumerate() {
        edge.ends.iter().for_each(|it| whole.incident[*it].push(at));
    }
    whole.vertices = vec![Vertex::Node(0); whole.incident.len()];
    let mut parts = Vec::new();
    let mut order: Vec<usize> = (0..nodes).collect();
    order.sort_by_cached_key(|it| super::natural(&diagram.nodes[*it]));
    let bars = (0..diagram.segments.len()).filter(|it| scene.cables[*it].is_none()).map(|it| nodes + it);
    let order: Vec<usize> = order.into_iter().chain(bars).collect();
    for start in &order {
        if seen.contains(start) {
            continue;
        }
        let reached = whole.distances(&[*start]);
        let members: Vec<usize> = order.iter().copied().filter(|it| reached[*it] != usize::MAX).collect();
        seen.extend(members.iter().copied());
        let place = |of: usize| members.iter().position(|it| *it == of).unwrap_or_default();
        let mut part = Graph::default();
        for member in &members {
            let is_bar = *member >= nodes;
            let degree = whole.incident[*member].len() as i32;
            part.vertices.push(if is_bar { Vertex::Bar(member - nodes) } else { Vertex::Node(*member) });
            part.sizes.push(if is_bar {
                (scene.bar_width, (10 * degree).max(44))
            } else {
                (scene.contents[*member].w, scene.contents[*member].h)
            });
        }
        part.incident = vec![Vec::new(); members.len()];
        for edge in whole.edges.iter().filter(|it| reached[it.ends[0]] != usize::MAX) {
            let ends = edge.ends.map(place);
            ends.iter().for_each(|it| part.incident[*it].push(part.edges.len()));
            part.edges.push(Edge { ends, ..*edge });
        }
        parts.push(part);
    }
    parts.sort_by_key(|it| std::cmp::Reverse(it.vertices.len()));
    parts
}

/// Draws a part by tiers, if it has any and they cross no more lines than distances alone do; else in the form with the
/// fewest crossings.
fn draw(scene: &Scene<'_>, graph: &Graph) -> Drawing {
    let tiers = tiers::draw(scene, graph);
    if tiers.as_ref().is_some_and(|it| it.crossings() == 0 || graph.vertices.len() > free::MOST) {
        return tiers.unwrap_or_default();
    }
    let (free, plain) = free::draw(graph);
    let faults = |it: &Drawing| it.crossings() + 100 * it.hits(graph);
    if let Some(tiers) = tiers
        && (tiers.crossings() <= plain || faults(&tiers) <= faults(&free))
    {
        return tiers;
    }
    if graph.vertices.len() <= pages::MOST && graph.edges.len() > 2 * graph.vertices.len() {
        let pages = pages::draw(scene, graph);
        if faults(&pages) < faults(&free) {
            return pages;
        }
    }
    free
}

const MARGIN: i32 = 24;
/// Between parts.
const GAP: i32 = 40;
/// For the meaning of the signs, at the bottom.
const LEGEND: i32 = 40;

/// Lays a network with cables out.
pub(super) fn layout(mut scene: Scene<'_>) -> Layout {
    let parts = parts(&scene);
    let mut drawings: Vec<Drawing> = parts.iter().map(|it| draw(&scene, it)).collect();
    drawings.iter_mut().for_each(Drawing::settle);
    let (width, height) = shelve(&mut drawings);
    let diagram = scene.diagram;
    let mut layout = Layout {
        width: (width + MARGIN).max(320),
        height: height + LEGEND,
        boxes: Vec::new(),
        bars: vec![None; diagram.segments.len()],
        hues: (0..diagram.segments.len()).collect(),
        wires: Vec::new(),
        labels: Vec::new(),
        regions: Vec::new(),
    };
    let mut rects = vec![Rect::default(); diagram.nodes.len()];
    let mut named: Vec<Label> = Vec::new();
    for (graph, drawing) in parts.iter().zip(drawings) {
        named.extend(labels::labels(&scene, graph, &drawing));
        let Drawing { rects: own, contents, lines, .. } = drawing;
        for ((vertex, rect), content) in graph.vertices.iter().zip(own).zip(contents) {
            match vertex {
                Vertex::Bar(segment) => layout.bars[*segment] = Some(rect),
                Vertex::Node(node) => {
                    rects[*node] = rect;
                    if let Some(content) = content {
                        scene.contents[*node] = content;
                    }
                }
            }
        }
        for (edge, points) in graph.edges.iter().zip(lines) {
            let [link, far] = edge.links;
            let Some(link) = link else { continue };
            layout.wires.push(Wire { link, far, segment: edge.segment, points });
        }
    }
    layout.wires.sort_by_key(|it| it.link);
    layout.labels = named;
    layout.boxes = rects.into_iter().zip(scene.contents).collect();
    layout
}

/// Places the parts side by side in rows, and tells where the last of them end.
fn shelve(drawings: &mut [Drawing]) -> (i32, i32) {
    let extents: Vec<(i32, i32)> = drawings.iter().map(Drawing::extent).collect();
    let area: i64 = extents.iter().map(|it| i64::from(it.0 + GAP) * i64::from(it.1 + GAP)).sum();
    let widest = extents.iter().map(|it| it.0).max().unwrap_or_default();
    // As wide as a screen of 16:10 with this area.
    let room = ((area * 8 / 5) as u64).isqrt() as i32;
    let room = room.max(widest);
    let (mut x, mut y, mut bottom, mut right) = (0, 0, 0, 0);
    for (drawing, (w, h)) in drawings.iter_mut().zip(extents) {
        if x > 0 && x + w > room {
            (x, y) = (0, bottom + GAP);
        }
        drawing.shift(MARGIN + x, MARGIN + y);
        right = right.max(MARGIN + x + w);
        bottom = bottom.max(y + h);
        x += w + GAP;
    }
    (right, MARGIN + bottom)
}

/// A node's content with the rows of its links in another order; links that are not in it come last.
pub(super) fn in_order(content: &Content, links: &[usize]) -> Content {
    let mut arranged = content.clone();
    let places: Vec<i32> = content.rows.iter().map(|it| it.y).collect();
    // A stable sort keeps the rows of one link as they are.
    arranged.rows.sort_by_key(|row| links.iter().position(|it| *it == row.link).unwrap_or(usize::MAX));
    arranged.rows.iter_mut().zip(places).for_each(|(row, y)| row.y = y);
    arranged
}

/// The height of a link's first row in the box of its node.
pub(super) fn row_of(content: &Content, link: usize) -> i32 {
    content.rows.iter().find(|it| it.link == link).map_or(content.h / 2, |it| it.y)
}
