use std::io::ErrorKind;
use std::sync::Arc;

use super::*;

/// What a compose file says; with it what is wrong, each with its place and help.
fn read(text: &str) -> (Vec<Service>, Vec<String>) {
    read_with(text, &[], &[])
}

fn read_with(text: &str, env: &[(&str, &str)], files: &[(&str, &str)]) -> (Vec<Service>, Vec<String>) {
    let mut sources = Sources::default();
    sources.add("c.yaml", text);
    let env: Env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let read = |path: &Path| {
        let found = files.iter().find(|(name, _)| Path::new("/p").join(name) == path);
        found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| io::Error::from(ErrorKind::NotFound))
    };
    let context = Context { env: &env, dir: Path::new("/p"), profiles: &[], read: &read };
    let (services, diagnostics) = services(&sources, &sources.ids().collect::<Vec<_>>(), context);
    let said = diagnostics.iter().map(|it| {
        let place = it.span.map(|it| sources.place(it)).unwrap_or_default();
        let help = it.help.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        format!("{place}: {}{help}", it.message)
    });
    (services, said.collect())
}

/// The services of a file that nothing is wrong with.
fn good(text: &str) -> Vec<Service> {
    let (services, said) = read(text);
    assert_eq!(said, [""; 0], "{text}");
    services
}

#[test]
fn names_replicas_commands_and_environments() {
    let services = good(
        "services:\n  a: {command: \"x 'y z'\", entrypoint: [e], environment: {A: 1.10, B: null}, scale: 2}\n  b: {deploy: {replicas: 0}}\n",
    );
    let [a, b] = services.as_slice() else { panic!("{services:?}") };
    assert_eq!((a.name.as_str(), a.replicas, b.name.as_str(), b.replicas), ("a", 2, "b", 0));
    assert_eq!(a.argv, ["e", "x", "y z"]);
    assert_eq!(a.env, [("A".to_owned(), "1.1".to_owned())]);
    assert_eq!(a.origin, "c.yaml:2:3");
    let services: Vec<Arc<Service>> = services.into_iter().map(Arc::new).collect();
    let nodes: Vec<String> =
        nodes(&services, "p").iter().map(|it| format!("{} {}", it.name, it.short)).collect();
    assert_eq!(nodes, ["p-a-1 a-1", "p-a-2 a-2"]);
}
