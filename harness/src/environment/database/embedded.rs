//! SQLite: the database that needs nothing on the machine.
//!
//! One file a target, in rollback-journal mode. *Stopping* it means holding an EXCLUSIVE lock, so
//! that every read of the target fails as busy; our own statements go on inside that transaction and
//! count from its end.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::Connection;

use crate::environment::sink::lock;
use crate::environment::template;

/// How long we wait for the target's reads.
const BUSY: Duration = Duration::from_secs(2);

/// One file and our connection to it.
#[derive(Debug, Clone)]
pub struct SqliteFile {
    path: Arc<Path>,
    connection: Arc<Mutex<Connection>>,
}

impl SqliteFile {
    /// A new, empty database that `group` may read.
    pub fn create(path: PathBuf, group: u32) -> Result<Self, String> {
        let say = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let connection = Connection::open(&path).map_err(|e| say(&e))?;
        connection.busy_timeout(BUSY).map_err(|e| say(&e))?;
        // What is in it may die with the machine; it is made anew for every run.
        connection
            .execute_batch(
                "PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF; PRAGMA user_version = 1",
            )
            .map_err(|e| say(&e))?;
        template::shut(&path, 0o640, group).map_err(|e| say(&e))?;
        Ok(Self {
            path: path.into(),
            connection: Arc::new(Mutex::new(connection)),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs one or more statements.
    pub async fn execute(&self, statements: &str) -> Result<(), String> {
        let statements = statements.to_owned();
        self.with(move |connection| {
            if !connection.is_autocommit() {
                // Inside `shut`: its transaction holds.
                return connection.execute_batch(&statements);
            }
            // One transaction, and so one lock, for all of them.
            let whole = format!("BEGIN IMMEDIATE; {statements}; COMMIT");
            connection.execute_batch(&whole).inspect_err(|_| {
                let _ = connection.execute_batch("ROLLBACK");
            })
        })
        .await
    }

    /// How many rows a SELECT yields.
    pub async fn count(&self, select: &str) -> Result<usize, String> {
        let select = select.to_owned();
        self.with(move |connection| {
            let mut statement = connection.prepare(&select)?;
            let mut rows = statement.query([])?;
            let mut count = 0;
            while rows.next()?.is_some() {
                count += 1;
            }
            Ok(count)
        })
        .await
    }

    /// Nobody else can read it from now on.
    pub async fn shut(&self) -> Result<(), String> {
        self.with(|connection| {
            if connection.is_autocommit() {
                connection.execute_batch("BEGIN EXCLUSIVE")
            } else {
                Ok(())
            }
        })
        .await
    }

    /// Everybody can read it again.
    pub async fn open(&self) -> Result<(), String> {
        self.with(|connection| {
            if connection.is_autocommit() {
                Ok(())
            } else {
                connection.execute_batch("COMMIT")
            }
        })
        .await
    }

    /// Removes the file.
    pub fn remove(self) -> Result<(), String> {
        std::fs::remove_file(&self.path)
            .map_err(|error| format!("{}: {error}", self.path.display()))
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let connection = Arc::clone(&self.connection);
        let done = tokio::task::spawn_blocking(move || work(&lock(&connection))).await;
        match done {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}
