//! What a service is, against compose's own answers: `tests/data/service/*.jsonl`, made by `expect.py` there.
//!
//! A line that has `stricter` is refused by us alone, for the reason that it gives.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind};
use std::path::Path;
use std::time::Duration;

use conlink::config::{Diagnostic, Env, Severity, Sources};
use conlink::service::{
    Condition, Context, Files, Mount, Project, Restart, Service, Source, is_project_name, services,
};
use serde_json::{Value, json};

#[test]
fn commands_are_split_as_compose_splits_them() {
    check(include_str!("data/service/split.jsonl"), |case| {
        let text = case["text"].as_str().unwrap().replace('$', "$$");
        let document = json!({"services": {"a": {"command": text}}});
        let services = read(&document, &Env::new(), &BTreeMap::new())?;
        Some(json!(services.first()?.argv))
    });
}

#[test]
fn services_are_what_compose_takes_them_for() {
    check(include_str!("data/service/services.jsonl"), |case| {
        let mut document = if case["more"].is_null() { json!({}) } else { case["more"].clone() };
        let mut all = json!({"a": case["service"]});
        for (name, service) in document["services"].as_object().into_iter().flatten() {
            all[name] = service.clone();
        }
        document["services"] = all;
        let env: Env = texts(&case["env"]);
        let services = read(&document, &env, &texts(&case["files"]))?;
        Some(of_service(services.iter().find(|it| it.name == "a")?))
    });
}

#[test]
fn projects_are_found_where_compose_finds_them() {
    check(include_str!("data/service/projects.jsonl"), |case| {
        let files = texts(&case["files"]);
        let env: Env = texts(&case["env"]);
        let cwd = Path::new("/p").join(case["cwd"].as_str().unwrap_or_default());
        let exists = |path: &Path| reader(&files)(path).is_ok();
        let project =
            Project::locate(&[], &env, &cwd, Files { exists: &exists, read: &reader(&files) }).ok()?;
        let mut sources = Sources::default();
        for path in &project.files {
            sources.add(path.display().to_string(), reader(&files)(path).ok()?);
        }
        let ids: Vec<_> = sources.ids().collect();
        let name = project.name(&sources, &ids).ok()?;
        assert!(is_project_name(&name), "{name}");
        let env = [("COMPOSE_PROJECT_NAME".to_owned(), name.clone())];
        let env: Env = project.env.into_iter().chain(env).collect();
        let context = Context { env: &env, dir: &project.dir, profiles: &[], read: &reader(&files) };
        let (services, diagnostics) = services(&sources, &ids, context);
        assert!(!is_refused(&diagnostics), "{diagnostics:?}");
        let services: Value = services
            .iter()
            .map(|it| (it.name.clone(), json!(it.env.iter().cloned().collect::<Env>())))
            .collect();
        Some(json!({"name": name, "services": services}))
    });
}

#[test]
fn every_example_is_a_lab_without_its_engine() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("modes-examples");
    let mut count = 0;
    for folder in std::fs::read_dir(examples).unwrap().map(|it| it.unwrap().path()) {
        let read = |path: &Path| std::fs::read_to_string(path);
        if !folder.join("compose.yaml").is_file() {
            continue;
        }
        count += 1;
        let files = Files { exists: &Path::is_file, read: &read };
        let project = Project::locate(&[], &Env::new(), &folder, files).unwrap();
        let mut sources = Sources::default();
        for path in &project.files {
            sources.add(path.display().to_string(), read(path).unwrap());
        }
        let ids: Vec<_> = sources.ids().collect();
        let context = Context { env: &project.env, dir: &project.dir, profiles: &[], read: &read };
        let (services, diagnostics) = services(&sources, &ids, context);
        assert_eq!(diagnostics, [], "{}", folder.display());
        let (engines, others): (Vec<&Service>, Vec<&Service>) = services.iter().partition(|it| it.is_engine);
        assert_eq!(engines.len(), 1, "{}", folder.display());
        assert!(others.iter().all(|it| it.notes.is_empty()), "{others:?}");
        assert_eq!(engines[0].engine_options().first(), Some(&"--compose-file"));
        let first = engines[0].engine_options()[1].split(':').next().unwrap();
        assert_eq!(engines[0].host_path(first), Some(folder.join("compose.yaml")));
    }
    assert!(count >= 7, "{count} examples");
}

/// Compares what `ours` makes of each case with its `answer`; None is for what is refused.
fn check(cases: &str, ours: impl Fn(&Value) -> Option<Value>) {
    let mut failed = Vec::new();
    for line in cases.lines() {
        let mut case: Value = serde_json::from_str(line).unwrap();
        let mut theirs = case["answer"].take();
        let own = ours(&case).unwrap_or_default();
        if !case["stricter"].is_null() {
            assert!(!theirs.is_null(), "{line}: compose is as strict");
            theirs = Value::Null;
        }
        // Where compose prints a variable without a value, the container has none.
        for service in theirs.pointer_mut("/services").and_then(Value::as_object_mut).into_iter().flatten() {
            service.1.as_object_mut().unwrap().retain(|_, it| !it.is_null());
        }
        if own != theirs {
            failed.push(format!("{case}\n  compose {theirs}\n  ours    {own}"));
        }
    }
    assert!(failed.is_empty(), "{} differ:\n{}", failed.len(), failed.join("\n"));
}

fn read(document: &Value, env: &Env, files: &BTreeMap<String, String>) -> Option<Vec<Service>> {
    let mut sources = Sources::default();
    let file = sources.add("compose.yaml", document.to_string());
    let mut env = env.clone();
    env.insert("HOME".to_owned(), "/home/u".to_owned());
    let name = document["name"].as_str().unwrap_or("p").to_owned();
    env.insert("COMPOSE_PROJECT_NAME".to_owned(), name);
    let context = Context { env: &env, dir: Path::new("/p"), profiles: &[], read: &reader(files) };
    let (services, diagnostics) = services(&sources, &[file], context);
    (!is_refused(&diagnostics)).then_some(services)
}

fn is_refused(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|it| it.severity == Severity::Error)
}

fn reader(files: &BTreeMap<String, String>) -> impl Fn(&Path) -> std::io::Result<String> {
    |path| {
        let found = files.iter().find(|(name, _)| Path::new("/p").join(name) == path);
        found.map(|(_, text)| text.clone()).ok_or_else(|| Error::from(ErrorKind::NotFound))
    }
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries.map(|(name, it)| (name.clone(), it.as_str().unwrap().to_owned())).collect()
}

/// A service in the form that `expect.py` brings compose's answer into.
fn of_service(it: &Service) -> Value {
    let health = it.healthcheck.as_ref();
    let mut depends_on: Vec<Value> = it
        .depends_on
        .iter()
        .map(|it| {
            let condition = match it.condition {
                Condition::Started => "service_started",
                Condition::Healthy => "service_healthy",
                Condition::CompletedSuccessfully => "service_completed_successfully",
            };
            json!([it.service, condition, it.required])
        })
        .collect();
    depends_on.sort_by_key(Value::to_string);
    json!({
        "argv": it.argv,
        "environment": it.env.iter().cloned().collect::<Env>(),
        "extra_hosts": it.extra_hosts.iter().map(|(name, addr)| format!("{name}={addr}")).collect::<BTreeSet<_>>(),
        "healthcheck": health.map(|it| {
            let times = [it.interval, it.timeout, it.start_period, it.start_interval];
            let [interval, timeout, period, start] = times.map(nanoseconds);
            json!([it.argv, it.retries, interval, timeout, period, start])
        }),
        "replicas": it.replicas,
        "restart": match it.restart {
            Restart::No => "no".to_owned(),
            Restart::Always => "always".to_owned(),
            Restart::OnFailure(None) => "on-failure".to_owned(),
            Restart::OnFailure(Some(times)) => format!("on-failure:{times}"),
        },
        "stop": nanoseconds(it.stop_grace),
        "sysctls": it.sysctls.iter().cloned().collect::<Env>(),
        "depends_on": depends_on,
        "volumes": it.volumes.iter().map(mount).collect::<Vec<_>>(),
        "names": [&it.container_name, &it.working_dir, &it.hostname, &it.domainname, &it.user],
    })
}

fn nanoseconds(it: Duration) -> u64 {
    it.as_nanos().try_into().unwrap()
}

fn mount(it: &Mount) -> Value {
    let (kind, source, create) = match &it.source {
        Source::Path { path, create } => ("bind", json!(path), *create),
        Source::Volume(name) => ("volume", json!(name), false),
        Source::Anonymous => ("volume", Value::Null, false),
    };
    json!([kind, source, it.target, it.read_only, create])
}
