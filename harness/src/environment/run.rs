//! What the cases of one run share, and how a case gets its world.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, RwLock};

use super::certs::{Authority, Identity};
use super::database::{Choice, Database, Store};
use super::dns::Dns;
use super::gate::{self, Gate};
use super::names::{self, HOSTNAME, LITERAL_DOMAIN, LITERAL_TRANSPORT, Names};
use super::outside::{Account, Rows};
use super::queue::{Left, Queue};
use super::reaper::RunFolder;
use super::secrets::Secrets;
use super::sink::{self, Sink};
use super::standing::{
    DISK, Making, NEIGHBOUR, Plan, STRANGER, Standing, Way, remove_canary, seed_canary,
};
use super::world::{Own, World};
use super::{Description, EnvironmentError, Options, random};
use crate::plan::Case;
use crate::scenario::{Text, text};

/// Holds the sinks' port for the run.
const RESERVED: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);
/// Of `vmail`, where we are root and can give files away.
const VMAIL: u32 = 5000;

/// How long mail of the run may be under way when its last case has ended.
const UNDER_WAY: Duration = Duration::from_secs(2);

/// What the cases of one run share.
#[derive(Debug)]
pub(super) struct Run {
    /// In the names of this run.
    pub(super) id: String,
    /// Begins every token.
    pub(super) tokens: String,
    pub(super) keep: bool,
    pub(super) dns: Dns,
    pub(super) canary: String,
    /// The target that cases share which have none of their own.
    pub(super) shared: Arc<Standing>,
    pub(super) database: RwLock<Option<Database>>,
    pub(super) database_name: String,
    pub(super) database_is_given: bool,
    pub(super) seed: Vec<String>,
    pub(super) description: Description,
    /// The target's name.
    pub(super) hostname: String,
    /// What makes targets; `None`: the target runs already.
    pub(super) makes: Option<Makes>,
    pub(super) owner: (u32, u32),
    pub(super) next_hop: NextHops,
    pub(super) cases: AtomicUsize,
    pub(super) literal: Arc<Mutex<()>>,
    /// Last: removed when everything that writes into it is gone.
    pub(super) folder: RunFolder,
}

/// What makes targets.
#[derive(Debug)]
pub(super) struct Makes {
    identity: Identity,
    authority: Vec<u8>,
    way: Way,
    /// Lines of `main.cf` that every target has.
    main_cf: Vec<String>,
}

/// Where sinks listen.
#[derive(Debug)]
pub(super) enum NextHops {
    /// Each at an address of its own, all on the port that is held so.
    Held(TcpListener),
    /// On this port, and at this address if all have one.
    Given(u16, Option<Ipv4Addr>),
}

/// The sources of clients and the sinks need addresses besides 127.0.0.1.
fn preflight() -> Result<(), EnvironmentError> {
    for address in [NEIGHBOUR, STRANGER, RESERVED, gate::ADDRESS] {
        TcpListener::bind((address, 0)).map_err(|error| {
            EnvironmentError::Unavailable(format!(
                "{address} cannot be used on this machine ({error}): the suite needs all of 127.0.0.0/8. \
                 Linux has it; on macOS and BSD each address is added by: sudo ifconfig lo0 alias {address} up"
            ))
        })?;
    }
    Ok(())
}

/// Where to look afterwards.
fn tell_folder(kept: bool, folder: &RunFolder, say: &(dyn Fn(String) + Sync)) {
    if kept {
        say(format!("everything is kept in {}", folder.path().display()));
    }
}

/// Whose the Maildirs are.
fn owner() -> (u32, u32) {
    use rustix::process::{getegid, geteuid};
    if geteuid().is_root() {
        (VMAIL, VMAIL)
    } else {
        (geteuid().as_raw(), getegid().as_raw())
    }
}

impl Run {
    pub(super) async fn start(
        options: &Options,
        say: &(dyn Fn(String) + Sync),
    ) -> Result<Self, EnvironmentError> {
        if let Some(outside) = options.target.outside() {
            return super::visit::visit(options, outside, say).await;
        }
        let choice = Choice::parse(&options.database)?;
        let mut description = options.target.clone();
        let main_cf = [description.main_cf.clone(), wrong_lines(&options.wrong)?].concat();
        preflight()?;
        let unavailable = |what: &str, why: &dyn std::fmt::Display| {
            EnvironmentError::Unavailable(format!("{what}: {why}"))
        };
        let folder = RunFolder::new(options.keep)
            .map_err(|error| unavailable("the temporary folder", &error))?;
        tell_folder(options.keep, &folder, say);
        let owner = owner();
        let id = random::hex(3).map_err(|error| unavailable("/dev/urandom", &error))?;
        let authority = Authority::new().map_err(|error| unavailable("certificates", &error))?;
        let identity = authority
            .sign(HOSTNAME)
            .map_err(|error| unavailable("certificates", &error))?;
        let mut dns =
            Dns::start(None).map_err(|error| unavailable("name server on 127.0.0.1", &error))?;
        let way;
        (way, description.name) = Way::named(&description, &mut dns)
            .await
            .map_err(|why| unavailable(&description.name, &why))?;
        dns.add_host(HOSTNAME, Ipv4Addr::LOCALHOST);
        let next_hop =
            random::free_port(RESERVED.into()).and_then(|port| TcpListener::bind((RESERVED, port)));
        let next_hop = next_hop.map_err(|error| unavailable("a port for the sinks", &error))?;
        let seed = super::fixture("sql/seed.sql").map_err(|why| unavailable("the seed", &why))?;

        let image = &options.database_image;
        let database = Database::start(choice, image, folder.path(), owner.1, say).await?;
        let (name, is_given) = (database.name().to_owned(), database.is_given());
        let why = |why: String| EnvironmentError::Unavailable(why);
        let store = database.shared(owner.1).await.map_err(why)?;
        way.takes(&store)
            .map_err(|why| unavailable(&description.name, &why))?;
        let canary = format!("canary@canary.{id}.test");
        let shared = folder.path().join("shared");
        let plan = Plan {
            folder: &shared,
            store: &store,
            gate: None,
            main_cf: main_cf.clone(),
            master_cf: Vec::new(),
            disks: false,
        };
        let making = Making {
            identity: &identity,
            authority: &authority.der(),
            way: &way,
            description: &description,
            dns: &dns,
            next_hop: &next_hop,
            owner,
        };
        seed_canary(&store, &canary).await.map_err(why)?;
        let (target, mut facts) = match making.target(plan).await {
            Ok((target, facts, _)) => (target, facts),
            Err(why) => {
                // A database that was given has our canary in it.
                let _ = remove_canary(&store, &canary).await;
                return Err(EnvironmentError::Unavailable(why));
            }
        };
        facts.secrets = Secrets::of(options);
        let shared = Arc::new(Standing {
            target,
            store,
            queue: queue_of(&description, &shared),
            mirror: None,
            facts,
        });
        Ok(Self {
            id,
            tokens: options.run.clone(),
            keep: options.keep,
            dns,
            canary,
            shared,
            database: RwLock::new(Some(database)),
            database_name: name,
            database_is_given: is_given,
            seed: names::statements(seed),
            description,
            hostname: HOSTNAME.to_owned(),
            makes: Some(Makes {
                identity,
                authority: authority.der(),
                way,
                main_cf,
            }),
            owner,
            next_hop: NextHops::Held(next_hop),
            cases: AtomicUsize::new(0),
            literal: Arc::default(),
            folder,
        })
    }

    pub(super) fn target_name(&self) -> &str {
        &self.description.name
    }

    pub(super) fn database_name(&self) -> &str {
        &self.database_name
    }

    /// Names, rows, sink and target of one case.
    pub(super) async fn world(self: &Arc<Self>, case: &Case) -> Result<World, String> {
        let number = self.cases.fetch_add(1, Ordering::Relaxed);
        let literal = if case.literal_names {
            Some(Arc::clone(&self.literal).lock_owned().await)
        } else {
            None
        };
        let own_names = match self.account() {
            Some(account) => Names::of_account(account),
            None => Names::new(number, &self.id, case.literal_names),
        };
        let (sink, address) = self.sink(number)?;
        let port = sink.address().port();
        let mut names = own_names.table(address, port);
        names.insert("hostname".into(), self.hostname.clone());
        if let Some(account) = self.account() {
            // Values hold names themselves, so a dollar sign is written twice.
            names.insert("account".into(), account.address.replace('$', "$$"));
            names.insert("password".into(), account.password.0.replace('$', "$$"));
        }

        let (standing, own) = if case.own_target {
            let (standing, own) = self.own_target(number, case, &names).await?;
            (Arc::new(standing), Some(own))
        } else {
            // Ended by another case's doing: for this one it runs again.
            self.shared.target.start().await?;
            (Arc::clone(&self.shared), None)
        };
        names.insert("port".into(), standing.facts.plain.port().to_string());
        if case.literal_names {
            self.clear_literal(&standing, &own_names).await?;
        }
        if let (Some(mirror), None) = (&standing.mirror, self.account()) {
            mirror.add(&[&own_names.domain]);
        }
        let seeded = own_names.seed(&self.seed).join(";\n");
        if let Err(why) = standing.store.seed(&seeded).await {
            // Some of the rows may be there. The reason is worth more than a failure to tidy up.
            let _ = standing.store.clear(&own_names.all()).await;
            return Err(why);
        }
        for name in own_names.all() {
            self.dns.add(name, address);
        }
        if let Some(transport) = names.get("transport") {
            self.dns.leave_bare(transport);
        }
        let (log_start, crash_start) = match own {
            Some(_) => (0, 0),
            None => (standing.target.log_length(), standing.target.crashes()),
        };
        let run = Arc::clone(self);
        Ok(World {
            names,
            own_names,
            run,
            sink,
            standing,
            own,
            _literal: literal,
            log_start,
            crash_start,
        })
    }

    /// The account that was there before the run.
    pub(super) fn account(&self) -> Option<&Account> {
        match &self.description.outside()?.rows {
            Rows::Account(account) => Some(account),
            _ => None,
        }
    }

    /// Where the `number`th case's foreign mail goes.
    pub(super) fn sink(&self, number: usize) -> Result<(Sink, Ipv4Addr), String> {
        let (port, shared) = match &self.next_hop {
            NextHops::Held(held) => (held.local_addr().map_or(0, |held| held.port()), None),
            NextHops::Given(port, shared) => (*port, *shared),
        };
        let address = shared
            .or_else(|| sink::address(number))
            .ok_or("more cases than there are addresses for sinks")?;
        let name = format!("sink.{}.test", self.id);
        let sink = Sink::start(SocketAddr::new(address.into(), port), &name)
            .map_err(|error| format!("sink {address}:{port}: {error}"))?;
        Ok((sink, address))
    }

    /// The tutorial's names start without rows and without mail, whatever the case before left.
    async fn clear_literal(&self, standing: &Standing, names: &Names) -> Result<(), String> {
        if self.database_is_given {
            let mut rows = 0;
            for theirs in names::rows(&[LITERAL_DOMAIN, LITERAL_TRANSPORT]) {
                rows += standing.store.count(&format!("SELECT 1 {theirs}")).await?;
            }
            if rows > 0 {
                return Err(format!(
                    "the database that was given has rows for {LITERAL_DOMAIN} or {LITERAL_TRANSPORT} already, and \
                     somebody else's rows are not touched: remove them, or choose another --database"
                ));
            }
        } else {
            standing.store.clear(&names.all()).await?;
        }
        if let Some(root) = &standing.facts.maildir_root {
            let folder = root.join(LITERAL_DOMAIN);
            if self.makes.is_none() && folder.exists() {
                return Err(format!(
                    "{} is there already, and somebody else's mail is not touched",
                    folder.display()
                ));
            }
            super::world::remove(&folder).await?;
        }
        Ok(())
    }

    async fn own_target(
        &self,
        number: usize,
        case: &Case,
        names: &std::collections::BTreeMap<String, String>,
    ) -> Result<(Standing, Own), String> {
        let makes = self
            .makes
            .as_ref()
            .ok_or("the target is not ours to start")?;
        let store = {
            let database = self.database.read().await;
            database
                .as_ref()
                .ok_or("the run has ended")?
                .own(self.owner.1)
                .await?
        };
        let gate = match &store {
            Store::Mysql { host, .. } => {
                Some(Gate::open(host).map_err(|error| format!("gate before {host}: {error}"))?)
            }
            Store::Sqlite(_) | Store::Seeded(_) | Store::None => None,
        };
        if !self.database_is_given {
            seed_canary(&store, &self.canary).await?;
        }
        let header = &case.scenario.header;
        let known = case.names(names);
        let value = |text: &Text| text::expand(text, &known);
        let mut main_cf = makes.main_cf.clone();
        main_cf.extend(
            header
                .main_cf
                .iter()
                .map(|(name, text)| format!("{name} = {}", value(text))),
        );
        let options = header.master_cf.iter();
        let master_cf = options
            .map(|(service, name, text)| (service.clone(), name.clone(), value(text)))
            .collect();
        let folder = self.folder.path().join(format!("case-{number}"));
        let plan = Plan {
            folder: &folder,
            store: &store,
            gate: gate.as_ref().map(Gate::address),
            main_cf,
            master_cf,
            disks: header.needs.iter().any(|need| need == DISK),
        };
        let made = self.making(makes)?.target(plan).await;
        let (target, facts, disks) = match made {
            Ok(made) => made,
            Err(why) => {
                // The reason is worth more than a failure to tidy up.
                let _ = store.dispose().await;
                return Err(why);
            }
        };
        let own = Own {
            gate: gate.map(Mutex::new),
            folder: folder.clone(),
            disks,
        };
        Ok((
            Standing {
                target,
                store,
                queue: queue_of(&self.description, &folder),
                mirror: None,
                facts,
            },
            own,
        ))
    }

    fn making<'a>(&'a self, makes: &'a Makes) -> Result<Making<'a>, String> {
        let NextHops::Held(next_hop) = &self.next_hop else {
            return Err("there is no port for sinks".to_owned());
        };
        Ok(Making {
            identity: &makes.identity,
            authority: &makes.authority,
            way: &makes.way,
            description: &self.description,
            dns: &self.dns,
            next_hop,
            owner: self.owner,
        })
    }

    /// Why the database does not answer us; faults that cases make are beyond it.
    pub(super) async fn database_gone(&self) -> Option<String> {
        let database = self.database.read().await;
        database.as_ref()?.answers().await.err()
    }

    /// Takes what a server that goes on still holds of this run out of its queue, after a moment
    /// for what is under way; what is left.
    pub(super) async fn clear_queue(&self) -> Left {
        if self.makes.is_some() {
            return Left::default();
        }
        let token = format!("{}-", self.tokens);
        self.shared.queue.clear(&token, UNDER_WAY).await
    }

    /// Ends everything in order.
    pub(super) async fn stop(&self) {
        self.shared.target.stop().await;
        if self.database_is_given {
            // Said nowhere: who gave the database sees one unused mailbox.
            let _ = remove_canary(&self.shared.store, &self.canary).await;
        }
        if self.makes.is_none() {
            super::visit::leave(self).await;
        }
        if let Store::Mysql { mysql, .. } = &self.shared.store {
            mysql.disconnect().await;
        }
        if let Some(database) = self.database.write().await.take() {
            database.stop().await;
        }
    }
}

/// The lines of `--wrong` files.
fn wrong_lines(files: &[PathBuf]) -> Result<Vec<String>, EnvironmentError> {
    let mut lines = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).map_err(|error| {
            EnvironmentError::Usage(format!("--wrong {}: {error}", file.display()))
        })?;
        lines.extend(text.lines().map(str::to_owned));
    }
    Ok(lines)
}

/// The queue of a target of ours in its folder.
fn queue_of(description: &Description, folder: &Path) -> Queue {
    Queue {
        folder: folder.join("queue"),
        ending: description.queue_files.clone().unwrap_or_default(),
        delete: None,
    }
}
