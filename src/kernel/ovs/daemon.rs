//! The two daemons: finding them, starting them, ending them.
//!
//! A daemon locks its pidfile for as long as it lives (`lib/daemon-unix.c` of Open vSwitch). The lock tells its number,
//! and goes with it however it ends: a pidfile that is left says nothing, and a number that somebody else has by now
//! misleads nobody.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::Pid;
use serde_json::json;

use super::Datapath;
use super::rpc::{Failure, Rpc};
use crate::kernel::netlink::Error;
use crate::kernel::netns;
use crate::process::{self, Program};

pub(super) const SERVER: &str = "ovsdb-server";
pub(super) const SWITCH: &str = "ovs-vswitchd";
const TOOL: &str = "ovsdb-tool";
const DATABASE: &str = "conf.db";

/// How long a program may take to go to the background.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a daemon may take to end: of the userspace datapath the kernel waits some 15 ms for each port.
const END_LIMIT: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(2);

const MISSING: &str = "install openvswitch-switch, or use the image conlink:ovs, or mode linux";

/// Where the programs of Open vSwitch are.
#[derive(Clone, Debug)]
pub struct Programs {
    server: PathBuf,
    switch: PathBuf,
    tool: PathBuf,
}

impl Programs {
    /// Looks in the folders of `path`, which has the form of the variable PATH. An error names what is missing.
    pub fn find(path: &OsStr) -> Result<Self, Error> {
        let find = |name| {
            process::find(name, path).ok_or_else(|| {
                let missing = io::Error::other("there is no such program");
                Error::new(format!("find {name}"), missing).with_hint(MISSING)
            })
        };
        Ok(Self { server: find(SERVER)?, switch: find(SWITCH)?, tool: find(TOOL)? })
    }
}

/// The daemons of one folder, running or not.
#[derive(Debug)]
pub(super) struct Daemons {
    rundir: PathBuf,
}

impl Daemons {
    pub(super) fn new(rundir: PathBuf) -> Self {
        Self { rundir }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.rundir.join("db.sock")
    }

    /// Is there anything of theirs, living or dead?
    pub(super) fn left_something(&self) -> bool {
        self.rundir.join(DATABASE).exists()
    }

    fn pidfile(&self, daemon: &str) -> PathBuf {
        self.rundir.join(format!("{daemon}.pid"))
    }

    fn log(&self, daemon: &str) -> PathBuf {
        self.rundir.join(format!("{daemon}.log"))
    }

    /// The number of the daemon, if it lives.
    pub(super) fn pid(&self, daemon: &str) -> Option<Pid> {
        let pidfile = File::options().read(true).write(true).open(self.pidfile(daemon)).ok()?;
        let mut lock = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(&pidfile, FcntlArg::F_GETLK(&mut lock)).ok()?;
        // Zero and less: the holder is none of the processes that we can see.
        (lock.l_type != libc::F_UNLCK as libc::c_short && lock.l_pid > 0).then(|| Pid::from_raw(lock.l_pid))
    }

    /// The number of the daemon, if it lives and is in this namespace.
    fn pid_in(&self, daemon: &str, netns: &File) -> Option<Pid> {
        let pid = self.pid(daemon)?;
        let its = netns::of_process(pid.as_raw().cast_unsigned()).ok()?;
        (netns::inode(&its).ok()? == netns::inode(netns).ok()?).then_some(pid)
    }

    /// Do both live, and is the one that makes interfaces in this namespace?
    pub(super) fn serve(&self, netns: &File) -> bool {
        self.pid(SERVER).is_some() && self.pid_in(SWITCH, netns).is_some()
    }

    /// Starts what does not live, and ends what lives elsewhere: a namespace of the same name may be another one by now.
    /// `prepare` is called between the two daemons, with the database's socket there.
    pub(super) fn start(
        &self,
        netns: &File,
        datapath: Datapath,
        programs: impl Fn() -> Result<Programs, Error>,
        prepare: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let make = |it| Error::new(format!("make {}", self.rundir.display()), it);
        if let Some(parent) = self.rundir.parent() {
            fs::create_dir_all(parent).map_err(make)?;
        }
        match DirBuilder::new().mode(0o700).create(&self.rundir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.map_err(make)?,
        }
        for daemon in [SWITCH, SERVER] {
            if self.pid(daemon).is_some() && self.pid_in(daemon, netns).is_none() {
                self.end(daemon)?;
            }
        }
        if self.pid(SERVER).is_none() {
            self.start_server(netns, &programs()?)?;
        } else if let Err(error) = self.ask_server() {
            log::warn!("{SERVER} does not answer ({error}): started again");
            self.kill(SERVER)?;
            self.start_server(netns, &programs()?)?;
        }
        prepare()?;
        if self.pid(SWITCH).is_none() {
            self.await_the_last(SWITCH)?;
            if datapath == Datapath::Userspace {
                have_tun();
            }
            let database = format!("unix:{}", self.socket().display());
            let program = self.daemon(&programs()?.switch, SWITCH).arg(database);
            self.spawn(netns, &program)?;
        }
        Ok(())
    }

    /// A switch that was killed lets go of its pidfile at once, and of its ports one by one; before that the database lets
    /// no other one work (`ovsdb_idl_set_lock()`).
    fn await_the_last(&self, daemon: &str) -> Result<(), Error> {
        let pid = fs::read_to_string(self.pidfile(daemon)).ok().and_then(|it| it.trim().parse().ok());
        let Some(pid) = pid.filter(|it| *it > 0).map(Pid::from_raw) else {
            return Ok(());
        };
        // The number may be somebody else's by now.
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.trim() != daemon || has_ended(pid) {
            return Ok(());
        }
        Err(Error::new(format!("wait for {daemon}, process {pid}, to end"), nix::Error::ETIMEDOUT))
    }

    /// Does the one that lives answer?
    fn ask_server(&self) -> Result<(), String> {
        const PATIENCE: Duration = Duration::from_secs(2);
        let mut rpc = Rpc::connect(&self.socket()).map_err(|it| it.to_string())?;
        rpc.call("echo", &json!([]), PATIENCE).map(drop).map_err(|it| format!("{it:?}"))
    }

    fn start_server(&self, netns: &File, programs: &Programs) -> Result<(), Error> {
        let database = self.rundir.join(DATABASE);
        let remote = format!("--remote=punix:{}", self.socket().display());
        let program = self.daemon(&programs.server, SERVER).arg(remote).arg(&database);
        let is_new = !database.exists();
        if is_new {
            self.make_database(programs)?;
        }
        match self.spawn(netns, &program) {
            Err(error) if !is_new => {
                // All of it follows from the configuration: one that cannot be read is made again.
                log::warn!("{error}; the database is made anew");
                self.make_database(programs)?;
                self.spawn(netns, &program)
            }
            result => result,
        }
    }

    /// A kill leaves no half of a database under its name.
    fn make_database(&self, programs: &Programs) -> Result<(), Error> {
        let (new, database) = (self.rundir.join("new.db"), self.rundir.join(DATABASE));
        let what = || format!("make {}", database.display());
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::new(what(), error)),
            _ => {}
        }
        let made = Program::new(&programs.tool).arg("create").arg(&new).run(LIMIT);
        made.map_err(|it| Error::new(what(), io::Error::other(chain(&it))))?;
        fs::rename(&new, &database).map_err(|it| Error::new(what(), it))
    }

    fn daemon(&self, program: &Path, name: &str) -> Program {
        let option = |option: &str, file: PathBuf| format!("--{option}={}", file.display());
        let program = Program::new(program)
            .arg("-vsyslog:off")
            .arg("-vconsole:err")
            .arg("--detach")
            .arg(option("pidfile", self.pidfile(name)))
            .arg(option("unixctl", self.control(name)))
            .arg(option("log-file", self.log(name)));
        ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"]
            .into_iter()
            .fold(program, |program, it| program.var(it, &self.rundir))
    }

    fn control(&self, daemon: &str) -> PathBuf {
        self.rundir.join(format!("{daemon}.ctl"))
    }

    fn spawn(&self, netns: &File, program: &Program) -> Result<(), Error> {
        let started = netns::inside(netns, || Ok(program.run(LIMIT)));
        let started = started.map_err(|it| Error::new("enter the network namespace of the bridges", it))?;
        started.map_err(|it| Error::new("start Open vSwitch", io::Error::other(chain(&it))))
    }

    /// Ends a daemon: the switch takes its interfaces with it.
    pub(super) fn end(&self, daemon: &str) -> Result<(), Error> {
        let Some(pid) = self.pid(daemon) else {
            return Ok(());
        };
        // It may well end before it answers.
        let told = daemon == SWITCH
            && Rpc::connect(&self.control(daemon)).is_ok_and(|mut it| {
                let answer = it.call("exit", &json!(["--cleanup"]), END_LIMIT);
                !matches!(answer, Err(Failure::Late | Failure::Refused(_)))
            });
        if !told {
            let _ = kill(pid, Signal::SIGTERM);
        }
        if has_ended(pid) { Ok(()) } else { self.kill(daemon) }
    }

    /// Ends a daemon that does not listen.
    fn kill(&self, daemon: &str) -> Result<(), Error> {
        let Some(pid) = self.pid(daemon) else {
            return Ok(());
        };
        let what = || format!("end {daemon}, process {pid}");
        match kill(pid, Signal::SIGKILL) {
            Ok(()) | Err(nix::Error::ESRCH) => {}
            Err(error) => return Err(Error::new(what(), error)),
        }
        if has_ended(pid) { Ok(()) } else { Err(Error::new(what(), nix::Error::ETIMEDOUT)) }
    }

    /// Ends both, though one may not end well.
    pub(super) fn end_all(&self) -> Result<(), Error> {
        let switch = self.end(SWITCH);
        self.end(SERVER).and(switch)
    }

    /// A file for each that lives, which can be read from once it does not (`pidfd_open(2)`).
    pub(super) fn watch(&self) -> io::Result<Vec<OwnedFd>> {
        [SERVER, SWITCH].into_iter().filter_map(|it| self.pid(it)).map(pidfd).collect()
    }

    /// Removes the folder with all that is in it.
    pub(super) fn remove(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.rundir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|it| Error::new(format!("remove {}", self.rundir.display()), it)),
        }
    }

    /// The last line of the switch's log that has this text, without time and number.
    pub(super) fn last_logged(&self, text: &str) -> Option<String> {
        const END: u64 = 64 * 1024;
        let mut file = File::open(self.log(SWITCH)).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(io::SeekFrom::Start(length.saturating_sub(END))).ok()?;
        let mut log = Vec::new();
        file.read_to_end(&mut log).ok()?;
        let log = String::from_utf8_lossy(&log);
        let line = log.lines().rev().find(|it| it.contains(text))?;
        // TIME|NUMBER|MODULE|LEVEL|TEXT
        Some(line.splitn(5, '|').last().unwrap_or(line).to_owned())
    }

    /// The same for a line that is there in a moment: the switch writes its log from a thread of its own.
    pub(super) fn soon_logged(&self, text: &str) -> Option<String> {
        const MOMENT: Duration = Duration::from_millis(500);
        let end = Instant::now() + MOMENT;
        loop {
            match self.last_logged(text) {
                None if self.log(SWITCH).exists() && Instant::now() < end => std::thread::sleep(STEP),
                found => return found,
            }
        }
    }
}

/// Waits for a process to end, with all that it holds.
fn has_ended(pid: Pid) -> bool {
    let end = Instant::now() + END_LIMIT;
    while runs(pid) {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(STEP);
    }
    true
}

/// Does the process run, other than as a zombie that nobody has waited for? One whose first thread has ended is not gone
/// before the last has.
pub(super) fn runs(pid: Pid) -> bool {
    // Where `proc_pid_stat(5)` has it, counted from the state.
    const THREADS: usize = 17;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold anything.
    let Some((_, rest)) = stat.rsplit_once(") ") else {
        return false;
    };
    let mut rest = rest.split(' ');
    let is_zombie = rest.next().is_some_and(|it| it.starts_with(['Z', 'X']));
    let threads = rest.nth(THREADS - 1).and_then(|it| it.parse::<u32>().ok());
    !is_zombie || threads.is_some_and(|it| it > 1)
}

/// A container's `/dev` lacks the device that interfaces of the userspace datapath are made with, though the engine lets
/// the container use it. Where that fails, the interface's own error tells.
fn have_tun() {
    const TUN: &str = "/dev/net/tun";
    if fs::metadata(TUN).is_ok_and(|it| it.file_type().is_char_device()) {
        return;
    }
    let made = fs::create_dir_all("/dev/net")
        .and_then(|()| Ok(mknod(TUN, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(10, 200))?));
    if let Err(error) = made {
        log::debug!("make {TUN}: {error}");
    }
}

#[expect(unsafe_code, reason = "no crate that we have offers pidfd_open")]
fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: two numbers; the call touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let number = RawFd::try_from(result).map_err(io::Error::other)?;
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn chain(error: &process::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
