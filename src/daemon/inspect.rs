//! Asks an engine about a container and opens the container's network namespace.

use std::fs::File;
use std::io;

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

/// The container and its namespace; None when it does not run.
pub(super) async fn container(
    engine_id: EngineId,
    engine: &Engine,
    id: &ContainerId,
) -> Result<Option<(Container, File)>, Failed> {
    let Some(found) = ask(engine_id, engine, id).await? else { return Ok(None) };
    let netns = netns::of_process(found.pid);
    // The number of a process that has ended may be another's by now. One of the container's has its id in the name of
    // its cgroup; where it has not, the engine is asked once more.
    if !is_of(found.pid, id) {
        match ask(engine_id, engine, id).await? {
            None => return Ok(None),
            Some(again) if (again.pid, &again.started_at) == (found.pid, &found.started_at) => {}
            Some(_) => return Err(failed(&found, "it was started again meanwhile".to_owned(), None)),
        }
    }
    let netns = match netns {
        Ok(it) => it,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
            let message = format!("the engine reports process {}, which /proc does not have", found.pid);
            let help = "a conlink that runs in a container needs `pid: host`";
            return Err(failed(&found, message, Some(help)));
        }
        Err(error) => {
            let error =
                kernel::Error::new(format!("open the network namespace of process {}", found.pid), error);
            return Err(failed(&found, error.to_string(), error.hint()));
        }
    };
    if !found.may_be_on_host && is_the_hosts(&netns) {
        let message =
            format!("process {} is in the host's network namespace, the container is not", found.pid);
        return Err(failed(&found, message, None));
    }
    Ok(Some((found.container, netns)))
}

async fn ask(engine_id: EngineId, engine: &Engine, id: &ContainerId) -> Result<Option<Running>, Failed> {
    let answer = listen::within(engine_id, engine.inspect_container(id)).await;
    answer.map_err(|it| Failed { message: format!("inspect {}: {it:#}", id.short()), ..Failed::default() })
}

fn failed(found: &Running, message: String, help: Option<&str>) -> Failed {
    Failed { container: Some(found.container.clone()), message, help: help.map(str::to_owned) }
}

/// Is the process in a cgroup of the container?
fn is_of(pid: u32, id: &ContainerId) -> bool {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
    groups.is_ok_and(|it| it.contains(id.as_str()))
}

fn is_the_hosts(netns: &File) -> bool {
    let host: io::Result<u64> = netns::of_process(1).and_then(|it| netns::inode(&it));
    host.is_ok_and(|host| netns::inode(netns).is_ok_and(|it| it == host))
}
