//! `mysql://user:password@host:port/database`: a database that already exists.
//!
//! Its tables are checked and never made or dropped; only rows of names that the cases own are
//! written, and they are removed. The password is shown nowhere.

use std::sync::atomic::AtomicUsize;

use mysql_async::Opts;

use super::mysql::{Account, Mysql};
use super::{Backend, Database};
use crate::environment::EnvironmentError;

/// The four tables with their columns, as the tutorial has them.
const TABLES: [(&str, &str); 4] = [
    ("domains", "domain"),
    ("forwardings", "email, destination"),
    ("transport", "domain, transport"),
    ("users", "email, password, quota"),
];

/// A URL that was understood.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    host: String,
    port: u16,
    user: String,
    password: String,
    database: String,
}

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Url {
    /// Reads it; what is wrong is said without the password.
    pub fn parse(text: &str) -> Result<Self, EnvironmentError> {
        let shown = redacted(text);
        let usage = |what: &str| {
            EnvironmentError::Usage(format!(
                "--database {shown}: {what}; expected mysql://user:password@host:port/database"
            ))
        };
        let (scheme, _) = text.split_once("://").unwrap_or((text, ""));
        if scheme != "mysql" {
            return Err(usage("the scheme is not mysql"));
        }
        if text.contains('?') {
            return Err(usage("parameters behind ? are not supported"));
        }
        let opts = Opts::from_url(text)
            .map_err(|_| usage("not a URL (in a password @ : / are written %40 %3A %2F)"))?;
        let part = |value: Option<&str>, what: &str| {
            value
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
                .ok_or_else(|| usage(what))
        };
        Ok(Self {
            host: part(Some(opts.ip_or_hostname()), "no host")?,
            port: opts.tcp_port(),
            user: part(opts.user(), "no user")?,
            password: opts.pass().unwrap_or_default().to_owned(),
            database: part(opts.db_name(), "no database")?,
        })
    }

    /// Its password, which is shown nowhere.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    fn shown(&self) -> String {
        format!(
            "mysql://{}:***@{}:{}/{}",
            self.user, self.host, self.port, self.database
        )
    }

    /// Connects and looks at the tables.
    pub(super) async fn open(self) -> Result<Database, EnvironmentError> {
        let shown = self.shown();
        let unavailable =
            |why: String| EnvironmentError::Unavailable(format!("--database {shown}: {why}"));
        let account = Account {
            user: self.user.clone(),
            password: self.password.clone(),
        };
        let mysql = Mysql::new(&self.host, self.port, &account, Some(&self.database));
        mysql.probe().await.map_err(unavailable)?;
        for (table, columns) in TABLES {
            let looked = mysql
                .count(&format!("SELECT {columns} FROM {table} WHERE 1 = 0"))
                .await;
            looked.map_err(|why| {
                unavailable(format!(
                    "the table {table} with the columns {columns} is not there ({why}); fixtures/sql/schema.sql makes it"
                ))
            })?;
        }
        let name = format!(
            "{} at {}:{}, database {}",
            mysql.version().await.map_err(unavailable)?,
            self.host,
            self.port,
            self.database
        );
        let host = format!("{}:{}", self.host, self.port);
        let backend = Backend::Given {
            mysql,
            account,
            host,
            database: self.database,
        };
        Ok(Database {
            name,
            backend,
            own: AtomicUsize::new(0),
        })
    }
}

/// A URL, well-formed or not, without its password.
#[must_use]
pub fn redacted(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let Some((login, place)) = rest.rsplit_once('@') else {
        return text.to_owned();
    };
    let user = login.split(':').next().unwrap_or_default();
    format!("{scheme}://{user}:***@{place}")
}
