//! README and docs: their compose files are valid, and their links lead somewhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::support::{Run, conlink};

/// The Markdown files of a folder and its subfolders, with their texts.
fn pages(folder: &Path) -> impl Iterator<Item = (PathBuf, String)> {
    let files = WalkDir::new(folder).into_iter().map(|it| it.unwrap().into_path());
    files.filter(|it| it.extension().is_some_and(|it| it == "md")).map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        (path, text)
    })
}

fn all_pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = root.join("README.md");
    let text = fs::read_to_string(&readme).unwrap();
    let folders = ["docs", "modes-examples"].map(|it| root.join(it));
    std::iter::once((readme, text)).chain(folders.iter().flat_map(|it| pages(it))).collect()
}

/// The text outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The anchors of a page: its headings in lower case, with hyphens for spaces and without punctuation.
fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).filter_map(|it| it.strip_prefix('#'));
    let kept = |it: char| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_');
    let slug = |it: &str| {
        it.trim_start_matches('#').trim().to_lowercase().replace(|it| !kept(it), "").replace(' ', "-")
    };
    headings.map(slug).collect()
}

#[test]
fn every_compose_file_of_readme_and_guides_is_valid() {
    let mut count = 0;
    for (path, text) in all_pages() {
        let is_guide =
            path.parent().is_some_and(|it| it.ends_with("docs/guides")) || path.ends_with("README.md");
        let blocks = text.split("```yaml\n").skip(1).map(|it| it.split("```").next().unwrap());
        for yaml in blocks.filter(|it| is_guide && it.contains("services:\n")) {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("compose.yaml"), yaml).unwrap();
            let Run { code, stderr, .. } =
                conlink(folder.path(), &["check", "compose.yaml"], &BTreeMap::new());
            assert_eq!((code, stderr.as_str()), (0, ""), "{}:\n{yaml}", path.display());
            count += 1;
        }
    }
    assert!(count >= 8, "{count} compose files");
}

#[test]
fn every_link_between_pages_leads_to_a_file_and_a_heading() {
    let pages = all_pages();
    let mut count = 0;
    for (path, text) in &pages {
        let targets = prose(text).flat_map(|it| it.split("](").skip(1)).filter_map(|it| it.split(')').next());
        for target in targets.filter(|it| !it.contains("://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(file.exists(), "{}: {target}", path.display());
            if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(&file).unwrap());
                assert!(
                    there.iter().any(|it| it == anchor),
                    "{}: {target}, there are {there:?}",
                    path.display()
                );
            }
            count += 1;
        }
    }
    assert!(count > 50, "{count} links");
}
