//! `conlink install`: one copy of the binary, and a symbolic link to it for each tool.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::tools::front::unknown;
use crate::{ECHO, TOOLS, Usage};

/// Install the binary and a hard link to it for each tool into a directory
#[derive(Debug, Args)]
pub(super) struct InstallArgs {
    /// Directory; created if it is missing
    dir: PathBuf,
    /// Tools or their aliases [default: all of them except `echo`, by every name]
    #[arg(value_name = "NAME")]
    names: Vec<OsString>,
}

pub(super) fn main(args: &InstallArgs) -> anyhow::Result<u8> {
    let known: Vec<&str> =
        TOOLS.iter().flat_map(|it| [it.name].into_iter().chain(it.aliases.iter().copied())).collect();
    let names: Vec<&OsStr> = if args.names.is_empty() {
        // A folder in PATH keeps the `echo` that it has.
        known.iter().filter(|it| **it != ECHO).map(OsStr::new).collect()
    } else {
        args.names.iter().map(OsString::as_os_str).collect()
    };
    if let Some(name) = names.iter().find(|name| !known.iter().any(|it| *name == it)) {
        return Err(Usage(unknown("tool", &name.to_string_lossy(), &known)).into());
    }
    fs::create_dir_all(&args.dir).with_context(|| format!("create {}", args.dir.display()))?;
    // In a lab it may run from memory, without a path.
    let binary = Path::new("/proc/self/exe");
    let target = args.dir.join("conlink");
    put(&target, |beside| {
        fs::copy(binary, beside).with_context(|| format!("copy {}", binary.display()))?;
        Ok(fs::set_permissions(beside, fs::Permissions::from_mode(0o755))?)
    })?;
    for name in names.into_iter().filter(|it| *it != "conlink") {
        put(&args.dir.join(name), |beside| match fs::hard_link(&target, beside) {
            // File systems without hard links.
            Err(_) => Ok(fs::copy(&target, beside).map(drop)?),
            Ok(()) => Ok(()),
        })?;
    }
    Ok(0)
}

/// Creates a file next to `target` and renames it, so that a program started meanwhile is the old one or the new one.
fn put(target: &Path, make: impl Fn(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut beside = target.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    make(&beside)
        .and_then(|()| Ok(fs::rename(&beside, target)?))
        // Renaming one link to a file over another does nothing: `install DIR wait wait`.
        .inspect(|()| drop(fs::remove_file(&beside)))
        .inspect_err(|_| drop(fs::remove_file(&beside)))
        .with_context(|| format!("write {}", target.display()))
}
