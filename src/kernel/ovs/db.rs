//! The database's JSON notation (RFC 7047 section 5.1) and operations.

use serde_json::{Map, Value, json};

use super::rpc::{SwitchError, words};

/// The name of the database and of its table with a single row.
pub(super) const DATABASE: &str = "Open_vSwitch";

pub(super) fn select(table: &str, condition: Value, columns: &[&str]) -> Value {
    json!({"op": "select", "table": table, "where": condition, "columns": columns})
}

/// Other operations of the transaction refer to the row by `name`.
pub(super) fn insert(table: &str, row: Value, name: &str) -> Value {
    json!({"op": "insert", "table": table, "row": row, "uuid-name": name})
}

pub(super) fn mutate(table: &str, condition: Value, mutations: Value) -> Value {
    json!({"op": "mutate", "table": table, "where": condition, "mutations": mutations})
}

pub(super) fn update(table: &str, condition: Value, row: Value) -> Value {
    json!({"op": "update", "table": table, "where": condition, "row": row})
}

/// The condition that a column has this value.
pub(super) fn is(column: &str, value: impl Into<Value>) -> Value {
    json!([[column, "==", value.into()]])
}

/// The condition that a set has this member.
pub(super) fn includes(column: &str, member: &Value) -> Value {
    json!([[column, "includes", member]])
}

/// A row that is inserted by the same transaction.
pub(super) fn new_row(name: &str) -> Value {
    json!(["named-uuid", name])
}

pub(super) fn set_of(items: Vec<Value>) -> Value {
    json!(["set", items])
}

pub(super) fn map_of(pairs: &[(&str, &str)]) -> Value {
    json!(["map", pairs])
}

/// The members of a set. A set with one member is written as that member.
pub(super) fn members(set: &Value) -> Vec<&Value> {
    match set.as_array().map(Vec::as_slice) {
        Some([kind, Value::Array(items)]) if kind == "set" => items.iter().collect(),
        _ => vec![set],
    }
}

/// The first text in a set, for columns with at most one value.
pub(super) fn text(set: &Value) -> Option<&str> {
    members(set).into_iter().find_map(Value::as_str)
}

/// The first number in a set.
pub(super) fn number(set: &Value) -> Option<i64> {
    members(set).into_iter().find_map(Value::as_i64)
}

/// The value of a key in a map.
pub(super) fn value<'a>(map: &'a Value, key: &str) -> Option<&'a str> {
    let pairs = map.get(1)?.as_array()?;
    pairs.iter().find(|it| it.get(0).is_some_and(|it| it == key))?.get(1)?.as_str()
}

/// The UUID of a row (column `_uuid`), as other columns refer to it.
pub(super) fn uuid(reference: &Value) -> Option<&str> {
    reference.get(1)?.as_str()
}

/// The results of a transaction, one per operation.
#[derive(Debug)]
pub(super) struct Answers(Vec<Value>);

impl Answers {
    /// If an operation failed, the whole transaction failed with that error.
    pub(super) fn new(result: Value) -> Result<Self, SwitchError> {
        let Value::Array(answers) = result else {
            return Err(SwitchError::Refused(format!("the database answers {result}")));
        };
        match answers.iter().find(|it| it.get("error").is_some_and(|it| !it.is_null())) {
            Some(failed) => Err(SwitchError::Refused(words(failed))),
            None => Ok(Self(answers)),
        }
    }

    /// The rows selected by an operation, given by its index.
    pub(super) fn rows(&self, operation: usize) -> &[Value] {
        let rows = self.0.get(operation).and_then(|it| it.get("rows")).and_then(Value::as_array);
        rows.map(Vec::as_slice).unwrap_or_default()
    }

    /// A column of the first row selected by an operation.
    pub(super) fn column(&self, operation: usize, column: &str) -> Option<&Value> {
        self.rows(operation).first()?.get(column)
    }

    /// The UUID of the row inserted by an operation.
    pub(super) fn inserted(&self, operation: usize) -> Option<&Value> {
        self.0.get(operation)?.get("uuid")
    }
}

/// A row with the columns that are not None.
pub(super) fn row<const N: usize>(columns: [(&str, Option<Value>); N]) -> Value {
    let columns = columns.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(columns.collect::<Map<_, _>>())
}
