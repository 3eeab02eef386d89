//! The first process of a node, from its start to the execution of the program.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::unistd::{ForkResult, Gid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, fork};

use crate::process::Capability;
use crate::process::handed_on::{close_files_but, restore_file_limit};
use crate::process::node::cover::cover_root;
use crate::process::node::enter::join;
use crate::process::node::{Bind, Net, Privileges, Setup, User, leave, mounts, next_ended, say};
use crate::process::program::{find, is_executable};

/// Why a node cannot be started.
type Why = String;

/// Sets the node up and executes the program. Never returns to the caller of [`clone`](super::clone).
pub(super) fn live(setup: &Setup, net: Net<'_>, output: BorrowedFd<'_>, talk: &OwnedFd) -> ! {
    let why = match prepare(setup, net, output, talk) {
        Err(why) => why,
        Ok(()) => match become_program(setup, talk) {
            Err(why) => why,
            Ok(it) => match it {},
        },
    };
    say(talk, b'f', &why, None);
    leave(126)
}

fn prepare(setup: &Setup, net: Net<'_>, output: BorrowedFd<'_>, talk: &OwnedFd) -> Result<(), Why> {
    let because = |what: &str| {
        let what = what.to_owned();
        move |it: nix::Error| format!("{what}: {}", it.desc())
    };
    reset_signals();
    restore_file_limit();
    // Files of the keeper: if they stayed open here, connections and other nodes' networks would not end when the
    // keeper closes them.
    let of = match net {
        Net::Own => None,
        Net::Of(of) => Some(of.as_raw_fd()),
    };
    close_files_but(
        &[Some(talk.as_raw_fd()), Some(output.as_raw_fd()), of].into_iter().flatten().collect::<Vec<_>>(),
    );
    nix::unistd::setsid().map_err(because("start a session"))?;
    if let Net::Of(of) = net {
        join(of, CloneFlags::CLONE_NEWNET).map_err(because("share the network"))?;
    }
    let netns = File::open("/proc/self/ns/net").map_err(|it| format!("open the network namespace: {it}"))?;
    let own_root = |it: io::Error| format!("set up the private root file system: {it}");
    let covered = setup.layer.as_deref().map(cover_root).transpose().map_err(own_root)?;
    covered.iter().flat_map(|it| &it.notes).for_each(|it| say(talk, b'n', it, None));
    let root = covered.map(|it| it.root);
    // The sources of mounts are on the host, the targets in the node.
    let binds =
        setup.binds.iter().map(|it| (it.target.as_path(), What::Bind(it, mounts::source(&it.source))));
    let tmpfs = setup.tmpfs.iter().map(|(path, options)| (Path::new(path), What::Tmpfs(options)));
    let hidden = setup.hidden.iter().map(|it| (it.as_path(), What::Nothing));
    let mut all: Vec<(&Path, What<'_>)> = binds.chain(tmpfs).chain(hidden).collect();
    // Outer ones first, because they would hide the inner ones.
    all.sort_by_key(|(target, _)| *target);
    let mount_all = || {
        for (target, what) in all {
            mount(setup, target, what).unwrap_or_else(|note| say(talk, b'n', &note, None));
        }
    };
    match &root {
        Some(root) => mounts::enter_root(root, mount_all).map_err(own_root)?,
        None => mount_all(),
    }
    for missing in mounts::mount_kernel_views(matches!(net, Net::Own)) {
        say(talk, b'n', &format!("{missing} is shared with the host: the kernel refuses a new mount"), None);
    }
    if !setup.privileges.may_mount() {
        mounts::guard_kernel_views();
    }
    if setup.layer.is_some() && setup.needs_folder {
        // As container engines do. Programs report a failure.
        let _ = fs::create_dir_all(&setup.folder);
    }
    nix::unistd::sethostname(&setup.hostname).map_err(because("set the host name"))?;
    if let Some(domain) = &setup.domainname {
        set_domainname(domain).map_err(|it| format!("set the domain name: {it}"))?;
    }
    // Before there are interfaces, because `net.ipv6.conf.default.…` affects new ones only.
    for (key, value) in setup.sysctls.iter().filter(|(key, _)| !is_of_interface(key)) {
        set_sysctl(key, value).unwrap_or_else(|it| say(talk, b'n', &it, None));
    }
    // Of the node: it may change the owner and mode of files that its processes have open.
    let null = File::open("/dev/null").map_err(|it| format!("open /dev/null: {it}"))?;
    dup2_stdin(null).and(dup2_stdout(output)).and(dup2_stderr(output)).map_err(because("open the log"))?;
    say(talk, b'r', "", Some(&netns));
    drop(netns);
    wait_to_be_told(talk)?;
    for (key, value) in setup.sysctls.iter().filter(|(key, _)| is_of_interface(key)) {
        set_sysctl(key, value).unwrap_or_else(|it| say(talk, b'n', &it, None));
    }
    Ok(())
}

/// A mount.
enum What<'a> {
    Bind(&'a Bind, io::Result<File>),
    /// A tmpfs with these options.
    Tmpfs(&'a str),
    /// An empty folder, if there is a folder.
    Nothing,
}

/// Mounts `what`. The error is a note for the user.
fn mount(setup: &Setup, target: &Path, what: What<'_>) -> Result<(), Why> {
    let may_make = setup.layer.is_some();
    match what {
        What::Bind(it, source) => source
            .and_then(|source| mounts::bind(&source, it, may_make))
            .map_err(|error| bind_note(setup, it, &error)),
        What::Tmpfs(options) => mounts::tmpfs(target, options, may_make)
            .map_err(|error| format!("tmpfs {}: {error}", target.display())),
        What::Nothing if !target.is_dir() => Ok(()),
        What::Nothing => {
            mounts::hide(target).map_err(|error| format!("{} is not hidden: {error}", target.display()))
        }
    }
}

fn bind_note(setup: &Setup, it: &Bind, error: &io::Error) -> String {
    let (source, target) = (it.source.display(), it.target.display());
    if setup.layer.is_none() && !it.target.exists() {
        return format!(
            "volume {target} is not mounted: no such file or directory (--private-root creates it)"
        );
    }
    format!("volume {source} at {target} is not mounted: {error}")
}

/// Is it a setting of one interface, which does not exist before its link?
fn is_of_interface(key: &str) -> bool {
    let mut parts = key.split('.').skip(2);
    parts.next().is_some_and(|it| it == "conf" || it == "neigh")
        && parts.next().is_some_and(|it| it != "all" && it != "default")
}

/// The file of a sysctl. In `net.ipv4.conf.eth0/100.forwarding` the slash stands for a dot of the file name (`sysctl(8)`).
fn sysctl_file(key: &str) -> PathBuf {
    let parts = key.split('.').map(|it| it.replace('/', "."));
    Path::new("/proc/sys").join(parts.collect::<PathBuf>())
}

fn set_sysctl(key: &str, value: &str) -> Result<(), Why> {
    fs::write(sysctl_file(key), value).map_err(|it| format!("sysctl {key}={value}: {it}"))
}

#[expect(unsafe_code, reason = "no crate offers it")]
fn set_domainname(name: &str) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as the slice has.
    match unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Resets the handlers and masks that were copied from the other process.
pub(super) fn reset_signals() {
    let _ = SigSet::empty().thread_set_mask();
    for it in Signal::iterator() {
        #[expect(unsafe_code, reason = "no crate offers a safe way")]
        // SAFETY: the default action runs no code of ours.
        let _ = unsafe { signal(it, SigHandler::SigDfl) };
    }
}

/// Waits for the start message. The end of the stream means that the parent has ended.
fn wait_to_be_told(talk: &OwnedFd) -> Result<(), Why> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    loop {
        let mut files = [PollFd::new(talk.as_fd(), PollFlags::POLLIN)];
        match poll(&mut files, PollTimeout::NONE) {
            Ok(_) => {}
            Err(nix::Error::EINTR) => continue,
            Err(error) => return Err(format!("wait: {error}")),
        }
        let mut word = [0; 8];
        return match nix::unistd::read(talk, &mut word) {
            Ok(0) | Err(nix::Error::ECONNRESET) => leave(125),
            Ok(_) => Ok(()),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => continue,
            Err(error) => Err(format!("wait: {error}")),
        };
    }
}

fn become_program(setup: &Setup, talk: &OwnedFd) -> Result<Infallible, Why> {
    if let Err(why) = enter_folder(setup) {
        if setup.needs_folder {
            return Err(why);
        }
        if !setup.argv.is_empty() {
            say(talk, b'n', &format!("{why}: using / instead"), None);
        }
        chdir("/").map_err(|it| it.to_string())?;
    }
    if setup.argv.is_empty() {
        idle(setup, talk);
    }
    let Some(program) = Program::find(setup) else {
        let name = setup.argv.first().map(String::as_str).unwrap_or_default();
        say(talk, b'n', &format!("program `{name}` not found: the node idles"), None);
        idle(setup, talk);
    };
    limit(setup, talk);
    if setup.init {
        attend(setup);
    }
    if let Some(user) = &setup.user {
        // Programs that write to `/dev/stdout` open the file again.
        let _ =
            nix::unistd::fchown(io::stdout(), Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)));
        change_user(user)?;
    }
    lower(setup)?;
    program.exec(setup)
}

/// Changes to the program's working directory.
pub(super) fn enter_folder(setup: &Setup) -> Result<(), Why> {
    chdir(&setup.folder).map_err(|it| format!("working directory {}: {}", setup.folder.display(), it.desc()))
}

/// Limits the privileges of the program.
fn limit(setup: &Setup, talk: &OwnedFd) {
    if let Err(error) = setup.privileges.limit() {
        say(talk, b'n', &format!("its privileges are not limited: {error}"), None);
    }
}

pub(super) fn lower(setup: &Setup) -> Result<(), Why> {
    setup.privileges.lower().map_err(|it| format!("give up capabilities: {it}"))
}

/// An executable file with its arguments.
pub(super) struct Program {
    path: PathBuf,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    /// Searches the PATH of the program's environment. None if there is no such program.
    pub(super) fn find(setup: &Setup) -> Option<Self> {
        let name = setup.argv.first()?;
        let path = setup.env.iter().rfind(|(name, _)| name == "PATH").map(|(_, it)| it.as_str());
        let path = OsStr::new(path.unwrap_or(crate::process::SYSTEM_PATH));
        let mut argv = setup.argv.clone();
        let path = find(OsStr::new(name), path, is_executable).or_else(|| {
            let name = Path::new(name).file_name()?.to_str()?;
            let own = setup.own_programs.iter().find(|it| **it == name)?;
            *argv.first_mut()? = (*own).to_owned();
            Some(PathBuf::from("/proc/self/exe"))
        })?;
        let argv = argv.iter().map(|it| CString::new(it.as_str())).collect::<Result<_, _>>().ok()?;
        let env = setup.env.iter().map(|(name, value)| CString::new(format!("{name}={value}")));
        Some(Self { path, argv, env: env.collect::<Result<_, _>>().ok()? })
    }

    pub(super) fn exec(&self, setup: &Setup) -> Result<Infallible, Why> {
        let path = CString::new(self.path.as_os_str().as_bytes()).map_err(|it| it.to_string())?;
        match execve(&path, &self.argv, &self.env) {
            Ok(it) => Ok(it),
            // A script without a `#!` line, which shells run too.
            Err(nix::Error::ENOEXEC) => {
                let argv: Vec<CString> =
                    [c"sh".to_owned(), path].into_iter().chain(self.argv.iter().skip(1).cloned()).collect();
                execve(c"/bin/sh", &argv, &self.env).map_err(|it| format!("run it with sh: {it}"))
            }
            Err(error) => Err(format!("run `{}`: {}", setup.argv.join(" "), error.desc())),
        }
    }
}

pub(super) fn change_user(user: &User) -> Result<(), Why> {
    let groups: Vec<Gid> = user.groups.iter().map(|it| Gid::from_raw(*it)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let changed = nix::unistd::setgroups(&groups)
        .and_then(|()| nix::unistd::setresgid(gid, gid, gid))
        .and_then(|()| nix::unistd::setresuid(uid, uid, uid));
    changed.map_err(|it| format!("switch to user {}: {}", user.uid, it.desc()))
}

/// Waits until it is killed, without open files of the keeper. Orphans are reaped automatically.
fn idle(setup: &Setup, talk: &OwnedFd) -> ! {
    say(talk, b'i', "", None);
    limit(setup, talk);
    let _ = lower(setup);
    #[expect(unsafe_code, reason = "no crate offers a safe way")]
    // SAFETY: no handler runs when a child ends.
    unsafe {
        let _ = signal(Signal::SIGCHLD, SigHandler::SigIgn);
    }
    close_files_but(&[]);
    let _ = chdir("/");
    let _ = nix::sys::prctl::set_name(c"conlink: idle");
    loop {
        nix::unistd::pause();
    }
}

/// Returns in a child process. This process stays, passes signals on, and ends like the child.
fn attend(setup: &Setup) {
    let mut held = SigSet::all();
    // Signals for faults of this process are not passed on.
    for it in
        [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGTRAP, Signal::SIGSYS]
    {
        held.remove(it);
    }
    let _ = held.thread_block();
    #[expect(unsafe_code, reason = "no crate offers a safe way")]
    // SAFETY: this process has one thread.
    let child = match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => child,
        Ok(ForkResult::Child) => {
            let _ = held.thread_unblock();
            return;
        }
        Err(_) => leave(126),
    };
    // Only the program may keep the socket to the parent.
    close_files_but(&[]);
    // It passes signals on to a program of another user.
    let capabilities = setup.privileges.capabilities | Capability::Kill.bit();
    let _ = Privileges { capabilities, ..setup.privileges }.lower();
    loop {
        let mut signal = 0;
        #[expect(unsafe_code, reason = "nix knows no signals of realtime")]
        // SAFETY: both point to values that outlive the calls; the child has not been reaped yet.
        unsafe {
            if libc::sigwait(held.as_ref(), &raw mut signal) != 0 {
                leave(126);
            }
            if signal != libc::SIGCHLD {
                libc::kill(child.as_raw(), signal);
            }
        }
        while let Some((pid, ended)) = next_ended() {
            if pid == child.as_raw() {
                leave(ended.code());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_in_the_name_of_a_sysctl_stands_for_a_dot_of_the_file_name() {
        for (name, file) in [
            ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
            ("net.ipv4.conf.eth0/100.forwarding", "/proc/sys/net/ipv4/conf/eth0.100/forwarding"),
        ] {
            assert_eq!(sysctl_file(name), Path::new(file));
        }
    }
}
