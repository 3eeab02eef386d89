//! `volumes` and `tmpfs`, and the volumes of the whole document.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::compose::cleaned;
use crate::config::{Node, Value};
use crate::service::project::absolute;
use crate::service::value::{Reader, text_of};
use crate::service::{Mount, Source, Tmpfs};

/// The volumes of the document by name; a volume that is a folder of the host has its path.
pub(super) type Volumes = BTreeMap<String, Option<PathBuf>>;

impl Reader<'_> {
    /// The top-level `volumes`.
    pub(super) fn volumes(&mut self, whole: &Node) -> Volumes {
        let mut volumes = Volumes::new();
        for (name, node) in whole.get("volumes").map(|it| self.map(it)).unwrap_or_default() {
            self.name(&name.text, name.span, "volume");
            // The local driver's options bind a folder of the host.
            let option = |key| node.get("driver_opts").and_then(|it| it.get(key));
            let device = option("device").and_then(|it| self.some_text(it));
            let options = option("o").and_then(|it| self.some_text(it)).unwrap_or_default();
            let is_bind = options.split(',').any(|it| matches!(it, "bind" | "rbind"));
            let path = device.filter(|_| is_bind).map(|it| absolute(self.context.dir, &it, self.context.env));
            volumes.insert(name.text.clone(), path);
        }
        volumes
    }

    pub(super) fn mounts(&mut self, service: &Node, volumes: &Volumes) -> (Vec<Mount>, Vec<Tmpfs>) {
        let mut mounts = Vec::new();
        let mut tmpfs = Vec::new();
        for (text, node) in service.get("tmpfs").map(|it| self.texts(it)).unwrap_or_default() {
            let (target, options) = text.split_once(':').unwrap_or((&text, ""));
            if let Some(target) = self.target(target, node) {
                tmpfs.push(Tmpfs { target, options: options.to_owned() });
            }
        }
        for node in service.get("volumes").map(|it| self.list(it)).unwrap_or_default() {
            let get = |key| node.get(key);
            let Some(target) = get("target").and_then(|it| self.some_text(it)) else { continue };
            let Some(target) = self.target(&target, node) else { continue };
            let read_only = get("read_only").and_then(|it| self.boolean(it)).unwrap_or(false);
            let source = get("source").and_then(|it| self.some_text(it));
            let kind = get("type").and_then(|it| self.some_text(it));
            let source = match (kind.as_deref(), source) {
                (Some("bind"), Some(source)) => {
                    let create = get("bind").and_then(|it| it.get("create_host_path"));
                    let create = create.and_then(|it| self.boolean(it)).unwrap_or(false);
                    let path = absolute(self.context.dir, &source, self.context.env);
                    Source::Path { path, create }
                }
                (Some("bind"), None) => {
                    if get("source").and_then(text_of).is_none_or(|it| it.is_empty()) {
                        self.error(node.span, "`source` is missing", "add the file or folder of the host");
                    }
                    continue;
                }
                (Some("volume"), Some(name)) => match volumes.get(&name) {
                    Some(Some(path)) => Source::Path { path: path.clone(), create: false },
                    Some(None) => Source::Volume(name),
                    None => {
                        let message = format!("unknown volume `{name}`");
                        self.error(
                            node.span,
                            message,
                            "declare it in `volumes:`; a path starts with `.` or `/`",
                        );
                        continue;
                    }
                },
                (Some("volume"), None) => Source::Anonymous,
                (Some("tmpfs"), _) => {
                    let options = self.tmpfs_options(get("tmpfs"));
                    tmpfs.push(Tmpfs { target, options });
                    continue;
                }
                (Some(kind), _) => {
                    self.note(
                        node.span,
                        &format!("{target} is not mounted: a lab does not support type `{kind}`"),
                    );
                    continue;
                }
                (None, _) => {
                    self.error(node.span, "`type` is missing", "expected `bind`, `volume` or `tmpfs`");
                    continue;
                }
            };
            mounts.push(Mount { source, target, read_only });
        }
        (mounts, tmpfs)
    }

    /// `configs` and `secrets` that are files of this machine.
    pub(super) fn files(&mut self, service: &Node, key: &str, whole: &Node) -> Vec<Mount> {
        let all = whole.get(key).map(|it| self.map(it)).unwrap_or_default();
        let mut mounts = Vec::new();
        for node in service.get(key).map(|it| self.list(it)).unwrap_or_default() {
            let Some(name) = node.get("source").and_then(|it| self.some_text(it)) else { continue };
            let Some((_, file)) = all.iter().find(|(it, _)| it.text == name) else {
                self.error(
                    node.span,
                    format!("unknown name `{name}` of `{key}`"),
                    format!("declare it in the top-level `{key}:`"),
                );
                continue;
            };
            let target = node.get("target").and_then(|it| self.some_text(it)).unwrap_or_else(|| name.clone());
            let folder = if key == "secrets" { "/run/secrets" } else { "/" };
            let target = cleaned(&Path::new(folder).join(target)).display().to_string();
            match file.get("file").and_then(|it| self.some_text(it)) {
                Some(path) => {
                    let path = absolute(self.context.dir, &path, self.context.env);
                    let source = Source::Path { path, create: false };
                    mounts.push(Mount { source, target, read_only: true });
                }
                None => {
                    self.note(node.span, &format!("{target} is not mounted: only `{key}` with `file` are"))
                }
            }
        }
        mounts
    }

    fn target(&mut self, target: &str, node: &Node) -> Option<String> {
        if !target.starts_with('/') {
            let message = format!("invalid mount point `{target}`");
            let help = match target.contains(':') {
                true => "use an absolute path; compose takes a name of one letter for a drive",
                false => "use an absolute path",
            };
            self.error(node.span, message, help);
            return None;
        }
        Some(cleaned(Path::new(target)).display().to_string())
    }

    fn tmpfs_options(&mut self, node: Option<&Node>) -> String {
        let get = |key: &str| node.and_then(|it| it.get(key));
        let mut options = Vec::new();
        if let Some(node) = get("size")
            && let Some(text) = self.some_text(node)
        {
            match bytes(&text) {
                Some(size) => options.push(format!("size={size}")),
                None => self.bad(
                    node,
                    format!("invalid size `{text}`"),
                    "expected a number of bytes, or a number with `k`, `m` or `g`",
                ),
            }
        }
        if let Some(node) = get("mode") {
            match node.value {
                Value::Int(mode) => options.push(format!("mode={mode:o}")),
                _ => options.extend(self.some_text(node).map(|it| format!("mode={it}"))),
            }
        }
        options.join(",")
    }
}

/// Parses `64m`, `1.5GB`, `512`: units are powers of 1024, as in `RAMInBytes` of docker's go-units.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if !unit.ends_with("ib") => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let size = number.parse::<f64>().ok()? * 1024_f64.powi(power);
    (size < u64::MAX as f64).then_some(size as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, expected) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("64m", Some(64 << 20)),
            ("1.5GB", Some(3 << 29)),
            ("2 KiB", Some(2048)),
            ("7b", Some(7)),
            ("ib", None),
            ("7ib", None),
            ("m", None),
            ("-1", None),
            ("99999999p", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
