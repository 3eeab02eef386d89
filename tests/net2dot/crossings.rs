//! Drawings of cables: how many lines cross, compared with Graphviz.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};

use conlink::dot::Diagram;
use serde_json::Value;

use crate::net2dot::{diagram, networks};
use crate::support::{run, skip};

/// How often lines cross: ours, and those of Graphviz 2.43 for the same boxes and lines (`graphviz` below
/// writes them). `dot -Tplain` is counted along its splines; `neato -Tplain` between the middles of boxes, since its boxes
/// lie on each other and cover its crossings.
const CROSSINGS: [(&str, usize, usize, usize); 12] = [
    ("ring of 16", 0, 0, 0),
    ("leaf-spine 2x4x2", 2, 5, 2),
    ("fat tree k=4", 16, 91, 19),
    ("fat tree k=8", 1728, 15436, 2138),
    ("chain of 20", 0, 0, 0),
    ("star of 60", 0, 172, 0),
    ("campus of 60", 25, 177, 27),
    ("mesh of 8", 18, 18, 56),
    ("WAN of six sites", 3, 3, 5),
    ("200 on 20 bridges", 0, 196, 0),
    ("tree 3-3-3", 0, 4, 0),
    ("random 40", 15, 52, 34),
];

type Point = (f64, f64);

/// A line, and the number of the cable or bridge that it belongs to.
type Drawn = (usize, Vec<Point>);

/// The lines that a picture draws.
fn wires(diagram: &Diagram, svg: &str) -> Vec<Drawn> {
    let starts = svg.split("<path class=\"wire ").skip(1);
    starts
        .map(|it| {
            let value = |key: &str| it.split(key).nth(1).unwrap().split('"').next().unwrap();
            let link: usize = value(" data-link=\"").parse().unwrap();
            let numbers = value(" d=\"").split(|it: char| "MLQ ".contains(it));
            let numbers: Vec<f64> = numbers.filter_map(|it| it.parse().ok()).collect();
            let points = numbers.chunks(2).map(|it| (it[0], it[1])).collect();
            (diagram.links[link].segment.unwrap(), points)
        })
        .collect()
}

/// How often lines cross between their ends. Lines of one bridge that are drawn over each other cross a third one once.
fn crossings(lines: &[Drawn]) -> usize {
    let turn = |a: Point, b: Point, c: Point| (b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0);
    let pieces: Vec<(usize, usize, Point, Point)> = lines
        .iter()
        .enumerate()
        .flat_map(|(at, (of, it))| it.windows(2).map(move |it| (at, *of, it[0], it[1])))
        .collect();
    let mut found = BTreeSet::new();
    for (number, (line, of, a, b)) in pieces.iter().enumerate() {
        for (_, other, c, d) in pieces.iter().take(number).filter(|it| it.0 != *line) {
            let (p, q) = (turn(*a, *b, *c), turn(*a, *b, *d));
            if p * q < 0.0 && turn(*c, *d, *a) * turn(*c, *d, *b) < 0.0 {
                let part = p / (p - q);
                let place = [c.0 + part * (d.0 - c.0), c.1 + part * (d.1 - c.1)];
                found.insert((of.min(other), of.max(other), place.map(|it| (it * 1e4).round() as i64)));
            }
        }
    }
    found.len()
}

/// Left, top, right and bottom of each box and bar.
fn boxes(svg: &str) -> Vec<[f64; 4]> {
    let starts = svg.split("<rect class=\"b").skip(1);
    starts
        .map(|it| {
            let value =
                |key: &str| it.split(key).nth(1).unwrap().split('"').next().unwrap().parse::<f64>().unwrap();
            let (x, y) = (value(" x=\""), value(" y=\""));
            [x, y, x + value(" width=\""), y + value(" height=\"")]
        })
        .collect()
}

/// Is a point of a line more than a pixel within a box?
fn runs_through(line: &[Point], boxes: &[[f64; 4]]) -> bool {
    line.windows(2).any(|it| {
        let (a, b) = (it[0], it[1]);
        (0..=200).any(|step| {
            let part = f64::from(step) / 200.0;
            let (x, y) = (a.0 + part * (b.0 - a.0), a.1 + part * (b.1 - a.1));
            boxes.iter().any(|it| it[0] + 1.0 < x && x < it[2] - 1.0 && it[1] + 1.0 < y && y < it[3] - 1.0)
        })
    })
}

#[test]
fn no_network_is_drawn_with_more_crossings_than_the_better_of_dot_and_neato() {
    let mut found = Vec::new();
    for (name, shown) in networks::all() {
        let diagram = diagram(&shown);
        let svg = conlink::dot::svg(&diagram);
        assert_eq!(svg, conlink::dot::svg(&diagram), "{name} is not byte-stable");
        let lines = wires(&diagram, &svg);
        let boxes = boxes(&svg);
        assert!(boxes.len() > 7 && lines.iter().all(|(_, it)| !runs_through(it, &boxes)), "{name}");
        found.push((name, crossings(&lines)));
    }
    let expected: Vec<(&str, usize)> = CROSSINGS.iter().map(|it| (it.0, it.1)).collect();
    assert_eq!(found, expected);
    for (name, ours, dot, neato) in CROSSINGS {
        assert!(ours <= dot.min(neato), "{name}");
    }
}

/// The boxes and lines of a network, for `dot -Tplain` and `neato -Tplain`: containers and bridges are boxes, cables and
/// links to bridges are lines.
fn graphviz(shown: &Value) -> String {
    let diagram = conlink::dot::json(&diagram(shown));
    let list = |key: &str| diagram[key].as_array().unwrap().clone();
    let mut members: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let nodes = list("nodes");
    for link in list("links") {
        let node = nodes[link["node"].as_u64().unwrap() as usize]["name"].as_str().unwrap();
        members.entry(link["segment"].as_u64().unwrap()).or_default().push(node.to_owned());
    }
    let mut names: BTreeSet<String> =
        nodes.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect();
    let mut edges = Vec::new();
    for (at, segment) in list("segments").iter().enumerate() {
        let name = segment["name"].as_str().unwrap();
        match members[&(at as u64)].as_slice() {
            [a, b] if segment["mode"] == "patch" => edges.push((a.clone(), b.clone())),
            all => {
                let bridge = format!("bridge {name}");
                edges.extend(all.iter().map(|it| (it.clone(), bridge.clone())));
                names.insert(bridge);
            }
        }
    }
    let nodes: String = names.iter().map(|it| format!("\"{it}\";\n")).collect();
    let edges: String = edges.iter().map(|(a, b)| format!("\"{a}\" -- \"{b}\";\n")).collect();
    format!("graph {{\nnode [shape=box];\n{nodes}{edges}}}\n")
}

/// What `-Tplain` tells: the middle of each box, and the splines.
fn plain_lines(text: &str, along_splines: bool) -> Vec<Drawn> {
    let mut middles: BTreeMap<String, Point> = BTreeMap::new();
    let mut lines = Vec::new();
    for line in text.replace("\\\n", "").lines() {
        // Names may have spaces, and then stand in quotes.
        let mut words: Vec<String> = Vec::new();
        for (number, part) in line.split('"').enumerate() {
            if number % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        let number = |at: usize| words[at].parse::<f64>().unwrap();
        if words[0] == "node" {
            middles.insert(words[1].clone(), (number(2), number(3)));
        } else if words[0] == "edge" && along_splines {
            let count = number(3) as usize;
            let points: Vec<Point> = (0..count).map(|it| (number(4 + 2 * it), number(5 + 2 * it))).collect();
            let mut line = vec![points[0]];
            for curve in points.windows(4).step_by(3) {
                for step in 1..=16 {
                    let (t, u) = (f64::from(step) / 16.0, 1.0 - f64::from(step) / 16.0);
                    let at = |of: fn(&Point) -> f64| {
                        let [a, b, c, d] = [0, 1, 2, 3].map(|it| of(&curve[it]));
                        u * u * u * a + 3.0 * u * u * t * b + 3.0 * u * t * t * c + t * t * t * d
                    };
                    line.push((at(|it| it.0), at(|it| it.1)));
                }
            }
            lines.push((lines.len(), line));
        } else if words[0] == "edge" {
            lines.push((lines.len(), vec![middles[&words[1]], middles[&words[2]]]));
        }
    }
    lines
}

#[test]
fn graphviz_crosses_as_many_lines_as_the_table_says() {
    let version = Command::new("dot").arg("-V").stdin(Stdio::null()).output();
    let version = version.map(|it| String::from_utf8_lossy(&it.stderr).into_owned()).unwrap_or_default();
    if !version.contains("version 2.43.") {
        return skip("crossings of Graphviz", "Graphviz 2.43 is not there");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut found = Vec::new();
    for (name, shown) in networks::all() {
        let path = dir.path().join("it.gv");
        fs::write(&path, graphviz(&shown)).unwrap();
        let plain = |program: &str| {
            let mut command = Command::new(program);
            command.arg("-Tplain").arg(&path);
            run(command).stdout
        };
        let dot = crossings(&plain_lines(&plain("dot"), true));
        found.push((name, dot, crossings(&plain_lines(&plain("neato"), false))));
    }
    assert_eq!(found, CROSSINGS.map(|(name, _, dot, neato)| (name, dot, neato)));
}
