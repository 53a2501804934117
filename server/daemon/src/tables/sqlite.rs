//! `sqlite:` tables (sqlite_table(5)): the database that needs no server.
//!
//! Keys are compared by the column's own collation. MySQL's SUBSTRING_INDEX and CONCAT are there,
//! so that the tutorial's select_field works as it is. A file that is missing, locked for longer
//! than half a second, or no database at all is a failed lookup; a file that was replaced is noticed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, params_from_iter};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::sql::{Statement, add_row};

/// Lookups at once in one file; each needs a thread while it runs.
const CONNECTIONS: usize = 4;
const BUSY: Duration = Duration::from_millis(500);

/// A database file and the connections to it.
pub(crate) struct File {
    path: PathBuf,
    /// Each with the device and inode that it was opened from.
    idle: Mutex<Vec<(Identity, Connection)>>,
    permits: Semaphore,
    time_limit: Duration,
}

type Identity = (u64, u64);

/// One table file.
pub(crate) struct Table {
    file: Arc<File>,
    query: Arc<Statement>,
}

impl Table {
    pub(crate) fn new(file: Arc<File>, query: Statement) -> Self {
        let query = Arc::new(query);
        Self { file, query }
    }

    /// The values of `keys`, several rows of one joined by commas.
    pub(crate) async fn ask(&self, keys: &[String]) -> Result<Vec<Option<String>>, String> {
        let (file, query) = (Arc::clone(&self.file), Arc::clone(&self.query));
        let keys = keys.to_vec();
        let lookup = async {
            let _permit = self.file.permits.acquire().await;
            tokio::task::spawn_blocking(move || file.ask(&query, &keys)).await
        };
        let values = timeout(self.file.time_limit, lookup)
            .await
            .map_err(|_| format!("no answer within {:?}", self.file.time_limit))?;
        values.map_err(|error| error.to_string())?
    }
}

impl File {
    pub(crate) fn new(path: &Path, time_limit: Duration) -> Self {
        let permits = Semaphore::new(CONNECTIONS);
        Self {
            path: path.to_owned(),
            idle: Mutex::default(),
            permits,
            time_limit,
        }
    }

    fn ask(&self, query: &Statement, keys: &[String]) -> Result<Vec<Option<String>>, String> {
        let metadata = std::fs::metadata(&self.path)
            .map_err(|error| format!("{}: {error}", self.path.display()))?;
        let identity = (metadata.dev(), metadata.ino());
        let idle = self.idle().pop();
        let connection = match idle.filter(|(from, _)| *from == identity) {
            Some((_, connection)) => connection,
            None => connect(&self.path).map_err(|error| error.to_string())?,
        };
        let values = keys
            .iter()
            .map(|key| one(&connection, query, key))
            .collect::<Result<_, _>>();
        // After an error the connection may hold on to something stale; a new one costs little.
        let values = values.map_err(|error: rusqlite::Error| error.to_string())?;
        self.idle().push((identity, connection));
        Ok(values)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Identity, Connection)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    let pure = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("SUBSTRING_INDEX", 3, pure, |context| {
        // NULL in any argument makes the whole NULL, as in MySQL.
        let text: Option<String> = context.get(0)?;
        let (delimiter, count): (Option<String>, Option<i64>) = (context.get(1)?, context.get(2)?);
        let (Some(text), Some(delimiter), Some(count)) = (text, delimiter, count) else {
            return Ok(None);
        };
        Ok(Some(substring_index(&text, &delimiter, count).to_owned()))
    })?;
    connection.create_scalar_function("CONCAT", -1, pure, |context| {
        let texts = (0..context.len()).map(|at| as_text(context.get_raw(at)));
        Ok(texts.collect::<Option<String>>())
    })?;
    Ok(connection)
}

fn one(connection: &Connection, query: &Statement, key: &str) -> rusqlite::Result<Option<String>> {
    let Some(bound) = query.values(key) else {
        return Ok(None);
    };
    let mut statement = connection.prepare_cached(&query.sql("?"))?;
    let columns = statement.column_count();
    let mut rows = statement.query(params_from_iter(bound))?;
    let mut value = None;
    while let Some(row) = rows.next()? {
        let texts = (0..columns).map(|column| row.get_ref(column).map(as_text));
        add_row(&mut value, texts.collect::<rusqlite::Result<Vec<_>>>()?);
    }
    Ok(value)
}

fn as_text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(octets) | ValueRef::Blob(octets) => {
            Some(String::from_utf8_lossy(octets).into_owned())
        }
    }
}

/// MySQL's SUBSTRING_INDEX: what goes before the `count`th delimiter, or after it from the end.
fn substring_index<'a>(text: &'a str, delimiter: &str, count: i64) -> &'a str {
    if delimiter.is_empty() || count == 0 {
        return "";
    }
    let nth = usize::try_from(count.unsigned_abs() - 1).unwrap_or(usize::MAX);
    if count > 0 {
        text.match_indices(delimiter)
            .nth(nth)
            .map_or(text, |(at, _)| &text[..at])
    } else {
        text.rmatch_indices(delimiter)
            .nth(nth)
            .map_or(text, |(at, found)| &text[at + found.len()..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("a@b@c", 1, "a")]
    #[case("a@b@c", 2, "a@b")]
    #[case("a@b@c", -1, "c")]
    #[case("a@b@c", 9, "a@b@c")]
    #[case("plain", -1, "plain")]
    #[case("a@b", 0, "")]
    fn substring_index_cuts_as_in_mysql(#[case] text: &str, #[case] count: i64, #[case] cut: &str) {
        assert_eq!(substring_index(text, "@", count), cut);
    }

    const TUTORIAL: &str = "SELECT CONCAT(SUBSTRING_INDEX(email,'@',-1),'/',SUBSTRING_INDEX(email,'@',1),'/') \
                            FROM users WHERE email = '%s'";
    const EMAIL: &str = "SELECT email FROM users WHERE email = '%s'";

    fn create(path: &Path, rows: &str) -> Connection {
        let database = Connection::open(path).unwrap();
        let columns = "email TEXT COLLATE NOCASE, quota INT";
        let sql = format!("CREATE TABLE users ({columns}); INSERT INTO users VALUES {rows}");
        database.execute_batch(&sql).unwrap();
        database
    }

    async fn get(file: &Arc<File>, query: &str, key: &str) -> Result<Option<String>, String> {
        let table = Table::new(Arc::clone(file), Statement::compile(query).unwrap());
        Ok(table.ask(&[key.to_owned()]).await?.remove(0))
    }

    /// A folder, and a database in it that is not there yet.
    fn database() -> (tempfile::TempDir, Arc<File>) {
        let folder = tempfile::tempdir().unwrap();
        let file = File::new(&folder.path().join("mail.db"), Duration::from_secs(30));
        (folder, Arc::new(file))
    }

    #[tokio::test]
    async fn the_tutorials_select_field_works_as_it_is() {
        let (_folder, file) = database();
        create(&file.path, "('Address@mydomain.com', 5)");
        let found = get(&file, TUTORIAL, "address@mydomain.com").await;
        assert_eq!(found.unwrap().unwrap(), "mydomain.com/Address/");
        assert_eq!(get(&file, TUTORIAL, "x' OR '1'='1").await, Ok(None));
        let found = get(&file, "SELECT quota FROM users", "k").await;
        assert_eq!(found.unwrap().unwrap(), "5");
    }

    #[tokio::test]
    async fn a_file_that_is_missing_fails_and_one_that_was_replaced_is_noticed() {
        let (_folder, file) = database();
        assert!(get(&file, EMAIL, "a@b").await.is_err());
        create(&file.path, "('a@b', 1), ('A@B', 1)");
        let found = get(&file, EMAIL, "a@b").await;
        assert_eq!(found.unwrap().unwrap(), "a@b,A@B");
        std::fs::remove_file(&file.path).unwrap();
        create(&file.path, "('c@d', 1)");
        assert_eq!(get(&file, EMAIL, "a@b").await, Ok(None));
    }

    #[tokio::test]
    async fn a_locked_database_fails_and_is_used_again_when_it_is_free() {
        let (_folder, file) = database();
        let writer = create(&file.path, "('a@b', 1)");
        writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let error = get(&file, EMAIL, "a@b").await.unwrap_err();
        assert!(error.contains("locked"), "{error}");
        writer.execute_batch("COMMIT").unwrap();
        assert_eq!(get(&file, EMAIL, "a@b").await, Ok(Some("a@b".to_owned())));
    }
}
