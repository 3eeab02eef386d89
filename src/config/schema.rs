//! The JSON Schema of the configuration, for editors.

use serde_json::{Value, json};

/// What editors check while one types: draft 2020-12. `compose` is for compose files, where the configuration is
/// under `x-network`; else it is the whole document.
pub fn schema(compose: bool) -> Value {
    let mut network: Value = serde_json::from_str(include_str!("schema.json")).unwrap_or_default();
    if !compose {
        return network;
    }
    let Some(object) = network.as_object_mut() else { return network };
    let schema = object.remove("$schema").unwrap_or_default();
    let mut defs = object.remove("$defs").unwrap_or_default();
    let title = object.remove("title").unwrap_or_default();
    defs["network"] = network;
    json!({
        "$schema": schema,
        "title": title,
        "type": "object",
        "properties": {
            "x-network": {"$ref": "#/$defs/network"},
            "services": {
                "type": "object",
                "additionalProperties": {
                    "type": ["object", "null"],
                    "properties": {"x-network": {"$ref": "#/$defs/serviceNetwork"}},
                },
            },
        },
        "$defs": defs,
    })
}
