//! A self-contained HTML page to explore the diagram.

use crate::dot::svg::summary;
use crate::dot::text::xml;
use crate::dot::{Diagram, json, svg};

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

/// The page. Its `Content-Security-Policy` blocks all requests, in case a name gets interpreted as HTML.
pub fn html(diagram: &Diagram) -> String {
    let title = xml(&summary(diagram));
    // Within a script only `</script` and `<!--` have a meaning, and JSON can escape `<`.
    let data = json(diagram).to_string().replace('<', "\\u003c");
    let picture = svg(diagram);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n\
         <input id=\"search\" type=\"search\" placeholder=\"name, address, MAC …\" aria-label=\"Search by name, address or \
         any property\" autocomplete=\"off\" spellcheck=\"false\">\n\
         <button id=\"out\" type=\"button\" aria-label=\"Zoom out\">−</button>\n\
         <button id=\"in\" type=\"button\" aria-label=\"Zoom in\">+</button>\n\
         <button id=\"fit\" type=\"button\">Fit</button>\n\
         <label>Path from <select id=\"from\"><option value=\"\">…</option></select></label>\n\
         <label>to <select id=\"to\"><option value=\"\">…</option></select></label>\n\
         <span id=\"live\" role=\"status\" aria-live=\"polite\"></span>\n</header>\n\
         <main id=\"canvas\" aria-label=\"The network\">\n{picture}</main>\n\
         <aside id=\"panel\" aria-label=\"Details\"></aside>\n\
         <script id=\"data\" type=\"application/json\">{data}</script>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    )
}
