//! A server that runs already and is not ours to start: where it listens, and what of it can be
//! reached.
//!
//! It promises: a secret is shown by no `Debug`; it may stand in a file or in the environment.

pub(super) mod tables;
mod url;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

pub use self::url::black_box;
use crate::wire::Trust;

/// A server that runs already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    /// Port 25.
    pub smtp: Option<Place>,
    /// Port 465.
    pub smtps: Option<Place>,
    /// The name in its certificate.
    pub hostname: String,
    /// Whether somebody said that this is its name; else it is what it greets with.
    pub is_named: bool,
    /// Which certificates are its own.
    pub trust: Trust,
    /// How it comes to know the names of cases.
    pub rows: Rows,
    /// Where its Maildirs are.
    pub maildirs: Option<Maildirs>,
    /// Where its queue is.
    pub queue: Option<PathBuf>,
    /// What deletes a message from it.
    pub queue_delete: Option<Vec<String>>,
    /// Its log file.
    pub log: Option<PathBuf>,
    /// Whose its Maildirs are.
    pub owner: Option<(u32, u32)>,
    /// Where it sends foreign mail.
    pub next_hop: Option<NextHop>,
    /// The source address of a stranger; `None`: as the system chooses.
    pub stranger: Option<IpAddr>,
    /// The source address of a neighbour.
    pub neighbour: Option<IpAddr>,
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Place {
    /// `host:port`, `[::1]:port`
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        (!host.is_empty() && host.chars().all(fits)).then_some(())?;
        let port = port.parse().ok().filter(|port| *port > 0)?;
        Some(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How the server comes to know the names of cases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// By its database: a `mysql://` URL; `None`: it stands on the command line.
    Database(Option<Secret>),
    /// By a command that takes rows as JSON.
    Command(Vec<String>),
    /// Not at all: cases get along with an account that is there.
    Account(Account),
    /// Not at all.
    None,
}

/// An account that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its address, which is its login, too.
    pub address: String,
    /// Its password.
    pub password: Secret,
    /// The domain in which senders live.
    pub sender: String,
    /// A foreign domain, for which nothing is sent.
    pub elsewhere: String,
}

impl Account {
    /// Senders live in the account's own domain, unless said otherwise; `example.com` is foreign
    /// everywhere (RFC 2606).
    pub fn new(address: &str, password: Secret) -> Result<Self, String> {
        let domain = match address.rsplit_once('@') {
            Some((local, domain)) if !local.is_empty() && !domain.is_empty() => domain,
            _ => return Err(format!("`{address}`: expected an address, `user@domain`")),
        };
        if password.0.contains(['\\', '\r', '\n']) {
            return Err("a password with a backslash or a line end cannot be used".to_owned());
        }
        Ok(Self {
            address: address.to_owned(),
            password,
            sender: domain.to_owned(),
            elsewhere: "example.com".to_owned(),
        })
    }

    /// Its domain.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.address.rsplit('@').next().unwrap_or_default()
    }
}

/// Where Maildirs are, in `DOMAIN/LOCAL PART/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maildirs {
    /// The folder, as the command sees it where there is one.
    pub path: PathBuf,
    /// What runs a program where the folder is: `["docker", "exec", "-i", "mail"]`, `["ssh", "mail"]`.
    pub command: Option<Vec<String>>,
}

/// Where the server finds next hops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    /// Where the run's name server listens, which the target asks.
    pub name_server: SocketAddr,
    /// The port of its next hops.
    pub port: u16,
    /// The one address of the sinks, at which the target reaches this machine; `None`: many in
    /// 127.9.0.0/16.
    pub address: Option<Ipv4Addr>,
}

/// A text that is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The first line of a file.
pub fn secret_file(path: &Path) -> Result<Secret, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Secret(text.lines().next().unwrap_or_default().to_owned()))
}
