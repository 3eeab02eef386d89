//! The diagram as JSON, for programs.

use serde_json::{Map, Value, json};

use crate::dot::{Diagram, Fact, SegmentKind};

/// The diagram as one JSON object: `segments`, `nodes`, `links`. Links refer to their node and segment by index.
pub fn json(diagram: &Diagram) -> Value {
    let segments = diagram.segments.iter().map(|it| {
        let (kind, mode) = match &it.kind {
            SegmentKind::Bridge { mode } => ("bridge", Some(mode).filter(|it| !it.is_empty())),
            SegmentKind::Device => ("interface", None),
        };
        let place = if it.on_host { "host" } else { "conlink" };
        json!({"kind": kind, "name": it.name, "title": it.title(), "mode": mode, "place": place, "facts": facts(&it.facts)})
    });
    let nodes = diagram.nodes.iter().map(|it| {
        json!({
            "kind": it.kind.word(), "name": it.name, "title": it.title(), "replica": it.replica,
            "facts": facts(&it.facts),
        })
    });
    let links = diagram.links.iter().map(|it| {
        json!({
            "id": it.id, "node": it.node, "segment": it.segment, "interface": it.dev, "outer": it.outer,
            "type": it.kind, "tunnel": it.is_tunnel, "ip": it.addrs, "marks": it.marks, "facts": facts(&it.facts),
        })
    });
    json!({
        "segments": segments.collect::<Value>(),
        "nodes": nodes.collect::<Value>(),
        "links": links.collect::<Value>(),
    })
}

/// The values of each fact by name.
fn facts(facts: &[Fact]) -> Value {
    facts.iter().map(|it| (it.name.clone(), json!(it.values))).collect::<Map<_, _>>().into()
}
