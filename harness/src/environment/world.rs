//! What one case sees of the world.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::database::Store;
use super::disk::Disks;
use super::gate::Gate;
use super::mirror::MADE_UP;
use super::names::Names;
use super::run::Run;
use super::sink::Sink;
use super::standing::Standing;
use super::{Mail, Sunk, TargetFacts};
use crate::names::TOKEN_FIELD;
use crate::scenario::{DatabaseFault, Disk, Entry, TargetAction, Vantage};

/// What one case sees of the world.
///
/// Made by `Environment::world`: names chosen, rows seeded, sink listening, target running.
/// `dispose` removes rows and Maildirs by name.
#[derive(Debug)]
pub struct World {
    /// domain, transport, sender, elsewhere, hostname, sinkaddress, sinkport.
    pub names: BTreeMap<String, String>,
    pub(super) own_names: Names,
    pub(super) run: Arc<Run>,
    pub(super) sink: Sink,
    pub(super) standing: Arc<Standing>,
    /// A target of the case's own, with the way to its database.
    pub(super) own: Option<Own>,
    /// Cases with the tutorial's names run one after another.
    pub(super) _literal: Option<OwnedMutexGuard<()>>,
    pub(super) log_start: usize,
    pub(super) crash_start: usize,
}

/// What a case with a target of its own has besides.
#[derive(Debug)]
pub(super) struct Own {
    /// `None`: SQLite, which is shut by a lock.
    pub(super) gate: Option<Mutex<Gate>>,
    pub(super) folder: PathBuf,
    /// Where the case needs them.
    pub(super) disks: Option<Disks>,
}

impl World {
    /// The target's facts. A server of somebody else's gets mail for the case's own domains only.
    pub fn facts(&self) -> TargetFacts {
        let mut facts = self.standing.facts.clone();
        let next_hops = facts.capabilities.iter().any(|word| word == "sink");
        if let Some(manners) = &mut facts.manners {
            let all = self.own_names.all();
            let named = if next_hops { &all[..] } else { &all[..1] };
            let mine = format!(".{}.test", self.run.id);
            for name in named {
                manners.domains.push((*name).to_owned());
                // Names that this run made up; the tutorial's belong to somebody.
                if name.ends_with(&mine) {
                    manners.domains.push(format!(".{name}"));
                }
            }
        }
        facts
    }

    /// Whether the target has this capability.
    pub fn can(&self, word: &str) -> bool {
        let capabilities = &self.standing.facts.capabilities;
        capabilities.iter().any(|has| has == word)
    }

    /// Looks anew at Maildirs that are far away.
    pub async fn refresh(&self) -> Result<(), String> {
        match &self.standing.mirror {
            Some(mirror) => mirror.refresh().await,
            None => Ok(()),
        }
    }

    /// The address of a way in.
    pub fn address(&self, entry: Entry) -> SocketAddr {
        match entry {
            Entry::Plain | Entry::StartTls => self.standing.facts.plain,
            Entry::Smtps => self.standing.facts.smtps,
        }
    }

    /// The source address of a client that stands there.
    pub fn source(&self, from: Vantage) -> IpAddr {
        match from {
            Vantage::Stranger => self.standing.facts.stranger,
            Vantage::Neighbour => self.standing.facts.neighbour,
        }
    }

    /// Runs a statement with all rights on the target's database.
    pub async fn sql(&self, statement: &str) -> Result<(), String> {
        self.standing.store.execute(statement).await
    }

    /// Counts the rows of a SELECT.
    pub async fn rows(&self, statement: &str) -> Result<usize, String> {
        self.standing.store.count(statement).await
    }

    /// The database as the target sees it: refused, back, hanging, back.
    pub async fn database(&self, fault: DatabaseFault) -> Result<(), String> {
        let own = self
            .own
            .as_ref()
            .ok_or("the database is shared with other cases: this case has no target of its own")?;
        match (&self.standing.store, &own.gate) {
            (Store::Sqlite(file), _) => match fault {
                DatabaseFault::Stop | DatabaseFault::Pause => file.shut().await,
                DatabaseFault::Start | DatabaseFault::Resume => file.open().await,
                DatabaseFault::Slow | DatabaseFault::Cut => Err(format!(
                    "{}: the case has to say `needs gate`",
                    super::standing::NO_GATE
                )),
            },
            (Store::Mysql { .. }, Some(gate)) => {
                let mut gate = gate.lock().await;
                let done = match fault {
                    DatabaseFault::Stop => {
                        gate.stop().await;
                        Ok(())
                    }
                    DatabaseFault::Pause => gate.pause(),
                    DatabaseFault::Slow => gate.slow(),
                    DatabaseFault::Cut => {
                        gate.cut();
                        Ok(())
                    }
                    DatabaseFault::Start | DatabaseFault::Resume => gate.resume(),
                };
                done.map_err(|error| {
                    format!("the gate before the database, {}: {error}", gate.address())
                })
            }
            (_, _) => Err("there is no gate before the database".to_owned()),
        }
    }

    /// Fills a disk of the case's own to its last octet, or makes room again.
    pub fn disk(&self, which: Disk, full: bool) -> Result<(), String> {
        let disks = self.own.as_ref().and_then(|own| own.disks.as_ref());
        disks
            .ok_or("the case has no disks of its own: it has to say `needs disk`")?
            .fill(which, full)
    }

    /// Ends or starts the target.
    pub async fn target(&self, action: TargetAction) -> Result<(), String> {
        if self.own.is_none() {
            return Err(
                "the target is shared with other cases: this case has none of its own".to_owned(),
            );
        }
        let target = &self.standing.target;
        match action {
            TargetAction::Restart => {
                target.stop().await;
                target.start().await
            }
            TargetAction::Kill => {
                target.kill().await;
                Ok(())
            }
            TargetAction::Start => target.start().await,
        }
    }

    /// An end of the target that nobody asked for, since the case began: its exit status and the
    /// last lines of its log.
    pub fn crashed(&self) -> Option<String> {
        self.standing.target.crash_since(self.crash_start)
    }

    /// The sink answers so from now on; `None` reply: as usual. See [`super::sink`].
    pub fn sink_answers(&self, verb: &str, recipient: Option<&str>, reply: Option<&str>) {
        self.sink.answers(verb, recipient, reply);
    }

    /// The sink takes connections or refuses them.
    pub async fn sink_listens(&self, listens: bool) -> Result<(), String> {
        self.sink
            .listens(listens)
            .await
            .map_err(|error| format!("sink {}: {error}", self.sink.address()))
    }

    /// Everything that came to this case's sink so far.
    pub fn sunk(&self) -> Vec<Sunk> {
        self.sink.sunk()
    }

    /// Waits until `enough` says so of what came to the sink, or the limit passes; false: it passed.
    pub async fn sunk_until(
        &self,
        limit: Duration,
        enough: impl Fn(&[Sunk]) -> bool + Send,
    ) -> bool {
        self.sink.sunk_until(limit, enough).await
    }

    /// What target and sink said to each other.
    pub fn sink_dialogue(&self) -> Vec<String> {
        self.sink.dialogue()
    }

    /// What the target asked the name server about a name and names below it: `MX mail.t1.4f.test`.
    pub fn name_queries(&self, name: &str) -> Vec<String> {
        self.run.dns.queries(name)
    }

    /// The Maildir of an address: below virtual_mailbox_base by the tutorial's expression,
    /// `domain/local part/`. `None` for an address whose path would lead elsewhere.
    pub fn maildir(&self, address: &str) -> Option<PathBuf> {
        let root = self.standing.facts.maildir_root.as_ref()?;
        let local = address.split('@').next().unwrap_or_default();
        let domain = address.rsplit('@').next().unwrap_or_default();
        let plain =
            |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['/', '\0']);
        (plain(local) && plain(domain)).then(|| root.join(domain).join(local))
    }

    /// The messages in `new/` and `cur/` of an address's Maildir.
    pub async fn mails(&self, address: &str) -> Result<Vec<Mail>, String> {
        let folder = self
            .maildir(address)
            .ok_or_else(|| format!("{address}: no address that could have a Maildir"))?;
        self.refresh().await?;
        let mut mails = Vec::new();
        for part in ["new", "cur"] {
            let folder = folder.join(part);
            let say = |error: std::io::Error| format!("{}: {error}", folder.display());
            let mut entries = match tokio::fs::read_dir(&folder).await {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(say(error)),
            };
            while let Some(entry) = entries.next_entry().await.map_err(say)? {
                let path = entry.path();
                match tokio::fs::read(&path).await {
                    Ok(content) => mails.push(Mail { path, content }),
                    // Read and moved by its owner in between.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(say(error)),
                }
            }
        }
        if self.run.account().is_some() {
            // Somebody lives there.
            mails.retain(|mail| contains(&mail.content, TOKEN_FIELD.as_bytes()));
        }
        mails.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(mails)
    }

    /// What the target's queue holds of messages that contain `token`; `None`: cannot be seen.
    pub async fn queued(&self, token: &str) -> Option<usize> {
        let (queue, token) = (self.standing.queue.clone(), token.as_bytes().to_vec());
        let held = tokio::task::spawn_blocking(move || queue.holds(&token)).await;
        Some(held.ok()?.ok()?.len())
    }

    /// The target's log lines since the case began: all of a target of its own; of a shared one
    /// those that mention the case's names, or the queue id of a message of which another line does.
    pub fn log(&self) -> Vec<String> {
        let lines = self.standing.target.log_since(self.log_start);
        if self.own.is_some() {
            lines
        } else {
            lines_about(lines, &self.own_names.all())
        }
    }

    /// The address of a mailbox that always exists and is never full, for canaries, on the same target.
    pub fn canary_mailbox(&self) -> String {
        self.run.canary.clone()
    }

    /// Removes the case's rows and Maildirs; ends what it had of its own.
    pub async fn dispose(self) -> Result<(), String> {
        let mut failures = Vec::new();
        for name in self.own_names.all() {
            self.run.dns.remove(name);
        }
        if self.own.is_some() {
            self.standing.target.stop().await;
        }
        let store = &self.standing.store;
        if self.own.is_none() || !store.is_own() {
            failures.extend(store.clear(&self.own_names.all()).await.err());
        }
        if let Some(own) = self.own {
            drop((own.gate, own.disks));
            match Arc::into_inner(self.standing) {
                Some(standing) => failures.extend(standing.store.dispose().await.err()),
                None => failures.push("the target of the case is still in use".to_owned()),
            }
            if !self.run.keep {
                failures.extend(remove(&own.folder).await.err());
            }
        } else if !store.knows_names() {
            // The account was there before; what the run sent it is taken away in the end.
        } else if let Some(mirror) = &self.standing.mirror {
            let names = self.own_names.all();
            mirror.forget(&names);
            failures.extend(mirror.remove(&names).await.err());
        } else if let Some(root) = &self.standing.facts.maildir_root {
            for name in self.own_names.all() {
                for folder in folders(root, name) {
                    failures.extend(remove(&folder).await.err());
                }
            }
        }
        if failures.is_empty() {
            Ok(())
        } else {
            Err(failures.join("; "))
        }
    }
}

/// The folder of a domain, and those of names below it.
fn folders(root: &Path, domain: &str) -> Vec<PathBuf> {
    let below = format!(".{domain}");
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let named = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name == domain || (domain.ends_with(MADE_UP) && name.ends_with(&below))
    });
    named.map(|entry| entry.path()).collect()
}

/// Removes a folder; one that was never made is no failure.
pub(super) async fn remove(folder: &Path) -> Result<(), String> {
    match tokio::fs::remove_dir_all(folder).await {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("{}: {error}", folder.display())),
    }
}

/// Whether `token` is in `content`.
pub(super) fn contains(content: &[u8], token: &[u8]) -> bool {
    !token.is_empty() && content.windows(token.len()).any(|window| window == token)
}

/// Lines that mention a name, and lines about the messages of those.
fn lines_about(lines: Vec<String>, names: &[&str]) -> Vec<String> {
    let mentions = |line: &str| names.iter().any(|name| line.contains(name));
    let ids: BTreeSet<String> = lines
        .iter()
        .filter(|line| mentions(line))
        .filter_map(|line| queue_id(line))
        .map(str::to_owned)
        .collect();
    lines
        .into_iter()
        .filter(|line| mentions(line) || queue_id(line).is_some_and(|id| ids.contains(id)))
        .collect()
}

/// `postfix/smtp[12]: 3F2A9C01B7: to=…` → `3F2A9C01B7`
fn queue_id(line: &str) -> Option<&str> {
    let (_, after) = line.split_once("]: ")?;
    let (id, _) = after.split_once(':')?;
    let is_id = id.len() >= 6 && id.bytes().all(|octet| octet.is_ascii_alphanumeric());
    (is_id && id.bytes().any(|octet| octet.is_ascii_digit())).then_some(id)
}
