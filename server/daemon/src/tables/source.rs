//! `type:name` in main.cf to a table: reads the table files, shares database connections.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::mysql::{self, Login, Servers};
use super::sql::Statement;
use super::{Kind, Table, sqlite};
use crate::config::main_cf::{Settings, bracketed, words};
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
#[derive(Default)]
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
            "static" => {
                let value = name.trim_matches(['{', '}']).trim();
                Some(Kind::Static(value.to_owned()))
            }
            "inline" => Some(Kind::Rows(inline(name)?)),
            "mysql" | "sqlite" => {
                let path = self.folder.join(name);
                if !path.is_file() {
                    return Err(format!(
                        "{} is not there, expected a table file",
                        path.display()
                    ));
                }
                let before = mistakes.len();
                let settings = Settings::read(&path, mistakes);
                let mut file = TableFile {
                    path,
                    settings,
                    mistakes,
                };
                let table = if kind == "mysql" {
                    self.mysql(&mut file)
                } else {
                    self.sqlite(&mut file)
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

    fn mysql(&mut self, file: &mut TableFile<'_>) -> Option<Kind> {
        file.check_keys(&MYSQL_KEYS);
        let text = |name: &str| file.get(name).unwrap_or_default().to_owned();
        let login = Login {
            hosts: file.get("hosts").unwrap_or("localhost").to_owned(),
            user: text("user"),
            password: text("password"),
            database: text("dbname"),
        };
        if login.database.is_empty() {
            file.mistake("dbname", "dbname is missing, expected the database's name");
        }
        let query = file.query();
        let servers = self
            .servers(login)
            .map_err(|text| file.mistake("hosts", text));
        let (query, exact) = query?;
        Some(Kind::Mysql(mysql::Table::new(servers.ok()?, query, exact)))
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

    fn sqlite(&mut self, file: &mut TableFile<'_>) -> Option<Kind> {
        file.check_keys(&SQLITE_KEYS);
        let path = file.get("dbpath").map(|path| self.folder.join(path));
        if path.is_none() {
            file.mistake("dbpath", "dbpath is missing, expected the database file");
        }
        let (query, _) = file.query()?;
        Some(Kind::Sqlite(sqlite::Table::new(self.file(&path?), query)))
    }

    /// The connections to the SQLite database `path`.
    pub(crate) fn file(&mut self, path: &Path) -> Arc<sqlite::File> {
        let limit = self.time_limit;
        let file = self.files.entry(path.to_owned());
        Arc::clone(file.or_insert_with(|| Arc::new(sqlite::File::new(path, limit))))
    }
}

/// A table file (mysql_table(5), sqlite_table(5)).
struct TableFile<'a> {
    path: PathBuf,
    settings: Settings,
    mistakes: &'a mut Vec<Mistake>,
}

impl TableFile<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(|setting| setting.text.as_str())
    }

    /// A mistake where `key` is set, or in the file as a whole where it is not.
    fn mistake(&mut self, key: &str, text: impl Into<String>) {
        let set = self.settings.get(key).map(|setting| setting.place.clone());
        let place = set.unwrap_or_else(|| Place::file(&self.path));
        self.mistakes.push(Mistake::new(&place, text));
    }

    fn check_keys(&mut self, own: &[(&str, &str)]) {
        let known = own.iter().chain(&QUERY_KEYS).map(|(name, _)| *name);
        let known: Vec<&str> = known.collect();
        for (name, setting) in self.settings.sorted() {
            let text = if UNSUPPORTED_KEYS.contains(&name) {
                format!("{name} is not supported, expected it to be absent")
            } else if name == "result_format" && setting.text != "%s" {
                format!("result_format = {}, expected %s", setting.text)
            } else if !known.contains(&name) {
                format!("unknown key {name}, expected {}", known.join(", "))
            } else {
                continue;
            };
            self.mistakes.push(Mistake::new(&setting.place, text));
        }
    }

    fn compile(&mut self, query: &str, key: &str) -> Option<Statement> {
        Statement::compile(query.trim_end())
            .map_err(|text| self.mistake(key, text))
            .ok()
    }

    /// The statement, and the one for keys that must match byte for byte (MySQL).
    fn query(&mut self) -> Option<(Statement, Option<Statement>)> {
        let text = |key: &str| self.get(key).unwrap_or_default().to_owned();
        let query = text("query");
        if !query.is_empty() {
            return Some((self.compile(&query, "query")?, None));
        }
        let needed = ["table", "select_field", "where_field"];
        let [table, select, field] = needed.map(text);
        // One that ends there has ended; in a list of several it would end them all.
        let more = text("additional_conditions");
        let more = more.trim_end_matches([';', ' ']);
        let missing: Vec<_> = needed
            .into_iter()
            .filter(|key| text(key).is_empty())
            .collect();
        if !missing.is_empty() {
            let expected = "expected query, or table, select_field and where_field";
            self.mistake("", format!("{} missing, {expected}", missing.join(", ")));
            return None;
        }
        let query = format!("SELECT {select} FROM {table} WHERE {field} = '%s'");
        let exact = format!("{query} AND CAST(CONVERT({field} USING utf8mb4) AS BINARY) = '%s'");
        let query = self.compile(&format!("{query} {more}"), "select_field")?;
        let exact = self.compile(&format!("{exact} {more}"), "select_field");
        Some((query, exact))
    }
}

/// The rows that follow `inline:`.
fn inline(text: &str) -> Result<HashMap<String, String>, String> {
    let expected = "expected inline:{ key=value, { key = value with blanks } }";
    let text = text.trim();
    if !text.starts_with('{') {
        return Err(expected.to_owned());
    }
    let (inside, behind) = bracketed(text, '{')?;
    if !behind.is_empty() {
        return Err(expected.to_owned());
    }
    let row = |word: &str| {
        let braced = word.strip_prefix('{').and_then(|row| row.strip_suffix('}'));
        let row = braced.unwrap_or(word).split_once('=');
        let (key, value) = row.ok_or_else(|| format!("{word:?}, {expected}"))?;
        Ok((key.trim().to_lowercase(), value.trim().to_owned()))
    };
    words(inside).into_iter().map(row).collect()
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
        if names && word.starts_with(['/', '!']) {
            return Err(format!(
                "{word:?} is not supported, expected domains or type:table"
            ));
        }
        if names && !word.contains(':') {
            let name = word.to_lowercase();
            let row = HashMap::from([(name.clone(), name.clone())]);
            open.push(Arc::new(Table::new(name, Kind::Rows(row))));
        } else {
            open.extend(tables.open(word, mistakes)?);
        }
    }
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_rows_may_hold_blanks_when_braced() {
        let error = inline("{ a@b = x").unwrap_err();
        assert!(error.contains("lacks its closing }"), "{error}");
        let rows = [("a", "1"), ("b", "smtp:[h]:25, x"), ("c", "3")];
        let rows = rows.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let read = inline("{A=1, {b = smtp:[h]:25, x} c=3}");
        assert_eq!(read, Ok(HashMap::from(rows)));
    }

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
