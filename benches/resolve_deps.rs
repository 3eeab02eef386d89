//! How long resolving takes on random graphs: 60 alternatives over up to 200 nodes, 1,000 graphs of each kind.
//! usage: cargo bench --bench resolve-deps [-- GRAPHS]

#![expect(clippy::print_stdout, reason = "a bench prints what it measures")]

use std::time::{Duration, Instant};

use conlink::deps::{Dep, Graph, Unresolved, Wants, resolve};

/// What is asked of a graph of 60 two-way alternatives.
const GOAL: Duration = Duration::from_millis(50);

/// xorshift64: the same graphs on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) as usize % bound
    }
}

fn dep(wants: Wants) -> Dep {
    Dep { wants, at: 0..0 }
}

fn name(number: usize) -> String {
    format!("n{number}")
}

fn one(number: usize) -> Dep {
    dep(Wants::Node(name(number)))
}

/// So many alternatives among the nodes `from..to`.
fn any(random: &mut Random, count: usize, from: usize, to: usize) -> Dep {
    dep(Wants::AnyOf((0..count).map(|_| name(from + random.below(to - from))).collect()))
}

/// 200 nodes, each of which needs later ones, `percent` / 100 of them on average.
fn needs(random: &mut Random, percent: usize) -> Graph {
    let mut graph = Graph::new();
    for it in 0..200 {
        let mut deps = Vec::new();
        let mut left = percent;
        while left > 0 && it < 199 {
            if random.below(100) < left {
                deps.push(one(it + 1 + random.below(199 - it)));
            }
            left = left.saturating_sub(100);
        }
        graph.insert(name(it), deps);
    }
    graph
}

type Make = fn(&mut Random) -> (Graph, Vec<Dep>);

/// Kinds of graphs.
const KINDS: [(&str, Make); 9] = [
    ("two-way, over 200 leaves", |random| (Graph::new(), (0..60).map(|_| any(random, 2, 0, 200)).collect())),
    ("two-way, over 60 leaves", |random| (Graph::new(), (0..60).map(|_| any(random, 2, 0, 60)).collect())),
    ("two-way, over 30 leaves", |random| (Graph::new(), (0..60).map(|_| any(random, 2, 0, 30)).collect())),
    ("three-way, over 60 leaves", |random| (Graph::new(), (0..60).map(|_| any(random, 3, 0, 60)).collect())),
    ("three-way, over 30 leaves", |random| (Graph::new(), (0..60).map(|_| any(random, 3, 0, 30)).collect())),
    ("two-way, nodes with 0.5 needs", |random| {
        (needs(random, 50), (0..60).map(|_| any(random, 2, 0, 200)).collect())
    }),
    ("two-way, nodes with 1 need", |random| {
        (needs(random, 100), (0..60).map(|_| any(random, 2, 0, 200)).collect())
    }),
    ("two-way, nodes with 2 needs", |random| {
        (needs(random, 200), (0..60).map(|_| any(random, 2, 0, 200)).collect())
    }),
    ("two-way, within 200 nodes", |random| {
        let mut graph = needs(random, 100);
        for _ in 0..60 {
            let owner = random.below(190);
            let alternatives = any(random, 2, owner + 1, 200);
            graph.entry(name(owner)).or_default().push(alternatives);
        }
        (graph, (0..10).map(|_| one(random.below(60))).collect())
    }),
];

fn main() {
    // cargo passes --bench.
    let count = std::env::args().skip(1).find_map(|it| it.parse().ok()).unwrap_or(1000);
    println!("{:32} {:>9} {:>9} {:>9}  over {GOAL:?}", "60 alternatives", "median", "99 %", "most");
    for (kind, make) in KINDS {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let mut times = Vec::new();
        let mut too_hard = 0;
        for _ in 0..count {
            let (graph, request) = make(&mut random);
            let begun = Instant::now();
            let found = resolve(&graph, &request, &mut || begun.elapsed() > Duration::from_secs(10));
            times.push(begun.elapsed());
            too_hard += usize::from(found == Err(Unresolved::TooHard));
        }
        times.sort();
        let at = |share: usize| {
            times.get((times.len() * share / 100).min(times.len() - 1)).copied().unwrap_or_default()
        };
        let over = times.iter().filter(|it| **it > GOAL).count();
        println!(
            "{kind:32} {:>9.2?} {:>9.2?} {:>9.2?}  {over} of {count}, {too_hard} too hard",
            at(50),
            at(99),
            at(100)
        );
    }
}
