//! What an engine or a lab is asked by its unix socket, and what it answers: the words, without the socket.
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
    BridgeStatus, EngineStatus, Health, LinkState, LinkStatus, LinkType, NodeState, NodeStatus,
    OverrideStatus, Problem, ProcessStatus, Served, Status, TunnelStatus,
};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "lowercase")]
pub enum Request {
    /// Answered by a [`Status`].
    Status,
    /// Answered by a [`Status`] now, and by another after each change.
    Watch,
    /// Answered by a [`Diff`], after a look at the kernel.
    Diff,
    /// Answered by [`Overridden`], once it is done.
    Override(Override),
    /// Answered by [`Accepted`], and by a [`Status`] once everything has been tried. A lab's alone.
    Apply(Box<Apply>),
    /// Answered by [`Ending`]. A lab's alone.
    Down,
    /// Answered by [`Nodes`]. A lab's alone.
    Find {
        /// What people call them; none: all.
        #[serde(default)]
        nodes: Vec<String>,
    },
    /// Answered by an [`Entrance`] with a pidfd. A lab's alone.
    Enter {
        /// What people call it; None: where the bridges are.
        #[serde(default)]
        node: Option<String>,
    },
}

/// The requests that engines answer, and labs as well.
const OF_ALL: [&str; 4] = ["status", "watch", "diff", "override"];

/// The requests that labs alone answer.
const OF_LABS: [&str; 4] = ["apply", "down", "find", "enter"];

/// What is to be set over the configuration, for as long as the engine runs. What is left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Override {
    /// Which links: `NODE` for all of its links, or `NODE:INTERFACE`. A node is a service (all of its replicas),
    /// `SERVICE-INDEX`, or a container's name.
    pub links: Vec<String>,
    /// Take back all that was set before, and then set the rest.
    #[serde(default)]
    pub clear: bool,
    /// `down` pulls the cable, `up` plugs it in again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<Carrier>,
    /// The impairment of what leaves the container, in the words of tc-netem(8); empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netem: Option<String>,
    /// The impairment of what arrives at the container, in the words of tc-netem(8); empty: none.
    #[serde(default, rename = "netem-in", skip_serializing_if = "Option::is_none")]
    pub netem_in: Option<String>,
    /// After how many seconds it is taken back; none: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Who asks, for those who look at the status.
    #[serde(default)]
    pub author: String,
}

/// Whether a cable is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    Up,
    Down,
}

/// What came of an [`Override`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overridden {
    pub links: Vec<OverriddenLink>,
}

/// A link that was meant, as it is by now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverriddenLink {
    /// The container's name.
    pub node: String,
    pub link: LinkStatus,
}

/// What a lab is to be: what `lab up` was called with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apply {
    /// The lab's name, where one is given.
    pub name: Option<String>,
    /// Absolute paths.
    pub compose_files: Vec<PathBuf>,
    /// Absolute paths.
    pub network_files: Vec<PathBuf>,
    /// The mode of bridges that name none: `auto`, `ovs`, `linux` or `patch`.
    pub bridge_mode: String,
    /// The MTU of links that name none, in bytes.
    pub mtu: u32,
    pub keep_veth_offload: bool,
    /// The environment of whoever asks.
    pub env: BTreeMap<String, String>,
    /// The working folder of whoever asks.
    pub cwd: PathBuf,
    /// The number of replicas, by service.
    pub scale: BTreeMap<String, u32>,
    pub profiles: Vec<String>,
    /// Each node has a root file system of its own.
    pub private_root: bool,
}

/// The files have no mistakes, and the lab is being made so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    pub accepted: bool,
}

/// The lab is ending.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// The longest that its nodes may take, in seconds.
    pub seconds: f64,
}

/// Nodes of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nodes {
    pub nodes: Vec<FoundNode>,
}

/// A node of a lab, and where to find what is its.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundNode {
    /// What it is called for short.
    pub name: String,
    /// Its name as a container's.
    pub container: String,
    /// The file that has what it prints.
    pub log: PathBuf,
    /// In the order of its links.
    pub addresses: Vec<std::net::IpAddr>,
}

/// What a program in a node is to have. The pidfd of a process in it comes with the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entrance {
    /// What the node is called for short.
    pub name: String,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub folder: PathBuf,
    #[serde(default)]
    pub user: Option<EntranceUser>,
    /// The lab's user namespace, as the link `/proc/PID/ns/user` reads.
    pub user_namespace: String,
}

/// Who a program in a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntranceUser {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// How the kernel differs from the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    pub differences: Vec<Difference>,
    /// What could not be done, or not be looked at.
    pub errors: Vec<Problem>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    pub kind: DifferenceKind,
    /// What it is about, such as `link p-h-1:eth0`.
    pub subject: String,
    /// Of drift, what is otherwise: `down`. Of what is pending, the step to be done in the words of ip(8).
    pub what: String,
}

/// Whose doing a difference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DifferenceKind {
    /// Somebody else changed what was as described. It stays so, unless it is to be repaired.
    Drift,
    /// The configuration asks for it, and it has not been done yet.
    Pending,
}

/// Why a request has no other answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub error: String,
}

impl Request {
    /// Reads a line. Keys that a request does not know are ignored.
    ///
    /// # Errors
    /// What is wrong with it, for whoever asked.
    pub fn read(line: &[u8]) -> Result<Self, String> {
        /// A request of any name.
        #[derive(Deserialize)]
        struct Named {
            request: String,
        }
        let form = r#"a request is an object with its name, like {"request":"status"}"#;
        let whole: serde_json::Value =
            serde_json::from_slice(line).map_err(|error| format!("the request is not JSON: {error}"))?;
        let Named { request: name } = Named::deserialize(&whole).map_err(|_| form.to_owned())?;
        if !OF_ALL.contains(&name.as_str()) && !OF_LABS.contains(&name.as_str()) {
            return Err(format!(
                "there is no request `{name}`: there are {}, and for labs {}",
                OF_ALL.map(|it| format!("`{it}`")).join(", "),
                OF_LABS.map(|it| format!("`{it}`")).join(", "),
            ));
        }
        serde_json::from_value(whole).map_err(|error| format!("request `{name}`: {error}"))
    }
}

impl Diff {
    /// Adds errors, but for those that are known.
    pub fn add_errors(&mut self, errors: impl IntoIterator<Item = Problem>) {
        for it in errors {
            if !self.errors.contains(&it) {
                self.errors.push(it);
            }
        }
    }
}

/// Reads an answer.
///
/// # Errors
/// The request was refused; the line is not the answer that is expected.
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
    #[error("the answer is not understood; is the other side of another version? {0}")]
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
    fn an_answer_that_is_not_understood_says_so() {
        assert_eq!(answer::<Ending>(r#"{"error":"it is ending"}"#), "it is ending");
        let unread = "the answer is not understood; is the other side of another version? ";
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
