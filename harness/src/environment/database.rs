//! The database of a run: which one, and what a world does with it.
//!
//! It promises: one line says which database it is and why not those that come before it; a password
//! stands in no message; what was started is gone at the end.

#[cfg(feature = "docker")]
pub mod docker;
pub mod embedded;
pub mod local;
pub mod mysql;
mod seeded;
pub mod url;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::embedded::SqliteFile;
use self::mysql::{Account, Mysql};
use super::template::Tables;
use super::{EnvironmentError, names};

/// How many connections a server of the run's own takes: one that forks for each session has some in
/// every process, and Exim was once refused the 152nd.
const CONNECTIONS: &str = "--max-connections=1000";

/// `--database`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Docker, else local, else embedded.
    Auto,
    /// MySQL in a container.
    Docker,
    /// A private `mysqld` or `mariadbd`.
    Local,
    /// SQLite.
    Embedded,
    /// A database that exists.
    Url(url::Url),
}

impl Choice {
    /// Reads the word.
    pub fn parse(word: &str) -> Result<Self, EnvironmentError> {
        match word {
            "auto" => Ok(Self::Auto),
            "docker" => Ok(Self::Docker),
            "local" => Ok(Self::Local),
            "embedded" => Ok(Self::Embedded),
            _ if word.contains("://") => Ok(Self::Url(url::Url::parse(word)?)),
            _ => Err(EnvironmentError::Usage(format!(
                "--database {word}: expected auto, docker, local, embedded or mysql://user:password@host:port/database"
            ))),
        }
    }
}

/// The database of a run.
#[derive(Debug)]
pub struct Database {
    name: String,
    backend: Backend,
    own: AtomicUsize,
}

#[derive(Debug)]
enum Backend {
    /// A server of our own: cases with a target of their own get a database of their own.
    Server {
        mysql: Mysql,
        reader: Account,
        host: String,
        process: Process,
    },
    /// Somebody's: all share the one database there is.
    Given {
        mysql: Mysql,
        account: Account,
        host: String,
        database: String,
    },
    Embedded {
        folder: std::path::PathBuf,
    },
}

/// What ends with the run.
#[derive(Debug)]
enum Process {
    #[cfg(feature = "docker")]
    Container(docker::Container),
    Local(local::Server),
}

/// The database in our own servers that all cases without a target of their own share.
const SHARED: &str = "mail";

impl Database {
    /// Starts what was chosen. `folder` is the run's; `group` may read what the target has to read.
    pub async fn start(
        choice: Choice,
        image: &str,
        folder: &Path,
        group: u32,
        say: &(dyn Fn(String) + Sync),
    ) -> Result<Self, EnvironmentError> {
        let unavailable = |what: &str, why: String| {
            EnvironmentError::Unavailable(format!("--database {what}: {why}"))
        };
        match choice {
            Choice::Docker => Self::docker(image, say)
                .await
                .map_err(|why| unavailable("docker", why)),
            Choice::Local => Self::local(folder)
                .await
                .map_err(|why| unavailable("local", why)),
            Choice::Embedded => {
                Self::embedded(folder, group).map_err(|why| unavailable("embedded", why))
            }
            Choice::Url(url) => url.open().await,
            Choice::Auto => {
                let no_docker = match Self::docker(image, say).await {
                    Ok(database) => {
                        say(format!("database: {}", database.name));
                        return Ok(database);
                    }
                    Err(why) => why,
                };
                let no_local = match Self::local(folder).await {
                    Ok(database) => {
                        say(format!(
                            "database: {} (not Docker: {no_docker})",
                            database.name
                        ));
                        return Ok(database);
                    }
                    Err(why) => why,
                };
                let database =
                    Self::embedded(folder, group).map_err(|why| unavailable("auto", why))?;
                say(format!(
                    "database: {} (not Docker: {no_docker}; not a server of this machine: {no_local})",
                    database.name
                ));
                Ok(database)
            }
        }
    }

    #[cfg(feature = "docker")]
    async fn docker(image: &str, say: &(dyn Fn(String) + Sync)) -> Result<Self, String> {
        let container = docker::Container::start(image, say).await?;
        let (mysql, host) = (container.mysql(), container.host());
        let version = mysql.version().await?;
        let name = format!("{version} in a container (image {image})");
        Self::server(name, mysql, host, Process::Container(container)).await
    }

    #[cfg(not(feature = "docker"))]
    #[expect(clippy::unused_async, reason = "its twin waits")]
    async fn docker(_: &str, _: &(dyn Fn(String) + Sync)) -> Result<Self, String> {
        Err("this vmailspec was built without the feature docker".to_owned())
    }

    async fn local(folder: &Path) -> Result<Self, String> {
        let server = local::Server::start(folder).await?;
        let (mysql, host) = (server.mysql(), server.host());
        let name = format!(
            "{}, a private server ({})",
            mysql.version().await?,
            server.program().display()
        );
        Self::server(name, mysql, host, Process::Local(server)).await
    }

    async fn server(
        name: String,
        mysql: Mysql,
        host: String,
        process: Process,
    ) -> Result<Self, String> {
        let reader = Account::new("mailuser")?;
        let (user, password) = (&reader.user, &reader.password);
        // In a GRANT `_` is a wildcard: `mail\_%` are the databases of single cases.
        mysql.execute(&format!(
            "CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'; GRANT SELECT ON `{SHARED}`.* TO '{user}'@'%'; \
             GRANT SELECT ON `{SHARED}\\_%`.* TO '{user}'@'%'"
        )).await?;
        Ok(Self {
            name,
            backend: Backend::Server {
                mysql,
                reader,
                host,
                process,
            },
            own: AtomicUsize::new(0),
        })
    }

    fn embedded(folder: &Path, group: u32) -> Result<Self, String> {
        let folder = folder.join("sqlite");
        super::template::private_folder(&folder, group)
            .map_err(|e| format!("{}: {e}", folder.display()))?;
        let name = format!("SQLite {} embedded", rusqlite::version());
        Ok(Self {
            name,
            backend: Backend::Embedded { folder },
            own: AtomicUsize::new(0),
        })
    }

    /// What it is, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tables that all targets share which have none of their own. Called once a run.
    pub async fn shared(&self, group: u32) -> Result<Store, String> {
        self.store(SHARED.to_owned(), false, group).await
    }

    /// New, empty tables for one target; those of a database that was given are shared.
    pub async fn own(&self, group: u32) -> Result<Store, String> {
        let number = self.own.fetch_add(1, Ordering::Relaxed) + 1;
        self.store(format!("{SHARED}_{number}"), true, group).await
    }

    async fn store(&self, name: String, own: bool, group: u32) -> Result<Store, String> {
        match &self.backend {
            Backend::Server {
                mysql,
                reader,
                host,
                ..
            } => {
                let schema = names::statements(super::fixture("sql/schema.sql")?);
                mysql.execute(&format!("CREATE DATABASE `{name}`")).await?;
                let database = mysql.of(&name);
                database.execute(&schema.join(";\n")).await?;
                let (account, host) = (reader.clone(), host.clone());
                let dropped_by = own.then(|| mysql.clone());
                Ok(Store::Mysql {
                    mysql: database,
                    account,
                    host,
                    database: name,
                    dropped_by,
                })
            }
            Backend::Given {
                mysql,
                account,
                host,
                database,
            } => Ok(Store::Mysql {
                mysql: mysql.clone(),
                account: account.clone(),
                host: host.clone(),
                database: database.clone(),
                dropped_by: None,
            }),
            Backend::Embedded { folder } => {
                let schema = names::statements(super::fixture("sql/schema.sqlite.sql")?);
                let file = SqliteFile::create(folder.join(format!("{name}.sqlite")), group)?;
                file.execute(&schema.join(";\n")).await?;
                Ok(Store::Sqlite(file))
            }
        }
    }

    /// Does it still answer? The one in our own process always does.
    pub async fn answers(&self) -> Result<(), String> {
        match &self.backend {
            Backend::Server { mysql, .. } | Backend::Given { mysql, .. } => mysql.probe().await,
            Backend::Embedded { .. } => Ok(()),
        }
    }

    /// Ends what was started.
    pub async fn stop(self) {
        match self.backend {
            Backend::Server { mysql, process, .. } => {
                mysql.disconnect().await;
                match process {
                    #[cfg(feature = "docker")]
                    Process::Container(container) => container.stop().await,
                    Process::Local(server) => drop(server),
                }
            }
            Backend::Given { mysql, .. } => mysql.disconnect().await,
            Backend::Embedded { .. } => {}
        }
    }

    /// A database of somebody else's, with data that is not ours?
    pub fn is_given(&self) -> bool {
        matches!(self.backend, Backend::Given { .. })
    }
}

/// The four tables of one target, with all rights.
#[derive(Debug)]
pub enum Store {
    /// A database of a MySQL server.
    Mysql {
        /// Connected to it.
        mysql: Mysql,
        /// For the target.
        account: Account,
        /// `host:port`
        host: String,
        /// Its name.
        database: String,
        /// Removes it in the end; `None`: it stays.
        dropped_by: Option<Mysql>,
    },
    /// A file.
    Sqlite(SqliteFile),
    /// What a command of the user's brings to the server.
    Seeded(Vec<String>),
    /// None of ours.
    None,
}

/// Where somebody wants to change rows.
const NO_DATABASE: &str = "needs database";

impl Store {
    /// Nobody else's, and gone after `dispose`?
    #[must_use]
    pub fn is_own(&self) -> bool {
        match self {
            Self::Mysql { dropped_by, .. } => dropped_by.is_some(),
            Self::Sqlite(_) => true,
            Self::Seeded(_) | Self::None => false,
        }
    }

    /// Brings rows that are there for the names of a case.
    pub async fn seed(&self, statements: &str) -> Result<(), String> {
        match self {
            Self::Seeded(command) => seeded::add(command, statements).await,
            Self::None => Ok(()),
            _ => self.execute(statements).await,
        }
    }

    /// Takes away every row of these names.
    pub async fn clear(&self, names: &[&str]) -> Result<(), String> {
        match self {
            Self::Seeded(command) => seeded::remove(command, names).await,
            Self::None => Ok(()),
            _ => self.execute(&names::removal(names).join(";\n")).await,
        }
    }

    /// Whether names of cases become known to the server at all.
    #[must_use]
    pub fn knows_names(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Runs one or more statements.
    pub async fn execute(&self, statements: &str) -> Result<(), String> {
        match self {
            Self::Mysql { mysql, .. } => mysql.execute(statements).await,
            Self::Sqlite(file) => file.execute(statements).await,
            Self::Seeded(_) | Self::None => Err(NO_DATABASE.to_owned()),
        }
    }

    /// How many rows a SELECT yields.
    pub async fn count(&self, select: &str) -> Result<usize, String> {
        match self {
            Self::Mysql { mysql, .. } => mysql.count(select).await,
            Self::Sqlite(file) => file.count(select).await,
            Self::Seeded(_) | Self::None => Err(NO_DATABASE.to_owned()),
        }
    }

    /// For the target's configuration; `gate`: the way there leads through it.
    #[must_use]
    pub fn tables(&self, gate: Option<std::net::SocketAddr>) -> Option<Tables> {
        Some(match self {
            Self::Mysql {
                account,
                host,
                database,
                ..
            } => Tables::Mysql {
                host: gate.map_or_else(|| host.clone(), |gate| gate.to_string()),
                user: account.user.clone(),
                password: account.password.clone(),
                database: database.clone(),
            },
            Self::Sqlite(file) => Tables::Sqlite(file.path().to_owned()),
            Self::Seeded(_) | Self::None => return None,
        })
    }

    /// Removes tables that were one target's own.
    pub async fn dispose(self) -> Result<(), String> {
        match self {
            Self::Mysql {
                mysql,
                database,
                dropped_by: Some(root),
                ..
            } => {
                mysql.disconnect().await;
                root.execute(&format!("DROP DATABASE `{database}`")).await
            }
            Self::Mysql { .. } | Self::Seeded(_) | Self::None => Ok(()),
            Self::Sqlite(file) => file.remove(),
        }
    }
}

/// An error with everything below it, each once: the top line alone says too little.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        below = cause.source();
    }
    text.replace('\n', " ")
}
