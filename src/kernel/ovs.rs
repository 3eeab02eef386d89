//! Open vSwitch: bridges and ports, configured through its database (OVSDB, RFC 7047; the columns are in
//! `ovs-vswitchd.conf.db(5)`).
//!
//! `ovs-vswitchd` makes interfaces in its own namespace, so each project has its own pair of daemons, with database, sockets
//! and logs in its own folder. The daemons outlive a killed engine, and the next one finds them by that folder.
//!
//! Link-local frames (01:80:c2:00:00:0X: spanning tree, LLDP) are not forwarded. That is the default of Open vSwitch and of
//! hardware switches; a patch forwards them.

mod bridge;
mod daemon;
mod datapath;
mod db;
mod port;
mod rpc;
mod tables;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::addr::IfName;
use crate::kernel::netlink::Error;
use crate::process::SYSTEM_PATH;

pub use bridge::{BridgeRecord, OvsPort};
pub use daemon::Programs;
pub use datapath::Datapath;
pub use port::Join;
pub use tables::Changes;

use daemon::{Activity, Daemons, KILL_LIMIT, Process, SERVER, SWITCH};
use db::{Answers, DATABASE, insert, is, map_of, mutate, number, select, set_of, text, value};
use rpc::{Rpc, SwitchError};
use tables::Tables;

/// The folder of the sockets of the system's daemons.
const SYSTEM_RUNDIR: &str = "/run/openvswitch";

/// The key of our mark in `external_ids` of a bridge or port.
const MARK: &str = "conlink";

/// The key of the index of a port's interface there. If an interface is replaced by another with the same name, the switch
/// keeps using the first one, while its column `ifindex` has the index of the second.
const INDEX: &str = "conlink-ifindex";

/// The time limit of an answer or a change, which usually takes some milliseconds. After that the daemon counts as silent.
const PATIENCE: Duration = Duration::from_secs(2);

/// The number of slices after which a switch that has not woken up for a change counts as silent. Slices are counted by
/// answers of the server and not by the clock, because the whole machine may have been paused.
const WAKE_SLICES: u32 = 6;

/// The additional time limit for each port.
const PORT_PATIENCE: Duration = Duration::from_millis(50);

/// The time limit of a start, after which calls fail. The start continues.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// Replaces both limits after a daemon was silent, until the switch has carried out all changes.
const SHORT_PATIENCE: Duration = Duration::from_millis(300);

/// The time after which a silent daemon of ours is killed and restarted. It doubles each time that this does not help, up to
/// 16 times as long.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);

/// The time that the server waits for the switch before we check whether the switch is alive.
const SLICE: Duration = Duration::from_millis(50);

const NO_TUN: &str = "give the engine's container the device /dev/net/tun and the capability NET_ADMIN";
const NO_MODULE: &str = "the kernel's module openvswitch makes no datapath here";

/// The available datapath: None without the programs, userspace without the kernel module.
pub fn probe() -> Option<Datapath> {
    probe_on(OsStr::new(SYSTEM_PATH))
}

/// The same with another PATH.
pub fn probe_on(path: &OsStr) -> Option<Datapath> {
    Programs::find(path).ok()?;
    Some(if datapath::in_kernel() { Datapath::Kernel } else { Datapath::Userspace })
}

/// Checks that Open vSwitch is installed or that the system's daemons run.
///
/// # Errors
/// The missing program, with a hint.
pub fn check_installed() -> Result<(), Error> {
    match Programs::find(OsStr::new(SYSTEM_PATH)) {
        Err(error) if !Path::new(SYSTEM_RUNDIR).exists() => Err(error),
        _ => Ok(()),
    }
}

/// The text before the name of a bridge that the switch cannot make, in its log.
const NOT_MADE: &str = "failed to create bridge ";

const OURS_IS_SILENT: &str =
    "conlink kills the daemon after some seconds without an answer and starts it again";
const THEIRS_IS_SILENT: &str = "restart Open vSwitch on this machine";

/// Open vSwitch in one namespace.
///
/// Every call first checks that the daemons are alive, and restarts those of ours that are not. No call waits for long: a
/// daemon that did not answer in time is *silent*, and calls fail at once until it answers. A silent daemon of ours is killed
/// after a while and restarted.
#[derive(Debug)]
pub struct Ovs {
    netns: File,
    daemons: Daemons,
    /// The daemons are ours, and not the system's.
    own: bool,
    /// Whether daemons may be started and killed.
    may_start: bool,
    /// The PATH for the programs.
    path: OsString,
    datapath: Datapath,
    rpc: Option<Rpc>,
    /// The number of connections so far.
    connections: u64,
    /// A copy of the database, kept up to date by the server.
    tables: Tables,
    changes: Changes,
    silence: Option<Silence>,
    /// A daemon was silent, and the switch has not carried out all changes since.
    in_trouble: bool,
    /// The number of silent daemons killed in this time.
    kills: u32,
}

/// A daemon that did not answer in time.
#[derive(Debug)]
struct Silence {
    daemon: &'static str,
    /// The process; a later process of the same daemon is not silent.
    pid: Option<Pid>,
    since: Instant,
    /// The value of `cur_cfg` after the switch has carried out the change.
    wanted: i64,
    /// A second connection that probes the server.
    probe: Option<Rpc>,
}

impl Ovs {
    /// Open vSwitch in a namespace: our daemons of `rundir`, otherwise the system's daemons that serve the namespace. If there
    /// are none, the first call starts our own.
    pub fn new(netns: &File, rundir: &Path, datapath: Datapath) -> Result<Self, Error> {
        Self::new_on(OsStr::new(SYSTEM_PATH), netns, rundir, datapath)
    }

    /// Connects to the daemons of [`Ovs::new`], and starts them if needed. Returns when the switch has applied the database.
    pub fn start(netns: &File, rundir: &Path, datapath: Datapath) -> Result<Self, Error> {
        Self::start_on(OsStr::new(SYSTEM_PATH), netns, rundir, datapath)
    }

    /// The same with another PATH.
    pub fn start_on(path: &OsStr, netns: &File, rundir: &Path, datapath: Datapath) -> Result<Self, Error> {
        let mut ovs = Self::new_on(path, netns, rundir, datapath)?;
        ovs.ready()?;
        Ok(ovs)
    }

    /// Connects to the daemons that [`Ovs::start`] would find, without starting any. None if there are none. With `look_only`,
    /// later calls neither start nor kill daemons.
    pub fn find(
        netns: &File,
        rundir: &Path,
        datapath: Datapath,
        look_only: bool,
    ) -> Result<Option<Self>, Error> {
        let mut ovs = Self::new(netns, rundir, datapath)?;
        ovs.may_start = !look_only;
        if !ovs.daemons.serve(netns) {
            return Ok(None);
        }
        Ok(matches!(ovs.connect(), Ok(()) | Err(SwitchError::Late)).then_some(ovs))
    }

    /// Whether a killed engine has left a database, and so perhaps bridges: [`Ovs::dump`] shows them, and [`Ovs::stop`] removes
    /// them.
    pub fn is_left(rundir: &Path) -> bool {
        Daemons::new(rundir.to_owned()).left_something()
    }

    fn new_on(path: &OsStr, netns: &File, rundir: &Path, datapath: Datapath) -> Result<Self, Error> {
        // The daemons change their working directory.
        let rundir = std::path::absolute(rundir).map_err(|it| Error::new("find the working folder", it))?;
        Self::with(path, netns, choose(rundir, PathBuf::from(SYSTEM_RUNDIR), netns), datapath)
    }

    /// With these daemons, and whether they are ours.
    fn with(
        path: &OsStr,
        netns: &File,
        (daemons, own): (Daemons, bool),
        datapath: Datapath,
    ) -> Result<Self, Error> {
        let netns = netns.try_clone().map_err(|it| Error::new("hold a network namespace", it))?;
        Ok(Self {
            netns,
            daemons,
            own,
            may_start: true,
            path: path.to_owned(),
            datapath,
            rpc: None,
            connections: 0,
            tables: Tables::default(),
            changes: Changes::default(),
            silence: None,
            in_trouble: false,
            kills: 0,
        })
    }

    /// Stops the daemons if they are ours, removes every interface that they made, and then their folder.
    pub fn stop(mut self) -> Result<(), Error> {
        if !self.own {
            return Ok(());
        }
        // A killed switch leaves its interfaces, and only another switch can remove them.
        let revived = if self.daemons.left_something() { self.revive() } else { Ok(()) };
        self.rpc = None;
        self.daemons.end_all()?;
        // Only the database lists what is left.
        revived?;
        self.daemons.remove()
    }

    /// Waits until both daemons answer. A silent one is killed at once.
    fn revive(&mut self) -> Result<(), Error> {
        self.may_start = true;
        // Both may be silent.
        for _ in 0..2 {
            self.in_trouble = false;
            let answers = self.ready().and_then(|()| {
                let answers = self.commit(Vec::new(), 1).map(drop);
                answers.map_err(|it| self.error("ask Open vSwitch".to_owned(), it))
            });
            let Some(silence) = self.silence.take() else { return answers };
            self.daemons.kill(silence.daemon, KILL_LIMIT);
            self.rpc = None;
        }
        self.in_trouble = false;
        self.ready()
    }

    /// Pidfds of the running daemons, readable when a daemon has ended. The next call restarts it.
    pub fn watch(&self) -> Vec<OwnedFd> {
        self.daemons.watch()
    }

    /// The connection to the server and its number. It is readable when another program has changed something. None without a
    /// connection.
    pub fn connection(&self) -> Option<(u64, BorrowedFd<'_>)> {
        Some((self.connections, self.rpc.as_ref()?.as_fd()))
    }

    /// The changes since the last call, by any program. Reconnects if the server has closed the connection.
    pub fn changes(&mut self) -> Changes {
        let heard = self.rpc.as_mut().map(Rpc::hear);
        self.take_updates();
        if let Some(Err(error)) = heard {
            log::debug!("listen to Open vSwitch: {error:?}: connect again");
            self.rpc = None;
            // The next call restarts a server that has ended.
            if let Err(error) = self.connect() {
                log::debug!("listen to Open vSwitch: {error:?}");
            }
        }
        std::mem::take(&mut self.changes)
    }

    /// Removes these bridges and ports, or all, from the result of [`Ovs::changes`], because they have been observed.
    pub fn forget(&mut self, names: Option<&BTreeSet<IfName>>) {
        self.changes.forget(names);
    }

    fn take_updates(&mut self) {
        for update in self.rpc.iter_mut().flat_map(Rpc::take_updates) {
            self.tables.update(update, &mut self.changes);
        }
    }

    /// Connects if needed, and restarts our daemons that have ended.
    fn ready(&mut self) -> Result<(), Error> {
        self.end_silence()?;
        if self.rpc.is_some() && self.daemons.serve(&self.netns) {
            return Ok(());
        }
        let mut opened = self.open();
        // A killed child looks alive until it is waited for.
        if let Ok(Err(SwitchError::Broken(error))) = &opened {
            log::debug!("ask Open vSwitch: {error}: once more");
            opened = self.open();
        }
        match opened {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(self.error("ask Open vSwitch".to_owned(), failure)),
            Err(error) => {
                self.in_trouble = true;
                Err(error)
            }
        }
    }

    /// Waits until the switch has applied the database.
    fn open(&mut self) -> Result<Result<(), SwitchError>, Error> {
        self.rpc = None;
        let limit = if self.in_trouble { SHORT_PATIENCE } else { START_PATIENCE };
        if self.own && self.may_start && !self.daemons.left_something() {
            // The system's daemons may have been started since.
            let rundir = self.daemons.rundir().to_owned();
            (self.daemons, self.own) = choose(rundir, PathBuf::from(SYSTEM_RUNDIR), &self.netns);
        }
        let starts = self.own && self.may_start;
        if starts {
            self.daemons.prepare(&self.netns, limit)?;
            self.daemons.start_server(&self.netns, limit, || Programs::find(&self.path))?;
        }
        if let Err(failure) = self.connect() {
            return Ok(Err(failure));
        }
        if starts {
            let programs = || Programs::find(&self.path);
            self.daemons.start_switch(&self.netns, self.datapath, limit, programs)?;
        }
        // The switch may have lost its connection too, and reconnects after a while.
        Ok(if self.may_start { self.commit_after(Vec::new(), 1, None).map(drop) } else { Ok(()) })
    }

    fn connect(&mut self) -> Result<(), SwitchError> {
        let limit = self.patience();
        match connect(&self.daemons.socket(), limit) {
            Ok((rpc, tables)) => {
                self.rpc = Some(rpc);
                self.connections += 1;
                self.tables.replace(tables, &mut self.changes);
                Ok(())
            }
            Err(failure) => {
                if matches!(failure, SwitchError::Late) {
                    self.fall_silent(SERVER, 0);
                }
                Err(failure)
            }
        }
    }

    fn patience(&self) -> Duration {
        if self.in_trouble { SHORT_PATIENCE } else { PATIENCE }
    }

    /// Records that a daemon did not answer in time.
    fn fall_silent(&mut self, daemon: &'static str, wanted: i64) {
        let pid = self.daemons.pid(daemon);
        self.in_trouble = true;
        let since = Instant::now();
        self.silence = Some(Silence { daemon, pid, since, wanted, probe: None });
    }

    /// Checks, without waiting, whether a silent daemon has answered. Kills a daemon of ours that is silent for too long.
    fn end_silence(&mut self) -> Result<(), Error> {
        let Some(silence) = &self.silence else { return Ok(()) };
        if self.daemons.pid(silence.daemon) != silence.pid || self.has_answered() {
            self.silence = None;
            return Ok(());
        }
        // Meanwhile the other daemon may be the silent one.
        let Some(Silence { daemon, since, .. }) = self.silence else { return Ok(()) };
        let limit = SILENCE_LIMIT * 2_u32.pow(self.kills.min(4));
        if self.own && self.may_start && since.elapsed() >= limit {
            log::warn!("{daemon} has not answered for {} s: it is killed and started again", limit.as_secs());
            self.daemons.kill(daemon, SHORT_PATIENCE);
            self.kills += 1;
            (self.silence, self.rpc) = (None, None);
            return Ok(());
        }
        Err(self.error("ask Open vSwitch".to_owned(), SwitchError::Late))
    }

    fn has_answered(&mut self) -> bool {
        let Some(silence) = &mut self.silence else { return true };
        if silence.daemon == SERVER {
            if silence.probe.is_none() {
                silence.probe = probe_server(&self.daemons.socket()).ok();
            }
            return match silence.probe.as_mut().map(Rpc::hear) {
                Some(Ok(answered)) => answered,
                Some(Err(_)) => {
                    silence.probe = None;
                    false
                }
                None => false,
            };
        }
        let wanted = silence.wanted;
        match self.transact(vec![select(DATABASE, json!([]), &["cur_cfg"])]) {
            Ok(found) => {
                let has_answered = found.column(0, "cur_cfg").and_then(Value::as_i64) >= Some(wanted);
                if has_answered {
                    (self.in_trouble, self.kills) = (false, 0);
                }
                has_answered
            }
            // Now the server is silent.
            Err(SwitchError::Late) => false,
            Err(_) => {
                self.rpc = None;
                true
            }
        }
    }

    /// Runs an action that may run twice: it is repeated if the connection breaks.
    fn attempt<T>(
        &mut self,
        what: impl Fn() -> String,
        act: impl Fn(&mut Self) -> Result<T, SwitchError>,
    ) -> Result<T, Error> {
        self.ready()?;
        let mut result = act(self);
        if let Err(SwitchError::Broken(error)) = &result {
            log::debug!("{}: {error}: once more", what());
            self.rpc = None;
            self.ready()?;
            result = act(self);
        }
        if matches!(result, Err(SwitchError::Broken(_))) {
            self.rpc = None;
        }
        result.map_err(|it| self.error(what(), it))
    }

    fn transact(&mut self, operations: Vec<Value>) -> Result<Answers, SwitchError> {
        self.transact_within(operations, self.patience())
    }

    fn transact_within(&mut self, operations: Vec<Value>, limit: Duration) -> Result<Answers, SwitchError> {
        self.call(|rpc| transact(rpc, operations, limit))
    }

    fn call<T>(&mut self, act: impl FnOnce(&mut Rpc) -> Result<T, SwitchError>) -> Result<T, SwitchError> {
        let rpc = self.rpc.as_mut().ok_or_else(|| SwitchError::Broken(io::ErrorKind::NotConnected.into()))?;
        let result = act(rpc);
        if matches!(result, Err(SwitchError::Late)) {
            // The request may have been sent in part.
            self.rpc = None;
            self.fall_silent(SERVER, 0);
        }
        result
    }

    /// Brings the copy of the database up to date: the server sends changes before it answers.
    fn catch_up(&mut self) -> Result<(), SwitchError> {
        let limit = self.patience();
        self.call(|rpc| rpc.call("echo", &json!([]), limit))?;
        self.take_updates();
        Ok(())
    }

    /// A transaction that makes the switch apply the database. Waits until it has, with a limit for this number of ports.
    fn commit(&mut self, operations: Vec<Value>, ports: usize) -> Result<Answers, SwitchError> {
        let asleep = self.activity().filter(|it| !it.is_at_work);
        self.commit_after(operations, ports, asleep)
    }

    fn activity(&self) -> Option<Activity> {
        self.daemons.process(SWITCH).as_ref().and_then(Process::activity)
    }

    /// The same for a switch that was `asleep` and connected to the server, so that it should wake up at once.
    fn commit_after(
        &mut self,
        mut operations: Vec<Value>,
        ports: usize,
        asleep: Option<Activity>,
    ) -> Result<Answers, SwitchError> {
        if self.own && self.may_start {
            // The log may have to take the reason of a failure.
            self.daemons.make_room_to_log(SWITCH);
        }
        let last = operations.len() + 1;
        operations.push(mutate(DATABASE, json!([]), json!([["next_cfg", "+=", 1]])));
        operations.push(select(DATABASE, json!([]), &["next_cfg", "cur_cfg"]));
        let answers = self.transact(operations)?;
        let wanted = answers.column(last, "next_cfg").and_then(Value::as_i64).unwrap_or_default();
        let mut current = answers.column(last, "cur_cfg").and_then(Value::as_i64).unwrap_or_default();
        let more = PORT_PATIENCE * u32::try_from(ports.saturating_sub(1)).unwrap_or(u32::MAX);
        let end = Instant::now() + self.patience() + more;
        let mut slices = 0;
        while current < wanted {
            let left = end.saturating_duration_since(Instant::now());
            let activity = self.activity();
            // A switch that a signal has stopped cannot answer.
            let is_stopped = activity.is_some_and(|it| it.is_stopped);
            let sleeps_on = asleep.is_some() && activity == asleep;
            if left.is_zero() || is_stopped || slices >= WAKE_SLICES && sleeps_on {
                self.fall_silent(SWITCH, wanted);
                return Err(SwitchError::Late);
            }
            if self.daemons.pid(SWITCH).is_none() {
                return Err(SwitchError::Broken(io::Error::other(format!("{SWITCH} has ended"))));
            }
            let slice = SLICE.min(left);
            let wait = json!({
                "op": "wait", "table": DATABASE, "where": [], "columns": ["cur_cfg"], "until": "!=",
                "rows": [{"cur_cfg": current}], "timeout": slice.as_millis() as u64,
            });
            let limit = slice + self.patience();
            match self.transact_within(vec![wait, select(DATABASE, json!([]), &["cur_cfg"])], limit) {
                Ok(found) => {
                    current = found.column(1, "cur_cfg").and_then(Value::as_i64).unwrap_or_default();
                }
                Err(SwitchError::Refused(reason)) if reason.starts_with("timed out") => slices += 1,
                Err(other) => return Err(other),
            }
        }
        (self.in_trouble, self.kills) = (false, 0);
        Ok(answers)
    }

    fn device_error(&mut self, name: &str) -> Result<Option<String>, SwitchError> {
        Ok(self.device_errors(&[name])?.into_iter().flatten().next())
    }

    /// Why the switch does not use these interfaces; None for an interface that it uses.
    fn device_errors(&mut self, names: &[&str]) -> Result<Vec<Option<String>>, SwitchError> {
        let look =
            names.iter().map(|it| select("Interface", is("name", *it), &["error", "ofport"])).collect();
        let found = self.transact(look)?;
        let error = |(at, name): (usize, &&str)| {
            let told = found.column(at, "error").and_then(text).map(str::to_owned);
            told.or_else(|| {
                let number = found.column(at, "ofport").and_then(number);
                // Only the log says that a bridge cannot be made.
                let logged = || self.daemons.soon_logged(&format!("{NOT_MADE}{name}: "));
                let no_reason = || format!("{SWITCH} does not take it up");
                number.is_none_or(|it| it < 0).then(|| logged().unwrap_or_else(no_reason))
            })
        };
        Ok(names.iter().enumerate().map(error).collect())
    }

    fn error(&self, request: String, failure: SwitchError) -> Error {
        let reason = match failure {
            // As for the kernel: the object of a request may be gone.
            SwitchError::Missing(told) => return Error::new(request, nix::Error::ENODEV).with_message(told),
            SwitchError::Device(told) if told.starts_with(NOT_MADE) => {
                let hint = if self.datapath == Datapath::Kernel { NO_MODULE } else { NO_TUN };
                return Error::new(request, io::Error::other(told)).with_hint(hint);
            }
            SwitchError::Device(told) => {
                const NO_DEVICE: &str = " (No such device)";
                if let Some(told) = told.strip_suffix(NO_DEVICE) {
                    return Error::new(request, nix::Error::ENODEV).with_message(told);
                }
                told
            }
            SwitchError::Refused(told) => told,
            SwitchError::Broken(error) => format!("{}: {error}", self.daemons.socket().display()),
            SwitchError::Late => {
                let daemon = self.silence.as_ref().map_or(SERVER, |it| it.daemon);
                let hint = if self.own { OURS_IS_SILENT } else { THEIRS_IS_SILENT };
                let log = match self.own && daemon == SWITCH {
                    true => format!(" (log: {})", self.daemons.log(daemon).display()),
                    false => String::new(),
                };
                let told = format!("{daemon} does not answer{log}");
                return Error::new(request, io::Error::other(told)).with_hint(hint);
            }
        };
        Error::new(request, io::Error::other(reason))
    }
}

/// Chooses the system's daemons only if they serve the namespace and ours have left nothing there: two switches in one
/// namespace would make the same interfaces.
fn choose(rundir: PathBuf, system: PathBuf, netns: &File) -> (Daemons, bool) {
    let (own, system) = (Daemons::new(rundir), Daemons::new(system));
    if !own.left_something() && system.serve(netns) { (system, false) } else { (own, true) }
}

/// Connects to the database, makes sure that it has its one row, and copies it. `limit` is the time limit of each request.
fn connect(socket: &Path, limit: Duration) -> Result<(Rpc, Tables), SwitchError> {
    let mut rpc = Rpc::connect(socket, limit)?;
    let found = transact(&mut rpc, vec![select(DATABASE, json!([]), &["_uuid"])], limit)?;
    if found.rows(0).is_empty() {
        transact(&mut rpc, vec![insert(DATABASE, json!({}), "root")], limit)?;
    }
    let all = rpc.call("monitor", &json!([DATABASE, MARK, Tables::requests()]), limit)?;
    let mut tables = Tables::default();
    tables.update(all, &mut Changes::default());
    Ok((rpc, tables))
}

/// Sends a probe to a server, without waiting for the answer.
fn probe_server(socket: &Path) -> Result<Rpc, SwitchError> {
    let mut rpc = Rpc::connect(socket, Duration::ZERO)?;
    rpc.begin("echo", &json!([]), Instant::now() + SHORT_PATIENCE)?;
    Ok(rpc)
}

fn transact(rpc: &mut Rpc, operations: Vec<Value>, limit: Duration) -> Result<Answers, SwitchError> {
    let mut params = vec![Value::from(DATABASE)];
    params.extend(operations);
    Answers::new(rpc.call("transact", &Value::Array(params), limit)?)
}

fn mark_of(row: &Value) -> Option<&str> {
    value(row.get("external_ids")?, MARK)
}

fn set_mark(table: &str, name: &str, mark: &str) -> Vec<Value> {
    // Inserting does not change an existing key.
    let delete = json!(["external_ids", "delete", set_of(vec![MARK.into()])]);
    let insert = json!(["external_ids", "insert", map_of(&[(MARK, mark)])]);
    vec![mutate(table, is("name", name), json!([delete, insert]))]
}

fn no_bridge(name: &IfName) -> SwitchError {
    SwitchError::Missing(format!("bridge {name} does not exist"))
}

#[cfg(test)]
mod tests;
