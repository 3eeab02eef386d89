//! The arguments of `lab up`, from the command line over a socket to the keeper.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::api::{Apply, Request};
use crate::config::{ConfigMode, Diagnostic, Env, PROJECT_NAME, Scope, tidy};
use crate::container::{Container, ContainerId};
use crate::daemon::LabContents;
use crate::lab::{Lab, Surroundings, wanted};
use crate::network::{Defaults, ENGINE_ONLY, Network};
use crate::service::{self, Address, MAX_REPLICAS, Project, Service};
use crate::tools::conlink::files::{Described, Role, describe};
use crate::tools::conlink::lab::args::{UpArgs, current};
use crate::tools::conlink::options::files_of;
use crate::tools::conlink::socket::RUN;
use crate::tools::input::STDIN;
use crate::tools::{environment, input};

/// Environment variables that nodes inherit from `lab up`.
const PASSED: [&str; 10] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TERM", "TZ"];

/// Names of our own tools. A node runs one of them if the machine has no program of that name.
const TOOLS: [&str; 2] = ["wait", "wait.sh"];
/// More of them, for nodes with a root file system of their own: these tools write to it.
const WRITING_TOOLS: [&str; 4] = ["copy", "copy.sh", "conlink", "mdc"];

/// The arguments of `lab up`.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// The lab's name, if one was given.
    pub(super) name: Option<String>,
    /// Absolute paths.
    compose_files: Vec<PathBuf>,
    /// Absolute paths.
    network_files: Vec<PathBuf>,
    defaults: Defaults,
    /// The environment of the command.
    env: Env,
    /// The working directory of the command.
    cwd: PathBuf,
    /// Number of replicas by service.
    scale: BTreeMap<String, u32>,
    profiles: Vec<String>,
    private_root: bool,
}

/// The contents of the files.
pub(super) struct Reading {
    pub(super) described: Described,
    pub(super) services: Vec<Arc<Service>>,
    pub(super) name: String,
    /// The folder that relative paths in the files start from.
    dir: PathBuf,
    env: Env,
}

impl Reading {
    /// That folder, without symbolic links in its path.
    pub(super) fn folder(&self) -> PathBuf {
        self.dir.canonicalize().unwrap_or_else(|_| self.dir.clone())
    }
}

impl Ask {
    pub(super) fn of(args: &UpArgs) -> anyhow::Result<Self> {
        let mut scale = BTreeMap::new();
        for it in &args.scale {
            let parts = it.split_once('=').and_then(|(name, count)| Some((name, count.parse().ok()?)));
            let Some((name, count)) = parts else {
                bail!("--scale {it}: expected SERVICE=N, such as `worker=3`");
            };
            scale.insert(name.to_owned(), count);
        }
        Ok(Self {
            name: args.name.clone().or_else(current),
            network_files: absolute(&args.files.network_files)?,
            defaults: args.files.defaults(""),
            scale,
            profiles: args.profile.clone(),
            private_root: args.private_root,
            ..Self::of_files(&args.files.compose_files)?
        })
    }

    /// The arguments of a `lab up` with these compose files and nothing else.
    pub(super) fn of_files(compose_files: &[PathBuf]) -> anyhow::Result<Self> {
        Ok(Self {
            name: None,
            compose_files: absolute(compose_files)?,
            network_files: Vec::new(),
            defaults: Defaults::default(),
            env: environment(),
            cwd: std::env::current_dir().context("read the working directory")?,
            scale: BTreeMap::new(),
            profiles: Vec::new(),
            private_root: false,
        })
    }

    /// Reads the files. An error is a file that cannot be read; mistakes are diagnostics of the result.
    pub(super) fn read(&self) -> anyhow::Result<Reading> {
        let look = service::Files { exists: &|it| it.is_file(), read: &|it| input::read_text(it) };
        let found = Project::locate(&self.compose_files, &self.env, &self.cwd, look);
        let mut project = found.map_err(|it| anyhow::anyhow!(it.join("\nerror: ")))?;
        project.warnings.iter().for_each(|it| log::warn!("{it}"));
        let compose = project.files.iter().map(|it| (it.clone(), Role::Compose));
        let network = self.network_files.iter().map(|it| (it.clone(), Role::Network));
        let mut files: Vec<_> = compose.chain(network).collect();
        let mut described = describe(&files, self.defaults.clone(), &project.env)?;
        if self.network_files.is_empty() {
            let more = self.engine_files(&described, &project);
            if !more.is_empty() {
                files.extend(more.into_iter().map(|it| (it, Role::Network)));
                described = describe(&files, self.defaults.clone(), &project.env)?;
            }
        }
        let name = match self.name.clone() {
            Some(it) => it,
            None => match project.name(&described.sources, &described.compose_files) {
                Ok(it) => it,
                Err(wrong) => {
                    described.diagnostics.push(wrong);
                    String::new()
                }
            },
        };
        project.env.insert(PROJECT_NAME.to_owned(), name.clone());
        // MAC addresses are derived from it.
        described.network.set_project(&name);
        let (mut services, found) = self.services(&described, &project);
        described.diagnostics.extend(found);
        described.diagnostics.retain(|it| !ENGINE_ONLY.contains(&it.code));
        tidy(&mut described.diagnostics);
        for (service, count) in &self.scale {
            match services.iter_mut().find(|it| it.name == *service) {
                Some(_) if *count > MAX_REPLICAS => {
                    bail!("--scale {service}={count}: expected at most {MAX_REPLICAS} replicas");
                }
                Some(it) if *count > 1 && it.container_name.is_some() => {
                    bail!("--scale {service}={count}: a service with a `container_name` has one replica");
                }
                Some(it) => it.replicas = *count,
                None => bail!("--scale {service}={count}: unknown service `{service}`"),
            }
        }
        let services = services.into_iter().map(Arc::new).collect();
        Ok(Reading { described, services, name, dir: project.dir, env: project.env })
    }

    fn services(&self, described: &Described, project: &Project) -> (Vec<Service>, Vec<Diagnostic>) {
        let context = service::Context {
            env: &project.env,
            dir: &project.dir,
            profiles: &self.profiles,
            read: &|path| input::read_text(path),
        };
        service::services(&described.sources, &described.compose_files, context)
    }

    /// The paths, on this machine, of the network files that the engine's own service is started with: the lab takes its
    /// place.
    fn engine_files(&self, described: &Described, project: &Project) -> Vec<PathBuf> {
        let (services, _) = self.services(described, project);
        let mut found = Vec::new();
        for engine in services.iter().filter(|it| it.is_engine) {
            let argv: Vec<String> =
                ["conlink"].into_iter().chain(engine.engine_options()).map(str::to_owned).collect();
            let Some(files) = files_of(&argv) else { continue };
            for (path, role) in files.list() {
                let on_host = path.to_str().and_then(|it| engine.host_path(it));
                if let (Role::Network, Some(it)) = (role, on_host.filter(|it| it.is_file())) {
                    found.push(it);
                }
            }
        }
        found
    }

    pub(super) fn request(&self) -> Request {
        Request::Apply(Box::new(Apply {
            name: self.name.clone(),
            compose_files: self.compose_files.clone(),
            network_files: self.network_files.clone(),
            bridge_mode: self.defaults.bridge_mode.to_string(),
            mtu: self.defaults.mtu,
            keep_veth_offload: self.defaults.keep_veth_offload,
            env: self.env.clone(),
            cwd: self.cwd.clone(),
            scale: self.scale.clone(),
            profiles: self.profiles.clone(),
            private_root: self.private_root,
        }))
    }

    /// The reverse of [`Ask::request`].
    fn from_request(it: &Apply) -> anyhow::Result<Self> {
        let modes = ConfigMode::NAMES;
        let (_, bridge_mode) = modes
            .iter()
            .find(|(name, _)| *name == it.bridge_mode)
            .with_context(|| format!("unknown bridge mode `{}`", it.bridge_mode))?;
        Ok(Self {
            name: it.name.clone(),
            compose_files: it.compose_files.clone(),
            network_files: it.network_files.clone(),
            defaults: Defaults {
                bridge_mode: *bridge_mode,
                mtu: it.mtu,
                keep_veth_offload: it.keep_veth_offload,
                ovs: false,
                project: String::new(),
            },
            env: it.env.clone(),
            cwd: it.cwd.clone(),
            scale: it.scale.clone(),
            profiles: it.profiles.clone(),
            private_root: it.private_root,
        })
    }
}

/// Turns a request into the contents of the lab, in the keeper.
pub(super) fn read(request: &Apply, lab: &Lab) -> anyhow::Result<LabContents> {
    let ask = Ask::from_request(request)?;
    let reading = ask.read()?;
    if let Some(first) = reading.described.diagnostics.iter().find(|it| it.stops(Scope::Link)) {
        // The client has checked the files before, so they have changed since.
        bail!("{}", first.to_json(&reading.described.sources));
    }
    // Before anything is made.
    let project = reading.folder();
    if let Some(other) = lab.project().filter(|it| *it != project) {
        bail!(
            "lab `{0}` is running with the files in {1}\nhint: end it with `conlink lab down {0}`, or choose another \
             --name",
            lab.name(),
            other.display()
        );
    }
    let mut network = reading.described.network;
    network.set_project(lab.name());
    let nodes = service::nodes(&reading.services, lab.name());
    let addresses = addresses(&network, &nodes, lab.name());
    let texts = service::hosts(&nodes, &addresses);
    let env = PASSED.iter().filter_map(|name| Some(((*name).to_owned(), reading.env.get(*name)?.clone())));
    let mut own_programs = TOOLS.to_vec();
    if ask.private_root {
        own_programs.extend(WRITING_TOOLS);
    }
    let around = Surroundings {
        folder: lab.folder().to_owned(),
        working_dir: reading.dir,
        env: env.collect(),
        private_root: ask.private_root,
        own_programs,
        rootless: rootless(),
        hidden: hidden(lab.folder()),
    };
    Ok(LabContents { network, nodes: wanted(nodes, texts, &around), project })
}

/// The folders with the sockets of engines and labs: a node must not control the lab that it is in.
fn hidden(lab: &Path) -> Vec<PathBuf> {
    // `conlink/lab/NAME`
    let ours = lab.ancestors().nth(2).map(Path::to_owned);
    let mut all: Vec<PathBuf> = [PathBuf::from(RUN)].into_iter().chain(ours).collect();
    all.dedup();
    all
}

/// The name of the compose project of these files; without files, of those that compose finds in the working directory.
pub(in crate::tools::conlink) fn project_of(files: &[PathBuf]) -> anyhow::Result<String> {
    Ok(reading_of(files)?.name)
}

/// The contents of these files; without files, of those that compose finds in the working directory.
pub(super) fn reading_of(files: &[PathBuf]) -> anyhow::Result<Reading> {
    Ask::of_files(files)?.read()
}

/// Whether this user namespace has only one user.
fn rootless() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().last() == Some("1")
}

/// The absolute paths of files; empty ones are left out. The keeper reads the files again.
fn absolute(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let given = paths.iter().filter(|it| !it.as_os_str().is_empty());
    given
        .map(|it| {
            let is_other = |it: &Path| it.metadata().is_ok_and(|it| !it.is_file());
            if it == Path::new(STDIN) || is_other(it) {
                bail!("{}: a lab reads its files more than once, so it needs regular files", it.display());
            }
            Ok(std::path::absolute(it)?)
        })
        .collect()
}

/// All addresses of all links, without their prefix lengths.
fn addresses(network: &Network, nodes: &[service::Node], project: &str) -> Vec<Address> {
    let mut all = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        let container = Container {
            id: ContainerId::new(node.name.clone()),
            name: node.name.clone(),
            project: Some(project.to_owned()),
            working_dir: None,
            service: Some(node.service.name.clone()),
            index: node.index,
        };
        for link in network.instantiate(&container).links {
            let dev = link.id.dev.clone();
            all.extend(link.addrs.iter().map(|it| Address {
                node: number,
                dev: dev.clone(),
                addr: it.addr(),
            }));
        }
    }
    all
}
