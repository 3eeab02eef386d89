//! The answers of the reference tool, and those of trying everything.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn never() -> impl FnMut() -> bool {
    || false
}

/// `a: b c|d +e` a line.
fn graph(text: &str) -> Graph {
    let lines = text.lines().filter_map(|it| it.split_once(':'));
    lines.map(|(node, deps)| (node.trim().to_owned(), parse(deps).unwrap())).collect()
}

fn answer(graph: &Graph, request: &[Dep]) -> Result<Vec<String>, Unresolved> {
    resolve(graph, request, &mut never()).map(|it| it.order)
}

fn resolved(text: &str, request: &str) -> String {
    match answer(&graph(text), &parse(request).unwrap()) {
        Ok(order) => order.join(" "),
        Err(error) => error.to_string(),
    }
}

/// Is each node there once, and after all that it has to be after? Alternatives come before who named them in graphs
/// where no cycle keeps them from it.
fn check_order(graph: &Graph, request: &[Dep], order: &[String]) {
    let place = |name: &String| order.iter().position(|it| it == name);
    for (idx, node) in order.iter().enumerate() {
        assert_eq!(place(node), Some(idx), "{node} is there twice");
        for dep in graph.get(node).into_iter().flatten() {
            let fine = match &dep.wants {
                Wants::Node(it) => place(it).is_some_and(|it| it < idx),
                Wants::AnyOf(all) => all.iter().any(|it| place(it).is_some_and(|it| it < idx)),
                Wants::After(it) => place(it).is_none_or(|it| it < idx),
            };
            assert!(fine, "{node} is not after {} in {order:?}", dep.wants);
        }
    }
    for dep in request {
        match &dep.wants {
            Wants::Node(it) => assert!(order.contains(it)),
            Wants::AnyOf(all) => assert!(all.iter().any(|it| order.contains(it))),
            Wants::After(_) => {}
        }
    }
}

#[test]
fn every_answer_of_the_reference_is_ours() {
    let cases = include_str!("../../tests/data/resolve-deps/cases.jsonl");
    let mut count = 0;
    for (number, line) in cases.lines().enumerate() {
        let case: Value = serde_json::from_str(line).unwrap();
        let graph: Graph = parse_json(&case["graph"].to_string()).unwrap().into_iter().collect();
        let request: Vec<String> = serde_json::from_value(case["request"].clone()).unwrap();
        let request = parse(&request.join(" ")).unwrap();
        let found = answer(&graph, &request);
        if case["error"] == "cycle" {
            assert!(matches!(&found, Err(Unresolved::Cycle(it)) if it.len() > 1), "case {number}: {found:?}");
        } else {
            let order = found.unwrap_or_else(|error| panic!("case {number}: {error}"));
            check_order(&graph, &request, &order);
            let mut set = order.clone();
            set.sort();
            let expected: Vec<String> = serde_json::from_value(case["set"].clone()).unwrap();
            assert_eq!(set, expected, "case {number}");
            assert_eq!(Some(set.len() as u64), case["size"].as_u64(), "case {number}");
        }
        count += 1;
    }
    assert_eq!(count, 192);
}

#[test]
fn order_is_depth_first_as_written() {
    for (graph, request, expected) in [
        ("", "b a c", "b a c"),
        ("a: z y\n", "x a", "x z y a"),
        ("a: c b\nb: d\n", "a", "c d b a"),
        ("a: +b\n", "a b", "b a"),
        ("a: +b\n", "a", "a"),
        ("a: +x b\nb: x\n", "a", "x b a"),
        ("a: c|b\n", "a b c", "c b a"),
        // `c` is chosen for other reasons, and cannot come before who names it as an alternative.
        ("a: b|c\nc: a\n", "a c b", "b a c"),
        ("a: b|c\nb: a\nc: a|x\n", "a b c x", "x c a b"),
        ("", "+a b", "b"),
        ("", "", ""),
    ] {
        assert_eq!(resolved(graph, request), expected, "{request} of {graph}");
    }
}

#[test]
fn ties_go_to_what_is_written_first() {
    for (graph, request, expected) in [
        ("", "a|b", "a"),
        ("", "b|a", "b"),
        ("", "a|b b", "b"),
        ("a: x\n", "a|b", "b"),
        // The second word is met before what `a` leads to.
        ("a: p|q\n", "a q|p", "q a"),
        ("", "a|b b|c c|a", "a b"),
        ("", "c|a b|c a|b", "c b"),
        // An alternative that is fulfilled already still counts as met.
        ("c: d|a\n", "b a|b c", "b a c"),
    ] {
        assert_eq!(resolved(graph, request), expected, "{request} of {graph}");
    }
}

#[test]
fn cycles_are_named() {
    for (graph, request, expected) in [
        ("a: b\nb: a\n", "a", "Graph contains a cycle: a → b → a"),
        ("a: a\n", "a", "Graph contains a cycle: a → a"),
        ("a: b\nb: +a\n", "a", "Graph contains a cycle: a → b → a"),
        ("a: b\nb: c\nc: d\nd: b\n", "a", "Graph contains a cycle: b → c → d → b"),
        ("x: a\na: b\nb: a\n", "c", "c"),
        // Another set of the same size has none.
        ("a: b|c\nb: a|x\n", "a", "c a"),
        // The smallest set is a cycle, a larger one would be none: an error to the reference, and here.
        ("a: b|c\nb: a\nc: d\nd: e\n", "a", "Graph contains a cycle: a → b → a"),
        ("a: b|c\nc: a\n", "a c", "Graph contains a cycle: a → c → a"),
        ("a: a|b\n", "a", "Graph contains a cycle: a → a"),
        // An alternative that is not the only one chosen makes no cycle.
        ("a: b|c\nc: a\n", "a b c", "b a c"),
        ("a: b|c\nb: a\nc: a\n", "a", "Graph contains a cycle: a → b → a"),
    ] {
        assert_eq!(resolved(graph, request), expected, "{request} of {graph}");
    }
}

#[test]
fn reasons_say_who_asked_and_what_else_there_was() {
    let graph = graph("a: b|c\nb: d\nc: \n");
    let found = resolve(&graph, &parse("a").unwrap(), &mut never()).unwrap();
    let why: Vec<String> = found
        .why
        .iter()
        .map(|it| format!("{} {} {}", it.node, it.by.as_deref().unwrap_or("-"), it.wants))
        .collect();
    assert_eq!(why, ["a - a", "c a b|c"]);
}

#[test]
fn shapes_that_the_reference_cannot_finish() {
    let chain: String = (0..20_000).map(|it| format!("n{it}: n{}\n", it + 1)).collect();
    assert_eq!(answer(&graph(&chain), &parse("n0").unwrap()).unwrap().len(), 20_001);
    let layers: String =
        (0..200).flat_map(|it| ["a", "b"].map(|side| format!("{side}{it}: a{0} b{0}\n", it + 1))).collect();
    assert_eq!(answer(&graph(&layers), &parse("a0").unwrap()).unwrap().len(), 401);
    let independent: String = (0..60).map(|it| format!("a{it}|b{it} ")).collect();
    assert_eq!(answer(&Graph::new(), &parse(&independent).unwrap()).unwrap().len(), 60);
    let same: String = (0..60).map(|it| format!("n{it}: x|y\n")).collect();
    let all: String = (0..60).map(|it| format!("n{it} ")).collect();
    assert_eq!(answer(&graph(&same), &parse(&all).unwrap()).unwrap().len(), 61);
}

#[test]
fn a_search_that_is_stopped_says_so() {
    // Triangles in a ring of rings: each bound is off by a little, so that nothing but trying helps.
    let text: String = (0..400_usize)
        .map(|it| format!("v{}|v{}|v{} ", it * 7919 % 120, it * 104_729 % 113, it * 1_299_709 % 109))
        .collect();
    let found = resolve(&Graph::new(), &parse(&text).unwrap(), &mut || true);
    assert!(matches!(found, Err(Unresolved::TooHard)), "{found:?}");
}

/// The reference's way: every choice in turn, breadth first through needs, a chosen alternative at once. The sets of
/// all choices, in that order.
fn all_sets(graph: &Graph, request: &[Dep]) -> Vec<Vec<String>> {
    fn go(graph: &Graph, pending: Vec<Wants>, set: Vec<String>, found: &mut Vec<Vec<String>>) {
        let mut pending = std::collections::VecDeque::from(pending);
        let mut set = set;
        while let Some(next) = pending.pop_front() {
            match next {
                Wants::Node(name) => {
                    if !set.contains(&name) {
                        pending.extend(graph.get(&name).into_iter().flatten().map(|it| it.wants.clone()));
                        set.push(name);
                    }
                }
                Wants::After(_) => {}
                Wants::AnyOf(all) => {
                    for it in all {
                        let mut rest: Vec<Wants> = pending.clone().into();
                        rest.insert(0, Wants::Node(it));
                        go(graph, rest, set.clone(), found);
                    }
                    return;
                }
            }
        }
        found.push(set);
    }
    let mut found = Vec::new();
    go(graph, request.iter().map(|it| it.wants.clone()).collect(), Vec::new(), &mut found);
    found
}

/// Can the nodes of a set be placed one after another?
fn has_order(graph: &Graph, set: &[String]) -> bool {
    let mut placed: BTreeSet<&String> = BTreeSet::new();
    loop {
        let ready = set.iter().find(|node| {
            !placed.contains(node)
                && graph.get(*node).into_iter().flatten().all(|dep| match &dep.wants {
                    Wants::Node(it) => placed.contains(it),
                    Wants::After(it) => placed.contains(it) || !set.contains(it),
                    Wants::AnyOf(all) => all.iter().any(|it| placed.contains(it)),
                })
        });
        match ready {
            Some(it) => drop(placed.insert(it)),
            None => return placed.len() == set.len(),
        }
    }
}

/// A graph of nodes `a` to `h`; where `forward`, each names later ones alone, so that there is no cycle.
fn graphs(forward: bool) -> impl Strategy<Value = (Graph, Vec<Dep>)> {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let dep = move |own: usize| {
        let from = if forward { own + 1 } else { 0 };
        let name =
            (from.min(8)..10).prop_map(move |it| names.get(it).copied().unwrap_or("undeclared").to_owned());
        prop_oneof![
            3 => name.clone().prop_map(Wants::Node),
            3 => prop::collection::vec(name.clone(), 2..4).prop_map(Wants::AnyOf),
            1 => name.prop_map(Wants::After),
        ]
        .prop_map(|wants| Dep { wants, at: 0..0 })
    };
    let nodes: Vec<_> = (0..8).map(|it| prop::collection::vec(dep(it), 0..3)).collect();
    let root = prop::collection::vec(
        prop_oneof![
            (0..8_usize).prop_map(move |it| Wants::Node(names[it].to_owned())),
            prop::collection::vec((0..8_usize).prop_map(move |it| names[it].to_owned()), 2..4)
                .prop_map(Wants::AnyOf),
        ]
        .prop_map(|wants| Dep { wants, at: 0..0 }),
        1..4,
    );
    (nodes, root).prop_map(move |(nodes, root)| {
        let graph: BTreeMap<String, Vec<Dep>> =
            nodes.into_iter().enumerate().map(|(it, deps)| (names[it].to_owned(), deps)).collect();
        (graph, root)
    })
}

fn agrees_with_trying_everything(graph: &Graph, request: &[Dep]) {
    let sets = all_sets(graph, request);
    let least = sets.iter().map(Vec::len).min().unwrap();
    let mut smallest = sets.iter().filter(|it| it.len() == least);
    let first = smallest.clone().next().unwrap();
    let expected = smallest.find(|it| has_order(graph, it)).unwrap_or(first);
    match (answer(graph, request), has_order(graph, expected)) {
        (Ok(order), true) => {
            check_order(graph, request, &order);
            let sorted = |it: &[String]| it.iter().cloned().collect::<BTreeSet<_>>();
            assert_eq!(sorted(&order), sorted(expected));
        }
        (Err(Unresolved::Cycle(cycle)), false) => {
            assert!(cycle.len() > 1 && cycle.first() == cycle.last(), "{cycle:?}");
            for pair in cycle.windows(2) {
                let names = graph.get(&pair[0]).into_iter().flatten().any(|it| match &it.wants {
                    Wants::Node(to) | Wants::After(to) => *to == pair[1],
                    Wants::AnyOf(all) => all.contains(&pair[1]),
                });
                assert!(names, "{cycle:?}");
            }
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in "([a-c|+,# \n\t!\"{}:\\[\\]]|\\PC){0,30}") {
        match parse(&text) {
            Ok(deps) => prop_assert!(deps.iter().all(|it| it.at.end <= text.len())),
            Err(bad) => prop_assert!(bad.iter().all(|it| it.at.end <= text.len())),
        }
        let _ = parse_json(&text);
    }

    #[test]
    fn small_graphs_without_cycles_as_by_trying_everything((graph, request) in graphs(true)) {
        agrees_with_trying_everything(&graph, &request);
    }

    #[test]
    fn small_graphs_as_by_trying_everything((graph, request) in graphs(false)) {
        agrees_with_trying_everything(&graph, &request);
    }
}
