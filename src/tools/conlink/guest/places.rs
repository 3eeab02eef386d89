//! Where guests are looked for on this machine.

use std::fmt;
use std::fs::metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::kernel::netns;

/// The sockets and folders of container engines, and the folder of named network namespaces.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) docker: Sockets,
    pub(super) podman: Sockets,
    pub(super) containerd: PathBuf,
    pub(super) netns: PathBuf,
}

/// The sockets of one kind of engine.
#[derive(Debug)]
pub(super) struct Sockets(Result<Vec<PathBuf>, String>);

impl Places {
    pub(super) fn of_machine() -> Self {
        Self::of(&|name| std::env::var(name).ok().filter(|it| !it.is_empty()))
    }

    /// With these environment variables.
    fn of(env: &dyn Fn(&str) -> Option<String>) -> Self {
        // The engines of a user who is not root. After sudo it may be the folder of another user, whose engine would then
        // choose the namespace.
        let uid = nix::unistd::getuid();
        let is_ours = |it: &String| metadata(it).is_ok_and(|it| [0, uid.as_raw()].contains(&it.uid()));
        let own = env("XDG_RUNTIME_DIR").filter(is_ours).unwrap_or_else(|| format!("/run/user/{uid}"));
        let docker =
            ["/var/run/docker.sock".into(), "/run/docker.sock".into(), Path::new(&own).join("docker.sock")];
        let podman = [
            "/run/podman/podman.sock".into(),
            "/var/run/podman/podman.sock".into(),
            Path::new(&own).join("podman/podman.sock"),
        ];
        // containerd has both its socket and its state in one folder.
        let containerd = env("CONTAINERD_ADDRESS").and_then(|it| {
            let path = Path::new(it.strip_prefix("unix://").unwrap_or(&it)).to_owned();
            path.parent().map(Path::to_owned)
        });
        Self {
            docker: Sockets::of("DOCKER_HOST", env("DOCKER_HOST"), docker),
            podman: Sockets::of("CONTAINER_HOST", env("CONTAINER_HOST"), podman),
            containerd: containerd.unwrap_or_else(|| "/run/containerd".into()),
            netns: netns::NAMED.into(),
        }
    }
}

impl Sockets {
    /// The one that the variable names, otherwise those of the usual ones that exist.
    fn of(variable: &str, value: Option<String>, usual: [PathBuf; 3]) -> Self {
        let Some(value) = value else {
            // `/var/run` may be `/run`.
            let mut there: Vec<PathBuf> = usual.into_iter().filter_map(|it| it.canonicalize().ok()).collect();
            there.dedup();
            return Self(Ok(there));
        };
        match value.strip_prefix("unix://") {
            Some(path) => Self(Ok(vec![path.into()])),
            None => Self(Err(format!("{variable}={value}: expected `unix://PATH`"))),
        }
    }

    #[cfg(test)]
    pub(super) fn at(paths: Vec<PathBuf>) -> Self {
        Self(Ok(paths))
    }

    /// An error is a variable that does not name a socket.
    pub(super) fn paths(&self) -> anyhow::Result<&[PathBuf]> {
        self.0.as_deref().map_err(|it| anyhow::anyhow!("{it}"))
    }
}

impl fmt::Display for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(paths) if paths.is_empty() => f.write_str("no socket"),
            Ok(paths) => {
                let paths: Vec<String> = paths.iter().map(|it| it.display().to_string()).collect();
                f.write_str(&paths.join(", "))
            }
            Err(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_name_the_sockets_of_engines() {
        let places = |name: &'static str, value: &'static str| {
            Places::of(&|it| (it == name).then(|| value.to_owned()))
        };
        let given = places("DOCKER_HOST", "unix:///x/d.sock").docker;
        assert_eq!(given.paths().unwrap(), [Path::new("/x/d.sock")]);
        let given = places("CONTAINER_HOST", "unix:///x/p.sock").podman;
        assert_eq!(given.paths().unwrap(), [Path::new("/x/p.sock")]);
        let given = places("DOCKER_HOST", "tcp://10.0.0.1:2375").docker;
        let expected = "DOCKER_HOST=tcp://10.0.0.1:2375: expected `unix://PATH`";
        assert_eq!(given.paths().unwrap_err().to_string(), expected);
        for (address, folder) in [
            ("/run/k3s/containerd/containerd.sock", "/run/k3s/containerd"),
            ("unix:///run/x/containerd.sock", "/run/x"),
        ] {
            assert_eq!(places("CONTAINERD_ADDRESS", address).containerd, Path::new(folder));
        }
        assert_eq!(places("", "").containerd, Path::new("/run/containerd"));
    }

    #[test]
    fn the_sockets_of_a_user_are_in_the_runtime_folder() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("podman/podman.sock");
        std::fs::create_dir(folder.path().join("podman")).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let runtime = folder.path().to_str().unwrap().to_owned();
        let places = Places::of(&|it| (it == "XDG_RUNTIME_DIR").then(|| runtime.clone()));
        assert!(places.podman.paths().unwrap().contains(&socket.canonicalize().unwrap()));
        if nix::unistd::geteuid().is_root() {
            nix::unistd::chown(folder.path(), Some(65534.into()), None).unwrap();
            let places = Places::of(&|it| (it == "XDG_RUNTIME_DIR").then(|| runtime.clone()));
            assert!(!places.podman.to_string().contains(&runtime), "of another user");
        }
    }
}
