//! A MySQL or MariaDB server, as the harness speaks to it: with all rights, over TCP.

use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, OptsBuilder, Pool, PoolConstraints, PoolOpts, Row};
use tokio::time::{Instant, timeout};

use crate::environment::random;

/// Longer than any statement of a scenario takes.
const STATEMENT_LIMIT: Duration = Duration::from_secs(20);
/// Between two tries to log in to a server that is starting.
const RETRY: Duration = Duration::from_millis(50);

/// A user of the database. Its password is shown nowhere.
#[derive(Clone)]
pub struct Account {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Account {
    /// With a random password.
    pub fn new(user: &str) -> Result<Self, String> {
        let password = random::hex(16).map_err(|error| format!("/dev/urandom: {error}"))?;
        Ok(Self {
            user: user.to_owned(),
            password,
        })
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({:?})", self.user)
    }
}

/// Connections to one database of a server.
#[derive(Clone)]
pub struct Mysql {
    opts: Opts,
    pool: Pool,
    password: String,
}

impl std::fmt::Debug for Mysql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mysql")
    }
}

impl Mysql {
    /// Nothing is connected yet.
    #[must_use]
    pub fn new(host: &str, port: u16, account: &Account, database: Option<&str>) -> Self {
        let opts = OptsBuilder::default()
            .ip_or_hostname(host)
            .tcp_port(port)
            .user(Some(&account.user))
            .pass(Some(&account.password))
            .db_name(database);
        Self::with(opts, account.password.clone())
    }

    fn with(opts: OptsBuilder, password: String) -> Self {
        let constraints = PoolConstraints::new(0, 8).unwrap_or_default();
        let opts = opts
            // Otherwise the client asks the server for its socket and goes to that path on *this*
            // machine, where another server may live.
            .prefer_socket(false)
            .pool_opts(PoolOpts::default().with_constraints(constraints));
        let opts = Opts::from(opts);
        let pool = Pool::new(opts.clone());
        Self {
            opts,
            pool,
            password,
        }
    }

    /// Another database of the same server, with connections of its own.
    #[must_use]
    pub fn of(&self, database: &str) -> Self {
        Self::with(
            OptsBuilder::from_opts(self.opts.clone()).db_name(Some(database)),
            self.password.clone(),
        )
    }

    /// One login and one statement.
    pub async fn probe(&self) -> Result<(), String> {
        let login = async {
            let mut connection = Conn::new(self.opts.clone()).await?;
            connection.query_drop("SELECT 1").await?;
            connection.disconnect().await
        };
        self.limited(Duration::from_secs(10), login).await
    }

    /// Waits until a login and `SELECT 1` succeed; a port that accepts proves nothing. `alive` says
    /// that the server is still there.
    pub async fn ready<F: Future<Output = Result<(), String>>>(
        &self,
        limit: Duration,
        alive: impl Fn() -> F,
    ) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        let mut ticks = tokio::time::interval(RETRY);
        loop {
            ticks.tick().await;
            let Err(why) = self.probe().await else {
                return Ok(());
            };
            alive().await?;
            if Instant::now() > deadline {
                return Err(format!("no login within {} s: {why}", limit.as_secs()));
            }
        }
    }

    /// `MySQL 9.7.4`, `MariaDB 10.11.19`.
    pub async fn version(&self) -> Result<String, String> {
        let ask = async {
            self.pool
                .get_conn()
                .await?
                .query_first::<String, _>("SELECT VERSION()")
                .await
        };
        let text = self
            .limited(STATEMENT_LIMIT, ask)
            .await?
            .unwrap_or_default();
        let number = text.split('-').next().unwrap_or_default();
        let kind = if text.contains("MariaDB") {
            "MariaDB"
        } else {
            "MySQL"
        };
        Ok(format!("{kind} {number}"))
    }

    /// Runs one or more statements.
    pub async fn execute(&self, statements: &str) -> Result<(), String> {
        let run = async { self.pool.get_conn().await?.query_drop(statements).await };
        self.limited(STATEMENT_LIMIT, run).await
    }

    /// How many rows a SELECT yields.
    pub async fn count(&self, select: &str) -> Result<usize, String> {
        let run = async { self.pool.get_conn().await?.query::<Row, _>(select).await };
        self.limited(STATEMENT_LIMIT, run)
            .await
            .map(|rows| rows.len())
    }

    /// The accounts that the server knows: user and host.
    pub async fn accounts(&self) -> Result<Vec<(String, String)>, String> {
        let run = async {
            self.pool
                .get_conn()
                .await?
                .query("SELECT user, host FROM mysql.user")
                .await
        };
        self.limited(STATEMENT_LIMIT, run).await
    }

    /// Closes what stands.
    pub async fn disconnect(&self) {
        // A server that is going away anyway may not answer.
        let _ = timeout(Duration::from_secs(2), self.pool.clone().disconnect()).await;
    }

    async fn limited<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, mysql_async::Error>>,
    ) -> Result<T, String> {
        match timeout(limit, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(redacted(&super::causes(&error), &self.password)),
            Err(_) => Err(format!(
                "the database did not answer within {} s",
                limit.as_secs()
            )),
        }
    }
}

/// `text` without the password.
#[must_use]
pub fn redacted(text: &str, password: &str) -> String {
    if password.is_empty() {
        text.to_owned()
    } else {
        text.replace(password, "***")
    }
}
