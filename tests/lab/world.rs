//! A world: network, processes, mounts and `/run` of its own, so that everything that a lab makes can be counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use walkdir::WalkDir;

use crate::support::{Run, finish, skip};

/// Default time limit.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The first process of a world. It ends, and with it all others, when its standard input is closed: when the world is
/// dropped or the test is killed. Until then it reaps orphans.
const INIT: &str = "mount -t tmpfs -o mode=755 none /run && exec 3<&0 && { cat <&3 & } && wait";

pub(crate) struct World {
    init: Child,
    net: File,
    pids: File,
    mounts: File,
    /// The project's folder.
    dir: tempfile::TempDir,
    /// The user of programs in the world; None: root.
    user: Option<u32>,
    /// The binary, at a path where that user may run it.
    pub(crate) binary: PathBuf,
    pub(crate) env: BTreeMap<String, String>,
}

/// Everything that a lab could leave behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// `PID NAME` of each process, without zombies.
    pub(crate) processes: BTreeSet<String>,
    /// Inodes of the network namespaces of processes.
    pub(crate) networks: BTreeSet<u64>,
    pub(crate) mounts: BTreeSet<String>,
    pub(crate) interfaces: BTreeSet<String>,
    /// Below `/run`, without the folders that all labs share.
    pub(crate) files: BTreeSet<String>,
}

impl World {
    /// A new world. None, with a report, if this machine does not allow it.
    pub(crate) fn new(what: &str) -> Option<Self> {
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            INIT,
        ]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut init = command.spawn().unwrap();
        // The answer shows that the first process has started.
        let _ = std::io::Write::write_all(init.stdin.as_mut().unwrap(), b"ready");
        let mut said = [0; 5];
        let read = std::io::Read::read_exact(init.stdout.as_mut().unwrap(), &mut said);
        if read.is_err() {
            let run = finish(init, "unshare", LIMIT);
            skip(what, &format!("no world of its own can be made: {}", run.stderr.trim()));
            return None;
        }
        let open = |it: &str| File::open(format!("/proc/{}/ns/{it}", init.id())).unwrap();
        let [net, pids, mounts] = ["net", "pid_for_children", "mnt"].map(open);
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_conlink"));
        let env = [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("HOME", "/")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let dir = tempfile::tempdir().unwrap();
        Some(Self { init, net, pids, mounts, dir, user: None, binary, env: env.into() })
    }

    /// Runs later programs as an ordinary user with a runtime folder.
    pub(crate) fn become_user(&mut self, uid: u32) {
        self.user = Some(uid);
        let runtime = self.path("runtime");
        fs::create_dir(&runtime).unwrap();
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).unwrap();
        for path in [self.dir(), &runtime] {
            chown(path, Some(uid), Some(uid)).unwrap();
        }
        self.env.insert("XDG_RUNTIME_DIR".to_owned(), runtime.to_str().unwrap().to_owned());
        let mut probe = Command::new("test");
        probe.arg("-x").arg(&self.binary);
        if self.run(probe).code != 0 {
            let copy = self.path("conlink");
            fs::copy(&self.binary, &copy).unwrap();
            self.binary = copy;
        }
    }

    /// Runs later programs as another user without a runtime folder.
    pub(crate) fn become_other(&mut self, uid: u32) {
        self.user = Some(uid);
        self.env.remove("XDG_RUNTIME_DIR");
        Self::open_to_all(self.dir());
    }

    pub(crate) fn open_to_all(path: &Path) {
        for folder in
            WalkDir::new(path).into_iter().map(|it| it.unwrap()).filter(|it| it.file_type().is_dir())
        {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    /// The path outside the world of a file in it.
    pub(crate) fn outside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init.id()))
    }

    /// A conlink command for this world.
    pub(crate) fn conlink(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(args);
        command
    }

    /// Starts a program in the world, in the project's folder, with the variables of the world and of the command. The
    /// process ID is the one outside.
    pub(crate) fn start(&self, command: Command) -> Child {
        let mut full = match self.user {
            None => Command::new(command.get_program()),
            Some(uid) => {
                let mut full = Command::new("setpriv");
                full.arg(format!("--reuid={uid}")).arg(format!("--regid={uid}")).arg("--clear-groups");
                full.arg(command.get_program());
                full
            }
        };
        full.args(command.get_args()).current_dir(command.get_current_dir().unwrap_or(self.dir()));
        full.env_clear().envs(&self.env);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => full.env(name, value),
                None => full.env_remove(name),
            };
        }
        full.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = || {
            // A mount namespace can be entered only without shared file system attributes.
            unshare(CloneFlags::CLONE_FS).unwrap();
            setns(&self.net, CloneFlags::CLONE_NEWNET).unwrap();
            setns(&self.pids, CloneFlags::CLONE_NEWPID).unwrap();
            setns(&self.mounts, CloneFlags::CLONE_NEWNS).unwrap();
            full.spawn().unwrap()
        };
        std::thread::scope(|scope| scope.spawn(start).join()).unwrap()
    }

    pub(crate) fn run(&self, command: Command) -> Run {
        self.run_within(command, LIMIT)
    }

    pub(crate) fn run_within(&self, command: Command, limit: Duration) -> Run {
        let what = format!("{command:?}");
        let mut child = self.start(command);
        drop(child.stdin.take());
        without_progress(finish(child, &what, limit))
    }

    /// Runs a shell command in the world, which must succeed. Returns its output.
    pub(crate) fn sh(&self, line: &str) -> String {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        let run = self.run(command);
        assert_eq!(run.code, 0, "{line}: {run:?}");
        run.stdout
    }

    pub(crate) fn machine(&self) -> Machine {
        // Before `ip` runs, which is a process too.
        let mut machine = self.processes();
        machine.interfaces = self.sh("ip -o link").lines().map(str::to_owned).collect();
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.init.id())).unwrap();
        machine.mounts = mounts.lines().map(str::to_owned).collect();
        let mut roots = vec![self.outside("/run")];
        roots.extend(self.env.get("XDG_RUNTIME_DIR").map(PathBuf::from));
        for entry in roots.iter().flat_map(|it| WalkDir::new(it).min_depth(1)).flatten() {
            let shown = entry.path().to_str().unwrap();
            if !["/conlink", "/conlink/lab"].iter().any(|it| shown.ends_with(it)) {
                machine.files.insert(shown.to_owned());
            }
        }
        machine
    }

    fn processes(&self) -> Machine {
        let mut processes = BTreeSet::new();
        let mut networks = BTreeSet::new();
        for entry in fs::read_dir(self.outside("/proc")).unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_str().unwrap().parse::<u32>() else { continue };
            // The process may end meanwhile.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            let (name, rest) = stat.split_once('(').unwrap().1.rsplit_once(')').unwrap();
            if rest.trim().starts_with(['Z', 'X']) {
                continue;
            }
            processes.insert(format!("{pid} {name}"));
            let link = fs::read_link(entry.path().join("ns/net"));
            networks.extend(link.ok().and_then(|it| inode(it.to_str().unwrap())));
        }
        let (mounts, interfaces, files) = Default::default();
        Machine { processes, networks, mounts, interfaces, files }
    }

    /// Waits until the world is as before.
    #[track_caller]
    pub(crate) fn expect(&self, before: &Machine) {
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            let now = self.machine();
            if now == *before {
                return;
            }
            assert!(Instant::now() < end, "{}", difference(before, &now));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.init.stdin.take());
        let _ = self.init.kill();
        let _ = self.init.wait();
    }
}

/// Removes the lines about what a command waits for. A busy machine has more of them.
pub(crate) fn without_progress(run: Run) -> Run {
    let lines = run.stderr.split_inclusive('\n').filter(|it| !is_progress(it));
    Run { stderr: lines.collect(), ..run }
}

pub(crate) fn is_progress(line: &str) -> bool {
    line.starts_with("lab ")
        && !line.contains(" is up: ")
        && (line.contains(" nodes") || line.contains("waiting for "))
}

/// `net:[4026531840]`
fn inode(text: &str) -> Option<u64> {
    text.split_once('[')?.1.strip_suffix(']')?.parse().ok()
}

fn difference(before: &Machine, now: &Machine) -> String {
    fn one<T: Ord + std::fmt::Debug>(what: &str, before: &BTreeSet<T>, now: &BTreeSet<T>) -> String {
        let more: Vec<_> = now.difference(before).collect();
        let less: Vec<_> = before.difference(now).collect();
        if more.is_empty() && less.is_empty() {
            return String::new();
        }
        format!("{what}: left over {more:#?}, gone {less:#?}\n")
    }
    [
        one("processes", &before.processes, &now.processes),
        one("network namespaces", &before.networks, &now.networks),
        one("mounts", &before.mounts, &now.mounts),
        one("interfaces", &before.interfaces, &now.interfaces),
        one("files", &before.files, &now.files),
    ]
    .concat()
}
