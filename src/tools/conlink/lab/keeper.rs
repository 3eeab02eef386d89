//! The keeper of a lab: process 1 of the lab's process namespace, which runs the loop that wires the nodes.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, bail};

use crate::config::Env;
use crate::daemon::{self, LabSetup, Mode, Setup};
use crate::kernel::{Kernel, netns};
use crate::lab::{Lab, at};
use crate::network::Defaults;
use crate::plan::Ns;
use crate::process::node::{Rights, detach};
use crate::process::{Capability, has_capability, raise_file_limit};
use crate::reconcile::Own;
use crate::tools::conlink::files::describe;
use crate::tools::conlink::lab::ask;
use crate::tools::conlink::lab::dir::{Claim, LabDir};
use crate::{err, out};

/// Starts the keeper of a lab that has none, and waits until it is listening. With `tie`, the lab ends when the other end
/// of the pipe is closed.
pub(super) fn start(dir: &LabDir, claim: &Claim, tie: Option<PipeReader>) -> anyhow::Result<()> {
    let (mut said, tell) = std::io::pipe().context("make a pipe")?;
    let host = netns::own().context("open the network namespace")?;
    let rights = if may_make_namespaces() { Rights::Ours } else { Rights::OwnUser };
    // No other command may talk to a keeper that is not listening yet, even if this process ends.
    let claim = claim.share().context("share the claim")?;
    // All other files are closed, since the keeper outlives this process.
    let kept = [tell.as_raw_fd(), host.as_raw_fd(), claim.as_raw_fd()].into_iter();
    let kept: Vec<i32> = kept.chain(tie.iter().map(AsRawFd::as_raw_fd)).collect();
    let tie = tie.map(OwnedFd::from);
    let main = || {
        let mut tell = Some(tell);
        match keep(dir, rights, host, tie, claim, &mut tell) {
            Ok(code) => i32::from(code),
            Err(error) => {
                let text = format!("{error:#}");
                err(&format!("error: {text}\n"));
                if let Some(mut tell) = tell {
                    let _ = tell.write_all(text.as_bytes());
                }
                1
            }
        }
    };
    detach(rights, &kept, main).with_context(|| match rights {
        Rights::Ours => "start the lab".to_owned(),
        Rights::OwnUser => "start the lab as an ordinary user, which needs user namespaces".to_owned(),
    })?;
    let mut text = String::new();
    said.read_to_string(&mut text).context("read from the lab's keeper")?;
    match text.strip_prefix("ok") {
        Some(_) => Ok(()),
        None if text.is_empty() => {
            bail!("the lab's keeper ended at its start; see its log {}", dir.folder().join("log").display())
        }
        None => bail!("start the lab: {text}"),
    }
}

/// Whether this process has the capabilities to make namespaces of every kind.
fn may_make_namespaces() -> bool {
    has_capability(Capability::NetAdmin) && has_capability(Capability::SysAdmin)
}

/// Runs the keeper. Returns its exit code.
fn keep(
    dir: &LabDir,
    rights: Rights,
    host: File,
    tie: Option<OwnedFd>,
    claim: OwnedFd,
    tell: &mut Option<PipeWriter>,
) -> anyhow::Result<u8> {
    let lock = dir.keep()?;
    let path = dir.folder().join("log");
    let log = OpenOptions::new().create(true).append(true).open(&path).map_err(|it| at(&path, &it))?;
    let null = File::open("/dev/null").context("open /dev/null")?;
    nix::unistd::dup2_stdin(null)?;
    nix::unistd::dup2_stdout(&log)?;
    nix::unistd::dup2_stderr(&log)?;
    drop(log);
    nix::unistd::chdir("/")?;
    // As container engines do: other users in nodes can read shared files.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    if let Ok(name) = std::ffi::CString::new(format!("conlink: {}", dir.name())) {
        let _ = nix::sys::prctl::set_name(&name);
    }
    raise_file_limit();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let mut kernel = Kernel::new(netns::own().context("open the lab's network namespace")?)?;
    kernel.loopback_up(&Ns::Bridges)?;
    kernel.set_host((rights == Rights::Ours).then_some(host));
    kernel.set_ovs_folder(dir.folder().join("ovs"));
    let defaults = Defaults { project: dir.name().to_owned(), ..Defaults::default() };
    let setup = Setup {
        network: describe(&[], defaults, &Env::default())?.network,
        own: Own {
            project: Some(dir.name().to_owned()),
            marked_as: Some(format!("{}.lab", dir.name())),
            bridges_apart: true,
            no_host: rights != Rights::Ours,
            ..Own::default()
        },
        engines: BTreeMap::new(),
        kernel,
        mode: Mode::Run,
        print: out,
        socket: Some(dir.socket()),
        lab: Some(LabSetup {
            lab: Lab::new(dir.name().to_owned(), dir.folder().to_owned()).context("start the lab")?,
            read: ask::read,
            tie,
            ready: tell.take().map(|it| (it, claim)),
        }),
        follow: None,
    };
    let local = tokio::task::LocalSet::new();
    let code = local.block_on(&runtime, daemon::run(setup))?;
    if code == 0 && dir.is_kept_by(&lock) {
        dir.remove_unclaimed()?;
    }
    Ok(code)
}
