//! Is a service conlink's own engine?

/// Names that the binary goes by as the engine.
const NAMES: [&str; 2] = ["conlink", "conlink.js"];

/// The command is the engine's: options or nothing come after its name, not another tool or subcommand. A shell and
/// tools that become another command (`wait … -- conlink …`) are seen through.
pub(super) fn is_engine(image: Option<&str>, argv: &[String]) -> bool {
    let is_image = image.is_some_and(|it| repository(it) == "conlink");
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => is_image,
        // An image of which the engine is the entrypoint.
        [first, ..] if first.starts_with('-') => is_image,
        [shell, options, script, ..]
            if basename(shell).ends_with("sh") && options.starts_with('-') && options.ends_with('c') =>
        {
            runs_engine(&script.split_whitespace().collect::<Vec<_>>())
        }
        words => runs_engine(words),
    }
}

fn runs_engine(words: &[&str]) -> bool {
    (0..words.len()).any(|at| {
        let (before, from) = words.split_at(at);
        let begins =
            before.last().is_none_or(|it| matches!(*it, "--" | "exec" | "&&" | "||") || it.ends_with(';'));
        let names = from.iter().take_while(|it| NAMES.contains(&basename(it))).count();
        let next = from.get(names).copied().unwrap_or_default();
        begins && names > 0 && (next.is_empty() || next.starts_with('-'))
    })
}

fn basename(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// The last part of an image's name, without tag and digest.
fn repository(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or_default();
    basename(image).split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
