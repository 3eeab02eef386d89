//! Option texts that mean something else than most people expect.

use crate::config::{Diagnostic, Node, Sources, Span, Spanned, Value, merge_text};
use crate::network::lint::{Lint, warning};
use crate::words::{Word, Words};

impl Lint<'_> {
    pub(super) fn texts(&mut self) {
        let sources = &self.network.sources;
        let links = self.network.links.iter().filter(|it| it.fault.is_none()).map(|it| &it.config.node);
        let tunnels = self.network.tunnels.iter().map(|it| &it.config);
        for node in links.chain(tunnels) {
            for node in ["netem", "netem-in"].iter().filter_map(|key| node.get(key)) {
                for item in items(node) {
                    check(sources, item, &mut self.found);
                }
            }
        }
    }
}

/// One text or several.
fn items(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(node),
    }
}

/// Warns of times and rates without a unit.
fn check(sources: &Sources, node: &Node, found: &mut Vec<Diagnostic>) {
    let Some(text) = merge_text(node) else { return };
    let text = Spanned { value: text, span: node.span };
    let place = |word: Word| -> Span { sources.part(&text, word.at()) };
    let mut words = Words::new(&text.value);
    while let Some(option) = words.next() {
        match option.text {
            "delay" => {
                // The time and its jitter; what follows is a percentage.
                for _ in 0..2 {
                    let Some(time) = words.next_if_number() else { break };
                    if is_bare(time.text) {
                        let message = format!("`delay {0}` means {0} microseconds", time.text);
                        let help = format!("write the unit: `{0}ms`, or `{0}us` if it is meant", time.text);
                        found.push(warning("no-unit", place(time), message).help(help));
                    }
                }
            }
            "rate" => {
                let Some(rate) = words.next_if_number().filter(|it| is_bare(it.text)) else { continue };
                let message = format!("`rate {0}` means {0} bits per second", rate.text);
                let help = format!("write the unit: `{0}mbit`, or `{0}bit` if it is meant", rate.text);
                found.push(warning("no-unit", place(rate), message).help(help));
            }
            _ => {}
        }
    }
}

/// A number other than zero, without a unit.
fn is_bare(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(|it| it != 0.0)
}
