//! Starts the engine: from options to a running loop.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::container::ContainerId;
use crate::daemon::{self, Mode, Setup};
use crate::device::BridgeMode;
use crate::docker::{Engine, Running, own_container_id};
use crate::kernel::{self, Datapath, Kernel, netns, probe};
use crate::plan::{Desired, Look, Ns, Scope};
use crate::process::raise_file_limit;
use crate::reconcile::{EngineId, Own};
use crate::tools::conlink::check::report;
use crate::tools::conlink::files::{Contents, Located, locate};
use crate::tools::conlink::lock::Lock;
use crate::tools::conlink::options::{NetnsPlace, Options, init_log};
use crate::tools::conlink::socket;
use crate::tools::logger;
use crate::tools::pipework::labels;
use crate::{config, network};
use crate::{err, out, wire};

pub(super) fn main(options: Options) -> anyhow::Result<u8> {
    init_log(&options);
    if let Some(file) = &options.config_schema {
        log::debug!("--config-schema {}: ignored, the schema is built in", file.display());
    }
    let files = options.files.list();
    if files.is_empty() && !options.show_config && !options.pipework_labels {
        err(
            "error: no configuration file\nhint: name a compose file with --file; `conlink --help` lists all commands\n",
        );
        return Ok(crate::USAGE);
    }
    let files = match files.is_empty() && !options.show_config {
        true => Located::none(),
        false if options.show_config => locate(files, Contents::new())?,
        false => locate(files, Contents::new())?.without_project(),
    };
    // Errors in files are reported even if no container engine answers.
    let named = options.compose_project.clone().or_else(|| env("COMPOSE_PROJECT_NAME"));
    let mut defaults = options.files.defaults(named.as_deref().unwrap_or_default());
    let mut described = files.describe(defaults.clone())?;
    // Probed only if the answer matters: it may load a module.
    let needed = if options.show_config { config::Scope::Config } else { config::Scope::Network };
    let asks = !options.show_config && !described.stops(needed) && described.network.asks_for_ovs;
    let datapath = if asks { probe() } else { None };
    if datapath == Some(Datapath::Kernel) {
        defaults.ovs = true;
        described = files.describe(defaults)?;
    } else if asks {
        let reason = match datapath {
            Some(_) => "the kernel module openvswitch is missing",
            None => "Open vSwitch is not installed",
        };
        let level = if described.network.names_auto { log::Level::Warn } else { log::Level::Debug };
        log::log!(level, "bridges of mode auto are linux bridges: {reason}");
    }
    if described.stops(needed) {
        report(&described, options.files.color);
        return Ok(1);
    }
    if options.show_config {
        return out(&format!("{}\n", serde_json::to_string_pretty(&described.network.show())?)).map(|()| 0);
    }
    if let Some(bridge) = described.network.bridges.values().find(|it| it.mode == BridgeMode::Ovs) {
        kernel::ovs::check_installed().with_context(|| format!("bridge `{}` has mode ovs", bridge.name))?;
    }
    described.log();
    // A container takes four open files, so the usual soft limit of 1024 is too low for hundreds of containers.
    raise_file_limit();
    let _background = logger::in_background().context("start a thread for the log")?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, run(&options, described.network))
}

const SEES_NO_OTHER: &str =
    "the engine's container cannot see other containers: its service needs `pid: host`";

async fn run(options: &Options, mut network: network::Network) -> anyhow::Result<u8> {
    let engines = connect(options).await?;
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut context = Own::default();
    let mut in_container = false;
    if let Some(id) = own_container_id(&mountinfo) {
        in_container = true;
        // In a process namespace of its own, the engine cannot reach the network namespaces of other containers.
        if std::process::id() == 1 {
            bail!(SEES_NO_OTHER);
        }
        if let Some(running) = own_container(&engines, &id).await? {
            if running.has_own_pids {
                bail!(SEES_NO_OTHER);
            }
            context.project = running.container.project;
            context.working_dir = running.container.working_dir;
        }
    }
    if let Some(name) = options.compose_project.clone() {
        context.project = Some(name);
        context.working_dir = None;
    }
    if context.project.is_none() {
        context.project = env("COMPOSE_PROJECT_NAME");
    }
    let project = context.project.clone().unwrap_or_default();
    network.set_project(&project);
    let mode = match (options.once, options.dry_run) {
        (_, true) => Mode::DryRun,
        (true, _) => Mode::Once,
        _ => Mode::Run,
    };
    let place = BridgesIn::of(in_container, options.netns, &project);
    context.bridges_apart = matches!(place, BridgesIn::Named(_));
    context.on_host = !matches!(place, BridgesIn::Own);
    context.repair = options.repair;
    context.without_netem = options.without_netem;
    if options.without_netem {
        log::warn!("--without-netem: links and tunnels have no impairments");
    }
    // Before anything is created: from now on signals wait for the loop, which cleans up.
    let _heard = [SignalKind::terminate(), SignalKind::interrupt()]
        .map(|it| signal(it).context("listen for signals"))
        .into_iter()
        .collect::<anyhow::Result<Vec<_>>>()?;
    // Held to the end, and taken before anything is created.
    let _lock = match mode {
        Mode::DryRun => None,
        Mode::Run | Mode::Once => place.lock(&project)?,
    };
    // An engine in a container does not see the lock of an engine on the host, to which these namespaces may belong.
    if mode != Mode::DryRun && !in_container {
        let elsewhere = match place {
            BridgesIn::Host => BridgesIn::of(false, NetnsPlace::Own, &project),
            BridgesIn::Own | BridgesIn::Named(_) => BridgesIn::Host,
        };
        if let Err(error) = elsewhere.clear(&project) {
            log::warn!("clean up after an engine with another --netns: {error:#}");
        }
    }
    let bridges = place.open(mode)?;
    let host = netns::of_process(1).and_then(|it| netns::inode(&it));
    context.sweeps_host = host.is_ok_and(|host| netns::inode(&bridges).is_ok_and(|it| it != host));
    let mut kernel = Kernel::new(bridges)?;
    if mode == Mode::DryRun {
        kernel.look_only();
    }
    let ovs = place.ovs_folder(&project);
    if matches!(place, BridgesIn::Own) && mode != Mode::DryRun {
        show_ovs(&ovs);
    }
    kernel.set_ovs_folder(ovs);
    let socket = Some(socket::engine_socket(&project));
    let follow = match options.pipework_labels {
        true => Some(labels::follow(in_container, project).context("start a thread for pipework commands")?),
        false => None,
    };
    let own = context;
    let setup = Setup { network, own, engines, kernel, mode, print: out, socket, lab: None, follow };
    let code = daemon::run(setup).await?;
    if mode == Mode::Run {
        place.remove();
    }
    Ok(code)
}

/// Makes Open vSwitch's own programs find its daemons in our container: `docker compose exec network ovs-vsctl show`.
/// Where the path exists, the system's are mounted there; where it cannot be made, `ovs-vsctl --db` takes another one.
fn show_ovs(folder: &Path) {
    let _ = std::os::unix::fs::symlink(folder, "/run/openvswitch");
}

/// The engine's own container. It is an error if no container engine knows it but one failed to answer: without the
/// project, containers of every project would be served.
async fn own_container(
    engines: &BTreeMap<EngineId, Engine>,
    id: &ContainerId,
) -> anyhow::Result<Option<Running>> {
    let mut unknown = None;
    for (name, engine) in engines {
        match daemon::within(*name, "inspect the engine's own container", engine.inspect_container(id)).await
        {
            Ok(Some(it)) => return Ok(Some(it)),
            Ok(None) => {}
            Err(error) => unknown = Some(error),
        }
    }
    unknown.map_or(Ok(None), |it| Err(it).context("inspect the engine's own container"))
}

/// The network namespace of bridges and outer ends.
enum BridgesIn {
    /// The engine's own namespace, as in the reference tool.
    Own,
    Host,
    /// A namespace with this name.
    Named(String),
}

impl BridgesIn {
    fn of(in_container: bool, option: NetnsPlace, project: &str) -> Self {
        match option {
            NetnsPlace::Host => Self::Host,
            NetnsPlace::Own if in_container => Self::Own,
            NetnsPlace::Own if project.is_empty() => Self::Named("conlink".to_owned()),
            NetnsPlace::Own => Self::Named(format!("conlink-{}", socket::in_file_name(project))),
        }
    }

    fn open(&self, mode: Mode) -> anyhow::Result<File> {
        match self {
            Self::Own => netns::own().context("open the engine's own network namespace"),
            Self::Host => {
                let error = |it| kernel::Error::new("open the host's network namespace", it);
                Ok(netns::of_process(1).map_err(error)?)
            }
            // A dry run must not leave a named namespace behind.
            Self::Named(name) if mode == Mode::DryRun => {
                match netns::find_named(name) {
                    Ok(Some(it)) => Ok(it),
                    Ok(None) => Ok(netns::anonymous()
                        .map_err(|it| kernel::Error::new("create a network namespace", it))?),
                    Err(error) => Err(error).with_context(|| format!("open network namespace {name}")),
                }
            }
            Self::Named(name) => {
                let error = |it| kernel::Error::new(format!("create network namespace {name}"), it);
                Ok(netns::named(name).map_err(error)?)
            }
        }
    }

    /// The directory of the Open vSwitch daemons.
    fn ovs_folder(&self, project: &str) -> PathBuf {
        let mut folder = "ovs".to_owned();
        if !project.is_empty() {
            folder += &format!("-{}", socket::in_file_name(project));
        }
        if matches!(self, Self::Host) {
            // Different from that of an engine of the same project with its own namespace.
            folder += "-host";
        }
        Path::new(socket::RUN).join(folder)
    }

    /// Removes the namespace and daemons of a killed engine of this project with the other `--netns`. Interfaces in the
    /// host's namespace are removed at every start anyway. The caller holds the project's lock.
    fn clear(&self, project: &str) -> anyhow::Result<()> {
        let (netns, name) = match self {
            Self::Own => return Ok(()),
            Self::Host if !self.ovs_folder(project).exists() => return Ok(()),
            Self::Host => (netns::of_process(1).context("open the host's network namespace")?, None),
            Self::Named(name) => match netns::find_named(name).with_context(|| format!("open {name}"))? {
                Some(it) => (it, Some(name)),
                None => return Ok(()),
            },
        };
        let mut kernel = Kernel::new(netns)?;
        kernel.set_ovs_folder(self.ovs_folder(project));
        let Some(name) = name else {
            kernel.observe(&[(Ns::Bridges, Look { ovs: true, ..Look::default() })].into())?;
            return Ok(kernel.stop_ovs()?);
        };
        let places = [network::Place::Engine].into();
        let scope = Scope::Project { places, keep: BTreeSet::new(), inner: BTreeSet::new() };
        let outcome = wire::converge(&mut kernel, &Desired::nothing(project.to_owned(), scope));
        if let Some(failure) = outcome.failures.first() {
            bail!("{failure}");
        }
        kernel.stop_ovs()?;
        // Kernel modules may add interfaces to every namespace.
        let usual = interfaces(&mut Kernel::new(netns::anonymous().context("create a network namespace")?)?)?;
        let others: Vec<String> = interfaces(&mut kernel)?.difference(&usual).cloned().collect();
        if !others.is_empty() {
            bail!("{name} contains interfaces of other programs: {}", others.join(", "));
        }
        self.remove();
        log::info!("removed network namespace {name} of an earlier engine");
        Ok(())
    }

    /// The name of the lock of an engine with its bridges here.
    fn lock_name(&self, project: &str) -> anyhow::Result<String> {
        let place = match self {
            // Containers may share `/run` but have a namespace each.
            Self::Own => {
                let netns = netns::own().and_then(|it| netns::inode(&it));
                format!("netns-{}", netns.context("open the engine's own network namespace")?)
            }
            // Both have interfaces in the host's namespace, and each would remove those of the other.
            Self::Host | Self::Named(_) => "host".to_owned(),
        };
        Ok(format!("{place}-{}", socket::in_file_name(project)))
    }

    /// Locks the project against another engine here. None if no lock can be created.
    fn lock(&self, project: &str) -> anyhow::Result<Option<Lock>> {
        match Lock::take(&lock_folder(), &self.lock_name(project)?) {
            Ok(Some(it)) => Ok(Some(it)),
            Ok(None) if project.is_empty() => bail!("another conlink already serves all projects here"),
            Ok(None) => bail!("another conlink already serves project `{project}` here"),
            // For example a container with a read-only root file system.
            Err(error) => {
                log::warn!("cannot detect another engine of project `{project}`: {error:#}");
                Ok(None)
            }
        }
    }

    /// Removes the name that [`BridgesIn::open`] made.
    fn remove(&self) {
        if let Self::Named(name) = self
            && let Err(error) = netns::delete_named(name)
        {
            log::warn!("remove network namespace {name}: {error}");
        }
    }
}

fn lock_folder() -> PathBuf {
    Path::new(socket::RUN).join("lock")
}

/// The names of all interfaces in the namespace of the bridges.
fn interfaces(kernel: &mut Kernel) -> anyhow::Result<BTreeSet<String>> {
    let observed = kernel.observe(&[(Ns::Bridges, Look::all())].into())?;
    let spaces = observed.spaces.into_values();
    Ok(spaces.flat_map(|it| it.interfaces.into_keys()).map(|it| it.to_string()).collect())
}

/// How much longer than the other one a container engine may take if its socket was not named.
const SECOND_ENGINE: Duration = Duration::from_secs(4);

/// Connects to a container engine. None if the socket is `none`. `any` is set once an engine has answered.
async fn connect_to(
    id: EngineId,
    socket: &Path,
    named: bool,
    any: &watch::Sender<bool>,
) -> anyhow::Result<Option<Engine>> {
    if socket.as_os_str() == "none" {
        return Ok(None);
    }
    let too_late = async {
        let _ = any.subscribe().wait_for(|it| *it && !named).await;
        tokio::time::sleep(SECOND_ENGINE).await;
    };
    tokio::select! {
        connected = daemon::within(id, "ping", Engine::connect(socket)) => {
            let engine = connected?;
            any.send_replace(true);
            Ok(Some(engine))
        }
        () = too_late => bail!("{}: no answer within {} s", socket.display(), SECOND_ENGINE.as_secs()),
    }
}

/// Connects to every container engine that answers, unless its socket is `none`. An engine whose socket was named must
/// answer. If none answers, the error has the reason of each.
async fn connect(options: &Options) -> anyhow::Result<BTreeMap<EngineId, Engine>> {
    let docker = options.docker_socket.clone().unwrap_or_else(|| {
        let host = env("DOCKER_HOST");
        let socket = host.as_ref().and_then(|it| it.strip_prefix("unix://"));
        let used = socket.unwrap_or("/var/run/docker.sock");
        if let Some(host) = host.as_ref().filter(|_| socket.is_none()) {
            log::warn!("DOCKER_HOST={host} is ignored: expected `unix://PATH`; using {used}");
        }
        PathBuf::from(used)
    });
    let podman = options.podman_socket.clone().unwrap_or_else(|| {
        let usual = ["/var/run/podman/podman.sock", "/run/podman/podman.sock"].map(PathBuf::from);
        let found = usual.iter().find(|it| it.exists()).cloned();
        found.unwrap_or_else(|| usual[0].clone())
    });
    let mut engines = BTreeMap::new();
    let (mut reasons, mut absent) = (Vec::new(), Vec::new());
    let (docker_named, podman_named) = (options.docker_socket.is_some(), options.podman_socket.is_some());
    // Concurrently, so that a silent engine does not delay the other one.
    let any = watch::Sender::new(false);
    let (to_docker, to_podman) = tokio::join!(
        connect_to(EngineId::Docker, &docker, docker_named, &any),
        connect_to(EngineId::Podman, &podman, podman_named, &any),
    );
    for (id, socket, result, asked_for) in [
        (EngineId::Docker, &docker, to_docker, docker_named),
        (EngineId::Podman, &podman, to_podman, podman_named),
    ] {
        match result {
            Ok(None) => {}
            Ok(Some(engine)) => {
                log::debug!("{id}: connected to {}", socket.display());
                drop(engines.insert(id, engine));
            }
            Err(error) => {
                let reason = format!("{error:#}");
                if asked_for {
                    absent.push(format!("{id}: {reason}"));
                } else if socket.exists() {
                    log::warn!("{id} is not used: {reason}");
                }
                reasons.push(format!("{id}: {reason}"));
            }
        }
    }
    if engines.is_empty() {
        bail!("no container engine answers: {}", reasons.join("; "));
    }
    if !absent.is_empty() {
        bail!("{}", absent.join("; "));
    }
    Ok(engines)
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|it| !it.is_empty())
}
