//! `mysql:` tables (mysql_table(5)). The only module that names mysql_async.
//!
//! It promises: a lookup takes no longer than its time limit, whatever the database does; a
//! connection that broke or hung is never used again, so that lookups go on as soon as the database
//! is back; no address becomes part of a query's text. Connections are made when first needed and
//! shared by all tables with one login. Statements are prepared once a connection.
//!
//! What is asked while all connections are busy waits, and then goes together: one statement for
//! many questions to a table. Each is sent after it was asked, so nothing old is ever answered.

use std::collections::HashSet;
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indexmap::IndexMap;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Opts, OptsBuilder, Row, Value};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::sql::{Statement, add_row};
use crate::config::main_cf::words;

/// Connections one login may have open. More than the database's cores only queue up there, and
/// what waits here goes together.
const CONNECTIONS: usize = 4;
/// Keys that one statement asks for, at most; a power of two.
const KEYS_AT_ONCE: usize = 64;
/// Where `localhost` is reached first, as MySQL's own library does.
const LOCAL_SOCKET: &str = "/run/mysqld/mysqld.sock";
/// The key holds a character that the column's character set has not: there is no such row.
const ILLEGAL_MIX_OF_COLLATIONS: u16 = 1267;
const IMPOSSIBLE_CONVERSION: u16 = 3988;

/// Who logs in where.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Login {
    pub(crate) hosts: String,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: String,
}

/// The servers of one login, the connections to them, and what waits for these.
pub(crate) struct Servers {
    hosts: Vec<Opts>,
    /// The host that answered last: tried first.
    good: AtomicUsize,
    state: Mutex<State>,
    time_limit: Duration,
}

#[derive(Default)]
struct State {
    idle: Vec<Conn>,
    /// How many connections are busy, or about to be made.
    busy: usize,
    /// Questions that no connection has taken yet.
    waiting: Vec<Question>,
}

/// Keys of one table that somebody wants the values of.
struct Question {
    table: Table,
    keys: Vec<String>,
    deadline: Instant,
    answer: oneshot::Sender<Answer>,
}

/// The values of keys, in their order.
type Answer = Result<Vec<Option<String>>, String>;

/// One table file.
#[derive(Clone)]
pub(crate) struct Table {
    servers: Arc<Servers>,
    query: Arc<Statement>,
    /// For keys outside ASCII: what a collation folds must not match (`ádmin@` is not `admin@`).
    exact: Option<Arc<Statement>>,
    /// Whether several keys may be asked for at once: the four keys of old make a query before whose
    /// columns a number can stand; but not before DISTINCT and *.
    joins: bool,
}

impl Table {
    pub(crate) fn new(servers: Arc<Servers>, query: Statement, exact: Option<Statement>) -> Self {
        let words = query.sql("?").to_ascii_uppercase();
        let alone = |word: &str| word.starts_with("DISTINCT") || word.starts_with('*');
        let alone = words.split_whitespace().nth(1).is_some_and(alone);
        Self {
            servers,
            query: Arc::new(query),
            joins: exact.is_some() && !alone,
            exact: exact.map(Arc::new),
        }
    }

    /// The values of `keys`, several rows of one joined by commas.
    pub(crate) async fn ask(&self, keys: &[String]) -> Answer {
        let deadline = Instant::now() + self.servers.time_limit;
        let (answer, heard) = oneshot::channel();
        self.servers.ask(Question {
            table: self.clone(),
            keys: keys.to_vec(),
            deadline,
            answer,
        });
        match timeout_at(deadline, heard).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err("the lookup ended early".to_owned())),
            Err(_) => Err(self.servers.too_slow()),
        }
    }

    /// Whether these keys are asked for at once.
    fn joins(&self, keys: &[String]) -> bool {
        let simple = |key: &String| key.is_ascii() && self.query.values(key).is_some();
        self.joins && keys.iter().all(simple)
    }

    /// Fills in the values of keys; those that `joins` says no to come alone.
    async fn fill(
        &self,
        values: &mut IndexMap<String, Option<String>>,
        deadline: Instant,
    ) -> Result<(), String> {
        let keys: Vec<String> = values.keys().cloned().collect();
        if keys.len() > 1 && self.joins(&keys) {
            // A power of two, so that there are few statements to prepare: the last key fills up.
            let count = keys.len().next_power_of_two();
            let fill = keys.last().into_iter().cycle();
            let keys = keys.iter().chain(fill).take(count);
            let bound = keys.flat_map(|key| self.query.values(key).unwrap_or_default());
            let one = self.query.sql("?");
            let select = |at| one.replacen("SELECT ", &format!("SELECT '{at}', "), 1);
            let selects: Vec<_> = (0..count).map(|at| format!("({}\n)", select(at))).collect();
            let sql = selects.join(" UNION ALL ");
            for row in self.servers.query(&sql, bound.collect(), deadline).await? {
                let mut columns = row.into_iter();
                let at = columns.next().flatten().and_then(|at| at.parse().ok());
                if let Some((_, value)) = at.and_then(|at| values.get_index_mut(at)) {
                    add_row(value, columns);
                }
            }
            return Ok(());
        }
        for (key, value) in values {
            let (statement, placeholder) = match &self.exact {
                _ if key.is_ascii() => (&self.query, "?"),
                Some(exact) => (exact, "?"),
                None => (&self.query, "CAST(? AS BINARY)"),
            };
            let Some(bound) = statement.values(key) else {
                continue;
            };
            let sql = statement.sql(placeholder);
            for row in self.servers.query(&sql, bound, deadline).await? {
                add_row(value, row);
            }
        }
        Ok(())
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::Bytes(octets) => Some(String::from_utf8_lossy(&octets).into_owned()),
        Value::Int(number) => Some(number.to_string()),
        Value::UInt(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Double(number) => Some(number.to_string()),
        Value::NULL | Value::Date(..) | Value::Time(..) => None,
    }
}

impl Servers {
    /// Understands `hosts`; connects to none of them yet.
    pub(crate) fn new(login: &Login, time_limit: Duration) -> Result<Self, String> {
        let base = OptsBuilder::default()
            .user(Some(&login.user))
            .pass(Some(&login.password))
            .db_name(Some(&login.database))
            // Else it would leave the server that was named for a socket of that path here.
            .prefer_socket(false)
            // Saves a round trip in which the server would be asked for both.
            .max_allowed_packet(Some(16 << 20))
            .wait_timeout(Some(28_800))
            // Six tables, each by one key and by powers of two.
            .stmt_cache_size(Some(128));
        let mut hosts: Vec<Opts> = Vec::new();
        for host in words(&login.hosts) {
            if let Some(path) = host.strip_prefix("unix:") {
                hosts.push(base.clone().socket(Some(path)).into());
                continue;
            }
            let (name, port) = host_and_port(host.strip_prefix("inet:").unwrap_or(host))?;
            if name == "localhost" && Path::new(LOCAL_SOCKET).exists() {
                hosts.push(base.clone().socket(Some(LOCAL_SOCKET)).into());
            }
            hosts.push(base.clone().ip_or_hostname(name).tcp_port(port).into());
        }
        if hosts.is_empty() {
            return Err(
                "hosts is empty, expected host, host:port, inet:host:port or unix:/path".to_owned(),
            );
        }
        Ok(Self {
            hosts,
            good: AtomicUsize::new(0),
            state: Mutex::default(),
            time_limit,
        })
    }

    /// Takes a question; it is sent as soon as a connection is free.
    fn ask(self: &Arc<Self>, question: Question) {
        let mut state = self.state();
        state.waiting.push(question);
        if state.busy < CONNECTIONS {
            state.busy += 1;
            tokio::spawn(Arc::clone(self).work());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn too_slow(&self) -> String {
        format!("no answer within {:?}", self.time_limit)
    }

    /// Answers what waits, until nothing does.
    async fn work(self: Arc<Self>) {
        while let Some(mut questions) = self.next() {
            questions.retain(|question| !question.answer.is_closed());
            let deadline = questions.iter().map(|question| question.deadline).max();
            let Some((first, deadline)) = questions.first().zip(deadline) else {
                continue;
            };
            // Each key once, however many want it.
            let keys = questions.iter().flat_map(|question| &question.keys);
            let mut values = keys.map(|key| (key.clone(), None)).collect();
            let done = first.table.fill(&mut values, deadline).await;
            for question in questions {
                let value = |key| values.get(key).cloned().flatten();
                let own = || question.keys.iter().map(value).collect();
                // An error: nobody waits any more.
                let _ = question.answer.send(done.clone().map(|()| own()));
            }
        }
    }

    /// The oldest question, with those that can go with it; `None`: one connection less is busy.
    fn next(&self) -> Option<Vec<Question>> {
        let mut state = self.state();
        if state.waiting.is_empty() {
            state.busy -= 1;
            return None;
        }
        let mut together = vec![state.waiting.remove(0)];
        let table = together[0].table.clone();
        if table.joins(&together[0].keys) {
            let mut keys: HashSet<String> = together[0].keys.iter().cloned().collect();
            let others = state.waiting.extract_if(.., |question| {
                let new = question.keys.iter().filter(|key| !keys.contains(*key));
                let goes = Arc::ptr_eq(&question.table.query, &table.query)
                    && keys.len() + new.count() <= KEYS_AT_ONCE
                    && table.joins(&question.keys);
                if goes {
                    keys.extend(question.keys.iter().cloned());
                }
                goes
            });
            together.extend(others);
        }
        Some(together)
    }

    /// The rows of a statement: none where the key cannot be in the column at all.
    async fn query(
        &self,
        sql: &str,
        bound: Vec<String>,
        deadline: Instant,
    ) -> Result<Vec<Vec<Option<String>>>, String> {
        let outside_ascii = !bound.iter().all(|value| value.is_ascii());
        let bound: Vec<Value> = bound.into_iter().map(Value::from).collect();
        loop {
            let idle = self.state().idle.pop();
            let reused = idle.is_some();
            let mut conn = match idle {
                Some(conn) => conn,
                None => self.connect(deadline).await?,
            };
            match timeout_at(deadline, conn.exec::<Row, _, _>(sql, bound.clone())).await {
                Ok(Ok(rows)) => {
                    self.state().idle.push(conn);
                    let columns = |row: Row| row.unwrap().into_iter().map(text).collect();
                    return Ok(rows.into_iter().map(columns).collect());
                }
                Ok(Err(Error::Server(error))) => {
                    self.state().idle.push(conn);
                    let unknown =
                        [ILLEGAL_MIX_OF_COLLATIONS, IMPOSSIBLE_CONVERSION].contains(&error.code);
                    if unknown && outside_ascii {
                        return Ok(Vec::new());
                    }
                    return Err(error.to_string());
                }
                // The server went away while the connection lay idle: ask again on a fresh one.
                Ok(Err(_)) if reused => self.forget(),
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => {
                    // Whatever else is connected hangs as well.
                    self.forget();
                    return Err(self.too_slow());
                }
            }
        }
    }

    fn forget(&self) {
        self.state().idle.clear();
    }

    async fn connect(&self, deadline: Instant) -> Result<Conn, String> {
        let first = self.good.load(Ordering::Relaxed);
        let mut reasons = Vec::new();
        let hosts = self.hosts.iter().enumerate().cycle().skip(first);
        for (left, (at, host)) in (1..=self.hosts.len()).rev().zip(hosts) {
            // A host that hangs leaves time for those after it.
            let now = Instant::now();
            let share = (deadline - now) / left as u32;
            let reason = match timeout_at(now + share, Conn::new(host.clone())).await {
                Ok(Ok(conn)) => {
                    self.good.store(at, Ordering::Relaxed);
                    return Ok(conn);
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {share:?}"),
            };
            reasons.push(format!("{}: {reason}", name_of(host)));
        }
        Err(format!("cannot connect: {}", reasons.join("; ")))
    }
}

fn name_of(host: &Opts) -> String {
    match host.socket() {
        Some(path) => format!("unix:{path}"),
        None => format!("{}:{}", host.ip_or_hostname(), host.tcp_port()),
    }
}

fn host_and_port(text: &str) -> Result<(&str, u16), String> {
    let usual = "3306";
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, behind)) => (host, behind.strip_prefix(':').unwrap_or(usual)),
        None => text.split_once(':').unwrap_or((text, usual)),
    };
    let number: NonZeroU16 = port
        .parse()
        .map_err(|_| format!("hosts: port {port:?} of {text:?}, expected 1 to 65535"))?;
    if host.is_empty() {
        return Err(format!("hosts: {text:?} has no host"));
    }
    Ok((host, number.get()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn servers(hosts: &str) -> Result<Arc<Servers>, String> {
        let login = Login {
            hosts: hosts.into(),
            user: "u".into(),
            password: "p".into(),
            database: "d".into(),
        };
        Servers::new(&login, Duration::from_secs(1)).map(Arc::new)
    }

    #[rstest]
    #[case("db", Some("db:3306"))]
    #[case("db:3307 unix:/run/x.sock", Some("db:3307 unix:/run/x.sock"))]
    #[case("inet:10.0.0.1:3306, [::1]:33", Some("10.0.0.1:3306 ::1:33"))]
    #[case("", None)]
    #[case("db:0", None)]
    #[case("db:mysql", None)]
    #[case(":3306", None)]
    fn hosts_are_written_as_in_mysql_table(#[case] hosts: &str, #[case] expected: Option<&str>) {
        let servers = servers(hosts).ok();
        let names = servers.map(|servers| servers.hosts.iter().map(name_of).collect::<Vec<_>>());
        assert_eq!(names.map(|names| names.join(" ")).as_deref(), expected);
    }

    fn table(servers: &Arc<Servers>, query: &str) -> Table {
        let statement = || Statement::compile(query).unwrap();
        Table::new(Arc::clone(servers), statement(), Some(statement()))
    }

    #[test]
    fn what_waits_for_one_table_goes_together_but_for_what_cannot_be_joined() {
        let servers = servers("db").unwrap();
        servers.state().busy = CONNECTIONS;
        let table = |name: &str| table(&servers, &format!("SELECT {name} = '%s'"));
        let (domains, users) = (table("domains"), table("users"));
        let many: Vec<_> = (2..KEYS_AT_ONCE).map(|number| number.to_string()).collect();
        let many = many.join(" ");
        for (table, keys) in [
            (&domains, "a"),
            (&users, "u@a @a"),
            (&domains, "b"),
            (&domains, "\u{e9}"),
            (&domains, &many),
            (&domains, "c"),
            (&domains, "b 2"),
        ] {
            servers.ask(Question {
                table: table.clone(),
                keys: keys.split(' ').map(str::to_owned).collect(),
                deadline: Instant::now(),
                answer: oneshot::channel().0,
            });
        }
        let together = std::iter::from_fn(|| servers.next()).map(|questions| {
            let keys = questions.iter().map(|question| question.keys.join(" "));
            keys.collect::<Vec<_>>().join(", ")
        });
        let expected = format!("a, b, {many}, b 2; u@a @a; \u{e9}; c");
        assert_eq!(together.collect::<Vec<_>>().join("; "), expected);
        assert_eq!(servers.state().busy, CONNECTIONS - 1);
    }

    #[test]
    fn a_key_without_the_domain_that_a_query_wants_is_not_asked_with_others() {
        let servers = servers("db").unwrap();
        let joins =
            |query: &str, keys: [&str; 2]| table(&servers, query).joins(&keys.map(str::to_owned));
        let query = "SELECT a FROM t WHERE k = '%s' AND d = '%d'";
        assert!(joins(query, ["u@d", "@d"]));
        assert!(!joins(query, ["u@d", "name"]));
        // A number cannot stand before DISTINCT.
        let distinct = "SELECT distinct a FROM t WHERE k = '%s'";
        assert!(!joins(distinct, ["u@d", "@d"]));
    }
}
