//! The conditions, and their names in messages.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::addr::{Cidr, IfName, Mac};
use crate::tools::wait::host::Host;
use crate::tools::wait::http::Url;

/// One condition.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// On the network of the namespace.
    Net(Net),
    /// On the file system.
    File(PathBuf, FileWant),
    /// A connection is accepted.
    Tcp(Host),
    /// A connection is accepted by a socket in the file system.
    Unix(PathBuf),
    Http(Url),
    /// A name resolves, to this address if one is given.
    Dns(String, Option<IpAddr>),
    /// `sh -c` succeeds.
    Command(OsString),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileWant {
    Exists,
    Gone,
    /// A regular file with at least one byte, or a directory with at least one entry.
    NonEmpty,
}

#[derive(Clone, Debug)]
pub(super) enum Net {
    Exists(IfPattern),
    Gone(IfName),
    /// At least this many interfaces match the pattern; without a pattern, all but loopback count.
    Count(usize, Option<IfPattern>),
    /// Up, with an address and a route of the same family.
    Ip(IfName, Families),
    /// Up, with a carrier.
    Up(IfName),
    Mac(IfName, Mac),
    Mtu(IfName, u32),
    /// Duplicate address detection has finished.
    DadDone(IfName),
    Addr(AddrWant),
    Route(RouteWant, Option<IfName>),
}

/// The accepted address families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Families {
    Either,
    V4,
    V6,
}

impl Families {
    pub(super) fn has(self, addr: IpAddr) -> bool {
        match self {
            Self::Either => true,
            Self::V4 => addr.is_ipv4(),
            Self::V6 => addr.is_ipv6(),
        }
    }
}

/// An interface name that may contain `*` and `?`.
#[derive(Clone, Debug)]
pub(super) struct IfPattern {
    /// The name, if it has no wildcards.
    pub(super) exact: Option<IfName>,
    pub(super) text: String,
}

impl IfPattern {
    pub(super) fn matches(&self, name: &str) -> bool {
        matches(self.text.as_bytes(), name.as_bytes())
    }
}

/// `*` matches any bytes, `?` matches one. Recursion is fast enough because names have 15 bytes.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), more) => {
            matches(rest, name) || more.is_some_and(|(_, shorter)| matches(pattern, shorter))
        }
        (Some((b'?', rest)), Some((_, shorter))) => matches(rest, shorter),
        (Some((byte, rest)), Some((same, shorter))) if byte == same => matches(rest, shorter),
        _ => false,
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum AddrWant {
    /// This address, with any prefix length.
    Addr(IpAddr),
    /// This address with this prefix length.
    Exact(Cidr),
    /// Any address of this network.
    In(Cidr),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum RouteWant {
    Default,
    /// A route to exactly this network.
    Net(Cidr),
    /// Any route to this address.
    To(IpAddr),
}

/// The names of a condition in messages.
#[derive(Clone, Debug)]
pub(super) struct Words {
    /// `kind` in JSON: the option's name.
    pub(super) kind: &'static str,
    /// The option's value.
    pub(super) target: String,
    /// What is waited for, such as `file: /x`.
    pub(super) awaited: String,
    /// What has happened, such as `File '/x' exists`.
    pub(super) holds: String,
}

impl Condition {
    pub(super) fn words(&self) -> Words {
        let words = |kind, target: String, awaited: &str, holds: String| Words {
            kind,
            awaited: format!("{awaited}: {target}"),
            target,
            holds,
        };
        match self {
            Self::File(path, want) => {
                let path = path.display().to_string();
                match want {
                    FileWant::Exists => words("file", path.clone(), "file", format!("File '{path}' exists")),
                    FileWant::Gone => {
                        words("gone", path.clone(), "file to go", format!("File '{path}' is gone"))
                    }
                    FileWant::NonEmpty => words(
                        "file-nonempty",
                        path.clone(),
                        "file with content",
                        format!("File '{path}' has content"),
                    ),
                }
            }
            Self::Tcp(host) => words(
                "tcp",
                host.text.clone(),
                "TCP connection",
                format!("TCP connection established at {}", host.text),
            ),
            Self::Unix(path) => {
                let path = path.display().to_string();
                words("unix", path.clone(), "socket", format!("Socket '{path}' accepts"))
            }
            Self::Http(url) => {
                let text = url.text.clone();
                words("http", text.clone(), "HTTP answer", format!("HTTP answer received from {text}"))
            }
            Self::Dns(name, None) => {
                words("dns", name.clone(), "name to resolve", format!("Name '{name}' resolves"))
            }
            Self::Dns(name, Some(addr)) => words(
                "dns",
                format!("{name}={addr}"),
                "name to resolve",
                format!("Name '{name}' resolves to {addr}"),
            ),
            Self::Command(text) => {
                let text = text.display().to_string();
                words("command", text.clone(), "command", format!("Command '{text}' executed successfully"))
            }
            Self::Net(net) => net.words(),
        }
    }
}

impl Net {
    fn words(&self) -> Words {
        let words = |kind, target: String, awaited: &str, holds: String| Words {
            kind,
            awaited: format!("{awaited}: {target}"),
            target,
            holds,
        };
        match self {
            Self::Exists(it) => {
                words("interface", it.text.clone(), "interface", format!("Interface '{}' exists", it.text))
            }
            Self::Gone(it) => {
                words("gone", it.to_string(), "interface to go", format!("Interface '{it}' is gone"))
            }
            Self::Count(count, pattern) => {
                let of = pattern.as_ref().map(|it| format!(" of {}", it.text)).unwrap_or_default();
                let target = pattern.as_ref().map_or(count.to_string(), |it| format!("{count}:{}", it.text));
                words("if-count", target, "interfaces", format!("There are {count} interfaces{of}"))
            }
            Self::Ip(it, families) => {
                let (kind, what) = match families {
                    Families::Either => ("ip", "IP/routing"),
                    Families::V4 => ("ip4", "IPv4/routing"),
                    Families::V6 => ("ip6", "IPv6/routing"),
                };
                words(
                    kind,
                    it.to_string(),
                    &format!("{what} on interface"),
                    format!("Interface '{it}' has {what}"),
                )
            }
            Self::Up(it) => {
                words("up", it.to_string(), "interface to be up", format!("Interface '{it}' is up"))
            }
            Self::Mac(it, mac) => words(
                "mac",
                format!("{it}={mac}"),
                "MAC of interface",
                format!("Interface '{it}' has MAC {mac}"),
            ),
            Self::Mtu(it, mtu) => words(
                "mtu",
                format!("{it}={mtu}"),
                "MTU of interface",
                format!("Interface '{it}' has MTU {mtu}"),
            ),
            Self::DadDone(it) => words(
                "dad",
                it.to_string(),
                "duplicate address detection on interface",
                format!("Interface '{it}' has no tentative address"),
            ),
            Self::Addr(want) => {
                let text = match want {
                    AddrWant::Addr(it) => it.to_string(),
                    AddrWant::Exact(it) | AddrWant::In(it) => it.to_string(),
                };
                words("addr", text.clone(), "address", format!("Address '{text}' is there"))
            }
            Self::Route(want, by) => {
                let mut text = match want {
                    RouteWant::Default => "default".to_owned(),
                    RouteWant::Net(it) => it.to_string(),
                    RouteWant::To(it) => it.to_string(),
                };
                text.extend(by.iter().map(|it| format!("@{it}")));
                words("route", text.clone(), "route", format!("Route '{text}' is there"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_of_interface_names() {
        for (pattern, name, expected) in [
            ("eth*", "eth0", true),
            ("eth*", "eth", true),
            ("eth?", "eth", false),
            ("eth?", "eth1", true),
            ("*-in", "web-in", true),
            ("*-in", "web-in2", false),
            ("*a*a*b", "aaaaaaaaaaaaaaa", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
