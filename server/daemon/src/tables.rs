//! Lookup tables (postconf(5) "type:table"): one question, three results.
//!
//! *Found*, *absent* and *failed* are `Ok(Some)`, `Ok(None)` and `Err(Failed)`. Failed is always a
//! temporary refusal, never "unknown user". What a table returns is not to be trusted as a path,
//! an address or a number: whoever asks checks it.
//!
//! Promised to every table: keys are folded to lower case; a key with blanks at its ends or control
//! characters anywhere is never asked, because SQL pads and folds where mail does not. Promised to
//! every caller: a value that holds nothing but blanks and commas counts as absent, with a log line.

pub(crate) mod mysql;
pub(crate) mod source;
pub(crate) mod sql;
pub(crate) mod sqlite;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vmaild_protocol::address::folded;

use crate::log;

/// What was asked for a recipient need not be asked again for so long.
const REMEMBERED: Duration = Duration::from_secs(1);
/// Answers that are remembered, at most.
const ANSWERS: usize = 64;

tokio::task_local! {
    static MEMORY: RefCell<HashMap<(u64, Vec<String>), (Instant, Vec<Option<String>>)>>;
}

/// Runs a session, which remembers for `REMEMBERED` what was asked since `forget`: RCPT, the end of the
/// message and its delivery have the same questions. Nothing else remembers anything.
pub async fn remembering<T>(session: impl Future<Output = T>) -> T {
    MEMORY.scope(RefCell::default(), session).await
}

/// A session's next question is a new one: everything is asked anew.
pub fn forget() {
    let _ = MEMORY.try_with(|memory| memory.borrow_mut().clear());
}

/// A lookup that could not be done: the database is down, slow, or refused the question.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{table}: {reason}")]
pub struct Failed {
    /// The table as the configuration names it, `mysql:/etc/postfix/mysql-virtual_domains.cf`.
    pub table: String,
    /// What went wrong, for the log.
    pub reason: String,
}

/// The result of a lookup.
pub type Lookup = Result<Option<String>, Failed>;

/// One table, under the name that the configuration gives it.
pub(crate) struct Table {
    pub(crate) name: String,
    kind: Kind,
    /// Unlike every other table's, those of an earlier configuration too.
    number: u64,
}

pub(crate) enum Kind {
    Mysql(mysql::Table),
    Sqlite(sqlite::Table),
    /// `static:value`: every key has this value.
    Static(String),
    /// `inline:{ k=v, { k = v } }`, or a domain in a list of domains, which is its own value.
    Rows(HashMap<String, String>),
}

/// What is behind it has passwords in it.
impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Table {
    pub(crate) fn new(name: impl Into<String>, kind: Kind) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        Self {
            name: name.into(),
            kind,
            number: MADE.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The values of `keys`, each `None` where it has no row, empty where the row's value is.
    async fn ask(&self, keys: &[String]) -> Result<Vec<Option<String>>, Failed> {
        if let Some(values) = self.remembered(keys) {
            return Ok(values);
        }
        let answer = match &self.kind {
            Kind::Static(value) => return Ok(vec![Some(value.clone()); keys.len()]),
            Kind::Rows(rows) => return Ok(keys.iter().map(|key| rows.get(key).cloned()).collect()),
            Kind::Mysql(table) => table.ask(keys).await,
            Kind::Sqlite(table) => table.ask(keys).await,
        };
        if let Ok(values) = &answer {
            self.remember(keys, values);
        }
        answer
            .map_err(|reason| Failed {
                table: self.name.clone(),
                reason,
            })
            .inspect_err(|failed| log!("smtpd", "warning: {failed}"))
    }

    fn remembered(&self, keys: &[String]) -> Option<Vec<Option<String>>> {
        let values = MEMORY.try_with(|memory| {
            let memory = memory.borrow();
            let (when, values) = memory.get(&(self.number, keys.to_vec()))?;
            (when.elapsed() < REMEMBERED).then(|| values.clone())
        });
        values.ok().flatten()
    }

    fn remember(&self, keys: &[String], values: &[Option<String>]) {
        let _ = MEMORY.try_with(|memory| {
            let mut memory = memory.borrow_mut();
            if memory.len() < ANSWERS {
                let answer = (Instant::now(), values.to_vec());
                memory.insert((self.number, keys.to_vec()), answer);
            }
        });
    }
}

/// The tables of one parameter, asked in their order; the first that knows the key answers.
///
/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Maps(Arc<[Arc<Table>]>);

impl Maps {
    pub(crate) fn new(tables: Vec<Arc<Table>>) -> Self {
        Self(tables.into())
    }

    /// No table is configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one value of `static:value`, where that is all there is.
    pub fn fixed(&self) -> Option<&str> {
        let [table] = self.0.as_ref() else {
            return None;
        };
        match &table.kind {
            Kind::Static(value) => Some(value),
            _ => None,
        }
    }

    /// Looks `key` up as it is (lower case, no extension handling).
    pub async fn get(&self, key: &str) -> Lookup {
        Ok(self.first(&[key.to_owned()]).await?.map(|(_, value)| value))
    }

    /// Looks an address up: `user+ext@domain`, `user@domain`, `@domain` (virtual(5), virtual(8)).
    pub async fn find(&self, local: &str, domain: &str, delimiter: Option<char>) -> Lookup {
        let keys = address_keys(local, domain, delimiter);
        Ok(self.first(&keys).await?.map(|(_, value)| value))
    }

    /// As `find`, but a row whose value is NULL or empty is found, as `""` (quota: unlimited).
    pub async fn find_even_empty(
        &self,
        local: &str,
        domain: &str,
        delimiter: Option<char>,
    ) -> Lookup {
        let keys = address_keys(local, domain, delimiter);
        Ok(self.search(&keys, true).await?.map(|(_, value)| value))
    }

    /// The first of `keys` that any table knows, and its value; of several tables that know it, the
    /// first. (So a catch-all in the first table does not hide a mailbox in the second.) One round
    /// trip a table, however many keys.
    pub async fn first<'a>(&self, keys: &'a [String]) -> Result<Option<(&'a str, String)>, Failed> {
        self.search(keys, false).await
    }

    async fn search<'a>(
        &self,
        keys: &'a [String],
        even_empty: bool,
    ) -> Result<Option<(&'a str, String)>, Failed> {
        let keys = keys
            .iter()
            .filter_map(|key| Some((key.as_str(), fold(key)?)));
        let (names, mut keys): (Vec<&str>, Vec<String>) = keys.unzip();
        let mut best = None;
        for table in self.0.iter() {
            if keys.is_empty() {
                break;
            }
            let values = table.ask(&keys).await?;
            let found = values.into_iter().enumerate().find_map(|(at, value)| {
                let value = value?;
                let holds = value.contains(|c: char| c != ',' && !c.is_whitespace());
                let counts = holds || even_empty && value.is_empty();
                if !counts {
                    let (table, key) = (&table.name, &keys[at]);
                    let why = "has no value, and counts as absent";
                    log!("smtpd", "warning: {table}: row of {key} {why}");
                }
                counts.then_some((at, value))
            });
            if let Some((at, value)) = found {
                best = Some((names[at], value));
                // Tables that follow can only win with a key that goes before this one.
                keys.truncate(at);
            }
        }
        Ok(best)
    }
}

/// `user+ext@domain`, `user@domain`, `@domain`; only names where `domain` is empty.
pub fn address_keys(local: &str, domain: &str, delimiter: Option<char>) -> Vec<String> {
    let at = if domain.is_empty() {
        String::new()
    } else {
        format!("@{domain}")
    };
    let mut keys = vec![format!("{local}{at}")];
    if let Some((user, _)) = split_extension(local, delimiter) {
        keys.push(format!("{user}{at}"));
    }
    if !domain.is_empty() {
        keys.push(at);
    }
    keys
}

/// `user` and `ext` of `user+ext` (postconf(5) recipient_delimiter). postmaster and mailer-daemon
/// are never cut, and a name that begins with the delimiter has no user before it.
pub fn split_extension(local: &str, delimiter: Option<char>) -> Option<(&str, &str)> {
    let (user, extension) = local.split_once(delimiter?)?;
    let whole = ["postmaster", "mailer-daemon", "double-bounce"];
    let cut = !user.is_empty() && !whole.iter().any(|name| local.eq_ignore_ascii_case(name));
    cut.then_some((user, extension))
}

/// The key as tables are asked, or `None` where no row can be meant.
fn fold(key: &str) -> Option<String> {
    let sound = !key.is_empty() && key.trim() == key && !key.contains(char::is_control);
    sound.then(|| folded(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("user+tag", "d", None, &["user+tag@d", "@d"])]
    #[case("user+a+b", "d", Some('+'), &["user+a+b@d", "user@d", "@d"])]
    #[case("+tag", "d", Some('+'), &["+tag@d", "@d"])]
    #[case("user+tag", "", Some('+'), &["user+tag", "user"])]
    fn an_address_is_asked_by_these_keys(
        #[case] local: &str,
        #[case] domain: &str,
        #[case] delimiter: Option<char>,
        #[case] keys: &[&str],
    ) {
        assert_eq!(address_keys(local, domain, delimiter), keys);
    }

    #[rstest]
    #[case("A@B", Some("a@b"))]
    #[case("\u{c9}@b", Some("\u{e9}@b"))]
    #[case::the_sign_for_kelvin_is_no_k("\u{212a}ate@b", Some("\u{212a}ate@b"))]
    #[case("a@b ", None)]
    #[case(" a@b", None)]
    #[case("a\u{0}@b", None)]
    #[case("", None)]
    fn a_key_is_folded_or_never_asked(#[case] key: &str, #[case] asked: Option<&str>) {
        assert_eq!(fold(key).as_deref(), asked);
    }

    #[tokio::test]
    async fn a_value_of_blanks_and_commas_is_no_row() {
        let rows = [("a@d", " ,, "), ("@d", "z@d"), ("q@d", "")];
        let rows = rows.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let maps = Maps::new(vec![Arc::new(Table::new("t", Kind::Rows(rows.into())))]);
        let found = maps.find("a", "d", None).await.unwrap();
        assert_eq!(found.as_deref(), Some("z@d"));
        assert_eq!(maps.get("a@d").await.unwrap(), None);
        let found = maps.find_even_empty("q", "d", None).await.unwrap();
        assert_eq!(found.as_deref(), Some(""));
    }
}
