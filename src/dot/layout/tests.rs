//! What holds of every picture: nothing overlaps, every wire joins what its link joins.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::dot::layout::{Layout, Rect, layout};
use crate::dot::{Diagram, Replicas, read};

/// Services with links to some of the bridges, or cables, each a number of addresses.
fn diagram(cables: usize) -> impl Strategy<Value = Diagram> {
    let link = (0..9 + cables, 0..4_usize);
    let service = proptest::collection::vec(link, 0..4);
    (proptest::collection::vec(service, 0..40), 0..4_usize).prop_map(|(services, tunnels)| {
        let mut all = serde_json::Map::new();
        for (number, links) in services.iter().enumerate() {
            let links = links.iter().enumerate().map(|(at, (segment, ips))| {
                let ips: Vec<String> = (0..*ips).map(|it| format!("10.{segment}.{number}.{it}/8")).collect();
                match segment {
                    9.. => json!({"bridge": {"bridge": format!("c{segment}"), "mode": "patch"}, "dev": format!("e{at}"), "ip": ips}),
                    8 => json!({"type": "dummy", "dev": format!("e{at}"), "ip": ips}),
                    7 => json!({"type": "vlan", "vlanid": 5, "outer-dev": "up0", "dev": format!("e{at}"), "ip": ips}),
                    _ => json!({"bridge": format!("b{segment}"), "dev": format!("e{at}"), "ip": ips}),
                }
            });
            let name = "x".repeat(number % 30) + &number.to_string();
            all.insert(name, json!({"links": links.collect::<Value>()}));
        }
        let tunnels = (0..tunnels).map(|it| json!({"bridge": "b0", "remote": format!("192.0.2.{}", it % 2), "vni": it}));
        let shown = json!({"services": all, "tunnels": tunnels.collect::<Value>()});
        read(&shown, &Replicas::default()).unwrap()
    })
}

fn overlap(a: Rect, b: Rect) -> bool {
    a.x < b.right() && b.x < a.right() && a.y < b.bottom() && b.y < a.bottom()
}

fn on_border(rect: Rect, (x, y): (i32, i32)) -> bool {
    let across = (rect.x..=rect.right()).contains(&x);
    let along = (rect.y..=rect.bottom()).contains(&y);
    (across && (y == rect.y || y == rect.bottom())) || (along && (x == rect.x || x == rect.right()))
}

fn check(diagram: &Diagram, layout: &Layout) {
    let page = Rect { x: 0, y: 0, w: layout.width, h: layout.height };
    let all: Vec<Rect> =
        layout.boxes.iter().map(|(it, _)| *it).chain(layout.bars.iter().filter_map(|it| *it)).collect();
    for (at, a) in all.iter().enumerate() {
        assert!(a.x >= 0 && a.y >= 0 && a.right() <= page.w && a.bottom() <= page.h, "{a:?} leaves {page:?}");
        assert!(a.w > 0 && a.h > 0, "{a:?} is nothing");
        for b in all.iter().take(at) {
            assert!(!overlap(*a, *b), "{a:?} and {b:?} overlap");
        }
    }
    let mut wired: Vec<usize> =
        layout.wires.iter().flat_map(|it| [Some(it.link), it.far]).flatten().collect();
    wired.sort_unstable();
    let joined: Vec<usize> =
        diagram.links.iter().enumerate().filter(|(_, it)| it.segment.is_some()).map(|(at, _)| at).collect();
    assert_eq!(wired, joined, "one wire a link, or one for the two of a cable");
    let has_cables = layout.wires.iter().any(|it| it.far.is_some());
    for wire in &layout.wires {
        let link = &diagram.links[wire.link];
        let (first, last) = (wire.points[0], wire.points[wire.points.len() - 1]);
        assert!(
            on_border(layout.boxes[link.node].0, first),
            "{wire:?} begins beside {:?}",
            layout.boxes[link.node]
        );
        assert_eq!(link.segment, Some(wire.segment));
        let end = match wire.far {
            Some(far) => layout.boxes[diagram.links[far].node].0,
            None => layout.bars[wire.segment].unwrap(),
        };
        assert!(on_border(end, last), "{wire:?} ends beside {end:?}");
        if has_cables {
            continue;
        }
        for pair in wire.points.windows(2) {
            assert!(pair[0].0 == pair[1].0 || pair[0].1 == pair[1].1, "{wire:?} is not straight");
            // A pixel less at each side: a wire may touch what it joins.
            let inner = Rect {
                x: pair[0].0.min(pair[1].0),
                y: pair[0].1.min(pair[1].1),
                w: (pair[0].0 - pair[1].0).abs().max(1),
                h: (pair[0].1 - pair[1].1).abs().max(1),
            };
            for rect in &all {
                let shrunk = Rect { x: rect.x + 1, y: rect.y + 1, w: rect.w - 2, h: rect.h - 2 };
                assert!(!overlap(inner, shrunk), "{wire:?} crosses {rect:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_overlaps_and_every_wire_joins_what_its_link_joins(diagram in diagram(0)) {
        check(&diagram, &layout(&diagram));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn with_cables_too(diagram in diagram(60)) {
        check(&diagram, &layout(&diagram));
    }
}

#[test]
fn a_chain_of_routers_has_no_crossing() {
    let mut services = serde_json::Map::new();
    for at in 0..12 {
        let near = json!({"bridge": format!("n{at}"), "dev": "eth0"});
        let far = json!({"bridge": format!("n{}", at + 1), "dev": "eth1"});
        services.insert(format!("r{at}"), json!({"links": [near, far]}));
    }
    let diagram = read(&json!({"services": services}), &Replicas::default()).unwrap();
    let layout = layout(&diagram);
    check(&diagram, &layout);
    let mut crossings = 0;
    let lines = |wire: &super::Wire| wire.points.windows(2).map(|it| (it[0], it[1])).collect::<Vec<_>>();
    for (at, a) in layout.wires.iter().enumerate() {
        for b in layout.wires.iter().take(at).filter(|it| it.segment != a.segment) {
            for line in lines(a) {
                crossings += lines(b).into_iter().filter(|b| super::route::cross(line, *b)).count();
            }
        }
    }
    assert_eq!(crossings, 0);
}

#[test]
fn numbers_in_names_are_in_their_order() {
    let services: serde_json::Map<String, Value> =
        (0..12).map(|it| (format!("h{it}"), json!({"links": [{"bridge": "lan"}]}))).collect();
    let diagram = read(&json!({"services": services}), &Replicas::default()).unwrap();
    let layout = layout(&diagram);
    let place = |name: &str| {
        let at = diagram.nodes.iter().position(|it| it.name == name).unwrap();
        let rect = layout.boxes[at].0;
        (rect.x, rect.y)
    };
    assert!(place("h2") < place("h10") && place("h1") < place("h2"), "{:?} {:?}", place("h2"), place("h10"));
}
