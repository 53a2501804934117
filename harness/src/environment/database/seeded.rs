//! Rows that a command of the user's brings to where the server finds them.
//!
//! The command gets one JSON document on standard input and ends with 0 when the server sees the
//! rows: `{"add": {"domains": [{"domain": …}], "forwardings": …, "transport": …, "users": …}}` with
//! the columns of `fixtures/sql/schema.sql`, and in the end `{"remove": {"names": ["d1.4f.test", …]}}`:
//! every row whose key is such a name, or ends in `@` and such a name.

use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Map, Value, json};

use crate::environment::mirror;
use crate::environment::names;

/// Each with its columns.
const TABLES: [(&str, &[&str]); 4] = [
    ("domains", &["domain"]),
    ("forwardings", &["email", "destination"]),
    ("transport", &["domain", "transport"]),
    ("users", &["email", "password", "quota"]),
];
/// How long the command may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Brings rows.
pub(super) async fn add(command: &[String], statements: &str) -> Result<(), String> {
    let rows = rows(statements)?;
    tell(command, &json!({ "add": rows })).await
}

/// Takes them away.
pub(super) async fn remove(command: &[String], names: &[&str]) -> Result<(), String> {
    tell(command, &json!({ "remove": { "names": names } })).await
}

async fn tell(command: &[String], document: &Value) -> Result<(), String> {
    let text = format!("{document}\n");
    let (status, _, said) = mirror::run(command, &[], text.as_bytes(), LIMIT).await?;
    if status == 0 {
        return Ok(());
    }
    Err(format!(
        "the seeding command `{}` ended with {status}: {said}",
        command.join(" ")
    ))
}

/// What the statements make of four empty tables.
fn rows(statements: &str) -> Result<Map<String, Value>, String> {
    let schema = names::statements(super::super::fixture("sql/schema.sqlite.sql")?);
    let say = |error: rusqlite::Error| format!("the rows of a case: {error}");
    let database = Connection::open_in_memory().map_err(say)?;
    database.execute_batch(&schema.join(";\n")).map_err(say)?;
    database.execute_batch(statements).map_err(say)?;
    let mut tables = Map::new();
    for (table, columns) in TABLES {
        let select = format!("SELECT {} FROM {table}", columns.join(", "));
        let mut select = database.prepare(&select).map_err(say)?;
        let row = |row: &rusqlite::Row<'_>| {
            let mut object = Map::new();
            for (i, column) in columns.iter().enumerate() {
                let value = match row.get_ref(i)? {
                    rusqlite::types::ValueRef::Integer(number) => Value::from(number),
                    rusqlite::types::ValueRef::Null => Value::Null,
                    other => Value::from(other.as_str()?),
                };
                object.insert((*column).to_owned(), value);
            }
            Ok(Value::Object(object))
        };
        let all = select
            .query_map([], row)
            .and_then(Iterator::collect::<Result<Vec<Value>, _>>)
            .map_err(say)?;
        tables.insert(table.to_owned(), Value::Array(all));
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tutorials_rows_can_be_told_as_json() {
        let seed = crate::fixtures::file("sql/seed.sql").unwrap();
        let statements = crate::environment::names::statements(seed).join(";\n");
        let rows = super::rows(&statements).unwrap();
        assert_eq!(rows["domains"][0]["domain"], "mydomain.com");
        assert_eq!(rows["users"][0]["email"], "address@mydomain.com");
        assert!(rows["users"][0]["quota"].is_number() || rows["users"][0]["quota"].is_string());
        assert_eq!(rows["transport"][0]["domain"], "transport.com");
    }
}
