//! What is wrong, of a status, as the engine's log has it.

use serde_json::Value;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tools::conlink) struct StatusError {
    /// One line: what it is about, what is wrong, and where the configuration says so.
    pub(in crate::tools::conlink) text: String,
    /// What may be done about it.
    pub(in crate::tools::conlink) help: Option<String>,
}

/// All that is wrong, each once: what several nodes need is wrong for all of them.
pub(in crate::tools::conlink) fn errors(status: &Value) -> Vec<StatusError> {
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

/// The items of what should be a list.
pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Text in which nothing steers a terminal: a name may hold what it likes.
pub(super) fn printable(text: &str) -> String {
    let shown = |it: char| if it.is_control() { it.escape_unicode().collect() } else { it.to_string() };
    text.chars().map(shown).collect()
}
