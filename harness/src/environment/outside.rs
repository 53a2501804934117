//! A server that runs already and is not ours to start: where it listens, and what of it can be
//! reached.
//!
//! The tables of a target's description with `start = "nothing"`; `fixtures/targets/README.md` has
//! them. It promises: a secret is shown by no `Debug`; it may stand in a file or in the environment.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

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
    /// What runs a program where the folder is: `["docker", "exec", "mail"]`, `["ssh", "mail"]`.
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

/// A secret as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a text, { file = \"…\" } or { env = \"…\" }"
)]
pub(super) enum SecretWord {
    Text(String),
    File { file: PathBuf },
    Environment { env: String },
}

impl SecretWord {
    fn read(self, beside: &Path) -> Result<Secret, String> {
        match self {
            Self::Text(text) => Ok(Secret(text)),
            Self::File { file } => secret_file(&beside.join(file)),
            Self::Environment { env } => std::env::var(&env)
                .map(Secret)
                .map_err(|_| format!("the environment has no {env}")),
        }
    }
}

/// The first line of a file.
pub fn secret_file(path: &Path) -> Result<Secret, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Secret(text.lines().next().unwrap_or_default().to_owned()))
}

/// `[listen]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listen {
    smtp: Option<Spanned<String>>,
    smtps: Option<Spanned<String>>,
    name: Option<String>,
    certificates: Option<Spanned<String>>,
}

/// `[database]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DatabaseTable {
    url: Option<Spanned<SecretWord>>,
    seed: Option<Spanned<Vec<String>>>,
}

/// `[accounts]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Accounts {
    address: Spanned<String>,
    password: Spanned<SecretWord>,
    sender: Option<String>,
    elsewhere: Option<String>,
}

/// `[maildirs]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MaildirsTable {
    path: Spanned<PathBuf>,
    command: Option<Spanned<Vec<String>>>,
    owner: Option<Spanned<String>>,
}

/// `[sink]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SinkTable {
    name_server: SocketAddr,
    port: u16,
    address: Option<Ipv4Addr>,
}

/// `[clients]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Clients {
    stranger: Option<IpAddr>,
    neighbour: Option<IpAddr>,
}

/// The tables of a server that runs already.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) listen: Option<Listen>,
    pub(super) database: Option<DatabaseTable>,
    pub(super) accounts: Option<Accounts>,
    pub(super) maildirs: Option<MaildirsTable>,
    pub(super) sink: Option<SinkTable>,
    pub(super) clients: Option<Clients>,
    pub(super) queue: Option<PathBuf>,
    pub(super) log: Option<PathBuf>,
}

impl Tables {
    /// Checked. `claims` says where a capability is declared.
    pub(super) fn checked(
        self,
        beside: &Path,
        claims: &dyn Fn(&str) -> Option<usize>,
    ) -> Result<Outside, Mistake> {
        self.consistent(claims)?;
        let at = |place: usize| move |why: String| (Some(place), why);
        let listen = self.listen.ok_or_else(|| {
            let why =
                "start = \"nothing\" without [listen]: expected [listen] with smtp = \"HOST:PORT\"";
            (None, why.to_owned())
        })?;
        let smtp = listen.smtp.as_ref().map(place).transpose()?;
        let smtps = listen.smtps.as_ref().map(place).transpose()?;
        let Some(first) = smtp.as_ref().or(smtps.as_ref()) else {
            let why =
                "[listen] is empty: expected smtp = \"HOST:PORT\", smtps = \"HOST:PORT\" or both";
            return Err((None, why.to_owned()));
        };
        let trust = match &listen.certificates {
            Some(word) => Trust::read(word.get_ref(), beside).map_err(at(word.span().start))?,
            None => Trust::Public,
        };
        let database = self.database.unwrap_or_default();
        let rows = match (database.url, database.seed, self.accounts) {
            (Some(url), None, None) => {
                let place = url.span().start;
                Rows::Database(Some(url.into_inner().read(beside).map_err(at(place))?))
            }
            (None, Some(seed), None) => Rows::Command(words("seed", seed)?),
            (None, None, Some(accounts)) => Rows::Account(account(accounts, beside)?),
            (None, None, None) if claims("database").is_some() => Rows::Database(None),
            (None, None, None) => Rows::None,
            (_, _, Some(accounts)) => {
                let why = "[accounts] beside [database]: expected one of them, for a database has accounts of its own";
                return Err((Some(accounts.address.span().start), why.to_owned()));
            }
            (Some(_), Some(seed), None) => {
                let why = "`seed` beside `url`: expected one of them";
                return Err((Some(seed.span().start), why.to_owned()));
            }
        };
        let owner = self
            .maildirs
            .as_ref()
            .and_then(|table| table.owner.as_ref());
        let owner = owner
            .map(|owner| {
                let ids = owner
                    .get_ref()
                    .split_once(':')
                    .and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
                ids.ok_or_else(|| {
                    let why = format!("`{}`: expected \"UID:GID\"", owner.get_ref());
                    (Some(owner.span().start), why)
                })
            })
            .transpose()?;
        let maildirs = self.maildirs.map(maildirs).transpose()?;
        let clients = self.clients.unwrap_or_default();
        Ok(Outside {
            is_named: listen.name.is_some(),
            hostname: listen.name.unwrap_or_else(|| first.host.clone()),
            smtp,
            smtps,
            trust,
            rows,
            maildirs,
            queue: self.queue,
            log: self.log,
            owner,
            next_hop: self.sink.map(|sink| NextHop {
                name_server: sink.name_server,
                port: sink.port,
                address: sink.address,
            }),
            stranger: clients.stranger,
            neighbour: clients.neighbour,
        })
    }
}

impl Tables {
    /// Whether there is what the capabilities claim.
    fn consistent(&self, claims: &dyn Fn(&str) -> Option<usize>) -> Result<(), Mistake> {
        for word in ["disk", "faults", "gate", "main-cf", "own-target"] {
            if let Some(place) = claims(word) {
                let why = format!(
                    "`{word}` beside start = \"nothing\": a server that is not ours to start is not stopped or configured either"
                );
                return Err((Some(place), why));
            }
        }
        let owner = self
            .maildirs
            .as_ref()
            .and_then(|table| table.owner.as_ref());
        let far = self
            .maildirs
            .as_ref()
            .is_some_and(|table| table.command.is_some());
        for (word, there, what) in [
            (
                "maildir",
                self.maildirs.is_some(),
                "[maildirs] with path = \"/…\"",
            ),
            (
                "owner",
                owner.is_some() && !far,
                "[maildirs] with owner = \"UID:GID\" and without `command`",
            ),
            ("queue", self.queue.is_some(), "queue = \"/…\", its folder"),
            (
                "sink",
                self.sink.is_some(),
                "[sink] with name_server and port",
            ),
        ] {
            if let Some(place) = claims(word).filter(|_| !there) {
                return Err((
                    Some(place),
                    format!("`{word}` is declared: expected {what}"),
                ));
            }
        }
        Ok(())
    }
}

/// Where it begins, where that is known, and what was expected.
type Mistake = (Option<usize>, String);

fn place(text: &Spanned<String>) -> Result<Place, Mistake> {
    Place::parse(text.get_ref()).ok_or_else(|| {
        let why = format!("`{}`: expected \"HOST:PORT\"", text.get_ref());
        (Some(text.span().start), why)
    })
}

fn words(key: &str, command: Spanned<Vec<String>>) -> Result<Vec<String>, Mistake> {
    let at = command.span().start;
    let command = command.into_inner();
    if command.first().is_none_or(String::is_empty) {
        let why = format!("`{key}` is empty: expected a program and its arguments");
        return Err((Some(at), why));
    }
    Ok(command)
}

fn account(written: Accounts, beside: &Path) -> Result<Account, Mistake> {
    let place = written.password.span().start;
    let password = written.password.into_inner().read(beside);
    let password = password.map_err(|why| (Some(place), why))?;
    let mut account = Account::new(written.address.get_ref(), password)
        .map_err(|why| (Some(written.address.span().start), why))?;
    account.sender = written.sender.unwrap_or(account.sender);
    account.elsewhere = written.elsewhere.unwrap_or(account.elsewhere);
    Ok(account)
}

fn maildirs(table: MaildirsTable) -> Result<Maildirs, Mistake> {
    let command = table
        .command
        .map(|command| words("command", command))
        .transpose()?;
    let shown = table.path.get_ref().display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
    let bad = if !shown.starts_with('/') {
        Some("expected a path that begins with /")
    } else if command.is_some() && !shown.chars().all(plain) {
        Some("expected letters, digits and -._/ only where a command goes there")
    } else {
        None
    };
    match bad {
        Some(why) => Err((Some(table.path.span().start), format!("`{shown}`: {why}"))),
        None => Ok(Maildirs {
            path: table.path.into_inner(),
            command,
        }),
    }
}

/// `smtp://user:password@host:port`: a server of which no more is known.
///
/// `%40` stands for `@` in the user's name and the password. Without a port 25 is meant, of
/// `smtps://` 465.
pub fn black_box(url: &str, trust: Trust, password: Option<Secret>) -> Result<Outside, String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (login, server) = match rest.rsplit_once('@') {
        Some((login, server)) => (Some(login), server),
        None => (None, rest),
    };
    let wanted = |what: &str| {
        format!(
            "{what}: expected smtp://user:password@host:port, or smtps:// (in a user or password @ : / % are written %40 %3A %2F %25)"
        )
    };
    let usual = match scheme {
        "smtp" => 25,
        "smtps" => 465,
        _ => return Err(wanted(&format!("`{scheme}://`"))),
    };
    let server = server.trim_end_matches('/');
    let place = Place::parse(server)
        .or_else(|| Place::parse(&format!("{server}:{usual}")))
        .ok_or_else(|| wanted(&format!("`{server}`")))?;
    let rows = match login {
        None if password.is_some() => return Err(wanted("a password without a user")),
        None => Rows::None,
        Some(login) => {
            let (user, word) = match login.split_once(':') {
                Some((user, word)) => (user, Some(word)),
                None => (login, None),
            };
            let decoded = |text: &str| decoded(text).ok_or_else(|| wanted("a lone %"));
            let password = match (password, word) {
                (Some(password), None) => password,
                (None, Some(word)) => Secret(decoded(word)?),
                (None, None) => {
                    return Err("the account has no password: expected it in the URL, by --password-file FILE or in VMAILSPEC_PASSWORD".to_owned());
                }
                (Some(_), Some(_)) => {
                    return Err("two passwords: expected one, in the URL or elsewhere".to_owned());
                }
            };
            Rows::Account(Account::new(&decoded(user)?, password)?)
        }
    };
    let (smtp, smtps) = if scheme == "smtps" {
        (None, Some(place.clone()))
    } else {
        (Some(place.clone()), None)
    };
    Ok(Outside {
        smtp,
        smtps,
        hostname: place.host,
        is_named: false,
        trust,
        rows,
        maildirs: None,
        queue: None,
        log: None,
        owner: None,
        next_hop: None,
        stranger: None,
        neighbour: None,
    })
}

fn decoded(text: &str) -> Option<String> {
    let mut octets = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            octets.push(u8::from_str_radix(digits, 16).ok()?);
            rest = rest.get(2..)?;
        } else {
            octets.push(first);
        }
    }
    String::from_utf8(octets).ok()
}
