//! The short forms of `volumes` and `devices`.

use std::path::Path;

use crate::compose::path::cleaned;

/// What a short form of `volumes` stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mount {
    /// None for a volume without a name.
    pub(super) source: Option<String>,
    pub(super) target: String,
    /// The source is a path of the host, not the name of a volume.
    pub(super) is_bind: bool,
    pub(super) read_only: bool,
    pub(super) nocopy: bool,
    pub(super) propagation: Option<String>,
    pub(super) selinux: Option<String>,
}

const PROPAGATIONS: [&str; 6] = ["rprivate", "private", "rshared", "shared", "rslave", "slave"];

/// Reads `[SOURCE:]TARGET[:OPTION,…]`. Options that are not known are ignored, as compose does. Answers what is wrong.
pub(super) fn parse(text: &str) -> Result<Mount, String> {
    let mut fields = fields(text);
    if fields.iter().any(String::is_empty) {
        return Err("a part between colons is empty".to_owned());
    }
    if fields.len() > 3 {
        return Err("too many colons".to_owned());
    }
    let options = if fields.len() == 3 { fields.pop() } else { None };
    let target = fields.pop().unwrap_or_default();
    let source = fields.pop();
    let is_bind = source.as_deref().is_some_and(is_path);
    let mut mount = Mount {
        source,
        target: cleaned(Path::new(&target)).display().to_string(),
        is_bind,
        ..Mount::default()
    };
    for option in options.iter().flat_map(|it| it.split(',')) {
        match option {
            "ro" => mount.read_only = true,
            "rw" => mount.read_only = false,
            "nocopy" => mount.nocopy = true,
            "z" | "Z" => mount.selinux = Some(option.to_owned()),
            it if PROPAGATIONS.contains(&it) => mount.propagation = Some(option.to_owned()),
            _ => {}
        }
    }
    Ok(mount)
}

/// Reads `SOURCE[:TARGET[:PERMISSIONS]]`. None where there are more parts.
pub(super) fn device(text: &str) -> Option<(&str, &str, &str)> {
    match text.split(':').collect::<Vec<_>>().as_slice() {
        [source] => Some((source, source, "rwm")),
        [source, target] => Some((source, target, "rwm")),
        [source, target, permissions] => Some((source, target, permissions)),
        _ => None,
    }
}

/// The parts between colons: none of those in a `${…}`, nor that of a Windows drive. A letter alone is always taken
/// for a drive: compose reads `v:/v` as one path.
fn fields(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut depth = 0;
    let mut chars = text.chars().peekable();
    while let Some(it) = chars.next() {
        if it == '$' && chars.peek() == Some(&'{') {
            depth += 1;
        } else if it == '}' && depth > 0 {
            depth -= 1;
        }
        let Some(field) = fields.last_mut() else { break };
        let is_drive = field.chars().count() == 1 && field.starts_with(char::is_alphabetic);
        // A volume of so short a name as `a:` is no more than a target.
        if it == ':' && depth == 0 && !is_drive {
            fields.push(String::new());
        } else {
            field.push(it);
        }
    }
    fields
}

fn is_path(source: &str) -> bool {
    let mut chars = source.chars();
    let first = chars.next();
    first.is_some_and(|it| matches!(it, '.' | '/' | '~'))
        || source.starts_with(r"\\")
        || first.is_some_and(char::is_alphabetic) && chars.next() == Some(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_short_form() {
        let mount = |source: &str, target: &str| Mount {
            source: Some(source.to_owned()).filter(|it| !it.is_empty()),
            target: target.to_owned(),
            ..Mount::default()
        };
        let bind = |source: &str, target: &str| Mount { is_bind: true, ..mount(source, target) };
        for (text, expected) in [
            ("/anon", mount("", "/anon")),
            ("/", mount("", "/")),
            ("vol:/data/", mount("vol", "/data")),
            ("./src:/a/../b//c/.", bind("./src", "/b/c")),
            ("~/h:/h:ro,rw", bind("~/h", "/h")),
            ("/a:/b:ro,foo,Z", Mount { read_only: true, selinux: Some("Z".into()), ..bind("/a", "/b") }),
            (
                "ab:/c:rshared,nocopy",
                Mount { propagation: Some("rshared".into()), nocopy: true, ..mount("ab", "/c") },
            ),
            ("v:/v", mount("", "v:/v")),
            (r"C:\a:D:\b", bind(r"C:\a", r"D:\b")),
            ("${D:-./x}:/d", mount("${D:-./x}", "/d")),
            ("${A:-${B:-c}}:/d:z", Mount { selinux: Some("z".into()), ..mount("${A:-${B:-c}}", "/d") }),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        assert_eq!(parse("ab::/b"), Err("a part between colons is empty".into()));
        assert_eq!(parse(""), Err("a part between colons is empty".into()));
        assert_eq!(parse("/a:/b:ro:x"), Err("too many colons".into()));
    }

    #[test]
    fn devices() {
        assert_eq!(device("/a"), Some(("/a", "/a", "rwm")));
        assert_eq!(device("/a:/b"), Some(("/a", "/b", "rwm")));
        assert_eq!(device("/a:/b:r"), Some(("/a", "/b", "r")));
        assert_eq!(device("/a:/b:r:m"), None);
    }
}
