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
//! `docs/architecture.md` tells the story at length. The library is there for the binary and its tests: it is no
//! API, and may change with any version.

pub mod addr;
pub mod api;
pub mod compose;
pub mod config;
pub mod container;
pub mod daemon;
pub mod deps;
pub mod device;
pub mod docker;
pub mod dot;
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
    /// The exact name that selects it, as file name or as first argument.
    name: &'static str,
    /// Names that projects written for the reference tool use.
    aliases: &'static [&'static str],
    about: &'static str,
    /// Takes the arguments with its own name first; answers the exit code.
    main: fn(Vec<OsString>) -> anyhow::Result<u8>,
}

/// Every tool, by name.
const TOOLS: &[Tool] = &[
    Tool {
        name: "conlink",
        aliases: &["conlink.js"],
        about: "wires containers as their compose file describes",
        main: tools::conlink::main,
    },
    Tool {
        name: "copy",
        aliases: &["copy.sh"],
        about: "overlays a templated file tree, then runs a command",
        main: tools::copy::main,
    },
    Tool { name: ECHO, aliases: &[], about: "prints its arguments", main: tools::echo::main },
    Tool {
        name: "mdc",
        aliases: &[],
        about: "assembles a compose project from modes",
        main: tools::mdc::main,
    },
    Tool { name: "net2dot", aliases: &[], about: "draws the network", main: tools::net2dot::main },
    Tool {
        name: "resolve-deps",
        aliases: &["resolve-deps.py"],
        about: "resolves the dependencies between modes",
        main: tools::resolve_deps::main,
    },
    Tool {
        name: "wait",
        aliases: &["wait.sh"],
        about: "waits for interfaces, addresses, files or ports, then runs a command",
        main: tools::wait::main,
    },
];

/// The tool that exists for images without any other program.
const ECHO: &str = "echo";

/// Usage errors: an unknown tool or option.
pub(crate) const USAGE: u8 = 2;

/// Runs the tool that the arguments name and prints what it fails with.
///
/// Exit codes: 0 done, 1 failed, 2 usage; a tool that becomes another program has that one's.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let result = match select(&args) {
        Selected::Tool(tool, args) => (tool.main)(args),
        Selected::List => out(&list()).map(|()| 0),
        Selected::Install(args) => tools::install::main(args),
        Selected::Unknown(name) => {
            err(&format!("error: no tool is named `{}`; there are:\n{}", name.display(), list()));
            Ok(USAGE)
        }
    };
    match result {
        Ok(code) => ExitCode::from(code),
        // `conlink schema | head -1`: the reader has seen enough.
        Err(error) if error.chain().any(|it| it.is::<OutputClosed>()) => ExitCode::SUCCESS,
        Err(error) => {
            let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
            err(&format!("error: {}\n", chain.join(": ")));
            if let Some(hint) = tools::hint(&error) {
                err(&format!("hint: {hint}\n"));
            }
            ExitCode::FAILURE
        }
    }
}

enum Selected {
    Tool(&'static Tool, Vec<OsString>),
    List,
    Install(Vec<OsString>),
    Unknown(OsString),
}

/// The tool of that exact name, or alias.
fn named(name: &OsStr) -> Option<&'static Tool> {
    TOOLS.iter().find(|it| name == it.name || it.aliases.iter().any(|alias| name == *alias))
}

/// By the file name that we were called by, else by the first argument. A file name of no tool is the binary itself.
fn select(args: &[OsString]) -> Selected {
    let engine = &TOOLS[0];
    let called = args.first().and_then(|it| Path::new(it).file_name()).and_then(named).unwrap_or(engine);
    if called.name != engine.name {
        return Selected::Tool(called, args.to_vec());
    }
    let Some(first) = args.get(1) else {
        return Selected::Tool(engine, args.to_vec());
    };
    if first == "--list" {
        return Selected::List;
    }
    if first == "install" {
        return Selected::Install(args[1..].to_vec());
    }
    if let Some(tool) = named(first) {
        return Selected::Tool(tool, args[1..].to_vec());
    }
    let is_option = first.as_encoded_bytes().starts_with(b"-") || first.is_empty();
    if is_option || tools::conlink::SUBCOMMANDS.iter().any(|it| first == *it) {
        return Selected::Tool(engine, args.to_vec());
    }
    Selected::Unknown(first.clone())
}

fn list() -> String {
    TOOLS.iter().map(|it| format!("{:<14}{}\n", it.name, it.about)).collect()
}

/// Nobody reads our standard output any more.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
struct OutputClosed;

/// Writes data for the next program in the pipe.
pub(crate) fn out(text: &str) -> anyhow::Result<()> {
    out_bytes(text.as_bytes())
}

/// The same for data that may not be text.
pub(crate) fn out_bytes(data: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    written(stdout.write_all(data).and_then(|()| stdout.flush()))
}

/// Prints the help or the usage error that clap has for the command line. Returns the exit code.
pub(crate) fn print_clap(error: &clap::Error) -> anyhow::Result<u8> {
    written(error.print())?;
    Ok(error.exit_code().try_into().unwrap_or(USAGE))
}

/// Tells a closed standard output from a broken pipe of any other kind, such as a socket's.
fn written(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        result => Ok(result?),
    }
}

/// Writes to the person at the terminal; there is nobody to tell when that fails.
pub(crate) fn err(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(args: &[&str]) -> String {
        let args: Vec<OsString> = args.iter().map(Into::into).collect();
        match select(&args) {
            Selected::Tool(tool, rest) => format!("{} {rest:?}", tool.name),
            Selected::List => "list".into(),
            Selected::Install(rest) => format!("install {rest:?}"),
            Selected::Unknown(name) => format!("unknown {name:?}"),
        }
    }

    #[test]
    fn tools_are_selected_by_their_exact_name() {
        for (args, expected) in [
            (vec!["/usr/bin/wait", "-i", "eth0"], r#"wait ["/usr/bin/wait", "-i", "eth0"]"#),
            (vec!["/utils/wait.sh"], r#"wait ["/utils/wait.sh"]"#),
            (vec!["/app/build/conlink.js", "--once"], r#"conlink ["/app/build/conlink.js", "--once"]"#),
            (vec!["conlink", "wait", "-i", "x"], r#"wait ["wait", "-i", "x"]"#),
            (vec!["conlink", "conlink", "--once"], r#"conlink ["conlink", "--once"]"#),
            (vec!["conlink"], r#"conlink ["conlink"]"#),
            (vec!["conlink", "check", "f"], r#"conlink ["conlink", "check", "f"]"#),
            (vec!["/utils/echo", "-n"], r#"echo ["/utils/echo", "-n"]"#),
            (vec!["conlink", "--list"], "list"),
            (vec!["conlink", "install", "d"], r#"install ["install", "d"]"#),
            (vec!["conlink", "frob"], r#"unknown "frob""#),
            // `await` is not `wait`: a name of no tool is the binary under another name.
            (vec!["await", "-i"], r#"conlink ["await", "-i"]"#),
            (vec!["conlink-3.0", "wait"], r#"wait ["wait"]"#),
            (vec![], "conlink []"),
        ] {
            assert_eq!(selected(&args), expected, "{args:?}");
        }
    }
}
