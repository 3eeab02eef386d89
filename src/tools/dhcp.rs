//! Addresses by DHCP: runs a client of this machine inside a guest's network namespace.
//!
//! The client runs a script of ours for each event, which is this binary under the name [`SCRIPT`]. It sets address and
//! routes and nothing else, so no file of the machine changes. The script's folder belongs to one interface: it has what
//! the client writes, the lease, and a lock that shows whether a client runs.

mod event;

use std::ffi::OsString;
use std::fs::{self, File, create_dir_all, remove_dir_all};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::addr::{Cidr, IfName};
use crate::kernel::{lease, netns};
use crate::process::{self, Program, Running, SYSTEM_PATH, is_executable};
use crate::tools::exec::find;

/// The name of the script, a tool without a place in the help.
pub(crate) const SCRIPT: &str = "conlink-dhcp";

/// The first argument of a process that keeps a client running.
const KEEP: &str = "keep";

/// One folder for each interface.
const FOLDER: &str = "/run/conlink/attach/dhcp";

/// Time that clients get for a lease. dhclient is told of it, and 5 requests of udhcpc take about as long.
const PATIENCE: Duration = Duration::from_secs(12);

/// Time after which a client is killed that should have ended on its own.
const LIMIT: Duration = Duration::from_secs(20);

/// Time for the end of a client that has a lease.
const END: Duration = Duration::from_secs(3);

/// Time between two looks for a lease.
const STEP: Duration = Duration::from_millis(10);

/// Time between two looks at the interface of a client that keeps running, and the number of these between two looks for
/// processes of the guest.
const LOOK: Duration = Duration::from_secs(1);
const LOOKS: u32 = 5;

/// Bytes of each file that a client writes, of which its messages are one.
const LONGEST_FILE: u64 = 1 << 20;

/// A DHCP client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub(in crate::tools) enum Client {
    /// The first that is installed
    Any,
    Udhcpc,
    Dhclient,
    Dhcpcd,
}

/// What to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::tools) struct Dhcp {
    pub(in crate::tools) client: Client,
    /// The guest in the name of the file with the process ID.
    pub(in crate::tools) guest: String,
    /// The host name that the server is told.
    pub(in crate::tools) hostname: Option<String>,
    /// More options of the client.
    pub(in crate::tools) options: Vec<String>,
    /// The client keeps running and renews the lease, until the interface or the guest is gone.
    pub(in crate::tools) keep: bool,
}

/// An installed client.
#[derive(Debug)]
struct Installed {
    client: Client,
    program: Program,
}

impl Client {
    fn name(self) -> &'static str {
        match self {
            Self::Any => "dhcp",
            Self::Udhcpc => "udhcpc",
            Self::Dhclient => "dhclient",
            Self::Dhcpcd => "dhcpcd",
        }
    }

    fn installed(self) -> Option<Installed> {
        let found = |name: &str| {
            let system = || process::find(name.as_ref(), SYSTEM_PATH.as_ref(), is_executable);
            find(name.as_ref()).or_else(system).map(Program::new)
        };
        let program = found(self.name()).or_else(|| {
            // busybox need not have it.
            let busybox = found("busybox").filter(|_| self == Self::Udhcpc)?.arg(self.name());
            match busybox.clone().arg("--help").run(LIMIT) {
                Err(process::Error::Failed { status, .. }) if status.code() == Some(127) => None,
                Err(process::Error::Start { .. } | process::Error::Late { .. }) => None,
                Ok(()) | Err(process::Error::Failed { .. }) => Some(busybox),
            }
        })?;
        Some(Installed { client: self, program })
    }
}

impl Dhcp {
    /// The client to run.
    fn installed(&self) -> anyhow::Result<Installed> {
        match self.client {
            Client::Dhcpcd if self.keep => bail!("dhcpcd cannot keep running; use udhcpc or dhclient"),
            Client::Any => {
                let mut all = vec![Client::Udhcpc, Client::Dhclient, Client::Dhcpcd];
                all.retain(|it| !self.keep || *it != Client::Dhcpcd);
                let found = all.iter().find_map(|it| it.installed());
                let names: Vec<&str> = all.iter().map(|it| it.name()).collect();
                found.with_context(|| format!("no DHCP client found; install one of {}", names.join(", ")))
            }
            it => it.installed().with_context(|| format!("DHCP client {} not found", it.name())),
        }
    }

    /// Gets a lease for an interface of the namespace, which must be up. Address and routes are set.
    ///
    /// # Errors
    /// No client is installed, or it got no lease. It has ended then, and nothing is left of it.
    pub(in crate::tools) fn run(&self, netns: &File, dev: &IfName) -> anyhow::Result<Cidr> {
        let installed = self.installed()?;
        if let Some(addr) = running(netns, dev)? {
            return Ok(addr);
        }
        if self.keep {
            self.run_keeper(netns, dev)
        } else {
            Session::start(self, installed, netns, dev)?.finish()
        }
    }

    /// Starts a process that starts the client and ends it in time. Returns when there is a lease.
    fn run_keeper(&self, netns: &File, dev: &IfName) -> anyhow::Result<Cidr> {
        let order = Order {
            dhcp: self.clone(),
            netns: format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(netns)),
            dev: dev.to_string(),
        };
        let program = Program::new(std::env::current_exe()?).arg(SCRIPT).arg(KEEP);
        let folder = folder(netns, dev)?;
        // A killed one may have left it.
        let _ = fs::remove_file(folder.join("lease"));
        let mut keeper = program.arg(serde_json::to_string(&order)?).start()?;
        let end = Instant::now() + LIMIT + END;
        loop {
            match keeper.wait(STEP) {
                Ok(false) => {}
                Ok(true) => bail!("the DHCP client has ended"),
                Err(process::Error::Failed { printed, .. }) => {
                    bail!("{}", printed.strip_prefix("error: ").unwrap_or(&printed).to_owned())
                }
                Err(error) => return Err(error.into()),
            }
            if let Some(addr) = leased(&folder) {
                return Ok(addr);
            }
            if Instant::now() >= end {
                return Err(keeper.kill(LIMIT).into());
            }
        }
    }
}

/// What the keeping process gets as its argument.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    dhcp: Dhcp,
    /// The path of the namespace.
    netns: String,
    dev: String,
}

/// The address of the interface, if a client with a lease runs for it.
fn running(netns: &File, dev: &IfName) -> anyhow::Result<Option<Cidr>> {
    let folder = folder(netns, dev)?;
    let Ok(lock) = File::open(folder.join("lock")) else { return Ok(None) };
    match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
        Ok(_) => Ok(None),
        Err(_) => Ok(leased(&folder)),
    }
}

/// The folder of an interface. Another one with the same name has another index.
fn folder(netns: &File, dev: &IfName) -> anyhow::Result<PathBuf> {
    let index = index(netns, dev).with_context(|| format!("find interface {dev}"))?;
    Ok(Path::new(FOLDER).join(format!("{}-{index}", netns::inode(netns)?)))
}

fn index(netns: &File, dev: &IfName) -> io::Result<u32> {
    netns::inside(netns, || Ok(nix::net::if_::if_nametoindex(dev.as_str())?))
}

/// The address of the lease that the script has written to the folder.
fn leased(folder: &Path) -> Option<Cidr> {
    fs::read_to_string(folder.join("lease")).ok()?.trim().parse().ok()
}

/// A client that runs.
#[derive(Debug)]
struct Session {
    folder: Folder,
    client: Client,
    running: Running,
    dev: IfName,
    /// The file with the process ID.
    pid_file: Option<PathBuf>,
}

/// The folder of an interface, locked, and removed at the end.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    _lock: Flock<File>,
    /// Empty folders that were made for the client.
    made: Vec<&'static str>,
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = remove_dir_all(&self.path);
        // Unless others are there.
        let _ = fs::remove_dir(FOLDER);
        for it in &self.made {
            let _ = fs::remove_dir(it);
        }
    }
}

impl Folder {
    fn open(path: PathBuf) -> anyhow::Result<Self> {
        create_dir_all(&path)?;
        let file = File::options().create(true).append(true).open(path.join("lock"))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock);
        let lock =
            lock.map_err(|_| anyhow::anyhow!("another DHCP client is already asking for this interface"))?;
        // What a killed one has left.
        for name in ["lease", "failed", SCRIPT] {
            let _ = fs::remove_file(path.join(name));
        }
        std::os::unix::fs::symlink(std::env::current_exe()?, path.join(SCRIPT))?;
        Ok(Self { path, _lock: lock, made: Vec::new() })
    }
}

/// dhcpcd keeps leases and its process ID here, by the name of the interface, and has no option to change that.
const DHCPCD_FOLDERS: [&str; 2] = ["/var/lib/dhcpcd", "/run/dhcpcd"];

impl Session {
    fn start(dhcp: &Dhcp, installed: Installed, netns: &File, dev: &IfName) -> anyhow::Result<Self> {
        let path = folder(netns, dev)?;
        let failed = || format!("prepare {}", path.display());
        let mut folder = Folder::open(path.clone()).with_context(failed)?;
        let Installed { client, program } = installed;
        let name = client.name();
        let pid_file =
            dhcp.keep.then(|| PathBuf::from(format!("/var/run/{name}.{}.pid", dhcp.guest.replace('/', "_"))));
        let script = path.join(SCRIPT);
        let mut program = program.network(netns.try_clone()?).longest_file(LONGEST_FILE).ends_with_us();
        let mut args: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| args.extend(words.iter().map(|it| (*it).to_owned()));
        let text = |it: &Path| it.display().to_string();
        match client {
            Client::Udhcpc | Client::Any => {
                add(&["-f", "-i", dev.as_str(), "-n", "-t", "5", "-T", "2", "-s", &text(&script)]);
                // It asks for no classless routes otherwise.
                add(&["-O", "staticroutes"]);
                if !dhcp.keep {
                    add(&["-q"]);
                }
                if let Some(it) = &pid_file {
                    add(&["-p", &text(it)]);
                }
                if let Some(it) = &dhcp.hostname {
                    add(&["-x", &format!("hostname:{it}")]);
                }
            }
            Client::Dhclient => {
                let conf = path.join("dhclient.conf");
                fs::write(&conf, dhclient_conf(dhcp.hostname.as_deref())).with_context(failed)?;
                let pid_file = pid_file.clone().unwrap_or_else(|| path.join("pid"));
                add(&["-4", "-1", "-d", "-cf", &text(&conf), "-lf", &text(&path.join("leases"))]);
                add(&["-pf", &text(&pid_file), "-sf", &text(&script)]);
            }
            Client::Dhcpcd => {
                add(&["-4", "-1", "-B", "-L", "-A", "--nodelay", "--noconfigure", "-f", "/dev/null"]);
                add(&["-c", &text(&script), "-I", ""]);
                for it in ["subnet_mask", "routers", "classless_static_routes"] {
                    add(&["-o", it]);
                }
                add(&["-h", dhcp.hostname.as_deref().unwrap_or_default()]);
                for it in DHCPCD_FOLDERS {
                    if fs::create_dir(it).is_ok() {
                        folder.made.push(it);
                    }
                    program = program.emptied(it);
                }
            }
        }
        args.extend(dhcp.options.iter().cloned());
        if client != Client::Udhcpc {
            args.push(dev.to_string());
        }
        let running = args.into_iter().fold(program, Program::arg).start()?;
        Ok(Self { folder, client, running, dev: dev.clone(), pid_file })
    }

    /// Waits for a lease.
    fn wait(&mut self) -> anyhow::Result<Cidr> {
        // In the foreground dhcpcd has no time limit.
        let limit = if self.client == Client::Dhcpcd { PATIENCE } else { LIMIT };
        let end = Instant::now() + limit;
        loop {
            let ended = self.running.wait(STEP);
            if let Ok(why) = fs::read_to_string(self.folder.path.join("failed")) {
                bail!("{why}");
            }
            if let Some(addr) = leased(&self.folder.path) {
                return Ok(addr);
            }
            let dev = &self.dev;
            match ended {
                Ok(false) if Instant::now() < end => {}
                Ok(false) => bail!("no DHCP lease for `{dev}` within {} seconds", limit.as_secs()),
                Ok(true) => bail!("no DHCP lease for `{dev}`: {} has ended", self.client.name()),
                Err(process::Error::Failed { printed, program, .. }) if said(&printed).is_some() => {
                    let why = said(&printed).unwrap_or_default();
                    bail!("no DHCP lease for `{dev}`: {program}: {why}")
                }
                Err(error) => return Err(error).with_context(|| format!("no DHCP lease for `{dev}`")),
            }
        }
    }

    /// Waits for a lease, and ends the client without giving the lease back.
    fn finish(mut self) -> anyhow::Result<Cidr> {
        let result = self.wait();
        // The others end on their own.
        if result.is_ok() && self.client != Client::Dhclient {
            let _ = self.running.wait(END);
        }
        self.end();
        result
    }

    /// Kills the client, if it still runs.
    fn end(self) {
        let pid = self.running.id().to_string();
        let _ = self.running.kill(LIMIT);
        if let Some(it) = self.pid_file
            && fs::read_to_string(&it).is_ok_and(|it| it.trim() == pid)
        {
            let _ = fs::remove_file(it);
        }
    }
}

/// What a client says last, if that is about a lease. What it has said before is of no interest then.
fn said(printed: &str) -> Option<&str> {
    let last = printed.rsplit("; ").next()?;
    let last = last.rsplit_once(": ").map_or(last, |(_, it)| it);
    last.contains("lease").then_some(last)
}

/// The option for routes has no name in dhclient before it is defined.
fn dhclient_conf(hostname: Option<&str>) -> String {
    let mut text = format!(
        "option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;\n\
         request subnet-mask, routers, rfc3442-classless-static-routes;\n\
         timeout {};\ninitial-interval 1;\n",
        PATIENCE.as_secs()
    );
    if let Some(it) = hostname {
        text += &format!("send host-name \"{}\";\n", it.replace(['"', '\\', '\n'], ""));
    }
    text
}

/// The script's command line, which nobody reads.
pub(crate) fn command() -> clap::Command {
    clap::Command::default().name(SCRIPT)
}

/// The script of a client, or the process that keeps one running.
pub(crate) fn main(args: Vec<OsString>) -> anyhow::Result<u8> {
    let word = |index: usize| args.get(index).and_then(|it| it.to_str());
    if let (Some(KEEP), Some(order)) = (word(1), word(2)) {
        return keep(&serde_json::from_str(order)?);
    }
    let Some(folder) = word(0).and_then(|it| Path::new(it).parent()).filter(|it| it.starts_with(FOLDER))
    else {
        bail!("this is the script of a DHCP client");
    };
    let result = handle(folder, word(1));
    if let Err(error) = &result {
        put(folder, "failed", &format!("{error:#}"))?;
    }
    result
}

fn handle(folder: &Path, word: Option<&str>) -> anyhow::Result<u8> {
    let var = |name: &str| std::env::var(name).ok();
    let dev =
        || Ok::<IfName, anyhow::Error>(var("interface").context("the client names no interface")?.parse()?);
    let earlier = leased(folder);
    match event::read(word, var)? {
        event::Event::Bound(it) => {
            lease::set(&dev()?, Some(&it), earlier)?;
            put(folder, "lease", &it.addr.to_string())?;
        }
        // A client that starts says so too, when there is nothing to take away yet.
        event::Event::Lost if earlier.is_some() => {
            lease::set(&dev()?, None, earlier)?;
            fs::remove_file(folder.join("lease"))?;
        }
        event::Event::Refused => return Ok(1),
        event::Event::Lost | event::Event::Other => {}
    }
    Ok(0)
}

/// Writes a file of the folder at once.
fn put(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let beside = folder.join(format!("{name}.new"));
    fs::write(&beside, text)?;
    fs::rename(beside, folder.join(name))
}

/// Runs a client until its interface or its guest is gone. A client in a namespace would hold it for ever.
fn keep(order: &Order) -> anyhow::Result<u8> {
    let netns = File::open(&order.netns).context("open the network namespace")?;
    let dev: IfName = order.dev.parse()?;
    let inode = netns::inode(&netns)?;
    let number = index(&netns, &dev)?;
    let mut session = Session::start(&order.dhcp, order.dhcp.installed()?, &netns, &dev)?;
    if let Err(error) = session.wait() {
        session.end();
        return Err(error);
    }
    for look in 1.. {
        if !matches!(session.running.wait(LOOK), Ok(false)) {
            break;
        }
        let is_there = index(&netns, &dev).is_ok_and(|it| it == number);
        if !is_there || (look % LOOKS == 0 && !netns::is_held(inode, session.running.id())) {
            break;
        }
    }
    session.end();
    Ok(0)
}
