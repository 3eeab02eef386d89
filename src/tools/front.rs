//! The command line as a whole: every tool and subcommand, for help, completion scripts and manual pages.

use std::ffi::OsString;

use anyhow::Context;
use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap_complete::Shell;

use crate::words::near;
use crate::{TOOLS, Usage, err, written};

/// Every command by what it is for, in the order of `conlink --help`.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Configuration", &["check", "net2dot", "schema"]),
    ("Running networks", &["status", "diff", "healthcheck", "link down", "link up"]),
    ("One interface at once", &["attach", "detach", "attachments"]),
    (
        "Labs without a container engine",
        &["lab up", "lab run", "lab exec", "lab ping", "lab logs", "lab status", "lab list", "lab down"],
    ),
    ("Tools", &["mdc", "resolve-deps", "wait", "copy", "pipework", "echo", "install", "completions", "man"]),
];

/// `conlink` with its subcommands, and every other tool as one more subcommand.
fn whole() -> Command {
    TOOLS[1..].iter().fold((TOOLS[0].command)(), |root, it| root.subcommand((it.command)()))
}

/// What `conlink` parses: [`whole`], with commands in groups in its help.
pub(super) fn command() -> Command {
    let root = whole();
    let width = GROUPS.iter().flat_map(|(_, paths)| *paths).map(|it| it.len()).max().unwrap_or(0);
    let mut groups = String::new();
    for (title, paths) in GROUPS {
        groups += &format!("{title}:\n");
        for path in paths {
            let about = find(&root, path.split(' ')).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            groups += &format!("  {path:<width$}  {about}\n");
        }
        groups += "\n";
    }
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{groups}`conlink help <COMMAND>` describes a command. Without a \
         command, conlink runs the\nengine, which connects containers as they start:\n\n{{all-args}}{{after-help}}"
    );
    root.mut_subcommands(|it| it.hide(true)).help_template(template)
}

/// The command below `root` with these names.
fn find<'a>(root: &'a Command, names: impl IntoIterator<Item = &'a str>) -> Option<&'a Command> {
    names.into_iter().try_fold(root, |it, name| it.find_subcommand(name))
}

/// A tool's own command, as it is started by its own name.
fn tool(name: &str) -> anyhow::Result<Command> {
    if name == "conlink" {
        return Ok(whole());
    }
    let found = TOOLS.iter().find(|it| it.name == name).map(|it| (it.command)());
    let names: Vec<&str> = TOOLS.iter().map(|it| it.name).collect();
    found.ok_or_else(|| Usage(unknown("tool", name, &names)).into())
}

/// The name of each tool, and what it is for.
pub(super) fn list() -> String {
    let about = |it: Command| it.get_about().map(ToString::to_string).unwrap_or_default();
    TOOLS.iter().map(|it| format!("{:<14}{}\n", it.name, about((it.command)()))).collect()
}

/// What a completion script of `conlink` ends with: the names of what runs are asked for when the Tab key is pressed.
const NAMES_IN_BASH: &str = r#"
_conlink_with_names() {
    local line=${COMP_LINE:0:COMP_POINT} words names
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    mapfile -t names < <(conlink complete -- "${words[@]:1}" 2>/dev/null)
    # Readline replaces what follows the last colon only.
    local last=${words[-1]}
    COMPREPLY=("${names[@]#"${last%"${last##*:}"}"}")
    ((${#COMPREPLY[@]})) || _conlink "$@"
}
complete -F _conlink_with_names -o nosort -o bashdefault -o default conlink
"#;
/// Stands in front of what zsh runs when it loads the script.
const NAMES_IN_ZSH: &str = r#"_conlink_with_names() {
    local -a names
    names=(${(f)"$(conlink complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (($#names)); then compadd -a names; else _conlink "$@"; fi
}
"#;
const NAMES_IN_FISH: &str = r#"
function __conlink_names
    conlink complete -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null
end
complete -c conlink -n 'count (__conlink_names) >/dev/null' -f -a '(__conlink_names)'
"#;

/// The completion script of a tool.
pub(super) fn completions(shell: Shell, name: &str) -> anyhow::Result<String> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut tool(name)?, name, &mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(match (name, shell) {
        ("conlink", Shell::Bash) => text + NAMES_IN_BASH,
        ("conlink", Shell::Fish) => text + NAMES_IN_FISH,
        ("conlink", Shell::Zsh) => {
            let (functions, start) = text.split_once("if [ \"$funcstack[1]\"").unwrap_or((&text, ""));
            let start = start
                .replace(
                    r#"_conlink "$@""#,
                    "compdef _conlink_with_names conlink\n    _conlink_with_names \"$@\"",
                )
                .replace("compdef _conlink ", "compdef _conlink_with_names ");
            format!("{functions}{NAMES_IN_ZSH}if [ \"$funcstack[1]\"{start}")
        }
        _ => text,
    })
}

/// The manual page of `conlink`, or of the command with these names.
pub(super) fn manual(names: &[String]) -> anyhow::Result<String> {
    let mut root = whole().disable_help_subcommand(true);
    root.build();
    let path = names.join(" ");
    let command = find(&root, names.iter().map(String::as_str))
        .ok_or_else(|| Usage(unknown("command", &path, &all_paths(&root))))?;
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Writes the manual pages of all commands into a directory.
pub(super) fn manuals(dir: &std::path::Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    clap_mangen::generate_to(whole().disable_help_subcommand(true), dir)
        .with_context(|| format!("write manual pages to {}", dir.display()))
}

/// The commands that have no subcommands, such as `lab up`.
fn all_paths(root: &Command) -> Vec<&'static str> {
    let paths = GROUPS.iter().flat_map(|(_, paths)| paths.iter().copied());
    paths.filter(|it| find(root, it.split(' ')).is_some()).collect()
}

/// ``unknown WHAT `nmae`; did you mean `name`?``
pub(crate) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    match near(name, known) {
        Some(near) => format!("unknown {what} `{name}`; did you mean `{near}`?"),
        None => format!("unknown {what} `{name}`; expected {}", crate::words::listed(known)),
    }
}

/// `help` with its own `--help` left out: clap takes it for a subcommand.
pub(super) fn without_help_of_help(mut args: Vec<OsString>) -> Vec<OsString> {
    if args.get(1).is_some_and(|it| it == "help") {
        args.retain(|it| it != "--help" && it != "-h");
    }
    args
}

/// Why a command line is not carried out.
#[derive(Debug)]
pub(crate) enum BadArgs {
    /// Includes requests for help or the version.
    Clap(clap::Error),
    /// Every error in the values.
    Values(Vec<String>),
}

impl BadArgs {
    /// Prints the help or the errors. Returns the exit code.
    pub(crate) fn print(self) -> anyhow::Result<u8> {
        match self {
            Self::Clap(error) => print_clap(error),
            Self::Values(mistakes) => {
                err(&mistakes.iter().map(|it| format!("error: {it}\n")).collect::<String>());
                Ok(crate::USAGE)
            }
        }
    }
}

/// Prints the help or the usage error that clap has for the command line. Returns the exit code.
pub(crate) fn print_clap(mut error: clap::Error) -> anyhow::Result<u8> {
    // An unknown option is a mistake, and the tip to pass it as a value leads away from it.
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::StyledStrs(tips)) = error.remove(ContextKind::Suggested)
    {
        let tips: Vec<_> = tips.into_iter().filter(|it| !it.to_string().starts_with("to pass ")).collect();
        if !tips.is_empty() {
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
        }
    }
    written(error.print())?;
    Ok(error.exit_code().try_into().unwrap_or(crate::USAGE))
}

/// Prints what [`print_clap`] prints, and our own message for an unknown subcommand in `args`, with the program first.
pub(super) fn print_clap_of_conlink(error: clap::Error, args: &[OsString]) -> anyhow::Result<u8> {
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand) else {
        return print_clap(error);
    };
    let root = whole();
    let words = args.iter().skip(1).filter_map(|it| it.to_str()).filter(|it| *it != "help");
    let parents: Vec<&str> = words.take_while(|it| it != name).collect();
    let parent = find(&root, parents.iter().copied());
    let known: Vec<&str> = parent
        .unwrap_or(&root)
        .get_subcommands()
        .filter(|it| !it.is_hide_set())
        .map(Command::get_name)
        .collect();
    let near = near(name, &known).map(|it| format!("; did you mean `{it}`?"));
    err(&format!("error: unknown subcommand `{name}`{}\n", near.as_deref().unwrap_or_default()));
    if near.is_none() {
        let path: String =
            parent.map_or(String::new(), |_| parents.iter().map(|it| format!(" {it}")).collect());
        err(&format!("hint: `conlink{path} --help` lists all subcommands\n"));
    }
    Ok(crate::USAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of all commands below that have no subcommands.
    fn leaves(command: &Command, prefix: &str, into: &mut Vec<String>) {
        for it in command.get_subcommands().filter(|it| it.get_name() != "help" && !it.is_hide_set()) {
            let path = format!("{prefix}{}", it.get_name());
            match it.has_subcommands() {
                true => leaves(it, &format!("{path} "), into),
                false => into.push(path),
            }
        }
    }

    #[test]
    fn the_help_has_every_command_once() {
        let mut all = Vec::new();
        leaves(&whole(), "", &mut all);
        let mut listed: Vec<&str> = GROUPS.iter().flat_map(|(_, paths)| paths.iter().copied()).collect();
        all.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, all);
    }

    #[test]
    fn zsh_asks_for_names_from_the_first_press_of_the_tab_key() {
        let script = completions(Shell::Zsh, "conlink").unwrap();
        let (_, start) = script.split_once("\nif [ \"$funcstack[1]\"").unwrap();
        assert_eq!(start.matches("_conlink_with_names").count(), 3, "{start}");
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
        for it in TOOLS {
            (it.command)().debug_assert();
        }
    }

    #[test]
    fn every_command_and_every_option_has_a_help_text_without_a_full_stop() {
        fn check(command: &Command, wrong: &mut Vec<String>) {
            let name = command.get_name();
            let mut look = |what: &str, text: Option<String>| match text {
                None => wrong.push(format!("{name} {what}: no text")),
                Some(it) if it.ends_with('.') => wrong.push(format!("{name} {what}: {it}")),
                Some(_) => {}
            };
            look("about", command.get_about().map(ToString::to_string));
            for it in command.get_arguments() {
                look(it.get_id().as_str(), it.get_help().map(ToString::to_string));
            }
            for it in command.get_subcommands() {
                check(it, wrong);
            }
        }
        let mut wrong = Vec::new();
        check(&whole(), &mut wrong);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
