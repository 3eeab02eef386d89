//! docs/dependencies.md: a row for each direct dependency, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The names in a table of Cargo.toml, one dependency per line.
fn dependencies(manifest: &str, table: &str) -> BTreeSet<String> {
    let lines = manifest.lines().skip_while(|it| *it != format!("[{table}]")).skip(1);
    let lines = lines.take_while(|it| !it.starts_with('[')).filter(|it| !it.starts_with('#'));
    lines.filter_map(|it| it.split_once(" = ")).map(|(name, _)| name.to_owned()).collect()
}

/// The names in the first column of the table below a heading of the page.
fn rows(page: &str, heading: &str) -> BTreeSet<String> {
    let lines = page.lines().skip_while(|it| *it != format!("## {heading}")).skip(1);
    let lines = lines.take_while(|it| !it.starts_with("## ")).filter(|it| it.starts_with("| `"));
    lines
        .flat_map(|it| it.split('|').nth(1).unwrap().split(','))
        .map(|it| it.trim().replace('`', ""))
        .collect()
}

#[test]
fn every_dependency_has_a_row_in_the_documentation_and_every_row_a_dependency() {
    let (manifest, page) = (file("Cargo.toml"), file("docs/dependencies.md"));
    for (table, heading) in [("dependencies", "In the binary"), ("dev-dependencies", "In the tests")] {
        let expected = dependencies(&manifest, table);
        assert!(expected.len() > 4, "{expected:?}");
        assert_eq!(rows(&page, heading), expected, "{heading}");
    }
}
