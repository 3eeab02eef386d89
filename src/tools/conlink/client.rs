//! The engines and labs that are running, and the choice of those that a command is about.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;

use crate::tools::conlink::lab::{ask, dir};
use crate::tools::conlink::socket::{Kind, RUN, Server, engine_socket, file_name};

/// Every engine, then every lab, by name.
pub(super) fn servers() -> Vec<Server> {
    let mut engines: Vec<Server> = Vec::new();
    for socket in entries(Path::new(RUN)) {
        let is_socket = fs::metadata(&socket).is_ok_and(|it| it.file_type().is_socket());
        if let (true, Some(name)) = (is_socket, socket.file_name().and_then(|it| it.to_str()))
            && let Some(name) = name.strip_suffix(".sock").filter(|it| !it.is_empty())
        {
            engines.push(Server { kind: Kind::Engine, name: name.to_owned(), socket });
        }
    }
    let mut labs = dir::servers();
    engines.sort_by(|a, b| a.name.cmp(&b.name));
    labs.sort_by(|a, b| a.name.cmp(&b.name));
    engines.into_iter().chain(labs).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(all) = fs::read_dir(folder) else { return Vec::new() };
    all.filter_map(|it| Some(it.ok()?.path())).collect()
}

/// The engine or lab that a command is about.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Compose project or lab [default: COMPOSE_PROJECT_NAME, else the project of this directory if it is running,
    /// else all that are running]
    #[arg(value_name = "NAME", conflicts_with = "name_option")]
    name: Option<String>,
    /// Same as NAME
    #[arg(short, long = "name", value_name = "NAME")]
    name_option: Option<String>,
}

impl Which {
    /// At least one server.
    pub(super) fn servers(&self) -> anyhow::Result<Vec<Server>> {
        chosen_here(self.name.as_deref().or(self.name_option.as_deref()))
    }
}

/// As [`chosen`]; of several without a name, those of the compose project of the working directory.
pub(super) fn chosen_here(name: Option<&str>) -> anyhow::Result<Vec<Server>> {
    let all = chosen(name)?;
    if all.len() < 2 || name.is_some() {
        return Ok(all);
    }
    let here = ask::project_of(&[]).ok().map(|it| file_name(&it));
    let ours: Vec<Server> = all.iter().filter(|it| Some(&it.name) == here.as_ref()).cloned().collect();
    Ok(if ours.is_empty() { all } else { ours })
}

/// The engines and labs with this name, else with the name in COMPOSE_PROJECT_NAME, else all. At least one.
pub(super) fn chosen(name: Option<&str>) -> anyhow::Result<Vec<Server>> {
    let all = servers();
    let from_env = std::env::var("COMPOSE_PROJECT_NAME").ok().filter(|it| !it.is_empty());
    let Some(name) = name.or(from_env.as_deref()) else {
        if all.is_empty() {
            bail!("no engine or lab is running: no socket in {RUN}");
        }
        return Ok(all);
    };
    let file = file_name(name);
    let found: Vec<Server> = all.iter().filter(|it| it.name == file).cloned().collect();
    if found.is_empty() {
        let socket = engine_socket(name);
        let others = match all.as_slice() {
            [] => String::new(),
            _ => format!("; running: {}", list(&all)),
        };
        bail!("no engine or lab `{name}` is running: no socket {}{others}", socket.display());
    }
    Ok(found)
}

/// ``engine `a`, lab `b` ``
pub(super) fn list(servers: &[Server]) -> String {
    servers.iter().map(Server::to_string).collect::<Vec<_>>().join(", ")
}
