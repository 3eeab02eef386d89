//! A private root file system of a node: overlays in memory over the host's mounts. They end with the namespace.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use crate::process::node::devices::mount_devices;
use crate::process::node::mounts::{NONE, bind_all, mounted};

/// Mounts of the kernel's virtual file systems, which are not overlaid.
const VIEWS: [&str; 2] = ["/proc", "/sys"];

/// The folder that nodes have of their own.
const DEV: &str = "/dev";

/// Longest file that is copied, in bytes.
const LONGEST: u64 = 1 << 20;

/// A new root file system.
#[derive(Debug)]
pub(super) struct Covered {
    pub(super) root: PathBuf,
    /// Notes about parts that are the host's.
    pub(super) notes: Vec<String>,
}

/// Makes an overlay for each mount of the host, at `layer`.
pub(super) fn cover_root(layer: &Path) -> io::Result<Covered> {
    let under = mounted()?;
    fs::create_dir_all(layer)?;
    mount(Some("tmpfs"), layer, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    let root = layer.join("root");
    fs::create_dir(&root)?;
    let mut cover = Cover { layer, under: &under, count: 0, whole: Vec::new(), notes: Vec::new() };
    cover.folder(Path::new("/"), &root)?;
    for path in under.iter().filter(|it| *it != Path::new("/") && !it.starts_with(DEV)) {
        let target = below(&root, path);
        // Mounts that are hidden by others cannot be reached and are skipped.
        if cover.whole.iter().any(|it| path.starts_with(it)) || !target.exists() {
            continue;
        }
        if VIEWS.iter().any(|it| path.starts_with(it)) {
            cover.share(path, &target)?;
        } else if let Err(error) = cover.any(path, &target) {
            cover.share_because(path, &target, &error)?;
        }
    }
    let dev = below(&root, Path::new(DEV));
    fs::create_dir_all(&dev).and_then(|()| mount_devices(&dev)).map_err(|it| named(Path::new(DEV), &it))?;
    Ok(Covered { root, notes: cover.notes })
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The tmpfs for written files.
struct Cover<'a> {
    layer: &'a Path,
    /// The mount points of the host.
    under: &'a [PathBuf],
    /// Number of folders in the layer; their names are numbers.
    count: u32,
    /// Paths that are the host's, with everything below.
    whole: Vec<PathBuf>,
    /// Notes about them.
    notes: Vec<String>,
}

impl Cover<'_> {
    /// A new path in the layer.
    fn next(&mut self) -> PathBuf {
        self.count += 1;
        self.layer.join(self.count.to_string())
    }

    /// Mounts the host's files themselves.
    fn share(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        bind_all(path, target).map_err(|it| named(path, &it))?;
        self.whole.push(path.to_owned());
        Ok(())
    }

    /// The same, with a note.
    fn share_because(&mut self, path: &Path, target: &Path, error: &io::Error) -> io::Result<()> {
        self.notes.push(format!("{}: the node shares the machine's files there: {error}", path.display()));
        self.share(path, target)
    }

    fn any(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        if fs::metadata(path)?.is_dir() { self.folder(path, target) } else { self.file(path, target) }
    }

    /// Mounts an overlay of a host folder at `target`.
    fn folder(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        match self.overlay(path, target) {
            // In a user namespace the mounts of the host cannot be removed from a copy of the tree. Then each folder
            // without mounts gets its own overlay.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::empty(), NONE)?;
                like(path, target)?;
                self.parts(path, target)
            }
            result => result,
        }
    }

    fn overlay(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        let folder = self.next();
        let (upper, work) = (folder.join("upper"), folder.join("work"));
        fs::create_dir_all(&upper)?;
        fs::create_dir(&work)?;
        like(path, &upper)?;
        let [lower, upper, work] = [path, &upper, &work].map(option);
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        // A device file that a node makes is no way to a device that its `/dev` does not have.
        let flags = MsFlags::MS_NODEV;
        let overlay = |options: &str| mount(Some("overlay"), target, Some("overlay"), flags, Some(options));
        // In a user namespace overlayfs must store its metadata in `user.` attributes.
        Ok(overlay(&options).or_else(|_| overlay(&format!("{options},userxattr")))?)
    }

    /// Recreates the content of a folder in another one.
    fn parts(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let (kind, path, target) = (entry.file_type()?, entry.path(), target.join(entry.file_name()));
            if kind.is_symlink() {
                symlink(fs::read_link(&path)?, &target)?;
                continue;
            }
            if !kind.is_dir() {
                fs::File::create(&target)?;
                self.file(&path, &target).or_else(|_| bind_all(&path, &target))?;
                continue;
            }
            fs::create_dir(&target)?;
            if self.under.contains(&path) {
                continue;
            }
            let covered = if !self.under.iter().any(|it| it.starts_with(&path)) {
                self.overlay(&path, &target)
            } else {
                like(&path, &target).and_then(|()| self.parts(&path, &target))
            };
            // Such as a closed folder with a mount in it.
            covered.or_else(|error| self.share_because(&path, &target, &error))?;
        }
        Ok(())
    }

    /// Replaces a file with a copy; a file that is not regular is mounted itself.
    fn file(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        let metadata = fs::metadata(path)?;
        if !metadata.is_file() {
            return bind_all(path, target);
        }
        if metadata.len() > LONGEST {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        let copy = self.next();
        fs::copy(path, &copy)?;
        like(path, &copy)?;
        bind_all(&copy, target)
    }
}

/// Copies the mode and, if possible, the owner of a file.
fn like(path: &Path, new: &Path) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    // A user namespace maps its own user only.
    let _ = chown(new, Some(metadata.uid()), Some(metadata.gid()));
    fs::set_permissions(new, metadata.permissions())
}

/// A path escaped for mount options.
fn option(path: &Path) -> String {
    let text = path.display().to_string();
    text.chars().flat_map(|it| "\\:,".contains(it).then_some('\\').into_iter().chain([it])).collect()
}
