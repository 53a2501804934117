//! The tables of a target's description with `start = "nothing"`, as they are written and checked;
//! `fixtures/targets/README.md` has them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::super::queue::ID;
use super::{Account, Maildirs, NextHop, Outside, Place, Rows, Secret, secret_file};
use crate::wire::Trust;

/// A secret as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a text, { file = \"…\" } or { env = \"…\" }"
)]
pub(in crate::environment) enum SecretWord {
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

/// `[listen]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::environment) struct Listen {
    smtp: Option<Spanned<String>>,
    smtps: Option<Spanned<String>>,
    name: Option<String>,
    certificates: Option<Spanned<String>>,
}

/// `[database]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::environment) struct DatabaseTable {
    url: Option<Spanned<SecretWord>>,
    seed: Option<Spanned<Vec<String>>>,
}

/// `[accounts]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::environment) struct Accounts {
    address: Spanned<String>,
    password: Spanned<SecretWord>,
    sender: Option<String>,
    elsewhere: Option<String>,
}

/// `[maildirs]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::environment) struct MaildirsTable {
    path: Spanned<PathBuf>,
    command: Option<Spanned<Vec<String>>>,
    owner: Option<Spanned<String>>,
}

/// `[sink]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::environment) struct SinkTable {
    name_server: SocketAddr,
    port: u16,
    address: Option<Ipv4Addr>,
}

/// `[clients]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::environment) struct Clients {
    stranger: Option<IpAddr>,
    neighbour: Option<IpAddr>,
}

/// The tables of a server that runs already.
#[derive(Debug, Default)]
pub(in crate::environment) struct Tables {
    pub(in crate::environment) listen: Option<Listen>,
    pub(in crate::environment) database: Option<DatabaseTable>,
    pub(in crate::environment) accounts: Option<Accounts>,
    pub(in crate::environment) maildirs: Option<MaildirsTable>,
    pub(in crate::environment) sink: Option<SinkTable>,
    pub(in crate::environment) clients: Option<Clients>,
    pub(in crate::environment) queue: Option<PathBuf>,
    pub(in crate::environment) queue_delete: Option<Spanned<Vec<String>>>,
    pub(in crate::environment) log: Option<PathBuf>,
}

impl Tables {
    /// Checked. `claims` says where a capability is declared.
    pub(in crate::environment) fn checked(
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
        let queue_delete = self.queue_delete.map(|said| {
            let without_queue = self.queue.is_none();
            deletes(said, without_queue)
        });
        let queue_delete = queue_delete.transpose()?;
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
            queue_delete,
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

/// The command that deletes a message from the queue.
fn deletes(said: Spanned<Vec<String>>, without_queue: bool) -> Result<Vec<String>, Mistake> {
    let at = said.span().start;
    let command = words("queue_delete", said)?;
    let why = if without_queue {
        "`queue_delete` without `queue`: expected queue = \"/…\", its folder, where the messages are found"
    } else if !command.iter().any(|word| word.contains(ID)) {
        "`queue_delete`: expected `{id}` where the message's name belongs, as in [\"postsuper\", \"-d\", \"{id}\"]"
    } else {
        return Ok(command);
    };
    Err((Some(at), why.to_owned()))
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
