//! The conditions. A new one is a row here and the function that the row names.

use std::ffi::OsStr;

use crate::tools::wait::check::{Check, Parsed};
use crate::tools::wait::{attempts, files, network};

/// A kind of condition.
pub(super) struct Kind {
    /// `condition` in JSON.
    pub(super) name: &'static str,
    /// The long option first.
    pub(super) options: &'static str,
    /// The grammar of the value.
    pub(super) value: &'static str,
    /// Parses the value, and says how the condition is checked.
    read: Read,
    /// Empty in the second row of an option.
    pub(super) help: &'static str,
    /// What is waited for; the value follows.
    awaited: &'static str,
    /// What has happened. `{}` stands for a part of the value; what is in brackets needs a second part.
    holds: &'static str,
}

/// Who reads a value.
enum Read {
    Text(fn(&str) -> Parsed),
    /// Any bytes.
    Bytes(fn(&OsStr) -> Parsed),
    /// Any bytes with a slash among them. Without a slash the next row of that name counts.
    Path(fn(&OsStr) -> Parsed),
}

use Read::{Bytes, Path, Text};

// Three lines for each, which rustfmt would make nine.
#[rustfmt::skip]
pub(super) static KINDS: [Kind; 20] = [
    Kind { name: "file", options: "--file -f", value: "PATH", read: Bytes(files::exists),
        help: "The file exists (symbolic links are followed)",
        awaited: "file", holds: "File '{}' exists" },
    Kind { name: "file-nonempty", options: "--file-nonempty", value: "PATH", read: Bytes(files::nonempty),
        help: "The file exists and is not empty",
        awaited: "file with content", holds: "File '{}' has content" },
    Kind { name: "interface", options: "--intf --if -i", value: "IF", read: Text(network::exists),
        help: "The interface exists; `*` and `?` match as in a shell",
        awaited: "interface", holds: "Interface '{}' exists" },
    Kind { name: "ip", options: "--ip -I", value: "IF", read: Text(|text| network::ip(text, |_| true)),
        help: "The interface is up, with an address and a route of the same family",
        awaited: "IP/routing on interface", holds: "Interface '{}' has IP/routing" },
    Kind { name: "ip4", options: "--ip4", value: "IF", read: Text(|text| network::ip(text, |it| it.is_ipv4())),
        help: "Same as --ip, for IPv4 only",
        awaited: "IPv4/routing on interface", holds: "Interface '{}' has IPv4/routing" },
    Kind { name: "ip6", options: "--ip6", value: "IF", read: Text(|text| network::ip(text, |it| it.is_ipv6())),
        help: "Same as --ip, for IPv6 only",
        awaited: "IPv6/routing on interface", holds: "Interface '{}' has IPv6/routing" },
    Kind { name: "up", options: "--up", value: "IF", read: Text(network::up),
        help: "The interface is up and has a carrier",
        awaited: "interface to be up", holds: "Interface '{}' is up" },
    Kind { name: "dad", options: "--dad", value: "IF", read: Text(network::dad),
        help: "Duplicate address detection is finished on the interface",
        awaited: "duplicate address detection on interface", holds: "Interface '{}' has no tentative address" },
    Kind { name: "mac", options: "--mac", value: "IF=MAC", read: Text(network::mac),
        help: "The interface has this hardware address",
        awaited: "MAC of interface", holds: "Interface '{}' has MAC {}" },
    Kind { name: "mtu", options: "--mtu", value: "IF=MTU", read: Text(network::mtu),
        help: "The interface has this MTU",
        awaited: "MTU of interface", holds: "Interface '{}' has MTU {}" },
    Kind { name: "if-count", options: "--if-count", value: "N[:PATTERN]", read: Text(network::count),
        help: "At least N interfaces match the pattern; without a pattern, all but loopback count",
        awaited: "interfaces", holds: "There are {} interfaces[ of {}]" },
    Kind { name: "addr", options: "--addr", value: "IP|CIDR", read: Text(network::addr),
        help: "An interface has this address, or an address in this network",
        awaited: "address", holds: "Address '{}' is there" },
    Kind { name: "route", options: "--route", value: "default|CIDR|IP[@IF]", read: Text(network::route),
        help: "A route leads to exactly this network, or to this address (through the interface)",
        awaited: "route", holds: "Route '{}' is there" },
    Kind { name: "gone", options: "--gone", value: "PATH|IF", read: Path(files::gone),
        help: "The path (if it contains a slash) or interface no longer exists",
        awaited: "file to go", holds: "File '{}' is gone" },
    Kind { name: "gone", options: "--gone", value: "PATH|IF", read: Text(network::gone),
        help: "",
        awaited: "interface to go", holds: "Interface '{}' is gone" },
    Kind { name: "tcp", options: "--tcp -t", value: "HOST:PORT", read: Text(attempts::tcp),
        help: "The port accepts a TCP connection; IPv6 as `[ADDR]:PORT`",
        awaited: "TCP connection", holds: "TCP connection established at {}" },
    Kind { name: "unix", options: "--unix --socket", value: "PATH", read: Bytes(attempts::unix),
        help: "The unix socket accepts a connection",
        awaited: "socket", holds: "Socket '{}' accepts" },
    Kind { name: "http", options: "--http", value: "URL[=STATUS]", read: Text(attempts::http),
        help: "A GET request is answered with a status from 200 to 299, or with STATUS",
        awaited: "HTTP answer", holds: "HTTP answer received from {}" },
    Kind { name: "dns", options: "--dns", value: "NAME[=IP]", read: Text(attempts::dns),
        help: "The name resolves (to the address)",
        awaited: "name to resolve", holds: "Name '{}' resolves[ to {}]" },
    Kind { name: "command", options: "--command --cmd -c", value: "STRING", read: Bytes(attempts::command),
        help: "`sh -c STRING` succeeds",
        awaited: "command", holds: "Command '{}' executed successfully" },
];

/// One condition.
pub(super) struct Condition {
    pub(super) kind: &'static Kind,
    parts: Vec<String>,
    pub(super) check: Check,
}

impl Condition {
    /// The condition of a kind with this value, or what is wrong with the value.
    pub(super) fn parse(name: &str, value: &OsStr) -> Result<Self, String> {
        let has_slash = value.as_encoded_bytes().contains(&b'/');
        let mut rows = KINDS.iter().filter(|it| it.name == name);
        let kind = rows.find(|it| has_slash || !matches!(it.read, Path(_))).ok_or("unknown condition")?;
        let parsed = match kind.read {
            _ if value.is_empty() => Err("the value is empty".to_owned()),
            Bytes(read) | Path(read) => read(value),
            Text(read) => value.to_str().ok_or("the value is not UTF-8".to_owned()).and_then(read),
        };
        let option = kind.options.split(' ').next().unwrap_or_default();
        let (parts, check) = parsed.map_err(|it| format!("{option}: `{}`: {it}", value.display()))?;
        Ok(Self { kind, parts, check })
    }

    /// The option's value.
    pub(super) fn target(&self) -> String {
        self.parts.join(if self.kind.value.contains('=') { "=" } else { ":" })
    }

    /// What is waited for, such as `file: /x`.
    pub(super) fn awaited(&self) -> String {
        format!("{}: {}", self.kind.awaited, self.target())
    }

    /// What has happened, such as `File '/x' exists`.
    pub(super) fn holds(&self) -> String {
        let (first, second) = self.kind.holds.split_once('[').unwrap_or((self.kind.holds, ""));
        let second = if self.parts.len() > 1 { second.trim_end_matches(']') } else { "" };
        let parts = self.parts.iter().map(String::as_str).chain([""]);
        let text = format!("{first}{second}");
        text.split("{}").zip(parts).flat_map(|(text, part)| [text, part]).collect()
    }
}
