//! Recognizes the service of conlink's own engine.

use std::path::{Path, PathBuf};

use crate::compose::cleaned;
use crate::service::{Service, Source};

/// Names of the engine's binary.
const NAMES: [&str; 2] = ["conlink", "conlink.js"];

/// Whether the command starts the engine: its name is followed by options or nothing, not by another tool or subcommand.
/// Shells and tools that run another command (`wait … -- conlink …`) are skipped.
pub(super) fn is_engine(image: Option<&str>, argv: &[String]) -> bool {
    match argv {
        // The engine is the command or the entrypoint of the image.
        [] => image.is_some_and(|it| repository(it) == "conlink"),
        [first, ..] if first.starts_with('-') => image.is_some_and(|it| repository(it) == "conlink"),
        argv => engine_options(argv).is_some(),
    }
}

impl Service {
    /// The arguments of the engine; empty for other services.
    pub fn engine_options(&self) -> Vec<&str> {
        match self.argv.as_slice() {
            argv @ [first, ..] if first.starts_with('-') => argv.iter().map(String::as_str).collect(),
            argv => engine_options(argv).unwrap_or_default(),
        }
    }

    /// The path on this machine of the mounted file `path`; a relative path starts from `working_dir`.
    pub fn host_path(&self, path: &str) -> Option<PathBuf> {
        let path = cleaned(&Path::new(self.working_dir.as_deref().unwrap_or("/")).join(path));
        let mounted = self.volumes.iter().filter_map(|it| match &it.source {
            Source::Path { path: source, .. } => Some((source, path.strip_prefix(&it.target).ok()?)),
            Source::Volume(_) | Source::Anonymous => None,
        });
        // The innermost mount hides the others.
        let (source, rest) = mounted.min_by_key(|(_, rest)| rest.components().count())?;
        Some(if rest.as_os_str().is_empty() { source.clone() } else { source.join(rest) })
    }
}

/// The words after the engine's name; None if the command is not the engine.
fn engine_options(argv: &[String]) -> Option<Vec<&str>> {
    let words: Vec<&str> = match argv {
        [shell, options, script, ..]
            if basename(shell).ends_with("sh") && options.starts_with('-') && options.ends_with('c') =>
        {
            script.split_whitespace().collect()
        }
        words => words.iter().map(String::as_str).collect(),
    };
    (0..words.len()).find_map(|at| {
        let (before, from) = words.split_at(at);
        let begins =
            before.last().is_none_or(|it| matches!(*it, "--" | "exec" | "&&" | "||") || it.ends_with(';'));
        let names = from.iter().take_while(|it| NAMES.contains(&basename(it))).count();
        let options = from.get(names..).unwrap_or_default();
        let is_option = options.first().is_none_or(|it| it.is_empty() || it.starts_with('-'));
        (begins && names > 0 && is_option).then(|| options.to_vec())
    })
}

fn basename(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// The last component of an image name, without tag and digest.
fn repository(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or_default();
    basename(image).split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::sample;

    #[test]
    fn the_engine_is_told_from_its_tools() {
        for (image, command, expected) in [
            ("conlink", "", true),
            ("registry.example:5000/x/conlink:2.6@sha256:00", "", true),
            ("conlink", "/app/build/conlink.js --compose-file c.yaml", true),
            ("other", "/app/build/conlink.js --compose-file c.yaml", true),
            ("other", "/bin/conlink", true),
            ("conlink", "--compose-file c.yaml", true),
            ("other", "--compose-file c.yaml", false),
            ("conlink", "conlink conlink --once", true),
            ("conlink", "/utils/wait -i eth0 -- /app/build/conlink.js --once", true),
            ("conlink", "conlink wait -i eth0 -- conlink -v", true),
            ("conlink", "/bin/conlink install /utils", false),
            ("conlink", "conlink wait -i eth0", false),
            ("conlink", "wait -i eth0 -- sleep 1", false),
            ("conlink", "conlink check f", false),
            ("conlink", "mdc a,b", false),
            ("conlink", "sleep infinity", false),
            ("conlink-node", "", false),
            ("", "", false),
        ] {
            let argv: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
            assert_eq!(is_engine(Some(image), &argv), expected, "{image} {command}");
        }
        let shell = |script: &str| is_engine(Some("x"), &["/bin/sh", "-ec", script].map(str::to_owned));
        assert!(shell("sleep 1; exec /app/build/conlink.js --once"));
        assert!(!shell("ps | grep conlink"));
        assert!(!shell("conlink status"));
        assert!(is_engine(None, &["conlink".to_owned()]));
    }

    #[test]
    fn files_of_the_engine_are_found_where_they_are_mounted_from() {
        let services = sample(
            "services: {a: {image: conlink, working_dir: /test, volumes: ['./:/test', './n:/test/sub', 'vv:/v'], command: /app/build/conlink.js --compose-file x.yaml}}\nvolumes: {vv: {}}",
        );
        let [it] = services.as_slice() else { panic!("{services:?}") };
        assert_eq!(it.engine_options(), ["--compose-file", "x.yaml"]);
        for (path, expected) in [
            ("x.yaml", Some("/p/x.yaml")),
            ("/test", Some("/p")),
            ("sub/../y", Some("/p/y")),
            ("sub/z", Some("/p/n/z")),
            ("/testing/x", None),
            ("/v/x", None),
            ("/etc/x", None),
        ] {
            assert_eq!(it.host_path(path), expected.map(PathBuf::from), "{path}");
        }
        let options = |command: &str| {
            let text = format!("services: {{a: {{image: conlink, command: \"{command}\"}}}}");
            sample(&text)[0].engine_options().join(" ")
        };
        assert_eq!(options("wait -i e -- conlink.js -v --once"), "-v --once");
        assert_eq!(options("sh -c 'exec conlink -v'"), "-v");
        assert_eq!(options("--once"), "--once");
        assert_eq!(options("conlink install /x"), "");
    }
}
