//! `logging`.

use crate::config::Node;
use crate::service::LogLimit;
use crate::service::read::mount::bytes;
use crate::service::value::Reader;

impl Reader<'_> {
    /// The options `max-size` and `max-file` of a log driver.
    pub(super) fn log_limit(&mut self, service: &Node) -> LogLimit {
        let mut limit = LogLimit::default();
        let options = service.get("logging").and_then(|it| it.get("options"));
        let option = |key| options.and_then(|it| it.get(key));
        if let Some(node) = option("max-size")
            && let Some(text) = self.some_text(node)
        {
            match bytes(&text).filter(|it| *it > 0) {
                Some(size) => limit.size = size,
                None => self.bad(
                    node,
                    format!("invalid size `{text}`"),
                    "expected a number of bytes above 0, or a number with `k`, `m` or `g`",
                ),
            }
        }
        if let Some(node) = option("max-file")
            && let Some(files) = self.number(node)
        {
            match files {
                0 => self.bad(node, "`max-file` is 0".to_owned(), "expected at least 1"),
                _ => limit.files = files,
            }
        }
        limit
    }
}
