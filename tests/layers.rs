//! Checks the rules of the architecture: which module may import which, and which may do I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ExprMethodCall, Item, ItemMod, ItemUse, Macro, Token, UseTree, Visibility};
use walkdir::WalkDir;

/// A module may import those of lower layers, its own layer's only where named, and never those above.
const LAYERS: &[(&str, &[&str])] = &[
    ("addr", &[]),
    ("container", &[]),
    ("device", &[]),
    ("duration", &[]),
    ("words", &[]),
    ("nat", &["addr"]),
    ("route", &["addr", "words"]),
    ("netem", &["words"]),
    ("ethtool", &["words"]),
    ("api", &["device"]),
    ("config", &["addr", "device", "words", "nat", "route", "netem", "ethtool"]),
    ("compose", &["config"]),
    ("deps", &["words"]),
    ("env_file", &["config", "words"]),
    ("service", &["addr", "duration", "config", "compose", "env_file", "words"]),
    ("network", &["addr", "container", "device", "words", "route", "netem", "ethtool", "config"]),
    ("plan", &["addr", "container", "device", "words", "nat", "route", "netem", "ethtool", "network"]),
    ("dot", &["addr", "container", "network", "words"]),
    ("reconcile", &["addr", "api", "container", "netem", "device", "nat", "network", "plan"]),
    ("docker", &["container"]),
    ("process", &[]),
    ("kernel", &["addr", "container", "device", "nat", "route", "netem", "ethtool", "plan", "process"]),
    ("lab", &["container", "process", "service"]),
    ("attach", &["addr", "container", "device", "kernel", "netem", "network", "plan", "route", "wire"]),
    (
        "daemon",
        &[
            "addr",
            "api",
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
            "api",
            "attach",
            "netem",
            "route",
            "device",
            "duration",
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
    ("wire", &["addr", "container", "kernel", "plan", "route"]),
];

/// Modules that neither read nor write the world: no files, processes, threads, sockets, clock, environment.
const PURE: &[&str] = &[
    "addr",
    "api",
    "container",
    "device",
    "duration",
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

/// What begins with one of these, or has one of [`CLOCK`] in it, is the world.
const WORLD: [&str; 10] = [
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::os::unix::net",
    "tokio",
    "nix",
];
const CLOCK: [&str; 2] = ["Instant::now", "SystemTime"];

#[test]
fn every_import_goes_down() {
    let found = violations(&sources());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_planted_violation_is_found() {
    let plant = |module: &str, code: &str| {
        violations(&BTreeMap::from([(format!("src/{module}.rs"), code.to_owned())])).join("\n")
    };
    let in_function = |code: &str| format!("fn f() {{ {code} }}");
    let addr_imports_plan = "src/addr.rs imports crate::plan";
    for code in [
        "use crate::plan::Step;",
        "use crate::{plan as p};",
        "use crate::{ /* the plan */ plan::{Step, /* and */ Plan}, // the end\n};",
        "use super::plan::Step;",
        "use crate as root; use root::plan::Step;",
        "use crate::{self as root}; fn f() { root::plan::plan(); }",
        "use crate as root; mod inner { use super::root::plan::Step; }",
        "mod inner { use super::super::plan::Step; }",
        "pub use crate::plan as steps;",
        "fn f(step: crate::plan::Step) {}",
        "fn f() { log::debug!(\"{}\", crate::plan::PROTOCOL); }",
        "macro_rules! m { () => { crate::plan::f() } }",
        "#[derive(Debug)] struct S(Vec<crate::plan::Step>);",
    ] {
        assert_eq!(plant("addr", code), addr_imports_plan, "{code}");
    }
    assert_eq!(plant("addr", "use crate::*;"), "src/addr.rs imports all of crate");
    assert_eq!(
        plant("addr", "use crate::{\n    words::word,\n    plan::{Step, Plan},\n};"),
        "src/addr.rs imports crate::plan\nsrc/addr.rs imports crate::words"
    );
    assert_eq!(
        plant("kernel/link", &in_function("let x = crate::network::f();")),
        "src/kernel/link.rs imports crate::network"
    );
    let plan_names_fs = "src/plan/link.rs is pure and names std::fs";
    for code in [
        &in_function("std::fs::read(p);"),
        "use std::{fs as files, fmt as fs};",
        "use std as s; fn f() { s::fs::read(p); }",
        "use std::{fmt, /* not */ fs};",
        "use ::std::fs::read;",
        "fn f() { assert!(std::fs::exists(p)); }",
    ] {
        assert_eq!(plant("plan/link", code), plan_names_fs, "{code}");
    }
    assert_eq!(
        plant("plan/link", "use std::{fmt, net::{IpAddr, TcpStream as Stream}};"),
        "src/plan/link.rs is pure and names std::net::TcpStream"
    );
    for code in [
        "use std::time; fn f() { time::Instant::now(); }",
        "use std::time::Instant as I; fn f() { I::now(); }",
    ] {
        assert_eq!(plant("plan/link", code), "src/plan/link.rs is pure and names Instant::now", "{code}");
    }
    for code in
        [&in_function("setns(fd, x);"), "use nix::sched::setns as enter;", &in_function("fd.setns();")]
    {
        assert_eq!(
            plant("docker", code),
            "src/docker.rs names setns, which is that of src/kernel/netns.rs and src/process/node/enter.rs alone",
            "{code}"
        );
    }
    assert_eq!(
        plant("daemon", "use std::env as variables;"),
        "src/daemon.rs names std::env, which only lib and tools read"
    );
    assert_eq!(
        plant("kernel", "use std::process::Command as C; fn f() { C::new(x); }"),
        "src/kernel.rs starts a program, which is src/process.rs's alone"
    );
    assert_eq!(plant("frob", "fn f() {}"), "src/frob.rs is in no layer");
    // Comments, texts and names of one's own are no imports; tests may do what they like.
    for code in [
        "// use crate::kernel::Kernel;\nuse crate::network::Link;",
        "/* crate::kernel */ const X: &str = \"crate::kernel and std::fs\";",
        "fn f() { let kernel = 1; format!(\"crate::kernel {}\", kernel); }",
        "#[cfg(test)] mod tests { use crate::kernel::Kernel; fn f() { std::fs::read(p); } }",
        "#[cfg(test)] use crate::kernel::Kernel;",
        "mod fs {} use self::fs::x;",
    ] {
        assert_eq!(plant("plan", code), "", "{code}");
    }
}

#[test]
fn no_file_of_the_tools_needs_itself() {
    assert_eq!(circle(&needs(&sources())), None);
}

#[test]
fn a_planted_circle_is_found() {
    let circle = |files: &[(&str, &str)]| {
        let path = |name: &str| format!("src/tools{name}.rs");
        circle(&needs(&files.iter().map(|(name, code)| (path(name), (*code).to_owned())).collect()))
    };
    let b_needs_a = ("/b", "use super::a::A;");
    for (a, found) in [
        ("use crate::tools::b::{B, C};", true),
        ("fn f() { crate::tools::b::f(); }", true),
        ("use super::b; fn f() { b::f(); }", true),
        ("use crate::tools::c::C;", true),
        ("pub(in crate::tools::b) struct A; #[cfg(test)] mod tests { use super::super::b::B; }", false),
        ("use crate::tools::d::D;", false),
    ] {
        let files = [("", ""), ("/a", a), b_needs_a, ("/c", "use crate::tools::b;"), ("/d", "")];
        assert_eq!(circle(&files).is_some(), found, "{a}");
    }
    // A folder's file and a file in it.
    let files = [("/a", "mod b; fn f() { b::f(); }"), ("/a/b", "use crate::tools::a::A;")];
    assert_eq!(circle(&files).as_deref(), Some("tools::a → tools::a::b → tools::a"));
    assert_eq!(circle(&[("/a", "mod b; fn f() { b::f(); }"), ("/a/b", "mod c { use super::X; }")]), None);
}

/// The files of the tools that each of them needs, as modules.
fn needs(files: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let is_code = |path: &str| !path.ends_with("/tests.rs") && !path.contains("/tests/");
    let tools = files.iter().filter(|(path, _)| path.starts_with("src/tools") && is_code(path));
    let module = |path: &str| path.trim_start_matches("src/").trim_end_matches(".rs").replace('/', "::");
    let modules: BTreeSet<String> = tools.clone().map(|(path, _)| module(path)).collect();
    let mut needs = BTreeMap::new();
    for (path, text) in tools {
        let own = module(path);
        let names = Names::of(path, &syn::parse_file(text).unwrap()).found;
        let module_of = |name: &Vec<String>| {
            let full = match name.as_slice() {
                [root, rest @ ..] if root == "crate" => rest.join("::"),
                // What is in a module of its own.
                [_, _, ..] => format!("{own}::{}", name.join("::")),
                _ => return None,
            };
            let ends = full.match_indices("::").map(|(at, _)| at).chain([full.len()]);
            // The longest path is the file that has it.
            ends.filter_map(|it| modules.get(&full[..it])).last().filter(|it| **it != own).cloned()
        };
        needs.insert(own.clone(), names.iter().filter_map(module_of).collect());
    }
    needs
}

/// A way from a module back to itself.
fn circle(needs: &BTreeMap<String, BTreeSet<String>>) -> Option<String> {
    fn walk<'a>(
        at: &'a str,
        needs: &'a BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<String> {
        if let Some(start) = way.iter().position(|it| *it == at) {
            return Some([&way[start..], &[at]].concat().join(" → "));
        }
        way.push(at);
        if done.insert(at) {
            let found = needs.get(at).into_iter().flatten().find_map(|it| walk(it, needs, way, done));
            if found.is_some() {
                return found;
            }
        }
        way.pop();
        None
    }
    let mut done = BTreeSet::new();
    needs.keys().find_map(|it| walk(it, needs, &mut Vec::new(), &mut done))
}

/// Every source file by its path from the project's folder.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let paths = WalkDir::new(root.join("src")).into_iter().map(|it| it.unwrap().into_path());
    let sources =
        paths.filter(|it| it.extension().is_some_and(|it| it == "rs") && !it.ends_with("bin/conlink.rs"));
    let named = sources
        .map(|it| (it.strip_prefix(root).unwrap().display().to_string(), fs::read_to_string(&it).unwrap()));
    named.collect()
}

/// Every path that a file names, with its imports' names in full.
struct Names {
    /// The module that is read, from the crate: the last is the innermost.
    module: Vec<String>,
    /// What imports call things, by module and name.
    imported: BTreeMap<(Vec<String>, String), Vec<String>>,
    found: BTreeSet<Vec<String>>,
}

impl Names {
    fn of(path: &str, file: &syn::File) -> Self {
        let module = path.trim_start_matches("src/").trim_end_matches(".rs").split('/').map(str::to_owned);
        let module: Vec<String> = module.filter(|it| it != "lib").collect();
        let mut names = Self { module, imported: BTreeMap::new(), found: BTreeSet::new() };
        names.imports(&file.items);
        names.visit_file(file);
        names
    }

    /// The imports of a module and of those in it.
    fn imports(&mut self, items: &[Item]) {
        for item in items.iter().filter(|it| !is_test(attributes(it))) {
            match item {
                Item::Use(it) => {
                    for (path, name) in leaves(&it.tree, Vec::new()) {
                        self.imported.insert((self.module.clone(), name), path);
                    }
                }
                Item::Mod(ItemMod { ident, content: Some((_, items)), .. }) => {
                    self.module.push(ident.to_string());
                    self.imports(items);
                    self.module.pop();
                }
                _ => {}
            }
        }
    }

    /// A path from the crate or from another one. `depth` ends what leads in a circle.
    fn full(&self, path: &[String], depth: usize) -> Vec<String> {
        let mut module = self.module.clone();
        let mut rest = path;
        let mut is_relative = false;
        while let [first, more @ ..] = rest {
            match first.as_str() {
                "self" => {}
                "super" => drop(module.pop()),
                "crate" => module.clear(),
                _ => break,
            }
            (rest, is_relative) = (more, true);
        }
        let [first, more @ ..] = rest else { return self.in_crate(&module, &[]) };
        match self.imported.get(&(module.clone(), first.clone())) {
            Some(it) if depth > 0 && it.as_slice() != path => {
                let there = Self { module, imported: self.imported.clone(), found: BTreeSet::new() };
                there.full(&[it.as_slice(), more].concat(), depth - 1)
            }
            _ if is_relative => self.in_crate(&module, rest),
            _ => path.to_vec(),
        }
    }

    fn in_crate(&self, module: &[String], rest: &[String]) -> Vec<String> {
        [&["crate".to_owned()], module, rest].concat()
    }

    fn add(&mut self, path: &[String]) {
        self.found.insert(self.full(path, 8));
    }

    /// Paths in what is no syntax that is known, such as a macro's body.
    fn add_text(&mut self, text: &str) {
        let text = text.replace(" :: ", "::");
        for word in text.split(|it: char| !it.is_alphanumeric() && !matches!(it, '_' | ':')) {
            let path: Vec<String> = word
                .split("::")
                .filter(|it| !it.is_empty())
                .map(|it| it.trim_matches(':').to_owned())
                .collect();
            if !path.is_empty() {
                self.add(&path);
            }
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    /// Who may see something is no import.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_item_mod(&mut self, it: &'ast ItemMod) {
        self.module.push(it.ident.to_string());
        visit::visit_item_mod(self, it);
        self.module.pop();
    }

    fn visit_item_use(&mut self, it: &'ast ItemUse) {
        for (path, _) in leaves(&it.tree, Vec::new()) {
            self.add(&path);
        }
    }

    fn visit_path(&mut self, it: &'ast syn::Path) {
        let path: Vec<String> = it.segments.iter().map(|it| it.ident.to_string()).collect();
        self.add(&path);
        visit::visit_path(self, it);
    }

    fn visit_expr_method_call(&mut self, it: &'ast ExprMethodCall) {
        self.add(&[it.method.to_string()]);
        visit::visit_expr_method_call(self, it);
    }

    fn visit_macro(&mut self, it: &'ast Macro) {
        match it.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated) {
            Ok(list) => list.iter().for_each(|it| self.visit_copy(it)),
            Err(_) => self.add_text(&it.tokens.to_string()),
        }
        visit::visit_macro(self, it);
    }
}

impl Names {
    /// Visits what does not live as long as the file.
    fn visit_copy(&mut self, it: &Expr) {
        let mut inner =
            Self { module: self.module.clone(), imported: self.imported.clone(), found: BTreeSet::new() };
        inner.visit_expr(it);
        self.found.append(&mut inner.found);
    }
}

/// Every path of an import, and what it is called there.
fn leaves(tree: &UseTree, before: Vec<String>) -> Vec<(Vec<String>, String)> {
    let with = |name: String| [before.clone(), vec![name]].concat();
    // `a::{self}` is `a`.
    let whole = |name: &str| {
        if name == "self" && !before.is_empty() { before.clone() } else { with(name.to_owned()) }
    };
    match tree {
        UseTree::Path(it) => leaves(&it.tree, with(it.ident.to_string())),
        UseTree::Name(it) => {
            let path = whole(&it.ident.to_string());
            let name = path.last().cloned().unwrap_or_default();
            vec![(path, name)]
        }
        UseTree::Rename(it) => vec![(whole(&it.ident.to_string()), it.rename.to_string())],
        UseTree::Glob(_) => vec![(with("*".to_owned()), "*".to_owned())],
        UseTree::Group(it) => it.items.iter().flat_map(|it| leaves(it, before.clone())).collect(),
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(it) => &it.attrs,
        Item::Enum(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::Impl(it) => &it.attrs,
        Item::Mod(it) => &it.attrs,
        Item::Static(it) => &it.attrs,
        Item::Struct(it) => &it.attrs,
        Item::Use(it) => &it.attrs,
        _ => &[],
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    let is_test = |it: &Attribute| {
        it.path().is_ident("cfg") && it.parse_args::<syn::Ident>().is_ok_and(|it| it == "test")
    };
    attributes.iter().any(is_test)
}

fn violations(files: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files {
        if path.ends_with("/tests.rs") || path.contains("/tests/") {
            continue;
        }
        let module = path.trim_start_matches("src/").trim_end_matches(".rs").split('/').next().unwrap();
        let Some((_, may_import)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            found.push(format!("{path} is in no layer"));
            continue;
        };
        let file = syn::parse_file(text).unwrap_or_else(|it| panic!("{path}: {it}"));
        let names = Names::of(path, &file).found;
        let mut told = BTreeSet::new();
        let mut say = |what: String| {
            if told.insert(what.clone()) {
                found.push(format!("{path} {what}"));
            }
        };
        for name in &names {
            match name.as_slice() {
                [root, all, ..] if root == "crate" && all == "*" => say("imports all of crate".to_owned()),
                [root, name, ..] if root == "crate" => {
                    let is_module = LAYERS.iter().any(|(it, _)| it == name);
                    if is_module && name != module && !may_import.contains(&name.as_str()) {
                        say(format!("imports crate::{name}"));
                    }
                }
                _ => {}
            }
        }
        let texts: Vec<String> = names.iter().map(|it| it.join("::")).collect();
        let begins = |with: &str| texts.iter().any(|it| *it == with || it.starts_with(&format!("{with}::")));
        let ends = |with: &str| texts.iter().any(|it| *it == with || it.ends_with(&format!("::{with}")));
        if PURE.contains(&module) {
            WORLD.iter().filter(|it| begins(it)).for_each(|it| say(format!("is pure and names {it}")));
            CLOCK.iter().filter(|it| ends(it)).for_each(|it| say(format!("is pure and names {it}")));
        }
        if !["lib", "tools"].contains(&module) && !PURE.contains(&module) && begins("std::env") {
            say("names std::env, which only lib and tools read".to_owned());
        }
        if !ENTERS.contains(&path.as_str()) && ends("setns") {
            say(format!("names setns, which is that of {} alone", ENTERS.join(" and ")));
        }
        let starts = |it: &String| it.rsplit("::").next().is_some_and(|it| it.starts_with("execv"));
        if (ends("Command::new") || texts.iter().any(starts)) && module != "process" {
            say("starts a program, which is src/process.rs's alone".to_owned());
        }
    }
    found
}
