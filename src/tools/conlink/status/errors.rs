//! What is wrong, of a status, as the engine's log has it.

use serde_json::Value;

use crate::words::printable;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tools::conlink) struct StatusError {
    /// One line: what it is about, what is wrong, and where the configuration says so.
    pub(in crate::tools::conlink) text: String,
    /// What may be done about it.
    pub(in crate::tools::conlink) help: Option<String>,
}

/// All that is wrong: what failed, and then what somebody else changed.
pub(in crate::tools::conlink) fn errors(status: &Value) -> Vec<StatusError> {
    let drifted = |(subject, what)| StatusError {
        text: format!("{subject}: changed outside conlink: {what}"),
        help: None,
    };
    failures(status).into_iter().chain(drift(status).into_iter().map(drifted)).collect()
}

/// All that failed, each once: what several nodes need is wrong for all of them.
pub(in crate::tools::conlink) fn failures(status: &Value) -> Vec<StatusError> {
    let nodes = || list(&status["nodes"]);
    let outside = list(&status["bridges"]).chain(list(&status["tunnels"]));
    let inside = nodes().flat_map(|it| std::iter::once(it).chain(list(&it["links"])));
    let mut found = Vec::new();
    for it in std::iter::once(status).chain(outside).chain(inside).flat_map(|it| list(&it["errors"])) {
        let word = |key: &str| it[key].as_str();
        let origin = word("origin").map(|it| format!(" ({it})")).unwrap_or_default();
        let subject = word("subject").map(|it| format!("{it}: ")).unwrap_or_default();
        let error = StatusError {
            text: printable(&format!("{subject}{}{origin}", word("message").unwrap_or("?"))),
            help: word("help").map(printable),
        };
        if !found.contains(&error) {
            found.push(error);
        }
    }
    found
}

/// What somebody else changed, by what it is about.
pub(in crate::tools::conlink) fn drift(status: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut add = |subject: String, it: &Value| {
        let what = list(&it["drift"]).filter_map(Value::as_str);
        found.extend(what.map(|it| (printable(&subject), printable(it))));
    };
    for (kind, key) in [("bridge", "bridges"), ("tunnel", "tunnels")] {
        for it in list(&status[key]) {
            add(format!("{kind} {}", it["name"].as_str().unwrap_or_default()), it);
        }
    }
    for node in list(&status["nodes"]) {
        for it in list(&node["links"]) {
            let name = |it: &Value, key: &str| it[key].as_str().unwrap_or_default().to_owned();
            add(format!("link {}:{}", name(node, "name"), name(it, "dev")), it);
        }
    }
    found
}

/// The items of what should be a list.
pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
