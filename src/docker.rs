//! The part of the engine API of Docker and Podman that conlink uses: containers, their events, commands in them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bollard::container::LogOutput;
use bollard::errors::Error as ApiError;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, EventMessage};
use bollard::query_parameters::ListContainersOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{Stream, StreamExt};
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::container::{Container, ContainerId};

/// Longest time for an answer, in seconds. The event stream has no limit: an engine may have no events.
const TIMEOUT: u64 = 60;

/// Longest event, in bytes.
const LONGEST_EVENT: usize = 1024 * 1024;

/// `{"type":["container"],"event":["start","die","died","pause","unpause"]}`, URL-encoded. Podman 4 sends `died`
/// for `die`.
const EVENT_FILTERS: &str = "%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B%22start%22%2C%22die%22%2C%22died%22\
    %2C%22pause%22%2C%22unpause%22%5D%7D";

/// Longest chain of containers with `network_mode: container:…`.
const LONGEST_CHAIN: usize = 16;

const PROJECT: &str = "com.docker.compose.project";
const WORKING_DIR: &str = "com.docker.compose.project.working_dir";
const SERVICE: &str = "com.docker.compose.service";
const NUMBER: &str = "com.docker.compose.container-number";

/// A connection to a container engine.
#[derive(Debug)]
pub struct Engine {
    api: Docker,
    socket: PathBuf,
}

/// A running container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub container: Container,
    /// Number of its first process in the engine's process namespace.
    pub pid: u32,
    /// When it was started, in the engine's format.
    pub started_at: Option<String>,
    pub network: NetworkMode,
    /// It has its own process namespace, so it cannot see the processes of other containers.
    pub has_own_pids: bool,
    pub labels: HashMap<String, String>,
    /// The environment of its program: `NAME=VALUE` each.
    pub env: Vec<String>,
    pub hostname: String,
}

/// The network namespace of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// Its own.
    Own,
    Host,
    /// That of another container, given by id or name.
    Container(String),
}

/// A container that was looked up by a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    Missing,
    NotRunning,
    Running(Box<Running>),
}

/// A container event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerEvent {
    /// Started or unpaused.
    Started(ContainerId),
    /// Died or paused.
    Died(ContainerId),
    /// An event of unknown form: the containers must be listed again.
    Unknown,
}

/// Why a request to an engine failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("socket {0} does not exist")]
    NoSocket(String),
    #[error("{socket}: {}", in_words(.source))]
    Failed { socket: String, source: ApiError },
}

/// What went wrong, without the names of the HTTP library's layers.
fn in_words(error: &ApiError) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(match error {
        ApiError::RequestTimeoutError => return format!("no answer within {TIMEOUT} s"),
        ApiError::DockerResponseServerError { status_code, message } => {
            return format!("the engine answered with HTTP status {status_code}: {message}");
        }
        ApiError::JsonDataError { .. } | ApiError::JsonSerdeError { .. } => {
            return format!("the engine's answer is not the expected JSON: {error}");
        }
        ApiError::HyperLegacyError { err } => err,
        ApiError::HyperResponseError { err } => err,
        ApiError::IOError { err } => err,
        _ => return error.to_string(),
    });
    let mut last = error.to_string();
    while let Some(it) = cause {
        if let Some(error) = it.downcast_ref::<hyper::Error>() {
            if error.is_parse() {
                return "the answer is not HTTP: is this the socket of a container engine?".to_owned();
            }
            if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
                return CLOSED.to_owned();
            }
        }
        if let Some(error) = it.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, UnexpectedEof};
            match error.kind() {
                BrokenPipe | ConnectionReset | UnexpectedEof => return CLOSED.to_owned(),
                ConnectionRefused => {
                    return "connection refused: no container engine listens there".to_owned();
                }
                _ => {}
            }
        }
        last = it.to_string();
        cause = it.source();
    }
    last
}

const CLOSED: &str = "the engine closed the connection before it answered";

impl Engine {
    /// The engine at this socket. The first request connects to it. Requests name no API version, so each engine uses
    /// its own.
    pub fn at(socket: &Path) -> Result<Self, Error> {
        let name = socket.display().to_string();
        if !socket.exists() {
            return Err(Error::NoSocket(name));
        }
        match Docker::connect_with_unix(&name, TIMEOUT, API_DEFAULT_VERSION) {
            Ok(api) => Ok(Self { api, socket: socket.to_owned() }),
            Err(source) => Err(Error::Failed { socket: name, source }),
        }
    }

    /// Connects to the socket and pings the engine.
    pub async fn connect(socket: &Path) -> Result<Self, Error> {
        let engine = Self::at(socket)?;
        engine.api.ping().await.map_err(|it| engine.failed(it))?;
        Ok(engine)
    }

    fn failed(&self, source: ApiError) -> Error {
        Error::Failed { socket: self.socket.display().to_string(), source }
    }

    /// All running containers, including paused ones.
    pub async fn list(&self) -> Result<Vec<Container>, Error> {
        let running = HashMap::from([("status", vec!["running", "paused"])]);
        let options = ListContainersOptionsBuilder::new().filters(&running).build();
        let all = in_time(self.api.list_containers(Some(options))).await.map_err(|it| self.failed(it))?;
        let containers = all.into_iter().map(|it| {
            let name = it.names.unwrap_or_default().into_iter().next().unwrap_or_default();
            // An empty id is refused when the container is inspected.
            container(it.id.unwrap_or_default(), &name, it.labels.unwrap_or_default())
        });
        Ok(containers.collect())
    }

    /// A running container; None if it does not run.
    ///
    /// # Errors
    /// The request failed, or the answer does not say whether the container runs.
    pub async fn inspect_container(&self, id: &ContainerId) -> Result<Option<Running>, Error> {
        self.running(id).await.map_err(|it| self.failed(it))
    }

    async fn running(&self, id: &ContainerId) -> Result<Option<Running>, ApiError> {
        let Some(answer) = self.inspect(id.as_str()).await? else { return Ok(None) };
        if answer.id.as_deref() != Some(id.as_str()) {
            return Err(bad_answer("is about another container"));
        }
        running(answer)
    }

    /// Looks up a container by its name, its id or the beginning of its id.
    ///
    /// # Errors
    /// The request failed, the name cannot be that of a container, or the answer does not say whether it runs.
    pub async fn find(&self, name: &str) -> Result<Named, Error> {
        let answer = self.inspect(name).await.map_err(|it| self.failed(it))?;
        let Some(answer) = answer else { return Ok(Named::Missing) };
        let found = running(answer).map_err(|it| self.failed(it))?;
        Ok(found.map_or(Named::NotRunning, |it| Named::Running(Box::new(it))))
    }

    /// Is a container in the host's network namespace, directly or through another container's?
    pub async fn is_on_host(&self, running: &Running) -> Result<bool, Error> {
        let mut mode = running.network.clone();
        for _ in 0..LONGEST_CHAIN {
            match mode {
                NetworkMode::Own => return Ok(false),
                NetworkMode::Host => return Ok(true),
                NetworkMode::Container(other) => {
                    let answer = self.inspect(&other).await.map_err(|it| self.failed(it))?;
                    let Some(answer) = answer else { return Ok(false) };
                    mode = network_mode(answer.host_config.and_then(|it| it.network_mode).as_deref());
                }
            }
        }
        Ok(false)
    }

    /// None if the container does not exist.
    async fn inspect(&self, name: &str) -> Result<Option<ContainerInspectResponse>, ApiError> {
        // It becomes a part of a URL.
        if !is_name(name) {
            return Err(ApiError::IOError {
                err: std::io::Error::other(format!("invalid container id {name:?}")),
            });
        }
        match in_time(self.api.inspect_container(name, None)).await {
            Err(ApiError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// The events of containers since this call. Returns once the engine has begun to answer, so that later requests
    /// see a state at least as new as the first event.
    pub async fn events(&self) -> Result<impl Stream<Item = Result<ContainerEvent, Error>> + use<>, Error> {
        let socket = self.socket.display().to_string();
        let failed = move |source| Error::Failed { socket: socket.clone(), source };
        let stream = self.event_stream().await.map_err(|it| self.failed(it))?;
        Ok(stream.map(move |it| it.map_err(&failed)))
    }

    async fn event_stream(
        &self,
    ) -> Result<impl Stream<Item = Result<ContainerEvent, ApiError>> + use<>, ApiError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
        let stream = TokioIo::new(UnixStream::connect(&self.socket).await?);
        let (mut requests, connection) = hyper::client::conn::http1::handshake(stream).await?;
        // This task ends when the answer is dropped.
        tokio::spawn(connection);
        let request = hyper::Request::get(format!("/events?since={since}&filters={EVENT_FILTERS}"))
            .header(hyper::header::HOST, "localhost")
            .body(String::new())?;
        let answer = requests.send_request(request).await?;
        let status = answer.status();
        if !status.is_success() {
            let message = status.canonical_reason().unwrap_or_default().to_owned();
            return Err(ApiError::DockerResponseServerError { status_code: status.as_u16(), message });
        }
        let reading = Reading { body: answer.into_body(), rest: Vec::new(), searched: 0 };
        Ok(futures_util::stream::try_unfold(reading, async |mut it| {
            let Some(line) = it.line().await? else { return Ok(None) };
            let event: EventMessage = serde_json::from_slice(&line)?;
            Ok(Some((self::event(&event), it)))
        }))
    }

    /// Runs a command in a container. Calls `on_line` with each line of its output, and returns its exit code.
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
        let failed = |it| self.failed(it);
        let exec = in_time(self.api.create_exec(id.as_str(), options)).await.map_err(failed)?.id;
        let started = self.api.start_exec(&exec, None).await.map_err(failed)?;
        if let StartExecResults::Attached { mut output, .. } = started {
            let (mut out, mut err) = (Lines::default(), Lines::default());
            while let Some(chunk) = output.next().await {
                match chunk.map_err(failed)? {
                    LogOutput::StdErr { message } => err.push(&message, &mut on_line),
                    it => out.push(&it.into_bytes(), &mut on_line),
                }
            }
            out.end(&mut on_line);
            err.end(&mut on_line);
        }
        let ended = in_time(self.api.inspect_exec(&exec)).await.map_err(failed)?;
        ended.exit_code.context("the engine does not report the exit code")
    }
}

/// An event stream that is being read.
struct Reading {
    body: Incoming,
    rest: Vec<u8>,
    /// Number of leading bytes that are known to contain no newline.
    searched: usize,
}

impl Reading {
    /// The next line that is not blank. None at the end of the stream.
    async fn line(&mut self) -> Result<Option<Vec<u8>>, ApiError> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.rest[self.searched..]) {
                let line: Vec<u8> = self.rest.drain(..=self.searched + end).collect();
                self.searched = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Ok(Some(line));
            }
            self.searched = self.rest.len();
            if self.rest.len() > LONGEST_EVENT {
                return Err(bad_answer("has an event of more than 1 MiB"));
            }
            let body = &mut self.body;
            let Some(frame) = std::future::poll_fn(|it| Pin::new(&mut *body).poll_frame(it)).await else {
                return Ok(None);
            };
            if let Ok(data) = frame?.into_data() {
                self.rest.extend_from_slice(&data);
            }
        }
    }
}

/// Waits for the complete answer, at most [`TIMEOUT`].
async fn in_time<T>(answer: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    let limit = Duration::from_secs(TIMEOUT);
    tokio::time::timeout(limit, answer).await.unwrap_or(Err(ApiError::RequestTimeoutError))
}

fn bad_answer(what: &str) -> ApiError {
    ApiError::IOError { err: std::io::Error::other(format!("the engine's answer {what}")) }
}

/// The first process of a container; None when there is none.
fn pid(state: &ContainerState) -> Result<Option<u32>, ApiError> {
    use ContainerStateStatusEnum::{CREATED, DEAD, EXITED, REMOVING, RESTARTING};
    let ended = matches!(state.status, Some(CREATED | DEAD | EXITED | REMOVING | RESTARTING))
        || state.running == Some(false)
        || state.restarting == Some(true);
    match state.pid {
        // The container has ended: the engine has no process number for it.
        None | Some(0) if ended => Ok(None),
        // The kernel's process numbers are of type int.
        Some(pid @ 1..=0x7fff_ffff) => Ok(u32::try_from(pid).ok()),
        Some(pid) => Err(bad_answer(&format!("has the process number {pid}"))),
        None => Err(bad_answer("has no process number")),
    }
}

/// The container, if it runs.
fn running(answer: ContainerInspectResponse) -> Result<Option<Running>, ApiError> {
    let id = answer.id.ok_or_else(|| bad_answer("has no id"))?;
    let state = answer.state.ok_or_else(|| bad_answer("has no state"))?;
    let Some(pid) = pid(&state)? else { return Ok(None) };
    let config = answer.config.unwrap_or_default();
    let labels = config.labels.unwrap_or_default();
    let host_config = answer.host_config.unwrap_or_default();
    Ok(Some(Running {
        container: container(id, &answer.name.unwrap_or_default(), labels.clone()),
        pid,
        started_at: state.started_at.map(|it| it.to_string()),
        network: network_mode(host_config.network_mode.as_deref()),
        // The default is an empty string in Docker, and `private` in Podman.
        has_own_pids: host_config.pid_mode.is_some_and(|it| it.is_empty() || it == "private"),
        labels,
        env: config.env.unwrap_or_default(),
        hostname: config.hostname.unwrap_or_default(),
    }))
}

/// Whether a container can have this name or id: letters, digits, `_`, `.` and `-`, with a letter or digit first.
pub fn is_name(text: &str) -> bool {
    text.starts_with(|it: char| it.is_ascii_alphanumeric())
        && text.bytes().all(|it| it.is_ascii_alphanumeric() || b"_.-".contains(&it))
}

fn network_mode(text: Option<&str>) -> NetworkMode {
    match text {
        Some("host") => NetworkMode::Host,
        Some(text) => match text.strip_prefix("container:") {
            Some(other) => NetworkMode::Container(other.to_owned()),
            None => NetworkMode::Own,
        },
        None => NetworkMode::Own,
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
        // Before API 1.22 the keys are `status` and `id`, which the client library does not read.
        _ => ContainerEvent::Unknown,
    }
}

/// Longest line in bytes: a longer one is split.
const LONGEST_LINE: usize = 64 * 1024;

/// Splits output that arrives in chunks into lines.
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

/// The id of the container that this process runs in, from `/proc/self/mountinfo`; None on the host.
///
/// Engines mount three files of the container's folder over those of its image. The host's mountinfo may have the
/// folders of other containers, but not at these mount points.
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
    fn the_own_container_id_is_found_in_a_container_and_not_on_the_host() {
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
    fn events_of_all_api_versions_are_read() {
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
    fn an_overlong_line_is_split() {
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
    fn lines_do_not_depend_on_how_the_output_is_chunked() {
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
