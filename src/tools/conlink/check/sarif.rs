//! SARIF 2.1.0 (OASIS, 2020): findings for code scanning services and editors.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::config::{Diagnostic, Severity, Sources, Span};

/// All findings as the log of one run.
pub(super) fn log(sources: &Sources, diagnostics: &[Diagnostic]) -> Value {
    let codes: BTreeSet<&str> = diagnostics.iter().map(|it| it.code).collect();
    let rules: Vec<Value> = codes.iter().map(|it| json!({"id": it})).collect();
    let results: Vec<Value> = diagnostics.iter().map(|it| result(sources, it)).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "conlink",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            // `region` counts in characters, as messages do.
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn result(sources: &Sources, it: &Diagnostic) -> Value {
    let level = match it.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Hint => "note",
    };
    let text = match &it.help {
        Some(help) => format!("{}\n{help}", it.message),
        None => it.message.clone(),
    };
    let mut result = json!({"ruleId": it.code, "level": level, "message": {"text": text}});
    if let Some(span) = it.span {
        result["locations"] = json!([location(sources, span)]);
    }
    if !it.notes.is_empty() {
        let related = it.notes.iter().enumerate().map(|(at, (span, text))| {
            let mut place = location(sources, *span);
            place["id"] = json!(at);
            place["message"] = json!({"text": text});
            place
        });
        result["relatedLocations"] = related.collect();
    }
    result
}

fn location(sources: &Sources, span: Span) -> Value {
    let start = sources.line_col(span.file, span.start);
    let end = sources.line_col(span.file, span.end);
    json!({"physicalLocation": {
        "artifactLocation": {"uri": uri(sources.name(span.file))},
        "region": {
            "startLine": start.line,
            "startColumn": start.col,
            "endLine": end.line,
            "endColumn": end.col,
        },
    }})
}

/// A path as a URI reference (RFC 3986): relative ones stay relative.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    if path.starts_with('/') {
        uri.push_str("file://");
    }
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::uri;

    #[test]
    fn paths_become_references() {
        assert_eq!(uri("a b/ü.yaml"), "a%20b/%C3%BC.yaml");
        assert_eq!(uri("/x/c:d.yaml"), "file:///x/c%3Ad.yaml");
    }
}
