//! Finds, starts and stops the two daemons.
//!
//! A daemon locks its pidfile while it runs (`lib/daemon-unix.c` of Open vSwitch). The lock shows its process number,
//! and the kernel releases it however the daemon ends. So neither a leftover pidfile nor a reused process number is a
//! problem.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::Pid;
use serde_json::json;

use super::rpc::{Rpc, SwitchError};
use super::{Datapath, PATIENCE};
use crate::kernel::netlink::Error;
use crate::kernel::netns;
use crate::process::{self, Program, Running, node};

pub(super) const SERVER: &str = "ovsdb-server";
pub(super) const SWITCH: &str = "ovs-vswitchd";
const TOOL: &str = "ovsdb-tool";
const DATABASE: &str = "conf.db";

/// Time limit for a daemon to go to the background; the switch opens its ports first. After that it is killed.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Time limit for the switch to remove its interfaces: with the userspace datapath the kernel needs about 15 ms per
/// port.
pub(super) const CLEANUP_LIMIT: Duration = Duration::from_secs(20);
/// Time limit for a process to end after SIGKILL.
pub(super) const KILL_LIMIT: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(2);

/// The longest log of the switch in bytes. The kernel enforces it, so it holds without an engine too: the switch keeps
/// working, and what it logs is lost.
pub(super) const LONGEST_LOG: u64 = 1 << 20;

const MISSING: &str =
    "install the package openvswitch-switch, use the image `conlink`, or set `mode: linux` for the bridge";

/// The paths of the programs of Open vSwitch.
#[derive(Clone, Debug)]
pub struct Programs {
    server: PathBuf,
    switch: PathBuf,
    tool: PathBuf,
}

impl Programs {
    /// Searches the folders of `path`, which has the format of the variable PATH. The error names the missing program.
    pub fn find(path: &OsStr) -> Result<Self, Error> {
        let find = |name| {
            process::find(OsStr::new(name), path, process::is_executable).ok_or_else(|| {
                let missing = io::Error::other("program not found");
                Error::new(format!("find {name}"), missing).with_hint(MISSING)
            })
        };
        Ok(Self { server: find(SERVER)?, switch: find(SWITCH)?, tool: find(TOOL)? })
    }
}

/// A process, held by a pidfd, so that a reused number cannot be confused with it.
///
/// Its number is that in our process namespace. `/proc` may belong to another one: in a lab it is the machine's.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Process {
    pub(super) fn open(pid: Pid) -> io::Result<Self> {
        Ok(Self { pid, pidfd: node::pidfd(pid.as_raw())? })
    }

    /// Waits at most `limit` until it has ended and released everything. Returns false if it still runs. It has ended
    /// when its last thread has.
    pub(super) fn ends_within(&self, limit: Duration) -> bool {
        node::wait_for_end(self.pidfd.as_fd(), limit).unwrap_or(false)
    }

    fn signal(&self, signal: Signal) {
        node::signal(self.pidfd.as_fd(), signal as i32);
    }

    /// Opens a file of its folder in `/proc`.
    fn file(&self, name: &str) -> io::Result<File> {
        let gone = || io::Error::from(nix::Error::ESRCH);
        let number = node::number_in_proc(self.pidfd.as_fd()).ok_or_else(gone)?;
        let file = File::open(format!("/proc/{number}/{name}"))?;
        // The number cannot be reused while the process runs.
        if self.ends_within(Duration::ZERO) { Err(gone()) } else { Ok(file) }
    }

    /// Is it in this network namespace?
    fn is_in(&self, netns: &File) -> io::Result<bool> {
        Ok(netns::inode(&self.file("ns/net")?)? == netns::inode(netns)?)
    }

    /// The activity of its first thread (`proc_pid_status(5)`). None if unknown.
    pub(super) fn activity(&self) -> Option<Activity> {
        let mut status = String::new();
        self.file("status").ok()?.read_to_string(&mut status).ok()?;
        let value = |key: &str| {
            let line = status.lines().find_map(|it| it.strip_prefix(key)?.strip_prefix(':'));
            line.map(str::trim)
        };
        let count = |key: &str| value(key)?.parse::<u64>().ok();
        // Runs or waits for a processor, or is amid something in the kernel.
        let state = value("State")?;
        let is_at_work = state.starts_with(['R', 'D']);
        let is_stopped = state.starts_with(['T', 't']);
        let switches = count("voluntary_ctxt_switches")? + count("nonvoluntary_ctxt_switches")?;
        Some(Activity { is_at_work, is_stopped, switches })
    }

    fn is_named(&self, name: &str) -> bool {
        let mut comm = String::new();
        self.file("comm").and_then(|mut it| it.read_to_string(&mut comm)).is_ok() && comm.trim() == name
    }
}

/// The activity of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Activity {
    pub(super) is_at_work: bool,
    /// Stopped by a signal or a debugger: it answers nobody until it is continued.
    pub(super) is_stopped: bool,
    /// How often it has gone to sleep, or was made to make room for another.
    pub(super) switches: u64,
}

/// The daemons of a folder, running or not.
#[derive(Debug)]
pub(super) struct Daemons {
    rundir: PathBuf,
    starting: Option<Starting>,
}

/// A daemon that has been started and is not in the background yet.
#[derive(Debug)]
struct Starting {
    daemon: &'static str,
    program: Running,
    since: Instant,
}

impl Daemons {
    pub(super) fn new(rundir: PathBuf) -> Self {
        Self { rundir, starting: None }
    }

    pub(super) fn rundir(&self) -> &Path {
        &self.rundir
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.rundir.join("db.sock")
    }

    /// Are there any files or processes of the daemons?
    pub(super) fn left_something(&self) -> bool {
        self.rundir.join(DATABASE).exists()
    }

    fn pidfile(&self, daemon: &str) -> PathBuf {
        self.rundir.join(format!("{daemon}.pid"))
    }

    pub(super) fn log(&self, daemon: &str) -> PathBuf {
        self.rundir.join(format!("{daemon}.log"))
    }

    /// The number of the process that has locked the pidfile, in our process namespace.
    fn locker(&self, daemon: &str) -> Option<Pid> {
        let pidfile = File::options().read(true).write(true).open(self.pidfile(daemon)).ok()?;
        let mut lock = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(&pidfile, FcntlArg::F_GETLK(&mut lock)).ok()?;
        // Zero or negative: the lock's holder is not visible in our process namespace.
        (lock.l_type != libc::F_UNLCK as libc::c_short && lock.l_pid > 0).then(|| Pid::from_raw(lock.l_pid))
    }

    /// The daemon, if it runs.
    pub(super) fn process(&self, daemon: &str) -> Option<Process> {
        let process = Process::open(self.locker(daemon)?).ok()?;
        // Still, so the number was not somebody else's when it was opened.
        (self.locker(daemon) == Some(process.pid)).then_some(process)
    }

    /// The process number of the daemon, if it runs.
    pub(super) fn pid(&self, daemon: &str) -> Option<Pid> {
        self.process(daemon).map(|it| it.pid)
    }

    /// Do both run, and is the switch in this namespace?
    pub(super) fn serve(&self, netns: &File) -> bool {
        let switch = || self.process(SWITCH).is_some_and(|it| it.is_in(netns).unwrap_or(false));
        self.process(SERVER).is_some() && switch()
    }

    /// Makes the folder, and stops daemons in other namespaces: the namespace may have been replaced by another of the
    /// same name. Waits at most `limit` for each daemon.
    pub(super) fn prepare(&self, netns: &File, limit: Duration) -> Result<(), Error> {
        let make = |it| Error::new(format!("make {}", self.rundir.display()), it);
        if let Some(parent) = self.rundir.parent() {
            fs::create_dir_all(parent).map_err(make)?;
        }
        match DirBuilder::new().mode(0o700).create(&self.rundir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.map_err(make)?,
        }
        for daemon in [SWITCH, SERVER] {
            let Some(process) = self.process(daemon) else { continue };
            match process.is_in(netns) {
                Ok(true) => {}
                Ok(false) => self.end(daemon, limit)?,
                Err(error) => {
                    let what = format!("find the network namespace of {daemon}, process {}", process.pid);
                    let error = Error::new(what, error);
                    // A killed process leaves its namespaces first.
                    if !error.is_gone() || !process.ends_within(limit) {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Starts the database server if it does not run. Waits at most `limit`.
    pub(super) fn start_server(
        &mut self,
        netns: &File,
        limit: Duration,
        programs: impl Fn() -> Result<Programs, Error>,
    ) -> Result<(), Error> {
        self.await_start(limit)?;
        if self.process(SERVER).is_some() { Ok(()) } else { self.make_server(netns, limit, &programs()?) }
    }

    /// Starts the switch if it does not run. The database's socket must exist. Waits at most `limit` for each stage.
    pub(super) fn start_switch(
        &mut self,
        netns: &File,
        datapath: Datapath,
        limit: Duration,
        programs: impl Fn() -> Result<Programs, Error>,
    ) -> Result<(), Error> {
        if self.process(SWITCH).is_some() {
            return Ok(());
        }
        self.await_the_last(SWITCH, limit)?;
        if datapath == Datapath::Userspace {
            have_tun();
        }
        let database = format!("unix:{}", self.socket().display());
        let program =
            self.daemon(&programs()?.switch, SWITCH, "info").longest_file(LONGEST_LOG).arg(database);
        self.spawn(SWITCH, netns, &program, limit)?.done()
    }

    /// Waits for the end of a killed switch. It releases its pidfile at once and its ports one by one, and until then
    /// the database blocks another switch (`ovsdb_idl_set_lock()`).
    fn await_the_last(&self, daemon: &str, limit: Duration) -> Result<(), Error> {
        let pid = fs::read_to_string(self.pidfile(daemon)).ok().and_then(|it| it.trim().parse().ok());
        let Some(pid) = pid.filter(|it| *it > 0).map(Pid::from_raw) else {
            return Ok(());
        };
        let Ok(process) = Process::open(pid) else { return Ok(()) };
        // The number may be somebody else's by now.
        if !process.is_named(daemon) || process.ends_within(limit) {
            return Ok(());
        }
        Err(Error::new(format!("wait for {daemon}, process {pid}, to end"), nix::Error::ETIMEDOUT))
    }

    fn make_server(&mut self, netns: &File, limit: Duration, programs: &Programs) -> Result<(), Error> {
        let database = self.rundir.join(DATABASE);
        let remote = format!("--remote=punix:{}", self.socket().display());
        // Only the error that ends it: a limit for its files would apply to the database too.
        let program = self.daemon(&programs.server, SERVER, "emer").arg(remote).arg(&database);
        let is_new = !database.exists();
        if is_new {
            self.make_database(programs)?;
        }
        match self.spawn(SERVER, netns, &program, limit) {
            Err(error) if !is_new => {
                // Its content is derived from the configuration, so an unreadable database is made again.
                log::warn!("{error}: making a new database");
                self.make_database(programs)?;
                self.spawn(SERVER, netns, &program, limit)?.done()
            }
            result => result?.done(),
        }
    }

    /// Makes the database under another name first, so that a kill leaves no incomplete one.
    fn make_database(&self, programs: &Programs) -> Result<(), Error> {
        let (new, database) = (self.rundir.join("new.db"), self.rundir.join(DATABASE));
        let what = || format!("make {}", database.display());
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::new(what(), error)),
            _ => {}
        }
        let made = Program::new(&programs.tool).arg("create").arg(&new).run(KILL_LIMIT);
        made.map_err(|it| Error::new(what(), io::Error::other(chain(&it))))?;
        fs::rename(&new, &database).map_err(|it| Error::new(what(), it))
    }

    /// A daemon that logs messages of this level (`ovs-vswitchd(8)`) and above.
    fn daemon(&self, program: &Path, name: &str, level: &str) -> Program {
        let option = |option: &str, file: PathBuf| format!("--{option}={}", file.display());
        let program = Program::new(program)
            .arg("-vsyslog:off")
            .arg("-vconsole:err")
            .arg(format!("-vfile:{level}"))
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

    fn spawn(
        &mut self,
        daemon: &'static str,
        netns: &File,
        program: &Program,
        limit: Duration,
    ) -> Result<Started, Error> {
        self.make_room_to_log(daemon);
        let started = netns::inside(netns, || Ok(program.start()));
        let started = started.map_err(|it| Error::new("enter the network namespace of the bridges", it))?;
        let program = started.map_err(start_error)?;
        self.starting = Some(Starting { daemon, program, since: Instant::now() });
        self.await_program(limit)
    }

    /// Waits for the starting daemon.
    fn await_start(&mut self, limit: Duration) -> Result<(), Error> {
        self.await_program(limit)?.done()
    }

    fn await_program(&mut self, limit: Duration) -> Result<Started, Error> {
        let Some(mut starting) = self.starting.take() else { return Ok(Started::Done) };
        match starting.program.wait(limit) {
            Ok(true) => Ok(Started::Done),
            Ok(false) if starting.since.elapsed() > START_LIMIT => {
                let error = starting.program.kill(START_LIMIT);
                self.kill(starting.daemon, KILL_LIMIT);
                Err(start_error(error))
            }
            Ok(false) => {
                let daemon = starting.daemon;
                self.starting = Some(starting);
                Ok(Started::NotYet(daemon))
            }
            Err(error) => Err(start_error(error)),
        }
    }

    /// Stops a daemon; the switch removes its interfaces. A daemon that has not ended after `limit` is killed.
    pub(super) fn end(&self, daemon: &str, limit: Duration) -> Result<(), Error> {
        let Some(process) = self.process(daemon) else {
            return Ok(());
        };
        let end = Instant::now() + limit;
        // It may end before it answers.
        let told = daemon == SWITCH
            && Rpc::connect(&self.control(daemon), PATIENCE).is_ok_and(|mut it| {
                let answer = it.call("exit", &json!(["--cleanup"]), limit);
                !matches!(answer, Err(SwitchError::Late | SwitchError::Refused(_)))
            });
        if !told {
            process.signal(Signal::SIGTERM);
        }
        if process.ends_within(end.saturating_duration_since(Instant::now())) {
            return Ok(());
        }
        log::warn!("{daemon}, process {}, does not stop and is killed", process.pid);
        process.signal(Signal::SIGKILL);
        let what = || format!("end {daemon}, process {}", process.pid);
        let late = || Err(Error::new(what(), nix::Error::ETIMEDOUT));
        if process.ends_within(KILL_LIMIT) { Ok(()) } else { late() }
    }

    /// Kills a daemon that does not answer, and waits at most `limit` for its end.
    pub(super) fn kill(&self, daemon: &str, limit: Duration) {
        if let Some(process) = self.process(daemon) {
            process.signal(Signal::SIGKILL);
            process.ends_within(limit);
        }
    }

    /// Stops both daemons and those that are starting, even if one of them fails to stop.
    pub(super) fn end_all(&mut self) -> Result<(), Error> {
        if let Some(starting) = self.starting.take() {
            let error = starting.program.kill(starting.since.elapsed());
            log::debug!("{error}");
        }
        let switch = self.end(SWITCH, CLEANUP_LIMIT);
        self.end(SERVER, KILL_LIMIT).and(switch)
    }

    /// A pidfd of each running daemon, readable when it ends (`pidfd_open(2)`).
    pub(super) fn watch(&self) -> Vec<OwnedFd> {
        [SERVER, SWITCH].into_iter().filter_map(|it| self.process(it)).map(|it| it.pidfd).collect()
    }

    /// Removes the folder with its content.
    pub(super) fn remove(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.rundir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|it| Error::new(format!("remove {}", self.rundir.display()), it)),
        }
    }

    /// Moves the content of a log that has reached half of [`LONGEST_LOG`] to `DAEMON.log.1`. The daemon keeps the file
    /// open and appends to it.
    pub(super) fn make_room_to_log(&self, daemon: &str) {
        let log = self.log(daemon);
        if log.metadata().is_ok_and(|it| it.len() < LONGEST_LOG / 2) {
            return;
        }
        let copied = fs::copy(&log, log.with_extension("log.1"));
        // Also if the disk has no room for the copy.
        let emptied = File::options().write(true).open(&log).and_then(|it| it.set_len(0));
        match copied.and(emptied) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::debug!("empty {}: {error}", log.display())
            }
            _ => {}
        }
    }

    /// The last line of the switch's log with this text, without time and number.
    fn last_logged(&self, text: &str) -> Option<String> {
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

    /// The same for a line that may appear shortly: the switch writes its log in another thread.
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

/// Whether a started daemon has gone to the background.
enum Started {
    Done,
    NotYet(&'static str),
}

impl Started {
    fn done(self) -> Result<(), Error> {
        match self {
            Self::Done => Ok(()),
            Self::NotYet(daemon) => {
                let reason = io::Error::other(format!("{daemon} is still starting"));
                Err(Error::new("start Open vSwitch", reason))
            }
        }
    }
}

fn start_error(error: process::Error) -> Error {
    Error::new("start Open vSwitch", io::Error::other(chain(&error)))
}

/// Makes the device for interfaces of the userspace datapath, which is missing in a container's `/dev` even if the
/// container may use it. If this fails, the error of the interface reports it.
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

fn chain(error: &process::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
