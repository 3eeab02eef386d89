//! The dependency graph as DOT.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::deps::{Graph, Wants};

/// Every node, with the chosen ones filled: solid lines to dependencies, dashed ones to alternatives, dotted ones for
/// order only.
pub(super) fn dot(graph: &Graph, chosen: &BTreeSet<&str>, exists: impl Fn(&str) -> bool) -> String {
    let mut text = String::from("digraph modes {\n  rankdir=LR;\n  node [shape=box];\n");
    let mut names: BTreeSet<&str> = graph.keys().map(String::as_str).collect();
    for dep in graph.values().flatten() {
        match &dep.wants {
            Wants::Node(it) | Wants::After(it) => drop(names.insert(it)),
            Wants::AnyOf(all) => names.extend(all.iter().map(String::as_str)),
        }
    }
    // Writing to a string cannot fail.
    for name in names {
        let mut style = Vec::new();
        if chosen.contains(name) {
            style.push("style=filled, fillcolor=lightblue");
        }
        if !exists(name) {
            style.push("color=red, fontcolor=red");
        }
        let style = if style.is_empty() { String::new() } else { format!(" [{}]", style.join(", ")) };
        let _ = writeln!(text, "  {}{style};", id(name));
    }
    for (node, deps) in graph {
        for (number, dep) in deps.iter().enumerate() {
            let from = id(node);
            match &dep.wants {
                Wants::Node(to) => {
                    let _ = writeln!(text, "  {from} -> {};", id(to));
                }
                Wants::After(to) => {
                    let _ = writeln!(text, "  {from} -> {} [style=dotted, label=after];", id(to));
                }
                Wants::AnyOf(all) => {
                    for to in all {
                        let _ = writeln!(
                            text,
                            "  {from} -> {} [style=dashed, label=\"or {}\"];",
                            id(to),
                            number + 1
                        );
                    }
                }
            }
        }
    }
    text + "}\n"
}

/// A name quoted for DOT.
fn id(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}
