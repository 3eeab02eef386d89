//! Asks an engine about a container and opens the container's network namespace.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::container::{Container, ContainerId};
use crate::daemon::listen;
use crate::docker::{Engine, Running};
use crate::kernel::{self, netns};
use crate::reconcile::EngineId;

/// Why the network namespace of a container cannot be opened.
#[derive(Debug, Default)]
pub struct Failed {
    /// None if the engine did not answer.
    pub container: Option<Container>,
    pub message: String,
    pub help: Option<String>,
}

/// A container with its network namespace. None if it does not run or is not `wanted`: then its namespace is not
/// opened. `name` is for messages.
pub(super) async fn container(
    engine_id: EngineId,
    engine: &Engine,
    id: &ContainerId,
    name: &str,
    wanted: impl AsyncFnOnce(&Container) -> bool,
) -> Result<Option<(Container, File)>, Failed> {
    let wanted = async |it: &Running| wanted(&it.container).await;
    let found = running(engine_id, engine, id, name, wanted).await?;
    Ok(found.map(|(running, netns)| (running.container, netns)))
}

/// The same, with all that the engine tells about it.
pub(super) async fn running(
    engine_id: EngineId,
    engine: &Engine,
    id: &ContainerId,
    name: &str,
    wanted: impl AsyncFnOnce(&Running) -> bool,
) -> Result<Option<(Running, File)>, Failed> {
    let Some(found) = ask(engine_id, engine, id, name).await? else { return Ok(None) };
    if !wanted(&found).await {
        return Ok(None);
    }
    Ok(open(engine_id, engine, &found).await?.map(|netns| (found, netns)))
}

/// Opens the network namespace of a running container. None if the container has ended.
pub async fn open(engine_id: EngineId, engine: &Engine, found: &Running) -> Result<Option<File>, Failed> {
    let netns = netns::of_process(found.pid);
    // The process may have ended, and its number may belong to another process by now. If the engine reports the same
    // process again, it was still running when its namespace was opened. (Its cgroup proves nothing: containers inside
    // the container have the container's id in theirs.)
    match ask(engine_id, engine, &found.container.id, &found.container.name).await? {
        None => return Ok(None),
        Some(again) if (again.pid, &again.started_at) == (found.pid, &found.started_at) => {}
        Some(_) => return Err(failed(found, "restarted during the inspection".to_owned(), None)),
    }
    let netns = match netns {
        Ok(it) => it,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
            let message = format!("the engine reports process {}, which is not in /proc", found.pid);
            return Err(failed(found, message, Some(NEEDS_PIDS)));
        }
        Err(error) => {
            let error =
                kernel::Error::new(format!("open the network namespace of process {}", found.pid), error);
            return Err(failed(found, error.to_string(), error.hint()));
        }
    };
    if netns::is_same(&netns, netns::of_process(1)) {
        let is_on_host =
            listen::within(engine_id, &inspection(&found.container.name), engine.is_on_host(found)).await;
        if !is_on_host.map_err(|it| unanswered(&it))? {
            let message = format!(
                "the engine reports process {}, which is in the host's network namespace, but the container is not",
                found.pid
            );
            return Err(failed(found, message, (!sees_all_processes()).then_some(NEEDS_PIDS)));
        }
    }
    Ok(Some(netns))
}

/// A container that cannot be inspected, from the list of running containers. None if it does not run.
pub(super) async fn listed(engine_id: EngineId, engine: &Engine, id: &ContainerId) -> Option<Container> {
    let mut wait = Duration::from_millis(100);
    loop {
        match listen::within(engine_id, "list containers", engine.list()).await {
            Ok(all) => return all.into_iter().find(|it| it.id == *id),
            // Until this is known, conlink must not report success.
            Err(error) => log::debug!("{engine_id}: list: {error:#}"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(listen::LONGEST_WAIT);
    }
}

/// Is this the machine's initial process namespace? Its inode is PROC_PID_INIT_INO (include/linux/proc_ns.h).
fn sees_all_processes() -> bool {
    const FIRST: u64 = 0xeffffffc;
    std::fs::metadata("/proc/self/ns/pid").is_ok_and(|it| it.ino() == FIRST)
}

/// The process numbers that an engine reports are those of its own process namespace.
const NEEDS_PIDS: &str = "if conlink runs in a container, its service needs `pid: host`";

async fn ask(
    engine_id: EngineId,
    engine: &Engine,
    id: &ContainerId,
    name: &str,
) -> Result<Option<Running>, Failed> {
    let answer = listen::within(engine_id, &inspection(name), engine.inspect_container(id)).await;
    answer.map_err(|it| unanswered(&it))
}

fn inspection(name: &str) -> String {
    format!("inspect container {name}")
}

fn unanswered(error: &dyn std::fmt::Display) -> Failed {
    Failed { message: format!("inspect the container: {error:#}"), ..Failed::default() }
}

fn failed(found: &Running, message: String, help: Option<&str>) -> Failed {
    Failed { container: Some(found.container.clone()), message, help: help.map(str::to_owned) }
}
