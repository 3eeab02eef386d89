//! Asks an engine about a container and opens the container's network namespace.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::container::{Container, ContainerId};
use crate::daemon::listen;
use crate::docker::{Engine, Running};
use crate::kernel::{self, netns};
use crate::reconcile::EngineId;

/// Why a container that may run cannot be reached.
#[derive(Debug, Default)]
pub(super) struct Failed {
    /// None when the engine had no answer.
    pub(super) container: Option<Container>,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// The container and its namespace; None when it does not run, or is not `wanted`: then nothing of it is opened.
pub(super) async fn container(
    engine_id: EngineId,
    engine: &Engine,
    id: &ContainerId,
    wanted: impl AsyncFnOnce(&Container) -> bool,
) -> Result<Option<(Container, File)>, Failed> {
    let Some(found) = ask(engine_id, engine, id).await? else { return Ok(None) };
    if !wanted(&found.container).await {
        return Ok(None);
    }
    let netns = netns::of_process(found.pid);
    // The number of a process that has ended may be another's by now. Where the engine still says the same, the process
    // had not ended when its namespace was opened. (Its cgroup would not tell: containers within the container have the
    // container's id in theirs.)
    match ask(engine_id, engine, id).await? {
        None => return Ok(None),
        Some(again) if (again.pid, &again.started_at) == (found.pid, &found.started_at) => {}
        Some(_) => return Err(failed(&found, "it was started again meanwhile".to_owned(), None)),
    }
    let netns = match netns {
        Ok(it) => it,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
            let message = format!("the engine reports process {}, which /proc does not have", found.pid);
            return Err(failed(&found, message, Some(NEEDS_PIDS)));
        }
        Err(error) => {
            let error =
                kernel::Error::new(format!("open the network namespace of process {}", found.pid), error);
            return Err(failed(&found, error.to_string(), error.hint()));
        }
    };
    if netns::is_same(&netns, netns::of_process(1)) {
        let is_on_host = listen::within(engine_id, &inspection(id), engine.is_on_host(&found)).await;
        if !is_on_host.map_err(|it| unanswered(id, &it))? {
            let message = format!(
                "the engine reports process {}, which is in the host's network namespace: the container is not to be there",
                found.pid
            );
            return Err(failed(&found, message, (!sees_all_processes()).then_some(NEEDS_PIDS)));
        }
    }
    Ok(Some((found.container, netns)))
}

/// What the list says of a container that cannot be inspected: whether it is anything to us. None when it does not run.
pub(super) async fn listed(engine_id: EngineId, engine: &Engine, id: &ContainerId) -> Option<Container> {
    let mut wait = Duration::from_millis(100);
    loop {
        match listen::within(engine_id, "the list of containers", engine.list()).await {
            Ok(all) => return all.into_iter().find(|it| it.id == *id),
            // As long as nobody knows, nobody is to think that all is well.
            Err(error) => log::debug!("{engine_id}: list: {error:#}"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(listen::LONGEST_WAIT);
    }
}

/// Are we in the process namespace that the machine started with? Its inode is PROC_PID_INIT_INO
/// (include/linux/proc_ns.h).
fn sees_all_processes() -> bool {
    const FIRST: u64 = 0xeffffffc;
    std::fs::metadata("/proc/self/ns/pid").is_ok_and(|it| it.ino() == FIRST)
}

/// The numbers that an engine tells are those of its own process namespace.
const NEEDS_PIDS: &str = "a conlink that runs in a container needs `pid: host`";

async fn ask(engine_id: EngineId, engine: &Engine, id: &ContainerId) -> Result<Option<Running>, Failed> {
    let answer = listen::within(engine_id, &inspection(id), engine.inspect_container(id)).await;
    answer.map_err(|it| unanswered(id, &it))
}

fn inspection(id: &ContainerId) -> String {
    format!("container {}", id.short())
}

fn unanswered(id: &ContainerId, error: &dyn std::fmt::Display) -> Failed {
    Failed { message: format!("inspect {}: {error:#}", id.short()), ..Failed::default() }
}

fn failed(found: &Running, message: String, help: Option<&str>) -> Failed {
    Failed { container: Some(found.container.clone()), message, help: help.map(str::to_owned) }
}
