//! Containers of containerd, by the folder of its runtime's tasks: `NAMESPACE/ID/init.pid` has the first process.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use crate::tools::conlink::guest::found::{
    Found, Miss, Search, is_ended, names_in, open_process, process_id, stopped, unopened,
};

const KIND: &str = "containerd";

fn tasks(state: &Path, namespace: &str) -> PathBuf {
    state.join("io.containerd.runtime.v2.task").join(namespace)
}

/// The ids of the containers in a namespace that have a task.
pub(super) fn ids(state: &Path, namespace: &str) -> Vec<String> {
    names_in(&tasks(state, namespace))
}

/// A container by its id, or by the beginning of one. `state` is containerd's folder.
pub(super) fn find(state: &Path, namespace: &str, id: &str) -> Search {
    let folder = tasks(state, namespace);
    let id = &full_id(&folder, id)?;
    let name = &format!("{namespace}/{id}");
    let number = fs::read_to_string(folder.join(id).join("init.pid"));
    let pid = number.ok().and_then(|it| process_id(it.trim())).ok_or_else(|| stopped(KIND, name))?;
    let failed = |it| if is_ended(&it) { stopped(KIND, name) } else { unopened(KIND, name, it) };
    let process = open_process(pid).map_err(failed)?;
    // The file stays when the process has ended, and the number may belong to another process by now.
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    if !groups.contains(id) {
        return Err(Miss::Unusable(anyhow!(
            "{KIND} container `{name}` is not running: process {pid} of its init.pid is not in a cgroup of the container"
        )));
    }
    Found::of_process(KIND, name, process)
}

fn full_id(folder: &Path, id: &str) -> Result<String, Miss> {
    let all = match fs::read_dir(folder) {
        Ok(_) => names_in(folder),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Miss::Absent),
        Err(error) => return Err(Miss::Unknown(anyhow!("read {}: {error}", folder.display()))),
    };
    if all.iter().any(|it| it == id) {
        return Ok(id.to_owned());
    }
    let mut matching = all.into_iter().filter(|it| it.starts_with(id));
    match (matching.next(), matching.count()) {
        (None, _) => Err(Miss::Absent),
        (Some(it), 0) => Ok(it),
        (Some(_), more) => {
            Err(Miss::Unusable(anyhow!("{KIND} id `{id}` is ambiguous: {} ids start with it", more + 1)))
        }
    }
}
