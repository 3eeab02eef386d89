//! Nodes and their dependencies, from directories and JSON files.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::deps::{Dep, Graph, Wants, parse, parse_json};
use crate::tools::input;
use crate::words::BadWord;

/// The nodes of a list of places.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    all: BTreeMap<String, Node>,
}

/// A directory, or an entry of a JSON file.
#[derive(Debug)]
pub(crate) struct Node {
    /// The directory, or the JSON file.
    pub(crate) path: PathBuf,
    /// The dependencies in a JSON file. The `deps` file of a directory is read when it is needed.
    deps: Option<Vec<Dep>>,
}

/// The nodes that a request can reach, and the text of each `deps` file.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    pub(crate) graph: Graph,
    pub(crate) texts: BTreeMap<String, String>,
}

/// The non-empty parts of a list separated by colons or commas.
pub(crate) fn places(list: &str) -> Vec<&str> {
    list.split([':', ',']).filter(|it| !it.is_empty()).collect()
}

impl Nodes {
    /// Reads the nodes of directories (their subdirectories), of JSON files, and of standard input (`-`). Returns all errors.
    pub(crate) fn read(places: &[&str]) -> Result<Self, Vec<String>> {
        let mut nodes = Self::default();
        let mut wrong = Vec::new();
        let mut twice: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        let mut add = |name: String, node: Node| match nodes.all.entry(name) {
            Entry::Vacant(it) => drop(it.insert(node)),
            Entry::Occupied(it) => {
                let first = || vec![it.get().path.clone()];
                twice.entry(it.key().clone()).or_insert_with(first).push(node.path);
            }
        };
        for place in places {
            let path = Path::new(place);
            if *place == "-" || path.is_file() {
                match json(path) {
                    Ok(all) => all.into_iter().for_each(|(name, deps)| {
                        add(name, Node { path: path.to_owned(), deps: Some(deps) });
                    }),
                    Err(bad) => wrong.extend(bad),
                }
                continue;
            }
            match folders(path) {
                // A name that is not UTF-8 cannot be asked for.
                Ok(all) => all.into_iter().filter_map(|it| it.into_string().ok()).for_each(|name| {
                    let path = path.join(&name);
                    add(name, Node { path, deps: None });
                }),
                Err(error) => wrong.push(format!("{place}: {error}")),
            }
        }
        let several = twice.into_iter().map(|(name, paths)| {
            let paths: Vec<String> = paths.iter().map(|it| it.display().to_string()).collect();
            format!("Node {name} appears in multiple places: {}", paths.join(", "))
        });
        wrong.extend(several);
        if wrong.is_empty() { Ok(nodes) } else { Err(wrong) }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.all.get(name)
    }

    /// The names, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(String::as_str)
    }

    /// The nodes that a request can reach. `deps` files of other nodes are not read.
    pub(crate) fn reach(&self, request: &[Dep]) -> Result<Reach, Vec<String>> {
        let mut reach = Reach::default();
        let mut wrong = Vec::new();
        let mut names: Vec<String> = named(request).map(str::to_owned).collect();
        while let Some(name) = names.pop() {
            if reach.graph.contains_key(&name) {
                continue;
            }
            let Some(node) = self.all.get(&name) else { continue };
            let deps = match &node.deps {
                Some(deps) => deps.clone(),
                None => match read_deps(&node.path.join("deps")) {
                    Ok((text, deps)) => {
                        reach.texts.insert(name.clone(), text);
                        deps
                    }
                    Err(bad) => {
                        wrong.extend(bad);
                        Vec::new()
                    }
                },
            };
            names.extend(named(&deps).map(str::to_owned));
            reach.graph.insert(name, deps);
        }
        wrong.sort();
        if wrong.is_empty() { Ok(reach) } else { Err(wrong) }
    }
}

/// Every node that these dependencies may choose.
fn named(deps: &[Dep]) -> impl Iterator<Item = &str> {
    deps.iter()
        .flat_map(|it| match &it.wants {
            Wants::Node(name) => std::slice::from_ref(name),
            Wants::AnyOf(names) => names.as_slice(),
            Wants::After(_) => &[],
        })
        .map(String::as_str)
}

/// The subdirectories of a directory, also behind symbolic links.
pub(crate) fn folders(path: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() || kind.is_symlink() && entry.path().is_dir() {
            names.push(entry.file_name());
        }
    }
    Ok(names)
}

fn json(path: &Path) -> Result<Vec<(String, Vec<Dep>)>, Vec<String>> {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        input::read(path)
    };
    let bytes = bytes.map_err(|it| vec![format!("{name}: {it}")])?;
    let text = String::from_utf8(bytes).map_err(|it| vec![format!("{name}: {it}")])?;
    parse_json(&text).map_err(|bad| bad.iter().map(|it| format!("{name}: {it}")).collect())
}

/// Reads a `deps` file; a missing file is empty.
fn read_deps(path: &Path) -> Result<(String, Vec<Dep>), Vec<String>> {
    if path.metadata().is_err() {
        return Ok((String::new(), Vec::new()));
    }
    let name = path.display();
    let bytes = input::read(path).map_err(|it| vec![format!("{name}: {it}")])?;
    let text = String::from_utf8(bytes).map_err(|it| {
        let good = it.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(it.as_bytes().get(..good).unwrap_or_default());
        let (line, col) = Lines::of(&before).line_col(before.len());
        vec![format!("{name}:{line}:{col}: the file is not UTF-8")]
    })?;
    match parse(&text) {
        Ok(deps) => Ok((text, deps)),
        Err(bad) => Err(complaints(&name.to_string(), &text, &bad)),
    }
}

/// `NAME:LINE:COL: error (help)` for each error.
pub(crate) fn complaints(name: &str, text: &str, bad: &[BadWord]) -> Vec<String> {
    let lines = Lines::of(text);
    let complaint = |it: &BadWord| {
        let (line, col) = lines.line_col(it.at.start);
        let help = it.help.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        format!("{name}:{line}:{col}: {it}{help}")
    };
    bad.iter().map(complaint).collect()
}

/// The lines of a text, for many places in it.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// The line of a byte, from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|it| *it <= at)
    }

    /// The line and the column in characters of a byte, from 1.
    pub(crate) fn line_col(&self, at: usize) -> (usize, usize) {
        let line = self.line(at);
        let start = self.starts.get(line - 1).copied().unwrap_or_default();
        let before = self.text.get(start..at).or_else(|| self.text.get(start..)).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}
