//! `mysql:` tables (mysql_table(5)). The only module that names mysql_async.
//!
//! It promises: a lookup takes no longer than its time limit, whatever the database does; a
//! connection that broke or hung is never used again, so that lookups go on as soon as the database
//! is back; no address becomes part of a query's text. Connections are made when first needed and
//! shared by all tables with one login. Statements are prepared once a connection.
//!
//! What is asked while all connections are busy waits, and then goes together: one statement for
//! many questions to a table. Each is sent after it was asked, so nothing old is ever answered.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Opts, OptsBuilder, Row, Value};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::sql::Statement;

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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Login {
    pub(crate) hosts: String,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: String,
}

/// The servers of one login and the connections to them.
pub(crate) struct Servers {
    hosts: Vec<Opts>,
    /// The host that answered last: tried first.
    good: AtomicUsize,
    idle: Mutex<Vec<Conn>>,
    waiting: Mutex<Waiting>,
    time_limit: Duration,
}

/// Questions that no connection has taken yet, and how many connections are busy with others.
#[derive(Default)]
struct Waiting {
    questions: VecDeque<Question>,
    busy: usize,
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

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not derived: the options hold the password.
        f.debug_struct("Servers")
            .field("hosts", &self.hosts.len())
            .finish_non_exhaustive()
    }
}

/// One table file.
#[derive(Debug, Clone)]
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
        let question = Question {
            table: self.clone(),
            keys: keys.to_vec(),
            deadline,
            answer,
        };
        self.servers.ask(question);
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

    /// The values of keys that differ; those that `joins` says no to come alone.
    async fn values(&self, keys: &[String], deadline: Instant) -> Answer {
        let mut values = vec![None; keys.len()];
        if self.joins(keys) && keys.len() > 1 {
            // A power of two, so that there are few statements to prepare: the last key fills up.
            let count = keys.len().next_power_of_two();
            let fill = keys.last().into_iter().cycle().take(count - keys.len());
            let bound = keys.iter().chain(fill);
            let bound = bound.flat_map(|key| self.query.values(key).unwrap_or_default());
            let one = self.query.sql("?");
            let selects: Vec<_> = (0..count)
                .map(|at| {
                    format!(
                        "({}\n)",
                        one.replacen("SELECT ", &format!("SELECT '{at}', "), 1)
                    )
                })
                .collect();
            let sql = selects.join(" UNION ALL ");
            let rows = self.servers.query(&sql, bound.collect(), deadline).await?;
            for mut row in rows.into_iter().flatten() {
                let at = text(row.take(0)).and_then(|at| at.parse::<usize>().ok());
                if let Some(value) = at.and_then(|at| values.get_mut(at)) {
                    add(value, &mut row, 1);
                }
            }
            return Ok(values);
        }
        for (key, value) in keys.iter().zip(&mut values) {
            let (statement, placeholder) = match &self.exact {
                _ if key.is_ascii() => (&self.query, "?"),
                Some(exact) => (exact, "?"),
                None => (&self.query, "CAST(? AS BINARY)"),
            };
            let Some(bound) = statement.values(key) else {
                continue;
            };
            let rows = self
                .servers
                .query(&statement.sql(placeholder), bound, deadline)
                .await?;
            for mut row in rows.into_iter().flatten() {
                add(value, &mut row, 0);
            }
        }
        Ok(values)
    }
}

/// Adds a row's columns from `first` on to what the rows before gave.
fn add(value: &mut Option<String>, row: &mut Row, first: usize) {
    let value = value.get_or_insert_default();
    for column in first..row.len() {
        let Some(text) = text(row.take(column)).filter(|text| !text.is_empty()) else {
            continue;
        };
        if !value.is_empty() {
            value.push(',');
        }
        value.push_str(&text);
    }
}

fn text(value: Option<Value>) -> Option<String> {
    match value? {
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
        let mut hosts = Vec::new();
        for host in crate::config::main_cf::words(&login.hosts) {
            let base = || {
                OptsBuilder::default()
                    .user(Some(&login.user))
                    .pass(Some(&login.password))
                    .db_name(Some(&login.database))
                    // Else it would leave the server that was named for a socket of that path here.
                    .prefer_socket(false)
                    // Saves a round trip in which the server would be asked for both.
                    .max_allowed_packet(Some(16 << 20))
                    .wait_timeout(Some(28_800))
                    // Six tables, each by one key and by powers of two.
                    .stmt_cache_size(Some(128))
            };
            if let Some(path) = host.strip_prefix("unix:") {
                hosts.push(base().socket(Some(path)).into());
                continue;
            }
            let (name, port) = host_and_port(host.strip_prefix("inet:").unwrap_or(host))?;
            if name == "localhost" && Path::new(LOCAL_SOCKET).exists() {
                hosts.push(base().socket(Some(LOCAL_SOCKET)).into());
            }
            hosts.push(base().ip_or_hostname(name).tcp_port(port).into());
        }
        if hosts.is_empty() {
            return Err(
                "hosts is empty, expected host, host:port, inet:host:port or unix:/path".to_owned(),
            );
        }
        Ok(Self {
            hosts,
            good: AtomicUsize::new(0),
            idle: Mutex::default(),
            waiting: Mutex::default(),
            time_limit,
        })
    }

    /// Takes a question; it is sent as soon as a connection is free.
    fn ask(self: &Arc<Self>, question: Question) {
        let mut waiting = self.waiting();
        waiting.questions.push_back(question);
        if waiting.busy < CONNECTIONS {
            waiting.busy += 1;
            tokio::spawn(Arc::clone(self).work());
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn too_slow(&self) -> String {
        format!("no answer within {:?}", self.time_limit)
    }

    /// Answers what waits, until nothing does.
    async fn work(self: Arc<Self>) {
        while let Some(questions) = self.next() {
            answer(questions).await;
        }
    }

    /// The oldest question, with those that can go with it; `None`: one connection less is busy.
    fn next(&self) -> Option<Vec<Question>> {
        let mut waiting = self.waiting();
        let Some(first) = waiting.questions.pop_front() else {
            waiting.busy -= 1;
            return None;
        };
        let mut together = vec![first];
        let Some(first) = together
            .first()
            .filter(|first| first.table.joins(&first.keys))
        else {
            return Some(together);
        };
        let table = Arc::clone(&first.table.query);
        let mut keys: HashSet<String> = first.keys.iter().cloned().collect();
        for question in std::mem::take(&mut waiting.questions) {
            let new = question.keys.iter().filter(|key| !keys.contains(*key));
            if Arc::ptr_eq(&question.table.query, &table)
                && keys.len() + new.count() <= KEYS_AT_ONCE
                && question.table.joins(&question.keys)
            {
                keys.extend(question.keys.iter().cloned());
                together.push(question);
            } else {
                waiting.questions.push_back(question);
            }
        }
        Some(together)
    }

    /// The rows of a statement; `None` where the key cannot be in the column at all.
    async fn query(
        &self,
        sql: &str,
        bound: Vec<String>,
        deadline: Instant,
    ) -> Result<Option<Vec<Row>>, String> {
        let outside_ascii = !bound.iter().all(|value| value.is_ascii());
        let bound: Vec<Value> = bound.into_iter().map(Value::from).collect();
        loop {
            let (mut conn, reused) = match self.take() {
                Some(conn) => (conn, true),
                None => (self.connect(deadline).await?, false),
            };
            match timeout_at(deadline, conn.exec::<Row, _, _>(sql, bound.clone())).await {
                Ok(Ok(rows)) => {
                    self.give_back(conn);
                    return Ok(Some(rows));
                }
                Ok(Err(Error::Server(error))) => {
                    self.give_back(conn);
                    let unknown =
                        [ILLEGAL_MIX_OF_COLLATIONS, IMPOSSIBLE_CONVERSION].contains(&error.code);
                    if unknown && outside_ascii {
                        return Ok(None);
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

    async fn connect(&self, deadline: Instant) -> Result<Conn, String> {
        let first = self.good.load(Ordering::Relaxed);
        let mut reasons = Vec::new();
        for turn in 0..self.hosts.len() {
            let at = (first + turn) % self.hosts.len();
            let Some(host) = self.hosts.get(at) else {
                continue;
            };
            // A host that hangs leaves time for those after it.
            let now = Instant::now();
            let share = (deadline - now) / (self.hosts.len() - turn) as u32;
            match timeout_at(now + share, Conn::new(host.clone())).await {
                Ok(Ok(conn)) => {
                    self.good.store(at, Ordering::Relaxed);
                    return Ok(conn);
                }
                Ok(Err(error)) => reasons.push(format!("{}: {error}", name_of(host))),
                Err(_) => reasons.push(format!("{}: no answer within {share:?}", name_of(host))),
            }
        }
        Err(format!("cannot connect: {}", reasons.join("; ")))
    }

    fn take(&self) -> Option<Conn> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    fn give_back(&self, conn: Conn) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(conn);
    }

    fn forget(&self) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

/// Asks what is wanted of one table at once; each key once, however many want it.
async fn answer(mut questions: Vec<Question>) {
    questions.retain(|question| !question.answer.is_closed());
    let Some(first) = questions.first() else {
        return;
    };
    let (table, mut deadline) = (first.table.clone(), first.deadline);
    let (mut keys, mut places) = (Vec::new(), HashMap::new());
    for question in &questions {
        deadline = deadline.max(question.deadline);
        for key in &question.keys {
            places.entry(key.clone()).or_insert_with(|| {
                keys.push(key.clone());
                keys.len() - 1
            });
        }
    }
    let values = table.values(&keys, deadline).await;
    for question in questions {
        let own = |values: &Vec<Option<String>>| {
            let value = |key| {
                places
                    .get(key)
                    .and_then(|&at| values.get(at).cloned().flatten())
            };
            question.keys.iter().map(value).collect()
        };
        let own = values.as_ref().map(own).map_err(Clone::clone);
        // Nobody waits any more: nothing to answer.
        let _ = question.answer.send(own);
    }
}

fn name_of(host: &Opts) -> String {
    match host.socket() {
        Some(path) => format!("unix:{path}"),
        None => format!("{}:{}", host.ip_or_hostname(), host.tcp_port()),
    }
}

fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, behind)) => (host, behind.strip_prefix(':')),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None => 3306,
        Some(port) => port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| format!("hosts: port {port:?} of {text:?}, expected 1 to 65535"))?,
    };
    if host.is_empty() {
        return Err(format!("hosts: {text:?} has no host"));
    }
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn names(hosts: &str) -> Result<Vec<String>, String> {
        let text = |text: &str| text.to_owned();
        let login = Login {
            hosts: text(hosts),
            user: text("u"),
            password: text("p"),
            database: text("d"),
        };
        Ok(Servers::new(&login, Duration::from_secs(1))?
            .hosts
            .iter()
            .map(name_of)
            .collect())
    }

    #[rstest]
    #[case("db", &["db:3306"])]
    #[case("db:3307 unix:/run/x.sock", &["db:3307", "unix:/run/x.sock"])]
    #[case("inet:10.0.0.1:3306, [::1]:33", &["10.0.0.1:3306", "::1:33"])]
    fn hosts_are_written_as_in_mysql_table(#[case] hosts: &str, #[case] expected: &[&str]) {
        assert_eq!(names(hosts).unwrap(), expected);
    }

    #[rstest]
    #[case("")]
    #[case("db:0")]
    #[case("db:mysql")]
    #[case(":3306")]
    fn hosts_that_cannot_be_reached_are_a_mistake(#[case] hosts: &str) {
        assert!(names(hosts).is_err());
    }

    fn servers() -> Arc<Servers> {
        let login = Login {
            hosts: "db".into(),
            user: "u".into(),
            password: "p".into(),
            database: "d".into(),
        };
        Arc::new(Servers::new(&login, Duration::from_secs(1)).unwrap())
    }

    #[test]
    fn what_waits_for_one_table_goes_together_but_for_what_cannot_be_joined() {
        let servers = servers();
        servers.waiting().busy = CONNECTIONS;
        let table = |name: &str| {
            let statement = || Statement::compile(&format!("SELECT {name} = '%s'")).ok();
            Table::new(Arc::clone(&servers), statement().unwrap(), statement())
        };
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
        let expected = [
            format!("a, b, {many}, b 2"),
            "u@a @a".into(),
            "\u{e9}".into(),
            "c".into(),
        ];
        assert_eq!(together.collect::<Vec<_>>(), expected);
        assert_eq!(servers.waiting().busy, CONNECTIONS - 1);
    }

    #[test]
    fn a_key_without_the_domain_that_a_query_wants_is_not_asked_with_others() {
        let joins = |query: &str, keys: [&str; 2]| {
            let statement = || Statement::compile(query);
            let table = Table::new(servers(), statement().unwrap(), statement().ok());
            table.joins(&keys.map(str::to_owned))
        };
        let query = "SELECT a FROM t WHERE k = '%s' AND d = '%d'";
        assert!(joins(query, ["u@d", "@d"]));
        assert!(!joins(query, ["u@d", "name"]));
        // A number cannot stand before DISTINCT.
        let distinct = "SELECT distinct a FROM t WHERE k = '%s'";
        assert!(!joins(distinct, ["u@d", "@d"]));
    }

    #[tokio::test]
    async fn a_database_that_accepts_and_says_nothing_fails_within_the_time_limit() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let login = Login {
            hosts: silent.local_addr().unwrap().to_string(),
            user: "u".into(),
            password: "p".into(),
            database: "d".into(),
        };
        let servers = Arc::new(Servers::new(&login, Duration::from_millis(50)).unwrap());
        let table = Table::new(servers, Statement::compile("SELECT '%s'").unwrap(), None);
        let before = Instant::now();
        let reason = table.ask(&["key".to_owned()]).await.unwrap_err();
        assert!(reason.contains("no answer within"), "{reason}");
        assert!(before.elapsed() < Duration::from_secs(30));
    }
}
