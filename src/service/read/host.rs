//! Host names, `extra_hosts` and `sysctls`.

use std::net::IpAddr;

use crate::config::{Node, Value};
use crate::service::value::Reader;

/// The longest host name of `sethostname` (`__NEW_UTS_LEN`), in bytes.
const MAX_NAME: usize = 64;

impl Reader<'_> {
    /// `hostname` and `domainname`.
    pub(super) fn host_name(&mut self, node: &Node) -> Option<String> {
        let name = self.some_text(node)?;
        if name.len() > MAX_NAME || !is_host_name(&name) {
            let help = format!("expected at most {MAX_NAME} letters, digits, `.`, `_` and `-`");
            self.bad(node, format!("invalid host name `{name}`"), help);
            return None;
        }
        Some(name)
    }

    /// `NAME=ADDRESS`, `NAME:ADDRESS`, or names with one or several addresses as a map.
    pub(super) fn extra_hosts(&mut self, node: &Node) -> Vec<(String, IpAddr)> {
        let mut given: Vec<(String, String, &Node)> = Vec::new();
        if let Value::Map(entries) = &node.value {
            for (name, node) in entries {
                let addresses = match &node.value {
                    Value::List(_) => self.texts(node),
                    _ => self.text(node).map(|it| (it, node)).into_iter().collect(),
                };
                given.extend(addresses.into_iter().map(|(it, node)| (name.text.clone(), it, node)));
            }
        } else {
            for (text, node) in self.texts(node) {
                match text.split_once('=').or_else(|| text.split_once(':')) {
                    Some((name, address)) => given.push((name.to_owned(), address.to_owned(), node)),
                    None => self.bad(node, format!("`{text}` has no address"), "expected `NAME=ADDRESS`"),
                }
            }
        }
        let mut hosts = Vec::new();
        for (name, address, node) in given {
            let (name, address) = (name.trim(), address.trim());
            if !is_host_name(name) {
                self.bad(node, format!("invalid host name `{name}`"), "expected `NAME=ADDRESS`");
                continue;
            }
            if address == "host-gateway" {
                let text = format!("`{name}` has no address: a lab has no `host-gateway`");
                self.note(node.span, &text);
                continue;
            }
            let bare = address.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(address);
            match bare.parse() {
                Ok(address) => hosts.push((name.to_owned(), address)),
                Err(_) => {
                    self.bad(node, format!("`{address}` is not an IP address"), "expected `NAME=ADDRESS`")
                }
            }
        }
        hosts
    }

    pub(super) fn sysctls(&mut self, node: &Node) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for (name, value, node) in self.pairs(node) {
            let Some(value) = value else {
                self.error(node.span, format!("`{name}` has no value"), "expected `NAME=VALUE`");
                continue;
            };
            // A slash stands for a dot in a file name (sysctl(8)).
            let parts = || name.split('.');
            if parts().any(|it| it.is_empty() || it.replace('/', ".").chars().all(|it| it == '.')) {
                self.error(
                    node.span,
                    format!("invalid sysctl name `{name}`"),
                    "expected a name such as `net.ipv4.ip_forward`",
                );
            } else if parts().next() == Some("net") && parts().count() > 1 {
                all.push((name, value));
            } else {
                self.note(
                    node.span,
                    &format!("`{name}` is not set: only sysctls of `net.` belong to a node"),
                );
            }
        }
        all
    }
}

/// Whether it is valid in a line of `/etc/hosts`.
fn is_host_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|it| it.is_ascii_alphanumeric() || "._-".contains(it))
}
