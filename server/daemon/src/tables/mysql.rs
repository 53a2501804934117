//! `mysql:` tables (mysql_table(5)). The only module that names mysql_async.
//!
//! It promises: a lookup takes no longer than its time limit, whatever the database does; a
//! connection that broke or hung is never used again, so that lookups go on as soon as the database
//! is back; no address becomes part of a query's text. Connections are made when first needed and
//! shared by all tables with one login. Statements are prepared once a connection.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Opts, OptsBuilder, Row, Value};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::sql::Statement;

/// Connections one login may have open. More than the database's cores only queue up there.
const CONNECTIONS: usize = 16;
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
    permits: Semaphore,
    time_limit: Duration,
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not derived: the options hold the password.
        f.debug_struct("Servers")
            .field("hosts", &self.hosts.len())
            .finish_non_exhaustive()
    }
}

/// One table file.
#[derive(Debug)]
pub(crate) struct Table {
    servers: Arc<Servers>,
    query: Statement,
    /// For keys outside ASCII: what a collation folds must not match (`ádmin@` is not `admin@`).
    exact: Option<Statement>,
}

impl Table {
    pub(crate) fn new(servers: Arc<Servers>, query: Statement, exact: Option<Statement>) -> Self {
        Self {
            servers,
            query,
            exact,
        }
    }

    /// The values of `keys`, several rows of one joined by commas.
    pub(crate) async fn ask(&self, keys: &[String]) -> Result<Vec<Option<String>>, String> {
        let deadline = Instant::now() + self.servers.time_limit;
        let mut values = vec![None; keys.len()];
        // The four keys of old make a query that can be asked for several keys at once.
        let simple = |key: &String| key.is_ascii() && self.query.values(key).is_some();
        let joinable = self.exact.is_some() && keys.len() > 1 && keys.iter().all(simple);
        if joinable {
            let mut bound = Vec::new();
            for key in keys {
                bound.extend(self.query.values(key).unwrap_or_default());
            }
            let selects: Vec<_> = (0..keys.len())
                .map(|at| {
                    format!(
                        "({})",
                        self.query
                            .sql("?")
                            .replacen("SELECT ", &format!("SELECT '{at}', "), 1)
                    )
                })
                .collect();
            for mut row in self
                .servers
                .query(&selects.join(" UNION ALL "), bound, deadline)
                .await?
                .into_iter()
                .flatten()
            {
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
        let permits = Semaphore::new(CONNECTIONS);
        Ok(Self {
            hosts,
            good: AtomicUsize::new(0),
            idle: Mutex::default(),
            permits,
            time_limit,
        })
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
        let too_slow = |_| format!("no answer within {:?}", self.time_limit);
        let _permit = timeout_at(deadline, self.permits.acquire())
            .await
            .map_err(too_slow)?;
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
                Err(elapsed) => {
                    // Whatever else is connected hangs as well.
                    self.forget();
                    return Err(too_slow(elapsed));
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
        assert!(before.elapsed() < Duration::from_secs(2));
    }
}
