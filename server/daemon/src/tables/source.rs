//! `type:name` in main.cf to a table: reads the table files, shares database connections.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::fixed;
use super::mysql::{self, Login, Servers};
use super::sql::Statement;
use super::sqlite;
use super::{Kind, Table};
use crate::config::main_cf::{Settings, words};
use crate::config::mistake::{Mistake, Place};

/// The table types, for the manual: what is not here is a mistake.
pub(crate) const TYPES: [(&str, &str); 5] = [
    (
        "mysql",
        "A query of a MySQL or MariaDB database, described by a file: `mysql:/etc/postfix/x.cf`.",
    ),
    (
        "sqlite",
        "A query of a SQLite database, described by a file (the database that needs no server).",
    ),
    ("static", "One value for every key: `static:5000`."),
    (
        "inline",
        "Rows in main.cf itself: `inline:{ key=value, { key = value with blanks } }`.",
    ),
    (
        "proxy",
        "In front of one of the others; it changes nothing, for connections are always shared.",
    ),
];
/// Keys of a table file that both database types know, with what they mean.
pub(crate) const QUERY_KEYS: [(&str, &str); 7] = [
    (
        "query",
        "The query; `%s` is the key, `%u` and `%d` its user and domain, `%%` a percent sign. They are bound as values, never pasted into the text.",
    ),
    ("table", "Without query: the table,"),
    (
        "select_field",
        "the column or expression that is the value,",
    ),
    ("where_field", "the column that is the key,"),
    (
        "additional_conditions",
        "and what follows in the WHERE clause: `AND enabled = 1`.",
    ),
    ("result_format", "Only `%s`."),
    (
        "expansion_limit",
        "Taken and not used: all rows of a key count.",
    ),
];
pub(crate) const MYSQL_KEYS: [(&str, &str); 4] = [
    (
        "hosts",
        "Servers that are tried in turn: `host`, `host:port`, `unix:/path`; localhost if it is missing.",
    ),
    ("user", "Who logs in."),
    ("password", "The user's password."),
    ("dbname", "The database."),
];
pub(crate) const SQLITE_KEYS: [(&str, &str); 1] = [("dbpath", "The database file.")];
/// Keys that change what is found, so that they must not be passed over.
const UNSUPPORTED_KEYS: [&str; 4] = [
    "domain",
    "select_function",
    "option_file",
    "tls_verify_cert",
];

/// The tables opened so far. Tables with one login share their connections; a table named twice is
/// one table.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// Relative names are relative to this.
    pub(crate) folder: PathBuf,
    /// How long a lookup may take.
    pub(crate) time_limit: Duration,
    open: HashMap<String, Arc<Table>>,
    servers: HashMap<Login, Arc<Servers>>,
    files: HashMap<PathBuf, Arc<sqlite::File>>,
}

impl Tables {
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            time_limit: Duration::from_secs(3),
            ..Self::default()
        }
    }

    /// The table called `spec` (`proxy:mysql:/etc/postfix/x.cf`). A mistake in its file is added to
    /// `mistakes`; one in `spec` itself is the error.
    pub(crate) fn open(
        &mut self,
        spec: &str,
        mistakes: &mut Vec<Mistake>,
    ) -> Result<Option<Arc<Table>>, String> {
        // proxymap(8) shares connections; here they always are.
        let spec = spec.strip_prefix("proxy:").unwrap_or(spec);
        if let Some(table) = self.open.get(spec) {
            return Ok(Some(Arc::clone(table)));
        }
        let expected = format!(
            "expected {}",
            TYPES.map(|(name, _)| format!("{name}:")).join(", ")
        );
        let (kind, name) = spec
            .split_once(':')
            .ok_or_else(|| format!("{spec:?} is no type:table, {expected}"))?;
        let kind = match kind {
            "static" => Some(Kind::Fixed(fixed::Table::Static(
                name.trim_matches(['{', '}']).trim().to_owned(),
            ))),
            "inline" => Some(Kind::Fixed(fixed::Table::parse_inline(name)?)),
            "mysql" | "sqlite" => {
                let file = self.folder.join(name);
                if !file.is_file() {
                    return Err(format!(
                        "{} is not there, expected a table file",
                        file.display()
                    ));
                }
                let before = mistakes.len();
                let settings = Settings::read(&file, mistakes);
                let table = if kind == "mysql" {
                    self.mysql(&file, &settings, mistakes).map(Kind::Mysql)
                } else {
                    self.sqlite(&file, &settings, mistakes).map(Kind::Sqlite)
                };
                table.filter(|_| mistakes.len() == before)
            }
            other => {
                return Err(format!(
                    "unknown table type {other:?} in {spec:?}, {expected}"
                ));
            }
        };
        Ok(kind.map(|kind| {
            let table = Arc::new(Table::new(spec, kind));
            self.open.insert(spec.to_owned(), Arc::clone(&table));
            table
        }))
    }

    fn mysql(
        &mut self,
        file: &Path,
        settings: &Settings,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<mysql::Table> {
        check_keys(settings, &MYSQL_KEYS, mistakes);
        let text = |name: &str| settings.get(name).map(|setting| setting.text.clone());
        let login = Login {
            hosts: text("hosts").unwrap_or_else(|| "localhost".to_owned()),
            user: text("user").unwrap_or_default(),
            password: text("password").unwrap_or_default(),
            database: text("dbname").unwrap_or_default(),
        };
        if login.database.is_empty() {
            mistakes.push(Mistake::new(
                &Place::file(file),
                "dbname is missing, expected the database's name",
            ));
        }
        let query = query(file, settings, mistakes);
        let place = settings
            .get("hosts")
            .map_or_else(|| Place::file(file), |hosts| hosts.place.clone());
        let servers = self
            .servers(login)
            .map_err(|text| mistakes.push(Mistake::new(&place, text)));
        let (query, exact) = query?;
        Some(mysql::Table::new(servers.ok()?, query, exact))
    }

    /// The connections of `login`.
    pub(crate) fn servers(&mut self, login: Login) -> Result<Arc<Servers>, String> {
        if let Some(servers) = self.servers.get(&login) {
            return Ok(Arc::clone(servers));
        }
        let servers = Arc::new(Servers::new(&login, self.time_limit)?);
        self.servers.insert(login, Arc::clone(&servers));
        Ok(servers)
    }

    fn sqlite(
        &mut self,
        file: &Path,
        settings: &Settings,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<sqlite::Table> {
        check_keys(settings, &SQLITE_KEYS, mistakes);
        let Some(path) = settings.get("dbpath") else {
            mistakes.push(Mistake::new(
                &Place::file(file),
                "dbpath is missing, expected the database file",
            ));
            return None;
        };
        let path = self.folder.join(&path.text);
        let (query, _) = query(file, settings, mistakes)?;
        Some(sqlite::Table::new(self.file(&path), query))
    }

    /// The connections to the SQLite database `path`.
    pub(crate) fn file(&mut self, path: &Path) -> Arc<sqlite::File> {
        let limit = self.time_limit;
        let file = self.files.entry(path.to_owned());
        Arc::clone(file.or_insert_with(|| Arc::new(sqlite::File::new(path, limit))))
    }
}

fn check_keys(settings: &Settings, own: &[(&str, &str)], mistakes: &mut Vec<Mistake>) {
    let known: Vec<&str> = own
        .iter()
        .chain(&QUERY_KEYS)
        .map(|(name, _)| *name)
        .collect();
    for (name, setting) in settings.sorted() {
        if UNSUPPORTED_KEYS.contains(&name) {
            mistakes.push(Mistake::new(
                &setting.place,
                format!("{name} is not supported, expected it to be absent"),
            ));
        } else if name == "result_format" && setting.text != "%s" {
            mistakes.push(Mistake::new(
                &setting.place,
                format!("result_format = {}, expected %s", setting.text),
            ));
        } else if !known.contains(&name) {
            let expected = known.join(", ");
            mistakes.push(Mistake::new(
                &setting.place,
                format!("unknown key {name}, expected {expected}"),
            ));
        }
    }
}

/// The statement of a table file, and the one for keys that must match byte for byte (MySQL).
fn query(
    file: &Path,
    settings: &Settings,
    mistakes: &mut Vec<Mistake>,
) -> Option<(Statement, Option<Statement>)> {
    let text = |name: &str| {
        settings
            .get(name)
            .map_or("", |setting| setting.text.as_str())
    };
    let place = |name: &str| {
        settings
            .get(name)
            .map_or_else(|| Place::file(file), |setting| setting.place.clone())
    };
    let mut compile = |query: &str, at: &str| {
        Statement::compile(query)
            .map_err(|text| mistakes.push(Mistake::new(&place(at), text)))
            .ok()
    };
    if !text("query").is_empty() {
        return Some((compile(text("query"), "query")?, None));
    }
    let missing: Vec<_> = ["table", "select_field", "where_field"]
        .into_iter()
        .filter(|name| text(name).is_empty())
        .collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        mistakes.push(Mistake::new(
            &Place::file(file),
            format!("{missing} missing, expected query, or table, select_field and where_field"),
        ));
        return None;
    }
    let [table, select, field, more] = [
        "table",
        "select_field",
        "where_field",
        "additional_conditions",
    ]
    .map(text);
    // One that ends there has ended; in a list of several it would end them all.
    let more = more.trim_end_matches([';', ' ']);
    let query = format!("SELECT {select} FROM {table} WHERE {field} = '%s' {more}");
    let exact = format!(
        "SELECT {select} FROM {table} WHERE {field} = '%s' \
         AND CAST(CONVERT({field} USING utf8mb4) AS BINARY) = '%s' {more}"
    );
    Some((
        compile(query.trim_end(), "select_field")?,
        compile(exact.trim_end(), "select_field"),
    ))
}

/// All tables of a list (`transport_maps = proxy:mysql:..., static:...`). Bare names are taken as
/// domains where `names` allows them.
pub(crate) fn open_list(
    text: &str,
    names: bool,
    tables: &mut Tables,
    mistakes: &mut Vec<Mistake>,
) -> Result<Vec<Arc<Table>>, String> {
    let mut open = Vec::new();
    for word in words(text) {
        let bare = !word.contains(':') && !word.starts_with(['/', '!']);
        if names && bare {
            let name = word.to_lowercase();
            let kind = Kind::Fixed(fixed::Table::Name(name.clone()));
            open.push(Arc::new(Table::new(name, kind)));
        } else if names && word.starts_with(['/', '!']) {
            return Err(format!(
                "{word:?} is not supported, expected domains or type:table"
            ));
        } else {
            open.extend(tables.open(word, mistakes)?);
        }
    }
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn additional_conditions_are_bound_to_the_key_as_the_query_is() {
        let folder = tempfile::tempdir().unwrap();
        let database = rusqlite::Connection::open(folder.path().join("mail.db")).unwrap();
        let rows = "CREATE TABLE users (name TEXT, domain TEXT, box TEXT);
                    INSERT INTO users VALUES ('u@a', 'a', 'right'), ('u@a', 'b', 'wrong'), ('u', '', 'bare');";
        database.execute_batch(rows).unwrap();
        let file = "dbpath = mail.db\ntable = users\nselect_field = box\nwhere_field = name\n\
                    additional_conditions = AND domain = '%d'\n";
        std::fs::write(folder.path().join("users.cf"), file).unwrap();
        let mut mistakes = Vec::new();
        let table = Tables::new(folder.path()).open("sqlite:users.cf", &mut mistakes);
        let table = table.unwrap().unwrap();
        let keys = ["u@a", "u@b", "u"].map(str::to_owned);
        // A key without a domain is not asked: the query wants one.
        let found = [Some("right".to_owned()), None, None];
        assert_eq!(table.ask(&keys).await.unwrap(), found);
    }
}
