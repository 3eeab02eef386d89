//! `conlink install DIR [NAME…]`: the binary once, and a link for each tool.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Parser;

use crate::{TOOLS, print_clap};

/// Puts the binary into DIR as `conlink`, and each tool beside it as a link to it.
#[derive(Debug, Parser)]
#[command(name = "conlink install")]
struct Args {
    /// The folder, made when it is not there.
    dir: PathBuf,
    /// Tools or their aliases [default: all of them, under each name]
    names: Vec<OsString>,
}

pub(crate) fn main(args: Vec<OsString>) -> anyhow::Result<u8> {
    let args = match Args::try_parse_from(args) {
        Ok(it) => it,
        Err(error) => {
            return print_clap(&error);
        }
    };
    let known: Vec<&str> =
        TOOLS.iter().flat_map(|it| [it.name].into_iter().chain(it.aliases.iter().copied())).collect();
    let names: Vec<&OsStr> = if args.names.is_empty() {
        known.iter().map(OsStr::new).collect()
    } else {
        args.names.iter().map(OsString::as_os_str).collect()
    };
    for name in &names {
        if !known.iter().any(|it| name == it) {
            bail!("no tool is named `{}`; there are: {}", name.display(), known.join(" "));
        }
    }
    fs::create_dir_all(&args.dir).with_context(|| format!("make folder {}", args.dir.display()))?;
    let binary = std::env::current_exe().context("find the running binary")?;
    let target = args.dir.join("conlink");
    put(&target, |beside| {
        fs::copy(&binary, beside).with_context(|| format!("copy {}", binary.display()))?;
        Ok(fs::set_permissions(beside, fs::Permissions::from_mode(0o755))?)
    })?;
    for name in names.into_iter().filter(|it| *it != "conlink") {
        put(&args.dir.join(name), |beside| Ok(symlink("conlink", beside)?))?;
    }
    Ok(0)
}

/// Makes a file beside its place and moves it there: whoever starts it meanwhile gets the old one or the new one.
fn put(target: &Path, make: impl Fn(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut beside = target.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    make(&beside)
        .and_then(|()| Ok(fs::rename(&beside, target)?))
        .inspect_err(|_| drop(fs::remove_file(&beside)))
        .with_context(|| format!("put {}", target.display()))
}
