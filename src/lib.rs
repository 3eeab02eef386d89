//! Real networks for containers, from a compose file.
//!
//! How data flows, and the module of each stage:
//!
//! ```text
//! bytes of YAML ──config──► Config ──network──► Network ──┐ × each running container
//!                                                         ▼
//! engine events  ─docker──► Event ─► reconcile ────────► Desired ──┐
//! netlink notices ─kernel─► Event ─►  (pure)                       ├─plan─► [Step, Step, …]
//! signals, timers ─daemon─► Event ─►                    Observed ──┘             │
//!                                                          ▲                     ▼
//!                                                          └ kernel.observe()  kernel.apply(step)
//! ```
//!
//! `docs/architecture.md` has the details. The library exists for the binary and its tests. It is not an API and may
//! change with any version.

pub mod addr;
pub mod api;
pub mod attach;
pub mod compose;
pub mod config;
pub mod container;
pub mod daemon;
pub mod deps;
pub mod device;
pub mod docker;
pub mod dot;
pub mod duration;
pub mod env_file;
pub mod ethtool;
pub mod kernel;
pub mod lab;
pub mod nat;
pub mod netem;
pub mod network;
pub mod plan;
pub mod process;
pub mod reconcile;
pub mod route;
pub mod service;
mod tools;
pub mod wire;
pub mod words;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// A program within the binary.
struct Tool {
    /// The name that selects it, as the file name of the binary or as the first argument.
    name: &'static str,
    /// Names that projects written for the reference tool use.
    aliases: &'static [&'static str],
    /// Its command line.
    command: fn() -> clap::Command,
    /// Runs it. Takes the arguments with its own name first, returns the exit code.
    main: fn(Vec<OsString>) -> anyhow::Result<u8>,
}

/// Every tool. The first is what the binary is under any other name.
const TOOLS: &[Tool] = &[
    Tool {
        name: "conlink",
        aliases: &["conlink.js"],
        command: tools::conlink::command,
        main: tools::conlink::main,
    },
    Tool { name: "copy", aliases: &["copy.sh"], command: tools::copy::command, main: tools::copy::main },
    Tool { name: ECHO, aliases: &[], command: tools::echo::command, main: tools::echo::main },
    Tool { name: "mdc", aliases: &[], command: tools::mdc::command, main: tools::mdc::main },
    Tool { name: "net2dot", aliases: &[], command: tools::net2dot::command, main: tools::net2dot::main },
    Tool { name: "pipework", aliases: &[], command: tools::pipework::command, main: tools::pipework::main },
    Tool {
        name: "resolve-deps",
        aliases: &["resolve-deps.py"],
        command: tools::resolve_deps::command,
        main: tools::resolve_deps::main,
    },
    Tool { name: "wait", aliases: &["wait.sh"], command: tools::wait::command, main: tools::wait::main },
];

/// A tool that only this binary itself calls.
const HIDDEN: &Tool =
    &Tool { name: tools::dhcp::SCRIPT, aliases: &[], command: tools::dhcp::command, main: tools::dhcp::main };

/// The tool for images without any other program.
const ECHO: &str = "echo";

/// The exit code of a usage error: an unknown command or option, a missing or invalid argument.
pub(crate) const USAGE: u8 = 2;

/// A usage error that clap does not know of.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Runs the tool that the arguments name, and prints its error.
///
/// Exit codes: 0 success, 1 failure, 2 usage error. A tool that becomes another program has the exit code of that program.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let (tool, args) = select(args);
    match (tool.main)(args) {
        Ok(code) => ExitCode::from(code),
        // `conlink schema | head -1`: the reader has seen enough.
        Err(error) if error.chain().any(|it| it.is::<OutputClosed>()) => ExitCode::SUCCESS,
        Err(error) => {
            let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
            err(&format!("error: {}\n", chain.join(": ")));
            if let Some(hint) = tools::hint(&error) {
                err(&format!("hint: {hint}\n"));
            }
            if error.is::<Usage>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

/// The tool with that exact name or alias.
fn named(name: &OsStr) -> Option<&'static Tool> {
    TOOLS.iter().chain([HIDDEN]).find(|it| name == it.name || it.aliases.iter().any(|alias| name == *alias))
}

/// The tool is named by the file name of the binary, else by the first argument. Otherwise it is the first in [`TOOLS`].
fn select(mut args: Vec<OsString>) -> (&'static Tool, Vec<OsString>) {
    let engine = &TOOLS[0];
    let called = args.first().and_then(|it| Path::new(it).file_name()).and_then(named).unwrap_or(engine);
    if called.name == engine.name
        && let Some(tool) = args.get(1).and_then(|it| named(it))
    {
        args.remove(0);
        // Usage texts name the command as it was given.
        let name =
            if tool.name == engine.name { engine.name.to_owned() } else { format!("conlink {}", tool.name) };
        args[0] = name.into();
        return (tool, args);
    }
    (called, args)
}

/// The reader of standard output has closed it.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
struct OutputClosed;

/// Writes to standard output.
pub(crate) fn out(text: &str) -> anyhow::Result<()> {
    out_bytes(text.as_bytes())
}

/// The same for data that may not be text.
pub(crate) fn out_bytes(data: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    written(stdout.write_all(data).and_then(|()| stdout.flush()))
}

/// Marks a closed standard output, which is no failure, unlike a broken pipe of any other kind.
pub(crate) fn written(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        result => Ok(result?),
    }
}

/// Writes to standard error, long values shortened. A failure is ignored: there is nowhere to report it.
pub(crate) fn err(text: &str) {
    let _ = io::stderr().lock().write_all(words::shortened(text).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_selected_by_their_exact_name() {
        for (args, tool, rest) in [
            ("/usr/bin/wait -i eth0", "wait", "/usr/bin/wait -i eth0"),
            ("/utils/wait.sh", "wait", "/utils/wait.sh"),
            ("/app/build/conlink.js --once", "conlink", "/app/build/conlink.js --once"),
            ("conlink wait -i x", "wait", "conlink wait -i x"),
            ("conlink conlink --once", "conlink", "conlink --once"),
            ("conlink", "conlink", "conlink"),
            ("conlink check f", "conlink", "conlink check f"),
            ("conlink frob", "conlink", "conlink frob"),
            // `await` is not `wait`: under a name of no tool the binary is the engine.
            ("await -i", "conlink", "await -i"),
            ("/usr/local/bin/pipework br1 c 0/0", "pipework", "/usr/local/bin/pipework br1 c 0/0"),
            ("conlink-3.0 wait.sh", "wait", "conlink wait"),
            ("", "conlink", ""),
        ] {
            let words = |it: &str| it.split_whitespace().map(OsString::from).collect::<Vec<_>>();
            let (found, found_rest) = select(words(args));
            let found_rest: Vec<_> = found_rest.iter().map(|it| it.to_string_lossy()).collect();
            assert_eq!((found.name, found_rest.join(" ").as_str()), (tool, rest), "{args}");
        }
    }
}
