//! The architecture's rules, checked: who may import whom, and who may touch the world.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A module may import those of lower layers, its own layer's only where named, and never those above.
const LAYERS: &[(&str, &[&str])] = &[
    ("addr", &[]),
    ("container", &[]),
    ("device", &[]),
    ("words", &[]),
    ("nat", &["addr"]),
    ("route", &["addr", "words"]),
    ("netem", &["words"]),
    ("ethtool", &["words"]),
    ("config", &["addr", "device", "words", "nat", "route", "netem", "ethtool"]),
    ("compose", &["config"]),
    ("deps", &["words"]),
    ("env_file", &["config", "words"]),
    ("service", &["addr", "config", "compose", "env_file", "words"]),
    ("network", &["addr", "container", "device", "words", "route", "netem", "ethtool", "config"]),
    ("plan", &["addr", "container", "device", "words", "nat", "route", "netem", "ethtool", "network"]),
    ("dot", &["addr", "container", "network"]),
    ("reconcile", &["addr", "container", "device", "nat", "network", "plan"]),
    ("docker", &["container"]),
    ("process", &[]),
    ("kernel", &["addr", "container", "device", "nat", "route", "netem", "ethtool", "plan", "process"]),
    ("lab", &["container", "process", "service"]),
    (
        "daemon",
        &[
            "addr",
            "container",
            "network",
            "plan",
            "reconcile",
            "docker",
            "kernel",
            "process",
            "service",
            "lab",
            "wire",
        ],
    ),
    (
        "tools",
        &[
            "config",
            "compose",
            "network",
            "dot",
            "reconcile",
            "docker",
            "kernel",
            "daemon",
            "deps",
            "words",
            "env_file",
            "process",
            "addr",
            "container",
            "plan",
            "service",
            "lab",
            "wire",
        ],
    ),
    ("lib", &["tools"]),
    ("wire", &["addr", "container", "kernel", "plan"]),
];

/// Modules that neither read nor write the world: no files, processes, threads, sockets, clock, environment.
const PURE: &[&str] = &[
    "addr",
    "container",
    "device",
    "words",
    "nat",
    "route",
    "netem",
    "ethtool",
    "config",
    "compose",
    "deps",
    "env_file",
    "service",
    "network",
    "plan",
    "dot",
    "reconcile",
];
/// Who enters namespaces: on a thread that dies, and in a process that becomes another program.
const ENTERS: [&str; 2] = ["src/kernel/netns.rs", "src/process/node/enter.rs"];

const WORLD: [&str; 10] = [
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::net::Tcp",
    "std::net::Udp",
    "Instant::now",
    "SystemTime",
    "tokio::",
    "nix::",
];

#[test]
fn every_import_goes_down() {
    let found = violations(&sources());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_planted_violation_is_found() {
    let plant = |module: &str, line: &str| {
        violations(&BTreeMap::from([(format!("src/{module}.rs"), line.to_owned())])).join("\n")
    };
    assert_eq!(plant("addr", "use crate::plan::Step;"), "src/addr.rs imports crate::plan");
    assert_eq!(
        plant("kernel/link", "let x = crate::network::f();"),
        "src/kernel/link.rs imports crate::network"
    );
    assert_eq!(plant("plan/link", "std::fs::read(p)"), "src/plan/link.rs is pure and names std::fs");
    assert_eq!(
        plant("docker", "setns(fd, x)"),
        "src/docker.rs names setns(, which is that of src/kernel/netns.rs and src/process/node/enter.rs alone"
    );
    assert_eq!(
        plant("daemon", "std::env::var(n)"),
        "src/daemon.rs names std::env, which only lib and tools read"
    );
    // Imports in groups, over several lines and within each other, are imports too.
    assert_eq!(
        plant("addr", "use crate::{\n    words::word,\n    plan::{Step, Plan},\n};"),
        "src/addr.rs imports crate::words\nsrc/addr.rs imports crate::plan"
    );
    assert_eq!(
        plant("plan/link", "use std::{fmt, net::{IpAddr, TcpStream}, fs};"),
        "src/plan/link.rs is pure and names std::fs\nsrc/plan/link.rs is pure and names std::net::Tcp"
    );
    assert_eq!(plant("frob", "fn f() {}"), "src/frob.rs is in no layer");
    assert_eq!(plant("plan", "// use crate::kernel::Kernel;\nuse crate::network::Link;"), "");
}

/// Every source file by its path from the project's folder.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("bin/conlink.rs") {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                files.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

/// The single paths of an import's text up to its `;`, where it has groups.
fn single(import: &str) -> Vec<String> {
    let Some((import, _)) = import.split_once(';') else { return Vec::new() };
    if !import.contains('{') {
        return Vec::new();
    }
    let import: String = import.split_whitespace().collect();
    let mut paths = Vec::new();
    let (mut prefixes, mut path) = (vec![String::new()], String::new());
    for it in import.chars() {
        match it {
            '{' => prefixes.push(std::mem::take(&mut path)),
            ',' | '}' => {
                if !path.is_empty() {
                    paths.push(prefixes.concat() + &std::mem::take(&mut path));
                }
                if it == '}' {
                    prefixes.pop();
                }
            }
            it => path.push(it),
        }
    }
    paths
}

fn violations(files: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files {
        if path.ends_with("/tests.rs") {
            continue;
        }
        let module = path.trim_start_matches("src/").trim_end_matches(".rs").split('/').next().unwrap();
        let Some((_, may_import)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            found.push(format!("{path} is in no layer"));
            continue;
        };
        // Tests of a module may do what they like.
        let mut code: String = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap()
            .lines()
            .filter(|it| !it.trim_start().starts_with("//"))
            .map(|it| format!("{it}\n"))
            .collect();
        let imports: Vec<String> = code.split("use ").skip(1).flat_map(single).collect();
        code += &imports.join("\n");
        let mut named = Vec::new();
        for part in code.split("crate::").skip(1) {
            let name: String = part.chars().take_while(|it| it.is_alphanumeric() || *it == '_').collect();
            let is_module = LAYERS.iter().any(|(it, _)| *it == name);
            if is_module && name != module && !may_import.contains(&name.as_str()) && !named.contains(&name) {
                named.push(name.clone());
                found.push(format!("{path} imports crate::{name}"));
            }
        }
        if PURE.contains(&module) {
            for it in WORLD.iter().filter(|it| code.contains(**it)) {
                found.push(format!("{path} is pure and names {it}"));
            }
        }
        if !["lib", "tools"].contains(&module) && !PURE.contains(&module) && code.contains("std::env") {
            found.push(format!("{path} names std::env, which only lib and tools read"));
        }
        if !ENTERS.contains(&path.as_str()) && code.contains("setns(") {
            found.push(format!("{path} names setns(, which is that of {} alone", ENTERS.join(" and ")));
        }
        if ["Command::new", "execv"].iter().any(|it| code.contains(it)) && module != "process" {
            found.push(format!("{path} starts a program, which is src/process.rs's alone"));
        }
    }
    found
}
