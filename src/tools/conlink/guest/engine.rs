//! Containers of Docker and Podman, by their sockets.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};

use crate::daemon;
use crate::docker::{Engine, Named};
use crate::reconcile::EngineId;
use crate::tools::conlink::guest::found::{Found, Miss, Search, open_process, stopped};
use crate::tools::conlink::guest::places::Sockets;
use crate::tools::conlink::socket::PATIENCE;

/// How long a list of names may take that only improves an error.
const SHORT: Duration = Duration::from_secs(1);

/// A container by its name, its id or the beginning of its id.
pub(super) fn find(id: EngineId, sockets: &Sockets, name: &str) -> Search {
    let mut miss = Miss::Absent;
    for socket in sockets.paths().map_err(Miss::Unknown)? {
        let silent = |error| Err(Miss::Unknown(anyhow!("{id}: {}: {error}", socket.display())));
        let answer = run(PATIENCE, ask(id, socket, name)).unwrap_or_else(silent);
        match answer {
            Err(Miss::Absent) => {}
            Err(it @ Miss::Unknown(_)) => miss = it,
            found => return found,
        }
    }
    Err(miss)
}

async fn ask(id: EngineId, socket: &Path, name: &str) -> Search {
    let unknown = |error| Miss::Unknown(anyhow!("{id}: {error}"));
    let engine = Engine::at(socket).map_err(unknown)?;
    let kind = match id {
        EngineId::Podman => "podman",
        _ => "docker",
    };
    let running = match engine.find(name).await.map_err(unknown)? {
        Named::Missing => return Err(Miss::Absent),
        Named::NotRunning => return Err(stopped(kind, name)),
        Named::Running(it) => it,
    };
    let full = &running.container.name;
    match daemon::open_netns(id, &engine, &running).await {
        Ok(Some(netns)) => {
            // If the container ends at this moment, this is another process, which only its host name comes from.
            let process = open_process(running.pid).ok();
            Ok(Found { kind, name: full.clone(), netns, pid: Some(running.pid), process })
        }
        Ok(None) => Err(stopped(kind, full)),
        Err(daemon::Failed { message, help, .. }) => {
            let hint = help.map(|it| format!("\nhint: {it}")).unwrap_or_default();
            Err(Miss::Unusable(anyhow!("{kind} container `{full}`: {message}{hint}")))
        }
    }
}

/// The names of the running containers.
pub(super) fn names(sockets: &Sockets) -> Vec<String> {
    let mut names = Vec::new();
    for socket in sockets.paths().into_iter().flatten() {
        let list = async { Engine::at(socket).ok()?.list().await.ok() };
        let list = run(SHORT, list).ok().flatten().unwrap_or_default();
        names.extend(list.into_iter().map(|it| it.name));
    }
    names
}

fn run<T>(limit: Duration, task: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let limited = async { tokio::time::timeout(limit, task).await };
    runtime.block_on(limited).map_err(|_| anyhow!("no answer within {} s", limit.as_secs()))
}
