//! Programs that run on their own: daemons, and programs with a time limit.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, killpg, signal};
use nix::unistd::Pid;

use crate::process::node::enter_network;

/// The folders of system programs, for use without PATH: Debian's for root, and NixOS's.
pub const SYSTEM_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin";

/// Longest time between two checks of a running program.
const STEP: Duration = Duration::from_millis(8);

/// Bytes of a failed program's output that are kept: the end, which has the reason.
const PRINTED: u64 = 4096;

/// Why a program failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("start {program}")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
    /// It ended with an exit code other than 0, or by a signal.
    #[error("{program}: {status}{}", after_colon(.printed))]
    Failed {
        program: String,
        status: ExitStatus,
        /// The end of its standard error.
        printed: String,
    },
    /// It exceeded its time limit and was killed.
    #[error("{program} did not end within {} seconds{}", .limit.as_secs_f32(), after_colon(.printed))]
    Late { program: String, limit: Duration, printed: String },
}

fn after_colon(printed: &str) -> String {
    if printed.is_empty() { String::new() } else { format!(": {printed}") }
}

/// The file of a program: the name itself if it contains a slash, else the first file of that name that `fits` in the
/// folders of `path`, which has the format of the variable PATH.
pub fn find(name: &OsStr, path: &OsStr, fits: fn(&Path) -> bool) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name)).filter(|it| it.exists());
    }
    let folders = path.as_bytes().split(|it| *it == b':').filter(|_| !name.is_empty());
    folders.map(|it| Path::new(OsStr::from_bytes(it)).join(name)).find(|it| fits(it))
}

/// Whether this is an executable file, by an absolute path.
pub fn is_executable(path: &Path) -> bool {
    path.is_absolute() && path.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

/// A program with its arguments, to be run in a new session: it gets no signals from our terminal and none of our open
/// files. Its standard input and output are `/dev/null`.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    vars: Vec<(OsString, OsString)>,
    setting: Setting,
}

/// What a program is given between fork and exec.
#[derive(Clone, Debug, Default)]
struct Setting {
    longest_file: Option<u64>,
    network: Option<Arc<File>>,
    emptied: Vec<PathBuf>,
    ends_with_us: bool,
}

impl Program {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), args: Vec::new(), vars: Vec::new(), setting: Setting::default() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds a variable to the inherited environment.
    #[must_use]
    pub fn var(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.vars.push((name.into(), value.into()));
        self
    }

    /// Limits each file that it writes to this number of bytes. Beyond that its writes fail with EFBIG.
    #[must_use]
    pub fn longest_file(mut self, bytes: u64) -> Self {
        self.setting.longest_file = Some(bytes);
        self
    }

    /// Runs it in this network namespace, and in the other namespaces of the calling thread.
    #[must_use]
    pub fn network(mut self, netns: File) -> Self {
        self.setting.network = Some(Arc::new(netns));
        self
    }

    /// Shows it an empty folder of its own in place of this one, which must exist. What it writes there ends with it.
    #[must_use]
    pub fn emptied(mut self, folder: impl Into<PathBuf>) -> Self {
        self.setting.emptied.push(folder.into());
        self
    }

    /// Kills it when the thread that starts it ends.
    #[must_use]
    pub fn ends_with_us(mut self) -> Self {
        self.setting.ends_with_us = true;
        self
    }

    /// Runs it until it ends, in the namespaces of the calling thread. A daemon that goes to the background keeps
    /// running, even after our end.
    pub fn run(&self, limit: Duration) -> Result<(), Error> {
        let mut running = self.start()?;
        match running.wait(limit)? {
            true => Ok(()),
            false => Err(running.kill(limit)),
        }
    }

    /// Starts the program in the namespaces of the calling thread.
    pub fn start(&self) -> Result<Running, Error> {
        // Not a pipe: a daemon that keeps standard error open would block its reader forever.
        let stderr =
            memfd_create(c"stderr", MFdFlags::MFD_CLOEXEC).map_err(|it| self.start_error(it.into()))?;
        let stderr = File::from(stderr);
        let given = stderr.try_clone().map_err(|it| self.start_error(it))?;
        let child = self.command(given).spawn().map_err(|it| self.start_error(it))?;
        Ok(Running { program: self.name(), child, stderr })
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that starts programs")]
    fn command(&self, stderr: File) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.args).envs(self.vars.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        in_a_session_of_its_own(&mut command, self.setting.clone());
        command
    }

    fn start_error(&self, source: io::Error) -> Error {
        Error::Start { program: self.name(), source }
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }
}

/// A started program.
#[derive(Debug)]
pub struct Running {
    program: String,
    child: Child,
    stderr: File,
}

impl Running {
    /// Its process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits at most `limit` for its end. Returns false if it still runs, and an error if it failed. If another part of
    /// this process has reaped it, its result is unknown and counts as success.
    pub fn wait(&mut self, limit: Duration) -> Result<bool, Error> {
        let program = || self.program.clone();
        match wait(&mut self.child, limit) {
            Ok(None) => Ok(false),
            Ok(Some(status)) if status.success() => Ok(true),
            Ok(Some(status)) => {
                let program = program();
                Err(Error::Failed { program, status, printed: self.printed() })
            }
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(true),
            Err(source) => Err(Error::Start { program: program(), source }),
        }
    }

    /// Kills it and its children. Returns the error that it did not end within `limit`.
    pub fn kill(mut self, limit: Duration) -> Error {
        // Its process group has its own number.
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
        let printed = self.printed();
        Error::Late { program: self.program, limit, printed }
    }

    fn printed(&mut self) -> String {
        last_part(&mut self.stderr).unwrap_or_default()
    }
}

#[expect(unsafe_code, reason = "the standard library has no other way to act between fork and exec")]
fn in_a_session_of_its_own(command: &mut Command, setting: Setting) {
    let prepare = move || {
        nix::unistd::setsid()?;
        if setting.ends_with_us {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        }
        if let Some(netns) = &setting.network {
            enter_network(netns)?;
        }
        if !setting.emptied.is_empty() {
            empty(&setting.emptied)?;
        }
        if let Some(bytes) = setting.longest_file {
            limit_files(bytes)?;
        }
        // Inherited files may not be close-on-exec. Kernels before 5.11 lack the call; the error is ignored.
        // SAFETY: the flag closes nothing before exec; the numbers are passed by value.
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        Ok(())
    };
    // SAFETY: a few system calls, which are safe after fork, without allocations or locks.
    unsafe { command.pre_exec(prepare) };
}

/// Moves this process into a mount namespace of its own, with an empty tmpfs on each folder.
fn empty(folders: &[PathBuf]) -> nix::Result<()> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    folders.iter().try_for_each(|it| mount(none, it, Some("tmpfs"), flags, Some("mode=755")))
}

/// Sets the limit of `setrlimit(2)`. Ignores its signal, which would end the program; exec keeps that.
#[expect(unsafe_code, reason = "no crate offers a safe way")]
fn limit_files(bytes: u64) -> nix::Result<()> {
    // SAFETY: no handler runs.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }?;
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE)?;
    setrlimit(Resource::RLIMIT_FSIZE, bytes.min(hard), hard)
}

/// Waits at most `limit`; None if it still runs.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    let mut step = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        std::thread::sleep(step);
        step = (step * 2).min(STEP);
    }
}

fn last_part(file: &mut File) -> io::Result<String> {
    let length = file.metadata()?.len();
    file.seek(io::SeekFrom::Start(length.saturating_sub(PRINTED)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().map(str::trim).filter(|it| !it.is_empty()).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    const SECONDS: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Program {
        Program::new("/bin/sh").arg("-c").arg(script)
    }

    #[test]
    fn find_returns_the_first_executable_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a", "b", "c"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::fs::create_dir(at("a/prog")).unwrap();
        std::fs::write(at("b/prog"), "").unwrap();
        std::fs::write(at("c/prog"), "").unwrap();
        let path = ["", ".", "/nowhere"].map(str::to_owned).into_iter();
        let path = path.chain(["a", "b", "c"].map(|it| at(it).display().to_string()));
        let path = OsString::from(path.collect::<Vec<_>>().join(":"));
        let prog = OsStr::new("prog");
        assert_eq!(find(prog, &path, is_executable), None);
        assert_eq!(find(prog, &path, Path::exists), Some(at("a/prog")));
        std::fs::set_permissions(at("c/prog"), PermissionsExt::from_mode(0o700)).unwrap();
        assert_eq!(find(prog, &path, is_executable), Some(at("c/prog")));
        assert_eq!(find(prog, OsStr::new(""), is_executable), None);
        assert_eq!(find(OsStr::new(""), &path, Path::exists), None);
        for (name, found) in [("a/prog", true), ("none/prog", false)] {
            let file = at(name);
            assert_eq!(find(file.as_os_str(), &path, is_executable), Some(file.clone()).filter(|_| found));
        }
    }

    #[test]
    fn errors_contain_the_output_of_the_program() {
        assert!(shell("exit 0").run(SECONDS).is_ok());
        let error = shell("echo one >&2; echo; echo ' two' >&2; exit 3").run(SECONDS).unwrap_err();
        assert_eq!(error.to_string(), "sh: exit status: 3: one; two");
        let error = shell("kill -9 $$").run(SECONDS).unwrap_err();
        assert_eq!(error.to_string(), "sh: signal: 9 (SIGKILL)");
        let error = Program::new("/nowhere/prog").run(SECONDS).unwrap_err();
        assert_eq!(error.to_string(), "start prog");
        let long = shell("i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i + 1)); done; exit 1");
        let text = long.run(SECONDS).unwrap_err().to_string();
        assert!(text.len() < 6000 && text.ends_with("line 2998; line 2999"), "{text}");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        let script = format!("echo stuck >&2; sleep 1000 & echo $! >{}; wait", pids.display());
        let error = shell(&script).run(Duration::from_millis(300)).unwrap_err();
        assert_eq!(error.to_string(), "sh did not end within 0.3 seconds: stuck");
        let pid: i32 = std::fs::read_to_string(&pids).unwrap().trim().parse().unwrap();
        let end = Instant::now() + SECONDS;
        while running(pid) {
            assert!(Instant::now() < end, "{pid} lives on");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Does that process run, and is it not a zombie?
    fn running(pid: i32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|it| !it.is_empty() && !it.starts_with('Z'))
    }

    #[test]
    fn a_program_inherits_neither_our_session_nor_our_files() {
        let folder = tempfile::tempdir().unwrap();
        let told = folder.path().join("told");
        let file = File::create(folder.path().join("open")).unwrap();
        // Not close-on-exec, like a file that this process has inherited.
        nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
        let script =
            "ls /proc/self/fd >$OUT; readlink /proc/self/fd/0 >>$OUT; cut -d' ' -f1,6 /proc/$$/stat >>$OUT";
        shell(script).var("OUT", &told).run(SECONDS).unwrap();
        let told = std::fs::read_to_string(told).unwrap();
        let lines: Vec<&str> = told.lines().collect();
        // Number 3 is the folder that `ls` reads.
        assert_eq!(lines[..5], ["0", "1", "2", "3", "/dev/null"], "{} is open here", file.as_raw_fd());
        let (pid, session) = lines[5].split_once(' ').unwrap();
        assert_eq!(pid, session);
    }

    #[test]
    fn a_program_with_a_limit_for_files_lives_on_beyond_it() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("long");
        let script = "head -c 10000 /dev/zero >$OUT; test $? -eq 1 && kill -XFSZ $$";
        shell(script).var("OUT", &long).longest_file(4096).run(SECONDS).unwrap();
        assert_eq!(long.metadata().unwrap().len(), 4096);
    }

    #[test]
    fn a_background_process_does_not_delay_run() {
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        let begun = Instant::now();
        shell("sleep 1000 & echo $! >$OUT").var("OUT", &pids).run(SECONDS).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5));
        let pid: i32 = std::fs::read_to_string(&pids).unwrap().trim().parse().unwrap();
        assert!(running(pid));
        nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
}
