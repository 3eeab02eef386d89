//! The commands in labels and environment variables `pipework_cmd…` of containers, for an engine that carries them out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::attach::{self, Done};
use crate::daemon::{Change, Follow};
use crate::docker::Running;
use crate::kernel::netns;
use crate::process::Program as Process;
use crate::reconcile::EngineId;
use crate::tools::conlink::guest::Found;
use crate::tools::exec::find;
use crate::tools::pipework::args::{self, Call, Program};
use crate::tools::pipework::refusal::Refusal;
use crate::tools::pipework::{Existing, Unmade, make};

/// The name of the first command.
const NAME: &str = "pipework_cmd";

/// Longest time that `ip` or `tc` may take.
const PATIENCE: Duration = Duration::from_secs(10);

const RETRY: &str = "the command is run again when the container starts again";

/// Starts the thread that carries out commands. Bridges and parents are in the host's network namespace if the engine
/// runs in a container, and otherwise in that of the engine.
///
/// Only containers of the `project` count, unless it is empty.
pub(in crate::tools) fn follow(in_container: bool, project: String) -> io::Result<Follow> {
    let (changes, incoming) = mpsc::channel();
    let place = if in_container { netns::of_process(1)? } else { netns::own()? };
    // A thread begins in the network namespace of the one that starts it.
    netns::inside(&place, || {
        std::thread::Builder::new().name("pipework".to_owned()).spawn(move || serve(&incoming))
    })?;
    let wants = move |it: &Running| {
        let is_ours = project.is_empty() || it.container.project.as_deref() == Some(project.as_str());
        is_ours && !commands(it).is_empty()
    };
    Ok(Follow { wants: Box::new(wants), changes })
}

/// When the host is looked at again after a death: the kernel removes a namespace some time later.
const LATER: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];

fn serve(changes: &mpsc::Receiver<Change>) {
    let mut due: Vec<(Instant, EngineId, String)> = Vec::new();
    loop {
        let next = due.iter().map(|it| it.0).min();
        let change = match next {
            Some(next) => changes.recv_timeout(next.saturating_duration_since(Instant::now())),
            None => changes.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let change = match change {
            Ok(it) => it,
            Err(RecvTimeoutError::Timeout) => {
                let now = Instant::now();
                for (_, engine, name) in due.extract_if(.., |it| it.0 <= now) {
                    sweep(engine, &name);
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        match change {
            Change::Started { engine, container, netns } => {
                // Perhaps it died while no engine ran.
                sweep(engine, &container.container.name);
                for (name, text) in commands(&container) {
                    tell(&container, &name, &text, carry_out(engine, &container, &netns, &text));
                }
            }
            Change::Died { engine, name } => {
                sweep(engine, &name);
                due.extend(LATER.map(|it| (Instant::now() + it, engine, name.clone())));
            }
        }
    }
}

/// Removes what earlier runs of a container have left on the host.
fn sweep(engine: EngineId, name: &str) {
    if let Err(error) = attach::sweep(|it| it.kind == engine.to_string() && it.name == name) {
        log::warn!("{name}: remove what an earlier run has left on the host: {error}");
    }
}

/// The commands of a container in the order of their names, with numbers in them counted as such. Of a label and a
/// variable with the same name, the label counts.
fn commands(container: &Running) -> Vec<(String, String)> {
    let is_command =
        |name: &str| name.strip_prefix(NAME).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    let variables = container.env.iter().filter_map(|it| it.split_once('='));
    let labels = container.labels.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let all: BTreeMap<&str, &str> = variables.chain(labels).filter(|(name, _)| is_command(name)).collect();
    let mut all: Vec<(String, String)> = all
        .into_iter()
        .map(|(name, text)| (name.to_owned(), expand(text, container)))
        .filter(|(_, text)| !text.is_empty())
        .collect();
    all.sort_by_key(|(name, _)| {
        let digits = name.len() - name.trim_end_matches(|it: char| it.is_ascii_digit()).len();
        let (stem, number) = name.split_at(name.len() - digits);
        (stem.to_owned(), number.parse::<u64>().ok())
    });
    all
}

/// The command with its macros replaced and single spaces, without `pipework` in front.
fn expand(text: &str, container: &Running) -> String {
    let it = &container.container;
    let instance = it.name.rsplit(|it: char| !it.is_ascii_digit()).find(|it| !it.is_empty());
    let words: Vec<String> = text
        .split_whitespace()
        .map(|word| {
            word.replace("@CONTAINER_NAME@", &it.name)
                .replace("@CONTAINER_ID@", it.id.short())
                .replace("@HOSTNAME@", &container.hostname)
                .replace("@INSTANCE@", instance.unwrap_or_default())
                .replace("@COMPOSE_PROJECT_NAME@", it.project.as_deref().unwrap_or_default())
        })
        .collect();
    let words = words.join(" ");
    words.strip_prefix("pipework ").unwrap_or(&words).to_owned()
}

/// What a command has done.
enum Outcome {
    Attached(String),
    Unchanged(String),
    Ran,
}

fn carry_out(engine: EngineId, container: &Running, netns: &File, command: &str) -> Result<Outcome, Unmade> {
    let words: Vec<OsString> = command.split_whitespace().map(OsString::from).collect();
    match args::parse(&words)? {
        Call::Attach(request) => {
            check_guest(&request.guest, engine, container)?;
            let found = || {
                let netns = netns.try_clone()?;
                let kind = if engine == EngineId::Podman { "podman" } else { "docker" };
                Ok(Ok(Found::of_container(kind, &container.container.name, container.pid, netns)))
            };
            Ok(match make(&request, found, Existing::Compared)? {
                (dev, Done::Unchanged) => Outcome::Unchanged(dev.to_string()),
                (dev, Done::Made | Done::Changed) => Outcome::Attached(dev.to_string()),
            })
        }
        Call::Pass { program, guest, args } => {
            check_guest(&guest, engine, container)?;
            run(program, args, netns)?;
            Ok(Outcome::Ran)
        }
        Call::Usage => Err(Refusal::new("a word is missing").into()),
        Call::Help(_) | Call::Wait { .. } | Call::Detach { .. } => {
            Err(Refusal::new("expected a command that attaches an interface, or `route`, `rule` or `tc`")
                .into())
        }
    }
}

/// A container has no business in the network of another.
fn check_guest(word: &str, engine: EngineId, container: &Running) -> Result<(), Refusal> {
    let (name, id) = (&container.container.name, &container.container.id);
    let bare = word.strip_prefix(&format!("{engine}:")).unwrap_or(word);
    let is_it = bare == name || bare.len() >= id.short().len() && id.as_str().starts_with(bare);
    match is_it {
        true => Ok(()),
        false => Err(Refusal::new(format!(
            "expected this container, found `{word}`; write `@CONTAINER_NAME@` in its place"
        ))),
    }
}

/// Runs a program of the machine, or of the engine's image, in the network namespace of a container.
fn run(program: Program, args: Vec<OsString>, inside: &File) -> anyhow::Result<()> {
    let (name, first) = program.words().split_first().unwrap_or((&"", &[]));
    let file = find(name.as_ref()).ok_or_else(|| anyhow::anyhow!("`{name}` is not installed"))?;
    let words = first.iter().map(OsString::from).chain(args);
    let process = words.fold(Process::new(file), Process::arg);
    Ok(netns::inside(inside, || Ok(process.run(PATIENCE)))??)
}

/// Logs what has become of a command.
fn tell(container: &Running, label: &str, command: &str, outcome: Result<Outcome, Unmade>) {
    let name = &container.container.name;
    let (error, hint) = match outcome {
        Ok(Outcome::Attached(dev)) => return log::info!("{name}: attached {dev}: {label} `{command}`"),
        Ok(Outcome::Unchanged(dev)) => return log::info!("{name}: {dev} is attached: {label} `{command}`"),
        Ok(Outcome::Ran) => return log::info!("{name}: done: {label} `{command}`"),
        Err(Unmade::Refused(it)) => (it.text().to_owned(), None),
        Err(Unmade::Core(it)) => (it.to_string(), it.help().map(str::to_owned)),
        Err(Unmade::Failed(it)) => (format!("{it:#}"), crate::tools::hint(&it).map(str::to_owned)),
    };
    log::error!("{name}: {label} `{command}`: {error}");
    for it in hint.iter().map(String::as_str).chain([RETRY]) {
        log::info!("hint: {it}");
    }
}
