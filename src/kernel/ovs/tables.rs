//! A copy of the needed rows, kept up to date by the server's updates (`monitor` and `update`, RFC 7047 sections 4.1.5
//! and 4.1.6).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

pub(super) const BRIDGE: &str = "Bridge";
pub(super) const PORT: &str = "Port";
pub(super) const INTERFACE: &str = "Interface";

/// The needed columns. `name` is in each table.
const COLUMNS: [(&str, &[&str]); 3] = [
    (
        BRIDGE,
        &[
            "name",
            "ports",
            "datapath_type",
            "external_ids",
            "other_config",
            "stp_enable",
            "mcast_snooping_enable",
        ],
    ),
    (PORT, &["name", "interfaces", "external_ids"]),
    (INTERFACE, &["name", "error", "mtu_request"]),
];

/// By table: rows by UUID.
#[derive(Debug, Default)]
pub(super) struct Tables(BTreeMap<String, BTreeMap<String, Value>>);

/// Changed bridges and ports, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub changed: BTreeSet<String>,
    /// Deleted bridges.
    pub deleted: BTreeSet<String>,
}

impl Tables {
    /// The requested updates: the third parameter of the method `monitor`.
    pub(super) fn requests() -> Value {
        let request = |(table, columns): (&str, &[&str])| (table.to_owned(), json!({"columns": columns}));
        Value::Object(COLUMNS.into_iter().map(request).collect::<Map<_, _>>())
    }

    /// The rows of a table with their UUIDs.
    pub(super) fn rows(&self, table: &str) -> impl Iterator<Item = (&str, &Value)> {
        self.0.get(table).into_iter().flatten().map(|(uuid, row)| (uuid.as_str(), row))
    }

    pub(super) fn row(&self, table: &str, uuid: &str) -> Option<&Value> {
        self.0.get(table)?.get(uuid)
    }

    /// Applies an update, and records the names of changed rows.
    pub(super) fn update(&mut self, update: Value, changes: &mut Changes) {
        let Value::Object(tables) = update else { return };
        for (table, rows) in tables {
            let Value::Object(rows) = rows else { continue };
            let known = self.0.entry(table.clone()).or_default();
            for (uuid, mut row) in rows {
                let new = row.get_mut("new").map(Value::take).filter(Value::is_object);
                let is_deleted = new.is_none();
                let old = match new {
                    Some(new) => {
                        changes.note(&table, &new, false);
                        known.insert(uuid, new)
                    }
                    None => known.remove(&uuid),
                };
                if let Some(old) = old {
                    changes.note(&table, &old, is_deleted);
                }
            }
        }
    }

    /// Replaces the copy, and records the names of rows that differ.
    pub(super) fn replace(&mut self, new: Self, changes: &mut Changes) {
        let old = std::mem::replace(self, new);
        for (these, others, is_deleted) in [(&old, &*self, true), (&*self, &old, false)] {
            for (table, rows) in &these.0 {
                for (uuid, row) in rows {
                    let other = others.row(table, uuid);
                    if other != Some(row) {
                        changes.note(table, row, is_deleted && other.is_none());
                    }
                }
            }
        }
    }
}

impl Changes {
    fn note(&mut self, table: &str, row: &Value, is_deleted: bool) {
        if let Some(name) = row["name"].as_str() {
            let names = if is_deleted && table == BRIDGE { &mut self.deleted } else { &mut self.changed };
            names.insert(name.to_owned());
        }
    }

    /// Drops the recorded changes of these names, or of all.
    pub(super) fn forget(&mut self, names: Option<&BTreeSet<crate::addr::IfName>>) {
        let Some(names) = names else { return *self = Self::default() };
        let is_left = |it: &String| !names.iter().any(|name| name.as_str() == it);
        self.changed.retain(is_left);
        self.deleted.retain(is_left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(changes: &mut Changes) -> (Vec<String>, Vec<String>) {
        let Changes { changed, deleted } = std::mem::take(changes);
        (changed.into_iter().collect(), deleted.into_iter().collect())
    }

    #[test]
    fn updates_are_applied_and_their_names_recorded() {
        let mut tables = Tables::default();
        let mut changes = Changes::default();
        let port = |name: &str| json!({"name": name, "interfaces": ["uuid", "i"]});
        let first = json!({
            "Bridge": {"b1": {"new": {"name": "lan", "ports": ["set", []]}}},
            "Port": {"p1": {"new": port("a")}, "p2": {"new": port("b")}},
        });
        tables.update(first, &mut changes);
        assert_eq!(names(&mut changes), (vec!["a".to_owned(), "b".to_owned(), "lan".to_owned()], vec![]));
        let renamed =
            json!({"Port": {"p1": {"old": {"name": "a"}, "new": port("c")}, "p2": {"old": port("b")}}});
        tables.update(renamed, &mut changes);
        assert_eq!(names(&mut changes).0, ["a", "b", "c"]);
        assert_eq!(tables.rows(PORT).collect::<Vec<_>>(), [("p1", &port("c"))]);
        tables.update(json!({"Bridge": {"b1": {"old": {"name": "lan"}}}}), &mut changes);
        assert_eq!(names(&mut changes), (vec![], vec!["lan".to_owned()]));
        assert_eq!(tables.row(BRIDGE, "b1"), None);
        // Changes that were missed without a connection.
        let mut new = Tables::default();
        let second = json!({"Bridge": {"b2": {"new": {"name": "lan"}}}, "Port": {"p1": {"new": port("c")}}});
        new.update(second, &mut Changes::default());
        tables.replace(new, &mut changes);
        assert_eq!(names(&mut changes), (vec!["lan".to_owned()], vec![]));
        tables.replace(Tables::default(), &mut changes);
        assert_eq!(names(&mut changes), (vec!["c".to_owned()], vec!["lan".to_owned()]));
    }

    #[test]
    fn forgotten_names_are_not_reported() {
        let set = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<BTreeSet<_>>();
        let mut changes = Changes { changed: set(&["a", "b"]), deleted: set(&["lan"]) };
        changes.forget(Some(&BTreeSet::from(["a".parse().unwrap(), "lan".parse().unwrap()])));
        assert_eq!(changes, Changes { changed: set(&["b"]), deleted: set(&[]) });
        changes.forget(None);
        assert_eq!(changes, Changes::default());
    }
}
