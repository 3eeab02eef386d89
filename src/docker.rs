//! The engine API of Docker and Podman, as far as we need it: which containers run, what changes, run a command.

use std::collections::HashMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bollard::container::LogOutput;
use bollard::errors::Error as ApiError;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::EventMessage;
use bollard::query_parameters::{EventsOptionsBuilder, ListContainersOptionsBuilder};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{Stream, StreamExt};

use crate::container::{Container, ContainerId};

/// Seconds that an engine may take to answer. Events have no such limit: a quiet engine is no dead one.
const TIMEOUT: u64 = 60;

/// Seconds that an engine may be quiet: for ever, nearly.
const QUIET: u64 = 100 * 365 * 24 * 3600;

const PROJECT: &str = "com.docker.compose.project";
const WORKING_DIR: &str = "com.docker.compose.project.working_dir";
const SERVICE: &str = "com.docker.compose.service";
const NUMBER: &str = "com.docker.compose.container-number";

/// An engine that answers.
#[derive(Debug)]
pub struct Engine {
    api: Docker,
    events: Docker,
}

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub container: Container,
    /// Its first process, in the numbers of the engine's process namespace.
    pub pid: u32,
    /// When it was started, as the engine writes it.
    pub started_at: Option<String>,
    /// Its network namespace may be the host's own: `network_mode: host`, or another container's.
    pub may_be_on_host: bool,
}

/// What an engine tells of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerEvent {
    /// It started or was continued.
    Started(ContainerId),
    /// It died or was paused.
    Died(ContainerId),
    /// Something changed, and the event has no shape that we know: list again.
    Unknown,
}

/// Why an engine cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("there is no socket {0}")]
    NoSocket(String),
    #[error("{socket} does not answer")]
    NoAnswer {
        socket: String,
        #[source]
        source: ApiError,
    },
}

impl Engine {
    /// Connects to the socket and sees whether an engine answers. Requests name no version of the API, so that each
    /// engine answers in the one it knows best.
    pub async fn connect(socket: &Path) -> Result<Self, ConnectError> {
        let name = socket.display().to_string();
        if !socket.exists() {
            return Err(ConnectError::NoSocket(name));
        }
        let no_answer = |source| ConnectError::NoAnswer { socket: name.clone(), source };
        let api = Docker::connect_with_unix(&name, TIMEOUT, API_DEFAULT_VERSION).map_err(no_answer)?;
        api.ping().await.map_err(no_answer)?;
        let events = Docker::connect_with_unix(&name, QUIET, API_DEFAULT_VERSION).map_err(no_answer)?;
        Ok(Self { api, events })
    }

    /// Every running container, those that are paused included.
    pub async fn list(&self) -> Result<Vec<Container>, ApiError> {
        let running = HashMap::from([("status", vec!["running", "paused"])]);
        let options = ListContainersOptionsBuilder::new().filters(&running).build();
        let all = self.api.list_containers(Some(options)).await?;
        let containers = all.into_iter().filter_map(|it| {
            let name = it.names.unwrap_or_default().into_iter().next().unwrap_or_default();
            Some(container(it.id?, &name, it.labels.unwrap_or_default()))
        });
        Ok(containers.collect())
    }

    /// A container as it runs now; None when it does not.
    pub async fn inspect_container(&self, id: &ContainerId) -> Result<Option<Running>, ApiError> {
        let answer = match self.api.inspect_container(id.as_str(), None).await {
            Err(ApiError::DockerResponseServerError { status_code: 404, .. }) => return Ok(None),
            answer => answer?,
        };
        let state = answer.state.unwrap_or_default();
        let pid = state.pid.and_then(|it| u32::try_from(it).ok()).filter(|it| *it > 0);
        let labels = answer.config.and_then(|it| it.labels).unwrap_or_default();
        let name = answer.name.unwrap_or_default();
        let mode = answer.host_config.and_then(|it| it.network_mode);
        Ok(pid.map(|pid| Running {
            container: container(id.as_str().to_owned(), &name, labels),
            pid,
            started_at: state.started_at.map(|it| it.to_string()),
            // That of another container may be the host's.
            may_be_on_host: mode.is_some_and(|it| it == "host" || it.starts_with("container:")),
        }))
    }

    /// What starts and dies from now on. Nothing is missed between this call and the first poll of the stream: the
    /// engine is asked for everything since now.
    pub fn events(&self) -> impl Stream<Item = Result<ContainerEvent, ApiError>> + use<> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
        // Podman of version 4 calls the death of a container `died`.
        let filters = HashMap::from([
            ("type", vec!["container"]),
            ("event", vec!["start", "die", "died", "pause", "unpause"]),
        ]);
        let options = EventsOptionsBuilder::new().since(&since).filters(&filters).build();
        self.events.events(Some(options)).map(|it| it.map(|it| event(&it)))
    }

    /// Runs a command in a container and hands over each line that it writes; answers its exit code.
    pub async fn exec(
        &self,
        id: &ContainerId,
        argv: &[String],
        mut on_line: impl FnMut(&str),
    ) -> anyhow::Result<i64> {
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(argv.to_vec()),
            ..CreateExecOptions::default()
        };
        let exec = self.api.create_exec(id.as_str(), options).await?.id;
        if let StartExecResults::Attached { mut output, .. } = self.api.start_exec(&exec, None).await? {
            let (mut out, mut err) = (Lines::default(), Lines::default());
            while let Some(chunk) = output.next().await {
                match chunk? {
                    LogOutput::StdErr { message } => err.push(&message, &mut on_line),
                    it => out.push(&it.into_bytes(), &mut on_line),
                }
            }
            out.end(&mut on_line);
            err.end(&mut on_line);
        }
        self.api.inspect_exec(&exec).await?.exit_code.context("the engine does not tell how it ended")
    }
}

fn container(id: String, name: &str, mut labels: HashMap<String, String>) -> Container {
    Container {
        id: ContainerId::new(id),
        name: name.strip_prefix('/').unwrap_or(name).to_owned(),
        index: labels.get(NUMBER).and_then(|it| it.parse().ok()).filter(|it| *it > 0).unwrap_or(1),
        project: labels.remove(PROJECT),
        working_dir: labels.remove(WORKING_DIR),
        service: labels.remove(SERVICE),
    }
}

fn event(message: &EventMessage) -> ContainerEvent {
    let id = message.actor.as_ref().and_then(|it| it.id.clone()).map(ContainerId::new);
    match (message.action.as_deref(), id) {
        (Some("start" | "unpause"), Some(id)) => ContainerEvent::Started(id),
        (Some("die" | "died" | "pause"), Some(id)) => ContainerEvent::Died(id),
        // An engine before API 1.22 has `status` and `id` instead, which the client library does not read.
        _ => ContainerEvent::Unknown,
    }
}

/// Bytes of a line that are handed over at once: a longer one comes in pieces.
const LONGEST_LINE: usize = 64 * 1024;

/// Output in chunks, cut anywhere, to lines.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn push(&mut self, mut chunk: &[u8], on_line: &mut impl FnMut(&str)) {
        while !chunk.is_empty() {
            let room = LONGEST_LINE - self.rest.len();
            let end = memchr::memchr(b'\n', chunk.get(..room).unwrap_or(chunk));
            let take = end.map_or(room.min(chunk.len()), |it| it + 1);
            let (line, rest) = chunk.split_at(take);
            self.rest.extend_from_slice(line);
            chunk = rest;
            if end.is_some() || self.rest.len() >= LONGEST_LINE {
                self.hand_over(on_line);
            }
        }
    }

    fn hand_over(&mut self, on_line: &mut impl FnMut(&str)) {
        on_line(String::from_utf8_lossy(&self.rest).trim_end_matches(['\n', '\r']));
        self.rest.clear();
    }

    fn end(mut self, on_line: &mut impl FnMut(&str)) {
        if !self.rest.is_empty() {
            self.hand_over(on_line);
        }
    }
}

/// The id of the container that we run in, from `/proc/self/mountinfo`; None on the host itself.
///
/// Engines mount three files of the container's folder over those of its image. On the host that folder may be seen
/// as well, in other containers' mounts, but not at these places.
pub fn own_container_id(mountinfo: &str) -> Option<ContainerId> {
    let of_line = |line: &str| {
        let mut fields = line.split(' ').skip(3);
        let (root, mount_point) = (fields.next()?, fields.next()?);
        if !["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"].contains(&mount_point) {
            return None;
        }
        let is_id = |it: &&str| it.len() == 64 && it.bytes().all(|it| it.is_ascii_hexdigit());
        root.split('/').find(is_id).map(ContainerId::new)
    };
    mountinfo.lines().find_map(of_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_id_is_found_in_a_container_and_not_on_the_host() {
        let id = "9f2a".repeat(16);
        let docker = format!(
            "633 512 0:77 / / rw - overlay overlay rw\n\
             650 633 254:1 /var/lib/docker/containers/{id}/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda rw\n"
        );
        assert_eq!(own_container_id(&docker), Some(ContainerId::new(id.clone())));
        let podman = format!(
            "650 633 0:23 /containers/storage/overlay-containers/{id}/userdata/hostname /etc/hostname rw - tmpfs t rw\n"
        );
        assert_eq!(own_container_id(&podman), Some(ContainerId::new(id.clone())));
        let host = format!(
            "22 1 254:1 / / rw - ext4 /dev/vda rw\n\
             90 22 0:50 / /var/lib/docker/overlay2/{id}/merged rw - overlay overlay rw\n\
             91 22 254:1 /var/lib/docker/containers/{id}/hostname /mnt/peek rw - ext4 /dev/vda rw\n"
        );
        assert_eq!(own_container_id(&host), None);
        assert_eq!(own_container_id("junk\n\n1 2"), None);
    }

    #[test]
    fn events_of_each_shape() {
        let read = |json: &str| event(&serde_json::from_str(json).unwrap());
        let new = r#"{"Type":"container","Action":"start","Actor":{"ID":"ab","Attributes":{"x":"y"}},"scope":"local","time":1}"#;
        assert_eq!(read(new), ContainerEvent::Started(ContainerId::new("ab")));
        let both = r#"{"status":"die","id":"ab","from":"x","Type":"container","Action":"die","Actor":{"ID":"ab"},"timeNano":1}"#;
        assert_eq!(read(both), ContainerEvent::Died(ContainerId::new("ab")));
        let paused = r#"{"Type":"container","Action":"pause","Actor":{"ID":"ab"}}"#;
        assert_eq!(read(paused), ContainerEvent::Died(ContainerId::new("ab")));
        let continued = r#"{"Type":"container","Action":"unpause","Actor":{"ID":"ab"}}"#;
        assert_eq!(read(continued), ContainerEvent::Started(ContainerId::new("ab")));
        assert_eq!(read(r#"{"status":"start","id":"ab","from":"x","time":1}"#), ContainerEvent::Unknown);
    }

    #[test]
    fn a_line_that_never_ends_comes_in_pieces() {
        let (mut it, mut pieces) = (Lines::default(), Vec::new());
        for _ in 0..1000 {
            it.push(&[b'x'; 1000], &mut |line| pieces.push(line.len()));
        }
        assert!(it.rest.len() < LONGEST_LINE);
        it.end(&mut |line| pieces.push(line.len()));
        assert!(pieces.iter().all(|it| *it <= LONGEST_LINE), "{pieces:?}");
        assert_eq!(pieces.iter().sum::<usize>(), 1_000_000);
    }

    #[test]
    fn lines_are_whole_wherever_they_are_cut() {
        let text = b"one\r\ntwo\n\nrest";
        for cut in 0..text.len() {
            let mut lines = Vec::new();
            let mut it = Lines::default();
            it.push(&text[..cut], &mut |line| lines.push(line.to_owned()));
            it.push(&text[cut..], &mut |line| lines.push(line.to_owned()));
            it.end(&mut |line| lines.push(line.to_owned()));
            assert_eq!(lines, ["one", "two", "", "rest"], "cut at {cut}");
        }
    }
}
