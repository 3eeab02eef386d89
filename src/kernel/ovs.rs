//! Open vSwitch: bridges and ports by its database's protocol (OVSDB, RFC 7047; `ovs-vswitchd.conf.db(5)` for the columns).
//!
//! The daemons make interfaces in the namespace that `ovs-vswitchd` runs in, so each project has a pair of its own, with
//! database, sockets and logs in a folder of its own. They live on when we are killed, and are found again by that folder.
//!
//! Link-local frames (01:80:c2:00:00:0X: spanning tree, LLDP) are not forwarded, as Open vSwitch and real switches have
//! it by themselves; a patch is for who wants a bare cable.

mod bridge;
mod daemon;
mod datapath;
mod db;
mod port;
mod rpc;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::addr::IfName;
use crate::kernel::netlink::Error;
use crate::process::SYSTEM_PATH;

pub use bridge::{OvsBridge, OvsPort};
pub use daemon::Programs;
pub use datapath::Datapath;

use daemon::{Daemons, SWITCH};
use db::{Answers, DATABASE, insert, is, map_of, mutate, number, select, set_of, text, value};
use rpc::{Failure, Rpc};

/// Where the daemons of a system, or of an image, have their sockets.
const SYSTEM_RUNDIR: &str = "/run/openvswitch";

/// The key of our mark in `external_ids` of a bridge or port.
const MARK: &str = "conlink";

/// How long the switch may take for a change.
const LIMIT: Duration = Duration::from_secs(10);

/// How long the server may take for a transaction.
const ANSWER: Duration = Duration::from_secs(10);

/// How long the server waits for the switch before we see whether that lives.
const SLICE: Duration = Duration::from_millis(500);

const NO_TUN: &str = "give the engine's container the device /dev/net/tun and the capability NET_ADMIN";
const NO_MODULE: &str = "the kernel's module openvswitch makes no datapath here";

/// What forwarding there can be: None without the programs, userspace without the kernel's module.
pub fn probe() -> Option<Datapath> {
    probe_on(OsStr::new(SYSTEM_PATH))
}

/// The same with the folders of this PATH.
pub fn probe_on(path: &OsStr) -> Option<Datapath> {
    Programs::find(path).ok()?;
    Some(if datapath::in_kernel() { Datapath::Kernel } else { Datapath::Userspace })
}

/// What the switch logs when it cannot make a bridge, before the bridge's name.
const NOT_MADE: &str = "failed to create bridge ";

/// Open vSwitch in one namespace.
///
/// Every call first sees that the daemons live, and starts those of ours that do not.
#[derive(Debug)]
pub struct Ovs {
    netns: File,
    daemons: Daemons,
    /// Are the daemons ours to start and to end?
    own: bool,
    /// Where programs are looked for.
    path: OsString,
    datapath: Datapath,
    rpc: Option<Rpc>,
}

impl Ovs {
    /// Connects to the daemons that serve the namespace: our own of `rundir` or else those of the system. When there are
    /// none, our own are started. Answers when the switch has taken up what the database holds.
    pub fn start(netns: &File, rundir: &Path, datapath: Datapath) -> Result<Self, Error> {
        Self::start_on(OsStr::new(SYSTEM_PATH), netns, rundir, datapath)
    }

    /// The same with programs from the folders of this PATH.
    pub fn start_on(path: &OsStr, netns: &File, rundir: &Path, datapath: Datapath) -> Result<Self, Error> {
        let mut ovs = Self::new(path, netns, rundir, datapath)?;
        ovs.ready()?;
        Ok(ovs)
    }

    /// Connects to the daemons that [`Ovs::start`] would find, and starts none: None when there are none.
    pub fn find(netns: &File, rundir: &Path, datapath: Datapath) -> Result<Option<Self>, Error> {
        let mut ovs = Self::new(OsStr::new(SYSTEM_PATH), netns, rundir, datapath)?;
        if !ovs.daemons.serve(netns) {
            return Ok(None);
        }
        ovs.rpc = Rpc::connect(&ovs.daemons.socket()).ok();
        Ok(ovs.rpc.is_some().then_some(ovs))
    }

    /// Has an engine that was killed left a database there, and so perhaps bridges? Then [`Ovs::start`] shows them and
    /// [`Ovs::stop`] removes them.
    pub fn is_left(rundir: &Path) -> bool {
        Daemons::new(rundir.to_owned()).left_something()
    }

    fn new(path: &OsStr, netns: &File, rundir: &Path, datapath: Datapath) -> Result<Self, Error> {
        // The daemons have a working folder of their own.
        let rundir = std::path::absolute(rundir).map_err(|it| Error::new("find the working folder", it))?;
        let netns = netns.try_clone().map_err(|it| Error::new("hold a network namespace", it))?;
        let (daemons, own) = choose(rundir, PathBuf::from(SYSTEM_RUNDIR), &netns);
        Ok(Self { netns, daemons, own, path: path.to_owned(), datapath, rpc: None })
    }

    /// Ends the daemons if they are ours, with every interface that they made, and removes their folder.
    pub fn stop(mut self) -> Result<(), Error> {
        if !self.own {
            return Ok(());
        }
        // A switch that was killed left its interfaces: only another one knows how to remove them.
        if let Err(error) = self.ready() {
            log::warn!("{error}: interfaces of Open vSwitch may be left");
        }
        self.rpc = None;
        self.daemons.end_all()?;
        self.daemons.remove()
    }

    /// Files that can be read from when a daemon has ended: then it is time for any call, which starts it again. They
    /// tell of those that live now.
    pub fn watch(&self) -> io::Result<Vec<OwnedFd>> {
        self.daemons.watch()
    }

    /// Connects if need be, and starts what does not live if that is ours.
    fn ready(&mut self) -> Result<(), Error> {
        if self.rpc.is_some() && self.daemons.serve(&self.netns) {
            return Ok(());
        }
        let mut opened = self.open()?;
        // One that has been killed may look alive until we wait for it.
        if let Err(Failure::Broken(error)) = &opened {
            log::debug!("wait for Open vSwitch: {error}: once more");
            opened = self.open()?;
        }
        opened.map_err(|it| {
            self.rpc = None;
            self.error("wait for Open vSwitch".to_owned(), it)
        })
    }

    /// Answers how it went when the switch was asked to take up what the database holds.
    fn open(&mut self) -> Result<Result<(), Failure>, Error> {
        self.rpc = None;
        let socket = self.daemons.socket();
        let mut rpc = None;
        let mut connect = || {
            let fail = |it: Failure| self.error("connect to Open vSwitch".to_owned(), it);
            rpc = Some(connect(&socket).map_err(fail)?);
            Ok(())
        };
        if self.own {
            self.daemons.start(&self.netns, self.datapath, || Programs::find(&self.path), connect)?;
        } else {
            connect()?;
        }
        self.rpc = rpc;
        Ok(self.commit(Vec::new(), LIMIT).map(drop))
    }

    /// Does what may be done twice, as it is when the connection breaks amid it.
    fn attempt<T>(
        &mut self,
        what: impl Fn() -> String,
        act: impl Fn(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        self.ready()?;
        let mut result = act(self);
        if let Err(Failure::Broken(error)) = &result {
            log::debug!("{}: {error}: once more", what());
            self.rpc = None;
            self.ready()?;
            result = act(self);
        }
        if matches!(result, Err(Failure::Broken(_) | Failure::Late)) {
            self.rpc = None;
        }
        result.map_err(|it| self.error(what(), it))
    }

    fn transact(&mut self, operations: Vec<Value>) -> Result<Answers, Failure> {
        let rpc = self.rpc.as_mut().ok_or_else(|| Failure::Broken(io::ErrorKind::NotConnected.into()))?;
        transact(rpc, operations)
    }

    /// A transaction that has the switch look at the database, and waits until it has done what that says.
    fn commit(&mut self, mut operations: Vec<Value>, limit: Duration) -> Result<Answers, Failure> {
        let end = Instant::now() + limit;
        let last = operations.len() + 1;
        operations.push(mutate(DATABASE, json!([]), json!([["next_cfg", "+=", 1]])));
        operations.push(select(DATABASE, json!([]), &["next_cfg", "cur_cfg"]));
        let answers = self.transact(operations)?;
        let wanted = answers.column(last, "next_cfg").and_then(Value::as_i64).unwrap_or_default();
        let mut current = answers.column(last, "cur_cfg").and_then(Value::as_i64).unwrap_or_default();
        while current < wanted {
            if Instant::now() > end {
                return Err(Failure::Late);
            }
            if self.daemons.pid(SWITCH).is_none() {
                return Err(Failure::Broken(io::Error::other(format!("{SWITCH} has ended"))));
            }
            let wait = json!({
                "op": "wait", "table": DATABASE, "where": [], "columns": ["cur_cfg"], "until": "!=",
                "rows": [{"cur_cfg": current}], "timeout": SLICE.as_millis() as u64,
            });
            match self.transact(vec![wait, select(DATABASE, json!([]), &["cur_cfg"])]) {
                Ok(found) => {
                    current = found.column(1, "cur_cfg").and_then(Value::as_i64).unwrap_or_default();
                }
                Err(Failure::Refused(reason)) if reason.starts_with("timed out") => {}
                Err(other) => return Err(other),
            }
        }
        Ok(answers)
    }

    fn device_error(&mut self, name: &str) -> Result<Option<String>, Failure> {
        Ok(self.device_errors(&[name])?.into_iter().flatten().next())
    }

    /// Why the switch does not use these interfaces; None for one that it does.
    fn device_errors(&mut self, names: &[&str]) -> Result<Vec<Option<String>>, Failure> {
        let look =
            names.iter().map(|it| select("Interface", is("name", *it), &["error", "ofport"])).collect();
        let found = self.transact(look)?;
        let error = |(at, name): (usize, &&str)| {
            let told = found.column(at, "error").and_then(text).map(str::to_owned);
            told.or_else(|| {
                let number = found.column(at, "ofport").and_then(number);
                // A bridge that cannot be made is told of in the log alone.
                let logged = || self.daemons.soon_logged(&format!("{NOT_MADE}{name}: "));
                let no_reason = || format!("{SWITCH} does not take it up");
                number.is_none_or(|it| it < 0).then(|| logged().unwrap_or_else(no_reason))
            })
        };
        Ok(names.iter().enumerate().map(error).collect())
    }

    fn error(&self, request: String, failure: Failure) -> Error {
        let reason = match failure {
            // As the kernel has it: what a request is about may well be gone by now.
            Failure::Missing(told) => return Error::new(request, nix::Error::ENODEV).with_message(told),
            Failure::Device(told) if told.starts_with(NOT_MADE) => {
                let hint = if self.datapath == Datapath::Kernel { NO_MODULE } else { NO_TUN };
                return Error::new(request, io::Error::other(told)).with_hint(hint);
            }
            Failure::Device(told) => {
                const NO_DEVICE: &str = " (No such device)";
                if let Some(told) = told.strip_suffix(NO_DEVICE) {
                    return Error::new(request, nix::Error::ENODEV).with_message(told);
                }
                told
            }
            Failure::Refused(told) => told,
            Failure::Broken(error) => format!("{} is of no use: {error}", self.daemons.socket().display()),
            Failure::Late => {
                let logged = self.daemons.last_logged("|").map(|it| format!("; its last words: {it}"));
                format!("{SWITCH} does not answer{}", logged.unwrap_or_default())
            }
        };
        Error::new(request, io::Error::other(reason))
    }
}

/// Those of the system only where they serve and ours have nothing there: two switches in one namespace would make the
/// same interfaces.
fn choose(rundir: PathBuf, system: PathBuf, netns: &File) -> (Daemons, bool) {
    let (own, system) = (Daemons::new(rundir), Daemons::new(system));
    if !own.left_something() && system.serve(netns) { (system, false) } else { (own, true) }
}

/// Connects to the database, which has its one row then.
fn connect(socket: &Path) -> Result<Rpc, Failure> {
    let mut rpc = Rpc::connect(socket).map_err(Failure::Broken)?;
    let found = transact(&mut rpc, vec![select(DATABASE, json!([]), &["_uuid"])])?;
    if found.rows(0).is_empty() {
        transact(&mut rpc, vec![insert(DATABASE, json!({}), "root")])?;
    }
    Ok(rpc)
}

fn transact(rpc: &mut Rpc, operations: Vec<Value>) -> Result<Answers, Failure> {
    let mut params = vec![Value::from(DATABASE)];
    params.extend(operations);
    Answers::new(rpc.call("transact", &Value::Array(params), ANSWER)?)
}

fn mark_of(row: &Value) -> Option<&str> {
    value(row.get("external_ids")?, MARK)
}

fn set_mark(table: &str, name: &str, mark: &str) -> Vec<Value> {
    // Inserting leaves a key that is there as it is.
    let delete = json!(["external_ids", "delete", set_of(vec![MARK.into()])]);
    let insert = json!(["external_ids", "insert", map_of(&[(MARK, mark)])]);
    vec![mutate(table, is("name", name), json!([delete, insert]))]
}

fn no_bridge(name: &IfName) -> Failure {
    Failure::Missing(format!("there is no bridge {name}"))
}

#[cfg(test)]
mod tests;
