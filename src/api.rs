//! Requests to a running engine or lab, and its answers: the types, without the socket.
//!
//! A request is one line of JSON, an object with the key `request`; an answer is one line of JSON. Both sides use these
//! types. `docs/reference/status.md` describes them; `conlink schema status` prints the JSON Schema of a status.

mod frame;
mod status;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use frame::{Frames, TooLong, frame};
pub use status::{
    Awaited, BridgeStatus, EngineStatus, Health, LinkState, LinkStatus, LinkType, NodeState, NodeStatus,
    OverrideStatus, Problem, ProcessStatus, Served, Status, TunnelStatus, distinct,
};

/// A request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "lowercase")]
pub enum Request {
    /// Answered by a [`Status`].
    Status,
    /// Answered by a [`Status`] now, and by another one after each change.
    Watch,
    /// Answered by a [`Diff`], after reading the kernel's state.
    Diff,
    /// Answered by [`Accepted`], and by [`Overridden`] when it is done.
    Override(Override),
    /// Answered by [`Accepted`], and by a [`Status`] once everything has been tried. Labs only.
    Apply(Box<Apply>),
    /// Answered by [`Ending`]. Labs only.
    Down,
    /// Answered by [`Nodes`]. Labs only.
    Find {
        /// Names that [`service::find`](crate::service::find) knows; an empty list means all nodes.
        #[serde(default)]
        nodes: Vec<String>,
    },
    /// Answered by an [`Entrance`] with a pidfd. Labs only.
    Enter {
        /// A name that [`service::find`](crate::service::find) knows; None: the namespace of the bridges.
        #[serde(default)]
        node: Option<String>,
    },
}

/// Requests for engines and labs.
const OF_ALL: [&str; 4] = ["status", "watch", "diff", "override"];

/// Requests for labs only.
const OF_LABS: [&str; 4] = ["apply", "down", "find", "enter"];

/// Settings that override the configuration until the engine ends. A setting that is left out does not change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Override {
    /// The links: `NODE` for all links of a node, or `NODE:INTERFACE`. A node is a service (all of its replicas),
    /// `SERVICE-INDEX`, or a container name.
    pub links: Vec<String>,
    /// Remove all earlier overrides of these links first.
    #[serde(default)]
    pub clear: bool,
    /// `down` pulls the cable, `up` plugs it in again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<Carrier>,
    /// Impairment of packets that leave the container, in the syntax of tc-netem(8); empty: no impairment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netem: Option<String>,
    /// Impairment of packets that arrive at the container, in the syntax of tc-netem(8); empty: no impairment.
    #[serde(default, rename = "netem-in", skip_serializing_if = "Option::is_none")]
    pub netem_in: Option<String>,
    /// Remove the override after this many seconds; None: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Who sets it; shown in the status.
    #[serde(default)]
    pub author: String,
}

/// Whether the cable is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    Up,
    Down,
}

/// The answer to an [`Override`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overridden {
    pub links: Vec<OverriddenLink>,
}

/// A link that the request named, in its new state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverriddenLink {
    /// The container's name.
    pub node: String,
    pub link: LinkStatus,
}

/// The arguments of `lab up`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apply {
    /// The lab's name, if one was given.
    pub name: Option<String>,
    /// Absolute paths.
    pub compose_files: Vec<PathBuf>,
    /// Absolute paths.
    pub network_files: Vec<PathBuf>,
    /// Default bridge mode: `auto`, `ovs`, `linux` or `patch`.
    pub bridge_mode: String,
    /// Default MTU of links, in bytes.
    pub mtu: u32,
    pub keep_veth_offload: bool,
    /// The environment of the client.
    pub env: BTreeMap<String, String>,
    /// The working directory of the client.
    pub cwd: PathBuf,
    /// Number of replicas by service.
    pub scale: BTreeMap<String, u32>,
    pub profiles: Vec<String>,
    /// Each node has a root file system of its own.
    pub private_root: bool,
}

/// The request is valid, and the work has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    pub accepted: bool,
}

/// The lab is ending.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// Longest time that the nodes may take to end, in seconds.
    pub seconds: f64,
}

/// Nodes of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nodes {
    pub nodes: Vec<FoundNode>,
}

/// A node of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundNode {
    /// Its short name.
    pub name: String,
    /// Its container name.
    pub container: String,
    /// The file with its output.
    pub log: PathBuf,
    /// In the order of its links.
    pub addresses: Vec<std::net::IpAddr>,
}

/// The environment of a program in a node. The pidfd of a process in the node comes with the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entrance {
    /// The node's short name.
    pub name: String,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub folder: PathBuf,
    #[serde(default)]
    pub user: Option<EntranceUser>,
    /// The capabilities that programs may have there, a bit for each by its number.
    pub capabilities: u64,
    /// System calls that containers may not use are refused there.
    pub filtered: bool,
    /// The lab's user namespace, as the link `/proc/PID/ns/user` reads.
    pub user_namespace: String,
}

/// The user of a program in a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntranceUser {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// Differences between the kernel and the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    pub differences: Vec<Difference>,
    /// What could not be done or read.
    pub errors: Vec<Problem>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Difference {
    pub kind: DifferenceKind,
    /// What it is about, such as `link p-h-1:eth0`.
    pub subject: String,
    /// Drift: the difference, such as `down`. Pending: the step, in the syntax of ip(8).
    pub what: String,
}

/// Where a difference comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DifferenceKind {
    /// Another program changed it. conlink leaves it unless repair is on.
    Drift,
    /// The configuration asks for it, and conlink has not done it yet.
    Pending,
}

/// The error answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub error: String,
}

impl Request {
    /// Parses a line. Unknown keys are ignored.
    ///
    /// # Errors
    /// A message for the client.
    pub fn read(line: &[u8]) -> Result<Self, String> {
        /// A request of any name.
        #[derive(Deserialize)]
        struct Named {
            request: String,
        }
        let form = r#"a request is an object with its name, such as {"request":"status"}"#;
        let whole: serde_json::Value =
            serde_json::from_slice(line).map_err(|error| format!("the request is not JSON: {error}"))?;
        let Named { request: name } = Named::deserialize(&whole).map_err(|_| form.to_owned())?;
        if !OF_ALL.contains(&name.as_str()) && !OF_LABS.contains(&name.as_str()) {
            return Err(format!(
                "unknown request `{name}`; expected {}, or for labs {}",
                OF_ALL.map(|it| format!("`{it}`")).join(", "),
                OF_LABS.map(|it| format!("`{it}`")).join(", "),
            ));
        }
        serde_json::from_value(whole).map_err(|error| format!("request `{name}`: {error}"))
    }
}

impl Diff {
    /// Adds the errors that are not in the list yet.
    pub fn add_errors(&mut self, errors: impl IntoIterator<Item = Problem>) {
        self.errors = distinct(std::mem::take(&mut self.errors).into_iter().chain(errors));
    }
}

/// Parses an answer.
///
/// # Errors
/// The request was refused, or the line is not the expected answer.
pub fn read_answer<T: DeserializeOwned>(line: &[u8]) -> Result<T, BadAnswer> {
    if let Ok(Refusal { error }) = serde_json::from_slice(line) {
        return Err(BadAnswer::Refused(error));
    }
    serde_json::from_slice(line).map_err(|error| match error.is_data() {
        true => BadAnswer::Unread(error),
        false => BadAnswer::NotJson(error),
    })
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum BadAnswer {
    #[error("{0}")]
    Refused(String),
    #[error("unexpected answer, perhaps from another version of conlink: {0}")]
    Unread(serde_json::Error),
    #[error("the answer is not JSON: {0}")]
    NotJson(serde_json::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer<T: DeserializeOwned + std::fmt::Debug>(line: &str) -> String {
        read_answer::<T>(line.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn an_unexpected_answer_is_an_error_that_says_so() {
        assert_eq!(answer::<Ending>(r#"{"error":"it is ending"}"#), "it is ending");
        let unread = "unexpected answer, perhaps from another version of conlink: ";
        for (line, why) in [
            ("{}", "missing field `seconds` at line 1 column 2"),
            ("[]", "invalid length 0, expected struct Ending with 1 element at line 1 column 2"),
            (r#"{"seconds":"1"}"#, "invalid type: string \"1\", expected f64 at line 1 column 14"),
        ] {
            assert_eq!(answer::<Ending>(line), format!("{unread}{why}"), "{line}");
        }
        let not_json = "the answer is not JSON: expected ident at line 1 column 2";
        assert_eq!(answer::<Ending>("not JSON"), not_json);
    }

    #[test]
    fn a_request_is_read_as_it_is_written() {
        let apply = Apply {
            name: None,
            compose_files: vec!["/a".into()],
            network_files: Vec::new(),
            bridge_mode: "auto".to_owned(),
            mtu: 1500,
            keep_veth_offload: true,
            env: BTreeMap::from([("A".to_owned(), "b\nc".to_owned())]),
            cwd: "/".into(),
            scale: BTreeMap::from([("s".to_owned(), 2)]),
            profiles: vec!["p".to_owned()],
            private_root: false,
        };
        for request in [
            Request::Status,
            Request::Watch,
            Request::Diff,
            Request::Apply(Box::new(apply)),
            Request::Down,
            Request::Find { nodes: vec!["h1".to_owned()] },
            Request::Enter { node: None },
            Request::Enter { node: Some("h1".to_owned()) },
        ] {
            let mut line = frame(&request);
            assert_eq!(line.pop(), Some(b'\n'));
            assert_eq!(Request::read(&line), Ok(request));
        }
    }
}
